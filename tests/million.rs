//! Many small messages in one store: how long a start takes after a crash, and without an index, how much room and memory they
//! need, and how fast they are listed and fetched. Acknowledged mail is all there each time, under the same UIDLs.
//!
//! Run by `tests/real.sh` with a few thousand messages. `DAYBOOK_LONG=1` sends 1,000,000 (`DAYBOOK_MESSAGES` any other number), and
//! shows one table, with what it comes to at 20 million.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are to be read")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/load.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod load;

#[path = "real/gateway.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod gateway;

#[path = "real/maildrop.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod maildrop;

#[path = "support/process_memory.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod process_memory;

use gateway::{Account, Gateway, until};
use load::{Loader, Smtp, report, sha256};
use process_memory::memory_kib;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is sent where `DAYBOOK_LONG` is not set.
const MESSAGES: u64 = 3_000;
const MESSAGES_LONG: u64 = 1_000_000;
const MAILBOXES: u64 = 10;
const SENDERS: u64 = 64;
/// A connection is closed by the server after a thousand messages.
const MESSAGES_A_CONNECTION: u64 = 900;
/// Octets of a report, with its head.
const REPORT_OCTETS: usize = 1_500;
/// Messages fetched whole and compared.
const FETCHED: u32 = 20;
/// From a start after kill -9 to the first 250, with the index as it was left.
const START_MAX: Duration = Duration::from_secs(5);
/// From a start without an index until it serves: far more than it needs.
const REBUILD_MAX: Duration = Duration::from_secs(3_600);
/// What the last column is for.
const MANY: f64 = 20e6;

fn is_long() -> bool {
    std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1")
}

fn messages() -> u64 {
    let otherwise = if is_long() { MESSAGES_LONG } else { MESSAGES };
    std::env::var("DAYBOOK_MESSAGES").ok().map_or(otherwise, |value| value.parse().unwrap())
}

fn name(number: u64) -> String {
    format!("million-{number}")
}

/// Sends a report: none when it is deferred, as it may be, to be sent again.
fn take(smtp: &mut Smtp, address: SocketAddr, to: &str, octets: &[u8]) -> Option<()> {
    let reply = smtp.deliver(to, octets).unwrap();
    if reply.code == 421 {
        *smtp = Smtp::open(address).unwrap();
    }
    assert!(reply.code == 250 || reply.is_deferral(), "{reply:?}");
    (reply.code == 250).then_some(())
}

/// Sends `count` reports to the gateway mailboxes in turn; fails when one is not taken.
fn fill(gateway: &Gateway, accounts: &[Account], count: u64) {
    let (address, next) = (gateway.smtp(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let (mut smtp, mut sent) = (Smtp::open(address).unwrap(), 0);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if sent == MESSAGES_A_CONNECTION {
                        (smtp, sent) = (Smtp::open(address).unwrap(), 0);
                    }
                    let to = &accounts[(number % MAILBOXES) as usize].address;
                    let octets = report(&name(number), REPORT_OCTETS).octets;
                    until("a report to be taken", || take(&mut smtp, address, to, &octets));
                    sent += 1;
                }
            });
        }
    });
}

/// How long until one more report is taken, from now.
fn first_250(gateway: &mut Gateway, to: &str, name: &str) -> Duration {
    let started = Instant::now();
    gateway.start_again();
    let (address, octets) = (gateway.smtp(), report(name, REPORT_OCTETS).octets);
    let mut smtp = Smtp::open(address).unwrap();
    until("a report to be taken", || take(&mut smtp, address, to, &octets));
    started.elapsed()
}

/// Octets of the files in a directory whose names begin so, and below.
fn octets_of(dir: &Path, beginning: &str) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let of = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => octets_of(&entry.path(), ""),
        false => entry.metadata().unwrap().len(),
    };
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning)).map(of).sum()
}

/// Figures by name: now, and what they come to at [`MANY`]. What grows with the number of messages is taken to be linear, which a
/// few thousand do not show; an index larger than memory is slower than that.
struct Table {
    messages: f64,
}

impl Table {
    fn row(&self, what: &str, figure: f64, unit: &str, grows: bool) {
        let then = match grows {
            true if is_long() => format!("{:.1} {unit}", figure * MANY / self.messages),
            true => "linear".to_owned(),
            false => "the same".to_owned(),
        };
        println!("| {what} | {figure:.2} {unit} | {then} |");
    }
}

/// Every message of every gateway mailbox by UIDL; and how long login, UIDL and RETR took for the first.
struct Listed {
    uidls: Vec<BTreeMap<String, u32>>,
    login: Duration,
    uidl: Duration,
    retr: Duration,
}

fn list(gateway: &Gateway, accounts: &[Account]) -> Listed {
    let mut listed =
        Listed { uidls: Vec::new(), login: Duration::ZERO, uidl: Duration::ZERO, retr: Duration::ZERO };
    for (number, account) in accounts.iter().enumerate() {
        let clock = Instant::now();
        let mut maildrop = gateway.maildrop(account);
        let login = clock.elapsed();
        let clock = Instant::now();
        let uidls = maildrop.uidls();
        if number == 0 {
            (listed.login, listed.uidl) = (login, clock.elapsed());
            let clock = Instant::now();
            for message in 1..=FETCHED {
                maildrop.fetch(message);
            }
            listed.retr = clock.elapsed() / FETCHED;
        }
        listed.uidls.push(uidls);
        maildrop.quit().unwrap();
    }
    listed
}

