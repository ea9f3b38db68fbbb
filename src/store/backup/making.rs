//! `backup`: the store copied into a folder, or what was added copied behind what is there.

use super::beside::{self, DIRECTORY_DIR, PULL_DIR};
use super::content::{Content, sync_all_below};
use super::copying::{Copied, Copier, entries_path, sync};
use super::leaving::Freeing;
use super::manifest::Manifest;
use super::places::{check_apart, claim, hold_freeing};
use super::reading::{At, Findings, Nobody, Said, walk_on};
use super::report::{BackupOptions, BackupProgress, BackupReport};
use super::small;
use crate::mail::Timestamp;
use crate::observe::now;
use crate::store::StoreError;
use crate::store::checkpoint::{CHECKPOINTS_BEFORE_FILE, CHECKPOINTS_FILE, checkpoints, checkpoints_at};
use crate::store::files::{create_dir_durably, write_file_durably};
use crate::store::format::SEGMENT_HEADER_OCTETS;
use crate::store::log::{Found as Segment, Position, find_segments, read_clean_mark, segment_path};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

/// Keyrings are read again so often when they change while the log is copied. Each time all but the newest groups are there.
const KEYS_TRIES: usize = 20;

/// Makes a backup, or brings one up to now. Changes nothing in the store, takes no lock of it and needs no key; a server may run.
/// What is damaged is copied as it is, and told. Broken off, it is gone on with by the next call; until then the backup before
/// stands.
///
/// # Errors
/// [`StoreError::Refused`] when the folder is no place for it, the asker's fault; [`StoreError::Full`], [`StoreError::Io`], the
/// operator's to mend; [`StoreError::Newer`].
pub fn backup(
    options: &BackupOptions,
    progress: &mut dyn FnMut(&BackupProgress),
) -> Result<BackupReport, StoreError> {
    let (began_at, clock) = (now(), Instant::now());
    let BackupOptions { data_dir, dir, .. } = options;
    check_apart(data_dir, dir)?;
    super::refuse_unrestored(data_dir)?;
    // There is none: before anything is made.
    find_segments(&data_dir.join("log"), &mut Vec::new())?;
    let _nobody_writes = claim(dir)?;
    let _nothing_is_freed = hold_freeing(data_dir)?;
    let mut maker = Maker {
        source: data_dir,
        outside: options.checkpoint_dir.as_deref(),
        dir,
        copier: Copier::new(progress),
        before: Manifest::read(dir)?,
        have: BTreeMap::new(),
        joint: At::BEGINNING,
        at: At::BEGINNING,
        said: Said::default(),
        report: BackupReport { began_at: Some(began_at), ..BackupReport::default() },
    };
    maker.run(began_at)?;
    let mut report = maker.report;
    let Findings { kept, count } = maker.said.findings;
    (report.whole, report.damaged, report.findings) = (count == 0, count, kept);
    report.seconds = clock.elapsed().as_secs_f64();
    tell(&report);
    Ok(report)
}

fn tell(report: &BackupReport) {
    tracing::info!(
        event = "store.backed_up",
        sequence = report.sequence,
        octets = report.written_octets,
        content_files = report.content_files,
        freed = report.freed_objects,
        damaged = report.damaged,
        seconds = report.seconds,
    );
}

struct Maker<'a> {
    source: &'a Path,
    /// Where checkpoints are kept besides.
    outside: Option<&'a Path>,
    dir: &'a Path,
    copier: Copier<'a>,
    before: Option<Manifest>,
    /// So many octets of each segment are in the folder, and are the store's.
    have: BTreeMap<u64, u64>,
    /// Where the backup before ends, as far as the store has that too.
    joint: At,
    /// Behind the last whole group that was copied.
    at: At,
    said: Said,
    report: BackupReport,
}

