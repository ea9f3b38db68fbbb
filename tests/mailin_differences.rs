//! Random conversations of well-formed commands with our session and with `mailin`'s, the first digit of every reply
//! compared. Where the two differ, [`DIFFERENCES`] says so and why; a difference that is not listed fails, and so does one
//! that does not occur.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;
#[path = "support/smtp_sans_io.rs"]
#[expect(dead_code, reason = "no conversation here is over TLS")]
mod smtp_sans_io;

use mailin::{Action, Handler, Response, SessionBuilder, response};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};
use smtp_fake::{Fake, Faults};
use smtp_sans_io::{SansIo, policy};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// A known difference: in which state of ours, behind which command, which classes are said, by us and by `mailin`.
#[derive(Debug)]
struct Difference {
    state: State,
    command: &'static str,
    ours: u16,
    theirs: u16,
    why: &'static str,
}

/// How far a conversation has come, told from our replies alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Before EHLO.
    Start,
    /// No transaction.
    Greeted,
    /// Behind MAIL, no recipient accepted.
    Mail,
    /// Recipients accepted.
    Rcpt,
}

const fn differs(
    state: State,
    command: &'static str,
    ours: u16,
    theirs: u16,
    why: &'static str,
) -> Difference {
    Difference { state, command, ours, theirs, why }
}

const HELP: &str = "RFC 5321 §4.1.1.8 wants HELP at any time; mailin does not know it";
const NOOP: &str = "RFC 5321 §4.1.1.9: NOOP may have a parameter, which is ignored; mailin takes none";
const VRFY: &str = "RFC 5321 §4.1.4 allows VRFY at any time; mailin has it between EHLO and MAIL only";
const NULL_PATH: &str = "every NDR comes from <> (RFC 5321 §4.5.5); mailin refuses it (design D1)";
const SIZE: &str = "Exchange declares SIZE= (RFC 1870), which we offer; mailin refuses it (design D1)";
const CHUNKING: &str =
    "without BDAT Exchange Online does not send bare LF (RFC 3030); mailin does not know it (design D1)";

const DIFFERENCES: &[Difference] = &[
    differs(State::Start, "HELP", 2, 5, HELP),
    differs(State::Greeted, "HELP", 2, 5, HELP),
    differs(State::Mail, "HELP", 2, 5, HELP),
    differs(State::Rcpt, "HELP", 2, 5, HELP),
    differs(State::Start, "NOOP a word", 2, 5, NOOP),
    differs(State::Greeted, "NOOP a word", 2, 5, NOOP),
    differs(State::Mail, "NOOP a word", 2, 5, NOOP),
    differs(State::Rcpt, "NOOP a word", 2, 5, NOOP),
    differs(State::Start, "VRFY journal", 2, 5, VRFY),
    differs(State::Mail, "VRFY journal", 2, 5, VRFY),
    differs(State::Rcpt, "VRFY journal", 2, 5, VRFY),
    differs(State::Greeted, "MAIL FROM:<>", 2, 5, NULL_PATH),
    differs(State::Greeted, "MAIL FROM:<a@client.example> SIZE=1000", 2, 5, SIZE),
    differs(State::Rcpt, "BDAT 0 LAST", 2, 5, CHUNKING),
];

const JOURNAL: &str = "RCPT TO:<journal@gateway.example>";
const NOBODY: &str = "RCPT TO:<nobody@gateway.example>";
const COMMANDS: [&str; 18] = [
    "EHLO client.example",
    "HELO client.example",
    "MAIL FROM:<a@client.example>",
    "MAIL FROM:<a@client.example> BODY=8BITMIME",
    "MAIL FROM:<a@client.example> SIZE=1000",
    "MAIL FROM:<>",
    JOURNAL,
    NOBODY,
    "DATA",
    "RSET",
    "NOOP",
    "NOOP a word",
    "VRFY journal",
    "EXPN staff",
    "HELP",
    "BDAT 0 LAST",
    "STARTTLS",
    "QUIT",
];
/// What stands behind a 354.
const BODY: [&str; 3] = ["Subject: x", "..", "."];

struct Mailin;

impl Handler for Mailin {
    fn rcpt(&mut self, to: &str) -> Response {
        if to == "journal@gateway.example" { response::OK } else { response::NO_MAILBOX }
    }
}

/// The two in conversation.
struct Pair<'f> {
    ours: SansIo<'f>,
    theirs: mailin::Session<Mailin>,
    state: State,
    /// Messages we said 250 for.
    stored: usize,
}

