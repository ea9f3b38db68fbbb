//! NDR mailboxes of the built program: what NDRs return goes to the gateway mailbox served, as if it had come there, once;
//! what they do not return is listed until it turns up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

#[path = "ndr_mailbox/gaps.rs"]
mod gaps;

use base64::Engine;
use daybook::mail::UserFolder;
use daybook::store::{Digest, Embedded, FolderName, Options, Store, Unlocked};
use serde_json::Value;
use std::io::Read;
use support::{Server, Site, Smtp, corpus};

const DELIMITER: &str = "--eff0ee02-0022-2502-2022-ffef0002202f";
const REPORT_ID: &str = "<5d6f2c1e-0003-4a1e-9c39-0d5f7a1c0003@journal.report.generator>";

/// The NDR of the demonstration, which returns a report for carol and bob.
fn ndr() -> String {
    String::from_utf8(corpus("demo/ndr.eml")).unwrap()
}

/// The NDR up to the part that returns the report, and the report.
fn cut(ndr: &str) -> (String, String) {
    let (before, rest) = ndr.split_once("Content-Type: message/rfc822\r\n\r\n").unwrap();
    let (report, _) = rest.split_once(&format!("\r\n{DELIMITER}")).unwrap();
    (before.to_owned(), report.to_owned())
}

/// An NDR with its own Message-ID that returns `part`, head and body.
fn ndr_with(n: usize, part: &str) -> String {
    let before = cut(&ndr()).0.replace("<0fff00ef-2022@", &format!("<n-{n}@"));
    format!("{before}{part}\r\n{DELIMITER}--\r\n")
}

/// An NDR that returns a message whole.
fn ndr_of(n: usize, message: &str) -> String {
    ndr_with(n, &format!("Content-Type: message/rfc822\r\n\r\n{message}"))
}

/// An NDR that returns nothing of a message but its header.
fn ndr_of_header(n: usize, message: &str) -> String {
    let header = message.split_once("\r\n\r\n").unwrap().0;
    ndr_with(n, &format!("Content-Type: text/rfc822-headers\r\n\r\n{header}\r\n"))
}

fn report() -> String {
    cut(&ndr()).1
}

/// What is documented by a report: what stands in its last part.
fn original(report: &str) -> String {
    let (_, original) = report.rsplit_once("Content-Type: message/rfc822\r\n\r\n").unwrap();
    original.split_once("\r\n--_").unwrap().0.to_owned()
}

/// As it is sent directly.
fn sent(message: &str) -> String {
    format!("{message}\r\n")
}

#[derive(Clone)]
struct Account {
    id: String,
    address: String,
    login: String,
    password: String,
}

