//! The body grammar of a journal report (MS-XJRNL Envelope-Part, and the 2003 form), from decoded text.
//!
//! ```text
//! Sender: a@x                      may be empty or <>: the null path
//! On-Behalf-Of: b@x
//! Subject: text                    decoded, never folded by Exchange
//! Message-Id: <id>                 before or behind Subject
//! Label: … / Mailbox: … / SentUtc: … / ReceivedUtc: …          also Sent:, Received:
//! To|Cc|Bcc|Recipient: c@x[, Expanded: list@x | , Forwarded: d@x]
//! ```
//! Exchange 2000 and 2003 write `Recipients:` instead, then one indented `Name <address>` a line.
//!
//! Read tolerantly, each tolerance named as a [`DefectKind`]: other case, blanks around the colon, folded lines,
//! unknown and empty lines, display names. A line break decoded out of a subject could forge a field, so Sender, Subject,
//! Message-ID and every other single field bind to their first occurrence, and recipients before the header fields are
//! complete are flagged, and so is an optional field where the grammar does not have it. What lies beyond the cap on recipients
//! is not read, and that is noted. The work is linear.

use super::defect::{DefectKind, Defects};
use super::recipient::{block_line, holds_x500, recipient_line, trim, written};
use super::text::{is_control, is_stray};
use crate::mail::{JournaledEnvelope, RecipientField};
use std::borrow::Cow;

/// Most recipients that are read of one message, in all of its reports together. Forty times what Exchange Online allows; so
/// many, with a report text at its own limit, still fit an entry of the store. Beyond it the outermost report goes to
/// quarantine, and one inside an original is not unwrapped.
pub(super) const RECIPIENTS_MAX: usize = 500_000;

/// What a report text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReportText {
    pub(super) envelope: JournaledEnvelope,
    pub(super) subject: Option<String>,
    /// Lines that were a known field.
    pub(super) known_lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Sender,
    OnBehalfOf,
    Subject,
    MessageId,
    Label,
    Owner,
    Sent,
    Received,
    Recipient(RecipientField),
    RecipientsBlock,
}

/// Spellings that occur in reports, the first of each name being Exchange's own.
const NAMES: [(&str, Name); 16] = [
    ("Recipient", Name::Recipient(RecipientField::Unspecified)),
    ("To", Name::Recipient(RecipientField::To)),
    ("Cc", Name::Recipient(RecipientField::Cc)),
    ("Bcc", Name::Recipient(RecipientField::Bcc)),
    ("Sender", Name::Sender),
    ("On-Behalf-Of", Name::OnBehalfOf),
    ("Subject", Name::Subject),
    ("Message-Id", Name::MessageId),
    ("Message-ID", Name::MessageId),
    ("Label", Name::Label),
    ("Mailbox", Name::Owner),
    ("SentUtc", Name::Sent),
    ("Sent", Name::Sent),
    ("ReceivedUtc", Name::Received),
    ("Received", Name::Received),
    ("Recipients", Name::RecipientsBlock),
];

/// Reads a report text with LF or CRLF line ends, and at most `room` recipients.
pub(super) fn parse(text: &str, room: usize, defects: &mut Defects) -> ReportText {
    let mut reader = Reader {
        report: ReportText::default(),
        room,
        in_block: false,
        header_seen: HeaderSeen::default(),
        place: 0,
        defects,
    };
    // A text without LF has lost its line ends to bare CR.
    let separator = if text.contains('\n') { '\n' } else { '\r' };
    if separator == '\r' && trim(text).contains('\r') {
        reader.defects.note(DefectKind::BareCrText, || "report text".into());
    }
    let text = without_strays(text, separator);
    let mut blank = false;
    let mut pending: Option<Pending<'_>> = None;
    for (index, line) in text.split(separator).enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if trim(line).is_empty() {
            blank = true;
            continue;
        }
        if std::mem::take(&mut blank) && (reader.report.known_lines > 0 || pending.is_some()) {
            reader.blank_line(index);
        }
        let indented = line.starts_with([' ', '\t']);
        match &mut pending {
            Some(open) if indented && !reader.in_block && !open.opens_block => {
                reader.defects.note(DefectKind::FoldedLine, || format!("line {}", open.number));
                let text = open.text.to_mut();
                text.push(' ');
                text.push_str(trim(line));
                continue;
            }
            _ => reader.take(pending.take()),
        }
        if reader.in_block && indented {
            reader.block(index + 1, line);
        } else {
            let opens_block = split_field(line).is_some_and(|field| field.name == Name::RecipientsBlock);
            pending = Some(Pending { number: index + 1, text: Cow::Borrowed(line), opens_block });
        }
    }
    reader.take(pending);
    reader.finish()
}

