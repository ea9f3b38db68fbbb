//! `daybook undelete`, `daybook retention …`, and what is shown of holds and of how long mail is kept.

use super::approval::ask_approved;
use super::args::{RetentionCommand, UndeleteArguments};
use super::output::{Failure, counted, grouped, safe, table, time};
use super::{print_response, reach};
use crate::admin::{
    GatewayMailboxView, MailboxRetentionView, OpError, PassAsked, RecoverableView, Request, Response,
    RetentionView, RuleView, UndeletedView,
};
use crate::config::Settings;
use crate::mail::Hold;
use crate::observe::now;
use crate::store::KeptPass;

/// Folders that the text lists of each gateway mailbox; `--json` lists all.
const FOLDERS_SHOWN: usize = 20;

/// Goes on while there is more. Code 1 when it ended before its end.
pub(super) fn undelete(settings: &Settings, arguments: UndeleteArguments, json: bool) -> Result<u8, Failure> {
    let since = arguments.since.map(|since| since.before(now()));
    let request = |deleted_until| Request::Undelete {
        gateway_mailbox: arguments.which.mailbox.clone(),
        folder: arguments.folder.clone(),
        since,
        deleted_until,
        apply: !arguments.dry_run,
    };
    let mut all = UndeletedView::default();
    reach::perform_each(settings, request(None), |response| {
        if let Response::Undeleted(view) = response {
            all.go_on(*view);
        }
        all.more.then(|| request(all.deleted_until))
    })?;
    let failed = all.error.is_some();
    print_response(&Response::Undeleted(Box::new(all)), json, undeleted)?;
    Ok(u8::from(failed))
}

fn undeleted(response: &Response) -> String {
    let Response::Undeleted(view) = response else { return String::new() };
    let (folder, count) = (safe(&view.folder), counted(view.entries, "message"));
    let mut text = match (view.applied, view.entries) {
        (false, 0) => format!("Nothing that was deleted from {folder} can be had back.\n"),
        (false, _) => format!(
            "{count} deleted from {folder} can be had back, but for what retention would take out at once.\n"
        ),
        (true, 0) => format!("Nothing came back to {folder}.\n"),
        (true, _) => {
            let runs: Vec<String> = view.uids.iter().map(run).collect();
            format!(
                "{count} came back to {folder}, as UID {}. Whoever polls fetches them again, also what the archive has already.\n",
                runs.join(", ")
            )
        }
    };
    if view.shown_as_before > 0 {
        text.push_str(&format!(
            "{} of them deleted before maildrop was last set: shown as then, not as INBOX holds mail now.\n",
            view.shown_as_before
        ));
    }
    if view.skipped_due > 0 {
        text.push_str(&format!(
            "{} stayed deleted: retention would take them out at once (daybook mailbox show).\n",
            counted(view.skipped_due, "message")
        ));
    }
    if let Some(error) = &view.error {
        text.push_str(&format!("It ended before its end: {}. Say it again to go on.\n", safe(error.why())));
    }
    if !view.left.is_empty() {
        let what = if view.applied { "Still deleted" } else { "Deleted" };
        text.push_str(&format!("\n{what}, and can be had back:\n{}", recoverable(&view.left)));
    }
    text
}

