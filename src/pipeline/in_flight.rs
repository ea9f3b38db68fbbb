//! How much may be on its way in at once: one budget for all messages begun and not yet stored or dropped.
//!
//! A message takes from the budget what it writes and returns all of it when it is stored, refused or given up. When there is
//! no room the writer waits, so its peer is not read and TCP slows it down; after [`InFlightLimits::wait`] the message is
//! refused for now and returns what it held.
//!
//! # Two groups
//!
//! Peers of the networks that the gateway is there for are *favoured* ([`AdmissionPolicy`](crate::net::admission::AdmissionPolicy)).
//! What others hold must not keep them waiting: a single stranger that knows an address could else fill the budget, slowly, and
//! keep every report out. So the budget has three parts:
//!
//! | part | octets | for |
//! |---|---|---|
//! | reserve of the favoured | one message of the largest size | one favoured message at a time |
//! | reserve of the others | the same | one other message at a time |
//! | shared | what is left | all; the others together at most half of it |
//!
//! # Small and large
//!
//! Most messages are small, and two of 150 MB would take all there is. So of what a group may have of the shared part, a quarter is
//! for the first [`SMALL_OCTETS_MAX`] of each message, and those do not stand in line as long as there is room for them: what they
//! pass by is only there for them, and the reserve goes to the first in line, as ever. When there is none they wait for it in a line
//! of their own, the first of which stands in the other line too.
//!
//! # Why nobody waits for ever
//!
//! Messages that each hold a part and wait for more would wait for each other. So the first of a group that finds no shared room
//! takes its group's reserve and draws on that to its end; no message is larger, so it never waits again. When it ends, the next
//! takes the reserve over. Hence, in each group by itself:
//! - Whenever somebody waits, somebody else of the group is not waiting, and holds its reserve. That one ends when its peer has
//!   sent it, is too slow (`[smtp] data_idle_seconds`, `min_data_bytes_per_second`) or has taken too long (`max_data_seconds`).
//! - Whoever waits does so in a line of its group, of the small or of all, in the order they came, so none is overtaken for ever
//!   by its like; and for a bounded time, which may end before that of the one that holds the reserve: then it is refused for now.
//! - A message that is alone in its group finds the reserve free, which holds the largest.
//! - The favoured find half of the shared part and their reserve free of others, whatever those do.
//! - The total never exceeds the budget, but for limits that were lowered while messages were on their way, and for a budget of
//!   less than two messages, which no configuration can give.

use crate::observe::metrics;
use crate::store::SPOOL_MEMORY_OCTETS_MAX;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A message of at most this many octets is small: it stays in memory.
const SMALL_OCTETS_MAX: u64 = SPOOL_MEMORY_OCTETS_MAX as u64;
/// Of what a group may have of the shared part, one in so many octets is for small messages.
const SMALL_PART: u64 = 4;

/// Bounds on what is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightLimits {
    /// Of all messages together, in octets. At least twice `message_octets_max`; what is more is shared.
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
    /// Held by who is next among the others, so that those behind wait in the order they came.
    turn: tokio::sync::Mutex<()>,
    /// The same of the favoured.
    favoured_turn: tokio::sync::Mutex<()>,
    /// Held by the first small message of the others that waits, as well as its turn: for the room of the small alone.
    small_turn: tokio::sync::Mutex<()>,
    /// The same of the favoured.
    favoured_small_turn: tokio::sync::Mutex<()>,
    /// Something was returned, or the limits changed.
    freed: Notify,
}

/// How many groups there are: others, then the favoured.
const GROUPS: usize = 2;

#[derive(Debug, Default)]
struct State {
    limits: InFlightLimits,
    groups: [Taken; GROUPS],
}

/// What the messages of one group have taken, in octets.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// From what all share.
    shared: u64,
    /// From the group's reserve.
    reserved: u64,
    /// Some message has the reserve.
    is_reserve_held: bool,
}

impl State {
    /// How much of the shared part this group may take still, for a message that is small as yet or is not.
    fn shared_free(&self, is_favoured: bool, is_small: bool) -> u64 {
        let InFlightLimits { octets_max, message_octets_max, .. } = self.limits;
        let shared = octets_max.saturating_sub(message_octets_max.saturating_mul(GROUPS as u64));
        let [others, favoured] = self.groups;
        let free = shared.saturating_sub(others.shared.saturating_add(favoured.shared));
        let (free, most) = match is_favoured {
            true => (free, shared),
            false => (free.min((shared / 2).saturating_sub(others.shared)), shared / 2),
        };
        if is_small { free } else { free.saturating_sub(most / SMALL_PART) }
    }
}

