//! Signed checkpoints: what shows that the end of the log is still there.
//!
//! A hash chain proves that nothing in the middle of the log was changed; it cannot prove that nothing is missing at the end.
//! So every few seconds in which something was stored, a line is written that says how far the log had come, signed with an
//! Ed25519 key of this store: to `checkpoints.jsonl` in `data_dir`, to a folder elsewhere if one is configured, and to the log
//! file (witness.rs). Who holds such a line can tell whether a log that is shown to him ends before it, or says something else
//! there.
//!
//! One line, one JSON object:
//!
//! ```json
//! {"checkpoint":{"at":"2026-11-21T16:40:00.000Z","chain":"<64 hex>","key":"<64 hex>","offset":7212,"segment":3,"sequence":41,"v":1},"signature":"<128 hex>"}
//! ```
//!
//! - `sequence`: number of the last group that was durable, over all segments; `chain`: the chain hash behind its last frame
//!   (format.rs). These two say which log it is. `segment` and `offset`: where that group ended then; a start after a crash may
//!   have copied it into a later segment.
//! - `key`: the public key; `previous_key`, where there is one: the key before it, which was lost.
//! - `signature`: Ed25519 (RFC 8032) over `daybook checkpoint\n` and the value of `checkpoint` in canonical form: members sorted by
//!   name, no blanks, UTF-8. So it is in every version.
//!
//! Anyone can check it with the public key and a few lines of Python:
//!
//! ```python
//! import json, sys
//! from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
//! public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(sys.argv[1]))
//! for line in sys.stdin:
//!     said = json.loads(line)
//!     octets = json.dumps(said["checkpoint"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
//!     public.verify(bytes.fromhex(said["signature"]), b"daybook checkpoint\n" + octets)  # raises if forged
//!     print(said["checkpoint"]["sequence"], said["checkpoint"]["chain"])
//! ```
//!
//! A later line outweighs an earlier one. Which keys count: the one in `keys/checkpoint.key`, and those that its lines name as
//! previous ones ([`trusted`]). Who can write to `data_dir` can make another key, and sign another log with it: that shows only to
//! one who remembers the public key ([`Pinned`]), or keeps the lines elsewhere and finds none of the key that signs now.

mod key;
mod loss;
mod outside;
mod restored;
mod witness;

pub(super) use loss::{Gap, LOSS_PLACE, Losses};
pub use outside::try_checkpoint_dir;
pub(super) use restored::{carry_over, note_missing_end, sign_anew};
pub use witness::CheckpointStatus;
pub(super) use witness::Witness;

use super::files::sync_dir;
use super::log::Position;
use super::state_file::canonical;
use super::{Digest, StoreError};
use crate::mail::Timestamp;
use crate::observe::metrics::{self, CheckpointPlace};
use crate::observe::now;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Version of a checkpoint; a newer one is refused.
pub(super) const CHECKPOINT_VERSION: u32 = 1;
/// Where checkpoints are kept in `data_dir`.
pub(super) const CHECKPOINTS_FILE: &str = "checkpoints.jsonl";
/// Where those before them are, once the file was full.
pub(super) const CHECKPOINTS_BEFORE_FILE: &str = "checkpoints.1.jsonl";
/// Where the signing key is, in `data_dir`.
pub(super) const KEY_FILE: &str = "keys/checkpoint.key";
/// What is signed begins with this, so that no signature over anything else counts here.
const DOMAIN: &[u8] = b"daybook checkpoint\n";
/// DER of an Ed25519 SubjectPublicKeyInfo up to the key (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Octets of a key that stand in the name of its files outside.
const NAME_OCTETS: usize = 8;
/// Most that is read of one file of checkpoints, in octets: its end.
const READ_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Enough of a file's end to find its newest checkpoints in, in octets.
const TAIL_OCTETS: u64 = 64 * 1024;

