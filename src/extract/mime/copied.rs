//! Bounces that are no MIME: older Exim and qmail write the returned message behind a line of their text.
//!
//! ```text
//! Exim    X-Failed-Recipients: <addresses>               in the header
//!         ------ This is a copy of the message, including all the headers. ------
//!         ------ The body of the message is 900000 characters long; only the first      when it was cut
//!         ------ 100000 or so are included here.
//! qmail   Hi. This is the qmail-send program at <host>.      first line of the text
//!         --- Below this line is a copy of the message.
//! ```
//! The cut is a guess, made only in a text that begins as such a bounce does, and only where a header field follows: a mail
//! that quotes a bounce stays one text. What follows runs to the end of the text.

use crate::extract::header::{Head, MessageHead, Transfer, fields};

/// Most octets of text before the line that announces the copy: addresses and what their servers said.
const BOUNCE_TEXT_OCTETS_MAX: u64 = 1024 * 1024;

const QMAIL_OPENING: &[u8] = b"Hi. This is the qmail-send program at ";
const QMAIL_CUTS: [&[u8]; 3] = [
    b"--- Below this line is a copy of the message.",
    b"--- Below this line is a copy of the mail header.",
    b"--- Below this line is the original bounce.",
];
const EXIM_CUT: &[u8] = b"------ This is a copy of ";
const EXIM_NOTE: &[u8] = b"------ ";
const EXIM_CUT_SHORT: &[u8] = b"------ The body of the message is ";

/// Looks for the copy, line by line.
#[derive(Debug)]
pub(super) struct Watch {
    step: Step,
    body_offset: u64,
    truncated: bool,
}

#[derive(Debug)]
enum Step {
    /// Before the first line that says whether this is a bounce.
    Opening,
    /// In the text of a bounce.
    Text,
    /// Behind the line that announces the copy.
    Announced,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Text,
    /// Text, and there is no copy to come.
    NoBounce,
    /// The first line of the returned message.
    Copy {
        truncated: bool,
    },
}

impl Watch {
    /// For the body of a message that could wrap another, when it can be such a bounce.
    pub(super) fn over(head: &Head, message: &MessageHead, body_offset: u64) -> Option<Watch> {
        let is_text =
            matches!(head.media_type.as_str(), "" | "text/plain") && head.transfer == Transfer::Identity;
        let step = if message.failed_recipients { Step::Text } else { Step::Opening };
        is_text.then_some(Watch { step, body_offset, truncated: false })
    }

    /// Takes the next line, its end included, which starts at this offset.
    pub(super) fn line(&mut self, line: &[u8], offset: u64) -> Seen {
        let text = line.trim_ascii_end();
        if offset.saturating_sub(self.body_offset) > BOUNCE_TEXT_OCTETS_MAX {
            return Seen::NoBounce;
        }
        match self.step {
            _ if text.is_empty() => {}
            Step::Opening if text.starts_with(QMAIL_OPENING) => self.step = Step::Text,
            Step::Opening => return Seen::NoBounce,
            Step::Text => self.text(text),
            Step::Announced if text.starts_with(EXIM_NOTE) => {
                self.truncated |= text.starts_with(EXIM_CUT_SHORT);
            }
            Step::Announced if fields(line).next().is_some() => {
                return Seen::Copy { truncated: self.truncated };
            }
            // The line that seemed to announce a copy was something a server said.
            Step::Announced => self.text(text),
        }
        Seen::Text
    }

    /// Passes a line that is too long to be one of those looked for. False when there is no copy to come.
    pub(super) fn long_line(&mut self) -> bool {
        match self.step {
            Step::Opening => false,
            Step::Text | Step::Announced => {
                self.step = Step::Text;
                true
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        let announces = text.starts_with(EXIM_CUT) || QMAIL_CUTS.contains(&text);
        self.step = if announces { Step::Announced } else { Step::Text };
        self.truncated = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &[u8], body: &str, expect: Option<(usize, bool)>) {
        let (head, message) = (Head::parse(header), MessageHead::parse(header));
        let Some(mut watch) = Watch::over(&head, &message, 0) else {
            return assert_eq!(expect, None, "{body}");
        };
        let mut offset = 0;
        for line in body.split_inclusive('\n') {
            match watch.line(line.as_bytes(), offset as u64) {
                Seen::Text => {}
                Seen::NoBounce => return assert_eq!(expect, None, "{body}"),
                Seen::Copy { truncated } => return assert_eq!(expect, Some((offset, truncated)), "{body}"),
            }
            offset += line.len();
        }
        assert_eq!(expect, None, "{body}");
    }

    const EXIM: &[u8] = b"X-Failed-Recipients: a@x\r\n\r\n";
    const WHOLE: &str = "------ This is a copy of the message, including all the headers. ------\r\n\r\n";

    #[test]
    fn the_copy_starts_behind_the_line_that_announces_it() {
        check(EXIM, &format!("sorry\r\n\r\n{WHOLE}Return-path: <a@x>\r\n"), Some((9 + WHOLE.len(), false)));
        let cut = "------ This is a copy of the message, including all the headers.\n\
                   ------ The body of the message is 900 characters long; only the first\n\
                   ------ 100 or so are included here.\n\n";
        check(EXIM, &format!("{cut}A: b\n"), Some((cut.len(), true)));
        let qmail = "Hi. This is the qmail-send program at mx.x.\nsorry\n\n--- Below this line is a copy of the message.\n\n";
        check(
            b"Subject: failure notice\n\n",
            &format!("{qmail}Return-Path: <>\n"),
            Some((qmail.len(), false)),
        );
    }

    #[test]
    fn what_only_quotes_a_bounce_is_text() {
        check(b"\r\n", &format!("{WHOLE}A: b\r\n"), None);
        check(
            b"\r\n",
            "see:\nHi. This is the qmail-send program at mx.x.\n--- Below this line is a copy of the message.\n\nA: b\n",
            None,
        );
        check(EXIM, &format!("> {WHOLE}A: b\r\n"), None);
        check(EXIM, &format!("{WHOLE}no field\r\n"), None);
        check(
            b"Content-Type: text/html\r\nX-Failed-Recipients: a@x\r\n\r\n",
            &format!("{WHOLE}A: b\r\n"),
            None,
        );
        check(EXIM, &format!("{}{WHOLE}A: b\r\n", "x\r\n".repeat(400_000)), None);
    }

    #[test]
    fn a_line_that_a_server_said_does_not_hide_the_right_one() {
        let text = format!("{WHOLE}said the server\r\n{WHOLE}");
        check(EXIM, &format!("{text}A: b\r\n"), Some((text.len(), false)));
    }
}
