//! What is stored already is touched only behind the entry that says so: content is freed, and a keyring replaced, once that is
//! durable, and room counts as given back once it is.
//!
//! A power cut shows none of it on ext4 with certainty: what comes too early is written out with what it was too early for. So
//! this reads the calls, as `order.rs` does; and where what is lost is room, a server is killed at the moment that matters.

use super::gateway::{Account, Gateway, until};
use super::keeping::{SEGMENT_OCTETS, must};
use super::ledger::{Door, Visit};
use super::load::{Smtp, report};
use super::order::{between, calls, quoted};
use super::strace::{Injection, On, Strace, Times};
use super::support::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Calls that write, sync, touch what is there.
const CALLS: &str = "trace=fallocate,rename,renameat,renameat2,unlink,unlinkat,write,pwrite64,writev,pwritev,fsync,fdatasync,\
                     exit_group";
/// Octets of each message: one is a file of its own, the others fill more than one segment.
const SIZES: [usize; 9] = [1_300_000, 300_000, 300_000, 300_000, 300_000, 300_000, 300_000, 300_000, 300_000];
/// Which of them are deleted: of no segment all.
const DELETED: [usize; 3] = [0, 1, 3];

/// What is known of the calls so far.
#[derive(Default)]
struct Touched {
    data_dir: PathBuf,
    /// Calls so far.
    now: usize,
    /// Segments with octets that were not synced; true when an entry that frees is among them.
    written: BTreeMap<PathBuf, bool>,
    /// When entries of the log were last made durable.
    log_synced_at: usize,
    /// An entry that frees is durable.
    is_freed: bool,
    /// Segments with holes that were not synced.
    punched: BTreeSet<PathBuf>,
    /// Keyrings that wait for their place, and since when.
    waiting: BTreeMap<PathBuf, usize>,
    /// Payloads punched out, content files removed, keyrings put in their place.
    touches: [usize; 3],
    faults: BTreeSet<&'static str>,
}

impl Touched {
    fn take(&mut self, call: &str) {
        let (name, rest) = call.split_once('(').unwrap_or((call, ""));
        if call.rsplit(" = ").next().is_some_and(|result| result.starts_with('-')) {
            return;
        }
        self.now += 1;
        let file = PathBuf::from(between(rest, '<', '>').unwrap_or_default());
        match name {
            "write" | "pwrite64" | "writev" | "pwritev" => self.write(file, rest),
            "fsync" | "fdatasync" => {
                if let Some(frees) = self.written.remove(&file) {
                    self.log_synced_at = self.now;
                    self.is_freed |= frees;
                }
                self.punched.remove(&file);
            }
            "fallocate" if rest.contains("PUNCH_HOLE") => {
                self.touch(0, self.is_freed, "punched out before the entry that frees it is durable");
                self.punched.insert(file);
            }
            "unlink" | "unlinkat" => {
                let path = PathBuf::from(quoted(rest).first().copied().unwrap_or_default());
                if path.starts_with(self.data_dir.join("content")) {
                    self.touch(1, self.is_freed, "removed before the entry that frees it is durable");
                }
            }
            "rename" | "renameat" | "renameat2" => {
                if let [from, to] = quoted(rest)[..] {
                    self.rename(Path::new(from), Path::new(to));
                }
            }
            _ => {}
        }
    }

    fn touch(&mut self, what: usize, may: bool, fault: &'static str) {
        self.touches[what] += 1;
        if !may {
            self.faults.insert(fault);
        }
    }

    fn write(&mut self, file: PathBuf, text: &str) {
        if file.starts_with(self.data_dir.join("log")) {
            *self.written.entry(file).or_default() |= text.contains("\\\"fact\\\":\\\"freed\\\"");
        } else if file == self.data_dir.join("index.sqlite-wal") && !self.punched.is_empty() {
            self.faults.insert("struck before what was punched out is synced");
        } else if is_waiting(&file) {
            self.waiting.insert(file, self.now);
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        if is_waiting(to) {
            self.waiting.insert(to.to_owned(), self.now);
        } else if let Some(since) = self.waiting.remove(from) {
            let may = self.log_synced_at > since;
            self.touch(2, may, "keyring in its place before the entry that names it is durable");
        }
    }
}

/// True for a file that is to take the place of a keyring.
fn is_waiting(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "next")
}

