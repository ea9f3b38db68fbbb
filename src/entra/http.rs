//! Requests to the hosts of one cloud, each with one deadline and an answer that is whole and not too long.

use crate::config::EntraApp;
use crate::mail::{Timestamp, Untrusted};
use crate::net::authorities::Authorities;
use crate::net::tls;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{Response, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, Proxy};

/// To find a host's address and have its connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request and the whole of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Octets of the header of an answer; Microsoft's have 1 to 2 KiB.
const HEADER_OCTETS_MAX: usize = 64 * 1024;
/// A connection nobody used for so long is not used again: the far side may have forgotten it.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// The longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How we call ourselves.
const USER_AGENT: &str = concat!("Daybook/", env!("CARGO_PKG_VERSION"));

/// Sends requests to the hosts of the cloud of one application, and to no other. Keeps connections between requests.
pub struct Http {
    agent: Agent,
    hosts: [&'static str; 2],
    loopback: Option<SocketAddr>,
}

/// What a host answered; any status, also those of errors.
pub struct Answer {
    /// HTTP status, 100 to 999.
    pub status: u16,
    /// How long it asks us to wait; at most a day.
    pub retry_after: Option<Duration>,
    /// Its clock.
    pub date: Option<Timestamp>,
    /// The whole body. May hold a token, so it is never shown.
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer {{ status: {}, body: {} octets }}", self.status, self.body.len())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// `ca_file` or the proxy is no good. The operator's to mend.
    Setup(String),
    /// The address is no `https` one of this cloud: the request was not sent. The far side's fault.
    Elsewhere(String),
    /// No connection, no TLS, or no word in time. Mends itself, or the network is at fault.
    Unreachable(String),
    /// The answer is not whole, or is not HTTP. Asking again may help.
    Cut(String),
    /// The answer is longer than so many octets.
    TooLong(u64),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Setup(why) | HttpError::Unreachable(why) | HttpError::Cut(why) => f.write_str(why),
            HttpError::Elsewhere(place) => {
                write!(f, "an answer leads to {}, which is not of this cloud", Untrusted(place))
            }
            HttpError::TooLong(octets) => write!(f, "the answer has more than {octets} octets"),
        }
    }
}

impl std::error::Error for HttpError {}

impl Http {
    /// For the cloud, proxy and authorities of this application. Reads `ca_file`: blocks on the disk.
    ///
    /// # Errors
    /// [`HttpError::Setup`].
    pub fn new(app: &EntraApp) -> Result<Http, HttpError> {
        Http::with_timeout(app, ANSWER_TIMEOUT)
    }

    /// The same with less patience for a request and the whole of its answer.
    ///
    /// # Errors
    /// [`HttpError::Setup`].
    pub fn with_timeout(app: &EntraApp, timeout: Duration) -> Result<Http, HttpError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = app.ca_file.as_deref().map_or(Ok(RootCerts::WebPki), read_authorities)?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(roots)
            .build();
        let proxy = if app.loopback.is_some() { None } else { proxy(app.proxy.as_deref())? };
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy)
            .https_only(app.loopback.is_none())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .timeout_global(Some(timeout))
            .max_response_header_size(HEADER_OCTETS_MAX)
            .max_idle_age(IDLE_MAX)
            .build()
            .new_agent();
        let hosts = [app.cloud.login_host(), app.cloud.graph_host()];
        Ok(Http { agent, hosts, loopback: app.loopback })
    }

    /// GET. The body may have so many octets and no more.
    ///
    /// # Errors
    /// [`HttpError`]; a status of 400 and above is none.
    pub fn get(&self, url: &str, headers: &[(&str, &str)], octets_max: u64) -> Result<Answer, HttpError> {
        let (host, address) = self.address(url)?;
        let request = self.agent.get(&address).header(header::HOST, &host);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answer(&host, request.call(), octets_max)
    }

    /// POST of a form (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn post_form(
        &self,
        url: &str,
        fields: &[(&str, &str)],
        octets_max: u64,
    ) -> Result<Answer, HttpError> {
        let (host, address) = self.address(url)?;
        let request = self.agent.post(&address).header(header::HOST, &host);
        answer(&host, request.send_form(fields.iter().copied()), octets_max)
    }

    /// The host that is meant, and the address asked for it: the same, or the loopback one that stands for it.
    fn address(&self, url: &str) -> Result<(String, String), HttpError> {
        let elsewhere = || HttpError::Elsewhere(url.split(['?', '#']).next().unwrap_or_default().to_owned());
        let uri: Uri = url.parse().map_err(|_| elsewhere())?;
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let bare = uri.authority().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(&host));
        if uri.scheme_str() != Some("https") || !bare || !self.hosts.contains(&host.as_str()) {
            return Err(elsewhere());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let address = match self.loopback {
            Some(loopback) => format!("http://{loopback}{path}"),
            None => format!("https://{host}{path}"),
        };
        Ok((host, address))
    }
}

