//! An application of a Microsoft Entra tenant: who asks for users, or reads an NDR mailbox, and how it proves who it is.

use super::check::Reader;
use super::secret::{CLIENT_SECRET, SecretSource};
use super::section::{At, Section};
use super::settings::{Toml, path, text};
use crate::mail::{Timestamp, Untrusted};
use std::net::SocketAddr;
use std::path::PathBuf;

const DAY_SECONDS: i64 = 86_400;
/// Names that stand for any tenant: an application acts in one.
const NO_TENANT: [&str; 3] = ["common", "organizations", "consumers"];

/// An application registered in a tenant, which acts by itself (client credentials).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraApp {
    /// `cloud`. Default `"global"`.
    pub cloud: Cloud,
    /// `tenant`: directory (tenant) id, or a domain of the tenant. Required.
    pub tenant: String,
    /// `client_id`: application (client) id. Required.
    pub client_id: String,
    /// How it proves who it is. Required.
    pub credential: EntraCredential,
    /// `proxy`: `http://host:port` that requests go through. Default: absent; then `HTTPS_PROXY` and `NO_PROXY` count.
    pub proxy: Option<String>,
    /// `ca_file`: PEM file of the authorities to trust instead of the public ones, as a proxy that looks into TLS needs. Default:
    /// absent.
    pub ca_file: Option<PathBuf>,
    /// `loopback`: port on this host that stands for every host of the cloud, in clear; for tests. Must be a loopback address.
    /// Default: absent.
    pub loopback: Option<SocketAddr>,
}

/// How an application proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntraCredential {
    /// `secret_file`, `secret_env` or `secret_credential`.
    Secret {
        /// Where it is.
        secret: SecretSource,
        /// `secret_expires`: the day the portal says it ends, `"2027-03-01"`, as days since 1970-01-01. Default: absent; then
        /// Graph is asked where the application may read itself.
        expires_day: Option<u32>,
    },
    /// `certificate` and `private_key`.
    Certificate {
        /// `certificate`: PEM file that was uploaded for the application.
        certificate: PathBuf,
        /// `private_key`: PEM file with its key, which its group and others must not be able to read.
        private_key: PathBuf,
        /// `assertion`. Default `"ps256"`.
        assertion: Assertion,
    },
}

/// How the statement that stands for a secret is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assertion {
    /// `"ps256"`: RSA-PSS, the certificate named by its SHA-256 (`x5t#S256`).
    #[default]
    Ps256,
    /// `"rs256"`: RSA PKCS #1, the certificate named by its SHA-1 (`x5t`); for tenants that take no other.
    Rs256,
}

impl Assertion {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Assertion::Ps256 => "ps256",
            Assertion::Rs256 => "rs256",
        }
    }
}

/// Microsoft's clouds. Hosts follow from it and from nothing else: a free URL would send the secret anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// `"global"`: also GCC.
    #[default]
    Global,
    /// `"gcc-high"`: US government L4.
    GccHigh,
    /// `"dod"`: US government L5.
    Dod,
    /// `"21vianet"`: China.
    China,
}

impl Cloud {
    /// Every value.
    pub const ALL: [Cloud; 4] = [Cloud::Global, Cloud::GccHigh, Cloud::Dod, Cloud::China];

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cloud::Global => "global",
            Cloud::GccHigh => "gcc-high",
            Cloud::Dod => "dod",
            Cloud::China => "21vianet",
        }
    }

    /// The host that issues tokens.
    pub fn login_host(self) -> &'static str {
        match self {
            Cloud::Global => "login.microsoftonline.com",
            Cloud::GccHigh | Cloud::Dod => "login.microsoftonline.us",
            Cloud::China => "login.partner.microsoftonline.cn",
        }
    }

    /// What a token for Microsoft Graph is asked for.
    pub fn graph_scope(self) -> String {
        format!("https://{}/.default", self.graph_host())
    }

    /// The host of Microsoft Graph.
    pub fn graph_host(self) -> &'static str {
        match self {
            Cloud::Global => "graph.microsoft.com",
            Cloud::GccHigh => "graph.microsoft.us",
            Cloud::Dod => "dod-graph.microsoft.us",
            Cloud::China => "microsoftgraph.chinacloudapi.cn",
        }
    }
}

