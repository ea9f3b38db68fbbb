//! `directory`: each source can be read, names users, and contests no address.

use super::{Finding, Subject, finding::or_ok, span};
use crate::directory::{Directory, SourceReport};
use crate::mail::Timestamp;
use std::fs;
use std::time::UNIX_EPOCH;

pub(super) const NAME: &str = "directory";
/// Conflicts of one source shown; the rest is counted.
const CONFLICTS_SHOWN: usize = 3;

pub(super) fn check(subject: &Subject, now: Timestamp) -> Vec<Finding> {
    let (_, report) = Directory::open(&subject.settings.directories);
    if report.sources.is_empty() {
        return vec![Finding::skipped(
            NAME,
            "no [[directory]] is configured: every message is kept under Unassigned",
        )];
    }
    let mut good = Vec::new();
    let mut findings = Vec::new();
    for source in &report.sources {
        let faults = judge(source);
        if faults.is_empty() {
            good.push(format!("{}: {} users{}", source.place, source.users, age(source, now)));
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

fn judge(source: &SourceReport) -> Vec<Finding> {
    let path = &source.place;
    if let Some(error) = &source.error {
        let fix = format!(
            "mend {path}: a server that runs keeps the last good list, one that starts now knows nobody and keeps every \
             message under Unassigned. It is read again as soon as it changes"
        );
        return vec![Finding::problem(NAME, format!("{path}: {error}"), fix)];
    }
    let shown = source.conflicts.iter().take(CONFLICTS_SHOWN).map(ToString::to_string);
    let mut findings: Vec<Finding> = shown
        .map(|conflict| {
            let fix = format!("take the address, or the user, out of one of the two in {path}");
            Finding::warning(NAME, format!("{path}: {conflict}"), fix)
        })
        .collect();
    let more = source.conflicts.len().saturating_sub(CONFLICTS_SHOWN);
    if more > 0 {
        let fix = "the log lists them at each reload: `journalctl -u daybook -g directory.conflict`";
        findings.push(Finding::warning(
            NAME,
            format!("{path}: {more} more addresses or users are contested"),
            fix,
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::config::DirectorySource;

    fn check(list: &str, expect: &[(Status, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        fs::write(&path, list).unwrap();
        let (_, report) = Directory::open(&[DirectorySource::file("users", path)]);
        let found = judge(&report.sources[0]);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, (status, word)) in found.iter().zip(expect) {
            assert_eq!(found.status, *status);
            assert!(found.seen.contains(word), "{word} is not in {found:?}");
        }
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
