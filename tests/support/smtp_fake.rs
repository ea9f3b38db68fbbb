//! A receiver that keeps messages in memory and fails where told to.

use daybook::mail::{Address, ReceiptId, SessionId, TransportEnvelope};
use daybook::smtp::{BoxFuture, Fault, Peer, Receiver, Reception, RecipientVerdict};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Where a fault is to be met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) open: Option<Fault>,
    pub(crate) begin: Option<Fault>,
    pub(crate) write: Option<Fault>,
    pub(crate) commit: Option<Fault>,
}

/// A message that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) envelope: TransportEnvelope,
    pub(crate) body: Vec<u8>,
}

/// Serves a few addresses of `gateway.example`, told apart by their local part.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) faults: Faults,
    kept: Arc<Mutex<Vec<Kept>>>,
    drawn: AtomicU64,
}

impl Fake {
    pub(crate) fn new(faults: Faults) -> Fake {
        Fake { faults, ..Fake::default() }
    }

    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.kept.lock().unwrap().clone()
    }
}

impl Receiver for Fake {
    fn room(&self, _octets: Option<u64>) -> Result<(), Fault> {
        self.faults.open.map_or(Ok(()), Err)
    }

    fn recipient(&self, address: &Address, already: &[Address], _peer: &Peer<'_>) -> RecipientVerdict {
        if address.domain() != "gateway.example" {
            return RecipientVerdict::Unknown;
        }
        match address.local() {
            "journal" | "other" | "\"a b\"" | "zoë" => RecipientVerdict::Accept,
            "forbidden" => RecipientVerdict::Forbidden,
            "suspended" => RecipientVerdict::Suspended,
            "unclear" => RecipientVerdict::TryLater,
            "alone" if already.is_empty() => RecipientVerdict::Accept,
            "alone" => RecipientVerdict::TooMany,
            _ => RecipientVerdict::Unknown,
        }
    }

    fn session_id(&self) -> SessionId {
        SessionId::new(self.drawn.fetch_add(1, Ordering::SeqCst), [0; 10])
    }

    fn receipt_id(&self) -> ReceiptId {
        ReceiptId::new(self.drawn.fetch_add(1, Ordering::SeqCst), [0; 10])
    }

    fn begin(
        &self,
        _receipt_id: ReceiptId,
        envelope: TransportEnvelope,
    ) -> Result<Box<dyn Reception>, Fault> {
        if let Some(fault) = self.faults.begin {
            return Err(fault);
        }
        Ok(Box::new(Incoming {
            faults: self.faults,
            kept: Arc::clone(&self.kept),
            message: Kept { envelope, body: Vec::new() },
        }))
    }
}

struct Incoming {
    faults: Faults,
    kept: Arc<Mutex<Vec<Kept>>>,
    message: Kept,
}

impl Reception for Incoming {
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if let Some(fault) = self.faults.write {
                return Err(fault);
            }
            self.message.body.extend_from_slice(octets);
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            if let Some(fault) = self.faults.commit {
                return Err(fault);
            }
            self.kept.lock().unwrap().push(self.message);
            Ok(())
        })
    }
}
