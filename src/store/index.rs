//! The index: a SQLite file that answers questions about the log, and can always be made anew from it.
//!
//! It is written in the same order as the log and records the position it has reached in the same transaction. Its
//! own syncs are off the path of an acknowledgement: `synchronous=NORMAL` syncs only at checkpoints, and what a power cut
//! takes back is replayed from the log when the store is opened. What a row says comes from a [`Fact`] alone, through
//! [`Index::apply`], for new mail and for replay alike.

mod apply;
mod backlog;
mod examine;
mod examine_keeping;
mod flags;
mod folders;
mod freeing;
mod keeping;
mod looked_again;
mod questions;
mod schema;
mod sums;
mod turned_away;

pub(super) use apply::{MessageColumns, ObjectColumns, names, receipt_check, revision_check, row_flags};
pub(super) use examine::Examined;
pub(super) use flags::flags_row;
pub(super) use freeing::{Needed, PlacedEntry, Unplaced};
pub(super) use turned_away::{TurnedAwayRow, turned_away_names};

use super::fact::{Fact, MessageFact, StoredExtent};
use super::log::Position;
use super::{Digest, StoreError};
use crate::mail::{CanonicalSize, GatewayMailboxId, ReceiptId, Timestamp, Uid, UidValidity};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
pub(super) use schema::INDEX_VERSION;
use schema::SCHEMA;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use sums::{Kind, RowSum, damaged};

/// How long a reader waits for the writer, in milliseconds.
const BUSY_TIMEOUT_MS: u64 = 10_000;
/// How long emptying the WAL waits for the writer, in milliseconds.
const CHECKPOINT_TIMEOUT_MS: u64 = 200;
/// The WAL is folded into the database when it has grown to about this many octets.
const WAL_OCTETS_MAX: u64 = 64 * 1024 * 1024;

const FLAG_BARE_LINE_ENDS: i64 = 1;
const FLAG_ENDS_WITH_LINE_END: i64 = 2;
/// The entry that would have made it is lost.
const FLAG_LOST: i64 = 4;

/// Numbers of each kind left out after entries were lost: more than a segment can hold.
const NUMBERS_SKIPPED: u64 = 1 << 24;

/// UIDs left out in every folder after entries were lost.
const UIDS_SKIPPED: u32 = 1 << 20;

/// The next free number of each kind, and the epoch. Never goes back, also when rows that used a number are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub(super) object: u64,
    pub(super) message: u64,
    pub(super) folder: u64,
    /// Part of every UIDL; raised when UIDs may have been lost, so that none is used twice.
    pub(super) epoch: u32,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { object: 1, message: 1, folder: 1, epoch: 1 }
    }
}

impl Numbers {
    /// Steps past every number a fact mentions, also those of rows that may be missing.
    pub(super) fn pass(&mut self, fact: &Fact) {
        match fact {
            Fact::GatewayMailbox(_) | Fact::KeyFile(_) | Fact::TurnedAway(_) | Fact::ClockTrusted(_) => {}
            Fact::Expired(fact) => self.pass_folders([fact.folder].into_iter()),
            Fact::Undeleted(fact) => {
                self.epoch = self.epoch.max(fact.epoch);
                self.pass_folders([fact.folder].into_iter());
                self.message = fact.entries.iter().fold(self.message, |m, e| m.max(e.message + 1));
            }
            Fact::Freed(fact) => {
                self.pass_folders([fact.folder].into_iter());
                self.object = fact.objects.iter().fold(self.object, |o, (_, last)| o.max(last + 1));
            }
            // What the original has given out since, in shared folders of exports and in trails, is nothing of this store.
            Fact::Restored(fact) => {
                self.epoch = self.epoch.max(fact.epoch);
                self.skip();
            }
            Fact::Folder(fact) => self.folder = self.folder.max(fact.folder + 1),
            Fact::Flagged(fact) => self.folder = self.folder.max(fact.folder + 1),
            Fact::Object(fact) => self.object = self.object.max(fact.object + 1),
            Fact::Fetched(fact) | Fact::Deleted(fact) => self.folder = self.folder.max(fact.folder + 1),
            Fact::Received(fact) => {
                self.epoch = self.epoch.max(fact.epoch);
                self.pass_messages(&fact.messages);
                self.pass_folders(fact.placements.iter().map(|p| p.folder));
                self.pass_folders(fact.spared.iter().map(|s| s.folder));
            }
            Fact::Revised(fact) => {
                self.epoch = self.epoch.max(fact.epoch);
                fact.reading.iter().for_each(|reading| self.pass_messages(&reading.messages));
                self.pass_folders(fact.placements.iter().map(|p| p.placement.folder));
                self.message =
                    fact.placements.iter().fold(self.message, |m, p| m.max(p.placement.message + 1));
                self.pass_folders(fact.spared.iter().map(|s| s.folder));
                self.pass_folders(fact.left.iter().map(|l| l.folder));
            }
        }
    }

