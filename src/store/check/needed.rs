//! Content that was freed, held against what needs it: entries gone through once more, now that it is known what became of each.
//!
//! A message needs the objects it lies in and that of its summary for as long as one of its entries in a folder is there or can be
//! had back; the message that was received, a report say, for as long as that is so of any entry of its receipt. An object that was freed while one needed it cannot be brought back by anything but a backup: nothing that is found
//! is graver. Told as well is what was freed, or taken out by retention, before its time.

use super::bits::{Bits, Marks};
use super::damage::{Made, Touched, made_by, messages_of};
use super::kept::{Fate, Over, damage_at};
use super::ledger::Ledger;
use super::report::{FINDINGS_MAX, FindingKind, FreedContent};
use super::segment::segment_name;
use super::taking::Findings;
use super::withheld::Withheld;
use super::{Damage, Seen};
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::store::FolderName;
use crate::store::fact::{Fact, ObjectFact, ReceivedFact};
use crate::store::index::Place;
use std::collections::{BTreeMap, HashMap};

/// How an entry needs what was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It is there.
    There,
    /// It was brought back behind it.
    Back,
    /// It could be had back then.
    Grace,
}

/// What is told in one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    /// What this entry of the log freed of this message, or of all that it freed.
    Content {
        freed: u32,
        message: u64,
        need: Need,
    },
    FreedEarly(u32),
    ExpiredEarly(u32),
}

/// The walk.
pub(super) struct Needed<'a> {
    ledger: &'a Ledger,
    withheld: &'a Withheld,
    findings: &'a mut Findings,
    /// Of messages whose content was freed, the first entry that freed any of it.
    messages: Marks,
    /// Of receipts that got entries later, the message that was received and the first entry that freed any of it.
    reports: HashMap<(ReceiptId, GatewayMailboxId), (u64, u32)>,
    /// From when on retention counted, of receipts where that is later than they came.
    kept_from: HashMap<ReceiptId, Timestamp>,
    /// Entries of which it was looked at how they ended: no later entry ends them again.
    ended: HashMap<u64, Bits>,
    told: BTreeMap<About, Damage>,
    /// Findings beyond those.
    more: u64,
    freed: FreedContent,
    /// Objects of that whose octets were found as they were stored, where that was looked at, and these octets.
    waiting: (u64, u64),
}

impl<'a> Needed<'a> {
    /// True when there is anything to look for.
    pub(super) fn is_asked(ledger: &Ledger, withheld: &Withheld) -> bool {
        withheld.has_unnamed || !ledger.kept.freed.is_empty() || !ledger.kept.expired.is_empty()
    }

