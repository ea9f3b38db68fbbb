//! Making, showing and changing gateway mailboxes.

use super::key_changes::KeysView;
use super::learned::{LearnedView, seen};
use super::ops::blocking;
use super::request::{
    AddressView, CreatedView, FolderView, GatewayMailboxView, InboxView, OpError, RoleView, ServedView,
};
use super::{Context, keeping, trust, views};
use crate::config::is_host_name;
use crate::mail::{
    Address, AddressKey, ENVELOPE_HEADERS_MAX, EnvelopeHeaders, GatewayAddress, GatewayMailbox,
    GatewayMailboxId, GatewayMailboxState, Profile, Role, SELF_TEST_NAME, Timestamp,
};
use crate::observe::now;
use crate::store::{FolderName, FolderStatus, GatewayMailboxChange, NewGatewayMailbox};
use std::sync::Arc;

/// Why an NDR mailbox has one profile only.
const NDR_PROFILE: &str = "an NDR mailbox unwraps what it receives: its profile is microsoft365";
/// Longest name, in characters.
const NAME_CHARACTERS_MAX: usize = 200;
/// Keys that `set` knows.
const KEYS: &str = "name, tenant, profile, archive, mode, trusted_networks, pinned_certificates, recipient_headers, sender_headers, \
                    grace_days, inbox_retention_days, user_retention_days, maildrop, user_delete";
/// How long a former address is served when nothing else is said, in days.
pub const OVERLAP_DAYS_DEFAULT: u32 = 14;
/// Longest time that it can be told to be served, in days.
pub const OVERLAP_DAYS_MAX: u32 = 365;
const DAY_MS: u64 = 86_400_000;

/// The gateway mailbox that `text` means: by address (also a former one), login, id, or a name only one has.
pub(super) fn resolve(context: &Context, text: &str) -> Result<Arc<GatewayMailbox>, OpError> {
    among(&context.store.gateway_mailboxes(), text)
}

/// The one of these that `text` means.
pub(super) fn among(all: &[Arc<GatewayMailbox>], text: &str) -> Result<Arc<GatewayMailbox>, OpError> {
    let text = text.trim();
    let key = AddressKey::of(text);
    let is_meant = |mailbox: &&Arc<GatewayMailbox>| {
        let mut addresses = mailbox.addresses.iter().map(|served| &served.address);
        mailbox.id.to_string() == text
            || addresses.any(|a| a.key() == key || AddressKey::of(a.local()) == key)
    };
    if let Some(found) = all.iter().find(is_meant) {
        return Ok(Arc::clone(found));
    }
    let named: Vec<&Arc<GatewayMailbox>> = all.iter().filter(|mailbox| mailbox.name == text).collect();
    match named.as_slice() {
        [one] => Ok(Arc::clone(one)),
        [] => Err(OpError::NotFound(format!("no gateway mailbox has the address, login, id or name {text}"))),
        several => {
            let addresses: Vec<&str> = several.iter().map(|mailbox| address_of(mailbox)).collect();
            let addresses = addresses.join(", ");
            Err(OpError::Usage(format!("more than one gateway mailbox is named {text}: {addresses}")))
        }
    }
}

fn address_of(mailbox: &GatewayMailbox) -> &str {
    mailbox.address().map(Address::as_str).unwrap_or_default()
}

pub(super) async fn create(
    context: &Context,
    actor: &str,
    name: String,
    domain: Option<String>,
    tenant: Option<String>,
    profile: Profile,
    serves: Option<String>,
) -> Result<CreatedView, OpError> {
    let new = NewGatewayMailbox {
        name: checked_name(&name)?,
        domain: checked_domain(context, domain)?,
        tenant: tenant.as_deref().map(checked_tenant).transpose()?.flatten(),
        profile,
        role: checked_role(context, serves.as_deref(), profile)?,
    };
    let (mailbox, password) = context.store.create_gateway_mailbox(new, actor).await?;
    log_change("mailbox.created", &mailbox, actor);
    // It is made whatever cannot be told of it.
    let escrow = context.store.escrow(mailbox.id).ok();
    let gateway_mailbox = GatewayMailboxView { escrow, ..view(context, &mailbox, &[]) };
    Ok(CreatedView { gateway_mailbox, password })
}

