//! How far the log must reach: what the index, an orderly close and checkpoints say, and whether a server has the store open.

use super::verifier::VerifyOptions;
use crate::mail::Timestamp;
use crate::store::checkpoint::{Checkpoint, CheckpointError, Checkpoints, checkpoints, checkpoints_at};
use crate::store::log::{Position, read_clean_mark};
use crate::store::{Digest, StoreError};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Something that says how far the log had come.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    pub(super) who: String,
    pub(super) at: Option<Timestamp>,
    pub(super) position: Position,
}

/// All of them, and what is wrong with some.
#[derive(Default)]
pub(super) struct Covers {
    pub(super) furthest: Vec<Cover>,
    /// Chain hashes that were signed, by the group they stand behind.
    pub(super) signed: BTreeMap<u64, Vec<(String, Digest)>>,
    pub(super) count: u64,
    pub(super) key: Option<String>,
    /// Checkpoints that do not count: where they stand, and why.
    pub(super) refused: Vec<(String, String)>,
    /// Outside ones that could not be read, or that are not there.
    pub(super) out_of_reach: Vec<(String, String)>,
}

impl Covers {
    /// Reads all but the index's. Taken before the log is looked at: the log may then only have grown.
    ///
    /// # Errors
    /// [`StoreError::Newer`]; [`StoreError::Io`] when a file is there and cannot be read.
    pub(super) fn read(options: &VerifyOptions) -> Result<Covers, StoreError> {
        let data_dir = &options.data_dir;
        let mut covers = Covers::default();
        if let Some(position) = read_clean_mark(&data_dir.join("log")) {
            covers.furthest.push(Cover { who: "the last orderly close".to_owned(), at: None, position });
        }
        let kept = checkpoints(data_dir)?;
        let keys: Vec<_> = kept.trusted.iter().rev().map(|checkpoint| checkpoint.key).collect();
        covers.add(kept, "checkpoints in data_dir")?;
        let must = options.checkpoints.is_some();
        if let Some(path) = options.checkpoints.as_ref().or(options.checkpoint_dir.as_ref()) {
            let whose = path.display().to_string();
            match checkpoints_at(data_dir, path, &keys) {
                Ok(found) => {
                    if found.trusted.is_empty() {
                        covers
                            .out_of_reach
                            .push((whose.clone(), "there is no checkpoint of this store".to_owned()));
                    }
                    covers.add(found, &format!("checkpoints in {whose}"))?;
                }
                Err(e) if must => return Err(e),
                Err(e) => covers.out_of_reach.push((whose, e.to_string())),
            }
        }
        Ok(covers)
    }

    fn add(&mut self, found: Checkpoints, whose: &str) -> Result<(), StoreError> {
        if let Some(newest) = found.newest() {
            let cover = Cover {
                who: format!("the newest of the {whose}"),
                at: Some(newest.at),
                position: newest.position(),
            };
            self.furthest.push(cover);
            self.key.get_or_insert_with(|| newest.key.to_string());
        }
        self.count += found.trusted.len() as u64;
        for Checkpoint { sequence, chain, at, .. } in found.trusted {
            self.signed.entry(sequence).or_default().push((format!("{whose}, of {at}"), chain));
        }
        for (place, error) in found.refused {
            match error {
                CheckpointError::Newer(version) => {
                    return Err(StoreError::Newer(format!("checkpoint {place}: version {version}")));
                }
                error => self.refused.push((format!("{whose}: {place}"), error.to_string())),
            }
        }
        Ok(())
    }
}

/// True while a process holds `data_dir/lock`. The lock itself is not touched: not even for a moment may a server that is just
/// starting find it taken.
pub(super) fn is_open(data_dir: &Path) -> bool {
    let path = data_dir.join("lock");
    let Ok(metadata) = fs::metadata(&path) else { return false };
    let device = device_of(&path);
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // A process in another container does not show there; that its server answers does.
    locks.lines().any(|line| holds(line, metadata.ino(), device))
        || std::os::unix::net::UnixStream::connect(data_dir.join("admin.sock")).is_ok()
}

/// True when a line of `/proc/locks` is of a lock on this file: `1: FLOCK  ADVISORY  WRITE 1207 08:01:2621460 0 EOF`, the device
/// in hexadecimal digits. Files of other file systems have the same inode; with no device known, those count too.
fn holds(line: &str, inode: u64, device: Option<(u32, u32)>) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let Some(file) = fields.any(|field| field == "FLOCK").then(|| fields.nth(3)).flatten() else {
        return false;
    };
    let mut parts = file.split(':');
    let mut number = || parts.next().and_then(|part| u32::from_str_radix(part, 16).ok());
    let held = number().zip(number());
    let is_inode = parts.next().and_then(|part| part.parse().ok()) == Some(inode);
    is_inode && device.is_none_or(|device| held == Some(device))
}

/// The device of the file system a file is on, as `/proc` tells it: not always that of [`fs::metadata`], which on some is one of
/// a part of it.
fn device_of(path: &Path) -> Option<(u32, u32)> {
    let file = fs::File::open(path).ok()?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut fields = mounts.lines().map(str::split_ascii_whitespace);
    let of_mount = fields.find_map(|mut fields| (fields.next() == Some(mount)).then(|| fields.nth(1)))?;
    let (major, minor) = of_mount?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_of_one_file_of_one_file_system() {
        let line = "3: FLOCK  ADVISORY  WRITE 1207 08:1f:2621460 0 EOF";
        assert!(holds(line, 2_621_460, Some((8, 31))));
        assert!(holds(line, 2_621_460, None));
        for (inode, device) in [(2_621_460, Some((8, 32))), (2_621_460, Some((9, 31))), (621_460, None)] {
            assert!(!holds(line, inode, device), "{inode} {device:?}");
        }
        assert!(!holds("3: POSIX  ADVISORY  WRITE 1207 08:1f:7 0 EOF", 7, None));
        assert!(holds("3: -> FLOCK  ADVISORY  WRITE 1207 08:1f:7 0 EOF", 7, None));
        assert!(!holds("", 7, None));

        let dir = tempfile::tempdir().unwrap();
        let lock = crate::store::embedded::lock(dir.path()).unwrap();
        assert!(device_of(&dir.path().join("lock")).is_some());
        assert!(is_open(dir.path()));
        drop(lock);
        assert!(!is_open(dir.path()));
    }
}
