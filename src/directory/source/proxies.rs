//! Addresses as Exchange and Active Directory write them, put together into those of one candidate.
//!
//! ```text
//! SMTP:bob@x.example      the primary one
//! smtp:b.baker@x.example  a further one
//! x500:/o=Org/…/cn=bob    a further one, by which journal reports may name him
//! SIP: SPO: EUM: X400: …  other systems' names for him, no mail addresses: left out
//! bob@x.example           without a kind, as `mail` and the sign-in name stand for themselves
//! ```

use super::{CANDIDATE_ADDRESSES_MAX, Candidate};
use crate::directory::snapshot::ProxyAddress;
use crate::mail::{Address, AddressKey, Untrusted};
use std::collections::HashSet;

/// Bad addresses of one candidate that are named; the rest is only left out.
const FAULTS_LISTED_MAX: usize = 10;

/// How much an address claims to be the primary one; the greatest claim wins, the first of equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    None,
    Alias,
    Plain,
    Primary,
}

/// Collects the addresses of one candidate; each counts once, however often it is named.
#[derive(Debug)]
pub(super) struct Addresses {
    found: Vec<ProxyAddress>,
    seen: HashSet<AddressKey>,
    /// Which of `found` is the primary one so far, and how much it claims to be.
    best: (usize, Claim),
    faults: Vec<String>,
    dropped: bool,
}

/// More addresses than [`CANDIDATE_ADDRESSES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The addresses of a candidate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Collected {
    /// The one with `SMTP:`, or else the first that stood for itself, or else the first at all.
    pub(super) primary: Option<Address>,
    /// The others, in the order they came.
    pub(super) aliases: Vec<ProxyAddress>,
    /// What looked like an address and is none, with the reason.
    pub(super) faults: Vec<String>,
}

impl Addresses {
    pub(super) fn new() -> Addresses {
        Addresses {
            found: Vec::new(),
            seen: HashSet::new(),
            best: (0, Claim::None),
            faults: Vec::new(),
            dropped: false,
        }
    }

    /// Adds an entry of `proxyAddresses`, with its kind before it.
    pub(super) fn proxy(&mut self, text: &str) {
        let text = text.trim();
        match text.split_once(':').filter(|(kind, _)| kind.bytes().all(|b| b.is_ascii_alphanumeric())) {
            // Only capitals make it the primary one.
            Some(("SMTP", address)) => self.add(address, Claim::Primary),
            Some((kind, address)) if kind.eq_ignore_ascii_case("smtp") => self.add(address, Claim::Alias),
            Some((kind, _)) if kind.eq_ignore_ascii_case("x500") => self.add(text, Claim::None),
            Some(_) => {}
            None => self.add(text, Claim::Alias),
        }
    }

    /// Adds an address that stands for itself: `mail`, or the sign-in name.
    pub(super) fn plain(&mut self, text: &str) {
        self.add(text, Claim::Plain);
    }

    /// Adds an address that is never the primary one unless there is no other.
    pub(super) fn alias(&mut self, text: &str) {
        self.add(text, Claim::Alias);
    }

    fn add(&mut self, text: &str, claim: Claim) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if self.found.len() == CANDIDATE_ADDRESSES_MAX {
            self.dropped = true;
            return;
        }
        let address = match ProxyAddress::parse(text) {
            Ok(address) => address,
            Err(error) => return self.fault(text, &error),
        };
        let key = address.key();
        let more = claim > self.best.1;
        if self.seen.insert(key.clone()) {
            self.found.push(address);
            if more {
                self.best = (self.found.len() - 1, claim);
            }
        } else if more {
            // Named again with a greater claim, as `mail` often does. There are few claims, so this is rare.
            let place = self.found.iter().position(|found| found.key() == key);
            self.best = place.map_or(self.best, |place| (place, claim));
        }
    }

    fn fault(&mut self, text: &str, error: &dyn std::fmt::Display) {
        if self.faults.len() < FAULTS_LISTED_MAX {
            self.faults.push(format!("address \"{}\" is left out: {error}", Untrusted(text)));
        }
    }

    /// What was found.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(super) fn collected(mut self) -> Result<Collected, TooMany> {
        if self.dropped {
            return Err(TooMany);
        }
        let primary = match self.best {
            (_, Claim::None) => None,
            (place, _) => match self.found.remove(place) {
                ProxyAddress::Smtp(address) => Some(address),
                // Only SMTP addresses claim anything.
                ProxyAddress::X500(_) => None,
            },
        };
        Ok(Collected { primary, aliases: self.found, faults: self.faults })
    }
}

