//! Moments as other programs write them for people: in the order of some country, with names or numbers, with or without a zone.
//!
//! Journal reports write `SentUtc` and `ReceivedUtc` so, in whatever form the server's settings have (MS-XJRNL 2.1.9 leaves it
//! free): `11/3/2026 8:00:00 AM`, `03.11.2026 08:00:05`, `2026-11-03T08:00:05Z`, `Tue, 3 Nov 2026 08:00:05 GMT`.

use super::Timestamp;
use time::{Date, Month, PrimitiveDateTime, Time};

/// Longest text looked at, in octets. The longest form is `Wednesday, September 30, 2026 12:00:00 AM` and a zone.
const TEXT_OCTETS_MAX: usize = 80;
/// Most digits of a number: fractions of a second have up to nine.
const DIGITS_MAX: usize = 9;
/// Most hours a zone is away from UTC.
const ZONE_HOURS_MAX: i64 = 14;
const MINUTE_MS: i64 = 60_000;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// Shortest form of a name: `Nov`, `Tue`.
const NAME_CHARACTERS_MIN: usize = 3;

/// What a text may mean, the likelier first; neither when it is no moment. Without a zone it is UTC. `3/4/2026` has two meanings:
/// the third of April and the fourth of March. English names only.
pub fn written_times(text: &str) -> [Option<Timestamp>; 2] {
    match Parts::read(text) {
        Some(parts) => parts.moments(),
        None => [None, None],
    }
}

/// Digits, and what stood before them.
#[derive(Clone, Copy, Debug)]
struct Number {
    value: u32,
    digits: usize,
    /// The last character that is no blank between this and what came before.
    after: char,
}

/// A moment as it stands there.
#[derive(Debug, Default)]
struct Parts {
    /// Two where the month is a name, else three.
    date: Vec<Number>,
    month: Option<u8>,
    /// Hour, minute, second, fraction.
    time: Vec<Number>,
    afternoon: Option<bool>,
    /// Hours, or hours and minutes, and whether they are before UTC.
    zone: Option<(bool, Vec<Number>)>,
}

