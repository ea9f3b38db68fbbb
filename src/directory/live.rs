//! The directory in force: what every source last said, and the snapshots made of it.

use super::snapshot::{Conflict, Snapshot, User};
use super::source::SourceError;
use super::source::file::{self, Fingerprint};
use crate::config::{DIRECTORY_SOURCES_MAX, DirectorySource};
use crate::mail::{AddressKey, GatewayMailbox, Timestamp};
use crate::observe::now;
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which sources serve a gateway mailbox: bit n stands for source n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct SourceSet(u64);

impl SourceSet {
    fn with(self, source: usize) -> SourceSet {
        SourceSet(self.0 | 1u64.checked_shl(source as u32).unwrap_or(0))
    }

    fn holds(self, source: usize) -> bool {
        self.0 & 1u64.checked_shl(source as u32).unwrap_or(0) != 0
    }
}

/// One `[[directory]]` and the gateway mailboxes it serves.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// Logins and addresses; `None` is all.
    mailboxes: Option<HashSet<AddressKey>>,
}

impl Source {
    fn of(configured: &DirectorySource) -> Source {
        let path = PathBuf::from(configured.kind.place());
        let names = configured.mailboxes.as_ref();
        Source { path, mailboxes: names.map(|names| names.iter().map(|name| AddressKey::of(name)).collect()) }
    }

    fn serves(&self, names: &[AddressKey]) -> bool {
        match &self.mailboxes {
            None => true,
            Some(served) => names.iter().any(|name| served.contains(name)),
        }
    }
}

/// What the sources said last, merged for every set of them that serves some gateway mailbox.
struct State {
    sources: Arc<[Source]>,
    lists: Vec<List>,
    readings: Vec<Reading>,
    /// Grows when a gateway mailbox turns up that two names in different sources both mean.
    snapshots: Mutex<HashMap<SourceSet, Arc<Snapshot>>>,
}

impl State {
    /// What was last read of each of these sources; nothing of those it did not have.
    fn carried_over(&self, sources: &[Source]) -> (Vec<List>, Vec<Reading>) {
        let had = |source: &Source| {
            let place = self.sources.iter().position(|had| had.path == source.path)?;
            Some((Arc::clone(self.lists.get(place)?), *self.readings.get(place)?))
        };
        let none = || (Arc::from(Vec::new()), Reading::default());
        sources.iter().map(|source| had(source).unwrap_or_else(none)).unzip()
    }

    fn snapshot(&self, set: SourceSet) -> Arc<Snapshot> {
        let mut snapshots = lock(&self.snapshots);
        Arc::clone(snapshots.entry(set).or_insert_with(|| Arc::new(merge(&self.lists, set))))
    }
}

/// The users of one source.
type List = Arc<[Arc<User>]>;

/// How reading a source went.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    last_good: Option<Timestamp>,
    is_good: bool,
}

/// What was last seen of the files.
#[derive(Default)]
struct Watch {
    /// When last read, well or badly: a bad file is not read again until it changes.
    read: Vec<Option<Fingerprint>>,
    /// At the last look.
    looked: Vec<Option<Fingerprint>>,
}

/// All sources and what is in force of them. Shared between the tasks of a server; every method takes `&self`.
pub struct Directory {
    current: ArcSwap<State>,
    watch: Mutex<Watch>,
    /// Held while reloading: two reloads at once could put the older list in force.
    reloading: Mutex<()>,
}

/// What a reload did, source by source, in the order of the configuration.
#[derive(Debug)]
pub struct ReloadReport {
    /// One for each source.
    pub sources: Vec<SourceReport>,
    /// They are in force. If not, other sources are, as before.
    pub taken: bool,
}

impl ReloadReport {
    /// True when every source was read.
    pub fn is_good(&self) -> bool {
        self.sources.iter().all(|source| source.error.is_none())
    }
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its file.
    pub path: PathBuf,
    /// Users of it in force.
    pub users: usize,
    /// Whether its last reading was taken. If not, an older list is in force, or none.
    pub is_good: bool,
    /// When it was last read well. It is read when it changes, not regularly.
    pub last_good: Option<Timestamp>,
}

