//! The signals a running gateway heeds: SIGTERM and SIGINT end it, SIGHUP has it read its files again and open its log anew.

use super::notify::Notify;
use super::service::Running;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that arrived and were not yet taken. While one lives, none of them ends the process by itself.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the next signal that ends the process; says which.
    pub(super) async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Resolves as [`Signals::end`]; until then `running` reads its files again at each SIGHUP.
    pub(super) async fn end_of(&mut self, running: &Running, notify: &Notify) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {}
            }
            notify.reloading().await;
            // A disk that hangs must not keep the process from being told to end.
            tokio::select! {
                signal = self.end() => return signal,
                () = running.reload() => {}
            }
            notify.ready(running.vitals()).await;
        }
    }
}
