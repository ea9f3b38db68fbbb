//! What the first reports of a gateway mailbox teach about who sends them, and how its last messages were judged.
//!
//! Nothing is kept for it: it is counted anew from the receipts whenever somebody looks. Pure but for the one question.
//!
//! The tenant is learned from proven sessions alone, at both ends: reports that anybody can send neither use up the first
//! ones nor hide, by coming first, what Exchange Online sends today.

use super::Context;
use super::request::{AddressView, OpError};
use crate::mail::{
    AddressKey, CertificateWorth, Class, ClientCertificate, GatewayMailboxId, Network, ReceiptId,
    ReversePath, Timestamp, Verdict,
};
use crate::store::{Arrival, Arrivals, Came};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Reports that teach.
pub const LEARNED_REPORTS_MAX: usize = 100;
/// Messages looked through for them.
const LOOKED_THROUGH_MAX: usize = 1_000;
/// Last messages that are looked at.
const RECENT_MESSAGES_MAX: usize = 500;
/// Values of a kind that are told, the most frequent.
const VALUES_MAX: usize = 10;
/// Characters of a value that are kept: a peer may write headers of any length.
const VALUE_CHARACTERS_MAX: usize = 256;
/// Peers are told by networks of so many bits.
const NETWORK_V4_BITS: u8 = 24;
const NETWORK_V6_BITS: u8 = 48;

/// A value, and in how many reports it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// As written, but for the case of what has none.
    pub value: String,
    /// Reports.
    pub reports: u64,
}

/// A client certificate, and how many reports came with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedCertificate {
    /// SHA-256 of its DER, in lower-case hex.
    pub sha256: String,
    /// Names in it.
    pub dns_names: Vec<String>,
    /// Reports.
    pub reports: u64,
    /// Of them, those for which it proved to be Exchange Online's: any tenant's.
    pub exchange: u64,
}

/// How many messages were judged how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Proven.
    pub authentic: u64,
    /// Neither proven nor contradicted.
    pub unverified: u64,
    /// Contradicted.
    pub suspect: u64,
    /// Older than verdicts.
    pub unjudged: u64,
    /// Of all these, those kept in Quarantine alone because of the verdict.
    pub held_back: u64,
}

impl Verdicts {
    fn count(&mut self, arrival: &Arrival) {
        let judgement = arrival.judgement.as_ref();
        *match judgement.map(|judgement| judgement.verdict) {
            Some(Verdict::Authentic) => &mut self.authentic,
            Some(Verdict::Unverified) => &mut self.unverified,
            Some(Verdict::Suspect) => &mut self.suspect,
            None => &mut self.unjudged,
        } += 1;
        self.held_back += u64::from(judgement.is_some_and(|judgement| judgement.held_back));
    }
}

/// What the first reports say of their senders; the most frequent values of each kind, most frequent first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedView {
    /// Reports looked at, NDRs with a report included.
    pub reports: u64,
    /// More are not looked at.
    pub reports_max: u64,
    /// These are all that ever came.
    #[serde(default)]
    pub complete: bool,
    /// When the first of them came.
    pub first: Option<Timestamp>,
    /// When the last of them came.
    pub last: Option<Timestamp>,
    /// The one outer `X-OriginatorOrg`, in lower case, where network and certificate proved the peer to be Exchange Online.
    /// Counted from as many reports over such sessions, whatever others came between them.
    pub tenants_proven: Vec<Counted>,
    /// The same of the last messages.
    #[serde(default)]
    pub tenants_recent: Vec<Counted>,
    /// Every outer `X-OriginatorOrg` of all others. Anybody can write it there.
    pub tenants_elsewhere: Vec<Counted>,
    /// The tenant's GUID in the outer `X-LD-Processed`.
    pub ld_processed: Vec<Counted>,
    /// The outer `Sender`.
    pub senders: Vec<Counted>,
    /// MAIL FROM; empty is the null path.
    pub reverse_paths: Vec<Counted>,
    /// Networks of the peers.
    pub networks: Vec<Counted>,
    /// Certificates of the peers.
    pub certificates: Vec<CountedCertificate>,
    /// How they were judged.
    pub verdicts: Verdicts,
}

