//! IMAP as the built program serves it: over both kinds of ports, with the store behind it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/imap.rs"]
mod imap;
#[path = "support/daybook.rs"]
mod support;

use imap::Imap;
use serde_json::Value;
use std::net::TcpListener;
use support::{HOST, Server, Site, USERS, corpus};

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

fn deliver(server: &Server<'_>, account: &Account, message: &[u8]) -> String {
    let reply = server.send(&account.address, message);
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    reply.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_report_comes_out_octet_by_octet_on_either_port_and_in_the_folders_of_users() {
    let site = Site::new();
    let server = site.serve();
    let account = create(&site);
    let report = corpus(REPORT);
    deliver(&server, &account, &report);

    let mut plain = Imap::plain(server.port("imap")).unwrap();
    assert!(plain.next().text.contains("LOGINDISABLED"));
    let refused = plain.say(&format!("LOGIN {} {}", account.login, account.password)).tagged;
    assert!(refused.starts_with("NO [PRIVACYREQUIRED]"), "{refused}");
    plain.say("STARTTLS").ok();
    let mut begun = plain.over_tls(site.client_config(), HOST).unwrap();
    begun.say(&format!("LOGIN {} {}", account.address, account.password)).ok();

    for mut client in [login(&site, &server, &account), begun] {
        assert!(client.say("EXAMINE INBOX").ok().texts().contains(&"* 1 EXISTS"));
        assert!(client.fetch(1) == report);
        let listed = client.say("LIST \"\" Users/%/%").ok();
        let folders: Vec<String> =
            listed.texts().iter().map(|text| text.split('"').nth(3).unwrap().to_owned()).collect();
        let expect =
            ["Users/alice@contoso.example/Journal Outgoing", "Users/bob@contoso.example/Journal Incoming"];
        assert_eq!(folders, expect);
        for folder in folders {
            client.say(&format!("SELECT \"{folder}\"")).ok();
            let original = client.fetch(1);
            assert!(report.windows(original.len()).any(|window| window == original), "{folder}");
        }
        client.logout();
    }
    let log = server.log_with("fetch.session", 2);
    assert!(!log.contains(&account.password), "a password in the log");
}

#[test]
fn flags_stay_and_what_was_taken_out_is_gone_for_good_and_on_the_trail() {
    let site = Site::new();
    let mut server = site.serve();
    let account = create(&site);
    let receipts = [1, 2, 3]
        .map(|number| deliver(&server, &account, format!("Subject: {number}\r\n\r\nbody\r\n").as_bytes()));
    let mut client = login(&site, &server, &account);
    client.say("SELECT INBOX").ok();
    client.say("FETCH 1 BODY[]").ok();
    client.say("STORE 3 +FLAGS (\\Flagged)").ok();
    client.say("STORE 1 +FLAGS (\\Deleted)").ok();
    assert_eq!(client.say("EXPUNGE").ok().texts(), ["* 1 EXPUNGE"]);
    // As in a crash, and with the client still there.
    server.kill();
    drop(client);
    std::fs::remove_file(site.path("data/ports.json")).unwrap();
    let server = site.serve();
    let mut client = login(&site, &server, &account);
    client.say("SELECT INBOX").ok();
    let flags = client.say("UID FETCH 1:* FLAGS").ok();
    assert_eq!(flags.texts(), ["* 1 FETCH (UID 2 FLAGS ())", "* 2 FETCH (UID 3 FLAGS (\\Flagged))"]);
    client.logout();

    let told = site.run(&["trace", &receipts[0]]).expect(0).stdout;
    for wanted in ["fetched by imap from 127.0.0.1", "deleted by imap from 127.0.0.1"] {
        assert!(told.contains(wanted), "{told}");
    }
    let told = site.run(&["trace", &receipts[1]]).expect(0).stdout;
    assert!(!told.contains("fetched") && !told.contains("deleted by"), "{told}");
    site.run(&["undelete", &account.login]).expect(0);
    let mut client = login(&site, &server, &account);
    assert!(client.say("SELECT INBOX").ok().texts().contains(&"* 3 EXISTS"));
    assert_eq!(client.fetch(4), b"Subject: 1\r\n\r\nbody\r\n");
}

#[test]
fn a_client_that_waits_hears_of_mail_as_it_comes_and_bye_when_the_server_goes_down() {
    let site = Site::new();
    let mut server = site.serve();
    let account = create(&site);
    let mut client = login(&site, &server, &account);
    client.say("SELECT INBOX").ok();
    let tag = client.begin("IDLE").unwrap();
    assert!(client.next().text.starts_with("+ "));
    deliver(&server, &account, &corpus(REPORT));
    assert_eq!(client.next().text, "* 1 EXISTS");
    client.send(b"DONE\r\n").unwrap();
    client.end(&tag).unwrap().ok();
    assert_eq!(client.say("UID SEARCH UNSEEN").ok().texts(), ["* SEARCH 1"]);
    client.begin("IDLE").unwrap();
    client.next();
    assert_eq!(server.terminate(), 0);
    assert!(client.next().text.starts_with("* BYE "));
    assert_eq!(client.response().unwrap(), None);
    assert!(server.log().contains("\"end\":\"shutdown\""), "{}", server.log());
}

#[test]
fn a_gateway_mailbox_that_is_deleted_meanwhile_is_gone_for_whoever_is_logged_in() {
    let site = Site::new();
    let server = site.serve();
    let account = create(&site);
    let mut client = login(&site, &server, &account);
    client.say("SELECT INBOX").ok();
    site.run(&["mailbox", "suspend", &account.login]).expect(0);
    site.run(&["mailbox", "delete", &account.login, "--force", "--yes"]).expect(0);
    let tag = client.begin("SELECT INBOX").unwrap();
    let said = client.next().text;
    assert!(said.starts_with("* BYE ") || said.starts_with(&format!("{tag} NO ")), "{said}");
}

#[test]
fn a_default_port_that_is_taken_is_a_warning_and_one_that_was_asked_for_the_end() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let asked = format!("[imap]\nlisten = [\"{address}\"]\nlisten_tls = [\"127.0.0.1:0\"]\n");
    let site = Site::with(&asked, USERS);
    let mut server = site.serve_unchecked();
    assert_eq!(server.wait(), 3, "{}", server.log());
    assert!(server.log().contains("imap: "), "{}", server.log());
    drop(taken);
    let mut server = site.serve();
    assert_eq!(server.port("imap"), address);
    assert_eq!(server.terminate(), 0);

    // Taken by us, by somebody else, or out of reach for who is not root.
    let _held = ["127.0.0.1:143", "127.0.0.1:993"].map(TcpListener::bind);
    let configured = std::fs::read_to_string(site.path("daybook.toml")).unwrap();
    site.write("daybook.toml", &configured.replace(&asked, ""));
    let server = site.serve();
    assert_eq!(server.log_with("\"event\":\"fetch.unavailable\"", 2).matches("listening").count(), 4);
    assert!(!std::fs::read_to_string(site.path("data/ports.json")).unwrap().contains("imap"));
}

#[test]
fn what_came_in_clear_behind_starttls_ends_the_connection() {
    let site = Site::new();
    let server = site.serve();
    let account = create(&site);
    let mut client = Imap::plain(server.port("imap")).unwrap();
    client.next();
    let injected = format!("a STARTTLS\r\nb LOGIN {} {}\r\n", account.login, account.password);
    client.send(injected.as_bytes()).unwrap();
    assert!(client.next().text.starts_with("a OK"));
    // It is cut: nothing more is said, in whatever way the end is seen.
    assert!(!matches!(client.response(), Ok(Some(_))));
    server.wait_for("fetch.tls_injection");
    assert!(!server.log().contains("auth.ok"), "{}", server.log());
}
