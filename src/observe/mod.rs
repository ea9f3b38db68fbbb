//! Logs: where events go, in what form, and that nothing in them can pass for something else. Numbers: [`metrics`].
//!
//! An event is a `tracing` call with a field `event = "area.verb"` and further keys, `receipt_id` or `session_id`
//! first: `tracing::info!(event = "journal.committed", %receipt_id, octets)`. All of them are listed in [`events`].
//!
//! ```text
//! tracing ─▶ sink ─┬─▶ queue ─▶ thread ─▶ standard error, or a file that is begun anew by size and age
//!                  └─▶ tap ─▶ whoever tails the running server
//! ```
//! [`init`] sends events to the log, one a line, in one of two forms:
//!
//! ```text
//! json  {"timestamp":"2026-11-21T09:30:00.123Z","level":"INFO","event":"listening","service":"smtp","addr":"[::]:25"}
//! text  2026-11-21T09:30:00Z I listening         service=smtp addr=[::]:25
//! ```
//!
//! Invariants:
//! - One event is one line. What a peer, a file or an admin wrote may stand in a value, so every value is escaped: by
//!   JSON, or by [`write_text`], which also quotes it. A forged line would be believed by whoever reads the log.
//! - A log that cannot be written, or whose reader has stopped, stops nothing: the event is lost and counted
//!   (`log.dropped`), the mail is not. The same holds for whoever tails.
//! - A panic is an event too (`service.panicked`), with its place; its message only when it is a constant of the
//!   program, since a formatted one may quote what was being read.
//! - Other crates speak only when something is wrong: the level asked for is that of Daybook's own events.
//! - An event nobody wants costs next to nothing: `tracing` is told so once for each place in the code.
//!
//! This room never sees message content, and decides about nothing.

pub mod alarm;
mod clock;
pub mod events;
mod file;
mod filter;
mod level;
mod line;
pub mod metrics;
mod queue;
mod refused;
pub mod rhythm;
mod sink;
mod tap;
mod text;
mod visits;

pub use clock::now;
pub use file::FileLog;
pub use filter::{Filter, Matcher};
pub use level::{Level, UnknownLevel};
pub use line::{Line, json_safe};
pub use refused::{Refused, RefusedMail};
pub use tap::{FOLLOWERS_MAX, Follower, Next, RECENT_LINES_MAX, Tap, Tapped};
pub use text::{Look, write as write_text};
pub use visits::Visits;

use file::LogFile;
use level::SharedLevel;
use queue::{Queue, Voice};
use sink::Sink;
use std::fmt;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::Dispatch;

/// How long to wait for a place in a full queue before a reopening is given up.
const REOPEN_WAIT: Duration = Duration::from_secs(5);

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What [`init`] sets up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The form of a line.
    pub format: Format,
    /// The least severe events written.
    pub level: Level,
    /// The file to write; standard error otherwise.
    pub file: Option<FileLog>,
    /// Whether events can be followed: see [`tap`].
    pub tap: bool,
}

