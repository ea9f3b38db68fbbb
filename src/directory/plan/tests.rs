use super::*;
use crate::directory::diff::{AddressChange, CHANGES_LISTED_MAX, Changes, UserChange};
use crate::directory::roll::next;
use crate::directory::sample::{info, user, wanted};
use proptest::prelude::*;

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_000)
}

fn in_force(users: &[User]) -> Roll {
    next(None, wanted(users), Timestamp::from_unix_ms(0), 30)
}

fn plan(before: &[User], after: &[User]) -> Plan {
    let before = in_force(before);
    Plan::of(Some(&before), &Wanted::of(after.to_vec(), Some(&before)), Guard::default(), false, now())
}

/// So many users, from this number on, in x.example.
fn people(from: usize, to: usize) -> Vec<User> {
    (from..to).map(|n| user(&format!("u{n:03}"), &[&format!("u{n}@x.example")])).collect()
}

fn alarms(before: &[User], after: &[User]) -> Vec<&'static str> {
    plan(before, after).why.iter().map(Alarm::as_str).collect()
}

#[test]
fn tells_users_apart_by_id_and_says_what_became_of_them_and_their_addresses() {
    let before = [
        user("ann", &["ann@x.example", "info@x.example", "old@x.example"]),
        user("bob", &["bob@x.example", "shop@x.example"]),
        user("eve", &["eve@x.example"]),
    ];
    let renamed = User { name: "Anna".to_owned(), ..user("ann", &["anna@x.example", "ann@x.example"]) };
    let after = [
        renamed,
        user("bob", &["bob@x.example", "info@x.example"]),
        user("kim", &["kim@x.example", "eve@x.example"]),
    ];
    let diff = plan(&before, &after).diff;
    let ids = |changes: &Changes<UserChange>| changes.listed.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&diff.added), ids(&diff.removed)), (vec!["kim".to_owned()], vec!["eve".to_owned()]));
    let renamed = &diff.renamed.listed[0];
    assert_eq!((renamed.name_before.as_str(), renamed.name.as_str()), ("ANN", "Anna"));
    assert_eq!(
        (renamed.primary_before.as_str(), renamed.primary.as_str()),
        ("ann@x.example", "anna@x.example")
    );
    let moved: Vec<(&str, &str, &str)> = diff
        .addresses_moved
        .listed
        .iter()
        .map(|m| (m.address.as_str(), m.from.as_str(), m.to.as_str()))
        .collect();
    assert_eq!(moved, [("eve@x.example", "eve", "kim"), ("info@x.example", "ann", "bob")]);
    let one = |changes: &Changes<AddressChange>| {
        changes.listed.iter().map(|c| (c.address.clone(), c.id.clone())).collect::<Vec<_>>()
    };
    assert_eq!(one(&diff.addresses_added), [("anna@x.example".to_owned(), "ann".to_owned())]);
    let lost = [("old@x.example", "ann"), ("shop@x.example", "bob")];
    assert_eq!(one(&diff.addresses_removed), lost.map(|(a, id)| (a.to_owned(), id.to_owned())));
    assert!(diff.returned.count == 0 && !diff.is_empty());
    assert!(plan(&before, &before).diff.is_empty());
}

#[test]
fn who_comes_back_within_the_grace_period_is_said_to_return() {
    let both = [user("ann", &["ann@x.example"]), user("bob", &["bob@x.example"])];
    let first = in_force(&both);
    let gone = next(Some(&first), Wanted::of(both[1..].to_vec(), Some(&first)), now(), 30);
    let back = Wanted::of(both.to_vec(), Some(&gone));
    let diff_at = |at| Plan::of(Some(&gone), &back, Guard::default(), false, at).diff;
    let diff = diff_at(now());
    assert_eq!((diff.added.count, diff.returned.count, diff.addresses_moved.count), (1, 1, 0));
    let late = diff_at(Timestamp::from_unix_ms(31 * 86_400_000));
    assert_eq!((late.added.count, late.returned.count), (1, 0));
}

