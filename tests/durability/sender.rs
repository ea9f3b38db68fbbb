//! One sender, one message after the other, who remembers what became of each.

use super::gateway::{Account, Gateway, until};
use super::load::{Report, Sha256, Smtp, report, sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Mostly small; some become files of their own.
pub(crate) fn mixed_sizes(n: u64) -> usize {
    match n % 32 {
        7 => 1_400_000,
        3 | 19 => 200_000,
        n => 1_500 + 2_500 * n as usize,
    }
}

/// The sender.
pub(crate) struct Sender {
    pub(crate) account: Account,
    pub(crate) connection: Option<Smtp>,
    sent: u64,
    pub(crate) begun: BTreeMap<String, Sha256>,
    pub(crate) acknowledged: BTreeSet<String>,
    pub(crate) deferrals: u64,
}

impl Sender {
    pub(crate) fn new(account: &Account) -> Sender {
        Sender {
            account: account.clone(),
            connection: None,
            sent: 0,
            begun: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            deferrals: 0,
        }
    }

    /// A report that was never sent.
    pub(crate) fn fresh(&mut self, octets: usize) -> Report {
        self.fresh_to("bob", octets)
    }

    /// The same, that names `user` of `contoso.example`.
    pub(crate) fn fresh_to(&mut self, user: &str, octets: usize) -> Report {
        self.sent += 1;
        let mut report = report(&format!("sweep-{}", self.sent), octets);
        let (bob, user) = (*b"bob@contoso.example", format!("{user}@contoso.example"));
        let text = std::mem::take(&mut report.octets);
        let mut rest = &text[..];
        while let Some(at) = memchr::memmem::find(rest, &bob) {
            report.octets.extend_from_slice(&rest[..at]);
            report.octets.extend_from_slice(user.as_bytes());
            rest = &rest[at + bob.len()..];
        }
        report.octets.extend_from_slice(rest);
        self.begun.insert(report.id.clone(), sha256(&report.octets));
        report
    }

    /// Connects, if it is not yet.
    pub(crate) fn connect(&mut self, gateway: &Gateway) {
        if self.connection.is_none() {
            self.connection = Some(Smtp::open(gateway.smtp()).unwrap());
        }
    }

    /// True when acknowledged, false when deferred; any other answer fails.
    pub(crate) fn try_to_send(&mut self, report: &Report, gateway: &Gateway) -> io::Result<bool> {
        let mut smtp = match self.connection.take() {
            Some(smtp) => smtp,
            None => Smtp::open(gateway.smtp())?,
        };
        let reply = smtp.deliver(&self.account.address, &report.octets)?;
        assert!(reply.code == 250 || reply.is_deferral(), "{}: {reply:?}", report.id);
        if reply.code != 421 {
            self.connection = Some(smtp);
        }
        if reply.code == 250 {
            self.acknowledged.insert(report.id.clone());
        } else {
            self.deferrals += 1;
        }
        Ok(reply.code == 250)
    }

    /// Sends any message, which must be taken.
    pub(crate) fn send_octets(&mut self, octets: &[u8], gateway: &Gateway) {
        self.connect(gateway);
        let smtp = self.connection.as_mut().unwrap();
        assert_eq!(smtp.deliver(&self.account.address, octets).unwrap().code, 250);
    }

    /// Sends until it is acknowledged.
    pub(crate) fn insist(&mut self, report: &Report, gateway: &Gateway) {
        until("a deferred message to be taken", || self.try_to_send(report, gateway).unwrap().then_some(()));
    }
}