/// The text without the marks and controls that hide a field name or stand at the ends of a line, and with those in values.
fn without_strays(text: &str, separator: char) -> Cow<'_, str> {
    if !text.contains(is_stray) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    for line in text.split_inclusive(separator) {
        let content = line.trim_end_matches(['\r', '\n']);
        let line_end = line.get(content.len()..).unwrap_or_default();
        let content = content.trim_matches(is_control);
        let name = content.split_once(':').map(|(name, _)| name).unwrap_or(content);
        let bare: String = name.chars().filter(|c| !is_stray(*c)).collect();
        let hides_a_name = name.len() < content.len() && named(trim(&bare)).is_some();
        if hides_a_name || bare.is_empty() {
            clean.push_str(&bare);
            clean.push_str(content.get(name.len()..).unwrap_or_default());
        } else {
            clean.push_str(content);
        }
        clean.push_str(line_end);
    }
    Cow::Owned(clean)
}

/// A line that the next one may continue.
struct Pending<'a> {
    number: usize,
    text: Cow<'a, str>,
    /// The lines behind it are recipients, not its continuation.
    opens_block: bool,
}

struct Field<'a> {
    name: Name,
    value: &'a str,
    /// Written exactly as Exchange does.
    plain: bool,
}

fn split_field(line: &str) -> Option<Field<'_>> {
    let (written_name, rest) = line.split_once(':')?;
    let (spelling, found) = named(trim(written_name))?;
    let value = trim(rest);
    let plain =
        *spelling == written_name && (rest.trim_end().is_empty() || rest.strip_prefix(' ') == Some(value));
    Some(Field { name: *found, value, plain })
}

/// The field of this name, in its exact spelling if there is one.
fn named(name: &str) -> Option<&'static (&'static str, Name)> {
    NAMES
        .iter()
        .find(|(spelling, _)| *spelling == name)
        .or_else(|| NAMES.iter().find(|(spelling, _)| spelling.eq_ignore_ascii_case(name)))
}

#[derive(Default)]
struct HeaderSeen {
    sender: bool,
    subject: bool,
    message_id: bool,
}

struct Reader<'d> {
    report: ReportText,
    /// Most recipients that are read.
    room: usize,
    in_block: bool,
    header_seen: HeaderSeen,
    /// The latest place in the grammar that a field stood for.
    place: u8,
    defects: &'d mut Defects,
}

