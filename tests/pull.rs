//! Pullers of the built program, with a second Daybook as the account: what comes there is here, once, whatever happens between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/pulled.rs"]
mod pulled;

use pulled::{Gateway, Mailbox, TENANT, json, mailbox, ndr};
use serde_json::Value;
use support::{Server, Site, wait_until};

/// The gateway elsewhere, to which NDRs are sent.
struct Outside {
    site: Site,
    account: Mailbox,
}

impl Outside {
    fn new() -> Outside {
        let site = Site::new();
        let account = mailbox(&site, &["Outside", "--profile", "generic"]);
        Outside { site, account }
    }

    /// The keys of a puller for it.
    fn keys(&self, server: &Server<'_>, protocol: &str, more: &str) -> String {
        let (port, ca) = (server.port(protocol).port(), self.site.path("data/tls/cert.pem"));
        let (login, ca) = (&self.account.login, ca.display());
        format!("protocol = \"{protocol}\"\nport = {port}\nca_file = \"{ca}\"\nlogin = \"{login}\"\n{more}\n")
    }

    fn receive(&self, server: &Server<'_>, numbers: impl IntoIterator<Item = usize>) {
        for n in numbers {
            let reply = server.send(&self.account.address, &ndr(n));
            assert!(reply.starts_with("250 "), "{reply}");
        }
    }

    fn waiting(&self, server: &Server<'_>) -> usize {
        server.pop3s(&self.account.login, &self.account.password).unwrap().count()
    }
}

fn brought(view: &Value) -> u64 {
    view["visit"]["messages"].as_u64().unwrap()
}

#[test]
fn what_a_second_daybook_keeps_is_fetched_over_pop3s_and_deleted_there_once_it_is_here() {
    let (outside, gateway) = (Outside::new(), Gateway::new());
    let source = outside.site.serve();
    outside.receive(&source, 1..=3);
    gateway.pull_from(&outside.keys(&source, "pop3s", ""), &outside.account.password);
    // Without a server the command does it itself.
    let view = gateway.pull(0);
    assert_eq!((brought(&view), view["fault"].is_null()), (3, true));
    gateway.holds(3);
    assert_eq!(outside.waiting(&source), 0);
    assert_eq!(brought(&gateway.pull(0)), 0);
    // And with one at its start; the receipt says how each came.
    outside.receive(&source, 4..=5);
    let mut server = gateway.site.serve();
    server.wait_for("pull.session");
    gateway.holds(5);
    let log = server.log();
    let fetched = log.lines().find(|line| line.contains("\"pull.fetched\"")).unwrap();
    let fetched: Value = serde_json::from_str(fetched).unwrap();
    let receipt = fetched["receipt_id"].as_str().unwrap();
    let told = |command: &str| gateway.site.run(&[command, receipt]).expect(0).stdout;
    let explained = told("explain") + &told("trace");
    for wanted in [
        "by outside from localhost at 127.0.0.1",
        "pop3s",
        "fetched by puller outside",
        "<>, the null sender",
    ] {
        assert!(explained.contains(wanted), "{wanted} is not in\n{explained}");
    }
    assert!(!log.contains(&outside.account.password));
    assert_eq!(server.terminate(), 0);
}

#[test]
fn over_imaps_what_stays_at_the_account_is_fetched_once_and_twice_adds_nothing() {
    let (outside, gateway) = (Outside::new(), Gateway::new());
    let source = outside.site.serve();
    outside.receive(&source, 1..=3);
    gateway.pull_from(&outside.keys(&source, "imaps", "after = \"keep\""), &outside.account.password);
    assert_eq!(brought(&gateway.pull(0)), 3);
    assert_eq!(brought(&gateway.pull(0)), 0, "known by their UIDs");
    outside.receive(&source, [4]);
    assert_eq!(brought(&gateway.pull(0)), 1);
    gateway.holds(4);
    // What was fetched is forgotten: all of it comes again, and is the same again.
    std::fs::remove_file(gateway.site.path("data/pull/outside.json")).unwrap();
    assert_eq!(brought(&gateway.pull(0)), 4);
    gateway.holds(4);
    assert_eq!(outside.waiting(&source), 4);
    // Marking leaves them, too, and deleting takes those that are fetched then.
    for (after, waiting) in [("mark", 5), ("delete", 5)] {
        let keys = outside.keys(&source, "imaps", &format!("after = \"{after}\""));
        gateway.pull_from(&keys, &outside.account.password);
        outside.receive(&source, [if after == "mark" { 5 } else { 6 }]);
        assert_eq!(brought(&gateway.pull(0)), 1);
        assert_eq!(outside.waiting(&source), waiting, "{after}");
    }
    gateway.holds(6);
}

#[test]
fn only_the_wrapper_that_an_ndr_returns_makes_what_a_puller_fetched_authentic() {
    let (outside, gateway) = (Outside::new(), Gateway::new());
    for to in [&gateway.journal, &gateway.ndrs] {
        gateway.site.run(&["mailbox", "set", &to.address, "mode=enforce"]).expect(0);
    }
    let source = outside.site.serve();
    outside.receive(&source, [1]);
    let text = String::from_utf8(ndr(2)).unwrap();
    let bare = text.replace(&format!("X-OriginatorOrg: {TENANT}\r\n"), "");
    let marked_outside = format!("X-OriginatorOrg: {TENANT}\r\n{}", bare.replace("ndr-2@", "ndr-3@"));
    let forged = text.replace(TENANT, "fabrikam.onmicrosoft.example").replace("ndr-2@", "ndr-4@");
    for message in [bare, marked_outside, forged] {
        assert!(source.send(&outside.account.address, message.as_bytes()).starts_with("250 "));
    }
    gateway.pull_from(&outside.keys(&source, "imaps", ""), &outside.account.password);
    assert_eq!(brought(&gateway.pull(0)), 4);
    let quarantine = |of: &Mailbox| gateway.entries(of, "Quarantine");
    assert_eq!((gateway.entries(&gateway.ndrs, "INBOX"), quarantine(&gateway.ndrs)), (1, 3));
    assert_eq!(gateway.entries(&gateway.journal, "Users/bob@contoso.example/Journal Incoming"), 1);
    let held =
        json(&gateway.site, &["quarantine", "list", "--mailbox", &gateway.ndrs.address], 0).to_string();
    assert!(held.contains("unverified") && held.contains("suspect"), "{held}");
}

