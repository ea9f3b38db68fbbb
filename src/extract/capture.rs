//! Captures of the Sun and Oracle Messaging Server: journaled mail in the form of a delivery status notification.
//!
//! ```text
//! multipart/report; report-type=delivery-status
//!   text/plain                 for people
//!   message/delivery-status    one group a recipient: Original-Recipient, Final-Recipient, Action
//!   message/rfc822             the captured mail, whole
//! ```
//! A bounce of ordinary mail has the same structure, so what the status says tells them apart: a capture reports nothing
//! failed, delayed or handed on. `delivered` is also what a notification of success says; then the Received field of that
//! server's process channel has to be there, which makes captures and notifications (those of success rarely return the mail
//! whole). With neither it is a bounce. The public description:
//! <https://msg.wikidoc.info/index.php?title=Format_of_captured_message_copies>.

use super::decode::decoded;
use super::defect::{DefectKind, Defects};
use super::header::{Field, Transfer, fields};
use super::message::Message;
use super::ndr;
use super::recipient::{trim, written};
use super::report::ReportText;
use crate::mail::{JournaledRecipient, RecipientField, Redirection};

/// How the process channel of that server begins its Received field.
const PROCESS_CHANNEL: &str = "from process-daemon.";
/// How that field names the reverse path of the captured mail, where it does.
const ORIGINAL_SENDER: &str = "(original mail from ";

/// The envelope of a captured mail. `None`: this is no capture.
pub(super) fn read(message: &Message<'_>, defects: &mut Defects) -> Option<ReportText> {
    let head = message.head()?;
    if head.is_ndr || head.marked || !ndr::has_shape(message) {
        return None;
    }
    let captured = message.enclosed().iter().any(|enclosed| {
        enclosed
            .peek(message)
            .is_some_and(|inner| !inner.is_empty() && !inner.is_marked() && !ndr::has_shape(&inner))
    });
    if !captured {
        return None;
    }
    let status = message.parts().find_map(|(_, node)| {
        let copy = node.copy.as_ref().filter(|_| node.head.is_delivery_status())?;
        Some(match node.head.transfer {
            Transfer::Encoded(encoding) => decoded(encoding, copy),
            Transfer::Identity | Transfer::Unknown => copy.clone(),
        })
    })?;
    let channel = process_channel(message);
    let mut text = ReportText::default();
    let mut found = Defects::default();
    for group in groups(&status) {
        let status = Status::of(group);
        let (Some(final_recipient), Some(action)) = (status.recipient(), status.action.as_deref()) else {
            continue;
        };
        let is_plain = matches!(action, "failed" | "delayed" | "relayed" | "expanded");
        if is_plain || (action == "delivered" && channel.is_none()) {
            return None;
        }
        text.envelope.recipients.extend(recipient(&final_recipient, status.original.as_deref(), &mut found));
    }
    if text.envelope.recipients.is_empty() {
        return None;
    }
    text.known_lines = text.envelope.recipients.len();
    text.envelope.sender = channel.as_deref().and_then(sender).map(|sender| written(sender, 0, &mut found));
    defects.note(DefectKind::CaptureNotification, || "the envelope is that of its delivery status".into());
    defects.absorb(&found);
    Some(text)
}

/// The Received field of the channel that made this notification.
fn process_channel(message: &Message<'_>) -> Option<String> {
    let node = message.node()?;
    fields(&node.header)
        .filter(|field| field.is("Received"))
        .map(|field| String::from_utf8_lossy(&field.unfolded()).into_owned())
        .find(|value| {
            value
                .get(..PROCESS_CHANNEL.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(PROCESS_CHANNEL))
        })
}

fn sender(received: &str) -> Option<&str> {
    let (_, behind) = received.split_once(ORIGINAL_SENDER)?;
    behind.split_once(')').map(|(sender, _)| sender)
}

/// The recipient's fields of one group.
#[derive(Default)]
struct Status {
    original: Option<String>,
    last: Option<String>,
    /// Lower case.
    action: Option<String>,
}

impl Status {
    fn of(group: &[u8]) -> Status {
        let mut status = Status::default();
        for field in fields(group) {
            if field.is("Original-Recipient") {
                status.original = address(&field);
            } else if field.is("Final-Recipient") {
                status.last = address(&field);
            } else if field.is("Action") {
                status.action = Some(String::from_utf8_lossy(&field.unfolded()).trim().to_ascii_lowercase());
            }
        }
        status
    }

    fn recipient(&self) -> Option<String> {
        self.last.clone().or_else(|| self.original.clone())
    }
}

/// The address in `rfc822;address` (RFC 3464 §2.1.2).
fn address(field: &Field<'_>) -> Option<String> {
    let value = field.unfolded();
    let value = String::from_utf8_lossy(&value);
    let (_, address) = value.split_once(';')?;
    Some(trim(address).to_owned()).filter(|address| !address.is_empty())
}

/// Who got it, and under which address it was sent to them: a list or somebody who forwards.
fn recipient(last: &str, original: Option<&str>, defects: &mut Defects) -> Option<JournaledRecipient> {
    let address = written(last, 0, defects);
    if address.is_null() {
        return None;
    }
    let redirection = original
        .filter(|original| !original.eq_ignore_ascii_case(last))
        .map(|original| written(original, 0, defects))
        .filter(|original| !original.is_null())
        .map(Redirection::Forwarded);
    Some(JournaledRecipient { field: RecipientField::Unspecified, address, redirection })
}

/// The groups of a delivery status, which empty lines part.
fn groups(status: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = status;
    std::iter::from_fn(move || {
        while let [b'\r' | b'\n', tail @ ..] = rest {
            rest = tail;
        }
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        for line in rest.split_inclusive(|b| *b == b'\n') {
            if line.trim_ascii().is_empty() {
                break;
            }
            end += line.len();
        }
        let (group, tail) = rest.split_at_checked(end)?;
        // A line of blanks alone parts groups too.
        let skipped = tail.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(tail.len());
        rest = tail.get(skipped..).unwrap_or_default();
        Some(group)
    })
}
