//! Room that deleted mail gives back: every second one of many messages of 16 KB, then as many of 1 to 2 KB in one run. How much
//! of the freed content the file system has back, and how long that takes; the log verifies, and all other mail is as it was.
//!
//! Run by `tests/real.sh` with 20,000 messages. `DAYBOOK_LONG=1` takes 1,000,000 (`DAYBOOK_MESSAGES` any other number): that needs
//! 20 GB in `DAYBOOK_DIR`, or where temporary files are.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are to be read")]

#[path = "support/delivery.rs"]
mod delivery;

use daybook::mail::*;
use daybook::store::*;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is stored where `DAYBOOK_LONG` is not set.
const MESSAGES: u64 = 20_000;
const MESSAGES_LONG: u64 = 1_000_000;
const LARGE_OCTETS: usize = 16_000;
/// When the first of them is received.
const BEGINNING_MS: i64 = 1_800_000_000_000;
/// Messages that share a delivery, for speed.
const AT_ONCE: u64 = 64;
const SENDERS: u64 = 2;
/// UIDs that one session deletes.
const DELETED_AT_ONCE: usize = 1_000;
/// Of many messages every so manieth is read and compared.
const COMPARED: usize = 10_000;
/// A pass over a million messages takes minutes.
const PASS_MAX: Duration = Duration::from_secs(3_600);

fn messages() -> u64 {
    let is_long = std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1");
    let otherwise = if is_long { MESSAGES_LONG } else { MESSAGES };
    std::env::var("DAYBOOK_MESSAGES").ok().map_or(otherwise, |value| value.parse().unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// So many octets that no other number has.
fn body(number: u64, octets: usize) -> Vec<u8> {
    let line = format!("{number:020} of many, each with a line of its own\r\n");
    line.bytes().cycle().take(octets).collect()
}

fn small_octets(number: u64) -> usize {
    1_024 + usize::try_from(number * 7 % 1_024).unwrap()
}

/// Octets that a directory takes up on the disk.
fn disk_octets(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let of = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        found if found.is_dir() => disk_octets(&entry.path()),
        found => found.blocks() * 512,
    };
    entries.map(of).sum()
}

fn files(log: &Path, ending: &str) -> usize {
    let names = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending) && !name.starts_with("00000000")).count()
}

struct Rig {
    dir: tempfile::TempDir,
    store: Embedded,
    mailbox: Arc<GatewayMailbox>,
    key: Unlocked,
}

