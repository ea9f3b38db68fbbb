//! What syncs of users leave in the log and in the metrics: a bounded number of lines each.

use crate::directory::{
    Conflict, Outcome, ReloadReport, SourceFault, SourceReport, StateFault, StateFaultKind, SyncReport,
    Trigger,
};
use crate::mail::Untrusted;
use crate::observe::metrics;

/// Conflicts, and addresses that moved, that one sync logs one by one; the rest is counted.
const LOGGED_MAX: usize = 20;
/// Octets of an error that are logged: a list may have a fault in each line.
const ERROR_OCTETS_MAX: usize = 4_000;
/// What a person need not look after: the next try may find it mended.
const PASSING: [&str; 3] = ["unreachable", "incomplete", "changing"];
/// The program is ending: no fault of the source.
const STOPPED: &str = "stopped";
/// The kind of source whose events were there before there were others.
const FILE: &str = "file";

/// Whether what went wrong may end without anybody's doing.
pub(crate) fn is_passing(fault: &SourceFault) -> bool {
    PASSING.contains(&fault.kind.as_str())
}

/// Whether it says anything about the source.
pub(crate) fn is_fault(fault: &SourceFault) -> bool {
    fault.kind != STOPPED
}

/// A text of at most so many octets.
pub(crate) fn cut(text: &str, octets_max: usize) -> String {
    match text.char_indices().map(|(at, _)| at).find(|at| *at >= octets_max) {
        Some(end) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Entries that are in the directory and are no users.
fn filtered(report: &SyncReport) -> u64 {
    report.more_filtered.saturating_add(report.filtered.len() as u64)
}

/// The number of the list that was put in force.
fn snapshot(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Applied { snapshot } => Some(*snapshot),
        _ => None,
    }
}

/// Logs and counts how a sync went that was no dry run.
pub(crate) fn log_sync(report: &SyncReport) {
    report.state_faults.iter().for_each(|fault| log_state_fault(&report.source, fault));
    log_outcome(report);
}

fn log_state_fault(source: &str, fault: &StateFault) {
    let what = Untrusted(&fault.text);
    match fault.kind {
        StateFaultKind::Damaged => tracing::error!(event = "directory.snapshot_damaged", source, %what),
        StateFaultKind::Unkept => tracing::error!(event = "directory.plan_not_kept", source, %what),
        StateFaultKind::Clock => tracing::warn!(event = "directory.clock_was_ahead", source, %what),
    }
}

fn log_outcome(report: &SyncReport) {
    count(report);
    match report.outcome.fault() {
        Some(fault) => log_fault(&report.source, &report.kind, &report.place, report.users_before, fault),
        None => log_read(report),
    }
}

fn count(report: &SyncReport) {
    let fault = report.outcome.fault().filter(|fault| is_fault(fault));
    metrics::directory_read(&report.source, fault.map(|fault| &*fault.kind), report.took_ms as f64 / 1_000.0);
    if report.outcome.fault().is_none() {
        metrics::directory_filtered(&report.source, filtered(report));
    }
}

fn log_read(report: &SyncReport) {
    let SyncReport { source, diff, users, .. } = report;
    if let Outcome::Pending { plan, why } = &report.outcome {
        let why = why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let (added, removed) = (diff.added.count, diff.removed.count);
        let advice = format!("daybook user plans; if it is right: daybook user sync --apply {plan}");
        tracing::warn!(
            event = "directory.plan_waiting",
            source,
            plan,
            why = %Untrusted(&why),
            users = report.users_before,
            would_be = users,
            added,
            removed,
            advice,
        );
        return;
    }
    let changed = snapshot(&report.outcome).is_some();
    if report.kind == FILE {
        let path = &report.place;
        tracing::info!(event = "directory.reloaded", source, path, users, changed);
    } else {
        log_synced(report);
    }
    if changed || report.by != Trigger::Schedule {
        log_conflicts(source, &report.place, &report.conflicts, report.more_conflicts);
    }
    log_moves(report);
}

fn log_synced(report: &SyncReport) {
    let SyncReport { source, diff, users, .. } = report;
    tracing::info!(
        event = "directory.synced",
        source,
        by = report.by.as_str(),
        outcome = report.outcome.as_str(),
        users,
        added = diff.added.count,
        removed = diff.removed.count,
        changed = diff.renamed.count + diff.addresses_added.count + diff.addresses_removed.count,
        moved = diff.addresses_moved.count,
        filtered = filtered(report),
        skipped = report.skipped.len() as u64 + report.more_skipped,
        conflicts = report.conflicts.len() as u64 + report.more_conflicts,
        snapshot = snapshot(&report.outcome),
        requests = report.requests,
        ms = report.took_ms,
    );
}

fn log_fault(source: &str, kind: &str, path: &str, users: usize, fault: &SourceFault) {
    if !is_fault(fault) {
        return;
    }
    let text = cut(&fault.text, ERROR_OCTETS_MAX);
    let advice = fault.advice.as_deref();
    if kind == FILE {
        tracing::error!(event = "directory.kept", source, path, users, reason = %Untrusted(&text));
    } else if is_passing(fault) {
        tracing::warn!(event = "directory.sync_failed", source, users, kind = fault.kind, error = %Untrusted(&text), advice);
    } else {
        tracing::error!(event = "directory.sync_failed", source, users, kind = fault.kind, error = %Untrusted(&text), advice);
    }
}

fn log_conflicts(source: &str, path: &str, conflicts: &[Conflict], more: u64) {
    for conflict in conflicts.iter().take(LOGGED_MAX) {
        let conflict = conflict.to_string();
        tracing::warn!(event = "directory.conflict", source, path, conflict = %Untrusted(&conflict));
    }
    let unlogged = more.saturating_add(conflicts.len().saturating_sub(LOGGED_MAX) as u64);
    if unlogged > 0 {
        tracing::warn!(event = "directory.conflict", source, path, unlogged);
    }
}

/// With both ids: mail that is to come goes to another.
fn log_moves(report: &SyncReport) {
    let SyncReport { source, diff, .. } = report;
    if snapshot(&report.outcome).is_none() {
        return;
    }
    let moves = &diff.addresses_moved;
    for moved in moves.listed.iter().take(LOGGED_MAX) {
        let (address, from, to) = (Untrusted(&moved.address), Untrusted(&moved.from), Untrusted(&moved.to));
        tracing::info!(event = "directory.address_moved", source, %address, %from, %to);
    }
    let unlogged = moves.count.saturating_sub(LOGGED_MAX.min(moves.listed.len()));
    if unlogged > 0 {
        tracing::info!(event = "directory.address_moved", source, unlogged);
    }
}

/// Logs that an admin approved a plan.
pub(super) fn log_applied(report: &SyncReport, plan: &str, actor: &str) {
    let SyncReport { source, diff, users, .. } = report;
    tracing::info!(
        event = "directory.applied",
        source,
        plan,
        snapshot = snapshot(&report.outcome),
        users,
        added = diff.added.count,
        removed = diff.removed.count,
        actor,
    );
    log_moves(report);
}

/// Logs that an admin went back to a former list.
pub(super) fn log_rolled_back(report: &SyncReport, actor: &str) {
    let SyncReport { source, users, users_before, .. } = report;
    let list = snapshot(&report.outcome);
    tracing::warn!(event = "directory.rolled_back", source, snapshot = list, users, users_before, actor);
    log_moves(report);
}

/// Logs what is in force of the sources, and what reading those brought that were read; `first`: at the start.
pub(crate) fn log_reload(report: &ReloadReport, first: bool) {
    for source in &report.sources {
        let SourceReport { name, place: path, users, .. } = source;
        source.state_faults.iter().for_each(|fault| log_state_fault(name, fault));
        match &source.sync {
            Some(sync) if first && sync.outcome.fault().is_none() && !sync.outcome.needs_approval() => {
                count(sync);
                tracing::info!(event = "directory.loaded", source = name, path, users);
            }
            // What is wrong on disk has been told of.
            Some(sync) => log_outcome(sync),
            None if first => tracing::info!(event = "directory.loaded", source = name, path, users),
            None => {}
        }
        if first {
            log_conflicts(name, path, &source.conflicts, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("shorter", 5), "short …");
        assert_eq!(cut("zoë and others", 3), "zoë …");
    }
}
