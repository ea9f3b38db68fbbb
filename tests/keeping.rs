//! What admins do about mail that leaves: bringing it back, legal holds, retention, and a clock that jumped; with a server and
//! without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/load.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod load;
#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use daybook::mail::*;
use daybook::observe::now;
use daybook::store::*;
use delivery::delivery;
use load::report;
use opened::Account;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use support::{Server, Site, corpus};

const DAY_MS: i64 = 86_400_000;
const BOB: &str = "[[user]]\nid = \"bob\"\nname = \"Bob\"\naddresses = [\"bob@contoso.example\"]\n";

fn ask(site: &Site, arguments: &[&str], code: i32) -> Value {
    let outcome = site.run(&[arguments, &["--json"]].concat()).expect(code);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

/// What a command complains of that ends with this code.
fn complaint(site: &Site, arguments: &[&str], code: i32) -> String {
    ask(site, arguments, code)["error"]["why"].as_str().unwrap().to_owned()
}

fn all_in(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// The UIDLs of the maildrop, in its order.
fn uidls(server: &Server<'_>, account: &Account) -> Vec<String> {
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    let count = pop3s.count();
    let uidl = |number| pop3s.say(&format!("UIDL {number}")).unwrap().rsplit(' ').next().unwrap().to_owned();
    let all = (1..=count).map(uidl).collect();
    pop3s.quit();
    all
}

/// Deletes the first so many messages of the maildrop.
fn delete(server: &Server<'_>, account: &Account, count: usize) {
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    for number in 1..=count {
        pop3s.say(&format!("DELE {number}")).unwrap();
    }
    pop3s.quit();
}

/// What is told of the INBOX entries of a receipt: UID, and what happened to it, by whom or what and why.
fn story(site: &Site, receipt: &str) -> Vec<(u64, Vec<String>)> {
    let traced = ask(site, &["trace", receipt], 0);
    let told = |event: &Value| {
        let text = |key: &str| event[key].as_str().unwrap_or("-").split(',').next().unwrap().to_owned();
        format!("{} {} {}", text("kind"), text("actor"), text("why"))
    };
    let entry = |placement: &Value| {
        let events = placement["events"].as_array().unwrap().iter().map(told).collect();
        (placement["uid"].as_u64().unwrap(), events)
    };
    let placements = traced[0]["placements"].as_array().unwrap().iter();
    placements.filter(|placement| placement["folder"] == "INBOX").map(entry).collect()
}

#[test]
fn what_a_client_deleted_comes_back_once_under_new_uids_and_the_trail_says_by_whom() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    let messages = ["a", "b", "c"].map(|name| report(name, 3_000).octets);
    let receipts = messages.each_ref().map(|octets| account.receives(&server, octets));
    let before = uidls(&server, &account);
    delete(&server, &account, 2);

    let undelete = ["undelete", account.login.as_str()];
    let planned = ask(&site, &[&undelete[..], &["--dry-run"]].concat(), 0);
    assert_eq!((&planned["entries"], &planned["applied"]), (&json!(2), &json!(false)), "{planned}");
    assert_eq!((&planned["left"][0]["path"], &planned["left"][0]["entries"]), (&json!("INBOX"), &json!(2)));
    assert!(planned["left"][0]["freed_from"].is_string(), "{planned}");
    assert_eq!(uidls(&server, &account), [before[2].clone()], "a dry run changes nothing");
    complaint(&site, &[&undelete[..], &["--folder", "Users/nobody"]].concat(), 1);
    let soon = Timestamp::from_unix_ms(now().unix_ms() + DAY_MS).to_string();
    let none = ask(&site, &[&undelete[..], &["--since", &soon]].concat(), 0);
    assert_eq!(none["entries"], 0, "{none}");

    let text = site.run(&[&undelete[..], &["--folder", "inbox"]].concat()).expect(0).stdout;
    all_in(&text, &["2 messages came back to INBOX, as UID 4-5.", "fetches them again"]);
    let after = uidls(&server, &account);
    assert_eq!(after.len(), 3);
    assert!(
        after[0] == before[2] && after[1..].iter().all(|uidl| !before.contains(uidl)),
        "{before:?} {after:?}"
    );
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    assert!((2..=3).map(|number| pop3s.retrieve(number)).eq([messages[0].clone(), messages[1].clone()]));
    pop3s.quit();
    assert_eq!(ask(&site, &undelete, 0)["entries"], 0, "what is back is not deleted any more");
    let told = story(&site, &receipts[0]);
    assert_eq!(told[0], (1, vec!["deleted - -".to_owned(), "undeleted cli -".to_owned()]), "{told:?}");
    assert_eq!(told[1], (4, vec!["fetched - -".to_owned()]), "{told:?}");
    let log = server.log_with("\"event\":\"mailbox.undeleted\"", 1);
    all_in(&log, &["\"folder\":\"INBOX\"", "\"entries\":2"]);

    // Without a server it is the same.
    delete(&server, &account, 1);
    assert_eq!(server.terminate(), 0);
    let back = ask(&site, &undelete, 0);
    assert_eq!((&back["entries"], &back["uids"]), (&json!(1), &json!([[6, 6]])), "{back}");
    assert_eq!(story(&site, &receipts[2])[1].0, 6);
}

#[test]
fn a_hold_keeps_all_that_is_deleted_and_forbids_to_delete_the_gateway_mailbox() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let login = account.login.as_str();
    let server = site.serve();
    account.receives(&server, &corpus("demo/report.eml"));
    let hold = ["mailbox", "hold", login, "--reason", "Case 4711"];
    site.run(&["mailbox", "hold", login]).expect(2);
    complaint(&site, &["mailbox", "hold", login, "--reason", " "], 2);
    complaint(&site, &[&hold[..], &["--user", "nobody@contoso.example"]].concat(), 1);
    // By an address as by the id.
    let held = ask(&site, &[&hold[..], &["--user", "a.archer@contoso.example"]].concat(), 0);
    assert_eq!(
        (&held["holds"][0]["user"], &held["holds"][0]["reason"]),
        (&json!("alice"), &json!("Case 4711"))
    );
    complaint(&site, &[&hold[..], &["--user", "alice"]].concat(), 1);
    all_in(&site.run(&["mailbox", "list"]).expect(0).stdout, &["HOLD", "1 user"]);
    site.run(&hold).expect(0);
    let shown = site.run(&["mailbox", "show", login]).expect(0).stdout;
    all_in(
        &shown,
        &["HELD      user alice, since ", "HELD      all of it, since ", ", by cli, uid ", ": Case 4711\n"],
    );
    let log = server.log_with("\"event\":\"mailbox.held\"", 2);
    assert!(log.contains("\"user\":\"alice\"") && !log.contains("4711"), "why is not for the log");

    site.run(&["mailbox", "suspend", login]).expect(0);
    let why = complaint(&site, &["mailbox", "delete", login, "--force", "--yes"], 1);
    all_in(&why, &["legal hold", "Case 4711"]);
    site.run(&["mailbox", "resume", login]).expect(0);

    site.run(&["mailbox", "set", login, "grace_days=0"]).expect(0);
    delete(&server, &account, 1);
    let ran = ask(&site, &["retention", "run"], 0);
    assert_eq!((&ran["last"]["held"], &ran["last"]["freed_entries"]), (&json!(1), &json!(0)), "{ran}");
    let recoverable = &ran["gateway_mailboxes"][0]["recoverable"][0];
    assert_eq!((&recoverable["entries"], &recoverable["freed_from"]), (&json!(1), &Value::Null), "{ran}");
    all_in(&site.run(&["retention"]).expect(0).stdout, &["a hold ends", "HELD", "1  kept by a legal hold"]);

    let why = complaint(&site, &["mailbox", "unhold", login], 4);
    all_in(&why, &["Case 4711", "0 messages leave", "and 1 deleted ones", "--yes"]);
    assert_eq!(ask(&site, &["mailbox", "show", login], 0)["holds"].as_array().unwrap().len(), 2);
    let undeleted = ask(&site, &["undelete", login], 0);
    assert_eq!(undeleted["entries"], 1, "{undeleted}");
    site.run(&["mailbox", "unhold", login, "--yes"]).expect(0);
    complaint(&site, &["mailbox", "unhold", login, "--yes"], 1);
    // Once nobody names her any more she goes by her id.
    site.write("users.toml", BOB);
    server.signal("HUP");
    server.wait_for("directory.reloaded");
    let left = ask(&site, &["mailbox", "unhold", login, "--user", "alice", "--yes"], 0);
    assert_eq!(left["holds"], json!([]));
    server.log_with("\"event\":\"mailbox.unheld\"", 2);
}

