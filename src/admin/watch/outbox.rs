//! Mail that waits to be sent: a bounded queue that forgets the least important first, and when each is tried again.
//!
//! Pure: the time is an argument.

use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Mails that may wait.
pub(super) const LETTERS_MAX: usize = 64;
/// Pause after the first failed try; doubled after each further one.
const RETRY_FIRST_MS: i64 = 60 * 1000;
/// Longest pause between two tries.
const RETRY_MS_MAX: i64 = 60 * 60 * 1000;
/// A mail that could not be sent for so long is given up: what it says is out of date.
const RETRY_FOR_MS: i64 = 24 * 60 * 60 * 1000;

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Alarms.
    Alert,
    /// The daily report.
    Report,
}

/// A mail, before it has the form of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// Makes its Message-ID; unguessable, so that nobody can make another that counts as it.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Its date.
    pub(super) at: Timestamp,
    pub(super) subject: String,
    pub(super) text: String,
    /// The status as JSON, attached to reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attachment: Option<String>,
}

/// A letter and what is left to do for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) letter: Letter,
    /// Who has not got it yet.
    pub(super) to: Vec<String>,
    /// When it was put here.
    posted_at: Timestamp,
    failed_tries: u32,
    next_at: Timestamp,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    /// Why the last try failed, in the words to show; `None` when it did not.
    failure: Option<(&'static str, String)>,
}

impl Outbox {
    /// Begins with what waited when the server ended; it is tried at once. Who is no longer one of the `recipients` gets
    /// nothing any more; what only such people were to get goes to all who are.
    pub(super) fn new(waiting: Vec<Waiting>, recipients: &[String], now: Timestamp) -> Outbox {
        let mut outbox = Outbox { waiting: waiting.into(), failure: None };
        drop(outbox.readdress(recipients, now));
        outbox.waiting.truncate(LETTERS_MAX);
        outbox
    }

    /// The same for what waits now, with others to be written to; gives what nobody is left for.
    pub(super) fn readdress(&mut self, recipients: &[String], now: Timestamp) -> Vec<Letter> {
        for Waiting { to, .. } in &mut self.waiting {
            to.retain(|recipient| recipients.contains(recipient));
            if to.is_empty() {
                *to = recipients.to_vec();
            }
        }
        let (kept, dropped): (VecDeque<Waiting>, VecDeque<Waiting>) =
            self.waiting.drain(..).partition(|waiting| !waiting.to.is_empty());
        self.waiting = kept;
        self.hurry(now);
        dropped.into_iter().map(|waiting| waiting.letter).collect()
    }

    /// Puts a letter into the queue; gives the one that found no room, if any: the oldest report, or the oldest alert
    /// when there are only alerts and this is one.
    pub(super) fn push(&mut self, letter: Letter, to: Vec<String>, now: Timestamp) -> Option<Letter> {
        let kind = letter.kind;
        let mut dropped = None;
        if self.waiting.len() >= LETTERS_MAX {
            let report = self.waiting.iter().position(|waiting| waiting.letter.kind == Kind::Report);
            let place = match (report, kind) {
                (Some(place), _) => place,
                (None, Kind::Alert) => 0,
                (None, Kind::Report) => return Some(letter),
            };
            dropped = self.waiting.remove(place).map(|waiting| waiting.letter);
        }
        self.waiting.push_back(Waiting { letter, to, posted_at: now, failed_tries: 0, next_at: now });
        dropped
    }

    /// The first letter whose time has come.
    pub(super) fn due(&self, now: Timestamp) -> Option<Waiting> {
        // One that seems to be due in a long time was put here before the clock was set back.
        let is_due = |waiting: &&Waiting| {
            let wait_ms = waiting.next_at.unix_ms() - now.unix_ms();
            wait_ms <= 0 || wait_ms > RETRY_MS_MAX
        };
        self.waiting.iter().find(is_due).cloned()
    }

