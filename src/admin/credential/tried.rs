//! Trying a credential out: is it here, is there a token for it, may the application do what it is wanted for, and until when.

use super::{Configured, UsedBy};
use crate::admin::doctor::{Finding, Status};
use crate::config::EntraCredential;
use crate::entra::advice::on_graph;
use crate::entra::credential::{self, Application, AskError, Expiry, KnownBy};
use crate::entra::token::roles;
use crate::entra::{Refusal, TokenError, Tokens};
use crate::mail::Timestamp;
use crate::net::secret;
use crate::observe::alarm::CREDENTIAL_STAGES_DAYS;
use serde::Serialize;
use zeroize::Zeroizing;

/// Octets of one page with one user or group.
const PAGE_OCTETS_MAX: u64 = 1024 * 1024;
/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// How far it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::admin) enum Depth {
    /// Files and dates here.
    Here,
    /// A token, too.
    Token,
    /// Each permission, too.
    All,
}

/// What came of trying a credential out, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TriedView {
    /// Of the source of users, or the puller.
    pub name: String,
    /// `directory` or `puller`.
    pub used_by: &'static str,
    /// `certificate` or `secret`.
    pub kind: &'static str,
    /// Directory (tenant) id, or a domain.
    pub tenant: String,
    /// Application (client) id.
    pub client_id: String,
    /// SHA-1 of the certificate, as the portal shows it.
    pub sha1: Option<String>,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// Permissions that the token names.
    pub roles: Vec<String>,
    /// When the credential ends.
    pub ends: Option<Timestamp>,
    /// How that is known: `certificate`, `configuration`, `graph`, `graph-earliest`.
    pub known_by: Option<&'static str>,
    /// What was tried, in order.
    pub steps: Vec<Finding>,
    /// Nobody answered, so the rest is not known.
    pub unreachable: bool,
}

impl TriedView {
    /// Nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.steps.iter().all(|step| step.status != Status::Problem)
    }
}

/// Tries everything. Blocks, for minutes where nobody answers.
pub fn try_out(configured: &Configured, now: Timestamp) -> TriedView {
    examine(configured, Depth::All, now)
}

/// Tries as much as is wanted; what needs what failed before it is left out.
pub(in crate::admin) fn examine(configured: &Configured, depth: Depth, now: Timestamp) -> TriedView {
    let mut view = TriedView {
        name: configured.name.clone(),
        used_by: configured.used_by.as_str(),
        kind: configured.kind(),
        tenant: configured.app.tenant.clone(),
        client_id: configured.app.client_id.clone(),
        sha1: None,
        sha256: None,
        roles: Vec::new(),
        ends: None,
        known_by: None,
        steps: Vec::new(),
        unreachable: false,
    };
    let known = here(&mut view, configured);
    let mut expiry = credential::local_expiry(&configured.app).ok().flatten();
    if known
        && depth >= Depth::Token
        && let Some(tokens) = token(&mut view, configured)
        && depth >= Depth::All
    {
        if let UsedBy::Directory { groups } = configured.used_by {
            page(&mut view, &tokens, "users", "User.Read.All");
            if groups {
                page(&mut view, &tokens, "groups", "GroupMember.Read.All");
            }
        }
        let told = application(&mut view, configured, &tokens, now);
        expiry = expiry.or(told);
    }
    view.ends = expiry.as_ref().map(|expiry| expiry.ends);
    view.known_by = expiry.as_ref().map(|expiry| expiry.known_by.as_str());
    // Of what cannot be read, that is said already.
    if known {
        view.steps.push(judge(expiry.as_ref(), now));
    }
    view
}

fn here(view: &mut TriedView, configured: &Configured) -> bool {
    const STEP: &str = "credential";
    let step = match (credential::check(&configured.app), &configured.app.credential) {
        (Ok(Some(thumbprints)), EntraCredential::Certificate { certificate, .. }) => {
            let (sha1, sha256) = (thumbprints.sha1_hex(), thumbprints.sha256_hex());
            let seen = format!("{} with its key, thumbprint {sha1}, SHA-256 {sha256}", certificate.display());
            (view.sha1, view.sha256) = (Some(sha1), Some(sha256));
            Finding::ok(STEP, seen)
        }
        (Ok(_), _) => Finding::ok(STEP, "the secret can be read"),
        (Err(error), EntraCredential::Certificate { .. }) => {
            let fix = "put certificate and private_key right; `daybook credential create` makes a pair";
            Finding::problem(STEP, error, fix)
        }
        (Err(error), EntraCredential::Secret { .. }) => {
            let fix = "put the secret where the configuration says, readable by the server's user alone; what only the \
                       service has (an environment variable, a systemd credential) can be tried in its environment";
            Finding::problem(STEP, error, fix)
        }
    };
    let is_good = step.status == Status::Ok;
    view.steps.push(step);
    is_good
}

fn token(view: &mut TriedView, configured: &Configured) -> Option<Tokens> {
    const STEP: &str = "token";
    let tokens = Tokens::new(configured.app.clone(), configured.scope.clone());
    let got = tokens.and_then(|tokens| Ok((tokens.get()?, tokens)));
    let (step, tokens) = match got {
        Ok((token, tokens)) => {
            view.roles = roles(&token);
            let seen = match view.roles.is_empty() {
                true => "given; it names no permission".to_owned(),
                false => format!("given; it names {}", view.roles.join(", ")),
            };
            (Finding::ok(STEP, seen), Some(tokens))
        }
        Err(TokenError::Refused { said, advice, .. }) => (Finding::problem(STEP, said, advice), None),
        Err(TokenError::Credential(why)) => {
            (Finding::problem(STEP, why, "put it right in the configuration"), None)
        }
        Err(error @ (TokenError::Unreachable(_) | TokenError::Incomplete(_))) => {
            view.unreachable = true;
            let host = configured.app.cloud.login_host();
            let fix = format!(
                "look whether this host reaches https://{host}: names, firewall, proxy, ca_file; then try again"
            );
            (Finding::problem(STEP, error.to_string(), fix), None)
        }
    };
    view.steps.push(step);
    tokens
}

