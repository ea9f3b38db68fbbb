//! The `ldap` source: Active Directory, or another LDAP server with entries of RFC 2798.
//!
//! ```text
//! connect ─▶ TLS ─▶ bind ─▶ search, page by page ─▶ drafts ─▶ groups ─▶ Listing
//! wire.rs            session.rs                      draft.rs  groups.rs
//! ```
//! Whether an account is enabled, or in a group, is noted of everybody and asked of nobody here: who is left out is decided, with the
//! reason, by the filters. Two attributes count that are no `proxyAddresses`: the name by which Exchange itself knows a mailbox
//! (`legacyExchangeDN`), and the login name (`userPrincipalName`) where it looks like an address that mail can come from and
//! is nobody's.
//!
//! Invariants:
//! - Whatever is not the whole answer is an error: a limit that was reached, a page that did not come, an entry that came twice.
//! - The password goes over TLS to a server that proved who it is, or to this very machine.
//! - What a server sends is checked before it is decoded (`ber`), and bounded by page, entry and attribute.
//! - References to other servers (RFC 4511 §4.5.3) are not followed, for the password would follow too: they are listed as skipped,
//!   but for the partitions that every Active Directory refers to.

mod ber;
mod draft;
mod entry;
mod fault;
mod groups;
mod names;
mod session;
mod wire;

use super::{Listing, Source, SourceError};
use crate::config::{Filters, LdapFlavour, LdapSource as Settings};
use crate::net::secret;
use draft::Draft;
use entry::Entry;
use session::Session;
use std::collections::HashMap;

/// Partitions of Active Directory without users, which every search from the top refers to.
const PARTITIONS: &[&str] = &["forestdnszones", "domaindnszones", "cn=configuration", "cn=schema"];

/// A directory that is asked by LDAP.
#[derive(Clone, Debug)]
pub struct LdapSource {
    settings: Settings,
    filters: Filters,
}

impl LdapSource {
    /// As configured. Nothing is asked yet; the password is read each time.
    pub fn new(settings: &Settings, filters: &Filters) -> LdapSource {
        LdapSource { settings: settings.clone(), filters: filters.clone() }
    }

    /// The filters that candidates come from.
    fn searches(&self) -> Vec<String> {
        let by_flavour = match self.settings.flavour {
            LdapFlavour::ActiveDirectory => {
                "(&(objectCategory=person)(objectClass=user)(|(mail=*)(proxyAddresses=*)))"
            }
            LdapFlavour::Rfc2798 => "(&(objectClass=inetOrgPerson)(|(mail=*)(proxyAddresses=*)))",
        };
        let people = self.settings.filter.as_deref().map_or_else(|| by_flavour.to_owned(), names::enclosed);
        let mut searches = vec![people];
        if self.filters.include_groups {
            let groups = match self.settings.flavour {
                LdapFlavour::ActiveDirectory => "(&(objectClass=group)(|(mail=*)(proxyAddresses=*)))",
                LdapFlavour::Rfc2798 => {
                    "(&(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames))(|(mail=*)(proxyAddresses=*)))"
                }
            };
            searches.push(groups.to_owned());
        }
        searches
    }

    async fn listing(&self, go_on: &dyn Fn() -> bool) -> Result<Listing, SourceError> {
        let password = secret::read(&self.settings.password).map_err(|error| SourceError::Refused {
            said: error.to_string(),
            advice: "The password of bind_dn is read each time: see password_file, password_env, password_credential."
                .to_owned(),
        })?;
        let mut session = Session::open(&self.settings, &password, go_on).await?;
        let read = self.read_with(&mut session).await;
        session.close().await;
        read
    }

    async fn read_with(&self, session: &mut Session<'_>) -> Result<Listing, SourceError> {
        let (base, flavour) = (self.settings.base.as_str(), self.settings.flavour);
        let searches = self.searches();
        let (mut listing, mut drafts, mut ids) = (Listing::default(), Vec::new(), HashMap::new());
        for (number, filter) in searches.iter().enumerate() {
            let note = |entry: Entry| {
                let Some(draft) = draft::read(&entry, flavour, &mut listing)? else { return Ok(()) };
                match ids.insert(draft.candidate.id.clone(), number) {
                    None => drafts.push(draft),
                    // A filter of the admin's own may find groups, too.
                    Some(earlier) if earlier != number => {}
                    Some(_) => return Err(SourceError::Incomplete(format!("{} came twice", entry.dn))),
                }
                Ok(())
            };
            session.search(base, filter, draft::attributes(flavour), note).await?;
        }
        if let Some(groups) = &self.filters.groups {
            groups::mark(session, base, flavour, &searches, groups, &mut drafts).await?;
        }
        draft::add_logins(&mut drafts);
        listing.candidates = drafts.into_iter().map(|Draft { candidate, .. }| candidate).collect();
        listing.requests = session.requests;
        for url in &session.references {
            let lower = url.to_ascii_lowercase();
            if !PARTITIONS.iter().any(|partition| lower.contains(partition)) {
                listing.skip(url.as_str(), "is another server's part of the tree, which is not followed");
            }
        }
        Ok(listing)
    }
}

impl Source for LdapSource {
    fn read(&self, go_on: &dyn Fn() -> bool) -> Result<Listing, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(SourceError::Unreadable)?;
        let read = runtime.block_on(self.listing(go_on));
        // The system may still be looking for a host that we no longer wait for.
        runtime.shutdown_background();
        read
    }
}
