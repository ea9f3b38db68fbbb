//! Microsoft Entra ID: tokens of an application that acts by itself, over HTTPS, and the words for what goes wrong.
//!
//! ```text
//! secret, or certificate + key ─▶ assertion ─▶ token ─▶ who asks Microsoft Graph, or logs in to IMAP with XOAUTH2
//!                                             │
//!                                             └─▶ refusal ─▶ advice
//! ```
//! [`http`] carries every request of this room and of whoever uses its tokens.
//!
//! Invariants:
//! - A secret, an assertion or a token goes to a host of the configured cloud and nowhere else: what an answer names as the next
//!   address is checked like everything else, and no redirect is followed.
//! - None of them is ever in an error, a log line or the `Debug` of anything.
//! - An answer that is not whole is an error, never a short answer.
//! - What to do about a refusal is told by its number; what the program does, by the name of the error and the status alone, as
//!   Microsoft asks for.
//!
//! Everything here blocks: it is called on threads that may. [`advice`] and [`refusal`] are pure.

pub mod advice;
pub mod assertion;
pub mod credential;
pub mod http;
pub mod refusal;
pub mod token;

pub use http::{Answer, Http, HttpError};
pub use refusal::Refusal;
pub use token::{TokenError, Tokens};
