//! Where a message gathers while it is received: memory first, then a file nobody else can read.
//!
//! Up to [`SPOOL_MEMORY_OCTETS_MAX`] octets stay in memory. What is longer goes to a file under `tmp/` that is unlinked as
//! soon as it is open and holds an `age` stream to a key that exists only in this process: a crash or a stolen disk leaves
//! no plaintext behind.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Octets of a message kept in memory.
pub const SPOOL_MEMORY_OCTETS_MAX: usize = 1024 * 1024;

struct SpoolFile {
    writer: age::stream::StreamWriter<WriteAt>,
    file: File,
    identity: age::x25519::Identity,
}

/// A message being gathered. Dropped, it leaves nothing behind.
pub struct Spool {
    dir: PathBuf,
    memory: Vec<u8>,
    memory_octets_max: usize,
    file: Option<SpoolFile>,
    octets: u64,
}

/// A gathered message, to be read as often as needed.
pub struct Spooled {
    octets: u64,
    content: Content,
}

enum Content {
    Memory(Vec<u8>),
    File(File, age::x25519::Identity),
}

impl Spool {
    /// A spool whose file, if it needs one, is made in `dir`.
    pub fn in_dir(dir: &Path) -> Spool {
        Spool {
            dir: dir.to_owned(),
            memory: Vec::new(),
            memory_octets_max: SPOOL_MEMORY_OCTETS_MAX,
            file: None,
            octets: 0,
        }
    }

    /// Keeps at most so many octets in memory, for one of several spools that share what there is.
    pub fn limit_memory(&mut self, octets: usize) {
        self.memory_octets_max = octets.min(SPOOL_MEMORY_OCTETS_MAX);
    }

    /// Octets gathered so far.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// True when the next `octets` still fit in memory: taking them in will not touch the disk.
    pub fn fits_in_memory(&self, octets: usize) -> bool {
        self.file.is_none() && self.memory.len() + octets <= self.memory_octets_max
    }

    /// Takes octets in. Blocks when they do not fit in memory.
    ///
    /// # Errors
    /// Writing the file failed; the message cannot be taken now.
    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.octets += octets.len() as u64;
        if self.fits_in_memory(octets.len()) {
            self.memory.extend_from_slice(octets);
            return Ok(());
        }
        if self.file.is_none() {
            let mut spilled = open_spool_file(&self.dir)?;
            spilled.writer.write_all(&std::mem::take(&mut self.memory))?;
            self.file = Some(spilled);
        }
        match self.file.as_mut() {
            Some(file) => file.writer.write_all(octets),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// As [`Spool::write`], without copying the first octets.
    ///
    /// # Errors
    /// As [`Spool::write`].
    pub fn write_owned(&mut self, octets: Vec<u8>) -> io::Result<()> {
        if self.octets == 0 && self.fits_in_memory(octets.len()) {
            self.octets = octets.len() as u64;
            self.memory = octets;
            return Ok(());
        }
        self.write(&octets)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// As [`Spool::write`].
    pub fn finish(self) -> io::Result<Spooled> {
        let content = match self.file {
            None => Content::Memory(self.memory),
            Some(file) => {
                file.writer.finish()?;
                Content::File(file.file, file.identity)
            }
        };
        Ok(Spooled { octets: self.octets, content })
    }
}

fn open_spool_file(dir: &Path) -> io::Result<SpoolFile> {
    let path = dir.join(format!("spool-{}", super::files::random_name()?));
    let file = super::files::create_file(&path)?;
    fs::remove_file(&path)?;
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public();
    let writer = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
        .map_err(io::Error::other)?
        .wrap_output(WriteAt { file: file.try_clone()?, at: 0 })?;
    Ok(SpoolFile { writer, file, identity })
}

impl Spooled {
    /// Octets of the message.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// The whole message, when it is in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Memory(octets) => Some(octets),
            Content::File(..) => None,
        }
    }

    /// Reads the message from its start.
    ///
    /// # Errors
    /// Reading the file failed.
    pub fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        match &self.content {
            Content::Memory(octets) => Ok(Box::new(octets.as_slice())),
            Content::File(file, identity) => {
                let source = BufReader::with_capacity(64 * 1024, ReadAt { file, at: 0 });
                let decryptor = age::Decryptor::new_buffered(source).map_err(io::Error::other)?;
                let reader = decryptor
                    .decrypt(std::iter::once(identity as &dyn age::Identity))
                    .map_err(io::Error::other)?;
                Ok(Box::new(reader))
            }
        }
    }
}

/// Writes a file from its start on, by positions: in a trace of system calls, what goes to a file is then told apart from what the
/// runtime writes to wake itself.
struct WriteAt {
    file: File,
    at: u64,
}

impl Write for WriteAt {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(octets, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file from a position of its own, so that several readers do not disturb each other.
pub(super) struct ReadAt<F> {
    pub(super) file: F,
    pub(super) at: u64,
}

impl<F: std::borrow::Borrow<File>> Read for ReadAt<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.borrow().read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<F: std::borrow::Borrow<File>> Seek for ReadAt<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.borrow().metadata()?.len().checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(octets: usize) {
        let dir = tempfile::tempdir().unwrap();
        let message: Vec<u8> = (0..octets).map(|n| (n % 251) as u8).collect();
        let mut spool = Spool::in_dir(dir.path());
        for chunk in message.chunks(70_000) {
            spool.write(chunk).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the file is unlinked at once");
        let spooled = spool.finish().unwrap();
        assert_eq!(spooled.octets(), octets as u64);
        assert_eq!(spooled.in_memory().is_some(), octets <= SPOOL_MEMORY_OCTETS_MAX);
        for _ in 0..2 {
            let mut back = Vec::new();
            spooled.reader().unwrap().read_to_end(&mut back).unwrap();
            assert!(back == message);
        }
    }

    #[test]
    fn gives_back_what_it_took_from_memory_and_from_disk() {
        check(0);
        check(1_000);
        check(SPOOL_MEMORY_OCTETS_MAX);
        check(SPOOL_MEMORY_OCTETS_MAX + 1);
        check(3_000_000);
    }
}
