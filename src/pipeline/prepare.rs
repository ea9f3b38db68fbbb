//! From a gathered message to the deliveries the store takes: extract, digest, assign, seal.

use super::Inner;
use super::header_named::{self, is_of_whole};
use super::objects::{Layout, Tap, decode_all, each_chunk, run_taps};
use super::place::{Subject, is_doubtful, place};
use super::recover;
use crate::authentic::{self, Peer, Pins, Said};
use crate::extract::{self, Extraction, HeaderEnvelope, MessageFacts, Original, Scanned};
use crate::mail::{
    CanonicalSize, Class, Extent, GatewayMailbox, Judgement, MessageSummary, OriginMarks, Profile, ReceiptId,
    Rendition, Timestamp, TransportEnvelope,
};
use crate::observe::now;
use crate::store::{
    DeliveredMessage, Delivery, Digest, DigestKey, Held, Holding, ReportRecord, Sealed, Spooled, Stage,
    StoreError,
};
use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Originals shorter than this are stored again rather than referenced: opening two objects costs more than they do.
const SHARE_OCTETS_MIN: u64 = 4 * 1024;

/// The finding that a bug kept a message from being read.
pub(super) const EXTRACTION_FAILED: &str = "extraction-failed";

/// A message at the end of its reception.
pub(super) struct Gathered {
    pub(super) receipt_id: ReceiptId,
    pub(super) envelope: TransportEnvelope,
    pub(super) gateway_mailboxes: Vec<Arc<GatewayMailbox>>,
    pub(super) spooled: Arc<Spooled>,
    /// `None` when scanning failed.
    pub(super) scanned: Option<Scanned>,
}

/// Seconds a message spent in each step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    pub(super) extract: f64,
    pub(super) seal: f64,
}

/// What was made of a message.
pub(super) struct Prepared {
    pub(super) deliveries: Vec<Delivery>,
    /// Those they are for.
    pub(super) gateway_mailboxes: Vec<Arc<GatewayMailbox>>,
    pub(super) steps: Steps,
}

/// What is known of a message before any gateway mailbox's keys are asked.
pub(super) struct Read {
    pub(super) extraction: Option<Extraction>,
    pub(super) objects: Vec<Arc<Spooled>>,
    pub(super) messages: Vec<ReadMessage>,
    pub(super) sha256: Digest,
    octets: u64,
}

/// One message: the received one first, then every original of every report.
pub(super) struct ReadMessage {
    extent: Extent,
    canonical: CanonicalSize,
    pub(super) message_id: Option<String>,
    pub(super) rendition: Rendition,
    pub(super) sha256: Digest,
    /// SHA-256 of the join input.
    join_sha256: Digest,
}

/// Makes one delivery for each gateway mailbox. Blocks.
///
/// # Errors
/// Disk and store trouble, and whatever a bug makes of a message: see [`is_about_the_message`].
pub(super) fn prepare(inner: &Inner, gathered: &Gathered) -> Result<Prepared, StoreError> {
    let clock = Instant::now();
    let received_at = now();
    let mut steps = Steps::default();
    let mut profiles: Vec<(Profile, Vec<Arc<GatewayMailbox>>)> = Vec::new();
    for begun in &gathered.gateway_mailboxes {
        // A message can take its time: what its gateway mailbox is like now counts, not what it was like at DATA.
        let gateway_mailbox = inner.store.gateway_mailbox_now(begun.id)?;
        match profiles.iter_mut().find(|(profile, _)| *profile == gateway_mailbox.profile) {
            Some((_, same)) => same.push(gateway_mailbox),
            None => profiles.push((gateway_mailbox.profile, vec![gateway_mailbox])),
        }
    }
    let mut deliveries = Vec::new();
    let mut delivered_to: Vec<_> = profiles.iter().flat_map(|(_, same)| same.iter().cloned()).collect();
    for (profile, gateway_mailboxes) in profiles {
        let extraction =
            gathered.scanned.as_ref().and_then(|scanned| extract_safely(scanned, profile, gathered));
        let read = read(inner, gathered.spooled.clone(), extraction)?;
        steps.extract += clock.elapsed().as_secs_f64() - steps.seal - steps.extract;
        let sealing = Instant::now();
        let receipt = Receipt {
            receipt_id: gathered.receipt_id,
            received_at,
            envelope: &gathered.envelope,
            scanned: gathered.scanned.as_ref(),
            came_by: None,
            lost_home: false,
        };
        for gateway_mailbox in &gateway_mailboxes {
            let recovery = recover::look(inner, gateway_mailbox, &read, gathered, &delivered_to)?;
            let own = Receipt { lost_home: recovery.is_homeless(), ..receipt };
            deliveries.push(deliver_to(inner, gateway_mailbox, &read, &own)?);
            if let recover::Recovery::For(served, report) = recovery {
                let came_by = Some(CameBy { ndr_mailbox: gateway_mailbox, ndr: &read });
                let of_report = Receipt { scanned: None, came_by, ..receipt };
                deliveries.push(deliver_to(inner, &served, &report, &of_report)?);
                delivered_to.push(served);
            }
        }
        steps.seal += sealing.elapsed().as_secs_f64();
    }
    Ok(Prepared { deliveries, gateway_mailboxes: delivered_to, steps })
}

