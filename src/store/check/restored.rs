//! A store that goes on from a backup: what the original signed behind that is of another store, and nothing that is missing.
//!
//! The entry that says so names the last group of the backup. The group that holds it, or the one behind it, steps so far ahead that
//! no number the original can have reached comes again: what is signed in between is of the original.

use super::Damage;
use super::covers::Covers;
use super::kept::damage_at;
use super::report::FindingKind;
use super::segment::{NUMBERS_STEP_MIN, Seen};
use super::taking::Findings;
use crate::mail::Timestamp;
use crate::store::fact::RestoredFact;
use crate::store::index::Place;

/// One restore.
struct Restore {
    place: Place,
    at: Timestamp,
    actor: String,
    backup_at: Timestamp,
    /// The last group of the backup.
    sequence: u64,
    /// The group its entry stands in.
    group: u64,
    has_stepped: bool,
}

/// All of them, in the order of the log.
#[derive(Default)]
pub(super) struct Restores {
    all: Vec<Restore>,
    /// The last step of numbers that nothing explains yet.
    step: Option<(u64, u64)>,
}

impl Restores {
    /// A group begins, whose number may be far from that of the one before.
    pub(super) fn stepped(&mut self, before: u64, group: u64) {
        if group.saturating_sub(before) < NUMBERS_STEP_MIN {
            return;
        }
        match self.all.last_mut().filter(|restore| restore.group == before && !restore.has_stepped) {
            Some(restore) => restore.has_stepped = true,
            None => self.step = Some((before, group)),
        }
    }

    /// An entry of group `group`.
    pub(super) fn take(&mut self, fact: &RestoredFact, seen: &Seen, group: u64) {
        let has_stepped = self.step.take_if(|(before, _)| *before == fact.sequence).is_some();
        self.all.push(Restore {
            place: seen.place,
            at: fact.at,
            actor: fact.actor.clone(),
            backup_at: fact.backup_at,
            sequence: fact.sequence,
            group,
            has_stepped,
        });
    }

    /// All entries of a group were taken: gives a step that nothing explains.
    pub(super) fn unexplained(&mut self) -> Option<String> {
        let (before, group) = self.step.take()?;
        Some(format!(
            "the numbers of groups step from {before} to {group} here, and no entry says that the store was restored"
        ))
    }

    /// True when a group of this number is of an original, and not of this store.
    pub(super) fn is_of_original(&self, sequence: u64) -> bool {
        self.all.iter().any(|restore| restore.left_out(sequence))
    }

    pub(super) fn count(&self) -> u64 {
        self.all.len() as u64
    }

    /// Says of each restore what it was made from, and what is known of the original behind that.
    pub(super) fn tell(&self, covers: &Covers, findings: &mut Findings) {
        for restore in &self.all {
            let signed = covers.signed.keys().copied();
            let reached = signed.chain(covers.furthest.iter().map(|cover| cover.position.sequence));
            let missing = reached.filter(|sequence| restore.left_out(*sequence)).max();
            let missing = missing.map_or(0, |reached| reached - restore.sequence);
            let what = match missing {
                0 => "nothing signed after it is known".to_owned(),
                groups => format!(
                    "{groups} groups of entries signed after it are not here, and no mail that was received in them"
                ),
            };
            let (at, actor, backup_at) = (restore.at, &restore.actor, restore.backup_at);
            let what = format!("restored at {at} by {actor} from a backup of {backup_at}: {what}");
            findings.add(FindingKind::Log, false, Damage { what, octets: 0, ..damage_at(&restore.place) });
        }
    }
}

impl Restore {
    /// Whether a number lies between the backup's last group and the step.
    fn left_out(&self, sequence: u64) -> bool {
        let behind = sequence.saturating_sub(self.sequence);
        behind > 0 && behind < NUMBERS_STEP_MIN && sequence != self.group
    }
}