/// What a reload did to one source.
#[derive(Debug)]
pub struct SourceReport {
    /// Its file.
    pub path: PathBuf,
    /// Users of it now in force. With an error: those of the last good list, 0 when there was none yet.
    pub users: usize,
    /// True when the list in force is another than before.
    pub changed: bool,
    /// Claims of its users that were not granted, because of an earlier user here or in an earlier source.
    pub conflicts: Vec<Conflict>,
    /// Why the file was not taken. The list in force before it stays.
    pub error: Option<SourceError>,
}

impl Directory {
    /// Reads all sources for the first time. Never fails: a source that cannot be read has no users, and the
    /// report says so.
    pub fn open(sources: &[DirectorySource]) -> (Directory, ReloadReport) {
        let nothing = State {
            sources: Arc::from(Vec::new()),
            lists: Vec::new(),
            readings: Vec::new(),
            snapshots: Mutex::default(),
        };
        let directory = Directory {
            current: ArcSwap::from_pointee(nothing),
            watch: Mutex::default(),
            reloading: Mutex::default(),
        };
        let all = sources.iter().take(DIRECTORY_SOURCES_MAX).map(Source::of).collect();
        let report = directory.read_all(all, false);
        (directory, report)
    }

    /// Reads these sources in place of those it had. One that it had too keeps its list when it cannot be read now.
    /// Blocks on the disk.
    ///
    /// When one that it did not have cannot be read, everything stays as it was, and [`ReloadReport::taken`] is false: a
    /// mistyped path must not make nobody of all users.
    pub fn reconfigure(&self, sources: &[DirectorySource]) -> ReloadReport {
        let _one_at_a_time = lock(&self.reloading);
        self.read_all(sources.iter().take(DIRECTORY_SOURCES_MAX).map(Source::of).collect(), true)
    }

    /// The users of a gateway mailbox. A source may name it by any of its addresses on record, current or former, or
    /// the local part of one: a new address must not take its users away.
    pub fn snapshot_of(&self, gateway_mailbox: &GatewayMailbox) -> Arc<Snapshot> {
        let addresses = gateway_mailbox.addresses.iter().map(|served| &served.address);
        let names: Vec<AddressKey> =
            addresses.flat_map(|address| [address.key(), AddressKey::of(address.local())]).collect();
        let state = self.current.load();
        state.snapshot(serving(&state.sources, &names))
    }

    /// Reads all sources again and puts in force those that are good. Blocks on the disk.
    pub fn reload(&self) -> ReloadReport {
        let _one_at_a_time = lock(&self.reloading);
        self.read_all(Arc::clone(&self.current.load().sources), false)
    }

    /// Only while `reloading` is held. With `all_or_none`, what is new and bad is not taken, nor is anything else then.
    fn read_all(&self, sources: Arc<[Source]>, all_or_none: bool) -> ReloadReport {
        // Looked at before reading: a write in between makes the next look differ, so it is not missed.
        let looks = look(&sources);
        let before = self.current.load_full();
        let (mut lists, mut readings) = before.carried_over(&sources);
        let mut report = ReloadReport { sources: Vec::with_capacity(sources.len()), taken: true };
        for ((source, list), reading) in sources.iter().zip(&mut lists).zip(&mut readings) {
            let read = reload_source(&source.path, list);
            reading.is_good = read.error.is_none();
            if reading.is_good {
                reading.last_good = Some(now());
            }
            report.sources.push(read);
        }
        let is_known = |source: &Source| before.sources.iter().any(|had| had.path == source.path);
        let bad =
            sources.iter().zip(&readings).any(|(source, reading)| !reading.is_good && !is_known(source));
        if all_or_none && bad {
            report.taken = false;
            return report;
        }
        let mut known: Vec<SourceSet> = Vec::new();
        if Arc::ptr_eq(&before.sources, &sources) {
            known.extend(lock(&before.snapshots).keys());
        }
        known.extend(named_sets(&sources));
        known.sort_unstable();
        known.dedup();
        let snapshots: HashMap<SourceSet, Arc<Snapshot>> =
            known.into_iter().map(|set| (set, Arc::new(merge(&lists, set)))).collect();
        report_conflicts(&mut report, &snapshots);
        self.current.store(Arc::new(State { sources, lists, readings, snapshots: Mutex::new(snapshots) }));
        let mut watch = lock(&self.watch);
        watch.read.clone_from(&looks);
        watch.looked = looks;
        report
    }

