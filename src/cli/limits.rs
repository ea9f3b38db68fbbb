//! How many connections there may be: what is configured, and what the system's limit of open files allows.
//!
//! Every connection holds a descriptor, and so does every file. Were connections allowed to use all of them, the store could not
//! open a segment, a spool or a piece of content, and would defer the mail of those that are connected. So connections never get
//! more than a part, fixed here; accepting is never what runs out.
//!
//! | share of the limit | for |
//! |---|---|
//! | [`OWN_DESCRIPTORS`], or half if the limit is lower than twice that | a fifth of it connections of POP3, a fifth of IMAP, two fifths the files whose messages they are given, the rest the store, its index, the log, HTTP, `admin.sock` |
//! | two thirds of the rest, whoever fetches | SMTP |
//! | one third of the rest | messages on their way in that are too large for memory |

use crate::config::Settings;
use crate::net::admission::AdmissionPolicy;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Descriptors that SMTP never gets.
const OWN_DESCRIPTORS: usize = FETCH_CONNECTIONS_MAX * FETCH_PARTS;
/// Parts of those of which POP3 gets one and IMAP one: each of their connections holds a descriptor, and one more while it is
/// given a message that has a file of its own.
const FETCH_PARTS: usize = 5;
/// POP3 connections open at once, over all its ports; as many of IMAP.
const FETCH_CONNECTIONS_MAX: usize = 256;
/// Of those, from one address. An archive needs one or two; who guesses passwords must leave it some.
const FETCH_PER_ADDRESS_MAX: usize = 64;
/// Of those, from one network.
const FETCH_PER_NETWORK_MAX: usize = 128;
/// Threads for what blocks. Each connection that fetches may hold one for as long as its client takes to read; mail must find as
/// many again.
pub(super) const BLOCKING_THREADS_MAX: usize = 4 * FETCH_CONNECTIONS_MAX;

/// As many descriptors as the system allows: the soft limit is low for programs that use `select`, which we do not.
pub(super) fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(event = "service.descriptor_limit", current, %error);
    }
}

