//! The least that can send mail: one command after the other, in clear or by STARTTLS.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages over one connection; the server asks for a new one after a thousand.
const MESSAGES_MAX: u64 = 500;

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// How to trust a server, and its name.
type Trust<'h> = (Arc<ClientConfig>, &'h str);

pub(crate) struct Client<'h> {
    wire: BufReader<Box<dyn Wire>>,
    address: SocketAddr,
    tls: Option<Trust<'h>>,
    sent: u64,
}

/// Trusts this certificate alone.
pub(crate) fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
}

impl<'h> Client<'h> {
    /// Connects, up to the reply to EHLO, over TLS if told how.
    pub(crate) fn connect(address: SocketAddr, tls: Option<Trust<'h>>) -> Client<'h> {
        let tcp = TcpStream::connect(address).expect("a connection");
        tcp.set_nodelay(true).expect("no delay");
        let clear: Box<dyn Wire> = Box::new(tcp.try_clone().expect("a handle"));
        let mut client = Client { wire: BufReader::new(clear), address, tls, sent: 0 };
        client.wanted("220");
        client.say("EHLO client.example\r\n", "250");
        if let Some((config, host)) = &client.tls {
            let name = ServerName::try_from((*host).to_owned()).expect("a name");
            let connection = ClientConnection::new(config.clone(), name).expect("a configuration");
            client.say("STARTTLS\r\n", "220");
            client.wire = BufReader::new(Box::new(StreamOwned::new(connection, tcp)));
            client.say("EHLO client.example\r\n", "250");
        }
        client
    }

    /// Sends one message and waits for its 250; how long that took from the last octet. No line of the body begins with a
    /// dot; it ends with a line end.
    pub(crate) fn deliver(&mut self, to: &str, body: &[u8]) -> Duration {
        if self.sent == MESSAGES_MAX {
            self.say("QUIT\r\n", "221");
            *self = Client::connect(self.address, self.tls.clone());
        }
        self.say("MAIL FROM:<>\r\n", "250");
        self.say(&format!("RCPT TO:<{to}>\r\n"), "250");
        self.say("DATA\r\n", "354");
        self.wire.get_mut().write_all(body).expect("a body to be sent");
        let sent = Instant::now();
        self.say(".\r\n", "250");
        self.sent += 1;
        sent.elapsed()
    }

    fn say(&mut self, line: &str, code: &str) {
        self.wire.get_mut().write_all(line.as_bytes()).expect("a command to be sent");
        self.wire.get_mut().flush().expect("a command to be sent");
        self.wanted(code);
    }

    fn wanted(&mut self, code: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            self.wire.read_line(&mut line).expect("a reply");
            assert!(line.starts_with(code), "{line:?} for {code}");
            if line.as_bytes().get(3) == Some(&b' ') {
                return;
            }
        }
    }
}

/// How many of `n` are this client's.
pub(crate) fn share(client: u64, clients: u64, n: u64) -> u64 {
    n / clients + u64::from(client < n % clients)
}