/// Some of what was sent to the first gateway mailbox comes back octet for octet. Nobody tells in which order it was stored.
fn assert_fetched_as_sent(gateway: &Gateway, account: &Account, count: u64) {
    let mut maildrop = gateway.maildrop(account);
    let all = u32::try_from(maildrop.uidls().len()).unwrap();
    let of_first = (0..count).step_by(MAILBOXES as usize);
    let sent: BTreeSet<_> = of_first.map(|n| sha256(&report(&name(n), REPORT_OCTETS).octets)).collect();
    for number in (1..=FETCHED).map(|part| (all / FETCHED * part).max(1)) {
        assert!(sent.contains(&maildrop.fetch(number).sha256), "message {number} is none of those sent");
    }
    maildrop.quit().unwrap();
}

#[test]
fn a_crash_or_a_lost_index_costs_seconds_and_no_message_however_many_there_are() {
    let count = messages();
    let mut gateway = Gateway::start();
    let accounts: Vec<Account> = (0..MAILBOXES).map(|_| gateway.create_account()).collect();
    let empty = gateway.create_account();
    let clock = Instant::now();
    fill(&gateway, &accounts, count);
    let filled = clock.elapsed();
    assert_fetched_as_sent(&gateway, &accounts[0], count);
    let before = list(&gateway, &accounts);
    assert_eq!(before.uidls.iter().map(BTreeMap::len).sum::<usize>() as u64, count);

    // A crash under load.
    let loader = Loader::start("under-load", &accounts[1].address, 16, |_| REPORT_OCTETS);
    loader.target(Some(gateway.smtp()));
    loader.wait_for(100);
    loader.target(None);
    gateway.kill();
    let after_crash = first_250(&mut gateway, &accounts[2].address, "after-a-crash");
    loader.target(Some(gateway.smtp()));
    let more = loader.stop();
    assert_eq!(more.refused, Vec::<String>::new());
    gateway.assert_store_is_whole();
    assert!(after_crash <= START_MAX || !is_long(), "{after_crash:?}");
    let resting = memory_kib(gateway.pid(), "VmRSS");
    let crashed = list(&gateway, &accounts);
    // What a login takes by itself: its password hash is made to be slow.
    let clock = Instant::now();
    gateway.maildrop(&empty).quit().unwrap();
    let login_alone = clock.elapsed();
    assert!(crashed.uidls[1].len() >= before.uidls[1].len() + more.acknowledged.len());
    for (before, after) in before.uidls.iter().zip(&crashed.uidls) {
        assert!(
            before.iter().all(|(uidl, number)| after.get(uidl) == Some(number)),
            "a UIDL is gone, or moved"
        );
    }

    gateway.may_start_for(REBUILD_MAX);
    let clock = Instant::now();
    gateway.start_again_without_index();
    let rebuilt = clock.elapsed();
    let after = list(&gateway, &accounts);
    assert!(after.uidls == crashed.uidls, "not the same messages, or not under the same UIDLs");
    let data = gateway.data_dir();
    let (log, index) = (octets_of(&data.join("log"), ""), octets_of(&data, "index.sqlite"));

    gateway.terminate();
    let verified = gateway.ask(&["verify", "--deep"]);
    let (verify_takes, verify_octets) =
        (verified["seconds"].as_f64().unwrap(), verified["octets"].as_f64().unwrap());
    assert!(verified["messages"].as_u64().unwrap() >= count, "{verified}");

    let each = |octets: u64| octets as f64 / count as f64;
    let table = Table { messages: count as f64 };
    println!(
        "| {count} messages of {REPORT_OCTETS} octets, {MAILBOXES} gateway mailboxes | measured | at 20 million |\n|---|---|---|"
    );
    table.row("taken a second", count as f64 / filled.as_secs_f64(), "", false);
    table.row("kill -9 to the first 250", after_crash.as_secs_f64(), "s", false);
    table.row("start without an index", rebuilt.as_secs_f64(), "s", true);
    table.row("taken in a second then", count as f64 / rebuilt.as_secs_f64(), "", false);
    table.row("memory at rest", resting as f64 / 1024.0, "MiB", false);
    table.row("log beyond the message", each(log) - REPORT_OCTETS as f64, "octets a message", false);
    table.row("index", each(index), "octets a message", false);
    table.row("log and index", (log + index) as f64 / 1e9, "GB", true);
    table.row("verify --deep", verify_takes, "s", true);
    table.row("verified in a second then", verify_octets / verify_takes / 1e6, "MB", false);
    table.row("POP3 login by itself", login_alone.as_secs_f64(), "s", false);
    let listing = crashed.login.saturating_sub(login_alone);
    table.row("and with the messages of one gateway mailbox", listing.as_secs_f64(), "s", true);
    table.row("UIDL", crashed.uidl.as_secs_f64(), "s", true);
    table.row("RETR", crashed.retr.as_secs_f64() * 1e3, "ms", false);
}