/// One entry of a list: what is tried is the permission.
fn page(view: &mut TriedView, tokens: &Tokens, list: &'static str, permission: &str) {
    let url = format!("https://{}/v1.0/{list}?$top=1&$select=id", tokens.app().cloud.graph_host());
    let again = "try again; does this host reach Microsoft Graph?";
    let step = match get(tokens, &url) {
        Err(why) => {
            view.unreachable = true;
            Finding::problem(list, why, again)
        }
        Ok((200, body)) if is_list(&body) => {
            Finding::ok(list, format!("one page was read, as {permission} lets it"))
        }
        Ok((200, _)) => Finding::problem(list, "the answer is no list", again),
        Ok((status, body)) => {
            let refusal = Refusal::read(status, &body);
            let fix = on_graph(&refusal, permission);
            Finding::problem(list, refusal.to_string(), fix.unwrap_or_else(|| again.to_owned()))
        }
    };
    view.steps.push(step);
}

fn get(tokens: &Tokens, url: &str) -> Result<(u16, Vec<u8>), String> {
    let token = tokens.get().map_err(|error| error.to_string())?;
    let bearer = Zeroizing::new(format!("Bearer {}", *token));
    let headers = [("Authorization", bearer.as_str()), ("Accept", "application/json")];
    let answer = tokens.http().get(url, &headers, PAGE_OCTETS_MAX).map_err(|error| error.to_string())?;
    Ok((answer.status, answer.body))
}

fn is_list(body: &[u8]) -> bool {
    let page = serde_json::from_slice::<serde_json::Value>(body);
    page.is_ok_and(|page| page.get("value").is_some_and(serde_json::Value::is_array))
}

/// What Graph knows of the credential, which the application need not be allowed to ask for.
fn application(
    view: &mut TriedView,
    configured: &Configured,
    tokens: &Tokens,
    now: Timestamp,
) -> Option<Expiry> {
    const STEP: &str = "application";
    const OPTIONAL: &str = "needs the permission Application.Read.All, which is optional";
    let asked = match configured.used_by {
        UsedBy::Directory { .. } => Application::ask(tokens),
        // Its tokens are for another service.
        UsedBy::Puller => Tokens::new(configured.app.clone(), configured.app.cloud.graph_scope())
            .map_err(AskError::Token)
            .and_then(|tokens| Application::ask(&tokens)),
    };
    let (step, expiry) = match asked {
        Err(AskError::Refused(refusal)) if matches!(refusal.status, 401 | 403) => {
            (Finding::skipped(STEP, OPTIONAL), None)
        }
        Err(AskError::Refused(refusal)) => (Finding::skipped(STEP, refusal.to_string()), None),
        Err(AskError::Token(error)) => (Finding::skipped(STEP, error.to_string()), None),
        Err(AskError::Incomplete(why)) => (Finding::skipped(STEP, why), None),
        Ok(known) => judge_application(&known, configured, now),
    };
    view.steps.push(step);
    expiry
}

fn judge_application(
    known: &Application,
    configured: &Configured,
    now: Timestamp,
) -> (Finding, Option<Expiry>) {
    const STEP: &str = "application";
    match &configured.app.credential {
        EntraCredential::Certificate { .. } => {
            let listed = credential::check(&configured.app).ok().flatten();
            let step = match listed.is_some_and(|thumbprints| known.has(&thumbprints)) {
                true => Finding::ok(STEP, "the certificate is listed"),
                false => Finding::warning(
                    STEP,
                    "a token was given, but the certificate is not listed",
                    "look at App registrations > Certificates & secrets > Certificates; a change takes some minutes",
                ),
            };
            (step, None)
        }
        EntraCredential::Secret { secret, .. } => {
            let secret = secret::read(secret).unwrap_or_default();
            let expiry = known.secret_expiry(&secret, now);
            (Finding::ok(STEP, "it may read when its secrets end"), expiry)
        }
    }
}

fn judge(expiry: Option<&Expiry>, now: Timestamp) -> Finding {
    const STEP: &str = "expiry";
    let Some(Expiry { ends, known_by }) = expiry else {
        return Finding::skipped(
            STEP,
            "not known: set secret_expires, or give the application the permission Application.Read.All",
        );
    };
    let which = match known_by {
        KnownBy::GraphEarliest => " (of several secrets, the one that ends first)",
        KnownBy::Certificate | KnownBy::Configuration | KnownBy::Graph => "",
    };
    let left_ms = ends.unix_ms().saturating_sub(now.unix_ms());
    let left_days = left_ms / DAY_MS;
    let fix = match known_by {
        KnownBy::Certificate => {
            "make a new pair with `daybook credential create`, upload its certificate beside the old one, then change \
             certificate and private_key, and reload"
        }
        _ => {
            "make a new secret under App registrations > Certificates & secrets, put its Value where the configuration reads \
             it, and set secret_expires if it is set"
        }
    };
    if left_ms <= 0 {
        return Finding::problem(STEP, format!("it ended at {ends}{which}"), fix);
    }
    let seen = format!("it ends at {ends}{which}, in {left_days} days");
    if left_days < i64::from(CREDENTIAL_STAGES_DAYS[0]) {
        Finding::warning(STEP, seen, fix)
    } else {
        Finding::ok(STEP, seen)
    }
}
