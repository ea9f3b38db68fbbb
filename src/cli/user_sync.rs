//! `daybook user sync`, `plans`, `rollback` and `find`.

use super::args::{FindArguments, RollbackArguments, SyncArguments};
use super::output::{Failure, counted, grouped, safe, table, time};
use super::{print_response, reach};
use crate::admin::{OpError, Request, Response, SyncsView};
use crate::config::Settings;
use crate::directory::{
    Changes, Claim, Diff, FilteredOut, FoundAddress, Outcome, PlanSummary, SnapshotSummary, SyncReport,
};
use crate::observe;

/// Lines of one kind that are shown; the rest is counted.
const LINES_MAX: usize = 20;
/// What [`FilteredOut::kind`] calls a shared mailbox.
const SHARED: &str = "shared";

/// `user sync`: code 3 when a source could not be read, 4 when a change waits for an approval.
pub(super) fn sync(settings: &Settings, arguments: SyncArguments, json: bool) -> Result<u8, Failure> {
    let SyncArguments { source, dry_run, apply } = arguments;
    match apply {
        Some(plan) => synced(settings, Request::ApplyPlan { plan }, json),
        None => synced(settings, Request::SyncUsers { source, dry_run }, json),
    }
}

/// `user rollback`
pub(super) fn rollback(settings: &Settings, arguments: RollbackArguments, json: bool) -> Result<u8, Failure> {
    let RollbackArguments { source, to, list } = arguments;
    if list {
        return super::ask(settings, Request::ListSnapshots { source }, json, snapshots);
    }
    synced(settings, Request::RollBackUsers { source, to }, json)
}

/// `user plans`
pub(super) fn plans(settings: &Settings, json: bool) -> Result<u8, Failure> {
    super::ask(settings, Request::ListPlans, json, |response| match response {
        Response::Plans(plans) if plans.is_empty() => "Nothing waits for an approval.\n".to_owned(),
        Response::Plans(plans) => plans.iter().map(plan_text).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    })
}

/// `user find`: code 1 when nobody has, had or wants the address.
pub(super) fn find(settings: &Settings, arguments: FindArguments, json: bool) -> Result<u8, Failure> {
    let at = arguments.at.map(|at| at.before(observe::now()));
    let request = Request::FindAddress { address: arguments.address, at };
    super::ask(settings, request, json, |response| match response {
        Response::FoundAddresses(found) => {
            let lines: String = found.iter().map(found_text).collect();
            let legend = at.map_or_else(
                || "(* mail of now goes there)".to_owned(),
                |at| format!("(* mail of {} goes there)", time(at)),
            );
            format!("{lines}{legend}\n")
        }
        _ => String::new(),
    })
}

fn synced(settings: &Settings, request: Request, json: bool) -> Result<u8, Failure> {
    let response = reach::perform(settings, request)?;
    let Response::Synced(view) = &response else {
        return Err(OpError::Unavailable("the server gave another answer than asked for".to_owned()).into());
    };
    print_response(&response, json, |_| view_text(view))?;
    Ok(view.exit_code())
}

fn view_text(view: &SyncsView) -> String {
    if view.sources.is_empty() && view.refused.is_empty() {
        return "No [[directory]] is configured.\n".to_owned();
    }
    let mut parts: Vec<String> = view.sources.iter().map(report_text).collect();
    let refused = view
        .refused
        .iter()
        .map(|refused| format!("{}: not tried: {}\n", safe(&refused.source), safe(&refused.why)));
    parts.extend(refused);
    parts.join("\n")
}

