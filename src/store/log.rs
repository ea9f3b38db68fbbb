//! The log: segments that are only ever appended to, one group of frames and one `fdatasync` at a time.
//!
//! Rules that every path here keeps:
//! * A group counts only when all of it is there and every hash fits.
//! * After a failed write or sync the segment is given up: the kernel marks pages it could not write as clean, so a later
//!   sync of the same file would succeed without them. The next segment's header says how much of it counts.
//! * What a crash may have left unsynced behind the index's position is copied into a fresh segment and synced before
//!   anything is built on it: an unacknowledged group that only the page cache holds must not answer for a re-sent message.
//! * Nothing is ever truncated. A bad last group that nobody can have been told of is *torn*: its octets are copied to
//!   `log/torn/` and no longer count. Anything else that is bad is *damage*: named, kept, stepped over. So is what the disk
//!   cannot read.
//! * A closed segment in which no content is left may have given way to a file of its entries (emptied.rs). Readers see the same
//!   octets at the same offsets through [`SegmentFile`]; nothing is ever appended to it.

mod sectors;
mod segment_file;
mod signed;
#[cfg(test)]
mod tests;

use super::Digest;
use super::StoreError;
use super::emptied;
use super::files::{create_dir_durably, create_file, sync_dir};
use super::format::{
    FormatError, GROUP_HEADER_OCTETS, GROUP_MAGIC, GroupBuilder, GroupHeader, SEGMENT_HEADER_OCTETS,
    SegmentHeader, decode_group, has_blank_payload,
};
use super::plant::{self, Plant, is_planted};
use super::state_file;
use sectors::{is_readable, write_over};
use serde::{Deserialize, Serialize};
use signed::{Known, furthest, replay_signed, sequence_before};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
pub(super) use sectors::bad;
pub(super) use sectors::{Octets, Sectors, is_unreadable, read_over};
pub(super) use segment_file::{Found, SegmentFile, counted_segments, find_segments};

/// Takes a group in: the position behind it, where its header stands, the header, its octets.
pub(super) type Apply<'a> = &'a mut dyn FnMut(&Position, u64, &GroupHeader, &[u8]) -> Result<(), StoreError>;

/// A segment that has reached this size is closed and a new one begun.
const SEGMENT_OCTETS_MAX: u64 = 256 * 1024 * 1024;
/// Octets looked at a time while searching behind damage for the next group.
const SEARCH_OCTETS: usize = 1024 * 1024;
const CLEAN_FILE: &str = "clean";
const TORN_DIR: &str = "torn";
const SECURED_FILE: &str = "secured";

/// How far the log has been taken in: everything before `offset` of `segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) chain: Digest,
    pub(super) sequence: u64,
}

impl Position {
    /// Behind the same group, wherever that lies.
    pub(super) fn is_same_group_as(&self, other: &Position) -> bool {
        (self.sequence, self.chain) == (other.sequence, other.chain)
    }
}

/// So much of a segment was synced when what stood at its end was copied there: a start that follows need not do it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Secured {
    segment: u64,
    octets: u64,
}

/// Something found while opening that an admin must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// An unacknowledged last group, moved to `log/torn/`.
    Torn { segment: u64, offset: u64, octets: u64 },
    /// Octets that should be whole and are not.
    Damage { segment: u64, offset: u64, octets: u64, what: String, loses_entries: bool },
    /// Entries that were acknowledged, as the index or a checkpoint knows, and are not there.
    Missing { segment: u64, offset: u64, what: String },
}

impl Finding {
    fn damage(segment: u64, offset: u64, octets: u64, what: &str, loses_entries: bool) -> Finding {
        Finding::Damage { segment, offset, octets, what: what.to_owned(), loses_entries }
    }

    fn missing(segment: u64, offset: u64, what: &str) -> Finding {
        Finding::Missing { segment, offset, what: what.to_owned() }
    }

