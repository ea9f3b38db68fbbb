//! One connection between its greeting and its end: carries out what the session says.
//!
//! Replies are gathered and sent when no complete command is waiting (or when there is much to send): that is
//! what PIPELINING promises, and without it each pipelined command would cost a packet.
//!
//! Invariants:
//! - The end, of whatever kind, is one line in the log for a client that was logged in, and the fetches are
//!   recorded in it.
//! - A message counts as fetched once its last octet was given to the connection.
//! - A message that breaks off is followed by nothing: the connection is dropped without a goodbye.
//! - The maildrop is free again before the client hears that its QUIT is done: the next login may come at once.

use super::pump::{self, Piece, PumpError};
use super::server::Pop3;
use super::session::{Session, Step};
use crate::fetch::auth::{LoggedIn, Password};
use crate::fetch::maildrop::{Client, FetchError};
use crate::mail::{GatewayMailboxId, Untrusted};
use crate::net::wire::{Line, Wire, WireError};
use crate::observe::metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use zeroize::Zeroize;

/// Replies are sent once they are this many octets, even when more commands wait.
const OUTPUT_OCTETS_MAX: usize = 64 * 1024;
/// Room for output kept while a client is idle.
const OUTPUT_IDLE_OCTETS: usize = 4 * 1024;
/// How long the last reply may take to be sent, and then to be read, before the connection is cut.
const LINGER: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client said QUIT, and it was done.
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
    fn as_str(self) -> &'static str {
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

/// What follows a step.
enum Next {
    Line,
    StartTls,
    /// The conversation is over in good order.
    Close(End),
}

/// The open maildrop and what the log will say about it.
struct Visit {
    logged_in: LoggedIn,
    facts: Facts,
}

struct Facts {
    /// As the client gave it.
    login: String,
    mailbox: String,
    mailbox_id: GatewayMailboxId,
    since: Instant,
    listed: usize,
}

