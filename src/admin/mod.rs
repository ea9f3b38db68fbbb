//! Administration: every operation as one function, and the socket by which they are asked of a running server.
//!
//! ```text
//! cli ─▶ Request ─▶ admin.sock ─▶ server ─▶ perform ─▶ Response        (a server runs)
//! cli ─▶ Request ───────────────────────────▶ perform ─▶ Response        (none does: cli opens the store itself)
//! ```
//! [`perform`] is the same code in both, so a command means the same with and without a server. A [`Request`] and a
//! [`Response`] are plain data, one JSON object each; [`OpError`] says by its variant what the asker can do, and has the
//! exit code that goes with it.
//!
//! Invariants:
//! - An operation either did what it says or changed nothing.
//! - A password leaves here once, in the answer to the request that made the gateway mailbox; it is in no log and in
//!   no `Debug`.
//! - Whoever changes something stands in the store's log as actor: `cli`, and which user of the system.
//! - Only the user the server runs as, and root, are heard on the socket, whatever the file system's permissions say.
//!
//! Gateway mailboxes are named by address, login, id or, when only one has it, name.
//!
//! This room knows no storage layout, and words nothing for people but mail about the gateway's own state ([`watch`]).

mod client;
mod gateway_mailboxes;
mod ops;
mod ports;
mod receipts;
mod request;
mod socket;
mod users;
pub mod watch;

pub use client::{AskError, ask};
pub use ops::{Context, perform};
pub use ports::{PORTS_FILE, Ports};
pub use receipts::RECEIPTS_MAX;
pub use request::{
    Check, CreatedView, FolderView, GatewayMailboxView, InboxView, OpError, Readiness, Request, Response,
    UserView,
};
pub use socket::{AdminSocket, SOCKET_FILE};