    /// True when entries, and with them numbers and UIDs, may be gone.
    pub(super) fn loses_entries(&self) -> bool {
        matches!(self, Finding::Missing { .. } | Finding::Damage { loses_entries: true, .. })
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Torn { segment, offset, octets } => {
                write!(f, "{octets} octets at {offset} of log segment {segment}")
            }
            Finding::Damage { segment, offset, octets: 0, what, .. }
            | Finding::Missing { segment, offset, what } => {
                write!(f, "at {offset} of log segment {segment}: {what}")
            }
            Finding::Damage { segment, offset, octets, what, .. } => {
                write!(f, "{octets} octets at {offset} of log segment {segment}: {what}")
            }
        }
    }
}

/// The log open for appending. One writer.
pub(super) struct Log {
    dir: PathBuf,
    /// The segment `last` names; `None` after a failure, until a new one is durable.
    current: Option<File>,
    /// The last segment that counts, and how much of it.
    last: (u64, u64),
    highest_number: u64,
    chain: Digest,
    sequence: u64,
    buffer: Vec<u8>,
}

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

impl Log {
    /// Opens the log in `dir`, handing every group behind `from` to `apply`, in order.
    ///
    /// `signed` is what the newest checkpoint says of the log: whatever it reaches to was acknowledged.
    /// With `may_cut` the position `from` is known to cover all that was acknowledged: a bad last group is then cut off.
    /// `apply` gets the position behind the group, where the group's header stands, and its octets.
    pub(super) fn open(
        dir: &Path,
        from: Option<Position>,
        may_cut: bool,
        signed: Option<&Position>,
        apply: Apply<'_>,
    ) -> Result<(Log, Vec<Finding>), StoreError> {
        let fail = |what: &'static str| move |e: io::Error| StoreError::io(what, e);
        create_dir_durably(&dir.join(TORN_DIR)).map_err(fail("making the log directory"))?;
        let clean = read_clean_mark(dir);
        let mut findings = Vec::new();
        let (mut segments, mut highest_number) = find_segments(dir, &mut findings)?;
        // Best effort: whoever reads tells what is left over from what counts.
        if emptied::tidy(dir).unwrap_or(true) {
            findings.clear();
            (segments, highest_number) = find_segments(dir, &mut findings)?;
        }
        let Some(last_number) = segments.keys().next_back().copied() else {
            return Log::begin(dir, furthest(from, signed), highest_number, findings);
        };
        let start = match from {
            Some(position) if covers(&segments, &position) => position,
            Some(position) => {
                // The index knows more than the log holds: acknowledged mail is missing. Keep what the index says, and
                // take in what stands in later segments.
                let what = "the log ends before the position the index has reached";
                findings.push(Finding::missing(position.segment, position.offset, what));
                match segments.range(position.segment + 1..).next() {
                    Some((_, found)) => start_of_segment(found, position.sequence),
                    None => {
                        let octets = segments.get(&last_number).map_or(0, |s| s.octets);
                        let position = furthest(Some(position), signed).unwrap_or(position);
                        highest_number = highest_number.max(position.segment);
                        let mut log = Log::at(dir, (last_number, octets), highest_number, position);
                        log.begin_segment()?;
                        log.remove_clean_mark()?;
                        return Ok((log, findings));
                    }
                }
            }
            None => start_of(&segments)?,
        };
        let tail_start =
            if start.segment == last_number { start.offset } else { SEGMENT_HEADER_OCTETS as u64 };
        // A file of entries was synced whole: nothing of it is torn, or waits to be secured.
        let is_emptied = segments.get(&last_number).is_some_and(|last| last.is_emptied);
        // Without a position to trust nobody knows what was acknowledged: then nothing is cut.
        if may_cut && !is_emptied {
            let known = Known { clean: clean.as_ref(), signed, start: &start };
            cut_torn(dir, &mut segments, last_number, tail_start, &known, &mut findings)?;
        }
        let tail_end = segments.get(&last_number).map_or(0, |s| s.octets);
        let is_clean = clean.is_some_and(|c| (c.segment, c.offset) == (last_number, tail_end));
        let secured = Secured { segment: last_number, octets: tail_end };
        let is_secured =
            state_file::read(&dir.join(SECURED_FILE)).is_ok_and(|known: Secured| known == secured);
        let mut is_left = false;
        let is_known = is_clean || is_secured || is_emptied;
        if tail_end > tail_start && !is_known && !is_planted(Plant::SkipRehome) {
            let chain = if start.segment == last_number { Some(start.chain) } else { None };
            match rehome(dir, &mut segments, last_number, tail_start, chain, highest_number + 1) {
                Ok(true) => highest_number += 1,
                // What can be read of it is secured where it is. Nothing is appended there any more.
                Ok(false) => {
                    write_again(dir, &segments, last_number, tail_start)?;
                    is_left = true;
                }
                // Fetching and deleting must go on, to make room.
                Err(StoreError::Full) => write_again(dir, &segments, last_number, tail_start)?,
                Err(e) => return Err(e),
            }
        }
        let end = replay_signed(&segments, start, signed, apply, &mut findings)?;
        let is_lost = signed.is_some_and(|signed| signed.sequence > end.sequence);
        let end = furthest(Some(end), signed).unwrap_or(end);
        highest_number = highest_number.max(end.segment);
        let last = segments.iter().next_back().map_or((0, 0), |(number, found)| (*number, found.octets));
        let mut log = Log::at(dir, last, highest_number, end);
        if !segments.get(&last.0).is_some_and(|found| found.is_emptied) {
            let path = segment_path(dir, last.0);
            let file = File::options()
                .read(true)
                .write(true)
                .open(path)
                .map_err(fail("opening the last segment"))?;
            let is_whole = file.metadata().map_err(fail("opening the last segment"))?.len() == last.1;
            if is_whole && !is_lost && !is_left {
                log.current = Some(file);
            }
        }
        // Otherwise octets that do not count stand behind the end, or some that should are missing: the next group begins a new
        // segment.
        log.remove_clean_mark()?;
        Ok((log, findings))
    }