#[test]
fn changes_are_counted_beyond_those_listed() {
    let diff = plan(&people(0, 1), &people(0, 2_500)).diff;
    assert_eq!((diff.added.count, diff.added.listed.len()), (2_499, CHANGES_LISTED_MAX));
    assert!(diff.added.listed.is_sorted_by(|one, next| one.id <= next.id));
}

#[test]
fn a_change_that_takes_too_much_away_is_not_believed() {
    let ten = people(0, 10);
    assert_eq!(alarms(&ten, &people(5, 10)), [""; 0], "five may go of any number");
    assert_eq!(alarms(&ten, &people(6, 10)), ["removed"]);
    let hundred = people(0, 100);
    assert_eq!(alarms(&hundred, &people(10, 100)), [""; 0]);
    assert_eq!(alarms(&hundred, &people(11, 100)), ["removed"]);
    assert_eq!(alarms(&hundred, &[]), ["empty"]);
    assert_eq!(alarms(&ten, &people(0, 500)), [""; 0], "what is added is believed");
    assert_eq!(alarms(&[], &people(0, 3)), [""; 0]);
    let first = Plan::of(None, &wanted(&people(0, 1)), Guard::default(), false, now());
    assert!(first.why.is_empty(), "a first reading has nothing to be measured by");
    let why = plan(&hundred, &people(50, 100)).why;
    assert_eq!(why[0].to_string(), "50 of 100 users would go, and 10 may go at once");
}

#[test]
fn a_guard_may_be_wider_or_tighter() {
    let before = in_force(&people(0, 100));
    let wanted = Wanted::of(people(1, 100), Some(&before));
    let tight = Guard { max_removed: 0, max_removed_percent: 0 };
    assert_eq!(Plan::of(Some(&before), &wanted, tight, false, now()).why[0].as_str(), "removed");
    let wanted = Wanted::of(people(99, 100), Some(&before));
    let wide = Guard { max_removed: 5, max_removed_percent: 100 };
    assert!(Plan::of(Some(&before), &wanted, wide, false, now()).why.is_empty());
}

#[test]
fn a_domain_of_which_nobody_is_left_is_missed() {
    let with = |domain: &str| user("boss", &["boss@x.example", &format!("boss@{domain}"), "x500:/o=gone"]);
    let before = [people(0, 9), vec![with("Old.example")]].concat();
    let after = [people(0, 9), vec![with("X.example")]].concat();
    let why = plan(&before, &after).why;
    assert_eq!(why, [Alarm::Domains { domains: vec!["old.example".to_owned()], count: 1 }]);
    assert_eq!(alarms(&before, &before), [""; 0]);
}

#[test]
fn users_who_stay_and_lose_their_addresses_are_missed_too() {
    let aliased =
        |n: usize| user(&format!("u{n:03}"), &[&format!("u{n}@x.example"), &format!("a{n}@x.example")]);
    let before: Vec<User> = (0..100).map(aliased).collect();
    let lost = |count: usize| [people(0, count), (count..100).map(aliased).collect()].concat();
    assert_eq!(alarms(&before, &lost(10)), [""; 0]);
    assert_eq!(alarms(&before, &lost(11)), ["addresses-lost"]);
}

