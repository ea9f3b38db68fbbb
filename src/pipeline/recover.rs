//! NDR mailboxes: what stays there, and the report that is delivered beside it to the gateway mailbox served.
//!
//! An NDR is kept whole where it came, under that key. The report it returns is cut out, read and stored for the gateway
//! mailbox served as if it had come there: by its profile, its key, its mode and pins, with the identity of the same report
//! received directly. So whichever of the two comes second is a repetition, unless it was cut out in doubt. One thing only is taken from the NDR: who sent
//! it, which is what the peer speaks for ([`crate::authentic`]).
//!
//! The octets are copied into a spool of their own and scanned anew: nothing that is around a report can change how it is
//! read. What could be cut in more than one way stays in Quarantine here too.

use super::Inner;
use super::objects::{each_chunk, overlap};
use super::place::{Placed, UNREAD, quarantine_reason, wanted, whole_in_inbox};
use super::prepare::{Gathered, Read, extract_safely, read as read_all};
use crate::extract::{DefectKind, Destination, Extraction, Scanned, Scanner};
use crate::mail::{Class, Extent, GatewayMailbox, GatewayMailboxId, ReceiptId, Role, SessionId, Untrusted};
use crate::observe::metrics::{self, Return};
use crate::store::{Delivered, Delivery, FolderName, Spooled, Store, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The finding that a report came back for a gateway mailbox that is not there, and what it means. The store deletes none that
/// is served; but what says that it was made may be damaged, and an NDR that is refused for that would be lost.
const LOST_HOME: &str = "served-mailbox-gone";
const LOST_HOME_DETAIL: &str =
    "the gateway mailbox that this report is for is not there; the NDR is kept whole";
/// Why mail to an NDR mailbox is under Unassigned.
const NO_REPORT: &str = "it returns no journal report";

/// What becomes of the report in a message.
pub(super) enum Recovery {
    /// There is none, this is no NDR mailbox, or the gateway mailbox served has the whole message.
    Nothing,
    /// It is delivered to this gateway mailbox, read as the message that it is.
    For(Arc<GatewayMailbox>, Box<Read>),
    /// The gateway mailbox served is not there.
    Homeless,
}

impl Recovery {
    pub(super) fn is_homeless(&self) -> bool {
        matches!(self, Recovery::Homeless)
    }
}

/// Looks for a report to recover. `reached`: those that get a delivery of this transaction already. Each gets one, or two
/// entries would stand for one receipt.
pub(super) fn look(
    inner: &Inner,
    ndr_mailbox: &GatewayMailbox,
    ndr: &Read,
    gathered: &Gathered,
    reached: &[Arc<GatewayMailbox>],
) -> Result<Recovery, StoreError> {
    let Role::Ndr { serves } = ndr_mailbox.role else { return Ok(Recovery::Nothing) };
    let Some((extraction, extent)) = ndr.extraction.as_ref().and_then(report_in) else {
        return Ok(Recovery::Nothing);
    };
    if reached.iter().any(|other| other.id == serves) {
        return Ok(Recovery::Nothing);
    }
    // A suspended one takes it: what is refused here is lost for good.
    let Some(served) = home(inner.store.as_ref(), serves)? else { return Ok(Recovery::Homeless) };
    let object = ndr.objects.get(extent.object as usize);
    let object = object.ok_or_else(|| StoreError::Refused("a report lies in no object".to_owned()))?;
    let (spooled, scanned) = cut(inner, object, extent)?;
    let mut report = scanned.and_then(|scanned| extract_safely(&scanned, served.profile, gathered));
    if let Some(report) = &mut report
        && extraction.destination == Destination::Quarantine
    {
        // Where it begins and ends is in doubt, or the NDR was too much: nobody is assigned by a guess.
        report.destination = Destination::Quarantine;
        report.defects.clone_from(&extraction.defects);
    }
    Ok(Recovery::For(served, Box::new(read_all(inner, spooled, report)?)))
}

/// The gateway mailbox that a report is for; `None` when it is not there.
fn home(store: &dyn Store, serves: GatewayMailboxId) -> Result<Option<Arc<GatewayMailbox>>, StoreError> {
    match store.gateway_mailbox_now(serves) {
        Err(StoreError::Gone) => Ok(None),
        served => served.map(Some),
    }
}

/// The outermost report of a message that holds one with an original, and where it lies.
fn report_in(extraction: &Extraction) -> Option<(&Extraction, Extent)> {
    let holds = matches!(extraction.class, Class::JournalReport | Class::JournalNdr);
    let report = extraction.reports.first().filter(|report| holds && !report.originals.is_empty())?;
    Some((extraction, report.extent))
}

/// A run of an object as an object of its own. A bug in the scanner leaves it unread, as it does when a message is received.
fn cut(
    inner: &Inner,
    object: &Spooled,
    extent: Extent,
) -> Result<(Arc<Spooled>, Option<Scanned>), StoreError> {
    let fail = |e| StoreError::io("cutting a report out of an NDR", e);
    let range = extent.offset..extent.offset.saturating_add(extent.octets);
    let mut spool = inner.store.spool();
    let mut scanner = Some(Scanner::new());
    each_chunk(object, &mut |offset, chunk| {
        let mine = overlap(offset, chunk, &range);
        scanner = scanner.take().and_then(|mut scanner| {
            let pushed = AssertUnwindSafe(|| {
                scanner.push(mine);
                scanner
            });
            catch_unwind(pushed).ok()
        });
        spool.write(mine)
    })
    .map_err(fail)?;
    let spooled = Arc::new(spool.finish().map_err(fail)?);
    let scanned = scanner.and_then(|scanner| catch_unwind(AssertUnwindSafe(|| scanner.finish())).ok());
    Ok((spooled, scanned))
}

/// Where mail to an NDR mailbox goes that is not held back: its own INBOX, whole whatever that holds, and besides to Quarantine what a person must look
/// at, to Unassigned what is no NDR of a report. Users have nothing here.
pub(super) fn place_ndr(
    ndr_mailbox: &GatewayMailbox,
    extraction: Option<&Extraction>,
    lost_home: bool,
) -> Placed {
    let mut placements = vec![whole_in_inbox(ndr_mailbox)];
    let beside = match extraction {
        None => Some((FolderName::Quarantine, UNREAD.to_owned())),
        Some(_) if lost_home => Some((FolderName::Quarantine, LOST_HOME_DETAIL.to_owned())),
        Some(read) if read.destination == Destination::Quarantine => {
            let originals = read.reports.first().map_or(0, |report| report.originals.len());
            Some((FolderName::Quarantine, quarantine_reason(read, originals)))
        }
        Some(read) if report_in(read).is_none() => Some((FolderName::Unassigned, NO_REPORT.to_owned())),
        Some(_) => None,
    };
    let beside = beside.filter(|_| ndr_mailbox.archive);
    placements.extend(beside.map(|(folder, why)| wanted(folder, 0, false, vec![why])));
    Placed { placements, ..Placed::default() }
}

/// What the receipt says when there is nobody left to give the report to.
pub(super) fn lost_home() -> (String, String) {
    (LOST_HOME.to_owned(), LOST_HOME_DETAIL.to_owned())
}

/// What the log and the numbers need of a delivery, should it be about a report that came back.
pub(super) struct Returned {
    class: Class,
    recovered_from: Option<GatewayMailboxId>,
    /// Message-ID of the report.
    report: Option<String>,
    held_back: bool,
    /// By its faults it may not be whole.
    may_be_cut: bool,
    /// It has originals, and the store has the octets of each.
    is_held: bool,
}

impl Returned {
    pub(super) fn of(delivery: &Delivery) -> Returned {
        let report = delivery.reports.first().and_then(|report| report.wrapper_message_id.clone());
        let originals = delivery.messages.get(1..).unwrap_or_default();
        Returned {
            class: delivery.class,
            recovered_from: delivery.recovered_from,
            report: report.or_else(|| delivery.returned_message_id.clone()),
            held_back: delivery.judgement.as_ref().is_some_and(|judgement| judgement.held_back),
            may_be_cut: delivery.defects.iter().any(|(kind, _)| DefectKind::name_leaves_doubt(kind)),
            is_held: !originals.is_empty() && originals.iter().all(|original| original.held.is_some()),
        }
    }

    /// `None` when nothing came back here: of an NDR to an NDR mailbox the delivery beside it tells.
    fn result(&self, at: &GatewayMailbox, delivered: &Delivered) -> Option<Return> {
        let is_recovered = self.recovered_from.is_some();
        if self.class == Class::NdrWithoutReport && !is_recovered {
            return delivered.repeats.is_none().then_some(Return::Missing);
        }
        let came_back = is_recovered || self.class == Class::JournalNdr && at.role.is_journal();
        // A report has another identity than the NDR around it. Whether it is new is told by its originals: by where they went, or
        // where nobody has folders, by whether they are held.
        let adds = match (is_recovered, at.archive) {
            (true, _) => true,
            (false, true) => delivered.placements.iter().any(|(path, _)| path != "INBOX"),
            (false, false) => !self.is_held,
        };
        let in_quarantine = || delivered.placements.iter().any(|(path, _)| path == "Quarantine");
        let in_doubt = if at.archive { in_quarantine() } else { self.may_be_cut };
        came_back.then_some(match () {
            () if delivered.repeats.is_some() => Return::AlreadyHeld,
            () if self.held_back => Return::HeldBack,
            () if in_doubt => Return::Doubtful,
            () if adds => Return::Recovered,
            () => Return::AlreadyHeld,
        })
    }
}

/// Says what came of a report that was returned.
pub(super) fn tell(
    receipt_id: ReceiptId,
    session_id: SessionId,
    gateway_mailboxes: &[Arc<GatewayMailbox>],
    returned: &Returned,
    delivered: &Delivered,
) {
    let find = |id| gateway_mailboxes.iter().find(|gateway_mailbox| gateway_mailbox.id == id);
    let Some(at) = find(delivered.gateway_mailbox) else { return };
    let Some(result) = returned.result(at, delivered) else { return };
    metrics::returned(result);
    let report = returned.report.as_deref().unwrap_or_default();
    if result == Return::Missing {
        tracing::warn!(
            event = "journal.report_missing",
            %receipt_id,
            %session_id,
            mailbox = at.login(),
            report = %Untrusted(report),
        );
        return;
    }
    tracing::info!(
        event = "journal.recovered",
        %receipt_id,
        %session_id,
        mailbox = at.login(),
        ndr_mailbox = returned.recovered_from.and_then(find).map(|ndr_mailbox| ndr_mailbox.login()),
        result = result.as_str(),
        repeats = delivered.repeats.map(|repeated| repeated.to_string()),
        report = %Untrusted(report),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::extract;
    use crate::mail::Profile;
    use crate::store::{Embedded, NewGatewayMailbox, Options};

    #[test]
    fn a_report_for_a_gateway_mailbox_that_is_not_there_stays_where_a_person_looks() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store = Embedded::open(&options).unwrap().0;
        let nobody = GatewayMailboxId::new(1, [1; 10]);
        assert!(home(&store, nobody).unwrap().is_none());
        let (name, domain) = ("Contoso".to_owned(), "gw.example".to_owned());
        let (profile, role) = (Profile::Microsoft365, Role::Journal);
        let new = NewGatewayMailbox { name, domain, tenant: None, profile, role };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (made, _) = runtime.block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        assert_eq!(home(&store, made.id).unwrap().unwrap().id, made.id);

        let mut scanner = Scanner::new();
        scanner.push(include_bytes!("../../corpus/demo/ndr.eml"));
        let read = extract(&scanner.finish(), Profile::Microsoft365);
        let folders = |lost_home| -> Vec<FolderName> {
            place_ndr(&made, Some(&read), lost_home).placements.into_iter().map(|p| p.folder).collect()
        };
        assert_eq!(folders(false), [FolderName::Inbox]);
        assert_eq!(folders(true), [FolderName::Inbox, FolderName::Quarantine]);
    }
}
