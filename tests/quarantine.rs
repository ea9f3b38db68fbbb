//! `daybook quarantine`: what is in it is listed, explained and let out; with a server and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use serde_json::Value;
use support::{Server, Site, corpus};

fn json_of(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.run(arguments).expect(0).stdout).unwrap()
}

/// A gateway mailbox; gives its address.
fn create(site: &Site, name: &str) -> String {
    json_of(site, &["mailbox", "create", "--name", name, "--json"])["address"].as_str().unwrap().to_owned()
}

fn send(server: &Server<'_>, to: &str, message: &[u8]) -> String {
    let reply = server.send(to, message);
    reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

fn listed(site: &Site) -> Vec<Value> {
    json_of(site, &["quarantine", "list", "--json"])["messages"].as_array().unwrap().clone()
}

/// How many entries each folder of the one gateway mailbox has, but for those that have none.
fn folders(site: &Site, name: &str) -> Vec<(String, u64)> {
    let shown = json_of(site, &["mailbox", "show", name, "--json"]);
    let all = shown["folders"].as_array().unwrap().iter();
    let counted = all.map(|f| (f["path"].as_str().unwrap().to_owned(), f["entries"].as_u64().unwrap()));
    counted.filter(|(_, entries)| *entries > 0).collect()
}

fn are(folders: &[(String, u64)], expect: &[(&str, u64)]) {
    let mut folders: Vec<(&str, u64)> = folders.iter().map(|(path, n)| (path.as_str(), *n)).collect();
    folders.sort_unstable();
    assert_eq!(folders, expect);
}

/// Paths of the placements a command said it made, or would make, and of the entries that left.
fn changed(revised: &Value) -> (Vec<&str>, Vec<&str>) {
    let paths = |key: &str| {
        let all = revised[0][key].as_array().unwrap().iter();
        all.map(|entry| entry["folder"].as_str().unwrap()).collect()
    };
    (paths("placements"), paths("left"))
}

const OUTGOING: &str = "Users/alice@contoso.example/Journal Outgoing";
const INCOMING: &str = "Users/bob@contoso.example/Journal Incoming";

#[test]
fn what_was_held_back_is_released_as_if_it_had_been_delivered() {
    let site = Site::new();
    let address = create(&site, "Contoso");
    site.run(&["mailbox", "set", "Contoso", "mode=enforce"]).expect(0);
    let server = site.serve();
    let id = send(&server, &address, &corpus("demo/report.eml"));
    are(&folders(&site, "Contoso"), &[("Quarantine", 1)]);
    let status = site.run(&["status"]).expect(1).stdout;
    assert!(status.contains("quarantine-growing"), "{status}");
    let row = &listed(&site)[0];
    assert_eq!((row["receipt_id"].as_str(), row["held_back"].as_bool()), (Some(id.as_str()), Some(true)));
    assert!(row["reasons"][0].as_str().unwrap().contains("enforce mode"), "{row}");
    let shown = site.run(&["quarantine", "show", &id]).expect(0).stdout;
    assert!(shown.contains("held-back: nothing proves who sent it"), "{shown}");

    let asked = site.run(&["quarantine", "release", &id]).expect(4);
    assert!(asked.stderr.contains(INCOMING) && asked.stderr.contains("--yes"), "{}", asked.stderr);
    let plan = json_of(&site, &["quarantine", "release", &id, "--dry-run", "--json"]);
    assert_eq!(changed(&plan), (vec!["INBOX", OUTGOING, INCOMING], vec!["Quarantine"]));
    are(&folders(&site, "Contoso"), &[("Quarantine", 1)]);

    let done = json_of(&site, &["quarantine", "release", &id, "--yes", "--json"]);
    assert_eq!(changed(&done), changed(&plan));
    let why = done[0]["placements"][2]["reasons"][0].as_str().unwrap();
    assert!(why.starts_with("released on 20") && why.contains("bob@contoso.example"), "{why}");
    are(&folders(&site, "Contoso"), &[("INBOX", 1), (OUTGOING, 1), (INCOMING, 1)]);
    assert!(listed(&site).is_empty());
    server.wait_for("journal.released");
    // Nobody has to ask: the alarm ends with its cause.
    server.wait_for("alarm.cleared");
    // What is not there cannot be released again.
    site.run(&["quarantine", "release", &id, "--yes"]).expect(1);
    let explained = site.run(&["explain", &id]).expect(0).stdout;
    assert!(explained.contains("released on 20"), "{explained}");

    // The genuine report, delivered later, is the same again.
    site.run(&["mailbox", "set", "Contoso", "trusted_networks=127.0.0.0/8"]).expect(0);
    let genuine = send(&server, &address, &corpus("demo/report.eml"));
    assert_eq!(json_of(&site, &["trace", &genuine, "--json"])[0]["repeats"], id.as_str());
    are(&folders(&site, "Contoso"), &[("INBOX", 1), (OUTGOING, 1), (INCOMING, 1)]);
}

#[test]
fn a_report_that_was_read_with_doubts_goes_to_whom_it_names_and_an_unreadable_one_to_nobody() {
    let site = Site::new();
    let address = create(&site, "Contoso");
    let mut server = site.serve();
    let doubtful = send(&server, &address, &corpus("journal/exchange-online/missing-close-delimiter.eml"));
    let hopeless = send(&server, &address, &corpus("demo/hopeless.eml"));
    are(&folders(&site, "Contoso"), &[("INBOX", 2), ("Quarantine", 2)]);
    assert_eq!(listed(&site)[0]["receipt_id"], hopeless.as_str(), "newest first");
    let one = json_of(&site, &["quarantine", "list", "--limit", "1", "--json"]);
    assert_eq!((one["messages"].as_array().unwrap().len(), one["more"].as_u64()), (1, Some(1)));
    let advice = json_of(&site, &["quarantine", "show", &doubtful, "--json"])["advice"].clone();
    assert!(advice.as_array().unwrap().iter().any(|a| a["about"] == "missing-close-delimiter"), "{advice}");

    // All or none: one of these is not in Quarantine.
    let unknown = "019aa5b0-7e21-7c43-a1b2-0123456789ab";
    site.run(&["quarantine", "release", &doubtful, unknown, "--yes"]).expect(1);
    assert_eq!(listed(&site).len(), 2);

    // The store alone does it as well.
    assert_eq!(server.terminate(), 0);
    assert_eq!(listed(&site).len(), 2);
    site.run(&["quarantine", "release", &doubtful, &hopeless, "--yes"]).expect(0);
    assert!(listed(&site).is_empty());
    are(&folders(&site, "Contoso"), &[("INBOX", 2), ("Unassigned", 1), (OUTGOING, 1), (INCOMING, 1)]);
}

#[test]
fn a_message_in_quarantine_of_two_gateway_mailboxes_is_released_from_the_one_that_is_named() {
    let site = Site::new();
    let (first, second) = (create(&site, "First"), create(&site, "Second"));
    let server = site.serve();
    let mut smtp = support::Smtp::connect(server.port("smtp"));
    for command in ["MAIL FROM:<>", &format!("RCPT TO:<{first}>"), &format!("RCPT TO:<{second}>")] {
        assert!(smtp.say(command).starts_with("250"));
    }
    assert!(smtp.say("DATA").starts_with("354"));
    let text = String::from_utf8(corpus("demo/hopeless.eml")).unwrap();
    let reply = smtp.say(&format!("{}.", text.replace("\r\n.", "\r\n..")));
    let id = reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}"));
    assert_eq!(listed(&site).len(), 2);
    let asked = site.run(&["quarantine", "release", id, "--yes"]).expect(2);
    assert!(asked.stderr.contains(&first) && asked.stderr.contains("--mailbox"), "{}", asked.stderr);
    site.run(&["quarantine", "release", id, "--mailbox", "Second", "--yes"]).expect(0);
    let left = json_of(&site, &["quarantine", "list", "--mailbox", "First", "--json"]);
    assert_eq!(left["messages"][0]["gateway_mailbox"], first.as_str());
    assert_eq!(listed(&site).len(), 1);
}