    fn remove_clean_mark(&self) -> Result<(), StoreError> {
        let removed = super::files::remove_file_durably(&self.dir.join(CLEAN_FILE));
        removed.map_err(|e| StoreError::io("removing the clean-shutdown mark", e))
    }

    /// Replays what stands behind `from`, up to `end`, without touching the log: for an index that fell behind.
    pub(super) fn replay_onto(
        dir: &Path,
        from: Option<Position>,
        end: Position,
        findings: &mut Vec<Finding>,
        apply: Apply<'_>,
    ) -> Result<(), StoreError> {
        let (mut segments, _) = find_segments(dir, findings)?;
        // What stands behind the end was never acknowledged.
        segments.retain(|number, _| *number <= end.segment);
        if let Some(found) = segments.get_mut(&end.segment) {
            found.octets = found.octets.min(end.offset);
        }
        let start = match from {
            Some(position) => position,
            None => start_of(&segments)?,
        };
        replay(&segments, start, apply, findings).map(drop)
    }

    /// True when the log has everything up to `position`.
    pub(super) fn holds(dir: &Path, position: &Position) -> Result<bool, StoreError> {
        find_segments(dir, &mut Vec::new()).map(|(segments, _)| covers(&segments, position))
    }

    /// Octets of the log behind a position, or of all of it.
    pub(super) fn octets_behind(dir: &Path, from: Option<Position>) -> Result<u64, StoreError> {
        let (segments, _) = find_segments(dir, &mut Vec::new())?;
        let (segment, offset) = from.map_or((0, 0), |position| (position.segment, position.offset));
        let octets: u64 = segments.range(segment..).map(|(_, found)| found.octets).sum();
        Ok(octets.saturating_sub(offset))
    }

    fn at(dir: &Path, last: (u64, u64), highest_number: u64, position: Position) -> Log {
        Log {
            dir: dir.to_owned(),
            current: None,
            last,
            highest_number,
            chain: position.chain,
            sequence: position.sequence,
            buffer: Vec::new(),
        }
    }

    /// The first segment of an empty log; an index that already has a position then tells of lost mail.
    fn begin(
        dir: &Path,
        from: Option<Position>,
        highest: u64,
        mut findings: Vec<Finding>,
    ) -> Result<(Log, Vec<Finding>), StoreError> {
        let position =
            from.unwrap_or(Position { segment: 0, offset: 0, chain: Digest([0; 32]), sequence: 0 });
        if from.is_some_and(|p| p.sequence > 0) {
            let what = "the index or a signed checkpoint refers to a log that is not there";
            findings.push(Finding::missing(position.segment, position.offset, what));
        }
        let mut log = Log::at(dir, (0, 0), highest.max(position.segment), position);
        log.begin_segment()?;
        Ok((log, findings))
    }

