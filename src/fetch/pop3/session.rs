//! The POP3 conversation without the connection: lines in, [`Step`]s out (RFC 1939 §3 to §6, RFC 5034).
//!
//! ```text
//!   AUTHORIZATION ──Login──▶ (caller decides) ──logged_in──▶ TRANSACTION ──Commit──▶ UPDATE ──committed──▶ end
//!        └─────────────────── login_refused ◀──┘                  └── connection lost: nothing is deleted
//! ```
//!
//! The caller carries out each step before it gives the next line: sends replies, checks passwords, streams
//! messages, commits. It reports back with [`Session::logged_in`], [`Session::login_refused`],
//! [`Session::tls_started`], [`Session::mark_fetched`] and [`Session::committed`].
//!
//! Invariants:
//! - USER, PASS and AUTH are refused in clear, whatever they say.
//! - While AUTH waits for an answer a line is that and no command; an exchange that breaks off counts as a bad command, for no
//!   password was tried.
//! - Deletes leave this type in one place: the [`Step::Commit`] that answers QUIT.
//! - Numbers, sizes and UIDLs are those of the snapshot for the whole session; a deleted message keeps its
//!   number and is out of every answer.
//! - Replies hold nothing the client sent, so nothing it sends can break them.
//!
//! It does no I/O, no logging, and knows no clock: whoever waits decides how long.

use super::command::{Auth, COMMAND_OCTETS_MAX, Command, CommandError};
use crate::fetch::auth::{LoginRefusal, Password};
use crate::fetch::canonical::served_octets;
use crate::fetch::maildrop::{FetchError, MaildropEntry};
use crate::fetch::sasl::{self, Exchange, Mechanism, SaslError, Turn};
use std::borrow::Cow;
use std::sync::Arc;

/// Bad command lines in a row after which the client is given up: it speaks another protocol, or attacks.
pub const BAD_COMMANDS_MAX: u32 = 10;
/// Passwords tried on one connection without getting in before it is closed.
pub const LOGIN_ATTEMPTS_MAX: u32 = 3;
/// A listing is handed out in pieces of about this size: one of a million messages must not be held in memory.
pub const LISTING_PIECE_OCTETS: usize = 32 * 1024;

/// Text to send, without its last line end.
pub type Reply = Cow<'static, str>;

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Reply(Reply),
    /// Send this. Credentials came, or were about to come, in clear: worth a line in the log.
    ClearRefused(Reply),
    /// Send this, then all that [`Session::more`] gives.
    Listing(Reply),
    /// Send this, then begin TLS, unless anything else was received already.
    StartTls(Reply),
    /// Check the password, then report.
    Login {
        /// As the client gave it.
        login: String,
        /// As the client gave it.
        password: Password,
    },
    /// Open a message; then send [`Session::message_reply`], the message and the final dot, or
    /// [`Session::unreadable_reply`].
    Message {
        /// Its index in the snapshot.
        index: usize,
        /// For TOP: how many lines of the body.
        lines: Option<u64>,
    },
    /// Record what was fetched, delete what is asked for, durably; then report, send the answer and close.
    Commit {
        /// Indexes of messages to take out.
        deleted: Vec<usize>,
    },
    /// Send this and close.
    Close(Reply),
}

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    encrypted: bool,
    state: State,
    bad_commands: u32,
    login_attempts: u32,
    listing: Option<Listing>,
}

#[derive(Debug)]
enum State {
    Authorization {
        login: Option<String>,
    },
    /// AUTH waits for an answer.
    Exchange(Exchange),
    Transaction(Transaction),
    Ended,
}

/// Which listing is being handed out, and the next index of it.
#[derive(Clone, Copy, Debug)]
struct Listing {
    uidl: bool,
    next: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    deleted: bool,
    fetched: bool,
}

#[derive(Debug)]
struct Transaction {
    entries: Arc<[MaildropEntry]>,
    marks: Vec<Mark>,
    /// Messages not marked as deleted, and their octets.
    messages: u64,
    octets: u64,
}

impl Session {
    /// A conversation that starts, in clear or over TLS.
    pub fn new(encrypted: bool) -> Session {
        Session {
            encrypted,
            state: State::Authorization { login: None },
            bad_commands: 0,
            login_attempts: 0,
            listing: None,
        }
    }

    /// The first words. No `<…>` in them: that would offer APOP (RFC 1939 §7).
    pub fn greeting(&self) -> Reply {
        "+OK Daybook POP3 ready".into()
    }

