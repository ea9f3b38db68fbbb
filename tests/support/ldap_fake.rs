//! An LDAP server on loopback that answers what it is told to, also what no real one would (RFC 4511).
//!
//! Take it in with `#[path = "support/ldap_fake.rs"] mod ldap_fake;`.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) const BIND: u8 = 0x60;
pub(crate) const SEARCH: u8 = 0x63;
pub(crate) const EXTENDED: u8 = 0x77;
const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;

/// What a client asks.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Number of the message, encoded.
    pub(crate) id: Vec<u8>,
    /// What it is.
    pub(crate) operation: u8,
    /// How many searches came before it on this connection.
    pub(crate) searches: usize,
    /// All of it.
    pub(crate) octets: Vec<u8>,
}

impl Request {
    /// Whether this stands in it somewhere.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.octets.windows(text.len()).any(|part| part == text.as_bytes())
    }

    pub(crate) fn message(&self, operation: &[u8], controls: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[&element(0x02, &self.id), operation, controls].concat())
    }

    /// An entry with these attributes and values.
    pub(crate) fn entry(&self, dn: &str, attributes: &[(&str, &[&str])]) -> Vec<u8> {
        let attributes = attributes.iter().map(|(name, values)| {
            let values: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
            element(SEQUENCE, &[text(name), element(0x31, &values)].concat())
        });
        let attributes = attributes.collect::<Vec<_>>().concat();
        self.message(&element(0x64, &[text(dn), element(SEQUENCE, &attributes)].concat()), &[])
    }

    /// A reference to another server.
    pub(crate) fn reference(&self, url: &str) -> Vec<u8> {
        self.message(&element(0x73, &text(url)), &[])
    }

    /// The end of what was asked, with this code.
    pub(crate) fn done(&self, code: u8, said: &str) -> Vec<u8> {
        self.result(code, said, &[], &[])
    }

    /// The end of a page; an empty cookie says that it is the last.
    pub(crate) fn page_done(&self, cookie: &str) -> Vec<u8> {
        let value = element(SEQUENCE, &[element(0x02, &[0]), text(cookie)].concat());
        let control = [text("1.2.840.113556.1.4.319"), element(OCTET_STRING, &value)].concat();
        self.result(0, "", &[], &element(0xa0, &element(SEQUENCE, &control)))
    }

    pub(crate) fn referral(&self, url: &str) -> Vec<u8> {
        self.result(10, "", &element(0xa3, &text(url)), &[])
    }

    fn result(&self, code: u8, said: &str, further: &[u8], controls: &[u8]) -> Vec<u8> {
        let answer = match self.operation {
            BIND => 0x61,
            EXTENDED => 0x78,
            _ => 0x65,
        };
        let result = [&element(0x0a, &[code]), &text(""), &text(said), further].concat();
        self.message(&element(answer, &result), controls)
    }
}

pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84], length.as_slice(), content].concat()
}

fn text(text: &str) -> Vec<u8> {
    element(OCTET_STRING, text.as_bytes())
}

/// What the server does.
pub(crate) enum Said {
    /// Answers, and goes on.
    Answer(Vec<u8>),
    /// Answers, and hangs up.
    Last(Vec<u8>),
    /// Says nothing.
    Nothing,
}

/// A server, and how many passwords it was sent.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    passwords: Arc<AtomicUsize>,
}

impl Fake {
    /// Answers as `answer` says; where that is `None`, logins succeed, searches find nothing, and extensions are unknown.
    pub(crate) fn start(answer: impl Fn(&Request) -> Option<Said> + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let passwords = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&passwords);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                serve(client, &answer, &counted);
            }
        });
        Fake { address, passwords }
    }

    pub(crate) fn passwords(&self) -> usize {
        self.passwords.load(Ordering::SeqCst)
    }
}

fn serve(mut client: TcpStream, answer: &dyn Fn(&Request) -> Option<Said>, passwords: &AtomicUsize) {
    // Whoever is never answered leaves in the end; nobody is waited for longer than a test takes.
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut searches = 0;
    while let Some(mut request) = read(&mut client) {
        request.searches = searches;
        searches += usize::from(request.operation == SEARCH);
        passwords.fetch_add(usize::from(request.operation == BIND), Ordering::SeqCst);
        let usual = || match request.operation {
            BIND => Said::Answer(request.done(0, "")),
            SEARCH => Said::Answer(request.page_done("")),
            EXTENDED => Said::Answer(request.done(2, "unsupported extended operation")),
            _ => Said::Last(Vec::new()),
        };
        let sent = match answer(&request).unwrap_or_else(usual) {
            Said::Answer(octets) => client.write_all(&octets),
            Said::Nothing => Ok(()),
            Said::Last(octets) => {
                client.write_all(&octets).ok();
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The next request; `None` when there is none, or what comes is no LDAP.
fn read(client: &mut TcpStream) -> Option<Request> {
    let (head, content) = read_element(client)?;
    let id_octets = usize::from(*content.get(1)?);
    let id = content.get(2..2 + id_octets)?.to_vec();
    let operation = *content.get(2 + id_octets)?;
    (head == SEQUENCE).then_some(Request { id, operation, searches: 0, octets: content })
}

fn read_element(client: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    client.read_exact(&mut head).ok()?;
    let mut length = usize::from(head[1]);
    if length > 0x80 {
        let mut octets = vec![0; length - 0x80];
        client.read_exact(&mut octets).ok()?;
        length = octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
    }
    let mut content = vec![0; length];
    client.read_exact(&mut content).ok()?;
    Some((head[0], content))
}
