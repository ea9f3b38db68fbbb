//! The level of the log while the server runs: shown, changed, and changed back when a time was given.

use super::ops::Context;
use super::request::{LogLevelView, OpError};
use crate::config::Settings;
use crate::mail::Timestamp;
use crate::observe::{self, Level};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time a level may be set for, in seconds: a month.
pub const LOG_LEVEL_SECONDS_MAX: u64 = 31 * 86_400;

/// The last change. One for the process, as is the log.
static LAST: Mutex<Last> = Mutex::new(Last { number: 0, until: None });

struct Last {
    /// Which change it was: a time that was given for an earlier one is void.
    number: u64,
    until: Option<Timestamp>,
}

/// The level the configuration gives.
pub fn configured_level(settings: &Settings) -> Level {
    settings.log.level.as_str().parse().unwrap_or_default()
}

/// Shows the level, or sets it first. Must be called from a task.
pub(super) fn log_level(
    context: &Context,
    actor: &str,
    level: Option<Level>,
    seconds: Option<u64>,
) -> Result<LogLevelView, OpError> {
    let nobody = || OpError::Unavailable("no server is running".to_owned());
    let present = context.ports.as_ref().and_then(|_| observe::level()).ok_or_else(nobody)?;
    let configured = configured_level(&context.settings.current());
    let mut last = last();
    let Some(level) = level else {
        return Ok(LogLevelView { level: present, configured, until: last.until });
    };
    if seconds.is_some_and(|seconds| !(1..=LOG_LEVEL_SECONDS_MAX).contains(&seconds)) {
        return Err(OpError::Usage(format!("a level can be set for 1 to {LOG_LEVEL_SECONDS_MAX} seconds")));
    }
    let until = seconds.map(|seconds| later(observe::now(), seconds));
    last.number += 1;
    last.until = until;
    set(level, present, until, actor);
    if let Some(seconds) = seconds {
        tokio::spawn(fall_back(last.number, configured, Duration::from_secs(seconds)));
    }
    Ok(LogLevelView { level, configured, until })
}

async fn fall_back(number: u64, configured: Level, after: Duration) {
    tokio::time::sleep(after).await;
    let mut last = last();
    if last.number == number
        && let Some(present) = observe::level()
    {
        last.until = None;
        set(configured, present, None, "the time that was given");
    }
}

/// Told at the more talkative of both levels, so that the log says why it becomes silent.
fn set(level: Level, was: Level, until: Option<Timestamp>, actor: &str) {
    let until = until.map(|until| until.to_string());
    let tell = || tracing::info!(event = "log.level_changed", now = %level, %was, until, actor);
    if level < was {
        tell();
    }
    observe::set_level(level);
    if level >= was {
        tell();
    }
}

fn later(now: Timestamp, seconds: u64) -> Timestamp {
    let ms = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
    Timestamp::from_unix_ms(now.unix_ms().saturating_add(ms))
}

fn last() -> MutexGuard<'static, Last> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}