    /// Notes that a recipient has got it.
    pub(super) fn sent(&mut self, id: &str, to: &str) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.letter.id == id) {
            waiting.to.retain(|recipient| recipient != to);
        }
        self.waiting.retain(|waiting| !waiting.to.is_empty());
    }

    /// Notes that a try failed; gives the letter when it is given up.
    pub(super) fn failed(&mut self, id: &str, now: Timestamp) -> Option<Letter> {
        let place = self.waiting.iter().position(|waiting| waiting.letter.id == id)?;
        let waiting = self.waiting.get_mut(place)?;
        if now.unix_ms() - waiting.posted_at.unix_ms() >= RETRY_FOR_MS {
            return self.waiting.remove(place).map(|waiting| waiting.letter);
        }
        let pause_ms = RETRY_FIRST_MS.saturating_mul(1 << waiting.failed_tries.min(10)).min(RETRY_MS_MAX);
        waiting.failed_tries = waiting.failed_tries.saturating_add(1);
        waiting.next_at = Timestamp::from_unix_ms(now.unix_ms().saturating_add(pause_ms));
        None
    }

    /// Has everything tried at once: the relay was just seen to work.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        self.waiting.iter_mut().for_each(|waiting| waiting.next_at = now);
    }

    /// Remembers how the last try ended; true when it ended otherwise than the one before.
    pub(super) fn note(&mut self, failure: Option<(&'static str, String)>) -> bool {
        let differs = self.failure.as_ref().map(|(kind, _)| *kind) != failure.as_ref().map(|(kind, _)| *kind);
        self.failure = failure;
        differs
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|(_, why)| why.as_str())
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn waiting(&self) -> Vec<Waiting> {
        self.waiting.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60 * 1000;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_unix_ms(minutes * MINUTE_MS)
    }

    fn letter(id: usize, kind: Kind) -> Letter {
        let (subject, text) = (String::new(), String::new());
        Letter { id: id.to_string(), kind, at: at(0), subject, text, attachment: None }
    }

    fn to() -> Vec<String> {
        vec!["a@example.net".to_owned(), "b@example.net".to_owned()]
    }

    #[test]
    fn reports_make_way_first_and_alerts_last() {
        let mut outbox = Outbox::default();
        for id in 0..LETTERS_MAX {
            let kind = if id % 32 == 5 { Kind::Report } else { Kind::Alert };
            assert_eq!(outbox.push(letter(id, kind), to(), at(0)), None);
        }
        let dropped = |outbox: &mut Outbox, id, kind| {
            outbox.push(letter(id, kind), to(), at(0)).map(|letter| letter.id).unwrap()
        };
        assert_eq!(dropped(&mut outbox, 100, Kind::Alert), "5", "the oldest report");
        assert_eq!(dropped(&mut outbox, 101, Kind::Alert), "37", "the other");
        assert_eq!(dropped(&mut outbox, 102, Kind::Alert), "0", "the oldest alert");
        assert_eq!(dropped(&mut outbox, 103, Kind::Report), "103", "a report drives no alert out");
        assert_eq!(outbox.len(), LETTERS_MAX);
    }

    #[test]
    fn a_letter_is_tried_again_ever_more_seldom_for_a_day() {
        let mut outbox = Outbox::default();
        outbox.push(letter(1, Kind::Alert), to(), at(0));
        let mut tries = Vec::new();
        let mut given_up = None;
        for minute in 0..3_000 {
            if outbox.due(at(minute)).is_some() {
                tries.push(minute);
                if outbox.failed("1", at(minute)).is_some() {
                    given_up = Some(minute);
                }
            }
        }
        assert_eq!(tries[..8], [0, 1, 3, 7, 15, 31, 63, 123]);
        assert!(tries.windows(2).skip(7).all(|pair| pair[1] - pair[0] == 60), "{tries:?}");
        assert!(given_up.is_some_and(|minute| (1_440..1_500).contains(&minute)), "{given_up:?}");
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn who_has_it_gets_it_no_more_and_a_working_relay_is_used_at_once() {
        let mut outbox = Outbox::default();
        outbox.push(letter(1, Kind::Alert), to(), at(0));
        outbox.sent("1", "a@example.net");
        outbox.failed("1", at(0));
        assert_eq!(outbox.due(at(0)), None);
        outbox.hurry(at(0));
        assert_eq!(outbox.due(at(0)).unwrap().to, ["b@example.net"]);
        let saved = serde_json::to_string(&outbox.waiting()).unwrap();
        let mut again = Outbox::new(serde_json::from_str(&saved).unwrap(), &to(), at(9));
        assert_eq!(again.due(at(9)).unwrap().to, ["b@example.net"]);
        again.sent("1", "b@example.net");
        assert_eq!(again.len(), 0);
    }

    #[test]
    fn what_waits_goes_to_those_who_are_configured_now() {
        let mut outbox = Outbox::default();
        outbox.push(letter(1, Kind::Alert), to(), at(0));
        outbox.push(letter(2, Kind::Alert), to()[..1].to_vec(), at(0));
        let now = ["b@example.net".to_owned(), "c@example.net".to_owned()];
        let again = Outbox::new(outbox.waiting(), &now, at(9));
        let to: Vec<Vec<String>> = again.waiting().into_iter().map(|waiting| waiting.to).collect();
        assert_eq!(to, [now[..1].to_vec(), now.to_vec()]);
        assert_eq!(Outbox::new(outbox.waiting(), &[], at(9)).len(), 0);
    }

    #[test]
    fn the_same_failure_is_told_once() {
        let mut outbox = Outbox::default();
        assert!(!outbox.note(None));
        assert!(outbox.note(Some(("connect", "refused at 9:00".to_owned()))));
        assert!(!outbox.note(Some(("connect", "refused at 9:01".to_owned()))));
        assert_eq!(outbox.failure(), Some("refused at 9:01"));
        assert!(outbox.note(Some(("login", "535".to_owned()))));
        assert!(outbox.note(None));
    }
}