    /// Leaves a gap: entries that cannot be read now may be read again some day, and must not meet others of their numbers then.
    pub(super) fn skip(&mut self) {
        self.object += NUMBERS_SKIPPED;
        self.message += NUMBERS_SKIPPED;
        self.folder += NUMBERS_SKIPPED;
    }

    /// Steps past what was handed out by another index: what that knew may stand in no log any more.
    pub(super) fn at_least(self, other: &Numbers) -> Numbers {
        Numbers {
            object: self.object.max(other.object),
            message: self.message.max(other.message),
            folder: self.folder.max(other.folder),
            epoch: self.epoch.max(other.epoch),
        }
    }

    fn pass_messages(&mut self, messages: &[MessageFact]) {
        for message in messages {
            self.message = self.message.max(message.message + 1);
            let objects = message.extents.iter().map(|e| e.object).chain([message.summary.0]);
            self.object = objects.fold(self.object, |next, object| next.max(object + 1));
        }
    }

    fn pass_folders(&mut self, folders: impl Iterator<Item = u64>) {
        self.folder = folders.fold(self.folder, |next, folder| next.max(folder + 1));
    }
}

/// Where an entry and its payload stand in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) entry_offset: u64,
    pub(super) entry_octets: u32,
    pub(super) payload_offset: u64,
}

/// The receipt an entry belongs to, and when it came.
struct Came {
    receipt_id: ReceiptId,
    gateway_mailbox: GatewayMailboxId,
    at: Timestamp,
    epoch: u32,
}

/// A folder as the index knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FolderRow {
    pub(super) id: u64,
    pub(super) uid_validity: UidValidity,
    pub(super) uid_next: Uid,
}

/// A placement with what a listing shows of its message.
pub(super) struct PlacementRow {
    pub(super) uid: Uid,
    pub(super) message: u64,
    pub(super) receipt_id: ReceiptId,
    pub(super) at: Timestamp,
    pub(super) epoch: u32,
    pub(super) octets: u64,
    pub(super) canonical: CanonicalSize,
}

/// Where a stored object lies.
pub(super) struct ObjectRow {
    /// Plain octets.
    pub(super) octets: u64,
    pub(super) sealed_octets: u64,
    pub(super) sealed_sha256: Digest,
    pub(super) place: ObjectPlace,
}

pub(super) enum ObjectPlace {
    Log { segment: u64, offset: u64 },
    File(String),
}

/// A message's place.
pub(super) struct MessageRow {
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) extents: Vec<StoredExtent>,
    /// The object that holds its summary.
    pub(super) summary: u64,
    /// Which of the summaries in it is this message's.
    pub(super) summary_at: u32,
    pub(super) octets: u64,
    /// Of the plain octets, for messages received as a whole.
    pub(super) sha256: Option<Digest>,
}

