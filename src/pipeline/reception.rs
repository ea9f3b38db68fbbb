//! One message on its way in: gathered and scanned batch by batch, then prepared and delivered.

use super::commit::{Committed, commit, prepare_safely};
use super::in_flight::{Crowded, Share};
use super::prepare::{Gathered, Steps};
use super::{BATCH_OCTETS, Inner, fault, recover};
use crate::extract::{Scanned, Scanner};
use crate::mail::{
    Class, GatewayMailbox, ReceiptId, SessionId, TransportEnvelope, Untrusted, Verdict, WrittenAddress,
};
use crate::observe::metrics::{self, Fate, Phase};
use crate::smtp::{BoxFuture, Fault, Reception};
use crate::store::{Delivered, Delivery, Relation, Spool, Spooled, StoreError};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// A message being received.
pub(super) struct Gathering {
    inner: Arc<Inner>,
    receipt_id: ReceiptId,
    envelope: TransportEnvelope,
    gateway_mailboxes: Vec<Arc<GatewayMailbox>>,
    /// At most [`BATCH_OCTETS`] and what came last.
    batch: Vec<u8>,
    share: Share,
    /// Absent while a blocking task has it.
    taken: Option<Taken>,
    started: Instant,
}

/// What a blocking task works on.
pub(super) struct Taken {
    spool: Spool,
    /// `None` after scanning failed.
    scanner: Option<Scanner>,
}

impl Taken {
    /// Nothing yet.
    pub(super) fn new(spool: Spool) -> Taken {
        Taken { spool, scanner: Some(Scanner::new()) }
    }

    /// Scans and spools a batch.
    pub(super) fn absorb(&mut self, batch: Vec<u8>) -> Result<(), StoreError> {
        if let Some(mut scanner) = self.scanner.take() {
            // A bug in the scanner must not refuse mail: the message goes on unread, to Quarantine.
            self.scanner = catch_unwind(AssertUnwindSafe(|| {
                scanner.push(&batch);
                scanner
            }))
            .ok();
        }
        self.spool.write_owned(batch).map_err(|e| StoreError::io("spooling a message", e))
    }

    /// The message as it is now, and what scanning found.
    pub(super) fn finish(self) -> Result<(Arc<Spooled>, Option<Scanned>), StoreError> {
        let scanned =
            self.scanner.and_then(|scanner| catch_unwind(AssertUnwindSafe(|| scanner.finish())).ok());
        let spooled = self.spool.finish().map_err(|e| StoreError::io("spooling a message", e))?;
        Ok((Arc::new(spooled), scanned))
    }
}

impl Gathering {
    pub(super) fn new(
        inner: Arc<Inner>,
        receipt_id: ReceiptId,
        envelope: TransportEnvelope,
        gateway_mailboxes: Vec<Arc<GatewayMailbox>>,
    ) -> Gathering {
        let share = inner.in_flight.share();
        let taken = Some(Taken::new(inner.store.spool()));
        Gathering {
            inner,
            receipt_id,
            envelope,
            gateway_mailboxes,
            batch: Vec::new(),
            share,
            taken,
            started: Instant::now(),
        }
    }

    /// Runs `work` on a message too large for memory where it may block, when it may take a worker from small ones.
    async fn blocking_long<T: Send + 'static>(
        inner: &Inner,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Trouble> {
        let permit = inner.large_workers.clone().acquire_owned().await.map_err(|_| Trouble::Stopped)?;
        Self::blocking(inner, move || {
            let done = work();
            drop(permit);
            done
        })
        .await
    }

