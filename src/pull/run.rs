//! One visit at an account: log in, list, fetch, have it stored, remember that, and only then delete or mark it there.
//!
//! ```text
//! fetch ─▶ Reception::commit (durable) ─▶ state file (durable) ─▶ delete or mark at the account
//! ```
//! Killed at any point nothing is lost, and what is fetched twice adds nothing: the store knows it by its content.

use super::Gateway;
use super::account::{Account, Given, Item};
use super::credential::{refused_login, secret};
use super::fault::{Fault, FaultKind};
use super::state::State;
use super::talk::Intake;
use crate::config::{PullAfter, PullProtocol, Puller};
use crate::entra::Tokens;
use crate::mail::{
    Address, AddressKey, GatewayMailboxState, Pulled, ReceiptId, ReversePath, SessionId, TlsFacts,
    TransportEnvelope, Untrusted,
};
use crate::net::authorities::Authorities;
use crate::net::dial::{Dialled, dial};
use crate::net::drain::Drain;
use crate::observe::metrics;
use crate::smtp;
use crate::store::state_file::StateError;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// Messages fetched in one visit; when there are more the next follows at once. Over POP3 nothing is deleted before its end.
const VISIT_MESSAGES_MAX: usize = 2_000;
/// Messages fetched before the state is written and they are deleted.
const BATCH_MESSAGES: usize = 64;
/// Octets, likewise: a message more may come on top.
const BATCH_OCTETS: u64 = 64 * 1024 * 1024;
/// Messages stored at the same time: they share a sync of the disk.
const COMMITS_MAX: usize = 16;
/// Visits that may break at a message before it must wait for all others.
const BREAKS_MAX: u32 = 2;
/// Messages deleted or marked at once over IMAP: of these a refusal is.
const SETTLED_AT_ONCE: usize = 1_000;
/// What to do about a message that is stored here and stays at the account.
const NOT_SETTLED: &str =
    "may this login delete and mark there, and is there no hold? What comes is fetched all the same";

/// What a visit brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Messages fetched and stored.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// Messages that stay at the account, since they are larger than `[smtp] max_message_bytes`.
    pub left: u64,
    /// Messages that are stored here and still at the account, although they should not be: the next visit sees to them.
    pub unsettled: u64,
    /// There is more to fetch.
    pub more: bool,
    /// Why it ended before its work was done.
    pub fault: Option<Fault>,
}

/// Visits the account of `puller`. Ends soon when `drain` starts; what is being stored then is.
pub(super) async fn visit(
    gateway: &Gateway,
    puller: &Puller,
    tokens: Option<Arc<Tokens>>,
    drain: &Drain,
) -> Visit {
    let session_id = gateway.receiver.session_id();
    let began = Instant::now();
    let visit = Visit { messages: 0, octets: 0, left: 0, unsettled: 0, more: false, fault: None };
    let settings = gateway.settings.current();
    let octets_max = settings.smtp.max_message_bytes;
    let mut run = Run {
        gateway,
        puller,
        drain,
        session_id,
        octets_max,
        state: State::default(),
        visit,
        deleted: Vec::new(),
        aside: None,
    };
    let fault = run.go(tokens).await.err();
    let mut visit = run.visit;
    // What was broken off by us did not fail.
    visit.fault = fault.filter(|_| !drain.is_started());
    let Visit { messages, octets, left, unsettled, more, .. } = visit;
    let name = puller.name.as_str();
    metrics::pull_visit(visit.fault.as_ref().map_or("good", |fault| fault.kind.as_str()));
    if let Some(fault) = &visit.fault {
        let (kind, error, advice) = (fault.kind.as_str(), &fault.text, &fault.advice);
        tracing::warn!(event = "pull.failed", %session_id, puller = name, kind, error, advice);
    }
    if visit.fault.is_none() || messages > 0 {
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(
            event = "pull.session", %session_id, puller = name, messages, octets, left, unsettled, more, seconds,
        );
    }
    visit
}

/// What names an account.
pub(super) fn account_of(puller: &Puller) -> String {
    let (protocol, login, host, port) = (puller.protocol.as_str(), &puller.login, &puller.host, puller.port);
    match puller.protocol {
        PullProtocol::Imaps => format!("{protocol}://{login}@{host}:{port}/{}", puller.folder),
        PullProtocol::Pop3s => format!("{protocol}://{login}@{host}:{port}"),
    }
}

