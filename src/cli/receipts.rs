//! `daybook trace` and `daybook explain`: receipts as people read them.

use super::output::{counted, grouped, safe};
use super::transactions;
use crate::admin::Response;
use crate::mail::{
    Address, CertificateWorth, JournaledRecipient, OriginMarks, Pulled, ReceiptId, RecipientField,
    Redirection, ReversePath,
};
use crate::store::{EventView, PlacementView, ReceiptView, Relation, ReportRecord};
use std::collections::HashSet;
use std::fmt::Write;

/// Recipient lines of a report shown by `trace`; `explain` shows all.
const RECIPIENTS_SHOWN: usize = 5;

/// The whole life of each receipt, of at most `limit` transactions.
pub(super) fn trace(response: &Response, limit: usize) -> String {
    let mut text = join(response, |receipt| {
        let mut out = Lines::default();
        heading(&mut out, receipt);
        transport(&mut out, receipt);
        authenticity(&mut out, receipt);
        content(&mut out, receipt, RECIPIENTS_SHOWN);
        for placement in &receipt.placements {
            place(&mut out, placement);
            for event in &placement.events {
                out.add("", &format!("  {}", happened(event)));
            }
        }
        out.0
    });
    let receipts = receipts_in(response);
    let transactions: HashSet<ReceiptId> = receipts.iter().map(|receipt| receipt.receipt_id).collect();
    // One receipt id names one transaction; there are no others to see.
    if limit > 1 && transactions.len() >= limit {
        let shown = counted(limit as u64, "transaction");
        writeln!(text, "\nThere may be more than these {shown}: see --limit and --since.")
            .unwrap_or_default();
    }
    text
}

/// Everything of one receipt: what [`trace`] tells of its way, and what [`explain`] tells of its content.
pub(super) fn whole(receipt: &ReceiptView) -> String {
    let mut out = Lines::default();
    heading(&mut out, receipt);
    transport(&mut out, receipt);
    authenticity(&mut out, receipt);
    content(&mut out, receipt, usize::MAX);
    receipt.placements.iter().for_each(|placement| place(&mut out, placement));
    out.0
}

/// Why each placement of a receipt is where it is.
pub(super) fn explain(response: &Response) -> String {
    join(response, |receipt| {
        let mut out = Lines::default();
        heading(&mut out, receipt);
        authenticity(&mut out, receipt);
        content(&mut out, receipt, usize::MAX);
        if receipt.placements.is_empty() && receipt.repeats.is_none() {
            out.add("placed", "nowhere");
        }
        receipt.placements.iter().for_each(|placement| place(&mut out, placement));
        out.0
    })
}

fn join(response: &Response, show: impl Fn(&ReceiptView) -> String) -> String {
    let shown = receipts_in(response).iter().map(show);
    let turned_away = match response {
        Response::Traced(traced) => traced.turned_away.as_slice(),
        _ => &[],
    };
    shown.chain(turned_away.iter().map(transactions::whole)).collect::<Vec<_>>().join("\n")
}

fn receipts_in(response: &Response) -> &[ReceiptView] {
    match response {
        Response::Receipts(receipts) => receipts,
        Response::Traced(traced) => &traced.receipts,
        _ => &[],
    }
}

/// Lines of a label and a text.
#[derive(Default)]
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn add(&mut self, label: &str, text: &str) {
        // Writing to a String cannot fail.
        writeln!(self.0, "  {label:<11} {text}").unwrap_or_default();
    }
}

fn heading(out: &mut Lines, receipt: &ReceiptView) {
    writeln!(out.0, "Receipt {}", receipt.receipt_id).unwrap_or_default();
    out.add("received", &receipt.at.to_string());
    let gateway_mailbox = match (&receipt.name, &receipt.address) {
        (Some(name), Some(address)) => format!("{} <{}>", safe(name), safe(address)),
        _ => format!("{}, deleted since", receipt.gateway_mailbox),
    };
    out.add("for", &gateway_mailbox);
    if let Some(ndr_mailbox) = receipt.recovered_from {
        out.add("came by", &format!("an NDR to the NDR mailbox {ndr_mailbox}, in the same transaction"));
    }
}

