//! What the scrub must not forget over a restart: where it stands, when it last came to the end, what is damaged.
//!
//! It is worth a pass, and what is damaged is named once more: a file that is lost or spoilt begins anew.

use super::{DAMAGED_MAX, DamagedThing, ScrubPass, ScrubStatus, ScrubbedPass};
use crate::mail::Timestamp;
use crate::store::StoreError;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Name of the file in `data_dir`.
pub(super) const SCRUB_FILE: &str = "scrub.json";

/// What is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The pass under way, or broken off.
    pub(super) pass: Option<Pass>,
    pub(super) last: Option<ScrubbedPass>,
    /// When it was first to be read again.
    #[serde(default)]
    pub(super) since: Option<Timestamp>,
    pub(super) damaged: Vec<DamagedThing>,
}

/// A pass under way. What it counts of the segment it stands in is counted anew when that is begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pass {
    pub(super) began: Timestamp,
    /// The next segment to be looked at has at least this number.
    pub(super) segment: u64,
    /// The last one that was there when it began.
    pub(super) until: u64,
    pub(super) octets: u64,
    pub(super) objects: u64,
    pub(super) unlisted: u64,
}

/// What a damaged thing is to those that are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    New,
    Known,
    /// There is no more room for it; so many more follow.
    FirstUnlisted,
    Unlisted,
}

impl Pass {
    pub(super) fn begin(at: Timestamp, until: u64) -> Pass {
        Pass { began: at, segment: 0, until, octets: 0, objects: 0, unlisted: 0 }
    }
}

impl State {
    pub(super) fn load(path: &Path) -> State {
        match state_file::read(path) {
            Ok(state) => state,
            Err(StateError::Absent) => State::default(),
            Err(error) => {
                tracing::warn!(event = "store.scrub_forgotten", file = SCRUB_FILE, %error);
                State::default()
            }
        }
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        state_file::write(path, self)
    }

    pub(super) fn status(&self, bytes_per_second: u64) -> ScrubStatus {
        let unlisted =
            self.pass.map_or(0, |pass| pass.unlisted).max(self.last.map_or(0, |last| last.unlisted));
        ScrubStatus {
            bytes_per_second,
            pass: self.pass.map(|pass| ScrubPass {
                began: pass.began,
                segment: pass.segment,
                until: pass.until,
                octets: pass.octets,
                objects: pass.objects,
            }),
            last: self.last,
            since: self.since,
            damaged: self.open().saturating_add(unlisted),
            things: self.damaged.clone(),
        }
    }

    /// Things that are damaged, and that no admin closed.
    fn open(&self) -> u64 {
        self.damaged.iter().filter(|thing| thing.closed_by.is_none()).count() as u64
    }

    /// The places among these that were not closed, all of which are known.
    pub(super) fn close(&mut self, places: &[String], actor: &str) -> Result<Vec<String>, StoreError> {
        let is_known = |place: &String| self.damaged.iter().any(|thing| thing.place == *place);
        if !places.iter().all(is_known) {
            return Err(StoreError::Gone);
        }
        let mut closed = Vec::new();
        for thing in self.damaged.iter_mut().filter(|thing| places.contains(&thing.place)) {
            if thing.closed_by.is_none() {
                thing.closed_by = Some(actor.to_owned());
                closed.push(thing.place.clone());
            }
        }
        Ok(closed)
    }

    /// A segment is looked at from its beginning: what was counted of it before does not count.
    pub(super) fn begin_segment(&mut self, segment: u64, pass: &Pass) {
        self.pass = Some(*pass);
        self.of_segment(segment).for_each(|thing| thing.seen = false);
    }

    /// So much more was looked at.
    pub(super) fn add(&mut self, octets: u64, objects: u64) {
        if let Some(pass) = &mut self.pass {
            pass.octets = pass.octets.saturating_add(octets);
            pass.objects = pass.objects.saturating_add(objects);
        }
    }

