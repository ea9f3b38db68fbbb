//! Receiving mail over SMTP (RFC 5321), strictly and with every quantity bounded.
//!
//! The flow: [`server`] reads octets from a connection and shows them to a [`session::Session`], which does
//! no I/O and answers with effects: say this reply, ask whether this address is served, open a reception,
//! take these octets of the body, commit. [`command`] reads one command line, [`data`] finds the end of a
//! message, [`reply`] holds every reply there is in one table. What a message *is* and where it goes is the
//! business of the [`Receiver`] behind [`server::serve`].
//!
//! Wire: PIPELINING, SIZE, 8BITMIME, SMTPUTF8, CHUNKING (RFC 3030), ENHANCEDSTATUSCODES and STARTTLS are
//! offered. BINARYMIME, DSN and AUTH are not. CHUNKING is not a luxury: Exchange Online refuses to send a
//! message with a bare LF to a host without it, and such a journal report is lost to its NDR path.
//!
//! Invariants:
//! - 250 after a body is said only when [`Reception::commit`] has returned `Ok`, which means durable.
//! - The octets of the body reach the [`Reception`] as sent: dot-stuffing is undone in DATA, nothing else is
//!   ever stripped, added or normalised. BDAT is opaque.
//! - Only `CRLF . CRLF` ends DATA. A bare CR, bare LF or NUL there refuses the message and ends the session,
//!   so that no two servers can disagree about where a message ends (SMTP smuggling).
//! - Octets announced as a body are never read as commands, also when the body was refused.
//! - Trouble of ours or the operator's is answered 4xx; 5xx is for the peer's mistakes only.
//! - Memory of a connection does not depend on what the peer sends.
//!
//! This room knows nothing of journals, users, folders or stores.

pub mod command;
pub mod data;
mod pace;
pub mod reply;
pub mod server;
pub mod session;
mod talk;

use crate::mail::{Address, ReceiptId, SessionId, TlsFacts, TransportEnvelope};
use session::{RefusedBody, TurnedAway};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who takes the mail. Shared by all sessions.
pub trait Receiver: Send + Sync + 'static {
    /// Whether a message of this many octets, if the peer declared it, is worth sending. Asked at MAIL, before anything is
    /// on the way; the answer is a guess at best, since the size is the peer's word.
    ///
    /// # Errors
    /// [`Fault`]: there is no room for it now.
    fn room(&self, octets: Option<u64>) -> Result<(), Fault>;

    /// Whether this address is served to this peer. `already` are the recipients accepted so far in this transaction.
    /// Must answer from memory: the session waits for it.
    fn recipient(&self, address: &Address, already: &[Address], peer: &Peer<'_>) -> RecipientVerdict;

    /// A new id for a connection.
    fn session_id(&self) -> SessionId;

    /// A new id for a transaction.
    fn receipt_id(&self) -> ReceiptId;

    /// Opens the reception of one message; called at DATA or at the first BDAT.
    ///
    /// # Errors
    /// [`Fault`]: the message is not taken now.
    fn begin(&self, receipt_id: ReceiptId, envelope: TransportEnvelope) -> Result<Box<dyn Reception>, Fault>;

    /// A message was refused for good after one of its recipients had been accepted, or to a favoured peer: it may be a report
    /// that nobody brings again. Must not block. For those who keep count; the default does nothing.
    fn body_refused(&self, _body: &RefusedBody) {}

    /// A transaction ended without its message being taken. `receipt_id` is that of the transaction; of one that was refused at
    /// MAIL, drawn for the record. Must not block. For those who keep a record; the default does nothing.
    fn turned_away(&self, _receipt_id: ReceiptId, _told: TurnedAway) {}
}

/// One message on its way in. Dropping it discards the message.
pub trait Reception: Send {
    /// The peer is of those networks that the gateway is there for; told before the first octet. What others can hold must
    /// not keep it waiting. For those who bound what is on its way; the default does nothing.
    fn favour(&mut self) {}

    /// Takes the next octets of the body. May wait until there is room for them; meanwhile nothing is read from the peer, and
    /// the time is not counted as the peer's.
    ///
    /// # Errors
    /// The fault is remembered, the reception dropped, and the rest of the body read, discarded and then
    /// answered with the fault.
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Fault>>;

    /// Ends the message. `Ok` means it is durable; only then 250 is said. Runs to its end even when the peer
    /// has gone.
    ///
    /// # Errors
    /// The message was not taken; the peer is told to keep it.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>>;
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The connection.
    pub session_id: SessionId,
    /// The transaction, from MAIL on.
    pub receipt_id: Option<ReceiptId>,
    /// Its address.
    pub address: IpAddr,
    /// What the handshake agreed on; `None` in clear.
    pub tls: Option<&'a TlsFacts>,
}

/// What the [`Receiver`] says of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientVerdict {
    /// Served.
    Accept,
    /// Not served here; `550 5.1.1`.
    Unknown,
    /// Served, but not to this peer: its admin takes mail only from those that can prove who they are; `550 5.7.1`.
    Forbidden,
    /// Served, but mail is not taken at present; `450 4.2.1`.
    Suspended,
    /// Served, but not together with so many others; `452 4.5.3`.
    TooMany,
    /// It cannot be told now; `451 4.3.0`.
    TryLater,
}

/// Why a message cannot be taken now. Never the peer's fault, so always answered 4xx: the peer keeps the
/// message and comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No room; the operator must make some.
    StoreFull,
    /// The store cannot write or sync.
    StoreTrouble,
    /// More at once than there is memory or time for.
    Busy,
    /// The process is ending; the session ends with the reply.
    ShuttingDown,
    /// A bug: something that cannot happen did, or a task panicked.
    Internal,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::StoreFull => "store is full",
            Fault::StoreTrouble => "store cannot write",
            Fault::Busy => "too busy",
            Fault::ShuttingDown => "shutting down",
            Fault::Internal => "internal error",
        })
    }
}

impl std::error::Error for Fault {}
