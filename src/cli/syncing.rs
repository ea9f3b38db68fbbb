//! Has sources of users read as their time comes, beside mail, which never waits for it.
//!
//! ```text
//! every 2 s: Directory::due ─▶ a blocking task for each, two at once ─▶ log, metrics
//! drain:     nothing more is begun; what is being read gives up between two requests
//! ```

use crate::admin::log_sync;
use crate::directory::{Directory, SyncMode, SyncRefusal, Trigger};
use crate::net::drain::Drain;
use crate::observe::now;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often it is asked what is due, and the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Sources read at once: each holds a whole directory in memory.
const SYNCS_MAX: usize = 2;
/// How long the end waits for a source that is being read: what was not applied by then never is.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// What is being read, by name.
#[derive(Default)]
struct Syncs {
    tasks: JoinSet<String>,
    names: HashSet<String>,
}

/// Reads sources until the drain starts.
pub(super) async fn watch(directory: Arc<Directory>, drain: Drain) {
    let mut syncs = Syncs::default();
    let going_on = async {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            syncs.forget_ended();
            let asked = Arc::clone(&directory);
            // Looking at a file may hang as well.
            let Ok(due) = tokio::task::spawn_blocking(move || asked.due(now())).await else { continue };
            for name in due {
                syncs.begin(&directory, &drain, name);
            }
        }
    };
    tokio::select! {
        () = drain.started() => {}
        () = going_on => {}
    }
    let ended = async { while syncs.tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
        syncs.tasks.detach_all();
    }
}

impl Syncs {
    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(name) => drop(self.names.remove(&name)),
                // A bug, logged where it happened. Nobody knows whose task it was: each is asked again when it is due.
                Err(_) => self.names.clear(),
            }
        }
    }

    /// What there is no room for is due again at the next look.
    fn begin(&mut self, directory: &Arc<Directory>, drain: &Drain, name: String) {
        if self.tasks.len() >= SYNCS_MAX || !self.names.insert(name.clone()) {
            return;
        }
        let (directory, drain) = (Arc::clone(directory), drain.clone());
        let by = trigger(&directory, &name);
        self.tasks.spawn_blocking(move || {
            let go_on = || !drain.is_started();
            match directory.sync(&name, SyncMode::Apply, by, &go_on) {
                Ok(report) => log_sync(&report),
                Err(refusal) => log_refusal(&name, &refusal),
            }
            name
        });
    }
}

/// What is due before its time has come is so because its file changed.
fn trigger(directory: &Directory, name: &str) -> Trigger {
    let sources = directory.sources();
    let next = sources.iter().find(|source| source.name == name).and_then(|source| source.next_due);
    if next.is_some_and(|at| at <= now()) { Trigger::Schedule } else { Trigger::Change }
}

/// An admin is at it, or the configuration was read again: nothing to tell.
fn log_refusal(source: &str, refusal: &SyncRefusal) {
    if let SyncRefusal::Storage(error) = refusal {
        tracing::error!(event = "directory.sync_failed", source, kind = "storage", error);
    }
}
