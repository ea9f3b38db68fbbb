//! Pullers of the built program against Dovecot, which nobody here wrote: passwords and XOAUTH2, IMAPS and POP3S, keep, mark and
//! delete, and thousands of NDRs with the gateway killed between.
//!
//! Run by `tests/real.sh`, which gets Dovecot. `DAYBOOK_LONG=1` pulls 10,000 NDRs.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are to be read")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/pulled.rs"]
mod pulled;

#[path = "support/http_double.rs"]
mod http_double;

#[path = "real/dovecot_server.rs"]
mod dovecot_server;

use dovecot_server::{Dovecot, LOGIN, PASSWORD};
use http_double::Reply;
use pulled::{Gateway, ndr};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The keys of a puller for that account.
fn keys(dovecot: &Dovecot, protocol: &str, more: &str) -> String {
    let port = if protocol == "imaps" { dovecot.imaps } else { dovecot.pop3s };
    let ca = dovecot.certificate();
    let ca = ca.display();
    format!("protocol = \"{protocol}\"\nport = {port}\nca_file = \"{ca}\"\nlogin = \"{LOGIN}\"\n{more}\n")
}

fn brought(view: &Value) -> u64 {
    view["visit"]["messages"].as_u64().unwrap()
}

/// The flags in the names of the messages.
fn seen(dovecot: &Dovecot) -> usize {
    dovecot
        .messages()
        .iter()
        .filter(|name| name.rsplit(',').next().is_some_and(|flags| flags.contains('S')))
        .count()
}

#[test]
fn dovecot_gives_what_it_has_by_password_and_keeps_marks_or_deletes_it() {
    let (dovecot, gateway) = (Dovecot::start(), Gateway::new());
    let mut count = 0;
    for protocol in ["imaps", "pop3s"] {
        for after in ["keep", "mark", "delete"] {
            if (protocol, after) == ("pop3s", "mark") {
                continue;
            }
            for n in count..count + 3 {
                dovecot.receive(n, &ndr(n));
            }
            count += 3;
            let (seen_before, there) = (seen(&dovecot), dovecot.messages().len());
            let after_key = format!("after = \"{after}\"");
            gateway.pull_from(&keys(&dovecot, protocol, &after_key), PASSWORD);
            let view = gateway.pull(0);
            // By POP3 what IMAP fetched is another account's: it comes again, and adds nothing.
            assert!(brought(&view) >= 3, "{protocol} {after}: {view}\n{}", dovecot.log());
            gateway.holds(count as u64);
            let left = if after == "delete" { there as u64 - brought(&view) } else { there as u64 };
            assert_eq!(dovecot.messages().len() as u64, left, "{protocol} {after}");
            let marked = if after == "mark" { 3 } else { 0 };
            if after != "delete" {
                assert_eq!(seen(&dovecot), seen_before + marked, "{protocol} {after}");
            }
            assert_eq!(brought(&gateway.pull(0)), 0, "{protocol} {after}");
        }
    }
    gateway.pull_from(&keys(&dovecot, "imaps", ""), "another");
    let fault = gateway.pull(1)["fault"].clone();
    assert_eq!(fault["kind"], "login", "{fault}");
}

#[test]
fn dovecot_takes_a_token_and_one_that_it_refuses_is_explained() {
    let (dovecot, gateway) = (Dovecot::start(), Gateway::new());
    let token = Arc::new(Mutex::new(dovecot.token(3600)));
    let given = Arc::clone(&token);
    let login = http_double::start(move |asked| {
        assert_eq!(asked.field("scope").as_deref(), Some("https://outlook.office365.com/.default"));
        let token = given.lock().unwrap().clone();
        let answer = serde_json::json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": token });
        Reply::json(200, answer.to_string())
    });
    gateway.site.write("entra.password", "qWgdYAmab0YSkuL1qKv5bPX~3.DoubledSecret");
    let pull = |protocol: &str| {
        gateway.set_puller(&format!(
            "[[puller]]\nname = \"outside\"\nmailbox = \"{}\"\nhost = \"localhost\"\nauth = \"xoauth2\"\n\
             tenant = \"aaaabbbb-0000-cccc-1111-dddd2222eeee\"\nclient_id = \"00001111-aaaa-2222-bbbb-3333cccc4444\"\n\
             secret_file = \"entra.password\"\nloopback = \"{login}\"\n{}\n",
            gateway.ndrs.login,
            keys(&dovecot, protocol, "")
        ));
    };
    for (n, protocol) in ["imaps", "pop3s"].into_iter().enumerate() {
        dovecot.receive(n, &ndr(n));
        pull(protocol);
        let view = gateway.pull(0);
        assert_eq!(brought(&view), 1, "{protocol}: {view}\n{}", dovecot.log());
        gateway.holds(n as u64 + 1);
    }
    // One that is over, and one that somebody else signed.
    let (over, whole) = (dovecot.token(-5_000), dovecot.token(3600));
    let (signed, _) = whole.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(342));
    for bad in [over, forged] {
        token.lock().unwrap().clone_from(&bad);
        for protocol in ["imaps", "pop3s"] {
            pull(protocol);
            let fault = gateway.pull(1)["fault"].clone();
            assert_eq!(fault["kind"], "login", "{protocol}: {fault}");
            assert!(fault["advice"].as_str().unwrap().contains("AccessAsApp"), "{fault}");
            assert!(!fault.to_string().contains(bad.rsplit('.').next().unwrap()), "{fault}");
        }
    }
}

#[test]
fn ten_thousand_ndrs_come_once_each_although_the_gateway_is_killed_twice() {
    let count: usize = if std::env::var_os("DAYBOOK_LONG").is_some() { 10_000 } else { 1_000 };
    let (dovecot, gateway) = (Dovecot::start(), Gateway::new());
    for n in 0..count {
        dovecot.receive(n, &ndr(n));
    }
    gateway.pull_from(&keys(&dovecot, "imaps", ""), PASSWORD);
    let began = Instant::now();
    let mut fetched = Vec::new();
    for round in 0..2 {
        let mut server = gateway.site.serve_unchecked();
        // Somewhere in the first and in the second third.
        let random =
            Instant::now().duration_since(began).subsec_nanos() as usize + std::process::id() as usize;
        let until = 1 + random % (count / 3);
        let log = server.log_with("\"event\":\"pull.fetched\"", until);
        server.kill();
        fetched.push(log.matches("\"event\":\"pull.fetched\"").count());
        println!(
            "killed in round {round} after {} messages; {} are left",
            fetched[round],
            dovecot.messages().len()
        );
    }
    let mut server = gateway.site.serve();
    support::wait_until("all to be fetched", || {
        server.log().contains("\"more\":false") && server.log().contains("\"event\":\"pull.session\"")
    });
    let seconds = began.elapsed().as_secs_f64();
    fetched.push(server.log().matches("\"event\":\"pull.fetched\"").count());
    println!(
        "{count} NDRs in {seconds:.1} s, {:?} fetched, {} twice",
        fetched,
        fetched.iter().sum::<usize>() - count
    );
    gateway.holds(count as u64);
    assert_eq!(dovecot.messages(), Vec::<String>::new());
    assert_eq!(server.terminate(), 0);
    let verified = gateway.site.run(&["verify"]).expect(0);
    assert!(!verified.stdout.is_empty());
}
