//! Real clients against the built server: swaks and Python's smtplib deliver, Python's poplib, fetchmail and getmail fetch. What
//! comes out must be what went in, octet for octet (after LF → CRLF for those that write Unix mail files).
//!
//! Prometheus' own `promtool` reads the metrics and the alert rules; Python's `email` takes the corpus apart.
//!
//! Run by `tests/real.sh`, which installs them. A client that is missing fails its test.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what clients say is to be read")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/load.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod load;

#[path = "real/gateway.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod gateway;

#[path = "real/maildrop.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod maildrop;

#[path = "support/corpus.rs"]
mod corpus_messages;

#[path = "support/extracted.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod extracted;

#[path = "support/parts.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod parts;

#[path = "real/age.rs"]
mod age;
#[path = "real/ballast.rs"]
mod ballast;
#[path = "real/checkpoint.rs"]
mod checkpoint;
#[path = "real/clock.rs"]
mod clock;
#[path = "real/export.rs"]
mod export;

#[path = "real/packaging.rs"]
mod packaging;

#[path = "real/promtool.rs"]
mod promtool;

#[path = "real/python_email.rs"]
mod python_email;

use gateway::{Account, Gateway};
use load::{report, sha256};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{HOST, corpus};

/// A fetchmail that found nothing to fetch says so with this exit code.
const FETCHMAIL_NO_MAIL: i32 = 1;

/// The report of the demonstration, and a larger one with all that clients trip over.
fn messages() -> Vec<Vec<u8>> {
    vec![corpus("demo/report.eml"), report("real-clients", 1_500_000).octets]
}

/// Messages that Python's email package writes as it reads them: getmail takes messages apart and puts them together
/// again, and folds the longer header lines of the demonstration, those of its original included.
fn messages_for_getmail() -> Vec<Vec<u8>> {
    vec![report("getmail", 3_000).octets, report("getmail-large", 1_500_000).octets]
}

/// A gateway with one account, and the messages as files.
struct Fixture {
    gateway: Gateway,
    account: Account,
    messages: Vec<Vec<u8>>,
    files: Vec<PathBuf>,
}

impl Fixture {
    fn new(messages: Vec<Vec<u8>>) -> Fixture {
        let gateway = Gateway::start();
        let account = gateway.create_account();
        let name = |n| gateway.path(&format!("message-{n}.eml"));
        let files: Vec<_> = (0..messages.len()).map(name).collect();
        for (file, message) in files.iter().zip(&messages) {
            fs::write(file, message).unwrap();
        }
        Fixture { gateway, account, messages, files }
    }

    /// One that holds the messages already.
    fn filled(messages: Vec<Vec<u8>>) -> Fixture {
        let fixture = Fixture::new(messages);
        fixture.send_by_python();
        fixture
    }

    fn send_by_python(&self) {
        for file in &self.files {
            let said = run(self
                .python("send.py")
                .args([HOST, &self.gateway.smtp().port().to_string()])
                .arg(self.gateway.certificate())
                .arg(&self.account.address)
                .arg(file));
            assert!(said.contains("2.0.0 Ok "), "{said}");
        }
    }

