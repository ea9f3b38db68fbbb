//! The addresses of a gateway mailbox: how one is made, and what becomes of the others when there is a new one.

use super::{FORMER_ADDRESSES_MAX, StoreError};
use crate::mail::{Address, GatewayAddress, Timestamp};

/// The address of a gateway mailbox: `local` is what nobody can guess.
pub(super) fn gateway_address(local: &str, domain: &str) -> Result<Address, StoreError> {
    Address::parse(&format!("mbx-{local}@{domain}"))
        .map_err(|e| StoreError::Refused(format!("domain {domain}: {e}")))
}

/// Puts a new address first, in `domain` or that of the one that was. No other is served for longer than `overlap_ms` from `now`;
/// one that ends sooner keeps its end. Those that ended first are forgotten beyond [`FORMER_ADDRESSES_MAX`].
///
/// # Errors
/// [`StoreError::Refused`] when one that is served still would have to be forgotten.
pub(super) fn rotate(
    addresses: &mut Vec<GatewayAddress>,
    local: &str,
    domain: Option<&str>,
    now: Timestamp,
    overlap_ms: u64,
) -> Result<(), StoreError> {
    let current = addresses.first().ok_or(StoreError::Gone)?;
    let address = gateway_address(local, domain.unwrap_or_else(|| current.address.domain()))?;
    let overlap_ms = i64::try_from(overlap_ms).unwrap_or(i64::MAX);
    let end = Timestamp::from_unix_ms(now.unix_ms().saturating_add(overlap_ms));
    for former in addresses.iter_mut() {
        former.until = Some(former.until.map_or(end, |until| until.min(end)));
    }
    while addresses.len() > FORMER_ADDRESSES_MAX {
        let ended = addresses.iter().enumerate().filter(|(_, former)| !former.is_served(now));
        // The last one is the oldest.
        let Some((oldest, _)) = ended.rev().min_by_key(|(_, former)| former.until) else {
            return Err(StoreError::Refused(format!(
                "{FORMER_ADDRESSES_MAX} former addresses are served still: let some come to their end, or end all by an \
                 overlap of 0"
            )));
        };
        addresses.remove(oldest);
    }
    addresses.insert(0, GatewayAddress { address, until: None });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(NOW_MS + ms)
    }

    fn first() -> Vec<GatewayAddress> {
        vec![GatewayAddress { address: Address::parse("mbx-0@gw.example").unwrap(), until: None }]
    }

    fn seen(addresses: &[GatewayAddress]) -> Vec<(&str, Option<i64>)> {
        let seen = |a: &GatewayAddress| a.until.map(|until| until.unix_ms() - NOW_MS);
        addresses.iter().map(|a| (a.address.as_str(), seen(a))).collect()
    }

    #[test]
    fn the_new_one_is_first_and_an_earlier_end_stays() {
        let mut addresses = first();
        rotate(&mut addresses, "1", None, at(0), 100).unwrap();
        assert_eq!(seen(&addresses), [("mbx-1@gw.example", None), ("mbx-0@gw.example", Some(100))]);
        rotate(&mut addresses, "2", None, at(10), 500).unwrap();
        let expect =
            [("mbx-2@gw.example", None), ("mbx-1@gw.example", Some(510)), ("mbx-0@gw.example", Some(100))];
        assert_eq!(seen(&addresses), expect);
        rotate(&mut addresses, "3", None, at(20), 0).unwrap();
        assert!(addresses.iter().skip(1).all(|former| former.until == Some(at(20))), "{addresses:?}");
        assert!(addresses.iter().skip(1).all(|former| !former.is_served(at(20)) && former.is_served(at(19))));
        rotate(&mut addresses, "4", None, at(30), u64::MAX).unwrap();
        assert!(addresses[1].is_served(at(1_000_000_000_000)), "the end of time is far enough");
        rotate(&mut addresses, "5", Some("new.example"), at(40), 0).unwrap();
        assert_eq!(addresses[0].address.as_str(), "mbx-5@new.example");
    }

    #[test]
    fn those_that_ended_first_are_forgotten_and_served_ones_never() {
        let mut addresses = first();
        for n in 1..=40 {
            rotate(&mut addresses, &n.to_string(), None, at(n), 0).unwrap();
        }
        assert_eq!(addresses.len(), 1 + FORMER_ADDRESSES_MAX);
        assert_eq!(addresses[0].address.as_str(), "mbx-40@gw.example");
        assert_eq!(addresses[FORMER_ADDRESSES_MAX].address.as_str(), "mbx-8@gw.example");

        let mut addresses = first();
        for n in 1..=32 {
            rotate(&mut addresses, &n.to_string(), None, at(n), 1_000).unwrap();
        }
        let before = addresses.clone();
        assert!(matches!(rotate(&mut addresses, "33", None, at(33), 1_000), Err(StoreError::Refused(_))));
        assert_eq!(addresses.len(), before.len());
        rotate(&mut addresses, "33", None, at(33), 0).unwrap();
        assert_eq!(addresses.len(), 1 + FORMER_ADDRESSES_MAX);
    }
}
