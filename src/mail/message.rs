//! What a message is and how big it will be on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How the Message-ID of every mail begins that Daybook itself sends: alerts and status reports. A report that brings one
/// back counts as no arrival for those who watch, or an alert about a silence would end it.
pub const NOTICE_ID_BEGINNING: &str = "<daybook-notice.";

/// What extraction found a received message to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A journal report.
    JournalReport,
    /// An NDR that returns a journal report.
    JournalNdr,
    /// An NDR that returns only a report's header: the original is not recoverable from it.
    NdrWithoutReport,
    /// An NDR of other mail, or one that returns nothing.
    Ndr,
    /// Any other mail.
    Plain,
    /// Its structure could not be read.
    Unreadable,
}

impl Class {
    /// The stable name used in logs, JSON and on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::JournalReport => "journal-report",
            Class::JournalNdr => "journal-ndr",
            Class::NdrWithoutReport => "ndr-without-report",
            Class::Ndr => "ndr",
            Class::Plain => "plain",
            Class::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which copy of a rights-protected message an original is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rendition {
    /// The message as sent.
    #[default]
    Original,
    /// Encrypted; a decrypted copy stands beside it.
    Protected,
    /// The decrypted copy.
    Decrypted,
}

/// A run of octets of an object. Objects are counted from 0, the received byte string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Which object.
    pub object: u32,
    /// First octet.
    pub offset: u64,
    /// Number of octets.
    pub octets: u64,
}

/// The size of a message once every line end is CRLF, as POP3 and IMAP send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanonicalSize {
    /// Octets with each lone CR and lone LF turned into CRLF.
    pub octets: u64,
    /// Line ends in that form.
    pub lines: u64,
    /// The stored bytes hold a lone CR or LF, so the canonical form differs from them.
    pub bare_line_ends: bool,
    /// The last octet is a line end. POP3 must add one when it is not (RFC 1939 §3).
    pub ends_with_line_end: bool,
}

/// The two folders of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserFolder {
    /// `Journal Incoming`
    Incoming,
    /// `Journal Outgoing`
    Outgoing,
}

impl UserFolder {
    /// The folder's name as clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            UserFolder::Incoming => "Journal Incoming",
            UserFolder::Outgoing => "Journal Outgoing",
        }
    }
}
