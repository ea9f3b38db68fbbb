//! Faults found in input, and deviations accepted by name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One fault found in the input, by a stable kebab-case kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defect {
    /// Stable name of the fault.
    pub kind: DefectKind,
    /// Where and what, without any body text.
    pub detail: String,
}

/// What can be wrong with a received message. The kebab-case names are stable: logs, `inspect --json` and stored
/// entries use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefectKind {
    /// Parts nested deeper than the limit; the rest was not looked into.
    TooDeep,
    /// More parts than the limit; the rest was not looked into.
    TooManyParts,
    /// Encoded messages inside encoded messages beyond the limit.
    TooManyEncodings,
    /// NDRs of NDRs beyond the limit.
    TooManyLayers,
    /// A header block was longer than what is kept of one.
    HeaderCut,
    /// The same inside an enclosed message: not all fields of an original were read, but all of its octets are in it.
    InnerHeaderCut,
    /// The report text was longer than what is kept of one: recipients may be missing.
    ReportTextCut,
    /// A header block ended without an empty line.
    UnterminatedHeader,
    /// A multipart ended without its close delimiter: the message may be truncated.
    MissingCloseDelimiter,
    /// A multipart named no boundary.
    BoundaryMissing,
    /// The boundary was on a continuation line that had lost its leading blank.
    BoundaryRecovered,
    /// A boundary longer than any real one.
    BoundaryTooLong,
    /// A multipart used the boundary of one it lies in.
    BoundaryReused,
    /// A delimiter stood behind the close delimiter of its multipart.
    DelimiterAfterClose,
    /// A header field that decides how the message is read occurs twice; the first one was used.
    DuplicateHeader,
    /// Looks like a journal report but bears no marker; not unwrapped.
    MarkerMissing,
    /// The original bears a journal report marker of its own; not unwrapped.
    MarkerInsideOriginal,
    /// A message part in an unknown transfer encoding.
    UnsupportedEncoding,
    /// A message part in base64 or quoted-printable, which RFC 2046 §5.2.1 forbids.
    EncodedMessage,
    /// A part sent as a file that holds a message.
    MessageAsFile,
    /// A bounce that is no MIME: the returned message was cut out behind the line that announces it.
    NonMimeBounce,
    /// A bounce says that it returns only the start of the message.
    ReturnedMessageCut,
    /// A capture of the Sun or Oracle Messaging Server: the envelope was read from its delivery status.
    CaptureNotification,
    /// The same around a mail that is marked as a journal report or is a bounce: captured text, or a returned report.
    CaptureAmbiguous,
    /// The lines of a message end in bare CR: nothing in it can be found.
    BareCrHeader,
    /// No original in the report.
    OriginalMissing,
    /// The part for the original is empty.
    OriginalEmpty,
    /// The wrapper came as TNEF (`winmail.dat`): rich text is switched on for the journal address.
    TnefWrapper,
    /// Several originals that are not the two copies of one protected message.
    SeveralOriginals,
    /// The report names another Message-ID than the original bears.
    MessageIdMismatch,
    /// The original bears no Message-ID.
    MessageIdMissing,
    /// The report has no text part.
    ReportTextMissing,
    /// The report text holds no known field.
    ReportTextUnreadable,
    /// The report text was read from HTML.
    ReportTextHtml,
    /// The report text is in an unknown charset.
    CharsetUnknown,
    /// The report text is not in the charset it names.
    CharsetMismatch,
    /// Byte order mark, NUL or other control characters in the report text.
    ControlCharacters,
    /// A line of the report text that is no known field.
    UnknownLine,
    /// A field that binds once occurs again; the first one was used.
    DuplicateField,
    /// A recipient line before Sender, Subject and Message-ID were complete: it may be forged by a line break in the subject.
    RecipientBeforeHeader,
    /// An optional field of the report text where the grammar does not have it: it may be forged by a line break in the subject.
    FieldOrder,
    /// The report text names no recipient.
    RecipientsMissing,
    /// A recipient line without an address.
    RecipientEmpty,
    /// An address in the report is not a valid SMTP address nor an X.500 name; kept as written.
    MalformedAddress,
    /// A recipient line with more than one redirection; the last one was used.
    SeveralRedirections,
    /// A quoted local part that does not end; the quotes were taken literally.
    UnbalancedQuote,
    /// A header field that is trusted to name people stands further down too, where whoever wrote the mail may have put it;
    /// only the topmost was believed.
    EnvelopeHeaderIgnored,
    /// Quirk: lines of the report text end in bare CR.
    BareCrText,
    /// Quirk: an empty line between the fields of the report text.
    BlankLine,
    /// Quirk: a report line was folded.
    FoldedLine,
    /// Quirk: a field name in unusual case, or unusual blanks around its colon.
    FieldSpelling,
    /// Quirk: an address in angle brackets or with a display name.
    BracketedAddress,
}

