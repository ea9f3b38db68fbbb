//! Reads a maildrop over POP3S as a careful poller would, without ever holding a message in memory.

use super::load::{Sha256, finish};
use super::support::{HOST, SOON};
use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// Octets of a message that are searched for its Message-ID.
const HEADER_OCTETS_MAX: usize = 16 * 1024;

/// What is known of a fetched message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// The outermost Message-ID.
    pub(crate) message_id: Option<String>,
    pub(crate) sha256: Sha256,
    pub(crate) octets: u64,
}

/// One session.
pub(crate) struct Maildrop {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Maildrop {
    /// Logs in; waits while another session, perhaps one that is just being torn down, has the maildrop, and
    /// while the server makes its index anew.
    pub(crate) fn open(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        login: &str,
        password: &str,
    ) -> Maildrop {
        Maildrop::try_open(address, config, login, password).unwrap_or_else(|e| panic!("login: {e}"))
    }

    /// As [`Maildrop::open`], where it may not work.
    pub(crate) fn try_open(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        login: &str,
        password: &str,
    ) -> io::Result<Maildrop> {
        let deadline = Instant::now() + SOON;
        loop {
            let tcp = TcpStream::connect(address)?;
            tcp.set_nodelay(true)?;
            tcp.set_read_timeout(Some(SOON))?;
            let tls = ClientConnection::new(Arc::clone(config), ServerName::try_from(HOST).unwrap()).unwrap();
            let mut drop =
                Maildrop { stream: BufReader::with_capacity(128 * 1024, StreamOwned::new(tls, tcp)) };
            drop.line()?;
            drop.ok(&format!("USER {login}"))?;
            match drop.ok(&format!("PASS {password}")) {
                Ok(_) => return Ok(drop),
                Err(e) => {
                    let said = e.to_string();
                    let is_for_now = said.contains("[IN-USE]") || said.contains("[SYS/TEMP]");
                    if !is_for_now || Instant::now() >= deadline {
                        return Err(e);
                    }
                }
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends a command; the rest of the `+OK` line.
    pub(crate) fn ok(&mut self, command: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.stream.get_mut().flush()?;
        let line = self.line()?;
        match line.strip_prefix("+OK") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(io::Error::other(format!("{command}: {line}"))),
        }
    }

    /// Message numbers by UIDL.
    pub(crate) fn uidls(&mut self) -> BTreeMap<String, u32> {
        self.try_uidls().unwrap()
    }

    /// As [`Maildrop::uidls`], where it may not work.
    pub(crate) fn try_uidls(&mut self) -> io::Result<BTreeMap<String, u32>> {
        self.ok("UIDL")?;
        let mut uidls = BTreeMap::new();
        loop {
            let line = self.line()?;
            if line == "." {
                return Ok(uidls);
            }
            let (number, uidl) = line.split_once(' ').unwrap();
            assert_eq!(uidls.insert(uidl.to_owned(), number.parse().unwrap()), None, "UIDL {uidl} twice");
        }
    }

    /// Fetches one message; the reply if it cannot be had.
    pub(crate) fn try_to_fetch(&mut self, number: u32) -> io::Result<Fetched> {
        // One line of it shows whether it can be opened.
        self.ok(&format!("TOP {number} 0"))?;
        while self.line()? != "." {}
        Ok(self.fetch(number))
    }

    /// Fetches one message.
    pub(crate) fn fetch(&mut self, number: u32) -> Fetched {
        self.try_fetch(number).unwrap()
    }

    /// As [`Maildrop::fetch`], where it may not work. A message that breaks off ends the session too.
    pub(crate) fn try_fetch(&mut self, number: u32) -> io::Result<Fetched> {
        let mut context = Context::new(&SHA256);
        let mut header = Vec::new();
        let octets = self.try_lines(number, |line| {
            if header.len() < HEADER_OCTETS_MAX {
                header.extend_from_slice(line);
            }
            context.update(line);
        })?;
        Ok(Fetched { message_id: message_id(&header), sha256: finish(context), octets })
    }

    /// Shows the lines of one message, with their ends; gives the octets they are in all.
    pub(crate) fn lines(&mut self, number: u32, show: impl FnMut(&[u8])) -> u64 {
        self.try_lines(number, show).unwrap()
    }

    fn try_lines(&mut self, number: u32, mut show: impl FnMut(&[u8])) -> io::Result<u64> {
        let announced = self.ok(&format!("RETR {number}"))?;
        let (mut octets, mut line) = (0, Vec::new());
        loop {
            line.clear();
            self.stream.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\r\n") {
                return Err(io::Error::other(format!("message {number} broke off after {octets} octets")));
            }
            if line == b".\r\n" {
                break;
            }
            let content = line.strip_prefix(b".").unwrap_or(&line);
            show(content);
            octets += content.len() as u64;
        }
        let announced = announced.split(' ').next().and_then(|n| n.parse().ok());
        assert!(announced.is_none_or(|n: u64| n == octets), "{announced:?} octets announced, {octets} sent");
        Ok(octets)
    }

    pub(crate) fn delete(&mut self, number: u32) {
        self.ok(&format!("DELE {number}")).unwrap();
    }

    /// Ends the session; on `Ok` what was deleted is gone.
    pub(crate) fn quit(mut self) -> io::Result<()> {
        self.ok("QUIT").map(drop)
    }
}

/// The Message-ID in a header block, unfolded lines only.
pub(crate) fn message_id(header: &[u8]) -> Option<String> {
    let lines = header.split(|octet| *octet == b'\n').map(|line| line.trim_ascii_end());
    let mut header = lines.take_while(|line| !line.is_empty());
    header.find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Message-ID").then(|| value.trim().to_owned())
    })
}
