//! Reads a TOML table key by key, keeping the line of each, and collects every fault on the way.
//!
//! A key becomes known by being asked for. So the list of known keys cannot drift from the code that uses them,
//! and [`Section::finish`] reports all the others.

use super::error::{ConfigError, ConfigErrors, ERRORS_LISTED_MAX};
use super::nearest::nearest;
use crate::mail::Untrusted;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// A value and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    /// What was read.
    pub(crate) value: T,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// A name and its value.
pub(crate) type StringPair = (At<String>, At<String>);

/// The faults found so far, and what turns offsets into lines.
pub(crate) struct Problems {
    line_ends: Vec<usize>,
    errors: Vec<ConfigError>,
    unlisted: usize,
}

impl Problems {
    fn new(text: &str) -> Problems {
        let line_ends = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
        Problems { line_ends, errors: Vec::new(), unlisted: 0 }
    }

    /// For a file that is not read as a whole: whoever reads it knows the lines.
    pub(crate) fn of_lines() -> Problems {
        Problems::new("")
    }

    /// True when nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// What is wrong with the file, if anything is.
    pub(crate) fn into_errors(self, file: &Path) -> Option<ConfigErrors> {
        let any = !self.errors.is_empty();
        any.then(|| ConfigErrors::new(file, self.errors, self.unlisted))
    }

    /// Records a fault.
    pub(crate) fn add(&mut self, line: impl Into<Option<usize>>, message: String) {
        if self.errors.len() < ERRORS_LISTED_MAX {
            self.errors.push(ConfigError { line: line.into(), message });
        } else {
            self.unlisted += 1;
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.line_ends.partition_point(|end| *end < span.start) + 1
    }
}

/// Parses `text` and lets `read` take what it needs from the top-level table.
///
/// # Errors
/// Every fault of the file: those of its syntax, or else those that `read` and [`Section::finish`] found.
pub(crate) fn parse_document<T>(
    text: &str,
    file: &Path,
    read: impl FnOnce(&mut Section<'_, '_>, &mut Problems) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let mut problems = Problems::new(text);
    let (table, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let line = fault.span().map(|span| problems.line(&span));
        let mut message = fault.message().lines().collect::<Vec<_>>().join("; ");
        // The parser does not say which key.
        if let Some(key) = fault.span().filter(|_| message == "duplicate key").and_then(|span| text.get(span))
        {
            message.push_str(&format!(" \"{}\"", Untrusted(key)));
        }
        problems.add(line, format!("not valid TOML: {message}"));
    }
    let mut read_value = None;
    // What a broken file seems to say is guesswork: its faults would hide the real one.
    if faults.is_empty() {
        let mut root =
            Section { table: table.get_ref(), name: None, line: None, known: Vec::new(), hints: Vec::new() };
        read_value = read(&mut root, &mut problems);
        root.finish(&mut problems);
    }
    match read_value {
        Some(value) if problems.errors.is_empty() => Ok(value),
        _ => Err(ConfigErrors::new(file, problems.errors, problems.unlisted)),
    }
}

/// A table being read.
pub(crate) struct Section<'t, 'i> {
    table: &'t DeTable<'i>,
    name: Option<&'static str>,
    line: Option<usize>,
    known: Vec<&'static str>,
    /// What to say of keys that are not known here, and why somebody may think so.
    hints: Vec<(&'static str, String)>,
}

impl<'t, 'i> Section<'t, 'i> {
    fn new(table: &'t DeTable<'i>, name: &'static str, line: usize) -> Section<'t, 'i> {
        Section { table, name: Some(name), line: Some(line), known: Vec::new(), hints: Vec::new() }
    }

    /// Calls the section so from now on, when something in it has told which kind it is of.
    pub(crate) fn rename(&mut self, name: &'static str) {
        self.name = Some(name);
    }

    /// Says this of `key`, if it is there and nobody asks for it.
    pub(crate) fn hint(&mut self, key: &'static str, why: String) {
        self.hints.push((key, why));
    }

    /// Where the section starts; `None` for the file itself.
    pub(crate) fn line(&self) -> Option<usize> {
        self.line
    }

    /// True when the key is there, of whatever type.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// ` in [smtp]`, or nothing at the top level.
    fn place(&self) -> String {
        self.name.map(|name| format!(" in {name}")).unwrap_or_default()
    }

    /// The value of `key` in its own form, and its line.
    fn value(&mut self, key: &'static str, problems: &Problems) -> Option<At<&'t DeValue<'i>>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some(At { line: problems.line(&value.span()), value: value.get_ref() })
    }

    fn wrong_type(&self, key: &str, found: &At<&DeValue<'_>>, wanted: &str, problems: &mut Problems) {
        let message = format!("\"{key}\"{} must be {wanted}, not {}", self.place(), type_name(found.value));
        problems.add(found.line, message);
    }

    /// Reports that `key` has a value of the right type that will not do.
    pub(crate) fn bad_value(&self, key: &str, line: usize, why: &str, problems: &mut Problems) {
        problems.add(line, format!("\"{key}\"{}: {why}", self.place()));
    }

    /// Reports that `key` must be given and is not.
    pub(crate) fn missing(&self, key: &str, what: &str, problems: &mut Problems) {
        problems.add(self.line, format!("\"{key}\"{} is missing: {what}", self.place()));
    }

    /// A string, if the key is there.
    pub(crate) fn string(&mut self, key: &'static str, problems: &mut Problems) -> Option<At<String>> {
        let found = self.value(key, problems)?;
        match found.value.as_str() {
            Some(text) => Some(At { value: text.to_owned(), line: found.line }),
            None => {
                self.wrong_type(key, &found, "a string", problems);
                None
            }
        }
    }

