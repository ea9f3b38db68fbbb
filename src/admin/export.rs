//! Handing out a message as it was received: to whom opens its gateway mailbox.
//!
//! ```text
//! C: {"op":"export-message","receipt_id":"…","key":{"password":"…"}}\n
//! S: {"done":{"exporting":{"octets":1234,"sha256":"…", …}}}\n
//! S: the octets, as many as were said
//! ```
//! When they end early, the message is damaged or the server has ended; the log says which. Whoever takes them counts and hashes.
//!
//! Exports have places of their own ([`EXPORTS_MAX`]): they take none from commands.

use super::Context;
use super::key::{self, Key};
use super::receipts::{Words, only};
use super::request::OpError;
use crate::mail::{ReceiptId, Timestamp};
use crate::net::drain::Drain;
use crate::store::{Digest, StoreError};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Exports at once.
const EXPORTS_MAX: usize = 4;
/// Octets read and sent at a time.
const CHUNK_OCTETS: usize = 256 * 1024;
/// How long whoever takes them may take for one chunk.
pub(super) const CHUNK_WAIT: Duration = Duration::from_secs(60);

static PLACES: Semaphore = Semaphore::const_new(EXPORTS_MAX);

/// What is handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportView {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// When it was received.
    pub at: Timestamp,
    /// As many octets follow.
    pub octets: u64,
    /// Their SHA-256, as computed when they were received.
    pub sha256: Digest,
}

/// An open message.
pub struct Export {
    /// What it is.
    pub view: ExportView,
    /// Its octets. Damage is an error of the reader, also at the end.
    pub reader: Box<dyn Read + Send>,
    _place: SemaphorePermit<'static>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Export").field(&self.view).finish()
    }
}

/// Opens the message that came by this receipt. Blocks.
///
/// # Errors
/// As of opening the gateway mailbox by a key; [`OpError::NotFound`] when there is no such message, [`OpError::Refused`] when every place is taken.
pub fn begin(
    context: &Context,
    actor: &str,
    receipt_id: ReceiptId,
    gateway_mailbox: Option<&str>,
    key: &Key,
) -> Result<Export, OpError> {
    let words = Words { several: "came to", none: "did not come to it" };
    let receipt = only(context, receipt_id, gateway_mailbox, |_| true, words)?;
    let Some(message) = receipt.messages.first() else {
        let first = receipt.repeats.map(|first| format!(": export {first}")).unwrap_or_default();
        return Err(OpError::NotFound(format!(
            "{receipt_id} is the same again, nothing was stored for it{first}"
        )));
    };
    if let Some(at) = receipt.freed_at {
        return Err(OpError::NotFound(format!(
            "the content of {receipt_id} was freed on {at}: nobody has it any more"
        )));
    }
    let place = PLACES
        .try_acquire()
        .map_err(|_| OpError::Refused(format!("{EXPORTS_MAX} exports are running already")))?;
    let mailbox = context.store.gateway_mailbox_now(receipt.gateway_mailbox)?;
    let unlocked = key::open(context, actor, &mailbox, key, "export")?;
    let reader = context.store.open(&unlocked, message.key).map_err(|error| match error {
        StoreError::Damaged(why) => {
            OpError::Refused(format!("the stored message of {receipt_id} is damaged: {why}"))
        }
        error => error.into(),
    })?;
    let view = ExportView {
        receipt_id,
        gateway_mailbox: receipt.address.unwrap_or_default(),
        at: receipt.at,
        octets: receipt.octets,
        sha256: receipt.sha256,
    };
    Ok(Export { view, reader, _place: place })
}

impl Export {
    /// Sends the octets.
    ///
    /// # Errors
    /// Whoever takes them cannot be reached any more, or the server ends.
    pub(super) async fn run(self, mut stream: UnixStream, drain: &Drain) -> io::Result<()> {
        let (receipt_id, mut reader) = (self.view.receipt_id, self.reader);
        loop {
            let read = move || {
                let mut chunk = vec![0; CHUNK_OCTETS];
                let read = reader.read(&mut chunk)?;
                chunk.truncate(read);
                io::Result::Ok((chunk, reader))
            };
            let chunk = match tokio::task::spawn_blocking(read).await.map_err(io::Error::other)? {
                Ok((chunk, again)) => {
                    reader = again;
                    chunk
                }
                Err(error) => {
                    tracing::error!(event = "admin.export_failed", %receipt_id, %error);
                    return Err(error);
                }
            };
            if chunk.is_empty() {
                return stream.shutdown().await;
            }
            let write = tokio::time::timeout(CHUNK_WAIT, stream.write_all(&chunk));
            tokio::select! {
                written = write => written.map_err(io::Error::from)??,
                () = drain.started() => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }
}
