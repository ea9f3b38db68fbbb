//! Reading messages back: sealed octets checked, decrypted, joined from their extents.

use super::embedded::Shared;
use super::index::{ObjectPlace, ObjectRow};
use super::log::{Octets, SegmentFile};
use super::seal::LacksKey;
use super::spool::ReadAt;
use super::stage::INLINE_OCTETS_MAX;
use super::{Digest, Keyring, StoreError, StoredExtent};
use aws_lc_rs::digest::{Context, SHA256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

/// Octets hashed at a time.
const HASH_CHUNK_OCTETS: usize = 128 * 1024;

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What stored messages are read from: an open store, or a data directory as it lies there (reading.rs).
pub(super) trait Contents: Send + Sync {
    /// Where an object lies.
    fn object(&self, object: u64) -> Result<ObjectRow, StoreError>;
    /// True when its content is gone, or goes.
    fn is_freed(&self, object: u64) -> Result<bool, StoreError>;
    fn log_dir(&self) -> PathBuf;
    fn content_dir(&self) -> PathBuf;
}

impl Contents for Shared {
    fn object(&self, object: u64) -> Result<ObjectRow, StoreError> {
        self.read(|index| index.object(object))
    }

    fn is_freed(&self, object: u64) -> Result<bool, StoreError> {
        self.read(|index| index.is_freed(object))
    }

    fn log_dir(&self) -> PathBuf {
        Shared::log_dir(self)
    }

    fn content_dir(&self) -> PathBuf {
        Shared::content_dir(self)
    }
}

/// The sealed octets of an object, checked against its entry.
enum Checked {
    Inline(Vec<u8>),
    File(File),
}

/// What was to be read is freed: nobody could ask for it any more, but somebody had asked before.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
    matches!(inner, Some(StoreError::Gone))
}

/// Fetches an object's sealed octets, as [`fetched`] does; what is not as it was because it is freed is gone, and not damaged.
fn checked(contents: &dyn Contents, object: u64) -> io::Result<Checked> {
    fetched(contents, object).map_err(|error| {
        if contents.is_freed(object).unwrap_or(false) { io::Error::other(StoreError::Gone) } else { error }
    })
}

/// Fetches an object's sealed octets and checks their length and hash.
///
/// A large file is read twice for it. `age` authenticates each of its chunks anyway, but not that it is this file: two of
/// the same length could have been swapped.
fn fetched(contents: &dyn Contents, object: u64) -> io::Result<Checked> {
    let row = contents.object(object).map_err(|e| damaged(format!("object {object}: {e}")))?;
    match row.place {
        ObjectPlace::Log { segment, offset } => {
            let size = usize::try_from(row.sealed_octets).ok().filter(|n| *n as u64 <= INLINE_OCTETS_MAX * 2);
            let mut sealed =
                vec![0; size.ok_or_else(|| damaged(format!("object {object}: impossible size")))?];
            SegmentFile::open(&contents.log_dir(), segment)?.fill(&mut sealed, offset)?;
            if Digest::of(&sealed) != row.sealed_sha256 {
                return Err(damaged(format!(
                    "object {object} in log segment {segment} at {offset}: hash does not match"
                )));
            }
            Ok(Checked::Inline(sealed))
        }
        ObjectPlace::File(name) => {
            let file = File::open(contents.content_dir().join(&name))?;
            let mut context = Context::new(&SHA256);
            let mut octets = 0;
            let mut buffer = vec![0; HASH_CHUNK_OCTETS];
            let mut reader = ReadAt { file: &file, at: 0 };
            loop {
                let read = reader.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                octets += read as u64;
                context.update(buffer.get(..read).unwrap_or_default());
            }
            if octets != row.sealed_octets || Digest::from_ring(&context.finish()) != row.sealed_sha256 {
                return Err(damaged(format!(
                    "content file {name}: {octets} octets whose hash does not match"
                )));
            }
            Ok(Checked::File(file))
        }
    }
}

/// Checks that an object is there and unchanged.
pub(super) fn verify_object(shared: &Shared, object: u64) -> io::Result<()> {
    checked(shared, object).map(drop)
}

