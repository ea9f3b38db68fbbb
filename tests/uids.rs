//! UIDs, UIDVALIDITY and UIDLs: the same after a restart and a crash, and never given out twice, whatever becomes of the store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/imap.rs"]
mod imap;
#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use imap::Imap;
use opened::{Account, json};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::{HOST, Server, Site, Smtp, corpus, wait_until};

/// UIDL of each message, and its octets.
type Found = Vec<(String, Vec<u8>)>;

fn found(server: &Server<'_>, account: &Account) -> Found {
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    let ids = poller.uidls();
    let found = ids.into_iter().enumerate().map(|(n, id)| (id, poller.retrieve(n + 1))).collect();
    poller.quit();
    found
}

fn delete(server: &Server<'_>, account: &Account, numbers: &[usize]) {
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    for number in numbers {
        poller.say(&format!("DELE {number}")).unwrap();
    }
    poller.quit();
}

/// Ends a server as a crash does. It leaves the file by which the next one is waited for.
fn crash(site: &Site, server: &mut Server<'_>) {
    server.kill();
    std::fs::remove_file(site.path("data/ports.json")).unwrap();
}

/// What IMAP says of INBOX: UIDVALIDITY, and the UID and octets of each message.
fn selected(site: &Site, server: &Server<'_>, account: &Account) -> (u32, Vec<(u32, Vec<u8>)>) {
    let credentials = (account.login.as_str(), account.password.as_str());
    let mut client = Imap::login(server.port("imaps"), site.client_config(), HOST, credentials).unwrap();
    let number = |text: &str, behind: &str| -> Option<u32> {
        let (_, rest) = text.split_once(behind)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let opened = client.say("EXAMINE INBOX").ok();
    let validity = opened.texts().iter().find_map(|text| number(text, "[UIDVALIDITY ")).unwrap();
    let fetched = client.say("UID FETCH 1:* (UID BODY.PEEK[])").ok();
    let of = |response: imap::Response| {
        let uid = number(&response.text, "UID ");
        uid.map(|uid| (uid, response.literals.into_iter().next().unwrap()))
    };
    let all = fetched.untagged.into_iter().filter_map(of).collect();
    client.logout();
    (validity, all)
}

/// Both protocols give the same messages, under ids that say so: of a UIDL the last two parts are UIDVALIDITY and UID.
fn found_by_both(site: &Site, server: &Server<'_>, account: &Account) -> Found {
    let by_pop3 = found(server, account);
    let (validity, by_imap) = selected(site, server, account);
    let places: Vec<String> = by_imap.iter().map(|(uid, _)| format!("{validity:x}.{uid:x}")).collect();
    let of = |(id, _): &(String, Vec<u8>)| id.split_once('.').unwrap().1.to_owned();
    assert_eq!(by_pop3.iter().map(of).collect::<Vec<_>>(), places);
    assert!(by_pop3.iter().zip(&by_imap).all(|((_, a), (_, b))| a == b));
    by_pop3
}

/// Of each folder UIDVALIDITY, the next UID, and how many entries it has.
fn folders(site: &Site, account: &Account) -> BTreeMap<String, [u64; 3]> {
    let shown: Value = json(site.run(&["mailbox", "show", &account.login, "--json"]));
    let number = |folder: &Value, key: &str| folder[key].as_u64().unwrap();
    let of = |folder: &Value| {
        let numbers = ["uid_validity", "uid_next", "entries"].map(|key| number(folder, key));
        (folder["path"].as_str().unwrap().to_owned(), numbers)
    };
    shown["folders"].as_array().unwrap().iter().map(of).collect()
}

fn message(n: usize) -> Vec<u8> {
    format!("From: a@contoso.example\r\nMessage-ID: <{n}@contoso.example>\r\nSubject: {n}\r\n\r\n{n}\r\n")
        .into_bytes()
}

fn send(server: &Server<'_>, account: &Account, numbers: std::ops::Range<usize>) {
    let mut smtp = Smtp::connect(server.port("smtp"));
    for n in numbers {
        assert!(smtp.send(&account.address, &message(n)).starts_with("250 "));
    }
}

/// All that was ever seen, by UIDL: whoever sees one again must see the same octets.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<u8>>);

impl Seen {
    fn note(&mut self, found: &Found) {
        for (id, octets) in found {
            let before = self.0.insert(id.clone(), octets.clone());
            assert!(before.is_none_or(|before| before == *octets), "{id} names two messages");
        }
    }
}

#[test]
fn a_restart_and_a_crash_change_no_uid_and_what_was_deleted_gives_its_own_to_nobody() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    account.receives(&server, &corpus("demo/report.eml"));
    send(&server, &account, 0..5);
    let mut seen = Seen::default();
    seen.note(&found(&server, &account));
    // The last goes: what comes next must not be taken for it.
    delete(&server, &account, &[6]);
    for crashes in [false, true, true, false] {
        let (before, known) = (found_by_both(&site, &server, &account), folders(&site, &account));
        seen.note(&before);
        match crashes {
            true => crash(&site, &mut server),
            false => assert_eq!(server.terminate(), 0),
        }
        server = site.serve();
        assert_eq!(
            (found(&server, &account), folders(&site, &account)),
            (before.clone(), known),
            "{crashes}"
        );
        let n = 10 + seen.0.len();
        send(&server, &account, n..n + 2);
        let after = found(&server, &account);
        assert_eq!(after[..before.len()], before);
        assert_eq!(after.len(), before.len() + 2);
        seen.note(&after);
        delete(&server, &account, &[after.len()]);
    }
    assert_eq!(seen.0.len(), 6 + 4 * 2);
}

