//! What a source keeps beyond the life of the program: the lists that were in force, and a change that waits for a person's word.
//!
//! ```text
//! data_dir/directory/NAME/   12.jsonl  13.jsonl  14.jsonl          the last ten lists; the highest number is in force
//!                            pending.jsonl                         a plan, made against the highest number
//!                            status.json                           when it was last tried, and how that went
//!                            unfinished                            what is being written, or was when the power failed
//! ```
//! NAME is what the source was called when the folder was made: one that is called otherwise now, and reads the same, goes on with
//! it. `NAME~2` is made where NAME is another's by now.
//!
//! Invariants:
//! - A list is durable before it is in force: written whole under another name, synced, renamed, the folder synced.
//! - A number is never used twice, so that a plan says what it was made against.
//! - A file that is damaged or of a newer version is left where it is, never written over and never in force. The list before it
//!   is, and is held: it may be the one that somebody went back from. Without one the next reading is no first one: it waits for a
//!   person's word. Both are told.
//! - Without a folder (tests, `doctor`) the same is kept in memory.

mod check;
mod files;
mod folders;
mod format;
#[cfg(test)]
mod tests;

pub use check::{KeptCheck, check_kept};
pub(super) use folders::{folders, unused};

use super::plan::Wanted;
use super::report::{PlanSummary, SourceFault, StateFault, StateFaultKind};
use super::roll::Roll;
use crate::mail::Timestamp;
use format::FormatError;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

/// Lists kept of each source, the one in force among them.
pub const SNAPSHOTS_KEPT: usize = 10;
/// How the name of a list ends, behind its number.
const LIST_ENDING: &str = ".jsonl";
const PLAN_FILE: &str = "pending.jsonl";
const STATUS_FILE: &str = "status.json";
/// A larger file is no status, in octets.
const STATUS_OCTETS_MAX: u64 = 1024 * 1024;

/// What a list says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) taken_at: Timestamp,
    pub(super) source: String,
    /// What the source read then.
    pub(super) place: String,
    pub(super) users: usize,
    /// It was gone back to: what differs from it waits for a person's word.
    #[serde(default)]
    pub(super) held: bool,
    /// The list gone back to. Not in files of programs that did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) back_to: Option<u64>,
}

/// How the last tries went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    #[serde(default)]
    pub(super) last_try: Option<Timestamp>,
    #[serde(default)]
    pub(super) last_good: Option<Timestamp>,
    #[serde(default)]
    pub(super) error: Option<SourceFault>,
    #[serde(default)]
    pub(super) failures: u32,
}

/// A plan with everything it needs to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) summary: PlanSummary,
    pub(super) wanted: Wanted,
}

/// What was found when the program started.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) in_force: Option<(Header, Roll)>,
    pub(super) pending: Option<Pending>,
    pub(super) tries: Tries,
    /// There were lists, and none can be used.
    pub(super) is_lost: bool,
    /// What cannot be used.
    pub(super) faults: Vec<StateFault>,
}

impl Found {
    fn damaged(&mut self, text: String) {
        self.faults.push(StateFault { kind: StateFaultKind::Damaged, text });
    }
}

/// Where one source's lists are kept.
#[derive(Debug)]
pub(super) enum Kept {
    Folder(PathBuf),
    Memory(VecDeque<(Header, Wanted)>),
}

impl Kept {
    /// In this folder, made when something is first kept; in memory without one.
    pub(super) fn open(folder: Option<PathBuf>) -> (Kept, Found) {
        let Some(folder) = folder else { return (Kept::Memory(VecDeque::new()), Found::default()) };
        let found = find(&folder);
        (Kept::Folder(folder), found)
    }

