//! `daybook doctor`: finds who can be asked, has everything examined, and shows it.

use super::args::DoctorArguments;
use super::configuration::{self, Unfound};
use super::output::{self, Failure, counted, safe};
use super::reach;
use super::start::store_options;
use crate::admin::doctor::{self, CHECKS, Finding, Scope, Status, Subject, View};
use crate::admin::{self, AskError, OpError, Request, Response};
use crate::config::{self, Settings};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

/// What the socket says to those it does not serve.
const FOREIGN: &str = "the server belongs to another user";

/// Exit code 0 when there is no problem, warnings or not; else 1, also when the configuration is the problem.
pub(super) fn run(named: Option<&Path>, arguments: DoctorArguments, json: bool) -> Result<u8, Failure> {
    let scope = Scope {
        only: arguments.check,
        offline: arguments.offline,
        no_delivery: arguments.no_delivery,
        nameserver: arguments.nameserver,
        time_server: arguments.time_server,
    };
    let findings = examine(named, &scope);
    let is_good = !findings.iter().any(|finding| finding.status == Status::Problem);
    if json {
        let value = serde_json::json!({ "ok": is_good, "checks": findings });
        output::print_json(&value)?;
    } else {
        output::print(&show(&findings, io::stdout().is_terminal()))?;
    }
    Ok(u8::from(!is_good))
}

fn examine(named: Option<&Path>, scope: &Scope) -> Vec<Finding> {
    let file = match configuration::find(named) {
        Ok(file) => file,
        Err(Unfound::Hidden(file)) => return doctor::examine_without_sight(&file, scope),
        Err(nowhere @ Unfound::Nowhere) => return doctor::examine_without_file(&nowhere.why(), scope),
    };
    // Texts name it, and may be pasted elsewhere.
    let file = std::path::absolute(&file).unwrap_or(file);
    if File::open(&file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return doctor::examine_without_sight(&file, scope);
    }
    let settings = match config::load(&file) {
        Ok(settings) => settings,
        Err(errors) => return doctor::examine_without_settings(&file, &errors, scope),
    };
    let subject = Subject {
        config_named: named.is_some(),
        notices: configuration::notices(&settings),
        reserve_octets: store_options(&settings).reserve_octets,
        view: view(&settings, scope),
        config_file: file,
        settings,
    };
    doctor::examine(&subject, scope)
}

/// The server's view if there is one, else the store's: that only when a check needs it, since opening the store mends it. What was
/// mended is logged.
fn view(settings: &Settings, scope: &Scope) -> View {
    match admin::ask(&settings.data_dir, &Request::Examine) {
        Ok(Response::Examined(examined)) => View::Server(*examined),
        Ok(_) => View::Silent("it gave another answer than asked for".to_owned()),
        Err(AskError::NobodyListens) if !scope.needs_store() => View::Unopened,
        Err(AskError::NobodyListens) => match reach::perform(settings, Request::Examine) {
            Ok(Response::Examined(examined)) if examined.readiness.is_some() => View::Server(*examined),
            Ok(Response::Examined(examined)) => View::Store(*examined),
            Ok(_) => View::Closed("it gave another answer than asked for".to_owned()),
            Err(failure) => View::Closed(failure.why().to_owned()),
        },
        Err(AskError::Failed(OpError::Unavailable(why))) if why == FOREIGN => View::Foreign,
        Err(AskError::Broken(error)) if error.kind() == io::ErrorKind::PermissionDenied => View::Foreign,
        Err(error) => View::Silent(error.to_string()),
    }
}

fn show(findings: &[Finding], colours: bool) -> String {
    let width = CHECKS.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let status = coloured(finding.status, colours);
        // Nine for the status, two between; what has several lines goes on under its first.
        let seen = lines(&finding.seen, 9 + width + 2);
        text.push_str(&format!("{status}  {:<width$}  {seen}\n", finding.name));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("         fix: {}\n", lines(fix, 14)));
        }
    }
    text.push_str(&summary(findings));
    text
}

/// Text from elsewhere, whole, its further lines indented.
fn lines(text: &str, indent: usize) -> String {
    // One by one: as a whole a long text would be cut short, and a command in it with it.
    let line = |line: &str| line.chars().map(|c| safe(c.encode_utf8(&mut [0; 4]))).collect::<String>();
    text.lines().map(line).collect::<Vec<_>>().join(&format!("\n{:indent$}", ""))
}

/// Seven wide, since that is the longest.
fn coloured(status: Status, colours: bool) -> String {
    let padded = format!("{:<7}", status.as_str());
    let code = match status {
        Status::Ok => 32,
        Status::Skipped => 2,
        Status::Warning => 33,
        Status::Problem => 31,
    };
    if colours { format!("\u{1b}[{code}m{padded}\u{1b}[0m") } else { padded }
}

fn summary(findings: &[Finding]) -> String {
    let count = |status: Status| findings.iter().filter(|finding| finding.status == status).count() as u64;
    let problems = count(Status::Problem);
    let verdict = if problems == 0 { "no problem" } else { &counted(problems, "problem") };
    format!(
        "\n{verdict}, {}, {} ok, {} skipped\n",
        counted(count(Status::Warning), "warning"),
        count(Status::Ok),
        count(Status::Skipped)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(status: Status, seen: &str, fix: Option<&str>) -> Finding {
        Finding { name: "disk", status, seen: seen.to_owned(), fix: fix.map(str::to_owned) }
    }

    #[test]
    fn shows_what_was_seen_and_how_to_mend_it_and_ends_with_a_count() {
        let found =
            [finding(Status::Ok, "room", None), finding(Status::Problem, "no\nroom", Some("make some"))];
        let text = show(&found, false);
        assert_eq!(
            text,
            "ok       disk             room\nproblem  disk             no\n                          room\n         fix: make some\n\n\
             1 problem, 0 warnings, 1 ok, 0 skipped\n"
        );
        assert!(show(&found, true).contains("\u{1b}[31mproblem\u{1b}[0m"));
    }
}
