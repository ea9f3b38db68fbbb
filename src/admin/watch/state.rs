//! What must survive a restart: which alarms are raised and told of, what waits to be mailed, who last logged in.
//!
//! A state file ([`state_file`]), `data_dir/watch.json`, owner-only, replaced whole. It is worth little: a file that is lost or spoilt
//! means that an alarm is told once more and the daily report begins anew, so it is written without a sync.

use super::outbox::Waiting;
use super::presence::WatchedSince;
use crate::mail::{GatewayMailboxId, Timestamp};
use crate::observe::alarm::Raised;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file in `data_dir`.
pub const WATCH_FILE: &str = "watch.json";

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Alarms that are raised.
    pub(super) raised: Vec<Raised>,
    /// Mail that waits.
    pub(super) letters: Vec<Waiting>,
    /// The last login to each gateway mailbox.
    pub(super) visits: BTreeMap<GatewayMailboxId, Timestamp>,
    /// When the last daily report was due.
    pub(super) last_report: Timestamp,
    /// Since when this server has been there.
    pub(super) watching_since: Timestamp,
    /// Since when each gateway mailbox is watched over, where it was not all the time.
    #[serde(default)]
    pub(super) watched_since: WatchedSince,
    /// When it was last seen to be there.
    pub(super) seen_at: Timestamp,
}

/// Why there is no state.
#[derive(Debug)]
pub(super) enum NoState {
    /// There has been none.
    First,
    /// It cannot be read, or does not say what it should.
    Damaged(String),
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(WATCH_FILE)
}

pub(super) fn load(data_dir: &Path) -> Result<State, NoState> {
    state_file::read(&path(data_dir)).map_err(|error| match error {
        StateError::Absent => NoState::First,
        error => NoState::Damaged(error.to_string()),
    })
}

pub(super) fn save(data_dir: &Path, state: &State) -> io::Result<()> {
    state_file::write_unsynced(&path(data_dir), state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_saved_is_loaded_and_only_the_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()), Err(NoState::First)));
        let at = Timestamp::from_unix_ms(7);
        let state = State {
            raised: Vec::new(),
            letters: Vec::new(),
            visits: BTreeMap::from([(GatewayMailboxId::new(1, [1; 10]), at)]),
            last_report: at,
            watching_since: at,
            watched_since: BTreeMap::from([(GatewayMailboxId::new(1, [2; 10]), None)]),
            seen_at: at,
        };
        save(dir.path(), &state).unwrap();
        assert_eq!(load(dir.path()).unwrap(), state);
        let mode = fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(path(dir.path()), "{\"raised\":[]").unwrap();
        assert!(matches!(load(dir.path()), Err(NoState::Damaged(_))));
    }
}
