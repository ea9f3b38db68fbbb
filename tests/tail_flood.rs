//! A flood of events and a tail that takes none of them, in this process, which is where the events are made.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use daybook::admin::{self, Request, Response};
use daybook::cli::Daybook;
use daybook::config::{Imap, Settings};
use daybook::observe::{self, FileLog, Filter, Format, Level};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Octets of memory this process holds.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[test]
fn a_stuck_tail_slows_nothing_costs_bounded_memory_and_is_told_what_it_lost() {
    const EVENTS: u64 = 100_000;
    /// Events the server itself may make meanwhile.
    const OTHERS_MAX: u64 = 1_000;
    /// A good half of what all events would take.
    const MEMORY_MAX: usize = 64 * 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daybook.log");
    let file = FileLog { path: path.clone(), rotate_octets: 0, rotate_days: 0, keep: 1 };
    let setup = observe::Setup { format: Format::Json, level: Level::Warn, file: Some(file), tap: true };
    observe::init(setup).unwrap();
    // Ours makes panics events: this test could not say why it fails.
    drop(std::panic::take_hook());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let data_dir = dir.path().join("data");
    let mut settings = Settings::with_defaults("gw.example", &["gw.example"], &data_dir);
    let loopback = || vec!["127.0.0.1:0".parse().unwrap()];
    (settings.smtp.listen, settings.pop3.listen, settings.pop3.listen_tls) =
        (loopback(), loopback(), loopback());
    settings.imap = Some(Imap { listen: loopback(), listen_tls: loopback() });
    let running = runtime.block_on(Daybook::start(settings)).unwrap();

    let mut stuck = UnixStream::connect(data_dir.join("admin.sock")).unwrap();
    stuck.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let filter = Filter { event: Some("test.".to_owned()), ..Filter::default() };
    let request = serde_json::to_string(&Request::Tail { filter, lines: 0, follow: true }).unwrap();
    stuck.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut stuck = BufReader::new(stuck);
    let mut answer = String::new();
    stuck.read_line(&mut answer).unwrap();
    assert!(answer.contains("tailing"), "{answer}");

    let before = resident();
    for n in 0..EVENTS {
        tracing::info!(target: "daybook", event = "test.event", n, text = "x".repeat(200));
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < MEMORY_MAX, "{grown}");
    assert!(matches!(admin::ask(&data_dir, &Request::Ready).unwrap(), Response::Ready(ready) if ready.ready));

    // Told before each gap in the numbers, and for nothing else. Among the lost may be events that the server made meanwhile.
    let (mut next, mut lost, mut told, mut others) = (0, 0, 0, 0);
    while next < EVENTS {
        let mut line = String::new();
        assert!(stuck.read_line(&mut line).unwrap() > 0);
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["event"] == "tail.dropped" {
            told += event["lines"].as_u64().unwrap();
            continue;
        }
        let n = event["n"].as_u64().unwrap();
        let gap = n.checked_sub(next).unwrap_or_else(|| panic!("{n} comes after {next}"));
        assert!(gap <= told, "{gap} lost, {told} told");
        (lost, others) = (lost + gap, others + told - gap);
        (next, told) = (n + 1, 0);
    }
    assert!(lost > 0);
    assert!(others <= OTHERS_MAX, "{others} told of too many");
    runtime.block_on(running.stop());
    assert!(!fs::read_to_string(path).unwrap().contains("test.event"), "below the log's level");
}
