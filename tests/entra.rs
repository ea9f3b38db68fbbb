//! Tokens of Microsoft Entra ID against a double of its endpoint: what is shown to it, what is made of its answers, and that
//! nothing secret is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/entra_double.rs"]
mod entra_double;
#[path = "support/http_double.rs"]
mod http_double;

use daybook::config::{Assertion, Cloud, EntraApp, EntraCredential, SecretSource};
use daybook::entra::advice::{Circumstances, Proof, on_code, on_token};
use daybook::entra::credential::{self, Application};
use daybook::entra::{Http, HttpError, Refusal, TokenError, Tokens};
use daybook::mail::Timestamp;
use daybook::observe;
use entra_double::{CLIENT, CORRELATION, Login, SECRET, TENANT, TRACE, refusal};
use http_double::{Asked, Flaw, Reply};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

const SCOPE: &str = "https://graph.microsoft.com/.default";

/// An application whose secret is in a file of its own.
struct Stage {
    dir: TempDir,
    login: Arc<Login>,
    address: SocketAddr,
}

impl Stage {
    fn new(login: Login) -> Stage {
        let login = Arc::new(login);
        let answers = Arc::clone(&login);
        let address = http_double::start(move |asked| answers.answer(asked).unwrap());
        let dir = tempfile::tempdir().unwrap();
        put_secret(dir.path(), SECRET);
        Stage { dir, login, address }
    }

    fn app(&self) -> EntraApp {
        let secret = SecretSource::File(self.dir.path().join("secret"));
        EntraApp {
            cloud: Cloud::Global,
            tenant: TENANT.to_owned(),
            client_id: CLIENT.to_owned(),
            credential: EntraCredential::Secret { secret, expires_day: None },
            proxy: None,
            ca_file: None,
            loopback: Some(self.address),
        }
    }

    fn with_certificate(&self, pair: &credential::Made, assertion: Assertion) -> EntraApp {
        let (certificate, private_key) = (pair.certificate.clone(), pair.private_key.clone());
        let credential = EntraCredential::Certificate { certificate, private_key, assertion };
        EntraApp { credential, ..self.app() }
    }

    fn tokens(&self) -> Tokens {
        tokens(self.app())
    }

    fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.login.script.lock().unwrap().extend(replies);
    }

    fn asked(&self) -> Vec<Asked> {
        self.login.asked.lock().unwrap().clone()
    }
}

fn tokens(app: EntraApp) -> Tokens {
    Tokens::new(app, SCOPE.to_owned()).unwrap()
}

fn put_secret(dir: &Path, secret: &str) {
    std::fs::write(dir.join("secret"), secret).unwrap();
    std::fs::set_permissions(dir.join("secret"), Permissions::from_mode(0o600)).unwrap();
}

/// Two pairs, made once: a key takes a while.
fn pairs() -> &'static [credential::Made; 2] {
    static PAIRS: OnceLock<([credential::Made; 2], TempDir)> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let pair = |name| credential::create(dir.path(), name, credential::DAYS, observe::now()).unwrap();
        ([pair("one"), pair("other")], dir)
    };
    &PAIRS.get_or_init(make).0
}

fn der(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn advice(error: &TokenError) -> &str {
    error.advice().unwrap_or_else(|| panic!("{error:?}"))
}

#[test]
fn a_token_is_asked_for_once_and_anew_when_it_was_refused() {
    let stage = Stage::new(Login::default());
    let tokens = stage.tokens();
    let first = tokens.get().unwrap();
    assert_eq!(first, tokens.get().unwrap());
    let asked = stage.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("host"), "login.microsoftonline.com");
    assert_eq!(asked[0].header("user-agent"), concat!("Daybook/", env!("CARGO_PKG_VERSION")));
    assert_eq!(asked[0].field("scope").unwrap(), SCOPE);
    assert_eq!(asked[0].field("client_secret").unwrap(), SECRET);
    tokens.forget();
    assert_ne!(first, tokens.get().unwrap());
}

#[test]
fn a_token_is_kept_until_five_minutes_before_its_end_or_half_its_life() {
    // As text too; and none is kept that ends at once.
    for (expires_in, requests) in [(json!("3599"), 1), (json!(60), 1), (json!(0), 3), (json!(u64::MAX), 1)] {
        let stage = Stage::new(Login { expires_in: expires_in.clone(), ..Login::default() });
        let tokens = stage.tokens();
        for _ in 0..3 {
            tokens.get().unwrap();
        }
        assert_eq!(stage.asked().len(), requests, "{expires_in}");
    }
}