fn json(site: &Site, arguments: &[&str], code: i32) -> Value {
    let outcome = site.run(&[arguments, &["--json"]].concat()).expect(code);
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn create(site: &Site, arguments: &[&str]) -> Account {
    let made = json(site, &[&["mailbox", "create", "--name"], arguments].concat(), 0);
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    Account { id: text("id"), address: text("address"), login: text("login"), password: text("password") }
}

/// A site with a journal mailbox and its NDR mailbox.
fn site() -> (Site, Account, Account) {
    let site = Site::with("", &String::from_utf8(corpus("demo/users.toml")).unwrap());
    let journal = create(&site, &["Contoso"]);
    let ndrs = create(&site, &["Contoso NDRs", "--role", "ndr", "--serves", &journal.login]);
    (site, journal, ndrs)
}

/// Sends a message; gives its receipt id.
fn send(server: &Server<'_>, to: &Account, message: &str) -> String {
    receipt_of(&server.send(&to.address, message.as_bytes()))
}

fn receipt_of(reply: &str) -> String {
    reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// What a receipt says for one gateway mailbox, if anything.
fn view(site: &Site, receipt: &str, at: &Account) -> Option<Value> {
    let views = json(site, &["trace", receipt], 0);
    views.as_array().unwrap().iter().find(|view| view["gateway_mailbox"] == at.id.as_str()).cloned()
}

/// The folders a receipt made an entry in, sorted.
fn folders(view: &Value) -> Vec<String> {
    let made = view["placements"].as_array().unwrap().iter().filter(|p| p["spared"] == false);
    let mut folders: Vec<String> = made.map(|p| p["folder"].as_str().unwrap().to_owned()).collect();
    folders.sort();
    folders
}

const RECOVERED: [&str; 3] =
    ["INBOX", "Users/bob@contoso.example/Journal Incoming", "Users/carol@contoso.example/Journal Incoming"];

/// The store of a site that nobody has open, and a gateway mailbox in it.
fn open(site: &Site, account: &Account) -> (Embedded, Unlocked) {
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let (store, _) = Embedded::open(&options).unwrap();
    let key = store.unlock(&account.login, &account.password).unwrap();
    (store, key)
}

fn read(store: &Embedded, key: &Unlocked, folder: &FolderName) -> Vec<String> {
    let listing = store.list(key.gateway_mailbox.id, folder).unwrap();
    let read = |entry: &daybook::store::Entry| {
        let mut octets = Vec::new();
        store.open(key, entry.message).unwrap().read_to_end(&mut octets).unwrap();
        String::from_utf8(octets).unwrap()
    };
    listing.entries.iter().map(read).collect()
}

#[test]
fn a_report_that_an_ndr_returns_is_in_the_mailbox_served_octet_for_octet_and_the_ndr_stays_whole() {
    let (site, journal, ndrs) = site();
    let mut server = site.serve();
    let receipt = send(&server, &ndrs, &ndr());
    let (here, there) = (view(&site, &receipt, &ndrs).unwrap(), view(&site, &receipt, &journal).unwrap());
    assert_eq!((folders(&here), here["class"].as_str()), (vec!["INBOX".to_owned()], Some("journal-ndr")));
    assert_eq!(
        (folders(&there), there["class"].as_str()),
        (RECOVERED.map(str::to_owned).to_vec(), Some("journal-report"))
    );
    assert_eq!(here["recovered_from"], Value::Null);
    assert_eq!(there["recovered_from"], ndrs.id.as_str());
    assert_eq!(here["sha256"], Digest::of(ndr().as_bytes()).to_string());
    assert_eq!(there["sha256"], Digest::of(report().as_bytes()).to_string());
    let traced = site.run(&["trace", REPORT_ID]).expect(0).stdout;
    assert!(traced.contains("came by     an NDR to the NDR mailbox"), "{traced}");
    let wanted = "\"event\":\"journal.recovered\"";
    let log = server.log_with(wanted, 1);
    let line = log.lines().find(|line| line.contains(wanted)).unwrap();
    for part in [&receipt, &journal.login, &ndrs.login, "\"result\":\"recovered\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(server.terminate(), 0);
    let (store, key) = open(&site, &journal);
    assert_eq!(read(&store, &key, &FolderName::Inbox), [report()]);
    let carol = FolderName::User { user: "carol".to_owned(), folder: UserFolder::Incoming };
    assert_eq!(read(&store, &key, &carol), [original(&report())]);
    drop(store);
    let (store, key) = open(&site, &ndrs);
    assert_eq!(read(&store, &key, &FolderName::Inbox), [ndr()]);
}

#[test]
fn whichever_comes_second_of_a_report_and_its_ndr_is_a_repetition() {
    for ndr_first in [false, true] {
        let (site, journal, ndrs) = site();
        let server = site.serve();
        let by_ndr = || send(&server, &ndrs, &ndr());
        let direct = || send(&server, &journal, &sent(&report()));
        let (first, second) = if ndr_first {
            (by_ndr(), direct())
        } else {
            let first = direct();
            (first, by_ndr())
        };
        let there = view(&site, &second, &journal).unwrap();
        assert_eq!(
            (there["repeats"].as_str(), folders(&there)),
            (Some(first.as_str()), vec![]),
            "NDR first: {ndr_first}"
        );
        // Another NDR about it, as after a delay, returns nothing new either.
        let third = view(&site, &send(&server, &ndrs, &ndr_of(3, &report())), &journal).unwrap();
        assert_eq!(third["repeats"], first.as_str());
        let found = json(&site, &["gaps"], 0);
        let numbers = (&found["recovered"], &found["already_held"], &found["missing"]);
        let expect = if ndr_first { (1, 1, 0) } else { (0, 2, 0) };
        assert_eq!(numbers, (&expect.0.into(), &expect.1.into(), &expect.2.into()));
    }
}

#[test]
fn wrapped_in_another_ndr_or_in_base64_it_is_the_same_report() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    let (head, _) = cut(&ndr());
    let outer =
        head.replace("eff0ee02-0022-2502-2022-ffef0002202f", "outer").replace("<0fff00ef-2022@", "<outer@");
    let twice = format!("{outer}Content-Type: message/rfc822\r\n\r\n{}\r\n--outer--\r\n", ndr());
    let first = send(&server, &ndrs, &twice);
    let there = view(&site, &first, &journal).unwrap();
    assert_eq!(folders(&there), RECOVERED);
    let encoded = base64::engine::general_purpose::STANDARD.encode(sent(&report()));
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let part = format!(
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        lines.join("\r\n")
    );
    let second = view(&site, &send(&server, &ndrs, &ndr_with(2, &part)), &journal).unwrap();
    assert_eq!(second["repeats"], first.as_str());
    assert_eq!(second["sha256"], Digest::of(sent(&report()).as_bytes()).to_string(), "decoded");
}

#[test]
fn what_returns_no_report_is_seen_in_the_ndr_mailbox_and_nowhere_else() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    let ordinary = ndr_of(1, "From: a@contoso.example\r\nSubject: hello\r\n\r\nhello\r\n");
    for (message, beside) in [
        (ordinary, "Unassigned"),
        ("From: a@contoso.example\r\nSubject: test\r\n\r\nIs anybody there?\r\n".to_owned(), "Unassigned"),
        (ndr_of_header(2, &report()), "Quarantine"),
    ] {
        let receipt = send(&server, &ndrs, &message);
        assert_eq!(folders(&view(&site, &receipt, &ndrs).unwrap()), ["INBOX", beside]);
        assert_eq!(view(&site, &receipt, &journal), None);
    }
}

#[test]
fn a_report_of_which_only_the_header_came_back_is_missing_and_alarmed_until_it_turns_up() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    assert_eq!(json(&site, &["gaps"], 0)["gaps"], Value::Array(vec![]));
    let lost = send(&server, &ndrs, &ndr_of_header(1, &report()));
    // A second NDR about the same report is not a second report.
    send(&server, &ndrs, &ndr_of_header(2, &report()));
    let found = json(&site, &["gaps"], 1);
    let [gap] = found["gaps"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!(gap["receipt_id"], lost.as_str());
    assert_eq!((gap["state"].as_str(), gap["name"].as_str()), (Some("missing"), Some("Contoso")));
    assert_eq!(gap["report_message_id"], REPORT_ID);
    assert_eq!(gap["original_message_id"], "<offer-7@fabrikam.example>");
    assert!(site.run(&["gaps"]).expect(1).stdout.contains(REPORT_ID));
    for (which, code) in [(&ndrs, 1), (&journal, 1)] {
        json(&site, &["gaps", "--mailbox", &which.login], code);
    }
    json(&site, &["gaps", "--since", "0s"], 0);
    assert!(alarms(&site, 1).contains(&("report-missing".to_owned(), "critical".to_owned())));

    // Another report of the same mail: the mail is here, but for whom else it was is not known.
    let fork = report().replace("0003-4a1e-9c39-0d5f7a1c0003", "0004-4a1e-9c39-0d5f7a1c0004");
    send(&server, &journal, &sent(&fork.replace("Recipient: carol@contoso.example\r\n", "")));
    let held = json(&site, &["gaps"], 0);
    assert_eq!(held["gaps"][0]["state"], "original-held");

    let whole = send(&server, &ndrs, &ndr());
    assert_eq!(json(&site, &["gaps"], 0)["gaps"], Value::Array(vec![]));
    let all = json(&site, &["gaps", "--all"], 0);
    assert_eq!(
        (all["gaps"][0]["state"].as_str(), all["gaps"][0]["found"].as_str()),
        (Some("turned-up"), Some(whole.as_str()))
    );
    assert_eq!((&all["turned_up"], &all["recovered"]), (&1.into(), &1.into()));
    assert!(alarms(&site, 1).iter().all(|(alarm, _)| alarm != "report-missing"));
    server.wait_for("journal.report_missing");
}

/// The alarms that are raised, each with its severity.
fn alarms(site: &Site, code: i32) -> Vec<(String, String)> {
    let status = json(site, &["status"], code);
    let text = |alarm: &Value, key: &str| alarm[key].as_str().unwrap().to_owned();
    let all = status["alarms"].as_array().unwrap().iter();
    all.map(|alarm| (text(alarm, "alarm"), text(alarm, "severity"))).collect()
}

#[test]
fn at_a_journal_mailbox_too_what_does_not_come_back_is_missing_and_what_does_is_counted() {
    let (site, journal, _) = site();
    let server = site.serve();
    send(&server, &journal, &ndr_of_header(1, &report()));
    assert_eq!(json(&site, &["gaps"], 1)["missing"], 1);
    send(&server, &journal, &ndr());
    send(&server, &journal, &ndr_of(2, &report()));
    let found = json(&site, &["gaps"], 0);
    assert_eq!(
        (&found["turned_up"], &found["recovered"], &found["already_held"]),
        (&1.into(), &1.into(), &1.into())
    );
    let log = server.log_with("\"event\":\"journal.recovered\"", 2);
    let count = |result: &str| log.matches(&format!("\"result\":\"{result}\"")).count();
    assert_eq!((count("recovered"), count("already_held")), (1, 1), "{log}");
}

#[test]
fn addressed_to_both_the_mailbox_served_reads_the_ndr_itself() {
    let (site, journal, ndrs) = site();
    let second = create(&site, &["More NDRs", "--role", "ndr", "--serves", &journal.address]);
    let server = site.serve();
    let both = |recipients: &[&Account], message: &str| {
        let to: Vec<&str> = recipients.iter().map(|account| account.address.as_str()).collect();
        Smtp::connect(server.port("smtp")).send_to(&to, message.as_bytes())
    };
    let receipt = receipt_of(&both(&[&ndrs, &journal], &ndr()));
    let there = view(&site, &receipt, &journal).unwrap();
    assert_eq!((there["class"].as_str(), &there["recovered_from"]), (Some("journal-ndr"), &Value::Null));
    assert_eq!(folders(&there), RECOVERED);
    assert_eq!(folders(&view(&site, &receipt, &ndrs).unwrap()), ["INBOX"]);
    // Two NDR mailboxes that serve the same one recover it once.
    let other = report()
        .replace("0003-4a1e-9c39-0d5f7a1c0003", "0009-4a1e-9c39-0d5f7a1c0009")
        .replace("<offer-7@", "<offer-9@");
    let receipt = receipt_of(&both(&[&ndrs, &second], &ndr_of(9, &other)));
    assert_eq!(json(&site, &["trace", &receipt], 0).as_array().unwrap().len(), 3);
    assert_eq!(folders(&view(&site, &receipt, &journal).unwrap()), RECOVERED);
}

#[test]
fn a_suspended_mailbox_takes_what_was_recovered_and_one_that_is_served_cannot_be_deleted() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    site.run(&["mailbox", "suspend", &journal.login]).expect(0);
    let receipt = send(&server, &ndrs, &ndr());
    assert_eq!(folders(&view(&site, &receipt, &journal).unwrap()), RECOVERED);
    let delete = |which: &Account| site.run(&["mailbox", "delete", &which.login, "--force", "--yes"]);
    assert!(delete(&journal).expect(1).stderr.contains(&ndrs.login));
    site.run(&["mailbox", "suspend", &ndrs.login]).expect(0);
    delete(&ndrs).expect(0);
    delete(&journal).expect(0);
}

