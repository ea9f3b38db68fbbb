//! What was stored once is read for ever: `corpus/store/data_dir-version-1` is a whole `data_dir` as the first version that had
//! checkpoints wrote it, without its index, with what must come out of it in `expect.json`.
//!
//! It is never made anew. [`make`] says how it was made, and a test sees to it that this still gives one that is read. For a
//! later version another one is put beside it: `MAKE_FIXTURE=corpus/store/data_dir-version-2 cargo test --test format_versions`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use daybook::mail::{AddressKey, Timestamp};
use daybook::store::*;
use opened::Account;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use support::{DOMAIN, Server, Site, corpus};

/// What the server makes anew by itself, or what is of one process only.
const LEFT_OUT: [&str; 10] = [
    "index.sqlite",
    "index.sqlite-wal",
    "index.sqlite-shm",
    "lock",
    "freeing.lock",
    "ports.json",
    "admin.sock",
    "tls",
    "tmp",
    "watch.json.new",
];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/store/data_dir-version-1")
}

/// Copies files and the folders that hold any. A checkout of the fixture has other rights than a server gives, which refuses
/// secrets that others can read.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            DirBuilder::new().recursive(true).mode(0o700).create(to.parent().unwrap()).unwrap();
            fs::copy(entry.path(), &to).unwrap();
            fs::set_permissions(to, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// A small message whose sealed octets are a file of their own, as those of large ones are.
fn deliver_as_file(site: &Site, account: &Account) {
    let (store, _) = Embedded::open(&Options { data_dir: site.path("data"), reserve_octets: 0 }).unwrap();
    let to = store.gateway_mailbox(&AddressKey::of(&account.address)).unwrap();
    let body = b"Subject: kept in a file\r\n\r\nAs large ones are.\r\n";
    let mut delivery =
        delivery::delivery(&store, &to, Timestamp::from_unix_ms(1_795_000_000_000), [7; 10], body);
    let stage = store.stage(to.id).unwrap();
    // So much was announced, and less came.
    let mut sealer = stage.sealer(2_000_000).unwrap();
    sealer.write_all(body).unwrap();
    delivery.objects = vec![sealer.finish().unwrap()];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.deliver(vec![delivery]).await.unwrap();
        store.close().await;
    });
}

/// UIDL, size and SHA-256 of all that POP3 gives.
fn fetched(server: &Server<'_>, login: &str, password: &str) -> Vec<Value> {
    let mut client = server.pop3s(login, password).unwrap();
    let mut all = Vec::new();
    for number in 1..=client.count() {
        let said = client.say(&format!("UIDL {number}")).unwrap();
        let uidl = said.rsplit(' ').next().unwrap().to_owned();
        let octets = client.retrieve(number);
        all.push(json!({"uidl": uidl, "octets": octets.len(), "sha256": Digest::of(&octets)}));
    }
    client.quit();
    all
}

/// Makes a `data_dir` in folder `to`: a report, a fork, an NDR, mail for nobody, unreadable mail, a deleted entry, content in
/// a file, a keyring wrapped to an escrow recipient.
fn make(to: &Path) {
    let (_, recipient) = opened::identity();
    let site = Site::with(&opened::section(&[&recipient]), support::USERS);
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    let no_report = b"From: a@contoso.example\r\nSubject: for nobody\r\n\r\nplain\r\n".to_vec();
    let gone = b"From: a@contoso.example\r\nSubject: fetched and deleted\r\n\r\nplain\r\n".to_vec();
    let samples = ["demo/report.eml", "demo/fork.eml", "demo/ndr.eml", "demo/hopeless.eml"].map(corpus);
    for message in samples.iter().chain([&no_report, &gone]) {
        account.receives(&server, message);
    }
    let mut client = server.pop3s(&account.login, &account.password).unwrap();
    client.say("DELE 6").unwrap();
    client.quit();
    assert_eq!(server.terminate(), 0);
    deliver_as_file(&site, &account);
    let mut server = site.serve();
    let expect = json!({
        "login": account.login,
        "password": account.password,
        "messages": fetched(&server, &account.login, &account.password),
        "holds": account.holds(&site),
    });
    assert_eq!(server.terminate(), 0);
    copy(&site.path("data"), to);
    fs::write(to.join("expect.json"), format!("{expect:#}\n")).unwrap();
}

/// Opens a copy of what was stored, fetches everything from the running server, and reads it once more without.
fn assert_read(from: &Path) {
    let site = Site::new();
    copy(from, &site.path("data"));
    fs::remove_file(site.path("data/expect.json")).unwrap();
    let expect: Value = serde_json::from_slice(&fs::read(from.join("expect.json")).unwrap()).unwrap();
    let text = |key: &str| expect[key].as_str().unwrap();
    let mut server = site.serve();
    let found = fetched(&server, text("login"), text("password"));
    assert_eq!(Value::from(found), expect["messages"]);
    let login = text("login").to_owned();
    let account =
        Account { address: format!("{login}@{DOMAIN}"), login, password: String::new(), id: String::new() };
    assert_eq!(json!(account.holds(&site)), expect["holds"]);
    assert_eq!(server.terminate(), 0);
    for event in
        ["store.damaged", "store.torn", "store.orphaned", "store.checkpoint_refused", "alarm.forgotten"]
    {
        assert!(!server.log().contains(event), "{event}: {}", server.log());
    }
    let (store, report) =
        Embedded::open(&Options { data_dir: site.path("data"), reserve_octets: 0 }).unwrap();
    assert_eq!(report, OpenReport::default());
    let known = checkpoints(&site.path("data")).unwrap();
    assert_eq!(known.refused, []);
    assert_eq!(known.newest(), store.checkpoints().newest.as_ref());
    assert!(known.trusted.len() > 1, "those that were there, and the one of this server");
}

#[test]
fn a_data_dir_of_version_1_is_read() {
    assert_read(&fixture());
}

#[test]
fn the_fixture_is_made_as_written_here() {
    let dir = tempfile::tempdir().unwrap();
    let to = std::env::var_os("MAKE_FIXTURE").map_or_else(|| dir.path().join("made"), PathBuf::from);
    assert!(!to.exists(), "{} is there, and stays as it is", to.display());
    make(&to);
    assert_read(&to);
}
