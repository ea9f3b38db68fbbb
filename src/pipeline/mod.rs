//! The conveyor: from the first octet of a message to the 250, in one pass.
//!
//! ```text
//! smtp ─▶ Reception: gather (memory, then an encrypted spool) and scan
//!           └─ at the end ─▶ extract ─▶ digest ─▶ per gateway mailbox: judge, assign, seal ─▶ store.deliver ─▶ 250
//! ```
//!
//! This room calls the pure cores in order and maps every failure to an answer. It holds no protocol and no format of its
//! own but the sealed summary ([`MessageSummary`](crate::mail::MessageSummary)).
//!
//! Invariants:
//! - A message is either delivered to the store whole, for every gateway mailbox it was addressed to, or answered 4xx.
//! - A bug in extraction or assignment loses nothing: the panic is caught, the message goes to Quarantine as it came.
//! - What is held back for its verdict is read and stored as any other message, and placed in Quarantine alone. Neither that nor
//!   what was read with doubts is ever "the same again" as another message, nor the other way round, until an admin lets it out.
//! - Who is named by a report gets the originals of that report alone. Outside observe mode only the outermost one counts: it is
//!   what the verdict is about, and anybody can write a report into mail that Exchange then reports.
//! - What an NDR mailbox receives stays there whole; the report in it is delivered beside it to the gateway mailbox served, in
//!   the same group (`recover.rs`).
//! - Work on the processor and the disk runs in blocking tasks, [`WORKERS_EXTRA`] more than there are cores at once; those are
//!   never for large messages, so that small ones need not wait until one is sealed. A message
//!   on its way in has at most [`BATCH_OCTETS`] and one read in memory, while it waits for one of them too: a longer one is in
//!   the sealed temporary file but for its last batch.
//! - All messages on their way in together are bounded ([`InFlightLimits`]); beyond that peers are read more slowly, and nobody
//!   waits for ever (`in_flight.rs` says why).
//! - One log line, `journal.committed`, says everything about a stored message except what is in it.

mod commit;
mod former;
mod header_named;
mod in_flight;
mod objects;
mod place;
mod prepare;
mod reception;
mod recover;
mod reprocess;
mod revise;
mod turned_away;

use crate::assign::Policy;
use crate::authentic::{self, Exchange};
use crate::config;
use crate::directory::Directory;
use crate::mail::{
    Address, GatewayMailbox, GatewayMailboxState, Mode, ReceiptId, SessionId, TransportEnvelope,
};
use crate::observe::{Refused, RefusedMail, metrics, now};
use crate::smtp::session::{RefusedBody, TurnedAway};
use crate::smtp::{Fault, Peer, Receiver, Reception, RecipientVerdict};
use crate::store::{Store, StoreError};
use arc_swap::ArcSwap;
use in_flight::InFlight;
pub use in_flight::InFlightLimits;
use reception::Gathering;
pub use reprocess::{Difference, Recovered, Reread};
pub use revise::{reassigned, released, viewed};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Distinct gateway mailboxes one transaction may be addressed to; the rest is asked to come again.
pub const GATEWAY_MAILBOXES_MAX: usize = 8;
/// Octets gathered before they are scanned and spooled: as many as the spool would keep in memory, so that a message is in one
/// place or the other and never in memory twice.
pub const BATCH_OCTETS: usize = crate::store::SPOOL_MEMORY_OCTETS_MAX;
/// Blocking tasks at once beyond the number of cores: some of them wait for the disk.
pub const WORKERS_EXTRA: usize = 2;

/// Takes mail from SMTP into the store.
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    directory: Arc<Directory>,
    /// Replaced when the configuration is read again; each message is judged by one state of it.
    exchange: ArcSwap<Exchange>,
    /// Replaced likewise; so is each message assigned.
    assigning: ArcSwap<Assigning>,
    workers: Arc<Semaphore>,
    /// How many of them work on what does not stay in memory: the others are for small messages.
    large_workers: Arc<Semaphore>,
    in_flight: Arc<InFlight>,
    refused_mail: RefusedMail,
}

