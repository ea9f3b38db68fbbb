//! Reading messages back: sealed octets checked, decrypted, joined from their extents.

use super::embedded::Shared;
use super::index::ObjectPlace;
use super::log::{Octets, SegmentFile};
use super::seal::LacksKey;
use super::spool::ReadAt;
use super::stage::INLINE_OCTETS_MAX;
use super::{Digest, Keyring, StoreError, StoredExtent};
use aws_lc_rs::digest::{Context, SHA256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Octets hashed at a time.
const HASH_CHUNK_OCTETS: usize = 128 * 1024;

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
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
fn checked(shared: &Shared, object: u64) -> io::Result<Checked> {
    fetched(shared, object).map_err(|error| {
        let freed = shared.read(|index| index.is_freed(object));
        if freed.unwrap_or(false) { io::Error::other(StoreError::Gone) } else { error }
    })
}

/// Fetches an object's sealed octets and checks their length and hash.
///
/// A large file is read twice for it. `age` authenticates each of its chunks anyway, but not that it is this file: two of
/// the same length could have been swapped.
fn fetched(shared: &Shared, object: u64) -> io::Result<Checked> {
    let row =
        shared.read(|index| index.object(object)).map_err(|e| damaged(format!("object {object}: {e}")))?;
    match row.place {
        ObjectPlace::Log { segment, offset } => {
            let size = usize::try_from(row.sealed_octets).ok().filter(|n| *n as u64 <= INLINE_OCTETS_MAX * 2);
            let mut sealed =
                vec![0; size.ok_or_else(|| damaged(format!("object {object}: impossible size")))?];
            SegmentFile::open(&shared.log_dir(), segment)?.fill(&mut sealed, offset)?;
            if Digest::of(&sealed) != row.sealed_sha256 {
                return Err(damaged(format!(
                    "object {object} in log segment {segment} at {offset}: hash does not match"
                )));
            }
            Ok(Checked::Inline(sealed))
        }
        ObjectPlace::File(name) => {
            let file = File::open(shared.content_dir().join(&name))?;
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

/// Opens the octets of one extent.
fn open_extent(
    shared: &Shared,
    keyring: &Keyring,
    extent: &StoredExtent,
) -> io::Result<Box<dyn Read + Send>> {
    match checked(shared, extent.object)? {
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
    shared: Arc<Shared>,
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
        shared: Arc<Shared>,
        keyring: Keyring,
        opens_all: bool,
        extents: Vec<StoredExtent>,
        octets: u64,
        sha256: Option<Digest>,
    ) -> Result<MessageReader, StoreError> {
        let mut reader = MessageReader {
            shared,
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
                .try_for_each(|e| open_extent(&reader.shared, &reader.keyring, e).map(drop)),
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
            Some(extent) => Some(open_extent(&self.shared, &self.keyring, &extent)?),
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
