//! `[assign]`: which addresses mean the same person although they are not written the same.

use super::check::Reader;
use super::section::{At, Section, StringPair};
use super::settings::{Toml, table};
use crate::mail::{Address, Untrusted};
use std::collections::BTreeMap;

/// Most `domain_aliases`: more than tenants may have domains.
pub const DOMAIN_ALIASES_MAX: usize = 1_000;

/// Which addresses mean the same person although they are not written the same. By default none do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assign {
    /// `domain_aliases`: an address in the first domain means the same local part in the second when it is nobody's itself.
    /// ASCII lower-cased; no domain stands on both sides. Up to [`DOMAIN_ALIASES_MAX`]. Default `{}`.
    pub domain_aliases: BTreeMap<String, String>,
    /// `plus_tags`: `bob+x@…` means `bob@…` when nobody has it as it is written. Default `false`.
    pub plus_tags: bool,
}

impl Assign {
    pub(super) fn to_toml(&self, out: &mut Toml) {
        out.section("[assign]");
        out.key("domain_aliases", table(&self.domain_aliases));
        out.key("plus_tags", self.plus_tags);
    }
}

impl Reader<'_> {
    pub(super) fn assign(&mut self, mut section: Section<'_, '_>) -> Assign {
        let mut assign = Assign::default();
        if let Some(pairs) = section.string_pairs("domain_aliases", self.problems) {
            assign.domain_aliases = self.domain_aliases(&section, &pairs);
        }
        assign.plus_tags = section.boolean("plus_tags", self.problems).unwrap_or_default();
        section.finish(self.problems);
        assign
    }

    fn domain_aliases(
        &mut self,
        section: &Section<'_, '_>,
        pairs: &At<Vec<StringPair>>,
    ) -> BTreeMap<String, String> {
        let mut bad = |line, why: &str| section.bad_value("domain_aliases", line, why, self.problems);
        if pairs.value.len() > DOMAIN_ALIASES_MAX {
            bad(pairs.line, &format!("has more than {DOMAIN_ALIASES_MAX} domains"));
        }
        let mut aliases = BTreeMap::new();
        for (alias, domain) in &pairs.value {
            for domain in [alias, domain].into_iter().filter(|domain| !is_mail_domain(&domain.value)) {
                bad(domain.line, &format!("\"{}\" is not a domain of addresses", Untrusted(&domain.value)));
            }
            let (key, value) = (alias.value.to_ascii_lowercase(), domain.value.to_ascii_lowercase());
            if aliases.insert(key, value).is_some() {
                bad(alias.line, &format!("\"{}\" stands twice", Untrusted(&alias.value)));
            }
        }
        // A chain would be followed one step only, and a loop nowhere: both are mistakes.
        for (alias, domain) in &pairs.value {
            if aliases.contains_key(&domain.value.to_ascii_lowercase()) {
                let (alias, domain) = (Untrusted(&alias.value), Untrusted(&domain.value));
                let why = format!("\"{alias}\" stands for \"{domain}\", which is an alias itself");
                bad(pairs.line, &why);
            }
        }
        aliases
    }
}

/// What may stand behind the `@`, but for an address literal.
fn is_mail_domain(domain: &str) -> bool {
    !domain.starts_with('[') && Address::parse(&format!("x@{domain}")).is_ok()
}
