//! Content that was not found as it was stored, until the end of the log is known: what an entry further on frees is no damage,
//! whatever is left of it.
//!
//! A bit for each object of which nothing is left, as of all that was freed; others, of which there are few, as they were found.

use super::Damage;
use super::bits::Bits;
use super::ledger::Ledger;
use super::report::FindingKind;
use super::taking::Findings;
use crate::store::fact::ObjectFact;

/// Damaged objects of which something is left that are kept as they were found; of more only that they are.
const FOUND_MAX: usize = 10_000;

/// All of it.
#[derive(Default)]
pub(super) struct Withheld {
    blank: Bits,
    more: Bits,
    found: Vec<Damage>,
    /// All that is in none of those.
    is_whole_but: Bits,
    /// Some are only known by their number.
    pub(super) has_unnamed: bool,
}

impl Withheld {
    pub(super) fn hold_back(&mut self, object: u64, damage: Damage) {
        self.is_whole_but.add(object);
        if !damage.is_blank && self.found.len() < FOUND_MAX {
            self.found.push(damage);
            return;
        }
        let unnamed = if damage.is_blank { &mut self.blank } else { &mut self.more };
        unnamed.add(object);
        self.has_unnamed = true;
    }

    /// True when there is any.
    pub(super) fn is_asked(&self) -> bool {
        self.has_unnamed || !self.found.is_empty()
    }

    /// True when its content is there as it was stored, as far as was looked.
    pub(super) fn is_whole(&self, object: u64) -> bool {
        !self.is_whole_but.has(object)
    }

    /// Tells of what was not freed, of that which was kept.
    pub(super) fn tell_found(&mut self, ledger: &Ledger, findings: &mut Findings) {
        for damage in std::mem::take(&mut self.found) {
            if damage.object.is_some_and(|object| ledger.freed_by(object).is_none()) {
                findings.add(FindingKind::Content, true, damage);
            }
        }
    }

    /// What is to be told of an object that was not freed, and that is only known by its number. `place` is where it stands.
    pub(super) fn unnamed(&self, fact: &ObjectFact, place: (String, u64)) -> Option<Damage> {
        let what = match (self.blank.has(fact.object), self.more.has(fact.object)) {
            (true, _) if fact.file.is_some() => "is not there",
            (true, _) => "stored content reads as zeros",
            (false, true) => "stored content is not what was stored",
            (false, false) => return None,
        };
        let (file, offset) = match &fact.file {
            Some(name) => (format!("content/{name}"), 0),
            None => place,
        };
        let mut damage = Damage { file, offset, what: what.to_owned(), ..Damage::default() };
        (damage.object, damage.octets) = (Some(fact.object), fact.sealed_octets);
        damage.add_receipt(fact.receipt_id);
        Some(damage)
    }
}