/// How the last messages were judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentView {
    /// Messages looked at.
    pub messages: u64,
    /// When the first of them came.
    pub since: Option<Timestamp>,
    /// How they were judged.
    pub verdicts: Verdicts,
    /// Messages among them that were too large to be looked at, or damaged, or too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The first and the last messages of a gateway mailbox.
pub(super) struct Seen {
    first: Came,
    /// Every message that ever came is among the first.
    complete: bool,
    last: Came,
}

/// Reads both ends of what came to a gateway mailbox. Reads from the disk.
pub(super) fn seen(context: &Context, id: GatewayMailboxId) -> Result<Seen, OpError> {
    let of = |came: &Came| came.arrivals.len() as u64 + came.left_out;
    // Mostly the first messages are proven reports, and no more need be read.
    let mut asked = LEARNED_REPORTS_MAX;
    let mut first = context.store.arrivals(id, Arrivals::First, asked)?;
    if of(&first) >= asked as u64 && proven(&first.arrivals).count() < LEARNED_REPORTS_MAX {
        asked = LOOKED_THROUGH_MAX;
        first = context.store.arrivals(id, Arrivals::First, asked)?;
    }
    let complete = of(&first) < asked as u64 && first.left_out == 0;
    let last = context.store.arrivals(id, Arrivals::Last, RECENT_MESSAGES_MAX)?;
    Ok(Seen { first, complete, last })
}

impl Seen {
    /// What the reports teach.
    pub(super) fn learned(&self) -> LearnedView {
        let view = learn(&self.first.arrivals);
        // With the last report beyond those that are counted, there are more.
        let complete = self.complete && reports(&self.first.arrivals).count() as u64 == view.reports;
        LearnedView { complete, tenants_recent: tenants(proven(&self.last.arrivals)), ..view }
    }

    /// How the last messages were judged, and which of `addresses` they used.
    pub(super) fn recent(&self, addresses: &mut [AddressView]) -> RecentView {
        let arrivals = &self.last.arrivals;
        for address in addresses {
            let key = AddressKey::of(&address.address);
            let used = arrivals.iter().filter(|a| a.transport.recipients.iter().any(|to| to.key() == key));
            address.last_used = used.map(|arrival| arrival.at).max();
        }
        let mut recent = RecentView {
            messages: arrivals.len() as u64,
            since: arrivals.iter().map(|arrival| arrival.at).min(),
            verdicts: Verdicts::default(),
            left_out: self.last.left_out,
        };
        arrivals.iter().for_each(|arrival| recent.verdicts.count(arrival));
        recent
    }
}

/// Counts values, each once a report.
#[derive(Default)]
struct Values(BTreeMap<String, u64>);

impl Values {
    fn count(&mut self, of_one_report: impl IntoIterator<Item = String>) {
        let once: BTreeSet<String> = of_one_report.into_iter().collect();
        for value in once {
            *self.0.entry(value).or_default() += 1;
        }
    }

    fn most_frequent(self) -> Vec<Counted> {
        let mut all: Vec<Counted> =
            self.0.into_iter().map(|(value, reports)| Counted { value, reports }).collect();
        all.sort_by_key(|counted| std::cmp::Reverse(counted.reports));
        all.truncate(VALUES_MAX);
        all
    }
}

fn cut(value: &str) -> String {
    value.chars().take(VALUE_CHARACTERS_MAX).collect()
}

/// Those that teach: reports, and NDRs that return one.
fn reports(arrivals: &[Arrival]) -> impl Iterator<Item = &Arrival> {
    arrivals.iter().filter(|arrival| matches!(arrival.class, Class::JournalReport | Class::JournalNdr))
}

