//! Freed content, taken out of a backup too.

use crate::store::StoreError;
use crate::store::check::{Bits, Damage, Seen, Visit};
use crate::store::fact::{Fact, ObjectFact};
use crate::store::log::segment_path;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Zeros written at a time over freed content, where no holes can be made.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Takes freed content out as entries lead to it.
pub(super) struct Freeing<'a> {
    dir: &'a Path,
    freed: &'a Bits,
    /// Of one segment: where they begin, and how long they are.
    payloads: Vec<(u64, u64, u64)>,
    pub(super) objects: u64,
    pub(super) octets: u64,
    failed: Option<StoreError>,
}

impl<'a> Freeing<'a> {
    /// Out of the backup in `dir`.
    pub(super) fn new(dir: &'a Path, freed: &'a Bits) -> Freeing<'a> {
        Freeing { dir, freed, payloads: Vec::new(), objects: 0, octets: 0, failed: None }
    }

    /// Makes holes where the payloads were.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        let Some((number, ..)) = self.payloads.first() else { return self.failed.take().map_or(Ok(()), Err) };
        let path = segment_path(&self.dir.join("log"), *number);
        if !path.exists() {
            // Its entries alone are kept.
            self.payloads.clear();
        }
        if self.payloads.is_empty() {
            return self.failed.take().map_or(Ok(()), Err);
        }
        let freed = File::options().write(true).open(path).and_then(|file| {
            for (_, offset, octets) in self.payloads.drain(..) {
                blank(&file, offset, octets)?;
            }
            file.sync_data()
        });
        freed.map_err(|e| StoreError::io("taking freed content out of the backup", e))?;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn take(&mut self, fact: &ObjectFact, seen: &Seen) -> Result<(), StoreError> {
        self.objects += 1;
        self.octets += fact.sealed_octets;
        let Some(name) = &fact.file else {
            if self.payloads.first().is_some_and(|(number, ..)| *number != seen.place.segment) {
                self.settle()?;
            }
            self.payloads.push((seen.place.segment, seen.place.payload_offset, seen.payload_octets));
            return Ok(());
        };
        match fs::remove_file(self.dir.join("content").join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("taking freed content out of the backup", e))
            }
            _ => Ok(()),
        }
    }
}

impl Visit for Freeing<'_> {
    fn pace(&mut self, _: u64) -> ControlFlow<()> {
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn entry(&mut self, seen: &Seen) {
        if let Fact::Object(fact) = &seen.fact
            && self.freed.has(fact.object)
            && self.failed.is_none()
        {
            self.failed = self.take(fact, seen).err();
        }
    }

    fn damage(&mut self, _: Damage) {}
}

/// Makes a hole of these octets, or has zeros stand there.
fn blank(file: &File, offset: u64, octets: u64) -> io::Result<()> {
    if octets == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, octets) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        punched => return Ok(punched?),
    }
    let (mut at, end) = (offset, offset + octets);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.len());
        let written = file.write_at(ZEROS.get(..most).unwrap_or_default(), at)?;
        at += written as u64;
    }
    Ok(())
}