#[test]
fn a_certificate_signs_in_both_ways_and_the_signature_is_checked() {
    let [pair, _] = pairs();
    for assertion in [Assertion::Ps256, Assertion::Rs256] {
        let stage = Stage::new(Login::with_certificate(der(&pair.certificate).to_vec()));
        let tokens = tokens(stage.with_certificate(pair, assertion));
        assert!(stage.login.is_good(&tokens.get().unwrap()));
        tokens.forget();
        // With a statement of its own each time: the double refuses one it has seen.
        tokens.get().unwrap();
        assert!(stage.asked().iter().all(|asked| asked.field("client_secret").is_none()));
    }
}

#[test]
fn a_certificate_that_is_not_uploaded_is_named_by_both_thumbprints() {
    let [pair, other] = pairs();
    let stage = Stage::new(Login::with_certificate(der(&other.certificate).to_vec()));
    let error = tokens(stage.with_certificate(pair, Assertion::Ps256)).get().unwrap_err();
    let advice = advice(&error);
    assert!(advice.contains(&pair.thumbprints.sha1_hex()), "{advice}");
    assert!(advice.contains(&pair.thumbprints.sha256_hex()), "{advice}");
    assert!(advice.contains("assertion = \"rs256\""), "{advice}");
    assert!(error.to_string().contains("AADSTS700027"), "{error}");
}

#[test]
fn a_pair_that_cannot_sign_is_refused_before_anybody_is_asked() {
    let [pair, other] = pairs();
    let stage = Stage::new(Login::default());
    let refused = |certificate: &Path, key: &Path| {
        let (certificate, private_key) = (certificate.to_owned(), key.to_owned());
        let pair = credential::Made { certificate, private_key, ..other.clone() };
        let error = tokens(stage.with_certificate(&pair, Assertion::Ps256)).get().unwrap_err();
        assert!(matches!(error, TokenError::Credential(_)), "{error:?}");
        error.to_string()
    };
    assert!(refused(&pair.certificate, &other.private_key).contains("is not the key of"));
    assert!(refused(&pair.private_key, &pair.private_key).contains("holds no PEM certificate"));
    assert!(refused(&pair.certificate, &pair.certificate).contains("has mode 0644 and is a secret"));
    let elliptic = stage.dir.path().join("elliptic.key");
    std::fs::write(&elliptic, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    std::fs::set_permissions(&elliptic, Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&pair.certificate, &elliptic).contains("no RSA key"));
    assert!(refused(Path::new("/no/such/file"), &elliptic).contains("/no/such/file"));
    assert!(stage.asked().is_empty());
}

#[test]
fn a_refusal_keeps_the_words_the_number_and_the_ids() {
    let stage = Stage::new(Login::default());
    put_secret(stage.dir.path(), "0f8fad5b-d9cb-469f-a165-70867728950e");
    let error = stage.tokens().get().unwrap_err();
    let TokenError::Refused { said, advice, code } = error else { panic!("{error:?}") };
    assert_eq!(code, Some(7_000_215));
    for part in ["401 invalid_client", "AADSTS7000215: Invalid client secret provided.", TRACE, CORRELATION] {
        assert!(said.contains(part), "{said}");
    }
    assert!(advice.contains("that is the Secret ID, not the Value"), "{advice}");
    put_secret(stage.dir.path(), "two words");
    assert!(self::advice(&stage.tokens().get().unwrap_err()).contains("white space"));
    let elsewhere = EntraApp { tenant: "contoso.example".to_owned(), ..stage.app() };
    let error = tokens(elsewhere).get().unwrap_err();
    assert!(self::advice(&error).contains("does not know the tenant"), "{error:?}");
    let unknown = EntraApp { client_id: TENANT.to_owned(), ..stage.app() };
    assert!(self::advice(&tokens(unknown).get().unwrap_err()).contains("not in this tenant"));
}

fn around(proof: Proof, ahead_seconds: Option<i64>) -> Circumstances {
    Circumstances { cloud: Cloud::Global, scope: SCOPE.to_owned(), proof, ahead_seconds }
}