/// A server with mail in it, some of which was deleted and may be freed at once.
fn filled(gateway: &Gateway) -> Account {
    let account = gateway.create_account();
    fs::write(gateway.path("password"), &account.password).unwrap();
    must(gateway, &format!("mailbox set {} archive=false grace_days=0 --yes", account.login));
    let mut smtp = Smtp::open(gateway.smtp()).unwrap();
    for (n, octets) in SIZES.into_iter().enumerate() {
        let report = report(&format!("touching-{n}"), octets);
        assert_eq!(smtp.deliver(&account.address, &report.octets).unwrap().code, 250);
    }
    let door = Door::of(gateway, &account);
    let uidls = door.open().unwrap().try_uidls().unwrap();
    let wanted = uidls.into_iter().filter(|(_, number)| DELETED.iter().any(|n| n + 1 == *number as usize));
    drop(Visit::pay(&door, &wanted.map(|(uidl, _)| uidl).collect::<Vec<_>>()));
    account
}

fn gateway(plant: Option<&str>) -> Gateway {
    let mut gateway = Gateway::at(Site::new());
    gateway.set_environment("DAYBOOK_SEGMENT_OCTETS", SEGMENT_OCTETS);
    if let Some(plant) = plant {
        gateway.set_environment("DAYBOOK_PLANT", plant);
    }
    gateway
}

/// Mail is freed and a key made, with every call written down.
fn what_was_touched(plant: Option<&str>) -> Touched {
    let mut gateway = gateway(plant);
    let out = gateway.path("strace.out");
    let strace = ["strace", "-D", "-f", "-qq", "-y", "-s", "256", "-e", "signal=none", "-e", CALLS, "-o"];
    gateway.set_starter(&strace.into_iter().chain([out.to_str().unwrap()]).collect::<Vec<_>>());
    gateway.start_again();
    let account = filled(&gateway);
    must(&gateway, "retention run");
    let password = gateway.path("password");
    must(&gateway, &format!("key rotate {} --password-file {}", account.login, password.display()));
    gateway.terminate();
    let trace = until("the trace to end", || {
        fs::read_to_string(&out).ok().filter(|trace| trace.contains("exit_group("))
    });
    let mut touched = Touched { data_dir: gateway.data_dir(), ..Touched::default() };
    for call in calls(&trace) {
        touched.take(&call);
    }
    touched
}

#[test]
fn what_is_stored_is_touched_only_behind_the_entry_that_says_so() {
    let Touched { faults, touches: [punched, removed, replaced], .. } = what_was_touched(None);
    println!(
        "{punched} punched out, {removed} removed, {replaced} keyrings replaced, none of them too early"
    );
    assert_eq!(faults, BTreeSet::new());
    assert!(punched > 0 && removed > 0 && replaced > 0, "nothing was touched");
}

/// What is seen when a safeguard is missing.
const SEEN: [(&str, &str); 3] = [
    ("free-before-log", "punched out before the entry that frees it is durable"),
    ("skip-punch-sync", "struck before what was punched out is synced"),
    ("keyring-before-log", "keyring in its place before the entry that names it is durable"),
];

#[test]
fn what_is_touched_too_early_is_seen() {
    for (plant, sign) in SEEN {
        let faults = what_was_touched(Some(plant)).faults;
        println!("| {plant} | {} |", Vec::from_iter(faults.clone()).join(", "));
        assert!(faults.contains(sign), "{plant}: {sign:?} not among {faults:?}");
    }
}

/// Freed objects whose content is there still, after a crash at the first hole, a start, and freeing once more; and those
/// that the index knows of.
fn left_behind_a_crash(plant: Option<&str>) -> (u64, u64) {
    let mut gateway = gateway(plant);
    gateway.start_again();
    filled(&gateway);
    let kill = Injection {
        calls: "fallocate",
        effect: "signal=KILL",
        first: 1,
        times: Times::Once,
        on: On::Anything,
    };
    let strace = Strace::attach(gateway.pid(), kill, &gateway.data_dir(), &gateway.path("killed.out"));
    assert!(!gateway.run(&["retention", "run"]).status.success(), "it was not killed");
    until("the server to be killed", || gateway.has_ended().then_some(()));
    drop(strace);
    gateway.kill();
    gateway.start_again();
    must(&gateway, "retention run");
    let report = gateway.ask(&["verify", "--deep"]);
    let index = rusqlite::Connection::open(gateway.data_dir().join("index.sqlite")).unwrap();
    let known: u32 = index.query_row("SELECT count(*) FROM unpunched", [], |row| row.get(0)).unwrap();
    assert!(report["freed"]["objects"].as_u64().unwrap() > 0, "nothing was freed: {report}");
    (report["freed"]["waiting_objects"].as_u64().unwrap(), u64::from(known))
}

#[test]
fn room_that_a_crash_left_is_given_back_later_and_is_missed_when_it_is_not() {
    let (there, known) = left_behind_a_crash(None);
    assert_eq!((there, known), (0, 0));
    let (there, known) = left_behind_a_crash(Some("strike-before-punch"));
    println!("| strike-before-punch | {there} freed objects are there, {known} are known of |");
    assert!(there > known, "strike-before-punch: not seen");
}
