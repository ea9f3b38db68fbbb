//! `daybook doctor`: named checks of everything around the gateway that can be wrong, each with what was seen and how to mend it.
//!
//! ```text
//! config ─ server ─ ports ─ certificate ─ dns ─ disk ─ checkpoint-dir ─ scrub ─ retention ─ file-rights ─ clock ─ directory ─ credential      here, with or without a server
//! gateway-mailbox ─ last-report ─ last-fetch                                                asked of the server, else of the store
//! self-delivery ─ pop3-login ─ imap-login                                                   through the running server's own doors
//! ```
//! Each file is one group: it looks (files, sockets, the server's answer) and then judges what it saw. Judging is pure, takes
//! values and the time, and is what the unit tests are about.
//!
//! Invariants:
//! - A check gives at least one [`Finding`] under its name; one for each fault when there are several.
//! - Whatever is not [`Status::Ok`] or [`Status::Skipped`] says how to mend it. A command in such a text stands between
//!   backquotes and can be pasted as it is.
//! - Nothing of the operator's is changed: what is written (a test file, the gateway mailbox for self-tests and the report in it)
//!   is Daybook's own, and the report is gone again at the end.
//! - Every wait has an end; a check that cannot look is skipped or a warning, never a problem.
//!
//! The gateway mailbox for self-tests is made on the first run. Its password lies in `data_dir/self-test.json`, owner-only: it
//! opens nothing but test reports. Lost, it is made anew and the old gateway mailbox deleted. The receipt of each test report stays,
//! as every receipt does.

mod certificate;
mod checkpoint_dir;
mod clock;
mod config;
mod credential;
mod delivery;
mod directory;
mod disk;
mod dns;
mod fetching;
mod file_rights;
mod finding;
mod mailboxes;
mod occupant;
mod ports;
mod pulling;
mod reader;
mod retention;
mod scrub;
mod server;
mod test_report;

pub use finding::{Finding, Status};

use super::Examined;
use crate::config::{ConfigErrors, Settings};
use crate::observe::now;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Every check, in the order they are made.
pub const CHECKS: [&str; 20] = [
    config::NAME,
    server::NAME,
    ports::NAME,
    certificate::NAME,
    dns::NAME,
    disk::NAME,
    checkpoint_dir::NAME,
    scrub::NAME,
    retention::NAME,
    file_rights::NAME,
    clock::NAME,
    directory::NAME,
    credential::NAME,
    pulling::NAME,
    mailboxes::NAME,
    mailboxes::LAST_REPORT,
    mailboxes::LAST_FETCH,
    delivery::NAME,
    fetching::POP3,
    fetching::IMAP,
];

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only checks of these names; all when empty.
    pub only: Vec<String>,
    /// Ask nobody outside this machine.
    pub offline: bool,
    /// Make no gateway mailbox for self-tests and send nothing to it.
    pub no_delivery: bool,
    /// Ask this name server instead of those of the system.
    pub nameserver: Option<SocketAddr>,
    /// Compare the clock with this host's, by SNTP: a name or address, with or without a port.
    pub time_server: Option<String>,
}

impl Scope {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }

    /// Whether a check is in scope that has nothing to look at without the store. Opening it takes off torn ends and puts
    /// orphans aside: not for a look at something else.
    pub fn needs_store(&self) -> bool {
        [mailboxes::NAME, mailboxes::LAST_REPORT, mailboxes::LAST_FETCH].iter().any(|name| self.wants(name))
    }
}

/// Who could be asked about what is stored.
#[derive(Clone, Debug)]
pub enum View {
    /// A server runs, and this is what it says.
    Server(Examined),
    /// None runs; this is what the store says, opened here for a moment.
    Store(Examined),
    /// None runs, and the store cannot be asked; says why.
    Closed(String),
    /// None runs, and the store was left closed: opening it mends it, and no check in scope needs that.
    Unopened,
    /// `data_dir` is another user's, and neither it nor a server that may run on it says anything to us.
    Foreign,
    /// One runs, and could not be asked; says why.
    Silent(String),
}

impl View {
    /// What was said, by whomever.
    fn examined(&self) -> Option<&Examined> {
        match self {
            View::Server(examined) | View::Store(examined) => Some(examined),
            View::Closed(_) | View::Unopened | View::Foreign | View::Silent(_) => None,
        }
    }

    /// True when one runs, or may.
    fn server_runs(&self) -> bool {
        matches!(self, View::Server(_) | View::Foreign | View::Silent(_))
    }

    /// Why nothing is known of what is stored.
    fn why_unknown(&self) -> String {
        match self {
            View::Server(_) | View::Store(_) => String::new(),
            View::Closed(why) => format!("no server runs, and the store says nothing: {why}"),
            View::Unopened => "no server runs, and the store was not opened".to_owned(),
            View::Foreign => "data_dir and its server belong to another user".to_owned(),
            View::Silent(_) => "the server does not answer".to_owned(),
        }
    }
}

/// What is examined.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The configuration.
    pub config_file: PathBuf,
    /// It was named on the command line, so that commands in texts must name it too.
    pub config_named: bool,
    /// What it says.
    pub settings: Settings,
    /// What an operator should know about it although it is right.
    pub notices: Vec<String>,
    /// Free space below which no mail is taken, in octets.
    pub reserve_octets: u64,
    /// Who could be asked.
    pub view: View,
}

