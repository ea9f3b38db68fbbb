//! Connecting out over TLS: the server is the one named, or nothing is said to it.

use super::authorities::Authorities;
use super::tls::{TlsError, facts_of, provider};
use crate::mail::TlsFacts;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
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
    /// The file of authorities cannot be used. The operator's to mend.
    Authorities(TlsError),
    /// The name is none, or nobody knows an address of it.
    Unknown(io::Error),
    /// No address answers. May pass.
    Unreachable(io::Error),
    /// The handshake failed: no TLS there, or a certificate that is not good for the name.
    Handshake(io::Error),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Authorities(error) => error.fmt(f),
            DialError::Unknown(error) => write!(f, "no address of the host is known: {error}"),
            DialError::Unreachable(error) => write!(f, "the host does not answer: {error}"),
            DialError::Handshake(error) => write!(f, "TLS handshake failed: {error}"),
        }
    }
}

impl std::error::Error for DialError {}

/// Settings of a client that trusts the authorities of `ca_file`, or the public ones. Blocks on the disk.
///
/// # Errors
/// The file cannot be used.
pub fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let authorities = ca_file.map_or_else(|| Ok(Authorities::public()), Authorities::read)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        // Our own provider speaks every version there is.
        .map_err(TlsError::Pair)?
        .with_root_certificates(authorities.into_roots())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Connects to the first address of `host` that answers, and begins TLS with it under that name.
///
/// # Errors
/// [`DialError`]; there is no connection then.
pub async fn dial(host: &str, port: u16, config: Arc<ClientConfig>) -> Result<Dialled, DialError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|e| DialError::Unknown(io::Error::other(e)))?;
    let addresses = tokio::time::timeout(CONNECT_WAIT, tokio::net::lookup_host((host, port))).await;
    let addresses = addresses.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for peer in addresses.map_err(DialError::Unknown)?.take(ADDRESSES_MAX) {
        match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(peer)).await {
            Ok(Ok(socket)) => return handshake(socket, peer, name, config).await,
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Unreachable(last))
}

async fn handshake(
    socket: TcpStream,
    peer: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<Dialled, DialError> {
    // Commands are small, and each waits for its answer.
    socket.set_nodelay(true).map_err(DialError::Unreachable)?;
    let shaken = tokio::time::timeout(HANDSHAKE_WAIT, TlsConnector::from(config).connect(name, socket)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = shaken.map_err(DialError::Handshake)?;
    let tls = facts_of(stream.get_ref().1);
    Ok(Dialled { stream, peer, tls })
}
