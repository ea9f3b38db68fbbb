//! What a fetch protocol asks of whoever keeps the mail: three small steps, each a type of its own.
//!
//! [`Maildrops`] checks a password and gives an [`UnlockedMaildrop`]; the caller takes the exclusive lock of
//! the gateway mailbox it names; [`UnlockedMaildrop::open`] then takes the snapshot the session works on. The
//! order matters: a snapshot taken before the lock could list mail that the session before was just deleting.
//!
//! Entries are named by their index in the snapshot; how that maps to anything stored is the keeper's affair.
//! Methods that say they block are called on a thread that may.

use super::folders::Folders;
use crate::mail::{CanonicalSize, GatewayMailboxId, SessionId};
use crate::store::StoreError;
use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

/// A future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who is fetching, for the record of what was fetched and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `pop3` or `imap`.
    pub protocol: &'static str,
    /// The client's address.
    pub peer: IpAddr,
    /// The connection.
    pub session_id: SessionId,
}

/// One message in the snapshot of a maildrop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaildropEntry {
    /// Names this stored copy for ever: 1 to 70 characters from `!` to `~` (RFC 1939 §7). Two copies of the same
    /// bytes have two, or a client would skip the second.
    pub uidl: String,
    /// Its size as served.
    pub canonical: CanonicalSize,
}

/// Why a login did not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// No such gateway mailbox, or not its password: the same error, taking the same time. The client's fault.
    Wrong,
    /// Could not be tried just now. Our fault; trying again makes sense.
    Unavailable,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoginError::Wrong => "wrong user name or password",
            LoginError::Unavailable => "store could not check the password or list the mail",
        })
    }
}

impl std::error::Error for LoginError {}

/// Why a message could not be opened or a session's work not be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// It works later: busy, disk full, I/O trouble.
    Temporary,
    /// The message is in the snapshot but no longer in the store.
    Gone,
    /// The stored bytes are not what was stored.
    Damaged,
    /// The message is sealed to a former key, which the password given does not open.
    LacksKey,
    /// Clients may not do that here, or may no more.
    NotAllowed,
}

impl FetchError {
    /// What it means that the octets of a message, once it was opened, cannot be read on: that they are not what they were or not
    /// there, for good; that the message was freed meanwhile; or trouble that may pass.
    pub fn of_read(error: &io::Error) -> FetchError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        if matches!(inner, Some(StoreError::Gone)) {
            return FetchError::Gone;
        }
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => {
                FetchError::Damaged
            }
            _ => FetchError::Temporary,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FetchError::Temporary => "store is not available just now",
            FetchError::Gone => "message is no longer in the store",
            FetchError::Damaged => "stored message is damaged",
            FetchError::LacksKey => "message is sealed to a former key",
            FetchError::NotAllowed => "clients may not do that here",
        })
    }
}

impl std::error::Error for FetchError {}

/// Every maildrop there is, behind its password.
pub trait Maildrops: Send + Sync + 'static {
    /// Unlocks the maildrop that `login` names (local part or whole address of a gateway mailbox). Blocks, and
    /// costs a password hash in time and memory whether or not the gateway mailbox exists.
    ///
    /// # Errors
    /// [`LoginError`].
    fn unlock(
        &self,
        login: &str,
        password: &str,
        client: &Client,
    ) -> Result<Box<dyn UnlockedMaildrop>, LoginError>;
}

/// A maildrop whose password was given. Nothing has been read yet.
pub trait UnlockedMaildrop: Send {
    /// The gateway mailbox it belongs to, whichever name it was asked for by: what the exclusive lock is on.
    fn mailbox(&self) -> GatewayMailboxId;

    /// Its user name, whichever name it was asked for by: what log lines call it.
    fn login(&self) -> String;

    /// Takes the snapshot. Blocks. The exclusive lock must be held.
    ///
    /// # Errors
    /// [`LoginError::Unavailable`].
    fn open(self: Box<Self>) -> Result<Arc<dyn Maildrop>, LoginError>;

    /// Its folders, for a protocol that knows folders. Blocks. No lock is asked for: folders may be open more than once.
    ///
    /// # Errors
    /// [`LoginError::Unavailable`].
    fn folders(self: Box<Self>) -> Result<Arc<dyn Folders>, LoginError>;
}

/// A maildrop as it was at login.
pub trait Maildrop: Send + Sync {
    /// Its messages, oldest first. Never changes.
    fn entries(&self) -> Arc<[MaildropEntry]>;

    /// Opens the stored bytes of a message. Blocks, as does reading. An error while reading must come before
    /// the end of a message that is not whole: damage is never served as mail.
    ///
    /// # Errors
    /// [`FetchError`].
    fn read(&self, index: usize) -> Result<Box<dyn Read + Send>, FetchError>;

    /// Records what the client fetched, and takes out what it deleted: all of it or, on an error, none. Tells how much was still
    /// there to be taken out. Durable when it returns.
    ///
    /// # Errors
    /// [`FetchError`].
    fn finish(&self, fetched: Vec<usize>, deleted: Vec<usize>) -> BoxFuture<'_, Result<usize, FetchError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_or_not_the_same_is_damage() {
        for (error, expect) in [
            (io::ErrorKind::InvalidData.into(), FetchError::Damaged),
            (io::ErrorKind::UnexpectedEof.into(), FetchError::Damaged),
            (io::ErrorKind::NotFound.into(), FetchError::Damaged),
            (io::ErrorKind::TimedOut.into(), FetchError::Temporary),
            (io::Error::other("no such luck"), FetchError::Temporary),
            (io::Error::other(StoreError::Gone), FetchError::Gone),
        ] {
            assert_eq!(FetchError::of_read(&error), expect, "{error}");
        }
    }
}
