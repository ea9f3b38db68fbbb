//! Every transaction, a page at a time.

use super::Context;
use super::gateway_mailboxes::resolve;
use super::request::OpError;
use crate::mail::{ReceiptId, Timestamp};
use crate::store::{TransactionOutcome, TransactionQuery, Transactions};
use serde::{Deserialize, Serialize};

/// Transactions looked at for one answer.
pub const TRANSACTIONS_MAX: usize = 500;

/// Which transactions are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionsAsked {
    /// Begun since.
    pub since: Option<Timestamp>,
    /// Begun before this time.
    pub until: Option<Timestamp>,
    /// That ended so.
    pub outcome: Option<TransactionOutcome>,
    /// That concerned this one.
    pub gateway_mailbox: Option<String>,
    /// Behind the last one of the page before.
    pub before: Option<ReceiptId>,
    /// At most so many are looked at.
    pub most: usize,
}

/// # Errors
/// [`OpError::NotFound`] when there is no such gateway mailbox.
pub(super) fn page(context: &Context, asked: &TransactionsAsked) -> Result<Transactions, OpError> {
    let named = asked.gateway_mailbox.as_deref();
    let gateway_mailbox = named.map(|named| resolve(context, named)).transpose()?;
    let query = TransactionQuery {
        since: asked.since.unwrap_or(Timestamp::from_unix_ms(0)),
        until: asked.until,
        before: asked.before,
        outcome: asked.outcome,
        gateway_mailbox: gateway_mailbox.map(|found| found.id),
        most: asked.most.clamp(1, TRANSACTIONS_MAX),
    };
    Ok(context.store.transactions(&query)?)
}
