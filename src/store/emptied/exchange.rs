//! Putting a file of entries in the place of a segment, and tidying what a crash left of it.

use super::file::EntriesFile;
use super::format::{BlockAt, BlockBuilder, HEADER_OCTETS, Header, encode_table};
use super::{BARRED_NUMBER, OpenError, entries_path};
use crate::store::files::{create_file, remove_file_durably, sync_dir, write_file_durably};
use crate::store::format::{
    ENTRY_OCTETS_MAX, FRAME_HEADER_OCTETS, FormatError, FrameHeader, GROUP_HEADER_OCTETS, GroupHeader,
    SEGMENT_HEADER_OCTETS, SegmentHeader, barring_header,
};
use crate::store::log::{Octets, Sectors, counted_segments, find_segments, segment_path};
use crate::store::{Digest, StoreError};
use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::Advice;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Octets of a segment read at a time.
const READ_OCTETS: usize = 256 * 1024;
/// In which `st_blocks` counts, whatever the file system's blocks are.
const STAT_BLOCK_OCTETS: u64 = 512;
const UNFINISHED: &str = ".entries.new";

/// How far an exchange has come: a test looks at what a crash would leave there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Barred,
    Written,
    Renamed,
    Synced,
    Removed,
}

/// What a walk through a segment came to.
#[derive(Debug, PartialEq, Eq)]
struct Walked {
    chain: Digest,
    sequence: u64,
    groups: u64,
    frames: u64,
    /// Of all octets but payloads.
    kept: Digest,
}

/// Has the entries of a closed segment, whose content is all freed, take the place of the segment, durably. Gives the octets
/// that this gave back to the file system; none when that was done before. The caller sees to it that nobody needs a payload.
///
/// Nobody may exchange segments of the same log at the same time; others may read them.
///
/// # Errors
/// [`StoreError::Refused`] for the last segment; [`StoreError::Damaged`] for one that is not whole, which is left as it is;
/// [`StoreError::Gone`] when there is none of that number. After [`StoreError::Io`] it may be done by half: try again.
pub(in crate::store) fn exchange(log_dir: &Path, number: u64) -> Result<u64, StoreError> {
    exchange_in_steps(log_dir, number, &mut |_| ())
}

pub(super) fn exchange_in_steps(
    log_dir: &Path,
    number: u64,
    step: &mut dyn FnMut(Step),
) -> Result<u64, StoreError> {
    let fail = |e: io::Error| StoreError::io("putting entries in the place of a log segment", e);
    let octets = closed_octets(log_dir, number)?;
    let path = segment_path(log_dir, number);
    let source = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened.map_err(fail)?,
    };
    let before = source.metadata().map_err(fail)?.blocks();
    let target = entries_path(log_dir, number);
    // After a crash both may be there.
    if !settle(&target, &path, number, octets)? {
        let unfinished = unfinished_path(log_dir, number);
        remove_file_durably(&unfinished).map_err(fail)?;
        bar_older_programs(log_dir).map_err(fail)?;
        step(Step::Barred);
        let written = write(&source, &unfinished, number, octets);
        if written.is_err() {
            // Best effort: what stays is replaced by the next attempt, or removed by the next start.
            fs::remove_file(&unfinished).ok();
        }
        written?;
        step(Step::Written);
        fs::rename(&unfinished, &target).map_err(fail)?;
        step(Step::Renamed);
        sync_dir(log_dir).map_err(fail)?;
        step(Step::Synced);
        fs::remove_file(&path).map_err(fail)?;
        step(Step::Removed);
        sync_dir(log_dir).map_err(fail)?;
    }
    let after = fs::metadata(&target).map_err(fail)?.blocks();
    Ok(before.saturating_sub(after) * STAT_BLOCK_OCTETS)
}

