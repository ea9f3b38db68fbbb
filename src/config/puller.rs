//! `[[puller]]`: an external mail account that reports which could not be delivered are fetched from.

use super::check::Reader;
use super::directory::Names;
use super::entra::EntraApp;
use super::secret::{CLIENT_SECRET, PASSWORD, SecretSource};
use super::section::{At, Section};
use super::settings::{Toml, path, text};
use std::collections::HashMap;
use std::path::PathBuf;

/// Most `[[puller]]` sections: each is a connection and a task.
pub const PULLERS_MAX: usize = 32;
/// `every_minutes` unless told otherwise.
pub const PULL_EVERY_MINUTES: u32 = 5;

/// Largest `every_minutes`: a day.
const PULL_EVERY_MINUTES_MAX: u64 = 1_440;
/// `folder` unless told otherwise.
const FOLDER: &str = "INBOX";
/// `scope` unless told otherwise.
const SCOPE: &str = "https://outlook.office365.com/.default";
/// Longest `login`, `folder` and `scope`, in octets.
const LOGIN_OCTETS_MAX: usize = 255;
const FOLDER_OCTETS_MAX: usize = 255;
const SCOPE_OCTETS_MAX: usize = 255;
/// How a section calls the authorities of where tokens come from: `ca_file` is those of the account.
const TOKEN_CA_FILE: &str = "token_ca_file";
/// Where the accounts of Microsoft 365 are, in all its clouds.
const MICROSOFT_365: [&str; 5] = ["outlook.com", "office365.com", "office.com", "office365.us", "outlook.cn"];

/// One `[[puller]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puller {
    /// `name`: what logs and its state file call it: letters, digits, `-`, `_`, `.`, the first a letter or
    /// digit; at most 64. Required, no two the same, whatever the case.
    pub name: String,
    /// `mailbox`: the gateway mailbox it fetches into, by login (local part) or whole address; its role must be `ndr`. Required.
    pub mailbox: String,
    /// `protocol`. Default `"imaps"`.
    pub protocol: PullProtocol,
    /// `host`: name, as in its certificate, or IP address. Required.
    pub host: String,
    /// `port`. Default 993 or 995.
    pub port: u16,
    /// `ca_file`: PEM file of the authorities to trust instead of the public ones. Default: absent.
    pub ca_file: Option<PathBuf>,
    /// `login`: account name. Required.
    pub login: String,
    /// How it logs in. Required.
    pub credential: PullCredential,
    /// `folder`: of an IMAP account; `"imaps"` alone. Default `"INBOX"`.
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
    const ALL: [PullProtocol; 2] = [PullProtocol::Imaps, PullProtocol::Pop3s];

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
    /// `auth = "password"`, the default: `password_file`, `password_env` or `password_credential`.
    Password(SecretSource),
    /// `auth = "xoauth2"` with the keys of an application: a token of its own.
    Xoauth2 {
        /// The application. Its `ca_file` is `token_ca_file` here.
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
    const ALL: [PullAfter; 3] = [PullAfter::Delete, PullAfter::Mark, PullAfter::Keep];

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PullAfter::Delete => "delete",
            PullAfter::Mark => "mark",
            PullAfter::Keep => "keep",
        }
    }
}

impl Puller {
    pub(super) fn to_toml(&self, out: &mut Toml) {
        out.section("[[puller]]");
        out.key("name", text(&self.name));
        out.key("mailbox", text(&self.mailbox));
        out.key("protocol", text(self.protocol.as_str()));
        out.key("host", text(&self.host));
        out.key("port", self.port);
        if let Some(file) = &self.ca_file {
            out.key("ca_file", path(file));
        }
        out.key("login", text(&self.login));
        match &self.credential {
            PullCredential::Password(password) => {
                out.key("auth", text(Auth::Password.as_str()));
                password.to_toml(&PASSWORD, out);
            }
            PullCredential::Xoauth2 { app, scope } => {
                out.key("auth", text(Auth::Xoauth2.as_str()));
                app.to_toml(TOKEN_CA_FILE, out);
                out.key("scope", text(scope));
            }
        }
        if self.protocol == PullProtocol::Imaps {
            out.key("folder", text(&self.folder));
        }
        out.key("after", text(self.after.as_str()));
        out.key("every_minutes", self.every_minutes);
    }

