//! The credentials of applications in Microsoft Entra ID that the configuration names: which there are, when they end, and trying
//! them out.

mod tried;

pub(in crate::admin) use tried::{Depth, examine};
pub use tried::{TriedView, try_out};

use crate::config::{DirectoryKind, EntraApp, EntraCredential, PullCredential, Settings};
use crate::entra::credential::{Expiry, local_expiry};
use crate::mail::Timestamp;
use serde::Serialize;

/// A credential the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Of the source of users, or the puller.
    pub name: String,
    /// What it is for.
    pub used_by: UsedBy,
    /// Whose it is.
    pub app: EntraApp,
    /// What tokens are asked for.
    pub scope: String,
}

/// What a credential is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsedBy {
    /// Reading users.
    Directory {
        /// And groups.
        groups: bool,
    },
    /// Fetching mail.
    Puller,
}

impl UsedBy {
    /// The stable name used in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            UsedBy::Directory { .. } => "directory",
            UsedBy::Puller => "puller",
        }
    }
}

impl Configured {
    /// `certificate` or `secret`.
    pub fn kind(&self) -> &'static str {
        match self.app.credential {
            EntraCredential::Secret { .. } => "secret",
            EntraCredential::Certificate { .. } => "certificate",
        }
    }
}

/// Every credential of an application, in the order of the configuration: sources of users, then pullers.
pub fn configured(settings: &Settings) -> Vec<Configured> {
    let sources = settings.directories.iter().filter_map(|source| match &source.kind {
        DirectoryKind::Graph(graph) => Some(Configured {
            name: source.name.clone(),
            used_by: UsedBy::Directory {
                groups: source.filters.groups.is_some() || source.filters.include_groups,
            },
            app: graph.app.clone(),
            scope: graph.app.cloud.graph_scope(),
        }),
        _ => None,
    });
    let pullers = settings.pullers.iter().filter_map(|puller| match &puller.credential {
        PullCredential::Xoauth2 { app, scope } => Some(Configured {
            name: puller.name.clone(),
            used_by: UsedBy::Puller,
            app: (**app).clone(),
            scope: scope.clone(),
        }),
        PullCredential::Password(_) => None,
    });
    sources.chain(pullers).collect()
}

/// A credential, as `daybook credential list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CredentialView {
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
    /// When it ends, as far as that is known without asking anybody.
    pub ends: Option<Timestamp>,
    /// How that is known.
    pub known_by: Option<&'static str>,
    /// Why it cannot be read.
    pub error: Option<String>,
}

/// Every credential with its end, without asking anybody. Blocks on the disk.
pub fn list(settings: &Settings) -> Vec<CredentialView> {
    let view = |credential: Configured| {
        let (expiry, error) = match local_expiry(&credential.app) {
            Ok(expiry) => (expiry, None),
            Err(error) => (None, Some(error)),
        };
        CredentialView {
            used_by: credential.used_by.as_str(),
            kind: credential.kind(),
            tenant: credential.app.tenant,
            client_id: credential.app.client_id,
            name: credential.name,
            ends: expiry.as_ref().map(|expiry| expiry.ends),
            known_by: expiry.map(|Expiry { known_by, .. }| known_by.as_str()),
            error,
        }
    };
    configured(settings).into_iter().map(view).collect()
}
