//! Small files: keyrings, the key of checkpoints, a certificate, what else is known of a store.
//!
//! Not copied, since made anew or of this one process: `index.sqlite*`, `ports.json`, `lock`, `admin.sock`, `tmp/`, `ballast`,
//! `log/clean`, `log/secured`. Nor what is only remembered of this disk and of mail that was sent: `scrub.json`, `watch.json`,
//! `self-test.json`; a restored store is read again from the beginning. Nor `log/torn/` and `content/orphaned/`: no one was told of
//! any of that.

use crate::store::files::{create_dir_durably, remove_file_durably, write_file_durably};
use crate::store::{Digest, StoreError};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// Files of state that go with a backup: reports that an admin has seen to, what the log is known to lack, and how far the clock was
/// trusted.
pub(super) const SMALL_FILES: [&str; 3] = ["closed-gaps.json", "log-loss.json", "retention-clock.json"];
/// In a backup: a key that takes the place of the one before once `backup.json` is written.
const COMING: &str = ".coming";
/// Folders that go with it.
pub(super) const KEYS_DIR: &str = "keys";
const TLS_DIR: &str = "tls";
/// A larger file in those is none of ours, in octets.
const OCTETS_MAX: u64 = 16 * 1024 * 1024;
/// Folders in folders: `keys/<id>/`.
const DEPTH_MAX: usize = 2;

/// Files by their path below a folder.
pub(super) type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// All below `keys/`.
pub(super) fn keys(data_dir: &Path) -> Result<Files, StoreError> {
    let mut files = Files::new();
    collect(data_dir, KEYS_DIR, DEPTH_MAX, &mut files)
        .map_err(|e| StoreError::io("reading the wrapped keyrings", e))?;
    Ok(files)
}

/// All else.
pub(super) fn others(data_dir: &Path) -> Result<Files, StoreError> {
    let mut files = Files::new();
    let read = collect(data_dir, TLS_DIR, DEPTH_MAX, &mut files).and_then(|()| {
        SMALL_FILES.iter().try_for_each(|name| take(data_dir, (*name).to_owned(), &mut files))
    });
    read.map_err(|e| StoreError::io("reading files of state", e))?;
    Ok(files)
}

fn collect(root: &Path, below: &str, depth: usize, files: &mut Files) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(below)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{below}/{name}");
        match entry.file_type()? {
            kind if kind.is_dir() && depth > 0 => collect(root, &path, depth - 1, files)?,
            kind if kind.is_file() => take(root, path, files)?,
            _ => {}
        }
    }
    Ok(())
}

fn take(root: &Path, name: String, files: &mut Files) -> io::Result<()> {
    let path = root.join(&name);
    match fs::metadata(&path) {
        // It was replaced or removed just now: then what is there is looked at again.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.len() > OCTETS_MAX => return Ok(()),
        found => found?,
    };
    match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        read => {
            files.insert(name, Zeroizing::new(read?));
            Ok(())
        }
    }
}

/// Has these files in `dir`, durably, and takes nothing from the backup that is there: a wrapped keyring or key that is another now
/// is put beside, until [`put`] has it take the place.
pub(super) fn put_beside(files: &Files, dir: &Path) -> Result<(), StoreError> {
    let fail = |e| StoreError::io("writing keyrings and files of state", e);
    for (name, octets) in files {
        let path = dir.join(name);
        let is_key = name.starts_with(KEYS_DIR);
        let path = match fs::read(&path) {
            Ok(there) if there == **octets => continue,
            Ok(_) if is_key => dir.join(format!("{name}{COMING}")),
            _ => path,
        };
        if let Some(dir) = path.parent() {
            create_dir_durably(dir).map_err(fail)?;
        }
        write_file_durably(&path, octets).map_err(fail)?;
    }
    Ok(())
}

/// The keyrings of a backup as its entries have them on record: what was put beside counts where it is that, or nothing is on record.
pub(super) fn settled(mut files: Files, recorded: &BTreeMap<String, Digest>) -> Files {
    let coming: Vec<String> = files.keys().filter(|name| name.ends_with(COMING)).cloned().collect();
    for name in coming {
        let Some(octets) = files.remove(&name) else { continue };
        let place = name.strip_suffix(COMING).unwrap_or(&name).to_owned();
        if recorded.get(&place).is_none_or(|recorded| *recorded == Digest::of(&octets)) {
            files.insert(place, octets);
        }
    }
    files
}

/// Has these files, and no others, in `dir`, durably.
pub(super) fn put(files: &Files, dir: &Path) -> Result<(), StoreError> {
    let fail = |e| StoreError::io("writing keyrings and files of state", e);
    for (name, octets) in files {
        let path = dir.join(name);
        if fs::read(&path).is_ok_and(|there| there == **octets) {
            continue;
        }
        if let Some(dir) = path.parent() {
            create_dir_durably(dir).map_err(fail)?;
        }
        write_file_durably(&path, octets).map_err(fail)?;
    }
    let there: Vec<String> = keys(dir)?.into_keys().chain(others(dir)?.into_keys()).collect();
    for name in there.iter().filter(|name| !files.contains_key(*name)) {
        remove_file_durably(&dir.join(name)).map_err(fail)?;
    }
    Ok(())
}
