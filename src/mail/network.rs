//! Ranges of IP addresses.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A range of IP addresses with a common prefix: `40.92.0.0/15`, `2a01:111:f400::/48`, or a single address.
///
/// An IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`) counts as the IPv4 address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The first address; bits behind the prefix are zero.
    first: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// What stands before the `/` is no IP address.
    Address,
    /// The length of the prefix is no number, or more than the address has bits.
    Prefix,
    /// Bits are set behind the prefix, so that it is not clear which range is meant.
    HostBits,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetworkError::Address => "not an IP address",
            NetworkError::Prefix => "not a prefix length",
            NetworkError::HostBits => "bits are set behind the prefix",
        })
    }
}

impl std::error::Error for NetworkError {}

impl Network {
    /// The network of `prefix_bits` that `address` is in; more bits than it has are as many as it has.
    pub fn around(address: IpAddr, prefix_bits: u8) -> Network {
        let address = address.to_canonical();
        let prefix_bits = prefix_bits.min(width(address));
        Network { first: cut(address, prefix_bits), prefix_bits }
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && cut(address, self.prefix_bits) == self.first
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Network) -> bool {
        // Two prefixes are apart, or one holds the other.
        self.contains(other.first) || other.contains(self.first)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `address` with all bits behind the prefix zero.
fn cut(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        if bits.is_some() && address != address.to_canonical() {
            // Whose bits the prefix counts is a guess.
            return Err(NetworkError::Address);
        }
        let address = address.to_canonical();
        let prefix_bits = match bits {
            None => width(address),
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width(address)).ok_or(NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        let network = Network::around(address, prefix_bits);
        if network.first == address { Ok(network) } else { Err(NetworkError::HostBits) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let read: Network = network.parse().unwrap();
        for address in inside {
            assert!(read.contains(address.parse().unwrap()), "{address} in {network}");
        }
        for address in outside {
            assert!(!read.contains(address.parse().unwrap()), "{address} in {network}");
        }
    }

    #[test]
    fn knows_what_is_inside() {
        check(
            "40.92.0.0/15",
            &["40.92.0.0", "40.93.255.255", "::ffff:40.92.1.1"],
            &["40.91.255.255", "40.94.0.0", "::"],
        );
        check(
            "2a01:111:f400::/48",
            &["2a01:111:f400::1", "2a01:111:f400:ffff::1"],
            &["2a01:111:f401::1", "40.92.0.1"],
        );
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("::/0", &["::1", "2a01::1"], &["127.0.0.1", "::ffff:127.0.0.1"]);
        check("127.0.0.1", &["127.0.0.1"], &["127.0.0.2"]);
        check("::1/128", &["::1"], &["::2"]);
    }

    #[test]
    fn two_overlap_when_one_holds_the_other() {
        let overlap = |a: &str, b: &str| {
            let (a, b): (Network, Network) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        assert!(overlap("40.92.0.0/15", "40.93.1.0/24") && overlap("0.0.0.0/0", "40.92.0.0/15"));
        assert!(!overlap("40.92.0.0/15", "40.94.0.0/15") && !overlap("0.0.0.0/0", "::/0"));
    }

    #[test]
    fn refuses_what_is_unclear() {
        for (text, error) in [
            ("", NetworkError::Address),
            ("localhost", NetworkError::Address),
            ("127.1/8", NetworkError::Address),
            ("::ffff:10.0.0.0/104", NetworkError::Address),
            ("10.0.0.0/33", NetworkError::Prefix),
            ("10.0.0.0/+8", NetworkError::Prefix),
            ("10.0.0.0/", NetworkError::Prefix),
            ("10.0.0.0/8/8", NetworkError::Prefix),
            ("::/129", NetworkError::Prefix),
            ("10.0.0.1/8", NetworkError::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }

    #[test]
    fn reads_back_as_written() {
        for text in ["40.92.0.0/15", "2a01:111:f403::/48", "192.0.2.1/32"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!(Network::around("::ffff:192.0.2.77".parse().unwrap(), 24).to_string(), "192.0.2.0/24");
        assert_eq!(
            Network::around("2001:db8:1:2:3::4".parse().unwrap(), 64).to_string(),
            "2001:db8:1:2::/64"
        );
    }
}
