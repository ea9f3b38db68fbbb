//! `daybook backup` and `daybook restore`: copies made beside a server that takes mail, and stores made of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use support::{Server, Site, Smtp, wait_until};

/// Senders at a time.
const SENDERS: usize = 3;

/// The plain copy as the README has it, of `$D` to `$B`.
const PLAIN_COPY: &str = r#"
install -d -m 0700 "$B"
exec 9< "$D/freeing.lock" && flock --shared 9
cp -a "$D"/checkpoints*.jsonl "$B"
if [ -e "$D/pull" ]; then cp -a "$D/pull" "$B"; fi
cp -a --sparse=always "$D/log" "$B"
cp -a --sparse=always "$D/content" "$D/keys" "$B"
for name in directory tls closed-gaps.json log-loss.json retention-clock.json; do
    if [ -e "$D/$name" ]; then cp -a "$D/$name" "$B"; fi
done
"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn message(name: &str, octets: usize) -> Vec<u8> {
    let mut all =
        format!("From: a@contoso.example\r\nMessage-ID: <{name}@contoso.example>\r\nSubject: x\r\n\r\n");
    for line in 0.. {
        if all.len() >= octets {
            break;
        }
        all.push_str(&format!("line {line} of {name}, which no other has\r\n"));
    }
    all.into_bytes()
}

/// A site with one gateway mailbox, and folders beside it that live as long.
struct Original {
    site: Site,
    address: String,
    login: String,
    password: String,
}