/// `7`, `7-12`
fn run((first, last): &(u32, u32)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn recoverable(all: &[RecoverableView]) -> String {
    let row = |one: &RecoverableView| {
        vec![
            grouped(one.entries),
            grouped(one.octets),
            time(one.oldest),
            one.freed_from.map_or_else(|| "a hold ends".to_owned(), time),
            safe(&one.path),
        ]
    };
    let rows: Vec<_> = all.iter().take(FOLDERS_SHOWN).map(row).collect();
    let mut text = table(&["MESSAGES", "OCTETS", "FIRST DELETED", "AT LEAST UNTIL", "FOLDER"], &rows);
    if all.len() > FOLDERS_SHOWN {
        text.push_str(&format!("and in {} more folders: see --json\n", all.len() - FOLDERS_SHOWN));
    }
    text
}

pub(super) fn retention(
    settings: &Settings,
    command: Option<RetentionCommand>,
    json: bool,
) -> Result<u8, Failure> {
    match command.unwrap_or(RetentionCommand::Status) {
        RetentionCommand::Status => {
            let view = retained(reach::perform(settings, Request::Retention { pass: None })?)?;
            let bad = view.keeping.paused.is_some() || has_failed(&view);
            print_response(&Response::Retention(Box::new(view)), json, status)?;
            Ok(u8::from(bad))
        }
        RetentionCommand::Run => {
            let view = pass(settings)?;
            let failed = has_failed(&view);
            print_response(&Response::Retention(Box::new(view)), json, passed)?;
            Ok(u8::from(failed))
        }
        RetentionCommand::Confirm { yes } => {
            let request = |approved| Request::ConfirmClock { approved };
            let asked = ("Is that clock right?", "what leaves by a wrong clock is lost");
            ask_approved(settings, request, yes, asked, json, confirmed)
        }
    }
}

fn retained(response: Response) -> Result<RetentionView, Failure> {
    match response {
        Response::Retention(view) => Ok(*view),
        _ => Err(OpError::Unavailable("the server gave another answer than asked for".to_owned()).into()),
    }
}

/// Asks for a pass and waits for its end, however long that takes.
fn pass(settings: &Settings) -> Result<RetentionView, Failure> {
    let mut last = None;
    reach::perform_each(settings, Request::Retention { pass: Some(PassAsked::Begin) }, |response| {
        let goes_on = matches!(&response, Response::Retention(view) if view.awaited);
        last = Some(response);
        goes_on.then_some(Request::Retention { pass: Some(PassAsked::Await) })
    })?;
    retained(last.ok_or_else(|| Failure::from("there is no answer".to_owned()))?)
}

fn has_failed(view: &RetentionView) -> bool {
    view.keeping.last.as_ref().is_some_and(|last| last.error.is_some())
}

fn confirmed(response: &Response) -> String {
    let Response::Retention(view) = response else { return String::new() };
    format!(
        "Retention goes by the clock again: it is {}. What is due leaves at the next pass, within the hour, or now with \
         daybook retention run.\n",
        time(view.keeping.trusted)
    )
}

fn passed(response: &Response) -> String {
    let Response::Retention(view) = response else { return String::new() };
    view.keeping.last.as_ref().map(pass_text).unwrap_or_default()
}

fn pass_text(last: &KeptPass) -> String {
    let mut text = match &last.error {
        None => format!("The pass of {} ended.\n", time(last.ended_at)),
        Some(error) => format!("The pass of {} FAILED: {}\n", time(last.ended_at), safe(error)),
    };
    for (count, what) in [
        (last.expired, "taken out by retention"),
        (last.freed_entries, "can be had back no more"),
        (last.held, "kept by a legal hold"),
    ] {
        text.push_str(&format!("  {:>9}  {what}\n", grouped(count)));
    }
    let (objects, octets) = (grouped(last.freed_objects), grouped(last.freed_octets));
    text.push_str(&format!("  {octets:>9}  octets freed, of {objects} objects\n"));
    text
}

fn status(response: &Response) -> String {
    let Response::Retention(view) = response else { return String::new() };
    let mut text = match &view.keeping.paused {
        None => format!("Retention goes by the clock: it is {}.\n", time(view.keeping.trusted)),
        Some(pause) if pause.is_of_restore() => format!(
            "Retention is PAUSED since {}: the store was restored from a backup.\n\
             Nothing leaves and no content is freed. Set again the legal holds and rules that were set after the backup, then:  \
             daybook retention confirm\n",
            time(pause.since),
        ),
        Some(pause) => format!(
            "Retention is PAUSED since {}: the clock says {}, {} days ahead of {}, the last time it was known to be right.\n\
             Nothing leaves and no content is freed. If the clock is right:  daybook retention confirm\n\
             If it is not, set it: then retention goes on by itself.\n",
            time(pause.since),
            time(pause.clock),
            pause.days_ahead(),
            time(pause.trusted)
        ),
    };
    match &view.keeping.last {
        Some(last) => text.push_str(&pass_text(last)),
        None => text.push_str("No pass was made since the start; one is every hour.\n"),
    }
    for mailbox in &view.gateway_mailboxes {
        text.push_str(&mailbox_lines(mailbox));
    }
    text
}

fn mailbox_lines(mailbox: &MailboxRetentionView) -> String {
    let mut text = format!("\n{}  {}\n", safe(&mailbox.name), safe(&mailbox.address));
    text.push_str(&hold_lines(&mailbox.holds));
    if mailbox.rules.is_empty() {
        text.push_str("  retention never takes anything out\n");
    }
    mailbox.rules.iter().for_each(|rule| text.push_str(&rule_line(rule)));
    text.push_str(&format!(
        "  deleted   can be had back for {}",
        counted(u64::from(mailbox.grace_days), "day")
    ));
    if mailbox.recoverable.is_empty() {
        text.push_str("; there is nothing\n");
    } else {
        text.push_str(":\n");
        recoverable(&mailbox.recoverable).lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    text
}

fn rule_line(rule: &RuleView) -> String {
    let mut text =
        format!("  {:<9} {} after receipt", safe(&rule.folders), counted(u64::from(rule.days), "day"));
    match (rule.due, rule.next_at) {
        (0, None) => text.push_str("; nothing is due"),
        (0, Some(at)) => text.push_str(&format!("; the next is due at {}", time(at))),
        (due, _) => text.push_str(&format!("; {} due now", counted(due, "message"))),
    }
    if rule.held > 0 {
        text.push_str(&format!("; {} held", counted(rule.held, "message")));
    }
    text.push('\n');
    text
}

/// How long a gateway mailbox keeps mail, and what is held.
pub(super) fn keeping(mailbox: &GatewayMailboxView) -> String {
    let days = |days: Option<u32>| match days {
        None => "for ever".to_owned(),
        Some(days) => format!("for {}", counted(u64::from(days), "day")),
    };
    let mut text = format!(
        "  keeps     INBOX {}, users' folders {}; what was deleted {}\n",
        days(mailbox.inbox_retention_days),
        days(mailbox.user_retention_days),
        days(Some(mailbox.grace_days)),
    );
    text.push_str(&hold_lines(&mailbox.holds));
    text
}

fn hold_lines(holds: &[Hold]) -> String {
    let line = |hold: &Hold| {
        let user =
            hold.user.as_ref().map_or_else(|| "all of it".to_owned(), |user| format!("user {}", safe(user)));
        let (since, actor) = (time(hold.at), safe(&hold.actor));
        format!("  HELD      {user}, since {since}, by {actor}: {}\n", safe(&hold.reason))
    };
    holds.iter().map(line).collect()
}

/// What is held, in a word.
pub(super) fn hold(holds: &[Hold]) -> String {
    match holds.len() as u64 {
        0 => "-".to_owned(),
        _ if holds.iter().any(|hold| hold.user.is_none()) => "all".to_owned(),
        users => counted(users, "user"),
    }
}

/// After a hold was set or ended.
pub(super) fn held(response: &Response) -> String {
    let Response::GatewayMailbox(mailbox) = response else { return String::new() };
    let address = safe(&mailbox.address);
    if mailbox.holds.is_empty() {
        return format!("Nothing is held in {address} any more.\n");
    }
    let mut text = format!(
        "What is held in {address} stays, whatever retention says and clients delete:\n{}",
        hold_lines(&mailbox.holds)
    );
    if mailbox.holds.iter().all(|hold| hold.user.is_some()) {
        text.push_str("INBOX, Unassigned and Quarantine are not held by a hold on a user: one on all of it holds them.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Timestamp;

    #[test]
    fn holds_are_told_in_a_word_and_in_lines() {
        let at = Timestamp::from_unix_ms(1_794_787_200_000);
        let on = |user: Option<&str>| Hold {
            user: user.map(str::to_owned),
            at,
            actor: "cli".to_owned(),
            reason: "Case\u{1b}[2J".to_owned(),
        };
        assert_eq!(hold(&[]), "-");
        assert_eq!(hold(&[on(Some("a")), on(Some("b"))]), "2 users");
        assert_eq!(hold(&[on(Some("a")), on(None)]), "all");
        let lines = hold_lines(&[on(Some("a")), on(None)]);
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.contains("user a, since 2026-11-16") && lines.contains("all of it"), "{lines}");
        assert!(!lines.contains('\u{1b}'), "{lines:?}");
    }

    #[test]
    fn what_came_back_is_told_with_its_uids_and_what_is_left() {
        let view = UndeletedView {
            folder: "INBOX".to_owned(),
            applied: true,
            entries: 4,
            uids: vec![(7, 9), (12, 12)],
            skipped_due: 1,
            shown_as_before: 2,
            left: vec![RecoverableView {
                path: "Users/a/Journal Incoming".to_owned(),
                entries: 2,
                octets: 20,
                oldest: Timestamp::from_unix_ms(0),
                freed_from: None,
            }],
            ..UndeletedView::default()
        };
        let text = undeleted(&Response::Undeleted(Box::new(view)));
        for part in [
            "4 messages came back to INBOX, as UID 7-9, 12.",
            "\n2 of them deleted before maildrop was last set",
            "1 message stayed deleted",
            "a hold ends",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
