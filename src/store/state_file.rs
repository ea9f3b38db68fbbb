//! Small files of state beside the log: one JSON object each, which says its format version and carries its own check.
//!
//! ```json
//! {"content":{…},"sha256":"<64 hex digits>","v":1}
//! ```
//!
//! `sha256` is over `daybook state\n`, the version in decimal, a line feed, and `content` in canonical form: members sorted by
//! name, no blanks ([`canonical`]). It covers the version and will do so in every later one: a flipped bit is damage, and is
//! never taken for a newer program's file. Files as they were before (the content alone, no version) are read as well.

use super::Digest;
use super::files::{create_dir_durably, write_file_durably};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Format version of what is written; a newer one is refused.
pub const STATE_VERSION: u32 = 1;
/// A larger file is not one of these, in octets.
const STATE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// Why a state file cannot be used.
#[derive(Debug)]
pub enum StateError {
    /// There is none.
    Absent,
    /// It cannot be read now. The operator's to mend.
    Unreadable(io::Error),
    /// It is whole, and a newer version of Daybook wrote it.
    Newer(u32),
    /// It is not what was written.
    Damaged(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Absent => f.write_str("it is not there"),
            StateError::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            StateError::Newer(version) => write!(f, "format version {version} is newer than this program"),
            StateError::Damaged(why) => write!(f, "it is damaged: {why}"),
        }
    }
}

impl std::error::Error for StateError {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    content: Value,
    sha256: Digest,
    v: u32,
}

/// JSON with members sorted by name and without blanks: what hashes and signatures are made over.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn canonical(value: &Value) -> io::Result<Vec<u8>> {
    // The map type of a `Value` keeps its members sorted.
    Ok(serde_json::to_vec(value)?)
}

fn check(version: u32, content: &Value) -> io::Result<Digest> {
    let mut covered = format!("daybook state\n{version}\n").into_bytes();
    covered.extend(canonical(content)?);
    Ok(Digest::of(&covered))
}

/// The octets of a state file with this content.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn encode<T: Serialize>(content: &T) -> io::Result<Vec<u8>> {
    let content = serde_json::to_value(content)?;
    let sha256 = check(STATE_VERSION, &content)?;
    let mut octets = serde_json::to_vec(&Envelope { content, sha256, v: STATE_VERSION })?;
    octets.push(b'\n');
    Ok(octets)
}

/// The content of a state file.
///
/// # Errors
/// [`StateError::Newer`] and [`StateError::Damaged`].
pub fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, StateError> {
    let damaged = |error: serde_json::Error| StateError::Damaged(error.to_string());
    let value: Value = serde_json::from_slice(octets).map_err(damaged)?;
    let is_older = !["v", "sha256", "content"].iter().any(|name| value.get(name).is_some());
    if is_older {
        return serde_json::from_value(value).map_err(damaged);
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(damaged)?;
    let fits = check(envelope.v, &envelope.content).is_ok_and(|check| check == envelope.sha256);
    match envelope.v {
        _ if !fits => Err(StateError::Damaged("its hash does not match".to_owned())),
        version if version > STATE_VERSION => Err(StateError::Newer(version)),
        _ => serde_json::from_value(envelope.content).map_err(damaged),
    }
}

/// Reads a state file.
///
/// # Errors
/// See [`StateError`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, StateError> {
    let mut octets = Vec::new();
    match fs::File::open(path).and_then(|file| file.take(STATE_OCTETS_MAX).read_to_end(&mut octets)) {
        Ok(_) => decode(&octets),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StateError::Absent),
        Err(error) => Err(StateError::Unreadable(error)),
    }
}

/// Replaces a state file, owner-only, durably.
///
/// # Errors
/// The disk's.
pub fn write<T: Serialize>(path: &Path, content: &T) -> io::Result<()> {
    write_file_durably(path, &encode(content)?)
}

/// Makes a folder of state files and its missing parents, owner-only, durably.
///
/// # Errors
/// The disk's.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    create_dir_durably(dir)
}

/// Replaces a state file, owner-only, without a sync: for what may be lost in a power cut. One writer at a time.
///
/// # Errors
/// The disk's.
pub fn write_unsynced<T: Serialize>(path: &Path, content: &T) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let octets = encode(content)?;
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?.write_all(&octets)?;
    fs::rename(&new, path)
}

/// The first state file of a `data_dir` that a newer version of Daybook wrote, and that version: none of them is to be
/// replaced by what an older one makes of it.
pub(super) fn newer(data_dir: &Path) -> Option<(PathBuf, u32)> {
    let in_data_dir = fs::read_dir(data_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let states = in_data_dir
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .chain(["log/clean", "log/secured", super::checkpoint::KEY_FILE].map(|name| data_dir.join(name)));
    for path in states {
        if let Err(StateError::Newer(version)) = read::<Value>(&path) {
            return Some((path, version));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Content {
        name: String,
        number: u64,
    }

    fn content() -> Content {
        Content { name: "n".to_owned(), number: u64::MAX }
    }

    #[test]
    fn reads_what_it_wrote_and_what_was_written_before_there_were_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert!(matches!(read::<Content>(&path), Err(StateError::Absent)));
        write(&path, &content()).unwrap();
        assert_eq!(read::<Content>(&path).unwrap(), content());
        write_unsynced(&path, &content()).unwrap();
        assert_eq!(read::<Content>(&path).unwrap(), content());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(decode::<Content>(b"{\"number\":7,\"name\":\"old\"}").unwrap().number, 7);
    }

    #[test]
    fn every_flipped_bit_is_damage_and_none_makes_it_a_newer_file() {
        let whole = encode(&content()).unwrap();
        for at in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[at / 8] ^= 1 << (at % 8);
            match decode::<Content>(&bad) {
                Ok(read) => assert_eq!(read, content(), "a blank behind the end, or a hex digit in capitals"),
                Err(StateError::Damaged(_)) => {}
                Err(other) => panic!("bit {at}: {other}"),
            }
        }
    }

    #[test]
    fn a_newer_file_is_told_apart_from_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let content = serde_json::json!({"what": "nobody knows yet"});
        let newer_one = Envelope { sha256: check(2, &content).unwrap(), content, v: 2 };
        let octets = serde_json::to_vec(&newer_one).unwrap();
        let error = decode::<Content>(&octets).unwrap_err();
        assert!(matches!(error, StateError::Newer(2)));
        assert_eq!(error.to_string(), "format version 2 is newer than this program");
        assert_eq!(newer(dir.path()), None);
        fs::write(dir.path().join("x.json"), &octets).unwrap();
        assert_eq!(newer(dir.path()), Some((dir.path().join("x.json"), 2)));
    }
}
