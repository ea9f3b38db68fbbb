//! From the text of a `[[directory]]` to a [`DirectorySource`].

use super::{
    DIRECTORY_GROUPS_MAX, DIRECTORY_SOURCES_MAX, DirectoryKind, DirectorySource, EVERY_MINUTES,
    EVERY_MINUTES_MAX, Filters, GRACE_DAYS, GRACE_DAYS_MAX, Guard, MAX_REMOVED_MAX,
};
use crate::config::check::Reader;
use crate::config::section::{At, Section};
use crate::mail::{Address, Untrusted};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Longest name, in octets: it becomes the name of a folder.
const NAME_OCTETS_MAX: usize = 64;
/// Longest distinguished name of a group, in octets.
const GROUP_OCTETS_MAX: usize = 1_024;

/// The kinds, and what a section of one is called.
const KINDS: [(&str, &str); 4] = [
    ("file", "[[directory]] for kind = \"file\""),
    ("csv", "[[directory]] for kind = \"csv\""),
    ("ldap", "[[directory]] for kind = \"ldap\""),
    ("graph", "[[directory]] for kind = \"graph\""),
];

/// Keys that not every kind has, and those that do.
const NOT_EVERY_KINDS: [(&[&str], &[&str]); 6] = [
    (&["file", "csv"], &["path"]),
    (
        &["csv"],
        &[
            "users_file",
            "groups_file",
            "preset",
            "column_id",
            "column_name",
            "column_primary",
            "column_aliases",
            "column_enabled",
            "column_kind",
            "done_file",
        ],
    ),
    (
        &["ldap"],
        &[
            "host",
            "port",
            "security",
            "bind_dn",
            "password_file",
            "password_env",
            "password_credential",
            "base",
            "flavour",
            "filter",
        ],
    ),
    (
        &["graph"],
        &[
            "cloud",
            "tenant",
            "client_id",
            "secret_file",
            "secret_env",
            "secret_credential",
            "secret_expires",
            "certificate",
            "private_key",
            "assertion",
            "proxy",
            "loopback",
            "licensed_only",
            "other_mails",
        ],
    ),
    (&["ldap", "graph"], &["ca_file", "page_entries", "groups"]),
    (&["csv", "ldap", "graph"], &["enabled_only", "include_groups", "include_shared", "include_guests"]),
];

/// Names given so far, folded, and the line of each.
#[derive(Default)]
pub(in crate::config) struct Names(HashMap<String, usize>);

