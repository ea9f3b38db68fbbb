//! The directory in force: what every source last said, and the snapshots made of it.

use super::adopt::{Known, adopt};
use super::entry::{Entry, Work};
use super::merged::{State, lock};
use super::report::{ReloadReport, SourceFault, SourceReport, SourceStatus, SyncMode, SyncRefusal, Trigger};
use super::roll::Roll;
use super::schedule;
use super::snapshot::{Conflict, Snapshot};
use super::source::{self, Source};
use super::state;
use crate::config::{DIRECTORY_SOURCES_MAX, DirectorySource};
use crate::mail::{AddressKey, GatewayMailbox, Timestamp};
use crate::observe::now;
use arc_swap::ArcSwap;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Folder in `data_dir` in which every source has one of its own.
pub const STATE_FOLDER: &str = "directory";

/// Makes the source that a `[[directory]]` asks for.
type Make = dyn Fn(&DirectorySource) -> Box<dyn Source> + Send + Sync;

/// All sources and what is in force of them. Shared between the tasks of a server; every method takes `&self`.
pub struct Directory {
    pub(super) current: ArcSwap<State>,
    /// Held while something else comes in force: two at once could put the older one there.
    pub(super) changing: Mutex<()>,
    make: Box<Make>,
    /// Where lists are kept; `None`: in memory.
    state_dir: Option<PathBuf>,
}

impl Directory {
    /// Opens all sources with nothing kept on disk, and reads those that are files. Never fails: a source that cannot be read has
    /// no users, and the report says so. Blocks on the disk.
    pub fn open(sources: &[DirectorySource]) -> (Directory, ReloadReport) {
        Directory::open_with(sources, None, source::open)
    }

    /// Opens all sources. What was in force when the program ended is at once; then those that are files are read. Those that are
    /// asked over the network are due at once, and are not waited for. Never fails. Blocks on the disk.
    pub fn open_kept(sources: &[DirectorySource], data_dir: &Path) -> (Directory, ReloadReport) {
        Directory::open_with(sources, Some(data_dir), source::open)
    }

    /// Opens all sources with what was in force when the last program ended, and reads none: for whoever is about to ask one.
    /// Never fails. Blocks on the disk.
    pub fn open_unread(sources: &[DirectorySource], data_dir: &Path) -> Directory {
        let directory = Directory::nothing(Some(data_dir), source::open);
        directory.take(sources);
        directory
    }

    /// As [`open_kept`](Directory::open_kept), with sources made otherwise, and kept in memory without a `data_dir`.
    pub fn open_with(
        sources: &[DirectorySource],
        data_dir: Option<&Path>,
        make: impl Fn(&DirectorySource) -> Box<dyn Source> + Send + Sync + 'static,
    ) -> (Directory, ReloadReport) {
        let directory = Directory::nothing(data_dir, make);
        directory.take(sources);
        let report = directory.reload();
        (directory, report)
    }

    /// Without any source yet.
    fn nothing(
        data_dir: Option<&Path>,
        make: impl Fn(&DirectorySource) -> Box<dyn Source> + Send + Sync + 'static,
    ) -> Directory {
        Directory {
            current: ArcSwap::from_pointee(State::of(Vec::new(), Vec::new())),
            changing: Mutex::default(),
            make: Box::new(make),
            state_dir: data_dir.map(|data_dir| data_dir.join(STATE_FOLDER)),
        }
    }

    /// Has every source that is asked over the network at regular times be due now.
    pub fn ask_soon(&self) {
        for entry in &self.current.load().entries {
            entry.ask_soon();
        }
    }

    /// Puts these sources in place of those it had. One that it had too, by what it reads or by name, keeps what is in force of it.
    /// Those that are files are read; others are due at once where their settings changed. Blocks on the disk.
    ///
    /// When a file that it did not have cannot be read, everything stays as it was, and [`ReloadReport::taken`] is false: a
    /// mistyped path must not make nobody of all users. The same where several sources ask what one did that is gone: which of them
    /// goes on with its users is not known.
    pub fn reconfigure(&self, sources: &[DirectorySource]) -> ReloadReport {
        let before = self.current.load_full();
        let had = |new: &DirectorySource| {
            let mut entries = before.entries.iter();
            entries.any(|entry| entry.configured.kind.place() == new.kind.place())
        };
        let new = sources.iter().filter(|new| new.kind.path().is_some() && !had(new));
        let unread = new.filter_map(|new| {
            let error = (self.make)(new).read(&|| true).err()?;
            Some(SourceReport { error: Some(SourceFault::from(&error)), ..SourceReport::of(new) })
        });
        let mut bad: Vec<SourceReport> = unread.collect();
        bad.extend(torn(&before, sources));
        if !bad.is_empty() {
            return ReloadReport { sources: bad, taken: false };
        }
        self.take(sources);
        self.reload()
    }