    /// Makes a new segment durable and appends there from now on.
    fn begin_segment(&mut self) -> Result<(), StoreError> {
        self.current = None;
        // The number is spent even if this fails: a half-made file of that name must never be mistaken for it.
        self.highest_number += 1;
        let number = self.highest_number;
        let header =
            SegmentHeader { number, previous: self.last.0, previous_octets: self.last.1, chain: self.chain };
        let path = segment_path(&self.dir, number);
        let made = create_file(&path).and_then(|file| {
            file.write_all_at(&header.encode(), 0)?;
            file.sync_all()?;
            if !is_planted(Plant::SkipSegmentDirSync) {
                sync_dir(&self.dir)?;
            }
            Ok(file)
        });
        match made {
            Ok(file) => {
                self.current = Some(file);
                self.last = (number, SEGMENT_HEADER_OCTETS as u64);
                Ok(())
            }
            Err(e) => {
                // Best effort: a file that stays behind has no valid predecessor claim and holds no group.
                drop(fs::remove_file(&path));
                Err(StoreError::io("beginning a log segment", e))
            }
        }
    }

    /// Makes sure there is a segment to append to, and starts a group.
    pub(super) fn start_group(&mut self) -> Result<GroupBuilder, StoreError> {
        if self.current.is_none() || self.last.1 >= segment_octets_max(&self.dir) {
            self.begin_segment()?;
        }
        Ok(GroupBuilder::new(self.chain, std::mem::take(&mut self.buffer)))
    }

    /// Where the header of the group being built will stand.
    pub(super) fn next_group_at(&self) -> (u64, u64) {
        self.last
    }

    /// Appends a group and makes it durable; returns the position behind it.
    ///
    /// # Errors
    /// Nothing of the group counts. The segment is given up; the next [`Log::start_group`] begins a new one.
    pub(super) fn append(&mut self, group: GroupBuilder) -> Result<Position, StoreError> {
        let (octets, chain) = group.finish(self.sequence + 1);
        let Some(file) = &self.current else {
            return Err(StoreError::io("appending to the log", io::ErrorKind::NotConnected.into()));
        };
        let written = file.write_all_at(&octets, self.last.1).and_then(|()| plant::sync_log(file));
        if let Err(e) = written {
            let error = StoreError::io("appending to the log", e);
            if is_planted(Plant::AppendAfterFailure) {
                self.last.1 += octets.len() as u64;
                return Err(error);
            }
            if matches!(error, StoreError::Full) {
                // What was written of the group counts for nothing; give its space back if that works.
                file.set_len(self.last.1).ok();
            }
            self.current = None;
            return Err(error);
        }
        self.last.1 += octets.len() as u64;
        self.chain = chain;
        self.sequence += 1;
        self.buffer = octets;
        // One huge group must not hold its memory for ever.
        self.buffer.clear();
        self.buffer.shrink_to(8 * 1024 * 1024);
        Ok(self.position())
    }

    pub(super) fn position(&self) -> Position {
        Position { segment: self.last.0, offset: self.last.1, chain: self.chain, sequence: self.sequence }
    }

    /// False after a failure, until a new segment is durable.
    pub(super) fn is_appending(&self) -> bool {
        self.current.is_some()
    }

    /// Leaves the mark that says: everything up to here was durable when the store was closed.
    pub(super) fn mark_clean(&self) -> Result<(), StoreError> {
        if self.current.is_none() {
            return Ok(());
        }
        state_file::write(&self.dir.join(CLEAN_FILE), &self.position())
            .map_err(|e| StoreError::io("writing the clean mark", e))
    }
}

