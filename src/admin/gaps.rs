//! Journal reports of which NDRs returned nothing but the header ([`super::gap`]), and what became of those that came back.

use super::Context;
use super::closed_gaps::{self, Closed};
use super::gap::{Gap, GapState, gap, is_doubtful, is_held_back, readable, seek};
use super::gateway_mailboxes::resolve;
use super::ops::{blocking, look_soon};
use super::request::OpError;
use crate::mail::{Class, GatewayMailbox, GatewayMailboxId, ReceiptId, Role, Timestamp};
use crate::store::{PlacementView, ReceiptQuery, ReceiptView, Relation, Store, StoreError, Walk};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most gaps listed at once; all are counted.
pub const GAPS_MAX: usize = 1_000;
/// Receipts read at a time.
const PAGE: usize = 256;
/// Looking ends after so long: who asks hangs up after a minute.
const LOOK_WAIT: Duration = Duration::from_secs(40);

/// What `daybook gaps` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapsView {
    /// At most [`GAPS_MAX`], oldest first within a gateway mailbox; each report once.
    pub gaps: Vec<Gap>,
    /// Reports of which nothing is here.
    pub missing: u64,
    /// Those that are here, but perhaps not whole.
    #[serde(default)]
    pub doubtful: u64,
    /// Those of which a mail with the same Message-ID is here by another report.
    pub original_held: u64,
    /// Those whose NDR is held back for its verdict.
    #[serde(default)]
    pub unproven: u64,
    /// Those that are here by now.
    pub turned_up: u64,
    /// Those that an admin has seen to.
    #[serde(default)]
    pub closed: u64,
    /// Reports that came back whole and were not here.
    pub recovered: u64,
    /// Those that were here.
    pub already_held: u64,
    /// Those that are in Quarantine alone for their verdict.
    pub held_back: u64,
    /// Those that came back in doubt, as when they are cut short, and that no admin let out.
    #[serde(default)]
    pub came_in_doubt: u64,
    /// Receipts that could not be read.
    pub unread: u64,
    /// False when there was too much to look at: ask for a shorter time.
    pub complete: bool,
    /// What was not looked at then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_reached: Vec<NotReached>,
}

/// A gateway mailbox that was not looked through to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReached {
    /// Which one.
    pub gateway_mailbox: GatewayMailboxId,
    /// What it is called.
    pub name: String,
    /// Nothing received after this was looked at; absent when nothing was.
    pub after: Option<Timestamp>,
}

/// # Errors
/// [`OpError::NotFound`] and [`OpError::Usage`] when it is unclear which gateway mailbox is meant; whatever the store says.
pub(super) fn gaps(
    context: &Context,
    gateway_mailbox: Option<&str>,
    since: Option<Timestamp>,
    all: bool,
) -> Result<GapsView, OpError> {
    let meant = gateway_mailbox.map(|text| resolve(context, text)).transpose()?;
    let mut looked_at = context.store.gateway_mailboxes();
    looked_at.retain(|mailbox| {
        !mailbox.is_self_test() && meant.as_ref().is_none_or(|meant| concerns(mailbox, meant))
    });
    // They hold little, and most of what is looked for.
    looked_at.sort_by_key(|mailbox| mailbox.role.is_journal());
    let closed = Closed::load(&context.settings.current().data_dir);
    let view = GapsView::default();
    let mut found = Found { store: &context.store, all, view, closed, known: HashSet::new() };
    let deadline = Instant::now() + LOOK_WAIT;
    for mailbox in &looked_at {
        let only = meant.as_ref().filter(|meant| meant.id != mailbox.id && mailbox.role.is_journal());
        let only = only.map(|meant| meant.id);
        found.look_through(mailbox, only, since.unwrap_or(Timestamp::from_unix_ms(0)), deadline)?;
    }
    found.view.complete = found.view.not_reached.is_empty();
    Ok(found.view)
}

/// Closes the gaps of these NDRs, all or none; tells of them alone.
///
/// # Errors
/// As [`closed_gaps::close`].
pub(super) async fn close(
    context: &Context,
    actor: &str,
    receipt_ids: Vec<ReceiptId>,
) -> Result<GapsView, OpError> {
    let actor = actor.to_owned();
    let close = move |context: &Context| closed_gaps::close(context, &actor, &receipt_ids);
    let gaps = blocking(context, close).await?;
    // The alarm is not to stand until the next count.
    look_soon(context);
    Ok(GapsView { closed: gaps.len() as u64, gaps, complete: true, ..GapsView::default() })
}

/// It is the one meant, serves it, or is served by it: what was recovered there is here.
fn concerns(mailbox: &GatewayMailbox, meant: &GatewayMailbox) -> bool {
    let serves = |one: &GatewayMailbox, other: &GatewayMailbox| one.role == Role::Ndr { serves: other.id };
    mailbox.id == meant.id || serves(mailbox, meant) || serves(meant, mailbox)
}

