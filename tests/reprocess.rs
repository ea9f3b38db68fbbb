//! `daybook reprocess`: stored messages are read again, shown first, moved where they belong, and keep their receipt.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use daybook::mail::{AddressKey, Class, Timestamp};
use daybook::store::{Delivery, Embedded, FolderName, Options, Store, WantedPlacement};
use delivery::delivery;
use opened::{Account, identity, json, section};
use serde_json::Value;
use support::{Site, USERS, corpus};

const OUTGOING: &str = "Users/alice@contoso.example/Journal Outgoing";
const INCOMING: &str = "Users/bob@contoso.example/Journal Incoming";
const ALL: &[(&str, u64)] = &[("INBOX", 1), (OUTGOING, 1), (INCOMING, 1)];

fn holds(account: &Account, site: &Site, expect: &[(&str, u64)]) {
    let folders = account.holds(site);
    assert_eq!(folders.iter().map(|(path, n)| (path.as_str(), *n)).collect::<Vec<_>>(), expect);
}

fn reprocess(account: &Account, site: &Site, more: &[&str]) -> Value {
    json(account.opened(site, &[&["reprocess", &account.login, "--json"], more].concat()))
}

/// Folders of a list of entries.
fn paths(entries: &Value) -> Vec<&str> {
    entries.as_array().unwrap().iter().map(|entry| entry["folder"].as_str().unwrap()).collect()
}

/// What a new reading says differently of the only message.
fn differs<'a>(view: &'a Value, what: &str) -> (&'a str, &'a str) {
    let all = view["receipts"][0]["differences"].as_array().unwrap();
    let found = all.iter().find(|difference| difference["what"] == what);
    let found = found.unwrap_or_else(|| panic!("no {what}: {view}"));
    (found["was"].as_str().unwrap(), found["is"].as_str().unwrap())
}

fn read_as_microsoft365(site: &Site, account: &Account) {
    site.run(&["mailbox", "set", &account.login, "profile=microsoft365"]).expect(0);
}

#[test]
fn a_report_that_came_under_the_wrong_profile_is_given_to_its_users() {
    let site = Site::new();
    let account = Account::create(&site, &["--profile", "generic"]);
    let server = site.serve();
    let message = corpus("demo/report.eml");
    let id = account.receives(&server, &message);
    holds(&account, &site, &[("INBOX", 1), ("Unassigned", 1)]);
    assert_eq!(reprocess(&account, &site, &["--apply"])["receipts"], Value::Array(vec![]));
    read_as_microsoft365(&site, &account);

    let plan = reprocess(&account, &site, &[]);
    assert_eq!(plan["applied"].as_bool(), Some(false));
    assert_eq!(differs(&plan, "class"), ("plain", "journal-report"));
    assert_eq!(differs(&plan, "sender"), ("", "alice@contoso.example"));
    assert_eq!(differs(&plan, "originals"), ("0", "1"));
    let planned = &plan["receipts"][0];
    assert_eq!(planned["receipt_id"].as_str(), Some(id.as_str()));
    assert_eq!(
        (paths(&planned["placements"]), paths(&planned["left"])),
        (vec![OUTGOING, INCOMING], vec!["Unassigned"])
    );
    holds(&account, &site, &[("INBOX", 1), ("Unassigned", 1)]);

    let done = reprocess(&account, &site, &["--apply"]);
    assert_eq!(paths(&done["receipts"][0]["placements"]), paths(&planned["placements"]));
    holds(&account, &site, ALL);
    server.wait_for("journal.reprocessed");
    let trace = json(site.run(&["trace", &id, "--json"]));
    assert_eq!(trace[0]["class"].as_str(), Some("journal-report"), "{trace}");
    assert_eq!(trace[0]["revisions"][0]["kind"].as_str(), Some("reprocessed"));
    let why = trace[0]["placements"][2]["reasons"][0].as_str().unwrap();
    assert!(why.starts_with("reprocessed on 20"), "{why}");

    let again = reprocess(&account, &site, &["--all", "--apply"]);
    assert_eq!((again["read"].as_u64(), again["receipts"].as_array().map(Vec::len)), (Some(1), Some(0)));
    account.receives(&server, &message);
    holds(&account, &site, ALL);
}

