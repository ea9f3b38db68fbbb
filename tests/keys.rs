//! Keys of a gateway mailbox: new ones, lost passwords with and without escrow, and taking them out. What can be read afterwards
//! is what the README says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use opened::{Account, identity, json, section};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::{Server, Site, USERS, wait_until};

/// A message that is told from others by `name`.
fn message(name: &str) -> Vec<u8> {
    format!(
        "From: a@b.example\r\nMessage-ID: <{name}@b.example>\r\nSubject: {name}\r\n\r\nThis is {name}.\r\n"
    )
    .into_bytes()
}

/// For each message in the maildrop its subject, or the error that RETR answered.
fn readable(server: &Server<'_>, account: &Account, password: &str) -> Vec<String> {
    let mut pop3s = server.pop3s(&account.login, password).unwrap();
    let count: usize = pop3s.say("STAT").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let subject = |number: usize| match pop3s.several(&format!("RETR {number}")) {
        Ok(octets) => {
            let text = String::from_utf8(octets).unwrap();
            text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned()
        }
        Err(error) => error.to_string(),
    };
    (1..=count).map(subject).collect()
}

fn verify(site: &Site) {
    site.run(&["verify", "--deep"]).expect(0);
}

/// Resets the password with these arguments; gives what was said, and takes the new password over.
fn reset(site: &Site, account: &mut Account, arguments: &[&str]) -> Value {
    let mut all = vec!["mailbox", "reset-password", &account.login, "--json"];
    all.extend(arguments);
    let told = json(site.run(&all));
    account.password = told["password"].as_str().unwrap().to_owned();
    told
}

fn key_files(site: &Site, account: &Account) -> Vec<String> {
    let all = fs::read_dir(site.path("data/keys").join(&account.id)).unwrap();
    let mut names: Vec<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const SEALED: &str =
    "-ERR [SYS/PERM] message is sealed to a former key, which this password does not open; it is kept";

#[test]
fn a_new_key_in_the_middle_of_a_stream_of_mail_takes_nothing_from_anybody() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let account = Account::create(&site, &[]);
    site.write("escrow.key", &secret);
    let server = site.serve();
    for n in 0..3 {
        account.receives(&server, &message(&format!("before-{n}")));
    }
    let rotate = || {
        let said = account.opened(&site, &["key", "rotate", &account.login]).expect(0).stdout;
        assert!(said.contains("has a new key"), "{said}");
    };
    let mut open = server.pop3s(&account.login, &account.password).unwrap();
    rotate();
    assert!(open.retrieve(1).ends_with(b"This is before-0.\r\n"), "who was logged in reads on");
    open.quit();
    let (ended, fetched) = (AtomicBool::new(false), AtomicUsize::new(0));
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let name = format!("stream-{}", sent.len());
                account.receives(&server, &message(&name));
                sent.push(name);
            }
            sent
        });
        let poller = scope.spawn(|| {
            let mut seen = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                // A login that meets the change is told to come again.
                if let Ok(mut pop3s) = server.pop3s(&account.login, &account.password) {
                    let listing = String::from_utf8(pop3s.several("UIDL").unwrap()).unwrap();
                    for (number, uidl) in listing.lines().filter_map(|line| line.split_once(' ')) {
                        if !seen.contains_key(uidl) {
                            let octets = pop3s.several(&format!("RETR {number}"));
                            seen.insert(
                                uidl.to_owned(),
                                octets.unwrap_or_else(|error| panic!("{uidl}: {error}")),
                            );
                        }
                    }
                    pop3s.quit();
                    fetched.store(seen.len(), Ordering::Relaxed);
                }
            }
        });
        for wanted in [5, 10] {
            wait_until("a poller in the stream", || fetched.load(Ordering::Relaxed) >= wanted);
            rotate();
        }
        wait_until("a poller behind it", || fetched.load(Ordering::Relaxed) >= 15);
        ended.store(true, Ordering::Relaxed);
        poller.join().unwrap();
        sender.join().unwrap()
    });
    account.receives(&server, &message("after"));
    let all = readable(&server, &account, &account.password);
    let mut expect: Vec<String> = (0..3).map(|n| format!("before-{n}")).collect();
    expect.extend(sent);
    expect.push("after".to_owned());
    assert_eq!(all, expect);
    let shown = json(site.run(&["mailbox", "show", &account.login, "--json"]));
    assert_eq!(shown["keys"]["former"].as_array().unwrap().len(), 3, "{shown}");
    assert_eq!(shown["keys"]["unopened"].as_u64(), Some(0));
    let id = account.receives(&server, &message("escrow"));
    site.run(&["quarantine", "export", &id, "--to", "by-escrow.eml", "--identity", "escrow.key"]).expect(0);
    assert_eq!(fs::read(site.path("by-escrow.eml")).unwrap(), message("escrow"));
    let by_identity = ["key", "rotate", &account.login, "--identity", "escrow.key"];
    assert!(site.run(&by_identity).expect(2).stderr.contains("reset-password"));
    site.write("wrong-password", "0000-wrong");
    let wrong = ["key", "rotate", &account.login, "--password-file", "wrong-password"];
    assert!(site.run(&wrong).expect(1).stderr.contains("is not the password"));
    assert!(!key_files(&site, &account).iter().any(|name| name.ends_with(".next")));
    verify(&site);
}

