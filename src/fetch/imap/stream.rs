//! From a [`FetchJob`] to octets for the socket, on a thread that may block.
//!
//! The thread walks the messages in chunks, opens of each no more than is asked for, and fills a short queue, which stops it while
//! the client is slow. Small answers are gathered; small messages are made ready by two threads, a few at a time and in their
//! order, since opening a sealed object costs more time than sending it; large ones pass through in pieces.
//!
//! The thread is one of [`threads`](crate::fetch::threads), which bound how many there are: it is held, with the second that helps
//! it out, for as long as its client takes.
//!
//! Invariants: a literal is announced with the length it has. What cannot be read is left out as a whole, or when some of it was
//! sent already, cuts the connection: half a message never looks like a whole one.

use super::answer::{Answer, Given, Sink, write_row};
pub use super::content::Kept;
use super::content::Stop;
use super::items::{Need, Plan};
use super::step::{FetchJob, Numbered};
use crate::fetch::folders::{ENTRIES_MAX, Folder, FolderEntry};
use crate::fetch::maildrop::FetchError;
use crate::mail::{Flags, Uid};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Octets gathered before they are sent.
const PIECE_OCTETS: usize = 64 * 1024;
/// Pieces that may wait for the socket.
const PIECES_WAITING_MAX: usize = 4;
/// Most messages made ready at once.
const BLOCK_MESSAGES_MAX: usize = 16;
/// Octets of messages made ready at once: what two threads hold between them. A larger message goes by itself.
const BLOCK_OCTETS_MAX: u64 = 1024 * 1024;

/// What the thread gives.
#[derive(Debug)]
pub enum Piece {
    /// Octets to send, in order. Never empty.
    Octets(Vec<u8>),
    /// The whole content of this message has been given.
    Whole(Uid),
    /// Of this message something was given that makes it `\Seen`.
    Seen(Uid),
    /// A literal cannot be finished: the connection must be cut. Nothing follows.
    Broken,
    /// That was all.
    End(Ended),
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct Ended {
    /// Messages that are no more.
    pub gone: u64,
    /// Messages that could not be read, and why the first could not.
    pub failed: Option<(u64, FetchError)>,
}

impl Ended {
    fn note(&mut self, error: FetchError, messages: u64) {
        match &mut self.failed {
            _ if error == FetchError::Gone => self.gone += messages,
            Some((failed, _)) => *failed += messages,
            None => self.failed = Some((messages, error)),
        }
    }

    fn add(&mut self, others: Ended) {
        self.gone += others.gone;
        if let Some((messages, error)) = others.failed {
            self.note(error, messages);
        }
    }
}

/// Starts to fetch. Ends by itself when the receiver is dropped. What `kept` holds is the connection's, from one job to the next;
/// `right` is what the thread holds on to until its end.
pub fn start(
    folder: Arc<dyn Folder>,
    job: FetchJob,
    kept: Kept,
    right: impl Send + 'static,
) -> mpsc::Receiver<Piece> {
    let (queue, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        let plan = Plan::of(&job.items);
        let run = Run { folder: folder.as_ref(), plan, may_set_seen: job.may_set_seen, kept };
        let last = match run.all(&job.messages, &queue) {
            Ok(ended) => Piece::End(ended),
            Err(Cut::Broken) => Piece::Broken,
            Err(Cut::Unwanted) => return,
        };
        // The client may be gone by now; then nobody wants to know.
        queue.blocking_send(last).unwrap_or_default();
        drop(right);
    });
    receiver
}

/// Why a job does not come to its end.
enum Cut {
    Broken,
    Unwanted,
}

/// A message with its entry.
type Found<'m> = (&'m Numbered, FolderEntry);

struct Run<'f> {
    folder: &'f dyn Folder,
    plan: Plan,
    may_set_seen: bool,
    kept: Kept,
}

