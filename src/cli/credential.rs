//! `daybook credential`: making a key with a certificate, listing credentials, trying them out.

use super::output::{self, Failure, safe};
use crate::admin::credential::{self, Configured, CredentialView, TriedView};
use crate::admin::doctor::{Finding, Status};
use crate::config::Settings;
use crate::entra::credential::{Made, MakeError, create};
use crate::mail::Timestamp;
use crate::observe;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use std::path::Path;

/// Nobody answered.
const OUT_OF_REACH: u8 = 3;

pub(super) fn make(out: &Path, name: &str, days: u32, json: bool) -> Result<u8, Failure> {
    let made = create(out, name, days, observe::now()).map_err(|error| match error {
        MakeError::Arguments(_) | MakeError::Exists(_) => Failure::usage(error.to_string()),
        MakeError::Disk(..) | MakeError::Crypto(_) => Failure::from(error.to_string()),
    })?;
    if json {
        output::print_json(&json!({
            "certificate": made.certificate, "private_key": made.private_key, "ends": made.not_after,
            "sha1": made.thumbprints.sha1_hex(), "sha256": made.thumbprints.sha256_hex(),
            "x5t": BASE64_URL_SAFE_NO_PAD.encode(&made.thumbprints.sha1),
            "x5t_s256": BASE64_URL_SAFE_NO_PAD.encode(&made.thumbprints.sha256),
        }))?;
    } else {
        output::print(&steps(&made))?;
    }
    Ok(0)
}

/// What to do with it, step by step.
fn steps(made: &Made) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (certificate, key) = (absolute(&made.certificate), absolute(&made.private_key));
    let (shown, key_shown) = (safe(&certificate.display().to_string()), safe(&key.display().to_string()));
    let quoted = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
    let encode = |hash: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(hash);
    format!(
        "Made {shown} and {key_shown}.\n\
         The certificate ends at {}.\n\n\
         1. https://entra.microsoft.com > App registrations > the application (or New registration) > Certificates & secrets >\n   \
            Certificates > Upload certificate: {shown}\n   \
            The portal then shows the thumbprint {}\n\
         2. API permissions > Add a permission > Microsoft Graph > Application permissions: User.Read.All, and for groups\n   \
            GroupMember.Read.All; to fetch an NDR mailbox instead: Office 365 Exchange Online, IMAP.AccessAsApp.\n   \
            Then \"Grant admin consent\".\n\
         3. Let the server's user read the key, and nobody else:\n   \
            chown daybook {key_shown}\n\
         4. In the [[directory]] or [[puller]] section, instead of a secret:\n\n\
         certificate = {}\n\
         private_key = {}\n\n\
         5. daybook credential test\n\n\
         SHA-1    {}  x5t      {}\n\
         SHA-256  {}  x5t#S256 {}\n",
        output::time(made.not_after),
        made.thumbprints.sha1_hex(),
        quoted(&certificate),
        quoted(&key),
        made.thumbprints.sha1_hex(),
        encode(&made.thumbprints.sha1),
        made.thumbprints.sha256_hex(),
        encode(&made.thumbprints.sha256),
    )
}

pub(super) fn list(settings: &Settings, json: bool) -> Result<u8, Failure> {
    let (all, now) = (credential::list(settings), observe::now());
    if json {
        output::print_json(&json!(all))?;
    } else if all.is_empty() {
        output::print("No application in Entra ID is configured.\n")?;
    } else {
        let rows: Vec<_> = all.iter().map(|one| row(one, now)).collect();
        output::print(&output::table(&["NAME", "USED BY", "KIND", "APPLICATION", "ENDS"], &rows))?;
    }
    let is_bad = |one: &CredentialView| one.error.is_some() || one.ends.is_some_and(|ends| ends <= now);
    Ok(u8::from(all.iter().any(is_bad)))
}

fn row(one: &CredentialView, now: Timestamp) -> Vec<String> {
    let ends = match (&one.error, one.ends) {
        (Some(error), _) => safe(error),
        (None, Some(ends)) if ends <= now => format!("ENDED {}", output::time(ends)),
        (None, Some(ends)) => output::time(ends),
        (None, None) => "not known".to_owned(),
    };
    vec![safe(&one.name), one.used_by.to_owned(), one.kind.to_owned(), safe(&one.client_id), ends]
}

pub(super) fn test(settings: &Settings, name: Option<&str>, json: bool) -> Result<u8, Failure> {
    let mut all = credential::configured(settings);
    if all.is_empty() {
        return Err(Failure::usage("no application in Entra ID is configured".to_owned()));
    }
    if let Some(name) = name {
        let known: Vec<_> = all.iter().map(|one| one.name.clone()).collect();
        all.retain(|one: &Configured| one.name == name);
        if all.is_empty() {
            let why = format!(
                "no source of users or puller with a credential is called {}; there are {}",
                safe(name),
                known.join(", ")
            );
            return Err(Failure::usage(why));
        }
    }
    let tried: Vec<_> = all.iter().map(|one| credential::try_out(one, observe::now())).collect();
    if json {
        let is_good = tried.iter().all(TriedView::is_good);
        output::print_json(&json!({ "ok": is_good, "credentials": tried }))?;
    } else {
        output::print(&tried.iter().map(shown).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(code(&tried))
}

/// What is refused is a problem whatever else could not be asked.
fn code(tried: &[TriedView]) -> u8 {
    if tried.iter().all(TriedView::is_good) {
        0
    } else if tried.iter().all(|one| one.is_good() || one.unreachable) {
        OUT_OF_REACH
    } else {
        1
    }
}

fn shown(tried: &TriedView) -> String {
    let mut text = format!(
        "{} ({}): application {} in tenant {}\n",
        safe(&tried.name),
        tried.used_by,
        safe(&tried.client_id),
        safe(&tried.tenant)
    );
    for Finding { name, status, seen, fix } in &tried.steps {
        let status = match status {
            Status::Ok => "ok",
            Status::Skipped => "skipped",
            Status::Warning => "warning",
            Status::Problem => "problem",
        };
        text.push_str(&format!("  {status:<7}  {name:<11}  {}\n", whole(seen)));
        if let Some(fix) = fix {
            text.push_str(&format!("           fix: {}\n", whole(fix)));
        }
    }
    text
}

/// Text from elsewhere, however long.
fn whole(text: &str) -> String {
    text.chars().map(|c| safe(c.encode_utf8(&mut [0; 4]))).collect()
}
