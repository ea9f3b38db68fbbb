//! A fetch protocol on its ports: what there is before a conversation and around it, whichever protocol it speaks.
//!
//! One server serves all ports of its protocol: [`Protocol::plain`] and [`Protocol::implicit_tls`] give the services for the accept
//! loops of `net`.
//!
//! What a client sends after asking for TLS and before the handshake ends the connection: it came in clear, from anybody (NO
//! STARTTLS).

use super::maildrop::Client;
use crate::mail::SessionId;
use crate::net::admission::Refusal;
use crate::net::drain::Drain;
use crate::net::listen::{Arrival, Service};
use crate::net::stream::{Stream, TLS_HANDSHAKE_DEADLINE, UpgradeError};
use crate::net::wire::Wire;
use rustls::ServerConfig;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long a client may take to log in, the TLS handshake included and the checks of its passwords not. Short, on purpose:
/// connections are scarce, anybody can open them, and a client has nothing to think about here.
pub const LOGIN_WAIT: Duration = Duration::from_secs(3 * 60);
/// How long a client may take to read what it asked for, for each piece of it.
pub const WRITE_WAIT: Duration = Duration::from_secs(2 * 60);

/// How long a server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For a client to log in, from the start of its connection; for a literal.
    pub login: Duration,
    /// For a command line, after login.
    pub idle: Duration,
    /// For the client to read a piece of output.
    pub write: Duration,
}

impl Waits {
    /// The usual ones, for a protocol whose clients may be silent for so long once they are logged in.
    pub fn with_idle(idle: Duration) -> Waits {
        Waits { login: LOGIN_WAIT, idle, write: WRITE_WAIT }
    }
}

/// What a server has besides its protocol.
pub struct Door {
    pub(super) drain: Drain,
    pub(super) waits: Waits,
    tls: Arc<ServerConfig>,
    over_cap: AtomicU64,
}

impl Door {
    /// A door that is open until the drain starts.
    pub(super) fn new(tls: Arc<ServerConfig>, drain: Drain, waits: Waits) -> Door {
        Door { drain, waits, tls, over_cap: AtomicU64::new(0) }
    }

    /// When a client that connects now must be logged in.
    fn login_by(&self) -> Instant {
        Instant::now() + self.waits.login
    }

    async fn upgrade(&self, wire: Wire<Stream>, client: &Client, login_by: Instant) -> Option<Wire<Stream>> {
        let wait = TLS_HANDSHAKE_DEADLINE.min(login_by.saturating_duration_since(Instant::now()));
        let handshake = wire.upgrade(Arc::clone(&self.tls), wait);
        let upgraded = tokio::select! {
            () = self.drain.started() => return None,
            upgraded = handshake => upgraded,
        };
        match upgraded {
            Ok(wire) => Some(wire),
            Err(error) => {
                log_failed_handshake(client, &error);
                None
            }
        }
    }
}

/// A protocol: its conversation, from the greeting or from the end of a TLS handshake on.
pub trait Protocol: Send + Sync + Sized + 'static {
    /// Its name in the log and in metrics.
    const NAME: &'static str;
    /// What one client too many is told, with its line end.
    const TOO_MANY: &'static [u8];
    /// What lasts beyond STARTTLS.
    type Session: Send;

    /// The server's door.
    fn door(&self) -> &Door;

    /// A conversation that starts: serves it to its end, or until the client was told to begin TLS, which gives the connection
    /// back. Whoever is not logged in by `login_by` is let go.
    fn begin<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        wire: Wire<S>,
        encrypted: bool,
        client: Client,
        login_by: Instant,
    ) -> impl Future<Output = Option<(Wire<S>, Self::Session)>> + Send;

    /// The same conversation, encrypted now: it can only end.
    fn go_on<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        wire: Wire<S>,
        session: Self::Session,
        client: Client,
        login_by: Instant,
    ) -> impl Future<Output = ()> + Send;

    /// Serves a connection whose encryption, if any, is somebody else's affair. Gives it back, with its session, when the
    /// client was told to begin TLS; otherwise it is over.
    fn converse<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
        encrypted: bool,
        peer: IpAddr,
    ) -> impl Future<Output = Option<(Wire<S>, Self::Session)>> + Send {
        self.begin(Wire::new(stream), encrypted, client(Self::NAME, peer), self.door().login_by())
    }

    /// The service for ports where TLS begins when the client asks for it.
    fn plain(self: &Arc<Self>) -> Arc<Port<Self>> {
        Arc::new(Port { server: Arc::clone(self), implicit_tls: false })
    }

    /// The service for ports where TLS begins at once.
    fn implicit_tls(self: &Arc<Self>) -> Arc<Port<Self>> {
        Arc::new(Port { server: Arc::clone(self), implicit_tls: true })
    }
}

