//! The thread that makes the passes.

use super::{Clock, KeepingStatus, KeptPass, expire};
use crate::store::StoreError;
use crate::store::committer::Queued;
use crate::store::embedded::Shared;
use crate::store::freeing;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// From one pass to the next.
const PASS_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// A server that has just started has other things to do.
const SETTLE: Duration = Duration::from_secs(60);
/// How often the clock is looked at between passes.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Why a pass that the end of the store cut short did not come to its own: no failure to be logged.
const BROKEN_OFF: &str = "it was broken off, since the store was closed";

/// What the keeper does and did.
#[derive(Default)]
struct Passes {
    running: bool,
    last: Option<KeptPass>,
}

/// The keeper of one store.
#[derive(Default)]
pub(in crate::store) struct Keeper {
    passes: Mutex<Passes>,
    /// A pass is to begin now.
    wanted: AtomicBool,
    closing: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Begins the thread.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::store) fn start(
        shared: &Arc<Shared>,
        commands: mpsc::WeakSender<Queued>,
    ) -> Result<Arc<Keeper>, StoreError> {
        let keeper = Arc::new(Keeper::default());
        let (of_thread, shared) = (keeper.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || of_thread.run(&shared, &commands))
            .map_err(|e| StoreError::io("starting a thread", e))?;
        *keeper.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(keeper)
    }

    /// How keeping stands.
    pub(in crate::store) fn status(&self, clock: &Clock) -> KeepingStatus {
        let paused = clock.trusted().err();
        let passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        KeepingStatus {
            trusted: clock.mark(),
            paused,
            running: passes.running || self.wanted.load(Ordering::Relaxed),
            last: passes.last.clone(),
        }
    }

    /// Begins a pass; behind one that is under way, another.
    ///
    /// # Errors
    /// [`StoreError::Refused`] while the clock is not believed.
    pub(in crate::store) fn begin_now(&self, clock: &Clock) -> Result<(), StoreError> {
        clock.trusted().map_err(|pause| StoreError::Refused(pause.to_string()))?;
        match &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Err(StoreError::closed()),
            Some(thread) => {
                self.wanted.store(true, Ordering::Relaxed);
                thread.thread().unpark();
                Ok(())
            }
        }
    }

    /// Ends the thread, wherever it stands.
    pub(in crate::store) fn stop(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!(event = "store.thread_failed");
            }
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn run(&self, shared: &Arc<Shared>, commands: &mpsc::WeakSender<Queued>) {
        let mut next = Instant::now() + SETTLE;
        if shared.clock.is_new() {
            // Otherwise a crash within the next minute would have the next process begin by whatever its clock says.
            shared.clock.save();
        }
        while !self.is_closing() {
            // Also between passes: what the clock did must be known when somebody asks, and told when it happens.
            shared.clock.trusted().ok();
            let is_wanted = self.wanted.load(Ordering::Relaxed);
            if !is_wanted && Instant::now() < next {
                std::thread::park_timeout(LOOK_INTERVAL);
                continue;
            }
            self.set_running();
            let passed = self.pass(shared, commands);
            next = Instant::now() + PASS_INTERVAL;
            let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
            passes.running = false;
            passes.last = passed.or(passes.last.take());
        }
        shared.clock.save();
    }

    fn set_running(&self) {
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        passes.running = true;
        self.wanted.store(false, Ordering::Relaxed);
    }

    /// One pass; none while the clock is not believed.
    fn pass(&self, shared: &Arc<Shared>, commands: &mpsc::WeakSender<Queued>) -> Option<KeptPass> {
        let trusted = shared.clock.trusted();
        // What has left by it must not be found to be too early after a restart.
        shared.clock.save();
        let at = trusted.ok()?;
        let mut pass = KeptPass {
            at,
            ended_at: at,
            expired: 0,
            freed_entries: 0,
            freed_objects: 0,
            freed_octets: 0,
            held: 0,
            error: None,
        };
        let done = expire::pass(self, shared, commands, &mut pass).and_then(|()| {
            let trusted = shared.clock.trusted().map_err(|pause| StoreError::Refused(pause.to_string()))?;
            let goes_on = || !self.is_closing() && shared.clock.trusted().is_ok();
            let (freed, done) = freeing::pass(shared, commands, trusted, &goes_on);
            pass.freed_entries = freed.entries;
            pass.freed_objects = freed.objects;
            pass.freed_octets = freed.octets;
            done
        });
        match done {
            Ok(()) => {}
            Err(_) if self.is_closing() => {}
            Err(error) => {
                tracing::warn!(event = "retention.failed", %error);
                pass.error = Some(error.to_string());
            }
        }
        if self.is_closing() {
            // Who waits for this one must not be told of the one before.
            pass.error = Some(BROKEN_OFF.to_owned());
        }
        pass.ended_at = shared.clock.mark();
        tell(&pass);
        Some(pass)
    }
}

fn tell(pass: &KeptPass) {
    let KeptPass { expired, freed_entries, freed_objects, freed_octets, held, .. } = pass;
    if *expired > 0 || *freed_entries > 0 || *freed_objects > 0 {
        tracing::info!(event = "retention.passed", expired, freed_entries, freed_objects, freed_octets, held);
    } else {
        tracing::debug!(
            event = "retention.passed",
            expired,
            freed_entries,
            freed_objects,
            freed_octets,
            held
        );
    }
}