#[test]
fn a_password_that_is_replaced_with_the_old_one_or_by_escrow_loses_nothing() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let mut account = Account::create(&site, &[]);
    site.write("escrow.key", &secret);
    let server = site.serve();
    account.receives(&server, &message("one"));
    for given in [["--password-file", "old-password"], ["--identity", "escrow.key"]] {
        site.write("old-password", &account.password);
        let old = account.password.clone();
        let told = reset(&site, &mut account, &given);
        assert_eq!(
            (told["gives_up"].as_bool(), told["applied"].as_bool()),
            (Some(false), Some(true)),
            "{told}"
        );
        assert_ne!(account.password, old);
        assert!(server.pop3s(&account.login, &old).is_err(), "the old one logs in no more");
        assert_eq!(readable(&server, &account, &account.password), ["one"]);
        assert!(!key_files(&site, &account).iter().any(|name| name.starts_with("former-")));
    }
    site.write("old-password", &account.password);
    let text = site
        .run(&["mailbox", "reset-password", &account.login, "--password-file", "old-password"])
        .expect(0)
        .stdout;
    let shown = text.lines().nth(2).unwrap().trim().to_owned();
    assert!(text.contains("It is in force"), "{text}");
    assert_eq!(readable(&server, &account, &shown), ["one"]);
    assert!(!server.log().contains(&shown), "a password in the log");
    verify(&site);
}

#[test]
fn a_lost_password_without_escrow_gives_up_what_came_before_until_it_turns_up() {
    let site = Site::new();
    let mut account = Account::create(&site, &[]);
    let mut server = site.serve();
    account.receives(&server, &message("one"));
    account.receives(&server, &message("two"));
    let old = account.password.clone();
    let plan = site.run(&["mailbox", "reset-password", &account.login]).expect(4).stderr;
    for word in ["stays sealed", "without the old password it is lost", "--yes"] {
        assert!(plan.contains(word), "{plan}");
    }
    assert_eq!(readable(&server, &account, &old), ["one", "two"], "nothing was done");

    let told = reset(&site, &mut account, &["--yes"]);
    assert_eq!(told["gives_up"].as_bool(), Some(true));
    assert!(server.pop3s(&account.login, &old).is_err());
    account.receives(&server, &message("three"));
    // The same again: what is at hand can be read.
    account.receives(&server, &message("one"));
    assert_eq!(readable(&server, &account, &account.password), [SEALED, SEALED, "three", "one"]);
    let log = server.log_with("fetch.former_key", 2);
    assert!(!log.contains("fetch.damaged") && !log.contains("fetch.unreadable"), "{log}");
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    assert!(pop3s.say("TOP 1 0").unwrap_err().to_string().contains("sealed to a former key"));
    pop3s.say("QUIT").unwrap();
    let shown = json(site.run(&["mailbox", "show", &account.login, "--json"]));
    assert_eq!(shown["keys"]["unopened"].as_u64(), Some(2), "{shown}");
    assert_eq!(shown["keys"]["former"][0]["lost"].as_bool(), Some(true));
    let text = site.run(&["mailbox", "show", &account.login]).expect(0).stdout;
    assert!(
        text.contains("NOT opened by the password of today") && text.contains("2 messages in its folders"),
        "{text}"
    );
    let doctor =
        site.run(&["doctor", "--check", "gateway-mailbox", "--offline", "--no-delivery"]).expect(0).stdout;
    assert!(
        doctor.contains("does not open 2 messages") && doctor.contains("nothing but its password"),
        "{doctor}"
    );
    assert_eq!(key_files(&site, &account), ["former-1-password.age", "password.age"]);
    verify(&site);

    site.write("old-password", &old);
    site.write("new-password", &account.password);
    let alone = ["mailbox", "reset-password", &account.login, "--password-file", "old-password"];
    site.run(&alone).expect(4);
    let told =
        reset(&site, &mut account, &["--password-file", "old-password", "--password-file", "new-password"]);
    assert_eq!((told["joins"].as_u64(), told["gives_up"].as_bool()), (Some(1), Some(false)), "{told}");
    assert_eq!(readable(&server, &account, &account.password), ["one", "two", "three", "one"]);
    let shown = json(site.run(&["mailbox", "show", &account.login, "--json"]));
    assert_eq!(shown["keys"]["unopened"].as_u64(), Some(0));
    verify(&site);
    assert_eq!(server.terminate(), 0);
    let server = site.serve();
    assert_eq!(readable(&server, &account, &account.password).len(), 4);
}