/// An Ed25519 public key; written in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(pub Digest);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PublicKey {
    type Err = String;

    /// From 64 hex digits. What else it is is the asker's fault.
    fn from_str(text: &str) -> Result<PublicKey, String> {
        let octets = from_hex(text).and_then(|octets| octets.try_into().ok());
        octets
            .map(|octets| PublicKey(Digest(octets)))
            .ok_or_else(|| "a public key is 64 hex digits".to_owned())
    }
}

impl PublicKey {
    /// As `openssl` reads it: `openssl pkeyutl -verify -pubin -inkey FILE -rawin`.
    pub fn pem(&self) -> String {
        let der = [&SPKI[..], &self.0.0].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    /// The name of its files outside of `data_dir`, without an ending.
    pub fn file_stem(&self) -> String {
        format!("daybook-{}", hex(self.0.0.get(..NAME_OCTETS).unwrap_or_default()))
    }
}

/// How far the log had come at some time, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Format version.
    pub v: u32,
    /// When it was signed.
    pub at: Timestamp,
    /// What signed it.
    pub key: PublicKey,
    /// The key before, if that was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_key: Option<PublicKey>,
    /// The log segment that was written to.
    pub segment: u64,
    /// Octets of it that counted.
    pub offset: u64,
    /// Number of the last group.
    pub sequence: u64,
    /// The chain hash behind it.
    pub chain: Digest,
}

#[derive(Serialize, Deserialize)]
struct Line {
    checkpoint: Value,
    signature: String,
}

/// Why a line is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// It is not of that form.
    NotOne(String),
    /// It ends before it should, as what a crash or a full disk left of a line does.
    CutOff(String),
    /// The signature does not fit what it says.
    Forged,
    /// It is signed by a key that is not this store's.
    Stranger(PublicKey),
    /// It is whole, and a newer version of Daybook wrote it.
    Newer(u32),
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::NotOne(why) | CheckpointError::CutOff(why) => {
                write!(f, "not a checkpoint: {why}")
            }
            CheckpointError::Forged => f.write_str("its signature does not fit what it says"),
            CheckpointError::Stranger(key) => write!(f, "signed by {key}, which is no key of this store"),
            CheckpointError::Newer(version) => {
                write!(f, "format version {version} is newer than this program")
            }
        }
    }
}

impl std::error::Error for CheckpointError {}

fn signed_octets(checkpoint: &Value) -> io::Result<Vec<u8>> {
    Ok([DOMAIN, &canonical(checkpoint)?].concat())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: &u8| char::from(*c).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

impl Checkpoint {
    /// The checkpoint of a line, if its signature fits the key it names. Whether that is the right key is for the caller to
    /// say.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn read(line: &str) -> Result<Checkpoint, CheckpointError> {
        let not_one = |error: serde_json::Error| CheckpointError::NotOne(error.to_string());
        let line: Line = serde_json::from_str(line).map_err(|error| match error.is_eof() {
            true => CheckpointError::CutOff(error.to_string()),
            false => not_one(error),
        })?;
        let member = |name: &str| line.checkpoint.get(name).cloned().unwrap_or_default();
        let key: PublicKey = serde_json::from_value(member("key")).map_err(not_one)?;
        let octets = signed_octets(&line.checkpoint).map_err(|_| CheckpointError::Forged)?;
        let signature = from_hex(&line.signature).ok_or(CheckpointError::Forged)?;
        UnparsedPublicKey::new(&ED25519, key.0.0)
            .verify(&octets, &signature)
            .map_err(|_| CheckpointError::Forged)?;
        let version: u32 = serde_json::from_value(member("v")).map_err(not_one)?;
        if version > CHECKPOINT_VERSION {
            return Err(CheckpointError::Newer(version));
        }
        serde_json::from_value(line.checkpoint).map_err(not_one)
    }

    /// The log position it speaks of.
    pub(super) fn position(&self) -> Position {
        Position { segment: self.segment, offset: self.offset, chain: self.chain, sequence: self.sequence }
    }
}