impl Reader<'_> {
    fn blank_line(&mut self, number: usize) {
        // HTML has them wherever a tag stands.
        if !self.defects.has(DefectKind::ReportTextHtml) {
            self.defects.note(DefectKind::BlankLine, || format!("line {number}"));
        }
    }

    fn take(&mut self, pending: Option<Pending<'_>>) {
        if let Some(line) = pending {
            self.line(line.number, &line.text);
        }
    }

    fn line(&mut self, number: usize, line: &str) {
        let Some(field) = split_field(line) else {
            if self.in_block && (line.contains('@') || holds_x500(line)) {
                // A relay took the indentation away.
                self.defects.note(DefectKind::FieldSpelling, || format!("line {number}"));
                self.block(number, line);
            } else {
                self.defects.note(DefectKind::UnknownLine, || format!("line {number} of the report text"));
            }
            return;
        };
        self.report.known_lines += 1;
        self.in_block = false;
        if !field.plain {
            self.defects.note(DefectKind::FieldSpelling, || format!("line {number}"));
        }
        self.field(number, field.name, field.value);
    }

    fn field(&mut self, number: usize, name: Name, value: &str) {
        self.place(number, name);
        let text = || Some(value.to_owned()).filter(|v| !v.is_empty());
        let envelope = &mut self.report.envelope;
        let repeated = match name {
            Name::Sender => {
                self.header_seen.sender = true;
                bind(&mut envelope.sender, || Some(written(value, number, self.defects)))
            }
            Name::Subject => {
                self.header_seen.subject = true;
                bind(&mut self.report.subject, || Some(value.to_owned()))
            }
            Name::MessageId => {
                let again = std::mem::replace(&mut self.header_seen.message_id, true);
                if !again {
                    envelope.message_id = text();
                }
                again
            }
            Name::OnBehalfOf => bind(&mut envelope.on_behalf_of, || {
                Some(written(value, number, self.defects)).filter(|address| !address.is_null())
            }),
            Name::Label => bind(&mut envelope.label, text),
            Name::Owner => bind(&mut envelope.owner, || {
                Some(written(value, number, self.defects)).filter(|address| !address.is_null())
            }),
            Name::Sent => bind(&mut envelope.sent, text),
            Name::Received => bind(&mut envelope.received, text),
            Name::Recipient(field) => {
                self.recipient(number, field, value);
                false
            }
            Name::RecipientsBlock => {
                self.in_block = true;
                if !value.is_empty() {
                    self.block(number, value);
                }
                false
            }
        };
        if repeated {
            self.defects.note(DefectKind::DuplicateField, || format!("line {number}"));
        }
    }

    /// Flags an optional field out of its place. Sender, Subject and Message-ID are flagged by the recipients before them, or as
    /// repeated.
    fn place(&mut self, number: usize, name: Name) {
        let place = match name {
            Name::Sender => 0,
            Name::OnBehalfOf => 1,
            Name::Subject | Name::MessageId => 2,
            Name::Label => 3,
            Name::Owner => 4,
            Name::Sent => 5,
            Name::Received => 6,
            Name::Recipient(_) | Name::RecipientsBlock => 7,
        };
        let is_optional = matches!(place, 1 | 3..=6);
        let behind = self.place;
        self.place = behind.max(place);
        if place < behind && (is_optional || behind < 7) {
            self.defects.note(DefectKind::FieldOrder, || format!("line {number}"));
        }
    }

    fn recipient(&mut self, number: usize, field: RecipientField, value: &str) {
        if !(self.header_seen.sender && self.header_seen.subject && self.header_seen.message_id) {
            self.defects.note(DefectKind::RecipientBeforeHeader, || format!("line {number}"));
        }
        let recipients = &mut self.report.envelope.recipients;
        if recipients.len() < self.room {
            recipients.extend(recipient_line(field, value, number, self.defects));
        } else {
            let detail = || format!("line {number}: more recipients than are read");
            self.defects.note(DefectKind::ReportTextCut, detail);
        }
    }

    fn block(&mut self, number: usize, line: &str) {
        let recipients = &mut self.report.envelope.recipients;
        let room = self.room.saturating_sub(recipients.len());
        recipients.extend(block_line(line, number, room, self.defects));
    }

    fn finish(self) -> ReportText {
        if self.report.known_lines > 0 && self.report.envelope.recipients.is_empty() {
            self.defects.note(DefectKind::RecipientsMissing, || "report text".into());
        }
        self.report
    }
}

