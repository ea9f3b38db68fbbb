//! Fetch: gateway mailboxes served to the clients that empty them.
//!
//! A poller logs in with the password of a gateway mailbox, which opens its keyring for that connection only,
//! reads what is there and deletes what it has taken over. [`auth`] lets it in ([`sasl`] reads what it says there), [`pop3`] speaks the protocol, [`maildrop`] is all
//! that it asks of whoever keeps the mail, [`canonical`] turns stored bytes into what may go over the wire,
//! [`lock`] keeps two clients from emptying one gateway mailbox at once, and [`backoff`] and [`turns`] keep whoever guesses
//! passwords from the machine, the poller and its network.
//!
//! Invariants:
//! - No credential is taken in clear.
//! - A message leaves only by a delete the client committed, durable before the client is told so. A dropped
//!   connection, a timeout and a shutdown delete nothing.
//! - Stored bytes are never changed; what is sent and every size announced is their canonical form.
//! - Mail that cannot be read whole is never served as if it were: the client sees an error or a broken
//!   connection, never a proper end.
//!
//! This room knows neither journals nor folders' reasons, neither files nor keys.

pub mod auth;
pub mod backoff;
pub mod canonical;
pub mod door;
pub mod folders;
pub mod imap;
pub mod lock;
pub mod maildrop;
pub mod pop3;
pub mod sasl;
pub mod stored;
mod stored_folders;
mod talk;
pub mod threads;
pub mod turns;
mod unreadable;
mod visit;
