//! Reads a journal report: its text, and the originals beside it.
//!
//! Every message part at the wrapper's own level is an original; what lies inside an original stays there. Two
//! originals with one Message-ID, one of them rights-protected, are two forms of one message. An original that is
//! itself a report of Exchange's journaling agent (marker and Message-ID and shape) is read as one too, and both
//! envelopes are kept, unless it is faulty or nested beyond [`LAYERS_MAX`]; a marker alone, which any sender can write, changes nothing.

use super::classify::{LAYERS_MAX, Walk};
use super::defect::{DefectKind, Defects};
use super::message::{Found, Message};
use super::mime::Kind;
use super::report::{self, ReportText};
use super::text::{html_text, report_text};
use super::{Original, Report};
use crate::mail::Rendition;
use std::collections::{HashMap, VecDeque};

/// Reads the report at `wrapper` and reports of reports inside it, outermost first. `text`: the wrapper's envelope, when it is not
/// in a report text.
pub(super) fn read(walk: &mut Walk, wrapper: Message<'_>, mut text: Option<ReportText>) {
    let mut todo = VecDeque::from([wrapper]);
    while let Some(message) = todo.pop_front() {
        if walk.reports.len() == LAYERS_MAX {
            // Those outside are read in full: what is nested further is an original like any other.
            let detail = || format!("not unwrapped: more than {LAYERS_MAX} reports");
            walk.defects.note(DefectKind::MarkerInsideOriginal, detail);
            return;
        }
        let is_inner = !walk.reports.is_empty();
        let (derived, defects, cut) = (walk.derived.len(), walk.defects.clone(), walk.may_be_cut);
        let (report, originals) = read_one(walk, message, text.take());
        let is_faulty = walk.may_be_cut != cut || walk.defects.quarantines() != defects.quarantines();
        if is_inner && (report.originals.is_empty() || report.envelope.recipients.is_empty() || is_faulty) {
            // Not the shape Exchange makes: an original that only says it is a report. Forget the attempt, with its faults: what
            // somebody wrote must not take the original from those who got it.
            walk.derived.truncate(derived);
            (walk.defects, walk.may_be_cut) = (defects, cut);
            walk.defects.note(DefectKind::MarkerInsideOriginal, || "not unwrapped".into());
            continue;
        }
        walk.reports.push(report);
        for original in originals {
            if original.is_marked() && original.is_generated() {
                todo.push_back(original);
            } else if original.is_marked() {
                walk.defects.note(DefectKind::MarkerInsideOriginal, || "not unwrapped".into());
            }
        }
    }
}

/// True when there is somebody the message can be assigned to.
pub(super) fn names_somebody(report: &Report) -> bool {
    let envelope = &report.envelope;
    let sender =
        [&envelope.sender, &envelope.on_behalf_of].into_iter().flatten().any(|address| !address.is_null());
    sender || !envelope.recipients.is_empty()
}

fn read_one<'a>(
    walk: &mut Walk,
    wrapper: Message<'a>,
    text: Option<ReportText>,
) -> (Report, Vec<Message<'a>>) {
    walk.absorb(&wrapper);
    let text = text.unwrap_or_else(|| read_text(walk, &wrapper));
    let messages = originals(walk, &wrapper);
    let (originals, primary) = renditions(walk, &messages);
    check_message_ids(walk, &text, &originals);
    let head = wrapper.head();
    // Of the outermost report alone: what is inside an original its sender may have written.
    if walk.reports.is_empty() {
        walk.parent_message_id = head.and_then(|head| head.parent_message_id.clone());
    }
    let report = Report {
        wrapper_message_id: head.and_then(|head| head.message_id.clone()),
        extent: wrapper.extent(),
        subject: text.subject,
        envelope: text.envelope,
        originals,
        primary,
    };
    (report, messages)
}

