//! The configuration: a TOML file read once, checked whole, and turned into typed [`Settings`].
//!
//! Two layers. `section` walks the parsed TOML with the line of every key at hand, so that each key is
//! asked for by name and type in exactly one place and whatever was not asked for is an unknown key. `check`
//! turns what it finds into [`Settings`], in which nothing wrong can be written down any more: addresses are
//! parsed, paths are joined to the file's folder, defaults are filled in. Later code never re-checks.
//!
//! Every fault is reported, not just the first, as `file:line: what is wrong with which key`, and an unknown key
//! names the nearest known one: an operator who restarts a gateway at night gets one list to work through.
//! A configuration with a fault is never served from; there are no "best effort" settings.
//!
//! A running server reads the file again when told to: [`Live`] holds what is in force, and [`Settings::for_running`] keeps
//! what only a start can change. A bad file changes nothing.
//!
//! Relative paths mean *relative to the file*, not to where the server was started from.
//! Gateway mailboxes, users' state and keys are not configuration: they live in the store, and no secret has a
//! key here (at most the name of the file it is in), so [`Settings`] may be shown and logged in full.
//!
//! This room opens no socket and checks nothing outside the file's text: whether a certificate can be read or a
//! port be bound is for those who do it. The reader of sections is lent to the `directory` room, whose
//! `users.toml` follows the same rules.

mod alerts;
mod assign;
mod check;
mod directory;
mod entra;
mod error;
mod exchange;
mod keys;
mod lent;
mod live;
mod nearest;
mod puller;
mod secret;
mod section;
mod settings;
mod smtp;
mod store;

pub use alerts::{ALERT_RECIPIENTS_MAX, AlertMail, Alerts, RelayLogin, RelaySecurity};
pub use assign::{Assign, DOMAIN_ALIASES_MAX};
pub(crate) use check::is_host_name;
pub use check::{load, parse};
pub use directory::{
    CsvColumns, CsvPreset, CsvSource, DIRECTORY_GROUPS_MAX, DIRECTORY_SOURCES_MAX, DirectoryKind,
    DirectorySource, EVERY_MINUTES, Filters, GRACE_DAYS, GraphSource, Guard, LdapFlavour, LdapSecurity,
    LdapSource, MAX_REMOVED, MAX_REMOVED_PERCENT,
};
pub use entra::{Assertion, Cloud, EntraApp, EntraCredential};
pub use error::{ConfigError, ConfigErrors};
pub use exchange::Exchange;
pub use keys::{ESCROW_RECIPIENTS_MAX, Keys};
pub use lent::LentFiles;
pub use live::Live;
pub use puller::{PULL_EVERY_MINUTES, PULLERS_MAX, PullAfter, PullCredential, PullProtocol, Puller};
pub use secret::SecretSource;
pub(crate) use section::{Problems, Section, parse_document};
pub use settings::{Http, Imap, Log, LogFormat, LogLevel, Pop3, Settings, TlsFiles};
pub use settings::{LOG_KEEP_MAX, LOG_ROTATE_BYTES_MAX, LOG_ROTATE_BYTES_MIN, LOG_ROTATE_DAYS_MAX};
pub use settings::{MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN};
pub use smtp::Smtp;
pub use store::Store;
