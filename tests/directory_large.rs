//! A large directory, of users with three addresses each: what a sync of it takes in time and memory, from the listing to what is
//! kept on disk and in force, and what a start takes after it. For figures, optimised:
//! `DAYBOOK_DIRECTORY_USERS=100000 cargo test --release --test directory_large -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are for people")]

#[path = "support/process_memory.rs"]
mod process_memory;

use daybook::config::DirectorySource;
use daybook::directory::{
    Candidate, CandidateKind, Directory, Listing, Outcome, ProxyAddress, Source, SourceError, SyncMode,
    SyncReport, Trigger,
};
use daybook::mail::Address;
use process_memory::{forget_peak, memory_kib};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Users, unless the environment says otherwise.
const USERS: usize = 20_000;
/// Of so many users, one leaves at the second reading; ten times as many are handed the next one's alias.
const MOVED_ONE_OF: usize = 100;
/// Octets that a sync may take for each user, beyond what was in use before it: for the listing, what is in force before and
/// after, and snapshots of both. 100,000 users stay below 300 MiB.
const OCTETS_PER_USER_MAX: u64 = 3_000;

fn users() -> usize {
    std::env::var("DAYBOOK_DIRECTORY_USERS").map_or(USERS, |users| users.parse().unwrap())
}

fn moved() -> usize {
    users() / MOVED_ONE_OF
}

/// A directory that says something else each time `generation` grows.
struct Large(Arc<AtomicUsize>);

impl Source for Large {
    fn read(&self, _: &dyn Fn() -> bool) -> Result<Listing, SourceError> {
        let generation = self.0.load(Ordering::Relaxed);
        let candidates = (generation * moved()..users()).map(|n| candidate(n, generation)).collect();
        Ok(Listing { candidates, requests: 101, ..Listing::default() })
    }
}

fn candidate(n: usize, generation: usize) -> Candidate {
    let alias = if n < 10 * moved() { n + generation } else { n };
    let proxy = |text: String| ProxyAddress::parse(&text).unwrap();
    Candidate {
        id: format!("{n:08x}-1111-4222-8333-444455556666"),
        name: format!("Person Number {n}"),
        primary: Some(Address::parse(&format!("person.number{n}@corp.example")).unwrap()),
        aliases: vec![
            proxy(format!("alias{alias}@corp.example")),
            proxy(format!("person{n}@corp.onmicrosoft.example")),
        ],
        kind: CandidateKind::User,
        enabled: Some(true),
        licensed: Some(true),
        groups: Vec::new(),
    }
}

fn open(data_dir: &Path, generation: &Arc<AtomicUsize>) -> Directory {
    let generation = Arc::clone(generation);
    let source = DirectorySource::file("large", "nowhere.toml");
    Directory::open_with(&[source], Some(data_dir), move |_| {
        Box::new(Large(Arc::clone(&generation))) as Box<dyn Source>
    })
    .0
}

fn sync(directory: &Directory, what: &str) -> SyncReport {
    let began = Instant::now();
    let report = directory.sync("large", SyncMode::Apply, Trigger::Admin, &|| true).unwrap();
    println!("{what}: {:?}, {} users", began.elapsed(), report.users);
    report
}

#[test]
fn a_large_directory_is_synced_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let generation = Arc::new(AtomicUsize::new(0));
    forget_peak(std::process::id());
    let before = memory_kib(std::process::id(), "VmHWM");
    let began = Instant::now();
    let directory = open(dir.path(), &generation);
    println!("first reading: {:?}", began.elapsed());
    assert_eq!(directory.roll("large").unwrap().users.len(), users());
    assert_eq!(sync(&directory, "unchanged").outcome, Outcome::Unchanged);
    generation.store(1, Ordering::Relaxed);
    let report = sync(&directory, "changed");
    assert_eq!(report.outcome, Outcome::Applied { snapshot: 2 });
    assert_eq!(report.diff.removed.count, moved());
    // The last of them is given one that is somebody's.
    assert_eq!((report.diff.addresses_moved.count, report.conflicts.len()), (9 * moved() - 1, 1));
    let began = Instant::now();
    assert_eq!(directory.find(&format!("alias{}@corp.example", 5 * moved()), None).len(), 2);
    println!("find: {:?}", began.elapsed());
    let used = memory_kib(std::process::id(), "VmHWM").saturating_sub(before);
    println!("{} MiB at most", used / 1024);
    assert!(used * 1024 < users() as u64 * OCTETS_PER_USER_MAX, "{used} KiB");
    drop(directory);
    let began = Instant::now();
    let directory = open(dir.path(), &generation);
    println!("start and reading: {:?}", began.elapsed());
    assert_eq!(directory.roll("large").unwrap().users.len(), users() - moved());
    assert_eq!(directory.sources()[0].snapshot, 2, "nothing has changed");
}