/// A day written `2027-03-01`, as days since 1970-01-01.
fn read_day(text: &str) -> Option<u32> {
    let midnight = Timestamp::parse(&format!("{text}T00:00:00Z"))?;
    let day = u32::try_from(midnight.unix_seconds().div_euclid(DAY_SECONDS)).ok()?;
    // Years before 1970 would be taken for it.
    (written_day(day) == text).then_some(day)
}

/// As the file writes it.
fn written_day(day: u32) -> String {
    let midnight = Timestamp::from_unix_ms(i64::from(day) * DAY_SECONDS * 1_000).to_string();
    midnight.split('T').next().unwrap_or_default().to_owned()
}

impl EntraApp {
    /// What an operator should know about that of `place`.
    pub(super) fn notice(&self, place: &str) -> Option<String> {
        let EntraCredential::Secret { expires_day: None, .. } = &self.credential else { return None };
        Some(format!(
            "{place} has a secret without secret_expires: unless the application may read itself, nobody is warned before the \
             day it ends"
        ))
    }

    /// `ca_key`: how the section calls the application's own `ca_file`.
    pub(super) fn to_toml(&self, ca_key: &str, out: &mut Toml) {
        out.key("cloud", text(self.cloud.as_str()));
        out.key("tenant", text(&self.tenant));
        out.key("client_id", text(&self.client_id));
        match &self.credential {
            EntraCredential::Secret { secret, expires_day } => {
                secret.to_toml(&CLIENT_SECRET, out);
                if let Some(day) = expires_day {
                    out.key("secret_expires", text(written_day(*day)));
                }
            }
            EntraCredential::Certificate { certificate, private_key, assertion } => {
                out.key("certificate", path(certificate));
                out.key("private_key", path(private_key));
                out.key("assertion", text(assertion.as_str()));
            }
        }
        if let Some(proxy) = &self.proxy {
            out.key("proxy", text(proxy));
        }
        if let Some(file) = &self.ca_file {
            out.key(ca_key, path(file));
        }
        if let Some(loopback) = self.loopback {
            out.key("loopback", text(loopback));
        }
    }
}

