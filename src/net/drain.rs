//! The wish to end, told to everybody once.
//!
//! One [`Drain`] exists per process and is cloned into every accept loop and connection. Starting it cannot
//! be taken back. What a room does then is its own affair: accept loops stop accepting and wait for their
//! connections up to a deadline, connections say goodbye at the next boundary of their protocol.

use std::sync::Arc;
use tokio::sync::watch;

/// Tells accept loops and connections to come to an end. Clones share one signal.
#[derive(Clone, Debug)]
pub struct Drain {
    signal: Arc<watch::Sender<bool>>,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain::new()
    }
}

impl Drain {
    /// A drain that has not started.
    pub fn new() -> Drain {
        Drain { signal: Arc::new(watch::Sender::new(false)) }
    }

    /// Starts the drain. Starting it again changes nothing.
    pub fn start(&self) {
        self.signal.send_replace(true);
    }

    /// True once [`Drain::start`] was called.
    pub fn is_started(&self) -> bool {
        *self.signal.borrow()
    }

    /// Resolves once the drain has started; at once if it has already. May be dropped and called again.
    pub async fn started(&self) {
        let mut receiver = self.signal.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        while !*receiver.borrow_and_update() {
            if receiver.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_those_who_wait_and_those_who_come_later() {
        let drain = Drain::new();
        assert!(!drain.is_started());
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.started().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drain.start();
        drain.start();
        waiting.await.unwrap();
        drain.started().await;
        assert!(drain.is_started());
    }
}
