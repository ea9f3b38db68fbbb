//! What the server asks of the kernel before it promises anything: every octet written and every name made on the way must be
//! synced, each by itself.
//!
//! A power cut cannot show all of that on ext4: the sync of any file writes the whole journal out, names included. Another file
//! system need not. So this reads the calls, as strace writes them down, with one sender at a time: what is pending when a
//! promise is made is a fault.

use super::gateway::{Gateway, until};
use super::ledger::{Door, Visit};
use super::load::{Report, Smtp, report};
use super::support::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Calls that write, name, sync, and promise.
const CALLS: &str = "trace=openat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,write,pwrite64,writev,pwritev,\
                     fsync,fdatasync,sendto,exit_group";

/// Fails the third sync of the log of each run: nothing else is synced by this call.
const FAILING_SYNC: &str = "inject=fdatasync:error=EIO:when=3";

/// What is not on the disk yet, as far as the processes have asked for it.
struct Pending {
    data_dir: PathBuf,
    /// Files with octets that were not synced.
    files: BTreeSet<PathBuf>,
    /// Directories with names that were not synced, and the last such name.
    names: BTreeMap<PathBuf, PathBuf>,
    /// Segments of the log whose sync failed: what was written there before may never reach the disk, whatever later syncs say.
    failed: BTreeSet<PathBuf>,
    /// Pending when a promise was made.
    faults: BTreeSet<String>,
    promises: usize,
    syncs: usize,
}

/// The text between the first pair of these in `text`.
pub(crate) fn between(text: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

/// What is in quotes, in order.
pub(crate) fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// The calls in a trace, each in one piece and in the order in which they ended.
pub(crate) fn calls(trace: &str) -> Vec<String> {
    let mut unfinished: BTreeMap<&str, &str> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (thread, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, begun);
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            calls.push(format!("{}{end}", unfinished.remove(thread).unwrap_or_default()));
        } else {
            calls.push(rest.to_owned());
        }
    }
    calls
}

impl Pending {
    fn new(data_dir: &Path) -> Pending {
        Pending {
            data_dir: data_dir.to_owned(),
            files: BTreeSet::new(),
            names: BTreeMap::new(),
            failed: BTreeSet::new(),
            faults: BTreeSet::new(),
            promises: 0,
            syncs: 0,
        }
    }

    /// Reads what the next process did. The kernel keeps for it what the last one left.
    fn read(&mut self, trace: &str) {
        for call in calls(trace) {
            self.take(&call);
        }
    }

    /// True for what must outlive a power cut; what else there is can be made anew, or is nobody's business after a start.
    fn matters(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.data_dir) else { return false };
        // What no entry names is put aside there; should it be back, it is put aside again.
        if below.starts_with("content/orphaned") {
            return false;
        }
        below.components().count() == 0
            || ["log", "content", "keys", "tmp"].iter().any(|dir| below == Path::new(dir))
            || ["log", "content", "keys"].iter().any(|dir| below.starts_with(dir))
    }

    fn named(&mut self, path: &str) {
        let path = PathBuf::from(path);
        if path.extension().is_some_and(|extension| extension == "seg") {
            // Its header says how much of the one before counts: nothing that failed.
            for failed in std::mem::take(&mut self.failed) {
                self.files.remove(&failed);
            }
        }
        if self.matters(&path)
            && let Some(dir) = path.parent()
        {
            self.names.insert(dir.to_owned(), path.clone());
        }
    }

    fn take(&mut self, call: &str) {
        let (name, rest) = call.split_once('(').unwrap_or((call, ""));
        let file = Path::new(between(rest, '<', '>').unwrap_or_default());
        let result = call.rsplit(" = ").next().unwrap_or_default();
        if result.starts_with('-') {
            if name.ends_with("sync") && self.matters(file) {
                self.failed.insert(file.to_owned());
            }
            return;
        }
        match name {
            // An old file that is opened so has had its name for long.
            "openat" if rest.contains("O_CREAT") && rest.contains("O_EXCL") => {
                quoted(rest).first().into_iter().for_each(|path| self.named(path));
            }
            "mkdir" | "mkdirat" | "unlink" | "unlinkat" => {
                quoted(rest).first().into_iter().for_each(|path| self.named(path));
            }
            "rename" | "renameat" | "renameat2" => {
                if let [from, to] = quoted(rest)[..] {
                    // What was written under the old name is now under the new one.
                    if self.files.remove(Path::new(from)) {
                        self.files.insert(PathBuf::from(to));
                    }
                    self.named(to);
                }
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "sendto" => {
                if rest.contains("\"250 2.0.0 Ok ") {
                    self.promised();
                } else if self.matters(file) {
                    self.files.insert(file.to_owned());
                }
            }
            "fsync" | "fdatasync" => {
                self.files.remove(file);
                self.names.remove(file);
                self.syncs += 1;
            }
            // The end in good order: what is there is said to be whole.
            "exit_group" => self.promised(),
            _ => {}
        }
    }

    fn promised(&mut self) {
        self.promises += 1;
        // Keyrings and content have names that say nothing.
        let place = |path: &Path| {
            let below = path.strip_prefix(&self.data_dir).unwrap_or(path);
            below
                .components()
                .next()
                .map_or_else(String::new, |c| c.as_os_str().to_string_lossy().into_owned())
        };
        let kind =
            |path: &Path| path.extension().map_or("directory".into(), |e| e.to_string_lossy().into_owned());
        let octets = self.files.iter().map(|file| format!("octets in {}", place(file)));
        let names = self.names.iter().map(|(dir, name)| format!("name of {} in {}", kind(name), place(dir)));
        let failed = self.failed.iter().map(|file| format!("failed sync in {}", place(file)));
        self.faults.extend(octets.chain(names).chain(failed));
        self.files.clear();
        self.names.clear();
    }
}

