//! One session at a time per gateway mailbox (RFC 1939 §4).
//!
//! Two pollers that empty one maildrop at once would each take over half of it and believe it was all. The
//! table lives in memory: a lock can outlive neither its session nor the process, so none is ever stale.

use crate::mail::GatewayMailboxId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Which gateway mailboxes are in use. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct MaildropLocks {
    held: Arc<Mutex<HashSet<GatewayMailboxId>>>,
}

/// The exclusive right to one maildrop, given back when dropped.
#[derive(Debug)]
pub struct MaildropLock {
    locks: MaildropLocks,
    mailbox: GatewayMailboxId,
}

impl MaildropLocks {
    /// Takes the lock, or `None` while another session holds it.
    pub fn acquire(&self, mailbox: GatewayMailboxId) -> Option<MaildropLock> {
        let taken = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(mailbox);
        taken.then(|| MaildropLock { locks: self.clone(), mailbox })
    }
}

impl Drop for MaildropLock {
    fn drop(&mut self) {
        self.locks.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.mailbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maildrop_has_one_holder_until_it_lets_go() {
        let locks = MaildropLocks::default();
        let (one, two) = (GatewayMailboxId::new(1, [1; 10]), GatewayMailboxId::new(1, [2; 10]));
        let held = locks.acquire(one);
        assert!(held.is_some());
        assert!(locks.clone().acquire(one).is_none());
        assert!(locks.acquire(two).is_some());
        drop(held);
        assert!(locks.acquire(one).is_some());
    }
}