impl Rig {
    fn new() -> Rig {
        let dir = match std::env::var("DAYBOOK_DIR") {
            Ok(place) => tempfile::tempdir_in(place).unwrap(),
            Err(_) => tempfile::tempdir().unwrap(),
        };
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store = Embedded::open(&options).unwrap().0;
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Generic,
            role: Role::Journal,
        };
        let (mailbox, password) = runtime().block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        let key = store.unlock(mailbox.login(), &password).unwrap();
        let (was, becomes) = (Keeping::default(), Keeping { grace_days: 0, ..Keeping::default() });
        let keeping = GatewayMailboxChange::Keeping { was, becomes };
        runtime().block_on(store.change_gateway_mailbox(mailbox.id, vec![keeping], "test")).unwrap();
        Rig { dir, store, mailbox, key }
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    /// Stores messages from one number to another, which the time of each tells.
    fn fill(&self, from: u64, to: u64, octets: &(dyn Fn(u64) -> usize + Sync)) {
        let next = AtomicU64::new(from);
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    loop {
                        let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                        if first >= to {
                            return;
                        }
                        let one = |number: u64| {
                            let mut random = [0; 10];
                            random[..8].copy_from_slice(&number.to_be_bytes());
                            let at = Timestamp::from_unix_ms(BEGINNING_MS + i64::try_from(number).unwrap());
                            let body = body(number, octets(number));
                            delivery::delivery(&self.store, &self.mailbox, at, random, &body)
                        };
                        let all = (first..to.min(first + AT_ONCE)).map(one).collect();
                        runtime().block_on(self.store.deliver(all)).unwrap();
                    }
                });
            }
        });
    }

    /// Stores more until all that is there lies in segments that are full.
    fn close_segment(&self, from: u64) -> u64 {
        let (before, mut next) = (files(&self.log(), ".seg"), from);
        while files(&self.log(), ".seg") == before {
            self.fill(next, next + 8 * AT_ONCE, &|_| 256 * 1024);
            next += 8 * AT_ONCE;
        }
        next
    }

    fn entries(&self) -> Vec<(u64, Entry)> {
        let listed = self.store.list(self.mailbox.id, &FolderName::Inbox).unwrap().entries;
        let number = |entry: &Entry| u64::try_from(entry.received_at.unix_ms() - BEGINNING_MS).unwrap();
        listed.into_iter().map(|entry| (number(&entry), entry)).collect()
    }

    fn delete(&self, uids: &[Uid]) {
        let session_id = SessionId::new(1, [0; 10]);
        let by = Client { protocol: "pop3".to_owned(), peer: "127.0.0.1".parse().unwrap(), session_id };
        for some in uids.chunks(DELETED_AT_ONCE) {
            runtime().block_on(self.store.expunge(self.mailbox.id, &FolderName::Inbox, some, &by)).unwrap();
        }
    }

    fn pass(&self) -> KeptPass {
        let before = self.store.keeping().last;
        self.store.keep_now().unwrap();
        let deadline = Instant::now() + PASS_MAX;
        loop {
            let status = self.store.keeping();
            match status.last {
                Some(last) if !status.running && Some(&last) != before.as_ref() => return last,
                _ => assert!(Instant::now() < deadline, "the pass takes too long"),
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn assert_as_stored(&self, entries: &[&(u64, Entry)], octets: &dyn Fn(u64) -> usize) {
        for (number, entry) in entries.iter().step_by(1 + entries.len() / COMPARED) {
            let mut read = Vec::new();
            self.store.open(&self.key, entry.message).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == body(*number, octets(*number)), "message {number} is not as it was");
        }
    }

    fn assert_whole(&self) {
        let data_dir = self.dir.path().to_owned();
        let options =
            VerifyOptions { data_dir, deep: true, checkpoints: None, checkpoint_dir: None, key: None };
        let report = verify(&options, &mut |_| {}).unwrap();
        assert!(report.whole, "{report:#?}");
    }
}

#[test]
fn deleted_mail_gives_its_room_back_and_all_other_mail_is_as_it_was() {
    let (rig, count) = (Rig::new(), messages());
    let large = |_: u64| LARGE_OCTETS;
    let clock = Instant::now();
    rig.fill(0, count, &large);
    let filled = clock.elapsed().as_secs_f64();
    let padding = rig.close_segment(count);
    let all = rig.entries();
    let (deleted, kept): (Vec<_>, Vec<_>) =
        all.iter().filter(|(number, _)| *number < count).partition(|(number, _)| number % 2 == 0);
    let clock = Instant::now();
    rig.delete(&deleted.iter().map(|(_, entry)| entry.uid).collect::<Vec<_>>());
    let deleting = clock.elapsed().as_secs_f64();

    let before = disk_octets(&rig.log());
    let clock = Instant::now();
    let passed = rig.pass();
    let took = clock.elapsed().as_secs_f64();
    let after = disk_octets(&rig.log());
    assert_eq!((passed.freed_entries, &passed.error), (deleted.len() as u64, &None));
    // What freeing itself writes to the log counts against it.
    let returned = before.saturating_sub(after);
    let share = returned as f64 / passed.freed_octets as f64;
    rig.assert_as_stored(&kept, &large);
    rig.assert_whole();
    println!("| every second one of {count} messages of {LARGE_OCTETS} octets | |\n|---|---|");
    println!(
        "| stored | {filled:.1} s |\n| deleted | {deleting:.1} s |\n| freed and given back | {took:.1} s |"
    );
    println!("| freed content | {} octets |", passed.freed_octets);
    println!("| log on the disk before and after | {before} and {after} octets |");
    println!("| returned | {returned} octets, {:.1} % of the freed content |", share * 100.0);
    assert!(share >= 0.70, "only {:.1} % came back", share * 100.0);

    // In one run, of 1 to 2 KB: of whole segments the entries alone are left.
    let (first, behind) = (padding, padding + count / 2);
    rig.fill(first, behind, &small_octets);
    let padding = rig.close_segment(behind);
    let all = rig.entries();
    let run: Vec<Uid> =
        all.iter().filter(|(n, _)| (count..padding).contains(n)).map(|(_, e)| e.uid).collect();
    rig.delete(&run);
    let (segments, before) = (files(&rig.log(), ".seg"), disk_octets(&rig.log()));
    let clock = Instant::now();
    let passed = rig.pass();
    let took = clock.elapsed().as_secs_f64();
    let (emptied, after) = (files(&rig.log(), ".entries"), disk_octets(&rig.log()));
    assert_eq!((passed.freed_entries, &passed.error), (run.len() as u64, &None));
    println!(
        "| {} messages of 1 to 2 KB in one run, with what fills up their segments | |\n|---|---|",
        count / 2
    );
    println!("| freed and given back | {took:.1} s |\n| freed content | {} octets |", passed.freed_octets);
    println!("| segments before, and of which only entries are left | {segments}, {emptied} |");
    println!("| log on the disk before and after | {before} and {after} octets |");
    assert!(emptied > 0 && files(&rig.log(), ".seg") == segments - emptied, "{emptied} of {segments}");
    rig.assert_as_stored(&kept, &large);
    rig.assert_whole();
    runtime().block_on(rig.store.close());
}
