//! The checked settings: every key of the file, its meaning, unit and default.

use super::alerts::{Alerts, RelaySecurity};
use super::assign::Assign;
use super::directory::DirectorySource;
use super::exchange::Exchange;
use super::keys::Keys;
use super::puller::Puller;
use super::smtp::Smtp;
use super::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Smallest `max_message_bytes`: what every SMTP server must take (RFC 5321 §4.5.3.1.7).
pub const MESSAGE_BYTES_MIN: u64 = 64 * 1024;

/// Largest `max_message_bytes`: seven times the largest message Exchange Online sends, and below the 31 bits that
/// old POP3 clients keep sizes in.
pub const MESSAGE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

const POP3_LISTEN: &str = "[::]:110";
const POP3_LISTEN_TLS: &str = "[::]:995";
const IMAP_LISTEN: &str = "[::]:143";
const IMAP_LISTEN_TLS: &str = "[::]:993";
const HTTP_LISTEN: &str = "127.0.0.1:8450";
/// `[log] rotate_bytes` unless told otherwise: 100 MiB.
const LOG_ROTATE_BYTES: u64 = 100 * 1024 * 1024;
/// `[log] rotate_days` unless told otherwise.
const LOG_ROTATE_DAYS: u32 = 1;
/// `[log] keep` unless told otherwise: two weeks of days.
const LOG_KEEP: u32 = 14;

/// Everything the file can say, checked. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `hostname`: the name in greetings and the certificate. Required.
    pub hostname: String,
    /// `domains`: right-hand sides of gateway mailbox addresses, ASCII lower-cased. The first is used for new
    /// ones. Required, at least one.
    pub domains: Vec<String>,
    /// `data_dir`: the folder everything is kept in; made when it is not there. Required. Absolute when the
    /// file was named so or read by [`load`](super::load).
    pub data_dir: PathBuf,
    /// `[tls]`. Default: absent, and a self-signed pair is made in `data_dir`, with a warning at every start.
    pub tls: Option<TlsFiles>,
    /// `[smtp]`.
    pub smtp: Smtp,
    /// `[exchange]`.
    pub exchange: Exchange,
    /// `[pop3]`.
    pub pop3: Pop3,
    /// `[imap]`; `None` when the file has no such section: then the defaults hold, see [`Settings::imap_listen`].
    pub imap: Option<Imap>,
    /// `[http]`; `None` when the file has no such section: then the default is listened on if it is free, and it is no more
    /// than a warning when it is not. What a section says must work, as for every other service.
    pub http: Option<Http>,
    /// `[log]`.
    pub log: Log,
    /// `[assign]`.
    pub assign: Assign,
    /// `[keys]`.
    pub keys: Keys,
    /// `[store]`.
    pub store: Store,
    /// `[alerts]`.
    pub alerts: Alerts,
    /// `[[directory]]`, in the order of the file. Default: none, and nobody is known, so that every message is
    /// kept under Unassigned.
    pub directories: Vec<DirectorySource>,
    /// `[[puller]]`. Default: none.
    pub pullers: Vec<Puller>,
}

/// The certificate to show in TLS. Both keys or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// `certificate`: PEM file with the certificate and its intermediates, leaf first.
    pub certificate: PathBuf,
    /// `private_key`: PEM file with its key, which its group and others must not be able to read.
    pub private_key: PathBuf,
}

/// Fetching over POP3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pop3 {
    /// `listen`: addresses and ports where TLS begins with STLS, before any credential. `[]` turns it off.
    /// Default `["[::]:110"]`.
    pub listen: Vec<SocketAddr>,
    /// `listen_tls`: addresses and ports where TLS begins at once. `[]` turns it off. Default `["[::]:995"]`.
    pub listen_tls: Vec<SocketAddr>,
}