fn report_text(report: &SyncReport) -> String {
    let mut text = format!("{}\n", headline(report));
    match &report.outcome {
        Outcome::Failed(fault) => {
            for line in fault.text.lines().take(LINES_MAX) {
                text.push_str(&format!("  {}\n", safe(line)));
            }
            push_more(&mut text, fault.text.lines().count());
            if let Some(advice) = &fault.advice {
                text.push_str(&format!("  What to do: {}\n", safe(advice)));
            }
            return text;
        }
        Outcome::Pending { why, .. } | Outcome::WouldBePending { why } => {
            for why in why {
                text.push_str(&format!("  It is not applied by itself: {}\n", safe(&why.to_string())));
            }
        }
        Outcome::Unchanged | Outcome::Applied { .. } | Outcome::WouldApply => {}
    }
    text.push_str(&diff_text(&report.diff));
    text.push_str(&left_out(report));
    if let Outcome::Pending { plan, .. } = &report.outcome {
        text.push_str(&format!("If this is right: daybook user sync --apply {}\n", safe(plan)));
    }
    text
}

fn headline(report: &SyncReport) -> String {
    let name = format!("{} ({})", safe(&report.source), safe(&report.place));
    let (users, before) = (users(report.users), users(report.users_before));
    match &report.outcome {
        Outcome::Unchanged => format!("{name}: nothing new, {users}"),
        Outcome::Applied { snapshot } => {
            format!(
                "{name}: {users} in force as list {snapshot}, {} before",
                grouped(report.users_before as u64)
            )
        }
        Outcome::Pending { plan, .. } => {
            format!("{name}: NOT APPLIED, {before} stay; {users} would be, as plan {}", safe(plan))
        }
        Outcome::WouldApply => format!("{name}: {users} would be in force, {before} are"),
        Outcome::WouldBePending { .. } => {
            format!("{name}: {users} would be in force, {before} are; it would WAIT FOR AN APPROVAL")
        }
        Outcome::Failed(_) => format!("{name}: NOT READ, {before} stay in force"),
    }
}

fn users(count: usize) -> String {
    counted(count as u64, "user")
}

fn push_more(text: &mut String, count: usize) {
    let more = count.saturating_sub(LINES_MAX);
    if more > 0 {
        text.push_str(&format!("    and {} more (--json lists them)\n", grouped(more as u64)));
    }
}

/// A heading with its count, and a line for each of the first.
fn section<T>(text: &mut String, heading: &str, (count, listed): (usize, &[T]), line: impl Fn(&T) -> String) {
    if count == 0 {
        return;
    }
    text.push_str(&format!("  {heading}: {}\n", grouped(count as u64)));
    for item in listed.iter().take(LINES_MAX) {
        text.push_str(&format!("    {}\n", line(item)));
    }
    push_more(text, count);
}

fn changes<T>(changes: &Changes<T>) -> (usize, &[T]) {
    (changes.count, &changes.listed)
}

fn diff_text(diff: &Diff) -> String {
    let mut text = String::new();
    let user = |sign: &'static str| {
        move |user: &crate::directory::UserChange| {
            format!("{sign} {} <{}> ({})", safe(&user.name), safe(&user.primary), safe(&user.id))
        }
    };
    section(&mut text, "New users", changes(&diff.added), user("+"));
    section(&mut text, "Of these, back after having been gone", changes(&diff.returned), user("+"));
    section(&mut text, "Gone", changes(&diff.removed), user("-"));
    section(&mut text, "Renamed", changes(&diff.renamed), |renamed| {
        let before = format!("{} <{}>", safe(&renamed.name_before), safe(&renamed.primary_before));
        format!("~ {before} is {} <{}> ({})", safe(&renamed.name), safe(&renamed.primary), safe(&renamed.id))
    });
    section(&mut text, "New addresses", changes(&diff.addresses_added), |added| {
        format!("+ {} ({})", safe(&added.address), safe(&added.id))
    });
    section(&mut text, "Addresses gone", changes(&diff.addresses_removed), |removed| {
        format!("- {} ({})", safe(&removed.address), safe(&removed.id))
    });
    section(&mut text, "Addresses that lead to another", changes(&diff.addresses_moved), |moved| {
        format!("~ {}: from {} to {}", safe(&moved.address), safe(&moved.from), safe(&moved.to))
    });
    text
}

