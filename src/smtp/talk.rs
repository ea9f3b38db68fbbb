//! One connection: carries out on the wire what [`Session`] says.
//!
//! A loop of step and effect. This file decides *when* (deadlines, flushing, drain) and never *what*: no line is parsed and no
//! reply is worded here.
//!
//! Invariants:
//! - A connection holds one read buffer, [`IDLE_OCTETS`] between commands and [`BODY_OCTETS`] inside a body,
//!   and one buffer of replies not larger than `REPLIES_OCTETS_MAX` and the reply that overran it.
//! - A commit runs in a task of its own: a peer that hangs up, or a connection dropped at the end of a
//!   drain, does not stop it half-way.
//! - Whoever guesses addresses waits for the refusal, holding nothing but its connection; a drain ends the wait.
//! - A drain is noticed between commands, where it is answered `421`; a message on its way in may be
//!   finished until the drain deadline of the accept loop.
//! - What a peer sent is logged only through [`Untrusted`]; addresses and content never are.
//!
//! Events: `smtp.tls`, `smtp.tls_failed`, `smtp.accepted`, `smtp.refused` (5xx, and 4xx for which the peer is to blame),
//! `smtp.deferred` (4xx of ours or the operator's), `smtp.broken_off`, `smtp.body_refused` (it may have been a report), `smtp.enough` (a connection
//! that was of enough use).

use super::pace::Pace;
use super::reply::{Blame, Outcome, Reply};
use super::server::{BODY_OCTETS, Server, Settings};
use super::session::{Effect, Policy, RefusedBody, Session, Step, TurnedAway};
use super::{Fault, Reception};
use crate::mail::{ReceiptId, SessionId, TlsFacts, TransportEnvelope, Untrusted};
use crate::net::listen::Arrival;
use crate::net::stream::UpgradeError;
use crate::net::wire::{IDLE_OCTETS, Wire, WireError};
use crate::observe::metrics;
use rustls_pki_types::UnixTime;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Replies are sent at the latest when there are this many octets of them.
const REPLIES_OCTETS_MAX: usize = 16 * 1024;
/// How long a closed connection is kept to let the last reply arrive.
const LINGER: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// We said the last word: QUIT, a refusal that ends the session, a drain, a deadline.
    Closed,
    /// The peer hung up.
    HungUp,
    /// The peer does not take our replies.
    Stuck,
    /// The connection broke.
    Broken,
    /// The TLS handshake failed.
    Handshake,
}

impl End {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            End::Closed => "closed",
            End::HungUp => "hung_up",
            End::Stuck => "stuck",
            End::Broken => "broken",
            End::Handshake => "handshake",
        }
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> End {
        match error {
            WireError::Closed => End::HungUp,
            WireError::Deadline => End::Stuck,
            WireError::Full | WireError::Endless | WireError::Io(_) => End::Broken,
        }
    }
}

/// What waiting for the peer brought.
enum Waited {
    /// Octets, or the age at which the session ends by itself.
    GoOn,
    TooLong,
    Drained,
}

/// One connection in progress.
pub(super) struct Talk<'s> {
    server: &'s Server,
    /// In force when the connection began.
    settings: Arc<Settings>,
    session: Session,
    session_id: SessionId,
    peer: SocketAddr,
    reception: Option<Box<dyn Reception>>,
    /// Replies not sent yet, in their wire form.
    replies: Vec<u8>,
    /// By when the command line being awaited must be complete.
    line_deadline: Option<Instant>,
    /// From when on the session ends between two messages.
    old_at: Instant,
    /// The [`Admission`](crate::net::admission::Admission) favours the peer.
    is_favoured: bool,
    pace: Pace,
    pub(super) messages: u64,
}

