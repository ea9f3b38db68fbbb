//! Transactions that were turned away, on their way to the log.
//!
//! They are never worth a sync of their own while mail comes: [`Waiting`] holds them until the committer takes them into its next
//! group, or makes one of them after [`super::embedded`]'s next look, about a second. While the store cannot write, or may not for
//! want of room, they wait on, with their times. What waits when the process dies is lost here, and stands in its log.
//!
//! **A flood of refusals is no flood of entries.** What concerns a gateway mailbox or comes from a favoured peer is written, up
//! to [`KNOWN_A_MINUTE_MAX`]. Of strangers the first of a session is, up to [`NETWORK_A_MINUTE_MAX`] of an IPv4 /24 or IPv6 /48
//! and [`STRANGERS_A_MINUTE_MAX`] in all. All others are counted, and the next entry says how many they were; if none
//! comes within the minute, the last of them is written to say it. So the log grows by as many entries a minute as these two allow,
//! and one.
//!
//! Invariant: what was handed over is written once, or counted in one entry, or waits: see the test.

use crate::mail::{GatewayMailboxId, Network, ReceiptId, SessionId, Timestamp};
use crate::observe::metrics::{self, Recorded};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries a minute about gateway mailboxes and favoured peers.
pub(super) const KNOWN_A_MINUTE_MAX: u32 = 600;
/// Entries a minute about strangers.
pub(super) const STRANGERS_A_MINUTE_MAX: u32 = 60;
/// Of those, about one network.
pub(super) const NETWORK_A_MINUTE_MAX: u32 = 6;
/// Entries that wait at most: some minutes of the worst flood, or a day of a full disk with the retries of a few servers. Further
/// ones are only counted.
const WAITING_MAX: usize = 4096;
/// Entries that one group takes: they must not hold up the mail in it.
pub(super) const GROUP_ENTRIES_MAX: usize = 256;
/// What tells one network from another, in bits of an IPv4 and an IPv6 address; as for connections (`net::admission`).
const NETWORK_BITS: (u8, u8) = (24, 48);
const MINUTE_MS: i64 = 60_000;

/// A transaction that ended without its message being taken: the peer was told no, or to come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedAway {
    /// When it ended.
    pub at: Timestamp,
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// The connection.
    pub session_id: SessionId,
    /// Who it was with.
    pub peer: SocketAddr,
    /// The name the peer gave, unverified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// As in the reply: 4xx deferred, 5xx refused. Absent when the connection broke before there was one: deferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Enhanced code of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<String>,
    /// Whose fault it was: `peer`, `ours`, `operator`, `nobody`.
    pub blame: String,
    /// Why, in one word: `unknown-recipient`, `store-full`, `broken-off` …
    pub reason: String,
    /// MAIL FROM, empty for the null sender; absent when it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The first few addresses of RCPT, accepted ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// How many there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recipient_count: u64,
    /// The gateway mailboxes among them, those asked for by a former address too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway_mailboxes: Vec<GatewayMailboxId>,
    /// The size that MAIL declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub octets_declared: Option<u64>,
    /// Octets of the body that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub octets_received: Option<u64>,
    /// So many transactions more were deferred since the entry before, whosever they were, and only counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub further_deferred: u64,
    /// So many more were refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub further_refused: u64,
}

pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl TurnedAway {
    /// Refused for good, not only for now.
    pub fn is_refused(&self) -> bool {
        self.code.is_some_and(|code| code >= 500)
    }

    /// The network it came from.
    pub(super) fn network(&self) -> Network {
        let address = self.peer.ip().to_canonical();
        let bits = if address.is_ipv4() { NETWORK_BITS.0 } else { NETWORK_BITS.1 };
        Network::around(address, bits)
    }
}

/// Whom a transaction that was turned away concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A gateway mailbox, or a favoured peer.
    Known,
    /// Nobody we know, and so many of the same session were turned away before.
    Stranger {
        /// In the same session.
        before: u32,
    },
}

/// Decides what is written and what is only counted. Values in, values out.
#[derive(Debug, Default)]
struct Gate {
    /// Minutes since 1970 that the counts below are of.
    minute: i64,
    known: u32,
    strangers: u32,
    /// Of strangers, as many as were written at most.
    networks: BTreeMap<Network, u32>,
    /// The last of those that were only counted, itself among them.
    held: Option<Box<TurnedAway>>,
    further_deferred: u64,
    further_refused: u64,
}