impl Run<'_> {
    fn all(&self, messages: &[Numbered], queue: &mpsc::Sender<Piece>) -> Result<Ended, Cut> {
        let mut out = Out::new(Some(queue));
        let mut ended = Ended::default();
        let mut left = messages.len();
        for chunk in messages.chunks(ENTRIES_MAX) {
            left -= chunk.len();
            if self.plan.need == Need::Row {
                self.rows(chunk.iter().map(|message| (message, None)), &mut out)?;
                continue;
            }
            let uids: Vec<Uid> = chunk.iter().map(|message| message.row.uid).collect();
            let entries = match self.folder.entries(&uids) {
                Ok(entries) => entries,
                // What cannot be listed now will not be listed a moment later.
                Err(error) => {
                    ended.note(error, (chunk.len() + left) as u64);
                    break;
                }
            };
            let found = matched(chunk, entries);
            ended.gone += (chunk.len() - found.len()) as u64;
            if self.plan.need == Need::Entry {
                self.rows(found.iter().map(|(message, entry)| (*message, Some(entry))), &mut out)?;
            } else {
                self.messages(&found, &mut out, &mut ended)?;
            }
        }
        out.flush().map_err(|_| Cut::Unwanted)?;
        Ok(ended)
    }

    fn rows<'m>(
        &self,
        messages: impl Iterator<Item = (&'m Numbered, Option<&'m FolderEntry>)>,
        out: &mut Out<'_>,
    ) -> Result<(), Cut> {
        for (message, entry) in messages {
            write_row(&mut out.gathered, message, entry, &self.plan);
            if out.gathered.len() >= PIECE_OCTETS {
                out.flush().map_err(|_| Cut::Unwanted)?;
            }
        }
        Ok(())
    }

    fn messages(&self, found: &[Found<'_>], out: &mut Out<'_>, ended: &mut Ended) -> Result<(), Cut> {
        let mut rest = found;
        while let Some(first) = rest.first() {
            let (block, later) = rest.split_at(self.block(rest));
            rest = later;
            if block.is_empty() {
                let (_, later) = rest.split_at(1);
                rest = later;
                self.message(first, Some(&self.kept), out, ended)?;
                continue;
            }
            let (first_half, second_half) = block.split_at(block.len().div_ceil(2));
            let halves = std::thread::scope(|scope| {
                let other = (!second_half.is_empty()).then(|| scope.spawn(|| self.ready(second_half)));
                let mine = self.ready(first_half);
                (mine, other.map(|other| other.join()))
            });
            out.append(halves.0, ended).map_err(|_| Cut::Unwanted)?;
            match halves.1 {
                Some(Ok(ready)) => out.append(ready, ended).map_err(|_| Cut::Unwanted)?,
                Some(Err(_)) => ended.note(FetchError::Temporary, second_half.len() as u64),
                None => {}
            }
        }
        Ok(())
    }

    /// How many of the next messages are made ready at once.
    fn block(&self, messages: &[Found<'_>]) -> usize {
        let large = self.plan.large.max(1) as u64;
        let mut octets = 0_u64;
        let fits = |(_, entry): &&Found<'_>| {
            octets = octets.saturating_add(entry.canonical.octets.saturating_mul(large));
            octets <= BLOCK_OCTETS_MAX
        };
        messages.iter().take(BLOCK_MESSAGES_MAX).take_while(fits).count()
    }

    /// The whole answers for some small messages.
    fn ready(&self, messages: &[Found<'_>]) -> (Out<'static>, Ended) {
        let (mut out, mut ended) = (Out::new(None), Ended::default());
        for message in messages {
            // Without a queue nothing is sent, so nothing can break.
            self.message(message, None, &mut out, &mut ended).unwrap_or_default();
        }
        (out, ended)
    }

    fn message(
        &self,
        (message, entry): &Found<'_>,
        kept: Option<&Kept>,
        out: &mut Out<'_>,
        ended: &mut Ended,
    ) -> Result<(), Cut> {
        out.begin();
        let mut answer = Answer::new(self.folder, message, entry);
        let given = match kept {
            Some(kept) => answer.write_on(&self.plan, out, kept),
            None => answer.write(&self.plan, out),
        };
        match given {
            Ok(given) => {
                self.mark(message, given, out);
                Ok(())
            }
            Err(Stop::Failed(error)) if out.take_back() => {
                ended.note(error, 1);
                Ok(())
            }
            Err(Stop::Failed(_)) => Err(Cut::Broken),
            Err(Stop::Unwanted) => Err(Cut::Unwanted),
        }
    }

    fn mark(&self, message: &Numbered, given: Given, out: &mut Out<'_>) {
        if given.whole {
            out.marks.push(Piece::Whole(message.row.uid));
        }
        if given.seen && self.may_set_seen && !message.row.flags.contains(Flags::SEEN) {
            out.marks.push(Piece::Seen(message.row.uid));
        }
    }
}

/// The messages that have an entry. Both are in UID order.
fn matched(messages: &[Numbered], entries: Vec<FolderEntry>) -> Vec<Found<'_>> {
    let mut entries = entries.into_iter().peekable();
    let entry_of = |message: &Numbered| {
        while entries.next_if(|entry| entry.uid < message.row.uid).is_some() {}
        entries.next_if(|entry| entry.uid == message.row.uid)
    };
    let mut entry_of = entry_of;
    messages.iter().filter_map(|message| Some((message, entry_of(message)?))).collect()
}

/// What is gathered before it is sent.
struct Out<'q> {
    gathered: Vec<u8>,
    /// What to say behind what is gathered.
    marks: Vec<Piece>,
    queue: Option<&'q mpsc::Sender<Piece>>,
    /// Where the message being written begins in what is gathered; `None` when some of it was sent.
    begun: Option<usize>,
}

impl<'q> Out<'q> {
    fn new(queue: Option<&'q mpsc::Sender<Piece>>) -> Out<'q> {
        Out { gathered: Vec::new(), marks: Vec::new(), queue, begun: None }
    }

    fn begin(&mut self) {
        self.begun = Some(self.gathered.len());
    }

    /// Takes back what was written of a message; false when it is too late.
    fn take_back(&mut self) -> bool {
        self.begun.map(|begun| self.gathered.truncate(begun)).is_some()
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let Some(queue) = self.queue else { return Ok(()) };
        self.begun = None;
        let send = |piece| queue.blocking_send(piece).map_err(|_| Stop::Unwanted);
        if !self.gathered.is_empty() {
            send(Piece::Octets(std::mem::take(&mut self.gathered)))?;
        }
        self.marks.drain(..).try_for_each(send)
    }

    /// Adds whole answers.
    fn append(&mut self, (mut ready, ended_of): (Out<'_>, Ended), ended: &mut Ended) -> Result<(), Stop> {
        ended.add(ended_of);
        if self.gathered.is_empty() {
            self.gathered = ready.gathered;
        } else {
            self.gathered.append(&mut ready.gathered);
        }
        self.marks.append(&mut ready.marks);
        if self.gathered.len() >= PIECE_OCTETS { self.flush() } else { Ok(()) }
    }
}

impl Sink for Out<'_> {
    fn room(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    fn put(&mut self, octets: &[u8]) -> Result<(), Stop> {
        if !self.gathered.is_empty() && self.gathered.len() + octets.len() > PIECE_OCTETS {
            self.flush()?;
        }
        self.gathered.extend_from_slice(octets);
        Ok(())
    }
}
