//! How severe an event is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use tracing::level_filters::LevelFilter;

/// How severe an event is, most severe first. Written in lower case, and in capitals in log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A person is needed.
    Error,
    /// Something odd, and it went on.
    Warn,
    /// Each step of a message's life.
    #[default]
    Info,
    /// Protocol detail.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Every level, most severe first.
    pub const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// Its name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    /// Its name as log lines have it.
    pub(super) fn as_written(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no level. The fault of whoever wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLevel;

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not one of error, warn, info, debug, trace")
    }
}

impl std::error::Error for UnknownLevel {}

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Reads a name in any case.
    fn from_str(text: &str) -> Result<Level, UnknownLevel> {
        Level::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownLevel)
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Level {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> LevelFilter {
        match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

/// A level that changes while others look at it.
#[derive(Debug)]
pub(super) struct SharedLevel(AtomicU8);

impl SharedLevel {
    pub(super) fn new(level: Level) -> SharedLevel {
        SharedLevel(AtomicU8::new(level as u8))
    }

    pub(super) fn get(&self) -> Level {
        let index = usize::from(self.0.load(Ordering::Relaxed));
        Level::ALL.get(index).copied().unwrap_or_default()
    }

    /// Sets it; gives the one before. Whoever calls has the callsites asked anew.
    pub(super) fn set(&self, level: Level) -> Level {
        let before = usize::from(self.0.swap(level as u8, Ordering::Relaxed));
        Level::ALL.get(before).copied().unwrap_or_default()
    }
}
