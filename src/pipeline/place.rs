//! Which folders the messages of a delivery go to, and why.

use super::Inner;
use super::header_named::is_of_whole;
use super::prepare::Read;
use crate::assign::{self, Policy, assign_one, slug};
use crate::directory::{Directory, Snapshot};
use crate::extract::{Destination, Extraction};
use crate::mail::{Class, GatewayMailbox, Judgement, Maildrop, Mode, ReceiptId, Rendition, Timestamp};
use crate::store::{FolderName, ReportRecord, WantedPlacement};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Originals of a receipt that are placed one by one; a report with more is no report, and goes to Quarantine.
const ORIGINALS_PLACED_MAX: usize = 16;
/// Reasons recorded of one delivery, over all of its placements; far more than the longest genuine report makes. Each placement
/// beyond has [`REASONS_FEW`]: an entry of the store has its limit, and a report inside an original may repeat every reason for
/// each of its own.
const REASONS_TOLD_MAX: usize = 100_000;
const REASONS_FEW: usize = 1;
/// Why a message is in Quarantine on which a bug made extraction fail.
pub(super) const UNREAD: &str = "the message could not be read";

/// The finding that a report inside an original gave its originals to nobody, and why.
const LEFT_WRAPPED: &str = "inner-report-not-assigned";
const ONLY_OUTERMOST: &str =
    "a report inside the original was not unwrapped to users: only the outermost is proven";
const TOO_MANY: &str =
    "a report inside the original was not unwrapped to users: there are too many originals";

/// Why a message is under Unassigned.
pub(super) const NOBODY_NAMED: &str = "nobody is named as sender or recipient in a journal report";
const NOBODY_KNOWN: &str = "no sender or recipient of the report is a known user";
const NOBODY_IN_HEADERS: &str = "the trusted header fields are not there, or name nobody";
const NOBODY_KNOWN_IN_HEADERS: &str = "nobody named in the trusted header fields is a known user";

/// Where the messages of a delivery go.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) placements: Vec<WantedPlacement>,
    /// Addresses nobody was found for.
    pub(super) unmatched: Vec<String>,
    /// Reports inside originals that nobody was assigned by: a finding for the receipt, kind and detail.
    pub(super) left_wrapped: Option<(String, String)>,
}

/// What there is to place: a message just read, or a receipt that is looked at again.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) receipt_id: ReceiptId,
    /// When it came. However late it is looked at again, whose an address was is asked of the same moment.
    pub(super) received_at: Timestamp,
    /// Originals by their number among the messages.
    pub(super) reports: &'a [ReportRecord],
    /// Of each message, the received one first.
    pub(super) renditions: &'a [Rendition],
    pub(super) mode: Mode,
}

/// Where the messages go. Who is named by a report gets the originals of that very report: an original that is a report in
/// turn, or says so, gives nobody what another one holds.
pub(super) fn place(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    read: &Read,
    subject: Subject<'_>,
    judgement: &Judgement,
) -> Placed {
    let outermost = outermost(&shown_messages(subject));
    if judgement.held_back {
        let why = held_back_reasons(judgement, read.extraction.as_ref(), outermost.len());
        return Placed {
            placements: vec![wanted(FolderName::Quarantine, 0, false, why)],
            ..Placed::default()
        };
    }
    let doubtful = is_doubtful(read.extraction.as_ref(), subject);
    let shown_whole =
        doubtful || read.extraction.as_ref().is_none_or(|e| e.defects.iter().any(|d| d.kind.leaves_doubt()));
    let in_inbox = in_inbox(gateway_mailbox, subject, shown_whole);
    let mut placed = Placed { placements: in_inbox, ..Placed::default() };
    if !gateway_mailbox.archive {
        return placed;
    }
    let quarantine = |why: String| wanted(FolderName::Quarantine, 0, false, vec![why]);
    let Some(extraction) = &read.extraction else {
        placed.placements.push(quarantine(UNREAD.to_owned()));
        return placed;
    };
    if doubtful {
        placed.placements.push(quarantine(quarantine_reason(extraction, outermost.len())));
        return placed;
    }
    match extraction.destination {
        destination if destination == Destination::Assign || is_by_header(subject) => {
            let policy = &inner.assigning.load().policy;
            place_by_envelope(&inner.directory, policy, gateway_mailbox, subject, &mut placed);
        }
        _ if extraction.class == Class::Plain && !gateway_mailbox.envelope_headers.is_empty() => {
            unassigned(subject, NOBODY_IN_HEADERS, &mut placed);
        }
        _ => unassigned(subject, NOBODY_NAMED, &mut placed),
    }
    placed
}

