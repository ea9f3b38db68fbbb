//! What a backup says of itself, and the mark in a `data_dir` that is being made of one.

use crate::mail::Timestamp;
use crate::store::StoreError;
use crate::store::log::Position;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file that makes a folder a backup.
pub(super) const MANIFEST_FILE: &str = "backup.json";
/// In a `data_dir` while it is being restored.
pub(super) const RESTORING_FILE: &str = "restoring.json";

/// What `backup.json` holds: a state file, written last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// When it was begun: what was acknowledged before is in it.
    pub(super) began_at: Timestamp,
    /// When its end was taken.
    pub(super) made_at: Timestamp,
    /// The `data_dir` it is of.
    pub(super) of: String,
    /// Behind its last group.
    pub(super) end: Position,
    /// Content that an entry in it frees may be in it still.
    #[serde(default)]
    pub(super) is_freeing: bool,
}

impl Manifest {
    /// As it was written; none where there is none.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub(super) fn read(dir: &Path) -> Result<Option<Manifest>, StoreError> {
        match state_file::read(&dir.join(MANIFEST_FILE)) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(StateError::Absent) => Ok(None),
            Err(StateError::Newer(version)) => {
                Err(StoreError::Newer(format!("{MANIFEST_FILE}: version {version}")))
            }
            Err(StateError::Unreadable(e)) => Err(StoreError::io("reading backup.json", e)),
            Err(StateError::Damaged(why)) => Err(StoreError::Damaged(format!("{MANIFEST_FILE}: {why}"))),
        }
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        state_file::write(&dir.join(MANIFEST_FILE), self)
            .map_err(|e| StoreError::io("writing backup.json", e))
    }
}

/// What `restoring.json` holds.
#[derive(Serialize, Deserialize)]
pub(super) struct Restoring {
    pub(super) from: String,
    pub(super) began_at: Timestamp,
}

/// True for a folder that `backup` wrote: there is no index in it.
pub(in crate::store) fn is_backup(dir: &Path) -> bool {
    dir.join(MANIFEST_FILE).exists()
}

/// Whether this may be opened as a store.
///
/// # Errors
/// [`StoreError::Refused`] for a backup, which goes on as a store only by being restored, since UIDs would be given out twice;
/// and for what a restore that was broken off has left.
pub(in crate::store) fn refuse_unrestored(data_dir: &Path) -> Result<(), StoreError> {
    let has = |name: &str| data_dir.join(name).exists();
    if has(RESTORING_FILE) {
        let why = "a restore into it was broken off: run daybook restore again, which begins anew";
        return Err(StoreError::Refused(why.to_owned()));
    }
    if is_backup(data_dir) {
        let why = "it is a backup: daybook restore makes a store of it, in another folder";
        return Err(StoreError::Refused(why.to_owned()));
    }
    Ok(())
}