struct Run<'a> {
    gateway: &'a Gateway,
    puller: &'a Puller,
    drain: &'a Drain,
    session_id: SessionId,
    octets_max: u64,
    state: State,
    visit: Visit,
    /// What a POP3 server is to delete when the session ends well.
    deleted: Vec<String>,
    /// What is wrong with single messages, and with the session not.
    aside: Option<Fault>,
}

/// Where a message comes from and goes to.
struct Route {
    to: Address,
    peer: SocketAddr,
    tls: TlsFacts,
}

/// A message that was fetched, and whether it is stored.
struct Stored {
    item: Item,
    receipt_id: ReceiptId,
    octets: u64,
    outcome: Result<(), smtp::Fault>,
}

impl Run<'_> {
    async fn go(&mut self, tokens: Option<Arc<Tokens>>) -> Result<(), Fault> {
        let to = self.gateway_mailbox()?;
        self.read_state().await?;
        let secret = self.unless_ended(secret(self.puller, tokens.clone(), self.drain)).await?;
        let Dialled { stream, peer, tls } = self.unless_ended(self.connect()).await?;
        tracing::debug!(event = "pull.connected", session_id = %self.session_id, puller = self.puller.name, %peer);
        let logged_in = self.unless_ended(Account::log_in(self.puller, stream, &secret)).await;
        let account = logged_in.map_err(|fault| refused_login(fault, tokens.as_deref()))?;
        self.work(account, &Route { to, peer, tls }).await
    }

    /// Does all that is to be done at the account, the login being in.
    async fn work<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        mut account: Account<S>,
        route: &Route,
    ) -> Result<(), Fault> {
        let mut state = std::mem::take(&mut self.state);
        // Those that stay must not take the place of those that can be fetched.
        let most = VISIT_MESSAGES_MAX + state.staying();
        let list = account.list(self.puller, &mut state, most);
        let listing = self.unless_ended(list).await;
        self.state = state;
        let listing = listing?;
        self.visit.more = listing.more;
        if !listing.unsettled.is_empty() {
            self.settle(&mut account, &listing.unsettled).await?;
        }
        let items = self.without_too_large(listing.items);
        let fetched = self.fetch_in_order(&mut account, items, route).await;
        // What was done is worth keeping, whatever came of the rest.
        let written = self.write_state().await;
        // What went wrong here is nothing between us and the server: what is to be deleted there can be.
        let is_sound = |fault: &Fault| matches!(fault.kind, FaultKind::Store | FaultKind::State);
        let ended = match fetched.as_ref().err().is_none_or(is_sound) {
            true => self.end(account).await,
            false => Ok(()),
        };
        self.visit.unsettled = self.state.unsettled() as u64;
        fetched.and(written).and(ended)?;
        self.aside.take().map_or(Ok(()), Err)
    }

    /// Fetches these, and last those at which visits broke: what is to be deleted before is not to be lost by them.
    async fn fetch_in_order<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        account: &mut Account<S>,
        items: Vec<Item>,
        route: &Route,
    ) -> Result<(), Fault> {
        let (mut suspect, good): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| self.state.breaks(&item.id()) >= BREAKS_MAX);
        self.fetch_all(account, good, route).await?;
        if !self.deleted.is_empty() {
            self.visit.more |= !suspect.is_empty();
            return Ok(());
        }
        // Each has its turn to be first.
        suspect.sort_by_key(|item| self.state.breaks(&item.id()));
        self.fetch_all(account, suspect, route).await
    }

    /// Where the messages go: nothing is fetched for a gateway mailbox that could not take it.
    fn gateway_mailbox(&self) -> Result<Address, Fault> {
        let wanted = self.puller.mailbox.as_str();
        let key = AddressKey::of(wanted);
        let all = self.gateway.store.gateway_mailboxes();
        let served =
            all.iter().flat_map(|mailbox| mailbox.addresses.iter().map(move |served| (mailbox, served)));
        let mut found = served.filter(|(_, served)| {
            served.address.key() == key || AddressKey::of(served.address.local()) == key
        });
        let told = |why: &str| {
            Fault::new(FaultKind::Mailbox, format!("gateway mailbox {} {why}", Untrusted(wanted)))
        };
        let (mailbox, _) = found.next().ok_or_else(|| told("is not there"))?;
        if mailbox.role.is_journal() {
            return Err(told("has role journal, not ndr"));
        }
        if mailbox.state != GatewayMailboxState::Active {
            return Err(told("is suspended"));
        }
        mailbox.address().cloned().ok_or_else(|| told("has no address"))
    }

    async fn connect(&self) -> Result<Dialled, Fault> {
        let ca_file = self.puller.ca_file.clone();
        let read = move || ca_file.as_deref().map_or_else(|| Ok(Authorities::public()), Authorities::read);
        let authorities = blocking(read).await?.map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Fault::new(FaultKind::Tls, format!("ca_file: {error}{cause}"))
        })?;
        Ok(dial(&self.puller.host, self.puller.port, &authorities).await?)
    }

    async fn read_state(&mut self) -> Result<(), Fault> {
        let (data_dir, name) = (self.gateway.settings.current().data_dir.clone(), self.puller.name.clone());
        let account = account_of(self.puller);
        let read = blocking(move || State::read(&data_dir, &name, &account)).await?;
        let (state, forgotten) = read.map_err(|error: StateError| {
            Fault::new(FaultKind::State, format!("what was fetched before cannot be told: {error}"))
        })?;
        if let Some(why) = forgotten {
            let (session_id, puller) = (self.session_id, self.puller.name.as_str());
            tracing::warn!(event = "pull.state_forgotten", %session_id, puller, why);
        }
        self.state = state;
        Ok(())
    }

    async fn write_state(&self) -> Result<(), Fault> {
        let (data_dir, name) = (self.gateway.settings.current().data_dir.clone(), self.puller.name.clone());
        let state = self.state.clone();
        blocking(move || state.write(&data_dir, &name)).await?.map_err(|error| {
            Fault::new(FaultKind::State, format!("what was fetched cannot be written down: {error}"))
        })
    }

    /// Messages that are not too large; the others stay where they are, and are told of once.
    fn without_too_large(&mut self, items: Vec<Item>) -> Vec<Item> {
        let mut small = Vec::with_capacity(items.len());
        for item in items {
            let octets = item.octets.max(self.state.left(&item.id()).unwrap_or(0));
            if octets > self.octets_max {
                self.leave(&item, octets);
            } else {
                small.push(item);
            }
        }
        small
    }

    fn leave(&mut self, item: &Item, octets: u64) {
        self.visit.left += 1;
        let id = item.id();
        if self.state.note_left(&id, octets) {
            let (session_id, puller, octets_max) =
                (self.session_id, self.puller.name.as_str(), self.octets_max);
            tracing::warn!(event = "pull.left", %session_id, puller, uid = %Untrusted(&id), octets, octets_max);
        }
    }

    async fn fetch_all<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        account: &mut Account<S>,
        items: Vec<Item>,
        route: &Route,
    ) -> Result<(), Fault> {
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let mut batch = Batch::default();
            while batch.octets < BATCH_OCTETS && batch.items < BATCH_MESSAGES && batch.fault.is_none() {
                let Some(item) = items.next() else { break };
                batch.items += 1;
                batch.fault = self.fetch(account, item, route, &mut batch).await.err();
            }
            self.reap(&mut batch, 0).await;
            if !batch.done.is_empty() {
                self.write_state().await?;
            }
            if let Some(fault) = batch.fault {
                return Err(fault);
            }
            self.settle(account, &batch.done).await?;
        }
        Ok(())
    }

    /// Fetches one message and begins to store it. What is wrong with this one alone is kept aside.
    async fn fetch<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        account: &mut Account<S>,
        item: Item,
        route: &Route,
        batch: &mut Batch,
    ) -> Result<(), Fault> {
        let receiver = &self.gateway.receiver;
        let receipt_id = receiver.receipt_id();
        let mut reception = receiver.begin(receipt_id, self.envelope(route)).map_err(not_stored)?;
        reception.favour();
        let mut intake = Intake::new(reception.as_mut(), self.octets_max);
        let given = self.unless_ended(account.fetch(&item, &mut intake)).await;
        let (octets, fault) = (intake.octets, intake.fault);
        if octets > self.octets_max {
            self.leave(&item, octets);
        }
        match given.map_err(|fault| self.broken(&item.id(), fault))? {
            Given::Gone => return Ok(()),
            Given::Refused(said) => {
                // It is tried again at every visit, and nobody must think that all is well.
                let id = item.id();
                let text = format!("message {} is not given: the server says {said}", Untrusted(&id));
                self.aside.get_or_insert_with(|| Fault::new(FaultKind::Message, text));
                return Ok(());
            }
            Given::Whole => {}
        }
        if let Some(fault) = fault {
            return Err(not_stored(fault));
        }
        batch.octets += octets;
        batch.commits.spawn(async move {
            let outcome = reception.commit().await;
            Stored { item, receipt_id, octets, outcome }
        });
        self.reap(batch, COMMITS_MAX).await;
        Ok(())
    }

    /// The session broke at this message. If it does so again and again, that is of the message, and not of the server.
    fn broken(&mut self, id: &str, fault: Fault) -> Fault {
        if self.drain.is_started() {
            return fault;
        }
        let is_known = self.state.breaks(id) >= BREAKS_MAX;
        self.state.note_broken(id);
        match is_known {
            true => Fault::new(
                FaultKind::Message,
                format!("every visit ends at message {}: {}", Untrusted(id), fault.text),
            ),
            false => fault,
        }
    }

    fn envelope(&self, route: &Route) -> TransportEnvelope {
        let Puller { name, host, protocol, .. } = self.puller;
        TransportEnvelope {
            session_id: self.session_id,
            peer: route.peer,
            helo: host.clone(),
            tls: Some(route.tls.clone()),
            reverse_path: ReversePath::Null,
            recipients: vec![route.to.clone()],
            smtputf8: false,
            pulled: Some(Box::new(Pulled {
                by: name.clone(),
                host: host.clone(),
                protocol: protocol.as_str().to_owned(),
            })),
        }
    }

    /// Waits until at most so many messages of the batch are being stored.
    async fn reap(&mut self, batch: &mut Batch, at_once: usize) {
        while batch.commits.len() > at_once {
            let Some(stored) = batch.commits.join_next().await else { return };
            let stored = match stored {
                Ok(stored) => stored,
                Err(_panicked) => {
                    batch.fault.get_or_insert(not_stored(smtp::Fault::Internal));
                    continue;
                }
            };
            let Stored { item, receipt_id, octets, outcome } = stored;
            if let Err(fault) = outcome {
                batch.fault.get_or_insert(not_stored(fault));
                continue;
            }
            let id = item.id();
            let (session_id, puller) = (self.session_id, self.puller.name.as_str());
            tracing::info!(event = "pull.fetched", %receipt_id, %session_id, puller, uid = %Untrusted(&id), octets);
            metrics::pull_message(octets);
            self.visit.messages += 1;
            self.visit.octets += octets;
            self.state.note_done(&id, item.uid(), self.puller.after != PullAfter::Keep);
            batch.done.push(item);
        }
    }

    /// Deletes or marks what is stored and known to be. What the server refuses stays to be done, and is kept aside.
    async fn settle<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        account: &mut Account<S>,
        items: &[Item],
    ) -> Result<(), Fault> {
        let at_once = match self.puller.protocol {
            PullProtocol::Imaps => SETTLED_AT_ONCE,
            PullProtocol::Pop3s => 1,
        };
        for part in items.chunks(at_once) {
            let ids = || part.iter().map(Item::id).collect::<Vec<_>>();
            match self.unless_ended(account.settle(self.puller.after, part)).await {
                Ok(true) => self.state.note_settled(&ids()),
                Ok(false) if self.puller.protocol == PullProtocol::Pop3s => self.deleted.extend(ids()),
                Ok(false) => {}
                Err(fault) if fault.kind == FaultKind::Message => {
                    self.aside.get_or_insert_with(|| fault.advised(NOT_SETTLED));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Ends the session; with it a POP3 server has deleted what it should.
    async fn end<S: AsyncRead + AsyncWrite + Unpin>(&mut self, account: Account<S>) -> Result<(), Fault> {
        if self.unless_ended(account.log_out()).await? {
            self.state.note_settled(&self.deleted);
        }
        self.write_state().await
    }

    /// Waits for what the network brings, but not once the end has begun.
    async fn unless_ended<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            () = self.drain.started() => Err(Fault::new(FaultKind::Unreachable, "it was told to end")),
            done = work => done,
        }
    }
}

/// Messages between two writings of the state.
#[derive(Default)]
struct Batch {
    commits: JoinSet<Stored>,
    done: Vec<Item>,
    items: usize,
    octets: u64,
    fault: Option<Fault>,
}

fn not_stored(fault: smtp::Fault) -> Fault {
    Fault::new(FaultKind::Store, format!("a message could not be stored: {fault}"))
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Fault::new(FaultKind::State, "a bug: the log says where").advised("see the log"))
}

#[cfg(test)]
mod tests;
