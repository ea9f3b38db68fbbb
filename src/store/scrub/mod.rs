//! The scrub: what is stored is read again, slowly, for as long as the server runs, so that damage is found while there is a
//! backup still, and not on the day somebody needs the mail.
//!
//! ```text
//! a pass: segment by segment, up to what was durable when it began
//!   every header, hash and chain link of the log ─▶ every payload ─▶ every content file that an entry names
//! ```
//! One thread, of low priority, does it at the configured rate; it holds no lock that mail needs, never reads what is not
//! durable, steps back while syncs are slow, and has the kernel forget what it read, so that mail stays cached. A pass begins a
//! day after the one before began, or when an admin asks; one that was broken off goes on at the segment it stood in.
//!
//! What is damaged is named once, with the mail it touches, and remembered in `data_dir/scrub.json` until its segment is found
//! whole again, nobody can ask for that mail any more, or an admin closes it. Content that was freed is no damage, whatever is left
//! of it: its entries are, as all others.

mod look;
mod pace;
mod state;

use super::StoreError;
use super::check::{Expect, Tail, walk_segment};
use super::embedded::Shared;
use super::log::{SegmentFile, counted_segments};
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::observe::{metrics, now};
use look::Look;
use serde::{Deserialize, Serialize};
use state::{Pass, State};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From the beginning of a pass to that of the next, in milliseconds: a day.
const PASS_INTERVAL_MS: i64 = 24 * 60 * 60 * 1000;
/// A server that has just started has other things to do.
const SETTLE: Duration = Duration::from_secs(60);
/// How often it is looked whether a pass is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After a pass that could not go on.
const RETRY: Duration = Duration::from_secs(60);
/// Where the scrub stands is written at most so often, but for what it finds.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// Damaged things that are remembered one by one; more are only counted, pass by pass.
pub const DAMAGED_MAX: usize = 1_000;

/// How the scrub stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// How fast it may read, in octets a second; 0 is never.
    pub bytes_per_second: u64,
    /// The pass under way.
    pub pass: Option<ScrubPass>,
    /// The last pass that came to its end.
    pub last: Option<ScrubbedPass>,
    /// When a server of this store first was to scrub.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Things that are damaged, and not closed by an admin.
    pub damaged: u64,
    /// Each of them, those that are closed too, as they were found; at most [`DAMAGED_MAX`].
    pub things: Vec<DamagedThing>,
}

impl ScrubStatus {
    /// When all that is stored had last been read again; before the first time, when that was first to begin.
    pub fn read_until(&self) -> Option<Timestamp> {
        self.last.map(|last| last.ended).or(self.since)
    }

    /// The things that no admin closed.
    pub fn open(&self) -> impl Iterator<Item = &DamagedThing> {
        self.things.iter().filter(|thing| thing.closed_by.is_none())
    }
}

/// A pass under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPass {
    /// When it began.
    pub began: Timestamp,
    /// The segment of the log it stands in.
    pub segment: u64,
    /// The last one it will look at.
    pub until: u64,
    /// Octets read so far.
    pub octets: u64,
    /// Entries and content files looked at so far.
    pub objects: u64,
}

/// A pass that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubbedPass {
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Octets read.
    pub octets: u64,
    /// Entries and content files looked at.
    pub objects: u64,
    /// Damaged things beyond those that are remembered.
    pub unlisted: u64,
}

/// Something stored that is not what was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedThing {
    /// Where: `log/00000003.seg at 8123`, `content/ab/….age`.
    pub place: String,
    /// What is wrong there.
    pub what: String,
    /// When it was found.
    pub found_at: Timestamp,
    /// The segment of the log in which it, or the entry that names it, stands.
    pub segment: u64,
    /// Transactions it touches, the first few, as far as known.
    pub receipt_ids: Vec<ReceiptId>,
    /// Whose they are.
    pub gateway_mailbox: Option<GatewayMailboxId>,
    /// Entries in folders it touches, `folder:uid` each, the first few.
    pub placements: Vec<String>,
    /// The admin who closed it: it is known, and alarmed no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
    /// Found in the walk through its segment that is under way.
    #[serde(skip)]
    seen: bool,
}

