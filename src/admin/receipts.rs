//! What became of a message.

use super::Context;
use super::gateway_mailboxes::resolve;
use super::request::{OpError, Response};
use crate::mail::{ReceiptId, Timestamp};
use crate::store::{ReceiptQuery, ReceiptView, TransactionView};
use serde::{Deserialize, Serialize};

/// Most transactions answered at once.
pub const RECEIPTS_MAX: usize = 1_000;

/// Transactions turned away that are shown beside receipts: anybody can name an address.
const TURNED_AWAY_SHOWN_MAX: usize = 100;

/// What became of messages, and of those that were not taken. Each newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedView {
    /// Those taken.
    pub receipts: Vec<ReceiptView>,
    /// Those turned away.
    pub turned_away: Vec<TransactionView>,
}

impl TracedView {
    /// One list; those turned away, which have an `outcome`, come last.
    pub(super) fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let receipts = self.receipts.iter().map(serde_json::to_value);
        receipts.chain(self.turned_away.iter().map(serde_json::to_value)).collect()
    }
}

impl From<TracedView> for Response {
    fn from(traced: TracedView) -> Response {
        match traced.turned_away.is_empty() {
            true => Response::Receipts(traced.receipts),
            false => Response::Traced(Box::new(traced)),
        }
    }
}

/// Receipts that `text` names: by receipt id, Message-ID (with or without angle brackets) or address, newest first; and what was
/// turned away under that id, or naming that address.
pub(super) fn trace(
    context: &Context,
    text: &str,
    since: Option<Timestamp>,
    most: usize,
) -> Result<TracedView, OpError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(OpError::Usage("give a receipt id, a Message-ID or an address".to_owned()));
    }
    let query = match text.parse() {
        Ok(id) => ReceiptQuery::Id(id),
        Err(_) => ReceiptQuery::Naming(text.to_owned()),
    };
    with_turned_away(context, &query, since, most)
}

/// # Errors
/// [`OpError::NotFound`] when there is none, nor was any turned away.
pub(super) fn with_turned_away(
    context: &Context,
    query: &ReceiptQuery,
    since: Option<Timestamp>,
    most: usize,
) -> Result<TracedView, OpError> {
    let start = since.unwrap_or(Timestamp::from_unix_ms(0));
    let mut turned_away = context.store.turned_away(query, start, most.clamp(1, TURNED_AWAY_SHOWN_MAX))?;
    turned_away.retain(|told| told.at.is_none_or(|at| at >= start));
    match find(context, query, since, most) {
        Err(OpError::NotFound(_)) if !turned_away.is_empty() => {
            Ok(TracedView { receipts: Vec::new(), turned_away })
        }
        found => Ok(TracedView { receipts: found?, turned_away }),
    }
}

/// # Errors
/// [`OpError::NotFound`] when there is none.
pub(super) fn find(
    context: &Context,
    query: &ReceiptQuery,
    since: Option<Timestamp>,
    most: usize,
) -> Result<Vec<ReceiptView>, OpError> {
    let start = since.unwrap_or(Timestamp::from_unix_ms(0));
    let mut found = context.store.receipts(query, start, most.clamp(1, RECEIPTS_MAX))?;
    // Asked for one receipt the store gives it, however old.
    found.retain(|receipt| receipt.at >= start);
    if found.is_empty() {
        let when = since.map(|since| format!(" since {since}")).unwrap_or_default();
        return Err(OpError::NotFound(match query {
            ReceiptQuery::Id(id) => {
                format!(
                    "no receipt {id}{when}; of one turned away in a flood, or just before a crash, only the log tells"
                )
            }
            ReceiptQuery::Naming(text) => format!("no receipt names {text}{when}"),
            ReceiptQuery::All => format!("no receipts{when}"),
        }));
    }
    Ok(found)
}

/// How it is said that a receipt is not the only one, or none.
pub(super) struct Words {
    /// `<receipt> … several gateway mailboxes`
    pub(super) several: &'static str,
    /// `<receipt> …`
    pub(super) none: &'static str,
}

/// The receipt that `suits`: in the gateway mailbox named, or in the only one.
///
/// # Errors
/// [`OpError::NotFound`] when there is none, [`OpError::Usage`] when it is in several.
pub(super) fn only(
    context: &Context,
    receipt_id: ReceiptId,
    gateway_mailbox: Option<&str>,
    suits: impl Fn(&ReceiptView) -> bool,
    words: Words,
) -> Result<ReceiptView, OpError> {
    let mailbox = gateway_mailbox.map(|named| resolve(context, named)).transpose()?;
    let mut receipts = find(context, &ReceiptQuery::Id(receipt_id), None, 1)?;
    receipts.retain(|receipt| {
        mailbox.as_ref().is_none_or(|mailbox| mailbox.id == receipt.gateway_mailbox) && suits(receipt)
    });
    if receipts.len() > 1 {
        let addresses: Vec<&str> = receipts.iter().filter_map(|r| r.address.as_deref()).collect();
        let (several, addresses) = (words.several, addresses.join(", "));
        return Err(OpError::Usage(format!(
            "{receipt_id} {several} several gateway mailboxes: say --mailbox with one of {addresses}"
        )));
    }
    receipts.pop().ok_or_else(|| OpError::NotFound(format!("{receipt_id} {}", words.none)))
}
