//! The index looked through, or made anew beside the one in use, on a thread of its own.
//!
//! ```text
//! log ─▶ thread: index.sqlite.new, up to where the committer is ─▶ committer: the rest, and puts it in its place
//! ```
//! Meanwhile mail is taken and fetched by the index there is, as far as that goes: whatever its checks do not confirm is
//! answered with an error and not with less. A rebuild that nobody asked for begins by itself when damage was found.

use super::committer::{Command, Queued, ask_blocking};
use super::embedded::Shared;
use super::index::{Examined, Index, Making};
use super::log::{Finding, Log, Position};
use super::replay::{forget_unfinished, open_unfinished, replay_up_to, tell_damage, with_unfinished};
use super::{Embedded, Options, StoreError};
use rusqlite::InterruptHandle;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often a long replay is told of in the log.
const TOLD_INTERVAL: Duration = Duration::from_secs(5);
/// Groups the committer may take in itself when it is given the new index, while mail waits. Most groups are small; large ones
/// may make that some seconds.
const HANDED_OVER_GROUPS_MAX: u64 = 256;
/// Stretches after which it is given to the committer although more are left: mail comes faster than it is read.
const STRETCHES_MAX: usize = 64;
/// What is said where a sound index stays in use since the log cannot give all of it any more.
pub(super) const KNOWS_MORE: &str =
    "the index in use knows of more than the log can give: it stays as it is, and nothing was changed";
/// Between two rebuilds that nobody asked for, so many times what the last one took: a disk that damages every index must not
/// keep the machine busy with it.
const PAUSE_FACTOR: u32 = 9;
/// The longest such pause while no mail can be taken without a new index.
const AWAITED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Between two attempts to end a check.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(50);

