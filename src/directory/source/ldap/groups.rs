//! Who is in the groups that the configuration names, also by way of groups in groups.
//!
//! A group that is not there is an error: a misspelt name must not make nobody of everybody.

use super::draft::{self, Draft};
use super::entry::Entry;
use super::fault::{self, Asked};
use super::names::{DnKey, domain_of};
use super::session::Session;
use crate::config::LdapFlavour;
use crate::directory::source::SourceError;
use ldap3::ldap_escape;
use std::collections::{HashMap, HashSet};

/// LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS §3.1.1.3.4.4.3): the server follows groups in groups.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";
/// Members outside the base that are looked at one by one, to see whether they are groups.
const LOOKUPS_MAX: usize = 10_000;
/// Groups of other servers than Active Directory.
const GROUP_FILTER: &str = "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames))";
const MEMBERS: &[&str] = &["objectClass", "member", "uniqueMember"];

/// Notes of every draft which of `groups` it is in. `filters` are those that drafts came from.
///
/// # Errors
/// As of [`SourceError`]; [`SourceError::Refused`] when a group is not there, or is none.
pub(super) async fn mark(
    session: &mut Session<'_>,
    base: &str,
    flavour: LdapFlavour,
    filters: &[String],
    groups: &[String],
    drafts: &mut [Draft],
) -> Result<(), SourceError> {
    match flavour {
        LdapFlavour::ActiveDirectory => {
            for group in groups {
                mark_by_server(session, base, filters, group, drafts).await?;
            }
            Ok(())
        }
        LdapFlavour::Rfc2798 => mark_by_hand(session, base, groups, drafts).await,
    }
}

async fn group_entry(
    session: &mut Session<'_>,
    group: &str,
    attributes: &[&str],
) -> Result<Entry, SourceError> {
    let entry = session.entry(group, attributes, Asked::Group(group)).await?;
    let entry = entry.ok_or_else(|| fault::no_group(group))?;
    if draft::is_group(&entry) { Ok(entry) } else { Err(fault::not_a_group(group)) }
}

/// Active Directory answers who is in a group, however deep; but not whose primary group it is.
async fn mark_by_server(
    session: &mut Session<'_>,
    base: &str,
    filters: &[String],
    group: &str,
    drafts: &mut [Draft],
) -> Result<(), SourceError> {
    let entry = group_entry(session, group, &["objectClass", "objectSid"]).await?;
    let in_chain = format!("(memberOf:{IN_CHAIN}:={})", ldap_escape(entry.dn.as_str()));
    let mut primary_groups: HashSet<u32> = relative_id(&entry).into_iter().collect();
    let domain = domain_of(&entry.dn).unwrap_or(base).to_owned();
    let nested = format!("(&(objectClass=group){in_chain})");
    let note = |inner: Entry| {
        primary_groups.extend(relative_id(&inner));
        Ok(())
    };
    session.search(&domain, &nested, &["objectSid"], note).await?;
    let mut ids = HashSet::new();
    for filter in filters {
        let filter = format!("(&{filter}{in_chain})");
        let note = |member: Entry| {
            ids.extend(draft::id(&member, LdapFlavour::ActiveDirectory));
            Ok(())
        };
        session.search(base, &filter, draft::id_attribute(LdapFlavour::ActiveDirectory), note).await?;
    }
    for draft in drafts {
        let by_primary_group = draft.primary_group.is_some_and(|id| primary_groups.contains(&id));
        if by_primary_group || ids.contains(&draft.candidate.id) {
            draft.candidate.groups.push(group.to_owned());
        }
    }
    Ok(())
}

/// The last part of a security identifier (MS-DTYP §2.4.2.2), by which primaryGroupID names a group of the domain.
fn relative_id(entry: &Entry) -> Option<u32> {
    let octets = entry.values("objectSid").first()?.last_chunk::<4>()?;
    Some(u32::from_le_bytes(*octets))
}

/// Other servers list members; groups in groups are followed here, each once however often or roundabout it is named.
async fn mark_by_hand(
    session: &mut Session<'_>,
    base: &str,
    groups: &[String],
    drafts: &mut [Draft],
) -> Result<(), SourceError> {
    let mut tree = Tree { base: DnKey::of(base), members: HashMap::new(), lookups: 0 };
    let note = |group: Entry| {
        tree.members.insert(DnKey::of(&group.dn), members(&group));
        Ok(())
    };
    session.search(base, GROUP_FILTER, MEMBERS, note).await?;
    // Whoever is a candidate is no group to be looked up, unless it is one that is known already.
    for draft in drafts.iter() {
        tree.members.entry(draft.dn.clone()).or_default();
    }
    for group in groups {
        let top = group_entry(session, group, MEMBERS).await?;
        let mut seen = HashSet::from([DnKey::of(&top.dn)]);
        let mut to_follow = members(&top);
        while let Some(name) = to_follow.pop() {
            let key = DnKey::of(&name);
            if !seen.contains(&key) {
                to_follow.extend(tree.of(session, &name, &key).await?.iter().cloned());
                seen.insert(key);
            }
        }
        for draft in drafts.iter_mut().filter(|draft| seen.contains(&draft.dn)) {
            draft.candidate.groups.push(group.clone());
        }
    }
    Ok(())
}

/// Who is in which group, as far as it is known.
struct Tree {
    base: DnKey,
    members: HashMap<DnKey, Vec<String>>,
    lookups: usize,
}

impl Tree {
    /// The members of an entry, none when it is no group. Every group below the base is known; others are asked for.
    async fn of(
        &mut self,
        session: &mut Session<'_>,
        name: &str,
        key: &DnKey,
    ) -> Result<&[String], SourceError> {
        if !self.members.contains_key(key) && !key.is_under(&self.base) {
            self.lookups += 1;
            if self.lookups > LOOKUPS_MAX {
                return Err(SourceError::TooLarge(format!(
                    "more than {LOOKUPS_MAX} members of groups lie outside base"
                )));
            }
            let entry = session.entry(name, MEMBERS, Asked::Member).await?;
            self.members.insert(key.clone(), entry.as_ref().map(members).unwrap_or_default());
        }
        Ok(self.members.get(key).map(Vec::as_slice).unwrap_or_default())
    }
}

/// The names of a group's members; of uniqueMember without the bit string that may follow (RFC 4517 §3.3.21).
fn members(group: &Entry) -> Vec<String> {
    let unique = group.texts("uniqueMember").map(|name| match name.rsplit_once('#') {
        Some((name, bits)) if bits.starts_with('\'') && bits.ends_with("'B") => name,
        _ => name,
    });
    group.texts("member").chain(unique).map(str::to_owned).collect()
}
