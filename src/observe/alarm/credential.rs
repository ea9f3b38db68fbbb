//! The alarm about credentials that end: without one, no users are read and no mail is pulled.

use super::{Cause, Facts, Severity, Verdict};
use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};

/// An ending credential is told of when so many days are left, and when it has ended. A new one may need an order and another
/// department.
pub const CREDENTIAL_STAGES_DAYS: [u16; 6] = [60, 28, 14, 7, 1, 0];

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What is known of one credential of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFacts {
    /// Of the source of users, or the puller.
    pub name: String,
    /// When it ends; `None` when that is not known.
    pub ends: Option<Timestamp>,
}

/// A credential that ends, as the alarm tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialEnding {
    /// Of the source of users, or the puller.
    pub name: String,
    /// When.
    pub ends: Timestamp,
    /// No more days than this are left: the stage that was told of.
    pub within_days: u16,
}

/// No mail is lost by it: who is known stays, and what is not pulled waits.
pub(super) fn expiring(facts: &Facts, raised: Option<&Cause>, now: Timestamp) -> Verdict {
    let before = match raised {
        Some(Cause::CredentialExpiring { credentials }) => credentials.as_slice(),
        _ => &[],
    };
    let mut credentials = Vec::new();
    for CredentialFacts { name, ends } in &facts.credentials {
        // What cannot be found out now is as it was.
        let told = before.iter().find(|told| told.name == *name);
        let Some(ends) = ends.or(told.map(|told| told.ends)) else { continue };
        let left_ms = ends.unix_ms().saturating_sub(now.unix_ms());
        let is_reached = |days: &u16| left_ms <= i64::from(*days) * DAY_MS;
        if let Some(within_days) = CREDENTIAL_STAGES_DAYS.into_iter().filter(is_reached).min() {
            credentials.push(CredentialEnding { name: name.clone(), ends, within_days });
        }
    }
    if credentials.is_empty() {
        return Verdict::Good;
    }
    credentials.sort_by_key(|credential| credential.ends);
    Verdict::Bad(Severity::Warning, Cause::CredentialExpiring { credentials }, now)
}

/// One ends that did not before, or has come a stage nearer.
pub(super) fn is_nearer(credentials: &[CredentialEnding], before: &[CredentialEnding]) -> bool {
    credentials
        .iter()
        .any(|one| !before.iter().any(|had| had.name == one.name && had.within_days <= one.within_days))
}
