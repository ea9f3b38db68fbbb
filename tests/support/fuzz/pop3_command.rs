//! Fuzz target `pop3_command`: whatever a client says, over TLS or in clear, the POP3 session keeps its promises. Run by
//! `tests/fuzz` and, over all that was ever found, by `tests/fuzz_replay.rs`.
//!
//! Input: an octet of settings, then what the client sends, cut into lines at LF. The settings are: bit 0 TLS from the start, bits
//! 1–3 how many messages there are, bit 4 whether the password is refused, bit 5 whether the commit fails.
//!
//! Checked, by a count of our own beside the session's:
//! - no login is asked for, and no challenge sent, in clear;
//! - every step is answered with whole lines, with no octet of the client's and none beyond ASCII in them;
//! - deletes are asked for by QUIT alone, name messages that are there, each once, and are those marked since the last RSET;
//! - a message that is marked is never given, listed or counted;
//! - a client that breaks off or guesses is let go after as many tries as the session says.

use daybook::fetch::auth::{LoginRefusal, Password};
use daybook::fetch::maildrop::{FetchError, MaildropEntry};
use daybook::fetch::pop3::command::Command;
use daybook::fetch::pop3::session::{BAD_COMMANDS_MAX, LOGIN_ATTEMPTS_MAX, Session, Step};
use daybook::mail::CanonicalSize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Panics when the session breaks a promise.
pub(crate) fn run(input: &[u8]) {
    let [settings, sent @ ..] = input else { return };
    let mut client = Client::new(*settings);
    for line in sent.split_inclusive(|octet| *octet == b'\n') {
        if !client.say(line) {
            return;
        }
    }
}

struct Client {
    session: Session,
    encrypted: bool,
    entries: Arc<[MaildropEntry]>,
    is_refused: bool,
    fails: bool,
    marked: BTreeSet<usize>,
    errors: u32,
    refusals: u32,
}

impl Client {
    fn new(settings: u8) -> Client {
        let encrypted = settings & 1 != 0;
        let entry = |number: u8| MaildropEntry {
            uidl: format!("u{number}"),
            canonical: CanonicalSize {
                octets: 10 + u64::from(number),
                ends_with_line_end: true,
                ..CanonicalSize::default()
            },
        };
        Client {
            session: Session::new(encrypted),
            encrypted,
            entries: (1..=(settings >> 1) & 7).map(entry).collect(),
            is_refused: settings & 16 != 0,
            fails: settings & 32 != 0,
            marked: BTreeSet::new(),
            errors: 0,
            refusals: 0,
        }
    }

    /// Says a line; false once the session is over.
    fn say(&mut self, line: &[u8]) -> bool {
        let was_in = self.session.is_logged_in();
        let octets_max = self.session.line_octets_max();
        let command = (octets_max < 1000).then(|| Command::parse(line).ok()).flatten();
        let is_long = line.len() > octets_max;
        let step = if is_long { self.session.too_long() } else { self.session.line(line) };
        let command = command.filter(|_| !is_long);
        match step {
            Step::Reply(reply) => {
                assert!(self.encrypted || !reply.starts_with("+ "), "a challenge in clear");
                self.look_at(&reply, was_in);
                self.note(command.as_ref(), &reply);
            }
            Step::ClearRefused(reply) => {
                assert!(!self.encrypted && reply.starts_with("-ERR [AUTH] "), "{reply}");
                check_lines(&reply);
                self.errors = 0;
            }
            Step::Listing(reply) => {
                check_lines(&reply);
                self.check_listing();
                self.errors = 0;
            }
            Step::StartTls(reply) => {
                assert!(!self.encrypted && reply.starts_with("+OK"), "TLS begins twice");
                self.session.tls_started();
                self.encrypted = true;
                self.errors = 0;
            }
            Step::Login { login, password } => return self.log_in(&login, &password),
            Step::Message { index, .. } => {
                assert!(index < self.entries.len() && !self.marked.contains(&index), "message {index}");
                check_lines(&self.session.message_reply(index, None));
                self.session.mark_fetched(index);
                self.errors = 0;
            }
            Step::Commit { deleted } => {
                assert_eq!(command, Some(Command::Quit), "deletes without QUIT");
                let marked: Vec<usize> = self.marked.iter().copied().collect();
                assert_eq!(deleted, marked, "other messages than those marked");
                let done = if self.fails { Err(FetchError::Temporary) } else { Ok(deleted.len()) };
                let reply = self.session.committed(done);
                assert_eq!(reply.starts_with("+OK"), !self.fails, "{reply}");
                assert!(matches!(self.session.line(b"NOOP"), Step::Close(_)), "it goes on behind the end");
                return false;
            }
            Step::Close(reply) => {
                check_lines(&reply);
                let has_quit = matches!(command, Some(Command::Quit)) && !was_in;
                assert!(has_quit || self.errors + 1 == BAD_COMMANDS_MAX, "closed after {}", self.errors);
                return false;
            }
        }
        true
    }

