//! The gateway mailbox in which Daybook tries itself out.
//!
//! It is known by its name, which nobody else can give. Its mail is only placed in INBOX, so that what POP3 deletes is gone
//! and no user's folder ever sees it.

use super::Context;
use super::gateway_mailboxes::{checked_domain, log_change, view};
use super::ops::blocking;
use super::request::{CreatedView, OpError};
use crate::mail::{
    GatewayMailbox, GatewayMailboxId, GatewayMailboxState, Profile, Role, SELF_TEST_NAME, SessionId,
};
use crate::observe::now;
use crate::store::{Client, FolderName, GatewayMailboxChange, NewGatewayMailbox};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

fn all(context: &Context) -> Vec<Arc<GatewayMailbox>> {
    let mut all = context.store.gateway_mailboxes();
    all.retain(|mailbox| mailbox.is_self_test());
    all
}

/// A new one; any there was is deleted, with what is in it: nobody has its password any more.
pub(super) async fn renew(context: &Context, actor: &str) -> Result<CreatedView, OpError> {
    for old in all(context) {
        let mut changes = vec![GatewayMailboxChange::Delete { force: true }];
        if old.state == GatewayMailboxState::Active {
            changes.insert(0, GatewayMailboxChange::Suspend);
        }
        for change in changes {
            let deleted = matches!(change, GatewayMailboxChange::Delete { .. });
            let changed = context.store.change_gateway_mailbox(old.id, vec![change], actor).await?;
            log_change(if deleted { "mailbox.deleted" } else { "mailbox.suspended" }, &changed, actor);
        }
    }
    let new = NewGatewayMailbox {
        name: SELF_TEST_NAME.to_owned(),
        domain: checked_domain(context, None)?,
        tenant: None,
        profile: Profile::Microsoft365,
        role: Role::default(),
    };
    let (made, password) = context.store.create_gateway_mailbox(new, actor).await?;
    let inbox_only = vec![GatewayMailboxChange::Archive(false)];
    let made = context.store.change_gateway_mailbox(made.id, inbox_only, actor).await?;
    log_change("mailbox.created", &made, actor);
    Ok(CreatedView { gateway_mailbox: view(context, &made, &[]), password })
}

/// Takes out what a test left, where no POP3 listener can do it.
pub(super) async fn clear(context: &Context) -> Result<GatewayMailboxId, OpError> {
    let mailbox = all(context).into_iter().next();
    let Some(mailbox) = mailbox else {
        return Err(OpError::NotFound("there is no gateway mailbox for self-tests".to_owned()));
    };
    let id = mailbox.id;
    let listing = blocking(context, move |c| Ok(c.store.list(id, &FolderName::Inbox)?)).await?;
    let uids: Vec<_> = listing.entries.iter().map(|entry| entry.uid).collect();
    let by = Client {
        protocol: "doctor".to_owned(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        session_id: SessionId::new(u64::try_from(now().unix_ms()).unwrap_or(0), random()?),
    };
    if !uids.is_empty() {
        context.store.expunge(id, &FolderName::Inbox, &uids, &by).await?;
    }
    Ok(id)
}

/// Octets nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], OpError> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets)
        .map_err(|_| OpError::Unavailable("the system gives no randomness".to_owned()))?;
    Ok(octets)
}
