//! Messages made to hurt break nothing: no panic, no overflow of a thread's stack, little memory, and what cannot be read to its end is
//! in quarantine whole.
//!
//! Each is read from a file by a process of its own, whose peak of memory is looked at. `DAYBOOK_LONG=1` takes the full sizes; the short ones are
//! beyond the same limits. How long they take is for `benches/linear.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are to be read")]

#[path = "departures/child.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod child;
#[path = "support/extracted.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod extracted;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/process_memory.rs"]
mod process_memory;
#[path = "support/pipeline.rs"]
mod support;
#[path = "support/wrap.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod wrap;

use daybook::extract::{Destination, Scanner, extract};
use daybook::mail::Profile;
use daybook::store::FolderName;
use hostile::{Fate, GENERATORS, Generator, Made};
use process_memory::{forget_peak, memory_kib};
use std::fs::File;
use std::io::Read;
use std::time::Instant;

/// Names the generator to a child, and the file that holds its message.
const WHICH: &str = "DAYBOOK_HOSTILE";
const FILE: &str = "DAYBOOK_HOSTILE_FILE";

/// As the SMTP side hands a message over.
const CHUNK_OCTETS: usize = 64 * 1024;

/// Most memory that reading any message may take, besides its octets: of header blocks 8 MiB are kept, of report texts 16 MiB,
/// and what is made of them is a small multiple.
const GROWTH_KIB_MAX: u64 = 160 * 1024;

/// What the child says of its peak.
const GREW: &str = "grew by KiB: ";

fn size(generator: &Generator) -> usize {
    let is_long = std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1");
    if is_long { generator.full } else { generator.small }
}

/// Reads the message in `file` and says how much memory that took; only then makes it again to judge what was read.
fn measure(generator: &Generator, mut file: File) {
    let pid = std::process::id();
    let mut chunk = vec![0; CHUNK_OCTETS];
    let (before, clock) = (memory_kib(pid, "VmRSS"), Instant::now());
    forget_peak(pid);
    let mut scanner = Scanner::new();
    loop {
        let octets = file.read(&mut chunk).unwrap();
        if octets == 0 {
            break;
        }
        scanner.push(&chunk[..octets]);
    }
    let found = extract(&scanner.finish(), Profile::Microsoft365);
    println!("{GREW}{}", memory_kib(pid, "VmHWM").saturating_sub(before));
    println!(
        "{} of {}: {} octets in {:.3} s, {:?}",
        generator.name,
        size(generator),
        found.whole.extent.octets,
        clock.elapsed().as_secs_f64(),
        found.destination,
    );
    drop(found);
    judge(generator, &(generator.make)(size(generator)));
}

fn judge(generator: &Generator, made: &Made) {
    let read = extracted::Extracted::of(&made.octets, CHUNK_OCTETS);
    assert_eq!(read.found.whole.extent.octets, made.octets.len() as u64, "the whole is kept");
    let originals = read.originals();
    let first = originals.first().and_then(|originals| originals.first());
    match generator.fate {
        Fate::Quarantined => assert_eq!(read.found.destination, Destination::Quarantine),
        Fate::Assigned => {
            assert_eq!(read.found.destination, Destination::Assign, "{:?}", read.found.defects);
            assert_eq!(read.found.reports[0].envelope.recipients.len(), made.recipients, "recipients");
            assert!(first.is_some(), "no original");
        }
    }
    // What is found is right even when it may not be all.
    assert!(first.is_none_or(|original| *original == made.original), "another original");
}

#[test]
fn hostile_messages_are_kept_whole_in_bounded_memory() {
    let test = "hostile_messages_are_kept_whole_in_bounded_memory";
    let mut failures = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    for generator in GENERATORS {
        let setting = format!("{WHICH}={}", generator.name);
        let file = folder.path().join(generator.name);
        if std::env::var_os(WHICH).is_none() {
            std::fs::write(&file, (generator.make)(size(generator)).octets).unwrap();
        }
        let ended = child::run_under(&["env", &setting, &format!("{FILE}={}", file.display())], test, || {
            let name = std::env::var(WHICH).unwrap();
            let generator = GENERATORS.iter().find(|generator| generator.name == name).unwrap();
            measure(generator, File::open(std::env::var_os(FILE).unwrap()).unwrap());
        });
        std::fs::remove_file(&file).unwrap();
        let said = ended.said();
        let grew = said.lines().find_map(|line| line.strip_prefix(GREW)?.parse::<u64>().ok());
        let figures = said.lines().find(|line| line.starts_with(generator.name)).unwrap_or_default();
        println!("{figures}, {} KiB", grew.unwrap_or_default());
        if !ended.survived() {
            failures.push(format!("{}: {}", generator.name, ended.complaint()));
        } else if grew.is_none_or(|kib| kib > GROWTH_KIB_MAX) {
            failures.push(format!("{}: grew by {grew:?} KiB", generator.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What an outside sender may do to the report of his mail must not keep it from being taken.
#[test]
fn a_report_of_more_recipients_than_are_read_is_taken_and_whole_in_quarantine() {
    let gateway = support::Gateway::new();
    let (made, key) = gateway.create(Profile::Microsoft365);
    for name in ["recipients-beyond-the-limit", "recipients-without-end-on-a-block-line"] {
        let generator = GENERATORS.iter().find(|generator| generator.name == name).unwrap();
        let message = (generator.make)(generator.small).octets;
        gateway.try_send(&[&made], &message, CHUNK_OCTETS).unwrap_or_else(|_| panic!("{name} is not taken"));
        let kept = gateway.read(&key, &FolderName::Quarantine);
        assert!(kept.last() == Some(&message), "{name} is not what is in quarantine");
    }
    assert_eq!(gateway.folders(&made), [("INBOX".to_owned(), 2), ("Quarantine".to_owned(), 2)]);
}