/// True when the failure is the message's, not the disk's: trying again would fail again, so it is kept as it came.
pub(super) fn is_about_the_message(error: &StoreError) -> bool {
    match error {
        StoreError::Refused(_) => true,
        StoreError::Io(e, _) => matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData),
        _ => false,
    }
}

/// Extraction must not fail; if a bug makes it, the message is kept as it came.
pub(super) fn extract_safely(scanned: &Scanned, profile: Profile, gathered: &Gathered) -> Option<Extraction> {
    let extraction = catch_unwind(AssertUnwindSafe(|| extract::extract(scanned, profile)));
    if extraction.is_err() {
        tracing::error!(event = "journal.extraction_failed", receipt_id = %gathered.receipt_id, session_id = %gathered.envelope.session_id);
    }
    extraction.ok()
}

/// Decodes what is encoded and hashes every message in one pass over each object.
pub(super) fn read(
    inner: &Inner,
    received: Arc<Spooled>,
    extraction: Option<Extraction>,
) -> Result<Read, StoreError> {
    let fail = |e| StoreError::io("reading a gathered message", e);
    let octets = received.octets();
    let derived = extraction.as_ref().map(|e| e.derived.as_slice()).unwrap_or_default();
    let objects = decode_all(received, derived, &|| inner.store.spool()).map_err(fail)?;
    let whole = Extent { object: 0, offset: 0, octets };
    let Some(extraction) = extraction else {
        let mut taps = vec![Tap::new(&whole, 0, &[])];
        run_taps(&objects, &mut taps).map_err(fail)?;
        let sha256 = taps.pop().map_or(Digest([0; 32]), Tap::finish);
        let canonical =
            objects.first().map_or(Ok(CanonicalSize::default()), |o| count_canonical(o)).map_err(fail)?;
        let message = ReadMessage {
            extent: whole,
            canonical,
            message_id: None,
            rendition: Rendition::Original,
            sha256,
            join_sha256: sha256,
        };
        return Ok(Read { extraction: None, objects, messages: vec![message], sha256, octets });
    };
    let all: Vec<(&MessageFacts, Rendition)> = std::iter::once((&extraction.whole, Rendition::Original))
        .chain(originals(&extraction).map(|o| (&o.facts, o.rendition)))
        .collect();
    let mut taps = Vec::with_capacity(all.len() * 2);
    for (facts, _) in &all {
        taps.push(Tap::new(&facts.extent, 0, &[]));
        taps.push(Tap::new(&facts.extent, facts.joined_from, &facts.join_prefix));
    }
    run_taps(&objects, &mut taps).map_err(fail)?;
    let mut hashes = taps.into_iter().map(Tap::finish);
    let mut messages = Vec::with_capacity(all.len());
    for (facts, rendition) in all {
        let (Some(sha256), Some(join_sha256)) = (hashes.next(), hashes.next()) else { break };
        messages.push(ReadMessage {
            extent: facts.extent,
            canonical: facts.canonical,
            message_id: facts.message_id.clone(),
            rendition,
            sha256,
            join_sha256,
        });
    }
    let sha256 = messages.first().map_or(Digest([0; 32]), |m| m.sha256);
    Ok(Read { extraction: Some(extraction), objects, messages, sha256, octets })
}

