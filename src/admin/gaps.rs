//! Journal reports of which NDRs returned nothing but the header, and whether they have turned up since.
//!
//! What came in an NDR is the header block of a report: its Message-ID, and that of the mail it was about. The report is not
//! lost when it came another way: directly, or whole in another NDR. So it is looked for in the gateway mailbox it is for.
//!
//! | state | there is |
//! |---|---|
//! | `turned-up` | that very report, by its own Message-ID, with an original |
//! | `original-held` | another report of the same mail: the mail is here, but whom else this report named is not known |
//! | `missing` | neither |
//!
//! Only what was accepted counts: what is held back for its verdict may be forged, and proves nothing. Ids are compared as
//! written.

use super::Context;
use super::gateway_mailboxes::resolve;
use super::request::OpError;
use crate::mail::{Class, GatewayMailbox, GatewayMailboxId, ReceiptId, Role, Timestamp};
use crate::store::{ReceiptQuery, ReceiptView, RevisionKind, Store, StoreError, Walk};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most gaps listed at once; all are counted.
pub const GAPS_MAX: usize = 1_000;
/// Receipts read at a time.
const PAGE: usize = 256;
/// Transactions looked at that name one Message-ID: a mail to many has a report for each of its forks.
const NAMING_MAX: usize = 100;
/// Looking ends after so long: who asks hangs up after a minute.
const LOOK_WAIT: Duration = Duration::from_secs(40);

/// What is known of a report that did not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapState {
    /// Nothing of it is here.
    Missing,
    /// The mail it was about is here, by another report.
    OriginalHeld,
    /// It is here.
    TurnedUp,
}

impl GapState {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            GapState::Missing => "missing",
            GapState::OriginalHeld => "original-held",
            GapState::TurnedUp => "turned-up",
        }
    }
}

/// A journal report of which only the header came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Of the NDR.
    pub receipt_id: ReceiptId,
    /// When the NDR was received.
    pub at: Timestamp,
    /// Where the NDR came.
    pub ndr_at: GatewayMailboxId,
    /// The gateway mailbox that the report is for.
    pub gateway_mailbox: GatewayMailboxId,
    /// What that one is called; absent when it is not there.
    pub name: Option<String>,
    /// Message-ID of the report.
    pub report_message_id: Option<String>,
    /// Message-ID of the mail it was about.
    pub original_message_id: Option<String>,
    /// Whether it is here by now.
    pub state: GapState,
    /// The receipt by which it, or the mail, is here.
    pub found: Option<ReceiptId>,
    /// The NDR is not authentic, and held back for it.
    pub held_back: bool,
}

/// What `daybook gaps` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapsView {
    /// At most [`GAPS_MAX`], oldest first within a gateway mailbox; each report once.
    pub gaps: Vec<Gap>,
    /// Reports of which nothing is here.
    pub missing: u64,
    /// Those whose mail is here by another report.
    pub original_held: u64,
    /// Those that are here by now.
    pub turned_up: u64,
    /// Reports that came back whole and were not here.
    pub recovered: u64,
    /// Those that were here.
    pub already_held: u64,
    /// Those that are in Quarantine alone for their verdict.
    pub held_back: u64,
    /// Receipts that could not be read.
    pub unread: u64,
    /// False when there was too much to look at: ask for a shorter time.
    pub complete: bool,
}

/// # Errors
/// [`OpError::NotFound`] and [`OpError::Usage`] when it is unclear which gateway mailbox is meant; whatever the store says.
pub(super) fn gaps(
    context: &Context,
    gateway_mailbox: Option<&str>,
    since: Option<Timestamp>,
    all: bool,
) -> Result<GapsView, OpError> {
    let meant = gateway_mailbox.map(|text| resolve(context, text)).transpose()?;
    let mut looked_at = context.store.gateway_mailboxes();
    looked_at.retain(|mailbox| {
        !mailbox.is_self_test() && meant.as_ref().is_none_or(|meant| concerns(mailbox, meant))
    });
    // They hold little, and most of what is looked for.
    looked_at.sort_by_key(|mailbox| mailbox.role.is_journal());
    let mut found = Found { store: &context.store, all, view: GapsView::default(), known: HashSet::new() };
    let deadline = Instant::now() + LOOK_WAIT;
    found.view.complete = true;
    for mailbox in &looked_at {
        let only = meant.as_ref().filter(|meant| meant.id != mailbox.id && mailbox.role.is_journal());
        let mut walk = Walk {
            gateway_mailbox: mailbox.id,
            since: since.unwrap_or(Timestamp::from_unix_ms(0)),
            after: None,
            folder: None,
            most: PAGE,
        };
        loop {
            let walked = context.store.walk(&walk)?;
            found.view.unread += walked.unread.len() as u64;
            for receipt in &walked.receipts {
                if only.is_none_or(|meant| receipt.recovered_from == Some(meant.id)) {
                    found.take(mailbox, receipt)?;
                }
            }
            walk.after = walked.last;
            if walk.after.is_none() {
                break;
            }
            if Instant::now() >= deadline {
                found.view.complete = false;
                return Ok(found.view);
            }
        }
    }
    Ok(found.view)
}

/// It is the one meant, serves it, or is served by it: what was recovered there is here.
fn concerns(mailbox: &GatewayMailbox, meant: &GatewayMailbox) -> bool {
    let serves = |one: &GatewayMailbox, other: &GatewayMailbox| one.role == Role::Ndr { serves: other.id };
    mailbox.id == meant.id || serves(mailbox, meant) || serves(meant, mailbox)
}