#[test]
fn what_was_recovered_is_read_by_the_profile_of_the_mailbox_served_and_placed_as_that_one_wants() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    site.run(&["mailbox", "set", &journal.login, "profile=generic"]).expect(0);
    let there = view(&site, &send(&server, &ndrs, &ndr()), &journal).unwrap();
    assert_eq!(
        (there["class"].as_str(), folders(&there)),
        (Some("plain"), vec!["INBOX".to_owned(), "Unassigned".to_owned()])
    );
    site.run(&["mailbox", "set", &journal.login, "profile=microsoft365", "archive=false"]).expect(0);
    site.run(&["mailbox", "set", &ndrs.login, "archive=false"]).expect(0);
    let other = ndr().replace("<offer-7@", "<offer-8@").replace("<0fff00ef-2022@", "<n-8@");
    let receipt = send(&server, &ndrs, &other);
    assert_eq!(folders(&view(&site, &receipt, &journal).unwrap()), ["INBOX"]);
    // Without folders beside INBOX it is missed, and alarmed, all the same.
    let lost = send(
        &server,
        &ndrs,
        &ndr_of_header(9, &report().replace("0003-4a1e", "0099-4a1e").replace("<offer-7@", "<offer-99@")),
    );
    assert_eq!(folders(&view(&site, &lost, &ndrs).unwrap()), ["INBOX"]);
    assert_eq!(json(&site, &["gaps"], 1)["missing"], 1);
    assert_eq!(alarms(&site, 1), [("report-missing".to_owned(), "critical".to_owned())]);
}