    /// True when its account is in Microsoft 365.
    pub fn is_microsoft_365(&self) -> bool {
        let host = self.host.to_ascii_lowercase();
        MICROSOFT_365.iter().any(|domain| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// What an operator should know about it.
    pub(super) fn notices(&self) -> Vec<String> {
        let place = format!("[[puller]] {}", self.name);
        let mut notices = Vec::new();
        if self.is_microsoft_365() {
            notices.push(format!(
                "{place} fetches from {}, which is in Microsoft 365: Microsoft does not support an NDR mailbox there, and what \
                 it cannot deliver to it is lost; keep it with another provider, or at another Daybook",
                self.host
            ));
        }
        if let PullCredential::Xoauth2 { app, .. } = &self.credential {
            notices.extend(app.notice(&place));
        }
        notices
    }
}

/// `auth`, which says which keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auth {
    Password,
    Xoauth2,
}

impl Auth {
    const ALL: [Auth; 2] = [Auth::Password, Auth::Xoauth2];

    fn as_str(self) -> &'static str {
        match self {
            Auth::Password => "password",
            Auth::Xoauth2 => "xoauth2",
        }
    }
}

/// Keys of the ways to log in, for whoever gives them with the other one.
const PASSWORD_KEYS: [&str; 3] = [PASSWORD.file, PASSWORD.env, PASSWORD.credential];
const XOAUTH2_KEYS: [&str; 14] = [
    "cloud",
    "tenant",
    "client_id",
    CLIENT_SECRET.file,
    CLIENT_SECRET.env,
    CLIENT_SECRET.credential,
    "secret_expires",
    "certificate",
    "private_key",
    "assertion",
    "proxy",
    TOKEN_CA_FILE,
    "loopback",
    "scope",
];

