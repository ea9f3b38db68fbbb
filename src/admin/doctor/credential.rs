//! `credential`: every application in Entra ID can prove who it is, for a while yet.

use super::{Finding, Scope, Status, Subject, finding::or_ok};
use crate::admin::credential::{Depth, configured, examine};
use crate::mail::Timestamp;

pub(super) const NAME: &str = "credential";

pub(super) fn check(subject: &Subject, scope: &Scope, now: Timestamp) -> Vec<Finding> {
    let all = configured(&subject.settings);
    if all.is_empty() {
        return vec![Finding::skipped(NAME, "no application in Entra ID is configured")];
    }
    let depth = if scope.offline { Depth::Here } else { Depth::Token };
    let mut good = Vec::new();
    let mut findings = Vec::new();
    for configured in &all {
        let tried = examine(configured, depth, now);
        let faults = tried.steps.iter().filter(|step| !matches!(step.status, Status::Ok | Status::Skipped));
        let before = findings.len();
        findings.extend(faults.map(|step| Finding {
            name: NAME,
            // A check that cannot look says no more than that.
            status: if tried.unreachable && step.name == "token" { Status::Warning } else { step.status },
            seen: format!("{}: {}", tried.name, step.seen),
            fix: step.fix.clone(),
        }));
        if findings.len() == before {
            let until = tried.ends.map_or("end not known".to_owned(), |ends| format!("until {ends}"));
            good.push(format!("{} ({}): {until}", tried.name, tried.kind));
        }
    }
    or_ok(findings, NAME, || good.join(", "))
}
