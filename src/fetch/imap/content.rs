//! The stored octets of a message, read forward and made canonical, any stretch of them.
//!
//! A stretch starts where a header block or a body does, thus behind a line end, so that its canonical form is the same as
//! within the whole message. Reading goes on where the last stretch was left when the next lies behind it; else the message is
//! opened anew. A client that fetches a large message in pieces, one command each, finds it still open ([`Kept`]), or each piece would
//! cost the octets before it. In a message without lone line ends nothing before a partial's origin is looked at, only passed.

use crate::fetch::canonical::Canonical;
use crate::fetch::folders::{Folder, FolderEntry};
use crate::fetch::maildrop::FetchError;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

/// Octets read at once.
const CHUNK_OCTETS: u64 = 64 * 1024;

/// Why octets did not come.
#[derive(Debug)]
pub(super) enum Stop {
    /// They could not be read.
    Failed(FetchError),
    /// Nobody wants them any more.
    Unwanted,
}

impl From<FetchError> for Stop {
    fn from(error: FetchError) -> Stop {
        Stop::Failed(error)
    }
}

/// Where an answer goes.
pub(super) trait Sink {
    /// Room for small things.
    fn room(&mut self) -> &mut Vec<u8>;

    /// Takes octets of a message. What is gathered by then may be sent, as far as it is much.
    ///
    /// # Errors
    /// [`Stop::Unwanted`]
    fn put(&mut self, octets: &[u8]) -> Result<(), Stop>;
}

/// A stretch of stored octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Its first octet, of the stored message.
    pub(super) start: u64,
    /// Behind its last; `None` for the end of the message, which is then checked to be there.
    pub(super) end: Option<u64>,
}

/// A message that may be open.
pub(super) struct Content<'a> {
    folder: &'a dyn Folder,
    entry: &'a FolderEntry,
    open: Option<Open>,
}

/// The message that the last command left open, with the keeper's name of it: at most one for a connection.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Option<(u64, Open)>>>);

impl Kept {
    fn take(&self, message: u64) -> Option<Open> {
        let kept = self.0.lock().ok()?.take_if(|(of, _)| *of == message);
        kept.map(|(_, open)| open)
    }

    fn put(&self, message: u64, open: Open) {
        if let Ok(mut kept) = self.0.lock() {
            *kept = Some((message, open));
        }
    }
}

/// A message open at some octet.
struct Open {
    reader: Box<dyn Read + Send>,
    /// How far it was read, in stored octets.
    at: u64,
    /// Where the stretch starts that is being read.
    start: u64,
    form: Canonical,
    /// Canonical octets given of the stretch.
    given: u64,
    /// Canonical octets read and not given.
    rest: Vec<u8>,
}

