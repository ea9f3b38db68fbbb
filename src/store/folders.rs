//! A folder as a client has it open: its rows, what tells whether they changed, entries and summaries.

use super::embedded::Shared;
use super::read::MessageReader;
use super::{
    ENTRIES_MAX, Entry, FolderMarks, FolderName, FolderRow, MessageKey, StoreError, StoredExtent, Unlocked,
};
use crate::mail::{Flags, GatewayMailboxId, MessageSummary, Uid, UidValidity};
use std::io::Read;
use std::sync::Arc;

/// Largest summary that is read, in octets: header blocks are bounded when they are written, and the number of messages too.
const SUMMARY_OCTETS_MAX: u64 = 256 * 1024 * 1024;

pub(super) fn rows(
    shared: &Shared,
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
    from: Uid,
) -> Result<(FolderMarks, Vec<FolderRow>), StoreError> {
    let listing = shared.read(|index| super::reading::listing(index, gateway_mailbox, folder))?;
    let marks = FolderMarks {
        uid_validity: listing.uid_validity.or(UidValidity::new(1)).ok_or(StoreError::Gone)?,
        uid_next: listing.uid_next,
        live: listing.entries.len() as u64,
        flag_changes: 0,
    };
    let rows = listing.entries.iter().filter(|entry| entry.uid >= from);
    Ok((marks, rows.map(|entry| FolderRow { uid: entry.uid, flags: Flags::NONE }).collect()))
}

pub(super) fn entries(
    shared: &Shared,
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
    uids: &[Uid],
) -> Result<Vec<Entry>, StoreError> {
    let uids = uids.get(..ENTRIES_MAX.min(uids.len())).unwrap_or_default();
    let listing = shared.read(|index| super::reading::listing(index, gateway_mailbox, folder))?;
    Ok(listing.entries.into_iter().filter(|entry| uids.binary_search(&entry.uid).is_ok()).collect())
}

pub(super) fn summary(
    shared: &Arc<Shared>,
    key: &Unlocked,
    opens_all: bool,
    message: MessageKey,
) -> Result<MessageSummary<'static>, StoreError> {
    let (row, object) = shared.read(|index| {
        let row = index.message(message.0)?;
        let object = index.object(row.summary)?;
        Ok((row, object))
    })?;
    if row.gateway_mailbox != key.gateway_mailbox.id {
        return Err(StoreError::Gone);
    }
    let octets = object.octets;
    if octets > SUMMARY_OCTETS_MAX {
        return Err(StoreError::Damaged(format!("summary in object {}: impossible size", row.summary)));
    }
    let extent = StoredExtent { object: row.summary, offset: 0, octets };
    let mut reader =
        MessageReader::open(shared.clone(), key.keyring.clone(), opens_all, vec![extent], octets, None)?;
    let mut read = Vec::new();
    reader.read_to_end(&mut read).map_err(|e| StoreError::Damaged(e.to_string()))?;
    MessageSummary::decode(&read, row.summary_at).map_err(|e| StoreError::Damaged(e.to_string()))
}
