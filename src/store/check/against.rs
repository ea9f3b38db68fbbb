//! The index, held against what the log says.

use super::ledger::Ledger;
use super::opening::{Unopenable, open_index};
use super::report::FindingKind;
use super::rows::{Rows, Table};
use super::taking::Findings;
use crate::mail::{GatewayMailbox, GatewayMailboxId};
use crate::store::StoreError;
use crate::store::backup::is_backup;
use crate::store::index::{Examined, Index, Making};
use crate::store::log::Position;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;
use std::path::Path;

/// What is wrong with SQLite's own structures: so many are told.
const INTEGRITY_TOLD: usize = 20;

/// The index, open for reading.
pub(super) struct Against {
    index: Index,
}

type Asked<T> = Result<T, StoreError>;

/// Why an index is not compared.
pub(super) enum Unopened {
    /// It is no index that a server could use.
    Damaged(String),
    /// Nothing is known to be wrong with it.
    OutOfReach(String),
}

/// What is wrong with an index, in words.
pub(super) fn why(error: &StoreError) -> String {
    match error {
        StoreError::IndexDamaged(why) => why.clone(),
        error => format!("cannot be read: {error}"),
    }
}

impl Against {
    /// Opens the index beside a running server, or as it lies there. Gives why that cannot be done.
    pub(super) fn open(data_dir: &Path, running: bool) -> Result<Against, Unopened> {
        let is_there = data_dir.join("index.sqlite").exists();
        if !is_there && is_backup(data_dir) {
            return Err(Unopened::OutOfReach("was not compared: a backup has none".to_owned()));
        }
        open_index(data_dir, running).map(|index| Against { index }).map_err(|unopenable| match unopenable {
            Unopenable::Damaged(why) => Unopened::Damaged(why),
            Unopenable::NotOurs(owner) => Unopened::OutOfReach(format!(
                "was not compared: it has changes that only its owner can look at. To have it compared, run this as user {owner}"
            )),
            Unopenable::Older(version) => Unopened::OutOfReach(format!(
                "was not compared: it is of version {version}, and the next start makes it anew"
            )),
        })
    }

    fn connection(&self) -> &Connection {
        self.index.connection()
    }

    /// From now on it stays as it is, whatever a server writes.
    pub(super) fn hold(&self) -> Asked<()> {
        self.index.begin_reading()
    }

    /// How far of the log it holds; none while it is being made anew.
    ///
    /// # Errors
    /// Also when what it says of itself does not fit its check: it is not believed then.
    pub(super) fn position(&self) -> Asked<Option<Position>> {
        if self.index.said_making()? != Making::Done {
            return Ok(None);
        }
        let nothing = || StoreError::IndexDamaged("says that it is made, and of nothing".to_owned());
        self.index.position()?.ok_or_else(nothing).map(Some)
    }

    /// SQLite's own look at its file, and what the index says twice.
    pub(super) fn integrity(&self, findings: &mut Findings) -> Asked<()> {
        let mut check = self.connection().prepare(&format!("PRAGMA integrity_check({INTEGRITY_TOLD})"))?;
        let told: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for what in told.into_iter().filter(|what| what != "ok") {
            findings.damage(FindingKind::Index, "index.sqlite".to_owned(), what);
        }
        let mut examined = Examined::default();
        if let Err(error) = self.index.examine_said(&|| true, &mut examined) {
            examined.tell(why(&error));
        }
        for what in examined.findings {
            findings.damage(FindingKind::Index, "index.sqlite".to_owned(), what);
        }
        Ok(())
    }

    /// Compares gateway mailboxes and folders one by one, the rest by count.
    pub(super) fn compare_counts(&self, ledger: &Ledger, findings: &mut Findings) -> Asked<()> {
        let mut wrong = |what: String| findings.damage(FindingKind::Index, "index.sqlite".to_owned(), what);
        self.compare_gateway_mailboxes(ledger, &mut wrong)?;
        self.compare_folders(ledger, &mut wrong)?;
        for (table, said) in [
            ("receipt", ledger.receipt_count),
            ("message", ledger.message_count),
            ("object", ledger.object_count),
            ("freed", ledger.kept.freed_count),
            ("in_grace", ledger.in_grace()),
        ] {
            let held = self.count(table)?;
            if held != said {
                wrong(format!("has {held} rows of table {table}, the log says {said}"));
            }
        }
        let (numbers, used) = (self.index.numbers()?, ledger.numbers);
        if numbers.object < used.object
            || numbers.message < used.message
            || numbers.folder < used.folder
            || numbers.epoch < used.epoch
        {
            wrong("would give numbers again that the log has used".to_owned());
        }
        Ok(())
    }

