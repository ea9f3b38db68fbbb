//! What became of a message.

use super::Context;
use super::gateway_mailboxes::resolve;
use super::request::OpError;
use crate::mail::{ReceiptId, Timestamp};
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
            ReceiptQuery::Id(id) => {
                format!("no receipt {id}{when}; of a message that was refused or deferred only the log tells")
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
