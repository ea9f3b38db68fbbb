//! The process killed: under load, while it starts, while it makes its index anew.
//!
//! `kill -9` finds what a crash of the process loses, torn state and double work; it cannot find a sync that is missing.

use super::gateway::Gateway;
use super::load::{Dice, Loader, Outcome};
use super::maildrop::Fetched;
use super::seen::Seen;
use super::sender::mixed_sizes;
use super::{given, is_long};
use std::collections::BTreeSet;

use std::time::Instant;

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
