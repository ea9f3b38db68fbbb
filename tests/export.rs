//! `daybook export`: what is written out of the store is what was stored, in each form, and an export that was broken off or
//! is old is brought up to date by the same command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "export/changes.rs"]
mod changes;
#[path = "support/delivery.rs"]
mod delivery;
#[path = "export/odd.rs"]
mod odd;
#[path = "support/opened.rs"]
mod opened;
#[path = "export/resume.rs"]
mod resume;
#[path = "support/daybook.rs"]
mod support;

use aws_lc_rs::digest::{SHA256, digest};
use daybook::mail::{GatewayMailbox, Timestamp};
use daybook::store::{Embedded, Options, Store};
use opened::Account;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use support::{Outcome, Site, corpus};
use tokio::runtime::Runtime;

/// A line of the manifest that a message has, by folder and UID.
type Messages = BTreeMap<(String, u64), Value>;

/// A site with a gateway mailbox that holds a report in users' folders, mail for nobody, lines that begin with From, and a
/// message in a file of its own. No server runs.
struct Filled {
    site: Site,
    account: Account,
    /// As sent, in the order they came.
    sent: Vec<Vec<u8>>,
}

/// Mail with lines that an mbox must mark.
const FROM_LINES: &[u8] =
    b"From: a@contoso.example\r\nSubject: x\r\n\r\nFrom here\r\n>From there\r\n>>From\r\n>>From x\r\n From y\r\n";

fn large() -> Vec<u8> {
    let mut large = b"From: a@contoso.example\r\nSubject: large\r\n\r\n".to_vec();
    while large.len() < 1_500_000 {
        large.extend_from_slice(format!("{} sealed in a file of its own\r\n", large.len()).as_bytes());
    }
    large
}

impl Filled {
    fn new() -> Filled {
        let site = Site::new();
        let account = Account::create(&site, &[]);
        let sent = vec![corpus("demo/report.eml"), FROM_LINES.to_vec(), corpus("demo/hopeless.eml"), large()];
        let mut server = site.serve();
        sent.iter().for_each(|message| drop(account.receives(&server, message)));
        assert_eq!(server.terminate(), 0);
        drop(server);
        Filled { site, account, sent }
    }

    /// Exports to `to` with the password.
    fn export(&self, to: &str, arguments: &[&str]) -> Outcome {
        let all = [&["export", self.account.login.as_str(), "--to", to], arguments].concat();
        self.account.opened(&self.site, &all)
    }

    fn messages(&self, to: &str) -> Messages {
        messages(&self.site.path(to))
    }

    /// The octets of every message of an export to `.eml` files.
    fn eml(&self, to: &str) -> BTreeMap<(String, u64), Vec<u8>> {
        self.export(to, &[]).expect(0);
        let read = |line: &Value| fs::read(self.site.path(to).join(line["path"].as_str().unwrap())).unwrap();
        self.messages(to).into_iter().map(|(key, line)| (key, read(&line))).collect()
    }
}

/// Has `work` done on the store, past SMTP, while no server runs.
fn past_smtp(site: &Site, account: &Account, work: impl FnOnce(&Embedded, &GatewayMailbox, &Runtime)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let (store, _) = Embedded::open(&options).unwrap();
    let to = store.gateway_mailboxes().into_iter().find(|mailbox| mailbox.id.to_string() == account.id);
    work(&store, &to.unwrap(), &runtime);
    runtime.block_on(store.close());
}

/// The lines of a manifest.
fn lines(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("manifest.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn messages(dir: &Path) -> Messages {
    let key = |line: &Value| (line["folder"].as_str().unwrap().to_owned(), line["uid"].as_u64().unwrap());
    let all = lines(dir).into_iter().filter(|line| line["kind"] == "message");
    all.map(|line| (key(&line), line)).collect()
}

fn sha256(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Takes an mbox apart: messages stand between lines that begin with `From `, an empty line behind each.
fn in_mbox(octets: &[u8]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b"From ") {
            messages.push(Vec::new());
            continue;
        }
        let marks = line.iter().take_while(|octet| **octet == b'>').count();
        let is_marked = marks > 0 && line[marks..].starts_with(b"From ");
        messages.last_mut().unwrap().extend_from_slice(&line[usize::from(is_marked)..]);
    }
    messages.into_iter().map(|message| message.strip_suffix(b"\n").unwrap().to_vec()).collect()
}

