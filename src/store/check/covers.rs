//! How far the log must reach: what the index, an orderly close and checkpoints say, and whether a server has the store open.

use super::verifier::VerifyOptions;
use crate::mail::Timestamp;
use crate::store::checkpoint::{Checkpoint, CheckpointError, Checkpoints, checkpoints, checkpoints_at};
use crate::store::log::{Position, read_clean_mark};
use crate::store::{Digest, StoreError};
use std::collections::BTreeMap;
use std::fs;
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
    let Ok(metadata) = fs::metadata(data_dir.join("lock")) else { return false };
    let inode = format!(":{} ", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_held = |line: &str| line.contains("FLOCK") && line.contains(&inode);
    // A process in another container does not show there; that its server answers does.
    locks.lines().any(is_held) || std::os::unix::net::UnixStream::connect(data_dir.join("admin.sock")).is_ok()
}
