//! What a person decides: to apply a plan that waits, to go back to an earlier list; and what a person asks: whose is it?

use super::entry::Entry;
use super::live::Directory;
use super::merged::lock;
use super::past::Held;
use super::plan::{Plan, Wanted};
use super::report::{
    Claim, FoundAddress, Outcome, PlanSummary, SnapshotSummary, SyncRefusal, SyncReport, Trigger,
};
use super::roll::Roll;
use super::snapshot::{Contested, Found, Snapshot, listed_key};
use super::state::Header;
use super::sync::{NotApplied, blank};
use crate::config::Guard;
use crate::mail::{AddressKey, Timestamp};
use crate::observe::now;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// Answers to one question about an address; more than this nobody reads.
const FOUND_MAX: usize = 1_000;

impl Directory {
    /// Changes that wait for a person's word, in the order of the sources.
    pub fn plans(&self) -> Vec<PlanSummary> {
        let state = self.current.load();
        let waiting = |entry: &Arc<Entry>| {
            lock(&entry.work.standing).pending.as_ref().map(|pending| pending.summary.clone())
        };
        state.entries.iter().filter_map(waiting).collect()
    }

    /// Puts in force what a plan says, whatever it takes away. Blocks on the disk.
    ///
    /// # Errors
    /// [`SyncRefusal`]; nothing has changed.
    pub fn apply_plan(&self, plan: &str) -> Result<SyncReport, SyncRefusal> {
        let unknown = || SyncRefusal::NoSuchPlan(plan.to_owned());
        let state = self.current.load_full();
        let waits = |entry: &&Arc<Entry>| {
            lock(&entry.work.standing).pending.as_ref().is_some_and(|pending| pending.summary.plan == plan)
        };
        let entry = state.entries.iter().find(waits).ok_or_else(unknown)?;
        let _busy = entry.work.begin(entry.name())?;
        let (pending, in_force) = {
            let standing = lock(&entry.work.standing);
            // A reading may have ended between the two looks.
            let pending = standing.pending.clone().filter(|pending| pending.summary.plan == plan);
            (pending.ok_or_else(unknown)?, standing.number())
        };
        let base = pending.summary.base;
        if base != in_force {
            return Err(SyncRefusal::Outdated { plan: plan.to_owned(), base, in_force });
        }
        self.put_in_force(entry, pending.wanted, None)
    }

    /// The lists of a source that can be gone back to, oldest first. Blocks on the disk.
    ///
    /// # Errors
    /// [`SyncRefusal::NoSuchSource`], [`SyncRefusal::Storage`].
    pub fn snapshots(&self, source: &str) -> Result<Vec<SnapshotSummary>, SyncRefusal> {
        let entry = self.entry(source)?;
        let lists =
            lock(&entry.work.kept).lists().map_err(|error| SyncRefusal::Storage(error.to_string()))?;
        let in_force = lock(&entry.work.standing).number();
        let summary = |header: Header| SnapshotSummary {
            number: header.number,
            taken_at: header.taken_at,
            users: header.users,
            place: header.place,
            in_force: header.number == in_force,
        };
        Ok(lists.into_iter().map(summary).collect())
    }

    /// Goes back to the users of an earlier list: of this number, or the one before that in force, or before the one that was
    /// gone back to, when that was the last thing done. They become a new list; who had which address in between stays on record. From then on what the source says waits for a person's word, until a plan is
    /// applied. Blocks on the disk.
    ///
    /// # Errors
    /// [`SyncRefusal`]; nothing has changed.
    pub fn rollback(&self, source: &str, to: Option<u64>) -> Result<SyncReport, SyncRefusal> {
        let entry = self.entry(source)?;
        let _busy = entry.work.begin(source)?;
        let in_force = lock(&entry.work.standing).number();
        let (number, wanted) = {
            let kept = lock(&entry.work.kept);
            let number = match to {
                Some(number) => number,
                None => {
                    let lists = kept.lists().map_err(|error| SyncRefusal::Storage(error.to_string()))?;
                    one_before(&lists, in_force)?
                }
            };
            let wanted = kept.users_of(number).map_err(SyncRefusal::Storage)?;
            (number, wanted.ok_or_else(|| SyncRefusal::NoSuchSnapshot(number.to_string()))?)
        };
        self.put_in_force(&entry, wanted, Some(number))
    }

