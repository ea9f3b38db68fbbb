//! Since when there is somebody to receive and to count: what happened before says nothing about silence.
//!
//! Pure: times are arguments.

use crate::mail::{GatewayMailboxId, Timestamp};
use std::collections::BTreeMap;

/// A server that was away for less has been there all the time, as far as silence is concerned.
pub(super) const RESTART_MS_MAX: i64 = 15 * 60 * 1000;
/// Without a count for so long, alarms about gateway mailboxes are blind, and somebody should know.
const UNCOUNTED_MS_MAX: i64 = 15 * 60 * 1000;

/// Since when each gateway mailbox is watched over; `None` while it is not. One that has always been is not in it.
pub(super) type WatchedSince = BTreeMap<GatewayMailboxId, Option<Timestamp>>;

/// Whether the clock moved so far between two looks that nobody was there in between: the machine was paused, or the clock
/// was set.
pub(super) fn was_away(last_look: Timestamp, now: Timestamp) -> bool {
    (now.unix_ms() - last_look.unix_ms()).abs() > RESTART_MS_MAX
}

/// Notes which gateway mailboxes there are, and whether each is watched over now.
pub(super) fn note_watched(
    since: &mut WatchedSince,
    all: impl Iterator<Item = (GatewayMailboxId, bool)>,
    now: Timestamp,
) {
    let all: BTreeMap<GatewayMailboxId, bool> = all.collect();
    since.retain(|id, _| all.contains_key(id));
    for (id, is_watched) in all {
        match since.get_mut(&id) {
            _ if !is_watched => {
                since.insert(id, None);
            }
            Some(Some(since)) => *since = now.min(*since),
            Some(since) => *since = Some(now),
            None => {}
        }
    }
}

/// When the gateway mailboxes were last counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counting {
    /// `None` before the first time.
    pub(super) last: Option<Timestamp>,
    /// Blind at the earliest since then.
    since: Timestamp,
    is_told: bool,
}

impl Counting {
    pub(super) fn new(now: Timestamp) -> Counting {
        Counting { last: None, since: now, is_told: false }
    }

    /// Begins to wait for a count anew: nobody was there to count.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        self.since = now;
    }

    /// Notes whether every gateway mailbox could be counted; gives since when it could not, once, when that is long.
    pub(super) fn note(&mut self, is_counted: bool, now: Timestamp) -> Option<Timestamp> {
        if is_counted {
            *self = Counting { last: Some(now), since: now, is_told: false };
            return None;
        }
        self.since = self.since.min(now);
        let is_late = now.unix_ms() - self.since.unix_ms() >= UNCOUNTED_MS_MAX;
        let tell = is_late && !self.is_told;
        self.is_told |= tell;
        tell.then_some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_unix_ms(minutes * 60 * 1000)
    }

    #[test]
    fn a_gateway_mailbox_is_watched_from_its_resumption_on() {
        let (one, two) = (GatewayMailboxId::new(1, [1; 10]), GatewayMailboxId::new(1, [2; 10]));
        let mut since = WatchedSince::new();
        let mut note = |one_is, minute| {
            note_watched(&mut since, [(one, one_is), (two, true)].into_iter(), at(minute));
            since.clone()
        };
        assert_eq!(note(true, 0), WatchedSince::new(), "always watched");
        assert_eq!(note(false, 1), WatchedSince::from([(one, None)]));
        assert_eq!(note(true, 2), WatchedSince::from([(one, Some(at(2)))]));
        assert_eq!(note(true, 3), WatchedSince::from([(one, Some(at(2)))]));
        assert_eq!(note(true, 1), WatchedSince::from([(one, Some(at(1)))]), "the clock was ahead");
        let kept = serde_json::to_string(&note(false, 4)).unwrap();
        assert_eq!(serde_json::from_str::<WatchedSince>(&kept).unwrap(), WatchedSince::from([(one, None)]));
        note_watched(&mut since, [(two, true)].into_iter(), at(5));
        assert_eq!(since, WatchedSince::new(), "it was deleted");
    }

    #[test]
    fn a_paused_machine_was_away_and_a_slow_look_was_not() {
        assert!(!was_away(at(0), at(15)));
        assert!(was_away(at(0), at(16)));
        assert!(was_away(at(16), at(0)));
    }

    #[test]
    fn counting_that_does_not_succeed_is_told_once() {
        let mut counting = Counting::new(at(0));
        let mut told = Vec::new();
        for minute in 0..100 {
            let is_counted = (20..40).contains(&minute);
            told.extend(counting.note(is_counted, at(minute)).map(|since| (minute, since)));
        }
        assert_eq!(told, [(15, at(0)), (54, at(39))]);
        assert_eq!(counting.last, Some(at(39)));
        // Nobody was there to count.
        counting = Counting::new(at(0));
        counting.begin_anew(at(300));
        assert_eq!((counting.note(false, at(301)), counting.note(false, at(315))), (None, Some(at(300))));
    }
}