#[test]
fn a_lost_password_is_no_loss_to_whoever_holds_an_escrow_identity() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let mut account = Account::create(&site, &[]);
    site.write("escrow.key", &secret);
    // Without a server, too.
    reset(&site, &mut account, &["--yes"]);
    let server = site.serve();
    account.receives(&server, &message("one"));
    reset(&site, &mut account, &["--yes"]);
    account.receives(&server, &message("two"));
    assert_eq!(readable(&server, &account, &account.password), [SEALED, "two"]);
    let told = reset(&site, &mut account, &["--identity", "escrow.key"]);
    assert_eq!(told["joins"].as_u64(), Some(2), "{told}");
    assert_eq!(readable(&server, &account, &account.password), ["one", "two"]);
    verify(&site);
}

#[test]
fn a_wrap_to_a_recipient_from_before_a_password_was_given_up_is_missing_until_it_is_made_again() {
    let (secret, recipient) = identity();
    let escrow = section(&[&recipient]);
    let site = Site::with(&escrow, USERS);
    let mut account = Account::create(&site, &[]);
    site.write("escrow.key", &secret);
    let configured = fs::read_to_string(site.path("daybook.toml")).unwrap();
    site.write("daybook.toml", &configured.replace(&escrow, ""));
    reset(&site, &mut account, &["--yes"]);
    site.write("daybook.toml", &configured);
    let shown = || json(site.run(&["mailbox", "show", &account.login, "--json"]))["escrow"].clone();
    assert_eq!(shown()["missing"][0].as_str(), Some(recipient.as_str()), "{}", shown());
    verify(&site);
    account.opened(&site, &["mailbox", "escrow", &account.login]).expect(0);
    assert_eq!(shown()["open_by"][0].as_str(), Some(recipient.as_str()), "{}", shown());
    let told = reset(&site, &mut account, &["--identity", "escrow.key"]);
    assert_eq!((told["gives_up"].as_bool(), told["joins"].as_u64()), (Some(false), Some(1)), "{told}");
    verify(&site);
}

