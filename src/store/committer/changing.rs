//! Changes to gateway mailboxes, and what forbids them.

use crate::mail::{
    GatewayMailbox, GatewayMailboxId, GatewayMailboxState, HOLD_REASON_CHARACTERS_MAX, HOLDS_MAX, Hold,
    Keeping, Role, Timestamp, UidValidity,
};
use crate::store::fact::{FolderFact, GatewayMailboxFact};
use crate::store::files::random_name;
use crate::store::index::Index;
use crate::store::rotation::rotate;
use crate::store::{FolderName, GatewayMailboxChange, StoreError};

/// Refuses an NDR mailbox that serves none that reports are sent to.
pub(super) fn check_role(index: &Index, made: &GatewayMailbox) -> Result<(), StoreError> {
    let Role::Ndr { serves } = made.role else { return Ok(()) };
    match not_deleted(index)?.into_iter().find(|other| other.id == serves) {
        Some(other) if other.role.is_journal() => Ok(()),
        Some(other) => Err(StoreError::Refused(format!(
            "{} is an NDR mailbox itself: name the one that the reports are sent to",
            other.login()
        ))),
        None => Err(StoreError::Refused("there is no gateway mailbox that it could serve".to_owned())),
    }
}

/// An NDR mailbox that serves this gateway mailbox.
fn serving(index: &Index, id: GatewayMailboxId) -> Result<Option<GatewayMailbox>, StoreError> {
    Ok(not_deleted(index)?.into_iter().find(|other| other.role == Role::Ndr { serves: id }))
}

fn not_deleted(index: &Index) -> Result<Vec<GatewayMailbox>, StoreError> {
    let all = index.gateway_mailboxes()?.into_iter().map(|(gateway_mailbox, _)| gateway_mailbox);
    Ok(all.filter(|other| other.state != GatewayMailboxState::Deleted).collect())
}

/// Why a gateway mailbox cannot keep mail so: an entry that is due as it comes is never seen by anybody.
fn check_keeping(keeping: &Keeping) -> Result<(), StoreError> {
    if keeping.inbox_days == Some(0) || keeping.user_days == Some(0) {
        let why = "retention of 0 days would take out all mail as it comes: 1 day is the least";
        return Err(StoreError::Refused(why.to_owned()));
    }
    Ok(())
}

fn whom(user: Option<&str>) -> String {
    user.map_or_else(|| "the gateway mailbox".to_owned(), |user| format!("the user {user}"))
}

fn hold(holds: &mut Vec<Hold>, made: Hold) -> Result<(), StoreError> {
    let refuse = |why: String| Err(StoreError::Refused(why));
    let characters = made.reason.chars().count();
    if made.reason.trim().is_empty() || characters > HOLD_REASON_CHARACTERS_MAX {
        return refuse(format!("a hold needs a reason of at most {HOLD_REASON_CHARACTERS_MAX} characters"));
    }
    if holds.iter().any(|hold| hold.user == made.user) {
        return refuse(format!("{} is held already", whom(made.user.as_deref())));
    }
    // There is always room for the one that keeps all.
    if made.user.is_some() && holds.len() >= HOLDS_MAX {
        return refuse(format!("it has {HOLDS_MAX} holds already: hold all of it"));
    }
    holds.push(made);
    Ok(())
}

/// Refuses a hold on a user that would hold nothing that comes: without an archive all of it goes to INBOX.
fn check_held_user(archive: bool, user: Option<&str>) -> Result<(), StoreError> {
    match user {
        Some(user) if !archive => Err(StoreError::Refused(format!(
            "mail goes to INBOX alone (archive=false), and a hold on {user} would hold none of it: hold all of it, without --user"
        ))),
        _ => Ok(()),
    }
}

/// Refuses to place mail in INBOX alone while a user is held: what comes for him would not be.
fn check_archive(archive: bool, holds: &[Hold]) -> Result<(), StoreError> {
    match holds.iter().find_map(|hold| hold.user.as_deref()).filter(|_| !archive) {
        Some(user) => Err(StoreError::Refused(format!(
            "a legal hold is on {}: what comes for him to INBOX alone would not be held; hold all of it, and end that one first",
            whom(Some(user))
        ))),
        None => Ok(()),
    }
}

fn unhold(holds: &mut Vec<Hold>, user: Option<&str>) -> Result<(), StoreError> {
    let before = holds.len();
    holds.retain(|hold| hold.user.as_deref() != user);
    match holds.len() == before {
        true => Err(StoreError::Refused(format!("no hold is on {}", whom(user)))),
        false => Ok(()),
    }
}

/// Refuses to delete what is in use, held, or not empty.
fn check_delete(index: &Index, state: &GatewayMailbox, force: bool) -> Result<(), StoreError> {
    let refuse = |why: String| Err(StoreError::Refused(why));
    if state.state != GatewayMailboxState::Suspended {
        return refuse("suspend it first: a sender may be delivering to it".to_owned());
    }
    if let Some(hold) = state.holds.first() {
        return refuse(format!("a legal hold is on {}: it cannot be deleted", whom(hold.user.as_deref())));
    }
    let left: u64 = index.folders(state.id)?.iter().map(|f| f.entries).sum();
    if left > 0 && !force {
        return refuse(format!("it still holds {left} entries; fetch and delete them, or use --force"));
    }
    match serving(index, state.id)? {
        Some(serving) => {
            refuse(format!("the NDR mailbox {} serves it: delete that one first", serving.login()))
        }
        None => Ok(()),
    }
}

