//! `restore`: a backup, or a plain copy, made a store of in an empty `data_dir`.

use super::beside::{self, DIRECTORY_DIR, PULL_DIR};
use super::content::Content;
use super::copying::{Copied, Copier, entries_path, sync};
use super::hashing::Hashing;
use super::manifest::{MANIFEST_FILE, Manifest, RESTORING_FILE, Restoring};
use super::places::{BACKUP_LOCK_FILE, LOCK_FILE, check_apart, check_empty, hold_backup, names_in};
use super::reading::{At, Findings, Said, walk_on};
use super::report::{BackupProgress, RestoreOptions, RestoreProgress, RestoreReport, RestoreStage};
use super::{UIDS_SKIPPED, small};
use crate::mail::{GatewayMailboxId, Timestamp};
use crate::observe::now;
use crate::store::check::{Bits, Tail, Visit};
use crate::store::checkpoint::{
    Checkpoint, Checkpoints, carry_over, checkpoints, checkpoints_at, note_missing_end, sign_anew,
};
use crate::store::content::make_shards;
use crate::store::data_lock::lock;
use crate::store::embedded::INDEX_FILE;
use crate::store::fact::{Entry, Fact, RestoredFact};
use crate::store::files::{create_dir_durably, random_octets, remove_file_durably, sync_dir};
use crate::store::index::{Index, Place};
use crate::store::keep::stand_still;
use crate::store::log::{Finding, Log, Position, find_segments, mark_clean_at, segment_path};
use crate::store::reindex::Progress;
use crate::store::replay::Replayer;
use crate::store::state_file::{self, StateError};
use crate::store::{Digest, StoreError};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Random octets in the epoch of a restored store: of some 2^31 that there are above the seconds, a restore uses up 2^23.
const EPOCH_RANDOM_OCTETS: usize = 3;

/// Restores. Everything is hashed before anything is written; what is damaged is told, and nothing restored, unless that is asked
/// for.
///
/// # Errors
/// [`StoreError::Refused`] when `data_dir` is not empty or `dir` is no backup, the asker's fault; [`StoreError::Full`] and
/// [`StoreError::Io`], the operator's to mend: then what was written is no store, and the next call begins anew;
/// [`StoreError::Newer`].
pub fn restore(
    options: &RestoreOptions,
    progress: &mut dyn FnMut(&RestoreProgress),
) -> Result<RestoreReport, StoreError> {
    let (began_at, clock) = (now(), Instant::now());
    let RestoreOptions { dir, data_dir, .. } = options;
    check_apart(data_dir, dir)?;
    check_empty(data_dir)?;
    if !dir.join("log").is_dir() {
        return Err(StoreError::Refused(format!("{} is no backup: there is no log in it", dir.display())));
    }
    if dir.join(RESTORING_FILE).exists() {
        return Err(StoreError::Refused(format!("{} is itself half restored", dir.display())));
    }
    let _nobody_writes = hold_backup(dir)?;
    if dir.join(BACKUP_LOCK_FILE).exists() && !dir.join(MANIFEST_FILE).exists() {
        let why =
            "the first backup into it was broken off: have daybook backup go on with it, or take another";
        return Err(StoreError::Refused(format!("{}: {why}", dir.display())));
    }
    let (mut report, found) = look(options, progress)?;
    if report.damaged == 0 || options.despite_damage {
        write(options, &found, &mut report, began_at, progress)?;
        report.restored = true;
    }
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}

/// What a backup was found to hold.
struct InBackup {
    /// Behind the last group that counts.
    end: At,
    freed: Bits,
    /// What should stand behind that, and does not.
    missing_end: Option<String>,
    /// Wrapped keyrings.
    keys: small::Files,
}

