//! Fuzz target `smtp_session`: whatever a peer sends, however it is cut and whatever the receiver does, the session keeps
//! its promises. Run by `tests/fuzz` and, over all that was ever found, by `tests/fuzz_replay.rs`.
//!
//! Input: an octet of settings, one with the number of cuts (at most 15), that many octets of piece sizes, then what the
//! peer sends. The settings are: bits 0–1 where a fault is met (nowhere, begin, write, commit), bits 2–4 which, bit 5
//! small limits, bit 6 STARTTLS offered, bit 7 TLS required.
//!
//! Checked in [`Shell`], by a reading of the octets of its own:
//! - a body ends where RFC 5321 §4.5.2 or the size of BDAT says, to the octet, kept or refused; one that is far too large ends
//!   the session;
//! - what is committed is what was sent, and 250 with a receipt id is said for it and for nothing else;
//! - replies are well formed, nothing happens behind the one that closes, and every step gets on;
//! - what is said and kept does not depend on the cuts, but for octets that wait behind DATA and STARTTLS.

use daybook::mail::{ReceiptId, SessionId, TlsFacts};
use daybook::smtp::command::Command;
use daybook::smtp::reply::{Outcome, Reply};
use daybook::smtp::session::{DRAIN_FACTOR, Effect, Policy, Session, Step};
use daybook::smtp::{Fault, RecipientVerdict};

const FAULTS: [Fault; 5] =
    [Fault::StoreFull, Fault::StoreTrouble, Fault::Busy, Fault::ShuttingDown, Fault::Internal];

/// Longer inputs are not run octet by octet: it takes more time than it teaches.
const OCTET_BY_OCTET_MAX: usize = 512;

/// Panics when the session breaks a promise.
pub(crate) fn run(input: &[u8]) {
    let [settings, count, rest @ ..] = input else { return };
    let (sizes, sent) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let mut at = 0;
    let cuts: Vec<usize> = sizes
        .iter()
        .map(|size| {
            at += usize::from(*size).max(1);
            at
        })
        .collect();
    // All at once first: DATA and STARTTLS must refuse what waits behind them.
    Shell::new(*settings, sent).play(&[]);
    let needed = behind_waiting_lines(sent);
    let whole = Shell::new(*settings, sent).play(&needed);
    if sent.len() <= OCTET_BY_OCTET_MAX {
        let all: Vec<usize> = (1..sent.len()).collect();
        assert_eq!(Shell::new(*settings, sent).play(&all), whole, "octet by octet");
    }
    let cuts = [cuts, needed].concat();
    assert_eq!(Shell::new(*settings, sent).play(&cuts), whole, "cut at {cuts:?}");
}

/// Where the lines end that may be DATA or STARTTLS: a peer waits there for the reply.
fn behind_waiting_lines(sent: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut ends = Vec::new();
    for line in sent.split_inclusive(|octet| *octet == b'\n') {
        at += line.len();
        let upper = String::from_utf8_lossy(line).to_ascii_uppercase();
        if upper.contains("DATA") || upper.contains("STARTTLS") {
            ends.push(at);
        }
    }
    ends
}

/// What came of a session.
#[derive(Debug, PartialEq, Eq)]
struct Played {
    said: String,
    closed: bool,
    messages: Vec<Vec<u8>>,
}

/// Where the body that is being read must end, by our own reading.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// From the first octet behind the line of DATA; `None`: the end has not been sent.
    Data { start: usize, end: Option<usize> },
    /// From the first octet behind the line of BDAT.
    Chunk { start: usize, end: usize },
}

/// The shell around a session, watching it.
struct Shell<'i> {
    settings: u8,
    /// What is refused and longer may be given up.
    drain_max: usize,
    sent: &'i [u8],
    session: Session,
    /// Octets of `sent` the session is done with.
    consumed: usize,
    /// Octets of `sent` the session has seen.
    shown: usize,
    /// Where the command line being read began.
    line_start: usize,
    body: Option<Body>,
    /// The octets of the chunks of this message, as sent.
    chunks: Vec<u8>,
    reception: Option<Vec<u8>>,
    /// The last reply closes.
    over: bool,
    drawn: u64,
    played: Played,
}

