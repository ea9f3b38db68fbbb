//! Transactions that were turned away: they go with whatever group is made next.

use super::{Committed, Committer, Conclude, Group};
use crate::observe::metrics::{self, Recorded};
use crate::store::StoreError;
use crate::store::embedded::Shared;
use crate::store::fact::Fact;
use tokio::sync::oneshot;

/// Groups made at the end for what waits still; there is room in them for all that can wait.
const LAST_GROUPS_MAX: usize = 32;

/// Those that a group took.
pub(super) struct Turning {
    taken: usize,
    conclude: Option<Conclude>,
    outcome: oneshot::Receiver<Result<usize, StoreError>>,
}

impl Committer {
    /// Adds the first that wait to the group, all or none.
    pub(super) fn take_turned_away(&mut self, group: &mut Group<'_>) -> Turning {
        let (answer, outcome) = oneshot::channel();
        let told = self.shared.turned_away_to_write();
        let taken = told.len();
        if taken == 0 {
            return Turning { taken, conclude: None, outcome };
        }
        let conclude = self.attempt(group, answer, |_, group| {
            told.into_iter().try_for_each(|told| group.push_fact(Fact::TurnedAway(Box::new(told))))?;
            Ok(taken)
        });
        Turning { taken, conclude, outcome }
    }

    /// Writes all that wait, and what was only counted, before the store is closed.
    pub(super) fn take_all_turned_away(&mut self) {
        let was_appending = self.log.is_appending();
        for _ in 0..LAST_GROUPS_MAX {
            if !self.shared.turned_away_is_due(true) || self.shared.turned_away_to_write().is_empty() {
                break;
            }
            let waiting = self.shared.turned_away_waiting();
            self.commit(Vec::new());
            if self.shared.turned_away_waiting() >= waiting {
                break;
            }
        }
        // What could not be told must not make an orderly close a crash: a new segment says how much of the last one counts.
        if was_appending
            && !self.log.is_appending()
            && let Err(error) = self.log.start_group()
        {
            tracing::warn!(event = "store.clean_mark_failed", %error);
        }
    }
}

impl Turning {
    /// What became of the group: what it could not take waits on.
    pub(super) fn conclude(mut self, shared: &Shared, group: &Result<Committed, StoreError>) {
        if self.taken == 0 {
            return;
        }
        if let Some(conclude) = self.conclude.take() {
            conclude(group.clone());
        }
        match self.outcome.try_recv() {
            Ok(Ok(written)) => {
                metrics::turned_away(Recorded::Written, written as u64);
                shared.turned_away_written(written);
            }
            // They will never fit: others must not wait behind them.
            Ok(Err(error @ (StoreError::Refused(_) | StoreError::Damaged(_)))) => {
                metrics::turned_away(Recorded::Dropped, self.taken as u64);
                tracing::error!(event = "receipts.unwritable", dropped = self.taken, %error);
                shared.turned_away_written(self.taken);
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