/// What time has reached, as the next start finds it.
fn set_mark(site: &Site, days_ago: i64) -> Timestamp {
    let mark = Timestamp::from_unix_ms(now().unix_ms() - days_ago * DAY_MS);
    state_file::write(&site.path("data/retention-clock.json"), &json!({ "mark": mark })).unwrap();
    mark
}

/// Messages received so many days ago, by the clock of those days.
fn receive(site: &Site, address: &str, days: &[i64]) -> Vec<String> {
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let receive_one = |days: &i64| {
        let at = set_mark(site, *days);
        let ahead_ms = Arc::new(AtomicI64::new(-days * DAY_MS));
        let (store, _) = Embedded::open_by_clock(&options, ahead_ms).unwrap();
        let to = store.gateway_mailbox(&AddressKey::of(address)).unwrap();
        let one = delivery(&store, &to, at, [1; 10], format!("{days}\r\n").as_bytes());
        let receipt = one.receipt_id.to_string();
        runtime.block_on(async {
            store.deliver(vec![one]).await.unwrap();
            store.close().await;
        });
        receipt
    };
    let receipts = days.iter().map(receive_one).collect();
    set_mark(site, 0);
    receipts
}

#[test]
fn retention_takes_out_what_is_due_and_a_shorter_time_asks_first() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let login = account.login.as_str();
    let set = |setting: &'static str| ["mailbox", "set", login, setting];
    // Nothing is there that it could take away.
    site.run(&set("inbox_retention_days=60")).expect(0);
    let receipts = receive(&site, &account.address, &[40, 20]);
    for wrong in ["inbox_retention_days=0", "user_retention_days=36501", "grace_days=-1", "grace_days=x"] {
        complaint(&site, &set(wrong), 2);
    }
    let why = complaint(&site, &set("inbox_retention_days=30"), 4);
    all_in(&why, &["INBOX: 1 of 2 messages", "more than 30 days ago", "they stay for 60 days", "--yes"]);
    assert_eq!(ask(&site, &["mailbox", "show", login], 0)["inbox_retention_days"], 60);
    site.run(&set("inbox_retention_days=90")).expect(0);
    site.run(&set("inbox_retention_days=")).expect(0);
    let changed = ask(&site, &[&set("inbox_retention_days=30")[..], &["--yes"]].concat(), 0);
    assert_eq!((&changed["inbox_retention_days"], &changed["grace_days"]), (&json!(30), &json!(7)));
    let page = site.run(&["mailbox", "show", login]).expect(0).stdout;
    all_in(&page, &["keeps     INBOX for 30 days, users' folders for ever; what was deleted for 7 days"]);

    let mut server = site.serve();
    let status = ask(&site, &["retention"], 0);
    assert_eq!(status["gateway_mailboxes"][0]["rules"][0]["due"], 1, "{status}");
    site.run(&["mailbox", "hold", login, "--reason", "Case"]).expect(0);
    let held = ask(&site, &["retention", "run"], 0);
    assert_eq!((&held["last"]["expired"], &held["last"]["held"]), (&json!(0), &json!(1)), "{held}");
    assert_eq!(held["gateway_mailboxes"][0]["rules"][0]["held"], 2, "{held}");
    all_in(&complaint(&site, &["mailbox", "unhold", login], 4), &["without it 1 messages leave"]);
    site.run(&["mailbox", "unhold", login, "--yes"]).expect(0);
    for expired in [1, 0] {
        let ran = ask(&site, &["retention", "run"], 0);
        assert_eq!(ran["last"]["expired"], expired, "{ran}");
    }
    assert_eq!(uidls(&server, &account).len(), 1);
    let status = ask(&site, &["retention", "status"], 0);
    let rule = &status["gateway_mailboxes"][0]["rules"][0];
    assert_eq!(rule["due"], 0, "{rule}");
    let next = Timestamp::parse(rule["next_at"].as_str().unwrap()).unwrap();
    assert!(
        (9..11).contains(&((next.unix_ms() - now().unix_ms()) / DAY_MS)),
        "20 of 30 days are over: {rule}"
    );
    let told = story(&site, &receipts[0]);
    assert_eq!(told, [(1, vec!["expired retention received more than 30 days ago".to_owned()])]);

    let due = ask(&site, &["undelete", login], 0);
    assert_eq!((&due["entries"], &due["skipped_due"]), (&json!(0), &json!(1)), "{due}");
    site.run(&set("inbox_retention_days=")).expect(0);
    assert_eq!(ask(&site, &["undelete", login], 0)["entries"], 1);
    assert_eq!(uidls(&server, &account).len(), 2);
    all_in(&site.run(&["status"]).expect(0).stdout, &["retention: last pass ", ": 0 expired, "]);

    // Without a server it is the same.
    assert_eq!(server.terminate(), 0);
    site.run(&[&set("inbox_retention_days=30")[..], &["--yes"]].concat()).expect(0);
    all_in(&site.run(&["retention", "run"]).expect(0).stdout, &["        1  taken out by retention"]);
    let text = site.run(&["trace", &receipts[0]]).expect(0).stdout;
    all_in(
        &text,
        &["expired by retention: received more than 30 days ago", "brought back after it was deleted"],
    );
}

