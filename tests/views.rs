//! What clients find in INBOX: messages as received, or the originals in them; and what waits there when that is changed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/imap.rs"]
mod imap;
#[path = "support/opened.rs"]
mod opened;
#[path = "support/daybook.rs"]
mod support;

use daybook::mail::{AddressKey, FetchRules, Maildrop, Timestamp};
use daybook::observe::now;
use daybook::store::*;
use imap::Imap;
use opened::{Account, json};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{HOST, Server, Site, corpus, wait_until};

/// Reports whose originals are 1; and 3, of which the first is protected; and 2, of which the second is.
const REPORTS: [&str; 3] =
    ["demo/report", "journal/exchange-online/three-copies", "journal/exchange-online/protected-copy-second"];
const PLAIN: &[u8] = b"From: a@contoso.example\r\nSubject: no report\r\n\r\nplain\r\n";

/// What a poller finds: UIDL and octets of each message.
type Found = Vec<(String, Vec<u8>)>;

fn found(server: &Server<'_>, account: &Account) -> Found {
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    let ids = poller.uidls();
    let found = ids.into_iter().enumerate().map(|(n, id)| (id, poller.retrieve(n + 1))).collect();
    poller.quit();
    found
}

fn octets(found: &Found) -> Vec<Vec<u8>> {
    found.iter().map(|(_, octets)| octets.clone()).collect()
}

fn uidls(found: &Found) -> BTreeSet<String> {
    found.iter().map(|(id, _)| id.clone()).collect()
}

fn report(name: &str) -> Vec<u8> {
    corpus(&format!("{name}.eml"))
}

/// Length and hash of the originals of a report of the corpus, those in clear first.
fn originals(name: &str) -> Vec<(u64, String)> {
    let expect: Value = serde_json::from_slice(&corpus(&format!("{name}.expect.json"))).unwrap();
    let mut all: Vec<Value> = expect["reports"][0]["originals"].as_array().unwrap().clone();
    all.sort_by_key(|original| original["rendition"] == "protected");
    let of = |v: &Value| (v["bytes"].as_u64().unwrap(), v["sha256"].as_str().unwrap().to_owned());
    all.iter().map(of).collect()
}

/// The same of messages a poller fetched, without the line end that POP3 must add to a last line that lacks one.
fn are_originals(fetched: &[Vec<u8>], expect: &[(u64, String)]) {
    assert_eq!(fetched.len(), expect.len());
    for (octets, (length, sha256)) in fetched.iter().zip(expect) {
        let length = usize::try_from(*length).unwrap();
        assert!([length, length + 2].contains(&octets.len()), "{} and not {length}", octets.len());
        assert_eq!(Digest::of(&octets[..length]).to_string(), *sha256);
    }
}

fn set(site: &Site, account: &Account, setting: &str) -> Value {
    json(site.run(&["mailbox", "set", &account.login, setting, "--json"]))
}

fn show(site: &Site, account: &Account) -> Value {
    json(site.run(&["mailbox", "show", &account.login, "--json"]))
}

fn uid_validity(shown: &Value) -> u64 {
    let folders = shown["folders"].as_array().unwrap();
    folders.iter().find(|folder| folder["path"] == "INBOX").unwrap()["uid_validity"].as_u64().unwrap()
}

/// Waits until nothing in INBOX is shown as before.
fn wait_until_shown(site: &Site, account: &Account) {
    wait_until("all is shown anew", || show(site, account)["fetching"]["former_view"] == 0);
}

#[test]
fn each_original_is_an_entry_of_its_own_and_what_holds_none_comes_as_received() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    assert_eq!(set(&site, &account, "maildrop=originals")["maildrop"], "originals");
    let server = site.serve();
    let mut expect = Vec::new();
    for name in REPORTS {
        account.receives(&server, &report(name));
        expect.extend(originals(name));
    }
    let of_reports = found(&server, &account);
    are_originals(&octets(&of_reports), &expect);
    // A fork shows an original that is there already: it is another copy for whoever fetches, and has another UIDL.
    account.receives(&server, &report("demo/fork"));
    account.receives(&server, PLAIN);
    let hopeless = corpus("demo/hopeless.eml");
    account.receives(&server, &hopeless);
    let all = found(&server, &account);
    let fork: Vec<(u64, String)> = originals("demo/fork");
    are_originals(&octets(&all)[..expect.len() + 1], &[expect.clone(), fork].concat());
    assert_eq!(
        all[expect.len() + 1..].iter().map(|(_, o)| o.clone()).collect::<Vec<_>>(),
        [PLAIN, &hopeless]
    );
    assert_eq!(uidls(&all).len(), all.len());
    // The same again adds nothing.
    account.receives(&server, &report(REPORTS[0]));
    assert_eq!(found(&server, &account), all);
    let shown = show(&site, &account);
    assert_eq!(shown["inbox"]["entries"], all.len());
    assert_eq!(shown["fetching"]["unfetched"], 0, "{shown}");
}