impl<'s> Talk<'s> {
    pub(super) fn new(
        server: &'s Server,
        session_id: SessionId,
        Arrival { peer, is_favoured }: Arrival,
    ) -> Talk<'s> {
        let settings = server.settings.current();
        let policy = Policy {
            hostname: settings.hostname.clone(),
            message_octets_max: settings.message_octets_max,
            tls_offered: server.tls.is_some(),
            require_tls: settings.require_tls,
            recipients_max: settings.recipients_max,
            errors_max: settings.errors_max,
            messages_max: settings.messages_max,
            tarpit_max: settings.tarpit_max,
        };
        Talk {
            server,
            session: Session::new(policy, session_id, peer).favoured(is_favoured),
            session_id,
            peer,
            reception: None,
            replies: Vec::new(),
            line_deadline: None,
            old_at: Instant::now() + settings.timeouts.session,
            is_favoured,
            pace: Pace::new(settings.timeouts.body),
            settings,
            messages: 0,
        }
    }

    /// Talks to the end.
    pub(super) async fn run(&mut self, wire: Wire) -> End {
        match self.converse(wire).await {
            Ok(wire) => {
                wire.close(LINGER).await;
                End::Closed
            }
            Err(end) => end,
        }
    }

    /// Steps until the session is over. `Ok` is the connection to close in good order.
    async fn converse(&mut self, mut wire: Wire) -> Result<Wire, End> {
        loop {
            if Instant::now() >= self.old_at {
                self.session.grow_old();
            }
            let Step { consumed, effect } = self.session.step(wire.buffered());
            if !matches!(effect, Effect::Input) {
                self.line_deadline = None;
            }
            match effect {
                Effect::Input => {
                    wire.consume(consumed);
                    self.flush(&mut wire).await?;
                    self.await_octets(&mut wire).await?;
                    continue;
                }
                Effect::Body(octets) => self.body(octets).await,
                Effect::StartTls => {
                    wire.consume(consumed);
                    wire = self.start_tls(wire).await?;
                    continue;
                }
                Effect::Close => {
                    self.flush(&mut wire).await?;
                    return Ok(wire);
                }
                Effect::Discard => self.reception = None,
                Effect::Commit => self.commit().await,
                Effect::Reply(reply) => self.answer(&mut wire, &reply).await?,
                Effect::Open(octets) => {
                    let receiver = &self.server.receiver;
                    let reply = self.session.opened(receiver.room(octets).map(|()| receiver.receipt_id()));
                    self.say(&reply);
                }
                Effect::Recipient(address) => {
                    let (already, peer) = (self.session.recipients(), self.session.peer());
                    let verdict = self.server.receiver.recipient(&address, already, &peer);
                    let reply = self.session.recipient(verdict);
                    self.answer(&mut wire, &reply).await?;
                }
                Effect::Begin(envelope) => self.begin(envelope),
            }
            wire.consume(consumed);
            if self.replies.len() >= REPLIES_OCTETS_MAX {
                self.flush(&mut wire).await?;
            }
        }
    }

    fn begin(&mut self, envelope: TransportEnvelope) {
        self.pace = Pace::new(self.settings.timeouts.body);
        let opened = match self.session.receipt_id() {
            Some(receipt_id) => self.server.receiver.begin(receipt_id, envelope),
            None => Err(Fault::Internal),
        };
        let result = opened.map(|mut reception| {
            if self.is_favoured {
                reception.favour();
            }
            self.reception = Some(reception);
        });
        if let Some(reply) = self.session.begun(result) {
            self.say(&reply);
        }
    }

    async fn body(&mut self, octets: &[u8]) {
        if octets.is_empty() {
            return;
        }
        let began = Instant::now();
        let result = match &mut self.reception {
            Some(reception) => reception.write(octets).await,
            None => Err(Fault::Internal),
        };
        self.pace.stored(began.elapsed());
        if let Err(fault) = result {
            self.reception = None;
            self.session.body_failed(fault);
        }
    }

    async fn commit(&mut self) {
        let result = match self.reception.take() {
            Some(reception) => tokio::spawn(reception.commit()).await.unwrap_or(Err(Fault::Internal)),
            None => Err(Fault::Internal),
        };
        if result.is_ok() {
            self.messages += 1;
            let receipt_id = self.session.receipt_id().map(tracing::field::display);
            tracing::info!(event = "smtp.accepted", receipt_id, session_id = %self.session_id, peer = %self.peer);
        }
        let reply = self.session.committed(result);
        self.say(&reply);
    }

    async fn start_tls(&mut self, mut wire: Wire) -> Result<Wire, End> {
        let Some(tls) = &self.server.tls else {
            return Err(End::Handshake);
        };
        self.say(&Outcome::SendHandshake.into());
        self.flush(&mut wire).await?;
        self.reception = None;
        let asking = tls.asking();
        match wire.upgrade(asking.config(), self.settings.timeouts.handshake).await {
            Ok(wire) => {
                if let Some(mut facts) = wire.stream().tls_facts() {
                    facts.client_certificate =
                        asking.client_certificate(wire.stream(), UnixTime::now()).await;
                    self.log_handshake(&facts);
                    self.session.tls_started(facts);
                    self.tell_turned_away();
                }
                Ok(wire)
            }
            Err(error) => {
                self.log_failed_handshake(&error);
                Err(End::Handshake)
            }
        }
    }

    /// Waits for octets, or says why none will be waited for any longer.
    async fn await_octets(&mut self, wire: &mut Wire) -> Result<(), End> {
        let waited = if self.session.is_in_body() {
            self.await_body(wire).await?
        } else {
            wire.shrink();
            self.await_line(wire).await?
        };
        let farewell = match waited {
            Waited::GoOn => return Ok(()),
            Waited::TooLong => self.session.timed_out(),
            Waited::Drained => self.session.shut_down(),
        };
        self.reception = None;
        self.say(&farewell);
        Ok(())
    }

    async fn await_line(&mut self, wire: &mut Wire) -> Result<Waited, End> {
        let receiving = self.session.is_receiving();
        if !receiving {
            self.pace = Pace::new(self.settings.timeouts.body);
        }
        let began = Instant::now();
        let line_deadline = *self.line_deadline.get_or_insert(began + self.settings.timeouts.command);
        let old_at = (!receiving).then_some(self.old_at);
        // Between two chunks the message is under way: a peer that drips lines must not hold it for longer than one that
        // drips octets.
        let paced = receiving.then(|| self.pace.deadline(began));
        if paced.is_some_and(|paced| paced <= began) {
            return Ok(Waited::TooLong);
        }
        let deadline = [old_at, paced].into_iter().flatten().fold(line_deadline, Instant::min);
        let filled = tokio::select! {
            biased;
            () = self.server.drain.started(), if !receiving => return Ok(Waited::Drained),
            filled = wire.fill(IDLE_OCTETS, deadline) => filled,
        };
        if receiving {
            self.pace.read(began.elapsed(), *filled.as_ref().unwrap_or(&0));
        }
        match waited(filled)? {
            Waited::TooLong if old_at == Some(deadline) => Ok(Waited::GoOn),
            waited => Ok(waited),
        }
    }

    async fn await_body(&mut self, wire: &mut Wire) -> Result<Waited, End> {
        let began = Instant::now();
        let deadline = self.pace.deadline(began);
        if deadline <= began {
            return Ok(Waited::TooLong);
        }
        let filled = wire.fill(BODY_OCTETS, deadline).await;
        if let Ok(octets) = &filled {
            self.pace.read(began.elapsed(), *octets);
        }
        waited(filled)
    }

    async fn flush(&mut self, wire: &mut Wire) -> Result<(), End> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + self.settings.timeouts.reply;
        wire.send(&self.replies, deadline).await?;
        self.replies.clear();
        self.replies.shrink_to(IDLE_OCTETS);
        Ok(())
    }

    /// Says it, and not before its time. What was said before does not wait with it.
    async fn answer(&mut self, wire: &mut Wire, reply: &Reply) -> Result<(), End> {
        if !reply.delay.is_zero() {
            self.flush(wire).await?;
            tokio::select! {
                () = self.server.drain.started() => {}
                () = tokio::time::sleep(reply.delay) => {}
            }
        }
        self.say(reply);
        Ok(())
    }

    fn say(&mut self, reply: &Reply) {
        reply.write_to(&mut self.replies);
        metrics::smtp_reply(reply.code);
        let drawn = self.tell_turned_away();
        if reply.is_refusal() {
            self.log_refusal(reply, self.session.receipt_id().or(drawn));
        }
        if let Some(body) = self.session.take_refused_body() {
            self.tell_refused_body(&body);
        }
    }

    /// Hands on what was turned away, if anything was; gives the id it has on record, drawn for what was refused at MAIL.
    fn tell_turned_away(&mut self) -> Option<ReceiptId> {
        let told = self.session.take_turned_away()?;
        let receiver = &self.server.receiver;
        let receipt_id = told.receipt_id.unwrap_or_else(|| receiver.receipt_id());
        if told.reply.is_none() {
            self.log_broken_off(receipt_id, &told);
        }
        receiver.turned_away(receipt_id, told);
        Some(receipt_id)
    }

    fn log_broken_off(&self, receipt_id: ReceiptId, told: &TurnedAway) {
        let (session_id, peer) = (&self.session_id, &self.peer);
        let octets = told.octets_received;
        tracing::info!(event = "smtp.broken_off", %receipt_id, %session_id, %peer, octets);
    }

    /// The peer is at fault, and yet a person must look: the report may be lost.
    fn tell_refused_body(&self, body: &RefusedBody) {
        let RefusedBody { receipt_id, reason, octets } = body;
        let (session_id, peer, reason) = (&self.session_id, &self.peer, reason.as_str());
        let receipt_id = receipt_id.map(tracing::field::display);
        tracing::error!(event = "smtp.body_refused", receipt_id, %session_id, %peer, reason, octets);
        metrics::smtp_refused_body(reason);
        self.server.receiver.body_refused(body);
    }

    fn log_refusal(&self, reply: &Reply, receipt_id: Option<ReceiptId>) {
        let receipt_id = receipt_id.map(tracing::field::display);
        let session_id = &self.session_id;
        let peer = &self.peer;
        let helo = self.session.helo().map(|name| tracing::field::display(Untrusted(name)));
        let (code, enhanced, blame) = (reply.code, reply.enhanced, reply.blame.as_str());
        match reply.blame {
            Blame::Ours => {
                tracing::error!(event = "smtp.deferred", receipt_id, %session_id, %peer, code, enhanced, blame);
            }
            Blame::Operator => {
                tracing::warn!(event = "smtp.deferred", receipt_id, %session_id, %peer, code, enhanced, blame);
            }
            Blame::Nobody => {
                tracing::info!(event = "smtp.enough", %session_id, %peer, code, enhanced, messages = self.messages);
            }
            Blame::Peer => {
                tracing::warn!(event = "smtp.refused", receipt_id, %session_id, %peer, helo, code, enhanced);
            }
        }
    }

    fn log_handshake(&self, facts: &TlsFacts) {
        let shown = facts.client_certificate.as_ref();
        let names = shown.map(|shown| shown.dns_names.join(" "));
        tracing::info!(
            event = "smtp.tls",
            session_id = %self.session_id,
            version = facts.version,
            cipher = facts.cipher,
            client_certificate = shown.map(|shown| shown.sha256.as_str()),
            client_chain = shown.map(|shown| shown.chain.as_str()),
            client_proven = shown.map(|shown| shown.proven),
            client_names = names.as_deref().map(|names| tracing::field::display(Untrusted(names))),
        );
    }

    fn log_failed_handshake(&self, error: &UpgradeError) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let (session_id, peer) = (&self.session_id, &self.peer);
        tracing::warn!(
            event = "smtp.tls_failed",
            %session_id,
            %peer,
            %error,
            cause = %Untrusted(&cause),
        );
    }
}

impl Drop for Talk<'_> {
    /// However a connection ends, also when a drain cuts it: what it was in the middle of was not taken.
    fn drop(&mut self) {
        self.session.broken_off();
        self.tell_turned_away();
    }
}

fn waited(filled: Result<usize, WireError>) -> Result<Waited, End> {
    match filled {
        Ok(_) => Ok(Waited::GoOn),
        Err(WireError::Deadline) => Ok(Waited::TooLong),
        Err(error) => Err(error.into()),
    }
}
