//! What would be in force of a source after a sync, and whether that can be believed. Pure.
//!
//! ```text
//! users ─▶ whose is a contested address? ─▶ Wanted ─▶ Diff ─▶ guard ─▶ apply, or ask a person
//! ```
//! A directory that is half there looks like one from which half of the people left. So a change that takes much away waits
//! for a person's word; what adds goes through.

use super::diff::Diff;
use super::holders::Holders;
use super::roll::Roll;
use super::snapshot::{Conflict, Contested, User, listed_key};
use crate::config::Guard;
use crate::mail::{AddressKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Domains that are named in an alarm; the rest is counted.
const DOMAINS_NAMED_MAX: usize = 20;

/// What a source wants to be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As the source says, in its order; those of whom nothing changed are the ones in force.
    pub(super) users: Vec<Arc<User>>,
    /// Of addresses that several of them claim, the id of whoever has it.
    pub(super) contested: HashMap<AddressKey, String>,
}

impl Wanted {
    /// Decides whose contested addresses are: whoever has one in force keeps it as long as they claim it, else the first in
    /// the list has it.
    pub(super) fn of(users: Vec<User>, in_force: Option<&Roll>) -> Wanted {
        let none = Roll::default();
        let in_force = in_force.unwrap_or(&none);
        let known: HashMap<&str, &Arc<User>> =
            in_force.users.iter().map(|user| (user.id.as_str(), user)).collect();
        let users: Vec<Arc<User>> = users
            .into_iter()
            .map(|user| match known.get(user.id.as_str()) {
                Some(had) if ***had == user => Arc::clone(had),
                _ => Arc::new(user),
            })
            .collect();
        let claims = contested_claims(&users);
        if claims.is_empty() {
            return Wanted { users, contested: HashMap::new() };
        }
        let holders = Holders::of(&in_force.users, &in_force.contested);
        let contested = claims.into_iter().filter_map(|(key, claimants)| {
            let holder = holders.holder(&key).map(|user| user.id.as_str());
            let kept =
                claimants.iter().copied().find(|id| Some(*id) == holder).or(claimants.first().copied());
            Some((key, kept?.to_owned()))
        });
        let contested = contested.collect();
        Wanted { users, contested }
    }

    /// Claims that are not granted, in the order of the list.
    pub(super) fn conflicts(&self) -> Vec<Conflict> {
        if self.contested.is_empty() {
            return Vec::new();
        }
        let mut conflicts = Vec::new();
        for user in &self.users {
            for key in user.addresses().map(listed_key) {
                if let Some(kept_by) = self.contested.get(&key)
                    && *kept_by != user.id
                {
                    conflicts.push(Conflict {
                        contested: Contested::Address(key),
                        kept_by: kept_by.clone(),
                        refused_to: user.id.clone(),
                        list: 0,
                    });
                }
            }
        }
        conflicts
    }

    /// Whether this is what is in force, whatever the order.
    pub(super) fn is_in_force(&self, roll: &Roll) -> bool {
        if self.users.len() != roll.users.len() || self.contested != roll.contested {
            return false;
        }
        let known: HashMap<&str, &Arc<User>> =
            roll.users.iter().map(|user| (user.id.as_str(), user)).collect();
        self.users.iter().all(|user| known.get(user.id.as_str()).is_some_and(|had| ***had == **user))
    }
}

/// Ids of those who claim an address that not they alone claim, in the order of the list.
fn contested_claims(users: &[Arc<User>]) -> HashMap<AddressKey, Vec<&str>> {
    let mut first: HashMap<AddressKey, usize> = HashMap::with_capacity(users.len().saturating_mul(2));
    let mut claims: HashMap<AddressKey, Vec<&str>> = HashMap::new();
    for (index, user) in users.iter().enumerate() {
        for key in user.addresses().map(listed_key) {
            let Some(had) = first.get(&key).copied() else {
                first.insert(key, index);
                continue;
            };
            if had != index {
                let first_id = users.get(had).map(|user| user.id.as_str());
                let claimants = claims.entry(key).or_insert_with(|| first_id.into_iter().collect());
                if claimants.last() != Some(&user.id.as_str()) {
                    claimants.push(&user.id);
                }
            }
        }
    }
    claims
}

/// Why a change waits for a person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alarm", rename_all = "kebab-case")]
pub enum Alarm {
    /// Nobody is left.
    Empty {
        /// Users in force.
        of: usize,
    },
    /// Too many users are gone.
    Removed {
        /// So many.
        removed: usize,
        /// Of so many in force.
        of: usize,
        /// So many may go at once.
        limit: usize,
    },
    /// Too many users who stay have lost an address that nobody else has got.
    AddressesLost {
        /// So many users.
        users: usize,
        /// Of so many in force.
        of: usize,
        /// So many may at once.
        limit: usize,
    },
    /// Too many users who stay have lost an address to another user: so it looks when ids are not the users' own but, say, the
    /// numbers of rows in a table that got one more.
    AddressesMoved {
        /// So many users have lost one.
        users: usize,
        /// Of so many in force.
        of: usize,
        /// So many may at once.
        limit: usize,
    },
    /// Of some domains, nobody is left.
    Domains {
        /// The first ones, sorted.
        domains: Vec<String>,
        /// All of them.
        count: usize,
    },
    /// An earlier list is in force, which someone went back to or which stands in for one that cannot be used, and this reading
    /// differs from it.
    Held,
    /// Lists were kept, and none of them can be used: there is nothing to measure this reading by.
    Lost,
}