impl Subject {
    /// A command line of ours, to be pasted.
    fn command(&self, arguments: &str) -> String {
        if self.config_named {
            format!("daybook --config {} {arguments}", quoted(&self.config_file))
        } else {
            format!("daybook {arguments}")
        }
    }
}

/// Makes the checks in scope. Blocks, for seconds when something outside does not answer.
pub fn examine(subject: &Subject, scope: &Scope) -> Vec<Finding> {
    let at = now();
    let pair = certificate::Pair::read(&subject.settings);
    let mut findings = Vec::new();
    let mut add = |name: &str, look: &mut dyn FnMut() -> Vec<Finding>| {
        if scope.wants(name) {
            findings.extend(look());
        }
    };
    add(config::NAME, &mut || config::check(subject));
    add(server::NAME, &mut || server::check(subject));
    add(ports::NAME, &mut || ports::check(subject));
    add(certificate::NAME, &mut || certificate::check(subject, &pair, at));
    add(dns::NAME, &mut || dns::check(subject, scope));
    add(disk::NAME, &mut || disk::check(subject, at));
    add(checkpoint_dir::NAME, &mut || checkpoint_dir::check(subject));
    add(scrub::NAME, &mut || scrub::check(subject, at));
    add(retention::NAME, &mut || retention::check(subject, at));
    add(file_rights::NAME, &mut || file_rights::check(subject));
    add(clock::NAME, &mut || clock::check(Some((subject, &pair)), scope, at));
    add(directory::NAME, &mut || directory::check(subject, at));
    add(credential::NAME, &mut || credential::check(subject, scope, at));
    add(pulling::NAME, &mut || pulling::check(subject));
    add(mailboxes::NAME, &mut || mailboxes::check(subject));
    add(mailboxes::LAST_REPORT, &mut || mailboxes::last_report(subject, at));
    add(mailboxes::LAST_FETCH, &mut || mailboxes::last_fetch(subject, at));
    if [delivery::NAME, fetching::POP3, fetching::IMAP].iter().any(|name| scope.wants(name)) {
        let tried = delivery::check(subject, scope, &pair);
        findings.extend(tried.into_iter().filter(|finding| scope.wants(finding.name)));
    }
    findings
}

/// What is left to check when the configuration cannot be used: the clock, and nothing else.
pub fn examine_without_settings(file: &Path, errors: &ConfigErrors, scope: &Scope) -> Vec<Finding> {
    examine_little(config::faults(file, errors), scope)
}

/// The same when this user may not read it.
pub fn examine_without_sight(file: &Path, scope: &Scope) -> Vec<Finding> {
    examine_little(vec![config::hidden(file)], scope)
}

/// The same when there is no configuration at all; `why` says where it was looked for.
pub fn examine_without_file(why: &str, scope: &Scope) -> Vec<Finding> {
    examine_little(vec![config::missing(why)], scope)
}

fn examine_little(configuration: Vec<Finding>, scope: &Scope) -> Vec<Finding> {
    // Always shown: whoever asked for one check only learns why it is skipped.
    let mut findings = configuration;
    for name in CHECKS.into_iter().filter(|name| *name != config::NAME && scope.wants(name)) {
        if name == clock::NAME && scope.time_server.is_some() {
            findings.extend(clock::check(None, scope, now()));
        } else {
            findings.push(Finding::skipped(name, "needs a configuration without faults"));
        }
    }
    findings
}

/// A path as the shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// A span in its largest unit: `90 seconds`, `5 hours`, `12 days`.
fn span(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1_000;
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Octets in a unit people read.
fn size(octets: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| octets >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", octets / unit, octets % unit * 10 / unit),
        None => format!("{octets} octets"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a site that never ran.
    pub(super) fn subject(data_dir: &Path) -> Subject {
        Subject {
            config_file: data_dir.join("daybook.toml"),
            config_named: false,
            settings: Settings::with_defaults("gw.example", &["gw.example"], data_dir),
            notices: Vec::new(),
            reserve_octets: 0,
            view: View::Unopened,
        }
    }

    #[test]
    fn the_store_is_opened_only_for_checks_that_look_into_it() {
        let scope = |only: &[&str]| Scope {
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            ..Scope::default()
        };
        assert!(scope(&[]).needs_store());
        assert!(scope(&["clock", "last-fetch"]).needs_store());
        assert!(!scope(&["clock", "server", "disk", "self-delivery"]).needs_store());
    }

    #[test]
    fn paths_are_quoted_when_the_shell_would_read_them_otherwise() {
        for (path, expect) in [
            ("/var/lib/daybook", "/var/lib/daybook"),
            ("/a b", "'/a b'"),
            ("/it's", "'/it'\\''s'"),
            ("/$(reboot)", "'/$(reboot)'"),
        ] {
            assert_eq!(quoted(Path::new(path)), expect);
        }
    }

    #[test]
    fn spans_and_sizes_read_well() {
        let spans = [
            (1_000, "1 second"),
            (-90_000, "90 seconds"),
            (3_600_000, "60 minutes"),
            (172_800_000, "2 days"),
        ];
        for (ms, expect) in spans {
            assert_eq!(span(ms), expect);
        }
        for (octets, expect) in [(12, "12 octets"), (1_536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(size(octets), expect);
        }
    }
}
