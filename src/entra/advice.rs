//! What to do about a refusal, in plain words. Pure.
//!
//! Microsoft's numbers are for people: nothing in the program goes by them but these sentences.

use super::refusal::Refusal;
use crate::config::{Assertion, Cloud};
use std::fmt::Write;

/// A clock that is off by so many seconds is named: a statement is good for 10 minutes.
const SKEW_SECONDS_TOLD: i64 = 120;

/// What is known here and helps to say what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The cloud that was asked.
    pub cloud: Cloud,
    /// The scope that was asked for.
    pub scope: String,
    /// How the application proved who it is.
    pub proof: Proof,
    /// Seconds by which our clock is ahead of theirs, where they told theirs.
    pub ahead_seconds: Option<i64>,
}

/// How an application proved who it is, without the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By a secret.
    Secret {
        /// It has the form of a GUID, as the id of a secret has.
        like_an_id: bool,
        /// There is white space in it.
        blank: bool,
    },
    /// By a certificate.
    Certificate {
        /// SHA-1 of its DER in hexadecimal capitals, as the portal shows it.
        sha1: String,
        /// SHA-256 of the same.
        sha256: String,
        /// How the statement is signed.
        assertion: Assertion,
    },
}

/// What to do about a refused token. Always says something.
pub fn on_token(refusal: &Refusal, around: &Circumstances) -> String {
    match refusal.code() {
        Some(code) => on_code(code, around).unwrap_or_else(|| unknown(code)),
        None if refusal.status == 429 || refusal.status >= 500 => TRY_LATER.to_owned(),
        None => "Read what Microsoft says; give the trace id and correlation id to its support.".to_owned(),
    }
}

/// Where Microsoft explains a number.
pub fn lookup(code: u32) -> String {
    format!("https://login.microsoftonline.com/error?code={code}")
}

fn unknown(code: u32) -> String {
    format!("Microsoft explains this number at {}.", lookup(code))
}

const TRY_LATER: &str = "Microsoft is busy or out of order; it is tried again by itself.";

/// What to do about an AADSTS number; `None` for one that is not known here.
pub fn on_code(code: u32, around: &Circumstances) -> Option<String> {
    let advice = match code {
        7_000_215 => wrong_secret(around),
        7_000_222 => "The secret has expired, and it cannot be renewed: make a new one under App registrations > \
                      Certificates & secrets, put its Value where the configuration reads the secret, and \
                      reload. A certificate lasts longer: daybook credential create."
            .to_owned(),
        700_016 | 700_011 => format!(
            "The application is not in this tenant. Compare tenant with \"Directory (tenant) ID\" and client_id with \
             \"Application (client) ID\" on the overview page of the app registration (not the object id), and cloud \
             (now \"{}\") with the tenant's.",
            around.cloud.as_str()
        ),
        700_027 | 50_012 | 50_013 | 700_030 => wrong_certificate(around),
        700_024 | 500_133 => wrong_time(around),
        90_002 | 900_023 | 90_038 | 900_382 => format!(
            "This cloud does not know the tenant: compare tenant with \"Directory (tenant) ID\", and cloud (now \"{}\") \
             with the one the tenant is in: global, gcc-high, dod or 21vianet.",
            around.cloud.as_str()
        ),
        500_011 | 650_057 | 50_001 | 70_011 | 1_002_012 => format!(
            "The tenant does not have what scope \"{}\" is for. Graph's host follows from cloud (now \"{}\"): does it \
             fit the tenant? For an NDR mailbox, has the application the permission IMAP.AccessAsApp of Office 365 \
             Exchange Online?",
            around.scope,
            around.cloud.as_str()
        ),
        65_001 | 650_056 | 90_094 | 7_000_229 => no_consent(&around.scope),
        53_003 | 530_035 => "Conditional Access for workload identities stops the application, mostly by the address it \
                             comes from: ask who looks after it to exclude the application or to allow this address."
            .to_owned(),
        70_001 | 7_000_112 => "The application is disabled: Enterprise applications > the application > Properties > \
                               \"Enabled for users to sign-in\" must be Yes."
            .to_owned(),
        700_025 | 7_000_218 => "The application counts as a public client, which sends no secret: App registrations > \
                                Authentication > \"Allow public client flows\" must be No, and secret or certificate \
                                must be configured here."
            .to_owned(),
        90_055 | 50_196 => "Too many requests for tokens. Does another program use the same application? It is tried \
                            again by itself, later."
            .to_owned(),
        _ => return None,
    };
    Some(advice)
}

