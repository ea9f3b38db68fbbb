//! IMAP over TLS: log in, read INBOX, log out (RFC 3501, 2595, 8314). Only what our own server says is understood.

use super::tls::{self, TlsSocket};
use super::{ANSWER_WAIT, Begin, connect, line_of};
use rustls::pki_types::CertificateDer;
use std::io::{self, BufReader, Read, Write};
use std::net::SocketAddr;

/// Largest literal taken, in octets: the messages asked for are our own.
const LITERAL_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// A session over TLS.
pub(crate) struct Imap {
    stream: BufReader<TlsSocket>,
}

impl Imap {
    /// Connects, trusting only `certificate`.
    ///
    /// # Errors
    /// Nobody is there, it does not speak IMAP with TLS, or it shows another certificate.
    pub(crate) fn connect(
        address: SocketAddr,
        begin: Begin,
        host: &str,
        certificate: CertificateDer<'static>,
    ) -> io::Result<Imap> {
        let socket = connect(address, ANSWER_WAIT)?;
        if begin == Begin::InClear {
            // The reader ends with this block: the server says nothing after its answer until TLS begins.
            let mut reader = BufReader::new(&socket);
            good("* OK", line_of(&mut reader)?)?;
            (&socket).write_all(b"d STARTTLS\r\n")?;
            good("d OK", line_of(&mut reader)?)?;
        }
        let mut imap = Imap { stream: BufReader::new(tls::begin(socket, host, Some(certificate))?) };
        if begin == Begin::Implicit {
            good("* OK", line_of(&mut imap.stream)?)?;
        }
        Ok(imap)
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] when login or password are wrong.
    pub(crate) fn login(&mut self, login: &str, password: &str) -> io::Result<()> {
        match self.say(&format!("LOGIN \"{login}\" \"{password}\"")) {
            Err(refused) if refused.to_string().starts_with("d NO [AUTHENTICATIONFAILED]") => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
            }
            other => other.map(drop),
        }
    }

    /// Every message in INBOX, which stays as it is.
    pub(crate) fn inbox(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let opened = self.say("EXAMINE INBOX")?;
        if opened.lines.iter().any(|line| line == "* 0 EXISTS") {
            return Ok(Vec::new());
        }
        Ok(self.say("FETCH 1:* BODY.PEEK[]")?.literals)
    }

    /// Ends the session.
    pub(crate) fn logout(mut self) -> io::Result<()> {
        self.say("LOGOUT").map(drop)
    }

    fn say(&mut self, command: &str) -> io::Result<Answer> {
        self.stream.get_mut().write_all(format!("d {command}\r\n").as_bytes())?;
        self.stream.get_mut().flush()?;
        let mut answer = Answer::default();
        loop {
            let line = line_of(&mut self.stream)?;
            if line.starts_with("d ") {
                return good("d OK", line).map(|_| answer);
            }
            let announced = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
            if let Some(octets) = announced.and_then(|(_, octets)| octets.parse::<u64>().ok()) {
                let mut literal = Vec::new();
                let octets = octets.min(LITERAL_OCTETS_MAX);
                self.stream.by_ref().take(octets).read_to_end(&mut literal)?;
                answer.literals.push(literal);
            }
            answer.lines.push(line);
        }
    }
}

/// What came before the tagged answer.
#[derive(Default)]
struct Answer {
    lines: Vec<String>,
    literals: Vec<Vec<u8>>,
}

/// A line that says yes.
fn good(beginning: &str, line: String) -> io::Result<String> {
    if line.starts_with(beginning) { Ok(line) } else { Err(io::Error::other(line)) }
}