    /// A day, as a string or as TOML writes dates, if the key is there.
    pub(crate) fn day(&mut self, key: &'static str, problems: &mut Problems) -> Option<At<String>> {
        let found = self.value(key, problems)?;
        let text = match found.value {
            DeValue::Datetime(date) => Some(date.to_string()),
            other => other.as_str().map(str::to_owned),
        };
        if text.is_none() {
            self.wrong_type(key, &found, "a day", problems);
        }
        Some(At { value: text?, line: found.line })
    }

    /// A string that must be there.
    pub(crate) fn required(
        &mut self,
        key: &'static str,
        what: &str,
        problems: &mut Problems,
    ) -> Option<At<String>> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            self.missing(key, what, problems);
            return None;
        }
        self.string(key, problems)
    }

    /// An array of strings, each with its own line, if the key is there.
    pub(crate) fn strings(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<Vec<At<String>>>> {
        let found = self.value(key, problems)?;
        let Some(array) = found.value.as_array() else {
            self.wrong_type(key, &found, "an array of strings", problems);
            return None;
        };
        let mut texts = Vec::with_capacity(array.len());
        for item in array.iter() {
            let item = At { line: problems.line(&item.span()), value: item.get_ref() };
            match item.value.as_str() {
                Some(text) => texts.push(At { value: text.to_owned(), line: item.line }),
                None => self.wrong_type(key, &item, "an array of strings", problems),
            }
        }
        Some(At { value: texts, line: found.line })
    }

    /// A table of strings, each name and value with its own line, if the key is there.
    pub(crate) fn string_pairs(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<Vec<StringPair>>> {
        let found = self.value(key, problems)?;
        let Some(table) = found.value.as_table() else {
            self.wrong_type(key, &found, "a table of strings", problems);
            return None;
        };
        let mut pairs = Vec::with_capacity(table.len());
        for (name, item) in table.iter() {
            let name = At { line: problems.line(&name.span()), value: name.get_ref().to_string() };
            let item = At { line: problems.line(&item.span()), value: item.get_ref() };
            match item.value.as_str() {
                Some(text) => pairs.push((name, At { value: text.to_owned(), line: item.line })),
                None => self.wrong_type(key, &item, "a table of strings", problems),
            }
        }
        Some(At { value: pairs, line: found.line })
    }

    /// `true` or `false`, if the key is there.
    pub(crate) fn boolean(&mut self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        let found = self.value(key, problems)?;
        let value = found.value.as_bool();
        if value.is_none() {
            self.wrong_type(key, &found, "true or false", problems);
        }
        value
    }

    /// A whole number between two bounds, if the key is there.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<u64>,
        unit: &str,
        problems: &mut Problems,
    ) -> Option<u64> {
        let found = self.value(key, problems)?;
        let Some(integer) = found.value.as_integer() else {
            self.wrong_type(key, &found, "a whole number", problems);
            return None;
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match value.and_then(|value| u64::try_from(value).ok()).filter(|value| bounds.contains(value)) {
            Some(value) => Some(value),
            None => {
                let why = format!("must be between {} and {} {unit}", bounds.start(), bounds.end());
                self.bad_value(key, found.line, &why, problems);
                None
            }
        }
    }

    /// As [`Section::number`], or 0.
    pub(crate) fn number_or_zero(
        &mut self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<u64>,
        unit: &str,
        problems: &mut Problems,
    ) -> Option<u64> {
        let is_zero = self.table.get(key).is_some_and(|value| {
            value.get_ref().as_integer().is_some_and(|integer| integer.as_str().bytes().all(|b| b == b'0'))
        });
        if is_zero {
            self.known.push(key);
            return Some(0);
        }
        self.number(key, bounds, &format!("{unit}, or 0"), problems)
    }

    /// The table `[key]`, if it is there.
    pub(crate) fn section(
        &mut self,
        key: &'static str,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<Section<'t, 'i>> {
        let found = self.value(key, problems)?;
        match found.value.as_table() {
            Some(table) => Some(Section::new(table, name, found.line)),
            None => {
                self.wrong_type(key, &found, &format!("a section, {name}"), problems);
                None
            }
        }
    }

    /// The tables `[[key]]`, in order.
    pub(crate) fn sections(
        &mut self,
        key: &'static str,
        name: &'static str,
        problems: &mut Problems,
    ) -> Vec<Section<'t, 'i>> {
        let Some(found) = self.value(key, problems) else { return Vec::new() };
        let Some(array) = found.value.as_array() else {
            self.wrong_type(key, &found, &format!("written {name}, once for each"), problems);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for item in array.iter() {
            let item = At { line: problems.line(&item.span()), value: item.get_ref() };
            match item.value.as_table() {
                Some(table) => sections.push(Section::new(table, name, item.line)),
                None => self.wrong_type(key, &item, &format!("written {name}, once for each"), problems),
            }
        }
        sections
    }

    /// Reports every key that was never asked for.
    pub(crate) fn finish(&self, problems: &mut Problems) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let given = self.hints.iter().find(|(key, _)| *key == name);
            let hint = match (given, nearest(name, &self.known)) {
                (Some((_, why)), _) => format!("; {why}"),
                (None, Some(known)) => format!("; did you mean \"{known}\"?"),
                (None, None) => format!("; known here: {}", self.known.join(", ")),
            };
            let line = problems.line(&key.span());
            problems.add(line, format!("unknown key \"{}\"{}{hint}", Untrusted(name), self.place()));
        }
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a section",
    }
}
