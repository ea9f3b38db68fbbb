//! The smallest POP3S client that shows the whole journey back: log in, list, retrieve, delete, quit (RFC 1939, 8314).

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Longest line taken, in octets; the demonstration's messages have short ones.
const LINE_OCTETS_MAX: u64 = 1024 * 1024;

/// A session that is logged in.
pub(super) struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    /// Connects, trusting only `certificate`, and logs in.
    pub(super) fn login(
        address: SocketAddr,
        host: &str,
        certificate: CertificateDer<'static>,
        login: &str,
        password: &str,
    ) -> io::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(ANSWER_WAIT))?;
        let mut client = Client { stream: BufReader::new(StreamOwned::new(connection, socket)) };
        client.answer()?;
        client.say(&format!("USER {login}"))?;
        client.say(&format!("PASS {password}"))?;
        Ok(client)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        io::Read::take(&mut self.stream, LINE_OCTETS_MAX).read_until(b'\n', &mut line)?;
        if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn answer(&mut self) -> io::Result<String> {
        let line = String::from_utf8_lossy(&self.line()?).trim_end().to_owned();
        if line.starts_with("+OK") { Ok(line) } else { Err(io::Error::other(line)) }
    }

    fn say(&mut self, command: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    /// How many messages there are.
    pub(super) fn count(&mut self) -> io::Result<usize> {
        let answer = self.say("STAT")?;
        answer.split(' ').nth(1).and_then(|n| n.parse().ok()).ok_or_else(|| io::Error::other(answer))
    }

    /// One message, dot-stuffing undone.
    pub(super) fn retrieve(&mut self, number: usize) -> io::Result<Vec<u8>> {
        self.say(&format!("RETR {number}"))?;
        let mut message = Vec::new();
        loop {
            let line = self.line()?;
            if line == b".\r\n" {
                return Ok(message);
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Marks a message; it goes when [`Client::quit`] is answered.
    pub(super) fn delete(&mut self, number: usize) -> io::Result<()> {
        self.say(&format!("DELE {number}")).map(drop)
    }

    /// Ends the session; deletions are durable when this returns.
    pub(super) fn quit(mut self) -> io::Result<()> {
        self.say("QUIT").map(drop)
    }
}
