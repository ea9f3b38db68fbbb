//! A segment open for reading, whichever file keeps it; and which segments there are.

use super::{Finding, Octets, Sectors, segment_path};
use crate::store::emptied::{BARRED_NUMBER, EntriesFile, OpenError, entries_path};
use crate::store::format::{FormatError, SEGMENT_HEADER_OCTETS, SegmentHeader};
use crate::store::{Digest, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Times that a segment is looked for under both its names: an exchange may run between the first and the second.
const OPEN_ATTEMPTS: usize = 2;

/// A segment open for reading, at the offsets it was written at: the file it was written to, or the one that keeps its entries
/// alone, whose payloads read as zeros. One that was opened before an exchange goes on reading what it opened.
#[derive(Debug)]
pub(in crate::store) enum SegmentFile {
    /// `NNNNNNNN.seg`.
    Whole(File),
    /// `NNNNNNNN.entries`.
    Emptied(EntriesFile),
}

impl SegmentFile {
    /// Opens segment `number` of the log in `dir`. Where there are both files, the one of entries counts if it is whole.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none of it; [`io::ErrorKind::Unsupported`] when a newer version wrote it.
    pub(in crate::store) fn open(dir: &Path, number: u64) -> io::Result<SegmentFile> {
        SegmentFile::open_known(dir, number).map_err(|e| match e {
            OpenError::Io(e) => e,
            OpenError::Newer(version) => {
                let what = format!(
                    "the entries of log segment {number}: version {version} is newer than this program"
                );
                io::Error::new(io::ErrorKind::Unsupported, what)
            }
        })
    }

    fn open_known(dir: &Path, number: u64) -> Result<SegmentFile, OpenError> {
        for _ in 0..OPEN_ATTEMPTS {
            let entries = match EntriesFile::open(&entries_path(dir, number), number) {
                Ok(entries) if entries.fault().is_none() => return Ok(SegmentFile::Emptied(entries)),
                Ok(entries) => Some(entries),
                Err(OpenError::Io(e)) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            };
            match (File::open(segment_path(dir, number)), entries) {
                (Ok(file), _) => return Ok(SegmentFile::Whole(file)),
                (Err(e), Some(entries)) if e.kind() == io::ErrorKind::NotFound => {
                    return Ok(SegmentFile::Emptied(entries));
                }
                (Err(e), None) if e.kind() == io::ErrorKind::NotFound => {}
                (Err(e), _) => return Err(e.into()),
            }
        }
        Err(io::Error::from(io::ErrorKind::NotFound).into())
    }

    /// Octets of the segment; of one that gave way to its entries, as many as it had that counted.
    pub(in crate::store) fn len(&self) -> io::Result<u64> {
        match self {
            SegmentFile::Whole(file) => file.metadata().map(|file| file.len()),
            SegmentFile::Emptied(entries) => Ok(entries.len()),
        }
    }

    /// True when its entries alone are kept: all its payloads read as zeros.
    pub(in crate::store) fn is_emptied(&self) -> bool {
        matches!(self, SegmentFile::Emptied(_))
    }

    /// What is wrong with the file, of which the segment's octets say nothing.
    pub(in crate::store) fn fault(&self) -> Option<&str> {
        match self {
            SegmentFile::Whole(_) => None,
            SegmentFile::Emptied(entries) => entries.fault(),
        }
    }

    /// The file itself, whose octets may be others.
    pub(in crate::store) fn file(&self) -> &File {
        match self {
            SegmentFile::Whole(file) => file,
            SegmentFile::Emptied(entries) => entries.file(),
        }
    }

    /// The file's name in findings: `log/00000003.entries`.
    pub(in crate::store) fn name(&self, number: u64) -> String {
        let ending = if self.is_emptied() { "entries" } else { "seg" };
        format!("log/{number:08}.{ending}")
    }

    fn octets(&self) -> &dyn Octets {
        match self {
            SegmentFile::Whole(file) => file,
            SegmentFile::Emptied(entries) => entries,
        }
    }
}

impl Octets for SegmentFile {
    fn fill(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.octets().fill(into, at)
    }

    fn fill_some(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.octets().fill_some(into, at)
    }

    fn piece_end(&self, at: u64) -> u64 {
        self.octets().piece_end(at)
    }
}

/// A segment that counts.
pub(in crate::store) struct Found {
    pub(in crate::store) header: SegmentHeader,
    /// False when the header is damaged: then only its number is known, from the file's name.
    pub(in crate::store) header_is_whole: bool,
    dir: PathBuf,
    /// How much of it counts.
    pub(in crate::store) octets: u64,
    /// How much there was when it was found, whether it counts or not.
    pub(in crate::store) length: u64,
    /// Its entries alone are kept.
    pub(in crate::store) is_emptied: bool,
}

impl Found {
    /// One that was just written.
    pub(super) fn of_segment(dir: &Path, header: SegmentHeader, octets: u64) -> Found {
        let (dir, length) = (dir.to_owned(), octets);
        Found { header, header_is_whole: true, dir, octets, length, is_emptied: false }
    }

    /// Opens it: what was a `.seg` when it was found may have given way to its entries since.
    pub(in crate::store) fn open(&self) -> io::Result<SegmentFile> {
        SegmentFile::open(&self.dir, self.header.number)
    }
}

/// The numbers of which there is a file. Listed twice: of names that change while a directory is listed neither the old nor the
/// new one need be seen, but then the new one is there the next time.
fn numbers(dir: &Path) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for _ in 0..2 {
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let stem =
                name.to_str().and_then(|name| name.strip_suffix(".seg").or(name.strip_suffix(".entries")));
            numbers.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
        }
    }
    numbers.remove(&BARRED_NUMBER);
    Ok(numbers)
}