fn secret() -> Proof {
    Proof::Secret { like_an_id: false, blank: false }
}

fn certificate() -> Proof {
    Proof::Certificate { sha1: "0A1B".to_owned(), sha256: "2C3D".to_owned(), assertion: Assertion::Ps256 }
}

#[test]
fn every_number_that_admins_meet_has_its_advice() {
    for (codes, proof, expect) in [
        (&[7_000_215][..], secret(), "copy its Value (not the Secret ID)"),
        (&[7_000_215], secret(), "or has expired"),
        (&[7_000_222], secret(), "cannot be renewed"),
        (&[700_016, 700_011], secret(), "not the object id"),
        (&[700_027, 50_012, 50_013, 700_030], certificate(), "with thumbprint 0A1B (SHA-256 2C3D)"),
        (&[700_027, 50_012, 50_013, 700_030], secret(), "configure certificate and private_key"),
        (&[700_024, 500_133], certificate(), "400 seconds fast"),
        (&[90_002, 900_023, 90_038, 900_382], secret(), "gcc-high, dod or 21vianet"),
        (&[500_011, 650_057, 50_001, 70_011, 1_002_012], secret(), SCOPE),
        (&[65_001, 650_056, 90_094, 7_000_229], secret(), "User.Read.All"),
        (&[53_003, 530_035], secret(), "Conditional Access"),
        (&[70_001, 7_000_112], secret(), "is disabled"),
        (&[700_025, 7_000_218], secret(), "public client"),
        (&[90_055, 50_196], secret(), "Too many requests"),
    ] {
        for code in codes {
            let advice = on_code(*code, &around(proof.clone(), Some(400))).unwrap();
            assert!(advice.contains(expect), "{code}: {advice}");
        }
    }
    for (ahead, expect) in
        [(None, "compare it with another"), (Some(3), "by 3 seconds only"), (Some(-900), "900 seconds slow")]
    {
        let advice = on_code(700_024, &around(certificate(), ahead)).unwrap();
        assert!(advice.contains(expect), "{advice}");
    }
    let mut imap = around(secret(), None);
    imap.scope = "https://outlook.office365.com/.default".to_owned();
    assert!(on_code(65_001, &imap).unwrap().contains("IMAP.AccessAsApp"));
    let unknown = Refusal { status: 400, codes: vec![123_456], ..Refusal::default() };
    let advice = on_token(&unknown, &around(secret(), None));
    assert!(advice.contains("https://login.microsoftonline.com/error?code=123456"), "{advice}");
    assert_eq!(on_code(123_456, &around(secret(), None)), None);
}