#[test]
fn without_an_archive_there_are_the_originals_alone() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    site.run(&["mailbox", "set", &account.login, "maildrop=originals", "archive=false"]).expect(0);
    let server = site.serve();
    account.receives(&server, &report(REPORTS[1]));
    are_originals(&octets(&found(&server, &account)), &originals(REPORTS[1]));
    assert_eq!(account.holds(&site), [("INBOX".to_owned(), 3)]);
}

#[test]
fn what_waits_is_shown_in_the_new_way_under_ids_that_never_were() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    let ids: Vec<String> = REPORTS.iter().map(|name| account.receives(&server, &report(name))).collect();
    account.receives(&server, PLAIN);
    let as_received = found(&server, &account);
    assert_eq!(octets(&as_received)[3], PLAIN);
    // The first is taken: it does not come back in any form.
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    poller.say("DELE 1").unwrap();
    poller.quit();

    let mut seen = uidls(&as_received);
    let mut validities = vec![uid_validity(&show(&site, &account))];
    let mut expect = originals(REPORTS[1]);
    expect.extend(originals(REPORTS[2]));
    for turn in 0..2 {
        set(&site, &account, "maildrop=originals");
        wait_until_shown(&site, &account);
        assert_eq!(show(&site, &account)["fetching"]["unfetched"], 6, "turn {turn}");
        let shown = found(&server, &account);
        are_originals(&octets(&shown)[..5], &expect);
        assert_eq!(octets(&shown)[5], PLAIN);
        assert!(uidls(&shown).is_disjoint(&seen));
        seen.extend(uidls(&shown));
        validities.push(uid_validity(&show(&site, &account)));

        set(&site, &account, "maildrop=reports");
        wait_until_shown(&site, &account);
        let shown = found(&server, &account);
        assert_eq!(octets(&shown), octets(&as_received)[1..]);
        assert!(uidls(&shown).is_disjoint(&seen));
        seen.extend(uidls(&shown));
        validities.push(uid_validity(&show(&site, &account)));
    }
    assert!(validities.windows(2).all(|pair| pair[0] < pair[1]), "{validities:?}");

    let told = json(site.run(&["explain", &ids[1], "--json"]));
    let kinds: Vec<&str> =
        told[0]["revisions"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["viewed"; 4], "{told}");
    let trail = site.run(&["explain", &ids[1]]).expect(0).stdout;
    assert!(trail.contains("original 1 of 3"), "{trail}");
    assert_eq!(json(site.run(&["verify", "--json"]))["damaged"], 0);
}

#[test]
fn what_a_client_took_of_a_message_stays_taken_while_the_rest_is_shown_whole_and_apart() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    set(&site, &account, "maildrop=originals");
    let server = site.serve();
    account.receives(&server, &report(REPORTS[1]));
    let all = octets(&found(&server, &account));
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    poller.say("DELE 2").unwrap();
    poller.quit();
    set(&site, &account, "maildrop=reports");
    wait_until_shown(&site, &account);
    assert_eq!(octets(&found(&server, &account)), [report(REPORTS[1])], "of the rest nothing is lost");
    set(&site, &account, "maildrop=originals");
    wait_until_shown(&site, &account);
    assert_eq!(octets(&found(&server, &account)), [all[0].clone(), all[2].clone()]);
    // Brought back, it is there again, and with it nothing else is lost.
    site.run(&["undelete", &account.login, "--since", "1h"]).expect(0);
    assert_eq!(found(&server, &account).len(), 3);
    set(&site, &account, "maildrop=reports");
    wait_until_shown(&site, &account);
    assert_eq!(octets(&found(&server, &account)), [report(REPORTS[1])]);
}

