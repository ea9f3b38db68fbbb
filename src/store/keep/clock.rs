//! The clock by which mail leaves: it never runs back, and it stands still when the system's clock has jumped.
//!
//! What it has reached, the *mark*, is kept in `retention-clock.json`: time runs on from there over restarts. A system clock more
//! than [`JUMP_MS`] ahead of the mark is not believed, whether it jumped or the host was off for so long: until an admin says
//! that it is right, or until it is back, the mark stands and nothing leaves. A clock that is behind the mark counts as the mark.
//! That of a store that was restored stands as well, until an admin has it go on.

use super::ClockPause;
use crate::mail::Timestamp;
use crate::observe::now;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the file in `data_dir`.
pub(in crate::store) const CLOCK_FILE: &str = "retention-clock.json";
/// A clock further ahead than this is asked about, in milliseconds: seven days.
pub(in crate::store) const JUMP_MS: i64 = 7 * super::rules::DAY_MS;
/// Mail that came so long ago comes just now: it was read, sealed and waited for its turn, in milliseconds.
const LAG_MS: i64 = 60 * 1000;

/// What is kept, and what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// What time has reached.
    mark: Timestamp,
    /// What the system's clock said when it was first seen to have jumped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_since: Option<Timestamp>,
    /// The store was made of a backup, which knows of no hold or rule that was set since: it stands until an admin has it go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    restored: bool,
    /// This process said so.
    #[serde(skip)]
    told: bool,
}

/// The trusted clock of one store.
pub(in crate::store) struct Clock {
    path: PathBuf,
    /// How far the system's clock is taken to be ahead, in milliseconds: tests set it.
    ahead_ms: Arc<AtomicI64>,
    state: Mutex<State>,
    /// There was no file of the process before that could be read.
    is_new: bool,
    /// Why not, until [`Clock::begin`].
    unread: Mutex<Option<StateError>>,
    /// The last writing failed, and that was said. Held by whoever writes.
    unkept: Mutex<bool>,
}

impl Clock {
    /// As the process before left it in `data_dir`; without that, it begins at what the system's clock says, until
    /// [`Clock::begin`].
    pub(in crate::store) fn load(data_dir: &Path, ahead_ms: Arc<AtomicI64>) -> Clock {
        let path = data_dir.join(CLOCK_FILE);
        let system = system_clock(&ahead_ms);
        let read = state_file::read(&path);
        let is_new = read.is_err();
        let begun = State { mark: system, paused_since: None, restored: false, told: false };
        let (state, unread) = match read {
            Ok(state) => (state, None),
            Err(error) => (begun, Some(error)),
        };
        let unread = Mutex::new(unread);
        Clock { path, ahead_ms, state: Mutex::new(state), is_new, unread, unkept: Mutex::new(false) }
    }

    /// Where the process before left nothing that can be read, time has reached what the store was `newest` told, and a clock
    /// that jumped meanwhile is asked about as ever. Only a store that was never told any time believes the system's clock. It
    /// is also believed where it is behind that: what was newest came by a clock that was ahead, and time that runs ahead of
    /// what the clock says would take mail out too early, where time that is behind only keeps it longer.
    pub(in crate::store) fn begin(&self, newest: Option<Timestamp>) {
        let Some(error) = self.unread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut state = self.state();
        state.mark = newest.map_or(state.mark, |newest| newest.min(state.mark));
        let at = state.mark;
        match error {
            StateError::Absent => tracing::info!(event = "retention.clock_begun", %at),
            error => tracing::warn!(event = "retention.clock_forgotten", file = CLOCK_FILE, %at, %error),
        }
    }

    /// True when the process before left nothing that could be read.
    pub(in crate::store) fn is_new(&self) -> bool {
        self.is_new
    }

    /// What the system's clock says, trusted or not.
    pub(in crate::store) fn system(&self) -> Timestamp {
        system_clock(&self.ahead_ms)
    }

    /// The time by which mail leaves, as it is now.
    ///
    /// # Errors
    /// The pause, while the system's clock is not believed: nothing may leave.
    pub(in crate::store) fn trusted(&self) -> Result<Timestamp, ClockPause> {
        let system = self.system();
        let mut state = self.state();
        if state.restored || system.unix_ms().saturating_sub(state.mark.unix_ms()) > JUMP_MS {
            let since = *state.paused_since.get_or_insert(system);
            let trusted = state.mark;
            if !std::mem::replace(&mut state.told, true) {
                tracing::error!(event = "retention.paused", clock = %system, trusted = %trusted);
            }
            return Err(ClockPause { since, trusted, clock: system, restored: state.restored });
        }
        state.mark = state.mark.max(system);
        state.told = false;
        if state.paused_since.take().is_some() {
            tracing::info!(event = "retention.resumed", clock = %system, trusted = %state.mark);
        }
        Ok(state.mark)
    }

    /// With what a deletion is stamped: never less than what time has reached, so that its grace is never shorter.
    pub(in crate::store) fn stamp(&self) -> Timestamp {
        let system = self.system();
        self.state().mark.max(system)
    }

    /// What time has reached, where that is more than [`LAG_MS`] later than `at`, when something came just now: the system's
    /// clock was put back.
    pub(in crate::store) fn ahead_of(&self, at: Timestamp) -> Option<Timestamp> {
        let mark = self.mark();
        (mark.unix_ms().saturating_sub(at.unix_ms()) > LAG_MS).then_some(mark)
    }

    /// What time has reached, trusted or standing.
    pub(in crate::store) fn mark(&self) -> Timestamp {
        self.state().mark
    }

    /// An admin said that the system's clock is right, and that is on record: time goes on from `at`.
    pub(in crate::store) fn trust(&self, at: Timestamp) {
        let mut state = self.state();
        *state = State { mark: state.mark.max(at), paused_since: None, restored: false, told: false };
    }

    /// Keeps what time has reached over a restart, durably. It is tried again when that fails.
    pub(in crate::store) fn save(&self) {
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        let state = *self.state();
        match state_file::write(&self.path, &state) {
            Ok(()) => *unkept = false,
            Err(error) => {
                if !std::mem::replace(&mut *unkept, true) {
                    tracing::warn!(event = "retention.clock_not_kept", file = CLOCK_FILE, %error);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the clock of a store that is made of a backup stand, until an admin says that it may go on: what was set since the backup,
/// legal holds above all, is not there. `known` is what time had reached where no file of the original says that.
///
/// # Errors
/// What writing the file brings.
pub(in crate::store) fn stand_still(data_dir: &Path, known: Timestamp, at: Timestamp) -> io::Result<()> {
    let path = data_dir.join(CLOCK_FILE);
    let mark = state_file::read(&path).map_or(known, |state: State| state.mark);
    state_file::write(&path, &State { mark, paused_since: Some(at), restored: true, told: false })
}

fn system_clock(ahead_ms: &AtomicI64) -> Timestamp {
    Timestamp::from_unix_ms(now().unix_ms().saturating_add(ahead_ms.load(Ordering::Relaxed)))
}
