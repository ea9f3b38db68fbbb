//! Who really sent a report: the verdict, from who the peer is and what the outermost header block says.
//!
//! ```text
//! peer, certificate ─┐
//! who Exchange is ───┼─▶ judge ─▶ Judgement: authentic, unverified or suspect; why; kept in Quarantine alone or not
//! trust, tenant ─────┤
//! marks ─────────────┘
//! ```
//!
//! Authentic is what one of these proves, and nothing else:
//! - The peer is in Exchange Online's networks, proves to hold a certificate in good order with Exchange Online's name, and the
//!   outermost header block names the pinned tenant in exactly one `X-OriginatorOrg`.
//! - So does an NDR's peer, and the wrapper that it returns, or the wrapper's header block alone, names the tenant.
//! - The peer is in a network that the gateway mailbox trusts.
//! - The peer proves to hold a certificate that it pinned.
//! - A configured puller fetched an NDR over verified TLS, and the wrapper that it returns, or the wrapper's header block alone,
//!   names the tenant. The outermost header block proves nothing then: anybody can write to such an account.
//!
//! Invariants:
//! - Networks and certificate say "Exchange Online", which every tenant in the world can send from; only the tenant's mark says
//!   which. The mark alone says nothing: anybody can write it. It takes all three.
//! - SPF, DKIM, DMARC, MAIL FROM, From and Sender are never conditions: genuine reports fail the first three, and the others
//!   are the sender's words.
//! - A trusted network and a pinned certificate come first: such a peer is trusted for everything it says. For all others a
//!   contradiction is looked for before a proof. What two readers could read differently proves nothing.
//!
//! It does not know where a message goes, the store, users or configuration.

#[cfg(test)]
mod tests;

use crate::mail::{
    CertificateWorth, ChainVerdict, ClientCertificate, Evidence, Judgement, Mode, Network, OriginMarks,
    TlsFacts, Trust, Untrusted, Verdict,
};
use std::net::IpAddr;

/// How Exchange Online is told from everybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Where its hosts send from.
    pub networks: Vec<Network>,
    /// One of these stands in the certificate its hosts show. Compared whole, in any ASCII case.
    pub certificate_names: Vec<String>,
}

/// Who a message came from, as the connection shows.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its address.
    pub address: IpAddr,
    /// What the handshake agreed on; `None` in clear.
    pub tls: Option<&'a TlsFacts>,
    /// The puller that fetched the message from an account elsewhere for an NDR mailbox, over verified TLS. Then the peer is
    /// whoever keeps that account, and neither its address nor a certificate says who sent the message.
    pub pulled: Option<&'a str>,
}

/// What a gateway mailbox was told about who may deliver to it.
#[derive(Clone, Copy, Debug)]
pub struct Pins<'a> {
    /// Whom it trusts, and what becomes of the rest.
    pub trust: &'a Trust,
    /// What `X-OriginatorOrg` must say; without it that field proves nothing.
    pub tenant: Option<&'a str>,
}

/// What a message is and says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// What its outermost header block says.
    pub outer: &'a OriginMarks,
    /// When it is an NDR that returns a report, or the header block of one: what each message says that was taken off an NDR,
    /// the report's wrapper last. That one was taken off counts, not the class: a limit met further inside changes that. More
    /// than one when it returns another NDR, which no mail system makes of itself (RFC 5321 §4.5.5).
    pub returned: &'a [OriginMarks],
}

/// The verdict on one message for one gateway mailbox.
pub fn judge(exchange: &Exchange, peer: Peer<'_>, pins: Pins<'_>, said: Said<'_>) -> Judgement {
    // Who keeps an account is not who sent what lies there.
    let sender = peer.pulled.is_none();
    let evidence = Evidence {
        exchange_network: network_of(&exchange.networks, peer.address).filter(|_| sender),
        trusted_network: network_of(&pins.trust.networks, peer.address).filter(|_| sender),
        certificate: worth(exchange, pins.trust, peer.tls.filter(|_| sender)),
        puller: peer.pulled.map(str::to_owned),
        outer: said.outer.clone(),
        returned: said.returned.last().cloned(),
    };
    let tenant = pins.tenant.filter(|tenant| !tenant.is_empty());
    let (verdict, reasons) = weigh(&evidence, peer, tenant, said);
    let mode = pins.trust.mode;
    let held_back = mode != Mode::Observe && verdict != Verdict::Authentic;
    Judgement { verdict, reasons, evidence, mode, held_back }
}

/// Whether anything this peer sends could be authentic, as far as is known before it sends it: it is in Exchange Online's
/// networks or a trusted one, proves to hold a pinned certificate, or keeps the account of a puller.
pub fn may_deliver(exchange: &Exchange, peer: Peer<'_>, trust: &Trust) -> bool {
    peer.pulled.is_some()
        || network_of(&exchange.networks, peer.address).is_some()
        || network_of(&trust.networks, peer.address).is_some()
        || worth(exchange, trust, peer.tls) == CertificateWorth::Pinned
}

fn network_of(networks: &[Network], address: IpAddr) -> Option<Network> {
    networks.iter().find(|network| network.contains(address)).copied()
}

/// What the certificate of a peer is worth. A name in a certificate that is not in order, or whose key the peer did not
/// prove to hold, is a claim and no more.
fn worth(exchange: &Exchange, trust: &Trust, tls: Option<&TlsFacts>) -> CertificateWorth {
    let Some(certificate) = tls.and_then(|tls| tls.client_certificate.as_ref()) else {
        return CertificateWorth::None;
    };
    let is_pinned = |pin: &String| pin.eq_ignore_ascii_case(&certificate.sha256);
    if certificate.proven && trust.certificates.iter().any(is_pinned) {
        return CertificateWorth::Pinned;
    }
    if !names_exchange(exchange, certificate) {
        return CertificateWorth::Other;
    }
    if certificate.proven && certificate.chain == ChainVerdict::Good {
        CertificateWorth::Exchange
    } else {
        CertificateWorth::False
    }
}