#[test]
fn a_session_that_has_the_maildrop_open_deletes_nothing_that_came_in_place_of_what_it_knows() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    for name in REPORTS {
        account.receives(&server, &report(name));
    }
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    let known = poller.retrieve(1);
    for n in 1..=3 {
        poller.say(&format!("DELE {n}")).unwrap();
    }
    set(&site, &account, "maildrop=originals");
    wait_until_shown(&site, &account);
    poller.quit();
    assert_eq!(known, report(REPORTS[0]));
    let expect: Vec<_> = REPORTS.iter().flat_map(|name| originals(name)).collect();
    are_originals(&octets(&found(&server, &account)), &expect);
}

/// A change and no more: as a crash leaves it right behind.
fn change_alone(store: &Embedded, account: &Account, maildrop: Maildrop) {
    let mailbox = store.gateway_mailbox(&AddressKey::of(&account.address)).unwrap();
    let becomes = FetchRules { maildrop, ..mailbox.fetch };
    let change = GatewayMailboxChange::Fetch { was: mailbox.fetch, becomes };
    runtime().block_on(store.change_gateway_mailbox(mailbox.id, vec![change], "test")).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn open(site: &Site) -> Embedded {
    Embedded::open(&Options { data_dir: site.path("data"), reserve_octets: 0 }).unwrap().0
}

#[test]
fn a_start_after_a_crash_goes_on_with_what_is_left() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    let names: Vec<&str> = REPORTS.iter().chain(&["demo/fork", "demo/ndr"]).copied().collect();
    for name in &names {
        account.receives(&server, &report(name));
    }
    let before = uidls(&found(&server, &account));
    server.kill();

    let store = open(&site);
    change_alone(&store, &account, Maildrop::Originals);
    let mailbox = store.gateway_mailbox(&AddressKey::of(&account.address)).unwrap();
    let walk = Walk {
        gateway_mailbox: mailbox.id,
        since: Timestamp::from_unix_ms(0),
        after: None,
        folder: Some(FolderName::Inbox),
        most: 2,
    };
    let receipts = store.walk(&walk).unwrap().receipts;
    let first: Vec<_> =
        receipts.iter().filter_map(|r| daybook::pipeline::viewed(r, &mailbox, now())).collect();
    assert_eq!((receipts.len(), first.len()), (2, 2));
    let done = runtime().block_on(store.revise(first, "test")).unwrap();
    assert!(done.iter().all(|revised| revised.left.len() == 1));
    let backlog = store.backlog(mailbox.id).unwrap();
    assert_eq!((backlog.waiting, backlog.former_view), (1 + 3 + 3, 3));
    drop(store);

    let server = site.serve();
    server.wait_for("mailbox.view_shown");
    wait_until_shown(&site, &account);
    let expect: Vec<_> = names.iter().flat_map(|name| originals(name)).collect();
    let after = found(&server, &account);
    are_originals(&octets(&after), &expect);
    assert!(uidls(&after).is_disjoint(&before));
}

#[test]
fn a_command_that_is_killed_while_it_changes_loses_nothing_and_shows_nothing_twice() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let count = 400_u32;
    {
        let store = open(&site);
        let mailbox = store.gateway_mailbox(&AddressKey::of(&account.address)).unwrap();
        let one = |n: u32| {
            let body = format!("Subject: {n}\r\n\r\n{n}\r\n");
            let mut random = [0; 10];
            random[..4].copy_from_slice(&n.to_be_bytes());
            delivery::delivery(&store, &mailbox, now(), random, body.as_bytes())
        };
        runtime().block_on(async {
            store.deliver((0..count).map(one).collect()).await.unwrap();
            store.close().await;
        });
    }
    let mut maildrop = ["originals", "reports"].into_iter().cycle();
    for pause in [0, 20, 60, 120] {
        let setting = format!("maildrop={}", maildrop.next().unwrap());
        let mut command = site.command(&["mailbox", "set", &account.login, &setting]).spawn().unwrap();
        std::thread::park_timeout(std::time::Duration::from_millis(pause));
        command.kill().unwrap();
        command.wait().unwrap();
    }
    // Without a server the next command does all of it.
    set(&site, &account, "maildrop=reports");
    set(&site, &account, "maildrop=originals");
    assert_eq!(show(&site, &account)["fetching"]["former_view"], 0);
    let server = site.serve();
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    assert_eq!(poller.count(), count as usize);
    let bodies: BTreeSet<Vec<u8>> = (1..=count as usize).map(|n| poller.retrieve(n)).collect();
    assert_eq!(bodies.len(), count as usize);
}

