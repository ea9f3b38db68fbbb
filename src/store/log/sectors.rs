//! Reading past octets that the disk cannot give: a bad sector takes what stands on it, not what is behind.
//!
//! In their place stand zeros, which no hash fits: so they are damage like any other. Errors that say nothing of what is stored,
//! such as a want of memory, stay errors.

use crate::store::emptied::DamagedBlock;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// What can be read or not by itself: a page, or a sector of most disks.
const SECTOR_OCTETS: usize = 4096;
/// Octets looked at a time.
const WINDOW_OCTETS: usize = 1024 * 1024;

/// Octets at offsets, of which some may not be readable: a file, or a segment that another kind of file keeps.
pub(in crate::store) trait Octets {
    /// Fills `into` from `at`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when there are fewer; those of which [`is_unreadable`] is true when some cannot be told.
    fn fill(&self, into: &mut [u8], at: u64) -> io::Result<()>;

    /// Reads some octets from `at` on; none at the end. Errors are those of [`Octets::fill`], but that there are fewer.
    fn fill_some(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Behind the octets around `at` that can be read or not only together.
    fn piece_end(&self, at: u64) -> u64;
}

impl Octets for File {
    fn fill(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        bad::check(self, at, into.len())?;
        self.read_exact_at(into, at)
    }

    fn fill_some(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        #[cfg(test)]
        bad::check(self, at, into.len())?;
        self.read_at(into, at)
    }

    fn piece_end(&self, at: u64) -> u64 {
        let sector = SECTOR_OCTETS as u64;
        at - at % sector + sector
    }
}

/// True for errors that tell of the octets asked for: the medium, checks that a file system or a mapper below makes, or those of
/// a file of entries.
pub(in crate::store) fn is_unreadable(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::BADMSG, Errno::UCLEAN].map(Some).contains(&errno)
        || error.get_ref().is_some_and(|inner| inner.is::<DamagedBlock>())
}

/// Fills `into` from `at`, with zeros where nothing can be read; gives why, if that is anywhere.
pub(in crate::store) fn read_over(
    file: &dyn Octets,
    into: &mut [u8],
    at: u64,
) -> io::Result<Option<io::Error>> {
    match file.fill(into, at) {
        Err(e) if is_unreadable(&e) => {}
        read => return read.map(|()| None),
    }
    let mut unreadable = None;
    let (mut rest, mut at) = (into, at);
    while !rest.is_empty() {
        let (sector, behind) = rest.split_at_mut(to_piece_end(file, at).min(rest.len()));
        match file.fill(sector, at) {
            Ok(()) => {}
            Err(e) if is_unreadable(&e) => {
                sector.fill(0);
                unreadable.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
        at += sector.len() as u64;
        rest = behind;
    }
    Ok(unreadable)
}

/// True when all from `from` to `end` can be read.
pub(super) fn is_readable(file: &dyn Octets, from: u64, end: u64) -> io::Result<bool> {
    let mut window = vec![0; WINDOW_OCTETS];
    let mut at = from;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(window.len());
        let Some(window) = window.get_mut(..wanted) else { break };
        match file.fill(window, at) {
            Err(e) if is_unreadable(&e) => return Ok(false),
            read => read?,
        }
        at += wanted as u64;
    }
    Ok(true)
}

/// Writes what can be read from `from` to `end` over itself. The same octets in their place cannot be torn.
pub(super) fn write_over(file: &File, from: u64, end: u64) -> io::Result<()> {
    let mut window = vec![0; WINDOW_OCTETS];
    let mut at = from;
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let wanted = left.min(window.len());
        let Some(octets) = window.get_mut(..wanted) else { break };
        if is_readable(file, at, at + wanted as u64)? {
            file.fill(octets, at)?;
            file.write_all_at(octets, at)?;
            at += wanted as u64;
            continue;
        }
        let window_end = at + wanted as u64;
        while at < window_end {
            let sector = to_piece_end(file, at).min(usize::try_from(window_end - at).unwrap_or(usize::MAX));
            let Some(octets) = window.get_mut(..sector) else { break };
            match file.fill(octets, at) {
                Err(e) if is_unreadable(&e) => {}
                read => read.and_then(|()| file.write_all_at(octets, at))?,
            }
            at += sector as u64;
        }
    }
    Ok(())
}

/// The octets of a file or a segment in order, up to `end`, with zeros where nothing can be read.
pub(in crate::store) struct Sectors<'f> {
    file: &'f dyn Octets,
    at: u64,
    end: u64,
    /// The last that could not be read: from, to, why.
    unreadable: Option<(u64, u64, String)>,
}

impl<'f> Sectors<'f> {
    pub(in crate::store) fn new(file: &'f dyn Octets, end: u64) -> Sectors<'f> {
        Sectors { file, at: 0, end, unreadable: None }
    }

    /// Why some of these octets, read before, could not be read.
    pub(in crate::store) fn unreadable_in(&self, from: u64, to: u64) -> Option<&str> {
        let (first, behind, why) = self.unreadable.as_ref()?;
        (*first < to && from < *behind).then_some(why)
    }
}

impl Read for Sectors<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let into = into.get_mut(..wanted).unwrap_or_default();
        let read = match self.file.fill_some(into, self.at) {
            Err(e) if is_unreadable(&e) => {
                let sector = into.get_mut(..to_piece_end(self.file, self.at).min(wanted)).unwrap_or_default();
                let unreadable = read_over(self.file, sector, self.at)?;
                let behind = self.at + sector.len() as u64;
                if let Some(e) = unreadable {
                    let first = self.unreadable.take().filter(|(_, end, _)| *end == self.at);
                    let from = first.map_or(self.at, |(from, ..)| from);
                    self.unreadable = Some((from, behind, e.to_string()));
                }
                sector.len()
            }
            read => read?,
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl io::Seek for Sectors<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let at = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::Current(by) => self.at.checked_add_signed(by),
            io::SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn to_piece_end(file: &dyn Octets, at: u64) -> usize {
    usize::try_from(file.piece_end(at).saturating_sub(at)).unwrap_or(usize::MAX)
}

/// Sectors that a test makes bad, for its own thread.
#[cfg(test)]
pub(in crate::store) mod bad {
    use super::{Errno, File, SECTOR_OCTETS, io};
    use std::cell::RefCell;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    thread_local!(static BAD: RefCell<Option<(u64, u64)>> = const { RefCell::new(None) });

    /// From now on the sector with this octet of that file cannot be read; with none, all can.
    pub(in crate::store) fn make(sector: Option<(&Path, u64)>) {
        let sector =
            sector.map(|(path, at)| (std::fs::metadata(path).unwrap().ino(), at - at % SECTOR_OCTETS as u64));
        BAD.set(sector);
    }

    pub(super) fn check(file: &File, at: u64, octets: usize) -> io::Result<()> {
        let Some((ino, bad)) = BAD.with_borrow(|bad| *bad) else { return Ok(()) };
        let is_bad = at < bad + SECTOR_OCTETS as u64 && bad < at + octets as u64;
        if is_bad && file.metadata()?.ino() == ino { Err(Errno::IO.into()) } else { Ok(()) }
    }
}