    /// How long the next line may be, line end included.
    pub fn line_octets_max(&self) -> usize {
        match self.state {
            State::Exchange(_) => sasl::ANSWER_OCTETS_MAX,
            _ => COMMAND_OCTETS_MAX,
        }
    }

    /// Takes a command line, or the answer to a challenge, with its line end.
    pub fn line(&mut self, line: &[u8]) -> Step {
        self.listing = None;
        if let State::Exchange(exchange) = &mut self.state {
            let turn = exchange.line(line);
            return self.turn(turn);
        }
        match Command::parse(line) {
            Ok(command) => self.command(command),
            Err(CommandError::Unknown) => self.bad("-ERR unknown command"),
            Err(CommandError::Arguments) => self.bad("-ERR wrong arguments"),
        }
    }

    /// A line came that was longer than [`Session::line_octets_max`] and was thrown away.
    pub fn too_long(&mut self) -> Step {
        let octets_max = self.line_octets_max();
        self.leave_exchange();
        self.bad(format!("-ERR line longer than {octets_max} octets"))
    }

    /// What to say when the server goes down, between two commands.
    pub fn shutdown_reply(&self) -> Reply {
        "-ERR [SYS/TEMP] shutting down, nothing was deleted".into()
    }

    /// TLS has begun: nothing said before counts (RFC 2595 §4).
    pub fn tls_started(&mut self) {
        *self = Session { bad_commands: self.bad_commands, ..Session::new(true) };
    }

    /// The password was right and the maildrop is locked: these are its messages.
    pub fn logged_in(&mut self, entries: Arc<[MaildropEntry]>) -> Reply {
        let transaction = Transaction::new(entries);
        let reply = format!("+OK {} messages ({} octets)", transaction.messages, transaction.octets);
        self.state = State::Transaction(transaction);
        reply.into()
    }

    /// The login got nowhere.
    pub fn login_refused(&mut self, refusal: LoginRefusal) -> Step {
        self.login_attempts += 1;
        let reply: Reply = match refusal {
            LoginRefusal::Wrong => "-ERR [AUTH] wrong user name or password".into(),
            LoginRefusal::Unavailable => "-ERR [SYS/TEMP] cannot log in now, try again later".into(),
            LoginRefusal::InUse => "-ERR [IN-USE] another session has this maildrop".into(),
            LoginRefusal::TooMany => "-ERR [SYS/TEMP] too many sessions, try again later".into(),
        };
        if self.login_attempts < LOGIN_ATTEMPTS_MAX {
            return Step::Reply(reply);
        }
        self.state = State::Ended;
        Step::Close(reply)
    }

    /// True from login to QUIT.
    pub fn is_logged_in(&self) -> bool {
        matches!(self.state, State::Transaction(_))
    }

    /// The answer to RETR or TOP once the message is known to be readable.
    pub fn message_reply(&self, index: usize, lines: Option<u64>) -> Reply {
        let entry = self.transaction().and_then(|transaction| transaction.entries.get(index));
        match (lines, entry) {
            (None, Some(entry)) => format!("+OK {} octets", served_octets(&entry.canonical)).into(),
            _ => "+OK top of message follows".into(),
        }
    }

    /// The answer to RETR or TOP of a message that could not be opened.
    pub fn unreadable_reply(&self, error: FetchError) -> Reply {
        match error {
            FetchError::Temporary => "-ERR [SYS/TEMP] message cannot be read now, try again later".into(),
            FetchError::Gone => "-ERR message is gone from the store".into(),
            FetchError::NotAllowed => "-ERR [SYS/PERM] not allowed".into(),
            FetchError::Damaged => "-ERR [SYS/PERM] message is damaged, it is kept and reported".into(),
            FetchError::LacksKey => {
                "-ERR [SYS/PERM] message is sealed to a former key, which this password does not open; it is kept".into()
            }
        }
    }

    /// The whole of a message has been sent.
    pub fn mark_fetched(&mut self, index: usize) {
        if let State::Transaction(transaction) = &mut self.state
            && let Some(mark) = transaction.marks.get_mut(index)
        {
            mark.fetched = true;
        }
    }

    /// Indexes of the messages sent whole, deleted or not.
    pub fn fetched(&self) -> Vec<usize> {
        self.transaction().map(|transaction| transaction.marked(|mark| mark.fetched)).unwrap_or_default()
    }

