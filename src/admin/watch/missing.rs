//! Reports that NDRs brought back as a header alone, and that have not turned up since.
//!
//! Looks only at what is new in Quarantine, where such NDRs are, and in Unassigned, where those go that were held back and are
//! let out, and again at those still open, so a look costs little however much is stored. A gateway mailbox without users'
//! folders has them in INBOX alone, which pollers empty: there all that came is looked at, once.

use crate::admin::closed_gaps::Closed;
use crate::admin::gap::{Gap, GapState, gap, receipt, seek};
use crate::mail::{GatewayMailbox, NOTICE_ID_BEGINNING, ReceiptId, Timestamp};
use crate::observe::alarm::MissingFacts;
use crate::store::{FolderName, Store, StoreError, Walk};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Receipts read at a time.
const PAGE: usize = 256;
/// Pages read in one look; the next one goes on behind them.
const PAGES_MAX: usize = 64;
/// Reports watched at once in a gateway mailbox. More make the alarm no louder.
const OPEN_MAX: usize = 1_000;
/// Looked at again each time: a receipt may become visible after one that came later, and the clock may be set.
const OVERLAP_MS: i64 = 60 * 60 * 1000;

/// What is known of one gateway mailbox.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// How far each folder was looked at.
    cursors: BTreeMap<Option<FolderName>, Cursor>,
    /// When the first one came that there was no room for: looked at again once there is.
    skipped_ms: Option<i64>,
    open: BTreeMap<ReceiptId, Gap>,
    /// Receipts that could not be read: any of them may be one. Looked at again each time.
    damaged: BTreeSet<ReceiptId>,
    /// How many receipts could not be read, as it was last told.
    unread: u64,
}

/// How far a folder was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// Receipts before this were looked at: milliseconds since 1970.
    since_ms: i64,
    /// Where the last look ended early: then nothing says yet that none is missing.
    after: Option<ReceiptId>,
}

impl Missing {
    /// Looks again. Blocks. `None` when none was found, but not all was looked at.
    pub(super) fn count(
        &mut self,
        store: &dyn Store,
        mailbox: &GatewayMailbox,
        closed: &Closed,
        now: Timestamp,
    ) -> Result<Option<MissingFacts>, StoreError> {
        self.look(store, mailbox, closed, now)?;
        let mut unread = self.damaged.len() as u64;
        let mut facts = MissingFacts::default();
        let mut gone = Vec::new();
        let mut counted = HashSet::new();
        for (receipt_id, known) in &mut self.open {
            match receipt(store, mailbox, *receipt_id)? {
                // What was known of it stands.
                None => unread += 1,
                Some(view) => match gap(mailbox, &view, closed) {
                    // Read anew since, it may be something else.
                    None => known.state = GapState::Closed,
                    // Where nobody is alarmed, what has turned up does not matter: anybody can send a thousand.
                    Some(still) if still.state == GapState::HeldBack => *known = still,
                    Some(still) => {
                        *known = still;
                        unread += u64::from(!seek(store, known)?);
                    }
                },
            }
            let again = known.report_message_id.clone().is_some_and(|id| !counted.insert((known.state, id)));
            match known.state {
                GapState::TurnedUp | GapState::Closed => gone.push(*receipt_id),
                // It may be let out, and then it counts. Several NDRs about one report are one loss.
                GapState::HeldBack => continue,
                _ if again => {}
                GapState::OriginalHeld => facts.original_held += 1,
                GapState::Missing | GapState::Doubtful => facts.missing += 1,
            }
            if known.state.is_open() {
                facts.oldest = facts.oldest.map_or(Some(known.at), |oldest| Some(oldest.min(known.at)));
            }
        }
        gone.iter().for_each(|receipt_id| drop(self.open.remove(receipt_id)));
        self.tell_unread(mailbox, unread);
        Ok(self.told(facts))
    }

    fn told(&self, facts: MissingFacts) -> Option<MissingFacts> {
        let none = facts.missing == 0 && facts.original_held == 0;
        let all_seen = self.damaged.is_empty() && self.cursors.values().all(|cursor| cursor.after.is_none());
        (!none || all_seen).then_some(facts)
    }

    fn tell_unread(&mut self, mailbox: &GatewayMailbox, unread: u64) {
        if unread > 0 && unread != self.unread {
            tracing::warn!(event = "alarm.unread", mailbox = mailbox.login(), mailbox_id = %mailbox.id, receipts = unread);
        }
        self.unread = unread;
    }