/// What can be done about the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexJob {
    /// It is looked through; nothing changes.
    Check,
    /// It is made anew from the log.
    Rebuild,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexProgress {
    /// Octets of the log that were read.
    pub octets: u64,
    /// Octets of the log to read.
    pub octets_total: u64,
    /// Receipts taken in.
    pub messages: u64,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexOutcome {
    /// Which job.
    pub job: IndexJob,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The first of what is damaged, in words.
    pub findings: Vec<String>,
    /// How much is damaged.
    pub damaged: u64,
    /// Folders looked at.
    pub folders: u64,
    /// Live entries looked at.
    pub entries: u64,
    /// Of a rebuild.
    pub progress: IndexProgress,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// What is being done about the index, and what came of the last thing that was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexState {
    /// What is being done.
    pub doing: Option<IndexJob>,
    /// How far it is.
    pub progress: IndexProgress,
    /// Of the last job, whoever began it.
    pub last: Option<IndexOutcome>,
}

/// How far a replay is; told in the log from time to time.
#[derive(Debug, Default)]
pub struct Progress {
    octets: AtomicU64,
    octets_total: AtomicU64,
    messages: AtomicU64,
    told: Mutex<Option<Instant>>,
    stopped: AtomicBool,
}

impl Progress {
    /// As it is now.
    pub fn now(&self) -> IndexProgress {
        IndexProgress {
            octets: self.octets.load(Ordering::Relaxed),
            octets_total: self.octets_total.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
        }
    }

    /// Something else begins.
    pub(super) fn begin(&self, octets_total: u64) {
        self.octets.store(0, Ordering::Relaxed);
        self.messages.store(0, Ordering::Relaxed);
        self.octets_total.store(octets_total, Ordering::Relaxed);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn extend(&self, octets_total: u64) {
        self.octets_total.store(octets_total, Ordering::Relaxed);
    }

    /// Whatever replays ends as soon as it can.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The store is closing.
    pub(super) fn advance(&self, octets: u64, messages: u64) -> Result<(), StoreError> {
        self.octets.fetch_add(octets, Ordering::Relaxed);
        self.messages.fetch_add(messages, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() >= TOLD_INTERVAL) {
            *told = Some(Instant::now());
            let IndexProgress { octets, octets_total, messages } = self.now();
            tracing::info!(event = "store.replaying", octets, octets_total, messages);
        }
        if self.goes_on() { Ok(()) } else { Err(StoreError::closed()) }
    }
}

/// The one job that is done at a time.
#[derive(Default)]
pub(super) struct IndexJobs {
    state: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    doing: Option<IndexJob>,
    last: Option<IndexOutcome>,
    thread: Option<JoinHandle<()>>,
    /// When the last rebuild ended, and how long it took.
    rebuilt: Option<(Instant, Duration)>,
    /// Ends the check that is done.
    interrupt: Option<InterruptHandle>,
    /// The check is to end.
    is_given_up: bool,
}

impl Jobs {
    /// Ends the check that is done, if one is.
    fn give_up_check(&mut self) {
        self.is_given_up = true;
        if let Some(interrupt) = &self.interrupt {
            interrupt.interrupt();
        }
    }

    /// True while no rebuild begins by itself.
    fn rests(&self, is_awaited: bool) -> bool {
        self.rebuilt.is_some_and(|(at, took)| {
            let pause = took.saturating_mul(PAUSE_FACTOR);
            at.elapsed() < if is_awaited { pause.min(AWAITED_PAUSE_MAX) } else { pause }
        })
    }
}

impl IndexJobs {
    fn state(&self) -> MutexGuard<'_, Jobs> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self, shared: &Shared) -> IndexState {
        let state = self.state();
        IndexState { doing: state.doing, progress: shared.progress().now(), last: state.last.clone() }
    }

    /// Begins a job; one that is being done already is left to it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] while another is done.
    pub(super) fn begin(
        self: &Arc<Self>,
        job: IndexJob,
        shared: &Arc<Shared>,
        commands: mpsc::WeakSender<Queued>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.doing == Some(job) {
            return Ok(());
        }
        if let Some(doing) = state.doing {
            let what = match doing {
                IndexJob::Check => "looked through",
                IndexJob::Rebuild => "made anew",
            };
            return Err(StoreError::Refused(format!("the index is being {what} already")));
        }
        state.doing = Some(job);
        state.is_given_up = false;
        shared.progress().begin(0);
        let (jobs, shared) = (Arc::clone(self), Arc::clone(shared));
        let work = move || {
            let began = Instant::now();
            // After a panic too another job may be begun.
            let outcome = catch_unwind(AssertUnwindSafe(|| match job {
                IndexJob::Check => jobs.look_through(&shared),
                IndexJob::Rebuild => build_beside(&shared, &commands),
            }))
            .unwrap_or_else(|_| {
                let error = std::io::Error::other("it failed; the log says where");
                Err(StoreError::io("working on the index", error))
            });
            jobs.end(job, outcome, shared.progress().now(), began.elapsed());
        };
        match std::thread::Builder::new().name("reindexer".to_owned()).spawn(work) {
            Ok(thread) => state.thread = Some(thread),
            Err(e) => {
                state.doing = None;
                return Err(StoreError::io("starting a thread", e));
            }
        }
        Ok(())
    }

    /// Begins a rebuild that nobody asked for, unless the last one was just now. A check gives way to it.
    pub(super) fn mend(self: &Arc<Self>, shared: &Arc<Shared>, commands: mpsc::WeakSender<Queued>) {
        let mut state = self.state();
        if state.rests(shared.index_is_awaited()) {
            return;
        }
        match state.doing {
            Some(IndexJob::Check) => return state.give_up_check(),
            Some(IndexJob::Rebuild) => return,
            None => drop(state),
        }
        if let Err(error) = self.begin(IndexJob::Rebuild, shared, commands) {
            tracing::error!(event = "store.index_failed", %error);
        }
    }

    fn end(
        &self,
        job: IndexJob,
        outcome: Result<Examined, StoreError>,
        progress: IndexProgress,
        took: Duration,
    ) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut state = self.state();
        if job == IndexJob::Rebuild {
            state.rebuilt = Some((Instant::now(), took));
            match &outcome {
                Ok(_) => tracing::warn!(event = "store.index_repaired", messages = progress.messages, ms),
                Err(error) => tracing::error!(event = "store.index_failed", %error),
            }
        }
        state.doing = None;
        state.interrupt = None;
        state.last = Some(IndexOutcome::of(job, outcome, progress, ms));
    }

    /// Waits for the thread; the replay was told to stop.
    pub(super) fn join(&self) {
        let thread = self.state().thread.take();
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            // What it is at by the next time may need it again.
            self.state().give_up_check();
            std::thread::sleep(INTERRUPT_INTERVAL);
        }
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(event = "store.thread_failed");
        }
    }

    /// Looks through the index of an open store.
    fn look_through(&self, shared: &Shared) -> Result<Examined, StoreError> {
        let before = shared.log_end();
        let index = match shared.open_reader() {
            Ok(index) => index,
            Err(error) => return Ok(Examined::hopeless(error.to_string())),
        };
        self.state().interrupt = Some(index.interrupt_handle());
        let mut examined = index.examine(&|| shared.progress().goes_on() && !self.state().is_given_up)?;
        if let Some(position) = examined.position {
            let is_behind = position.sequence < before.sequence;
            // The same group may lie in another segment by now.
            let is_beside = position.sequence == before.sequence && !position.is_same_group_as(&before);
            if is_behind || is_beside {
                examined.tell("it is not where the log is".to_owned());
            }
        }
        Ok(examined)
    }
}