/// Reads and hashes everything.
fn look(
    options: &RestoreOptions,
    progress: &mut dyn FnMut(&RestoreProgress),
) -> Result<(RestoreReport, InBackup), StoreError> {
    let dir = &options.dir;
    let log = dir.join("log");
    let mut said = Said::default();
    let manifest = match Manifest::read(dir) {
        // Where it ends the log tells too.
        Err(StoreError::Damaged(why)) => {
            said.findings.tell(dir.display().to_string().as_str(), why);
            None
        }
        read => read?,
    };
    let kept = checkpoints(dir)?;
    let (outside, outside_unread) = outside_of(options);
    said.signed = kept.trusted.iter().chain(&outside.trusted).map(|c| (c.sequence, c.chain)).collect();
    let (mut at, to) = (At::BEGINNING, manifest.as_ref().map(|manifest| manifest.end));
    let tail = walk_on(&log, &mut at, to.as_ref(), false, &mut said)?;
    let told_before = said.findings.count;
    let torn_octets = judge_end(&at, to.as_ref(), tail, kept.newest(), &mut said.findings);
    let is_end_told = said.findings.count > told_before;
    let keys = key_files(dir, &mut said)?;
    state_files(dir, &mut said.findings)?;
    let end = at.position();
    let began_at =
        manifest.as_ref().map(|manifest| manifest.began_at).or(kept.newest().map(|newest| newest.at));
    let all_signed = kept.trusted.iter().chain(&outside.trusted);
    let missing_end = missing_end(&end, to.as_ref(), began_at, all_signed);
    if let Some(what) = missing_end.as_ref().filter(|_| !is_end_told) {
        said.findings.tell("log", what.clone());
    }
    let (segments, _) = find_segments(&log, &mut Vec::new())?;
    let counted = segments.range(..=end.segment);
    let log_octets: u64 = counted.clone().map(|(_, found)| found.octets).sum();
    hash(dir, &end, log_octets, &mut said, progress)?;
    let newest = outside.newest().into_iter().chain(kept.newest()).max_by_key(|c| c.sequence);
    let beyond = newest.filter(|newest| newest.sequence > end.sequence);
    let report = RestoreReport {
        plain: manifest.is_none(),
        backup_at: manifest.map(|manifest| manifest.began_at).or(kept.newest().map(|newest| newest.at)),
        received_until: said.newest,
        sequence: end.sequence,
        receipts: said.receipts,
        log_octets,
        segments: counted.count() as u64,
        torn_octets,
        missing_groups: beyond.map_or(0, |newest| newest.sequence - end.sequence),
        missing_until: beyond.map(|newest| newest.at),
        outside_unread,
        damaged: said.findings.count,
        findings: said.findings.kept,
        ..RestoreReport::default()
    };
    Ok((report, InBackup { end: at, freed: said.freed, missing_end, keys }))
}

/// Hashes all content to this end.
fn hash(
    dir: &Path,
    end: &Position,
    octets_total: u64,
    said: &mut Said,
    progress: &mut dyn FnMut(&RestoreProgress),
) -> Result<(), StoreError> {
    let mut hashing = Hashing {
        content: dir.join("content"),
        freed: &said.freed,
        findings: Findings::default(),
        so_far: RestoreProgress { octets_total, ..RestoreProgress::default() },
        progress,
    };
    // A last group with a bad payload is handed out apart: but it counts.
    if let Some(tail) = walk_on(&dir.join("log"), &mut At::BEGINNING.clone(), Some(end), true, &mut hashing)?
    {
        tail.damage.into_iter().for_each(|damage| hashing.damage(damage));
        tail.seen.iter().for_each(|seen| hashing.entry(seen));
    }
    let found = hashing.findings;
    said.findings.join(found);
    Ok(())
}

/// Checkpoints that are kept outside, or why they cannot be read.
fn outside_of(options: &RestoreOptions) -> (Checkpoints, Option<String>) {
    let Some(outside) = &options.checkpoint_dir else { return (Checkpoints::default(), None) };
    match checkpoints_at(&options.dir, outside, &[], None) {
        Ok(found) => (found, None),
        Err(error) => (Checkpoints::default(), Some(error.to_string())),
    }
}

