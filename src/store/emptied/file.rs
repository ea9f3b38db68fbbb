//! An entries file, read as the segment that it took the place of.

use super::entries_name;
use super::format::{
    BLOCK_HEAD_OCTETS, BLOCK_MAGIC, BlockAt, HEADER_OCTETS, Header, Kept, TABLE_ROW_OCTETS, decode_table,
};
use crate::store::format::FormatError;
use crate::store::log::{Octets, is_unreadable, read_over};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Octets looked at a time while blocks are searched for.
const SEARCH_OCTETS: usize = 256 * 1024;

/// Why an entries file cannot be opened. That it is damaged is no reason: what can be read of it is.
#[derive(Debug)]
pub(in crate::store) enum OpenError {
    Io(io::Error),
    /// Written by a newer version of Daybook: which.
    Newer(u16),
}

impl From<io::Error> for OpenError {
    fn from(e: io::Error) -> OpenError {
        OpenError::Io(e)
    }
}

/// Octets of a segment that cannot be told, since the block that keeps them is damaged. An error of what is stored, as a bad sector is.
#[derive(Debug)]
pub(in crate::store) struct DamagedBlock(String);

impl std::fmt::Display for DamagedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DamagedBlock {}

/// The block that was read last, or why it could not be.
type Last = Option<(usize, Result<Kept, String>)>;

/// An entries file, open for reading.
#[derive(Debug)]
pub(in crate::store) struct EntriesFile {
    file: File,
    name: String,
    /// Of the segment.
    octets: u64,
    /// In the order of the segment; with gaps only where blocks had to be searched for.
    blocks: Vec<BlockAt>,
    fault: Option<String>,
    last: Mutex<Last>,
}

impl EntriesFile {
    /// Opens the file at `path`, of segment `number`.
    ///
    /// # Errors
    /// [`OpenError::Newer`] for the operator to mend; [`OpenError::Io`] when it is not there, or for want of memory and the like.
    pub(in crate::store) fn open(path: &Path, number: u64) -> Result<EntriesFile, OpenError> {
        let file = File::open(path)?;
        let file_octets = file.metadata()?.len();
        let mut entries = EntriesFile {
            file,
            name: entries_name(number),
            octets: 0,
            blocks: Vec::new(),
            fault: None,
            last: Mutex::new(None),
        };
        let header = match entries.header()? {
            Ok(header) if header.number == number && header.file_octets() == file_octets => Some(header),
            Ok(header) if header.number == number => {
                let wanted = header.file_octets();
                entries.fault = Some(format!("{} is of {file_octets} octets, not {wanted}", entries.name));
                Some(header)
            }
            Ok(header) => {
                entries.fault =
                    Some(format!("{} is of segment {} by its header", entries.name, header.number));
                None
            }
            Err(FormatError::Newer(version)) => return Err(OpenError::Newer(version)),
            Err(e) => {
                entries.fault = Some(format!("{}: its {e}", entries.name));
                None
            }
        };
        entries.octets = header.as_ref().map_or(0, |header| header.octets);
        if let (Some(header), None) = (&header, &entries.fault) {
            match entries.table(header)? {
                Ok(blocks) => entries.blocks = blocks,
                Err(_) => entries.fault = Some(format!("{}: its table is damaged", entries.name)),
            }
        }
        if entries.fault.is_some() {
            entries.blocks = search(&entries.file, file_octets)?;
        }
        if header.is_none() {
            entries.octets = entries.blocks.last().map_or(0, |block| block.to);
        }
        Ok(entries)
    }

