//! Runs the fuzz targets of `tests/fuzz` over every input in `corpus/crashes`, those of sessions over the dialogues of their
//! protocol, and those that read messages over the messages of the corpus as well, so that what was found once is looked for in
//! every build.
//!
//! The targets themselves are built by nobody but who fuzzes: they hold nothing but a call, and a test here compares what there is of
//! each.
//!
//! `FUZZ_SEEDS=directory cargo test --test fuzz_replay` writes the inputs the fuzzer starts from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::string_slice)] // Tests fail by panicking.

#[path = "support/fuzz/address.rs"]
mod address;
#[path = "support/fuzz/assign.rs"]
mod assign;
#[path = "support/fuzz/classify.rs"]
mod classify;
#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/fuzz/csv_list.rs"]
mod csv_list;
#[path = "support/fuzz/data_scanner.rs"]
mod data_scanner;
#[path = "support/fetch_play.rs"]
mod fetch_play;
#[path = "support/fuzz/imap_command.rs"]
mod imap_command;
#[path = "support/fuzz/mime.rs"]
mod mime;
#[path = "support/fuzz/pop3_command.rs"]
mod pop3_command;
#[path = "support/fuzz/report_body.rs"]
mod report_body;
#[path = "support/smtp_fake.rs"]
#[expect(dead_code, reason = "only the names of the faults are needed")]
mod smtp_fake;
#[path = "support/smtp_play.rs"]
#[expect(dead_code, reason = "only what the clients send is needed")]
mod smtp_play;
#[path = "support/fuzz/smtp_session.rs"]
mod smtp_session;

use smtp_play::Play;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn files(directory: &str, extension: Option<&str>) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| extension.is_none_or(|extension| path.extension().is_some_and(|e| e == extension)));
    paths.sort();
    assert!(!paths.is_empty(), "nothing to replay");
    paths
}

type Run = fn(&[u8]);

/// Every target and what it runs.
const TARGETS: [(&str, Run); 10] = [
    ("address", address::run),
    ("assign", assign::run),
    ("classify", classify::run),
    ("csv_list", csv_list::run),
    ("data_scanner", data_scanner::run),
    ("imap_command", imap_command::run),
    ("mime", mime::run),
    ("pop3_command", pop3_command::run),
    ("report_body", report_body::run),
    ("smtp_session", smtp_session::run),
];

/// Longer inputs teach the fuzzer nothing but to be slow.
const SEED_OCTETS_MAX: usize = 4_000;

/// How a message of the corpus is cut: sizes of chunks for `mime`, ends of a prefix for `classify`, in 256ths.
const CUTS: [u8; 8] = [7, 16, 65, 112, 163, 201, 230, 250];

fn replay(target: &str) {
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    for path in files(&format!("corpus/crashes/{target}"), None) {
        try_one(&path.display().to_string(), run, &std::fs::read(&path).unwrap());
    }
}

fn try_one(whence: &str, run: Run, input: &[u8]) {
    let ran = catch_unwind(AssertUnwindSafe(|| run(input)));
    assert!(ran.is_ok(), "{whence}: see above");
}

/// What the clients of the dialogues send, behind the settings of the target.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for path in files("corpus/smtp", Some("txt")) {
        let play = Play::read(&path);
        let sent: Vec<u8> = play.scenes.iter().flat_map(|scene| scene.sent.clone()).collect();
        if sent.len() < SEED_OCTETS_MAX {
            let settings = 0x40 | if play.require_tls { 0x80 } else { 0 };
            seeds.push((play.name, [&[settings, 2, 40, 30], sent.as_slice()].concat()));
        }
    }
    seeds
}

#[test]
fn the_session_keeps_its_promises_over_all_that_was_ever_found() {
    replay("smtp_session");
}

#[test]
fn the_session_keeps_its_promises_over_the_dialogues_whatever_the_receiver_does() {
    for (index, (name, mut seed)) in seeds().into_iter().enumerate() {
        // All settings come up over the dialogues, a part of them with each.
        for settings in (0..=u8::MAX).skip(index % 7).step_by(7) {
            seed[0] = settings;
            try_one(&format!("{name} with settings {settings:#x}"), smtp_session::run, &seed);
        }
    }
}

/// What the clients of the POP3 plays send, one after the other.
fn pop3_seeds() -> Vec<(String, Vec<u8>)> {
    let play = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let play = fetch_play::Play::parse(&name, &std::fs::read_to_string(&path).unwrap());
        let sent = play.acts.into_iter().filter_map(|act| match act {
            fetch_play::Act::Send(_, octets) => Some(octets),
            _ => None,
        });
        (name, [vec![0], sent.flatten().collect()].concat())
    };
    files("corpus/pop3", Some("txt")).into_iter().map(play).collect()
}

#[test]
fn the_pop3_session_keeps_its_promises_over_all_that_was_ever_found_and_the_dialogues() {
    replay("pop3_command");
    for (name, mut seed) in pop3_seeds() {
        for settings in 0..64 {
            seed[0] = settings;
            try_one(&format!("{name} with settings {settings:#x}"), pop3_command::run, &seed);
        }
    }
}

#[test]
fn the_imap_session_keeps_its_promises_over_all_that_was_ever_found_whoever_else_is_there() {
    replay("imap_command");
    for path in files("corpus/crashes/imap_command", None) {
        let mut input = std::fs::read(&path).unwrap();
        for settings in 0..64 {
            input[0] = settings;
            input[1] = settings.wrapping_mul(37);
            try_one(&format!("{} with settings {settings:#x}", path.display()), imap_command::run, &input);
        }
    }
}

