//! What a message's header says about what kind of message it is.

pub(super) use crate::mail::header::{Field, Head, Transfer, fields};

/// What a message's header says about what kind of message it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MessageHead {
    /// A journal report marker: `X-MS-Journal-Report`, the organisation's own, or the one of Exchange 2003.
    pub(super) marked: bool,
    /// `X-MS-Exchange-Message-Is-Ndr`
    pub(super) is_ndr: bool,
    /// `X-Failed-Recipients`: Exim's bounces, and some after its example.
    pub(super) failed_recipients: bool,
    /// `Message-ID` as written, with its angle brackets.
    pub(super) message_id: Option<String>,
    /// `X-MS-Exchange-Parent-Message-Id`
    pub(super) parent_message_id: Option<String>,
    /// A marker or the Message-ID occurs more than once.
    pub(super) duplicate: bool,
}

/// Right-hand side of the Message-IDs that Exchange gives its reports.
const REPORT_MESSAGE_ID_END: &str = "@journal.report.generator>";

impl MessageHead {
    pub(super) fn parse(block: &[u8]) -> MessageHead {
        let mut head = MessageHead::default();
        let (mut markers, mut message_ids) = (0, 0);
        for field in fields(block) {
            if is_marker(&field) {
                markers += 1;
            } else if field.is("X-MS-Exchange-Message-Is-Ndr") {
                head.is_ndr = true;
            } else if field.is("X-Failed-Recipients") {
                head.failed_recipients = true;
            } else if field.is("Message-ID") {
                message_ids += 1;
                if head.message_id.is_none() {
                    head.message_id = message_id(&field.unfolded());
                }
            } else if field.is("X-MS-Exchange-Parent-Message-Id") && head.parent_message_id.is_none() {
                head.parent_message_id = message_id(&field.unfolded());
            }
        }
        head.marked = markers > 0;
        head.duplicate = markers > 1 || message_ids > 1;
        head
    }

    /// The Message-ID is one that Exchange's journaling agent makes.
    pub(super) fn is_generated(&self) -> bool {
        self.message_id.as_deref().is_some_and(|id| id.to_ascii_lowercase().ends_with(REPORT_MESSAGE_ID_END))
    }
}

/// Presence is the test: the value is empty from Exchange, but other generators write one.
fn is_marker(field: &Field<'_>) -> bool {
    if field.is("X-MS-Journal-Report")
        || field.is("X-MS-Exchange-Organization-Journal-Report")
        || field.is("X-WM-Journal-Report")
    {
        return true;
    }
    // Exchange 2000 and 2003 misspell the name; others correct it.
    (field.is("Content-Identifer") || field.is("Content-Identifier"))
        && field.unfolded().eq_ignore_ascii_case(b"ExJournalReport")
}

/// The `<…>` of a Message-ID value, or the whole value when it has none; `None` when empty.
pub(super) fn message_id(value: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    let bracketed = text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(inner, _)| inner);
    match bracketed {
        Some(inner) => Some(format!("<{inner}>")),
        None if text.is_empty() => None,
        None => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_in_any_case_and_with_any_value() {
        for (marker, expect) in [
            ("X-MS-Journal-Report:\r\n", true),
            ("x-ms-journal-report: yes\r\n", true),
            ("X-MS-EXCHANGE-ORGANIZATION-JOURNAL-REPORT: \r\n", true),
            ("Content-Identifer: exjournalreport\r\n", true),
            ("Content-Identifier: ExJournalReport\r\n", true),
            ("Content-Identifer: ExJournalData\r\n", false),
            ("X-MS-Journal-Report-Not: 1\r\n", false),
            ("Subject: X-MS-Journal-Report:\r\n", false),
        ] {
            assert_eq!(MessageHead::parse(marker.as_bytes()).marked, expect, "{marker}");
        }
    }

    #[test]
    fn message_ids_keep_their_brackets() {
        assert_eq!(message_id(b" <a@b> (c)"), Some("<a@b>".into()));
        assert_eq!(message_id(b"a@b"), Some("a@b".into()));
        assert_eq!(message_id(b" "), None);
    }
}
