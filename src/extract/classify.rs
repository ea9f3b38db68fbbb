//! Decides what a message is, by structure and marker only: never by subject, language or sender.
//!
//! From the outside in: an NDR is taken off as long as it returns a message, then a journal report is looked for. A
//! report proves itself by its marker at the level where an original would otherwise stand; inside an original the
//! marker alone proves nothing, since whoever wrote the mail can write it too.

use super::capture::{self, Capture};
use super::defect::{DefectKind, Defects};
use super::header::MessageHead;
use super::journal;
use super::message::Message;
use super::mime::Scanned;
use super::ndr;
use super::origin;
use super::report::ReportText;
use super::{DerivedObject, Destination, Extraction, Report};
use crate::mail::{Class, OriginMarks, Profile};

/// Most NDRs taken off one another, and most journal reports found inside one another.
pub const LAYERS_MAX: usize = 8;

/// Says what a scanned message is and what is in it. Never fails: what cannot be read becomes a defect.
pub fn extract(scanned: &Scanned, profile: Profile) -> Extraction {
    let root = Message { scanned, root: 0, object: 0 };
    let mut walk = Walk::default();
    let class = match profile {
        Profile::Generic => {
            walk.absorb(&root);
            Class::Plain
        }
        Profile::Microsoft365 => walk.outside_in(root),
    };
    let destination = match profile {
        Profile::Generic => Destination::Unassigned,
        Profile::Microsoft365 => walk.destination(class),
    };
    Extraction {
        class,
        whole: root.facts(),
        reports: walk.reports,
        derived: walk.derived,
        destination,
        parent_message_id: walk.parent_message_id,
        returned_message_id: walk.returned_message_id,
        outer: origin::marks(&root),
        returned: walk.returned,
        defects: walk.defects.into_list(),
    }
}

/// What has been found on the way in.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) reports: Vec<Report>,
    pub(super) derived: Vec<DerivedObject>,
    pub(super) parent_message_id: Option<String>,
    pub(super) returned_message_id: Option<String>,
    /// Of each message taken off an NDR, when the last is a report or the header block of one.
    pub(super) returned: Vec<OriginMarks>,
    pub(super) defects: Defects,
    /// The innermost NDR returns no message.
    pub(super) returns_nothing: bool,
    /// A multipart around an original lacks its close delimiter: the original may be cut.
    pub(super) may_be_cut: bool,
}

enum Nature {
    /// `Some`: its envelope is not in a report text.
    Report(Option<Box<ReportText>>),
    Ndr,
    /// A capture of what may be anybody's text, or an NDR of a report.
    Ambiguous,
    Other,
}

impl Walk {
    fn outside_in(&mut self, root: Message<'_>) -> Class {
        let mut message = root;
        self.absorb_limits(&root);
        let mut layers = 0;
        let mut returned = Vec::new();
        let class = loop {
            match self.nature(&message) {
                Nature::Report(text) => {
                    self.returned = returned;
                    journal::read(self, message, text.map(|text| *text));
                    break match self.reports.first() {
                        Some(report) if layers > 0 && report.originals.is_empty() => {
                            self.returned_message_id = report.wrapper_message_id.clone();
                            Class::NdrWithoutReport
                        }
                        _ if layers > 0 => Class::JournalNdr,
                        _ => Class::JournalReport,
                    };
                }
                Nature::Ndr if layers == LAYERS_MAX => {
                    self.defects.note(DefectKind::TooManyLayers, || format!("more than {LAYERS_MAX} NDRs"));
                    break Class::Ndr;
                }
                Nature::Ndr => {
                    self.absorb(&message);
                    match ndr::returned(self, &message) {
                        Some(next) => {
                            returned.push(origin::marks(&next));
                            message = next;
                        }
                        None => break ndr::without_message(self, &message, returned),
                    }
                    layers += 1;
                }
                Nature::Ambiguous => {
                    self.absorb(&message);
                    break Class::Ndr;
                }
                Nature::Other => {
                    self.suspect(&message);
                    break if layers > 0 { Class::Ndr } else { Class::Plain };
                }
            }
        };
        let has_original = self.reports.iter().any(|report| !report.originals.is_empty());
        if !has_original && self.hit_limit() { Class::Unreadable } else { class }
    }

