//! `manifest.jsonl`: what is in an export, one JSON object a line, in the order it came there.
//!
//! ```json
//! {"kind":"export","v":1,"format":"eml","gateway_mailbox":"…","name":"…","address":"…","begun_at":"…"}
//! {"kind":"folder","folder":"INBOX","path":"INBOX","uid_validity":1732190400}
//! {"kind":"message","folder":"INBOX","uid":1,"uid_validity":1732190400,"uidl":"1.673f1d40.1","receipt_id":"…",
//!  "message":1,"received_at":"…","octets":75000,"sha256":"…","path":"INBOX/0000000001-….eml","message_id":"<…>"}
//! {"kind":"run","begun_at":"…","ended_at":"…","folders":null,"since":null,"added":1,"messages":1, …}
//! ```
//!
//! Of an mbox, `path` is the file and `start` and `end` say which octets of it: from the line before the message to behind the
//! empty line. Of a sealed export, `extents` say which octets of which objects a message is, and each object has a line
//! `{"kind":"object","object":7,"path":"objects/7.age","octets":…,"sha256":…}` before; `sha256` of a message is there where it is
//! known without a key.
//!
//! A message that was deleted and brought back has another UID. It stands in an export once: the line of the new UID has `same_as`,
//! the UID of the line that tells where it is, and of an mbox only `path`.
//!
//! A line is written once what it tells of is durable, so an export that was broken off is one that has not come further: what
//! stands in the file behind the last whole line is cut off. A `run` ends each export that came to its end.

use super::place::Place;
use super::{ExportFormat, NotExported};
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::store::{Digest, MessageKey, StoredExtent};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

/// Its name in the directory that is exported to.
pub(super) const MANIFEST_FILE: &str = "manifest.jsonl";
/// Version of its lines.
pub(super) const MANIFEST_VERSION: u32 = 1;
/// How it begins.
const BEGINNING: &[u8] = b"{\"kind\":\"export\"";
/// Longest line, in octets: a run names at most a thousand messages that could not be exported.
const LINE_OCTETS_MAX: u64 = 4 * 1024 * 1024;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) v: u32,
    pub(super) format: ExportFormat,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) begun_at: Timestamp,
}

/// A folder that is exported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FolderLine {
    /// As clients see it.
    pub(super) folder: String,
    /// Its directory; of an mbox its file.
    pub(super) path: String,
    pub(super) uid_validity: u32,
    /// What `path` was made of.
    pub(super) parts: Vec<String>,
}

/// An object of a sealed export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ObjectLine {
    pub(super) object: u64,
    pub(super) path: String,
    /// Of the sealed octets.
    pub(super) octets: u64,
    /// Of the sealed octets.
    pub(super) sha256: Digest,
}

/// An exported message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MessageLine {
    pub(super) folder: String,
    pub(super) uid: u32,
    pub(super) uid_validity: u32,
    pub(super) uidl: String,
    pub(super) receipt_id: ReceiptId,
    /// The store's number of it: with the receipt, the same in every folder and under every UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<MessageKey>,
    /// The UID that it was exported under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) same_as: Option<u32>,
    pub(super) received_at: Timestamp,
    /// Of the message, opened.
    pub(super) octets: u64,
    /// Of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) extents: Vec<StoredExtent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
}

/// An export that came to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunLine {
    pub(super) begun_at: Timestamp,
    pub(super) ended_at: Timestamp,
    /// Who did it.
    pub(super) actor: String,
    /// All of them when absent.
    pub(super) folders: Option<Vec<String>>,
    pub(super) since: Option<Timestamp>,
    pub(super) added: u64,
    /// In the export now.
    pub(super) messages: u64,
    pub(super) deleted_since: u64,
    /// Messages found under another UID than before.
    #[serde(default)]
    pub(super) returned: u64,
    pub(super) gone: Vec<NotExported>,
    pub(super) damaged: Vec<NotExported>,
    #[serde(default)]
    pub(super) former_key: Vec<NotExported>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Line {
    Export(Header),
    Folder(FolderLine),
    Object(ObjectLine),
    Message(Box<MessageLine>),
    Run(Box<RunLine>),
}

/// A message as the manifest knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownMessage {
    pub(super) receipt_id: ReceiptId,
    pub(super) message: Option<MessageKey>,
    /// It is where the line of another UID says.
    pub(super) is_again: bool,
}

/// A folder as the manifest knows it.
#[derive(Debug)]
pub(super) struct KnownFolder {
    pub(super) path: String,
    pub(super) parts: Vec<String>,
    pub(super) uid_validity: u32,
    pub(super) uids: HashMap<u32, KnownMessage>,
    /// Messages, however many UIDs they had.
    pub(super) messages: u64,
    /// Of an mbox: where the last message ends.
    pub(super) end: u64,
}

