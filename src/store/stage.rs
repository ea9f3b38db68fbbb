//! What is sealed and hashed before the committer sees it, in the sessions' own time.

use super::content::ContentFile;
use super::embedded::Shared;
use super::seal::{HashingWriter, SealingKey};
use super::{Digest, MessageKey, StoreError, StoredExtent};
use crate::mail::GatewayMailbox;
use age::stream::StreamWriter;
use aws_lc_rs::hmac;
use std::cell::Cell;
use std::io::{self, Write};
use std::sync::Arc;

/// Sealed content up to this many octets lies in the log; what is longer is a file of its own.
pub(super) const INLINE_OCTETS_MAX: u64 = 1024 * 1024;
/// Octets one delivery keeps in memory at most; further content becomes files whatever its size.
const STAGE_INLINE_OCTETS_MAX: u64 = 8 * 1024 * 1024;
/// What `age` adds to so much content, at most: header, nonce, one tag per 64 KiB.
const SEALING_OVERHEAD_OCTETS: u64 = 1024;

/// The digest key of a gateway mailbox: what two contents are compared under.
///
/// Keyed, because the digests lie in clear: without the key nobody can test whether a known message was received.
#[derive(Clone)]
pub struct DigestKey(hmac::Key);

impl DigestKey {
    pub(super) fn new(key: &Digest) -> DigestKey {
        DigestKey(hmac::Key::new(hmac::HMAC_SHA256, &key.0))
    }

    fn tagged(&self, domain: &[u8], parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(domain);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Digest(context.sign().as_ref().try_into().unwrap_or([0; 32]))
    }

    /// Digest of a message's octets, from their SHA-256: HMAC-SHA-256 over `exact`, length, hash.
    pub fn exact(&self, sha256: &Digest) -> Digest {
        self.tagged(b"exact", &[&sha256.0])
    }

    /// Digest of what forks of a message share, from the SHA-256 of that input: HMAC-SHA-256 over `join`, length, hash.
    pub fn join(&self, sha256: &Digest) -> Digest {
        self.tagged(b"join", &[&sha256.0])
    }

    /// Digest of what makes a receipt "the same again": HMAC-SHA-256 over `identity` and each part with its length.
    pub fn identity(&self, parts: &[&[u8]]) -> Digest {
        self.tagged(b"identity", parts)
    }
}

/// A message the store holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub message: MessageKey,
    /// Its octets.
    pub extents: Vec<StoredExtent>,
}

/// What the store has of a message's octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    Nothing,
    /// A copy that can be relied on.
    Whole(Held),
    /// A copy that cannot be read any more: what is at hand must be stored, and placed anew.
    Damaged,
}

/// Content that is sealed and, if it is a file of its own, durable; not yet named by any entry.
///
/// Dropped without being delivered, a file is removed again.
#[derive(Debug)]
pub struct Sealed {
    pub(super) content: SealedContent,
    pub(super) octets: u64,
    pub(super) sealed_octets: u64,
    pub(super) sealed_sha256: Digest,
    /// The gateway mailbox as it was: sealed to its public key of then.
    pub(super) sealed_for: Arc<GatewayMailbox>,
}

#[derive(Debug)]
pub(super) enum SealedContent {
    Inline(Vec<u8>),
    File(ContentFile),
}

impl Sealed {
    /// Octets before sealing.
    pub fn octets(&self) -> u64 {
        self.octets
    }
}

/// Prepares content for one gateway mailbox. All methods may block.
pub trait Stage: Send {
    /// Starts sealing content of so many octets.
    ///
    /// # Errors
    /// [`StoreError`] when no file can be made for it.
    fn sealer(&self, octets: u64) -> Result<Sealer, StoreError>;

    /// The message held already with this `exact` digest, and whether its sealed octets are all there, unchanged, and sealed to no
    /// lost key.
    fn held(&self, exact: &Digest) -> Result<Holding, StoreError>;

    /// The key that digests are made with.
    fn digest_key(&self) -> &DigestKey;
}

