//! Flags of folder entries, as the log tells of them: those that are there have what was said last, and the others none.

use super::bits::Bits;
use super::ledger::Ledger;
use super::rows::Table;
use super::said::int;
use crate::mail::{Flags, Uid};
use crate::store::fact::FlaggedFact;
use crate::store::index::flags_row;
use rusqlite::types::ValueRef;

/// Bits of a UID among those of all.
const FLAGS: u64 = 8;

/// The flags in a folder.
#[derive(Default)]
pub(super) struct FlagsSaid {
    /// How often they were changed.
    pub(super) changes: u64,
    flagged: u64,
    seen: u64,
    marked_deleted: u64,
    bits: Bits,
}

impl FlagsSaid {
    fn of(&self, uid: u32) -> Flags {
        let has = |bit: &u64| self.bits.has(u64::from(uid) * FLAGS + bit);
        Flags::from_bits((0..FLAGS).filter(has).fold(0, |bits, bit| bits | 1 << bit))
    }

    fn set(&mut self, uid: u32, flags: Flags) {
        for bit in 0..FLAGS {
            let number = u64::from(uid) * FLAGS + bit;
            match flags.bits() & 1 << bit {
                0 => self.bits.remove(number),
                _ => drop(self.bits.add(number)),
            }
        }
    }

    fn count(&mut self, flags: Flags, sign: i64) {
        let count = |of: &mut u64, counts: bool| *of = of.wrapping_add_signed(i64::from(counts) * sign);
        count(&mut self.flagged, !flags.is_empty());
        count(&mut self.seen, flags.contains(Flags::SEEN));
        count(&mut self.marked_deleted, flags.contains(Flags::DELETED));
    }

    /// Tells where the index has other counts: how often they were changed, entries with any, seen, to be deleted.
    pub(super) fn compare(&self, path: &str, held: [u64; 4], wrong: &mut dyn FnMut(String)) {
        let [changes, flagged, seen, marked_deleted] = held;
        if [flagged, seen, marked_deleted] != [self.flagged, self.seen, self.marked_deleted] {
            wrong(format!(
                "has {flagged} entries of {path} with flags, {seen} of them seen and {marked_deleted} to be deleted; \
                 the log says {}, {} and {}",
                self.flagged, self.seen, self.marked_deleted
            ));
        }
        // Where entries were lost it counts further.
        if changes < self.changes {
            wrong(format!("has flags of {path} changed {changes} times, the log says {}", self.changes));
        }
    }
}

impl Ledger {
    pub(super) fn take_flagged(&mut self, fact: &FlaggedFact) {
        let Some(said) = self.folders.get_mut(&fact.folder) else { return };
        said.flags.changes += 1;
        for (first, last, flags) in &fact.uids {
            let flags = Flags::from_bits(flags.bits());
            for uid in first.value()..=last.value() {
                let is_there =
                    self.folders.get(&fact.folder).is_some_and(|said| said.has(uid) && !said.is_gone(uid));
                if is_there {
                    self.say_flags(fact.folder, uid, flags);
                }
            }
        }
    }

    /// An entry is over, and its flags with it.
    pub(super) fn lose_flags(&mut self, folder: u64, uid: u32) {
        if self.folders.get(&folder).is_some_and(|said| said.flags.flagged > 0) {
            self.say_flags(folder, uid, Flags::NONE);
        }
    }

    fn say_flags(&mut self, folder: u64, uid: u32, after: Flags) {
        let Some(said) = self.folders.get_mut(&folder) else { return };
        let before = said.flags.of(uid);
        if before == after {
            return;
        }
        said.flags.count(before, -1);
        said.flags.count(after, 1);
        said.flags.set(uid, after);
        let Some(uid) = Uid::new(uid) else { return };
        let row = |flags: Flags| {
            let [bits, check] = flags_row(folder, uid, flags).map(ValueRef::Integer);
            [int(folder), ValueRef::Integer(uid.value().into()), bits, check]
        };
        if !before.is_empty() {
            self.row_held(Table::Flags, &row(before));
        }
        if !after.is_empty() {
            self.row(Table::Flags, &row(after));
        }
    }
}
