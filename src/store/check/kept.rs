//! What was expired, brought back and freed, and what was held then: which of it an entry of the log says against another.
//!
//! ```text
//! a folder entry ── deleted, expired, left ──▶ can be had back ──▶ freed: its content goes with the last that needs it
//!                                                    └──────────▶ brought back under a new UID
//! ```
//! What can be told of an entry at once is told here; what takes knowing all of the log (which message a freed entry was, when it
//! was received or deleted) is left to [`super::needed`], for which 4 octets are kept of each entry that was expired, freed or
//! brought back, and of each freed object.

use super::Damage;
use super::damage::{TOUCHED_MAX, Touched};
use super::ledger::{FolderSaid, Ledger};
use super::rows::Table;
use super::said::int;
use super::segment::{Seen, segment_name};
use crate::mail::{GatewayMailbox, GatewayMailboxState, ReceiptId, Timestamp, Uid};
use crate::store::FolderName;
use crate::store::fact::{ExpiredFact, Fact, FreedFact, UndeletedFact};
use crate::store::index::Place;
use rusqlite::types::ValueRef;
use std::collections::{HashMap, HashSet};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// An entry that freed something.
pub(super) struct FreedSaid {
    pub(super) place: Place,
    pub(super) at: Timestamp,
    /// So many days what was deleted could be had back then; none where that is not known.
    pub(super) grace_days: Option<u32>,
}

impl FreedSaid {
    /// True when what was deleted then could still be had back.
    pub(super) fn is_early(&self, deleted_at: Timestamp) -> bool {
        self.grace_days.is_some_and(|days| !is_over(deleted_at, days, self.at))
    }
}

/// An entry that let retention take something out.
pub(super) struct ExpiredSaid {
    pub(super) place: Place,
    pub(super) at: Timestamp,
    /// What was received so many days before was due; none where all of it was, or that is not known.
    pub(super) days: Option<u32>,
}

impl ExpiredSaid {
    /// True when what was received then was not due.
    pub(super) fn is_early(&self, received_at: Timestamp) -> bool {
        self.days.is_some_and(|days| !is_over(received_at, days, self.at))
    }
}

/// True when so many days have passed.
fn is_over(since: Timestamp, days: u32, at: Timestamp) -> bool {
    since.unix_ms().saturating_add(i64::from(days) * DAY_MS) <= at.unix_ms()
}

/// How a folder entry ended for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Over {
    /// It is there, or can be had back.
    #[default]
    Not,
    /// By this one of [`Kept::freed`].
    Freed(u32),
    /// It was brought back, and is another now.
    Back,
}

/// What became of a folder entry. Those that went together share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Fate {
    /// By this one of [`Kept::expired`].
    pub(super) expired: Option<u32>,
    pub(super) over: Over,
}

/// What is known of all folders.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) freed: Vec<FreedSaid>,
    pub(super) expired: Vec<ExpiredSaid>,
    fates: Vec<Fate>,
    numbers: HashMap<Fate, u32>,
    pub(super) freed_count: u64,
    /// From when on retention counts, of receipts where that is later than they came. Kept for rows alone.
    from: HashMap<ReceiptId, Timestamp>,
    /// Receipts that got entries behind their own entry of the log.
    pub(super) placed_later: HashSet<ReceiptId>,
    /// What was found wrong with the last entry: it is whole, and something was done that must not be.
    wrong: Vec<Damage>,
}

impl Kept {
    fn number_of(&mut self, fate: Fate) -> u32 {
        let next = u32::try_from(self.fates.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(fate).or_insert(next);
        if number == next {
            self.fates.push(fate);
        }
        number
    }
}

/// What entries of a folder it is about, and what is wrong with them.
struct Wrong {
    what: &'static str,
    uids: Vec<Uid>,
}

impl Wrong {
    fn of(what: &'static str) -> Wrong {
        Wrong { what, uids: Vec::new() }
    }

    fn add(&mut self, uid: u32) {
        if self.uids.len() < TOUCHED_MAX {
            self.uids.extend(Uid::new(uid));
        }
    }
}

impl FolderSaid {
    /// Whether a legal hold of its gateway mailbox is on it.
    fn is_held_by(&self, gateway_mailbox: &GatewayMailbox) -> bool {
        let user = match &self.name {
            FolderName::User { user, .. } => Some(user),
            FolderName::Inbox | FolderName::Unassigned | FolderName::Quarantine => None,
        };
        gateway_mailbox.holds.iter().any(|hold| hold.user.is_none() || hold.user.as_ref() == user)
    }
}

/// The rule by which retention takes entries out of a folder.
enum Rule {
    /// What was received so many days before.
    Days(u32),
    All,
    Nothing,
}

fn rule(gateway_mailbox: &GatewayMailbox, name: &FolderName, at: Timestamp) -> Rule {
    let keeping = &gateway_mailbox.keeping;
    if gateway_mailbox.state == GatewayMailboxState::Deleted {
        let is_over =
            gateway_mailbox.deleted_at.is_some_and(|deleted| is_over(deleted, keeping.grace_days, at));
        return if is_over { Rule::All } else { Rule::Nothing };
    }
    let days = match name {
        FolderName::Inbox => keeping.inbox_days,
        FolderName::User { .. } => keeping.user_days,
        FolderName::Unassigned | FolderName::Quarantine => None,
    };
    days.map_or(Rule::Nothing, Rule::Days)
}

impl Ledger {
    /// What became of a folder entry.
    pub(super) fn fate(&self, folder: u64, uid: Uid) -> Fate {
        let number = self.folders.get(&folder).and_then(|said| said.fates.get(uid.value().into()));
        number.and_then(|number| self.kept.fates.get(number as usize)).copied().unwrap_or_default()
    }

