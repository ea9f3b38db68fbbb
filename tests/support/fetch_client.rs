//! A server on loopback ports, and a client that only knows lines.

#![allow(dead_code, reason = "each test file uses a part")]

use daybook::fetch::auth::Logins;
use daybook::fetch::door::Protocol;
use daybook::fetch::maildrop::Maildrops;
use daybook::net::admission::{Admission, AdmissionPolicy};
use daybook::net::drain::Drain;
use daybook::net::listen::{bind, serve};
use daybook::net::tls::TlsIdentity;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A door where refusals are told at once.
pub(crate) fn at_once(maildrops: Arc<dyn Maildrops>) -> Arc<Logins> {
    Arc::new(Logins::with_first_wait(maildrops, Duration::ZERO))
}

pub(crate) struct Server {
    plain: SocketAddr,
    tls: SocketAddr,
    connector: TlsConnector,
    drain: Drain,
    serving: Vec<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Server {
    /// Serves on any ports what `make` makes of a TLS configuration.
    pub(crate) async fn start<P: Protocol>(make: impl FnOnce(Arc<ServerConfig>, Drain) -> P) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let identity = TlsIdentity::self_signed(directory.path(), "localhost").unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let drain = Drain::new();
        let server = Arc::new(make(identity.server_config(), drain.clone()));
        let admission = Admission::new(AdmissionPolicy::in_all(64));
        let mut ports = Vec::new();
        let mut serving = Vec::new();
        for service in [server.plain(), server.implicit_tls()] {
            let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
            ports.push(listeners[0].address());
            serving.push(tokio::spawn(serve(listeners, service, admission.clone(), drain.clone(), || SOON)));
        }
        let connector = TlsConnector::from(Arc::new(client));
        Server { plain: ports[0], tls: ports[1], connector, drain, serving, _directory: directory }
    }

    pub(crate) async fn connect(&self, is_implicit_tls: bool) -> Client {
        let address = if is_implicit_tls { self.tls } else { self.plain };
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let client = Client { socket: Socket::Plain(tcp), unread: Vec::new() };
        if is_implicit_tls { self.upgrade(client).await } else { client }
    }

    pub(crate) async fn upgrade(&self, client: Client) -> Client {
        assert!(client.unread.is_empty(), "the server said something before the handshake");
        let Socket::Plain(tcp) = client.socket else { panic!("TLS already") };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = timeout(SOON, self.connector.connect(name, tcp)).await.unwrap().unwrap();
        Client { socket: Socket::Tls(Box::new(stream)), unread: Vec::new() }
    }

    pub(crate) async fn stop(self) {
        self.drain.start();
        for serving in self.serving {
            timeout(SOON, serving).await.unwrap().unwrap();
        }
    }
}

pub(crate) struct Client {
    socket: Socket,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, octets: &[u8]) {
        self.socket.write_all(octets).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// The same over a connection that may have ended.
    pub(crate) async fn send_if_open(&mut self, octets: &[u8]) {
        self.socket.write_all(octets).await.unwrap_or_default();
        self.socket.flush().await.unwrap_or_default();
    }

    /// Says this until the connection ends.
    pub(crate) async fn say_until_the_end(&mut self, octets: &[u8]) {
        while self.line_if_whole().await.is_some() {
            self.send_if_open(octets).await;
        }
    }

    /// A line without its CRLF; `None` when the server has closed in good order.
    pub(crate) async fn line(&mut self) -> Option<String> {
        match self.octets_of_line().await {
            Ok(line) if line.is_empty() => None,
            Ok(line) => {
                let text = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no CRLF: {line:?}"));
                assert!(!text.contains(&b'\r'), "lone CR: {text:?}");
                Some(String::from_utf8_lossy(text).into_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A line, or `None` when the connection ended in whatever way.
    pub(crate) async fn line_if_whole(&mut self) -> Option<String> {
        let line = self.octets_of_line().await.ok()?;
        Some(String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned())
    }

    /// What has come of a line that is long.
    pub(crate) async fn line_if_part(&mut self) -> String {
        while self.unread.len() < 1_000 {
            let mut chunk = [0; 4096];
            let read = timeout(SOON, self.socket.read(&mut chunk)).await.unwrap().unwrap();
            self.unread.extend(&chunk[..read]);
        }
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// The rest of a message up to the final dot, dots unstuffed.
    pub(crate) async fn message(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            let line = self.octets_of_line().await.unwrap();
            assert!(line.ends_with(b"\r\n"), "{line:?}");
            if line == b".\r\n" {
                return message;
            }
            message.extend(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    pub(crate) fn split(self) -> (ReadHalf<Socket>, WriteHalf<Socket>) {
        assert!(self.unread.is_empty());
        tokio::io::split(self.socket)
    }

    /// Up to LF, or what came before the end.
    async fn octets_of_line(&mut self) -> io::Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.unread[seen..]) {
                let rest = self.unread.split_off(seen + at + 1);
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            seen = self.unread.len();
            let mut chunk = [0; 4096];
            let read = timeout(SOON, self.socket.read(&mut chunk)).await.expect("the server says nothing")?;
            if read == 0 {
                return Ok(std::mem::take(&mut self.unread));
            }
            self.unread.extend(&chunk[..read]);
        }
    }
}

pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// Polls until it is so.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let polling = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(SOON, polling).await.is_ok(), "never came to be: {what}");
}
