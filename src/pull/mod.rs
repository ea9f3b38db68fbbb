//! Pullers: mail that could not be delivered comes to an account elsewhere, and is fetched from there into an NDR mailbox.
//!
//! ```text
//! account ─▶ imap or pop3 ─▶ run ─▶ smtp::Reception ─▶ pipeline, store ─▶ state file ─▶ delete or mark at the account
//! ```
//! [`Pullers`] has a task for each `[[puller]]`. A visit logs in over TLS to the server that is named, and to no other, lists,
//! fetches, and hands each message to the [`Receiver`] that SMTP hands its own to: so extraction, verdict,
//! duplicates, receipts and quarantine are the same. What differs is written in the transport envelope
//! ([`Pulled`](crate::mail::Pulled)).
//!
//! Invariants:
//! - Nothing is deleted or marked at the account before the message is durable here and the state file says so. What is fetched
//!   twice adds nothing, since the store knows it by its content.
//! - The octets stored are those the server gave: the literal of IMAP, the content of POP3 with its dots undone.
//! - Every line, literal, listing and wait is bounded; memory does not depend on what a server sends.
//! - No credential goes to a server whose certificate was not verified for its name.
//! - A server that refuses is left alone ever longer. A message that is too large stays where it is, and is told of.
//! - IMAP is plain IMAP4rev1: no ENABLE, no SEARCH.
//!
//! This room knows no journals, users or folders.

mod account;
mod credential;
mod fault;
mod imap;
mod pop3;
mod pullers;
mod run;
mod sets;
mod state;
mod talk;
#[cfg(test)]
mod tests;
mod unstuff;

pub use fault::{Fault, FaultKind};
pub use pullers::{PullerStatus, Pullers, pull_once};
pub use run::Visit;
pub use sets::UidSet;
pub use state::{PULL_DIR, State};

use crate::config::Live;
use crate::smtp::Receiver;
use crate::store::Store;
use std::sync::Arc;

/// What pullers work with.
#[derive(Clone)]
pub struct Gateway {
    /// Where the gateway mailboxes are.
    pub store: Arc<dyn Store>,
    /// Takes the mail.
    pub receiver: Arc<dyn Receiver>,
    /// The settings in force.
    pub settings: Live,
}