/// Reports over sessions that were proven to be Exchange Online's, with the one mark that it writes. Where there are two,
/// nobody knows which is its own.
fn proven(arrivals: &[Arrival]) -> impl Iterator<Item = (&Arrival, &String)> {
    reports(arrivals).filter_map(|arrival| {
        let evidence = &arrival.judgement.as_ref()?.evidence;
        let is_exchange =
            evidence.exchange_network.is_some() && evidence.certificate == CertificateWorth::Exchange;
        match evidence.outer.originator_orgs.as_slice() {
            [one] if is_exchange => Some((arrival, one)),
            _ => None,
        }
    })
}

fn tenants<'a>(proven: impl Iterator<Item = (&'a Arrival, &'a String)>) -> Vec<Counted> {
    let mut values = Values::default();
    proven.for_each(|(_, org)| values.count([cut(&org.to_ascii_lowercase())]));
    values.most_frequent()
}

fn learn(arrivals: &[Arrival]) -> LearnedView {
    let mut view = LearnedView { reports_max: LEARNED_REPORTS_MAX as u64, ..LearnedView::default() };
    let is_proven: BTreeSet<ReceiptId> = proven(arrivals).map(|(arrival, _)| arrival.receipt_id).collect();
    let [mut elsewhere, mut ld_processed, mut senders, mut reverse_paths, mut networks] =
        std::array::from_fn(|_| Values::default());
    let mut certificates: BTreeMap<&str, (&ClientCertificate, u64, u64)> = BTreeMap::new();
    for arrival in reports(arrivals).take(LEARNED_REPORTS_MAX) {
        view.reports += 1;
        view.first = Some(view.first.map_or(arrival.at, |first| first.min(arrival.at)));
        view.last = view.last.max(Some(arrival.at));
        view.verdicts.count(arrival);
        if let Some(judgement) = &arrival.judgement {
            let outer = &judgement.evidence.outer;
            if !is_proven.contains(&arrival.receipt_id) {
                elsewhere.count(outer.originator_orgs.iter().map(|org| cut(&org.to_ascii_lowercase())));
            }
            let guid =
                |value: &String| value.split(',').next().unwrap_or_default().trim().to_ascii_lowercase();
            ld_processed.count(outer.ld_processed.iter().map(|value| cut(&guid(value))));
            senders.count(outer.senders.iter().map(|value| cut(value)));
        }
        let transport = &arrival.transport;
        reverse_paths.count([match &transport.reverse_path {
            ReversePath::Null => String::new(),
            ReversePath::Address(address) => address.as_str().to_owned(),
        }]);
        let ip = transport.peer.ip().to_canonical();
        let bits = if ip.is_ipv4() { NETWORK_V4_BITS } else { NETWORK_V6_BITS };
        networks.count([Network::around(ip, bits).to_string()]);
        if let Some(certificate) = transport.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()) {
            let (_, reports, exchange) =
                certificates.entry(&certificate.sha256).or_insert((certificate, 0, 0));
            *reports += 1;
            let worth = arrival.judgement.as_ref().map(|judgement| judgement.evidence.certificate);
            *exchange += u64::from(worth == Some(CertificateWorth::Exchange));
        }
    }
    view.tenants_proven = tenants(proven(arrivals).take(LEARNED_REPORTS_MAX));
    view.tenants_elsewhere = elsewhere.most_frequent();
    view.ld_processed = ld_processed.most_frequent();
    view.senders = senders.most_frequent();
    view.reverse_paths = reverse_paths.most_frequent();
    view.networks = networks.most_frequent();
    view.certificates = most_frequent_certificates(certificates);
    view
}

fn most_frequent_certificates(
    found: BTreeMap<&str, (&ClientCertificate, u64, u64)>,
) -> Vec<CountedCertificate> {
    let mut all: Vec<CountedCertificate> = found
        .into_values()
        .map(|(certificate, reports, exchange)| CountedCertificate {
            sha256: certificate.sha256.clone(),
            dns_names: certificate.dns_names.iter().take(VALUES_MAX).map(|name| cut(name)).collect(),
            reports,
            exchange,
        })
        .collect();
    all.sort_by_key(|certificate| std::cmp::Reverse(certificate.reports));
    all.truncate(VALUES_MAX);
    all
}
