//! A search that ends when nobody waits for it any more.

use super::search;
use super::step::{Numbered, SearchError, SearchJob};
use crate::fetch::door::Door;
use crate::fetch::folders::Folder;
use crate::fetch::imap::conversation::at;
use crate::fetch::talk::End;
use crate::net::wire::{IDLE_OCTETS, Wire, WireError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// How long a search goes on for a client that sends no more. It may have closed its sending half only, as scripts do, and still
/// read; most often it is gone.
const HALF_CLOSED_WAIT: Duration = Duration::from_secs(5);

/// What a search came to, unless it panicked.
type Found = Result<Result<Vec<Numbered>, SearchError>, JoinError>;

/// A search at work on a thread of its own. Dropped, it stops soon.
pub(super) struct Search {
    stopped: Arc<AtomicBool>,
    running: JoinHandle<Result<Vec<Numbered>, SearchError>>,
}

impl Drop for Search {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Search {
    /// Begins. It is its turn until the thread ends, whoever still waits for it: what it holds is held until then.
    pub(super) fn start(folder: Arc<dyn Folder>, job: SearchJob, held: impl Send + 'static) -> Search {
        let stopped = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopped);
        let running = spawn_blocking(move || {
            let found = search::run(folder.as_ref(), &job, &|| !told.load(Ordering::Relaxed));
            drop(held);
            found
        });
        Search { stopped, running }
    }

    /// Waits for its end, or for that of the connection. What the client sends meanwhile stays unread.
    pub(super) async fn end<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        wire: &mut Wire<S>,
        door: &Door,
    ) -> Result<Found, End> {
        let until = Instant::now() + door.waits.idle;
        let (mut watches, mut give_up_at) = (true, None);
        loop {
            tokio::select! {
                biased;
                found = &mut self.running => return Ok(found),
                () = door.drain.started() => {
                    // It says soon that it was stopped, and then the client hears why.
                    self.stopped.store(true, Ordering::Relaxed);
                    return Ok((&mut self.running).await);
                }
                read = wire.fill(IDLE_OCTETS, until), if watches => match read {
                    Ok(_) => {}
                    Err(WireError::Full) => watches = false,
                    Err(WireError::Closed) => {
                        watches = false;
                        give_up_at = Some(Instant::now() + HALF_CLOSED_WAIT);
                    }
                    Err(error) => return Err(error.into()),
                },
                () = at(give_up_at) => return Err(End::Drop),
            }
        }
    }
}