/// Who is in the directory and is no user, with reasons. Shared mailboxes stand apart: nobody means to lose them.
fn left_out(report: &SyncReport) -> String {
    let mut text = String::new();
    let line = |out: &&FilteredOut| {
        let address = out.address.as_deref().unwrap_or("no address");
        format!("{} <{}> ({}): {}", safe(&out.name), safe(address), safe(&out.id), safe(&out.reason))
    };
    let is_shared = |out: &&FilteredOut| out.is_shared || out.kind == SHARED;
    let (shared, others): (Vec<_>, Vec<_>) = report.filtered.iter().partition(is_shared);
    if !shared.is_empty() {
        let heading =
            "SHARED MAILBOXES LEFT OUT; their mail will be in Unassigned, unless include_shared = true";
        section(&mut text, heading, (shared.len(), &shared), line);
    }
    let (doubtful, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|out| out.may_be_shared);
    let heading = "LEFT OUT, MAY BE SHARED MAILBOXES: disabled, and with an Exchange plan";
    section(&mut text, heading, (doubtful.len(), &doubtful), line);
    let more = usize::try_from(report.more_filtered).unwrap_or(usize::MAX);
    section(&mut text, "Left out", (others.len().saturating_add(more), &others), line);
    let count = |listed: usize, more: u64| listed.saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
    let skipped = (count(report.skipped.len(), report.more_skipped), &*report.skipped);
    section(&mut text, "Entries that cannot be used", skipped, |entry| {
        format!("{}: {}", safe(&entry.entry), safe(&entry.why))
    });
    let conflicts = (count(report.conflicts.len(), report.more_conflicts), &*report.conflicts);
    section(&mut text, "Claimed twice", conflicts, |conflict| safe(&conflict.to_string()));
    text
}

fn plan_text(plan: &PlanSummary) -> String {
    let (name, source) = (safe(&plan.plan), safe(&plan.source));
    let (would, now) = (users(plan.users), users(plan.users_before));
    let mut text = format!("{name}: {source}, since {}; {would} instead of {now}\n", time(plan.made_at));
    for why in &plan.why {
        text.push_str(&format!("  {}\n", safe(&why.to_string())));
    }
    text.push_str(&diff_text(&plan.diff));
    text.push_str(&format!("If this is right: daybook user sync --apply {name}\n"));
    text
}

fn snapshots(response: &Response) -> String {
    let Response::Snapshots(lists) = response else { return String::new() };
    if lists.is_empty() {
        return "No list is kept yet.\n".to_owned();
    }
    let row = |list: &SnapshotSummary| {
        let in_force = if list.in_force { "in force" } else { "" };
        let number = list.number.to_string();
        vec![number, time(list.taken_at), grouped(list.users as u64), in_force.to_owned(), safe(&list.place)]
    };
    table(&["LIST", "SINCE", "USERS", "", "READ FROM"], &lists.iter().map(row).collect::<Vec<_>>())
}

fn found_text(found: &FoundAddress) -> String {
    let who = format!("{} ({})", safe(&found.name), safe(&found.id));
    let how = match &found.claim {
        Claim::Owner { since: None } => format!("is {who}'s"),
        Claim::Owner { since: Some(since) } => format!("is {who}'s since {}", time(*since)),
        Claim::Former { from, gone, until } => {
            let from = from.map_or_else(String::new, |from| format!("from {} ", time(from)));
            let gone =
                gone.map_or_else(String::new, |gone| format!("; the user is gone since {}", time(gone)));
            let verb = if *until > observe::now() { "is still" } else { "was" };
            format!("{verb} {who}'s, {from}until {}{gone}", time(*until))
        }
        Claim::Refused { kept_by } => format!("is wanted for {who} too, and {} keeps it", safe(kept_by)),
        Claim::LeftOut => {
            format!("is {who}'s, who is left out: an earlier source has or had a user of this id")
        }
        Claim::FilteredOut { reason } => format!("is {who}'s, who is no user: {}", safe(reason)),
    };
    let then = if found.then { "* " } else { "  " };
    format!("{then}{}: {} {how}\n", safe(&found.source), safe(&found.address))
}
