//! Bringing the index up to the log: at every start, when it failed while the store was open, and when it is made anew.
//!
//! Every group behind the index's position is taken in through [`Index::apply`], as new mail is. An entry that makes no sense is
//! named and stepped over; if entries were lost, numbers, UIDs and the epoch step past whatever they may have used.
//!
//! An index that cannot be used is made anew from the first segment, in a file beside it that takes its place when it is
//! whole: nobody ever reads half an index. What an interruption leaves of that file is gone on with.

use super::embedded::Shared;
use super::fact::{Entry as LogEntry, FACT_VERSION_MAX, Fact};
use super::files::{remove_file_durably, sync_dir};
use super::format::{FormatError, GroupHeader, decode_group};
use super::index::{Index, Making, Numbers, Place};
use super::log::{Finding, Log, Position, stands_behind};
use super::reindex::Progress;
use super::{OpenReport, StoreError};
use crate::observe::now;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Groups replayed in one index transaction.
const REPLAY_GROUPS: u64 = 512;
/// Entries that could not be taken in and are named; more are not.
const LOST_NAMED_MAX: usize = 1000;

/// Takes the groups behind the index's position in, in transactions of [`REPLAY_GROUPS`].
pub(super) struct Replayer<'a> {
    index: &'a Index,
    progress: &'a Progress,
    wal: PathBuf,
    numbers: Numbers,
    groups: u64,
    /// Behind the last group, until it is committed.
    position: Option<Position>,
    /// Behind the last group.
    last: Option<Position>,
    /// Entries that could not be taken in.
    lost: Vec<String>,
    making: Making,
    /// What is lost was noted for the admins already.
    is_noted: bool,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(
        index: &'a Index,
        path: &Path,
        progress: &'a Progress,
    ) -> Result<Replayer<'a>, StoreError> {
        Ok(Replayer {
            index,
            progress,
            wal: beside(path, "-wal"),
            numbers: index.numbers()?,
            groups: 0,
            position: None,
            last: index.position()?,
            lost: Vec::new(),
            making: index.making(),
            is_noted: false,
        })
    }

    pub(super) fn take(
        &mut self,
        position: &Position,
        offset: u64,
        header: &GroupHeader,
        octets: &[u8],
    ) -> Result<(), StoreError> {
        if self.groups.is_multiple_of(REPLAY_GROUPS) {
            self.flush()?;
            self.index.begin()?;
        }
        let group = decode_group(header, octets);
        let follows = self.last.is_none_or(|last| stands_behind(&last, header));
        if !follows || group.damage.iter().any(|(_, what)| *what != FormatError::Payload) {
            self.note_loss();
        }
        let mut messages = 0;
        for frame in group.frames {
            let place = Place {
                segment: position.segment,
                entry_offset: offset + frame.at.entry_offset,
                entry_octets: frame.at.entry_octets,
                payload_offset: offset + frame.at.payload_offset,
            };
            match self.take_entry(frame.entry, &place) {
                // One entry that makes no sense must not keep all other mail from being served.
                Err(StoreError::Damaged(why)) => {
                    self.note_loss();
                    if self.lost.len() < LOST_NAMED_MAX {
                        self.lost.push(format!(
                            "entry at {} of log segment {}: {why}",
                            place.entry_offset, place.segment
                        ));
                    }
                }
                other => messages += u64::from(other?),
            }
        }
        self.groups += 1;
        (self.position, self.last) = (Some(*position), Some(*position));
        self.progress.advance(octets.len() as u64, messages)
    }

    /// True for a receipt.
    fn take_entry(&mut self, entry: &[u8], place: &Place) -> Result<bool, StoreError> {
        let entry: LogEntry =
            serde_json::from_slice(entry).map_err(|e| StoreError::Damaged(e.to_string()))?;
        if entry.v > FACT_VERSION_MAX {
            return Err(StoreError::Newer(format!("log entry: version {}", entry.v)));
        }
        self.numbers.pass(&entry.fact);
        self.index.savepoint()?;
        match self.index.apply(&entry.fact, place) {
            Ok(()) => self.index.release().map(|()| matches!(entry.fact, Fact::Received(_))),
            Err(e) => {
                // Out of memory or disk, SQLite ends the whole transaction: that is what happened, and no damage.
                if !self.index.in_transaction() {
                    return Err(e);
                }
                self.index.rollback_to_savepoint()?;
                Err(match e {
                    // With an index that has more behind it than this log, the contradiction may be its own.
                    StoreError::Damaged(why) if self.making == Making::Done => StoreError::IndexDamaged(why),
                    other => other,
                })
            }
        }
    }

    /// Remembered with the next transaction: an interruption must not forget it.
    fn note_loss(&mut self) {
        if self.making == Making::Going {
            self.making = Making::GoingWithLoss;
        }
    }

    /// What was acknowledged, up to `position`, is there no more, and no finding of the log says so.
    fn note_missing_end(&mut self, position: &Position) {
        let is_there = match &self.last {
            Some(last) => last.is_same_group_as(position),
            None => position.sequence == 0,
        };
        if !is_there {
            self.note_loss();
            self.lost.push(format!(
                "the log ends with group {}, and its end was at group {}: entries are missing",
                self.last.map_or(0, |last| last.sequence),
                position.sequence
            ));
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if let Some(position) = self.position.take() {
            self.index.set_numbers(&self.numbers)?;
            self.index.set_position(&position)?;
            self.index.set_making(self.making)?;
            self.index.commit()?;
            if Index::checkpoint_is_due(&self.wal) {
                self.index.checkpoint_beside_writer()?;
            }
        }
        Ok(())
    }

    /// Ends a stretch of a replay that goes on behind `position`.
    pub(super) fn pause(
        mut self,
        position: &Position,
        lost_entries: bool,
    ) -> Result<Vec<String>, StoreError> {
        self.flush()?;
        self.index.rollback()?;
        if lost_entries {
            self.note_loss();
        } else {
            self.note_missing_end(position);
        }
        self.index.begin()?;
        self.position = Some(*position);
        self.flush()?;
        Ok(self.lost)
    }

    /// Ends the replay at `position`. Where entries were lost, UIDs and UIDLs they used must never be used again.
    pub(super) fn finish(
        mut self,
        position: &Position,
        lost_entries: bool,
    ) -> Result<(u64, Vec<String>), StoreError> {
        self.flush()?;
        self.index.rollback()?;
        self.index.begin()?;
        if !lost_entries {
            self.note_missing_end(position);
        }
        if lost_entries || self.making == Making::GoingWithLoss || !self.lost.is_empty() {
            self.numbers.epoch += 1;
            if !self.is_noted || !self.lost.is_empty() {
                // With the time: what is lost in a later making is another loss, closed by nobody yet.
                self.index.set_lossy(self.numbers.epoch, now())?;
            }
            self.numbers.skip();
            self.index.skip_uids()?;
        }
        self.index.set_numbers(&self.numbers)?;
        self.index.set_position(position)?;
        self.index.set_making(Making::Done)?;
        self.index.commit()?;
        Ok((self.groups, self.lost))
    }
}

