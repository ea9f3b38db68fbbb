//! An SMTP server nobody here wrote, `mailin-embedded`, that keeps what it is given.
//!
//! It speaks STARTTLS with a certificate made for it, and knows one user. It cannot be stopped: its thread ends with the test
//! program.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use mailin_embedded::{AuthMechanism, Handler, Response, Server, SslConfig, response};
use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A message as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    /// The envelope's sender.
    pub(crate) from: String,
    /// The envelope's recipients.
    pub(crate) to: Vec<String>,
    /// Header and body, long lines whole.
    pub(crate) text: String,
}

impl Mail {
    /// A header field's value, unfolded.
    pub(crate) fn header(&self, name: &str) -> String {
        let unfolded = self.text.replace("\r\n ", " ");
        let wanted = format!("{}: ", name.to_ascii_lowercase());
        let line = unfolded.lines().find(|line| line.to_ascii_lowercase().starts_with(&wanted));
        line.map(|line| line.split_at(wanted.len()).1.to_owned()).unwrap_or_default()
    }
}

/// The running server.
pub(crate) struct Sink {
    /// Its port, on loopback.
    pub(crate) port: u16,
    mails: Arc<Mutex<Vec<Mail>>>,
}

/// How it is to be reached.
pub(crate) struct Door<'a> {
    /// Certificate and key, PEM files; without them no STARTTLS.
    pub(crate) pair: Option<(&'a Path, &'a Path)>,
    /// The user it knows, and the password; without them anybody may send.
    pub(crate) login: Option<(&'a str, &'a str)>,
}

#[derive(Clone)]
struct Keeper {
    login: Option<(String, String)>,
    admitted: bool,
    mail: Mail,
    octets: Vec<u8>,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl Handler for Keeper {
    fn mail(&mut self, _: IpAddr, _: &str, from: &str) -> Response {
        if self.login.is_some() && !self.admitted {
            return response::AUTHENTICATION_REQUIRED;
        }
        self.mail = Mail { from: from.to_owned(), ..Mail::default() };
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if to.starts_with("nobody@") {
            return response::NO_MAILBOX;
        }
        self.mail.to.push(to.to_owned());
        response::OK
    }

    fn data(&mut self, octets: &[u8]) -> io::Result<()> {
        self.octets.extend_from_slice(octets);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let text = String::from_utf8(std::mem::take(&mut self.octets)).unwrap();
        // Soft line breaks of quoted-printable are no part of the words.
        self.mail.text = text.replace("=\r\n", "");
        self.mails.lock().unwrap().push(std::mem::take(&mut self.mail));
        response::OK
    }

    fn auth_plain(&mut self, _: &str, user: &str, password: &str) -> Response {
        self.auth_login(user, password)
    }

    fn auth_login(&mut self, user: &str, password: &str) -> Response {
        let wanted = self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
        self.admitted = wanted == Some((user, password));
        if self.admitted { response::AUTH_OK } else { response::INVALID_CREDENTIALS }
    }
}

impl Sink {
    /// Starts one on any port.
    pub(crate) fn start(door: &Door<'_>) -> Sink {
        Sink::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), door)
    }

    /// Starts one on this port.
    pub(crate) fn start_on(listener: TcpListener, door: &Door<'_>) -> Sink {
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let login = door.login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let keeper = Keeper {
            login,
            admitted: false,
            mail: Mail::default(),
            octets: Vec::new(),
            mails: Arc::clone(&mails),
        };
        let mut server = Server::new(keeper);
        if let Some((certificate, key)) = door.pair {
            let path = |path: &Path| path.to_str().unwrap().to_owned();
            let pair = SslConfig::SelfSigned { cert_path: path(certificate), key_path: path(key) };
            server.with_ssl(pair).unwrap();
        }
        if door.login.is_some() {
            server.with_auth(AuthMechanism::Plain).with_auth(AuthMechanism::Login);
        }
        server.with_name("localhost").with_tcp_listener(listener);
        std::thread::spawn(move || server.serve().unwrap());
        Sink { port, mails }
    }

    /// What it was given so far.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}
