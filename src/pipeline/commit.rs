//! A message on its way into the store: prepared and committed; once more, unread, when it cannot be stored as it was read.

use super::Inner;
use super::prepare::{Gathered, Prepared, Steps, is_about_the_message, prepare};
use super::reception::{Gathering, Story, Trouble};
use crate::mail::GatewayMailbox;
use crate::store::{Delivered, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Prepares a message; one that a bug stumbles over is prepared again unread, for Quarantine. Refusing it would only bring
/// it back until its sender gives up.
pub(super) fn prepare_safely(inner: &Inner, gathered: &mut Gathered) -> Result<Prepared, StoreError> {
    match catch_unwind(AssertUnwindSafe(|| prepare(inner, gathered))) {
        Ok(Ok(prepared)) => return Ok(prepared),
        Ok(Err(error)) if !is_about_the_message(&error) => return Err(error),
        Ok(Err(error)) => {
            tracing::error!(event = "journal.extraction_failed", receipt_id = %gathered.receipt_id, session_id = %gathered.envelope.session_id, %error)
        }
        Err(_) => {
            tracing::error!(event = "journal.extraction_failed", receipt_id = %gathered.receipt_id, session_id = %gathered.envelope.session_id, error = "panic")
        }
    }
    gathered.scanned = None;
    prepare(inner, gathered)
}

/// What the store said of a message that it took.
pub(super) struct Committed {
    pub(super) delivered: Vec<Delivered>,
    pub(super) stories: Vec<Story>,
    pub(super) gateway_mailboxes: Vec<Arc<GatewayMailbox>>,
    pub(super) steps: Steps,
    /// Of committing it.
    pub(super) seconds: f64,
}

/// Commits what was prepared. What the store refuses, such as a record that is larger than its log can hold, is prepared again
/// from `unread`, for Quarantine: refusing it would only bring it back until its sender gives up.
pub(super) async fn commit(
    inner: &Arc<Inner>,
    prepared: Prepared,
    unread: Gathered,
) -> Result<Committed, Trouble> {
    let committing = Instant::now();
    let Prepared { deliveries, gateway_mailboxes, steps } = prepared;
    let stories = deliveries.iter().map(Story::of).collect();
    let error = match inner.store.deliver(deliveries).await {
        Ok(delivered) => {
            let seconds = committing.elapsed().as_secs_f64();
            return Ok(Committed { delivered, stories, gateway_mailboxes, steps, seconds });
        }
        Err(error @ StoreError::Refused(_)) => error,
        Err(error) => return Err(Trouble::Store(error)),
    };
    tracing::error!(event = "journal.extraction_failed", receipt_id = %unread.receipt_id, session_id = %unread.envelope.session_id, %error);
    let worker = inner.clone();
    let prepared = Gathering::blocking(inner, move || prepare(&worker, &unread)).await?;
    let Prepared { deliveries, gateway_mailboxes, .. } = prepared;
    let stories = deliveries.iter().map(Story::of).collect();
    let delivered = inner.store.deliver(deliveries).await.map_err(Trouble::Store)?;
    let seconds = committing.elapsed().as_secs_f64();
    Ok(Committed { delivered, stories, gateway_mailboxes, steps, seconds })
}

#[cfg(test)]
mod tests {
    use super::super::place::tests::{MESSAGE, fixture};
    use super::*;
    use crate::mail::Class;
    use crate::store::FolderName;
    use std::io::Read;

    #[test]
    fn what_the_store_refuses_is_kept_unread_in_quarantine() {
        let made = fixture("203.0.113.9:25");
        let mut prepared = prepare(&made.pipeline.inner, &made.gathered).unwrap();
        // The store refuses what names a message that is not there, as it does a record that is too large for its log.
        prepared.deliveries[0].placements[0].message = 9;
        let committed = made.runtime.block_on(commit(&made.pipeline.inner, prepared, made.gathered));
        let Ok(committed) = committed else { panic!("not taken") };
        assert_eq!(committed.stories[0].class, Class::Unreadable);
        let kept = made.store.list(made.gateway_mailbox.id, &FolderName::Quarantine).unwrap().entries;
        let [entry] = kept.as_slice() else { panic!("{} in quarantine", kept.len()) };
        let mut octets = Vec::new();
        made.store.open(&made.key, entry.message).unwrap().read_to_end(&mut octets).unwrap();
        assert_eq!(octets, MESSAGE);
    }
}