/// An NDR mailbox when it serves another one.
fn checked_role(context: &Context, serves: Option<&str>, profile: Profile) -> Result<Role, OpError> {
    let Some(serves) = serves else { return Ok(Role::Journal) };
    if profile != Profile::Microsoft365 {
        return Err(OpError::Usage(NDR_PROFILE.to_owned()));
    }
    let served = resolve(context, serves)?;
    if !served.role.is_journal() || served.is_self_test() {
        let login = served.login();
        return Err(OpError::Refused(format!(
            "{login} takes no journal reports: an NDR mailbox serves one that does"
        )));
    }
    Ok(Role::Ndr { serves: served.id })
}

pub(super) fn list(context: &Context) -> Result<Vec<GatewayMailboxView>, OpError> {
    let mut views = Vec::new();
    for mailbox in context.store.gateway_mailboxes() {
        views.push(view(context, &mailbox, &context.store.folders(mailbox.id)?));
    }
    Ok(views)
}

/// Everything about it, also what its mail teaches.
pub(super) fn show(context: &Context, text: &str) -> Result<GatewayMailboxView, OpError> {
    let mailbox = resolve(context, text)?;
    let seen = seen(context, mailbox.id)?;
    let mut view = with_folders(context, &mailbox)?;
    view.recent = Some(seen.recent(&mut view.addresses));
    with_notes(context, view, Some(seen.learned()))
}

/// As it is after a change. What its mail teaches is read again only for who asks for it; `learned` was read for the change.
pub(super) fn changed(
    context: &Context,
    id: GatewayMailboxId,
    learned: Option<LearnedView>,
) -> Result<GatewayMailboxView, OpError> {
    let mailbox = resolve(context, &id.to_string())?;
    with_notes(context, with_folders(context, &mailbox)?, learned)
}

fn with_folders(context: &Context, mailbox: &GatewayMailbox) -> Result<GatewayMailboxView, OpError> {
    let folders = context.store.folders(mailbox.id)?;
    let shown = folders.iter().map(folder_view).collect();
    let escrow = Some(context.store.escrow(mailbox.id)?);
    let keys = KeysView::counted(context, mailbox)?;
    let fetching = Some(views::fetching(context, mailbox)?);
    Ok(GatewayMailboxView {
        folders: Some(shown),
        escrow,
        keys,
        fetching,
        ..view(context, mailbox, &folders)
    })
}

fn with_notes(
    context: &Context,
    mut view: GatewayMailboxView,
    learned: Option<LearnedView>,
) -> Result<GatewayMailboxView, OpError> {
    view.learned = learned;
    view.notes = trust::notes(&view, &context.settings.current().exchange);
    if view.profile == Profile::Generic && view.archive && view.recipient_headers.is_empty() {
        let why = "the profile is generic and no header field is trusted to name recipients (recipient_headers): nobody's \
                   Journal Incoming gets anything";
        view.notes.push(why.to_owned());
    }
    let noted = views::notes(&view);
    view.notes.extend(noted);
    Ok(view)
}

