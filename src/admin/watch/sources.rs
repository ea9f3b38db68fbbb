//! Where users come from, as the watch sees it: for alarms, and a line each in the status.

use super::words::{ago, minute};
use crate::admin::sync_log::{cut, is_fault, is_passing};
use crate::directory::SourceStatus;
use crate::mail::{Timestamp, Untrusted};
use crate::observe::alarm::{FailureFacts, PlanFacts, SourceFacts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Octets of what is wrong with a source that are shown; the log and `daybook user sync` say all.
const WHY_OCTETS_MAX: usize = 300;

/// A source of users as those who watch over it see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// What the configuration calls it.
    pub source: String,
    /// `file`, `csv`, `ldap` or `graph`.
    pub kind: String,
    /// Users of it in force.
    pub users: u64,
    /// Users who are gone from it, and whose addresses still lead to them.
    pub gone: u64,
    /// When it was last read well.
    pub last_good: Option<Timestamp>,
    /// When it was last tried.
    pub last_try: Option<Timestamp>,
    /// When it is asked next; `None` is by hand, or when its file changes.
    pub next_due: Option<Timestamp>,
    /// Since when it cannot be read, as far as this process remembers; `None` when it can.
    pub failing_since: Option<Timestamp>,
    /// What was wrong at the last try, in a line.
    pub error: Option<String>,
    /// What to do about it, where something particular can be said.
    pub advice: Option<String>,
    /// The change that waits for an approval.
    pub plan: Option<String>,
    /// Why it waits.
    pub plan_why: Option<String>,
    /// Somebody went back to a former list: what the source says waits for an approval.
    pub held: bool,
    /// What is wrong with the lists kept on disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_faults: Vec<String>,
}

/// Since when sources cannot be read.
#[derive(Debug, Default)]
pub(super) struct Failing(BTreeMap<String, Timestamp>);

fn first_line(text: &str) -> String {
    cut(text.lines().next().unwrap_or_default(), WHY_OCTETS_MAX)
}

/// Why a plan waits, in a line.
fn why(status: &SourceStatus) -> Option<String> {
    let why = status.pending.as_ref()?.why.iter().map(ToString::to_string).collect::<Vec<_>>();
    Some(cut(&why.join("; "), WHY_OCTETS_MAX))
}

impl Failing {
    /// What the alarms are given. Notes which sources fail now.
    pub(super) fn note(&mut self, sources: &[SourceStatus], now: Timestamp) -> Vec<SourceFacts> {
        let fails = |status: &&SourceStatus| status.error.as_ref().is_some_and(is_fault);
        let before = std::mem::take(&mut self.0);
        for status in sources.iter().filter(fails) {
            let began = before.get(&status.name).copied().or(status.last_try).unwrap_or(now);
            self.0.insert(status.name.clone(), began.min(now));
        }
        sources.iter().map(|status| self.facts(status)).collect()
    }

    fn facts(&self, status: &SourceStatus) -> SourceFacts {
        let plan = status.pending.as_ref().map(|plan| PlanFacts {
            plan: plan.plan.clone(),
            since: plan.made_at,
            why: why(status).unwrap_or_default(),
        });
        let failure = self.0.get(&status.name).zip(status.error.as_ref());
        let failure = failure.map(|(since, fault)| FailureFacts {
            since: *since,
            why: first_line(&fault.text),
            advice: fault.advice.clone(),
            mends_itself: is_passing(fault),
        });
        SourceFacts { name: status.name.clone(), plan, failure }
    }

    /// What the status shows.
    pub(super) fn view(&self, status: SourceStatus) -> SourceView {
        let plan_why = why(&status);
        let failing_since = self.0.get(&status.name).copied();
        let fault = status.error.filter(|_| failing_since.is_some());
        SourceView {
            failing_since,
            error: fault.as_ref().map(|fault| first_line(&fault.text)),
            advice: fault.and_then(|fault| fault.advice),
            plan: status.pending.map(|plan| plan.plan),
            plan_why,
            source: status.name,
            kind: status.kind,
            users: status.users as u64,
            gone: status.gone as u64,
            last_good: status.last_good,
            last_try: status.last_try,
            next_due: status.next_due,
            held: status.held,
            state_faults: status.state_faults,
        }
    }
}

/// `users of entra: 1204, 3 gone, read 2026-11-21 09:14 UTC (12 min ago), next 2026-11-21 10:12 UTC`, and what is wrong.
pub(super) fn lines(source: &SourceView, now: Timestamp) -> String {
    let mut out = format!("users of {} ({}): {}", Untrusted(&source.source), source.kind, source.users);
    if source.gone > 0 {
        out.push_str(&format!(", {} gone", source.gone));
    }
    match source.last_good {
        Some(at) => out.push_str(&format!(", read {}", ago(at, now))),
        None => out.push_str(", never read"),
    }
    if let Some(at) = source.next_due {
        out.push_str(&format!(", next {}", minute(at)));
    }
    out.push('\n');
    if let (Some(since), Some(error)) = (source.failing_since, &source.error) {
        out.push_str(&format!("  CANNOT BE READ since {}: {}\n", ago(since, now), Untrusted(error)));
    }
    if let Some(advice) = &source.advice {
        out.push_str(&format!("  what to do: {}\n", Untrusted(advice)));
    }
    if let (Some(plan), Some(why)) = (&source.plan, &source.plan_why) {
        out.push_str(&format!("  A CHANGE WAITS as plan {}: {}\n", Untrusted(plan), Untrusted(why)));
    }
    if source.held {
        out.push_str("  held after a rollback or a damaged list: what it says waits for an approval\n");
    }
    for fault in &source.state_faults {
        out.push_str(&format!("  kept lists: {}\n", Untrusted(fault)));
    }
    out
}
