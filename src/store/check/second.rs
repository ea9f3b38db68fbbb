//! A second look at the entries of the log, when the first found damage: which mail it touches, which rows differ.

use super::against::{Against, why};
use super::damage::{messages_of, placements_of, receipt_of};
use super::ledger::Ledger;
use super::report::FindingKind;
use super::rows::{Bucket, LOOKED_AT_MAX, Rows};
use super::segment::open;
use super::taking::Findings;
use super::{Damage, Expect, Seen, Touched, Visit, walk_segment};
use crate::mail::ReceiptId;
use crate::store::StoreError;
use crate::store::log::{Found as Segment, Position};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// Goes through entries alone: what is damaged is known.
pub(super) struct SecondLook<'a> {
    segments: &'a BTreeMap<u64, Segment>,
    findings: &'a mut Findings,
}

/// Takes entries and the number of their group.
struct Each<F: FnMut(&Seen, u64)>(F, u64);

impl<F: FnMut(&Seen, u64)> Visit for Each<F> {
    fn pace(&mut self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    fn entry(&mut self, seen: &Seen) {
        (self.0)(seen, self.1);
    }
    fn damage(&mut self, _: Damage) {}
    fn group(&mut self, sequence: u64, _: Option<&crate::store::Digest>) {
        self.1 = sequence;
    }
}

impl<'a> SecondLook<'a> {
    pub(super) fn new(segments: &'a BTreeMap<u64, Segment>, findings: &'a mut Findings) -> SecondLook<'a> {
        SecondLook { segments, findings }
    }

    /// Names every receipt and folder entry that damaged content touches: an original that came again is held only once.
    pub(super) fn touched(self) -> Result<(), StoreError> {
        let mut objects: HashMap<u64, Vec<usize>> = HashMap::new();
        for (number, damage) in self.findings.objects() {
            objects.entry(damage.object.unwrap_or_default()).or_default().push(number);
        }
        if objects.is_empty() {
            return Ok(());
        }
        let mut messages: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut touched: Vec<(usize, Option<ReceiptId>, Option<Touched>)> = Vec::new();
        let findings = self.findings;
        each(self.segments, None, |seen, _| {
            for message in messages_of(&seen.fact) {
                let needed = message.extents.iter().map(|extent| extent.object).chain([message.summary.0]);
                let numbers: Vec<usize> =
                    needed.filter_map(|object| objects.get(&object)).flatten().copied().collect();
                if numbers.is_empty() {
                    continue;
                }
                let known = messages.entry(message.message).or_default();
                for number in numbers {
                    touched.push((number, receipt_of(&seen.fact), None));
                    if !known.contains(&number) {
                        known.push(number);
                    }
                }
            }
            for (entry, message) in placements_of(&seen.fact) {
                for number in messages.get(&message).into_iter().flatten() {
                    touched.push((*number, receipt_of(&seen.fact), Some(entry.clone())));
                }
            }
            for (number, receipt, entry) in touched.drain(..) {
                if let Some(damage) = findings.kept(number) {
                    receipt.into_iter().for_each(|receipt| damage.add_receipt(receipt));
                    entry.into_iter().for_each(|entry| damage.add_entry(entry));
                }
            }
        })
    }

    /// Names the rows of the index in which it differs from the log up to `position`. `exact`: the log holds all that the index
    /// was made of; otherwise rows that only the index has say nothing against it.
    pub(super) fn rows(
        self,
        index: &Against,
        differing: &BTreeSet<Bucket>,
        position: &Position,
        exact: bool,
    ) -> Result<(), StoreError> {
        let mut ledger = Ledger::default();
        ledger.rows = Some(Rows::of(differing));
        each(self.segments, Some(position), |seen, group| {
            ledger.take(seen, group);
        })?;
        let place = || "index.sqlite".to_owned();
        let mut rows = ledger.rows.take().unwrap_or_default();
        if let Err(e) = index.add_rows(&mut rows) {
            self.findings.damage(FindingKind::Index, place(), why(&e));
        }
        for (what, _) in rows.named().into_iter().filter(|(_, is_beside)| exact || !is_beside) {
            self.findings.damage(FindingKind::Index, place(), what);
        }
        let further = differing.len().saturating_sub(LOOKED_AT_MAX);
        if further > 0 {
            let what = format!("rows differ from the log in {further} more places");
            self.findings.add(FindingKind::Index, exact, Damage { file: place(), what, ..Damage::default() });
        }
        Ok(())
    }
}

/// Hands on every entry that is whole, up to `to`.
pub(super) fn each(
    segments: &BTreeMap<u64, Segment>,
    to: Option<&Position>,
    take: impl FnMut(&Seen, u64),
) -> Result<(), StoreError> {
    let mut each = Each(take, 0);
    for (number, found) in segments {
        let end = match to {
            Some(to) if to.segment < *number => break,
            Some(to) if to.segment == *number => to.offset.min(found.octets),
            _ => found.octets,
        };
        let expect = Expect { number: *number, from: 0, end, chain: None, sequence: None, payloads: false };
        let walked = walk_segment(&open(found)?, &expect, &mut each)?;
        if let Some(tail) = walked.tail {
            tail.seen.iter().for_each(|seen| each.entry(seen));
        }
    }
    Ok(())
}
