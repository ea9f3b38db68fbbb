//! What is found, and which mail it touches.

use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::store::FolderName;
use crate::store::fact::{Fact, MessageFact, PlacementFact, UndeletedEntry};

/// Receipts, and entries, that one finding names. A group holds fewer.
pub(in crate::store) const TOUCHED_MAX: usize = 1_000;

/// What stands before a receipt id in an entry.
const RECEIPT_KEY: &[u8] = b"\"receipt_id\":\"";
/// Length of a receipt id as text.
const RECEIPT_ID_OCTETS: usize = 36;

/// Octets that should be there and whole, and are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Damage {
    /// Relative to `data_dir`: `log/00000003.seg`.
    pub(in crate::store) file: String,
    /// First octet; 0 when it is about the file as a whole.
    pub(in crate::store) offset: u64,
    /// So many; 0 when only the beginning is known.
    pub(in crate::store) octets: u64,
    pub(in crate::store) what: String,
    /// True when entries of the log are gone, and with them perhaps messages.
    pub(in crate::store) loses_entries: bool,
    /// The object whose content it is.
    pub(in crate::store) object: Option<u64>,
    /// Nothing is left of that content: it reads as zeros, or its file is not there.
    pub(in crate::store) is_blank: bool,
    /// Transactions it touches, as far as entries near it tell.
    pub(in crate::store) receipts: Vec<ReceiptId>,
    /// Folder entries it touches, as far as entries near it tell.
    pub(in crate::store) entries: Vec<Touched>,
}

/// An entry in a folder whose message is touched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Touched {
    pub(in crate::store) gateway_mailbox: GatewayMailboxId,
    pub(in crate::store) folder: FolderName,
    pub(in crate::store) uid: Uid,
}

impl Damage {
    /// Where, for people: `log/00000003.seg at 8123`.
    pub(in crate::store) fn place(&self) -> String {
        match self.offset {
            0 => self.file.clone(),
            offset => format!("{} at {offset}", self.file),
        }
    }

    pub(super) fn add_receipt(&mut self, receipt: ReceiptId) {
        if self.receipts.len() < TOUCHED_MAX && !self.receipts.contains(&receipt) {
            self.receipts.push(receipt);
        }
    }

    pub(super) fn add_entry(&mut self, entry: Touched) {
        if self.entries.len() < TOUCHED_MAX && !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// Names what an entry that is lost spoke of.
    pub(super) fn lose(&mut self, fact: &Fact) {
        if let Some(receipt) = receipt_of(fact) {
            self.add_receipt(receipt);
        }
        made_by(fact).iter().for_each(|made| self.add_receipt(made.receipt_id));
        for (touched, _) in placements_of(fact) {
            self.add_entry(touched);
        }
    }

    /// Names the receipts that octets of damaged entries speak of.
    pub(super) fn lose_text(&mut self, octets: &[u8]) {
        for at in memchr::memmem::find_iter(octets, RECEIPT_KEY) {
            let id = octets.get(at + RECEIPT_KEY.len()..at + RECEIPT_KEY.len() + RECEIPT_ID_OCTETS);
            let id = id.and_then(|id| std::str::from_utf8(id).ok()).and_then(|id| id.parse().ok());
            if let Some(receipt) = id {
                self.add_receipt(receipt);
            }
        }
    }

    /// Names what this entry made of the damaged object.
    pub(super) fn touch(&mut self, fact: &Fact) {
        let Some(object) = self.object else { return };
        let messages: Vec<u64> =
            messages_of(fact).iter().filter(|m| needs(m, object)).map(|m| m.message).collect();
        if messages.is_empty() {
            return;
        }
        if let Some(receipt) = receipt_of(fact) {
            self.add_receipt(receipt);
        }
        for (touched, message) in placements_of(fact) {
            if messages.contains(&message) {
                self.add_entry(touched);
            }
        }
    }
}

/// True when a message cannot be served, or listed with its header, without this object.
pub(super) fn needs(message: &MessageFact, object: u64) -> bool {
    message.summary.0 == object || message.extents.iter().any(|extent| extent.object == object)
}

/// The receipt an entry is about.
pub(super) fn receipt_of(fact: &Fact) -> Option<ReceiptId> {
    match fact {
        Fact::Object(fact) => Some(fact.receipt_id),
        Fact::Received(fact) => Some(fact.receipt_id),
        Fact::Revised(fact) => Some(fact.receipt_id),
        Fact::TurnedAway(fact) => Some(fact.receipt_id),
        Fact::GatewayMailbox(_)
        | Fact::Folder(_)
        | Fact::Fetched(_)
        | Fact::Deleted(_)
        | Fact::KeyFile(_)
        | Fact::Expired(_)
        | Fact::Undeleted(_)
        | Fact::Freed(_)
        | Fact::ClockTrusted(_)
        | Fact::Restored(_)
        | Fact::Flagged(_) => None,
    }
}

/// The messages an entry tells of.
pub(super) fn messages_of(fact: &Fact) -> &[MessageFact] {
    match fact {
        Fact::Received(fact) => &fact.messages,
        Fact::Revised(fact) => fact.reading.as_ref().map_or(&[], |reading| &reading.messages),
        _ => &[],
    }
}

/// The folder entries an entry of the log made, each with its message.
pub(super) fn placements_of(fact: &Fact) -> Vec<(Touched, u64)> {
    let Some(gateway_mailbox) = gateway_mailbox_of(fact) else { return Vec::new() };
    let touched = |made: Made<'_>| {
        (Touched { gateway_mailbox, folder: made.name.clone(), uid: made.uid }, made.message)
    };
    made_by(fact).into_iter().map(touched).collect()
}

/// A folder entry that an entry of the log made.
pub(super) struct Made<'a> {
    pub(super) folder: u64,
    pub(super) name: &'a FolderName,
    pub(super) uid: Uid,
    pub(super) message: u64,
    pub(super) receipt_id: ReceiptId,
    /// When it was received, which is not always when it was placed.
    pub(super) received_at: Timestamp,
}

/// All of them.
pub(super) fn made_by(fact: &Fact) -> Vec<Made<'_>> {
    let placed = |placement: &'_ PlacementFact, receipt_id, received_at| {
        (placement.folder, placement.uid, placement.message, receipt_id, received_at)
    };
    let made = |name, (folder, uid, message, receipt_id, received_at)| Made {
        folder,
        name,
        uid,
        message,
        receipt_id,
        received_at,
    };
    match fact {
        Fact::Received(fact) => {
            fact.placements.iter().map(|p| made(&p.name, placed(p, fact.receipt_id, fact.at))).collect()
        }
        Fact::Revised(fact) => {
            let later = fact.placements.iter().map(|later| &later.placement);
            later.map(|p| made(&p.name, placed(p, fact.receipt_id, fact.received_at))).collect()
        }
        Fact::Undeleted(fact) => {
            let of = |e: &UndeletedEntry| (fact.folder, e.uid, e.message, e.receipt_id, e.received_at);
            fact.entries.iter().map(|entry| made(&fact.name, of(entry))).collect()
        }
        _ => Vec::new(),
    }
}

fn gateway_mailbox_of(fact: &Fact) -> Option<GatewayMailboxId> {
    match fact {
        Fact::Received(fact) => Some(fact.gateway_mailbox),
        Fact::Revised(fact) => Some(fact.gateway_mailbox),
        Fact::Undeleted(fact) => Some(fact.gateway_mailbox),
        _ => None,
    }
}