impl IndexOutcome {
    fn of(
        job: IndexJob,
        outcome: Result<Examined, StoreError>,
        progress: IndexProgress,
        ms: u64,
    ) -> IndexOutcome {
        let (examined, error) = match outcome {
            Ok(examined) => (examined, None),
            Err(error) => (Examined::default(), Some(error.to_string())),
        };
        let Examined { folders, entries, findings, damaged, .. } = examined;
        IndexOutcome { job, error, findings, damaged, folders, entries, progress, ms }
    }
}

/// Makes an index from the log up to where the committer is, and gives it to the committer. Gives what is damaged in the log.
fn build_beside(shared: &Shared, commands: &mpsc::WeakSender<Queued>) -> Result<Examined, StoreError> {
    let path = shared.new_index_path();
    let (mut damage, loses) = with_unfinished(shared, |index| {
        let (mut damage, mut loses) = (Vec::new(), index.making() == Making::GoingWithLoss);
        let from = index.position()?;
        for stretch in 0..STRETCHES_MAX {
            let end = shared.log_end();
            let behind = Log::octets_behind(&shared.log_dir(), from)?;
            if stretch == 0 {
                shared.progress().begin(behind)
            } else {
                shared.progress().extend(behind)
            }
            let reached = index.position()?.map_or(0, |position| position.sequence);
            if end.sequence.saturating_sub(reached) <= HANDED_OVER_GROUPS_MAX && index.position()?.is_some() {
                break;
            }
            let (replayer, findings) = replay_up_to(shared, index, &path, end)?;
            let loses_entries = findings.iter().any(Finding::loses_entries);
            let lost = replayer.pause(&end, loses_entries)?;
            loses |= loses_entries || !lost.is_empty();
            damage.extend(tell_damage(lost, &findings));
        }
        index.checkpoint().map(|()| (damage, loses))
    })?;
    if loses && !shared.index_is_spoilt() {
        forget_unfinished(shared)?;
        damage.push(KNOWS_MORE.to_owned());
        return Ok(examined_of(damage));
    }
    damage.extend(ask_blocking(commands, |answer| Command::TakeIndex { answer })?);
    Ok(examined_of(damage))
}

fn examined_of(mut damage: Vec<String>) -> Examined {
    // Each stretch tells of segments whose header is damaged.
    damage.sort_unstable();
    damage.dedup();
    let mut examined = Examined::default();
    damage.into_iter().for_each(|what| examined.tell(what));
    examined
}

/// The committer's part: takes in the rest, up to `end`, and puts the new index in its place. It never begins one itself:
/// all mail waits for it.
pub(super) fn finish_beside(shared: &Shared, end: Position) -> Result<(Vec<String>, bool), StoreError> {
    let index = open_unfinished(shared)?;
    if index.position()?.is_none() {
        return Err(StoreError::IndexDamaged("what was made of the new one cannot be used".to_owned()));
    }
    finish(shared, &index, end)
}

