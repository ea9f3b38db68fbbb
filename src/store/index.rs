//! The index: a SQLite file that answers questions about the log, and can always be made anew from it.
//!
//! It is written in the same order as the log and records the position it has reached in the same transaction. Its
//! own syncs are off the path of an acknowledgement: `synchronous=NORMAL` syncs only at checkpoints, and what a power cut
//! takes back is replayed from the log when the store is opened. What a row says comes from a [`Fact`] alone, through
//! [`Index::apply`], for new mail and for replay alike.

use super::fact::{
    Fact, FolderEventFact, FolderFact, GatewayMailboxFact, MessageFact, ObjectFact, PlacementFact,
    ReceivedFact, StoredExtent,
};
use super::log::Position;
use super::{ARRIVALS_SPAN_MS, Activity, Digest, FolderName, StoreError, Tally};
use crate::mail::{
    CanonicalSize, GatewayMailboxId, NOTICE_ID_BEGINNING, ReceiptId, Timestamp, Uid, UidValidity,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Format version this build writes; a newer one is refused, an older one is made anew.
const INDEX_VERSION: i64 = 1;
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

/// What came after the first release of this version: made at each opening where it is missing, which costs an older file
/// one pass over a table instead of being made anew.
const ADDED: &str = "CREATE INDEX IF NOT EXISTS folder_event_at ON folder_event (folder, at);";

const FLAG_BARE_LINE_ENDS: i64 = 1;
const FLAG_ENDS_WITH_LINE_END: i64 = 2;

/// How far a message's time may lie before that of one with a lower UID, and behind that in its receipt id.
const ARRIVAL_ORDER_SLACK_MS: i64 = 60 * 60 * 1000;
/// The receipts of mail about Daybook's own notices: the first parameter is what their Message-IDs begin with, the second
/// is the first text behind all of those.
const NOTICES: &str = "SELECT receipt FROM name WHERE value >= ?1 AND value < ?2";

/// What became of the receipts since some time. The order of the joins is forced: left to itself, SQLite begins with the
/// folders of the gateway mailbox and walks every placement ever made.
const OUTCOMES: &str = "
SELECT CASE WHEN f.name IN ('inbox', 'unassigned', 'quarantine') THEN f.name ELSE 'user' END,
       count(*), sum(p.deleted_at IS NULL), coalesce(sum(m.octets), 0)
FROM receipt r CROSS JOIN placement p ON p.receipt = r.id
CROSS JOIN folder f ON f.id = p.folder AND f.gateway_mailbox = r.gateway_mailbox
LEFT JOIN message m ON m.id = p.message
WHERE r.id >= ?3 AND r.gateway_mailbox = ?4 AND r.at >= ?5 AND r.id NOT IN (";
const FETCHED: &str = "SELECT coalesce(sum(last - first + 1), 0) FROM folder_event
WHERE folder = ? AND kind = 'fetched' AND at >= ?";
/// One look at the end of an index for each folder: a join would read every event.
const LAST_EVENT: &str = "SELECT max((SELECT max(e.at) FROM folder_event e WHERE e.folder = f.id))
FROM folder f WHERE f.gateway_mailbox = ?";
/// The `+` keeps SQLite from reading all events of a folder in the order of their times.
const EVENTS: &str = "SELECT at, kind, client FROM folder_event
WHERE folder = ? AND first <= ? AND last >= ? ORDER BY +at";

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
            Fact::GatewayMailbox(_) => {}
            Fact::Folder(fact) => self.folder = self.folder.max(fact.folder + 1),
            Fact::Object(fact) => self.object = self.object.max(fact.object + 1),
            Fact::Fetched(fact) | Fact::Deleted(fact) => self.folder = self.folder.max(fact.folder + 1),
            Fact::Received(fact) => {
                self.epoch = self.epoch.max(fact.epoch);
                for message in &fact.messages {
                    self.message = self.message.max(message.message + 1);
                    let objects = message.extents.iter().map(|e| e.object).chain([message.summary.0]);
                    self.object = objects.fold(self.object, |next, object| next.max(object + 1));
                }
                let folders =
                    fact.placements.iter().map(|p| p.folder).chain(fact.spared.iter().map(|s| s.folder));
                self.folder = folders.fold(self.folder, |next, folder| next.max(folder + 1));
            }
        }
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
    pub(super) client: String,
}

