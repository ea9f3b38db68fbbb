//! Calls that fail again and again, kills right at a sync, and failing syncs under load: what one failure at a time (`sweep.rs`)
//! does not show.

use super::gateway::{Gateway, until};
use super::is_long;
use super::load::{Loader, Outcome, Report};
use super::seen::Seen;
use super::sender::{Sender, mixed_sizes};
use super::strace::{Injection, On, Strace, Times, site_of};
use std::collections::BTreeMap;

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