/// What the configuration says about whose a message is.
#[derive(Debug, Default)]
struct Assigning {
    policy: Policy,
    /// Right-hand sides of gateway mailbox addresses, ASCII lower-cased.
    domains: Vec<String>,
}

impl Pipeline {
    /// A pipeline into this store, assigning by this directory and telling Exchange Online by these settings.
    pub fn new(
        store: Arc<dyn Store>,
        directory: Arc<Directory>,
        exchange: &config::Exchange,
    ) -> Arc<Pipeline> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let workers = Arc::new(Semaphore::new(cores + WORKERS_EXTRA));
        let large_workers = Arc::new(Semaphore::new(cores));
        let exchange = ArcSwap::from_pointee(known_by(exchange));
        let (in_flight, refused_mail) = (Arc::default(), RefusedMail::default());
        let assigning = ArcSwap::default();
        Arc::new(Pipeline {
            inner: Arc::new(Inner {
                store,
                directory,
                exchange,
                assigning,
                workers,
                large_workers,
                in_flight,
                refused_mail,
            }),
        })
    }

    /// Bounds what is on its way in at once, from now on. Without, [`InFlightLimits::default`] holds.
    pub fn limit_in_flight(&self, limits: InFlightLimits) {
        self.inner.in_flight.limit(limits);
    }

    /// The octets of messages begun and not yet stored or dropped.
    pub fn octets_in_flight(&self) -> u64 {
        self.inner.in_flight.octets()
    }

    /// When mail was refused for good. The register is shared.
    pub fn refused_mail(&self) -> RefusedMail {
        self.inner.refused_mail.clone()
    }

    /// Tells Exchange Online by these settings from now on: at the next RCPT, and at the end of every message on its way.
    pub fn replace_exchange(&self, exchange: &config::Exchange) {
        self.inner.exchange.store(Arc::new(known_by(exchange)));
    }

    /// Assigns by these settings from now on. `domains` are the right-hand sides of gateway mailbox addresses: no such address
    /// is a recipient of plain mail. Without, addresses are matched as they are written.
    pub fn replace_assign(&self, assign: &config::Assign, domains: &[String]) {
        let assigning = Assigning { policy: policy(assign), domains: domains.to_vec() };
        self.inner.assigning.store(Arc::new(assigning));
    }
}

/// How addresses are matched by these settings.
pub fn policy(settings: &config::Assign) -> Policy {
    Policy::new(settings.domain_aliases.clone(), settings.plus_tags)
}

fn known_by(settings: &config::Exchange) -> Exchange {
    Exchange { networks: settings.networks.clone(), certificate_names: settings.certificate_names.clone() }
}

impl Inner {
    /// The gateway mailboxes these addresses name, each once, in order.
    fn gateway_mailboxes(&self, addresses: &[Address]) -> Vec<Arc<GatewayMailbox>> {
        let mut found: Vec<Arc<GatewayMailbox>> = Vec::new();
        for address in addresses {
            if let Some(gateway_mailbox) = self.store.gateway_mailbox(&address.key())
                && !found.iter().any(|f| f.id == gateway_mailbox.id)
            {
                found.push(gateway_mailbox);
            }
        }
        found
    }

    /// In strict mode only peers are heard whose mail could be authentic. To refuse one may lose a report, should Exchange
    /// Online send it from where nobody expects: the log says so, and a person is told.
    fn forbids(&self, gateway_mailbox: &GatewayMailbox, peer: &Peer<'_>) -> bool {
        let trust = &gateway_mailbox.trust;
        let who = authentic::Peer { address: peer.address, tls: peer.tls, pulled: None };
        if trust.mode != Mode::Strict || authentic::may_deliver(&self.exchange.load(), who, trust) {
            return false;
        }
        metrics::report_forbidden();
        self.refused_mail.note(Refused::Forbidden, now());
        tracing::warn!(
            event = "journal.forbidden",
            receipt_id = peer.receipt_id.map(|id| id.to_string()),
            session_id = %peer.session_id,
            mailbox_id = %gateway_mailbox.id,
            peer = %peer.address,
        );
        true
    }
}

