//! SEARCH: which of the messages in an open folder are what the client looks for (RFC 3501 §6.4.4).
//!
//! A message is judged in steps, each dearer than the one before, and only as far as it takes: by its number and flags, which
//! the session holds; by its date and size, from the index; by its header, from the sealed summary; by its text, for which it is
//! opened. After each step the whole key is judged over what is known by then (true, false, or not known yet), so that an AND
//! ends with its first false and an OR with its first true, whichever the order in which the client wrote them.
//!
//! How things are compared:
//! - Strings are parts of the text, in any case (Unicode, character by character). They come as UTF-8: the session has
//!   answered other charsets with BADCHARSET. Header fields are unfolded and decoded (RFC 2047); as written they match too.
//! - Days of BEFORE, ON and SINCE are those of INTERNALDATE in UTC, those of SENTBEFORE and so on are as the Date field
//!   writes them, in its own zone. Without a readable Date none of these is true.
//! - BODY means the header of every part and the text of those that are text (`text/*`, and `message/*` that is not taken apart),
//!   decoded from its transfer encoding and charset; TEXT means the header of the message too. Other attachments, and what
//!   stands between parts, are not looked into. Text is read through a small buffer, whatever its length.
//! - No message is `\Recent`, and there are no keywords.
//!
//! A message that is gone by now, damaged, or sealed to a key that was not given matches nothing, not even NOT.

mod charset;
mod content;
mod header;
mod key;
mod text;
mod words;

use super::step::{Numbered, SearchError, SearchJob};
use crate::fetch::folders::{ENTRIES_MAX, Folder, FolderEntry};
use crate::fetch::maildrop::FetchError;
use content::{HEADER_OCTETS_MAX, Outline};
use key::{Known, Level, Plan};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// Messages opened in one search: for BODY and TEXT, and for their headers where no summary tells those.
const OPENED_MAX: usize = 5_000;
/// Their octets, together.
const OPENED_OCTETS_MAX: u64 = 1 << 30;
/// Fewer summaries than this are read on one thread.
const SHARED_MIN: usize = 16;

/// A message that is not decided yet.
struct Candidate {
    /// Where it stands among the messages of the job.
    at: usize,
    entry: FolderEntry,
}

/// Asked often, by each thread; false ends the search.
type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);

struct Search<'a> {
    folder: &'a dyn Folder,
    job: &'a SearchJob,
    plan: Plan,
    opened: Opened,
    go_on: GoOn<'a>,
}

/// Looks for messages; gives those found, in their order. Blocks, for long. `go_on` is asked often, and false ends the search.
///
/// # Errors
/// [`SearchError::TooMuch`] when it would have to open too much, or asks for too much: the client's to narrow down; no text
/// was read by then, headers at most. [`SearchError::Failed`] when messages cannot be read now, or it was told not to go on.
pub(super) fn run(
    folder: &dyn Folder,
    job: &SearchJob,
    go_on: GoOn<'_>,
) -> Result<Vec<Numbered>, SearchError> {
    let plan = Plan::new(&job.key, job.largest)?;
    Search { folder, job, plan, opened: Opened::default(), go_on }.run()
}

