//! The edge cases of journal reports: `corpus/README.md` says what shows each, and is held to it here. Then those that no message
//! of the corpus can show by itself and no other test does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/corpus.rs"]
mod messages;
#[path = "support/daybook.rs"]
mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use support::{Site, Smtp, corpus};

/// Edge cases there are.
const CASES: usize = 60;

/// A row of a table of `corpus/README.md`: `| key | what must happen | files | tests |`.
struct Row {
    key: String,
    files: BTreeSet<String>,
    tests: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The rows of the table under a heading.
fn rows(heading: &str) -> Vec<Row> {
    let readme = String::from_utf8(corpus("README.md")).unwrap();
    let (_, section) = readme.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with('|'));
    lines
        .skip(2)
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [key, _, files, tests] = cells[..] else { panic!("not four cells: {line}") };
            let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            Row { key: key.to_owned(), files: quoted(files), tests: quoted(tests) }
        })
        .collect()
}

/// The name of a message in the tables, and its expectation.
fn expectations() -> BTreeMap<String, Value> {
    let expectation = |path: &PathBuf| {
        let name = path.strip_prefix(root().join("corpus")).unwrap().with_extension("");
        let expect = std::fs::read(path.with_extension("expect.json"))
            .unwrap_or_else(|error| panic!("the expectation of {}: {error}", name.display()));
        (name.display().to_string(), serde_json::from_slice(&expect).unwrap())
    };
    messages::messages().iter().map(expectation).collect()
}

/// What an expectation says under a key that holds a list.
fn listed(expect: &Value, key: &str) -> Vec<String> {
    let words = expect[key].as_array().into_iter().flatten();
    words.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect()
}

/// A row names just the messages that say they belong to it, and other files that exist.
fn check_files(rows: &[Row], key: &str) {
    let expectations = expectations();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    for row in rows {
        let (others, named): (BTreeSet<_>, BTreeSet<_>) =
            row.files.iter().cloned().partition(|file| file.contains('.'));
        let says_so = |(_, expect): &(&String, &Value)| listed(expect, key).contains(&row.key);
        let said: BTreeSet<String> =
            expectations.iter().filter(says_so).map(|(name, _)| name.clone()).collect();
        assert_eq!(named, said, "row {}: what it names is not what says it belongs there", row.key);
        for file in others {
            assert!(root().join("corpus").join(&file).is_file(), "row {}: no {file}", row.key);
        }
    }
    for (name, expect) in &expectations {
        for said in listed(expect, key) {
            assert!(keys.contains(&said.as_str()), "{name} belongs to {said}, which is no row");
        }
    }
}

/// Every row names a test, and every test it names exists.
fn check_tests(rows: &[Row]) {
    for row in rows {
        assert!(!row.tests.is_empty(), "row {} names no test", row.key);
        for test in &row.tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test} is no test"));
            let code = std::fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("row {}: {file}: {error}", row.key));
            assert!(is_run(&code, name), "row {}: no {name} that is run in {file}", row.key);
        }
    }
}

/// True when the code has a test of this name that is neither ignored nor commented out.
fn is_run(code: &str, name: &str) -> bool {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let begins = [format!("fn {name}("), format!("async fn {name}(")];
    lines.iter().enumerate().any(|(at, line)| {
        let attributes = || lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        begins.iter().any(|begin| line.starts_with(begin))
            && attributes().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
            && !attributes().any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn a_test_that_is_ignored_or_commented_out_shows_nothing() {
    for (code, runs) in [
        ("#[test]\nfn a() {}", true),
        ("#[test]\n    #[cfg(unix)]\n    fn a() {}", true),
        ("#[test]\n#[ignore]\nfn a() {}", false),
        ("#[ignore = \"slow\"]\n#[test]\nfn a() {}", false),
        ("// #[test]\n// fn a() {}", false),
        ("// #[test]\nfn a() {}", false),
        ("fn a() {}", false),
        ("#[test]\nfn ab() {}", false),
    ] {
        assert_eq!(is_run(code, "a"), runs, "{code}");
    }
}

#[test]
fn every_edge_case_names_the_messages_and_tests_that_show_it() {
    let rows = rows("\n## Edge cases\n");
    let numbers: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    assert_eq!(numbers, (1..=CASES).map(|number| number.to_string()).collect::<Vec<_>>());
    check_files(&rows, "edge_cases");
    check_tests(&rows);
}

#[test]
fn every_message_has_an_expectation_with_a_reason_and_a_place_in_a_table() {
    let rows: Vec<Row> = ["\n## Versions, NDRs and look-alikes\n", "\n## Faults of other readers\n"]
        .map(rows)
        .into_iter()
        .flatten()
        .collect();
    check_files(&rows, "topics");
    check_tests(&rows);
    for (name, expect) in expectations() {
        assert!(expect["why"].as_str().is_some_and(|why| !why.is_empty()), "{name} says no reason");
        let places = listed(&expect, "edge_cases").len() + listed(&expect, "topics").len();
        assert!(places > 0, "{name} is in no table");
    }
}

#[test]
fn no_expectation_has_lost_its_message() {
    let mut todo = vec![root().join("corpus")];
    while let Some(folder) = todo.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().ends_with(".expect.json") {
                assert!(path.with_extension("").with_extension("eml").is_file(), "{}", path.display());
            }
        }
    }
}

/// Edge cases 3 and 5.
#[test]
fn a_report_goes_where_rcpt_says_whatever_its_headers_and_mail_from_say() {
    let site = Site::new();
    let made = ["Contoso", "Fabrikam"].map(|name| -> Value {
        let made = site.run(&["mailbox", "create", "--name", name, "--json"]).expect(0).stdout;
        serde_json::from_str(&made).unwrap()
    });
    let text = |which: usize, key: &str| made[which][key].as_str().unwrap().to_owned();
    let report = String::from_utf8(corpus("journal/exchange-online/s01_basic_recipient.eml")).unwrap();
    let other = text(1, "address");
    let server = site.serve();
    let paths = [
        String::new(),
        "journal-ndr@contoso.example".to_owned(),
        "MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.onmicrosoft.example".to_owned(),
        other.clone(),
    ];
    let mut sent = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let to_another =
            format!("To: {other}\r\nCc: {other}\r\nFrom: {other}\r\nX-Original-To: {other}\r\n{report}");
        let message = to_another.replace("-3a8a-46d4-", &format!("-3a8a-{:04}-", 71 + number));
        let mut smtp = Smtp::connect(server.port("smtp"));
        for command in [format!("MAIL FROM:<{path}>"), format!("RCPT TO:<{}>", text(0, "address"))] {
            assert!(smtp.say(&command).starts_with("250"), "{command}");
        }
        assert!(smtp.say("DATA").starts_with("354"));
        assert!(!message.contains("\n."), "no line needs a dot");
        let reply = smtp.say(&format!("{message}."));
        assert!(reply.starts_with("250 2.0.0 Ok "), "{path}: {reply}");
        sent.push(message.into_bytes());
    }
    let mut first = server.pop3s(&text(0, "login"), &text(0, "password")).unwrap();
    let got: Vec<Vec<u8>> = (1..=first.count()).map(|number| first.retrieve(number)).collect();
    assert!(got == sent, "{} of {} came, or not as they were sent", got.len(), sent.len());
    assert_eq!(server.pop3s(&text(1, "login"), &text(1, "password")).unwrap().count(), 0);
}