/// `index.sqlite-wal` beside `index.sqlite`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes an index with what SQLite keeps beside it.
fn remove_index(path: &Path) -> io::Result<()> {
    ["", "-wal", "-shm"].iter().try_for_each(|suffix| remove_file_durably(&beside(path, suffix)))
}

/// The index that is being made: a new one, or what an interruption has left of one, if the log still has all of that.
pub(super) fn open_unfinished(shared: &Shared) -> Result<Index, StoreError> {
    let path = shared.new_index_path();
    if path.exists() {
        let left = Index::open(&path).and_then(|index| match index.position()? {
            Some(position) if !Log::holds(&shared.log_dir(), &position)? => {
                Err(StoreError::IndexDamaged("the log has another end by now".to_owned()))
            }
            // Whatever is met from here on is remembered again until it is paid for.
            _ if index.making() == Making::Done => {
                index.set_making(Making::Going)?;
                drop(index);
                Index::open(&path)
            }
            _ => Ok(index),
        });
        match left {
            Err(StoreError::IndexDamaged(_)) => {}
            other => return other,
        }
        remove_index(&path).map_err(|e| StoreError::io("removing an index that was not finished", e))?;
    }
    drop(Index::create(&path)?);
    Index::open(&path)
}

/// Removes what was made of another index: it is not to be gone on with.
pub(super) fn forget_unfinished(shared: &Shared) -> Result<(), StoreError> {
    remove_index(&shared.new_index_path())
        .map_err(|e| StoreError::io("removing an index that was not finished", e))
}

