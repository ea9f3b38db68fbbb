//! `directory`: each source can be read, names users, contests no address, drops no shared mailbox, and keeps nobody waiting.
//!
//! Files are read, as a server reads them. What is asked over the network is not asked: how that stood at its last try tells, as the
//! server says, else as it was kept. `daybook credential test` asks.

use super::{Finding, Subject, finding::or_ok, span};
use crate::config::DirectorySource;
use crate::directory::{Conflict, Directory, SourceReport, SourceStatus};
use crate::mail::Timestamp;
use std::fs;
use std::time::UNIX_EPOCH;

pub(super) const NAME: &str = "directory";
/// Conflicts of one source shown; the rest is counted.
const CONFLICTS_SHOWN: usize = 3;

pub(super) fn check(subject: &Subject, now: Timestamp) -> Vec<Finding> {
    let sources = &subject.settings.directories;
    if sources.is_empty() {
        return vec![Finding::skipped(
            NAME,
            "no [[directory]] is configured: every message is kept under Unassigned",
        )];
    }
    let command = |arguments: &str| subject.command(arguments);
    let (_, read) = Directory::open(sources);
    let kept = Directory::open_unread(sources, &subject.settings.data_dir);
    let told = subject.view.examined().map(|examined| examined.directories.clone()).unwrap_or_default();
    let by_server = subject.view.server_runs() && !told.is_empty();
    let standing = if told.is_empty() { kept.sources() } else { told };
    let mut good = Vec::new();
    let mut findings = Vec::new();
    for (source, report) in sources.iter().zip(&read.sources) {
        let status = standing.iter().find(|status| status.name == source.name);
        let mut faults = Vec::new();
        if source.kind.path().is_some() {
            faults.extend(unread(report));
        } else {
            faults.extend(unasked(&command, source, status));
        }
        // What a server has in force is more than one list says: another source may name the same address.
        let conflicts = match by_server || source.kind.path().is_none() {
            true => kept.conflicts(&source.name),
            false => report.conflicts.clone(),
        };
        faults.extend(contested(&report.place, &conflicts));
        faults.extend(status.into_iter().flat_map(|status| waiting(&command, status, now)));
        if faults.is_empty() {
            good.push(match status.filter(|_| source.kind.path().is_none()) {
                Some(status) => format!("{}: {} users{}", status.name, status.users, asked(status, now)),
                None => format!("{}: {} users{}", report.place, report.users, age(report, now)),
            });
        }
        findings.extend(faults);
    }
    or_ok(findings, NAME, || good.join(", "))
}

fn age(source: &SourceReport, now: Timestamp) -> String {
    let modified = fs::metadata(&source.place).and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.map(|ms| format!(", changed {} ago", span((now.unix_ms() - ms).max(0)))).unwrap_or_default()
}

fn asked(status: &SourceStatus, now: Timestamp) -> String {
    let since = |at: Timestamp| span((now.unix_ms() - at.unix_ms()).max(0));
    status.last_good.map(|at| format!(", read {} ago", since(at))).unwrap_or_default()
}

/// What is wrong with a file.
fn unread(source: &SourceReport) -> Option<Finding> {
    let (path, error) = (&source.place, source.error.as_ref()?);
    let fix = format!(
        "mend {path}: the last good list stays in force; where there never was one, nobody is known and every message is kept \
         under Unassigned. It is read again as soon as it changes"
    );
    Some(Finding::problem(NAME, format!("{path}: {error}"), fix))
}

/// How the last try of a source went that is asked over the network.
fn unasked(
    command: &dyn Fn(&str) -> String,
    source: &DirectorySource,
    status: Option<&SourceStatus>,
) -> Option<Finding> {
    let name = &source.name;
    let again = command(&format!("user sync {name}"));
    let never = || {
        let seen =
            format!("{name}: was never read: nobody is known of it, and their mail is kept under Unassigned");
        Finding::warning(NAME, seen, format!("start the server, or read it now: `{again}`"))
    };
    let Some(status) = status.filter(|status| status.last_try.is_some()) else { return Some(never()) };
    let fault = status.error.as_ref()?;
    let advice = fault.advice.as_deref().map(|advice| format!("{advice}; then ")).unwrap_or_default();
    let seen = format!("{name}: {fault}; the {} users it named before stay in force", status.users);
    Some(Finding::problem(NAME, seen, format!("{advice}try it: `{again}`")))
}

/// What waits for a person, whatever the kind of source.
fn waiting(command: &dyn Fn(&str) -> String, status: &SourceStatus, now: Timestamp) -> Vec<Finding> {
    let name = &status.name;
    let mut findings = Vec::new();
    if let Some(plan) = &status.pending {
        let why: Vec<String> = plan.why.iter().map(ToString::to_string).collect();
        let age = span((now.unix_ms() - plan.made_at.unix_ms()).max(0));
        let seen = format!("{name}: a change has waited for an approval for {age}: {}", why.join("; "));
        let fix = format!(
            "look at it: `{}`; if it is right: `{}`; if not, mend the source, and the next reading takes its place",
            command(&format!("user sync {name} --dry-run")),
            command(&format!("user sync --apply {}", plan.plan))
        );
        findings.push(Finding::warning(NAME, seen, fix));
    } else if status.held {
        let seen = format!(
            "{name}: somebody went back to an earlier list, or a later one cannot be used: it holds until a reading is approved"
        );
        let fix = format!("see what the source says now: `{}`", command(&format!("user sync {name}")));
        findings.push(Finding::warning(NAME, seen, fix));
    }
    if status.shared_dropped > 0 {
        let seen = format!(
            "{name}: its filters leave out {} shared mailboxes, whose mail is kept under Unassigned",
            status.shared_dropped
        );
        let fix = format!(
            "see which, and why: `{}`; have the filter's groups hold them, or set include_shared = false if that is meant",
            command(&format!("user sync {name} --dry-run"))
        );
        findings.push(Finding::warning(NAME, seen, fix));
    }
    let fix = "see to data_dir: free space, and its owner and rights. A damaged list: restore the file from a backup while the \
               server is stopped, or approve what the source says now (`daybook user plans`), which does not know what was known \
               of whose an address was";
    findings.extend(
        status.state_faults.iter().map(|fault| Finding::warning(NAME, format!("{name}: {fault}"), fix)),
    );
    findings
}

