//! All pullers: a task for each, with its turns, its back-off and what came of it.

use super::Gateway;
use super::fault::{Fault, FaultKind};
use super::run::{Visit, account_of, blocking, visit};
use crate::config::{PullCredential, Puller};
use crate::entra::Tokens;
use crate::mail::Timestamp;
use crate::net::drain::Drain;
use crate::observe::now;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Longest wait after failures, in minutes; they begin at one and double.
const BACK_OFF_MINUTES_MAX: u64 = 60;
/// Shortest wait after a refused login, in minutes: elsewhere an account is locked after some of those.
const LOGIN_BACK_OFF_MINUTES_MIN: u64 = 30;
/// A part of `every_minutes` more or less, so that not all look at the same moment.
const JITTER_PART: u64 = 10;

/// What is known of a puller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullerStatus {
    /// Its name.
    pub name: String,
    /// The gateway mailbox it fetches into, as configured.
    pub mailbox: String,
    /// Where it fetches from, as a URL.
    pub account: String,
    /// What becomes of a message there: `delete`, `mark` or `keep`.
    pub after: String,
    /// It is at it now.
    pub running: bool,
    /// When it last began.
    pub last_try: Option<Timestamp>,
    /// When it last did all that was to be done.
    pub last_success: Option<Timestamp>,
    /// Since when it does not.
    pub failing_since: Option<Timestamp>,
    /// How often in a row it did not.
    pub failures: u32,
    /// Why.
    pub fault: Option<Fault>,
    /// When it looks next.
    pub next: Option<Timestamp>,
    /// Messages stored since the server started.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// Messages that stay at the account, being too large, when it last looked.
    pub left: u64,
}

impl PullerStatus {
    /// Of one that has done nothing yet.
    pub fn of(puller: &Puller) -> PullerStatus {
        PullerStatus {
            name: puller.name.clone(),
            mailbox: puller.mailbox.clone(),
            account: account_of(puller),
            after: puller.after.as_str().to_owned(),
            running: false,
            last_try: None,
            last_success: None,
            failing_since: None,
            failures: 0,
            fault: None,
            next: None,
            messages: 0,
            octets: 0,
            left: 0,
        }
    }

    /// What a visit brought is added.
    fn note(&mut self, visit: &Visit, at: Timestamp) {
        self.running = false;
        self.messages += visit.messages;
        self.octets += visit.octets;
        self.fault.clone_from(&visit.fault);
        if visit.fault.as_ref().is_none_or(Fault::is_aside) {
            self.left = visit.left;
        }
        if visit.fault.is_none() {
            self.last_success = Some(at);
            self.failing_since = None;
            self.failures = 0;
        } else {
            self.failing_since.get_or_insert(at);
            self.failures = self.failures.saturating_add(1);
        }
    }
}

/// One puller.
struct Worker {
    puller: Puller,
    gateway: Gateway,
    status: Mutex<PullerStatus>,
    /// Its tokens, once they were needed.
    tokens: Mutex<Option<Arc<Tokens>>>,
    /// Whoever visits the account has this: one visit at a time, also of the same name with other settings.
    turn: Arc<tokio::sync::Mutex<()>>,
    kick: Notify,
    /// It is to look again now, whatever went wrong before.
    again: Notify,
    ended: Drain,
}

struct Employed {
    worker: Arc<Worker>,
    task: JoinHandle<()>,
}

/// All pullers of a gateway.
pub struct Pullers {
    gateway: Gateway,
    employed: Mutex<BTreeMap<String, Employed>>,
    /// Tasks that are ending, having been replaced or removed.
    leaving: Mutex<Vec<JoinHandle<()>>>,
    drain: Drain,
}

impl Pullers {
    /// None yet.
    pub fn new(gateway: Gateway, drain: Drain) -> Arc<Pullers> {
        Arc::new(Pullers { gateway, employed: Mutex::default(), leaving: Mutex::default(), drain })
    }

