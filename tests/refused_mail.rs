//! Mail that the built server refuses for good and that may have been a report: the log, `/metrics` and `daybook status` tell.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/http.rs"]
mod http;

use serde_json::Value;
use support::{Server, Site, Smtp};

fn create(site: &Site) -> String {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    made["address"].as_str().unwrap().to_owned()
}

/// What `daybook status` shows of the one alarm there is.
fn alarm(site: &Site) -> Value {
    let status: Value = serde_json::from_str(&site.run(&["status", "--json"]).expect(1).stdout).unwrap();
    let [alarm] = status["alarms"].as_array().unwrap().as_slice() else { panic!("{status}") };
    assert_eq!(alarm["alarm"], "mail-refused", "{status}");
    alarm.clone()
}

fn check(server: &Server<'_>, event: &str, metric: &str) {
    server.wait_for(event);
    let page = http::get(server.port("http"), "/metrics").body;
    assert!(page.lines().any(|line| line == metric), "no {metric} in {page}");
}

#[test]
fn a_bare_line_feed_to_a_served_address_is_told() {
    let site = Site::new();
    let address = create(&site);
    let server = site.serve();
    let reply = Smtp::connect(server.port("smtp")).send(&address, b"Subject: x\n\r\n");
    assert_eq!(reply, "554 5.6.0 Bare CR, bare LF or NUL in message");
    check(&server, "smtp.body_refused", "daybook_smtp_refused_bodies_total{reason=\"bare-lf\"} 1");
    let alarm = alarm(&site);
    assert_eq!((&alarm["severity"], &alarm["in_a_day"]), (&"critical".into(), &1.into()), "{alarm}");
}

#[test]
fn a_size_that_a_favoured_peer_declares_too_large_is_told_and_a_strangers_is_not() {
    for (networks, told) in [("[\"127.0.0.0/8\"]", 1), ("[]", 0)] {
        let site = Site::new();
        site.set_smtp(&format!("reserved_networks = {networks}"));
        let server = site.serve();
        let reply = Smtp::connect(server.port("smtp")).say("MAIL FROM:<> SIZE=419430401");
        assert_eq!(reply, "552 5.3.4 Message too large");
        let metric = format!("daybook_smtp_refused_bodies_total{{reason=\"declared-size\"}} {told}");
        check(&server, if told > 0 { "smtp.body_refused" } else { "smtp.refused" }, &metric);
        if told > 0 {
            assert_eq!(alarm(&site)["in_a_day"], 1);
        } else {
            site.run(&["status"]).expect(0);
        }
    }
}

#[test]
fn a_recipient_refused_by_strict_mode_is_told() {
    let site = Site::new();
    let address = create(&site);
    let server = site.serve();
    site.run(&["mailbox", "set", &address, "mode=strict"]).expect(0);
    let reply = Smtp::connect(server.port("smtp")).send(&address, b"x\r\n");
    assert_eq!(reply, "550 5.7.1 Delivery not authorised");
    check(&server, "journal.forbidden", "daybook_forbidden_recipients_total 1");
    let alarm = alarm(&site);
    assert_eq!((&alarm["severity"], &alarm["forbidden"]), (&"warning".into(), &1.into()), "{alarm}");
}

#[test]
fn a_recipient_at_a_former_address_is_told() {
    let site = Site::new();
    let address = create(&site);
    let server = site.serve();
    site.run(&["mailbox", "rotate", &address, "--overlap", "0"]).expect(0);
    let reply = Smtp::connect(server.port("smtp")).send(&address, b"x\r\n");
    assert_eq!(reply, "550 5.1.1 No such recipient here");
    let metric = "daybook_former_address_uses_total{result=\"refused\"} 1";
    check(&server, "mailbox.retired_address_asked", metric);
    let alarm = alarm(&site);
    assert_eq!((&alarm["severity"], &alarm["retired"]), (&"warning".into(), &1.into()), "{alarm}");
}

#[test]
fn mail_for_a_suspended_gateway_mailbox_is_not_refused_for_good() {
    let site = Site::new();
    let address = create(&site);
    let server = site.serve();
    site.run(&["mailbox", "suspend", &address]).expect(0);
    let mut smtp = Smtp::connect(server.port("smtp"));
    assert!(smtp.send(&address, b"x\r\n").starts_with("450 4.2.1 "));
    assert!(smtp.say("DATA").starts_with("450 4.2.1 "));
    site.run(&["status"]).expect(0);
}
