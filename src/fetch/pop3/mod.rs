//! POP3: RFC 1939, with CAPA and response codes (RFC 2449, 3206), STLS (RFC 2595) and AUTH (RFC 5034); TLS as RFC 8314 wants.
//!
//! The flow of one connection: [`server`] takes it from its listener (already TLS on the implicit port) and
//! feeds lines to a [`session::Session`], which knows the protocol and does no I/O: it answers each line with
//! a [`session::Step`] that says what to send and do. A message is read, made canonical and dot-stuffed on a
//! blocking thread and streamed through a short queue, so that its size costs nothing.
//!
//! The maildrop is a snapshot taken at login under an exclusive lock. What a client deletes goes when it says
//! QUIT, all of it or nothing, durable before the `+OK`; in every other ending nothing goes. What it fetched is
//! recorded in every ending.
//!
//! Only what is whole is advertised, and the same before and after login, since some clients ask only once:
//! USER and SASL PLAIN LOGIN (under TLS), UIDL, TOP, PIPELINING, RESP-CODES, AUTH-RESP-CODE, STLS (in clear), IMPLEMENTATION.
//! EXPIRE is left out: retention is per gateway mailbox, and before login we do not know which.
//!
//! Only STLS changes them, as it may (RFC 2595 §4): USER and SASL take its place. `AUTH` alone lists the mechanisms, as clients
//! older than RFC 5034 ask.
//!
//! Quirks, accepted on purpose: a command line may end in LF alone, and may have blanks at its end (except
//! PASS, where they count).

pub mod command;
mod conversation;
mod pump;
pub mod server;
pub mod session;