impl Gate {
    /// The entry to write, if one is to be written.
    fn pass(&mut self, told: TurnedAway, standing: Standing, now: Timestamp) -> Option<TurnedAway> {
        self.turn(now);
        if !self.has_room(&told, standing) {
            self.count(told);
            return None;
        }
        self.held = None;
        Some(self.with_counts(told))
    }

    fn turn(&mut self, now: Timestamp) {
        let minute = now.unix_ms().div_euclid(MINUTE_MS);
        if minute != self.minute {
            (self.minute, self.known, self.strangers) = (minute, 0, 0);
            self.networks.clear();
        }
    }

    fn has_room(&mut self, told: &TurnedAway, standing: Standing) -> bool {
        let Standing::Stranger { before } = standing else {
            let room = self.known < KNOWN_A_MINUTE_MAX;
            self.known += u32::from(room);
            return room;
        };
        if before > 0 || self.strangers >= STRANGERS_A_MINUTE_MAX {
            return false;
        }
        let of_network = self.networks.entry(told.network()).or_default();
        let room = *of_network < NETWORK_A_MINUTE_MAX;
        *of_network += u32::from(room);
        self.strangers += u32::from(room);
        room
    }

    fn count(&mut self, told: TurnedAway) {
        self.further_deferred += told.further_deferred + u64::from(!told.is_refused());
        self.further_refused += told.further_refused + u64::from(told.is_refused());
        let told = TurnedAway { further_deferred: 0, further_refused: 0, ..told };
        self.held = Some(Box::new(told));
    }

    fn with_counts(&mut self, told: TurnedAway) -> TurnedAway {
        let further_deferred = std::mem::take(&mut self.further_deferred);
        let further_refused = std::mem::take(&mut self.further_refused);
        TurnedAway { further_deferred, further_refused, ..told }
    }

    /// What was counted in a minute that is over, as one entry.
    fn overdue(&mut self, now: Timestamp) -> Option<TurnedAway> {
        let is_over = |held: &TurnedAway| {
            held.at.unix_ms().div_euclid(MINUTE_MS) != now.unix_ms().div_euclid(MINUTE_MS)
        };
        if !self.held.as_deref().is_some_and(is_over) {
            return None;
        }
        self.all_counted()
    }

    fn all_counted(&mut self) -> Option<TurnedAway> {
        let held = *self.held.take()?;
        match held.is_refused() {
            true => self.further_refused = self.further_refused.saturating_sub(1),
            false => self.further_deferred = self.further_deferred.saturating_sub(1),
        }
        Some(self.with_counts(held))
    }
}

#[derive(Debug, Default)]
struct Inner {
    gate: Gate,
    /// Oldest first.
    queue: VecDeque<TurnedAway>,
    /// Those that found the queue full.
    dropped: u64,
    /// The store is being closed: there is no later.
    closing: bool,
}

/// What is to be written, bounded. Never blocks.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Inner>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the lock is given back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one over.
    pub(super) fn add(&self, told: TurnedAway, standing: Standing, now: Timestamp) {
        let mut inner = self.lock();
        match inner.gate.pass(told, standing, now) {
            Some(entry) => inner.enqueue(entry),
            None => metrics::turned_away(Recorded::Counted, 1),
        }
    }

    /// True when something is to be written. With `all`, also what would have gone with a later entry: the store is being closed.
    pub(super) fn is_due(&self, now: Timestamp, all: bool) -> bool {
        let mut inner = self.lock();
        inner.closing |= all;
        if inner.queue.len() < WAITING_MAX
            && let Some(entry) = if all { inner.gate.all_counted() } else { inner.gate.overdue(now) }
        {
            inner.queue.push_back(entry);
        }
        !inner.queue.is_empty()
    }

    /// There is no later time at which what waits could be written.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// The first ones, at most [`GROUP_ENTRIES_MAX`]: they wait on until they are [`Waiting::written`].
    pub(super) fn first(&self) -> Vec<TurnedAway> {
        self.lock().queue.iter().take(GROUP_ENTRIES_MAX).cloned().collect()
    }

    /// How many wait to be written.
    pub(super) fn count(&self) -> usize {
        self.lock().queue.len()
    }

    /// The first `count` are durable, or can never be written.
    pub(super) fn written(&self, count: usize) {
        let mut inner = self.lock();
        let count = count.min(inner.queue.len());
        inner.queue.drain(..count);
    }
}

