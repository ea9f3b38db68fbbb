//! What ends and brings back entries in another way than a client: retention, and undeleting.

use super::{Committer, Conclusion, Group};
use crate::mail::{GatewayMailbox, GatewayMailboxId, GatewayMailboxState, Timestamp, Uid};
use crate::store::fact::{ClockTrustedFact, ExpiredFact, Fact, UndeletedEntry, UndeletedFact, runs};
use crate::store::keep::{Undeleted, UndeletedEntryView, due, is_held};
use crate::store::{FolderName, StoreError};

/// In whose name retention acts.
const RETENTION: &str = "retention";

/// Entries that retention may have to take out of a folder.
pub(in crate::store) struct Expire {
    pub(in crate::store) gateway_mailbox: GatewayMailboxId,
    pub(in crate::store) folder: FolderName,
    pub(in crate::store) uids: Vec<Uid>,
}

/// Entries that are to come back to a folder, in the order of their UIDs.
pub(in crate::store) struct Undelete {
    pub(in crate::store) gateway_mailbox: GatewayMailboxId,
    pub(in crate::store) folder: FolderName,
    pub(in crate::store) uids: Vec<Uid>,
    pub(in crate::store) actor: String,
}

impl Conclusion for Undeleted {}
impl Conclusion for Timestamp {}

impl Committer {
    /// Takes out those that are there and due, by the clock, rules and holds of this moment.
    pub(super) fn expire(&mut self, expire: Expire, group: &mut Group<'_>) -> Result<usize, StoreError> {
        let Expire { gateway_mailbox: id, folder: name, uids } = expire;
        let trusted = group.shared.clock.trusted();
        let trusted = trusted.map_err(|pause| StoreError::Refused(pause.to_string()))?;
        let gateway_mailbox = group.index.gateway_mailbox(id)?.ok_or(StoreError::Gone)?;
        let Some(folder) = group.index.folder(id, &name)? else { return Ok(0) };
        let Some(due) = due(&gateway_mailbox, &name, trusted) else { return Ok(0) };
        if is_held(&gateway_mailbox, &name) {
            return Ok(0);
        }
        let live = group.index.live_received_until(folder.id, &uids, due.received_until)?;
        if live.is_empty() {
            return Ok(0);
        }
        let count = live.len();
        group.push_fact(Fact::Expired(ExpiredFact {
            at: group.shared.clock.stamp(),
            gateway_mailbox: id,
            folder: folder.id,
            uids: runs(&live),
            actor: RETENTION.to_owned(),
            why: due.why,
        }))?;
        Ok(count)
    }

    /// Brings back those that still can be had back, each under a new UID behind all others.
    pub(super) fn undelete(
        &mut self,
        undelete: Undelete,
        group: &mut Group<'_>,
    ) -> Result<Undeleted, StoreError> {
        let Undelete { gateway_mailbox: id, folder: name, uids, actor } = undelete;
        let gateway_mailbox = self.living(id, group)?;
        let Some(folder) = group.index.folder(id, &name)? else { return Ok(Undeleted::default()) };
        let due_until = match due(&gateway_mailbox, &name, group.shared.clock.mark()) {
            Some(due) if !is_held(&gateway_mailbox, &name) => Some(due.received_until),
            _ => None,
        };
        let (mut entries, mut views) = (Vec::new(), Vec::new());
        let mut next = folder.uid_next;
        let mut skipped_due = 0;
        for of in uids {
            let Some(row) = group.index.in_grace(folder.id, of)? else { continue };
            if due_until.is_some_and(|until| row.kept_from <= until) {
                skipped_due += 1;
                continue;
            }
            let uid = next;
            let behind = uid.value().checked_add(1).and_then(Uid::new);
            next = behind.ok_or_else(|| StoreError::Refused("the folder has no UIDs left".to_owned()))?;
            views.push(UndeletedEntryView { of, uid, receipt_id: row.receipt_id });
            entries.push(UndeletedEntry {
                of,
                uid,
                message: row.message,
                receipt_id: row.receipt_id,
                received_at: row.received_at,
                join: row.join,
            });
        }
        if !entries.is_empty() {
            group.push_fact(Fact::Undeleted(Box::new(UndeletedFact {
                at: group.shared.clock.stamp(),
                gateway_mailbox: id,
                folder: folder.id,
                name,
                actor,
                epoch: self.numbers.epoch,
                entries,
            })))?;
        }
        Ok(Undeleted { entries: views, skipped_due, more: false })
    }

    /// Puts on record that the system's clock is right, whatever it was before, and gives what it says.
    pub(super) fn trust_clock(
        &mut self,
        actor: String,
        group: &mut Group<'_>,
    ) -> Result<Timestamp, StoreError> {
        let (at, from) = (group.shared.clock.system(), group.shared.clock.mark());
        group.push_fact(Fact::ClockTrusted(ClockTrustedFact { at, actor, from }))?;
        Ok(at)
    }

    fn living(&self, id: GatewayMailboxId, group: &Group<'_>) -> Result<GatewayMailbox, StoreError> {
        let found = group.index.gateway_mailbox(id)?;
        found.filter(|found| found.state != GatewayMailboxState::Deleted).ok_or(StoreError::Gone)
    }
}
