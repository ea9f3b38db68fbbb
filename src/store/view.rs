//! Receipts as people ask for them: the entry from the log, and what happened to each placement since.

use super::embedded::Shared;
use super::fact::{MessageFact, ReceivedFact, ReportRecord, RevisedFact};
use super::index::Index;
use super::recall::{read_received, read_revisions};
use super::relation::{Marks, RELATED_OCTETS_MAX, relate};
use super::{
    ARRIVAL_OCTETS_MAX, ARRIVALS_OCTETS_MAX, Arrival, Arrivals, Came, Client, Digest, FolderName, MessageKey,
    ReceiptQuery, RelatedView, RevisionKind, StoreError, Walk,
};
use crate::mail::{
    AddressKey, Class, GatewayMailboxId, Judgement, ReceiptId, Rendition, Timestamp, TransportEnvelope, Uid,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Something that happened to a placement after it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// When.
    pub at: Timestamp,
    /// `fetched` or `deleted`; `released`, `reassigned` or `reprocessed` when that took it out; `viewed` when it is shown otherwise
    /// now; `expired` when retention did, `undeleted` when it was brought back as another entry.
    pub kind: String,
    /// The client that did it.
    pub client: Option<Client>,
    /// The admin who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// By which rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
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
    /// The look at the receipt that made it, when it was not made as the mail came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionKind>,
    /// What happened to it since.
    pub events: Vec<EventView>,
}

impl PlacementView {
    /// The entry is in its folder still: whatever else than fetching happened to one ended it.
    pub fn is_there(&self) -> bool {
        self.events.iter().all(|event| event.kind == "fetched")
    }

    /// A look at the receipt of this kind took the entry out.
    pub fn left_by(&self, kind: RevisionKind) -> bool {
        self.events.iter().any(|event| event.kind == kind.as_str())
    }
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
    /// In the order of their ids. Of what happened to their placements only the end is told, without the client: to look up who
    /// fetched each would take longer with every session there ever was.
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
    /// When what was received was freed: nobody can read it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_at: Option<Timestamp>,
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
    /// Other receipts of the gateway mailbox with the same message or Message-ID, newest first: at most
    /// [`RELATED_MAX`](super::RELATED_MAX). Only where receipts are asked for by id or by what they name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<RelatedView>,
    /// True when there may be more of those.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_related: bool,
}

impl ReceiptView {
    /// Its own entries in a folder that is no user's, those that are not there any more too.
    pub fn own_entries(&self, folder: &FolderName) -> impl Iterator<Item = &PlacementView> {
        let path = folder.path(None);
        self.placements.iter().filter(move |placement| placement.folder == path && !placement.spared)
    }

    /// It was held back for its verdict when it came.
    pub fn came_held_back(&self) -> bool {
        self.judgement.as_ref().is_some_and(|judgement| judgement.held_back)
    }

    /// An admin let it out of Quarantine.
    pub fn is_released(&self) -> bool {
        self.revisions.iter().any(|revision| revision.kind == RevisionKind::Released)
    }
}

/// Why an entry is there that was brought back.
const UNDELETED: &str = "brought back after it was deleted";