#[test]
fn an_escrow_identity_opens_it_too_and_no_server_is_needed() {
    let (secret, recipient) = identity();
    let site = Site::with(&section(&[&recipient]), USERS);
    let account = Account::create(&site, &["--profile", "generic"]);
    site.write("escrow.key", &secret);
    let mut server = site.serve();
    account.receives(&server, &corpus("demo/report.eml"));
    server.terminate();
    read_as_microsoft365(&site, &account);
    let by_escrow = ["reprocess", &account.login, "--identity", "escrow.key"];
    let shown = site.run(&by_escrow).expect(0).stdout;
    assert!(shown.contains("would be placed in") && shown.contains("--apply does it"), "{shown}");
    let shown = site.run(&[&by_escrow[..], &["--apply"]].concat()).expect(0).stdout;
    assert!(shown.contains(&format!("placed in          {INCOMING}")), "{shown}");
    holds(&account, &site, ALL);
    assert!(site.run(&["reprocess", &account.login]).expect(2).stderr.contains("--password-file"));
    site.write("wrong", "nothing\n");
    let wrong = ["reprocess", &account.login, "--password-file", "wrong"];
    assert!(site.run(&wrong).expect(1).stderr.contains("is not the password"));
}

#[test]
fn what_a_poller_took_does_not_come_back() {
    let site = Site::new();
    let account = Account::create(&site, &["--profile", "generic"]);
    let server = site.serve();
    account.receives(&server, &corpus("demo/report.eml"));
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    pop3s.retrieve(1);
    pop3s.say("DELE 1").unwrap();
    pop3s.quit();
    holds(&account, &site, &[("Unassigned", 1)]);
    read_as_microsoft365(&site, &account);
    reprocess(&account, &site, &["--apply"]);
    holds(&account, &site, &[(OUTGOING, 1), (INCOMING, 1)]);
}

#[test]
fn what_turns_out_to_be_unreadable_moves_to_quarantine() {
    let site = Site::new();
    let account = Account::create(&site, &["--profile", "generic"]);
    let server = site.serve();
    let id = account.receives(&server, &corpus("journal/exchange-online/original-missing.eml"));
    read_as_microsoft365(&site, &account);
    let done = reprocess(&account, &site, &["--apply", "--receipt", &id]);
    let moved = &done["receipts"][0];
    assert_eq!(
        (paths(&moved["placements"]), paths(&moved["left"])),
        (vec!["Quarantine"], vec!["Unassigned"])
    );
    holds(&account, &site, &[("INBOX", 1), ("Quarantine", 1)]);
    let missing = account
        .opened(&site, &["reprocess", &account.login, "--receipt", "019388f0-0000-7000-8000-000000000000"]);
    assert!(missing.expect(1).stderr.contains("019388f0"));
}

#[test]
fn when_one_of_the_named_did_not_come_here_none_is_touched() {
    let site = Site::new();
    let account = Account::create(&site, &["--profile", "generic"]);
    let server = site.serve();
    let id = account.receives(&server, &corpus("demo/report.eml"));
    let elsewhere = Account::create_named(&site, "Other", &[]);
    let foreign = elsewhere.receives(&server, &corpus("demo/fork.eml"));
    read_as_microsoft365(&site, &account);
    let named = ["reprocess", &account.login, "--apply", "--receipt", &id, "--receipt", &foreign];
    assert!(account.opened(&site, &named).expect(1).stderr.contains(&foreign));
    holds(&account, &site, &[("INBOX", 1), ("Unassigned", 1)]);
}

