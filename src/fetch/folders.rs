//! What IMAP asks of whoever keeps the mail: the folders of a gateway mailbox, and one folder that a client has open.
//!
//! [`UnlockedMaildrop::folders`](super::maildrop::UnlockedMaildrop::folders) gives [`Folders`]; [`Folders::open`] gives a
//! [`Folder`]. There is no snapshot here as there is for POP3: a folder lives while a client has it open, and [`changes`]
//! tells what happened since it was last looked at, reading one row when nothing did.
//!
//! Messages are named by their UIDs. Methods that say they block are called on a thread that may.

use super::maildrop::{BoxFuture, FetchError};
use crate::mail::{
    CanonicalSize, FlagChange, Flags, Maildrop, MessageSummary, Profile, ReceiptId, Role, Timestamp, Uid,
    UidValidity,
};
use std::io::Read;
use std::sync::Arc;
use tokio::sync::watch;

pub use crate::store::{ENTRIES_MAX, FlagsSet, FolderMarks, FolderRow};

/// What a client may know of the gateway mailbox it is logged in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its user name.
    pub login: String,
    /// How its messages are read.
    pub profile: Profile,
    /// What it is for.
    pub role: Role,
    /// What INBOX holds.
    pub maildrop: Maildrop,
}

/// A folder as LIST and STATUS tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderInfo {
    /// Its path, with `/` between the names.
    pub path: String,
    /// UIDVALIDITY; `None` while nothing ever came to it and no client opened it.
    pub uid_validity: Option<UidValidity>,
    /// The UID the next message will get.
    pub uid_next: Uid,
    /// Messages in it.
    pub messages: u64,
    /// Those without `\Seen`.
    pub unseen: u64,
}

/// What a client may do in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The flags it may change; `\Deleted` is among them where it may delete.
    pub flags: Flags,
}

impl Rights {
    /// True when entries may be taken out.
    pub fn delete(self) -> bool {
        self.flags.contains(Flags::DELETED)
    }
}

/// A message in an open folder, as FETCH needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its UID.
    pub uid: Uid,
    /// INTERNALDATE
    pub received_at: Timestamp,
    /// Its size as served.
    pub canonical: CanonicalSize,
    /// The receipt it came by, for the log.
    pub receipt_id: ReceiptId,
    /// The keeper's own name of it.
    pub message: u64,
}

/// The folders of a gateway mailbox whose password was given.
pub trait Folders: Send + Sync {
    /// The gateway mailbox as it is now. Blocks.
    ///
    /// # Errors
    /// [`FetchError::Gone`] when it was deleted; [`FetchError::LacksKey`] when its keys were changed since the password was
    /// given: the client must log in anew.
    fn account(&self) -> Result<Account, FetchError>;

    /// Every folder, INBOX first, then Unassigned and Quarantine, whether anything ever came to them or not, then those of
    /// users in the order of their paths. Blocks.
    ///
    /// # Errors
    /// [`FetchError`].
    fn list(&self) -> Result<Vec<FolderInfo>, FetchError>;

    /// One of them, and nothing when there is none of this path. It has a UIDVALIDITY from then on. Blocks.
    ///
    /// # Errors
    /// [`FetchError`].
    fn status(&self, path: &str) -> Result<Option<FolderInfo>, FetchError>;

    /// Opens a folder, `None` when there is none of this path. `INBOX` is told in upper case. Blocks.
    ///
    /// # Errors
    /// [`FetchError`].
    fn open(&self, path: &str) -> Result<Option<Arc<dyn Folder>>, FetchError>;
}

/// A folder that a client has open.
pub trait Folder: Send + Sync {
    /// Its path.
    fn path(&self) -> &str;

    /// What the client may do in it.
    fn rights(&self) -> Rights;

