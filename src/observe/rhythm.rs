//! What silence is usual for a gateway mailbox, learned from when its mail came.
//!
//! **The rule in plain words.** Daybook remembers the last four weeks before the last report. For each half hour of the week
//! it knows the longest silence that touched it, and how much mail usually comes in it. The present silence is too long when
//! all of this holds:
//!
//! 1. it has lasted half an hour ([`SILENCE_MS_MIN`]);
//! 2. it is more than three times ([`PAUSE_FACTOR`]) as long as the longest silence that, in those four weeks, touched the
//!    present time of the week, give or take an hour and a half ([`NEARBY_SLOTS`]);
//! 3. by what usually comes, at least eight reports ([`MISSED_MIN`]) are missing by now.
//!
//! So a night, a weekend, a pause at lunch and a batch that comes once an hour are as usual as they have been: whatever
//! silence happened in the four weeks may happen again at the same time of the week. An office whose first mail comes at
//! 8:00 is missed from half past nine on, a busy mailbox after half an hour, one with three reports a week after about
//! three weeks. The hour and a half bears the shift between summer and winter time, and people who come late.
//!
//! **What it does not know.** Nothing is said before a whole week has been seen ([`LEARNED_MS_MIN`]): a mailbox three days
//! old has never had a Sunday. A public holiday looks like a failure to a mailbox that has mail on working days only: one
//! alarm that day, which ends with the next report; for four weeks after it the same weekday is watched less sharply. So
//! does, for four weeks, the time of a failure that has passed.
//!
//! No clock and no I/O: times are arguments. The week is counted in UTC.

use crate::mail::Timestamp;
use std::collections::BTreeMap;

const MINUTE_MS: i64 = 60 * 1000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const WEEK_MS: i64 = 7 * DAY_MS;

/// How far back arrivals are learned from, before the last one: four weeks.
pub const HISTORY_MS: i64 = 4 * WEEK_MS;
/// Nothing is learned from less than a week.
pub const LEARNED_MS_MIN: i64 = WEEK_MS;
/// No silence shorter than half an hour is too long.
pub const SILENCE_MS_MIN: i64 = 30 * MINUTE_MS;
/// A silence is too long when it is more than so many times the usual one.
pub const PAUSE_FACTOR: i64 = 3;
/// So many reports must be missing by what usually comes. At random times, a pause in which eight were expected happens
/// once in three thousand.
pub const MISSED_MIN: f64 = 8.0;
/// The half hours before and after the present one whose silences count as well.
pub const NEARBY_SLOTS: i64 = 3;

/// Arrivals are told apart to ten minutes: no pause within them is known.
const SPAN_MS: i64 = 10 * MINUTE_MS;
/// Arrivals counted of ten minutes: a burst says no more about what usually comes than a few do.
const SPAN_ARRIVALS_MAX: u64 = 3;
const SLOT_MS: i64 = 30 * MINUTE_MS;
/// Half hours of a week.
const SLOTS: usize = 336;

/// What is usual, for each half hour of the week.
#[derive(Clone, Debug, PartialEq)]
pub struct Rhythm {
    /// The longest silence that touched it, in milliseconds.
    longest_ms: Vec<i64>,
    /// Arrivals in it, on average.
    arrivals: Vec<f64>,
}

/// The half hour of the week a half hour since 1970 is.
fn slot(half_hour: i64) -> usize {
    usize::try_from(half_hour.rem_euclid(SLOTS as i64)).unwrap_or(0)
}

