//! One connection between its greeting and its end: carries out what the session says.
//!
//! Invariants:
//! - The end, of whatever kind, is one line in the log for a client that was logged in, and its fetches are on record before it.
//! - A literal that cannot be finished is followed by nothing: the connection is dropped without a goodbye.
//! - Whoever is told to go hears BYE, unless a literal is on its way.

use super::server::Imap;
use super::session::Session;
use super::stay::{self, Stay, log_broken};
use super::step::{FetchJob, Fetched, Numbered, SearchError, SearchJob, Step};
use super::stream::{self, Piece};
use super::{idle, watched};
use crate::fetch::auth::{LoginRefusal, Password};
use crate::fetch::door::Door;
use crate::fetch::maildrop::{Client, FetchError};
use crate::fetch::talk::{End, Talk, last_words, line_deadline};
use crate::fetch::threads::Thread;
use crate::fetch::visit::log_clear_refused;
use crate::net::wire::{Line, Wire};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, sleep_until};
use zeroize::Zeroize;

/// How long a FETCH may go on once the server ends; what was sent whole is recorded then. Less than what the service waits for.
const DRAIN_FETCH_WAIT: Duration = Duration::from_secs(20);
/// Said to a client that was silent for too long.
pub(super) const SILENT_TOO_LONG: &[u8] = b"* BYE Silent for too long\r\n";

/// What follows a step.
enum Next {
    Line,
    StartTls,
    /// The conversation is over in good order.
    Close(End),
}

