//! `daybook pull`: have pullers look now, or say how they are.

use super::output::{Failure, counted, grouped, safe};
use super::{print_response, reach};
use crate::admin::{PullerView, Request, Response};
use crate::config::Settings;
use crate::mail::Timestamp;
use std::fmt::Write;

/// Code 1 when one of them fails.
pub(super) fn run(
    settings: &Settings,
    name: Option<String>,
    status: bool,
    json: bool,
) -> Result<u8, Failure> {
    let response = reach::perform(settings, Request::Pull { name, status })?;
    let Response::Pullers(views) = &response else {
        return Err(Failure::from("the server gave another answer than asked for".to_owned()));
    };
    print_response(&response, json, |_| views.iter().map(shown).collect())?;
    Ok(u8::from(views.iter().any(|view| view.status.fault.is_some())))
}

fn shown(view: &PullerView) -> String {
    let status = &view.status;
    let mut text = String::new();
    let mut add = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "  {label:<10} {value}").unwrap_or_default();
    };
    add("from", &safe(&status.account));
    add("into", &safe(&status.mailbox));
    if let Some(visit) = &view.visit {
        let (messages, octets) = (counted(visit.messages, "message"), grouped(visit.octets));
        add("fetched", &format!("{messages}, {octets} octets"));
        if visit.unsettled > 0 {
            add(
                "unsettled",
                &format!("{} stored and still at the account", counted(visit.unsettled, "message")),
            );
        }
    }
    if status.left > 0 {
        let left = counted(status.left, "message");
        add("left", &format!("{left} larger than [smtp] max_message_bytes; fetched when that is raised"));
    }
    let time = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    if view.visit.is_none() {
        let since = format!(
            "{}, {} octets since the start",
            counted(status.messages, "message"),
            grouped(status.octets)
        );
        add("fetched", &since);
        add("last good", &time(status.last_success));
        add("next", &time(status.next));
    }
    if let Some(fault) = &status.fault {
        let since = time(status.failing_since);
        add(
            "FAILS",
            &format!("since {since}, {}: {}", counted(u64::from(status.failures), "time"), safe(&fault.text)),
        );
        add("advice", &safe(&fault.advice));
    }
    format!("{}\n{text}", safe(&status.name))
}
