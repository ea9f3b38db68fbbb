//! Files of wrapped keyrings on record: size and SHA-256 of each, so that damage to them is found without any key.
//!
//! They are put on record in the group that makes their gateway mailbox, and when a wrap is added. Those of stores from before
//! there was such a record are put on it at the next opening, as they are then. One that is not as it is on record is never put
//! on it: a wrap to an escrow recipient is made anew when one is added, and the new one recorded.

use super::fact::KeyFileFact;
use super::index::Index;
use super::{Digest, StoreError, seal};
use crate::mail::{GatewayMailboxId, Timestamp};
use std::fs;
use std::io;
use std::path::Path;

/// What lies in the key directory of a gateway mailbox now.
fn found(keys_dir: &Path, gateway_mailbox: GatewayMailboxId, at: Timestamp) -> io::Result<Vec<KeyFileFact>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(keys_dir.join(gateway_mailbox.to_string()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What a crash left half made has another ending.
        if !name.ends_with(".age") {
            continue;
        }
        let octets = seal::read_wrapped(&entry.path())?;
        let sha256 = Digest::of(&octets);
        found.push(KeyFileFact { at, gateway_mailbox, name, octets: octets.len() as u64, sha256 });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The entries for a gateway mailbox whose files were just made, or for those of its files.
pub(super) fn entries(
    keys_dir: &Path,
    gateway_mailbox: GatewayMailboxId,
    at: Timestamp,
    only: Option<&[String]>,
) -> Result<Vec<KeyFileFact>, StoreError> {
    let mut found =
        found(keys_dir, gateway_mailbox, at).map_err(|e| StoreError::io("reading a keyring", e))?;
    found.retain(|file| only.is_none_or(|only| only.contains(&file.name)));
    Ok(found)
}

/// The entries for files that are not on record. What cannot be read now is left for the next opening.
pub(super) fn unrecorded(
    keys_dir: &Path,
    index: &Index,
    at: Timestamp,
) -> Result<Vec<KeyFileFact>, StoreError> {
    let recorded = index.key_files()?;
    let mut missing = Vec::new();
    for (gateway_mailbox, _) in index.gateway_mailboxes()? {
        missing.extend(found(keys_dir, gateway_mailbox.id, at).unwrap_or_default());
    }
    missing.retain(|file| {
        !recorded.iter().any(|(id, name, _)| (id, name) == (&file.gateway_mailbox, &file.name))
    });
    Ok(missing)
}

/// The names of a gateway mailbox's files that are not as they are on record: damaged, or made again by one who came not to
/// record it.
pub(super) fn differing(
    keys_dir: &Path,
    index: &Index,
    gateway_mailbox: GatewayMailboxId,
) -> Result<Vec<String>, StoreError> {
    let recorded = index.key_files()?;
    let mut found = entries(keys_dir, gateway_mailbox, Timestamp::from_unix_ms(0), None)?;
    found.retain(|file| {
        recorded
            .iter()
            .any(|(id, name, sha256)| (id, name) == (&gateway_mailbox, &file.name) && *sha256 != file.sha256)
    });
    Ok(found.into_iter().map(|file| file.name).collect())
}
