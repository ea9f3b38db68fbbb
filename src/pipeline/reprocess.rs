//! A stored message read again, by what the code knows now: for who opened its gateway mailbox.
//!
//! ```text
//! store.open ─▶ scan, spool ─▶ extract ─▶ digest ─▶ place ─▶ compare with what the receipt says ─▶ Revision
//! ```
//! The octets are those received; nothing of them is stored again. A new reading refers to ranges of what is held, and seals only
//! what it decoded and its summary.
//!
//! Invariants:
//! - What is held back for its verdict stays held back: only its reading is renewed. Who sent it is judged once, when it comes.
//!   So does what was cut out of an NDR with doubts.
//! - What an NDR to an NDR mailbox returns, and was not seen to return when it came, is delivered as it would have been then.
//! - A receipt only moves between Quarantine, Unassigned and users' folders; INBOX is the poller's and stays as it is. What
//!   somebody took from a folder, or an admin let out, does not come back there.
//! - As at its arrival, a bug in extraction or assignment loses nothing: the message is as unreadable as it was.

use super::header_named;
use super::place::{self, Placed, Subject, place};
use super::prepare::{
    CameBy, Contents, EXTRACTION_FAILED, Gathered, Read, Receipt, contents, defects, deliver_to,
    extract_safely, identity, is_about_the_message, read, reports,
};
use super::reception::Taken;
use super::recover::{self, Recovery};
use super::revise::{is_in_inbox_alone, is_quarantined, leaves_doubt, revision};
use super::{Inner, Pipeline};
use crate::extract::Scanned;
use crate::mail::{Class, Evidence, GatewayMailbox, Judgement, Mode, Rendition, Timestamp, Verdict};
use crate::store::{
    Delivered, Delivery, Digest, DigestKey, FolderName, PlacementView, Reading, ReceiptQuery, ReceiptView,
    ReportRecord, Revision, RevisionKind, StoreError, Unlocked, WantedPlacement,
};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Octets read back at a time.
const CHUNK_OCTETS: usize = 256 * 1024;
/// Addresses named of a difference in recipients; the others are only counted.
const RECIPIENTS_TOLD_MAX: usize = 5;

/// What reading a message again found.
#[derive(Debug)]
pub struct Reread {
    /// What is to become of the receipt. Its reading is absent when it says what it said before.
    pub revision: Revision,
    /// What the new reading says differently.
    pub differences: Vec<Difference>,
    /// What the message is, by this reading.
    pub class: Class,
    /// The report that it returns, when the gateway mailbox served has it not from this receipt.
    pub recovered: Option<Box<Recovered>>,
}

/// A report that reading an NDR again found in it, read and sealed for the gateway mailbox served.
#[derive(Debug)]
pub struct Recovered {
    /// The gateway mailbox served.
    pub served: Arc<GatewayMailbox>,
    ndr_mailbox: Arc<GatewayMailbox>,
    delivery: Delivery,
}

/// One thing that a new reading says differently. The texts come from the message.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// What, such as `class`, `sender`, `recipients`, `originals`, `defects`.
    pub what: String,
    /// What it was; empty when there was none.
    pub was: String,
    /// What it is.
    pub is: String,
}

impl Pipeline {
    /// Reads the message of a receipt again, with its gateway mailbox opened by `key`. Changes nothing. Blocks for as long as
    /// receiving the message took, or longer. `None`: there is nothing to read, since the receipt repeats another.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the stored message is not what was stored; [`StoreError::Refused`] when a bug makes
    /// reading fail; else trouble with the disk.
    pub fn reread(
        &self,
        key: &Unlocked,
        receipt: &ReceiptView,
        at: Timestamp,
    ) -> Result<Option<Reread>, StoreError> {
        let Some(message) = receipt.messages.first() else { return Ok(None) };
        let reread = || {
            let stored = self.inner.store.open(key, message.key)?;
            reread(&self.inner, receipt, stored, at)
        };
        let error = match catch_unwind(AssertUnwindSafe(reread)) {
            Ok(Ok(reread)) => return Ok(Some(reread)),
            Ok(Err(error)) if !is_about_the_message(&error) => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "panic".to_owned(),
        };
        let (receipt_id, session_id) = (receipt.receipt_id, receipt.transport.session_id);
        tracing::error!(event = "journal.extraction_failed", %receipt_id, %session_id, error);
        Err(StoreError::Refused(format!("a bug keeps it from being read: {error}")))
    }

