//! The power is cut at a random moment, again and again: under load, while mail is deleted, right after a start, during the very
//! first one, and after a disk that failed.

use super::disk::{Disk, segments};
use super::gateway::{Account, CREATE_ACCOUNT, until};
use super::ledger::Ledger;
use super::load::Dice;
use super::rig::{Rig, Round, cut_under, gateway_on, linger};
use super::strace::{Injection, On, Times};
use super::{given, is_long};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Rounds on one disk; then comes a new one, so that it need not be large.
const ROUNDS_A_DISK: u64 = 20;
/// How long the very first start and the first `mailbox create` take, at most, for the cut to fall into it.
const FIRST_START: Duration = Duration::from_millis(400);

/// The numbers that decide, and what to give to have them again.
pub(crate) fn dice(test: &str) -> (Dice, u64) {
    let seed = given("DAYBOOK_SEED").unwrap_or(20_261_121);
    println!("{test}: DAYBOOK_SEED={seed}");
    (Dice::new(seed), seed)
}

pub(crate) fn rounds(in_ci: u64, long: u64) -> u64 {
    given("DAYBOOK_ROUNDS").unwrap_or(if is_long() { long } else { in_ci })
}

#[test]
fn a_power_cut_under_load_loses_and_changes_nothing() {
    let (mut dice, _) = dice("power cuts");
    let rounds = rounds(40, 200);
    let clock = Instant::now();
    let (mut acknowledged, mut deleted, mut broken, mut done) = (0, 0, 0, 0);
    while done < rounds {
        let mut rig = Rig::new(&format!("cut-{done}"), None);
        for n in 0..ROUNDS_A_DISK.min(rounds - done) {
            let round = Round {
                deletes: if n % 2 == 1 { 3 } else { 0 },
                twice: n % 4 == 2,
                killed_first: n % 5 == 3,
                again: n % 5 == 4,
                ..Round::default()
            };
            let verdict = rig.round(round, &mut dice);
            done += 1;
            println!(
                "round {done}: {} acknowledged on this disk, {} there, {} deleted: {verdict}",
                rig.acknowledged(),
                verdict.present,
                rig.ledger.deleted()
            );
            assert!(verdict.is_good(), "round {done}, {round:?}: {verdict}");
        }
        deleted += rig.ledger.deleted();
        let (outcome, verdict) = rig.end();
        assert!(verdict.is_good(), "in the end: {verdict}");
        assert_eq!(outcome.refused, Vec::<String>::new());
        acknowledged += outcome.acknowledged.len();
        broken += outcome.broken;
    }
    let seconds = clock.elapsed().as_secs_f64();
    println!(
        "power cuts: {rounds} rounds, {acknowledged} acknowledged, {deleted} deleted, 0 lost, 0 damaged, \
         {broken} connections broken, {seconds:.1} s, {:.2} s a round",
        seconds / rounds as f64
    );
    assert!(broken > 0 && deleted > 0, "nobody was at work when the power went");
}

#[test]
fn a_power_cut_during_the_very_first_start_costs_nothing_acknowledged() {
    let (mut dice, _) = dice("first starts");
    let rounds = rounds(12, 60);
    let clock = Instant::now();
    let mut created = 0;
    for round in 1..=rounds {
        let disk = Disk::new(64);
        let mut gateway = gateway_on(&disk, "");
        let switch = disk.switch();
        gateway.begin_start();
        let account = if round % 3 == 0 {
            // Into the start itself.
            linger(&mut dice, FIRST_START / 4);
            cut_under(&mut gateway, switch);
            None
        } else {
            gateway.finish_start().unwrap_or_else(|why| panic!("{why}"));
            let mut create = gateway.command(&CREATE_ACCOUNT);
            create.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut create = create.spawn().unwrap();
            match round % 3 {
                1 => linger(&mut dice, FIRST_START),
                // Right behind the answer.
                _ => until("an account", || create.try_wait().unwrap().map(drop)),
            }
            linger(&mut dice, FIRST_START / 100);
            cut_under(&mut gateway, switch);
            let output = create.wait_with_output().unwrap();
            output.status.success().then(|| Account::of(&serde_json::from_slice(&output.stdout).unwrap()))
        };
        disk.power_on();
        gateway.start_again();
        gateway.assert_store_is_whole();
        created += u64::from(account.is_some());
        // What was said to be there is, and its password works; in any case there can be another.
        for account in account.into_iter().chain([gateway.create_account()]) {
            let mut ledger = Ledger::default();
            let verdict = ledger.judge(&gateway, &account, &BTreeMap::new(), &BTreeSet::new(), false);
            assert!(verdict.is_good(), "round {round}: {verdict}");
        }
    }
    let seconds = clock.elapsed().as_secs_f64();
    println!(
        "first starts: {rounds} rounds, {created} accounts made before the cut, all there, {seconds:.1} s"
    );
    assert!(created > 0, "the cut always came before the account was made");
}

/// Failures of the log that a server must get over before the power is cut.
pub(crate) fn failures() -> impl Iterator<Item = Injection> {
    let once = |calls: &'static str, effect: &'static str| {
        (1..=2).map(move |first| Injection { calls, effect, first, times: Times::Once, on: On::Log })
    };
    once("fdatasync", "error=EIO")
        .chain(once("pwrite64", "error=EIO"))
        .chain([Injection { times: Times::Twice, ..once("fdatasync", "error=EIO").next().unwrap() }])
}

#[test]
fn after_a_failed_write_or_sync_mail_goes_to_a_new_segment_and_outlives_a_power_cut() {
    let (mut dice, _) = dice("failures, then power cuts");
    let mut rig = Rig::new("eio", None);
    for fault in failures() {
        let before = segments(&rig.gateway.data_dir());
        let hits = rig.hits;
        let round = Round { fault: Some(fault), again: true, ..Round::default() };
        let verdict = rig.round(round, &mut dice);
        let after = segments(&rig.gateway.data_dir());
        let hits = rig.hits - hits;
        println!("{fault:?}: {hits} calls failed, segments {before:?}, then {after:?}: {verdict}");
        assert!(verdict.is_good(), "{fault:?}: {verdict}");
        assert!(hits > 0 && after.last() > before.last(), "{fault:?}: no call failed, or no new segment");
    }
    let (outcome, verdict) = rig.end();
    assert!(verdict.is_good(), "in the end: {verdict}");
    assert_eq!(outcome.refused, Vec::<String>::new());
    println!(
        "failures, then power cuts: {} acknowledged, {} deferred, 0 lost, 0 damaged",
        outcome.acknowledged.len(),
        outcome.deferred
    );
    assert!(outcome.deferred > 0, "nothing was deferred");
}
