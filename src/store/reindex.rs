//! The index looked through, or made anew beside the one in use, on a thread of its own.
//!
//! ```text
//! log ─▶ thread: index.sqlite.new, up to where the committer is ─▶ committer: the rest, and puts it in its place
//! ```
//! Meanwhile mail is taken and fetched by the index there is, as far as that goes: whatever its checks do not confirm is
//! answered with an error and not with less. A rebuild that nobody asked for begins by itself when damage was found.

use super::committer::{Command, Queued};
use super::embedded::Shared;
use super::index::{Examined, Index};
use super::log::{Finding, Log, Position};
use super::replay::{open_unfinished, replay_up_to, tell_damage, with_unfinished};
use super::{Embedded, Options, StoreError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How often a long replay is told of in the log.
const TOLD_INTERVAL: Duration = Duration::from_secs(5);
/// Groups the committer may take in itself when it is given the new index: about as much as it takes between two syncs.
const HANDED_OVER_GROUPS_MAX: u64 = 256;
/// Stretches after which it is given to the committer although more are left: mail comes faster than it is read.
const STRETCHES_MAX: usize = 64;
/// Between two rebuilds that nobody asked for, so many times what the last one took: a disk that damages every index must not
/// keep the machine busy with it.
const PAUSE_FACTOR: u32 = 9;

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
    /// No rebuild begins by itself before.
    not_before: Option<Instant>,
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
        shared.progress().begin(0);
        let (jobs, shared) = (Arc::clone(self), Arc::clone(shared));
        let work = move || {
            let began = Instant::now();
            let outcome = match job {
                IndexJob::Check => Ok(look_through(&shared)),
                IndexJob::Rebuild => build_beside(&shared, &commands).map(|()| Examined::default()),
            };
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

    /// Begins a rebuild that nobody asked for, unless the last one was just now.
    pub(super) fn mend(self: &Arc<Self>, shared: &Arc<Shared>, commands: mpsc::WeakSender<Queued>) {
        let state = self.state();
        if state.doing.is_some() || state.not_before.is_some_and(|then| Instant::now() < then) {
            return;
        }
        drop(state);
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
            state.not_before = Instant::now().checked_add(took * PAUSE_FACTOR);
            match &outcome {
                Ok(_) => tracing::warn!(event = "store.index_repaired", messages = progress.messages, ms),
                Err(error) => tracing::error!(event = "store.index_failed", %error),
            }
        }
        state.doing = None;
        state.last = Some(IndexOutcome::of(job, outcome, progress, ms));
    }

    /// Waits for the thread; the replay was told to stop.
    pub(super) fn join(&self) {
        let thread = self.state().thread.take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(event = "store.thread_failed");
        }
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

/// Looks through the index of an open store.
fn look_through(shared: &Shared) -> Examined {
    let before = shared.log_end();
    let mut examined = match shared.open_reader() {
        Ok(index) => index.examine(&|| shared.progress().goes_on()),
        Err(error) => Examined::hopeless(error.to_string()),
    };
    if let Some(position) = examined.position {
        let is_behind = position.sequence < before.sequence;
        let is_beside = position.sequence == before.sequence && position != before;
        if is_behind || is_beside {
            examined.tell("it is not where the log is".to_owned());
        }
    }
    examined
}

/// Makes an index from the log up to where the committer is, and gives it to the committer.
fn build_beside(shared: &Shared, commands: &mpsc::WeakSender<Queued>) -> Result<(), StoreError> {
    let path = shared.new_index_path();
    with_unfinished(shared, |index| {
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
            let lost = replayer.pause(&end, findings.iter().any(Finding::loses_entries))?;
            tell_damage(lost, &findings);
        }
        index.checkpoint()
    })?;
    let (answer, taken) = oneshot::channel();
    let commands = commands.upgrade().ok_or_else(StoreError::closed)?;
    commands.blocking_send(Command::TakeIndex { answer }.into()).map_err(|_| StoreError::closed())?;
    drop(commands);
    taken.blocking_recv().map_err(|_| StoreError::closed())?
}

/// The committer's part: takes in the rest, up to `end`, and puts the new index in its place. It never begins one itself:
/// all mail waits for it.
pub(super) fn finish_beside(shared: &Shared, end: Position) -> Result<(), StoreError> {
    let index = open_unfinished(shared)?;
    if index.position()?.is_none() {
        return Err(StoreError::IndexDamaged("what was made of the new one cannot be used".to_owned()));
    }
    finish(shared, &index, end)
}

/// The same where nobody waits: begins one, if need be.
pub(super) fn make_beside(shared: &Shared, end: Position) -> Result<(), StoreError> {
    with_unfinished(shared, |index| finish(shared, index, end))
}

fn finish(shared: &Shared, index: &Index, end: Position) -> Result<(), StoreError> {
    let (replayer, findings) = replay_up_to(shared, index, &shared.new_index_path(), end)?;
    let (_, lost) = replayer.finish(&end, findings.iter().any(Finding::loses_entries))?;
    tell_damage(lost, &findings);
    index.checkpoint()
}

/// Looks through the index in `data_dir` while no server runs. Changes nothing.
///
/// # Errors
/// [`StoreError::Locked`] when another process has the store open; [`StoreError::Newer`]; the log cannot be read.
pub fn check_index(data_dir: &Path) -> Result<IndexOutcome, StoreError> {
    let began = Instant::now();
    let _lock = super::embedded::lock(data_dir)?;
    let path = data_dir.join(super::embedded::INDEX_FILE);
    let examined = if path.exists() {
        match Index::open_reader(&path) {
            Ok(index) => index.examine(&|| true),
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
    let (store, report) = Embedded::open_so(options, None, Arc::clone(&progress), true)?;
    store.close_blocking();
    let mut examined = Examined::default();
    report.damage.into_iter().for_each(|what| examined.tell(what));
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(IndexOutcome::of(IndexJob::Rebuild, Ok(examined), progress.now(), ms))
}