    /// The commit that QUIT asked for is durable, or failed and changed nothing.
    pub fn committed(&mut self, deleted: Result<usize, FetchError>) -> Reply {
        self.state = State::Ended;
        match deleted {
            Ok(deleted) => format!("+OK {deleted} messages deleted, bye").into(),
            Err(_) => "-ERR [SYS/TEMP] nothing was deleted, try again later".into(),
        }
    }

    /// Appends the next piece of a listing, its end included. False once there is nothing more.
    pub fn more(&mut self, output: &mut Vec<u8>) -> bool {
        let (Some(mut listing), State::Transaction(transaction)) = (self.listing, &self.state) else {
            return false;
        };
        let ends_at = output.len() + LISTING_PIECE_OCTETS;
        while let Some((entry, mark)) = transaction.at(listing.next) {
            if output.len() >= ends_at {
                self.listing = Some(listing);
                return true;
            }
            listing.next += 1;
            if !mark.deleted {
                let line = item(listing.next as u64, entry, listing.uidl);
                output.extend_from_slice(line.as_bytes());
                output.extend_from_slice(b"\r\n");
            }
        }
        output.extend_from_slice(b".\r\n");
        self.listing = None;
        false
    }

    fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Transaction(transaction) => Some(transaction),
            _ => None,
        }
    }

    fn command(&mut self, command: Command) -> Step {
        let step = match (command, &mut self.state) {
            (Command::Capa, _) => Ok(Step::Reply(capabilities(self.encrypted))),
            (Command::Stls, State::Authorization { .. }) if !self.encrypted => {
                Ok(Step::StartTls("+OK begin TLS".into()))
            }
            (Command::Stls, _) => Err("-ERR TLS is active already"),
            (Command::Auth(None), State::Authorization { .. }) if !self.encrypted => {
                Err("-ERR [AUTH] no credentials in clear, begin TLS with STLS first")
            }
            (Command::User(_) | Command::Pass(_) | Command::Auth(_), State::Authorization { .. })
                if !self.encrypted =>
            {
                self.bad_commands = 0;
                return Step::ClearRefused(
                    "-ERR [AUTH] no credentials in clear, begin TLS with STLS first".into(),
                );
            }
            (Command::User(name), State::Authorization { login }) => {
                *login = Some(name);
                Ok(Step::Reply("+OK send PASS".into()))
            }
            (Command::Pass(password), State::Authorization { login }) => match login.take() {
                Some(login) => Ok(Step::Login { login, password }),
                None => Err("-ERR send USER first"),
            },
            (Command::Auth(None), State::Authorization { .. }) => Ok(Step::Reply(mechanisms())),
            (Command::Auth(Some(auth)), State::Authorization { .. }) => return self.authenticate(auth),
            (Command::User(_) | Command::Pass(_) | Command::Auth(_), _) => Err("-ERR logged in already"),
            (Command::Quit, State::Transaction(transaction)) => {
                Ok(Step::Commit { deleted: transaction.marked(|mark| mark.deleted) })
            }
            (Command::Quit, _) => {
                self.state = State::Ended;
                Ok(Step::Close("+OK bye".into()))
            }
            (command, State::Transaction(transaction)) => Ok(transaction.command(command, &mut self.listing)),
            (_, State::Authorization { .. } | State::Exchange(_)) => Err("-ERR log in first"),
            (_, State::Ended) => Ok(Step::Close("-ERR session is over".into())),
        };
        match step {
            Ok(step) => {
                self.bad_commands = 0;
                step
            }
            Err(reply) => self.bad(reply),
        }
    }

    fn authenticate(&mut self, auth: Auth) -> Step {
        let Some(mechanism) = auth.mechanism else { return self.bad("-ERR unknown mechanism") };
        let begun = match auth.initial {
            None => Exchange::begin(mechanism, None),
            Some(initial) => sasl::decode(initial.reveal().as_bytes())
                .and_then(|decoded| Exchange::begin(mechanism, Some(&decoded))),
        };
        let turn = begun.map(|(exchange, turn)| {
            self.state = State::Exchange(exchange);
            turn
        });
        self.turn(turn)
    }

    /// What an exchange has come to. Nothing said before AUTH counts after it.
    fn turn(&mut self, turn: Result<Turn, SaslError>) -> Step {
        match turn {
            Ok(Turn::Challenge(text)) => Step::Reply(format!("+ {text}").into()),
            Ok(Turn::Credentials(login, password)) => {
                self.leave_exchange();
                self.bad_commands = 0;
                Step::Login { login, password }
            }
            Err(error) => {
                self.leave_exchange();
                self.bad(format!("-ERR {error}"))
            }
        }
    }

    fn leave_exchange(&mut self) {
        if matches!(self.state, State::Exchange(_)) {
            self.state = State::Authorization { login: None };
        }
    }

    fn bad(&mut self, reply: impl Into<Reply>) -> Step {
        self.bad_commands += 1;
        if self.bad_commands < BAD_COMMANDS_MAX {
            return Step::Reply(reply.into());
        }
        Step::Close("-ERR too many bad commands".into())
    }
}

