//! Which folder a source's lists are in: one of its name, unless that is taken by another that was once called so.
//!
//! Folders are never renamed: a command may look into them beside the server, and a crash between two renames would leave lists
//! under the wrong name.

use super::{Header, format, list_path, numbers};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Folders of sources looked at; more are none of ours.
pub(super) const FOLDERS_MAX: usize = 1_000;
/// Stands between a name and a number where the folder of that name is another's. No name has it.
const APART: char = '~';

/// A folder that is there.
pub(in crate::directory) struct Folder {
    pub(in crate::directory) path: PathBuf,
    /// The name that its source had when the folder was made.
    pub(in crate::directory) name: String,
    /// What was read for the newest list whose head is legible.
    pub(in crate::directory) place: Option<String>,
}

/// Every folder of a source, sorted.
pub(in crate::directory) fn folders(state_dir: &Path) -> Vec<Folder> {
    let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    paths.sort_unstable();
    paths.truncate(FOLDERS_MAX);
    paths.into_iter().filter_map(folder).collect()
}

fn folder(path: PathBuf) -> Option<Folder> {
    let file_name = path.file_name()?.to_str()?;
    let name = file_name.split(APART).next().unwrap_or(file_name).to_owned();
    let place = numbers(&path).unwrap_or_default().into_iter().rev().find_map(|number| {
        let file = File::open(list_path(&path, number)).ok()?;
        format::read_header::<Header>(&mut BufReader::new(file)).ok()
    });
    Some(Folder { path, name, place: place.map(|header| header.place) })
}

/// One for a source that has none: of its name, if that is not another's.
pub(in crate::directory) fn unused(state_dir: &Path, name: &str, others: &HashSet<PathBuf>) -> PathBuf {
    let own = std::iter::once(name.to_owned());
    let mut names = own.chain((2..=FOLDERS_MAX).map(|nth| format!("{name}{APART}{nth}")));
    let free = names.find_map(|name| Some(state_dir.join(name)).filter(|path| !others.contains(path)));
    free.unwrap_or_else(|| state_dir.join(name))
}
