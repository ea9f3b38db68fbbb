//! What passes between the IMAP conversation without a connection and the shell that carries it out.
//!
//! The session takes a command, line by line and literal by literal, and gives a [`Step`]; the shell carries it out before it gives the next command, and
//! reports an [`Ask`] with an [`Answer`], upon which the session gives the next step. Long work, [`FetchJob`] and [`SearchJob`],
//! names the messages it is about, so that whoever does it needs nothing of the session.

use crate::fetch::auth::Password;
use crate::fetch::folders::{Account, Changes, FlagsSet, Folder, FolderInfo, FolderMarks, FolderRow};
use crate::fetch::maildrop::FetchError;
use crate::mail::{FlagChange, Uid};
use imap_codec::imap_types::fetch::MessageDataItemName;
use imap_codec::imap_types::search::SearchKey;
use std::sync::Arc;

/// Octets to send: whole lines.
pub type Output = Vec<u8>;

/// What the shell has to do.
#[derive(Debug)]
pub enum Step {
    /// Send this, maybe nothing; then give the next command.
    Reply(Output),
    /// The command line announced a literal: send this, maybe nothing (LITERAL+), read so many octets and give them to
    /// `Session::literal`; the command goes on with the next line.
    Literal {
        /// The continuation request, or nothing.
        send: Output,
        /// How many.
        octets: usize,
    },
    /// Send this, then take the next line as the answer to a challenge of AUTHENTICATE, not as a command.
    Challenge(Output),
    /// Send this. Credentials came, or were about to come, in clear: worth a line in the log.
    ClearRefused(Output),
    /// Send this, then begin TLS, unless anything else was received already.
    StartTls(Output),
    /// Check the password; then `Session::logged_in` or `Session::login_refused`.
    Login {
        /// As the client gave it.
        login: String,
        /// As the client gave it.
        password: Password,
    },
    /// Send the octets, then find out and report with `Session::answered`.
    Ask(Output, Ask),
    /// Fetch from the open folder, sending what comes of it; then `Session::fetched`.
    Fetch(FetchJob),
    /// Search the open folder; then `Session::searched`.
    Search(SearchJob),
    /// Send this; then, until the client sends a line (give it to the session), report what happens in the open folder with
    /// `Session::pushed`.
    Idle(Output),
    /// Send this and close.
    Close(Output),
}

/// What the session wants to know or have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All folders.
    List,
    /// One folder.
    Status(String),
    /// Open a folder, and keep it as the open one in place of any other. What was fetched from the one before is put on record.
    Open(String),
    /// Close the open folder, after putting on record what was fetched.
    Leave,
    /// What happened in the open folder since it was as this.
    Changes(FolderMarks),
    /// Change flags in the open folder.
    SetFlags(Vec<Uid>, FlagChange),
    /// Put on record what was fetched, then take those of these out of the open folder that are marked `\Deleted`.
    Expunge(Vec<Uid>),
}

impl Ask {
    /// True when what was fetched is to be put on record first.
    pub(super) fn is_after_fetches(&self) -> bool {
        matches!(self, Ask::Open(_) | Ask::Leave | Ask::Expunge(_))
    }
}

/// What came of an [`Ask`], of the same name.
pub enum Answer {
    /// All folders.
    List(Result<Vec<FolderInfo>, FetchError>),
    /// One folder, if there is one.
    Status(Result<Option<FolderInfo>, FetchError>),
    /// The open folder with all that is in it, if there is one.
    Open(Result<Option<Opened>, FetchError>),
    /// The folder is left.
    Leave,
    /// What happened.
    Changes(Result<Changes, FetchError>),
    /// The flags each of them has now.
    SetFlags(Result<FlagsSet, FetchError>),
    /// Those that were taken out.
    Expunge(Result<Vec<Uid>, FetchError>),
}

/// A folder just opened.
pub struct Opened {
    /// The folder; the shell has it too.
    pub folder: Arc<dyn Folder>,
    /// What tells whether it changed.
    pub marks: FolderMarks,
    /// All that is in it, in UID order.
    pub rows: Vec<FolderRow>,
    /// The gateway mailbox as it is now.
    pub account: Account,
}

/// A message as the session numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its sequence number.
    pub number: u32,
    /// Its UID and flags.
    pub row: FolderRow,
}

/// Messages to fetch.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchJob {
    /// Which, in their order.
    pub messages: Vec<Numbered>,
    /// What of each; macros expanded, UID among them where the command was UID FETCH.
    pub items: Vec<MessageDataItemName<'static>>,
    /// What is fetched whole or in part without PEEK becomes `\Seen`: false in a folder opened by EXAMINE.
    pub may_set_seen: bool,
}

/// What came of a [`FetchJob`], its responses sent.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Messages that became `\Seen` by it, with the flags they have now, durably: not told to the client yet.
    pub seen: FlagsSet,
    /// Messages that were there when it was asked, but are no more: expunged by others. RFC 2180 §4.1.
    pub gone: u64,
    /// Messages that could not be read; logged. Why the first could not.
    pub failed: Option<(u64, FetchError)>,
}

/// What to look for.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchJob {
    /// Among which, in their order.
    pub messages: Vec<Numbered>,
    /// What they must be: sequence sets have been checked to name numbers that are there.
    pub key: SearchKey<'static>,
    /// Tell UIDs instead of numbers.
    pub uid: bool,
    /// The largest sequence number and UID, what `*` means.
    pub largest: (u32, u32),
}

/// Why a search came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchError {
    /// It would have to open more than may be opened: octets or messages, and how many are allowed.
    TooMuch(String),
    /// It cannot be done now.
    Failed(FetchError),
}
