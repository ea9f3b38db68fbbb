//! How long a gateway mailbox keeps mail, and the legal holds on it.
//!
//! What takes mail away asks first: a shorter time, or the end of a hold, says as [`OpError::NeedsApproval`] what would go at
//! the next pass of retention.

use super::gateway_mailboxes::{log_change, resolve};
use super::ops::{Context, blocking};
use super::request::OpError;
use super::users;
use crate::mail::{
    GRACE_DAYS_DEFAULT, GatewayMailbox, GatewayMailboxId, HOLD_REASON_CHARACTERS_MAX, Hold, Keeping,
    Timestamp,
};
use crate::store::{FolderName, FolderStatus, GatewayMailboxChange};

/// Longest time that what was deleted can be had back, in days.
const GRACE_DAYS_MAX: u32 = 3_650;
/// Longest time that retention can leave a message where it is, in days: a hundred years.
const RETENTION_DAYS_MAX: u32 = 36_500;
const DAY_MS: i64 = 86_400_000;

/// Takes one key of `set` into `keeping`; false when the key is none of it.
pub(super) fn set(keeping: &mut Keeping, key: &str, value: &str) -> Result<bool, OpError> {
    match key {
        "grace_days" => {
            keeping.grace_days = days(key, value, (0, GRACE_DAYS_MAX))?.unwrap_or(GRACE_DAYS_DEFAULT);
        }
        "inbox_retention_days" => keeping.inbox_days = days(key, value, (1, RETENTION_DAYS_MAX))?,
        "user_retention_days" => keeping.user_days = days(key, value, (1, RETENTION_DAYS_MAX))?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Empty for none.
fn days(key: &str, value: &str, (least, most): (u32, u32)) -> Result<Option<u32>, OpError> {
    match value.trim() {
        "" => Ok(None),
        text => match text.parse() {
            Ok(days) if (least..=most).contains(&days) => Ok(Some(days)),
            _ => Err(OpError::Usage(format!("{key} is a number of days from {least} to {most}, not {text}"))),
        },
    }
}

/// Refuses a change that would take mail away and is not approved. What holds no mail loses none.
pub(super) fn check(context: &Context, mailbox: &GatewayMailbox, new: Keeping) -> Result<(), OpError> {
    let then = GatewayMailbox { keeping: new, ..mailbox.clone() };
    let folders = context.store.folders(mailbox.id)?;
    let was = mailbox.keeping;
    let mut lines = Vec::new();
    for (kind, was, days) in
        [(Kind::Inbox, was.inbox_days, new.inbox_days), (Kind::Users, was.user_days, new.user_days)]
    {
        let Some(days) = days.filter(|days| was.is_none_or(|was| *days < was)) else { continue };
        let there: u64 = folders.iter().filter(|f| kind.is_of(&f.name)).map(|f| f.entries).sum();
        if there > 0 {
            let going = going(context, &then, &folders, kind)?;
            lines.push(format!(
                "{}: {going} of {there} messages were received more than {} ago and leave at the next pass of retention; until \
                 now {}",
                kind.name(),
                in_days(days),
                was.map_or_else(|| "none does".to_owned(), |was| format!("they stay for {}", in_days(was))),
            ));
        }
    }
    if new.grace_days < was.grace_days {
        let (freed, deleted) = freed(context, &then)?;
        if deleted > 0 {
            lines.push(format!(
                "deleted: {freed} of {deleted} messages can be had back no more; until now they can for {}",
                in_days(was.grace_days)
            ));
        }
    }
    match lines.is_empty() {
        true => Ok(()),
        false => Err(OpError::NeedsApproval(lines.join("\n"))),
    }
}

/// `1 day`, `30 days`
pub(super) fn in_days(days: u32) -> String {
    format!("{days} day{}", if days == 1 { "" } else { "s" })
}

/// Folders that one rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Inbox,
    Users,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Inbox => "INBOX",
            Kind::Users => "Users",
        }
    }

    pub(super) fn is_of(self, folder: &FolderName) -> bool {
        match self {
            Kind::Inbox => *folder == FolderName::Inbox,
            Kind::Users => matches!(folder, FolderName::User { .. }),
        }
    }

    pub(super) fn days(self, keeping: Keeping) -> Option<u32> {
        match self {
            Kind::Inbox => keeping.inbox_days,
            Kind::Users => keeping.user_days,
        }
    }
}

