//! Content of a backup, hashed before anything is made of it.

use super::reading::Findings;
use super::report::RestoreProgress;
use crate::store::check::{Bits, Damage, Found, Seen, Visit, content_file};
use crate::store::fact::Fact;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Hashes content, in the log and beside it.
pub(super) struct Hashing<'a> {
    pub(super) content: PathBuf,
    pub(super) freed: &'a Bits,
    pub(super) findings: Findings,
    pub(super) so_far: RestoreProgress,
    pub(super) progress: &'a mut dyn FnMut(&RestoreProgress),
}

impl Visit for Hashing<'_> {
    fn pace(&mut self, octets: u64) -> ControlFlow<()> {
        self.so_far.octets += octets;
        self.so_far.octets_total = self.so_far.octets_total.max(self.so_far.octets);
        (self.progress)(&self.so_far);
        ControlFlow::Continue(())
    }

    fn entry(&mut self, seen: &Seen) {
        let Fact::Object(fact) = &seen.fact else { return };
        if self.freed.has(fact.object) {
            return;
        }
        let Some(name) = &fact.file else { return };
        self.so_far.octets_total += fact.sealed_octets;
        let (so_far, progress) = (&mut self.so_far, &mut *self.progress);
        let mut pace = |octets| {
            so_far.octets += octets;
            progress(so_far);
            ControlFlow::Continue(())
        };
        let looked =
            content_file(&self.content, name, fact.sealed_octets, Some(&fact.sealed_sha256), &mut pace);
        if let Found::Damaged(mut damage) = looked {
            damage.receipts.push(fact.receipt_id);
            self.findings.add(damage);
        }
    }

    fn damage(&mut self, damage: Damage) {
        // What is wrong with entries was told before.
        if damage.object.is_some_and(|object| !self.freed.has(object)) {
            self.findings.add(damage);
        }
    }
}