impl Inner {
    fn enqueue(&mut self, entry: TurnedAway) {
        if self.queue.len() < WAITING_MAX {
            return self.queue.push_back(entry);
        }
        self.dropped += 1;
        metrics::turned_away(Recorded::Dropped, 1);
        // A line for each would be the flood that the gate keeps from the log.
        if self.dropped.is_power_of_two() {
            tracing::warn!(event = "receipts.dropped", dropped = self.dropped);
        }
        self.gate.count(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fact::Entry;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(1_795_000_000_000 / MINUTE_MS * MINUTE_MS + ms)
    }

    fn told(n: u64, peer: &str, code: u16, ms: i64) -> TurnedAway {
        TurnedAway {
            at: at(ms),
            receipt_id: ReceiptId::new(n, [7; 10]),
            session_id: SessionId::new(n, [8; 10]),
            peer: peer.parse().unwrap(),
            helo: None,
            code: Some(code),
            enhanced: None,
            blame: "peer".to_owned(),
            reason: "unknown-recipient".to_owned(),
            sender: None,
            recipients: Vec::new(),
            recipient_count: 1,
            gateway_mailboxes: Vec::new(),
            octets_declared: None,
            octets_received: None,
            further_deferred: 0,
            further_refused: 0,
        }
    }

    const STRANGER: Standing = Standing::Stranger { before: 0 };

    /// What waits, taken as the committer takes it: how many entries, and how many transactions they stand for.
    fn drain(waiting: &Waiting, now: Timestamp) -> (u64, u64, u64) {
        let (mut entries, mut deferred, mut refused) = (0, 0, 0);
        while waiting.is_due(now, false) {
            let first = waiting.first();
            for entry in &first {
                entries += 1;
                deferred += entry.further_deferred + u64::from(!entry.is_refused());
                refused += entry.further_refused + u64::from(entry.is_refused());
            }
            waiting.written(first.len());
        }
        (entries, deferred, refused)
    }

    #[test]
    fn a_flood_of_sessions_stays_under_the_cap_and_every_one_is_counted() {
        let waiting = Waiting::default();
        let (mut entries, mut refused) = (0, 0);
        for n in 0..10_000_u32 {
            let peer = format!("198.{}.{}.{}:25", 51 + n % 2, n / 40 % 250, n % 250);
            let ms = i64::from(n) * 12;
            waiting.add(told(u64::from(n), &peer, 550, ms), STRANGER, at(ms));
            if n % 100 == 0 {
                let (some, _, of_these) = drain(&waiting, at(ms));
                entries += some;
                refused += of_these;
            }
        }
        let (some, deferred, of_these) = drain(&waiting, at(10 * MINUTE_MS));
        assert_eq!((refused + of_these, deferred), (10_000, 0));
        // Two minutes, and the one entry for what was left.
        assert!(entries + some <= 2 * u64::from(STRANGERS_A_MINUTE_MAX) + 3, "{entries}");
        assert!(entries > u64::from(STRANGERS_A_MINUTE_MAX), "{entries}");
    }

    #[test]
    fn one_network_does_not_take_the_room_of_the_others_and_strangers_not_that_of_the_known() {
        let waiting = Waiting::default();
        for n in 0..500 {
            waiting.add(told(n, "192.0.2.7:25", 550, 0), STRANGER, at(0));
            waiting.add(told(n, "[2001:db8:1::7]:25", 550, 0), STRANGER, at(0));
        }
        assert_eq!(drain(&waiting, at(0)).0, 2 * u64::from(NETWORK_A_MINUTE_MAX));
        for n in 0..500 {
            waiting.add(told(n, "192.0.2.7:25", 451, 1), Standing::Known, at(1));
        }
        // With the first of them, what was counted before.
        assert_eq!(drain(&waiting, at(2)), (500, 500, 1_000 - 2 * u64::from(NETWORK_A_MINUTE_MAX)));
    }

    #[test]
    fn of_a_session_of_strangers_the_first_is_written_and_the_others_are_told_of_within_a_minute() {
        let waiting = Waiting::default();
        for before in 0..4 {
            let standing = Standing::Stranger { before };
            waiting.add(told(u64::from(before), "192.0.2.7:25", 550, 5), standing, at(5));
        }
        assert_eq!(drain(&waiting, at(5)), (1, 0, 1));
        assert!(!waiting.is_due(at(MINUTE_MS - 1), false));
        assert_eq!(drain(&waiting, at(MINUTE_MS)), (1, 0, 3));
    }

    #[test]
    fn what_finds_no_room_to_wait_is_counted_and_told_when_there_is_some() {
        let waiting = Waiting::default();
        let many = WAITING_MAX as u64 + 300;
        for n in 0..many {
            // A full disk for some minutes.
            let ms = i64::try_from(n).unwrap() * 200;
            waiting.add(told(n, "40.92.0.1:25", 452, ms), Standing::Known, at(ms));
        }
        assert_eq!(waiting.lock().queue.len(), WAITING_MAX);
        assert!(waiting.is_due(at(60 * MINUTE_MS), false), "and nothing more is put in");
        assert_eq!(drain(&waiting, at(60 * MINUTE_MS)), (WAITING_MAX as u64 + 1, many, 0));
    }

    #[test]
    fn a_group_that_failed_changes_nothing_and_what_came_meanwhile_stands_behind() {
        let waiting = Waiting::default();
        waiting.add(told(1, "192.0.2.7:25", 550, 0), STRANGER, at(0));
        let taken = waiting.first();
        waiting.add(told(2, "192.0.2.7:25", 550, 1), STRANGER, at(1));
        let again = waiting.first();
        assert_eq!((taken.len(), again.len(), &again[0]), (1, 2, &taken[0]));
        waiting.written(taken.len());
        assert_eq!(waiting.first(), again[1..]);
    }

    #[test]
    fn entries_read_as_version_4_writes_them() {
        const BEGINNING: &str = r#"{"v":4,"fact":"turned-away","at":"2026-11-21T09:30:00.123Z",
            "receipt_id":"019aa5b0-7e21-7c43-a1b2-0123456789ab","session_id":"019aa5b0-7e21-7c43-a1b2-0123456789ac",
            "peer":"203.0.113.7:2525","#;
        for rest in [
            r#""blame":"nobody","reason":"broken-off"}"#,
            r#""helo":"mx.example","code":550,"enhanced":"5.7.1","blame":"peer","reason":"forbidden","sender":"",
            "recipients":["mbx-0@gw.example"],"recipient_count":1,
            "gateway_mailboxes":["019aa5b0-7e21-7c43-a1b2-0123456789ad"],"octets_declared":7,"octets_received":0,
            "further_deferred":1,"further_refused":2}"#,
        ] {
            let text = format!("{BEGINNING}{rest}").replace("\n            ", "");
            let entry: Entry = serde_json::from_str(&text).unwrap();
            assert_eq!((entry.fact.version(), serde_json::to_string(&entry).unwrap()), (4, text));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_written_or_counted_once(
            comes in prop::collection::vec((0..4_u8, 0..3_u8, any::<bool>(), 0..90_000_i64, any::<bool>()), 0..300),
        ) {
            let waiting = Waiting::default();
            let (mut ms, mut deferred, mut refused, mut expect) = (0, 0, 0, (0, 0));
            for (n, (network, before, known, later, is_refused)) in comes.into_iter().enumerate() {
                ms += later / 10;
                let standing = if known { Standing::Known } else { Standing::Stranger { before: before.into() } };
                let code = if is_refused { 550 } else { 451 };
                waiting.add(told(n as u64, &format!("10.0.{network}.1:25"), code, ms), standing, at(ms));
                expect.0 += u64::from(!is_refused);
                expect.1 += u64::from(is_refused);
                if n % 7 == 0 {
                    let some = drain(&waiting, at(ms));
                    deferred += some.1;
                    refused += some.2;
                }
            }
            while waiting.is_due(at(ms), true) {
                let some = drain(&waiting, at(ms));
                deferred += some.1;
                refused += some.2;
            }
            prop_assert_eq!((deferred, refused), expect);
        }
    }
}
