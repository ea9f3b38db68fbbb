//! The index: a SQLite file that answers questions about the log, and can always be made anew from it.
//!
//! It is written in the same order as the log and records the position it has reached in the same transaction. Its
//! own syncs are off the path of an acknowledgement: `synchronous=NORMAL` syncs only at checkpoints, and what a power cut
//! takes back is replayed from the log when the store is opened. What a row says comes from a [`Fact`] alone, through
//! [`Index::apply`], for new mail and for replay alike.

mod looked_again;
mod questions;

use super::fact::{
    FACT_VERSION_MAX, Fact, FolderEventFact, FolderFact, GatewayMailboxFact, KeyFileFact, MessageFact,
    ObjectFact, PlacementFact, ReceivedFact, ReportRecord, StoredExtent,
};
use super::log::Position;
use super::{Digest, StoreError};
use crate::mail::{CanonicalSize, GatewayMailboxId, ReceiptId, Timestamp, Uid, UidValidity};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Format version of a new index; an older one is made anew.
const INDEX_VERSION: i64 = 1;
/// The same tables, with what only entries of a later version say: an index is of the newest version among them, so that an
/// older program that opens it refuses, as it would the log.
const INDEX_VERSION_MAX: i64 = FACT_VERSION_MAX as i64;
/// How long a reader waits for the writer, in milliseconds.
const BUSY_TIMEOUT_MS: u64 = 10_000;
/// How long emptying the WAL waits for the writer, in milliseconds.
const CHECKPOINT_TIMEOUT_MS: u64 = 200;
/// The WAL is folded into the database when it has grown to about this many octets.
const WAL_OCTETS_MAX: u64 = 64 * 1024 * 1024;

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE gateway_mailbox (id BLOB PRIMARY KEY, state TEXT NOT NULL, digest_key BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE folder (
    id INTEGER PRIMARY KEY, gateway_mailbox BLOB NOT NULL, name TEXT NOT NULL, slug TEXT,
    uid_validity INTEGER NOT NULL, uid_next INTEGER NOT NULL, UNIQUE (gateway_mailbox, name));
CREATE TABLE object (
    id INTEGER PRIMARY KEY, octets INTEGER NOT NULL, sealed_octets INTEGER NOT NULL, sealed_sha256 BLOB NOT NULL,
    segment INTEGER, place INTEGER, file TEXT);
CREATE TABLE receipt (
    id BLOB NOT NULL, gateway_mailbox BLOB NOT NULL, at INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL,
    octets INTEGER NOT NULL, identity BLOB, PRIMARY KEY (id, gateway_mailbox)) WITHOUT ROWID;
CREATE INDEX receipt_identity ON receipt (gateway_mailbox, identity) WHERE identity IS NOT NULL;
CREATE TABLE message (
    id INTEGER PRIMARY KEY, gateway_mailbox BLOB NOT NULL, extents TEXT NOT NULL, octets INTEGER NOT NULL,
    canonical_octets INTEGER NOT NULL, lines INTEGER NOT NULL, flags INTEGER NOT NULL, exact BLOB NOT NULL,
    join_digest BLOB NOT NULL, sha256 BLOB, summary INTEGER NOT NULL, summary_at INTEGER NOT NULL);
CREATE INDEX message_exact ON message (gateway_mailbox, exact);
CREATE TABLE placement (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, message INTEGER NOT NULL, receipt BLOB NOT NULL, at INTEGER NOT NULL,
    epoch INTEGER NOT NULL, join_digest BLOB, deleted_at INTEGER, PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE INDEX placement_join ON placement (folder, join_digest) WHERE join_digest IS NOT NULL;
CREATE INDEX placement_receipt ON placement (receipt);
CREATE TABLE folder_event (
    folder INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL,
    client TEXT NOT NULL);
CREATE INDEX folder_event_uids ON folder_event (folder, first);
CREATE TABLE name (value TEXT NOT NULL, receipt BLOB NOT NULL, PRIMARY KEY (value, receipt)) WITHOUT ROWID;
";

/// Tables that came after the first release of this version: made where they are missing. They are for what few receipts
/// have, beside the tables that an older program fills.
///
/// - `revision`: where the entries stand that look at a receipt again, in their order.
/// - `placed_later`: entries such a look made, and those of reports that an NDR brought back: their place in a folder says
///   nothing about when the mail came, or whether the way it should come by works.
/// - `key_file`: the files of wrapped keyrings, as they were last written.
/// - `departure`: entries such a look took out. Their placement has no join any more, and spares no other.
const TABLES_ADDED: &str = "
CREATE TABLE IF NOT EXISTS revision (
    receipt BLOB NOT NULL, gateway_mailbox BLOB NOT NULL, number INTEGER NOT NULL, segment INTEGER NOT NULL,
    place INTEGER NOT NULL, octets INTEGER NOT NULL, identity BLOB, PRIMARY KEY (receipt, gateway_mailbox, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS revision_identity ON revision (gateway_mailbox, identity) WHERE identity IS NOT NULL;
CREATE TABLE IF NOT EXISTS placed_later (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_file (
    gateway_mailbox BLOB NOT NULL, name TEXT NOT NULL, octets INTEGER NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (gateway_mailbox, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS departure (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL,
    PRIMARY KEY (folder, uid)) WITHOUT ROWID;
";

/// The tables among them.
const ADDED_NAMES: [&str; 4] = ["revision", "placed_later", "key_file", "departure"];

/// What came after the first release of this version and is only for speed: made at each opening where it is missing, which
/// costs an older file one pass over a table instead of being made anew.
const ADDED: &str = "CREATE INDEX IF NOT EXISTS folder_event_at ON folder_event (folder, at);";

const FLAG_BARE_LINE_ENDS: i64 = 1;
const FLAG_ENDS_WITH_LINE_END: i64 = 2;

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
            Fact::GatewayMailbox(_) | Fact::KeyFile(_) | Fact::TurnedAway(_) => {}
            Fact::Folder(fact) => self.folder = self.folder.max(fact.folder + 1),
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
}

/// One connection to the index.
pub(super) struct Index {
    connection: Connection,
    has_stand_ins: bool,
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

fn json_error(e: serde_json::Error) -> StoreError {
    StoreError::IndexDamaged(format!("a row: {e}"))
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> StoreError {
        match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                StoreError::IndexDamaged(e.to_string())
            }
            // Two facts that cannot both be true: the log's fault, not the index's.
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                StoreError::Damaged(format!("contradicts what was before: {e}"))
            }
            _ => StoreError::io("using the index", std::io::Error::other(e)),
        }
    }
}

impl Index {
    /// Opens the index for the one writer, making it when it is not there.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] when the file is not usable: the caller puts it aside and begins a new one.
    pub(super) fn open(path: &Path) -> Result<Index, StoreError> {
        // SQLite would make it readable for all; its WAL takes over the mode.
        match super::files::create_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("making the index", e));
            }
            _ => {}
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
        // No journals in /tmp: a full one would end transactions, and what they hold is nobody's business.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // Folding the WAL in syncs the disk: not while a peer waits for its 250. See `checkpoint`.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        connection.set_prepared_statement_cache_capacity(64);
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            connection
                .execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {INDEX_VERSION}; COMMIT;"))?;
        } else if version > INDEX_VERSION_MAX {
            return Err(StoreError::Newer(format!("index: version {version}")));
        } else if version < INDEX_VERSION {
            return Err(StoreError::IndexDamaged(format!("version {version} is no longer read")));
        }
        Index::completed(connection)
    }

    /// With what came after the first release, as far as there is room: what is on a full disk must still be readable.
    fn completed(connection: Connection) -> Result<Index, StoreError> {
        let mut index = Index { connection, has_stand_ins: false };
        match index.connection.execute_batch(TABLES_ADDED).map_err(StoreError::from) {
            Ok(()) => {}
            Err(StoreError::Full) => index.stand_in()?,
            Err(error) => return Err(error),
        }
        match index.connection.execute_batch(ADDED).map_err(StoreError::from) {
            // It only makes answers come sooner. The next opening tries again.
            Ok(()) | Err(StoreError::Full) => Ok(index),
            Err(error) => Err(error),
        }
    }

    /// Has empty tables in memory stand for those of [`TABLES_ADDED`] that cannot be made.
    fn stand_in(&mut self) -> Result<(), StoreError> {
        let stand_ins = TABLES_ADDED
            .replace("CREATE TABLE IF NOT EXISTS ", "CREATE TABLE IF NOT EXISTS temp.")
            .replace("CREATE INDEX IF NOT EXISTS ", "CREATE INDEX IF NOT EXISTS temp.");
        self.connection.execute_batch(&stand_ins)?;
        self.has_stand_ins = true;
        Ok(())
    }

    /// Makes the tables that others stand for, before the first row of theirs: part of its transaction, and undone with it.
    fn make_added_tables(&self) -> Result<(), StoreError> {
        let mut stand_ins =
            self.connection.prepare_cached("SELECT 1 FROM temp.sqlite_master WHERE name = 'revision'")?;
        if stand_ins.exists([])? {
            let drop: String = ADDED_NAMES.map(|name| format!("DROP TABLE temp.{name};")).concat();
            self.connection.execute_batch(&format!("{drop}{TABLES_ADDED}"))?;
        }
        Ok(())
    }

    /// True for a reader that was opened while there was no room for all tables: it does not see them when they are made.
    pub(super) fn has_stand_ins(&self) -> bool {
        self.has_stand_ins
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
        let mut index = Index { connection, has_stand_ins: false };
        for name in ADDED_NAMES {
            let there = index.connection.table_exists(Some("main"), name)?;
            if !there && !index.has_stand_ins {
                index.stand_in()?;
            }
        }
        Ok(index)
    }

    /// Opens a connection that folds the WAL into the database, off the committer's path.
    pub(super) fn open_checkpointer(path: &Path) -> Result<Index, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_millis(CHECKPOINT_TIMEOUT_MS))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Index { connection, has_stand_ins: false })
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

    pub(super) fn position(&self) -> Result<Option<Position>, StoreError> {
        let text: Option<String> = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = 'position'", [], |row| row.get(0))
            .optional()?;
        text.map(|text| serde_json::from_str(&text).map_err(json_error)).transpose()
    }

    pub(super) fn set_position(&self, position: &Position) -> Result<(), StoreError> {
        let text = serde_json::to_string(position).map_err(json_error)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('position', ?)")?
            .execute([text])?;
        Ok(())
    }

    /// The numbers that are free.
    pub(super) fn numbers(&self) -> Result<Numbers, StoreError> {
        let text: Option<String> = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = 'numbers'", [], |row| row.get(0))
            .optional()?;
        text.map_or(Ok(Numbers::default()), |text| serde_json::from_str(&text).map_err(json_error))
    }

    pub(super) fn set_numbers(&self, numbers: &Numbers) -> Result<(), StoreError> {
        let text = serde_json::to_string(numbers).map_err(json_error)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('numbers', ?)")?
            .execute([text])?;
        Ok(())
    }

    /// True while the index is being made anew: its position then says nothing about what was acknowledged.
    pub(super) fn is_rebuilding(&self) -> Result<bool, StoreError> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM meta WHERE key = 'rebuilding'")?.exists([])?)
    }

    pub(super) fn set_rebuilding(&self, rebuilding: bool) -> Result<(), StoreError> {
        let change = match rebuilding {
            true => "INSERT OR REPLACE INTO meta VALUES ('rebuilding', 1)",
            false => "DELETE FROM meta WHERE key = 'rebuilding'",
        };
        self.connection.prepare_cached(change)?.execute([])?;
        Ok(())
    }

    /// Leaves a gap before the next UID of every folder: entries were lost, and with them UIDs that clients may know.
    pub(super) fn skip_uids(&self) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE folder SET uid_next = min(uid_next + ?, 4294967295)", [UIDS_SKIPPED])?;
        Ok(())
    }

    /// Takes one fact in.
    pub(super) fn apply(&self, fact: &Fact, place: &Place) -> Result<(), StoreError> {
        self.raise_version(fact.version())?;
        match fact {
            Fact::GatewayMailbox(fact) => self.apply_gateway_mailbox(fact),
            Fact::Folder(fact) => self.apply_folder(fact),
            Fact::Object(fact) => self.apply_object(fact, place),
            Fact::Received(fact) => self.apply_received(fact, place),
            Fact::Fetched(fact) => self.apply_event(fact, "fetched"),
            Fact::Deleted(fact) => self.apply_deleted(fact),
            Fact::Revised(fact) => self.apply_revised(fact, place),
            Fact::KeyFile(fact) => self.apply_key_file(fact),
            Fact::TurnedAway(_) => Ok(()),
        }
    }

    fn apply_key_file(&self, fact: &KeyFileFact) -> Result<(), StoreError> {
        self.make_added_tables()?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO key_file VALUES (?, ?, ?, ?)")?
            .execute(params![fact.gateway_mailbox.as_bytes(), fact.name, int(fact.octets), fact.sha256.0])?;
        Ok(())
    }

    /// The files of wrapped keyrings that are on record.
    pub(super) fn key_files(&self) -> Result<Vec<(GatewayMailboxId, String)>, StoreError> {
        let mut files = self.connection.prepare_cached("SELECT gateway_mailbox, name FROM key_file")?;
        let rows = files.query_map([], |row| Ok((gateway_mailbox_id(row, 0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Part of the transaction, as the rows are.
    fn raise_version(&self, version: u32) -> Result<(), StoreError> {
        let version = i64::from(version);
        if version > INDEX_VERSION
            && self.connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? < version
        {
            self.connection.pragma_update(None, "user_version", version)?;
        }
        Ok(())
    }

    fn apply_gateway_mailbox(&self, fact: &GatewayMailboxFact) -> Result<(), StoreError> {
        let state = serde_json::to_string(&fact.gateway_mailbox).map_err(json_error)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO gateway_mailbox VALUES (?, ?, ?)")?
            .execute(params![fact.gateway_mailbox.id.as_bytes(), state, fact.digest_key.0])?;
        Ok(())
    }

    fn apply_folder(&self, fact: &FolderFact) -> Result<(), StoreError> {
        self.connection.prepare_cached("INSERT INTO folder VALUES (?, ?, ?, ?, ?, 1)")?.execute(params![
            int(fact.folder),
            fact.gateway_mailbox.as_bytes(),
            fact.name.key(),
            fact.slug,
            fact.uid_validity.value()
        ])?;
        Ok(())
    }

    fn apply_object(&self, fact: &ObjectFact, place: &Place) -> Result<(), StoreError> {
        let at = fact.file.is_none().then_some((int(place.segment), int(place.payload_offset)));
        self.connection.prepare_cached("INSERT INTO object VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                int(fact.object),
                int(fact.octets),
                int(fact.sealed_octets),
                fact.sealed_sha256.0,
                at.map(|a| a.0),
                at.map(|a| a.1),
                fact.file
            ],
        )?;
        Ok(())
    }

    fn apply_received(&self, fact: &ReceivedFact, place: &Place) -> Result<(), StoreError> {
        let receipt = fact.receipt_id.as_bytes();
        let gateway_mailbox = fact.gateway_mailbox.as_bytes();
        let identity = fact.repeats.is_none().then_some(fact.identity.0);
        self.connection.prepare_cached("INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                receipt,
                gateway_mailbox,
                fact.at.unix_ms(),
                int(place.segment),
                int(place.entry_offset),
                place.entry_octets,
                identity
            ],
        )?;
        for (index, message) in fact.messages.iter().enumerate() {
            let whole = (index == 0).then_some(fact.sha256.0);
            self.insert_message(&fact.gateway_mailbox, message, whole)?;
        }
        for placement in &fact.placements {
            let join = fact.messages.iter().find(|m| m.message == placement.message).map(|m| m.join.0);
            let of = Came {
                receipt_id: fact.receipt_id,
                gateway_mailbox: fact.gateway_mailbox,
                at: fact.at,
                epoch: fact.epoch,
            };
            self.insert_placement(&of, placement, join)?;
            if fact.recovered_from.is_some() {
                self.make_added_tables()?;
                self.insert_placed_later(placement)?;
            }
        }
        let ids = [&fact.message_id, &fact.parent_message_id, &fact.returned_message_id];
        self.insert_names(fact.receipt_id, names(&ids, &fact.reports, &fact.messages))
    }

    fn insert_placement(
        &self,
        of: &Came,
        placement: &PlacementFact,
        join: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
        self.connection.prepare_cached("INSERT INTO placement VALUES (?, ?, ?, ?, ?, ?, ?, NULL)")?.execute(
            params![
                int(placement.folder),
                placement.uid.value(),
                int(placement.message),
                of.receipt_id.as_bytes(),
                of.at.unix_ms(),
                of.epoch,
                join
            ],
        )?;
        self.ensure_folder(of, placement)?;
        self.connection
            .prepare_cached("UPDATE folder SET uid_next = max(uid_next, ? + 1) WHERE id = ?")?
            .execute(params![placement.uid.value(), int(placement.folder)])?;
        Ok(())
    }

    fn insert_placed_later(&self, placement: &PlacementFact) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT INTO placed_later VALUES (?, ?)")?
            .execute(params![int(placement.folder), placement.uid.value()])?;
        Ok(())
    }

    fn insert_names(&self, receipt: ReceiptId, names: Vec<String>) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO name VALUES (?, ?)")?;
        for name in names {
            insert.execute(params![name, receipt.as_bytes()])?;
        }
        Ok(())
    }

    /// Makes a folder's row anew when its own entry was lost. Its UIDVALIDITY changes, so clients look at it afresh.
    fn ensure_folder(&self, of: &Came, placement: &PlacementFact) -> Result<(), StoreError> {
        let mut known = self.connection.prepare_cached("SELECT 1 FROM folder WHERE id = ?")?;
        if known.exists([int(placement.folder)])? {
            return Ok(());
        }
        let validity = u32::try_from(of.at.unix_seconds()).ok().and_then(UidValidity::new);
        self.apply_folder(&FolderFact {
            folder: placement.folder,
            gateway_mailbox: of.gateway_mailbox,
            name: placement.name.clone(),
            slug: None,
            uid_validity: validity.unwrap_or(UidValidity(std::num::NonZeroU32::MIN)),
        })
    }

    fn insert_message(
        &self,
        gateway_mailbox: &GatewayMailboxId,
        message: &MessageFact,
        sha256: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
        let canonical = &message.canonical;
        let flags = row_flags(canonical);
        // A held message has its row, unless the entry it came with was lost.
        let insert = match message.held {
            true => "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            false => "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        };
        self.connection.prepare_cached(insert)?.execute(params![
            int(message.message),
            gateway_mailbox.as_bytes(),
            serde_json::to_string(&message.extents).map_err(json_error)?,
            int(message.octets),
            int(canonical.octets),
            int(canonical.lines),
            flags,
            message.exact.0,
            message.join.0,
            sha256,
            int(message.summary.0),
            message.summary.1
        ])?;
        Ok(())
    }

    fn apply_event(&self, fact: &FolderEventFact, kind: &str) -> Result<(), StoreError> {
        let client = serde_json::to_string(&fact.client).map_err(json_error)?;
        let mut insert =
            self.connection.prepare_cached("INSERT INTO folder_event VALUES (?, ?, ?, ?, ?, ?)")?;
        for (first, last) in &fact.uids {
            insert.execute(params![
                int(fact.folder),
                first.value(),
                last.value(),
                fact.at.unix_ms(),
                kind,
                client
            ])?;
        }
        Ok(())
    }

    fn apply_deleted(&self, fact: &FolderEventFact) -> Result<(), StoreError> {
        let mut update = self.connection.prepare_cached(
            "UPDATE placement SET deleted_at = ? WHERE folder = ? AND uid BETWEEN ? AND ? AND deleted_at IS NULL",
        )?;
        for (first, last) in &fact.uids {
            update.execute(params![fact.at.unix_ms(), int(fact.folder), first.value(), last.value()])?;
        }
        self.apply_event(fact, "deleted")
    }
}

