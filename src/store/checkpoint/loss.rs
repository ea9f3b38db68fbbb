//! What the log was once found to lack of what the index or a checkpoint knew, until an admin says that it is known.
//!
//! The log itself goes on behind it at the next start as if nothing had been: so it is kept in `log-loss.json`, a state file
//! (state_file.rs), and stays an alarm over restarts. What was closed stays there too: `verify` tells of it, and goes on behind
//! it.

use crate::mail::Timestamp;
use crate::store::log::Position;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Name of the file in `data_dir`.
pub(in crate::store) const LOSS_FILE: &str = "log-loss.json";
/// How an admin names all of it.
pub(in crate::store) const LOSS_PLACE: &str = "log-end";
/// So many are kept. Each took a start of its own.
const LOSSES_MAX: usize = 100;

/// Where the end of the log is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Gap {
    /// The last segment that was there, and how many octets of it counted.
    pub(in crate::store) behind: (u64, u64),
    /// How far the log had once come: it goes on behind that.
    pub(in crate::store) to: Position,
}

/// What was found missing, or different, at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Loss {
    pub(in crate::store) found_at: Timestamp,
    pub(in crate::store) what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) gap: Option<Gap>,
    /// The admin who closed it: it is known, and alarmed no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::store) closed_by: Option<String>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Losses {
    pub(in crate::store) losses: Vec<Loss>,
}

impl Losses {
    /// As they were kept; none when there is no such file.
    ///
    /// # Errors
    /// See [`StateError`].
    pub(in crate::store) fn read(data_dir: &Path) -> Result<Losses, StateError> {
        match state_file::read(&data_dir.join(LOSS_FILE)) {
            Err(StateError::Absent) => Ok(Losses::default()),
            read => read,
        }
    }

    pub(super) fn write(&self, data_dir: &Path) -> io::Result<()> {
        state_file::write(&data_dir.join(LOSS_FILE), self)
    }

    /// Adds what was found, unless it is known. True when it was not.
    pub(super) fn add(&mut self, loss: Loss) -> bool {
        let is_same = |known: &Loss| known.what == loss.what || known.gap.is_some() && known.gap == loss.gap;
        if self.losses.iter().any(is_same) {
            return false;
        }
        if self.losses.len() >= LOSSES_MAX {
            // The alarm is about one that is open, whichever.
            match self.losses.iter().position(|known| known.closed_by.is_some()) {
                Some(closed) => drop(self.losses.remove(closed)),
                None => return false,
            }
        }
        self.losses.push(loss);
        true
    }

    /// The newest that nobody has closed.
    pub(super) fn open(&self) -> Option<&Loss> {
        self.losses.iter().rev().find(|loss| loss.closed_by.is_none())
    }

    /// How many are closed now that were not.
    pub(super) fn close(&mut self, actor: &str) -> usize {
        let open = self.losses.iter_mut().filter(|loss| loss.closed_by.is_none());
        open.map(|loss| loss.closed_by = Some(actor.to_owned())).count()
    }
}
