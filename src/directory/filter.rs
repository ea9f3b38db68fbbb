//! Which of those that a directory names become users. Pure.
//!
//! Whoever is left out is left out for one reason, and it is told. Shared mailboxes are what admins lose without noticing: they
//! are disabled and without licence by nature, so filters meant for people who left take them too. They stay unless the
//! configuration says otherwise, and when one is dropped it is listed before all others; behind it what may be one.

use super::snapshot::{ProxyAddress, User, listed_key};
use super::source::{CANDIDATE_ADDRESSES_MAX, Candidate, CandidateKind};
use crate::config::Filters;
use crate::mail::AddressKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};

/// Longest id of a user, in octets: it becomes part of store keys.
const ID_OCTETS_MAX: usize = 255;
/// Longest name, in octets.
const NAME_OCTETS_MAX: usize = 1_024;
/// Of those filtered out, so many are listed in a report.
pub const FILTERED_LISTED_MAX: usize = 1_000;
/// And so many are kept in mind, with their addresses, to say why an address leads to nobody.
const FILTERED_KEPT_MAX: usize = 20_000;

/// Somebody the directory knows, and who is no user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilteredOut {
    /// The directory's id for it.
    pub id: String,
    /// For people.
    pub name: String,
    /// Its primary address.
    pub address: Option<String>,
    /// `user`, `shared`, `guest` or `group`.
    pub kind: String,
    /// It is a shared mailbox, or looks like one: disabled, without licence, and with an address. To be looked at twice.
    pub is_shared: bool,
    /// It may be a shared mailbox with a licence (over 50 GB, archive, hold), or somebody who left: disabled, with an Exchange plan
    /// and an address. To be looked at, too.
    #[serde(default)]
    pub may_be_shared: bool,
    /// Why.
    pub reason: String,
}

/// One of them with everything mail could be addressed to.
#[derive(Clone, Debug)]
pub(super) struct Dropped {
    pub(super) out: FilteredOut,
    pub(super) addresses: Vec<AddressKey>,
}

/// What a listing comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Filtered {
    /// In the directory's order.
    pub(super) users: Vec<User>,
    /// Shared mailboxes first, then what may be one, then in the directory's order; at most [`FILTERED_KEPT_MAX`].
    pub(super) dropped: Vec<Dropped>,
    /// All that were dropped.
    pub(super) dropped_count: u64,
}

/// Sorts candidates into users and others.
pub(super) fn sort(candidates: Vec<Candidate>, filters: &Filters) -> Filtered {
    let wanted: Option<BTreeSet<String>> =
        filters.groups.as_ref().map(|groups| groups.iter().map(|group| folded(group)).collect());
    let mut filtered = Filtered { users: Vec::with_capacity(candidates.len()), ..Filtered::default() };
    let mut ids = HashSet::with_capacity(candidates.len());
    let (mut doubtful, mut others) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let reason = reason(&candidate, filters, wanted.as_ref());
        let reason = reason.or_else(|| id_fault(&candidate.id).map(str::to_owned));
        let reason = reason.or_else(|| {
            (!ids.insert(candidate.id.clone())).then(|| "its id stands in the list twice".to_owned())
        });
        match reason {
            None => filtered.users.extend(user(candidate)),
            Some(reason) => {
                filtered.dropped_count += 1;
                let dropped = dropped(candidate, reason);
                let list = match (dropped.out.is_shared, dropped.out.may_be_shared) {
                    (true, _) => &mut filtered.dropped,
                    (false, true) => &mut doubtful,
                    (false, false) => &mut others,
                };
                if list.len() < FILTERED_KEPT_MAX {
                    list.push(dropped);
                }
            }
        }
    }
    filtered.dropped.append(&mut doubtful);
    filtered.dropped.append(&mut others);
    filtered.dropped.truncate(FILTERED_KEPT_MAX);
    filtered
}

