//! Users and their addresses at one moment, for one set of sources. Never changes once made.
//!
//! Addresses are compared by [`AddressKey`]: the whole address, ASCII case-folded, no plus-tag stripping. An X.500
//! name stands in the list as `x500:/o=…` (as Exchange's `proxyAddresses` write it) and matches what journal
//! reports write as `[EX:/o=…]` or encapsulated as `IMCEAEX-_o=…@domain` (`x500.rs`).
//!
//! Of what is known to have changed ([`Roll`]) it holds whose an address was before, so that a message is given to who had it
//! when it was sent (`past.rs`). Most addresses never changed: they have one entry, as if there were no past.
//!
//! Looking up is one hash, two for what changed; making a snapshot is linear in the number of addresses.

use super::ids::Ids;
use super::past::{self, Held, Stretch};
use super::roll::{Roll, Tenure};
use super::x500::{self, X500_PREFIX};
use crate::mail::{Address, AddressError, AddressKey, Timestamp};
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
    /// The id, which an earlier source has for a user, or had for one who is gone and has no address in common. The later user is
    /// left out whole: whether both are one person cannot be known, and guessing wrong would show one's mail to the other.
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
    user: u32,
    /// Index into [`User::addresses`].
    address: u32,
    /// Number of the source.
    list: u16,
    /// It was not always so: `past` says more.
    dated: bool,
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

/// Whose an address is, or was.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The user's.
    pub user: &'a Arc<User>,
    /// The one of the user's addresses that matched, as the source wrote it.
    pub proxy: &'a str,
    /// How it was written where it was looked up from.
    pub form: Form,
    /// By what right, at the moment that was asked for.
    pub held: Held,
    /// By which of the merged lists, counted from 0.
    pub(super) list: usize,
}

/// A user whom no source names any more.
#[derive(Clone, Debug)]
pub struct Gone {
    /// As last known.
    pub user: Arc<User>,
    /// When the source ceased to name the user.
    pub since: Timestamp,
    /// Up to when the last of the addresses leads there.
    pub until: Timestamp,
}

/// Users by address. Immutable; share it in an [`Arc`].
#[derive(Debug, Default)]
pub struct Snapshot {
    users: Vec<Arc<User>>,
    by_address: HashMap<AddressKey, Owner>,
    by_id: HashMap<String, usize>,
    domains: HashSet<String>,
    conflicts: Vec<Conflict>,
    /// Of each address that is known to have changed hands: who had it when, in the order of precedence.
    past: HashMap<AddressKey, Vec<Stretch>>,
    /// Domains of addresses that ended or will, and when the last of each does.
    past_domains: HashMap<String, Timestamp>,
    gone: Vec<Gone>,
}

impl Snapshot {
    /// A snapshot of one list.
    pub fn of(users: Vec<User>) -> Snapshot {
        let users = users.into_iter().map(Arc::new).collect();
        Snapshot::of_rolls([&Roll { users, ..Roll::default() }])
    }

