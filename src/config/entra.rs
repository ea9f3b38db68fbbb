//! An application of a Microsoft Entra tenant: who asks for users, or reads an NDR mailbox, and how it proves who it is.

use super::secret::SecretSource;
use std::net::SocketAddr;
use std::path::PathBuf;

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