/// What somebody has, so that what claims little is granted only where nobody has it: names to log in with, other mails.
#[derive(Debug)]
pub(super) struct Held(HashSet<AddressKey>);

impl Held {
    /// What these have.
    pub(super) fn by<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Held {
        let addresses = candidates.into_iter().flat_map(|candidate| {
            let primary = candidate.primary.iter().map(Address::key);
            primary.chain(candidate.aliases.iter().map(ProxyAddress::key))
        });
        Held(addresses.collect())
    }

    /// Gives a candidate an address, unless somebody has it.
    pub(super) fn give(&mut self, candidate: &mut Candidate, address: ProxyAddress) {
        if !self.0.insert(address.key()) {
            return;
        }
        match (&candidate.primary, address) {
            (None, ProxyAddress::Smtp(address)) => candidate.primary = Some(address),
            (_, address) => candidate.aliases.push(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `proxy` entries, then plain ones behind `=`, then aliases behind `+`.
    fn check(entries: &[&str], expect: &str) {
        let mut addresses = Addresses::new();
        for entry in entries {
            match (entry.strip_prefix('='), entry.strip_prefix('+')) {
                (Some(plain), _) => addresses.plain(plain),
                (_, Some(alias)) => addresses.alias(alias),
                _ => addresses.proxy(entry),
            }
        }
        let found = addresses.collected().unwrap();
        let aliases: Vec<&str> = found.aliases.iter().map(ProxyAddress::as_str).collect();
        let primary = found.primary.as_ref().map_or("-", Address::as_str);
        assert_eq!(
            format!("{primary} [{}] {}", aliases.join(" "), found.faults.len()),
            expect,
            "{entries:?}"
        );
    }

    #[test]
    fn capitals_name_the_primary_address_and_other_kinds_are_no_addresses() {
        check(&["smtp:a@x.example", "SMTP:b@x.example", "SIP:b@x.example"], "b@x.example [a@x.example] 0");
        check(&["X500:/o=Org/cn=b", "EUM:123;phone-context=x", "SPO:SPO_1@SPO_2"], "- [X500:/o=Org/cn=b] 0");
        check(&["Smtp:a@x.example", "=b@x.example"], "b@x.example [a@x.example] 0");
        check(&["SMTP:a@x.example", "SMTP:b@x.example"], "a@x.example [b@x.example] 0");
        check(&["smtp:a@x.example", "+b@x.example"], "a@x.example [b@x.example] 0");
        check(&["a@x.example"], "a@x.example [] 0");
    }

    #[test]
    fn an_address_counts_once_and_keeps_its_greatest_claim() {
        check(&["smtp:a@x.example", "smtp:b@x.example", "=B@X.example", "=c@x.example"], {
            "b@x.example [a@x.example c@x.example] 0"
        });
        check(&["SMTP:a@x.example", "=A@x.example", "=b@x.example"], "a@x.example [b@x.example] 0");
    }

    #[test]
    fn what_is_no_address_is_left_out_and_named() {
        check(&["smtp:a@", "smtp:b@x.example", "=", "smtp:"], "b@x.example [] 1");
        let mut addresses = Addresses::new();
        addresses.proxy("smtp:a\r\n@x.example");
        let faults = addresses.collected().unwrap().faults;
        assert!(faults.iter().all(|fault| !fault.contains('\n')) && faults.len() == 1, "{faults:?}");
    }

    #[test]
    fn too_many_addresses_are_refused_rather_than_cut() {
        let mut addresses = Addresses::new();
        for n in 0..=CANDIDATE_ADDRESSES_MAX {
            addresses.proxy(&format!("smtp:a{n}@x.example"));
        }
        assert_eq!(addresses.collected(), Err(TooMany));
    }
}
