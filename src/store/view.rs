//! Receipts as people ask for them: the entry from the log, and what happened to each placement since.

use super::embedded::Shared;
use super::fact::{Entry, Fact, MessageFact, ReceivedFact, ReportRecord};
use super::format::ENTRY_OCTETS_MAX;
use super::index::Index;
use super::log::segment_path;
use super::{
    ARRIVAL_OCTETS_MAX, ARRIVALS_OCTETS_MAX, Arrival, Arrivals, Came, Client, Digest, FolderName, MessageKey,
    ReceiptQuery, RevisionKind, StoreError,
};
use crate::mail::{
    AddressKey, Class, GatewayMailboxId, Judgement, ReceiptId, Rendition, Timestamp, TransportEnvelope, Uid,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Something that happened to a placement after it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// When.
    pub at: Timestamp,
    /// `fetched` or `deleted`.
    pub kind: String,
    /// By whom.
    pub client: Option<Client>,
}

/// Where a message of a receipt is, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementView {
    /// The folder's path.
    pub folder: String,
    /// The UID there.
    pub uid: Uid,
    /// Octets of the message.
    pub octets: Option<u64>,
    /// True when the entry was there before: this receipt added nothing.
    pub spared: bool,
    /// Why it is there.
    pub reasons: Vec<String>,
    /// What happened to it since.
    pub events: Vec<EventView>,
}

/// One message of a receipt: the received one first, then every original of every report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// The store's number; not for people.
    #[serde(skip)]
    pub key: MessageKey,
    /// Its octets.
    pub octets: u64,
    /// `Message-ID`.
    pub message_id: Option<String>,
    /// Which copy it is.
    pub rendition: Rendition,
    /// Keyed digest of its octets; not for people.
    #[serde(skip)]
    pub exact: Digest,
    /// Keyed digest of what forks of it share; not for people.
    #[serde(skip)]
    pub join: Digest,
}

/// A look at the receipt after it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionView {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// Why.
    pub kind: RevisionKind,
}

/// What [`super::Store::walk`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// In the order of their ids.
    pub receipts: Vec<ReceiptView>,
    /// The last receipt that was looked at, shown or not: the next walk goes on behind it. `None` at the end.
    pub last: Option<ReceiptId>,
    /// Receipts whose entries could not be read, each with why.
    pub unread: Vec<(ReceiptId, String)>,
}

/// All that is known of one transaction for one gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// The gateway mailbox.
    pub gateway_mailbox: GatewayMailboxId,
    /// Its address now, unless it was deleted.
    pub address: Option<String>,
    /// Its name now, unless it was deleted.
    pub name: Option<String>,
    /// When it was received.
    pub at: Timestamp,
    /// How it came.
    pub transport: TransportEnvelope,
    /// What it is.
    pub class: Class,
    /// Received octets.
    pub octets: u64,
    /// SHA-256 of the received octets.
    pub sha256: Digest,
    /// Outermost Message-ID.
    pub message_id: Option<String>,
    /// Message-ID of the original as a wrapper names it.
    pub parent_message_id: Option<String>,
    /// The NDR mailbox whose NDR held it: octets and SHA-256 are those of the report it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_from: Option<GatewayMailboxId>,
    /// Message-ID of the journal report whose header alone came back in an NDR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_message_id: Option<String>,
    /// Its messages; none when nothing was stored, because it was held already.
    #[serde(default)]
    pub messages: Vec<MessageView>,
    /// The reports found.
    pub reports: Vec<ReportRecord>,
    /// Kind and detail of each fault found.
    pub defects: Vec<(String, String)>,
    /// Addresses nobody was found for.
    pub unmatched: Vec<String>,
    /// Who really sent it; absent for receipts older than verdicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgement: Option<Judgement>,
    /// The receipt this one repeats.
    pub repeats: Option<ReceiptId>,
    /// Where its messages are.
    pub placements: Vec<PlacementView>,
    /// Looks at it since, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionView>,
}

pub(super) fn receipts(
    shared: &Shared,
    query: &ReceiptQuery,
    since: Timestamp,
    most: usize,
) -> Result<Vec<ReceiptView>, StoreError> {
    shared.read(|index| {
        let ids = match query {
            ReceiptQuery::Id(id) => vec![*id],
            ReceiptQuery::Naming(name) => named(index, name, since, most)?,
            ReceiptQuery::All => index.receipts_since(since, most)?,
        };
        let mut views = Vec::new();
        for id in ids {
            for (segment, place, octets) in index.receipt_entries(id)? {
                views.push(view(shared, index, read_entry(shared, segment, place, octets)?)?);
            }
        }
        Ok(views)
    })
}

