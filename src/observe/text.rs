//! Log lines for people: time, level, event, then `key=value`, with every value escaped.
//!
//! The formatter that comes with `tracing-subscriber` writes values as they are shown, line breaks included; text from
//! a peer could then end a line and begin one of its own. Here a value holding anything but plain characters is quoted,
//! its quotes and backslashes are escaped, and so is whatever [`Untrusted`] escapes.

use super::now;
use crate::mail::Untrusted;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Characters of one value that are shown. A list of what is wrong with a file may be long; nothing else is.
const VALUE_CHARACTERS_MAX: usize = 4_096;

/// The text form.
pub(super) struct Text {
    /// Level and event stand out; for terminals.
    pub(super) colour: bool,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", "\x1b[1;31m"),
            Level::WARN => ("WARN ", "\x1b[33m"),
            Level::INFO => ("INFO ", "\x1b[32m"),
            Level::DEBUG => ("DEBUG", "\x1b[34m"),
            Level::TRACE => ("TRACE", "\x1b[35m"),
        };
        let name = if fields.event.is_empty() { "-" } else { &fields.event };
        if self.colour {
            write!(writer, "\x1b[2m{}\x1b[0m {colour}{level}\x1b[0m \x1b[1m{name}\x1b[0m", now())?;
        } else {
            write!(writer, "{} {level} {name}", now())?;
        }
        writeln!(writer, "{}", fields.others)
    }
}

/// The fields of one event, as they will be shown.
#[derive(Default)]
struct Fields {
    event: String,
    others: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            self.event = escaped(value);
        } else {
            self.others.push(' ');
            self.others.push_str(field.name());
            self.others.push('=');
            self.others.push_str(&escaped(value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Seconds, mostly: microseconds are as fine as they get.
        let rounded = (value * 1_000_000.0).round() / 1_000_000.0;
        self.add(field, &rounded.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// `value`, quoted unless it is one plain word.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    let mut plain = !value.is_empty();
    for (count, c) in value.chars().enumerate() {
        if count == VALUE_CHARACTERS_MAX {
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a String cannot fail.
            _ => write!(out, "{}", Untrusted(c.encode_utf8(&mut [0; 4]))).unwrap_or_default(),
        }
        plain &= !(c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '='));
    }
    if plain { out } else { format!("\"{out}\"") }
}
