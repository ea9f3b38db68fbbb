//! Sealed content over 1 MiB: a file of its own under `content/xx/`, durable before any entry names it.

use super::StoreError;
use super::files::{create_dir_durably, create_file, random_name, sync_dir};
use super::index::Index;
use super::plant::{Plant, is_planted};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A file being written is synced whenever it has grown by this much. Left to the end, 150 MB reach the disk in one go, and every
/// commit of the log waits for them: ext4 writes a file's new octets before the journal entry that the log's sync waits for too.
const SYNC_OCTETS: u64 = 4 * 1024 * 1024;
const ORPHANED_DIR: &str = "orphaned";

/// A content file that no entry names yet: removed on drop unless kept.
#[derive(Debug)]
pub(super) struct ContentFile {
    dir: PathBuf,
    name: String,
    file: File,
    /// Written since the last sync.
    unsynced: u64,
    /// Written in all.
    octets: u64,
    kept: bool,
}

impl ContentFile {
    /// Makes a new file under a random name.
    pub(super) fn create(dir: &Path) -> io::Result<ContentFile> {
        let hex = random_name()?;
        let (shard, rest) = hex.split_at(2);
        let name = format!("{shard}/{rest}.age");
        let file = create_file(&dir.join(&name))?;
        Ok(ContentFile { dir: dir.to_owned(), name, file, octets: 0, unsynced: 0, kept: false })
    }

    /// Name under `content/`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the file and its name durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !is_planted(Plant::SkipContentSync) {
            self.file.sync_all()?;
        }
        if is_planted(Plant::SkipContentDirSync) {
            return Ok(());
        }
        let path = self.dir.join(&self.name);
        sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// An entry names it, or may: it stays.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Write for ContentFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(octets, self.octets)?;
        self.octets += written as u64;
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_OCTETS {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ContentFile {
    fn drop(&mut self) {
        if !self.kept {
            // A file left behind is found and put aside at the next start.
            drop(fs::remove_file(self.dir.join(&self.name)));
        }
    }
}

/// Makes the directories content files lie in, once for ever: a file's directory entry must not depend on a directory that
/// another session is just making.
pub(super) fn make_shards(dir: &Path) -> io::Result<()> {
    for shard in 0..=u8::MAX {
        let path = dir.join(format!("{shard:02x}"));
        if !path.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(path)?;
        }
    }
    sync_dir(dir)
}

/// After a crash, before any mail is taken: the names of content files that no entry names.
pub(super) fn orphans(dir: &Path, index: &Index) -> Result<Vec<String>, StoreError> {
    let fail = |e: io::Error| StoreError::io("looking through content files", e);
    let mut orphans = Vec::new();
    for shard in fs::read_dir(dir).map_err(fail)? {
        let shard = shard.map_err(fail)?;
        let Some(shard_name) = shard.file_name().to_str().filter(|name| name.len() == 2).map(str::to_owned)
        else {
            continue;
        };
        for file in fs::read_dir(shard.path()).map_err(fail)? {
            let file = file.map_err(fail)?;
            let Some(file_name) = file.file_name().to_str().map(str::to_owned) else { continue };
            let name = format!("{shard_name}/{file_name}");
            if !index.names_content_file(&name)? {
                orphans.push(name);
            }
        }
    }
    Ok(orphans)
}

/// Puts these aside, unless it is to stop. Before that it is asked in another way whether they are named, since the index may have
/// lost a page: that takes as long as reading all objects does.
pub(super) fn put_aside(
    dir: &Path,
    index: &Index,
    orphans: &[String],
    stops: &AtomicBool,
) -> Result<(), StoreError> {
    let fail = |e: io::Error| StoreError::io("putting content files aside", e);
    let names: HashSet<&str> = orphans.iter().map(String::as_str).collect();
    let mut next = 0;
    // A piece at a time: whoever reads keeps the index's log from being folded.
    while let Some(last) = index.confirm_unnamed(&names, next)? {
        if stops.load(Ordering::Relaxed) {
            return Ok(());
        }
        next = last + 1;
    }
    let orphaned = dir.join(ORPHANED_DIR);
    create_dir_durably(&orphaned).map_err(fail)?;
    for name in orphans {
        fs::rename(dir.join(name), orphaned.join(name.replace('/', ""))).map_err(fail)?;
    }
    Ok(())
}