    fn python(&self, script: &str) -> Command {
        let mut python = Command::new("python3");
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(script));
        python
    }

    /// What the server says it holds, oldest first, and how each came.
    fn receipts(&self) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        for message in &self.messages {
            let id = message_id(message);
            let found = self.gateway.ask(&["trace", &id]);
            all.extend(found.as_array().unwrap().iter().cloned());
        }
        all
    }

    /// The messages are stored as they were sent, each once, by TLS.
    fn assert_all_stored_over_tls(&self) {
        let receipts = self.receipts();
        assert_eq!(receipts.len(), self.messages.len(), "{receipts:#?}");
        for (receipt, message) in receipts.iter().zip(&self.messages) {
            assert_eq!(
                receipt["sha256"],
                hex(&sha256(message)),
                "the stored octets are not those of the file"
            );
            assert_eq!(receipt["octets"], message.len());
            assert!(receipt["transport"]["tls"].is_object(), "not over TLS: {receipt:#?}");
        }
        let mut maildrop = self.gateway.maildrop(&self.account);
        let numbers: Vec<u32> = maildrop.uidls().into_values().collect();
        let held: BTreeSet<_> = numbers.into_iter().map(|number| maildrop.fetch(number).sha256).collect();
        assert_eq!(held, self.messages.iter().map(|message| sha256(message)).collect());
        maildrop.quit().unwrap();
    }

    fn held(&self) -> usize {
        let mut maildrop = self.gateway.maildrop(&self.account);
        let count = maildrop.uidls().len();
        maildrop.quit().unwrap();
        count
    }

    /// What was fetched are the messages, in any order, but for line ends.
    fn assert_fetched(&self, fetched: &[Vec<u8>]) {
        let found: BTreeSet<_> = fetched.iter().map(|octets| with_crlf(octets)).collect();
        let sent: BTreeSet<_> = self.messages.iter().cloned().collect();
        if found != sent {
            let what: Vec<_> = found.difference(&sent).map(|m| first_difference(m, &sent)).collect();
            panic!("{} messages, not as sent: {what:#?}", fetched.len());
        }
        assert_eq!(fetched.len(), self.messages.len(), "something was fetched twice");
    }

    /// Every INBOX placement has this story, by this machine.
    fn assert_story(&self, kinds: &[&str]) {
        for receipt in self.receipts() {
            let placements = receipt["placements"].as_array().unwrap();
            let inbox = placements.iter().find(|placement| placement["folder"] == "INBOX").unwrap();
            let events = inbox["events"].as_array().unwrap();
            let found: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
            assert_eq!(found, kinds, "{inbox:#?}");
            for event in events {
                assert!(
                    event["at"].as_str().is_some_and(|at| at > receipt["at"].as_str().unwrap()),
                    "{event:#?}"
                );
                assert_eq!(event["client"]["peer"], "127.0.0.1", "{event:#?}");
                assert_eq!(event["client"]["protocol"], "pop3", "{event:#?}");
                assert!(event["client"]["session_id"].is_string(), "{event:#?}");
            }
        }
    }

    /// A directory that only this test uses.
    fn fresh_dir(&self, name: &str) -> PathBuf {
        let dir = self.gateway.path(name);
        fs::create_dir(&dir).unwrap();
        dir
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn message_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let line = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
    line.trim().to_owned()
}

/// Unix line ends to those of mail. Messages here hold no lone CR or LF, so this has one answer.
fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
            Some(content) => {
                out.extend_from_slice(content);
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// Where a message that was not sent parts from the nearest one that was.
fn first_difference(message: &[u8], sent: &BTreeSet<Vec<u8>>) -> String {
    let common = |other: &Vec<u8>| message.iter().zip(other).take_while(|(a, b)| a == b).count();
    let nearest = sent.iter().max_by_key(|other| common(other)).unwrap();
    let at = common(nearest);
    let near = |octets: &[u8]| {
        let window = &octets[at.saturating_sub(60).min(octets.len())..(at + 60).min(octets.len())];
        String::from_utf8_lossy(window).into_owned()
    };
    let lengths = (message.len(), nearest.len());
    format!("{lengths:?} octets, apart at {at}: {:?} for {:?}", near(message), near(nearest))
}

/// Runs a client to its good end; what it said on standard output.
fn run(command: &mut Command) -> String {
    run_for(command, 0)
}

fn run_for(command: &mut Command, code: i32) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    let text = |octets: &[u8]| {
        let text = String::from_utf8_lossy(octets);
        text.chars().take(4_000).collect::<String>()
    };
    assert_eq!(
        output.status.code(),
        Some(code),
        "{program}: {}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn files_in(dir: &Path) -> Vec<Vec<u8>> {
    fs::read_dir(dir).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn swaks_delivers_over_starttls() {
    let fixture = Fixture::new(messages());
    for (file, message) in fixture.files.iter().zip(&fixture.messages) {
        // swaks ends what it sends with a line end of its own. Besides that it only dot-stuffs: there is no `%` token, no
        // backslash and no lone LF in these messages that it would replace.
        fs::write(file, message.strip_suffix(b"\r\n").unwrap()).unwrap();
        run(Command::new("swaks")
            .args(["--server", &fixture.gateway.smtp().to_string(), "--helo", "swaks.example"])
            .args(["--from", "<>", "--to", &fixture.account.address])
            // Fails when TLS cannot be had.
            .args(["--tls", "--hide-all", "--data"])
            .arg(format!("@{}", file.display())));
    }
    fixture.assert_all_stored_over_tls();
}

#[test]
fn python_smtplib_delivers_over_starttls() {
    let fixture = Fixture::filled(messages());
    fixture.assert_all_stored_over_tls();
}

#[test]
fn python_poplib_fetches_over_pop3s() {
    let fixture = Fixture::filled(messages());
    let said = run(fixture
        .python("fetch.py")
        .args([HOST, &fixture.gateway.pop3s().port().to_string()])
        .arg(fixture.gateway.certificate())
        .args([&fixture.account.login, &fixture.account.password]));
    let sent: Vec<_> = fixture.messages.iter().map(|message| hex(&sha256(message))).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), sent);
    fixture.assert_story(&["fetched"]);
}