#[test]
fn every_folder_is_exported_octet_for_octet_as_it_was_sent_and_is_fetched() {
    let filled = Filled::new();
    let (site, account) = (&filled.site, &filled.account);
    let exported = filled.eml("out");
    let holds: u64 = account.holds(site).iter().map(|(_, entries)| entries).sum();
    assert_eq!(exported.len() as u64, holds);
    assert!(exported.keys().any(|(folder, _)| folder == "Users/bob@contoso.example/Journal Incoming"));
    let server = site.serve();
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    let inbox: Vec<&Vec<u8>> =
        exported.iter().filter(|((folder, _), _)| folder == "INBOX").map(|(_, octets)| octets).collect();
    assert_eq!(inbox.len(), filled.sent.len());
    for (index, octets) in inbox.iter().enumerate() {
        assert_eq!(*octets, &filled.sent[index], "message {index}");
        assert_eq!(*octets, &poller.retrieve(index + 1));
    }
    // What is in a user's folder is cut out of the report.
    for ((folder, uid), octets) in exported.iter().filter(|((folder, _), _)| folder.starts_with("Users/")) {
        let is_cut = filled.sent[0].windows(octets.len()).any(|window| window == octets.as_slice());
        assert!(is_cut, "{folder} {uid}");
    }
    for ((folder, uid), line) in filled.messages("out") {
        let octets = &exported[&(folder.clone(), uid)];
        assert_eq!(line["sha256"], sha256(octets), "{folder} {uid}");
        assert_eq!(line["octets"], octets.len());
        let file = site.path("out").join(line["path"].as_str().unwrap());
        let name = format!("{uid:010}-{}.eml", line["receipt_id"].as_str().unwrap());
        assert!(file.ends_with(format!("{folder}/{name}")), "{}", file.display());
        let metadata = fs::metadata(&file).unwrap();
        let at = Timestamp::parse(line["received_at"].as_str().unwrap()).unwrap();
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at.unix_ms()).unwrap());
        assert_eq!(metadata.modified().unwrap(), at);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }
    let text = fs::read_to_string(site.path("out/manifest.jsonl")).unwrap();
    assert!(text.contains("\"message_id\":\"<") && !text.contains("large"), "a subject, or no Message-ID");
    let header = &lines(&site.path("out"))[0];
    assert_eq!((&header["kind"], &header["v"]), (&Value::from("export"), &Value::from(1)));
    assert_eq!(header["gateway_mailbox"], account.id);
}

#[test]
fn an_mbox_holds_what_eml_files_do() {
    let filled = Filled::new();
    let eml = filled.eml("eml");
    let told = opened::json(filled.export("mbox", &["--format", "mbox", "--json"]));
    assert_eq!((&told["format"], &told["added"]), (&Value::from("mbox"), &Value::from(eml.len())));
    let mut folders: BTreeMap<String, Vec<&Vec<u8>>> = BTreeMap::new();
    for ((folder, _), octets) in &eml {
        folders.entry(folder.clone()).or_default().push(octets);
    }
    for (folder, expect) in folders {
        let octets = fs::read(filled.site.path("mbox").join(format!("{folder}.mbox"))).unwrap();
        let found = in_mbox(&octets);
        assert_eq!(found.len(), expect.len(), "{folder}");
        assert!(found.iter().eq(expect), "{folder}");
    }
    let inbox = fs::read(filled.site.path("mbox/INBOX.mbox")).unwrap();
    let text = String::from_utf8_lossy(&inbox);
    assert!(text.starts_with("From MAILER-DAEMON ") && text.contains("\n>>From there\r\n"));
    filled.site.run(&["export", "--check", "mbox"]).expect(0);
}

