//! Microsoft's token endpoint on loopback: it checks what an application shows, and refuses in the words of Microsoft's
//! documentation.
//!
//! Take it in beside `support/http_double.rs`, which it answers for: `#[path = "support/entra_double.rs"] mod entra_double;`.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::http_double::{Asked, Reply};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
pub(crate) const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
pub(crate) const SECRET: &str = "qWgdYAmab0YSkuL1qKv5bPX~3.DoubledSecret";

/// The endpoint of one tenant with one application.
pub(crate) struct Login {
    /// What it is known by.
    pub(crate) host: String,
    /// Its secret; `None`: it has none.
    pub(crate) secret: Option<String>,
    /// Its uploaded certificate, in DER.
    pub(crate) certificate: Option<Vec<u8>>,
    /// What it has consent for; stands in the token.
    pub(crate) roles: Vec<String>,
    /// `expires_in`, as it stands in the answer.
    pub(crate) expires_in: Value,
    /// Answers given before any other.
    pub(crate) script: Mutex<VecDeque<Reply>>,
    /// Every request for a token.
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// Every token given.
    pub(crate) tokens: Mutex<Vec<String>>,
    /// Statements seen before.
    pub(crate) seen: Mutex<BTreeSet<String>>,
}

impl Default for Login {
    fn default() -> Login {
        Login {
            host: "login.microsoftonline.com".to_owned(),
            secret: Some(SECRET.to_owned()),
            certificate: None,
            roles: vec!["User.Read.All".to_owned(), "GroupMember.Read.All".to_owned()],
            expires_in: json!(3_599),
            script: Mutex::default(),
            asked: Mutex::default(),
            tokens: Mutex::default(),
            seen: Mutex::default(),
        }
    }
}

impl Login {
    /// With a certificate instead of a secret.
    pub(crate) fn with_certificate(der: impl Into<Vec<u8>>) -> Login {
        Login { secret: None, certificate: Some(der.into()), ..Login::default() }
    }

    /// Answers what is meant for it.
    pub(crate) fn answer(&self, asked: &Asked) -> Option<Reply> {
        let tenant = asked.path().strip_prefix('/')?.strip_suffix("/oauth2/v2.0/token")?;
        self.asked.lock().unwrap().push(asked.clone());
        let scripted = self.script.lock().unwrap().pop_front();
        Some(scripted.unwrap_or_else(|| match self.judge(tenant, asked) {
            Ok(()) => self.grant(),
            Err((status, error, code, text)) => refusal(status, error, code, &text),
        }))
    }

    /// Whether this token was given by it and is the last one.
    pub(crate) fn is_good(&self, token: &str) -> bool {
        self.tokens.lock().unwrap().last().is_some_and(|last| last == token)
    }

    fn grant(&self) -> Reply {
        let mut tokens = self.tokens.lock().unwrap();
        let claims = json!({ "roles": self.roles, "appid": CLIENT, "tid": TENANT, "uti": tokens.len() });
        let encode = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
        let header = encode(json!({ "typ": "JWT", "alg": "RS256" }).to_string());
        let token = format!("{header}.{}.c2lnbmF0dXJlb2Z0aGV0b2tlbg", encode(claims.to_string()));
        tokens.push(token.clone());
        let body = json!({ "token_type": "Bearer", "expires_in": self.expires_in, "access_token": token });
        Reply::json(200, body.to_string())
    }

