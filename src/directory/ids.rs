//! Whom an id means where several sources have it: each numbers its users for itself. Pure.
//!
//! An id is of whoever the earliest source has it for, or had for as long as that is remembered: mail is kept under it. Somebody
//! of that id in a later source is taken for the same person only with an address that is or was that one's: so it is when
//! people move from one source to another. Everybody else of that id is left out.

use super::roll::Roll;
use super::snapshot::listed_key;
use crate::mail::AddressKey;
use std::collections::{HashMap, HashSet};

/// Who of several lists is left out because of the id. Lists are counted from 0.
#[derive(Debug, Default)]
pub(super) struct Ids<'a> {
    users_out: HashSet<(usize, &'a str)>,
    pasts_out: HashSet<(usize, &'a str)>,
}

/// What is known of an id that stands in several lists.
struct Known {
    /// A list names a user of it now, who counts.
    is_named: bool,
    /// That are or were this person's.
    addresses: HashSet<AddressKey>,
}

impl Known {
    fn has_any(&self, addresses: &HashSet<AddressKey>) -> bool {
        !self.addresses.is_disjoint(addresses)
    }
}

impl<'a> Ids<'a> {
    /// Of lists in the order of precedence. Linear in what they hold.
    pub(super) fn of(rolls: &[&'a Roll]) -> Ids<'a> {
        let shared = shared(rolls);
        let mut ids = Ids::default();
        if shared.is_empty() {
            return ids;
        }
        let mut known: HashMap<&str, Known> = HashMap::with_capacity(shared.len());
        for (list, roll) in rolls.iter().enumerate() {
            for (id, here) in of_list(roll, &shared) {
                let Some(first) = known.get_mut(id) else {
                    known.insert(id, here.known());
                    continue;
                };
                let has_user = here.is_named && !first.is_named && first.has_any(&here.present);
                let has_past = has_user || first.has_any(&here.former);
                if has_user {
                    first.is_named = true;
                    first.addresses.extend(here.present);
                } else if here.is_named {
                    ids.users_out.insert((list, id));
                }
                if has_past {
                    first.addresses.extend(here.former);
                } else {
                    ids.pasts_out.insert((list, id));
                }
            }
        }
        ids
    }

    /// Whether a user whom this list names counts.
    pub(super) fn has_user(&self, list: usize, id: &str) -> bool {
        !self.users_out.contains(&(list, id))
    }

    /// Whether what this list says was a user's counts.
    pub(super) fn has_past_of(&self, list: usize, id: &str) -> bool {
        !self.pasts_out.contains(&(list, id))
    }
}

/// What one list says of an id.
#[derive(Default)]
struct Here {
    /// It names a user of it.
    is_named: bool,
    /// Of that user.
    present: HashSet<AddressKey>,
    /// Of those it had before.
    former: HashSet<AddressKey>,
}

impl Here {
    fn known(self) -> Known {
        let Here { is_named, mut present, former } = self;
        present.extend(former);
        Known { is_named, addresses: present }
    }
}

/// Ids that stand in more than one list, now or before.
fn shared<'a>(rolls: &[&'a Roll]) -> HashSet<&'a str> {
    let mut shared = HashSet::new();
    if rolls.iter().filter(|roll| !roll.users.is_empty() || !roll.former.is_empty()).count() < 2 {
        return shared;
    }
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (list, roll) in rolls.iter().enumerate() {
        let users = roll.users.iter().chain(roll.former.iter().map(|tenure| &tenure.user));
        for user in users {
            if *first.entry(&user.id).or_insert(list) != list {
                shared.insert(user.id.as_str());
            }
        }
    }
    shared
}

fn of_list<'a>(roll: &'a Roll, shared: &HashSet<&'a str>) -> HashMap<&'a str, Here> {
    let mut all: HashMap<&str, Here> = HashMap::new();
    for user in roll.users.iter().filter(|user| shared.contains(user.id.as_str())) {
        let here = all.entry(&user.id).or_default();
        // The first of an id within a list counts.
        if !here.is_named {
            here.is_named = true;
            here.present = user.addresses().map(listed_key).collect();
        }
    }
    for tenure in roll.former.iter().filter(|tenure| shared.contains(tenure.user.id.as_str())) {
        all.entry(&tenure.user.id).or_default().former.insert(tenure.key());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::roll::Tenure;
    use super::super::sample::user;
    use super::*;
    use crate::mail::Timestamp;
    use std::sync::Arc;

    /// A list that names these, and knows that those had their first address once.
    fn roll(users: &[(&str, &str)], former: &[(&str, &str)]) -> Roll {
        let user = |(id, address): &(&str, &str)| Arc::new(user(id, &[*address]));
        let tenure = |had: &(&str, &str)| Tenure {
            address: had.1.to_owned(),
            user: user(had),
            from: None,
            gone: None,
            until: Timestamp::from_unix_ms(9),
        };
        Roll {
            users: users.iter().map(user).collect(),
            former: former.iter().map(tenure).collect(),
            ..Roll::default()
        }
    }

    /// Of the id 7 in each list: whether its user and its past count.
    fn counts(rolls: &[Roll]) -> Vec<(bool, bool)> {
        let ids = Ids::of(&rolls.iter().collect::<Vec<_>>());
        (0..rolls.len()).map(|list| (ids.has_user(list, "7"), ids.has_past_of(list, "7"))).collect()
    }

    const ANN: (&str, &str) = ("7", "ann@x.example");
    const BOB: (&str, &str) = ("7", "bob@y.example");

    #[test]
    fn an_id_is_of_whoever_the_earliest_list_has_it_for_or_had() {
        let (all, none, no_user) = ((true, true), (false, false), (false, true));
        assert_eq!(counts(&[roll(&[ANN], &[]), roll(&[BOB], &[BOB])]), [all, none]);
        assert_eq!(counts(&[roll(&[], &[ANN]), roll(&[BOB], &[])]), [all, none]);
        assert_eq!(counts(&[roll(&[], &[ANN]), roll(&[], &[BOB])]), [all, (true, false)]);
        assert_eq!(counts(&[roll(&[ANN], &[]), roll(&[ANN], &[ANN])]), [all, no_user], "two name one");
        assert_eq!(counts(&[roll(&[], &[]), roll(&[BOB], &[BOB])]), [all, all]);
    }

    #[test]
    fn who_has_or_had_an_address_in_common_is_the_same_person() {
        let moved = [roll(&[], &[ANN]), roll(&[("7", "Ann@X.example")], &[BOB])];
        assert_eq!(counts(&moved), [(true, true), (true, true)], "to a later list, with what it knows");
        let back = [roll(&[ANN], &[]), roll(&[], &[ANN])];
        assert_eq!(counts(&back), [(true, true), (true, true)], "to an earlier one");
        let on = [roll(&[], &[ANN]), roll(&[ANN], &[BOB]), roll(&[], &[BOB])];
        assert_eq!(counts(&on), [(true, true); 3], "and on");
    }
}
