//! Users as gateway mailboxes know them: the directory's list, who is gone from it, and the folders mail is kept in.

use super::Context;
use super::gateway_mailboxes::{folder_view, resolve};
use super::request::{FolderView, OpError, UserView};
use crate::directory::{Gone, Snapshot, User};
use crate::mail::{Address, AddressKey, GatewayMailbox, Timestamp};
use crate::observe::now;
use crate::store::FolderName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Users of one gateway mailbox, or of all, in the order of the directory; then those who are no longer in it.
pub(super) fn list(context: &Context, gateway_mailbox: Option<&str>) -> Result<Vec<UserView>, OpError> {
    let mut users = Vec::new();
    for mailbox in chosen(context, gateway_mailbox)? {
        users.append(&mut users_of(context, &mailbox)?);
    }
    Ok(users)
}

/// The user with this id or one of whose addresses this is.
pub(super) fn show(
    context: &Context,
    user: &str,
    gateway_mailbox: Option<&str>,
) -> Result<Vec<UserView>, OpError> {
    let key = AddressKey::of(user);
    let is_meant = |view: &UserView| {
        view.id == user || view.addresses.iter().any(|address| AddressKey::of(address) == key)
    };
    let found: Vec<UserView> = list(context, gateway_mailbox)?.into_iter().filter(is_meant).collect();
    if found.is_empty() {
        return Err(OpError::NotFound(format!("no user has the id or address {user}")));
    }
    Ok(found)
}

/// The gateway mailbox that is named, or all.
pub(super) fn chosen(
    context: &Context,
    gateway_mailbox: Option<&str>,
) -> Result<Vec<Arc<GatewayMailbox>>, OpError> {
    if let Some(name) = gateway_mailbox {
        return Ok(vec![resolve(context, name)?]);
    }
    let mut all = context.store.gateway_mailboxes();
    // Nobody's mail is assigned there.
    all.retain(|mailbox| !mailbox.is_self_test());
    if all.is_empty() {
        return Err(OpError::NotFound("there is no gateway mailbox yet".to_owned()));
    }
    Ok(all)
}

fn users_of(context: &Context, mailbox: &GatewayMailbox) -> Result<Vec<UserView>, OpError> {
    let address = mailbox.address().map(Address::as_str).unwrap_or_default();
    let snapshot = context.directory.snapshot_of(mailbox);
    let mut folders: BTreeMap<String, Vec<FolderView>> = BTreeMap::new();
    for status in context.store.folders(mailbox.id)? {
        if let FolderName::User { user, .. } = &status.name {
            folders.entry(user.clone()).or_default().push(folder_view(&status));
        }
    }
    let mut views: Vec<UserView> = snapshot
        .users()
        .iter()
        .map(|user| known(&snapshot, user, address, folders.remove(&user.id).unwrap_or_default()))
        .collect();
    // Who is gone is shown as long as mail still comes, or is kept.
    let now = now();
    for gone in snapshot.gone() {
        let kept = folders.remove(&gone.user.id);
        if kept.is_some() || now < gone.until {
            views.push(left(&snapshot, gone, now, address, kept.unwrap_or_default()));
        }
    }
    // What is left was placed for users of whom nothing else is known: their mail is kept, so they are shown.
    views.extend(folders.into_iter().map(|(id, folders)| UserView {
        id,
        name: None,
        primary: None,
        addresses: Vec::new(),
        in_directory: false,
        gone_since: None,
        addresses_until: None,
        gateway_mailbox: address.to_owned(),
        folders,
    }));
    Ok(views)
}

/// Only addresses that lead to this user: one contested with an earlier user is not this one's.
fn known(snapshot: &Snapshot, user: &User, gateway_mailbox: &str, folders: Vec<FolderView>) -> UserView {
    let is_its_own =
        |address: &&str| snapshot.find(&AddressKey::of(address)).is_some_and(|owner| owner.id == user.id);
    UserView {
        id: user.id.clone(),
        name: Some(user.name.clone()),
        primary: Some(user.primary.as_str().to_owned()),
        addresses: user.addresses().filter(is_its_own).map(str::to_owned).collect(),
        in_directory: true,
        gone_since: None,
        addresses_until: None,
        gateway_mailbox: gateway_mailbox.to_owned(),
        folders,
    }
}

/// One who is gone, with the addresses that lead there still.
fn left(
    snapshot: &Snapshot,
    gone: &Gone,
    now: Timestamp,
    gateway_mailbox: &str,
    folders: Vec<FolderView>,
) -> UserView {
    let Gone { user, since, until } = gone;
    let leads_there = |address: &&str| {
        snapshot.find_at(&AddressKey::of(address), now).is_some_and(|owner| owner.user.id == user.id)
    };
    UserView {
        id: user.id.clone(),
        name: Some(user.name.clone()),
        primary: Some(user.primary.as_str().to_owned()),
        addresses: user.addresses().filter(leads_there).map(str::to_owned).collect(),
        in_directory: false,
        gone_since: Some(*since),
        addresses_until: Some(*until),
        gateway_mailbox: gateway_mailbox.to_owned(),
        folders,
    }
}