/// True while a legal hold keeps retention from this folder.
pub(super) fn is_held(mailbox: &GatewayMailbox, folder: &FolderName) -> bool {
    match folder {
        FolderName::User { user, .. } => mailbox.holds_user(user),
        _ => mailbox.is_held(),
    }
}

pub(super) fn before(at: Timestamp, days: u32) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms().saturating_sub(i64::from(days).saturating_mul(DAY_MS)))
}

pub(super) fn after(at: Timestamp, days: u32) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms().saturating_add(i64::from(days).saturating_mul(DAY_MS)))
}

/// How many entries of these folders retention would take out now.
pub(super) fn going(
    context: &Context,
    mailbox: &GatewayMailbox,
    folders: &[FolderStatus],
    kind: Kind,
) -> Result<u64, OpError> {
    let Some(days) = kind.days(mailbox.keeping) else { return Ok(0) };
    let until = before(context.store.keeping().trusted, days);
    let mut going = 0;
    for folder in folders.iter().filter(|folder| kind.is_of(&folder.name) && !is_held(mailbox, &folder.name))
    {
        if folder.oldest.is_some_and(|oldest| oldest <= until) {
            going += context.store.received_until(mailbox.id, &folder.name, until)?;
        }
    }
    Ok(going)
}

/// How many deleted entries could be had back no more, and how many can now. Those under a hold can.
fn freed(context: &Context, mailbox: &GatewayMailbox) -> Result<(u64, u64), OpError> {
    let count = |since| -> Result<(u64, u64), OpError> {
        let (mut held, mut all) = (0, 0);
        for one in context.store.recoverable(mailbox.id, since)? {
            all += one.entries;
            if is_held(mailbox, &one.folder) {
                held += one.entries;
            }
        }
        Ok((held, all))
    };
    let (held, all) = count(Timestamp::from_unix_ms(0))?;
    let over = before(context.store.keeping().trusted, mailbox.keeping.grace_days);
    // Deleted at that moment is deleted long enough ago.
    let (held_left, left) = count(Timestamp::from_unix_ms(over.unix_ms().saturating_add(1)))?;
    Ok(((all - held).saturating_sub(left - held_left), all))
}

/// Sets a legal hold on a gateway mailbox, or on one user's folders in it.
pub(super) async fn hold(
    context: &Context,
    actor: &str,
    text: &str,
    user: Option<String>,
    reason: &str,
) -> Result<GatewayMailboxId, OpError> {
    let mailbox = resolve(context, text)?;
    let reason = checked_reason(reason)?;
    let user = match user {
        Some(user) => Some(user_id(context, mailbox.id, user).await?),
        None => None,
    };
    let change = GatewayMailboxChange::Hold { user: user.clone(), reason };
    let changed = context.store.change_gateway_mailbox(mailbox.id, vec![change], actor).await?;
    log_hold("mailbox.held", &changed, user.as_deref(), actor);
    Ok(changed.id)
}

/// Ends one.
pub(super) async fn unhold(
    context: &Context,
    actor: &str,
    text: &str,
    user: Option<String>,
    approved: bool,
) -> Result<GatewayMailboxId, OpError> {
    let mailbox = resolve(context, text)?;
    let user = match user {
        // Whom nothing names any more can be held still.
        Some(user) if mailbox.holds.iter().any(|hold| hold.user.as_ref() == Some(&user)) => Some(user),
        Some(user) => Some(user_id(context, mailbox.id, user).await?),
        None => None,
    };
    if !approved {
        let (mailbox, user) = (GatewayMailbox::clone(&mailbox), user.clone());
        let plan = blocking(context, move |c| end_of_hold(c, mailbox, user.as_deref())).await?;
        return Err(OpError::NeedsApproval(plan));
    }
    let change = GatewayMailboxChange::Unhold { user: user.clone() };
    let changed = context.store.change_gateway_mailbox(mailbox.id, vec![change], actor).await?;
    log_hold("mailbox.unheld", &changed, user.as_deref(), actor);
    Ok(changed.id)
}