/// Every original of every report, in the order the messages of a delivery stand in.
fn originals(extraction: &Extraction) -> impl Iterator<Item = &Original> {
    extraction.reports.iter().flat_map(|report| &report.originals)
}

/// The size as served, for a message nobody could scan.
fn count_canonical(object: &Spooled) -> std::io::Result<CanonicalSize> {
    let mut count = CanonicalCount::default();
    each_chunk(object, &mut |_, chunk| {
        chunk.iter().for_each(|octet| count.take(*octet));
        Ok(())
    })?;
    Ok(count.finish())
}

/// Counts octet by octet: slow, and too simple to fail where the scanner did.
#[derive(Default)]
struct CanonicalCount {
    size: CanonicalSize,
    after_cr: bool,
}

impl CanonicalCount {
    fn take(&mut self, octet: u8) {
        match octet {
            b'\n' if self.after_cr => self.size.lines += 1,
            b'\n' => self.lone_line_end(),
            _ if self.after_cr => self.lone_line_end(),
            _ => {}
        }
        self.size.octets += 1;
        self.after_cr = octet == b'\r';
        self.size.ends_with_line_end = matches!(octet, b'\n' | b'\r');
    }

    /// A lone CR or LF is served as both.
    fn lone_line_end(&mut self) {
        self.size.octets += 1;
        self.size.lines += 1;
        self.size.bare_line_ends = true;
    }

    fn finish(mut self) -> CanonicalSize {
        if self.after_cr {
            self.lone_line_end();
        }
        self.size
    }
}

#[derive(Clone, Copy)]
pub(super) struct Receipt<'a> {
    pub(super) receipt_id: ReceiptId,
    pub(super) received_at: Timestamp,
    pub(super) envelope: &'a TransportEnvelope,
    /// What header fields of plain mail are read from.
    pub(super) scanned: Option<&'a Scanned>,
    /// What is delivered was returned by an NDR.
    pub(super) came_by: Option<CameBy<'a>>,
    /// It holds a report for a gateway mailbox that is not there.
    pub(super) lost_home: bool,
}

/// How a report came that was recovered.
#[derive(Clone, Copy)]
pub(super) struct CameBy<'a> {
    pub(super) ndr_mailbox: &'a GatewayMailbox,
    pub(super) ndr: &'a Read,
}

