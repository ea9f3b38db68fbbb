//! Reports that NDRs brought back as a header alone, and that have not turned up since.
//!
//! Looks only at what is new in Quarantine, where such NDRs are, and again at those still open, so a look costs little
//! however much is stored. A gateway mailbox without users' folders has them in INBOX alone.

use crate::admin::gaps::{Gap, GapState, gap, seek};
use crate::mail::{GatewayMailbox, NOTICE_ID_BEGINNING, ReceiptId, Timestamp};
use crate::observe::alarm::MissingFacts;
use crate::store::{FolderName, ReceiptQuery, ReceiptView, Store, StoreError, Walk};
use std::collections::BTreeMap;

/// Receipts read at a time.
const PAGE: usize = 256;
/// Pages read in one look; the next one goes on behind them.
const PAGES_MAX: usize = 16;
/// Reports watched at once in a gateway mailbox. More make the alarm no louder.
const OPEN_MAX: usize = 1_000;
/// Looked at again each time: a receipt may become visible after one that came later, and the clock may be set.
const OVERLAP_MS: i64 = 60 * 60 * 1000;

/// What is known of one gateway mailbox.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Receipts before this were looked at: milliseconds since 1970.
    since_ms: i64,
    /// Where the last look ended early.
    after: Option<ReceiptId>,
    open: BTreeMap<ReceiptId, Gap>,
}

impl Missing {
    /// Looks again. Blocks.
    pub(super) fn count(
        &mut self,
        store: &dyn Store,
        mailbox: &GatewayMailbox,
        now: Timestamp,
    ) -> Result<MissingFacts, StoreError> {
        let folder = if mailbox.archive { FolderName::Quarantine } else { FolderName::Inbox };
        self.look(store, mailbox, &folder, now)?;
        let mut facts = MissingFacts::default();
        let mut gone = Vec::new();
        for (receipt_id, known) in &mut self.open {
            let views = store.receipts(&ReceiptQuery::Id(*receipt_id), Timestamp::from_unix_ms(0), 1)?;
            let view = views.iter().find(|view| view.gateway_mailbox == mailbox.id);
            // Read anew since, it may be something else; who took it out of the folder has seen to it.
            let still = view.filter(|view| is_in(view, &folder)).and_then(|view| gap(mailbox, view));
            let Some(still) = still else {
                gone.push(*receipt_id);
                continue;
            };
            *known = still;
            seek(store, known)?;
            match known.state {
                GapState::TurnedUp => gone.push(*receipt_id),
                GapState::OriginalHeld => facts.original_held += 1,
                GapState::Missing => facts.missing += 1,
            }
            if known.state != GapState::TurnedUp {
                facts.oldest = facts.oldest.map_or(Some(known.at), |oldest| Some(oldest.min(known.at)));
            }
        }
        gone.iter().for_each(|receipt_id| drop(self.open.remove(receipt_id)));
        Ok(facts)
    }

    /// Takes up what came since.
    fn look(
        &mut self,
        store: &dyn Store,
        mailbox: &GatewayMailbox,
        folder: &FolderName,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut walk = Walk {
            gateway_mailbox: mailbox.id,
            since: Timestamp::from_unix_ms(self.since_ms),
            after: self.after,
            folder: Some(folder.clone()),
            most: PAGE,
        };
        for _ in 0..PAGES_MAX {
            let walked = store.walk(&walk)?;
            for receipt in &walked.receipts {
                let Some(gap) = gap(mailbox, receipt) else { continue };
                if self.open.len() < OPEN_MAX && !is_about_a_notice(&gap) {
                    self.open.insert(gap.receipt_id, gap);
                }
            }
            walk.after = walked.last;
            if walk.after.is_none() {
                self.since_ms = now.unix_ms().saturating_sub(OVERLAP_MS);
                break;
            }
        }
        self.after = walk.after;
        Ok(())
    }
}

/// The mail that tells of an alarm must not keep it alive.
fn is_about_a_notice(gap: &Gap) -> bool {
    gap.original_message_id.as_deref().is_some_and(|id| id.starts_with(NOTICE_ID_BEGINNING))
}

/// Whether a receipt has an entry in a folder still.
fn is_in(receipt: &ReceiptView, folder: &FolderName) -> bool {
    let path = folder.path(None);
    let is_there = |events: &[crate::store::EventView]| events.iter().all(|event| event.kind == "fetched");
    receipt.placements.iter().any(|placement| placement.folder == path && is_there(&placement.events))
}