/// When a segment is full. A test may ask for small ones, to have many.
#[cfg_attr(
    not(test),
    expect(unused_variables, reason = "only a test beside the code says so in the directory")
)]
fn segment_octets_max(dir: &Path) -> u64 {
    #[cfg(test)]
    if let Some(octets) =
        fs::read_to_string(dir.join("segment-octets")).ok().and_then(|text| text.parse().ok())
    {
        return octets;
    }
    #[cfg(feature = "planted-faults")]
    if let Some(octets) = std::env::var("DAYBOOK_SEGMENT_OCTETS").ok().and_then(|octets| octets.parse().ok())
    {
        return octets;
    }
    SEGMENT_OCTETS_MAX
}

pub(super) fn read_clean_mark(dir: &Path) -> Option<Position> {
    state_file::read(&dir.join(CLEAN_FILE)).ok()
}

fn covers(segments: &BTreeMap<u64, Found>, position: &Position) -> bool {
    segments.get(&position.segment).is_some_and(|s| position.offset <= s.octets)
}

fn start_of(segments: &BTreeMap<u64, Found>) -> Result<Position, StoreError> {
    let first =
        segments.values().next().ok_or_else(|| StoreError::Damaged("the log has no segment".to_owned()))?;
    Ok(start_of_segment(first, 0))
}

fn start_of_segment(found: &Found, sequence: u64) -> Position {
    let offset = SEGMENT_HEADER_OCTETS as u64;
    Position { segment: found.header.number, offset, chain: found.header.chain, sequence }
}

/// A group that was read, and why some of it could not be: then zeros stand in its place.
struct ReadGroup {
    header: GroupHeader,
    unreadable: Option<io::Error>,
}

/// Reads the group whose header stands at `offset`; `Ok(None)` at the end.
fn read_group(
    file: &dyn Octets,
    offset: u64,
    end: u64,
    octets: &mut Vec<u8>,
) -> Result<Option<ReadGroup>, ReadError> {
    if offset >= end {
        return Ok(None);
    }
    let size = |octets: u64| usize::try_from(octets).map_err(|_| ReadError::Bad(FormatError::Short, None));
    octets.clear();
    octets.resize(size(end - offset)?.min(GROUP_HEADER_OCTETS), 0);
    let unreadable = read_over(file, octets, offset).map_err(ReadError::Io)?;
    let header = match GroupHeader::decode(octets) {
        Ok(header) if header.octets <= (end - offset).saturating_sub(GROUP_HEADER_OCTETS as u64) => header,
        Ok(_) => return Err(ReadError::Bad(FormatError::Short, unreadable)),
        Err(e) => return Err(ReadError::Bad(e, unreadable)),
    };
    octets.resize(GROUP_HEADER_OCTETS + size(header.octets)?, 0);
    let behind = octets.get_mut(GROUP_HEADER_OCTETS..).unwrap_or_default();
    let unreadable = read_over(file, behind, offset + GROUP_HEADER_OCTETS as u64).map_err(ReadError::Io)?;
    Ok(Some(ReadGroup { header, unreadable }))
}

enum ReadError {
    Io(io::Error),
    /// And why it could not be read, if that is why.
    Bad(FormatError, Option<io::Error>),
}

/// What is wrong with octets, or why they could not be read.
fn why(what: FormatError, unreadable: Option<&io::Error>) -> String {
    unreadable.map_or_else(|| what.to_string(), |e| format!("cannot be read: {e}"))
}

/// Looks behind `from` for a group header that is whole and newer than `sequence`, stepping over what cannot be read.
pub(super) fn next_group_behind(
    file: &dyn Octets,
    from: u64,
    end: u64,
    sequence: u64,
) -> io::Result<Option<u64>> {
    let finder = memchr::memmem::Finder::new(GROUP_MAGIC);
    let mut window = vec![0; SEARCH_OCTETS + GROUP_HEADER_OCTETS];
    let mut at = from;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(window.len());
        let Some(window) = window.get_mut(..wanted) else { break };
        read_over(file, window, at)?;
        for hit in finder.find_iter(window) {
            let head = window.get(hit..).unwrap_or_default();
            if GroupHeader::decode(head).is_ok_and(|h| h.sequence > sequence) {
                return Ok(Some(at + hit as u64));
            }
        }
        if wanted <= GROUP_HEADER_OCTETS {
            break;
        }
        at += (wanted - GROUP_HEADER_OCTETS) as u64;
    }
    Ok(None)
}

