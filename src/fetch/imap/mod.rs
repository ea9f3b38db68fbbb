//! IMAP4rev1: RFC 3501 with the clarifications of RFC 9051; TLS as RFC 8314 wants.
//!
//! The flow of one connection: `server` takes it from its listener and feeds whole commands, literals included, to a
//! `session`, which knows the protocol and does no I/O: it answers each with a [`step::Step`] that says what to send and do,
//! and is told what came of it. Messages are read, made canonical and cut on a blocking thread and streamed through a short
//! queue, so that their size costs nothing.

#[allow(dead_code, reason = "the server calls it")]
mod search;
pub mod step;
