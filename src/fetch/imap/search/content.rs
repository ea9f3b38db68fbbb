//! The parts of a message that are searched, read once from its beginning, through a buffer.

use super::GoOn;
use super::charset::TextDecoder;
use super::header::Header;
use super::key::{Known, Plan};
use super::text::{Needle, fold};
use crate::fetch::canonical::Canonical;
use crate::fetch::folders::{Folder, FolderEntry};
use crate::fetch::maildrop::FetchError;
use crate::mail::header::{Head, Transfer};
use crate::mail::transfer::Decoder;
use crate::mail::{MessageSummary, Part};
use std::borrow::Cow;
use std::io::{self, Read};

/// Octets read at once.
const BUFFER_OCTETS: usize = 64 * 1024;
/// The longest header that is looked for in a message whose summary does not tell its parts.
pub(super) const HEADER_OCTETS_MAX: u64 = 1024 * 1024;

/// What is known of a message without its text.
pub(super) enum Outline {
    /// Its parts.
    Parts(MessageSummary<'static>),
    /// Its header, and where the rest begins; of a message that could not be taken apart.
    Header(Vec<u8>),
}

impl Outline {
    /// Opens the summary, or the message where that does not do.
    pub(super) fn of(folder: &dyn Folder, entry: &FolderEntry) -> Result<Outline, FetchError> {
        match Outline::of_summary(folder, entry)? {
            Some(outline) => Ok(outline),
            None => Outline::of_message(folder, entry),
        }
    }

    /// Opens the summary; nothing where that does not do.
    pub(super) fn of_summary(
        folder: &dyn Folder,
        entry: &FolderEntry,
    ) -> Result<Option<Outline>, FetchError> {
        match folder.summary(entry) {
            Ok(summary) if summary.structure.is_some() => Ok(Some(Outline::Parts(summary))),
            Ok(_) | Err(FetchError::Damaged) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the message, and reads no more than its header.
    pub(super) fn of_message(folder: &dyn Folder, entry: &FolderEntry) -> Result<Outline, FetchError> {
        read_header(folder.read(entry)?).map(Outline::Header)
    }

    /// The header block of the message, in canonical form.
    pub(super) fn header(&self) -> Cow<'_, [u8]> {
        canonical(match self {
            Outline::Parts(summary) => summary.structure.as_deref().map_or(b"", |root| &root.header),
            Outline::Header(header) => header,
        })
    }
}

/// A header block as FETCH serves it: what looks like one field as it is stored may be two.
fn canonical(block: &[u8]) -> Cow<'_, [u8]> {
    Canonical::new().push(block)
}

/// The header block with its empty line, or the beginning of one that is too long.
fn read_header(content: Box<dyn Read + Send>) -> Result<Vec<u8>, FetchError> {
    let mut header = Vec::new();
    let mut content = content.take(HEADER_OCTETS_MAX);
    let mut buffer = vec![0; BUFFER_OCTETS];
    loop {
        let read = read_some(&mut content, &mut buffer)?;
        let from = header.len();
        header.extend_from_slice(read);
        if read.is_empty() {
            return Ok(header);
        }
        if let Some(ends) = header_ends(&header, from) {
            header.truncate(ends);
            return Ok(header);
        }
    }
}

/// Where the empty line ends, looked for in what came since `from`.
fn header_ends(header: &[u8], from: usize) -> Option<usize> {
    if from == 0 && header.starts_with(b"\r\n") {
        return Some(2);
    }
    if from == 0 && header.starts_with(b"\n") {
        return Some(1);
    }
    // An empty line may begin in what came before.
    let begin = from.saturating_sub(2);
    let new = header.get(begin..)?;
    memchr::memchr_iter(b'\n', new).find_map(|at| match new.get(at + 1..) {
        Some([b'\n', ..]) => Some(begin + at + 2),
        Some([b'\r', b'\n', ..]) => Some(begin + at + 3),
        _ => None,
    })
}

/// Text to be read: where it stands, and how it is encoded.
struct Body {
    offset: u64,
    octets: u64,
    head: Head,
}

/// Adds what the content tells to what is known; opens it only when that is not enough. What is not found is known to be absent
/// afterwards, unless all was decided before the end.
///
/// # Errors
/// [`FetchError`]; [`FetchError::Temporary`] also when it is not to go on.
pub(super) fn look(
    outline: &Outline,
    open: impl FnOnce() -> Result<Box<dyn Read + Send>, FetchError>,
    go_on: GoOn<'_>,
    plan: &Plan,
    known: &mut Known,
) -> Result<(), FetchError> {
    let bodies = match outline {
        Outline::Parts(summary) => match summary.structure.as_deref() {
            Some(root) => parts(root, plan, known),
            None => Vec::new(),
        },
        Outline::Header(header) => {
            let offset = header.len() as u64;
            vec![Body { offset, octets: u64::MAX, head: Head::default() }]
        }
    };
    if plan.judge(known).is_none() && !bodies.is_empty() {
        let mut reading = Reading { content: open()?, at: 0, buffer: vec![0; BUFFER_OCTETS], go_on };
        for body in bodies {
            reading.look_into(&body, plan, known)?;
            if plan.judge(known).is_some() {
                return Ok(());
            }
        }
    }
    for (leaf, key) in plan.leaves().iter().enumerate() {
        if key.content_needle().is_some() && known.is_open(leaf) {
            known.set(leaf, false);
        }
    }
    Ok(())
}

/// Looks into the headers of all parts but the first, which is that of the message; gives those whose text is to be read, in the
/// order in which they stand.
fn parts(root: &Part, plan: &Plan, known: &mut Known) -> Vec<Body> {
    let mut bodies = Vec::new();
    // Each with whether it is a message where nothing is said (RFC 2046 §5.1.5).
    let mut todo = vec![(root, false)];
    let mut is_root = true;
    while let Some((part, in_digest)) = todo.pop() {
        let block = canonical(&part.header);
        if !std::mem::take(&mut is_root) {
            let header = Header::new(&block);
            found(plan, known, |needle| header.contains(needle));
        }
        let head = Head::parse(&block);
        let media_type = head.media_type.as_str();
        // RFC 2045 §5.2: what says nothing, or nothing that can be read, is text.
        let says_nothing = !media_type.contains('/');
        if !part.children.is_empty() {
            let is_digest = media_type == "multipart/digest";
            todo.extend(part.children.iter().rev().map(|child| (child, is_digest)));
        } else if media_type.starts_with("text/") || (says_nothing && !in_digest) {
            bodies.push(Body { offset: part.body_offset, octets: part.octets, head });
        } else if let Some(message) = &part.message {
            todo.push((message, false));
        } else if media_type.starts_with("message/") || says_nothing {
            bodies.push(Body { offset: part.body_offset, octets: part.octets, head });
        }
    }
    bodies
}

/// Notes what is found of what is not known yet.
fn found(plan: &Plan, known: &mut Known, is_in: impl Fn(&Needle) -> bool) {
    for (leaf, key) in plan.leaves().iter().enumerate() {
        if let Some(needle) = key.content_needle()
            && known.is_open(leaf)
            && is_in(needle)
        {
            known.set(leaf, true);
        }
    }
}

/// A message being read.
struct Reading<'a> {
    content: Box<dyn Read + Send>,
    at: u64,
    buffer: Vec<u8>,
    go_on: GoOn<'a>,
}

