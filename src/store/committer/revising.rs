//! Receipts that are looked at again: as an entry of the log, and as a plan that leaves no trace.

use super::placing::{Placed, Placer, Subject};
use super::storing::Content;
use super::{Committer, Group};
use crate::mail::{GatewayMailbox, GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::store::embedded::Shared;
use crate::store::fact::{
    Fact, FolderFact, LaterPlacementFact, LeftFact, MessageFact, ReadingFact, RevisedFact,
};
use crate::store::index::Index;
use crate::store::recall::{read_received, read_revised};
use crate::store::{Digest, FolderName, Reading, Revised, Revision, RevisionKind, StoreError};
use std::collections::HashSet;

/// Numbers that folders and messages have while they are only planned: far from any that is given out.
const PLANNED_NUMBERS: u64 = 1 << 62;

/// A receipt as it was before it is looked at again.
struct Before {
    received_at: Timestamp,
    /// Message and join of each of its messages, as the newest reading counts them.
    messages: Vec<(u64, Digest)>,
}

/// What is decided about a revision.
#[derive(Default)]
struct Decided {
    placed: Placed,
    left: Vec<LeftFact>,
    left_paths: Vec<(String, Uid)>,
}

impl Decided {
    fn told(&self, revision: &Revision) -> Revised {
        let made = self.placed.placement_paths.iter();
        Revised {
            gateway_mailbox: revision.gateway_mailbox,
            receipt_id: revision.receipt_id,
            placements: made.map(|(path, uid)| (path.clone(), Some(*uid))).collect(),
            wanted: self.placed.wanted.clone(),
            spared: self.placed.spared_paths.clone(),
            left: self.left_paths.clone(),
            read_anew: revision.reading.is_some(),
        }
    }
}

impl Committer {
    pub(super) fn revise(
        &mut self,
        revisions: Vec<Revision>,
        actor: &str,
        at: Timestamp,
        group: &mut Group<'_>,
    ) -> Result<Vec<Revised>, StoreError> {
        refuse_twice(&revisions)?;
        revisions.into_iter().map(|revision| self.revise_one(revision, actor, at, group)).collect()
    }

    fn revise_one(
        &mut self,
        mut revision: Revision,
        actor: &str,
        at: Timestamp,
        group: &mut Group<'_>,
    ) -> Result<Revised, StoreError> {
        let (id, receipt_id) = (revision.gateway_mailbox, revision.receipt_id);
        if self.deleted.contains(&id) {
            return Err(StoreError::Gone);
        }
        let before = before(&self.shared, group.index, &revision)?;
        let reading = match &revision.reading {
            Some(reading) => Some(self.store_reading(reading, id, receipt_id, group)?),
            None => None,
        };
        let messages = reading.as_ref().map(|reading| message_joins(&reading.messages));
        let messages = messages.unwrap_or(before.messages);
        let index = group.index;
        let mut make =
            |name: &FolderName, slug: Option<String>| self.make_folder(id, at, name, slug, &mut *group);
        let decided = decide(index, &mut Placer::default(), &revision, &messages, &mut make)?;
        let revised = decided.told(&revision);
        if revised.is_nothing() {
            return Ok(revised);
        }
        if let Some(reading) = revision.reading.take() {
            self.take_files(reading.objects.into_iter().chain([reading.summary]));
        }
        let placements = decided.placed.placements.into_iter().zip(decided.placed.joins);
        group.push_fact(Fact::Revised(Box::new(RevisedFact {
            receipt_id,
            gateway_mailbox: id,
            at,
            actor: actor.to_owned(),
            kind: revision.kind,
            received_at: before.received_at,
            reading,
            unmatched: revision.unmatched,
            identity: revision.identity,
            epoch: self.numbers.epoch,
            placements: placements.map(|(placement, join)| LaterPlacementFact { placement, join }).collect(),
            spared: decided.placed.spared,
            left: decided.left,
        })))?;
        Ok(revised)
    }

    fn store_reading(
        &mut self,
        reading: &Reading,
        gateway_mailbox: GatewayMailboxId,
        receipt_id: ReceiptId,
        group: &mut Group<'_>,
    ) -> Result<ReadingFact, StoreError> {
        let content = Content {
            receipt_id,
            gateway_mailbox,
            objects: &reading.objects,
            summary: &reading.summary,
            messages: &reading.messages,
        };
        Ok(ReadingFact {
            class: reading.class,
            parent_message_id: reading.parent_message_id.clone(),
            returned_message_id: reading.returned_message_id.clone(),
            reports: reading.reports.clone(),
            defects: reading.defects.clone(),
            messages: self.store_messages(&content, group)?,
        })
    }

    /// Makes a folder that is wanted first.
    pub(super) fn make_folder(
        &mut self,
        gateway_mailbox: GatewayMailboxId,
        at: Timestamp,
        name: &FolderName,
        slug: Option<String>,
        group: &mut Group<'_>,
    ) -> Result<u64, StoreError> {
        let folder = self.numbers.folder;
        self.numbers.folder += 1;
        group.push_fact(Fact::Folder(FolderFact {
            folder,
            gateway_mailbox,
            name: name.clone(),
            slug,
            uid_validity: super::uid_validity(at),
            again: false,
        }))?;
        Ok(folder)
    }
}

/// What [`Committer::revise`] would do, told on a reading connection. It decides by the same code, and what it has decided
/// counts for what comes behind.
pub(in crate::store) fn plan(shared: &Shared, revisions: &[Revision]) -> Result<Vec<Revised>, StoreError> {
    refuse_twice(revisions)?;
    shared.read(|index| {
        index.begin_reading()?;
        let mut placer = Placer::default();
        let mut planned = PLANNED_NUMBERS;
        let mut next = || {
            planned += 1;
            planned
        };
        let mut plans = Vec::with_capacity(revisions.len());
        for revision in revisions {
            let before = before(shared, index, revision)?;
            let messages = match &revision.reading {
                Some(reading) => {
                    let number =
                        |held: Option<crate::store::MessageKey>| held.map_or_else(&mut next, |h| h.0);
                    let mut number = number;
                    reading.messages.iter().map(|m| (number(m.held), m.join)).collect()
                }
                None => before.messages,
            };
            let mut make = |_: &FolderName, _: Option<String>| Ok(next());
            let decided = decide(index, &mut placer, revision, &messages, &mut make)?;
            let mut revised = decided.told(revision);
            revised.placements.iter_mut().for_each(|(_, uid)| *uid = None);
            plans.push(revised);
        }
        index.rollback()?;
        Ok(plans)
    })
}

fn decide(
    index: &Index,
    placer: &mut Placer,
    revision: &Revision,
    messages: &[(u64, Digest)],
    make: &mut super::placing::MakeFolder<'_>,
) -> Result<Decided, StoreError> {
    let (id, receipt) = (revision.gateway_mailbox, revision.receipt_id);
    let gateway_mailbox = index.gateway_mailbox(id)?.ok_or(StoreError::Gone)?;
    if revision.kind == RevisionKind::Viewed {
        return show_anew(index, placer, revision, &gateway_mailbox, messages, make);
    }
    // Of what was held back, each copy is a receipt that nothing repeats. Let out, it is what any later copy is of one that was
    // delivered: the same again, with no second entry in INBOX.
    let identity = revision.identity.filter(|_| revision.kind == RevisionKind::Released);
    let in_inbox = match &identity {
        Some(identity) => placer.same_in_inbox(index, id, receipt, identity)?,
        None => None,
    };
    let subject = Subject {
        gateway_mailbox: id,
        view: gateway_mailbox.fetch.maildrop,
        messages,
        heals: false,
        again: Some(receipt),
        taken_counts: true,
        in_inbox,
    };
    let placed = placer.place_all(index, subject, &revision.placements, make)?;
    if let Some(identity) = identity {
        placer.is_let_out(id, identity, &placed);
    }
    let (mut left, mut left_paths) = (Vec::new(), Vec::new());
    // What cannot be given to somebody else stays where it is.
    let leaves: &[FolderName] = if placed.is_short { &[] } else { &revision.leaves };
    for name in leaves {
        for (folder, uid) in placer.leave(index, id, receipt, name, &placed.spared)? {
            left.push(LeftFact { folder, uid });
            left_paths.push((index.folder_path(folder)?, uid));
        }
    }
    Ok(Decided { placed, left, left_paths })
}

/// What a receipt has in INBOX of the view before leaves, and comes again as it is shown now. What a client took of that stays
/// taken, unless nothing would come then: an entry that an admin brought back is not to be lost so. Where content is freed that
/// would have to come, all of it stays as it is.
fn show_anew(
    index: &Index,
    placer: &mut Placer,
    revision: &Revision,
    gateway_mailbox: &GatewayMailbox,
    messages: &[(u64, Digest)],
    make: &mut super::placing::MakeFolder<'_>,
) -> Result<Decided, StoreError> {
    let (id, receipt) = (revision.gateway_mailbox, revision.receipt_id);
    let Some(below) = gateway_mailbox.view_from else { return Ok(Decided::default()) };
    let leaving = placer.leave_below(index, id, receipt, below)?;
    if leaving.is_empty() {
        return Ok(Decided::default());
    }
    let mut subject = Subject {
        gateway_mailbox: id,
        view: gateway_mailbox.fetch.maildrop,
        messages,
        heals: false,
        again: Some(receipt),
        taken_counts: true,
        in_inbox: None,
    };
    if placer.lacks_any(index, subject, &revision.placements)? {
        placer.stay(&leaving);
        return Ok(Decided::default());
    }
    let mut placed = placer.place_all(index, subject, &revision.placements, make)?;
    if placed.placements.is_empty() {
        subject.taken_counts = false;
        placed = placer.place_all(index, subject, &revision.placements, make)?;
    }
    if placed.is_short || placed.placements.is_empty() && placed.spared.is_empty() {
        placer.stay(&leaving);
        return Ok(Decided { placed, ..Decided::default() });
    }
    let left = leaving.into_iter().map(|(folder, uid)| LeftFact { folder, uid }).collect::<Vec<_>>();
    let path = FolderName::Inbox.path(None);
    let left_paths = left.iter().map(|left| (path.clone(), left.uid)).collect();
    Ok(Decided { placed, left, left_paths })
}

/// The receipt as it is now, if that is what the revision was thought of for.
fn before(shared: &Shared, index: &Index, revision: &Revision) -> Result<Before, StoreError> {
    let (id, receipt) = (revision.gateway_mailbox, revision.receipt_id);
    if shared.known(id).is_none() {
        return Err(StoreError::Gone);
    }
    let entry = index.receipt_entry(receipt, id)?.ok_or(StoreError::Gone)?;
    let since = index.revision_entries(receipt, id)?;
    if since.len() != revision.known {
        let why = format!("{receipt} was looked at again at the same time: look at it and try again");
        return Err(StoreError::Refused(why));
    }
    let received = read_received(shared, entry)?;
    let mut messages = received.messages;
    for entry in since.into_iter().rev() {
        if let Some(reading) = read_revised(shared, entry)?.reading {
            messages = reading.messages;
            break;
        }
    }
    Ok(Before { received_at: received.at, messages: message_joins(&messages) })
}

fn message_joins(messages: &[MessageFact]) -> Vec<(u64, Digest)> {
    messages.iter().map(|message| (message.message, message.join)).collect()
}

/// A receipt is looked at once at a time: the second look would not know what the first found.
fn refuse_twice(revisions: &[Revision]) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    match revisions.iter().find(|r| !seen.insert((r.gateway_mailbox, r.receipt_id))) {
        Some(twice) => Err(StoreError::Refused(format!("{} is named twice", twice.receipt_id))),
        None => Ok(()),
    }
}