/// The delivery to one gateway mailbox: what it holds already is referenced, the rest sealed to its key.
pub(super) fn deliver_to(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    read: &Read,
    receipt: &Receipt<'_>,
) -> Result<Delivery, StoreError> {
    let stage = inner.store.stage(gateway_mailbox.id)?;
    let stage = stage.as_ref();
    let Contents { messages, objects, summary, exacts, joins, heals } = contents(stage, read)?;
    let extraction = read.extraction.as_ref();
    let by_header = header_named::named(inner, gateway_mailbox, receipt.scanned, extraction);
    let mut reports = reports(extraction);
    reports.extend(header_named::record(&by_header));
    // Who sent a report that was returned is shown by the NDR: the peer speaks for that, not for what is inside.
    let told = receipt.came_by.map_or(extraction, |came_by| came_by.ndr.extraction.as_ref());
    // A puller counts for NDR mailboxes alone, and for what was recovered there.
    let for_ndr = receipt.came_by.is_some() || !gateway_mailbox.role.is_journal();
    let judgement = judge(inner, gateway_mailbox, told, receipt.envelope, for_ndr);
    let renditions: Vec<Rendition> = read.messages.iter().map(|message| message.rendition).collect();
    let subject = Subject {
        receipt_id: receipt.receipt_id,
        received_at: receipt.received_at,
        reports: &reports,
        renditions: &renditions,
        mode: judgement.mode,
    };
    let placed = match gateway_mailbox.role.is_journal() || judgement.held_back {
        true => place(inner, gateway_mailbox, read, subject, &judgement),
        false => recover::place_ndr(gateway_mailbox, extraction, receipt.lost_home),
    };
    let mut defects = defects(extraction, &by_header, placed.left_wrapped);
    defects.extend(receipt.lost_home.then(recover::lost_home));
    Ok(Delivery {
        gateway_mailbox: gateway_mailbox.id,
        receipt_id: receipt.receipt_id,
        received_at: receipt.received_at,
        transport: receipt.envelope.clone(),
        class: extraction.map_or(Class::Unreadable, |e| e.class),
        octets: read.octets,
        sha256: read.sha256,
        message_id: extraction.and_then(|e| e.whole.message_id.clone()),
        parent_message_id: extraction.and_then(|e| e.parent_message_id.clone()),
        recovered_from: receipt.came_by.map(|came_by| came_by.ndr_mailbox.id),
        returned_message_id: extraction.and_then(|e| e.returned_message_id.clone()),
        identity: match judgement.held_back || is_doubtful(extraction, subject) {
            true => unaccepted_identity(stage, &exacts, judgement.held_back),
            false => identity(
                stage.digest_key(),
                read.messages.first().and_then(|m| m.message_id.as_deref()),
                &reports,
                &exacts,
                &joins,
            )?,
        },
        heals,
        reports,
        defects,
        unmatched: placed.unmatched,
        judgement: Some(judgement),
        objects,
        summary,
        messages,
        placements: placed.placements,
    })
}

/// What the store is given of a message that was read, for a new receipt or a new reading of an old one.
pub(super) struct Contents {
    /// The received one first, then every original of every report.
    pub(super) messages: Vec<DeliveredMessage>,
    /// Sealed content that is new.
    pub(super) objects: Vec<Sealed>,
    pub(super) summary: Sealed,
    /// Of each message.
    pub(super) exacts: Vec<Digest>,
    pub(super) joins: Vec<Digest>,
    /// A copy held of it is damaged.
    pub(super) heals: bool,
}

/// References what the gateway mailbox holds already, and seals the rest to its key.
pub(super) fn contents(stage: &dyn Stage, read: &Read) -> Result<Contents, StoreError> {
    let key = stage.digest_key();
    let exacts: Vec<Digest> = read.messages.iter().map(|m| key.exact(&m.sha256)).collect();
    let joins: Vec<Digest> = read.messages.iter().map(|m| key.join(&m.join_sha256)).collect();
    let (held, heals) = held_already(stage, read, &exacts)?;
    let (layouts, objects) = seal_objects(stage, read, &held)?;
    let messages = read
        .messages
        .iter()
        .zip(exacts.iter().zip(&joins))
        .zip(&held)
        .map(|((message, (exact, join)), held)| DeliveredMessage {
            sources: layouts
                .get(message.extent.object as usize)
                .map(|l| l.sources(&range(&message.extent)))
                .unwrap_or_default(),
            octets: message.extent.octets,
            canonical: message.canonical,
            exact: *exact,
            join: *join,
            message_id: message.message_id.clone(),
            rendition: message.rendition,
            held: held.as_ref().map(|h| h.message),
        })
        .collect();
    let summary = seal_summary(stage, read)?;
    Ok(Contents { messages, objects, summary, exacts, joins, heals })
}

/// Kind and detail of each fault found, in the order they are told.
pub(super) fn defects(
    extraction: Option<&Extraction>,
    by_header: &HeaderEnvelope,
    left_wrapped: Option<(String, String)>,
) -> Vec<(String, String)> {
    let found = extraction.map(|e| e.defects.as_slice()).unwrap_or_default();
    let all = found.iter().chain(&by_header.defects);
    let mut defects: Vec<(String, String)> = all.map(|d| (d.kind.to_string(), d.detail.clone())).collect();
    if extraction.is_none() {
        defects.push((
            EXTRACTION_FAILED.to_owned(),
            "the message could not be read; it is kept as it came".to_owned(),
        ));
    }
    defects.extend(left_wrapped);
    defects
}