impl Transaction {
    fn new(entries: Arc<[MaildropEntry]>) -> Transaction {
        let marks = vec![Mark::default(); entries.len()];
        let mut transaction = Transaction { entries, marks, messages: 0, octets: 0 };
        transaction.reset();
        transaction
    }

    fn reset(&mut self) {
        self.marks.iter_mut().for_each(|mark| mark.deleted = false);
        self.messages = self.entries.len() as u64;
        self.octets = self
            .entries
            .iter()
            .fold(0, |sum: u64, entry| sum.saturating_add(served_octets(&entry.canonical)));
    }

    fn at(&self, index: usize) -> Option<(&MaildropEntry, Mark)> {
        Some((self.entries.get(index)?, *self.marks.get(index)?))
    }

    fn marked(&self, is_wanted: impl Fn(&Mark) -> bool) -> Vec<usize> {
        self.marks.iter().enumerate().filter(|(_, mark)| is_wanted(mark)).map(|(index, _)| index).collect()
    }

    fn command(&mut self, command: Command, listing: &mut Option<Listing>) -> Step {
        match command {
            Command::Stat => Step::Reply(format!("+OK {} {}", self.messages, self.octets).into()),
            Command::List(None) => {
                *listing = Some(Listing { uidl: false, next: 0 });
                Step::Listing(format!("+OK {} messages ({} octets)", self.messages, self.octets).into())
            }
            Command::Uidl(None) => {
                *listing = Some(Listing { uidl: true, next: 0 });
                Step::Listing("+OK".into())
            }
            Command::List(Some(number)) => self.with(number, |_, entry| one(number, entry, false)),
            Command::Uidl(Some(number)) => self.with(number, |_, entry| one(number, entry, true)),
            Command::Retr(number) => self.with(number, |index, _| Step::Message { index, lines: None }),
            Command::Top { number, lines } => {
                self.with(number, |index, _| Step::Message { index, lines: Some(lines) })
            }
            Command::Dele(number) => self.delete(number),
            Command::Rset => {
                self.reset();
                Step::Reply(format!("+OK {} messages ({} octets)", self.messages, self.octets).into())
            }
            Command::Noop => Step::Reply("+OK".into()),
            Command::Capa
            | Command::Stls
            | Command::User(_)
            | Command::Pass(_)
            | Command::Auth(_)
            | Command::Quit => Step::Reply("-ERR unknown command".into()),
        }
    }

    /// Does something with a message that is there, or says why it is not.
    fn with(&self, number: u64, use_it: impl FnOnce(usize, &MaildropEntry) -> Step) -> Step {
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| Some((index, self.at(index)?))) {
            None => Step::Reply("-ERR no such message".into()),
            Some((_, (_, mark))) if mark.deleted => Step::Reply("-ERR message is marked as deleted".into()),
            Some((index, (entry, _))) => use_it(index, entry),
        }
    }

    fn delete(&mut self, number: u64) -> Step {
        let mut found = None;
        let step = self.with(number, |index, entry| {
            found = Some((index, served_octets(&entry.canonical)));
            Step::Reply("+OK marked as deleted".into())
        });
        if let Some((index, octets)) = found
            && let Some(mark) = self.marks.get_mut(index)
        {
            mark.deleted = true;
            self.messages = self.messages.saturating_sub(1);
            self.octets = self.octets.saturating_sub(octets);
        }
        step
    }
}

fn one(number: u64, entry: &MaildropEntry, uidl: bool) -> Step {
    Step::Reply(format!("+OK {}", item(number, entry, uidl)).into())
}

