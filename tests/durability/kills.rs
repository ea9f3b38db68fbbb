//! The process killed: under load, while it starts, while it makes its index anew.
//!
//! `kill -9` finds what a crash of the process loses, torn state and double work; it cannot find a sync that is missing.

use super::gateway::{Gateway, replace_index};
use super::load::{Dice, Loader, Outcome};
use super::maildrop::Fetched;
use super::seen::Seen;
use super::sender::mixed_sizes;
use super::{given, is_long};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Starts after which one must have been killed at the right moment.
const TRIES_MAX: u64 = 40;

#[test]
fn kill_9_under_load_loses_and_doubles_nothing() {
    let rounds = if is_long() { 20 } else { 5 };
    let seed = given("DAYBOOK_SEED").unwrap_or(20_261_121);
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

/// How long a start takes until it serves.
fn time_to_serve(gateway: &mut Gateway) -> Duration {
    let clock = Instant::now();
    gateway.start_again();
    clock.elapsed()
}

/// Starts, kills at a random moment of what a start takes, so many times in a row, and until one of them was the right one.
/// `when` says of a data directory whether it was too early, right or too late.
fn kill_while_starting(
    gateway: &mut Gateway,
    dice: &mut Dice,
    mut start_takes: Duration,
    times: u64,
    when: impl Fn(&Path) -> Ordering,
) -> u64 {
    let mut right = 0;
    for n in 0..TRIES_MAX {
        if n >= times && right > 0 {
            break;
        }
        gateway.begin_to_start(gateway.serve());
        let moment = Instant::now() + start_takes.mul_f64(dice.below(1_000) as f64 / 1_000.0);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        gateway.kill();
        match when(&gateway.data_dir()) {
            Ordering::Equal => right += 1,
            // The machine may be busier than it was, or less.
            Ordering::Less => start_takes = start_takes.mul_f64(1.5),
            Ordering::Greater => start_takes = start_takes.mul_f64(0.7),
        }
    }
    assert!(right > 0, "{TRIES_MAX} kills fell at other moments than was wanted");
    right
}

/// Before it serves.
fn before_it_serves(data_dir: &Path) -> Ordering {
    if data_dir.join("ports.json").exists() { Ordering::Greater } else { Ordering::Equal }
}

/// While the index is made. When that is over, it is taken away once more.
fn while_the_index_is_made(data_dir: &Path) -> Ordering {
    if data_dir.join("index.sqlite").exists() {
        replace_index(data_dir, None);
        return Ordering::Greater;
    }
    if data_dir.join("index.sqlite.new").exists() { Ordering::Equal } else { Ordering::Less }
}

#[test]
fn kills_while_it_starts_lose_and_double_nothing() {
    let rounds = if is_long() { 40 } else { 8 };
    let seed = given("DAYBOOK_SEED").unwrap_or(20_261_121);
    let mut dice = Dice::new(seed);
    let mut gateway = Gateway::start();
    let account = gateway.create_account();
    let loader = Loader::start("start", &account.address, 8, mixed_sizes);
    let mut seen = Seen::default();
    let kept = gateway.path("kept");
    fs::create_dir(&kept).unwrap();
    let clock = Instant::now();
    let mut start_takes = Duration::from_millis(200);
    let mut early = 0;
    for round in 1..=rounds {
        loader.target(Some(gateway.smtp()));
        loader.wait_for(loader.acknowledged_count() + 30 + dice.below(100) as usize);
        gateway.kill();
        loader.target(None);
        let acknowledged = loader.acknowledged();
        // The index as a power cut would leave it, so that there is something to replay and to secure; or none at all.
        match round % 4 {
            0 => replace_index(&gateway.data_dir(), None),
            1 => {}
            _ if kept.join("index.sqlite").exists() => replace_index(&gateway.data_dir(), Some(&kept)),
            _ => {}
        }
        early += kill_while_starting(&mut gateway, &mut dice, start_takes, 1 + round % 3, before_it_serves);
        start_takes = time_to_serve(&mut gateway);
        if round % 4 != 0 {
            // Without an index nobody knows what was acknowledged: a last group that the kill cut short is named, and kept.
            gateway.assert_store_is_whole();
        }
        seen.catch_up(&gateway, &account);
        let (lost, doubled) = seen.judge(&loader.begun(), &acknowledged);
        assert_eq!((lost, doubled), (0, 0), "round {round}, seed {seed}");
        if round % 4 == 1 {
            gateway.terminate();
            for suffix in ["", "-wal"] {
                let name = format!("index.sqlite{suffix}");
                drop(fs::copy(gateway.data_dir().join(&name), kept.join(&name)));
            }
            gateway.start_again();
        }
    }
    loader.target(Some(gateway.smtp()));
    loader.wait_for(loader.acknowledged_count() + 40);
    let Outcome { begun, acknowledged, refused, .. } = loader.stop();
    assert_eq!(refused, Vec::<String>::new());
    seen.catch_up(&gateway, &account);
    seen.check_again(&gateway, &account);
    assert_eq!(seen.judge(&begun, &acknowledged), (0, 0));
    println!(
        "kills while starting: {rounds} rounds (seed {seed}), {early} kills before it served, {} acknowledged, the last start took {} ms, \
         0 lost, 0 doubled, {:.1} s",
        acknowledged.len(),
        start_takes.as_millis(),
        clock.elapsed().as_secs_f64()
    );
}

#[test]
fn kills_while_the_index_is_made_anew_cost_nothing_but_time() {
    let rounds = if is_long() { 30 } else { 6 };
    let seed = given("DAYBOOK_SEED").unwrap_or(20_261_121);
    let mut dice = Dice::new(seed);
    let mut gateway = Gateway::start();
    let account = gateway.create_account();
    let loader = Loader::start("rebuild", &account.address, 16, |n| 1_500 + 40 * (n % 64) as usize);
    loader.target(Some(gateway.smtp()));
    loader.wait_for(if is_long() { 6_000 } else { 1_500 });
    let Outcome { begun, acknowledged, .. } = loader.stop();
    let mut seen = Seen::default();
    seen.catch_up(&gateway, &account);
    assert_eq!(seen.judge(&begun, &acknowledged), (0, 0));
    gateway.terminate();
    replace_index(&gateway.data_dir(), None);
    let rebuild_takes = time_to_serve(&mut gateway);
    let mut within = 0;
    for round in 1..=rounds {
        // In good order or not: an index that is not there is made anew from the first segment.
        if round % 2 == 0 {
            gateway.terminate();
        } else {
            gateway.kill();
        }
        replace_index(&gateway.data_dir(), None);
        let times = 1 + round % 3;
        within += kill_while_starting(&mut gateway, &mut dice, rebuild_takes, times, while_the_index_is_made);
        gateway.start_again();
        gateway.assert_store_is_whole();
        let mut maildrop = gateway.maildrop(&account);
        let uidls: BTreeSet<_> = maildrop.uidls().into_keys().collect();
        maildrop.quit().unwrap();
        assert!(
            uidls.iter().eq(seen.messages.keys()),
            "round {round}, seed {seed}: other messages than before"
        );
    }
    seen.check_again(&gateway, &account);
    println!(
        "kills while the index is made anew: {rounds} rounds (seed {seed}), {within} kills while it was made, {} messages, {} ms to make \
         it, every UIDL as before",
        seen.messages.len(),
        rebuild_takes.as_millis()
    );
}