#[test]
fn one_folder_or_what_came_since_can_be_exported_alone() {
    let filled = Filled::new();
    let of =
        |to: &str| -> Vec<String> { filled.messages(to).into_keys().map(|(folder, _)| folder).collect() };
    filled.export("user", &["--folder", "Users/bob@contoso.example"]).expect(0);
    assert_eq!(of("user"), ["Users/bob@contoso.example/Journal Incoming"]);
    filled.export("two", &["--folder", "inbox", "--folder", "Quarantine/"]).expect(0);
    assert_eq!(of("two"), ["INBOX", "INBOX", "INBOX", "INBOX", "Quarantine"]);
    filled.export("inbox", &["--folder", "inbox"]).expect(0);
    assert_eq!(of("inbox"), ["INBOX"; 4]);
    filled.export("none", &["--since", "2100-01-01T00:00:00Z"]).expect(0);
    assert!(of("none").is_empty());
    let unknown = filled.export("unknown", &["--folder", "Users/bo"]).expect(1);
    assert!(unknown.stderr.contains("has no folder Users/bo"), "{}", unknown.stderr);
    assert!(!filled.site.path("unknown").exists());
}

/// The identity in a gateway mailbox's keyring.
fn keyring_identity(site: &Site, account: &Account) -> age::x25519::Identity {
    let wrapped = fs::read(site.path("data/keys").join(&account.id).join("password.age")).unwrap();
    let passphrase = age::secrecy::SecretString::from(account.password.clone());
    let identity = age::scrypt::Identity::new(passphrase);
    let keyring: Value = serde_json::from_slice(&open(&wrapped, &identity)).unwrap();
    keyring["identities"][0].as_str().unwrap().parse().unwrap()
}

fn open(sealed: &[u8], identity: &dyn age::Identity) -> Vec<u8> {
    let mut plain = Vec::new();
    let decryptor = age::Decryptor::new(sealed).unwrap();
    decryptor.decrypt(std::iter::once(identity)).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn a_sealed_export_needs_no_key_and_opens_with_the_key_of_the_gateway_mailbox() {
    let filled = Filled::new();
    let eml = filled.eml("eml");
    let login = filled.account.login.as_str();
    filled.site.run(&["export", login, "--to", "sealed", "--sealed"]).expect(0);
    let identity = keyring_identity(&filled.site, &filled.account);
    let messages = filled.messages("sealed");
    assert!(messages.keys().eq(eml.keys()));
    for (key, line) in messages {
        let mut octets = Vec::new();
        for extent in line["extents"].as_array().unwrap() {
            let number = |name: &str| usize::try_from(extent[name].as_u64().unwrap()).unwrap();
            let object = format!("sealed/objects/{}.age", number("object"));
            let plain = open(&fs::read(filled.site.path(&object)).unwrap(), &identity);
            octets.extend_from_slice(&plain[number("offset")..][..number("octets")]);
        }
        assert_eq!(octets, eml[&key], "{key:?}");
        if key.0 == "INBOX" {
            assert_eq!(line["sha256"], sha256(&octets));
        }
    }
    let objects: Vec<Value> =
        lines(&filled.site.path("sealed")).into_iter().filter(|line| line["kind"] == "object").collect();
    assert_eq!(objects.len(), fs::read_dir(filled.site.path("sealed/objects")).unwrap().count());
    for object in objects {
        let sealed = fs::read(filled.site.path("sealed").join(object["path"].as_str().unwrap())).unwrap();
        assert_eq!(object["sha256"], sha256(&sealed));
    }
    filled.site.run(&["export", "--check", "sealed"]).expect(0);
}

#[test]
fn beside_a_server_that_takes_mail_what_is_exported_is_whole() {
    let filled = Filled::new();
    let server = filled.site.serve();
    let (address, port) = (filled.account.address.clone(), server.port("smtp"));
    let sender = std::thread::spawn(move || {
        let mut session = support::Smtp::connect(port);
        for number in 0..150 {
            let message = format!("From: a@contoso.example\r\nSubject: {number}\r\n\r\nFrom {number}\r\n");
            assert!(session.send(&address, message.as_bytes()).starts_with("250 "));
        }
    });
    let mut rounds = 0;
    while rounds < 3 || !sender.is_finished() {
        filled.export("out", &[]).expect(0);
        filled.site.run(&["export", "--check", "out"]).expect(0);
        rounds += 1;
    }
    sender.join().unwrap();
    let last = opened::json(filled.export("out", &["--json"]));
    assert_eq!(last["damaged"], 0);
    let inbox = filled.messages("out").into_keys().filter(|(folder, _)| folder == "INBOX").count();
    assert_eq!(inbox, filled.sent.len() + 150);
    let log = server.log_with("\"event\":\"export.finished\"", rounds + 1);
    assert!(log.contains("\"by\":\"password\"") && !log.contains(&filled.account.password));
}
