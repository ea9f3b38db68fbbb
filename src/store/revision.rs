//! Looking at a receipt again: what an admin releases, reassigns or reads anew becomes an entry of its own beside the first.
//!
//! Nothing that was said once is taken back: a [`Revision`] adds placements, may take the receipt's entries out of
//! Unassigned and Quarantine, and may bring a new reading of the same octets. It keeps the receipt's id. What waits in INBOX
//! leaves it for nothing but its own successor there ([`RevisionKind::Viewed`]).

use super::{DeliveredMessage, Digest, FolderName, ReportRecord, Sealed, WantedPlacement};
use crate::mail::{Class, GatewayMailboxId, ReceiptId, Timestamp, Uid};
use serde::{Deserialize, Serialize};

/// Why a receipt was looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevisionKind {
    /// An admin let it out of Quarantine.
    Released,
    /// The directory knows more than it did.
    Reassigned,
    /// The octets were read anew.
    Reprocessed,
    /// Its gateway mailbox shows something else in INBOX than when it came: what waits there left, and came again in the new way.
    Viewed,
}

impl RevisionKind {
    /// The stable name used in logs, JSON and on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            RevisionKind::Released => "released",
            RevisionKind::Reassigned => "reassigned",
            RevisionKind::Reprocessed => "reprocessed",
            RevisionKind::Viewed => "viewed",
        }
    }
}

/// What is to become of a receipt that was looked at again.
#[derive(Debug)]
pub struct Revision {
    /// The gateway mailbox.
    pub gateway_mailbox: GatewayMailboxId,
    /// The receipt.
    pub receipt_id: ReceiptId,
    /// Why.
    pub kind: RevisionKind,
    /// Revisions the receipt had when this one was thought of. When it has another number by now, this one is refused: of two
    /// at the same time, none is made blindly.
    pub known: usize,
    /// What reading the octets anew found; absent when the first reading stands.
    pub reading: Option<Reading>,
    /// Addresses nobody was found for, each with why: replaces what was said before.
    pub unmatched: Vec<String>,
    /// Where its messages go: each is made unless it is there already, as for a delivery; and also not when the receipt has
    /// an entry of the same message there, even one that a client took. Messages are counted as the receipt does, or as the
    /// new reading does.
    pub placements: Vec<WantedPlacement>,
    /// Its entries in these folders are taken out, but for one that is wanted there again. Of [`RevisionKind::Viewed`] none is
    /// named: what it has in INBOX of the view before leaves, if something comes in its place.
    pub leaves: Vec<FolderName>,
    /// Equal to another's: the same report again. From now on the receipt has this one too. What is released while another
    /// receipt with it has, or had, an entry in INBOX gets none there.
    pub identity: Option<Digest>,
}

/// What reading the octets of a receipt anew found: as in [`super::Delivery`].
#[derive(Debug)]
pub struct Reading {
    /// What it is.
    pub class: Class,
    /// Message-ID of the original as a wrapper names it.
    pub parent_message_id: Option<String>,
    /// Message-ID of the journal report whose header alone came back in an NDR.
    pub returned_message_id: Option<String>,
    /// The reports found, outermost first.
    pub reports: Vec<ReportRecord>,
    /// Kind and detail of each fault found.
    pub defects: Vec<(String, String)>,
    /// Sealed content that is new.
    pub objects: Vec<Sealed>,
    /// Sealed summaries of the messages, one object.
    pub summary: Sealed,
    /// Messages; the first is the received one as a whole, which is held already.
    pub messages: Vec<DeliveredMessage>,
}

/// Receipts revised at once, at most: mail that arrives meanwhile waits for them.
pub const REVISIONS_MAX: usize = 512;

/// What became, or would become, of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revised {
    /// The gateway mailbox.
    pub gateway_mailbox: GatewayMailboxId,
    /// The receipt.
    pub receipt_id: ReceiptId,
    /// Path and UID of every placement made; no UID when it is only planned.
    pub placements: Vec<(String, Option<Uid>)>,
    /// Of each of those, its number among [`Revision::placements`].
    #[serde(default)]
    pub wanted: Vec<u32>,
    /// Path and UID of entries that were there already.
    pub spared: Vec<(String, Uid)>,
    /// Path and UID of entries taken out.
    pub left: Vec<(String, Uid)>,
    /// True when there is a new reading.
    pub read_anew: bool,
}

impl Revised {
    /// True when nothing is changed by it, and so nothing recorded.
    pub fn is_nothing(&self) -> bool {
        self.placements.is_empty() && self.left.is_empty() && !self.read_anew
    }
}

/// Which receipts [`super::Store::walk`] goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Of this gateway mailbox.
    pub gateway_mailbox: GatewayMailboxId,
    /// Received since.
    pub since: Timestamp,
    /// Behind this one.
    pub after: Option<ReceiptId>,
    /// Only those with an entry in this folder.
    pub folder: Option<FolderName>,
    /// At most so many are looked at.
    pub most: usize,
}