/// Finds the segments that count, and how much of each; and the highest number ever used.
pub(in crate::store) fn find_segments(
    dir: &Path,
    findings: &mut Vec<Finding>,
) -> Result<(BTreeMap<u64, Found>, u64), StoreError> {
    let fail = |e: io::Error| StoreError::io("reading the log directory", e);
    let mut segments = BTreeMap::new();
    let mut highest = 0;
    for number in numbers(dir).map_err(fail)? {
        highest = highest.max(number);
        let file = match SegmentFile::open_known(dir, number) {
            Ok(file) => file,
            // One whose making failed, and which was removed again.
            Err(OpenError::Io(e)) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(OpenError::Io(e)) => return Err(fail(e)),
            Err(OpenError::Newer(version)) => {
                return Err(StoreError::Newer(format!("entries of log segment {number}: version {version}")));
            }
        };
        let length = file.len().map_err(fail)?;
        let mut head = Vec::with_capacity(SEGMENT_HEADER_OCTETS);
        Sectors::new(&file, length.min(SEGMENT_HEADER_OCTETS as u64)).read_to_end(&mut head).map_err(fail)?;
        if let Some(fault) = file.fault() {
            findings.push(Finding::damage(number, 0, 0, fault, false));
        }
        let found = |header, header_is_whole| Found {
            header,
            header_is_whole,
            dir: dir.to_owned(),
            octets: length,
            length,
            is_emptied: file.is_emptied(),
        };
        match SegmentHeader::decode(&head) {
            Ok(header) if header.number == number => {
                segments.insert(number, found(header, true));
            }
            Err(FormatError::Newer(version)) => {
                return Err(StoreError::Newer(format!("log segment {number}: version {version}")));
            }
            // A segment whose making was cut off holds nothing; it keeps its number spent.
            _ if length <= SEGMENT_HEADER_OCTETS as u64 && !file.is_emptied() => {}
            Ok(_) | Err(_) => {
                // Its groups carry checks of their own.
                findings.push(Finding::damage(
                    number,
                    0,
                    SEGMENT_HEADER_OCTETS as u64,
                    "header is not valid",
                    false,
                ));
                let header =
                    SegmentHeader { number, previous: 0, previous_octets: 0, chain: Digest([0; 32]) };
                segments.insert(number, found(header, false));
            }
        }
    }
    let claims: Vec<(u64, u64)> =
        segments.values().map(|s: &Found| (s.header.previous, s.header.previous_octets)).collect();
    // Several heirs may claim the same segment: all but the last were given up before they held anything, at the same end.
    for (number, octets) in claims {
        if let Some(found) = segments.get_mut(&number) {
            found.octets = found.octets.min(octets);
        }
    }
    Ok((segments, highest))
}

/// The segments there are, and how many octets of each count.
pub(in crate::store) fn counted_segments(dir: &Path) -> Result<Vec<(u64, u64)>, StoreError> {
    // What is wrong with a header is found by whoever walks through the segment.
    let (segments, _) = find_segments(dir, &mut Vec::new())?;
    Ok(segments.into_iter().map(|(number, found)| (number, found.octets)).collect())
}