#[test]
fn a_report_in_an_ndr_that_a_bug_kept_from_being_read_is_recovered() {
    let site = Site::new();
    let journal = Account::create(&site, &[]);
    let ndrs = Account::create_named(&site, "NDRs", &["--role", "ndr", "--serves", &journal.login]);
    unread(&site, &ndrs, &[&corpus("demo/ndr.eml")], false);
    holds(&ndrs, &site, &[("INBOX", 1), ("Quarantine", 1)]);
    let planned = reprocess(&ndrs, &site, &[]);
    assert_eq!(planned["receipts"][0]["recovered"]["gateway_mailbox"], journal.address.as_str());
    holds(&journal, &site, &[]);
    let done = reprocess(&ndrs, &site, &["--apply"]);
    assert_eq!(differs(&done, "class"), ("unreadable", "journal-ndr"));
    let recovered = &done["receipts"][0]["recovered"];
    assert_eq!(paths(&recovered["placements"]), ["INBOX", INCOMING], "{recovered}");
    assert_eq!(paths(&done["receipts"][0]["left"]), ["Quarantine"]);
    holds(&ndrs, &site, &[("INBOX", 1)]);
    holds(&journal, &site, &[("INBOX", 1), (INCOMING, 1)]);
    let again = reprocess(&ndrs, &site, &["--all", "--apply"]);
    assert_eq!((again["read"].as_u64(), again["receipts"].as_array().map(Vec::len)), (Some(1), Some(0)));
    let id = done["receipts"][0]["receipt_id"].as_str().unwrap();
    let views = json(site.run(&["trace", id, "--json"]));
    let there = views.as_array().unwrap().iter().find(|view| view["gateway_mailbox"] == journal.id.as_str());
    assert_eq!(there.unwrap()["recovered_from"], ndrs.id.as_str());
}

#[test]
fn what_is_held_back_is_read_anew_and_stays_held_back() {
    let site = Site::new();
    let account = Account::create(&site, &["--profile", "generic"]);
    site.run(&["mailbox", "set", &account.login, "mode=enforce"]).expect(0);
    let server = site.serve();
    let id = account.receives(&server, &corpus("demo/report.eml"));
    read_as_microsoft365(&site, &account);
    let done = reprocess(&account, &site, &["--apply"]);
    assert_eq!(differs(&done, "class"), ("plain", "journal-report"));
    let moved = &done["receipts"][0];
    assert_eq!((paths(&moved["placements"]), paths(&moved["left"])), (vec![], vec![]));
    holds(&account, &site, &[("Quarantine", 1)]);
    site.run(&["quarantine", "release", &id, "--yes"]).expect(0);
    holds(&account, &site, ALL);
}

/// A message on which reading failed when it came: whole, in INBOX and Quarantine.
fn unread(site: &Site, account: &Account, bodies: &[&[u8]], recovered: bool) {
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let (store, _) = Embedded::open(&options).unwrap();
    let to = store.gateway_mailbox(&AddressKey::of(&account.address)).unwrap();
    let at = |n: usize| Timestamp::from_unix_ms(1_800_000_000_000 + i64::try_from(n).unwrap());
    let one = |(n, body): (usize, &&[u8])| {
        let plain = delivery(&store, &to, at(n), [0; 10], body);
        let mut placements = plain.placements.clone();
        let reasons = vec!["the message could not be read".to_owned()];
        placements.push(WantedPlacement {
            folder: FolderName::Quarantine,
            slug: None,
            message: 0,
            once_per_join: false,
            in_view: None,
            reasons,
        });
        let mut defects = vec![("extraction-failed".to_owned(), "it could not be read".to_owned())];
        if recovered {
            defects.push(("delimiter-after-close".to_owned(), "of the NDR".to_owned()));
        }
        let recovered_from = recovered.then_some(to.id);
        Delivery { class: Class::Unreadable, defects, placements, recovered_from, ..plain }
    };
    let deliveries = bodies.iter().enumerate().map(one).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.deliver(deliveries).await.unwrap();
        store.close().await;
    });
}

#[test]
fn a_message_that_a_bug_kept_from_being_read_is_healed() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    unread(&site, &account, &[&corpus("demo/report.eml")], false);
    holds(&account, &site, &[("INBOX", 1), ("Quarantine", 1)]);
    let done = reprocess(&account, &site, &["--apply"]);
    assert_eq!(differs(&done, "class"), ("unreadable", "journal-report"));
    assert_eq!(differs(&done, "defects").0, "extraction-failed");
    holds(&account, &site, ALL);
}

