//! Which folders the messages of a delivery go to, and why.

use super::Inner;
use super::prepare::Read;
use crate::assign::{self, Policy, assign, slug};
use crate::extract::{Destination, Extraction, Report};
use crate::mail::{GatewayMailbox, Judgement, Mode, ReceiptId, Rendition};
use crate::store::{FolderName, WantedPlacement};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Originals of a receipt that are placed one by one; a report with more is no report, and goes to Quarantine.
const ORIGINALS_PLACED_MAX: usize = 16;
/// Why a message is in Quarantine on which a bug made extraction fail.
const UNREAD: &str = "the message could not be read";

/// The finding that a report inside an original gave its originals to nobody, and why.
const LEFT_WRAPPED: &str = "inner-report-not-assigned";
const ONLY_OUTERMOST: &str =
    "a report inside the original was not unwrapped to users: only the outermost is proven";
const TOO_MANY: &str =
    "a report inside the original was not unwrapped to users: there are too many originals";

/// Where the messages of a delivery go.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) placements: Vec<WantedPlacement>,
    /// Addresses nobody was found for.
    pub(super) unmatched: Vec<String>,
    /// Reports inside originals that nobody was assigned by: a finding for the receipt, kind and detail.
    pub(super) left_wrapped: Option<(String, String)>,
}

/// Where the messages go. Who is named by a report gets the originals of that very report: an original that is a report in
/// turn, or says so, gives nobody what another one holds.
pub(super) fn place(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    read: &Read,
    receipt_id: ReceiptId,
    judgement: &Judgement,
) -> Placed {
    if judgement.held_back {
        let why = held_back_reasons(judgement, read.extraction.as_ref());
        return Placed {
            placements: vec![wanted(FolderName::Quarantine, 0, false, why)],
            ..Placed::default()
        };
    }
    let inbox = vec![format!("accepted for {}", gateway_mailbox.login())];
    let mut placed =
        Placed { placements: vec![wanted(FolderName::Inbox, 0, false, inbox)], ..Placed::default() };
    if !gateway_mailbox.archive {
        return placed;
    }
    let quarantine = |why: String| wanted(FolderName::Quarantine, 0, false, vec![why]);
    let Some(extraction) = &read.extraction else {
        placed.placements.push(quarantine(UNREAD.to_owned()));
        return placed;
    };
    let shown = shown_messages(extraction);
    let outermost = outermost(&shown);
    if extraction.destination == Destination::Quarantine || outermost.len() > ORIGINALS_PLACED_MAX {
        placed.placements.push(quarantine(quarantine_reason(extraction, outermost.len())));
        return placed;
    }
    let mut unassigned = "nobody is named as sender or recipient in a journal report";
    if extraction.destination == Destination::Assign {
        let counted = counted_reports(&shown, judgement.mode);
        if counted < shown.len() {
            let why = if judgement.mode == Mode::Observe { TOO_MANY } else { ONLY_OUTERMOST };
            placed.left_wrapped = Some((LEFT_WRAPPED.to_owned(), why.to_owned()));
        }
        assign_each(inner, gateway_mailbox, extraction, receipt_id, &shown[..counted], &mut placed);
        if placed.placements.len() > 1 {
            return placed;
        }
        unassigned = "no sender or recipient of the report is a known user";
    }
    for message in outermost {
        placed.placements.push(wanted(FolderName::Unassigned, message, true, vec![unassigned.to_owned()]));
    }
    placed
}

/// Gives the originals of each report to those it names.
fn assign_each(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    extraction: &Extraction,
    receipt_id: ReceiptId,
    shown: &[Vec<u32>],
    placed: &mut Placed,
) {
    let snapshot = inner.directory.snapshot_of(gateway_mailbox);
    for (report, shown) in extraction.reports.iter().zip(shown) {
        let assign = || assign(std::slice::from_ref(&report.envelope), &snapshot, &Policy::default());
        // It must not fail; if a bug makes it, nobody is assigned and the message is kept under Unassigned.
        let assignment = catch_unwind(AssertUnwindSafe(assign)).unwrap_or_else(|_| {
            tracing::error!(event = "journal.assignment_failed", %receipt_id, mailbox = gateway_mailbox.login());
            assign::Assignment::default()
        });
        for unmatched in assignment.unmatched.iter().map(ToString::to_string) {
            if !placed.unmatched.contains(&unmatched) {
                placed.unmatched.push(unmatched);
            }
        }
        for placement in assignment.placements {
            let folder = FolderName::User { user: placement.user_id.clone(), folder: placement.folder };
            let reasons: Vec<String> = placement.reasons.iter().map(ToString::to_string).collect();
            for message in shown {
                let mut wanted = wanted(folder.clone(), *message, true, reasons.clone());
                wanted.slug = Some(slug(placement.primary_address.as_str()));
                placed.placements.push(wanted);
            }
        }
    }
}

/// How many of the reports people are assigned by, from the outermost on. What is proven is the outermost one: whoever writes
/// mail can write a report into it, and have the genuine report of that mail carry it. Where the admin only observes, a report
/// of a report is read too, up to [`ORIGINALS_PLACED_MAX`] originals in all.
fn counted_reports(shown: &[Vec<u32>], mode: Mode) -> usize {
    if mode != Mode::Observe {
        return shown.len().min(1);
    }
    let mut originals = 0;
    let fits = |report: &&Vec<u32>| {
        originals += report.len();
        originals <= ORIGINALS_PLACED_MAX
    };
    shown.iter().take_while(fits).count()
}