    /// Has these at work from now on: new ones begin, those that are not among them end, changed ones begin anew. Those that
    /// are as they were are left alone.
    pub fn configure(&self, wanted: &[Puller]) {
        if self.drain.is_started() {
            return;
        }
        let mut employed = lock(&self.employed);
        let mut before = std::mem::take(&mut *employed);
        let mut leaving = lock(&self.leaving);
        leaving.retain(|task| !task.is_finished());
        for puller in wanted {
            let turn = match before.remove(&puller.name) {
                Some(same) if same.worker.puller == *puller => {
                    employed.insert(puller.name.clone(), same);
                    continue;
                }
                Some(other) => {
                    let turn = Arc::clone(&other.worker.turn);
                    other.worker.ended.start();
                    leaving.push(other.task);
                    turn
                }
                None => Arc::default(),
            };
            let worker = Arc::new(Worker::new(puller.clone(), self.gateway.clone(), turn));
            let task = tokio::spawn(Arc::clone(&worker).work());
            employed.insert(puller.name.clone(), Employed { worker, task });
        }
        for gone in before.into_values() {
            gone.worker.ended.start();
            leaving.push(gone.task);
        }
    }

    /// Has those that fail look again: an operator may have mended what was wrong outside of the configuration.
    pub fn retry_failing(&self) {
        for one in lock(&self.employed).values() {
            if lock(&one.worker.status).failures > 0 {
                one.worker.again.notify_one();
            }
        }
    }

    /// Waits for the end of the gateway, then for that of all pullers: what is being stored is stored.
    pub async fn serve(self: Arc<Pullers>) {
        self.drain.started().await;
        let employed = std::mem::take(&mut *lock(&self.employed));
        let mut tasks = std::mem::take(&mut *lock(&self.leaving));
        for one in employed.into_values() {
            one.worker.ended.start();
            tasks.push(one.task);
        }
        for task in tasks {
            // A panic is in the log already.
            task.await.ok();
        }
    }

    /// What is known of each, by name.
    pub fn statuses(&self) -> Vec<PullerStatus> {
        lock(&self.employed).values().map(|one| lock(&one.worker.status).clone()).collect()
    }

    /// Has one of them look now, or all, and waits for what comes of it; `None` when there is none of that name.
    pub async fn pull_now(&self, name: Option<&str>) -> Option<Vec<(PullerStatus, Visit)>> {
        let workers: Vec<Arc<Worker>> = lock(&self.employed)
            .iter()
            .filter(|(known, _)| name.is_none_or(|name| name == known.as_str()))
            .map(|(_, one)| Arc::clone(&one.worker))
            .collect();
        if workers.is_empty() && name.is_some() {
            return None;
        }
        let mut came = Vec::with_capacity(workers.len());
        for worker in workers {
            let visit = worker.visits().await;
            // Its task sees anew when it is next.
            worker.kick.notify_one();
            came.push((lock(&worker.status).clone(), visit));
        }
        Some(came)
    }
}

/// Visits the account of `puller` once, outside of any server, until nothing more is there.
pub async fn pull_once(gateway: &Gateway, puller: &Puller) -> (PullerStatus, Visit) {
    let worker = Worker::new(puller.clone(), gateway.clone(), Arc::default());
    let visit = worker.visits().await;
    let status = lock(&worker.status).clone();
    (status, visit)
}

impl Worker {
    fn new(puller: Puller, gateway: Gateway, turn: Arc<tokio::sync::Mutex<()>>) -> Worker {
        let status = Mutex::new(PullerStatus::of(&puller));
        let (tokens, kick, again, ended) = (Mutex::default(), Notify::new(), Notify::new(), Drain::new());
        Worker { puller, gateway, status, tokens, turn, kick, again, ended }
    }

    async fn work(self: Arc<Worker>) {
        let mut wait = Duration::ZERO;
        loop {
            self.note_next(wait);
            tokio::select! {
                () = self.ended.started() => return,
                // Somebody had it look: that counts as its turn.
                () = self.kick.notified() => {}
                () = self.again.notified() => drop(self.visits().await),
                () = tokio::time::sleep(wait) => drop(self.visits().await),
            }
            wait = self.wait();
        }
    }