/// True when a message is for Quarantine by what it is: nobody is assigned by a guess, and no other copy is to be taken for it.
pub(super) fn is_doubtful(extraction: Option<&Extraction>, subject: Subject<'_>) -> bool {
    extraction.is_none_or(|extraction| extraction.destination == Destination::Quarantine)
        || outermost(&shown_messages(subject)).len() > ORIGINALS_PLACED_MAX
}

/// The entries in INBOX that every accepted message has: itself, or each original of the outermost report, whichever INBOX holds.
/// Where an original is in doubt nobody is given it instead of the whole; by what the receipt has on record, so that a later look
/// decides the same: a missing close delimiter counts wherever it is, though only around an original it leads to Quarantine.
pub(super) fn in_inbox(
    gateway_mailbox: &GatewayMailbox,
    subject: Subject<'_>,
    doubtful: bool,
) -> Vec<WantedPlacement> {
    let whole = whole_in_inbox(gateway_mailbox);
    let originals = if doubtful { Vec::new() } else { originals(subject) };
    if originals.is_empty() {
        return vec![whole];
    }
    let accepted = accepted_for(gateway_mailbox);
    let count = originals.len();
    let shown = |(number, original): (usize, u32)| WantedPlacement {
        in_view: Some(Maildrop::Originals),
        message: original,
        reasons: vec![format!("{accepted}: original {number} of {count}")],
        ..whole.clone()
    };
    let mut placements: Vec<WantedPlacement> = (1..).zip(originals).map(shown).collect();
    placements.push(WantedPlacement { in_view: Some(Maildrop::Reports), ..whole });
    placements
}

/// A received message in INBOX, as it came.
pub(super) fn whole_in_inbox(gateway_mailbox: &GatewayMailbox) -> WantedPlacement {
    wanted(FolderName::Inbox, 0, false, vec![accepted_for(gateway_mailbox)])
}

fn accepted_for(gateway_mailbox: &GatewayMailbox) -> String {
    format!("accepted for {}", gateway_mailbox.login())
}

/// The originals of the outermost report, those in clear first; none when the message is no report, or has more than are placed one
/// by one.
fn originals(subject: Subject<'_>) -> Vec<u32> {
    let report = subject.reports.first().filter(|report| !is_of_whole(report));
    let mut originals = report.map(|report| report.originals.clone()).unwrap_or_default();
    if originals.len() > ORIGINALS_PLACED_MAX {
        return Vec::new();
    }
    originals.sort_by_key(|original| is_protected(subject, *original));
    originals
}

fn is_protected(subject: Subject<'_>, original: u32) -> bool {
    subject.renditions.get(original as usize).is_some_and(|rendition| *rendition == Rendition::Protected)
}

/// Gives the messages to those whom the reports name; to Unassigned when none of them is known.
pub(super) fn place_by_envelope(
    directory: &Directory,
    policy: &Policy,
    gateway_mailbox: &GatewayMailbox,
    subject: Subject<'_>,
    placed: &mut Placed,
) {
    let shown = shown_messages(subject);
    let counted = counted_reports(&shown, subject.mode);
    if counted < shown.len() {
        let why = if subject.mode == Mode::Observe { TOO_MANY } else { ONLY_OUTERMOST };
        placed.left_wrapped = Some((LEFT_WRAPPED.to_owned(), why.to_owned()));
    }
    let before = placed.placements.len();
    let snapshot = directory.snapshot_of(gateway_mailbox);
    assign_each(&snapshot, policy, gateway_mailbox, subject, &shown[..counted], placed);
    if placed.placements.len() == before {
        let why = if is_by_header(subject) { NOBODY_KNOWN_IN_HEADERS } else { NOBODY_KNOWN };
        unassigned(subject, why, placed);
    }
}

/// True when there are originals, and no more than are placed one by one.
pub(super) fn has_placeable_originals(subject: Subject<'_>) -> bool {
    let shown = shown_messages(subject);
    shown.first().is_some_and(|shown| !shown.is_empty() && shown.len() <= ORIGINALS_PLACED_MAX)
}

/// Plain mail that trusted header fields name people for.
fn is_by_header(subject: Subject<'_>) -> bool {
    subject.reports.iter().any(is_of_whole)
}

/// Keeps what is shown where an admin sees it.
pub(super) fn unassigned(subject: Subject<'_>, why: &str, placed: &mut Placed) {
    for message in outermost(&shown_messages(subject)) {
        placed.placements.push(wanted(FolderName::Unassigned, message, true, vec![why.to_owned()]));
    }
}

