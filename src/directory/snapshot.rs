//! Users and their addresses at one moment, for one set of sources. Never changes once made.
//!
//! Addresses are compared by [`AddressKey`]: the whole address, ASCII case-folded, no plus-tag stripping. An X.500
//! name stands in the list as `x500:/o=…` (as Exchange's `proxyAddresses` write it) and matches what journal
//! reports write as `[EX:/o=…]` or encapsulated as `IMCEAEX-_o=…@domain` (`x500.rs`).
//!
//! Looking up is one hash; making a snapshot is linear in the number of addresses.

use super::roll::Roll;
use super::x500::{self, X500_PREFIX};
use crate::mail::{Address, AddressError, AddressKey};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Longest X.500 name accepted, in octets, with its prefix. Exchange's own limit for a name is 256 characters.
const X500_OCTETS_MAX: usize = 1_100;

/// One address of a user, as the source wrote it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ProxyAddress {
    /// `bob@x.example`
    Smtp(Address),
    /// `x500:/o=…`, with its prefix.
    X500(String),
}

impl ProxyAddress {
    /// Reads an SMTP address, or an X.500 name behind `x500:`.
    ///
    /// # Errors
    /// [`AddressError`]: the source's fault.
    pub fn parse(text: &str) -> Result<ProxyAddress, AddressError> {
        let key = AddressKey::of(text);
        let Some(name) = key.as_str().strip_prefix(X500_PREFIX) else {
            return Address::parse(text).map(ProxyAddress::Smtp);
        };
        if name.trim().is_empty() || text.len() > X500_OCTETS_MAX {
            return Err(AddressError::Length);
        }
        if name.chars().any(char::is_control) {
            return Err(AddressError::LocalPart);
        }
        Ok(ProxyAddress::X500(text.trim().to_owned()))
    }

    /// As the source wrote it.
    pub fn as_str(&self) -> &str {
        match self {
            ProxyAddress::Smtp(address) => address.as_str(),
            ProxyAddress::X500(name) => name,
        }
    }

    /// What it is compared by.
    pub fn key(&self) -> AddressKey {
        listed_key(self.as_str())
    }
}

/// What an address of the list is compared by.
pub(super) fn listed_key(text: &str) -> AddressKey {
    let key = AddressKey::of(text);
    x500::read(&key).map_or(key, |name| name.key)
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

/// A person or shared mailbox that mail is kept for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The source's own name for the user. Never changes, even when name and addresses do.
    pub id: String,
    /// For people.
    pub name: String,
    /// The address shown for the user, and what its folder is named after when first used.
    pub primary: Address,
    /// Every further address.
    pub aliases: Vec<ProxyAddress>,
}

impl User {
    /// Every address as the source wrote it, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.primary.as_str()).chain(self.aliases.iter().map(ProxyAddress::as_str))
    }

    /// The domains of its SMTP addresses.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        let aliases = self.aliases.iter().filter_map(|alias| match alias {
            ProxyAddress::Smtp(address) => Some(address.domain()),
            ProxyAddress::X500(_) => None,
        });
        std::iter::once(self.primary.domain()).chain(aliases)
    }
}

/// What two users both claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contested {
    /// An address. The later user goes without it.
    Address(AddressKey),
    /// The id. The later user is left out whole: whether both are one person cannot be known, and guessing wrong
    /// would show one's mail to the other.
    Id(String),
}

/// A claim that was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conflict {
    /// What was claimed.
    pub contested: Contested,
    /// Id of the user who keeps it: whoever has had it in the earliest source, else the first there.
    pub kept_by: String,
    /// Id of the user who claimed it later.
    pub refused_to: String,
    /// Which of the merged lists the refused user stands in, counted from 0.
    #[serde(skip)]
    pub list: usize,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.contested {
            Contested::Address(address) => {
                write!(f, "{address} is claimed by users {} and {}: ", self.kept_by, self.refused_to)?;
                write!(f, "{} keeps it", self.kept_by)
            }
            Contested::Id(id) => write!(f, "user id {id} stands in two sources: the later user is left out"),
        }
    }
}

/// Where an address leads.
#[derive(Clone, Copy, Debug)]
struct Owner {
    user: usize,
    /// Index into [`User::addresses`].
    address: usize,
}

