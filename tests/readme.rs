//! The README tells no lies: its configurations are configurations, every `daybook` command in it does what it says, and every
//! file it names is there. With the feature `real` its two set-ups are followed to the letter (`real/literal.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/opened.rs"]
mod opened;

#[path = "support/readme.rs"]
mod page;

#[path = "support/daybook.rs"]
mod support;

#[cfg(feature = "real")]
#[path = "real/literal.rs"]
mod literal;

use std::fs;
use std::path::Path;
use std::process::Command;
use support::{Outcome, Server, Site, USERS, corpus};

const COMMANDS: &str = "Two commands";
const TRIAL: &str = "Try it with a configuration of your own";
const SETUP: &str = "Ten minutes to a real tenant";
const USERS_FROM: &str = "Users from your directory";
const FETCHING: &str = "Fetching";
const RUNNING: &str = "Running it";
const MOVING: &str = "Backup and restore";

/// What the README shows that a test machine cannot have: fixed ports.
const FREE_PORTS: &str = "[smtp]\nlisten = [\"127.0.0.1:0\"]\n[pop3]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = [\"127.0.0.1:0\"]\n\
                          [imap]\nlisten = []\nlisten_tls = []\n";

/// The `daybook` part of a line: without `sudo` before it and a pipe behind it.
fn daybook_command(line: &str) -> Option<Vec<&str>> {
    let line = line.strip_prefix("sudo ").unwrap_or(line).strip_prefix("daybook ")?;
    Some(line.split(" | ").next().unwrap().split_whitespace().collect())
}

/// Runs a line of the README on `site`, whatever configuration it names.
fn run(site: &Site, arguments: &[&str]) -> Outcome {
    let own: Vec<&str> = match arguments {
        ["--config", _, rest @ ..] => rest.to_vec(),
        all => all.to_vec(),
    };
    // What it writes elsewhere it writes beside the site.
    let there = |word: &&str| match word.strip_prefix("/var/") {
        Some(place) => site.path(place).to_string_lossy().into_owned(),
        None => (*word).to_owned(),
    };
    let own: Vec<String> = own.iter().map(there).collect();
    site.run(&own.iter().map(String::as_str).collect::<Vec<_>>())
}

fn value_of<'t>(key: &str, text: &'t str) -> &'t str {
    let mut words = text.lines().map(str::split_whitespace).find(|words| words.clone().next() == Some(key));
    words.as_mut().and_then(|words| words.nth(1)).unwrap_or_else(|| panic!("no {key} in {text}"))
}

