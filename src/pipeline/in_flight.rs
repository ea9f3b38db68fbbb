//! How much may be on its way in at once: one budget for all messages begun and not yet stored or dropped.
//!
//! A message takes from the budget what it writes and returns all of it when it is stored, refused or given up. When there is
//! no room the writer waits, so its peer is not read and TCP slows it down; after [`InFlightLimits::wait`] the message is
//! refused for now and returns what it held.
//!
//! # Why nobody waits for ever
//!
//! Messages that each hold a part and wait for more would wait for each other. So the budget has two parts: all share what is
//! left beside one message of the largest size, and that one size is the *reserve*, which belongs to one message at a time.
//! The first that finds no shared room takes the reserve and draws on it to its end; no message is larger, so it never waits
//! again. When it ends, the next takes it over. Hence:
//! - Whenever somebody waits, somebody else is not waiting, and holds the reserve. It ends within the time its pace allows.
//! - Whoever waits does so in one line, in the order they came, so none is overtaken for ever; and for a bounded time.
//! - A message alone finds the shared part or the reserve free, and both together hold the largest.
//! - The total never exceeds the budget, but for limits that were lowered while messages were on their way.

use crate::observe::metrics;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Bounds on what is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightLimits {
    /// Of all messages together, in octets. At least `message_octets_max`; what is more is what those share that are on their
    /// way beside the largest.
    pub octets_max: u64,
    /// The largest message there can be, in octets.
    pub message_octets_max: u64,
    /// How long a message waits for room.
    pub wait: Duration,
}

impl Default for InFlightLimits {
    fn default() -> InFlightLimits {
        InFlightLimits {
            octets_max: 1024 * 1024 * 1024,
            message_octets_max: 400 * 1024 * 1024,
            wait: Duration::from_secs(60),
        }
    }
}

/// The budget. One for a pipeline.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    state: Mutex<State>,
    /// Held by who is next, so that those behind wait in the order they came.
    turn: tokio::sync::Mutex<()>,
    /// Something was returned, or the limits changed.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    limits: InFlightLimits,
    /// Taken from what all share.
    shared: u64,
    /// Taken from the reserve.
    reserved: u64,
    /// Some message has the reserve.
    is_reserve_held: bool,
}

/// What one message holds. Dropped, it is returned.
#[derive(Debug)]
pub(super) struct Share {
    in_flight: Arc<InFlight>,
    shared: u64,
    reserved: u64,
    holds_reserve: bool,
}

/// There was no room in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

impl InFlight {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts these limits in force. What is in flight stays so.
    pub(super) fn limit(&self, limits: InFlightLimits) {
        self.state().limits = limits;
        self.freed.notify_waiters();
    }

    /// The octets in flight.
    pub(super) fn octets(&self) -> u64 {
        let state = self.state();
        state.shared.saturating_add(state.reserved)
    }

    /// The share of a new message, which holds nothing yet.
    pub(super) fn share(self: &Arc<InFlight>) -> Share {
        Share { in_flight: Arc::clone(self), shared: 0, reserved: 0, holds_reserve: false }
    }
}

