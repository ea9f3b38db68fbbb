//! Who may be connected at once: counts of what is open, and whether one more may come.
//!
//! A flood must not keep out those the gateway is there for. So what may be open is limited three ways, in all, for one address and
//! for one network, and the last slots of all are kept for networks that are *favoured* ([`AdmissionPolicy`]).
//!
//! Whom a limit means: an IPv4 host is one address, an IPv6 host has a whole /64 to choose addresses from, so that is what counts as
//! one address there. Not so for the favoured: hosts of Exchange Online that serve one forest share a /64, and none of them hides
//! in it, so each IPv6 address counts by itself. A network is an IPv4 /24 or an IPv6 /48, about what one renter gets.
//!
//! [`Ledger`] counts and judges and does nothing else; [`Admission`] is the one that accept loops share.
//!
//! Invariants:
//! - Nobody comes in over a limit in force. A limit that is lowered cuts no connection that is open: it only keeps the next out.
//! - A slot comes back when its [`Permit`] is dropped, however the connection ended.
//! - Memory grows with the connections that are open, not with how many came or were refused.

use crate::mail::Network;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What of an IPv4 and of an IPv6 address tells one peer from another, in bits.
const ADDRESS_BITS: (u8, u8) = (32, 64);
/// The same of the favoured.
const FAVOURED_ADDRESS_BITS: (u8, u8) = (32, 128);
/// What of them tells one network from another, in bits.
const NETWORK_BITS: (u8, u8) = (24, 48);

/// How many connections may be open at once, and who is favoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionPolicy {
    /// In all.
    pub connections_max: usize,
    /// Of those, from one IPv4 address or IPv6 /64; of the favoured, from one address.
    pub per_address_max: usize,
    /// Of those, from one IPv4 /24 or IPv6 /48. Connections that are favoured neither count here nor are held back.
    pub per_network_max: usize,
    /// How many of `connections_max` are left to the favoured: others come in only while more than this are free.
    pub reserved: usize,
    /// Who is favoured.
    pub favoured: Vec<Network>,
}

impl AdmissionPolicy {
    /// So many in all, whoever they are.
    pub fn in_all(connections_max: usize) -> AdmissionPolicy {
        AdmissionPolicy {
            connections_max,
            per_address_max: usize::MAX,
            per_network_max: usize::MAX,
            reserved: 0,
            favoured: Vec::new(),
        }
    }
}

/// The limit that keeps a connection out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// There are too many in all, or for a peer that is not favoured.
    Total,
    /// From its address.
    Address,
    /// From its network.
    Network,
}

impl Limit {
    /// Every limit there is.
    pub const ALL: [Limit; 3] = [Limit::Total, Limit::Address, Limit::Network];

    /// One word: `total`, `address` or `network`.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Total => "total",
            Limit::Address => "address",
            Limit::Network => "network",
        }
    }
}

/// Why one more may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What there is too much of. Of several limits the narrowest: it tells best who uses so much.
    pub limit: Limit,
    /// It is one of the favoured.
    pub is_favoured: bool,
}

/// A slot in a [`Ledger`].
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    address: Network,
    /// None when it is favoured.
    network: Option<Network>,
}

impl Slot {
    /// Whether it was given to one of the favoured.
    pub fn is_favoured(&self) -> bool {
        self.network.is_none()
    }
}

/// What is open. Values in, verdict out.
#[derive(Debug, Default)]
pub struct Ledger {
    open: usize,
    addresses: BTreeMap<Network, usize>,
    networks: BTreeMap<Network, usize>,
}

impl Ledger {
    /// Takes a slot for a peer at `address`. The slot must be given back by [`Ledger::leave`].
    ///
    /// # Errors
    /// [`Refusal`]; nothing is changed then.
    pub fn enter(&mut self, policy: &AdmissionPolicy, address: IpAddr) -> Result<Slot, Refusal> {
        let is_favoured = policy.favoured.iter().any(|network| network.contains(address));
        let slot = Slot {
            address: around(address, if is_favoured { FAVOURED_ADDRESS_BITS } else { ADDRESS_BITS }),
            network: (!is_favoured).then(|| around(address, NETWORK_BITS)),
        };
        let refused = |limit| Err(Refusal { limit, is_favoured });
        if count(&self.addresses, &slot.address) >= policy.per_address_max {
            return refused(Limit::Address);
        }
        if slot.network.is_some_and(|network| count(&self.networks, &network) >= policy.per_network_max) {
            return refused(Limit::Network);
        }
        let kept_free = if is_favoured { 0 } else { policy.reserved };
        if self.open >= policy.connections_max.saturating_sub(kept_free) {
            return refused(Limit::Total);
        }
        self.open += 1;
        *self.addresses.entry(slot.address).or_default() += 1;
        if let Some(network) = slot.network {
            *self.networks.entry(network).or_default() += 1;
        }
        Ok(slot)
    }

