//! What admins ask of the keeping: what can be had back, having it back, and saying that the clock is right.

use super::{KeepingStatus, Recoverable, UNDELETED_MAX, UndeleteAsked, Undeleted, due, grace_ends, is_held};
use crate::mail::{GatewayMailboxId, Timestamp, Uid};
use crate::store::committer::{Command, Undelete};
use crate::store::embedded::{Embedded, Shared};
use crate::store::{Store, StoreError};

/// See [`Store::trust_clock`].
pub(in crate::store) async fn trust_clock(
    store: &Embedded,
    actor: &str,
) -> Result<KeepingStatus, StoreError> {
    let clock = &store.shared.clock;
    if clock.trusted().is_err() {
        let actor = actor.to_owned();
        let at = store.ask(|answer| Command::TrustClock { actor: actor.clone(), answer }).await?;
        clock.trust(at);
        // Should this be lost, the next start asks once more.
        let shared = store.shared.clone();
        tokio::task::spawn_blocking(move || shared.clock.save()).await.unwrap_or(());
        tracing::info!(event = "retention.clock_trusted", clock = %at, actor);
    }
    Ok(store.keeping())
}

/// See [`Store::recoverable`].
pub(in crate::store) fn recoverable(
    shared: &Shared,
    id: GatewayMailboxId,
    since: Timestamp,
) -> Result<Vec<Recoverable>, StoreError> {
    let gateway_mailbox = shared.known(id).ok_or(StoreError::Gone)?;
    shared.read(|index| {
        let mut found = Vec::new();
        for status in index.folders(id)? {
            let Some(folder) = index.folder(id, &status.name)? else { continue };
            let Some((entries, octets, [oldest, newest])) = index.sum_in_grace(folder.id, since)? else {
                continue;
            };
            let freed_from = grace_ends(&gateway_mailbox, &status.name, oldest);
            found.push(Recoverable {
                folder: status.name,
                path: status.path,
                entries,
                octets,
                oldest,
                newest,
                freed_from,
            });
        }
        Ok(found)
    })
}

/// See [`Store::undelete`].
pub(in crate::store) async fn undelete(
    store: &Embedded,
    asked: UndeleteAsked,
    actor: &str,
) -> Result<Undeleted, StoreError> {
    let most = asked.most.min(UNDELETED_MAX);
    let (shared, wanted) = (store.shared.clone(), asked.clone());
    let found = tokio::task::spawn_blocking(move || candidates(&shared, &wanted, most)).await;
    let Candidates { uids, has_more, skipped_due } =
        found.map_err(|e| StoreError::io("looking for what was deleted", std::io::Error::other(e)))??;
    if uids.is_empty() {
        return Ok(Undeleted { skipped_due, ..Undeleted::default() });
    }
    let UndeleteAsked { gateway_mailbox, folder, .. } = asked;
    let undelete = Undelete { gateway_mailbox, folder, uids, actor: actor.to_owned() };
    let mut undeleted = store.ask(|answer| Command::Undelete { undelete, answer }).await?;
    undeleted.skipped_due += skipped_due;
    // Where nothing came of it, asking again would find the same.
    undeleted.more = has_more && !undeleted.entries.is_empty();
    Ok(undeleted)
}

/// What may come back.
#[derive(Default)]
struct Candidates {
    uids: Vec<Uid>,
    has_more: bool,
    /// What retention would take at once; told with the last part alone.
    skipped_due: u64,
}

fn candidates(shared: &Shared, asked: &UndeleteAsked, most: usize) -> Result<Candidates, StoreError> {
    let id = asked.gateway_mailbox;
    let gateway_mailbox = shared.known(id).ok_or(StoreError::Gone)?;
    let due_until = due(&gateway_mailbox, &asked.folder, shared.clock.mark())
        .filter(|_| !is_held(&gateway_mailbox, &asked.folder))
        .map(|due| due.received_until);
    shared.read(|index| {
        let Some(folder) = index.folder(id, &asked.folder)? else { return Ok(Candidates::default()) };
        let times = (asked.since, asked.until.unwrap_or(Timestamp::from_unix_ms(i64::MAX)));
        let mut uids = index.undeletable(folder.id, times, due_until, most.saturating_add(1))?;
        let has_more = uids.len() > most;
        uids.truncate(most);
        let skipped_due = match due_until {
            Some(until) if !has_more => index.count_undeletable(folder.id, times, until)?,
            _ => 0,
        };
        Ok(Candidates { uids, has_more, skipped_due })
    })
}
