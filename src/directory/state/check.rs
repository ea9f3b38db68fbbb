//! Every file that is kept, read to its end: what a start would find out about the newest list only.

use super::folders::FOLDERS_MAX;
use super::{Header, PLAN_FILE, list_path, numbers, read_list};
use crate::directory::STATE_FOLDER;
use crate::directory::report::PlanSummary;
use crate::directory::state::format::FormatError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Lists and plans that cannot be used: each by its path below `data_dir`, and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeptCheck {
    /// They are not what was written, or cannot be read.
    pub damaged: Vec<(String, String)>,
    /// A newer version of Daybook wrote them: nothing is wrong with them, and they are to be left alone.
    pub newer: Vec<(String, String)>,
}

/// Reads all lists and plans in a `data_dir`. Nothing is changed. Blocks on the disk; may be called beside a server.
pub fn check_kept(data_dir: &Path) -> KeptCheck {
    let mut check = KeptCheck::default();
    let folder = data_dir.join(STATE_FOLDER);
    let mut names: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check,
        Err(error) => {
            check.damaged.push((STATE_FOLDER.to_owned(), format!("cannot be read: {error}")));
            return check;
        }
    };
    names.sort_unstable();
    names.truncate(FOLDERS_MAX);
    for source in names {
        let mut tell = |path: &Path, error: FormatError| {
            let place = path.strip_prefix(data_dir).unwrap_or(path).display().to_string();
            let list = match error {
                FormatError::Newer(_) => &mut check.newer,
                FormatError::Unreadable(_) | FormatError::Damaged(_) => &mut check.damaged,
            };
            list.push((place, error.to_string()));
        };
        match numbers(&source) {
            Ok(numbers) => {
                for path in numbers.into_iter().map(|number| list_path(&source, number)) {
                    fault(read_list::<Header>(&path)).into_iter().for_each(|error| tell(&path, error));
                }
            }
            Err(error) => tell(&source, FormatError::Unreadable(error)),
        }
        let plan = source.join(PLAN_FILE);
        fault(read_list::<PlanSummary>(&plan)).into_iter().for_each(|error| tell(&plan, error));
    }
    check
}

/// One that is not there any more gave way to a newer one.
fn fault<T>(read: Result<T, FormatError>) -> Option<FormatError> {
    match read {
        Err(FormatError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => None,
        read => read.err(),
    }
}
