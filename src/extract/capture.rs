//! Captures of the Sun and Oracle Messaging Server: journaled mail in the form of a delivery status notification.
//!
//! ```text
//! multipart/report; report-type=delivery-status
//!   text/plain                 for people
//!   message/delivery-status    one group a recipient: Original-Recipient, Final-Recipient, Action
//!   message/rfc822             the captured mail, whole
//! ```
//! A bounce of ordinary mail has the same structure, so a capture needs two things: the Received field of that server's
//! process channel, which makes captures and notifications, and a status that says of nobody anything but that it was
//! delivered (notifications of success rarely return the mail whole). Else it is a bounce.
//!
//! Where the mail inside is marked as a journal report or has the shape of a bounce, it may be a capture of what its sender
//! wrote, or a notification about a genuine report. Who gets it differs, so nobody does: it goes to quarantine.
//! The public description:
//! <https://msg.wikidoc.info/index.php?title=Format_of_captured_message_copies>.

use super::defect::{DefectKind, Defects};
use super::header::{Field, Transfer, fields};
use super::message::Message;
use super::ndr;
use super::recipient::{trim, written};
use super::report::ReportText;
use crate::mail::transfer::decoded;
use crate::mail::{JournaledRecipient, RecipientField, Redirection};

/// How the process channel of that server begins its Received field.
const PROCESS_CHANNEL: &str = "from process-daemon.";
/// How that field names the reverse path of the captured mail, where it does.
const ORIGINAL_SENDER: &str = "(original mail from ";

/// What a message in the shape of a capture is.
pub(super) enum Capture {
    /// A capture, and the envelope of the captured mail.
    Of(Box<ReportText>),
    /// What is inside may be a captured mail, or a returned report.
    Ambiguous,
}

/// `None`: this is no capture.
pub(super) fn read(message: &Message<'_>, defects: &mut Defects) -> Option<Capture> {
    let head = message.head()?;
    if head.is_ndr || head.marked || !ndr::has_shape(message) {
        return None;
    }
    let channel = process_channel(message)?;
    let (mut is_captured, mut is_ambiguous) = (false, false);
    for inner in message.enclosed().iter().filter_map(|enclosed| enclosed.peek(message)) {
        is_captured |= !inner.is_empty();
        is_ambiguous |= !inner.is_empty() && (inner.is_marked() || ndr::has_shape(&inner));
    }
    if !is_captured {
        return None;
    }
    let status = message.parts().find_map(|(_, node)| {
        let copy = node.copy.as_ref().filter(|_| node.head.is_delivery_status())?;
        Some(match node.head.transfer {
            Transfer::Encoded(encoding) => decoded(encoding, copy),
            Transfer::Identity | Transfer::Unknown => copy.clone(),
        })
    })?;
    let mut text = ReportText::default();
    let mut found = Defects::default();
    for group in groups(&status) {
        let status = Status::of(group);
        let (Some(final_recipient), Some(action)) = (status.recipient(), status.action.as_deref()) else {
            continue;
        };
        if !matches!(action, "delivered" | "captured") {
            return None;
        }
        text.envelope.recipients.extend(recipient(&final_recipient, status.original.as_deref(), &mut found));
    }
    if text.envelope.recipients.is_empty() {
        return None;
    }
    if is_ambiguous {
        defects.note(DefectKind::CaptureAmbiguous, || "the mail inside is marked, or a bounce".into());
        return Some(Capture::Ambiguous);
    }
    text.known_lines = text.envelope.recipients.len();
    text.envelope.sender = sender(&channel).map(|sender| written(sender, 0, &mut found));
    defects.note(DefectKind::CaptureNotification, || "the envelope is that of its delivery status".into());
    defects.absorb(&found);
    Some(Capture::Of(Box::new(text)))
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
    /// Its word, in lower case.
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
                status.action = Some(first_word(&String::from_utf8_lossy(&field.unfolded())));
            }
        }
        status
    }

    fn recipient(&self) -> Option<String> {
        self.last.clone().or_else(|| self.original.clone())
    }
}

/// The first word outside of comments (RFC 5322 §3.2.2), in lower case.
fn first_word(value: &str) -> String {
    let mut depth = 0_u32;
    let mut word = String::new();
    for c in value.chars() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => continue,
            _ if !c.is_whitespace() => {
                word.push(c.to_ascii_lowercase());
                continue;
            }
            _ => {}
        }
        if !word.is_empty() {
            break;
        }
    }
    word
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
