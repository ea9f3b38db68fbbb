//! Where the log ends, or a part of it is missing: whether that was ever acknowledged, and what is known of it.

use super::report::FindingKind;
use super::segment::{Tail, segment_name};
use super::taking::Taking;
use super::verifier::Verifier;
use super::{Damage, Visit};
use crate::store::log::Position;

impl Verifier<'_> {
    /// Goes on behind an end that is missing, where an admin knows that it is: before segment `next`, or where there is none.
    pub(super) fn step_over_known(&mut self, next: Option<u64>) {
        let Taking { covers, findings, options, .. } = &mut self.taking;
        let Some(sequence) = self.sequence.filter(|_| self.tail.is_none()) else { return };
        let next = match next {
            Some(next) => self.segments.get(&next),
            None if self.segments.range(self.at.0 + 1..).next().is_some() => return,
            None => None,
        };
        let goes_on = |to: &Position| {
            next.is_none_or(|next| next.header_is_whole && next.header.chain == to.chain)
                && to.sequence > sequence
        };
        let known = covers.accepted.iter().find(|(gap, _)| gap.behind == self.at && goes_on(&gap.to));
        let Some((gap, what)) = known else { return };
        let damage = Damage {
            file: segment_name(gap.behind.0),
            offset: gap.behind.1,
            what: what.clone(),
            ..Damage::default()
        };
        // Whoever brings what he knows from elsewhere does not go by what data_dir says was known.
        let is_damage = options.checkpoints.is_some() || options.key.is_some();
        findings.add(FindingKind::Log, is_damage, damage);
        (self.chain, self.sequence) = (Some(gap.to.chain), Some(gap.to.sequence));
        self.taking.sequence = gap.to.sequence;
    }

    /// A bad last group that counts.
    pub(super) fn take_tail(&mut self, tail: Tail) {
        self.taking.findings.loses_entries |= tail.damage.iter().any(|damage| damage.loses_entries);
        // Content that is gone says nothing against the entries.
        let is_log_whole = tail.damage.iter().all(|damage| damage.object.is_some());
        tail.damage.into_iter().for_each(|damage| self.taking.damage(damage));
        let chain = tail.chain.filter(|_| is_log_whole);
        self.taking.group(tail.sequence.unwrap_or(self.taking.sequence + 1), chain.as_ref());
        tail.seen.iter().for_each(|seen| self.taking.entry(seen));
        (self.chain, self.sequence) = (None, None);
        if is_log_whole {
            (self.chain, self.sequence) = (tail.chain, tail.sequence);
            self.at.1 = tail.offset + tail.octets;
            self.groups += 1;
        }
    }

    /// Whether a bad last group counts, and whether the log ends where it should.
    pub(super) fn settle_end(&mut self) {
        self.taking.settle_group();
        let Taking { covers, findings, restores, .. } = &mut self.taking;
        restores.tell(covers, findings);
        covers.furthest.retain(|cover| !restores.is_of_original(cover.position.sequence));
        if let Some((number, tail)) = self.tail.take() {
            let reaches = |position: &Position| {
                self.sequence.is_some_and(|sequence| position.sequence > sequence)
                    || (position.segment, position.offset) > (number, tail.offset)
            };
            let is_covered = covers.furthest.iter().any(|cover| reaches(&cover.position));
            // Without anything that says so, nobody knows that it was not acknowledged.
            if is_covered || covers.furthest.is_empty() {
                self.take_tail(tail);
            } else {
                let what = match (self.running, self.index_position) {
                    (true, _) => "the end is not whole: the server may just be writing it",
                    (false, Some(_)) => {
                        "a torn end that was never acknowledged: the next start puts it aside"
                    }
                    // It cuts nothing off without a position to trust.
                    (false, None) => {
                        "a torn end that no checkpoint covers: a start with a usable index puts it aside, any other leaves it and names it"
                    }
                };
                let (file, offset, octets) = (segment_name(number), tail.offset, tail.octets);
                let what = what.to_owned();
                findings.add(
                    FindingKind::Log,
                    false,
                    Damage { file, offset, octets, what, ..Damage::default() },
                );
            }
        }
        self.taking.settle_group();
        self.step_over_known(None);
        self.judge_end();
    }

    fn judge_end(&mut self) {
        let Taking { covers, findings, sequence, ledger, .. } = &mut self.taking;
        let (file, offset) = (segment_name(self.at.0), self.at.1);
        let Some(cover) = covers.furthest.iter().max_by_key(|cover| cover.position.sequence) else {
            if !self.segments.is_empty() {
                let what =
                    "no checkpoint, orderly close or index says how far the log once reached".to_owned();
                findings.add(FindingKind::Log, false, Damage { file, offset, what, ..Damage::default() });
            }
            return;
        };
        let missing = cover.position.sequence.saturating_sub(*sequence);
        if missing == 0 {
            return;
        }
        let at = cover.at.map(|at| format!(", of {at},")).unwrap_or_default();
        let since = match ledger.newest {
            Some(newest) => format!("everything received after {newest}"),
            None => "everything".to_owned(),
        };
        let what = format!(
            "the log ends {missing} groups of entries before {}{at} says: {since} may be lost",
            cover.who
        );
        let damage = Damage { file, offset, what, loses_entries: true, ..Damage::default() };
        findings.add(FindingKind::Log, true, damage);
    }
}