    /// Runs `work` where it may block, one of a bounded number at a time.
    pub(super) async fn blocking<T: Send + 'static>(
        inner: &Inner,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Trouble> {
        let permit = inner.workers.clone().acquire_owned().await.map_err(|_| Trouble::Stopped)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| Trouble::Panicked)?.map_err(Trouble::Store)
    }

    fn defer(&self, trouble: &Trouble) -> Fault {
        defer(self.receipt_id, self.envelope.session_id, trouble)
    }

    async fn settle(mut self) -> Result<(), Fault> {
        let receive_seconds = self.started.elapsed().as_secs_f64();
        let (receipt_id, session_id) = (self.receipt_id, self.envelope.session_id);
        let taken = self.taken.take().ok_or(Fault::Internal)?;
        let batch = std::mem::take(&mut self.batch);
        let gateway_mailboxes = self.gateway_mailboxes.clone();
        let (inner, envelope) = (self.inner.clone(), self.envelope.clone());
        let worker = inner.clone();
        let is_large = taken.spool.octets() > 0;
        let prepare = move || {
            let mut taken = taken;
            taken.absorb(batch)?;
            let (spooled, scanned) = taken.finish()?;
            metrics::report_octets(spooled.octets());
            tracing::info!(event = "journal.received", %receipt_id, %session_id, bytes = spooled.octets());
            let mut gathered = Gathered { receipt_id, envelope, gateway_mailboxes, spooled, scanned };
            let prepared = prepare_safely(&worker, &mut gathered)?;
            gathered.scanned = None;
            Ok((prepared, gathered))
        };
        let prepared = match is_large {
            true => Self::blocking_long(&inner, prepare).await,
            false => Self::blocking(&inner, prepare).await,
        };
        let (prepared, unread) = prepared.map_err(|trouble| self.defer(&trouble))?;
        let committed = commit(&inner, prepared, unread).await.map_err(|trouble| self.defer(&trouble))?;
        let Committed { delivered, stories, gateway_mailboxes, steps, seconds } = committed;
        // With those that what was recovered is for.
        self.gateway_mailboxes = gateway_mailboxes;
        let timing = Timing { receive: receive_seconds, steps, commit: seconds };
        timing.count();
        for (story, delivered) in stories.iter().zip(&delivered) {
            self.tell(story, delivered, timing);
        }
        Ok(())
    }

    /// The one line that says everything about a stored message except what is in it.
    fn tell(&self, story: &Story, delivered: &Delivered, timing: Timing) {
        let login =
            self.gateway_mailboxes.iter().find(|m| m.id == delivered.gateway_mailbox).map(|m| m.login());
        let places = |entries: &[(String, crate::mail::Uid)]| -> String {
            let places: Vec<String> = entries.iter().map(|(path, uid)| format!("{path}:{uid}")).collect();
            places.join(" ")
        };
        let tls = self.envelope.tls.as_ref().map_or("none", |tls| tls.version.as_str());
        tracing::info!(
            event = "journal.committed",
            receipt_id = %self.receipt_id,
            session_id = %self.envelope.session_id,
            mailbox = login.unwrap_or_default(),
            peer = %self.envelope.peer,
            tls,
            verdict = story.verdict.map(Verdict::as_str),
            class = story.class.as_str(),
            bytes = story.octets,
            sender = story.sender,
            recipients = story.recipients,
            recipient_count = story.recipient_count,
            sha256 = story.sha256,
            message_id = %Untrusted(&story.message_id),
            placements = places(&delivered.placements),
            already = places(&delivered.spared),
            repeats = delivered.repeats.map(|r| r.to_string()),
            relation = delivered.relation.map(Relation::as_str),
            exact_copies = delivered.exact_copies,
            unmatched = story.unmatched,
            defects = story.defects,
            receive_seconds = round(timing.receive),
            extract_seconds = round(timing.steps.extract),
            seal_seconds = round(timing.steps.seal),
            commit_seconds = round(timing.commit),
            sync_seconds = round(delivered.sync_seconds),
            group = delivered.group,
        );
        recover::tell(
            self.receipt_id,
            self.envelope.session_id,
            &self.gateway_mailboxes,
            &story.returned,
            delivered,
        );
        let fate = fate(delivered, story.held_back.is_some());
        metrics::report(story.class, fate, delivered.spared.len(), story.unmatched);
        metrics::related(delivered.relation.map(Relation::as_str), delivered.exact_copies);
        if let Some(verdict) = story.verdict {
            metrics::verdict(verdict, story.held_back.is_some());
        }
        if let Some(reason) = &story.held_back {
            tracing::warn!(
                event = "journal.held_back",
                receipt_id = %self.receipt_id,
                session_id = %self.envelope.session_id,
                mailbox = login.unwrap_or_default(),
                verdict = story.verdict.map(Verdict::as_str),
                class = story.class.as_str(),
                reason,
            );
        }
        if fate == Fate::Quarantined {
            tracing::warn!(
                event = "journal.quarantined",
                receipt_id = %self.receipt_id,
                session_id = %self.envelope.session_id,
                mailbox = login.unwrap_or_default(),
                class = story.class.as_str(),
                defects = story.defects,
            );
        }
        if fate == Fate::Unassigned {
            tracing::warn!(
                event = "journal.unassigned",
                receipt_id = %self.receipt_id,
                session_id = %self.envelope.session_id,
                mailbox = login.unwrap_or_default(),
                class = story.class.as_str(),
                unmatched = story.unmatched,
            );
        }
    }
}

