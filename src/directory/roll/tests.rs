use super::*;
use crate::directory::sample::{info, user, wanted};
use crate::directory::state::through_a_file;
use proptest::prelude::*;
use std::collections::BTreeMap;

const DAY: i64 = DAY_MS;

fn at(days: i64) -> Timestamp {
    Timestamp::from_unix_ms(days * DAY)
}

/// Whose an address is at a moment, as a roll says; it says one user or nobody.
fn whose(roll: &Roll, address: &str, moment: Timestamp) -> Option<String> {
    let key = listed_key(address);
    let holders = Holders::of(&roll.users, &roll.contested);
    let present = holders.holder(&key).filter(|_| roll.began.get(&key).is_none_or(|began| *began <= moment));
    let former = roll.former.iter().filter(|tenure| tenure.key() == key && tenure.covers(moment));
    let all: Vec<&str> =
        present.into_iter().map(|user| user.id.as_str()).chain(former.map(|t| t.user.id.as_str())).collect();
    assert!(all.len() <= 1, "{address} is of {all:?} at {moment}");
    all.first().map(|id| (*id).to_owned())
}

fn check(roll: &Roll, address: &str, expect: &[(i64, Option<&str>)]) {
    for (day, expect) in expect {
        assert_eq!(whose(roll, address, at(*day)).as_deref(), *expect, "{address} on day {day}");
    }
}

/// Rolls from these lists, read on these days, with ten days of grace.
fn history(steps: &[(i64, &[User])]) -> Roll {
    let mut roll: Option<Roll> = None;
    for (day, users) in steps {
        let wanted = Wanted::of(users.to_vec(), roll.as_ref());
        roll = Some(next(roll.as_ref(), wanted, at(*day), 10));
    }
    roll.unwrap()
}

#[test]
fn what_the_first_reading_says_has_always_been_so() {
    let roll = next(None, wanted(&[user("ann", &["ann@x.example"])]), at(5), 10);
    check(&roll, "ann@x.example", &[(0, Some("ann")), (9, Some("ann"))]);
    assert!(roll.began.is_empty() && roll.former.is_empty());
}

#[test]
fn a_new_users_addresses_are_theirs_from_then_on() {
    let ann = user("ann", &["ann@x.example"]);
    let ann_alone = std::slice::from_ref(&ann);
    let roll = history(&[(0, ann_alone), (5, &[ann.clone(), user("bob", &["bob@x.example"])])]);
    check(&roll, "bob@x.example", &[(4, None), (5, Some("bob"))]);
    check(&roll, "ann@x.example", &[(4, Some("ann"))]);
}

#[test]
fn an_address_that_moves_is_of_each_in_its_time() {
    let before = [user("ann", &["ann@x.example", "info@x.example"]), user("bob", &["bob@x.example"])];
    let after = [user("ann", &["ann@x.example"]), user("bob", &["bob@x.example", "info@x.example"])];
    let roll = history(&[(0, &before), (5, &after)]);
    check(&roll, info(), &[(4, Some("ann")), (5, Some("bob")), (50, Some("bob"))]);
    assert_eq!(roll.former[0].gone, None, "she is still there");
}

#[test]
fn who_is_gone_keeps_addresses_for_the_grace_period_unless_somebody_has_them() {
    let ann = user("ann", &["ann@x.example", "info@x.example"]);
    let bob = |addresses: &[&str]| user("bob", addresses);
    let gone = history(&[(0, &[ann.clone(), bob(&["bob@x.example"])]), (5, &[bob(&["bob@x.example"])])]);
    check(&gone, "ann@x.example", &[(4, Some("ann")), (14, Some("ann")), (15, None)]);
    assert_eq!(gone.former[0].gone, Some(at(5)));
    let heir = [bob(&["bob@x.example", "info@x.example"])];
    let cut = next(Some(&gone), Wanted::of(heir.to_vec(), Some(&gone)), at(8), 10);
    check(&cut, info(), &[(7, Some("ann")), (8, Some("bob"))]);
    check(&cut, "ann@x.example", &[(14, Some("ann")), (15, None)]);
    let back = [ann, bob(&["bob@x.example"])];
    let back = next(Some(&gone), Wanted::of(back.to_vec(), Some(&gone)), at(8), 10);
    check(&back, info(), &[(0, Some("ann")), (7, Some("ann")), (99, Some("ann"))]);
    assert!(back.former.is_empty(), "as if never gone: {:?}", back.former);
    let late = next(Some(&gone), wanted(&[user("ann", &["ann@x.example"])]), at(30), 10);
    check(&late, "ann@x.example", &[(14, Some("ann")), (15, None), (29, None), (30, Some("ann"))]);
}

#[test]
fn who_is_back_without_an_address_has_lost_it() {
    let ann = user("ann", &["ann@x.example", "info@x.example"]);
    let bob = user("bob", &["bob@x.example"]);
    let back = user("ann", &["ann@x.example"]);
    let roll =
        history(&[(0, &[ann, bob.clone()]), (5, std::slice::from_ref(&bob)), (8, &[back, bob.clone()])]);
    check(&roll, info(), &[(7, Some("ann")), (8, None)]);
}

