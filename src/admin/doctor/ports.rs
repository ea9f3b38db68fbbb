//! `ports`: with a server, each listener answers as its protocol begins; without one, each address could be bound.

use super::{Finding, Status, Subject, View, finding::or_ok, occupant, quoted};
use crate::admin::Ports;
use crate::admin::probe::{answer_to_http, greeting, greeting_over_tls, reachable};
use crate::config::Settings;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

pub(super) const NAME: &str = "ports";
const HTTP: &str = "http";
const IMAP: &str = "imap";
const IMAPS: &str = "imaps";
/// Characters shown of a greeting that is none.
const SAID_SHOWN: usize = 80;
/// Ports below need a privilege (capabilities(7), `CAP_NET_BIND_SERVICE`).
const FREE_FOR_ALL: u16 = 1024;

/// One address of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    service: &'static str,
    key: &'static str,
    address: SocketAddr,
}

/// What became of it.
#[derive(Debug)]
enum Outcome {
    /// The listener said this first.
    Said(String),
    /// It could not be reached, or said nothing.
    Unanswered(io::Error),
    /// Nobody has it: it can be bound.
    Free,
    /// It cannot be bound; who has it, when that can be seen.
    Unbindable(io::Error, Option<String>),
}

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let settings = &subject.settings;
    let ports = served(&subject.view);
    let runs = subject.view.server_runs();
    let we = rustix::process::geteuid().as_raw();
    let mut findings = Vec::new();
    let mut good = Vec::new();
    for wanted in wanted(settings, ports.as_ref()) {
        if is_lacking(&wanted, settings, ports.as_ref()) {
            findings.push(lacking(&wanted));
            continue;
        }
        let outcome = match &subject.view {
            View::Store(_) | View::Closed(_) | View::Unopened => bind(&wanted),
            View::Server(_) | View::Silent(_) => knock(&wanted, &settings.hostname),
            // Whether one runs is not known.
            View::Foreign => match knock(&wanted, &settings.hostname) {
                Outcome::Unanswered(_) => bind(&wanted),
                answered => answered,
            },
        };
        match judge(&wanted, &outcome, we) {
            None => good.push(format!("{} {}", wanted.service, wanted.address)),
            // Where nobody asked for it, the server goes on without it.
            Some(finding) if is_unasked(&wanted, settings) && finding.status == Status::Problem => {
                findings.push(Finding { status: Status::Warning, ..finding });
            }
            Some(finding) => findings.push(finding),
        }
    }
    if runs && good.is_empty() && findings.is_empty() {
        return vec![Finding::skipped(
            NAME,
            "the addresses are chosen by the system, and only the server knows them",
        )];
    }
    or_ok(findings, NAME, || match (runs, good.is_empty()) {
        (true, _) => format!("{} answer", good.join(", ")),
        (false, false) => format!("{} can be bound", good.join(", ")),
        (false, true) => "the system chooses the ports when the server starts".to_owned(),
    })
}

/// Whether nobody asked for it.
fn is_unasked(wanted: &Wanted, settings: &Settings) -> bool {
    match wanted.service {
        HTTP => settings.http.is_none(),
        IMAP | IMAPS => settings.imap.is_none(),
        _ => false,
    }
}

/// Whether the running server does without it. Who answers there is somebody else.
fn is_lacking(wanted: &Wanted, settings: &Settings, ports: Option<&Ports>) -> bool {
    let Some(ports) = ports.filter(|_| is_unasked(wanted, settings)) else { return false };
    match wanted.service {
        IMAP => ports.imap.is_none(),
        IMAPS => ports.imaps.is_none(),
        _ => false,
    }
}

fn lacking(wanted: &Wanted) -> Finding {
    let Wanted { service, address, .. } = wanted;
    Finding::warning(
        NAME,
        format!("{service} is not served: {address} could not be had when the server started"),
        format!(
            "if IMAP is wanted, {}, and restart; if not, write `listen = []` and `listen_tls = []` under [imap]",
            who_listens(address.port())
        ),
    )
}

/// Every configured address; those with port 0 as the server got them, if it is known.
fn wanted(settings: &Settings, ports: Option<&Ports>) -> Vec<Wanted> {
    let bound = |choose: fn(&Ports) -> Option<SocketAddr>| ports.and_then(choose);
    let imap = settings.imap_listen();
    let http: Vec<SocketAddr> = settings.http_listen().into_iter().collect();
    let services = [
        ("smtp", "[smtp] listen", &settings.smtp.listen, bound(|ports| ports.smtp)),
        ("pop3", "[pop3] listen", &settings.pop3.listen, bound(|ports| ports.pop3)),
        ("pop3s", "[pop3] listen_tls", &settings.pop3.listen_tls, bound(|ports| ports.pop3s)),
        (IMAP, "[imap] listen", &imap.listen, bound(|ports| ports.imap)),
        (IMAPS, "[imap] listen_tls", &imap.listen_tls, bound(|ports| ports.imaps)),
        (HTTP, "[http] listen", &http, bound(|ports| ports.http)),
    ];
    let mut all = Vec::new();
    for (service, key, addresses, bound) in services {
        for (index, address) in addresses.iter().enumerate() {
            // Only the first address of each service is told.
            let known = bound.filter(|_| index == 0);
            let address = if address.port() == 0 { known } else { Some(*address) };
            all.extend(address.map(|address| Wanted { service, key, address }));
        }
    }
    all
}