/// How much of a closed segment counts.
fn closed_octets(log_dir: &Path, number: u64) -> Result<u64, StoreError> {
    let (segments, _) = find_segments(log_dir, &mut Vec::new())?;
    let found = segments.get(&number).ok_or(StoreError::Gone)?;
    if segments.range(number + 1..).next().is_none() {
        return Err(StoreError::Refused(format!("log segment {number} is the last: it may go on")));
    }
    let heirs = segments.values().filter(|heir| heir.header.previous == number);
    if heirs.map(|heir| heir.header.previous_octets).any(|octets| octets > found.length) {
        return Err(StoreError::Damaged(format!("log segment {number} is shorter than it was")));
    }
    Ok(found.octets)
}

fn unfinished_path(log_dir: &Path, number: u64) -> PathBuf {
    log_dir.join(format!("{number:08}{UNFINISHED}"))
}

/// Removes what broken-off exchanges left, for whoever alone writes to the log, and keeps older programs away where that is to be
/// (a copy may have been made without). True when anything was left.
///
/// # Errors
/// [`StoreError::Io`]. Nothing depends on it: what is left over takes room, and is told from what counts.
pub(in crate::store) fn tidy(log_dir: &Path) -> Result<bool, StoreError> {
    let fail = |e: io::Error| StoreError::io("tidying the log directory", e);
    let mut was_untidy = false;
    for entry in fs::read_dir(log_dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(UNFINISHED) {
            was_untidy = true;
            remove_file_durably(&entry.path()).map_err(fail)?;
        }
        let number = name.strip_suffix(".entries").and_then(|number| number.parse::<u64>().ok());
        let Some(number) = number else { continue };
        bar_older_programs(log_dir).map_err(fail)?;
        let segment = segment_path(log_dir, number);
        if segment.exists() {
            was_untidy = true;
            let segments = counted_segments(log_dir)?;
            let octets = segments.iter().find(|(found, _)| *found == number).map_or(0, |(_, octets)| *octets);
            settle(&entry.path(), &segment, number, octets)?;
        }
    }
    Ok(was_untidy)
}

