//! `[exchange]`: how Exchange Online is told from everybody else.

use super::check::{Reader, is_host_name};
use super::section::Section;
use super::settings::{Toml, array, path};
use crate::mail::{Network, Untrusted};
use std::path::PathBuf;

/// What Microsoft publishes for worldwide Exchange Online (endpoint set 10, SMTP).
const NETWORKS: [&str; 6] = [
    "40.92.0.0/15",
    "40.107.0.0/16",
    "52.100.0.0/14",
    "104.47.0.0/17",
    "2a01:111:f400::/48",
    "2a01:111:f403::/48",
];
/// The name in the certificate its hosts show.
const CERTIFICATE_NAME: &str = "mail.protection.outlook.com";

/// How Exchange Online is told from everybody else. The defaults are those of the worldwide cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// `networks`: where its hosts send from. Default: the ranges Microsoft publishes.
    pub networks: Vec<Network>,
    /// `certificate_names`: one of these stands in the certificate its hosts show; ASCII lower-cased. At least one.
    /// Default `["mail.protection.outlook.com"]`.
    pub certificate_names: Vec<String>,
    /// `ca_file`: PEM file with the authorities that vouch for that certificate, instead of the public ones built in.
    /// Default: absent.
    pub ca_file: Option<PathBuf>,
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange {
            networks: NETWORKS.iter().filter_map(|network| network.parse().ok()).collect(),
            certificate_names: vec![CERTIFICATE_NAME.to_owned()],
            ca_file: None,
        }
    }
}

impl Exchange {
    pub(super) fn to_toml(&self, out: &mut Toml) {
        out.section("[exchange]");
        out.key("networks", array(&self.networks));
        out.key("certificate_names", array(&self.certificate_names));
        if let Some(file) = &self.ca_file {
            out.key("ca_file", path(file));
        }
    }
}

impl Reader<'_> {
    pub(super) fn exchange(&mut self, mut section: Section<'_, '_>) -> Exchange {
        let mut exchange = Exchange::default();
        if let Some(networks) = self.networks(&mut section, "networks") {
            exchange.networks = networks;
        }
        if let Some(names) = section.strings("certificate_names", self.problems) {
            if names.value.is_empty() {
                let why = "must name at least one, or nothing can prove to be Exchange Online";
                section.bad_value("certificate_names", names.line, why, self.problems);
            }
            for name in names.value.iter().filter(|name| !is_host_name(&name.value)) {
                let why = format!("\"{}\" is not a host name", Untrusted(&name.value));
                section.bad_value("certificate_names", name.line, &why, self.problems);
            }
            exchange.certificate_names =
                names.value.into_iter().map(|name| name.value.to_ascii_lowercase()).collect();
        }
        let ca_file = section.string("ca_file", self.problems);
        exchange.ca_file = ca_file.and_then(|file| self.path(&section, "ca_file", file));
        section.finish(self.problems);
        exchange
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_built_in_are_networks() {
        assert_eq!(Exchange::default().networks.len(), NETWORKS.len());
    }
}