    /// How every source stands, in the order of the configuration.
    pub fn sources(&self) -> Vec<SourceStatus> {
        let state = self.current.load();
        let sources = state.sources.iter().zip(&state.lists).zip(&state.readings);
        sources
            .map(|((source, list), reading)| SourceStatus {
                path: source.path.clone(),
                users: list.len(),
                is_good: reading.is_good,
                last_good: reading.last_good,
            })
            .collect()
    }

    /// True when some file differs from what was last read and has stopped changing: it looked the same at the
    /// call before. To be polled every few seconds; cheap, no file is read.
    pub fn changed(&self) -> bool {
        let looks = look(&self.current.load().sources);
        let mut watch = lock(&self.watch);
        let settled = watch.looked.iter().zip(&looks).all(|(last, now)| last == now);
        let differs = watch.read != looks;
        watch.looked = looks;
        differs && settled
    }
}

fn look(sources: &[Source]) -> Vec<Option<Fingerprint>> {
    sources.iter().map(|source| Fingerprint::look(&source.path)).collect()
}

fn serving(sources: &[Source], names: &[AddressKey]) -> SourceSet {
    let serving = sources.iter().enumerate().filter(|(_, source)| source.serves(names));
    serving.fold(SourceSet::default(), |set, (index, _)| set.with(index))
}

/// The sets of sources that the configuration lets one expect: one for each name in it, and one for all
/// gateway mailboxes it does not name.
fn named_sets(sources: &[Source]) -> HashSet<SourceSet> {
    let names = sources.iter().filter_map(|source| source.mailboxes.as_ref()).flatten();
    let mut sets: HashSet<SourceSet> =
        names.map(|name| serving(sources, std::slice::from_ref(name))).collect();
    sets.insert(serving(sources, &[]));
    sets
}

fn reload_source(path: &Path, list: &mut List) -> SourceReport {
    let mut changed = false;
    let error = match file::read(path) {
        Ok(users) => {
            changed =
                users.len() != list.len() || users.iter().zip(list.iter()).any(|(new, old)| *new != **old);
            if changed {
                *list = users.into_iter().map(Arc::new).collect();
            }
            None
        }
        Err(error) => Some(error),
    };
    SourceReport { path: path.to_owned(), users: list.len(), changed, conflicts: Vec::new(), error }
}

fn merge(lists: &[List], set: SourceSet) -> Snapshot {
    // Sources left out are merged as empty lists, so that a conflict's list is the number of its source.
    let lists = lists.iter().enumerate();
    Snapshot::merge(lists.map(|(index, list)| if set.holds(index) { &**list } else { &[] }))
}

/// Gives each conflict of any snapshot to the source of the user who went without, once.
fn report_conflicts(report: &mut ReloadReport, snapshots: &HashMap<SourceSet, Arc<Snapshot>>) {
    let mut sets: Vec<_> = snapshots.iter().collect();
    sets.sort_unstable_by_key(|(set, _)| **set);
    let mut seen = HashSet::new();
    for conflict in sets.into_iter().flat_map(|(_, snapshot)| snapshot.conflicts()) {
        if let Some(source) = report.sources.get_mut(conflict.list)
            && seen.insert(conflict)
        {
            source.conflicts.push(conflict.clone());
        }
    }
}

