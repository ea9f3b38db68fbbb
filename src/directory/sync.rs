//! One sync of one source, from what the directory says to what is in force.
//!
//! ```text
//! read ─▶ filter ─▶ whose is it? ─▶ diff ─▶ guard ─┬▶ keep on disk ─▶ in force
//!   └ incomplete: nothing changes                  └▶ a plan waits for a person's word
//! ```

use super::entry::{Entry, Standing, grace_ends};
use super::filter::{self, Dropped, FILTERED_LISTED_MAX, Filtered};
use super::live::Directory;
use super::merged::lock;
use super::plan::{Alarm, Plan, Wanted};
use super::report::{
    Outcome, PlanSummary, SourceFault, StateFault, StateFaultKind, SyncMode, SyncRefusal, SyncReport, Trigger,
};
use super::roll::{self, Roll};
use super::schedule;
use super::snapshot::Conflict;
use super::source::{Listing, Look, SourceError};
use super::state::{Header, Pending};
use crate::mail::Timestamp;
use crate::observe::now;
use aws_lc_rs::digest::{Context, SHA256};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

/// Claims not granted that are listed in a report; the rest is counted.
pub const CONFLICTS_LISTED_MAX: usize = 1_000;
/// A list made so much later than now was made while the clock was ahead, in milliseconds. Less is a clock being set, and time
/// stands still meanwhile.
const CLOCK_AHEAD_MS: i64 = 5 * 60_000;

/// Why what was read did not come in force.
pub(super) enum NotApplied {
    /// It could not be kept.
    Storage(std::io::Error),
    /// The source has other settings by now.
    Superseded,
}

impl Directory {
    /// Asks a source who its users are, and puts that in force if it can be believed. Blocks as long as the source takes; what is
    /// in force serves mail meanwhile, and other sources can be asked beside it.
    ///
    /// # Errors
    /// [`SyncRefusal`]: nothing was tried. That the source failed is no error but [`Outcome::Failed`].
    pub fn sync(
        &self,
        source: &str,
        how: SyncMode,
        by: Trigger,
        go_on: &dyn Fn() -> bool,
    ) -> Result<SyncReport, SyncRefusal> {
        let entry = self.entry(source)?;
        let _busy = entry.work.begin(source)?;
        self.sync_entry(&entry, how, by, go_on)
    }

    /// The same of an entry, while it is held for it.
    pub(super) fn sync_entry(
        &self,
        entry: &Arc<Entry>,
        how: SyncMode,
        by: Trigger,
        go_on: &dyn Fn() -> bool,
    ) -> Result<SyncReport, SyncRefusal> {
        let began = Instant::now();
        // Looked at before reading: a write in between makes the next look differ, so it is not missed.
        let look = entry.look();
        let before = self.in_force(entry)?;
        let mut report = blank(entry, by, before.as_deref());
        let mut patience = None;
        match entry.source.read(go_on) {
            Ok(listing) => self.judge(entry, how, listing, before.as_deref(), &mut report)?,
            Err(error) => {
                patience = error.asks_for_patience();
                report.outcome = Outcome::Failed(SourceFault::from(&error));
            }
        }
        report.at = now();
        report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if how == SyncMode::Apply {
            let noted = self.while_in_force(entry, || {
                note(entry, &report, look);
                if let Some(wait) = patience {
                    let mut standing = lock(&entry.work.standing);
                    standing.next_due = schedule::no_earlier(standing.next_due, report.at, wait);
                }
            });
            // What came in force did, whatever the settings are by now.
            if !matches!(report.outcome, Outcome::Applied { .. }) {
                noted?;
            }
        }
        Ok(report)
    }

    /// Does something to how a source stands, unless it has other settings by now: what was read under those before says nothing
    /// about them.
    fn while_in_force<T>(&self, entry: &Arc<Entry>, act: impl FnOnce() -> T) -> Result<T, SyncRefusal> {
        let _one_at_a_time = lock(&self.changing);
        self.in_force(entry)?;
        Ok(act())
    }