impl<'i> Shell<'i> {
    fn new(settings: u8, sent: &'i [u8]) -> Shell<'i> {
        let small = settings & 0x20 != 0;
        let message_octets_max = if small { 40 } else { 100_000 };
        let policy = Policy {
            hostname: "mx.example".to_owned(),
            message_octets_max,
            tls_offered: settings & 0x40 != 0,
            require_tls: settings & 0x80 != 0,
            recipients_max: if small { 2 } else { 100 },
            errors_max: if small { 3 } else { 20 },
            messages_max: if small { 2 } else { 100 },
            tarpit_max: std::time::Duration::from_secs(8),
        };
        let session = Session::new(policy, SessionId::new(1, [0; 10]), "192.0.2.1:25".parse().unwrap());
        Shell {
            settings,
            drain_max: usize::try_from(message_octets_max * DRAIN_FACTOR).unwrap(),
            sent,
            session,
            consumed: 0,
            shown: 0,
            line_start: 0,
            body: None,
            chunks: Vec::new(),
            reception: None,
            over: false,
            drawn: 0,
            played: Played { said: String::new(), closed: false, messages: Vec::new() },
        }
    }

    /// Shows the octets cut at these places.
    fn play(mut self, cuts: &[usize]) -> Played {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(self.sent.len())).collect();
        cuts.extend([0, self.sent.len()]);
        cuts.sort_unstable();
        for cut in cuts {
            self.shown = cut;
            // Each step consumes, says or asks something; the most a line brings is a handful of steps.
            let steps_max = 16 + 8 * (self.shown - self.consumed);
            let steps = (0..=steps_max).take_while(|_| self.step()).count();
            assert!(steps <= steps_max, "the session does not get on");
        }
        self.played
    }

    fn fault(&self, place: u8) -> Result<(), Fault> {
        let fault = FAULTS[usize::from(self.settings >> 2 & 7) % FAULTS.len()];
        if self.settings & 3 == place { Err(fault) } else { Ok(()) }
    }

    /// One step. False when more octets are needed, or none.
    fn step(&mut self) -> bool {
        let sent = self.sent;
        let seen = &sent[self.consumed..self.shown];
        let was_in_body = self.session.is_in_body();
        assert_eq!(was_in_body, self.body.is_some(), "body or not, at {}", self.consumed);
        let Step { consumed, effect } = self.session.step(seen);
        assert!(consumed <= seen.len(), "consumed {consumed} of {}", seen.len());
        if self.over || self.played.closed {
            assert!(consumed == 0 && matches!(effect, Effect::Close), "{effect:?} behind the end");
        }
        self.consumed += consumed;
        if was_in_body {
            self.watch_body(&effect);
        } else if consumed > 0 {
            self.watch_line();
        }
        let more = self.carry_out(effect, was_in_body);
        if self.over || self.played.closed {
            self.body = None;
        }
        more
    }

    /// Octets of a body were consumed: never more than it has, and it is not left before its end.
    fn watch_body(&mut self, effect: &Effect<'_>) {
        let in_body = self.session.is_in_body();
        match self.body {
            Some(Body::Data { start, end }) => {
                assert!(end.is_none_or(|end| self.consumed <= end), "read beyond the end of DATA");
                let is_given_up = !in_body && self.consumed - start > self.drain_max;
                assert!(
                    is_given_up || in_body == (end != Some(self.consumed)),
                    "left DATA elsewhere than at its end"
                );
                if is_given_up && end != Some(self.consumed) {
                    assert!(matches!(effect, Effect::Discard | Effect::Reply(Reply { closes: true, .. })));
                    self.body = None;
                }
            }
            Some(Body::Chunk { end, .. }) => {
                assert!(self.consumed <= end, "read beyond the chunk");
                assert!(in_body || self.consumed == end, "left the chunk before its end");
            }
            None => {}
        }
        if in_body {
            return;
        }
        self.line_start = self.consumed;
        match (self.body.take(), effect) {
            (Some(Body::Data { start, end }), Effect::Commit) => {
                let expect = message_of_data(&self.sent[start..end.unwrap_or(start)]);
                assert_eq!(self.reception, expect, "kept as sent");
            }
            (Some(Body::Data { .. }), effect) => {
                assert!(
                    matches!(effect, Effect::Reply(reply) if reply.code >= 400),
                    "{effect:?} to a lost body"
                );
            }
            (Some(Body::Chunk { start, end }), effect) => {
                self.chunks.extend_from_slice(&self.sent[start..end]);
                if matches!(effect, Effect::Commit) {
                    assert_eq!(self.reception.as_ref(), Some(&self.chunks), "kept as sent");
                }
            }
            (None, _) => {}
        }
    }

    /// Octets of a command line were consumed. If they were the rest of it and it was BDAT, a chunk follows.
    fn watch_line(&mut self) {
        let line = &self.sent[self.line_start..self.consumed];
        if !line.ends_with(b"\n") {
            return;
        }
        if let Ok(Command::Bdat { octets, .. }) = Command::parse(line) {
            let octets = usize::try_from(octets).unwrap_or(usize::MAX);
            if octets <= self.drain_max {
                self.body = Some(Body::Chunk { start: self.consumed, end: self.consumed + octets });
            }
        }
        self.line_start = self.consumed;
    }

