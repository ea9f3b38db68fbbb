//! A header block that is searched.

use super::text::{Needle, fold, fold_octets};
use super::words;
use crate::mail::header::{Field, fields};
use mail_parser::DateTime;
use std::cell::OnceCell;
use time::{Date, Month};

/// The day from which days are counted here, in those that `time` counts.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

/// The fields of a header block. What is compared is made when it is first asked for.
pub(super) struct Header<'a> {
    fields: Vec<(Field<'a>, OnceCell<Folded>)>,
    block: &'a [u8],
    folded_block: OnceCell<Vec<u8>>,
}

/// What a field says.
struct Folded {
    /// Its value unfolded, and decoded if there is anything to decode.
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
        fold(&words::decoded(&value), &mut decoded);
        Folded { written: (written != decoded).then_some(written), decoded }
    }

    fn contains(&self, needle: &Needle) -> bool {
        needle.is_in(&self.decoded) || self.written.as_deref().is_some_and(|written| needle.is_in(written))
    }
}

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a [u8]) -> Header<'a> {
        let fields = fields(block).map(|field| (field, OnceCell::new())).collect();
        Header { fields, block, folded_block: OnceCell::new() }
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
                // As written it was looked for already, but for a value that is folded.
                let mut line = Vec::with_capacity(field.name.len() + 2 + folded.decoded.len());
                fold_octets(field.name, &mut line);
                line.extend_from_slice(b": ");
                line.extend_from_slice(&folded.decoded);
                needle.is_in(&line)
            })
    }

    /// The day that the Date field says, since 1970, in its own zone.
    pub(super) fn day(&self) -> Option<i64> {
        let (field, _) = self.fields.iter().find(|(field, _)| field.is("Date"))?;
        let value = field.unfolded();
        let date = DateTime::parse_rfc822(std::str::from_utf8(&value).ok()?)?;
        let month = Month::try_from(date.month).ok()?;
        let date = Date::from_calendar_date(i32::from(date.year), month, date.day).ok()?;
        Some(i64::from(date.to_julian_day()) - EPOCH_JULIAN_DAY)
    }
}
