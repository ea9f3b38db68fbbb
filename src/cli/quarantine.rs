//! `daybook quarantine …`

use super::approval::confirm;
use super::args::QuarantineCommand;
use super::output::{Failure, counted, grouped, safe, table, time};
use super::receipts::whole;
use super::{ask, export, print_response, reach};
use crate::admin::{OpError, QuarantinedView, Request, Response, RevisedView};
use crate::config::Settings;
use crate::observe::now;

pub(super) fn run(command: QuarantineCommand, settings: &Settings, json: bool) -> Result<u8, Failure> {
    match command {
        QuarantineCommand::List { mailbox, since, limit } => {
            let since = since.map(|since| since.before(now()));
            let request = Request::ListQuarantine { gateway_mailbox: mailbox, since, most: limit };
            ask(settings, request, json, list)
        }
        QuarantineCommand::Export { receipt_id, mailbox, to, key } => {
            export::run(settings, receipt_id, mailbox, &to, &key, json)
        }
        QuarantineCommand::Show { receipt_id, mailbox } => {
            ask(settings, Request::ShowQuarantined { receipt_id, gateway_mailbox: mailbox }, json, show)
        }
        QuarantineCommand::Release { receipt_ids, mailbox, dry_run, yes } => {
            let request = |apply| Request::ReleaseQuarantined {
                receipt_ids: receipt_ids.clone(),
                gateway_mailbox: mailbox.clone(),
                apply,
            };
            release(settings, request, dry_run, yes, json)
        }
    }
}

fn release(
    settings: &Settings,
    request: impl Fn(bool) -> Request,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> Result<u8, Failure> {
    if !yes {
        let planned = reach::perform(settings, request(false))?;
        if dry_run {
            print_response(&planned, json, |response| revised(response, false))?;
            return Ok(0);
        }
        let plan = revised(&planned, false);
        confirm(&plan, "Release?", || {
            OpError::NeedsApproval(format!("{plan}whoever was held back is let in: say --yes"))
        })?;
    }
    let done = reach::perform(settings, request(true))?;
    print_response(&done, json, |response| revised(response, true))?;
    Ok(0)
}

fn revised(response: &Response, done: bool) -> String {
    let Response::Revised(all) = response else { return String::new() };
    changes(all, done)
}

/// What is placed and what leaves, of each receipt.
pub(super) fn changes(all: &[RevisedView], done: bool) -> String {
    let (places, leaves) = if done { ("placed in", "left") } else { ("would be placed in", "would leave") };
    let mut text = String::new();
    for receipt in all {
        text.push_str(&format!("Receipt {}, {}\n", receipt.receipt_id, safe(&receipt.gateway_mailbox)));
        for placed in &receipt.placements {
            let uid = placed.uid.map(|uid| format!(" UID {uid}")).unwrap_or_default();
            text.push_str(&format!("  {places} {}{uid}\n", safe(&placed.folder)));
            for reason in &placed.reasons {
                text.push_str(&format!("    because {}\n", safe(reason)));
            }
        }
        for left in &receipt.left {
            text.push_str(&format!("  {leaves} {} UID {}\n", safe(&left.folder), left.uid));
        }
    }
    text
}

fn list(response: &Response) -> String {
    let Response::Quarantine(quarantine) = response else { return String::new() };
    if quarantine.messages.is_empty() {
        return "Nothing is in Quarantine.\n".to_owned();
    }
    let row = |message: &QuarantinedView| {
        vec![
            message.receipt_id.to_string(),
            time(message.at),
            safe(&message.name),
            message.class.map_or_else(|| "-".to_owned(), |class| class.to_string()),
            grouped(message.octets),
            message.reasons.first().map(|reason| safe(reason)).unwrap_or_default(),
        ]
    };
    let headings = ["RECEIPT", "RECEIVED", "FOR", "CLASS", "OCTETS", "WHY"];
    let mut text = table(&headings, &quarantine.messages.iter().map(row).collect::<Vec<_>>());
    if quarantine.more > 0 {
        let more = counted(quarantine.more as u64, "older message");
        text.push_str(&format!("\nThere are {more}: see --limit and --since.\n"));
    }
    text
}

fn show(response: &Response) -> String {
    let Response::Quarantined(detail) = response else { return String::new() };
    let mut text = whole(&detail.receipt);
    text.push_str("\nWhat can be done:\n");
    for advice in &detail.advice {
        text.push_str(&format!("  {}: {}.\n", safe(&advice.about), safe(&advice.advice)));
    }
    let id = detail.receipt.receipt_id;
    text.push_str(&format!("\nTo see what would become of it:  daybook quarantine release --dry-run {id}\n"));
    text
}