/// Who really sent it. Of a message that nobody could read nothing is known but the peer.
fn judge(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    extraction: Option<&Extraction>,
    envelope: &TransportEnvelope,
    for_ndr: bool,
) -> Judgement {
    let nothing = OriginMarks::default();
    let said = Said {
        outer: extraction.map_or(&nothing, |e| &e.outer),
        returned: extraction.map(|e| e.returned.as_slice()).unwrap_or_default(),
    };
    let pulled = envelope.pulled.as_ref().filter(|_| for_ndr).map(|pulled| pulled.by.as_str());
    let peer = Peer { address: envelope.peer.ip(), tls: envelope.tls.as_ref(), pulled };
    let pins = Pins { trust: &gateway_mailbox.trust, tenant: gateway_mailbox.tenant.as_deref() };
    authentic::judge(&inner.exchange.load(), peer, pins, said)
}

fn range(extent: &Extent) -> Range<u64> {
    extent.offset..extent.offset + extent.octets
}

/// For each message, the copy the store holds already, whole and unchanged; and whether one is damaged.
fn held_already(
    stage: &dyn Stage,
    read: &Read,
    exacts: &[Digest],
) -> Result<(Vec<Option<Held>>, bool), StoreError> {
    let mut heals = false;
    let mut held = Vec::with_capacity(exacts.len());
    for (index, (message, exact)) in read.messages.iter().zip(exacts).enumerate() {
        // The received message is looked up whatever its size: if it is held, this is a message sent again.
        let shared = index == 0 || message.extent.octets >= SHARE_OCTETS_MIN;
        held.push(match if shared { stage.held(exact)? } else { Holding::Nothing } {
            Holding::Whole(held) => Some(held),
            Holding::Nothing => None,
            Holding::Damaged => {
                heals = true;
                None
            }
        });
    }
    Ok((held, heals))
}

/// Lays out and seals every object some message needs.
fn seal_objects(
    stage: &dyn Stage,
    read: &Read,
    held: &[Option<Held>],
) -> Result<(Vec<Layout>, Vec<Sealed>), StoreError> {
    let mut layouts = Vec::with_capacity(read.objects.len());
    let mut sealed = Vec::new();
    for (index, object) in read.objects.iter().enumerate() {
        let mine = |extent: &Extent| extent.object as usize == index;
        let needed: Vec<Range<u64>> =
            read.messages.iter().filter(|m| mine(&m.extent)).map(|m| range(&m.extent)).collect();
        let known: Vec<_> = read
            .messages
            .iter()
            .zip(held)
            .filter(|(m, _)| mine(&m.extent))
            .filter_map(|(m, held)| held.as_ref().map(|h| (range(&m.extent), h.extents.clone())))
            .collect();
        let stored = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        let layout = Layout::new(&needed, &known, stored);
        if layout.new_octets > 0 {
            sealed.push(layout.seal(object, stage.sealer(layout.new_octets)?)?);
        }
        layouts.push(layout);
    }
    Ok((layouts, sealed))
}

fn seal_summary(stage: &dyn Stage, read: &Read) -> Result<Sealed, StoreError> {
    let fail = |e| StoreError::io("sealing a summary", e);
    let summaries: Vec<_> = match &read.extraction {
        Some(extraction) => std::iter::once(&extraction.whole)
            .chain(originals(extraction).map(|o| &o.facts))
            .zip(&read.messages)
            .map(|(facts, message)| summary_of(facts, message.sha256))
            .collect(),
        None => read
            .messages
            .iter()
            .map(|m| MessageSummary {
                sha256: m.sha256.to_string(),
                octets: m.extent.octets,
                header_octets: 0,
                canonical: m.canonical,
                structure: None,
            })
            .collect(),
    };
    let octets = MessageSummary::encode(&summaries).map_err(|e| fail(e.into()))?;
    let mut sealer = stage.sealer(octets.len() as u64)?;
    sealer.write_all(&octets).map_err(fail)?;
    sealer.finish()
}

