//! How long whoever gives wrong passwords must wait, and when a password is not even checked.
//!
//! Failures are a debt that time pays off: a minute for each of a login from a network, ten seconds for each of a network
//! whatever the login. The more there is of it the later a refusal is told, up to a bound; beyond a number nothing is checked
//! any more until some is paid off. An attempt counts as failed from its begin, so that many at once gain nothing, and no longer
//! once it was right.
//!
//! A gateway mailbox must not be locked by whoever knows its name, nor a network by one poller with an old password. So:
//! - nothing is held against a login as such, only against a login from a network;
//! - a login that got in from a network lately is always checked from there, and refused after a short wait at most;
//! - a network from which any login got in lately owes only for the login that fails.
//!
//! A network is an IPv4 /24 or an IPv6 /64. Time is an argument: how long since some fixed moment. Tables are bounded: when one is
//! full the quarter that matters least is forgotten. Logins are known by a hash of theirs, which the caller makes with a secret.

use crate::mail::Network;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

/// What of an IPv4 and of an IPv6 address tells one network from another, in bits.
const NETWORK_BITS: (u8, u8) = (24, 64);
/// How long it takes to forget a failure of a login from a network. A poller that comes every minute with an old password is
/// checked each time, and gets in at once when it has the new one.
const LOGIN_FORGETS: Duration = Duration::from_secs(60);
/// Such failures beyond which a password is not checked.
pub const LOGIN_FAILURES_MAX: u32 = 10;
/// How long it takes to forget a failure of a network.
const NETWORK_FORGETS: Duration = Duration::from_secs(10);
/// Such failures beyond which a password is not checked.
pub const NETWORK_FAILURES_MAX: u32 = 30;
/// Failures of a network that make it wait as long as one of a login.
const NETWORK_FAILURES_PER_STEP: u32 = 4;
/// How often the wait before a refusal doubles.
const DOUBLINGS_MAX: u32 = 3;
/// How long a login that got in is known. Pollers come daily at least, and a weekend may lie between.
const KNOWN_FOR: Duration = Duration::from_secs(4 * 24 * 3600);
/// Nobody refused from a network for so long: what comes then is told again.
const EPISODE_GAP: Duration = Duration::from_secs(10 * 60);
/// Entries in each table: a hundred bytes each.
const ENTRIES_MAX: usize = 10_000;

/// A login that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    login: u64,
    /// Whence.
    pub network: Network,
}

impl Attempt {
    /// The attempt of a login, known by its hash, from this address.
    pub fn new(login: u64, peer: IpAddr) -> Attempt {
        let bits = if peer.to_canonical().is_ipv4() { NETWORK_BITS.0 } else { NETWORK_BITS.1 };
        Attempt { login, network: Network::around(peer, bits) }
    }

    fn key(self) -> (u64, Network) {
        (self.login, self.network)
    }
}

/// What is to be done with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether to check the password; if not, it is refused.
    pub check: bool,
    /// How long to wait before a refusal is told.
    pub wait: Duration,
    /// Somebody got in from that network lately.
    pub is_known: bool,
    /// It is refused, the first from that network for a while.
    pub is_first: bool,
}

/// Who failed, and who got in. Values in, verdict out.
#[derive(Debug)]
pub struct Backoff {
    first_wait: Duration,
    logins: Times<(u64, Network)>,
    networks: Times<Network>,
    known_logins: Times<(u64, Network)>,
    known_networks: Times<Network>,
    refused: Times<Network>,
}

impl Backoff {
    /// Nobody has failed. The first refusal waits for `first_wait`, the others up to eight times as long.
    pub fn new(first_wait: Duration) -> Backoff {
        Backoff {
            first_wait,
            logins: Times::default(),
            networks: Times::default(),
            known_logins: Times::default(),
            known_networks: Times::default(),
            refused: Times::default(),
        }
    }

    /// Judges an attempt, and counts it as failed if its password is to be checked.
    pub fn begin(&mut self, attempt: Attempt, now: Duration) -> Verdict {
        let is_known = self.known_networks.is_within(&attempt.network, now, KNOWN_FOR);
        let is_known_login = self.known_logins.is_within(&attempt.key(), now, KNOWN_FOR);
        let of_login = failures(self.logins.at(&attempt.key()), now, LOGIN_FORGETS);
        let of_network = failures(self.networks.at(&attempt.network), now, NETWORK_FORGETS);
        let is_over = of_login >= LOGIN_FAILURES_MAX || (of_network >= NETWORK_FAILURES_MAX && !is_known);
        let check = is_known_login || !is_over;
        let doublings = match is_known {
            // By the network alone: a wait that differs by login would tell who got in.
            true => 0,
            false => of_login.max(of_network / NETWORK_FAILURES_PER_STEP).min(DOUBLINGS_MAX),
        };
        let wait = self.first_wait.saturating_mul(1 << doublings);
        let mut is_first = false;
        if check {
            self.logins.set(attempt.key(), owing(self.logins.at(&attempt.key()), now, LOGIN_FORGETS));
            self.networks
                .set(attempt.network, owing(self.networks.at(&attempt.network), now, NETWORK_FORGETS));
        } else {
            is_first = !self.refused.is_within(&attempt.network, now, EPISODE_GAP);
            self.refused.set(attempt.network, now);
        }
        Verdict { check, wait, is_known, is_first }
    }