    pub(super) fn new(ledger: &'a Ledger, withheld: &'a Withheld, findings: &'a mut Findings) -> Needed<'a> {
        Needed {
            ledger,
            withheld,
            findings,
            messages: Marks::default(),
            reports: HashMap::new(),
            kept_from: HashMap::new(),
            ended: HashMap::new(),
            told: BTreeMap::new(),
            more: 0,
            freed: FreedContent::default(),
            waiting: (0, 0),
        }
    }

    pub(super) fn take(&mut self, seen: &Seen) {
        match &seen.fact {
            Fact::Object(fact) => self.object(fact, &seen.place),
            Fact::Deleted(fact) => self.ends(fact.gateway_mailbox, fact.folder, &fact.uids, fact.at),
            Fact::Expired(fact) => self.ends(fact.gateway_mailbox, fact.folder, &fact.uids, fact.at),
            Fact::Revised(fact) => {
                for left in &fact.left {
                    self.ends(fact.gateway_mailbox, left.folder, &[(left.uid, left.uid)], fact.at);
                }
            }
            _ => {}
        }
        for message in messages_of(&seen.fact) {
            let own = (!message.held).then_some(message.summary.0);
            let objects = message.extents.iter().map(|extent| extent.object).chain(own);
            if let Some(first) = objects.filter_map(|object| self.ledger.freed_by(object)).min() {
                self.messages.set(message.message, first);
            }
        }
        self.receipt(&seen.fact);
        let is_back = matches!(seen.fact, Fact::Undeleted(_));
        for made in &made_by(&seen.fact) {
            let fate = self.ledger.fate(made.folder, made.uid);
            if let Some(freed) = self.messages.get(made.message) {
                self.needs(made, fate, is_back, (made.message, freed));
            }
            if let Some(report) = self.report(seen, made) {
                self.needs(made, fate, is_back, report);
            }
            let expired = fate.expired.and_then(|by| Some((by, self.ledger.kept.expired.get(by as usize)?)));
            let from = self.kept_from.get(&made.receipt_id).map_or(made.received_at, |from| *from);
            if let Some((by, _)) = expired.filter(|(_, said)| said.is_early(from.max(made.received_at))) {
                self.tell(About::ExpiredEarly(by), made);
            }
        }
    }

    /// What later entries of a receipt are looked at by.
    fn receipt(&mut self, fact: &Fact) {
        let (receipt_id, from) = match fact {
            Fact::Received(fact) => (fact.receipt_id, fact.kept_from),
            Fact::Revised(fact) => (fact.receipt_id, fact.kept_from()),
            _ => return,
        };
        if let Fact::Received(fact) = fact
            && self.ledger.kept.placed_later.contains(&receipt_id)
            && let Some(report) = self.received(fact)
        {
            self.reports.insert((receipt_id, fact.gateway_mailbox), report);
        }
        if let Some(from) = from {
            let latest = self.kept_from.entry(receipt_id).or_insert(from);
            *latest = from.max(*latest);
        }
    }

    /// The message that was received, and what freed the first of it.
    fn received(&self, fact: &ReceivedFact) -> Option<(u64, u32)> {
        let received = fact.messages.first()?.message;
        self.messages.get(received).map(|freed| (received, freed))
    }

    /// The same for a folder entry that is of another message of that receipt.
    fn report(&self, seen: &Seen, made: &Made<'_>) -> Option<(u64, u32)> {
        let of = match &seen.fact {
            Fact::Received(fact) => fact.gateway_mailbox,
            Fact::Revised(fact) => fact.gateway_mailbox,
            Fact::Undeleted(fact) => fact.gateway_mailbox,
            _ => return None,
        };
        if let Fact::Received(fact) = &seen.fact {
            return self.received(fact).filter(|(received, _)| *received != made.message);
        }
        let (received, freed) = *self.reports.get(&(made.receipt_id, of))?;
        // A message that is elsewhere, too, may be placed when the report it came in is long gone.
        let at = |place: &Place| (place.segment, place.entry_offset);
        let was_there = matches!(seen.fact, Fact::Undeleted(_))
            || self.ledger.kept.freed.get(freed as usize).is_some_and(|by| at(&by.place) > at(&seen.place));
        (was_there && received != made.message).then_some((received, freed))
    }

    fn object(&mut self, fact: &ObjectFact, place: &Place) {
        if self.ledger.freed_by(fact.object).is_some() {
            self.freed.objects += 1;
            self.freed.octets += fact.sealed_octets;
            if self.withheld.is_whole(fact.object) {
                self.waiting = (self.waiting.0 + 1, self.waiting.1 + fact.sealed_octets);
            }
        } else {
            let place = (segment_name(place.segment), place.payload_offset);
            let damage = self.withheld.unnamed(fact, place);
            damage.into_iter().for_each(|damage| self.findings.add(FindingKind::Content, true, damage));
        }
    }

    /// Tells of an entry, if it needed what was freed of a message.
    fn needs(&mut self, made: &Made<'_>, fate: Fate, is_back: bool, (message, freed): (u64, u32)) {
        // Brought back it is another entry, which is looked at by itself.
        let is_over = match fate.over {
            Over::Not => false,
            Over::Freed(by) => by <= freed,
            Over::Back => true,
        };
        if is_over {
            return;
        }
        let need = match self.ledger.is_there(made.folder, made.uid) {
            _ if is_back => Need::Back,
            true => Need::There,
            false => Need::Grace,
        };
        self.tell(About::Content { freed, message, need }, made);
    }

    /// Entries that were deleted then, or taken out.
    fn ends(&mut self, of: GatewayMailboxId, folder: u64, uids: &[(Uid, Uid)], at: Timestamp) {
        let uids = uids.iter().flat_map(|(first, last)| first.value()..=last.value());
        for uid in uids.filter_map(Uid::new) {
            let Over::Freed(by) = self.ledger.fate(folder, uid).over else { continue };
            let is_early = self.ledger.kept.freed.get(by as usize).is_some_and(|freed| freed.is_early(at));
            if !self.ended.entry(folder).or_default().add(uid.value().into()) || !is_early {
                continue;
            }
            let Some(name) = self.ledger.folders.get(&folder).map(|said| said.name.clone()) else { continue };
            if let Some(damage) = self.damage(About::FreedEarly(by)) {
                damage.add_entry(Touched { gateway_mailbox: of, folder: name, uid });
            }
        }
    }

    fn tell(&mut self, about: About, made: &Made<'_>) {
        let gateway_mailbox = self.ledger.folders.get(&made.folder).map(|said| said.gateway_mailbox);
        let name: FolderName = made.name.clone();
        if let Some(damage) = self.damage(about) {
            damage.add_receipt(made.receipt_id);
            if let Some(gateway_mailbox) = gateway_mailbox {
                damage.add_entry(Touched { gateway_mailbox, folder: name, uid: made.uid });
            }
        }
    }

    fn damage(&mut self, about: About) -> Option<&mut Damage> {
        if !self.told.contains_key(&about) {
            if self.told.len() >= FINDINGS_MAX {
                self.more += 1;
                return None;
            }
            let damage = self.named(about)?;
            self.told.insert(about, damage);
        }
        self.told.get_mut(&about)
    }

    fn named(&self, about: About) -> Option<Damage> {
        let kept = &self.ledger.kept;
        let days = |days: Option<u32>| days.unwrap_or_default();
        let (place, what) = match about {
            About::Content { freed, message, need } => {
                let whose = match need {
                    Need::There => "entries that are there need it",
                    Need::Back => "entries that were brought back need it",
                    Need::Grace => "entries that could be had back then needed it",
                };
                let what = format!("content of message {message} is freed here, and {whose}");
                (&kept.freed.get(freed as usize)?.place, what)
            }
            About::FreedEarly(by) => {
                let freed = kept.freed.get(by as usize)?;
                let days = days(freed.grace_days);
                (&freed.place, format!("frees at {} what was deleted less than {days} days before", freed.at))
            }
            About::ExpiredEarly(by) => {
                let expired = kept.expired.get(by as usize)?;
                let days = days(expired.days);
                let what = format!(
                    "retention took out at {} what was received less than {days} days before",
                    expired.at
                );
                (&expired.place, what)
            }
        };
        Some(Damage { what, ..damage_at(place) })
    }

    /// Tells of all that was found. `deep`: content was read.
    pub(super) fn end(self, deep: bool) -> FreedContent {
        for damage in self.told.into_values() {
            self.findings.add(FindingKind::Freed, true, damage);
        }
        // Counted entry by entry: what is beyond all that is named is too much to be told apart.
        self.findings.damaged += self.more;
        let (objects, octets) = self.waiting;
        FreedContent {
            waiting_objects: deep.then_some(objects),
            waiting_octets: deep.then_some(octets),
            ..self.freed
        }
    }
}