    /// Goes on with these sources and what was in force of them, whatever they were called. Reads none.
    fn take(&self, sources: &[DirectorySource]) {
        let _one_at_a_time = lock(&self.changing);
        let before = self.current.load_full();
        let sources = sources.get(..DIRECTORY_SOURCES_MAX).unwrap_or(sources);
        let had = adopted(&before, sources);
        let mut folders = self.folders(&before, sources, &had);
        let mut entries = Vec::with_capacity(sources.len());
        let mut rolls = Vec::with_capacity(sources.len());
        for (new, had) in sources.iter().zip(had) {
            let folder = folders.next().flatten();
            let (entry, roll) =
                match had.and_then(|place| Some((before.entries.get(place)?, before.rolls.get(place)?))) {
                    Some((entry, roll)) if entry.configured == *new => (Arc::clone(entry), roll.clone()),
                    Some((entry, roll)) => {
                        let work = Arc::clone(&entry.work);
                        work.expect_anew();
                        (Arc::new(Entry::new(new, (self.make)(new), work)), roll.clone())
                    }
                    None => {
                        let (work, roll) = Work::open(folder, &new.name);
                        (Arc::new(Entry::new(new, (self.make)(new), Arc::new(work))), roll)
                    }
                };
            entry.ask_at_once();
            entries.push(entry);
            rolls.push(roll);
        }
        self.current.store(Arc::new(State::of(entries, rolls)));
    }

    /// Where each source's lists are kept that goes on with none of those before: what is there of the same place, else of its name.
    /// Nothing for the others, or in memory.
    fn folders(
        &self,
        before: &State,
        sources: &[DirectorySource],
        had: &[Option<usize>],
    ) -> std::vec::IntoIter<Option<PathBuf>> {
        let mut places = vec![None; sources.len()];
        let Some(state_dir) = &self.state_dir else { return places.into_iter() };
        let of_entry = |entry: &Arc<Entry>| lock(&entry.work.kept).folder().map(Path::to_owned);
        let mut others: HashSet<PathBuf> = before.entries.iter().filter_map(of_entry).collect();
        let found = state::folders(state_dir);
        let found: Vec<_> = found.iter().filter(|folder| !others.contains(&folder.path)).collect();
        let known: Vec<Known<'_>> = found
            .iter()
            .map(|folder| Known { name: &folder.name, place: folder.place.clone(), configured: None })
            .collect();
        // Those that go on with one before have a part in it, too: what they read is not another's.
        let of_disk = adopt(sources, &known);
        others.extend(found.iter().map(|folder| folder.path.clone()));
        for (index, new) in sources.iter().enumerate() {
            if had.get(index).copied().flatten().is_some() {
                continue;
            }
            let kept = of_disk.get(index).copied().flatten().and_then(|folder| found.get(folder));
            let path = kept
                .map_or_else(|| state::unused(state_dir, &new.name, &others), |folder| folder.path.clone());
            others.insert(path.clone());
            if let Some(place) = places.get_mut(index) {
                *place = Some(path);
            }
        }
        places.into_iter()
    }

    /// Reads the sources that are files again and puts in force those that are good. Blocks on the disk.
    pub fn reload(&self) -> ReloadReport {
        let state = self.current.load_full();
        let read =
            |entry: &Arc<Entry>| self.reread(entry).unwrap_or_else(|| SourceReport::of(&entry.configured));
        let mut sources: Vec<SourceReport> = state.entries.iter().map(read).collect();
        // What came in force of one can refuse a claim of another.
        let state = self.current.load();
        for (source, report) in sources.iter_mut().enumerate() {
            report.users = state.roll(source).map_or(0, |roll| roll.users.len());
            report.conflicts = state.conflicts(source);
            if let Some(entry) = state.entries.get(source) {
                report.state_faults.clone_from(&lock(&entry.work.standing).faults);
            }
        }
        ReloadReport { sources, taken: true }
    }

    /// `None` of a source that is no file, or is being read already.
    fn reread(&self, entry: &Arc<Entry>) -> Option<SourceReport> {
        if !entry.is_watched() {
            return None;
        }
        let _busy = entry.work.begin(entry.name()).ok()?;
        let sync = self.sync_entry(entry, SyncMode::Apply, Trigger::Change, &|| true).ok()?;
        let changed = matches!(sync.outcome, super::report::Outcome::Applied { .. });
        let error = sync.outcome.fault().cloned();
        Some(SourceReport { changed, error, sync: Some(sync), ..SourceReport::of(&entry.configured) })
    }

