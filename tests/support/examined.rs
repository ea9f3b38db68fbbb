//! What the tests of `daybook doctor` share: running it, finding a finding, doing what its text says, and the things that are
//! planted.
//!
//! Take it in with `#[path = "support/examined.rs"] mod examined;`, beside `mod support` and `mod delivery`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::delivery::delivery;
use crate::support::{Site, USERS};
use daybook::mail::*;
use daybook::store::*;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use time::OffsetDateTime;

/// Leaves nothing to the world outside.
pub(crate) const OFFLINE: &str = "--offline";

/// What a run of doctor found.
pub(crate) struct Found {
    pub(crate) code: i32,
    pub(crate) checks: Vec<Value>,
}

/// Whoever has the identity of this recipient can open what a password is lost of: without one there is a warning.
pub(crate) const ESCROW: &str =
    "[keys]\nescrow = [\"age1yq8ssp90v0hqg2eet3xjgjavte79j0kxerekxrc04y5d32eqfllqqw4l9a\"]\n";

pub(crate) fn doctor(site: &Site, arguments: &[&str]) -> Found {
    let outcome = site.run(&[&["doctor", "--json"], arguments].concat());
    let value: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", outcome.stdout, outcome.stderr));
    let checks = value["checks"].as_array().unwrap().clone();
    let has_problem = checks.iter().any(|check| check["status"] == "problem");
    assert_eq!(value["ok"], !has_problem);
    assert_eq!(outcome.code, i32::from(has_problem), "{checks:?}");
    for check in &checks {
        let wants_fix = check["status"] == "problem" || check["status"] == "warning";
        assert_eq!(check["fix"].is_string(), wants_fix, "{check}");
        assert!(!check["seen"].as_str().unwrap().is_empty(), "{check}");
    }
    Found { code: outcome.code, checks }
}

/// One check, offline.
pub(crate) fn check(site: &Site, name: &str) -> Found {
    doctor(site, &[OFFLINE, "--check", name])
}

impl Found {
    /// The finding of this check and status whose text holds `word`.
    pub(crate) fn one(&self, name: &str, status: &str, word: &str) -> &Value {
        let is_it = |check: &&Value| {
            check["name"] == name
                && check["status"] == status
                && check["seen"].as_str().unwrap().contains(word)
        };
        self.checks
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {status} {name} {word}: {:#?}", self.checks))
    }

    /// The text that says how to mend it.
    pub(crate) fn fix(&self, name: &str, status: &str, word: &str) -> String {
        self.one(name, status, word)["fix"].as_str().unwrap().to_owned()
    }

    /// Asserts that every finding of the check has this status.
    pub(crate) fn all(&self, name: &str, status: &str) {
        let named: Vec<&Value> = self.checks.iter().filter(|check| check["name"] == name).collect();
        assert!(!named.is_empty(), "no {name}: {:#?}", self.checks);
        assert!(named.iter().all(|check| check["status"] == status), "{named:#?}");
    }
}

/// What stands between backquotes and begins with `word`.
pub(crate) fn quoted<'t>(fix: &'t str, word: &str) -> &'t str {
    let parts = fix.split('`').skip(1).step_by(2);
    parts.into_iter().find(|part| part.starts_with(word)).unwrap_or_else(|| panic!("no `{word} …` in {fix}"))
}

/// Runs a command of a text as a person would paste it.
pub(crate) fn paste(site: &Site, fix: &str, word: &str) {
    let programs = Path::new(env!("CARGO_BIN_EXE_daybook")).parent().unwrap().to_str().unwrap().to_owned();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let line = quoted(fix, word);
    let output = Command::new("sh").args(["-c", line]).env("PATH", path).current_dir(site.path("")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn replace(site: &Site, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(site.path(file)).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    site.write(file, &text.replacen(from, to, 1));
}

pub(crate) fn json(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.run(&[arguments, &["--json"]].concat()).expect(0).stdout).unwrap()
}

pub(crate) fn create(site: &Site, name: &str) -> Value {
    json(site, &["mailbox", "create", "--name", name])
}

pub(crate) fn own(site: &Site) -> Vec<Value> {
    let all = json(site, &["mailbox", "list"]);
    all.as_array().unwrap().iter().filter(|mailbox| mailbox["name"] == "daybook self-test").cloned().collect()
}

/// Asserts that the gateway mailbox for self-tests holds nothing, in no folder but INBOX.
pub(crate) fn assert_nothing_is_left(site: &Site) {
    let own = own(site);
    assert_eq!(own.len(), 1, "{own:?}");
    let shown = json(site, &["mailbox", "show", own[0]["login"].as_str().unwrap()]);
    for folder in shown["folders"].as_array().unwrap() {
        assert_eq!((&folder["path"], &folder["entries"]), (&"INBOX".into(), &0.into()), "{shown}");
    }
}

/// A certificate valid for `days` from now, signed by an authority whose certificate follows it in the file.
pub(crate) struct Certificate {
    pub(crate) chain: String,
    pub(crate) key: String,
}

pub(crate) fn certificate(name: &str, days: i64) -> Certificate {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "a test authority");
    let authority_shown = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now - Duration::from_secs(90 * 86_400);
    parameters.not_after = now + time::Duration::days(days) + time::Duration::hours(1);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = parameters.signed_by(&key, &issuer).unwrap();
    Certificate { chain: format!("{}{authority_shown}", made.pem()), key: key.serialize_pem() }
}

impl Certificate {
    pub(crate) fn install(&self, site: &Site) {
        site.write("chain.pem", &self.chain);
        site.write("key.pem", &self.key);
        fs::set_permissions(site.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A site with a certificate as an authority gives them.
pub(crate) fn site_with(certificate: &Certificate) -> Site {
    let site = Site::with(
        &format!("[tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n{ESCROW}"),
        USERS,
    );
    certificate.install(&site);
    site
}

/// Stores a message as a server whose clock is a day fast would.
pub(crate) fn receive_tomorrow(site: &Site) {
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let (store, _) = Embedded::open(&options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let to = store.gateway_mailboxes().remove(0);
    let now = OffsetDateTime::now_utc().unix_timestamp() * 1_000;
    let at = Timestamp::from_unix_ms(now + 86_400_000);
    let body = b"Subject: from tomorrow\r\n\r\nwords\r\n";
    let delivery = delivery(&store, &to, at, [7; 10], body);
    runtime.block_on(store.deliver(vec![delivery])).unwrap();
    runtime.block_on(store.close());
}
