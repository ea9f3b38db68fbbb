//! Looks at the gateway, as far as that can be done without asking anybody outside.
//!
//! The store counts by walking what a gateway mailbox holds, so its numbers are kept for some minutes, and what silence is
//! usual for an hour.

use super::missing::Missing;
use super::status::MailboxStatus;
use crate::admin::Context;
use crate::admin::closed_gaps::Closed;
use crate::mail::{GatewayMailbox, GatewayMailboxId, GatewayMailboxState, Profile, Timestamp};
use crate::net::certificate::{self, CertificateFacts};
use crate::net::tls::TlsIdentity;
use crate::observe::alarm::{
    AHEAD_MS, CertificateFiles, CheckpointFacts, DamageFacts, MailboxFacts, MailboxNumbers, MissingFacts,
    PauseFacts, RefusedFacts, StoreState, Subject, is_ahead,
};
use crate::observe::rhythm::{HISTORY_MS, Rhythm};
use crate::store::{ARRIVALS_SPAN_MS, Activity, CheckpointStatus, ScrubStatus, Space, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// The numbers of a gateway mailbox are counted anew after so long.
const COUNT_INTERVAL_MS: i64 = 5 * 60 * 1000;
/// What silence is usual is learned anew after so long.
const LEARN_INTERVAL_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Damaged things that alarms and the status name; `daybook scrub` lists all.
const DAMAGE_SHOWN_MAX: usize = 5;

/// What does not depend on how much is stored.
#[derive(Clone, Debug)]
pub(super) struct Health {
    pub(super) store: StoreState,
    pub(super) space: Option<Space>,
    pub(super) checkpoints: Option<CheckpointFacts>,
    pub(super) certificate: Option<CertificateFacts>,
    pub(super) certificate_files: Option<CertificateFiles>,
}

/// What was counted, for alarms and for people.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) facts: Vec<MailboxFacts>,
    /// What was counted last stands in where the store cannot say now.
    pub(super) shown: Vec<MailboxStatus>,
    /// Every gateway mailbox is shown.
    pub(super) is_known: bool,
    /// The store could say for every one of them.
    pub(super) is_whole: bool,
}

/// Counts, and remembers what is costly to find out.
pub(super) struct Counter {
    context: Context,
    counted: HashMap<GatewayMailboxId, Counted>,
    learned: HashMap<GatewayMailboxId, (Timestamp, Option<Arc<Rhythm>>)>,
    missing: HashMap<GatewayMailboxId, Missing>,
}

#[derive(Clone)]
struct Counted {
    /// When counting it began.
    at: Timestamp,
    /// When counting all of them ended: what takes longer than the interval would never be known otherwise.
    done_at: Timestamp,
    status: MailboxStatus,
    /// `None` when it cannot be told.
    missing: Option<MissingFacts>,
}

fn later(at: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms().saturating_add(ms))
}

fn is_watched(mailbox: &GatewayMailbox) -> bool {
    mailbox.state == GatewayMailboxState::Active && !mailbox.is_self_test()
}

fn subject(mailbox: &GatewayMailbox) -> Subject {
    Subject { id: mailbox.id, name: mailbox.name.clone() }
}

/// Asks the store and the certificate how they are. Blocks.
pub(super) fn health(context: &Context, tls: &TlsIdentity) -> Health {
    let store = match context.store.ready() {
        Ok(()) => StoreState::Ready,
        Err(StoreError::Full) => StoreState::Full,
        Err(error) => StoreState::Failing(error.to_string()),
    };
    let certificate = tls.certificate().and_then(|certificate| certificate::facts(&certificate));
    let certificate_files = Some(tls.fault().map_or(CertificateFiles::Shown, CertificateFiles::Bad));
    let checkpoints = Some(checkpoints(&context.store.checkpoints()));
    Health { store, space: context.store.space().ok(), checkpoints, certificate, certificate_files }
}

/// What can be said when the store does not even say that it fails.
pub(super) fn no_answer() -> Health {
    let store = StoreState::Failing("the disk does not answer".to_owned());
    Health { store, space: None, checkpoints: None, certificate: None, certificate_files: None }
}

fn checkpoints(status: &CheckpointStatus) -> CheckpointFacts {
    let inside = status.failing_inside.as_ref().map(|(since, why)| (*since, format!("data_dir: {why}")));
    let outside =
        status.failing_outside.as_ref().map(|(since, why)| (*since, format!("checkpoint_dir: {why}")));
    CheckpointFacts { missing: status.lost.clone(), failing: inside.or(outside) }
}