    /// Visits until nothing more is there, or something goes wrong.
    async fn visits(&self) -> Visit {
        let _turn = self.turn.lock().await;
        let _running = Running(&self.status);
        let mut all = Visit { messages: 0, octets: 0, left: 0, unsettled: 0, more: false, fault: None };
        loop {
            {
                let mut status = lock(&self.status);
                status.running = true;
                status.last_try = Some(now());
            }
            let one = match self.tokens().await {
                Ok(tokens) => visit(&self.gateway, &self.puller, tokens, &self.ended).await,
                Err(fault) => Visit { fault: Some(fault), ..all.clone() },
            };
            let was_told_to_end = self.ended.is_started();
            lock(&self.status).note(&one, now());
            all.messages += one.messages;
            all.octets += one.octets;
            (all.left, all.unsettled, all.more, all.fault) =
                (one.left, one.unsettled, one.more, one.fault.clone());
            // A server that lists more and gives nothing of it is not asked again at once.
            let broke = one.fault.as_ref().is_some_and(|fault| !fault.is_aside());
            if !one.more || one.messages == 0 || broke || was_told_to_end {
                return all;
            }
        }
    }

    async fn tokens(&self) -> Result<Option<Arc<Tokens>>, Fault> {
        let PullCredential::Xoauth2 { app, scope } = &self.puller.credential else { return Ok(None) };
        if let Some(tokens) = &*lock(&self.tokens) {
            return Ok(Some(Arc::clone(tokens)));
        }
        let (app, scope) = ((**app).clone(), scope.clone());
        let made = blocking(move || Tokens::new(app, scope)).await?;
        let made = made.map_err(|error| Fault::new(FaultKind::Credential, error.to_string()))?;
        let made = Arc::new(made);
        *lock(&self.tokens) = Some(Arc::clone(&made));
        Ok(Some(made))
    }

    /// How long until it looks again.
    fn wait(&self) -> Duration {
        let status = lock(&self.status);
        match &status.fault {
            Some(fault) if !fault.is_aside() => back_off(status.failures, fault.kind),
            _ => jittered(Duration::from_secs(60 * u64::from(self.puller.every_minutes)), random()),
        }
    }

    fn note_next(&self, wait: Duration) {
        let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let next = Timestamp::from_unix_ms(now().unix_ms().saturating_add(millis));
        lock(&self.status).next = Some(next);
    }
}

/// It is at it, until this goes: whoever waits for a visit may go before its end, and the visit with it.
struct Running<'a>(&'a Mutex<PullerStatus>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(self.0).running = false;
    }
}

/// 1, 2, 4 … 60 minutes after so many failures in a row; 30 at least when the account is not given.
fn back_off(failures: u32, kind: FaultKind) -> Duration {
    let least = match kind {
        FaultKind::Login | FaultKind::Credential => LOGIN_BACK_OFF_MINUTES_MIN,
        _ => 1,
    };
    let doubled = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(BACK_OFF_MINUTES_MAX);
    Duration::from_secs(60 * doubled.clamp(least, BACK_OFF_MINUTES_MAX))
}

/// A tenth more or less; `random` is anything.
fn jittered(every: Duration, random: u16) -> Duration {
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let part = every / JITTER_PART;
    let millis = (every - part).saturating_add(2 * part * u64::from(random) / u64::from(u16::MAX));
    Duration::from_millis(millis)
}

fn random() -> u16 {
    let mut octets = [0; 2];
    // Without randomness they look at the same moment, and no worse.
    aws_lc_rs::rand::fill(&mut octets).ok();
    u16::from_ne_bytes(octets)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_followed_by_ever_longer_waits_up_to_an_hour() {
        let minutes =
            |kind| (1..=8).map(|failures| back_off(failures, kind).as_secs() / 60).collect::<Vec<_>>();
        assert_eq!(minutes(FaultKind::Unreachable), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(back_off(u32::MAX, FaultKind::Unreachable).as_secs(), 3600);
        // A password that is refused often locks the account.
        assert_eq!(minutes(FaultKind::Login), [30, 30, 30, 30, 30, 32, 60, 60]);
        assert_eq!(minutes(FaultKind::Credential), minutes(FaultKind::Login));
    }

    #[test]
    fn turns_are_a_tenth_early_or_late() {
        let every = Duration::from_secs(300);
        assert_eq!(jittered(every, 0), Duration::from_secs(270));
        assert_eq!(jittered(every, u16::MAX), Duration::from_secs(330));
    }
}
