//! Events for those who tail the running server, whatever the log's form, level and file.
//!
//! ```text
//! event ─▶ put ─┬─▶ the last lines, for whoever comes next (INFO and more severe)
//!               └─▶ followers, each with its own place in one bounded channel
//! ```
//! Invariants:
//! - [`Tap::put`] never waits. A follower that is slow loses lines and is told how many; it holds up nothing.
//! - Memory is bounded: [`RECENT_LINES_MAX`] lines of at most [`LINE_OCTETS_MAX`] octets and together [`RECENT_OCTETS_MAX`],
//!   and [`FOLLOWER_LINES_MAX`] lines in the channel.
//! - A follower gets every line after those it was given first, none twice; or it is told how many of its level it lacks.
//! - Nobody asks for debug events: they are not made. [`Tap::level`] says what is asked for.

use super::Level;
use super::level::SharedLevel;
use super::line::Line;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Followers at once.
pub const FOLLOWERS_MAX: usize = 8;
/// Lines kept for whoever comes next.
pub const RECENT_LINES_MAX: usize = 1_000;
/// Octets of them.
const RECENT_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Lines that may wait for the slowest follower.
const FOLLOWER_LINES_MAX: usize = 1_024;
/// Longest line, in octets; texts in longer ones are cut. Only a message for very many users makes one.
const LINE_OCTETS_MAX: usize = 16 * 1024;
/// What is left of a text in a line that is too long, in characters.
const SHORTENED_CHARACTERS: usize = 512;
/// The least severe events kept for whoever comes next.
const RECENT_LEVEL: Level = Level::Info;

/// A line, as data and as JSON without a line end.
#[derive(Debug)]
pub struct Tapped {
    /// The event.
    pub line: Line,
    /// The same as JSON.
    pub json: String,
    /// How many lines there were of each level and more severe, this one among them: by it a follower knows how many of its
    /// own it has missed.
    sent: Counts,
}

/// A number for each of [`Level::ALL`].
type Counts = [u64; Level::ALL.len()];

/// Where lines can be followed.
#[derive(Debug)]
pub struct Tap {
    wanted: SharedLevel,
    /// Called when other events are wanted than before.
    changed: fn(),
    state: Mutex<State>,
    lines: Sender<Arc<Tapped>>,
}

#[derive(Debug, Default)]
struct State {
    recent: VecDeque<Arc<Tapped>>,
    recent_octets: usize,
    /// As [`Tapped::sent`] of the last line.
    sent: Counts,
    /// How many follow at each level.
    followers: [usize; Level::ALL.len()],
}

/// One that follows. Dropped, it makes place for another.
#[derive(Debug)]
pub struct Follower {
    tap: Arc<Tap>,
    level: Level,
    lines: Receiver<Arc<Tapped>>,
    /// How many lines of its level there were, up to the last one taken.
    seen: u64,
    /// The line after those that were lost.
    held: Option<Arc<Tapped>>,
}

/// What a follower gets.
#[derive(Clone, Debug)]
pub enum Next {
    /// A line.
    Line(Arc<Tapped>),
    /// So many lines of the level were lost, since they were not taken in time.
    Dropped(u64),
    /// There will be no more.
    End,
}

impl Tap {
    pub(super) fn new(changed: fn()) -> Arc<Tap> {
        let (lines, _) = channel(FOLLOWER_LINES_MAX);
        let wanted = SharedLevel::new(RECENT_LEVEL);
        Arc::new(Tap { wanted, changed, state: Mutex::default(), lines })
    }

    /// The least severe events that somebody wants.
    pub(super) fn level(&self) -> Level {
        self.wanted.get()
    }

    /// Takes a line in.
    pub(super) fn put(&self, line: Line, json: String) {
        let (line, json) = if json.len() > LINE_OCTETS_MAX {
            let line = line.shortened(SHORTENED_CHARACTERS);
            let json = line.to_json();
            (line, json)
        } else {
            (line, json)
        };
        let mut state = self.state();
        state.sent.iter_mut().skip(line.level as usize).for_each(|count| *count += 1);
        let tapped = Arc::new(Tapped { line, json, sent: state.sent });
        if tapped.line.level <= RECENT_LEVEL {
            state.keep(Arc::clone(&tapped));
        }
        // Sent while the lock is held, so that lines kept and lines followed have one order. Nobody listening is no fault.
        drop(self.lines.send(tapped));
    }

