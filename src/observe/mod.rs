//! Logs: where events go, in what form, and that nothing in them can pass for something else.
//!
//! An event is a `tracing` call with a field `event = "area.verb"` and further keys, `receipt_id` or `session_id`
//! first: `tracing::info!(event = "journal.committed", %receipt_id, octets)`. [`init`] sends all of them to standard
//! error, one a line, in one of two forms:
//!
//! ```text
//! json  {"timestamp":"2026-11-21T09:30:00.123Z","level":"INFO","event":"listening","service":"smtp","addr":"[::]:25"}
//! text  2026-11-21T09:30:00.123Z INFO  listening service=smtp addr=[::]:25
//! ```
//!
//! Invariants:
//! - One event is one line. What a peer, a file or an admin wrote may stand in a value, so every value is escaped: by
//!   JSON, or by [`text`](self), which also quotes it. A forged line would be believed by whoever reads the log.
//! - A log that cannot be written, or whose reader has stopped, stops nothing: the event is lost and counted
//!   (`log.dropped`), the mail is not.
//! - A panic is an event too (`service.panicked`), with its place; its message only when it is a constant of the
//!   program, since a formatted one may quote what was being read.
//! - Other crates speak only when something is wrong: the level asked for is that of Daybook's own events.
//!
//! This room never sees message content, and decides about nothing.

pub mod alarm;
mod clock;
mod queue;
pub mod rhythm;
mod text;
mod visits;

pub use clock::now;
pub use queue::flush;
pub use visits::Visits;

use clock::UtcMilliseconds;
use std::fmt;
use std::io::IsTerminal;
use text::Text;
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Events have a destination already; it stays. Our fault: [`init`] was called twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyInitialised;

impl fmt::Display for AlreadyInitialised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("logging was set up before")
    }
}

impl std::error::Error for AlreadyInitialised {}

/// Sends events of `level` and more severe ones to standard error from now on, for the whole process.
///
/// # Errors
/// [`AlreadyInitialised`]; then nothing changes.
pub fn init(format: Format, level: LevelFilter) -> Result<(), AlreadyInitialised> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let queue = queue::to_standard_error();
    tracing::dispatcher::set_global_default(dispatch(format, level, colour, queue))
        .map_err(|_| AlreadyInitialised)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn dispatch<W>(format: Format, level: LevelFilter, colour: bool, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    // Trouble with writing must not be "reported" by a macro that panics when standard error is gone: the reader of
    // a pipe going away would take the gateway with it.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(writer);
    match format {
        Format::Json => {
            let layer = layer
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_target(false)
                .with_timer(UtcMilliseconds);
            Dispatch::new(tracing_subscriber::registry().with(layer.with_filter(targets)))
        }
        Format::Text => {
            let layer = layer.event_format(Text { colour });
            Dispatch::new(tracing_subscriber::registry().with(layer.with_filter(targets)))
        }
    }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(event = "service.panicked", place, message, thread);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(format: Format, level: LevelFilter, colour: bool, act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let dispatch = dispatch(format, level, colour, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, act);
        lines.text()
    }

    const HOSTILE: &str = "a\r\n2026-11-21T09:30:00.123Z ERROR forged=1 \u{1b}[2J\u{202e}\u{2028}\"x\"\\";

    #[test]
    fn json_is_one_flat_object_a_line_with_time_and_level() {
        let out = logged(Format::Json, LevelFilter::INFO, false, || {
            tracing::info!(event = "listening", service = "smtp", octets = 7_u64, ok = true, addr = %"[::]:25");
            tracing::warn!(event = "store.torn", what = HOSTILE, shown = %HOSTILE);
        });
        assert_eq!(out.matches('\n').count(), 2, "{out}");
        let lines: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["event"], "listening");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["octets"], 7);
        assert_eq!(lines[0]["addr"], "[::]:25");
        let time = lines[0]["timestamp"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        assert!(crate::mail::Timestamp::parse(time).is_some());
        assert_eq!(lines[0].as_object().unwrap().len(), 7, "{}", lines[0]);
        assert_eq!(lines[1]["what"], HOSTILE);
        assert_eq!(lines[1]["shown"], HOSTILE);
    }

    #[test]
    fn text_leads_with_time_level_and_event() {
        let out = logged(Format::Text, LevelFilter::INFO, false, || {
            tracing::info!(event = "listening", service = "smtp", octets = 7_u64, addr = %"[::]:25");
        });
        let (time, rest) = out.split_once(' ').unwrap();
        assert!(crate::mail::Timestamp::parse(time).is_some());
        assert_eq!(rest, "INFO  listening service=smtp octets=7 addr=[::]:25\n");
    }

    #[test]
    fn text_values_cannot_forge_a_line_or_reach_the_terminal() {
        for colour in [false, true] {
            let out = logged(Format::Text, LevelFilter::INFO, colour, || {
                tracing::info!(event = "a.b", plain = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, next = 1);
                tracing::info!(event = %HOSTILE, "{HOSTILE}");
            });
            assert_eq!(out.matches('\n').count(), 2, "{out}");
            assert!(!out.contains('\r') && !out.contains('\u{202e}') && !out.contains('\u{2028}'), "{out}");
            assert!(!out.contains("\u{1b}[2J"), "{out}");
            assert_eq!(out.contains('\u{1b}'), colour, "{out}");
        }
    }

    #[test]
    fn text_values_end_where_they_end() {
        let out = logged(Format::Text, LevelFilter::INFO, false, || {
            tracing::info!(event = "a.b", helo = "x\" receipt_id=forged", empty = "", path = r"C:\d");
        });
        assert!(out.ends_with("a.b helo=\"x\\\" receipt_id=forged\" empty=\"\" path=\"C:\\\\d\"\n"), "{out}");
    }

    #[test]
    fn the_level_holds_for_our_events_and_others_are_heard_from_warn_on() {
        let out = logged(Format::Text, LevelFilter::DEBUG, false, || {
            tracing::trace!(event = "ours.trace");
            tracing::debug!(event = "ours.debug");
            tracing::info!(target: "elsewhere", event = "other.info");
            tracing::warn!(target: "elsewhere", event = "other.warn");
        });
        let events: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
        assert_eq!(events, ["ours.debug", "other.warn"]);
        let out = logged(Format::Text, LevelFilter::ERROR, false, || {
            tracing::warn!(target: "elsewhere", event = "other.warn");
        });
        assert_eq!(out, "");
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nothing() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut went_on = false;
        let dispatch = dispatch(Format::Json, LevelFilter::INFO, false, || Broken);
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(event = "a.b");
            went_on = true;
        });
        assert!(went_on);
    }
}
