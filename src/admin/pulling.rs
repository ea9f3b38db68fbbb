//! Pullers: how they are, and having them look now.

use super::Context;
use super::request::OpError;
use crate::mail::Untrusted;
use crate::observe::alarm::{FailureFacts, SourceFacts};
use crate::pipeline::Pipeline;
use crate::pull::{FaultKind, Gateway, PullerStatus, Visit, pull_once};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How long it may take until all have looked that were told to: there may be much to fetch.
pub(super) const PULL_WAIT: Duration = Duration::from_secs(60 * 60);

/// A puller as `daybook pull` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullerView {
    /// What is known of it.
    #[serde(flatten)]
    pub status: PullerStatus,
    /// What it brought just now, if it was told to look.
    pub visit: Option<Visit>,
}

/// What pullers work with here: what SMTP works with, or would.
fn gateway(context: &Context) -> Gateway {
    let settings = context.settings.current();
    let store = Arc::clone(&context.store);
    let receiver = Pipeline::new(Arc::clone(&store), Arc::clone(&context.directory), &settings.exchange);
    receiver.replace_assign(&settings.assign, &settings.domains);
    Gateway { store, receiver, settings: context.settings.clone() }
}

/// Those that are configured, or the one of this name.
pub(super) fn status(context: &Context, name: Option<&str>) -> Result<Vec<PullerView>, OpError> {
    let statuses = match &context.pullers {
        Some(pullers) => pullers.statuses(),
        None => context.settings.current().pullers.iter().map(PullerStatus::of).collect(),
    };
    let is_meant = |status: &PullerStatus| name.is_none_or(|name| name == status.name);
    let views = statuses.into_iter().filter(is_meant).map(|status| PullerView { status, visit: None });
    let views: Vec<PullerView> = views.collect();
    if views.is_empty() { Err(nobody(name)) } else { Ok(views) }
}

/// Has them look now, one after the other, and waits for what comes of it. Where no server runs they do so here.
pub(super) async fn pull(context: &Context, name: Option<&str>) -> Result<Vec<PullerView>, OpError> {
    let view = |(status, visit)| PullerView { status, visit: Some(visit) };
    if let Some(pullers) = &context.pullers {
        let came = pullers.pull_now(name).await.filter(|came| !came.is_empty());
        return Ok(came.ok_or_else(|| nobody(name))?.into_iter().map(view).collect());
    }
    let (gateway, settings) = (gateway(context), context.settings.current());
    let mut views = Vec::new();
    for puller in settings.pullers.iter().filter(|puller| name.is_none_or(|name| name == puller.name)) {
        views.push(view(pull_once(&gateway, puller).await));
    }
    if views.is_empty() { Err(nobody(name)) } else { Ok(views) }
}

fn nobody(name: Option<&str>) -> OpError {
    OpError::NotFound(match name {
        Some(name) => format!("there is no puller {}", Untrusted(name)),
        None => "no [[puller]] is configured".to_owned(),
    })
}

/// What the alarms go by.
pub(super) fn facts(context: &Context) -> Vec<SourceFacts> {
    let statuses = context.pullers.as_ref().map(|pullers| pullers.statuses()).unwrap_or_default();
    statuses
        .into_iter()
        .map(|status| SourceFacts { failure: failure(&status), name: status.name, plan: None })
        .collect()
}

fn failure(status: &PullerStatus) -> Option<FailureFacts> {
    let fault = status.fault.as_ref()?;
    Some(FailureFacts {
        since: status.failing_since?,
        why: fault.text.clone(),
        advice: Some(fault.advice.clone()),
        mends_itself: matches!(fault.kind, FaultKind::Unreachable | FaultKind::Store),
    })
}
