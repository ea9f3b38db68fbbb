//! One client at its own gateway mailbox.

use super::messages::{id, on_the_wire};
use super::{Client, Protocol, Tls, beside};
use crate::gateway::{Account, Gateway, until};
use crate::support::{HOST, Smtp};
use crate::{files_in, run, write_private};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Recipients of one transaction.
const RECIPIENTS_MAX: usize = 8;

/// A way in, and a folder for what the client needs and what it hands over.
pub(super) struct Visit<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) account: Account,
    pub(super) protocol: Protocol,
    pub(super) tls: Tls,
    home: tempfile::TempDir,
}

impl<'g> Visit<'g> {
    pub(super) fn new(gateway: &'g Gateway, account: Account, protocol: Protocol, tls: Tls) -> Visit<'g> {
        Visit::trusting(gateway, account, protocol, tls, &gateway.certificate())
    }

    /// One that believes only this certificate.
    pub(super) fn trusting(
        gateway: &'g Gateway,
        account: Account,
        protocol: Protocol,
        tls: Tls,
        certificate: &Path,
    ) -> Visit<'g> {
        // Not below the server's own directory, where no other user may look.
        let home = tempfile::Builder::new().prefix("daybook-client-").tempdir().unwrap();
        fs::copy(certificate, home.path().join("certificate.pem")).unwrap();
        Visit { gateway, account, protocol, tls, home }
    }

    pub(super) fn port(&self) -> u16 {
        let address = match (self.protocol, self.tls) {
            (Protocol::Pop3, Tls::Upgrade) => self.gateway.pop3(),
            (Protocol::Pop3, Tls::Implicit) => self.gateway.pop3s(),
            (Protocol::Imap, Tls::Upgrade) => self.gateway.imap(),
            (Protocol::Imap, Tls::Implicit) => self.gateway.imaps(),
        };
        address.port()
    }

    /// What curl calls the place.
    pub(super) fn url(&self, path: &str) -> String {
        let secure = if self.tls == Tls::Implicit { "s" } else { "" };
        format!("{}{secure}://{HOST}:{}/{path}", self.protocol.name(), self.port())
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.home().join("certificate.pem")
    }

    /// The client's own folder.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A folder in it, made now.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let dir = self.home().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// An empty Maildir.
    pub(super) fn maildir(&self, name: &str) -> PathBuf {
        for part in ["cur", "new", "tmp"] {
            self.folder(&format!("{name}/{part}"));
        }
        self.home().join(name)
    }

    /// A file in it that nobody else may read.
    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home().join(name);
        write_private(&path, text);
        path
    }

    /// A program that does `first` in a shell, then stores what it is given, each time in a new file of the folder `into`.
    pub(super) fn delivery(&self, into: &Path, first: &str) -> PathBuf {
        let name = format!("deliver-{}", into.file_name().unwrap().display());
        let store = format!("exec cat > \"$(mktemp -p {} XXXXXXXX)\"", into.display());
        let script = self.file(&name, &format!("#!/bin/sh\n{first}\n{store}\n"));
        run(Command::new("chmod").arg("700").arg(&script));
        script
    }

    /// Messages as a client hands them over that writes anew what Python reads.
    pub(super) fn rewritten(&self, client: &str, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        for (number, message) in wire.iter().enumerate() {
            fs::write(dir.path().join(number.to_string()), message).unwrap();
        }
        // The one that has the packages of Debian's clients.
        run(self.command("/usr/bin/python3").arg(beside("rewritten.py")).arg(client).arg(dir.path()));
        files_in(dir.path())
    }

    /// A command that finds nothing of this machine's users.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home()).env("HOME", self.home());
        command
    }

    /// What the server holds for it, asked over POP3.
    fn held(&self) -> usize {
        let mut maildrop = self.gateway.maildrop(&self.account);
        let count = maildrop.uidls().len();
        maildrop.quit().unwrap();
        count
    }

    /// The client hands over these messages, each once and as it should.
    fn compare(&self, client: &dyn Client, stored: &[Vec<u8>], fetched: Vec<Vec<u8>>) -> Result<(), String> {
        let wire = stored.iter().map(|message| on_the_wire(message, self.protocol)).collect();
        let wanted = client.as_written(self, wire);
        let mut left: BTreeMap<&[u8], usize> = BTreeMap::new();
        for message in &wanted {
            *left.entry(message).or_default() += 1;
        }
        let (count, mut odd) = (fetched.len(), Vec::new());
        for message in fetched.into_iter().map(|message| client.undo(message)) {
            match left.get_mut(message.as_slice()) {
                Some(times) if *times > 0 => *times -= 1,
                _ => odd.push(first_difference(&message, &wanted)),
            }
        }
        if odd.is_empty() && count == wanted.len() {
            return Ok(());
        }
        Err(format!("{count} messages for {}; not as stored: {odd:#?}", wanted.len()))
    }

    fn expect_held(&self, count: usize) -> Result<(), String> {
        let held = self.held();
        if held == count { Ok(()) } else { Err(format!("the server holds {held} messages, not {count}")) }
    }

    /// Fetches and keeps what is there, and, after one more message came, fetches and deletes.
    pub(super) fn go(&self, client: &dyn Client, stored: &[Vec<u8>], late: Vec<u8>) -> Result<(), String> {
        self.compare(client, stored, client.keep(self)).map_err(|why| format!("kept: {why}"))?;
        self.expect_held(stored.len())?;
        deliver(self.gateway, &[&self.account], std::slice::from_ref(&late));
        let all: Vec<Vec<u8>> = stored.iter().cloned().chain([late]).collect();
        self.compare(client, &all, client.delete(self)).map_err(|why| format!("deleted: {why}"))?;
        self.expect_held(0)
    }

    /// The placements in this gateway mailbox, among the receipts of one Message-ID.
    fn placements(&self, receipts: &Value) -> Vec<Value> {
        let is_ours = |receipt: &&Value| receipt["address"] == self.account.address.as_str();
        let ours = receipts.as_array().into_iter().flatten().filter(is_ours);
        ours.flat_map(|receipt| receipt["placements"].as_array().cloned().unwrap_or_default()).collect()
    }

    fn inbox(&self, receipts: &Value) -> Option<Value> {
        self.placements(receipts).into_iter().find(|placement| placement["folder"] == "INBOX")
    }

    /// How many messages the server put in each folder of those that came of these.
    pub(super) fn placed(&self, messages: &[Vec<u8>]) -> BTreeMap<String, usize> {
        // Several receipts may name one placement: an original that was there already is not put there again.
        let mut placements = BTreeSet::new();
        for message in messages {
            for placement in self.placements(&self.gateway.ask(&["trace", &id(message)])) {
                let folder = placement["folder"].as_str().unwrap().to_owned();
                placements.insert((folder, placement["uid"].to_string()));
            }
        }
        let mut placed = BTreeMap::new();
        for (folder, _) in placements {
            *placed.entry(folder).or_default() += 1;
        }
        placed
    }

    /// Its receipt tells that it was fetched, then deleted, by this client.
    fn told(&self, inbox: &Value) -> Result<(), String> {
        let is_ours = |event: &Value| {
            let client = &event["client"];
            let protocol = self.protocol.name();
            client["peer"] == "127.0.0.1"
                && client["protocol"] == protocol
                && client["session_id"].is_string()
        };
        let kinds = kinds(inbox);
        let in_order = kinds.split_last().is_some_and(|(last, before)| {
            *last == "deleted" && !before.is_empty() && before.iter().all(|kind| *kind == "fetched")
        });
        let all_ours = inbox["events"].as_array().unwrap().iter().all(is_ours);
        if in_order && all_ours { Ok(()) } else { Err(format!("{inbox:#}")) }
    }
}