fn transport(out: &mut Lines, receipt: &ReceiptView) {
    let transport = &receipt.transport;
    let tls = match &transport.tls {
        Some(tls) => format!("{} {}", safe(&tls.version), safe(&tls.cipher)),
        None => "no TLS".to_owned(),
    };
    match &transport.pulled {
        None => {
            let (peer, helo) = (transport.peer, safe(&transport.helo));
            out.add("from peer", &format!("{peer}, who said it was {helo}; {tls}"));
        }
        Some(pulled) => {
            let Pulled { by, host, protocol } = pulled.as_ref();
            let (by, host, protocol) = (safe(by), safe(host), safe(protocol));
            out.add("pulled", &format!("by {by} from {host} at {} over {protocol}; {tls}", transport.peer));
        }
    }
    let sender = match &transport.reverse_path {
        ReversePath::Null => "<>, the null sender of NDRs".to_owned(),
        ReversePath::Address(address) => format!("<{}>", safe(address.as_str())),
    };
    out.add("MAIL FROM", &sender);
    let recipients: Vec<String> =
        transport.recipients.iter().map(Address::as_str).map(|to| format!("<{}>", safe(to))).collect();
    out.add("RCPT TO", &recipients.join(" "));
    out.add("session", &transport.session_id.to_string());
}

/// The verdict on who really sent it, why, and what it rests on.
fn authenticity(out: &mut Lines, receipt: &ReceiptView) {
    let Some(judgement) = &receipt.judgement else { return };
    let so = if judgement.held_back { "held back" } else { "not held back" };
    let mode = judgement.mode.as_str();
    out.add("verdict", &format!("{}, {so} in {mode} mode", judgement.verdict.as_str()));
    for reason in &judgement.reasons {
        out.add("", &format!("  because {}", safe(reason)));
    }
    let evidence = &judgement.evidence;
    let networks = match (evidence.exchange_network, evidence.trusted_network) {
        (_, Some(network)) => format!("peer {} in trusted network {network}", receipt.transport.peer.ip()),
        (Some(network), None) => {
            format!("peer {} in Exchange Online's network {network}", receipt.transport.peer.ip())
        }
        (None, None) => format!("peer {} in no known network", receipt.transport.peer.ip()),
    };
    match &evidence.puller {
        Some(puller) => out.add("evidence", &format!("fetched by puller {}", safe(puller))),
        None => {
            out.add("evidence", &networks);
            certificate(out, receipt, evidence.certificate);
        }
    }
    marks(out, "outermost header", &evidence.outer);
    if let Some(returned) = &evidence.returned {
        marks(out, "returned report", returned);
    }
}

fn certificate(out: &mut Lines, receipt: &ReceiptView, worth: CertificateWorth) {
    let Some(shown) = receipt.transport.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()) else {
        return out.add("", "no client certificate");
    };
    let whose = match worth {
        CertificateWorth::None | CertificateWorth::Other => "of no known peer",
        CertificateWorth::False => "not Exchange Online's, but says so",
        CertificateWorth::Exchange => "Exchange Online's",
        CertificateWorth::Pinned => "pinned",
    };
    let proven = if shown.proven { "key proven" } else { "key not proven" };
    out.add("", &format!("client certificate {whose}; chain {}, {proven}", shown.chain.as_str()));
    out.add("", &format!("  sha256 {}", safe(&shown.sha256)));
    if !shown.dns_names.is_empty() {
        let names: Vec<String> = shown.dns_names.iter().map(|name| safe(name)).collect();
        out.add("", &format!("  names {}", names.join(" ")));
    }
}