/// Keeps what is in memory, keyrings that are open among it, out of core dumps; what comes of it is for
/// [`warn_of_core_dumps`], once there is a log. Whoever may trace this process still may: the
/// file system's rights keep others away.
pub(super) fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A handler that dumps are piped to may come past that limit, but not to memory that is filtered out (core(5)). Where the
    // system has no such filter there is no more that could be done.
    let filtered = std::fs::write("/proc/self/coredump_filter", "0");
    match (setrlimit(Resource::Core, none), filtered) {
        (Err(error), Err(_)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says so when core dumps could not be forbidden.
pub(super) fn warn_of_core_dumps(forbidden: io::Result<()>) {
    if let Err(error) = forbidden {
        tracing::warn!(event = "service.core_dumps", %error);
    }
}

/// How many descriptors this process may have open.
pub(super) fn descriptors() -> usize {
    // None: there is no limit.
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Who may be connected to SMTP with so many descriptors. `connections_max` is lower than configured when they do not suffice.
pub(super) fn smtp(settings: &Settings, descriptors: usize) -> AdmissionPolicy {
    let limits = &settings.smtp;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let configured = count(limits.max_connections);
    let connections_max = configured.min(smtp_descriptors(descriptors));
    // The share of the favoured stays what it was meant to be.
    let reserved = if connections_max < configured {
        let share = limits.reserved_connections as f64 / limits.max_connections as f64;
        (connections_max as f64 * share) as usize
    } else {
        count(limits.reserved_connections)
    };
    AdmissionPolicy {
        connections_max,
        per_address_max: count(limits.max_connections_per_address),
        per_network_max: count(limits.max_connections_per_network),
        reserved,
        favoured: settings.exchange.networks.iter().chain(&limits.reserved_networks).copied().collect(),
    }
}

/// Who may be connected to POP3 with so many descriptors.
pub(super) fn pop3(descriptors: usize) -> AdmissionPolicy {
    fetch(descriptors)
}

/// The same of IMAP, whose clients stay longer.
pub(super) fn imap(descriptors: usize) -> AdmissionPolicy {
    fetch(descriptors)
}

fn fetch(descriptors: usize) -> AdmissionPolicy {
    AdmissionPolicy {
        per_address_max: FETCH_PER_ADDRESS_MAX,
        per_network_max: FETCH_PER_NETWORK_MAX,
        ..AdmissionPolicy::in_all(FETCH_CONNECTIONS_MAX.min(own(descriptors) / FETCH_PARTS))
    }
}

/// Says so when descriptors do not suffice for the connections that are configured.
pub(super) fn warn_of_few_descriptors(settings: &Settings, descriptors: usize) {
    let (configured, in_force) = (settings.smtp.max_connections, smtp(settings, descriptors).connections_max);
    if u64::try_from(in_force).is_ok_and(|in_force| in_force < configured) {
        tracing::warn!(
            event = "service.descriptor_limit",
            current = descriptors,
            max_connections = configured,
            in_force
        );
    }
}

fn own(descriptors: usize) -> usize {
    OWN_DESCRIPTORS.min(descriptors / 2)
}

fn smtp_descriptors(descriptors: usize) -> usize {
    let rest = descriptors.saturating_sub(own(descriptors));
    (rest - rest / 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn connections_never_take_all_descriptors() {
        for descriptors in (2..4_096).chain([20_000, 65_535, 1 << 20, usize::MAX]) {
            let fetching = pop3(descriptors).connections_max + imap(descriptors).connections_max;
            let connections = smtp_descriptors(descriptors) + fetching;
            assert!(connections < descriptors, "{descriptors}");
            assert!(descriptors < 128 || descriptors - connections >= descriptors / 4, "{descriptors}");
            // Each is given a message that has a file of its own, and neither the store nor SMTP lacks any for it.
            let own = own(descriptors);
            assert!(fetching * 2 <= own - own / FETCH_PARTS, "{descriptors}");
            assert!(smtp_descriptors(descriptors) >= descriptors / 3, "{descriptors}");
        }
        assert_eq!(smtp_descriptors(65_535), 42_837);
        assert_eq!(pop3(2 * OWN_DESCRIPTORS).connections_max, FETCH_CONNECTIONS_MAX);
        assert_eq!(imap(2 * OWN_DESCRIPTORS).connections_max, FETCH_CONNECTIONS_MAX);
    }

    #[test]
    fn every_key_of_smtp_reaches_what_it_is_for() {
        use super::super::service::{in_flight_limits, smtp_settings};
        use crate::pipeline::InFlightLimits;
        use crate::smtp::server::{self, PaceLimits, Timeouts};
        use std::time::Duration;
        let text = "hostname = 'gw.example'\ndomains = ['gw.example']\ndata_dir = '/d'\n[smtp]\n\
             listen = ['127.0.0.1:0']\nmax_message_bytes = 100_001\nrequire_tls = true\nmax_connections = 102\n\
             max_connections_per_address = 3\nmax_connections_per_network = 4\nreserved_connections = 5\n\
             reserved_networks = ['192.0.2.0/24']\nmax_recipients = 106\nmax_messages = 7\nmax_errors = 8\n\
             tarpit_seconds = 9\nmax_in_flight_bytes = 1_000_010\nin_flight_seconds = 11\ncommand_seconds = 12\n\
             handshake_seconds = 13\nreply_seconds = 14\ndata_idle_seconds = 15\ndata_grace_seconds = 16\n\
             min_data_bytes_per_second = 17\nmax_data_seconds = 18\nmax_session_seconds = 19\ndrain_seconds = 20\n\
             [exchange]\nnetworks = ['198.51.100.0/24']\n";
        let settings = crate::config::parse(text, Path::new("/")).unwrap();
        let seconds = Duration::from_secs;
        let expect = server::Settings {
            hostname: "gw.example".to_owned(),
            message_octets_max: 100_001,
            require_tls: true,
            recipients_max: 106,
            errors_max: 8,
            messages_max: 7,
            tarpit_max: seconds(9),
            timeouts: Timeouts {
                command: seconds(12),
                handshake: seconds(13),
                reply: seconds(14),
                body: PaceLimits {
                    idle: seconds(15),
                    grace: seconds(16),
                    octets_per_second_min: 17,
                    total: seconds(18),
                },
                session: seconds(19),
                drain: seconds(20),
            },
        };
        assert_eq!(format!("{:?}", smtp_settings(&settings)), format!("{expect:?}"));
        let expect = AdmissionPolicy {
            connections_max: 102,
            per_address_max: 3,
            per_network_max: 4,
            reserved: 5,
            favoured: ["198.51.100.0/24", "192.0.2.0/24"].map(|network| network.parse().unwrap()).to_vec(),
        };
        assert_eq!(smtp(&settings, 65_535), expect);
        let expect = InFlightLimits { octets_max: 1_000_010, message_octets_max: 100_001, wait: seconds(11) };
        assert_eq!(in_flight_limits(&settings), expect);
    }

    #[test]
    fn few_descriptors_lower_the_limit_and_keep_the_share_of_the_favoured() {
        let settings = Settings::with_defaults("gateway.example", &["gateway.example"], Path::new("data"));
        let enough = smtp(&settings, 65_535);
        assert_eq!((enough.connections_max, enough.reserved), (1024, 256));
        assert_eq!((enough.per_address_max, enough.per_network_max), (128, 256));
        assert_eq!(enough.favoured, settings.exchange.networks);
        let few = smtp(&settings, 256);
        assert_eq!((few.connections_max, few.reserved), (86, 21));
    }
}
