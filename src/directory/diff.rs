//! What is another between two lists of one source's users. Pure.
//!
//! Users are told apart by id, never by name or address: who marries or moves stays who they are. Addresses are compared by whom
//! they lead to, so a claim that was not granted is no change.

use super::holders::Holders;
use super::roll::Roll;
use super::snapshot::User;
use crate::mail::{AddressKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Changes of one kind that are listed; the rest is counted.
pub const CHANGES_LISTED_MAX: usize = 1_000;

/// Changes of one kind: all are counted, the first are listed, sorted by id or address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes<T> {
    /// All of them.
    pub count: usize,
    /// The first [`CHANGES_LISTED_MAX`].
    pub listed: Vec<T>,
}

impl<T> Default for Changes<T> {
    fn default() -> Changes<T> {
        Changes { count: 0, listed: Vec::new() }
    }
}

impl<T: Ord> Changes<T> {
    fn of(mut all: Vec<T>) -> Changes<T> {
        let count = all.len();
        all.sort_unstable();
        all.truncate(CHANGES_LISTED_MAX);
        all.shrink_to_fit();
        Changes { count, listed: all }
    }
}

/// A user who is new, gone or back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserChange {
    /// The user's id.
    pub id: String,
    /// For people.
    pub name: String,
    /// The primary address.
    pub primary: String,
}

/// A user with another name or primary address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Renamed {
    /// The user's id, which stays.
    pub id: String,
    /// The name before.
    pub name_before: String,
    /// The name.
    pub name: String,
    /// The primary address before.
    pub primary_before: String,
    /// The primary address.
    pub primary: String,
}

/// An address that a user has got or lost, and nobody else had or has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressChange {
    /// The address, folded.
    pub address: String,
    /// The user's id.
    pub id: String,
}

/// An address that leads to another user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressMove {
    /// The address, folded.
    pub address: String,
    /// Id of the user who had it, or had it in the grace period.
    pub from: String,
    /// Id of the user who has it.
    pub to: String,
}

/// What is another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Users who were not there.
    pub added: Changes<UserChange>,
    /// Those of them who were there before, and whose addresses still led to them.
    pub returned: Changes<UserChange>,
    /// Users who are gone.
    pub removed: Changes<UserChange>,
    /// Users with another name or primary address.
    pub renamed: Changes<Renamed>,
    /// Addresses that users who were there have got.
    pub addresses_added: Changes<AddressChange>,
    /// Addresses that users who are still there have lost.
    pub addresses_removed: Changes<AddressChange>,
    /// Addresses that lead to another user.
    pub addresses_moved: Changes<AddressMove>,
}

impl Diff {
    /// True when nothing is another that could be told of.
    pub fn is_empty(&self) -> bool {
        self.added.count == 0
            && self.removed.count == 0
            && self.renamed.count == 0
            && self.addresses_added.count == 0
            && self.addresses_removed.count == 0
            && self.addresses_moved.count == 0
    }

    /// From what is in force to what a source wants, looked at then.
    pub(super) fn between(before: &Roll, users: &[Arc<User>], after: &Holders<'_>, at: Timestamp) -> Diff {
        let had: HashMap<&str, &Arc<User>> =
            before.users.iter().map(|user| (user.id.as_str(), user)).collect();
        let has: HashMap<&str, &Arc<User>> = users.iter().map(|user| (user.id.as_str(), user)).collect();
        let in_grace: HashMap<AddressKey, &str> = before
            .former
            .iter()
            .filter(|tenure| at < tenure.until)
            .map(|tenure| (tenure.key(), tenure.user.id.as_str()))
            .collect();
        let lingering: std::collections::HashSet<&str> = in_grace.values().copied().collect();
        let new = || users.iter().filter(|user| !had.contains_key(user.id.as_str()));
        let mut diff = Diff {
            added: Changes::of(new().map(|user| change(user)).collect()),
            returned: Changes::of(
                new().filter(|user| lingering.contains(user.id.as_str())).map(|user| change(user)).collect(),
            ),
            removed: Changes::of(
                before
                    .users
                    .iter()
                    .filter(|user| !has.contains_key(user.id.as_str()))
                    .map(|user| change(user))
                    .collect(),
            ),
            renamed: Changes::of(
                users.iter().filter_map(|user| renamed(had.get(user.id.as_str())?, user)).collect(),
            ),
            ..Diff::default()
        };
        let holders = Holders::of(&before.users, &before.contested);
        let mut gained = Vec::new();
        let mut moved = Vec::new();
        for (key, to) in after.iter() {
            let from =
                holders.holder(key).map(|from| from.id.as_str()).or_else(|| in_grace.get(key).copied());
            let address = || key.as_str().to_owned();
            match from {
                Some(from) if from == to.id => {}
                Some(from) => {
                    moved.push(AddressMove { address: address(), from: from.to_owned(), to: to.id.clone() });
                }
                None if had.contains_key(to.id.as_str()) => {
                    gained.push(AddressChange { address: address(), id: to.id.clone() });
                }
                None => {}
            }
        }
        let lost = holders
            .iter()
            .filter(|(key, from)| has.contains_key(from.id.as_str()) && after.holder(key).is_none());
        let lost =
            lost.map(|(key, from)| AddressChange { address: key.as_str().to_owned(), id: from.id.clone() });
        diff.addresses_removed = Changes::of(lost.collect());
        diff.addresses_added = Changes::of(gained);
        diff.addresses_moved = Changes::of(moved);
        diff
    }
}

fn change(user: &User) -> UserChange {
    UserChange { id: user.id.clone(), name: user.name.clone(), primary: user.primary.as_str().to_owned() }
}

fn renamed(before: &User, after: &User) -> Option<Renamed> {
    (before.name != after.name || before.primary != after.primary).then(|| Renamed {
        id: after.id.clone(),
        name_before: before.name.clone(),
        name: after.name.clone(),
        primary_before: before.primary.as_str().to_owned(),
        primary: after.primary.as_str().to_owned(),
    })
}
