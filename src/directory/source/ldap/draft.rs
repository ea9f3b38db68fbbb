//! From an entry to somebody who may be a user: id, name, addresses and kind, by the attributes of its flavour.

use super::entry::Entry;
use super::names::{DnKey, is_routable};
use crate::config::LdapFlavour;
use crate::directory::snapshot::ProxyAddress;
use crate::directory::source::proxies::{Addresses, Collected, Held};
use crate::directory::source::{CANDIDATE_ADDRESSES_MAX, Candidate, CandidateKind, Listing, SourceError};
use crate::mail::Address;
use uuid::Uuid;

/// Longest name kept, in characters.
const NAME_CHARS_MAX: usize = 256;
/// Longest id, in octets: it becomes part of store keys.
const ID_OCTETS_MAX: usize = 255;
/// ACCOUNTDISABLE in userAccountControl.
const DISABLED: i64 = 2;

/// Shared, room, equipment, team and scheduling mailboxes, here or moved to the cloud (`Remote…`), by msExchRecipientTypeDetails.
const SHARED: &[i64] =
    &[1 << 2, 1 << 4, 1 << 5, 1 << 33, 1 << 34, 1 << 35, 1 << 37, 1 << 38, 1 << 41, 1 << 44];
/// Group mailboxes.
const GROUPS: &[i64] = &[1 << 40, 1 << 43];
/// Users of another organisation.
const GUESTS: &[i64] = &[1 << 45];
/// What Exchange keeps for itself: system, arbitration, plan, discovery, public folder, health, audit and review mailboxes.
const EXCHANGES_OWN: &[i64] =
    &[1 << 13, 1 << 14, 1 << 22, 1 << 23, 1 << 24, 1 << 29, 1 << 36, 1 << 39, 1 << 42, 1 << 46, 1 << 47];

/// Classes of groups: Active Directory's, and others'.
const GROUP_CLASSES: &[&str] =
    &["group", "groupOfNames", "groupOfUniqueNames", "groupOfMembers", "groupOfEntries"];

/// What is asked of an entry.
pub(super) fn attributes(flavour: LdapFlavour) -> &'static [&'static str] {
    match flavour {
        LdapFlavour::ActiveDirectory => &[
            "objectGUID",
            "objectClass",
            "userPrincipalName",
            "mail",
            "proxyAddresses",
            "legacyExchangeDN",
            "displayName",
            "cn",
            "userAccountControl",
            "msExchRecipientTypeDetails",
            "primaryGroupID",
        ],
        LdapFlavour::Rfc2798 => {
            &["entryUUID", "objectClass", "uid", "mail", "proxyAddresses", "displayName", "cn"]
        }
    }
}

/// The attribute that names an entry for ever.
pub(super) fn id_attribute(flavour: LdapFlavour) -> &'static [&'static str] {
    match flavour {
        LdapFlavour::ActiveDirectory => &["objectGUID"],
        LdapFlavour::Rfc2798 => &["entryUUID"],
    }
}

/// What names an entry for ever; `None` when the server does not show it.
pub(super) fn id(entry: &Entry, flavour: LdapFlavour) -> Option<String> {
    match flavour {
        // Sixteen octets, of which the first three groups are little-endian (MS-DTYP §2.3.4).
        LdapFlavour::ActiveDirectory => {
            let octets: [u8; 16] = entry.values("objectGUID").first()?.as_slice().try_into().ok()?;
            Some(Uuid::from_bytes_le(octets).to_string())
        }
        LdapFlavour::Rfc2798 => {
            let id = entry.text("entryUUID")?;
            (id.len() <= ID_OCTETS_MAX && !id.contains(char::is_control)).then(|| id.to_ascii_lowercase())
        }
    }
}

/// Whether an entry is a group, by its classes.
pub(super) fn is_group(entry: &Entry) -> bool {
    entry
        .texts("objectClass")
        .any(|class| GROUP_CLASSES.iter().any(|known| known.eq_ignore_ascii_case(class)))
}

