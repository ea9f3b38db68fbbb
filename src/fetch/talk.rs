//! A connection with the output that is not sent yet: what a conversation needs of it, whichever protocol it speaks.
//!
//! Output is gathered and sent when no complete command is waiting, or when there is much to send: that is what pipelining
//! promises, and without it each pipelined command would cost a packet.

use super::door::Waits;
use crate::net::wire::{Wire, WireError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// Output is sent once it is this many octets, even when more commands wait.
pub(super) const OUTPUT_OCTETS_MAX: usize = 64 * 1024;
/// Room for output kept while a client is idle.
const OUTPUT_IDLE_OCTETS: usize = 4 * 1024;
/// How long the last reply may take to be sent, and then to be read, before the connection is cut.
const LINGER: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client said that it is done, and that was done.
    Quit,
    /// The connection went away, or the client was sent away.
    Drop,
    /// The client was silent, or did not read, for too long.
    Timeout,
    /// The server goes down.
    Shutdown,
    /// Something of ours failed: a commit, or a message half sent.
    Error,
}

impl End {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            End::Quit => "quit",
            End::Drop => "drop",
            End::Timeout => "timeout",
            End::Shutdown => "shutdown",
            End::Error => "error",
        }
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> End {
        match error {
            WireError::Deadline => End::Timeout,
            WireError::Closed | WireError::Full | WireError::Endless | WireError::Io(_) => End::Drop,
        }
    }
}

/// A connection and what is to be sent over it.
pub(super) struct Talk<S> {
    pub(super) wire: Wire<S>,
    output: Vec<u8>,
    write_wait: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// Nothing is to be sent yet. Each piece of output may take `write_wait`.
    pub(super) fn new(wire: Wire<S>, write_wait: Duration) -> Talk<S> {
        Talk { wire, output: Vec::new(), write_wait }
    }

    /// To be sent with the next flush.
    pub(super) fn say(&mut self, octets: &[u8]) {
        self.output.extend_from_slice(octets);
    }

    /// For whoever writes it piece by piece.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// True when so much is to be sent that it should not wait.
    pub(super) fn is_much(&self) -> bool {
        self.output.len() >= OUTPUT_OCTETS_MAX
    }

    /// True when a whole line was received already.
    pub(super) fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.wire.buffered()).is_some()
    }

    /// Sends everything; to a client that is not logged in, by the time that it must be, but for last words.
    pub(super) async fn flush(&mut self, login_by: Option<Instant>) -> Result<(), End> {
        if !self.output.is_empty() {
            let now = Instant::now();
            let deadline = now + self.write_wait;
            let deadline = login_by.map_or(deadline, |by| deadline.min(by.max(now + LINGER)));
            self.wire.send(&self.output, deadline).await?;
            self.output.clear();
            self.output.shrink_to(OUTPUT_IDLE_OCTETS);
        }
        Ok(())
    }

    /// Closes the connection, giving the client a moment to read what was sent.
    pub(super) async fn close(self) {
        self.wire.close(LINGER).await;
    }
}

/// By when the next line must have come.
///
/// # Errors
/// [`End::Timeout`] for a client that should be logged in by now, whatever it goes on sending.
pub(super) fn line_deadline(is_logged_in: bool, waits: &Waits, login_by: Instant) -> Result<Instant, End> {
    let now = Instant::now();
    match is_logged_in {
        true => Ok(now + waits.idle),
        false if now < login_by => Ok(login_by),
        false => Err(End::Timeout),
    }
}

/// Waits for the last words to be sent, but not for long: whether they arrive changes nothing.
pub(super) async fn last_words(flush: impl Future<Output = Result<(), End>>) {
    match tokio::time::timeout(LINGER, flush).await {
        Ok(Ok(()) | Err(_)) | Err(_) => {}
    }
}
