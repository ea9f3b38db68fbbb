//! An IMAP session at play with folders in memory: no connection, no runtime, and a client that believes what it is told.
//!
//! What must hold whatever is said is checked all the time: each command is answered once, by its tag; what is said is whole lines
//! of printable ASCII; numbers mean the messages the client was told of, until it is told otherwise, and that is not while
//! numbers are in use (RFC 3501 §7.4.1); nothing is said behind the end.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::imap_fake::{Fake, LOGIN, PASSWORD};
use daybook::fetch::auth::LoginRefusal;
use daybook::fetch::folders::{Changes, ENTRIES_MAX, Folder, FolderRow, Folders, changes};
use daybook::fetch::imap::session::Session;
use daybook::fetch::imap::step::{
    Answer, Ask, FetchJob, Fetched, Numbered, Opened, SearchError, SearchJob, Step,
};
use daybook::fetch::maildrop::{BoxFuture, FetchError};
use daybook::mail::{FlagChange, Flags, Uid};
use imap_codec::imap_types::fetch::MessageDataItemName;
use imap_codec::imap_types::search::SearchKey;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Called with the name of what is asked, before it is answered.
type Meanwhile = Box<dyn FnMut(&Fake, &str)>;

/// A session and its client.
pub(crate) struct Play {
    pub(crate) session: Session,
    pub(crate) fake: Fake,
    /// What others do while a command is at work.
    pub(crate) meanwhile: Option<Meanwhile>,
    /// Names of what was asked of the store.
    pub(crate) asked: Vec<String>,
    /// The jobs of FETCH.
    pub(crate) jobs: Vec<FetchJob>,
    /// The session has ended.
    pub(crate) is_over: bool,
    /// Octets of the literal that is to come.
    literal: Option<usize>,
    folder: Option<Arc<dyn Folder>>,
    /// UIDs of the messages the client knows, in the order of their numbers.
    pub(crate) known: Vec<u32>,
    said: String,
    /// Of the command at work.
    tag: String,
    verb: String,
}

impl Play {
    /// A session that begins.
    pub(crate) fn new(encrypted: bool, fake: Fake) -> Play {
        Play {
            session: Session::new(encrypted),
            fake,
            meanwhile: None,
            asked: Vec::new(),
            jobs: Vec::new(),
            is_over: false,
            literal: None,
            folder: None,
            known: Vec::new(),
            said: String::new(),
            tag: String::new(),
            verb: String::new(),
        }
    }

    /// A session over TLS, logged in.
    pub(crate) fn logged_in(fake: Fake) -> Play {
        let mut play = Play::new(true, fake);
        let said = play.line(&format!("a LOGIN {LOGIN} {PASSWORD}"));
        assert!(said.starts_with("a OK "), "{said}");
        play
    }

    /// A session that opened INBOX.
    pub(crate) fn in_inbox(fake: Fake) -> Play {
        let mut play = Play::logged_in(fake);
        let said = play.line("b SELECT INBOX");
        assert!(said.contains("b OK [READ-WRITE]"), "{said}");
        play.asked.clear();
        play
    }

    /// Sends a line; gives what was said to it.
    pub(crate) fn line(&mut self, line: &str) -> String {
        self.octets_line(line.as_bytes())
    }

    /// Sends a line that need not be text.
    pub(crate) fn octets_line(&mut self, line: &[u8]) -> String {
        assert!(self.literal.is_none(), "a literal is due");
        let step = if line.len() > self.session.line_octets_max() {
            self.session.too_long()
        } else {
            self.note_command(line);
            self.session.line(line)
        };
        self.carry_out(step)
    }

    /// Sends the literal that is due.
    pub(crate) fn literal(&mut self, octets: &[u8]) -> String {
        assert_eq!(self.literal.take(), Some(octets.len()), "another literal is due");
        let step = self.session.literal(octets);
        self.carry_out(step)
    }

    /// Sends octets as they come, while the session goes on.
    pub(crate) fn octets(&mut self, mut octets: &[u8]) {
        while !self.is_over && !octets.is_empty() {
            match self.literal {
                Some(length) => {
                    let Some((literal, rest)) = octets.split_at_checked(length) else { return };
                    octets = rest;
                    self.literal(literal);
                }
                None => {
                    let end =
                        octets.iter().position(|octet| *octet == b'\n').map_or(octets.len(), |at| at + 1);
                    let (line, rest) = octets.split_at(end);
                    octets = rest;
                    self.octets_line(line);
                }
            }
        }
    }