/// The sealed octets of an object, as they are stored. Nothing was found wrong with them when this returns.
pub(super) fn open_sealed(contents: &dyn Contents, object: u64) -> io::Result<Box<dyn Read + Send>> {
    Ok(match checked(contents, object)? {
        Checked::Inline(sealed) => Box::new(Cursor::new(sealed)),
        Checked::File(file) => Box::new(ReadAt { file, at: 0 }),
    })
}

/// Opens the octets of one extent.
fn open_extent(
    contents: &dyn Contents,
    keyring: &Keyring,
    extent: &StoredExtent,
) -> io::Result<Box<dyn Read + Send>> {
    match checked(contents, extent.object)? {
        Checked::Inline(sealed) => seek(keyring.open(Cursor::new(sealed))?, extent),
        Checked::File(file) => {
            seek(keyring.open(BufReader::with_capacity(128 * 1024, ReadAt { file, at: 0 }))?, extent)
        }
    }
}

fn seek<R: Read + Seek + Send + 'static>(
    mut reader: R,
    extent: &StoredExtent,
) -> io::Result<Box<dyn Read + Send>> {
    if extent.offset > 0 {
        reader.seek(SeekFrom::Start(extent.offset))?;
    }
    Ok(Box::new(reader.take(extent.octets)))
}

/// Reads a message from its extents, one after the other, and checks length and hash at its end.
pub(super) struct MessageReader {
    contents: Arc<dyn Contents>,
    keyring: Keyring,
    waiting: VecDeque<StoredExtent>,
    current: Option<Box<dyn Read + Send>>,
    left: u64,
    check: Option<(Context, Digest)>,
}

impl MessageReader {
    /// `opens_all`: the keyring holds every key there ever was.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the first extent cannot be opened; [`StoreError::Gone`] when it is freed;
    /// [`StoreError::LacksKey`].
    pub(super) fn open(
        contents: Arc<dyn Contents>,
        keyring: Keyring,
        opens_all: bool,
        extents: Vec<StoredExtent>,
        octets: u64,
        sha256: Option<Digest>,
    ) -> Result<MessageReader, StoreError> {
        let mut reader = MessageReader {
            contents,
            keyring,
            waiting: extents.into(),
            current: None,
            left: octets,
            check: sha256.map(|expected| (Context::new(&SHA256), expected)),
        };
        // A key that is lacking must show before anything is served, and each object has its own.
        let each = match opens_all {
            true => Ok(()),
            false => reader
                .waiting
                .iter()
                .skip(1)
                .try_for_each(|e| open_extent(&*reader.contents, &reader.keyring, e).map(drop)),
        };
        each.and_then(|()| reader.advance()).map_err(|e| match e.kind() {
            _ if is_gone(&e) => StoreError::Gone,
            _ if LacksKey::is_why(&e) => StoreError::LacksKey,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => {
                StoreError::Damaged(e.to_string())
            }
            _ => StoreError::io("opening a message", e),
        })?;
        Ok(reader)
    }

    fn advance(&mut self) -> io::Result<bool> {
        self.current = match self.waiting.pop_front() {
            None => None,
            Some(extent) => Some(open_extent(&*self.contents, &self.keyring, &extent)?),
        };
        Ok(self.current.is_some())
    }

    fn finish(&mut self) -> io::Result<usize> {
        if self.left > 0 {
            return Err(damaged(format!("message ends {} octets early", self.left)));
        }
        if let Some((context, expected)) = self.check.take()
            && Digest::from_ring(&context.finish()) != expected
        {
            return Err(damaged("message: hash of the received octets does not match".to_owned()));
        }
        Ok(0)
    }
}

impl Read for MessageReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(current) = self.current.as_mut() else { return self.finish() };
            let read = current.read(buffer)?;
            if read == 0 {
                if !self.advance()? {
                    return self.finish();
                }
                continue;
            }
            self.left = self
                .left
                .checked_sub(read as u64)
                .ok_or_else(|| damaged("message is longer than it was".to_owned()))?;
            if let Some((context, _)) = self.check.as_mut() {
                context.update(buffer.get(..read).unwrap_or_default());
            }
            return Ok(read);
        }
    }
}
