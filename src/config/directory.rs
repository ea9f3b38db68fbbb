//! `[[directory]]`: where users and their addresses come from, which of them count, and when a change is too large to be believed.

mod kinds;
mod print;
mod read;

pub(super) use read::Names;

use super::entra::EntraApp;
use super::secret::SecretSource;
use std::path::PathBuf;

/// Most `[[directory]]` sections: the sources serving one gateway mailbox are kept as bits of one word.
pub const DIRECTORY_SOURCES_MAX: usize = 64;
/// Most `groups` of one source: each is asked for by itself, with those in it.
pub const DIRECTORY_GROUPS_MAX: usize = 100;
/// Largest `every_minutes`: a week.
const EVERY_MINUTES_MAX: u32 = 10_080;
/// Largest `grace_days`: ten years.
const GRACE_DAYS_MAX: u16 = 3_650;
/// Largest `max_removed`: as many as a source may name.
const MAX_REMOVED_MAX: u32 = 1_000_000;
/// `every_minutes` of a source that is asked over the network, unless told otherwise.
pub const EVERY_MINUTES: u32 = 60;
/// `grace_days` of a source that a system writes, unless told otherwise. A users.toml is the admin's own word: 0.
pub const GRACE_DAYS: u16 = 30;
/// `max_removed` unless told otherwise.
pub const MAX_REMOVED: u32 = 5;
/// `max_removed_percent` unless told otherwise.
pub const MAX_REMOVED_PERCENT: u8 = 10;

/// One `[[directory]]`: where users and their addresses come from. Sections come in the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySource {
    /// `name`: what logs, commands and the files of its state call it: letters, digits, `-`, `_`, `.`, the first a letter or
    /// digit; at most 64. No two sources have the same, whatever the case. Default: the kind, with `-2`, `-3` … for the second and
    /// third source of it, whether the others have names of their own or not.
    pub name: String,
    /// `kind`, with the keys that go with it. Required.
    pub kind: DirectoryKind,
    /// `mailboxes`: the gateway mailboxes it serves, each by login (the local part) or whole address, ASCII
    /// case-folded. Default: absent, all of them.
    pub mailboxes: Option<Vec<String>>,
    /// Which of those found are users.
    pub filters: Filters,
    /// What is too large a change to be applied without a person's word.
    pub guard: Guard,
    /// `grace_days`: addresses of a user who is gone from the source lead to that user for so long, unless somebody else has
    /// them. At most 3650. Default 30; of `kind = "file"` 0.
    pub grace_days: u16,
    /// `every_minutes`: how often the source is asked, with a tenth of it more or less so that not all ask at once. 0 is only by
    /// hand; files are looked at every few seconds besides. Default 60, of files 0. At most 10080, a week.
    pub every_minutes: u32,
}

impl DirectorySource {
    /// A users.toml with this name and the defaults.
    pub fn file(name: impl Into<String>, path: impl Into<PathBuf>) -> DirectorySource {
        DirectorySource {
            name: name.into(),
            kind: DirectoryKind::File { path: path.into() },
            mailboxes: None,
            filters: Filters::default(),
            guard: Guard::default(),
            grace_days: 0,
            every_minutes: 0,
        }
    }
}

impl DirectorySource {
    /// What an operator should know about it.
    pub(super) fn notice(&self) -> Option<String> {
        let place = format!("[[directory]] {}", self.name);
        match &self.kind {
            DirectoryKind::Ldap(ldap) if ldap.security == LdapSecurity::None => {
                Some(format!("{place} asks {} in clear", ldap.host))
            }
            DirectoryKind::Graph(graph) => graph.app.notice(&place),
            _ => None,
        }
    }
}

/// The kinds of directory source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryKind {
    /// `kind = "file"`
    File {
        /// `path`: a `users.toml`. Required.
        path: PathBuf,
    },
    /// `kind = "csv"`
    Csv(CsvSource),
    /// `kind = "ldap"`
    Ldap(LdapSource),
    /// `kind = "graph"`
    Graph(GraphSource),
}

impl DirectoryKind {
    /// As the file writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            DirectoryKind::File { .. } => "file",
            DirectoryKind::Csv(_) => "csv",
            DirectoryKind::Ldap(_) => "ldap",
            DirectoryKind::Graph(_) => "graph",
        }
    }

    /// What it reads, in one line for people: a path or a host and where in it. Also tells whether a list that was kept is of the
    /// same directory.
    pub fn place(&self) -> String {
        match self {
            DirectoryKind::File { path } => path.display().to_string(),
            DirectoryKind::Csv(csv) => csv.path.display().to_string(),
            DirectoryKind::Ldap(ldap) => {
                format!("{}://{}:{}/{}", ldap.security.scheme(), ldap.host, ldap.port, ldap.base)
            }
            DirectoryKind::Graph(graph) => format!("graph {} {}", graph.app.cloud.as_str(), graph.app.tenant),
        }
    }

    /// The file or folder it reads; `None` of what is asked over the network.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            DirectoryKind::File { path } => Some(path),
            DirectoryKind::Csv(csv) => Some(&csv.path),
            DirectoryKind::Ldap(_) | DirectoryKind::Graph(_) => None,
        }
    }
}

