//! POP3 over TLS: log in, list, retrieve, delete, quit (RFC 1939, 2595, 8314).

use super::tls::{self, TlsSocket};
use super::{ANSWER_WAIT, Begin, connect, line, line_of};
use rustls::pki_types::CertificateDer;
use std::io::{self, BufReader, Write};
use std::net::SocketAddr;

/// A session over TLS.
pub(crate) struct Pop3 {
    stream: BufReader<TlsSocket>,
}

impl Pop3 {
    /// Connects, trusting only `certificate`.
    ///
    /// # Errors
    /// Nobody is there, it does not speak POP3 with TLS, or it shows another certificate.
    pub(crate) fn connect(
        address: SocketAddr,
        begin: Begin,
        host: &str,
        certificate: CertificateDer<'static>,
    ) -> io::Result<Pop3> {
        let mut socket = connect(address, ANSWER_WAIT)?;
        if begin == Begin::InClear {
            // The reader ends with this block: the server says nothing after its answer until TLS begins.
            let mut reader = BufReader::new(&socket);
            good(line_of(&mut reader)?)?;
            (&socket).write_all(b"STLS\r\n")?;
            good(line_of(&mut reader)?)?;
        }
        socket.flush()?;
        let mut pop3 = Pop3 { stream: BufReader::new(tls::begin(socket, host, Some(certificate))?) };
        if begin == Begin::Implicit {
            good(line_of(&mut pop3.stream)?)?;
        }
        Ok(pop3)
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] when login or password are wrong.
    pub(crate) fn login(&mut self, login: &str, password: &str) -> io::Result<()> {
        self.say(&format!("USER {login}"))?;
        match self.say(&format!("PASS {password}")) {
            Err(refused) if refused.to_string().starts_with("-ERR [AUTH]") => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
            }
            other => other.map(drop),
        }
    }

    fn say(&mut self, command: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.stream.get_mut().flush()?;
        good(line_of(&mut self.stream)?)
    }

    /// How many messages there are.
    pub(crate) fn count(&mut self) -> io::Result<usize> {
        let answer = self.say("STAT")?;
        answer.split(' ').nth(1).and_then(|n| n.parse().ok()).ok_or_else(|| io::Error::other(answer))
    }

    /// One message, counted from 1, dot-stuffing undone.
    pub(crate) fn retrieve(&mut self, number: usize) -> io::Result<Vec<u8>> {
        self.say(&format!("RETR {number}"))?;
        let mut message = Vec::new();
        loop {
            let line = line(&mut self.stream)?;
            if line == b".\r\n" {
                return Ok(message);
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Marks a message; it goes when [`Pop3::quit`] is answered.
    pub(crate) fn delete(&mut self, number: usize) -> io::Result<()> {
        self.say(&format!("DELE {number}")).map(drop)
    }

    /// Ends the session; deletions are durable when this returns.
    pub(crate) fn quit(mut self) -> io::Result<()> {
        self.say("QUIT").map(drop)
    }
}

/// A status line that says yes.
fn good(line: String) -> io::Result<String> {
    if line.starts_with("+OK") { Ok(line) } else { Err(io::Error::other(line)) }
}
