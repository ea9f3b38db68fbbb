//! A store read by who is not the server: beside one or without, with no lock taken and nothing written.
//!
//! What the index says is believed only if it knows all of the log, since whatever it lacked would be missing without a word. It
//! may be replaced while it is read, and content freed: whoever cannot read what was listed looks again ([`Reader::reopen`])
//! before calling it damaged.

use super::check::{Unopenable, is_open, open_index};
use super::emptied::LastRead;
use super::fact::Fact;
use super::format::SEGMENT_HEADER_OCTETS;
use super::index::{Index, Making, ObjectRow, PlacementRow};
use super::keyring::{KeyFiles, wrapped_in};
use super::log::counted_segments;
use super::read::{Contents, MessageReader, open_sealed};
use super::recall::read_in;
use super::{
    Digest, Entry, FolderName, FolderStatus, KeyringSecret, Listing, MessageKey, Opened, StoreError,
    StoredExtent, UnlockError, Unlocked,
};
use crate::mail::{GatewayMailbox, GatewayMailboxId, GatewayMailboxState, ReceiptId, ReversePath, Uid};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the index of a running server may lag behind its log: the time of a commit, on a busy disk.
const CAUGHT_UP_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at it.
const CAUGHT_UP_RETRY: Duration = Duration::from_millis(20);

/// A stored message: where its octets lie.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// How many there are.
    pub octets: u64,
    /// Their SHA-256, where it is known without a key: of what was received as a whole.
    pub sha256: Option<Digest>,
    /// Runs of objects, in the order of the octets.
    pub extents: Vec<StoredExtent>,
}

/// The sealed octets of an object.
pub struct SealedObject {
    /// How many there are.
    pub octets: u64,
    /// Their SHA-256, which was compared just now.
    pub sha256: Digest,
    /// They themselves.
    pub reader: Box<dyn Read + Send>,
}

/// What a receipt says of one of its messages.
#[derive(Clone, Debug)]
pub struct CameBy {
    /// Its Message-ID, as written.
    pub message_id: Option<String>,
    /// Who sent what was received.
    pub reverse_path: ReversePath,
}

/// A data directory, open for reading.
pub struct Reader {
    at: Arc<AsItLies>,
}

struct AsItLies {
    data_dir: PathBuf,
    index: Mutex<Index>,
    last_emptied: LastRead,
}

impl AsItLies {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents for AsItLies {
    fn object(&self, object: u64) -> Result<ObjectRow, StoreError> {
        self.index().object(object)
    }

    fn is_freed(&self, object: u64) -> Result<bool, StoreError> {
        self.index().is_freed(object)
    }

    fn log_dir(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    fn content_dir(&self) -> PathBuf {
        self.data_dir.join("content")
    }
}

impl Reader {
    /// Opens a store for reading. Waits for the index of a running server to know what stands in the log now.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the index does not know all of the log, or is another user's; says what to do.
    /// [`StoreError::IndexDamaged`]; [`StoreError::Io`] when there is no store or it may not be read.
    pub fn open(data_dir: &Path) -> Result<Reader, StoreError> {
        let index = Mutex::new(open_current(data_dir)?);
        Ok(Reader {
            at: Arc::new(AsItLies {
                data_dir: data_dir.to_owned(),
                index,
                last_emptied: LastRead::default(),
            }),
        })
    }

    /// Asks what the store says now, from here on.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn reopen(&self) -> Result<(), StoreError> {
        let index = open_current(&self.at.data_dir)?;
        *self.at.index() = index;
        Ok(())
    }

    /// Every gateway mailbox that is not deleted.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] or [`StoreError::Io`].
    pub fn gateway_mailboxes(&self) -> Result<Vec<Arc<GatewayMailbox>>, StoreError> {
        let mut all = self.at.index().gateway_mailboxes()?;
        all.retain(|(gateway_mailbox, _)| gateway_mailbox.state != GatewayMailboxState::Deleted);
        Ok(all.into_iter().map(|(gateway_mailbox, _)| Arc::new(gateway_mailbox)).collect())
    }

