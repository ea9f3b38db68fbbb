//! Real clients fetch over POP3 and IMAP, by TLS begun on the plain port and by TLS from the start.
//!
//! Each cell of the matrix is one client on one port with a gateway mailbox of its own ([`visit`]): it fetches everything
//! and leaves it, one more message comes, it fetches and deletes. What it hands over must be what is stored in the form for
//! the wire, octet for octet, once that is undone which the client itself changes; what each changes stands with it. The
//! table in the README is made of the cells that ran.
//!
//! Every client that can verifies the server's certificate.

mod certificates;
mod curl;
mod fetchmail;
mod folders;
mod getmail;
mod matrix;
mod mbsync;
mod messages;
mod mpop;
mod offlineimap;
mod python;
mod smuggling;
mod visit;

use std::path::PathBuf;
use visit::Visit;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Pop3,
    Imap,
}

/// How it comes by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tls {
    /// STLS or STARTTLS.
    Upgrade,
    Implicit,
}

/// The ports there are, in the order of the README's columns.
const PORTS: [(Protocol, Tls); 4] = [
    (Protocol::Pop3, Tls::Upgrade),
    (Protocol::Pop3, Tls::Implicit),
    (Protocol::Imap, Tls::Upgrade),
    (Protocol::Imap, Tls::Implicit),
];

impl Protocol {
    /// As receipts name it.
    fn name(self) -> &'static str {
        match self {
            Protocol::Pop3 => "pop3",
            Protocol::Imap => "imap",
        }
    }
}

/// A program that fetches.
trait Client: Sync {
    fn name(&self) -> &'static str;

    /// What it changes in the messages it hands over, and where it is careless, for the README.
    fn ways(&self) -> &'static str;

    /// Whether it can come this way at all.
    fn can(&self, protocol: Protocol, tls: Tls) -> bool;

    /// Whether it can be told to verify the server's certificate.
    fn verifies(&self, _protocol: Protocol, _tls: Tls) -> bool {
        true
    }

    /// Fetches and leaves everything on the server; gives all that it has, as it handed it over.
    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>>;

    /// Fetches and deletes everything; gives all that it has, as it handed it over.
    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>>;

    /// What it handed over, without what it adds of its own.
    fn undo(&self, fetched: Vec<u8>) -> Vec<u8> {
        fetched
    }

    /// What it makes of messages, given as they go over the wire, besides what is undone.
    fn as_written(&self, visit: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>>;
}

/// Every client of the matrix, in the order of the README's rows.
const CLIENTS: [&dyn Client; 7] = [
    &fetchmail::Fetchmail,
    &getmail::Getmail,
    &mpop::Mpop,
    &mbsync::Mbsync,
    &offlineimap::OfflineImap,
    &curl::Curl,
    &python::Python,
];

/// A script or file of this folder.
fn beside(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/real/fetching").join(name)
}
