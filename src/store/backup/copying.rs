//! Octets from one file to another: durable, and with holes where there are holes.

use super::report::BackupProgress;
use crate::store::StoreError;
use crate::store::files::{create_dir_durably, sync_dir};
use crate::store::log::{Sectors, SegmentFile, read_over};
use rustix::fs::{SeekFrom as Extent, seek};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Octets copied at a time.
const CHUNK_OCTETS: usize = 1024 * 1024;

/// What became of a file.
pub(super) enum Copied {
    /// It is there already.
    WasThere,
    Whole,
    /// Some of it cannot be read: why. Zeros stand there.
    InPart(String),
}

/// Copies, and tells how far it is.
pub(super) struct Copier<'p> {
    progress: &'p mut dyn FnMut(&BackupProgress),
    so_far: BackupProgress,
    chunk: Vec<u8>,
    /// Octets that were written, without holes.
    pub(super) written: u64,
}

impl<'p> Copier<'p> {
    pub(super) fn new(progress: &'p mut dyn FnMut(&BackupProgress)) -> Copier<'p> {
        Copier { progress, so_far: BackupProgress::default(), chunk: vec![0; CHUNK_OCTETS], written: 0 }
    }

    /// So much more is to be copied.
    pub(super) fn expect(&mut self, octets: u64) {
        self.so_far.octets_total = self.so_far.octets_total.saturating_add(octets);
        (self.progress)(&self.so_far);
    }

    /// So much was dealt with.
    pub(super) fn advance(&mut self, octets: u64) {
        self.so_far.octets = self.so_far.octets.saturating_add(octets);
        self.so_far.octets_total = self.so_far.octets_total.max(self.so_far.octets);
        (self.progress)(&self.so_far);
    }

    /// Copies the octets from `from` to `end` of a file to the same place of another, which ends there then, durably. Gives why some
    /// could not be read, where zeros stand now.
    pub(super) fn range(
        &mut self,
        source: &Path,
        target: &Path,
        from: u64,
        end: u64,
    ) -> Result<Option<String>, StoreError> {
        let reading = |e| StoreError::io("reading what is to be copied", e);
        let writing = |e| StoreError::io("writing a copy", e);
        let source = File::open(source).map_err(reading)?;
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let target = options.open(target).map_err(writing)?;
        // What stood there before must not shine through a hole.
        target.set_len(from).map_err(writing)?;
        let mut unreadable = None;
        let mut at = from;
        while let Some((data, hole)) = next_data(&source, at, end).map_err(reading)? {
            self.advance(data - at);
            at = data;
            let mut octets = Sectors::new(&source, end);
            octets.seek(SeekFrom::Start(at)).map_err(reading)?;
            while at < hole {
                let wanted = usize::try_from(hole - at).unwrap_or(usize::MAX).min(self.chunk.len());
                let Some(chunk) = self.chunk.get_mut(..wanted) else { break };
                let read = octets.read(chunk).map_err(reading)?;
                if read == 0 {
                    // It was shortened meanwhile: what is there was copied.
                    break;
                }
                if let Some(why) = octets.unreadable_in(at, at + read as u64) {
                    unreadable.get_or_insert_with(|| format!("octets from {at} on cannot be read: {why}"));
                }
                let chunk = chunk.get(..read).unwrap_or_default();
                target.write_all_at(chunk, at).map_err(writing)?;
                at += read as u64;
                self.written += read as u64;
                self.advance(read as u64);
            }
            if at < hole {
                break;
            }
        }
        target.set_len(end).and_then(|()| target.sync_all()).map_err(writing)?;
        Ok(unreadable)
    }

    /// Copies the octets of a segment that gave way to its entries, from `from` to `end`, to where they stood in the `.seg` that a
    /// copy still has. Payloads, which are freed, are zeros. Gives why some could not be read.
    pub(super) fn logical(
        &mut self,
        source: &SegmentFile,
        target: &Path,
        from: u64,
        end: u64,
    ) -> Result<Option<String>, StoreError> {
        let writing = |e| StoreError::io("writing a copy", e);
        let mut options = File::options();
        options.create(true).truncate(false).write(true).mode(0o600);
        let target = options.open(target).map_err(writing)?;
        let (mut at, mut unreadable) = (from, None);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.chunk.len());
            let Some(chunk) = self.chunk.get_mut(..wanted) else { break };
            let why = read_over(source, chunk, at)
                .map_err(|e| StoreError::io("reading what is to be copied", e))?;
            if let Some(why) = why {
                unreadable.get_or_insert_with(|| format!("octets from {at} on cannot be read: {why}"));
            }
            target.write_all_at(chunk, at).map_err(writing)?;
            at += wanted as u64;
            self.written += wanted as u64;
            self.advance(wanted as u64);
        }
        target.set_len(end).and_then(|()| target.sync_all()).map_err(writing)?;
        Ok(unreadable)
    }

    /// Copies a file that is never changed: under another name first, so that it is there whole or not at all. The folder it lies in
    /// is for the caller to sync.
    pub(super) fn whole(&mut self, source: &Path, target: &Path) -> Result<Copied, StoreError> {
        let octets = octets_of(source)?;
        if fs::metadata(target).is_ok_and(|there| there.len() == octets) {
            self.expect(octets);
            self.advance(octets);
            return Ok(Copied::WasThere);
        }
        self.anew(source, target)
    }

    /// The same of a file that may be another than the one that was copied before. A good copy of one that cannot be read any more
    /// stays.
    pub(super) fn compared(&mut self, source: &Path, target: &Path) -> Result<Copied, StoreError> {
        let octets = octets_of(source)?;
        match is_same(source, target) {
            Ok(true) => Ok(Copied::WasThere),
            Err(error) if fs::metadata(target).is_ok_and(|there| there.len() == octets) => {
                Ok(Copied::InPart(format!("cannot be read: {error}; the copy made before is kept")))
            }
            _ => self.anew(source, target),
        }
    }

    fn anew(&mut self, source: &Path, target: &Path) -> Result<Copied, StoreError> {
        let octets = octets_of(source)?;
        self.expect(octets);
        if let Some(dir) = target.parent() {
            create_dir_durably(dir).map_err(|e| StoreError::io("making a folder of a copy", e))?;
        }
        let new = target.with_extension("copying");
        let unreadable = self.range(source, &new, 0, octets)?;
        fs::rename(&new, target).map_err(|e| StoreError::io("writing a copy", e))?;
        Ok(unreadable.map_or(Copied::Whole, Copied::InPart))
    }
}

