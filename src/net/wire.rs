//! Reading and writing a connection with every buffer and wait bounded.
//!
//! A [`Wire`] is a stream and the octets read from it that nobody has consumed yet. Protocols either look at
//! [`Wire::buffered`], take what they understand with [`Wire::consume`] and ask for more with
//! [`Wire::fill`], or read whole lines with [`Wire::line`].
//!
//! Invariants:
//! - The buffer never holds more than the size asked of [`Wire::fill`] or [`Wire::line`], begins with
//!   `FIRST_OCTETS` and is given back when it is empty and asked to: ten thousand idle connections must not
//!   hold ten thousand buffers for what they do not send.
//! - Every wait takes the instant it must end by, so that one deadline can cover a whole line or body.
//! - Reading is cancel-safe: dropping a future loses no octet.

use super::stream::{Stream, UpgradeError};
use rustls::ServerConfig;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroize;

/// Size of the buffer of a connection that is between commands.
pub const IDLE_OCTETS: usize = 4 * 1024;
/// Size of a buffer that nothing has come into yet. Commands are short; a peer that sends more at once gets a larger one for what
/// follows.
const FIRST_OCTETS: usize = 512;
/// How much of an over-long line is read and thrown away before the peer is given up.
pub const LINE_DRAIN_OCTETS_MAX: usize = 64 * 1024;

/// A stream with the octets read ahead of it.
#[derive(Debug)]
pub struct Wire<S = Stream> {
    stream: S,
    buffer: Vec<u8>,
    /// `start <= end <= buffer.len()`; unconsumed octets are `buffer[start..end]`.
    start: usize,
    end: usize,
}