    pub(super) fn note(&mut self, thing: DamagedThing) -> Noted {
        if let Some(known) = self.damaged.iter_mut().find(|known| known.place == thing.place) {
            let (found_at, closed_by) = (known.found_at, known.closed_by.take());
            *known = DamagedThing { found_at, closed_by, ..thing };
            return Noted::Known;
        }
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.push(thing);
            return Noted::New;
        }
        let Some(pass) = &mut self.pass else { return Noted::Unlisted };
        pass.unlisted += 1;
        if pass.unlisted == 1 { Noted::FirstUnlisted } else { Noted::Unlisted }
    }

    /// A segment was looked at. If the whole of it was, what was not found any more is over; else that may stand in what could
    /// not be read.
    pub(super) fn end_segment(&mut self, segment: u64, before: &Pass, is_whole: bool) -> Pass {
        self.forget(|thing| is_whole && thing.segment == segment && !thing.seen);
        let pass = self.pass.get_or_insert(*before);
        pass.segment = segment + 1;
        *pass
    }

    /// The pass is over; gives how many things are damaged and not closed.
    pub(super) fn finish(&mut self, pass: &Pass, segments: &[u64], ended: Timestamp) -> u64 {
        self.forget(|thing| !segments.contains(&thing.segment));
        self.pass = None;
        self.last = Some(ScrubbedPass {
            began: pass.began,
            ended,
            octets: pass.octets,
            objects: pass.objects,
            unlisted: pass.unlisted,
        });
        self.open().saturating_add(pass.unlisted)
    }

    /// What was found here touches nothing any more that anybody can ask for.
    pub(super) fn is_over(&mut self, place: &str) {
        self.forget(|thing| thing.place == place);
    }

    fn forget(&mut self, is_over: impl Fn(&DamagedThing) -> bool) {
        for thing in self.damaged.extract_if(.., |thing| is_over(thing)) {
            tracing::info!(event = "store.damage_over", place = thing.place, what = thing.what);
        }
    }

    fn of_segment(&mut self, segment: u64) -> impl Iterator<Item = &mut DamagedThing> {
        self.damaged.iter_mut().filter(move |thing| thing.segment == segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn thing(place: usize, segment: u64) -> DamagedThing {
        DamagedThing {
            place: format!("log/{segment:08}.seg at {place}"),
            what: "hash".to_owned(),
            found_at: Timestamp::from_unix_ms(place as i64),
            segment,
            receipt_ids: Vec::new(),
            gateway_mailbox: None,
            placements: Vec::new(),
            closed_by: None,
            seen: true,
        }
    }

    fn places(state: &State) -> Vec<&str> {
        state.damaged.iter().map(|thing| thing.place.as_str()).collect()
    }

    #[test]
    fn a_thing_is_new_once_and_over_when_its_segment_is_found_whole_or_gone() {
        let mut state = State::default();
        let pass = Pass::begin(Timestamp::from_unix_ms(1), 2);
        state.begin_segment(1, &pass);
        assert_eq!(state.note(thing(10, 1)), Noted::New);
        assert_eq!(state.note(thing(20, 1)), Noted::New);
        let pass = state.end_segment(1, &pass, true);
        assert_eq!((pass.segment, state.damaged.len()), (2, 2));
        state.note(thing(30, 2));
        assert_eq!(state.finish(&pass, &[1, 2], Timestamp::from_unix_ms(2)), 3);

        let pass = Pass::begin(Timestamp::from_unix_ms(3), 2);
        state.begin_segment(1, &pass);
        let again = DamagedThing { found_at: Timestamp::from_unix_ms(99), ..thing(20, 1) };
        assert_eq!(state.note(again), Noted::Known);
        state.end_segment(1, &pass, true);
        assert_eq!(places(&state), ["log/00000001.seg at 20", "log/00000002.seg at 30"]);
        assert_eq!(state.damaged[0].found_at, Timestamp::from_unix_ms(20), "it was found then");
        state.finish(&pass, &[1], Timestamp::from_unix_ms(4));
        assert_eq!(places(&state), ["log/00000001.seg at 20"]);
    }

    #[test]
    fn what_may_stand_in_octets_that_were_not_read_is_not_over() {
        let mut state = State::default();
        let pass = Pass::begin(Timestamp::from_unix_ms(1), 1);
        state.begin_segment(1, &pass);
        state.note(thing(10, 1));
        state.note(thing(20, 1));
        state.begin_segment(1, &pass);
        state.is_over(&thing(20, 1).place);
        assert_eq!(state.end_segment(1, &pass, false).segment, 2);
        assert_eq!(places(&state), ["log/00000001.seg at 10"]);
    }

    #[test]
    fn a_walk_that_was_broken_off_ends_nothing() {
        let mut state = State::default();
        let pass = Pass::begin(Timestamp::from_unix_ms(1), 1);
        state.begin_segment(1, &pass);
        state.note(thing(10, 1));
        state.end_segment(1, &pass, true);
        state.begin_segment(1, &pass);
        state.add(5, 1);
        state.begin_segment(1, &pass);
        assert_eq!((state.damaged.len(), state.pass.unwrap().octets), (1, 0));
    }

    #[test]
    fn more_than_are_remembered_are_counted_and_said_once() {
        let mut state = State { pass: Some(Pass::begin(Timestamp::from_unix_ms(1), 1)), ..State::default() };
        (0..DAMAGED_MAX).for_each(|n| assert_eq!(state.note(thing(n, 1)), Noted::New));
        assert_eq!(state.note(thing(DAMAGED_MAX, 1)), Noted::FirstUnlisted);
        assert_eq!(state.note(thing(DAMAGED_MAX + 1, 1)), Noted::Unlisted);
        assert_eq!(state.status(1).damaged, DAMAGED_MAX as u64 + 2);
    }

    #[test]
    fn what_is_closed_is_alarmed_no_more_as_long_as_it_lasts() {
        let mut state = State::default();
        state.note(thing(10, 1));
        let place = thing(10, 1).place;
        assert!(matches!(state.close(&[place.clone(), "log/x".to_owned()], "cli"), Err(StoreError::Gone)));
        assert_eq!(state.status(1).damaged, 1, "all or none");
        assert_eq!(state.close(std::slice::from_ref(&place), "cli").unwrap(), [place.as_str()]);
        state.note(thing(10, 1));
        assert_eq!((state.status(1).damaged, state.status(1).things.len()), (0, 1));
        let pass = Pass::begin(Timestamp::from_unix_ms(1), 1);
        assert_eq!(state.finish(&pass, &[1], Timestamp::from_unix_ms(2)), 0, "it is not told of again");
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SCRUB_FILE);
        assert!(State::load(&path).last.is_none());
        let mut state = State::default();
        state.note(DamagedThing { seen: false, ..thing(10, 1) });
        state.save(&path).unwrap();
        assert_eq!(State::load(&path).damaged, state.damaged);
        fs::write(&path, "{").unwrap();
        assert!(State::load(&path).damaged.is_empty());
    }
}
