//! The keys that only one kind of `[[directory]]` has.

use super::{CsvColumns, CsvPreset, CsvSource, GraphSource, LdapFlavour, LdapSecurity, LdapSource};
use crate::config::check::{Reader, is_host_name};
use crate::config::secret::PASSWORD;
use crate::config::section::{At, Section};
use crate::mail::Untrusted;
use std::net::IpAddr;

/// Longest name of a file or column, distinguished name, and filter, in octets.
const FILE_NAME_OCTETS_MAX: usize = 255;
const COLUMN_OCTETS_MAX: usize = 255;
const DN_OCTETS_MAX: usize = 1_024;
const FILTER_OCTETS_MAX: usize = 8_192;

/// `page_entries`: fewer make a reading slow, more are refused by Active Directory, or by Graph.
const PAGE_ENTRIES_MIN: u64 = 10;
const LDAP_PAGE_ENTRIES_MAX: u64 = 1_000;
const LDAP_PAGE_ENTRIES: u32 = 500;
const GRAPH_PAGE_ENTRIES_MAX: u64 = 999;
const GRAPH_PAGE_ENTRIES: u32 = 999;

/// A host that means this machine, by name.
const LOCALHOST: &str = "localhost";

impl Reader<'_> {
    pub(super) fn csv_source(&mut self, section: &mut Section<'_, '_>) -> Option<CsvSource> {
        let path = section.required("path", "the file to read, or the folder it is in", self.problems);
        let path = path.and_then(|path| self.path(section, "path", path));
        let users_file = self.file_name(section, "users_file");
        let groups_file = self.file_name(section, "groups_file");
        let preset = section.string("preset", self.problems);
        let known = [CsvPreset::Generic, CsvPreset::ExchangeGetMailbox].map(|value| (value.as_str(), value));
        let preset = preset.and_then(|given| self.choice(section, "preset", &given, &known));
        let mut columns = CsvColumns::default();
        for (key, field) in columns.fields_mut() {
            let given = section.string(key, self.problems);
            *field = given.and_then(|given| self.plain(section, key, given, COLUMN_OCTETS_MAX));
        }
        let done_file = self.file_name(section, "done_file");
        let mut source = CsvSource::of(path?);
        source.users_file = users_file.unwrap_or(source.users_file);
        source.groups_file = groups_file.unwrap_or(source.groups_file);
        source.preset = preset.unwrap_or_default();
        Some(CsvSource { columns, done_file, ..source })
    }

    /// The name of a file in a folder that something else names.
    fn file_name(&mut self, section: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
        let given = section.string(key, self.problems)?;
        let line = given.line;
        let name = self.plain(section, key, given, FILE_NAME_OCTETS_MAX)?;
        if name.contains('/') || name == "." || name == ".." {
            let why = format!("\"{}\" is not the name of a file in the folder", Untrusted(&name));
            section.bad_value(key, line, &why, self.problems);
            return None;
        }
        Some(name)
    }

    pub(super) fn ldap_source(&mut self, section: &mut Section<'_, '_>) -> Option<LdapSource> {
        let host = section.required("host", "name of the server, as in its certificate", self.problems);
        let security = section.string("security", self.problems);
        let known = LdapSecurity::ALL.map(|value| (value.as_str(), value));
        let security = security.and_then(|given| self.choice(section, "security", &given, &known));
        let security = security.unwrap_or_default();
        let host = host.and_then(|given| self.ldap_host(section, given, security));
        let port = self.bounded(section, "port", 1..=u64::from(u16::MAX), "for a port", security.port());
        let ca_file = section.string("ca_file", self.problems);
        let ca_file = ca_file.and_then(|file| self.path(section, "ca_file", file));
        let bind_dn = section.required("bind_dn", "who logs in", self.problems);
        let bind_dn = bind_dn.and_then(|given| self.plain(section, "bind_dn", given, DN_OCTETS_MAX));
        let password =
            self.required_secret(section, &PASSWORD, "the file that holds the password of bind_dn");
        let base = section.required(
            "base",
            "where in the tree to search, like \"DC=corp,DC=example\"",
            self.problems,
        );
        let base = base.and_then(|given| self.plain(section, "base", given, DN_OCTETS_MAX));
        let flavour = section.string("flavour", self.problems);
        let known = [LdapFlavour::ActiveDirectory, LdapFlavour::Rfc2798].map(|value| (value.as_str(), value));
        let flavour = flavour.and_then(|given| self.choice(section, "flavour", &given, &known));
        let filter = section.string("filter", self.problems);
        let filter = filter.and_then(|given| self.ldap_filter(section, given));
        let entries = PAGE_ENTRIES_MIN..=LDAP_PAGE_ENTRIES_MAX;
        let page_entries = self.bounded(section, "page_entries", entries, "entries", LDAP_PAGE_ENTRIES);
        Some(LdapSource {
            host: host?,
            port,
            security,
            ca_file,
            bind_dn: bind_dn?,
            password: password?,
            base: base?,
            flavour: flavour.unwrap_or_default(),
            filter,
            page_entries,
        })
    }

    fn ldap_host(
        &mut self,
        section: &Section<'_, '_>,
        given: At<String>,
        security: LdapSecurity,
    ) -> Option<String> {
        let line = given.line;
        let host = self.host(section, "host", given)?;
        let is_loopback = host.eq_ignore_ascii_case(LOCALHOST)
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        if security == LdapSecurity::None && !is_loopback {
            let why = "a password is never sent in clear: security must be \"ldaps\" or \"starttls\"";
            section.bad_value("host", line, why, self.problems);
        }
        Some(host)
    }

    /// A host name or IP address to connect to.
    pub(in crate::config) fn host(
        &mut self,
        section: &Section<'_, '_>,
        key: &str,
        given: At<String>,
    ) -> Option<String> {
        let is_good = is_host_name(&given.value) || given.value.parse::<IpAddr>().is_ok();
        if !is_good {
            let why = format!("\"{}\" is neither a host name nor an IP address", Untrusted(&given.value));
            section.bad_value(key, given.line, &why, self.problems);
        }
        is_good.then_some(given.value)
    }

    /// Looks at the outside only: the server has the last word on what it takes.
    fn ldap_filter(&mut self, section: &Section<'_, '_>, given: At<String>) -> Option<String> {
        let line = given.line;
        let filter = self.plain(section, "filter", given, FILTER_OCTETS_MAX)?;
        let (mut open, mut closed_early) = (0_usize, false);
        for (place, octet) in filter.bytes().enumerate() {
            match octet {
                b'(' => open += 1,
                b')' => open = open.saturating_sub(1),
                _ => {}
            }
            closed_early |= open == 0 && place + 1 < filter.len();
        }
        // Parentheses in values are written \28 and \29 (RFC 4515 §3).
        if open > 0 || closed_early || !filter.starts_with('(') || !filter.ends_with(')') {
            let why = "must be one filter in parentheses, like \"(&(objectClass=person)(mail=*))\"";
            section.bad_value("filter", line, why, self.problems);
            return None;
        }
        Some(filter)
    }

    pub(super) fn graph_source(&mut self, section: &mut Section<'_, '_>) -> Option<GraphSource> {
        let app = self.entra_app(section, "ca_file");
        let users = PAGE_ENTRIES_MIN..=GRAPH_PAGE_ENTRIES_MAX;
        let page_entries = self.bounded(section, "page_entries", users, "users", GRAPH_PAGE_ENTRIES);
        Some(GraphSource { app: app?, page_entries })
    }
}
