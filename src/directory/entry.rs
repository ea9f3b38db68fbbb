//! One `[[directory]]` as it is configured, and how it stands.

use super::filter::Dropped;
use super::merged::lock;
use super::report::{SourceStatus, StateFault, StateFaultKind, SyncRefusal};
use super::roll::Roll;
use super::source::{self, Look, Source};
use super::state::{Header, Kept, Pending, Tries};
use crate::config::DirectorySource;
use crate::mail::{AddressKey, Timestamp};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// One source with the settings it has. Other settings make another of it, which goes on with the same [`Work`].
pub(super) struct Entry {
    pub(super) configured: DirectorySource,
    /// Logins and addresses of the gateway mailboxes it serves; `None` is all.
    pub(super) served: Option<HashSet<AddressKey>>,
    pub(super) source: Box<dyn Source>,
    pub(super) work: Arc<Work>,
}

/// What goes on under a source's name, whatever its settings.
pub(super) struct Work {
    /// Held while it is read and what was read is put in force.
    busy: Mutex<()>,
    /// Only for what the disk takes.
    pub(super) kept: Mutex<Kept>,
    /// Only for moments.
    pub(super) standing: Mutex<Standing>,
}

/// How a source stands.
#[derive(Default)]
pub(super) struct Standing {
    /// Of the list in force.
    pub(super) header: Option<Header>,
    pub(super) pending: Option<Pending>,
    pub(super) tries: Tries,
    /// Whether the last reading is in force.
    pub(super) is_good: bool,
    pub(super) next_due: Option<Timestamp>,
    /// Who was filtered out at the last reading.
    pub(super) dropped: Vec<Dropped>,
    /// When the grace of each user who is gone ends, ascending.
    pub(super) grace_ends: Vec<Timestamp>,
    /// Lists were kept and none can be used: the next reading is no first one.
    pub(super) is_lost: bool,
    /// What is wrong with what is kept on disk: what was found when it was opened, and of other kinds the last of each.
    pub(super) faults: Vec<StateFault>,
    watch: Watch,
}

/// What was last seen of a source's files.
#[derive(Default)]
struct Watch {
    /// When last read, well or badly: a bad file is not read again until it changes.
    read: Option<Look>,
    /// At the last look.
    looked: Option<Look>,
}

impl Entry {
    pub(super) fn new(configured: &DirectorySource, source: Box<dyn Source>, work: Arc<Work>) -> Entry {
        let names = configured.mailboxes.as_ref();
        Entry {
            configured: configured.clone(),
            served: names.map(|names| names.iter().map(|name| AddressKey::of(name)).collect()),
            source,
            work,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.configured.name
    }

    /// Whether it is read from a path, which is looked at every few seconds.
    pub(super) fn is_watched(&self) -> bool {
        self.configured.kind.path().is_some()
    }

    pub(super) fn serves(&self, names: &[AddressKey]) -> bool {
        match &self.served {
            None => true,
            Some(served) => names.iter().any(|name| served.contains(name)),
        }
    }

    /// How its files look now; nothing of one that has none.
    pub(super) fn look(&self) -> Option<Look> {
        self.is_watched().then(|| source::look(&self.configured.kind))
    }

    /// Whether its files differ from what was last read and have stopped changing: they looked the same at the call before.
    pub(super) fn has_changed(&self) -> bool {
        let Some(look) = self.look() else { return false };
        let look = Some(look);
        let mut standing = lock(&self.work.standing);
        let has_settled = standing.watch.looked == look;
        let differs = standing.watch.read != look;
        standing.watch.looked = look;
        differs && has_settled
    }

    /// What is asked over the network at regular times is due now, unless it has been asked already with these settings.
    pub(super) fn ask_at_once(&self) {
        let mut standing = lock(&self.work.standing);
        if standing.next_due.is_none() && !self.is_watched() && self.configured.every_minutes > 0 {
            standing.next_due = Some(Timestamp::from_unix_ms(0));
        }
    }

    /// The same, whenever it was asked last.
    pub(super) fn ask_soon(&self) {
        if !self.is_watched() && self.configured.every_minutes > 0 {
            lock(&self.work.standing).next_due = Some(Timestamp::from_unix_ms(0));
        }
    }

    pub(super) fn status(&self, roll: Option<&Arc<Roll>>, now: Timestamp) -> SourceStatus {
        let standing = lock(&self.work.standing);
        let tries = standing.tries.clone();
        let over = standing.grace_ends.partition_point(|ends| *ends <= now);
        SourceStatus {
            name: self.name().to_owned(),
            kind: self.configured.kind.as_str().to_owned(),
            place: self.configured.kind.place(),
            users: roll.map_or(0, |roll| roll.users.len()),
            gone: standing.grace_ends.len().saturating_sub(over),
            is_good: standing.is_good,
            last_good: tries.last_good,
            last_try: tries.last_try,
            error: tries.error,
            failures: tries.failures,
            snapshot: standing.number(),
            taken_at: standing.header.as_ref().map(|header| header.taken_at),
            pending: standing.pending.as_ref().map(|pending| pending.summary.clone()),
            held: standing.is_held(),
            next_due: standing.next_due,
            state_faults: standing.faults.iter().map(|fault| fault.text.clone()).collect(),
            shared_dropped: standing.dropped.iter().take_while(|dropped| dropped.out.is_shared).count(),
        }
    }
}

impl Work {
    /// What was kept of a source in this folder, and the list that was in force.
    pub(super) fn open(folder: Option<PathBuf>, name: &str) -> (Work, Option<Arc<Roll>>) {
        let (kept, mut found) = Kept::open(folder);
        let (header, roll) = found.in_force.unzip();
        // One that was made under another name is made again.
        found.pending = found.pending.filter(|pending| pending.summary.source == name);
        let standing = Standing {
            is_good: found.pending.is_none() && found.tries.error.is_none(),
            header,
            pending: found.pending,
            tries: found.tries,
            grace_ends: roll.as_ref().map(grace_ends).unwrap_or_default(),
            is_lost: found.is_lost,
            faults: found.faults,
            ..Standing::default()
        };
        let work = Work { busy: Mutex::default(), kept: Mutex::new(kept), standing: Mutex::new(standing) };
        (work, roll.map(Arc::new))
    }

