//! The index opened by who is not the server.
//!
//! It is read as it is, and nothing is written: without a server and with nothing left in its WAL not even the files beside it
//! that SQLite makes for readers, which might come to belong to another user than the server's.

use crate::store::index::{INDEX_VERSION, Index};
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for the server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an index is not opened.
pub(in crate::store) enum Unopenable {
    /// It is no index that a server could use.
    Damaged(String),
    /// Its WAL must be read, and what that makes would belong to somebody who is not its owner, this user.
    NotOurs(u32),
    /// It is of this version, and the next start makes it anew.
    Older(i64),
}

/// How an index is opened.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// As a file that nobody writes to: nothing is made beside it.
    AsItLies,
    /// With its WAL, which makes a file beside it, or uses the server's.
    WithWal,
    /// Its WAL must be read, and what that makes would belong to somebody who is not its owner.
    NotOurs,
}

impl Way {
    fn of(running: bool, wal_octets: u64, is_owner: bool) -> Way {
        match (running, wal_octets) {
            (false, 0) => Way::AsItLies,
            (false, _) if !is_owner => Way::NotOurs,
            _ => Way::WithWal,
        }
    }
}

/// Opens the index beside a running server, or as it lies there.
pub(in crate::store) fn open_index(data_dir: &Path, running: bool) -> Result<Index, Unopenable> {
    let damaged = |why: String| Unopenable::Damaged(why);
    let path = data_dir.join("index.sqlite");
    let owner = fs::metadata(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => damaged("is not there".to_owned()),
        _ => damaged(format!("cannot be read: {e}")),
    })?;
    let wal_octets = fs::metadata(data_dir.join("index.sqlite-wal")).map_or(0, |wal| wal.len());
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let is_owner = owner.uid() == rustix::process::geteuid().as_raw();
    let opened = match Way::of(running, wal_octets, is_owner) {
        Way::AsItLies => {
            flags |= OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(format!("file:{}?immutable=1", escaped(&path)), flags)
        }
        Way::WithWal => Connection::open_with_flags(&path, flags),
        Way::NotOurs => return Err(Unopenable::NotOurs(owner.uid())),
    };
    let prepare = |connection: &Connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
    };
    match opened.and_then(|connection| prepare(&connection).map(|version| (connection, version))) {
        Ok((connection, INDEX_VERSION)) => Ok(Index::reading(connection)),
        Ok((_, version)) if (1..INDEX_VERSION).contains(&version) => Err(Unopenable::Older(version)),
        Ok((_, version)) => {
            Err(damaged(format!("is of version {version}, which this program does not read")))
        }
        Err(e) => Err(damaged(format!("cannot be read: {e}"))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_whose_changes_only_its_owner_may_look_at_is_left_alone() {
        for (running, wal_octets, is_owner, expect) in [
            (false, 0, false, Way::AsItLies),
            (false, 0, true, Way::AsItLies),
            (false, 16_512, true, Way::WithWal),
            (false, 16_512, false, Way::NotOurs),
            (true, 16_512, false, Way::WithWal),
            (true, 0, true, Way::WithWal),
        ] {
            assert_eq!(Way::of(running, wal_octets, is_owner), expect, "{running} {wal_octets} {is_owner}");
        }
    }
}