#[test]
fn what_is_prepared_while_it_changes_is_shown_as_it_is_when_it_is_stored() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let store = open(&site);
    let mailbox = store.gateway_mailbox(&AddressKey::of(&account.address)).unwrap();
    let prepared = |n: u8| {
        let body = format!("Subject: report {n}\r\n\r\nSubject: original\r\n\r\n{n}\r\n");
        let mut sent = delivery::delivery(&store, &mailbox, now(), [n; 10], body.as_bytes());
        let original = DeliveredMessage {
            octets: 5,
            exact: Digest([n; 32]),
            join: Digest([n; 32]),
            ..sent.messages[0].clone()
        };
        sent.messages.push(original);
        let whole = WantedPlacement { in_view: Some(Maildrop::Reports), ..sent.placements[0].clone() };
        let apart = WantedPlacement { in_view: Some(Maildrop::Originals), message: 1, ..whole.clone() };
        sent.placements = vec![apart, whole];
        sent
    };
    let lengths = || -> Vec<u64> {
        store.list(mailbox.id, &FolderName::Inbox).unwrap().entries.iter().map(|entry| entry.octets).collect()
    };
    let (first, second) = (prepared(1), prepared(2));
    let whole = first.octets;
    runtime().block_on(store.deliver(vec![first])).unwrap();
    assert_eq!(lengths(), [whole]);
    change_alone(&store, &account, Maildrop::Originals);
    runtime().block_on(store.deliver(vec![second])).unwrap();
    assert_eq!(lengths(), [whole, 5]);
    assert_eq!(store.backlog(mailbox.id).unwrap().former_view, 1);
}

#[test]
fn an_ndr_mailbox_and_one_that_unwraps_nothing_show_mail_whole_and_say_so() {
    let site = Site::new();
    let journal = Account::create(&site, &[]);
    let ndr = Account::create_named(&site, "NDRs", &["--role", "ndr", "--serves", &journal.login]);
    let generic = Account::create_named(&site, "Copies", &["--profile", "generic"]);
    for account in [&ndr, &generic] {
        let notes = set(&site, account, "maildrop=originals")["notes"].to_string();
        assert!(notes.contains("changes nothing here"), "{notes}");
        let page = site.run(&["mailbox", "show", &account.login]).expect(0).stdout;
        assert!(page.contains("a poller finds each message as received"), "{page}");
    }
    set(&site, &journal, "maildrop=originals");
    let server = site.serve();
    ndr.receives(&server, &report("demo/ndr"));
    generic.receives(&server, &report(REPORTS[0]));
    assert_eq!(octets(&found(&server, &ndr)), [report("demo/ndr")]);
    assert_eq!(octets(&found(&server, &generic)), [report(REPORTS[0])]);
    // What was recovered from the NDR is shown as what came there directly.
    are_originals(&octets(&found(&server, &journal)), &originals("demo/ndr"));
    for account in [&ndr, &generic] {
        set(&site, account, "maildrop=reports");
        wait_until_shown(&site, account);
        assert_eq!(found(&server, account).len(), 1);
    }
}

#[test]
fn what_is_released_and_what_is_read_with_doubts_is_shown_by_the_same_rule() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    site.run(&["mailbox", "set", &account.login, "maildrop=originals", "mode=enforce"]).expect(0);
    let server = site.serve();
    let held_back = account.receives(&server, &report(REPORTS[1]));
    assert!(found(&server, &account).is_empty());
    site.run(&["quarantine", "release", &held_back, "--yes"]).expect(0);
    are_originals(&octets(&found(&server, &account)), &originals(REPORTS[1]));
    set(&site, &account, "mode=observe");
    let hopeless = corpus("demo/hopeless.eml");
    account.receives(&server, &hopeless);
    for maildrop in ["reports", "originals"] {
        set(&site, &account, &format!("maildrop={maildrop}"));
        wait_until_shown(&site, &account);
    }
    let all = octets(&found(&server, &account));
    are_originals(&all[..3], &originals(REPORTS[1]));
    assert_eq!(all[3..], [hopeless]);
}

