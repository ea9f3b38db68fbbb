//! Which folders the messages of a delivery go to, and why.

use super::Inner;
use super::prepare::Read;
use crate::assign::{self, Policy, assign, slug};
use crate::extract::{Destination, Extraction};
use crate::mail::{GatewayMailbox, Judgement, ReceiptId, Rendition};
use crate::store::{FolderName, WantedPlacement};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Originals of one report that are placed one by one; a report with more is no report, and goes to Quarantine.
const ORIGINALS_PLACED_MAX: usize = 16;
/// Why a message is in Quarantine on which a bug made extraction fail.
const UNREAD: &str = "the message could not be read";

/// Where the messages go, and which addresses nobody was found for.
pub(super) fn place(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    read: &Read,
    receipt_id: ReceiptId,
    judgement: &Judgement,
) -> (Vec<WantedPlacement>, Vec<String>) {
    if judgement.held_back {
        let why = held_back_reasons(judgement, read.extraction.as_ref());
        return (vec![wanted(FolderName::Quarantine, 0, false, why)], Vec::new());
    }
    let mut placements =
        vec![wanted(FolderName::Inbox, 0, false, vec![format!("accepted for {}", gateway_mailbox.login())])];
    if !gateway_mailbox.archive {
        return (placements, Vec::new());
    }
    let quarantine = |why: String| wanted(FolderName::Quarantine, 0, false, vec![why]);
    let Some(extraction) = &read.extraction else {
        placements.push(quarantine(UNREAD.to_owned()));
        return (placements, Vec::new());
    };
    let shown = shown_messages(extraction);
    if extraction.destination == Destination::Quarantine || shown.len() > ORIGINALS_PLACED_MAX {
        placements.push(quarantine(quarantine_reason(extraction, shown.len())));
        return (placements, Vec::new());
    }
    let mut unmatched = Vec::new();
    let mut unassigned = "nobody is named as sender or recipient in a journal report".to_owned();
    if extraction.destination == Destination::Assign {
        let assignment = assign_safely(inner, gateway_mailbox, extraction, receipt_id);
        unmatched = assignment.unmatched.iter().map(ToString::to_string).collect();
        for placement in assignment.placements {
            let folder = FolderName::User { user: placement.user_id.clone(), folder: placement.folder };
            let reasons: Vec<String> = placement.reasons.iter().map(ToString::to_string).collect();
            for message in &shown {
                let mut wanted = wanted(folder.clone(), *message, true, reasons.clone());
                wanted.slug = Some(slug(placement.primary_address.as_str()));
                placements.push(wanted);
            }
        }
        if placements.len() > 1 {
            return (placements, unmatched);
        }
        unassigned = "no sender or recipient of the report is a known user".to_owned();
    }
    for message in shown {
        placements.push(wanted(FolderName::Unassigned, message, true, vec![unassigned.clone()]));
    }
    (placements, unmatched)
}

/// The verdict and what it rests on; and what else would have brought the message here.
fn held_back_reasons(judgement: &Judgement, extraction: Option<&Extraction>) -> Vec<String> {
    let (verdict, mode) = (judgement.verdict.as_str(), judgement.mode.as_str());
    let mut reasons = vec![format!("held back: {verdict}, and the gateway mailbox is in {mode} mode")];
    reasons.extend(judgement.reasons.iter().cloned());
    match extraction {
        None => reasons.push(UNREAD.to_owned()),
        Some(extraction) if extraction.destination == Destination::Quarantine => {
            reasons.push(quarantine_reason(extraction, shown_messages(extraction).len()));
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

/// The messages users see: of the innermost report that has originals the clear copy of a protected pair, else all of
/// them; without one, the received message.
fn shown_messages(extraction: &Extraction) -> Vec<u32> {
    let mut shown = vec![0];
    let mut first = 1;
    for report in &extraction.reports {
        let count = u32::try_from(report.originals.len()).unwrap_or(u32::MAX);
        let paired = report.originals.iter().any(|o| o.rendition != Rendition::Original);
        let primary = report.primary.and_then(|p| u32::try_from(p).ok());
        if count > 0 {
            shown = match primary {
                Some(primary) if paired => vec![first + primary],
                _ => (first..first + count).collect(),
            };
        }
        first += count;
    }
    shown
}

/// Assignment must not fail; if a bug makes it, nobody is assigned and the message is kept under Unassigned.
fn assign_safely(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    extraction: &Extraction,
    receipt_id: ReceiptId,
) -> assign::Assignment {
    let snapshot = inner.directory.snapshot_of(gateway_mailbox);
    let envelopes: Vec<_> = extraction.reports.iter().map(|r| r.envelope.clone()).collect();
    let assignment = catch_unwind(AssertUnwindSafe(|| assign(&envelopes, &snapshot, &Policy::default())));
    assignment.unwrap_or_else(|_| {
        tracing::error!(event = "journal.assignment_failed", %receipt_id, mailbox = gateway_mailbox.login());
        assign::Assignment::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::Pipeline;
    use super::super::prepare::{Gathered, prepare};
    use super::*;
    use crate::config::Exchange;
    use crate::directory::Directory;
    use crate::mail::{Mode, Profile, ReversePath, SessionId, TransportEnvelope, Trust, Verdict};
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