#[test]
fn a_new_password_is_known_before_it_is_in_force() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    site.write("old-password", &account.password);
    let reset = ["mailbox", "reset-password", &account.login, "--password-file", "old-password"];
    let unlocks = |password: &str| {
        site.write("given-password", password);
        let export = ["key", "export", &account.login, "--to", "-", "--password-file", "given-password"];
        site.run(&export).code == 0
    };
    // Nobody reads what is printed.
    let (nobody, out) = std::io::pipe().unwrap();
    drop(nobody);
    let ended = site.command(&reset).stdout(out).stderr(std::process::Stdio::null()).status().unwrap();
    assert_eq!(ended.code(), Some(3));
    assert!(unlocks(&account.password), "nothing was changed");

    let told = site.run(&[&reset[..], &["--json"]].concat()).expect(0);
    let value: Value = serde_json::from_str(&told.stdout).unwrap();
    let second = value["password"].as_str().unwrap();
    assert!(told.stderr.contains(second), "it was told before: {}", told.stderr);
    assert!(unlocks(second));
    site.write("old-password", second);
    let told = site.run(&[&reset[..], &["--json", "--password-to", "new-password"]].concat()).expect(0);
    let third = fs::read_to_string(site.path("new-password")).unwrap();
    assert!(![&told.stdout, &told.stderr].iter().any(|text| text.contains(third.trim())), "{told:?}");
    let mode = fs::metadata(site.path("new-password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(unlocks(&third));
}

#[test]
fn of_two_changes_at_the_same_time_none_brings_an_old_password_back() {
    use daybook::store::{Embedded, KeyringSecret, Options, Store, generate_password};
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let store = Embedded::open(&options).unwrap().0;
    let unlocked = store.unlock(&account.login, &account.password).unwrap();
    let id = unlocked.gateway_mailbox.id;
    let opened = store.open_keyrings(id, &[KeyringSecret::Password(&account.password)]).unwrap();
    let [second, third] = [(); 2].map(|()| generate_password().unwrap());
    store.set_password(id, Some(&opened), &second, "a test").unwrap();
    let refused = [
        store.rotate_key(&unlocked, &account.password, "a test").map(drop),
        store.set_password(id, Some(&opened), &third, "a test").map(drop),
    ];
    for refused in refused {
        assert!(refused.unwrap_err().to_string().contains("at the same time"));
    }
    let unlocked = store.unlock(&account.login, &second).unwrap();
    store.rotate_key(&unlocked, &second, "a test").unwrap();
    assert!(store.unlock(&account.login, &second).is_ok());
}

#[test]
fn an_exported_key_opens_what_is_sealed_and_says_what_it_is() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    let mut long = message("long");
    long.extend(b"a line of a long message\r\n".repeat(60_000));
    account.receives(&server, &long);
    account.opened(&site, &["key", "rotate", &account.login]).expect(0);
    let said = account.opened(&site, &["key", "export", &account.login, "--to", "keys.txt", "--json"]);
    let view = json(said);
    assert_eq!(view["public_keys"].as_array().unwrap().len(), 2, "{view}");
    assert!(!view.to_string().contains("SECRET"), "{view}");
    let mode = fs::metadata(site.path("keys.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(site.path("keys.txt")).unwrap();
    let identities: Vec<age::x25519::Identity> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(identities.len(), 2);
    for known in view["public_keys"].as_array().unwrap() {
        assert!(text.contains(&format!("# public key: {}", known.as_str().unwrap())), "{text}");
    }
    let shards = fs::read_dir(site.path("data/content")).unwrap().map(|shard| shard.unwrap().path());
    let files: Vec<PathBuf> =
        shards.flat_map(|shard| fs::read_dir(shard).unwrap().map(|file| file.unwrap().path())).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let sealed = fs::read(file).unwrap();
    let mut plain = Vec::new();
    let all = identities.iter().map(|identity| identity as &dyn age::Identity);
    age::Decryptor::new(sealed.as_slice()).unwrap().decrypt(all).unwrap().read_to_end(&mut plain).unwrap();
    assert_eq!(plain, long);
    server.wait_for("keys.exported");
    assert!(!server.log().contains("AGE-SECRET-KEY"), "a key in the log");
    let again =
        account.opened(&site, &["key", "export", &account.login, "--to", "keys.txt"]).expect(1).stderr;
    assert!(again.contains("is there already"), "{again}");
    let out = account.opened(&site, &["key", "export", &account.login, "--to", "-"]).expect(0);
    assert!(out.stdout.contains("AGE-SECRET-KEY-1") && out.stderr.contains("whoever has it reads the mail"));
    site.write("wrong-password", "0000-wrong");
    site.run(&["key", "export", &account.login, "--to", "x", "--password-file", "wrong-password"]).expect(1);
    assert!(!site.path("x").exists());
    verify(&site);
}

/// Copies a folder with everything in it.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// How `data` is found after a crash at some point of the replacement.
struct Crash {
    what: &'static str,
    /// Log and index as they are behind the group.
    committed: bool,
    /// So many of the new files have been written, and so many of them renamed.
    written: usize,
    renamed: usize,
}

/// Every message is opened by exactly this, and nothing is damaged.
fn opens(site: &Site, what: &str, id: &str, password: Option<&str>, others: &[&str], expect: &[u8]) {
    let export = |key: &[&str], code: i32| {
        fs::remove_file(site.path("out.eml")).ok();
        let all = [&["quarantine", "export", id, "--to", "out.eml"], key].concat();
        let outcome = site.run(&all);
        assert_eq!(outcome.code, code, "{what}, {key:?}: {}", outcome.stderr);
        if code == 0 {
            assert_eq!(fs::read(site.path("out.eml")).unwrap(), expect, "{what}");
        }
    };
    if let Some(password) = password {
        site.write("given-password", password);
        export(&["--password-file", "given-password"], 0);
    }
    for other in others {
        site.write("given-password", other);
        export(&["--password-file", "given-password"], 1);
    }
    export(&["--identity", "escrow.key"], 0);
    verify(site);
}

#[test]
fn a_crash_at_any_point_of_a_replacement_leaves_the_password_that_is_on_record() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let account = Account::create(&site, &[]);
    site.write("escrow.key", &secret);
    let mut server = site.serve();
    let id = account.receives(&server, &message("one"));
    assert_eq!(server.terminate(), 0);
    copy(&site.path("data"), &site.path("before"));
    site.write("old-password", &account.password);
    let mut new = Account {
        address: String::new(),
        login: account.login.clone(),
        password: String::new(),
        id: String::new(),
    };
    reset(&site, &mut new, &["--password-file", "old-password"]);
    fs::rename(site.path("data"), site.path("after")).unwrap();

    let keys = |of: &str| site.path(of).join("keys").join(&account.id);
    let mut names: Vec<String> =
        fs::read_dir(keys("after")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    let crash = |what, committed, written, renamed| Crash { what, committed, written, renamed };
    for Crash { what, committed, written, renamed } in [
        crash("nothing written", false, 0, 0),
        crash("one written", false, 1, 0),
        crash("all written", false, 2, 0),
        crash("on record", true, 2, 0),
        crash("one renamed", true, 2, 1),
        crash("all renamed", true, 2, 2),
    ] {
        fs::remove_dir_all(site.path("data")).ok();
        copy(&site.path(if committed { "after" } else { "before" }), &site.path("data"));
        fs::remove_dir_all(keys("data")).unwrap();
        copy(&keys("before"), &keys("data"));
        // A crash leaves no mark of an orderly end.
        fs::remove_file(site.path("data/log/clean")).ok();
        for (index, name) in names.iter().enumerate().take(written) {
            let place = if index < renamed { name.clone() } else { format!("{name}.next") };
            fs::copy(keys("after").join(name), keys("data").join(place)).unwrap();
        }
        let (now, other) = match committed {
            true => (&new.password, &account.password),
            false => (&account.password, &new.password),
        };
        opens(&site, what, &id, Some(now), &[other], &message("one"));
        assert!(!key_files(&site, &account).iter().any(|name| name.ends_with(".next")), "{what}");
    }
}

#[test]
fn until_the_new_files_are_in_place_those_on_record_are_read() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    account.opened(&site, &["key", "rotate", &account.login]).expect(0);
    account.receives(&server, &message("one"));
    // As if the renaming had failed while the server runs on.
    let file = site.path("data/keys").join(&account.id).join("password.age");
    fs::rename(&file, file.with_extension("age.next")).unwrap();
    assert_eq!(readable(&server, &account, &account.password), ["one"]);
    assert!(server.pop3s(&account.login, "0000-wrong").is_err());
    account.opened(&site, &["key", "rotate", &account.login]).expect(0);
    assert_eq!(key_files(&site, &account), ["password.age"]);
    // Not there at all is a wrong password to whoever asks, and an error to the admin.
    fs::rename(&file, site.path("aside")).unwrap();
    let told = |login: &str| server.pop3s(login, &account.password).map(drop).unwrap_err().to_string();
    assert_eq!(told(&account.login), told("mbx-00000000000000000000000000000000"));
    server.wait_for("keys.unreadable");
    // Damaged is no other answer.
    fs::write(&file, "damaged").unwrap();
    assert_eq!(told(&account.login), told("mbx-00000000000000000000000000000000"));
    server.log_with("keys.unreadable", 2);
    fs::rename(site.path("aside"), &file).unwrap();
    assert_eq!(readable(&server, &account, &account.password), ["one"]);
}

#[test]
fn secrets_that_others_can_read_keep_the_server_from_starting_until_they_are_closed() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    site.serve().terminate();
    let keys = format!("data/keys/{}", account.id);
    for (file, open, closed) in [
        ("data/keys".to_owned(), 0o750, 0o700),
        (keys.clone(), 0o711, 0o700),
        (format!("{keys}/password.age"), 0o640, 0o600),
        ("data/keys/checkpoint.key".to_owned(), 0o604, 0o600),
        ("data/tls/key.pem".to_owned(), 0o644, 0o600),
    ] {
        let set = |mode| fs::set_permissions(site.path(&file), fs::Permissions::from_mode(mode)).unwrap();
        set(open);
        let mut server = site.serve_unchecked();
        assert_eq!(server.wait(), 2, "{file}: {}", server.log());
        let log = server.log();
        assert!(log.contains(&format!("run chmod {closed:04o}")) && log.contains(&file), "{log}");
        set(closed);
    }
    let mut server = site.serve();
    let core = fs::read_to_string(format!("/proc/{}/coredump_filter", server.pid())).unwrap();
    assert_eq!(core.trim().trim_start_matches('0'), "", "memory is in core dumps");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_private_key_that_others_can_read_is_not_taken_up_by_a_reload() {
    let site = Site::new();
    let pair = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        site.write("chain.pem", &made.cert.pem());
        site.write("key.pem", &made.signing_key.serialize_pem());
    };
    pair();
    let config = fs::read_to_string(site.path("daybook.toml")).unwrap();
    site.write(
        "daybook.toml",
        &format!("{config}\n[tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n"),
    );
    let set = |mode| fs::set_permissions(site.path("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o644, 0o640] {
        set(open);
        let mut refused = site.serve_unchecked();
        assert_eq!(refused.wait(), 2, "{}", refused.log());
        assert!(refused.log().contains("run chmod go-rwx"), "{}", refused.log());
    }
    set(0o400);
    let mut server = site.serve();
    pair();
    set(0o644);
    server.signal("HUP");
    let log = server.log_with("\"event\":\"tls.kept\"", 1);
    assert!(log.contains("run chmod go-rwx"), "{log}");
    set(0o600);
    server.signal("HUP");
    server.wait_for("tls.reloaded");
    assert_eq!(server.terminate(), 0);
}

/// A secret that this process knows only in disguise, so that it finds it nowhere by itself.
struct Disguised(Vec<u8>);

impl Disguised {
    const MASK: u8 = 0xa5;

    /// The first identity of a file of keys.
    fn identity_in(file: &std::path::Path) -> Disguised {
        let mut octets = fs::read(file).unwrap();
        let begin = octets.windows(15).position(|window| window == b"AGE-SECRET-KEY-").unwrap();
        let length = octets[begin..].iter().position(|octet| *octet == b'\n').unwrap();
        octets.iter_mut().for_each(|octet| *octet ^= Disguised::MASK);
        Disguised(octets[begin..begin + length].to_vec())
    }

    fn stands_at(&self, octets: &[u8]) -> bool {
        octets.len() >= self.0.len()
            && self.0.iter().zip(octets).all(|(one, other)| *one == other ^ Disguised::MASK)
    }

    /// How often it is in what this process, or that with this id, may write to.
    fn count_in_memory(&self, process: &str) -> usize {
        use std::os::unix::fs::FileExt;
        let memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        let mut count = 0;
        for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
            let (begin, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let [begin, end] = [begin, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            let mut octets = vec![0; usize::try_from(end - begin).unwrap()];
            if memory.read_exact_at(&mut octets, begin).is_ok() {
                let first = self.0[0] ^ Disguised::MASK;
                count +=
                    memchr::memchr_iter(first, &octets).filter(|at| self.stands_at(&octets[*at..])).count();
            }
            octets.fill(0);
        }
        count
    }
}

#[test]
fn an_identity_is_nowhere_in_memory_once_its_keyring_is_dropped() {
    use daybook::store::{Embedded, Options, Store};
    let site = Site::new();
    let account = Account::create(&site, &[]);
    account.opened(&site, &["key", "export", &account.login, "--to", "keys.txt"]).expect(0);
    let identity = Disguised::identity_in(&site.path("keys.txt"));
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let store = Embedded::open(&options).unwrap().0;
    let unlocked = store.unlock(&account.login, &account.password).unwrap();
    let revealed = unlocked.keyring.reveal();
    assert!(identity.count_in_memory("self") > 0, "what is there is found");
    drop(revealed);
    assert_eq!(identity.count_in_memory("self"), 0, "opened, it is held in another form");
    drop(unlocked);
    assert_eq!(identity.count_in_memory("self"), 0);
}

#[test]
fn an_identity_that_was_given_to_the_server_is_nowhere_in_its_memory_afterwards() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let account = Account::create(&site, &[]);
    site.write("escrow.key", &secret);
    let identity = Disguised::identity_in(&site.path("escrow.key"));
    let server = site.serve();
    for _ in 0..3 {
        site.run(&["mailbox", "reset-password", &account.login, "--identity", "escrow.key"]).expect(0);
    }
    let server = server.pid().to_string();
    let login = Disguised(account.login.bytes().map(|octet| octet ^ Disguised::MASK).collect());
    assert!(login.count_in_memory(&server) > 0, "what is there is found");
    assert_eq!(identity.count_in_memory(&server), 0);
}
