//! Where a message ends: the end-of-data scanner of DATA and the octet counter of BDAT.
//!
//! Both are pushed octets as they arrive, in pieces of any size, and hand the body back as slices of what
//! was pushed: nothing is copied and nothing is held back, so memory does not depend on the message.
//!
//! DATA (RFC 5321 §4.5.2): a line is what ends in CRLF and nothing else. A line that is a single `.` ends
//! the message, a `.` before anything else is removed. Servers that also took `LF . LF` or `CR . CR` for an
//! end let an attacker put a second message inside the first (SMTP smuggling, CVE-2023-51764 and kin), so a
//! bare CR, a bare LF or a NUL is a [`Defect`]: the scanner goes on to the true end, so that the peer hears
//! the answer, and the session refuses the message there and closes.
//!
//! Invariant: however the input is cut into pieces, the slices joined together, the defect and the place of
//! the end are the same. Behind a defect the slices are not to be used.
//!
//! BDAT (RFC 3030): opaque octets, counted.

use memchr::memchr3;

/// What is wrong with a message sent by DATA. The peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// CR without LF behind it.
    BareCr,
    /// LF without CR before it.
    BareLf,
    /// A NUL octet.
    Nul,
}

/// What the scanner made of the octets it consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned<'i> {
    /// These are octets of the body. May be empty.
    Body(&'i [u8]),
    /// The message has ended; what follows is not part of it.
    End,
}

/// Where in a line the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// First of a line.
    LineStart,
    /// Behind a `.` that was first of its line and has not been given out.
    Dot,
    /// Behind `.` and CR, neither given out: LF would end the message.
    DotCr,
    /// Anywhere else.
    Middle,
    /// Behind a CR that was given out: LF would end the line.
    Cr,
}

/// Finds the end of a message sent by DATA.
#[derive(Clone, Debug)]
pub struct DataScanner {
    place: Place,
    defect: Option<Defect>,
}

impl Default for DataScanner {
    fn default() -> DataScanner {
        DataScanner::new()
    }
}

impl DataScanner {
    /// A scanner before the first octet of a message.
    pub fn new() -> DataScanner {
        DataScanner { place: Place::LineStart, defect: None }
    }

    /// The first thing found wrong so far.
    pub fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// Looks at `input` and returns how many octets of it are done with and what they were. Octets beyond
    /// that count have to be shown again, together with or without more.
    pub fn scan<'i>(&mut self, input: &'i [u8]) -> (usize, Scanned<'i>) {
        // Octets `start..at` are body seen and not yet given out.
        let mut start = 0;
        let mut at = 0;
        while let Some(&octet) = input.get(at) {
            match (self.place, octet) {
                (Place::LineStart, b'.') if at > start => break,
                (Place::LineStart, b'.') => {
                    self.place = Place::Dot;
                    at += 1;
                    start = at;
                }
                (Place::LineStart, _) => self.place = Place::Middle,
                (Place::Dot, b'\r') => {
                    self.place = Place::DotCr;
                    at += 1;
                    start = at;
                }
                // The dot was stuffing and is gone; the octet behind it is like any other.
                (Place::Dot, _) => self.place = Place::Middle,
                (Place::DotCr, b'\n') => {
                    self.place = Place::LineStart;
                    return (at + 1, Scanned::End);
                }
                (Place::DotCr | Place::Cr, b'\r') => {
                    self.found(Defect::BareCr);
                    self.place = Place::Cr;
                    at += 1;
                }
                (Place::Cr, b'\n') => {
                    self.place = Place::LineStart;
                    at += 1;
                }
                (Place::DotCr | Place::Cr, _) => {
                    self.found(Defect::BareCr);
                    self.place = Place::Middle;
                }
                (Place::Middle, _) => at = self.middle(input, at),
            }
        }
        (at, Scanned::Body(input.get(start..at).unwrap_or_default()))
    }

    /// Runs through the line `at` stands in to its end, or to the end of the input, and returns the place
    /// behind.
    fn middle(&mut self, input: &[u8], at: usize) -> usize {
        let rest = input.get(at..).unwrap_or_default();
        let Some(found) = memchr3(b'\r', b'\n', 0, rest) else {
            return input.len();
        };
        match (rest.get(found), rest.get(found + 1)) {
            (Some(b'\r'), Some(b'\n')) => {
                self.place = Place::LineStart;
                return at + found + 2;
            }
            (Some(b'\r'), _) => self.place = Place::Cr,
            (Some(b'\n'), _) => self.found(Defect::BareLf),
            _ => self.found(Defect::Nul),
        }
        at + found + 1
    }

    fn found(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }
}

/// Counts the octets of one BDAT chunk.
#[derive(Clone, Copy, Debug)]
pub struct ChunkCounter {
    remaining: u64,
}

impl ChunkCounter {
    /// A chunk of this many octets.
    pub fn new(octets: u64) -> ChunkCounter {
        ChunkCounter { remaining: octets }
    }

    /// True once all octets were taken.
    pub fn is_complete(&self) -> bool {
        self.remaining == 0
    }