/// Why there is no log.
#[derive(Debug)]
pub enum InitError {
    /// Events have a destination already; it stays. Our fault: [`init`] was called twice.
    AlreadyInitialised,
    /// The file cannot be appended to. The operator's to mend.
    File(PathBuf, io::Error),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::AlreadyInitialised => f.write_str("logging was set up before"),
            InitError::File(path, error) => write!(f, "[log] file: open {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for InitError {}

/// What this process logs with.
struct Log {
    queue: Queue,
    level: Arc<SharedLevel>,
    tap: Option<Arc<Tap>>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Sends events to the log from now on, for the whole process.
///
/// # Errors
/// [`InitError`]; then nothing changes.
pub fn init(setup: Setup) -> Result<(), InitError> {
    if LOG.get().is_some() {
        return Err(InitError::AlreadyInitialised);
    }
    let is_file = setup.file.is_some();
    let opened = setup.file.map(|file| {
        let path = file.path.clone();
        LogFile::open(file, now()).map_err(|error| InitError::File(path, error))
    });
    let opened = opened.transpose()?;
    let level = Arc::new(SharedLevel::new(setup.level));
    let tap = setup.tap.then(|| Tap::new(tracing::callsite::rebuild_interest_cache));
    let colour = !is_file && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let voice = Voice { format: setup.format, colour, level: Arc::clone(&level), tap: tap.clone() };
    let queue = queue::start(opened, voice);
    let put = queue.clone();
    let sink = Sink {
        format: setup.format,
        colour,
        level: Arc::clone(&level),
        put: Box::new(move |line| put.put(line)),
        tap: tap.clone(),
    };
    LOG.set(Log { queue, level, tap }).map_err(|_| InitError::AlreadyInitialised)?;
    tracing::dispatcher::set_global_default(Dispatch::new(sink))
        .map_err(|_| InitError::AlreadyInitialised)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Waits until what was logged so far is written, at most `wait`. Blocks.
pub fn flush(wait: Duration) {
    if let Some(log) = LOG.get() {
        log.queue.flush(wait);
    }
}

/// Has the log's file opened anew, after what was logged so far: somebody moved it. Without a file nothing happens. Blocks
/// while the queue is full.
pub fn reopen() {
    if let Some(log) = LOG.get() {
        log.queue.reopen(REOPEN_WAIT);
    }
}

/// The least severe events written now; `None` when nothing is logged.
pub fn level() -> Option<Level> {
    LOG.get().map(|log| log.level.get())
}

/// Writes events of `level` and more severe ones from now on. Gives the level before; `None` when nothing is logged.
pub fn set_level(level: Level) -> Option<Level> {
    let before = LOG.get()?.level.set(level);
    if before != level {
        tracing::callsite::rebuild_interest_cache();
    }
    Some(before)
}

/// Where the events of this process can be followed; `None` when [`init`] was told that nobody will.
pub fn tap() -> Option<&'static Arc<Tap>> {
    LOG.get()?.tap.as_ref()
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    metrics::panicked();
    tracing::error!(event = "service.panicked", place, message, thread);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Fixture {
        lines: Arc<Mutex<Vec<u8>>>,
        level: Arc<SharedLevel>,
        tap: Arc<Tap>,
        dispatch: Dispatch,
    }

    fn fixture(format: Format, level: Level) -> Fixture {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let level = Arc::new(SharedLevel::new(level));
        let tap = Tap::new(tracing::callsite::rebuild_interest_cache);
        let out = Arc::clone(&lines);
        let sink = Sink {
            format,
            colour: false,
            level: Arc::clone(&level),
            put: Box::new(move |line| out.lock().unwrap().extend(line)),
            tap: Some(Arc::clone(&tap)),
        };
        Fixture { lines, level, tap, dispatch: Dispatch::new(sink) }
    }

    impl Fixture {
        fn act(&self, act: impl FnOnce()) -> String {
            self.lines.lock().unwrap().clear();
            tracing::dispatcher::with_default(&self.dispatch, act);
            String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(format: Format, level: Level, act: impl FnOnce()) -> String {
        fixture(format, level).act(act)
    }

    fn events(out: &str) -> Vec<&str> {
        out.lines().filter_map(|line| line.split_whitespace().nth(2)).collect()
    }

    const HOSTILE: &str = "a\r\n2026-11-21T09:30:00.123Z ERROR forged=1 \u{1b}[2J\u{202e}\u{2028}\"x\"\\";

    #[test]
    fn json_is_one_flat_object_a_line_with_time_and_level() {
        let out = logged(Format::Json, Level::Info, || {
            tracing::info!(event = "listening", service = "smtp", octets = 7_u64, ok = true, addr = %"[::]:25");
            tracing::warn!(event = "store.torn", what = HOSTILE, shown = %HOSTILE);
        });
        assert_eq!(out.matches('\n').count(), 2, "{out}");
        assert!(!out.contains('\u{202e}') && !out.contains('\u{2028}'), "{out}");
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
    fn text_leads_with_time_level_and_event_and_is_one_line() {
        let out = logged(Format::Text, Level::Info, || {
            tracing::info!(event = "listening", service = "smtp", octets = 7_u64, addr = %"[::]:25");
            tracing::info!(event = %HOSTILE, debugged = ?HOSTILE, "{HOSTILE}");
        });
        assert_eq!(out.matches('\n').count(), 2, "{out}");
        let (time, rest) = out.split_once(' ').unwrap();
        assert!(crate::mail::Timestamp::parse(time).is_some());
        assert!(rest.starts_with("I listening         service=smtp octets=7 addr=[::]:25\n"), "{rest}");
    }

    #[test]
    fn the_level_holds_for_our_events_and_others_are_heard_from_warn_on() {
        let act = || {
            tracing::trace!(event = "ours.trace");
            tracing::debug!(event = "ours.debug");
            tracing::info!(target: "elsewhere", event = "other.info");
            tracing::info!(target: "daybooks", event = "other.info");
            tracing::warn!(target: "elsewhere", event = "other.warn");
        };
        assert_eq!(events(&logged(Format::Text, Level::Debug, act)), ["ours.debug", "other.warn"]);
        assert_eq!(logged(Format::Text, Level::Error, act), "");
    }

    #[test]
    fn a_level_can_be_changed_at_any_time_and_reaches_places_that_were_asked_before() {
        let fixture = fixture(Format::Text, Level::Info);
        let act = || {
            tracing::debug!(event = "ours.debug");
            tracing::warn!(event = "ours.warn");
        };
        let mut seen = Vec::new();
        for level in [Level::Info, Level::Debug, Level::Error, Level::Info] {
            fixture.act(|| {
                fixture.level.set(level);
                tracing::callsite::rebuild_interest_cache();
            });
            seen.push(events(&fixture.act(act)).len());
        }
        assert_eq!(seen, [1, 2, 0, 1]);
    }

    #[test]
    fn who_tails_gets_what_the_log_does_not() {
        let fixture = fixture(Format::Text, Level::Error);
        let act = || {
            tracing::debug!(event = "ours.debug", n = 1);
            tracing::info!(event = "ours.info", n = 2);
        };
        assert_eq!(fixture.act(act), "");
        let mut followed = None;
        fixture.act(|| followed = fixture.tap.follow(Level::Debug));
        let (recent, mut follower) = followed.unwrap();
        assert_eq!(recent.iter().map(|tapped| tapped.line.event()).collect::<Vec<_>>(), ["ours.info"]);
        assert_eq!(fixture.act(act), "");
        let Some(Next::Line(tapped)) = follower.next_waiting() else { panic!("no line") };
        assert_eq!(tapped.line.event(), "ours.debug");
        assert_eq!(Line::parse(&tapped.json).as_ref(), Some(&tapped.line));
        fixture.act(|| drop(follower));
    }

    #[test]
    fn an_event_nobody_wants_is_not_even_put_together() {
        let fixture = fixture(Format::Text, Level::Info);
        let mut made = false;
        let mut made_it = || {
            made = true;
            1
        };
        fixture.act(|| tracing::debug!(event = "ours.debug", n = made_it()));
        assert!(!made);
    }
}