impl Reader<'_> {
    pub(in crate::config) fn directories(&mut self, sections: Vec<Section<'_, '_>>) -> Vec<DirectorySource> {
        if let Some(first_too_many) = sections.get(DIRECTORY_SOURCES_MAX) {
            let message = format!("more than {DIRECTORY_SOURCES_MAX} [[directory]] sections");
            self.problems.add(first_too_many.line(), message);
        }
        let mut names = Names::default();
        let mut of_kind = HashMap::new();
        let read = |section| self.directory(section, &mut names, &mut of_kind);
        sections.into_iter().filter_map(read).collect()
    }

    fn directory(
        &mut self,
        mut section: Section<'_, '_>,
        names: &mut Names,
        of_kind: &mut HashMap<&'static str, usize>,
    ) -> Option<DirectorySource> {
        let given = section.string("name", self.problems);
        let kind = section.required("kind", "\"file\", \"csv\", \"ldap\" or \"graph\"", self.problems);
        // Which keys there are is not known without it.
        let (kind, called) = self.choice(&section, "kind", &kind?, &KINDS.map(|of| (of.0, of)))?;
        for (kinds, keys) in NOT_EVERY_KINDS.iter().filter(|(kinds, _)| !kinds.contains(&kind)) {
            let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
            keys.iter()
                .for_each(|key| section.hint(key, format!("it goes with kind = {}", kinds.join(" or "))));
        }
        let nth = of_kind.entry(kind).and_modify(|nth| *nth += 1).or_insert(1);
        let name = match given {
            Some(given) => self.own_name(&section, given, names),
            None => self.default_name(&section, kind, *nth, names),
        };
        let read = match kind {
            "file" => self.users_toml(&mut section),
            "csv" => self.csv_source(&mut section).map(DirectoryKind::Csv),
            "ldap" => self.ldap_source(&mut section).map(DirectoryKind::Ldap),
            _ => self.graph_source(&mut section).map(DirectoryKind::Graph),
        };
        let mailboxes = section.strings("mailboxes", self.problems);
        let mailboxes = mailboxes.map(|mailboxes| self.mailboxes(&section, mailboxes));
        let filters = self.filters(&mut section, kind);
        let guard = self.guard(&mut section);
        let (days, minutes) = (0..=u64::from(GRACE_DAYS_MAX), 0..=u64::from(EVERY_MINUTES_MAX));
        let grace_days = if kind == "file" { 0 } else { GRACE_DAYS };
        let grace_days = self.bounded(&mut section, "grace_days", days, "days", grace_days);
        let every = if matches!(kind, "file" | "csv") { 0 } else { EVERY_MINUTES };
        let every_minutes = self.bounded(&mut section, "every_minutes", minutes, "minutes", every);
        section.rename(called);
        section.finish(self.problems);
        Some(DirectorySource {
            name: name?,
            kind: read?,
            mailboxes,
            filters,
            guard,
            grace_days,
            every_minutes,
        })
    }

    fn users_toml(&mut self, section: &mut Section<'_, '_>) -> Option<DirectoryKind> {
        let path = section.required("path", "the users.toml to read", self.problems)?;
        self.path(section, "path", path).map(|path| DirectoryKind::File { path })
    }

    /// A name that somebody chose: it must be good, and no other's.
    pub(in crate::config) fn own_name(
        &mut self,
        section: &Section<'_, '_>,
        given: At<String>,
        names: &mut Names,
    ) -> Option<String> {
        let is_good = (1..=NAME_OCTETS_MAX).contains(&given.value.len())
            && given.value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && given.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !is_good {
            let why = format!(
                "\"{}\" is not 1 to {NAME_OCTETS_MAX} letters, digits, \"-\", \"_\" and \".\", the first a letter or digit",
                Untrusted(&given.value)
            );
            section.bad_value("name", given.line, &why, self.problems);
            return None;
        }
        if let Some(first) = names.0.insert(given.value.to_ascii_lowercase(), given.line) {
            let why = format!("\"{}\" is already the name of line {first}", Untrusted(&given.value));
            section.bad_value("name", given.line, &why, self.problems);
        }
        Some(given.value)
    }

    fn default_name(
        &mut self,
        section: &Section<'_, '_>,
        kind: &str,
        nth: usize,
        names: &mut Names,
    ) -> Option<String> {
        let name = if nth == 1 { kind.to_owned() } else { format!("{kind}-{nth}") };
        let line = section.line().unwrap_or(1);
        if let Some(first) = names.0.insert(name.clone(), line) {
            let why = format!("is \"{name}\" unless given, which is already the name of line {first}");
            section.bad_value("name", line, &why, self.problems);
        }
        Some(name)
    }

    fn mailboxes(&mut self, section: &Section<'_, '_>, mailboxes: At<Vec<At<String>>>) -> Vec<String> {
        if mailboxes.value.is_empty() {
            let why = "names no gateway mailbox; leave it out to serve all";
            section.bad_value("mailboxes", mailboxes.line, why, self.problems);
        }
        let names = mailboxes.value.into_iter();
        names.filter_map(|name| self.mailbox(section, "mailboxes", name)).collect()
    }

    /// The name of a gateway mailbox: its login or whole address, folded.
    pub(in crate::config) fn mailbox(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        name: At<String>,
    ) -> Option<String> {
        // A login is a local part, so it is good when it makes an address with any domain.
        let whole = if name.value.contains('@') { name.value.clone() } else { format!("{}@x", name.value) };
        match Address::parse(&whole) {
            Ok(_) => Some(name.value.to_ascii_lowercase()),
            Err(error) => {
                let why = format!("\"{}\" is neither login nor address: {error}", Untrusted(&name.value));
                section.bad_value(key, name.line, &why, self.problems);
                None
            }
        }
    }

    /// What a kind cannot tell stays unasked for, and so unknown.
    fn filters(&mut self, section: &mut Section<'_, '_>, kind: &str) -> Filters {
        let mut filters = Filters::default();
        for (key, field) in filters.of_kind(kind) {
            *field = section.boolean(key, self.problems).unwrap_or(*field);
        }
        if matches!(kind, "ldap" | "graph") {
            let groups = section.strings("groups", self.problems);
            filters.groups = groups.map(|groups| self.groups(section, groups, kind));
        }
        filters
    }

    fn groups(&mut self, section: &Section<'_, '_>, groups: At<Vec<At<String>>>, kind: &str) -> Vec<String> {
        let mut bad = |line, why: &str| section.bad_value("groups", line, why, self.problems);
        if groups.value.is_empty() {
            bad(groups.line, "names no group, so that nobody would be left; leave it out for everybody");
        }
        if groups.value.len() > DIRECTORY_GROUPS_MAX {
            bad(groups.line, &format!("names more than {DIRECTORY_GROUPS_MAX} groups"));
        }
        let mut read: Vec<String> = Vec::new();
        for group in groups.value {
            let good = match kind {
                "graph" => uuid::Uuid::try_parse(&group.value).ok().map(|id| id.hyphenated().to_string()),
                _ => Some(group.value.clone())
                    .filter(|name| is_plain(name, GROUP_OCTETS_MAX) && name.contains('=')),
            };
            let shown = Untrusted(&group.value);
            match good {
                Some(good) if read.iter().any(|other| other.eq_ignore_ascii_case(&good)) => {
                    bad(group.line, &format!("\"{shown}\" stands twice"));
                }
                Some(good) => read.push(good),
                None if kind == "graph" => {
                    bad(group.line, &format!("\"{shown}\" is not the object id of a group"))
                }
                None => bad(group.line, &format!("\"{shown}\" is not the distinguished name of a group")),
            }
        }
        read
    }

    fn guard(&mut self, section: &mut Section<'_, '_>) -> Guard {
        let default = Guard::default();
        let users = 0..=u64::from(MAX_REMOVED_MAX);
        Guard {
            max_removed: self.bounded(section, "max_removed", users, "users", default.max_removed),
            max_removed_percent: self.bounded(
                section,
                "max_removed_percent",
                0..=100,
                "percent",
                default.max_removed_percent,
            ),
        }
    }

    /// A whole number between bounds that its type can hold, or what it is unless given.
    pub(in crate::config) fn bounded<T: TryFrom<u64>>(
        &mut self,
        section: &mut Section<'_, '_>,
        key: &'static str,
        bounds: RangeInclusive<u64>,
        unit: &str,
        default: T,
    ) -> T {
        let given = section.number(key, bounds, unit, self.problems);
        given.and_then(|given| T::try_from(given).ok()).unwrap_or(default)
    }

    /// Text for one line, as given.
    pub(in crate::config) fn plain(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        given: At<String>,
        octets_max: usize,
    ) -> Option<String> {
        let is_good = is_plain(&given.value, octets_max);
        if !is_good {
            let why = format!("must be 1 to {octets_max} octets of text without control characters");
            section.bad_value(key, given.line, &why, self.problems);
        }
        is_good.then_some(given.value)
    }
}

fn is_plain(text: &str, octets_max: usize) -> bool {
    !text.trim().is_empty() && text.len() <= octets_max && !text.contains(char::is_control)
}

impl Filters {
    /// The keys that are true or false which sources of a kind have, in the order of the file.
    pub(super) fn of_kind(&mut self, kind: &str) -> Vec<(&'static str, &mut bool)> {
        let mut keys = Vec::new();
        if kind == "graph" {
            keys.push(("licensed_only", &mut self.licensed_only));
        }
        if kind != "file" {
            keys.push(("enabled_only", &mut self.enabled_only));
            keys.push(("include_groups", &mut self.include_groups));
            keys.push(("include_shared", &mut self.include_shared));
            keys.push(("include_guests", &mut self.include_guests));
        }
        if kind == "graph" {
            keys.push(("other_mails", &mut self.other_mails));
        }
        keys
    }
}
