//! The SMTP server: its settings, who is let in, and a task for each connection (`talk.rs`).
//!
//! A connection keeps the settings it began with; whatever replaces them is in force for the next one.
//!
//! Events: `smtp.connected`, `smtp.over_cap` (at every doubling of their number, for each limit), `smtp.accept_failed`,
//! `smtp.disconnected`, and those of `talk.rs`.

use super::Receiver;
pub use super::pace::PaceLimits;
use super::reply::{Outcome, Reply};
use super::talk::Talk;
use crate::net::admission::{Admission, Limit, Refusal};
use crate::net::drain::Drain;
use crate::net::listen::{self, Arrival, Listener, Service};
use crate::net::stream::{Stream, TLS_HANDSHAKE_DEADLINE};
use crate::net::tls::TlsIdentity;
use crate::net::wire::Wire;
use crate::observe::metrics;
use arc_swap::ArcSwap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// Size of the read buffer inside a body.
pub const BODY_OCTETS: usize = 64 * 1024;

/// How the server behaves. [`Settings::new`] gives the documented defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in the greeting. Must be safe in a reply: printable ASCII without blanks.
    pub hostname: String,
    /// Largest message taken, in octets.
    pub message_octets_max: u64,
    /// Mail is taken over TLS only.
    pub require_tls: bool,
    /// Recipients of one transaction (RFC 5321 §4.5.3.1.8 asks for 100).
    pub recipients_max: usize,
    /// Mistakes of one session.
    pub errors_max: u32,
    /// Messages stored over one connection; behind them the peer is asked to come anew.
    pub messages_max: u64,
    /// Longest wait before a refused recipient is answered; zero never waits.
    pub tarpit_max: Duration,
    /// How long things may take.
    pub timeouts: Timeouts,
}

/// The settings in force, replaceable while the server runs; a connection keeps those it began with. Clones share them.
#[derive(Clone, Debug)]
pub struct LiveSettings(Arc<ArcSwap<Settings>>);

impl LiveSettings {
    /// Puts others in force for new connections.
    pub fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }

    pub(super) fn current(&self) -> Arc<Settings> {
        self.0.load_full()
    }
}

impl From<Arc<Settings>> for LiveSettings {
    fn from(settings: Arc<Settings>) -> LiveSettings {
        LiveSettings(Arc::new(ArcSwap::new(settings)))
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the last reply to the end of the next command line (RFC 5321 §4.5.3.2.7: 5 minutes).
    pub command: Duration,
    /// A TLS handshake.
    pub handshake: Duration,
    /// For the peer to take our replies.
    pub reply: Duration,
    /// The sending of a body.
    pub body: PaceLimits,
    /// From the greeting until the peer is asked to come anew, outside a body.
    pub session: Duration,
    /// From the start of a drain until connections are dropped.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            command: Duration::from_secs(300),
            handshake: TLS_HANDSHAKE_DEADLINE,
            reply: Duration::from_secs(60),
            body: PaceLimits::default(),
            session: Duration::from_secs(7200),
            drain: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// The defaults under this host name.
    pub fn new(hostname: &str) -> Settings {
        Settings {
            hostname: hostname.to_owned(),
            message_octets_max: 419_430_400,
            require_tls: false,
            recipients_max: 1000,
            errors_max: 20,
            messages_max: 1000,
            tarpit_max: Duration::from_secs(8),
            timeouts: Timeouts::default(),
        }
    }
}

/// Serves SMTP on all listeners until the drain has started and the connections have ended, or
/// `settings.timeouts.drain` has passed. `admission` says who may be connected. Without `tls` STARTTLS is not offered.
pub async fn serve(
    listeners: Vec<Listener>,
    admission: Admission,
    settings: impl Into<LiveSettings>,
    tls: Option<Arc<TlsIdentity>>,
    receiver: Arc<dyn Receiver>,
    drain: Drain,
) {
    let settings: LiveSettings = settings.into();
    let mut over_cap = Vec::new();
    let too_many = Reply::from(Outcome::TooManyConnections);
    too_many.write_to(&mut over_cap);
    let in_force = settings.clone();
    let drain_wait = move || in_force.current().timeouts.drain;
    let server = Arc::new(Server {
        settings,
        tls,
        receiver,
        drain: drain.clone(),
        over_cap,
        over_cap_code: too_many.code,
        refused: Limit::ALL.map(|limit| (limit, AtomicU64::new(0))),
    });
    listen::serve(listeners, server, admission, drain, drain_wait).await;
}

/// What every connection shares.
pub(super) struct Server {
    pub(super) settings: LiveSettings,
    pub(super) tls: Option<Arc<TlsIdentity>>,
    pub(super) receiver: Arc<dyn Receiver>,
    pub(super) drain: Drain,
    over_cap: Vec<u8>,
    over_cap_code: u16,
    /// Connections there was no room for, by what there was too much of.
    refused: [(Limit, AtomicU64); Limit::ALL.len()],
}

impl Service for Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, arrival: Arrival) {
        let Arrival { peer, is_favoured } = arrival;
        let session_id = self.receiver.session_id();
        let _open = metrics::SmtpConnection::open(is_favoured);
        tracing::debug!(event = "smtp.connected", %session_id, %peer);
        let mut talk = Talk::new(&self, session_id, arrival);
        let end = talk.run(Wire::new(Stream::Plain(stream))).await;
        metrics::smtp_session(end.as_str());
        tracing::debug!(
            event = "smtp.disconnected",
            %session_id,
            %peer,
            reason = end.as_str(),
            messages = talk.messages,
        );
    }

    fn over_cap(&self, peer: SocketAddr, Refusal { limit, is_favoured }: Refusal) -> &[u8] {
        metrics::smtp_session("over_cap");
        metrics::smtp_turned_away(limit.as_str(), is_favoured);
        metrics::smtp_reply(self.over_cap_code);
        for (_, refused) in self.refused.iter().filter(|(of, _)| *of == limit) {
            let refused = refused.fetch_add(1, Ordering::Relaxed) + 1;
            // A line per refusal would let a flood of connections become a flood of log.
            if refused.is_power_of_two() {
                let limit = limit.as_str();
                tracing::warn!(event = "smtp.over_cap", %peer, limit, favoured = is_favoured, refused);
            }
        }
        &self.over_cap
    }

    fn accept_failed(&self, error: &io::Error, failed: u64) {
        tracing::error!(event = "smtp.accept_failed", %error, failed);
    }
}
