//! Runs the fuzz targets of `tests/fuzz` over every input in `corpus/crashes`, and the session's over the dialogues of
//! `corpus/smtp` as well, so that what was found once is looked for in every build.
//!
//! `FUZZ_SEEDS=directory cargo test --test fuzz_replay` writes the inputs the fuzzer starts from.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/fuzz/address.rs"]
mod address;
#[path = "support/fuzz/data_scanner.rs"]
mod data_scanner;
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

fn replay(target: &str, run: fn(&[u8])) {
    for path in files(&format!("corpus/crashes/{target}"), None) {
        try_one(&path.display().to_string(), run, &std::fs::read(&path).unwrap());
    }
}

fn try_one(whence: &str, run: fn(&[u8]), input: &[u8]) {
    let ran = catch_unwind(AssertUnwindSafe(|| run(input)));
    assert!(ran.is_ok(), "{whence}: see above");
}

/// What the clients of the dialogues send, behind the settings of the target.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for path in files("corpus/smtp", Some("txt")) {
        let play = Play::read(&path);
        let sent: Vec<u8> = play.scenes.iter().flat_map(|scene| scene.sent.clone()).collect();
        // Long lines teach the fuzzer nothing but to be slow.
        if sent.len() < 4_000 {
            let settings = 0x40 | if play.require_tls { 0x80 } else { 0 };
            seeds.push((play.name, [&[settings, 2, 40, 30], sent.as_slice()].concat()));
        }
    }
    seeds
}

#[test]
fn the_session_keeps_its_promises_over_all_that_was_ever_found() {
    replay("smtp_session", smtp_session::run);
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

#[test]
fn the_scanner_agrees_with_the_reference_over_all_that_was_ever_found() {
    replay("data_scanner", data_scanner::run);
}

#[test]
fn addresses_are_read_as_written_over_all_that_was_ever_found() {
    replay("address", address::run);
}

#[test]
fn seeds_are_written_where_asked() {
    let Some(directory) = std::env::var_os("FUZZ_SEEDS") else { return };
    let directory = Path::new(&directory);
    for target in ["smtp_session", "data_scanner", "address"] {
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
}
