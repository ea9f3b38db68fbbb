//! `pop3-login` and `imap-login`: logs in on every port of the running server, and looks whether the report that went in comes out.

use super::delivery::{Credentials, FILE, SEE_LOG, Trial};
use super::{Finding, finding, ports, quoted};
use crate::admin::probe::{Begin, Imap, Pop3};
use crate::store::Digest;
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;

pub(super) const POP3: &str = "pop3-login";
pub(super) const IMAP: &str = "imap-login";

/// What a port is tried with.
struct Door<'a> {
    address: SocketAddr,
    begin: Begin,
    host: &'a str,
    certificate: CertificateDer<'static>,
    credentials: &'a Credentials,
    /// Whether to fetch; the other port of a protocol is only logged in to.
    fetch: bool,
}

/// By POP3; the first session fetches and deletes.
pub(super) fn pop3(trial: &Trial<'_>, sent: Option<&[u8]>) -> Vec<Finding> {
    let services = [("pop3s", Begin::Implicit), ("pop3", Begin::InClear)];
    let off = "POP3 is off: listen and listen_tls under [pop3] are empty";
    each(trial, POP3, services, off, |door| by_pop3(door, sent))
}

/// By IMAP; nothing is changed.
pub(super) fn imap(trial: &Trial<'_>, sent: Option<&[u8]>) -> Vec<Finding> {
    let services = [("imaps", Begin::Implicit), ("imap", Begin::InClear)];
    let off = "IMAP is off: listen and listen_tls under [imap] are empty, or see the check ports";
    each(trial, IMAP, services, off, |door| by_imap(door, sent))
}

fn each(
    trial: &Trial<'_>,
    name: &'static str,
    services: [(&'static str, Begin); 2],
    off: &str,
    session: impl Fn(Door<'_>) -> io::Result<&'static str>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut good = Vec::new();
    for (service, begin) in services {
        let Some(address) = ports::first(trial.subject, service) else { continue };
        let door = Door {
            address,
            begin,
            host: &trial.subject.settings.hostname,
            certificate: trial.certificate.clone(),
            credentials: &trial.credentials,
            fetch: good.is_empty() && findings.is_empty(),
        };
        match session(door) {
            Ok(done) => good.push(format!("{service} {address}: {done}")),
            Err(error) => findings.push(refused(trial, name, &format!("{service} {address}"), &error)),
        }
    }
    if good.is_empty() && findings.is_empty() {
        return vec![Finding::skipped(name, off)];
    }
    finding::or_ok(findings, name, || good.join("; "))
}

fn by_pop3(door: Door<'_>, sent: Option<&[u8]>) -> io::Result<&'static str> {
    let mut pop3 = Pop3::connect(door.address, door.begin, door.host, door.certificate)?;
    pop3.login(&door.credentials.login, &door.credentials.password)?;
    let mut is_there = false;
    if door.fetch {
        for number in 1..=pop3.count()? {
            let octets = pop3.retrieve(number)?;
            is_there |= is_same(sent, &octets);
            pop3.delete(number)?;
        }
    }
    pop3.quit()?;
    let done = "logged in, fetched the report octet by octet as sent, deleted it";
    outcome(door.fetch, sent, is_there, done)
}

fn by_imap(door: Door<'_>, sent: Option<&[u8]>) -> io::Result<&'static str> {
    let mut imap = Imap::connect(door.address, door.begin, door.host, door.certificate)?;
    imap.login(&door.credentials.login, &door.credentials.password)?;
    let is_there = door.fetch && imap.inbox()?.iter().any(|octets| is_same(sent, octets));
    imap.logout()?;
    outcome(door.fetch, sent, is_there, "logged in, read the report octet by octet as sent")
}

fn is_same(sent: Option<&[u8]>, octets: &[u8]) -> bool {
    sent.is_some_and(|sent| Digest::of(sent) == Digest::of(octets))
}

fn outcome(fetch: bool, sent: Option<&[u8]>, is_there: bool, done: &'static str) -> io::Result<&'static str> {
    match sent {
        _ if !fetch => Ok("logged in"),
        None => Ok("logged in, with nothing to fetch: see self-delivery"),
        Some(_) if is_there => Ok(done),
        Some(_) => Err(io::Error::other("the report is not there, or came back changed")),
    }
}

fn refused(trial: &Trial<'_>, name: &'static str, tried: &str, error: &io::Error) -> Finding {
    let seen = format!("{tried}: {error}");
    if error.kind() == io::ErrorKind::PermissionDenied {
        let file = quoted(&trial.subject.settings.data_dir.join(FILE));
        let fix = format!(
            "the password kept for self-tests is not the right one: `rm {file}`, and the next run makes another gateway \
             mailbox for them"
        );
        return Finding::problem(name, seen, fix);
    }
    if error.to_string().contains("[IN-USE]") {
        return Finding::warning(name, seen, "another doctor is at work: try again when it is done");
    }
    Finding::problem(name, seen, format!("see the checks ports and certificate first; {SEE_LOG}"))
}