    fn judge(
        &self,
        entry: &Arc<Entry>,
        how: SyncMode,
        listing: Listing,
        before: Option<&Roll>,
        report: &mut SyncReport,
    ) -> Result<(), SyncRefusal> {
        report.requests = listing.requests;
        report.skipped = listing.skipped;
        report.more_skipped = listing.more_skipped;
        let Filtered { users, dropped, dropped_count } =
            filter::sort(listing.candidates, &entry.configured.filters);
        list_dropped(report, &dropped, dropped_count);
        self.while_in_force(entry, || lock(&entry.work.standing).dropped = dropped)?;
        if users.is_empty() && before.is_none() {
            report.outcome = Outcome::Failed(SourceFault::from(&SourceError::Empty));
            return Ok(());
        }
        let wanted = Wanted::of(users, before);
        report.users = wanted.users.len();
        let (held, is_lost, is_moved, ahead) = {
            let standing = lock(&entry.work.standing);
            let place = standing.header.as_ref().map(|header| &header.place);
            let is_moved = place.is_some_and(|place| *place != entry.configured.kind.place());
            (standing.is_held(), standing.is_lost, is_moved, ahead(&standing, now()))
        };
        if let (SyncMode::Apply, Some(fault)) = (how, &ahead) {
            self.while_in_force(entry, || tell_once(entry, fault, report))?;
        }
        if before.is_some_and(|before| wanted.is_in_force(before)) {
            report.outcome = match how {
                // Written anew with what the head and the times are to say: they tell whose list it is, and whose mail was whose.
                SyncMode::Apply if is_moved || ahead.is_some() => self.applied(entry, wanted, held)?,
                SyncMode::Apply => {
                    self.while_in_force(entry, || drop_plan(entry))?;
                    Outcome::Unchanged
                }
                SyncMode::DryRun => Outcome::Unchanged,
            };
            self.list_granted(entry, report);
            return Ok(());
        }
        let Plan { diff, mut why } = Plan::of(before, &wanted, entry.configured.guard, held, now());
        why.extend(is_lost.then_some(Alarm::Lost));
        report.diff = diff;
        list_conflicts(report, wanted.conflicts());
        report.outcome = match (how, why.is_empty()) {
            (SyncMode::DryRun, true) => Outcome::WouldApply,
            (SyncMode::DryRun, false) => Outcome::WouldBePending { why },
            (SyncMode::Apply, false) => self.while_in_force(entry, || pend(entry, wanted, why, report))?,
            (SyncMode::Apply, true) => self.applied(entry, wanted, false)?,
        };
        if matches!(report.outcome, Outcome::Applied { .. }) {
            self.list_granted(entry, report);
        }
        if report.outcome.fault().is_some() {
            report.users = report.users_before;
        }
        Ok(())
    }

    /// As [`apply`](Directory::apply), and says what came of it. One that is held stays so.
    fn applied(&self, entry: &Arc<Entry>, wanted: Wanted, held: bool) -> Result<Outcome, SyncRefusal> {
        let back_to =
            lock(&entry.work.standing).header.as_ref().and_then(|last| last.back_to).filter(|_| held);
        match self.apply(entry, wanted, held, back_to) {
            Ok(snapshot) => Ok(Outcome::Applied { snapshot }),
            Err(NotApplied::Storage(error)) => Ok(Outcome::Failed(SourceFault::storage(&error))),
            Err(NotApplied::Superseded) => Err(SyncRefusal::Superseded(entry.name().to_owned())),
        }
    }

