//! The key that signs checkpoints: made at the first opening, replaced when it is lost.
//!
//! `keys/checkpoint.key` is a state file (state_file.rs), owner-only, that holds the seed of an Ed25519 key and names the key
//! before it. A lost key costs no mail: a new one is made, and every checkpoint it signs names the one before, as the newest
//! checkpoint in `data_dir` knows it.

use super::{
    CHECKPOINTS_BEFORE_FILE, CHECKPOINTS_FILE, KEY_FILE, PublicKey, SigningKey, TAIL_OCTETS, from_hex, hex,
    read_files,
};
use crate::mail::Timestamp;
use crate::store::StoreError;
use crate::store::format::SEGMENT_HEADER_OCTETS;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

#[derive(Serialize, Deserialize)]
struct KeyFile {
    seed: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous_key: Option<PublicKey>,
    made_at: Timestamp,
}

/// The key of a store, and the one before it.
pub(in crate::store) struct StoreKey {
    pub(in crate::store) signing: SigningKey,
    pub(in crate::store) previous: Option<PublicKey>,
}

impl KeyFile {
    fn key(&self) -> Option<StoreKey> {
        let seed = Zeroizing::new(from_hex(&self.seed)?);
        let signing = SigningKey::from_seed(seed.as_slice().try_into().ok()?)?;
        Some(StoreKey { signing, previous: self.previous_key })
    }
}

fn read(data_dir: &Path) -> Result<StoreKey, StateError> {
    let file: KeyFile = state_file::read(&data_dir.join(KEY_FILE))?;
    file.key().ok_or_else(|| StateError::Damaged("it holds no key".to_owned()))
}

/// The public keys a store's key file tells of: its own, and the one before. None when it cannot be read.
pub(super) fn public_keys(data_dir: &Path) -> Vec<PublicKey> {
    read(data_dir).map_or_else(|_| Vec::new(), |key| key.public_keys())
}

impl StoreKey {
    pub(in crate::store) fn public_keys(&self) -> Vec<PublicKey> {
        [self.signing.public()].into_iter().chain(self.previous).collect()
    }

    /// The key of the store, made when there is none. A damaged one is put aside.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when a newer program wrote it; [`StoreError::Io`] when it can be neither read nor made.
    pub(in crate::store) fn open(data_dir: &Path, now: Timestamp) -> Result<StoreKey, StoreError> {
        let path = data_dir.join(KEY_FILE);
        let lost = match read(data_dir) {
            Ok(key) => return Ok(key),
            Err(StateError::Newer(version)) => {
                return Err(StoreError::Newer(format!("{KEY_FILE}: version {version}")));
            }
            Err(StateError::Unreadable(error)) => {
                return Err(StoreError::io("reading the key of checkpoints", error));
            }
            Err(StateError::Damaged(why)) => {
                let aside = path.with_extension(format!("key.damaged-{}", now.unix_ms()));
                fs::rename(&path, aside).map_err(|e| StoreError::io("putting a damaged key aside", e))?;
                Some(format!("it is damaged: {why}"))
            }
            Err(StateError::Absent) => None,
        };
        let files = [data_dir.join(CHECKPOINTS_BEFORE_FILE), data_dir.join(CHECKPOINTS_FILE)];
        let before = read_files(&files, &[], TAIL_OCTETS).unwrap_or_default();
        let previous_key = before.trusted.last().map(|checkpoint| checkpoint.key);
        let key = make(data_dir, previous_key, now)
            .map_err(|e| StoreError::io("making the key of checkpoints", e))?;
        let public_key = key.signing.public();
        // Whoever takes away the key and what it signed must not get away with a step that is usual.
        let is_first = previous_key.is_none() && !log_has_entries(data_dir);
        match lost {
            None if is_first => tracing::info!(event = "store.checkpoint_key_made", key = %public_key),
            why => tracing::error!(
                event = "store.checkpoint_key_lost",
                why = why.unwrap_or_else(|| "it is not there".to_owned()),
                previous_key = previous_key.map(|key| key.to_string()),
                key = %public_key,
            ),
        }
        Ok(key)
    }
}

/// Puts another key in the place of the one there is, which it names as the one before.
pub(super) fn replace(data_dir: &Path, now: Timestamp) -> io::Result<StoreKey> {
    let files = [data_dir.join(CHECKPOINTS_BEFORE_FILE), data_dir.join(CHECKPOINTS_FILE)];
    let signed = || {
        let before = read_files(&files, &[], TAIL_OCTETS).unwrap_or_default();
        before.trusted.last().map(|checkpoint| checkpoint.key)
    };
    make(data_dir, public_keys(data_dir).first().copied().or_else(signed), now)
}

fn log_has_entries(data_dir: &Path) -> bool {
    let segments = fs::read_dir(data_dir.join("log")).into_iter().flatten().flatten();
    let is_segment = |entry: &fs::DirEntry| {
        entry.path().extension().is_some_and(|ending| ending == "seg" || ending == "entries")
    };
    let octets = |entry: fs::DirEntry| entry.metadata().map_or(0, |found| found.len());
    segments.filter(is_segment).any(|entry| octets(entry) > SEGMENT_HEADER_OCTETS as u64)
}

fn make(data_dir: &Path, previous_key: Option<PublicKey>, made_at: Timestamp) -> io::Result<StoreKey> {
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(io::Error::other)?;
    let file = KeyFile { seed: Zeroizing::new(hex(seed.as_slice())), previous_key, made_at };
    let key = file.key().ok_or_else(|| io::Error::other("it is no key"))?;
    state_file::write(&data_dir.join(KEY_FILE), &file)?;
    Ok(key)
}