/// Microseconds are enough in a log.
fn round(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

#[derive(Clone, Copy)]
struct Timing {
    receive: f64,
    steps: Steps,
    commit: f64,
}

impl Timing {
    fn count(&self) {
        metrics::ingest(Phase::Receive, self.receive);
        metrics::ingest(Phase::Extract, self.steps.extract);
        metrics::ingest(Phase::Seal, self.steps.seal);
        metrics::ingest(Phase::Commit, self.commit);
    }
}

/// What became of a message, at its worst: one report may hold an original for somebody and one for nobody.
fn fate(delivered: &Delivered, held_back: bool) -> Fate {
    let is_in = |folder: &str| delivered.placements.iter().any(|(path, _)| path == folder);
    match delivered.repeats {
        Some(_) => Fate::Repeated,
        None if held_back => Fate::HeldBack,
        None if is_in("Quarantine") => Fate::Quarantined,
        None if is_in("Unassigned") => Fate::Unassigned,
        None => Fate::Stored,
    }
}

/// What the log says of a delivery; the delivery itself goes to the committer.
pub(super) struct Story {
    pub(super) class: Class,
    octets: u64,
    /// As the report names it, or else as MAIL FROM did.
    sender: String,
    /// The first of them, as the report writes them.
    recipients: String,
    recipient_count: usize,
    sha256: String,
    message_id: String,
    unmatched: usize,
    defects: String,
    verdict: Option<Verdict>,
    /// The first reason, when the verdict keeps it out of INBOX.
    held_back: Option<String>,
    returned: recover::Returned,
}

/// Recipients a log line names; the others are only counted.
const RECIPIENTS_LOGGED_MAX: usize = 10;

impl Story {
    pub(super) fn of(delivery: &Delivery) -> Story {
        let mut kinds: Vec<&str> = delivery.defects.iter().map(|(kind, _)| kind.as_str()).collect();
        kinds.dedup();
        let envelopes = || delivery.reports.iter().map(|report| &report.envelope);
        let sender = envelopes().find_map(|envelope| envelope.sender.as_ref()).map(WrittenAddress::as_str);
        let mut recipients: Vec<&str> =
            envelopes().flat_map(|envelope| &envelope.recipients).map(|r| r.address.as_str()).collect();
        let mut seen = HashSet::new();
        recipients.retain(|recipient| seen.insert(recipient.to_ascii_lowercase()));
        let named: Vec<String> =
            recipients.iter().take(RECIPIENTS_LOGGED_MAX).map(|r| Untrusted(r).to_string()).collect();
        Story {
            returned: recover::Returned::of(delivery),
            class: delivery.class,
            octets: delivery.octets,
            sender: sender.map_or_else(
                || delivery.transport.reverse_path.to_string(),
                |sender| Untrusted(sender).to_string(),
            ),
            recipients: named.join(" "),
            recipient_count: recipients.len(),
            sha256: delivery.sha256.to_string(),
            message_id: delivery.message_id.clone().unwrap_or_default(),
            unmatched: delivery.unmatched.len(),
            defects: kinds.join(" "),
            verdict: delivery.judgement.as_ref().map(|judgement| judgement.verdict),
            held_back: delivery
                .judgement
                .as_ref()
                .filter(|judgement| judgement.held_back)
                .map(|judgement| judgement.reasons.first().cloned().unwrap_or_default()),
        }
    }
}

/// Why a message could not be taken. Always ours.
pub(super) enum Trouble {
    Store(StoreError),
    Panicked,
    Stopped,
    Crowded,
}

fn defer(receipt_id: ReceiptId, session_id: SessionId, trouble: &Trouble) -> Fault {
    let (fault, error) = match trouble {
        Trouble::Store(e) => (fault(e), e.to_string()),
        Trouble::Panicked => (Fault::Internal, "a task panicked".to_owned()),
        Trouble::Stopped => (Fault::ShuttingDown, "the service is stopping".to_owned()),
        Trouble::Crowded => (Fault::Busy, "no room among the messages in flight".to_owned()),
    };
    metrics::report_deferred();
    tracing::error!(event = "journal.deferred", %receipt_id, %session_id, error);
    fault
}

impl Reception for Gathering {
    fn favour(&mut self) {
        self.share.favour();
    }

    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let room = self.share.take(octets.len() as u64).await;
            room.map_err(|Crowded| self.defer(&Trouble::Crowded))?;
            self.batch.extend_from_slice(octets);
            // A batch that is handed on is larger than what the spool keeps in memory, so that all of it goes to the disk.
            if self.batch.len() <= BATCH_OCTETS {
                return Ok(());
            }
            let mut taken = self.taken.take().ok_or(Fault::Internal)?;
            let batch = std::mem::take(&mut self.batch);
            let absorbed = Self::blocking_long(&self.inner, move || {
                taken.absorb(batch)?;
                Ok(taken)
            })
            .await;
            self.taken = Some(absorbed.map_err(|trouble| self.defer(&trouble))?);
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin((*self).settle())
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::tests::fixture;
    use super::*;
    use std::task::{Context, Waker};
    use std::time::Duration;

    #[test]
    fn however_many_large_messages_there_are_small_ones_find_a_worker() {
        let made = fixture("203.0.113.9:25");
        let inner = made.pipeline.inner.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut at_work = Vec::new();
            for _ in 0..inner.workers.available_permits() {
                let (end, ended) = std::sync::mpsc::channel::<()>();
                let inner = inner.clone();
                let work = move || {
                    ended.recv().ok();
                    Ok(())
                };
                let mut large = Box::pin(async move { Gathering::blocking_long(&inner, work).await.is_ok() });
                // Now it works, or stands in line.
                assert!(large.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                at_work.push((end, tokio::spawn(large)));
            }
            let small = Gathering::blocking(&inner, || Ok(()));
            let small = tokio::time::timeout(Duration::from_secs(20), small).await;
            assert!(small.is_ok_and(|done| done.is_ok()), "large messages have every worker");
            let (ends, larges): (Vec<_>, Vec<_>) = at_work.into_iter().unzip();
            drop(ends);
            for large in larges {
                assert!(large.await.unwrap());
            }
        });
    }
}