/// A shared mailbox, or what cannot be told from one. Graph does not say which users are.
fn looks_shared(candidate: &Candidate) -> bool {
    candidate.kind == CandidateKind::Shared
        || (candidate.kind == CandidateKind::User
            && candidate.enabled == Some(false)
            && candidate.licensed == Some(false)
            && candidate.primary.is_some())
}

/// A shared mailbox with a licence looks like somebody who left and still has one.
fn may_be_shared(candidate: &Candidate) -> bool {
    candidate.kind == CandidateKind::User
        && candidate.enabled == Some(false)
        && candidate.licensed == Some(true)
        && candidate.primary.is_some()
}

fn reason(candidate: &Candidate, filters: &Filters, groups: Option<&BTreeSet<String>>) -> Option<String> {
    let because = |text: &str| Some(text.to_owned());
    if candidate.primary.is_none() {
        return because("no SMTP address");
    }
    match candidate.kind {
        CandidateKind::Guest if !filters.include_guests => return because("guest: include_guests = false"),
        CandidateKind::Group if !filters.include_groups => return because("group: include_groups = false"),
        _ => {}
    }
    let is_shared = looks_shared(candidate);
    if is_shared && !filters.include_shared {
        return because("shared mailbox: include_shared = false");
    }
    if let Some(groups) = groups
        // A group that is a user itself is asked for by include_groups, not by its membership.
        && candidate.kind != CandidateKind::Group
        && !candidate.groups.iter().any(|group| groups.contains(&folded(group)))
    {
        return because("not in any of the groups");
    }
    if is_shared || candidate.kind == CandidateKind::Group {
        return None;
    }
    if filters.licensed_only && candidate.licensed == Some(false) {
        return because("no Exchange Online plan");
    }
    if filters.enabled_only && may_be_shared(candidate) {
        return because("account is disabled, and has an Exchange plan: may be a shared mailbox");
    }
    if filters.enabled_only && candidate.enabled == Some(false) {
        return because("account is disabled");
    }
    None
}

/// Object ids and distinguished names are compared without regard to ASCII case.
fn folded(group: &str) -> String {
    group.trim().to_ascii_lowercase()
}

fn id_fault(id: &str) -> Option<&'static str> {
    let usable = !id.trim().is_empty() && id.len() <= ID_OCTETS_MAX && !id.chars().any(char::is_control);
    (!usable).then_some("its id is empty, too long or no text")
}

/// `None` without a primary address, which was looked at before.
fn user(candidate: Candidate) -> Option<User> {
    let primary = candidate.primary?;
    let mut seen = HashSet::from([primary.key()]);
    let aliases: Vec<ProxyAddress> = candidate
        .aliases
        .into_iter()
        .filter(|alias| seen.insert(alias.key()))
        .take(CANDIDATE_ADDRESSES_MAX)
        .collect();
    let name = readable(&candidate.name).unwrap_or_else(|| primary.as_str().to_owned());
    Some(User { id: candidate.id, name, primary, aliases })
}

/// A name for logs and folders' labels: on one line, and not longer than need be. `None` when nothing is left.
fn readable(name: &str) -> Option<String> {
    let one_line: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut text = one_line.trim();
    while text.len() > NAME_OCTETS_MAX {
        let mut chars = text.chars();
        chars.next_back();
        text = chars.as_str();
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn dropped(candidate: Candidate, reason: String) -> Dropped {
    let (is_shared, may_be_shared) = (looks_shared(&candidate), may_be_shared(&candidate));
    let address = candidate.primary.as_ref().map(|primary| primary.as_str().to_owned());
    let texts = address.iter().map(String::as_str).chain(candidate.aliases.iter().map(ProxyAddress::as_str));
    Dropped {
        addresses: texts.take(CANDIDATE_ADDRESSES_MAX).map(listed_key).collect(),
        out: FilteredOut {
            id: candidate.id,
            name: readable(&candidate.name).unwrap_or_default(),
            address,
            kind: candidate.kind.as_str().to_owned(),
            is_shared,
            may_be_shared,
            reason,
        },
    }
}

#[cfg(test)]
mod tests;