/// What is in an export.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) header: Option<Header>,
    pub(super) folders: BTreeMap<String, KnownFolder>,
    /// Each with the hash of its sealed octets.
    pub(super) objects: HashMap<u64, Digest>,
    pub(super) messages: u64,
}

impl Known {
    pub(super) fn take(&mut self, line: &Line) {
        match line {
            Line::Export(header) => self.header = Some(header.clone()),
            Line::Folder(line) => {
                let FolderLine { folder, path, uid_validity, parts } = line.clone();
                let known =
                    KnownFolder { path, parts, uid_validity, uids: HashMap::new(), messages: 0, end: 0 };
                self.folders.entry(folder).or_insert(known);
            }
            Line::Object(line) => {
                self.objects.insert(line.object, line.sha256);
            }
            Line::Message(line) => {
                let is_again = line.same_as.is_some();
                self.messages += u64::from(!is_again);
                if let Some(folder) = self.folders.get_mut(&line.folder) {
                    let MessageLine { uid, receipt_id, message, .. } = **line;
                    folder.uids.insert(uid, KnownMessage { receipt_id, message, is_again });
                    folder.messages += u64::from(!is_again);
                    folder.end = folder.end.max(line.end.unwrap_or_default());
                }
            }
            Line::Run(_) => {}
        }
    }
}

/// Why a manifest is not used.
#[derive(Debug)]
pub(super) enum ManifestError {
    /// An export writes it, or somebody checks it.
    InUse,
    /// A whole line is none.
    Damaged(u64),
    /// It is somebody else's file.
    Foreign,
    /// It is of another export, which this says.
    Other(String),
    /// A newer version of Daybook wrote it.
    Newer(u32),
    Io(io::Error),
}

impl From<io::Error> for ManifestError {
    fn from(error: io::Error) -> ManifestError {
        ManifestError::Io(error)
    }
}

/// The manifest of an export that is written to.
#[derive(Debug)]
pub(super) struct Manifest {
    file: File,
    end: u64,
    pub(super) known: Known,
}

impl Manifest {
    /// Opens the manifest of this directory, for this export alone, and makes it if it is not there. What a broken off export
    /// left of a line is cut off.
    pub(super) fn open(place: &Place) -> Result<Manifest, ManifestError> {
        let file = place.edit(MANIFEST_FILE)?;
        lock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut known = Known::default();
        let end = read(&file, &mut |line| known.take(&line))?;
        (&file).seek(SeekFrom::Start(0))?;
        if known.header.is_none() && !is_begun(&file)? {
            return Err(ManifestError::Foreign);
        }
        if file.metadata()?.len() > end {
            file.set_len(end)?;
            file.sync_all()?;
        }
        Ok(Manifest { file, end, known })
    }

    /// Writes lines durably, all or, on an error, perhaps some.
    pub(super) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        (&self.file).seek(SeekFrom::Start(self.end))?;
        (&self.file).write_all(&text)?;
        self.file.sync_data()?;
        self.end += text.len() as u64;
        lines.iter().for_each(|line| self.known.take(line));
        Ok(())
    }
}

/// True for a file that may be the beginning of a first line.
fn is_begun(file: &File) -> io::Result<bool> {
    let mut beginning = Vec::new();
    file.take(BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    Ok(BEGINNING.starts_with(&beginning))
}

/// Opens a manifest to read it, beside no export.
pub(super) fn open_to_read(place: &Place) -> Result<File, ManifestError> {
    let file = place.read(MANIFEST_FILE)?;
    lock(&file, FlockOperation::NonBlockingLockShared)?;
    Ok(file)
}

fn lock(file: &File, operation: FlockOperation) -> Result<(), ManifestError> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ManifestError::InUse),
        Err(error) => Err(ManifestError::Io(error.into())),
    }
}

/// Hands every line on, and tells where the last whole one ends. Only behind that may anything stand that is none.
pub(super) fn read(file: &File, take: &mut dyn FnMut(Line)) -> Result<u64, ManifestError> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    reader.seek(SeekFrom::Start(0))?;
    let (mut end, mut at, mut number) = (0, 0, 0);
    let mut bad = None;
    let mut text = Vec::new();
    loop {
        text.clear();
        let octets = (&mut reader).take(LINE_OCTETS_MAX).read_until(b'\n', &mut text)?;
        if octets == 0 {
            return Ok(end);
        }
        at += octets as u64;
        number += 1;
        let line = text.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
        match (line, bad) {
            (Some(_), Some(bad)) => return Err(ManifestError::Damaged(bad)),
            (None, _) => bad = bad.or(Some(number)),
            (Some(Line::Export(header)), None) if header.v > MANIFEST_VERSION => {
                return Err(ManifestError::Newer(header.v));
            }
            // It has one beginning, and that is there.
            (Some(line), None) if matches!(line, Line::Export(_)) != (number == 1) => {
                return Err(ManifestError::Damaged(number));
            }
            (Some(line), None) => {
                take(line);
                end = at;
            }
        }
    }
}
