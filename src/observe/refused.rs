//! When messages were refused for good although a recipient had been accepted: each may be a report that is lost.

use crate::mail::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Refusals remembered; the count of a day says no more than that.
const REMEMBERED_MAX: usize = 1000;

/// The times of the last refusals. Clones share one register.
#[derive(Clone, Debug, Default)]
pub struct RefusedBodies {
    times: Arc<Mutex<VecDeque<Timestamp>>>,
}

impl RefusedBodies {
    /// Notes a refusal.
    pub fn note(&self, at: Timestamp) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() >= REMEMBERED_MAX {
            times.pop_front();
        }
        times.push_back(at);
    }

    /// How many there were from `since` to `until`, and the last of them. Those noted while the clock was ahead are left out.
    pub fn between(&self, since: Timestamp, until: Timestamp) -> (u64, Option<Timestamp>) {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let within = || times.iter().filter(|at| (since..=until).contains(*at));
        (within().count() as u64, within().max().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_span_of_time_and_keeps_a_bounded_number() {
        let refused = RefusedBodies::default();
        let at = Timestamp::from_unix_ms;
        assert_eq!(refused.between(at(0), at(9)), (0, None));
        for ms in [1, 5, 7, 90] {
            refused.clone().note(at(ms));
        }
        assert_eq!(refused.between(at(2), at(9)), (2, Some(at(7))));
        (0..2_000).for_each(|_| refused.note(at(6)));
        assert_eq!(refused.between(at(0), at(9)).0, REMEMBERED_MAX as u64);
    }
}
