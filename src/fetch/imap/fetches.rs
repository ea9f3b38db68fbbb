//! Messages that were fetched and are not on record as such yet: of the open folder, and of folders left before it could be done.

use crate::fetch::folders::Folder;
use crate::fetch::maildrop::FetchError;
use crate::mail::Uid;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Messages whose fetch is recorded at once.
const FETCHED_MAX: usize = 1_000;
/// How long a fetch waits for others to be recorded with it.
const FETCHED_WAIT: Duration = Duration::from_secs(5);
/// How long after a failure recording is tried again.
pub(super) const RECORD_RETRY_WAIT: Duration = Duration::from_secs(60);
/// Most folders that are kept when they were left.
const LEFT_FOLDERS_MAX: usize = 100;
/// Most messages that are kept of them together.
const LEFT_MESSAGES_MAX: usize = 200_000;

/// What was fetched from a folder and is not on record.
pub(super) struct Fetches {
    folder: Arc<dyn Folder>,
    /// A message that was fetched twice meanwhile is recorded once.
    uids: BTreeSet<Uid>,
    /// When that is to be recorded.
    due: Option<Instant>,
    /// It could not be the last time.
    failed: bool,
}

impl Fetches {
    pub(super) fn new(folder: Arc<dyn Folder>) -> Fetches {
        Fetches { folder, uids: BTreeSet::new(), due: None, failed: false }
    }

    /// These were fetched too.
    pub(super) fn add(&mut self, uids: impl IntoIterator<Item = Uid>) {
        self.uids.extend(uids);
        let now = Instant::now();
        self.due.get_or_insert(now + FETCHED_WAIT);
        if self.uids.len() >= FETCHED_MAX && !self.failed {
            self.due = Some(now);
        }
    }

    /// When they are to be recorded; `None` while there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Records them; tells how many they were.
    pub(super) async fn record(&mut self) -> Result<usize, FetchError> {
        if self.uids.is_empty() {
            return Ok(0);
        }
        let uids: Vec<Uid> = self.uids.iter().copied().collect();
        let count = uids.len();
        match self.folder.record_fetched(uids).await {
            Ok(()) => {
                self.uids.clear();
                self.due = None;
                self.failed = false;
                Ok(count)
            }
            Err(error) => {
                self.due = Some(Instant::now() + RECORD_RETRY_WAIT);
                self.failed = true;
                Err(error)
            }
        }
    }
}

/// Folders that were left before what was fetched from them could be recorded.
#[derive(Default)]
pub(super) struct Left {
    fetches: Vec<Fetches>,
    /// There was more than is kept.
    is_incomplete: bool,
}

impl Left {
    /// Keeps what cannot be recorded now. Tells how many messages that are too many to be kept.
    pub(super) fn keep(&mut self, fetches: Fetches) -> Option<usize> {
        let messages: usize = self.fetches.iter().map(|left| left.uids.len()).sum();
        let count = fetches.uids.len();
        if self.fetches.len() < LEFT_FOLDERS_MAX && messages.saturating_add(count) <= LEFT_MESSAGES_MAX {
            self.fetches.push(fetches);
            return None;
        }
        self.is_incomplete = true;
        Some(count)
    }

    /// A folder is opened: gives what is not on record of it from the last time.
    pub(super) fn reopened(&mut self, folder: Arc<dyn Folder>) -> Fetches {
        match self.fetches.iter().position(|left| left.folder.path() == folder.path()) {
            Some(at) => Fetches { folder, ..self.fetches.swap_remove(at) },
            None => Fetches::new(folder),
        }
    }

    /// When the first of them is to be recorded.
    pub(super) fn due(&self) -> Option<Instant> {
        self.fetches.iter().filter_map(Fetches::due).min()
    }

    /// Records those that are due by then; gives how many messages that were, and the last error.
    pub(super) async fn record(&mut self, by: Instant) -> (usize, Option<FetchError>) {
        let (mut count, mut failed) = (0, None);
        for left in self.fetches.iter_mut().filter(|left| left.due.is_some_and(|due| due <= by)) {
            match left.record().await {
                Ok(recorded) => count += recorded,
                Err(error) => failed = Some(error),
            }
        }
        self.fetches.retain(|left| !left.uids.is_empty());
        (count, failed)
    }

    /// True when it is not known any more which messages were fetched: what is taken out then could look like a loss.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }
}