/// What goes once this hold is not there any more.
fn end_of_hold(context: &Context, mailbox: GatewayMailbox, user: Option<&str>) -> Result<String, OpError> {
    let Some(hold) = mailbox.holds.iter().find(|hold| hold.user.as_deref() == user).cloned() else {
        return Err(OpError::Refused(match user {
            Some(user) => format!("there is no hold on the user {user}"),
            None => "there is no hold on all of it; --user names a user's".to_owned(),
        }));
    };
    let folders = context.store.folders(mailbox.id)?;
    let mut then = mailbox.clone();
    then.holds.retain(|other| other.user.as_deref() != user);
    let mut leaving = 0;
    for kind in [Kind::Inbox, Kind::Users] {
        let more = going(context, &then, &folders, kind)?;
        leaving += more.saturating_sub(going(context, &mailbox, &folders, kind)?);
    }
    let freed = freed(context, &then)?.0.saturating_sub(freed(context, &mailbox)?.0);
    Ok(format!(
        "the hold on {} since {}: {}\nwithout it {leaving} messages leave at the next pass of retention, and {freed} deleted ones can \
         be had back no more",
        held_thing(&hold),
        hold.at,
        hold.reason,
    ))
}

/// What a hold is on, for people.
pub(super) fn held_thing(hold: &Hold) -> String {
    hold.user.as_ref().map_or_else(|| "all of it".to_owned(), |user| format!("the user {user}"))
}

/// Refuses what a legal hold forbids.
pub(super) fn refuse_held(mailbox: &GatewayMailbox) -> Result<(), OpError> {
    match mailbox.holds.first() {
        None => Ok(()),
        Some(hold) => Err(OpError::Refused(format!(
            "a legal hold is on {}, for this reason: {}; it ends with daybook mailbox unhold",
            held_thing(hold),
            hold.reason
        ))),
    }
}

async fn user_id(context: &Context, id: GatewayMailboxId, user: String) -> Result<String, OpError> {
    let found = blocking(context, move |c| users::show(c, &user, Some(&id.to_string()))).await?;
    match found.as_slice() {
        [one] => Ok(one.id.clone()),
        several => {
            let ids: Vec<&str> = several.iter().map(|user| user.id.as_str()).collect();
            Err(OpError::Usage(format!("more than one user is meant: {}", ids.join(", "))))
        }
    }
}

/// Why it was set is for those who may ask the gateway, not for everybody who reads its log.
fn log_hold(event: &'static str, mailbox: &GatewayMailbox, user: Option<&str>, actor: &str) {
    match user {
        None => log_change(event, mailbox, actor),
        Some(user) => {
            let (id, login) = (mailbox.id, mailbox.login());
            tracing::info!(event, mailbox = login, mailbox_id = %id, user, actor);
        }
    }
}

fn checked_reason(reason: &str) -> Result<String, OpError> {
    let reason = reason.trim();
    let is_long = reason.chars().count() > HOLD_REASON_CHARACTERS_MAX;
    if reason.is_empty() || is_long || reason.chars().any(char::is_control) {
        return Err(OpError::Usage(format!(
            "a reason has 1 to {HOLD_REASON_CHARACTERS_MAX} characters, all of them printable"
        )));
    }
    Ok(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_bounds_and_nothing_is_the_default() {
        let check = |key: &str, value: &str, expect: Option<Keeping>| {
            let mut keeping = Keeping { grace_days: 3, inbox_days: Some(5), user_days: Some(6) };
            let was = keeping;
            match set(&mut keeping, key, value) {
                Ok(true) => assert_eq!(Some(keeping), expect, "{key}={value}"),
                Ok(false) => panic!("{key} is not known"),
                Err(error) => {
                    assert_eq!((expect, keeping), (None, was), "{key}={value}: {error}");
                }
            }
        };
        let was = Keeping { grace_days: 3, inbox_days: Some(5), user_days: Some(6) };
        check("grace_days", "0", Some(Keeping { grace_days: 0, ..was }));
        check("grace_days", " 3650 ", Some(Keeping { grace_days: 3_650, ..was }));
        check("grace_days", "", Some(Keeping { grace_days: 7, ..was }));
        check("inbox_retention_days", "1", Some(Keeping { inbox_days: Some(1), ..was }));
        check("inbox_retention_days", "", Some(Keeping { inbox_days: None, ..was }));
        check("user_retention_days", "36500", Some(Keeping { user_days: Some(36_500), ..was }));
        for (key, wrong) in [
            ("grace_days", "3651"),
            ("grace_days", "-1"),
            ("grace_days", "1.5"),
            ("inbox_retention_days", "0"),
            ("inbox_retention_days", "36501"),
            ("user_retention_days", "never"),
            ("user_retention_days", "99999999999"),
        ] {
            check(key, wrong, None);
        }
        assert!(!set(&mut Keeping::default(), "retention_days", "3").unwrap());
    }
}