/// Why reading or writing ended.
#[derive(Debug)]
pub enum WireError {
    /// The peer closed the connection, or what it sent ended inside a line.
    Closed,
    /// The instant passed.
    Deadline,
    /// The buffer is full of octets nobody consumed. The caller's fault.
    Full,
    /// A line ran on beyond [`LINE_DRAIN_OCTETS_MAX`] over its limit.
    Endless,
    /// The connection broke.
    Io(io::Error),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireError::Closed => "peer closed the connection",
            WireError::Deadline => "peer took too long",
            WireError::Full => "read buffer is full",
            WireError::Endless => "line does not end",
            WireError::Io(_) => "connection broke",
        })
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WireError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A line read by [`Wire::line`].
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The line with its line end. It ends in LF; whether CR stands before it is for the protocol to judge.
    Complete(Vec<u8>),
    /// The line was longer than allowed. It has been read to its end and thrown away.
    TooLong,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A wire with an empty buffer.
    pub fn new(stream: S) -> Wire<S> {
        Wire { stream, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// The stream underneath.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The octets read and not consumed.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Forgets the first `octets` of [`Wire::buffered`].
    pub fn consume(&mut self, octets: usize) {
        self.start = self.start.saturating_add(octets).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Forgets them, and leaves nothing of them in memory.
    fn wipe(&mut self, octets: usize) {
        let end = self.start.saturating_add(octets).min(self.end);
        if let Some(taken) = self.buffer.get_mut(self.start..end) {
            taken.zeroize();
        }
        self.consume(octets);
    }

    /// Gives back the memory of a large buffer that is empty.
    pub fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > FIRST_OCTETS {
            self.buffer = Vec::new();
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads what is there, at least one octet, so that at most `octets_max` are buffered.
    ///
    /// # Errors
    /// [`WireError::Closed`], [`WireError::Deadline`], [`WireError::Io`]; [`WireError::Full`] when
    /// `octets_max` are buffered already.
    pub async fn fill(&mut self, octets_max: usize, deadline: Instant) -> Result<usize, WireError> {
        self.make_room(octets_max);
        let until = self.buffer.len().min(octets_max);
        let Some(free) = self.buffer.get_mut(self.end..until).filter(|free| !free.is_empty()) else {
            return Err(WireError::Full);
        };
        let read = tokio::time::timeout_at(deadline, self.stream.read(free))
            .await
            .map_err(|_elapsed| WireError::Deadline)?
            .map_err(WireError::Io)?;
        if read == 0 {
            return Err(WireError::Closed);
        }
        self.end += read;
        Ok(read)
    }

    /// Moves the buffered octets to the front and makes the buffer at least `octets_max` long; if nothing came yet and no more
    /// than commands are awaited, shorter.
    fn make_room(&mut self, octets_max: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let is_first = self.buffer.is_empty() && octets_max <= IDLE_OCTETS;
        let octets = if is_first { octets_max.min(FIRST_OCTETS) } else { octets_max };
        // One that is not full has seen short commands only.
        let has_room = octets_max <= IDLE_OCTETS && self.end < self.buffer.len();
        if self.buffer.len() < octets && !has_room {
            self.buffer.resize(octets, 0);
        }
    }

    /// Reads one line of at most `octets_max` octets, line end included, by `deadline`.
    ///
    /// # Errors
    /// As [`Wire::fill`]; [`WireError::Endless`] when an over-long line does not end soon either.
    pub async fn line(&mut self, octets_max: usize, deadline: Instant) -> Result<Line, WireError> {
        let mut seen = 0;
        loop {
            let buffered = self.buffered();
            let unseen = buffered.get(seen..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let octets = seen + at + 1;
                let line = buffered.get(..octets).filter(|_| octets <= octets_max).map(<[u8]>::to_vec);
                // It may be a password; whoever takes it wipes the copy.
                self.wipe(octets);
                return Ok(line.map_or(Line::TooLong, Line::Complete));
            }
            seen = buffered.len();
            if seen >= octets_max {
                self.wipe(seen);
                return self.drain_line(octets_max, deadline).await;
            }
            // Whoever may send long lines seldom does: room for them is made when one comes.
            let room = if seen < IDLE_OCTETS { IDLE_OCTETS } else { octets_max };
            self.fill(room, deadline).await?;
        }
    }

    /// Reads so many octets by `deadline`. Unlike the other ways to read, dropping this future loses what it has taken already.
    ///
    /// # Errors
    /// [`WireError::Closed`], [`WireError::Deadline`], [`WireError::Io`].
    pub async fn octets(&mut self, wanted: usize, deadline: Instant) -> Result<Vec<u8>, WireError> {
        // All at once: growing would leave copies behind of what may be a password.
        let mut taken = Vec::with_capacity(wanted);
        loop {
            let here = self.buffered().len().min(wanted - taken.len());
            taken.extend_from_slice(self.buffered().get(..here).unwrap_or_default());
            self.wipe(here);
            if taken.len() == wanted {
                return Ok(taken);
            }
            self.fill(IDLE_OCTETS, deadline).await?;
        }
    }

    async fn drain_line(&mut self, octets_max: usize, deadline: Instant) -> Result<Line, WireError> {
        let mut drained = 0;
        while drained < LINE_DRAIN_OCTETS_MAX {
            self.fill(octets_max.max(IDLE_OCTETS), deadline).await?;
            let buffered = self.buffered();
            if let Some(at) = memchr::memchr(b'\n', buffered) {
                self.wipe(at + 1);
                return Ok(Line::TooLong);
            }
            let octets = buffered.len();
            drained += octets;
            self.wipe(octets);
        }
        Err(WireError::Endless)
    }

    /// Writes all octets and flushes them.
    ///
    /// # Errors
    /// [`WireError::Deadline`] when the peer does not take them in time, [`WireError::Io`].
    pub async fn send(&mut self, octets: &[u8], deadline: Instant) -> Result<(), WireError> {
        let write = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        tokio::time::timeout_at(deadline, write)
            .await
            .map_err(|_elapsed| WireError::Deadline)?
            .map_err(WireError::Io)
    }

    /// Says goodbye (over TLS: `close_notify`) and then reads and discards for at most `linger` what the
    /// peer still sends: closing a socket with unread octets resets it, and the reset can overtake and
    /// destroy the last reply.
    pub async fn close(mut self, linger: Duration) {
        let goodbye = async {
            self.stream.shutdown().await?;
            let mut discarded = [0; 1024];
            while self.stream.read(&mut discarded).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        // Whatever comes of it, the connection is over.
        match tokio::time::timeout(linger, goodbye).await {
            Ok(Ok(()) | Err(_)) | Err(_) => {}
        }
    }
}

impl Wire<Stream> {
    /// Turns the connection into a TLS one. See [`Stream::upgrade`].
    ///
    /// # Errors
    /// [`UpgradeError`], among them that octets received in clear are still buffered.
    pub async fn upgrade(
        self,
        config: Arc<ServerConfig>,
        deadline: Duration,
    ) -> Result<Wire<Stream>, UpgradeError> {
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        Ok(Wire::new(self.stream.upgrade(config, unread, deadline).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn soon() -> Instant {
        Instant::now() + SOON
    }

    /// Feeds the pieces one by one, each after the one before was read, and collects the lines.
    async fn check(pieces: &[&str], octets_max: usize, expect: &[&str]) {
        let (near, mut far) = tokio::io::duplex(1);
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let writer = tokio::spawn(async move {
            for piece in pieces {
                if far.write_all(piece.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let mut wire = Wire::new(near);
        let mut lines = Vec::new();
        loop {
            match wire.line(octets_max, soon()).await {
                Ok(Line::Complete(line)) => lines.push(String::from_utf8(line).unwrap()),
                Ok(Line::TooLong) => lines.push("TOO LONG".to_owned()),
                Err(WireError::Closed) => break,
                Err(WireError::Endless) => {
                    lines.push("ENDLESS".to_owned());
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        drop(wire);
        writer.await.unwrap();
        assert_eq!(lines, expect);
    }

    #[tokio::test]
    async fn reads_lines_however_they_arrive() {
        check(&["NO", "OP\r", "\nQUIT\r\n"], 16, &["NOOP\r\n", "QUIT\r\n"]).await;
        check(&["a\nb\r\n\r\n"], 16, &["a\n", "b\r\n", "\r\n"]).await;
    }

    #[tokio::test]
    async fn forgets_a_line_the_peer_did_not_finish() {
        check(&["NOOP\r\nQUI"], 16, &["NOOP\r\n"]).await;
    }

    #[tokio::test]
    async fn drains_a_long_line_and_goes_on_behind_it() {
        let long = format!("{}\r\nQUIT\r\n", "x".repeat(9_000));
        check(&[&long], 512, &["TOO LONG", "QUIT\r\n"]).await;
        check(&["123456\r\n1234567\r\nQUIT\r\n"], 8, &["123456\r\n", "TOO LONG", "QUIT\r\n"]).await;
    }

    #[tokio::test]
    async fn a_line_that_is_thrown_away_leaves_nothing_behind() {
        for octets in [20, 600, 9_000] {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let mut wire = Wire::new(near);
            far.write_all(&[vec![b'x'; octets], b"\n".to_vec()].concat()).await.unwrap();
            assert_eq!(wire.line(16, soon()).await.unwrap(), Line::TooLong);
            assert!(!wire.buffer.is_empty() && !wire.buffer.contains(&b'x'), "{octets}");
        }
    }

    #[tokio::test]
    async fn gives_up_a_line_without_end() {
        check(&[&"x".repeat(2 * LINE_DRAIN_OCTETS_MAX)], 512, &["ENDLESS"]).await;
    }

    #[tokio::test]
    async fn takes_so_many_octets_and_leaves_what_follows() {
        let (near, mut far) = tokio::io::duplex(16);
        let writer = tokio::spawn(async move {
            far.write_all(&[b'x'; 10_000]).await.unwrap();
            far.write_all(b"NOOP\r\n123").await.unwrap();
        });
        let mut wire = Wire::new(near);
        assert_eq!(wire.octets(0, soon()).await.unwrap(), b"");
        assert_eq!(wire.octets(10_000, soon()).await.unwrap(), [b'x'; 10_000]);
        assert_eq!(wire.line(16, soon()).await.unwrap(), Line::Complete(b"NOOP\r\n".to_vec()));
        assert!(matches!(wire.octets(4, soon()).await, Err(WireError::Closed)));
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn room_for_a_long_line_is_made_when_one_comes() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut wire = Wire::new(near);
        let long = [vec![b'x'; 50_000], b"\n".to_vec()].concat();
        far.write_all(&[b"NOOP\n", long.as_slice()].concat()).await.unwrap();
        assert_eq!(wire.line(1 << 16, soon()).await.unwrap(), Line::Complete(b"NOOP\n".to_vec()));
        assert!(wire.buffer.len() <= IDLE_OCTETS, "{}", wire.buffer.len());
        assert_eq!(wire.line(1 << 16, soon()).await.unwrap(), Line::Complete(long));
        wire.shrink();
        assert!(wire.buffer.is_empty());
    }

    #[tokio::test]
    async fn one_deadline_covers_the_whole_line() {
        let (near, mut far) = tokio::io::duplex(64);
        // Drips for as long as somebody listens: a deadline per read would never pass.
        let dripping = tokio::spawn(async move {
            let mut drip = tokio::time::interval(Duration::from_millis(1));
            while far.write_all(b"x").await.is_ok() {
                drip.tick().await;
            }
        });
        let mut wire = Wire::new(near);
        let line = wire.line(1 << 20, Instant::now() + Duration::from_millis(50));
        let ended = tokio::time::timeout(SOON, line).await.unwrap();
        assert!(matches!(ended, Err(WireError::Deadline)), "{ended:?}");
        drop(wire);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn waits_for_a_command_with_a_small_buffer_and_makes_room_for_many() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut wire = Wire::new(near);
        far.write_all(b"NOOP\r\n").await.unwrap();
        wire.fill(IDLE_OCTETS, soon()).await.unwrap();
        assert_eq!(wire.buffer.len(), FIRST_OCTETS);
        wire.consume(6);
        wire.shrink();
        far.write_all(&[b'x'; 2 * IDLE_OCTETS]).await.unwrap();
        assert_eq!(wire.fill(IDLE_OCTETS, soon()).await.unwrap(), FIRST_OCTETS);
        assert_eq!(wire.fill(IDLE_OCTETS, soon()).await.unwrap(), IDLE_OCTETS - FIRST_OCTETS);
        assert!(matches!(wire.fill(IDLE_OCTETS, soon()).await, Err(WireError::Full)));
        wire.consume(IDLE_OCTETS);
        wire.shrink();
        assert!(wire.buffer.is_empty());
    }

    #[tokio::test]
    async fn shrinks_when_empty_and_never_overfills() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(&[b'x'; 100_000]).await.unwrap();
        let mut wire = Wire::new(near);
        wire.fill(65_536, soon()).await.unwrap();
        assert_eq!(wire.buffered().len(), 65_536);
        assert!(matches!(wire.fill(65_536, soon()).await, Err(WireError::Full)));
        wire.shrink();
        assert_eq!(wire.buffered().len(), 65_536);
        wire.consume(65_536);
        wire.shrink();
        assert!(wire.buffer.is_empty());
        wire.fill(65_536, soon()).await.unwrap();
        assert_eq!(wire.buffered().len(), 34_464);
    }
}
