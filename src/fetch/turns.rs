//! Whose password is checked next, when more come than are checked at once.
//!
//! A check costs time and memory on purpose, so few run at a time and the others wait. A flood of guesses from one network must
//! not make the poller wait behind all of them: networks take turns, as in start-time fair queueing. Each that waits has a
//! number, one more than that before it from the same network, and the smallest goes first; one from a network from which
//! somebody got in lately begins where the queue is, the others `STRANGERS_WAIT` numbers behind. A network of which no check
//! runs goes before one of which some do, so that with two at a time none has both while another waits. Whoever was passed over
//! `PASSED_OVER_MAX` times goes first, whatever else: known networks that ask without end keep no stranger out.
//!
//! The queue is bounded, in all and for each network. When it is full, whoever comes from a network that takes up less of it
//! takes the place of the last of the network that takes up most.

use crate::mail::Network;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Passwords checked at once: each takes about 50 ms of a core and 16 MB.
pub const PASSWORD_CHECKS_MAX: usize = 2;
/// Logins that may wait for theirs: two seconds' worth.
pub const WAITING_MAX: usize = 64;
/// Of those, from one network.
pub const WAITING_PER_NETWORK_MAX: usize = 16;
/// Turns that a network from which nobody got in lately lets others have, at most.
const STRANGERS_WAIT: u64 = 8;
/// How often anybody is passed over.
const PASSED_OVER_MAX: usize = 2 * WAITING_MAX;
/// How long anybody waits. The queue is shorter, unless the machine has stalled.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The turns, shared by whoever asks for one.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    turns: Arc<Mutex<Turns<oneshot::Sender<Turn>>>>,
}

/// The right to check one password, until dropped.
#[derive(Debug)]
pub struct Turn {
    gate: Gate,
    network: Network,
}

impl Gate {
    /// Waits for a turn; `is_known` says whether somebody got in from that network lately. `None` when too many wait already, or
    /// it took too long.
    pub async fn turn(&self, network: Network, is_known: bool) -> Option<Turn> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut turns = self.lock();
            if turns.start(network) {
                return Some(Turn { gate: self.clone(), network });
            }
            // Whoever had to make room learns it from its sender being dropped.
            drop(turns.wait(network, is_known, sender)?);
        }
        tokio::time::timeout(WAIT_MAX, receiver).await.ok()?.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Turns<oneshot::Sender<Turn>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.gate.lock().leave(self.network);
        if let Some((network, sender)) = next {
            // Whoever has gone meanwhile drops it, and so on, at most as often as there are waiting.
            drop(sender.send(Turn { gate: self.gate.clone(), network }));
        }
    }
}

/// Who runs and who waits. Values in, values out.
#[derive(Debug)]
struct Turns<T> {
    running: Vec<Network>,
    waiting: Vec<Waiting<T>>,
    /// The number of the last that left the queue.
    reached: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    network: Network,
    is_known: bool,
    number: u64,
    /// How often others went first.
    passed_over: usize,
    caller: T,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns { running: Vec::new(), waiting: Vec::new(), reached: 0 }
    }
}

impl<T> Turns<T> {
    /// Begins at once, if that may be.
    fn start(&mut self, network: Network) -> bool {
        let may = self.running.len() < PASSWORD_CHECKS_MAX;
        if may {
            self.running.push(network);
        }
        may
    }

    /// Queues up, and gives who had to make room for it; `None` when there is no room.
    fn wait(&mut self, network: Network, is_known: bool, caller: T) -> Option<Option<T>> {
        let waiting = self.waiting_of(network);
        if waiting >= WAITING_PER_NETWORK_MAX {
            return None;
        }
        let mut gone = None;
        if self.waiting.len() >= WAITING_MAX {
            let largest = self.waiting.iter().map(|one| self.waiting_of(one.network)).max().unwrap_or(0);
            // A stranger that takes up as much as one that is known goes first.
            let is_of_largest = |one: &&Waiting<T>| self.waiting_of(one.network) == largest;
            let last =
                self.waiting.iter().filter(is_of_largest).max_by_key(|one| (!one.is_known, one.number))?;
            if waiting + 1 >= largest && (last.is_known || !is_known) {
                return None;
            }
            let number = (last.network, last.number);
            let at = self.waiting.iter().position(|one| (one.network, one.number) == number)?;
            gone = Some(self.waiting.remove(at).caller);
        }
        let begin = self.reached + if is_known { 0 } else { STRANGERS_WAIT };
        let of_network = self.waiting.iter().filter(|one| one.network == network);
        let behind = of_network.map(|one| one.number + 1).max().unwrap_or(0);
        self.waiting.push(Waiting { network, is_known, number: begin.max(behind), passed_over: 0, caller });
        Some(gone)
    }