/// The key that signs.
pub(super) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// From 32 random octets; `None` if that is no key.
    pub(super) fn from_seed(seed: &[u8; 32]) -> Option<SigningKey> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().map(SigningKey)
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(Digest(self.0.public_key().as_ref().try_into().unwrap_or([0; 32])))
    }

    /// The line for a checkpoint, without a line feed.
    pub(super) fn sign(&self, checkpoint: &Checkpoint) -> io::Result<String> {
        let checkpoint = serde_json::to_value(checkpoint)?;
        let signature = self.0.try_sign(&signed_octets(&checkpoint)?).map_err(io::Error::other)?;
        Ok(serde_json::to_string(&Line { checkpoint, signature: hex(signature.as_ref()) })?)
    }
}

/// What stands in files of checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Those that count, in the order they were written.
    pub trusted: Vec<Checkpoint>,
    /// Lines that do not, named, and why.
    pub refused: Vec<(String, CheckpointError)>,
    /// Octets among them that are no line, with lines that count behind them in the file: a crash, or a full disk, cut off what
    /// was written again then.
    pub cut_off: Vec<(String, CheckpointError)>,
}

/// A public key that somebody remembers as the store's.
///
/// Lines of it count, those of keys before it, and those of keys that say they came after it: these say so themselves, so they
/// add to what the remembered key has signed, and never replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pinned(pub(super) PublicKey);

impl Checkpoints {
    /// The one that reaches furthest.
    pub fn newest(&self) -> Option<&Checkpoint> {
        self.trusted.iter().max_by_key(|checkpoint| checkpoint.sequence)
    }

    /// The keys of lines that are somebody else's.
    pub(super) fn strangers(&self) -> BTreeSet<PublicKey> {
        let key = |(_, error): &(String, CheckpointError)| match error {
            CheckpointError::Stranger(key) => Some(*key),
            _ => None,
        };
        self.refused.iter().filter_map(key).collect()
    }

    /// The version of the newest line that only a newer program reads.
    pub(super) fn newer(&self) -> Option<u32> {
        let version = |(_, error): &(String, CheckpointError)| match error {
            CheckpointError::Newer(version) => Some(*version),
            _ => None,
        };
        self.refused.iter().filter_map(version).max()
    }
}

/// Reads the checkpoints kept in a `data_dir`, with and without a running server: all that its two files hold, those signed by
/// this store's key and the keys before it.
///
/// # Errors
/// [`StoreError::Io`] when a file is there and cannot be read.
pub fn checkpoints(data_dir: &Path) -> Result<Checkpoints, StoreError> {
    let files = [data_dir.join(CHECKPOINTS_BEFORE_FILE), data_dir.join(CHECKPOINTS_FILE)];
    read_files(&files, &key::public_keys(data_dir), READ_OCTETS_MAX)
        .map_err(|e| StoreError::io("reading checkpoints", e))
}

/// The same, of a store whose key is known not from its `data_dir`.
///
/// # Errors
/// As [`checkpoints`].
pub(super) fn checkpoints_of(data_dir: &Path, pinned: Pinned) -> Result<Checkpoints, StoreError> {
    let files = [data_dir.join(CHECKPOINTS_BEFORE_FILE), data_dir.join(CHECKPOINTS_FILE)];
    read_pinned(&files, pinned).map_err(|e| StoreError::io("reading checkpoints", e))
}

/// The key that the store in `data_dir` signs with now, if that can be told.
pub(super) fn signing_key(data_dir: &Path) -> Option<PublicKey> {
    key::public_keys(data_dir).first().copied()
}

