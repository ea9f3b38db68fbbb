//! `[smtp]`: receiving, and everything a peer may use up.

use super::check::Reader;
use super::section::Section;
use super::settings::{MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN, Toml, array};
use crate::mail::{Network, Untrusted};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Where SMTP listens unless told otherwise.
const LISTEN: &str = "[::]:25";
/// Most connections that can be configured: the most descriptors a process commonly gets.
const CONNECTIONS_MAX: u64 = 1_000_000;
/// Longest wait that can be configured, in seconds: a day.
const SECONDS_MAX: u64 = 86_400;
/// What part of `max_connections` is reserved unless told otherwise.
const RESERVED_SHARE: u64 = 4;
/// What may be in flight unless told otherwise, but for large messages: 1 GiB.
const IN_FLIGHT_BYTES: u64 = 1024 * 1024 * 1024;
/// The least that all messages in flight should share beside two of the largest: some of usual size at once.
const SHARED_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Most networks in one list.
pub(super) const NETWORKS_MAX: usize = 1_000;

/// Receiving. All times in seconds, all sizes in octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// `listen`: addresses and ports; port 0 takes any free one. At least one. Default `["[::]:25"]`.
    pub listen: Vec<SocketAddr>,
    /// `max_message_bytes`: largest message taken, in octets, as SIZE announces it (RFC 1870). From
    /// [`MESSAGE_BYTES_MIN`] to [`MESSAGE_BYTES_MAX`]. Default 419430400 (400 MiB).
    pub max_message_bytes: u64,
    /// `require_tls`: MAIL is refused before STARTTLS. Default false.
    pub require_tls: bool,
    /// `max_connections`: open at once. 1 to 1000000. Fewer when the limit of open files is too low for them, which the log says
    /// (`service.descriptor_limit`). Default 1024.
    pub max_connections: u64,
    /// `max_connections_per_address`: of those, from one IPv4 address or IPv6 /64; from `[exchange] networks` and
    /// `reserved_networks` one IPv6 address. Default 128.
    pub max_connections_per_address: u64,
    /// `max_connections_per_network`: of those, from one IPv4 /24 or IPv6 /48, unless it is one of `[exchange] networks` or
    /// `reserved_networks`. Default 256.
    pub max_connections_per_network: u64,
    /// `reserved_connections`: how many of `max_connections` only those networks may use. Less than `max_connections`.
    /// Default a quarter of `max_connections`.
    pub reserved_connections: u64,
    /// `reserved_networks`: who may use them besides `[exchange] networks`: relays of one's own. Default none.
    pub reserved_networks: Vec<Network>,
    /// `max_recipients`: of one transaction (RFC 5321 §4.5.3.1.8: at least 100). Default 1000.
    pub max_recipients: u64,
    /// `max_messages`: taken over one connection; then the peer is asked to come anew. Default 1000.
    pub max_messages: u64,
    /// `max_errors`: mistakes of one connection; a stored message wipes the slate. Default 20.
    pub max_errors: u64,
    /// `tarpit_seconds`: the longest wait before a refused recipient is answered; it begins with the third in a row and
    /// doubles from one second. 0 never waits. At most 60. Default 8.
    pub tarpit_seconds: u64,
    /// `max_in_flight_bytes`: of all messages being received and not yet stored, together; beyond it peers are read more
    /// slowly, and after `in_flight_seconds` asked to come again. At least twice `max_message_bytes`: one such message from
    /// `[exchange] networks` and `reserved_networks` and one from anywhere else always have room; all others share what is
    /// more, half of it only with those networks, a quarter of either half only for the first MiB of each message. Default
    /// 1073741824 (1 GiB), or two and a half `max_message_bytes` if that is more.
    pub max_in_flight_bytes: u64,
    /// `in_flight_seconds`: how long a message waits for room among those in flight. Default 60.
    pub in_flight_seconds: u64,
    /// `command_seconds`: from our reply to the end of the next command line (RFC 5321 §4.5.3.2.7). Default 300.
    pub command_seconds: u64,
    /// `handshake_seconds`: a TLS handshake, first octet to last. Default 15.
    pub handshake_seconds: u64,
    /// `reply_seconds`: for the peer to take our replies. Default 60.
    pub reply_seconds: u64,
    /// `data_idle_seconds`: longest silence inside a message. Default 180.
    pub data_idle_seconds: u64,
    /// `data_grace_seconds`: how long a message may take before its rate counts. Default 60.
    pub data_grace_seconds: u64,
    /// `min_data_bytes_per_second`: a peer that sends less is cut off. What it sent ahead of that buys no more time than
    /// the longest silence. Default 500.
    pub min_data_bytes_per_second: u64,
    /// `max_data_seconds`: the sending of one message, but for the time that our own store takes. Default 3600.
    pub max_data_seconds: u64,
    /// `max_session_seconds`: age at which a connection is asked to come anew; a message whose body has begun may be finished.
    /// Default 7200.
    pub max_session_seconds: u64,
    /// `drain_seconds`: for messages on their way in to be finished when the service ends. Default 30.
    pub drain_seconds: u64,
}

