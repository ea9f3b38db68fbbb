//! How far the log must reach: what the index, an orderly close and checkpoints say, and whether a server has the store open.

use super::verifier::VerifyOptions;
use crate::mail::Timestamp;
use crate::store::checkpoint::{
    Checkpoint, CheckpointError, Checkpoints, Gap, Losses, Pinned, PublicKey, checkpoints, checkpoints_at,
    checkpoints_of, signing_key,
};
use crate::store::log::{Position, read_clean_mark};
use crate::store::{Digest, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Keys of others that are named.
const KEYS_NAMED_MAX: usize = 5;

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
    /// The keys of all that count.
    keys: BTreeSet<PublicKey>,
    /// Missing ends of the log that an admin knows of, and what is to be told of each.
    pub(super) accepted: Vec<(Gap, String)>,
    /// Checkpoints that do not count: where they stand, and why.
    pub(super) refused: Vec<(String, String)>,
    /// What is worth knowing of them: outside ones that could not be read, or that are not there; lines that were cut off.
    pub(super) noted: Vec<(String, String)>,
}

impl Covers {
    /// Reads all but the index's. Taken before the log is looked at: the log may then only have grown.
    ///
    /// # Errors
    /// [`StoreError::Newer`]; [`StoreError::Io`] when a file is there and cannot be read.
    pub(super) fn read(options: &VerifyOptions) -> Result<Covers, StoreError> {
        let data_dir = &options.data_dir;
        let mut covers = Covers::default();
        let closed = read_clean_mark(&data_dir.join("log"));
        if let Some(position) = closed {
            covers.furthest.push(Cover { who: "the last orderly close".to_owned(), at: None, position });
        }
        let pinned = options.key.map(Pinned);
        let kept = match pinned {
            Some(pinned) => checkpoints_of(data_dir, pinned)?,
            None => checkpoints(data_dir)?,
        };
        let keys: Vec<_> = kept.trusted.iter().rev().map(|checkpoint| checkpoint.key).collect();
        let signs = signing_key(data_dir);
        // A close signs before it leaves its mark.
        let reached = kept.newest().map_or(0, |newest| newest.sequence);
        if let Some(closed) = closed.filter(|closed| signs.is_some() && closed.sequence > reached) {
            let what = format!(
                "the newest reaches to group {reached}, the last orderly close to group {}: the last are missing, or could \
                 not be written",
                closed.sequence
            );
            covers.noted.push(("checkpoints in data_dir".to_owned(), what));
        }
        covers.add(kept, "checkpoints in data_dir")?;
        let must = options.checkpoints.is_some();
        if let Some(path) = options.checkpoints.as_ref().or(options.checkpoint_dir.as_ref()) {
            let whose = path.display().to_string();
            match checkpoints_at(data_dir, path, &keys, pinned) {
                Ok(mut found) => {
                    match (found.trusted.is_empty(), found.strangers().is_empty()) {
                        (false, _) => {}
                        (true, true) => {
                            covers
                                .noted
                                .push((whose.clone(), "there is no checkpoint of this store".to_owned()));
                        }
                        // Several stores may share a folder: that it holds nothing of this one proves something only where
                        // somebody says that it must.
                        (true, false) => {
                            let told = if must { &mut covers.refused } else { &mut covers.noted };
                            told.push((whose.clone(), only_of_others(&found)));
                            found.refused.retain(|(_, error)| !matches!(error, CheckpointError::Stranger(_)));
                        }
                    }
                    covers.add(found, &format!("checkpoints in {whose}"))?;
                }
                Err(e) if must => return Err(e),
                Err(e) => covers.noted.push((whose, e.to_string())),
            }
        }
        // A file that is damaged is named with the others of state.
        for loss in Losses::read(data_dir).unwrap_or_default().losses {
            if let (Some(gap), Some(actor)) = (loss.gap, loss.closed_by) {
                let what = format!(
                    "groups of entries up to {} are missing here, found {} and known to {actor}",
                    gap.to.sequence, loss.found_at
                );
                covers.accepted.push((gap, what));
            }
        }
        if let Some(key) = options.key {
            covers.judge_key(key, signs);
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
        self.keys.extend(found.trusted.iter().map(|checkpoint| checkpoint.key));
        for Checkpoint { sequence, chain, at, .. } in found.trusted {
            self.signed.entry(sequence).or_default().push((format!("{whose}, of {at}"), chain));
        }
        let cut_off = |(place, error): (String, CheckpointError)| {
            (format!("{whose}: {place}"), format!("cut off, and written again behind it ({error})"))
        };
        self.noted.extend(found.cut_off.into_iter().map(cut_off));
        let mut strangers: BTreeMap<PublicKey, (String, u64)> = BTreeMap::new();
        for (place, error) in found.refused {
            match error {
                CheckpointError::Stranger(key) => {
                    // Those of a key that was put in the place of ours are as many as ours.
                    strangers.entry(key).or_insert((place, 0)).1 += 1;
                }
                CheckpointError::Newer(version) => {
                    return Err(StoreError::Newer(format!("checkpoint {place}: version {version}")));
                }
                error => self.refused.push((format!("{whose}: {place}"), error.to_string())),
            }
        }
        for (key, (place, count)) in strangers {
            let more =
                if count > 1 { format!(", and {} more by that key", count - 1) } else { String::new() };
            let what = format!("{}{more}", CheckpointError::Stranger(key));
            self.refused.push((format!("{whose}: {place}"), what));
        }
        Ok(())
    }

    /// Whether what somebody remembers as the store's key signed anything, and whether the store signs with it, or one after it.
    fn judge_key(&mut self, key: PublicKey, signs: Option<PublicKey>) {
        if !self.keys.contains(&key) {
            let what =
                format!("there is no checkpoint signed by {key}, which is to be the key of this store");
            self.refused.push(("checkpoints".to_owned(), what));
        }
        let place = "keys/checkpoint.key".to_owned();
        match signs {
            Some(signs) if signs == key => {}
            Some(signs) if self.keys.contains(&signs) => {
                let what = format!("the store signs with {signs}, which says that it came after {key}");
                self.noted.push((place, what));
            }
            Some(signs) => {
                let what = format!("the store signs with {signs}, which does not come after {key}");
                self.refused.push((place, what));
            }
            None => self.refused.push((place, format!("the store has no key, and it was {key}"))),
        }
    }
}

fn only_of_others(found: &Checkpoints) -> String {
    let keys: Vec<String> = found.strangers().iter().map(PublicKey::to_string).take(KEYS_NAMED_MAX).collect();
    format!(
        "there is no checkpoint of this store, only of other keys: {}. Was the key of this store changed?",
        keys.join(", ")
    )
}

/// True while a process holds `data_dir/lock`. The lock itself is not touched: not even for a moment may a server that is just
/// starting find it taken.
pub(in crate::store) fn is_open(data_dir: &Path) -> bool {
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
        let lock = crate::store::data_lock::lock(dir.path()).unwrap();
        assert!(device_of(&dir.path().join("lock")).is_some());
        assert!(is_open(dir.path()));
        drop(lock);
        assert!(!is_open(dir.path()));
    }
}
