//! The real server on loopback, and a client whose every write can be made a read of its own.
//!
//! Two writes over TCP are not two reads: the server may find both in its queue. Here server and client share one
//! thread, and between the two the client gives it away until the server has had its turn ([`let_read`]). Loopback
//! delivers inside the write, so there is nothing to wait for but that turn.

use super::smtp_fake::{Fake, Kept};
use daybook::net::admission::{Admission, AdmissionPolicy};
use daybook::net::drain::Drain;
use daybook::net::listen;
use daybook::net::tls::TlsIdentity;
use daybook::smtp::Receiver;
use daybook::smtp::server::{self, Settings};
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Nothing takes longer.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Turns given to the server between two writes: one to learn that there is something to read, one to read it, one more.
const TURNS: usize = 3;

/// A server, to be ended with [`Hosted::end`]. All of it runs on the thread of the test.
pub(crate) struct Hosted {
    pub(crate) address: SocketAddr,
    tls: Arc<TlsIdentity>,
    drain: Drain,
    serving: JoinHandle<()>,
}

/// A pair for any number of servers.
pub(crate) fn identity() -> Arc<TlsIdentity> {
    let directory = tempfile::tempdir().unwrap();
    Arc::new(TlsIdentity::self_signed(directory.path(), "mx.example").unwrap())
}

impl Hosted {
    pub(crate) async fn start(
        settings: Settings,
        tls: &Arc<TlsIdentity>,
        receiver: Arc<dyn Receiver>,
    ) -> Hosted {
        let listeners = listen::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = listeners[0].address();
        let drain = Drain::new();
        let serving = server::serve(
            listeners,
            Admission::new(AdmissionPolicy::in_all(1000)),
            Arc::new(settings),
            Some(tls.clone()),
            receiver,
            drain.clone(),
        );
        Hosted { address, tls: tls.clone(), drain, serving: tokio::spawn(serving) }
    }

    pub(crate) async fn end(self) {
        self.drain.start();
        tokio::time::timeout(SOON, self.serving).await.expect("the server ends").unwrap();
    }

    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The handshake, after STARTTLS was answered.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.tls.certificate().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("mx.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Gives the server time to read all that was sent.
pub(crate) async fn let_read() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// Sends the pieces, each a read (and over TLS a record) of its own.
pub(crate) async fn send_pieces(stream: &mut impl Connection, pieces: &[&[u8]]) -> io::Result<()> {
    for piece in pieces {
        if !piece.is_empty() {
            stream.write_all(piece).await?;
            stream.flush().await?;
            let_read().await;
        }
    }
    Ok(())
}

/// Reads until so many lines have come, or the end. What comes with the last of them is handed back as well.
pub(crate) async fn read_lines(stream: &mut impl Connection, lines: usize) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    while said.iter().filter(|octet| **octet == b'\n').count() < lines {
        if stream.read_buf(&mut said).await? == 0 {
            break;
        }
    }
    Ok(said)
}

/// What a receiver got since the last question.
pub(crate) struct News {
    fake: Arc<Fake>,
    seen: usize,
}

impl News {
    pub(crate) fn of(fake: &Arc<Fake>) -> News {
        News { fake: fake.clone(), seen: 0 }
    }

    pub(crate) fn kept(&mut self) -> Vec<Kept> {
        let kept = self.fake.kept().split_off(self.seen);
        self.seen += kept.len();
        kept
    }
}