#[test]
fn users_who_stay_and_lose_their_addresses_to_others_are_missed_too() {
    // As a table whose ids are numbers of rows, and what becomes of it when a row is put in before the first.
    let rows = |from: usize, to: usize| -> Vec<User> {
        (from..to).zip(1..).map(|(n, id)| user(&format!("{id}"), &[&format!("u{n}@x.example")])).collect()
    };
    let why = plan(&rows(1, 101), &rows(0, 101)).why;
    assert_eq!(why, [Alarm::AddressesMoved { users: 100, of: 100, limit: 10 }]);
    assert_eq!(why[0].as_str(), "addresses-moved");
    assert_eq!(why[0].to_string(), "100 of 100 users would lose addresses to others, and 10 may at once");
    assert_eq!(alarms(&rows(1, 101), &rows(2, 101)), ["addresses-moved"], "when the first row goes");

    let second =
        |n: usize| user(&format!("u{n:03}"), &[&format!("u{n}@x.example"), &format!("s{n}@x.example")]);
    let before: Vec<User> = (0..100).map(second).collect();
    // One user has what was of the first so many.
    let taken = |count: usize| -> Vec<User> {
        let names: Vec<String> = (0..count).map(|n| format!("s{n}@x.example")).collect();
        let heir: Vec<&str> =
            std::iter::once("heir@x.example").chain(names.iter().map(String::as_str)).collect();
        [people(0, count), (count..100).map(second).collect(), vec![user("heir", &heir)]].concat()
    };
    assert_eq!(alarms(&before, &taken(10)), [""; 0]);
    assert_eq!(alarms(&before, &taken(11)), ["addresses-moved"]);
    assert_eq!(alarms(&taken(50), &before), [""; 0], "one user who goes loses nothing to others");
}

#[test]
fn after_a_rollback_every_difference_waits() {
    let before = in_force(&people(0, 3));
    let wanted = Wanted::of(people(0, 4), Some(&before));
    assert_eq!(Plan::of(Some(&before), &wanted, Guard::default(), true, now()).why, [Alarm::Held]);
}

#[test]
fn a_contested_address_stays_with_whom_it_is_whatever_the_order() {
    let ann = user("ann", &["ann@x.example", info()]);
    let bob = user("bob", &["bob@x.example", info()]);
    let key = AddressKey::of(info());
    let first = Wanted::of(vec![bob.clone(), ann.clone()], None);
    assert_eq!(first.contested[&key], "bob", "the first of a first list");
    let before = in_force(std::slice::from_ref(&ann));
    let second = Wanted::of(vec![bob.clone(), ann.clone()], Some(&before));
    assert_eq!(second.contested[&key], "ann", "who has it keeps it");
    let conflicts: Vec<String> = second.conflicts().iter().map(ToString::to_string).collect();
    assert_eq!(conflicts, ["info@x.example is claimed by users ann and bob: ann keeps it"]);
    let both = next(Some(&before), second, now(), 30);
    let again = Wanted::of(vec![bob.clone(), ann], Some(&both));
    assert!(again.is_in_force(&both), "in any order");
    let without = Wanted::of(vec![user("ann", &["ann@x.example"]), bob], Some(&both));
    assert!(without.contested.is_empty(), "nobody else claims it any more");
    let diff = Plan::of(Some(&both), &without, Guard::default(), false, now()).diff;
    assert_eq!(diff.addresses_moved.listed[0].to, "bob");
}

#[test]
fn who_is_unchanged_is_not_held_twice_in_memory() {
    let before = in_force(&people(0, 3));
    let wanted = Wanted::of(people(0, 4), Some(&before));
    assert!(before.users.iter().zip(&wanted.users).all(|(had, has)| Arc::ptr_eq(had, has)));
}

proptest! {
    #[test]
    fn nothing_passes_unasked_that_takes_more_away_than_may_go(
        before in 1..120_usize, kept in 0..120_usize, max_removed in 0..20_u32, max_removed_percent in 0..=100_u8,
    ) {
        let kept = kept.min(before);
        let guard = Guard { max_removed, max_removed_percent };
        let roll = in_force(&people(0, before));
        let wanted = Wanted::of(people(before - kept, before), Some(&roll));
        let why = Plan::of(Some(&roll), &wanted, guard, false, now()).why;
        let removed = before - kept;
        let may_go = (max_removed as usize).max(before * usize::from(max_removed_percent) / 100);
        prop_assert_eq!(why.is_empty(), kept > 0 && removed <= may_go);
    }
}