impl Original {
    fn new() -> Original {
        let site = Site::with("[store]\ncheckpoint_dir = \"checkpoints\"\n", "");
        fs::create_dir(site.path("checkpoints")).unwrap();
        let made = json(&site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Original { address: text("address"), login: text("login"), password: text("password"), site }
    }

    fn backup_dir(&self) -> PathBuf {
        self.site.path("backup")
    }

    fn back_up(&self) -> Value {
        let dir = self.backup_dir();
        json(&self.site.run(&["backup", "--json", dir.to_str().unwrap()]).expect(0).stdout)
    }

    /// Another host, which has nothing but the backup and the folder of checkpoints.
    fn elsewhere(&self) -> Site {
        let outside = self.site.path("checkpoints");
        Site::with(&format!("[store]\ncheckpoint_dir = \"{}\"\n", outside.display()), "")
    }

    fn restore(&self, site: &Site, more: &[&str], code: i32) -> Value {
        let dir = self.backup_dir();
        let all = [&["restore", "--json", dir.to_str().unwrap()], more].concat();
        json(&site.run(&all).expect(code).stdout)
    }

    fn send(&self, server: &Server<'_>, message: &[u8]) {
        let reply = server.send(&self.address, message);
        assert!(reply.starts_with("250 "), "{reply}");
    }

    /// Everything a poller finds: its UIDL and its octets.
    fn fetched(&self, server: &Server<'_>) -> Vec<(String, Vec<u8>)> {
        let mut poller = server.pop3s(&self.login, &self.password).unwrap();
        let ids = poller.uidls();
        let fetched = ids.into_iter().enumerate().map(|(n, id)| (id, poller.retrieve(n + 1))).collect();
        poller.quit();
        fetched
    }
}

fn ids(fetched: &[(String, Vec<u8>)]) -> BTreeSet<String> {
    fetched.iter().map(|(id, _)| id.clone()).collect()
}

#[test]
fn nothing_acknowledged_before_a_backup_began_is_missing_where_it_is_restored() {
    let original = Original::new();
    let mut server = original.site.serve();
    let (acknowledged, stop, sent) = (Mutex::new(Vec::new()), AtomicBool::new(false), AtomicUsize::new(0));
    let (began, known) = std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (server, acknowledged, stop, sent, original) =
                (&server, &acknowledged, &stop, &sent, &original);
            scope.spawn(move || {
                let mut smtp = Smtp::connect(server.port("smtp"));
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // Some get a file of their own.
                    let octets = if n % 10 == 9 { 1_300_000 } else { 3_000 };
                    let message = message(&format!("m{sender}-{n}"), octets);
                    assert!(smtp.send(&original.address, &message).starts_with("250 "));
                    acknowledged.lock().unwrap().push((Instant::now(), message));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |than: usize| wait_until("more mail", || sent.load(Ordering::Relaxed) >= than);
        more(30);
        // The one before the last: what the last copies stands behind it.
        original.back_up();
        let known = original.fetched(&server);
        more(sent.load(Ordering::Relaxed) + 30);
        let began = Instant::now();
        let report = original.back_up();
        assert_eq!((&report["whole"], &report["damaged"]), (&Value::from(true), &Value::from(0)));
        more(sent.load(Ordering::Relaxed) + 10);
        stop.store(true, Ordering::Relaxed);
        (began, known)
    });
    let all_of_original = ids(&original.fetched(&server));
    server.kill();

    let site = original.elsewhere();
    let report = original.restore(&site, &[], 0);
    assert_eq!(
        (&report["restored"], &report["plain"]),
        (&Value::from(true), &Value::from(false)),
        "{report}"
    );
    site.run(&["verify", "--deep"]).expect(0);
    let mut restored = site.serve();
    let there = original.fetched(&restored);
    let octets: BTreeSet<&[u8]> = there.iter().map(|(_, octets)| octets.as_slice()).collect();
    let acknowledged = acknowledged.into_inner().unwrap();
    let due: Vec<_> = acknowledged.iter().filter(|(at, _)| *at < began).collect();
    assert!(due.len() >= 60 && there.len() >= due.len());
    let missing = due.iter().filter(|(_, message)| !octets.contains(message.as_slice())).count();
    assert_eq!(missing, 0, "of {}", due.len());
    // Whoever polls sees what it knew, under the same ids, and no id twice.
    assert!(ids(&known).is_subset(&ids(&there)));
    assert!(known.iter().all(|entry| there.contains(entry)));
    for n in 0..5 {
        original.send(&restored, &message(&format!("later-{n}"), 2_000));
    }
    let later = ids(&original.fetched(&restored));
    let new: BTreeSet<_> = later.difference(&ids(&there)).cloned().collect();
    assert_eq!((new.len(), new.intersection(&all_of_original).count()), (5, 0));
    assert_eq!(restored.terminate(), 0);
    site.run(&["verify", "--deep"]).expect(0);
}

#[test]
fn two_restores_and_their_original_may_share_a_folder_of_checkpoints_and_give_no_uidl_twice() {
    let original = Original::new();
    let mut server = original.site.serve();
    (0..3).for_each(|n| original.send(&server, &message(&format!("before-{n}"), 2_000)));
    original.back_up();
    (0..3).for_each(|n| original.send(&server, &message(&format!("after-{n}"), 2_000)));
    let all = original.fetched(&server);
    assert_eq!(server.terminate(), 0);
    let before = &all[..3];
    let mut given = ids(&all);
    let restored: Vec<Site> = (0..2).map(|_| original.elsewhere()).collect();
    for site in &restored {
        let report = original.restore(site, &[], 0);
        assert!(report["missing_groups"].as_u64().unwrap() >= 1, "{report}");
        let mut server = site.serve();
        assert_eq!(original.fetched(&server), before);
        (0..3).for_each(|n| original.send(&server, &message(&format!("new-{n}"), 2_000)));
        let new: Vec<_> = original.fetched(&server).split_off(3);
        assert_eq!(new.len(), 3);
        for (id, _) in new {
            assert!(given.insert(id.clone()), "{id} was given out before");
        }
        assert_eq!(server.terminate(), 0);
        // Again, with what it signed itself and what the original did.
        let mut server = site.serve();
        assert_eq!(original.fetched(&server).len(), 6);
        assert_eq!(server.terminate(), 0);
        assert!(!site.path("data/log-loss.json").exists(), "an end of the log that is there is missed");
        site.run(&["verify", "--deep"]).expect(0);
    }
    let mut server = original.site.serve();
    assert_eq!(original.fetched(&server), all);
    assert_eq!(server.terminate(), 0);
    assert!(
        !original.site.path("data/log-loss.json").exists(),
        "the original takes a restored one's end for its own"
    );
    original.site.run(&["verify", "--deep"]).expect(0);
}

#[test]
fn the_next_backup_copies_what_was_added_and_one_that_was_killed_is_gone_on_with() {
    let original = Original::new();
    let server = original.site.serve();
    (0..20).for_each(|n| original.send(&server, &message(&format!("many-{n}"), 100_000)));
    let first = original.back_up()["written_octets"].as_u64().unwrap();
    assert!(first > 2_000_000, "{first}");
    original.send(&server, &message("one", 100_000));
    let second = original.back_up()["written_octets"].as_u64().unwrap();
    assert!((100_000..200_000).contains(&second), "{second}");
    original.send(&server, &message("another", 2_000_000));
    let dir = original.backup_dir();
    for _ in 0..3 {
        let mut killed = original.site.command(&["backup", dir.to_str().unwrap()]);
        let mut killed = killed.stdout(std::process::Stdio::null()).spawn().unwrap();
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    let third = original.back_up();
    assert_eq!((&third["whole"], &third["receipts"]), (&Value::from(true), &Value::from(1)), "{third}");
    original.site.run(&["verify", "--deep", "--data-dir", dir.to_str().unwrap()]).expect(0);
    let site = original.elsewhere();
    original.restore(&site, &[], 0);
    let restored = site.serve();
    assert_eq!(original.fetched(&restored), original.fetched(&server));
}

#[test]
fn a_damaged_backup_is_named_and_restored_only_when_that_is_asked_for() {
    let original = Original::new();
    let mut server = original.site.serve();
    let sealed = |n: usize| message(&format!("sealed-{n}"), 20_000);
    (0..4).for_each(|n| original.send(&server, &sealed(n)));
    original.send(&server, &message("large", 1_500_000));
    let all = original.fetched(&server);
    assert_eq!(server.terminate(), 0);
    original.back_up();
    let segment = original.backup_dir().join("log/00000001.seg");
    let mut octets = fs::read(&segment).unwrap();
    // In the middle of the content of the first.
    let at = memchr::memmem::find(&octets, b"age-encryption.org/v1").unwrap() + 10_000;
    octets[at] ^= 1;
    fs::write(&segment, octets).unwrap();
    let site = original.elsewhere();
    let report = original.restore(&site, &[], 1);
    assert_eq!((&report["restored"], &report["damaged"]), (&Value::from(false), &Value::from(1)), "{report}");
    let finding = &report["findings"][0];
    assert!(finding["place"].as_str().unwrap().starts_with("log/00000001.seg at "), "{report}");
    assert_eq!(finding["receipts"].as_array().unwrap().len(), 1);
    assert!(!site.path("data").exists(), "nothing is restored");
    let report = original.restore(&site, &["--despite-damage"], 1);
    assert_eq!(report["restored"], true, "{report}");
    let server = site.serve();
    let mut poller = server.pop3s(&original.login, &original.password).unwrap();
    assert_eq!(poller.count(), 5);
    for (n, (_, octets)) in all.iter().enumerate().skip(1) {
        assert_eq!(&poller.retrieve(n + 1), octets, "message {n}");
    }
}

#[test]
fn a_damaged_list_of_users_is_told_of_by_the_restore_and_keeps_no_mail_from_coming_back() {
    let original = Original::new();
    let mut server = original.site.serve();
    original.send(&server, &message("kept", 2_000));
    assert_eq!(server.terminate(), 0);
    let lists = original.site.path("data/directory/gone");
    fs::create_dir_all(&lists).unwrap();
    fs::write(lists.join("1.jsonl"), "half of a li").unwrap();
    fs::write(lists.join("2.jsonl"), "{\"v\":99}\n").unwrap();
    original.back_up();
    let report = original.restore(&original.elsewhere(), &[], 1);
    assert_eq!((&report["restored"], &report["damaged"]), (&Value::from(true), &Value::from(1)), "{report}");
    let finding = &report["findings"][0];
    assert_eq!(finding["place"], "directory/gone/1.jsonl");
    assert_eq!(report["receipts"], 1);
    let verified = json(&original.site.run(&["verify", "--json"]).expect(1).stdout);
    assert_eq!((&verified["damaged"], &verified["notes"]), (&Value::from(1), &Value::from(1)), "{verified}");
}

#[test]
fn folders_that_are_no_place_for_it_are_refused_and_left_as_they_are() {
    let original = Original::new();
    let (site, dir) = (&original.site, original.backup_dir());
    site.run(&["backup", site.path("data/backup").to_str().unwrap()]).expect(2);
    assert!(!site.path("data/backup").exists());
    fs::create_dir(site.path("other")).unwrap();
    site.write("other/letter", "dear");
    site.run(&["backup", site.path("other").to_str().unwrap()]).expect(2);
    assert_eq!(fs::read_dir(site.path("other")).unwrap().count(), 1);
    original.back_up();
    let full = site.run(&["restore", "--json", dir.to_str().unwrap()]).expect(2);
    assert_eq!(json(&full.stdout)["error"]["kind"], "usage");
    let empty = original.elsewhere();
    let none = original.site.path("checkpoints");
    empty.run(&["restore", none.to_str().unwrap()]).expect(2);
    assert!(!empty.path("data").exists());
    use std::os::unix::fs::PermissionsExt;
    for (path, mode) in
        [(dir.clone(), 0o700), (dir.join("log/00000001.seg"), 0o600), (dir.join("keys"), 0o700)]
    {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    // A copy is no store: UIDs would be given out twice.
    empty.keep_data_in(&dir);
    let refused = empty.run(&["mailbox", "list"]).expect(3);
    assert!(refused.stderr.contains("daybook restore"), "{refused:?}");
}

#[test]
fn a_plain_copy_of_a_store_that_takes_mail_is_restored_as_a_backup_is() {
    let original = Original::new();
    let server = original.site.serve();
    (0..10).for_each(|n| original.send(&server, &message(&format!("before-{n}"), 30_000)));
    server.wait_for("store.checkpoint");
    let before = original.fetched(&server);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = || {
            let mut smtp = Smtp::connect(server.port("smtp"));
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                assert!(
                    smtp.send(&original.address, &message(&format!("during-{n}"), 30_000))
                        .starts_with("250 ")
                );
            }
        };
        scope.spawn(sender);
        let copied = std::process::Command::new("bash")
            .args(["-euc", PLAIN_COPY])
            .env("D", original.site.path("data"))
            .env("B", original.backup_dir())
            .status();
        stop.store(true, Ordering::Relaxed);
        assert!(copied.unwrap().success());
    });
    let site = original.elsewhere();
    let report = original.restore(&site, &[], 0);
    assert_eq!((&report["restored"], &report["plain"]), (&Value::from(true), &Value::from(true)), "{report}");
    let restored = site.serve();
    let there = original.fetched(&restored);
    assert_eq!(there[..10], before);
    let all = original.fetched(&server);
    assert_eq!(there, all[..there.len()], "what came while it was copied is there up to some message");
    site.run(&["verify", "--deep"]).expect(0);
}

