//! The built program, from outside: its commands, their exit codes and JSON, with a server and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/corpus.rs"]
mod messages;
#[path = "support/daybook.rs"]
mod support;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{DOMAIN, Outcome, Site, USERS, corpus, wait_until};

const REPORT: &str = "demo/report.eml";

fn json_of(outcome: &Outcome) -> Value {
    assert_eq!(outcome.stdout.matches('\n').count(), 1, "one JSON value on one line: {}", outcome.stdout);
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn create(site: &Site, name: &str) -> Value {
    json_of(&site.run(&["mailbox", "create", "--name", name, "--json"]).expect(0))
}

#[test]
fn config_check_finds_every_fault_and_show_gives_what_reads_back() {
    let site = Site::new();
    site.run(&["config", "check"]).expect(0);
    assert_eq!(json_of(&site.run(&["config", "check", "--json"]).expect(0))["ok"], true);

    let shown = site.run(&["config", "show"]).expect(0).stdout;
    assert!(shown.contains("max_message_bytes = 419430400"), "{shown}");
    assert_eq!(json_of(&site.run(&["config", "show", "--json"]).expect(0))["hostname"], "localhost");
    site.write("daybook.toml", &shown);
    assert_eq!(site.run(&["config", "show"]).expect(0).stdout, shown);

    site.write("daybook.toml", "hostname = \"x.example\"\ndomains = []\ndata_dri = \"data\"\n");
    let bad = site.run(&["config", "check"]).expect(2);
    assert!(bad.stderr.contains("data_dri") && bad.stderr.contains("data_dir"), "{}", bad.stderr);
    let bad = json_of(&site.run(&["config", "check", "--json"]).expect(2));
    assert_eq!(bad["ok"], false);
    assert!(bad["errors"].as_array().unwrap().iter().any(|e| e["line"] == 3), "{bad}");
    assert_eq!(text(&json_of(&site.run(&["mailbox", "list", "--json"]).expect(2))["error"], "kind"), "usage");
    site.run(&["serve"]).expect(2);
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let site = Site::new();
    for arguments in [
        &["mailbox", "create"] as &[&str],
        &["explain", "not-an-id"],
        &["trace", "x", "--since", "yesterday"],
        &["mailbox", "set", "x", "no-equals-sign"],
        &["format-disk"],
        &["--config", "/nonexistent/daybook.toml", "config", "check"],
    ] {
        site.run(arguments).expect(2);
    }
    site.run(&["--help"]).expect(0);
    site.run(&["--version"]).expect(0);
}

#[test]
fn serve_says_where_it_listens_and_ends_in_good_order() {
    let site = Site::new();
    site.run(&["readyz"]).expect(3);
    let mut server = site.serve();
    let ports: Value =
        serde_json::from_str(&fs::read_to_string(site.path("data/ports.json")).unwrap()).unwrap();
    let names: Vec<&String> = ports.as_object().unwrap().keys().collect();
    assert_eq!(names, ["http", "imap", "imaps", "pop3", "pop3s", "smtp"]);
    for service in ["smtp", "pop3", "pop3s", "imap", "imaps", "http"] {
        assert_ne!(server.port(service).port(), 0);
    }
    let mode = fs::metadata(site.path("data/admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "owner only");
    site.run(&["readyz"]).expect(0);
    assert_eq!(json_of(&site.run(&["readyz", "--json"]).expect(0))["ready"], true);

    assert_eq!(server.terminate(), 0);
    assert!(!site.path("data/ports.json").exists());
    assert!(!site.path("data/admin.sock").exists());
    assert!(site.path("data/log/clean").exists(), "the store was closed");
    site.run(&["readyz"]).expect(3);

    let log = server.log();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| events.iter().filter(|e| e["event"] == name).count();
    assert_eq!(named("listening"), names.len(), "{log}");
    for event in
        ["service.started", "tls.self_signed", "directory.loaded", "service.stopping", "service.stopped"]
    {
        assert_eq!(named(event), 1, "{event} in {log}");
    }
}

#[test]
fn a_second_server_on_the_same_data_dir_says_so_and_leaves_the_first_alone() {
    let site = Site::new();
    let mut first = site.serve();
    let before = fs::read(site.path("data/ports.json")).unwrap();
    let mut second = site.serve_unchecked();
    assert_eq!(second.wait(), 3);
    assert!(second.log().contains("is in use by another daybook process"), "{}", second.log());
    assert_eq!(fs::read(site.path("data/ports.json")).unwrap(), before);
    site.run(&["readyz"]).expect(0);
    assert_eq!(first.terminate(), 0);
}

#[test]
fn what_cannot_be_served_from_ends_with_its_code() {
    let site = Site::with("[tls]\ncertificate = \"none.pem\"\nprivate_key = \"none.pem\"\n", USERS);
    let mut server = site.serve_unchecked();
    // It may be there again when it is tried again.
    assert_eq!(server.wait(), 3, "{}", server.log());
    assert!(server.log().contains("none.pem"), "{}", server.log());
    site.write("none.pem", "no certificate");
    let mut server = site.serve_unchecked();
    assert_eq!(server.wait(), 2, "{}", server.log());
    // The store was closed: it opens again at once.
    create(&site, "After");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let config = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    site.write("daybook.toml", &config.replacen("127.0.0.1:0", &address, 1));
    let mut server = site.serve_unchecked();
    assert_eq!(server.wait(), 3, "{}", server.log());
    assert!(server.log().contains(&address), "{}", server.log());
    assert!(!site.path("data/ports.json").exists());
}

/// Runs a course of commands; gives what each printed, without what differs from run to run.
fn script(site: &Site) -> Vec<String> {
    let made = create(site, "Contoso");
    let address = text(&made, "address").to_owned();
    let login = text(&made, "login").to_owned();
    assert_eq!(address, format!("{login}@{DOMAIN}"));
    assert!(login.starts_with("mbx-") && login.len() == 36, "{login}");
    assert!(text(&made, "password").len() >= 20);
    assert_eq!(made["state"], "active");
    let second =
        ["mailbox", "create", "--name", "Other", "--domain", "second.example", "--tenant", "other.example"];
    let other = json_of(&site.run(&[&second[..], &["--profile", "generic", "--json"]].concat()).expect(0));

    let steps: &[(i32, &[&str])] = &[
        (2, &["mailbox", "create", "--name", "X", "--domain", "elsewhere.example"]),
        (2, &["mailbox", "create", "--name", " "]),
        (0, &["mailbox", "list"]),
        (0, &["mailbox", "show", &address]),
        (0, &["mailbox", "show", &address.to_uppercase()]),
        (0, &["mailbox", "show", &login]),
        (0, &["mailbox", "show", "Contoso"]),
        (1, &["mailbox", "show", "nobody"]),
        (0, &["mailbox", "set", &login, "name=Contoso Ltd", "tenant=Contoso.example", "archive=false"]),
        (0, &["mailbox", "set", &login, "tenant=", "profile=generic"]),
        (2, &["mailbox", "set", &login, "archive=perhaps"]),
        (2, &["mailbox", "set", &login, "name=a", "name=b"]),
        (2, &["mailbox", "set", &login, "colour=red"]),
        (0, &["mailbox", "set", "Other", "name=Contoso Ltd"]),
        (2, &["mailbox", "show", "Contoso Ltd"]),
        (1, &["mailbox", "delete", &login, "--yes"]),
        (0, &["mailbox", "suspend", &login]),
        (4, &["mailbox", "delete", &login]),
        (0, &["mailbox", "resume", &login]),
        (0, &["mailbox", "suspend", &login]),
        (0, &["mailbox", "delete", &login, "--yes"]),
        (1, &["mailbox", "show", &login]),
        (0, &["mailbox", "list"]),
        (0, &["user", "list"]),
        (0, &["user", "show", "A.Archer@contoso.example"]),
        (0, &["user", "show", "alice", "--mailbox", text(&other, "login")]),
        (1, &["user", "show", "nobody"]),
        (1, &["trace", "nobody@contoso.example"]),
        (1, &["trace", "00000000-0000-7000-8000-000000000000"]),
        (1, &["explain", "00000000-0000-7000-8000-000000000000"]),
    ];
    let mut said = Vec::new();
    for (code, step) in steps {
        let outcome = site.run(&[step, &["--json"][..]].concat());
        assert_eq!(outcome.code, *code, "{step:?}: {}", outcome.stdout);
        let mut line = outcome.stdout;
        for (index, value) in [&made, &other].into_iter().enumerate() {
            let public_key = text(&value["keys"], "public_key");
            line = line.replace(public_key, &format!("(public_key {index})"));
            for key in ["login", "id", "created_at"] {
                line = line.replace(text(value, key), &format!("({key} {index})"));
                line = line.replace(&text(value, key).to_uppercase(), &format!("({key} {index})"));
            }
        }
        said.push(line);
    }
    said
}

#[test]
fn commands_do_the_same_with_a_server_and_without() {
    let alone = Site::new();
    let without = script(&alone);
    let served = Site::new();
    let mut server = served.serve();
    let with = script(&served);
    assert_eq!(server.terminate(), 0);
    assert_eq!(with, without);
}

#[test]
fn unknown_keys_name_the_known_ones() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    let outcome = site.run(&["mailbox", "set", text(&made, "login"), "colour=red"]).expect(2);
    for key in ["colour", "name", "tenant", "profile", "archive"] {
        assert!(outcome.stderr.contains(key), "{}", outcome.stderr);
    }
}

#[test]
fn a_question_makes_no_data_dir() {
    let site = Site::new();
    site.run(&["mailbox", "list"]).expect(3);
    assert!(!site.path("data").exists());
}

#[test]
fn the_whole_life_of_a_report_can_be_asked_for() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    let (address, login, password) = (text(&made, "address"), text(&made, "login"), text(&made, "password"));
    let mut server = site.serve();
    let report = corpus(REPORT);

    let reply = server.send(address, &report);
    let id = reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned();
    let again = server.send(address, &report);
    let again = again.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{again}"));

    let mut pop3s = server.pop3s(login, password).unwrap();
    assert_eq!(pop3s.count(), 1, "the same report again adds nothing");
    assert!(pop3s.retrieve(1) == report, "octets come back as sent");
    pop3s.say("DELE 1").unwrap();
    pop3s.quit();
    assert!(server.pop3s(login, "wrong").is_err());

    let receipts = json_of(&site.run(&["trace", &id, "--json"]).expect(0));
    let receipt = &receipts[0];
    assert_eq!(receipts.as_array().unwrap().len(), 1);
    assert_eq!(receipt["class"], "journal-report");
    assert_eq!(receipt["octets"], report.len());
    assert_eq!(receipt["judgement"]["verdict"], "suspect", "it says it is Exchange's, and comes from here");
    let inbox = receipt["placements"].as_array().unwrap().iter().find(|p| p["folder"] == "INBOX").unwrap();
    let kinds: Vec<&str> = inbox["events"].as_array().unwrap().iter().map(|e| text(e, "kind")).collect();
    assert_eq!(kinds, ["fetched", "deleted"]);

    let traced = site.run(&["trace", &id]).expect(0).stdout;
    for word in [
        &id,
        address,
        "client.example",
        "no TLS",
        "suspect, not held back in observe mode",
        "X-OriginatorOrg comes from a peer that is not in Exchange Online's networks",
        "no client certificate",
        "Journal Outgoing",
        "because",
        "fetched by pop3 from 127.0.0.1",
    ] {
        assert!(traced.contains(word), "{word} is not in\n{traced}");
    }
    let repeated = site.run(&["trace", again]).expect(0).stdout;
    assert!(repeated.contains(&format!("receipt {id}")), "{repeated}");
    let explained = site.run(&["explain", &id]).expect(0).stdout;
    assert!(explained.contains("matched proxy address of user alice"), "{explained}");
    assert!(explained.contains("suspect, not held back"), "{explained}");

    let by_address =
        json_of(&site.run(&["trace", "Alice@contoso.example", "--since", "1h", "--json"]).expect(0));
    assert_eq!(by_address.as_array().unwrap().len(), 2);
    assert_eq!(text(&by_address[0], "receipt_id"), again, "newest first");
    let one = json_of(&site.run(&["trace", "alice@contoso.example", "--limit", "1", "--json"]).expect(0));
    assert_eq!(one.as_array().unwrap().len(), 1);
    site.run(&["trace", &id, "--since", "2999-01-01T00:00:00Z"]).expect(1);

    let alice = json_of(&site.run(&["user", "show", "alice", "--json"]).expect(0));
    assert_eq!(alice[0]["folders"][0]["entries"], 1);
    let list = site.run(&["user", "list"]).expect(0).stdout;
    assert!(list.contains("Alice Archer") && list.contains("Bob Baker"), "{list}");

    site.run(&["mailbox", "suspend", login]).expect(0);
    assert!(server.send(address, &report).starts_with("450 "), "suspended");
    let left = site.run(&["mailbox", "delete", login, "--yes"]).expect(4);
    assert!(left.stderr.contains("--force"), "{}", left.stderr);
    site.run(&["mailbox", "delete", login, "--yes", "--force"]).expect(0);
    assert!(server.send(address, &report).starts_with("550 "), "deleted");
    assert!(site.run(&["trace", &id]).expect(0).stdout.contains("deleted since"));

    assert_eq!(server.terminate(), 0);
    // Asked of the store itself the story is the same, and no password is in any log.
    assert_eq!(
        json_of(&site.run(&["trace", &id, "--json"]).expect(0))[0]["placements"],
        receipt["placements"]
    );
    let log = server.log();
    assert!(!log.contains(password), "a password in the log");
    assert!(log.lines().filter(|line| line.contains(&id)).count() >= 2, "the id greps the story: {log}");
    for event in ["mailbox.suspended", "mailbox.deleted"] {
        assert!(log.contains(event), "{log}");
    }
}

#[test]
fn a_crash_leaves_nothing_in_the_way() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    let mut server = site.serve();
    let reply = server.send(text(&made, "address"), &corpus(REPORT));
    let id = reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}"));
    server.kill();
    assert!(site.path("data/admin.sock").exists() && site.path("data/ports.json").exists());
    // A command finds nobody at the socket and opens the store itself.
    site.run(&["trace", id]).expect(0);
    site.run(&["readyz"]).expect(3);
    fs::remove_file(site.path("data/ports.json")).unwrap();
    let mut server = site.serve();
    site.run(&["trace", id]).expect(0);
    assert_eq!(server.terminate(), 0);
}

