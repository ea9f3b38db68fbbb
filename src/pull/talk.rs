//! What both protocols need of a connection: lines and octets, each bounded in length and time.

use super::fault::Fault;
use crate::net::wire::{Line, Wire};
use crate::smtp::Reception;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// Longest line taken, in octets, line end included. What Exchange Online says of itself has some hundred.
pub(super) const LINE_OCTETS_MAX: usize = 64 * 1024;
/// How long an answer, or what comes next of a message, may take.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How long a listing may take in all: a server may have to look at every message for its size.
pub(super) const LISTING_WAIT: Duration = Duration::from_secs(10 * 60);
/// Slowest a message may come, in octets a second, besides one [`ANSWER_WAIT`].
const OCTETS_PER_SECOND_MIN: u64 = 4 * 1024;
/// Octets of a message read at once.
const READ_OCTETS: usize = 64 * 1024;

/// A connection to a server.
pub(super) struct Talk<S> {
    wire: Wire<S>,
}

/// Where the octets of one message go. What goes wrong there is kept until the server has nothing more to say of it.
pub(super) struct Intake<'a> {
    reception: &'a mut dyn Reception,
    /// Octets that came.
    pub(super) octets: u64,
    /// The most that are taken.
    pub(super) octets_max: u64,
    /// A literal was read into it.
    pub(super) streamed: bool,
    /// Why no more are taken.
    pub(super) fault: Option<crate::smtp::Fault>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(reception: &'a mut dyn Reception, octets_max: u64) -> Intake<'a> {
        Intake { reception, octets: 0, octets_max, streamed: false, fault: None }
    }

    /// Takes octets of the message; false when it is larger than may be.
    pub(super) async fn take(&mut self, octets: &[u8]) -> bool {
        self.octets = self.octets.saturating_add(octets.len() as u64);
        if self.octets > self.octets_max {
            return false;
        }
        if self.fault.is_none() && !octets.is_empty() {
            self.fault = self.reception.write(octets).await.err();
        }
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    pub(super) fn new(stream: S) -> Talk<S> {
        Talk { wire: Wire::new(stream) }
    }

    /// When the next answer must be there.
    pub(super) fn soon() -> Instant {
        Instant::now() + ANSWER_WAIT
    }

    /// When a message of so many octets must be there.
    pub(super) fn until_whole(octets: u64) -> Instant {
        Instant::now() + ANSWER_WAIT + Duration::from_secs(octets / OCTETS_PER_SECOND_MIN)
    }

    /// Sends octets. What they hold is in no log.
    pub(super) async fn send(&mut self, octets: &[u8]) -> Result<(), Fault> {
        Ok(self.wire.send(octets, Self::soon()).await?)
    }

    /// A line without its end.
    pub(super) async fn line(&mut self, by: Instant) -> Result<Vec<u8>, Fault> {
        match self.wire.line(LINE_OCTETS_MAX, by.min(Self::soon())).await? {
            Line::TooLong => Err(Fault::protocol("the server sent a line that is too long")),
            Line::Complete(mut line) => {
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                Ok(line)
            }
        }
    }

    /// Octets that are here now, at least one, at most so many.
    pub(super) async fn some(&mut self, by: Instant) -> Result<&[u8], Fault> {
        if self.wire.buffered().is_empty() {
            self.wire.fill(READ_OCTETS, by.min(Self::soon())).await?;
        }
        Ok(self.wire.buffered())
    }

    /// Forgets the first of those.
    pub(super) fn consume(&mut self, octets: usize) {
        self.wire.consume(octets);
    }

    /// Ends the connection.
    pub(super) async fn close(self) {
        self.wire.close(Duration::from_secs(1)).await;
    }
}
