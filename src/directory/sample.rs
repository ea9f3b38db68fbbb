//! Users for tests.

use super::plan::Wanted;
use super::snapshot::{ProxyAddress, User};
use crate::mail::Address;

/// One with these addresses, the primary one first.
pub(super) fn user(id: &str, addresses: &[&str]) -> User {
    let (primary, aliases) = addresses.split_first().unwrap();
    User {
        id: id.to_owned(),
        name: id.to_uppercase(),
        primary: Address::parse(primary).unwrap(),
        aliases: aliases.iter().map(|text| ProxyAddress::parse(text).unwrap()).collect(),
    }
}

/// An address that several have in these tests.
pub(super) fn info() -> &'static str {
    "info@x.example"
}

/// These, wanted by a source of which nothing is in force.
pub(super) fn wanted(users: &[User]) -> Wanted {
    Wanted::of(users.to_vec(), None)
}