/// What the log lacks at its end: groups that the backup says it has, or that were signed before it was begun. A plain copy was
/// begun after its newest checkpoint.
fn missing_end<'a>(
    end: &Position,
    to: Option<&Position>,
    began_at: Option<Timestamp>,
    signed: impl Iterator<Item = &'a Checkpoint>,
) -> Option<String> {
    if let Some(to) = to.filter(|to| !end.is_same_group_as(to)) {
        return Some(format!("of the backup, groups {} to {} are missing", end.sequence + 1, to.sequence));
    }
    let began_at = began_at?;
    let signed = signed.filter(|signed| signed.sequence > end.sequence && signed.at <= began_at);
    signed.max_by_key(|signed| signed.sequence).map(|signed| {
        format!(
            "the backup ends with group {}, and at {}, before it was begun, the log reached to group {}: mail that was acknowledged then \
             is missing",
            end.sequence, signed.at, signed.sequence
        )
    })
}

/// What is known of the store besides must be what was written: it would count as nothing known.
fn state_files(dir: &Path, findings: &mut Findings) -> Result<(), StoreError> {
    for name in small::SMALL_FILES {
        match state_file::read::<serde_json::Value>(&dir.join(name)) {
            Ok(_) | Err(StateError::Absent) => {}
            Err(StateError::Newer(version)) => {
                return Err(StoreError::Newer(format!("{name}: version {version}")));
            }
            Err(error) => findings.tell(name, error.to_string()),
        }
    }
    Ok(())
}

/// Whether the log ends where it should; gives how much stands behind that.
fn judge_end(
    at: &At,
    to: Option<&Position>,
    tail: Option<Tail>,
    newest: Option<&Checkpoint>,
    findings: &mut Findings,
) -> u64 {
    let torn_octets = tail.as_ref().map_or(0, |tail| tail.octets);
    let end = at.position();
    match (to, newest) {
        // What the backup says was whole.
        (Some(to), _) if !end.is_same_group_as(to) || tail.is_some() => {
            tail.into_iter().flat_map(|tail| tail.damage).for_each(|damage| findings.add(damage));
            let what = format!(
                "the log can be read to group {}, and the backup ends with {}",
                end.sequence, to.sequence
            );
            findings.tell("log", what);
        }
        (None, Some(newest)) if newest.sequence > end.sequence => {
            tail.into_iter().flat_map(|tail| tail.damage).for_each(|damage| findings.add(damage));
            let what = format!(
                "the log ends with group {}, and a checkpoint in this copy reaches to group {}: was the log copied before them?",
                end.sequence, newest.sequence
            );
            findings.tell("log", what);
        }
        _ => {}
    }
    torn_octets
}

/// Keyrings are those that entries put on record. One that is just being replaced may lie beside, under the name it had till then.
fn key_files(dir: &Path, said: &mut Said) -> Result<small::Files, StoreError> {
    let place = |(owner, name): &(GatewayMailboxId, String)| format!("{}/{owner}/{name}", small::KEYS_DIR);
    let recorded = said.key_files.iter().map(|(file, sha256)| (place(file), *sha256)).collect();
    let there = small::settled(small::keys(dir)?, &recorded);
    for (place, sha256) in &recorded {
        let hash = |place: &str| there.get(place).map(|octets| Digest::of(octets));
        let what = match (hash(place), hash(&format!("{place}.next"))) {
            (Some(found), _) | (_, Some(found)) if found == *sha256 => continue,
            (_, Some(found)) if found == *sha256 => continue,
            (None, _) => "is not there",
            _ => "its hash is not that on record",
        };
        said.findings.tell(place, format!("the wrapped keyring {what}"));
    }
    Ok(there)
}

