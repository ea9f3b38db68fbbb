//! Exports of what changes meanwhile, or has changed: keys, entries that are back, numbers that are of something else.

use super::delivery::delivery;
use super::opened::json;
use super::{Filled, lines, past_smtp};
use daybook::mail::Timestamp;
use daybook::store::{Reader, Store, StoreError};
use serde_json::Value;
use std::fs;

#[test]
fn what_is_sealed_to_a_lost_key_is_told_and_left_out_until_that_key_is_given_too() {
    let filled = Filled::new();
    let (site, login) = (&filled.site, filled.account.login.as_str());
    site.write("old", &filled.account.password);
    let old: u64 = filled.account.holds(site).iter().map(|(_, entries)| entries).sum();
    let reset = json(site.run(&["mailbox", "reset-password", login, "--yes", "--json"]));
    site.write("new", reset["password"].as_str().unwrap());
    let mut server = site.serve();
    filled.account.receives(&server, b"Subject: new\r\n\r\nnew\r\n");
    server.terminate();
    let all: u64 = filled.account.holds(site).iter().map(|(_, entries)| entries).sum();
    let export = |to: &str, arguments: &[&str], code: i32| -> Value {
        let all = [&["export", login, "--to", to, "--json"], arguments].concat();
        serde_json::from_str(&site.run(&all).expect(code).stdout).unwrap()
    };
    for (form, to) in [("eml", "eml"), ("mbox", "mbox")] {
        let with_new = ["--format", form, "--password-file", "new"];
        let told = export(to, &with_new, 1);
        let counts =
            [&told["former_key"], &told["added"], &told["damaged"]].map(|count| count.as_u64().unwrap());
        assert_eq!(counts, [old, all - old, 0], "{told}");
        let why = told["not_exported"][0]["why"].as_str().unwrap();
        assert!(why.contains("sealed to a former key"), "{why}");
        let checked = json(site.run(&["export", "--check", to, "--json"]));
        assert_eq!((&checked["former_key"], &checked["differing"]), (&Value::from(old), &Value::from(0)));
    }
    let alone = export("alone", &["--password-file", "old"], 1);
    assert_eq!((&alone["added"], &alone["former_key"]), (&Value::from(old), &Value::from(all - old)));
    let both = ["--password-file", "old", "--password-file", "new"];
    let told = export("eml", &both, 0);
    assert_eq!((&told["added"], &told["messages"]), (&Value::from(old), &Value::from(all)), "{told}");
    site.run(&["export", "--check", "eml"]).expect(0);
}

#[test]
fn what_is_deleted_and_brought_back_stands_in_an_export_once() {
    let filled = Filled::new();
    let (site, account) = (&filled.site, &filled.account);
    site.write("password", &account.password);
    let forms = [
        ("eml", &["--password-file", "password"][..]),
        ("mbox", &["--format", "mbox", "--password-file", "password"]),
        ("sealed", &["--sealed"]),
    ];
    let export = |to: &str, form: &[&str]| {
        site.run(&[&["export", account.login.as_str(), "--to", to, "--json"], form].concat()).expect(0).stdout
    };
    let mut before = Vec::new();
    for (to, form) in forms {
        let told: Value = serde_json::from_str(&export(to, form)).unwrap();
        before.push(told["messages"].clone());
    }
    for round in 1..=2 {
        let mut server = site.serve();
        let mut poller = server.pop3s(&account.login, &account.password).unwrap();
        poller.say("DELE 1").unwrap();
        poller.quit();
        site.run(&["undelete", &account.login, "--folder", "INBOX"]).expect(0);
        server.terminate();
        for ((to, form), before) in forms.iter().zip(&before) {
            let told: Value = serde_json::from_str(&export(to, form)).unwrap();
            assert_eq!(&told["messages"], before, "{told}");
            for (count, expect) in [("added", 0), ("returned", 1), ("deleted_since", 0), ("damaged", 0)] {
                assert_eq!(told[count], expect, "{to}, round {round}, {count}: {told}");
            }
            let manifest = lines(&site.path(to));
            let last = manifest.iter().rfind(|line| line["kind"] == "message").unwrap();
            let first =
                manifest.iter().find(|line| line["kind"] == "message" && line["uid"] == last["same_as"]);
            let first = first.unwrap();
            assert_eq!((&first["path"], &first["receipt_id"]), (&last["path"], &last["receipt_id"]));
            site.run(&["export", "--check", to]).expect(0);
        }
    }
    // The line must name a message that is there.
    let manifest = fs::read_to_string(site.path("eml/manifest.jsonl")).unwrap();
    site.write("eml/manifest.jsonl", &manifest.replace("\"same_as\":1", "\"same_as\":77"));
    let said = site.run(&["export", "--check", "eml"]).expect(1).stdout;
    assert!(said.contains("it is not the message of UID 77"), "{said}");
}

#[test]
fn an_object_that_is_another_than_the_one_exported_under_its_number_is_refused() {
    let filled = Filled::new();
    let site = &filled.site;
    let export = ["export", filled.account.login.as_str(), "--to", "sealed", "--sealed"];
    site.run(&[&export[..], &["--folder", "INBOX"]].concat()).expect(0);
    // As if the store had been restored and had given the numbers to something else.
    let mut manifest = lines(&site.path("sealed"));
    for object in manifest.iter_mut().filter(|line| line["kind"] == "object") {
        object["sha256"] = Value::from("00".repeat(32));
    }
    let text: String = manifest.iter().map(|line| format!("{line}\n")).collect();
    site.write("sealed/manifest.jsonl", &text);
    let refused = site.run(&export).expect(1).stderr;
    assert!(
        refused.contains("is another in the store") && refused.contains("another directory"),
        "{refused}"
    );
}

#[test]
fn what_is_listed_in_one_folder_and_then_in_another_is_of_one_moment() {
    let filled = Filled::new();
    let site = &filled.site;
    past_smtp(site, &filled.account, |store, to, runtime| {
        let reader = Reader::open(&site.path("data")).unwrap();
        let count_inbox = |meanwhile: &dyn Fn()| {
            let (mut inbox, mut folders) = (0, 0);
            let inbox_last = |mut all: Vec<daybook::store::FolderStatus>| {
                all.sort_by_key(|folder| folder.path == "INBOX");
                Ok::<_, StoreError>(all)
            };
            let take = |folder: daybook::store::FolderStatus, listing: daybook::store::Listing| {
                if folders == 0 {
                    meanwhile();
                }
                folders += 1;
                if folder.path == "INBOX" {
                    inbox = listing.entries.len();
                }
                Ok(())
            };
            reader.listings(to.id, inbox_last, take).unwrap();
            assert!(folders > 1);
            inbox
        };
        let arrives = || {
            let at = Timestamp::from_unix_ms(1_790_000_000_000);
            let late = delivery(store, to, at, [7; 10], b"Subject: late\r\n\r\nlate\r\n");
            runtime.block_on(store.deliver(vec![late])).unwrap();
        };
        assert_eq!(count_inbox(&arrives), filled.sent.len());
        assert_eq!(count_inbox(&|| {}), filled.sent.len() + 1);
    });
}
