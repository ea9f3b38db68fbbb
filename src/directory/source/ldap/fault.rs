//! What servers and their certificates complain of, in words that help.

use crate::config::{LdapFlavour, LdapSecurity, LdapSource as Settings};
use crate::directory::source::SourceError;
use crate::mail::Untrusted;
use crate::net::tls::TlsError;
use crate::net::tls_client::TlsRefused;
use ldap3::{LdapError, LdapResult};
use std::path::Path;
use std::time::Duration;

/// Characters of a server's text that are repeated.
const SAID_CHARS_MAX: usize = 400;

/// What was asked when the server answered with a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    /// Logging in.
    Bind,
    /// A page of a search.
    Search {
        /// Where.
        base: &'a str,
        /// For what.
        filter: &'a str,
    },
    /// The entry of a group that the configuration names.
    Group(&'a str),
    /// The entry of somebody in such a group, who may be gone.
    Member,
}

impl Asked<'_> {
    /// For messages.
    pub(super) fn doing(self) -> &'static str {
        match self {
            Asked::Bind => "logging in",
            Asked::Search { .. } => "searching",
            Asked::Group(_) => "reading a group",
            Asked::Member => "reading a member of a group",
        }
    }
}

fn refused(said: impl Into<String>, advice: impl Into<String>) -> SourceError {
    SourceError::Refused { said: said.into(), advice: advice.into() }
}

/// It took too long.
pub(super) fn slow(doing: &str, wait: Duration) -> SourceError {
    SourceError::Unreachable(format!("{doing}: no answer within {} s", wait.as_secs()))
}

/// The password must not go over a network in clear.
pub(super) fn in_clear(host: &str) -> SourceError {
    refused(
        format!("{host} is not this machine, and security = \"none\" would send the password in clear"),
        "Set security to \"ldaps\" or \"starttls\".",
    )
}

/// The file of authorities is not usable.
pub(super) fn authorities(file: &Path, error: &TlsError) -> SourceError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    refused(
        format!("cannot {error}{cause}"),
        format!("ca_file must be a PEM file with the authorities to trust: {}.", file.display()),
    )
}

/// TLS failed.
pub(super) fn tls(settings: &Settings, error: &TlsRefused) -> SourceError {
    let said = format!("{}:{}: {error}", settings.host, settings.port);
    let authority = "have its authority's certificate exported as a PEM file (of Active Directory Certificate Services: \
                     certutil -ca.cert ca.cer, then openssl x509 -inform der -in ca.cer) and name that in ca_file";
    match error {
        TlsRefused::Handshake(_) if settings.security == LdapSecurity::Ldaps => {
            SourceError::Unreachable(format!(
                "{said}; port {} may not speak LDAPS: 636 usually does, 389 needs security = \"starttls\"",
                settings.port
            ))
        }
        TlsRefused::Handshake(_) => SourceError::Unreachable(said),
        TlsRefused::Name => refused(said, "Set host to the server's name, or to its IP address."),
        TlsRefused::Certificate { unknown_issuer: true, .. } if settings.ca_file.is_none() => {
            refused(said, format!("If this is the right server, {authority}."))
        }
        TlsRefused::Certificate { unknown_issuer: true, .. } => refused(
            said,
            format!("ca_file holds other authorities. If this is the right server, {authority}."),
        ),
        TlsRefused::Certificate { .. } => refused(
            said,
            "Set host to a name that the certificate is for, or renew the certificate of the directory server.",
        ),
    }
}

/// The server does not begin TLS.
pub(super) fn no_starttls(code: u32, text: &str) -> SourceError {
    refused(
        format!("StartTLS: {}", said(code, text)),
        "The server has no certificate or offers StartTLS not here: try security = \"ldaps\".",
    )
}

/// The decoder gave up, for no reason that the connection knows.
pub(super) fn decoder(error: &LdapError, asked: Asked<'_>) -> SourceError {
    match (error, asked) {
        (LdapError::FilterParsing, Asked::Search { filter, .. }) => refused(
            format!("the filter {} cannot be read", Untrusted(filter)),
            "Set filter to one as in RFC 4515, e.g. (&(objectClass=user)(mail=*)), or leave it out.",
        ),
        _ => SourceError::Unreachable(format!("{}: {error}", asked.doing())),
    }
}

/// A configured group is not there, or not for this account to see.
pub(super) fn no_group(group: &str) -> SourceError {
    refused(
        format!("there is no group {}", Untrusted(group)),
        "Check its distinguished name in groups, and that the account may read it.",
    )
}

/// What is configured as a group is something else.
pub(super) fn not_a_group(group: &str) -> SourceError {
    refused(
        format!("{} is no group", Untrusted(group)),
        "groups takes distinguished names of groups: of groupOfNames or groupOfUniqueNames, or of Active Directory.",
    )
}

