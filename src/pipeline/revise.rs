//! A stored receipt looked at again, by what the store knows of it: no key is needed, and none is asked for.
//!
//! [`released`] lets a message out of Quarantine, [`reassigned`] gives it to users the directory knows now, [`viewed`] shows it
//! otherwise in INBOX. All only say what is to become of it, as a [`Revision`]; the store decides what of that is there already.

use super::place::{
    NOBODY_NAMED, Placed, Subject, has_placeable_originals, in_inbox, place_by_envelope, unassigned, wanted,
    whole_in_inbox,
};
use super::prepare::{EXTRACTION_FAILED, identity};
use crate::assign::Policy;
use crate::directory::Directory;
use crate::extract::DefectKind;
use crate::mail::{GatewayMailbox, Mode, Rendition, Timestamp};
use crate::store::{
    Digest, DigestKey, FolderName, PlacementView, ReceiptView, Revision, RevisionKind, StoreError,
    WantedPlacement,
};

/// Lets a message out of Quarantine: who releases it vouches for it.
///
/// What was held back for its verdict is accepted now as it would have been: an entry in INBOX, and its originals to whom its
/// reports name. Of what was read with doubts, what was found is placed; without an original or an envelope it goes to
/// Unassigned. Either becomes what a later copy of the same report is "the same again" as.
///
/// # Errors
/// [`StoreError::Refused`] when there is nowhere to release it to: it was accepted when it came, and its gateway mailbox has no
/// folders beside INBOX now. An envelope that cannot be digested; our fault.
pub fn released(
    receipt: &ReceiptView,
    gateway_mailbox: &GatewayMailbox,
    directory: &Directory,
    policy: &Policy,
    key: &DigestKey,
    at: Timestamp,
) -> Result<Revision, StoreError> {
    let held_back = receipt.came_held_back();
    if !held_back && !gateway_mailbox.archive {
        // A poller may have emptied INBOX: out of Quarantine it would be nowhere.
        let why = format!(
            "{} can go nowhere: its gateway mailbox has archive = false; first `daybook mailbox set {} archive=true`",
            receipt.receipt_id,
            gateway_mailbox.login()
        );
        return Err(StoreError::Refused(why));
    }
    let renditions = renditions(receipt);
    let subject = subject(receipt, &renditions);
    // Who is nobody's stays so, unless somebody is asked for.
    let mut placed = Placed { unmatched: receipt.unmatched.clone(), ..Placed::default() };
    if held_back {
        placed.placements.extend(waiting_in_inbox(receipt, gateway_mailbox, subject));
    }
    if gateway_mailbox.archive {
        if !gateway_mailbox.role.is_journal() || !has_placeable_originals(subject) {
            placed.placements.push(whole_unassigned());
        } else if names_somebody(receipt) {
            placed.unmatched.clear();
            place_by_envelope(directory, policy, gateway_mailbox, subject, &mut placed);
        } else {
            unassigned(subject, NOBODY_NAMED, &mut placed);
        }
    }
    // A release finds nothing: that a report inside was given to nobody is told where the rest is placed.
    if let Some((_, why)) = placed.left_wrapped.take() {
        let beside_inbox = placed.placements.iter_mut().filter(|wanted| wanted.folder != FolderName::Inbox);
        beside_inbox.for_each(|wanted| wanted.reasons.push(why.clone()));
    }
    let identity = Some(delivered_identity(receipt, key)?);
    let leaves = vec![FolderName::Quarantine];
    Ok(Revision { identity, ..revision(receipt, RevisionKind::Released, placed, leaves, at) })
}

/// Gives a message to the users whom its reports name and the directory knows now. Nothing is taken from a user's folder; when
/// somebody is known, it leaves Unassigned.
///
/// `None` when nobody is known, or nothing is to be placed: no recorded envelope, a repetition, a gateway mailbox without
/// users' folders, a message that is or was in Quarantine and was never let out, or one that came while there was nothing
/// beside INBOX. Of the last nobody said whether it was read with doubts: reading it again does.
pub fn reassigned(
    receipt: &ReceiptView,
    gateway_mailbox: &GatewayMailbox,
    directory: &Directory,
    policy: &Policy,
    at: Timestamp,
) -> Option<Revision> {
    let renditions = renditions(receipt);
    let subject = subject(receipt, &renditions);
    let may_be_placed = gateway_mailbox.archive
        && gateway_mailbox.role.is_journal()
        && receipt.repeats.is_none()
        && names_somebody(receipt)
        && has_placeable_originals(subject)
        && !is_in_inbox_alone(receipt)
        && !is_quarantined(receipt);
    if !may_be_placed {
        return None;
    }
    let mut placed = Placed::default();
    place_by_envelope(directory, policy, gateway_mailbox, subject, &mut placed);
    placed.placements.retain(|wanted| matches!(wanted.folder, FolderName::User { .. }));
    if placed.placements.is_empty() {
        return None;
    }
    Some(revision(receipt, RevisionKind::Reassigned, placed, vec![FolderName::Unassigned], at))
}