    /// Delivers a report that reading an NDR again found, before the NDR itself is revised: should that fail, the next time finds
    /// the report delivered. Two must not be at it for the same receipt.
    ///
    /// # Errors
    /// As delivering to the store; nothing is stored then.
    pub async fn deliver_recovered(&self, recovered: Recovered) -> Result<Delivered, StoreError> {
        let Recovered { served, ndr_mailbox, delivery } = recovered;
        let (receipt_id, session_id) = (delivery.receipt_id, delivery.transport.session_id);
        let returned = recover::Returned::of(&delivery);
        let delivered = self.inner.store.deliver(vec![delivery]).await?.into_iter().next();
        let delivered = delivered.ok_or(StoreError::Gone)?;
        recover::tell(receipt_id, session_id, &[served, ndr_mailbox], &returned, &delivered);
        Ok(delivered)
    }
}

fn reread(
    inner: &Inner,
    receipt: &ReceiptView,
    stored: Box<dyn io::Read + Send>,
    at: Timestamp,
) -> Result<Reread, StoreError> {
    let gateway_mailbox = inner.store.gateway_mailbox_now(receipt.gateway_mailbox)?;
    let gathered = gather(inner, receipt, stored, &gateway_mailbox)?;
    let extraction = gathered
        .scanned
        .as_ref()
        .and_then(|scanned| extract_safely(scanned, gateway_mailbox.profile, &gathered));
    let read = read(inner, gathered.spooled.clone(), extraction)?;
    if read.sha256 != receipt.sha256 {
        return Err(StoreError::Damaged("its SHA-256 is another than when it was received".to_owned()));
    }
    let recovery = recover::look(inner, &gateway_mailbox, &read, &gathered, &[])?;
    let scanned = gathered.scanned.as_ref();
    let mut reread = compare(inner, &gateway_mailbox, receipt, &read, scanned, recovery.is_homeless(), at)?;
    if let Recovery::For(served, report) = recovery
        && !is_known_to(inner, &served, receipt)?
    {
        let of_report = Receipt {
            receipt_id: receipt.receipt_id,
            received_at: receipt.at,
            envelope: &receipt.transport,
            scanned: None,
            came_by: Some(CameBy { ndr_mailbox: &gateway_mailbox, ndr: &read }),
            lost_home: false,
        };
        let delivery = deliver_to(inner, &served, &report, &of_report)?;
        reread.recovered = Some(Box::new(Recovered { served, ndr_mailbox: gateway_mailbox, delivery }));
    }
    Ok(reread)
}

/// True when the transaction brought that gateway mailbox something, be it when it came or since.
fn is_known_to(inner: &Inner, served: &GatewayMailbox, receipt: &ReceiptView) -> Result<bool, StoreError> {
    let all = inner.store.receipts(&ReceiptQuery::Id(receipt.receipt_id), Timestamp::from_unix_ms(0), 1)?;
    Ok(all.iter().any(|one| one.gateway_mailbox == served.id))
}

/// Reads the octets back, scanning them as when they came.
fn gather(
    inner: &Inner,
    receipt: &ReceiptView,
    mut stored: Box<dyn io::Read + Send>,
    gateway_mailbox: &Arc<GatewayMailbox>,
) -> Result<Gathered, StoreError> {
    let mut taken = Taken::new(inner.store.spool());
    loop {
        let mut chunk = vec![0; CHUNK_OCTETS];
        let octets = stored.read(&mut chunk).map_err(|error| match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound => {
                StoreError::Damaged(error.to_string())
            }
            _ => StoreError::io("reading a stored message", error),
        })?;
        if octets == 0 {
            break;
        }
        chunk.truncate(octets);
        taken.absorb(chunk)?;
    }
    let (spooled, scanned) = taken.finish()?;
    Ok(Gathered {
        receipt_id: receipt.receipt_id,
        envelope: receipt.transport.clone(),
        gateway_mailboxes: vec![Arc::clone(gateway_mailbox)],
        spooled,
        scanned,
    })
}