/// A candidate, and what is still needed to finish it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) candidate: Candidate,
    pub(super) dn: DnKey,
    /// RID of its primary group, whose members Active Directory lists nowhere.
    pub(super) primary_group: Option<u32>,
    /// What it logs in with, where that looks like an address.
    login: Option<Address>,
}

/// Reads an entry; what cannot be read of it is noted in `listing`. `None` when it is nobody.
///
/// # Errors
/// [`SourceError::TooLarge`] when it has more addresses than are taken.
pub(super) fn read(
    entry: &Entry,
    flavour: LdapFlavour,
    listing: &mut Listing,
) -> Result<Option<Draft>, SourceError> {
    let Some(id) = id(entry, flavour) else {
        let attribute = id_attribute(flavour).join(", ");
        listing.skip(entry.dn.as_str(), format!("has no {attribute} that this account may read"));
        return Ok(None);
    };
    let details = entry.number("msExchRecipientTypeDetails").unwrap_or_default();
    if EXCHANGES_OWN.contains(&details) {
        listing.skip(entry.dn.as_str(), "is a mailbox that Exchange keeps for itself");
        return Ok(None);
    }
    let addresses = addresses(entry, listing)?;
    let kind = match details {
        _ if is_group(entry) || GROUPS.contains(&details) => CandidateKind::Group,
        details if SHARED.contains(&details) => CandidateKind::Shared,
        details if GUESTS.contains(&details) => CandidateKind::Guest,
        _ => CandidateKind::User,
    };
    let control = entry.number("userAccountControl");
    let candidate = Candidate {
        name: name(entry, &id),
        id,
        primary: addresses.primary,
        aliases: addresses.aliases,
        kind,
        enabled: control.map(|control| control & DISABLED == 0),
        licensed: None,
        groups: Vec::new(),
    };
    let login = entry.text("userPrincipalName").and_then(|login| Address::parse(login).ok());
    let primary_group = entry.number("primaryGroupID").and_then(|group| u32::try_from(group).ok());
    Ok(Some(Draft { candidate, dn: DnKey::of(&entry.dn), primary_group, login: login.filter(is_routable) }))
}

fn name(entry: &Entry, id: &str) -> String {
    let name = ["displayName", "cn", "uid"].iter().find_map(|attribute| entry.text(attribute)).unwrap_or(id);
    name.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The addresses of an entry; what is none is noted in `listing`.
fn addresses(entry: &Entry, listing: &mut Listing) -> Result<Collected, SourceError> {
    let mut addresses = Addresses::new();
    for attribute in ["proxyAddresses", "mail"] {
        if entry.texts(attribute).count() < entry.values(attribute).len() {
            listing.skip(entry.dn.as_str(), format!("a value of {attribute} is no text"));
        }
    }
    entry.texts("proxyAddresses").for_each(|text| addresses.proxy(text));
    entry.texts("mail").for_each(|text| addresses.plain(text));
    // The name by which Exchange itself knows the mailbox, and by which its reports name senders.
    if let Some(name) = entry.text("legacyExchangeDN").filter(|name| name.starts_with('/')) {
        addresses.proxy(&format!("x500:{name}"));
    }
    let mut collected = addresses.collected().map_err(|_| {
        SourceError::TooLarge(format!("{} has more than {CANDIDATE_ADDRESSES_MAX} addresses", entry.dn))
    })?;
    for fault in collected.faults.drain(..) {
        listing.skip(entry.dn.as_str(), fault);
    }
    Ok(collected)
}

/// Gives everybody the address they log in with, where it looks like one that mail can come from and nobody has it: in the cloud
/// it becomes one of their addresses.
pub(super) fn add_logins(drafts: &mut [Draft]) {
    let mut held = Held::by(drafts.iter().map(|draft| &draft.candidate));
    for draft in drafts {
        if let Some(login) = draft.login.take() {
            held.give(&mut draft.candidate, ProxyAddress::Smtp(login));
        }
    }
}