    /// Keeps users on disk and puts them in force; gives the number of the list they are. `back_to` is the list they are of, when
    /// someone went back to it.
    pub(super) fn apply(
        &self,
        entry: &Arc<Entry>,
        wanted: Wanted,
        held: bool,
        back_to: Option<u64>,
    ) -> Result<u64, NotApplied> {
        let _one_at_a_time = lock(&self.changing);
        let state = self.current.load_full();
        let source = state.place_of(entry).ok_or(NotApplied::Superseded)?;
        let mut kept = lock(&entry.work.kept);
        let now = now();
        let (last, ahead) = {
            let standing = lock(&entry.work.standing);
            (standing.header.as_ref().map(|header| header.taken_at), ahead(&standing, now))
        };
        let before = state.roll(source);
        let rewound = before.filter(|_| ahead.is_some()).map(|before| roll::rewound(before, now));
        let header = Header {
            number: kept.next_number().map_err(NotApplied::Storage)?,
            // A clock that was set back a little must not make a user's time end before it began.
            taken_at: last.filter(|_| ahead.is_none()).map_or(now, |last| now.max(last)),
            source: entry.name().to_owned(),
            place: entry.configured.kind.place(),
            users: wanted.users.len(),
            held,
            back_to,
        };
        let before = rewound.as_ref().or(before.map(|roll| &**roll));
        let roll = roll::next(before, wanted, header.taken_at, entry.configured.grace_days);
        kept.keep(&header, &roll).map_err(NotApplied::Storage)?;
        let number = header.number;
        {
            let mut standing = lock(&entry.work.standing);
            standing.grace_ends = grace_ends(&roll);
            standing.header = Some(header);
            standing.pending = None;
            // The newest list is good: what is wrong with others is in nobody's way.
            standing.is_lost = false;
            standing.faults = Vec::new();
        }
        self.current.store(Arc::new(state.with(source, Arc::new(roll))));
        Ok(number)
    }

    /// What is in force of a source now.
    pub(super) fn in_force(&self, entry: &Arc<Entry>) -> Result<Option<Arc<Roll>>, SyncRefusal> {
        let state = self.current.load();
        let source = state.place_of(entry).ok_or_else(|| SyncRefusal::Superseded(entry.name().to_owned()))?;
        Ok(state.roll(source).map(Arc::clone))
    }

    /// Lists the claims not granted in what is in force, across sources too.
    pub(super) fn list_granted(&self, entry: &Arc<Entry>, report: &mut SyncReport) {
        let state = self.current.load();
        if let Some(source) = state.place_of(entry) {
            list_conflicts(report, state.conflicts(source));
        }
    }
}

/// A report of nothing yet.
pub(super) fn blank(entry: &Entry, by: Trigger, before: Option<&Roll>) -> SyncReport {
    let users = before.map_or(0, |roll| roll.users.len());
    SyncReport {
        source: entry.name().to_owned(),
        kind: entry.configured.kind.as_str().to_owned(),
        place: entry.configured.kind.place(),
        by,
        at: now(),
        took_ms: 0,
        requests: 0,
        outcome: Outcome::Unchanged,
        users_before: users,
        users,
        diff: Default::default(),
        filtered: Vec::new(),
        more_filtered: 0,
        skipped: Vec::new(),
        more_skipped: 0,
        conflicts: Vec::new(),
        more_conflicts: 0,
        state_faults: Vec::new(),
    }
}

/// What is wrong where the list in force was made later than now.
fn ahead(standing: &Standing, now: Timestamp) -> Option<StateFault> {
    let header = standing.header.as_ref()?;
    let is_ahead = header.taken_at.unix_ms().saturating_sub(now.unix_ms()) > CLOCK_AHEAD_MS;
    is_ahead.then(|| StateFault {
        kind: StateFaultKind::Clock,
        text: format!(
            "list {} was made while the clock was ahead, at {}: what it says began or ended later than now did so now",
            header.number, header.taken_at
        ),
    })
}

fn list_dropped(report: &mut SyncReport, dropped: &[Dropped], count: u64) {
    report.filtered = dropped.iter().take(FILTERED_LISTED_MAX).map(|dropped| dropped.out.clone()).collect();
    report.more_filtered = count.saturating_sub(report.filtered.len() as u64);
}

fn list_conflicts(report: &mut SyncReport, mut conflicts: Vec<Conflict>) {
    report.more_conflicts = conflicts.len().saturating_sub(CONFLICTS_LISTED_MAX) as u64;
    conflicts.truncate(CONFLICTS_LISTED_MAX);
    report.conflicts = conflicts;
}