#[test]
fn without_grace_an_address_ends_when_its_user_goes() {
    let before = next(None, wanted(&[user("ann", &["ann@x.example"])]), at(0), 0);
    let after = next(Some(&before), wanted(&[user("bob", &["bob@x.example"])]), at(5), 0);
    check(&after, "ann@x.example", &[(4, Some("ann")), (5, None)]);
}

#[test]
fn the_oldest_tenures_are_forgotten_first() {
    let ann = Arc::new(user("ann", &["ann@x.example"]));
    let tenure = |until: i64| Tenure {
        address: "ann@x.example".to_owned(),
        user: Arc::clone(&ann),
        from: None,
        gone: None,
        until: Timestamp::from_unix_ms(until),
    };
    let mut former: Vec<Tenure> = (0..i64::try_from(FORMER_MAX).unwrap() + 3).rev().map(tenure).collect();
    forget(&mut former);
    assert_eq!(former.len(), FORMER_MAX);
    assert_eq!(former[0].until.unix_ms(), 3);
}

/// Addresses that lists of the property are made of: besides them every user has one alone.
const CONTESTED: [&str; 4] = ["info@x.example", "Sales@x.example", "x500:/o=Org/cn=shop", "help@y.example"];
const IDS: [&str; 4] = ["ann", "bob", "eve", "kim"];
const GRACE_DAYS: i64 = 6;

/// What should hold, kept in the plainest way.
#[derive(Default)]
struct Model {
    owners: BTreeMap<String, String>,
    grace: BTreeMap<String, (String, i64)>,
    /// On each day, who had what.
    days: Vec<BTreeMap<String, String>>,
}

impl Model {
    fn pass_until(&mut self, day: i64) {
        while (self.days.len() as i64) < day {
            let today = self.days.len() as i64;
            let mut had = self.owners.clone();
            let kept = self.grace.iter().filter(|(_, (_, until))| today < *until);
            had.extend(kept.map(|(address, (id, _))| (address.clone(), id.clone())));
            self.days.push(had);
        }
    }

    fn read(&mut self, day: i64, users: &[User]) {
        self.pass_until(day);
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for user in users {
            for address in user.addresses() {
                let key = listed_key(address).as_str().to_owned();
                let claims = |id: &String| {
                    users.iter().any(|u| u.id == *id && u.addresses().any(|a| listed_key(a).as_str() == key))
                };
                let kept = self.owners.get(&key).filter(|id| claims(id)).cloned();
                owners.entry(key.clone()).or_insert_with(|| kept.unwrap_or_else(|| user.id.clone()));
            }
        }
        let is_there = |id: &String| users.iter().any(|user| user.id == *id);
        self.grace
            .retain(|address, (id, until)| day < *until && !owners.contains_key(address) && !is_there(id));
        for (address, id) in &self.owners {
            if !owners.contains_key(address) && !is_there(id) {
                self.grace.insert(address.clone(), (id.clone(), day + GRACE_DAYS));
            }
        }
        self.owners = owners;
    }
}

fn lists() -> impl Strategy<Value = Vec<(i64, Vec<User>)>> {
    let addresses = proptest::sample::subsequence(CONTESTED.to_vec(), 0..=CONTESTED.len());
    let one = (proptest::bool::weighted(0.7), addresses);
    let list = (proptest::collection::vec(one, IDS.len()), any::<bool>());
    let made = list.prop_map(|(chosen, turned)| {
        let both = IDS.iter().zip(chosen).filter(|(_, (is_there, _))| *is_there);
        let mut users: Vec<User> = both
            .map(|(id, (_, shared))| {
                let own = format!("{id}@x.example");
                user(id, &[&[own.as_str()], shared.as_slice()].concat())
            })
            .collect();
        if turned {
            users.reverse();
        }
        users
    });
    proptest::collection::vec((1..5_i64, made), 1..9)
}

proptest! {
    #[test]
    fn readings_one_after_the_other_say_for_ever_who_had_what_when(steps in lists()) {
        let mut model = Model::default();
        let mut roll: Option<Roll> = None;
        let mut day = 0;
        for (days, users) in steps {
            if roll.is_some() {
                day += days;
            }
            model.read(day, &users);
            let wanted = Wanted::of(users, roll.as_ref());
            let made = next(roll.as_ref(), wanted, at(day), GRACE_DAYS as u16);
            let restarted = through_a_file(&made);
            prop_assert_eq!(&restarted, &made, "nothing is lost by a restart");
            roll = Some(restarted);
        }
        model.pass_until(day + 2 * GRACE_DAYS);
        let roll = roll.unwrap();
        let own = IDS.map(|id| format!("{id}@x.example"));
        for (day, had) in model.days.iter().enumerate() {
            for address in CONTESTED.iter().copied().chain(own.iter().map(String::as_str)) {
                let expect = had.get(listed_key(address).as_str());
                let found = whose(&roll, address, at(day as i64));
                prop_assert_eq!(found.as_ref(), expect, "{} on day {}", address, day);
            }
        }
    }
}
