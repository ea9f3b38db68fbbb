//! What may be chosen about matching, and the search for an address under that choice.

use super::reason::{By, Role};
use crate::directory::{Form, Found, Held, Snapshot, User, is_encapsulated, is_x500};
use crate::mail::{AddressKey, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;

/// What may be chosen about matching. By default nothing is: every address is matched as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    domain_aliases: HashMap<String, String>,
    plus_tags: bool,
}

/// Whose an address is, and how that is known.
pub(super) struct Match<'a> {
    pub(super) user: &'a Arc<User>,
    pub(super) proxy: &'a str,
    pub(super) by: Option<By>,
    pub(super) held: Held,
}

impl Match<'_> {
    /// It was nobody's then.
    fn is_later(&self) -> bool {
        matches!(self.held, Held::Since(_))
    }
}

impl Policy {
    /// An address in the first domain of a pair means the same local part in the second, when it is nobody's itself. With
    /// `plus_tags`, `bob+x@…` means `bob@…` when it is nobody's. Domains are compared without regard to ASCII case; what an
    /// alias stands for is not looked up as an alias again.
    pub fn new(domain_aliases: impl IntoIterator<Item = (String, String)>, plus_tags: bool) -> Policy {
        let folded =
            |(alias, domain): (String, String)| (alias.to_ascii_lowercase(), domain.to_ascii_lowercase());
        Policy { domain_aliases: domain_aliases.into_iter().map(folded).collect(), plus_tags }
    }

    /// The user an address belonged to at that moment: as it is written, else in the domain that its own stands for, else without
    /// its plus-tag, else both. The first that was somebody's counts, so that nobody's address ever becomes another's; when none
    /// was, the first that somebody had later.
    ///
    /// What encapsulates an X.500 name counts only in a domain where the organisation's own Exchange writes it, see
    /// [`may_encapsulate`](Policy::may_encapsulate).
    pub(super) fn find<'a>(
        &self,
        snapshot: &'a Snapshot,
        address: &AddressKey,
        role: Role,
        at: Timestamp,
    ) -> Option<Match<'a>> {
        let matched =
            |found: Found<'a>, by| Match { user: found.user, proxy: found.proxy, by, held: found.held };
        let mut later = None;
        if let Some(found) = snapshot.find_at(address, at) {
            if found.form == Form::Encapsulated && !self.may_encapsulate(snapshot, address, role, at) {
                return None;
            }
            let by = match found.form {
                Form::Smtp => None,
                Form::X500 => Some(By::X500Name),
                Form::Encapsulated => Some(By::Imceaex),
            };
            let found = matched(found, by);
            if !found.is_later() {
                return Some(found);
            }
            later = Some(found);
        }
        // What looks like a domain or a plus-tag in these is none.
        let (local, domain) = match address.as_str().rsplit_once('@') {
            Some(parts) if !is_x500(address) && !is_encapsulated(address) => parts,
            _ => return later,
        };
        let other = self.domain_aliases.get(domain).map(String::as_str);
        let bare = without_tag(local).filter(|_| self.plus_tags);
        let tries = [
            (other.map(|domain| (local, domain)), By::DomainAlias),
            (bare.map(|local| (local, domain)), By::PlusTag),
            (bare.zip(other), By::DomainAliasAndPlusTag),
        ];
        for (meant, by) in tries {
            let Some((local, domain)) = meant else { continue };
            let key = AddressKey::of(&format!("{local}@{domain}"));
            let Some(found) = snapshot.find_at(&key, at) else { continue };
            let found = matched(found, Some(by));
            if !found.is_later() {
                return Some(found);
            }
            later = later.or(Some(found));
        }
        later
    }

    /// True when a user should have had this address at that moment: users have addresses in its domain, or in the one it stands for; or it
    /// is an X.500 name, which only one's own Exchange writes.
    pub(super) fn is_ours(&self, snapshot: &Snapshot, address: &AddressKey, at: Timestamp) -> bool {
        is_x500(address) || domain_of(address).is_some_and(|domain| self.owned_domain(snapshot, domain, at))
    }

    fn owned_domain(&self, snapshot: &Snapshot, domain: &str, at: Timestamp) -> bool {
        let other = self.domain_aliases.get(domain);
        snapshot.owned_domain(domain, at) || other.is_some_and(|other| snapshot.owned_domain(other, at))
    }

    /// Whether `IMCEAEX-…@domain` may stand for one of our users. Anybody can send from an address in a domain of his own that
    /// encapsulates somebody else's name, so it must be one of ours; a recipient may be one that Exchange Online made, too, whose
    /// servers put their own domain there.
    fn may_encapsulate(&self, snapshot: &Snapshot, address: &AddressKey, role: Role, at: Timestamp) -> bool {
        let is_sender = matches!(role, Role::Sender | Role::OnBehalfOf);
        domain_of(address).is_some_and(|domain| {
            self.owned_domain(snapshot, domain, at) || !is_sender && domain.ends_with(EXCHANGE_ONLINE)
        })
    }
}

/// Where the servers of Exchange Online are, in lower case.
const EXCHANGE_ONLINE: &str = ".prod.outlook.com";

fn domain_of(address: &AddressKey) -> Option<&str> {
    address.as_str().rsplit_once('@').map(|(_, domain)| domain)
}