impl Rhythm {
    /// Learns from `arrivals`: beginnings of spans of at most ten minutes, and how many came in each. `known_since` is when
    /// the gateway mailbox was made, `last` when the last report came; what is older than four weeks before that is left out.
    /// `None` when that is less than a week.
    pub fn learn(arrivals: &[(Timestamp, u64)], known_since: Timestamp, last: Timestamp) -> Option<Rhythm> {
        let oldest = last.unix_ms() - HISTORY_MS;
        let mut spans = BTreeMap::new();
        for (at, count) in arrivals {
            let span = at.unix_ms() - at.unix_ms().rem_euclid(SPAN_MS);
            if span >= oldest && span <= last.unix_ms() && *count > 0 {
                *spans.entry(span).or_insert(0_u64) += count;
            }
        }
        // Before its first report a new gateway mailbox was being set up, not silent.
        let is_new = known_since.unix_ms() > oldest;
        let begin = if is_new { *spans.keys().next()? } else { oldest };
        if last.unix_ms() - begin < LEARNED_MS_MIN {
            return None;
        }
        let mut rhythm = Rhythm { longest_ms: vec![0; SLOTS], arrivals: vec![0.0; SLOTS] };
        let mut times_seen = vec![0_u32; SLOTS];
        for half_hour in begin.div_euclid(SLOT_MS)..=last.unix_ms().div_euclid(SLOT_MS) {
            times_seen[slot(half_hour)] += 1;
        }
        let mut silent_since = begin;
        for (span, count) in spans {
            rhythm.note_pause(silent_since, span);
            silent_since = span + SPAN_MS;
            let count = u32::try_from(count.min(SPAN_ARRIVALS_MAX)).unwrap_or(0);
            let slot = slot(span.div_euclid(SLOT_MS));
            rhythm.arrivals[slot] += f64::from(count) / f64::from(times_seen[slot].max(1));
        }
        Some(rhythm)
    }

    fn note_pause(&mut self, from: i64, to: i64) {
        if to <= from {
            return;
        }
        let (first, last) = (from.div_euclid(SLOT_MS), (to - 1).div_euclid(SLOT_MS));
        for half_hour in first..=last.min(first + SLOTS as i64) {
            let longest = &mut self.longest_ms[slot(half_hour)];
            *longest = (*longest).max(to - from);
        }
    }

    /// The longest silence that touched about this time of the week, in milliseconds.
    pub fn usual_silence_ms(&self, now: Timestamp) -> i64 {
        let present = now.unix_ms().div_euclid(SLOT_MS);
        let nearby = present - NEARBY_SLOTS..=present + NEARBY_SLOTS;
        nearby.map(|half_hour| self.longest_ms[slot(half_hour)]).max().unwrap_or(0)
    }

    /// How many reports usually come in the times of the week between these two.
    pub fn usual_arrivals(&self, from: Timestamp, to: Timestamp) -> f64 {
        let (mut from, to) = (from.unix_ms(), to.unix_ms());
        let mut sum = 0.0;
        if to - from > WEEK_MS {
            let weeks = (to - from).div_euclid(WEEK_MS);
            sum += weeks as f64 * self.arrivals.iter().sum::<f64>();
            from += weeks * WEEK_MS;
        }
        while from < to {
            let half_hour = from.div_euclid(SLOT_MS);
            let end = ((half_hour + 1) * SLOT_MS).min(to);
            sum += self.arrivals[slot(half_hour)] * (end - from) as f64 / SLOT_MS as f64;
            from = end;
        }
        sum
    }