fn receipt_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<ReceiptId> {
    row.get::<_, [u8; 16]>(column).map(ReceiptId::from_bytes)
}

fn gateway_mailbox_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<GatewayMailboxId> {
    row.get::<_, [u8; 16]>(column).map(GatewayMailboxId::from_bytes)
}

/// The column `flags` of a message.
pub(super) fn row_flags(canonical: &CanonicalSize) -> i64 {
    let bare_line_ends = if canonical.bare_line_ends { FLAG_BARE_LINE_ENDS } else { 0 };
    bare_line_ends | if canonical.ends_with_line_end { FLAG_ENDS_WITH_LINE_END } else { 0 }
}

/// What a receipt can be asked for by: Message-IDs as written, addresses folded.
pub(super) fn names(
    ids: &[&Option<String>],
    reports: &[ReportRecord],
    messages: &[MessageFact],
) -> Vec<String> {
    let mut names: Vec<String> = ids.iter().copied().flatten().cloned().collect();
    for report in reports {
        names.extend(report.wrapper_message_id.iter().chain(&report.envelope.message_id).cloned());
        names.extend(report.envelope.participants().map(|a| a.key().as_str().to_owned()));
    }
    names.extend(messages.iter().filter_map(|m| m.message_id.clone()));
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_on_a_full_disk_is_read_and_gets_its_tables_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let older = Index::open(&path).unwrap();
        let dropped: String = ADDED_NAMES.map(|name| format!("DROP TABLE {name};")).concat();
        older.connection.execute_batch(&format!("{dropped} VACUUM;")).unwrap();
        drop(older);
        let full = Connection::open(&path).unwrap();
        let pages: i64 = full.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let most = |connection: &Connection, pages: i64| {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        };
        most(&full, pages);
        let index = Index::completed(full).unwrap();
        let reader = Index::open_reader(&path).unwrap();
        let receipt = ReceiptId::new(1, [1; 10]);
        for index in [&index, &reader] {
            let found = index.revision_entries(receipt, GatewayMailboxId::new(1, [1; 10])).unwrap();
            assert!(found.is_empty() && index.has_stand_ins());
        }
        index.begin().unwrap();
        assert!(matches!(index.make_added_tables(), Err(StoreError::Full)));
        index.rollback().unwrap();
        assert!(!index.connection.table_exists(Some("main"), "departure").unwrap());
        most(&index.connection, pages + 100);
        index.make_added_tables().unwrap();
        index.connection.execute_batch("INSERT INTO placed_later VALUES (1, 1)").unwrap();
        let reader = Index::open_reader(&path).unwrap();
        assert!(!reader.has_stand_ins());
        let count = "SELECT count(*) FROM placed_later";
        assert_eq!(reader.connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }

    #[test]
    fn an_older_file_gets_the_index_it_lacks_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let older = Index::open(&path).unwrap();
        let kept = "DROP INDEX folder_event_at; INSERT INTO meta VALUES ('kept', 1)";
        older.connection.execute_batch(kept).unwrap();
        drop(older);
        let index = Index::open(&path).unwrap();
        let count = |sql| index.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM sqlite_master WHERE name = 'folder_event_at'"), 1);
        assert_eq!(count("SELECT count(*) FROM meta WHERE key = 'kept'"), 1);
    }
}