/// Reads the checkpoints in `path`, a file of them or a folder as outside ones are kept in, of the store in `data_dir`: `keys` are
/// known to be its too, unless one is pinned. Of a folder all files are read when no key is known, one is pinned, or there are
/// none of the keys that are known: others may share it, but it was to hold some of this store.
///
/// # Errors
/// [`StoreError::Io`] when it is not there or cannot be read.
pub(super) fn checkpoints_at(
    data_dir: &Path,
    path: &Path,
    keys: &[PublicKey],
    pinned: Option<Pinned>,
) -> Result<Checkpoints, StoreError> {
    let fail = |e| StoreError::io("reading checkpoints outside of data_dir", e);
    let mut known = key::public_keys(data_dir);
    known.extend(keys.iter().filter(|key| !known.contains(key)).copied().collect::<BTreeSet<_>>());
    let mut files = vec![path.to_owned()];
    if std::fs::metadata(path).map_err(fail)?.is_dir() {
        let stems: Vec<String> = known.iter().map(PublicKey::file_stem).collect();
        files.clear();
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            if name.starts_with("daybook-") && name.ends_with(".jsonl") {
                files.push(path.join(name));
            }
        }
        // `.1.jsonl`, which is older, stands before `.jsonl`.
        files.sort_unstable();
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            stems.iter().any(|stem| name.starts_with(stem))
        };
        if pinned.is_none() && files.iter().any(is_ours) {
            files.retain(is_ours);
        }
    }
    match pinned {
        Some(pinned) => {
            let mut read = read_pinned(&files, pinned).map_err(fail)?;
            if !read.trusted.is_empty() {
                // Others may share the folder.
                read.refused.retain(|(_, error)| !matches!(error, CheckpointError::Stranger(_)));
            }
            Ok(read)
        }
        None => read_files(&files, &known, READ_OCTETS_MAX).map_err(fail),
    }
}

fn read_pinned(files: &[PathBuf], Pinned(key): Pinned) -> io::Result<Checkpoints> {
    let lines = read_lines(files, READ_OCTETS_MAX)?;
    let mut keys = BTreeSet::from([key]);
    loop {
        let follows = |checkpoint: &&Checkpoint| {
            !keys.contains(&checkpoint.key) && checkpoint.previous_key.is_some_and(|key| keys.contains(&key))
        };
        let next: Vec<PublicKey> = lines
            .whole
            .iter()
            .map(|(_, checkpoint)| checkpoint)
            .filter(follows)
            .map(|found| found.key)
            .collect();
        if next.is_empty() {
            break;
        }
        keys.extend(next);
    }
    Ok(trusted(lines, &keys.into_iter().collect::<Vec<_>>()))
}

/// The last `octets` of each of these files, oldest first. A file that is not there holds nothing.
fn read_files(files: &[PathBuf], keys: &[PublicKey], octets: u64) -> io::Result<Checkpoints> {
    Ok(trusted(read_lines(files, octets)?, keys))
}

/// What files of checkpoints hold: where each line stands, and what it is.
struct Lines {
    whole: Vec<(Place, Checkpoint)>,
    bad: Vec<(Place, CheckpointError)>,
}

fn read_lines(files: &[PathBuf], octets: u64) -> io::Result<Lines> {
    let mut all = Vec::new();
    let mut refused = Vec::new();
    for (number, path) in files.iter().enumerate() {
        let (mut at, end) = match tail(path, octets) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        };
        let is_cut = at > 0;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        for (index, line) in end.split_inclusive(|octet| *octet == b'\n').enumerate() {
            let name = Place { file: number, at, name: format!("{file} at {at}") };
            at += line.len() as u64;
            // What has no line feed behind it was cut off by a crash while it was written.
            let Some(line) = line.strip_suffix(b"\n") else { break };
            if line.is_empty() || is_cut && index == 0 {
                continue;
            }
            match Checkpoint::read(&String::from_utf8_lossy(line)) {
                Ok(checkpoint) => all.push((name, checkpoint)),
                Err(error) => refused.push((name, error)),
            }
        }
    }
    Ok(Lines { whole: all, bad: refused })
}

/// Where a line stands.
struct Place {
    /// Number of the file among those that are read.
    file: usize,
    at: u64,
    /// Both, for people.
    name: String,
}

/// The end of a file, and where it begins.
fn tail(path: &Path, octets: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(octets);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(octets).read_to_end(&mut end)?;
    Ok((from, end))
}