impl Reading<'_> {
    fn look_into(&mut self, body: &Body, plan: &Plan, known: &mut Known) -> Result<(), FetchError> {
        let between = body.offset.saturating_sub(self.at);
        self.each(between, |_| false)?;
        let mut text = Text::new(body, plan);
        self.each(body.octets, |octets| {
            text.push(octets);
            text.look(plan, known);
            plan.judge(known).is_some()
        })?;
        text.finish();
        text.look(plan, known);
        Ok(())
    }

    /// Gives the next octets, in chunks, until it is told that this is enough.
    fn each(&mut self, octets: u64, mut enough: impl FnMut(&[u8]) -> bool) -> Result<(), FetchError> {
        let mut left = octets;
        while left > 0 {
            if !(self.go_on)() {
                return Err(FetchError::Temporary);
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = read_some(&mut self.content, self.buffer.get_mut(..most).unwrap_or_default())?;
            self.at += read.len() as u64;
            left -= read.len() as u64;
            if read.is_empty() || enough(read) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Reads; empty at the end.
fn read_some<'a>(content: &mut impl Read, buffer: &'a mut [u8]) -> Result<&'a [u8], FetchError> {
    loop {
        match content.read(buffer) {
            Ok(read) => return Ok(buffer.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(FetchError::of_read(&e)),
        }
    }
}

/// The text of a part, a window of it at a time: what came last, and before that as much as a string that was not whole yet
/// may have begun in.
struct Text {
    transfer: Option<Decoder>,
    decoded: Vec<u8>,
    charset: TextDecoder,
    text: String,
    folded: Vec<u8>,
    overlap: usize,
}

impl Text {
    fn new(body: &Body, plan: &Plan) -> Text {
        let longest = plan.leaves().iter().filter_map(|leaf| leaf.content_needle()).map(Needle::len).max();
        let transfer = match body.head.transfer {
            Transfer::Encoded(encoding) => Some(Decoder::new(encoding)),
            Transfer::Identity | Transfer::Unknown => None,
        };
        Text {
            transfer,
            decoded: Vec::new(),
            charset: TextDecoder::new(body.head.charset.as_deref().unwrap_or_default()),
            text: String::new(),
            folded: Vec::new(),
            overlap: longest.unwrap_or(0).saturating_sub(1),
        }
    }

    fn push(&mut self, octets: &[u8]) {
        self.text.clear();
        match &mut self.transfer {
            Some(transfer) => {
                self.decoded.clear();
                transfer.push(octets, &mut self.decoded);
                self.charset.push(&self.decoded, &mut self.text);
            }
            None => self.charset.push(octets, &mut self.text),
        }
        self.add();
    }

    fn finish(&mut self) {
        self.text.clear();
        if let Some(transfer) = self.transfer.take() {
            self.decoded.clear();
            transfer.finish(&mut self.decoded);
            self.charset.push(&self.decoded, &mut self.text);
        }
        self.charset.finish(&mut self.text);
        self.add();
    }

    fn add(&mut self) {
        let gone = self.folded.len().saturating_sub(self.overlap);
        self.folded.drain(..gone);
        fold(&self.text, &mut self.folded);
    }

    fn look(&self, plan: &Plan, known: &mut Known) {
        found(plan, known, |needle| needle.is_in(&self.folded));
    }
}