impl Alarm {
    /// The stable name used in logs and JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Alarm::Empty { .. } => "empty",
            Alarm::Removed { .. } => "removed",
            Alarm::AddressesLost { .. } => "addresses-lost",
            Alarm::AddressesMoved { .. } => "addresses-moved",
            Alarm::Domains { .. } => "domains",
            Alarm::Held => "held",
            Alarm::Lost => "lost",
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::Empty { of } => write!(f, "none of {of} users would be left"),
            Alarm::Removed { removed, of, limit } => {
                write!(f, "{removed} of {of} users would go, and {limit} may go at once")
            }
            Alarm::AddressesLost { users, of, limit } => {
                write!(f, "{users} of {of} users would lose addresses, and {limit} may at once")
            }
            Alarm::AddressesMoved { users, of, limit } => {
                write!(f, "{users} of {of} users would lose addresses to others, and {limit} may at once")
            }
            Alarm::Domains { domains, count } => {
                write!(f, "nobody would be left of {}", domains.join(", "))?;
                let more = count.saturating_sub(domains.len());
                if more > 0 { write!(f, " and {more} more domains") } else { Ok(()) }
            }
            Alarm::Held => f.write_str(
                "someone went back to an earlier list, or a later one cannot be used, and this one differs from it",
            ),
            Alarm::Lost => {
                f.write_str("none of the lists that were kept can be used, so there is nothing to measure it by")
            }
        }
    }
}

/// What applying it would change, and what speaks against doing so unasked.
pub(super) struct Plan {
    pub(super) diff: Diff,
    pub(super) why: Vec<Alarm>,
}

impl Plan {
    /// Of a source whose users are in force. The first reading of a source has nothing to be measured by.
    pub(super) fn of(
        in_force: Option<&Roll>,
        wanted: &Wanted,
        guard: Guard,
        held: bool,
        at: Timestamp,
    ) -> Plan {
        let none = Roll::default();
        let before = in_force.unwrap_or(&none);
        let after = Holders::of(&wanted.users, &wanted.contested);
        let diff = Diff::between(before, &wanted.users, &after, at);
        let mut why =
            if before.users.is_empty() { Vec::new() } else { alarms(before, wanted, &after, &diff, guard) };
        if held && in_force.is_some() {
            why.push(Alarm::Held);
        }
        Plan { diff, why }
    }
}

fn alarms(before: &Roll, wanted: &Wanted, after: &Holders<'_>, diff: &Diff, guard: Guard) -> Vec<Alarm> {
    let of = before.users.len();
    if wanted.users.is_empty() {
        return vec![Alarm::Empty { of }];
    }
    let share = of.saturating_mul(usize::from(guard.max_removed_percent)) / 100;
    let limit = share.max(usize::try_from(guard.max_removed).unwrap_or(usize::MAX));
    let mut why = Vec::new();
    if diff.removed.count > limit {
        why.push(Alarm::Removed { removed: diff.removed.count, of, limit });
    }
    let users = losers(before, wanted, after);
    if users > limit {
        why.push(Alarm::AddressesLost { users, of, limit });
    }
    // Each of them has lost one address at least.
    if diff.addresses_moved.count > limit {
        let users = outdone(before, wanted, after);
        if users > limit {
            why.push(Alarm::AddressesMoved { users, of, limit });
        }
    }
    let left = domains(&wanted.users);
    let gone: BTreeSet<String> = domains(&before.users).difference(&left).cloned().collect();
    if !gone.is_empty() {
        let count = gone.len();
        why.push(Alarm::Domains { domains: gone.into_iter().take(DOMAINS_NAMED_MAX).collect(), count });
    }
    why
}

/// Users who stay and have lost an address that leads to nobody now.
fn losers(before: &Roll, wanted: &Wanted, after: &Holders<'_>) -> usize {
    let stays: HashMap<&str, &Arc<User>> = wanted.users.iter().map(|user| (user.id.as_str(), user)).collect();
    let lost = |user: &&Arc<User>| {
        stays.get(user.id.as_str()).is_some_and(|now| {
            !Arc::ptr_eq(user, now) && user.addresses().any(|text| after.holder(&listed_key(text)).is_none())
        })
    };
    before.users.iter().filter(lost).count()
}

/// Users who stay and have lost an address that leads to another user now.
fn outdone(before: &Roll, wanted: &Wanted, after: &Holders<'_>) -> usize {
    let stays: HashSet<&str> = wanted.users.iter().map(|user| user.id.as_str()).collect();
    let had = Holders::of(&before.users, &before.contested);
    let losers = had.iter().filter_map(|(key, from)| {
        let is_anothers = after.holder(key).is_some_and(|to| to.id != from.id);
        (is_anothers && stays.contains(from.id.as_str())).then_some(from.id.as_str())
    });
    losers.collect::<HashSet<_>>().len()
}

/// The domains that users have addresses in.
fn domains(users: &[Arc<User>]) -> HashSet<String> {
    users.iter().flat_map(|user| user.domains()).map(str::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests;