/// How fetchmail comes by TLS.
#[derive(Clone, Copy)]
enum FetchmailTls {
    Stls,
    Implicit,
}

/// fetchmail with a configuration of its own, handing each message to a file in the directory returned.
struct Fetchmail<'a> {
    fixture: &'a Fixture,
    home: PathBuf,
    inbox: PathBuf,
}

impl Fetchmail<'_> {
    fn new(fixture: &Fixture, tls: FetchmailTls, keep: bool) -> Fetchmail<'_> {
        let home = fixture.fresh_dir("fetchmail");
        let inbox = fixture.fresh_dir("fetched");
        let deliver = home.join("deliver");
        // fetchmail pipes each message into this, one run for each.
        let script = format!("#!/bin/sh\nexec cat > \"$(mktemp -p {} XXXXXXXX)\"\n", inbox.display());
        fs::write(&deliver, script).unwrap();
        fs::set_permissions(&deliver, fs::Permissions::from_mode(0o755)).unwrap();
        let (port, ssl) = match tls {
            // Without `ssl` a protocol that must not be auto makes STLS mandatory.
            FetchmailTls::Stls => (fixture.gateway.pop3().port(), "sslproto TLS1.2+"),
            FetchmailTls::Implicit => (fixture.gateway.pop3s().port(), "ssl sslproto TLS1.2+"),
        };
        let Account { login, password, .. } = &fixture.account;
        let certificate = fixture.gateway.certificate();
        let configuration = format!(
            "set invisible\nset no bouncemail\nset no syslog\n\
             poll {HOST} service {port} protocol pop3 uidl timeout 60\n\
             user \"{login}\" password \"{password}\" is root here\n\
             {ssl} sslcertck sslcertfile {certificate:?}\n\
             no rewrite pass8bits no mimedecode no dropstatus no dropdelivered {keep} fetchall\n\
             mda {deliver:?}\n",
            keep = if keep { "keep" } else { "no keep" },
        );
        write_private(&home.join("fetchmailrc"), &configuration);
        Fetchmail { fixture, home, inbox }
    }

    fn poll(&self, code: i32) {
        run_for(
            Command::new("fetchmail")
                .args(["--nodetach", "-v", "--fetchmailrc"])
                .arg(self.home.join("fetchmailrc"))
                .arg("--idfile")
                .arg(self.home.join("ids"))
                .arg("--pidfile")
                .arg(self.home.join("pid"))
                .env("FETCHMAILHOME", &self.home)
                .env("HOME", &self.home),
            code,
        );
    }

    fn assert_fetched(&self) {
        self.fixture.assert_fetched(&files_in(&self.inbox));
    }
}

#[test]
fn fetchmail_fetches_and_keeps_over_stls() {
    let fixture = Fixture::filled(messages());
    let fetchmail = Fetchmail::new(&fixture, FetchmailTls::Stls, true);
    fetchmail.poll(0);
    fetchmail.assert_fetched();
    assert_eq!(fixture.held(), fixture.messages.len());
    fixture.assert_story(&["fetched"]);
}

