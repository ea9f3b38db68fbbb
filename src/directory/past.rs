//! Whose an address was at a moment, where that is not simply whose it is.
//!
//! ```text
//! info@   ──[ Ann ]────────────┤             ├────[ Bob ]──────▶      a message of then is Ann's, of between and after Bob's
//! carol@  ──[ Carol ]───────┤ gone ┄┄ grace ┄┄┤                       of the time of grace still Carol's
//! ```

use super::snapshot::User;
use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Times kept of one address; those that ended first are forgotten. An address that is handed on every week needs them for years.
const STRETCHES_MAX: usize = 200;

/// By what right an address is a user's, for a message of a certain moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// The user had it then, and nothing is known to have changed since.
    #[default]
    Plainly,
    /// The user had it then, and up to this moment.
    Until(Timestamp),
    /// The user was gone by then, and keeps the address for a while.
    Grace {
        /// Since when the directory does not name the user any more.
        gone: Timestamp,
        /// Up to when mail still goes there.
        until: Timestamp,
    },
    /// Nobody had it then. The user is the first who had it later, from this moment on.
    Since(Timestamp),
}

/// A time in which one source gave an address to one user.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) user: Arc<User>,
    /// As the source wrote it.
    pub(super) proxy: String,
    pub(super) from: Option<Timestamp>,
    /// When the user left the directory; what is after that is grace.
    pub(super) gone: Option<Timestamp>,
    /// `None`: it goes on.
    pub(super) until: Option<Timestamp>,
    /// Number of the source, in the order of precedence.
    pub(super) list: usize,
}

impl Stretch {
    /// Of a user whom the source names now.
    pub(super) fn present(user: &Arc<User>, proxy: &str, from: Option<Timestamp>, list: usize) -> Stretch {
        Stretch { user: Arc::clone(user), proxy: proxy.to_owned(), from, gone: None, until: None, list }
    }

    fn has_begun(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at)
    }

    /// When the directory ended it.
    fn end(&self) -> Option<Timestamp> {
        match (self.gone, self.until) {
            (Some(gone), Some(until)) => Some(gone.min(until)),
            (_, until) => until,
        }
    }

    fn covers(&self, at: Timestamp) -> bool {
        self.has_begun(at) && self.end().is_none_or(|end| at < end)
    }

    fn grace(&self, at: Timestamp) -> Option<Held> {
        let (gone, until) = (self.gone?, self.until?);
        (self.has_begun(at) && at < until).then_some(Held::Grace { gone, until })
    }
}

/// Whose the address was at `at`, of its stretches in the order of precedence: who had it then; else who was gone and kept it;
/// else the first who had it later.
pub(super) fn held_at(stretches: &[Stretch], at: Timestamp) -> Option<(&Stretch, Held)> {
    if let Some(stretch) = stretches.iter().find(|stretch| stretch.covers(at)) {
        return Some((stretch, stretch.end().map_or(Held::Plainly, Held::Until)));
    }
    if let Some(kept) = stretches.iter().find_map(|stretch| Some((stretch, stretch.grace(at)?))) {
        return Some(kept);
    }
    let later =
        stretches.iter().filter_map(|stretch| Some((stretch, stretch.from.filter(|from| *from > at)?)));
    // Of equals the first, who has precedence.
    later.min_by_key(|(_, from)| *from).map(|(stretch, from)| (stretch, Held::Since(from)))
}