impl Share {
    /// Takes so many octets more, when there is room for them.
    ///
    /// # Errors
    /// [`Crowded`]: there was none for as long as a message may wait.
    pub(super) async fn take(&mut self, octets: u64) -> Result<(), Crowded> {
        let in_flight = Arc::clone(&self.in_flight);
        // Who holds the reserve waits for nobody, not even for its turn; others do only when somebody is before them.
        let free = self.holds_reserve || in_flight.turn.try_lock().is_ok();
        if free && self.try_take(octets) {
            return Ok(());
        }
        let wait = in_flight.state().limits.wait;
        let waiting = async {
            let _turn = in_flight.turn.lock().await;
            loop {
                let mut freed = pin!(in_flight.freed.notified());
                // From here on nothing that is returned is missed.
                freed.as_mut().enable();
                if self.try_take(octets) {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(wait, waiting).await.map_err(|_| Crowded)
    }

    fn try_take(&mut self, octets: u64) -> bool {
        let in_flight = Arc::clone(&self.in_flight);
        let mut state = in_flight.state();
        let InFlightLimits { octets_max, message_octets_max, .. } = state.limits;
        let shared_max = octets_max.saturating_sub(message_octets_max);
        if !self.holds_reserve && state.shared.saturating_add(octets) <= shared_max {
            state.shared = state.shared.saturating_add(octets);
            self.shared = self.shared.saturating_add(octets);
        } else if self.holds_reserve || !state.is_reserve_held {
            (state.is_reserve_held, self.holds_reserve) = (true, true);
            state.reserved = state.reserved.saturating_add(octets);
            self.reserved = self.reserved.saturating_add(octets);
        } else {
            return false;
        }
        metrics::smtp_in_flight(i64::try_from(octets).unwrap_or(i64::MAX));
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.in_flight.state();
        state.shared = state.shared.saturating_sub(self.shared);
        state.reserved = state.reserved.saturating_sub(self.reserved);
        state.is_reserve_held &= !self.holds_reserve;
        drop(state);
        let octets = self.shared.saturating_add(self.reserved);
        metrics::smtp_in_flight(-i64::try_from(octets).unwrap_or(i64::MAX));
        self.in_flight.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn in_flight(octets_max: u64, message_octets_max: u64, wait: Duration) -> Arc<InFlight> {
        let in_flight = Arc::new(InFlight::default());
        in_flight.limit(InFlightLimits { octets_max, message_octets_max, wait });
        in_flight
    }

    #[tokio::test]
    async fn the_largest_message_fits_when_it_is_alone() {
        for octets_max in [100, 130, 1_000] {
            let in_flight = in_flight(octets_max, 100, Duration::ZERO);
            let mut share = in_flight.share();
            for _ in 0..100 {
                assert_eq!(share.take(1).await, Ok(()), "{octets_max}");
            }
            drop(share);
            assert_eq!(in_flight.octets(), 0);
        }
    }

    #[tokio::test]
    async fn one_draws_on_the_reserve_and_the_others_wait_for_what_is_returned() {
        let in_flight = in_flight(150, 100, SOON);
        let mut filler = in_flight.share();
        filler.take(50).await.unwrap();
        let mut first = in_flight.share();
        first.take(60).await.unwrap();
        let mut second = in_flight.share();
        {
            let mut waiting = Box::pin(second.take(1));
            assert!(futures_now(&mut waiting).is_none());
            first.take(40).await.unwrap();
            assert_eq!(in_flight.octets(), 150);
            assert!(futures_now(&mut waiting).is_none());
            drop(first);
            waiting.await.unwrap();
        }
        drop((filler, second));
        assert_eq!(in_flight.octets(), 0);
    }

    fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn more_than_fits_at_once_ends_some_refuses_the_rest_and_returns_everything() {
        // 20 messages of 50 octets, in steps of 10, through a budget of 130. None goes on before all have begun.
        let in_flight = in_flight(130, 50, Duration::from_millis(200));
        let begun = Arc::new(tokio::sync::Barrier::new(20));
        let messages: Vec<_> = (0..20)
            .map(|_| {
                let (mut share, begun) = (in_flight.share(), Arc::clone(&begun));
                tokio::spawn(async move {
                    let first = share.take(4).await;
                    begun.wait().await;
                    first?;
                    for _ in 0..5 {
                        share.take(9).await?;
                    }
                    Ok::<(), Crowded>(())
                })
            })
            .collect();
        let mut finished = 0;
        for message in messages {
            let ended = tokio::time::timeout(SOON, message).await.expect("none hangs").unwrap();
            finished += usize::from(ended.is_ok());
        }
        assert!(finished > 0);
        assert_eq!(in_flight.octets(), 0);
    }

    #[tokio::test]
    async fn limits_that_are_raised_let_those_go_on_that_wait() {
        let in_flight = in_flight(100, 100, SOON);
        let mut first = in_flight.share();
        first.take(10).await.unwrap();
        let mut second = in_flight.share();
        let mut waiting = Box::pin(second.take(10));
        assert!(futures_now(&mut waiting).is_none());
        in_flight.limit(InFlightLimits { octets_max: 200, message_octets_max: 100, wait: SOON });
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_and_those_behind_go_on() {
        let in_flight = in_flight(100, 100, Duration::from_millis(20));
        let mut first = in_flight.share();
        first.take(10).await.unwrap();
        let mut second = in_flight.share();
        assert_eq!(second.take(10).await, Err(Crowded));
        drop(second);
        drop(first);
        assert_eq!(in_flight.share().take(100).await, Ok(()));
    }
}
