//! `daybook quarantine …`

use super::args::QuarantineCommand;
use super::output::{Failure, counted, grouped, safe, table, time};
use super::receipts::whole;
use super::{ask, export};
use crate::admin::{QuarantinedView, Request, Response};
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
    }
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
