//! How long a peer may take over a body.
//!
//! A deadline for each read is no defence: one octet before each is enough to hold a connection, its buffer
//! and its share of the store for ever (slowloris). And an average since the first octet is none either: who sends
//! five megabytes at once has bought hours of silence. A [`Pace`] is an account of waiting time: it begins with a
//! grace, every wait *for the peer* is taken from it, every octet pays in what it may take at the lowest rate, and
//! it never holds more than the longest silence allowed, or the grace if that is longer. So whatever was sent before, over any
//! span of time a peer keeps up the lowest rate but for that much. Beside it runs the clock of the whole body.
//!
//! Time spent waiting for our own store does not count in either, or a slow disk of ours would cut off honest peers.

use std::time::Duration;
use tokio::time::Instant;

/// Bounds on the sending of one body.
#[derive(Clone, Copy, Debug)]
pub struct PaceLimits {
    /// Longest silence.
    pub idle: Duration,
    /// How much waiting is free at the beginning.
    pub grace: Duration,
    /// Octets a second below which a peer is too slow.
    pub octets_per_second_min: u64,
    /// From the first octet to the last, but for the waiting for our own store.
    pub total: Duration,
}

impl Default for PaceLimits {
    fn default() -> PaceLimits {
        PaceLimits {
            idle: Duration::from_secs(180),
            grace: Duration::from_secs(60),
            octets_per_second_min: 500,
            total: Duration::from_secs(3600),
        }
    }
}

/// What one body has cost so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    limits: PaceLimits,
    /// Waiting time left.
    left: Duration,
    /// When it must be whole; from the first wait on.
    until: Option<Instant>,
}

impl Pace {
    /// Before the first octet.
    pub(super) fn new(limits: PaceLimits) -> Pace {
        Pace { limits, left: limits.grace, until: None }
    }

    /// A read took this long and brought this much.
    pub(super) fn read(&mut self, waited: Duration, octets: usize) {
        let nanoseconds =
            (octets as u128 * 1_000_000_000) / u128::from(self.limits.octets_per_second_min.max(1));
        let earned = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let most = self.limits.grace.max(self.limits.idle);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(most);
    }

    /// Our own store took this long with what came.
    pub(super) fn stored(&mut self, took: Duration) {
        self.until = self.until.map(|until| until + took);
    }

    /// Until when the next read may take. Not after `now` once the peer has used up its time: even what has come is not to be
    /// read then, or a peer that is never waited for would never end.
    pub(super) fn deadline(&mut self, now: Instant) -> Instant {
        let until = *self.until.get_or_insert(now + self.limits.total);
        (now + self.left.min(self.limits.idle)).min(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PaceLimits = PaceLimits {
        idle: Duration::from_secs(30),
        grace: Duration::from_secs(60),
        octets_per_second_min: 500,
        total: Duration::from_secs(600),
    };

    /// Reads of (seconds waited, octets), then the seconds the next may take.
    fn check(reads: &[(u64, usize)], expect: u64) {
        let mut pace = Pace::new(LIMITS);
        let mut now = Instant::now();
        pace.deadline(now);
        for &(seconds, octets) in reads {
            let waited = Duration::from_secs(seconds);
            now += waited;
            pace.read(waited, octets);
        }
        let allowed = pace.deadline(now).saturating_duration_since(now);
        assert_eq!(allowed, Duration::from_secs(expect), "{reads:?}");
    }

    #[test]
    fn silence_rate_and_total_each_end_a_body() {
        check(&[], 30);
        check(&[(29, 500), (29, 500)], 4);
        check(&[(29, 500), (29, 500), (4, 0)], 0);
        check(&[(29, 10_000), (29, 10_000)], 30);
        check(&[(599, 1_000_000_000)], 1);
        check(&[(601, usize::MAX), (601, usize::MAX)], 0);
    }

    #[test]
    fn a_burst_buys_the_longest_silence_and_no_more() {
        // Ten thousand seconds' worth at once, then one octet every 29 seconds.
        check(&[(0, 5_000_000), (29, 1)], 30);
        check(&[(0, 5_000_000), (29, 0), (29, 0)], 2);
        check(&[(0, 5_000_000), (29, 0), (29, 0), (2, 0)], 0);
        // Whoever keeps up the rate may go on.
        check(&[[(0, 5_000_000)].as_slice(), &[(20, 10_000); 20]].concat(), 30);
        check(&[(20, 9_000); 20], 20);
    }

    #[test]
    fn a_peer_that_is_never_waited_for_ends_with_the_whole_time_but_not_by_our_own_store() {
        let mut pace = Pace::new(LIMITS);
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        pace.deadline(begun);
        pace.read(Duration::ZERO, 1_000_000);
        assert!(pace.deadline(after(599)) > after(599));
        assert!(pace.deadline(after(600)) <= after(600));
        pace.stored(Duration::from_secs(5));
        assert!(pace.deadline(after(604)) > after(604));
        assert!(pace.deadline(after(605)) <= after(605));
    }
}