    /// Every message with a UID of at least `from`, in UID order, and what tells whether the folder changed, of one moment.
    /// Blocks.
    ///
    /// # Errors
    /// [`FetchError`].
    fn rows(&self, from: Uid) -> Result<(FolderMarks, Vec<FolderRow>), FetchError>;

    /// Whether the folder is as it was. Blocks, for a single row.
    ///
    /// # Errors
    /// [`FetchError`].
    fn marks(&self) -> Result<FolderMarks, FetchError>;

    /// Those of these messages that are still there, in UID order: at most [`ENTRIES_MAX`] rising UIDs. Blocks.
    ///
    /// # Errors
    /// [`FetchError`].
    fn entries(&self, uids: &[Uid]) -> Result<Vec<FolderEntry>, FetchError>;

    /// The summary of a message. Blocks, and decrypts a small object.
    ///
    /// # Errors
    /// [`FetchError`].
    fn summary(&self, entry: &FolderEntry) -> Result<MessageSummary<'static>, FetchError>;

    /// Opens the stored octets of a message, not in canonical form. Blocks, as does reading. An error while reading must come
    /// before the end of a message that is not whole.
    ///
    /// # Errors
    /// [`FetchError`].
    fn read(&self, entry: &FolderEntry) -> Result<Box<dyn Read + Send>, FetchError>;

    /// Changes flags, durably; tells what each of them has now. What is not in [`Rights::flags`] stays, and `\Deleted` also where
    /// the right to delete was taken away since. Of very many a part after the other is changed.
    ///
    /// # Errors
    /// [`FetchError`]; then some of very many may be changed, and asking once more is right.
    fn set_flags(&self, uids: Vec<Uid>, change: FlagChange) -> BoxFuture<'_, Result<FlagsSet, FetchError>>;

    /// Records that the client fetched messages whole: durable when it returns.
    ///
    /// # Errors
    /// [`FetchError`].
    fn record_fetched(&self, uids: Vec<Uid>) -> BoxFuture<'_, Result<(), FetchError>>;

    /// Takes those messages out that are there and marked `\Deleted` at that moment, all or none, durably; tells which. What was
    /// fetched must be recorded before, or it would look like a loss.
    ///
    /// # Errors
    /// [`FetchError`]; then nothing was taken out. [`FetchError::NotAllowed`] where clients may not delete, or may no more.
    fn expunge(&self, uids: Vec<Uid>) -> BoxFuture<'_, Result<Vec<Uid>, FetchError>>;

    /// Tells when something came, went or was flagged in this gateway mailbox: the number rises.
    fn watch(&self) -> watch::Receiver<u64>;
}

/// What happened in a folder since it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Nothing.
    None,
    /// These came, behind all others; nothing else happened.
    Came(FolderMarks, Vec<FolderRow>),
    /// Anything: this is all there is now.
    All(FolderMarks, Vec<FolderRow>),
}

/// Looks at a folder again, of which `known` was true. Blocks; reads one row when nothing happened, and only what is new when
/// nothing else did.
///
/// # Errors
/// [`FetchError`]; [`FetchError::Gone`] when its UIDVALIDITY is another: the client must select it anew.
pub fn changes(folder: &dyn Folder, known: FolderMarks) -> Result<Changes, FetchError> {
    let now = folder.marks()?;
    if now.uid_validity != known.uid_validity {
        return Err(FetchError::Gone);
    }
    if now == known {
        return Ok(Changes::None);
    }
    let (marks, came) = folder.rows(known.uid_next)?;
    if marks.uid_validity != known.uid_validity {
        return Err(FetchError::Gone);
    }
    let only_came = marks.live == known.live + came.len() as u64 && marks.flag_changes == known.flag_changes;
    if only_came {
        return Ok(Changes::Came(marks, came));
    }
    let (marks, all) = folder.rows(Uid::FIRST)?;
    if marks.uid_validity != known.uid_validity {
        return Err(FetchError::Gone);
    }
    Ok(Changes::All(marks, all))
}
