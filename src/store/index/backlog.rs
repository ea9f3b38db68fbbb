//! What waits in INBOX, and what of it nobody has fetched.

use super::folders::Folder;
use super::questions::ARRIVAL_ORDER_SLACK_MS;
use super::{Index, int, unsigned};
use crate::mail::{GatewayMailboxId, Timestamp};
use crate::store::{BACKLOG_LOOKED_AT_MAX, Backlog, FolderName, StoreError};
use rusqlite::params;

/// UIDs and times of what is in a folder, from the index of live entries alone.
const WAITING: &str = "SELECT uid, at FROM placement INDEXED BY placement_live
WHERE folder = ?1 AND deleted_at IS NULL LIMIT ?2";
/// What was fetched from a folder since some time.
const FETCHED_SINCE: &str = "SELECT first, last FROM folder_event INDEXED BY folder_event_at
WHERE folder = ?1 AND at >= ?2 AND kind = 'fetched' LIMIT ?3";
/// Live entries of a folder below a UID.
const BELOW: &str = "SELECT count(*) FROM placement INDEXED BY placement_live
WHERE folder = ?1 AND deleted_at IS NULL AND uid < ?2";

impl Index {
    pub(in crate::store) fn backlog(&self, id: GatewayMailboxId) -> Result<Backlog, StoreError> {
        self.at_once(|index| {
            let Some(inbox) = index.folder_named(id, &FolderName::Inbox)? else {
                return Ok(Backlog { unfetched: Some(0), ..Backlog::default() });
            };
            let view_from = index.gateway_mailbox(id)?.and_then(|gateway_mailbox| gateway_mailbox.view_from);
            let former_view = match view_from {
                None => 0,
                Some(below) => {
                    let mut count = index.connection.prepare_cached(BELOW)?;
                    unsigned(count.query_row(params![inbox.id, below.value()], |row| row.get(0))?)
                }
            };
            let unfetched = index.unfetched(&inbox)?;
            Ok(Backlog {
                waiting: unsigned(inbox.live),
                unfetched: unfetched.map(|(count, _)| count),
                oldest_unfetched: unfetched.and_then(|(_, oldest)| oldest),
                former_view,
            })
        })
    }

    /// How many live entries no fetch is on record for, and the time of the oldest.
    fn unfetched(&self, folder: &Folder) -> Result<Option<(u64, Option<Timestamp>)>, StoreError> {
        let most = int(BACKLOG_LOOKED_AT_MAX as u64 + 1);
        let mut select = self.connection.prepare_cached(WAITING)?;
        let rows = select.query_map(params![folder.id, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let waiting: Vec<(u32, i64)> = rows.collect::<Result<_, _>>()?;
        let Some(oldest) = waiting.iter().map(|(_, at)| *at).min() else { return Ok(Some((0, None))) };
        // The clock may have been put back in between.
        let since = oldest.saturating_sub(ARRIVAL_ORDER_SLACK_MS);
        let mut select = self.connection.prepare_cached(FETCHED_SINCE)?;
        let rows = select.query_map(params![folder.id, since, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let fetched: Vec<(u32, u32)> = rows.collect::<Result<_, _>>()?;
        if waiting.len() > BACKLOG_LOOKED_AT_MAX || fetched.len() > BACKLOG_LOOKED_AT_MAX {
            return Ok(None);
        }
        let unfetched = left_over(waiting, fetched);
        let oldest = unfetched.iter().map(|(_, at)| *at).min().map(Timestamp::from_unix_ms);
        Ok(Some((unfetched.len() as u64, oldest)))
    }
}

/// Those of `waiting` that are in none of the runs `fetched`.
fn left_over(mut waiting: Vec<(u32, i64)>, mut fetched: Vec<(u32, u32)>) -> Vec<(u32, i64)> {
    waiting.sort_unstable();
    fetched.sort_unstable();
    let mut runs = fetched.into_iter().peekable();
    // The furthest that a run reaches which begins no later than the entry.
    let mut reached = 0;
    waiting.retain(|(uid, _)| {
        while let Some((_, last)) = runs.next_if(|(first, _)| first <= uid) {
            reached = reached.max(last);
        }
        reached < *uid
    });
    waiting
}

#[cfg(test)]
mod tests {
    use super::super::questions::tests::{plan, position};
    use super::*;

    #[test]
    fn what_no_run_covers_is_left_over() {
        let uids = |waiting: &[u32], fetched: &[(u32, u32)]| -> Vec<u32> {
            let waiting = waiting.iter().map(|uid| (*uid, 0)).collect();
            left_over(waiting, fetched.to_vec()).into_iter().map(|(uid, _)| uid).collect()
        };
        assert_eq!(uids(&[9, 3, 5, 4], &[]), [3, 4, 5, 9]);
        assert_eq!(uids(&[3, 4, 5, 9], &[(1, 2), (4, 4), (6, 8)]), [3, 5, 9]);
        assert_eq!(uids(&[3, 4, 5, 9], &[(5, 5), (1, 8), (2, 3)]), [9], "a long run that began before");
        assert_eq!(uids(&[u32::MAX], &[(1, u32::MAX)]), [0; 0]);
        assert_eq!(uids(&[], &[(1, 2)]), [0; 0]);
    }

    #[test]
    fn a_backlog_is_read_from_what_is_there_and_what_happened_since() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        for sql in [WAITING, BELOW] {
            let plan = plan(&index, sql);
            position(&plan, "SEARCH placement USING INDEX placement_live (folder=?");
        }
        position(
            &plan(&index, FETCHED_SINCE),
            "SEARCH folder_event USING INDEX folder_event_at (folder=? AND at>?)",
        );
    }
}