/// How much is told of what happened to placements.
#[derive(Clone, Copy)]
enum Events {
    All,
    /// What ended them.
    End,
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
        let mut octets = RELATED_OCTETS_MAX;
        for id in ids {
            for place in index.receipt_entries(id)? {
                let viewed = read_received(shared, place).and_then(|fact| {
                    let revisions = read_revisions(shared, index, &fact)?;
                    let marks = Marks::of(&fact, &revisions);
                    Ok((marks, view(shared, index, fact, revisions, Events::All)?))
                });
                let (marks, mut view) = match viewed {
                    // One that is damaged hides no other, unless it is the one that is asked for.
                    Err(StoreError::Damaged(what)) if !matches!(query, ReceiptQuery::Id(_)) => {
                        tracing::error!(event = "store.damaged", receipt_id = %id, what);
                        continue;
                    }
                    viewed => viewed?,
                };
                if *query != ReceiptQuery::All {
                    relate(shared, index, &marks, &mut view, &mut octets)?;
                }
                views.push(view);
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
            let Some(place) = index.receipt_entry(receipt, gateway_mailbox)? else { continue };
            let (_, _, octets) = place;
            if octets > ARRIVAL_OCTETS_MAX || u64::from(octets) > budget {
                told.left_out += 1;
                continue;
            }
            budget -= u64::from(octets);
            match read_received(shared, place) {
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

/// Each receipt in its turn; the caller's `most` bounds how many are held in memory.
pub(super) fn walk(shared: &Shared, walk: &Walk) -> Result<Walked, StoreError> {
    shared.read(|index| {
        let ids = index.walk(walk)?;
        let mut walked =
            Walked { last: ids.last().copied().filter(|_| ids.len() >= walk.most), ..Walked::default() };
        for id in ids {
            let Some(place) = index.receipt_entry(id, walk.gateway_mailbox)? else { continue };
            let viewed = read_received(shared, place).and_then(|fact| {
                let revisions = read_revisions(shared, index, &fact)?;
                view(shared, index, fact, revisions, Events::End)
            });
            match viewed {
                Ok(view) => walked.receipts.push(view),
                Err(StoreError::Damaged(why)) => walked.unread.push((id, why)),
                Err(other) => return Err(other),
            }
        }
        Ok(walked)
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

fn view(
    shared: &Shared,
    index: &Index,
    fact: ReceivedFact,
    revisions: Vec<RevisedFact>,
    events: Events,
) -> Result<ReceiptView, StoreError> {
    let gateway_mailbox = shared.known(fact.gateway_mailbox);
    let freed_at = match fact.messages.first() {
        Some(received) => index.message_freed_at(received.message)?,
        None => None,
    };
    let mut view = ReceiptView {
        freed_at,
        receipt_id: fact.receipt_id,
        gateway_mailbox: fact.gateway_mailbox,
        address: gateway_mailbox.as_ref().and_then(|m| m.address().map(ToString::to_string)),
        name: gateway_mailbox.map(|m| m.name.clone()),
        at: fact.at,
        class: fact.class,
        octets: fact.octets,
        sha256: fact.sha256,
        parent_message_id: fact.parent_message_id.clone(),
        recovered_from: fact.recovered_from,
        returned_message_id: fact.returned_message_id.clone(),
        messages: fact.messages.iter().map(message_view).collect(),
        reports: fact.reports.clone(),
        defects: fact.defects.clone(),
        unmatched: fact.unmatched.clone(),
        repeats: fact.repeats,
        placements: placements(index, &fact, &revisions, events)?,
        transport: fact.transport,
        message_id: fact.message_id,
        judgement: fact.judgement,
        revisions: Vec::new(),
        related: Vec::new(),
        more_related: false,
    };
    for revised in revisions {
        if let Some(reading) = revised.reading {
            view.class = reading.class;
            view.parent_message_id = reading.parent_message_id;
            view.returned_message_id = reading.returned_message_id;
            view.messages = reading.messages.iter().map(message_view).collect();
            view.reports = reading.reports;
            view.defects = reading.defects;
        }
        view.unmatched = revised.unmatched;
        view.revisions.push(RevisionView { at: revised.at, actor: revised.actor, kind: revised.kind });
    }
    Ok(view)
}

/// All that were made, then all that were not: each entry is shown once, however often it was wanted.
fn placements(
    index: &Index,
    fact: &ReceivedFact,
    revisions: &[RevisedFact],
    events: Events,
) -> Result<Vec<PlacementView>, StoreError> {
    let view = |(folder, uid), octets, reasons: &[String]| {
        placement_view(index, (folder, uid), octets, reasons, events)
    };
    let readings = revisions.iter().filter_map(|revised| revised.reading.as_ref());
    let messages: Vec<&MessageFact> =
        fact.messages.iter().chain(readings.flat_map(|r| &r.messages)).collect();
    let later = revisions
        .iter()
        .flat_map(|revised| revised.placements.iter().map(|later| (&later.placement, Some(revised.kind))));
    let mut shown = Vec::new();
    let mut seen = HashSet::new();
    for (placement, revision) in fact.placements.iter().map(|placement| (placement, None)).chain(later) {
        seen.insert((placement.folder, placement.uid));
        let octets = messages.iter().find(|m| m.message == placement.message).map(|m| m.octets);
        let made = view((placement.folder, placement.uid), (octets, false), &placement.reasons)?;
        shown.push(PlacementView { revision, ..made });
    }
    // What was brought back: the entry it was before is shown above, with its end.
    for (folder, uid, message) in index.entries_of_receipt(fact.receipt_id, fact.gateway_mailbox)? {
        if seen.insert((folder, uid)) {
            let octets = messages.iter().find(|m| m.message == message).map(|m| m.octets);
            shown.push(view((folder, uid), (octets, false), &[UNDELETED.to_owned()])?);
        }
    }
    let later = revisions.iter().flat_map(|revised| &revised.spared);
    for spared in fact.spared.iter().chain(later) {
        if seen.insert((spared.folder, spared.uid)) {
            shown.push(view((spared.folder, spared.uid), (None, true), &spared.reasons)?);
        }
    }
    Ok(shown)
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
    (folder, uid): (u64, Uid),
    (octets, spared): (Option<u64>, bool),
    reasons: &[String],
    events: Events,
) -> Result<PlacementView, StoreError> {
    let events = match events {
        Events::All => index.events(folder, uid)?,
        Events::End => index.ended(folder, uid)?.into_iter().collect(),
    };
    Ok(PlacementView {
        folder: index.folder_path(folder)?,
        uid,
        octets,
        spared,
        reasons: reasons.to_vec(),
        revision: None,
        events: events
            .into_iter()
            .map(|e| EventView {
                at: e.at,
                kind: e.kind,
                client: e.client.and_then(|client| serde_json::from_str(&client).ok()),
                actor: e.actor,
                why: e.why,
            })
            .collect(),
    })
}