/// What the new reading says differently, and what is to become of the receipt.
fn compare(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    receipt: &ReceiptView,
    read: &Read,
    scanned: Option<&Scanned>,
    lost_home: bool,
    at: Timestamp,
) -> Result<Reread, StoreError> {
    let extraction = read.extraction.as_ref();
    // What was cut out of an NDR was not read by header fields when it came: nobody vouches for them.
    let scanned = scanned.filter(|_| receipt.recovered_from.is_none());
    let by_header = header_named::named(inner, gateway_mailbox, scanned, extraction);
    let mut reports = reports(extraction);
    reports.extend(header_named::record(&by_header));
    let renditions: Vec<Rendition> = read.messages.iter().map(|message| message.rendition).collect();
    let judgement = judgement(receipt);
    let subject = Subject {
        receipt_id: receipt.receipt_id,
        received_at: receipt.at,
        reports: &reports,
        renditions: &renditions,
        mode: judgement.mode,
    };
    let mut placed = match gateway_mailbox.role.is_journal() || judgement.held_back {
        true => place(inner, gateway_mailbox, read, subject, &judgement),
        false => recover::place_ndr(gateway_mailbox, extraction, lost_home),
    };
    let class = extraction.map_or(Class::Unreadable, |e| e.class);
    let doubtful = is_doubtful(receipt);
    let mut found = defects(extraction, &by_header, placed.left_wrapped.take());
    found.extend(lost_home.then(recover::lost_home));
    let defects = if doubtful { doubts(receipt, found, extraction.is_some()) } else { found };
    let stage = inner.store.stage(gateway_mailbox.id)?;
    let differences = differences(receipt, class, &reports, &defects, read, stage.digest_key());
    // Who let it out knew of the doubts: it stays where that brought it.
    let stays_out =
        was_let_out(receipt) && placed.placements.iter().any(|w| w.folder == FolderName::Quarantine);
    let only_reading = judgement.held_back || doubtful || stays_out || receipt.repeats.is_some();
    let leaves = match only_reading {
        true => {
            placed = Placed { unmatched: receipt.unmatched.clone(), ..Placed::default() };
            Vec::new()
        }
        false => settle(gateway_mailbox, receipt, &mut placed.placements),
    };
    let mut revision = revision(receipt, RevisionKind::Reprocessed, placed, leaves, at);
    if !differences.is_empty() {
        let Contents { messages, objects, summary, exacts, joins, heals } = contents(stage.as_ref(), read)?;
        if heals {
            return Err(StoreError::Damaged("what is stored of it cannot be read any more".to_owned()));
        }
        let vouched_for = receipt.is_released() || !place::is_doubtful(extraction, subject);
        if !only_reading && vouched_for {
            let outermost = extraction.and_then(|e| e.whole.message_id.as_deref());
            let key = stage.digest_key();
            revision.identity = Some(identity(key, outermost, &reports, &exacts, &joins)?);
        }
        revision.reading = Some(Reading {
            class,
            parent_message_id: extraction.and_then(|e| e.parent_message_id.clone()),
            returned_message_id: extraction.and_then(|e| e.returned_message_id.clone()),
            reports,
            defects,
            objects,
            summary,
            messages,
        });
    }
    Ok(Reread { revision, differences, class, recovered: None })
}

/// As it was judged when it came; what an admin released since is not held back any more.
fn judgement(receipt: &ReceiptView) -> Judgement {
    match &receipt.judgement {
        Some(judgement) => {
            let held_back = judgement.held_back && !receipt.is_released();
            Judgement { held_back, ..judgement.clone() }
        }
        // Before there were verdicts, all was delivered.
        None => Judgement {
            verdict: Verdict::Unverified,
            reasons: Vec::new(),
            evidence: Evidence::default(),
            mode: Mode::Observe,
            held_back: false,
        },
    }
}

/// It was cut out of an NDR, and something about that brought it to Quarantine, or would have if there had been one: its own
/// octets do not tell what. Whatever does leaves a defect.
fn is_doubtful(receipt: &ReceiptView) -> bool {
    let would_have_been = is_in_inbox_alone(receipt) && leaves_doubt(receipt);
    receipt.recovered_from.is_some() && (is_quarantined(receipt) || would_have_been)
}

/// The defects of such a one are those of the NDR, as at its arrival. Only that it could not be read is told anew.
fn doubts(receipt: &ReceiptView, mut found: Vec<(String, String)>, is_read: bool) -> Vec<(String, String)> {
    let mut doubts = receipt.defects.clone();
    doubts.retain(|(kind, _)| kind != EXTRACTION_FAILED);
    found.retain(|(kind, _)| !is_read && kind == EXTRACTION_FAILED);
    doubts.extend(found);
    doubts
}

/// An admin released it from Quarantine.
fn was_let_out(receipt: &ReceiptView) -> bool {
    receipt.own_entries(&FolderName::Quarantine).any(|placement| placement.left_by(RevisionKind::Released))
}

