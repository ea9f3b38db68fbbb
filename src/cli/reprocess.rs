//! `daybook reprocess`: what reading stored messages again finds, and would change or has changed.

use super::args::{ReprocessArguments, Since};
use super::output::{self, Failure, counted, safe, time};
use super::{reach, secret};
use crate::admin::{Damaged, EntryView, ReprocessedView, Reprocessing, Request, RereadView, Response};
use crate::config::Settings;
use crate::mail::Timestamp;
use crate::observe::now;

/// Reads batch by batch and shows each as it comes; with `--json` all of them in one value, at the end.
pub(super) fn run(arguments: ReprocessArguments, settings: &Settings, json: bool) -> Result<u8, Failure> {
    let ReprocessArguments { which, apply, since, receipt, all, key, .. } = arguments;
    let key = secret::key(&key, &which.mailbox)?;
    let since = since.map_or(Timestamp::from_unix_ms(0), |since: Since| since.before(now()));
    let messages = match (receipt.is_empty(), all) {
        (false, _) => Reprocessing::Receipts(receipt),
        (true, true) => Reprocessing::All(since),
        (true, false) => Reprocessing::Waiting(since),
    };
    let request = |after| Request::Reprocess {
        gateway_mailbox: which.mailbox.clone(),
        which: messages.clone(),
        apply,
        after,
        key: key.clone(),
    };
    let mut total = ReprocessedView::default();
    let mut changed = 0;
    let mut shown_well = Ok(());
    let mut ended = None;
    let outcome = reach::perform_each(settings, request(None), |response| {
        let Response::Reprocessed(view) = response else { return None };
        total.read += view.read;
        changed += view.receipts.len();
        (total.gateway_mailbox, total.applied) = (view.gateway_mailbox, view.applied);
        total.damaged.extend(view.damaged);
        if json {
            total.receipts.extend(view.receipts);
        } else {
            let text: String = view.receipts.iter().map(|receipt| shown(receipt, apply)).collect();
            shown_well = output::print(&text);
        }
        ended = view.error;
        view.next.filter(|_| shown_well.is_ok() && ended.is_none()).map(|next| request(Some(next)))
    });
    shown_well?;
    let outcome = outcome.and_then(|()| ended.map_or(Ok(()), |error| Err(error.into())));
    // What was done before it failed was done: it must be told.
    let anything = changed > 0 || !total.damaged.is_empty();
    if outcome.is_ok() || anything {
        if json {
            let value = Response::Reprocessed(total.clone()).to_json();
            let mut value = value.map_err(|error| Failure::from(error.to_string()))?;
            if let (Err(failure), Some(object)) = (&outcome, value.as_object_mut()) {
                object.insert("error".to_owned(), failure.to_json());
            }
            output::print_json(&value)?;
        } else {
            output::print(&summary(&total, changed as u64, apply))?;
        }
    }
    match outcome {
        Err(failure) if json && anything => Ok(failure.code()),
        Err(failure) => Err(failure),
        Ok(()) => Ok(u8::from(!total.damaged.is_empty())),
    }
}

/// What is different of one message.
fn shown(receipt: &RereadView, applied: bool) -> String {
    let mut text = format!("{}  {}  {}\n", receipt.receipt_id, time(receipt.at), receipt.class);
    for difference in &receipt.differences {
        let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { safe(text) };
        let (was, is) = (or_none(&difference.was), or_none(&difference.is));
        text.push_str(&format!("  {:<18} {was}\n  {:<18} → {is}\n", safe(&difference.what), ""));
    }
    let (placed, left) =
        if applied { ("placed in", "taken from") } else { ("would be placed in", "would leave") };
    for (what, entries) in [(placed, &receipt.placements), (left, &receipt.left)] {
        entries.iter().for_each(|entry: &EntryView| {
            text.push_str(&format!("  {what:<18} {}\n", safe(&entry.folder)));
        });
    }
    if let Some(recovered) = &receipt.recovered {
        let what = if applied { "recovered for" } else { "to be recovered for" };
        text.push_str(&format!("  {what:<18} {}\n", safe(&recovered.gateway_mailbox)));
    }
    text
}

fn summary(total: &ReprocessedView, changed: u64, applied: bool) -> String {
    let mut text = String::new();
    for Damaged { receipt_id, why } in &total.damaged {
        text.push_str(&format!("{receipt_id}  cannot be reprocessed: {}\n", safe(why)));
    }
    let read = counted(total.read, "message");
    text.push_str(&match (changed, applied) {
        (0, _) => format!("{read} read again: nothing changes.\n"),
        (changed, true) => format!("{read} read again: {} changed.\n", counted(changed, "message")),
        (changed, false) => {
            format!("{read} read again: {} would change. --apply does it.\n", counted(changed, "message"))
        }
    });
    text
}
