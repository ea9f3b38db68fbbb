//! Finding, checking and showing the configuration.

use super::output::{self, Failure, safe};
use crate::config::{self, ConfigErrors, Settings};
use std::io;
use std::path::{Path, PathBuf};

/// Where the configuration is looked for when the command line names none.
const PLACES: [&str; 2] = ["daybook.toml", "/etc/daybook/daybook.toml"];

/// Why there is no configuration to load.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfound {
    /// It is nowhere.
    Nowhere,
    /// It is here, or may be: this user may not look.
    Hidden(PathBuf),
}

impl Unfound {
    /// As a sentence.
    pub(super) fn why(&self) -> String {
        match self {
            Unfound::Nowhere => {
                format!("there is no configuration at {}; name one with --config FILE", PLACES.join(" or "))
            }
            Unfound::Hidden(path) => {
                format!("{} may not be looked at by this user: run this with sudo", path.display())
            }
        }
    }
}

/// Where the configuration is.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, Unfound> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => choose(PLACES.map(Path::new), Path::try_exists),
    }
}

/// The first place where there is one, or where that cannot be told.
fn choose<'p>(
    places: impl IntoIterator<Item = &'p Path>,
    is_there: impl Fn(&Path) -> io::Result<bool>,
) -> Result<PathBuf, Unfound> {
    for path in places {
        match is_there(path) {
            Ok(true) => return Ok(path.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Unfound::Hidden(path.to_owned()));
            }
            // Loading it says what is wrong.
            Err(_) => return Ok(path.to_owned()),
            Ok(false) => {}
        }
    }
    Err(Unfound::Nowhere)
}

pub(super) fn found(named: Option<&Path>) -> Result<PathBuf, Failure> {
    find(named).map_err(|unfound| Failure::usage(unfound.why()))
}

/// The settings in force.
///
/// # Errors
/// Code 2, with every fault of the file.
pub(super) fn load(named: Option<&Path>) -> Result<Settings, Failure> {
    config::load(&found(named)?).map_err(|errors| Failure::usage(errors.to_string()))
}

/// What an operator should know about settings that are nevertheless right.
pub(super) fn notices(settings: &Settings) -> Vec<String> {
    let mut notices = settings.notices();
    if settings.directories.is_empty() {
        notices.push("no [[directory]] is configured: every message is kept under Unassigned".to_owned());
    }
    notices
}

/// `config check`
pub(super) fn check(named: Option<&Path>, json: bool) -> Result<u8, Failure> {
    let path = found(named)?;
    match config::load(&path) {
        Ok(settings) => {
            let mut notices = notices(&settings);
            // At a start the log says this by an event of its own.
            if settings.tls.is_none() {
                notices.push("no [tls] is configured: a self-signed certificate is used".to_owned());
            }
            if json {
                output::print_json(&serde_json::json!({ "ok": true, "notices": notices }))?;
            } else {
                let mut text = format!("{}: ok\n", safe(&path.display().to_string()));
                notices.iter().for_each(|notice| text.push_str(&format!("note: {}\n", safe(notice))));
                output::print(&text)?;
            }
            Ok(0)
        }
        Err(errors) if json => {
            output::print_json(&faults(&errors))?;
            Ok(2)
        }
        Err(errors) => Err(Failure::usage(errors.to_string())),
    }
}

fn faults(errors: &ConfigErrors) -> serde_json::Value {
    let list: Vec<serde_json::Value> = errors
        .errors()
        .iter()
        .map(|error| serde_json::json!({ "line": error.line, "message": error.message }))
        .collect();
    serde_json::json!({ "ok": false, "file": errors.file().display().to_string(), "errors": list })
}

/// `config show`
pub(super) fn show(named: Option<&Path>, json: bool) -> Result<u8, Failure> {
    let text = load(named)?.to_toml();
    if json {
        let value: toml::Value = toml::from_str(&text).map_err(|error| Failure::from(error.to_string()))?;
        output::print_json(&serde_json::to_value(value).map_err(|error| Failure::from(error.to_string()))?)?;
    } else {
        output::print(&text)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_may_not_be_looked_at_is_not_taken_for_an_empty_one() {
        let places = || ["one", "two"].map(Path::new);
        let denied = |_: &Path| Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(choose(places(), |path| Ok(path == Path::new("two"))), Ok("two".into()));
        assert_eq!(choose(places(), |_| Ok(false)), Err(Unfound::Nowhere));
        let second_is_shut = |path: &Path| if path == Path::new("two") { denied(path) } else { Ok(false) };
        assert_eq!(choose(places(), second_is_shut), Err(Unfound::Hidden("two".into())));
        assert!(Unfound::Hidden("/etc/d.toml".into()).why().contains("/etc/d.toml may not be looked at"));
    }
}
