//! Every case of `corpus/assign`: users and envelopes, and who gets the message, why, and who nobody is.
//!
//! `[policy]` is what may be chosen about matching, `[[user]]` is read by the directory's own reader, `[[envelope]]` is a
//! `JournaledEnvelope`; `[[placement]]` and `[[unmatched]]` are what must come out, in that order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use daybook::assign::{Assignment, Policy, Unmatched, assign};
use daybook::directory::source::file;
use daybook::directory::{Snapshot, User};
use daybook::mail::{JournaledEnvelope, UserFolder};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    policy: Chosen,
    user: Vec<toml::Table>,
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

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Placed {
    user: String,
    folder: UserFolder,
    reasons: Vec<String>,
}

fn users(case: &Case, path: &Path) -> Vec<User> {
    let sections = case.user.iter().map(|user| format!("[[user]]\n{user}\n"));
    file::parse(&sections.collect::<String>(), path).unwrap()
}

fn check(path: &Path) {
    let case: Case = toml::from_str(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let snapshot = Snapshot::of(users(&case, path));
    let policy = Policy::new(case.policy.domain_aliases, case.policy.plus_tags);
    let Assignment { placements, unmatched } = assign(&case.envelope, &snapshot, &policy);
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
