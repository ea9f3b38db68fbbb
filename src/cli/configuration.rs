//! Finding, checking and showing the configuration.

use super::output::{self, Failure, safe};
use crate::config::{self, ConfigErrors, Settings};
use std::path::{Path, PathBuf};

/// Where the configuration is looked for when the command line names none.
const PLACES: [&str; 2] = ["daybook.toml", "/etc/daybook/daybook.toml"];

pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let found = PLACES.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::usage(format!(
            "there is no configuration at {}; name one with --config FILE",
            PLACES.join(" or ")
        ))
    })
}

/// The settings in force.
///
/// # Errors
/// Code 2, with every fault of the file.
pub(super) fn load(named: Option<&Path>) -> Result<Settings, Failure> {
    config::load(&find(named)?).map_err(|errors| Failure::usage(errors.to_string()))
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
    let path = find(named)?;
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
