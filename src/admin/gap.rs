//! A journal report of which an NDR returned nothing but the header, and whether it has turned up since.
//!
//! What came in an NDR is the header block of a report: its Message-ID, and that of the mail it was about. The report is not
//! lost when it came another way: directly, or whole in another NDR. So it is looked for in the gateway mailbox it is for.
//!
//! | state | there is |
//! |---|---|
//! | `turned-up` | that very report, by its own Message-ID, with an original |
//! | `original-held` | another report that names the same Message-ID: most likely of the same mail, but an id proves nothing, and whom else this report named is not known |
//! | `doubtful` | that very report, but it may be cut short or was read with doubt, and no admin let it out |
//! | `missing` | nothing of it |
//! | `held-back` | nothing, and the NDR itself is held back for its verdict: perhaps nothing was lost at all |
//! | `closed` | nothing, and an admin has seen to it |
//!
//! Only what was accepted counts: what is held back for its verdict may be forged, and proves nothing. Ids are compared as
//! written.
//!
//! A gap is closed by `daybook gaps --close`, or by taking the NDR out of Quarantine, where one is. What a poller takes from INBOX closes
//! nothing; and to let out an NDR that was held back says that it is genuine, so the gap is one from then on.

use super::closed_gaps::Closed;
use crate::extract::DefectKind;
use crate::mail::{Class, GatewayMailbox, GatewayMailboxId, ReceiptId, Role, Timestamp};
use crate::store::{FolderName, PlacementView, ReceiptQuery, ReceiptView, RevisionKind, Store, StoreError};
use serde::{Deserialize, Serialize};

/// Transactions looked at that name one Message-ID: a mail to many has a report for each of its forks.
const NAMING_MAX: usize = 100;

/// What is known of a report that did not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapState {
    /// Nothing of it is here.
    Missing,
    /// It is here, perhaps not all of it.
    Doubtful,
    /// A mail with the Message-ID that it was about is here, by another report.
    OriginalHeld,
    /// The NDR is held back for its verdict.
    HeldBack,
    /// It is here.
    TurnedUp,
    /// An admin has seen to it.
    Closed,
}