impl Default for Smtp {
    fn default() -> Smtp {
        Smtp {
            listen: LISTEN.parse().into_iter().collect(),
            max_message_bytes: 400 * 1024 * 1024,
            require_tls: false,
            max_connections: 1024,
            max_connections_per_address: 128,
            max_connections_per_network: 256,
            reserved_connections: 256,
            reserved_networks: Vec::new(),
            max_recipients: 1000,
            max_messages: 1000,
            max_errors: 20,
            tarpit_seconds: 8,
            max_in_flight_bytes: IN_FLIGHT_BYTES,
            in_flight_seconds: 60,
            command_seconds: 300,
            handshake_seconds: 15,
            reply_seconds: 60,
            data_idle_seconds: 180,
            data_grace_seconds: 60,
            min_data_bytes_per_second: 500,
            max_data_seconds: 3600,
            max_session_seconds: 7200,
            drain_seconds: 30,
        }
    }
}

/// A key that is a number: how the file writes it, what it may be, and where it goes.
struct Number {
    key: &'static str,
    bounds: RangeInclusive<u64>,
    unit: &'static str,
    field: fn(&mut Smtp) -> &mut u64,
}

const fn number(
    key: &'static str,
    bounds: RangeInclusive<u64>,
    unit: &'static str,
    field: fn(&mut Smtp) -> &mut u64,
) -> Number {
    Number { key, bounds, unit, field }
}

/// Every number but `max_message_bytes`, in the order of the file; `reserved_networks` stands behind the fourth.
const NUMBERS: [Number; 19] = [
    number("max_connections", 1..=CONNECTIONS_MAX, "connections", |s| &mut s.max_connections),
    number("max_connections_per_address", 1..=CONNECTIONS_MAX, "connections", |s| {
        &mut s.max_connections_per_address
    }),
    number("max_connections_per_network", 1..=CONNECTIONS_MAX, "connections", |s| {
        &mut s.max_connections_per_network
    }),
    number("reserved_connections", 0..=CONNECTIONS_MAX, "connections", |s| &mut s.reserved_connections),
    number("max_recipients", 100..=100_000, "recipients", |s| &mut s.max_recipients),
    number("max_messages", 1..=1_000_000_000, "messages", |s| &mut s.max_messages),
    number("max_errors", 1..=1_000, "mistakes", |s| &mut s.max_errors),
    number("tarpit_seconds", 0..=60, "seconds", |s| &mut s.tarpit_seconds),
    number("max_in_flight_bytes", MESSAGE_BYTES_MIN..=1 << 50, "octets", |s| &mut s.max_in_flight_bytes),
    number("in_flight_seconds", 1..=3_600, "seconds", |s| &mut s.in_flight_seconds),
    number("command_seconds", 1..=SECONDS_MAX, "seconds", |s| &mut s.command_seconds),
    number("handshake_seconds", 1..=600, "seconds", |s| &mut s.handshake_seconds),
    number("reply_seconds", 1..=SECONDS_MAX, "seconds", |s| &mut s.reply_seconds),
    number("data_idle_seconds", 1..=SECONDS_MAX, "seconds", |s| &mut s.data_idle_seconds),
    number("data_grace_seconds", 1..=SECONDS_MAX, "seconds", |s| &mut s.data_grace_seconds),
    number("min_data_bytes_per_second", 1..=1_000_000_000, "octets", |s| &mut s.min_data_bytes_per_second),
    number("max_data_seconds", 1..=SECONDS_MAX, "seconds", |s| &mut s.max_data_seconds),
    number("max_session_seconds", 1..=30 * SECONDS_MAX, "seconds", |s| &mut s.max_session_seconds),
    number("drain_seconds", 1..=3_600, "seconds", |s| &mut s.drain_seconds),
];
/// Behind how many of [`NUMBERS`] the file has `reserved_networks`.
const NUMBERS_BEFORE_NETWORKS: usize = 4;