fn item(number: u64, entry: &MaildropEntry, uidl: bool) -> String {
    if uidl {
        format!("{number} {}", entry.uidl)
    } else {
        format!("{number} {}", served_octets(&entry.canonical))
    }
}

fn mechanisms() -> Reply {
    format!("+OK mechanisms follow\r\n{}\r\n.", Mechanism::ALL.map(Mechanism::as_str).join("\r\n")).into()
}

/// The same before and after login. STLS is not among those of a client that is logged in, for it has begun TLS.
fn capabilities(encrypted: bool) -> Reply {
    let login = match encrypted {
        true => format!("USER\r\nSASL {}", Mechanism::ALL.map(Mechanism::as_str).join(" ")),
        false => "STLS".to_owned(),
    };
    format!(
        "+OK capabilities follow\r\n{login}\r\nUIDL\r\nTOP\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n\
         IMPLEMENTATION Daybook\r\n."
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::CanonicalSize;

    fn entry(number: usize) -> MaildropEntry {
        let octets = 10 * number as u64;
        MaildropEntry {
            uidl: format!("u{number}"),
            canonical: CanonicalSize { octets, ends_with_line_end: true, ..CanonicalSize::default() },
        }
    }

    fn in_transaction(messages: usize) -> Session {
        let mut session = Session::new(true);
        session.logged_in((1..=messages).map(entry).collect());
        session
    }

    fn reply(text: &'static str) -> Step {
        Step::Reply(text.into())
    }

    /// Says the lines and compares the last step.
    fn check(session: &mut Session, lines: &[&str], expect: Step) {
        let mut last = None;
        for line in lines {
            last = Some(session.line(line.as_bytes()));
        }
        assert_eq!(last, Some(expect), "{lines:?}");
    }

    #[test]
    fn takes_no_credentials_in_clear() {
        for line in ["USER a", "PASS b", "AUTH PLAIN", "AUTH LOGIN YQ==", "AUTH CRAM-MD5"] {
            assert!(matches!(Session::new(false).line(line.as_bytes()), Step::ClearRefused(_)));
        }
        let mut session = Session::new(false);
        assert!(matches!(session.line(b"STLS\r\n"), Step::StartTls(_)));
        session.tls_started();
        let password = Password::new("b");
        check(&mut session, &["USER a", "PASS b"], Step::Login { login: "a".to_owned(), password });
        check(&mut session, &["STLS"], reply("-ERR TLS is active already"));
    }

    #[test]
    fn a_login_by_sasl_is_one_login() {
        let login = |password: &str| Step::Login { login: "a".to_owned(), password: Password::new(password) };
        check(&mut Session::new(true), &["AUTH PLAIN AGEAYg=="], login("b"));
        let mut session = Session::new(true);
        check(&mut session, &["AUTH PLAIN"], reply("+ "));
        assert_eq!(session.line_octets_max(), sasl::ANSWER_OCTETS_MAX);
        check(&mut session, &["AGEAYg=="], login("b"));
        assert_eq!(session.line_octets_max(), COMMAND_OCTETS_MAX);
        session.login_refused(LoginRefusal::Wrong);
        check(&mut session, &["auth login", "YQ=="], reply("+ UGFzc3dvcmQ6"));
        check(&mut session, &["Yw=="], login("c"));
        session.logged_in(Arc::new([]));
        check(&mut session, &["AUTH PLAIN"], reply("-ERR logged in already"));
    }

    #[test]
    fn an_exchange_that_breaks_off_is_a_bad_command() {
        let mut session = Session::new(true);
        for broken in ["*", "QUIT", "AGEAYg", "", "AGEAYgBj"] {
            assert!(matches!(session.line(b"AUTH PLAIN"), Step::Reply(_)));
            assert!(
                matches!(session.line(broken.as_bytes()), Step::Reply(r) if r.starts_with("-ERR")),
                "{broken}"
            );
        }
        assert!(matches!(session.line(b"AUTH PLAIN"), Step::Reply(_)));
        assert!(matches!(session.too_long(), Step::Reply(r) if r.contains("1026")));
        assert_eq!((session.bad_commands, session.login_attempts), (6, 0));
        check(&mut session, &["AUTH CRAM-MD5"], reply("-ERR unknown mechanism"));
        // What USER said before is forgotten with it.
        check(&mut session, &["USER a", "AUTH PLAIN", "*", "PASS b"], reply("-ERR send USER first"));
    }

    #[test]
    fn closes_after_too_many_logins() {
        let mut session = Session::new(true);
        for _ in 1..LOGIN_ATTEMPTS_MAX {
            assert!(matches!(session.login_refused(LoginRefusal::Wrong), Step::Reply(_)));
        }
        assert!(matches!(session.login_refused(LoginRefusal::InUse), Step::Close(_)));
    }

    #[test]
    fn a_password_needs_a_user_each_time() {
        let mut session = Session::new(true);
        check(&mut session, &["PASS b"], reply("-ERR send USER first"));
        assert!(matches!(session.line(b"USER a"), Step::Reply(_)));
        assert!(matches!(session.line(b"PASS b"), Step::Login { .. }));
        session.login_refused(LoginRefusal::Wrong);
        check(&mut session, &["PASS b"], reply("-ERR send USER first"));
    }

    #[test]
    fn deleted_messages_leave_every_answer_and_come_back_with_rset() {
        let mut session = in_transaction(3);
        check(&mut session, &["DELE 2", "STAT"], reply("+OK 2 40"));
        for line in ["RETR 2", "TOP 2 0", "LIST 2", "UIDL 2", "DELE 2"] {
            check(&mut session, &[line], reply("-ERR message is marked as deleted"));
        }
        check(&mut session, &["LIST"], Step::Listing("+OK 2 messages (40 octets)".into()));
        let mut output = Vec::new();
        assert!(!session.more(&mut output));
        assert_eq!(output, b"1 10\r\n3 30\r\n.\r\n");
        check(&mut session, &["RSET", "STAT"], reply("+OK 3 60"));
        check(&mut session, &["QUIT"], Step::Commit { deleted: vec![] });
    }

    #[test]
    fn quit_commits_what_is_marked() {
        let mut session = in_transaction(3);
        session.mark_fetched(1);
        session.mark_fetched(7);
        check(&mut session, &["DELE 1", "DELE 3", "QUIT"], Step::Commit { deleted: vec![0, 2] });
        assert_eq!(session.fetched(), [1]);
        assert!(session.committed(Err(FetchError::Temporary)).starts_with("-ERR [SYS/TEMP]"));
        assert!(matches!(session.line(b"STAT"), Step::Close(_)));
    }

    #[test]
    fn numbers_that_name_nothing_are_answered() {
        let mut session = in_transaction(1);
        for line in ["RETR 0", "RETR 2", "DELE 18446744073709551615", "TOP 99999999999999999999 1"] {
            check(&mut session, &[line], reply("-ERR no such message"));
        }
    }

    #[test]
    fn a_long_listing_comes_in_pieces() {
        let messages = 20_000;
        let mut session = in_transaction(messages);
        assert!(matches!(session.line(b"UIDL"), Step::Listing(_)));
        let (mut pieces, mut whole) = (0, Vec::new());
        loop {
            let mut piece = Vec::new();
            let more = session.more(&mut piece);
            assert!(piece.len() < LISTING_PIECE_OCTETS + 100);
            whole.extend_from_slice(&piece);
            pieces += 1;
            if !more {
                break;
            }
        }
        assert!(pieces > 1);
        assert_eq!(whole.iter().filter(|&&octet| octet == b'\n').count(), messages + 1);
        assert!(whole.ends_with(b"\r\n20000 u20000\r\n.\r\n"));
    }

    #[test]
    fn gives_up_a_client_that_speaks_something_else() {
        let mut session = Session::new(false);
        for _ in 1..BAD_COMMANDS_MAX {
            assert!(matches!(session.line(b"GET / HTTP/1.1\r\n"), Step::Reply(_)));
        }
        assert!(matches!(session.line(b"Host: x\r\n"), Step::Close(_)));
    }

    #[test]
    fn no_reply_is_longer_than_a_line_may_be() {
        let mut session = in_transaction(1);
        let mut replies = vec![session.greeting(), session.shutdown_reply(), session.message_reply(0, None)];
        replies.extend(
            [FetchError::Temporary, FetchError::Gone, FetchError::Damaged, FetchError::LacksKey]
                .map(|e| session.unreadable_reply(e)),
        );
        if let Step::Reply(capa) = session.line(b"CAPA") {
            replies.push(capa);
        }
        assert!(
            replies.len() == 8 && replies.iter().flat_map(|reply| reply.lines()).all(|line| line.len() < 510)
        );
    }
}
