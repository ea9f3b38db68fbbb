//! A header block that is searched.

use super::text::{Needle, fold, fold_octets};
use super::words;
use crate::mail::header::{Field, fields, without_comments};
use std::cell::OnceCell;
use time::{Date, Month};

/// The day from which days are counted here, in those that `time` counts.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

/// The fields of a header block. What is compared is made when it is first asked for.
pub(super) struct Header<'a> {
    fields: Vec<(Field<'a>, OnceCell<Folded>)>,
    block: &'a [u8],
    folded_block: OnceCell<Vec<u8>>,
    day: OnceCell<Option<i64>>,
}

/// What a field says.
struct Folded {
    /// Its value, decoded if there is anything to decode, and a blank for each fold: as clients show it.
    decoded: Vec<u8>,
    /// Its value unfolded as it is written, where that differs.
    written: Option<Vec<u8>>,
}

impl Folded {
    fn new(field: &Field<'_>) -> Folded {
        let value = field.unfolded();
        let mut written = Vec::with_capacity(value.len());
        fold_octets(&value, &mut written);
        let mut decoded = Vec::with_capacity(value.len());
        fold(&words::decoded(&shown(field)), &mut decoded);
        Folded { written: (written != decoded).then_some(written), decoded }
    }

    fn contains(&self, needle: &Needle) -> bool {
        needle.is_in(&self.decoded) || self.written.as_deref().is_some_and(|written| needle.is_in(written))
    }
}

/// The lines of a value, with one blank between them.
fn shown(field: &Field<'_>) -> Vec<u8> {
    let mut shown = Vec::with_capacity(field.raw.len());
    for line in
        field.raw.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
    {
        if !shown.is_empty() {
            shown.push(b' ');
        }
        shown.extend_from_slice(line);
    }
    shown
}

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a [u8]) -> Header<'a> {
        let fields = fields(block).map(|field| (field, OnceCell::new())).collect();
        Header { fields, block, folded_block: OnceCell::new(), day: OnceCell::new() }
    }

    /// True when a field of this name has this in its value; a field without a value has the empty string in it.
    pub(super) fn has(&self, name: &[u8], needle: &Needle) -> bool {
        self.fields
            .iter()
            .filter(|(field, _)| field.name.eq_ignore_ascii_case(name))
            .any(|(field, folded)| folded.get_or_init(|| Folded::new(field)).contains(needle))
    }

    /// True when this is anywhere in the block, as written, or in a field's name and decoded value.
    pub(super) fn contains(&self, needle: &Needle) -> bool {
        let block = self.folded_block.get_or_init(|| {
            let mut folded = Vec::with_capacity(self.block.len());
            fold_octets(self.block, &mut folded);
            folded
        });
        needle.is_in(block)
            || self.fields.iter().any(|(field, folded)| {
                let folded = folded.get_or_init(|| Folded::new(field));
                let mut line = Vec::with_capacity(field.name.len() + 2 + folded.decoded.len());
                fold_octets(field.name, &mut line);
                line.extend_from_slice(b": ");
                line.extend_from_slice(&folded.decoded);
                needle.is_in(&line) || folded.contains(needle)
            })
    }

    /// The day that the Date field says, since 1970, in its own zone.
    pub(super) fn day(&self) -> Option<i64> {
        *self.day.get_or_init(|| self.read_day())
    }

    fn read_day(&self) -> Option<i64> {
        let (field, _) = self.fields.iter().find(|(field, _)| field.is("Date"))?;
        let date = day_written(&field.unfolded())?;
        Some(i64::from(date.to_julian_day()) - EPOCH_JULIAN_DAY)
    }
}

/// The day of a date (RFC 5322 §3.3, and §4.3 for years of two and three digits), whatever stands behind it.
fn day_written(value: &[u8]) -> Option<Date> {
    let value = without_comments(value);
    let text = String::from_utf8_lossy(&value);
    let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty()).peekable();
    // The day of the week.
    words.next_if(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()));
    let day = words.next()?.parse().ok()?;
    let month = words.next()?.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year = words.next()?;
    let digits = year.len();
    let year = i32::from(year.parse::<u16>().ok()?);
    let year = match digits {
        2 if year < 50 => year + 2000,
        2 | 3 => year + 1900,
        _ => year,
    };
    let month = Month::try_from(u8::try_from(month + 1).ok()?).ok()?;
    Date::from_calendar_date(year, month, day).ok()
}

/// As they are abbreviated; who writes them out is understood.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_was_written() {
        for (value, expect) in [
            ("Sun, 1 Nov 2026 23:30:00 -0800", Some("2026-11-01")),
            ("01 november 2026", Some("2026-11-01")),
            ("Sun(day),1 (th) NOV 26 23:59 EST", Some("2026-11-01")),
            ("1 Nov 99 23:59", Some("1999-11-01")),
            ("1 Nov 126", Some("2026-11-01")),
            ("29 Feb 2024 0:0", Some("2024-02-29")),
            ("31 Feb 2026 10:00:00 +0000", None),
            ("2026-11-01T10:00:00Z", None),
            ("yesterday", None),
            ("1 Nob 2026", None),
            ("1 N\u{f6}v 2026", None),
            ("1 Nov -2026", None),
            ("", None),
        ] {
            let found = day_written(value.as_bytes()).map(|date| date.to_string());
            assert_eq!(found.as_deref(), expect, "{value}");
        }
    }
}
