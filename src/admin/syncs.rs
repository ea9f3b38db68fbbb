//! Users from where they come from: syncs, plans that wait, going back, and whose an address is.
//!
//! A sync is done by whoever has the store open, so that two never write the same state; it goes on when whoever asked has hung
//! up, and ends early when the server does. What came of it is told to the asker and to the log.

use super::Context;
use super::ops::{blocking, look_soon};
use super::request::OpError;
use super::sync_log::{log_applied, log_rolled_back, log_sync};
use crate::directory::{
    FoundAddress, Outcome, PlanSummary, SnapshotSummary, SyncMode, SyncRefusal, SyncReport, Trigger,
};
use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the answer to a sync may take: all sources one after the other, of directories that ask for patience.
pub(super) const SYNC_WAIT: Duration = Duration::from_secs(2 * 60 * 60);

/// What came of syncs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncsView {
    /// True: nothing was changed.
    pub dry_run: bool,
    /// How it went, source by source.
    pub sources: Vec<SyncReport>,
    /// Sources that were not tried.
    #[serde(default)]
    pub refused: Vec<SyncRefused>,
}

/// A source that was not tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRefused {
    /// Its name.
    pub source: String,
    /// Why not.
    pub why: String,
}

impl SyncsView {
    fn one(report: SyncReport) -> SyncsView {
        SyncsView { dry_run: false, sources: vec![report], refused: Vec::new() }
    }

    /// 0 done, 3 a source could not be read or tried, 4 a change waits for an approval or would: that wants a person most.
    pub fn exit_code(&self) -> u8 {
        let code = |report: &SyncReport| match &report.outcome {
            outcome if outcome.needs_approval() => 4,
            Outcome::Failed(_) => 3,
            _ => 0,
        };
        let refused = if self.refused.is_empty() { 0 } else { 3 };
        self.sources.iter().map(code).max().unwrap_or(0).max(refused)
    }
}

impl From<SyncRefusal> for OpError {
    fn from(refusal: SyncRefusal) -> OpError {
        let why = refusal.to_string();
        match refusal {
            SyncRefusal::NoSuchSource(_) | SyncRefusal::NoSuchPlan(_) | SyncRefusal::NoSuchSnapshot(_) => {
                OpError::NotFound(why)
            }
            SyncRefusal::Outdated { .. } => OpError::Refused(why),
            SyncRefusal::Busy(_) | SyncRefusal::Superseded(_) | SyncRefusal::Storage(_) => {
                OpError::Unavailable(why)
            }
        }
    }
}

/// Syncs one source, or all of them one after the other.
pub(super) async fn sync(
    context: &Context,
    source: Option<String>,
    dry_run: bool,
) -> Result<SyncsView, OpError> {
    let all = move |c: &Context| {
        let Some(name) = source else { return Ok(sync_all(c, dry_run)) };
        let report = sync_one(c, &name, dry_run)?;
        Ok(SyncsView { dry_run, ..SyncsView::one(report) })
    };
    let view = blocking(context, all).await?;
    look_soon(context);
    Ok(view)
}

fn sync_all(context: &Context, dry_run: bool) -> SyncsView {
    let mut view = SyncsView { dry_run, sources: Vec::new(), refused: Vec::new() };
    for source in context.directory.sources() {
        match sync_one(context, &source.name, dry_run) {
            Ok(report) => view.sources.push(report),
            Err(refusal) => {
                view.refused.push(SyncRefused { source: source.name, why: refusal.to_string() });
            }
        }
    }
    view
}

fn sync_one(context: &Context, name: &str, dry_run: bool) -> Result<SyncReport, SyncRefusal> {
    let how = if dry_run { SyncMode::DryRun } else { SyncMode::Apply };
    let go_on = || !context.serving.drain.is_started();
    let report = context.directory.sync(name, how, Trigger::Admin, &go_on)?;
    if !dry_run {
        log_sync(&report);
    }
    Ok(report)
}

/// Applies a plan that waits.
pub(super) async fn apply(context: &Context, actor: &str, plan: String) -> Result<SyncsView, OpError> {
    let actor = actor.to_owned();
    let apply = move |c: &Context| {
        let report = c.directory.apply_plan(&plan)?;
        log_applied(&report, &plan, &actor);
        Ok(SyncsView::one(report))
    };
    let view = blocking(context, apply).await?;
    look_soon(context);
    Ok(view)
}

/// Every plan that waits.
pub(super) fn plans(context: &Context) -> Vec<PlanSummary> {
    context.directory.plans()
}

/// The lists of a source that can be gone back to.
pub(super) fn snapshots(context: &Context, source: &str) -> Result<Vec<SnapshotSummary>, OpError> {
    Ok(context.directory.snapshots(source)?)
}

/// Puts a former list in force.
pub(super) async fn roll_back(
    context: &Context,
    actor: &str,
    source: String,
    to: Option<u64>,
) -> Result<SyncsView, OpError> {
    let actor = actor.to_owned();
    let back = move |c: &Context| {
        let report = c.directory.rollback(&source, to)?;
        log_rolled_back(&report, &actor);
        Ok(SyncsView::one(report))
    };
    let view = blocking(context, back).await?;
    look_soon(context);
    Ok(view)
}

/// Whose an address is, was, and who wanted it.
pub(super) fn find(
    context: &Context,
    address: &str,
    at: Option<Timestamp>,
) -> Result<Vec<FoundAddress>, OpError> {
    let found = context.directory.find(address, at);
    if found.is_empty() {
        return Err(OpError::NotFound(format!("no source knows the address {address}")));
    }
    Ok(found)
}