#[test]
fn what_lacks_a_close_delimiter_is_shown_alike_when_it_comes_is_let_out_and_comes_again() {
    // An NDR that ends behind the report it returns: the report is all there, so it is assigned.
    let whole = corpus("journal-ndr/cut-behind-the-report.eml");
    let site = Site::new();
    let accounts: Vec<(Account, &str)> =
        [("true", "observe"), ("false", "observe"), ("true", "enforce"), ("false", "enforce")]
            .into_iter()
            .map(|(archive, mode)| {
                let account = Account::create(&site, &[]);
                let (archive, mode_is) = (format!("archive={archive}"), format!("mode={mode}"));
                let set = ["mailbox", "set", &account.login, "maildrop=originals", &archive, &mode_is];
                site.run(&set).expect(0);
                (account, mode)
            })
            .collect();
    let server = site.serve();
    for (account, mode) in &accounts {
        let id = account.receives(&server, &whole);
        if *mode == "enforce" {
            site.run(&["quarantine", "release", &id, "--yes"]).expect(0);
        }
        let came = octets(&found(&server, account));
        assert_eq!(came.len(), 1);
        assert!(came[0].starts_with(&whole), "it is shown whole");
        for maildrop in ["reports", "originals"] {
            set(&site, account, &format!("maildrop={maildrop}"));
            wait_until_shown(&site, account);
            assert_eq!(octets(&found(&server, account)), came, "{maildrop}");
        }
    }
}

#[test]
fn what_was_deleted_before_the_change_comes_back_as_it_was_shown_and_undelete_says_so() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    account.receives(&server, &report(REPORTS[0]));
    let delete = || {
        let mut poller = server.pop3s(&account.login, &account.password).unwrap();
        poller.say("DELE 1").unwrap();
        poller.quit();
    };
    delete();
    let undelete = || json(site.run(&["undelete", &account.login, "--json"]));
    assert_eq!(undelete()["shown_as_before"], 0);
    delete();
    set(&site, &account, "maildrop=originals");
    let back = undelete();
    assert_eq!((&back["entries"], &back["shown_as_before"]), (&json!(1), &json!(1)), "{back}");
    let there = octets(&found(&server, &account));
    assert!(there.len() == 1 && there[0].starts_with(&report(REPORTS[0])), "a report, as it was");
}

#[test]
fn the_index_a_backup_and_a_check_of_the_log_know_of_the_change() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let mut server = site.serve();
    for name in REPORTS {
        account.receives(&server, &report(name));
    }
    set(&site, &account, "maildrop=originals");
    wait_until_shown(&site, &account);
    set(&site, &account, "user_delete=true");
    let shown = found(&server, &account);
    let validity = uid_validity(&show(&site, &account));
    site.run(&["verify", "--deep"]).expect(0);
    site.run(&["check", "--rebuild"]).expect(0);
    assert_eq!(found(&server, &account), shown);
    assert_eq!(server.terminate(), 0);
    std::fs::remove_file(site.path("data/index.sqlite")).unwrap();
    let mut server = site.serve();
    assert_eq!((found(&server, &account), uid_validity(&show(&site, &account))), (shown.clone(), validity));
    site.run(&["verify", "--deep"]).expect(0);

    let dir = site.path("backup");
    site.run(&["backup", dir.to_str().unwrap()]).expect(0);
    let elsewhere = Site::new();
    elsewhere.run(&["restore", dir.to_str().unwrap()]).expect(0);
    assert_eq!(server.terminate(), 0);
    let restored = elsewhere.serve();
    assert_eq!(octets(&found(&restored, &account)), octets(&shown));
    set(&elsewhere, &account, "maildrop=reports");
    wait_until_shown(&elsewhere, &account);
    assert!(uidls(&found(&restored, &account)).is_disjoint(&uidls(&shown)));
    elsewhere.run(&["verify", "--deep"]).expect(0);
}

#[test]
fn what_clients_may_do_is_set_and_shown() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let shown = show(&site, &account);
    assert_eq!((&shown["maildrop"], &shown["user_delete"]), (&json!("reports"), &json!(false)));
    for (wrong, said) in [
        ("maildrop=both", "maildrop is reports or originals, not both"),
        ("user_delete=yes", "user_delete is true or false, not yes"),
    ] {
        let outcome = site.run(&["mailbox", "set", &account.login, wrong]).expect(2);
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    let page = site.run(&["mailbox", "show", &account.login]).expect(0).stdout;
    assert!(page.contains("reports: a poller finds each message as received"), "{page}");
    assert!(page.contains("clients may delete in INBOX alone"), "{page}");
    site.run(&["mailbox", "set", &account.login, "user_delete=true", "maildrop=originals"]).expect(0);
    let page = site.run(&["mailbox", "show", &account.login]).expect(0).stdout;
    assert!(page.contains("without the report around it"), "{page}");
    assert!(page.contains("clients may delete in every folder"), "{page}");
    let listed = json(site.run(&["mailbox", "list", "--json"]));
    assert_eq!((&listed[0]["maildrop"], &listed[0]["user_delete"]), (&json!("originals"), &json!(true)));
}

