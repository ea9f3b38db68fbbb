//! The IMAP conversation without the connection: lines and literals in, [`Step`]s out (RFC 3501 with the clarifications of 9051).
//!
//! ```text
//!   stranger ──Login──▶ (caller decides) ──logged_in──▶ logged in ──Ask(Open)──▶ folder open ──CLOSE, UNSELECT──▶ logged in
//!      └──────────── login_refused ◀──┘                     └─ IDLE ⇄ DONE ─┘
//! ```
//!
//! The caller carries out each step before it gives the next line, and reports back: [`Session::answered`],
//! [`Session::fetched`], [`Session::searched`], [`Session::logged_in`], [`Session::login_refused`], [`Session::tls_started`].
//! A command is put together by `assembly`, read by `parse` and begun in `commands`; `login` has the commands before login, `folders` those about
//! folders and `messages` those about messages; `selected` has the numbers of the open folder.
//!
//! Invariants:
//! - Passwords are refused in clear, whatever they are, and not asked for.
//! - Every command is answered by one line with its tag, at its end; by `*` where it has none.
//! - Where the end of a command is in doubt, because a line or literal is too long to be read, the connection ends: what a
//!   client calls data is never taken for a command.
//! - Nothing a client sent is sent back but its tag.
//! - What others do to the open folder is told with the next command that may tell it (RFC 3501 §7.4.1): each that looks at
//!   messages looks at the folder first, which costs one row when nothing happened. What happens between that look and the work
//!   itself is told with the next.
//!
//! Choices where the RFCs leave one: SUBSCRIBE and UNSUBSCRIBE are answered OK and change nothing, as every folder is subscribed;
//! keywords in STORE are left out, as PERMANENTFLAGS says; a number or `*` that names nothing is answered BAD, also in SEARCH; a
//! folder whose UIDVALIDITY changes under a client ends the connection.
//!
//! It does no I/O, no logging, and knows no clock.

mod arguments;
mod assembly;
mod commands;
mod criteria;
mod folders;
mod list;
mod login;
mod messages;
mod parse;
mod selected;
pub(super) mod sets;
mod text;

use super::step::{Answer, Ask, Fetched, Numbered, Output, SearchError, Step};
use crate::fetch::auth::LoginRefusal;
use crate::fetch::folders::{Account, Changes, FolderMarks};
use crate::fetch::maildrop::FetchError;
use crate::fetch::sasl::Exchange;
use assembly::Assembly;
use messages::Doing;
use selected::Selected;

/// Longest line taken before login, its end included.
pub const STRANGER_LINE_OCTETS_MAX: usize = 8 * 1024;
/// Longest line taken after login: sequence sets are long (RFC 2683 §3.2.1.5 asks for 8,000).
pub const LINE_OCTETS_MAX: usize = 64 * 1024;
/// Longest literal taken before login: a name or a password.
pub const STRANGER_LITERAL_OCTETS_MAX: usize = 1024;
/// Longest literal taken after login: a folder's name or what is searched for.
pub const LITERAL_OCTETS_MAX: usize = 64 * 1024;
/// Most octets of a command before login, its literals and line ends included.
pub const STRANGER_COMMAND_OCTETS_MAX: usize = 16 * 1024;
/// Most octets of a command after login.
pub const COMMAND_OCTETS_MAX: usize = 128 * 1024;
/// Bad commands in a row after which the client is given up: it speaks another protocol, or attacks.
pub const BAD_COMMANDS_MAX: u32 = 10;
/// Passwords tried on one connection without getting in before it is closed.
pub const LOGIN_ATTEMPTS_MAX: u32 = 3;
/// Most characters kept of a client's name and version together.
pub const CLIENT_CHARACTERS_MAX: usize = 120;

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    encrypted: bool,
    state: State,
    expect: Expect,
    assembly: Assembly,
    /// The command that waits for what the caller finds out.
    running: Option<Running>,
    bad_commands: u32,
    login_attempts: u32,
    client: Option<String>,
}

#[derive(Debug)]
enum State {
    Stranger,
    LoggedIn { account: Account, selected: Option<Selected> },
    Ended { logged_out: bool },
}