#[test]
fn what_was_cut_out_of_an_ndr_with_doubts_waits_for_an_admin() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    unread(&site, &account, &[&corpus("demo/report.eml")], true);
    let done = reprocess(&account, &site, &["--apply"]);
    assert_eq!(differs(&done, "class"), ("unreadable", "journal-report"));
    holds(&account, &site, &[("INBOX", 1), ("Quarantine", 1)]);
    // Why it waits is still told, and is no difference.
    assert_eq!(differs(&done, "defects").1, "delimiter-after-close");
    assert_eq!(reprocess(&account, &site, &["--apply"])["receipts"], Value::Array(vec![]));
    let id = done["receipts"][0]["receipt_id"].as_str().unwrap().to_owned();
    site.run(&["quarantine", "release", &id, "--yes"]).expect(0);
    holds(&account, &site, ALL);
    // From now on it is known by what was read, and the report itself is the same again.
    let server = site.serve();
    let direct = account.receives(&server, &corpus("demo/report.eml"));
    assert_eq!(json(site.run(&["trace", &direct, "--json"]))[0]["repeats"], id.as_str());
    holds(&account, &site, ALL);
}

#[test]
fn what_an_admin_let_out_does_not_go_back_to_quarantine() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    let id = account.receives(&server, &corpus("demo/hopeless.eml"));
    site.run(&["quarantine", "release", &id, "--yes"]).expect(0);
    holds(&account, &site, &[("INBOX", 1), ("Unassigned", 1)]);
    assert_eq!(reprocess(&account, &site, &["--apply"])["receipts"], Value::Array(vec![]));
    holds(&account, &site, &[("INBOX", 1), ("Unassigned", 1)]);
}

#[test]
fn a_repetition_with_octets_of_its_own_is_read_again_and_placed_nowhere() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    let report = corpus("demo/report.eml");
    let first = account.receives(&server, &report);
    let again = [b"Received: from elsewhere by gw.example\r\n".as_slice(), &report].concat();
    let second = account.receives(&server, &again);
    assert_eq!(json(site.run(&["trace", &second, "--json"]))[0]["repeats"], first.as_str());
    site.run(&["mailbox", "set", &account.login, "profile=generic"]).expect(0);
    let done = reprocess(&account, &site, &["--apply", "--receipt", &second]);
    assert_eq!(differs(&done, "class"), ("journal-report", "plain"));
    holds(&account, &site, ALL);
}

#[test]
fn an_original_in_base64_is_decoded_and_stored_beside_the_message() {
    let site = Site::new();
    let account = Account::create(&site, &["--profile", "generic"]);
    let server = site.serve();
    account.receives(&server, &corpus("journal/exchange-online/s27_inner_base64.eml"));
    read_as_microsoft365(&site, &account);
    let done = reprocess(&account, &site, &["--apply"]);
    assert_eq!(differs(&done, "originals"), ("0", "1"));
    let folders = account.holds(&site);
    assert!(folders.iter().any(|(path, _)| path.starts_with("Users/")), "{folders:?}");
    drop(server);
    let again = reprocess(&account, &site, &["--all"]);
    assert_eq!(again["receipts"].as_array().map(Vec::len), Some(0), "{again}");
}

#[test]
fn a_damaged_message_is_named_and_the_others_are_read() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut long = b"Subject: long\r\n\r\n".to_vec();
    long.extend(b"a line of a long message\r\n".repeat(60_000));
    unread(&site, &account, &[b"Subject: short\r\n\r\nhello\r\n", &corpus("demo/report.eml"), &long], false);
    // The first is whole, and so is the last, which is a file of its own: that one is cut.
    let shards = std::fs::read_dir(site.path("data/content")).unwrap().map(|shard| shard.unwrap().path());
    let mut files = shards.flat_map(|shard| std::fs::read_dir(shard).unwrap().map(|f| f.unwrap().path()));
    let file = files.next().unwrap();
    let octets = std::fs::read(&file).unwrap();
    std::fs::write(&file, &octets[..octets.len() / 2]).unwrap();
    let outcome = account.opened(&site, &["reprocess", &account.login, "--apply", "--json"]).expect(1);
    let done: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(done["read"].as_u64(), Some(2), "{done}");
    assert_eq!(done["damaged"].as_array().map(Vec::len), Some(1));
    assert!(done["damaged"][0]["why"].as_str().unwrap().contains("damaged"), "{done}");
    let folders = account.holds(&site);
    assert!(folders.contains(&("Quarantine".to_owned(), 1)), "{folders:?}");
    assert!(folders.contains(&("Unassigned".to_owned(), 1)), "{folders:?}");
}