#[test]
fn a_backup_carries_new_keys_and_a_reset_password_and_a_restored_store_frees_nothing_unasked() {
    let site = Site::new();
    let mut account = opened::Account::create(&site, &[]);
    let server = site.serve();
    let sent: Vec<_> = (0..3).map(|n| message(&format!("key-{n}"), 2_000)).collect();
    account.receives(&server, &sent[0]);
    account.opened(&site, &["key", "rotate", &account.login]).expect(0);
    account.receives(&server, &sent[1]);
    let dir = site.path("backup");
    site.run(&["backup", dir.to_str().unwrap()]).expect(0);
    site.write("old-password", &account.password);
    let reset = ["mailbox", "reset-password", &account.login, "--password-file", "old-password", "--json"];
    let old = account.password.clone();
    account.password = json(&site.run(&reset).expect(0).stdout)["password"].as_str().unwrap().to_owned();
    account.receives(&server, &sent[2]);
    // The next one into the same folder, where keyrings are others by now.
    site.run(&["backup", dir.to_str().unwrap()]).expect(0);
    site.run(&["verify", "--deep", "--data-dir", dir.to_str().unwrap()]).expect(0);

    let elsewhere = Site::new();
    let told = elsewhere.run(&["restore", dir.to_str().unwrap()]).expect(0).stdout;
    assert!(told.contains("daybook retention confirm"), "{told}");
    let restored = elsewhere.serve();
    assert!(restored.pop3s(&account.login, &old).is_err(), "the old password logs in no more");
    let mut poller = restored.pop3s(&account.login, &account.password).unwrap();
    let there: Vec<_> = (1..=poller.count()).map(|number| poller.retrieve(number)).collect();
    assert_eq!(there, sent);
    poller.quit();
    let paused = elsewhere.run(&["retention", "status"]).expect(1).stdout;
    assert!(paused.contains("the store was restored from a backup"), "{paused}");
    elsewhere.run(&["retention", "run"]).expect(1);
    elsewhere.run(&["retention", "confirm", "--yes"]).expect(0);
    elsewhere.run(&["retention", "run"]).expect(0);
    elsewhere.run(&["verify", "--deep"]).expect(0);
}