    fn nature(&mut self, message: &Message<'_>) -> Nature {
        let marked = message.is_marked();
        match capture::read(message, &mut self.defects) {
            Some(Capture::Of(text)) => return Nature::Report(Some(text)),
            Some(Capture::Ambiguous) => return Nature::Ambiguous,
            None => {}
        }
        if ndr::has_shape(message) && (!marked || ndr::returns_report(message)) {
            Nature::Ndr
        } else if marked {
            Nature::Report(None)
        } else {
            Nature::Other
        }
    }

    fn hit_limit(&self) -> bool {
        use DefectKind::*;
        [TooDeep, TooManyParts, TooManyEncodings, TooManyLayers]
            .into_iter()
            .any(|kind| self.defects.has(kind))
    }

    /// Notes what the scan found wrong with this message itself, not with messages inside it.
    pub(super) fn absorb(&mut self, message: &Message<'_>) {
        if let Some(found) = message.scanned.defects.get(&message.root) {
            self.defects.absorb(found);
        }
        if message.ends_lines_in_cr() {
            self.defects.note(DefectKind::BareCrHeader, || "nothing in it can be found".into());
        }
        let repeated = message.head().is_some_and(|head| head.duplicate)
            || message.parts().any(|(_, node)| node.head.duplicate);
        if repeated {
            self.defects.note(DefectKind::DuplicateHeader, || "a header of the wrapper or its parts".into());
        }
    }

    /// Notes limits met anywhere in a scan: beyond them nothing was looked at.
    pub(super) fn absorb_limits(&mut self, message: &Message<'_>) {
        // A header that is too long hides fields of what it belongs to, and nothing of the report around it.
        const INSIDE: [(DefectKind, DefectKind); 3] = [
            (DefectKind::TooDeep, DefectKind::TooDeep),
            (DefectKind::TooManyParts, DefectKind::TooManyParts),
            (DefectKind::HeaderCut, DefectKind::InnerHeaderCut),
        ];
        for (owner, found) in &message.scanned.defects {
            for (_, kind) in INSIDE.iter().filter(|(kind, _)| found.has(*kind) && *owner != message.root) {
                self.defects.note(*kind, || "inside an enclosed message".into());
            }
        }
    }

    /// Exchange's own Message-ID without the marker: somebody took it off on the way. Not proof enough to unwrap.
    fn suspect(&mut self, message: &Message<'_>) {
        self.absorb(message);
        if message.is_generated() && !message.enclosed().is_empty() {
            self.defects.note(DefectKind::MarkerMissing, || "Message-ID is a journal report's".into());
        }
    }

    /// The parts of an NDR could not be found, or not all of them: one may have held a report.
    fn lost_its_end(&self) -> bool {
        use DefectKind::*;
        [BoundaryMissing, BoundaryTooLong, MissingCloseDelimiter, UnterminatedHeader]
            .into_iter()
            .any(|kind| self.defects.has(kind))
    }

    fn destination(&self, class: Class) -> Destination {
        match class {
            Class::NdrWithoutReport | Class::Unreadable => Destination::Quarantine,
            _ if self.defects.quarantines() => Destination::Quarantine,
            Class::Ndr if self.returns_nothing && self.lost_its_end() => Destination::Quarantine,
            Class::Ndr | Class::Plain => Destination::Unassigned,
            Class::JournalReport | Class::JournalNdr => {
                let outermost = self.reports.first();
                if self.may_be_cut || outermost.is_none_or(|report| report.originals.is_empty()) {
                    Destination::Quarantine
                } else if self.reports.iter().all(|report| !journal::names_somebody(report)) {
                    Destination::Unassigned
                } else {
                    Destination::Assign
                }
            }
        }
    }
}

/// True when the header of a returned message, all that came back of it, is a journal report's.
pub(super) fn is_report_header(head: &MessageHead) -> bool {
    head.marked || head.is_generated() || head.parent_message_id.is_some()
}