/// One connection to the index.
pub(super) struct Index {
    connection: Connection,
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
        } else if version > INDEX_VERSION {
            return Err(StoreError::Newer(format!("index: version {version}")));
        } else if version < INDEX_VERSION {
            return Err(StoreError::IndexDamaged(format!("version {version} is no longer read")));
        }
        match connection.execute_batch(ADDED).map_err(StoreError::from) {
            // It only makes answers come sooner; a full disk must still be readable. The next opening tries again.
            Ok(()) | Err(StoreError::Full) => Ok(Index { connection }),
            Err(error) => Err(error),
        }
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
        Ok(Index { connection })
    }

    /// Opens a connection that folds the WAL into the database, off the committer's path.
    pub(super) fn open_checkpointer(path: &Path) -> Result<Index, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_millis(CHECKPOINT_TIMEOUT_MS))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Index { connection })
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
        match fact {
            Fact::GatewayMailbox(fact) => self.apply_gateway_mailbox(fact),
            Fact::Folder(fact) => self.apply_folder(fact),
            Fact::Object(fact) => self.apply_object(fact, place),
            Fact::Received(fact) => self.apply_received(fact, place),
            Fact::Fetched(fact) => self.apply_event(fact, "fetched"),
            Fact::Deleted(fact) => self.apply_deleted(fact),
        }
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
            self.connection
                .prepare_cached("INSERT INTO placement VALUES (?, ?, ?, ?, ?, ?, ?, NULL)")?
                .execute(params![
                    int(placement.folder),
                    placement.uid.value(),
                    int(placement.message),
                    receipt,
                    fact.at.unix_ms(),
                    fact.epoch,
                    join
                ])?;
            self.ensure_folder(fact, placement)?;
            self.connection
                .prepare_cached("UPDATE folder SET uid_next = max(uid_next, ? + 1) WHERE id = ?")?
                .execute(params![placement.uid.value(), int(placement.folder)])?;
        }
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO name VALUES (?, ?)")?;
        for name in names(fact) {
            insert.execute(params![name, receipt])?;
        }
        Ok(())
    }

    /// Makes a folder's row anew when its own entry was lost. Its UIDVALIDITY changes, so clients look at it afresh.
    fn ensure_folder(&self, fact: &ReceivedFact, placement: &PlacementFact) -> Result<(), StoreError> {
        let mut known = self.connection.prepare_cached("SELECT 1 FROM folder WHERE id = ?")?;
        if known.exists([int(placement.folder)])? {
            return Ok(());
        }
        let validity = u32::try_from(fact.at.unix_seconds()).ok().and_then(UidValidity::new);
        self.apply_folder(&FolderFact {
            folder: placement.folder,
            gateway_mailbox: fact.gateway_mailbox,
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
        let flags = if canonical.bare_line_ends { FLAG_BARE_LINE_ENDS } else { 0 }
            | if canonical.ends_with_line_end { FLAG_ENDS_WITH_LINE_END } else { 0 };
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

    /// Every gateway mailbox, deleted ones too, with its digest key.
    pub(super) fn gateway_mailboxes(&self) -> Result<Vec<(crate::mail::GatewayMailbox, Digest)>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT state, digest_key FROM gateway_mailbox ORDER BY id")?;
        let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, bytes32(row, 1)?)))?;
        rows.map(|row| {
            let (state, key) = row?;
            Ok((serde_json::from_str(&state).map_err(json_error)?, key))
        })
        .collect()
    }

    pub(super) fn folder(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
    ) -> Result<Option<FolderRow>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, uid_validity, uid_next FROM folder WHERE gateway_mailbox = ? AND name = ?",
        )?;
        Ok(select
            .query_row(params![gateway_mailbox.as_bytes(), name.key()], |row| {
                Ok(FolderRow {
                    id: unsigned(row.get(0)?),
                    uid_validity: UidValidity::new(row.get(1)?)
                        .unwrap_or(UidValidity(std::num::NonZeroU32::MIN)),
                    uid_next: Uid::new(row.get(2)?).unwrap_or(Uid::FIRST),
                })
            })
            .optional()?)
    }

    /// Every folder of a gateway mailbox: its name, slug, and how many entries of how many octets it holds, the oldest
    /// entry's time.
    pub(super) fn folders(
        &self,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Vec<super::FolderStatus>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT f.name, f.slug, f.uid_validity, f.uid_next, count(p.uid), coalesce(sum(m.octets), 0), min(p.at)
             FROM folder f LEFT JOIN placement p ON p.folder = f.id AND p.deleted_at IS NULL LEFT JOIN message m ON m.id = p.message
             WHERE f.gateway_mailbox = ? GROUP BY f.id ORDER BY f.id",
        )?;
        let rows = select.query_map([gateway_mailbox.as_bytes()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Option<String>>(1)?,
                row.get::<_, u32>(2)?,
                row.get::<_, u32>(3)?,
                row.get::<_, i64>(4)?,
                row.get::<_, i64>(5)?,
                row.get::<_, Option<i64>>(6)?,
            ))
        })?;
        let mut folders = Vec::new();
        for row in rows {
            let (name, slug, uid_validity, uid_next, entries, octets, oldest) = row?;
            let name = FolderName::from_key(&name)
                .ok_or_else(|| StoreError::IndexDamaged("a row: folder name".to_owned()))?;
            folders.push(super::FolderStatus {
                path: name.path(slug.as_deref()),
                name,
                uid_validity,
                uid_next,
                entries: unsigned(entries),
                octets: unsigned(octets),
                oldest: oldest.map(Timestamp::from_unix_ms),
            });
        }
        Ok(folders)
    }

    /// The path of a folder by its number, for trails.
    pub(super) fn folder_path(&self, folder: u64) -> Result<String, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT name, slug FROM folder WHERE id = ?")?;
        let (name, slug): (String, Option<String>) =
            select.query_row([int(folder)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(FolderName::from_key(&name).map(|n| n.path(slug.as_deref())).unwrap_or(name))
    }

    /// The slug a user's folders already have in a gateway mailbox.
    pub(super) fn slug_of(
        &self,
        gateway_mailbox: GatewayMailboxId,
        user: &str,
    ) -> Result<Option<String>, StoreError> {
        for folder in [crate::mail::UserFolder::Incoming, crate::mail::UserFolder::Outgoing] {
            let name = FolderName::User { user: user.to_owned(), folder };
            let mut select = self
                .connection
                .prepare_cached("SELECT slug FROM folder WHERE gateway_mailbox = ? AND name = ?")?;
            let slug: Option<Option<String>> = select
                .query_row(params![gateway_mailbox.as_bytes(), name.key()], |row| row.get(0))
                .optional()?;
            if let Some(Some(slug)) = slug {
                return Ok(Some(slug));
            }
        }
        Ok(None)
    }

    pub(super) fn slug_is_taken(
        &self,
        gateway_mailbox: GatewayMailboxId,
        slug: &str,
    ) -> Result<bool, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT 1 FROM folder WHERE gateway_mailbox = ? AND slug = ? LIMIT 1")?;
        Ok(select.exists(params![gateway_mailbox.as_bytes(), slug])?)
    }

    /// The receipt that has this identity already.
    pub(super) fn receipt_with_identity(
        &self,
        gateway_mailbox: GatewayMailboxId,
        identity: &Digest,
    ) -> Result<Option<ReceiptId>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id FROM receipt WHERE gateway_mailbox = ? AND identity = ? ORDER BY id DESC LIMIT 1",
        )?;
        Ok(select
            .query_row(params![gateway_mailbox.as_bytes(), identity.0], |row| receipt_id(row, 0))
            .optional()?)
    }

    /// The first entry of a folder with this join, deleted ones included: what a client took stays taken.
    pub(super) fn entry_with_join(&self, folder: u64, join: &Digest) -> Result<Option<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT uid FROM placement WHERE folder = ? AND join_digest = ? ORDER BY uid LIMIT 1",
        )?;
        let uid: Option<u32> = select.query_row(params![int(folder), join.0], |row| row.get(0)).optional()?;
        Ok(uid.and_then(Uid::new))
    }

    /// A message of these exact octets.
    pub(super) fn message_with_exact(
        &self,
        gateway_mailbox: GatewayMailboxId,
        exact: &Digest,
    ) -> Result<Option<(u64, MessageRow)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id FROM message WHERE gateway_mailbox = ? AND exact = ? ORDER BY id DESC LIMIT 1",
        )?;
        let id: Option<i64> =
            select.query_row(params![gateway_mailbox.as_bytes(), exact.0], |row| row.get(0)).optional()?;
        id.map(|id| Ok((unsigned(id), self.message(unsigned(id))?))).transpose()
    }

    /// # Errors
    /// [`StoreError::Gone`] when there is no such message.
    pub(super) fn message(&self, message: u64) -> Result<MessageRow, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT gateway_mailbox, extents, octets, sha256 FROM message WHERE id = ?")?;
        let row = select
            .query_row([int(message)], |row| {
                Ok((
                    gateway_mailbox_id(row, 0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, Option<[u8; 32]>>(3)?,
                ))
            })
            .optional()?
            .ok_or(StoreError::Gone)?;
        Ok(MessageRow {
            gateway_mailbox: row.0,
            extents: serde_json::from_str(&row.1).map_err(json_error)?,
            octets: unsigned(row.2),
            sha256: row.3.map(Digest),
        })
    }

    /// # Errors
    /// [`StoreError::Gone`] when there is no such object.
    pub(super) fn object(&self, object: u64) -> Result<ObjectRow, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT sealed_octets, sealed_sha256, segment, place, file FROM object WHERE id = ?",
        )?;
        let row = select
            .query_row([int(object)], |row| {
                let file: Option<String> = row.get(4)?;
                let place = match file {
                    Some(file) => ObjectPlace::File(file),
                    None => {
                        ObjectPlace::Log { segment: unsigned(row.get(2)?), offset: unsigned(row.get(3)?) }
                    }
                };
                Ok(ObjectRow { sealed_octets: unsigned(row.get(0)?), sealed_sha256: bytes32(row, 1)?, place })
            })
            .optional()?;
        row.ok_or(StoreError::Gone)
    }

    /// True when some object lies in this content file.
    pub(super) fn names_content_file(&self, file: &str) -> Result<bool, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT 1 FROM object WHERE file = ? LIMIT 1")?;
        Ok(select.exists([file])?)
    }

    /// The live entries of a folder, in UID order.
    pub(super) fn placements(&self, folder: u64) -> Result<Vec<PlacementRow>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT p.uid, p.message, p.receipt, p.at, p.epoch, m.octets, m.canonical_octets, m.lines, m.flags
             FROM placement p JOIN message m ON m.id = p.message WHERE p.folder = ? AND p.deleted_at IS NULL ORDER BY p.uid",
        )?;
        let rows = select.query_map([int(folder)], |row| {
            let flags: i64 = row.get(8)?;
            Ok(PlacementRow {
                uid: Uid::new(row.get(0)?).unwrap_or(Uid::FIRST),
                message: unsigned(row.get(1)?),
                receipt_id: receipt_id(row, 2)?,
                at: Timestamp::from_unix_ms(row.get(3)?),
                epoch: row.get(4)?,
                octets: unsigned(row.get(5)?),
                canonical: CanonicalSize {
                    octets: unsigned(row.get(6)?),
                    lines: unsigned(row.get(7)?),
                    bare_line_ends: flags & FLAG_BARE_LINE_ENDS != 0,
                    ends_with_line_end: flags & FLAG_ENDS_WITH_LINE_END != 0,
                },
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Those of `uids` that are live in `folder`.
    pub(super) fn live_uids(&self, folder: u64, uids: &[Uid]) -> Result<Vec<Uid>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT 1 FROM placement WHERE folder = ? AND uid = ? AND deleted_at IS NULL")?;
        let mut live = Vec::new();
        for uid in uids {
            if select.exists(params![int(folder), uid.value()])? {
                live.push(*uid);
            }
        }
        Ok(live)
    }

    /// Where the entries of a receipt stand in the log, one for each gateway mailbox.
    pub(super) fn receipt_entries(&self, receipt: ReceiptId) -> Result<Vec<(u64, u64, u32)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT segment, place, octets FROM receipt WHERE id = ? ORDER BY gateway_mailbox",
        )?;
        let rows = select.query_map([receipt.as_bytes()], |row| {
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?), row.get(2)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Receipts that name `value` (folded address or Message-ID), newest first.
    pub(super) fn receipts_naming(
        &self,
        value: &str,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<ReceiptId>, StoreError> {
        // A receipt id begins with its time: the key itself is the range.
        let from = ReceiptId::new(unsigned(since.unix_ms()), [0; 10]);
        let mut select = self.connection.prepare_cached(
            "SELECT receipt FROM name WHERE value = ? AND receipt >= ? ORDER BY receipt DESC LIMIT ?",
        )?;
        let rows =
            select.query_map(params![value, from.as_bytes(), int(most as u64)], |row| receipt_id(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Receipts since a time, newest first.
    pub(super) fn receipts_since(&self, since: Timestamp, most: usize) -> Result<Vec<ReceiptId>, StoreError> {
        let from = ReceiptId::new(unsigned(since.unix_ms()), [0; 10]);
        let mut select = self
            .connection
            .prepare_cached("SELECT DISTINCT id FROM receipt WHERE id >= ? ORDER BY id DESC LIMIT ?")?;
        let rows = select.query_map(params![from.as_bytes(), int(most as u64)], |row| receipt_id(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// When mail came and went. Everything accepted has an entry in INBOX, and their order is that of their arrival.
    pub(super) fn activity(
        &self,
        gateway_mailbox: GatewayMailboxId,
        since: Timestamp,
    ) -> Result<Activity, StoreError> {
        let Some(inbox) = self.folder(gateway_mailbox, &FolderName::Inbox)? else {
            return Ok(Activity::default());
        };
        let mut activity = Activity::default();
        let (first, behind) = notice_ids();
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT at FROM placement WHERE folder = ?3 AND receipt NOT IN ({NOTICES}) ORDER BY uid DESC"
        ))?;
        let mut rows = select.query(params![first, behind, int(inbox.id)])?;
        let mut spans = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(0)?;
            let last = activity.last_received.get_or_insert(Timestamp::from_unix_ms(at));
            *last = Timestamp::from_unix_ms(last.unix_ms().max(at));
            // Sessions that end together may be numbered in another order than they began in.
            if at < since.unix_ms().min(last.unix_ms()).saturating_sub(ARRIVAL_ORDER_SLACK_MS) {
                break;
            }
            if at >= since.unix_ms() {
                *spans.entry(at - at.rem_euclid(ARRIVALS_SPAN_MS)).or_insert(0_u64) += 1;
            }
        }
        activity.arrivals =
            spans.into_iter().map(|(span, count)| (Timestamp::from_unix_ms(span), count)).collect();
        let mut select = self.connection.prepare_cached(LAST_EVENT)?;
        let at: Option<i64> = select.query_row([gateway_mailbox.as_bytes()], |row| row.get(0))?;
        activity.last_fetched = at.map(Timestamp::from_unix_ms);
        Ok(activity)
    }

    /// What became of the mail since, and what waits.
    pub(super) fn tally(
        &self,
        gateway_mailbox: GatewayMailboxId,
        since: Timestamp,
    ) -> Result<Tally, StoreError> {
        let Some(inbox) = self.folder(gateway_mailbox, &FolderName::Inbox)? else {
            return Ok(Tally::default());
        };
        let mut tally = Tally::default();
        let (first, behind) = notice_ids();
        // A receipt's id is drawn when its transaction begins, its time when that ends.
        let from_ms = since.unix_ms().saturating_sub(ARRIVAL_ORDER_SLACK_MS);
        let from = ReceiptId::new(unsigned(from_ms), [0; 10]);
        let mut select = self.connection.prepare_cached(&format!("{OUTCOMES}{NOTICES}) GROUP BY 1"))?;
        let id = gateway_mailbox.as_bytes();
        let mut rows = select.query(params![first, behind, from.as_bytes(), id, since.unix_ms()])?;
        while let Some(row) = rows.next()? {
            let (made, there) = (unsigned(row.get(1)?), unsigned(row.get(2)?));
            match row.get_ref(0)?.as_str().unwrap_or_default() {
                "inbox" => (tally.received, tally.octets) = (made, unsigned(row.get(3)?)),
                "unassigned" => tally.unassigned = there,
                "quarantine" => tally.quarantined = there,
                _ => tally.in_user_folders = made,
            }
        }
        let mut select = self.connection.prepare_cached(FETCHED)?;
        tally.fetched =
            unsigned(select.query_row(params![int(inbox.id), since.unix_ms()], |row| row.get(0))?);
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT count(*), coalesce(sum(m.octets), 0), min(p.at) FROM placement p LEFT JOIN message m ON m.id = p.message
             WHERE p.folder = ?3 AND p.deleted_at IS NULL AND p.receipt NOT IN ({NOTICES})"
        ))?;
        let (waiting, octets, oldest) = select.query_row(params![first, behind, int(inbox.id)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?))
        })?;
        (tally.waiting, tally.waiting_octets) = (unsigned(waiting), unsigned(octets));
        tally.oldest_waiting = oldest.map(Timestamp::from_unix_ms);
        Ok(tally)
    }

    /// What happened to one placement after it was made, and whether it is still there.
    pub(super) fn events(&self, folder: u64, uid: Uid) -> Result<Vec<EventRow>, StoreError> {
        let mut select = self.connection.prepare_cached(EVENTS)?;
        let rows = select.query_map(params![int(folder), uid.value(), uid.value()], |row| {
            Ok(EventRow { at: Timestamp::from_unix_ms(row.get(0)?), kind: row.get(1)?, client: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The first Message-ID a notice can have, and the first text behind all of them.
fn notice_ids() -> (&'static str, String) {
    (NOTICE_ID_BEGINNING, format!("{NOTICE_ID_BEGINNING}\u{10ffff}"))
}

fn receipt_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<ReceiptId> {
    row.get::<_, [u8; 16]>(column).map(ReceiptId::from_bytes)
}

fn gateway_mailbox_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<GatewayMailboxId> {
    row.get::<_, [u8; 16]>(column).map(GatewayMailboxId::from_bytes)
}

/// What a receipt can be asked for by: Message-IDs as written, addresses folded.
fn names(fact: &ReceivedFact) -> Vec<String> {
    let mut names: Vec<String> = fact.message_id.iter().chain(&fact.parent_message_id).cloned().collect();
    for report in &fact.reports {
        names.extend(report.wrapper_message_id.iter().chain(&report.envelope.message_id).cloned());
        names.extend(report.envelope.participants().map(|a| a.key().as_str().to_owned()));
    }
    names.extend(fact.messages.iter().filter_map(|m| m.message_id.clone()));
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How SQLite goes about a question, one line a step.
    fn plan(index: &Index, sql: &str) -> Vec<String> {
        let mut select = index.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        for parameter in 1..=select.parameter_count() {
            select.raw_bind_parameter(parameter, 1).unwrap();
        }
        let mut rows = select.raw_query();
        let mut steps = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            steps.push(row.get(3).unwrap());
        }
        steps
    }

    fn position(plan: &[String], step: &str) -> usize {
        let place = plan.iter().position(|line| line.starts_with(step));
        place.unwrap_or_else(|| panic!("no step {step} in {plan:#?}"))
    }

    #[test]
    fn what_became_of_a_day_is_read_from_that_days_receipts_alone() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index")).unwrap();
        let outcomes = plan(&index, &format!("{OUTCOMES}{NOTICES}) GROUP BY 1"));
        let steps = [
            "SEARCH r USING PRIMARY KEY (id>?)",
            "SEARCH p USING INDEX placement_receipt (receipt=?)",
            "SEARCH f USING INTEGER PRIMARY KEY (rowid=?)",
        ];
        assert!(steps.map(|step| position(&outcomes, step)).is_sorted(), "{outcomes:#?}");
        position(
            &plan(&index, FETCHED),
            "SEARCH folder_event USING INDEX folder_event_at (folder=? AND at>?)",
        );
        let last = plan(&index, LAST_EVENT);
        position(&last, "SEARCH e USING COVERING INDEX folder_event_at (folder=?)");
        assert!(!last.iter().any(|step| step.starts_with("SCAN e")), "{last:#?}");
        let of_one = plan(&index, EVENTS);
        position(&of_one, "SEARCH folder_event USING INDEX folder_event_uids (folder=? AND first<?)");
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
