//! Whom the addresses of one list lead to: each to one user, also where several claim it. Pure.

use super::snapshot::{User, listed_key};
use crate::mail::AddressKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Addresses of one list and who holds them.
pub(super) struct Holders<'a> {
    by_key: HashMap<AddressKey, (&'a Arc<User>, usize)>,
}

impl<'a> Holders<'a> {
    /// Of a list and of what was decided about addresses that several of its users claim: key to id.
    pub(super) fn of(users: &'a [Arc<User>], contested: &HashMap<AddressKey, String>) -> Holders<'a> {
        let mut by_key = HashMap::with_capacity(users.len().saturating_mul(2));
        for user in users {
            for (index, text) in user.addresses().enumerate() {
                let key = listed_key(text);
                if contested.get(&key).is_none_or(|holder| *holder == user.id) {
                    by_key.entry(key).or_insert((user, index));
                }
            }
        }
        Holders { by_key }
    }

    /// Who holds an address.
    pub(super) fn holder(&self, key: &AddressKey) -> Option<&'a Arc<User>> {
        self.by_key.get(key).map(|(user, _)| *user)
    }

    /// Every address that leads to somebody, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&AddressKey, &'a Arc<User>)> {
        self.by_key.iter().map(|(key, (user, _))| (key, *user))
    }

    /// Whether it is held by this user of the list, under this of the user's addresses.
    pub(super) fn is_at(&self, key: &AddressKey, user: &Arc<User>, address: usize) -> bool {
        self.by_key.get(key).is_some_and(|(holder, index)| Arc::ptr_eq(holder, user) && *index == address)
    }
}
