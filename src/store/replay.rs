//! Bringing the index up to the log: at every start, and when it failed while the store was open.
//!
//! Every group behind the index's position is taken in through [`Index::apply`], as new mail is. An entry that makes no sense is
//! named and stepped over; if entries were lost, numbers, UIDs and the epoch step past whatever they may have used. An index that
//! cannot be used is put aside and made anew from the first segment.

use super::embedded::Shared;
use super::fact::{Entry as LogEntry, FACT_VERSION_MAX};
use super::files::remove_file_durably;
use super::format::{GroupHeader, decode_group};
use super::index::{Index, Numbers, Place};
use super::log::{Finding, Log, Position};
use super::{OpenReport, StoreError};
use crate::observe::now;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Groups replayed in one index transaction.
const REPLAY_GROUPS: u64 = 512;

/// Takes the groups behind the index's position in, in transactions of [`REPLAY_GROUPS`].
struct Replayer<'a> {
    index: &'a Index,
    wal: PathBuf,
    numbers: Numbers,
    groups: u64,
    position: Option<Position>,
    /// Entries that could not be taken in.
    lost: Vec<String>,
    /// The index began empty, now or before an interruption.
    rebuilding: bool,
    resumed: bool,
}

impl<'a> Replayer<'a> {
    fn new(shared: &Shared, index: &'a Index) -> Result<Replayer<'a>, StoreError> {
        let resumed = index.is_rebuilding()?;
        Ok(Replayer {
            index,
            wal: shared.wal_path(),
            numbers: index.numbers()?,
            groups: 0,
            position: None,
            lost: Vec::new(),
            rebuilding: resumed || index.position()?.is_none(),
            resumed,
        })
    }

    fn take(
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
        for frame in decode_group(header, octets).frames {
            let place = Place {
                segment: position.segment,
                entry_offset: offset + frame.at.entry_offset,
                entry_octets: frame.at.entry_octets,
                payload_offset: offset + frame.at.payload_offset,
            };
            match self.take_entry(frame.entry, &place) {
                // One entry that makes no sense must not keep all other mail from being served.
                Err(StoreError::Damaged(why)) => {
                    self.lost.push(format!(
                        "entry at {} of log segment {}: {why}",
                        place.entry_offset, place.segment
                    ));
                }
                other => other?,
            }
        }
        self.groups += 1;
        self.position = Some(*position);
        Ok(())
    }

    fn take_entry(&mut self, entry: &[u8], place: &Place) -> Result<(), StoreError> {
        let entry: LogEntry =
            serde_json::from_slice(entry).map_err(|e| StoreError::Damaged(e.to_string()))?;
        if entry.v > FACT_VERSION_MAX {
            return Err(StoreError::Newer(format!("log entry: version {}", entry.v)));
        }
        self.numbers.pass(&entry.fact);
        self.index.savepoint()?;
        match self.index.apply(&entry.fact, place) {
            Ok(()) => self.index.release(),
            Err(e) => {
                self.index.rollback_to_savepoint()?;
                Err(e)
            }
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if let Some(position) = self.position.take() {
            self.index.set_numbers(&self.numbers)?;
            self.index.set_position(&position)?;
            self.index.set_rebuilding(self.rebuilding)?;
            self.index.commit()?;
            if Index::checkpoint_is_due(&self.wal) {
                self.index.checkpoint_beside_writer()?;
            }
        }
        Ok(())
    }

    /// Ends the replay at `position`. Where entries were lost, UIDs and UIDLs they used must never be used again.
    fn finish(mut self, position: &Position, lost_entries: bool) -> Result<(u64, Vec<String>), StoreError> {
        self.flush()?;
        self.index.rollback()?;
        self.index.begin()?;
        // A rebuild that was interrupted may have stepped over damage before; that is not remembered.
        if lost_entries || self.resumed || !self.lost.is_empty() {
            self.numbers.epoch += 1;
            self.index.skip_uids()?;
        }
        self.index.set_numbers(&self.numbers)?;
        self.index.set_position(position)?;
        self.index.set_rebuilding(false)?;
        self.index.commit()?;
        Ok((self.groups, self.lost))
    }
}

/// Puts an index that cannot be used aside, to be looked at later.
pub(super) fn put_index_aside(shared: &Shared) -> Result<(), StoreError> {
    let fail = |e| StoreError::io("putting the index aside", e);
    shared.forget_readers();
    let path = shared.index_path();
    match fs::rename(&path, path.with_extension(format!("sqlite.damaged-{}", now().unix_ms()))) {
        // An attempt before this one came so far.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => other.map_err(fail)?,
    }
    for suffix in ["sqlite-wal", "sqlite-shm"] {
        // What is left of them would be read as the new index's.
        remove_file_durably(&path.with_extension(suffix)).map_err(fail)?;
    }
    Ok(())
}

/// Opens the index anew while the log is open, and takes in what it lacks, up to `end`.
pub(super) fn open_index_and_replay(shared: &Shared, end: Position) -> Result<Index, StoreError> {
    let attempt = || {
        let index = Index::open(&shared.index_path())?;
        let mut replayer = Replayer::new(shared, &index)?;
        let mut findings = Vec::new();
        let from = index.position()?;
        Log::replay_onto(&shared.log_dir(), from, end, &mut findings, &mut |p, o, h, b| {
            replayer.take(p, o, h, b)
        })?;
        let lost_entries = findings.iter().any(Finding::loses_entries);
        let (_, lost) = replayer.finish(&end, lost_entries)?;
        for what in lost.into_iter().chain(findings.iter().map(ToString::to_string)) {
            tracing::error!(event = "store.damaged", what);
        }
        Ok(index)
    };
    if !shared.take_index_spoilt() {
        match attempt() {
            Err(StoreError::IndexDamaged(why)) => tracing::error!(event = "store.index_damaged", why),
            other => return other,
        }
    }
    put_index_aside(shared).inspect_err(|_| shared.set_index_spoilt())?;
    attempt()
}

/// Log and index, opened and brought to the same position.
pub(super) fn open_log_and_index(
    shared: &Shared,
    signed: Option<&Position>,
    report: &mut OpenReport,
) -> Result<(Log, Index), StoreError> {
    let index = Index::open(&shared.index_path())?;
    let mut replayer = Replayer::new(shared, &index)?;
    let may_cut = !replayer.rebuilding;
    let (log, findings) =
        Log::open(&shared.log_dir(), index.position()?, may_cut, signed, &mut |p, o, h, b| {
            replayer.take(p, o, h, b)
        })?;
    let lost_entries = findings.iter().any(Finding::loses_entries);
    let (groups, lost) = replayer.finish(&log.position(), lost_entries)?;
    report.replayed_groups = groups;
    report.damage = lost;
    for finding in findings {
        match finding {
            Finding::Torn { .. } => report.torn.push(finding.to_string()),
            Finding::Damage { .. } => report.damage.push(finding.to_string()),
            Finding::Missing { .. } => {
                report.damage.push(finding.to_string());
                shared.witness().note_lost(finding.to_string());
            }
        }
    }
    Ok((log, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Role, Timestamp, UserFolder, Verdict};
    use crate::store::{Digest, Embedded, FolderName, Options, ReceiptQuery, RevisionKind, Store};

    /// Entries as version 1 wrote them, before there were verdicts and trust, and when MAIL FROM could hold what no longer may.
    const VERSION_1: &str = include_str!("../../corpus/store/version-1.jsonl");

    /// The same with an NDR mailbox and a receipt that was looked at again, as version 3 writes them.
    const VERSION_3: &str = include_str!("../../corpus/store/version-3.jsonl");

    fn open(dir: &std::path::Path) -> Result<(Embedded, OpenReport), StoreError> {
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
        assert_eq!(index.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)), Ok(3));
    }

    #[test]
    fn an_entry_of_a_newer_version_is_refused_not_stepped_over() {
        let first = VERSION_1.lines().next().unwrap();
        for (version, is_read) in [(2, true), (3, true), (4, true), (5, false)] {
            let dir = store_of(&first.replace("{\"v\":1,", &format!("{{\"v\":{version},")));
            match open(dir.path()) {
                Ok((store, _)) => assert_eq!((store.gateway_mailboxes().len(), is_read), (1, true)),
                Err(error) => assert!(matches!(error, StoreError::Newer(_)) && !is_read, "{error}"),
            }
        }
    }
}