/// What the next line is.
#[derive(Debug)]
enum Expect {
    Command,
    /// The answer to a challenge.
    Response {
        tag: String,
        exchange: Exchange,
    },
    /// `DONE`
    Done {
        tag: String,
    },
}

#[derive(Debug)]
struct Running {
    tag: String,
    doing: Doing,
}

impl Session {
    /// A conversation that starts, in clear or over TLS.
    pub fn new(encrypted: bool) -> Session {
        Session {
            encrypted,
            state: State::Stranger,
            expect: Expect::Command,
            assembly: Assembly::default(),
            running: None,
            bad_commands: 0,
            login_attempts: 0,
            client: None,
        }
    }

    /// The first words.
    pub fn greeting(&self) -> Output {
        format!("* OK [{}] Daybook IMAP ready\r\n", self.capability()).into_bytes()
    }

    /// Takes a line, with or without its end: of a command, the answer to a challenge, or the end of IDLE.
    pub fn line(&mut self, line: &[u8]) -> Step {
        if matches!(self.state, State::Ended { .. }) {
            return Step::Close(Output::new());
        }
        if self.running.is_some() {
            return self.confused();
        }
        match std::mem::replace(&mut self.expect, Expect::Command) {
            Expect::Command => self.command_line(line),
            Expect::Response { tag, .. } | Expect::Done { tag } if assembly::is_followed_by_data(line) => {
                self.give_up(&tag, "BAD no literal may be here", "literal where none may be")
            }
            Expect::Response { tag, exchange } => self.response(tag, exchange, line),
            Expect::Done { tag } => self.idle_ends(tag, line),
        }
    }

    /// Takes the literal that [`Step::Literal`] asked for.
    pub fn literal(&mut self, octets: &[u8]) -> Step {
        self.assembly.literal(octets);
        Step::Reply(Output::new())
    }

    /// A line came that was longer than [`Session::line_octets_max`] and was thrown away. It ends the connection: nobody knows
    /// whether it announced a literal.
    pub fn too_long(&mut self) -> Step {
        let text = format!("line longer than {} octets", self.line_octets_max());
        let tag = match &self.expect {
            Expect::Command => parse::tag(self.assembly.octets()).map(|(tag, _)| tag.to_owned()),
            Expect::Response { tag, .. } | Expect::Done { tag } => Some(tag.clone()),
        };
        match tag {
            Some(tag) => self.give_up(&tag, "BAD [LIMIT] too long", &text),
            None => self.bye(&text),
        }
    }

    /// Longest line that is taken now, its end included.
    pub fn line_octets_max(&self) -> usize {
        if self.is_logged_in() { LINE_OCTETS_MAX } else { STRANGER_LINE_OCTETS_MAX }
    }

    /// TLS has begun: nothing said before counts (RFC 3501 §6.2.1).
    pub fn tls_started(&mut self) {
        *self = Session { bad_commands: self.bad_commands, ..Session::new(true) };
    }

    /// The password was right.
    pub fn logged_in(&mut self, account: Account) -> Step {
        match self.running.take() {
            Some(Running { tag, doing: Doing::Login }) => {
                self.state = State::LoggedIn { account, selected: None };
                Step::Reply(text::tagged(&tag, &format!("OK [{}] logged in", self.capability())))
            }
            _ => self.confused(),
        }
    }

    /// The login got nowhere.
    pub fn login_refused(&mut self, refusal: LoginRefusal) -> Step {
        match self.running.take() {
            Some(Running { tag, doing: Doing::Login }) => self.refuse_login(&tag, refusal),
            _ => self.confused(),
        }
    }

    /// How many logins were refused on this connection.
    pub fn login_attempts(&self) -> u32 {
        self.login_attempts
    }

    /// What came of [`Step::Ask`].
    pub fn answered(&mut self, answer: Answer) -> Step {
        match self.running.take() {
            Some(Running { tag, doing }) => self.go_on(tag, doing, answer),
            None => self.confused(),
        }
    }

