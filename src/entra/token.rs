//! Tokens of an application that acts by itself: OAuth 2.0 client credentials (RFC 6749 section 4.4) at Microsoft's endpoint v2.0,
//! kept while they are good.

use super::advice::{self, Circumstances, Proof};
use super::assertion::Signer;
use super::http::{Answer, Http, HttpError};
use super::refusal::Refusal;
use crate::config::{EntraApp, EntraCredential};
use crate::mail::Untrusted;
use crate::net::secret;
use crate::observe;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// A token is asked for anew so long before it ends, or at half its life if that is less.
const BEFORE_END: Duration = Duration::from_secs(5 * 60);
/// The longest life that is believed; Microsoft's is 60 to 90 minutes, with continuous access evaluation 28 hours.
const LIFE_MAX: Duration = Duration::from_secs(28 * 60 * 60);
/// Octets of the answer that holds a token; Microsoft's have 2 KiB, and some more with many roles.
const ANSWER_OCTETS_MAX: u64 = 256 * 1024;
/// Requests for one token, with what `Retry-After` asks for between them.
const REQUESTS_MAX: u32 = 3;
/// The longest `Retry-After` that is waited for with the caller; a longer one is an error until it has passed.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How long nothing is asked after a longer one, at most.
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);
/// Permissions of a token that are named.
const ROLES_MAX: usize = 50;
/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Between looks whether to go on.
const LOOK: Duration = Duration::from_millis(100);

/// The tokens of one application for one scope. Shared: whoever asks while one is fetched waits for it.
pub struct Tokens {
    app: EntraApp,
    scope: String,
    http: Http,
    held: Mutex<Held>,
}

/// One answer, with what was sent for it.
struct Asked {
    answer: Answer,
    /// What must not be shown of it.
    hidden: Zeroizing<String>,
    proof: Proof,
}

#[derive(Default)]
struct Held {
    /// With the moment from which a new one is asked for.
    token: Option<(Zeroizing<String>, Instant)>,
    /// Nothing is asked before.
    not_before: Option<Instant>,
}

/// Why there is no token. Never says what a secret, an assertion or a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Microsoft said no. The operator's to mend.
    Refused {
        /// What it said, with number, trace id, correlation id and time.
        said: String,
        /// What to do.
        advice: String,
        /// The number behind `AADSTS`, for people.
        code: Option<u32>,
    },
    /// The host cannot be reached, or asks for patience. Mends itself, or the network is at fault.
    Unreachable(String),
    /// The answer is not whole or makes no sense. Asking again may help.
    Incomplete(String),
    /// The secret, certificate or key here is no good, or `ca_file` or the proxy. The operator's to mend.
    Credential(String),
}

impl TokenError {
    /// What to do about it, where something particular can be said.
    pub fn advice(&self) -> Option<&str> {
        match self {
            TokenError::Refused { advice, .. } => Some(advice),
            _ => None,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Refused { said, .. } => write!(f, "no token: {said}"),
            TokenError::Unreachable(why) | TokenError::Incomplete(why) => write!(f, "no token: {why}"),
            TokenError::Credential(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TokenError {}

impl From<HttpError> for TokenError {
    fn from(error: HttpError) -> TokenError {
        let why = error.to_string();
        match error {
            HttpError::Setup(_) => TokenError::Credential(why),
            HttpError::Unreachable(_) => TokenError::Unreachable(why),
            HttpError::Elsewhere(_) | HttpError::Cut(_) | HttpError::TooLong(_) => {
                TokenError::Incomplete(why)
            }
        }
    }
}

/// RFC 6749 section 5.1. A number may come as text.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Seconds,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Tokens {
    /// For this application and scope, `https://…/.default`. Reads `ca_file`, and asks nobody yet.
    ///
    /// # Errors
    /// [`TokenError::Credential`] when `ca_file` or the proxy is no good.
    pub fn new(app: EntraApp, scope: String) -> Result<Tokens, TokenError> {
        let http = Http::new(&app)?;
        Ok(Tokens::over(http, app, scope))
    }

    /// The same by way of a client that was made before, for the same application.
    pub fn over(http: Http, app: EntraApp, scope: String) -> Tokens {
        Tokens { app, scope, http, held: Mutex::default() }
    }

    /// A token that is good for some minutes at least: the one that is held, or a new one. Blocks, for a minute or two at worst.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn get(&self) -> Result<Zeroizing<String>, TokenError> {
        self.get_while(&|| true)
    }

    /// The same, giving up soon after `go_on` says no.
    ///
    /// # Errors
    /// As [`Tokens::get`].
    pub fn get_while(&self, go_on: &dyn Fn() -> bool) -> Result<Zeroizing<String>, TokenError> {
        let mut held = self.held();
        let now = Instant::now();
        if let Some((token, until)) = &held.token
            && now < *until
        {
            return Ok(token.clone());
        }
        held.token = None;
        if let Some(left) = held.not_before.and_then(|moment| moment.checked_duration_since(now)) {
            return Err(patience(left));
        }
        for request in 1..=REQUESTS_MAX {
            let asked = Instant::now();
            let answer = self.ask()?;
            if !matches!(answer.answer.status, 429 | 503 | 504) {
                let (token, life) = self.granted(answer)?;
                held.token = Some((token.clone(), asked + life));
                return Ok(token);
            }
            let wait = answer.answer.retry_after.unwrap_or(Duration::from_secs(u64::from(request)));
            if wait > WAIT_MAX || request == REQUESTS_MAX {
                held.not_before = Some(Instant::now() + wait.min(SILENCE_MAX));
                return Err(patience(wait));
            }
            if !rest(wait, go_on) {
                return Err(TokenError::Unreachable("given up: the program is stopping".to_owned()));
            }
        }
        Err(TokenError::Unreachable("no answer".to_owned()))
    }

    /// Forgets the token: after a 401, a new one is asked for.
    pub fn forget(&self) {
        self.held().token = None;
    }

    /// The requests of who uses the tokens go the same way.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The application.
    pub fn app(&self) -> &EntraApp {
        &self.app
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self) -> Result<Asked, TokenError> {
        let endpoint =
            format!("https://{}/{}/oauth2/v2.0/token", self.app.cloud.login_host(), self.app.tenant);
        let (hidden, proof) = self.prove(&endpoint).map_err(TokenError::Credential)?;
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.app.client_id.as_str()),
            ("scope", self.scope.as_str()),
        ];
        let (name, kind) = match proof {
            Proof::Secret { .. } => ("client_secret", None),
            Proof::Certificate { .. } => {
                ("client_assertion", Some(("client_assertion_type", ASSERTION_TYPE)))
            }
        };
        let form: Vec<_> = fields.into_iter().chain(kind).chain([(name, hidden.as_str())]).collect();
        let answer = self.http.post_form(&endpoint, &form, ANSWER_OCTETS_MAX)?;
        Ok(Asked { answer, hidden, proof })
    }