/// Has a change wait for a person's word. One that already waits and is the same keeps its name and its time.
fn pend(entry: &Entry, wanted: Wanted, why: Vec<Alarm>, report: &mut SyncReport) -> Outcome {
    let (base, waiting, was_unkept) = {
        let standing = lock(&entry.work.standing);
        let was_unkept = standing.faults.iter().any(|fault| fault.kind == StateFaultKind::Unkept);
        (standing.number(), standing.pending.as_ref().map(|pending| pending.summary.clone()), was_unkept)
    };
    let plan = format!("{}-{base}-{}", entry.name(), digest(&wanted));
    let made_at = waiting.filter(|waiting| waiting.plan == plan).map(|waiting| waiting.made_at);
    let is_kept = made_at.is_some() && !was_unkept;
    let summary = PlanSummary {
        plan: plan.clone(),
        source: entry.name().to_owned(),
        made_at: made_at.unwrap_or_else(now),
        base,
        why: why.clone(),
        users_before: report.users_before,
        users: report.users,
        diff: report.diff.clone(),
    };
    let pending = Pending { summary, wanted };
    // Without the disk it waits for as long as the program runs.
    let kept = if is_kept { Ok(()) } else { lock(&entry.work.kept).keep_plan(Some(&pending)) };
    match kept {
        Ok(()) => lock(&entry.work.standing).mended(StateFaultKind::Unkept),
        Err(error) => {
            let text = format!("plan {plan} cannot be kept on disk: {error}");
            tell_once(entry, &StateFault { kind: StateFaultKind::Unkept, text }, report);
        }
    }
    lock(&entry.work.standing).pending = Some(pending);
    Outcome::Pending { plan, why }
}

/// Notes what is wrong on disk, and has the report say so unless it is known: it is found with every reading.
fn tell_once(entry: &Entry, fault: &StateFault, report: &mut SyncReport) {
    let mut standing = lock(&entry.work.standing);
    if !standing.faults.contains(fault) {
        report.state_faults.push(fault.clone());
        standing.tell(fault.clone());
    }
}

/// Nothing waits any more: the source says what is in force.
fn drop_plan(entry: &Entry) {
    let mut standing = lock(&entry.work.standing);
    standing.mended(StateFaultKind::Unkept);
    let waited = standing.pending.take();
    drop(standing);
    if waited.is_some() {
        // What stays on disk waits again after a start, and the next reading drops it again.
        lock(&entry.work.kept).keep_plan(None).ok();
    }
}

/// Eight digits that tell what would be in force, whatever the order it was read in.
fn digest(wanted: &Wanted) -> String {
    let mut users: Vec<_> = wanted.users.iter().collect();
    users.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let mut hash = Context::new(&SHA256);
    for user in users {
        for text in [user.id.as_str(), &user.name].into_iter().chain(user.addresses()) {
            hash.update(text.as_bytes());
            hash.update(b"\n");
        }
        hash.update(b"\n");
    }
    hash.finish().as_ref().iter().take(4).map(|octet| format!("{octet:02x}")).collect()
}

/// Notes how a try went, and when the next one is.
fn note(entry: &Entry, report: &SyncReport, look: Option<Look>) {
    let luck = RandomState::new().build_hasher().finish();
    let every = entry.configured.every_minutes;
    let tries = {
        let mut standing = lock(&entry.work.standing);
        standing.was_read(look);
        match &report.outcome {
            Outcome::Failed(fault) => {
                failed(&mut standing, fault, entry.is_watched(), (report.at, every, luck))
            }
            outcome => {
                standing.is_good = !outcome.needs_approval();
                let last_good = if standing.is_good { Some(report.at) } else { standing.tries.last_good };
                standing.tries.last_good = last_good;
                standing.tries.error = None;
                standing.tries.failures = 0;
                standing.next_due = schedule::next(report.at, every, 0, luck);
            }
        }
        standing.tries.last_try = Some(report.at);
        standing.tries.clone()
    };
    lock(&entry.work.kept).keep_tries(&tries);
}

fn failed(
    standing: &mut Standing,
    fault: &SourceFault,
    is_watched: bool,
    (at, every, luck): (Timestamp, u32, u64),
) {
    if fault.kind == SourceError::Stopped.kind() {
        return;
    }
    standing.is_good = false;
    standing.tries.error = Some(fault.clone());
    standing.tries.failures = standing.tries.failures.saturating_add(1);
    let failures = standing.tries.failures;
    // A file that could not be read need not look any different when it can.
    standing.next_due = if fault.is_storage() || (is_watched && fault.is_unreadable()) {
        Some(schedule::retry(at, every, failures, luck))
    } else {
        schedule::next(at, every, failures, luck)
    };
    if fault.is_refusal() {
        standing.next_due = schedule::after_refusal(at, every, luck);
    }
}