    /// The password was right.
    pub fn succeeded(&mut self, attempt: Attempt, now: Duration) {
        self.logins.at.remove(&attempt.key());
        self.networks.pay(attempt.network, NETWORK_FORGETS);
        self.known_logins.set(attempt.key(), now);
        self.known_networks.set(attempt.network, now);
    }

    /// It came to no check: not the client's fault, and not held against it.
    pub fn came_to_nothing(&mut self, attempt: Attempt) {
        self.logins.pay(attempt.key(), LOGIN_FORGETS);
        self.networks.pay(attempt.network, NETWORK_FORGETS);
    }
}

/// How many failures a debt that is paid off at `until` stands for; a part of one counts as one.
fn failures(until: Option<Duration>, now: Duration, each: Duration) -> u32 {
    let left = until.unwrap_or_default().saturating_sub(now);
    u32::try_from(left.as_millis().div_ceil(each.as_millis().max(1))).unwrap_or(u32::MAX)
}

/// When a debt with one more failure is paid off.
fn owing(until: Option<Duration>, now: Duration, each: Duration) -> Duration {
    until.unwrap_or_default().max(now).saturating_add(each)
}

/// Moments by key, of which the latest are kept.
#[derive(Debug)]
struct Times<K> {
    at: HashMap<K, Duration>,
}

impl<K> Default for Times<K> {
    fn default() -> Times<K> {
        Times { at: HashMap::new() }
    }
}

impl<K: Eq + Hash> Times<K> {
    fn at(&self, key: &K) -> Option<Duration> {
        self.at.get(key).copied()
    }

    fn is_within(&self, key: &K, now: Duration, span: Duration) -> bool {
        self.at(key).is_some_and(|at| now.saturating_sub(at) < span)
    }

    fn set(&mut self, key: K, at: Duration) {
        if self.at.len() >= ENTRIES_MAX && !self.at.contains_key(&key) {
            self.forget_a_quarter();
        }
        self.at.insert(key, at);
    }

    fn pay(&mut self, key: K, each: Duration) {
        if let Some(at) = self.at.get_mut(&key) {
            *at = at.saturating_sub(each);
        }
    }

