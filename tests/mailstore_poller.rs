//! The reference customer: an archive that polls over POP3 with STLS, as MailStore does. It lists UIDLs, fetches what it does not
//! have, stores it, deletes and quits; it crashes anywhere, and comes again.
//!
//! Whatever it does, nothing is lost and nothing is in its archive twice: that it must be able to tell by UIDL alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use dice::Dice;
use opened::Account;
use std::collections::BTreeMap;
use support::{Pop3s, Server, Site};

/// Crashes of the poller in a row.
const CRASHES: u64 = 40;

/// An archive. What is in it is durable.
#[derive(Default)]
struct Poller {
    archive: BTreeMap<String, Vec<u8>>,
}

/// It crashed.
#[derive(Debug)]
struct Crashed;

/// How much it gets done before it crashes.
struct Life {
    steps: u64,
}

impl Life {
    const LONG: u64 = u64::MAX;

    fn step(&mut self) -> Result<(), Crashed> {
        self.steps = self.steps.checked_sub(1).ok_or(Crashed)?;
        Ok(())
    }
}

impl Poller {
    /// One round: tells how many were deleted. It crashes after so many steps, the connection just gone.
    fn poll(&mut self, server: &Server<'_>, account: &Account, steps: u64) -> Result<usize, Crashed> {
        let mut life = Life { steps };
        let mut session = server.pop3_stls(&account.login, &account.password).unwrap();
        life.step()?;
        let listed = session.uidls();
        life.step()?;
        for (index, uidl) in listed.iter().enumerate() {
            if !self.archive.contains_key(uidl) {
                if life.steps == 0 {
                    session.break_off(index + 1, 2);
                    return Err(Crashed);
                }
                let message = session.retrieve(index + 1);
                life.step()?;
                let before = self.archive.insert(uidl.clone(), message);
                assert_eq!(before, None, "stored twice");
                life.step()?;
            }
            session.say(&format!("DELE {}", index + 1)).unwrap();
            life.step()?;
        }
        session.quit();
        Ok(listed.len())
    }

    /// What it holds, in no order.
    fn messages(&self) -> Vec<Vec<u8>> {
        let mut messages: Vec<Vec<u8>> = self.archive.values().cloned().collect();
        messages.sort();
        messages
    }
}

/// Mail of different sizes.
fn mail(number: u64) -> Vec<u8> {
    let lines =
        "a line of a message\r\n.a line with a dot\r\n".repeat(usize::try_from(number * 37 % 500).unwrap());
    format!("From: a@b.example\r\nSubject: {number}\r\n\r\n{lines}end\r\n").into_bytes()
}

/// Sends mails of these numbers; gives what an archive must hold of them.
fn send(server: &Server<'_>, account: &Account, numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let mut sent: Vec<Vec<u8>> = numbers.map(mail).collect();
    for message in &sent {
        assert!(server.send(&account.address, message).starts_with("250 "));
    }
    sent.sort();
    sent
}

#[test]
fn a_poller_empties_its_mailbox_and_what_it_deleted_comes_back_when_asked() {
    let site = Site::new();
    let server = site.serve();
    let account = Account::create(&site, &["--profile", "generic"]);
    let sent = send(&server, &account, 0..6);
    let mut poller = Poller::default();
    assert_eq!(poller.poll(&server, &account, Life::LONG).unwrap(), 6);
    assert_eq!(poller.messages(), sent);
    assert_eq!(poller.poll(&server, &account, Life::LONG).unwrap(), 0);

    // The archive is lost; what it deleted is not.
    let mut poller = Poller::default();
    site.run(&["undelete", &account.login]).expect(0);
    assert_eq!(poller.poll(&server, &account, Life::LONG).unwrap(), 6);
    assert_eq!(poller.messages(), sent);
}

#[test]
fn a_poller_that_crashes_before_quit_finds_everything_again_and_stores_nothing_twice() {
    let site = Site::new();
    let server = site.serve();
    let account = Account::create(&site, &["--profile", "generic"]);
    let sent = send(&server, &account, 0..4);
    let mut poller = Poller::default();
    let before = uidls(server.pop3_stls(&account.login, &account.password).unwrap());
    // Login, UIDL, and three steps for each message: the next is QUIT.
    poller.poll(&server, &account, 2 + 3 * 4 - 1).unwrap_err();
    assert_eq!(poller.messages(), sent);
    server.log_with("\"event\":\"fetch.session\"", 2);
    let again = uidls(server.pop3_stls(&account.login, &account.password).unwrap());
    assert_eq!(again, before);
    // In the middle of a RETR, and of one that is new.
    let more = send(&server, &account, 4..6);
    let mut fresh = Poller::default();
    fresh.poll(&server, &account, 2).unwrap_err();
    assert!(fresh.archive.is_empty());
    server.log_with("\"event\":\"fetch.session\"", 4);
    assert_eq!(poller.poll(&server, &account, Life::LONG).unwrap(), 6);
    let mut all = [sent, more].concat();
    all.sort();
    assert_eq!(poller.messages(), all);
}

fn uidls(mut session: Pop3s) -> Vec<String> {
    let uidls = session.uidls();
    session.quit();
    uidls
}

#[test]
fn of_two_pollers_one_works_and_the_other_is_told_to_come_again() {
    let site = Site::new();
    let server = site.serve();
    let account = Account::create(&site, &["--profile", "generic"]);
    let sent = send(&server, &account, 0..3);
    let mut first = server.pop3_stls(&account.login, &account.password).unwrap();
    assert_eq!(first.count(), 3);
    let second = server.pop3_stls(&account.login, &account.password).err().unwrap();
    assert!(second.to_string().starts_with("-ERR [IN-USE] "), "{second}");
    assert!(server.pop3s(&account.login, &account.password).is_err());
    first.say("DELE 1").unwrap();
    drop(first);
    let mut poller = Poller::default();
    server.log_with("\"event\":\"fetch.session\"", 1);
    assert_eq!(poller.poll(&server, &account, Life::LONG).unwrap(), 3);
    assert_eq!(poller.messages(), sent);
}

#[test]
fn a_poller_killed_at_random_points_loses_nothing_and_doubles_nothing() {
    let site = Site::new();
    let server = site.serve();
    let account = Account::create(&site, &["--profile", "generic"]);
    let mut dice = Dice::new(31);
    let (mut poller, mut sent, mut ended) = (Poller::default(), Vec::new(), 0);
    for round in 0..CRASHES {
        if round % 2 == 0 {
            sent.extend(send(&server, &account, 2 * round..2 * round + 4));
        }
        ended += usize::from(poller.poll(&server, &account, dice.below(40)).is_ok());
        // The session that was cut has let go of the mailbox.
        server.log_with("\"event\":\"fetch.session\"", usize::try_from(round + 1).unwrap());
    }
    assert!(ended > 0 && ended < usize::try_from(CRASHES).unwrap(), "{ended} of {CRASHES} rounds were whole");
    poller.poll(&server, &account, Life::LONG).unwrap();
    assert_eq!(poller.poll(&server, &account, Life::LONG).unwrap(), 0);
    sent.sort();
    assert_eq!(poller.messages(), sent);
    println!("{} messages over {CRASHES} rounds of which {ended} came to QUIT", sent.len());
}