impl GapState {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            GapState::Missing => "missing",
            GapState::Doubtful => "doubtful",
            GapState::OriginalHeld => "original-held",
            GapState::HeldBack => "held-back",
            GapState::TurnedUp => "turned-up",
            GapState::Closed => "closed",
        }
    }

    /// True when somebody should still do something about it.
    pub fn is_open(self) -> bool {
        !matches!(self, GapState::TurnedUp | GapState::Closed)
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

/// What is known of the report of which a receipt has only the header; not yet whether it has turned up. `None` for any other
/// receipt, and for one that came again.
pub(super) fn gap(mailbox: &GatewayMailbox, receipt: &ReceiptView, closed: &Closed) -> Option<Gap> {
    if receipt.class != Class::NdrWithoutReport
        || receipt.repeats.is_some()
        || receipt.recovered_from.is_some()
    {
        return None;
    }
    // Some NDRs return a report without what was attached to it.
    let report = receipt.reports.first();
    let own = receipt.returned_message_id.clone();
    let held_back = is_held_back(receipt);
    let mut gap = Gap {
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
        state: if held_back { GapState::HeldBack } else { GapState::Missing },
        found: None,
        held_back,
    };
    if closed.covers(&gap) || was_taken_out(receipt) {
        gap.state = GapState::Closed;
    }
    Some(gap)
}

/// Whether somebody took the NDR out of Quarantine, where an admin looks. That an NDR which was held back is let out says
/// nothing but that it is genuine.
fn was_taken_out(receipt: &ReceiptView) -> bool {
    let own = || receipt.own_entries(&FolderName::Quarantine);
    own().next().is_some()
        && !own().any(PlacementView::is_there)
        && !(receipt.came_held_back() && receipt.is_released())
}

/// Looks whether the report is here. Reads at most [`NAMING_MAX`] transactions for each of the two ids. False when what may
/// hold it could not be read.
pub(super) fn seek(store: &dyn Store, gap: &mut Gap) -> Result<bool, StoreError> {
    let very_same = |receipt: &ReceiptView, id: &str| {
        outermost(receipt).is_some_and(|report| report.wrapper_message_id.as_deref() == Some(id))
    };
    let same_original = |receipt: &ReceiptView, id: &str| {
        receipt.parent_message_id.as_deref() == Some(id)
            || outermost(receipt).is_some_and(|report| report.envelope.message_id.as_deref() == Some(id))
    };
    let report = find(store, gap.gateway_mailbox, gap.report_message_id.as_deref(), very_same)?;
    if report.sound.is_some() {
        (gap.state, gap.found) = (GapState::TurnedUp, report.sound);
        return Ok(true);
    }
    if gap.state != GapState::Missing {
        return Ok(report.is_read);
    }
    let mail = find(store, gap.gateway_mailbox, gap.original_message_id.as_deref(), same_original)?;
    if mail.sound.is_some() {
        (gap.state, gap.found) = (GapState::OriginalHeld, mail.sound);
    } else if report.doubtful.is_some() {
        (gap.state, gap.found) = (GapState::Doubtful, report.doubtful);
    }
    Ok(report.is_read && mail.is_read)
}

/// Receipts that hold what is looked for.
struct Holding {
    sound: Option<ReceiptId>,
    /// Perhaps not all of it.
    doubtful: Option<ReceiptId>,
    /// All that may hold it could be read.
    is_read: bool,
}

fn find(
    store: &dyn Store,
    gateway_mailbox: GatewayMailboxId,
    id: Option<&str>,
    is_it: impl Fn(&ReceiptView, &str) -> bool,
) -> Result<Holding, StoreError> {
    let mut holding = Holding { sound: None, doubtful: None, is_read: true };
    let Some(id) = id.filter(|id| !id.is_empty()) else { return Ok(holding) };
    let Some(named) = readable(store, &ReceiptQuery::Naming(id.to_owned()), NAMING_MAX)? else {
        return Ok(Holding { is_read: false, ..holding });
    };
    let holds = |receipt: &&ReceiptView| {
        receipt.gateway_mailbox == gateway_mailbox
            && matches!(receipt.class, Class::JournalReport | Class::JournalNdr)
            && outermost(receipt).is_some_and(|report| !report.originals.is_empty())
            && !is_held_back(receipt)
            && is_it(receipt, id)
    };
    for receipt in named.iter().filter(holds) {
        let place = if is_doubtful(receipt) { &mut holding.doubtful } else { &mut holding.sound };
        place.get_or_insert(receipt.receipt_id);
    }
    Ok(holding)
}

/// `None` when one of them is damaged: that blinds nobody for the others.
pub(super) fn readable(
    store: &dyn Store,
    query: &ReceiptQuery,
    most: usize,
) -> Result<Option<Vec<ReceiptView>>, StoreError> {
    match store.receipts(query, Timestamp::from_unix_ms(0), most) {
        Ok(views) => Ok(Some(views)),
        Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is known of a receipt here. `None` when it cannot be read: one that was ever here does not vanish.
pub(super) fn receipt(
    store: &dyn Store,
    mailbox: &GatewayMailbox,
    receipt_id: ReceiptId,
) -> Result<Option<ReceiptView>, StoreError> {
    let views = readable(store, &ReceiptQuery::Id(receipt_id), 1)?.unwrap_or_default();
    Ok(views.into_iter().find(|view| view.gateway_mailbox == mailbox.id))
}

/// Reports inside an original are what somebody wrote.
fn outermost(receipt: &ReceiptView) -> Option<&crate::store::ReportRecord> {
    receipt.reports.first()
}

pub(super) fn is_held_back(receipt: &ReceiptView) -> bool {
    receipt.came_held_back() && !receipt.is_released()
}

/// Whether its originals may not be whole: it is or was in Quarantine, and no look at it since let it out. Where there is no
/// Quarantine, and for a repetition, its faults tell.
pub(super) fn is_doubtful(receipt: &ReceiptView) -> bool {
    if receipt.is_released() {
        return false;
    }
    let own = || receipt.own_entries(&FolderName::Quarantine);
    if own().next().is_some() {
        return !own().all(|placement| placement.left_by(RevisionKind::Reprocessed));
    }
    receipt.placements.iter().all(|placement| placement.folder == "INBOX")
        && receipt.defects.iter().any(|(kind, _)| DefectKind::name_leaves_doubt(kind))
}