/// One connection at work.
pub(super) struct Conversation<'a, S> {
    imap: &'a Imap,
    pub(super) talk: Talk<S>,
    pub(super) session: Session,
    pub(super) client: Client,
    pub(super) stay: Option<Stay>,
    /// When the client must be logged in.
    login_by: Instant,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Send> Conversation<'a, S> {
    pub(super) fn new(
        imap: &'a Imap,
        wire: Wire<S>,
        session: Session,
        client: Client,
        login_by: Instant,
    ) -> Conversation<'a, S> {
        let talk = Talk::new(wire, imap.door.waits.write);
        Conversation { imap, talk, session, client, stay: None, login_by }
    }

    /// Says the greeting, to be sent with the first flush.
    pub(super) fn greet(&mut self) {
        let greeting = self.session.greeting();
        self.talk.say(&greeting);
    }

    pub(super) fn door(&self) -> &'a Door {
        &self.imap.door
    }

    /// Talks until the connection ends; gives it back when the client wants TLS and has been told to begin.
    pub(super) async fn run(mut self) -> Option<(Wire<S>, Session)> {
        let end = loop {
            match self.turn().await {
                Ok(Next::Line) => {}
                Ok(Next::StartTls) => return Some((self.talk.wire, self.session)),
                Ok(Next::Close(end)) => {
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
        let line = match self.line().await {
            Err(End::Timeout) => {
                self.talk.say(SILENT_TOO_LONG);
                return Ok(Next::Close(End::Timeout));
            }
            line => line?,
        };
        let step = match line {
            None => return Ok(self.shut_down()),
            Some(Line::TooLong) => self.session.too_long(),
            Some(Line::Complete(mut line)) => {
                let step = self.session.line(&line);
                line.zeroize();
                step
            }
        };
        self.carry_out(step).await
    }

    fn shut_down(&mut self) -> Next {
        let goodbye = self.session.shutdown_reply();
        self.talk.say(&goodbye);
        Next::Close(End::Shutdown)
    }

    /// The next line; `None` when the server goes down.
    async fn line(&mut self) -> Result<Option<Line>, End> {
        if !self.talk.has_line() {
            self.flush().await?;
            self.talk.wire.shrink();
        }
        let Door { waits, drain, .. } = self.door();
        let deadline = line_deadline(self.session.is_logged_in(), waits, self.login_by)?;
        let line = self.talk.wire.line(self.session.line_octets_max(), deadline);
        tokio::pin!(line);
        loop {
            let due = self.stay.as_ref().and_then(Stay::due);
            tokio::select! {
                biased;
                () = drain.started() => return Ok(None),
                line = &mut line => return Ok(Some(line?)),
                () = at(due) => {
                    if let Some(stay) = &mut self.stay {
                        stay.record_when_due(&self.client).await;
                    }
                }
            }
        }
    }

    /// The octets of a literal; `None` when the server goes down.
    async fn literal(&mut self, octets: usize) -> Result<Option<Vec<u8>>, End> {
        if self.talk.wire.buffered().len() < octets {
            self.flush().await?;
        }
        let Door { waits, drain, .. } = self.door();
        // It was announced, so it is on its way: nobody needs half an hour for it.
        let soon = Instant::now() + waits.login;
        let deadline = if self.session.is_logged_in() { soon } else { self.login_by };
        tokio::select! {
            biased;
            () = drain.started() => Ok(None),
            literal = self.talk.wire.octets(octets, deadline) => Ok(Some(literal?)),
        }
    }

    async fn carry_out(&mut self, mut step: Step) -> Result<Next, End> {
        loop {
            step = match step {
                Step::Reply(reply) | Step::Challenge(reply) => {
                    self.talk.say(&reply);
                    self.flush_if_much().await?;
                    return Ok(Next::Line);
                }
                Step::ClearRefused(reply) => {
                    log_clear_refused(&self.client);
                    self.talk.say(&reply);
                    return Ok(Next::Line);
                }
                Step::Literal { send, octets } => {
                    self.talk.say(&send);
                    let Some(mut literal) = self.literal(octets).await? else { return Ok(self.shut_down()) };
                    let step = self.session.literal(&literal);
                    literal.zeroize();
                    step
                }
                Step::StartTls(reply) => {
                    self.talk.say(&reply);
                    self.flush().await?;
                    return Ok(Next::StartTls);
                }
                Step::Login { login, password } => self.log_in(login, password).await,
                Step::Ask(output, ask) => {
                    self.talk.say(&output);
                    if ask.is_after_fetches() {
                        // What was fetched is what was sent: only then do we know.
                        self.flush().await?;
                    }
                    let Some(stay) = &mut self.stay else { return Err(End::Error) };
                    let answer = stay.answer(ask, &self.client).await;
                    self.session.answered(answer)
                }
                Step::Fetch(job) => {
                    let fetched = self.fetch(job).await?;
                    self.session.fetched(fetched)
                }
                Step::Search(job) => {
                    let found = self.search(job).await?;
                    self.session.searched(found)
                }
                Step::Idle(reply) => {
                    self.talk.say(&reply);
                    match idle::wait(self).await? {
                        Some(step) => step,
                        None => return Ok(Next::Line),
                    }
                }
                Step::Close(reply) => return self.close(&reply).await,
            };
        }
    }

    /// The last words of the session.
    async fn close(&mut self, reply: &[u8]) -> Result<Next, End> {
        if !self.session.is_logged_out() {
            self.talk.say(reply);
            return Ok(Next::Close(End::Drop));
        }
        // On record before the client hears that all is done.
        self.flush().await?;
        if let Some(stay) = &mut self.stay {
            stay.record(&self.client).await;
        }
        self.talk.say(reply);
        Ok(Next::Close(End::Quit))
    }

    async fn log_in(&mut self, login: String, password: Password) -> Step {
        let began = Instant::now();
        let tried = tokio::select! {
            () = self.door().drain.started() => return Step::Close(self.session.shutdown_reply()),
            tried = self.imap.logins.folders(&login, password, &self.client) => tried,
        };
        self.login_by += began.elapsed();
        let refusal = match tried {
            Ok(entered) => match stay::account(&entered, &self.client).await {
                Ok(account) => {
                    self.stay = Some(Stay::new(entered, login));
                    return self.session.logged_in(account);
                }
                Err(_logged) => LoginRefusal::Unavailable,
            },
            Err(refusal) => refusal,
        };
        self.session.login_refused(refusal)
    }

    /// A thread to read with, when it is this client's turn.
    async fn thread(&mut self) -> Result<Thread, End> {
        let imap = self.imap;
        if let Some(thread) = imap.logins.threads.turn(&imap.door.drain, self.flush()).await? {
            return Ok(thread);
        }
        let goodbye = self.session.shutdown_reply();
        self.talk.say(&goodbye);
        last_words(self.flush()).await;
        Err(End::Shutdown)
    }

    /// Fetches and sends what comes of it.
    async fn fetch(&mut self, job: FetchJob) -> Result<Fetched, End> {
        let thread = self.thread().await?;
        let Some(stay) = &self.stay else { return Err(End::Error) };
        let Some(folder) = stay.folder() else { return Err(End::Error) };
        let pieces = stream::start(folder, job, stay.kept(), thread);
        let drain = self.door().drain.clone();
        tokio::select! {
            fetched = self.send(pieces) => fetched,
            () = async { drain.started().await; sleep(DRAIN_FETCH_WAIT).await } => Err(End::Shutdown),
        }
    }

    async fn send(&mut self, mut pieces: Receiver<Piece>) -> Result<Fetched, End> {
        let mut seen = Vec::new();
        loop {
            let piece = pieces.recv().await;
            let Some(stay) = &mut self.stay else { return Err(End::Error) };
            match piece {
                Some(Piece::Octets(octets)) => {
                    stay.octets += octets.len() as u64;
                    self.talk.say(&octets);
                    self.flush_if_much().await?;
                }
                Some(Piece::Whole(uid)) => stay.note_whole(uid),
                Some(Piece::Seen(uid)) => seen.push(uid),
                Some(Piece::End(ended)) => {
                    let seen = stay.see(seen, &self.client).await;
                    return Ok(Fetched { seen, gone: ended.gone, failed: ended.failed });
                }
                Some(Piece::Broken) => {
                    self.log_damaged();
                    return Err(End::Error);
                }
                None => {
                    log_broken(&self.client, &"fetching broke off");
                    return Err(End::Error);
                }
            }
        }
    }

    async fn search(&mut self, job: SearchJob) -> Result<Result<Vec<Numbered>, SearchError>, End> {
        // What was said so far must not wait for it.
        self.flush().await?;
        let Some(stay) = &mut self.stay else { return Err(End::Error) };
        stay.searches += 1;
        // It may take long. A failure is logged and tried again.
        stay.record(&self.client).await;
        let Some(folder) = stay.folder() else { return Err(End::Error) };
        let turn = tokio::select! {
            () = self.imap.door.drain.started() => return Ok(Err(SearchError::Failed(FetchError::Temporary))),
            turn = Arc::clone(&self.imap.searches).acquire_owned() => turn.map_err(|_closed| End::Error)?,
        };
        let held = (turn, self.thread().await?);
        let search = watched::Search::start(folder, job, held);
        let found = search.end(&mut self.talk.wire, &self.imap.door).await?;
        Ok(found.unwrap_or_else(|panic| {
            log_broken(&self.client, &panic);
            Err(SearchError::Failed(FetchError::Temporary))
        }))
    }

    /// Ends the stay of a client that was logged in.
    async fn leave(&mut self, end: End) {
        if let Some(stay) = self.stay.take() {
            stay.end(&self.client, self.session.client(), end).await;
        }
    }

    async fn flush_if_much(&mut self) -> Result<(), End> {
        if self.talk.is_much() { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> Result<(), End> {
        let login_by = (!self.session.is_logged_in()).then_some(self.login_by);
        self.talk.flush(login_by).await?;
        if let Some(stay) = &mut self.stay {
            stay.note_sent();
            stay.record_when_due(&self.client).await;
        }
        Ok(())
    }

    fn log_damaged(&self) {
        let mailbox = self.stay.as_ref().map(Stay::mailbox).unwrap_or_default();
        let session_id = self.client.session_id;
        let error = "a message could not be read to its end";
        tracing::error!(event = "fetch.damaged", %session_id, mailbox, error);
    }
}

/// Waits until then; for ever when there is no such time.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