impl Reader<'_> {
    /// The keys of an application; `ca_key` is what the section calls its `ca_file`.
    pub(super) fn entra_app(
        &mut self,
        section: &mut Section<'_, '_>,
        ca_key: &'static str,
    ) -> Option<EntraApp> {
        let cloud = section.string("cloud", self.problems);
        let known = Cloud::ALL.map(|value| (value.as_str(), value));
        let cloud = cloud.and_then(|given| self.choice(section, "cloud", &given, &known));
        let tenant = section.required("tenant", "the directory (tenant) id", self.problems);
        let tenant = tenant.and_then(|given| self.tenant(section, given));
        let client_id = section.required("client_id", "the application (client) id", self.problems);
        let client_id = client_id.and_then(|given| self.client_id(section, given));
        let credential = self.entra_credential(section);
        let proxy = section.string("proxy", self.problems);
        let proxy = proxy.and_then(|given| self.proxy(section, given));
        let ca_file = section.string(ca_key, self.problems);
        let ca_file = ca_file.and_then(|file| self.path(section, ca_key, file));
        let loopback = section.string("loopback", self.problems);
        let loopback = loopback.and_then(|given| self.loopback(section, &given));
        Some(EntraApp {
            cloud: cloud.unwrap_or_default(),
            tenant: tenant?,
            client_id: client_id?,
            credential: credential?,
            proxy,
            ca_file,
            loopback,
        })
    }

    fn tenant(&mut self, section: &Section<'_, '_>, given: At<String>) -> Option<String> {
        let tenant = given.value.to_ascii_lowercase();
        let is_good = super::is_host_name(&tenant) && !NO_TENANT.contains(&tenant.as_str());
        if !is_good {
            let why = format!(
                "\"{}\" is neither the id of a tenant nor one of its domains",
                Untrusted(&given.value)
            );
            section.bad_value("tenant", given.line, &why, self.problems);
        }
        is_good.then_some(tenant)
    }

    fn client_id(&mut self, section: &Section<'_, '_>, given: At<String>) -> Option<String> {
        // What is here by mistake may be the secret, so it is not repeated.
        let id = uuid::Uuid::try_parse(&given.value).ok().map(|id| id.hyphenated().to_string());
        if id.is_none() {
            let why = "must be the application (client) id, like \"00000000-0000-0000-0000-000000000000\"";
            section.bad_value("client_id", given.line, why, self.problems);
        }
        id
    }

    fn entra_credential(&mut self, section: &mut Section<'_, '_>) -> Option<EntraCredential> {
        let by_secret = CLIENT_SECRET.given(section);
        let by_certificate: Vec<&str> =
            ["certificate", "private_key", "assertion"].into_iter().filter(|key| section.has(key)).collect();
        let secret = self.secret(section, &CLIENT_SECRET);
        let expires = section.day("secret_expires", self.problems);
        let certificate = section.string("certificate", self.problems);
        let private_key = section.string("private_key", self.problems);
        let assertion = section.string("assertion", self.problems);
        let known = [Assertion::Ps256, Assertion::Rs256].map(|value| (value.as_str(), value));
        let assertion = assertion.and_then(|given| self.choice(section, "assertion", &given, &known));
        let expires_day = expires.as_ref().and_then(|given| self.expiry(section, given));
        match (by_secret.first(), by_certificate.first()) {
            (Some(secret_key), Some(certificate_key)) => {
                let why = format!(
                    "goes with a certificate; there is \"{secret_key}\" as well: one of them must go"
                );
                let line = section.line().unwrap_or(1);
                section.bad_value(certificate_key, line, &why, self.problems);
                None
            }
            (Some(_), None) => Some(EntraCredential::Secret { secret: secret?, expires_day }),
            (None, Some(_)) => {
                if let Some(expires) = expires {
                    let why = "goes with a secret; a certificate says itself when it ends";
                    section.bad_value("secret_expires", expires.line, why, self.problems);
                }
                for key in ["certificate", "private_key"].into_iter().filter(|key| !section.has(key)) {
                    let what =
                        "certificate and private key go together: \"daybook credential create\" makes both";
                    section.missing(key, what, self.problems);
                }
                let certificate = certificate.and_then(|file| self.path(section, "certificate", file));
                let private_key = private_key.and_then(|file| self.path(section, "private_key", file));
                Some(EntraCredential::Certificate {
                    certificate: certificate?,
                    private_key: private_key?,
                    assertion: assertion.unwrap_or_default(),
                })
            }
            (None, None) => {
                let what = format!(
                    "with \"private_key\", how the application proves who it is; or {}",
                    CLIENT_SECRET.named()
                );
                section.missing("certificate", &what, self.problems);
                None
            }
        }
    }

    fn expiry(&mut self, section: &Section<'_, '_>, given: &At<String>) -> Option<u32> {
        let day = read_day(&given.value);
        if day.is_none() {
            let why = format!("\"{}\" is no day like \"2027-03-01\"", Untrusted(&given.value));
            section.bad_value("secret_expires", given.line, &why, self.problems);
        }
        day
    }

    fn proxy(&mut self, section: &Section<'_, '_>, given: At<String>) -> Option<String> {
        let mut bad = |why: &str| section.bad_value("proxy", given.line, why, self.problems);
        let Some(place) = given.value.strip_prefix("http://") else {
            bad("must be like \"http://proxy.example.com:3128\"");
            return None;
        };
        if place.contains('@') {
            bad(
                "holds a password, which does not stand in the configuration: the proxy must know this host by its address",
            );
            return None;
        }
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
        let is_address = place.parse::<SocketAddr>().is_ok();
        let is_port =
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        let is_good = is_address || (is_port && super::is_host_name(host));
        if !is_good {
            bad("must name host and port, like \"http://proxy.example.com:3128\"");
            return None;
        }
        Some(format!("http://{place}"))
    }

    fn loopback(&mut self, section: &Section<'_, '_>, given: &At<String>) -> Option<SocketAddr> {
        let address = self.address(section, "loopback", given)?;
        if !address.ip().is_loopback() {
            let why = format!("{address} is not on this host: what goes there is in clear");
            section.bad_value("loopback", given.line, &why, self.problems);
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_back_as_written() {
        for (text, day) in
            [("1970-01-01", 0), ("1970-01-02", 1), ("2000-03-01", 11_017), ("2028-02-29", 21_243)]
        {
            assert_eq!(read_day(text), Some(day), "{text}");
            assert_eq!(written_day(day), text);
        }
        for text in
            ["", "2027-3-1", "2027-02-29", "1969-12-31", "+2027-03-01", "2027-03-01T00:00:00", "01.03.2027"]
        {
            assert_eq!(read_day(text), None, "{text}");
        }
    }
}
