//! Giving back the room of content that is freed, behind the entry that says so.
//!
//! What is punched out is never taken from the index: the segment is walked through, chain and all, and what it says itself is the
//! payload of a freed object, of its length and where the index has it too, goes. So a wrong number frees nothing.

use super::{ENTRIES_A_COMMAND, Pass, READING_REST, ROWS_AT_ONCE, Step};
use crate::mail::Timestamp;
use crate::store::StoreError;
use crate::store::check::{Damage, Expect, Seen, Visit, walk_segment};
use crate::store::committer::{Command, Freeing, ask_blocking};
use crate::store::emptied;
use crate::store::fact::Fact;
use crate::store::files::sync_dir;
use crate::store::index::ObjectPlace;
use crate::store::log::{SegmentFile, counted_segments, segment_path};
use crate::store::plant::{Plant, is_planted};
use rustix::fs::{Advice, FallocateFlags};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `st_blocks` counts in, whatever the file system's own blocks are.
const STAT_BLOCK_OCTETS: u64 = 512;
/// Octets of zeros written at a time, where nothing can be punched out.
const ZEROS_OCTETS: usize = 64 * 1024;
/// Segments that one pass walks through however little there is to give back in them; beyond it those wait that have less than
/// [`WORTH_A_WALK_OCTETS`], but no longer than [`WAIT_MS`].
const SEGMENTS_A_PASS: usize = 16;
/// See [`SEGMENTS_A_PASS`].
const WORTH_A_WALK_OCTETS: u64 = 4 * 1024 * 1024;
/// See [`SEGMENTS_A_PASS`]: a day, in milliseconds. The scrub reads everything again in that time too.
const WAIT_MS: i64 = 24 * 60 * 60 * 1000;

/// Nothing can be punched out there, and that was said.
static CANNOT_PUNCH: AtomicBool = AtomicBool::new(false);

/// The payload of an object in a segment.
#[derive(Clone, Copy)]
struct Payload {
    object: u64,
    offset: u64,
    octets: u64,
}

/// What a walk through a segment finds.
struct Found<'p, 'a> {
    pass: &'p Pass<'a>,
    file: Option<File>,
    read: u64,
    payloads: Vec<Payload>,
    damage: Option<Damage>,
}

impl Visit for Found<'_, '_> {
    fn pace(&mut self, octets: u64) -> ControlFlow<()> {
        self.read += octets;
        if let (Some(file), Some(read)) = (&self.file, NonZeroU64::new(self.read)) {
            // Mail that is fetched again and again stays in memory, not what is read here once.
            rustix::fs::fadvise(file, 0, Some(read), Advice::DontNeed).ok();
        }
        self.pass.shared.rest_while_syncs_are_slow(READING_REST, self.pass.goes_on);
        if (self.pass.goes_on)() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn entry(&mut self, seen: &Seen) {
        if let Fact::Object(fact) = &seen.fact
            && fact.file.is_none()
        {
            let (offset, octets) = (seen.place.payload_offset, seen.payload_octets);
            if octets != fact.sealed_octets {
                let what = format!("object {} is not as long as it says", fact.object);
                self.damage(Damage { offset, what, ..Damage::default() });
            }
            self.payloads.push(Payload { object: fact.object, offset, octets });
        }
    }

    fn damage(&mut self, damage: Damage) {
        self.damage.get_or_insert(damage);
    }
}

impl Pass<'_> {
    /// Gives back what is freed and not given back yet, by this pass or one before.
    pub(super) fn give_back(&mut self) -> Result<(), StoreError> {
        if self.give_back_files()? == Step::Ended {
            return Ok(());
        }
        while (self.goes_on)() {
            let lost = self.shared.read(|index| index.unpunched_lost(ROWS_AT_ONCE))?;
            if lost.is_empty() {
                break;
            }
            self.strike(lost)?;
        }
        let last = self.shared.log_end().segment;
        let segments = self.shared.read(|index| index.unpunched_segments())?;
        // The last one is appended to, or may be.
        let closed = segments.into_iter().filter(|(number, _, _)| *number < last).collect();
        for number in worth_a_walk(closed, self.trusted) {
            let Some(_turn) = self.take_turn()? else { return Ok(()) };
            match self.give_back_segment(number) {
                Ok(Step::Done) => {}
                Ok(Step::Ended) => return Ok(()),
                Err(error @ StoreError::IndexDamaged(_)) => return Err(error),
                // The others have room too.
                Err(error) => failed(&segment(number), &error.to_string()),
            }
        }
        Ok(())
    }