/// One connection at work.
pub(super) struct Conversation<'a, S> {
    pop3: &'a Pop3,
    wire: Wire<S>,
    session: Session,
    client: Client,
    output: Vec<u8>,
    /// Messages whose end is in `output`.
    unsent: Vec<usize>,
    visit: Option<Visit>,
    octets: u64,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    pub(super) fn new(
        pop3: &'a Pop3,
        wire: Wire<S>,
        session: Session,
        client: Client,
    ) -> Conversation<'a, S> {
        Conversation {
            pop3,
            wire,
            session,
            client,
            output: Vec::new(),
            unsent: Vec::new(),
            visit: None,
            octets: 0,
        }
    }

    /// Says the greeting, to be sent with the first flush.
    pub(super) fn greet(&mut self) {
        let greeting = self.session.greeting();
        self.say(&greeting);
    }

    /// Talks until the connection ends; gives it back when the client wants TLS and has been told to begin.
    pub(super) async fn run(mut self) -> Option<(Wire<S>, Session)> {
        let end = loop {
            match self.turn().await {
                Ok(Next::Line) => {}
                Ok(Next::StartTls) => return Some((self.wire, self.session)),
                Ok(Next::Close(end)) => {
                    // Whether the goodbye arrives changes nothing, but what goes out with it was fetched.
                    match tokio::time::timeout(LINGER, self.flush()).await {
                        Ok(Ok(()) | Err(_)) | Err(_) => {}
                    }
                    self.leave(end).await;
                    self.wire.close(LINGER).await;
                    return None;
                }
                Err(end) => break end,
            }
        };
        self.leave(end).await;
        if end == End::Timeout {
            self.wire.close(LINGER).await;
        }
        None
    }

    async fn turn(&mut self) -> Result<Next, End> {
        let step = match self.line().await? {
            None => {
                let goodbye = self.session.shutdown_reply();
                self.say(&goodbye);
                return Ok(Next::Close(End::Shutdown));
            }
            Some(Line::TooLong) => self.session.too_long(),
            Some(Line::Complete(mut line)) => {
                let step = self.session.line(&line);
                line.zeroize();
                step
            }
        };
        self.carry_out(step).await
    }

    /// The next command line; `None` when the server goes down.
    async fn line(&mut self) -> Result<Option<Line>, End> {
        if memchr::memchr(b'\n', self.wire.buffered()).is_none() {
            self.flush().await?;
        }
        let waits = &self.pop3.waits;
        let wait = if self.session.is_logged_in() { waits.idle } else { waits.login };
        tokio::select! {
            biased;
            () = self.pop3.drain.started() => Ok(None),
            line = self.wire.line(self.session.line_octets_max(), Instant::now() + wait) => Ok(Some(line?)),
        }
    }

    async fn carry_out(&mut self, step: Step) -> Result<Next, End> {
        match step {
            Step::Reply(reply) => self.say(&reply),
            Step::ClearRefused(reply) => {
                self.log_clear_refused();
                self.say(&reply);
            }
            Step::Listing(reply) => {
                self.say(&reply);
                while self.session.more(&mut self.output) {
                    self.flush_if_much().await?;
                }
            }
            Step::StartTls(reply) => {
                self.say(&reply);
                self.flush().await?;
                return Ok(Next::StartTls);
            }
            Step::Login { login, password } => return self.log_in(login, password).await,
            Step::Message { index, lines } => self.message(index, lines).await?,
            Step::Commit { deleted } => return self.commit(deleted).await,
            Step::Close(reply) => {
                self.say(&reply);
                return Ok(Next::Close(End::Drop));
            }
        }
        self.flush_if_much().await?;
        Ok(Next::Line)
    }

    async fn log_in(&mut self, login: String, password: Password) -> Result<Next, End> {
        let tried = tokio::select! {
            () = self.pop3.drain.started() => None,
            tried = self.pop3.logins.exclusive(&login, password, &self.client) => Some(tried),
        };
        let Some(tried) = tried else {
            let goodbye = self.session.shutdown_reply();
            self.say(&goodbye);
            return Ok(Next::Close(End::Shutdown));
        };
        match tried {
            Ok(logged_in) => {
                let entries = logged_in.maildrop.entries();
                let (mailbox, mailbox_id) = (logged_in.login.clone(), logged_in.mailbox);
                let facts =
                    Facts { login, mailbox, mailbox_id, since: Instant::now(), listed: entries.len() };
                self.visit = Some(Visit { logged_in, facts });
                let reply = self.session.logged_in(entries);
                self.say(&reply);
                Ok(Next::Line)
            }
            Err(refusal) => {
                match self.session.login_refused(refusal) {
                    Step::Close(reply) => {
                        self.say(&reply);
                        return Ok(Next::Close(End::Drop));
                    }
                    Step::Reply(reply) => self.say(&reply),
                    _ => {}
                }
                Ok(Next::Line)
            }
        }
    }

    /// Streams a message. Until its first piece is there an error is a reply; after that, the end.
    async fn message(&mut self, index: usize, lines: Option<u64>) -> Result<(), End> {
        let Some(visit) = &self.visit else { return Err(End::Error) };
        let mut pieces = pump::start(Arc::clone(&visit.logged_in.maildrop), index, lines);
        let mut is_begun = false;
        loop {
            let piece = match pieces.recv().await {
                Some(Ok(piece)) => piece,
                failed => {
                    let error = self.log_unreadable(index, failed.and_then(Result::err));
                    if is_begun {
                        return Err(End::Error);
                    }
                    let reply = self.session.unreadable_reply(error);
                    self.say(&reply);
                    return Ok(());
                }
            };
            if !is_begun {
                let reply = self.session.message_reply(index, lines);
                self.say(&reply);
                is_begun = true;
            }
            match piece {
                Piece::Octets(octets) => {
                    self.octets += octets.len() as u64;
                    self.output.extend_from_slice(&octets);
                    self.flush_if_much().await?;
                }
                Piece::End { is_whole } => {
                    self.say(".");
                    if is_whole {
                        self.unsent.push(index);
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn commit(&mut self, deleted: Vec<usize>) -> Result<Next, End> {
        // What was fetched is what was sent: only now do we know.
        self.flush().await?;
        let Some(visit) = self.visit.take() else { return Err(End::Error) };
        let fetched = self.session.fetched();
        let counts = (fetched.len(), deleted.len());
        let done = visit.logged_in.maildrop.finish(fetched, deleted.clone()).await;
        let end = match done {
            Ok(()) => {
                self.log_visit(&visit.facts, counts, End::Quit);
                End::Quit
            }
            Err(error) => {
                self.log_failed_commit(&visit.facts, error);
                self.log_visit(&visit.facts, (counts.0, 0), End::Error);
                End::Error
            }
        };
        drop(visit);
        let reply = self.session.committed(done.map(|()| counts.1));
        self.say(&reply);
        Ok(Next::Close(end))
    }

    /// Ends the visit of a client that did not get to QUIT: what it fetched is recorded, nothing is deleted.
    async fn leave(&mut self, end: End) {
        let Some(visit) = self.visit.take() else { return };
        let fetched = self.session.fetched();
        let counts = (fetched.len(), 0);
        if !fetched.is_empty()
            && let Err(error) = visit.logged_in.maildrop.finish(fetched, Vec::new()).await
        {
            self.log_failed_commit(&visit.facts, error);
        }
        self.log_visit(&visit.facts, counts, end);
    }

    fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    async fn flush_if_much(&mut self) -> Result<(), End> {
        if self.output.len() >= OUTPUT_OCTETS_MAX { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if !self.output.is_empty() {
            self.wire.send(&self.output, Instant::now() + self.pop3.waits.write).await?;
            self.output.clear();
            self.output.shrink_to(OUTPUT_IDLE_OCTETS);
        }
        for index in self.unsent.drain(..) {
            self.session.mark_fetched(index);
        }
        Ok(())
    }

    fn log_clear_refused(&self) {
        let (session_id, peer) = (self.client.session_id, self.client.peer);
        metrics::login_refused(self.client.protocol, "clear");
        tracing::warn!(event = "auth.failed", %session_id, protocol = "pop3", %peer, reason = "clear");
    }

    /// Says why a message could not be read to its end, and what that means to the client.
    fn log_unreadable(&self, index: usize, failed: Option<PumpError>) -> FetchError {
        let (error, text) = match failed {
            Some(PumpError::Open(error)) => (error, error.to_string()),
            Some(PumpError::Read(error)) => (FetchError::Damaged, error.to_string()),
            None => (FetchError::Temporary, "the reader broke off".to_owned()),
        };
        // Nothing is wrong with it, and who keeps it has said so.
        if error == FetchError::LacksKey {
            return error;
        }
        if let Some(Visit { logged_in, facts }) = &self.visit {
            let entries = logged_in.maildrop.entries();
            let uidl = entries.get(index).map(|entry| entry.uidl.as_str()).unwrap_or_default();
            let event = if error == FetchError::Damaged { "fetch.damaged" } else { "fetch.unreadable" };
            let session_id = self.client.session_id;
            tracing::error!(event, %session_id, mailbox = facts.mailbox, uidl, error = text);
        }
        error
    }

    fn log_failed_commit(&self, facts: &Facts, error: FetchError) {
        let session_id = self.client.session_id;
        tracing::error!(event = "fetch.commit_failed", %session_id, mailbox = facts.mailbox, %error);
    }

    fn log_visit(&self, facts: &Facts, (fetched, deleted): (usize, usize), end: End) {
        metrics::fetch_session(self.client.protocol, end.as_str());
        tracing::info!(
            event = "fetch.session",
            session_id = %self.client.session_id,
            login = %Untrusted(&facts.login),
            protocol = self.client.protocol,
            peer = %self.client.peer,
            mailbox = facts.mailbox,
            mailbox_id = %facts.mailbox_id,
            listed = facts.listed,
            fetched,
            octets = self.octets,
            deleted,
            seconds = facts.since.elapsed().as_secs_f64(),
            end = end.as_str(),
        );
    }
}