    fn judge(&self, tenant: &str, asked: &Asked) -> Result<(), (u16, &'static str, u32, String)> {
        let field = |name: &str| asked.field(name).unwrap_or_default();
        assert_eq!((asked.method.as_str(), asked.header("host")), ("POST", self.host.as_str()));
        assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
        assert_eq!(field("grant_type"), "client_credentials");
        if tenant != TENANT {
            let text = format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the \
                 correct cloud."
            );
            return Err((400, "invalid_request", 90_002, text));
        }
        if field("client_id") != CLIENT {
            let text = format!(
                "Application with identifier '{}' was not found in the directory 'Contoso'. This can happen if the \
                 application has not been installed by the administrator of the tenant.",
                field("client_id")
            );
            return Err((400, "unauthorized_client", 700_016, text));
        }
        if !field("scope").ends_with("/.default") {
            let text = format!("The provided value for scope {} is not valid.", field("scope"));
            return Err((400, "invalid_scope", 70_011, text));
        }
        if let Some(secret) = &self.secret {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
                 not the client secret ID, for a secret added to app '{CLIENT}'."
            );
            return if field("client_secret") == *secret {
                Ok(())
            } else {
                Err((401, "invalid_client", 7_000_215, text))
            };
        }
        assert_eq!(field("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        self.verify(&field("client_assertion"))
    }

    fn verify(&self, statement: &str) -> Result<(), (u16, &'static str, u32, String)> {
        let parts: Vec<&str> = statement.split('.').collect();
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();
        let (header, claims) = (json(parts[0]), json(parts[1]));
        let der = self.certificate.as_deref().unwrap();
        let (algorithm, member, hash): (&'static dyn VerificationAlgorithm, _, _) =
            match header["alg"].as_str() {
                Some("PS256") => (&RSA_PSS_2048_8192_SHA256, "x5t#S256", &SHA256),
                Some("RS256") => (&RSA_PKCS1_2048_8192_SHA256, "x5t", &SHA1_FOR_LEGACY_USE_ONLY),
                other => panic!("{other:?}"),
            };
        assert_eq!(header["typ"], "JWT");
        let unknown = |reason: &str| {
            let text = format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. \
                 [Reason - {reason}]"
            );
            Err((401, "invalid_client", 700_027, text))
        };
        if header[member] != BASE64_URL_SAFE_NO_PAD.encode(digest(hash, der)) {
            return unknown("The key was not found.");
        }
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        let key = UnparsedPublicKey::new(algorithm, &certificate.public_key().subject_public_key.data);
        let signed = format!("{}.{}", parts[0], parts[1]);
        if key.verify(signed.as_bytes(), &decode(parts[2])).is_err() {
            return unknown("The key was found, but the signature is not its.");
        }
        assert_eq!(claims["aud"], format!("https://{}/{TENANT}/oauth2/v2.0/token", self.host));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!(CLIENT), &json!(CLIENT)));
        let id = claims["jti"].as_str().unwrap().to_owned();
        assert!(self.seen.lock().unwrap().insert(id), "the same statement twice");
        let (begins, ends) = (claims["nbf"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        if ends - begins > 600 || now + 1 < begins || now > ends {
            let text = "Client assertion is not within its valid time range.".to_owned();
            return Err((401, "invalid_client", 700_024, text));
        }
        Ok(())
    }
}

/// An error as the documentation of the client credentials flow shows it.
pub(crate) fn refusal(status: u16, error: &str, code: u32, text: &str) -> Reply {
    let (trace, correlation) = (TRACE, CORRELATION);
    let timestamp = "2026-11-22 02:02:12Z";
    let description = format!(
        "AADSTS{code}: {text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {timestamp}"
    );
    let body = json!({
        "error": error, "error_description": description, "error_codes": [code], "timestamp": timestamp,
        "trace_id": trace, "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    Reply::json(status, body.to_string())
}

pub(crate) const TRACE: &str = "0000aaaa-11bb-cccc-dd22-eeeeee333333";
pub(crate) const CORRELATION: &str = "aaaa0000-bb11-2222-33cc-444444dddddd";

/// An error as Microsoft Graph words it.
pub(crate) fn graph_refusal(status: u16, code: &str, message: &str) -> Reply {
    let inner =
        json!({ "date": "2026-11-22T02:02:12", "request-id": TRACE, "client-request-id": CORRELATION });
    let body = json!({ "error": { "code": code, "message": message, "innerError": inner } });
    Reply::json(status, body.to_string())
}