#[test]
fn an_ndr_mailbox_serves_a_journal_mailbox_and_says_so() {
    let (site, journal, ndrs) = site();
    let listed = json(&site, &["mailbox", "list"], 0);
    assert_eq!((&listed[0]["role"], &listed[0]["serves"]), (&"journal".into(), &Value::Null));
    assert_eq!(
        (&listed[1]["role"], &listed[1]["serves"]["id"]),
        (&"ndr".into(), &journal.id.as_str().into())
    );
    let shown = site.run(&["mailbox", "show", &ndrs.login]).expect(0).stdout;
    assert!(
        shown.contains(&format!("ndr: reports that come back go to \"Contoso\" ({})", journal.login)),
        "{shown}"
    );
    let listed = site.run(&["mailbox", "list"]).expect(0).stdout;
    assert!(listed.contains("ROLE") && listed.contains("ndr"), "{listed}");
    let create = ["mailbox", "create", "--name", "X"];
    for (arguments, code) in [
        (vec!["--role", "ndr"], 2),
        (vec!["--serves", journal.login.as_str()], 2),
        (vec!["--role", "ndr", "--serves", "nobody"], 1),
        (vec!["--role", "ndr", "--serves", ndrs.login.as_str()], 1),
        (vec!["--role", "ndr", "--serves", journal.login.as_str(), "--profile", "generic"], 2),
    ] {
        site.run(&[&create[..], &arguments].concat()).expect(code);
    }
    site.run(&["mailbox", "set", &ndrs.login, "profile=generic"]).expect(2);
    let made = site
        .run(&["mailbox", "create", "--name", "Y", "--role", "ndr", "--serves", "Contoso"])
        .expect(0)
        .stdout;
    assert!(
        made.contains("JournalingReportNdrTo") && made.contains("run a second Daybook elsewhere"),
        "{made}"
    );
    site.run(&["mailbox", "suspend", &journal.login]).expect(0);
    site.run(&[&create[..], &["--role", "ndr", "--serves", &journal.login]].concat()).expect(0);
}