/// Gives the originals of each report to those it names.
fn assign_each(
    snapshot: &Snapshot,
    policy: &Policy,
    gateway_mailbox: &GatewayMailbox,
    subject: Subject<'_>,
    shown: &[Vec<u32>],
    placed: &mut Placed,
) {
    let receipt_id = subject.receipt_id;
    let mut told: HashSet<String> = HashSet::new();
    let mut reasons_told = 0;
    for ((number, report), shown) in (0..).zip(subject.reports).zip(shown) {
        let assign = || assign_one(&report.envelope, number, subject.received_at, snapshot, policy);
        // It must not fail; if a bug makes it, nobody is assigned and the message is kept under Unassigned.
        let assignment = catch_unwind(AssertUnwindSafe(assign)).unwrap_or_else(|_| {
            tracing::error!(event = "journal.assignment_failed", %receipt_id, mailbox = gateway_mailbox.login());
            assign::Assignment::default()
        });
        let unmatched = assignment.unmatched.iter().map(ToString::to_string);
        placed.unmatched.extend(unmatched.filter(|unmatched| told.insert(unmatched.clone())));
        for placement in assignment.placements {
            let folder = FolderName::User { user: placement.user_id.clone(), folder: placement.folder };
            let reasons = told_reasons(&placement);
            for message in shown {
                let few = reasons.len().min(REASONS_FEW);
                let told = if reasons_told < REASONS_TOLD_MAX { reasons.len() } else { few };
                reasons_told += told;
                let mut wanted = wanted(folder.clone(), *message, true, reasons[..told].to_vec());
                wanted.slug = Some(slug(placement.primary_address.as_str()));
                placed.placements.push(wanted);
            }
        }
    }
}

