//! `dns`: the host name has an address others can reach, and mail for every domain goes to it.

use super::{Finding, Scope, Subject, finding::or_ok};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

pub(super) const NAME: &str = "dns";
/// How long one question may take; it is asked twice.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long all questions together may take.
const ALL_WAIT: Duration = Duration::from_secs(20);
/// MX records of a domain looked at.
const MX_MAX: usize = 10;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Looked<T> {
    Found(T),
    /// The name or the record is not there.
    Nothing,
    /// Nobody said whether it is.
    Unknown(String),
}

/// One MX record: its name, and the addresses of that.
type Exchange = (String, Looked<BTreeSet<IpAddr>>);

/// What was seen of one domain.
#[derive(Clone, Debug)]
struct Domain {
    name: String,
    exchanges: Looked<Vec<Exchange>>,
    /// Its own addresses: without MX mail goes there (RFC 5321 §5.1).
    addresses: Looked<BTreeSet<IpAddr>>,
}

pub(super) fn check(subject: &Subject, scope: &Scope) -> Vec<Finding> {
    if scope.offline {
        return vec![Finding::skipped(NAME, "--offline")];
    }
    let settings = &subject.settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let asking = ask(&settings.hostname, &settings.domains, scope.nameserver);
        runtime.block_on(async {
            match tokio::time::timeout(ALL_WAIT, asking).await {
                Ok(answers) => answers,
                Err(_) => Err("the answers take too long".to_owned()),
            }
        })
    });
    match asked {
        Ok((host, domains)) => judge(&settings.hostname, &host, &domains, is_local),
        Err(why) => vec![unreachable_resolver(&why)],
    }
}

fn unreachable_resolver(why: &str) -> Finding {
    Finding::warning(
        NAME,
        format!("no name server gives an answer: {why}"),
        "see /etc/resolv.conf, or name a server that answers: --nameserver IP; where there is none, --offline \
         leaves this check out",
    )
}

type Answers = (Looked<BTreeSet<IpAddr>>, Vec<Domain>);

async fn ask(hostname: &str, domains: &[String], nameserver: Option<SocketAddr>) -> Result<Answers, String> {
    let resolver = resolver(nameserver).map_err(|error| error.to_string())?;
    let host = addresses(&resolver, hostname).await;
    if matches!(host, Looked::Unknown(_)) {
        // Whoever does not answer this will not answer more.
        return Ok((host, Vec::new()));
    }
    let mut seen = Vec::new();
    for name in domains {
        let exchanges = exchanges(&resolver, name).await;
        let addresses = match exchanges {
            Looked::Nothing => addresses(&resolver, name).await,
            _ => Looked::Nothing,
        };
        seen.push(Domain { name: name.clone(), exchanges, addresses });
    }
    Ok((host, seen))
}

