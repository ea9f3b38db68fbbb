//! Every file that is kept, read to its end: what a start would find out about the newest list only.

use super::folders::FOLDERS_MAX;
use super::{Header, PLAN_FILE, list_path, numbers, read_list};
use crate::directory::STATE_FOLDER;
use crate::directory::report::PlanSummary;
use crate::directory::state::format::FormatError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Lists and plans in a `data_dir` that are not what was written: each by its path below that, and why. Nothing is changed. Blocks on
/// the disk; may be called beside a server.
pub fn check_kept(data_dir: &Path) -> Vec<(String, String)> {
    let folder = data_dir.join(STATE_FOLDER);
    let mut names: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![(STATE_FOLDER.to_owned(), format!("cannot be read: {error}"))],
    };
    names.sort_unstable();
    names.truncate(FOLDERS_MAX);
    let mut damaged = Vec::new();
    for source in names {
        let mut tell = |path: &Path, error: &dyn std::fmt::Display| {
            let place = path.strip_prefix(data_dir).unwrap_or(path).display().to_string();
            damaged.push((place, error.to_string()));
        };
        match numbers(&source) {
            Ok(numbers) => {
                for path in numbers.into_iter().map(|number| list_path(&source, number)) {
                    let fault = fault(read_list::<Header>(&path));
                    fault.iter().for_each(|error| tell(&path, error));
                }
            }
            Err(error) => tell(&source, &format_args!("cannot be read: {error}")),
        }
        let plan = source.join(PLAN_FILE);
        let fault = fault(read_list::<PlanSummary>(&plan));
        fault.iter().for_each(|error| tell(&plan, error));
    }
    damaged
}

/// One that is not there any more gave way to a newer one.
fn fault<T>(read: Result<T, FormatError>) -> Option<FormatError> {
    match read {
        Err(FormatError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => None,
        read => read.err(),
    }
}