    /// Opens every keyring of a gateway mailbox that these secrets open, former ones too. Takes as long as a login for each of both.
    ///
    /// # Errors
    /// [`UnlockError`]; each of the secrets must open one.
    pub fn open_keyrings(
        &self,
        gateway_mailbox: &Arc<GatewayMailbox>,
        secrets: &[KeyringSecret<'_>],
    ) -> Result<Opened, UnlockError> {
        KeyFiles::open_keyrings(self, Arc::clone(gateway_mailbox), secrets)
    }

    /// The folders of a gateway mailbox.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] or [`StoreError::Io`].
    pub fn folders(&self, gateway_mailbox: GatewayMailboxId) -> Result<Vec<FolderStatus>, StoreError> {
        self.at.index().folders(gateway_mailbox)
    }

    /// Hands on what is in folders of a gateway mailbox, all of it as it is at one moment: what goes from one to another meanwhile
    /// is in one of them. `choose` says of which.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] or [`StoreError::Io`]; and those of `choose` and `take`.
    pub fn listings<E: From<StoreError>>(
        &self,
        gateway_mailbox: GatewayMailboxId,
        choose: impl FnOnce(Vec<FolderStatus>) -> Result<Vec<FolderStatus>, E>,
        mut take: impl FnMut(FolderStatus, Listing) -> Result<(), E>,
    ) -> Result<(), E> {
        self.at.index().at_once(|index| {
            let folders = match choose(index.folders(gateway_mailbox)?) {
                Ok(folders) => folders,
                Err(error) => return Ok(Err(error)),
            };
            for folder in folders {
                let listing = listing(index, gateway_mailbox, &folder.name)?;
                if let Err(error) = take(folder, listing) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })?
    }

    /// Where a message lies.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when the entry that would tell is lost, or it is another gateway mailbox's;
    /// [`StoreError::IndexDamaged`] or [`StoreError::Io`].
    pub fn message(
        &self,
        gateway_mailbox: GatewayMailboxId,
        message: MessageKey,
    ) -> Result<StoredMessage, StoreError> {
        let row = self.at.index().message(message.0)?;
        if row.gateway_mailbox != gateway_mailbox {
            return Err(StoreError::Gone);
        }
        Ok(StoredMessage { octets: row.octets, sha256: row.sha256, extents: row.extents })
    }

    /// Opens a message. Damage is an error of the reader, also at the end.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn open_message(
        &self,
        key: &Unlocked,
        message: &StoredMessage,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        let reader = MessageReader::open(
            Arc::clone(&self.at) as Arc<dyn Contents>,
            key.keyring.clone(),
            key.keyring.opens_all_of(&key.gateway_mailbox),
            message.extents.clone(),
            message.octets,
            message.sha256,
        )?;
        Ok(Box::new(reader))
    }

    /// Opens an object as it is stored. Needs no key.
    ///
    /// # Errors
    /// Damage as [`io::ErrorKind::InvalidData`], `UnexpectedEof` or `NotFound`.
    pub fn sealed(&self, object: u64) -> io::Result<SealedObject> {
        let row = self.at.object(object).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let reader = open_sealed(&*self.at, object)?;
        Ok(SealedObject { octets: row.sealed_octets, sha256: row.sealed_sha256, reader })
    }

    /// The SHA-256 that the sealed octets of an object have on record.
    ///
    /// # Errors
    /// As [`Reader::message`].
    pub fn sealed_sha256(&self, object: u64) -> Result<Digest, StoreError> {
        Ok(self.at.object(object)?.sealed_sha256)
    }

    /// True when content of a message is gone, or goes: nobody can ask for it any more.
    ///
    /// # Errors
    /// As [`Reader::message`].
    pub fn is_freed(
        &self,
        gateway_mailbox: GatewayMailboxId,
        message: MessageKey,
    ) -> Result<bool, StoreError> {
        let stored = self.message(gateway_mailbox, message)?;
        let index = self.at.index();
        let freed = |extent: &StoredExtent| index.is_freed(extent.object);
        stored.extents.iter().map(freed).try_fold(false, |any, freed| Ok(any | freed?))
    }

    /// What is on record of a message that came by this receipt, as far as that can be read.
    pub fn came_by(
        &self,
        gateway_mailbox: GatewayMailboxId,
        receipt_id: ReceiptId,
        message: MessageKey,
    ) -> Option<CameBy> {
        let log_dir = self.at.log_dir();
        let (place, later) = {
            let index = self.at.index();
            let place = index.receipt_entry(receipt_id, gateway_mailbox).ok()??;
            (place, index.revision_entries(receipt_id, gateway_mailbox).unwrap_or_default())
        };
        let Fact::Received(received) = read_in(&log_dir, &self.at.last_emptied, place).ok()? else {
            return None;
        };
        let mut messages = received.messages;
        for place in later {
            if let Ok(Fact::Revised(revised)) = read_in(&log_dir, &self.at.last_emptied, place) {
                messages.extend(revised.reading.into_iter().flat_map(|reading| reading.messages));
            }
        }
        let message_id = messages.into_iter().find(|known| known.message == message.0)?.message_id;
        Some(CameBy { message_id, reverse_path: received.transport.reverse_path })
    }
}

impl KeyFiles for Reader {
    fn wrapped(&self, id: GatewayMailboxId, name: &str) -> io::Result<Vec<u8>> {
        let recorded = || self.at.index().key_file(id, name).ok().flatten();
        wrapped_in(&self.at.data_dir.join("keys"), id, name, recorded)
    }