    /// The users of a gateway mailbox. A source may name it by any of its addresses on record, current or former, or
    /// the local part of one: a new address must not take its users away.
    pub fn snapshot_of(&self, gateway_mailbox: &GatewayMailbox) -> Arc<Snapshot> {
        let addresses = gateway_mailbox.addresses.iter().map(|served| &served.address);
        let names: Vec<AddressKey> =
            addresses.flat_map(|address| [address.key(), AddressKey::of(address.local())]).collect();
        self.current.load().snapshot_for(&names)
    }

    /// Claims of a source's users that are not granted in what is in force, each once.
    pub fn conflicts(&self, source: &str) -> Vec<Conflict> {
        let state = self.current.load();
        let place = state.entries.iter().position(|entry| entry.name() == source);
        place.map(|place| state.conflicts(place)).unwrap_or_default()
    }

    /// How every source stands, in the order of the configuration.
    pub fn sources(&self) -> Vec<SourceStatus> {
        let state = self.current.load();
        let now = now();
        let both = state.entries.iter().zip(&state.rolls);
        both.map(|(entry, roll)| entry.status(roll.as_ref(), now)).collect()
    }

    /// What is in force of a source; `None` when there is no such source, or it was never read.
    pub fn roll(&self, source: &str) -> Option<Arc<Roll>> {
        let state = self.current.load();
        let place = state.entries.iter().position(|entry| entry.name() == source)?;
        state.roll(place).map(Arc::clone)
    }

    /// Names of the sources that are to be asked now: their time has come, or a file of theirs differs from what was last read
    /// and has stopped changing: it looked the same at the call before. To be polled every few seconds; cheap, no file is read.
    /// One that is being read already is not named.
    pub fn due(&self, now: Timestamp) -> Vec<String> {
        let state = self.current.load();
        let is_due = |entry: &&Arc<Entry>| {
            // Looked at in any case: two looks in a row must be the same.
            let has_changed = entry.has_changed();
            let every = entry.configured.every_minutes;
            let is_past = |due| due <= now || schedule::is_too_far(due, now, every);
            let has_come = lock(&entry.work.standing).next_due.is_some_and(is_past);
            (has_changed || has_come) && entry.work.begin(entry.name()).is_ok()
        };
        state.entries.iter().filter(is_due).map(|entry| entry.name().to_owned()).collect()
    }

    pub(super) fn entry(&self, source: &str) -> Result<Arc<Entry>, SyncRefusal> {
        let state = self.current.load();
        let entry = state.entries.iter().find(|entry| entry.name() == source);
        entry.map(Arc::clone).ok_or_else(|| SyncRefusal::NoSuchSource(source.to_owned()))
    }
}

/// For each source, which of those in force it goes on with.
fn adopted(before: &State, sources: &[DirectorySource]) -> Vec<Option<usize>> {
    let known: Vec<Known<'_>> = before
        .entries
        .iter()
        .map(|entry| Known {
            name: entry.name(),
            place: Some(entry.configured.kind.place()),
            configured: Some(&entry.configured),
        })
        .collect();
    adopt(sources, &known)
}

/// Sources asked over the network that would begin without users though what they read is in force, under a name that is gone, and
/// another source goes on with that.
fn torn(before: &State, sources: &[DirectorySource]) -> Vec<SourceReport> {
    let had = adopted(before, sources);
    let mut torn = Vec::new();
    for (new, _) in sources.iter().zip(&had).filter(|(new, had)| had.is_none() && new.kind.path().is_none()) {
        let of = before.entries.iter().zip(&before.rolls).find(|(entry, roll)| {
            roll.is_some()
                && entry.configured.kind.place() == new.kind.place()
                && !sources.iter().any(|source| source.name == entry.name())
        });
        if let Some((entry, _)) = of {
            let error = Some(SourceFault::torn(&new.name, entry.name()));
            torn.push(SourceReport { error, ..SourceReport::of(new) });
        }
    }
    torn
}

impl SourceReport {
    /// Of one that was not read now.
    fn of(configured: &DirectorySource) -> SourceReport {
        SourceReport {
            name: configured.name.clone(),
            kind: configured.kind.as_str(),
            place: configured.kind.place(),
            users: 0,
            changed: false,
            conflicts: Vec::new(),
            error: None,
            sync: None,
            state_faults: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
