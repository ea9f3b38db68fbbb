//! Threads that read and search mail for clients, bounded over all protocols.
//!
//! Each waits for its client, and the pool they come from is also that of password checks and of mail that arrives: clients that
//! are slow must not have all of it. Whoever comes when none is free waits for one, in turn.

use crate::net::drain::Drain;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Threads at work for clients at once. A part of the 512 that may block.
pub const READING_THREADS_MAX: usize = 64;

/// All of them.
pub(super) struct Threads(Arc<Semaphore>);

/// The right to use one, until it is dropped: to be taken along by the thread.
#[derive(Debug)]
pub(super) struct Thread {
    _permit: OwnedSemaphorePermit,
}

impl Default for Threads {
    fn default() -> Threads {
        Threads::new(READING_THREADS_MAX)
    }
}

impl Threads {
    fn new(most: usize) -> Threads {
        Threads(Arc::new(Semaphore::new(most)))
    }

    /// One of them, waited for if need be; `None` once the server goes down. What was said so far must not wait for it: before a
    /// wait it is sent, which is what `flush` does.
    ///
    /// # Errors
    /// Those of `flush`.
    pub(super) async fn turn<E>(
        &self,
        drain: &Drain,
        flush: impl Future<Output = Result<(), E>>,
    ) -> Result<Option<Thread>, E> {
        if let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() {
            return Ok(Some(Thread { _permit: permit }));
        }
        flush.await?;
        tokio::select! {
            biased;
            () = drain.started() => Ok(None),
            permit = Arc::clone(&self.0).acquire_owned() => Ok(permit.ok().map(|permit| Thread { _permit: permit })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_when_none_is_free_waits_for_one_or_for_the_end() {
        let (threads, drain) = (Threads::new(2), Drain::new());
        let flushes = std::cell::Cell::new(0);
        let turn = || {
            threads.turn(&drain, async {
                flushes.set(flushes.get() + 1);
                Ok::<(), ()>(())
            })
        };
        let held = (turn().await.unwrap().unwrap(), turn().await.unwrap().unwrap());
        assert_eq!(flushes.get(), 0, "nobody had to wait");
        let mut waiting = std::pin::pin!(turn());
        let at_once = std::time::Duration::ZERO;
        assert!(tokio::time::timeout(at_once, waiting.as_mut()).await.is_err());
        assert_eq!(flushes.get(), 1);
        drop(held.0);
        let taken = waiting.await.unwrap();
        assert!(taken.is_some());
        drain.start();
        assert!(turn().await.unwrap().is_none());
    }
}