/// The server answered with a result code (RFC 4511 §4.1.9 and appendix A) that is no success.
pub(super) fn result(result: &LdapResult, settings: &Settings, asked: Asked<'_>) -> SourceError {
    let said = said(result.rc, &result.text);
    match (result.rc, asked) {
        (49, _) => refused(said, login_advice(&result.text, settings)),
        (8 | 13, _) if settings.security == LdapSecurity::None => refused(
            said,
            "The server takes passwords over TLS only: set security to \"ldaps\" or \"starttls\".",
        ),
        (8 | 13, _) => refused(
            said,
            "The server wants a stronger way to log in than name and password over TLS: allow this account a simple bind.",
        ),
        (7 | 48, _) => {
            refused(said, "The server takes no simple bind of this account: allow it, or name another one.")
        }
        (50, _) => {
            refused(said, "The account may not read this: give it the right to read the users and groups.")
        }
        (1, Asked::Search { .. } | Asked::Group(_)) if result.text.contains("bind") => {
            refused(said, "The server does not let this account read: check bind_dn and its rights.")
        }
        (32, Asked::Group(group)) => no_group(group),
        (34, Asked::Group(group)) => {
            refused(said, format!("{} is no distinguished name: check groups.", Untrusted(group)))
        }
        (32 | 34, Asked::Search { base, .. }) => refused(
            said,
            format!(
                "There is nothing at {}: check base, e.g. DC=corp,DC=example, and that the account may read it.",
                Untrusted(base)
            ),
        ),
        (34, Asked::Bind) => {
            refused(said, "bind_dn must be a distinguished name, or user@domain with Active Directory.")
        }
        (18 | 21 | 87, _) => {
            refused(said, "The server does not take the filter: check filter, or leave it out.")
        }
        (10, Asked::Search { base, .. }) => refused(
            format!("{said}{}", referrals(result)),
            format!(
                "{} is another server's part of the tree: set host or base accordingly.",
                Untrusted(base)
            ),
        ),
        (10, _) => refused(
            format!("{said}{}", referrals(result)),
            "This is another server's part of the tree: set host accordingly.",
        ),
        (3 | 4 | 11, _) => SourceError::Incomplete(format!(
            "{said}: the server does not give this account everything; raise its limits, or lower page_entries (now {})",
            settings.page_entries
        )),
        (12, _) => SourceError::Incomplete(format!("{said}: the server gives no pages (RFC 2696)")),
        (51 | 52 | 80, _) => SourceError::Unreachable(format!("{}: {said}", asked.doing())),
        _ => SourceError::Incomplete(format!("{}: {said}", asked.doing())),
    }
}

fn referrals(result: &LdapResult) -> String {
    result.refs.first().map(|url| format!(" (to {})", Untrusted(url))).unwrap_or_default()
}

/// The code with its name, and the server's own words.
fn said(code: u32, text: &str) -> String {
    let name = match code {
        1 => "operations error",
        2 => "protocol error",
        3 => "time limit exceeded",
        4 => "size limit exceeded",
        7 => "authentication method not supported",
        8 => "stronger authentication required",
        10 => "referral",
        11 => "administrative limit exceeded",
        12 => "unavailable critical extension",
        13 => "confidentiality required",
        18 => "inappropriate matching",
        21 => "invalid attribute syntax",
        32 => "no such object",
        34 => "invalid DN syntax",
        48 => "inappropriate authentication",
        49 => "invalid credentials",
        50 => "insufficient access rights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwilling to perform",
        80 => "other",
        _ => "unexpected",
    };
    let text: String = text.trim_matches(['\0', '\r', '\n', ' ']).chars().take(SAID_CHARS_MAX).collect();
    if text.is_empty() {
        format!("{name} ({code})")
    } else {
        format!("{name} ({code}): {}", Untrusted(&text))
    }
}

/// Active Directory says in the text why it did not let somebody in: `…, data 52e, v4563`.
fn login_advice(text: &str, settings: &Settings) -> String {
    let code = text.split("data ").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    let known = match code.unwrap_or_default() {
        "525" => "There is no such account: check bind_dn.",
        "52e" => "The password is wrong: check it, and that bind_dn names the account that it is for.",
        "530" => "The account may not log in at this time: change its logon hours.",
        "531" => "The account may not log in from this machine: change its list of workstations.",
        "532" => "The account's password has expired: set a new one, better one that never does.",
        "533" => "The account is disabled: enable it, or name another one.",
        "701" => "The account has expired: extend it.",
        "773" => "The account must change its password first: set one without that demand.",
        "775" => {
            "The account is locked after too many wrong passwords: unlock it and check the password here first."
        }
        _ => "",
    };
    match (known, settings.flavour) {
        ("", LdapFlavour::ActiveDirectory) => {
            "Check bind_dn (a distinguished name, or user@domain) and the password.".to_owned()
        }
        ("", LdapFlavour::Rfc2798) => "Check bind_dn (a distinguished name) and the password.".to_owned(),
        (known, _) => known.to_owned(),
    }
}