/// A folder event that touches one placement.
pub(super) struct EventRow {
    pub(super) at: Timestamp,
    pub(super) kind: String,
    /// JSON; none when no client did it.
    pub(super) client: Option<String>,
    /// Who did it, when no client did.
    pub(super) actor: Option<String>,
    /// By which rule.
    pub(super) why: Option<String>,
}

/// How far an index is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Making {
    /// It has everything up to its position.
    Done,
    /// It is being made anew: its position says nothing about what was acknowledged.
    Going,
    /// The same, and damage of the log was stepped over.
    GoingWithLoss,
}

/// One connection to the index.
pub(super) struct Index {
    connection: Connection,
    making: Making,
}

/// SQLite's integers are signed; ours fit (counts and offsets below 2^63).
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn bytes32(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(column).map(Digest)
}

/// Has SQLite plan without a look at parameters: else it prepares what it keeps anew whenever one that a partial index hangs on is
/// bound again, an eighth of the committer's time.
fn keep_plans(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)?)
}

fn json_error(e: serde_json::Error) -> StoreError {
    StoreError::IndexDamaged(format!("a row: {e}"))
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode;
        match e.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            // What we ask never changes: that it is no valid question any more, the tables say.
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::Unknown,
            ) => damaged(e.to_string()),
            // Two facts that cannot both be true: the log's fault, not the index's.
            Some(ErrorCode::ConstraintViolation) => {
                StoreError::Damaged(format!("contradicts what was before: {e}"))
            }
            // What the disk cannot give back any more is in the log.
            Some(ErrorCode::SystemIoFailure) if is_unreadable(&e) => damaged(e.to_string()),
            Some(_) => StoreError::io("using the index", std::io::Error::other(e)),
            // A value of another type than was written.
            None => damaged(e.to_string()),
        }
    }
}

fn is_unreadable(e: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
    let code = e.sqlite_extended_error_code();
    code.is_some_and(|code| {
        [SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_CORRUPTFS].contains(&code)
    })
}

fn meta_check(key: &str, value: &str) -> RowSum {
    RowSum::of(Kind::Meta).bytes(key.as_bytes()).bytes(value.as_bytes())
}

