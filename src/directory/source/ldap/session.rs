//! Asking, once connected: logging in, and searches page by page (RFC 2696) to the end.

use super::ber;
use super::entry::{self, Entry};
use super::fault::{self, Asked};
use super::wire::{self, Connection};
use crate::config::LdapSource as Settings;
use crate::directory::source::{CANDIDATES_MAX, SourceError};
use ldap3::controls::PagedResults;
use ldap3::{LdapError, Scope};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long the server may take over one answer, which is a page.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How often it is asked whether to go on.
const GO_ON_EVERY: Duration = Duration::from_millis(200);
/// Most pages of one search without a new entry in them: a server may find nothing for a while, and must find an end.
const EMPTY_PAGES_MAX: u32 = 10_000;
/// Further values of one attribute are asked for so often (`proxyAddresses;range=1500-*`).
const RANGES_MAX: u32 = 1_000;

/// Name of the control that makes pages.
const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";

/// One page.
struct Page {
    entries: Vec<Entry>,
    /// Other servers' parts of the tree.
    references: Vec<String>,
    /// Leads to the next page; empty after the last, and `None` where the server does not speak of pages.
    cookie: Option<Vec<u8>>,
}

/// A connection on which somebody is logged in.
pub(super) struct Session<'a> {
    connection: Connection,
    settings: &'a Settings,
    go_on: &'a dyn Fn() -> bool,
    /// Searches and pages asked for.
    pub(super) requests: u64,
    /// Other servers' parts of the tree that searches came across.
    pub(super) references: Vec<String>,
}

/// Other servers' parts of the tree that are remembered.
const REFERENCES_MAX: usize = 100;