/// Everything accepted has an entry in INBOX or, held back, in Quarantine; the order of entries is that of arrival.
pub(super) fn arrivals(
    shared: &Shared,
    gateway_mailbox: GatewayMailboxId,
    which: Arrivals,
    most: usize,
) -> Result<Came, StoreError> {
    shared.read(|index| {
        let mut came = Vec::new();
        for folder in [FolderName::Inbox, FolderName::Quarantine] {
            if let Some(folder) = index.folder(gateway_mailbox, &folder)? {
                came.extend(index.receipts_of_folder(folder.id, which, most)?);
            }
        }
        came.sort_unstable();
        came.dedup();
        match which {
            Arrivals::First => came.truncate(most),
            Arrivals::Last => drop(came.drain(..came.len().saturating_sub(most))),
        }
        if which == Arrivals::Last {
            came.reverse();
        }
        let mut told = Came::default();
        let mut budget = ARRIVALS_OCTETS_MAX;
        for (_, receipt) in came {
            let Some((segment, place, octets)) = index.receipt_entry(receipt, gateway_mailbox)? else {
                continue;
            };
            if octets > ARRIVAL_OCTETS_MAX || u64::from(octets) > budget {
                told.left_out += 1;
                continue;
            }
            budget -= u64::from(octets);
            match read_entry(shared, segment, place, octets) {
                Ok(fact) => told.arrivals.push(Arrival {
                    receipt_id: fact.receipt_id,
                    at: fact.at,
                    class: fact.class,
                    transport: fact.transport,
                    judgement: fact.judgement,
                }),
                // Its own damage is told where it is asked for; the others tell enough.
                Err(StoreError::Damaged(_)) => told.left_out += 1,
                Err(other) => return Err(other),
            }
        }
        if which == Arrivals::Last {
            told.arrivals.reverse();
        }
        Ok(told)
    })
}

/// By Message-ID, with or without its angle brackets, or by address.
fn named(index: &Index, name: &str, since: Timestamp, most: usize) -> Result<Vec<ReceiptId>, StoreError> {
    let mut ids = Vec::new();
    for value in [name.to_owned(), format!("<{name}>"), AddressKey::of(name).as_str().to_owned()] {
        ids.extend(index.receipts_naming(&value, since, most)?);
    }
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.dedup();
    ids.truncate(most);
    Ok(ids)
}

fn read_entry(shared: &Shared, segment: u64, place: u64, octets: u32) -> Result<ReceivedFact, StoreError> {
    let damaged =
        |why: String| StoreError::Damaged(format!("entry in log segment {segment} at {place}: {why}"));
    if octets > ENTRY_OCTETS_MAX {
        return Err(damaged("impossible size".to_owned()));
    }
    let mut entry = vec![0; octets as usize];
    File::open(segment_path(&shared.log_dir(), segment))
        .and_then(|file| file.read_exact_at(&mut entry, place))
        .map_err(|e| damaged(e.to_string()))?;
    match serde_json::from_slice(&entry) {
        Ok(Entry { fact: Fact::Received(fact), .. }) => Ok(*fact),
        Ok(_) => Err(damaged("not a receipt".to_owned())),
        Err(e) => Err(damaged(e.to_string())),
    }
}

fn view(shared: &Shared, index: &Index, fact: ReceivedFact) -> Result<ReceiptView, StoreError> {
    let gateway_mailbox = shared.known(fact.gateway_mailbox);
    let mut placements = Vec::new();
    for placement in &fact.placements {
        let octets = fact.messages.iter().find(|m| m.message == placement.message).map(|m| m.octets);
        placements.push(placement_view(
            index,
            placement.folder,
            placement.uid,
            octets,
            false,
            &placement.reasons,
        )?);
    }
    for spared in &fact.spared {
        placements.push(placement_view(index, spared.folder, spared.uid, None, true, &spared.reasons)?);
    }
    Ok(ReceiptView {
        receipt_id: fact.receipt_id,
        gateway_mailbox: fact.gateway_mailbox,
        address: gateway_mailbox.as_ref().and_then(|m| m.address().map(ToString::to_string)),
        name: gateway_mailbox.map(|m| m.name.clone()),
        at: fact.at,
        transport: fact.transport,
        class: fact.class,
        octets: fact.octets,
        sha256: fact.sha256,
        message_id: fact.message_id,
        parent_message_id: fact.parent_message_id,
        recovered_from: fact.recovered_from,
        returned_message_id: fact.returned_message_id,
        messages: fact.messages.iter().map(message_view).collect(),
        reports: fact.reports,
        defects: fact.defects,
        unmatched: fact.unmatched,
        judgement: fact.judgement,
        repeats: fact.repeats,
        placements,
        revisions: Vec::new(),
    })
}

fn message_view(message: &MessageFact) -> MessageView {
    MessageView {
        key: MessageKey(message.message),
        octets: message.octets,
        message_id: message.message_id.clone(),
        rendition: message.rendition,
        exact: message.exact,
        join: message.join,
    }
}

fn placement_view(
    index: &Index,
    folder: u64,
    uid: Uid,
    octets: Option<u64>,
    spared: bool,
    reasons: &[String],
) -> Result<PlacementView, StoreError> {
    let events = index.events(folder, uid)?;
    Ok(PlacementView {
        folder: index.folder_path(folder)?,
        uid,
        octets,
        spared,
        reasons: reasons.to_vec(),
        events: events
            .into_iter()
            .map(|e| EventView { at: e.at, kind: e.kind, client: serde_json::from_str(&e.client).ok() })
            .collect(),
    })
}