    fn give_back_files(&mut self) -> Result<Step, StoreError> {
        let mut after = 0;
        loop {
            let files = self.shared.read(|index| index.unpunched_files(after, ENTRIES_A_COMMAND))?;
            let Some((last, _)) = files.last() else { return Ok(Step::Done) };
            after = *last;
            let Some(_turn) = self.take_turn()? else { return Ok(Step::Ended) };
            let (mut done, mut dirs) = (Vec::new(), BTreeSet::new());
            for (object, name) in files {
                match self.remove(&name) {
                    Ok(octets) => {
                        self.freed.returned += octets;
                        dirs.extend(self.shared.content_dir().join(&name).parent().map(Path::to_owned));
                        done.push(object);
                    }
                    Err(error) => failed(&format!("content/{name}"), &error.to_string()),
                }
            }
            let synced = dirs.iter().try_for_each(|dir| sync_dir(dir));
            synced.map_err(|e| StoreError::io("syncing what was removed", e))?;
            self.strike(done)?;
        }
    }

    /// Removes a content file; gives the octets that this gave back.
    fn remove(&self, name: &str) -> Result<u64, StoreError> {
        // Its row fits its check, or it would not have been read; that no other object lies in it is asked too.
        if self.shared.read(|index| index.objects_in_file(name))? != 1 {
            return Err(StoreError::IndexDamaged(format!("content file {name} is that of several objects")));
        }
        let path = self.shared.content_dir().join(name);
        let octets = fs::symlink_metadata(&path).map_or(0, |file| file.blocks() * STAT_BLOCK_OCTETS);
        match fs::remove_file(&path) {
            Ok(()) => Ok(octets),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(StoreError::io("removing a content file", e)),
        }
    }

    fn strike(&self, objects: Vec<u64>) -> Result<(), StoreError> {
        for some in objects.chunks(ROWS_AT_ONCE) {
            let objects = some.to_vec();
            ask_blocking(self.commands, |answer| Command::Strike { objects, answer })?;
        }
        Ok(())
    }

    /// Punches what is freed out of a closed segment; when nothing else is left in it, has its entries take its place.
    fn give_back_segment(&mut self, number: u64) -> Result<Step, StoreError> {
        let log_dir = self.shared.log_dir();
        let counted = counted_segments(&log_dir)?.into_iter().find(|(there, _)| *there == number);
        let Some((_, end)) = counted else {
            return Err(StoreError::Damaged("it is not there".to_owned()));
        };
        let fail = |e| StoreError::io("opening a log segment", e);
        let segment = SegmentFile::open(&log_dir, number).map_err(fail)?;
        if segment.is_emptied() {
            return self.strike_emptied(number).map(|()| Step::Done);
        }
        let file =
            File::options().read(true).write(true).open(segment_path(&log_dir, number)).map_err(fail)?;
        let Some(payloads) = self.payloads(number, end, &segment)? else { return Ok(Step::Ended) };
        let (Some(first), Some(last)) = (
            payloads.iter().map(|payload| payload.object).min(),
            payloads.iter().map(|payload| payload.object).max(),
        ) else {
            return Err(StoreError::Damaged("no object is in it".to_owned()));
        };
        let (freed, unpunched) = self
            .shared
            .read(|index| Ok((index.freed_between(first, last)?, index.unpunched_between(first, last)?)))?;
        let goes: Vec<Payload> =
            payloads.iter().copied().filter(|payload| unpunched.contains(&payload.object)).collect();
        let listed = goes.len();
        let goes = self.confirmed(number, goes)?;
        let all_confirmed = goes.len() == listed;
        let done: Vec<u64> = goes.iter().map(|payload| payload.object).collect();
        if is_planted(Plant::StrikeBeforePunch) {
            self.strike(done.clone())?;
        }
        self.freed.returned += punch(&file, &goes)?;
        drop(file);
        let is_empty = all_confirmed && payloads.iter().all(|payload| freed.contains(&payload.object));
        if is_empty {
            self.freed.returned += emptied::exchange(&log_dir, number)?;
            self.freed.segments += 1;
        }
        self.strike(done)?;
        Ok(Step::Done)
    }

    /// Of a segment whose entries alone are kept there is nothing left to give back: the index was made anew since.
    fn strike_emptied(&self, number: u64) -> Result<(), StoreError> {
        while (self.goes_on)() {
            let objects = self.shared.read(|index| index.unpunched_of(number, ROWS_AT_ONCE))?;
            if objects.is_empty() {
                break;
            }
            self.strike(objects)?;
        }
        Ok(())
    }