    /// Tells an idling client what happened.
    pub(crate) fn push(&mut self) -> String {
        let step = self.session.pushed(self.changes());
        self.carry_out(step)
    }

    /// Remembers the tag and verb of a command that begins.
    fn note_command(&mut self, line: &[u8]) {
        if !self.tag.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(line).to_ascii_uppercase();
        let mut words = line.trim_end().split(' ');
        self.tag = words.next().unwrap_or_default().to_owned();
        self.verb = words.next().unwrap_or_default().to_owned();
    }

    fn carry_out(&mut self, mut step: Step) -> String {
        assert!(!self.is_over, "goes on behind the end");
        loop {
            step = match step {
                Step::Reply(output) | Step::ClearRefused(output) => return self.turn_ends(&output, true),
                Step::Challenge(output) | Step::Idle(output) => return self.turn_ends(&output, false),
                Step::Literal { send, octets } => {
                    assert!((1..=64 * 1024).contains(&octets), "{octets} octets");
                    self.literal = Some(octets);
                    return self.turn_ends(&send, false);
                }
                Step::StartTls(output) => {
                    let said = self.turn_ends(&output, true);
                    self.session.tls_started();
                    return said;
                }
                Step::Close(output) => {
                    self.is_over = true;
                    return self.turn_ends(&output, true);
                }
                Step::Login { login, password } => {
                    let is_right = login == LOGIN && password.reveal() == PASSWORD;
                    match self.fake.account() {
                        Ok(account) if is_right => self.session.logged_in(account),
                        Ok(_) => self.session.login_refused(LoginRefusal::Wrong),
                        Err(_) => self.session.login_refused(LoginRefusal::Unavailable),
                    }
                }
                Step::Ask(output, ask) => {
                    self.say(&output);
                    let answer = self.answer(ask);
                    self.session.answered(answer)
                }
                Step::Fetch(job) => {
                    let fetched = self.fetch(&job);
                    self.jobs.push(job);
                    self.session.fetched(fetched)
                }
                Step::Search(job) => {
                    let found = self.search(&job);
                    self.session.searched(found)
                }
            };
        }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        let name = format!("{ask:?}").split('(').next().unwrap().to_owned();
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile(&self.fake, &name);
        }
        self.asked.push(name);
        match ask {
            Ask::List => Answer::List(self.fake.list()),
            Ask::Status(path) => Answer::Status(self.fake.status(&path)),
            Ask::Open(path) => Answer::Open(self.open(&path)),
            Ask::Leave => {
                self.folder = None;
                Answer::Leave
            }
            Ask::Changes(known) => {
                assert_eq!(self.session.marks(), Some(known), "what the session knows");
                Answer::Changes(self.changes())
            }
            Ask::SetFlags(uids, change) => {
                assert!(!uids.is_empty() && uids.is_sorted_by(|a, b| a < b), "{uids:?}");
                Answer::SetFlags(now(self.open_folder().set_flags(uids, change)))
            }
            Ask::Expunge(uids) => {
                assert!(!uids.is_empty() && uids.is_sorted_by(|a, b| a < b), "{uids:?}");
                Answer::Expunge(now(self.open_folder().expunge(uids)))
            }
        }
    }

    fn open(&mut self, path: &str) -> Result<Option<Opened>, FetchError> {
        self.known.clear();
        let Some(folder) = self.fake.open(path)? else { return Ok(None) };
        self.folder = Some(Arc::clone(&folder));
        let (marks, rows) = folder.rows(Uid::FIRST)?;
        Ok(Some(Opened { folder, marks, rows, account: self.fake.account()? }))
    }

    fn open_folder(&self) -> Arc<dyn Folder> {
        Arc::clone(self.folder.as_ref().unwrap())
    }

    fn changes(&self) -> Result<Changes, FetchError> {
        let Some(known) = self.session.marks() else { return Ok(Changes::None) };
        changes(self.open_folder().as_ref(), known)
    }

    fn is_known(&self, message: &Numbered) {
        let index = message.number as usize - 1;
        assert_eq!(self.known.get(index), Some(&message.row.uid.value()), "number {}", message.number);
    }

    /// Tells UID and flags of each, whatever is asked for.
    fn fetch(&mut self, job: &FetchJob) -> Fetched {
        let folder = self.open_folder();
        let sets_seen = |item: &MessageDataItemName<'_>| {
            matches!(
                item,
                MessageDataItemName::BodyExt { peek: false, .. }
                    | MessageDataItemName::Rfc822
                    | MessageDataItemName::Rfc822Text
            )
        };
        let sets_seen = job.may_set_seen && job.items.iter().any(sets_seen);
        let mut fetched = Fetched::default();
        let mut seen = Vec::new();
        let asked: Vec<Uid> = job.messages.iter().map(|message| message.row.uid).collect();
        let entries = asked.chunks(ENTRIES_MAX).flat_map(|uids| folder.entries(uids).unwrap());
        let there: BTreeSet<Uid> = entries.map(|entry| entry.uid).collect();
        for message in &job.messages {
            self.is_known(message);
            let FolderRow { uid, flags } = message.row;
            if !there.contains(&uid) {
                fetched.gone += 1;
                continue;
            }
            self.say(format!("* {} FETCH (UID {uid} FLAGS ({flags}))\r\n", message.number).as_bytes());
            if sets_seen && !flags.contains(Flags::SEEN) {
                seen.push(uid);
            }
        }
        if !seen.is_empty() {
            fetched.seen = now(folder.set_flags(seen, FlagChange::Add(Flags::SEEN))).unwrap_or_default();
        }
        if let Some((uid, _)) = self.fake.state().faults.damaged
            && job.messages.iter().any(|message| message.row.uid.value() == uid)
        {
            fetched.failed = Some((1, FetchError::Damaged));
        }
        fetched
    }

    /// Knows UNSEEN and finds everything for all else.
    fn search(&mut self, job: &SearchJob) -> Result<Vec<Numbered>, SearchError> {
        if matches!(job.key, SearchKey::Body(_)) {
            return Err(SearchError::TooMuch("too much".to_owned()));
        }
        let mut found = job.messages.clone();
        // What came just now is told together with what is found; so is what went, where numbers are not in use.
        let known = if self.verb == "SEARCH" { self.known.len() } else { 0 };
        found.iter().filter(|m| m.number as usize <= known).for_each(|message| self.is_known(message));
        if job.key == SearchKey::Unseen {
            found.retain(|message| !message.row.flags.contains(Flags::SEEN));
        }
        Ok(found)
    }

    /// Says something, and has the client believe it.
    fn say(&mut self, output: &[u8]) {
        let text = std::str::from_utf8(output).unwrap();
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        for line in text.split_terminator("\r\n") {
            assert!(line.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{line:?}");
            self.believe(line);
        }
        self.said.push_str(text);
    }

    fn believe(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (Some("*"), Some(number), Some(what)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let Ok(number) = number.parse::<usize>() else { return };
        let known = self.known.len();
        match what {
            "EXISTS" => {
                assert!(number >= known, "{line} with {known}");
                let last = self.known.last().copied().unwrap_or(0);
                let rows = self.fake.rows(self.open_folder().path());
                let came = rows.into_iter().map(|(uid, _)| uid).filter(|uid| *uid > last);
                self.known.extend(came.take(number - known));
                assert_eq!(self.known.len(), number, "{line}");
            }
            "EXPUNGE" => {
                assert!((1..=known).contains(&number), "{line} with {known}");
                let in_use = ["FETCH", "STORE", "SEARCH"].contains(&self.verb.as_str());
                assert!(!in_use, "{line} while {} uses numbers", self.verb);
                let uid = self.known.remove(number - 1);
                let rows = self.fake.rows(self.open_folder().path());
                assert!(rows.iter().all(|(there, _)| *there != uid), "{line}: UID {uid} is there");
            }
            "FETCH" => assert!((1..=known).contains(&number), "{line} with {known}"),
            _ => {}
        }
    }

    /// What was said in this turn. The end of a command has been told by its tag, once.
    fn turn_ends(&mut self, output: &[u8], may_end: bool) -> String {
        self.say(output);
        let said = std::mem::take(&mut self.said);
        let ends = said.lines().filter(|line| {
            let first = line.split(' ').next().unwrap_or_default();
            first != "*" && first.eq_ignore_ascii_case(&self.tag) || line.starts_with("* BAD")
        });
        let ends = ends.count();
        let is_push_or_middle = said.is_empty() || self.session.is_idling() || said.starts_with('+');
        if may_end && !is_push_or_middle && !self.is_over {
            assert_eq!(ends, 1, "{} {}: {said}", self.tag, self.verb);
        } else {
            assert!(ends <= 1, "{} {}: {said}", self.tag, self.verb);
        }
        if ends == 1 || self.is_over {
            self.tag.clear();
            self.verb.clear();
        }
        said
    }
}

/// The folders in memory are ready after some turns.
fn now<T>(mut future: BoxFuture<'_, T>) -> T {
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}