fn names_exchange(exchange: &Exchange, certificate: &ClientCertificate) -> bool {
    let is_exchange =
        |name: &String| exchange.certificate_names.iter().any(|known| known.eq_ignore_ascii_case(name));
    certificate.dns_names.iter().any(is_exchange)
}

fn weigh(
    evidence: &Evidence,
    peer: Peer<'_>,
    tenant: Option<&str>,
    said: Said<'_>,
) -> (Verdict, Vec<String>) {
    if let Some(network) = evidence.trusted_network {
        return (Verdict::Authentic, vec![format!("the peer is in the trusted network {network}")]);
    }
    if evidence.certificate == CertificateWorth::Pinned {
        return (Verdict::Authentic, vec!["the peer holds the key of a pinned certificate".to_owned()]);
    }
    let contradictions = contradictions(evidence, peer, tenant, said);
    if !contradictions.is_empty() {
        return (Verdict::Suspect, contradictions);
    }
    let missing = missing(evidence, peer, tenant);
    if !missing.is_empty() {
        return (Verdict::Unverified, missing);
    }
    if let Some(tenant) = tenant
        && let Some(place) = proof(tenant, peer, said)
    {
        let who = match peer.pulled {
            Some(puller) => format!("puller {} fetched it over verified TLS", Untrusted(puller)),
            None => "the peer is Exchange Online, by network and certificate".to_owned(),
        };
        let which = format!("X-OriginatorOrg of {place} is the pinned tenant, {}", Untrusted(tenant));
        return (Verdict::Authentic, vec![who, which]);
    }
    (Verdict::Unverified, vec![why_no_proof(peer, said).to_owned()])
}

/// What speaks against the message. Nothing here depends on what speaks for it.
fn contradictions(evidence: &Evidence, peer: Peer<'_>, tenant: Option<&str>, said: Said<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if evidence.certificate == CertificateWorth::False {
        let certificate = peer.tls.and_then(|tls| tls.client_certificate.as_ref());
        let fault = match certificate {
            Some(certificate) if certificate.proven => certificate.chain.as_str(),
            _ => "the peer did not prove to hold its key",
        };
        found.push(format!(
            "the peer's certificate bears Exchange Online's name, but is not in order: {fault}"
        ));
    }
    let may_be_exchange = evidence.exchange_network.is_some() || peer.pulled.is_some();
    if !said.outer.originator_orgs.is_empty() && !may_be_exchange {
        found.push("X-OriginatorOrg comes from a peer that is not in Exchange Online's networks".to_owned());
    }
    found.extend(contradiction(said.outer, tenant, "the message"));
    found.extend(said.returned.iter().filter_map(|marks| contradiction(marks, tenant, "what it returns")));
    found
}

/// What is wrong with the `X-OriginatorOrg` of one header block.
fn contradiction(marks: &OriginMarks, tenant: Option<&str>, of: &str) -> Option<String> {
    match marks.originator_orgs.as_slice() {
        [] => None,
        [one] => {
            let tenant = tenant.filter(|tenant| !tenant.eq_ignore_ascii_case(one))?;
            let (one, tenant) = (Untrusted(one), Untrusted(tenant));
            Some(format!("X-OriginatorOrg of {of} is \"{one}\", the pinned tenant is \"{tenant}\""))
        }
        // Exchange Online writes it once. With two, one is forged, and a guess which would be the forger's chance.
        several => Some(format!("X-OriginatorOrg of {of} occurs {} times", several.len())),
    }
}

/// What of "Exchange Online, for the pinned tenant" cannot be shown whatever the message says.
fn missing(evidence: &Evidence, peer: Peer<'_>, tenant: Option<&str>) -> Vec<String> {
    let mut missing = Vec::new();
    let was_brought = peer.pulled.is_none();
    if was_brought && evidence.exchange_network.is_none() {
        missing.push("the peer is in no network of Exchange Online, and in none that is trusted".to_owned());
    }
    match evidence.certificate {
        CertificateWorth::None if was_brought => missing.push("the peer showed no certificate".to_owned()),
        CertificateWorth::Other => missing.push("the peer's certificate is not Exchange Online's".to_owned()),
        _ => {}
    }
    if tenant.is_none() {
        missing.push("no tenant is pinned for this gateway mailbox".to_owned());
    }
    missing
}

/// Where the pinned tenant is named, by a peer that may name it.
fn proof(tenant: &str, peer: Peer<'_>, said: Said<'_>) -> Option<&'static str> {
    let is_ours = |marks: &OriginMarks| {
        !marks.unclear
            && matches!(marks.originator_orgs.as_slice(), [one] if one.eq_ignore_ascii_case(tenant))
    };
    if peer.pulled.is_none() && is_ours(said.outer) {
        return Some("the message");
    }
    match said.returned {
        [wrapper] if !said.outer.unclear && is_ours(wrapper) => Some("the report it returns"),
        _ => None,
    }
}

fn why_no_proof(peer: Peer<'_>, said: Said<'_>) -> &'static str {
    if said.outer.unclear || said.returned.iter().any(|marks| marks.unclear) {
        "the header can be read in more than one way, so its X-OriginatorOrg proves nothing"
    } else if said.returned.len() > 1 {
        "it returns an NDR, which no mail system makes of itself"
    } else if peer.pulled.is_some() {
        "it returns no report whose X-OriginatorOrg names a tenant"
    } else {
        "no X-OriginatorOrg names a tenant"
    }
}
