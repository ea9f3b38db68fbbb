//! What there is to do in a folder: found out for all folders at one moment, before anything is written.

use super::manifest::{KnownFolder, KnownMessage};
use super::{FoldersExport, OpError};
use crate::mail::ReceiptId;
use crate::store::{Entry, FolderStatus, Listing, MessageKey};
use std::collections::{HashMap, HashSet};

/// An entry that is asked for and not exported yet.
pub(super) struct Wanted {
    pub(super) entry: Entry,
    /// Its message is in the export already, under this UID.
    pub(super) same_as: Option<u32>,
}

/// What there is to do in a folder.
pub(super) struct Plan {
    pub(super) folder: FolderStatus,
    pub(super) wanted: Vec<Wanted>,
    /// Entries that are exported already.
    pub(super) there: u64,
}

impl Plan {
    /// Compares what is in a folder with what is exported of it.
    ///
    /// # Errors
    /// [`OpError::Refused`] when that does not fit.
    pub(super) fn new(
        known: Option<&KnownFolder>,
        folder: FolderStatus,
        listing: Listing,
        asked: &FoldersExport,
    ) -> Result<Plan, OpError> {
        let exported = |entry: &Entry| known.and_then(|known| known.uids.get(&entry.uid.value()));
        let is_another =
            |entry: &Entry| exported(entry).is_some_and(|known| known.receipt_id != entry.receipt_id);
        let is_other_folder = known.is_some_and(|known| known.uid_validity != folder.uid_validity);
        if is_other_folder || listing.entries.iter().any(is_another) {
            return Err(OpError::Refused(format!(
                "{} is not the folder that was exported to {}: its UIDs are of other messages. Export to another directory",
                folder.path,
                asked.to.display()
            )));
        }
        let there = listing.entries.iter().filter(|entry| exported(entry).is_some()).count() as u64;
        let mut wanted: Vec<Entry> = listing.entries;
        wanted.retain(|entry| {
            exported(entry).is_none() && asked.since.is_none_or(|since| entry.received_at >= since)
        });
        let before = known.map(|known| exported_before(known, &wanted)).unwrap_or_default();
        let wanted = wanted
            .into_iter()
            .map(|entry| Wanted { same_as: before.get(&(entry.receipt_id, entry.message)).copied(), entry })
            .collect();
        Ok(Plan { folder, wanted, there })
    }

    /// Octets to do.
    pub(super) fn octets(&self) -> u64 {
        self.wanted.iter().map(|wanted| wanted.entry.octets).sum()
    }
}

/// Those of the wanted messages that are exported under another UID: they were deleted and brought back.
fn exported_before(known: &KnownFolder, wanted: &[Entry]) -> HashMap<(ReceiptId, MessageKey), u32> {
    let wanted: HashSet<_> = wanted.iter().map(|entry| (entry.receipt_id, entry.message)).collect();
    let place = |(uid, known): (&u32, &KnownMessage)| {
        let key = (known.receipt_id, known.message?);
        (!known.is_again && wanted.contains(&key)).then_some((key, *uid))
    };
    known.uids.iter().filter(|_| !wanted.is_empty()).filter_map(place).collect()
}
