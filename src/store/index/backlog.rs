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
/// When the first of what is in a folder came, from the end of the same index.
const OLDEST: &str = "SELECT min(at) FROM placement WHERE folder = ? AND deleted_at IS NULL";
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
            let unfetched = index.unfetched(&inbox, BACKLOG_LOOKED_AT_MAX)?;
            Ok(Backlog {
                waiting: unsigned(inbox.live),
                unfetched: unfetched.map(|(count, _)| count),
                oldest_unfetched: unfetched.and_then(|(_, oldest)| oldest),
                former_view,
            })
        })
    }

    /// How many live entries no fetch is on record for, and the time of the oldest. Absent where there are more entries, and fetches
    /// too, or more fetches than are looked at: without a fetch, nothing of what waits was fetched.
    fn unfetched(
        &self,
        folder: &Folder,
        looked_at_max: usize,
    ) -> Result<Option<(u64, Option<Timestamp>)>, StoreError> {
        let mut select = self.connection.prepare_cached(OLDEST)?;
        let oldest: Option<i64> = select.query_row([folder.id], |row| row.get(0))?;
        let Some(oldest) = oldest else { return Ok(Some((0, None))) };
        // The clock may have been put back in between.
        let since = oldest.saturating_sub(ARRIVAL_ORDER_SLACK_MS);
        let most = int(looked_at_max as u64 + 1);
        let mut select = self.connection.prepare_cached(FETCHED_SINCE)?;
        let rows = select.query_map(params![folder.id, since, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let fetched: Vec<(u32, u32)> = rows.collect::<Result<_, _>>()?;
        if fetched.is_empty() {
            return Ok(Some((unsigned(folder.live), Some(Timestamp::from_unix_ms(oldest)))));
        }
        if unsigned(folder.live) > looked_at_max as u64 || fetched.len() > looked_at_max {
            return Ok(None);
        }
        let mut select = self.connection.prepare_cached(WAITING)?;
        let rows = select.query_map(params![folder.id, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let unfetched = left_over(rows.collect::<Result<_, _>>()?, fetched);
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
    use crate::mail::{Profile, Role, SessionId, Uid};
    use crate::store::delivered::delivery;
    use crate::store::{Client, Embedded, NewGatewayMailbox, Options, Store};

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

    #[tokio::test]
    async fn what_nobody_has_ever_fetched_is_counted_however_much_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store = Embedded::open(&options).unwrap().0;
        let (name, domain) = ("Contoso".to_owned(), "gw.example".to_owned());
        let (profile, role) = (Profile::Generic, Role::Journal);
        let new = NewGatewayMailbox { name, domain, tenant: None, profile, role };
        let (mailbox, _) = store.create_gateway_mailbox(new, "test").await.unwrap();
        let at = |second: u8| Timestamp::from_unix_ms(1_700_000_000_000 + i64::from(second) * 1_000);
        for second in 1..=3 {
            let text = format!("Subject: {second}\r\n\r\n");
            let sent = delivery(&store, &mailbox, at(second), [second; 10], text.as_bytes());
            store.deliver(vec![sent]).await.unwrap();
        }
        let unfetched = |looked_at_max| {
            let inbox = FolderName::Inbox;
            let of = |index: &Index| {
                index.unfetched(&index.folder_named(mailbox.id, &inbox)?.unwrap(), looked_at_max)
            };
            store.shared.read(of).unwrap()
        };
        assert_eq!(unfetched(2), Some((3, Some(at(1)))), "too many to look at, and none was fetched");
        let session_id = SessionId::new(1, [1; 10]);
        let by = Client { protocol: "pop3".to_owned(), peer: "192.0.2.7".parse().unwrap(), session_id };
        store.record_fetched(mailbox.id, &FolderName::Inbox, &[Uid::FIRST], &by).await.unwrap();
        assert_eq!(unfetched(3), Some((2, Some(at(2)))));
        assert_eq!(unfetched(2), None);
        store.close().await;
    }

    #[test]
    fn a_backlog_is_read_from_what_is_there_and_what_happened_since() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        for sql in [WAITING, BELOW, OLDEST] {
            let plan = plan(&index, sql);
            position(&plan, "SEARCH placement USING INDEX placement_live (folder=?");
        }
        position(
            &plan(&index, FETCHED_SINCE),
            "SEARCH folder_event USING INDEX folder_event_at (folder=? AND at>?)",
        );
    }
}