#[test]
fn what_cannot_be_is_told_with_advice_and_nothing_is_fetched() {
    let (outside, gateway) = (Outside::new(), Gateway::new());
    let source = outside.site.serve();
    outside.receive(&source, [1]);
    let keys = |protocol| outside.keys(&source, protocol, "");
    let fails = |kind: &str, advice: &str| {
        let view = gateway.pull(1);
        assert_eq!((view["fault"]["kind"].as_str(), brought(&view)), (Some(kind), 0), "{view}");
        assert!(view["fault"]["advice"].as_str().unwrap().contains(advice), "{view}");
    };
    for protocol in ["imaps", "pop3s"] {
        gateway.pull_from(&keys(protocol), "wrong");
        fails("login", "check login and password");
        // Nobody vouches for that certificate, so no password goes there.
        let untrusted =
            keys(protocol).replace(&outside.site.path("data/tls").display().to_string(), "data/tls");
        gateway.site.run(&["config", "check"]);
        std::fs::create_dir_all(gateway.site.path("data/tls")).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        gateway.site.write("data/tls/cert.pem", &other.cert.pem());
        gateway.pull_from(&untrusted, &outside.account.password);
        fails("tls", "the certificate must bear");
    }
    // Where it goes must be an NDR mailbox that takes mail.
    gateway.pull_from(&keys("imaps"), &outside.account.password);
    let text = std::fs::read_to_string(gateway.site.path("daybook.toml")).unwrap();
    gateway.site.write("daybook.toml", &text.replace(&gateway.ndrs.login, &gateway.journal.login));
    fails("mailbox", "role ndr");
    gateway.site.write("daybook.toml", &text);
    gateway.site.run(&["mailbox", "suspend", &gateway.ndrs.address]).expect(0);
    fails("mailbox", "active");
    gateway.site.run(&["mailbox", "resume", &gateway.ndrs.address]).expect(0);
    // Larger than may be: it stays there, and that is no fault.
    let large = format!("{}{}", String::from_utf8(ndr(2)).unwrap(), "x".repeat(70_000) + "\r\n");
    assert!(source.send(&outside.account.address, large.as_bytes()).starts_with("250 "));
    gateway.site.set_smtp("max_message_bytes = 65536");
    let view = gateway.pull(0);
    assert_eq!((brought(&view), view["left"].as_u64()), (1, Some(1)), "{view}");
    assert_eq!((outside.waiting(&source), gateway.pull(0)["left"].as_u64()), (1, Some(1)));
    gateway.holds(1);
    json(&gateway.site, &["pull", "nobody"], 1);
}

#[test]
fn a_reload_adds_changes_and_removes_pullers_and_a_failing_one_says_so() {
    let (outside, gateway) = (Outside::new(), Gateway::new());
    let source = outside.site.serve();
    outside.receive(&source, [1]);
    let mut server = gateway.site.serve();
    let status = || json(&gateway.site, &["pull", "--status"], 0);
    gateway.pull_from(&outside.keys(&source, "pop3s", ""), "wrong");
    server.signal("HUP");
    server.wait_for("pull.failed");
    let failing = json(&gateway.site, &["pull", "--status"], 1);
    assert_eq!(failing[0]["failures"], 1, "{failing}");
    assert!(server.log().contains("check login and password"));
    // By hand it looks at once; nothing hammers the account by itself.
    gateway.pull_from(&outside.keys(&source, "pop3s", ""), &outside.account.password);
    server.signal("HUP");
    server.wait_for("pull.session");
    wait_until("the visit to be noted", || !status()[0]["last_success"].is_null());
    gateway.holds(1);
    outside.receive(&source, [2]);
    assert_eq!(brought(&gateway.pull(0)), 1);
    assert_eq!(status()[0]["messages"], 2);
    gateway.set_puller("");
    server.signal("HUP");
    server.log_with("\"event\":\"config.reloaded\"", 2);
    wait_until("no puller", || gateway.site.run(&["pull", "--status"]).code == 1);
    assert_eq!(server.terminate(), 0);
}

#[test]
fn killed_at_any_point_a_puller_loses_nothing_and_doubles_nothing() {
    const COUNT: usize = 120;
    let (outside, gateway) = (Outside::new(), Gateway::new());
    let source = outside.site.serve();
    outside.receive(&source, 0..COUNT);
    for (round, protocol) in ["imaps", "pop3s", "imaps"].into_iter().enumerate() {
        gateway.pull_from(&outside.keys(&source, protocol, ""), &outside.account.password);
        let mut server = gateway.site.serve_unchecked();
        // Wherever it is then: before the state is written, or before anything is deleted.
        server.log_with("\"event\":\"pull.fetched\"", 7 + 16 * round);
        server.kill();
    }
    let mut server = gateway.site.serve();
    server.log_with("\"event\":\"pull.session\"", 1);
    assert_eq!(outside.waiting(&source), 0);
    gateway.holds(COUNT as u64);
    assert_eq!(server.terminate(), 0);
}