impl Search<'_> {
    fn run(&self) -> Result<Vec<Numbered>, SearchError> {
        let mut found = Vec::new();
        let mut undecided = Vec::new();
        let mut known = Known::default();
        for (at, message) in self.job.messages.iter().enumerate() {
            self.plan.look_at_row(message, &mut known);
            match self.plan.judge(&known) {
                Some(true) => found.push(at),
                Some(false) => {}
                None => undecided.push(at),
            }
        }
        let mut to_open = Vec::new();
        for chunk in undecided.chunks(ENTRIES_MAX) {
            self.check()?;
            for candidate in self.by_header(self.by_entry(chunk, &mut found)?, &mut found)? {
                self.opened.add(candidate.entry.canonical.octets)?;
                to_open.push(candidate);
            }
        }
        for candidate in &to_open {
            self.check()?;
            if self.by_content(candidate)? {
                found.push(candidate.at);
            }
        }
        found.sort_unstable();
        Ok(found.into_iter().filter_map(|at| self.job.messages.get(at).copied()).collect())
    }

    fn check(&self) -> Result<(), SearchError> {
        if (self.go_on)() { Ok(()) } else { Err(SearchError::Failed(FetchError::Temporary)) }
    }

    /// Judges messages by date and size; gives those that it takes more for.
    fn by_entry(&self, chunk: &[usize], found: &mut Vec<usize>) -> Result<Vec<Candidate>, SearchError> {
        let numbered = |at: &usize| self.job.messages.get(*at).map(|message| message.row.uid);
        let uids: Vec<_> = chunk.iter().filter_map(numbered).collect();
        let entries = self.folder.entries(&uids).map_err(SearchError::Failed)?;
        let mut entries = entries.into_iter().peekable();
        let mut candidates = Vec::new();
        for (&at, uid) in chunk.iter().zip(uids) {
            // Messages that are gone have no entry.
            let Some(entry) = entries.next_if(|entry| entry.uid == uid) else { continue };
            let candidate = Candidate { at, entry };
            match self.plan.judge(&self.known(&candidate)) {
                Some(true) => found.push(at),
                Some(false) => {}
                None => candidates.push(candidate),
            }
        }
        Ok(candidates)
    }

    fn known(&self, candidate: &Candidate) -> Known {
        let mut known = Known::default();
        if let Some(message) = self.job.messages.get(candidate.at) {
            self.plan.look_at_row(message, &mut known);
        }
        self.plan.look_at_entry(&candidate.entry, &mut known);
        known
    }

    /// Judges messages by their headers; gives those that must be opened. Opening a summary takes a private key's work, so two
    /// threads share it.
    fn by_header(
        &self,
        candidates: Vec<Candidate>,
        found: &mut Vec<usize>,
    ) -> Result<Vec<Candidate>, SearchError> {
        if !self.plan.asks_for(Level::Header) {
            return Ok(candidates);
        }
        let shared = if candidates.len() < SHARED_MIN { 0 } else { candidates.len() / 2 };
        let (theirs, ours) = candidates.split_at(shared);
        let stop = AtomicBool::new(false);
        let help = || self.headers_of(theirs, &stop);
        let judged = thread::scope(|scope| {
            let helper = thread::Builder::new().spawn_scoped(scope, help);
            let here = self.headers_of(ours, &stop);
            let mut judged = match helper.map(|helper| helper.join()) {
                Ok(Ok(there)) => there?,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // No thread is to be had: all of it is done here.
                Err(_) => self.headers_of(theirs, &stop)?,
            };
            judged.extend(here?);
            Ok(judged)
        })?;
        let mut to_open = Vec::new();
        for (candidate, judged) in candidates.into_iter().zip(judged) {
            match judged {
                Some(true) => found.push(candidate.at),
                Some(false) => {}
                None => to_open.push(candidate),
            }
        }
        Ok(to_open)
    }

    /// What the headers of these decide; of fewer, when whoever does the others has failed.
    fn headers_of(
        &self,
        candidates: &[Candidate],
        stop: &AtomicBool,
    ) -> Result<Vec<Option<bool>>, SearchError> {
        let going = candidates.iter().take_while(|_| !stop.load(Ordering::Relaxed));
        let judged: Result<Vec<_>, _> = going.map(|candidate| self.header_of(candidate)).collect();
        if judged.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        judged
    }

    /// What the header of a message decides. A message that cannot be read is not found.
    fn header_of(&self, candidate: &Candidate) -> Result<Option<bool>, SearchError> {
        self.check()?;
        let entry = &candidate.entry;
        let mut outline = unreadable(Outline::of_summary(self.folder, entry))?;
        if matches!(outline, Some(None)) {
            self.opened.add(entry.canonical.octets.min(HEADER_OCTETS_MAX))?;
            outline = unreadable(Outline::of_message(self.folder, entry).map(Some))?;
        }
        let Some(outline) = outline.flatten() else { return Ok(Some(false)) };
        let mut known = self.known(candidate);
        self.plan.look_at_header(&outline.header(), &mut known);
        Ok(self.plan.judge(&known))
    }

    /// Judges a message by all there is of it.
    fn by_content(&self, candidate: &Candidate) -> Result<bool, SearchError> {
        let mut known = self.known(candidate);
        let looked = Outline::of(self.folder, &candidate.entry).and_then(|outline| {
            self.plan.look_at_header(&outline.header(), &mut known);
            let open = || self.folder.read(&candidate.entry);
            content::look(&outline, open, self.go_on, &self.plan, &mut known)
        });
        Ok(unreadable(looked)?.is_some() && self.plan.judge(&known) == Some(true))
    }
}

/// Nothing for a message that cannot be read and will not be the next time.
fn unreadable<T>(read: Result<T, FetchError>) -> Result<Option<T>, SearchError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(FetchError::Gone | FetchError::Damaged | FetchError::LacksKey) => Ok(None),
        Err(error @ (FetchError::Temporary | FetchError::NotAllowed)) => Err(SearchError::Failed(error)),
    }
}

/// What is opened, never more than may be.
#[derive(Default)]
struct Opened {
    messages: AtomicUsize,
    octets: AtomicU64,
}

impl Opened {
    /// One more message is to be opened, and so many octets of it read.
    fn add(&self, octets: u64) -> Result<(), SearchError> {
        let messages = self.messages.fetch_add(1, Ordering::Relaxed) + 1;
        let octets = self.octets.fetch_add(octets, Ordering::Relaxed).saturating_add(octets);
        if messages <= OPENED_MAX && octets <= OPENED_OCTETS_MAX {
            return Ok(());
        }
        let mib = OPENED_OCTETS_MAX >> 20;
        Err(SearchError::TooMuch(format!(
            "a search may open {OPENED_MAX} messages of {mib} MiB together; ask for a date, a size or a header field as well"
        )))
    }
}

#[cfg(test)]
mod tests;
