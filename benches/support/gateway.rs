//! A store with one gateway mailbox on the disk under TMPDIR, a pipeline into it, and reports to send.

use daybook::config::Exchange;
use daybook::directory::Directory;
use daybook::mail::{GatewayMailbox, Profile, ReversePath, Role, TransportEnvelope};
use daybook::pipeline::Pipeline;
use daybook::smtp::Receiver;
use daybook::store::{Embedded, NewGatewayMailbox, Options, Store};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// As the SMTP side hands octets over.
pub(crate) const CHUNK_OCTETS: usize = 64 * 1024;

pub(crate) struct Gateway {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) to: Arc<GatewayMailbox>,
    pub(crate) password: String,
    _dir: tempfile::TempDir,
}

impl Gateway {
    pub(crate) fn new(runtime: &Runtime, profile: Profile) -> Arc<Gateway> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&options).expect("a store").0);
        let new = NewGatewayMailbox {
            name: "bench".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile,
            role: Role::default(),
        };
        let created = runtime.block_on(store.create_gateway_mailbox(new, "bench"));
        let (to, password) = created.expect("a gateway mailbox");
        let pipeline = Pipeline::new(store.clone(), Arc::new(Directory::open(&[]).0), &Exchange::default());
        Arc::new(Gateway { store, pipeline, to, password: password.to_string(), _dir: dir })
    }

    /// Takes a message the way the SMTP server does, up to the moment of the 250.
    pub(crate) async fn deliver(&self, message: &[u8]) {
        let envelope = TransportEnvelope {
            session_id: self.pipeline.session_id(),
            peer: ([127, 0, 0, 1], 25).into(),
            helo: "bench".to_owned(),
            tls: None,
            reverse_path: ReversePath::Null,
            recipients: self.to.address().cloned().into_iter().collect(),
            smtputf8: false,
            pulled: None,
        };
        let mut reception = self.pipeline.begin(self.pipeline.receipt_id(), envelope).expect("reception");
        for chunk in message.chunks(CHUNK_OCTETS) {
            reception.write(chunk).await.expect("write");
        }
        reception.commit().await.expect("commit");
    }
}

/// Lines of text that do not repeat, at least so many octets.
pub(crate) fn text(octets: usize) -> String {
    let mut text = String::with_capacity(octets + 66);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < octets {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (a, b, c) = (state.rotate_left(17), !state, state.rotate_left(41));
        text.push_str(&format!("{state:016x}{a:016x}{b:016x}{c:016x}\r\n"));
    }
    text
}