    /// For whoever reads the source: nobody else does meanwhile.
    pub(super) fn begin(&self, name: &str) -> Result<MutexGuard<'_, ()>, SyncRefusal> {
        match self.busy.try_lock() {
            Ok(busy) => Ok(busy),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(SyncRefusal::Busy(name.to_owned())),
        }
    }
}

impl Work {
    /// Other settings come: what was planned and noted under those before is void.
    pub(super) fn expect_anew(&self) {
        let plan = {
            let mut standing = lock(&self.standing);
            standing.next_due = None;
            standing.dropped = Vec::new();
            standing.watch = Watch::default();
            standing.pending.take()
        };
        if plan.is_some() {
            // One that stays on disk waits again after a start, until the next reading.
            lock(&self.kept).keep_plan(None).ok();
        }
    }
}

impl Standing {
    /// Number of the list in force; 0 is none.
    pub(super) fn number(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.number)
    }

    /// Whether someone went back to the list in force, or it stands in for one that cannot be used.
    pub(super) fn is_held(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.held)
    }

    /// Notes what is wrong, in place of what was of its kind.
    pub(super) fn tell(&mut self, fault: StateFault) {
        self.mended(fault.kind);
        self.faults.push(fault);
    }

    /// Nothing of this kind is wrong any more.
    pub(super) fn mended(&mut self, kind: StateFaultKind) {
        self.faults.retain(|fault| fault.kind != kind);
    }

    /// Its files were read as they looked then.
    pub(super) fn was_read(&mut self, look: Option<Look>) {
        self.watch.read.clone_from(&look);
        self.watch.looked = look;
    }
}

/// When the grace of each user who is gone ends, ascending. Users who are back, or have lost an address, have none.
pub(super) fn grace_ends(roll: &Roll) -> Vec<Timestamp> {
    let stays: HashSet<&str> = roll.users.iter().map(|user| user.id.as_str()).collect();
    let mut ends: HashMap<&str, Timestamp> = HashMap::new();
    for tenure in roll.former.iter().filter(|tenure| tenure.gone.is_some_and(|gone| gone < tenure.until)) {
        let id = tenure.user.id.as_str();
        if !stays.contains(id) {
            let end = ends.entry(id).or_insert(tenure.until);
            *end = tenure.until.max(*end);
        }
    }
    let mut ends: Vec<Timestamp> = ends.into_values().collect();
    ends.sort_unstable();
    ends
}
