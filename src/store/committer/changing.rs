//! Changes to gateway mailboxes, and what forbids them.

use crate::mail::{GatewayMailbox, GatewayMailboxId, GatewayMailboxState, Role, Timestamp};
use crate::store::fact::GatewayMailboxFact;
use crate::store::files::random_name;
use crate::store::index::Index;
use crate::store::rotation::rotate;
use crate::store::{GatewayMailboxChange, StoreError};

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

/// The entry for changes to a gateway mailbox, if its state allows them.
pub(super) fn change(
    index: &Index,
    id: GatewayMailboxId,
    changes: &[GatewayMailboxChange],
    actor: String,
    at: Timestamp,
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
            GatewayMailboxChange::Archive(archive) => state.archive = *archive,
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
            GatewayMailboxChange::Delete { force } => {
                if state.state != GatewayMailboxState::Suspended {
                    return Err(StoreError::Refused(
                        "suspend it first: a sender may be delivering to it".to_owned(),
                    ));
                }
                let left: u64 = index.folders(id)?.iter().map(|f| f.entries).sum();
                if left > 0 && !force {
                    return Err(StoreError::Refused(format!(
                        "it still holds {left} entries; fetch and delete them, or use --force"
                    )));
                }
                if let Some(serving) = serving(index, id)? {
                    return Err(StoreError::Refused(format!(
                        "the NDR mailbox {} serves it: delete that one first",
                        serving.login()
                    )));
                }
                (state.state, action) = (GatewayMailboxState::Deleted, "delete");
            }
        }
    }
    Ok(GatewayMailboxFact { at, actor, action: action.to_owned(), gateway_mailbox: state, digest_key })
}