impl Maker<'_> {
    fn run(&mut self, began_at: Timestamp) -> Result<(), StoreError> {
        let must_reach = self.must_reach()?;
        let signed = self.read_checkpoints()?;
        let log = self.dir.join("log");
        create_dir_durably(&log).map_err(|e| StoreError::io("making a folder of the backup", e))?;
        self.find_joint()?;
        let pulled = self.copy_beside(PULL_DIR)?;
        let keys = self.copy_log_and_keys()?;
        let made_at = now();
        if self.at.sequence.unwrap_or_default() < must_reach {
            let what = format!("the log ends before group {must_reach}, to which it once came");
            self.said.findings.tell("log", what);
        }
        self.copy_content()?;
        let lists = self.copy_beside(DIRECTORY_DIR)?;
        small::put_beside(&keys, self.dir)?;
        self.cut_behind_end()?;
        for (name, octets) in signed {
            write_file_durably(&self.dir.join(name), &octets)
                .map_err(|e| StoreError::io("writing checkpoints", e))?;
        }
        sync(&log)?;
        let is_freeing = self.said.has_freed || self.before.as_ref().is_some_and(|before| before.is_freeing);
        let of = self.source.display().to_string();
        let manifest = Manifest { began_at, made_at, of, end: self.at.position(), is_freeing };
        manifest.write(self.dir)?;
        // From here on the backup before is no more.
        small::put(&keys, self.dir)?;
        beside::keep_only(self.dir, PULL_DIR, &pulled)?;
        beside::keep_only(self.dir, DIRECTORY_DIR, &lists)?;
        self.take_emptied()?;
        if is_freeing {
            self.free()?;
            Manifest { is_freeing: false, ..manifest }.write(self.dir)?;
        }
        self.report.sequence = self.at.sequence.unwrap_or_default();
        self.report.receipts = self.said.receipts;
        self.report.written_octets = self.copier.written;
        let (segments, _) = find_segments(&log, &mut Vec::new())?;
        self.report.segments = segments.len() as u64;
        self.report.log_octets = segments.values().map(|found| found.octets).sum();
        Ok(())
    }

    /// The number of the group to which the log is known to have come: what is read below reaches as far.
    fn must_reach(&self) -> Result<u64, StoreError> {
        let signed = checkpoints(self.source)?.newest().map_or(0, |newest| newest.sequence);
        let closed = read_clean_mark(&self.source.join("log")).map_or(0, |closed| closed.sequence);
        // Who cannot read those still has the ones in `data_dir`.
        let outside = self.outside.and_then(|dir| checkpoints_at(self.source, dir, &[], None).ok());
        let outside = outside.and_then(|found| found.newest().map(|newest| newest.sequence)).unwrap_or(0);
        Ok(signed.max(closed).max(outside))
    }

    /// The files of checkpoints, read before the log. The newest first: should it be put aside meanwhile, it is there twice.
    fn read_checkpoints(&self) -> Result<Vec<(&'static str, Vec<u8>)>, StoreError> {
        let mut files = Vec::new();
        for name in [CHECKPOINTS_FILE, CHECKPOINTS_BEFORE_FILE] {
            match fs::read(self.source.join(name)) {
                Ok(octets) => files.push((name, octets)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("reading checkpoints", e)),
            }
        }
        Ok(files)
    }

    /// Finds how much of the folder is the beginning of this log.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it is of another.
    fn find_joint(&mut self) -> Result<(), StoreError> {
        let Some(before) = self.before.clone() else { return Ok(()) };
        let (source, copy) = (self.source.join("log"), self.dir.join("log"));
        let (segments, _) = find_segments(&source, &mut Vec::new())?;
        let there = segments.get(&before.end.segment).map_or(0, |found| found.octets);
        // A start after a crash copies the end of the log into a new segment, and what was not acknowledged is given up there.
        let offset = before.end.offset.min(there);
        let walked = |log: &Path| {
            let mut at = At { segment: before.end.segment, offset: 0, chain: None, sequence: None };
            let to = Position { offset, ..before.end };
            walk_on(log, &mut at, Some(&to), false, &mut Nobody).map(|_| at)
        };
        let (ours, theirs) = (walked(&source)?, walked(&copy)?);
        let is_same = (ours.offset, ours.chain) == (theirs.offset, theirs.chain) && ours.chain.is_some();
        let is_whole = offset < before.end.offset || ours.chain == Some(before.end.chain);
        if offset < SEGMENT_HEADER_OCTETS as u64 || !is_same || !is_whole {
            return Err(StoreError::Refused(format!(
                "{} holds a backup of another store, of what this one was before it was restored, or one of the two is damaged where \
                 the backup before ends: have it made in another folder",
                self.dir.display()
            )));
        }
        self.joint = At { segment: before.end.segment, ..ours };
        self.joint.sequence = ours.sequence.or(Some(before.end.sequence));
        self.at = self.joint;
        let (copied, _) = find_segments(&copy, &mut Vec::new())?;
        for (number, found) in segments.range(..before.end.segment) {
            // A segment's header says all that was before it.
            let is_same = |theirs: &&Segment| theirs.header == found.header;
            let octets = copied.get(number).filter(is_same).map_or(0, |theirs| theirs.octets);
            self.have.insert(*number, octets.min(found.octets));
        }
        self.have.insert(before.end.segment, ours.offset);
        Ok(())
    }

    /// Copies the log to its end, and the keyrings as they are there. Gives these, with all other small files.
    fn copy_log_and_keys(&mut self) -> Result<small::Files, StoreError> {
        self.copy_log()?;
        let mut keys = small::keys(self.source)?;
        for _ in 0..KEYS_TRIES {
            let others = small::others(self.source)?;
            self.copy_log()?;
            let again = small::keys(self.source)?;
            if again == keys {
                keys.extend(others);
                return Ok(keys);
            }
            keys = again;
        }
        let error = io::Error::other("they change all the time: try again");
        Err(StoreError::io("copying the wrapped keyrings", error))
    }

    /// Copies what is in the log and not in the folder, and walks to its last whole group there.
    fn copy_log(&mut self) -> Result<(), StoreError> {
        let (segments, _) = find_segments(&self.source.join("log"), &mut Vec::new())?;
        let have = |this: &Maker<'_>, number: &u64| this.have.get(number).copied().unwrap_or(0);
        let wanted = segments.iter().map(|(number, found)| found.octets.saturating_sub(have(self, number)));
        let wanted = wanted.sum();
        self.copier.expect(wanted);
        let log = self.dir.join("log");
        for (number, found) in &segments {
            let from = have(self, number);
            if from >= found.octets {
                continue;
            }
            let (emptied, target) =
                (entries_path(&self.source.join("log"), *number), segment_path(&log, *number));
            let unread = match self.before.as_ref().filter(|before| *number <= before.end.segment) {
                // The backup before needs what it has of it until there is another: see `take_emptied`.
                Some(_) if found.is_emptied => {
                    let file = found.open().map_err(|e| StoreError::io("opening a log segment", e))?;
                    self.copier.logical(&file, &target, from, found.octets)?
                }
                None if found.is_emptied => {
                    self.copier.advance(found.octets - from);
                    match self.copier.whole(&emptied, &entries_path(&log, *number))? {
                        Copied::InPart(why) => Some(why),
                        Copied::Whole | Copied::WasThere => None,
                    }
                }
                _ => {
                    let source = segment_path(&self.source.join("log"), *number);
                    self.copier.range(&source, &target, from, found.octets)?
                }
            };
            if let Some(why) = unread {
                self.said.findings.tell(&format!("log/{number:08}"), why);
            }
            self.have.insert(*number, found.octets);
        }
        // What stands behind the last whole group is being written, or was never acknowledged.
        walk_on(&log, &mut self.at, None, false, &mut self.said)?;
        // It is read once more when it is whole.
        self.have.insert(self.at.segment, self.at.offset);
        Ok(())
    }

    fn copy_beside(&mut self, folder: &str) -> Result<BTreeSet<String>, StoreError> {
        beside::copy(self.source, self.dir, folder, &mut self.copier, &mut self.said.findings)
    }

    /// Copies the content files that the entries behind the joint name.
    fn copy_content(&mut self) -> Result<(), StoreError> {
        let (log, from, to) = (self.dir.join("log"), self.source.join("content"), self.dir.join("content"));
        let content = Content { log: &log, from: &from, to: &to, freed: &self.said.freed, hashed: false };
        let (copied, found) = content.copy(self.joint, &self.at, &mut self.copier)?;
        self.report.content_files = copied;
        self.said.findings.join(found);
        Ok(())
    }

    /// Has the last segment end behind the last whole group.
    fn cut_behind_end(&self) -> Result<(), StoreError> {
        let path = segment_path(&self.dir.join("log"), self.at.segment);
        if !path.exists() {
            return Ok(());
        }
        let cut = File::options().write(true).open(path).and_then(|file| {
            if file.metadata()?.len() > self.at.offset {
                file.set_len(self.at.offset)?;
            }
            file.sync_all()
        });
        cut.map_err(|e| StoreError::io("ending the copy of the log", e))
    }

    /// Has the entries of segments in which no content is left take the place of these segments here too.
    fn take_emptied(&mut self) -> Result<(), StoreError> {
        let (source, copy) = (self.source.join("log"), self.dir.join("log"));
        let (segments, _) = find_segments(&source, &mut Vec::new())?;
        let emptied = segments.iter().filter(|(_, found)| found.is_emptied).map(|(number, _)| number);
        let left: Vec<u64> =
            emptied.copied().filter(|number| segment_path(&copy, *number).exists()).collect();
        for number in &left {
            let copied = self.copier.whole(&entries_path(&source, *number), &entries_path(&copy, *number))?;
            if let Copied::InPart(why) = copied {
                self.said.findings.tell(&format!("log/{number:08}.entries"), why);
            }
        }
        sync(&copy)?;
        for number in left {
            let removed = fs::remove_file(segment_path(&copy, number));
            removed.map_err(|e| StoreError::io("removing an emptied segment from the backup", e))?;
        }
        sync(&copy)
    }

    /// Takes freed content out of the folder.
    fn free(&mut self) -> Result<(), StoreError> {
        let log = self.dir.join("log");
        if self.before.as_ref().is_some_and(|before| before.is_freeing) {
            let mut said = Said::default();
            walk_on(&log, &mut At::BEGINNING.clone(), Some(&self.at.position()), false, &mut said)?;
            self.said.freed = said.freed;
        }
        let mut freeing = Freeing::new(self.dir, &self.said.freed);
        let mut at = At::BEGINNING;
        walk_on(&log, &mut at, Some(&self.at.position()), false, &mut freeing)?;
        freeing.settle()?;
        let Freeing { objects, octets, .. } = freeing;
        (self.report.freed_objects, self.report.freed_octets) = (objects, octets);
        sync_all_below(&self.dir.join("content"))
    }
}
