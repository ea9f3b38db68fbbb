//! `[[puller]]`: an external mail account that reports which could not be delivered are fetched from.

use super::entra::EntraApp;
use super::secret::SecretSource;
use std::path::PathBuf;

/// Most `[[puller]]` sections: each is a connection and a task.
pub const PULLERS_MAX: usize = 32;
/// `every_minutes` unless told otherwise.
pub const PULL_EVERY_MINUTES: u32 = 5;

/// One `[[puller]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puller {
    /// `name`: what logs and its state file call it: letters, digits, `-`, `_`, `.`; at most 64. Required, no two the same.
    pub name: String,
    /// `mailbox`: the gateway mailbox it fetches into, by login (local part) or whole address; its role must be `ndr`. Required.
    pub mailbox: String,
    /// `protocol`. Default `"imaps"`.
    pub protocol: PullProtocol,
    /// `host`: name, as in its certificate. Required.
    pub host: String,
    /// `port`. Default 993 or 995.
    pub port: u16,
    /// `ca_file`: PEM file of the authorities to trust instead of the public ones. Default: absent.
    pub ca_file: Option<PathBuf>,
    /// `login`: account name. Required.
    pub login: String,
    /// How it logs in. Required.
    pub credential: PullCredential,
    /// `folder`: of an IMAP account. Default `"INBOX"`.
    pub folder: String,
    /// `after`: what becomes of a message when it is stored here. Default `"delete"`.
    pub after: PullAfter,
    /// `every_minutes`: how often it looks, with a tenth of it more or less. 1 to 1440. Default 5.
    pub every_minutes: u32,
}

/// The protocol of an account. Both are TLS from the first octet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullProtocol {
    /// `"imaps"`
    #[default]
    Imaps,
    /// `"pop3s"`
    Pop3s,
}

impl PullProtocol {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PullProtocol::Imaps => "imaps",
            PullProtocol::Pop3s => "pop3s",
        }
    }

    /// The port unless told otherwise.
    pub fn port(self) -> u16 {
        match self {
            PullProtocol::Imaps => 993,
            PullProtocol::Pop3s => 995,
        }
    }
}

/// How a puller logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullCredential {
    /// `password_file`, `password_env` or `password_credential`.
    Password(SecretSource),
    /// `auth = "xoauth2"` with the keys of an application: a token of its own.
    Xoauth2 {
        /// The application.
        app: Box<EntraApp>,
        /// `scope`. Default `"https://outlook.office365.com/.default"`.
        scope: String,
    },
}

/// What becomes of a message at the account when it is stored here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullAfter {
    /// `"delete"`
    #[default]
    Delete,
    /// `"mark"`: as seen; `"imaps"` alone.
    Mark,
    /// `"keep"`: what was fetched is known by its UID alone.
    Keep,
}

impl PullAfter {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PullAfter::Delete => "delete",
            PullAfter::Mark => "mark",
            PullAfter::Keep => "keep",
        }
    }
}
