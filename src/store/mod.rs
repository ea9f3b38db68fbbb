//! types only, to be completed
use crate::mail::{
    Address, CanonicalSize, Class, Extent, GatewayMailbox, GatewayMailboxId, JournaledEnvelope, ReceiptId, Rendition,
    SessionId, Timestamp, TransportEnvelope, Uid, UidValidity, UserFolder,
};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future that may be sent between threads; keeps [`Store`] usable behind `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names a folder of a gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderName {
    /// Every accepted message; the POP3 maildrop.
    Inbox,
    /// Readable, but nobody to give it to.
    Unassigned,
    /// Unreadable or ambiguous, kept whole.
    Quarantine,
    /// `Users/<slug>/Journal Incoming` or `Journal Outgoing`.
    User {
        /// The directory's id of the user.
        user: String,
        /// Which of the two.
        folder: UserFolder,
    },
}

/// One message in a folder, as POP3 and IMAP list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its UID in the folder.
    pub uid: Uid,
    /// Raised by a restore, so that no UIDL is ever reused.
    pub epoch: u32,
    /// The message placed here.
    pub message: MessageKey,
    /// The receipt it came by.
    pub receipt_id: ReceiptId,
    /// When it was received.
    pub received_at: Timestamp,
    /// Stored octets.
    pub octets: u64,
    /// Size as served.
    pub canonical: CanonicalSize,
}

/// The store's own number of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageKey(pub u64);

/// A folder's entries at one moment, in UID order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// UIDVALIDITY of the folder.
    pub uid_validity: UidValidity,
    /// The UID the next message will get.
    pub uid_next: Uid,
    /// Its messages.
    pub entries: Vec<Entry>,
}

/// Who asked for a deletion or a fetch, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// `pop3` or `imap`.
    pub protocol: String,
    /// Address of the client, without port.
    pub peer: std::net::IpAddr,
    /// The connection.
    pub session_id: SessionId,
}

/// The opened keyring of a gateway mailbox: proof that the client knew its password. Wiped on drop.
#[derive(Clone)]
pub struct Unlocked { /* private */ }

/// The store as fetch protocols see it.
pub trait Store: Send + Sync {
    /// Opens the keyring of the gateway mailbox that `login` (local part or whole address) names.
    /// An unknown login takes as long as a wrong password and gives the same error.
    fn unlock(&self, login: &str, password: &str) -> Result<Unlocked, UnlockError>; // blocking, 50 ms and 16 MB
    /// All entries of a folder, in UID order; an empty listing when the folder does not exist yet.
    fn list(&self, mailbox: GatewayMailboxId, folder: &FolderName) -> Result<Listing, StoreError>; // blocking
    /// Opens a message's stored bytes, decrypting as it is read. Errors while reading are `io::Error`s: damage is
    /// never served as mail.
    fn open(&self, key: &Unlocked, message: MessageKey) -> Result<Box<dyn std::io::Read + Send>, StoreError>; // blocking
    /// Takes entries out of a folder, durably when it returns, all or none.
    fn expunge<'a>(&'a self, mailbox: GatewayMailboxId, folder: &'a FolderName, uids: &'a [Uid], by: &'a Client) -> BoxFuture<'a, Result<usize, StoreError>>;
    /// Records which entries a client fetched, durably when it returns.
    fn record_fetched<'a>(&'a self, mailbox: GatewayMailboxId, folder: &'a FolderName, uids: &'a [Uid], by: &'a Client) -> BoxFuture<'a, Result<(), StoreError>>;
}
