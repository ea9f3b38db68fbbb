//! Opening what is stored: with the password, with an escrow identity, and with nothing else; and taking a message out as it
//! was received.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use opened::{Account, identity, json, section};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use support::{Site, USERS, corpus};

/// Files with keys of a gateway mailbox, but for the one that the password opens.
fn escrow_files(site: &Site, account: &Account) -> Vec<PathBuf> {
    let dir = site.path("data/keys").join(&account.id);
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| !path.ends_with("password.age")).collect()
}

#[test]
fn an_escrow_identity_opens_what_was_made_after_it_was_configured() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let account = Account::create(&site, &[]);
    site.write("escrow.key", &secret);
    let message = corpus("demo/report.eml");
    let mut server = site.serve();
    let id = account.receives(&server, &message);
    let export = |to: &str| {
        site.run(&["quarantine", "export", &id, "--to", to, "--identity", "escrow.key"]).expect(0);
        assert_eq!(fs::read(site.path(to)).unwrap(), message);
    };
    export("by-server.eml");
    server.wait_for("keys.opened");
    server.terminate();
    export("without.eml");
    let mode = fs::metadata(site.path("without.eml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for word in [account.password.as_str(), "AGE-SECRET-KEY"] {
        assert!(!server.log().contains(word), "the log holds a secret");
    }
}

#[test]
fn the_keyring_lies_in_escrow_as_a_plain_age_file() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let account = Account::create(&site, &[]);
    let [file] = escrow_files(&site, &account).try_into().unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let wrapped = fs::read(&file).unwrap();
    assert!(!wrapped.windows(15).any(|window| window == b"AGE-SECRET-KEY-"));
    let identity: age::x25519::Identity = secret.lines().last().unwrap().parse().unwrap();
    let decryptor = age::Decryptor::new(wrapped.as_slice()).unwrap();
    let mut plain = String::new();
    let identities = std::iter::once(&identity as &dyn age::Identity);
    decryptor.decrypt(identities).unwrap().read_to_string(&mut plain).unwrap();
    assert!(plain.contains("AGE-SECRET-KEY-1"));
}

#[test]
fn one_made_before_is_told_and_let_in_with_its_password() {
    let (secret, recipient) = identity();
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    let id = account.receives(&server, &corpus("demo/report.eml"));
    let none = account.opened(&site, &["mailbox", "escrow", &account.login]).expect(1);
    assert!(none.stderr.contains("no escrow recipient is configured"), "{}", none.stderr);

    let config = fs::read_to_string(site.path("daybook.toml")).unwrap();
    site.write("daybook.toml", &format!("{config}\n{}", section(&[&recipient])));
    server.signal("HUP");
    server.wait_for("config.reloaded");
    let shown = site.run(&["mailbox", "show", &account.login]).expect(0).stdout;
    assert!(shown.contains(&format!("not by {recipient}: daybook mailbox escrow")), "{shown}");
    let doctor = site.run(&["doctor", "--check", "gateway-mailbox", "--offline", "--no-delivery"]).expect(0);
    assert!(doctor.stdout.contains("1 of 1 escrow recipients cannot open it"), "{}", doctor.stdout);
    let export = || {
        let arguments = ["quarantine", "export", &id, "--to", "-", "--identity", "-"];
        site.run_with_input(&arguments, secret.as_bytes())
    };
    let early = export().expect(1);
    assert!(early.stderr.contains("not wrapped to this escrow identity"), "{}", early.stderr);

    site.write("wrong", "a-wrong-password");
    let wrong = ["mailbox", "escrow", &account.login, "--password-file", "wrong"];
    assert!(site.run(&wrong).expect(1).stderr.contains("is not the password"));
    server.wait_for("keys.refused");
    let view = json(account.opened(&site, &["mailbox", "escrow", &account.login, "--json"]));
    assert_eq!(view["escrow"]["open_by"][0].as_str(), Some(recipient.as_str()), "{view}");
    assert_eq!(view["escrow"]["missing"].as_array().map(Vec::len), Some(0));
    assert_eq!(export().expect(0).stdout.into_bytes(), corpus("demo/report.eml"));

    let later = Account::create_named(&site, "Fabrikam", &[]);
    assert_eq!(escrow_files(&site, &later).len(), 1, "a reload counts for those made after it");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn without_the_key_nothing_is_opened_and_nothing_written() {
    let (other, _) = identity();
    let (_, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let account = Account::create(&site, &[]);
    let server = site.serve();
    let id = account.receives(&server, &corpus("demo/report.eml"));
    let mut server = Some(server);
    site.write("other.key", &other);
    site.write("no.key", "not an identity\n");
    let export = ["quarantine", "export", &id, "--to", "out.eml"];
    let with = |more: &[&str], code: i32, why: &str| {
        let said = site.run(&[&export[..], more].concat()).expect(code).stderr;
        assert!(said.contains(why), "{said}");
        assert!(!site.path("out.eml").exists());
    };
    for _ in ["with a server", "without"] {
        with(&[], 2, "--password-file FILE or --identity FILE");
        with(&["--password-file", "daybook.toml"], 1, "is not the password");
        with(&["--identity", "other.key"], 1, "not wrapped to this escrow identity");
        with(&["--identity", "no.key"], 2, "line 1 is no age identity");
        with(&["--password-file", "none"], 3, "read none");
        drop(server.take());
    }
    site.write("out.eml", "mine");
    let there = account.opened(&site, &export).expect(1).stderr;
    assert!(there.contains("out.eml is there already"), "{there}");
    assert_eq!(fs::read(site.path("out.eml")).unwrap(), b"mine");
}

#[test]
fn what_is_damaged_leaves_no_file_behind() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    let mut message = b"Subject: long\r\n\r\n".to_vec();
    message.extend(b"a line of a long message\r\n".repeat(60_000));
    let id = account.receives(&server, &message);
    let export = |to: &str| account.opened(&site, &["quarantine", "export", &id, "--to", to, "--json"]);
    let view = json(export("whole.eml"));
    assert_eq!(view["octets"].as_u64(), Some(message.len() as u64));
    assert_eq!(fs::read(site.path("whole.eml")).unwrap(), message);
    server.terminate();

    let content = site.path("data/content");
    let shards = fs::read_dir(content).unwrap().map(|shard| shard.unwrap().path());
    let mut files = shards.flat_map(|shard| fs::read_dir(shard).unwrap().map(|file| file.unwrap().path()));
    let file = files.next().unwrap();
    let mut octets = fs::read(&file).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(&file, octets).unwrap();
    let refused = |name: &str| {
        let said = export(name).expect(1).stdout;
        assert!(said.contains("damaged"), "{said}");
        assert!(!site.path(name).exists());
    };
    refused("without.eml");
    let _server = site.serve();
    refused("by-server.eml");
}
