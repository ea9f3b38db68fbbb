//! A running server told to read its files again (SIGHUP) and told to end (SIGTERM): what is bad stays as it was, what is
//! on its way in is finished, and no connection is cut for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/http.rs"]
mod http;
#[path = "support/daybook.rs"]
mod support;

use std::fs;
use std::net::TcpStream;
use support::{Server, Site, Smtp, corpus, wait_until};

/// Changes the configuration of the site, a text at a time.
fn rewrite(site: &Site, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(site.path("daybook.toml")).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{old} in\n{text}");
        text = text.replacen(old, new, 1);
    }
    site.write("daybook.toml", &text);
}

/// Has the server read its files again, and waits until it says `event`; gives that line.
fn hang_up(server: &Server<'_>, event: &str) -> String {
    let (before, wanted) = (server.log().len(), format!("\"event\":\"{event}\""));
    server.signal("HUP");
    let mut line = String::new();
    wait_until(event, || {
        let log = server.log();
        let said = log.get(before..).unwrap_or_default().lines().find(|line| line.contains(&wanted));
        line = said.unwrap_or_default().to_owned();
        !line.is_empty()
    });
    line
}

fn create(site: &Site) -> String {
    let made = site.run(&["--json", "mailbox", "create", "--name", "Reload"]).expect(0).stdout;
    let (_, rest) = made.split_once("\"address\":\"").or_else(|| made.split_once("\"address\": \"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn other_limits_are_in_force_for_the_next_connection_and_old_ones_for_those_that_are_open() {
    let site = Site::new();
    let server = site.serve();
    let address = create(&site);
    let mut old = Smtp::connect(server.port("smtp"));
    rewrite(&site, &[("[smtp]\n", "[smtp]\nmax_message_bytes = 100_000\nmax_recipients = 100\n")]);
    let said = hang_up(&server, "config.reloaded");
    assert!(said.contains("\"changed\":\"[smtp] max_message_bytes, [smtp] max_recipients\""), "{said}");
    let too_large = "MAIL FROM:<> SIZE=100001";
    assert!(old.say(too_large).starts_with("250 "));
    assert!(Smtp::connect(server.port("smtp")).say(too_large).starts_with("552 5.3.4 "));
    rewrite(&site, &[("max_recipients = 100\n", "require_tls = true\n")]);
    hang_up(&server, "config.reloaded");
    assert!(server.send(&address, b"x\r\n").starts_with("530 5.7.0 "));
    assert!(old.say("RSET").starts_with("250 "));
    assert!(
        old.send(&address, &corpus("journal/exchange-online/s01_basic_recipient.eml"))
            .starts_with("250 2.0.0 Ok ")
    );
    hang_up(&server, "config.unchanged");
}

#[test]
fn a_bad_configuration_is_refused_with_the_old_one_in_force() {
    let site = Site::new();
    let server = site.serve();
    let address = create(&site);
    rewrite(&site, &[("[smtp]\n", "[smtp]\nmax_message_bytes = 100_000\nmax_errors = 0\nrequire = true\n")]);
    let said = hang_up(&server, "config.kept");
    assert!(said.contains("max_errors") && said.contains("unknown key"), "every fault is named: {said}");
    assert!(
        server
            .send(&address, &corpus("journal/exchange-online/s01_basic_recipient.eml"))
            .starts_with("250 2.0.0 Ok ")
    );
    let mut smtp = Smtp::connect(server.port("smtp"));
    assert!(smtp.say("MAIL FROM:<> SIZE=100001").starts_with("250 "));
    let health = http::get(server.port("http"), "/healthz");
    assert!(health.status == 200 && health.body.contains("max_errors"), "{}", health.body);
    rewrite(&site, &[("max_errors = 0\nrequire = true\n", "")]);
    hang_up(&server, "config.reloaded");
    assert_eq!(site.run(&["readyz"]).expect(0).stdout, "ready\n");
    assert!(Smtp::connect(server.port("smtp")).say("MAIL FROM:<> SIZE=100001").starts_with("552 5.3.4 "));
}

#[test]
fn what_only_a_start_can_change_is_named_and_stays() {
    let site = Site::new();
    let server = site.serve();
    let port = server.port("smtp");
    rewrite(
        &site,
        &[
            ("hostname = \"localhost\"", "hostname = \"other.example\""),
            ("[pop3]\nlisten = [\"127.0.0.1:0\"]", "[pop3]\nlisten = []"),
            ("\"second.example\"", "\"third.example\""),
        ],
    );
    let late = hang_up(&server, "config.needs_restart");
    assert!(late.contains("\"keys\":\"hostname, [pop3] listen\""), "{late}");
    wait_until("config.reloaded", || server.log().contains("\"changed\":\"domains\""));
    assert!(Smtp::connect(port).say("NOOP").starts_with("250 "));
    assert!(TcpStream::connect(server.port("pop3")).is_ok());
    site.run(&["mailbox", "create", "--name", "Third", "--domain", "third.example"]).expect(0);
    site.run(&["mailbox", "create", "--name", "Second", "--domain", "second.example"]).expect(2);
}

#[test]
fn other_users_log_level_and_alarms_are_taken_too() {
    let site = Site::new();
    let server = site.serve();
    let address = create(&site);
    site.write(
        "others.toml",
        "[[user]]\nid = \"zoe\"\nname = \"Zoe\"\naddresses = [\"bob@contoso.example\"]\n",
    );
    rewrite(
        &site,
        &[
            ("path = \"users.toml\"", "path = \"others.toml\""),
            ("[http]", "[log]\nlevel = \"debug\"\n[alerts]\nremind_hours = 1\ndisk_margin_bytes = 0\n[http]"),
        ],
    );
    hang_up(&server, "config.reloaded");
    assert!(server.log().contains("others.toml"), "{}", server.log());
    assert_eq!(site.run(&["log-level"]).expect(0).stdout, "debug\n");
    assert!(
        server
            .send(&address, &corpus("journal/exchange-online/s01_basic_recipient.eml"))
            .starts_with("250 2.0.0 Ok ")
    );
    wait_until("journal.committed", || server.log().contains("\"event\":\"journal.committed\""));
    let log = server.log();
    assert!(!log.contains("Users/alice"), "alice is nobody any more: {log}");
    assert!(log.contains("\"event\":\"smtp.connected\""), "said at debug only");
}

#[test]
fn other_rules_of_whose_an_address_is_hold_for_the_next_message() {
    let site = Site::new();
    let server = site.serve();
    let address = create(&site);
    let report = String::from_utf8(corpus("demo/fork.eml")).unwrap();
    // Nobody has these as they are written. Another wrapper and another body are another report of another mail.
    let send = |n: u32| {
        let report = report
            .replace("@contoso.example", "+x@old.example")
            .replace("Message-ID: <", &format!("Message-ID: <{n}"));
        assert!(server.send(&address, report.as_bytes()).starts_with("250 2.0.0 Ok "));
    };
    send(1);
    let shown = || site.run(&["mailbox", "show", &address]).expect(0).stdout;
    assert!(!shown().contains("Users/"), "{}", shown());
    rewrite(
        &site,
        &[(
            "[http]",
            "[assign]\ndomain_aliases = { \"old.example\" = \"contoso.example\" }\nplus_tags = true\n[http]",
        )],
    );
    let said = hang_up(&server, "config.reloaded");
    assert!(said.contains("\"changed\":\"[assign] domain_aliases, [assign] plus_tags\""), "{said}");
    send(2);
    assert!(shown().contains("Users/alice@contoso.example/Journal Outgoing"), "{}", shown());
    let why = site.run(&["trace", "alice+x@old.example"]).expect(0).stdout;
    let reason = "matched proxy address alice@contoso.example of user alice (Alice Archer) by domain alias and without its plus-tag";
    assert!(why.contains(reason), "{why}");
}

#[test]
fn told_to_end_it_says_so_between_commands_and_finishes_what_is_on_its_way() {
    let site = Site::new();
    let mut server = site.serve();
    let address = create(&site);
    let (mut idle, mut sending) = (Smtp::connect(server.port("smtp")), Smtp::connect(server.port("smtp")));
    for command in ["MAIL FROM:<>", &format!("RCPT TO:<{address}>"), "DATA"] {
        assert!(sending.say(command).starts_with(['2', '3']), "{command}");
    }
    let port = server.port("smtp");
    server.signal("TERM");
    assert!(idle.reply().starts_with("421 4.3.2 "));
    wait_until("no new connection", || TcpStream::connect(port).is_err());
    let taken = sending.say("Subject: last\r\n\r\nIt is not lost.\r\n.");
    assert!(taken.starts_with("250 2.0.0 Ok "), "{taken}");
    assert!(sending.reply().starts_with("421 4.3.2 "));
    assert_eq!(server.wait(), 0);
    let server = site.serve();
    let shown = site.run(&["mailbox", "show", &address]).expect(0).stdout;
    assert!(shown.contains("INBOX") && !server.log().contains("store.torn"), "{shown}");
}

#[test]
fn a_source_serves_whom_the_file_now_says_and_a_mistyped_path_changes_nothing() {
    let site = Site::new();
    let server = site.serve();
    let address = create(&site);
    let login = address.split('@').next().unwrap().to_owned();
    site.write(
        "others.toml",
        "[[user]]\nid = \"zoe\"\nname = \"Zoe\"\naddresses = [\"zoe@contoso.example\"]\n",
    );
    let second = "[[directory]]\nkind = \"file\"\npath = \"others.toml\"\n";
    let line = format!("mailboxes = [\"{login}\"]\n");
    rewrite(&site, &[("path = \"users.toml\"\n", &format!("path = \"users.toml\"\n{line}{second}"))]);
    hang_up(&server, "config.reloaded");
    let users = || site.run(&["user", "list"]).expect(0).stdout;
    assert!(users().contains("Alice") && users().contains("Zoe"), "{}", users());
    // The same lines, one of them in the other section.
    let others = "path = \"others.toml\"\n";
    rewrite(&site, &[(&line, ""), (others, &format!("{others}{line}"))]);
    hang_up(&server, "config.reloaded");
    let made = site.run(&["--json", "mailbox", "create", "--name", "Other"]).expect(0).stdout;
    assert!(made.contains("Other"));
    let listed = site.run(&["user", "list", "--mailbox", "Other"]).expect(0).stdout;
    assert!(listed.contains("Alice") && !listed.contains("Zoe"), "{listed}");
    rewrite(&site, &[("path = \"others.toml\"", "path = \"other.toml\"")]);
    let kept = hang_up(&server, "config.kept");
    assert!(kept.contains("other.toml"), "{kept}");
    assert!(users().contains("Zoe"), "{}", users());
    let health = http::get(server.port("http"), "/healthz").body;
    assert!(health.contains("other.toml"), "{health}");
}

#[test]
fn a_pair_that_is_not_there_yet_is_shown_once_it_is_and_bad_authorities_are_told() {
    let site = Site::new();
    let pair = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        site.write(&format!("{name}.crt"), &made.cert.pem());
        site.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    };
    pair("one");
    rewrite(&site, &[("[smtp]\n", "[tls]\ncertificate = \"one.crt\"\nprivate_key = \"one.key\"\n[smtp]\n")]);
    let server = site.serve();
    rewrite(
        &site,
        &[
            ("one.crt", "two.crt"),
            ("one.key", "two.key"),
            ("[http]", "[exchange]\nca_file = \"none.pem\"\n[http]"),
        ],
    );
    hang_up(&server, "tls.kept");
    wait_until("tls.authorities_kept", || server.log().contains("\"event\":\"tls.authorities_kept\""));
    let health = || http::get(server.port("http"), "/healthz").body;
    wait_until("none.pem in health", || health().contains("none.pem"));
    wait_until("two.crt in health", || health().contains("two.crt"));
    let before = server.log().len();
    pair("two");
    wait_until("tls.reloaded", || {
        server.log().get(before..).is_some_and(|log| log.contains("\"event\":\"tls.reloaded\""))
    });
    wait_until("health", || !health().contains("two.crt"));
}

#[test]
fn a_folder_for_checkpoints_is_written_to_from_the_reload_on_and_status_shows_their_key() {
    let site = Site::new();
    create(&site);
    let server = site.serve();
    fs::create_dir(site.path("outside")).unwrap();
    rewrite(&site, &[("[[directory]]", "[store]\ncheckpoint_dir = \"outside\"\n[[directory]]")]);
    let said = hang_up(&server, "config.reloaded");
    assert!(said.contains("\"changed\":\"[store] checkpoint_dir\""), "{said}");
    let checkpoint = || -> serde_json::Value {
        let status = site.run(&["status", "--json"]).expect(0).stdout;
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["checkpoint"].clone()
    };
    wait_until("a checkpoint outside", || !checkpoint()["outside_at"].is_null());
    let shown = checkpoint();
    let key = shown["key"].as_str().unwrap();
    let name = format!("outside/daybook-{}", key.get(..16).unwrap());
    let there = fs::read_to_string(site.path(&format!("{name}.jsonl"))).unwrap();
    assert!(there.contains(&format!("\"key\":\"{key}\"")) && there.lines().count() == 1, "{there}");
    assert!(fs::read_to_string(site.path(&format!("{name}.pub"))).unwrap().contains("BEGIN PUBLIC KEY"));
    assert_eq!(
        there.trim_end(),
        fs::read_to_string(site.path("data/checkpoints.jsonl")).unwrap().lines().last().unwrap()
    );
    server.wait_for("store.checkpoint");
}
