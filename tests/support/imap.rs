//! A raw IMAP client, blocking: it knows lines and literals, and nothing of what they mean.
//!
//! A [`Response`] is one whole response: its text with every literal taken out behind its `{n}`, and the literals as octets.
//! Whatever waits has a deadline of [`SOON`].

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// One response of the server, or a line of another kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Without its line end; what is no UTF-8 is replaced. Each literal is missing behind its `{n}`.
    pub(crate) text: String,
    /// The literals, in their order.
    pub(crate) literals: Vec<Vec<u8>>,
}

/// What a command brought.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Untagged responses, in their order.
    pub(crate) untagged: Vec<Response>,
    /// The tagged one, without its tag: `OK …`, `NO …` or `BAD …`.
    pub(crate) tagged: String,
}

impl Done {
    /// Panics when the command was not done.
    pub(crate) fn ok(self) -> Done {
        assert!(self.tagged.starts_with("OK"), "{self:?}");
        self
    }

    /// The texts of the untagged responses.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.untagged.iter().map(|response| response.text.as_str()).collect()
    }

    /// All literals of all responses.
    pub(crate) fn literals(self) -> Vec<Vec<u8>> {
        self.untagged.into_iter().flat_map(|response| response.literals).collect()
    }
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(tcp) => tcp.read(into),
            Socket::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(tcp) => tcp.write(octets),
            Socket::Tls(tls) => tls.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(tcp) => tcp.flush(),
            Socket::Tls(tls) => tls.flush(),
        }
    }
}

/// A session.
pub(crate) struct Imap {
    stream: BufReader<Socket>,
    commands: u32,
}

impl Imap {
    /// Connects in clear. The greeting has not been read.
    pub(crate) fn plain(address: SocketAddr) -> io::Result<Imap> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SOON))?;
        tcp.set_write_timeout(Some(SOON))?;
        Ok(Imap { stream: BufReader::new(Socket::Plain(tcp)), commands: 0 })
    }

    /// Connects over TLS, whose handshake comes with the first octets. The greeting has not been read.
    pub(crate) fn tls(address: SocketAddr, config: Arc<ClientConfig>, host: &str) -> io::Result<Imap> {
        Imap::plain(address)?.over_tls(config, host)
    }

    /// Goes on over TLS, after the server said OK to STARTTLS.
    pub(crate) fn over_tls(self, config: Arc<ClientConfig>, host: &str) -> io::Result<Imap> {
        assert!(self.stream.buffer().is_empty(), "the server said something before the handshake");
        let Socket::Plain(tcp) = self.stream.into_inner() else { panic!("TLS already") };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let socket = Socket::Tls(Box::new(StreamOwned::new(connection, tcp)));
        Ok(Imap { stream: BufReader::new(socket), commands: self.commands })
    }

    /// Connects over TLS, reads the greeting and logs in.
    pub(crate) fn login(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        host: &str,
        (login, password): (&str, &str),
    ) -> io::Result<Imap> {
        let mut imap = Imap::tls(address, config, host)?;
        let greeting = imap.response()?.map(|greeting| greeting.text).unwrap_or_default();
        if !greeting.starts_with("* OK") {
            return Err(io::Error::other(greeting));
        }
        let done = imap.try_say(&format!("LOGIN {login} {password}"))?;
        if done.tagged.starts_with("OK") { Ok(imap) } else { Err(io::Error::other(done.tagged)) }
    }

    /// Sends octets as they are.
    pub(crate) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)?;
        self.stream.get_mut().flush()
    }

    /// Closes its sending half; it can still read.
    pub(crate) fn close_sending(&mut self) {
        self.stream.get_ref().tcp().shutdown(Shutdown::Write).unwrap();
    }

    /// How long it waits for octets.
    pub(crate) fn wait_at_most(&self, wait: Duration) {
        self.stream.get_ref().tcp().set_read_timeout(Some(wait)).unwrap();
    }

    /// The next response; `None` when the server has closed in good order.
    pub(crate) fn response(&mut self) -> io::Result<Option<Response>> {
        let (mut text, mut literals) = (String::new(), Vec::new());
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line)?;
            if line.is_empty() && text.is_empty() {
                return Ok(None);
            }
            let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
            assert!(!line.contains(&b'\r'), "lone CR: {:?}", String::from_utf8_lossy(line));
            text += &String::from_utf8_lossy(line);
            let Some(octets) = literal_at_end(line) else { return Ok(Some(Response { text, literals })) };
            let mut literal = vec![0; octets];
            self.stream.read_exact(&mut literal)?;
            literals.push(literal);
        }
    }

    /// The next response, which must come.
    pub(crate) fn next(&mut self) -> Response {
        self.response().unwrap().unwrap()
    }

    /// Sends a command under a tag of its own, which it gives.
    pub(crate) fn begin(&mut self, command: &str) -> io::Result<String> {
        self.commands += 1;
        let tag = format!("t{}", self.commands);
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        Ok(tag)
    }

    /// Reads up to the response with this tag.
    pub(crate) fn end(&mut self, tag: &str) -> io::Result<Done> {
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if let Some(tagged) = response.text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                return Ok(Done { untagged, tagged: tagged.to_owned() });
            }
            untagged.push(response);
        }
    }

    /// Sends a command and reads what it brings.
    pub(crate) fn try_say(&mut self, command: &str) -> io::Result<Done> {
        let tag = self.begin(command)?;
        self.end(&tag)
    }

    /// The same of a connection that must hold.
    pub(crate) fn say(&mut self, command: &str) -> Done {
        self.try_say(command).unwrap()
    }

    /// The content of a message of the folder that is open, by UID, without setting `\Seen`.
    pub(crate) fn fetch(&mut self, uid: u32) -> Vec<u8> {
        let mut literals = self.say(&format!("UID FETCH {uid} BODY.PEEK[]")).ok().literals();
        assert_eq!(literals.len(), 1);
        literals.remove(0)
    }

    /// Ends the session.
    pub(crate) fn logout(mut self) {
        let done = self.say("LOGOUT").ok();
        assert!(done.texts().iter().any(|text| text.starts_with("* BYE")), "{done:?}");
        assert_eq!(self.response().unwrap(), None);
    }
}

/// How many octets follow a line that announces a literal.
fn literal_at_end(line: &[u8]) -> Option<usize> {
    let digits = line.strip_suffix(b"}")?;
    let at = digits.iter().rposition(|octet| *octet == b'{')?;
    std::str::from_utf8(digits.get(at + 1..)?).ok()?.parse().ok()
}
