//! Folders to copy from and to: that they are apart, and whose turn it is.

use super::manifest::{MANIFEST_FILE, RESTORING_FILE};
use crate::store::StoreError;
use crate::store::files::create_dir_durably;
use crate::store::freeing::{Hold, lock};
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In a backup: held while somebody writes there. That it is there tells that the folder is for a backup.
pub(super) const BACKUP_LOCK_FILE: &str = "backup.lock";
/// In a `data_dir`: held by whoever has the store open.
pub(super) const LOCK_FILE: &str = "lock";
/// Made by `mkfs`, and of no matter.
const LOST_AND_FOUND: &str = "lost+found";
/// How long a backup waits for content that is just being freed.
const FREEING_WAIT: Duration = Duration::from_secs(10 * 60);
/// Between two tries.
const FREEING_RETRY: Duration = Duration::from_millis(100);

fn refused<T>(why: String) -> Result<T, StoreError> {
    Err(StoreError::Refused(why))
}

/// Where a path that need not be there leads, as far as it is.
fn whole_path(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut there = std::path::absolute(path)?;
    loop {
        match there.canonicalize() {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, part| path.join(part))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let name = there.file_name().map(ToOwned::to_owned);
        let (Some(name), true) = (name, there.pop()) else { return Err(io::ErrorKind::NotFound.into()) };
        missing.push(name);
    }
}

/// # Errors
/// [`StoreError::Refused`] when one of the two lies in the other.
pub(super) fn check_apart(data_dir: &Path, dir: &Path) -> Result<(), StoreError> {
    let whole = |path| whole_path(path).map_err(|e| StoreError::io("looking for the folders", e));
    let (store, backup) = (whole(data_dir)?, whole(dir)?);
    if store.starts_with(&backup) || backup.starts_with(&store) {
        return refused(format!("{} and {} lie in one another", dir.display(), data_dir.display()));
    }
    Ok(())
}

/// What lies in a folder; nothing when it is not there.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    let names = entries.and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    });
    let mut names: Vec<String> = names.map_err(|e| StoreError::io("looking into a folder", e))?;
    names.retain(|name| name != LOST_AND_FOUND);
    Ok(names)
}

/// Makes the folder of a backup, and keeps others from writing to it until this is dropped.
///
/// # Errors
/// [`StoreError::Refused`] when it holds something else; [`StoreError::Locked`] while another backup is written there.
pub(super) fn claim(dir: &Path) -> Result<File, StoreError> {
    let fail = |e| StoreError::io("making the folder of the backup", e);
    let names = names_in(dir)?;
    let has = |name: &str| names.iter().any(|there| there == name);
    if !names.is_empty() && !has(MANIFEST_FILE) && !has(BACKUP_LOCK_FILE) || has("index.sqlite") {
        return refused(format!("{} holds something else than a backup", dir.display()));
    }
    create_dir_durably(dir).map_err(fail)?;
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(dir.join(BACKUP_LOCK_FILE)).map_err(fail)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => refused("another backup is being written there".to_owned()),
        Err(e) => Err(fail(e.into())),
    }
}

/// Keeps a backup from being written to while it is read; none where it was copied by other means.
///
/// # Errors
/// [`StoreError::Refused`] while one is written there.
pub(super) fn hold_backup(dir: &Path) -> Result<Option<File>, StoreError> {
    let Ok(lock) = File::open(dir.join(BACKUP_LOCK_FILE)) else { return Ok(None) };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => refused("a backup is being written there".to_owned()),
        // A file system without locks has nobody to wait for.
        _ => Ok(Some(lock)),
    }
}

/// Keeps content from being freed until this is dropped.
///
/// # Errors
/// [`StoreError::Io`] when the lock can neither be opened nor made, or is not free for ten minutes.
pub(super) fn hold_freeing(data_dir: &Path) -> Result<File, StoreError> {
    let fail = |e| StoreError::io("keeping content from being freed (freeing.lock)", e);
    let deadline = Instant::now() + FREEING_WAIT;
    loop {
        match lock(data_dir, Hold::Shared).map_err(fail)? {
            Some(held) => return Ok(held),
            None if Instant::now() < deadline => std::thread::sleep(FREEING_RETRY),
            None => return Err(fail(io::ErrorKind::WouldBlock.into())),
        }
    }
}

/// What stands in a `data_dir` that a restore may write to: nothing, or what an earlier one that was broken off left.
///
/// # Errors
/// [`StoreError::Refused`] when anything else does.
pub(super) fn check_empty(data_dir: &Path) -> Result<(), StoreError> {
    let names = names_in(data_dir)?;
    let is_ours = names.iter().any(|name| name == RESTORING_FILE);
    // A restore that was broken off at once left no more than its lock.
    match names.iter().find(|name| *name != LOCK_FILE) {
        Some(name) if !is_ours => refused(format!(
            "{} is not empty: {name} is in it. A restore overwrites nothing: move what is there away first",
            data_dir.display()
        )),
        _ => Ok(()),
    }
}