/// Fetching over IMAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imap {
    /// `listen`: addresses and ports where TLS begins with STARTTLS, before any credential. `[]` turns it off.
    /// Default `["[::]:143"]`.
    pub listen: Vec<SocketAddr>,
    /// `listen_tls`: addresses and ports where TLS begins at once. `[]` turns it off. Default `["[::]:993"]`.
    pub listen_tls: Vec<SocketAddr>,
}

/// Health and metrics, read-only and for whoever reaches the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `listen`: one address and port, or `"off"`, which is `None`. Default `"127.0.0.1:8450"`.
    pub listen: Option<SocketAddr>,
}

/// Largest `rotate_bytes`: what one file system may hold.
pub const LOG_ROTATE_BYTES_MAX: u64 = 1024 * 1024 * 1024 * 1024;
/// Smallest `rotate_bytes` but 0: some hundred lines.
pub const LOG_ROTATE_BYTES_MIN: u64 = 64 * 1024;
/// Largest `rotate_days`: a year.
pub const LOG_ROTATE_DAYS_MAX: u64 = 366;
/// Largest `keep`.
pub const LOG_KEEP_MAX: u64 = 10_000;

/// Logging, to standard error or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `format`: `"json"`, one object a line, or `"text"`. Default `"json"`.
    pub format: LogFormat,
    /// `level`: the least severe events written. Default `"info"`.
    pub level: LogLevel,
    /// `file`: the file to append to; standard error then gets only what the file did not take, and why the start failed.
    /// Its folder must be there. Default: absent, everything goes to standard error.
    pub file: Option<PathBuf>,
    /// `rotate_bytes`: a line that would make the file larger, in octets, begins a new one; 0 for never. 0, or
    /// [`LOG_ROTATE_BYTES_MIN`] to [`LOG_ROTATE_BYTES_MAX`]. Default 104857600 (100 MiB).
    pub rotate_bytes: u64,
    /// `rotate_days`: a new file is begun at midnight UTC every so many days; 0 for never. Up to
    /// [`LOG_ROTATE_DAYS_MAX`]. Default 1.
    pub rotate_days: u32,
    /// `keep`: files set aside that are kept, 1 to [`LOG_KEEP_MAX`]. Default 14.
    pub keep: u32,
}

/// `[log] format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// `[log] level`, most severe first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A person is needed.
    Error,
    /// Something odd, and it went on.
    Warn,
    /// Each step of a message's life.
    #[default]
    Info,
    /// Protocol detail.
    Debug,
    /// Everything.
    Trace,
}

impl LogFormat {
    /// Every value, as the file writes it.
    pub(crate) const ALL: [LogFormat; 2] = [LogFormat::Json, LogFormat::Text];

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        }
    }
}

impl LogLevel {
    /// Every value, most severe first.
    pub(crate) const ALL: [LogLevel; 5] =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Reads an address written in this file.
fn listener(text: &str) -> Vec<SocketAddr> {
    text.parse().into_iter().collect()
}

impl Default for Pop3 {
    fn default() -> Pop3 {
        Pop3 { listen: listener(POP3_LISTEN), listen_tls: listener(POP3_LISTEN_TLS) }
    }
}

impl Default for Imap {
    fn default() -> Imap {
        Imap { listen: listener(IMAP_LISTEN), listen_tls: listener(IMAP_LISTEN_TLS) }
    }
}

impl Default for Http {
    fn default() -> Http {
        Http { listen: HTTP_LISTEN.parse().ok() }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log {
            format: LogFormat::default(),
            level: LogLevel::default(),
            file: None,
            rotate_bytes: LOG_ROTATE_BYTES,
            rotate_days: LOG_ROTATE_DAYS,
            keep: LOG_KEEP,
        }
    }
}

impl Settings {
    /// The defaults, around what has none.
    pub fn with_defaults(hostname: &str, domains: &[&str], data_dir: &Path) -> Settings {
        Settings {
            hostname: hostname.to_owned(),
            domains: domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            data_dir: data_dir.to_owned(),
            tls: None,
            smtp: Smtp::default(),
            exchange: Exchange::default(),
            pop3: Pop3::default(),
            imap: None,
            http: None,
            log: Log::default(),
            assign: Assign::default(),
            keys: Keys::default(),
            store: Store::default(),
            alerts: Alerts::default(),
            directories: Vec::new(),
            pullers: Vec::new(),
        }
    }