    /// Where that is.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Kept::Folder(folder) => Some(folder),
            Kept::Memory(_) => None,
        }
    }

    /// The number the next list gets.
    pub(super) fn next_number(&self) -> io::Result<u64> {
        let highest = match self {
            Kept::Folder(folder) => numbers(folder)?.last().copied(),
            Kept::Memory(lists) => lists.back().map(|(header, _)| header.number),
        };
        Ok(highest.unwrap_or(0).saturating_add(1))
    }

    /// Keeps a list, durably. A plan that waits is void with it, and the oldest lists go.
    ///
    /// # Errors
    /// The disk's. The list is not kept then, or perhaps is: the next start may find it.
    pub(super) fn keep(&mut self, header: &Header, roll: &Roll) -> io::Result<()> {
        match self {
            Kept::Folder(folder) => {
                files::make_folder(folder)?;
                let name = format!("{}{LIST_ENDING}", header.number);
                let written = files::replace(folder, &name, |out| format::write_roll(out, header, roll));
                if written.is_err() {
                    // Its name may be there and only not durable.
                    files::remove(&folder.join(&name)).ok();
                }
                written?;
                // It is durable: what fails from here on is tidying up, and is tried again with the next list.
                files::remove(&folder.join(PLAN_FILE)).ok();
                prune(folder);
            }
            Kept::Memory(lists) => {
                let wanted = Wanted { users: roll.users.clone(), contested: roll.contested.clone() };
                lists.push_back((header.clone(), wanted));
                while lists.len() > SNAPSHOTS_KEPT {
                    lists.pop_front();
                }
            }
        }
        Ok(())
    }

    /// The lists that can be gone back to, oldest first.
    pub(super) fn lists(&self) -> io::Result<Vec<Header>> {
        match self {
            Kept::Folder(folder) => {
                let headers = numbers(folder)?.into_iter().filter_map(|number| {
                    let file = File::open(list_path(folder, number)).ok()?;
                    format::read_header(&mut BufReader::new(file)).ok()
                });
                Ok(headers.collect())
            }
            Kept::Memory(lists) => Ok(lists.iter().map(|(header, _)| header.clone()).collect()),
        }
    }

    /// The users of a list; `None` when there is no such list.
    ///
    /// # Errors
    /// Why it cannot be used, for people.
    pub(super) fn users_of(&self, number: u64) -> Result<Option<Wanted>, String> {
        match self {
            Kept::Folder(folder) => {
                let path = list_path(folder, number);
                match read_list::<Header>(&path) {
                    Ok((_, roll)) => Ok(Some(Wanted { users: roll.users, contested: roll.contested })),
                    Err(FormatError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                        Ok(None)
                    }
                    Err(error) => Err(format!("{} {error}", path.display())),
                }
            }
            Kept::Memory(lists) => {
                Ok(lists.iter().find(|(header, _)| header.number == number).map(|(_, wanted)| wanted.clone()))
            }
        }
    }

    /// Keeps a plan in place of the one before; `None` is that none waits.
    pub(super) fn keep_plan(&self, pending: Option<&Pending>) -> io::Result<()> {
        let Kept::Folder(folder) = self else { return Ok(()) };
        let Some(Pending { summary, wanted }) = pending else {
            return files::remove(&folder.join(PLAN_FILE));
        };
        files::make_folder(folder)?;
        files::replace(folder, PLAN_FILE, |out| format::write_wanted(out, summary, wanted))
    }

    /// Keeps how the last try went. Nothing depends on it: what cannot be written is forgotten with the program.
    pub(super) fn keep_tries(&self, tries: &Tries) {
        let Kept::Folder(folder) = self else { return };
        let write = || -> io::Result<()> {
            files::make_folder(folder)?;
            files::replace(folder, STATUS_FILE, |out| out.write_all(&serde_json::to_vec(tries)?))
        };
        write().ok();
    }
}

fn list_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}{LIST_ENDING}"))
}

/// Numbers of the lists in a folder, ascending.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(LIST_ENDING));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_list<H: serde::de::DeserializeOwned>(path: &Path) -> Result<(H, Roll), FormatError> {
    let file = File::open(path).map_err(FormatError::Unreadable)?;
    format::read(BufReader::with_capacity(256 * 1024, file))
}

/// The highest list that is whole, held unless it is the highest of all, and the plan made against it.
fn find(folder: &Path) -> Found {
    let mut found = Found::default();
    let numbers = match numbers(folder) {
        Ok(numbers) => numbers,
        Err(error) => {
            found.is_lost = true;
            found.damaged(format!("{} cannot be read: {error}", folder.display()));
            return found;
        }
    };
    let mut unusable = Vec::new();
    for number in numbers.into_iter().rev() {
        let path = list_path(folder, number);
        match read_list::<Header>(&path) {
            Ok((header, roll)) => {
                found.in_force = Some((Header { held: header.held || !unusable.is_empty(), ..header }, roll));
                break;
            }
            Err(error) => unusable.push(format!("{} {error}", path.display())),
        }
    }
    found.is_lost = found.in_force.is_none() && !unusable.is_empty();
    let instead = match &found.in_force {
        Some((header, _)) => format!("list {} is in force instead, and held", header.number),
        None => "no list is in force".to_owned(),
    };
    unusable.into_iter().for_each(|what| found.damaged(format!("{what}; {instead}")));
    let path = folder.join(PLAN_FILE);
    match read_list::<PlanSummary>(&path) {
        Ok((summary, roll)) => {
            let base = found.in_force.as_ref().map_or(0, |(header, _)| header.number);
            let wanted = Wanted { users: roll.users, contested: roll.contested };
            found.pending = (summary.base == base).then_some(Pending { summary, wanted });
        }
        Err(FormatError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => found.damaged(format!("{} {error}; no plan waits", path.display())),
    }
    found.tries = read_tries(&folder.join(STATUS_FILE)).unwrap_or_default();
    found
}

fn read_tries(path: &Path) -> Option<Tries> {
    let file = File::open(path).ok()?;
    serde_json::from_reader(BufReader::new(io::Read::take(file, STATUS_OCTETS_MAX))).ok()
}

/// Removes the lists beyond those kept. One of a newer version is not ours to remove.
fn prune(folder: &Path) {
    let numbers = numbers(folder).unwrap_or_default();
    let surplus = numbers.len().saturating_sub(SNAPSHOTS_KEPT);
    for number in numbers.into_iter().take(surplus) {
        let path = list_path(folder, number);
        let header = File::open(&path)
            .map_err(FormatError::Unreadable)
            .and_then(|file| format::read_header::<Header>(&mut BufReader::new(file)));
        if !matches!(header, Err(FormatError::Newer(_))) {
            files::remove(&path).ok();
        }
    }
}

/// A roll written and read again.
#[cfg(test)]
pub(super) fn through_a_file(roll: &Roll) -> Roll {
    let mut octets = Vec::new();
    format::write_roll(&mut octets, &tests::header(1), roll).unwrap();
    format::read::<Header>(octets.as_slice()).unwrap().1
}