#[test]
fn what_nobody_has_fetched_is_told_from_what_only_waits() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    let fetching = || show(&site, &account)["fetching"].clone();
    let nothing = json!({"unfetched": 0, "oldest_unfetched": null, "last": null, "former_view": 0, "kept_as_before": 0});
    assert_eq!(fetching(), nothing);
    account.receives(&server, PLAIN);
    account.receives(&server, &report(REPORTS[0]));
    let before = fetching();
    assert_eq!((&before["unfetched"], &before["last"]), (&json!(2), &Value::Null));
    let mut poller = server.pop3s(&account.login, &account.password).unwrap();
    poller.retrieve(1);
    poller.quit();
    let after = fetching();
    assert_eq!(after["unfetched"], 1, "{after}");
    assert!(after["oldest_unfetched"].as_str() > before["oldest_unfetched"].as_str(), "{after}");
    assert!(after["last"].is_string());
    found(&server, &account);
    let page = site.run(&["mailbox", "show", &account.login]).expect(0).stdout;
    assert!(page.contains("nothing waits that was not fetched"), "{page}");
    assert_eq!(show(&site, &account)["inbox"]["entries"], 2, "it waits all the same");
}

fn imap(site: &Site, server: &Server<'_>, account: &Account) -> Imap {
    let credentials = (account.login.as_str(), account.password.as_str());
    Imap::login(server.port("imaps"), site.client_config(), HOST, credentials).unwrap()
}

#[test]
fn a_client_that_has_inbox_open_is_told_to_look_at_it_afresh() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    account.receives(&server, &report(REPORTS[1]));
    let (mut selecting, mut idling) = (imap(&site, &server, &account), imap(&site, &server, &account));
    let selected = selecting.say("SELECT INBOX").ok();
    let known = uid_validity(&show(&site, &account));
    assert!(
        selected.texts().iter().any(|text| text.contains(&format!("[UIDVALIDITY {known}]"))),
        "{selected:?}"
    );
    idling.say("SELECT INBOX").ok();
    idling.begin("IDLE").unwrap();
    assert!(idling.next().text.starts_with('+'));
    set(&site, &account, "maildrop=originals");
    wait_until_shown(&site, &account);
    assert!(idling.next().text.starts_with("* BYE "), "whoever waits for mail hears it at once");
    let tag = selecting.begin("UID STORE 1 +FLAGS (\\Deleted)").unwrap();
    let ended = loop {
        let response = selecting.next();
        if response.text.starts_with("* BYE ") || response.text.starts_with(&tag) {
            break response.text;
        }
    };
    assert!(ended.starts_with("* BYE ") || ended.contains(" NO "), "{ended}");

    let mut afresh = imap(&site, &server, &account);
    let selected = afresh.say("SELECT INBOX").ok();
    let now_is = uid_validity(&show(&site, &account));
    assert!(now_is > known);
    assert!(
        selected.texts().iter().any(|text| text.contains(&format!("[UIDVALIDITY {now_is}]"))),
        "{selected:?}"
    );
    let fetched = afresh.say("FETCH 1:* (BODY.PEEK[])").ok().literals();
    are_originals(&fetched, &originals(REPORTS[1]));
    let told = afresh.say("ID NIL").ok();
    assert!(told.texts().iter().any(|text| text.contains(r#""maildrop" "originals""#)), "{told:?}");
    afresh.logout();
    assert_eq!(show(&site, &account)["fetching"]["unfetched"], 0, "what IMAP fetches is on record too");
}

#[test]
fn who_may_delete_outside_inbox_is_asked_whenever_a_folder_is_opened() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let server = site.serve();
    account.receives(&server, &report(REPORTS[0]));
    let mut client = imap(&site, &server, &account);
    let mut may_delete = |folder: &str| {
        let selected = client.say(&format!("SELECT \"{folder}\"")).ok();
        let flags =
            selected.texts().into_iter().find(|text| text.contains("PERMANENTFLAGS")).unwrap().to_owned();
        flags.contains("\\Deleted")
    };
    let archive = "Users/bob@contoso.example/Journal Incoming";
    assert_eq!([may_delete("INBOX"), may_delete(archive)], [true, false]);
    set(&site, &account, "user_delete=true");
    assert_eq!([may_delete("INBOX"), may_delete(archive)], [true, true]);
    set(&site, &account, "user_delete=false");
    assert_eq!([may_delete("INBOX"), may_delete(archive)], [true, false]);
}
