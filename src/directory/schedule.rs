//! When a source is asked next. Pure: the clock and the luck are arguments.

use crate::mail::Timestamp;
use std::time::Duration;

/// One minute, in milliseconds.
const MINUTE_MS: i64 = 60_000;
/// Longest wait after failures where a source is asked at no regular time, in minutes.
const RETRY_MINUTES_MAX: u32 = 60;
/// Shortest wait after a refusal, in minutes. Active Directory commonly locks an account after five bad passwords in 30.
const REFUSED_MINUTES_MIN: u32 = 30;
/// Longest wait that a source can ask for.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The moment of the next try. `luck` is any number: it moves the moment by up to a tenth of the wait to either side, so that not
/// everybody who asks a tenant does so at the full hour. `None`: only by hand, or when its file changes.
///
/// After `failures` in a row it is tried again in 1, 2, 4 … minutes, never later than it would be without them.
pub(super) fn next(after: Timestamp, every_minutes: u32, failures: u32, luck: u64) -> Option<Timestamp> {
    if every_minutes == 0 {
        return None;
    }
    Some(later(after, wait_minutes(every_minutes, failures), luck))
}

/// The same where a disk is at fault, which mends without the source saying so: also what is asked at no regular time is tried
/// again.
pub(super) fn retry(after: Timestamp, every_minutes: u32, failures: u32, luck: u64) -> Timestamp {
    later(after, wait_minutes(longest(every_minutes), failures.max(1)), luck)
}

/// Whether a moment is further off than any that is chosen here: the clock was ahead when it was.
pub(super) fn is_too_far(due: Timestamp, now: Timestamp, every_minutes: u32) -> bool {
    let longest_ms = i64::from(longest(every_minutes)).saturating_mul(MINUTE_MS);
    due.unix_ms() > now.unix_ms().saturating_add(longest_ms + longest_ms / 10)
}

/// Longest wait, in minutes, before luck.
fn longest(every_minutes: u32) -> u32 {
    if every_minutes == 0 { RETRY_MINUTES_MAX } else { every_minutes }
}

/// The same where the source refused: another login with the same password soon after brings the account nearer to being locked,
/// so its regular turn is waited for. By hand it can be asked at once.
pub(super) fn after_refusal(after: Timestamp, every_minutes: u32, luck: u64) -> Option<Timestamp> {
    next(after, if every_minutes == 0 { 0 } else { every_minutes.max(REFUSED_MINUTES_MIN) }, 0, luck)
}

/// The moment of the next try where the source said for how long it is not to be asked.
pub(super) fn no_earlier(due: Option<Timestamp>, after: Timestamp, wait: Duration) -> Option<Timestamp> {
    let wait_ms = i64::try_from(wait.min(PATIENCE_MAX).as_millis()).unwrap_or(i64::MAX);
    due.map(|due| due.max(Timestamp::from_unix_ms(after.unix_ms().saturating_add(wait_ms))))
}

fn wait_minutes(every_minutes: u32, failures: u32) -> u32 {
    match failures.checked_sub(1) {
        None => every_minutes,
        Some(doublings) => 1_u32.checked_shl(doublings).unwrap_or(u32::MAX).min(every_minutes),
    }
}

fn later(after: Timestamp, minutes: u32, luck: u64) -> Timestamp {
    let wait_ms = i64::from(minutes).saturating_mul(MINUTE_MS);
    let span_ms = wait_ms / 5;
    let luck = i64::try_from(luck % u64::try_from(span_ms + 1).unwrap_or(1)).unwrap_or(0);
    Timestamp::from_unix_ms(after.unix_ms().saturating_add(wait_ms - span_ms / 2 + luck))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(every: u32, failures: u32, luck: u64) -> Option<f64> {
        let at = next(Timestamp::from_unix_ms(1_000_000), every, failures, luck)?;
        Some((at.unix_ms() - 1_000_000) as f64 / 60_000.0)
    }

    #[test]
    fn a_source_is_asked_regularly_give_or_take_a_tenth() {
        assert_eq!(minutes(0, 3, 9), None);
        for luck in [0, 1, 77, u64::MAX, 123_456_789] {
            let wait = minutes(60, 0, luck).unwrap();
            assert!((54.0..=66.0).contains(&wait), "{wait}");
        }
        assert_ne!(minutes(60, 0, 1), minutes(60, 0, 50_000));
    }

    #[test]
    fn a_failure_is_tried_again_soon_and_then_less_and_less_often() {
        for (failures, expect) in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (99, 60.0)] {
            let wait = minutes(60, failures, 4_711).unwrap();
            assert!((expect * 0.9..=expect * 1.1).contains(&wait), "{failures}: {wait}");
        }
        assert!(minutes(5, 9, 0).unwrap() <= 5.5, "never later than it would be anyway");
        let refused = |every| after_refusal(Timestamp::from_unix_ms(0), every, 0).map(Timestamp::unix_ms);
        assert_eq!((refused(0), refused(5), refused(60)), (None, Some(27 * MINUTE_MS), Some(54 * MINUTE_MS)));
        let at = retry(Timestamp::from_unix_ms(0), 0, 1, 0).unix_ms();
        assert_eq!(at, 54_000, "a full disk is looked at again, whatever the schedule");
    }

    #[test]
    fn a_moment_chosen_while_the_clock_was_ahead_is_known_by_its_distance() {
        let now = Timestamp::from_unix_ms(1_000_000);
        for (every, failures) in [(60, 0), (0, 40), (10_080, 0), (1, 0)] {
            let latest = retry(now, every, failures, u64::MAX);
            assert!(!is_too_far(latest, now, every), "{every}");
            let furthest = later(now, longest(every), (u64::from(longest(every)) * 60_000) / 5);
            assert!(!is_too_far(furthest, now, every), "{every}");
            assert!(is_too_far(Timestamp::from_unix_ms(furthest.unix_ms() + 1), now, every), "{every}");
        }
    }
}
