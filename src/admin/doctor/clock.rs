//! `clock`: not behind what it wrote itself, and as a time server has it.

use super::certificate::Pair;
use super::{Finding, Scope, Subject, finding::or_ok, span};
use crate::mail::Timestamp;
use rsntp::{Config, SntpClient};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

pub(super) const NAME: &str = "clock";
/// Off by more, TLS, logs and receipts mislead.
const OFF_PROBLEM_MS: i64 = 60_000;
/// Off by more, something is not in order.
const OFF_WARNING_MS: i64 = 5_000;
/// How long the time server may take.
const TIME_SERVER_WAIT: Duration = Duration::from_secs(3);
/// Where SNTP is served (RFC 5905 §16).
const SNTP_PORT: u16 = 123;

const SET_IT: &str = "have it set by a time server: `timedatectl set-ntp true`, then look with `timedatectl`";

/// What was seen of the clock.
#[derive(Debug, Default)]
struct Clock {
    /// When the newest message was received; unknown when the store was left closed.
    newest: Option<Timestamp>,
    /// When the certificate begins to be valid.
    not_before: Option<Timestamp>,
    /// Milliseconds this clock is behind the time server's, or why that is not known.
    behind: Option<Result<i64, String>>,
}

pub(super) fn check(known: Option<(&Subject, &Pair)>, scope: &Scope, now: Timestamp) -> Vec<Finding> {
    let clock = Clock {
        newest: known.and_then(|(subject, _)| subject.view.examined()?.newest),
        not_before: known.and_then(|(_, pair)| pair.not_before()),
        behind: scope.time_server.as_deref().filter(|_| !scope.offline).map(ask),
    };
    judge(&clock, scope.time_server.as_deref().unwrap_or_default(), now)
}

fn ask(server: &str) -> Result<i64, String> {
    let address = resolve(server)?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let any: SocketAddr = any.parse().map_err(|error| format!("{error}"))?;
    let client = SntpClient::with_config(Config::default().bind_address(any).timeout(TIME_SERVER_WAIT));
    let answer = client.synchronize(address).map_err(|error| error.to_string())?;
    Ok((answer.clock_offset().as_secs_f64() * 1_000.0) as i64)
}

fn resolve(server: &str) -> Result<SocketAddr, String> {
    let address = server.parse::<SocketAddr>().ok();
    let mut found = match (address, server.rsplit_once(':')) {
        (Some(address), _) => return Ok(address),
        (None, Some((host, port))) if !host.contains(':') && port.parse::<u16>().is_ok() => {
            server.to_socket_addrs()
        }
        _ => (server, SNTP_PORT).to_socket_addrs(),
    }
    .map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "it has no address".to_owned())
}

fn judge(clock: &Clock, server: &str, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ahead = |at: Timestamp| at.unix_ms() - now.unix_ms();
    if let Some(newest) = clock.newest.filter(|newest| ahead(*newest) > OFF_WARNING_MS) {
        let seen = format!(
            "it is {now}, and the newest message was received {} later, at {newest}",
            span(ahead(newest))
        );
        let fix = format!(
            "{SET_IT}; if it is right already, it was wrong when that message came: nothing is lost, and this ends when \
             the clock has passed that time"
        );
        findings.push(by_size(ahead(newest), seen, fix));
    }
    if let Some(not_before) = clock.not_before.filter(|not_before| ahead(*not_before) > 0) {
        findings.push(Finding::problem(
            NAME,
            format!("it is {now}, and the certificate is not valid before {not_before}: peers may refuse it"),
            format!("{SET_IT}; if it is right already, wait until then or get another certificate"),
        ));
    }
    match &clock.behind {
        Some(Ok(behind)) if behind.abs() > OFF_WARNING_MS => {
            let side = if *behind > 0 { "behind" } else { "ahead of" };
            findings.push(by_size(
                *behind,
                format!("it is {} {side} {server}", span(*behind)),
                SET_IT.to_owned(),
            ));
        }
        Some(Err(why)) => findings.push(Finding::warning(
            NAME,
            format!("the time server {server} gives no time: {why}"),
            "name one that answers: --time-server HOST, or HOST:PORT; a firewall must let UDP port 123 out",
        )),
        Some(Ok(_)) | None => {}
    }
    or_ok(findings, NAME, || match &clock.behind {
        Some(Ok(behind)) => format!("{now}, {behind} ms from {server}"),
        _ => format!("{now}; --time-server HOST compares it with another"),
    })
}

fn by_size(off_ms: i64, seen: String, fix: String) -> Finding {
    if off_ms.abs() > OFF_PROBLEM_MS {
        Finding::problem(NAME, seen, fix)
    } else {
        Finding::warning(NAME, seen, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_unix_ms(seconds * 1_000))
    }

    fn check(clock: Clock, expect: &[(Status, &str)]) {
        let found = judge(&clock, "time.example", Timestamp::from_unix_ms(1_000_000_000));
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, (status, word)) in found.iter().zip(expect) {
            assert_eq!(found.status, *status, "{found:?}");
            assert!(found.seen.contains(word), "{word} is not in {found:?}");
        }
    }

    #[test]
    fn judges_by_entries_certificate_and_time_server() {
        check(Clock::default(), &[(Status::Ok, "1970-01-12")]);
        check(Clock { newest: at(1_000_003), ..Clock::default() }, &[(Status::Ok, "")]);
        check(Clock { newest: at(1_000_030), ..Clock::default() }, &[(Status::Warning, "30 seconds later")]);
        check(Clock { newest: at(1_086_400), ..Clock::default() }, &[(Status::Problem, "24 hours later")]);
        check(
            Clock { not_before: at(1_000_001), ..Clock::default() },
            &[(Status::Problem, "not valid before")],
        );
        let behind = |ms| Clock { behind: Some(Ok(ms)), ..Clock::default() };
        check(behind(-4_000), &[(Status::Ok, "-4000 ms from time.example")]);
        check(behind(6_000), &[(Status::Warning, "6 seconds behind time.example")]);
        check(behind(-600_000), &[(Status::Problem, "10 minutes ahead of time.example")]);
        let none = Clock { behind: Some(Err("timed out".to_owned())), ..Clock::default() };
        check(none, &[(Status::Warning, "timed out")]);
    }

    #[test]
    fn a_time_server_has_a_port_or_the_usual_one() {
        for (text, expect) in [
            ("127.0.0.1", "127.0.0.1:123"),
            ("127.0.0.1:4000", "127.0.0.1:4000"),
            ("::1", "[::1]:123"),
            ("[::1]:99", "[::1]:99"),
        ] {
            assert_eq!(resolve(text).map(|found| found.to_string()), Ok(expect.to_owned()), "{text}");
        }
    }
}