fn originals<'a>(walk: &mut Walk, wrapper: &Message<'a>) -> Vec<Message<'a>> {
    let mut found = Vec::new();
    for enclosed in wrapper.enclosed() {
        let Some(peeked) = enclosed.peek(wrapper) else {
            let ended = wrapper
                .scanned
                .nodes
                .get(enclosed.part)
                .is_some_and(|node| node.kind == Kind::EncodedMessage);
            let kind = if ended { DefectKind::UnsupportedEncoding } else { DefectKind::OriginalEmpty };
            walk.defects.note(kind, || "original".into());
            continue;
        };
        if peeked.is_empty() {
            walk.defects.note(DefectKind::OriginalEmpty, || "original".into());
            continue;
        }
        if let Some(kind) = enclosed.defect() {
            walk.defects.note(kind, || "original".into());
        }
        walk.may_be_cut |= wrapper.is_cut_at(enclosed.part);
        let Some(opened) = enclosed.open(wrapper, &mut walk.derived) else { continue };
        if matches!(enclosed.found, Found::Decoded(..)) {
            walk.absorb_limits(&opened);
        }
        found.push(opened);
    }
    if found.is_empty() && wrapper.is_tnef() {
        walk.defects
            .note(DefectKind::TnefWrapper, || "switch rich text (TNEF) off for the journal address".into());
    } else if found.is_empty() && !walk.defects.has(DefectKind::OriginalEmpty) {
        walk.defects.note(DefectKind::OriginalMissing, || "report without a message part".into());
    }
    found
}

/// Says which copy each original is, and which one to show.
fn renditions(walk: &mut Walk, messages: &[Message<'_>]) -> (Vec<Original>, Option<usize>) {
    // By Message-ID: whether there is a protected copy, and whether there is a clear one.
    let mut copies: HashMap<Option<&str>, (bool, bool)> = HashMap::new();
    let protected: Vec<bool> = messages.iter().map(Message::is_protected).collect();
    for (message, protected) in messages.iter().zip(&protected) {
        let found = copies.entry(message.message_id()).or_default();
        found.0 |= protected;
        found.1 |= !protected;
    }
    let rendition = |message: &Message<'_>, protected: bool| match copies.get(&message.message_id()) {
        Some((true, true)) if protected => Rendition::Protected,
        Some((true, true)) => Rendition::Decrypted,
        _ => Rendition::Original,
    };
    let originals: Vec<Original> = messages
        .iter()
        .zip(&protected)
        .map(|(message, protected)| Original {
            facts: message.facts(),
            rendition: rendition(message, *protected),
        })
        .collect();
    let is_pair = originals.len() == 2 && originals.iter().any(|o| o.rendition == Rendition::Decrypted);
    if originals.len() > 1 && !is_pair {
        walk.defects.note(DefectKind::SeveralOriginals, || format!("{} originals", originals.len()));
    }
    let primary = originals.iter().position(|original| original.rendition != Rendition::Protected);
    (originals, primary)
}

fn check_message_ids(walk: &mut Walk, text: &ReportText, originals: &[Original]) {
    for original in originals {
        match (&original.facts.message_id, &text.envelope.message_id) {
            (None, _) => walk.defects.note(DefectKind::MessageIdMissing, || "original".into()),
            (Some(own), Some(named)) if own != named => {
                walk.defects.note(DefectKind::MessageIdMismatch, || "report and original".into());
            }
            _ => {}
        }
    }
}

/// Reads the first text part that holds a field; HTML only when no plain text does.
fn read_text(walk: &mut Walk, wrapper: &Message<'_>) -> ReportText {
    let texts = || {
        let is_text = |media_type: &str| media_type.is_empty() || media_type.starts_with("text/");
        wrapper.parts().filter(move |(_, node)| is_text(&node.head.media_type) && node.kind == Kind::Leaf)
    };
    for wants_html in [false, true] {
        for (_, node) in texts().filter(|(_, node)| (node.head.media_type == "text/html") == wants_html) {
            let mut defects = Defects::default();
            let mut text = report_text(&node.head, node.copy.as_deref().unwrap_or_default(), &mut defects);
            if wants_html {
                defects.note(DefectKind::ReportTextHtml, || "report text".into());
                text = html_text(&text);
            }
            let taken: usize = walk.reports.iter().map(|report| report.envelope.recipients.len()).sum();
            let room = report::RECIPIENTS_MAX.saturating_sub(taken);
            let read = report::parse(&text, room, &mut defects);
            if read.known_lines > 0 {
                walk.defects.absorb(&defects);
                return read;
            }
        }
    }
    let kind = if texts().next().is_some() {
        DefectKind::ReportTextUnreadable
    } else {
        DefectKind::ReportTextMissing
    };
    walk.defects.note(kind, || "no envelope".into());
    ReportText::default()
}