/// Checks the last segment's end; a bad last group nobody can have been told of is kept in `torn/` and no longer counts.
fn cut_torn(
    dir: &Path,
    segments: &mut BTreeMap<u64, Found>,
    number: u64,
    from: u64,
    known: &Known<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let fail = |e: io::Error| StoreError::io("reading the end of the log", e);
    let mut sequence = sequence_before(segments, known.start, number).map_err(fail)?;
    let Some(found) = segments.get_mut(&number) else { return Ok(()) };
    let file = File::open(segment_path(dir, number)).map_err(fail)?;
    let mut octets = Vec::new();
    let mut at = from;
    loop {
        match read_group(&file, at, found.octets, &mut octets) {
            Ok(None) => return Ok(()),
            Ok(Some(ReadGroup { header, .. })) => {
                if decode_group(&header, &octets).damage.is_empty() {
                    at += octets.len() as u64;
                    sequence = header.sequence;
                    continue;
                }
            }
            Err(ReadError::Bad(..)) => {}
            Err(ReadError::Io(e)) => return Err(fail(e)),
        }
        if let Some(next) = next_group_behind(&file, at + 1, found.octets, sequence).map_err(fail)? {
            // A group behind it was begun only after this one was durable: damage, which replay will name.
            at = next;
            continue;
        }
        if known.clean.is_some_and(|c| (c.segment, c.offset) > (number, at))
            || known.signed.is_some_and(|signed| signed.sequence > sequence)
        {
            return Ok(());
        }
        // What cannot be read cannot be kept elsewhere, and nobody knows that it is torn.
        if !is_readable(&file, at, found.octets).map_err(fail)? {
            return Ok(());
        }
        let tail = found.octets - at;
        let name = dir.join(TORN_DIR).join(format!("{number:08}-{at}.bin"));
        copy_durably(&file, at, tail, &name).map_err(fail)?;
        found.octets = at;
        findings.push(Finding::Torn { segment: number, offset: at, octets: tail });
        return Ok(());
    }
}