    /// Gives a slot back.
    pub fn leave(&mut self, slot: &Slot) {
        self.open = self.open.saturating_sub(1);
        less(&mut self.addresses, &slot.address);
        if let Some(network) = &slot.network {
            less(&mut self.networks, network);
        }
    }

    /// How many slots are taken.
    pub fn open(&self) -> usize {
        self.open
    }
}

fn around(address: IpAddr, (v4_bits, v6_bits): (u8, u8)) -> Network {
    let address = address.to_canonical();
    Network::around(address, if address.is_ipv4() { v4_bits } else { v6_bits })
}

fn count(counts: &BTreeMap<Network, usize>, of: &Network) -> usize {
    counts.get(of).copied().unwrap_or_default()
}

fn less(counts: &mut BTreeMap<Network, usize>, of: &Network) {
    if let Some(count) = counts.get_mut(of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(of);
        }
    }
}

/// Lets connections in. Clones share the count, so several listeners can share the limits.
#[derive(Clone, Debug)]
pub struct Admission {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    policy: AdmissionPolicy,
    ledger: Ledger,
}

impl Admission {
    /// Nobody is in yet.
    pub fn new(policy: AdmissionPolicy) -> Admission {
        Admission { inner: Arc::new(Mutex::new(Inner { policy, ledger: Ledger::default() })) }
    }

    /// Judges whoever comes from now on by this policy. Those that are in stay, and count.
    pub fn replace(&self, policy: AdmissionPolicy) {
        self.lock().policy = policy;
    }

    /// Lets a peer in until the permit is dropped.
    ///
    /// # Errors
    /// [`Refusal`]: it must go. Neither ours nor its fault; it may come again.
    pub fn enter(&self, address: IpAddr) -> Result<Permit, Refusal> {
        let Inner { policy, ledger } = &mut *self.lock();
        let slot = ledger.enter(policy, address)?;
        Ok(Permit { slot, admission: self.clone() })
    }

    /// How many are in.
    pub fn open(&self) -> usize {
        self.lock().ledger.open()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing between lock and unlock can leave the counts half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection may be open while it holds this.
#[derive(Debug)]
pub struct Permit {
    slot: Slot,
    admission: Admission,
}

impl Permit {
    /// Whether it was given to one of the favoured.
    pub fn is_favoured(&self) -> bool {
        self.slot.is_favoured()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.lock().ledger.leave(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn policy() -> AdmissionPolicy {
        AdmissionPolicy {
            connections_max: 10,
            per_address_max: 3,
            per_network_max: 4,
            reserved: 4,
            favoured: vec!["40.92.0.0/15".parse().unwrap(), "2a01:111:f400::/48".parse().unwrap()],
        }
    }

    fn refused(limit: Limit, is_favoured: bool) -> Result<Slot, Refusal> {
        Err(Refusal { limit, is_favoured })
    }

    /// Peers come one after the other and stay; the last is judged.
    fn check(before: &[&str], last: &str, expect: Option<Limit>) {
        let (policy, mut ledger) = (policy(), Ledger::default());
        for peer in before {
            ledger.enter(&policy, ip(peer)).unwrap();
        }
        let judged = ledger.enter(&policy, ip(last));
        assert_eq!(judged.err().map(|refusal| refusal.limit), expect, "{last} after {before:?}");
    }

    #[test]
    fn one_address_holds_its_share_only() {
        check(&["192.0.2.1"; 2], "192.0.2.1", None);
        check(&["192.0.2.1"; 3], "192.0.2.1", Some(Limit::Address));
        check(&["192.0.2.1"; 3], "192.0.2.2", None);
        check(&["192.0.2.1"; 3], "::ffff:192.0.2.1", Some(Limit::Address));
        check(&["2001:db8::1", "2001:db8::2", "2001:db8::3"], "2001:db8::ffff:1", Some(Limit::Address));
        check(&["2001:db8::1", "2001:db8::2", "2001:db8::3"], "2001:db8:0:1::1", None);
        check(&["40.92.0.1"; 3], "40.92.0.1", Some(Limit::Address));
    }

    #[test]
    fn hosts_of_a_favoured_network_that_share_a_64_are_told_apart() {
        let hosts = ["2a01:111:f400:7e00::1", "2a01:111:f400:7e00::2", "2a01:111:f400:7e00::3"];
        check(&hosts, "2a01:111:f400:7e00::4", None);
        check(&["2a01:111:f400:7e00::1"; 3], "2a01:111:f400:7e00::1", Some(Limit::Address));
    }

    #[test]
    fn one_network_holds_its_share_only_unless_it_is_favoured() {
        let four = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
        check(&four, "192.0.2.5", Some(Limit::Network));
        check(&four, "192.0.3.5", None);
        let four = ["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1", "2001:db8:0:4::1"];
        check(&four, "2001:db8:0:5::1", Some(Limit::Network));
        check(&four, "2001:db8:1:5::1", None);
        check(&["40.92.0.1", "40.92.0.2", "40.92.0.3", "40.92.0.4"], "40.92.0.5", None);
    }

    #[test]
    fn the_last_slots_are_kept_for_the_favoured() {
        let (policy, mut ledger) = (policy(), Ledger::default());
        for host in 1..=6 {
            ledger.enter(&policy, ip(&format!("192.0.{host}.1"))).unwrap();
        }
        assert_eq!(ledger.enter(&policy, ip("192.0.9.1")), refused(Limit::Total, false));
        for host in 1..=4 {
            assert!(ledger.enter(&policy, ip(&format!("::ffff:40.92.0.{host}"))).unwrap().is_favoured());
        }
        assert_eq!(ledger.enter(&policy, ip("40.92.0.9")), refused(Limit::Total, true));
    }

    #[test]
    fn a_lower_limit_cuts_nobody_off_and_a_higher_one_counts_at_once() {
        let admission = Admission::new(AdmissionPolicy::in_all(2));
        let first = admission.enter(ip("192.0.2.1")).unwrap();
        let second = admission.enter(ip("192.0.2.1")).unwrap();
        admission.replace(AdmissionPolicy::in_all(1));
        assert_eq!(admission.open(), 2);
        drop(first);
        assert!(admission.enter(ip("192.0.2.1")).is_err());
        admission.replace(AdmissionPolicy::in_all(2));
        let third = admission.enter(ip("192.0.2.1")).unwrap();
        drop((second, third));
        assert_eq!(admission.open(), 0);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Enter(IpAddr),
        Leave(prop::sample::Index),
        Replace(AdmissionPolicy),
    }

    /// Few hosts in few networks, so that they meet.
    fn peers() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0..3_u8, 0..4_u8).prop_map(|(net, host)| IpAddr::from([10, 0, net, host])),
            (0..2_u8, 0..4_u8).prop_map(|(net, host)| ip(&format!("::ffff:40.92.{net}.{host}"))),
            (0..2_u8, 0..2_u8, 0..2_u8)
                .prop_map(|(net, sub, host)| ip(&format!("2001:db8:{net}:{sub}::{host}"))),
        ]
    }

    fn policies() -> impl Strategy<Value = AdmissionPolicy> {
        (0..12_usize, 0..6_usize, 0..8_usize, 0..12_usize, any::<bool>()).prop_map(
            |(connections_max, per_address_max, per_network_max, reserved, favours)| AdmissionPolicy {
                connections_max,
                per_address_max,
                per_network_max,
                reserved,
                favoured: if favours { policy().favoured } else { Vec::new() },
            },
        )
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            6 => peers().prop_map(Act::Enter),
            3 => any::<prop::sample::Index>().prop_map(Act::Leave),
            1 => policies().prop_map(Act::Replace),
        ];
        prop::collection::vec(act, 0..120)
    }