/// Writes the store.
fn write(
    options: &RestoreOptions,
    found: &InBackup,
    report: &mut RestoreReport,
    began_at: Timestamp,
    progress: &mut dyn FnMut(&RestoreProgress),
) -> Result<(), StoreError> {
    let RestoreOptions { dir, data_dir, .. } = options;
    let fail = |e| StoreError::io("making the data directory", e);
    create_dir_durably(data_dir).map_err(fail)?;
    let _nobody_opens_it = lock(data_dir)?;
    // Hashing took its time: a store may have been made there meanwhile.
    check_empty(data_dir)?;
    let mark = Restoring { from: dir.display().to_string(), began_at };
    state_file::write(&data_dir.join(RESTORING_FILE), &mark).map_err(fail)?;
    clear(data_dir)?;
    for name in ["log", "content", "keys", "tmp"] {
        create_dir_durably(&data_dir.join(name)).map_err(fail)?;
    }
    let mut tell = |at: &BackupProgress| {
        let BackupProgress { octets, octets_total } = *at;
        progress(&RestoreProgress { stage: RestoreStage::Copying, octets, octets_total });
    };
    let mut copier = Copier::new(&mut tell);
    let mut unread = Findings::default();
    copy_log(dir, data_dir, &found.end, &mut copier, &mut unread)?;
    report.content_files = copy_content(dir, data_dir, found, &mut copier, &mut unread)?;
    for folder in [PULL_DIR, DIRECTORY_DIR] {
        beside::copy(dir, data_dir, folder, &mut copier, &mut unread)?;
    }
    report.damaged += unread.count;
    report.findings.extend(unread.kept);
    small::put(&small::others(dir)?.into_iter().chain(found.keys.clone()).collect(), data_dir)?;
    carry_over(dir, data_dir, found.end.position().sequence)?;
    mark_clean_at(&data_dir.join("log"), &found.end.position())?;
    if let Some(what) = &found.missing_end {
        note_missing_end(data_dir, what.clone(), began_at).map_err(fail)?;
    }
    let known = report.received_until.or(report.backup_at).unwrap_or(began_at);
    stand_still(data_dir, known, began_at).map_err(fail)?;
    let end = go_on(options, &found.end.position(), report, began_at, progress)?;
    report.checkpoint_key = Some(sign_anew(data_dir, &end, now())?);
    sync_dir(data_dir).map_err(fail)?;
    remove_file_durably(&data_dir.join(RESTORING_FILE)).map_err(fail)?;
    tracing::info!(
        event = "store.restored",
        sequence = report.sequence,
        epoch = report.epoch,
        receipts = report.receipts,
        damaged = report.damaged,
        missing = report.missing_groups,
        actor = options.actor,
    );
    Ok(())
}

