//! Acknowledged mail under crashes and failing disks: the built server is killed, its system calls are made to fail, and
//! afterwards everything it said 250 to must be there, once, octet for octet.
//!
//! `kill -9` finds what a crash of the process loses, torn state and double work; it cannot find a sync that is missing.
//! Failing syncs show that nothing is acknowledged over them.
//!
//! Run by `tests/real.sh`. `DAYBOOK_LONG=1` runs more rounds.
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

#[path = "durability/seen.rs"]
mod seen;

#[path = "real/strace.rs"]
mod strace;

use gateway::{Account, Gateway, until};
use load::{Dice, Loader, Outcome, Report, Sha256, Smtp, report, sha256};
use maildrop::Fetched;
use seen::Seen;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;
use strace::{Injection, On, Strace, Times, site_of};

fn is_long() -> bool {
    std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1")
}

/// Mostly small; some become files of their own.
fn mixed_sizes(n: u64) -> usize {
    match n % 32 {
        7 => 1_400_000,
        3 | 19 => 200_000,
        n => 1_500 + 2_500 * n as usize,
    }
}

#[test]
fn kill_9_under_load_loses_and_doubles_nothing() {
    let rounds = if is_long() { 20 } else { 5 };
    let seed = std::env::var("DAYBOOK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    let mut dice = Dice::new(seed);
    let mut gateway = Gateway::start();
    let account = gateway.create_account();
    let loader = Loader::start("kill", &account.address, 8, mixed_sizes);
    let mut seen = Seen::default();
    let mut gone = BTreeSet::new();
    let clock = Instant::now();
    for round in 1..=rounds {
        loader.target(Some(gateway.smtp()));
        let before = loader.acknowledged_count();
        loader.wait_for(before + 1 + dice.below(400) as usize);
        if round % 2 == 0 {
            // A committed delete must outlive the crash as well as the message did.
            seen.catch_up(&gateway, &account);
            let acknowledged = loader.acknowledged();
            let is_settled =
                |fetched: &Fetched| fetched.message_id.as_ref().is_some_and(|id| acknowledged.contains(id));
            let (uidl, fetched) = seen.messages.iter().find(|(_, fetched)| is_settled(fetched)).unwrap();
            let (uidl, id) = (uidl.clone(), fetched.message_id.clone().unwrap());
            seen.delete(&uidl, &gateway, &account);
            gone.insert(id);
            loader.wait_for(loader.acknowledged_count() + dice.below(30) as usize);
        }
        // Not always right behind a reply.
        let linger = dice.below(4_000_000);
        let moment = Instant::now();
        while moment.elapsed().as_nanos() < u128::from(linger) {
            std::hint::spin_loop();
        }
        gateway.kill();
        loader.target(None);
        let acknowledged = loader.acknowledged();
        gateway.start_again();
        gateway.assert_store_is_whole();
        seen.catch_up(&gateway, &account);
        let expected = &acknowledged - &gone;
        let (lost, doubled) = seen.judge(&loader.begun(), &expected);
        println!(
            "kill -9 round {round}: {} acknowledged so far, {} in the maildrop, {lost} lost, {doubled} doubled",
            acknowledged.len(),
            seen.messages.len()
        );
        assert_eq!((lost, doubled), (0, 0));
    }
    // What was on its way at the last crash is sent again until it is settled, and nothing becomes two by that.
    loader.target(Some(gateway.smtp()));
    loader.wait_for(loader.acknowledged_count() + 40);
    let Outcome { begun, acknowledged, refused, deferred, broken } = loader.stop();
    assert_eq!(refused, Vec::<String>::new());
    gateway.terminate();
    gateway.start_again();
    gateway.assert_store_is_whole();
    seen.catch_up(&gateway, &account);
    gateway.start_again_without_index();
    gateway.assert_store_is_whole();
    seen.check_again(&gateway, &account);
    let (lost, doubled) = seen.judge(&begun, &(&acknowledged - &gone));
    println!(
        "kill -9: {rounds} rounds (seed {seed}), {} begun, {} acknowledged, {} deleted, {lost} lost, {doubled} doubled, \
         {broken} connections broken, {deferred} deferred, {:.1} s",
        begun.len(),
        acknowledged.len(),
        gone.len(),
        clock.elapsed().as_secs_f64()
    );
    assert_eq!((lost, doubled), (0, 0));
    assert!(broken > 0, "no connection broke: the server was never killed at work");
}

/// One sender, one message after the other, who knows what became of each.
struct Sender {
    account: Account,
    connection: Option<Smtp>,
    sent: u64,
    begun: BTreeMap<String, Sha256>,
    acknowledged: BTreeSet<String>,
    deferrals: u64,
}

impl Sender {
    fn new(account: &Account) -> Sender {
        Sender {
            account: account.clone(),
            connection: None,
            sent: 0,
            begun: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            deferrals: 0,
        }
    }

    fn fresh(&mut self, octets: usize) -> Report {
        self.sent += 1;
        let report = report(&format!("sweep-{}", self.sent), octets);
        self.begun.insert(report.id.clone(), sha256(&report.octets));
        report
    }

    /// True when acknowledged, false when deferred; any other answer fails.
    fn try_to_send(&mut self, report: &Report, gateway: &Gateway) -> io::Result<bool> {
        let mut smtp = match self.connection.take() {
            Some(smtp) => smtp,
            None => Smtp::open(gateway.smtp())?,
        };
        let reply = smtp.deliver(&self.account.address, &report.octets)?;
        assert!(reply.code == 250 || reply.is_deferral(), "{}: {reply:?}", report.id);
        if reply.code != 421 {
            self.connection = Some(smtp);
        }
        if reply.code == 250 {
            self.acknowledged.insert(report.id.clone());
        } else {
            self.deferrals += 1;
        }
        Ok(reply.code == 250)
    }

    /// Sends until it is acknowledged.
    fn insist(&mut self, report: &Report, gateway: &Gateway) {
        until("a deferred message to be taken", || self.try_to_send(report, gateway).unwrap().then_some(()));
    }
}

/// What a sweep has shown so far.
#[derive(Default)]
struct Sweep {
    hits: BTreeMap<String, u64>,
    runs: u64,
    runs_hit: u64,
    pending: Vec<Report>,
}

impl Sweep {
    /// Starts the server on what the last run left, and judges it: nothing acknowledged may be missing.
    fn restart_and_judge(&mut self, gateway: &mut Gateway, sender: &mut Sender, seen: &mut Seen, what: &str) {
        gateway.start_again();
        gateway.assert_store_is_whole();
        sender.connection = None;
        // What was deferred before the crash, and perhaps stored after all, is sent again: once, whatever happened.
        for report in std::mem::take(&mut self.pending) {
            sender.insist(&report, gateway);
        }
        seen.catch_up(gateway, &sender.account);
        let (lost, doubled) = seen.judge(&sender.begun, &sender.acknowledged);
        assert_eq!((lost, doubled), (0, 0), "after {what}");
    }

    /// One fault at one place, with mail going on before, during and after it, and a kill -9 at the end.
    fn run(&mut self, injection: Injection, gateway: &mut Gateway, sender: &mut Sender) {
        let out = gateway.path("strace.out");
        let mut strace = Some(Strace::attach(gateway.pid(), injection, &gateway.data_dir(), &out));
        let deferrals_before = sender.deferrals;
        let mut deferred = Vec::new();
        for octets in [3_000, 1_300_000, 40_000, 3_000, 1_100_000, 9_000, 3_000, 70_000] {
            let report = sender.fresh(octets);
            match sender.try_to_send(&report, gateway) {
                Ok(true) => {}
                Ok(false) => deferred.push(report),
                Err(_) if injection.kills() => {
                    until("the killed server to be gone", || gateway.has_ended().then_some(()));
                    sender.connection = None;
                    self.pending.push(report);
                    break;
                }
                Err(e) => panic!("{injection:?}: neither 250 nor 4xx but {e}"),
            }
        }
        let is_dead = gateway.has_ended();
        let mut hits = Vec::new();
        if injection.persists() {
            // The disk is mended.
            hits.extend(strace.take().map(Strace::detach).unwrap_or_default());
        }
        // Half of what was deferred comes again before the crash, the other half after it.
        for (n, report) in deferred.into_iter().enumerate() {
            if n % 2 == 0 && !is_dead {
                sender.insist(&report, gateway);
            } else {
                self.pending.push(report);
            }
        }
        if !is_dead {
            // The disk is well again for all the server knows: it must take mail, and not on the pages that were lost.
            for octets in [5_000, 1_200_000] {
                let report = sender.fresh(octets);
                sender.insist(&report, gateway);
            }
        }
        gateway.kill();
        hits.extend(strace.take().map(Strace::detach).unwrap_or_default());
        self.runs += 1;
        self.runs_hit += u64::from(is_dead || !hits.is_empty());
        for hit in hits {
            let site = site_of(&hit, &gateway.data_dir());
            // The page cache forgives what the disk would not: that nothing is missing afterwards proves nothing by itself.
            let is_on_the_way = ["log", "content"].iter().any(|place| site.contains(&format!(" {place}")));
            assert!(
                !is_on_the_way || injection.kills() || sender.deferrals > deferrals_before,
                "{site} failed, and every message was acknowledged: {injection:?}"
            );
            *self.hits.entry(format!("{} {site}", injection.effect)).or_default() += 1;
        }
    }
}

/// Runs every injection on the same store, one after the other.
fn sweep(name: &str, injections: impl IntoIterator<Item = Injection>) -> (Sweep, Sender) {
    let mut gateway = Gateway::start();
    let account = gateway.create_account();
    let mut sender = Sender::new(&account);
    let (mut seen, mut sweep) = (Seen::default(), Sweep::default());
    for injection in injections {
        sweep.run(injection, &mut gateway, &mut sender);
        sweep.restart_and_judge(&mut gateway, &mut sender, &mut seen, &format!("{injection:?}"));
    }
    seen.check_again(&gateway, &account);
    // The log alone says the same: no group that failed counts in it.
    gateway.start_again_without_index();
    gateway.assert_store_is_whole();
    seen.check_again(&gateway, &account);
    println!(
        "{name}: {} runs, {} with a hit, {} messages, {} acknowledged, {} deferrals, 0 lost, 0 doubled",
        sweep.runs,
        sweep.runs_hit,
        sender.begun.len(),
        sender.acknowledged.len(),
        sender.deferrals
    );
    for (site, count) in &sweep.hits {
        println!("  {count:4} × {site}");
    }
    (sweep, sender)
}

const SYNCS: &str = "fsync,fdatasync";

/// The first call of a kind, then the second, and so on.
fn each(calls: &'static str, effect: &'static str, on: On, last: u32) -> impl Iterator<Item = Injection> {
    (1..=last).map(move |first| Injection { calls, effect, first, times: Times::Once, on })
}

#[test]
fn a_failed_sync_is_a_4xx_and_never_a_lost_message() {
    // Also the sync of the new segment that follows, and a disk that is broken for as long as the batch takes.
    let again = [Times::Twice, Times::OneIn(2), Times::Always].map(|times| Injection {
        calls: SYNCS,
        effect: "error=EIO",
        first: 1,
        times,
        on: On::Anything,
    });
    let injections = each(SYNCS, "error=EIO", On::Anything, if is_long() { 24 } else { 12 }).chain(again);
    let (sweep, sender) = sweep("failing syncs", injections);
    assert!(
        sweep.hits.keys().any(|site| site.contains(" log/")),
        "no sync of the log was hit: {:?}",
        sweep.hits
    );
    assert!(
        sweep.hits.keys().any(|site| site.contains(" content/")),
        "no sync of content was hit: {:?}",
        sweep.hits
    );
    assert!(sender.deferrals > 0, "no message was deferred");
}

#[test]
fn a_failed_write_is_a_4xx_and_never_a_lost_message() {
    let kinds = |effect| {
        // Not `write`: the runtime wakes itself by that.
        let twice = Injection { calls: "pwrite64", effect, first: 1, times: Times::Twice, on: On::Log };
        let always = Injection { times: Times::Always, ..twice };
        each("pwrite64", effect, On::Log, 6)
            .chain(each("pwrite64", effect, On::Index, 4))
            .chain(each("pwrite64", effect, On::Anything, 2))
            .chain([twice, always])
    };
    let (sweep, sender) = sweep("failing writes", kinds("error=EIO").chain(kinds("error=ENOSPC")));
    assert!(
        sweep.hits.keys().any(|site| site.contains(" log/")),
        "no write of the log was hit: {:?}",
        sweep.hits
    );
    assert!(sender.deferrals > 0, "no message was deferred");
}

#[test]
fn a_kill_right_at_a_sync_loses_and_doubles_nothing() {
    let at_writes = each("pwrite64", "signal=KILL", On::Log, 4);
    let at_names = each("rename,renameat,renameat2", "signal=KILL", On::Anything, 1);
    let injections = each(SYNCS, "signal=KILL", On::Anything, 8).chain(at_writes).chain(at_names);
    let (sweep, _) = sweep("kills at syncs and writes", injections);
    assert!(sweep.runs_hit >= 8, "{} of {} runs were hit", sweep.runs_hit, sweep.runs);
}

#[test]
fn syncs_that_fail_under_load_cost_nothing_acknowledged() {
    let mut gateway = Gateway::start();
    let account = gateway.create_account();
    let loader = Loader::start("storm", &account.address, 8, mixed_sizes);
    let mut seen = Seen::default();
    let mut hits = 0;
    let rounds = if is_long() { 12 } else { 3 };
    for round in 0..rounds {
        let injection = Injection {
            calls: SYNCS,
            effect: "error=EIO",
            first: 2 + round,
            times: Times::OneIn(5 + 2 * round),
            on: On::Anything,
        };
        let out = gateway.path("strace.out");
        let strace = Strace::attach(gateway.pid(), injection, &gateway.data_dir(), &out);
        loader.target(Some(gateway.smtp()));
        loader.wait_for(loader.acknowledged_count() + 150);
        gateway.kill();
        loader.target(None);
        hits += strace.detach().len();
        let acknowledged = loader.acknowledged();
        gateway.start_again();
        gateway.assert_store_is_whole();
        seen.catch_up(&gateway, &account);
        assert_eq!(seen.judge(&loader.begun(), &acknowledged), (0, 0));
    }
    loader.target(Some(gateway.smtp()));
    loader.wait_for(loader.acknowledged_count() + 40);
    let Outcome { begun, acknowledged, refused, deferred, broken } = loader.stop();
    assert_eq!(refused, Vec::<String>::new());
    seen.catch_up(&gateway, &account);
    gateway.start_again_without_index();
    gateway.assert_store_is_whole();
    seen.check_again(&gateway, &account);
    assert_eq!(seen.judge(&begun, &acknowledged), (0, 0));
    println!(
        "failing syncs under load: {rounds} rounds, {hits} syncs failed, {} begun, {} acknowledged, {deferred} deferred, \
         {broken} connections broken, 0 lost, 0 doubled",
        begun.len(),
        acknowledged.len()
    );
    assert!(hits > 0 && deferred > 0, "no sync failed");
}
