//! Alarms about where users come from: a change that waits for a person, and a source that cannot be read.
//!
//! Both are about the gateway, and name the sources: a directory server that is down may be asked by several of them.

use super::{Cause, Facts, Severity, Verdict, elapsed_ms};
use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};

/// What a person must mend may last so long before somebody is called: a list that is being edited has faults for a moment.
const FAULT_MS: i64 = 10 * 60 * 1000;
/// What mends itself may last so long: a directory server is away for a while when it starts anew, and users seldom change.
const OUTAGE_MS: i64 = 3 * 60 * 60 * 1000;

/// What is known of one source of users, or of a puller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// What the configuration calls it.
    pub name: String,
    /// A change of it that waits for a person's word.
    pub plan: Option<PlanFacts>,
    /// Why its last try failed; `None` when it did not.
    pub failure: Option<FailureFacts>,
}

/// A change of a source that was not applied by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFacts {
    /// By what name it is applied.
    pub plan: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// What is too large about it.
    pub why: String,
}

/// A source that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureFacts {
    /// The first of the tries that have failed since the last good one.
    pub since: Timestamp,
    /// What is wrong, in a line.
    pub why: String,
    /// What to do, where something particular can be said.
    pub advice: Option<String>,
    /// It may end without anybody's doing: a network, a server that starts anew.
    pub mends_itself: bool,
}

/// A change that waits, as the alarm tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanWaiting {
    /// Of which source.
    pub source: String,
    /// By what name it is applied.
    pub plan: String,
    /// Why it waits.
    pub why: String,
}

/// A source that cannot be read, as the alarm tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFailing {
    /// Which one.
    pub source: String,
    /// Since when.
    pub since: Timestamp,
    /// What is wrong.
    pub why: String,
    /// What to do, where something particular can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// No mail is lost by it: who was there stays.
pub(super) fn plans(facts: &Facts, now: Timestamp) -> Verdict {
    let mut since = now;
    let mut plans = Vec::new();
    for source in &facts.directory {
        let Some(plan) = &source.plan else { continue };
        since = since.min(plan.since);
        let (name, plan, why) = (source.name.clone(), plan.plan.clone(), plan.why.clone());
        plans.push(PlanWaiting { source: name, plan, why });
    }
    match plans.is_empty() {
        true => Verdict::Good,
        false => Verdict::Bad(Severity::Warning, Cause::DirectoryPlanWaiting { plans }, since),
    }
}

/// Those that fail for long enough. Nor is mail lost by this.
pub(super) fn failures(facts: &Facts, is_raised: bool, now: Timestamp) -> Verdict {
    failing(&facts.directory, |sources| Cause::DirectoryFailing { sources }, is_raised, now)
}

/// The same of pullers: the mail waits at its account.
pub(super) fn pullers(facts: &Facts, is_raised: bool, now: Timestamp) -> Verdict {
    failing(&facts.pullers, |pullers| Cause::PullerFailing { pullers }, is_raised, now)
}

fn failing(
    all: &[SourceFacts],
    cause: fn(Vec<SourceFailing>) -> Cause,
    is_raised: bool,
    now: Timestamp,
) -> Verdict {
    let mut since = now;
    let (mut sources, mut fails) = (Vec::new(), false);
    for source in all {
        let Some(failure) = &source.failure else { continue };
        fails = true;
        let limit_ms = if failure.mends_itself { OUTAGE_MS } else { FAULT_MS };
        if elapsed_ms(failure.since, now) < limit_ms {
            continue;
        }
        since = since.min(failure.since);
        sources.push(SourceFailing {
            source: source.name.clone(),
            since: failure.since,
            why: failure.why.clone(),
            advice: failure.advice.clone(),
        });
    }
    match sources.is_empty() {
        false => Verdict::Bad(Severity::Warning, cause(sources), since),
        // One that fails anew after a restart is not over yet.
        true if fails && is_raised => Verdict::Unclear,
        true => Verdict::Good,
    }
}

/// Something waits that did not before.
pub(super) fn more_wait(plans: &[PlanWaiting], before: &[PlanWaiting]) -> bool {
    plans.iter().any(|plan| !before.iter().any(|had| had.source == plan.source))
}

/// Something fails that did not before.
pub(super) fn more_fail(sources: &[SourceFailing], before: &[SourceFailing]) -> bool {
    sources.iter().any(|source| !before.iter().any(|had| had.source == source.source))
}