    /// Whether a silence that began then is too long by now.
    pub fn is_too_long(&self, since: Timestamp, now: Timestamp) -> bool {
        let silence_ms = now.unix_ms() - since.unix_ms();
        silence_ms >= SILENCE_MS_MIN
            && silence_ms > PAUSE_FACTOR * self.usual_silence_ms(now)
            && self.usual_arrivals(since, now) >= MISSED_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A Monday, 0:00.
    const MONDAY: i64 = 1_794_787_200_000;
    const HOUR_MS: i64 = 60 * MINUTE_MS;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    /// Arrivals of `days` from the Monday on, minute by minute, at random: `per_hour` says how many an hour at a day of the
    /// week (0 is Monday) and an hour of the day.
    fn arrivals(days: i64, mut seed: u64, per_hour: impl Fn(i64, f64) -> f64) -> Vec<i64> {
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut found = Vec::new();
        for minute in 0..days * 24 * 60 {
            let (day, hour) = (minute / 1440, (minute % 1440) as f64 / 60.0);
            let limit = (-per_hour(day, hour) / 60.0).exp();
            let mut product = random();
            while product > limit {
                found.push(MONDAY + minute * MINUTE_MS + (random() * 59_000.0) as i64);
                product *= random();
            }
        }
        found.sort_unstable();
        found
    }

    fn is_weekend(day: i64) -> bool {
        day % 7 >= 5
    }

    fn office(per_hour: f64) -> impl Fn(i64, f64) -> f64 {
        move |day, hour| if is_weekend(day) || !(8.0..17.0).contains(&hour) { 0.0 } else { per_hour }
    }

    /// When alarms are raised over `[from, to)` looked at every five minutes, learning anew every hour from what came
    /// before; each ends with the next arrival.
    fn alarms(arrivals: &[i64], from: i64, to: i64) -> Vec<i64> {
        let mut found = Vec::new();
        let mut spans: Vec<(Timestamp, u64)> = Vec::new();
        for arrival in arrivals {
            let span = at(arrival - arrival.rem_euclid(SPAN_MS));
            match spans.last_mut() {
                Some((last, count)) if *last == span => *count += 1,
                _ => spans.push((span, 1)),
            }
        }
        let mut learned: Option<(i64, Option<Rhythm>)> = None;
        let mut learned_from = 0;
        let mut raised_for = None;
        let mut now = from;
        while now < to {
            let known = &arrivals[..arrivals.partition_point(|arrival| *arrival <= now)];
            let Some(last) = known.last().copied() else {
                now += 5 * MINUTE_MS;
                continue;
            };
            if learned_from != last && learned.as_ref().is_none_or(|(when, _)| now - when >= HOUR_MS) {
                let known = &spans[..spans.partition_point(|(span, _)| span.unix_ms() <= last)];
                learned = Some((now, Rhythm::learn(known, at(MONDAY - DAY_MS), at(last))));
                learned_from = last;
            }
            if let Some((_, Some(rhythm))) = &learned
                && raised_for != Some(last)
                && rhythm.is_too_long(at(last), at(now))
            {
                raised_for = Some(last);
                found.push(now);
            }
            now += 5 * MINUTE_MS;
        }
        found
    }

    /// Four weeks to learn from, four to be quiet in, then a stop: the alarm must come within `hours`, and once.
    fn check(what: &str, stop: i64, within: std::ops::Range<f64>, per_hour: impl Fn(i64, f64) -> f64) {
        for seed in [1, 77, 4_711] {
            let all = arrivals(56, seed, &per_hour);
            let quiet = alarms(&all, MONDAY + 28 * DAY_MS, MONDAY + 56 * DAY_MS);
            assert_eq!(quiet, Vec::<i64>::new(), "{what}: alarms on healthy days");
            let stopped = &all[..all.partition_point(|arrival| *arrival < stop)];
            let found = alarms(stopped, stop, stop + 42 * DAY_MS);
            assert_eq!(found.len(), 1, "{what}: one alarm for one silence");
            let hours = (found[0] - stop) as f64 / HOUR_MS as f64;
            assert!(within.contains(&hours), "{what}: {hours} hours after the stop");
        }
    }

    #[test]
    fn a_steady_busy_mailbox_is_missed_after_half_an_hour() {
        let stop = MONDAY + 50 * DAY_MS + 3 * HOUR_MS;
        check("120 an hour", stop, 0.4..0.7, |_, _| 120.0);
        // Pauses are told apart to ten minutes.
        check("30 an hour", stop, 0.4..1.6, |_, _| 30.0);
    }

    #[test]
    fn an_office_is_missed_on_monday_morning_and_not_before() {
        // Nothing comes any more from Friday evening on: 62 hours are Monday 9:30.
        let stop = MONDAY + 46 * DAY_MS + 19 * HOUR_MS + 30 * MINUTE_MS;
        check("office of 25 an hour", stop, 61.9..63.1, office(25.0));
        // During the day: Wednesday 13:00.
        check("office by day", MONDAY + 44 * DAY_MS + 13 * HOUR_MS, 0.4..3.0, office(25.0));
        // Four an hour: eight are missing two hours after the beginning, and pauses are long.
        check("small office", stop, 61.9..70.0, office(4.0));
    }

    #[test]
    fn a_mailbox_with_a_few_reports_a_week_is_missed_after_some_weeks() {
        let stop = MONDAY + 48 * DAY_MS;
        check("three a week", stop, 10.0 * 24.0..35.0 * 24.0, |_, _| 3.0 / 168.0);
    }

    #[test]
    fn a_batch_on_every_hour_is_a_rhythm_too() {
        let batch = |_: i64, hour: f64| if hour.fract() < 0.05 { 2_000.0 } else { 0.0 };
        check("batch", MONDAY + 50 * DAY_MS + 9 * HOUR_MS + 30 * MINUTE_MS, 2.0..4.5, batch);
    }

    #[test]
    fn summer_and_winter_time_make_no_alarm() {
        for shift in [-1.0, 1.0] {
            let shifted = |day: i64, hour: f64| office(25.0)(day, if day < 42 { hour } else { hour + shift });
            let all = arrivals(56, 5, shifted);
            let found = alarms(&all, MONDAY + 28 * DAY_MS, MONDAY + 56 * DAY_MS);
            assert_eq!(found, Vec::<i64>::new(), "shift of {shift}");
        }
    }

    #[test]
    fn a_holiday_makes_one_alarm_and_the_weeks_after_it_none() {
        let holiday = 35;
        let all = arrivals(63, 9, |day, hour| if day == holiday { 0.0 } else { office(25.0)(day, hour) });
        let found = alarms(&all, MONDAY + 28 * DAY_MS, MONDAY + 63 * DAY_MS);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0] - MONDAY) / DAY_MS, holiday);
    }

    #[test]
    fn a_new_mailbox_is_left_alone_for_a_week() {
        let all = arrivals(7, 3, |_, _| 60.0);
        for days in [1, 3, 6] {
            let known = &all[..all.partition_point(|arrival| *arrival < MONDAY + days * DAY_MS)];
            assert_eq!(
                alarms(known, MONDAY, MONDAY + 60 * DAY_MS),
                Vec::<i64>::new(),
                "silent after {days} days"
            );
        }
        assert_eq!(Rhythm::learn(&[], at(MONDAY), at(MONDAY)), None);
    }

    #[test]
    fn what_usually_comes_adds_up_over_weeks() {
        let hourly: Vec<(Timestamp, u64)> = (0..28 * 24).map(|h| (at(MONDAY + h * HOUR_MS), 1)).collect();
        let rhythm = Rhythm::learn(&hourly, at(0), at(MONDAY + 28 * DAY_MS - HOUR_MS)).unwrap();
        for (hours, expect) in [(1, 1.0), (24, 24.0), (24 * 7 * 3 + 5, 509.0)] {
            let found = rhythm.usual_arrivals(at(MONDAY), at(MONDAY + hours * HOUR_MS));
            assert!((found - expect).abs() < 0.01 * expect, "{hours} hours: {found}");
        }
    }

    proptest! {
        #[test]
        fn what_happened_may_happen_again(
            minutes in proptest::collection::btree_set(0_i64..28 * 1440, 1..300),
            offset in 0_i64..MINUTE_MS,
        ) {
            let times: Vec<i64> = minutes.iter().map(|minute| MONDAY + minute * MINUTE_MS + offset).collect();
            let spans: Vec<(Timestamp, u64)> = times.iter().map(|time| (at(*time), 1)).collect();
            let last = times[times.len() - 1];
            if let Some(rhythm) = Rhythm::learn(&spans, at(MONDAY - DAY_MS), at(last)) {
                for pair in times.windows(2) {
                    let mut now = pair[0];
                    while now <= pair[1] {
                        prop_assert!(!rhythm.is_too_long(at(pair[0]), at(now)));
                        prop_assert!(!rhythm.is_too_long(at(pair[0] + 4 * WEEK_MS), at(now + 4 * WEEK_MS)));
                        now += 7 * MINUTE_MS;
                    }
                }
            }
        }
    }
}
