//! Watches over the running gateway: looks, raises and clears alarms, and has people told.
//!
//! ```text
//! every 30 s, and when somebody asks for the status:
//!   facts ─▶ Alarms::step (pure) ─▶ log: alarm.raised, alarm.lasts, alarm.cleared
//!                                └▶ words ─▶ outbox (bounded) ─▶ mailer ─▶ relay
//! ```
//! [`Watch::look`] is one look, at a given time; [`Watch::run`] looks again and again, and sends what waits. What is raised,
//! told of and waiting is kept in `watch.json`, so a restart neither repeats an alarm nor forgets one.
//!
//! Invariants:
//! - Mail is never kept waiting: looking happens in blocking tasks with a limit of their own, and a disk that does not answer
//!   is itself an alarm. Sending waits for nobody and nobody for sending.
//! - What changed in one look is one mail, however many gateway mailboxes it concerns.
//! - Nothing told here comes from a message. A gateway mailbox goes by its name, not by its address, which is a secret.
//! - No alarm keeps itself alive: recipients in our own domains are refused by the configuration, and a report about a
//!   notice of ours counts nowhere here, since the store leaves it out of its numbers.
//!
//! Suspended gateway mailboxes, and the one Daybook tries itself out in, have no alarms.

mod credentials;
mod facts;
mod mailer;
mod missing;
mod outbox;
mod page;
mod presence;
mod sending;
mod sources;
mod state;
mod status;
mod words;

pub use credentials::CredentialEnd;
pub use page::page;
pub use sources::SourceView;
pub use state::WATCH_FILE;
pub use status::{
    CertificateView, CheckpointView, DayView, DiskView, MailView, MailboxStatus, SentView, StatusMailView,
    StatusView,
};
pub(in crate::admin) use words::{ago, size, span};

use super::Context;
use crate::config::Settings;
use crate::mail::{AddressKey, Timestamp};
use crate::net::drain::Drain;
use crate::net::tls::TlsIdentity;
use crate::observe::alarm::{
    AHEAD_MS, Alarms, Cause, Change, Facts, Limits, Raised, Severity, SpaceFacts, StoreState, Validity,
};
use crate::observe::now;
use crate::store::Space;
use arc_swap::{ArcSwap, ArcSwapOption};
use credentials::Ends;
use facts::{Counter, Health};
use mailer::Mailer;
use outbox::{Kind, Outbox};
use presence::{Counting, RESTART_MS_MAX, WatchedSince, note_watched, was_away};
use sending::{letter, report};
use sources::Failing;
use state::{NoState, State};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use tokio::sync::Notify;

/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// A store that does not say within this time how it is counts as failing; counting may go on for longer.
const LOOK_WAIT: Duration = Duration::from_secs(20);
/// What is kept is written at least so often, so that a restart is known to be a short one.
const SAVE_INTERVAL_MS: i64 = 5 * 60 * 1000;
const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The watch over one running gateway.
pub struct Watch {
    context: Context,
    mailer: ArcSwapOption<Mailer>,
    tls: Arc<TlsIdentity>,
    /// Held by a question to the store that is not answered yet.
    asking: Arc<Mutex<()>>,
    counter: Arc<Mutex<Counter>>,
    /// Held by a writing that has not ended yet.
    saving: Arc<Mutex<()>>,
    credentials: Ends,
    outbox: Mutex<Outbox>,
    /// Something was put into the outbox.
    posted: Notify,
    raised: ArcSwap<Vec<Raised>>,
    memory: tokio::sync::Mutex<Memory>,
}

/// What one look leaves for the next.
struct Memory {
    alarms: Alarms,
    /// What was counted last.
    shown: Vec<MailboxStatus>,
    /// Every gateway mailbox is among it.
    is_known: bool,
    failing: Failing,
    counting: Counting,
    watching_since: Timestamp,
    watched_since: WatchedSince,
    /// When [`Watch::run`] looked last.
    last_look: Timestamp,
    last_report: Timestamp,
    saved: Option<State>,
    save_fails: bool,
}

