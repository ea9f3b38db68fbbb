//! Folders that other rooms keep beside the store: lists of users with whose an address was when, and what was fetched of accounts
//! elsewhere. What stands in them is theirs to know; here they are files that are replaced whole and never changed in place.
//!
//! A name tells nothing of what is in a file, nor does its length: a list of users that was removed as damaged, or by going back to a
//! backup, leaves its number to another. So each is read, and copied when the copy has other octets.

use super::copying::{Copied, Copier, sync};
use super::reading::Findings;
use crate::store::StoreError;
use crate::store::files::remove_file_durably;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// What was fetched of accounts elsewhere. It is to be copied before the log, so that what it calls done is in the log.
pub(super) const PULL_DIR: &str = "pull";
/// Lists of users.
pub(super) const DIRECTORY_DIR: &str = "directory";
/// Files of one folder; more are none of ours.
const FILES_MAX: usize = 10_000;
/// Folders in folders: `directory/NAME/`.
const DEPTH_MAX: usize = 1;
/// What is being written ends so, or is called so.
const UNFINISHED: [&str; 3] = ["copying", "unfinished", "new"];

/// Copies the files of a folder of `source` to where they are in `target`, durably. What is damaged by the disk is told. Gives the
/// paths of those that are there then.
pub(super) fn copy(
    source: &Path,
    target: &Path,
    folder: &str,
    copier: &mut Copier<'_>,
    findings: &mut Findings,
) -> Result<BTreeSet<String>, StoreError> {
    let mut copied = BTreeSet::new();
    for path in files(source, folder).map_err(|e| StoreError::io("looking for lists of users", e))? {
        let (from, to) = (source.join(&path), target.join(&path));
        match copier.compared(&from, &to) {
            Ok(Copied::InPart(what)) => findings.tell(&path, what),
            Ok(Copied::Whole | Copied::WasThere) => {}
            // It gave way to a newer one just now.
            Err(StoreError::Io(e, _)) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        if let Some(dir) = to.parent() {
            sync(dir)?;
        }
        copied.insert(path);
    }
    Ok(copied)
}

/// Removes what a folder of the backup holds besides these.
pub(super) fn keep_only(dir: &Path, folder: &str, wanted: &BTreeSet<String>) -> Result<(), StoreError> {
    let fail = |e| StoreError::io("removing what is no longer kept", e);
    for path in files(dir, folder).map_err(fail)?.difference(wanted) {
        remove_file_durably(&dir.join(path)).map_err(fail)?;
    }
    Ok(())
}

/// Their paths below `root`.
fn files(root: &Path, folder: &str) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    collect(root, folder, DEPTH_MAX, &mut found)?;
    Ok(found)
}

fn collect(root: &Path, below: &str, depth: usize, found: &mut BTreeSet<String>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(below)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{below}/{name}");
        match entry.file_type()? {
            kind if kind.is_dir() && depth > 0 => collect(root, &path, depth - 1, found)?,
            kind if kind.is_file() && !is_unfinished(&name) && found.len() < FILES_MAX => {
                found.insert(path);
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_unfinished(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or(name, |(_, ending)| ending);
    UNFINISHED.contains(&ending)
}