#[test]
fn a_clock_that_is_wrong_is_told_from_the_date_of_the_answer() {
    let [pair, _] = pairs();
    let stage = Stage::new(Login::with_certificate(der(&pair.certificate).to_vec()));
    let text = "Client assertion is not within its valid time range.";
    stage.script([
        refusal(401, "invalid_client", 700_024, text).with("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
    ]);
    let error = tokens(stage.with_certificate(pair, Assertion::Ps256)).get().unwrap_err();
    assert!(advice(&error).contains("seconds fast by Microsoft's"), "{error:?}");
}

#[test]
fn patience_is_had_within_bounds_and_nobody_is_asked_in_between() {
    let busy = |wait: &str| Reply::json(429, "{}").with("Retry-After", wait);
    let stage = Stage::new(Login::default());
    stage.script([busy("0"), busy("0")]);
    stage.tokens().get().unwrap();
    assert_eq!(stage.asked().len(), 3);
    let stage = Stage::new(Login::default());
    stage.script([busy("3600")]);
    let tokens = stage.tokens();
    for _ in 0..3 {
        let error = tokens.get().unwrap_err();
        assert!(matches!(&error, TokenError::Unreachable(why) if why.contains("patience")), "{error:?}");
    }
    assert_eq!(stage.asked().len(), 1);
    // A program that ends does not wait for it.
    let stage = Stage::new(Login::default());
    stage.script([busy("20")]);
    assert!(matches!(stage.tokens().get_while(&|| false), Err(TokenError::Unreachable(_))));
}

#[test]
fn an_answer_that_is_not_whole_or_makes_no_sense_is_no_token() {
    let whole = json!({ "access_token": "t".repeat(9_000), "expires_in": 3_599 }).to_string();
    let reply = |flaw| Reply::json(200, whole.clone()).flawed(flaw);
    let stage = Stage::new(Login::default());
    for (reply, complete) in [
        (reply(Flaw::None), true),
        (reply(Flaw::Chunked), true),
        (reply(Flaw::Cut(0)), false),
        (reply(Flaw::Cut(8_000)), false),
        (reply(Flaw::CutChunks(8_000)), false),
        // Cut chunks after all of it: still not whole.
        (reply(Flaw::CutChunks(whole.len())), false),
        (Reply::json(200, whole.get(..100).unwrap()), false),
        (Reply::json(200, r#"{"access_token":"t","expires_in":"soon"}"#), false),
        (Reply::json(200, r#"{"access_token":"","expires_in":9}"#), false),
        (Reply::json(200, r#"{"access_token":"a\nb","expires_in":9}"#), false),
        (Reply::json(200, r#"{"expires_in":9}"#), false),
        (Reply::json(200, "x".repeat(300 * 1_024)), false),
    ] {
        stage.script([reply.clone()]);
        let got = stage.tokens().get();
        match (&got, complete) {
            (Ok(_), true) | (Err(TokenError::Incomplete(_)), false) => {}
            _ => panic!("{:?} {}: {got:?}", reply.flaw, reply.body.len()),
        }
    }
    stage.script([reply(Flaw::Mute)]);
    assert!(matches!(stage.tokens().get(), Err(TokenError::Unreachable(_))));
    stage.script([Reply::json(502, "<html>bad gateway</html>")]);
    assert!(matches!(stage.tokens().get(), Err(TokenError::Unreachable(_))));
}

#[test]
fn nothing_goes_to_another_host_and_no_redirect_is_followed() {
    let stage = Stage::new(Login::default());
    let http = Http::new(&stage.app()).unwrap();
    for url in [
        "https://graph.microsoft.com.evil.example/v1.0/users",
        "https://evil.example/",
        "http://graph.microsoft.com/v1.0/users",
        "https://graph.microsoft.com:8443/v1.0/users",
        "https://graph.microsoft.com@evil.example/",
        "https://user@graph.microsoft.com/",
        "https://graph.microsoft.us/v1.0/users",
        "/v1.0/users",
        "",
    ] {
        let error = http.get(url, &[("Authorization", "Bearer x")], 1_000).unwrap_err();
        assert!(matches!(error, HttpError::Elsewhere(_)), "{url}: {error:?}");
    }
    assert!(stage.asked().is_empty());
    stage.script([Reply::json(302, "{}").with("Location", "https://login.microsoftonline.com/elsewhere")]);
    let url = format!("https://LOGIN.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    assert_eq!(http.get(&url, &[], 1_000).unwrap().status, 302);
    assert_eq!(stage.asked().len(), 1);
}

#[test]
fn an_answer_that_never_comes_ends_at_the_deadline() {
    let stage = Stage::new(Login::default());
    stage.script([Reply::json(200, "{}").flawed(Flaw::Never)]);
    let http = Http::with_timeout(&stage.app(), Duration::from_millis(200)).unwrap();
    let error = Tokens::over(http, stage.app(), SCOPE.to_owned()).get().unwrap_err();
    assert!(matches!(&error, TokenError::Unreachable(why) if why.contains("in time")), "{error:?}");
}

#[test]
fn neither_secret_nor_token_is_in_what_is_said() {
    let stage = Stage::new(Login::default());
    let parrot = format!("You said {SECRET} to me.");
    stage.script([refusal(401, "invalid_client", 7_000_215, &parrot)]);
    let error = stage.tokens().get().unwrap_err();
    assert!(!format!("{error:?} {error}").contains(SECRET), "{error:?}");
    assert!(error.to_string().contains("You said … to me."), "{error}");
    stage.script([Reply::json(200, r#"{"access_token":"a-token-in-here","expires_in":[]}"#)]);
    let error = stage.tokens().get().unwrap_err();
    assert!(!format!("{error:?} {error}").contains("a-token"), "{error:?}");
    let answer = Http::new(&stage.app()).unwrap();
    stage.script([Reply::json(200, "a-token-in-here")]);
    let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    assert!(!format!("{:?}", answer.get(&url, &[], 1_000).unwrap()).contains("a-token"));
}

/// A proxy that looks into TLS: it says who it connects to, and answers as if it were there.
fn looking_proxy(login: Arc<Login>, certificate: &Path, key: &Path) -> SocketAddr {
    let chain = vec![der(certificate)];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert_eq!(line, "CONNECT login.microsoftonline.com:443 HTTP/1.1\r\n");
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            let mut stream = stream.into_inner();
            stream.write_all(b"HTTP/1.1 200 Go\r\n\r\n").unwrap();
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            http_double::serve(rustls::StreamOwned::new(tls, stream), &|asked: &Asked| {
                login.answer(asked).unwrap()
            });
        }
    });
    address
}

#[test]
fn a_proxy_that_looks_into_tls_needs_ca_file() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["login.microsoftonline.com".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("ca.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let stage = Stage::new(Login::default());
    let proxy = looking_proxy(Arc::clone(&stage.login), &certificate, &key);
    let through = EntraApp { proxy: Some(format!("http://{proxy}")), loopback: None, ..stage.app() };
    let error = tokens(through.clone()).get().unwrap_err();
    assert!(matches!(&error, TokenError::Unreachable(why) if why.contains("ca_file")), "{error:?}");
    assert!(stage.asked().is_empty());
    let trusting = EntraApp { ca_file: Some(certificate), ..through };
    assert!(stage.login.is_good(&tokens(trusting.clone()).get().unwrap()));
    let setup = |app| matches!(Tokens::new(app, SCOPE.to_owned()), Err(TokenError::Credential(_)));
    assert!(setup(EntraApp { ca_file: Some(key), ..trusting.clone() }));
    assert!(setup(EntraApp { proxy: Some("ftp://proxy.example".to_owned()), ..trusting }));
}

#[test]
fn a_pair_that_is_made_is_private_dated_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new");
    let now = Timestamp::parse("2026-11-22T03:00:00Z").unwrap();
    let made = credential::create(&folder, "graph", 30, now).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&made.private_key), mode(&folder)), (0o600, 0o700));
    assert_eq!(made.not_after.to_string(), "2026-12-22T03:00:00.000Z");
    let before = std::fs::read(&made.private_key).unwrap();
    let error = credential::create(&folder, "graph", 30, now).unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
    assert_eq!(std::fs::read(&made.private_key).unwrap(), before);
    for (name, days) in
        [("", 1), ("../graph", 1), (".hidden", 1), ("graph 2", 1), ("fine", 0), ("fine", 40_000)]
    {
        assert!(credential::create(&folder, name, days, now).is_err(), "{name:?} {days}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn graph_knows_which_secret_is_meant_or_else_the_earliest_counts() {
    let now = Timestamp::parse("2026-11-22T03:00:00Z").unwrap();
    let expiry = |list: serde_json::Value| {
        let said =
            json!({ "@odata.context": "x", "id": "y", "passwordCredentials": list, "keyCredentials": [] });
        let application: Application = serde_json::from_value(said).unwrap();
        application.secret_expiry(SECRET, now).map(|end| format!("{} {}", end.ends, end.known_by.as_str()))
    };
    let known = |hint: &str, end: &str| json!({ "hint": hint, "endDateTime": end, "keyId": "k", "displayName": null });
    let (own, other) = (known("qWg", "2027-03-01T00:00:00Z"), known("Xyz", "2027-01-01T00:00:00Z"));
    let ended = known("Old", "2025-01-01T00:00:00Z");
    assert_eq!(expiry(json!([])), None);
    assert_eq!(expiry(json!([other, own, ended])).unwrap(), "2027-03-01T00:00:00.000Z graph");
    assert_eq!(expiry(json!([known("", "2027-01-01T00:00:00Z")])).unwrap(), "2027-01-01T00:00:00.000Z graph");
    let two = json!([ended, other, known("Zzz", "2028-01-01T00:00:00Z")]);
    assert_eq!(expiry(two).unwrap(), "2027-01-01T00:00:00.000Z graph-earliest");
    let alike = json!([own, known("qWg", "2026-12-24T00:00:00Z"), other]);
    assert_eq!(expiry(alike).unwrap(), "2026-12-24T00:00:00.000Z graph-earliest");
    assert_eq!(expiry(json!([ended])).unwrap(), "2025-01-01T00:00:00.000Z graph");
}
