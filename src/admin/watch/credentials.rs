//! When the credentials of applications end, as the watch sees it: for the alarm, the metric, and a line each in the status.
//!
//! A certificate and the configuration say it themselves. Of a secret whose end is not configured Graph is asked, once a day and on a
//! thread of its own: nobody waits for it.

use super::words::minute;
use crate::admin::credential::{Configured, UsedBy, configured};
use crate::config::{EntraCredential, Settings};
use crate::entra::Tokens;
use crate::entra::credential::{Application, AskError, local_expiry};
use crate::mail::{Timestamp, Untrusted};
use crate::net::secret;
use crate::observe::alarm::{CredentialEnding, CredentialFacts};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Graph is asked again after so long.
const ASK_INTERVAL_MS: i64 = 24 * 60 * 60 * 1000;
/// The same when it could not be asked.
const RETRY_INTERVAL_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// When a credential ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialEnd {
    /// Of the source of users, or the puller.
    pub name: String,
    /// `directory` or `puller`.
    pub used_by: String,
    /// `certificate` or `secret`.
    pub kind: String,
    /// When it ends; `None` when that is not known.
    pub ends: Option<Timestamp>,
}

/// What is known of all ends. Shared with the thread that asks.
#[derive(Clone, Default)]
pub(super) struct Ends(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    shown: Vec<CredentialEnd>,
    asked: Vec<Asked>,
    /// A thread is at it.
    asking: bool,
}

/// What Graph said.
struct Asked {
    of: Configured,
    ends: Option<Timestamp>,
    at: Timestamp,
    again_ms: i64,
}

impl Ends {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As last seen. Never blocks for long.
    pub(super) fn shown(&self) -> Vec<CredentialEnd> {
        self.known().shown.clone()
    }

    /// What the alarm is given.
    pub(super) fn facts(&self) -> Vec<CredentialFacts> {
        let shown = self.shown().into_iter();
        shown.map(|end| CredentialFacts { name: end.name, ends: end.ends }).collect()
    }

    /// Looks at what is here, and has Graph asked where it is time to. Blocks on the disk.
    pub(super) fn look(&self, settings: &Settings, now: Timestamp) {
        let all = configured(settings);
        let local: Vec<_> = all.iter().map(|one| local_expiry(&one.app)).collect();
        let mut known = self.known();
        known.asked.retain(|asked| all.contains(&asked.of));
        let (mut shown, mut due) = (Vec::new(), Vec::new());
        for (one, local) in all.into_iter().zip(local) {
            let ends = match local {
                Ok(Some(expiry)) => Some(expiry.ends),
                // Using it says what is wrong with it.
                Err(_) => None,
                Ok(None) => {
                    let asked = known.asked.iter().find(|asked| asked.of == one);
                    let is_new =
                        |asked: &&Asked| (0..asked.again_ms).contains(&(now.unix_ms() - asked.at.unix_ms()));
                    if asked.filter(is_new).is_none() {
                        due.push(one.clone());
                    }
                    asked.and_then(|asked| asked.ends)
                }
            };
            let (used_by, kind) = (one.used_by.as_str().to_owned(), one.kind().to_owned());
            shown.push(CredentialEnd { name: one.name, used_by, kind, ends });
        }
        known.shown = shown;
        if !due.is_empty() && !known.asking {
            known.asking = true;
            drop(known);
            let ends = self.clone();
            let begun = std::thread::Builder::new().name("credentials".to_owned());
            let begun = begun.spawn(move || ends.ask(due, now));
            // Without a thread it is tried at the next look.
            if begun.is_err() {
                self.known().asking = false;
            }
        }
    }

    fn ask(&self, due: Vec<Configured>, now: Timestamp) {
        for of in due {
            let told = ask(&of, now);
            let again_ms = if told.is_ok() { ASK_INTERVAL_MS } else { RETRY_INTERVAL_MS };
            let mut known = self.known();
            let before = known.asked.iter().find(|asked| asked.of == of).and_then(|asked| asked.ends);
            let ends = told.unwrap_or(before);
            known.asked.retain(|asked| asked.of != of);
            known.asked.push(Asked { of, ends, at: now, again_ms });
        }
        self.known().asking = false;
    }
}

/// `Ok(None)` when the application may not ask, or Graph knows nothing.
fn ask(of: &Configured, now: Timestamp) -> Result<Option<Timestamp>, ()> {
    let EntraCredential::Secret { secret, .. } = &of.app.credential else { return Ok(None) };
    let scope = match of.used_by {
        UsedBy::Directory { .. } => of.scope.clone(),
        UsedBy::Puller => of.app.cloud.graph_scope(),
    };
    let tokens = Tokens::new(of.app.clone(), scope).map_err(drop)?;
    match Application::ask(&tokens) {
        Ok(application) => {
            let secret = secret::read(secret).unwrap_or_default();
            Ok(application.secret_expiry(&secret, now).map(|expiry| expiry.ends))
        }
        Err(AskError::Refused(refusal)) if refusal.status == 403 => Ok(None),
        Err(_) => Err(()),
    }
}

/// Tells of those that have come a stage nearer.
pub(super) fn log(credentials: &[CredentialEnding], now: Timestamp) {
    for CredentialEnding { name, ends, within_days } in credentials {
        let days_left = days_left(*ends, now);
        tracing::warn!(event = "directory.credential_expiring", name, %ends, days_left, stage = within_days);
    }
}

fn days_left(ends: Timestamp, now: Timestamp) -> i64 {
    ends.unix_ms().saturating_sub(now.unix_ms()).div_euclid(DAY_MS)
}

/// `credential of entra (secret): until 2027-03-01 00:00 UTC, 99 days left`
pub(super) fn line(end: &CredentialEnd, now: Timestamp) -> String {
    let what = format!("credential of {} ({})", Untrusted(&end.name), end.kind);
    match end.ends {
        None => format!("{what}: end not known\n"),
        Some(ends) if ends <= now => format!("{what}: ENDED at {}\n", minute(ends)),
        Some(ends) => format!("{what}: until {}, {} days left\n", minute(ends), days_left(ends, now)),
    }
}
