//! What the walk brings, taken in: every entry, every object, every finding.

use super::covers::Covers;
use super::kept::damage_at;
use super::ledger::Ledger;
use super::report::{FINDINGS_MAX, FindingKind, VerifyProgress};
use super::restored::Restores;
use super::verifier::VerifyOptions;
use super::withheld::Withheld;
use super::{Damage, Found, Seen, Visit, content_file, segment_name};
use crate::store::Digest;
use crate::store::fact::{Fact, ObjectFact};
use std::ops::ControlFlow;

/// What was found so far. All is counted; the first of it is kept.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) kept: Vec<(FindingKind, bool, Damage)>,
    pub(super) damaged: u64,
    pub(super) notes: u64,
    /// Entries of the log are gone: an index that holds them says more than the log.
    pub(super) loses_entries: bool,
    pub(super) damaged_index: bool,
}

impl Findings {
    pub(super) fn damage(&mut self, kind: FindingKind, file: String, what: String) {
        self.add(kind, true, Damage { file, what, ..Damage::default() });
    }

    pub(super) fn note(&mut self, kind: FindingKind, file: String, what: String) {
        self.add(kind, false, Damage { file, what, ..Damage::default() });
    }

    pub(super) fn add(&mut self, kind: FindingKind, is_damage: bool, damage: Damage) {
        let count = if is_damage { &mut self.damaged } else { &mut self.notes };
        *count += 1;
        let is_kept = *count <= FINDINGS_MAX as u64;
        self.loses_entries |= is_damage && damage.loses_entries;
        self.damaged_index |= is_damage && kind == FindingKind::Index;
        if is_kept {
            self.kept.push((kind, is_damage, damage));
        }
    }

    /// A finding by its number.
    pub(super) fn kept(&mut self, number: usize) -> Option<&mut Damage> {
        self.kept.get_mut(number).map(|(_, _, damage)| damage)
    }

    /// What is damaged of content.
    pub(super) fn objects(&mut self) -> impl Iterator<Item = (usize, &mut Damage)> {
        let content = self.kept.iter_mut().enumerate().map(|(number, (_, _, damage))| (number, damage));
        content.filter(|(_, damage)| damage.object.is_some())
    }
}

/// What the walk brings is taken in here.
pub(super) struct Taking<'a> {
    pub(super) options: &'a VerifyOptions,
    pub(super) progress: &'a mut dyn FnMut(&VerifyProgress),
    pub(super) so_far: VerifyProgress,
    /// Payloads that were passed over.
    pub(super) skipped_octets: u64,
    pub(super) ledger: Ledger,
    pub(super) covers: Covers,
    pub(super) findings: Findings,
    pub(super) entries: u64,
    pub(super) content_files: u64,
    pub(super) sequence: u64,
    pub(super) withheld: Withheld,
    pub(super) restores: Restores,
    /// The group whose entries are being taken in, and the chain hash behind it, until that was compared with what was signed.
    pub(super) unsettled: Option<(u64, Option<Digest>)>,
    /// The finding of the first group that is not the one that was signed, and how many are not behind it.
    pub(super) differing: Option<(usize, u64)>,
}

impl Visit for Taking<'_> {
    fn pace(&mut self, octets: u64) -> ControlFlow<()> {
        self.so_far.octets += octets;
        let octets = self.so_far.octets + self.skipped_octets;
        (self.progress)(&VerifyProgress { octets, ..self.so_far });
        ControlFlow::Continue(())
    }

    fn group(&mut self, sequence: u64, chain: Option<&Digest>) {
        self.settle_group();
        self.restores.stepped(self.sequence, sequence);
        self.sequence = sequence;
        self.unsettled = Some((sequence, chain.copied()));
    }

    fn entry(&mut self, seen: &Seen) {
        self.entries += 1;
        if !self.options.deep {
            self.skipped_octets += seen.payload_octets;
        }
        match &seen.fact {
            Fact::Object(fact) => self.object(fact, seen),
            Fact::Restored(fact) => self.restores.take(fact, seen, self.sequence),
            _ => {}
        }
        for what in self.ledger.take(seen, self.sequence) {
            let mut damage = Damage { what, ..damage_at(&seen.place) };
            damage.lose(&seen.fact);
            self.findings.add(FindingKind::Log, true, damage);
        }
        for damage in self.ledger.take_wrong() {
            self.findings.add(FindingKind::Freed, true, damage);
        }
    }

    fn damage(&mut self, damage: Damage) {
        match damage.object {
            Some(object) => self.withheld.hold_back(object, damage),
            None => self.findings.add(FindingKind::Log, true, damage),
        }
    }
}

impl Taking<'_> {
    /// Compares the last group with what was signed, once it is known whether it is behind a restore.
    pub(super) fn settle_group(&mut self) {
        if let Some(what) = self.restores.unexplained() {
            self.findings.damage(FindingKind::Log, "log".to_owned(), what);
        }
        let Some((sequence, Some(chain))) = self.unsettled.take() else { return };
        if self.restores.is_of_original(sequence) {
            return;
        }
        for (who, signed) in self.covers.signed.get(&sequence).into_iter().flatten() {
            if chain == *signed {
                continue;
            }
            // Every group behind the first differs as well: a log of another store has as many as were ever signed.
            if let Some((_, more)) = &mut self.differing {
                *more += 1;
            } else {
                self.differing = Some((self.findings.kept.len(), 0));
                let what = format!("group {sequence} of the log is not the one that was signed: {who}");
                self.findings.damage(FindingKind::Checkpoint, "log".to_owned(), what);
            }
        }
    }

    /// Says of the first group that is not the one that was signed how many more are not.
    pub(super) fn count_differing(&mut self) {
        let Some((number, more @ 1..)) = self.differing else { return };
        let said = self.findings.kept(number).filter(|damage| damage.file == "log" && damage.offset == 0);
        if let Some(damage) = said {
            damage.what.push_str(&format!("; so say {more} more checkpoints of this and later groups"));
        }
    }

    /// An object is what its entry says of it.
    fn object(&mut self, fact: &ObjectFact, seen: &Seen) {
        let Some(name) = &fact.file else {
            if (seen.payload_octets, seen.payload_sha256) != (fact.sealed_octets, fact.sealed_sha256) {
                let what = "stored content is not what its entry says".to_owned();
                let (file, offset) = (segment_name(seen.place.segment), seen.place.payload_offset);
                self.content_damage(fact, Damage { file, offset, what, ..Damage::default() });
            }
            return;
        };
        self.content_files += 1;
        let content = self.options.data_dir.join("content");
        let sha256 = self.options.deep.then_some(&fact.sealed_sha256);
        let mut pace = |octets| {
            self.so_far.octets += octets;
            (self.progress)(&self.so_far);
            ControlFlow::Continue(())
        };
        if let Found::Damaged(damage) = content_file(&content, name, fact.sealed_octets, sha256, &mut pace) {
            self.content_damage(fact, damage);
        }
    }

    fn content_damage(&mut self, fact: &ObjectFact, mut damage: Damage) {
        damage.object = Some(fact.object);
        damage.octets = fact.sealed_octets;
        damage.add_receipt(fact.receipt_id);
        self.withheld.hold_back(fact.object, damage);
    }
}