/// Which of those that a source names become users. A users.toml names users and nothing else, so there are no such keys with
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// `licensed_only`: only who has an Exchange Online plan in force. `kind = "graph"` alone. Default false.
    pub licensed_only: bool,
    /// `enabled_only`: only whose account is enabled. Default false.
    pub enabled_only: bool,
    /// `groups`: only members of one of these, also by way of groups in groups. Graph: object ids; LDAP: distinguished names;
    /// others do not know any. Up to [`DIRECTORY_GROUPS_MAX`]. Default: absent, everybody.
    pub groups: Option<Vec<String>>,
    /// `include_groups`: groups that have an address of their own (of Graph, Microsoft 365 groups) become users, too. Default false.
    pub include_groups: bool,
    /// `include_shared`: shared mailboxes stay, whatever `licensed_only` and `enabled_only` say: they are disabled and without
    /// licence by nature. Graph does not tell one with a licence (over 50 GB, archive, hold) from somebody who left: `enabled_only`
    /// leaves both out, and they are told apart from others. Default true.
    pub include_shared: bool,
    /// `include_guests`: people of other tenants are users, too. Default false.
    pub include_guests: bool,
    /// `other_mails`: private addresses that the directory knows count, too, where nobody else has them. `kind = "graph"`
    /// alone. Default false.
    pub other_mails: bool,
}

impl Default for Filters {
    fn default() -> Filters {
        Filters {
            licensed_only: false,
            enabled_only: false,
            groups: None,
            include_groups: false,
            include_shared: true,
            include_guests: false,
            other_mails: false,
        }
    }
}

/// What is too large a change to be applied by itself. An empty list and the disappearance of a whole domain always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// `max_removed`: so many users may go at once, or [`Guard::max_removed_percent`] of them, whichever is more. Default 5. As many
    /// may lose addresses to nobody, and as many to other users.
    pub max_removed: u32,
    /// `max_removed_percent`: 0 to 100. Default 10.
    pub max_removed_percent: u8,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { max_removed: MAX_REMOVED, max_removed_percent: MAX_REMOVED_PERCENT }
    }
}

/// `kind = "csv"`: a list that some other program writes. Column names are compared without regard to ASCII case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvSource {
    /// `path`: a file, or a folder that holds `users_file` and, with `include_groups`, `groups_file`. Required.
    pub path: PathBuf,
    /// `users_file`: name in the folder of the list of users. Default `"exchangeuser.csv"`. Only with a folder.
    pub users_file: String,
    /// `groups_file`: name in the folder of the list of groups, which are users with `include_groups`. Default
    /// `"exchangegroups.csv"`. With `include_groups` it must be there and name somebody, or nothing is taken of the folder;
    /// otherwise it is not looked at. Only with a folder.
    pub groups_file: String,
    /// `preset`: `"exchange-get-mailbox"` or `"generic"`. Default `"generic"`.
    pub preset: CsvPreset,
    /// `column_id`, `column_name`, `column_primary`, `column_aliases`, `column_enabled`, `column_kind`: each overrides the preset.
    pub columns: CsvColumns,
    /// `done_file`: name of a file that the writing program makes when it has finished; nothing is read before it is there and
    /// not older than the list. Default: absent.
    pub done_file: Option<String>,
}

/// Which columns a list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CsvPreset {
    /// `"generic"`: columns `id`, `name`, `primary`, `aliases`, and where there are any `enabled` and `kind`.
    #[default]
    Generic,
    /// `"exchange-get-mailbox"`: what `Get-Mailbox -ResultSize Unlimited | Export-Csv` writes, with `EmailAddresses` joined
    /// before: ExternalDirectoryObjectId or else Guid, DisplayName, PrimarySmtpAddress, EmailAddresses, and where there are any
    /// RecipientTypeDetails, AccountDisabled and LegacyExchangeDN.
    ExchangeGetMailbox,
}

impl CsvPreset {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            CsvPreset::Generic => "generic",
            CsvPreset::ExchangeGetMailbox => "exchange-get-mailbox",
        }
    }
}

