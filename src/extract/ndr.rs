//! Non-delivery reports (RFC 3464, and what Exchange makes of it): finds the message that came back.
//!
//! Exchange's header is on every NDR of Exchange and can get lost on the way, so either it or the structure makes an
//! NDR. So does the header Exim writes, and the text of a bounce that is no MIME. Text and HTML parts quote the returned header; only real message parts count.

use super::classify::{Walk, is_report_header};
use super::defect::DefectKind;
use super::header::{MessageHead, Transfer};
use super::message::{Enclosed, Form, Found, Message};
use super::origin;
use crate::mail::transfer::decoded;
use crate::mail::{Class, OriginMarks};

/// By header, or `multipart/report` with a delivery status. A disposition notification (RFC 8098) is none.
pub(super) fn has_shape(message: &Message<'_>) -> bool {
    if message.head().is_some_and(|head| head.is_ndr || head.failed_recipients) {
        return true;
    }
    let Some(node) = message.node() else { return false };
    node.bounce.is_some()
        || node.head.media_type == "multipart/report"
            && (node.head.report_type.as_deref() == Some("delivery-status")
                || message.parts().any(|(_, part)| part.head.is_delivery_status()))
}

pub(super) fn returns_report(message: &Message<'_>) -> bool {
    message.enclosed().iter().filter_map(|e| e.peek(message)).any(|returned| returned.is_marked())
}

/// The message an NDR returns: a journal report if there is one, else another NDR, else whatever came back.
pub(super) fn returned<'a>(walk: &mut Walk, message: &Message<'a>) -> Option<Message<'a>> {
    let enclosed = message.enclosed();
    let is = |wanted: fn(&Message<'a>) -> bool| {
        enclosed
            .iter()
            .find(|e| e.peek(message).is_some_and(|returned| !returned.is_empty() && wanted(&returned)))
    };
    let chosen: Option<&Enclosed<'a>> =
        is(|m| m.is_marked()).or_else(|| is(has_shape)).or_else(|| is(|_| true));
    let Some(chosen) = chosen else {
        if enclosed.iter().any(|e| matches!(e.found, Found::Undecoded)) {
            walk.defects.note(DefectKind::UnsupportedEncoding, || "returned message".into());
        }
        return None;
    };
    if let Some(kind) = chosen.defect() {
        walk.defects.note(kind, || "returned message".into());
    }
    let opened = chosen.open(message, &mut walk.derived)?;
    if matches!(chosen.form, Form::Text(bounce) if bounce.truncated)
        && (opened.is_marked() || has_shape(&opened))
    {
        walk.defects.note(DefectKind::ReturnedMessageCut, || "the bounce says so".into());
    }
    if matches!(chosen.found, Found::Decoded(..)) {
        walk.absorb_limits(&opened);
    }
    Some(opened)
}

/// The class of an NDR that returns no message: perhaps it returns a report's header. `returned`: what each message says that
/// was taken off an NDR so far.
pub(super) fn without_message(
    walk: &mut Walk,
    message: &Message<'_>,
    mut returned: Vec<OriginMarks>,
) -> Class {
    walk.returns_nothing = true;
    for (_, node) in message.parts() {
        let Some(copy) = node.copy.as_ref().filter(|_| node.head.is_returned_header()) else { continue };
        let block: &[u8] = match node.head.transfer {
            Transfer::Encoded(encoding) => &decoded(encoding, copy),
            Transfer::Identity | Transfer::Unknown => copy,
        };
        let head = MessageHead::parse(block);
        if is_report_header(&head) {
            // A block that was cut short is one that two readers read differently.
            returned.push(origin::of_block(block, (copy.len() as u64) < node.body_octets()));
            walk.returned = returned;
            walk.returned_message_id = head.message_id;
            walk.parent_message_id = head.parent_message_id;
            walk.defects.note(DefectKind::OriginalMissing, || "only the report's header was returned".into());
            return Class::NdrWithoutReport;
        }
    }
    Class::Ndr
}
