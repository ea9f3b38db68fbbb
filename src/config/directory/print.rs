//! A [`DirectorySource`] as the file writes it.

use super::{CsvSource, DirectoryKind, DirectorySource, GraphSource, LdapSource};
use crate::config::secret::PASSWORD;
use crate::config::settings::{Toml, array, path, text};

impl DirectorySource {
    pub(in crate::config) fn to_toml(&self, out: &mut Toml) {
        out.section("[[directory]]");
        out.key("name", text(&self.name));
        out.key("kind", text(self.kind.as_str()));
        match &self.kind {
            DirectoryKind::File { path: file } => out.key("path", path(file)),
            DirectoryKind::Csv(csv) => csv.to_toml(out),
            DirectoryKind::Ldap(ldap) => ldap.to_toml(out),
            DirectoryKind::Graph(graph) => graph.to_toml(out),
        }
        if let Some(mailboxes) = &self.mailboxes {
            out.key("mailboxes", array(mailboxes));
        }
        for (key, value) in self.filters.clone().of_kind(self.kind.as_str()) {
            out.key(key, value);
        }
        if let Some(groups) = &self.filters.groups {
            out.key("groups", array(groups));
        }
        out.key("max_removed", self.guard.max_removed);
        out.key("max_removed_percent", self.guard.max_removed_percent);
        out.key("grace_days", self.grace_days);
        out.key("every_minutes", self.every_minutes);
    }
}

impl CsvSource {
    fn to_toml(&self, out: &mut Toml) {
        out.key("path", path(&self.path));
        out.key("users_file", text(&self.users_file));
        out.key("groups_file", text(&self.groups_file));
        out.key("preset", text(self.preset.as_str()));
        for (key, column) in self.columns.fields() {
            if let Some(column) = column {
                out.key(key, text(column));
            }
        }
        if let Some(file) = &self.done_file {
            out.key("done_file", text(file));
        }
    }
}

impl LdapSource {
    fn to_toml(&self, out: &mut Toml) {
        out.key("host", text(&self.host));
        out.key("port", self.port);
        out.key("security", text(self.security.as_str()));
        if let Some(file) = &self.ca_file {
            out.key("ca_file", path(file));
        }
        out.key("bind_dn", text(&self.bind_dn));
        self.password.to_toml(&PASSWORD, out);
        out.key("base", text(&self.base));
        out.key("flavour", text(self.flavour.as_str()));
        if let Some(filter) = &self.filter {
            out.key("filter", text(filter));
        }
        out.key("page_entries", self.page_entries);
    }
}

impl GraphSource {
    fn to_toml(&self, out: &mut Toml) {
        self.app.to_toml("ca_file", out);
        out.key("page_entries", self.page_entries);
    }
}