    /// What proves who we are, and what may be said of it. Read anew each time: it may have been replaced.
    fn prove(&self, endpoint: &str) -> Result<(Zeroizing<String>, Proof), String> {
        match &self.app.credential {
            EntraCredential::Secret { secret, .. } => {
                let secret = secret::read(secret).map_err(|error| error.to_string())?;
                let like_an_id = uuid::Uuid::try_parse(&secret).is_ok();
                let blank = secret.contains(char::is_whitespace);
                Ok((secret, Proof::Secret { like_an_id, blank }))
            }
            EntraCredential::Certificate { certificate, private_key, assertion } => {
                let signer = Signer::load(certificate, private_key, *assertion)?;
                let id = uuid::Uuid::new_v4();
                let statement = signer.statement(endpoint, &self.app.client_id, observe::now(), id)?;
                let (sha1, sha256) = (signer.thumbprints().sha1_hex(), signer.thumbprints().sha256_hex());
                Ok((statement, Proof::Certificate { sha1, sha256, assertion: *assertion }))
            }
        }
    }

    fn granted(&self, asked: Asked) -> Result<(Zeroizing<String>, Duration), TokenError> {
        let Asked { mut answer, hidden, proof } = asked;
        if answer.status != 200 {
            let ahead = answer.date.map(|theirs| observe::now().unix_seconds() - theirs.unix_seconds());
            let scope = self.scope.clone();
            let around = Circumstances { cloud: self.app.cloud, scope, proof, ahead_seconds: ahead };
            let refusal = Refusal::read(answer.status, &answer.body).without(&hidden);
            if answer.status >= 500 {
                return Err(TokenError::Unreachable(refusal.to_string()));
            }
            let advice = advice::on_token(&refusal, &around);
            return Err(TokenError::Refused { said: refusal.to_string(), advice, code: refusal.code() });
        }
        let granted = serde_json::from_slice::<Granted>(&answer.body);
        answer.body.zeroize();
        // What serde says could show a part of the token.
        let no_sense = || TokenError::Incomplete("the answer with the token makes no sense".to_owned());
        let granted = granted.map_err(|_| no_sense())?;
        let token = Zeroizing::new(granted.access_token);
        let seconds = match granted.expires_in {
            Seconds::Number(seconds) => seconds,
            Seconds::Text(text) => text.trim().parse().map_err(|_| no_sense())?,
        };
        if token.is_empty() || !token.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(no_sense());
        }
        let life = Duration::from_secs(seconds).min(LIFE_MAX);
        Ok((token, life - BEFORE_END.min(life / 2)))
    }
}

/// The permissions a token names, as information for people alone: a token is its receiver's, and its form is nobody's promise.
pub fn roles(token: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        roles: Vec<String>,
    }
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
    let roles = claims.map(|claims| claims.roles).unwrap_or_default();
    roles.iter().take(ROLES_MAX).map(|role| Untrusted(role).to_string()).collect()
}

fn patience(wait: Duration) -> TokenError {
    TokenError::Unreachable(format!("asks for patience: {} seconds", wait.as_secs().max(1)))
}

/// Waits, looking now and then whether to go on; says whether it may.
fn rest(wait: Duration, go_on: &dyn Fn() -> bool) -> bool {
    let until = Instant::now() + wait;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if !go_on() {
            return false;
        }
        std::thread::sleep(left.min(LOOK));
    }
    go_on()
}