/// An NDR around an intact report, with something behind its end that can be read in more than one way.
fn damaged_ndr_of(n: usize, report: &str) -> String {
    format!("{}{DELIMITER}\r\nContent-Type: text/plain\r\n\r\nmore\r\n", ndr_of(n, report))
}

/// Reads a receipt again, with the password of its gateway mailbox; gives what changes, or changed.
fn reprocess(site: &Site, account: &Account, receipt: &str, more: &[&str]) -> Value {
    let arguments = ["reprocess", &account.login, "--receipt", receipt, "--json", "--password-file", "-"];
    let password = format!("{}\n", account.password);
    let outcome = site.run_with_input(&[&arguments[..], more].concat(), password.as_bytes()).expect(0);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn a_doubtful_report_of_an_ndr_keeps_the_direct_one_from_nobody() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    let doubtful = send(&server, &ndrs, &damaged_ndr_of(1, &report()));
    let there = view(&site, &doubtful, &journal).unwrap();
    assert_eq!(
        (folders(&there), &there["recovered_from"]),
        (words(&["INBOX", "Quarantine"]), &ndrs.id.as_str().into())
    );
    let direct = view(&site, &send(&server, &journal, &sent(&report())), &journal).unwrap();
    assert_eq!((&direct["repeats"], folders(&direct)), (&Value::Null, words(&RECOVERED)));
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_doubtful_report_of_an_ndr_is_given_to_nobody_when_its_mailbox_gets_users_folders_later() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    site.run(&["mailbox", "set", &journal.login, "archive=false"]).expect(0);
    let doubtful = send(&server, &ndrs, &damaged_ndr_of(1, &report()));
    let placed = || folders(&view(&site, &doubtful, &journal).unwrap());
    assert_eq!(placed(), ["INBOX"]);
    site.run(&["mailbox", "set", &journal.login, "archive=true"]).expect(0);
    assert_eq!(json(&site, &["reassign", "--apply"], 0)["placed"], 0);
    reprocess(&site, &journal, &doubtful, &["--apply"]);
    assert_eq!(placed(), ["INBOX"]);
    // One without doubts goes to its users by being read again.
    site.run(&["mailbox", "set", &journal.login, "archive=false"]).expect(0);
    let sound = send(&server, &ndrs, &ndr());
    site.run(&["mailbox", "set", &journal.login, "archive=true"]).expect(0);
    reprocess(&site, &journal, &sound, &["--apply"]);
    assert_eq!(folders(&view(&site, &sound, &journal).unwrap()), RECOVERED);
}

#[test]
fn header_fields_of_what_an_ndr_returned_name_nobody_when_it_is_read_again_either() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    let set = ["mailbox", "set", &journal.login, "profile=generic", "recipient_headers=X-Gm-Original-To"];
    site.run(&set).expect(0);
    let naming = format!("X-Gm-Original-To: bob@contoso.example\r\n{}", report());
    let receipt = send(&server, &ndrs, &ndr_of(1, &naming));
    let placed = || folders(&view(&site, &receipt, &journal).unwrap());
    assert_eq!(placed(), ["INBOX", "Unassigned"]);
    assert_eq!(reprocess(&site, &journal, &receipt, &["--apply"])["receipts"], Value::Array(vec![]));
    assert_eq!(placed(), ["INBOX", "Unassigned"]);
}