/// A panic elsewhere must not stop mail: what these locks guard is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{
        EnvelopeHeaders, GatewayAddress, GatewayMailboxId, GatewayMailboxState, Keeping, Profile, Role, Trust,
    };
    use std::fmt::Write as _;

    fn user(id: &str, addresses: &[&str]) -> String {
        format!("[[user]]\nid = '{id}'\nname = '{id}'\naddresses = {addresses:?}\n")
    }

    fn source(path: &Path, mailboxes: Option<&[&str]>) -> DirectorySource {
        DirectorySource {
            mailboxes: mailboxes.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            ..DirectorySource::file(path.display().to_string(), path)
        }
    }

    /// One with these local parts, the current one first.
    fn gateway_mailbox(logins: &[&str]) -> GatewayMailbox {
        let address = |login: &&str| GatewayAddress {
            address: format!("{login}@gw.example").parse().unwrap(),
            until: None,
        };
        GatewayMailbox {
            id: GatewayMailboxId::new(1, [0; 10]),
            name: "one".to_owned(),
            addresses: logins.iter().map(address).collect(),
            tenant: None,
            profile: Profile::default(),
            state: GatewayMailboxState::default(),
            archive: true,
            created_at: Timestamp::from_unix_ms(0),
            public_key: String::new(),
            trust: Trust::default(),
            role: Role::default(),
            envelope_headers: EnvelopeHeaders::default(),
            keeping: Keeping::default(),
            holds: Vec::new(),
            former_keys: Vec::new(),
            deleted_at: None,
            fetch: crate::mail::FetchRules::default(),
            view_from: None,
        }
    }

    fn ids(directory: &Directory, login: &str) -> Vec<String> {
        let snapshot = directory.snapshot_of(&gateway_mailbox(&[login]));
        snapshot.users().iter().map(|user| user.id.clone()).collect()
    }

    /// Polls as the server does until a change is reported.
    fn looks_until_changed(directory: &Directory) -> usize {
        (1..=10).find(|_| directory.changed()).unwrap_or(usize::MAX)
    }

    #[test]
    fn each_gateway_mailbox_sees_the_sources_that_serve_it_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let [all, named] = ["all.toml", "named.toml"].map(|name| dir.path().join(name));
        std::fs::write(&all, user("a", &["al@x.example", "info@x.example"])).unwrap();
        std::fs::write(&named, user("n", &["nora@x.example", "info@x.example"])).unwrap();
        let served: &[&str] = &["MBX-1", "mbx-2@gw.example"];
        let (directory, report) = Directory::open(&[source(&all, None), source(&named, Some(served))]);
        assert!(report.is_good());
        assert_eq!(ids(&directory, "mbx-1"), ["a", "n"]);
        assert_eq!(ids(&directory, "Mbx-2"), ["a", "n"]);
        assert_eq!(ids(&directory, "mbx-3"), ["a"]);
        let snapshot_of = |logins: &[&str]| directory.snapshot_of(&gateway_mailbox(logins));
        assert!(Arc::ptr_eq(&snapshot_of(&["mbx-1"]), &snapshot_of(&["mbx-2"])));
        assert!(Arc::ptr_eq(&snapshot_of(&["mbx-new", "mbx-2"]), &snapshot_of(&["mbx-2"])), "a new address");
        let counts: Vec<usize> = report.sources.iter().map(|source| source.conflicts.len()).collect();
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn other_sources_take_the_place_of_the_old_and_known_ones_keep_their_lists() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one.toml", "two.toml"].map(|name| dir.path().join(name));
        std::fs::write(&one, user("a", &["a@x.example"])).unwrap();
        std::fs::write(&two, user("b", &["b@x.example"])).unwrap();
        let (directory, _) = Directory::open(&[source(&one, None)]);
        assert_eq!(ids(&directory, "mbx-1"), ["a"]);
        std::fs::write(&one, "not a list").unwrap();
        let report = directory.reconfigure(&[source(&two, Some(&["mbx-1"])), source(&one, None)]);
        assert!(!report.is_good());
        assert_eq!(ids(&directory, "mbx-1"), ["b", "a"], "a bad file never replaces a good list");
        assert_eq!(ids(&directory, "mbx-2"), ["a"]);
        let none = dir.path().join("none.toml");
        let report = directory.reconfigure(&[source(&two, None), source(&none, None)]);
        assert!(!report.taken && !report.is_good());
        assert_eq!(ids(&directory, "mbx-2"), ["a"], "a mistyped path changes nothing");
        assert!(directory.reconfigure(&[]).is_good());
        assert_eq!(ids(&directory, "mbx-1"), Vec::<String>::new());
        assert!(!directory.changed());
    }

    #[test]
    fn a_bad_empty_or_missing_file_keeps_the_list_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let (directory, report) = Directory::open(&[source(&path, None)]);
        assert!(matches!(report.sources[0].error, Some(SourceError::Unreadable(_))));
        assert_eq!(ids(&directory, "m"), Vec::<String>::new());

        std::fs::write(&path, user("a", &["al@x.example"])).unwrap();
        let report = directory.reload();
        assert!(report.is_good() && report.sources[0].changed);
        let kept = directory.snapshot_of(&gateway_mailbox(&["m"]));
        let good = directory.sources();
        assert!(good[0].is_good && good[0].users == 1 && good[0].last_good.is_some(), "{good:?}");
        for bad in ["", "[[user]]\nid = 3", "[[user"] {
            std::fs::write(&path, bad).unwrap();
            let report = directory.reload();
            let source = &report.sources[0];
            assert!(source.error.is_some() && !source.changed && source.users == 1, "{bad}");
            assert_eq!(ids(&directory, "m"), ["a"], "{bad}");
            let status = directory.sources();
            assert!(!status[0].is_good && status[0].last_good == good[0].last_good, "{status:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!directory.reload().is_good());
        assert_eq!(ids(&directory, "m"), ["a"]);

        std::fs::write(&path, user("b", &["bo@x.example"])).unwrap();
        assert!(directory.reload().is_good());
        assert_eq!(ids(&directory, "m"), ["b"]);
        assert_eq!(kept.users()[0].id, "a", "a snapshot in use never changes");
    }

    #[test]
    fn a_change_counts_when_two_looks_see_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        std::fs::write(&path, user("a", &["al@x.example"])).unwrap();
        let (directory, _) = Directory::open(&[source(&path, None)]);
        assert!(!directory.changed() && !directory.changed());

        std::fs::write(&path, "[[us").unwrap();
        assert!(!directory.changed(), "it may still be being written");
        std::fs::write(&path, "[[user]] # one more").unwrap();
        assert!(!directory.changed(), "it was");
        assert!(directory.changed());
        assert!(!directory.reload().is_good());
        assert!(!directory.changed() && !directory.changed(), "a bad file is reported once");

        std::fs::remove_file(&path).unwrap();
        assert_eq!(looks_until_changed(&directory), 2);
        assert!(!directory.reload().is_good());
        std::fs::write(&path, user("b", &["bo@x.example"])).unwrap();
        assert_eq!(looks_until_changed(&directory), 2);
    }

    #[test]
    fn reports_an_unchanged_list_as_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        std::fs::write(&path, user("a", &["al@x.example"])).unwrap();
        let (directory, report) = Directory::open(&[source(&path, None)]);
        assert!(report.sources[0].changed);
        assert!(!directory.reload().sources[0].changed);
    }

    #[test]
    fn takes_ten_thousand_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let mut text = String::new();
        for n in 0..10_000 {
            writeln!(
                text,
                "{}",
                user(&n.to_string(), &[&format!("u{n}@x.example"), &format!("a{n}@x.example")])
            )
            .unwrap();
        }
        std::fs::write(&path, text).unwrap();
        let (directory, report) = Directory::open(&[source(&path, None)]);
        assert_eq!((report.sources[0].users, report.is_good()), (10_000, true));
        let found = directory
            .snapshot_of(&gateway_mailbox(&["m"]))
            .find(&AddressKey::of("A9999@x.example"))
            .unwrap()
            .id
            .clone();
        assert_eq!(found, "9999");
    }

    #[test]
    fn without_sources_nobody_is_known() {
        let (directory, report) = Directory::open(&[]);
        assert!(report.is_good() && !directory.changed());
        assert!(directory.snapshot_of(&gateway_mailbox(&["m"])).users().is_empty());
    }
}