impl Reader<'_> {
    pub(super) fn pullers(&mut self, sections: Vec<Section<'_, '_>>) -> Vec<Puller> {
        if let Some(first_too_many) = sections.get(PULLERS_MAX) {
            let message = format!("more than {PULLERS_MAX} [[puller]] sections");
            self.problems.add(first_too_many.line(), message);
        }
        let mut names = Names::default();
        let mut accounts = HashMap::new();
        let read = |section| self.puller(section, &mut names, &mut accounts);
        sections.into_iter().filter_map(read).collect()
    }

    fn puller(
        &mut self,
        mut section: Section<'_, '_>,
        names: &mut Names,
        accounts: &mut HashMap<Account, usize>,
    ) -> Option<Puller> {
        let name = section.required("name", "what logs and commands call it", self.problems);
        let name = name.and_then(|given| self.own_name(&section, given, names));
        let mailbox = section.required("mailbox", "the NDR mailbox here that it fetches into", self.problems);
        let mailbox = mailbox.and_then(|given| self.mailbox(&section, "mailbox", given));
        let protocol = section.string("protocol", self.problems);
        let known = PullProtocol::ALL.map(|value| (value.as_str(), value));
        let protocol = protocol.and_then(|given| self.choice(&section, "protocol", &given, &known));
        let protocol = protocol.unwrap_or_default();
        let host = section.required("host", "where the account is", self.problems);
        let host = host.and_then(|given| self.host(&section, "host", given));
        let port = self.bounded(&mut section, "port", 1..=u64::from(u16::MAX), "for a port", protocol.port());
        let ca_file = section.string("ca_file", self.problems);
        let ca_file = ca_file.and_then(|file| self.path(&section, "ca_file", file));
        let login = section.required("login", "the name of the account", self.problems);
        let login = login.and_then(|given| self.plain(&section, "login", given, LOGIN_OCTETS_MAX));
        let auth = self.pull_auth(&mut section);
        let credential = auth.and_then(|auth| self.pull_credential(&mut section, auth));
        let folder = self.pulled_folder(&mut section, protocol);
        let after = self.pull_after(&mut section, protocol);
        let minutes = 1..=PULL_EVERY_MINUTES_MAX;
        let every_minutes =
            self.bounded(&mut section, "every_minutes", minutes, "minutes", PULL_EVERY_MINUTES);
        if auth.is_some() {
            section.finish(self.problems);
        }
        let puller = Puller {
            name: name?,
            mailbox: mailbox?,
            protocol,
            host: host?,
            port,
            ca_file,
            login: login?,
            credential: credential?,
            folder,
            after,
            every_minutes,
        };
        self.one_puller_an_account(&section, &puller, accounts);
        Some(puller)
    }

    /// `None` when it is none that is known: then it is not known which keys there are.
    fn pull_auth(&mut self, section: &mut Section<'_, '_>) -> Option<Auth> {
        let Some(given) = section.string("auth", self.problems) else {
            return (!section.has("auth")).then_some(Auth::Password);
        };
        let known = Auth::ALL.map(|value| (value.as_str(), value));
        self.choice(section, "auth", &given, &known)
    }

    fn pull_credential(&mut self, section: &mut Section<'_, '_>, auth: Auth) -> Option<PullCredential> {
        let (other, keys): (_, &[&'static str]) = match auth {
            Auth::Password => (Auth::Xoauth2, &XOAUTH2_KEYS),
            Auth::Xoauth2 => (Auth::Password, &PASSWORD_KEYS),
        };
        for key in keys {
            section.hint(key, format!("it goes with auth = \"{}\"", other.as_str()));
        }
        if auth == Auth::Password {
            let what = "the file that holds the password of the account";
            return self.required_secret(section, &PASSWORD, what).map(PullCredential::Password);
        }
        let scope = section.string("scope", self.problems);
        let scope = scope.and_then(|given| self.scope(section, given));
        let app = self.entra_app(section, TOKEN_CA_FILE);
        Some(PullCredential::Xoauth2 {
            app: Box::new(app?),
            scope: scope.unwrap_or_else(|| SCOPE.to_owned()),
        })
    }

    fn scope(&mut self, section: &Section<'_, '_>, given: At<String>) -> Option<String> {
        let line = given.line;
        let scope = self.plain(section, "scope", given, SCOPE_OCTETS_MAX)?;
        let resource = scope.strip_prefix("https://").and_then(|rest| rest.strip_suffix("/.default"));
        if resource.is_none_or(|resource| resource.is_empty() || resource.contains([' ', '/'])) {
            section.bad_value("scope", line, &format!("must be like \"{SCOPE}\""), self.problems);
        }
        Some(scope)
    }

    fn pulled_folder(&mut self, section: &mut Section<'_, '_>, protocol: PullProtocol) -> String {
        if protocol == PullProtocol::Pop3s {
            section.hint("folder", "it goes with protocol = \"imaps\"".to_owned());
            return FOLDER.to_owned();
        }
        let folder = section.string("folder", self.problems);
        let folder = folder.and_then(|given| self.plain(section, "folder", given, FOLDER_OCTETS_MAX));
        folder.unwrap_or_else(|| FOLDER.to_owned())
    }

    fn pull_after(&mut self, section: &mut Section<'_, '_>, protocol: PullProtocol) -> PullAfter {
        let Some(given) = section.string("after", self.problems) else { return PullAfter::default() };
        let known = PullAfter::ALL.map(|value| (value.as_str(), value));
        let after = self.choice(section, "after", &given, &known).unwrap_or_default();
        if after == PullAfter::Mark && protocol == PullProtocol::Pop3s {
            let why = "\"mark\" goes with protocol = \"imaps\": over POP3 nothing can be marked";
            section.bad_value("after", given.line, why, self.problems);
        }
        after
    }

    /// Two that take from one account would each get some of it.
    fn one_puller_an_account(
        &mut self,
        section: &Section<'_, '_>,
        puller: &Puller,
        accounts: &mut HashMap<Account, usize>,
    ) {
        let line = section.line().unwrap_or(1);
        let account =
            (puller.host.to_ascii_lowercase(), puller.port, puller.login.clone(), puller.folder.clone());
        if let Some(first) = accounts.insert(account, line) {
            let why = format!("the same account is fetched by the [[puller]] of line {first}");
            section.bad_value("login", line, &why, self.problems);
        }
    }
}

/// Host, port, login and folder.
type Account = (String, u16, String, String);
