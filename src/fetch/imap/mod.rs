//! IMAP4rev1: RFC 3501 with the clarifications of RFC 9051; TLS as RFC 8314 wants.
//!
//! The flow of one connection: `server` takes it from its listener and feeds whole commands, literals included, to a
//! `session`, which knows the protocol and does no I/O: it answers each with a [`step::Step`] that says what to send and do,
//! and is told what came of it. Messages are read, made canonical and cut on a blocking thread and streamed through a short
//! queue, so that their size costs nothing.
//!
//! What FETCH sends is made by `stream`, which walks the messages of a job; `answer`, which writes one; `items` and `section`,
//! which say what is asked for; `tree`, `structure`, `envelope`, which know how a message is shown; `content`, which reads
//! its octets; and below these `address`, `mime_fields`, `fields`, `lexer`, `strings`.

mod address;
mod answer;
mod content;
mod conversation;
mod envelope;
mod fetches;
mod fields;
mod idle;
mod items;
mod lexer;
mod mime_fields;
mod search;
mod section;
pub mod server;
pub mod session;
mod stay;
pub mod step;
pub mod stream;
mod strings;
mod structure;
mod tree;
mod watched;