/// The reasons as they are recorded, and how many more there are.
fn told_reasons(placement: &assign::Placement) -> Vec<String> {
    let more =
        Some(placement.more_reasons).filter(|more| *more > 0).map(|more| format!("and {more} more lines"));
    placement.reasons.iter().map(ToString::to_string).chain(more).collect()
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
fn held_back_reasons(
    judgement: &Judgement,
    extraction: Option<&Extraction>,
    originals: usize,
) -> Vec<String> {
    let (verdict, mode) = (judgement.verdict.as_str(), judgement.mode.as_str());
    let mut reasons = vec![format!("held back: {verdict}, and the gateway mailbox is in {mode} mode")];
    reasons.extend(judgement.reasons.iter().cloned());
    match extraction {
        None => reasons.push(UNREAD.to_owned()),
        Some(extraction) if extraction.destination == Destination::Quarantine => {
            reasons.push(quarantine_reason(extraction, originals));
        }
        Some(_) => {}
    }
    reasons
}

pub(super) fn wanted(
    folder: FolderName,
    message: u32,
    once_per_join: bool,
    reasons: Vec<String>,
) -> WantedPlacement {
    WantedPlacement { folder, slug: None, message, once_per_join, in_view: None, reasons }
}

pub(super) fn quarantine_reason(extraction: &Extraction, originals: usize) -> String {
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

/// The messages users see, of each report: all of its originals but protected copies of one that is there in clear.
fn shown_messages(subject: Subject<'_>) -> Vec<Vec<u32>> {
    let is_in_clear = |original: &u32| !is_protected(subject, *original);
    let shown_of = |report: &ReportRecord| {
        let shown: Vec<u32> = report.originals.iter().copied().filter(is_in_clear).collect();
        if shown.is_empty() { report.originals.clone() } else { shown }
    };
    subject.reports.iter().map(shown_of).collect()
}

/// What is shown to who is not named: of the outermost report, which holds the others; without one, the received message.
fn outermost(shown: &[Vec<u32>]) -> Vec<u32> {
    shown.first().filter(|shown| !shown.is_empty()).cloned().unwrap_or_else(|| vec![0])
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Pipeline;
    use super::super::prepare::{Gathered, prepare};
    use super::*;
    use crate::config::Exchange;
    use crate::directory::Directory;
    use crate::mail::{Profile, ReversePath, Role, SessionId, TransportEnvelope, Trust, Verdict};
    use crate::store::{Embedded, GatewayMailboxChange, NewGatewayMailbox, Options, Store, Unlocked};
    use std::sync::Arc;

    /// What is sent.
    pub(in super::super) const MESSAGE: &[u8] =
        b"X-OriginatorOrg: contoso.onmicrosoft.example\r\n\r\nhello\r\n";

    /// A gateway mailbox that takes mail from 203.0.113.0/24, and a message for it on which scanning failed.
    pub(in super::super) struct Fixture {
        pub(in super::super) store: Arc<dyn Store>,
        pub(in super::super) pipeline: Arc<Pipeline>,
        pub(in super::super) gathered: Gathered,
        pub(in super::super) gateway_mailbox: Arc<GatewayMailbox>,
        pub(in super::super) key: Unlocked,
        pub(in super::super) runtime: tokio::runtime::Runtime,
        _dir: tempfile::TempDir,
    }

    pub(in super::super) fn fixture(peer: &str) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&options).unwrap().0);
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Microsoft365,
            role: Role::default(),
        };
        let networks = vec!["203.0.113.0/24".parse().unwrap()];
        let trust = Trust { mode: Mode::Enforce, networks, certificates: Vec::new() };
        let changes = vec![GatewayMailboxChange::Trust { was: Trust::default(), becomes: trust }];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (made, password) = runtime.block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        runtime.block_on(store.change_gateway_mailbox(made.id, changes, "test")).unwrap();
        let address = made.address().unwrap().clone();
        let key = store.unlock(made.login(), &password).unwrap();
        let pipeline = Pipeline::new(store.clone(), Arc::new(Directory::open(&[]).0), &Exchange::default());
        let mut spool = store.spool();
        spool.write(MESSAGE).unwrap();
        let gateway_mailbox = store.gateway_mailbox(&address.key()).unwrap();
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
                pulled: None,
            },
            gateway_mailboxes: vec![gateway_mailbox.clone()],
            spooled: Arc::new(spool.finish().unwrap()),
            scanned: None,
        };
        Fixture { store, pipeline, gathered, gateway_mailbox, key, runtime, _dir: dir }
    }

    /// What becomes of a message on which scanning failed, from this peer.
    fn check(peer: &str, verdict: Verdict, folders: &[FolderName]) {
        let made = fixture(peer);
        let delivery = prepare(&made.pipeline.inner, &made.gathered).unwrap().deliveries.remove(0);
        assert_eq!(delivery.judgement.unwrap().verdict, verdict);
        let placed: Vec<FolderName> = delivery.placements.iter().map(|p| p.folder.clone()).collect();
        assert_eq!(placed, folders);
        assert!(delivery.placements.last().unwrap().reasons.iter().any(|reason| reason == UNREAD));
    }

    #[test]
    fn what_was_held_back_keeps_out_no_octets_that_are_accepted_later() {
        let mut made = fixture("192.0.2.1:25");
        let inner = made.pipeline.inner.clone();
        let held_back = prepare(&inner, &made.gathered).unwrap().deliveries.remove(0);
        made.gathered.envelope.peer = "203.0.113.9:25".parse().unwrap();
        let accepted = prepare(&inner, &made.gathered).unwrap().deliveries.remove(0);
        assert!(held_back.judgement.unwrap().held_back && !accepted.judgement.unwrap().held_back);
        assert_ne!(held_back.identity, accepted.identity);
    }

    #[test]
    fn a_message_nobody_could_read_is_judged_by_its_peer_alone_and_in_quarantine_once() {
        check("192.0.2.1:25", Verdict::Unverified, &[FolderName::Quarantine]);
        check("203.0.113.9:25", Verdict::Authentic, &[FolderName::Inbox, FolderName::Quarantine]);
    }

    #[test]
    fn every_original_is_shown_but_protected_copies_of_one_in_clear() {
        use Rendition::{Decrypted, Original, Protected};
        for (renditions, shown) in [
            (&[Original][..], &[1][..]),
            (&[Protected, Decrypted], &[2]),
            (&[Protected, Original, Decrypted], &[2, 3]),
            (&[Decrypted, Protected, Decrypted, Original], &[1, 3, 4]),
            (&[Protected, Protected], &[1, 2]),
        ] {
            let report = ReportRecord {
                wrapper_message_id: None,
                envelope: crate::mail::JournaledEnvelope::default(),
                originals: (1..).take(renditions.len()).collect(),
                primary: Some(1),
            };
            let renditions: Vec<Rendition> = [&[Original], renditions].concat();
            let subject = Subject {
                receipt_id: ReceiptId::new(0, [0; 10]),
                received_at: Timestamp::from_unix_ms(0),
                reports: &[report],
                renditions: &renditions,
                mode: Mode::Enforce,
            };
            assert_eq!(shown_messages(subject), [shown], "{renditions:?}");
        }
    }

    #[test]
    fn reasons_beyond_the_limit_are_told_by_their_number() {
        let placement = assign::Placement {
            user_id: "u".to_owned(),
            user_name: "U".to_owned(),
            primary_address: crate::mail::Address::parse("u@x.example").unwrap(),
            folder: crate::mail::UserFolder::Incoming,
            reasons: Vec::new(),
            more_reasons: 7,
        };
        assert_eq!(told_reasons(&placement), ["and 7 more lines"]);
        assert!(told_reasons(&assign::Placement { more_reasons: 0, ..placement }).is_empty());
    }
}