impl Smtp {
    /// What is told of a budget in which few messages beside the largest have room.
    pub(super) fn narrow_budget(&self) -> Option<String> {
        let shared = self.max_in_flight_bytes.saturating_sub(self.max_message_bytes.saturating_mul(2));
        (shared < SHARED_BYTES_MIN).then(|| {
            format!(
                "\"max_in_flight_bytes\" in [smtp] leaves {shared} octets beside two of \"max_message_bytes\": while one \
                 message comes slowly, others wait; {SHARED_BYTES_MIN} or more are better"
            )
        })
    }

    pub(super) fn to_toml(&self, out: &mut Toml) {
        out.section("[smtp]");
        out.key("listen", array(&self.listen));
        out.key("max_message_bytes", self.max_message_bytes);
        out.key("require_tls", self.require_tls);
        // Fields are reached through `&mut`, which a copy can give.
        let mut copy = self.clone();
        for (index, Number { key, field, .. }) in NUMBERS.iter().enumerate() {
            if index == NUMBERS_BEFORE_NETWORKS {
                out.key("reserved_networks", array(&self.reserved_networks));
            }
            out.key(key, *field(&mut copy));
        }
    }
}

impl Reader<'_> {
    pub(super) fn smtp(&mut self, section: Option<Section<'_, '_>>) -> Smtp {
        let mut smtp = Smtp::default();
        let Some(mut section) = section else {
            self.claim_defaults("[smtp] listen", &smtp.listen);
            return smtp;
        };
        let line = self.listeners(&mut section, "listen", "[smtp] listen", &mut smtp.listen);
        if smtp.listen.is_empty() {
            let why = "must name at least one address: a gateway that does not listen receives nothing";
            section.bad_value("listen", line, why, self.problems);
        }
        let bounds = MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX;
        if let Some(bytes) = section.number("max_message_bytes", bounds, "octets", self.problems) {
            smtp.max_message_bytes = bytes;
        }
        if let Some(require_tls) = section.boolean("require_tls", self.problems) {
            smtp.require_tls = require_tls;
        }
        for Number { key, bounds, unit, field } in &NUMBERS {
            if let Some(given) = section.number(key, bounds.clone(), unit, self.problems) {
                *field(&mut smtp) = given;
            }
        }
        if !section.has("reserved_connections") {
            smtp.reserved_connections = smtp.max_connections / RESERVED_SHARE;
        }
        if let Some(networks) = self.networks(&mut section, "reserved_networks") {
            smtp.reserved_networks = networks;
        }
        let line = section.line().unwrap_or(1);
        if !section.has("max_in_flight_bytes") {
            smtp.max_in_flight_bytes = IN_FLIGHT_BYTES.max(smtp.max_message_bytes.saturating_mul(5) / 2);
        }
        if smtp.max_in_flight_bytes < smtp.max_message_bytes.saturating_mul(2) {
            let why =
                format!("must be at least twice \"max_message_bytes\", which is {}", smtp.max_message_bytes);
            section.bad_value("max_in_flight_bytes", line, &why, self.problems);
        }
        if smtp.reserved_connections >= smtp.max_connections {
            let why = format!("must be less than \"max_connections\", which is {}", smtp.max_connections);
            section.bad_value("reserved_connections", line, &why, self.problems);
        }
        section.finish(self.problems);
        smtp
    }

    /// A list of networks, if the key is there.
    pub(super) fn networks(
        &mut self,
        section: &mut Section<'_, '_>,
        key: &'static str,
    ) -> Option<Vec<Network>> {
        let given = section.strings(key, self.problems)?;
        if given.value.len() > NETWORKS_MAX {
            let why = format!("must name at most {NETWORKS_MAX} networks");
            section.bad_value(key, given.line, &why, self.problems);
        }
        let mut networks = Vec::with_capacity(given.value.len());
        for text in &given.value {
            match text.value.parse() {
                Ok(network) => networks.push(network),
                Err(error) => {
                    let shown = Untrusted(&text.value);
                    let why = format!("\"{shown}\" is not a network, like \"192.0.2.0/24\": {error}");
                    section.bad_value(key, text.line, &why, self.problems);
                }
            }
        }
        Some(networks)
    }
}