#[test]
fn fetchmail_fetches_and_deletes_over_stls() {
    let fixture = Fixture::filled(messages());
    let fetchmail = Fetchmail::new(&fixture, FetchmailTls::Stls, false);
    fetchmail.poll(0);
    fetchmail.assert_fetched();
    fetchmail.poll(FETCHMAIL_NO_MAIL);
    assert_eq!(fixture.held(), 0);
    fixture.assert_story(&["fetched", "deleted"]);
}

#[test]
fn fetchmail_fetches_and_keeps_over_pop3s() {
    let fixture = Fixture::filled(messages());
    let fetchmail = Fetchmail::new(&fixture, FetchmailTls::Implicit, true);
    fetchmail.poll(0);
    fetchmail.assert_fetched();
    assert_eq!(fixture.held(), fixture.messages.len());
    fixture.assert_story(&["fetched"]);
}

#[test]
fn fetchmail_fetches_and_deletes_over_pop3s() {
    let fixture = Fixture::filled(messages());
    let fetchmail = Fetchmail::new(&fixture, FetchmailTls::Implicit, false);
    fetchmail.poll(0);
    fetchmail.assert_fetched();
    fetchmail.poll(FETCHMAIL_NO_MAIL);
    assert_eq!(fixture.held(), 0);
    fixture.assert_story(&["fetched", "deleted"]);
}

/// getmail as an ordinary user, delivering into a Maildir of that user's.
struct Getmail<'a> {
    fixture: &'a Fixture,
    home: tempfile::TempDir,
}

impl Getmail<'_> {
    fn new(fixture: &Fixture, delete: bool) -> Getmail<'_> {
        // Not below the server's own directory, where nobody else may look.
        let home = tempfile::Builder::new().prefix("daybook-getmail-").tempdir().unwrap();
        let certificate = home.path().join("certificate.pem");
        fs::copy(fixture.gateway.certificate(), &certificate).unwrap();
        for dir in ["Maildir", "Maildir/cur", "Maildir/new", "Maildir/tmp"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        let Account { login, password, .. } = &fixture.account;
        let configuration = format!(
            "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = {HOST}\nport = {port}\n\
             username = {login}\npassword = {password}\nca_certs = {certificate}\n\
             [destination]\ntype = Maildir\npath = {home}/Maildir/\n\
             [options]\nreceived = false\ndelivered_to = false\nread_all = true\ndelete = {delete}\nverbose = 2\n",
            port = fixture.gateway.pop3s().port(),
            certificate = certificate.display(),
            home = home.path().display(),
        );
        write_private(&home.path().join("getmailrc"), &configuration);
        run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(home.path()));
        Getmail { fixture, home }
    }

    fn poll(&self) -> String {
        run(Command::new("setpriv")
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "getmail", "--getmaildir"])
            .arg(self.home.path())
            .current_dir(self.home.path())
            .env("HOME", self.home.path()))
    }

    fn assert_fetched(&self) {
        let without_return_path = |mut octets: Vec<u8>| {
            // getmail writes its own on top, folded as it likes; nothing turns that off.
            assert!(octets.starts_with(b"Return-Path:"), "getmail has changed its ways");
            let is_end = |pair: &[u8]| pair[0] == b'\n' && pair[1] != b' ' && pair[1] != b'\t';
            let end = octets.windows(2).position(is_end).unwrap();
            octets.split_off(end + 1)
        };
        let delivered = files_in(&self.home.path().join("Maildir/new"));
        self.fixture.assert_fetched(&delivered.into_iter().map(without_return_path).collect::<Vec<_>>());
    }
}

#[test]
fn getmail_fetches_and_keeps() {
    let fixture = Fixture::filled(messages_for_getmail());
    let getmail = Getmail::new(&fixture, false);
    getmail.poll();
    getmail.assert_fetched();
    assert_eq!(fixture.held(), fixture.messages.len());
    fixture.assert_story(&["fetched"]);
}

#[test]
fn getmail_fetches_and_deletes() {
    let fixture = Fixture::filled(messages_for_getmail());
    let getmail = Getmail::new(&fixture, true);
    getmail.poll();
    getmail.assert_fetched();
    getmail.poll();
    getmail.assert_fetched();
    assert_eq!(fixture.held(), 0);
    fixture.assert_story(&["fetched", "deleted"]);
}