/// Sets a field that is still unset. True when it was set before.
fn bind<T>(slot: &mut Option<T>, value: impl FnOnce() -> Option<T>) -> bool {
    if slot.is_some() {
        return true;
    }
    *slot = value();
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (ReportText, Defects) {
        let mut defects = Defects::default();
        (parse(text, RECIPIENTS_MAX, &mut defects), defects)
    }

    fn check(text: &str, sender: Option<&str>, recipients: &[&str], kinds: &[DefectKind]) {
        let (report, defects) = read(text);
        assert_eq!(report.envelope.sender.as_ref().map(|s| s.as_str()), sender, "{text}");
        let found: Vec<_> = report.envelope.recipients.iter().map(|r| r.address.as_str()).collect();
        assert_eq!(found, recipients, "{text}");
        let found: Vec<_> = defects.into_list().into_iter().map(|d| d.kind).collect();
        assert_eq!(found, kinds, "{text}");
    }

    const HEAD: &str = "Sender: a@x\r\nSubject: s\r\nMessage-Id: <m>\r\n";

    #[test]
    fn the_strict_form_has_no_defects() {
        check(&format!("{HEAD}Recipient: b@x\r\n\r\n\r\n"), Some("a@x"), &["b@x"], &[]);
        check(
            "Sender: a@x\nOn-Behalf-Of: c@x\nMessage-ID: <m>\nSubject: \nLabel: l\nMailbox: o@x\nSentUtc: 1\nReceivedUtc: 2\nTo: b@x, Expanded: g@x\n",
            Some("a@x"),
            &["b@x"],
            &[],
        );
    }

    #[test]
    fn deviations_are_read_and_named() {
        use DefectKind::*;
        check(
            "SENDER : a@x\nsubject:s\nMESSAGE-ID:\t<m>\nrecipient:   b@x  \n",
            Some("a@x"),
            &["b@x"],
            &[FieldSpelling],
        );
        check(&format!("{HEAD}To: b@x,\r\n Expanded: g@x\r\n"), Some("a@x"), &["b@x"], &[FoldedLine]);
        check(
            &format!("{HEAD}X-Future: 1\r\nTo: b@x\r\nfree text\r\n"),
            Some("a@x"),
            &["b@x"],
            &[UnknownLine],
        );
        check(
            &format!("{HEAD}To: b@x\r\nSender: e@x\r\nSubject: t\r\n"),
            Some("a@x"),
            &["b@x"],
            &[DuplicateField],
        );
        check(
            "Sender: a@x\nSubject: s\nRecipient: e@x\nMessage-Id: <m>\nRecipient: b@x\n",
            Some("a@x"),
            &["e@x", "b@x"],
            &[RecipientBeforeHeader],
        );
        check(&format!("{HEAD}Recipient: Bob <b@x>\r\n"), Some("a@x"), &["b@x"], &[BracketedAddress]);
        check(&format!("{HEAD}Recipient: b at x\r\n"), Some("a@x"), &["b at x"], &[MalformedAddress]);
        check(HEAD, Some("a@x"), &[], &[RecipientsMissing]);
        check(
            "Sender:\u{a0}a@x\rSubject: s\rMessage-Id: <m>\rTo: b@x",
            Some("a@x"),
            &["b@x"],
            &[BareCrText, FieldSpelling],
        );
        check(&format!("{HEAD}\r\nTo: b@x\r\n"), Some("a@x"), &["b@x"], &[BlankLine]);
        check(&format!("\r\n{HEAD}To: b@x\r\n\r\n \r\n"), Some("a@x"), &["b@x"], &[]);
    }

    #[test]
    fn a_field_that_a_subject_could_have_forged_is_named() {
        use DefectKind::*;
        for (text, kind) in [
            ("Sender: a@x\nSubject: s\nOn-Behalf-Of: e@x\nMessage-Id: <m>\nTo: b@x\n", FieldOrder),
            ("Sender: a@x\nSubject: s\nMailbox: e@x\nMessage-Id: <m>\nTo: b@x\n", FieldOrder),
            ("Sender: a@x\nMessage-Id: <m>\nSubject: s\nTo: b@x\nLabel: l\n", FieldOrder),
            ("Subject: s\nSender: a@x\nMessage-Id: <m>\nTo: b@x\n", FieldOrder),
            ("Sender: a@x\nSubject: s\nMessage-Id: <e>\nTo: b@x\nMessage-Id: <m>\n", DuplicateField),
        ] {
            check(text, Some("a@x"), &["b@x"], &[kind]);
        }
    }

    #[test]
    fn no_report_fills_the_memory() {
        let lines = "To:a\n".repeat(RECIPIENTS_MAX + 1);
        let block = format!("Recipients:{}a\n", "a,".repeat(RECIPIENTS_MAX));
        let lines_of_a_block = format!("Recipients:\n{}", "\ta,b\n".repeat(RECIPIENTS_MAX / 2 + 1));
        for many in [lines, block, lines_of_a_block] {
            let (report, defects) = read(&format!("{HEAD}{many}"));
            assert_eq!(report.envelope.recipients.len(), RECIPIENTS_MAX);
            assert!(defects.has(DefectKind::ReportTextCut));
        }
    }

    #[test]
    fn strays_hide_no_field_name_and_stay_in_addresses() {
        use DefectKind::*;
        let head = "\u{feff}Sen\u{1}der: a@x\n\u{200b}\u{1}Subject: s\nMessage-Id: <m>\u{1f}\n";
        let check = |rest: &str, recipients: &[&str], kinds: &[DefectKind]| {
            check(&format!("{head}{rest}"), Some("a@x"), recipients, kinds);
        };
        check("\u{1}\u{200e}To: b@x\u{1}\n\u{feff}\n", &["b@x"], &[]);
        check("Recipients:\n\tb@x\u{7f}\n", &["b@x"], &[]);
        check(
            "To: b\u{200b}@x\nTo:\u{feff}c@x\nTo: d@x\u{200e}\n",
            &["b\u{200b}@x", "\u{feff}c@x", "d@x\u{200e}"],
            &[FieldSpelling],
        );
        check("To: b\u{1}@x\n", &["b\u{1}@x"], &[MalformedAddress]);
        check("Recipients:\n\t\u{200b}b@x\n", &["\u{200b}b@x"], &[]);
    }

    #[test]
    fn null_senders_and_empty_values_are_lawful() {
        check("Sender: <>\nSubject: \nMessage-Id: \nTo: b@x\n", Some(""), &["b@x"], &[]);
        check("Sender:\nSubject:\nMessage-Id:\nTo: b@x\n", Some(""), &["b@x"], &[]);
    }

    #[test]
    fn the_subject_is_never_a_field() {
        let (report, defects) = read("Sender: a@x\nSubject: Recipient: e@x\nMessage-Id: <m>\nTo: b@x\n");
        assert_eq!(report.subject.as_deref(), Some("Recipient: e@x"));
        assert_eq!(report.envelope.recipients.len(), 1);
        assert!(defects.into_list().is_empty());
    }

    #[test]
    fn recipients_blocks_end_at_the_next_field() {
        check(
            "Sender: \"A A.\" <a@x>\r\nMessage-ID: <m>\r\nRecipients:\r\n\t\"B, B.\" <b@x>,\r\n\tc@x\r\nd@x,\r\nLabel: l\r\n",
            Some("a@x"),
            &["b@x", "c@x", "d@x"],
            &[DefectKind::BracketedAddress, DefectKind::FieldSpelling, DefectKind::FieldOrder],
        );
    }

    #[test]
    fn prose_is_no_report() {
        let (report, _) = read("Journal report for a message sent by alice.\r\n");
        assert_eq!(report.known_lines, 0);
        assert!(report.envelope.is_empty());
    }

    #[test]
    fn twelve_thousand_recipients_are_all_kept() {
        let lines: String = (0..12_000).map(|n| format!("Bcc: u{n}@x, Expanded: g@x\r\n")).collect();
        let (report, _) = read(&format!("{HEAD}{lines}"));
        assert_eq!(report.envelope.recipients.len(), 12_000);
    }
}