pub(super) async fn set(
    context: &Context,
    actor: &str,
    text: &str,
    settings: &[(String, String)],
    approved: bool,
) -> Result<GatewayMailboxId, OpError> {
    let mailbox = resolve(context, text)?;
    if settings.is_empty() {
        return Err(OpError::Usage(format!("give KEY=VALUE; keys are {KEYS}")));
    }
    let mut changes = Vec::new();
    let mut trusted = mailbox.trust.clone();
    let mut kept = mailbox.keeping;
    let mut fetched = mailbox.fetch;
    for (index, (key, value)) in settings.iter().enumerate() {
        if settings.iter().take(index).any(|(earlier, _)| earlier == key) {
            return Err(OpError::Usage(format!("{key} is given twice")));
        }
        if !trust::set(&mut trusted, key, value)?
            && !keeping::set(&mut kept, key, value)?
            && !views::set(&mut fetched, key, value)?
        {
            changes.push(change(key, value)?);
        }
        if !mailbox.role.is_journal()
            && changes.last() == Some(&GatewayMailboxChange::Profile(Profile::Generic))
        {
            return Err(OpError::Usage(NDR_PROFILE.to_owned()));
        }
    }
    if trusted != mailbox.trust {
        changes.push(GatewayMailboxChange::Trust { was: mailbox.trust.clone(), becomes: trusted });
    }
    if kept != mailbox.keeping {
        if !approved {
            let mailbox = Arc::clone(&mailbox);
            blocking(context, move |c| keeping::check(c, &mailbox, kept)).await?;
        }
        changes.push(GatewayMailboxChange::Keeping { was: mailbox.keeping, becomes: kept });
    }
    if fetched != mailbox.fetch {
        changes.push(GatewayMailboxChange::Fetch { was: mailbox.fetch, becomes: fetched });
    }
    let changed = context.store.change_gateway_mailbox(mailbox.id, changes, actor).await?;
    log_change("mailbox.changed", &changed, actor);
    views::follow(context, actor, changed.id).await?;
    Ok(changed.id)
}

fn change(key: &str, value: &str) -> Result<GatewayMailboxChange, OpError> {
    match key {
        "name" => checked_name(value).map(GatewayMailboxChange::Name),
        "tenant" => checked_tenant(value).map(GatewayMailboxChange::Tenant),
        "profile" => match value {
            "microsoft365" => Ok(GatewayMailboxChange::Profile(Profile::Microsoft365)),
            "generic" => Ok(GatewayMailboxChange::Profile(Profile::Generic)),
            _ => Err(OpError::Usage(format!("profile is microsoft365 or generic, not {value}"))),
        },
        "archive" => match value {
            "true" => Ok(GatewayMailboxChange::Archive(true)),
            "false" => Ok(GatewayMailboxChange::Archive(false)),
            _ => Err(OpError::Usage(format!("archive is true or false, not {value}"))),
        },
        "recipient_headers" => checked_headers(key, value).map(GatewayMailboxChange::RecipientHeaders),
        "sender_headers" => checked_headers(key, value).map(GatewayMailboxChange::SenderHeaders),
        _ => Err(OpError::Usage(format!("there is no key {key}; keys are {KEYS}"))),
    }
}

/// Names of header fields, each once in whatever case; none when there is nothing.
fn checked_headers(key: &str, value: &str) -> Result<Vec<String>, OpError> {
    let mut names =
        trust::listed(value, key, ENVELOPE_HEADERS_MAX, |name| match EnvelopeHeaders::refusal(name) {
            None => Ok(name.to_owned()),
            Some(why) => Err(OpError::Usage(format!("{name} cannot be trusted in {key}: {why}"))),
        })?;
    let all = names.clone();
    let mut index = 0..;
    names.retain(|name| {
        let earlier = all.iter().take(index.next().unwrap_or(0));
        !earlier.into_iter().any(|other| other.eq_ignore_ascii_case(name))
    });
    Ok(names)
}

pub(super) async fn suspend(context: &Context, actor: &str, text: &str) -> Result<GatewayMailboxId, OpError> {
    let mailbox = resolve(context, text)?;
    let changed =
        context.store.change_gateway_mailbox(mailbox.id, vec![GatewayMailboxChange::Suspend], actor).await?;
    log_change("mailbox.suspended", &changed, actor);
    Ok(changed.id)
}

pub(super) async fn resume(context: &Context, actor: &str, text: &str) -> Result<GatewayMailboxId, OpError> {
    let mailbox = resolve(context, text)?;
    let changed =
        context.store.change_gateway_mailbox(mailbox.id, vec![GatewayMailboxChange::Resume], actor).await?;
    log_change("mailbox.resumed", &changed, actor);
    Ok(changed.id)
}

