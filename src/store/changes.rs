//! Who wants to hear that a gateway mailbox changed, and what changes one.
//!
//! The committer tells behind each group, when readers see what it did. Where nobody listens that is a look at an empty map.

use super::fact::Fact;
use crate::mail::GatewayMailboxId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

type Listeners = HashMap<GatewayMailboxId, watch::Sender<u64>>;

/// Those who listen. A gateway mailbox to which nobody listens any more is forgotten with the next change or listener.
#[derive(Default)]
pub(super) struct Changed(Mutex<Listeners>);

impl Changed {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of what changes from now on.
    pub(super) fn of(&self, id: GatewayMailboxId) -> watch::Receiver<u64> {
        let mut listeners = self.listeners();
        if !listeners.contains_key(&id) {
            listeners.retain(|_, listener| !listener.is_closed());
        }
        listeners.entry(id).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Something changed in these.
    pub(super) fn tell(&self, ids: &[GatewayMailboxId]) {
        let mut listeners = self.listeners();
        if listeners.is_empty() {
            return;
        }
        for id in ids {
            match listeners.get(id) {
                Some(listener) if listener.is_closed() => drop(listeners.remove(id)),
                Some(listener) => rise(listener),
                None => {}
            }
        }
    }

    /// Something may have changed in any.
    pub(super) fn tell_all(&self) {
        self.listeners().values().for_each(rise);
    }
}

fn rise(listener: &watch::Sender<u64>) {
    listener.send_modify(|number| *number = number.wrapping_add(1));
}

/// The gateway mailbox in whose folders an entry of the log changes something, or that it changes itself.
pub(super) fn changed_by(fact: &Fact) -> Option<GatewayMailboxId> {
    match fact {
        Fact::GatewayMailbox(fact) => Some(fact.gateway_mailbox.id),
        Fact::Received(fact) if fact.placements.is_empty() => None,
        Fact::Received(fact) => Some(fact.gateway_mailbox),
        Fact::Revised(fact) => Some(fact.gateway_mailbox),
        Fact::Deleted(fact) => Some(fact.gateway_mailbox),
        Fact::Expired(fact) => Some(fact.gateway_mailbox),
        Fact::Undeleted(fact) => Some(fact.gateway_mailbox),
        Fact::Flagged(fact) => Some(fact.gateway_mailbox),
        Fact::Folder(_)
        | Fact::Object(_)
        | Fact::Fetched(_)
        | Fact::KeyFile(_)
        | Fact::TurnedAway(_)
        | Fact::Freed(_)
        | Fact::ClockTrusted(_)
        | Fact::Restored(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_hears_of_his_own_and_who_does_not_is_forgotten() {
        let [one, other] = [1, 2].map(|n| GatewayMailboxId::new(n, [0; 10]));
        let changed = Changed::default();
        let mut first = changed.of(one);
        let second = changed.of(one);
        changed.tell(&[other]);
        assert!(!first.has_changed().unwrap());
        changed.tell(&[one, other]);
        assert!(first.has_changed().unwrap() && second.has_changed().unwrap());
        assert_eq!(*first.borrow_and_update(), 1);
        drop((first, second));
        assert_eq!(changed.listeners().len(), 1);
        let listening = changed.of(other);
        assert_eq!(changed.listeners().len(), 1, "nobody listens to the first");
        drop(listening);
        changed.tell(&[other]);
        assert!(changed.listeners().is_empty());
        let listening = changed.of(one);
        drop(changed);
        assert!(listening.has_changed().is_err(), "the store is over");
    }
}