    /// A password is asked for over TLS alone; it may be right or wrong.
    fn log_in(&mut self, login: &str, password: &Password) -> bool {
        assert!(self.encrypted, "a login in clear");
        assert!(!login.is_empty() && !login.chars().any(char::is_control), "{login:?}");
        assert!(!password.reveal().is_empty());
        self.errors = 0;
        if !self.is_refused {
            let reply = self.session.logged_in(Arc::clone(&self.entries));
            assert!(reply.starts_with("+OK") && self.session.is_logged_in());
            return true;
        }
        self.refusals += 1;
        match self.session.login_refused(LoginRefusal::Wrong) {
            Step::Reply(reply) => {
                assert!(reply.starts_with("-ERR [AUTH] ") && self.refusals < LOGIN_ATTEMPTS_MAX);
                true
            }
            Step::Close(_) => {
                assert_eq!(self.refusals, LOGIN_ATTEMPTS_MAX);
                false
            }
            step => panic!("a refusal became {step:?}"),
        }
    }

    fn look_at(&mut self, reply: &str, was_in: bool) {
        check_lines(reply);
        assert!(["+OK", "-ERR", "+ "].iter().any(|start| reply.starts_with(start)), "{reply}");
        // Wrong numbers in TRANSACTION are answered and not counted; whoever is not in has nothing to be wrong about.
        let counts = reply.starts_with("-ERR")
            && !(was_in && (reply.contains("no such message") || reply.contains("marked as deleted")));
        self.errors = match (counts, reply.starts_with("+ ")) {
            (true, _) => self.errors + 1,
            // An exchange that goes on is neither.
            (false, true) => self.errors,
            (false, false) => 0,
        };
        assert!(self.errors < BAD_COMMANDS_MAX, "never given up");
    }

    /// Keeps count of what is marked, by what was said and answered.
    fn note(&mut self, command: Option<&Command>, reply: &str) {
        let octets = |marked: &BTreeSet<usize>| {
            let left = self.entries.iter().enumerate().filter(|(index, _)| !marked.contains(index));
            left.fold((0, 0), |(count, sum), (_, entry)| (count + 1, sum + entry.canonical.octets))
        };
        match command {
            Some(Command::Dele(number)) if reply.starts_with("+OK") => {
                let index = usize::try_from(number - 1).unwrap();
                assert!(index < self.entries.len() && self.marked.insert(index), "marked twice");
            }
            Some(Command::Rset) if reply.starts_with("+OK") => self.marked.clear(),
            Some(Command::Stat) if reply.starts_with("+OK") => {
                let (count, sum): (u64, u64) = octets(&self.marked);
                assert_eq!(reply, format!("+OK {count} {sum}"));
            }
            _ => {}
        }
    }

    fn check_listing(&mut self) {
        let mut output = Vec::new();
        while self.session.more(&mut output) {}
        let text = String::from_utf8(output).expect("a listing is ASCII");
        let lines: Vec<&str> =
            text.strip_suffix(".\r\n").expect("a listing ends in a dot").split_terminator("\r\n").collect();
        let numbers: Vec<usize> =
            lines.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        let expect: Vec<usize> =
            (1..=self.entries.len()).filter(|number| !self.marked.contains(&(number - 1))).collect();
        assert_eq!(numbers, expect);
    }
}

/// Whole lines of text that RFC 2449 §4 allows.
fn check_lines(reply: &str) {
    for line in reply.split("\r\n") {
        assert!(line.len() <= 510 && line.bytes().all(|octet| (b' '..0x7f).contains(&octet)), "{line:?}");
    }
}