/// Brings the stretches of an address into the order of precedence, and forgets those that ended first beyond what is kept of one.
pub(super) fn settle(stretches: &mut Vec<Stretch>) {
    stretches.sort_by_key(|stretch| stretch.list);
    let surplus = stretches.len().saturating_sub(STRETCHES_MAX);
    if surplus == 0 {
        return;
    }
    let mut ends: Vec<Option<Timestamp>> = stretches.iter().map(|stretch| stretch.until).collect();
    // What goes on has no end, and sorts last.
    ends.sort_unstable_by_key(|end| (end.is_none(), *end));
    let Some(Some(last_forgotten)) = ends.get(surplus - 1).copied() else { return };
    let mut left = surplus;
    stretches.retain(|stretch| {
        let forgotten = left > 0 && stretch.until.is_some_and(|until| until <= last_forgotten);
        left -= usize::from(forgotten);
        !forgotten
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn stretch(id: &str, from: Option<i64>, gone: Option<i64>, until: Option<i64>) -> Stretch {
        let user = User {
            id: id.to_owned(),
            name: id.to_owned(),
            primary: Address::parse("info@x.example").unwrap(),
            aliases: Vec::new(),
        };
        Stretch {
            user: Arc::new(user),
            proxy: "info@x.example".to_owned(),
            from: from.map(at),
            gone: gone.map(at),
            until: until.map(at),
            list: 0,
        }
    }

    fn check(stretches: &[Stretch], moments: &[(i64, Option<(&str, Held)>)]) {
        for (moment, expect) in moments {
            let found =
                held_at(stretches, at(*moment)).map(|(stretch, held)| (stretch.user.id.as_str(), held));
            assert_eq!(found, *expect, "{moment}");
        }
    }

    #[test]
    fn an_address_that_was_handed_on_is_of_each_in_its_time() {
        let handed_on = [stretch("ann", None, None, Some(10)), stretch("bob", Some(10), None, None)];
        check(
            &handed_on,
            &[
                (0, Some(("ann", Held::Until(at(10))))),
                (9, Some(("ann", Held::Until(at(10))))),
                (10, Some(("bob", Held::Plainly))),
                (99, Some(("bob", Held::Plainly))),
            ],
        );
    }

    #[test]
    fn what_came_while_nobody_had_it_is_of_the_first_who_did_later() {
        let with_a_gap = [
            stretch("eve", Some(40), None, None),
            stretch("ann", Some(5), None, Some(10)),
            stretch("bob", Some(20), None, Some(30)),
        ];
        check(
            &with_a_gap,
            &[
                (4, Some(("ann", Held::Since(at(5))))),
                (5, Some(("ann", Held::Until(at(10))))),
                (10, Some(("bob", Held::Since(at(20))))),
                (30, Some(("eve", Held::Since(at(40))))),
                (40, Some(("eve", Held::Plainly))),
            ],
        );
        check(
            &[stretch("ann", None, None, Some(10))],
            &[(9, Some(("ann", Held::Until(at(10))))), (10, None)],
        );
        check(&[], &[(0, None)]);
    }

    #[test]
    fn who_is_gone_keeps_an_address_for_a_while_unless_somebody_has_it() {
        let grace = Held::Grace { gone: at(10), until: at(40) };
        let gone = || stretch("ann", None, Some(10), Some(40));
        let until = Held::Until(at(10));
        check(
            &[gone()],
            &[(9, Some(("ann", until))), (10, Some(("ann", grace))), (39, Some(("ann", grace))), (40, None)],
        );
        // Another source says that it is somebody's.
        check(
            &[gone(), stretch("bob", None, None, None)],
            &[(9, Some(("ann", until))), (10, Some(("bob", Held::Plainly)))],
        );
        check(
            &[gone(), stretch("bob", Some(20), None, None)],
            &[(19, Some(("ann", grace))), (20, Some(("bob", Held::Plainly)))],
        );
    }

    #[test]
    fn of_too_many_times_those_that_ended_first_are_forgotten() {
        let past = |n: i64| stretch("x", Some(n), None, Some(n + 1));
        let mut stretches = vec![stretch("now", Some(9_999), None, None)];
        let many = i64::try_from(STRETCHES_MAX).unwrap() + 49;
        stretches.extend((0..many).map(past));
        settle(&mut stretches);
        assert_eq!(stretches.len(), STRETCHES_MAX);
        assert_eq!(stretches[0].user.id, "now");
        assert_eq!(stretches[1].from, Some(at(50)), "the oldest fifty are gone");
        let mut few = vec![past(1), past(2)];
        settle(&mut few);
        assert_eq!(few.len(), 2);
    }

    proptest! {
        #[test]
        fn somebody_is_found_whenever_somebody_has_it_or_will(
            times in proptest::collection::vec((proptest::option::of(0..50i64), proptest::option::of(0..50i64)), 0..8),
            moment in 0..60i64,
        ) {
            let stretches: Vec<Stretch> =
                times.iter().enumerate().map(|(n, (from, until))| stretch(&n.to_string(), *from, None, *until)).collect();
            let had = |s: &Stretch| s.from.is_none_or(|from| from <= at(moment)) && s.until.is_none_or(|until| at(moment) < until);
            let will = |s: &Stretch| s.from.is_some_and(|from| from > at(moment));
            match held_at(&stretches, at(moment)) {
                Some((found, Held::Since(from))) => {
                    prop_assert!(!stretches.iter().any(had) && will(found));
                    prop_assert!(stretches.iter().filter(|s| will(s)).all(|s| s.from >= Some(from)));
                }
                Some((found, _)) => prop_assert!(had(found)),
                None => prop_assert!(!stretches.iter().any(|s| had(s) || will(s))),
            }
        }
    }
}