/// Has `work` done on the index that is being made; what is left of an earlier one may turn out to be damaged.
pub(super) fn with_unfinished<T>(
    shared: &Shared,
    work: impl Fn(&Index) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match open_unfinished(shared).and_then(|index| work(&index)) {
        Err(StoreError::IndexDamaged(why)) => {
            tracing::warn!(event = "store.replay_again", why);
            forget_unfinished(shared)?;
            open_unfinished(shared).and_then(|index| work(&index))
        }
        other => other,
    }
}

/// Has the index that was made take the place of the one before, durably, and opens it. That one is kept, to be looked at,
/// when it was damaged; only the last such is.
pub(super) fn put_in_place(shared: &Shared, keep: bool) -> Result<Index, StoreError> {
    let fail = |e| StoreError::io("putting the new index in its place", e);
    let _nobody_opens_it = shared.placing_index();
    let (path, new) = (shared.index_path(), shared.new_index_path());
    let old = path.with_extension(format!("sqlite.damaged-{}", now().unix_ms()));
    let swapped = swap(&path, &new, &old);
    // Also when it failed half-way: whoever has the one before open would go on reading that.
    shared.forget_readers();
    swapped.and_then(|()| sync_dir(shared.data_dir())).map_err(fail)?;
    forget_older(shared.data_dir(), keep.then_some(&old));
    Index::open(&path)
}

/// Puts the index at `path` aside as `old`, and the one at `new` in its place.
fn swap(path: &Path, new: &Path, old: &Path) -> io::Result<()> {
    // Folded in and closed, it is one file.
    for suffix in ["-wal", "-shm"] {
        remove_file_durably(&beside(new, suffix))?;
    }
    if path.exists() {
        fs::rename(path, old)?;
    }
    for suffix in ["-wal", "-shm"] {
        // What is left of them would be read as the new index's.
        remove_file_durably(&beside(path, suffix))?;
    }
    fs::rename(new, path)
}