    /// What came of [`Step::Fetch`].
    pub fn fetched(&mut self, fetched: Fetched) -> Step {
        match self.running.take() {
            Some(Running { tag, doing: Doing::Fetch { uid, some_gone } }) => {
                self.end_fetch(&tag, &fetched, uid, some_gone)
            }
            _ => self.confused(),
        }
    }

    /// What came of [`Step::Search`].
    pub fn searched(&mut self, found: Result<Vec<Numbered>, SearchError>) -> Step {
        match self.running.take() {
            Some(Running { tag, doing: Doing::Search { uid, held } }) => {
                self.end_search(&tag, found, uid, held)
            }
            _ => self.confused(),
        }
    }

    /// What happened in the open folder since [`Session::marks`], while the client idles: a reply, maybe empty, or the end.
    pub fn pushed(&mut self, changes: Result<Changes, FetchError>) -> Step {
        if !self.is_idling() {
            return self.confused();
        }
        match (changes, self.selected()) {
            (Ok(changes), Some(selected)) => {
                let mut output = selected.apply(changes, false);
                output.extend(selected.tell_expunged());
                Step::Reply(output)
            }
            (Err(error), _) => match messages::final_text(error) {
                Some(why) => self.bye(why),
                None => Step::Reply(Output::new()),
            },
            (Ok(_), None) => Step::Reply(Output::new()),
        }
    }

    /// True from login on.
    pub fn is_logged_in(&self) -> bool {
        matches!(self.state, State::LoggedIn { .. })
    }

    /// True once a client that was logged in said LOGOUT: its session ended in good order.
    pub fn is_logged_out(&self) -> bool {
        matches!(self.state, State::Ended { logged_out: true })
    }

    /// True while the client waits for what happens.
    pub fn is_idling(&self) -> bool {
        matches!(self.expect, Expect::Done { .. })
    }

    /// What tells whether the open folder is as the client knows it.
    pub fn marks(&self) -> Option<FolderMarks> {
        match &self.state {
            State::LoggedIn { selected: Some(selected), .. } => Some(selected.marks()),
            _ => None,
        }
    }

    /// Name and version of the client as it gave them with ID: printable, at most [`CLIENT_CHARACTERS_MAX`] characters.
    pub fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// What to say when the server goes down, between two commands.
    pub fn shutdown_reply(&self) -> Output {
        b"* BYE [UNAVAILABLE] shutting down\r\n".to_vec()
    }

    fn selected(&mut self) -> Option<&mut Selected> {
        match &mut self.state {
            State::LoggedIn { selected, .. } => selected.as_mut(),
            _ => None,
        }
    }

    /// Waits for an answer.
    fn ask(&mut self, tag: String, doing: Doing, output: Output, ask: Ask) -> Step {
        self.running = Some(Running { tag, doing });
        Step::Ask(output, ask)
    }

    fn bad(&mut self, tag: &str, wrong: &str) -> Step {
        self.bad_commands += 1;
        if self.bad_commands < BAD_COMMANDS_MAX {
            return Step::Reply(text::tagged(tag, &format!("BAD {wrong}")));
        }
        self.give_up(tag, &format!("BAD {wrong}"), "too many bad commands")
    }

    /// Answers and ends the connection.
    fn give_up(&mut self, tag: &str, answer: &str, why: &str) -> Step {
        self.state = State::Ended { logged_out: false };
        Step::Close(text::ended(text::tagged("*", &format!("BYE {why}")), tag, answer))
    }

    fn bye(&mut self, why: &str) -> Step {
        self.state = State::Ended { logged_out: false };
        Step::Close(text::tagged("*", &format!("BYE {why}")))
    }

    /// The caller did something else than it was asked to: our fault.
    fn confused(&mut self) -> Step {
        let why = "[SERVERBUG] session lost its way";
        match self.running.take() {
            Some(Running { tag, .. }) => self.give_up(&tag, "NO [SERVERBUG] not done", why),
            None => self.bye(why),
        }
    }
}

/// Folders hold what Daybook places in them and nothing else.
fn refused(tag: &str) -> Step {
    Step::Reply(text::tagged(tag, "NO [CANNOT] folders and what is in them are made by Daybook"))
}
