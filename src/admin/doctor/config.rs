//! `config`: it is found, read, has no faults, and nobody else may write to it.

use super::{Finding, Subject, finding::or_ok, quoted};
use crate::config::ConfigErrors;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) const NAME: &str = "config";
/// Whoever may write to the configuration decides where mail and keys go.
const OTHERS_WRITE: u32 = 0o002;

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mode = std::fs::metadata(&subject.config_file).map(|metadata| metadata.permissions().mode()).ok();
    judge(&subject.config_file, mode, &subject.notices)
}

fn judge(file: &Path, mode: Option<u32>, notices: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if mode.is_some_and(|mode| mode & OTHERS_WRITE != 0) {
        findings.push(Finding::problem(
            NAME,
            format!("{} can be changed by everyone on this machine", file.display()),
            format!("run `chmod o-w {}`", quoted(file)),
        ));
    }
    for notice in notices {
        let fix = format!("decide whether you want it so; if not, edit {}", file.display());
        findings.push(Finding::warning(NAME, notice, fix));
    }
    or_ok(findings, NAME, || file.display().to_string())
}

/// The faults of a configuration that cannot be used, each with its line.
pub(super) fn faults(file: &Path, errors: &ConfigErrors) -> Vec<Finding> {
    let one = |error: &crate::config::ConfigError| match error.line {
        Some(line) => Finding::problem(
            NAME,
            format!("{}:{line}: {}", file.display(), error.message),
            format!("edit line {line} of {}; until then the server does not start", file.display()),
        ),
        None => Finding::problem(
            NAME,
            format!("{}: {}", file.display(), error.message),
            format!(
                "mend {}, or let this user read it; `daybook --config {} config check` says when it is right",
                file.display(),
                quoted(file)
            ),
        ),
    };
    errors.errors().iter().map(one).collect()
}

/// It is there, or may be, and this user may not look.
pub(super) fn hidden(file: &Path) -> Finding {
    Finding::problem(
        NAME,
        format!("{} may not be looked at by this user", file.display()),
        "run this with sudo",
    )
}

/// There is none.
pub(super) fn missing(why: &str) -> Finding {
    let fix = "name it with --config FILE, or write /etc/daybook/daybook.toml: hostname, domains and data_dir are \
               enough to begin with";
    Finding::problem(NAME, why, fix)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_configuration_that_everyone_may_write_to_is_a_problem_and_a_notice_a_warning() {
        let file = Path::new("/etc/daybook/daybook.toml");
        let statuses = |mode, notices: &[String]| -> Vec<Status> {
            judge(file, Some(mode), notices).iter().map(|finding| finding.status).collect()
        };
        assert_eq!(statuses(0o100_644, &[]), [Status::Ok]);
        assert_eq!(statuses(0o100_666, &[]), [Status::Problem]);
        assert_eq!(
            statuses(0o100_640, &["[alerts] mail goes to relay.example:25 in clear".to_owned()]),
            [Status::Warning]
        );
    }

    #[test]
    fn faults_are_named_by_line() {
        let errors = crate::config::parse("hostnme = 'a.example'", Path::new("/")).unwrap_err();
        let findings = faults(Path::new("/etc/d.toml"), &errors);
        assert!(findings.iter().all(|finding| finding.status == Status::Problem));
        let typo = findings.iter().find(|finding| finding.seen.contains("hostnme")).unwrap();
        assert!(typo.seen.starts_with("/etc/d.toml:1: ") && typo.seen.contains("did you mean \"hostname\""));
        assert!(typo.fix.as_deref().unwrap().starts_with("edit line 1 of /etc/d.toml"));
    }
}