/// Where the running server takes mail, as far as it is known.
pub(super) fn smtp(subject: &Subject) -> Option<SocketAddr> {
    first(subject, "smtp")
}

/// The first address of a service.
pub(super) fn first(subject: &Subject, service: &str) -> Option<SocketAddr> {
    let (settings, ports) = (&subject.settings, served(&subject.view));
    let served = wanted(settings, ports.as_ref());
    let mut served = served.into_iter().filter(|wanted| !is_lacking(wanted, settings, ports.as_ref()));
    served.find(|wanted| wanted.service == service).map(|wanted| wanted.address)
}

fn served(view: &View) -> Option<Ports> {
    match view {
        View::Server(examined) => examined.readiness.as_ref().map(|readiness| readiness.ports.clone()),
        _ => None,
    }
}

fn knock(wanted: &Wanted, host: &str) -> Outcome {
    let said = match wanted.service {
        "pop3s" | IMAPS => greeting_over_tls(wanted.address, host),
        HTTP => answer_to_http(wanted.address, "/livez"),
        _ => greeting(wanted.address),
    };
    said.map_or_else(Outcome::Unanswered, Outcome::Said)
}

fn bind(wanted: &Wanted) -> Outcome {
    match TcpListener::bind(wanted.address) {
        Ok(_) => Outcome::Free,
        Err(error) => {
            let who = (error.kind() == io::ErrorKind::AddrInUse)
                .then(|| occupant::of(wanted.address.port()))
                .flatten();
            Outcome::Unbindable(error, who)
        }
    }
}

/// `we` are the user who looked.
fn judge(wanted: &Wanted, outcome: &Outcome, we: u32) -> Option<Finding> {
    let Wanted { service, key, address } = wanted;
    let begins = match *service {
        "smtp" => "220 ",
        HTTP => "HTTP/1.1 200",
        IMAP | IMAPS => "* OK",
        _ => "+OK",
    };
    let (seen, fix) = match outcome {
        Outcome::Free => return None,
        Outcome::Said(said) if said.starts_with(begins) => return None,
        Outcome::Said(said) => (
            format!("{service} {address} says \"{}\" instead of a greeting", short(said)),
            format!(
                "something else listens there, or the server is overloaded: {}",
                who_listens(address.port())
            ),
        ),
        Outcome::Unanswered(error) => (
            format!("{service} {} does not answer: {error}", tried(*address)),
            format!(
                "if {key} was changed since the server started, restart it: `systemctl restart daybook`; if not, a \
                 firewall on this machine stands between"
            ),
        ),
        Outcome::Unbindable(error, _) if lacks_privilege(error, address.port()) && we != 0 => {
            let why = format!(
                "{service} {address} cannot be tried as user {we}: ports below {FREE_FOR_ALL} need a privilege, which the \
                 unit that comes with Daybook has"
            );
            return Some(Finding::skipped(NAME, why));
        }
        Outcome::Unbindable(error, who) => unbindable(wanted, error, who.as_deref()),
    };
    Some(Finding::problem(NAME, seen, fix))
}

fn lacks_privilege(error: &io::Error, port: u16) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && port < FREE_FOR_ALL
}

fn tried(address: SocketAddr) -> String {
    reachable(address).iter().map(ToString::to_string).collect::<Vec<_>>().join(" nor ")
}

/// As much of what a stranger says as is worth showing.
fn short(said: &str) -> String {
    said.chars().take(SAID_SHOWN).collect()
}

fn who_listens(port: u16) -> String {
    format!("as root, `ss -ltnp 'sport = :{port}'` says who")
}

fn unbindable(wanted: &Wanted, error: &io::Error, who: Option<&str>) -> (String, String) {
    let Wanted { service, key, address } = wanted;
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let by = who.map(|who| format!(" by {who}")).unwrap_or_default();
            let find =
                if who.is_some() { String::new() } else { format!("; {}", who_listens(address.port())) };
            (
                format!("{service} {address} is taken{by}"),
                format!("end what has it, or give another address in {key}{find}"),
            )
        }
        _ if lacks_privilege(error, address.port()) => (
            format!(
                "{service} {address} needs a privilege that even root has not here: ports below {FREE_FOR_ALL} do"
            ),
            privilege(&std::env::current_exe().unwrap_or_default()),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{service} {address} is no address of this machine"),
            format!(
                "give one that is in {key}: `ip -brief address` shows them; \"[::]:{}\" takes all",
                address.port()
            ),
        ),
        _ => (
            format!("{service} {address} cannot be bound: {error}"),
            format!("give another address in {key}"),
        ),
    }
}

