//! Every transaction is on record: `daybook receipts` adds up to what the client heard, and `daybook trace` finds what was not
//! taken.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use support::{Server, Site, Smtp, corpus, wait_until};

fn create(site: &Site) -> String {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    made["address"].as_str().unwrap().to_owned()
}

/// What `daybook receipts` lists.
fn receipts(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let listed = site.run(&[&["receipts", "--json"], arguments].concat()).expect(0).stdout;
    assert_eq!(listed.matches('\n').count(), 1, "one JSON value on one line: {listed}");
    serde_json::from_str(&listed).unwrap()
}

/// How many there are of each outcome, those too that were only counted.
fn sums(listed: &[Value]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for one in listed {
        *sums.entry(one["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
        for (outcome, further) in [("deferred", "further_deferred"), ("refused", "further_refused")] {
            *sums.entry(outcome.to_owned()).or_default() += one[further].as_u64().unwrap_or(0);
        }
    }
    sums
}

/// What a client hears, by its first digit.
#[derive(Default)]
struct Heard(BTreeMap<String, u64>);

impl Heard {
    fn note(&mut self, reply: &str) {
        let outcome = match reply.as_bytes()[0] {
            b'2' => "accepted",
            b'4' => "deferred",
            b'5' => "refused",
            _ => panic!("{reply}"),
        };
        *self.0.entry(outcome.to_owned()).or_default() += 1;
    }
}

/// Transactions of every end, over several connections.
fn talk(server: &Server<'_>, address: &str, suspended: &str) -> Heard {
    let mut heard = Heard::default();
    let smtp = || Smtp::connect(server.port("smtp"));
    heard.note(&smtp().send(address, &corpus("demo/report.eml")));
    heard.note(&smtp().send(address, b"Subject: x\r\n\r\nx\r\n"));
    heard.note(&smtp().send(address, b"Subject: x\n\r\n"));
    heard.note(&smtp().say("MAIL FROM:<> SIZE=419430401"));
    heard.note(&smtp().send(suspended, b"x\r\n"));
    let mut scanner = smtp();
    for n in 0..5 {
        scanner.say("MAIL FROM:<spammer@fabrikam.example>");
        heard.note(&scanner.say(&format!("RCPT TO:<victim{}@elsewhere.example>", n % 2)));
        scanner.say("RSET");
    }
    // Nobody hears anything of this one.
    let mut cut = smtp();
    cut.say("MAIL FROM:<a@fabrikam.example>");
    assert!(cut.say(&format!("RCPT TO:<{address}>")).starts_with("250"));
    drop(cut);
    server.wait_for("smtp.broken_off");
    heard.note("4 the connection broke");
    heard
}

#[test]
fn accepted_deferred_and_refused_add_up_to_what_the_client_heard() {
    let site = Site::new();
    // Nobody who guesses waits.
    site.set_smtp("tarpit_seconds = 0");
    let (address, suspended) = (create(&site), create(&site));
    let mut server = site.serve();
    site.run(&["mailbox", "suspend", &suspended]).expect(0);
    let heard = talk(&server, &address, &suspended);
    assert_eq!(server.terminate(), 0);
    let listed = receipts(&site, &[]);
    assert_eq!(sums(&listed), heard.0);
    let reasons: Vec<&str> = listed.iter().filter_map(|one| one["reason"].as_str()).collect();
    for reason in ["bare-lf", "declared-size", "suspended", "unknown-recipient", "broken-off"] {
        assert!(reasons.contains(&reason), "{reason} is not among {reasons:?}");
    }
    // Of the scanner, the first; with another entry, what was only counted; and if a minute ended in between, one more.
    assert!(reasons.iter().filter(|reason| **reason == "unknown-recipient").count() <= 2, "{listed:#?}");
    let begun: Vec<&str> = listed.iter().map(|one| one["receipt_id"].as_str().unwrap()).collect();
    assert!(begun.iter().rev().is_sorted(), "newest first: {begun:?}");

    let server = site.serve();
    assert_eq!(receipts(&site, &[]), listed, "with a server as without one");
    assert_eq!(receipts(&site, &["--limit", "3"]), listed[..3]);
    assert_eq!(receipts(&site, &["--since", "2099-01-01T00:00:00Z"]), Vec::<Value>::new());
    assert_eq!(receipts(&site, &["--until", "1h"]), Vec::<Value>::new());
    for outcome in ["accepted", "deferred", "refused"] {
        let of_it: Vec<Value> = listed.iter().filter(|one| one["outcome"] == outcome).cloned().collect();
        assert_eq!(receipts(&site, &["--outcome", outcome]), of_it);
    }
    let of_suspended = receipts(&site, &["--mailbox", &suspended]);
    let [of_it] = of_suspended.as_slice() else { panic!("{of_suspended:#?}") };
    assert_eq!(
        (&of_it["code"], &of_it["enhanced"], &of_it["blame"]),
        (&450.into(), &"4.2.1".into(), &"operator".into())
    );
    site.run(&["receipts", "--mailbox", "nobody"]).expect(1);
    site.run(&["receipts", "--outcome", "lost"]).expect(2);
    let shown = site.run(&["receipts"]).expect(0).stdout;
    assert_eq!(shown.lines().count(), listed.len());
    for part in [
        "accepted  250",
        "refused   554",
        "deferred  450",
        "journal-report",
        "refused since the entry before",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    drop(server);
}

#[test]
fn what_was_turned_away_can_be_traced_by_its_receipt_id_and_by_whom_it_named() {
    let site = Site::new();
    let address = create(&site);
    let server = site.serve();
    let reply = Smtp::connect(server.port("smtp")).send(&address, b"Subject: x\n\r\n");
    assert_eq!(reply, "554 5.6.0 Bare CR, bare LF or NUL in message");
    // A moment later, since it is worth no sync of its own.
    wait_until("the entry", || !receipts(&site, &[]).is_empty());
    let log = server.log_with("smtp.body_refused", 1);
    let line = log.lines().find(|line| line.contains("smtp.body_refused")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let id = line["receipt_id"].as_str().unwrap();
    for command in ["trace", "explain"] {
        let told: Value = serde_json::from_str(&site.run(&[command, id, "--json"]).expect(0).stdout).unwrap();
        assert_eq!((told[0]["outcome"].as_str(), told[0]["code"].as_u64()), (Some("refused"), Some(554)));
        assert_eq!(told[0]["gateway_mailboxes"][0]["address"], address.as_str());
        let shown = site.run(&[command, id]).expect(0).stdout;
        for part in
            [id, "refused     554 5.6.0: bare-lf; the peer's fault", "MAIL FROM   <>", address.as_str()]
        {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
    }
    assert!(Smtp::connect(server.port("smtp")).send(&address, b"x\r\n").starts_with("250"));
    let traced = site.run(&["trace", &address]).expect(0).stdout;
    assert!(traced.contains("bare-lf"), "{traced}");
    let unknown = "019aa5b0-7e21-7c43-a1b2-0123456789ab";
    site.run(&["trace", unknown]).expect(1);
    site.run(&["explain", unknown]).expect(1);
}

#[test]
fn what_a_store_that_cannot_write_deferred_turns_up_with_its_time_when_it_can_again() {
    let site = Site::new();
    let address = create(&site);
    let mut command = Command::new("sh");
    // A write beyond the limit then fails, where it would end the process.
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_daybook"), "--config"]);
    command.arg(site.path("daybook.toml")).arg("serve");
    let server = site.serve_by(command).wait_until_it_serves();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let limit = |current| {
        let before = prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
        assert_eq!(before.maximum, None);
    };
    limit(Some(1));
    let reply = server.send(&address, &corpus("demo/report.eml"));
    assert!(reply.starts_with("451 4.3.0 "), "{reply}");
    let reply = server.send("nobody@elsewhere.example", b"x\r\n");
    assert!(reply.starts_with("550 "), "{reply}");
    assert_eq!(receipts(&site, &[]), Vec::<Value>::new(), "it cannot be written");
    limit(None);
    wait_until("both entries", || receipts(&site, &[]).len() == 2);
    let listed = receipts(&site, &["--outcome", "deferred"]);
    assert_eq!((&listed[0]["code"], &listed[0]["reason"]), (&451.into(), &"store-trouble".into()));
    assert!(server.send(&address, &corpus("demo/report.eml")).starts_with("250 "));
    let accepted = receipts(&site, &["--outcome", "accepted"]);
    assert!(accepted[0]["at"].as_str() > listed[0]["at"].as_str(), "{accepted:#?}");
}