fn contested(place: &str, conflicts: &[Conflict]) -> Vec<Finding> {
    let shown = conflicts.iter().take(CONFLICTS_SHOWN).map(ToString::to_string);
    let mut findings: Vec<Finding> = shown
        .map(|conflict| {
            let fix = format!("take the address, or the user, out of one of the two in {place}");
            Finding::warning(NAME, format!("{place}: {conflict}"), fix)
        })
        .collect();
    let more = conflicts.len().saturating_sub(CONFLICTS_SHOWN);
    if more > 0 {
        let fix = "the log lists them at each reload: `journalctl -u daybook -g directory.conflict`";
        let seen = format!("{place}: {more} more addresses or users are contested");
        findings.push(Finding::warning(NAME, seen, fix));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use serde_json::{Value, json};

    fn check(list: &str, expect: &[(Status, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        fs::write(&path, list).unwrap();
        let (_, report) = Directory::open(&[DirectorySource::file("users", path)]);
        let source = &report.sources[0];
        let found: Vec<Finding> =
            unread(source).into_iter().chain(contested(&source.place, &source.conflicts)).collect();
        are(&found, expect);
    }

    fn are(found: &[Finding], expect: &[(Status, &str)]) {
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, (status, word)) in found.iter().zip(expect) {
            assert_eq!(found.status, *status);
            assert!(found.seen.contains(word), "{word} is not in {found:?}");
        }
    }

    /// A source that was read a minute ago, but for what is changed of that.
    fn status(changes: Value) -> SourceStatus {
        let mut status = json!({
            "name": "entra", "kind": "graph", "place": "graph", "users": 9, "gone": 0, "is_good": true,
            "last_good": "2026-11-22T09:59:00Z", "last_try": "2026-11-22T09:59:00Z", "error": null, "failures": 0,
            "snapshot": 3, "taken_at": null, "pending": null, "held": false, "next_due": null, "state_faults": [],
        });
        let Value::Object(changes) = changes else { panic!("{changes}") };
        status.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn judges_how_a_source_stands() {
        let command = |arguments: &str| format!("daybook {arguments}");
        let now = Timestamp::parse("2026-11-22T10:00:00Z").unwrap();
        let source = DirectorySource { name: "entra".to_owned(), ..DirectorySource::file("entra", "unused") };
        let judged = |changes: Value| {
            let status = status(changes);
            let mut found: Vec<Finding> = unasked(&command, &source, Some(&status)).into_iter().collect();
            found.extend(waiting(&command, &status, now));
            found
        };
        are(&judged(json!({})), &[]);
        are(
            &unasked(&command, &source, None).into_iter().collect::<Vec<_>>(),
            &[(Status::Warning, "never read")],
        );
        are(&judged(json!({ "last_try": null })), &[(Status::Warning, "never read")]);
        let failed = judged(json!({ "error": {
            "kind": "refused", "text": "AADSTS7000222: expired", "advice": "make a new secret" } }));
        are(&failed, &[(Status::Problem, "7000222: expired; the 9 users it named before stay in force")]);
        assert_eq!(
            failed[0].fix.as_deref(),
            Some("make a new secret; then try it: `daybook user sync entra`")
        );
        let plan = json!({
            "plan": "entra-3-0a1b2c3d", "source": "entra", "made_at": "2026-11-22T09:00:00Z", "base": 3,
            "why": [{ "alarm": "held" }], "users_before": 9, "users": 2, "diff": crate::directory::Diff::default() });
        let waits = judged(json!({ "pending": plan, "held": true }));
        are(&waits, &[(Status::Warning, "has waited for an approval for 60 minutes")]);
        assert!(
            waits[0].fix.as_deref().is_some_and(|fix| fix.contains("--apply entra-3-0a1b2c3d")),
            "{waits:?}"
        );
        are(&judged(json!({ "held": true })), &[(Status::Warning, "went back to an earlier list")]);
        are(&judged(json!({ "shared_dropped": 4 })), &[(Status::Warning, "leave out 4 shared mailboxes")]);
        are(
            &judged(json!({ "state_faults": ["3.jsonl is cut off"] })),
            &[(Status::Warning, "3.jsonl is cut off")],
        );
    }

    #[test]
    fn judges_a_list() {
        let user = |id: &str| {
            format!("[[user]]\nid = '{id}'\nname = 'N'\naddresses = ['{id}@x.example', 'info@x.example']\n")
        };
        check(&user("a"), &[]);
        check("", &[(Status::Problem, "names no user")]);
        check("[[user]]\nid = 3", &[(Status::Problem, "users.toml:2")]);
        check(&[user("a"), user("b")].concat(), &[(Status::Warning, "info@x.example")]);
        let five: String = ["a", "b", "c", "d", "e"].map(user).concat();
        check(
            &five,
            &[
                (Status::Warning, "info"),
                (Status::Warning, "info"),
                (Status::Warning, "info"),
                (Status::Warning, "1 more"),
            ],
        );
    }
}