/// What was refused for good in the last day.
pub(super) fn refused_mail(context: &Context, now: Timestamp) -> RefusedFacts {
    context.refused_mail.between(later(now, -DAY_MS), later(now, AHEAD_MS))
}

/// How reading again what is stored stands, with the first few things that are damaged. Never blocks.
pub(super) fn scrub(context: &Context) -> ScrubStatus {
    let mut scrub = context.store.scrub();
    scrub.things.retain(|thing| thing.closed_by.is_none());
    scrub.things.truncate(DAMAGE_SHOWN_MAX);
    scrub
}

/// What of that is an alarm.
pub(super) fn damage(context: &Context) -> DamageFacts {
    let ScrubStatus { damaged, things, .. } = scrub(context);
    let since = things.iter().map(|thing| thing.found_at).min();
    DamageFacts { damaged, places: things.into_iter().map(|thing| thing.place).collect(), since }
}

/// Why retention is paused. Never blocks.
pub(super) fn retention_pause(context: &Context) -> Option<PauseFacts> {
    let paused = context.store.keeping().paused;
    paused.map(|pause| PauseFacts { trusted: pause.trusted, clock: pause.clock, restored: pause.restored })
}

/// Every gateway mailbox that is watched over, without numbers: for when counting takes too long.
pub(super) fn uncounted(context: &Context) -> Vec<MailboxFacts> {
    let all = context.store.gateway_mailboxes();
    let watched = all.iter().filter(|mailbox| is_watched(mailbox));
    watched
        .map(|mailbox| MailboxFacts { subject: subject(mailbox), watched_since: None, numbers: None })
        .collect()
}

/// Which gateway mailboxes there are, and whether each is watched over.
pub(super) fn watched(context: &Context) -> impl Iterator<Item = (GatewayMailboxId, bool)> {
    let all = context.store.gateway_mailboxes();
    all.into_iter().map(|mailbox| (mailbox.id, is_watched(&mailbox)))
}

impl Counter {
    pub(super) fn new(context: Context) -> Counter {
        Counter { context, counted: HashMap::new(), learned: HashMap::new(), missing: HashMap::new() }
    }