/// Shows what waits in INBOX as its gateway mailbox has it shown now: see [`RevisionKind::Viewed`]. `None` when nothing of the receipt
/// waits there that came in the view before.
pub fn viewed(receipt: &ReceiptView, gateway_mailbox: &GatewayMailbox, at: Timestamp) -> Option<Revision> {
    let below = gateway_mailbox.view_from?;
    let mut own = receipt.own_entries(&FolderName::Inbox);
    if !own.any(|entry| entry.uid < below && entry.is_there()) {
        return None;
    }
    let renditions = renditions(receipt);
    let placements = waiting_in_inbox(receipt, gateway_mailbox, subject(receipt, &renditions));
    let placed = Placed { placements, unmatched: receipt.unmatched.clone(), ..Placed::default() };
    Some(revision(receipt, RevisionKind::Viewed, placed, Vec::new(), at))
}

/// What a stored receipt has in INBOX. What was read with doubts is whole there, unless an admin let it out.
fn waiting_in_inbox(
    receipt: &ReceiptView,
    gateway_mailbox: &GatewayMailbox,
    subject: Subject<'_>,
) -> Vec<WantedPlacement> {
    // Its defects tell, as when it came; and its entry in Quarantine, if what brought it there left no defect. Who let out what was
    // there for its defects knew of them.
    let let_out = receipt.is_released() && !receipt.came_held_back();
    let by_place = !receipt.came_held_back() && is_quarantined(receipt);
    let doubtful = by_place || !let_out && leaves_doubt(receipt);
    match gateway_mailbox.role.is_journal() {
        true => in_inbox(gateway_mailbox, subject, doubtful),
        false => vec![whole_in_inbox(gateway_mailbox)],
    }
}

/// It has a defect by which it may be in Quarantine.
pub(super) fn leaves_doubt(receipt: &ReceiptView) -> bool {
    let tells = |kind: &str| kind == EXTRACTION_FAILED || DefectKind::name_leaves_doubt(kind);
    receipt.defects.iter().any(|(kind, _)| tells(kind))
}

/// The receipt has an entry of its own in Quarantine that no admin let out. What a client deleted there is no more vouched for
/// than what is there still.
pub(super) fn is_quarantined(receipt: &ReceiptView) -> bool {
    let was_let_out = |placement: &PlacementView| {
        placement.left_by(RevisionKind::Released) || placement.left_by(RevisionKind::Reprocessed)
    };
    receipt.own_entries(&FolderName::Quarantine).any(|placement| !was_let_out(placement))
}