fn resolver(nameserver: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match nameserver {
        None => TokioResolver::builder_tokio()?,
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.timeout = ANSWER_WAIT;
    options.attempts = 1;
    // What /etc/hosts of this machine says, others do not see.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// A name without its final dot, in lower case.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Looked<BTreeSet<IpAddr>> {
    match resolver.lookup_ip(format!("{}.", plain(name))).await {
        Ok(found) => Looked::Found(found.iter().collect()),
        Err(error) => nothing(&error),
    }
}

async fn exchanges(resolver: &TokioResolver, domain: &str) -> Looked<Vec<Exchange>> {
    let found = match resolver.lookup(format!("{}.", plain(domain)), RecordType::MX).await {
        Ok(found) => found,
        Err(error) => return nothing(&error),
    };
    let mut names: Vec<(u16, String)> = Vec::new();
    for record in found.answers() {
        if let RData::MX(mx) = &record.data {
            names.push((mx.preference, mx.exchange.to_ascii()));
        }
    }
    names.sort();
    let mut exchanges = Vec::new();
    for (_, name) in names.into_iter().take(MX_MAX) {
        // A lone dot is the null MX: no mail at all (RFC 7505).
        let addresses =
            if plain(&name).is_empty() { Looked::Nothing } else { addresses(resolver, &name).await };
        exchanges.push((plain(&name), addresses));
    }
    if exchanges.is_empty() { Looked::Nothing } else { Looked::Found(exchanges) }
}

fn nothing<T>(error: &NetError) -> Looked<T> {
    if error.is_no_records_found() { Looked::Nothing } else { Looked::Unknown(error.to_string()) }
}

/// Whether it is an address of this machine: only to such can a socket be bound.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// What kind of address it is, if mail from the internet cannot come to it.
fn unreachable_from_outside(address: IpAddr) -> Option<&'static str> {
    // An IPv4 address written as IPv6 is that address.
    match address.to_canonical() {
        ip if ip.is_loopback() => Some("loopback"),
        ip if ip.is_unspecified() => Some("no host's"),
        IpAddr::V4(ip) if ip.is_private() => Some("private"),
        IpAddr::V4(ip) if ip.is_link_local() => Some("link-local"),
        IpAddr::V6(ip) if ip.is_unique_local() => Some("private"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("link-local"),
        _ => None,
    }
}

/// Addresses at which nobody outside finds this host.
fn judge_reach(hostname: &str, here: &BTreeSet<IpAddr>) -> Option<Finding> {
    let named =
        |address: &IpAddr| unreachable_from_outside(*address).map(|kind| format!("{address} ({kind})"));
    let bad: Vec<String> = here.iter().filter_map(named).collect();
    if bad.is_empty() {
        return None;
    }
    let seen = format!("{hostname} is {}: mail from the internet cannot come there", bad.join(", "));
    let fix = format!(
        "where the DNS of its domain is kept, have `{hostname}. A <public IPv4 address of this host>` (AAAA for IPv6) instead; \
         leave it if all mail comes from this network, or if others are given another answer than this host is"
    );
    Some(Finding::warning(NAME, seen, fix))
}

/// The addresses of this host, and which of them are not this machine's: behind NAT none is, so that it is not for us to judge.
fn whose(hostname: &str, here: &BTreeSet<IpAddr>, is_local: impl Fn(IpAddr) -> bool) -> String {
    let list =
        |addresses: &[&IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (own, foreign): (Vec<&IpAddr>, Vec<&IpAddr>) = here.iter().partition(|address| is_local(**address));
    let mut told = format!("{hostname} is {}", list(&own));
    if !foreign.is_empty() {
        let and = if own.is_empty() { "" } else { " and " };
        let what = if foreign.len() == 1 { "is no address" } else { "are no addresses" };
        told.push_str(&format!(
            "{and}{}, which {what} of this machine: right behind NAT, wrong otherwise",
            list(&foreign)
        ));
    }
    told
}

fn judge(
    hostname: &str,
    host: &Looked<BTreeSet<IpAddr>>,
    domains: &[Domain],
    is_local: impl Fn(IpAddr) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match host {
        Looked::Found(_) => {}
        Looked::Nothing => findings.push(Finding::problem(
            NAME,
            format!("{hostname} has no address: nobody finds this host"),
            format!(
                "where the DNS of its domain is kept, add `{hostname}. A <public IPv4 address of this host>` (AAAA for IPv6), \
                 or correct hostname in the configuration"
            ),
        )),
        // Without one answer there will be no other.
        Looked::Unknown(why) => return vec![unreachable_resolver(why)],
    }
    let none = BTreeSet::new();
    let here = match host {
        Looked::Found(addresses) => addresses,
        _ => &none,
    };
    findings.extend(judge_reach(hostname, here));
    findings.extend(domains.iter().filter_map(|domain| judge_domain(hostname, here, domain)));
    or_ok(findings, NAME, || {
        let names: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
        format!("{}; mail for {} goes to {hostname}", whose(hostname, here, is_local), names.join(", "))
    })
}

fn judge_domain(hostname: &str, here: &BTreeSet<IpAddr>, domain: &Domain) -> Option<Finding> {
    let name = &domain.name;
    let fix = format!(
        "where the DNS of {name} is kept, have exactly this MX record: `{name}. MX 10 {}.`",
        plain(hostname)
    );
    let reaches = |addresses: &Looked<BTreeSet<IpAddr>>| match addresses {
        Looked::Found(addresses) => !addresses.is_disjoint(here),
        _ => false,
    };
    let exchanges = match &domain.exchanges {
        Looked::Unknown(why) => {
            return Some(Finding::warning(
                NAME,
                format!("nobody says where mail for {name} goes: {why}"),
                fix,
            ));
        }
        Looked::Nothing if reaches(&domain.addresses) => return None,
        Looked::Nothing => {
            return Some(Finding::problem(
                NAME,
                format!("mail for {name} goes nowhere: it has no MX record"),
                fix,
            ));
        }
        Looked::Found(exchanges) => exchanges,
    };
    let elsewhere: Vec<&str> = exchanges
        .iter()
        .filter(|(exchange, addresses)| *exchange != plain(hostname) && !reaches(addresses))
        .map(|(exchange, _)| if exchange.is_empty() { "." } else { exchange.as_str() })
        .collect();
    if elsewhere.is_empty() {
        return None;
    }
    let whither = elsewhere.join(", ");
    Some(if elsewhere.len() == exchanges.len() {
        Finding::problem(NAME, format!("mail for {name} goes to {whither}, not to {hostname}"), fix)
    } else {
        Finding::warning(NAME, format!("mail for {name} goes to {hostname} and also to {whither}"), fix)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn at(addresses: &[&str]) -> Looked<BTreeSet<IpAddr>> {
        Looked::Found(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn to(exchanges: &[(&str, &str)]) -> Looked<Vec<Exchange>> {
        Looked::Found(exchanges.iter().map(|(name, address)| ((*name).to_owned(), at(&[address]))).collect())
    }

    fn check(
        host: Looked<BTreeSet<IpAddr>>,
        exchanges: Looked<Vec<Exchange>>,
        addresses: Looked<BTreeSet<IpAddr>>,
        expect: &[(Status, &str)],
    ) {
        let domain = Domain { name: "j.example".to_owned(), exchanges, addresses };
        let found = judge("gw.example", &host, &[domain], |_| true);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, (status, word)) in found.iter().zip(expect) {
            assert_eq!(found.status, *status, "{found:?}");
            let text = format!("{} {}", found.seen, found.fix.as_deref().unwrap_or_default());
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }

    #[test]
    fn mail_must_find_this_host() {
        use Looked::{Nothing, Unknown};
        let here = || at(&["192.0.2.1"]);
        check(here(), to(&[("gw.example", "192.0.2.1")]), Nothing, &[(Status::Ok, "192.0.2.1")]);
        check(here(), to(&[("other.example", "192.0.2.1")]), Nothing, &[(Status::Ok, "")]);
        check(
            here(),
            to(&[("other.example", "192.0.2.9")]),
            Nothing,
            &[(Status::Problem, "`j.example. MX 10 gw.example.`")],
        );
        check(
            here(),
            to(&[("gw.example", "192.0.2.1"), ("old.example", "192.0.2.9")]),
            Nothing,
            &[(Status::Warning, "also to old.example")],
        );
        check(here(), Nothing, at(&["192.0.2.1"]), &[(Status::Ok, "")]);
        check(here(), Nothing, at(&["192.0.2.9"]), &[(Status::Problem, "goes nowhere")]);
        check(here(), Nothing, Nothing, &[(Status::Problem, "no MX record")]);
        check(
            here(),
            Looked::Found(vec![(String::new(), Nothing)]),
            Nothing,
            &[(Status::Problem, "goes to .,")],
        );
        check(here(), Unknown("timed out".to_owned()), Nothing, &[(Status::Warning, "timed out")]);
    }

    #[test]
    fn an_address_nobody_outside_can_reach_is_a_warning() {
        for (address, kind) in [
            ("127.0.0.1", "loopback"),
            ("10.1.2.3", "private"),
            ("192.168.1.1", "private"),
            ("169.254.1.1", "link-local"),
            ("::1", "loopback"),
            ("fd00::1", "private"),
            ("fe80::1", "link-local"),
            ("::ffff:10.1.2.3", "private"),
        ] {
            let found = [(Status::Warning, kind)];
            check(
                at(&["203.0.113.1", address]),
                to(&[("gw.example", "203.0.113.1")]),
                Looked::Nothing,
                &found,
            );
        }
    }

    #[test]
    fn an_address_that_is_not_this_machines_is_said_and_left_to_the_reader() {
        let found = |addresses: &[&str]| {
            let domain = Domain {
                name: "j.example".to_owned(),
                exchanges: to(&[("gw.example", "203.0.113.1")]),
                addresses: Looked::Nothing,
            };
            let own: IpAddr = "203.0.113.1".parse().unwrap();
            let mut found = judge("gw.example", &at(addresses), &[domain], |address| address == own);
            assert_eq!((found.len(), found[0].status), (1, Status::Ok), "{found:?}");
            found.remove(0).seen
        };
        assert_eq!(
            found(&["203.0.113.1"]),
            "gw.example is 203.0.113.1; mail for j.example goes to gw.example"
        );
        let nat = found(&["203.0.113.9"]);
        assert!(nat.contains("203.0.113.9, which is no address of this machine: right behind NAT"), "{nat}");
        let one = found(&["203.0.113.1", "2001:db8::9"]);
        assert!(one.contains("is 203.0.113.1 and 2001:db8::9, which is no address"), "{one}");
        assert!(is_local("127.0.0.1".parse().unwrap()) && !is_local("192.0.2.25".parse().unwrap()));
    }

    #[test]
    fn a_host_without_address_is_a_problem_and_a_silent_resolver_a_warning() {
        let mx = || to(&[("gw.example", "192.0.2.1")]);
        check(Looked::Nothing, mx(), Looked::Nothing, &[(Status::Problem, "gw.example. A <public")]);
        let silent = Looked::Unknown("timed out".to_owned());
        check(silent, mx(), Looked::Nothing, &[(Status::Warning, "--nameserver")]);
    }
}