    /// Takes up what came since.
    fn look(
        &mut self,
        store: &dyn Store,
        mailbox: &GatewayMailbox,
        closed: &Closed,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for receipt_id in self.damaged.clone() {
            if let Some(view) = receipt(store, mailbox, receipt_id)? {
                self.damaged.remove(&receipt_id);
                gap(mailbox, &view, closed).into_iter().for_each(|gap| self.take(gap));
            }
        }
        let overlap = now.unix_ms().saturating_sub(OVERLAP_MS);
        let folders = match mailbox.archive {
            true => vec![Some(FolderName::Quarantine), Some(FolderName::Unassigned)],
            false => vec![None],
        };
        self.cursors.retain(|folder, _| folders.contains(folder));
        let skipped = self.skipped_ms.take();
        for folder in folders {
            let mut cursor = self.cursors.get(&folder).copied().unwrap_or_default();
            cursor.since_ms = skipped.map_or(cursor.since_ms, |skipped| skipped.min(cursor.since_ms));
            let mut walk = Walk {
                gateway_mailbox: mailbox.id,
                since: Timestamp::from_unix_ms(cursor.since_ms),
                after: cursor.after,
                folder: folder.clone(),
                most: PAGE,
            };
            for _ in 0..PAGES_MAX {
                let walked = store.walk(&walk)?;
                let room = OPEN_MAX.saturating_sub(self.damaged.len());
                self.damaged.extend(walked.unread.iter().map(|(receipt_id, _)| *receipt_id).take(room));
                for receipt in &walked.receipts {
                    gap(mailbox, receipt, closed).into_iter().for_each(|gap| self.take(gap));
                }
                walk.after = walked.last;
                if walk.after.is_none() {
                    cursor.since_ms = overlap;
                    break;
                }
            }
            cursor.after = walk.after;
            self.cursors.insert(folder, cursor);
        }
        Ok(())
    }

    /// What is held back gives way: anybody can send such an NDR, as many as he likes.
    fn take(&mut self, gap: Gap) {
        let is_held_back = |gap: &Gap| gap.state == GapState::HeldBack;
        if !gap.state.is_open() || is_about_a_notice(&gap) || self.open.contains_key(&gap.receipt_id) {
            return;
        }
        if self.open.len() >= OPEN_MAX && !is_held_back(&gap) {
            let least = self.open.iter().find(|(_, open)| is_held_back(open)).map(|(id, _)| *id);
            least.map(|least| self.open.remove(&least));
        }
        if self.open.len() < OPEN_MAX {
            self.open.insert(gap.receipt_id, gap);
        } else if !is_held_back(&gap) {
            let at = gap.at.unix_ms();
            self.skipped_ms = Some(self.skipped_ms.map_or(at, |first| first.min(at)));
        }
    }
}

/// The mail that tells of an alarm must not keep it alive.
fn is_about_a_notice(gap: &Gap) -> bool {
    gap.original_message_id.as_deref().is_some_and(|id| id.starts_with(NOTICE_ID_BEGINNING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::GatewayMailboxId;

    fn found(number: u64, state: GapState) -> Gap {
        let gateway_mailbox = GatewayMailboxId::new(1, [1; 10]);
        Gap {
            receipt_id: ReceiptId::new(number, [0; 10]),
            at: Timestamp::from_unix_ms(number as i64),
            ndr_at: gateway_mailbox,
            gateway_mailbox,
            name: None,
            report_message_id: None,
            original_message_id: None,
            state,
            found: None,
            held_back: state == GapState::HeldBack,
        }
    }

    #[test]
    fn forged_ndrs_crowd_out_no_genuine_one_and_what_has_no_room_is_come_back_to() {
        let mut missing = Missing::default();
        let most = OPEN_MAX as u64;
        (0..most + 10).for_each(|number| missing.take(found(number, GapState::HeldBack)));
        assert_eq!((missing.open.len(), missing.skipped_ms), (OPEN_MAX, None));
        (most + 10..2 * most + 10).for_each(|number| missing.take(found(number, GapState::Missing)));
        assert!(missing.open.values().all(|gap| gap.state == GapState::Missing));
        assert_eq!((missing.open.len(), missing.skipped_ms), (OPEN_MAX, None));
        (3 * most..3 * most + 5).for_each(|number| missing.take(found(number, GapState::Missing)));
        assert_eq!((missing.open.len(), missing.skipped_ms), (OPEN_MAX, Some(3 * most as i64)));
    }

    #[test]
    fn that_none_is_missing_is_said_only_when_all_was_looked_at() {
        let receipt_id = ReceiptId::new(1, [0; 10]);
        let (none, one) = (MissingFacts::default(), MissingFacts { missing: 1, ..MissingFacts::default() });
        let mut missing = Missing::default();
        missing.cursors.insert(None, Cursor { since_ms: 0, after: Some(receipt_id) });
        assert_eq!((missing.told(none), missing.told(one)), (None, Some(one)));
        missing.cursors.clear();
        assert_eq!(missing.told(none), Some(none));
        missing.damaged.insert(receipt_id);
        assert_eq!((missing.told(none), missing.told(one)), (None, Some(one)));
    }
}