impl<'a> Session<'a> {
    /// Connects and logs in.
    ///
    /// # Errors
    /// As of [`SourceError`].
    pub(super) async fn open(
        settings: &'a Settings,
        password: &str,
        go_on: &'a dyn Fn() -> bool,
    ) -> Result<Session<'a>, SourceError> {
        let connection = unless_stopped(go_on, wire::connect(settings)).await??;
        let mut session = Session { connection, settings, go_on, requests: 0, references: Vec::new() };
        session.connection.watch.begin_answer();
        let bind = session.connection.ldap.simple_bind(&settings.bind_dn, password);
        let bound = unless_stopped(go_on, timeout(ANSWER_WAIT, bind)).await?;
        let bound = bound.map_err(|_| fault::slow(Asked::Bind.doing(), ANSWER_WAIT))?;
        let bound = bound.map_err(|error| session.failed(&error, Asked::Bind))?;
        if bound.rc == 0 { Ok(session) } else { Err(fault::result(&bound, settings, Asked::Bind)) }
    }

    /// Says good-bye.
    pub(super) async fn close(self) {
        self.connection.close().await;
    }

    /// Everything under `base` that `filter` lets through, to the last page; `each` is given one entry after the other.
    ///
    /// # Errors
    /// As of [`SourceError`], and what `each` says.
    pub(super) async fn search(
        &mut self,
        base: &str,
        filter: &str,
        attributes: &'static [&'static str],
        mut each: impl FnMut(Entry) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let asked = Asked::Search { base, filter };
        let (mut cookie, mut empty, mut found) = (Vec::new(), 0_u32, 0_usize);
        loop {
            let further = !cookie.is_empty();
            let page = self.page(base, Scope::Subtree, filter, attributes, Some(cookie), asked).await?;
            empty = if page.entries.is_empty() { empty + 1 } else { 0 };
            found += page.entries.len();
            if found > CANDIDATES_MAX {
                return Err(SourceError::TooLarge(format!(
                    "more than {CANDIDATES_MAX} entries match {filter}"
                )));
            }
            for mut entry in page.entries {
                self.complete(&mut entry).await?;
                each(entry)?;
            }
            let room = REFERENCES_MAX.saturating_sub(self.references.len());
            self.references.extend(page.references.into_iter().take(room));
            let next = match page.cookie {
                Some(next) => next,
                None if further => {
                    return Err(SourceError::Incomplete(format!(
                        "{}: the server says no more of pages, and not that this was the last",
                        asked.doing()
                    )));
                }
                None => return Ok(()),
            };
            if next.is_empty() {
                return Ok(());
            }
            if empty > EMPTY_PAGES_MAX {
                return Err(SourceError::Incomplete(format!(
                    "{empty} pages in a row without an entry, and no end"
                )));
            }
            cookie = next;
        }
    }

    /// One entry by its name; `None` when there is none.
    ///
    /// # Errors
    /// As of [`SourceError`].
    pub(super) async fn entry(
        &mut self,
        dn: &str,
        attributes: &[&str],
        asked: Asked<'_>,
    ) -> Result<Option<Entry>, SourceError> {
        let page = self.page(dn, Scope::Base, "(objectClass=*)", attributes, None, asked).await?;
        let mut entries = page.entries.into_iter();
        let Some(mut entry) = entries.next() else { return Ok(None) };
        self.complete(&mut entry).await?;
        Ok(Some(entry))
    }

    /// Asks for the rest of attributes of which the server gave only so many values at once, as Active Directory does.
    async fn complete(&mut self, entry: &mut Entry) -> Result<(), SourceError> {
        for _ in 0..RANGES_MAX {
            let Some((attribute, from)) = entry.missing_range() else { return Ok(()) };
            let wanted = format!("{attribute};range={from}-*");
            let dn = entry.dn.clone();
            let asked = Asked::Search { base: &dn, filter: "(objectClass=*)" };
            let page =
                self.page(&dn, Scope::Base, "(objectClass=*)", &[wanted.as_str()], None, asked).await?;
            let gave = page.entries.into_iter().next().is_some_and(|rest| entry.extend(rest));
            if !gave {
                return Err(SourceError::Incomplete(format!("{dn}: no answer to {wanted}")));
            }
        }
        Err(SourceError::TooLarge(format!("{}: an attribute without end", entry.dn)))
    }

    async fn page(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[&str],
        cookie: Option<Vec<u8>>,
        asked: Asked<'_>,
    ) -> Result<Page, SourceError> {
        self.requests += 1;
        self.connection.watch.begin_answer();
        let deadline = Instant::now() + ANSWER_WAIT;
        let ldap = &mut self.connection.ldap;
        if let Some(cookie) = cookie {
            let size = i32::try_from(self.settings.page_entries).unwrap_or(i32::MAX);
            ldap.with_controls(PagedResults { size, cookie });
        }
        let reading = async {
            let mut stream = ldap.streaming_search(base, scope, filter, attributes).await?;
            let (mut found, mut references) = (Vec::new(), Vec::new());
            while let Some(item) = stream.next().await? {
                if item.is_ref() {
                    references.extend(entry::reference(item.0));
                } else if !item.is_intermediate() {
                    match entry::read(item.0) {
                        Ok(entry) => found.push(entry),
                        Err(what) => return Ok(Err(what)),
                    }
                }
            }
            Ok::<_, LdapError>(Ok((found, references, stream.finish().await)))
        };
        let read = unless_stopped(self.go_on, tokio::time::timeout_at(deadline, reading)).await?;
        let read = read.map_err(|_| fault::slow(asked.doing(), ANSWER_WAIT))?;
        let malformed = |what: ber::Malformed| {
            SourceError::Incomplete(format!("{}: the server sent {}", asked.doing(), what.0))
        };
        let read = read.map_err(|error| self.failed(&error, asked))?;
        let (entries, references, result) = read.map_err(malformed)?;
        if matches!((result.rc, asked), (32, Asked::Member)) {
            return Ok(Page { entries: Vec::new(), references, cookie: None });
        }
        if result.rc != 0 {
            return Err(fault::result(&result, self.settings, asked));
        }
        let mut controls = result.ctrls.iter().map(|control| &control.1);
        let value = controls
            .find(|control| control.ctype == PAGED_RESULTS)
            .and_then(|control| control.val.as_deref());
        let cookie = value.map(ber::cookie).transpose().map_err(malformed)?;
        Ok(Page { entries, references, cookie })
    }

    /// Why the decoder gave up: what ended the connection, if something did.
    fn failed(&self, error: &LdapError, asked: Asked<'_>) -> SourceError {
        match self.connection.watch.broken() {
            Some(broken) => broken.into_error(asked.doing()),
            None => fault::decoder(error, asked),
        }
    }
}

/// Waits for `work`, and gives up soon after `go_on` says no.
async fn unless_stopped<T>(
    go_on: &dyn Fn() -> bool,
    work: impl Future<Output = T>,
) -> Result<T, SourceError> {
    let mut work = std::pin::pin!(work);
    loop {
        if !go_on() {
            return Err(SourceError::Stopped);
        }
        if let Ok(done) = timeout(GO_ON_EVERY, &mut work).await {
            return Ok(done);
        }
    }
}
