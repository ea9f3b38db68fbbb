//! The file whose lock keeps everything that is stored where it is.

use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Held shared while something copies the store, and alone by whoever frees content.
pub(super) const LOCK_FILE: &str = "freeing.lock";

/// How the lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Hold {
    /// By whoever copies.
    Shared,
    /// By whoever frees.
    Alone,
}

/// Holds the lock until dropped; nothing when somebody else does, in a way that does not go with this one.
pub(in crate::store) fn lock(data_dir: &Path, hold: Hold) -> io::Result<Option<File>> {
    let path = data_dir.join(LOCK_FILE);
    let (file, operation) = match hold {
        Hold::Shared => (open_to_copy(&path, data_dir)?, FlockOperation::NonBlockingLockShared),
        Hold::Alone => (open_or_make(&path)?, FlockOperation::NonBlockingLockExclusive),
    };
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Makes the lock, so that it is the server's: were it made by whoever copies the store, the server could not open it. Best effort.
pub(in crate::store) fn make_freeing_lock(data_dir: &Path) {
    make_for_owner(&data_dir.join(LOCK_FILE), data_dir).ok();
}

/// Whoever copies need not be allowed to write.
fn open_to_copy(path: &Path, dir: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => make_for_owner(path, dir),
        opened => opened,
    }
}

fn open_or_make(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Makes a file that belongs to whom the folder does: the server could not open one of root's.
fn make_for_owner(path: &Path, dir: &Path) -> io::Result<File> {
    let file = open_or_make(path)?;
    let owner = fs::metadata(dir)?;
    if file.metadata()?.uid() != owner.uid() {
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(file)
}