    fn count(&self, table: &str) -> Asked<u64> {
        let count: i64 =
            self.connection().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    fn compare_gateway_mailboxes(&self, ledger: &Ledger, wrong: &mut dyn FnMut(String)) -> Asked<()> {
        let mut select = self.connection().prepare("SELECT id, state, digest_key FROM gateway_mailbox")?;
        let row = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get(2)?));
        let rows: Vec<(Vec<u8>, String, Vec<u8>)> =
            select.query_map([], row)?.collect::<rusqlite::Result<_>>()?;
        let mut held: BTreeMap<&[u8], (&str, &[u8])> =
            rows.iter().map(|(id, state, key)| (id.as_slice(), (state.as_str(), key.as_slice()))).collect();
        let value = |gateway_mailbox: &GatewayMailbox| serde_json::to_value(gateway_mailbox).ok();
        for (id, (said, digest_key)) in &ledger.gateway_mailboxes {
            let Some((state, key)) = held.remove(id.as_bytes().as_slice()) else {
                wrong(format!("lacks gateway mailbox {}", said.login()));
                continue;
            };
            let state = serde_json::from_str::<GatewayMailbox>(state).ok();
            if key != digest_key.0 || state.and_then(|state| value(&state)) != value(said) {
                wrong(format!("has gateway mailbox {} otherwise than the log says", said.login()));
            }
        }
        for (id, _) in held {
            // Not what it is: there is an address in it that whoever knows it can send to.
            let id = <[u8; 16]>::try_from(id).map(|id| GatewayMailboxId::from_bytes(id).to_string());
            let id = id.unwrap_or_else(|_| "without a number".to_owned());
            wrong(format!("has gateway mailbox {id}, which is not in the log"));
        }
        Ok(())
    }

    fn compare_folders(&self, ledger: &Ledger, wrong: &mut dyn FnMut(String)) -> Asked<()> {
        let entries = "SELECT folder, count(*), sum(deleted_at IS NULL) FROM placement GROUP BY folder";
        let mut select = self.connection().prepare(entries)?;
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?)));
        let mut counts: BTreeMap<i64, (i64, i64)> =
            select.query_map([], row)?.collect::<rusqlite::Result<_>>()?;
        let columns = "SELECT id, gateway_mailbox, name, slug, uid_validity, uid_next, flag_changes, flagged, seen, marked_deleted
             FROM folder";
        let mut select = self.connection().prepare(columns)?;
        let mut rows = select.query([])?;
        let mut seen = std::collections::BTreeSet::new();
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let number = id.unsigned_abs();
            let Some(said) = ledger.folders.get(&number) else {
                wrong(format!("has folder {id}, which is not in the log"));
                continue;
            };
            seen.insert(number);
            let path = ledger.path_of(number);
            let mut is_same = row.get::<_, Vec<u8>>(1)? == said.gateway_mailbox.as_bytes()
                && row.get::<_, String>(2)? == said.name.key();
            if let Some(made) = &said.made {
                is_same &= row.get::<_, Option<String>>(3)? == made.slug
                    && row.get::<_, u32>(4)? == made.uid_validity.value();
            }
            if !is_same {
                wrong(format!("has folder {path} otherwise than the log says"));
            }
            if row.get::<_, i64>(5)? <= i64::from(said.uid_max) {
                wrong(format!("would give UIDs of {path} again that the log has used"));
            }
            let held = [row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?];
            said.flags.compare(&path, held.map(i64::unsigned_abs), wrong);
            let (placed, live) = counts.remove(&id).unwrap_or_default();
            if (placed.unsigned_abs(), live.unsigned_abs()) != (said.placed, said.live) {
                wrong(format!(
                    "has {placed} entries of {path}, {live} of them there now; the log says {}, {} there now",
                    said.placed, said.live
                ));
            }
        }
        for number in ledger.folders.keys().filter(|number| !seen.contains(number)) {
            wrong(format!("lacks folder {}", ledger.path_of(*number)));
        }
        for (id, (placed, _)) in counts {
            wrong(format!("has {placed} entries of folder {id}, which is not there"));
        }
        Ok(())
    }

    /// Adds every row to `rows`.
    pub(super) fn add_rows(&self, rows: &mut Rows) -> Asked<()> {
        for table in Table::ALL {
            let mut select = self.connection().prepare(table.select())?;
            let columns = select.column_count();
            let mut found = select.query([])?;
            while let Some(row) = found.next()? {
                let values =
                    (0..columns).map(|column| row.get_ref(column)).collect::<rusqlite::Result<Vec<_>>>()?;
                rows.held(table, &values);
            }
        }
        Ok(())
    }
}