/// Where there are both files of a segment, removes the one that does not count: `.entries` counts if it is whole. True when that
/// alone is left. Neither is removed when neither is whole.
fn settle(entries: &Path, segment: &Path, number: u64, octets: u64) -> Result<bool, StoreError> {
    let fail = |e: io::Error| StoreError::io("tidying the log directory", e);
    let kept = match EntriesFile::open(entries, number) {
        Err(OpenError::Io(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(OpenError::Io(e)) => return Err(fail(e)),
        Err(OpenError::Newer(version)) => {
            return Err(StoreError::Newer(format!("entries of log segment {number}: version {version}")));
        }
        Ok(kept) => kept,
    };
    let is_whole = match kept.fault() {
        Some(_) => false,
        None => is_whole(walk(&kept, number, kept.len(), &mut |_, _| Ok(())))?,
    };
    if is_whole {
        remove_file_durably(segment).map_err(fail)?;
        return Ok(true);
    }
    let file = File::open(segment).map_err(fail)?;
    if is_whole_segment(&file, number, octets)? {
        remove_file_durably(entries).map_err(fail)?;
        return Ok(false);
    }
    Err(StoreError::Damaged(format!("log segment {number}: neither it nor the file of its entries is whole")))
}

fn is_whole_segment(file: &File, number: u64, octets: u64) -> Result<bool, StoreError> {
    is_whole(walk(file, number, octets, &mut |_, _| Ok(())))
}

fn is_whole(walked: Result<Walked, StoreError>) -> Result<bool, StoreError> {
    match walked {
        Ok(_) => Ok(true),
        Err(StoreError::Damaged(_)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Leaves the file by which older programs refuse the log.
fn bar_older_programs(log_dir: &Path) -> io::Result<()> {
    let path = segment_path(log_dir, BARRED_NUMBER);
    let header = barring_header(BARRED_NUMBER);
    if fs::read(&path).is_ok_and(|octets| octets == header) {
        return Ok(());
    }
    write_file_durably(&path, &header)
}

/// Writes the entries of a segment to `path`, syncs them, and reads them back.
fn write(source: &File, path: &Path, number: u64, octets: u64) -> Result<(), StoreError> {
    let fail = |e: io::Error| StoreError::io("writing the entries of a log segment", e);
    let mut writer = Writer::new(create_file(path).map_err(fail)?);
    let walked = walk(source, number, octets, &mut |at, kept| writer.keep(at, kept).map_err(fail))?;
    writer.finish(number, octets).map_err(fail)?;
    let not_read_back = |why: String| StoreError::io("reading entries back", io::Error::other(why));
    let entries = EntriesFile::open(path, number).map_err(|e| match e {
        OpenError::Io(e) => fail(e),
        OpenError::Newer(version) => not_read_back(format!("version {version}")),
    })?;
    // From the disk, as far as the kernel lets us.
    rustix::fs::fadvise(entries.file(), 0, None, Advice::DontNeed).ok();
    if let Some(fault) = entries.fault() {
        return Err(not_read_back(fault.to_owned()));
    }
    match walk(&entries, number, octets, &mut |_, _| Ok(())) {
        Ok(again) if again == walked && entries.len() == octets => Ok(()),
        Ok(_) => Err(not_read_back("they are not those that were written".to_owned())),
        Err(StoreError::Damaged(why)) => Err(not_read_back(why)),
        Err(e) => Err(e),
    }
}

/// Writes blocks as octets of the segment are handed to it, then the table and the header.
struct Writer {
    file: File,
    at: u64,
    blocks: Vec<BlockAt>,
    building: BlockBuilder,
}

impl Writer {
    fn new(file: File) -> Writer {
        Writer { file, at: HEADER_OCTETS as u64, blocks: Vec::new(), building: BlockBuilder::new(0) }
    }

    /// Keeps the octets that stand at `at`: together in one block where they fit into one.
    fn keep(&mut self, mut at: u64, mut octets: &[u8]) -> io::Result<()> {
        if octets.len() > self.building.room() {
            self.end_block(at)?;
        }
        while !octets.is_empty() {
            if self.building.room() == 0 {
                self.end_block(at)?;
            }
            let (now, later) = octets.split_at(octets.len().min(self.building.room()));
            self.building.keep(at, now).map_err(impossible)?;
            (at, octets) = (at + now.len() as u64, later);
        }
        // It is asked for more than all else.
        if self.blocks.is_empty() { self.end_block(at) } else { Ok(()) }
    }

    /// Ends the block that is being built: it tells of the segment up to `to`.
    fn end_block(&mut self, to: u64) -> io::Result<()> {
        if self.building.is_empty() {
            return Ok(());
        }
        let building = std::mem::replace(&mut self.building, BlockBuilder::new(to));
        let (block, octets) = building.finish(to, self.at).map_err(impossible)?;
        self.file.write_all_at(&octets, self.at)?;
        self.at = block.end();
        self.blocks.push(block);
        Ok(())
    }

    fn finish(mut self, number: u64, octets: u64) -> io::Result<()> {
        self.end_block(octets)?;
        let blocks = u32::try_from(self.blocks.len()).map_err(|_| impossible(FormatError::NotOurs))?;
        let table = encode_table(&self.blocks);
        let table_sha256 = Digest::of(&table);
        let header = Header { number, octets, table_at: self.at, blocks, table_sha256 };
        self.file.write_all_at(&table, self.at)?;
        self.file.write_all_at(&header.encode(), 0)?;
        self.file.flush()?;
        self.file.sync_all()
    }
}

fn impossible(_: FormatError) -> io::Error {
    io::Error::other("a segment that entries files do not provide for")
}

/// Takes octets that are kept: where they stand in the segment, and they.
type Keep<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), StoreError>;

/// Walks through a segment of which so many octets count, and hands on all but payloads.
///
/// # Errors
/// [`StoreError::Damaged`] at the first thing that is not as it was written; payloads are not looked at.
fn walk(file: &dyn Octets, number: u64, octets: u64, keep: Keep<'_>) -> Result<Walked, StoreError> {
    let reader = BufReader::with_capacity(READ_OCTETS, Sectors::new(file, octets));
    let mut walk = Walk { reader, at: 0, octets, number, kept: Context::new(&SHA256), keep };
    let head = walk.read(SEGMENT_HEADER_OCTETS as u64)?;
    let header = SegmentHeader::decode(&head).map_err(|e| walk.damaged(e))?;
    if header.number != number {
        return Err(walk.damaged(FormatError::NotOurs));
    }
    walk.keep(0, &head)?;
    let (mut chain, mut sequence, mut groups, mut frames) = (header.chain, 0, 0, 0);
    while walk.at < octets {
        let at = walk.at;
        let head = walk.read(GROUP_HEADER_OCTETS as u64)?;
        let group = GroupHeader::decode(&head).map_err(|e| walk.damaged(e))?;
        if group.chain != chain || group.sequence <= sequence {
            return Err(walk.damaged(FormatError::Hash));
        }
        let end = walk.at.saturating_add(group.octets);
        walk.keep(at, &head)?;
        for _ in 0..group.frames {
            chain = walk.frame(chain, end)?;
        }
        if walk.at != end {
            return Err(walk.damaged(FormatError::Short));
        }
        (sequence, groups, frames) = (group.sequence, groups + 1, frames + u64::from(group.frames));
    }
    let kept = Digest::from_ring(&walk.kept.finish());
    Ok(Walked { chain, sequence, groups, frames, kept })
}

struct Walk<'f, 'k> {
    reader: BufReader<Sectors<'f>>,
    at: u64,
    octets: u64,
    number: u64,
    kept: Context,
    keep: Keep<'k>,
}

impl Walk<'_, '_> {
    fn damaged(&self, what: FormatError) -> StoreError {
        StoreError::Damaged(format!("log segment {}, before {}: {what}", self.number, self.at))
    }

    fn io(e: io::Error) -> StoreError {
        StoreError::io("reading a log segment", e)
    }

    /// Reads so many octets that stand next.
    fn read(&mut self, octets: u64) -> Result<Vec<u8>, StoreError> {
        if octets > self.octets - self.at {
            return Err(self.damaged(FormatError::Short));
        }
        let mut read = Vec::new();
        (&mut self.reader).take(octets).read_to_end(&mut read).map_err(Walk::io)?;
        if read.len() as u64 != octets {
            return Err(self.damaged(FormatError::Short));
        }
        self.at += octets;
        Ok(read)
    }

    fn keep(&mut self, at: u64, octets: &[u8]) -> Result<(), StoreError> {
        self.kept.update(octets);
        (self.keep)(at, octets)
    }

    /// Takes a frame of the group that goes to `end`; gives the chain hash behind it.
    fn frame(&mut self, chain: Digest, end: u64) -> Result<Digest, StoreError> {
        let at = self.at;
        let mut head = self.read(FRAME_HEADER_OCTETS as u64)?;
        let frame = FrameHeader::decode(&head).map_err(|e| self.damaged(e))?;
        let payload_at = self.at + u64::from(frame.entry_octets);
        let next = payload_at.checked_add(frame.payload_octets).filter(|next| *next <= end.min(self.octets));
        let (true, Some(next)) = (frame.entry_octets <= ENTRY_OCTETS_MAX, next) else {
            return Err(self.damaged(FormatError::Short));
        };
        let entry = self.read(u64::from(frame.entry_octets))?;
        if !frame.continues(&chain, &head, &entry) {
            return Err(self.damaged(FormatError::Hash));
        }
        head.extend_from_slice(&entry);
        self.keep(at, &head)?;
        let skip = i64::try_from(frame.payload_octets).map_err(|_| self.damaged(FormatError::Short))?;
        self.reader.seek_relative(skip).map_err(Walk::io)?;
        self.at = next;
        Ok(frame.chain)
    }
}