    /// The earliest: debts that are paid or smallest, successes that are oldest. Once for many entries that come.
    fn forget_a_quarter(&mut self) {
        let mut times: Vec<Duration> = self.at.values().copied().collect();
        let quarter = times.len() / 4;
        let (_, &mut bound, _) = times.select_nth_unstable(quarter);
        let mut left = quarter + 1;
        self.at.retain(|_, at| {
            let goes = *at <= bound && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn attempt(login: u64, peer: &str) -> Attempt {
        Attempt::new(login, peer.parse().unwrap())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    /// Fails at once as often as it is checked, and says how often that was.
    fn guess(backoff: &mut Backoff, attempt: Attempt, now: Duration) -> u32 {
        (0..1_000).take_while(|_| backoff.begin(attempt, now).check).count() as u32
    }

    #[test]
    fn refusals_come_later_and_later_and_then_without_a_check() {
        let mut backoff = Backoff::new(SECOND);
        let guesser = attempt(1, "192.0.2.7");
        let waits: Vec<u64> = (0..6).map(|_| backoff.begin(guesser, at(0)).wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        assert_eq!(guess(&mut backoff, guesser, at(0)), LOGIN_FAILURES_MAX - 6);
        assert_eq!(backoff.begin(guesser, at(1)).wait, 8 * SECOND);
        // One a minute from then on, and refusals cost nothing more.
        assert_eq!(guess(&mut backoff, guesser, at(60)), 1);
        assert_eq!(guess(&mut backoff, guesser, at(119)), 0);
        assert_eq!(guess(&mut backoff, guesser, at(120)), 1);
        assert_eq!(guess(&mut backoff, guesser, at(10_000)), LOGIN_FAILURES_MAX);
    }

    #[test]
    fn a_network_that_tries_many_logins_is_stopped_as_a_whole_and_no_other() {
        let mut backoff = Backoff::new(SECOND);
        let checked = (0..100)
            .filter(|login| backoff.begin(attempt(*login, &format!("192.0.2.{login}")), at(0)).check)
            .count() as u32;
        assert_eq!(checked, NETWORK_FAILURES_MAX);
        assert!(!backoff.begin(attempt(500, "192.0.2.1"), at(9)).check);
        assert!(backoff.begin(attempt(500, "192.0.2.1"), at(10)).check);
        assert!(backoff.begin(attempt(1, "192.0.3.1"), at(0)).check);
        for (one, other, are_one) in [
            ("2001:db8::1", "2001:db8::2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "::ffff:192.0.2.9", true),
        ] {
            assert_eq!(attempt(1, one).network == attempt(1, other).network, are_one, "{one} {other}");
        }
    }

    #[test]
    fn whoever_guesses_a_login_keeps_nobody_else_out() {
        let mut backoff = Backoff::new(SECOND);
        for host in 0..200 {
            guess(&mut backoff, attempt(1, &format!("198.51.{host}.1")), at(0));
        }
        assert_eq!(backoff.begin(attempt(1, "192.0.2.1"), at(0)).wait, SECOND);
    }

    #[test]
    fn a_login_that_got_in_is_checked_whatever_else_its_network_does() {
        let mut backoff = Backoff::new(SECOND);
        let poller = attempt(1, "192.0.2.1");
        assert!(backoff.begin(poller, at(0)).check);
        backoff.succeeded(poller, at(0));
        for login in 2..100 {
            guess(&mut backoff, attempt(login, "192.0.2.9"), at(1));
        }
        // Even with many wrong passwords of its own, and days later.
        for second in [1, 2, 3 * 24 * 3600] {
            for _ in 0..50 {
                let verdict = backoff.begin(poller, at(second));
                assert_eq!((verdict.check, verdict.wait, verdict.is_known), (true, SECOND, true));
            }
        }
        assert_eq!(guess(&mut backoff, poller, at(30 * 24 * 3600)), LOGIN_FAILURES_MAX);
    }

    #[test]
    fn a_network_whose_poller_got_in_owes_only_for_the_login_that_fails() {
        let mut backoff = Backoff::new(SECOND);
        let poller = attempt(1, "192.0.2.1");
        backoff.begin(poller, at(0));
        backoff.succeeded(poller, at(0));
        // A profile with an old password, for an hour.
        let stale = attempt(2, "192.0.2.1");
        let checked = (0..3_600).filter(|second| backoff.begin(stale, at(*second)).check).count();
        assert!((60..=75).contains(&checked), "{checked}");
        // It gets the new one, within a minute.
        assert!((3_600..3_660).any(|second| backoff.begin(stale, at(second)).check));
        assert!((10..40).all(|login| backoff.begin(attempt(login, "192.0.2.1"), at(3_660)).check));
    }

    #[test]
    fn what_is_right_or_came_to_no_check_is_not_held_against_anybody() {
        let mut backoff = Backoff::new(SECOND);
        let poller = attempt(1, "192.0.2.1");
        for _ in 0..1_000 {
            assert!(backoff.begin(poller, at(0)).check);
            backoff.came_to_nothing(poller);
        }
        assert_eq!(guess(&mut backoff, poller, at(0)), LOGIN_FAILURES_MAX);
        let other = attempt(2, "192.0.2.1");
        assert!(backoff.begin(other, at(0)).check);
        backoff.succeeded(other, at(0));
        assert_eq!(failures(backoff.networks.at(&other.network), at(0), NETWORK_FORGETS), LOGIN_FAILURES_MAX);
    }

    #[test]
    fn a_refusal_is_told_once_for_as_long_as_they_go_on() {
        let mut backoff = Backoff::new(SECOND);
        let guesser = attempt(1, "192.0.2.1");
        guess(&mut backoff, guesser, at(0));
        let told = |backoff: &mut Backoff, seconds| {
            guess(backoff, guesser, at(seconds));
            backoff.begin(guesser, at(seconds)).is_first
        };
        assert!(!told(&mut backoff, 1) && !told(&mut backoff, 500) && !told(&mut backoff, 1_000));
        let mut quiet = Backoff::new(SECOND);
        assert!((0..=LOGIN_FAILURES_MAX).any(|_| quiet.begin(guesser, at(0)).is_first));
        assert!((0..=LOGIN_FAILURES_MAX).any(|_| quiet.begin(guesser, at(5_000)).is_first));
    }

    #[test]
    fn a_flood_of_networks_fills_no_memory_and_forgets_who_failed_least() {
        let mut backoff = Backoff::new(SECOND);
        let guesser = attempt(1, "192.0.2.1");
        let poller = attempt(2, "203.0.113.1");
        backoff.begin(poller, at(0));
        backoff.succeeded(poller, at(0));
        guess(&mut backoff, guesser, at(0));
        for number in 0..3 * ENTRIES_MAX as u64 {
            let host = format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff);
            assert!(backoff.begin(attempt(number, &host), at(0)).check);
        }
        assert!(backoff.logins.at.len() <= ENTRIES_MAX && backoff.networks.at.len() <= ENTRIES_MAX);
        assert!(!backoff.begin(guesser, at(0)).check);
        assert!(backoff.begin(poller, at(0)).is_known);
    }
}
