//! `data_dir/lock`: one process at a time has a store open.

use super::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Holds `data_dir/lock` until dropped.
#[derive(Debug)]
pub(super) struct DataLock(File);

/// Takes the lock.
///
/// # Errors
/// [`StoreError::Locked`] while somebody else holds it; [`StoreError::Io`] when it cannot be opened.
pub(super) fn lock(data_dir: &Path) -> Result<DataLock, StoreError> {
    let fail = |e| StoreError::io("locking the data directory", e);
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(data_dir.join("lock")).map_err(fail)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DataLock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked),
        Err(e) => Err(fail(e.into())),
    }
}

impl Drop for DataLock {
    /// Closing the file alone would not do: between fork and exec, a child of any thread of this process has it too, and with it
    /// the lock (flock(2)).
    fn drop(&mut self) {
        // Where that fails, the lock goes with the last who has the file.
        flock(&self.0, FlockOperation::Unlock).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_holder_although_a_child_has_the_file_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(StoreError::Locked)));
        // What a child has from fork to exec.
        let of_child = held.0.try_clone().unwrap();
        drop(held);
        drop(lock(dir.path()).unwrap());
        drop(of_child);
    }
}
