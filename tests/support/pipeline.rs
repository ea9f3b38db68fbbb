//! A store with the users of the demonstration and a pipeline into it, without a server.
//!
//! Take it in with `#[path = "support/pipeline.rs"] mod support;`.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use daybook::config::{DirectorySource, Exchange};
use daybook::directory::Directory;
use daybook::mail::*;
use daybook::pipeline::Pipeline;
use daybook::smtp::{Fault, Receiver};
use daybook::store::*;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) struct Gateway {
    pub(crate) store: Arc<Embedded>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

pub(crate) fn eml(name: &str) -> Vec<u8> {
    std::fs::read(corpus(name)).unwrap()
}

impl Gateway {
    pub(crate) fn new() -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) =
            Embedded::open(&Options { data_dir: dir.path().to_owned(), reserve_octets: 0 }).unwrap();
        let source = DirectorySource::file("users", corpus("demo/users.toml"));
        let (directory, report) = Directory::open(&[source]);
        assert!(report.is_good());
        let store = Arc::new(store);
        let pipeline = Pipeline::new(store.clone(), Arc::new(directory), &Exchange::default());
        Gateway { store, pipeline, runtime: tokio::runtime::Runtime::new().unwrap(), dir }
    }

    pub(crate) fn create(&self, profile: Profile) -> (Arc<GatewayMailbox>, Unlocked) {
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile,
            role: Role::default(),
        };
        let (made, password) = self.runtime.block_on(self.store.create_gateway_mailbox(new, "test")).unwrap();
        let key = self.store.unlock(made.login(), &password).unwrap();
        (made, key)
    }

    pub(crate) fn change(&self, of: &GatewayMailbox, change: GatewayMailboxChange) {
        self.runtime.block_on(self.store.change_gateway_mailbox(of.id, vec![change], "test")).unwrap();
    }

    pub(crate) fn envelope(&self, to: &[&GatewayMailbox]) -> TransportEnvelope {
        TransportEnvelope {
            session_id: self.pipeline.session_id(),
            peer: "127.0.0.1:2525".parse().unwrap(),
            helo: "mail.example".to_owned(),
            tls: None,
            reverse_path: ReversePath::Null,
            recipients: to.iter().map(|m| m.address().unwrap().clone()).collect(),
            smtputf8: false,
            pulled: None,
        }
    }

    pub(crate) fn try_send(
        &self,
        to: &[&GatewayMailbox],
        message: &[u8],
        chunk: usize,
    ) -> Result<ReceiptId, Fault> {
        let receipt_id = self.pipeline.receipt_id();
        self.runtime.block_on(async {
            let mut reception = self.pipeline.begin(receipt_id, self.envelope(to))?;
            for chunk in message.chunks(chunk) {
                reception.write(chunk).await?;
            }
            reception.commit().await?;
            Ok(receipt_id)
        })
    }

    pub(crate) fn send(&self, to: &GatewayMailbox, message: &[u8]) -> ReceiptId {
        self.try_send(&[to], message, 4096).unwrap()
    }

    pub(crate) fn folders(&self, of: &GatewayMailbox) -> Vec<(String, u64)> {
        self.store.folders(of.id).unwrap().into_iter().map(|f| (f.path, f.entries)).collect()
    }

    pub(crate) fn read(&self, key: &Unlocked, folder: &FolderName) -> Vec<Vec<u8>> {
        let listing = self.store.list(key.gateway_mailbox.id, folder).unwrap();
        listing
            .entries
            .iter()
            .map(|entry| {
                let mut octets = Vec::new();
                self.store.open(key, entry.message).unwrap().read_to_end(&mut octets).unwrap();
                assert_eq!(octets.len() as u64, entry.octets);
                octets
            })
            .collect()
    }

    pub(crate) fn receipt(&self, id: ReceiptId) -> ReceiptView {
        let mut views = self.store.receipts(&ReceiptQuery::Id(id), Timestamp::from_unix_ms(0), 10).unwrap();
        assert_eq!(views.len(), 1);
        views.remove(0)
    }
}

pub(crate) fn incoming(user: &str) -> FolderName {
    FolderName::User { user: user.to_owned(), folder: UserFolder::Incoming }
}

pub(crate) fn as_str(folders: &[(String, u64)]) -> Vec<(&str, u64)> {
    folders.iter().map(|(path, n)| (path.as_str(), *n)).collect()
}