/// What one message holds. Dropped, it is returned.
#[derive(Debug)]
pub(super) struct Share {
    in_flight: Arc<InFlight>,
    is_favoured: bool,
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
        let groups = self.state().groups;
        groups.iter().fold(0, |sum, taken| sum.saturating_add(taken.shared).saturating_add(taken.reserved))
    }

    /// The share of a new message, which holds nothing yet and is not favoured.
    pub(super) fn share(self: &Arc<InFlight>) -> Share {
        let in_flight = Arc::clone(self);
        Share { in_flight, is_favoured: false, shared: 0, reserved: 0, holds_reserve: false }
    }
}

impl Share {
    /// Its message comes from a favoured peer. For a share that holds nothing yet; any other stays what it was.
    pub(super) fn favour(&mut self) {
        self.is_favoured |= self.shared == 0 && self.reserved == 0;
    }

    /// Takes so many octets more, when there is room for them.
    ///
    /// # Errors
    /// [`Crowded`]: there was none for as long as a message may wait.
    pub(super) async fn take(&mut self, octets: u64) -> Result<(), Crowded> {
        let in_flight = Arc::clone(&self.in_flight);
        let (turn, small_turn) = match self.is_favoured {
            true => (&in_flight.favoured_turn, &in_flight.favoured_small_turn),
            false => (&in_flight.turn, &in_flight.small_turn),
        };
        let is_small = self.is_small_with(octets);
        let passes_by = is_small && small_turn.try_lock().is_ok();
        if passes_by && self.try_take(octets, false) {
            return Ok(());
        }
        // Who holds the reserve waits for nobody, not even for its turn; others do only when somebody is before them.
        let free = self.holds_reserve || (passes_by || !is_small) && turn.try_lock().is_ok();
        if free && self.try_take(octets, true) {
            return Ok(());
        }
        let wait = in_flight.state().limits.wait;
        let waiting = async {
            let _small_turn = if is_small { Some(small_turn.lock().await) } else { None };
            let mut its_turn = pin!(turn.lock());
            let mut turn = None;
            loop {
                let mut freed = pin!(in_flight.freed.notified());
                // From here on nothing that is returned is missed.
                freed.as_mut().enable();
                if (turn.is_some() || is_small) && self.try_take(octets, turn.is_some()) {
                    return;
                }
                tokio::select! {
                    guard = &mut its_turn, if turn.is_none() => turn = Some(guard),
                    () = freed => {}
                }
            }
        };
        tokio::time::timeout(wait, waiting).await.map_err(|_| Crowded)
    }

    fn is_small_with(&self, octets: u64) -> bool {
        self.shared.saturating_add(self.reserved).saturating_add(octets) <= SMALL_OCTETS_MAX
    }