/// The local part before its first `+`, as Exchange reads it. In quotes a `+` is a character like any other.
fn without_tag(local: &str) -> Option<&str> {
    let (bare, _) = local.split_once('+').filter(|_| !local.starts_with('"'))?;
    (!bare.is_empty()).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::ProxyAddress;
    use crate::mail::Address;

    fn at() -> Timestamp {
        Timestamp::from_unix_ms(0)
    }

    fn snapshot() -> Snapshot {
        let user = |id: &str, aliases: &[&str]| User {
            id: id.to_owned(),
            name: id.to_owned(),
            primary: Address::parse(&format!("{id}@contoso.com")).unwrap(),
            aliases: aliases.iter().map(|alias| ProxyAddress::parse(alias).unwrap()).collect(),
        };
        Snapshot::of(vec![
            user("bob", &["x500:/o=c/cn=bob+x"]),
            user("eve", &["bob@contoso.de", "bob+own@contoso.com"]),
            user("+odd", &[]),
        ])
    }

    fn check(plus_tags: bool, address: &str, expect: Option<(&str, Option<By>)>) {
        let aliases = [("Contoso.DE", "contoso.COM"), ("contoso.fr", "contoso.de")];
        let policy = Policy::new(aliases.map(|(a, b)| (a.to_owned(), b.to_owned())), plus_tags);
        let snapshot = snapshot();
        let found = policy
            .find(&snapshot, &AddressKey::of(address), Role::Recipient, at())
            .map(|found| (found.user.id.clone(), found.by));
        assert_eq!(found.as_ref().map(|(id, by)| (id.as_str(), *by)), expect, "{address}");
    }

    #[test]
    fn what_is_written_comes_first_then_alias_then_tag_then_both() {
        check(true, "bob@contoso.com", Some(("bob", None)));
        check(true, "bob@contoso.de", Some(("eve", None)));
        check(true, "bob+own@contoso.com", Some(("eve", None)));
        check(true, "eve@contoso.de", Some(("eve", Some(By::DomainAlias))));
        check(true, "bob+own@contoso.de", Some(("eve", Some(By::DomainAlias))));
        check(true, "bob+x@contoso.com", Some(("bob", Some(By::PlusTag))));
        check(true, "bob+x@contoso.de", Some(("eve", Some(By::PlusTag))));
        check(true, "EVE+x+y@CONTOSO.de", Some(("eve", Some(By::DomainAliasAndPlusTag))));
    }

    #[test]
    fn nothing_is_stripped_that_was_not_chosen_or_is_no_tag() {
        check(false, "bob+x@contoso.com", None);
        check(false, "eve+x@contoso.de", None);
        check(true, "+odd@contoso.com", Some(("+odd", None)));
        check(true, "+x@contoso.com", None);
        check(true, "\"bob+x\"@contoso.com", None);
        check(true, "IMCEAFAX-bob+x@contoso.com", None);
        check(true, "IMCEAEX-_o=c_cn=bob+2Bx@contoso.de", Some(("bob", Some(By::Imceaex))));
        check(true, "IMCEAEX-_o=c_cn=bob@contoso.de", None);
        check(true, "[EX:/o=c/cn=bob+y]", None);
        check(true, "bob+x", None);
    }

    #[test]
    fn an_encapsulated_name_counts_in_domains_that_are_not_just_anybodys() {
        let policy = Policy::new([("contoso.fr".to_owned(), "contoso.com".to_owned())], false);
        let snapshot = snapshot();
        let name = "IMCEAEX-_o=c_cn=bob+2Bx";
        for (domain, sender, recipient) in [
            ("contoso.com", true, true),
            ("CONTOSO.de", true, true),
            ("contoso.fr", true, true),
            ("eurprd01.PROD.outlook.com", false, true),
            ("attacker.example", false, false),
            ("sub.contoso.com", false, false),
            ("evilprod.outlook.com", false, false),
            ("x.prod.outlook.com.attacker.example", false, false),
        ] {
            let key = AddressKey::of(&format!("{name}@{domain}"));
            for (role, expect) in [
                (Role::Sender, sender),
                (Role::OnBehalfOf, sender),
                (Role::Recipient, recipient),
                (Role::ForwardingUser, recipient),
            ] {
                assert_eq!(policy.find(&snapshot, &key, role, at()).is_some(), expect, "{role} {key}");
            }
        }
    }

    #[test]
    fn an_alias_leads_one_step_only() {
        check(true, "eve@contoso.fr", None);
        check(true, "bob@contoso.fr", Some(("eve", Some(By::DomainAlias))));
    }

    #[test]
    fn an_alias_of_one_of_our_domains_is_ours() {
        let policy = Policy::new([("contoso.de".to_owned(), "contoso.com".to_owned())], false);
        let ours = |address: &str| {
            policy.is_ours(
                &Snapshot::of(vec![snapshot().users()[0].as_ref().clone()]),
                &AddressKey::of(address),
                at(),
            )
        };
        assert!(ours("gone@contoso.de") && ours("gone@contoso.com") && ours("IMCEAEX-_O=X@else.example"));
        assert!(!ours("gone@contoso.fr") && !ours("IMCEAFAX-X@else.example") && !ours(""));
    }
}