impl CsvSource {
    /// A list at this place, with the defaults.
    pub fn of(path: impl Into<PathBuf>) -> CsvSource {
        CsvSource {
            path: path.into(),
            users_file: "exchangeuser.csv".to_owned(),
            groups_file: "exchangegroups.csv".to_owned(),
            preset: CsvPreset::default(),
            columns: CsvColumns::default(),
            done_file: None,
        }
    }
}

/// Names of columns that differ from the preset's. One that is given must be there; a list of groups may do without all but the id
/// and the primary address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsvColumns {
    /// `column_id`: what names the user for ever.
    pub id: Option<String>,
    /// `column_name`
    pub name: Option<String>,
    /// `column_primary`: the primary SMTP address.
    pub primary: Option<String>,
    /// `column_aliases`: further addresses, with `;`, `|`, `,` or blanks between them, with or without `smtp:` or `x500:` before
    /// each. Those of other types do not count.
    pub aliases: Option<String>,
    /// `column_enabled`: true, yes, 1 or enabled, or not.
    pub enabled: Option<String>,
    /// `column_kind`: `RecipientTypeDetails` of Exchange, or user, shared, guest, group.
    pub kind: Option<String>,
}

impl CsvColumns {
    /// Every key and what it says, in the order of the file.
    fn fields(&self) -> [(&'static str, &Option<String>); 6] {
        [
            ("column_id", &self.id),
            ("column_name", &self.name),
            ("column_primary", &self.primary),
            ("column_aliases", &self.aliases),
            ("column_enabled", &self.enabled),
            ("column_kind", &self.kind),
        ]
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut Option<String>); 6] {
        [
            ("column_id", &mut self.id),
            ("column_name", &mut self.name),
            ("column_primary", &mut self.primary),
            ("column_aliases", &mut self.aliases),
            ("column_enabled", &mut self.enabled),
            ("column_kind", &mut self.kind),
        ]
    }
}

/// `kind = "ldap"`: Active Directory or another LDAP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapSource {
    /// `host`: name, as in its certificate, or IP address. Required.
    pub host: String,
    /// `port`. Default 636, or 389 with `security = "starttls"` or `"none"`.
    pub port: u16,
    /// `security`. Default `"ldaps"`.
    pub security: LdapSecurity,
    /// `ca_file`: PEM file of the authorities to trust instead of the public ones. Default: absent.
    pub ca_file: Option<PathBuf>,
    /// `bind_dn`: who logs in: a distinguished name, or `user@domain` with Active Directory. Required.
    pub bind_dn: String,
    /// `password_file`, `password_env` or `password_credential`. Required.
    pub password: SecretSource,
    /// `base`: where in the tree to search, e.g. `DC=corp,DC=example`. Required.
    pub base: String,
    /// `flavour`: which attributes there are. Default `"active-directory"`.
    pub flavour: LdapFlavour,
    /// `filter`: which entries are candidates (RFC 4515). Default: by flavour.
    pub filter: Option<String>,
    /// `page_entries`: entries asked for at once, 10 to 1000. Default 500.
    pub page_entries: u32,
}

/// How a connection to an LDAP server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LdapSecurity {
    /// `"ldaps"`: TLS from the first octet.
    #[default]
    Ldaps,
    /// `"starttls"`: nothing is sent to a server that does not offer it.
    StartTls,
    /// `"none"`: in clear; only to a loopback address.
    None,
}

impl LdapSecurity {
    const ALL: [LdapSecurity; 3] = [LdapSecurity::Ldaps, LdapSecurity::StartTls, LdapSecurity::None];

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LdapSecurity::Ldaps => "ldaps",
            LdapSecurity::StartTls => "starttls",
            LdapSecurity::None => "none",
        }
    }

    /// What an URL of it begins with.
    pub fn scheme(self) -> &'static str {
        if self == LdapSecurity::Ldaps { "ldaps" } else { "ldap" }
    }

    /// The port unless told otherwise.
    pub fn port(self) -> u16 {
        if self == LdapSecurity::Ldaps { 636 } else { 389 }
    }
}

/// Which attributes an LDAP server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LdapFlavour {
    /// `"active-directory"`: objectGUID, mail, proxyAddresses, userAccountControl, membership with
    /// LDAP_MATCHING_RULE_IN_CHAIN.
    #[default]
    ActiveDirectory,
    /// `"rfc2798"`: entryUUID, inetOrgPerson, mail (all values), proxyAddresses where there are any, groupOfNames.
    Rfc2798,
}

impl LdapFlavour {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LdapFlavour::ActiveDirectory => "active-directory",
            LdapFlavour::Rfc2798 => "rfc2798",
        }
    }
}

/// `kind = "graph"`: the users of a Microsoft 365 tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSource {
    /// Who asks, and with what right.
    pub app: EntraApp,
    /// `page_entries`: users asked for at once, 10 to 999. Default 999.
    pub page_entries: u32,
}