fn limits(settings: &Settings) -> Limits {
    let hours =
        |hours: u64| (hours > 0).then(|| i64::try_from(hours).unwrap_or(i64::MAX / HOUR_MS) * HOUR_MS);
    Limits {
        fetch_silence_ms: hours(settings.alerts.fetch_silence_hours),
        remind_ms: hours(settings.alerts.remind_hours),
        disk_margin_octets: settings.alerts.disk_margin_bytes,
    }
}

fn mailer(settings: &Settings) -> Option<Arc<Mailer>> {
    let mail = settings.alerts.mail.clone()?;
    Some(Arc::new(Mailer::new(mail, &settings.hostname)))
}

/// When what is kept is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saving {
    /// If something of it changed, or some time has passed.
    IfNew,
    /// Something was told.
    AtOnce,
    /// There will be no other time, and another writing may still be under way.
    AtTheEnd,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work`, which blocks; `None` when it takes too long, or still has not ended since the last time.
async fn limited<S: Send + 'static, T: Send + 'static>(
    state: &Arc<Mutex<S>>,
    work: impl FnOnce(&mut S) -> T + Send + 'static,
) -> Option<T> {
    if state.try_lock().is_err_and(|error| matches!(error, TryLockError::WouldBlock)) {
        return None;
    }
    waited(state, work).await
}

/// The same, but waits its turn: for what must not be left out. A disk that hangs keeps a thread for each.
async fn waited<S: Send + 'static, T: Send + 'static>(
    state: &Arc<Mutex<S>>,
    work: impl FnOnce(&mut S) -> T + Send + 'static,
) -> Option<T> {
    let state = Arc::clone(state);
    let working = tokio::task::spawn_blocking(move || work(&mut lock(&state)));
    tokio::time::timeout(LOOK_WAIT, working).await.ok()?.ok()
}

impl Watch {
    /// Takes up what the watch before left in `data_dir`. Blocks on the disk. `tls` is the certificate shown to peers.
    pub fn new(context: Context, tls: Arc<TlsIdentity>, now: Timestamp) -> Watch {
        let settings = context.settings.current();
        let state = state::load(&settings.data_dir).unwrap_or_else(|no_state| {
            if let NoState::Damaged(error) = no_state {
                tracing::warn!(event = "alarm.forgotten", file = WATCH_FILE, %error);
            }
            State {
                raised: Vec::new(),
                letters: Vec::new(),
                visits: Default::default(),
                watched_since: WatchedSince::new(),
                last_report: now,
                watching_since: now,
                seen_at: now,
            }
        });
        for (id, at) in &state.visits {
            context.visits.note(*id, *at);
        }
        let was_there = (0..RESTART_MS_MAX).contains(&(now.unix_ms() - state.seen_at.unix_ms()));
        let limits = limits(&settings);
        let mailer = mailer(&settings);
        let recipients = mailer.as_ref().map(|mailer| mailer.recipients()).unwrap_or_default();
        Watch {
            tls,
            asking: Arc::default(),
            saving: Arc::default(),
            credentials: Ends::default(),
            counter: Arc::new(Mutex::new(Counter::new(context.clone()))),
            outbox: Mutex::new(Outbox::new(state.letters, &recipients, now)),
            posted: Notify::new(),
            raised: ArcSwap::from_pointee(state.raised.clone()),
            memory: tokio::sync::Mutex::new(Memory {
                alarms: Alarms::new(limits, state.raised),
                shown: Vec::new(),
                is_known: false,
                failing: Failing::default(),
                counting: Counting::new(now),
                watching_since: if was_there { state.watching_since.min(now) } else { now },
                watched_since: state.watched_since,
                last_look: now,
                last_report: state.last_report,
                saved: None,
                save_fails: false,
            }),
            mailer: ArcSwapOption::new(mailer),
            context,
        }
    }

    /// The alarms that are raised now. Never blocks.
    pub fn raised(&self) -> Arc<Vec<Raised>> {
        self.raised.load_full()
    }

    /// When the credentials of applications end, as last seen. Never blocks for long.
    pub fn credentials(&self) -> Vec<CredentialEnd> {
        self.credentials.shown()
    }

    /// Looks and sends until the drain starts; what waits then is kept for the next start.
    pub async fn run(&self, drain: Drain) {
        self.say_what_is_odd();
        let look = async {
            loop {
                let at = now();
                self.come_back(at).await;
                self.look(at, false).await;
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            () = drain.started() => {}
            () = look => {}
            () = self.send_all() => {}
        }
        let at = now();
        let mut memory = self.memory.lock().await;
        self.save(&mut memory, at, Saving::AtTheEnd).await;
    }

    /// While the machine was paused, or the clock was set, nobody was here: that was nobody's silence.
    async fn come_back(&self, now: Timestamp) {
        let mut memory = self.memory.lock().await;
        if was_away(memory.last_look, now) {
            memory.watching_since = now;
            memory.counting.begin_anew(now);
        }
        memory.last_look = now;
    }

    /// Goes by the configuration now in force. What waits for those who are no longer written to goes to those who are.
    pub async fn reconfigure(&self) {
        let settings = self.context.settings.current();
        self.memory.lock().await.alarms.set_limits(limits(&settings));
        let mailer = mailer(&settings);
        let recipients = mailer.as_ref().map(|mailer| mailer.recipients()).unwrap_or_default();
        self.mailer.store(mailer);
        let dropped = lock(&self.outbox).readdress(&recipients, now());
        for letter in dropped {
            let (about, title) = (letter.kind.as_str(), letter.subject);
            tracing::warn!(event = "alert.mail_dropped", about, title, why = "nobody is written to any more");
        }
        self.posted.notify_one();
        self.say_what_is_odd();
    }

    /// Says at the start what an admin should know of who is written to, and how.
    fn say_what_is_odd(&self) {
        let Some(mailer) = self.mailer.load_full() else { return };
        if let Some(why) = mailer.password_trouble() {
            tracing::warn!(event = "alerts.password_file", why);
        }
        for to in mailer.recipients() {
            let key = AddressKey::of(&to);
            let knows = |mailbox: &Arc<crate::mail::GatewayMailbox>| {
                self.context.directory.snapshot_of(mailbox).find(&key).is_some()
            };
            if self.context.store.gateway_mailboxes().iter().any(knows) {
                let consequence = "reports about alerts will arrive here; no alarm counts them";
                tracing::warn!(event = "alerts.recipient_is_journaled", to, consequence);
            }
        }
    }

    /// One look: what changed is logged, and mailed if mail is configured. With `fresh`, everything is counted anew.
    pub async fn look(&self, now: Timestamp, fresh: bool) -> StatusView {
        // One look after the other, or a change would be told twice.
        let mut memory = self.memory.lock().await;
        // The clock may have been ahead.
        memory.watching_since = memory.watching_since.min(now);
        memory.last_report = memory.last_report.min(now);
        self.context.visits.forget_after(Timestamp::from_unix_ms(now.unix_ms().saturating_add(AHEAD_MS)));
        let (facts, health) = self.gather(&mut memory, now, fresh).await;
        let changes = memory.alarms.step(&facts, now);
        self.raised.store(Arc::new(memory.alarms.raised().to_vec()));
        changes.iter().for_each(|change| log(change, &self.context, now));
        let status = self.status(&memory, health, now);
        let settings = self.context.settings.current();
        if !changes.is_empty() {
            let subject = words::subject(&changes, &settings.hostname, now);
            let text = words::changes(&changes, &settings.hostname, settings.alerts.remind_hours, now);
            self.post(letter(Kind::Alert, subject, text, None, now));
        }
        // A report without numbers says nothing; it waits for them.
        if let Some(minute) = settings.alerts.daily_report_minute
            && memory.counting.last.is_some()
            && is_due(minute, memory.last_report, now)
        {
            memory.last_report = now;
            self.post(report(&status));
        }
        let when = if changes.is_empty() { Saving::IfNew } else { Saving::AtOnce };
        self.save(&mut memory, now, when).await;
        status
    }

    async fn gather(&self, memory: &mut Memory, now: Timestamp, fresh: bool) -> (Facts, Health) {
        let (context, tls) = (self.context.clone(), Arc::clone(&self.tls));
        let (ends, settings) = (self.credentials.clone(), self.context.settings.current());
        let ask = move |_: &mut ()| {
            ends.look(&settings, now);
            facts::health(&context, &tls)
        };
        let health = limited(&self.asking, ask).await;
        let health = health.unwrap_or_else(facts::no_answer);
        // Much takes long to count. That is no trouble: it is known at a later look.
        let counts = limited(&self.counter, move |counter| counter.count_all(now, fresh)).await;
        let is_counted = counts.as_ref().is_some_and(|counts| counts.is_whole);
        if let Some(since) = memory.counting.note(is_counted, now) {
            let consequence = "alarms about gateway mailboxes stay as they are until they are counted";
            tracing::warn!(event = "alarm.uncounted", %since, consequence);
        }
        let mut gateway_mailboxes = match counts {
            Some(counts) => {
                (memory.shown, memory.is_known) = (counts.shown, counts.is_known);
                counts.facts
            }
            None => facts::uncounted(&self.context),
        };
        note_watched(&mut memory.watched_since, facts::watched(&self.context), now);
        for mailbox in &mut gateway_mailboxes {
            mailbox.watched_since = memory.watched_since.get(&mailbox.subject.id).copied().flatten();
        }
        let octets = memory.shown.iter().map(|mailbox| mailbox.last_day.octets);
        let daily_octets = memory.is_known.then(|| octets.sum());
        let space = |space: Space| SpaceFacts {
            free_octets: space.free_octets,
            reserve_octets: space.reserve_octets,
            daily_octets,
        };
        let facts = Facts {
            watching_since: memory.watching_since,
            store: health.store.clone(),
            space: health.space.map(space),
            checkpoints: health.checkpoints.clone(),
            certificate: health
                .certificate
                .as_ref()
                .map(|certificate| Validity { begins: certificate.not_before, ends: certificate.not_after }),
            certificate_files: health.certificate_files.clone(),
            refused_mail: facts::refused_mail(&self.context, now),
            damage: facts::damage(&self.context),
            retention_pause: facts::retention_pause(&self.context),
            retention_failure: self.context.store.keeping().last.and_then(|last| last.error),
            credentials: self.credentials.facts(),
            directory: memory.failing.note(&self.context.directory.sources(), now),
            pullers: super::pulling::facts(&self.context),
            gateway_mailboxes,
        };
        (facts, health)
    }

    fn status(&self, memory: &Memory, health: Health, at: Timestamp) -> StatusView {
        let outbox = lock(&self.outbox);
        StatusView {
            at,
            hostname: self.context.settings.current().hostname.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            watching_since: memory.watching_since,
            alarms: memory.alarms.raised().to_vec(),
            store_trouble: match health.store {
                StoreState::Ready => None,
                StoreState::Full => Some("no space left for mail".to_owned()),
                StoreState::Failing(why) => Some(why),
            },
            disk: health.space.map(DiskView::from),
            checkpoint: health
                .checkpoints
                .is_some()
                .then(|| self.context.store.checkpoints())
                .and_then(CheckpointView::of),
            scrub: Some(facts::scrub(&self.context)),
            keeping: Some(self.context.store.keeping()),
            certificate: health.certificate.map(|certificate| CertificateView {
                ends: certificate.not_after,
                self_signed: certificate.self_signed,
            }),
            credentials: self.credentials.shown(),
            mail: self.mailer.load().as_deref().map(|mailer| MailView {
                to: mailer.recipients(),
                relay: mailer.relay().to_owned(),
                waiting: outbox.len(),
                failure: outbox.failure().map(str::to_owned),
            }),
            counted_at: memory.counting.last,
            directory: self
                .context
                .directory
                .sources()
                .into_iter()
                .map(|source| memory.failing.view(source))
                .collect(),
            gateway_mailboxes: memory.shown.clone(),
        }
    }

    async fn save(&self, memory: &mut Memory, now: Timestamp, when: Saving) {
        let state = State {
            raised: memory.alarms.raised().to_vec(),
            letters: lock(&self.outbox).waiting(),
            visits: self.context.visits.all(),
            last_report: memory.last_report,
            watching_since: memory.watching_since,
            watched_since: memory.watched_since.clone(),
            seen_at: now,
        };
        let is_new = memory.saved.as_ref().is_none_or(|saved| {
            saved.letters != state.letters
                || saved.last_report != state.last_report
                || saved.watched_since != state.watched_since
                || (now.unix_ms() - saved.seen_at.unix_ms()).abs() >= SAVE_INTERVAL_MS
        });
        if when == Saving::IfNew && !is_new {
            return;
        }
        let (data_dir, written) = (self.context.settings.current().data_dir.clone(), state.clone());
        let write = move |_: &mut ()| state::save(&data_dir, &written);
        let saved = match when {
            Saving::AtTheEnd => waited(&self.saving, write).await,
            Saving::AtOnce | Saving::IfNew => limited(&self.saving, write).await,
        };
        let failed = match saved {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.to_string()),
            None => Some("the disk does not answer".to_owned()),
        };
        if let Some(error) = &failed
            && !memory.save_fails
        {
            tracing::warn!(event = "alarm.not_kept", file = WATCH_FILE, error);
        }
        memory.save_fails = failed.is_some();
        memory.saved = failed.is_none().then_some(state);
    }
}

/// Whether that minute of the day has come since `last`.
fn is_due(minute: u16, last: Timestamp, now: Timestamp) -> bool {
    let minute_ms = i64::from(minute) * 60 * 1000;
    let days = |at: Timestamp| (at.unix_ms() - minute_ms).div_euclid(DAY_MS);
    days(now) > days(last)
}

/// The log alone names the login, by which it is searched; no mail does.
fn log(change: &Change, context: &Context, now: Timestamp) {
    let alarm = change.alarm();
    let name = alarm.cause.name();
    let mailbox = alarm.gateway_mailbox.as_ref();
    let (id, called) = (mailbox.map(|m| m.id.to_string()), mailbox.map(|m| m.name.as_str()));
    let all = context.store.gateway_mailboxes();
    let known = all.iter().find(|known| mailbox.is_some_and(|mailbox| mailbox.id == known.id));
    let login = known.map(|known| known.login());
    let (since, severity) = (alarm.since, alarm.severity);
    let what = words::headline(alarm, now);
    if let (Change::Raised(_), Cause::CredentialExpiring { credentials }) = (change, &alarm.cause) {
        credentials::log(credentials, now);
    }
    match change {
        Change::Raised(_) if severity == Severity::Critical => {
            tracing::error!(event = "alarm.raised", alarm = name, mailbox = login, mailbox_id = id, name = called, %severity, %since, what);
        }
        Change::Raised(_) => {
            tracing::warn!(event = "alarm.raised", alarm = name, mailbox = login, mailbox_id = id, name = called, %severity, %since, what);
        }
        Change::Lasts(_) => {
            tracing::warn!(event = "alarm.lasts", alarm = name, mailbox = login, mailbox_id = id, name = called, %severity, %since, what);
        }
        Change::Cleared(_) => {
            tracing::info!(event = "alarm.cleared", alarm = name, mailbox = login, mailbox_id = id, name = called, %since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_hangs_is_not_begun_again_and_the_last_one_waits_its_turn() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let hanging = waited(&done, move |done| {
            begin.send(()).ok();
            released.recv().ok();
            done.push("hung");
        });
        let others = async {
            begun.await.unwrap();
            assert_eq!(limited(&done, |done| done.push("again")).await, None);
            let last = waited(&done, |done| done.push("last"));
            let release = async { release.send(()).unwrap() };
            assert_eq!(tokio::join!(last, release).0, Some(()));
        };
        tokio::join!(hanging, others);
        assert_eq!(*lock(&done), ["hung", "last"]);
    }

    #[test]
    fn the_daily_report_is_due_once_a_day_also_when_its_minute_was_missed() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let seven = 7 * 60;
        let last = at("2026-11-21T07:00:10Z");
        for (now, expect) in [
            ("2026-11-21T07:00:40Z", false),
            ("2026-11-22T06:59:59Z", false),
            ("2026-11-22T07:00:00Z", true),
            ("2026-11-24T15:00:00Z", true),
            ("2026-11-20T15:00:00Z", false),
        ] {
            assert_eq!(is_due(seven, last, at(now)), expect, "{now}");
        }
        assert!(is_due(seven, at("2026-11-21T06:00:00Z"), at("2026-11-21T07:00:00Z")));
        assert!(is_due(0, at("2026-11-21T23:59:59Z"), at("2026-11-22T00:00:00Z")));
    }
}
