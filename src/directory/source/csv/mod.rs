//! The `csv` source: a list that another program writes, as `Get-Mailbox | Export-Csv` or a nightly job does.
//!
//! ```text
//! file ─▶ Decoded (byte order mark, UTF-16) ─▶ head (#TYPE, separator, columns) ─▶ Strict (is it a whole table?) ─▶ rows
//! ```
//! A row is read when it comes, so that memory is for users and not for the two hundred columns that Exchange writes of each.
//!
//! What is cut must never pass for a list with fewer users. A row of another length, an open quote, a last line without end, an
//! id that is missing or stands twice are faults of the whole list, each told with its line. A cut between two rows cannot be seen
//! here: that much fewer users are not believed is for `plan.rs`.

mod addresses;
mod row;
mod table;
mod text;

use super::file::{self, Fingerprint};
use super::{CANDIDATES_MAX, Listing, Source, SourceError};
use crate::config::{self, ConfigErrors, Filters, Problems};
use crate::mail::Untrusted;
use row::{Read as ReadRow, Rows};
use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use table::{Places, read_head, wanted};
use text::{Decoded, Malformed, Strict};

/// Largest list read, in octets: a mailbox with all its columns takes some 8 KiB, so 250,000 of them.
const LIST_OCTETS_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Rows between two looks at whether the program is ending.
const ROWS_BETWEEN_LOOKS: usize = 1_000;

/// A list of users, or a folder with two.
#[derive(Debug)]
pub struct CsvSource {
    configured: config::CsvSource,
    /// Groups are asked for: otherwise their list need not even be good.
    with_groups: bool,
}

impl CsvSource {
    /// The list that is configured, as far as these filters want it.
    pub fn new(configured: &config::CsvSource, filters: &Filters) -> CsvSource {
        CsvSource { configured: configured.clone(), with_groups: filters.include_groups }
    }

    /// The lists to read, that of users first, and the file that says they are finished.
    fn files(&self) -> (Vec<PathBuf>, Option<PathBuf>) {
        let configured = &self.configured;
        let path = &configured.path;
        let (folder, lists) = if path.is_dir() {
            let mut lists = vec![path.join(&configured.users_file)];
            lists.extend(self.with_groups.then(|| path.join(&configured.groups_file)));
            (Some(path.as_path()), lists)
        } else {
            (path.parent(), vec![path.clone()])
        };
        let done = configured.done_file.as_ref();
        (lists, done.map(|done| folder.unwrap_or(Path::new("")).join(done)))
    }
}

impl Source for CsvSource {
    fn read(&self, go_on: &dyn Fn() -> bool) -> Result<Listing, SourceError> {
        let (lists, done) = self.files();
        let look = || -> Vec<Option<Fingerprint>> {
            lists.iter().chain(&done).map(|file| Fingerprint::look(file)).collect()
        };
        let before = look();
        if let Some(done) = &done {
            check_done(done, &lists)?;
        }
        let mut listing = Listing::default();
        let mut ids = HashMap::new();
        for (nth, list) in lists.iter().enumerate() {
            let (file, _) = file::open(list).map_err(|error| of_groups(error, list, nth > 0))?;
            let octets = file.metadata().map_err(SourceError::Unreadable)?.len();
            if octets > LIST_OCTETS_MAX {
                return Err(SourceError::TooLarge(format!("{} has {octets} octets", list.display())));
            }
            let mut reading =
                Reading { configured: &self.configured, file: list, are_groups: nth > 0, go_on };
            let had = listing.candidates.len();
            reading.read(file.take(LIST_OCTETS_MAX), &mut ids, &mut listing)?;
            // Each for itself: one that failed must not hide behind the other, and let its part seem gone.
            if listing.candidates.len() == had {
                return Err(SourceError::Empty);
            }
            listing.requests += 1;
        }
        // Replaced by another, or written to: what was read may be of two lists.
        if look() != before || self.files().0 != lists {
            return Err(SourceError::Changing);
        }
        Ok(listing)
    }
}

/// Names the list that is not there where it is that of groups, which nobody misses until it is asked for.
fn of_groups(error: SourceError, list: &Path, are_groups: bool) -> SourceError {
    match error {
        SourceError::Unreadable(error) if are_groups => SourceError::Unreadable(io::Error::new(
            error.kind(),
            format!("{}, which include_groups needs: {error}", list.display()),
        )),
        other => other,
    }
}

/// The file that says so must be there, and not be that of an earlier time.
fn check_done(done: &Path, lists: &[PathBuf]) -> Result<(), SourceError> {
    let written = |file: &Path| std::fs::metadata(file).and_then(|metadata| metadata.modified());
    let Ok(finished) = written(done) else { return Err(SourceError::Changing) };
    let is_older = |list: &PathBuf| written(list).is_ok_and(|written| finished < written);
    if lists.iter().any(is_older) { Err(SourceError::Changing) } else { Ok(()) }
}

