//! One connection between its greeting and its end: carries out what the session says.
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
use crate::fetch::door::Door;
use crate::fetch::maildrop::{Client, FetchError};
use crate::fetch::talk::{End, Talk, last_words, line_deadline};
use crate::fetch::threads::Thread;
use crate::fetch::visit::{Deeds, Visit, log_clear_refused};
use crate::net::wire::{Line, Wire};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use zeroize::Zeroize;

/// What follows a step.
enum Next {
    Line,
    StartTls,
    /// The conversation is over in good order.
    Close(End),
}

/// The open maildrop and what the log will say about it.
struct Open {
    logged_in: LoggedIn,
    visit: Visit,
    listed: usize,
}

/// One connection at work.
pub(super) struct Conversation<'a, S> {
    pop3: &'a Pop3,
    talk: Talk<S>,
    session: Session,
    client: Client,
    /// Messages whose end is not sent yet.
    unsent: Vec<usize>,
    open: Option<Open>,
    octets: u64,
    /// When the client must be logged in.
    login_by: Instant,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    pub(super) fn new(
        pop3: &'a Pop3,
        wire: Wire<S>,
        session: Session,
        client: Client,
        login_by: Instant,
    ) -> Conversation<'a, S> {
        let talk = Talk::new(wire, pop3.door.waits.write);
        Conversation { pop3, talk, session, client, unsent: Vec::new(), open: None, octets: 0, login_by }
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
                Ok(Next::StartTls) => return Some((self.talk.wire, self.session)),
                Ok(Next::Close(end)) => {
                    // What goes out with the goodbye was fetched.
                    last_words(self.flush()).await;
                    self.leave(end).await;
                    self.talk.close().await;
                    return None;
                }
                Err(end) => break end,
            }
        };
        self.leave(end).await;
        if end == End::Timeout {
            self.talk.close().await;
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
        if !self.talk.has_line() {
            self.flush().await?;
        }
        let Door { waits, drain, .. } = &self.pop3.door;
        let deadline = line_deadline(self.session.is_logged_in(), waits, self.login_by)?;
        tokio::select! {
            biased;
            () = drain.started() => Ok(None),
            line = self.talk.wire.line(self.session.line_octets_max(), deadline) => Ok(Some(line?)),
        }
    }

    async fn carry_out(&mut self, step: Step) -> Result<Next, End> {
        match step {
            Step::Reply(reply) => self.say(&reply),
            Step::ClearRefused(reply) => {
                log_clear_refused(&self.client);
                self.say(&reply);
            }
            Step::Listing(reply) => {
                self.say(&reply);
                while self.session.more(self.talk.output()) {
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
        let began = Instant::now();
        let tried = tokio::select! {
            () = self.pop3.door.drain.started() => None,
            tried = self.pop3.logins.exclusive(&login, password, &self.client) => Some(tried),
        };
        let Some(tried) = tried else {
            let goodbye = self.session.shutdown_reply();
            self.say(&goodbye);
            return Ok(Next::Close(End::Shutdown));
        };
        self.login_by += began.elapsed();
        match tried {
            Ok(logged_in) => {
                let entries = logged_in.maildrop.entries();
                let (mailbox, mailbox_id) = (logged_in.login.clone(), logged_in.mailbox);
                let visit = Visit { login, mailbox, mailbox_id, since: Instant::now() };
                self.open = Some(Open { logged_in, visit, listed: entries.len() });
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

    /// A thread to read with, when it is this client's turn.
    async fn thread(&mut self) -> Result<Thread, End> {
        let pop3 = self.pop3;
        if let Some(thread) = pop3.logins.threads.turn(&pop3.door.drain, self.flush()).await? {
            return Ok(thread);
        }
        let goodbye = self.session.shutdown_reply();
        self.say(&goodbye);
        last_words(self.flush()).await;
        Err(End::Shutdown)
    }

    /// Streams a message. Until its first piece is there an error is a reply; after that, the end.
    async fn message(&mut self, index: usize, lines: Option<u64>) -> Result<(), End> {
        let thread = self.thread().await?;
        let Some(open) = &self.open else { return Err(End::Error) };
        let mut pieces = pump::start(Arc::clone(&open.logged_in.maildrop), index, lines, thread);
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
                    self.talk.say(&octets);
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
        let Some(open) = self.open.take() else { return Err(End::Error) };
        let fetched = self.session.fetched();
        let recorded = fetched.len();
        let done = open.logged_in.maildrop.finish(fetched, deleted).await;
        let end = match done {
            Ok(gone) => {
                self.log_visit(&open, (recorded, gone), End::Quit);
                End::Quit
            }
            Err(error) => {
                open.visit.log_failed_commit(&self.client, error);
                self.log_visit(&open, (recorded, 0), End::Error);
                End::Error
            }
        };
        drop(open);
        let reply = self.session.committed(done);
        self.say(&reply);
        Ok(Next::Close(end))
    }

    /// Ends the visit of a client that did not get to QUIT: what it fetched is recorded, nothing is deleted.
    async fn leave(&mut self, end: End) {
        let Some(open) = self.open.take() else { return };
        let fetched = self.session.fetched();
        let counts = (fetched.len(), 0);
        if !fetched.is_empty()
            && let Err(error) = open.logged_in.maildrop.finish(fetched, Vec::new()).await
        {
            open.visit.log_failed_commit(&self.client, error);
        }
        self.log_visit(&open, counts, end);
    }

    fn say(&mut self, reply: &str) {
        self.talk.say(reply.as_bytes());
        self.talk.say(b"\r\n");
    }

    async fn flush_if_much(&mut self) -> Result<(), End> {
        if self.talk.is_much() { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let login_by = (!self.session.is_logged_in()).then_some(self.login_by);
        self.talk.flush(login_by).await?;
        for index in self.unsent.drain(..) {
            self.session.mark_fetched(index);
        }
        Ok(())
    }

    /// Says why a message could not be read to its end, and what that means to the client.
    fn log_unreadable(&self, index: usize, failed: Option<PumpError>) -> FetchError {
        let (error, text) = match failed {
            Some(PumpError::Open(error)) => (error, error.to_string()),
            Some(PumpError::Read(error)) => (FetchError::of_read(&error), error.to_string()),
            None => (FetchError::Temporary, "the reader broke off".to_owned()),
        };
        // Nothing is wrong with it, and who keeps it has said so.
        if error == FetchError::LacksKey {
            return error;
        }
        if let Some(Open { logged_in, visit, .. }) = &self.open {
            let entries = logged_in.maildrop.entries();
            let uidl = entries.get(index).map(|entry| entry.uidl.as_str()).unwrap_or_default();
            let event = match error {
                FetchError::Damaged => "fetch.damaged",
                FetchError::Gone => "fetch.gone",
                _ => "fetch.unreadable",
            };
            let session_id = self.client.session_id;
            tracing::error!(event, %session_id, mailbox = visit.mailbox, uidl, error = text);
        }
        error
    }

    fn log_visit(&self, open: &Open, (fetched, deleted): (usize, usize), end: End) {
        let deeds = Deeds { listed: open.listed, fetched, octets: self.octets, deleted, ..Deeds::default() };
        open.visit.log(&self.client, &deeds, end);
    }
}