    /// True when a folder entry was not deleted, expired or released.
    pub(super) fn is_there(&self, folder: u64, uid: Uid) -> bool {
        self.folders.get(&folder).is_some_and(|said| said.has(uid.value()) && !said.is_gone(uid.value()))
    }

    /// The one of [`Kept::freed`] by which the content of an object was freed.
    pub(super) fn freed_by(&self, object: u64) -> Option<u32> {
        self.freed.get(object)
    }

    /// Folder entries that ended and whose content stays for now, those that left included.
    pub(super) fn in_grace(&self) -> u64 {
        self.folders.values().map(|said| said.in_grace).sum()
    }

    /// Retention counts a receipt from the latest of these.
    pub(super) fn keep_from(&mut self, receipt: ReceiptId, at: Timestamp) {
        if self.rows.is_none() {
            return;
        }
        let old = self.kept.from.get(&receipt).copied();
        if old.is_some_and(|old| old >= at) {
            return;
        }
        let row = |at: Timestamp| [ValueRef::Blob(receipt.as_bytes()), ValueRef::Integer(at.unix_ms())];
        old.into_iter().for_each(|old| self.row_held(Table::KeptFrom, &row(old)));
        self.row(Table::KeptFrom, &row(at));
        self.kept.from.insert(receipt, at);
    }

    /// Folder entries under a legal hold, those that can be had back included; and all that can.
    pub(super) fn held_and_recoverable(&self) -> (u64, u64) {
        self.folders.values().fold((0, 0), |(held, recoverable), said| {
            let gateway_mailbox = self.gateway_mailboxes.get(&said.gateway_mailbox);
            let is_held =
                gateway_mailbox.is_some_and(|(gateway_mailbox, _)| said.is_held_by(gateway_mailbox));
            let kept = if is_held { said.live + said.recoverable() } else { 0 };
            (held + kept, recoverable + said.recoverable())
        })
    }

    /// What the last entry did that must not be.
    pub(super) fn take_wrong(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.kept.wrong)
    }

    fn settle(&mut self, folder: u64, uid: u32, become_what: impl FnOnce(&mut Fate)) {
        let Some(uid) = Uid::new(uid) else { return };
        let mut fate = self.fate(folder, uid);
        become_what(&mut fate);
        let number = self.kept.number_of(fate);
        if let Some(said) = self.folders.get_mut(&folder) {
            said.fates.set(uid.value().into(), number);
        }
    }

    /// It can be had back no more.
    fn end_grace(&mut self, folder: u64, uid: u32, over: Over) {
        self.settle(folder, uid, |fate| fate.over = over);
        if let Some(said) = self.folders.get_mut(&folder) {
            said.in_grace = said.in_grace.saturating_sub(1);
            said.left_in_grace = said.left_in_grace.saturating_sub(said.has_left(uid).into());
        }
        self.row_held(Table::InGrace, &in_grace_row(folder, uid));
    }

    fn tell(&mut self, seen: &Seen, folder: u64, wrong: Wrong) {
        let Some(said) = self.folders.get(&folder).filter(|_| !wrong.uids.is_empty()) else { return };
        let (gateway_mailbox, name) = (said.gateway_mailbox, said.name.clone());
        let touched =
            wrong.uids.into_iter().map(|uid| Touched { gateway_mailbox, folder: name.clone(), uid });
        let damage =
            Damage { what: wrong.what.to_owned(), entries: touched.collect(), ..damage_at(&seen.place) };
        self.kept.wrong.push(damage);
    }

