//! POP3 on its ports: the shell around [`super::session`].
//!
//! One [`Pop3`] serves all ports; the lock on a maildrop and the cap on password checks are those of the [`Logins`] it shares with
//! other protocols. [`Pop3::plain`] and [`Pop3::implicit_tls`] give the services for the accept loops of `net`.
//!
//! What a client sends after STLS and before the handshake ends the connection: it came in clear, from
//! anybody (NO STARTTLS).

use super::conversation::Conversation;
use super::session::Session;
use crate::fetch::auth::Logins;
use crate::fetch::maildrop::Client;
use crate::mail::SessionId;
use crate::net::admission::Refusal;
use crate::net::drain::Drain;
use crate::net::listen::{Arrival, Service};
use crate::net::stream::{Stream, TLS_HANDSHAKE_DEADLINE, UpgradeError};
use crate::net::wire::Wire;
use rustls::ServerConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a client that is logged in may be silent. RFC 1939 §3 asks for at least this.
pub const IDLE_WAIT: Duration = Duration::from_secs(10 * 60);
/// How long a client that is not logged in may be silent. Shorter, on purpose: connections are scarce, anybody
/// can open them, and a client has nothing to think about here.
pub const LOGIN_WAIT: Duration = Duration::from_secs(3 * 60);
/// How long a client may take to read what it asked for, for each piece of it.
pub const WRITE_WAIT: Duration = Duration::from_secs(2 * 60);

/// How long the server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For a command line, before login.
    pub login: Duration,
    /// For a command line, after login.
    pub idle: Duration,
    /// For the client to read a piece of output.
    pub write: Duration,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits { login: LOGIN_WAIT, idle: IDLE_WAIT, write: WRITE_WAIT }
    }
}

/// The POP3 server, without its ports.
pub struct Pop3 {
    pub(super) logins: Arc<Logins>,
    pub(super) drain: Drain,
    pub(super) waits: Waits,
    tls: Arc<ServerConfig>,
    over_cap: AtomicU64,
}

/// One kind of port of the server.
pub struct Pop3Port {
    pop3: Arc<Pop3>,
    implicit_tls: bool,
}

impl Pop3 {
    /// A server of the maildrops behind this door, which other protocols share.
    pub fn new(logins: Arc<Logins>, tls: Arc<ServerConfig>, drain: Drain, waits: Waits) -> Pop3 {
        Pop3 { logins, drain, waits, tls, over_cap: AtomicU64::new(0) }
    }

    /// The service for ports where TLS begins with STLS (110).
    pub fn plain(self: &Arc<Pop3>) -> Arc<Pop3Port> {
        Arc::new(Pop3Port { pop3: Arc::clone(self), implicit_tls: false })
    }

    /// The service for ports where TLS begins at once (995).
    pub fn implicit_tls(self: &Arc<Pop3>) -> Arc<Pop3Port> {
        Arc::new(Pop3Port { pop3: Arc::clone(self), implicit_tls: true })
    }

    /// Serves a connection whose encryption, if any, is somebody else's affair. Gives it back, with its session,
    /// when the client was told to begin TLS; otherwise it is over.
    pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        encrypted: bool,
        peer: IpAddr,
    ) -> Option<(Wire<S>, Session)> {
        self.greet(Wire::new(stream), encrypted, client(peer)).await
    }

    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: Wire<S>,
        encrypted: bool,
        client: Client,
    ) -> Option<(Wire<S>, Session)> {
        let mut conversation = Conversation::new(self, wire, Session::new(encrypted), client);
        conversation.greet();
        conversation.run().await
    }

    async fn serve(&self, stream: TcpStream, implicit_tls: bool, peer: IpAddr) {
        let client = client(peer);
        let mut wire = Wire::new(Stream::Plain(stream));
        if implicit_tls {
            match self.upgrade(wire, &client).await {
                Some(upgraded) => wire = upgraded,
                None => return,
            }
        }
        let Some((wire, mut session)) = self.greet(wire, implicit_tls, client.clone()).await else { return };
        let Some(wire) = self.upgrade(wire, &client).await else { return };
        session.tls_started();
        // Encrypted now: it can only end.
        Conversation::new(self, wire, session, client).run().await;
    }

    async fn upgrade(&self, wire: Wire<Stream>, client: &Client) -> Option<Wire<Stream>> {
        let handshake = wire.upgrade(Arc::clone(&self.tls), TLS_HANDSHAKE_DEADLINE);
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

impl Service for Pop3Port {
    async fn connection(self: Arc<Self>, stream: TcpStream, arrival: Arrival) {
        self.pop3.serve(stream, self.implicit_tls, arrival.peer.ip()).await;
    }

    fn over_cap(&self, peer: SocketAddr, refusal: Refusal) -> &[u8] {
        let limit = refusal.limit.as_str();
        let refused = self.pop3.over_cap.fetch_add(1, Ordering::Relaxed) + 1;
        // A line per refusal would let a flood of connections become a flood of log.
        if refused.is_power_of_two() {
            tracing::warn!(event = "fetch.over_cap", protocol = "pop3", %peer, limit, refused);
        }
        if self.implicit_tls { b"" } else { b"-ERR [SYS/TEMP] too many connections, try again later\r\n" }
    }

    fn accept_failed(&self, error: &io::Error, failed: u64) {
        tracing::error!(event = "fetch.accept_failed", protocol = "pop3", %error, failed);
    }
}

fn log_failed_handshake(client: &Client, error: &UpgradeError) {
    let (session_id, peer) = (client.session_id, client.peer);
    match error {
        UpgradeError::PlaintextBuffered => {
            tracing::warn!(event = "fetch.tls_injection", %session_id, protocol = "pop3", %peer, %error);
        }
        UpgradeError::AlreadyTls => {
            tracing::error!(event = "fetch.tls_failed", %session_id, protocol = "pop3", %peer, %error);
        }
        UpgradeError::Deadline => {
            tracing::info!(event = "fetch.tls_failed", %session_id, protocol = "pop3", %peer, %error);
        }
        UpgradeError::Handshake(cause) => {
            tracing::info!(event = "fetch.tls_failed", %session_id, protocol = "pop3", %peer, %error, %cause);
        }
    }
}

fn client(peer: IpAddr) -> Client {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = [0; 10];
    // The id need not be secret, only its own; without randomness the time still tells sessions apart.
    aws_lc_rs::rand::fill(&mut random).unwrap_or_default();
    let unix_ms = u64::try_from(since_1970.as_millis()).unwrap_or_default();
    Client { protocol: "pop3", peer, session_id: SessionId::new(unix_ms, random) }
}