/// A report with a part behind its end, so that it can be read in more than one way.
fn damaged(report: &str) -> String {
    let last = report.trim_end().lines().last().unwrap();
    let delimiter = last.strip_suffix("--").unwrap_or_else(|| panic!("{last}"));
    format!("{report}{delimiter}\r\nContent-Type: text/plain\r\n\r\nmore\r\n")
}

#[test]
fn a_damaged_copy_of_a_report_keeps_no_whole_one_out() {
    let site = Site::new();
    let address = create(&site, "Contoso");
    let server = site.serve();
    let whole = String::from_utf8(corpus("demo/report.eml")).unwrap();
    let damaged = damaged(&whole);
    let doubtful = send(&server, &address, damaged.as_bytes());
    are(&folders(&site, "Contoso"), &[("INBOX", 1), ("Quarantine", 1)]);
    let trace = |id: &str| json_of(&site, &["trace", id, "--json"])[0]["repeats"].clone();
    let genuine = send(&server, &address, whole.as_bytes());
    assert_eq!(trace(&genuine), Value::Null);
    let all = [("INBOX", 2), ("Quarantine", 1), (OUTGOING, 1), (INCOMING, 1)];
    are(&folders(&site, "Contoso"), &all);
    // The very same octets are the same again.
    assert_eq!(trace(&send(&server, &address, damaged.as_bytes())), doubtful.as_str());
    site.run(&["quarantine", "release", &doubtful, "--yes"]).expect(0);
    are(&folders(&site, "Contoso"), &[("INBOX", 2), (OUTGOING, 1), (INCOMING, 1)]);
}

#[test]
fn once_released_a_damaged_report_is_the_one_that_a_whole_one_repeats() {
    let site = Site::new();
    let address = create(&site, "Contoso");
    let server = site.serve();
    let whole = String::from_utf8(corpus("demo/report.eml")).unwrap();
    let damaged = damaged(&whole);
    let doubtful = send(&server, &address, damaged.as_bytes());
    site.run(&["quarantine", "release", &doubtful, "--yes"]).expect(0);
    let genuine = send(&server, &address, whole.as_bytes());
    assert_eq!(json_of(&site, &["trace", &genuine, "--json"])[0]["repeats"], doubtful.as_str());
    are(&folders(&site, "Contoso"), &[("INBOX", 1), (OUTGOING, 1), (INCOMING, 1)]);
}

#[test]
fn what_has_nowhere_to_go_stays_in_quarantine() {
    let site = Site::new();
    let address = create(&site, "Contoso");
    let server = site.serve();
    let id = send(&server, &address, &corpus("demo/hopeless.eml"));
    site.run(&["mailbox", "set", "Contoso", "archive=false"]).expect(0);
    assert!(site.run(&["quarantine", "release", &id, "--yes"]).expect(1).stderr.contains("archive = false"));
    are(&folders(&site, "Contoso"), &[("INBOX", 1), ("Quarantine", 1)]);
}
