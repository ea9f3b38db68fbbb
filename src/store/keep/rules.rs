//! What is kept, and for how long: the rules of retention, of grace and of legal holds. Pure: time is an argument.

use crate::mail::{GatewayMailbox, GatewayMailboxState, Timestamp};
use crate::store::FolderName;

/// A day, in milliseconds.
pub(in crate::store) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// So many days later; far enough away is for ever.
pub(in crate::store) fn days_after(at: Timestamp, days: u32) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms().saturating_add(i64::from(days).saturating_mul(DAY_MS)))
}

/// True while a legal hold keeps this folder: one on the gateway mailbox, or for users' folders one on the user.
pub(in crate::store) fn is_held(gateway_mailbox: &GatewayMailbox, folder: &FolderName) -> bool {
    match folder {
        FolderName::User { user, .. } => gateway_mailbox.holds_user(user),
        FolderName::Inbox | FolderName::Unassigned | FolderName::Quarantine => gateway_mailbox.is_held(),
    }
}

/// When what was deleted from this folder at `deleted_at` can be had back no more; `None` while a legal hold keeps it.
pub(in crate::store) fn grace_ends(
    gateway_mailbox: &GatewayMailbox,
    folder: &FolderName,
    deleted_at: Timestamp,
) -> Option<Timestamp> {
    let ends = days_after(deleted_at, gateway_mailbox.keeping.grace_days);
    (!is_held(gateway_mailbox, folder)).then_some(ends)
}

/// True when what was deleted from this folder at `deleted_at` can be had back no more at this trusted time, and no legal hold
/// keeps it. To be asked in the transaction that frees it: a hold may have been set a moment ago.
pub(in crate::store) fn grace_is_over(
    gateway_mailbox: &GatewayMailbox,
    folder: &FolderName,
    deleted_at: Timestamp,
    trusted: Timestamp,
) -> bool {
    grace_ends(gateway_mailbox, folder, deleted_at).is_some_and(|ends| ends <= trusted)
}

/// What retention takes out of a folder now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Due {
    /// Entries received until then, with it.
    pub(in crate::store) received_until: Timestamp,
    /// The rule, for the record.
    pub(in crate::store) why: String,
}

/// What retention takes out of this folder at this trusted time, were there no hold on it; `None` when it keeps all.
pub(in crate::store) fn due(
    gateway_mailbox: &GatewayMailbox,
    folder: &FolderName,
    trusted: Timestamp,
) -> Option<Due> {
    if gateway_mailbox.state == GatewayMailboxState::Deleted {
        // Of one that was deleted before that was written down nobody knows when it was: it is kept.
        let over = days_after(gateway_mailbox.deleted_at?, gateway_mailbox.keeping.grace_days);
        let all = Timestamp::from_unix_ms(i64::MAX);
        return (over <= trusted)
            .then(|| Due { received_until: all, why: "gateway mailbox deleted".to_owned() });
    }
    let days = match folder {
        FolderName::Inbox => gateway_mailbox.keeping.inbox_days,
        FolderName::User { .. } => gateway_mailbox.keeping.user_days,
        FolderName::Unassigned | FolderName::Quarantine => None,
    }?;
    let since = trusted.unix_ms().saturating_sub(i64::from(days).saturating_mul(DAY_MS));
    let unit = if days == 1 { "day" } else { "days" };
    Some(Due {
        received_until: Timestamp::from_unix_ms(since),
        why: format!("received more than {days} {unit} ago"),
    })
}