/// A new address; the others are served for so many days more. Says so when it is in another domain.
pub(super) async fn rotate(
    context: &Context,
    actor: &str,
    text: &str,
    overlap_days: u32,
) -> Result<(GatewayMailboxId, Option<String>), OpError> {
    if overlap_days > OVERLAP_DAYS_MAX {
        return Err(OpError::Usage(format!("an overlap has 0 to {OVERLAP_DAYS_MAX} days")));
    }
    let mailbox = resolve(context, text)?;
    let settings = context.settings.current();
    let current = mailbox.address().map(Address::domain).unwrap_or_default();
    let moved = match settings.domains.iter().any(|domain| domain.eq_ignore_ascii_case(current)) {
        true => None,
        // No mail comes there any more, or soon none will.
        false => Some(checked_domain(context, None)?),
    };
    let overlap_ms = u64::from(overlap_days) * DAY_MS;
    let note = moved.as_ref().map(|domain| {
        format!("{current} is not one of the configured domains any more: the new address is in {domain}, the first of them")
    });
    let change = GatewayMailboxChange::Rotate { domain: moved, overlap_ms };
    let changed = context.store.change_gateway_mailbox(mailbox.id, vec![change], actor).await?;
    log_change("mailbox.rotated", &changed, actor);
    Ok((changed.id, note))
}

/// The gateway mailbox as it was last, deleted.
pub(super) async fn delete(
    context: &Context,
    actor: &str,
    text: &str,
    force: bool,
) -> Result<GatewayMailboxView, OpError> {
    let mailbox = resolve(context, text)?;
    // As with the entries left: the store refuses this too.
    keeping::refuse_held(&mailbox)?;
    let id = mailbox.id;
    let folders = blocking(context, move |c| Ok(c.store.folders(id)?)).await?;
    let left: u64 = folders.iter().map(|folder| folder.entries).sum();
    // The store refuses this too; asked here, it can be told from what no approval would change.
    if mailbox.state == GatewayMailboxState::Suspended && left > 0 && !force {
        return Err(OpError::NeedsApproval(format!(
            "{left} messages are still in it; --force deletes it all the same"
        )));
    }
    let change = GatewayMailboxChange::Delete { force };
    let deleted = context.store.change_gateway_mailbox(id, vec![change], actor).await?;
    log_change("mailbox.deleted", &deleted, actor);
    Ok(view(context, &deleted, &folders))
}

pub(super) fn log_change(event: &'static str, mailbox: &GatewayMailbox, actor: &str) {
    let (id, login, address) = (mailbox.id, mailbox.login(), address_of(mailbox));
    tracing::info!(event, mailbox = login, mailbox_id = %id, address, state = ?mailbox.state, actor);
}

fn checked_name(name: &str) -> Result<String, OpError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARACTERS_MAX || name.chars().any(char::is_control) {
        return Err(OpError::Usage(format!(
            "a name has 1 to {NAME_CHARACTERS_MAX} characters, all of them printable"
        )));
    }
    if name == SELF_TEST_NAME {
        return Err(OpError::Usage(format!("\"{name}\" is the name of the one that doctor tries out")));
    }
    Ok(name.to_owned())
}

pub(super) fn checked_domain(context: &Context, domain: Option<String>) -> Result<String, OpError> {
    let settings = context.settings.current();
    let domains = &settings.domains;
    let Some(wanted) = domain else {
        return domains.first().cloned().ok_or_else(|| OpError::Usage("no domain is configured".to_owned()));
    };
    let wanted = wanted.trim().to_ascii_lowercase();
    if domains.contains(&wanted) {
        return Ok(wanted);
    }
    Err(OpError::Usage(format!(
        "{wanted} is not one of the configured domains: {}; add it to \"domains\" first",
        domains.join(", ")
    )))
}

