//! Whether the gateway would take mail now: one list of checks behind `daybook readyz`, `/readyz` and `/healthz`.
//!
//! A check decides about readiness or only advises. What mail can be taken without must not decide: a server that calls itself
//! unready has its mail refused, when it could have kept it. So a directory that cannot be read, or a certificate that ends
//! soon, only advises; a store that cannot write, or a disk without room, decides.

use super::ops::Context;
use super::request::{Check, OpError, Readiness};
use super::sync_log::is_fault;
use crate::directory::SourceStatus;
use crate::net::certificate::facts;
use crate::net::drain::Drain;
use crate::net::tls::TlsIdentity;
use crate::observe::now;
use crate::store::StoreError;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// Less left of the certificate than this is worth a word: renewal should have happened long ago.
const CERTIFICATE_LEFT_MS_MIN: i64 = 7 * 24 * 3_600 * 1_000;

/// What a process that serves knows of itself. The default is one that serves nobody.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// The certificate shown to peers.
    pub tls: Option<Arc<TlsIdentity>>,
    /// Started once the server ends.
    pub drain: Drain,
    /// What takes connections, each with its name: until it is told to end, it must not have ended.
    pub services: Vec<(&'static str, AbortHandle)>,
}

/// Looks at everything. Blocks on the disk.
///
/// # Errors
/// [`OpError::Unavailable`] when this process serves nobody.
pub(super) fn readiness(context: &Context) -> Result<Readiness, OpError> {
    let Some(ports) = context.ports.clone() else {
        return Err(OpError::Unavailable("no server is running".to_owned()));
    };
    let mut checks = vec![deciding("listeners", listeners(&context.serving))];
    checks.extend(store(context));
    checks.push(advising("directory", directory(context)));
    checks.push(advising("certificate", certificate(context)));
    checks.push(advising("configuration", configuration(context)));
    let ready = checks.iter().all(|check| check.good || check.advisory);
    Ok(Readiness { ready, checks, version: env!("CARGO_PKG_VERSION").to_owned(), ports })
}

fn deciding(name: &str, why: Option<String>) -> Check {
    Check { name: name.to_owned(), good: why.is_none(), advisory: false, why }
}

fn advising(name: &str, why: Option<String>) -> Check {
    Check { advisory: true, ..deciding(name, why) }
}

fn configuration(context: &Context) -> Option<String> {
    let fault = context.settings.fault()?;
    Some(format!("when it was read again there was a fault, and what was in force before stays: {fault}"))
}

fn listeners(serving: &Serving) -> Option<String> {
    if serving.drain.is_started() {
        return Some("the server is stopping".to_owned());
    }
    let ended = serving.services.iter().find(|(_, task)| task.is_finished());
    ended.map(|(name, _)| format!("{name} has ended by itself; the log says why"))
}

/// Whether it writes, and whether there is room.
fn store(context: &Context) -> [Check; 2] {
    let (store, disk) = match context.store.ready() {
        Ok(()) => (None, None),
        Err(StoreError::Full) => (None, Some(room(context))),
        Err(error) => (Some(error.to_string()), None),
    };
    [deciding("store", store), deciding("disk", disk)]
}

fn room(context: &Context) -> String {
    match context.store.space() {
        Ok(space) => {
            format!("{} octets free, {} are kept in reserve", space.free_octets, space.reserve_octets)
        }
        Err(error) => error.to_string(),
    }
}

/// Names sources, and no fault: what is wrong with a list quotes addresses, and these pages are for anybody.
fn directory(context: &Context) -> Option<String> {
    let sources = context.directory.sources();
    let named = |wanted: &dyn Fn(&SourceStatus) -> bool| {
        let names = sources.iter().filter(|source| wanted(source)).map(|source| source.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let bad = named(&|source| source.error.as_ref().is_some_and(is_fault));
    let waits = named(&|source| source.pending.is_some());
    let mut why = Vec::new();
    if !bad.is_empty() {
        why.push(format!("{bad} cannot be taken, what it said before holds; the log says why"));
    }
    if !waits.is_empty() {
        why.push(format!("{waits} says so much less that it waits for an approval: daybook user plans"));
    }
    (!why.is_empty()).then(|| why.join("; "))
}

fn certificate(context: &Context) -> Option<String> {
    let tls = context.serving.tls.as_ref()?;
    if let Some(fault) = tls.fault() {
        return Some(format!("its files changed and the pair before is shown: Daybook {fault}"));
    }
    let certificate = tls.certificate()?;
    match facts(&certificate) {
        None => Some("cannot be read".to_owned()),
        Some(facts) if facts.not_after.unix_ms() - now().unix_ms() < CERTIFICATE_LEFT_MS_MIN => {
            Some(format!("ends {}", facts.not_after))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_ended_by_itself_is_named_and_one_that_was_told_to_is_not() {
        let task = |ends: bool| {
            tokio::spawn(async move {
                if !ends {
                    std::future::pending::<()>().await;
                }
            })
        };
        let (lasting, ended) = (task(false), task(true));
        let mut serving = Serving { services: vec![("smtp", lasting.abort_handle())], ..Serving::default() };
        assert_eq!(listeners(&serving), None);
        serving.services.push(("pop3", ended.abort_handle()));
        ended.await.unwrap();
        assert!(listeners(&serving).unwrap().starts_with("pop3 has ended by itself"));
        serving.drain.start();
        assert_eq!(listeners(&serving).as_deref(), Some("the server is stopping"));
    }
}
