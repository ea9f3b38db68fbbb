//! `daybook gaps`: journal reports that came back in NDRs without their original.

use super::output::{Failure, counted, note, safe, table, time};
use super::{print_response, reach};
use crate::admin::{Gap, GapsView, OpError, Request, Response};
use crate::config::Settings;

/// Nothing is missing as far as could be looked, but that was not everything.
const NOT_ALL_LOOKED_AT: u8 = 3;

/// Ends with 1 while a report is missing.
pub(super) fn run(settings: &Settings, request: &Request, json: bool) -> Result<u8, Failure> {
    let response = reach::perform(settings, request.clone())?;
    let Response::Gaps(gaps) = &response else {
        return Err(OpError::Unavailable("the server gave another answer than asked for".to_owned()).into());
    };
    if let Request::CloseGaps { .. } = request {
        print_response(&response, json, |_| format!("Closed {}.\n", counted(gaps.closed, "gap")))?;
        return Ok(0);
    }
    print_response(&response, json, |_| gaps_text(gaps, matches!(request, Request::Gaps { all: true, .. })))?;
    for missed in &gaps.not_reached {
        let behind =
            missed.after.map_or_else(|| "none of it".to_owned(), |at| format!("nothing after {}", time(at)));
        note(&format!(
            "there was too much to look at in time: of {} {behind}. See --since and --mailbox",
            safe(&missed.name)
        ));
    }
    Ok(match gaps.missing + gaps.doubtful {
        0 if !gaps.complete || gaps.unread > 0 => NOT_ALL_LOOKED_AT,
        0 => 0,
        _ => 1,
    })
}

fn gaps_text(gaps: &GapsView, all: bool) -> String {
    let mut text = String::new();
    if !gaps.gaps.is_empty() {
        let id = |id: &Option<String>| id.as_deref().map_or_else(|| "-".to_owned(), safe);
        let row = |gap: &Gap| {
            vec![
                gap.state.as_str().to_owned(),
                if gap.held_back { "held back" } else { "delivered" }.to_owned(),
                time(gap.at),
                gap.receipt_id.to_string(),
                gap.name.as_deref().map_or_else(|| "(not there)".to_owned(), safe),
                id(&gap.report_message_id),
                id(&gap.original_message_id),
                gap.found.map_or_else(|| "-".to_owned(), |found| found.to_string()),
            ]
        };
        let headings =
            ["STATE", "NDR IS", "NDR CAME", "NDR RECEIPT", "FOR", "REPORT", "ORIGINAL", "HELD BY RECEIPT"];
        text.push_str(&table(&headings, &gaps.gaps.iter().map(row).collect::<Vec<_>>()));
        text.push('\n');
    }
    let listed = gaps.gaps.len() as u64;
    let reports = |number| counted(number, "report");
    let open = gaps.missing + gaps.doubtful + gaps.original_held + gaps.unproven;
    let settled = gaps.turned_up + gaps.closed;
    text.push_str(&format!(
        "NDRs returned only the header of {}: {} missing, {} here in doubt, {} whose Message-ID another report names, {} whose NDR \
         is held back, {} turned up, {} closed.\n\
         NDRs returned {} with an original: {} recovered, {} already held, {} in doubt, {} held back.\n",
        reports(open + settled),
        gaps.missing,
        gaps.doubtful,
        gaps.original_held,
        gaps.unproven,
        gaps.turned_up,
        gaps.closed,
        reports(gaps.recovered + gaps.already_held + gaps.came_in_doubt + gaps.held_back),
        gaps.recovered,
        gaps.already_held,
        gaps.came_in_doubt,
        gaps.held_back,
    ));
    if open + if all { settled } else { 0 } > listed {
        text.push_str(&format!("Only the first {} are listed; see --since.\n", counted(listed, "gap")));
    }
    if gaps.missing + gaps.doubtful > 0 {
        text.push_str("Once the mail is brought, or is of no matter:  daybook gaps --close NDR-RECEIPT\n");
    }
    if gaps.unread > 0 {
        text.push_str(&format!("{} could not be read.\n", counted(gaps.unread, "receipt")));
    }
    text
}