/// The scrub of one store.
pub(super) struct Scrub {
    path: PathBuf,
    state: Mutex<State>,
    /// Octets a second; 0 is never.
    rate: AtomicU64,
    /// An admin wants a pass now.
    wanted: AtomicBool,
    closing: AtomicBool,
    /// The last writing failed, and that was said. Held by whoever writes.
    unkept: Mutex<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How a pass ended.
enum Ended {
    Whole,
    /// The store closes, or a pass is to begin anew.
    BrokenOff,
}

impl Scrub {
    /// As the server before left it in `data_dir`.
    pub(super) fn load(data_dir: &Path) -> Arc<Scrub> {
        let path = data_dir.join(state::SCRUB_FILE);
        Arc::new(Scrub {
            state: Mutex::new(State::load(&path)),
            path,
            rate: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            unkept: Mutex::new(false),
            thread: Mutex::default(),
        })
    }

    /// Reads at this rate from now on; the first call begins the thread.
    pub(super) fn set_rate(self: &Arc<Self>, octets_per_second: u64, shared: &Arc<Shared>) {
        self.rate.store(octets_per_second, Ordering::Relaxed);
        if octets_per_second > 0 {
            self.state().since.get_or_insert_with(now);
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match &*thread {
            Some(thread) => thread.thread().unpark(),
            None => {
                let (scrub, shared) = (Arc::clone(self), Arc::clone(shared));
                let spawned =
                    std::thread::Builder::new().name("scrub".to_owned()).spawn(move || scrub.run(&shared));
                match spawned {
                    Ok(handle) => *thread = Some(handle),
                    Err(error) => tracing::warn!(event = "store.scrub_failed", %error),
                }
            }
        }
    }

    /// Begins a pass at once; one under way begins anew.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where nothing is scrubbed.
    pub(super) fn begin_now(&self) -> Result<(), StoreError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match &*thread {
            None => Err(StoreError::Refused("no server is running that could scrub".to_owned())),
            Some(_) if self.rate() == 0 => {
                let why = "scrub_bytes_per_second in [store] is 0: nothing is scrubbed".to_owned();
                Err(StoreError::Refused(why))
            }
            Some(thread) => {
                self.wanted.store(true, Ordering::Relaxed);
                thread.thread().unpark();
                Ok(())
            }
        }
    }

    /// How it stands.
    pub(super) fn status(&self) -> ScrubStatus {
        self.state().status(self.rate())
    }

    /// Alarms no more of damage at these places, all or none; tells how many are closed now that were not.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when nothing at one of them is known to be damaged.
    pub(super) fn close_damage(&self, places: &[String], actor: &str) -> Result<usize, StoreError> {
        let closed = self.state().close(places, actor)?;
        for place in &closed {
            tracing::info!(event = "store.damage_closed", place, actor);
        }
        self.save();
        Ok(closed.len())
    }