#[test]
fn what_is_acknowledged_while_it_is_killed_keeps_the_uid_that_it_was_seen_by() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut seen = Seen::default();
    let mut acknowledged = BTreeSet::new();
    for round in 0..3_usize {
        let mut server = site.serve();
        let port = server.port("smtp");
        let address = account.address.clone();
        let sender = std::thread::spawn(move || {
            let mut sent = Vec::new();
            let mut smtp = std::panic::catch_unwind(|| Smtp::connect(port)).ok();
            for n in round * 1_000.. {
                let octets = message(n);
                let send =
                    std::panic::AssertUnwindSafe(|| smtp.as_mut().map(|smtp| smtp.send(&address, &octets)));
                match std::panic::catch_unwind(send) {
                    Ok(Some(reply)) if reply.starts_with("250 ") => sent.push(octets),
                    _ => return sent,
                }
            }
            sent
        });
        wait_until("some mail", || {
            let all = found(&server, &account);
            seen.note(&all);
            all.len() > acknowledged.len() + 20
        });
        crash(&site, &mut server);
        acknowledged.extend(sender.join().unwrap());
        let mut server = site.serve();
        let all = found(&server, &account);
        seen.note(&all);
        let there: BTreeSet<&Vec<u8>> = all.iter().map(|(_, octets)| octets).collect();
        assert!(acknowledged.iter().all(|octets| there.contains(octets)), "round {round}");
        assert_eq!(server.terminate(), 0);
    }
}

#[test]
fn a_store_made_of_a_backup_gives_out_nothing_that_its_original_gave() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    account.receives(&server, &corpus("demo/report.eml"));
    send(&server, &account, 0..3);
    let mut seen = Seen::default();
    let kept = found(&server, &account);
    seen.note(&kept);
    let backup = site.path("backup");
    site.run(&["backup", backup.to_str().unwrap()]).expect(0);
    // What the original gives out since, the restored one does not know of.
    send(&server, &account, 10..15);
    site.run(&["mailbox", "set", &account.login, "maildrop=originals"]).expect(0);
    send(&server, &account, 20..22);
    seen.note(&found(&server, &account));
    let given = folders(&site, &account);
    assert_eq!(server.terminate(), 0);

    let elsewhere = Site::new();
    elsewhere.run(&["restore", backup.to_str().unwrap()]).expect(0);
    let mut server = elsewhere.serve();
    let restored = found_by_both(&elsewhere, &server, &account);
    assert_eq!(restored, kept, "what was there keeps its ids");
    for (path, [validity, next, _]) in folders(&elsewhere, &account) {
        let [original_validity, original_next, _] = given[&path];
        assert!(next >= original_next, "{path}: {next} after {original_next}");
        assert!(path == "INBOX" || validity == original_validity, "{path}");
    }
    send(&server, &account, 30..35);
    seen.note(&found(&server, &account));
    let before: BTreeSet<String> = seen.0.keys().cloned().collect();
    elsewhere.run(&["mailbox", "set", &account.login, "maildrop=originals"]).expect(0);
    let switched = found_by_both(&elsewhere, &server, &account);
    assert!(switched.iter().all(|(id, _)| !before.contains(id)), "{switched:?}");
    crash(&elsewhere, &mut server);
    let server = elsewhere.serve();
    assert_eq!(found(&server, &account), switched);
}

#[test]
fn an_index_made_anew_gives_each_message_the_id_it_had() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    account.receives(&server, &corpus("demo/report.eml"));
    send(&server, &account, 0..4);
    delete(&server, &account, &[2, 5]);
    site.run(&["mailbox", "set", &account.login, "maildrop=originals"]).expect(0);
    send(&server, &account, 4..6);
    delete(&server, &account, &[1]);
    let (known, places) = (found_by_both(&site, &server, &account), folders(&site, &account));
    site.run(&["check", "--rebuild"]).expect(0);
    assert_eq!((found(&server, &account), folders(&site, &account)), (known.clone(), places.clone()));
    crash(&site, &mut server);
    for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        std::fs::remove_file(site.path(&format!("data/{name}"))).ok();
    }
    let server = site.serve();
    assert_eq!((found(&server, &account), folders(&site, &account)), (known, places));
}