#[test]
fn users_are_read_again_when_the_file_changes_and_a_bad_one_changes_nothing() {
    let site = Site::new();
    create(&site, "Contoso");
    let mut server = site.serve();
    let more = format!(
        "{USERS}\n[[user]]\nid = \"carol\"\nname = \"Carol\"\naddresses = [\"carol@contoso.example\"]\n"
    );
    site.write("users.toml", &more);
    server.wait_for("directory.reloaded");
    site.run(&["user", "show", "carol"]).expect(0);
    site.write("users.toml", "[[user]]\nid = \"only\"\n");
    server.signal("HUP");
    server.wait_for("directory.kept");
    server.wait_for("tls.reloaded");
    site.run(&["user", "show", "carol"]).expect(0);
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_name_from_an_admin_reaches_no_terminal_unescaped() {
    let site = Site::new();
    let made = create(&site, "zo\u{eb} \u{202e}gnp.exe");
    assert_eq!(made["name"], "zo\u{eb} \u{202e}gnp.exe");
    for arguments in [&["mailbox", "list"] as &[&str], &["mailbox", "list", "--json"]] {
        let shown = site.run(arguments).expect(0).stdout;
        assert!(shown.contains("zo\u{eb}") && !shown.contains('\u{202e}'), "{shown}");
    }
    site.run(&["mailbox", "create", "--name", "two\nlines"]).expect(2);
}

#[test]
fn inspect_says_of_every_sample_what_is_expected_from_a_file_and_from_a_pipe() {
    let site = Site::new();
    for (number, sample) in messages::messages().into_iter().enumerate() {
        let expect = fs::read_to_string(sample.with_extension("expect.json")).unwrap();
        let expect: Value = serde_json::from_str(&expect).unwrap();
        let file = sample.to_str().unwrap();
        let outcome = site.run(&["inspect", file, "--json"]);
        let said = json_of(&outcome);
        assert_eq!(outcome.code, i32::from(said["class"] == "unreadable"), "{file}");
        for key in ["class", "bytes", "sha256", "destination", "parent_message_id"] {
            if let Some(wanted) = expect.get(key) {
                assert_eq!(&said[key], wanted, "{key} of {file}");
            }
        }
        let hashes = |value: &Value| -> Vec<String> {
            let reports = value["reports"].as_array().cloned().unwrap_or_default();
            let originals =
                reports.iter().flat_map(|r| r["originals"].as_array().cloned().unwrap_or_default());
            let mut hashes: Vec<String> =
                originals.filter_map(|o| Some(o["sha256"].as_str()?.to_owned())).collect();
            hashes.sort();
            hashes
        };
        if !hashes(&expect).is_empty() {
            assert_eq!(hashes(&said), hashes(&expect), "originals of {file}");
        }
        // The same octets by the same path from here on: one in eight will do.
        if number % 8 == 0 {
            let piped = site.run_with_input(&["inspect", "-", "--json"], &fs::read(&sample).unwrap());
            assert_eq!(piped.stdout, outcome.stdout, "{file} from a pipe");
        }
    }
}

#[test]
fn inspect_reads_plainly_for_people_and_unwraps_nothing_under_generic() {
    let site = Site::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(REPORT);
    let file = path.to_str().unwrap();
    let shown = site.run(&["inspect", file]).expect(0).stdout;
    for word in ["journal-report", "sender", "alice@contoso.example", "original", "sha256"] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
    let generic = json_of(&site.run(&["inspect", file, "--profile", "generic", "--json"]).expect(0));
    assert_eq!((&generic["class"], &generic["reports"]), (&json!("plain"), &json!([])));
    site.run(&["inspect", "no-such-file"]).expect(3);
    site.run(&["inspect", "."]).expect(3);
}

#[test]
fn two_commands_at_once_wait_for_each_other() {
    let site = Site::new();
    create(&site, "First");
    std::thread::scope(|scope| {
        for name in ["Second", "Third", "Fourth"] {
            let site = &site;
            scope.spawn(move || create(site, name));
        }
    });
    assert_eq!(json_of(&site.run(&["mailbox", "list", "--json"]).expect(0)).as_array().unwrap().len(), 4);
    wait_until("the lock to be free", || site.run(&["mailbox", "list"]).code == 0);
}

/// A session that has begun to send a message.
fn amid_a_message(server: &support::Server<'_>, to: &str) -> support::Smtp {
    let mut smtp = support::Smtp::connect(server.port("smtp"));
    assert!(smtp.say("MAIL FROM:<>").starts_with("250"));
    assert!(smtp.say(&format!("RCPT TO:<{to}>")).starts_with("250"));
    assert!(smtp.say("DATA").starts_with("354"));
    smtp
}

#[test]
fn a_message_on_its_way_is_taken_before_the_end() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    let mut server = site.serve();
    let mut smtp = amid_a_message(&server, text(&made, "address"));
    server.signal("TERM");
    server.wait_for("service.stopping");
    // The administration goes on while the rest drains; new mail is not taken any more.
    site.run(&["mailbox", "list"]).expect(0);
    assert!(site.run(&["readyz"]).expect(1).stdout.contains("the server is stopping"));
    let reply = smtp.say("Subject: last\r\n\r\nwords\r\n.");
    let id = reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}"));
    assert_eq!(server.wait(), 0);
    site.run(&["trace", id]).expect(0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    let mut server = site.serve();
    let _held = amid_a_message(&server, text(&made, "address"));
    server.signal("TERM");
    server.wait_for("service.stopping");
    server.signal("INT");
    assert_eq!(server.wait(), 3);
    assert!(server.log().contains("service.aborted"));
    site.run(&["mailbox", "list"]).expect(0);
}

#[test]
fn the_demonstration_is_one_value_for_programs() {
    let site = Site::new();
    let said = site.run(&["--json", "demo"]).expect(0).stdout;
    let value: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(value["held"], true);
    let messages = value["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[3]["receipt"]["placements"][1]["folder"], "Quarantine", "{said}");
    assert!(value.get("kept").is_none(), "no password of what is gone");
}