/// How a report wrote an address that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As an SMTP address.
    Smtp,
    /// As the X.500 name that the user has: `[EX:/o=…]`, or as the list does.
    X500,
    /// As an SMTP address that encapsulates the user's X.500 name: `IMCEAEX-_o=…@domain`.
    Encapsulated,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The user's.
    pub user: &'a Arc<User>,
    /// The one of the user's addresses that matched, as the source wrote it.
    pub proxy: &'a str,
    /// How it was written where it was looked up from.
    pub form: Form,
}

/// Users by address. Immutable; share it in an [`Arc`].
#[derive(Debug, Default)]
pub struct Snapshot {
    users: Vec<Arc<User>>,
    by_address: HashMap<AddressKey, Owner>,
    by_id: HashMap<String, usize>,
    domains: HashSet<String>,
    conflicts: Vec<Conflict>,
}

impl Snapshot {
    /// A snapshot of one list.
    pub fn of(users: Vec<User>) -> Snapshot {
        let users = users.into_iter().map(Arc::new).collect();
        Snapshot::of_rolls([&Roll { users, ..Roll::default() }])
    }

    /// A snapshot of what is in force of several sources. Of what users of several claim, the earlier source's user has it; of
    /// what several users of one claim, whoever [`Roll::contested`] names, else the first.
    pub fn of_rolls<'a>(rolls: impl IntoIterator<Item = &'a Roll>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (list, roll) in rolls.into_iter().enumerate() {
            for user in &roll.users {
                snapshot.add(user, list, roll);
            }
        }
        snapshot
    }

    fn add(&mut self, user: &Arc<User>, list: usize, roll: &Roll) {
        let conflict = |contested, kept_by: &str| Conflict {
            contested,
            kept_by: kept_by.to_owned(),
            refused_to: user.id.clone(),
            list,
        };
        if let Some(first) = self.user(&user.id) {
            let conflict = conflict(Contested::Id(user.id.clone()), &first.id);
            self.conflicts.push(conflict);
            return;
        }
        let index = self.users.len();
        self.domains.extend(user.domains().map(str::to_ascii_lowercase));
        for (address, text) in user.addresses().enumerate() {
            let key = listed_key(text);
            let other = roll.contested.get(&key).filter(|holder| **holder != user.id);
            match self.by_address.get(&key).map(|owner| owner.user) {
                None if other.is_some() => {
                    let kept = other.map(|holder| conflict(Contested::Address(key), holder));
                    self.conflicts.extend(kept);
                }
                None => {
                    self.by_address.insert(key, Owner { user: index, address });
                }
                // The same user wrote it twice: no harm.
                Some(owner) if owner == index => {}
                Some(owner) => {
                    let kept =
                        self.users.get(owner).map(|first| conflict(Contested::Address(key), &first.id));
                    self.conflicts.extend(kept);
                }
            }
        }
        self.by_id.insert(user.id.clone(), index);
        self.users.push(Arc::clone(user));
    }

    /// The user an address belongs to. An X.500 name may be given in any of its forms.
    pub fn find(&self, address: &AddressKey) -> Option<&Arc<User>> {
        self.find_proxy(address).map(|found| found.user)
    }

    /// As [`find`](Snapshot::find), with what matched and how.
    pub fn find_proxy(&self, address: &AddressKey) -> Option<Found<'_>> {
        let name = x500::read(address);
        let owner = self.by_address.get(name.as_ref().map_or(address, |name| &name.key))?;
        let user = self.users.get(owner.user)?;
        let proxy = user.addresses().nth(owner.address)?;
        let form = name.map_or(Form::Smtp, |name| name.form);
        Some(Found { user, proxy, form })
    }

    /// Every user, in the order of the sources.
    pub fn users(&self) -> &[Arc<User>] {
        &self.users
    }

    /// The user with this id.
    pub fn user(&self, id: &str) -> Option<&Arc<User>> {
        self.users.get(*self.by_id.get(id)?)
    }

    /// True when any user has an address in `domain`.
    pub fn owns_domain(&self, domain: &str) -> bool {
        self.domains.contains(&domain.to_ascii_lowercase())
    }

    /// Every claim that was not granted, in the order of the sources.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str, addresses: &[&str]) -> User {
        let (primary, aliases) = addresses.split_first().unwrap();
        User {
            id: id.to_owned(),
            name: id.to_uppercase(),
            primary: Address::parse(primary).unwrap(),
            aliases: aliases.iter().map(|text| ProxyAddress::parse(text).unwrap()).collect(),
        }
    }

    fn roll(users: Vec<User>) -> Roll {
        Roll { users: users.into_iter().map(Arc::new).collect(), ..Roll::default() }
    }

    fn check(users: &[(&str, &[&str])], address: &str, expect: Option<(&str, &str)>) {
        let snapshot = Snapshot::of(users.iter().map(|(id, addresses)| user(id, addresses)).collect());
        let found = snapshot.find_proxy(&AddressKey::of(address));
        let found = found.map(|found| (found.user.id.as_str(), found.proxy));
        assert_eq!(found, expect, "{address}");
    }

    #[test]
    fn finds_a_user_by_any_address_in_any_ascii_case() {
        let users: &[(&str, &[&str])] =
            &[("a", &["al@x.example", "Al.Alias@x.example"]), ("b", &["bo@x.example"])];
        check(users, "AL@X.example", Some(("a", "al@x.example")));
        check(users, "al.alias@x.EXAMPLE", Some(("a", "Al.Alias@x.example")));
        check(users, "bo@x.example", Some(("b", "bo@x.example")));
        check(users, "bo+tag@x.example", None);
        check(users, "\u{212a}@x.example", None);
        check(users, "", None);
    }

    #[test]
    fn finds_a_user_by_x500_name() {
        let users: &[(&str, &[&str])] = &[("a", &["al@x.example", "X500:/o=Org/cn=Recipients/cn=al"])];
        let proxy = "X500:/o=Org/cn=Recipients/cn=al";
        check(users, "[EX:/O=ORG/CN=Recipients/cn=AL]", Some(("a", proxy)));
        check(users, "x500:/o=org/cn=recipients/cn=al", Some(("a", proxy)));
        check(users, "[EX:/o=org/cn=recipients/cn=bo]", None);
        check(users, "[EX:/o=org/cn=recipients/cn=al", None);
        check(users, "[EX: /o=Org /cn=Recipients/ cn=al ]", Some(("a", proxy)));
        check(users, "IMCEAEX-_o=Org_cn=Recipients_cn=al@any.example", Some(("a", proxy)));
        check(users, "IMCEAEX-_o=Org_cn=Recipients_cn=bo@x.example", None);
    }

    #[test]
    fn the_first_claim_of_an_address_or_id_wins_and_the_others_are_listed() {
        let first = roll(vec![user("a", &["al@x.example", "info@x.example", "INFO@x.example"])]);
        let second = roll(vec![user("b", &["bo@x.example", "Info@x.example"]), user("a", &["z@x.example"])]);
        let snapshot = Snapshot::of_rolls([&first, &second]);
        assert_eq!(snapshot.find(&AddressKey::of("info@x.example")).unwrap().id, "a");
        assert!(snapshot.find(&AddressKey::of("z@x.example")).is_none());
        assert_eq!(snapshot.users().len(), 2);
        let conflicts: Vec<String> = snapshot.conflicts().iter().map(ToString::to_string).collect();
        assert_eq!(
            conflicts,
            [
                "info@x.example is claimed by users a and b: a keeps it",
                "user id a stands in two sources: the later user is left out"
            ]
        );
        assert!(snapshot.conflicts().iter().all(|conflict| conflict.list == 1));
    }

    #[test]
    fn an_address_that_several_of_one_source_claim_is_whoevers_its_roll_says() {
        let info = AddressKey::of("info@x.example");
        let users = || ["a", "b", "c"].map(|id| user(id, &[&format!("{id}@x.example"), "info@x.example"]));
        let contested = [(info.clone(), "b".to_owned())].into();
        let snapshot = Snapshot::of_rolls([&Roll { contested, ..roll(users().into()) }]);
        assert_eq!(snapshot.find(&info).unwrap().id, "b");
        let refused: Vec<(&str, &str)> =
            snapshot.conflicts().iter().map(|c| (c.kept_by.as_str(), c.refused_to.as_str())).collect();
        assert_eq!(refused, [("b", "a"), ("b", "c")]);
    }

    #[test]
    fn knows_its_own_domains() {
        let snapshot = Snapshot::of(vec![user("a", &["al@X.example", "al@y.example", "x500:/o=z.example"])]);
        assert!(snapshot.owns_domain("x.EXAMPLE") && snapshot.owns_domain("y.example"));
        assert!(!snapshot.owns_domain("z.example") && !snapshot.owns_domain("sub.x.example"));
    }

    #[test]
    fn refuses_what_is_no_proxy_address() {
        for bad in ["", "bob", "x500:", "x500: ", "x500:/o=a\nb", "smtp:bob@x.example"] {
            assert!(ProxyAddress::parse(bad).is_err(), "{bad:?}");
        }
    }
}
