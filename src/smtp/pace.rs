//! How long a peer may take over a body.
//!
//! A deadline for each read is no defence: one octet before each is enough to hold a connection, its buffer
//! and its share of the store for ever (slowloris). A [`Pace`] therefore adds up the time spent *waiting for
//! the peer* and compares it with what has arrived: a fixed grace, then a lowest rate, and a total. Time
//! spent waiting for our own store does not count, or a slow disk of ours would cut off honest peers.

use std::time::Duration;

/// Bounds on the sending of one body.
#[derive(Clone, Copy, Debug)]
pub struct PaceLimits {
    /// Longest silence.
    pub idle: Duration,
    /// How much waiting is free before the rate counts.
    pub grace: Duration,
    /// Octets a second below which a peer is too slow.
    pub octets_per_second_min: u64,
    /// Longest waiting over the whole body.
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

/// What one body has cost in waiting so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    octets: u64,
}

impl Pace {
    /// A read took this long and brought this much.
    pub(super) fn read(&mut self, waited: Duration, octets: usize) {
        self.waited = self.waited.saturating_add(waited);
        self.octets = self.octets.saturating_add(octets as u64);
    }

    /// How long the next read may take. Zero once the peer has used up its time.
    pub(super) fn allowance(&self, limits: &PaceLimits) -> Duration {
        let earned = Duration::from_secs(self.octets / limits.octets_per_second_min.max(1));
        let by_rate = limits.grace.saturating_add(earned).min(limits.total);
        by_rate.saturating_sub(self.waited).min(limits.idle)
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
        let mut pace = Pace::default();
        for &(seconds, octets) in reads {
            pace.read(Duration::from_secs(seconds), octets);
        }
        assert_eq!(pace.allowance(&LIMITS), Duration::from_secs(expect), "{reads:?}");
    }

    #[test]
    fn silence_rate_and_total_each_end_a_body() {
        check(&[], 30);
        check(&[(29, 1), (29, 1)], 2);
        check(&[(29, 1), (29, 1), (2, 1)], 0);
        check(&[(29, 10_000), (29, 10_000)], 30);
        check(&[(599, 1_000_000_000)], 1);
        check(&[(601, usize::MAX), (601, usize::MAX)], 0);
    }
}