fn marks(out: &mut Lines, of: &str, marks: &OriginMarks) {
    let fields = [
        ("X-OriginatorOrg", &marks.originator_orgs),
        ("X-LD-Processed", &marks.ld_processed),
        ("Sender", &marks.senders),
    ];
    for (field, values) in fields {
        for value in values {
            out.add("", &format!("{of}: {field} \"{}\"", safe(value)));
        }
    }
    if marks.unclear {
        out.add("", &format!("{of}: can be read in more than one way"));
    }
}

fn content(out: &mut Lines, receipt: &ReceiptView, recipients_shown: usize) {
    out.add("is", &format!("{}, {} octets", receipt.class, grouped(receipt.octets)));
    out.add("sha256", &receipt.sha256.to_string());
    if let Some(id) = &receipt.message_id {
        out.add("message-id", &safe(id));
    }
    if let Some(id) = &receipt.returned_message_id {
        out.add("report", &format!("{}: only its header came back", safe(id)));
    }
    if let Some(id) = &receipt.parent_message_id {
        out.add("original", &safe(id));
    }
    for record in &receipt.reports {
        report(out, record, recipients_shown);
    }
    for (kind, detail) in &receipt.defects {
        out.add("defect", &format!("{}: {}", safe(kind), safe(detail)));
    }
    for address in &receipt.unmatched {
        out.add("nobody", &safe(address));
    }
    if let Some(earlier) = receipt.repeats {
        out.add("repeats", &format!("receipt {earlier}: the same report again, nothing was added"));
    }
    if let Some(at) = receipt.freed_at {
        out.add("freed", &format!("{at}: its content is gone, this is what is known of it"));
    }
    for revision in &receipt.revisions {
        out.add("again", &format!("{} {} by {}", revision.at, revision.kind.as_str(), safe(&revision.actor)));
    }
    related(out, receipt);
}

/// Other receipts with the same message or Message-ID.
fn related(out: &mut Lines, receipt: &ReceiptView) {
    for other in receipt.related.iter().filter(|other| Some(other.receipt_id) != receipt.repeats) {
        let what = match other.relation {
            Relation::Repetition => "the same report again",
            Relation::Fork => "a fork: another report of the same message",
            Relation::SameMessageId => "another message with the same Message-ID",
        };
        out.add("related", &format!("receipt {} of {}: {what}", other.receipt_id, other.at));
    }
    if receipt.more_related {
        out.add("", "and perhaps more");
    }
}

fn report(out: &mut Lines, record: &ReportRecord, recipients_shown: usize) {
    let envelope = &record.envelope;
    let sender = match &envelope.sender {
        None => "nobody is named".to_owned(),
        Some(sender) if sender.is_null() => "the null sender".to_owned(),
        Some(sender) => safe(sender.as_str()),
    };
    let originals = counted(record.originals.len() as u64, "original");
    match &envelope.headers {
        None => out.add("report", &format!("sender {sender}; {originals}")),
        Some(headers) => {
            let fields = headers.sender.iter().chain(headers.recipients.iter().map(|(name, _)| name));
            let fields: Vec<String> = fields.map(|name| safe(name)).collect();
            out.add("envelope", &format!("sender {sender}; named in {}", fields.join(", ")));
        }
    }
    if let Some(id) = &envelope.message_id {
        out.add("", &format!("message {}", safe(id)));
    }
    if let Some(other) = &envelope.on_behalf_of {
        out.add("", &format!("on behalf of {}", safe(other.as_str())));
    }
    for recipient in envelope.recipients.iter().take(recipients_shown) {
        out.add("", &recipient_line(recipient));
    }
    let hidden = envelope.recipients.len().saturating_sub(recipients_shown);
    if hidden > 0 {
        out.add("", &format!("and {}; explain shows all", counted(hidden as u64, "recipient")));
    }
}