enum Output {
    Inline(StreamWriter<HashingWriter<Vec<u8>>>),
    File(StreamWriter<HashingWriter<ContentFile>>),
}

/// Seals what is written to it.
pub struct Sealer {
    output: Output,
    octets: u64,
    sealed_for: Arc<GatewayMailbox>,
}

impl Write for Sealer {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = match &mut self.output {
            Output::Inline(writer) => writer.write(octets)?,
            Output::File(writer) => writer.write(octets)?,
        };
        self.octets += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sealer {
    /// Ends the content; a file of its own is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be written or synced.
    pub fn finish(self) -> Result<Sealed, StoreError> {
        let fail = |e| StoreError::io("sealing content", e);
        let (content, sealed_octets, sealed_sha256) = match self.output {
            Output::Inline(writer) => {
                let (sealed, octets, sha256) = writer.finish().map_err(fail)?.finish();
                (SealedContent::Inline(sealed), octets, sha256)
            }
            Output::File(writer) => {
                let (mut file, octets, sha256) = writer.finish().map_err(fail)?.finish();
                file.sync().map_err(fail)?;
                (SealedContent::File(file), octets, sha256)
            }
        };
        Ok(Sealed { content, octets: self.octets, sealed_octets, sealed_sha256, sealed_for: self.sealed_for })
    }
}

/// [`Stage`] over the embedded store.
pub(super) struct EmbeddedStage {
    shared: Arc<Shared>,
    route: Arc<super::embedded::Route>,
    /// What may still be kept in memory until the delivery; the rest becomes files.
    inline_octets_left: Cell<u64>,
}

impl EmbeddedStage {
    pub(super) fn new(shared: Arc<Shared>, route: Arc<super::embedded::Route>) -> EmbeddedStage {
        EmbeddedStage { shared, route, inline_octets_left: Cell::new(STAGE_INLINE_OCTETS_MAX) }
    }
}

impl Stage for EmbeddedStage {
    fn sealer(&self, octets: u64) -> Result<Sealer, StoreError> {
        let fail = |e| StoreError::io("sealing content", e);
        let key: &SealingKey = &self.route.sealing_key;
        let room = octets + octets / 4096 + SEALING_OVERHEAD_OCTETS;
        let left = self.inline_octets_left.get();
        let output = if room <= INLINE_OCTETS_MAX && room <= left {
            self.inline_octets_left.set(left - room);
            Output::Inline(key.stream(Vec::with_capacity(usize::try_from(room).unwrap_or(0))).map_err(fail)?)
        } else {
            let file = ContentFile::create(&self.shared.content_dir()).map_err(fail)?;
            Output::File(key.stream(file).map_err(fail)?)
        };
        Ok(Sealer { output, octets: 0, sealed_for: self.route.gateway_mailbox.clone() })
    }

    fn held(&self, exact: &Digest) -> Result<Holding, StoreError> {
        let found =
            match self.shared.read(|index| index.message_with_exact(self.route.gateway_mailbox.id, exact)) {
                // The delivery itself brings about the repair; it must not wait for it here.
                Err(StoreError::IndexDamaged(_)) => return Ok(Holding::Nothing),
                found => found?,
            };
        let Some((id, row)) = found else { return Ok(Holding::Nothing) };
        // A copy that the password of today does not open is none: with what is at hand, it can be read again.
        if row.extents.iter().any(|extent| self.route.gateway_mailbox.is_lost(extent.object)) {
            return Ok(Holding::Damaged);
        }
        // Nobody may have looked at these octets for years: a good copy in hand is not given away for a rotten one.
        for extent in &row.extents {
            if let Err(error) = super::read::verify_object(&self.shared, extent.object) {
                if super::read::is_gone(&error) {
                    // Freed since it was found.
                    return Ok(Holding::Nothing);
                }
                tracing::error!(event = "store.damaged", object = extent.object, %error);
                return Ok(Holding::Damaged);
            }
        }
        Ok(Holding::Whole(Held { message: MessageKey(id), extents: row.extents }))
    }

    fn digest_key(&self) -> &DigestKey {
        &self.route.digest_key
    }
}
