//! A connection that is plain or TLS, and may turn from the first into the second once.
//!
//! Invariant: [`Stream::upgrade`] refuses when the caller still holds octets that came in clear. A peer in
//! the middle can inject commands before the handshake; a server that keeps them would obey them as if the
//! authenticated client had sent them over TLS (NO STARTTLS, RFC 3207 §6). Octets still in the kernel need no check: they
//! become the first of the handshake and fail it.

use super::tls::facts_of;
use crate::mail::TlsFacts;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a TLS handshake may take from its first to its last octet.
pub const TLS_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(15);

/// One connection, in clear or over TLS.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Plain(TcpStream),
    /// Over TLS. Boxed: the session state is large and most connections start without.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a connection could not be turned into a TLS one. It is gone in every case.
#[derive(Debug)]
pub enum UpgradeError {
    /// Octets were received in clear and not yet looked at. The peer's fault, or an attack on it.
    PlaintextBuffered,
    /// It is a TLS connection already. Our fault.
    AlreadyTls,
    /// The handshake did not end in time.
    Deadline,
    /// The handshake failed: no common version or suite, a peer that does not speak TLS, a reset.
    Handshake(io::Error),
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UpgradeError::PlaintextBuffered => "plaintext received before the TLS handshake",
            UpgradeError::AlreadyTls => "connection is TLS already",
            UpgradeError::Deadline => "TLS handshake took too long",
            UpgradeError::Handshake(_) => "TLS handshake failed",
        })
    }
}

impl std::error::Error for UpgradeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            UpgradeError::Handshake(error) => Some(error),
            _ => None,
        }
    }
}

impl Stream {
    /// Runs the server side of a TLS handshake. `unread` is what the caller has buffered: it must be empty.
    ///
    /// # Errors
    /// [`UpgradeError`]; the connection is closed by dropping it.
    pub async fn upgrade(
        self,
        config: Arc<ServerConfig>,
        unread: &[u8],
        deadline: Duration,
    ) -> Result<Stream, UpgradeError> {
        if !unread.is_empty() {
            return Err(UpgradeError::PlaintextBuffered);
        }
        let Stream::Plain(tcp) = self else {
            return Err(UpgradeError::AlreadyTls);
        };
        match tokio::time::timeout(deadline, TlsAcceptor::from(config).accept(tcp)).await {
            Err(_elapsed) => Err(UpgradeError::Deadline),
            Ok(Err(error)) => Err(UpgradeError::Handshake(error)),
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        }
    }

    /// What the handshake agreed on; `None` in clear. What the peer showed of itself is for
    /// [`Asking`](super::client_certificate::Asking) to say.
    pub fn tls_facts(&self) -> Option<TlsFacts> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(facts_of(stream.get_ref().1)),
        }
    }

    /// The certificates the peer showed, its own first; none in clear, or when it showed none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Stream::Plain(_) => &[],
            Stream::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }

    /// True once the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::TlsIdentity;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    const SOON: Duration = Duration::from_secs(10);

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Stream::Plain(server), client)
    }

    fn identity(directory: &tempfile::TempDir) -> TlsIdentity {
        TlsIdentity::self_signed(directory.path(), "mx.example").unwrap()
    }

    /// A client that trusts exactly the certificate the identity shows now.
    fn connector(identity: &TlsIdentity, version: &'static rustls::SupportedProtocolVersion) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    async fn check_handshake(version: &'static rustls::SupportedProtocolVersion, expect: &str) {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity(&directory);
        let (server, client) = pair().await;
        let name = ServerName::try_from("mx.example").unwrap();
        let connector = connector(&identity, version);
        let client = tokio::spawn(async move {
            let mut stream = connector.connect(name, client).await.unwrap();
            stream.write_all(b"over tls").await.unwrap();
            stream.flush().await.unwrap();
            stream
        });
        let mut server = server.upgrade(identity.server_config(), b"", SOON).await.unwrap();
        let mut said = [0; 8];
        server.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"over tls");
        let facts = server.tls_facts().unwrap();
        assert_eq!(facts.version, expect);
        assert!(facts.cipher.starts_with("TLS_"), "{}", facts.cipher);
        client.await.unwrap();
    }

    #[tokio::test]
    async fn speaks_both_versions_and_records_what_was_agreed() {
        check_handshake(&rustls::version::TLS13, "TLSv1.3").await;
        check_handshake(&rustls::version::TLS12, "TLSv1.2").await;
    }

    #[tokio::test]
    async fn refuses_to_upgrade_over_octets_received_in_clear() {
        let directory = tempfile::tempdir().unwrap();
        let (server, _client) = pair().await;
        let refused = server.upgrade(identity(&directory).server_config(), b"NOOP\r\n", SOON).await;
        assert!(matches!(refused, Err(UpgradeError::PlaintextBuffered)));
    }

    #[tokio::test]
    async fn plaintext_in_place_of_a_handshake_fails_it() {
        let directory = tempfile::tempdir().unwrap();
        let (server, mut client) = pair().await;
        client.write_all(b"MAIL FROM:<a@b.example>\r\n").await.unwrap();
        let refused = server.upgrade(identity(&directory).server_config(), b"", SOON).await;
        assert!(matches!(refused, Err(UpgradeError::Handshake(_))));
    }

    #[tokio::test]
    async fn gives_up_a_handshake_that_never_comes() {
        let directory = tempfile::tempdir().unwrap();
        let (server, _client) = pair().await;
        let deadline = Duration::from_millis(20);
        let refused = server.upgrade(identity(&directory).server_config(), b"", deadline).await;
        assert!(matches!(refused, Err(UpgradeError::Deadline)));
    }

    #[tokio::test]
    async fn a_replaced_pair_is_shown_to_the_next_handshake() {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity(&directory);
        let old = connector(&identity, &rustls::version::TLS13);
        let made = rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()]).unwrap();
        identity.replace(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
        let new = connector(&identity, &rustls::version::TLS13);
        for (connector, accepted) in [(old, false), (new, true)] {
            let (server, client) = pair().await;
            let name = ServerName::try_from("mx.example").unwrap();
            let client = tokio::spawn(async move { connector.connect(name, client).await.is_ok() });
            let upgraded = server.upgrade(identity.server_config(), b"", SOON).await;
            assert_eq!(client.await.unwrap(), accepted);
            assert_eq!(upgraded.is_ok(), accepted);
        }
    }
}