    /// Counts what each gateway mailbox holds. Blocks. With `fresh` anew, however lately it was done.
    pub(super) fn count_all(&mut self, now: Timestamp, fresh: bool) -> Counts {
        let began = Instant::now();
        let present = || later(now, i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
        let all = self.context.store.gateway_mailboxes();
        self.counted.retain(|id, _| all.iter().any(|mailbox| mailbox.id == *id));
        self.learned.retain(|id, _| all.iter().any(|mailbox| mailbox.id == *id));
        self.missing.retain(|id, _| all.iter().any(|mailbox| mailbox.id == *id));
        let mut counts = Counts { facts: Vec::new(), shown: Vec::new(), is_known: true, is_whole: true };
        for mailbox in all.iter().filter(|mailbox| !mailbox.is_self_test()) {
            let counted = self.count(mailbox, present(), fresh);
            if is_watched(mailbox) {
                let numbers = counted.as_ref().map(|counted| self.numbers(mailbox, counted));
                counts.facts.push(MailboxFacts { subject: subject(mailbox), watched_since: None, numbers });
            }
            counts.is_whole &= counted.is_some();
            let shown = counted.or_else(|| self.counted.get(&mailbox.id).cloned());
            counts.is_known &= shown.is_some();
            counts.shown.extend(shown.map(|counted| counted.status));
        }
        let done_at = present();
        let newly = |counted: &&mut Counted| counted.at >= now;
        self.counted.values_mut().filter(newly).for_each(|counted| counted.done_at = done_at);
        counts
    }

    /// `None` when the store cannot say.
    fn count(&mut self, mailbox: &GatewayMailbox, now: Timestamp, fresh: bool) -> Option<Counted> {
        let is_new =
            |counted: &&Counted| (now.unix_ms() - counted.done_at.unix_ms()).abs() < COUNT_INTERVAL_MS;
        let mut counted = match self.counted.get(&mailbox.id).filter(is_new) {
            Some(counted) if !fresh => counted.clone(),
            _ => {
                let counted = self.count_anew(mailbox, now).inspect_err(
                    |error| tracing::debug!(event = "alarm.blind", mailbox = mailbox.login(), mailbox_id = %mailbox.id, %error),
                );
                let counted = counted.ok()?;
                self.counted.insert(mailbox.id, counted.clone());
                counted
            }
        };
        // These cost nothing, and logins between two counts are what an admin looks for.
        counted.status.last_login = self.context.visits.last(mailbox.id).max(counted.status.last_fetched);
        (counted.status.name, counted.status.state) = (mailbox.name.clone(), mailbox.state);
        Some(counted)
    }

    fn count_anew(&mut self, mailbox: &GatewayMailbox, now: Timestamp) -> Result<Counted, StoreError> {
        let store = Arc::clone(&self.context.store);
        let tally = store.tally(mailbox.id, later(now, -DAY_MS))?;
        let activity = self.activity(mailbox, now)?;
        self.learn(mailbox, &activity, now)?;
        let status = MailboxStatus {
            id: mailbox.id,
            name: mailbox.name.clone(),
            state: mailbox.state,
            last_report: activity.last_received,
            last_fetched: activity.last_fetched,
            last_login: None,
            waiting: tally.waiting,
            waiting_octets: tally.waiting_octets,
            oldest_waiting: tally.oldest_waiting,
            last_day: tally.into(),
        };
        Ok(Counted { at: now, done_at: now, status, missing: self.count_missing(mailbox, now) })
    }

    /// Reports that NDRs brought the header of, and no more.
    fn count_missing(&mut self, mailbox: &GatewayMailbox, now: Timestamp) -> Option<MissingFacts> {
        let missing = self.missing.entry(mailbox.id).or_default();
        let closed = Closed::load(&self.context.settings.current().data_dir);
        let counted = missing.count(self.context.store.as_ref(), mailbox, &closed, now);
        counted
            .inspect_err(
                |error| tracing::debug!(event = "alarm.blind", mailbox = mailbox.login(), mailbox_id = %mailbox.id, %error),
            )
            .ok()
            .flatten()
    }

    /// When mail last came and went, but for what was noted while the clock was ahead.
    fn activity(&self, mailbox: &GatewayMailbox, now: Timestamp) -> Result<Activity, StoreError> {
        let store = &self.context.store;
        let mut activity = store.activity(mailbox.id, now)?;
        activity.last_fetched = activity.last_fetched.filter(|at| !is_ahead(*at, now));
        if activity.last_received.is_some_and(|at| is_ahead(at, now)) {
            let arrivals = store.activity(mailbox.id, later(now, -HISTORY_MS))?.arrivals;
            let past = arrivals.iter().rev().map(|(span, _)| *span).find(|span| *span <= now);
            activity.last_received = past.map(|span| later(span, ARRIVALS_SPAN_MS).min(now));
        }
        Ok(activity)
    }

    fn learn(
        &mut self,
        mailbox: &GatewayMailbox,
        activity: &Activity,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let is_new = |at: &Timestamp| (0..LEARN_INTERVAL_MS).contains(&(now.unix_ms() - at.unix_ms()));
        if self.learned.get(&mailbox.id).is_some_and(|(at, _)| is_new(at)) {
            return Ok(());
        }
        let rhythm = match activity.last_received {
            None => None,
            Some(last) => {
                let since = later(last, -HISTORY_MS);
                let arrivals = self.context.store.activity(mailbox.id, since)?.arrivals;
                Rhythm::learn(&arrivals, mailbox.created_at, last).map(Arc::new)
            }
        };
        self.learned.insert(mailbox.id, (now, rhythm));
        Ok(())
    }

    fn numbers(&self, mailbox: &GatewayMailbox, counted: &Counted) -> MailboxNumbers {
        let status = &counted.status;
        // Without a directory nobody is known, and without an archive nobody is asked for.
        let is_named = |names: &Vec<String>| {
            let mut addresses = mailbox.addresses.iter().map(|served| &served.address);
            addresses.any(|address| {
                let whole = address.as_str().to_ascii_lowercase();
                names.iter().any(|name| *name == whole || *name == address.local().to_ascii_lowercase())
            })
        };
        let settings = self.context.settings.current();
        let mut sources = settings.directories.iter();
        let somebody_is_known = mailbox.archive
            && mailbox.role.is_journal()
            && mailbox.profile == Profile::Microsoft365
            && sources.any(|source| source.mailboxes.as_ref().is_none_or(is_named));
        // To an NDR mailbox nothing comes while all is well, and what its NDRs hold is fetched elsewhere.
        let is_journal = mailbox.role.is_journal();
        let rhythm = self.learned.get(&mailbox.id).and_then(|(_, rhythm)| rhythm.clone());
        MailboxNumbers {
            counted_at: Some(counted.at),
            last_received: status.last_report,
            rhythm: rhythm.filter(|_| is_journal),
            last_visit: status.last_login,
            waiting: status.waiting,
            oldest_waiting: status.oldest_waiting.filter(|_| is_journal),
            missing: counted.missing,
            received: status.last_day.received,
            quarantined: status.last_day.quarantined,
            unassigned: somebody_is_known.then_some(status.last_day.unassigned),
        }
    }
}
