//! When each gateway mailbox was last logged in to, whether or not there was anything to fetch.
//!
//! The store knows what was fetched; a poller that comes every five minutes and finds nothing leaves no trace there, and
//! must not look like one that stopped coming.

use crate::mail::{GatewayMailboxId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The last login to each gateway mailbox. Clones share one register, which holds one time for each gateway mailbox.
#[derive(Clone, Debug, Default)]
pub struct Visits {
    last: Arc<Mutex<BTreeMap<GatewayMailboxId, Timestamp>>>,
}

impl Visits {
    /// Notes a login. An earlier time than the one known changes nothing.
    pub fn note(&self, gateway_mailbox: GatewayMailboxId, at: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.entry(gateway_mailbox).or_insert(at);
        *known = at.max(*known);
    }

    /// Forgets logins later than `at`, which were noted while the clock was ahead: with them the next ones would count for
    /// nothing.
    pub fn forget_after(&self, at: Timestamp) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, last| *last <= at);
    }

    /// The last login, as far as is known.
    pub fn last(&self, gateway_mailbox: GatewayMailboxId) -> Option<Timestamp> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(&gateway_mailbox).copied()
    }

    /// The last login to each gateway mailbox that had one.
    pub fn all(&self) -> BTreeMap<GatewayMailboxId, Timestamp> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_login_counts_in_every_clone() {
        let visits = Visits::default();
        let (one, two) = (GatewayMailboxId::new(1, [1; 10]), GatewayMailboxId::new(1, [2; 10]));
        let at = Timestamp::from_unix_ms;
        visits.clone().note(one, at(5));
        visits.note(one, at(3));
        assert_eq!((visits.last(one), visits.last(two)), (Some(at(5)), None));
        assert_eq!(visits.all().len(), 1);
        visits.forget_after(at(5));
        assert_eq!(visits.last(one), Some(at(5)));
        visits.forget_after(at(4));
        visits.note(one, at(3));
        assert_eq!(visits.last(one), Some(at(3)), "noted by a clock that was ahead");
    }
}
