//! A maildrop in memory, with faults to order.

use daybook::fetch::canonical::served_octets;
use daybook::fetch::folders::Folders;
use daybook::fetch::maildrop::{
    BoxFuture, Client, FetchError, LoginError, Maildrop, MaildropEntry, Maildrops, UnlockedMaildrop,
};
use daybook::mail::{CanonicalSize, GatewayMailboxId};
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

pub(crate) const LOGIN: &str = "mbx-1";
pub(crate) const ADDRESS: &str = "mbx-1@gateway.example";
pub(crate) const PASSWORD: &str = "right";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) uidl: String,
    pub(crate) stored: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) mails: Vec<Mail>,
    /// UIDLs of recorded fetches, in order.
    pub(crate) fetched: Vec<String>,
    /// Ended sessions that recorded anything.
    pub(crate) finishes: usize,
    pub(crate) fail_commit: bool,
    pub(crate) fail_open: bool,
    /// UIDL, and after how many octets reading it fails.
    pub(crate) damaged: Option<(String, u64)>,
    /// UIDL of a mail that is shorter than its entry says.
    pub(crate) short: Option<String>,
}

/// One gateway mailbox under two names.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) state: Arc<Mutex<State>>,
}

impl Fake {
    /// Mails are named u1, u2, …
    pub(crate) fn with(mails: &[Vec<u8>]) -> Fake {
        let fake = Fake::default();
        fake.state.lock().unwrap().mails = mails
            .iter()
            .enumerate()
            .map(|(index, stored)| Mail { uidl: format!("u{}", index + 1), stored: stored.clone() })
            .collect();
        fake
    }

    pub(crate) fn uidls(&self) -> Vec<String> {
        self.state.lock().unwrap().mails.iter().map(|mail| mail.uidl.clone()).collect()
    }
}

/// The plainest way to say what canonical form is.
pub(crate) fn canonical(stored: &[u8]) -> Vec<u8> {
    let mut form = Vec::new();
    let mut octets = stored.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&b'\n');
                form.extend(b"\r\n");
            }
            b'\n' => form.extend(b"\r\n"),
            _ => form.push(octet),
        }
    }
    form
}

pub(crate) fn measure(stored: &[u8]) -> CanonicalSize {
    let form = canonical(stored);
    CanonicalSize {
        octets: form.len() as u64,
        lines: form.iter().filter(|&&octet| octet == b'\n').count() as u64,
        bare_line_ends: form != stored,
        ends_with_line_end: form.ends_with(b"\r\n"),
    }
}

pub(crate) fn size_as_served(stored: &[u8]) -> u64 {
    served_octets(&measure(stored))
}

impl Maildrops for Fake {
    fn unlock(
        &self,
        login: &str,
        password: &str,
        client: &Client,
    ) -> Result<Box<dyn UnlockedMaildrop>, LoginError> {
        assert_eq!(client.protocol, "pop3");
        match login {
            LOGIN | ADDRESS if password == PASSWORD => Ok(Box::new(self.clone())),
            "broken" => panic!("a bug in the store"),
            "unavailable" => Err(LoginError::Unavailable),
            _ => Err(LoginError::Wrong),
        }
    }
}

impl UnlockedMaildrop for Fake {
    fn mailbox(&self) -> GatewayMailboxId {
        GatewayMailboxId::new(1, [1; 10])
    }

    fn login(&self) -> String {
        LOGIN.to_owned()
    }

    fn folders(self: Box<Self>) -> Result<Arc<dyn Folders>, LoginError> {
        Err(LoginError::Unavailable)
    }

    fn open(self: Box<Self>) -> Result<Arc<dyn Maildrop>, LoginError> {
        let state = self.state.lock().unwrap();
        if state.fail_open {
            return Err(LoginError::Unavailable);
        }
        let entries = state
            .mails
            .iter()
            .map(|mail| MaildropEntry { uidl: mail.uidl.clone(), canonical: measure(&mail.stored) })
            .collect();
        drop(state);
        Ok(Arc::new(Snapshot { fake: *self, entries }))
    }
}

struct Snapshot {
    fake: Fake,
    entries: Arc<[MaildropEntry]>,
}

impl Maildrop for Snapshot {
    fn entries(&self) -> Arc<[MaildropEntry]> {
        Arc::clone(&self.entries)
    }

    fn read(&self, index: usize) -> Result<Box<dyn Read + Send>, FetchError> {
        let state = self.fake.state.lock().unwrap();
        let uidl = &self.entries.get(index).ok_or(FetchError::Gone)?.uidl;
        let mail = state.mails.iter().find(|mail| mail.uidl == *uidl).ok_or(FetchError::Gone)?;
        let mut stored = mail.stored.clone();
        if state.short.as_ref() == Some(uidl) {
            stored.truncate(stored.len() - 3);
        }
        match &state.damaged {
            Some((damaged, 0)) if damaged == uidl => Err(FetchError::Damaged),
            Some((damaged, octets)) if damaged == uidl => {
                Ok(Box::new(io::Cursor::new(stored).take(*octets).chain(Broken)))
            }
            _ => Ok(Box::new(io::Cursor::new(stored))),
        }
    }

    fn finish(&self, fetched: Vec<usize>, deleted: Vec<usize>) -> BoxFuture<'_, Result<usize, FetchError>> {
        Box::pin(async move {
            // A store takes its time: whoever does not wait for it is found out.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let mut state = self.fake.state.lock().unwrap();
            if state.fail_commit {
                return Err(FetchError::Temporary);
            }
            let uidl = |index: usize| self.entries[index].uidl.clone();
            state.fetched.extend(fetched.into_iter().map(uidl));
            let deleted: Vec<String> = deleted.into_iter().map(uidl).collect();
            let before = state.mails.len();
            state.mails.retain(|mail| !deleted.contains(&mail.uidl));
            state.finishes += 1;
            Ok(before - state.mails.len())
        })
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "hash does not match"))
    }
}
