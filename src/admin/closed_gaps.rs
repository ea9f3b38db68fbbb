//! Gaps that an admin has seen to: the mail was brought another way, or is known to be of no matter.
//!
//! A state file ([`state_file`]), `data_dir/closed-gaps.json`, owner-only, replaced whole and durably. It says nothing about mail: when it
//! is lost or spoilt, what it names is listed and alarmed again.

use super::Context;
use super::gap::{Gap, GapState, gap};
use super::request::OpError;
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::observe::now;
use crate::store::ReceiptQuery;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::Mutex;

/// Name of the file in `data_dir`.
const CLOSED_GAPS_FILE: &str = "closed-gaps.json";
/// Gaps that are closed, at most: some hundred octets each, and all are read at every look.
const CLOSED_MAX: usize = 10_000;

/// The file is read, changed and written by one at a time.
static CHANGING: Mutex<()> = Mutex::new(());

/// Gaps that were closed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Closed {
    gaps: Vec<ClosedGap>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ClosedGap {
    receipt_id: ReceiptId,
    /// The one that the report was for.
    gateway_mailbox: GatewayMailboxId,
    /// Of the report: further NDRs about it are closed with it.
    report_message_id: Option<String>,
    /// It was held back then. What is let out since counts again.
    #[serde(default)]
    held_back: bool,
    at: Timestamp,
    actor: String,
}

impl Closed {
    /// Those of a `data_dir`; none when there is no file, or it cannot be read: better told of again than never.
    pub(super) fn load(data_dir: &Path) -> Closed {
        Closed::read(data_dir).unwrap_or_else(|error| {
            tracing::warn!(event = "gaps.closed_unread", file = CLOSED_GAPS_FILE, %error);
            Closed::default()
        })
    }

    /// The same, told when it cannot be read now: what is written then would take the place of what is there. What is spoilt
    /// may be replaced.
    fn read(data_dir: &Path) -> Result<Closed, StateError> {
        match state_file::read(&data_dir.join(CLOSED_GAPS_FILE)) {
            Err(StateError::Absent) => Ok(Closed::default()),
            Err(StateError::Damaged(error)) => {
                tracing::warn!(event = "gaps.closed_unread", file = CLOSED_GAPS_FILE, error);
                Ok(Closed::default())
            }
            read => read,
        }
    }

    pub(super) fn covers(&self, gap: &Gap) -> bool {
        self.gaps.iter().any(|closed| {
            let same_report =
                closed.report_message_id.is_some() && closed.report_message_id == gap.report_message_id;
            closed.gateway_mailbox == gap.gateway_mailbox
                && (gap.held_back || !closed.held_back)
                && (closed.receipt_id == gap.receipt_id || same_report)
        })
    }

    fn save(&self, data_dir: &Path) -> io::Result<()> {
        state_file::write(&data_dir.join(CLOSED_GAPS_FILE), self)
    }
}

/// Closes the gaps of these NDRs, all or none; gives them. One that is closed already stays so.
///
/// # Errors
/// [`OpError::NotFound`] for a receipt that is no NDR with the header of a report alone, [`OpError::Usage`] when there are too
/// many; whatever store and disk say.
pub(super) fn close(context: &Context, actor: &str, receipt_ids: &[ReceiptId]) -> Result<Vec<Gap>, OpError> {
    let _changing = CHANGING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let data_dir = context.settings.current().data_dir.clone();
    let unread = |error| OpError::Unavailable(format!("{CLOSED_GAPS_FILE} cannot be read: {error}"));
    let mut closed = Closed::read(&data_dir).map_err(unread)?;
    let mut found: Vec<Gap> = Vec::new();
    for receipt_id in receipt_ids {
        let before = found.len();
        let views = context.store.receipts(&ReceiptQuery::Id(*receipt_id), Timestamp::from_unix_ms(0), 1)?;
        for view in &views {
            let mailbox = context.store.gateway_mailbox_now(view.gateway_mailbox)?;
            found.extend(gap(&mailbox, view, &Closed::default()));
        }
        if found.len() == before {
            let why = format!(
                "{receipt_id} is no NDR that returned the header of a report alone; daybook gaps lists them"
            );
            return Err(OpError::NotFound(why));
        }
    }
    for gap in &mut found {
        gap.state = GapState::Closed;
        if closed.covers(gap) {
            continue;
        }
        closed.gaps.push(ClosedGap {
            receipt_id: gap.receipt_id,
            gateway_mailbox: gap.gateway_mailbox,
            // Whoever writes an NDR can name any report.
            report_message_id: gap.report_message_id.clone().filter(|_| !gap.held_back),
            held_back: gap.held_back,
            at: now(),
            actor: actor.to_owned(),
        });
    }
    if closed.gaps.len() > CLOSED_MAX {
        return Err(OpError::Usage(format!("at most {CLOSED_MAX} gaps can be closed")));
    }
    let fail = |error| OpError::Unavailable(format!("{CLOSED_GAPS_FILE} cannot be written: {error}"));
    closed.save(&data_dir).map_err(fail)?;
    for gap in &found {
        let receipt_id = gap.receipt_id;
        tracing::info!(event = "gaps.closed", %receipt_id, mailbox_id = %gap.gateway_mailbox, actor);
    }
    Ok(found)
}
