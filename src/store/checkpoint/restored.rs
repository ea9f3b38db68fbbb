//! Checkpoints of a store that is made of a backup.
//!
//! It takes what was signed up to the backup's end along, and signs with a key of its own from there on, which names the one before:
//! the original has that one, and whatever it signs since is of another log.

use super::loss::{Loss, Losses};
use super::{
    CHECKPOINT_VERSION, CHECKPOINTS_BEFORE_FILE, CHECKPOINTS_FILE, Checkpoint, PublicKey, append, key,
};
use crate::mail::Timestamp;
use crate::store::StoreError;
use crate::store::files::write_file_durably;
use crate::store::log::Position;
use std::fs;
use std::io;
use std::path::Path;

/// Copies the files of checkpoints, but for lines that reach further than this group.
pub(in crate::store) fn carry_over(from: &Path, to: &Path, sequence: u64) -> Result<(), StoreError> {
    let fail = |e| StoreError::io("copying checkpoints", e);
    for name in [CHECKPOINTS_BEFORE_FILE, CHECKPOINTS_FILE] {
        let octets = match fs::read(from.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(fail)?,
        };
        let reaches_further = |line: &&[u8]| {
            Checkpoint::read(&String::from_utf8_lossy(line)).is_ok_and(|said| said.sequence > sequence)
        };
        let lines = octets.split_inclusive(|octet| *octet == b'\n');
        let kept = lines.filter(|line| !reaches_further(line)).collect::<Vec<_>>().concat();
        write_file_durably(&to.join(name), &kept).map_err(fail)?;
    }
    Ok(())
}

/// Signs how far the restored log has come, by a new key.
pub(in crate::store) fn sign_anew(
    data_dir: &Path,
    end: &Position,
    at: Timestamp,
) -> Result<PublicKey, StoreError> {
    let fail = |e| StoreError::io("signing a checkpoint", e);
    let key = key::replace(data_dir, at).map_err(fail)?;
    let checkpoint = Checkpoint {
        v: CHECKPOINT_VERSION,
        at,
        key: key.signing.public(),
        previous_key: key.previous,
        segment: end.segment,
        offset: end.offset,
        sequence: end.sequence,
        chain: end.chain,
    };
    let line = key.signing.sign(&checkpoint).map_err(fail)?;
    let (file, before) = (data_dir.join(CHECKPOINTS_FILE), data_dir.join(CHECKPOINTS_BEFORE_FILE));
    append(&file, &before, &line, super::witness::INSIDE_OCTETS_MAX, super::witness::INSIDE_MODE)
        .map_err(fail)?;
    Ok(checkpoint.key)
}

/// Remembers what the restored log lacks at its end, as an alarm until an admin closes it: nothing is freed till then.
pub(in crate::store) fn note_missing_end(
    data_dir: &Path,
    what: String,
    found_at: Timestamp,
) -> io::Result<()> {
    // One that is damaged was told before.
    let mut losses = Losses::read(data_dir).unwrap_or_default();
    losses.add(Loss { found_at, what, gap: None, closed_by: None });
    losses.write(data_dir)
}