fn answer(
    host: &str,
    response: Result<Response<Body>, ureq::Error>,
    octets_max: u64,
) -> Result<Answer, HttpError> {
    let mut response = response.map_err(|error| no_answer(host, &error))?;
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let date = text(header::DATE).and_then(http_date);
    let retry_after = text(header::RETRY_AFTER).and_then(|wait| patience(wait, date));
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let read = response.body_mut().as_reader().take(octets_max.saturating_add(1)).read_to_end(&mut body);
    if let Err(error) = read {
        return Err(HttpError::Cut(format!("{host} broke off after {} octets: {error}", body.len())));
    }
    if body.len() as u64 > octets_max {
        return Err(HttpError::TooLong(octets_max));
    }
    Ok(Answer { status, retry_after, date, body })
}

fn no_answer(host: &str, error: &ureq::Error) -> HttpError {
    use ureq::Error;
    match error {
        Error::Timeout(_) => HttpError::Unreachable(format!("{host} did not answer in time ({error})")),
        Error::HostNotFound => HttpError::Unreachable(format!("{host} has no address")),
        Error::Io(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            HttpError::Unreachable(format!("{host} broke off before it answered"))
        }
        Error::Io(cause) if is_about_certificates(cause) => untrusted(host, cause),
        Error::Rustls(cause) => untrusted(host, cause),
        Error::Io(cause) => HttpError::Unreachable(format!("{host}: {cause}")),
        Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::Http(_) => {
            HttpError::Cut(format!("{host} answered with what is not HTTP: {error}"))
        }
        Error::ConnectProxyFailed(said) => HttpError::Unreachable(format!(
            "the proxy does not let us through to {host}: {}",
            Untrusted(said)
        )),
        other => HttpError::Unreachable(format!("{host}: {other}")),
    }
}

fn is_about_certificates(cause: &io::Error) -> bool {
    cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn untrusted(host: &str, cause: &dyn fmt::Display) -> HttpError {
    HttpError::Unreachable(format!(
        "{host}: TLS failed: {cause}. Where a proxy looks into TLS, ca_file must name its authority"
    ))
}

/// Whole certificates are needed here, where [`Authorities`] keeps what it needs of them: that it reads them all is the check.
fn read_authorities(path: &Path) -> Result<RootCerts, HttpError> {
    let bad = |error: &dyn fmt::Display| HttpError::Setup(format!("ca_file: {error}"));
    Authorities::read(path).map_err(|error| bad(&error))?;
    let pem = tls::read_file(path).map_err(|error| bad(&error))?;
    let certificates = CertificateDer::pem_slice_iter(&pem);
    let certificates =
        certificates.map(|certificate| certificate.map(|der| Certificate::from_der(&der).to_owned()));
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| bad(&error))?;
    Ok(RootCerts::new_with_certs(&certificates))
}

/// The proxy of the configuration, or else of the environment; a bad one is not passed over, as requests would go another way.
fn proxy(configured: Option<&str>) -> Result<Option<Proxy>, HttpError> {
    let variable = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok());
    let (text, place) = match configured {
        Some(text) => (text.to_owned(), "proxy"),
        None => match variable(["HTTPS_PROXY", "https_proxy"]).filter(|text| !text.is_empty()) {
            Some(text) => (text, "HTTPS_PROXY"),
            None => return Ok(None),
        },
    };
    // What is wrong is not shown: it may hold a password.
    let bad = |_| HttpError::Setup(format!("{place} is not http://host:port"));
    let named = Proxy::new(&text).map_err(bad)?;
    if configured.is_some() {
        return Ok(Some(named));
    }
    let mut proxy = Proxy::builder(named.protocol()).host(named.host()).port(named.port());
    if let Some(user) = named.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = named.password() {
        proxy = proxy.password(password);
    }
    for around in variable(["NO_PROXY", "no_proxy"]).unwrap_or_default().split(',') {
        let around = around.trim();
        if !around.is_empty() {
            proxy = proxy.no_proxy(around);
        }
    }
    proxy.build().map(Some).map_err(bad)
}

/// RFC 9110 section 5.6.7, as everybody writes it today.
fn http_date(text: &str) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Timestamp::from_unix_ms(time.unix_timestamp().saturating_mul(1_000)))
}

/// RFC 9110 section 10.2.3: seconds, or a date, which counts from the far side's own clock.
fn patience(text: &str, date: Option<Timestamp>) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let from = date.unwrap_or_else(crate::observe::now);
            let until = http_date(text)?.unix_ms().saturating_sub(from.unix_ms());
            Duration::from_millis(u64::try_from(until).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}
