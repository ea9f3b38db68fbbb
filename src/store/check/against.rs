//! The index, held against what the log says.
//!
//! It is read as it is, and nothing is written: without a server and with nothing left in its WAL not even the files beside it
//! that SQLite makes for readers, which might come to belong to another user than the server's.

use super::ledger::Ledger;
use super::report::FindingKind;
use super::rows::{Rows, Table};
use super::taking::Findings;
use crate::mail::GatewayMailbox;
use crate::store::fact::FACT_VERSION_MAX;
use crate::store::index::{Making, Numbers};
use crate::store::log::Position;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for the server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// What is wrong with SQLite's own structures: so many are told.
const INTEGRITY_TOLD: usize = 20;

/// The index, open for reading.
pub(super) struct Against {
    connection: Connection,
}

type Asked<T> = rusqlite::Result<T>;

impl Against {
    /// Opens the index beside a running server, or as it lies there. Gives why that cannot be done.
    pub(super) fn open(data_dir: &Path, running: bool) -> Result<Against, String> {
        let path = data_dir.join("index.sqlite");
        let owner = fs::metadata(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => "is not there".to_owned(),
            _ => format!("cannot be read: {e}"),
        })?;
        let wal = data_dir.join("index.sqlite-wal");
        let is_settled = !running && fs::metadata(wal).map_or(true, |wal| wal.len() == 0);
        let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = if is_settled {
            flags |= OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(format!("file:{}?immutable=1", escaped(&path)), flags)
        } else if !running && owner.uid() != rustix::process::geteuid().as_raw() {
            let why = "has changes that only its owner can look at: run this as that user, user";
            return Err(format!("{why} {}", owner.uid()));
        } else {
            Connection::open_with_flags(&path, flags)
        };
        let prepare = |connection: &Connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        };
        match opened.and_then(|connection| prepare(&connection).map(|version| (connection, version))) {
            Ok((_, version)) if !(1..=i64::from(FACT_VERSION_MAX)).contains(&version) => {
                Err(format!("is of version {version}, which this program does not read"))
            }
            Ok((connection, _)) => Ok(Against { connection }),
            Err(e) => Err(format!("cannot be read: {e}")),
        }
    }

    /// From now on it stays as it is, whatever a server writes.
    pub(super) fn hold(&self) -> Asked<()> {
        self.connection.execute_batch("BEGIN")
    }

    /// How far of the log it holds; none while it is being made anew.
    pub(super) fn position(&self) -> Asked<Option<Position>> {
        if self.meta::<Making>("making")? != Some(Making::Done) {
            return Ok(None);
        }
        Ok(self.meta::<Option<Position>>("position")?.flatten())
    }

    /// What the index says of itself. It may say a check of it before it, with a blank between.
    fn meta<T: DeserializeOwned>(&self, key: &str) -> Asked<Option<T>> {
        let select = "SELECT value FROM meta WHERE key = ?";
        let text: Option<String> = self.connection.query_row(select, [key], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| {
            let behind = text.split_once(' ').map_or("", |(_, behind)| behind);
            serde_json::from_str(&text).or_else(|_| serde_json::from_str(behind)).ok()
        }))
    }

    /// SQLite's own look at its file.
    pub(super) fn integrity(&self, findings: &mut Findings) -> Asked<()> {
        let mut check = self.connection.prepare(&format!("PRAGMA integrity_check({INTEGRITY_TOLD})"))?;
        let told: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<Asked<_>>()?;
        for what in told.into_iter().filter(|what| what != "ok") {
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
        ] {
            let held = self.count(table)?;
            if held != said {
                wrong(format!("has {held} rows of table {table}, the log says {said}"));
            }
        }
        let (numbers, used) = (self.meta::<Numbers>("numbers")?.unwrap_or_default(), ledger.numbers);
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
            self.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    fn compare_gateway_mailboxes(&self, ledger: &Ledger, wrong: &mut dyn FnMut(String)) -> Asked<()> {
        let mut select = self.connection.prepare("SELECT id, state, digest_key FROM gateway_mailbox")?;
        let row = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get(2)?));
        let rows: Vec<(Vec<u8>, String, Vec<u8>)> = select.query_map([], row)?.collect::<Asked<_>>()?;
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
        for (_, (state, _)) in held {
            wrong(format!("has a gateway mailbox that is not in the log: {state}"));
        }
        Ok(())
    }

    fn compare_folders(&self, ledger: &Ledger, wrong: &mut dyn FnMut(String)) -> Asked<()> {
        let entries = "SELECT folder, count(*), sum(deleted_at IS NULL) FROM placement GROUP BY folder";
        let mut select = self.connection.prepare(entries)?;
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?)));
        let mut counts: BTreeMap<i64, (i64, i64)> = select.query_map([], row)?.collect::<Asked<_>>()?;
        let columns = "SELECT id, gateway_mailbox, name, slug, uid_validity, uid_next FROM folder";
        let mut select = self.connection.prepare(columns)?;
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
            let mut select = self.connection.prepare(table.select())?;
            let columns = select.column_count();
            let mut found = select.query([])?;
            while let Some(row) = found.next()? {
                let values = (0..columns).map(|column| row.get_ref(column)).collect::<Asked<Vec<_>>>()?;
                rows.held(table, &values);
            }
        }
        Ok(())
    }
}

/// A path as part of a URI.
fn escaped(path: &Path) -> String {
    let octets = path.as_os_str().as_encoded_bytes();
    octets.iter().fold(String::new(), |mut text, octet| {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                text.push(char::from(*octet));
            }
            other => text.push_str(&format!("%{other:02x}")),
        }
        text
    })
}
