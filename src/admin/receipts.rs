//! What became of a message.

use super::Context;
use super::request::OpError;
use crate::mail::Timestamp;
use crate::store::{ReceiptQuery, ReceiptView};

/// Most transactions answered at once.
pub const RECEIPTS_MAX: usize = 1_000;

/// Receipts that `text` names: by receipt id, Message-ID (with or without angle brackets) or address, newest first.
pub(super) fn trace(
    context: &Context,
    text: &str,
    since: Option<Timestamp>,
    most: usize,
) -> Result<Vec<ReceiptView>, OpError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(OpError::Usage("give a receipt id, a Message-ID or an address".to_owned()));
    }
    let query = match text.parse() {
        Ok(id) => ReceiptQuery::Id(id),
        Err(_) => ReceiptQuery::Naming(text.to_owned()),
    };
    find(context, &query, since, most)
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
            ReceiptQuery::Id(id) => format!("no receipt {id}{when}"),
            ReceiptQuery::Naming(text) => format!("no receipt names {text}{when}"),
            ReceiptQuery::All => format!("no receipts{when}"),
        }));
    }
    Ok(found)
}