/// It never was in any other folder.
pub(super) fn is_in_inbox_alone(receipt: &ReceiptView) -> bool {
    let inbox = FolderName::Inbox.path(None);
    receipt.placements.iter().all(|placement| placement.folder == inbox)
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
        received_at: receipt.at,
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

fn whole_unassigned() -> WantedPlacement {
    wanted(FolderName::Unassigned, 0, true, vec![NOBODY_NAMED.to_owned()])
}

/// What it would have been known by, had it been delivered and read as it was last.
fn delivered_identity(receipt: &ReceiptView, key: &DigestKey) -> Result<Digest, StoreError> {
    let exacts: Vec<Digest> = receipt.messages.iter().map(|message| message.exact).collect();
    let joins: Vec<Digest> = receipt.messages.iter().map(|message| message.join).collect();
    let outermost = receipt.messages.first().and_then(|message| message.message_id.as_deref());
    identity(key, outermost, &receipt.reports, &exacts, &joins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DirectorySource;
    use crate::mail::{GatewayMailboxId, Maildrop, Profile, Role};
    use crate::store::{Embedded, GatewayMailboxChange, NewGatewayMailbox, Options, Store};
    use serde_json::{Value, json};
    use std::sync::Arc;

    struct Fixture {
        store: Embedded,
        mailbox: Arc<GatewayMailbox>,
        directory: Directory,
        runtime: tokio::runtime::Runtime,
        _dir: tempfile::TempDir,
    }

    /// A gateway mailbox, and a directory that knows `bob@contoso.example`.
    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        std::fs::write(
            &path,
            "[[user]]\nid = \"bob\"\nname = \"B\"\naddresses = [\"bob@contoso.example\"]\n",
        )
        .unwrap();
        let source = DirectorySource::file("users", path);
        let options = Options { data_dir: dir.path().join("data"), reserve_octets: 0 };
        let store = Embedded::open(&options).unwrap().0;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Microsoft365,
            role: Role::default(),
        };
        let (mailbox, _) = runtime.block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        Fixture { store, mailbox, directory: Directory::open(&[source]).0, runtime, _dir: dir }
    }

    /// A receipt of one report for `recipient` with so many originals, in this folder.
    fn receipt(recipient: &str, originals: u32, folder: &str, events: Value, held_back: bool) -> ReceiptView {
        let message = json!({ "octets": 1, "message_id": null, "rendition": "original" });
        let numbers: Vec<u32> = (1..=originals).collect();
        let recipients = json!([{ "field": "Recipient", "address": recipient }]);
        serde_json::from_value(json!({
            "receipt_id": "019aa5b0-7e21-7c43-a1b2-0123456789ab",
            "gateway_mailbox": "019aa5b0-7e21-7c43-a1b2-0123456789ac",
            "address": null, "name": null, "at": "2026-11-21T09:30:00Z",
            "transport": {
                "session_id": "019aa5b0-7e21-7c43-a1b2-0123456789ad", "peer": "192.0.2.1:25", "helo": "x",
                "tls": null, "reverse_path": "", "recipients": [], "smtputf8": false },
            "class": "journal-report", "octets": 1, "sha256": "00".repeat(32),
            "message_id": "<w@x>", "parent_message_id": null,
            "messages": vec![message; originals as usize + 1],
            "reports": [{ "envelope": { "recipients": recipients }, "originals": numbers }],
            "defects": [], "unmatched": [], "repeats": null,
            "judgement": {
                "verdict": "unverified", "reasons": [], "mode": "enforce", "held_back": held_back,
                "evidence": { "certificate": "none", "outer": {} } },
            "placements": [{
                "folder": folder, "uid": 1, "octets": 1, "spared": false, "reasons": [], "events": events }],
        }))
        .unwrap()
    }

    /// Folder and message of each placement.
    fn placed(revision: &Revision) -> Vec<(String, u32)> {
        let as_received = revision.placements.iter().filter(|w| w.in_view != Some(Maildrop::Originals));
        as_received.map(|wanted| (wanted.folder.path(None), wanted.message)).collect()
    }

    fn are(revision: &Revision, expect: &[(&str, u32)]) {
        let expect: Vec<(String, u32)> = expect.iter().map(|(f, m)| ((*f).to_owned(), *m)).collect();
        assert_eq!(placed(revision), expect);
    }

    impl Fixture {
        fn release(&self, receipt: &ReceiptView) -> Revision {
            let stage = self.store.stage(self.mailbox.id).unwrap();
            let at = Timestamp::from_unix_ms(0);
            released(receipt, &self.mailbox, &self.directory, &Policy::default(), stage.digest_key(), at)
                .unwrap()
        }

        fn reassign(&self, receipt: &ReceiptView) -> Option<Revision> {
            reassigned(
                receipt,
                &self.mailbox,
                &self.directory,
                &Policy::default(),
                Timestamp::from_unix_ms(0),
            )
        }

        fn without_archive(mut self) -> Fixture {
            let changes = vec![GatewayMailboxChange::Archive(false)];
            let changed = self.store.change_gateway_mailbox(self.mailbox.id, changes, "test");
            self.mailbox = self.runtime.block_on(changed).unwrap();
            self
        }
    }

    const BOB: &str = "Users/bob/Journal Incoming";

    #[test]
    fn what_is_released_goes_where_it_would_have_been_delivered() {
        let fixture = fixture();
        let release = |recipient: &str, originals: u32, held_back: bool| {
            fixture.release(&receipt(recipient, originals, "Quarantine", json!([]), held_back))
        };
        let held_back = release("bob@contoso.example", 1, true);
        are(&held_back, &[("INBOX", 0), (BOB, 1)]);
        assert!(held_back.identity.is_some() && held_back.leaves == [FolderName::Quarantine]);
        let held_back_twice = || release("bob@contoso.example", 2, true).identity;
        let doubtful = release("bob@contoso.example", 2, false);
        are(&doubtful, &[(BOB, 1), (BOB, 2)]);
        assert_eq!(doubtful.identity, held_back_twice(), "as if it had been delivered");
        assert!(doubtful.identity.is_some());
        are(&release("eve@fabrikam.example", 1, false), &[("Unassigned", 1)]);
        are(&release("bob@contoso.example", 0, false), &[("Unassigned", 0)]);
        are(&release("bob@contoso.example", 17, true), &[("INBOX", 0), ("Unassigned", 0)]);
        let inbox_only = fixture.without_archive();
        let both = |held_back| receipt("bob@contoso.example", 1, "Quarantine", json!([]), held_back);
        are(&inbox_only.release(&both(true)), &[("INBOX", 0)]);
        let stage = inbox_only.store.stage(inbox_only.mailbox.id).unwrap();
        let (policy, at) = (Policy::default(), Timestamp::from_unix_ms(0));
        let doubtful = both(false);
        let refused =
            released(&doubtful, &inbox_only.mailbox, &inbox_only.directory, &policy, stage.digest_key(), at);
        assert!(matches!(refused, Err(StoreError::Refused(_))), "it may be in no other folder any more");
    }

    #[test]
    fn what_a_release_leaves_wrapped_is_told_where_the_rest_is_placed() {
        let fixture = fixture();
        let mut receipt = receipt("bob@contoso.example", 2, "Quarantine", json!([]), true);
        let mut inside = receipt.reports[0].clone();
        (receipt.reports[0].originals, inside.originals) = (vec![1], vec![2]);
        receipt.reports.push(inside);
        let released = fixture.release(&receipt);
        are(&released, &[("INBOX", 0), (BOB, 1)]);
        let told =
            |at: usize| released.placements[at].reasons.iter().any(|why| why.contains("not unwrapped"));
        assert!(!told(0) && !told(1) && told(2), "{:?}", released.placements);
    }

    #[test]
    fn an_ndr_mailbox_gives_users_nothing() {
        let mut fixture = fixture();
        let serves = GatewayMailboxId::new(1, [0; 10]);
        fixture.mailbox =
            Arc::new(GatewayMailbox { role: Role::Ndr { serves }, ..fixture.mailbox.as_ref().clone() });
        let of = |folder: &str| receipt("bob@contoso.example", 1, folder, json!([]), false);
        are(&fixture.release(&of("Quarantine")), &[("Unassigned", 0)]);
        assert!(fixture.reassign(&of("Unassigned")).is_none());
    }

    #[test]
    fn what_nobody_vouched_for_is_reassigned_to_nobody() {
        let fixture = fixture();
        let event = |kind: &str| json!([{ "at": "2026-11-21T09:30:00Z", "kind": kind, "client": null }]);
        let reassign = |recipient: &str, folder: &str, events: Value| {
            let of = |receipt: &ReceiptView| fixture.reassign(receipt).map(|revision| placed(&revision));
            of(&receipt(recipient, 1, folder, events, false))
        };
        let to_bob = Some(vec![(BOB.to_owned(), 1)]);
        assert_eq!(reassign("bob@contoso.example", "Unassigned", json!([])), to_bob);
        assert_eq!(reassign("bob@contoso.example", "Quarantine", event("released")), to_bob);
        assert_eq!(reassign("bob@contoso.example", "Quarantine", json!([])), None);
        assert_eq!(reassign("bob@contoso.example", "Quarantine", event("fetched")), None);
        // A client deleted it there: that vouches for nothing.
        assert_eq!(reassign("bob@contoso.example", "Quarantine", event("deleted")), None);
        assert_eq!(reassign("eve@fabrikam.example", "Unassigned", json!([])), None);
        // It came while there was nothing beside INBOX: whether there were doubts was not recorded.
        assert_eq!(reassign("bob@contoso.example", "INBOX", json!([])), None);
        assert!(
            fixture.reassign(&receipt("bob@contoso.example", 17, "Unassigned", json!([]), false)).is_none()
        );
    }
}