/// Sends messages to gateway mailboxes as they are, by BDAT.
pub(super) fn deliver(gateway: &Gateway, accounts: &[&Account], messages: &[Vec<u8>]) {
    let mut smtp = Smtp::connect(gateway.smtp());
    for some in accounts.chunks(RECIPIENTS_MAX) {
        let to: Vec<&str> = some.iter().map(|account| account.address.as_str()).collect();
        for message in messages {
            let said = smtp.send_by_bdat(&to, message);
            assert!(said.starts_with("250 2.0.0 Ok "), "{said}");
        }
    }
}

/// What the receipts of these messages tell of these visits, once each tells of a deletion: what a client did in a session is written
/// down a moment after it went. By address, what is wrong.
pub(super) fn trails(
    gateway: &Gateway,
    visits: &[&Visit<'_>],
    messages: &[Vec<u8>],
) -> BTreeMap<String, String> {
    let mut wrong = BTreeMap::new();
    for id in messages.iter().map(|message| id(message)) {
        let found = until(&format!("the trails of {id}"), || {
            let receipts = gateway.ask(&["trace", &id]);
            let found: Vec<Value> = visits.iter().filter_map(|visit| visit.inbox(&receipts)).collect();
            let are_deleted = found.iter().all(|inbox| kinds(inbox).last() == Some(&"deleted"));
            (found.len() == visits.len() && are_deleted).then_some(found)
        });
        for (visit, inbox) in visits.iter().zip(found) {
            if let Err(why) = visit.told(&inbox) {
                wrong.insert(visit.account.address.clone(), format!("the trail of {id}: {why}"));
            }
        }
    }
    wrong
}

/// What happened to a placement, in order.
fn kinds(placement: &Value) -> Vec<&str> {
    let events = placement["events"].as_array().unwrap().iter();
    events.map(|event| event["kind"].as_str().unwrap()).collect()
}

/// Where a message that was not sent parts from the nearest one that was.
fn first_difference(message: &[u8], sent: &[Vec<u8>]) -> String {
    let common = |other: &&Vec<u8>| message.iter().zip(other.iter()).take_while(|(a, b)| a == b).count();
    let nearest = sent.iter().max_by_key(common).unwrap();
    let at = common(&nearest);
    let near = |octets: &[u8]| {
        let window = &octets[at.saturating_sub(60).min(octets.len())..(at + 60).min(octets.len())];
        String::from_utf8_lossy(window).into_owned()
    };
    let lengths = (message.len(), nearest.len());
    format!("{lengths:?} octets, apart at {at}: {:?} for {:?}", near(message), near(nearest))
}