struct Found<'a> {
    store: &'a Arc<dyn Store>,
    all: bool,
    view: GapsView,
    closed: Closed,
    /// Reports that are listed, by gateway mailbox and Message-ID: a delay and a failure are two NDRs about one. As many as are
    /// listed at most.
    known: HashSet<(GatewayMailboxId, String)>,
}

impl Found<'_> {
    /// `only`: what was recovered from the NDR mailbox of this id.
    fn look_through(
        &mut self,
        mailbox: &GatewayMailbox,
        only: Option<GatewayMailboxId>,
        since: Timestamp,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let mut walk = Walk { gateway_mailbox: mailbox.id, since, after: None, folder: None, most: PAGE };
        let mut after = None;
        loop {
            if Instant::now() >= deadline {
                self.not_reached(mailbox, after);
                return Ok(());
            }
            let walked = self.store.walk(&walk)?;
            self.view.unread += walked.unread.len() as u64;
            for receipt in &walked.receipts {
                if Instant::now() >= deadline {
                    self.not_reached(mailbox, after);
                    return Ok(());
                }
                if only.is_none_or(|from| receipt.recovered_from == Some(from)) {
                    self.take(mailbox, receipt)?;
                }
                after = Some(receipt.at);
            }
            walk.after = walked.last;
            if walk.after.is_none() {
                return Ok(());
            }
        }
    }

    fn not_reached(&mut self, mailbox: &GatewayMailbox, after: Option<Timestamp>) {
        let (gateway_mailbox, name) = (mailbox.id, mailbox.name.clone());
        self.view.not_reached.push(NotReached { gateway_mailbox, name, after });
    }

    fn take(&mut self, mailbox: &GatewayMailbox, receipt: &ReceiptView) -> Result<(), StoreError> {
        match gap(mailbox, receipt, &self.closed) {
            Some(gap) => self.take_gap(gap),
            None => self.take_returned(mailbox, receipt),
        }
    }

    fn take_gap(&mut self, mut gap: Gap) -> Result<(), StoreError> {
        let key = gap.report_message_id.clone().map(|id| (gap.gateway_mailbox, id));
        if key.as_ref().is_some_and(|key| self.known.contains(key)) {
            return Ok(());
        }
        self.view.unread += u64::from(!seek(self.store.as_ref(), &mut gap)?);
        *match gap.state {
            GapState::Missing => &mut self.view.missing,
            GapState::Doubtful => &mut self.view.doubtful,
            GapState::OriginalHeld => &mut self.view.original_held,
            GapState::HeldBack => &mut self.view.unproven,
            GapState::TurnedUp => &mut self.view.turned_up,
            GapState::Closed => &mut self.view.closed,
        } += 1;
        // A forged NDR, or one that was seen to, hides no other about the same report.
        let stands_for_all = !matches!(gap.state, GapState::HeldBack | GapState::Closed);
        if self.known.len() < GAPS_MAX && stands_for_all {
            self.known.extend(key);
        }
        if self.view.gaps.len() < GAPS_MAX && (self.all || gap.state.is_open()) {
            gap.name = self.store.gateway_mailbox_now(gap.gateway_mailbox).ok().map(|m| m.name.clone());
            self.view.gaps.push(gap);
        }
        Ok(())
    }

    fn take_returned(&mut self, mailbox: &GatewayMailbox, receipt: &ReceiptView) -> Result<(), StoreError> {
        let came_back = receipt.recovered_from.is_some()
            || receipt.class == Class::JournalNdr && mailbox.role.is_journal();
        if !came_back {
            return Ok(());
        }
        *match () {
            () if receipt.repeats.is_some() => &mut self.view.already_held,
            () if is_held_back(receipt) => &mut self.view.held_back,
            () if is_doubtful(receipt) => &mut self.view.came_in_doubt,
            () if self.adds(mailbox, receipt)? => &mut self.view.recovered,
            () => &mut self.view.already_held,
        } += 1;
        Ok(())
    }

    /// An NDR has an entry of its own in INBOX always; what it returned is new where users, or an admin, got something. Where
    /// nobody has folders, it is when no receipt before has the same message.
    fn adds(&mut self, mailbox: &GatewayMailbox, receipt: &ReceiptView) -> Result<bool, StoreError> {
        if receipt.recovered_from.is_some() {
            return Ok(true);
        }
        if mailbox.archive {
            let got = |placement: &PlacementView| !placement.spared && placement.folder != "INBOX";
            return Ok(receipt.placements.iter().any(got));
        }
        let Some(views) = readable(self.store.as_ref(), &ReceiptQuery::Id(receipt.receipt_id), 1)? else {
            self.view.unread += 1;
            return Ok(false);
        };
        let same = |relation| matches!(relation, Relation::Repetition | Relation::Fork);
        let here = views.iter().find(|view| view.gateway_mailbox == mailbox.id);
        let mut related = here.iter().flat_map(|view| &view.related);
        Ok(!related.any(|other| other.receipt_id < receipt.receipt_id && same(other.relation)))
    }
}