    proptest! {
        /// Against a list of who is in: nobody over a limit, nobody kept out without one, and nothing remembered for nobody.
        #[test]
        fn counts_as_a_plain_list_would(mut policy in policies(), acts in acts()) {
            let mut ledger = Ledger::default();
            let mut inside: Vec<(IpAddr, Slot)> = Vec::new();
            for act in acts {
                match act {
                    Act::Replace(new) => policy = new,
                    Act::Leave(_) if inside.is_empty() => {}
                    Act::Leave(which) => {
                        let (_, slot) = inside.swap_remove(which.index(inside.len()));
                        ledger.leave(&slot);
                    }
                    Act::Enter(peer) => {
                        let is_favoured = policy.favoured.iter().any(|network| network.contains(peer));
                        let bits = if is_favoured { FAVOURED_ADDRESS_BITS } else { ADDRESS_BITS };
                        let of_address = inside.iter().filter(|(_, slot)| slot.address == around(peer, bits)).count();
                        let of_network = inside.iter().filter(|(other, slot)| {
                            !slot.is_favoured() && around(*other, NETWORK_BITS) == around(peer, NETWORK_BITS)
                        }).count();
                        let free = policy.connections_max.saturating_sub(inside.len());
                        let fits = of_address < policy.per_address_max
                            && (is_favoured || of_network < policy.per_network_max)
                            && free > if is_favoured { 0 } else { policy.reserved };
                        match ledger.enter(&policy, peer) {
                            Ok(slot) => {
                                prop_assert!(fits, "{peer} came in over a limit");
                                prop_assert_eq!(slot.is_favoured(), is_favoured);
                                inside.push((peer, slot));
                            }
                            Err(refusal) => {
                                prop_assert!(!fits, "{peer} was kept out by {refusal:?}");
                                prop_assert_eq!(refusal.is_favoured, is_favoured);
                            }
                        }
                    }
                }
                prop_assert_eq!(ledger.open(), inside.len());
                prop_assert!(ledger.addresses.len() <= inside.len() && ledger.networks.len() <= inside.len());
            }
            for (_, slot) in inside {
                ledger.leave(&slot);
            }
            prop_assert!(ledger.open() == 0 && ledger.addresses.is_empty() && ledger.networks.is_empty());
        }
    }
}