    /// A snapshot of what is in force of several sources. In what users both claim at a time, the earlier source wins, and within
    /// one whoever [`Roll::contested`] names, else the earlier user; and any user it names wins over one who is gone. An id is of
    /// whoever the earliest source has it for, or had: others of that id are left out, with their past (`ids.rs`).
    pub fn of_rolls<'a>(rolls: impl IntoIterator<Item = &'a Roll>) -> Snapshot {
        let rolls: Vec<&Roll> = rolls.into_iter().collect();
        let mut snapshot = Snapshot::default();
        let ids = Ids::of(&rolls);
        for (list, roll) in rolls.iter().enumerate() {
            for user in &roll.users {
                snapshot.add(user, list, roll, &ids);
            }
        }
        let mut gone: HashMap<&str, usize> = HashMap::new();
        for (list, roll) in rolls.iter().enumerate() {
            for tenure in roll.former.iter().filter(|tenure| ids.has_past_of(list, &tenure.user.id)) {
                snapshot.add_former(tenure, list);
                snapshot.add_gone(tenure, &mut gone);
            }
        }
        snapshot.past.values_mut().for_each(past::settle);
        snapshot
    }

    fn add(&mut self, user: &Arc<User>, list: usize, roll: &Roll, ids: &Ids<'_>) {
        let conflict = |contested, kept_by: &str| Conflict {
            contested,
            kept_by: kept_by.to_owned(),
            refused_to: user.id.clone(),
            list,
        };
        if !ids.has_user(list, &user.id) || self.user(&user.id).is_some() {
            let conflict = conflict(Contested::Id(user.id.clone()), &user.id);
            self.conflicts.push(conflict);
            return;
        }
        let index = self.users.len();
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let list_number = u16::try_from(list).unwrap_or(u16::MAX);
        self.domains.extend(user.domains().map(str::to_ascii_lowercase));
        for (address, text) in (0..).zip(user.addresses()) {
            let key = listed_key(text);
            let from = roll.began.get(&key).copied();
            // Who is left out holds nothing.
            let other =
                roll.contested.get(&key).filter(|holder| **holder != user.id && ids.has_user(list, holder));
            match self.by_address.get(&key).copied() {
                None if other.is_some() => {
                    let kept = other.map(|holder| conflict(Contested::Address(key), holder));
                    self.conflicts.extend(kept);
                }
                None => {
                    let owner = Owner { user: number, address, list: list_number, dated: from.is_some() };
                    if owner.dated {
                        self.stretch(key.clone(), Stretch::present(user, text, from, list));
                    }
                    self.by_address.insert(key, owner);
                }
                // The same user wrote it twice: no harm.
                Some(owner) if owner.user == number => {}
                Some(owner) => {
                    let first = self.users.get(owner.user as usize);
                    self.conflicts
                        .extend(first.map(|first| conflict(Contested::Address(key.clone()), &first.id)));
                    // By this source it was this one's before the other came. Within one source it never was.
                    if other.is_none()
                        && self.past.get(&key).is_some_and(|had| had.iter().all(|had| had.list != list))
                    {
                        self.stretch(key, Stretch::present(user, text, from, list));
                    }
                }
            }
        }
        self.by_id.insert(user.id.clone(), index);
        self.users.push(Arc::clone(user));
    }

    fn stretch(&mut self, key: AddressKey, stretch: Stretch) {
        self.past.entry(key).or_default().push(stretch);
    }

    fn add_former(&mut self, tenure: &Tenure, list: usize) {
        let key = listed_key(&tenure.address);
        // By today's name, if there is one.
        let user = Arc::clone(self.user(&tenure.user.id).unwrap_or(&tenure.user));
        if let Ok(ProxyAddress::Smtp(address)) = ProxyAddress::parse(&tenure.address) {
            let last = self.past_domains.entry(address.domain().to_ascii_lowercase()).or_insert(tenure.until);
            *last = tenure.until.max(*last);
        }
        if let Some(owner) = self.by_address.get_mut(&key)
            && !owner.dated
        {
            owner.dated = true;
            let owner = *owner;
            if let Some(user) = self.users.get(owner.user as usize).map(Arc::clone)
                && let Some(text) = user.addresses().nth(owner.address as usize)
            {
                self.stretch(key.clone(), Stretch::present(&user, text, None, usize::from(owner.list)));
            }
        }
        let former = Stretch {
            user,
            proxy: tenure.address.clone(),
            from: tenure.from,
            gone: tenure.gone,
            until: Some(tenure.until),
            list,
        };
        self.stretch(key, former);
    }

    /// `places` says where in the list a user is.
    fn add_gone<'r>(&mut self, tenure: &'r Tenure, places: &mut HashMap<&'r str, usize>) {
        let Tenure { user, until, .. } = tenure;
        let Some(since) = tenure.gone.filter(|_| self.user(&user.id).is_none()) else { return };
        let place = *places.entry(&user.id).or_insert(self.gone.len());
        match self.gone.get_mut(place) {
            None => self.gone.push(Gone { user: Arc::clone(user), since, until: *until }),
            // The last time counts of who was here more than once.
            Some(gone) if gone.since < since => *gone = Gone { user: Arc::clone(user), since, until: *until },
            Some(gone) if gone.since == since => gone.until = gone.until.max(*until),
            Some(_) => {}
        }
    }

    /// The user an address belongs to now. An X.500 name may be given in any of its forms.
    pub fn find(&self, address: &AddressKey) -> Option<&Arc<User>> {
        self.find_proxy(address).map(|found| found.user)
    }

    /// As [`find`](Snapshot::find), with what matched and how.
    pub fn find_proxy(&self, address: &AddressKey) -> Option<Found<'_>> {
        let name = x500::read(address);
        let owner = self.by_address.get(name.as_ref().map_or(address, |name| &name.key))?;
        self.found(owner, name.map_or(Form::Smtp, |name| name.form))
    }

    fn found(&self, owner: &Owner, form: Form) -> Option<Found<'_>> {
        let user = self.users.get(owner.user as usize)?;
        let proxy = user.addresses().nth(owner.address as usize)?;
        Some(Found { user, proxy, form, held: Held::Plainly, list: usize::from(owner.list) })
    }

    /// The user to whom a message of this moment belongs: who had the address then, of the sources in their order; else who was
    /// gone and still kept it; else the first who had it later. [`Found::held`] says which.
    pub fn find_at(&self, address: &AddressKey, at: Timestamp) -> Option<Found<'_>> {
        let name = x500::read(address);
        let key = name.as_ref().map_or(address, |name| &name.key);
        let form = name.as_ref().map_or(Form::Smtp, |name| name.form);
        if let Some(owner) = self.by_address.get(key).filter(|owner| !owner.dated) {
            return self.found(owner, form);
        }
        let (stretch, held) = past::held_at(self.past.get(key)?, at)?;
        Some(Found { user: &stretch.user, proxy: &stretch.proxy, form, held, list: stretch.list })
    }

    /// Every user, in the order of the sources.
    pub fn users(&self) -> &[Arc<User>] {
        &self.users
    }

    /// Those whom no source names any more, as far as that is known.
    pub fn gone(&self) -> &[Gone] {
        &self.gone
    }

    /// The user with this id.
    pub fn user(&self, id: &str) -> Option<&Arc<User>> {
        self.users.get(*self.by_id.get(id)?)
    }

    /// True when any user has an address in `domain`.
    pub fn owns_domain(&self, domain: &str) -> bool {
        self.domains.contains(&domain.to_ascii_lowercase())
    }

    /// The same of a message of this moment: a domain of addresses that had not ended by then counts as well.
    pub fn owned_domain(&self, domain: &str, at: Timestamp) -> bool {
        let domain = domain.to_ascii_lowercase();
        self.domains.contains(&domain) || self.past_domains.get(&domain).is_some_and(|until| at < *until)
    }

    /// Every claim that was not granted, in the order of the sources.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

#[cfg(test)]
mod tests;