/// The same where nobody waits: begins one, if need be. Also says whether entries are lost that the index in use may know.
pub(super) fn make_beside(shared: &Shared, end: Position) -> Result<(Vec<String>, bool), StoreError> {
    with_unfinished(shared, |index| finish(shared, index, end))
}

fn finish(shared: &Shared, index: &Index, end: Position) -> Result<(Vec<String>, bool), StoreError> {
    let was_lossy = index.making() == Making::GoingWithLoss;
    let (replayer, findings) = replay_up_to(shared, index, &shared.new_index_path(), end)?;
    let loses_entries = findings.iter().any(Finding::loses_entries);
    let (_, lost) = replayer.finish(&end, loses_entries)?;
    let loses = was_lossy || loses_entries || !lost.is_empty();
    let damage = tell_damage(lost, &findings);
    index.checkpoint().map(|()| (damage, loses))
}

/// Looks through the index in `data_dir` while no server runs. Changes nothing.
///
/// # Errors
/// [`StoreError::Locked`] when another process has the store open; [`StoreError::Newer`]; the log cannot be read.
pub fn check_index(data_dir: &Path) -> Result<IndexOutcome, StoreError> {
    let began = Instant::now();
    let _lock = super::data_lock::lock(data_dir)?;
    let path = data_dir.join(super::embedded::INDEX_FILE);
    let examined = if path.exists() {
        match Index::open_reader(&path) {
            Ok(index) => index.examine(&|| true)?,
            Err(error @ StoreError::Newer(_)) => return Err(error),
            Err(error) => Examined::hopeless(error.to_string()),
        }
    } else {
        Examined::hopeless("it is not there".to_owned())
    };
    let mut examined = examined;
    if let Some(position) = examined.position
        && !Log::holds(&data_dir.join("log"), &position)?
    {
        examined.tell("it knows of more than the log holds".to_owned());
    }
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(IndexOutcome::of(IndexJob::Check, Ok(examined), IndexProgress::default(), ms))
}

/// Makes the index in `data_dir` anew while no server runs, whatever state it is in. `progress` can be looked at meanwhile.
///
/// # Errors
/// As [`Embedded::open`].
pub fn rebuild_index(options: &Options, progress: Arc<Progress>) -> Result<IndexOutcome, StoreError> {
    let began = Instant::now();
    super::backup::refuse_unrestored(&options.data_dir)?;
    let (store, report) = Embedded::open_so(options, None, Arc::clone(&progress), (true, Arc::default()))?;
    store.close_blocking();
    let mut examined = Examined::default();
    report.damage.into_iter().for_each(|what| examined.tell(what));
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(IndexOutcome::of(IndexJob::Rebuild, Ok(examined), progress.now(), ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_that_all_mail_waits_for_does_not_wait_long_after_the_last_one() {
        let jobs = |ago: u64| Jobs {
            rebuilt: Some((
                Instant::now().checked_sub(Duration::from_secs(ago)).unwrap(),
                Duration::from_secs(3_600),
            )),
            ..Jobs::default()
        };
        assert_eq!([false, true].map(|is_awaited| jobs(5).rests(is_awaited)), [true, true]);
        assert_eq!([false, true].map(|is_awaited| jobs(61).rests(is_awaited)), [true, false]);
        assert!(!Jobs::default().rests(false));
    }

    #[test]
    fn a_check_gives_way_to_a_rebuild_and_does_not_call_whole_what_it_did_not_look_at() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let (store, _) = Embedded::open(&options).unwrap();
        let (commands, _queue) = mpsc::channel(1);
        let jobs = Arc::new(IndexJobs::default());
        jobs.state().doing = Some(IndexJob::Check);
        jobs.mend(&store.shared, commands.downgrade());
        assert!(jobs.state().is_given_up);
        assert!(matches!(jobs.look_through(&store.shared), Err(StoreError::Refused(_))));
        jobs.state().is_given_up = false;
        assert_eq!(jobs.look_through(&store.shared).unwrap().damaged, 0);
    }
}
