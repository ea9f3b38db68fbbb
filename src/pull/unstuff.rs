//! The end of a message in POP3, and the dots before it (RFC 1939 §3): sans I/O.
//!
//! Only CR LF ends a line here: what else looks like one is content, and stays as it is.

/// Where in a multi-line answer we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// At the beginning of a line.
    #[default]
    Start,
    /// In a line.
    Line,
    /// Behind a CR.
    Cr,
    /// Behind the dot at the beginning of a line, which is not content.
    Dot,
    /// Behind that and a CR.
    DotCr,
    /// Behind the last octet.
    End,
}

/// Takes the octets of a multi-line answer as they come, and gives its content.
#[derive(Debug, Default)]
pub(super) struct Unstuff {
    at: At,
}

impl Unstuff {
    /// Adds the content of these octets to `content`; gives how many of them belonged to the answer.
    pub(super) fn push(&mut self, octets: &[u8], content: &mut Vec<u8>) -> usize {
        for (index, octet) in octets.iter().copied().enumerate() {
            self.at = match (self.at, octet) {
                (At::End, _) => return index,
                (At::Start, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (At::DotCr, b'\n') => At::End,
                (at, octet) => {
                    if at == At::DotCr {
                        content.push(b'\r');
                    }
                    content.push(octet);
                    match (at, octet) {
                        (At::Cr, b'\n') => At::Start,
                        (_, b'\r') => At::Cr,
                        _ => At::Line,
                    }
                }
            };
        }
        octets.len()
    }

    /// The whole answer has come.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == At::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut at every octet, an answer gives the same content and ends at the same place.
    #[track_caller]
    fn check(answer: &[u8], content: &[u8], behind: usize) {
        for cut in 0..=answer.len() {
            let (mut unstuff, mut got) = (Unstuff::default(), Vec::new());
            let mut taken = unstuff.push(&answer[..cut], &mut got);
            taken += unstuff.push(&answer[cut..], &mut got);
            assert_eq!(got, content, "cut at {cut}");
            assert!(unstuff.is_at_end());
            assert_eq!(answer.len() - taken, behind, "cut at {cut}");
        }
    }

    #[test]
    fn dots_are_undone_and_only_a_dot_alone_in_its_line_ends_a_message() {
        check(b".\r\n", b"", 0);
        check(b"a\r\n.\r\n+OK", b"a\r\n", 3);
        check(b"..\r\n...a\r\n.\r\n", b".\r\n..a\r\n", 0);
        check(b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n", 0);
        check(b"a\r.\r\n\r\n.\r\n", b"a\r.\r\n\r\n", 0);
        check(b"\r\n.\r\r\n.\r\n", b"\r\n\r\r\n", 0);
        check(b"\r\n.\rx\r\n.\r\n", b"\r\n\rx\r\n", 0);
        let mut unstuff = Unstuff::default();
        unstuff.push(b"a\r\n.\r", &mut Vec::new());
        assert!(!unstuff.is_at_end());
    }
}