fn copy_durably(from: &File, offset: u64, octets: u64, to: &Path) -> io::Result<()> {
    let mut source = from.try_clone()?;
    source.seek(SeekFrom::Start(offset))?;
    // A crash while this ran before leaves a partial copy: made anew.
    match fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut target = create_file(to)?;
    io::copy(&mut source.take(octets), &mut target)?;
    target.sync_all()?;
    sync_dir(to.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Copies what stands behind `from` in segment `number` into a new segment, durably. False when not all of it can be read: a copy
/// would hold less than there is.
fn rehome(
    dir: &Path,
    segments: &mut BTreeMap<u64, Found>,
    number: u64,
    from: u64,
    chain: Option<Digest>,
    new_number: u64,
) -> Result<bool, StoreError> {
    let fail = |e: io::Error| StoreError::io("securing the end of the log", e);
    let Some(found) = segments.get_mut(&number) else { return Ok(true) };
    let header = SegmentHeader {
        number: new_number,
        previous: number,
        previous_octets: from,
        chain: chain.unwrap_or(found.header.chain),
    };
    let path = segment_path(dir, new_number);
    let mut source = File::open(segment_path(dir, number)).map_err(fail)?;
    if !is_readable(&source, from, found.octets).map_err(fail)? {
        return Ok(false);
    }
    source.seek(SeekFrom::Start(from)).map_err(fail)?;
    let octets = found.octets - from;
    // Made under another name first: a half-made copy must not claim its predecessor's end.
    let temporary = path.with_extension("new");
    drop_unfinished(&temporary);
    let copied = create_file(&temporary).and_then(|mut target| {
        target.write_all(&header.encode())?;
        io::copy(&mut source.take(octets), &mut target)?;
        target.sync_all()?;
        Ok(())
    });
    if copied.is_err() {
        drop_unfinished(&temporary);
    }
    copied.map_err(fail)?;
    if let Err(e) = fs::rename(&temporary, &path).and_then(|()| sync_dir(dir)) {
        // It may be there, and then says that its predecessor ends here: never go on beside it, not for want of space either.
        drop_unfinished(&temporary);
        return Err(StoreError::Io(std::sync::Arc::new(e), "securing the end of the log"));
    }
    found.octets = from;
    let octets = SEGMENT_HEADER_OCTETS as u64 + octets;
    // Best effort: without it a start that is broken off has the next one copy all of it again.
    state_file::write(&dir.join(SECURED_FILE), &Secured { segment: new_number, octets }).ok();
    segments.insert(new_number, Found::of_segment(dir, header, octets));
    Ok(true)
}

/// Writes what stands behind `from` in segment `number` once more in its place, and syncs: with no room for a copy, or
/// when not all can be read, this makes pages that a failed sync left clean dirty again.
fn write_again(
    dir: &Path,
    segments: &BTreeMap<u64, Found>,
    number: u64,
    from: u64,
) -> Result<(), StoreError> {
    let Some(found) = segments.get(&number) else { return Ok(()) };
    let written = File::options().read(true).write(true).open(segment_path(dir, number)).and_then(|file| {
        write_over(&file, from, found.octets)?;
        file.sync_all()
    });
    written.map_err(|e| StoreError::Io(std::sync::Arc::new(e), "securing the end of the log in place"))
}

/// Best effort: what stays is replaced by the next attempt.
fn drop_unfinished(temporary: &Path) {
    fs::remove_file(temporary).ok();
}

/// Hands every group behind `start` to `apply`; returns the position behind the last one.
fn replay(
    segments: &BTreeMap<u64, Found>,
    start: Position,
    apply: Apply<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Position, StoreError> {
    let fail = |e: io::Error| StoreError::io("reading the log", e);
    let mut position = start;
    let last = segments.keys().next_back();
    for (number, found) in segments.range(start.segment..) {
        let file = found.open().map_err(fail)?;
        let mut octets = Vec::new();
        if *number != start.segment {
            position = Position { segment: *number, offset: SEGMENT_HEADER_OCTETS as u64, ..position };
        }
        let mut damage = |offset: u64, octets: u64, what: String, loses_entries: bool| {
            findings.push(Finding::Damage { segment: *number, offset, octets, what, loses_entries });
        };
        // Behind octets that could not be read the chain cannot be followed.
        let mut chain_is_known = found.header_is_whole || *number != start.segment;
        loop {
            let at = position.offset;
            match read_group(&file, at, found.octets, &mut octets) {
                Ok(None) => break,
                Ok(Some(ReadGroup { header, unreadable })) => {
                    if chain_is_known && header.chain != position.chain {
                        damage(at, 0, "the chain of entries is broken before this group".to_owned(), true);
                    }
                    chain_is_known = true;
                    let group = decode_group(&header, &octets);
                    // Content that is freed is punched out of segments that are closed, or was left out with all other. Whoever
                    // makes sense of entries knows what is freed: the scrub and `verify` do.
                    let may_be_freed = file.is_emptied() || Some(number) != last;
                    let is_freed = |offset: u64, what: FormatError| {
                        may_be_freed && what == FormatError::Payload && has_blank_payload(&octets, offset)
                    };
                    let damaged = group.damage.iter().filter(|(offset, what)| !is_freed(*offset, *what));
                    for (offset, what) in damaged {
                        damage(
                            at + offset,
                            0,
                            why(*what, unreadable.as_ref()),
                            *what != FormatError::Payload,
                        );
                    }
                    let next = at + octets.len() as u64;
                    position = Position {
                        segment: *number,
                        offset: next,
                        chain: group.chain,
                        sequence: header.sequence,
                    };
                    apply(&position, at, &header, &octets)?;
                }
                Err(ReadError::Io(e)) => return Err(fail(e)),
                Err(ReadError::Bad(e, unreadable)) => {
                    let next =
                        next_group_behind(&file, at + 1, found.octets, position.sequence).map_err(fail)?;
                    let next = next.unwrap_or(found.octets);
                    damage(at, next - at, why(e, unreadable.as_ref()), true);
                    position.offset = next;
                    chain_is_known = false;
                }
            }
        }
    }
    Ok(position)
}
