//! Plain mail whose envelope stands in header fields that the gateway mailbox trusts: it is assigned by them.

use super::Inner;
use crate::extract::{self, Extraction, HeaderEnvelope, Scanned};
use crate::mail::{AddressKey, Class, GatewayAddress, GatewayMailbox};
use crate::store::ReportRecord;

/// What those fields say. Nothing of a message that is no plain mail: its reports say it better.
pub(super) fn named(
    inner: &Inner,
    gateway_mailbox: &GatewayMailbox,
    scanned: Option<&Scanned>,
    extraction: Option<&Extraction>,
) -> HeaderEnvelope {
    let is_plain = extraction.is_some_and(|extraction| extraction.class == Class::Plain);
    // What an NDR mailbox receives is for nobody but its admin.
    let is_read = is_plain && gateway_mailbox.role.is_journal();
    match scanned {
        Some(scanned) if is_read && !gateway_mailbox.envelope_headers.is_empty() => {
            let is_gateway = |key: &AddressKey| is_gateway(inner, gateway_mailbox, key);
            extract::header_envelope(scanned, &gateway_mailbox.envelope_headers, &is_gateway)
        }
        _ => HeaderEnvelope::default(),
    }
}

/// An address of this gateway, be it served, former or of a gateway mailbox that is gone: nobody is reached by it.
fn is_gateway(inner: &Inner, gateway_mailbox: &GatewayMailbox, key: &AddressKey) -> bool {
    let in_our_domain = || {
        let domain = key.as_str().rsplit_once('@').map(|(_, domain)| domain);
        inner.assigning.load().domains.iter().any(|ours| Some(ours.as_str()) == domain)
    };
    gateway_mailbox.address_of(key).is_some()
        || inner.store.gateway_mailbox(key).is_some()
        || inner.store.retired(key).is_some()
        || (GatewayAddress::looks_made(key) && in_our_domain())
}

/// As the store records it: the received message as a whole is the original.
pub(super) fn record(found: &HeaderEnvelope) -> Option<ReportRecord> {
    let envelope = found.envelope.clone()?;
    Some(ReportRecord { wrapper_message_id: None, envelope, originals: vec![0], primary: None })
}

/// True for a record that header fields gave: it documents the received message itself.
pub(super) fn is_of_whole(report: &ReportRecord) -> bool {
    report.originals.contains(&0)
}
