//! Plain mail whose envelope stands in header fields that a gateway mailbox trusts: set, received, placed and explained, from
//! outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use serde_json::{Value, json};
use support::{Server, Site, corpus};

fn json_of(site: &Site, arguments: &[&str]) -> Value {
    let outcome = site.run(&[arguments, &["--json"][..]].concat()).expect(0);
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// The copy that Google makes for one recipient.
fn copy(to: &str, relayed: &str) -> Vec<u8> {
    let copy = String::from_utf8(corpus("plain/p01_gmail_copy.eml")).unwrap();
    let copy = copy.replace("X-Gm-Original-To: bob@contoso.example", &format!("X-Gm-Original-To: {to}"));
    format!("Received: by {relayed}\r\n{copy}").into_bytes()
}

/// Sends a message and gives what was recorded of it.
fn receipt(site: &Site, server: &Server<'_>, address: &str, message: &[u8]) -> Value {
    let said = server.send(address, message);
    let id = said.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{said}"));
    json_of(site, &["explain", id])[0].take()
}

/// Folder and number of messages.
fn folders(site: &Site, address: &str) -> Vec<(String, u64)> {
    let shown = json_of(site, &["mailbox", "show", address]);
    let folder =
        |folder: &Value| (folder["path"].as_str().unwrap().to_owned(), folder["entries"].as_u64().unwrap());
    shown["folders"].as_array().unwrap().iter().map(folder).collect()
}

fn owned(folders: &[(&str, u64)]) -> Vec<(String, u64)> {
    folders.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect()
}

const BOB: &str = "Users/bob@contoso.example/Journal Incoming";
const ALICE: &str = "Users/alice@contoso.example/Journal Incoming";

#[test]
fn copies_for_each_recipient_are_one_mail_that_each_gets_once_and_every_copy_is_kept() {
    let site = Site::new();
    let made = json_of(&site, &["mailbox", "create", "--name", "Google", "--profile", "generic"]);
    let address = made["address"].as_str().unwrap();
    let server = site.serve();
    json_of(&site, &["mailbox", "set", address, "recipient_headers=X-Gm-Original-To"]);
    let first = receipt(&site, &server, address, &copy("bob@contoso.example", "one"));
    let reasons = &first["placements"][1]["reasons"];
    let reason = "Recipient bob@contoso.example matched proxy address of user bob (Bob Baker), named in X-Gm-Original-To";
    assert_eq!((&first["placements"][1]["folder"], reasons), (&json!(BOB), &json!([reason])));
    receipt(&site, &server, address, &copy("Alice <A.Archer@contoso.example>", "two"));
    // Sent to a person twice, perhaps by a list: other octets, the same mail.
    let third = receipt(&site, &server, address, &copy("bob@contoso.example", "three"));
    assert_eq!(third["repeats"], Value::Null);
    assert_eq!(folders(&site, address), owned(&[("INBOX", 3), (BOB, 1), (ALICE, 1)]));
    let again = receipt(&site, &server, address, &copy("bob@contoso.example", "one"));
    assert_eq!(again["repeats"], first["receipt_id"], "the very same octets");
    let outside =
        receipt(&site, &server, address, &copy("dave@fabrikam.example, gone@contoso.example", "four"));
    assert_eq!(
        outside["unmatched"],
        json!(["Recipient dave@fabrikam.example is external", "Recipient gone@contoso.example is unknown"])
    );
    assert_eq!(outside["placements"][1]["folder"], "Unassigned");
    let people = site.run(&["explain", first["receipt_id"].as_str().unwrap()]).expect(0).stdout;
    assert!(people.contains("named in X-Gm-Original-To"), "{people}");
}

#[test]
fn without_trusted_fields_or_without_them_on_the_mail_nobody_is_guessed() {
    let site = Site::new();
    let made = json_of(&site, &["mailbox", "create", "--name", "Plain", "--profile", "generic"]);
    let address = made["address"].as_str().unwrap();
    let server = site.serve();
    let reasons = |message: &[u8]| {
        let receipt = receipt(&site, &server, address, message);
        assert_eq!(receipt["placements"].as_array().unwrap().len(), 2, "{receipt}");
        assert_eq!(receipt["placements"][1]["folder"], "Unassigned");
        (receipt["placements"][1]["reasons"][0].as_str().unwrap().to_owned(), receipt["defects"].clone())
    };
    let body = |n: u32| {
        format!("To: bob@contoso.example\r\nMessage-ID: <{n}@x>\r\n\r\nX-To: bob@contoso.example\r\n")
    };
    let told = reasons(&[b"X-To: bob@contoso.example\r\n", body(1).as_bytes()].concat());
    assert!(told.0.contains("in a journal report"), "{told:?}");
    json_of(&site, &["mailbox", "set", address, "recipient_headers=X-To"]);
    assert!(reasons(body(2).as_bytes()).0.contains("are not there"));
    // The gateway's own addresses are where the copy went: served, of another, and of one that is gone.
    let gone = format!("mbx-{}@second.example", "0".repeat(32));
    let other = json_of(&site, &["mailbox", "create", "--name", "Other"]);
    let ours =
        format!("X-To: <{}>, {}, {gone}\r\n", address.to_uppercase(), other["address"].as_str().unwrap());
    assert!(reasons(&[ours.as_bytes(), body(3).as_bytes()].concat()).0.contains("name nobody"));
    let forged =
        format!("X-To: nobody@contoso.example\r\nReceived: r\r\nX-To: bob@contoso.example\r\n{}", body(4));
    let told = reasons(forged.as_bytes());
    assert!(told.0.contains("is a known user"), "{told:?}");
    assert_eq!(told.1, json!([["envelope-header-ignored", "X-To further down"]]));
}

#[test]
fn reports_are_read_as_ever_and_only_plain_mail_is_assigned_by_header_fields() {
    let site = Site::new();
    let made = json_of(&site, &["mailbox", "create", "--name", "Both"]);
    let address = made["address"].as_str().unwrap();
    let server = site.serve();
    let set = ["recipient_headers=X-Gm-Original-To", "sender_headers=x-envelope-from"];
    json_of(&site, &[&["mailbox", "set", address], &set[..]].concat());
    let named = b"X-Envelope-From: <alice@contoso.example>\r\nX-Gm-Original-To: alice@contoso.example\r\n";
    let report = receipt(&site, &server, address, &[&named[..], &corpus("demo/report.eml")].concat());
    assert!(!report.to_string().contains("named in"), "{report}");
    let plain =
        receipt(&site, &server, address, &[&named[..20 + 22], &copy("bob@contoso.example", "one")].concat());
    let told: Vec<&Value> =
        plain["placements"].as_array().unwrap().iter().map(|place| &place["folder"]).collect();
    assert_eq!(told, ["INBOX", "Users/alice@contoso.example/Journal Outgoing", BOB]);
    assert!(plain.to_string().contains("Sender alice@contoso.example matched proxy address of user alice (Alice Archer), named in x-envelope-from"), "{plain}");
    // What looks like a report that lost its marker is not to be trusted to be plain.
    let stripped = [&named[..], &corpus("plain/marker-stripped.eml")].concat();
    assert_eq!(receipt(&site, &server, address, &stripped)["placements"][1]["folder"], "Quarantine");
}

#[test]
fn header_fields_are_set_shown_checked_and_taken_away() {
    let site = Site::new();
    let made = json_of(&site, &["mailbox", "create", "--name", "Google"]);
    assert_eq!((&made["recipient_headers"], &made["sender_headers"]), (&json!([]), &json!([])));
    let set = |what: &str| site.run(&["mailbox", "set", "Google", what, "--json"]);
    let many: Vec<String> = (0..17).map(|n| format!("X-{n}")).collect();
    let wrong = [
        "recipient_headers=To",
        "recipient_headers=X-A,bcc",
        "sender_headers=From",
        "sender_headers=X A",
        "recipient_headers=X-A:",
        "recipient_headers=X-\u{e4}",
        &format!("recipient_headers={}", "x".repeat(79)),
        &format!("recipient_headers={}", many.join(",")),
    ];
    for wrong in wrong {
        set(wrong).expect(2);
    }
    set("recipient_headers= X-Gm-Original-To,X-Envelope-To,x-gm-original-to,").expect(0);
    set("sender_headers=X-Envelope-From").expect(0);
    let shown = json_of(&site, &["mailbox", "show", "Google"]);
    assert_eq!(shown["recipient_headers"], json!(["X-Gm-Original-To", "X-Envelope-To"]));
    assert_eq!(shown["sender_headers"], json!(["X-Envelope-From"]));
    let page = site.run(&["mailbox", "show", "Google"]).expect(0).stdout;
    assert!(page.contains("recipient of plain mail is named in X-Gm-Original-To, X-Envelope-To\n"), "{page}");
    assert!(page.contains("sender    of plain mail is named in X-Envelope-From\n"), "{page}");
    set("recipient_headers=").expect(0);
    let shown = json_of(&site, &["mailbox", "show", "Google"]);
    assert_eq!(
        (&shown["recipient_headers"], &shown["sender_headers"]),
        (&json!([]), &json!(["X-Envelope-From"]))
    );
}

#[test]
fn inspect_shows_what_header_fields_name() {
    let site = Site::new();
    let inspect = |arguments: &[&str], message: &[u8]| {
        site.run_with_input(&[&["inspect", "-"], arguments].concat(), message).expect(0).stdout
    };
    let fields = [
        "--recipient-header",
        "X-Gm-Original-To",
        "--recipient-header",
        "X-To",
        "--sender-header",
        "X-Gm-Spam",
    ];
    let json = |arguments: &[&str], message: &[u8]| -> Value {
        serde_json::from_str(&inspect(&[arguments, &["--json"]].concat(), message)).unwrap()
    };
    let mail = copy("mbx-0123456789abcdef0123456789abcdef@gw.example, bob@contoso.example", "one");
    for profile in ["generic", "microsoft365"] {
        let found = json(&[&fields[..], &["--profile", profile]].concat(), &mail);
        let expect = json!({
            "sender": "0",
            "sender_header": "X-Gm-Spam",
            "recipients": [{"address": "bob@contoso.example", "header": "X-Gm-Original-To"}],
        });
        assert_eq!((&found["header_envelope"], &found["destination"]), (&expect, &json!("assign")));
        assert_eq!(found["defects"][0]["kind"], "malformed-address");
    }
    let none = json(&[], &mail);
    assert_eq!((&none["header_envelope"], &none["destination"]), (&Value::Null, &json!("unassigned")));
    assert_eq!(json(&fields, &corpus("demo/report.eml"))["header_envelope"], Value::Null);
    let page = inspect(&fields, &mail);
    assert!(page.contains("recipient    bob@contoso.example, named in X-Gm-Original-To\n"), "{page}");
    site.run_with_input(&["inspect", "-", "--recipient-header", "To"], &mail).expect(2);
}
