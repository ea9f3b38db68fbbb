//! Objects and messages of a delivery, or of a new reading, into a group.

use super::{Committer, Group};
use crate::mail::{GatewayMailboxId, ReceiptId};
use crate::store::fact::{Fact, MessageFact, ObjectFact};
use crate::store::stage::SealedContent;
use crate::store::{DeliveredMessage, Digest, Sealed, Source, StoreError, StoredExtent};

/// What is to be stored for a receipt.
pub(super) struct Content<'a> {
    pub(super) receipt_id: ReceiptId,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) objects: &'a [Sealed],
    pub(super) summary: &'a Sealed,
    pub(super) messages: &'a [DeliveredMessage],
}

impl Committer {
    /// Stores the objects and gives the messages their numbers.
    pub(super) fn store_messages(
        &mut self,
        content: &Content<'_>,
        group: &mut Group<'_>,
    ) -> Result<Vec<MessageFact>, StoreError> {
        let mut objects = Vec::with_capacity(content.objects.len());
        for sealed in content.objects {
            objects.push(self.store_object(sealed, content, group)?);
        }
        let summary = self.store_object(content.summary, content, group)?;
        let mut messages = Vec::with_capacity(content.messages.len());
        for (index, message) in content.messages.iter().enumerate() {
            let (number, held) = match message.held {
                Some(held) => (held.0, true),
                None => {
                    self.numbers.message += 1;
                    (self.numbers.message - 1, false)
                }
            };
            let extents = message
                .sources
                .iter()
                .map(|source| stored(source, &objects))
                .collect::<Result<Vec<_>, _>>()?;
            // What is referenced must still be there when this becomes durable; what is new was just put in. Freed since it was
            // looked for, it is stored with the next attempt.
            for source in &message.sources {
                if let Source::Held(extent) = source {
                    group.index.object(extent.object)?;
                    if group.index.is_freed(extent.object)? {
                        return Err(StoreError::Gone);
                    }
                }
            }
            if held && group.index.message_freed_at(number)?.is_some() {
                return Err(StoreError::Gone);
            }
            messages.push(MessageFact {
                message: number,
                extents,
                octets: message.octets,
                canonical: message.canonical,
                exact: message.exact,
                join: message.join,
                message_id: message.message_id.clone(),
                rendition: message.rendition,
                summary: (summary, u32::try_from(index).unwrap_or(u32::MAX)),
                held,
            });
        }
        Ok(messages)
    }

    fn store_object(
        &mut self,
        sealed: &Sealed,
        content: &Content<'_>,
        group: &mut Group<'_>,
    ) -> Result<u64, StoreError> {
        if self.is_sealed_to_lost(sealed) {
            // The password was given up since it was staged: sent again, it is sealed to the key of today.
            return Err(StoreError::Gone);
        }
        let object = self.numbers.object;
        self.numbers.object += 1;
        let (payload, file, payload_sha256) = match &sealed.content {
            SealedContent::Inline(octets) => (octets.as_slice(), None, sealed.sealed_sha256),
            SealedContent::File(file) => (&[][..], Some(file.name().to_owned()), Digest::of(&[])),
        };
        let fact = Fact::Object(ObjectFact {
            object,
            receipt_id: content.receipt_id,
            gateway_mailbox: content.gateway_mailbox,
            octets: sealed.octets,
            sealed_octets: sealed.sealed_octets,
            sealed_sha256: sealed.sealed_sha256,
            file,
        });
        group.push(fact, payload, &payload_sha256)?;
        Ok(object)
    }

    /// Keeps the files among what was stored until the group's fate is known.
    pub(super) fn take_files(&mut self, sealed: impl IntoIterator<Item = Sealed>) {
        for sealed in sealed {
            if let SealedContent::File(file) = sealed.content {
                self.octets.content += sealed.sealed_octets;
                self.files.push(file);
            }
        }
    }
}

/// Octets that so much sealed content adds to the log.
pub(super) fn inline_octets<'a>(sealed: impl Iterator<Item = &'a Sealed>) -> usize {
    sealed
        .map(|sealed| match &sealed.content {
            SealedContent::Inline(octets) => octets.len(),
            SealedContent::File(_) => 0,
        })
        .sum()
}

fn stored(source: &Source, objects: &[u64]) -> Result<StoredExtent, StoreError> {
    match source {
        Source::Held(extent) => Ok(*extent),
        Source::New(extent) => {
            let object = objects.get(extent.object as usize).copied();
            let object = object.ok_or_else(|| {
                StoreError::Refused("a message names an object that is not there".to_owned())
            })?;
            Ok(StoredExtent { object, offset: extent.offset, octets: extent.octets })
        }
    }
}