    fn key_files(&self) -> Result<Vec<(GatewayMailboxId, String, Digest)>, StoreError> {
        self.at.index().key_files()
    }
}

/// What is in a folder, as the index says.
pub(super) fn listing(
    index: &Index,
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
) -> Result<Listing, StoreError> {
    let Some((row, placements)) = index.listing(gateway_mailbox, folder)? else {
        return Ok(Listing { uid_validity: None, uid_next: Uid::FIRST, entries: Vec::new() });
    };
    let entries = placements.into_iter().map(entry).collect();
    Ok(Listing { uid_validity: Some(row.uid_validity), uid_next: row.uid_next, entries })
}

/// An entry as whoever asks is told of it.
pub(super) fn entry(row: PlacementRow) -> Entry {
    Entry {
        uid: row.uid,
        epoch: row.epoch,
        message: MessageKey(row.message),
        receipt_id: row.receipt_id,
        received_at: row.at,
        octets: row.octets,
        canonical: row.canonical,
    }
}

/// The index, once it knows all that stands in the log now.
fn open_current(data_dir: &Path) -> Result<Index, StoreError> {
    let refused = |why: String| Err(StoreError::Refused(why));
    let deadline = Instant::now() + CAUGHT_UP_WAIT;
    let end = log_end(data_dir)?;
    loop {
        let running = is_open(data_dir);
        let index = match open_index(data_dir, running) {
            Ok(index) => index,
            Err(Unopenable::Damaged(why)) => return Err(StoreError::IndexDamaged(format!("it {why}"))),
            Err(Unopenable::NotOurs(owner)) => {
                return refused(format!("the index has changes that only its owner, user {owner}, can read"));
            }
            Err(Unopenable::Older(version)) => {
                return refused(format!(
                    "the index is of version {version}: start the server once, which makes it anew"
                ));
            }
        };
        let is_made = index.said_making()? == Making::Done;
        let position = index.position()?.filter(|_| is_made);
        if position.is_some_and(|position| (position.segment, position.offset) >= end) {
            return Ok(index);
        }
        match (running, is_made) {
            (false, _) => {
                let why = "the store was not closed in good order, and its index may not know all mail: start the server, or run";
                return refused(format!("{why} daybook mailbox list, which opens it once"));
            }
            (true, false) => return refused("the index is being made anew: wait for its end".to_owned()),
            (true, true) if Instant::now() < deadline => std::thread::sleep(CAUGHT_UP_RETRY),
            (true, true) => {
                return refused("the index of the running server lags behind its log".to_owned());
            }
        }
    }
}

/// Where the last segment that holds anything ends.
fn log_end(data_dir: &Path) -> Result<(u64, u64), StoreError> {
    let mut segments = counted_segments(&data_dir.join("log"))?;
    segments.retain(|(_, octets)| *octets > SEGMENT_HEADER_OCTETS as u64);
    Ok(segments.last().copied().unwrap_or_default())
}