    /// One of this network has run; gives the next, which runs then.
    fn leave(&mut self, network: Network) -> Option<(Network, T)> {
        if let Some(at) = self.running.iter().position(|running| *running == network) {
            self.running.swap_remove(at);
        }
        let rank = |one: &Waiting<T>| {
            (one.passed_over < PASSED_OVER_MAX, self.running_of(one.network), one.number, !one.is_known)
        };
        let (at, _) = self.waiting.iter().enumerate().min_by_key(|(_, one)| rank(one))?;
        let next = self.waiting.remove(at);
        self.waiting.iter_mut().for_each(|one| one.passed_over += 1);
        self.reached = self.reached.max(next.number);
        self.running.push(next.network);
        Some((next.network, next.caller))
    }

    fn running_of(&self, network: Network) -> usize {
        self.running.iter().filter(|running| **running == network).count()
    }

    fn waiting_of(&self, network: Network) -> usize {
        self.waiting.iter().filter(|one| one.network == network).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> Network {
        Network::around(format!("192.0.{number}.1").parse().unwrap(), 24)
    }

    /// Two that run, both of network 0, and as many more of it that wait as may.
    fn flooded() -> Turns<u8> {
        let mut turns = Turns::default();
        assert!(turns.start(network(0)) && turns.start(network(0)) && !turns.start(network(0)));
        while turns.wait(network(0), false, 0).is_some() {}
        assert_eq!(turns.waiting.len(), WAITING_PER_NETWORK_MAX);
        turns
    }

    #[test]
    fn a_flood_of_one_network_leaves_room_for_the_next_at_once() {
        for is_known in [true, false] {
            let mut turns = flooded();
            assert_eq!(turns.wait(network(1), is_known, 1), Some(None));
            assert_eq!(turns.leave(network(0)), Some((network(1), 1)));
        }
    }

    #[test]
    fn networks_take_turns_and_those_known_go_first() {
        let mut turns = Turns::default();
        assert!(turns.start(network(8)) && turns.start(network(9)));
        for (of, is_known) in [(1, false), (1, false), (1, false), (2, false), (3, true), (3, true)] {
            assert_eq!(turns.wait(network(of), is_known, of), Some(None));
        }
        // One turn after the other: nothing else runs.
        turns.leave(network(8));
        let mut order = Vec::new();
        let mut running = network(3);
        turns.running.retain(|one| *one == network(3));
        while let Some((next, caller)) = turns.leave(running) {
            order.push(caller);
            running = next;
        }
        assert_eq!(order, [3, 1, 2, 1, 1]);
    }

    #[test]
    fn strangers_get_their_turn_however_many_are_known() {
        let mut turns = Turns::default();
        assert!(turns.start(network(1)) && turns.start(network(2)));
        assert_eq!(turns.wait(network(1), true, 1), Some(None));
        assert_eq!(turns.wait(network(2), true, 2), Some(None));
        assert_eq!(turns.wait(network(3), false, 3), Some(None));
        let mut running = 1;
        let turn = (0..=PASSED_OVER_MAX).find(|_| {
            let (next, caller) = turns.leave(network(running)).unwrap();
            turns.wait(next, true, caller);
            running = if running == 1 { 2 } else { 1 };
            caller == 3
        });
        assert!(turn.is_some_and(|turn| turn > 10), "{turn:?}");
    }

    #[test]
    fn a_full_queue_makes_room_for_whoever_takes_up_less_of_it() {
        let mut turns = flooded();
        for of in 1..=3 {
            while turns.wait(network(of), false, of).is_some_and(|gone| gone.is_none()) {}
        }
        assert_eq!(turns.waiting.len(), WAITING_MAX);
        let come = (4..200).filter(|of| turns.wait(network(*of), false, *of).is_some()).count();
        assert_eq!((come, turns.waiting.len()), (WAITING_MAX - 4, WAITING_MAX));
        // Strangers, each from a network of its own, make room for one that is known, not the other way round.
        assert!(turns.wait(network(210), true, 210).is_some_and(|gone| gone.is_some()));
        assert_eq!(turns.wait(network(212), false, 212), None);
    }

    #[tokio::test]
    async fn a_turn_that_is_dropped_is_the_next_ones_even_when_some_have_gone() {
        let gate = Gate::default();
        let held = [gate.turn(network(0), false).await.unwrap(), gate.turn(network(0), false).await.unwrap()];
        for _ in 0..5 {
            // Begins to wait, and goes.
            let gone = tokio::time::timeout(Duration::ZERO, gate.turn(network(1), true)).await;
            assert!(gone.is_err());
        }
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn(network(2), false).await.is_some() }
        });
        while gate.lock().waiting.len() < 6 {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(waiting.await.unwrap());
        let turns = gate.lock();
        assert!(turns.running.is_empty() && turns.waiting.is_empty(), "{turns:?}");
    }
}