/// Leaves of what is wanted what may be made, and gives the folders that the receipt leaves for it.
fn settle(
    gateway_mailbox: &GatewayMailbox,
    receipt: &ReceiptView,
    wanted: &mut Vec<WantedPlacement>,
) -> Vec<FolderName> {
    let wants = |folder: &FolderName| wanted.iter().any(|wanted| wanted.folder == *folder);
    let kept = [FolderName::Quarantine, FolderName::Unassigned];
    let now: Vec<bool> = kept.iter().map(|folder| is_in(receipt, folder)).collect();
    let leaves: Vec<FolderName> = kept
        .iter()
        .zip(&now)
        // Without users' folders there is nowhere to go to.
        .filter(|(folder, is_in)| **is_in && gateway_mailbox.archive && !wants(folder))
        .map(|(folder, _)| folder.clone())
        .collect();
    let never_placed = is_in_inbox_alone(receipt);
    wanted.retain(|wanted| match &wanted.folder {
        FolderName::Inbox => false,
        FolderName::User { .. } => true,
        folder => !is_in(receipt, folder) && (never_placed || now.contains(&true)),
    });
    leaves
}

fn is_in(receipt: &ReceiptView, folder: &FolderName) -> bool {
    receipt.own_entries(folder).any(PlacementView::is_there)
}

/// What is told of a new reading, each thing once.
#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn note(&mut self, what: &str, was: String, is: String) {
        if was != is {
            self.0.push(Difference { what: what.to_owned(), was, is });
        }
    }
}

fn differences(
    receipt: &ReceiptView,
    class: Class,
    reports: &[ReportRecord],
    defects: &[(String, String)],
    read: &Read,
    key: &DigestKey,
) -> Vec<Difference> {
    let mut found = Differences::default();
    found.note("class", receipt.class.to_string(), class.to_string());
    found.note("reports", receipt.reports.len().to_string(), reports.len().to_string());
    let of = |reports: &[ReportRecord], what: &dyn Fn(&ReportRecord) -> String| {
        reports.iter().map(what).collect::<Vec<_>>().join("; ")
    };
    let sender = |report: &ReportRecord| {
        report.envelope.sender.as_ref().map(|sender| sender.as_str().to_owned()).unwrap_or_default()
    };
    found.note("sender", of(&receipt.reports, &sender), of(reports, &sender));
    found.note("recipients", of(&receipt.reports, &recipients), of(reports, &recipients));
    let messages = |count: usize| count.saturating_sub(1).to_string();
    found.note("originals", messages(receipt.messages.len()), messages(read.messages.len()));
    found.note("defects", kinds(&receipt.defects), kinds(defects));
    let parent = read.extraction.as_ref().and_then(|e| e.parent_message_id.clone());
    found.note(
        "parent-message-id",
        receipt.parent_message_id.clone().unwrap_or_default(),
        parent.unwrap_or_default(),
    );
    let returned = read.extraction.as_ref().and_then(|e| e.returned_message_id.clone());
    found.note(
        "returned-message-id",
        receipt.returned_message_id.clone().unwrap_or_default(),
        returned.unwrap_or_default(),
    );
    if found.0.is_empty() && is_cut_otherwise(receipt, reports, defects, read, key) {
        found.note("details", String::new(), "of the envelope, the originals or the defects".to_owned());
    }
    found.0
}

/// Something differs that the counts do not show.
fn is_cut_otherwise(
    receipt: &ReceiptView,
    reports: &[ReportRecord],
    defects: &[(String, String)],
    read: &Read,
    key: &DigestKey,
) -> bool {
    let exact = |sha256: &Digest| key.exact(sha256);
    let same_messages = receipt.messages.len() == read.messages.len()
        && receipt.messages.iter().zip(&read.messages).all(|(was, is)| {
            was.exact == exact(&is.sha256) && was.rendition == is.rendition && was.message_id == is.message_id
        });
    !same_messages || receipt.reports != reports || receipt.defects != defects
}

/// How many, and the first of them.
fn recipients(report: &ReportRecord) -> String {
    let all = &report.envelope.recipients;
    let first: Vec<&str> = all.iter().take(RECIPIENTS_TOLD_MAX).map(|r| r.address.as_str()).collect();
    match all.len().saturating_sub(first.len()) {
        0 => first.join(" "),
        more => format!("{} and {more} more", first.join(" ")),
    }
}

/// Each kind once.
fn kinds(defects: &[(String, String)]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for (kind, _) in defects {
        if !kinds.contains(&kind.as_str()) {
            kinds.push(kind);
        }
    }
    kinds.join(" ")
}