    fn header(&self) -> io::Result<Result<Header, FormatError>> {
        let mut head = [0; HEADER_OCTETS];
        match read_over(&self.file, &mut head, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Err(FormatError::Short)),
            read => read.map(|_| Header::decode(&head)),
        }
    }

    fn table(&self, header: &Header) -> io::Result<Result<Vec<BlockAt>, FormatError>> {
        let mut table = vec![0; header.blocks as usize * TABLE_ROW_OCTETS];
        read_over(&self.file, &mut table, header.table_at)?;
        Ok(decode_table(header, &table))
    }

    /// Octets of the segment.
    pub(in crate::store) fn len(&self) -> u64 {
        self.octets
    }

    /// What is wrong with it, though its blocks may be whole.
    pub(in crate::store) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    pub(in crate::store) fn file(&self) -> &File {
        &self.file
    }

    fn damaged(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, DamagedBlock(format!("{}: {what}", self.name)))
    }

    /// The block that tells of this octet: its number, or where the next one begins that tells of any.
    fn block_of(&self, at: u64) -> Result<usize, u64> {
        let behind = self.blocks.partition_point(|block| block.from <= at);
        let number = behind.wrapping_sub(1);
        match self.blocks.get(number) {
            Some(block) if at < block.to => Ok(number),
            _ => Err(self.blocks.get(behind).map_or(self.octets, |block| block.from)),
        }
    }

    fn read_block(&self, block: &BlockAt) -> io::Result<Result<Kept, String>> {
        let mut octets = vec![0; BLOCK_HEAD_OCTETS + block.compressed as usize];
        match self.file.fill(&mut octets, block.at) {
            Ok(()) => {}
            Err(e) if is_unreadable(&e) || e.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err(format!("block at {}: {e}", block.at)));
            }
            Err(e) => return Err(e),
        }
        Ok(block.kept(&octets).map_err(|_| format!("block at {} is damaged", block.at)))
    }
}

impl Octets for EntriesFile {
    fn fill(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let end = at.saturating_add(into.len() as u64);
        if end > self.octets {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into.fill(0);
        let (mut rest, mut at) = (into, at);
        while at < end {
            let Ok(number) = self.block_of(at) else { return Err(self.damaged("a block is missing")) };
            let Some(block) = self.blocks.get(number) else { break };
            let here = usize::try_from(block.to.min(end) - at).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at_mut(here);
            // One that panicked left a block that is whole, or none.
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref().is_none_or(|(known, _)| *known != number) {
                *last = Some((number, self.read_block(block)?));
            }
            match &*last {
                Some((_, Ok(kept))) => kept.copy(at, part),
                Some((_, Err(what))) => return Err(self.damaged(what)),
                None => {}
            }
            (rest, at) = (behind, at + here as u64);
        }
        Ok(())
    }

    fn fill_some(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let left = usize::try_from(self.octets.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        self.fill(into.get_mut(..wanted).unwrap_or_default(), at)?;
        Ok(wanted)
    }

    fn piece_end(&self, at: u64) -> u64 {
        match self.block_of(at) {
            Ok(number) => self.blocks.get(number).map_or(at + 1, |block| block.to),
            Err(next) => next.max(at + 1),
        }
    }
}

/// Finds the blocks that are whole, where nothing says where they stand.
fn search(file: &File, end: u64) -> io::Result<Vec<BlockAt>> {
    let mut blocks: Vec<BlockAt> = Vec::new();
    let mut at = HEADER_OCTETS as u64;
    while let Some(found) = next_magic(file, at, end)? {
        at = match whole_block(file, found, end)? {
            Some(block) if blocks.last().is_none_or(|last| last.to <= block.from) => {
                let behind = block.end();
                blocks.push(block);
                behind
            }
            _ => found + 1,
        };
    }
    Ok(blocks)
}

fn whole_block(file: &File, at: u64, end: u64) -> io::Result<Option<BlockAt>> {
    let mut head = [0; BLOCK_HEAD_OCTETS];
    if end - at < BLOCK_HEAD_OCTETS as u64 {
        return Ok(None);
    }
    read_over(file, &mut head, at)?;
    let Ok(block) = BlockAt::decode(&head, at) else { return Ok(None) };
    if block.end() > end {
        return Ok(None);
    }
    let mut octets = vec![0; BLOCK_HEAD_OCTETS + block.compressed as usize];
    read_over(file, &mut octets, at)?;
    Ok(block.kept(&octets).is_ok().then_some(block))
}

fn next_magic(file: &File, from: u64, end: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; SEARCH_OCTETS];
    let mut at = from;
    while at + BLOCK_MAGIC.len() as u64 <= end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(window.len());
        let Some(window) = window.get_mut(..wanted) else { break };
        read_over(file, window, at)?;
        if let Some(hit) = memchr::memmem::find(window, BLOCK_MAGIC) {
            return Ok(Some(at + hit as u64));
        }
        at += (wanted + 1 - BLOCK_MAGIC.len()) as u64;
    }
    Ok(None)
}