impl Pair<'_> {
    fn new(fake: &Fake) -> Pair<'_> {
        let mut policy = policy();
        // STARTTLS needs a handshake that neither has here; both must refuse it.
        policy.tls_offered = false;
        policy.errors_max = 1000;
        let mut ours = SansIo::new(fake, policy);
        ours.said.clear();
        let theirs = SessionBuilder::new("mx.example").build(Ipv4Addr::LOCALHOST.into(), Mailin);
        Pair { ours, theirs, state: State::Start, stored: 0 }
    }

    /// Says a line to both. Zero stands for no reply.
    fn say(&mut self, line: &str) -> (u16, u16) {
        let line = format!("{line}\r\n");
        self.ours.feed(line.as_bytes());
        let said = std::mem::take(&mut self.ours.said);
        let ours = said.first().map_or(0, |digit| u16::from(digit - b'0'));
        let answer = self.theirs.process(line.as_bytes());
        let theirs = if answer.action == Action::NoReply { 0 } else { answer.code / 100 };
        (ours, theirs)
    }

    /// Brings `mailin` to where we are, so that one difference does not hide the next.
    fn catch_up(&mut self) {
        self.theirs = SessionBuilder::new("mx.example").build(Ipv4Addr::LOCALHOST.into(), Mailin);
        let lines: &[&str] = match self.state {
            State::Start => &[],
            State::Greeted => &["HELO client.example"],
            State::Mail => &["HELO client.example", "MAIL FROM:<a@client.example>"],
            State::Rcpt => &["HELO client.example", "MAIL FROM:<a@client.example>", JOURNAL],
        };
        for line in lines {
            assert!(!self.theirs.process(format!("{line}\r\n").as_bytes()).is_error);
        }
    }

    fn advance(&mut self, command: &str, ours: u16) {
        let verb = command.split(' ').next().unwrap_or_default();
        self.stored += usize::from(matches!((verb, ours), ("BDAT" | ".", 2)));
        self.state = match (verb, ours, self.state) {
            ("EHLO" | "HELO", 2, _) => State::Greeted,
            ("MAIL", 2, _) => State::Mail,
            ("RCPT", 2, _) => State::Rcpt,
            ("RSET", 2, State::Mail | State::Rcpt) => State::Greeted,
            ("BDAT" | ".", 2, _) => State::Greeted,
            (_, _, state) => state,
        };
    }
}

/// Talks to both; notes each difference, which must be a known one.
fn converse(commands: &[&'static str], met: &RefCell<BTreeSet<usize>>) -> Result<(), TestCaseError> {
    let fake = Fake::new(Faults::default());
    let mut pair = Pair::new(&fake);
    let compare = |pair: &mut Pair<'_>, command: &'static str| -> Result<(u16, u16), TestCaseError> {
        let state = pair.state;
        let (ours, theirs) = pair.say(command);
        pair.advance(command, ours);
        if ours != theirs {
            let known = DIFFERENCES.iter().position(|known| {
                (known.state, known.command, known.ours, known.theirs) == (state, command, ours, theirs)
            });
            let known = known.ok_or_else(|| {
                TestCaseError::fail(format!("differs(State::{state:?}, {command:?}, {ours}, {theirs}, WHY),"))
            })?;
            met.borrow_mut().insert(known);
        }
        Ok((ours, theirs))
    };
    for command in commands {
        let (ours, theirs) = compare(&mut pair, command)?;
        if ours == 3 {
            prop_assert_eq!(theirs, 3, "one of them reads a body, the other commands");
            for line in BODY {
                compare(&mut pair, line)?;
            }
        }
        if pair.ours.closed {
            break;
        }
        if ours != theirs {
            pair.catch_up();
        }
    }
    prop_assert_eq!(fake.kept().len(), pair.stored);
    Ok(())
}

#[test]
fn the_order_of_commands_is_as_mailin_has_it_but_for_the_listed_differences() {
    let met = RefCell::default();
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() };
    let conversations = vec(
        prop_oneof![
            2 => select(COMMANDS.to_vec()),
            1 => select(vec!["EHLO client.example", "MAIL FROM:<a@client.example>", JOURNAL, "DATA"]),
        ],
        1..25,
    );
    TestRunner::new(config).run(&conversations, |commands| converse(&commands, &met)).unwrap();
    let met = met.into_inner();
    let gone: Vec<&Difference> = DIFFERENCES
        .iter()
        .enumerate()
        .filter(|(index, _)| !met.contains(index))
        .map(|(_, gone)| gone)
        .collect();
    assert!(gone.is_empty(), "differences that do not occur any more: {gone:#?}");
    assert!(DIFFERENCES.iter().all(|known| !known.why.is_empty()));
}