    /// Takes from the front of `input` what belongs to the chunk.
    pub fn take<'i>(&mut self, input: &'i [u8]) -> &'i [u8] {
        let octets = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
        let taken = input.get(..octets).unwrap_or_default();
        self.remaining -= taken.len() as u64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of a stream of octets: the body, the defect, and what was left behind the end.
    #[derive(Debug, PartialEq, Eq)]
    struct Result {
        body: Vec<u8>,
        defect: Option<Defect>,
        behind: Option<Vec<u8>>,
    }

    fn run(pieces: &[&[u8]]) -> Result {
        let mut scanner = DataScanner::new();
        let mut body = Vec::new();
        let mut behind: Option<Vec<u8>> = None;
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                if let Some(behind) = &mut behind {
                    behind.extend_from_slice(rest);
                    break;
                }
                let (consumed, scanned) = scanner.scan(rest);
                assert!(consumed > 0);
                rest = &rest[consumed..];
                match scanned {
                    Scanned::Body(octets) => body.extend_from_slice(octets),
                    Scanned::End => behind = Some(Vec::new()),
                }
            }
        }
        Result { body, defect: scanner.defect(), behind }
    }

    /// Runs `input` whole, cut in two at every place, and octet by octet.
    fn check(input: &str, body: &str, behind: Option<&str>) {
        let whole = run(&[input.as_bytes()]);
        assert_eq!(whole.defect, None, "{input:?}");
        assert_eq!(String::from_utf8_lossy(&whole.body), body, "{input:?}");
        assert_eq!(whole.behind.as_deref(), behind.map(str::as_bytes), "{input:?}");
        check_splits(input.as_bytes(), &whole);
    }

    fn check_defect(input: &str, defect: Defect, behind: Option<&str>) {
        let whole = run(&[input.as_bytes()]);
        assert_eq!(whole.defect, Some(defect), "{input:?}");
        assert_eq!(whole.behind.as_deref(), behind.map(str::as_bytes), "{input:?}");
        for at in 0..=input.len() {
            let (left, right) = input.as_bytes().split_at(at);
            let split = run(&[left, right]);
            assert_eq!(
                (split.defect, split.behind),
                (whole.defect, whole.behind.clone()),
                "{input:?} at {at}"
            );
        }
    }

    fn check_splits(input: &[u8], whole: &Result) {
        for at in 0..=input.len() {
            let (left, right) = input.split_at(at);
            assert_eq!(&run(&[left, right]), whole, "{input:?} at {at}");
        }
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(&run(&octets), whole, "{input:?} octet by octet");
    }

    #[test]
    fn ends_at_a_lone_dot_and_leaves_what_follows() {
        check("a\r\nb\r\n.\r\nQUIT\r\n", "a\r\nb\r\n", Some("QUIT\r\n"));
        check("a\r\n.\r\n", "a\r\n", Some(""));
        check(".\r\nQUIT\r\n", "", Some("QUIT\r\n"));
        check("\r\n.\r\n", "\r\n", Some(""));
    }

    #[test]
    fn does_not_end_before_the_last_octet() {
        check("a\r\n.\r", "a\r\n", None);
        check("a\r\n.", "a\r\n", None);
        check("a.\r\n", "a.\r\n", None);
        check("", "", None);
    }

    #[test]
    fn undoes_dot_stuffing_and_nothing_else() {
        check("..a\r\n...\r\n.b\r\n .\r\n.\r\n", ".a\r\n..\r\nb\r\n .\r\n", Some(""));
        check("..\r\n.\r\n", ".\r\n", Some(""));
        check("a..b\r\n.\r\n", "a..b\r\n", Some(""));
    }

    #[test]
    fn finds_bare_line_ends_and_nul_and_goes_on_to_the_true_end() {
        check_defect("a\nb\r\n.\r\nQ", Defect::BareLf, Some("Q"));
        check_defect("a\rb\r\n.\r\nQ", Defect::BareCr, Some("Q"));
        check_defect("a\0b\r\n.\r\nQ", Defect::Nul, Some("Q"));
        check_defect("\n.\r\n", Defect::BareLf, None);
        check_defect(".\n", Defect::BareLf, None);
        check_defect(".\r.\r\n", Defect::BareCr, None);
        check_defect(".\0\r\n.\r\n", Defect::Nul, Some(""));
    }

    #[test]
    fn none_of_the_known_smuggling_sequences_ends_a_message_unseen() {
        // (sequence, holds a true end)
        let sequences: [(&str, bool); 17] = [
            ("\n.\n", false),
            ("\n.\r\n", false),
            ("\r.\r", false),
            ("\r.\r\n", false),
            ("\r\n.\n", false),
            ("\r\n.\r", false),
            ("\r.\n", false),
            ("\n.\r", false),
            ("\0\r\n.\r\n", true),
            ("\r\n\0.\r\n", false),
            ("\r\0\n.\r\n", false),
            ("\r\n.\0\r\n", false),
            ("\r\n.\r\0\n", false),
            ("\r\n.\r\n\0", true),
            ("\r\n.\r\r\n", false),
            ("\r\r\n.\r\n", true),
            ("\r\r\n.\r\r\n", false),
        ];
        for (sequence, ends) in sequences {
            let input = format!("x{sequence}MAIL FROM:<evil@x.example>\r\n.\r\n");
            for at in 0..=input.len() {
                let (left, right) = input.as_bytes().split_at(at);
                let result = run(&[left, right]);
                let behind = result.behind.unwrap();
                assert_eq!(!behind.is_empty(), ends, "{sequence:?} at {at}");
                // The one that ends cleanly leaves its NUL as the first octet of the next command.
                assert!(result.defect.is_some() || behind.first() == Some(&0), "{sequence:?} at {at}");
            }
        }
    }

    #[test]
    fn counts_chunks_to_their_last_octet() {
        let mut counter = ChunkCounter::new(5);
        assert_eq!(counter.take(b"ab"), b"ab");
        assert!(!counter.is_complete());
        assert_eq!(counter.take(b"cdeQUIT"), b"cde");
        assert!(counter.is_complete());
        assert_eq!(counter.take(b"QUIT"), b"");
        assert!(ChunkCounter::new(0).is_complete());
        assert_eq!(ChunkCounter::new(u64::MAX).take(b"abc"), b"abc");
    }
}
