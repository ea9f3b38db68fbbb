//! Safeguards of the store switched off one by one (`src/store/plant.rs`): each must be missed by the harness, or the harness is
//! worth nothing.
//!
//! Some cannot be missed by cutting the power of ext4, since any sync of a file writes the whole journal out, and with it every
//! name made before: those are missed by what is asked of the kernel (`order.rs`, `touching.rs`).

use super::gateway::until;
use super::load::Dice;
use super::power::failures;
use super::rig::{Rig, Round};
use super::strace::Injection;
use std::time::Instant;

/// Rounds after which a fault that was not seen is one that the harness is blind to.
const ROUNDS_MAX: u64 = 40;
/// Rounds on one disk.
const ROUNDS_A_DISK: u64 = 10;

/// Runs rounds on a store without one of its safeguards until something is wrong of the `kinds` that its absence shows in, and
/// prints when that was and what. A server that cannot be used shows nothing by itself: the machine may only be busy.
fn must_be_seen(plant: &str, kinds: &[&str], mut round: impl FnMut(u64) -> Round) {
    let mut dice = Dice::new(super::given("DAYBOOK_SEED").unwrap_or(20_261_121));
    let clock = Instant::now();
    let mut rig = Rig::new(plant, Some(plant));
    until("the server to say that it knows this fault", || {
        rig.gateway.events().iter().any(|(name, _)| name == "store.planted").then_some(())
    });
    for n in 0..ROUNDS_MAX {
        if n > 0 && n % ROUNDS_A_DISK == 0 {
            rig = Rig::new(&format!("{plant}-{n}"), Some(plant));
        }
        let verdict = rig.round(round(n), &mut dice);
        let wrong = verdict.names();
        if !wrong.is_empty() {
            assert!(wrong.iter().any(|kind| kinds.contains(kind)), "{plant}: {verdict}");
            println!(
                "| {plant} | {} | {:.1} s | {} acknowledged | {verdict} |",
                n + 1,
                clock.elapsed().as_secs_f64(),
                rig.acknowledged()
            );
            return;
        }
    }
    panic!("{plant}: not seen in {ROUNDS_MAX} rounds");
}

/// Cuts under load alone.
fn cut(_: u64) -> Round {
    Round::default()
}

/// The log fails before the power does.
fn fault(n: u64) -> Round {
    let failures: Vec<Injection> = failures().collect();
    Round { fault: Some(failures[n as usize % failures.len()]), again: true, ..Round::default() }
}

#[test]
fn a_log_that_is_not_synced_is_seen() {
    must_be_seen("skip-data-sync", &["lost", "altered", "vanished", "damaged"], cut);
}

#[test]
fn an_answer_before_the_sync_is_seen() {
    must_be_seen("answer-before-sync", &["lost", "altered", "vanished", "damaged"], cut);
}

#[test]
fn content_that_is_not_synced_is_seen() {
    must_be_seen("skip-content-sync", &["altered", "damaged"], cut);
}

#[test]
fn going_on_in_a_segment_that_failed_is_seen() {
    must_be_seen("append-after-failure", &["lost", "doubled", "damaged"], fault);
}

#[test]
fn an_index_that_runs_ahead_of_the_log_is_seen() {
    must_be_seen("index-before-log", &["lost", "altered", "damaged"], fault);
}

/// A gateway mailbox is made, and mail sent to it, over a keyring that is only in memory.
#[test]
fn a_keyring_that_is_not_synced_is_seen() {
    must_be_seen("skip-rename-file-sync", &["damaged"], cut);
}