impl DefectKind {
    /// True when what was read cannot be trusted to be all, or to be unambiguous: the message goes to quarantine.
    pub(super) fn quarantines(self) -> bool {
        use DefectKind::*;
        matches!(
            self,
            TooDeep
                | TooManyParts
                | TooManyEncodings
                | TooManyLayers
                | HeaderCut
                | ReportTextCut
                | BoundaryReused
                | DelimiterAfterClose
                | MarkerMissing
                | UnsupportedEncoding
                | ReturnedMessageCut
                | BareCrHeader
                | CaptureAmbiguous
                | TnefWrapper
        )
    }

    /// True when a message with this fault may not hold all there was: what goes to quarantine, and what may be cut.
    pub fn leaves_doubt(self) -> bool {
        self.quarantines() || self == DefectKind::MissingCloseDelimiter
    }

    /// The same of a stored entry with a fault of this name.
    pub fn name_leaves_doubt(name: &str) -> bool {
        let kind = serde_json::from_value::<DefectKind>(serde_json::Value::from(name));
        kind.is_ok_and(DefectKind::leaves_doubt)
    }
}

impl fmt::Display for DefectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Faults of one pass, one entry per kind however often it occurs: a hostile text must not grow the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defects {
    found: Vec<(DefectKind, String, u64)>,
}

impl Defects {
    /// Notes a fault. Only the detail of the first of its kind is kept.
    pub(super) fn note(&mut self, kind: DefectKind, detail: impl FnOnce() -> String) {
        match self.found.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, _, count)) => *count += 1,
            None => self.found.push((kind, detail(), 1)),
        }
    }

    /// Takes over what another pass found.
    pub(super) fn absorb(&mut self, other: &Defects) {
        for (kind, detail, count) in &other.found {
            match self.found.iter_mut().find(|(known, ..)| known == kind) {
                Some((_, _, total)) => *total += count,
                None => self.found.push((*kind, detail.clone(), *count)),
            }
        }
    }

    pub(super) fn has(&self, kind: DefectKind) -> bool {
        self.found.iter().any(|(known, ..)| *known == kind)
    }

    pub(super) fn quarantines(&self) -> bool {
        self.found.iter().any(|(kind, ..)| kind.quarantines())
    }

    /// The list as it is reported, in the order found.
    pub(super) fn into_list(self) -> Vec<Defect> {
        self.found
            .into_iter()
            .map(|(kind, detail, count)| Defect {
                kind,
                detail: if count > 1 { format!("{detail} ({count} times)") } else { detail },
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_listed_once_with_its_count() {
        let mut defects = Defects::default();
        for line in 4..9 {
            defects.note(DefectKind::UnknownLine, || format!("line {line}"));
        }
        assert_eq!(
            defects.into_list(),
            [Defect { kind: DefectKind::UnknownLine, detail: "line 4 (5 times)".into() }]
        );
    }

    #[test]
    fn kinds_are_shown_in_kebab_case() {
        assert_eq!(DefectKind::MissingCloseDelimiter.to_string(), "missing-close-delimiter");
    }
}
