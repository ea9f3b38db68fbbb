//! From a message's stored bytes to pieces ready for the socket, on a thread that may block.
//!
//! The thread reads, decrypts, makes canonical, stuffs dots and cuts for TOP; a short queue holds the next
//! pieces while the socket takes the last one, and stops the thread when the client is slow. The thread is one of
//! [`threads`](crate::fetch::threads), which bound how many there are; it is held for as long as the message takes, and a
//! deadline on each write bounds how long that is. Dropping the receiver ends it.
//!
//! Invariant: [`Piece::End`] is sent only when every octet was read and the size is the one announced. What
//! comes short is damage, whoever's fault it is, and must not look like mail.

use crate::fetch::canonical::{Canonical, Top, served_octets};
use crate::fetch::maildrop::{FetchError, Maildrop};
use crate::fetch::threads::Thread;
use std::borrow::Cow;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Octets read at once.
pub(super) const PIECE_OCTETS: usize = 64 * 1024;
/// Pieces that may wait for the socket.
const PIECES_WAITING_MAX: usize = 3;

/// What the thread gives.
#[derive(Debug)]
pub(super) enum Piece {
    /// Octets to send. Never empty.
    Octets(Vec<u8>),
    /// That was all that was asked for, the line end before the final dot included.
    End {
        /// The whole message was given; false when TOP left something out.
        is_whole: bool,
    },
}

/// Why a message did not come to its end.
#[derive(Debug)]
pub(super) enum PumpError {
    /// It could not be opened.
    Open(FetchError),
    /// It could not be read to its end.
    Read(io::Error),
}

/// Starts to read a message; for TOP, its header and `lines` lines of its body.
pub(super) fn start(
    maildrop: Arc<dyn Maildrop>,
    index: usize,
    lines: Option<u64>,
    thread: Thread,
) -> mpsc::Receiver<Result<Piece, PumpError>> {
    let (pieces, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        let last = match pump(maildrop.as_ref(), index, lines, &pieces) {
            Ok(Some(end)) => Ok(end),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        // The client may be gone by now; then nobody wants to know.
        pieces.blocking_send(last).unwrap_or_default();
        drop(thread);
    });
    receiver
}

/// `None` when nobody listens any more.
fn pump(
    maildrop: &dyn Maildrop,
    index: usize,
    lines: Option<u64>,
    pieces: &mpsc::Sender<Result<Piece, PumpError>>,
) -> Result<Option<Piece>, PumpError> {
    let expected = maildrop.entries().get(index).map(|entry| served_octets(&entry.canonical));
    let mut reader = maildrop.read(index).map_err(PumpError::Open)?;
    let mut form = Canonical::dot_stuffed();
    let mut top = lines.map(Top::new);
    loop {
        let mut chunk = Vec::with_capacity(PIECE_OCTETS);
        let read =
            reader.by_ref().take(PIECE_OCTETS as u64).read_to_end(&mut chunk).map_err(PumpError::Read)?;
        if read == 0 {
            break;
        }
        let changed = match form.push(&chunk) {
            Cow::Borrowed(_) => None,
            Cow::Owned(changed) => Some(changed),
        };
        let mut piece = changed.unwrap_or(chunk);
        let cut = top.as_mut().and_then(|top| top.cut(&piece));
        piece.truncate(cut.unwrap_or(piece.len()));
        if !piece.is_empty() && pieces.blocking_send(Ok(Piece::Octets(piece))).is_err() {
            return Ok(None);
        }
        if cut.is_some() {
            return Ok(Some(Piece::End { is_whole: false }));
        }
    }
    let last_line_end = form.finish();
    if Some(form.octets()) != expected {
        let text = format!("{} octets where {} were announced", form.octets(), expected.unwrap_or(0));
        return Err(PumpError::Read(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    if !last_line_end.is_empty() && pieces.blocking_send(Ok(Piece::Octets(last_line_end.to_vec()))).is_err() {
        return Ok(None);
    }
    Ok(Some(Piece::End { is_whole: true }))
}
