//! How fast the scrub reads: at the configured rate, and not at all while the disk has enough to do.

use super::{LOOK_INTERVAL, Scrub};
use crate::store::embedded::Shared;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What was not read while the scrub waited for something else may be made up for, as far as this.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// How long one slow sync after the other holds the scrub up before it reads the next piece all the same.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Lets so many octets a second pass.
pub(super) struct Pace {
    due: Instant,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { due: Instant::now() }
    }

    /// Waits until so many octets more may have been read; to break is to stop reading.
    pub(super) fn spend(&mut self, octets: u64, scrub: &Scrub, shared: &Shared) -> ControlFlow<()> {
        let began = Instant::now();
        let earliest = began.checked_sub(BEHIND_MAX).unwrap_or(began);
        let mut left = octets;
        loop {
            if scrub.is_broken_off() {
                return ControlFlow::Break(());
            }
            // Looked at each time round: a rate that was changed counts at once, and 0 is a rest.
            let rate = scrub.rate();
            if rate > 0 {
                self.due = self.due.max(earliest) + time_for(std::mem::take(&mut left), rate);
                let wait = self.due.saturating_duration_since(Instant::now());
                let steps_back = shared.syncs_are_slow() && began.elapsed() < wait + BACK_OFF_MAX;
                if wait.is_zero() && !steps_back {
                    return ControlFlow::Continue(());
                }
                std::thread::park_timeout(if wait.is_zero() {
                    LOOK_INTERVAL
                } else {
                    wait.min(LOOK_INTERVAL)
                });
            } else {
                std::thread::park_timeout(LOOK_INTERVAL);
            }
        }
    }
}

/// How long so many octets take at so many a second.
fn time_for(octets: u64, rate: u64) -> Duration {
    let nanos = u128::from(octets) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_take_their_time() {
        for (octets, rate, millis) in
            [(0, 1, 0), (1, 1, 1_000), (256 * 1024, 8 * 1024 * 1024, 31), (5, 0, 5_000)]
        {
            assert_eq!(time_for(octets, rate).as_millis(), millis, "{octets} at {rate}");
        }
        assert!(time_for(u64::MAX, 1) > Duration::from_secs(1), "nothing runs over");
    }
}
