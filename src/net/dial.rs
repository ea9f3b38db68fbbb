//! Connecting out over TLS: the server is the one named, or nothing is said to it.

use super::authorities::Authorities;
use super::tls::facts_of;
use super::tls_client::{self, TlsRefused};
use crate::mail::TlsFacts;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How long one address may take to answer.
const CONNECT_WAIT: Duration = Duration::from_secs(15);
/// How long the handshake may take from its first to its last octet.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(15);
/// Addresses of a name that are tried, in the order they come.
const ADDRESSES_MAX: usize = 4;

/// A connection to a server whose certificate was verified and bears its name.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// The address that answered.
    pub peer: SocketAddr,
    /// What the handshake agreed on.
    pub tls: TlsFacts,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum DialError {
    /// Nobody knows an address of that name. The operator's, or passes.
    Unknown(io::Error),
    /// No address answers, or the one that did broke off. May pass.
    Unreachable(io::Error),
    /// It is not proven to be the one that is meant, or speaks no TLS. The operator's, here or there.
    Tls(TlsRefused),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Unknown(error) => write!(f, "no address of the host is known: {error}"),
            DialError::Unreachable(error) => write!(f, "the host does not answer: {error}"),
            DialError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialError {}

/// Connects to the first address of `host`, a name or an IP address, that answers, and begins TLS with it. One of `authorities`
/// must vouch for it.
///
/// # Errors
/// [`DialError`]; there is no connection then.
pub async fn dial(host: &str, port: u16, authorities: &Authorities) -> Result<Dialled, DialError> {
    let addresses = tokio::time::timeout(CONNECT_WAIT, tokio::net::lookup_host((host, port))).await;
    let addresses = addresses.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for peer in addresses.map_err(DialError::Unknown)?.take(ADDRESSES_MAX) {
        match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(peer)).await {
            Ok(Ok(socket)) => return handshake(socket, peer, host, authorities).await,
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Unreachable(last))
}

async fn handshake(
    socket: TcpStream,
    peer: SocketAddr,
    host: &str,
    authorities: &Authorities,
) -> Result<Dialled, DialError> {
    // Commands are small, and each waits for its answer.
    socket.set_nodelay(true).map_err(DialError::Unreachable)?;
    let shaken = tokio::time::timeout(HANDSHAKE_WAIT, tls_client::connect(socket, host, authorities)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(TlsRefused::Handshake(io::ErrorKind::TimedOut.into())));
    let stream = shaken.map_err(|refused| match refused {
        TlsRefused::Handshake(error) if error.kind() != io::ErrorKind::InvalidData => {
            DialError::Unreachable(error)
        }
        refused => DialError::Tls(refused),
    })?;
    let tls = facts_of(stream.get_ref().1);
    Ok(Dialled { stream, peer, tls })
}