fn privilege(program: &Path) -> String {
    // What Linux adds when the file was replaced while it runs (proc_pid_exe(5)).
    let shown = program.to_string_lossy();
    let program = Path::new(shown.strip_suffix(" (deleted)").unwrap_or(&shown));
    format!(
        "under systemd, give the unit `AmbientCapabilities=CAP_NET_BIND_SERVICE`, as the one that comes with Daybook has; \
         else, as root, `setcap cap_net_bind_service=+ep {}`",
        quoted(program)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted_at(service: &'static str, address: &str) -> Wanted {
        Wanted { service, key: "[smtp] listen", address: address.parse().unwrap() }
    }

    fn check(service: &'static str, outcome: Outcome, words: &[&str]) {
        let found = judge(&wanted_at(service, "192.0.2.1:25"), &outcome, 0);
        let text = found.map(|found| format!("{} / {}", found.seen, found.fix.unwrap())).unwrap_or_default();
        assert_eq!(text.is_empty(), words.is_empty(), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{word} is not in {text}"));
    }

    #[test]
    fn a_listener_must_begin_as_its_protocol_does() {
        check("smtp", Outcome::Said("220 gw.example ESMTP".to_owned()), &[]);
        check("pop3", Outcome::Said("+OK ready".to_owned()), &[]);
        check("smtp", Outcome::Said("421 too many".to_owned()), &["421 too many", "ss -ltnp"]);
        check("pop3s", Outcome::Said("220 gw.example".to_owned()), &["instead of a greeting"]);
        check(IMAP, Outcome::Said("* OK ready".to_owned()), &[]);
        check(IMAPS, Outcome::Said("* BYE too many".to_owned()), &["instead of a greeting"]);
        check("smtp", Outcome::Unanswered(io::ErrorKind::ConnectionRefused.into()), &["restart"]);
    }

    #[test]
    fn an_address_that_cannot_be_bound_says_why_and_what_to_do() {
        let refused =
            |kind: io::ErrorKind, who: Option<&str>| Outcome::Unbindable(kind.into(), who.map(str::to_owned));
        check("smtp", Outcome::Free, &[]);
        check(
            "smtp",
            refused(io::ErrorKind::AddrInUse, Some("master, process 9")),
            &["taken by master, process 9"],
        );
        check("smtp", refused(io::ErrorKind::AddrInUse, None), &["taken", "ss -ltnp 'sport = :25'"]);
        check("smtp", refused(io::ErrorKind::PermissionDenied, None), &["setcap", "AmbientCapabilities"]);
        check("smtp", refused(io::ErrorKind::AddrNotAvailable, None), &["\"[::]:25\""]);
    }

    #[test]
    fn a_low_port_that_only_the_server_may_bind_is_no_problem_of_whoever_looks() {
        let denied = || Outcome::Unbindable(io::ErrorKind::PermissionDenied.into(), None);
        let found = judge(&wanted_at("smtp", "[::]:25"), &denied(), 1000).unwrap();
        assert_eq!((found.status, found.fix), (Status::Skipped, None));
        assert!(found.seen.contains("[::]:25 cannot be tried as user 1000"), "{}", found.seen);
        let found = judge(&wanted_at("smtp", "[::]:2525"), &denied(), 1000).unwrap();
        assert_eq!(found.status, Status::Problem);
        assert!(!found.seen.contains("privilege"), "{}", found.seen);
    }

    #[test]
    fn a_program_that_was_replaced_is_named_as_it_can_be_pasted() {
        let told = privilege(Path::new("/usr/local/bin/daybook (deleted)"));
        assert!(told.contains("`setcap cap_net_bind_service=+ep /usr/local/bin/daybook`"), "{told}");
    }

    #[test]
    fn a_port_the_system_chose_is_looked_for_where_the_server_got_it() {
        let mut settings = Settings::with_defaults("gw.example", &["gw.example"], Path::new("/d"));
        settings.smtp.listen = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.1:2525".parse().unwrap()];
        settings.pop3.listen = Vec::new();
        settings.pop3.listen_tls = vec!["127.0.0.1:0".parse().unwrap()];
        settings.http = Some(crate::config::Http { listen: None });
        settings.imap = Some(crate::config::Imap { listen: Vec::new(), listen_tls: Vec::new() });
        let addresses = |ports: Option<&Ports>| -> Vec<String> {
            wanted(&settings, ports)
                .iter()
                .map(|wanted| format!("{} {}", wanted.service, wanted.address))
                .collect()
        };
        assert_eq!(addresses(None), ["smtp 127.0.0.1:2525"]);
        let ports = Ports { smtp: "127.0.0.1:4000".parse().ok(), ..Ports::default() };
        assert_eq!(addresses(Some(&ports)), ["smtp 127.0.0.1:4000", "smtp 127.0.0.1:2525"]);
    }
}
