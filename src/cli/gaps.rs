//! `daybook gaps`: journal reports that came back in NDRs without their original.

use super::output::{Failure, counted, note, safe, table, time};
use super::{print_response, reach};
use crate::admin::{Gap, GapsView, OpError, Request, Response};
use crate::config::Settings;

/// Ends with 1 while a report is missing.
pub(super) fn run(settings: &Settings, request: &Request, json: bool) -> Result<u8, Failure> {
    let response = reach::perform(settings, request.clone())?;
    let Response::Gaps(gaps) = &response else {
        return Err(OpError::Unavailable("the server gave another answer than asked for".to_owned()).into());
    };
    print_response(&response, json, |_| gaps_text(gaps))?;
    if !gaps.complete {
        note("there was too much to look at in time: this is not all. Ask for a shorter time with --since");
    }
    Ok(u8::from(gaps.missing > 0))
}

fn gaps_text(gaps: &GapsView) -> String {
    let mut text = String::new();
    if !gaps.gaps.is_empty() {
        let id = |id: &Option<String>| id.as_deref().map_or_else(|| "-".to_owned(), safe);
        let row = |gap: &Gap| {
            vec![
                gap.state.as_str().to_owned(),
                time(gap.at),
                gap.receipt_id.to_string(),
                gap.name.as_deref().map_or_else(|| "(not there)".to_owned(), safe),
                id(&gap.report_message_id),
                id(&gap.original_message_id),
                gap.found.map_or_else(|| "-".to_owned(), |found| found.to_string()),
            ]
        };
        let headings = ["STATE", "NDR CAME", "NDR RECEIPT", "FOR", "REPORT", "ORIGINAL", "HELD BY RECEIPT"];
        text.push_str(&table(&headings, &gaps.gaps.iter().map(row).collect::<Vec<_>>()));
        text.push('\n');
    }
    let listed = gaps.gaps.len() as u64;
    let reports = |number| counted(number, "report");
    text.push_str(&format!(
        "NDRs returned only the header of {}: {} missing, {} whose original is held, {} turned up.\n\
         NDRs returned {} whole: {} recovered, {} already held, {} held back.\n",
        reports(gaps.missing + gaps.original_held + gaps.turned_up),
        gaps.missing,
        gaps.original_held,
        gaps.turned_up,
        reports(gaps.recovered + gaps.already_held + gaps.held_back),
        gaps.recovered,
        gaps.already_held,
        gaps.held_back,
    ));
    if gaps.missing + gaps.original_held > listed {
        text.push_str(&format!("Only the first {} are listed; see --since.\n", counted(listed, "gap")));
    }
    if gaps.unread > 0 {
        text.push_str(&format!("{} could not be read.\n", counted(gaps.unread, "receipt")));
    }
    text
}
