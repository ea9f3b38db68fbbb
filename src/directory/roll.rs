//! What is in force of one source, over time: who its users are, since when addresses are theirs, and whose they were before.
//!
//! ```text
//! address   ────[ Ann, until 10 May ]────[ Bob, from 10 May ]──────────▶ time
//! ```
//! A message belongs to whoever had the address when it was sent, so what ended is kept, and whoever is gone keeps an address to
//! the end of the grace period: until then lies in the future.

use super::holders::Holders;
use super::plan::Wanted;
use super::snapshot::{User, listed_key};
use crate::mail::{AddressKey, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Addresses that were somebody's which one source keeps in mind; the oldest are forgotten first.
pub const FORMER_MAX: usize = 1_000_000;

/// One day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// One source's users and what is known of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// Those it names now, in its order, with every address that the source lists for them, granted or not.
    pub users: Vec<Arc<User>>,
    /// Of addresses that several of them claim, the id of the one who has it: the others go without, whatever the order. An
    /// address that is not here is whoever's lists it.
    pub contested: HashMap<AddressKey, String>,
    /// Since when an address is its present owner's, where that is known: those that were already so when the source was first
    /// read are not here, and count as if they always had been.
    pub began: HashMap<AddressKey, Timestamp>,
    /// What was somebody's and has ended, or will: of a user who is gone, at the end of the grace period.
    pub former: Vec<Tenure>,
}

/// That somebody had an address for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// As the source wrote it.
    pub address: String,
    /// Who, as last known.
    pub user: Arc<User>,
    /// From then on; `None` is as long as the source is known.
    pub from: Option<Timestamp>,
    /// When the source ceased to name the user; what is after that is grace. `None` when it only lost the address.
    pub gone: Option<Timestamp>,
    /// Up to and without this moment.
    pub until: Timestamp,
}

impl Tenure {
    /// What the address is compared by.
    pub fn key(&self) -> AddressKey {
        listed_key(&self.address)
    }

    /// Whether the address was this user's then.
    pub fn covers(&self, at: Timestamp) -> bool {
        at < self.until && self.from.is_none_or(|from| from <= at)
    }

    fn is_some_time(&self) -> bool {
        self.from.is_none_or(|from| from < self.until)
    }
}

/// What is in force after a source's users have become these, from this moment on. `before` is `None` when the source was never
/// read: what it says then is taken to have always been so.
pub(super) fn next(before: Option<&Roll>, wanted: Wanted, at: Timestamp, grace_days: u16) -> Roll {
    let Wanted { users, contested } = wanted;
    let Some(before) = before else {
        return Roll { users, contested, ..Roll::default() };
    };
    let had = Holders::of(&before.users, &before.contested);
    let has = Holders::of(&users, &contested);
    let stays: HashSet<&str> = users.iter().map(|user| user.id.as_str()).collect();
    let mut began = HashMap::new();
    let mut regained = HashMap::new();
    let mut former = carried_over(before, &has, &stays, at, &mut regained);
    for (key, user) in has.iter() {
        let since = if had.holder(key).is_some_and(|holder| holder.id == user.id) {
            before.began.get(key).copied()
        } else {
            regained.get(key).copied().unwrap_or(Some(at))
        };
        began.extend(since.map(|since| (key.clone(), since)));
    }
    let grace_ends = Timestamp::from_unix_ms(at.unix_ms().saturating_add(i64::from(grace_days) * DAY_MS));
    for user in &before.users {
        for (index, text) in user.addresses().enumerate() {
            let key = listed_key(text);
            if !had.is_at(&key, user, index) || has.holder(&key).is_some_and(|holder| holder.id == user.id) {
                continue;
            }
            let is_free = has.holder(&key).is_none() && !stays.contains(user.id.as_str());
            let tenure = Tenure {
                address: text.to_owned(),
                user: Arc::clone(user),
                from: before.began.get(&key).copied(),
                gone: (!stays.contains(user.id.as_str())).then_some(at),
                until: if is_free { grace_ends } else { at },
            };
            former.extend(tenure.is_some_time().then_some(tenure));
        }
    }
    forget(&mut former);
    Roll { users, contested, began, former }
}

/// Tenures of the past, and those in their grace period: cut short where somebody has the address now, or where the user is back
/// without it; given back (to `regained`, with when they began) where the user has it again.
fn carried_over(
    before: &Roll,
    has: &Holders<'_>,
    stays: &HashSet<&str>,
    at: Timestamp,
    regained: &mut HashMap<AddressKey, Option<Timestamp>>,
) -> Vec<Tenure> {
    let mut former = Vec::with_capacity(before.former.len());
    for tenure in &before.former {
        let mut tenure = tenure.clone();
        if at < tenure.until {
            let key = tenure.key();
            let holder = has.holder(&key);
            if holder.is_some_and(|holder| holder.id == tenure.user.id) {
                regained.insert(key, tenure.from);
                continue;
            }
            if holder.is_some() || stays.contains(tenure.user.id.as_str()) {
                tenure.until = at;
            }
        }
        former.extend(tenure.is_some_time().then_some(tenure));
    }
    former
}

/// What was noted while the clock was ahead, with no moment later than now but the ends of grace periods, which count from now
/// where the user is gone since then.
pub(super) fn rewound(roll: &Roll, now: Timestamp) -> Roll {
    let holds = Holders::of(&roll.users, &roll.contested);
    let began = roll.began.iter().map(|(key, since)| (key.clone(), now.min(*since))).collect();
    let former = roll.former.iter().map(|tenure| {
        let grace_ms = tenure.gone.map(|gone| tenure.until.unix_ms().saturating_sub(gone.unix_ms()));
        let until = match (grace_ms, tenure.gone) {
            // Somebody has it: no grace is left of it.
            _ if holds.holder(&tenure.key()).is_some() => now.min(tenure.until),
            (None, _) => now.min(tenure.until),
            (Some(grace_ms), Some(gone)) if gone > now => {
                Timestamp::from_unix_ms(now.unix_ms().saturating_add(grace_ms))
            }
            _ => tenure.until,
        };
        let from = tenure.from.map(|from| now.min(from));
        Tenure { from, gone: tenure.gone.map(|gone| now.min(gone)), until, ..tenure.clone() }
    });
    let former = former.filter(Tenure::is_some_time).collect();
    Roll { users: roll.users.clone(), contested: roll.contested.clone(), began, former }
}

/// Forgets what ended first when there is too much.
fn forget(former: &mut Vec<Tenure>) {
    let too_many = former.len().saturating_sub(FORMER_MAX);
    if too_many > 0 {
        former.sort_by_key(|tenure| tenure.until);
        former.drain(..too_many);
    }
}

#[cfg(test)]
mod tests;