/// One kind of port of a server.
pub struct Port<P> {
    server: Arc<P>,
    implicit_tls: bool,
}

impl<P: Protocol> Port<P> {
    async fn serve(&self, stream: TcpStream, peer: IpAddr) {
        let (server, door) = (&self.server, self.server.door());
        let (client, login_by) = (client(P::NAME, peer), door.login_by());
        let mut wire = Wire::new(Stream::Plain(stream));
        if self.implicit_tls {
            match door.upgrade(wire, &client, login_by).await {
                Some(upgraded) => wire = upgraded,
                None => return,
            }
        }
        let begun = server.begin(wire, self.implicit_tls, client.clone(), login_by).await;
        let Some((wire, session)) = begun else { return };
        // In clear no password was checked: nothing was added to its time.
        let Some(wire) = door.upgrade(wire, &client, login_by).await else { return };
        server.go_on(wire, session, client, login_by).await;
    }
}

impl<P: Protocol> Service for Port<P> {
    async fn connection(self: Arc<Self>, stream: TcpStream, arrival: Arrival) {
        self.serve(stream, arrival.peer.ip()).await;
    }

    fn over_cap(&self, peer: SocketAddr, refusal: Refusal) -> &[u8] {
        let limit = refusal.limit.as_str();
        let refused = self.server.door().over_cap.fetch_add(1, Ordering::Relaxed) + 1;
        // A line per refusal would let a flood of connections become a flood of log.
        if refused.is_power_of_two() {
            tracing::warn!(event = "fetch.over_cap", protocol = P::NAME, %peer, limit, refused);
        }
        if self.implicit_tls { b"" } else { P::TOO_MANY }
    }

    fn accept_failed(&self, error: &io::Error, failed: u64) {
        tracing::error!(event = "fetch.accept_failed", protocol = P::NAME, %error, failed);
    }
}

fn log_failed_handshake(client: &Client, error: &UpgradeError) {
    let (session_id, peer, protocol) = (client.session_id, client.peer, client.protocol);
    match error {
        UpgradeError::PlaintextBuffered => {
            tracing::warn!(event = "fetch.tls_injection", %session_id, protocol, %peer, %error);
        }
        UpgradeError::AlreadyTls => {
            tracing::error!(event = "fetch.tls_failed", %session_id, protocol, %peer, %error);
        }
        UpgradeError::Deadline => {
            tracing::info!(event = "fetch.tls_failed", %session_id, protocol, %peer, %error);
        }
        UpgradeError::Handshake(cause) => {
            tracing::info!(event = "fetch.tls_failed", %session_id, protocol, %peer, %error, %cause);
        }
    }
}

/// A client that has just connected.
fn client(protocol: &'static str, peer: IpAddr) -> Client {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = [0; 10];
    // The id need not be secret, only its own; without randomness the time still tells sessions apart.
    aws_lc_rs::rand::fill(&mut random).unwrap_or_default();
    let unix_ms = u64::try_from(since_1970.as_millis()).unwrap_or_default();
    Client { protocol, peer, session_id: SessionId::new(unix_ms, random) }
}
