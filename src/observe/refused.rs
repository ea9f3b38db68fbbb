//! When mail was refused for good that may have been a journal report: each may be one that is lost.

use super::alarm::RefusedFacts;
use crate::mail::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Refusals of a kind remembered; the count of a day says no more than that.
const REMEMBERED_MAX: usize = 1000;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A message after one of its recipients was accepted, or of a favoured peer.
    Message,
    /// A recipient: the gateway mailbox is in strict mode, and nothing from that peer could be authentic.
    Forbidden,
    /// A recipient: a former address of a gateway mailbox, whose time is over.
    Retired,
}

/// The times of the last refusals. Clones share one register.
#[derive(Clone, Debug, Default)]
pub struct RefusedMail {
    times: Arc<Mutex<Times>>,
}

/// One kind cannot crowd out another.
#[derive(Debug, Default)]
struct Times {
    messages: VecDeque<Timestamp>,
    forbidden: VecDeque<Timestamp>,
    retired: VecDeque<Timestamp>,
}

impl RefusedMail {
    /// Notes a refusal.
    pub fn note(&self, what: Refused, at: Timestamp) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let times = match what {
            Refused::Message => &mut times.messages,
            Refused::Forbidden => &mut times.forbidden,
            Refused::Retired => &mut times.retired,
        };
        if times.len() >= REMEMBERED_MAX {
            times.pop_front();
        }
        times.push_back(at);
    }

    /// How many there were from `since` to `until`, and the last of them. Those noted while the clock was ahead are left out.
    pub fn between(&self, since: Timestamp, until: Timestamp) -> RefusedFacts {
        let Times { messages, forbidden, retired } =
            &*self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let is_within = |at: &&Timestamp| (since..=until).contains(*at);
        let count = |times: &VecDeque<Timestamp>| times.iter().filter(is_within).count() as u64;
        let all = messages.iter().chain(forbidden).chain(retired);
        RefusedFacts {
            messages: count(messages),
            forbidden: count(forbidden),
            retired: count(retired),
            last: all.filter(is_within).max().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_span_of_time_and_keeps_a_bounded_number() {
        let refused = RefusedMail::default();
        let at = Timestamp::from_unix_ms;
        assert_eq!(refused.between(at(0), at(9)), RefusedFacts::default());
        for ms in [1, 5, 7, 90] {
            refused.clone().note(Refused::Message, at(ms));
        }
        refused.note(Refused::Forbidden, at(8));
        let facts = RefusedFacts { messages: 2, forbidden: 1, retired: 0, last: Some(at(8)) };
        assert_eq!(refused.between(at(2), at(9)), facts);
        (0..2_000).for_each(|_| refused.note(Refused::Retired, at(6)));
        let facts = RefusedFacts { retired: REMEMBERED_MAX as u64, ..facts };
        assert_eq!(refused.between(at(2), at(9)), facts);
    }
}
