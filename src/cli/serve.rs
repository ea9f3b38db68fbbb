//! `daybook serve`: the gateway as a process, with its signals, its log and its exit code.
//!
//! SIGTERM and SIGINT end it in good order, a second one at once; SIGHUP reads the configuration, the directory and the
//! certificate again and opens the log file anew. A service manager that asks for it is told of each of these steps.

use super::configuration::notices;
use super::limits;
use super::notify::Notify;
use super::output::Failure;
use super::service::{Daybook, Running};
use super::signals::Signals;
use crate::admin::configured_level;
use crate::config::{Log, LogFormat, Settings};
use crate::observe::{self, FileLog, Format, Level, Setup};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Exit code of a process that was told twice to end.
const CODE_ABORTED: u8 = 3;
/// How long work that is left over may keep the process once everything has ended.
const RUNTIME_END_WAIT: Duration = Duration::from_secs(2);

/// `file` is where the settings were read from: SIGHUP has them read again. `no_dumps` is what came of forbidding core dumps.
pub(super) fn run(settings: Settings, file: PathBuf, no_dumps: io::Result<()>) -> Result<u8, Failure> {
    let setup = log_setup(&settings.log, configured_level(&settings));
    // Not wrong usage, although a wrong path may be the reason: a disk that is full or read-only now need not be so in an
    // hour, and whoever restarts us gives up at code 2.
    observe::init(setup).map_err(|error| Failure::from(error.to_string()))?;
    limits::warn_of_core_dumps(no_dumps);
    limits::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| Failure::from(format!("start: {error}")))?;
    let code = runtime.block_on(serve(settings, file));
    runtime.shutdown_timeout(RUNTIME_END_WAIT);
    Ok(code)
}

fn log_setup(log: &Log, level: Level) -> Setup {
    let format = match log.format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    let file = log.file.as_ref().map(|path| FileLog {
        path: path.clone(),
        rotate_octets: log.rotate_bytes,
        rotate_days: log.rotate_days,
        keep: usize::try_from(log.keep).unwrap_or(usize::MAX),
    });
    Setup { format, level, file, tap: true }
}

async fn serve(settings: Settings, file: PathBuf) -> u8 {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(event = "service.failed", %error);
            return 3;
        }
    };
    tracing::info!(
        event = "service.started",
        version = env!("CARGO_PKG_VERSION"),
        hostname = settings.hostname,
        data_dir = %settings.data_dir.display(),
        pid = std::process::id(),
    );
    for notice in notices(&settings) {
        tracing::warn!(event = "config.notice", notice);
    }
    let notify = Notify::from_environment();
    let has_file = settings.log.file.is_some();
    let started = tokio::select! {
        started = Daybook::start(settings) => started,
        signal = signals.end() => {
            // Nothing was acknowledged yet; what opening the store was doing is begun again next time.
            tracing::info!(event = "service.stopped", signal);
            notify.stopping(Duration::ZERO).await;
            return 0;
        }
    };
    match started {
        Ok(running) => until_the_end(running.reading(file), signals, &notify).await,
        Err(error) => {
            tracing::error!(event = "service.failed", %error);
            notify.failed(error.to_string()).await;
            if has_file {
                // Whoever started it looks here first.
                super::output::note(&error.to_string());
            }
            error.exit_code()
        }
    }
}

async fn until_the_end(running: Running, mut signals: Signals, notify: &Notify) -> u8 {
    notify.ready(running.vitals()).await;
    let signal = signals.end_of(&running, notify).await;
    tracing::info!(event = "service.stopping", signal);
    notify.stopping(running.drain_wait()).await;
    let began = Instant::now();
    tokio::select! {
        () = running.stop() => {
            tracing::info!(event = "service.stopped", signal, seconds = began.elapsed().as_secs_f64());
            0
        }
        signal = signals.end() => {
            tracing::warn!(event = "service.aborted", signal);
            observe::flush(super::LOG_FLUSH_WAIT);
            // Not even destructors: whatever keeps the orderly end from ending could keep them too.
            std::process::exit(i32::from(CODE_ABORTED));
        }
    }
}