impl<'a> Content<'a> {
    /// The content of this message; not opened yet.
    pub(super) fn new(folder: &'a dyn Folder, entry: &'a FolderEntry) -> Content<'a> {
        Content { folder, entry, open: None }
    }

    /// Takes the message over from the command before, if it left this one open.
    pub(super) fn take_from(&mut self, kept: &Kept) {
        self.open = kept.take(self.entry.message);
    }

    /// Leaves the message open for the next command.
    pub(super) fn leave_to(self, kept: &Kept) {
        if let Some(open) = self.open {
            kept.put(self.entry.message, open);
        }
    }

    /// Gives `octets` canonical octets of a stretch from `origin` on. The last of them are given when nothing can fail any
    /// more: a message's end, where they reach to it, was seen then.
    ///
    /// # Errors
    /// [`Stop::Failed`] when they are not all there, or more than these; and what `take` says.
    pub(super) fn give(
        &mut self,
        stretch: Stretch,
        (origin, octets): (u64, u64),
        reaches_end: bool,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if octets == 0 {
            return Ok(());
        }
        let sees_end = reaches_end && stretch.end.is_none();
        let stretch = self.seek(stretch, origin)?;
        let (mut left, mut held) = (octets, Vec::new());
        while left > 0 || sees_end {
            // One octet more than there should be is enough to see.
            let Some(piece) = self.next(stretch, left.max(1))? else { break };
            if left == 0 {
                return Err(self.damaged("more octets than were announced").into());
            }
            left = left.saturating_sub(piece.len() as u64);
            let before = std::mem::replace(&mut held, piece);
            if !before.is_empty() {
                take(&before)?;
            }
        }
        if left > 0 {
            return Err(self.damaged(&format!("{left} octets less than were announced")).into());
        }
        take(&held)
    }

    /// How many canonical octets a stretch has.
    ///
    /// # Errors
    /// [`Stop::Failed`]
    pub(super) fn count(&mut self, stretch: Stretch) -> Result<u64, Stop> {
        let stretch = self.seek(stretch, 0)?;
        let mut octets = 0;
        while let Some(piece) = self.next(stretch, CHUNK_OCTETS)? {
            octets += piece.len() as u64;
        }
        Ok(octets)
    }

    /// The first octets of the message as they are stored, up to the line end of its first empty line and at most so many; how
    /// many there are up to there; and how many octets and line ends those have in canonical form.
    ///
    /// # Errors
    /// [`Stop::Failed`]
    pub(super) fn header(&mut self, kept_max: usize) -> Result<Header, Stop> {
        let mut reader = self.folder.read(self.entry)?;
        let mut header = Header::default();
        let (mut form, mut line_octets, mut line_is_cr) = (Canonical::new(), 0_u64, false);
        let mut chunk = Vec::new();
        'chunks: while self.read_chunk(&mut reader, CHUNK_OCTETS, &mut chunk)? > 0 {
            for piece in chunk.split_inclusive(|b| *b == b'\n') {
                line_is_cr =
                    line_octets == 0 && piece.first() == Some(&b'\r') || line_octets == 1 && line_is_cr;
                line_octets += piece.len() as u64;
                let room = kept_max.saturating_sub(header.kept.len());
                header.kept.extend_from_slice(piece.get(..room).unwrap_or(piece));
                header.octets += piece.len() as u64;
                let canonical = form.push(piece);
                header.canonical_octets += canonical.len() as u64;
                header.lines += memchr::memchr_iter(b'\n', &canonical).count() as u64;
                if piece.ends_with(b"\n") {
                    if line_octets == 1 || (line_octets == 2 && line_is_cr) {
                        break 'chunks;
                    }
                    line_octets = 0;
                }
            }
        }
        Ok(header)
    }

    /// Goes to an octet of a stretch; gives the stretch whose next octet is that one.
    fn seek(&mut self, stretch: Stretch, origin: u64) -> Result<Stretch, Stop> {
        // Without lone line ends a canonical octet is a stored one.
        let plain = !self.entry.canonical.bare_line_ends;
        let (start, origin) = if plain { (stretch.start + origin, 0) } else { (stretch.start, origin) };
        let stretch = Stretch { start, ..stretch };
        let goes_on = |open: &&mut Open| {
            (open.start == start && open.given <= origin) || (open.at <= start && open.rest.is_empty())
        };
        if self.open.as_mut().filter(goes_on).is_none() {
            let reader = self.folder.read(self.entry)?;
            self.open =
                Some(Open { reader, at: 0, start: 0, form: Canonical::new(), given: 0, rest: Vec::new() });
        }
        let Some(open) = &mut self.open else { return Ok(stretch) };
        if open.start != start || open.given > origin {
            let passed = io::copy(&mut open.reader.by_ref().take(start - open.at), &mut io::sink());
            open.at += passed.map_err(|error| unreadable(self.entry, &error))?;
            (open.start, open.form, open.given) = (start, Canonical::new(), 0);
        }
        let mut skip = origin - open.given;
        while skip > 0
            && let Some(piece) = self.next(stretch, skip)?
        {
            skip -= piece.len() as u64;
        }
        Ok(stretch)
    }

    /// The next canonical octets of the stretch, at most so many; `None` at its end.
    fn next(&mut self, stretch: Stretch, octets_max: u64) -> Result<Option<Vec<u8>>, Stop> {
        let plain = !self.entry.canonical.bare_line_ends;
        let Some(mut open) = self.open.take() else { return Ok(None) };
        let mut piece = std::mem::take(&mut open.rest);
        while piece.is_empty() {
            let left = stretch.end.map_or(u64::MAX, |end| end.saturating_sub(open.at));
            let octets = CHUNK_OCTETS.min(left).min(if plain { octets_max } else { u64::MAX });
            let read = self.read_chunk(&mut open.reader, octets, &mut piece)?;
            if read == 0 {
                self.open = Some(open);
                return Ok(None);
            }
            open.at += read;
            if !plain && let std::borrow::Cow::Owned(changed) = open.form.push(&piece) {
                piece = changed;
            }
        }
        let most = usize::try_from(octets_max).unwrap_or(usize::MAX);
        if piece.len() > most {
            open.rest = piece.split_off(most);
        }
        open.given += piece.len() as u64;
        self.open = Some(open);
        Ok(Some(piece))
    }

    /// Reads up to so many octets; none only at the end.
    fn read_chunk(
        &self,
        reader: &mut Box<dyn Read + Send>,
        octets: u64,
        chunk: &mut Vec<u8>,
    ) -> Result<u64, Stop> {
        chunk.clear();
        chunk.reserve(usize::try_from(octets.min(CHUNK_OCTETS)).unwrap_or_default());
        let read = reader.by_ref().take(octets).read_to_end(chunk);
        Ok(read.map_err(|error| unreadable(self.entry, &error))? as u64)
    }

    fn damaged(&self, error: &str) -> FetchError {
        unreadable(self.entry, &io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The start of a message.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// What is kept of the header block, as stored.
    pub(super) kept: Vec<u8>,
    /// Stored octets of the header block, its empty line included.
    pub(super) octets: u64,
    /// Its octets in canonical form.
    pub(super) canonical_octets: u64,
    /// Its line ends.
    pub(super) lines: u64,
}

/// Who keeps the message says itself why it cannot be opened; this is what shows while it is read.
fn unreadable(entry: &FolderEntry, error: &io::Error) -> FetchError {
    let meaning = FetchError::of_read(error);
    let event = match meaning {
        FetchError::Damaged => "fetch.damaged",
        FetchError::Gone => "fetch.gone",
        _ => "fetch.unreadable",
    };
    tracing::error!(event, receipt_id = %entry.receipt_id, uid = %entry.uid, error = %error);
    meaning
}
