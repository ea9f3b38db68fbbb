//! What a check found.

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Could not be looked at, or was not asked for.
    Skipped,
    /// Works, and will or may not for ever.
    Warning,
    /// Does not work, or is not safe.
    Problem,
}

impl Status {
    /// As output shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Skipped => "skipped",
            Status::Warning => "warning",
            Status::Problem => "problem",
        }
    }
}

/// One thing a check found. Its texts may hold what others wrote: show them through
/// [`Untrusted`](crate::mail::Untrusted).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was seen; why it was skipped.
    pub seen: String,
    /// How to mend it. `None` when there is nothing to mend.
    pub fix: Option<String>,
}

impl Finding {
    pub(in crate::admin) fn ok(name: &'static str, seen: impl Into<String>) -> Finding {
        Finding { name, status: Status::Ok, seen: seen.into(), fix: None }
    }

    pub(in crate::admin) fn skipped(name: &'static str, why: impl Into<String>) -> Finding {
        Finding { name, status: Status::Skipped, seen: why.into(), fix: None }
    }

    pub(in crate::admin) fn warning(
        name: &'static str,
        seen: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding { name, status: Status::Warning, seen: seen.into(), fix: Some(fix.into()) }
    }

    pub(in crate::admin) fn problem(
        name: &'static str,
        seen: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding { name, status: Status::Problem, seen: seen.into(), fix: Some(fix.into()) }
    }
}

/// `findings`, or that all is well when there are none.
pub(super) fn or_ok(
    findings: Vec<Finding>,
    name: &'static str,
    seen: impl FnOnce() -> String,
) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::ok(name, seen())] } else { findings }
}