fn summary_of(facts: &MessageFacts, sha256: Digest) -> MessageSummary<'_> {
    MessageSummary {
        sha256: sha256.to_string(),
        octets: facts.extent.octets,
        header_octets: facts.header_octets,
        canonical: facts.canonical,
        structure: Some(Cow::Borrowed(&facts.structure)),
    }
}

/// The reports as the store records them: originals by their number among the delivery's messages.
pub(super) fn reports(extraction: Option<&Extraction>) -> Vec<ReportRecord> {
    // The received message stands first.
    let mut next = 1;
    let reports = extraction.map(|e| e.reports.as_slice()).unwrap_or_default();
    reports
        .iter()
        .map(|report| {
            let first = next;
            next += u32::try_from(report.originals.len()).unwrap_or(u32::MAX);
            ReportRecord {
                wrapper_message_id: report.wrapper_message_id.clone(),
                envelope: report.envelope.clone(),
                originals: (first..next).collect(),
                primary: report.primary.and_then(|p| u32::try_from(p).ok()).map(|p| first + p),
            }
        })
        .collect()
}

/// What makes another message the same again: outermost Message-ID, and of each report its wrapper's Message-ID, its
/// recorded envelope and the joins of its originals. Without an original there is only the message itself. So it is where the
/// message is the original: no wrapper's Message-ID tells one copy from another, and every copy is kept.
pub(super) fn identity(
    key: &DigestKey,
    outermost: Option<&str>,
    reports: &[ReportRecord],
    exacts: &[Digest],
    joins: &[Digest],
) -> Result<Digest, StoreError> {
    let mut parts: Vec<Vec<u8>> = vec![outermost.unwrap_or_default().as_bytes().to_vec()];
    for report in reports {
        parts.push(report.wrapper_message_id.clone().unwrap_or_default().into_bytes());
        parts.push(
            serde_json::to_vec(&report.envelope)
                .map_err(|e| StoreError::io("digesting an envelope", e.into()))?,
        );
        parts.extend(report.originals.iter().filter_map(|o| joins.get(*o as usize)).map(|j| j.0.to_vec()));
    }
    if reports.iter().all(|report| report.originals.is_empty() || is_of_whole(report)) {
        parts.extend(exacts.first().map(|e| e.0.to_vec()));
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Ok(key.identity(&parts))
}

/// The same for a message that is held back, or was read with doubts: only its very octets make another one the same again, so
/// that none hides another that merely resembles it. The shape of the parts is none that [`identity`] makes: a forged copy of a
/// report, or a damaged one that nobody was given, can neither keep the genuine one out nor be taken for it.
/// Nor can one that was held back keep out the same octets from a peer that is trusted by now.
fn unaccepted_identity(stage: &dyn Stage, exacts: &[Digest], held_back: bool) -> Digest {
    let exact = exacts.first().map(|exact| exact.0.as_slice()).unwrap_or_default();
    let why: &[u8] = if held_back { b"held back" } else { b"doubtful" };
    stage.digest_key().identity(&[b"", why, exact])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Spool;

    fn check(octets: &[u8], expect: (u64, u64, bool, bool)) {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::in_dir(dir.path());
        spool.write(octets).unwrap();
        let size = count_canonical(&spool.finish().unwrap()).unwrap();
        assert_eq!(
            (size.octets, size.lines, size.bare_line_ends, size.ends_with_line_end),
            expect,
            "{octets:?}"
        );
    }

    #[test]
    fn counts_the_canonical_size_of_what_could_not_be_scanned() {
        check(b"", (0, 0, false, false));
        check(b"a\r\nb\r\n", (6, 2, false, true));
        check(b"a\nb", (4, 1, true, false));
        check(b"a\rb\r", (6, 2, true, true));
        check(b"\r\r\n\n", (6, 3, true, true));
    }
}