/// The verdict and what it rests on; and what else would have brought the message here.
fn held_back_reasons(judgement: &Judgement, extraction: Option<&Extraction>) -> Vec<String> {
    let (verdict, mode) = (judgement.verdict.as_str(), judgement.mode.as_str());
    let mut reasons = vec![format!("held back: {verdict}, and the gateway mailbox is in {mode} mode")];
    reasons.extend(judgement.reasons.iter().cloned());
    match extraction {
        None => reasons.push(UNREAD.to_owned()),
        Some(extraction) if extraction.destination == Destination::Quarantine => {
            reasons.push(quarantine_reason(extraction, outermost(&shown_messages(extraction)).len()));
        }
        Some(_) => {}
    }
    reasons
}

fn wanted(folder: FolderName, message: u32, once_per_join: bool, reasons: Vec<String>) -> WantedPlacement {
    WantedPlacement { folder, slug: None, message, once_per_join, reasons }
}

fn quarantine_reason(extraction: &Extraction, originals: usize) -> String {
    if originals > ORIGINALS_PLACED_MAX {
        return format!("{}: {originals} originals in one report", extraction.class);
    }
    let defects: Vec<String> = extraction.defects.iter().map(|d| d.kind.to_string()).collect();
    if defects.is_empty() {
        extraction.class.to_string()
    } else {
        format!("{}: {}", extraction.class, defects.join(", "))
    }
}

/// The messages users see, of each report: the clear copy of a protected pair, else all of its originals.
fn shown_messages(extraction: &Extraction) -> Vec<Vec<u32>> {
    // The received message stands first.
    let mut first = 1;
    let shown_of = |report: &Report| {
        let count = u32::try_from(report.originals.len()).unwrap_or(u32::MAX);
        let all = first..first + count;
        first += count;
        let paired = report.originals.iter().any(|o| o.rendition != Rendition::Original);
        match report.primary.and_then(|p| u32::try_from(p).ok()) {
            Some(primary) if paired => vec![all.start + primary],
            _ => all.collect(),
        }
    };
    extraction.reports.iter().map(shown_of).collect()
}

/// What is shown to who is not named: of the outermost report, which holds the others; without one, the received message.
fn outermost(shown: &[Vec<u32>]) -> Vec<u32> {
    shown.first().filter(|shown| !shown.is_empty()).cloned().unwrap_or_else(|| vec![0])
}

#[cfg(test)]
mod tests {
    use super::super::Pipeline;
    use super::super::prepare::{Gathered, prepare};
    use super::*;
    use crate::config::Exchange;
    use crate::directory::Directory;
    use crate::mail::{Profile, ReversePath, SessionId, TransportEnvelope, Trust, Verdict};
    use crate::store::{Embedded, GatewayMailboxChange, NewGatewayMailbox, Options, Store};
    use std::sync::Arc;

    /// What becomes of a message on which scanning failed, from this peer.
    fn check(peer: &str, verdict: Verdict, folders: &[FolderName]) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&options).unwrap().0);
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Microsoft365,
        };
        let networks = vec!["203.0.113.0/24".parse().unwrap()];
        let trust = Trust { mode: Mode::Enforce, networks, certificates: Vec::new() };
        let changes = vec![GatewayMailboxChange::Trust { was: Trust::default(), becomes: trust }];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (made, _) = runtime.block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        runtime.block_on(store.change_gateway_mailbox(made.id, changes, "test")).unwrap();
        let address = made.address().unwrap().clone();
        let pipeline = Pipeline::new(store.clone(), Arc::new(Directory::open(&[]).0), &Exchange::default());
        let mut spool = store.spool();
        spool.write(b"X-OriginatorOrg: contoso.onmicrosoft.example\r\n\r\nhello\r\n").unwrap();
        let gathered = Gathered {
            receipt_id: ReceiptId::new(0, [0; 10]),
            envelope: TransportEnvelope {
                session_id: SessionId::new(0, [0; 10]),
                peer: peer.parse().unwrap(),
                helo: "mail.example".to_owned(),
                tls: None,
                reverse_path: ReversePath::Null,
                recipients: vec![address.clone()],
                smtputf8: false,
            },
            gateway_mailboxes: vec![store.gateway_mailbox(&address.key()).unwrap()],
            spooled: Arc::new(spool.finish().unwrap()),
            scanned: None,
        };
        let delivery = prepare(&pipeline.inner, &gathered).unwrap().deliveries.remove(0);
        assert_eq!(delivery.judgement.unwrap().verdict, verdict);
        let placed: Vec<FolderName> = delivery.placements.iter().map(|p| p.folder.clone()).collect();
        assert_eq!(placed, folders);
        assert!(delivery.placements.last().unwrap().reasons.iter().any(|reason| reason == UNREAD));
    }

    #[test]
    fn a_message_nobody_could_read_is_judged_by_its_peer_alone_and_in_quarantine_once() {
        check("192.0.2.1:25", Verdict::Unverified, &[FolderName::Quarantine]);
        check("203.0.113.9:25", Verdict::Authentic, &[FolderName::Inbox, FolderName::Quarantine]);
    }
}
