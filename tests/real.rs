//! Real clients against the built server: swaks and Python's smtplib deliver, those of `real/fetching` fetch. What comes out must
//! be what went in, octet for octet.
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
#[path = "real/entra.rs"]
mod entra;
#[path = "real/export.rs"]
mod export;
#[path = "real/fetching/mod.rs"]
mod fetching;
#[path = "real/ldap/mod.rs"]
mod ldap;

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

/// The report of the demonstration, and a larger one with all that clients trip over.
fn messages() -> Vec<Vec<u8>> {
    vec![corpus("demo/report.eml"), report("real-clients", 1_500_000).octets]
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
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn message_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let line = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
    line.trim().to_owned()
}

/// Runs a client to its good end; what it said on standard output.
fn run(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    let text = |octets: &[u8]| {
        let text = String::from_utf8_lossy(octets);
        text.chars().take(4_000).collect::<String>()
    };
    assert_eq!(
        output.status.code(),
        Some(0),
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
