//! Real mail servers as senders: Postfix and Exim each hold a queue of journal reports and deliver it while the gateway is
//! away at first, is killed twice and ended once. Their queues must become empty, and the maildrop must hold each report
//! once, octet for octet below the trace field that every relay puts on top (RFC 5321 §4.4).
//!
//! Postfix sends by DATA, Exim by BDAT; both by STARTTLS, since it is offered.
//!
//! Run by `tests/real.sh`, which gets them. `DAYBOOK_LONG=1` crashes more often.
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

#[path = "real/mta.rs"]
mod mta;

#[path = "real/postfix.rs"]
mod postfix;

#[path = "real/exim.rs"]
mod exim;

use aws_lc_rs::digest::{Context, SHA256};
use exim::Exim;
use gateway::{Account, Gateway, until};
use load::{Dice, Report, Sha256, Smtp, finish, report, sha256};
use maildrop::message_id;
use mta::{Sender, quiet_port};
use postfix::Postfix;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Reports in each queue.
const REPORTS: u64 = 500;
/// Of which so many are given to the sender a second time when the first have arrived.
const AGAIN: u64 = 20;
/// Connections that fill a queue.
const FILLERS: usize = 4;
/// How long a queue may stay as it is.
const QUEUE_PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a queue.
const QUEUE_POLL: Duration = Duration::from_millis(20);

/// From 5 KB to 20 MB, mostly small, 84 MB in all.
fn octets_of(n: u64) -> usize {
    match n {
        70 => 20_000_000,
        140 | 280 => 8_000_000,
        n if n % 100 == 50 => 2_000_000,
        n => 5_000 + 3_000 * (n % 50) as usize,
    }
}

#[derive(Clone, Copy, Debug)]
enum Interruption {
    Kill,
    Terminate,
}

/// When so many reports have been taken, this happens: early, so that however fast both are much of the queue is left.
fn interruptions() -> Vec<(usize, Interruption)> {
    use Interruption::{Kill, Terminate};
    if std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1") {
        (1..=15).map(|n| (n * 20, if n % 3 == 0 { Terminate } else { Kill })).collect()
    } else {
        vec![(50, Kill), (110, Terminate), (170, Kill)]
    }
}

/// What the log tells of reports that became durable. A kill can come between that and the log.
struct Committed {
    all: usize,
    /// Of which another was there already.
    repeats: usize,
    in_clear: usize,
}

fn committed(gateway: &Gateway) -> Committed {
    let log = gateway.whole_log();
    let events = log.lines().filter(|line| line.contains("\"journal.committed\""));
    let events: Vec<Value> = events.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let count = |is: fn(&Value) -> bool| events.iter().filter(|event| is(event)).count();
    Committed {
        all: events.len(),
        repeats: count(|event| event["repeats"].is_string()),
        in_clear: count(|event| !event["tls"].as_str().is_some_and(|tls| tls.starts_with("TLSv1."))),
    }
}

/// Gives reports to a sender, by a few connections; their hashes by Message-ID.
fn fill(sender: &impl Sender, to: &Account, name: &str, reports: u64) -> BTreeMap<String, Sha256> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut given = BTreeMap::new();
        let mut smtp = Smtp::open(sender.address()).unwrap();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= reports {
                return given;
            }
            let Report { id, octets } = report(&format!("{name}-{n}"), octets_of(n));
            let reply = smtp.deliver(&to.address, &octets).unwrap();
            assert!(reply.is_ok(), "{name} does not take {id}: {reply:?}");
            given.insert(id, sha256(&octets));
        }
    };
    std::thread::scope(|scope| {
        let fillers: Vec<_> = (0..FILLERS).map(|_| scope.spawn(work)).collect();
        fillers.into_iter().flat_map(|filler| filler.join().unwrap()).collect()
    })
}

/// What is in the maildrop, below the trace fields of one relay: hashes by Message-ID. Fails when two have one Message-ID.
fn fetch(gateway: &Gateway, account: &Account) -> BTreeMap<String, Sha256> {
    let mut maildrop = gateway.maildrop(account);
    let mut held = BTreeMap::new();
    for number in maildrop.uidls().into_values() {
        let (mut in_trace, mut relays) = (true, 0);
        let (mut header, mut hash) = (Vec::new(), Context::new(&SHA256));
        maildrop.lines(number, |line| {
            let starts_one = line.starts_with(b"Received: ");
            relays += u32::from(in_trace && starts_one);
            in_trace = in_trace && (starts_one || line.starts_with(b"\t") || line.starts_with(b" "));
            if !in_trace {
                hash.update(line);
                if header.len() < 4096 {
                    header.extend_from_slice(line);
                }
            }
        });
        assert_eq!(relays, 1, "message {number} came through {relays} relays");
        let id = message_id(&header).unwrap();
        assert_eq!(held.insert(id.clone(), finish(hash)), None, "{id} is there twice");
    }
    maildrop.quit().unwrap();
    held
}

