//! What fetch needs of a gateway: an embedded store with one gateway mailbox and the door to it, without ports.
//!
//! Take it in beside `support/delivery.rs`.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::delivery;
use daybook::fetch::auth::Logins;
use daybook::fetch::pop3::server::{Pop3, Protocol};
use daybook::fetch::stored::StoredMaildrops;
use daybook::mail::*;
use daybook::net::drain::Drain;
use daybook::net::tls::TlsIdentity;
use daybook::observe::Visits;
use daybook::store::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;

/// A gateway with one gateway mailbox and no ports.
pub(crate) struct Gateway {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<Embedded>,
    pub(crate) mailbox: Arc<GatewayMailbox>,
    pub(crate) password: String,
    pub(crate) logins: Arc<Logins>,
    tls: TlsIdentity,
    delivered: u64,
}

impl Gateway {
    pub(crate) async fn new() -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store = Arc::new(Embedded::open(&options).unwrap().0);
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Generic,
            role: Role::default(),
        };
        let (mailbox, password) = store.create_gateway_mailbox(new, "test").await.unwrap();
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let maildrops = StoredMaildrops::new(shared, Visits::default());
        let logins = Arc::new(Logins::with_first_wait(maildrops, Duration::ZERO));
        let tls = TlsIdentity::self_signed(dir.path(), "localhost").unwrap();
        Gateway { dir, store, mailbox, password: password.to_string(), logins, tls, delivered: 0 }
    }

    /// Delivers until there are so many messages in INBOX.
    pub(crate) async fn fill(&mut self, messages: usize) -> BTreeMap<u32, ReceiptId> {
        while self.inbox().len() < messages {
            self.delivered += 1;
            let at = Timestamp::from_unix_ms(1_800_000_000_000 + i64::try_from(self.delivered).unwrap());
            let body = format!("Subject: {}\r\n\r\nbody\r\n", self.delivered);
            let sent = delivery::delivery(self.store.as_ref(), &self.mailbox, at, [7; 10], body.as_bytes());
            self.store.deliver(vec![sent]).await.unwrap();
        }
        self.inbox()
    }

    /// UIDs in INBOX, with their receipts.
    pub(crate) fn inbox(&self) -> BTreeMap<u32, ReceiptId> {
        let listing = self.store.list(self.mailbox.id, &FolderName::Inbox).unwrap();
        listing.entries.iter().map(|entry| (entry.uid.value(), entry.receipt_id)).collect()
    }

    /// A connection that counts as encrypted, and the task that serves it.
    pub(crate) fn connect(&self, drain: &Drain) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let pop3 =
            Pop3::new(Arc::clone(&self.logins), self.tls.server_config(), drain.clone(), Pop3::waits());
        let (near, far) = tokio::io::duplex(4096);
        let served = tokio::spawn(async move {
            assert!(pop3.converse(near, true, "192.0.2.1".parse().unwrap()).await.is_none());
        });
        (far, served)
    }

    /// Whether the deletion of this receipt's entry is on record, with who did it.
    pub(crate) fn is_deletion_on_record(&self, receipt: ReceiptId) -> bool {
        let views = self.store.receipts(&ReceiptQuery::Id(receipt), Timestamp::from_unix_ms(0), 2).unwrap();
        views.iter().flat_map(|view| &view.placements).flat_map(|placement| &placement.events).any(|event| {
            let client = event.client.as_ref();
            event.kind == "deleted"
                && client.is_some_and(|by| by.protocol == "pop3" && by.peer.to_string() == "192.0.2.1")
        })
    }
}
