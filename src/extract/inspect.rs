//! The JSON that `daybook inspect --json` prints: a stable interface.

use super::{Destination, Extraction, HeaderEnvelope, Original, Report};
use crate::mail::{Extent, JournaledRecipient, Redirection, WrittenAddress};
use serde_json::{Value, json};

/// Describes an extraction. The hashes are the caller's, who holds the octets: `sha256_of` is asked once for each
/// original. Absent values are `null`.
pub fn inspect(extraction: &Extraction, sha256_whole: &str, sha256_of: &dyn Fn(&Extent) -> String) -> Value {
    json!({
        "class": extraction.class,
        "bytes": extraction.whole.extent.octets,
        "sha256": sha256_whole,
        "reports": extraction.reports.iter().map(|r| report(r, sha256_of)).collect::<Vec<_>>(),
        "destination": extraction.destination,
        "parent_message_id": extraction.parent_message_id,
        "header_envelope": null,
        "defects": extraction.defects,
    })
}

/// Adds to the description of plain mail what trusted header fields say of it: `header_envelope`, their defects, and that
/// users can be found by it.
pub fn add_header_envelope(described: &mut Value, found: &HeaderEnvelope) {
    if let Some(defects) = described["defects"].as_array_mut() {
        defects.extend(found.defects.iter().map(|defect| json!(defect)));
    }
    let Some(envelope) = &found.envelope else { return };
    let recipients = envelope.recipients_with_headers();
    described["header_envelope"] = json!({
        "sender": address(envelope.sender.as_ref()),
        "sender_header": envelope.headers.as_ref().and_then(|headers| headers.sender.as_deref()),
        "recipients": recipients
            .map(|(recipient, header)| json!({"address": recipient.address, "header": header}))
            .collect::<Vec<_>>(),
    });
    if described["destination"] == json!(Destination::Unassigned) {
        described["destination"] = json!(Destination::Assign);
    }
}

fn report(report: &Report, sha256_of: &dyn Fn(&Extent) -> String) -> Value {
    let envelope = &report.envelope;
    json!({
        "sender": address(envelope.sender.as_ref()),
        "on_behalf_of": address(envelope.on_behalf_of.as_ref()),
        "subject": report.subject,
        "message_id": envelope.message_id,
        "label": envelope.label,
        "recipients": envelope.recipients.iter().map(recipient).collect::<Vec<_>>(),
        "originals": report.originals.iter().map(|o| original(o, sha256_of)).collect::<Vec<_>>(),
        "primary": report.primary,
    })
}

fn address(written: Option<&WrittenAddress>) -> Option<&str> {
    written.map(WrittenAddress::as_str)
}

fn recipient(recipient: &JournaledRecipient) -> Value {
    let (expanded, forwarded) = match &recipient.redirection {
        None => (None, None),
        Some(Redirection::Expanded(group)) => (Some(group), None),
        Some(Redirection::Forwarded(user)) => (None, Some(user)),
    };
    json!({
        "type": recipient.field,
        "address": recipient.address,
        "expanded": address(expanded),
        "forwarded": address(forwarded),
    })
}

fn original(original: &Original, sha256_of: &dyn Fn(&Extent) -> String) -> Value {
    json!({
        "bytes": original.facts.extent.octets,
        "sha256": sha256_of(&original.facts.extent),
        "message_id": original.facts.message_id,
        "rendition": original.rendition,
    })
}
