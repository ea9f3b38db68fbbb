//! Content files, copied as the entries of a log name them.

use super::copying::{Copied, Copier, sync};
use super::reading::{At, Findings, walk_on};
use crate::store::StoreError;
use crate::store::check::{Bits, Damage, Found, Seen, Visit, content_file};
use crate::store::fact::{Fact, ObjectFact};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// From where to where they are copied.
pub(super) struct Content<'a> {
    /// The log that names them.
    pub(super) log: &'a Path,
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
    /// Objects whose content is freed: it is left out.
    pub(super) freed: &'a Bits,
    /// They were hashed before, and what is damaged was told.
    pub(super) hashed: bool,
}

impl Content<'_> {
    /// Copies those that entries from one place of the log to another name, durably; gives how many, and what is damaged.
    pub(super) fn copy(
        &self,
        mut from: At,
        to: &At,
        copier: &mut Copier<'_>,
    ) -> Result<(u64, Findings), StoreError> {
        let mut copying =
            Copying { content: self, copier, findings: Findings::default(), copied: 0, failed: None };
        walk_on(self.log, &mut from, Some(&to.position()), false, &mut copying)?;
        let Copying { findings, copied, failed, .. } = copying;
        match failed {
            Some(error) => Err(error),
            None => sync_all_below(self.to).map(|()| (copied, findings)),
        }
    }
}

struct Copying<'a, 'p> {
    content: &'a Content<'a>,
    copier: &'a mut Copier<'p>,
    findings: Findings,
    copied: u64,
    failed: Option<StoreError>,
}

impl Copying<'_, '_> {
    fn copy(&mut self, fact: &ObjectFact, name: &str) -> Result<(), StoreError> {
        let Content { from, to, hashed, .. } = self.content;
        let (source, target) = (from.join(name), to.join(name));
        let is_there = fs::metadata(&target).is_ok_and(|there| there.len() == fact.sealed_octets);
        let pace = &mut |_| ControlFlow::Continue(());
        // One that is there was hashed when it was copied.
        let sha256 = (!is_there).then_some(&fact.sealed_sha256);
        let looked =
            if *hashed { Found::Whole } else { content_file(from, name, fact.sealed_octets, sha256, pace) };
        let is_told = *hashed || matches!(looked, Found::Damaged(_));
        if let Found::Damaged(mut damage) = looked {
            damage.receipts.push(fact.receipt_id);
            self.findings.add(damage);
        }
        if is_told && !source.is_file() {
            return Ok(());
        }
        match self.copier.whole(&source, &target)? {
            Copied::WasThere => {}
            Copied::Whole => self.copied += 1,
            Copied::InPart(what) => {
                self.copied += 1;
                let (file, receipts) = (format!("content/{name}"), vec![fact.receipt_id]);
                self.findings.add(Damage { file, what, receipts, ..Damage::default() });
            }
        }
        Ok(())
    }
}

impl Visit for Copying<'_, '_> {
    fn pace(&mut self, _: u64) -> ControlFlow<()> {
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn entry(&mut self, seen: &Seen) {
        if let Fact::Object(fact) = &seen.fact
            && let Some(name) = &fact.file
            && !self.content.freed.has(fact.object)
            && self.failed.is_none()
        {
            self.failed = self.copy(fact, name).err();
        }
    }

    fn damage(&mut self, _: Damage) {}
}

/// Syncs a folder and those in it.
pub(super) fn sync_all_below(dir: &Path) -> Result<(), StoreError> {
    if !dir.is_dir() {
        return Ok(());
    }
    let fail = |e| StoreError::io("syncing a copy", e);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            sync(&path)?;
        }
    }
    sync(dir)
}
