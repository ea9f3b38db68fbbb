//! Where `tracing` brings every event: who wants it is asked first, then it becomes a [`Line`] for the log and the tap.
//!
//! Most events nobody wants are debug events; they must cost nothing. So `tracing` asks once for each place in the code
//! ([`Sink::register_callsite`]) and remembers the answer. Whoever changes a level makes it ask again:
//! `tracing::callsite::rebuild_interest_cache`.
//!
//! Spans are not recorded: everything an event needs stands in its own fields.

use super::level::SharedLevel;
use super::line::Line;
use super::tap::Tap;
use super::text::{self, Look};
use super::{Format, Level, now};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// Takes a line with its line end to where the log goes. Never waits.
pub(super) type Put = Box<dyn Fn(Vec<u8>) + Send + Sync>;

/// An event as the log has it, with its line end. `json` is the same as JSON, where that is known already.
pub(super) fn written(line: &Line, json: Option<&str>, format: Format, colour: bool) -> Vec<u8> {
    let mut out = match (format, json) {
        (Format::Json, Some(json)) => json.to_owned(),
        (Format::Json, None) => line.to_json(),
        (Format::Text, _) => text::write(line, &Look::log(colour)),
    };
    out.push('\n');
    out.into_bytes()
}

/// Turns events into lines.
pub(super) struct Sink {
    pub(super) format: Format,
    /// Levels stand out; for terminals.
    pub(super) colour: bool,
    /// The least severe events for the log.
    pub(super) level: Arc<SharedLevel>,
    pub(super) put: Put,
    /// Those who tail.
    pub(super) tap: Option<Arc<Tap>>,
}

impl Sink {
    /// The log's wish and the tap's.
    fn wanted(&self, metadata: &Metadata<'_>) -> (bool, bool) {
        let level = Level::from(*metadata.level());
        let reaches = |limit: Level| level <= if is_ours(metadata) { limit } else { limit.min(Level::Warn) };
        (reaches(self.level.get()), self.tap.as_ref().is_some_and(|tap| reaches(tap.level())))
    }

    fn is_wanted(&self, metadata: &Metadata<'_>) -> bool {
        let (log, tap) = self.wanted(metadata);
        metadata.is_event() && (log || tap)
    }
}

/// Other crates are heard when something is wrong, whatever the level.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let rest = metadata.target().strip_prefix(env!("CARGO_CRATE_NAME"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl Subscriber for Sink {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.is_wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let log = self.level.get();
        Some(self.tap.as_ref().map_or(log, |tap| tap.level().max(log)).into())
    }

    fn event(&self, event: &Event<'_>) {
        // Asked again: what is remembered of this place in the code may be older than the last change of a level.
        let (log, tap) = self.wanted(event.metadata());
        if !log && !tap {
            return;
        }
        let mut fields = Fields(Vec::with_capacity(16));
        event.record(&mut fields);
        let line = Line { at: now(), level: Level::from(*event.metadata().level()), fields: fields.0 };
        let json = (tap || self.format == Format::Json).then(|| line.to_json());
        if log {
            (self.put)(written(&line, json.as_deref(), self.format, self.colour));
        }
        if let (true, Some(tap), Some(json)) = (tap, &self.tap, json) {
            tap.put(line, json);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of one event.
struct Fields(Vec<(Cow<'static, str>, Value)>);

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.push((Cow::Borrowed(field.name()), value.into()));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Seconds, mostly: microseconds are as fine as they get.
        self.add(field, (value * 1_000_000.0).round() / 1_000_000.0);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}
