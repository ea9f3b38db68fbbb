//! mbox: one file a folder (RFC 4155, in the form known as *mboxrd*).
//!
//! Before each message stands a line `From <sender> <time in UTC, as asctime writes it>`, behind it an empty line. A line of the
//! message that begins with `From `, or with any number of `>` and then `From `, gets one more `>`: taking one away gives the
//! message back. Its octets are else as stored, line ends included, which RFC 4155 would have as LF alone; the lines around a
//! message end in LF. A message that does not end in a line end gets one.

use crate::mail::{ReversePath, Timestamp};
use std::io::{self, Write};
use time::OffsetDateTime;

const FROM: &[u8] = b"From ";
/// Octets of `>` written at a time: a line may hold any number of them.
const MARKS: [u8; 1024] = [b'>'; 1024];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Who sends what has no sender.
const NOBODY: &str = "MAILER-DAEMON";

/// The line before a message.
pub(super) fn from_line(sender: Option<&ReversePath>, received_at: Timestamp) -> String {
    let sender = match sender {
        Some(ReversePath::Address(address)) => address.as_str(),
        Some(ReversePath::Null) | None => NOBODY,
    };
    let is_word = !sender.is_empty() && sender.bytes().all(|octet| octet > b' ' && octet != 0x7f);
    let sender = if is_word { sender } else { NOBODY };
    format!("From {sender} {}\n", asctime(received_at))
}

/// `Sat Jan  3 01:05:34 1996`
fn asctime(at: Timestamp) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let day = DAYS.get(usize::from(time.weekday().number_days_from_monday())).unwrap_or(&"Mon");
    let month = MONTHS.get(usize::from(u8::from(time.month())).saturating_sub(1)).unwrap_or(&"Jan");
    let (hour, minute, second) = time.to_hms();
    format!("{day} {month} {:2} {hour:02}:{minute:02}:{second:02} {}", time.day(), time.year())
}

/// What is done to lines that begin like one before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    /// They get one more `>`.
    Added,
    /// They lose one.
    Removed,
}

/// Where in a line a writer is.
#[derive(Debug)]
enum At {
    /// So many `>` and so much of `From ` stand at its beginning, and were not written yet.
    Beginning {
        marks: u64,
        matched: usize,
    },
    Behind,
}

const BEGINNING: At = At::Beginning { marks: 0, matched: 0 };

/// Hands on what is written to it, in lines as an mbox has them or back.
#[derive(Debug)]
pub(super) struct Lines<W> {
    output: W,
    change: Marks,
    at: At,
    /// The last octet that was written to it.
    last: Option<u8>,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(output: W, change: Marks) -> Lines<W> {
        Lines { output, change, at: BEGINNING, last: None }
    }

    /// Hands on what is left. Tells whether the last line had an end.
    pub(super) fn finish(mut self) -> io::Result<(W, bool)> {
        self.settle()?;
        Ok((self.output, self.last == Some(b'\n')))
    }

    /// The line is another than looked for: what was held back goes on as it is.
    fn settle(&mut self) -> io::Result<()> {
        if let At::Beginning { marks, matched } = std::mem::replace(&mut self.at, At::Behind) {
            self.write_marks(marks)?;
            self.output.write_all(FROM.get(..matched).unwrap_or_default())?;
        }
        Ok(())
    }

    fn write_marks(&mut self, mut marks: u64) -> io::Result<()> {
        while marks > 0 {
            let count = usize::try_from(marks).unwrap_or(usize::MAX).min(MARKS.len());
            self.output.write_all(MARKS.get(..count).unwrap_or(&MARKS))?;
            marks -= count as u64;
        }
        Ok(())
    }

    /// Takes one octet of the beginning of a line. False when it belongs to the rest.
    fn begin(&mut self, octet: u8) -> io::Result<bool> {
        let At::Beginning { marks, matched } = &mut self.at else { return Ok(false) };
        if *matched == 0 && octet == b'>' {
            *marks += 1;
            return Ok(true);
        }
        if FROM.get(*matched) != Some(&octet) {
            self.settle()?;
            return Ok(false);
        }
        *matched += 1;
        if *matched == FROM.len() {
            let marks = match self.change {
                Marks::Added => *marks + 1,
                Marks::Removed => marks.saturating_sub(1),
            };
            self.at = At::Behind;
            self.write_marks(marks)?;
            self.output.write_all(FROM)?;
        }
        Ok(true)
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut rest = octets;
        while let Some(first) = rest.first() {
            if self.begin(*first)? {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let (line, behind) = rest.split_at_checked(line).unwrap_or((rest, &[]));
            self.output.write_all(line)?;
            if line.ends_with(b"\n") {
                self.at = BEGINNING;
            }
            rest = behind;
        }
        self.last = octets.last().copied().or(self.last);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through(text: &[u8], change: Marks, step: usize) -> Vec<u8> {
        let mut lines = Lines::new(Vec::new(), change);
        text.chunks(step).for_each(|chunk| lines.write_all(chunk).unwrap());
        lines.finish().unwrap().0
    }

    #[test]
    fn marks_what_begins_like_the_line_before_a_message() {
        for (text, expect) in [
            ("From a\n", ">From a\n"),
            (">From a\n>>From b\r\n", ">>From a\n>>>From b\r\n"),
            ("a\nFrom\nFrom:\n From x\n", "a\nFrom\nFrom:\n From x\n"),
            ("a\rFrom b\n>Fro", "a\rFrom b\n>Fro"),
            ("a\n>>>", "a\n>>>"),
            ("", ""),
        ] {
            for step in [1, 2, 100] {
                assert_eq!(through(text.as_bytes(), Marks::Added, step), expect.as_bytes(), "{text:?}");
            }
        }
        let many = [vec![b'>'; 5_000], b"From x".to_vec()].concat();
        assert_eq!(through(&many, Marks::Added, 4_096).len(), many.len() + 1);
    }

    #[test]
    fn the_line_before_a_message_names_sender_and_time() {
        let at = Timestamp::parse("1996-01-03T01:05:34.999Z").unwrap();
        assert_eq!(from_line(None, at), "From MAILER-DAEMON Wed Jan  3 01:05:34 1996\n");
        let sender = ReversePath::Address("a@x.example".parse().unwrap());
        assert!(from_line(Some(&sender), at).starts_with("From a@x.example Wed "));
    }

    proptest! {
        #[test]
        fn what_was_marked_comes_back(
            parts in proptest::collection::vec("(>{0,3}From |>|F|ro|\n|\r\n|x){0,9}", 0..9),
            step in 1usize..9,
        ) {
            let text = parts.concat().into_bytes();
            let marked = through(&text, Marks::Added, step);
            prop_assert!(!marked.split(|octet| *octet == b'\n').any(|line| line.starts_with(FROM)));
            prop_assert_eq!(through(&marked, Marks::Removed, step), text);
        }
    }
}