    pub(super) fn take_expired(&mut self, fact: &ExpiredFact, seen: &Seen) {
        let number = u32::try_from(self.kept.expired.len()).unwrap_or(u32::MAX);
        let mut held = Wrong::of("retention took out what was under a legal hold");
        let mut without_rule = Wrong::of("retention took out what no rule let it take");
        let said = self.folders.get(&fact.folder);
        let gateway_mailbox =
            said.and_then(|said| Some((said, &self.gateway_mailboxes.get(&said.gateway_mailbox)?.0)));
        let is_held = gateway_mailbox.is_some_and(|(said, gateway_mailbox)| said.is_held_by(gateway_mailbox));
        let rule = gateway_mailbox.map_or(Rule::All, |(said, known)| rule(known, &said.name, fact.at));
        let days = if let Rule::Days(days) = rule { Some(days) } else { None };
        for uid in fact.uids.iter().flat_map(|(first, last)| first.value()..=last.value()) {
            if self.go(fact.folder, uid, fact.at) {
                self.settle(fact.folder, uid, |fate| fate.expired = Some(number));
                if is_held {
                    held.add(uid);
                }
                if matches!(rule, Rule::Nothing) {
                    without_rule.add(uid);
                }
            }
        }
        self.kept.expired.push(ExpiredSaid { place: seen.place, at: fact.at, days });
        self.tell(seen, fact.folder, held);
        self.tell(seen, fact.folder, without_rule);
        let why = Some(fact.why.as_str());
        self.take_keeping(fact.folder, &fact.uids, (fact.at, "expired"), &fact.actor, why);
    }

    /// The entries it took from those that can be had back; where they are now is [`Ledger::place`]'s.
    pub(super) fn take_back(&mut self, fact: &UndeletedFact, seen: &Seen) {
        let mut never_gone = Wrong::of("what was never deleted is brought back");
        let mut again = Wrong::of("what could be had back no more is brought back");
        for entry in &fact.entries {
            let (uid, fate) = (entry.of.value(), self.fate(fact.folder, entry.of));
            if self.is_there(fact.folder, entry.of) {
                never_gone.add(uid);
            } else if fate.over != Over::Not {
                again.add(uid);
            } else if self.folders.get(&fact.folder).is_some_and(|said| said.has(uid)) {
                self.end_grace(fact.folder, uid, Over::Back);
            }
        }
        self.tell(seen, fact.folder, never_gone);
        self.tell(seen, fact.folder, again);
    }

    pub(super) fn take_freed(&mut self, fact: &FreedFact, seen: &Seen) {
        let number = u32::try_from(self.kept.freed.len()).unwrap_or(u32::MAX);
        let mut there = Wrong::of("frees entries that are there");
        let mut held = Wrong::of("frees entries that are under a legal hold");
        let said = self.folders.get(&fact.folder);
        let gateway_mailbox =
            said.and_then(|said| Some((said, &self.gateway_mailboxes.get(&said.gateway_mailbox)?.0)));
        let is_held = gateway_mailbox.is_some_and(|(said, gateway_mailbox)| said.is_held_by(gateway_mailbox));
        let grace_days = gateway_mailbox.map(|(_, gateway_mailbox)| gateway_mailbox.keeping.grace_days);
        self.kept.freed.push(FreedSaid { place: seen.place, at: fact.at, grace_days });
        for uid in
            fact.uids.iter().flat_map(|(first, last)| first.value()..=last.value()).filter_map(Uid::new)
        {
            let known = self.folders.get(&fact.folder).is_some_and(|said| said.has(uid.value()));
            if self.is_there(fact.folder, uid) {
                there.add(uid.value());
            } else if known && self.fate(fact.folder, uid).over == Over::Not {
                self.end_grace(fact.folder, uid.value(), Over::Freed(number));
                if is_held {
                    held.add(uid.value());
                }
            }
        }
        self.tell(seen, fact.folder, there);
        self.tell(seen, fact.folder, held);
        for object in fact.objects.iter().flat_map(|(first, last)| *first..=*last) {
            if self.freed.get(object).is_none() {
                self.freed.set(object, number);
                self.kept.freed_count += 1;
                self.row(Table::Freed, &[int(object), ValueRef::Integer(fact.at.unix_ms())]);
            }
        }
    }

    /// What is freed that no entry tells of.
    pub(super) fn freed_unknown(&self, fact: &Fact) -> Vec<String> {
        let Fact::Freed(fact) = fact else { return Vec::new() };
        let objects = fact.objects.iter().flat_map(|(first, last)| *first..=*last);
        let unknown = objects.filter(|object| !self.has_object(*object)).take(TOUCHED_MAX);
        unknown.map(|object| format!("object {object} is freed, which no entry tells of")).collect()
    }
}

/// Nothing but where it is: at an entry of the log.
pub(super) fn damage_at(place: &Place) -> Damage {
    let (file, offset) = (segment_name(place.segment), place.entry_offset);
    Damage { file, offset, octets: place.entry_octets.into(), ..Damage::default() }
}

/// A row of `in_grace`. When it was deleted stands in the entry's own row, too, and is compared there.
pub(super) fn in_grace_row(folder: u64, uid: u32) -> [ValueRef<'static>; 3] {
    [int(folder), ValueRef::Integer(uid.into()), ValueRef::Integer(0)]
}