#[test]
fn the_trial_takes_a_report_to_the_folders_it_names() {
    let config = page::file(TRIAL, "daybook.toml");
    let config = ["2525", "2110", "2995", "2143", "2993"].iter().fold(config, |text, port| {
        assert!(text.contains(port), "{port}");
        text.replace(port, "0")
    });
    let site = Site::new();
    site.write("daybook.toml", &config);
    site.write("users.toml", &page::file(TRIAL, "users.toml"));

    let (mut server, mut address): (Option<Server<'_>>, Option<String>) = (None, None);
    let mut done = 0;
    for line in page::commands(TRIAL) {
        if line.contains("--upload-file corpus/demo/report.eml") {
            let (server, address) = (server.as_ref().unwrap(), address.as_deref().unwrap());
            let reply = server.send(address, &corpus("demo/report.eml"));
            assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
        }
        let Some(arguments) = daybook_command(&line) else { continue };
        done += 1;
        if arguments.last() == Some(&"serve") {
            server = Some(site.serve());
            continue;
        }
        let said = run(&site, &arguments).expect(0).stdout;
        if line.contains("mailbox create") {
            address = Some(value_of("address", &said).to_owned());
            assert!(value_of("password", &said).len() > 20, "{said}");
        }
        if line.contains("mailbox show") {
            let folders = [
                "INBOX",
                "Users/alice@contoso.example/Journal Outgoing",
                "Users/bob@contoso.example/Journal Incoming",
            ];
            assert!(folders.iter().all(|folder| said.contains(folder)), "{said}");
        }
        if line.contains(" trace ") {
            assert!(said.contains("Users/bob@contoso.example/Journal Incoming"), "{said}");
        }
    }
    assert!(done >= 5, "the trial has its commands");
    assert_eq!(server.unwrap().terminate(), 0, "SIGTERM ends it in good order");
}

#[test]
fn every_command_of_setup_and_running_does_what_it_says() {
    let site = Site::with("", USERS);
    let config = page::file(SETUP, "daybook.toml");
    assert!(config.contains("\"/var/lib/daybook\"") && config.contains("[tls]"), "{config}");
    // As printed but for what a test machine cannot have: low ports, /var/lib, a certificate.
    let (head, tail) = config.split_once("[tls]").unwrap();
    let (_, directory) = tail.split_once("[[directory]]").unwrap();
    let config = format!("{head}{FREE_PORTS}[[directory]]{directory}").replace("/var/lib/daybook", "data");
    site.write("daybook.toml", &config);
    site.write("users.toml", &page::file(SETUP, "users.toml"));

    run(&site, &["config", "check"]).expect(0);
    let server = site.serve();
    let lines: Vec<String> = [SETUP, USERS_FROM, RUNNING].into_iter().flat_map(page::commands).collect();
    let mut done = 0;
    for line in &lines {
        let Some(arguments) = daybook_command(line) else { continue };
        done += 1;
        let outcome = run(&site, &arguments);
        let wanted = match arguments.as_slice() {
            // Looks at the DNS, which a test must not; tests/doctor.rs tries it on a DNS of its own.
            ["doctor", ..] => continue,
            // Nothing has been received yet: a trace that finds nothing says so.
            ["trace", ..] => 1,
            _ => 0,
        };
        let said = outcome.expect(wanted).stdout;
        if line.contains("mailbox create") {
            assert!(said.contains("mbx-") && said.contains("password"), "{said}");
        }
        if line.contains("mailbox list") || line.contains("mailbox show") || line.contains(" status") {
            assert!(said.contains("Contoso"), "{line}: {said}");
        }
        if line.contains("user list") {
            assert!(said.contains("alice@contoso.com"), "{said}");
        }
    }
    assert!(done >= 12, "{done} of {lines:?}");
    drop(server);
}

/// Runs lines that need no `daybook`, as a reader types them but for the places.
fn type_in(site: &Site, text: &str) {
    let text = text
        .replace("sudo ", "")
        .replace("/var/lib/daybook", &site.path("data").to_string_lossy())
        .replace("/var/backups", &site.path("backups").to_string_lossy());
    let status = Command::new("sh").args(["-euc", &text]).status().unwrap();
    assert!(status.success(), "{text}");
}

#[test]
fn a_backup_and_a_plain_copy_are_made_and_restored_as_it_says() {
    let site = Site::with("", USERS);
    let account = opened::Account::create(&site, &[]);
    let mut server = site.serve();
    account.receives(&server, &corpus("demo/report.eml"));
    let held = account.holds(&site);
    assert!(held.len() > 1, "{held:?}");
    let (mut restoring, mut copies) = (Vec::new(), 0);
    for block in page::shell(MOVING) {
        if block.contains(" restore ") {
            restoring.push(block);
        } else if block.contains("flock") {
            type_in(&site, &block);
            copies += 1;
        } else {
            // Twice: the next one into the same folder.
            for line in block.lines().chain(block.lines()) {
                run(&site, &daybook_command(line).expect(line)).expect(0);
            }
        }
    }
    assert_eq!((restoring.len(), copies), (1, 1));
    let again = restoring[0]
        .replace("/var/backups/daybook", "/var/backups/daybook-copy")
        .replace("/var/lib/daybook.before", "/var/lib/daybook.before-that");
    for block in [&restoring[0], &again] {
        for line in block.lines() {
            match line {
                "sudo systemctl stop daybook" => assert_eq!(server.terminate(), 0),
                "sudo systemctl start daybook" => server = site.serve(),
                line if line.starts_with("sudo mv ") => type_in(&site, line),
                // There is one user here.
                line if line.starts_with("sudo chown ") => {}
                line => drop(run(&site, &daybook_command(line).expect(line)).expect(0)),
            }
        }
        assert_eq!(account.holds(&site), held);
        assert_eq!(server.pop3s(&account.login, &account.password).unwrap().count(), 1);
    }
}

#[test]
fn every_command_in_a_table_of_commands_does_what_it_says() {
    let site = Site::new();
    let account = opened::Account::create(&site, &[]);
    site.write("password", &account.password);
    let blocks = page::blocks().into_iter().filter(|block| block.language == "text");
    let lines: Vec<String> =
        blocks.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let mut done = 0;
    for line in lines.iter().filter(|line| line.starts_with("daybook ")) {
        let words = daybook_command(line.split('#').next().unwrap()).unwrap();
        let given = words.into_iter().map(|word| match word {
            "ADDRESS" => account.address.as_str(),
            "FILE" | "OLD" => "password",
            word => word,
        });
        site.run(&given.collect::<Vec<_>>()).expect(0);
        done += 1;
    }
    assert!(done >= 3, "{lines:?}");
    assert!(site.path("keys.txt").exists());
}

#[test]
fn the_demonstration_holds_and_cleans_up() {
    assert!(
        page::commands(COMMANDS).iter().any(|l| l == "cargo run --release -- demo"),
        "the README shows it"
    );
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .arg("demo")
        .current_dir(scratch.path())
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in [
        "report.eml",
        "fork.eml",
        "ndr.eml",
        "hopeless.eml",
        "Quarantine",
        "the same as sent",
        "Everything held",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn what_is_said_of_fetching_is_done() {
    let site = Site::new();
    run(&site, &["mailbox", "create", "--name", "Contoso"]).expect(0);
    let mut done = 0;
    for line in page::commands(FETCHING) {
        let arguments = daybook_command(&line).unwrap_or_else(|| panic!("not ours: {line}"));
        run(&site, &arguments).expect(0);
        done += 1;
    }
    assert_eq!(done, 1);
    let shown = run(&site, &["mailbox", "show", "Contoso", "--json"]).expect(0).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["maildrop"], "originals");
}

#[test]
fn the_test_command_is_the_one_that_runs_in_ci() {
    assert!(page::commands(COMMANDS).iter().any(|l| l == "cargo test"));
    let ci = fs::read_to_string(page::repository().join(".ci/run")).unwrap();
    assert!(ci.contains("\ncargo test --locked\n"));
}

#[test]
fn every_file_it_names_is_there() {
    let text = page::text();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links: Vec<&str> = links.filter(|link| !link.contains("://")).collect();
    assert!(links.len() >= 4, "{links:?}");
    let named = text.split(|c: char| c.is_whitespace() || "`()[]\"".contains(c));
    let folders = ["config/", "corpus/", "benches/", "tests/", "src/"];
    let named = named.filter(|word| folders.iter().any(|folder| word.starts_with(folder)));
    for path in links.into_iter().chain(named) {
        let path = path.trim_end_matches(['.', ',', ':', ';']);
        assert!(Path::new(&page::repository().join(path)).exists(), "README names {path}");
    }
}

#[test]
fn nothing_it_shows_is_left_untried() {
    // Blocks in other languages cannot be run here; a new kind must be thought about.
    for block in page::blocks() {
        let tried =
            [COMMANDS, TRIAL, SETUP, USERS_FROM, FETCHING, RUNNING, MOVING].contains(&block.section.as_str());
        match block.language.as_str() {
            "sh" => assert!(tried, "commands under \"{}\" are run by no test", block.section),
            // With the three required keys, each is a configuration.
            "toml" => {
                let required = page::file(SETUP, "daybook.toml");
                let whole = format!("{}\n{}", required.split("[tls]").next().unwrap(), block.text);
                if let Err(errors) = daybook::config::parse(&whole, Path::new("/etc/daybook")) {
                    panic!("{errors}\n{whole}");
                }
            }
            // Exchange Online PowerShell, DNS zones, other programs' files.
            "powershell" | "text" => {}
            other => panic!("a block in {other} under \"{}\"", block.section),
        }
    }
}
