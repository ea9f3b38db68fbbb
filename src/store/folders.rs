//! A folder as a client has it open: its rows, what tells whether they changed, flags, entries and summaries.

use super::committer::{Command, FLAGS_CHANGED_AT_ONCE_MAX, FolderEvent};
use super::embedded::{Embedded, Shared};
use super::index::Index;
use super::read::MessageReader;
use super::{
    ENTRIES_MAX, Entry, FlagsSet, FolderMarks, FolderName, FolderRow, MessageKey, StoreError, StoredExtent,
    Unlocked,
};
use crate::mail::{FlagChange, Flags, GatewayMailboxId, MessageSummary, Uid};
use crate::observe::now;
use std::io::Read;
use std::sync::Arc;

/// Largest summary that is read, in octets: header blocks are bounded when they are written, and the number of messages too.
const SUMMARY_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// Asks of a folder, which is made first when nothing came to it yet and it is one that is always there.
fn in_folder<T>(
    store: &Embedded,
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
    ask: impl Fn(&Index) -> Result<Option<T>, StoreError>,
) -> Result<T, StoreError> {
    let shared = &store.shared;
    shared.known(gateway_mailbox).ok_or(StoreError::Gone)?;
    if let Some(found) = shared.read(&ask)? {
        return Ok(found);
    }
    if matches!(folder, FolderName::User { .. }) {
        return Err(StoreError::Gone);
    }
    let folder = folder.clone();
    store.ask_blocking(|answer| Command::MakeFolder { gateway_mailbox, folder, at: now(), answer })?;
    shared.read(&ask)?.ok_or(StoreError::Gone)
}

pub(super) fn rows(
    store: &Embedded,
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
    from: Uid,
) -> Result<(FolderMarks, Vec<FolderRow>), StoreError> {
    in_folder(store, gateway_mailbox, folder, |index| index.flagged_rows(gateway_mailbox, folder, from))
}

pub(super) fn marks(
    store: &Embedded,
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
) -> Result<FolderMarks, StoreError> {
    in_folder(store, gateway_mailbox, folder, |index| index.marks(gateway_mailbox, folder))
}

pub(super) fn entries(
    shared: &Shared,
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
    uids: &[Uid],
) -> Result<Vec<Entry>, StoreError> {
    let uids = uids.get(..ENTRIES_MAX.min(uids.len())).unwrap_or_default();
    let found = shared.read(|index| index.entries_of(gateway_mailbox, folder, uids))?;
    Ok(found.into_iter().map(super::reading::entry).collect())
}

/// Changes flags, so many entries at a time.
pub(super) async fn set_flags(
    store: &Embedded,
    mut event: FolderEvent,
    change: FlagChange,
    changeable: Flags,
) -> Result<FlagsSet, StoreError> {
    event.uids.sort_unstable();
    event.uids.dedup();
    let mut set = FlagsSet::default();
    for uids in event.uids.chunks(FLAGS_CHANGED_AT_ONCE_MAX) {
        let (folder, client) = (event.folder.clone(), event.client.clone());
        let part = FolderEvent { uids: uids.to_vec(), folder, client, ..event };
        set.join(store.ask(|answer| Command::SetFlags { event: part, change, changeable, answer }).await?);
    }
    Ok(set)
}

pub(super) fn summary(
    shared: &Arc<Shared>,
    key: &Unlocked,
    opens_all: bool,
    message: MessageKey,
) -> Result<MessageSummary<'static>, StoreError> {
    let (row, object) = shared.read(|index| {
        let row = index.message(message.0)?;
        if index.freed_at(&row)?.is_some() || row.gateway_mailbox != key.gateway_mailbox.id {
            return Err(StoreError::Gone);
        }
        let object = index.object(row.summary);
        Ok((row, object))
    })?;
    let damaged = |why: String| StoreError::Damaged(format!("summary in object {}: {why}", row.summary));
    let octets = match object {
        Ok(object) => object.octets,
        // The message is there: it is not gone.
        Err(StoreError::Gone) => return Err(damaged("the entry that told of it is lost".to_owned())),
        Err(error) => return Err(error),
    };
    if octets > SUMMARY_OCTETS_MAX {
        return Err(damaged("impossible size".to_owned()));
    }
    let extent = StoredExtent { object: row.summary, offset: 0, octets };
    let mut reader =
        MessageReader::open(shared.clone(), key.keyring.clone(), opens_all, vec![extent], octets, None)?;
    let mut read = Vec::new();
    reader.read_to_end(&mut read).map_err(|e| damaged(e.to_string()))?;
    MessageSummary::decode(&read, row.summary_at).map_err(|e| damaged(e.to_string()))
}