/// Reads a list given as octets; `file` is only named in faults.
///
/// # Errors
/// [`SourceError::Invalid`] with every fault up to the first that leaves the rest in doubt, [`SourceError::Empty`], or
/// [`SourceError::TooLarge`].
pub fn parse(octets: &[u8], configured: &config::CsvSource, file: &Path) -> Result<Listing, SourceError> {
    let mut listing = Listing { requests: 1, ..Listing::default() };
    let mut reading = Reading { configured, file, are_groups: false, go_on: &|| true };
    reading.read(octets, &mut HashMap::new(), &mut listing)?;
    if listing.candidates.is_empty() { Err(SourceError::Empty) } else { Ok(listing) }
}

/// One list being read.
struct Reading<'a> {
    configured: &'a config::CsvSource,
    file: &'a Path,
    are_groups: bool,
    go_on: &'a dyn Fn() -> bool,
}

/// Ids that were read, and where each stands.
type Ids = HashMap<String, usize>;

impl Reading<'_> {
    fn read(&mut self, octets: impl Read, ids: &mut Ids, listing: &mut Listing) -> Result<(), SourceError> {
        let mut problems = Problems::of_lines();
        match self.rows(octets, ids, listing, &mut problems) {
            Ok(()) | Err(Stop::Told) => match problems.into_errors(self.file) {
                Some(errors) => Err(SourceError::Invalid(errors)),
                None => Ok(()),
            },
            Err(Stop::For(error)) => Err(error),
        }
    }

    fn rows(
        &mut self,
        octets: impl Read,
        ids: &mut Ids,
        listing: &mut Listing,
        problems: &mut Problems,
    ) -> Result<(), Stop> {
        let mut input = BufReader::new(Decoded::new(octets));
        let wanted = wanted(self.configured, self.are_groups);
        let head = read_head(&mut input, &wanted).map_err(|error| self.broken(&error, problems))?;
        let Some(head) = head else { return Ok(()) };
        let places = Places::of(&wanted, &head, problems);
        if !problems.is_empty() {
            return Err(Stop::Told);
        }
        let rows = Rows { places: &places, preset: self.configured.preset, are_groups: self.are_groups };
        let strict = Strict::new(input, head.separator, head.next_line);
        let mut table = csv::ReaderBuilder::new();
        let table = table.has_headers(false).flexible(true).delimiter(head.separator);
        let mut table = table.from_reader(strict);
        let mut row = csv::ByteRecord::new();
        let mut count = 0_usize;
        loop {
            match table.read_byte_record(&mut row) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    let csv::ErrorKind::Io(error) = error.into_kind() else {
                        return Err(Stop::For(SourceError::Incomplete("a row cannot be read".to_owned())));
                    };
                    return Err(self.broken(&error, problems));
                }
            }
            count += 1;
            if count.is_multiple_of(ROWS_BETWEEN_LOOKS) && !(self.go_on)() {
                return Err(Stop::For(SourceError::Stopped));
            }
            let line = table.get_mut().next_row().unwrap_or(head.line);
            if row.len() != head.columns.len() {
                let (fields, columns) = (row.len(), head.columns.len());
                problems.add(line, format!("has {fields} fields where there are {columns} columns"));
                continue;
            }
            match rows.read(&row, listing) {
                Err(faults) => faults.into_iter().for_each(|fault| problems.add(line, fault)),
                Ok(read) => self.take(read, line, ids, listing, problems)?,
            }
        }
    }

    fn take(
        &self,
        read: ReadRow,
        line: usize,
        ids: &mut Ids,
        listing: &mut Listing,
        problems: &mut Problems,
    ) -> Result<(), Stop> {
        let id = match &read {
            ReadRow::Candidate(candidate) => &candidate.id,
            ReadRow::Nobody { id, .. } => id,
        };
        if let Some(first) = ids.insert(id.clone(), line) {
            problems.add(line, format!("id \"{}\" is already that of line {first}", Untrusted(id)));
            return Ok(());
        }
        match read {
            ReadRow::Nobody { id, why } => listing.skip(id, why),
            ReadRow::Candidate(_) if listing.candidates.len() >= CANDIDATES_MAX => {
                return Err(Stop::For(SourceError::TooLarge(format!("more than {CANDIDATES_MAX} users"))));
            }
            ReadRow::Candidate(candidate) => listing.candidates.push(candidate),
        }
        Ok(())
    }

    /// What reading broke off for. A table that is none leaves everything behind it in doubt.
    fn broken(&self, error: &io::Error, problems: &mut Problems) -> Stop {
        match Malformed::of(error) {
            Some(Malformed { line: 0, why }) => {
                Stop::For(SourceError::Invalid(ConfigErrors::whole_file(self.file, (*why).to_owned())))
            }
            Some(Malformed { line, why }) => {
                problems.add(*line, (*why).to_owned());
                Stop::Told
            }
            None => Stop::For(SourceError::Unreadable(io::Error::new(error.kind(), error.to_string()))),
        }
    }
}

/// Why a list is not read to its end.
enum Stop {
    /// The faults say it.
    Told,
    For(SourceError),
}

#[cfg(test)]
mod tests;