impl Parts {
    fn read(text: &str) -> Option<Parts> {
        if text.len() > TEXT_OCTETS_MAX {
            return None;
        }
        let mut parts = Parts::default();
        let mut after = ' ';
        let mut rest = text.trim();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '0'..='9' => rest.find(|c: char| !c.is_ascii_digit()),
                _ if first.is_alphabetic() => rest.find(|c: char| !c.is_alphabetic()),
                _ => Some(first.len_utf8()),
            };
            let (token, others) = rest.split_at_checked(length.unwrap_or(rest.len()))?;
            rest = others;
            if first.is_ascii_digit() {
                parts.number(token, after)?;
                after = ' ';
            } else if first.is_alphabetic() {
                parts.word(&token.to_ascii_lowercase())?;
                after = ' ';
            } else if !first.is_whitespace() {
                after = first;
            }
        }
        Some(parts)
    }

    fn number(&mut self, token: &str, after: char) -> Option<()> {
        let digits = token.len();
        let value = token.parse().ok().filter(|_| digits <= DIGITS_MAX)?;
        let number = Number { value, digits, after };
        if self.date.len() < self.date_numbers() {
            self.date.push(number);
        } else if let Some((_, zone)) = &mut self.zone {
            zone.push(number);
        } else if self.time.len() >= 2 && matches!(after, '+' | '-') {
            self.zone = Some((after == '-', vec![number]));
        } else {
            self.time.push(number);
        }
        Some(())
    }

    /// How many numbers a date has.
    fn date_numbers(&self) -> usize {
        if self.month.is_some() { 2 } else { 3 }
    }

    /// `None` for one that no moment holds.
    fn word(&mut self, word: &str) -> Option<()> {
        let named = |names: &[&str]| {
            let place = names.iter().position(|name| name.starts_with(word));
            place.filter(|_| word.len() >= NAME_CHARACTERS_MIN)
        };
        if let Some(month) = named(&MONTHS).filter(|_| self.time.is_empty()) {
            self.month = Some(u8::try_from(month).ok()? + 1);
            return Some(());
        }
        match word {
            // `a.m.` is two words.
            "am" | "a" => self.afternoon = Some(false),
            "pm" | "p" => self.afternoon = Some(true),
            "m" if self.afternoon.is_some() => {}
            "t" | "z" | "utc" | "gmt" | "ut" => {}
            "sept" => self.month = Some(9),
            _ => return named(&WEEKDAYS).map(|_| ()),
        }
        Some(())
    }

    fn moments(&self) -> [Option<Timestamp>; 2] {
        let Some((time, fraction_ms)) = self.time_of_day() else { return [None, None] };
        let moment = |date: Date| {
            let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
            let ms = seconds.checked_mul(1_000)?.checked_add(fraction_ms)?.checked_sub(self.zone_ms()?)?;
            (ms >= 0).then(|| Timestamp::from_unix_ms(ms))
        };
        self.dates().map(|date| date.and_then(moment))
    }

    fn dates(&self) -> [Option<Date>; 2] {
        match (self.month, self.date.as_slice()) {
            (Some(month), [one, two]) if one.digits == 4 => [date(*one, u32::from(month), *two), None],
            (Some(month), [one, two]) => [date(*two, u32::from(month), *one), None],
            (None, [year, month, day]) if year.digits == 4 => [date(*year, month.value, *day), None],
            (None, [one, two, year]) => {
                let month_first = date(*year, one.value, *two);
                let day_first = date(*year, two.value, *one);
                match two.after {
                    // Exchange's own way of writing, whatever the country it stands in.
                    '/' => [month_first, day_first],
                    '-' => [day_first, month_first],
                    _ => [day_first, None],
                }
            }
            _ => [None, None],
        }
    }

    fn time_of_day(&self) -> Option<(Time, i64)> {
        let value = |index: usize| self.time.get(index).map(|number| number.value);
        if self.time.len() > 4 {
            return None;
        }
        let (hour, minute) = (value(0)?, value(1)?);
        let hour = match self.afternoon {
            None => hour,
            Some(_) if !(1..=12).contains(&hour) => return None,
            Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        };
        let small = |value: u32| u8::try_from(value).ok();
        let time = Time::from_hms(small(hour)?, small(minute)?, small(value(2).unwrap_or(0))?).ok()?;
        let fraction = self.time.get(3).map_or(Some(0), |number| {
            let digits = u32::try_from(number.digits).ok()?;
            Some(i64::from(number.value).checked_mul(1_000)? / 10_i64.checked_pow(digits)?)
        });
        Some((time, fraction?))
    }

    /// What the zone is ahead of UTC: `+01:00`, `+0100`, `+1`.
    fn zone_ms(&self) -> Option<i64> {
        let Some((behind, numbers)) = &self.zone else { return Some(0) };
        let (hours, minutes) = match numbers.as_slice() {
            [both] if both.digits == 4 => (both.value / 100, both.value % 100),
            [hours] => (hours.value, 0),
            [hours, minutes] => (hours.value, minutes.value),
            _ => return None,
        };
        let minutes = Some(minutes).filter(|minutes| *minutes < 60)?;
        let hours = Some(i64::from(hours)).filter(|hours| *hours <= ZONE_HOURS_MAX)?;
        let ahead = (hours * 60 + i64::from(minutes)) * MINUTE_MS;
        Some(if *behind { -ahead } else { ahead })
    }
}

