//! What is in force of all sources, and the snapshots made of it: one for every set of sources that serves some gateway mailbox.

use super::entry::Entry;
use super::roll::Roll;
use super::snapshot::{Conflict, Snapshot};
use crate::mail::AddressKey;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which sources serve a gateway mailbox: bit n stands for source n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceSet(u64);

impl SourceSet {
    fn with(self, source: usize) -> SourceSet {
        SourceSet(self.0 | 1u64.checked_shl(source as u32).unwrap_or(0))
    }

    fn holds(self, source: usize) -> bool {
        self.0 & 1u64.checked_shl(source as u32).unwrap_or(0) != 0
    }
}

/// What is in force. Never changes once made: what changes something makes another.
pub(super) struct State {
    /// In the order of precedence.
    pub(super) entries: Vec<Arc<Entry>>,
    /// One for each; `None` of a source that was never read.
    pub(super) rolls: Vec<Option<Arc<Roll>>>,
    /// Grows when a gateway mailbox turns up that two names in different sources both mean.
    snapshots: Mutex<HashMap<SourceSet, Arc<Snapshot>>>,
}

impl State {
    pub(super) fn of(entries: Vec<Arc<Entry>>, rolls: Vec<Option<Arc<Roll>>>) -> State {
        let state = State { entries, rolls, snapshots: Mutex::default() };
        let sets = named_sets(&state.entries);
        let made = sets.into_iter().map(|set| (set, Arc::new(merge(&state.rolls, set)))).collect();
        State { snapshots: Mutex::new(made), ..state }
    }

    /// The same with this in force of one source. Snapshots it has no part in stay as they are.
    pub(super) fn with(&self, source: usize, roll: Arc<Roll>) -> State {
        let mut rolls = self.rolls.clone();
        if let Some(place) = rolls.get_mut(source) {
            *place = Some(roll);
        }
        let had = lock(&self.snapshots).clone();
        let made = had.into_iter().map(|(set, snapshot)| {
            (set, if set.holds(source) { Arc::new(merge(&rolls, set)) } else { snapshot })
        });
        let made = made.collect();
        State { entries: self.entries.clone(), rolls, snapshots: Mutex::new(made) }
    }

    /// What the sources serving a gateway mailbox with one of these names say together.
    pub(super) fn snapshot_for(&self, names: &[AddressKey]) -> Arc<Snapshot> {
        let set = serving(&self.entries, names);
        let mut snapshots = lock(&self.snapshots);
        Arc::clone(snapshots.entry(set).or_insert_with(|| Arc::new(merge(&self.rolls, set))))
    }

    /// What all sources say together, whichever gateway mailboxes they serve. Linear in what they say unless one is served by all.
    pub(super) fn everyone(&self) -> Arc<Snapshot> {
        let all = (0..self.entries.len()).fold(SourceSet::default(), SourceSet::with);
        let had = lock(&self.snapshots).get(&all).map(Arc::clone);
        had.unwrap_or_else(|| Arc::new(merge(&self.rolls, all)))
    }

    /// Claims of a source's users that are not granted in any snapshot, each once.
    pub(super) fn conflicts(&self, source: usize) -> Vec<Conflict> {
        let snapshots = lock(&self.snapshots);
        let mut sets: Vec<_> = snapshots.iter().filter(|(set, _)| set.holds(source)).collect();
        sets.sort_unstable_by_key(|(set, _)| **set);
        let all = sets.into_iter().flat_map(|(_, snapshot)| snapshot.conflicts());
        let mut seen = HashSet::new();
        all.filter(|conflict| conflict.list == source && seen.insert(*conflict)).cloned().collect()
    }

    /// Which source an entry is now; `None` when the settings have changed since.
    pub(super) fn place_of(&self, entry: &Arc<Entry>) -> Option<usize> {
        self.entries.iter().position(|other| Arc::ptr_eq(other, entry))
    }

    pub(super) fn roll(&self, source: usize) -> Option<&Arc<Roll>> {
        self.rolls.get(source)?.as_ref()
    }
}

fn serving(entries: &[Arc<Entry>], names: &[AddressKey]) -> SourceSet {
    let serving = entries.iter().enumerate().filter(|(_, entry)| entry.serves(names));
    serving.fold(SourceSet::default(), |set, (index, _)| set.with(index))
}

/// The sets of sources that the configuration lets one expect: one for each name in it, and one for all
/// gateway mailboxes it does not name.
fn named_sets(entries: &[Arc<Entry>]) -> HashSet<SourceSet> {
    let names = entries.iter().filter_map(|entry| entry.served.as_ref()).flatten();
    let mut sets: HashSet<SourceSet> =
        names.map(|name| serving(entries, std::slice::from_ref(name))).collect();
    sets.insert(serving(entries, &[]));
    sets
}

fn merge(rolls: &[Option<Arc<Roll>>], set: SourceSet) -> Snapshot {
    // Sources left out are merged as empty ones, so that a conflict's list is the number of its source.
    let nobody = Roll::default();
    let rolls = rolls.iter().enumerate();
    Snapshot::of_rolls(rolls.map(|(index, roll)| match roll {
        Some(roll) if set.holds(index) => &**roll,
        _ => &nobody,
    }))
}

/// A panic elsewhere must not stop mail: what these locks guard is whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