    /// Ends the thread, wherever it stands.
    pub(super) fn stop(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!(event = "store.thread_failed");
            }
        }
    }

    fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever walks is to stop where it is.
    fn is_broken_off(&self) -> bool {
        self.closing.load(Ordering::Relaxed) || self.wanted.load(Ordering::Relaxed)
    }

    fn run(&self, shared: &Shared) {
        let mut rests_until = Instant::now() + SETTLE;
        while !self.closing.load(Ordering::Relaxed) {
            if !self.is_due(Instant::now() >= rests_until) {
                std::thread::park_timeout(LOOK_INTERVAL);
                continue;
            }
            match self.pass(shared) {
                Ok(Ended::Whole | Ended::BrokenOff) => {}
                Err(error) => {
                    tracing::warn!(event = "store.scrub_failed", %error);
                    rests_until = Instant::now() + RETRY;
                }
            }
            self.save();
        }
    }

    fn is_due(&self, rested: bool) -> bool {
        if self.rate() == 0 {
            return false;
        }
        if self.wanted.swap(false, Ordering::Relaxed) {
            self.state().pass = None;
            return true;
        }
        let state = self.state();
        // A clock that was ahead then must not put it off for years.
        let is_late =
            |began: Timestamp| !(0..PASS_INTERVAL_MS).contains(&(now().unix_ms() - began.unix_ms()));
        rested && (state.pass.is_some() || state.last.is_none_or(|last| is_late(last.began)))
    }

    /// Goes through the log from where the pass stands.
    fn pass(&self, shared: &Shared) -> Result<Ended, StoreError> {
        let durable_end = || shared.witness().end().ok_or_else(StoreError::closed);
        let mut pass = *self.state().pass.get_or_insert(Pass::begin(now(), durable_end()?.segment));
        let (mut chain, mut sequence) = (None, None);
        let mut saved = Instant::now();
        loop {
            // What stands behind the durable end may be half written. It is asked for first: a segment that is given up later
            // is not taken for a longer one.
            let durable = durable_end()?;
            let segments = counted_segments(&shared.log_dir())?;
            let due = |number: u64| number >= pass.segment && number <= pass.until.min(durable.segment);
            let Some((number, octets)) = segments.iter().copied().find(|(number, _)| due(*number)) else {
                let there: Vec<u64> = segments.into_iter().map(|(number, _)| number).collect();
                self.finish(&pass, &there);
                return Ok(Ended::Whole);
            };
            let end = if number == durable.segment { octets.min(durable.offset) } else { octets };
            pass.segment = number;
            let expect = Expect { number, from: 0, end, chain, sequence, payloads: true };
            self.state().begin_segment(number, &pass);
            let mut look = Look::new(self, shared, number, number < durable.segment);
            let opened = SegmentFile::open(&shared.log_dir(), number);
            let opened = opened.map_err(|e| StoreError::io("opening a log segment", e));
            let walked = opened.and_then(|file| walk_segment(&file, &expect, &mut look));
            (chain, sequence) = match walked {
                Ok(end) if end.stopped => return look.end().map(|_| Ended::BrokenOff),
                Ok(end) => {
                    // Where content alone is gone the chain goes on.
                    let is_log_whole =
                        |tail: &&Tail| tail.damage.iter().all(|damage| damage.object.is_some());
                    let tail = end.tail.as_ref().filter(is_log_whole);
                    let behind = tail.map(|tail| (tail.chain, tail.sequence));
                    if let Some(tail) = end.tail {
                        take_tail(&mut look, tail);
                    }
                    behind.unwrap_or((end.chain, end.sequence))
                }
                Err(StoreError::Io(error, _)) if !look::is_passing(&error) => {
                    look.cannot_open(&error);
                    (None, None)
                }
                Err(error) => return Err(error),
            };
            let is_whole = look.end()?;
            pass = self.state().end_segment(number, &pass, is_whole);
            if saved.elapsed() >= SAVE_INTERVAL {
                self.save();
                saved = Instant::now();
            }
        }
    }

    fn finish(&self, pass: &Pass, segments: &[u64]) {
        let ended = now();
        let damaged = self.state().finish(pass, segments, ended);
        metrics::scrub_passed();
        let seconds = ended.unix_ms().saturating_sub(pass.began.unix_ms()) / 1_000;
        let (octets, objects) = (pass.octets, pass.objects);
        tracing::info!(event = "store.scrubbed", octets, objects, seconds, damaged);
    }

    fn save(&self) {
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state().clone();
        match state.save(&self.path) {
            Ok(()) => *unkept = false,
            Err(error) => {
                if !std::mem::replace(&mut *unkept, true) {
                    tracing::warn!(event = "store.scrub_not_kept", file = state::SCRUB_FILE, %error);
                }
            }
        }
    }
}

/// A bad last group: what it holds is durable and was acknowledged, so it is damage.
fn take_tail(look: &mut Look<'_>, tail: Tail) {
    use super::check::Visit;
    tail.damage.into_iter().for_each(|damage| look.damage(damage));
    tail.seen.iter().for_each(|seen| look.entry(seen));
}