    fn try_take(&mut self, octets: u64, is_its_turn: bool) -> bool {
        let in_flight = Arc::clone(&self.in_flight);
        let mut state = in_flight.state();
        let shared_free = state.shared_free(self.is_favoured, self.is_small_with(octets));
        let [others, favoured] = &mut state.groups;
        let group = if self.is_favoured { favoured } else { others };
        if !self.holds_reserve && octets <= shared_free {
            group.shared = group.shared.saturating_add(octets);
            self.shared = self.shared.saturating_add(octets);
        } else if self.holds_reserve || (is_its_turn && !group.is_reserve_held) {
            (group.is_reserve_held, self.holds_reserve) = (true, true);
            group.reserved = group.reserved.saturating_add(octets);
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
        let [others, favoured] = &mut state.groups;
        let group = if self.is_favoured { favoured } else { others };
        group.shared = group.shared.saturating_sub(self.shared);
        group.reserved = group.reserved.saturating_sub(self.reserved);
        group.is_reserve_held &= !self.holds_reserve;
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
        for octets_max in [200, 230, 1_000] {
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
        let in_flight = in_flight(300, 100, SOON);
        let mut filler = in_flight.share();
        filler.take(50).await.unwrap();
        let mut first = in_flight.share();
        first.take(60).await.unwrap();
        let mut second = in_flight.share();
        {
            let mut waiting = Box::pin(second.take(1));
            assert!(futures_now(&mut waiting).is_none());
            first.take(40).await.unwrap();
            assert_eq!(in_flight.octets(), 150, "half of what is shared is not for others");
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
        // 20 messages of up to 50 octets through a budget of 130, of which others may use 65. None goes on before all have
        // begun.
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
        let in_flight = in_flight(200, 100, SOON);
        let mut first = in_flight.share();
        first.take(10).await.unwrap();
        let mut second = in_flight.share();
        let mut waiting = Box::pin(second.take(10));
        assert!(futures_now(&mut waiting).is_none());
        in_flight.limit(InFlightLimits { octets_max: 300, message_octets_max: 100, wait: SOON });
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_and_those_behind_go_on() {
        let in_flight = in_flight(200, 100, Duration::from_millis(20));
        let mut first = in_flight.share();
        first.take(10).await.unwrap();
        let mut second = in_flight.share();
        assert_eq!(second.take(10).await, Err(Crowded));
        drop(second);
        drop(first);
        assert_eq!(in_flight.share().take(100).await, Ok(()));
    }

    /// Takes all that a group can have: its reserve, by one message, and what is shared, by others.
    async fn fill(in_flight: &Arc<InFlight>, is_favoured: bool) -> Vec<Share> {
        let mut held = Vec::new();
        loop {
            let mut share = in_flight.share();
            if is_favoured {
                share.favour();
            }
            for _ in 0..100 {
                if share.take(1).await.is_err() {
                    return held;
                }
            }
            held.push(share);
        }
    }

    #[tokio::test]
    async fn what_others_hold_leaves_the_favoured_half_of_the_shared_part_and_a_reserve() {
        let in_flight = in_flight(1_000, 100, Duration::ZERO);
        let others = fill(&in_flight, false).await;
        assert_eq!(in_flight.octets(), 800 / 2 + 100);
        let favoured = fill(&in_flight, true).await;
        assert_eq!(in_flight.octets(), 1_000);
        drop(favoured);
        // And the other way round: the reserve of the others is theirs.
        drop(others);
        let favoured = fill(&in_flight, true).await;
        assert_eq!(in_flight.octets(), 900);
        let others = fill(&in_flight, false).await;
        assert_eq!(in_flight.octets(), 1_000);
        drop((favoured, others));
        assert_eq!(in_flight.octets(), 0);
    }

    #[tokio::test]
    async fn small_messages_pass_by_large_ones_that_wait_for_room() {
        const MIB: u64 = 1024 * 1024;
        // Others may have 100 of what is shared, large ones of them 75.
        let in_flight = in_flight(400 * MIB, 100 * MIB, SOON);
        let mut held = Vec::new();
        for octets in [75, 90] {
            let mut share = in_flight.share();
            share.take(octets * MIB).await.unwrap();
            held.push(share);
        }
        let mut large = in_flight.share();
        let mut waiting = Box::pin(large.take(2 * MIB));
        assert!(futures_now(&mut waiting).is_none());
        for _ in 0..25 {
            let mut small = in_flight.share();
            assert_eq!(futures_now(&mut Box::pin(small.take(MIB))), Some(Ok(())));
            held.push(small);
        }
        let mut small = in_flight.share();
        assert!(futures_now(&mut Box::pin(small.take(1))).is_none(), "their part is full");
        // The reserve goes to who waits for it, not to a small one that comes by.
        held.remove(1);
        assert_eq!(futures_now(&mut waiting), Some(Ok(())));
        assert!(futures_now(&mut Box::pin(small.take(1))).is_none());
    }

    #[tokio::test]
    async fn a_small_message_that_waits_is_not_overtaken_by_later_ones() {
        const MIB: u64 = 1024 * 1024;
        let in_flight = in_flight(400 * MIB, 100 * MIB, SOON);
        let mut held = Vec::new();
        for octets in [75, 90].into_iter().chain([1; 25]) {
            let mut share = in_flight.share();
            share.take(octets * MIB).await.unwrap();
            held.push(share);
        }
        let (mut large, mut older, mut newer) = (in_flight.share(), in_flight.share(), in_flight.share());
        let mut large = Box::pin(large.take(2 * MIB));
        let mut older = Box::pin(older.take(MIB));
        let mut newer = Box::pin(newer.take(1));
        assert!(futures_now(&mut large).is_none());
        assert!(futures_now(&mut older).is_none());
        held.pop();
        assert!(futures_now(&mut newer).is_none(), "there is room, and it is not the first");
        assert_eq!(futures_now(&mut older), Some(Ok(())), "it need not wait for the large one");
        drop(older);
        held.pop();
        assert_eq!(futures_now(&mut newer), Some(Ok(())));
        assert!(futures_now(&mut large).is_none());
    }

    #[tokio::test]
    async fn the_favoured_do_not_stand_in_line_behind_others() {
        let in_flight = in_flight(200, 100, SOON);
        let mut first = in_flight.share();
        first.take(1).await.unwrap();
        let mut second = in_flight.share();
        let mut waiting = Box::pin(second.take(1));
        assert!(futures_now(&mut waiting).is_none());
        let mut favoured = in_flight.share();
        favoured.favour();
        for _ in 0..100 {
            assert_eq!(futures_now(&mut Box::pin(favoured.take(1))), Some(Ok(())));
        }
        drop(first);
        waiting.await.unwrap();
    }
}