fn wrong_secret(around: &Circumstances) -> String {
    let mut advice = String::new();
    if let Proof::Secret { like_an_id, blank } = &around.proof {
        if *like_an_id {
            advice.push_str("The secret looks like a GUID: that is the Secret ID, not the Value. ");
        }
        if *blank {
            advice.push_str("There is white space in the secret, which Values do not have. ");
        }
    }
    advice.push_str(
        "The secret is wrong, or has expired. Make a new one under App registrations > Certificates & secrets and copy its \
         Value (not the Secret ID), which is shown once.",
    );
    advice
}

fn wrong_certificate(around: &Circumstances) -> String {
    let Proof::Certificate { sha1, sha256, assertion } = &around.proof else {
        return "The statement was not taken: configure certificate and private_key, and upload the certificate under App \
                registrations > Certificates & secrets > Certificates."
            .to_owned();
    };
    let mut advice = format!(
        "The certificate must be listed for this application under App registrations > Certificates & secrets > \
         Certificates, with thumbprint {sha1} (SHA-256 {sha256}): upload it there if it is not. private_key must be its key."
    );
    if *assertion == Assertion::Ps256 {
        advice.push_str(
            " If it is listed, try assertion = \"rs256\": some tenants know certificates by SHA-1 alone.",
        );
    }
    advice
}

fn wrong_time(around: &Circumstances) -> String {
    match around.ahead_seconds {
        Some(ahead) if ahead.abs() >= SKEW_SECONDS_TOLD => {
            let direction = if ahead > 0 { "fast" } else { "slow" };
            format!(
                "The clock of this host is {} seconds {direction} by Microsoft's: set it, and keep it with NTP.",
                ahead.abs()
            )
        }
        Some(ahead) => format!(
            "The statement was not in its time, and this clock differs from Microsoft's by {ahead} seconds only: look \
             whether the certificate has begun and not ended, and try again."
        ),
        None => "The clock of this host is wrong: compare it with another, and keep it with NTP.".to_owned(),
    }
}

fn no_consent(scope: &str) -> String {
    let permissions = if scope.contains("outlook") {
        "IMAP.AccessAsApp (Office 365 Exchange Online)"
    } else {
        "User.Read.All, and for groups GroupMember.Read.All (Microsoft Graph)"
    };
    format!(
        "Consent is missing: App registrations > API permissions must list the application permissions {permissions}, and an \
         administrator must press \"Grant admin consent\"."
    )
}

/// What to do about a refusal of Microsoft Graph for which this permission is needed; `None` where only its own words help.
pub fn on_graph(refusal: &Refusal, permission: &str) -> Option<String> {
    let mut advice = String::new();
    match (refusal.status, refusal.error.as_str()) {
        (403, _) | (_, "Authorization_RequestDenied") => {
            write!(
                advice,
                "The application may not: add the application permission {permission} of Microsoft Graph under App \
                 registrations > API permissions, and press \"Grant admin consent\". A token that was given before does \
                 not have it: after an hour at the latest, or a restart, a new one is asked for."
            )
        }
        (401, _) => write!(
            advice,
            "The token was not taken: does cloud fit the tenant, and is the application still there and enabled?"
        ),
        (404, _) => write!(advice, "What was asked for does not exist: compare the object ids of groups."),
        (410, _) => write!(advice, "The reading has to begin anew; that is done by itself."),
        (400, _) => write!(advice, "The request was not taken: compare the object ids of groups, which are GUIDs."),
        (429 | 500.., _) => advice.write_str(TRY_LATER),
        _ => return None,
    }
    .ok()?;
    Some(advice)
}