/// The report stands in the sender's and in the recipient's folder, once for each report there is.
fn assert_placed_once(gateway: &Gateway, account: &Account) {
    let shown = gateway.ask(&["mailbox", "show", &account.address]);
    let folders = shown["folders"].as_array().unwrap();
    let users: Vec<_> = folders.iter().filter(|folder| folder["path"] != "INBOX").collect();
    assert_eq!(users.len(), 2, "{users:#?}");
    assert!(users.iter().all(|folder| folder["entries"] == REPORTS), "{users:#?}");
}

/// Interrupts what is under way when the dice say so; the connections that this hits. Nothing happens, and there are none, when
/// nobody delivers just then.
fn interrupt(
    gateway: &mut Gateway,
    sender: &impl Sender,
    how: Interruption,
    dice: &mut Dice,
) -> Option<usize> {
    // Not always right behind a reply.
    let linger = dice.below(4_000_000);
    let moment = Instant::now();
    while moment.elapsed().as_nanos() < u128::from(linger) {
        std::hint::spin_loop();
    }
    // What is seen now is what is hit.
    gateway.freeze();
    let under_way = gateway.smtp_connections();
    if under_way == 0 || sender.queued() == 0 {
        gateway.thaw();
        return None;
    }
    match how {
        Interruption::Kill => gateway.kill(),
        Interruption::Terminate => gateway.terminate(),
    }
    gateway.start_again();
    gateway.assert_store_is_whole();
    Some(under_way)
}

/// Waits as long as the queue goes on becoming shorter. Looks twice at its end: a message that is being moved within the
/// queue can escape one look.
fn wait_for_empty(sender: &impl Sender) {
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    loop {
        let left = sender.queued();
        if left == 0 && sender.queued() == 0 {
            return;
        }
        if left < fewest {
            (fewest, since) = (left, Instant::now());
        }
        assert!(since.elapsed() < QUEUE_PATIENCE, "{left} in the queue for {QUEUE_PATIENCE:?}");
        std::thread::park_timeout(QUEUE_POLL);
    }
}

/// The whole story; gives the sender for what is to be said of it alone.
fn delivers_everything_once<S: Sender>(name: &str, start: impl FnOnce(u16) -> S) -> S {
    let clock = Instant::now();
    let mut dice = Dice::new(20_261_121);
    let mut gateway = Gateway::start();
    let account = gateway.create_account();
    let port = quiet_port();
    gateway.take_mail_at(port);
    gateway.terminate();

    let sender = start(port);
    let given = fill(&sender, &account, name, REPORTS);
    until("a first delivery to be deferred", || sender.log().contains("onnection refused").then_some(()));
    until("all reports to be queued", || (sender.queued() as u64 == REPORTS).then_some(()));
    let filled = clock.elapsed();

    gateway.start_again();
    let interruptions = interruptions();
    let mut hit = Vec::new();
    for (taken, how) in &interruptions {
        until("reports to be taken", || (committed(&gateway).all >= *taken).then_some(()));
        hit.push(until("a delivery to interrupt", || interrupt(&mut gateway, &sender, *how, &mut dice)));
    }
    wait_for_empty(&sender);
    let lost_replies = committed(&gateway).repeats;
    let delivered = clock.elapsed() - filled;

    // The same reports with other trace fields, as after a restored queue: nothing is added by them.
    fill(&sender, &account, name, AGAIN);
    wait_for_empty(&sender);
    let Committed { repeats, in_clear, .. } = committed(&gateway);
    assert_eq!(repeats, lost_replies + AGAIN as usize);
    assert_eq!(in_clear, 0, "STARTTLS was offered and not used");

    let held = fetch(&gateway, &account);
    let missing: BTreeSet<_> = given.keys().filter(|id| !held.contains_key(*id)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(held == given, "there is what was not sent so");
    assert_placed_once(&gateway, &account);
    println!(
        "{name}: {REPORTS} reports, {} MB, {} interruptions that hit {hit:?} deliveries, {} deferrals, {lost_replies} sent again for a lost reply, \
         {AGAIN} given again, all joined; queue empty, nothing missing; filled in {:.1} s, delivered in {:.1} s, {:.1} s in all",
        (0..REPORTS).map(octets_of).sum::<usize>() / 1_000_000,
        interruptions.len(),
        sender.log().lines().filter(|line| line.contains("status=deferred") || line.contains(" == ")).count(),
        filled.as_secs_f64(),
        delivered.as_secs_f64(),
        clock.elapsed().as_secs_f64(),
    );
    sender
}

#[test]
fn postfix_delivers_its_queue_through_deferral_kills_and_a_restart() {
    delivers_everything_once("postfix", Postfix::start);
}

#[test]
fn exim_delivers_its_queue_in_chunks_through_deferral_kills_and_a_restart() {
    let exim = delivers_everything_once("exim", Exim::start);
    // Exim marks a delivery with K when it was by CHUNKING, and with L when the commands before were pipelined.
    let marked = |line: &&String, mark: &str| line.split(' ').any(|word| word == mark);
    let deliveries = exim.deliveries();
    assert!(deliveries.len() as u64 >= REPORTS);
    let by_data: Vec<_> = deliveries.iter().filter(|line| !marked(line, "K")).collect();
    assert!(by_data.is_empty(), "not by BDAT: {by_data:#?}");
    assert!(deliveries.iter().any(|line| marked(&line, "L")), "nothing was pipelined: {:?}", deliveries[0]);
}
