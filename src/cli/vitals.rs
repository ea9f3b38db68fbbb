//! What a running gateway cannot do without: looked at before the watchdog is told that it lives.
//!
//! Only what a restart mends counts. A disk that is full, slow or failing is not among it: mail is refused for now then, and
//! a new process would meet the same disk. Nothing here touches the disk, so that one that hangs kills nobody.

use crate::admin::Ports;
use crate::store::{Embedded, Store};
use std::sync::Weak;
use tokio::task::AbortHandle;

/// The parts of one gateway that must not end before it is told to.
#[derive(Clone)]
pub(super) struct Vitals {
    ports: Ports,
    store: Weak<Embedded>,
    services: Vec<(&'static str, AbortHandle)>,
}

impl Vitals {
    pub(super) fn new(
        ports: Ports,
        store: Weak<Embedded>,
        services: Vec<(&'static str, AbortHandle)>,
    ) -> Vitals {
        Vitals { ports, store, services }
    }

    /// The part that has ended though nobody told it to, if any. Never blocks.
    pub(super) fn missing(&self) -> Option<&'static str> {
        let ended = self.services.iter().find(|(_, task)| task.is_finished()).map(|(name, _)| *name);
        ended.or_else(|| (!self.store.upgrade().is_some_and(|store| store.commits())).then_some("store"))
    }

    /// What is served where, in one line, for who asks the service manager. Never blocks.
    pub(super) fn summary(&self) -> String {
        let Ports { smtp, pop3, pop3s, imap, imaps, .. } = &self.ports;
        let bound = [("smtp", smtp), ("pop3", pop3), ("pop3s", pop3s), ("imap", imap), ("imaps", imaps)];
        let bound: Vec<String> = bound
            .iter()
            .filter_map(|(service, address)| address.map(|address| format!("{service} on {address}")))
            .collect();
        let count = self.store.upgrade().map_or(0, |store| {
            store.gateway_mailboxes().iter().filter(|gateway_mailbox| !gateway_mailbox.is_self_test()).count()
        });
        let plural = if count == 1 { "" } else { "es" };
        format!("serving {}; {count} gateway mailbox{plural}", bound.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;
    use std::sync::Arc;

    fn open(dir: &tempfile::TempDir) -> Arc<Embedded> {
        let options = Options { data_dir: dir.path().join("data"), reserve_octets: 0 };
        Arc::new(Embedded::open(&options).unwrap().0)
    }

    #[tokio::test]
    async fn a_service_that_ends_unbidden_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let lasting = tokio::spawn(std::future::pending::<()>());
        let services = vec![("pop3", lasting.abort_handle())];
        let vitals = Vitals::new(Ports::default(), Arc::downgrade(&store), services);
        assert_eq!(vitals.missing(), None);
        lasting.abort();
        assert!(lasting.await.is_err());
        assert_eq!(vitals.missing(), Some("pop3"));
    }

    #[tokio::test]
    async fn a_store_that_commits_no_more_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let vitals = Vitals::new(Ports::default(), Arc::downgrade(&store), Vec::new());
        assert_eq!(vitals.missing(), None);
        store.close().await;
        assert_eq!(vitals.missing(), Some("store"));
        drop(store);
        assert_eq!(vitals.missing(), Some("store"));
    }

    #[tokio::test]
    async fn the_summary_says_what_is_served_where() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let ports =
            Ports { smtp: "[::]:25".parse().ok(), pop3s: "[::]:995".parse().ok(), ..Ports::default() };
        let vitals = Vitals::new(ports, Arc::downgrade(&store), Vec::new());
        assert_eq!(vitals.summary(), "serving smtp on [::]:25, pop3s on [::]:995; 0 gateway mailboxes");
    }
}
