//! Every case of `corpus/assign`: users and envelopes, and who gets the message, why, and who nobody is.
//!
//! `[policy]` is what may be chosen about matching, `[[user]]` is read by the directory's own reader, `[[envelope]]` is a
//! `JournaledEnvelope`, received at `received_at`; `[began]` says since when an address is its present owner's, `[[former]]` whose
//! one was, by the id of one of the users or of `[[gone]]`, who are none any more. `[[placement]]` and `[[unmatched]]` are what must come out, in that order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use daybook::assign::{Assignment, Policy, Unmatched, assign};
use daybook::directory::source::file;
use daybook::directory::{Roll, Snapshot, Tenure, User};
use daybook::mail::{AddressKey, JournaledEnvelope, Timestamp, UserFolder};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    policy: Chosen,
    user: Vec<toml::Table>,
    #[serde(default)]
    gone: Vec<toml::Table>,
    #[serde(default)]
    began: BTreeMap<String, Timestamp>,
    #[serde(default)]
    former: Vec<Former>,
    received_at: Option<Timestamp>,
    envelope: Vec<JournaledEnvelope>,
    #[serde(default)]
    placement: Vec<Placed>,
    #[serde(default)]
    unmatched: Vec<Unmatched>,
}

/// What is chosen about matching; nothing without `[policy]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Chosen {
    domain_aliases: BTreeMap<String, String>,
    plus_tags: bool,
}

/// Somebody had an address for a time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Former {
    address: String,
    user: String,
    from: Option<Timestamp>,
    gone: Option<Timestamp>,
    until: Timestamp,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Placed {
    user: String,
    folder: UserFolder,
    reasons: Vec<String>,
}

fn users(tables: &[toml::Table], path: &Path) -> Vec<Arc<User>> {
    if tables.is_empty() {
        return Vec::new();
    }
    let sections = tables.iter().map(|user| format!("[[user]]\n{user}\n"));
    file::parse(&sections.collect::<String>(), path).unwrap().into_iter().map(Arc::new).collect()
}

fn roll(case: &Case, path: &Path) -> Roll {
    let users = users(&case.user, path);
    let known: Vec<Arc<User>> =
        self::users(&case.gone, path).into_iter().chain(users.iter().cloned()).collect();
    let tenure = |former: &Former| Tenure {
        address: former.address.clone(),
        user: known.iter().find(|user| user.id == former.user).unwrap().clone(),
        from: former.from,
        gone: former.gone,
        until: former.until,
    };
    let began = case.began.iter().map(|(text, at)| (AddressKey::of(text), *at)).collect();
    let former = case.former.iter().map(tenure).collect();
    Roll { users, began, former, ..Roll::default() }
}

fn check(path: &Path) {
    let case: Case = toml::from_str(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let snapshot = Snapshot::of_rolls([&roll(&case, path)]);
    let policy = Policy::new(case.policy.domain_aliases, case.policy.plus_tags);
    let Assignment { placements, unmatched } =
        assign(&case.envelope, case.received_at.unwrap_or(Timestamp::from_unix_ms(0)), &snapshot, &policy);
    let placed: Vec<Placed> = placements
        .into_iter()
        .map(|placement| Placed {
            user: placement.user_id,
            folder: placement.folder,
            reasons: placement.reasons.iter().map(ToString::to_string).collect(),
        })
        .collect();
    assert_eq!(placed, case.placement, "{}", path.display());
    assert_eq!(unmatched, case.unmatched, "{}", path.display());
}

#[test]
fn every_case_is_placed_as_it_says() {
    let mut ran = 0;
    for entry in std::fs::read_dir("corpus/assign").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            check(&path);
            ran += 1;
        }
    }
    assert!(ran > 0, "no case in corpus/assign");
}
