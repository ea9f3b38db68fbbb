//! A stored receipt looked at again, by what the store knows of it: no key is needed, and none is asked for.
//!
//! [`released`] lets a message out of Quarantine, [`reassigned`] gives it to users the directory knows now. Both only say what
//! is to become of it, as a [`Revision`]; the store decides what of that is there already.

use super::place::{
    NOBODY_NAMED, Placed, Subject, has_placeable_originals, in_inbox, place_by_envelope, unassigned, wanted,
};
use super::prepare::identity;
use crate::directory::Directory;
use crate::mail::{GatewayMailbox, Mode, Rendition, Timestamp};
use crate::store::{
    Digest, DigestKey, FolderName, PlacementView, ReceiptView, Revision, RevisionKind, StoreError,
};

/// Lets a message out of Quarantine: who releases it vouches for it.
///
/// What was held back for its verdict is accepted now as it would have been: an entry in INBOX, and its originals to whom its
/// reports name. It becomes what a later copy of the same report is "the same again" as. Of what was read with doubts, what
/// was found is placed; without an original or an envelope it goes to Unassigned.
///
/// # Errors
/// An envelope that cannot be digested; our fault.
pub fn released(
    receipt: &ReceiptView,
    gateway_mailbox: &GatewayMailbox,
    directory: &Directory,
    key: &DigestKey,
    at: Timestamp,
) -> Result<Revision, StoreError> {
    let held_back = receipt.judgement.as_ref().is_some_and(|judgement| judgement.held_back);
    let renditions = renditions(receipt);
    let subject = subject(receipt, &renditions);
    let mut placed = Placed::default();
    if held_back {
        placed.placements.push(in_inbox(gateway_mailbox));
    }
    if gateway_mailbox.archive {
        if !gateway_mailbox.role.is_journal() || !has_placeable_originals(subject) {
            placed.placements.push(whole_unassigned());
        } else if names_somebody(receipt) {
            place_by_envelope(directory, gateway_mailbox, subject, &mut placed);
        } else {
            unassigned(subject, NOBODY_NAMED, &mut placed);
        }
    }
    let identity = held_back.then(|| delivered_identity(receipt, key)).transpose()?;
    let leaves = vec![FolderName::Quarantine];
    Ok(Revision { identity, ..revision(receipt, RevisionKind::Released, placed, leaves, at) })
}

/// Gives a message to the users whom its reports name and the directory knows now. Nothing is taken from a user's folder; when
/// somebody is known, it leaves Unassigned.
///
/// `None` when nobody is known, or nothing is to be placed: no recorded envelope, a repetition, a gateway mailbox without
/// users' folders, a message that is or was in Quarantine and was never let out.
pub fn reassigned(
    receipt: &ReceiptView,
    gateway_mailbox: &GatewayMailbox,
    directory: &Directory,
    at: Timestamp,
) -> Option<Revision> {
    let renditions = renditions(receipt);
    let subject = subject(receipt, &renditions);
    let may_be_placed = gateway_mailbox.archive
        && gateway_mailbox.role.is_journal()
        && receipt.repeats.is_none()
        && names_somebody(receipt)
        && has_placeable_originals(subject)
        && receipt.placements.iter().all(|placement| !is_quarantined(placement));
    if !may_be_placed {
        return None;
    }
    let mut placed = Placed::default();
    place_by_envelope(directory, gateway_mailbox, subject, &mut placed);
    placed.placements.retain(|wanted| matches!(wanted.folder, FolderName::User { .. }));
    if placed.placements.is_empty() {
        return None;
    }
    Some(revision(receipt, RevisionKind::Reassigned, placed, vec![FolderName::Unassigned], at))
}

/// An entry of the receipt's own in Quarantine that no admin let out. What a client deleted there is no more vouched for than
/// what is there still.
fn is_quarantined(placement: &PlacementView) -> bool {
    let was_let_out = |kind: &str| {
        [RevisionKind::Released, RevisionKind::Reprocessed].iter().any(|revised| revised.as_str() == kind)
    };
    placement.folder == FolderName::Quarantine.path(None)
        && !placement.spared
        && !placement.events.iter().any(|event| was_let_out(&event.kind))
}

pub(super) fn revision(
    receipt: &ReceiptView,
    kind: RevisionKind,
    placed: Placed,
    leaves: Vec<FolderName>,
    at: Timestamp,
) -> Revision {
    let at = at.to_string();
    let date = at.split('T').next().unwrap_or_default();
    let mut placements = placed.placements;
    for reason in placements.iter_mut().flat_map(|wanted| &mut wanted.reasons) {
        *reason = format!("{} on {date}: {reason}", kind.as_str());
    }
    Revision {
        gateway_mailbox: receipt.gateway_mailbox,
        receipt_id: receipt.receipt_id,
        kind,
        known: receipt.revisions.len(),
        reading: None,
        unmatched: placed.unmatched,
        placements,
        leaves,
        identity: None,
    }
}

fn subject<'a>(receipt: &'a ReceiptView, renditions: &'a [Rendition]) -> Subject<'a> {
    Subject {
        receipt_id: receipt.receipt_id,
        reports: &receipt.reports,
        renditions,
        // Before there were verdicts, all was delivered.
        mode: receipt.judgement.as_ref().map_or(Mode::Observe, |judgement| judgement.mode),
    }
}

fn renditions(receipt: &ReceiptView) -> Vec<Rendition> {
    receipt.messages.iter().map(|message| message.rendition).collect()
}

fn names_somebody(receipt: &ReceiptView) -> bool {
    receipt.reports.iter().any(|report| !report.envelope.is_empty())
}

fn whole_unassigned() -> crate::store::WantedPlacement {
    wanted(FolderName::Unassigned, 0, true, vec![NOBODY_NAMED.to_owned()])
}

/// What it would have been known by, had it been delivered.
fn delivered_identity(receipt: &ReceiptView, key: &DigestKey) -> Result<Digest, StoreError> {
    let exacts: Vec<Digest> = receipt.messages.iter().map(|message| message.exact).collect();
    let joins: Vec<Digest> = receipt.messages.iter().map(|message| message.join).collect();
    identity(key, receipt.message_id.as_deref(), &receipt.reports, &exacts, &joins)
}