struct Found<'a> {
    store: &'a Arc<dyn Store>,
    all: bool,
    view: GapsView,
    /// Reports that are listed, by gateway mailbox and Message-ID: a delay and a failure are two NDRs about one. As many as are
    /// listed at most.
    known: HashSet<(GatewayMailboxId, String)>,
}

impl Found<'_> {
    fn take(&mut self, mailbox: &GatewayMailbox, receipt: &ReceiptView) -> Result<(), StoreError> {
        if let Some(mut gap) = gap(mailbox, receipt) {
            let key = gap.report_message_id.clone().map(|id| (gap.gateway_mailbox, id));
            if key.as_ref().is_some_and(|key| self.known.contains(key)) {
                return Ok(());
            }
            seek(self.store.as_ref(), &mut gap)?;
            match gap.state {
                GapState::Missing => self.view.missing += 1,
                GapState::OriginalHeld => self.view.original_held += 1,
                GapState::TurnedUp => self.view.turned_up += 1,
            }
            if self.known.len() < GAPS_MAX {
                self.known.extend(key);
            }
            if self.view.gaps.len() < GAPS_MAX && (self.all || gap.state != GapState::TurnedUp) {
                gap.name = self.store.gateway_mailbox_now(gap.gateway_mailbox).ok().map(|m| m.name.clone());
                self.view.gaps.push(gap);
            }
            return Ok(());
        }
        let came_back = receipt.recovered_from.is_some()
            || receipt.class == Class::JournalNdr && mailbox.role.is_journal();
        // An NDR has an entry of its own in INBOX always; what it returned is new where users, or an admin, got something.
        let adds = receipt.recovered_from.is_some()
            || !mailbox.archive
            || receipt.placements.iter().any(|placement| !placement.spared && placement.folder != "INBOX");
        match () {
            () if !came_back => {}
            () if receipt.repeats.is_some() => self.view.already_held += 1,
            () if is_held_back(receipt) => self.view.held_back += 1,
            () if adds => self.view.recovered += 1,
            () => self.view.already_held += 1,
        }
        Ok(())
    }
}

/// What is known of the report of which a receipt has only the header; not yet whether it has turned up. `None` for any other
/// receipt, and for one that came again.
pub(super) fn gap(mailbox: &GatewayMailbox, receipt: &ReceiptView) -> Option<Gap> {
    if receipt.class != Class::NdrWithoutReport
        || receipt.repeats.is_some()
        || receipt.recovered_from.is_some()
    {
        return None;
    }
    // Some NDRs return a report without what was attached to it.
    let report = receipt.reports.first();
    let own = receipt.returned_message_id.clone();
    Some(Gap {
        receipt_id: receipt.receipt_id,
        at: receipt.at,
        ndr_at: mailbox.id,
        gateway_mailbox: match mailbox.role {
            Role::Journal => mailbox.id,
            Role::Ndr { serves } => serves,
        },
        name: None,
        report_message_id: own.or_else(|| report.and_then(|report| report.wrapper_message_id.clone())),
        original_message_id: receipt
            .parent_message_id
            .clone()
            .or_else(|| report.and_then(|report| report.envelope.message_id.clone())),
        state: GapState::Missing,
        found: None,
        held_back: is_held_back(receipt),
    })
}

/// Looks whether the report is here. Reads at most [`NAMING_MAX`] transactions for each of the two ids.
pub(super) fn seek(store: &dyn Store, gap: &mut Gap) -> Result<(), StoreError> {
    let very_same = |receipt: &ReceiptView, id: &str| {
        outermost(receipt).is_some_and(|report| report.wrapper_message_id.as_deref() == Some(id))
    };
    let same_original = |receipt: &ReceiptView, id: &str| {
        receipt.parent_message_id.as_deref() == Some(id)
            || outermost(receipt).is_some_and(|report| report.envelope.message_id.as_deref() == Some(id))
    };
    if let Some(found) = find(store, gap.gateway_mailbox, gap.report_message_id.as_deref(), very_same)? {
        (gap.state, gap.found) = (GapState::TurnedUp, Some(found));
        return Ok(());
    }
    let found = find(store, gap.gateway_mailbox, gap.original_message_id.as_deref(), same_original)?;
    gap.state = if found.is_some() { GapState::OriginalHeld } else { GapState::Missing };
    gap.found = found;
    Ok(())
}

fn find(
    store: &dyn Store,
    gateway_mailbox: GatewayMailboxId,
    id: Option<&str>,
    is_it: impl Fn(&ReceiptView, &str) -> bool,
) -> Result<Option<ReceiptId>, StoreError> {
    let Some(id) = id.filter(|id| !id.is_empty()) else { return Ok(None) };
    let naming = ReceiptQuery::Naming(id.to_owned());
    let named = store.receipts(&naming, Timestamp::from_unix_ms(0), NAMING_MAX)?;
    let holds = |receipt: &&ReceiptView| {
        receipt.gateway_mailbox == gateway_mailbox
            && matches!(receipt.class, Class::JournalReport | Class::JournalNdr)
            && outermost(receipt).is_some_and(|report| !report.originals.is_empty())
            && !is_held_back(receipt)
            && is_it(receipt, id)
    };
    Ok(named.iter().find(holds).map(|receipt| receipt.receipt_id))
}

/// Reports inside an original are what somebody wrote.
fn outermost(receipt: &ReceiptView) -> Option<&crate::store::ReportRecord> {
    receipt.reports.first()
}

fn is_held_back(receipt: &ReceiptView) -> bool {
    let held = receipt.judgement.as_ref().is_some_and(|judgement| judgement.held_back);
    held && !receipt.revisions.iter().any(|revision| revision.kind == RevisionKind::Released)
}