    /// What a person asked for is not measured by the guard.
    fn put_in_force(
        &self,
        entry: &Arc<Entry>,
        wanted: Wanted,
        back_to: Option<u64>,
    ) -> Result<SyncReport, SyncRefusal> {
        let held = back_to.is_some();
        let began = Instant::now();
        let before = self.in_force(entry)?;
        let mut report = blank(entry, Trigger::Admin, before.as_deref());
        report.users = wanted.users.len();
        report.diff = Plan::of(before.as_deref(), &wanted, Guard::default(), held, now()).diff;
        let snapshot = self.apply(entry, wanted, held, back_to).map_err(|error| match error {
            NotApplied::Storage(error) => SyncRefusal::Storage(error.to_string()),
            NotApplied::Superseded => SyncRefusal::Superseded(entry.name().to_owned()),
        })?;
        report.outcome = Outcome::Applied { snapshot };
        self.list_granted(entry, &mut report);
        let mut standing = lock(&entry.work.standing);
        standing.is_good = !held;
        report.at = now();
        report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    /// Everything that is known of an address, in the order of the sources: whose it is, whose it was, who else claims it, and who
    /// has it and is no user. `at` is the moment that [`FoundAddress::then`] speaks of, as [`Snapshot::find_at`] does of all sources
    /// together; without one, now. Looks through everything.
    pub fn find(&self, address: &str, at: Option<Timestamp>) -> Vec<FoundAddress> {
        let key = listed_key(address);
        let at = at.unwrap_or_else(now);
        let state = self.current.load_full();
        let everyone = state.everyone();
        let owner = everyone.find_at(&AddressKey::of(address), at);
        let mut found = Vec::new();
        for (place, (entry, roll)) in state.entries.iter().zip(&state.rolls).enumerate() {
            let first = found.len();
            if let Some(roll) = roll {
                find_in_force(entry, roll, &key, &left_out(&everyone, place), &mut found);
                find_former(entry, roll, &key, &mut found);
            }
            find_dropped(entry, &key, &mut found);
            if let Some(owner) = owner.filter(|owner| owner.list == place)
                && let Some(found) = found.iter_mut().skip(first).find(|found| is_of(found, &owner))
            {
                found.then = true;
            }
        }
        found.truncate(FOUND_MAX);
        found
    }
}

/// The list before the one in force, of these in ascending order. One that was gone back to is what it was then: between both
/// stands what was gone back from.
fn one_before(lists: &[Header], in_force: u64) -> Result<u64, SyncRefusal> {
    let mut at = in_force;
    for header in lists.iter().rev() {
        if header.number == at {
            at = header.back_to.unwrap_or(at).min(at);
        }
        if header.number < at {
            return Ok(header.number);
        }
    }
    Err(SyncRefusal::NoSuchSnapshot(format!("before {at}")))
}

/// Ids of a source's users who are left out.
fn left_out(everyone: &Snapshot, place: usize) -> HashSet<&str> {
    let of_source = everyone.conflicts().iter().filter(|conflict| conflict.list == place);
    let ids = of_source.filter(|conflict| matches!(conflict.contested, Contested::Id(_)));
    ids.map(|conflict| conflict.refused_to.as_str()).collect()
}

/// Whether this is the claim by which the owner has the address.
fn is_of(found: &FoundAddress, owner: &Found<'_>) -> bool {
    let is_by = match (owner.held, &found.claim) {
        (Held::Plainly, Claim::Owner { .. }) => true,
        (Held::Until(end), Claim::Former { gone, until, .. }) => {
            gone.map_or(*until, |gone| gone.min(*until)) == end
        }
        (Held::Grace { gone, until }, Claim::Former { gone: Some(left), until: kept, .. }) => {
            (gone, until) == (*left, *kept)
        }
        (Held::Since(from), Claim::Owner { since } | Claim::Former { from: since, .. }) => {
            *since == Some(from)
        }
        _ => false,
    };
    is_by && found.id == owner.user.id
}

fn find_in_force(
    entry: &Entry,
    roll: &Roll,
    key: &AddressKey,
    left_out: &HashSet<&str>,
    found: &mut Vec<FoundAddress>,
) {
    let mut first = roll.contested.get(key).map(String::as_str).filter(|holder| !left_out.contains(holder));
    for user in &roll.users {
        let Some(address) = user.addresses().find(|text| listed_key(text) == *key) else { continue };
        let claim = if left_out.contains(user.id.as_str()) {
            Claim::LeftOut
        } else {
            let holder = *first.get_or_insert(&user.id);
            if holder == user.id {
                Claim::Owner { since: roll.began.get(key).copied() }
            } else {
                Claim::Refused { kept_by: holder.to_owned() }
            }
        };
        found.push(FoundAddress {
            source: entry.name().to_owned(),
            id: user.id.clone(),
            name: user.name.clone(),
            address: address.to_owned(),
            claim,
            then: false,
        });
    }
}

fn find_former(entry: &Entry, roll: &Roll, key: &AddressKey, found: &mut Vec<FoundAddress>) {
    let had = roll.former.iter().filter(|tenure| tenure.key() == *key);
    found.extend(had.map(|tenure| FoundAddress {
        source: entry.name().to_owned(),
        id: tenure.user.id.clone(),
        name: tenure.user.name.clone(),
        address: tenure.address.clone(),
        claim: Claim::Former { from: tenure.from, gone: tenure.gone, until: tenure.until },
        then: false,
    }));
}

fn find_dropped(entry: &Entry, key: &AddressKey, found: &mut Vec<FoundAddress>) {
    let standing = lock(&entry.work.standing);
    let dropped = standing.dropped.iter().filter(|dropped| dropped.addresses.contains(key));
    found.extend(dropped.map(|dropped| FoundAddress {
        source: entry.name().to_owned(),
        id: dropped.out.id.clone(),
        name: dropped.out.name.clone(),
        address: key.as_str().to_owned(),
        claim: Claim::FilteredOut { reason: dropped.out.reason.clone() },
        then: false,
    }));
}