    /// What an operator should know about a configuration that is nevertheless right, one sentence each.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        notices.extend(self.smtp.narrow_budget());
        if let Some(address) = self.http_listen().filter(|address| !address.ip().to_canonical().is_loopback())
        {
            notices.push(format!(
                "[http] listens on {address}: whoever reaches it reads health and metrics without a password"
            ));
        }
        if let Some(mail) = self.alerts.mail.as_ref().filter(|mail| mail.security == RelaySecurity::None) {
            notices.push(format!("[alerts] mail goes to {} in clear", mail.relay));
        }
        notices.extend(self.directories.iter().filter_map(DirectorySource::notice));
        notices.extend(self.pullers.iter().flat_map(Puller::notices));
        notices
    }

    /// Where IMAP is served. Without a section, where the defaults say; nobody asked for those, so that a start does without
    /// one that is taken.
    pub fn imap_listen(&self) -> Imap {
        self.imap.clone().unwrap_or_default()
    }

    /// Where health and metrics are served; `None` when they are turned off.
    pub fn http_listen(&self) -> Option<SocketAddr> {
        match &self.http {
            Some(http) => http.listen,
            None => Http::default().listen,
        }
    }

    /// Everything in force, defaults included, as a file that reads back to the same settings.
    ///
    /// A path that is not UTF-8 is shown with replacement characters, since TOML cannot hold it.
    pub fn to_toml(&self) -> String {
        let mut out = Toml::default();
        out.key("hostname", text(&self.hostname));
        out.key("domains", array(&self.domains));
        out.key("data_dir", path(&self.data_dir));
        if let Some(tls) = &self.tls {
            out.section("[tls]");
            out.key("certificate", path(&tls.certificate));
            out.key("private_key", path(&tls.private_key));
        }
        self.smtp.to_toml(&mut out);
        self.exchange.to_toml(&mut out);
        out.section("[pop3]");
        out.key("listen", array(&self.pop3.listen));
        out.key("listen_tls", array(&self.pop3.listen_tls));
        if let Some(imap) = &self.imap {
            out.section("[imap]");
            out.key("listen", array(&imap.listen));
            out.key("listen_tls", array(&imap.listen_tls));
        }
        if let Some(http) = &self.http {
            out.section("[http]");
            out.key("listen", http.listen.map_or(text("off"), text));
        }
        out.section("[log]");
        out.key("format", text(self.log.format.as_str()));
        out.key("level", text(self.log.level.as_str()));
        if let Some(file) = &self.log.file {
            out.key("file", path(file));
        }
        out.key("rotate_bytes", self.log.rotate_bytes);
        out.key("rotate_days", self.log.rotate_days);
        out.key("keep", self.log.keep);
        self.assign.to_toml(&mut out);
        self.keys.to_toml(&mut out);
        self.store.to_toml(&mut out);
        self.alerts_to_toml(&mut out);
        for source in &self.directories {
            source.to_toml(&mut out);
        }
        for puller in &self.pullers {
            puller.to_toml(&mut out);
        }
        out.0
    }

    fn alerts_to_toml(&self, out: &mut Toml) {
        out.section("[alerts]");
        if let Some(mail) = &self.alerts.mail {
            let to: Vec<&str> = mail.to.iter().map(|address| address.as_str()).collect();
            out.key("to", array(&to));
            out.key("from", text(mail.from.as_str()));
            out.key("relay", text(&mail.relay));
            out.key("port", mail.port);
            out.key("security", text(mail.security.as_str()));
            if let Some(login) = &mail.login {
                out.key("username", text(&login.username));
                out.key("password_file", path(&login.password_file));
            }
            if let Some(ca_file) = &mail.ca_file {
                out.key("ca_file", path(ca_file));
            }
        }
        out.key("daily_report_at", text(self.alerts.daily_report_at()));
        out.key("fetch_silence_hours", self.alerts.fetch_silence_hours);
        out.key("remind_hours", self.alerts.remind_hours);
        out.key("disk_margin_bytes", self.alerts.disk_margin_bytes);
    }
}