/// Keeps those signed by one of `keys`, or by one that a later line names as the key before; without any, the newest line's
/// key is taken for ours.
fn trusted(Lines { whole: all, bad }: Lines, keys: &[PublicKey]) -> Checkpoints {
    let mut keys: BTreeSet<PublicKey> = keys.iter().copied().collect();
    if keys.is_empty() {
        keys.extend(all.last().map(|(_, checkpoint)| checkpoint.key));
    }
    let (mut trusted, mut strange) = (Vec::new(), Vec::new());
    let mut last_good = BTreeMap::new();
    for (place, checkpoint) in all.into_iter().rev() {
        if keys.contains(&checkpoint.key) {
            keys.extend(checkpoint.previous_key);
            last_good.entry(place.file).or_insert(place.at);
            trusted.push(checkpoint);
        } else {
            strange.push((place.name, CheckpointError::Stranger(checkpoint.key)));
        }
    }
    trusted.reverse();
    let (mut refused, mut cut_off) = (Vec::new(), Vec::new());
    for (place, error) in bad {
        let is_cut_off = matches!(error, CheckpointError::CutOff(_))
            && last_good.get(&place.file).is_some_and(|good| *good > place.at);
        let into = if is_cut_off { &mut cut_off } else { &mut refused };
        into.push((place.name, error));
    }
    refused.append(&mut strange);
    Checkpoints { trusted, refused, cut_off }
}

/// Since when something fails, and why.
#[derive(Clone, Debug, Default)]
struct Trouble(Option<(Timestamp, String)>);

impl Trouble {
    /// Counted each time, told when it begins.
    fn begins(&mut self, place: CheckpointPlace, error: &str) {
        metrics::store_checkpoint_failed(place);
        if self.0.is_none() {
            tracing::error!(event = "store.checkpoint_not_kept", place = place.as_str(), error);
        }
        let since = self.0.as_ref().map_or_else(now, |(since, _)| *since);
        self.0 = Some((since, error.to_owned()));
    }

    fn ends(&mut self, place: CheckpointPlace) {
        if self.0.take().is_some() {
            tracing::info!(event = "store.checkpoint_kept", place = place.as_str());
        }
    }
}

/// Appends a line, durably. A file that has reached `octets_max` becomes `before`, in whose place it comes.
fn append(path: &Path, before: &Path, line: &str, octets_max: u64, mode: u32) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() >= octets_max) {
        std::fs::rename(path, before)?;
    }
    let is_new = !path.exists();
    // Opened anew each time: after a failed sync an old handle would say that all is well.
    let mut file = File::options().create(true).read(true).append(true).mode(mode).open(path)?;
    let mut text = format!("{line}\n");
    if !end_is_whole(&mut file)? {
        text.insert(0, '\n');
    }
    let octets = file.metadata()?.len();
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_data()) {
        // What a full disk cut off is no line. Should this fail too, the next one cuts it.
        file.set_len(octets).ok();
        return Err(error);
    }
    if is_new {
        sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    }
    Ok(())
}

/// Cuts off what a crash left behind the last line feed: it never was durable as a line. False when it stays, and a line feed
/// must end it: it is a checkpoint all the same, or longer than any.
fn end_is_whole(file: &mut File) -> io::Result<bool> {
    let octets = file.metadata()?.len();
    let from = octets.saturating_sub(TAIL_OCTETS);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    Read::by_ref(file).take(TAIL_OCTETS).read_to_end(&mut end)?;
    if end.last().is_none_or(|last| *last == b'\n') {
        return Ok(true);
    }
    let line = match end.iter().rposition(|octet| *octet == b'\n') {
        Some(at) => at + 1,
        None if from == 0 => 0,
        None => return Ok(false),
    };
    if Checkpoint::read(&String::from_utf8_lossy(end.get(line..).unwrap_or_default())).is_ok() {
        return Ok(false);
    }
    file.set_len(from + line as u64)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