fn date(year: Number, month: u32, day: Number) -> Option<Date> {
    let year_value = i32::try_from(year.value).ok()?;
    let year = match year.digits {
        2 => 2_000 + year_value,
        4 => year_value,
        _ => return None,
    };
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    Date::from_calendar_date(year, month, u8::try_from(day.value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: &[&str]) {
        let read: Vec<String> = written_times(text).iter().flatten().map(ToString::to_string).collect();
        let expect: Vec<String> =
            expect.iter().map(|text| Timestamp::parse(text).unwrap().to_string()).collect();
        assert_eq!(read, expect, "{text:?}");
    }

    #[test]
    fn reads_the_forms_that_servers_write() {
        check("11/23/2026 8:00:05 AM", &["2026-11-23T08:00:05Z"]);
        check("11/23/2026 8:00:05\u{202f}PM", &["2026-11-23T20:00:05Z"]);
        check("11/23/2026 12:30:00 AM", &["2026-11-23T00:30:00Z"]);
        check("11/23/2026 12:30 p.m.", &["2026-11-23T12:30:00Z"]);
        check("11/23/2026 08:00:05", &["2026-11-23T08:00:05Z"]);
        check("23/11/2026 08:00:05", &["2026-11-23T08:00:05Z"]);
        check("11/3/2026 8:00:00 AM", &["2026-11-03T08:00:00Z", "2026-03-11T08:00:00Z"]);
        check("03.11.2026 08:00:05", &["2026-11-03T08:00:05Z"]);
        check("3.11.2026 8.00.05", &["2026-11-03T08:00:05Z"]);
        check("03.11.26 08:00", &["2026-11-03T08:00:00Z"]);
        check("03-11-2026 08:00:05", &["2026-11-03T08:00:05Z", "2026-03-11T08:00:05Z"]);
        check("2026/11/03 8:00:05", &["2026-11-03T08:00:05Z"]);
        check("2026. 11. 03. 8:00:05", &["2026-11-03T08:00:05Z"]);
        check("2026-11-03 08:00:05Z", &["2026-11-03T08:00:05Z"]);
        check("2026-11-03T08:00:05.1234567Z", &["2026-11-03T08:00:05.123Z"]);
        check("2026-11-03T09:30:05+01:30", &["2026-11-03T08:00:05Z"]);
        check("Tue, 3 Nov 2026 08:00:05 GMT", &["2026-11-03T08:00:05Z"]);
        check("Tue, 03 Nov 2026 02:00:05 -0600", &["2026-11-03T08:00:05Z"]);
        check("Tue, 03 Nov 2026 08:00:05 +0000 (UTC)", &["2026-11-03T08:00:05Z"]);
        check("Tuesday, November 3, 2026 8:00:05 AM", &["2026-11-03T08:00:05Z"]);
        check("Wednesday, September 30, 2026 12:00:00 AM", &["2026-09-30T00:00:00Z"]);
        check("30 Sept 2026 12:00 UTC", &["2026-09-30T12:00:00Z"]);
        check("  11/23/2026   8:00:05 AM\t", &["2026-11-23T08:00:05Z"]);
    }

    #[test]
    fn what_is_no_moment_or_lacks_its_time_is_none() {
        for text in [
            "",
            "yesterday",
            "11/23/2026",
            "8:00:05 AM",
            "13/23/2026 8:00:05 AM",
            "11/23/2026 25:00:00",
            "11/23/2026 13:00:00 PM",
            "11/23/2026 0:00:00 AM",
            "2/30/2026 8:00:00 AM",
            "3. novembre 2026 08:00",
            "11/23/2026 8:00:05 PST",
            "2026-11-03T08:00:05+99:00",
            "2026-11-03 08:00:05 1 2 3",
            "99999999999/1/2026 8:00",
            "11/23/026 8:00",
            "01/01/1969 08:00:00",
            "١١/٢٣/٢٠٢٦ ٨:٠٠",
        ] {
            check(text, &[]);
        }
        check(&"1".repeat(TEXT_OCTETS_MAX + 1), &[]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_moment_or_none(text in "\\PC{0,90}") {
            let _ = written_times(&text);
        }

        #[test]
        fn what_looks_like_one_is_read_or_refused(text in "[0-9AaPpMmTZ:/., +-]{0,40}") {
            let _ = written_times(&text);
        }

        #[test]
        fn every_moment_is_read_back_from_each_form(seconds in 0..4_102_444_800_i64) {
            let at = Timestamp::from_unix_ms(seconds * 1_000);
            let text = at.to_string();
            let number = |range: std::ops::Range<usize>| text.get(range).unwrap().parse::<u32>().unwrap();
            let (year, month, day) = (number(0..4), number(5..7), number(8..10));
            let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
            let half = if hour < 12 { "AM" } else { "PM" };
            let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
            let name = MONTHS[month as usize - 1];
            for written in [
                text.clone(),
                format!("{month}/{day}/{year} {twelve}:{minute:02}:{second:02} {half}"),
                format!("{month:02}/{day:02}/{year} {hour:02}:{minute:02}:{second:02}"),
                format!("{day:02}.{month:02}.{year} {hour:02}:{minute:02}:{second:02}"),
                format!("{day:02}-{month:02}-{year} {hour:02}:{minute:02}:{second:02}"),
                format!("{day} {} {year} {hour:02}:{minute:02}:{second:02} +0000", name.get(..3).unwrap()),
                format!("{name} {day}, {year} {twelve}:{minute:02}:{second:02} {half}"),
            ] {
                prop_assert_eq!(written_times(&written)[0], Some(at), "{}", written);
            }
        }
    }
}
