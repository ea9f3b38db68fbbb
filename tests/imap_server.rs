//! IMAP as the built program serves it.

#![allow(clippy::unwrap_used, clippy::string_slice, reason = "a test that panics has failed")]

#[path = "support/imap.rs"]
mod imap;
#[path = "support/daybook.rs"]
mod support;

use imap::Imap;
use serde_json::Value;
use std::time::Duration;
use support::{HOST, Server, Site, corpus};

const REPORT: &str = "demo/report.eml";

/// What a client needs.
struct Account {
    address: String,
    login: String,
    password: String,
}

fn create(site: &Site) -> Account {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    Account { address: text("address"), login: text("login"), password: text("password") }
}

fn login(site: &Site, server: &Server<'_>, account: &Account) -> Imap {
    let credentials = (account.login.as_str(), account.password.as_str());
    Imap::login(server.port("imaps"), site.client_config(), HOST, credentials).unwrap()
}

#[test]
fn a_delivered_report_is_fetched_octet_by_octet() {
    let site = Site::new();
    let server = site.serve();
    let account = create(&site);
    let report = corpus(REPORT);
    assert!(server.send(&account.address, &report).starts_with("250 "));
    let mut client = login(&site, &server, &account);
    for cmd in [
        "CAPABILITY",
        "ID (\"name\" \"x\")",
        "NAMESPACE",
        "LIST \"\" *",
        "SELECT INBOX",
        "FETCH 1 (FLAGS UID RFC822.SIZE INTERNALDATE ENVELOPE BODYSTRUCTURE)",
        "SEARCH ALL",
        "UID SEARCH SUBJECT report",
        "NOOP",
        "STORE 1 +FLAGS (\\Flagged)",
        "STATUS INBOX (MESSAGES UNSEEN)",
    ] {
        let done = client.say(cmd);
        println!("{cmd}\n {:#?}", done);
    }
    assert!(client.fetch(1) == report);
    client.logout();
    drop(server);
}