#[test]
fn a_shorter_grace_says_what_can_be_had_back_no_more() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let login = account.login.as_str();
    let server = site.serve();
    site.run(&["mailbox", "set", login, "grace_days=1"]).expect(0);
    site.run(&["mailbox", "set", login, "grace_days="]).expect(0);
    account.receives(&server, &corpus("demo/report.eml"));
    delete(&server, &account, 1);
    let why = complaint(&site, &["mailbox", "set", login, "grace_days=1"], 4);
    all_in(&why, &["deleted: 0 of 1 messages", "until now they can for 7 days"]);
    let why = complaint(&site, &["mailbox", "set", login, "grace_days=0"], 4);
    all_in(&why, &["deleted: 1 of 1 messages"]);
    site.run(&["mailbox", "set", login, "grace_days=0", "--yes"]).expect(0);
    let ran = ask(&site, &["retention", "run"], 0);
    assert_eq!(ran["gateway_mailboxes"][0]["recoverable"], json!([]), "{ran}");
    assert_eq!(ask(&site, &["undelete", login], 0)["entries"], 0);
}

#[test]
fn a_clock_that_jumped_pauses_everything_until_somebody_says_that_it_is_right() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let login = account.login.as_str();
    complaint(&site, &["retention", "confirm", "--yes"], 1);
    receive(&site, &account.address, &[40]);
    site.run(&["mailbox", "set", login, "inbox_retention_days=30", "--yes"]).expect(0);
    // As a host leaves it that was off for so long.
    let mark = set_mark(&site, 400);
    let server = site.serve();
    let paused = ask(&site, &["retention"], 1);
    assert_eq!(paused["paused"]["trusted"], json!(mark), "{paused}");
    all_in(
        &site.run(&["retention"]).expect(1).stdout,
        &["PAUSED since ", "400 days ahead of", "retention confirm"],
    );
    all_in(&complaint(&site, &["retention", "run"], 1), &["retention is paused", "400 days"]);
    let status = ask(&site, &["status"], 1);
    assert_eq!(status["alarms"][0]["alarm"], "retention-paused", "{status}");
    let doctor = ask(&site, &["doctor", "--check", "retention"], 1);
    assert_eq!(doctor["checks"][0]["status"], "problem", "{doctor}");
    all_in(&complaint(&site, &["retention", "confirm"], 4), &["400 days 0 h ahead of", "say --yes"]);
    assert_eq!(uidls(&server, &account).len(), 1, "nothing left");

    let confirmed = ask(&site, &["retention", "confirm", "--yes"], 0);
    assert_eq!(confirmed["paused"], Value::Null, "{confirmed}");
    server.wait_for("retention.clock_trusted");
    assert_eq!(ask(&site, &["retention", "run"], 0)["last"]["expired"], 1);
    assert_eq!(ask(&site, &["status"], 0)["alarms"], json!([]));
    ask(&site, &["doctor", "--check", "retention"], 0);
}