impl Index {
    /// Opens the index for the one writer.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] when it is not usable, or of an older version: it is made anew then.
    /// [`StoreError::Newer`] when a newer program made it.
    pub(super) fn open(path: &Path) -> Result<Index, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut index = Index::over(Connection::open_with_flags(path, flags)?)?;
        index.check_version()?;
        index.making = index.meta("making")?;
        // SQLite goes by a byte of the file in this.
        if index.connection.is_readonly(rusqlite::MAIN_DB)? {
            return Err(damaged("it cannot be written to"));
        }
        Ok(index)
    }

    /// Makes an index for a log of which nothing was taken in. There must be no file of that name.
    pub(super) fn create(path: &Path) -> Result<Index, StoreError> {
        // SQLite would make it readable for all; its WAL takes over the mode.
        super::files::create_file(path).map_err(|e| StoreError::io("making the index", e))?;
        let index = Index::over(Connection::open(path)?)?;
        index.connection.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {INDEX_VERSION};"))?;
        index.set_meta("version", &INDEX_VERSION)?;
        index.set_meta("position", &None::<Position>)?;
        index.set_numbers(&Numbers::default())?;
        index.set_meta("making", &Making::Going)?;
        index.set_meta("lossy", &None::<(u32, Timestamp)>)?;
        index.commit()?;
        Ok(index)
    }

    fn over(connection: Connection) -> Result<Index, StoreError> {
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
        // No journals in /tmp: a full one would end transactions, and what they hold is nobody's business.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // Folding the WAL in syncs the disk: not while a peer waits for its 250. See `checkpoint`.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        connection.set_prepared_statement_cache_capacity(64);
        keep_plans(&connection)?;
        Ok(Index { connection, making: Making::Going })
    }

    /// A version is refused as newer only when the index says it twice: a flipped bit must not keep the store closed.
    fn check_version(&self) -> Result<(), StoreError> {
        let version: i64 = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > INDEX_VERSION && self.meta::<i64>("version").ok() != Some(INDEX_VERSION) {
            return Err(StoreError::Newer(format!("index: version {version}")));
        }
        if version != INDEX_VERSION {
            return Err(damaged(format!("version {version} is not read")));
        }
        Ok(())
    }

    /// True while entries are taken in from the beginning of the log: what they lack then, the log lacks.
    fn is_made_anew(&self) -> bool {
        self.making != Making::Done
    }

    /// Opens the index for reading beside the writer.
    pub(super) fn open_reader(path: &Path) -> Result<Index, StoreError> {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.set_prepared_statement_cache_capacity(32);
        keep_plans(&connection)?;
        let index = Index { connection, making: Making::Done };
        // It also opens the WAL, while nobody puts another index in this place.
        index.check_version()?;
        Ok(index)
    }

    /// Asks on a connection that somebody else opened for reading.
    pub(super) fn reading(connection: Connection) -> Index {
        Index { connection, making: Making::Done }
    }

    /// For questions that nobody but a check of the index itself has.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How far the index is made, as it says now.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] also when it does not say its version.
    pub(super) fn said_making(&self) -> Result<Making, StoreError> {
        let version: i64 = self.meta("version")?;
        if version != INDEX_VERSION {
            return Err(damaged(format!("version {version} is not read")));
        }
        self.meta("making")
    }

    /// Opens a connection that folds the WAL into the database, off the committer's path.
    pub(super) fn open_checkpointer(path: &Path) -> Result<Index, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_millis(CHECKPOINT_TIMEOUT_MS))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Index { connection, making: Making::Done })
    }

    /// True when the file `wal` has grown to [`WAL_OCTETS_MAX`].
    pub(super) fn checkpoint_is_due(wal: &Path) -> bool {
        std::fs::metadata(wal).is_ok_and(|m| m.len() >= WAL_OCTETS_MAX)
    }

    /// Folds the WAL in while the writer goes on.
    pub(super) fn checkpoint_beside_writer(&self) -> Result<(), StoreError> {
        // The long part, beside the writer. Then, with little left to do, empty the file: that keeps the writer out, and
        // is given up when the writer is busy.
        let all = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
        })?;
        if all {
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Folds the whole WAL in and syncs: what was committed is durable when this returns.
    pub(super) fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// True inside a transaction. SQLite ends one by itself when it runs out of memory or disk.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    pub(super) fn begin(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Begins to read what stays as it is now, whatever is committed meanwhile, until [`Index::rollback`].
    pub(super) fn begin_reading(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("BEGIN")?)
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    pub(super) fn rollback(&self) -> Result<(), StoreError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        Ok(self.connection.execute_batch("ROLLBACK")?)
    }

    pub(super) fn savepoint(&self) -> Result<(), StoreError> {
        Ok(self.connection.prepare_cached("SAVEPOINT one")?.execute([]).map(drop)?)
    }

    pub(super) fn release(&self) -> Result<(), StoreError> {
        Ok(self.connection.prepare_cached("RELEASE one")?.execute([]).map(drop)?)
    }

    pub(super) fn rollback_to_savepoint(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("ROLLBACK TO one; RELEASE one")?)
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<T, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
        let row: Option<String> = select.query_row([key], |row| row.get(0)).optional()?;
        let missing = || damaged(format!("it does not say its {key}"));
        let row = row.ok_or_else(missing)?;
        let (check, value) = row.split_once(' ').ok_or_else(missing)?;
        meta_check(key, value).verify(check.parse().unwrap_or_default(), key)?;
        serde_json::from_str(value).map_err(json_error)
    }

    fn set_meta<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let value = serde_json::to_string(value).map_err(json_error)?;
        let row = format!("{} {value}", meta_check(key, &value).end());
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")?
            .execute(params![key, row])?;
        Ok(())
    }

    /// How far the log was taken in; nothing when it was not begun.
    pub(super) fn position(&self) -> Result<Option<Position>, StoreError> {
        self.meta("position")
    }

    pub(super) fn set_position(&self, position: &Position) -> Result<(), StoreError> {
        self.set_meta("position", position)
    }

    /// The numbers that are free.
    pub(super) fn numbers(&self) -> Result<Numbers, StoreError> {
        self.meta("numbers")
    }

    pub(super) fn set_numbers(&self, numbers: &Numbers) -> Result<(), StoreError> {
        self.set_meta("numbers", numbers)
    }

    /// The epoch that began when entries were last lost that this index was to take in; nothing when it has all. As long as
    /// there is one, what those entries said of content that is needed is not known to it.
    pub(super) fn lossy(&self) -> Result<Option<(u32, Timestamp)>, StoreError> {
        self.meta("lossy")
    }

    pub(super) fn set_lossy(&self, epoch: u32, at: Timestamp) -> Result<(), StoreError> {
        self.set_meta("lossy", &Some((epoch, at)))
    }

    pub(super) fn making(&self) -> Making {
        self.making
    }

    pub(super) fn set_making(&self, making: Making) -> Result<(), StoreError> {
        self.set_meta("making", &making)
    }

    /// Has the disk full from now on.
    #[cfg(test)]
    pub(super) fn fill_disk(&self) {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    }

    /// Leaves a gap before the next UID of every folder: entries were lost, and with them UIDs that clients may know.
    pub(super) fn skip_uids(&self) -> Result<(), StoreError> {
        self.skip_uids_of_all(UIDS_SKIPPED)
    }
}
fn receipt_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<ReceiptId> {
    row.get::<_, [u8; 16]>(column).map(ReceiptId::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_full_disk_what_is_there_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        drop(Index::create(&path).unwrap());
        let full = Index::open(&path).unwrap();
        full.fill_disk();
        let written = full.connection.execute("INSERT INTO name VALUES (zeroblob(100000), x'')", []);
        assert!(matches!(written.map_err(StoreError::from), Err(StoreError::Full)));
        for index in [&full, &Index::open_reader(&path).unwrap()] {
            let found = index.revision_entries(ReceiptId::new(1, [1; 10]), GatewayMailboxId::new(1, [1; 10]));
            assert!(found.unwrap().is_empty());
            assert_eq!(index.position().unwrap(), None);
        }
    }

    #[test]
    fn an_older_version_is_made_anew_and_a_newer_one_refused_unless_it_is_a_flipped_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = Index::create(&path).unwrap();
        let reopened = |version: i64| {
            index.connection.pragma_update(None, "user_version", version).unwrap();
            Index::open(&path).map(drop)
        };
        for (version, newer) in [(5, false), (0, false), (7, false), (8, false)] {
            let outcome = reopened(version);
            assert!(matches!(outcome, Err(StoreError::IndexDamaged(_))) != newer, "{version}: {outcome:?}");
        }
        assert!(reopened(INDEX_VERSION).is_ok());
        index.set_meta("version", &(INDEX_VERSION + 1)).unwrap();
        let newer = reopened(INDEX_VERSION + 1);
        assert!(matches!(newer, Err(StoreError::Newer(_))), "{newer:?}");
    }

    #[test]
    fn what_the_index_says_of_itself_is_believed_only_with_its_check() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        for spoil in
            ["UPDATE meta SET value = replace(value, '1', '2') WHERE key = 'numbers'", "DELETE FROM meta"]
        {
            assert_ne!(index.connection.execute(spoil, []).unwrap(), 0);
            assert!(matches!(index.numbers(), Err(StoreError::IndexDamaged(_))), "{spoil}");
        }
    }
}