/// A server from its very first start: an account, mail, a sync that fails, more mail, a delete, an orderly end. Once more, and
/// a kill right behind a sync that failed. A start after that, the mail that was deferred again, and an orderly end.
fn what_was_pending(plant: Option<&str>) -> Pending {
    let mut gateway = Gateway::at(Site::new());
    if let Some(plant) = plant {
        gateway.set_environment("DAYBOOK_PLANT", plant);
    }
    // Not there yet, and named as the server will name it.
    let mut pending = Pending::new(&gateway.path("data"));
    let mut account = None;
    let mut deferred: Vec<Report> = Vec::new();
    for run in 0..3 {
        let out = gateway.path(&format!("strace-{run}.out"));
        let strace = ["strace", "-D", "-f", "-qq", "-y", "-s", "64", "-e", "signal=none", "-e", CALLS];
        let fails = ["-e", FAILING_SYNC].into_iter().filter(|_| run < 2);
        let words: Vec<&str> = strace.into_iter().chain(fails).chain(["-o", out.to_str().unwrap()]).collect();
        gateway.set_starter(&words);
        gateway.start_again();
        let account = account.get_or_insert_with(|| gateway.create_account());
        let mut smtp = Smtp::open(gateway.smtp()).unwrap();
        let fresh = [3_000, 1_300_000, 20_000].map(|octets| report(&format!("order-{run}-{octets}"), octets));
        for report in std::mem::take(&mut deferred).into_iter().chain(fresh) {
            if run == 1 && !deferred.is_empty() {
                // Killed right behind the failure: the rest comes after the next start.
                deferred.push(report);
                continue;
            }
            match smtp.deliver(&account.address, &report.octets).unwrap() {
                reply if reply.code == 250 => {}
                reply => {
                    assert!(reply.is_deferral(), "{reply:?}");
                    deferred.push(report);
                }
            }
        }
        if run == 1 {
            gateway.kill();
        } else {
            let door = Door::of(&gateway, account);
            let first = door.open().unwrap().try_uidls().unwrap().into_keys().next();
            drop(Visit::pay(&door, &Vec::from_iter(first)));
            gateway.terminate();
        }
        let trace = until("the trace to end", || {
            let trace = fs::read_to_string(&out).ok()?;
            // A message that was deferred was so for the sync that failed, the last call of a run that is killed.
            let is_whole = match run {
                1 => deferred.is_empty() || trace.contains("(INJECTED)"),
                _ => trace.contains("exit_group("),
            };
            is_whole.then_some(trace)
        });
        pending.read(&trace);
    }
    pending
}

#[test]
fn nothing_is_pending_when_a_promise_is_made() {
    let Pending { faults, promises, syncs, .. } = what_was_pending(None);
    println!("{promises} promises, {syncs} syncs, nothing pending at any of them");
    assert_eq!(faults, BTreeSet::new());
    // Two messages and an end, two messages, five messages and an end.
    assert_eq!(promises, 11);
}

/// Servers traced at the same time.
const AT_ONCE: usize = 4;

/// What must be pending at a promise when a safeguard is missing.
const SEEN: [(&str, &str); 11] = [
    ("skip-data-sync", "octets in log"),
    ("answer-before-sync", "octets in log"),
    ("retry-sync", "failed sync in log"),
    ("append-after-failure", "failed sync in log"),
    ("skip-rehome", "failed sync in log"),
    ("skip-content-sync", "octets in content"),
    ("skip-segment-dir-sync", "name of seg in log"),
    ("skip-content-dir-sync", "name of age in content"),
    ("skip-rename-dir-sync", "name of age in keys"),
    ("skip-rename-file-sync", "octets in keys"),
    ("skip-new-dir-sync", "name of directory in keys"),
];

#[test]
fn a_missing_sync_is_seen_in_what_the_kernel_is_asked() {
    // Most of the time is spent waiting, for the disk and for strace.
    for some in SEEN.chunks(AT_ONCE) {
        let pending = std::thread::scope(|scope| {
            let threads: Vec<_> =
                some.iter().map(|(plant, _)| scope.spawn(|| what_was_pending(Some(plant)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().faults).collect::<Vec<_>>()
        });
        for ((plant, sign), faults) in some.iter().zip(pending) {
            println!("| {plant} | pending at a promise: {} |", Vec::from_iter(faults.clone()).join(", "));
            assert!(faults.contains(*sign), "{plant}: {sign:?} not among {faults:?}");
        }
    }
}
