//! Retention: what a gateway mailbox keeps no longer is taken out of its folders, a few entries at a time.

use super::{Keeper, KeptPass, due, is_held};
use crate::mail::{GatewayMailbox, Timestamp, Uid};
use crate::observe::metrics;
use crate::store::committer::{Command, Expire, Queued, ask_blocking};
use crate::store::embedded::Shared;
use crate::store::{FolderName, FolderStatus, StoreError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Entries that leave with one entry of the log.
const BATCH_ENTRIES_MAX: usize = 256;
/// While syncs are slow each batch waits for so long, at most: mail goes first, and retention goes on all the same.
const REST: Duration = Duration::from_secs(1);

/// Takes out of every folder what is due, and counts what a legal hold keeps.
pub(super) fn pass(
    keeper: &Keeper,
    shared: &Shared,
    commands: &mpsc::WeakSender<Queued>,
    pass: &mut KeptPass,
) -> Result<(), StoreError> {
    let all = shared.read(|index| index.gateway_mailboxes())?;
    for (gateway_mailbox, _) in &all {
        for folder in shared.read(|index| index.folders(gateway_mailbox.id))? {
            if keeper.is_closing() {
                return Ok(());
            }
            pass.held += held(shared, gateway_mailbox, &folder.name, pass.at)?;
            let before = pass.expired;
            while !keeper.is_closing() {
                let uids = due_now(shared, gateway_mailbox, &folder.name)?;
                if uids.is_empty() {
                    break;
                }
                shared.rest_while_syncs_are_slow(REST, || !keeper.is_closing());
                let expired = expire(commands, gateway_mailbox, &folder.name, uids)?;
                pass.expired += expired;
                metrics::expired(expired);
                if expired == 0 {
                    // What was due is not any more: a hold, another rule.
                    break;
                }
            }
            tell(gateway_mailbox, &folder, pass.expired - before);
        }
    }
    Ok(())
}

/// The trail of each receipt says by which rule.
fn tell(gateway_mailbox: &GatewayMailbox, folder: &FolderStatus, entries: u64) {
    if entries > 0 {
        let (login, id, folder) = (gateway_mailbox.login(), gateway_mailbox.id, &folder.path);
        tracing::info!(event = "retention.expired", mailbox = login, mailbox_id = %id, folder, entries);
    }
}

/// The oldest entries that may leave, by the clock of this moment. The committer looks again.
fn due_now(
    shared: &Shared,
    gateway_mailbox: &GatewayMailbox,
    folder: &FolderName,
) -> Result<Vec<Uid>, StoreError> {
    let trusted = shared.clock.trusted().map_err(|pause| StoreError::Refused(pause.to_string()))?;
    match due(gateway_mailbox, folder, trusted) {
        Some(due) if !is_held(gateway_mailbox, folder) => shared.read(|index| {
            index.received_until(gateway_mailbox.id, folder, due.received_until, BATCH_ENTRIES_MAX)
        }),
        _ => Ok(Vec::new()),
    }
}

/// Entries that would leave, or could be had back no more, were they not held.
fn held(
    shared: &Shared,
    gateway_mailbox: &GatewayMailbox,
    folder: &FolderName,
    trusted: Timestamp,
) -> Result<u64, StoreError> {
    if !is_held(gateway_mailbox, folder) {
        return Ok(0);
    }
    let received_until = due(gateway_mailbox, folder, trusted).map(|due| due.received_until);
    let grace_ms = super::rules::days_after(Timestamp::from_unix_ms(0), gateway_mailbox.keeping.grace_days);
    let deleted_until = Timestamp::from_unix_ms(trusted.unix_ms().saturating_sub(grace_ms.unix_ms()));
    shared.read(|index| index.count_kept(gateway_mailbox.id, folder, received_until, deleted_until))
}

fn expire(
    commands: &mpsc::WeakSender<Queued>,
    gateway_mailbox: &GatewayMailbox,
    folder: &FolderName,
    uids: Vec<Uid>,
) -> Result<u64, StoreError> {
    let expire = Expire { gateway_mailbox: gateway_mailbox.id, folder: folder.clone(), uids };
    let expired = ask_blocking(commands, |answer| Command::Expire { expire, answer })?;
    Ok(expired as u64)
}