fn octets_of(source: &Path) -> Result<u64, StoreError> {
    let found = fs::metadata(source).map_err(|e| StoreError::io("reading what is to be copied", e))?;
    Ok(found.len())
}

/// Whether a copy is there and has the same octets.
///
/// # Errors
/// The source cannot be read.
fn is_same(source: &Path, copy: &Path) -> io::Result<bool> {
    let Ok(copy) = File::open(copy) else { return Ok(false) };
    let (mut source, mut copy) = (BufReader::new(File::open(source)?), BufReader::new(copy));
    loop {
        let octets = source.fill_buf()?;
        let Ok(copied) = copy.fill_buf() else { return Ok(false) };
        let length = octets.len().min(copied.len());
        if length == 0 {
            return Ok(octets.is_empty() && copied.is_empty());
        }
        if octets.get(..length) != copied.get(..length) {
            return Ok(false);
        }
        source.consume(length);
        copy.consume(length);
    }
}

/// The next octets from `from` on that are no hole: where they begin and end.
fn next_data(file: &File, from: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    if from >= end {
        return Ok(None);
    }
    let data = match seek(file, Extent::Data(from)) {
        Ok(data) if data >= end => return Ok(None),
        Ok(data) => data,
        // There is none behind.
        Err(Errno::NXIO) => return Ok(None),
        // It does not tell.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY) => return Ok(Some((from, end))),
        Err(e) => return Err(e.into()),
    };
    let hole = seek(file, Extent::Hole(data))?;
    Ok(Some((data, hole.clamp(data, end))))
}

/// Where the entries of an emptied segment are (emptied.rs).
pub(super) fn entries_path(log: &Path, number: u64) -> PathBuf {
    log.join(format!("{number:08}.entries"))
}

/// Syncs a folder.
pub(super) fn sync(dir: &Path) -> Result<(), StoreError> {
    sync_dir(dir).map_err(|e| StoreError::io("syncing a copy", e))
}