fn recipient_line(recipient: &JournaledRecipient) -> String {
    let field = match recipient.field {
        RecipientField::To => "To",
        RecipientField::Cc => "Cc",
        RecipientField::Bcc => "Bcc",
        RecipientField::Unspecified => "Recipient",
    };
    let via = match &recipient.redirection {
        None => String::new(),
        Some(Redirection::Expanded(list)) => format!(", a member of {}", safe(list.as_str())),
        Some(Redirection::Forwarded(user)) => format!(", forwarded by {}", safe(user.as_str())),
    };
    format!("{field} {}{via}", safe(recipient.address.as_str()))
}

fn place(out: &mut Lines, placement: &PlacementView) {
    let spared = if placement.spared { ", there before" } else { "" };
    let later = placement.revision.map(|kind| format!(", {}", kind.as_str())).unwrap_or_default();
    let octets = placement.octets.map(|octets| format!(", {} octets", grouped(octets))).unwrap_or_default();
    out.add("placed", &format!("{} UID {}{octets}{spared}{later}", safe(&placement.folder), placement.uid));
    for reason in &placement.reasons {
        out.add("", &format!("  because {}", safe(reason)));
    }
}

fn happened(event: &EventView) -> String {
    let by = match &event.client {
        Some(client) => {
            format!(" by {} from {}, session {}", safe(&client.protocol), client.peer, client.session_id)
        }
        None => event.actor.as_ref().map(|actor| format!(" by {}", safe(actor))).unwrap_or_default(),
    };
    let why = event.why.as_ref().map(|why| format!(": {}", safe(why))).unwrap_or_default();
    format!("{} {}{by}{why}", event.at, safe(&event.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_verdict_is_shown_with_its_reasons_and_all_it_rests_on() {
        let receipt = json!({
            "receipt_id": "019aa5b0-7e21-7c43-a1b2-0123456789ab",
            "gateway_mailbox": "019aa5b0-7e21-7c43-a1b2-0123456789ac",
            "address": null, "name": null, "at": "2026-11-21T09:30:00Z",
            "transport": {
                "session_id": "019aa5b0-7e21-7c43-a1b2-0123456789ad", "peer": "40.107.22.83:38114", "helo": "x",
                "tls": {"version": "TLSv1.3", "cipher": "c", "client_certificate": {
                    "sha256": "ab12", "dns_names": ["mail.protection.outlook.com"], "chain": "expired", "proven": true}},
                "reverse_path": "", "recipients": [], "smtputf8": false},
            "class": "journal-ndr", "octets": 1, "sha256": "00".repeat(32),
            "message_id": null, "parent_message_id": null, "reports": [], "defects": [], "unmatched": [],
            "judgement": {
                "verdict": "suspect", "reasons": ["first", "second"], "mode": "enforce", "held_back": true,
                "evidence": {
                    "exchange_network": "40.107.0.0/16", "certificate": "false",
                    "outer": {"originator_orgs": ["evil\u{1b}.example"], "unclear": true},
                    "returned": {"ld_processed": ["guid,ExtAddr"]}}},
            "repeats": null, "placements": [],
        });
        let receipt: ReceiptView = serde_json::from_value(receipt).unwrap();
        let response = Response::Receipts(vec![receipt]);
        for text in [trace(&response, 1), explain(&response)] {
            for wanted in [
                "verdict     suspect, held back in enforce mode",
                "because first",
                "because second",
                "peer 40.107.22.83 in Exchange Online's network 40.107.0.0/16",
                "client certificate not Exchange Online's, but says so; chain expired, key proven",
                "sha256 ab12",
                "names mail.protection.outlook.com",
                "outermost header: X-OriginatorOrg \"evil",
                "outermost header: can be read in more than one way",
                "returned report: X-LD-Processed \"guid,ExtAddr\"",
            ] {
                assert!(text.contains(wanted), "{wanted} is not in\n{text}");
            }
            assert!(!text.contains('\u{1b}'));
        }
    }
}
