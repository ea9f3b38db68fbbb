//! Where a secret is kept: never in the configuration itself, whose text is shown, copied and checked in.

use super::check::Reader;
use super::section::{At, Section};
use super::settings::{Toml, path, text};
use std::path::PathBuf;

/// Longest name of a variable or credential, in octets: what file systems allow.
const NAME_OCTETS_MAX: usize = 255;

/// Where a secret is kept. It is read each time it is needed, so it may change at any time. Holds no secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `…_file`: a file that holds it and nothing else; its group and others must not be able to read it.
    File(PathBuf),
    /// `…_env`: name of an environment variable.
    Environment(String),
    /// `…_credential`: name of a systemd credential (`LoadCredential=`), a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// The keys that say where one secret is kept, and those that somebody may write it down under.
pub(super) struct SecretKeys {
    pub(super) file: &'static str,
    pub(super) env: &'static str,
    pub(super) credential: &'static str,
    literal: &'static [&'static str],
}

/// Where a password is.
pub(super) const PASSWORD: SecretKeys = SecretKeys {
    file: "password_file",
    env: "password_env",
    credential: "password_credential",
    literal: &["password", "pass", "bind_password"],
};

/// Where the secret of an application is.
pub(super) const CLIENT_SECRET: SecretKeys = SecretKeys {
    file: "secret_file",
    env: "secret_env",
    credential: "secret_credential",
    literal: &["secret", "client_secret"],
};

impl SecretKeys {
    /// All of them, for people.
    pub(super) fn named(&self) -> String {
        format!("\"{}\", \"{}\" or \"{}\"", self.file, self.env, self.credential)
    }

    /// Those that the section has, in the order of preference.
    pub(super) fn given(&self, section: &Section<'_, '_>) -> Vec<&'static str> {
        let mut keys = vec![self.file, self.env, self.credential];
        keys.retain(|key| section.has(key));
        keys
    }
}

impl SecretSource {
    pub(super) fn to_toml(&self, keys: &SecretKeys, out: &mut Toml) {
        match self {
            SecretSource::File(file) => out.key(keys.file, path(file)),
            SecretSource::Environment(name) => out.key(keys.env, text(name)),
            SecretSource::Credential(name) => out.key(keys.credential, text(name)),
        }
    }
}

impl Reader<'_> {
    /// Where a secret is kept, if the section says so once. What is written is never repeated: it may be the secret.
    pub(super) fn secret(
        &mut self,
        section: &mut Section<'_, '_>,
        keys: &SecretKeys,
    ) -> Option<SecretSource> {
        let advice = "a secret does not stand in the configuration, which is shown and copied: give";
        for literal in keys.literal {
            section.hint(literal, format!("{advice} {}", keys.named()));
        }
        let file = section.string(keys.file, self.problems);
        let env = section.string(keys.env, self.problems);
        let credential = section.string(keys.credential, self.problems);
        if let [_, second, ..] = keys.given(section).as_slice() {
            let line = [&env, &credential].into_iter().flatten().map(|given| given.line).max();
            let line = line.or(section.line()).unwrap_or(1);
            section.bad_value(
                second,
                line,
                &format!("only one of {} may be given", keys.named()),
                self.problems,
            );
            return None;
        }
        if let Some(file) = file {
            return self.path(section, keys.file, file).map(SecretSource::File);
        }
        if let Some(name) = env {
            let is_name = |text: &str| {
                !text.starts_with(|c: char| c.is_ascii_digit())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            };
            let why = "must be the name of an environment variable: letters, digits and _";
            return self.secret_name(section, keys.env, name, is_name, why).map(SecretSource::Environment);
        }
        let is_name = |text: &str| {
            !text.starts_with('.')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let why = "must be the name of a systemd credential: letters, digits, \".\", \"_\" and \"-\"";
        self.secret_name(section, keys.credential, credential?, is_name, why).map(SecretSource::Credential)
    }

    fn secret_name(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        given: At<String>,
        is_name: impl Fn(&str) -> bool,
        why: &str,
    ) -> Option<String> {
        let good = (1..=NAME_OCTETS_MAX).contains(&given.value.len()) && is_name(&given.value);
        if !good {
            section.bad_value(key, given.line, why, self.problems);
        }
        good.then_some(given.value)
    }

    /// A secret that must be there; `what` it is for.
    pub(super) fn required_secret(
        &mut self,
        section: &mut Section<'_, '_>,
        keys: &SecretKeys,
        what: &str,
    ) -> Option<SecretSource> {
        if keys.given(section).is_empty() {
            let what = format!("{what}; or \"{}\", or \"{}\"", keys.env, keys.credential);
            section.missing(keys.file, &what, self.problems);
        }
        self.secret(section, keys)
    }
}