    fn carry_out(&mut self, effect: Effect<'_>, was_in_body: bool) -> bool {
        match effect {
            Effect::Input => {
                assert!(!self.over, "wants more behind the end");
                return false;
            }
            Effect::Reply(reply) => {
                assert!(!promises_storage(&reply), "says that something was stored");
                self.say(&reply);
            }
            Effect::Open(_) => {
                self.drawn += 1;
                let reply = self.session.opened(Ok(ReceiptId::new(self.drawn, [0; 10])));
                self.say(&reply);
            }
            Effect::Recipient(address) => {
                let verdict = match address.local() {
                    "journal" => RecipientVerdict::Accept,
                    "suspended" => RecipientVerdict::Suspended,
                    _ => RecipientVerdict::Unknown,
                };
                let reply = self.session.recipient(verdict);
                self.say(&reply);
            }
            Effect::Begin(envelope) => {
                assert!(!envelope.recipients.is_empty() && self.reception.is_none(), "begins {envelope:?}");
                self.begin();
            }
            Effect::Body([]) => {}
            Effect::Body(octets) => {
                assert!(was_in_body, "body outside of a body");
                let reception = self.reception.as_mut().expect("body for no message");
                reception.extend_from_slice(octets);
                if let Err(fault) = self.fault(2) {
                    self.reception = None;
                    self.session.body_failed(fault);
                }
            }
            Effect::Discard => self.reception = None,
            Effect::Commit => self.commit(),
            Effect::StartTls => self.start_tls(),
            Effect::Close => {
                self.reception = None;
                let closed = std::mem::replace(&mut self.played.closed, true);
                return !closed;
            }
        }
        true
    }

    fn begin(&mut self) {
        self.chunks.clear();
        let result = self.fault(1);
        if result.is_ok() {
            self.reception = Some(Vec::new());
        }
        if let Some(reply) = self.session.begun(result) {
            if reply.code == 354 {
                let end = end_of_data(&self.sent[self.consumed..]).map(|end| self.consumed + end);
                self.body = Some(Body::Data { start: self.consumed, end });
            }
            self.say(&reply);
        }
    }

    fn commit(&mut self) {
        let message = self.reception.take().expect("commits no message");
        let result = self.fault(3);
        let reply = self.session.committed(result);
        assert_eq!(promises_storage(&reply), result.is_ok(), "{reply:?} to {result:?}");
        if result.is_ok() {
            self.played.messages.push(message);
        }
        self.say(&reply);
    }

    fn start_tls(&mut self) {
        assert_eq!(self.consumed, self.shown, "octets received in clear would be read as if over TLS");
        self.say(&Outcome::SendHandshake.into());
        self.reception = None;
        let facts = TlsFacts { version: String::new(), cipher: String::new(), client_certificate: None };
        self.session.tls_started(facts);
        assert!(self.session.helo().is_none() && self.session.recipients().is_empty(), "learned in clear");
    }

    fn say(&mut self, reply: &Reply) {
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        let text = String::from_utf8(wire).expect("replies are text");
        check_reply(reply, &text);
        self.over |= reply.closes;
        self.played.said.push_str(&text);
    }
}

/// True for `250 2.0.0 Ok <receipt id>`.
fn promises_storage(reply: &Reply) -> bool {
    reply.code == 250 && reply.lines.iter().any(|line| line.starts_with("Ok "))
}

/// RFC 5321 §4.2: three digits, a hyphen on all lines but the last, printable ASCII, CRLF.
fn check_reply(reply: &Reply, text: &str) {
    assert!((200..600).contains(&reply.code), "{text:?}");
    let lines: Vec<&str> = text.strip_suffix("\r\n").expect("ends in CRLF").split("\r\n").collect();
    for (index, line) in lines.iter().enumerate() {
        let mark = if index + 1 == lines.len() { ' ' } else { '-' };
        assert!(line.starts_with(&format!("{}{mark}", reply.code)), "{text:?}");
        assert!(line.len() <= 510 && line.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{text:?}");
    }
}

/// Behind the octets that end a message of DATA: the first CRLF.CRLF of CRLF and all that is sent.
fn end_of_data(sent: &[u8]) -> Option<usize> {
    if sent.starts_with(b".\r\n") {
        return Some(3);
    }
    sent.windows(5).position(|octets| octets == b"\r\n.\r\n").map(|at| at + 5)
}

/// What a message of DATA, its end included, is once it is received; `None` if it has to be refused.
fn message_of_data(octets: &[u8]) -> Option<Vec<u8>> {
    let text = octets.strip_suffix(b".\r\n")?;
    let mut message = Vec::new();
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let inner = line.strip_suffix(b"\r\n")?;
        if inner.iter().any(|octet| b"\r\0".contains(octet)) {
            return None;
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    Some(message)
}