/// Empty for none.
pub(super) fn checked_tenant(tenant: &str) -> Result<Option<String>, OpError> {
    let tenant = tenant.trim();
    // As DNS tools print it, with the dot of the root: no header bears that.
    let tenant = tenant.strip_suffix('.').unwrap_or(tenant);
    if !tenant.is_empty() && !is_host_name(tenant) {
        return Err(OpError::Usage(format!(
            "a tenant is a domain name such as contoso.onmicrosoft.com, not {tenant}"
        )));
    }
    Ok((!tenant.is_empty()).then(|| tenant.to_ascii_lowercase()))
}

/// The one that an NDR mailbox serves, as it is now.
fn served(context: &Context, mailbox: &GatewayMailbox) -> Option<ServedView> {
    let Role::Ndr { serves: id } = mailbox.role else { return None };
    let now = context.store.gateway_mailbox_now(id).ok();
    let login = now.as_ref().map(|served| served.login().to_owned());
    Some(ServedView { id, login, name: now.map(|served| served.name.clone()) })
}

pub(super) fn view(
    context: &Context,
    mailbox: &GatewayMailbox,
    folders: &[FolderStatus],
) -> GatewayMailboxView {
    let inbox = folders.iter().find(|folder| folder.name == FolderName::Inbox);
    GatewayMailboxView {
        address: address_of(mailbox).to_owned(),
        login: mailbox.login().to_owned(),
        state: mailbox.state,
        id: mailbox.id,
        name: mailbox.name.clone(),
        tenant: mailbox.tenant.clone(),
        profile: mailbox.profile,
        role: if mailbox.role.is_journal() { RoleView::Journal } else { RoleView::Ndr },
        serves: served(context, mailbox),
        archive: mailbox.archive,
        created_at: mailbox.created_at,
        inbox: inbox
            .map(|f| InboxView { entries: f.entries, octets: f.octets, oldest: f.oldest })
            .unwrap_or_default(),
        folders: None,
        addresses: mailbox.addresses.iter().map(|served| address_view(served, now())).collect(),
        mode: mailbox.trust.mode,
        trusted_networks: mailbox.trust.networks.clone(),
        pinned_certificates: mailbox.trust.certificates.clone(),
        recipient_headers: mailbox.envelope_headers.recipients.clone(),
        sender_headers: mailbox.envelope_headers.senders.clone(),
        grace_days: mailbox.keeping.grace_days,
        inbox_retention_days: mailbox.keeping.inbox_days,
        user_retention_days: mailbox.keeping.user_days,
        holds: mailbox.holds.clone(),
        maildrop: mailbox.fetch.maildrop,
        user_delete: mailbox.fetch.user_delete,
        fetching: None,
        escrow: None,
        keys: KeysView::of(mailbox),
        learned: None,
        recent: None,
        notes: Vec::new(),
    }
}

fn address_view(served: &GatewayAddress, now: Timestamp) -> AddressView {
    AddressView {
        address: served.address.as_str().to_owned(),
        until: served.until,
        retired: !served.is_served(now),
        last_used: None,
    }
}

pub(super) fn folder_view(status: &FolderStatus) -> FolderView {
    FolderView {
        path: status.path.clone(),
        uid_validity: status.uid_validity,
        uid_next: status.uid_next,
        entries: status.entries,
        octets: status.octets,
        oldest: status.oldest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_host_name_without_the_dot_of_the_root() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(checked_tenant(text).unwrap().as_deref(), expect, "{text}");
        };
        check(" Contoso.OnMicrosoft.com. ", Some("contoso.onmicrosoft.com"));
        check("contoso-1.com", Some("contoso-1.com"));
        check("", None);
        for wrong in
            ["..", "contoso.com..", "a..b", ".a", "-a.b", "a_b.com", "a b", "192.0.2.1", "b\u{fc}ro.de"]
        {
            assert!(checked_tenant(wrong).is_err(), "{wrong}");
        }
    }
}