/// A TOML file being written.
#[derive(Default)]
pub(super) struct Toml(String);

impl Toml {
    pub(super) fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n{name}\n"));
    }

    pub(super) fn key(&mut self, key: &str, value: impl fmt::Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }
}

pub(super) fn text(value: impl fmt::Display) -> toml::Value {
    toml::Value::String(value.to_string())
}

pub(super) fn path(value: &Path) -> toml::Value {
    text(value.display())
}

pub(super) fn table(pairs: &BTreeMap<String, String>) -> toml::Value {
    toml::Value::Table(pairs.iter().map(|(key, value)| (key.clone(), text(value))).collect())
}

pub(super) fn array<T: fmt::Display>(values: &[T]) -> toml::Value {
    toml::Value::Array(values.iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_addresses_are_addresses() {
        let built_in = [POP3_LISTEN, POP3_LISTEN_TLS, IMAP_LISTEN, IMAP_LISTEN_TLS, HTTP_LISTEN];
        for address in built_in {
            assert_eq!(listener(address).len(), 1, "{address}");
        }
        assert_eq!(Smtp::default().listen.len(), 1);
        assert_eq!(Http::default().listen, HTTP_LISTEN.parse().ok());
    }

    #[test]
    fn imap_is_served_without_being_asked_for() {
        let mut settings = Settings::with_defaults("h.example", &["h.example"], Path::new("/d"));
        assert_eq!(settings.notices(), Vec::<String>::new());
        assert_eq!(settings.imap_listen(), Imap::default());
        settings.imap = Some(Imap { listen: Vec::new(), ..Imap::default() });
        assert_eq!(settings.imap_listen().listen, []);
    }

    #[test]
    fn what_may_be_in_flight_grows_with_the_largest_message() {
        for (message_bytes, expect) in [(100_000, 1 << 30), (400 << 20, 1 << 30), (1 << 30, 5 << 29)] {
            let text = format!(
                "hostname = 'h.example'\ndomains = ['h.example']\ndata_dir = '/d'\n[smtp]\nmax_message_bytes = {message_bytes}"
            );
            let settings = super::super::parse(&text, Path::new("/")).unwrap();
            assert_eq!(settings.smtp.max_in_flight_bytes, expect, "{message_bytes}");
            assert_eq!(settings.notices(), Vec::<String>::new());
        }
    }

    #[test]
    fn says_when_few_messages_have_room_beside_the_largest() {
        let mut settings = Settings::with_defaults("h.example", &["h.example"], Path::new("/d"));
        settings.smtp.max_in_flight_bytes = 2 * settings.smtp.max_message_bytes + (64 << 20);
        assert_eq!(settings.notices(), Vec::<String>::new());
        settings.smtp.max_in_flight_bytes -= 1;
        let [notice] = settings.notices().try_into().unwrap();
        assert!(notice.starts_with("\"max_in_flight_bytes\" in [smtp] leaves 67108863 octets"), "{notice}");
    }

    #[test]
    fn says_when_others_can_read_health_and_metrics() {
        let mut settings = Settings::with_defaults("h.example", &["h.example"], Path::new("/d"));
        for (listen, told) in [
            (Some("127.0.0.1:0"), false),
            (Some("[::1]:8450"), false),
            (Some("[::ffff:127.0.0.1]:8450"), false),
            (None, false),
            (Some("[::]:8450"), true),
            (Some("192.0.2.1:80"), true),
        ] {
            settings.http = Some(Http { listen: listen.and_then(|listen| listen.parse().ok()) });
            assert_eq!(settings.notices().len(), usize::from(told), "{listen:?}: {:?}", settings.notices());
        }
    }
}
