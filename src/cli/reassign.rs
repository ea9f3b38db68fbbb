//! `daybook reassign`

use super::output::{Failure, counted, grouped, print, print_json, safe};
use super::quarantine::changes;
use super::reach;
use crate::admin::{OpError, REASSIGNED_MAX, Reassigned, Request, Response};
use crate::config::Settings;
use crate::mail::Timestamp;

/// Exit code when receipts could not be read, something else was done than thought, or not all was done.
const FOUND_A_PROBLEM: u8 = 1;

pub(super) fn run(
    settings: &Settings,
    apply: bool,
    gateway_mailbox: Option<String>,
    since: Option<Timestamp>,
    json: bool,
) -> Result<u8, Failure> {
    let mut run = Reassigned::new(apply);
    let request = |from| Request::Reassign { gateway_mailbox: gateway_mailbox.clone(), since, apply, from };
    let outcome = reach::perform_each(settings, request(None), |response| {
        let Response::Reassigned(page) = response else { return None };
        run.add(*page).map(|place| request(Some(place)))
    });
    let outcome = outcome.and_then(|()| run.failed.take().map_or(Ok(()), |error| Err(error.into())));
    // What was done before it failed was done: it must be told.
    if outcome.is_ok() || !run.receipts.is_empty() {
        if json {
            let mut value = serde_json::to_value(&run)
                .map_err(|error| Failure::from(OpError::Unavailable(error.to_string())))?;
            if let (Err(failure), Some(object)) = (&outcome, value.as_object_mut()) {
                object.insert("error".to_owned(), failure.to_json());
            }
            print_json(&value)?;
        } else {
            print(&text(&run))?;
        }
    }
    match outcome {
        Err(failure) if json && !run.receipts.is_empty() => Ok(failure.code()),
        Err(failure) => Err(failure),
        Ok(()) if !run.unread.is_empty() || !run.differed.is_empty() => Ok(FOUND_A_PROBLEM),
        Ok(()) if run.applied && run.more => Ok(FOUND_A_PROBLEM),
        Ok(()) => Ok(0),
    }
}

fn text(run: &Reassigned) -> String {
    let mut text = changes(&run.receipts, run.applied);
    for unread in &run.unread {
        text.push_str(&format!("Receipt {} cannot be read: {}\n", unread.receipt_id, safe(&unread.why)));
    }
    for receipt_id in &run.differed {
        text.push_str(&format!(
            "Receipt {receipt_id} was changed by somebody else meanwhile: what is said above was done.\n"
        ));
    }
    let (placed, left) = (counted(run.placed as u64, "message"), counted(run.left as u64, "message"));
    let looked_at = counted(run.looked_at, "receipt");
    text.push_str(&match run.applied {
        true => format!("{placed} placed in users' folders, {left} left Unassigned; {looked_at} looked at.\n"),
        false => format!(
            "{placed} would be placed in users' folders, {left} would leave Unassigned; {looked_at} looked at.\n"
        ),
    });
    if run.more {
        let most = grouped(REASSIGNED_MAX as u64);
        text.push_str(&match run.applied {
            true => format!("There may be more than these {most} changes: run this again.\n"),
            false => format!(
                "There may be more than these {most} changes: --apply them and run this again, or see --since.\n"
            ),
        });
    }
    text
}
