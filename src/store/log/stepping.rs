//! Numbers of groups that are left out: a store that was made of a backup goes on far behind where its original may have come.
//!
//! The original went on after the backup was made, and signed what it stored. Were the next group of the restored store to have
//! the next number, then two groups of one number would exist, and a checkpoint of the one would say that the other is false.

use super::{CLEAN_FILE, Log, Position};
use crate::store::StoreError;
use crate::store::format::GroupHeader;
use crate::store::state_file;
use std::path::Path;

/// So many numbers are left out. At a million groups a second no store comes that far in ten days, and in 34,000 years not at
/// the one group a second of most.
pub(in crate::store) const SEQUENCES_SKIPPED: u64 = 1 << 40;

impl Log {
    /// Has the next group, which says why, leave [`SEQUENCES_SKIPPED`] numbers out, and begin a segment: freed content may be
    /// punched out of the one before, which is to be found in closed segments alone.
    pub(in crate::store) fn step_ahead(&mut self) {
        self.current = None;
        self.sequence = self.sequence.saturating_add(SEQUENCES_SKIPPED - 1);
    }
}

/// True when a group stands right behind this position: it has the next number, or numbers were left out there. Of the chain none
/// is missing either way.
pub(in crate::store) fn stands_behind(position: &Position, header: &GroupHeader) -> bool {
    let skipped = header.sequence.saturating_sub(position.sequence);
    position.chain == header.chain && (skipped == 1 || skipped >= SEQUENCES_SKIPPED)
}

/// Leaves the mark of an orderly close in a log that was written by other means, all of it synced.
pub(in crate::store) fn mark_clean_at(log_dir: &Path, end: &Position) -> Result<(), StoreError> {
    state_file::write(&log_dir.join(CLEAN_FILE), end).map_err(|e| StoreError::io("writing the clean mark", e))
}
