//! What is kept, and for how long: the rules of retention, of grace and of legal holds. Pure: time is an argument.

use crate::mail::{GatewayMailbox, GatewayMailboxState, Timestamp};
use crate::store::FolderName;

/// A day, in milliseconds.
pub(in crate::store) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// So many days later; behind the year 9999 is for ever.
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
    // Before 1970 nothing was received.
    if since < 0 {
        return None;
    }
    let unit = if days == 1 { "day" } else { "days" };
    Some(Due {
        received_until: Timestamp::from_unix_ms(since),
        why: format!("received more than {days} {unit} ago"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{EnvelopeHeaders, GatewayMailboxId, Hold, Keeping, Profile, Role, Trust, UserFolder};

    const YEAR: u32 = 365;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn incoming(user: &str) -> FolderName {
        FolderName::User { user: user.to_owned(), folder: UserFolder::Incoming }
    }

    fn keeping(keeping: Keeping, held: &[Option<&str>]) -> GatewayMailbox {
        let hold = |user: &Option<&str>| Hold {
            user: user.map(str::to_owned),
            at: at(0),
            actor: "anna".to_owned(),
            reason: "case 7".to_owned(),
        };
        GatewayMailbox {
            id: GatewayMailboxId::new(1, [0; 10]),
            name: "one".to_owned(),
            addresses: Vec::new(),
            tenant: None,
            profile: Profile::default(),
            state: GatewayMailboxState::default(),
            archive: true,
            created_at: at(0),
            public_key: String::new(),
            trust: Trust::default(),
            role: Role::default(),
            envelope_headers: EnvelopeHeaders::default(),
            keeping,
            holds: held.iter().map(hold).collect(),
            former_keys: Vec::new(),
            deleted_at: None,
            fetch: crate::mail::FetchRules::default(),
            view_from: None,
        }
    }

    #[test]
    fn an_entry_is_due_at_the_millisecond_at_which_it_is_as_old_as_the_rule_says() {
        let rule = Keeping { inbox_days: Some(YEAR), user_days: Some(1), ..Keeping::default() };
        let mailbox = keeping(rule, &[]);
        let received = at(1_800_000_000_123);
        let is_due = |folder: &FolderName, trusted: i64| {
            due(&mailbox, folder, at(trusted)).is_some_and(|due| received <= due.received_until)
        };
        let year = received.unix_ms() + 365 * DAY_MS;
        assert_eq!([year - 1, year].map(|now| is_due(&FolderName::Inbox, now)), [false, true]);
        let day = received.unix_ms() + DAY_MS;
        assert_eq!([day - 1, day].map(|now| is_due(&incoming("bob"), now)), [false, true]);
        for folder in [FolderName::Unassigned, FolderName::Quarantine] {
            assert_eq!(due(&mailbox, &folder, at(i64::MAX)), None);
        }
        assert_eq!(due(&keeping(Keeping::default(), &[]), &FolderName::Inbox, at(i64::MAX)), None);
        let why = |folder| due(&mailbox, &folder, received).map(|due| due.why);
        assert_eq!(why(FolderName::Inbox).as_deref(), Some("received more than 365 days ago"));
        assert_eq!(why(incoming("bob")).as_deref(), Some("received more than 1 day ago"));
    }

    #[test]
    fn grace_ends_at_its_millisecond_and_never_under_a_hold() {
        let (deleted, week) = (at(1_800_000_000_123), 7 * DAY_MS);
        let over = |held: &[Option<&str>], folder: &FolderName, after: i64| {
            let mailbox = keeping(Keeping::default(), held);
            grace_is_over(&mailbox, folder, deleted, at(deleted.unix_ms().saturating_add(after)))
        };
        for folder in [FolderName::Inbox, FolderName::Quarantine, incoming("bob")] {
            assert_eq!([week - 1, week].map(|after| over(&[], &folder, after)), [false, true]);
            assert!(!over(&[None], &folder, i64::MAX), "all is held");
        }
        let bob: &[Option<&str>] = &[Some("bob")];
        assert!(!over(bob, &incoming("bob"), i64::MAX));
        assert!(over(bob, &incoming("eve"), week) && over(bob, &FolderName::Inbox, week));
        let at_once = keeping(Keeping { grace_days: 0, ..Keeping::default() }, &[]);
        assert!(grace_is_over(&at_once, &FolderName::Inbox, deleted, deleted));
        let for_ever = keeping(Keeping { grace_days: u32::MAX, ..Keeping::default() }, &[]);
        let in_7000_years = days_after(deleted, 7000 * YEAR);
        assert!(!grace_is_over(&for_ever, &FolderName::Inbox, deleted, in_7000_years));
        let century = keeping(Keeping { inbox_days: Some(100 * YEAR), ..Keeping::default() }, &[]);
        assert_eq!(due(&century, &FolderName::Inbox, deleted), None);
    }

    #[test]
    fn a_deleted_gateway_mailbox_is_due_as_a_whole_when_its_grace_is_over() {
        let deleted = |deleted_at: Option<Timestamp>| GatewayMailbox {
            state: GatewayMailboxState::Deleted,
            deleted_at,
            ..keeping(Keeping { inbox_days: Some(1), ..Keeping::default() }, &[])
        };
        let (mailbox, over) = (deleted(Some(at(5))), 5 + 7 * DAY_MS);
        for folder in [FolderName::Inbox, FolderName::Unassigned, incoming("bob")] {
            assert_eq!(due(&mailbox, &folder, at(over - 1)), None);
            let due = due(&mailbox, &folder, at(over)).unwrap();
            assert_eq!((due.received_until, due.why.as_str()), (at(i64::MAX), "gateway mailbox deleted"));
        }
        // Nobody wrote down when.
        assert_eq!(due(&deleted(None), &FolderName::Inbox, at(i64::MAX)), None);
    }
}