/// Removes indexes that were put aside, but for `kept`. One that stays costs room and nothing else.
fn forget_older(data_dir: &Path, kept: Option<&PathBuf>) {
    for entry in fs::read_dir(data_dir).into_iter().flatten().flatten() {
        let is_aside = entry.file_name().to_string_lossy().starts_with("index.sqlite.damaged-");
        if is_aside && Some(&entry.path()) != kept {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Takes in what an index lacks up to `end`, while the log may be open. Gives what was lost, and whether entries were.
pub(super) fn replay_up_to<'a>(
    shared: &'a Shared,
    index: &'a Index,
    path: &Path,
    end: Position,
) -> Result<(Replayer<'a>, Vec<Finding>), StoreError> {
    let mut replayer = Replayer::new(index, path, shared.progress())?;
    let mut findings = Vec::new();
    let from = index.position()?;
    Log::replay_onto(&shared.log_dir(), from, end, &mut findings, &mut |p, o, h, b| {
        replayer.take(p, o, h, b)
    })?;
    Ok((replayer, findings))
}

/// Opens the index anew while the log is open, and takes in what it lacks, up to `end`.
///
/// # Errors
/// [`StoreError::IndexDamaged`] when it must be made anew.
pub(super) fn open_index_and_replay(shared: &Shared, end: Position) -> Result<Index, StoreError> {
    let path = shared.index_path();
    let index = Index::open(&path)?;
    let (replayer, findings) = replay_up_to(shared, &index, &path, end)?;
    let (_, lost) = replayer.finish(&end, findings.iter().any(Finding::loses_entries))?;
    tell_damage(lost, &findings);
    Ok(index)
}

/// Notes for the admins that the index in use was made without entries of the log, until one of them closes that.
pub(super) fn note_lossy(shared: &Shared, index: &Index) -> Result<(), StoreError> {
    if let Some((epoch, at)) = index.lossy()? {
        let what = format!(
            "entries of the log could not be read when the index took them in (epoch {epoch}, {at}): what they said is not known"
        );
        shared.witness().note_lost(what, None);
    }
    Ok(())
}

/// Tells of damage in the log, and gives it in words.
pub(super) fn tell_damage(lost: Vec<String>, findings: &[Finding]) -> Vec<String> {
    let damage: Vec<String> = lost.into_iter().chain(findings.iter().map(ToString::to_string)).collect();
    for what in &damage {
        tracing::error!(event = "store.damaged", what);
    }
    damage
}

/// Log and index, opened and brought to the same position.
pub(super) fn open_log_and_index(
    shared: &Shared,
    signed: Option<&Position>,
    report: &mut OpenReport,
) -> Result<(Log, Index), StoreError> {
    let path = shared.index_path();
    if !path.exists() {
        return make_log_and_index(shared, signed, report, false);
    }
    let opened = Index::open(&path)
        // Without them there is no serving anything, so they are looked at before anything else.
        .and_then(|index| index.gateway_mailboxes().and_then(|_| index.lossy()).map(|_| index))
        .and_then(|index| open_log_onto(shared, &index, &path, signed, report).map(|log| (log, index)));
    let Err(StoreError::IndexDamaged(why)) = opened else {
        if opened.is_ok() {
            forget_finished(shared);
        }
        return opened;
    };
    // What the first attempt cut off the second does not meet again.
    let torn = std::mem::take(&mut report.torn);
    *report = OpenReport { index_rebuilt: Some(why), torn, ..OpenReport::default() };
    match make_log_and_index(shared, signed, report, true) {
        Err(StoreError::Full) => {
            // Mail must be fetched to make room: rather that than an index that nobody can use.
            remove_index(&path).map_err(|e| StoreError::io("removing the damaged index", e))?;
            make_log_and_index(shared, signed, report, false)
        }
        other => other,
    }
}

/// Removes an index that was made and not put in place before the process ended: the one there is will do. One that is half
/// made stays, to be gone on with.
fn forget_finished(shared: &Shared) {
    let path = shared.new_index_path();
    let is_finished = path.exists() && Index::open(&path).is_ok_and(|index| index.making() == Making::Done);
    if is_finished {
        // One that stays costs room and nothing else.
        remove_index(&path).ok();
    }
}

/// Opens the log with an index made anew from all of it.
fn make_log_and_index(
    shared: &Shared,
    signed: Option<&Position>,
    report: &mut OpenReport,
    keep: bool,
) -> Result<(Log, Index), StoreError> {
    let path = shared.new_index_path();
    let (log, made) = with_unfinished(shared, |index| {
        let mut report = OpenReport::default();
        let log = open_log_onto(shared, index, &path, signed, &mut report)?;
        index.checkpoint()?;
        Ok((log, report))
    })?;
    *report = OpenReport {
        index_rebuilt: report.index_rebuilt.take(),
        torn: std::mem::take(&mut report.torn),
        ..made
    };
    Ok((log, put_in_place(shared, keep)?))
}

fn open_log_onto(
    shared: &Shared,
    index: &Index,
    path: &Path,
    signed: Option<&Position>,
    report: &mut OpenReport,
) -> Result<Log, StoreError> {
    let from = index.position()?;
    shared.progress().begin(Log::octets_behind(&shared.log_dir(), from)?);
    let mut replayer = Replayer::new(index, path, shared.progress())?;
    let may_cut = index.making() == Making::Done;
    let (log, findings) =
        Log::open(&shared.log_dir(), from, may_cut, signed, &mut |p, o, h, b| replayer.take(p, o, h, b))?;
    let lost_entries = findings.iter().any(Finding::loses_entries);
    // Told also when this attempt fails yet: another may not meet it again.
    for finding in findings.iter().filter(|finding| matches!(finding, Finding::Torn { .. })) {
        let torn = finding.to_string();
        if !report.torn.contains(&torn) {
            report.torn.push(torn);
        }
    }
    // Before it is finished: nothing is free to go by an index that lacks them, whatever happens in between.
    for finding in findings.iter().filter(|finding| matches!(finding, Finding::Missing { .. })) {
        shared.witness().note_lost(finding.to_string(), Some(log.gap()));
    }
    // Where other entries are lost as well, a loss that an admin has closed must not cover those.
    let is_missing = |finding: &Finding| matches!(finding, Finding::Missing { .. });
    replayer.is_noted = lost_entries && findings.iter().filter(|f| f.loses_entries()).all(is_missing);
    let (groups, lost) = replayer.finish(&log.position(), lost_entries)?;
    report.replayed_groups = groups;
    report.damage = lost;
    for finding in findings {
        match finding {
            Finding::Torn { .. } => {}
            Finding::Damage { .. } | Finding::Missing { .. } => report.damage.push(finding.to_string()),
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{FetchRules, Flags, Maildrop, Role, Timestamp, Uid, UserFolder, Verdict};
    use crate::store::{
        Digest, Embedded, FolderName, FolderRow, Keyring, Options, ReceiptQuery, RevisionKind, Store,
        Unlocked,
    };

    /// Entries as version 1 wrote them, before there were verdicts and trust, and when MAIL FROM could hold what no longer may.
    const VERSION_1: &str = include_str!("../../corpus/store/version-1.jsonl");

    /// The same with an NDR mailbox and a receipt that was looked at again, as version 3 writes them.
    const VERSION_3: &str = include_str!("../../corpus/store/version-3.jsonl");

    /// One report with flags of its entries, in a gateway mailbox that is fetched from in another way, as version 6 writes them.
    const VERSION_6: &str = include_str!("../../corpus/store/version-6.jsonl");

    fn open(dir: &Path) -> Result<(Embedded, OpenReport), StoreError> {
        Embedded::open(&Options { data_dir: dir.to_owned(), reserve_octets: 0 })
    }

    /// A store whose log holds these entries, and whose index does not know of them yet.
    fn store_of(entries: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let take = &mut |_: &Position, _, _: &GroupHeader, _: &[u8]| Ok(());
        let (mut log, _) = Log::open(&dir.path().join("log"), None, true, None, take).unwrap();
        let mut group = log.start_group().unwrap();
        for entry in entries.lines() {
            group.push(entry.as_bytes(), &[], &Digest::of(&[])).unwrap();
        }
        log.append(group).unwrap();
        dir
    }

    #[test]
    fn entries_older_than_verdicts_and_stricter_addresses_are_read() {
        let dir = store_of(VERSION_1);
        let (store, report) = open(dir.path()).unwrap();
        assert_eq!((report.damage, report.replayed_groups), (vec![], 1));
        let mailbox = store.gateway_mailboxes().remove(0);
        assert_eq!(mailbox.trust, crate::mail::Trust::default());
        assert_eq!(store.list(mailbox.id, &FolderName::Inbox).unwrap().entries.len(), 1);
        let all = store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 9).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].transport.reverse_path.to_string(), "\"ndr\\\u{1}@x\"@contoso.example");
        assert_eq!(all[0].judgement.as_ref().map(|judgement| judgement.verdict), None::<Verdict>);
    }

    #[test]
    fn a_replay_that_was_cut_off_is_gone_on_with_where_it_was() {
        let dir = store_of(VERSION_3);
        let (store, _) = open(dir.path()).unwrap();
        let (shared, end) = (&store.shared, store.shared.log_end());
        let path = shared.new_index_path();
        let half = {
            let index = open_unfinished(shared).unwrap();
            let mut replayer = Replayer::new(&index, &path, shared.progress()).unwrap();
            let mut half = None;
            let cut_off =
                Log::replay_onto(&shared.log_dir(), None, end, &mut Vec::new(), &mut |p, o, h, b| {
                    replayer.take(p, o, h, b)?;
                    half = Some(*p);
                    Err(StoreError::Gone)
                });
            assert!(matches!(cut_off, Err(StoreError::Gone)));
            replayer.pause(&half.unwrap(), false).unwrap();
            half
        };
        let index = open_unfinished(shared).unwrap();
        assert_eq!((index.position().unwrap(), index.making()), (half, Making::Going));
        drop(index);
        crate::store::reindex::finish_beside(shared, end).unwrap();
        let index = Index::open(&path).unwrap();
        assert_eq!((index.position().unwrap(), index.making()), (Some(end), Making::Done));
        assert_eq!(index.numbers().unwrap().epoch, 1, "nothing was lost");
        drop(index);
        // Gone on with, it is unfinished again: what is lost behind it must not be forgotten.
        let index = open_unfinished(shared).unwrap();
        assert_eq!((index.position().unwrap(), index.making()), (Some(end), Making::Going));
        drop(index);
        // An end that this log never had.
        let elsewhere = Position { offset: end.offset + 1, ..end };
        let index = open_unfinished(shared).unwrap();
        index.set_position(&elsewhere).unwrap();
        drop(index);
        assert_eq!(open_unfinished(shared).unwrap().position().unwrap(), None);
        // One that was finished and never put in place is of no use to a store whose index is sound.
        crate::store::reindex::make_beside(shared, end).unwrap();
        drop(store);
        assert!(path.exists());
        let (_store, report) = open(dir.path()).unwrap();
        assert_eq!((report.index_rebuilt, path.exists()), (None, false));
    }

    #[test]
    fn numbers_step_past_what_was_lost() {
        let dir = store_of(VERSION_3);
        let (store, _) = open(dir.path()).unwrap();
        let (shared, end) = (&store.shared, store.shared.log_end());
        let numbers = |loses: bool| {
            let index = open_unfinished(shared).unwrap();
            let (replayer, _) = replay_up_to(shared, &index, &shared.new_index_path(), end).unwrap();
            replayer.finish(&end, loses).unwrap();
            index.numbers().unwrap()
        };
        let (whole, lossy) = (numbers(false), numbers(true));
        // A sector that reads again brings entries back: whatever came meanwhile must not have their numbers.
        for (before, after) in
            [(whole.object, lossy.object), (whole.message, lossy.message), (whole.folder, lossy.folder)]
        {
            assert!(after >= before + (1 << 20), "{whole:?} {lossy:?}");
        }
        assert_eq!(lossy.epoch, whole.epoch + 1);
    }

    #[test]
    fn a_full_disk_while_it_is_made_is_no_damage_and_loses_nothing_that_was_done() {
        let long = format!("\"name\":\"{}\"", "Contoso".repeat(10_000));
        let dir = store_of(&VERSION_3.replace("\"name\":\"Contoso\"", &long));
        let (store, _) = open(dir.path()).unwrap();
        let (shared, end) = (&store.shared, store.shared.log_end());
        let index = open_unfinished(shared).unwrap();
        index.fill_disk();
        let replayed = replay_up_to(shared, &index, &shared.new_index_path(), end);
        assert!(matches!(replayed, Err(StoreError::Full)), "{:?}", replayed.err());
        assert!(!index.in_transaction(), "this is about a transaction that SQLite ended by itself");
    }

    #[test]
    fn a_committer_whose_index_is_not_there_any_more_gets_another() {
        let dir = store_of(VERSION_3);
        let (store, _) = open(dir.path()).unwrap();
        let shared = &store.shared;
        // As a swap leaves it that failed half-way.
        remove_index(&shared.index_path()).unwrap();
        shared.set_index_behind(true);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while shared.index_is_behind() || !shared.index_path().exists() {
            assert!(std::time::Instant::now() < deadline, "not in time");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        assert!(!shared.index_is_spoilt() && !shared.index_is_awaited());
    }

    #[test]
    fn roles_and_revisions_are_read_as_they_were_written() {
        let dir = store_of(VERSION_3);
        let (store, report) = open(dir.path()).unwrap();
        assert_eq!((report.damage, report.replayed_groups), (vec![], 1));
        let mailboxes = store.gateway_mailboxes();
        assert_eq!(mailboxes[1].role, Role::Ndr { serves: mailboxes[0].id });
        let incoming = |user: &str| FolderName::User { user: user.to_owned(), folder: UserFolder::Incoming };
        let live = |user| store.list(mailboxes[0].id, &incoming(user)).unwrap().entries.len();
        assert_eq!(["bob", "carol", "erin"].map(live), [1, 0, 1]);
        let named = ReceiptQuery::Naming("erin@contoso.example".to_owned());
        let view = store.receipts(&named, Timestamp::from_unix_ms(0), 9).unwrap().remove(0);
        assert_eq!((view.defects.len(), view.unmatched.len(), view.messages.len()), (1, 1, 2));
        let [revision] = &view.revisions[..] else { panic!("{:?}", view.revisions) };
        assert_eq!((revision.kind, revision.actor.as_str()), (RevisionKind::Reprocessed, "cli"));
        assert_eq!(revision.at.to_string(), "2026-11-21T12:45:06.108Z");
        assert_eq!(view.placements.iter().filter_map(|placement| placement.revision).count(), 1);
        drop(store);
        // A program that knows of neither refuses the index, as it would the log.
        let index = rusqlite::Connection::open(dir.path().join("index.sqlite")).unwrap();
        assert_eq!(index.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)), Ok(6));
    }

    #[test]
    fn flags_and_ways_to_fetch_are_read_as_they_were_written() {
        let dir = store_of(VERSION_6);
        let (store, report) = open(dir.path()).unwrap();
        assert_eq!((report.damage, report.replayed_groups), (vec![], 1));
        let mailbox = store.gateway_mailboxes().remove(0);
        assert_eq!(mailbox.fetch, FetchRules { maildrop: Maildrop::Originals, user_delete: true });
        let bob = FolderName::User { user: "bob".to_owned(), folder: UserFolder::Incoming };
        let (seen, none) = (Flags::SEEN | Flags::DELETED, Flags::NONE);
        let second = Uid::new(2).unwrap();
        for (folder, uid, flags) in [(FolderName::Inbox, second, seen), (bob, Uid::FIRST, none)] {
            let (marks, rows) = store.rows(mailbox.id, &folder, Uid::FIRST).unwrap();
            assert_eq!((marks.flag_changes, rows), (2, vec![FolderRow { uid, flags }]));
        }
        // With what it holds, INBOX got another UIDVALIDITY, and what waited there came again.
        assert_eq!(mailbox.view_from, Some(second));
        let inbox = store.list(mailbox.id, &FolderName::Inbox).unwrap();
        assert_eq!(inbox.uid_validity.map(|validity| validity.0.get()), Some(1_795_261_800));
        assert_eq!(store.backlog(mailbox.id).unwrap().former_view, 0);
        let all = store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 9).unwrap();
        let [revision] = &all[0].revisions[..] else { panic!("{:?}", all[0].revisions) };
        assert_eq!(revision.kind, RevisionKind::Viewed);
        for said in ["\"view_from\":2", "\"again\":true", "\"kind\":\"viewed\"", "\"fact\":\"flagged\""] {
            let lines: Vec<&str> = VERSION_6.lines().filter(|line| line.contains(said)).collect();
            assert!(!lines.is_empty(), "no sample has {said}");
            let refused = lines.iter().all(|line| line.starts_with("{\"v\":6"));
            assert!(refused, "{said}: what a program of version 5 must refuse says so");
        }
    }

    #[test]
    fn a_summary_whose_entry_is_lost_is_damaged_and_the_message_not_gone() {
        let lost = |line: &&str| !line.contains("\"fact\":\"object\",\"object\":2,");
        let dir = store_of(&VERSION_6.lines().filter(lost).collect::<Vec<_>>().join("\n"));
        let (store, _) = open(dir.path()).unwrap();
        let gateway_mailbox = store.gateway_mailboxes().remove(0);
        let keyring = Keyring::of(vec![age::x25519::Identity::generate()]);
        let id = gateway_mailbox.id;
        let key = Unlocked { gateway_mailbox, keyring, password_file: None };
        let entry = store.entries(id, &FolderName::Inbox, &[Uid::new(2).unwrap()]).unwrap().remove(0);
        let found = store.summary(&key, entry.message);
        assert!(matches!(&found, Err(StoreError::Damaged(why)) if why.contains("is lost")), "{found:?}");
    }

    #[test]
    fn an_entry_of_a_newer_version_is_refused_not_stepped_over() {
        let first = VERSION_1.lines().next().unwrap();
        for (version, is_read) in [(2, true), (3, true), (4, true), (5, true), (6, true), (7, false)] {
            let dir = store_of(&first.replace("{\"v\":1,", &format!("{{\"v\":{version},")));
            match open(dir.path()) {
                Ok((store, _)) => assert_eq!((store.gateway_mailboxes().len(), is_read), (1, true)),
                Err(error) => assert!(matches!(error, StoreError::Newer(_)) && !is_read, "{error}"),
            }
        }
    }
}