/// INBOX under another UIDVALIDITY, when from this change on it holds something else: whoever knows it looks at it afresh, and no
/// UIDL is what it was.
pub(super) fn renewed_inbox(
    index: &Index,
    change: &GatewayMailboxFact,
    at: Timestamp,
) -> Result<Option<FolderFact>, StoreError> {
    let becomes = &change.gateway_mailbox;
    let was = index.gateway_mailbox(becomes.id)?.ok_or(StoreError::Gone)?;
    if was.fetch.maildrop == becomes.fetch.maildrop {
        return Ok(None);
    }
    let Some(inbox) = index.folder(becomes.id, &FolderName::Inbox)? else { return Ok(None) };
    let behind = inbox.uid_validity.value().checked_add(1).and_then(UidValidity::new);
    let behind = behind.ok_or_else(|| StoreError::Refused("INBOX has no UIDVALIDITY left".to_owned()))?;
    Ok(Some(FolderFact {
        folder: inbox.id,
        gateway_mailbox: becomes.id,
        name: FolderName::Inbox,
        slug: None,
        uid_validity: super::uid_validity(at).max(behind),
        again: true,
    }))
}

/// The entry for changes to a gateway mailbox, if its state allows them. Times are that of the change, and that by which what is
/// deleted leaves.
pub(super) fn change(
    index: &Index,
    id: GatewayMailboxId,
    changes: &[GatewayMailboxChange],
    actor: String,
    (at, deleted_at): (Timestamp, Timestamp),
) -> Result<GatewayMailboxFact, StoreError> {
    let found = index
        .gateway_mailboxes()?
        .into_iter()
        .find(|(m, _)| m.id == id && m.state != GatewayMailboxState::Deleted);
    let (mut state, digest_key) = found.ok_or(StoreError::Gone)?;
    let mut action = "set";
    for change in changes {
        match change {
            GatewayMailboxChange::Name(name) => state.name.clone_from(name),
            GatewayMailboxChange::Tenant(tenant) => state.tenant.clone_from(tenant),
            GatewayMailboxChange::Profile(profile) => state.profile = *profile,
            GatewayMailboxChange::Archive(archive) => {
                check_archive(*archive, &state.holds)?;
                state.archive = *archive;
            }
            GatewayMailboxChange::RecipientHeaders(names) => {
                state.envelope_headers.recipients.clone_from(names);
            }
            GatewayMailboxChange::SenderHeaders(names) => state.envelope_headers.senders.clone_from(names),
            GatewayMailboxChange::Trust { was, becomes } => {
                if state.trust != *was {
                    let why = "who is trusted was changed at the same time: look at it and try again";
                    return Err(StoreError::Refused(why.to_owned()));
                }
                state.trust.clone_from(becomes);
            }
            GatewayMailboxChange::Rotate { domain, overlap_ms } => {
                let local = random_name().map_err(|e| StoreError::io("drawing randomness", e))?;
                rotate(&mut state.addresses, &local, domain.as_deref(), at, *overlap_ms)?;
                action = "rotate";
            }
            GatewayMailboxChange::Suspend => {
                (state.state, action) = (GatewayMailboxState::Suspended, "suspend");
            }
            GatewayMailboxChange::Resume => {
                (state.state, action) = (GatewayMailboxState::Active, "resume");
            }
            GatewayMailboxChange::Keeping { was, becomes } => {
                if state.keeping != *was {
                    let why = "how long mail is kept was changed at the same time: look at it and try again";
                    return Err(StoreError::Refused(why.to_owned()));
                }
                check_keeping(becomes)?;
                state.keeping = *becomes;
            }
            GatewayMailboxChange::Fetch { was, becomes } => {
                if state.fetch != *was {
                    let why = "how mail is fetched was changed at the same time: look at it and try again";
                    return Err(StoreError::Refused(why.to_owned()));
                }
                if was.maildrop != becomes.maildrop {
                    // What waits is of the view before. A folder that was never made holds nothing.
                    state.view_from = index.folder(id, &FolderName::Inbox)?.map(|inbox| inbox.uid_next);
                }
                state.fetch = *becomes;
            }
            GatewayMailboxChange::Hold { user, reason } => {
                check_held_user(state.archive, user.as_deref())?;
                let (user, reason) = (user.clone(), reason.clone());
                hold(&mut state.holds, Hold { user, at, actor: actor.clone(), reason })?;
                action = "hold";
            }
            GatewayMailboxChange::Unhold { user } => {
                unhold(&mut state.holds, user.as_deref())?;
                action = "unhold";
            }
            GatewayMailboxChange::Delete { force } => {
                check_delete(index, &state, *force)?;
                state.deleted_at = Some(deleted_at);
                (state.state, action) = (GatewayMailboxState::Deleted, "delete");
            }
        }
    }
    Ok(GatewayMailboxFact { at, actor, action: action.to_owned(), gateway_mailbox: state, digest_key })
}
