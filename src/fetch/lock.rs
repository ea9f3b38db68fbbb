//! How many sessions a gateway mailbox has: of POP3 one at a time (RFC 1939 §4), of protocols with folders a few.
//!
//! Two pollers that empty one maildrop at once would each take over half of it and believe it was all. Sessions with folders may
//! be several, but not so many that whoever has one password has all connections. They are counted apart, so that a poller finds
//! its way in however many have folders open.
//!
//! The tables live in memory: what is held can outlive neither its session nor the process, so nothing is ever stale.

use crate::mail::GatewayMailboxId;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Sessions with folders in one gateway mailbox. Clients with many folders open a connection for each that they watch: 5 to 10.
pub const SESSIONS_MAX: usize = 20;

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

/// How many sessions with folders each gateway mailbox has. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct SessionCounts {
    open: Arc<Mutex<HashMap<GatewayMailboxId, usize>>>,
}

/// A session that counts, until dropped.
#[derive(Debug)]
pub struct CountedSession {
    counts: SessionCounts,
    mailbox: GatewayMailboxId,
}

impl SessionCounts {
    /// Counts one more, or `None` when there are [`SESSIONS_MAX`].
    pub fn enter(&self, mailbox: GatewayMailboxId) -> Option<CountedSession> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(mailbox).or_default();
        if *count >= SESSIONS_MAX {
            return None;
        }
        *count += 1;
        Some(CountedSession { counts: self.clone(), mailbox })
    }
}

impl Drop for CountedSession {
    fn drop(&mut self) {
        let mut open = self.counts.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.mailbox) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.mailbox)),
        }
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

    #[test]
    fn sessions_are_counted_for_each_gateway_mailbox() {
        let counts = SessionCounts::default();
        let (one, two) = (GatewayMailboxId::new(1, [1; 10]), GatewayMailboxId::new(1, [2; 10]));
        let mut open: Vec<_> = (0..SESSIONS_MAX).map(|_| counts.enter(one).unwrap()).collect();
        assert!(counts.clone().enter(one).is_none());
        assert!(counts.enter(two).is_some());
        drop(open.pop());
        assert!(counts.enter(one).is_some());
        drop(open);
        assert!(counts.open.lock().unwrap().is_empty());
    }
}