/// Removes what a restore that was broken off has written.
fn clear(data_dir: &Path) -> Result<(), StoreError> {
    for name in names_in(data_dir)? {
        let path = data_dir.join(&name);
        let removed = match name.as_str() {
            LOCK_FILE | RESTORING_FILE => continue,
            _ if path.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.map_err(|e| StoreError::io("removing what a restore before this one has left", e))?;
    }
    Ok(())
}

fn copy_log(
    dir: &Path,
    data_dir: &Path,
    end: &At,
    copier: &mut Copier<'_>,
    unread: &mut Findings,
) -> Result<(), StoreError> {
    let (segments, _) = find_segments(&dir.join("log"), &mut Vec::new())?;
    let log = data_dir.join("log");
    // The last was read to its end, whatever the header of one behind it says, which does not count.
    let counts = |number: u64, octets: u64| if number == end.segment { end.offset } else { octets };
    let counted = || {
        segments.range(..=end.segment).map(|(number, found)| (number, found, counts(*number, found.octets)))
    };
    copier.expect(counted().map(|(_, _, octets)| octets).sum());
    for (number, found, octets) in counted() {
        let segment = segment_path(&dir.join("log"), *number);
        let why = if !found.is_emptied {
            copier.range(&segment, &segment_path(&log, *number), 0, octets)?
        } else if octets < found.length {
            let file = found.open().map_err(|e| StoreError::io("opening a log segment", e))?;
            copier.logical(&file, &segment_path(&log, *number), 0, octets)?
        } else {
            match copier.whole(&entries_path(&dir.join("log"), *number), &entries_path(&log, *number))? {
                Copied::InPart(why) => Some(why),
                Copied::Whole | Copied::WasThere => None,
            }
        };
        if let Some(why) = why {
            unread.tell(&format!("log/{number:08}"), why);
        }
    }
    sync(&log)
}

/// Copies content files that entries name; gives how many.
fn copy_content(
    dir: &Path,
    data_dir: &Path,
    found: &InBackup,
    copier: &mut Copier<'_>,
    unread: &mut Findings,
) -> Result<u64, StoreError> {
    let (log, from, to) = (dir.join("log"), dir.join("content"), data_dir.join("content"));
    make_shards(&to).map_err(|e| StoreError::io("making the content directories", e))?;
    let content = Content { log: &log, from: &from, to: &to, freed: &found.freed, hashed: true };
    let (copied, findings) = content.copy(At::BEGINNING, &found.end, copier)?;
    unread.join(findings);
    Ok(copied)
}

/// Makes the index, and has the log say that it goes on from a backup. Gives where the log ends then.
fn go_on(
    options: &RestoreOptions,
    wanted: &Position,
    report: &mut RestoreReport,
    at: Timestamp,
    progress: &mut dyn FnMut(&RestoreProgress),
) -> Result<Position, StoreError> {
    let (log_dir, path) = (options.data_dir.join("log"), options.data_dir.join(INDEX_FILE));
    drop(Index::create(&path)?);
    let index = Index::open(&path)?;
    let counted = Progress::default();
    let mut replayer = Replayer::new(&index, &path, &counted)?;
    let (mut log, findings) = Log::open(&log_dir, None, false, None, &mut |p, o, h, b| {
        replayer.take(p, o, h, b)?;
        let stage = RestoreStage::Indexing;
        let (octets, octets_total) = (counted.now().octets, report.log_octets);
        progress(&RestoreProgress { stage, octets, octets_total });
        Ok(())
    })?;
    replayer.finish(&log.position(), findings.iter().any(Finding::loses_entries))?;
    let (end, numbers) = (log.position(), index.numbers()?);
    if !end.is_same_group_as(wanted) && !options.despite_damage {
        let (end, wanted) = (end.sequence, wanted.sequence);
        return Err(StoreError::Damaged(format!(
            "the copy ends with group {end}, and the backup with {wanted}"
        )));
    }
    let seconds = u32::try_from(at.unix_seconds()).unwrap_or(0);
    let apart = epochs_apart()?;
    let fact = RestoredFact {
        at,
        actor: options.actor.clone(),
        backup_at: report.backup_at.or(report.received_until).unwrap_or(at),
        sequence: end.sequence,
        chain: end.chain,
        uids_skipped: UIDS_SKIPPED,
        epoch: numbers.epoch.saturating_add(1).max(seconds).saturating_add(apart),
    };
    (report.epoch, report.uids_skipped) = (fact.epoch, fact.uids_skipped);
    let position = append(&mut log, &index, Fact::Restored(Box::new(fact)))?;
    log.mark_clean()?;
    index.checkpoint()?;
    Ok(position)
}

/// Random: two restores of one backup, also in one second, get different epochs.
fn epochs_apart() -> Result<u32, StoreError> {
    let random = random_octets(EPOCH_RANDOM_OCTETS).map_err(|e| StoreError::io("drawing an epoch", e))?;
    Ok(random.into_iter().fold(0, |number, octet| number << 8 | u32::from(octet)))
}

/// Appends the entry, in a group of its own whose number steps ahead.
fn append(log: &mut Log, index: &Index, fact: Fact) -> Result<Position, StoreError> {
    let entry = Entry { v: fact.version(), fact };
    let octets = serde_json::to_vec(&entry).map_err(|e| StoreError::io("writing an entry", e.into()))?;
    index.begin()?;
    log.step_ahead();
    let mut group = log.start_group()?;
    let (segment, offset) = log.next_group_at();
    let at = group
        .push(&octets, &[], &Digest::of(&[]))
        .map_err(|e| StoreError::Refused(format!("writing an entry: {e}")))?;
    let place = Place {
        segment,
        entry_offset: offset + at.entry_offset,
        entry_octets: at.entry_octets,
        payload_offset: offset + at.payload_offset,
    };
    index.apply(&entry.fact, &place)?;
    let mut numbers = index.numbers()?;
    numbers.pass(&entry.fact);
    let position = log.append(group)?;
    index.set_numbers(&numbers)?;
    index.set_position(&position)?;
    index.commit()?;
    Ok(position)
}
