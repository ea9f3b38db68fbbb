//! Directories that others wrote: OpenLDAP's slapd and a domain controller of Samba, each in a folder of its own on loopback.

mod cut;
mod program;
mod samba;
mod slapd;

use super::support::wait_until;
use super::write_private;
use daybook::config::{Filters, LdapFlavour, LdapSecurity, LdapSource as Settings, SecretSource};
use daybook::directory::source::ldap::LdapSource;
use daybook::directory::{Candidate, CandidateKind, Listing, Source, SourceError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A server that ends with the test.
struct Daemon(Child);

impl Daemon {
    /// Starts it, and waits until it listens.
    fn start(command: &mut Command, log: &Path, listens: SocketAddr) -> Daemon {
        let name = command.get_program().to_string_lossy().into_owned();
        let log = fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut daemon = Daemon(command.spawn().unwrap_or_else(|e| panic!("{name} is needed: {e}")));
        wait_until(&name, || {
            assert_eq!(daemon.0.try_wait().unwrap(), None, "{name} has ended");
            TcpStream::connect(listens).is_ok()
        });
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// An authority of our own and what it signed for these names: `ca.pem`, `cert.pem`, `key.pem`.
fn write_certificates(dir: &Path, names: &[&str]) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "Corp Root");
    let key = KeyPair::generate().unwrap();
    fs::write(dir.join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("cert.pem"), made.pem()).unwrap();
    write_private(&dir.join("key.pem"), &key.serialize_pem());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn secret(dir: &Path, name: &str, text: &str) -> SecretSource {
    let path: PathBuf = dir.join(name);
    write_private(&path, text);
    SecretSource::File(path)
}

fn read(settings: &Settings, filters: &Filters) -> Result<Listing, SourceError> {
    LdapSource::new(settings, filters).read(&|| true)
}

/// What is found, by id; how long it took is shown.
fn read_all(what: &str, settings: &Settings, filters: &Filters) -> BTreeMap<String, Candidate> {
    let begun = Instant::now();
    let listing = read(settings, filters).unwrap();
    println!(
        "{what}: {} candidates, {} requests, {} ms, {} skipped",
        listing.candidates.len(),
        listing.requests,
        begun.elapsed().as_millis(),
        listing.skipped.len()
    );
    by_id(listing)
}

fn by_id(listing: Listing) -> BTreeMap<String, Candidate> {
    listing.candidates.into_iter().map(|candidate| (candidate.id.clone(), candidate)).collect()
}

/// The one with this primary address.
fn named<'a>(found: &'a BTreeMap<String, Candidate>, primary: &str) -> &'a Candidate {
    let is = |candidate: &&Candidate| {
        candidate.primary.as_ref().is_some_and(|address| address.as_str() == primary)
    };
    found.values().find(is).unwrap_or_else(|| panic!("nobody is {primary}"))
}

fn aliases(candidate: &Candidate) -> Vec<&str> {
    let mut aliases: Vec<&str> = candidate.aliases.iter().map(|alias| alias.as_str()).collect();
    aliases.sort_unstable();
    aliases
}

/// The server refuses, in these words, and so much is advised.
fn assert_refused(settings: &Settings, filters: &Filters, said: &str, advice: &str) {
    match read(settings, filters) {
        Err(SourceError::Refused { said: is_said, advice: is_advised }) => {
            assert!(is_said.contains(said), "{is_said}");
            assert!(is_advised.contains(advice), "{is_said}: {is_advised}");
        }
        other => panic!("not refused ({said}): {other:?}"),
    }
}

fn in_groups(groups: &[&str]) -> Filters {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Filters { groups: Some(groups), ..Filters::default() }
}

/// Runs a program of theirs to its good end.
fn tool(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} is needed: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