impl Receiver for Pipeline {
    fn room(&self, octets: Option<u64>) -> Result<(), Fault> {
        self.inner.store.admits(octets.unwrap_or(0)).map_err(|error| fault(&error))
    }

    fn recipient(&self, address: &Address, already: &[Address], peer: &Peer<'_>) -> RecipientVerdict {
        let Some(gateway_mailbox) = self.inner.store.gateway_mailbox(&address.key()) else {
            former::note_refused(&self.inner, address, peer);
            return RecipientVerdict::Unknown;
        };
        match gateway_mailbox.state {
            GatewayMailboxState::Deleted => return RecipientVerdict::Unknown,
            GatewayMailboxState::Suspended => return RecipientVerdict::Suspended,
            GatewayMailboxState::Active => {}
        }
        let before = self.inner.gateway_mailboxes(already);
        if before.len() >= GATEWAY_MAILBOXES_MAX && !before.iter().any(|b| b.id == gateway_mailbox.id) {
            return RecipientVerdict::TooMany;
        }
        if self.inner.forbids(&gateway_mailbox, peer) {
            return RecipientVerdict::Forbidden;
        }
        RecipientVerdict::Accept
    }

    fn session_id(&self) -> SessionId {
        SessionId::new(unix_ms(), random())
    }

    fn receipt_id(&self) -> ReceiptId {
        ReceiptId::new(unix_ms(), random())
    }

    fn begin(&self, receipt_id: ReceiptId, envelope: TransportEnvelope) -> Result<Box<dyn Reception>, Fault> {
        let served = |address: &Address| self.inner.store.gateway_mailbox(&address.key()).is_some();
        if !envelope.recipients.iter().all(served) {
            // One was deleted between RCPT and DATA. All or none: the next attempt hears 550 for it at RCPT.
            return Err(Fault::Busy);
        }
        let gateway_mailboxes = self.inner.gateway_mailboxes(&envelope.recipients);
        if let Err(error) = self.inner.store.admits(0) {
            metrics::report_deferred();
            tracing::error!(event = "journal.deferred", %receipt_id, session_id = %envelope.session_id, %error);
            return Err(fault(&error));
        }
        former::note_used(receipt_id, &envelope, &gateway_mailboxes);
        Ok(Box::new(Gathering::new(self.inner.clone(), receipt_id, envelope, gateway_mailboxes)))
    }

    fn body_refused(&self, _body: &RefusedBody) {
        self.inner.refused_mail.note(Refused::Message, now());
    }

    fn turned_away(&self, receipt_id: ReceiptId, told: TurnedAway) {
        turned_away::record(&self.inner, receipt_id, told);
    }
}

/// The SMTP answer to a failure of the store: always 4xx, since none of them is the peer's.
fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Full => Fault::StoreFull,
        // A gateway mailbox deleted meanwhile: the next attempt hears 550 at RCPT. Or content freed that this was to refer to: the
        // next attempt brings its own.
        StoreError::Gone => Fault::Busy,
        StoreError::Refused(_) => Fault::Internal,
        StoreError::LacksKey | StoreError::NotAllowed => Fault::Internal,
        StoreError::Io(..)
        | StoreError::Damaged(_)
        | StoreError::IndexDamaged(_)
        | StoreError::Locked
        | StoreError::Newer(_) => Fault::StoreTrouble,
    }
}

/// The time part of a new id.
fn unix_ms() -> u64 {
    u64::try_from(now().unix_ms()).unwrap_or(0)
}

/// Ten random octets. Should the system have none, ids still differ by their time, and only by it.
fn random() -> [u8; 10] {
    let mut octets = [0; 10];
    if aws_lc_rs::rand::fill(&mut octets).is_err() {
        tracing::error!(event = "service.randomness_failed");
    }
    octets
}
