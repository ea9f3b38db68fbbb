//! Events of the running server for somebody who tails it: over `admin.sock`, for as long as both live.
//!
//! ```text
//! C: {"op":"tail","filter":{"mailbox":"Contoso"},"lines":10,"follow":true}\n
//! S: {"done":{"tailing":{"version":"0.1.0"}}}\n
//! S: {"timestamp":…,"level":"INFO","event":"journal.committed",…}\n      and so on
//! ```
//! What is sent is what the log would say in JSON. Whoever takes lines too slowly is told how many were lost, in a line of
//! its own: `{…,"event":"tail.dropped","lines":n}`. A tail ends when its client hangs up, says anything, or the server ends.
//!
//! Tails have places of their own ([`FOLLOWERS_MAX`](observe::FOLLOWERS_MAX)): they take none from commands.

use super::gateway_mailboxes::resolve;
use super::ops::Context;
use super::request::OpError;
use crate::net::drain::Drain;
use crate::observe::{self, Filter, Follower, Level, Line, Matcher, Next, RECENT_LINES_MAX, Tapped};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};

/// Octets gathered before they are sent.
const BATCH_OCTETS: usize = 64 * 1024;
/// How long the last lines of a server that ends may take.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// Somebody's place, and what is wanted.
#[derive(Debug)]
pub(super) struct Tail {
    matcher: Matcher,
    /// The lines before those that are followed, all wanted.
    recent: Vec<Arc<Tapped>>,
    /// `None`: nothing is followed.
    follower: Option<Follower>,
}

/// Takes a place and the last `lines` that are wanted.
///
/// # Errors
/// [`OpError::NotFound`]: no such gateway mailbox. [`OpError::Refused`]: every place is taken.
pub(super) fn begin(
    context: &Context,
    mut filter: Filter,
    lines: usize,
    follow: bool,
) -> Result<Tail, OpError> {
    if let Some(named) = &filter.mailbox {
        filter.mailbox = Some(resolve(context, named)?.login().to_owned());
    }
    let tap =
        observe::tap().ok_or_else(|| OpError::Unavailable("the server cannot be followed".to_owned()))?;
    let level = filter.level.unwrap_or(Level::Info);
    let (recent, follower) = tap.follow(level).ok_or_else(|| {
        OpError::Refused(format!("{} others follow the server already", observe::FOLLOWERS_MAX))
    })?;
    let mut matcher = Matcher::new(Filter { level: Some(level), ..filter });
    recent.iter().for_each(|tapped| matcher.learn(&tapped.line));
    let mut recent: Vec<Arc<Tapped>> =
        recent.into_iter().filter(|tapped| matcher.matches(&tapped.line)).collect();
    recent.drain(..recent.len().saturating_sub(lines.min(RECENT_LINES_MAX)));
    Ok(Tail { matcher, recent, follower: follow.then_some(follower) })
}

impl Tail {
    /// Sends lines until an end comes.
    ///
    /// # Errors
    /// The client cannot be reached any more: nobody's fault.
    pub(super) async fn run(mut self, mut stream: UnixStream, drain: &Drain) -> io::Result<()> {
        let (reader, mut writer) = stream.split();
        let mut batch = Vec::new();
        for tapped in std::mem::take(&mut self.recent) {
            push(&mut batch, &tapped.json);
        }
        let Some(follower) = self.follower.take() else {
            writer.write_all(&batch).await?;
            return writer.shutdown().await;
        };
        self.follow(reader, &mut writer, follower, batch, drain).await
    }

    async fn follow(
        mut self,
        mut reader: ReadHalf<'_>,
        writer: &mut WriteHalf<'_>,
        mut follower: Follower,
        mut batch: Vec<u8>,
        drain: &Drain,
    ) -> io::Result<()> {
        loop {
            tokio::select! {
                // First what can be said at once, or the last lines of a server that ends quickly would be lost.
                biased;
                written = writer.write_all(&batch) => written?,
                () = drain.started() => return Ok(()),
            }
            batch.clear();
            tokio::select! {
                _ = reader.read_u8() => return Ok(()),
                next = follower.next() => if !self.take(next, &mut batch) {
                    return Ok(());
                },
                () = drain.started() => {
                    self.take_waiting(&mut follower, &mut batch);
                    let said = tokio::time::timeout(LAST_WORDS_WAIT, writer.write_all(&batch)).await;
                    return said.unwrap_or(Ok(()));
                }
            }
            self.take_waiting(&mut follower, &mut batch);
        }
    }

    fn take_waiting(&mut self, follower: &mut Follower, batch: &mut Vec<u8>) {
        while batch.len() < BATCH_OCTETS
            && let Some(next) = follower.next_waiting()
        {
            self.take(next, batch);
        }
    }

    /// False when nothing will follow.
    fn take(&mut self, next: Next, batch: &mut Vec<u8>) -> bool {
        match next {
            Next::Line(tapped) => {
                if self.matcher.matches(&tapped.line) {
                    push(batch, &tapped.json);
                }
                true
            }
            Next::Dropped(lines) => {
                push(batch, &dropped(lines).to_json());
                true
            }
            Next::End => false,
        }
    }
}

fn push(batch: &mut Vec<u8>, json: &str) {
    batch.extend_from_slice(json.as_bytes());
    batch.push(b'\n');
}

/// No event of the server: it concerns this tail alone.
fn dropped(lines: u64) -> Line {
    let fields =
        vec![(Cow::Borrowed("event"), "tail.dropped".into()), (Cow::Borrowed("lines"), lines.into())];
    Line { at: observe::now(), level: Level::Warn, fields }
}