    /// Every payload in a segment that is whole; nothing when it is to stop.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not whole.
    fn payloads(
        &self,
        number: u64,
        end: u64,
        segment: &SegmentFile,
    ) -> Result<Option<Vec<Payload>>, StoreError> {
        let expect = Expect { number, from: 0, end, chain: None, sequence: None, payloads: false };
        let (file, payloads) = (segment.file().try_clone().ok(), Vec::new());
        let mut found = Found { pass: self, file, read: 0, payloads, damage: None };
        let walked = walk_segment(segment, &expect, &mut found)?;
        if walked.stopped {
            return Ok(None);
        }
        let damage = found.damage.or(walked.tail.and_then(|tail| tail.damage.into_iter().next()));
        match damage {
            Some(damage) => Err(StoreError::Damaged(format!("at {}: {}", damage.offset, damage.what))),
            None if walked.offset != end => Err(StoreError::Damaged("it is shorter than it was".to_owned())),
            None => Ok(Some(found.payloads)),
        }
    }

    /// Those that the index has at the same place.
    fn confirmed(&self, number: u64, payloads: Vec<Payload>) -> Result<Vec<Payload>, StoreError> {
        let mut confirmed = Vec::with_capacity(payloads.len());
        for some in payloads.chunks(ROWS_AT_ONCE) {
            self.shared.read(|index| {
                for payload in some {
                    match index.object(payload.object)?.place {
                        ObjectPlace::Log { segment, offset }
                            if (segment, offset) == (number, payload.offset) =>
                        {
                            confirmed.push(*payload);
                        }
                        _ => {
                            failed(&segment_at(number, payload.offset), "the index has this object elsewhere")
                        }
                    }
                }
                Ok(())
            })?;
        }
        Ok(confirmed)
    }

    /// Touches content before the entry that frees it is durable: what a test plants.
    pub(super) fn punch_too_early(&self, freeing: &Freeing) -> Result<(), StoreError> {
        if !is_planted(Plant::FreeBeforeLog) {
            return Ok(());
        }
        let entries = self.shared.read(|index| index.in_grace_of(freeing.folder, &freeing.uids))?;
        for entry in entries {
            for object in self.shared.read(|index| index.objects_of(entry.message))? {
                let row = self.shared.read(|index| index.object(object))?;
                if let (ObjectPlace::Log { segment, offset }, false) = (row.place, freeing.needed.has(object))
                {
                    let path = segment_path(&self.shared.log_dir(), segment);
                    let file = File::options().read(true).write(true).open(path);
                    let file = file.map_err(|e| StoreError::io("opening a log segment", e))?;
                    punch(&file, &[Payload { object, offset, octets: row.sealed_octets }])?;
                }
            }
        }
        Ok(())
    }
}

/// The segments to walk through now.
fn worth_a_walk(segments: Vec<(u64, u64, Timestamp)>, trusted: Timestamp) -> Vec<u64> {
    let few = segments.len() <= SEGMENTS_A_PASS;
    let is_worth = |(_, octets, since): &(u64, u64, Timestamp)| {
        few || *octets >= WORTH_A_WALK_OCTETS || trusted.unix_ms().saturating_sub(since.unix_ms()) >= WAIT_MS
    };
    segments.into_iter().filter(is_worth).map(|(number, _, _)| number).collect()
}

/// Has these payloads read as zeros, durably; gives the octets that the file system has back.
fn punch(file: &File, payloads: &[Payload]) -> Result<u64, StoreError> {
    let fail = |e: io::Error| StoreError::io("punching out what is freed", e);
    let blocks = || file.metadata().map(|file| file.blocks());
    let before = blocks().map_err(fail)?;
    for payload in payloads.iter().filter(|payload| payload.octets > 0) {
        punch_one(file, payload).map_err(fail)?;
    }
    if !is_planted(Plant::SkipPunchSync) {
        file.sync_data().map_err(fail)?;
    }
    Ok(before.saturating_sub(blocks().map_err(fail)?) * STAT_BLOCK_OCTETS)
}

fn punch_one(file: &File, payload: &Payload) -> io::Result<()> {
    use rustix::io::Errno;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, payload.offset, payload.octets) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            if !CANNOT_PUNCH.swap(true, Ordering::Relaxed) {
                failed(
                    "log",
                    "the file system cannot: zeros are written, and room comes back with whole segments",
                );
            }
            write_zeros(file, payload)
        }
        Err(e) => Err(e.into()),
    }
}

fn write_zeros(file: &File, payload: &Payload) -> io::Result<()> {
    let zeros = vec![0; ZEROS_OCTETS];
    let mut written = 0;
    while written < payload.octets {
        let octets = usize::try_from(payload.octets - written).unwrap_or(ZEROS_OCTETS).min(ZEROS_OCTETS);
        file.write_all_at(zeros.get(..octets).unwrap_or_default(), payload.offset + written)?;
        written += octets as u64;
    }
    Ok(())
}

fn segment(number: u64) -> String {
    format!("log/{number:08}")
}

fn segment_at(number: u64, offset: u64) -> String {
    format!("{} at {offset}", segment(number))
}

fn failed(place: &str, error: &str) {
    tracing::warn!(event = "store.punch_failed", place, error);
}