    /// Follows events of `level` and more severe ones: the lines there are, oldest first, and then each that comes. `None` when
    /// [`FOLLOWERS_MAX`] are there already.
    pub fn follow(self: &Arc<Tap>, level: Level) -> Option<(Vec<Arc<Tapped>>, Follower)> {
        let mut state = self.state();
        if state.followers.iter().sum::<usize>() >= FOLLOWERS_MAX {
            return None;
        }
        if let Some(count) = state.followers.get_mut(level as usize) {
            *count += 1;
        }
        let recent = state.recent.iter().cloned().collect();
        let seen = state.sent.get(level as usize).copied().unwrap_or_default();
        let (tap, lines) = (Arc::clone(self), self.lines.subscribe());
        let follower = Follower { tap, level, lines, seen, held: None };
        self.ask_for(state);
        Some((recent, follower))
    }

    /// Has the events made that somebody wants, and no others.
    fn ask_for(&self, state: MutexGuard<'_, State>) {
        let followed = Level::ALL.iter().zip(state.followers).filter(|(_, count)| *count > 0);
        let wanted = followed.map(|(level, _)| *level).fold(RECENT_LEVEL, Level::max);
        let before = self.wanted.set(wanted);
        drop(state);
        if wanted != before {
            (self.changed)();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, tapped: Arc<Tapped>) {
        self.recent_octets += tapped.json.len();
        self.recent.push_back(tapped);
        while self.recent.len() > RECENT_LINES_MAX || self.recent_octets > RECENT_OCTETS_MAX {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_octets -= oldest.json.len();
        }
    }
}

impl Follower {
    /// Waits for what comes next. May be dropped and called again.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(tapped) = self.held.take() {
                return Next::Line(tapped);
            }
            match self.lines.recv().await {
                Ok(tapped) => {
                    if let Some(next) = self.take(tapped) {
                        return next;
                    }
                }
                // The next line says how many of them were for this follower.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Next::End,
            }
        }
    }

    /// What is there already; `None` for nothing.
    pub fn next_waiting(&mut self) -> Option<Next> {
        loop {
            if let Some(tapped) = self.held.take() {
                return Some(Next::Line(tapped));
            }
            match self.lines.try_recv() {
                Ok(tapped) => {
                    if let Some(next) = self.take(tapped) {
                        return Some(next);
                    }
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    /// What a line is to this follower; `None` for nothing.
    fn take(&mut self, tapped: Arc<Tapped>) -> Option<Next> {
        let is_wanted = tapped.line.level <= self.level;
        let sent = tapped.sent.get(self.level as usize).copied().unwrap_or_default();
        let lost = sent.saturating_sub(self.seen).saturating_sub(u64::from(is_wanted));
        self.seen = sent;
        if lost > 0 {
            self.held = is_wanted.then_some(tapped);
            return Some(Next::Dropped(lost));
        }
        is_wanted.then_some(Next::Line(tapped))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.tap.state();
        if let Some(count) = state.followers.get_mut(self.level as usize) {
            *count = count.saturating_sub(1);
        }
        self.tap.ask_for(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Timestamp;
    use serde_json::Value;
    use std::borrow::Cow;

    fn put(tap: &Tap, level: Level, n: usize) {
        let fields = vec![(Cow::Borrowed("event"), Value::from("a.b")), (Cow::Borrowed("n"), Value::from(n))];
        let line = Line { at: Timestamp::from_unix_ms(0), level, fields };
        let json = line.to_json();
        tap.put(line, json);
    }

    fn number(tapped: &Tapped) -> u64 {
        tapped.line.get("n").and_then(Value::as_u64).unwrap()
    }

    fn waiting(follower: &mut Follower) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(Next::Line(tapped)) = follower.next_waiting() {
            numbers.push(number(&tapped));
        }
        numbers
    }

    #[test]
    fn a_follower_gets_what_there_was_and_what_comes_each_once() {
        let tap = Tap::new(|| {});
        put(&tap, Level::Info, 1);
        put(&tap, Level::Debug, 2);
        let (recent, mut follower) = tap.follow(Level::Info).unwrap();
        put(&tap, Level::Warn, 3);
        put(&tap, Level::Debug, 4);
        assert_eq!(recent.iter().map(|t| number(t)).collect::<Vec<_>>(), [1]);
        assert_eq!(waiting(&mut follower), [3]);
        let (_, mut curious) = tap.follow(Level::Debug).unwrap();
        put(&tap, Level::Debug, 5);
        assert_eq!(waiting(&mut curious), [5]);
        assert_eq!(waiting(&mut follower), [0_u64; 0]);
    }

    #[test]
    fn debug_events_are_asked_for_only_while_somebody_follows_them() {
        let tap = Tap::new(|| {});
        assert_eq!(tap.level(), Level::Info);
        let quiet = tap.follow(Level::Error).unwrap();
        assert_eq!(tap.level(), Level::Info);
        let curious = tap.follow(Level::Debug).unwrap();
        assert_eq!(tap.level(), Level::Debug);
        drop(curious);
        assert_eq!(tap.level(), Level::Info);
        drop(quiet);
    }

    #[test]
    fn there_is_a_place_for_so_many_and_it_becomes_free_again() {
        let tap = Tap::new(|| {});
        let mut followers: Vec<_> = (0..FOLLOWERS_MAX).map(|_| tap.follow(Level::Info).unwrap()).collect();
        assert!(tap.follow(Level::Info).is_none());
        followers.pop();
        assert!(tap.follow(Level::Info).is_some());
    }

    #[test]
    fn a_stuck_follower_loses_lines_is_told_how_many_and_costs_bounded_memory() {
        let tap = Tap::new(|| {});
        let (_, mut stuck) = tap.follow(Level::Info).unwrap();
        let lines = 100_000;
        for n in 0..lines {
            put(&tap, Level::Info, n);
        }
        assert_eq!(tap.state().recent.len(), RECENT_LINES_MAX);
        assert!(tap.lines.len() <= FOLLOWER_LINES_MAX);
        let Some(Next::Dropped(dropped)) = stuck.next_waiting() else { panic!("nothing was lost") };
        let left = waiting(&mut stuck);
        assert_eq!(dropped + left.len() as u64, lines as u64);
        assert_eq!(left.last(), Some(&(lines as u64 - 1)));
    }

    #[test]
    fn lines_a_follower_did_not_ask_for_are_not_among_those_it_lost() {
        let tap = Tap::new(|| {});
        let (_, mut plain) = tap.follow(Level::Info).unwrap();
        let (_, mut curious) = tap.follow(Level::Debug).unwrap();
        let pairs = 5_000;
        for n in 0..pairs {
            put(&tap, Level::Debug, n);
            put(&tap, Level::Warn, n);
        }
        for (follower, lines) in [(&mut plain, pairs), (&mut curious, 2 * pairs)] {
            let Some(Next::Dropped(dropped)) = follower.next_waiting() else { panic!("nothing was lost") };
            assert_eq!(dropped + waiting(follower).len() as u64, lines as u64);
        }
        // Nothing of its own was lost: nothing is said.
        for n in 0..pairs {
            put(&tap, Level::Debug, n);
        }
        put(&tap, Level::Error, 7);
        assert_eq!(waiting(&mut plain), [7]);
    }

    #[test]
    fn huge_lines_are_shortened_and_the_kept_ones_have_a_size() {
        let tap = Tap::new(|| {});
        for _ in 0..RECENT_LINES_MAX {
            let many: Vec<_> =
                (0..40).map(|n| (Cow::Owned(format!("f{n}")), Value::from("x".repeat(1_000)))).collect();
            let line = Line { at: Timestamp::from_unix_ms(0), level: Level::Info, fields: many };
            let json = line.to_json();
            assert!(json.len() > LINE_OCTETS_MAX);
            tap.put(line, json);
        }
        let state = tap.state();
        let octets: usize = state.recent.iter().map(|tapped| tapped.json.len()).sum();
        assert_eq!(octets, state.recent_octets);
        assert!(octets <= RECENT_OCTETS_MAX && state.recent.len() < RECENT_LINES_MAX);
        assert!(state.recent.iter().all(|t| t.line.text("f0").unwrap().chars().count() == 513));
    }
}