#[test]
fn the_scanner_agrees_with_the_reference_over_all_that_was_ever_found() {
    replay("data_scanner");
}

#[test]
fn addresses_are_read_as_written_over_all_that_was_ever_found() {
    replay("address");
}

#[test]
fn assignment_keeps_its_promises_over_all_that_was_ever_found() {
    replay("assign");
}

/// The lists of the corpus, behind the settings of the target.
fn csv_seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let preset = u8::from(name.starts_with("exchange-"));
        (name, [&[preset], &with_cuts(&std::fs::read(&path).unwrap())[..]].concat())
    };
    files("corpus/directory", Some("csv")).into_iter().map(seed).collect()
}

#[test]
fn lists_are_whole_or_not_taken_over_all_that_was_ever_found_and_the_corpus() {
    replay("csv_list");
    for (name, seed) in csv_seeds() {
        try_one(&name, csv_list::run, &seed);
    }
}

#[test]
fn report_texts_are_read_as_they_should_over_all_that_was_ever_found() {
    replay("report_body");
}

#[test]
fn messages_are_scanned_as_they_should_over_all_that_was_ever_found_and_the_corpus() {
    replay("mime");
    over_the_corpus(mime::run);
}

#[test]
fn messages_are_classified_as_they_should_over_all_that_was_ever_found_and_the_corpus() {
    replay("classify");
    over_the_corpus(classify::run);
}

fn over_the_corpus(run: Run) {
    for path in corpus::messages() {
        try_one(&path.display().to_string(), run, &with_cuts(&std::fs::read(&path).unwrap()));
    }
}

fn with_cuts(message: &[u8]) -> Vec<u8> {
    [&[CUTS.len() as u8], CUTS.as_slice(), message].concat()
}

/// The text parts of a report, behind the settings of the target: each that holds what looks like a field of one.
fn report_texts(message: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(message).into_owned();
    let texts =
        text.split("\r\n\r\n").filter(|text| text.contains("Sender:") && text.len() < SEED_OCTETS_MAX);
    texts.enumerate().map(|(n, text)| [&[n as u8 % 24], text.as_bytes()].concat()).collect()
}

/// Names in a directory, without `.rs`.
fn names(directory: &str) -> Vec<String> {
    let stem = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
    let mut names: Vec<String> = files(directory, None).into_iter().map(stem).collect();
    names.retain(|name| name != "README.md");
    names
}

#[test]
fn what_is_fuzzed_is_what_is_replayed() {
    let ours = TARGETS.map(|(name, _)| name.to_owned()).to_vec();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest: toml::Table = std::fs::read_to_string(package.join("Cargo.toml")).unwrap().parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let mut named: Vec<String> = bins.iter().map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
    named.sort();
    assert_eq!(named, ours, "tests/fuzz/Cargo.toml");
    for bin in bins {
        let name = bin["name"].as_str().unwrap();
        assert_eq!(bin["path"].as_str(), Some(format!("targets/{name}.rs").as_str()));
        let wrapper = format!(
            "//! See `tests/support/fuzz/{name}.rs`.\n#![no_main]\n\n#[path = \"../../support/fuzz/{name}.rs\"]\nmod {name};\n\n\
             libfuzzer_sys::fuzz_target!(|octets: &[u8]| {name}::run(octets));\n"
        );
        let target = std::fs::read_to_string(package.join(format!("targets/{name}.rs"))).unwrap();
        assert_eq!(target, wrapper, "what is not compiled here must not hold anything that can break");
    }
    for directory in ["tests/fuzz/targets", "tests/support/fuzz", "corpus/crashes"] {
        assert_eq!(names(directory), ours, "{directory}");
    }
    let readme = std::fs::read_to_string(package.join("README.md")).unwrap();
    assert!(ours.iter().all(|name| readme.contains(&format!("| `{name}` |"))), "tests/fuzz/README.md");
}

#[test]
fn seeds_are_written_where_asked() {
    let Some(directory) = std::env::var_os("FUZZ_SEEDS") else { return };
    let directory = Path::new(&directory);
    for (target, _) in TARGETS {
        std::fs::create_dir_all(directory.join(target)).unwrap();
    }
    for (name, seed) in seeds() {
        std::fs::write(directory.join("smtp_session").join(&name), &seed).unwrap();
        std::fs::write(directory.join("data_scanner").join(&name), &seed[1..]).unwrap();
        for (index, line) in seed[4..].split(|octet| *octet == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let address = line.split(|octet| b"<>".contains(octet)).nth(1).unwrap_or(line);
            std::fs::write(directory.join("address").join(format!("{name}-{index}")), address).unwrap();
        }
    }
    for (name, seed) in csv_seeds() {
        std::fs::write(directory.join("csv_list").join(&name), &seed).unwrap();
    }
    for (name, mut seed) in pop3_seeds() {
        seed[0] = 0x07;
        std::fs::write(directory.join("pop3_command").join(&name), &seed).unwrap();
    }
    for path in corpus::messages() {
        let message = std::fs::read(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if message.len() >= SEED_OCTETS_MAX {
            continue;
        }
        for target in ["classify", "mime"] {
            std::fs::write(directory.join(target).join(name), with_cuts(&message)).unwrap();
        }
        for (index, text) in report_texts(&message).iter().enumerate() {
            std::fs::write(directory.join("report_body").join(format!("{name}-{index}")), text).unwrap();
        }
    }
    for target in ["assign", "imap_command"] {
        for path in files(&format!("corpus/crashes/{target}"), None) {
            std::fs::copy(&path, directory.join(target).join(path.file_name().unwrap())).unwrap();
        }
    }
}
