//! Sets of UIDs as runs: what is known of an account stays small, however many messages went through it.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Longest set in one command, in octets: servers bound their lines.
const COMMAND_OCTETS_MAX: usize = 800;

/// UIDs in runs, both ends included, in order, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UidSet(Vec<(u32, u32)>);

impl UidSet {
    /// True when it is in the set.
    pub fn contains(&self, uid: u32) -> bool {
        self.0
            .binary_search_by(|(first, last)| {
                if *last < uid {
                    std::cmp::Ordering::Less
                } else if *first > uid {
                    std::cmp::Ordering::Greater
                } else {
                    std::cmp::Ordering::Equal
                }
            })
            .is_ok()
    }

    /// Adds one.
    pub fn insert(&mut self, uid: u32) {
        if self.contains(uid) {
            return;
        }
        let at = self.0.partition_point(|(_, last)| *last < uid);
        self.0.insert(at, (uid, uid));
        self.join(at);
        self.join(at.saturating_sub(1));
    }

    /// Joins the run at `at` with the next if they touch.
    fn join(&mut self, at: usize) {
        if let (Some((_, last)), Some((next, end))) = (self.0.get(at).copied(), self.0.get(at + 1).copied())
            && last.checked_add(1) == Some(next)
        {
            self.0.remove(at + 1);
            if let Some(run) = self.0.get_mut(at) {
                run.1 = end;
            }
        }
    }

    /// The lowest that may not be in it.
    pub fn first_gap(&self) -> u32 {
        match self.0.first() {
            Some((1, last)) => last.saturating_add(1),
            _ => 1,
        }
    }

    /// Takes everything up to the highest as done but `open`, which are in order: what the account does not list any more comes
    /// never again, since UIDs only rise.
    pub fn close_gaps(&mut self, open: &[u32]) {
        let Some((_, highest)) = self.0.last().copied() else { return };
        let mut runs = Vec::new();
        let mut next = 1;
        for uid in open.iter().copied().filter(|uid| *uid <= highest) {
            if uid > next {
                runs.push((next, uid - 1));
            }
            next = uid.saturating_add(1);
        }
        if next <= highest {
            runs.push((next, highest));
        }
        self.0 = runs;
    }

    /// Forgets the lowest runs beyond so many.
    pub fn keep_highest(&mut self, most: usize) {
        self.0.drain(..self.0.len().saturating_sub(most));
    }

    /// It is what a set can be: nobody else writes the file, but disks err.
    pub fn is_sound(&self) -> bool {
        let ordered = self.0.windows(2).all(|pair| matches!(pair, [(_, end), (next, _)] if end < next));
        ordered && self.0.iter().all(|(first, last)| *first > 0 && first <= last)
    }
}

/// These UIDs as sets of commands (RFC 9051 §9 `sequence-set`), each short.
pub(super) fn command_sets(uids: impl IntoIterator<Item = u32>) -> Vec<String> {
    let mut all = UidSet::default();
    uids.into_iter().for_each(|uid| all.insert(uid));
    let mut sets: Vec<String> = Vec::new();
    for (first, last) in all.0 {
        let run = if first == last { first.to_string() } else { format!("{first}:{last}") };
        match sets.last_mut().filter(|set| set.len() + run.len() < COMMAND_OCTETS_MAX) {
            // Writing to a String cannot fail.
            Some(set) => write!(set, ",{run}").unwrap_or_default(),
            None => sets.push(run),
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(uids: &[u32]) -> UidSet {
        let mut set = UidSet::default();
        uids.iter().for_each(|uid| set.insert(*uid));
        set
    }

    #[test]
    fn runs_grow_and_join_in_any_order() {
        let all = set(&[5, 1, 3, 2, 4, 9, 3, u32::MAX]);
        assert_eq!(all.0, [(1, 5), (9, 9), (u32::MAX, u32::MAX)]);
        assert!(all.is_sound() && all.contains(4) && all.contains(u32::MAX));
        assert!(!all.contains(6) && !all.contains(8) && !all.contains(10));
        assert_eq!((all.first_gap(), set(&[2]).first_gap(), UidSet::default().first_gap()), (6, 1, 1));
    }

    #[test]
    fn what_is_listed_no_more_is_done_and_what_is_open_stays_open() {
        let mut done = set(&[2, 4, 8, 20]);
        done.close_gaps(&[5, 8, 30]);
        assert_eq!(done.0, [(1, 4), (6, 7), (9, 20)]);
        assert!(done.is_sound());
        let mut all = set(&[7]);
        all.close_gaps(&[]);
        assert_eq!(all.0, [(1, 7)]);
        let mut none = UidSet::default();
        none.close_gaps(&[1]);
        assert_eq!(none, UidSet::default());
        done.keep_highest(1);
        assert_eq!(done.0, [(9, 20)]);
    }

    #[test]
    fn commands_name_runs_and_stay_short() {
        assert_eq!(command_sets([3, 1, 2, 7]), ["1:3,7"]);
        let odd = command_sets((0..2000).map(|n| n * 2 + 1));
        assert!(odd.len() > 1 && odd.iter().all(|set| set.len() <= COMMAND_OCTETS_MAX));
        assert_eq!(odd.iter().flat_map(|set| set.split(',')).count(), 2000);
        assert!(command_sets([]).is_empty());
    }
}
