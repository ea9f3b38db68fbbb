//! Durable file operations: nothing counts as stored before its octets and every directory entry leading to it are.
//!
//! A rename or a new name is lost in a power cut unless its directory is synced too; ext4 usually hides this, and
//! sometimes does not.

use super::plant::{Plant, is_planted};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// Syncs a directory, so that the names in it survive.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes `dir` and its missing parents, owner-only, each durable in its parent.
pub(super) fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_dir_durably(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    if is_planted(Plant::SkipNewDirSync) {
        return Ok(());
    }
    sync_dir(parent)
}

/// So many octets that nobody can guess.
pub(super) fn random_octets(count: usize) -> io::Result<Vec<u8>> {
    let mut random = vec![0; count];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
    Ok(random)
}

/// A name nobody can guess or already has: 32 hex digits.
pub(super) fn random_name() -> io::Result<String> {
    let random = random_octets(16)?;
    Ok(random.iter().map(|octet| format!("{octet:02x}")).collect())
}

/// Opens a new owner-only file for writing; it must not exist.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Replaces `path` by a file holding `octets`: write, sync, rename, sync the directory. Of two at the same time, one is there
/// whole in the end: each writes under a name of its own.
pub(super) fn write_file_durably(path: &Path, octets: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = path.with_extension(format!("{}.new", random_name()?));
    let file = create_file(&temporary)?;
    let sync = |file: &File| if is_planted(Plant::SkipRenameFileSync) { Ok(()) } else { file.sync_all() };
    let written =
        file.write_all_at(octets, 0).and_then(|()| sync(&file)).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // Nobody comes by this name again. What a power cut leaves under one is small, and no one reads it.
        fs::remove_file(&temporary).ok();
        return Err(error);
    }
    if is_planted(Plant::SkipRenameDirSync) {
        return Ok(());
    }
    sync_dir(dir)
}

/// Removes `path` if it is there, durably.
pub(super) fn remove_file_durably(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_files_written_at_the_same_time_one_is_there_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.age");
        let contents: Vec<Vec<u8>> = (0..4).map(|n| vec![b'a' + n; 100_000]).collect();
        std::thread::scope(|scope| {
            for content in &contents {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write_file_durably(path, content).unwrap()));
            }
        });
        assert!(contents.contains(&fs::read(&path).unwrap()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }
}
