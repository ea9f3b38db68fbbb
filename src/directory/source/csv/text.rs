//! The octets of a list as UTF-8, and whether they are a whole table as RFC 4180 has it. Pure but for the reader it is given.
//!
//! The crate that takes rows apart takes anything for a row: what a cut list leaves open is closed, and text behind a quote
//! belongs to it. Here it would be a list that is shorter than it was, so [`Strict`] looks at every octet before it.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io::{self, Read};

/// Largest row, in octets: some thousand addresses. A quote that is never closed would have everything behind it in one.
const ROW_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Octets decoded at once.
const CHUNK_OCTETS: usize = 16 * 1024;

/// Why octets are no whole table. The fault of whoever wrote them.
#[derive(Debug)]
pub(super) struct Malformed {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) why: &'static str,
}

impl Malformed {
    pub(super) fn at(line: usize, why: &'static str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, Malformed { line, why })
    }

    /// What an error of reading was, if it was this.
    pub(super) fn of(error: &io::Error) -> Option<&Malformed> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl Error for Malformed {}

/// How a text is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Utf8,
    Utf16Le,
    Utf16Be,
}

/// Gives UTF-16 with a byte order mark as UTF-8, and everything else as it is, without its mark.
pub(super) struct Decoded<R> {
    inner: R,
    /// `None` until the first octets have been seen.
    form: Option<Form>,
    /// What has been decoded and not been taken, from `taken` on.
    ready: Vec<u8>,
    taken: usize,
    /// The first octet of a unit, and the first unit of a pair.
    half_unit: Option<u8>,
    half_pair: Option<u16>,
}

impl<R: Read> Decoded<R> {
    pub(super) fn new(inner: R) -> Decoded<R> {
        Decoded { inner, form: None, ready: Vec::new(), taken: 0, half_unit: None, half_pair: None }
    }

    /// Looks for a mark; what is none is text.
    fn begin(&mut self) -> io::Result<Form> {
        let mut start = Vec::with_capacity(3);
        self.inner.by_ref().take(3).read_to_end(&mut start)?;
        let (form, text) = match start.as_slice() {
            [0xEF, 0xBB, 0xBF] => (Form::Utf8, &[][..]),
            [0xFF, 0xFE, rest @ ..] => (Form::Utf16Le, rest),
            [0xFE, 0xFF, rest @ ..] => (Form::Utf16Be, rest),
            text => (Form::Utf8, text),
        };
        match form {
            Form::Utf8 => self.ready.extend_from_slice(text),
            // At most one octet: half a unit.
            Form::Utf16Le | Form::Utf16Be => self.half_unit = text.first().copied(),
        }
        self.form = Some(form);
        Ok(form)
    }

    /// Decodes some more into `ready`; nothing at the end.
    fn decode(&mut self, form: Form) -> io::Result<()> {
        let mut chunk = [0; CHUNK_OCTETS];
        // A read may bring no whole character.
        while self.ready.is_empty() {
            let octets = self.inner.read(&mut chunk)?;
            let Some(read) = chunk.get(..octets).filter(|read| !read.is_empty()) else {
                return match (self.half_unit, self.half_pair) {
                    (None, None) => Ok(()),
                    _ => Err(Malformed::at(0, "ends in the middle of a character: the list is cut")),
                };
            };
            for octet in read {
                let Some(first) = self.half_unit.take() else {
                    self.half_unit = Some(*octet);
                    continue;
                };
                let pair = [first, *octet];
                let unit =
                    if form == Form::Utf16Le { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
                self.unit(unit)?;
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: u16) -> io::Result<()> {
        let units = match self.half_pair.take() {
            None if (0xD800..0xDC00).contains(&unit) => {
                self.half_pair = Some(unit);
                return Ok(());
            }
            None => vec![unit],
            Some(high) => vec![high, unit],
        };
        for character in char::decode_utf16(units) {
            let character =
                character.map_err(|_| Malformed::at(0, "is not UTF-16 text, although it says so"))?;
            self.ready.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let form = match self.form {
            Some(form) => form,
            None => self.begin()?,
        };
        if self.taken >= self.ready.len() {
            self.ready.clear();
            self.taken = 0;
            if form == Form::Utf8 {
                return self.inner.read(buffer);
            }
            self.decode(form)?;
        }
        let mut left = self.ready.get(self.taken..).unwrap_or_default();
        let octets = left.read(buffer)?;
        self.taken += octets;
        Ok(octets)
    }
}

/// Where in a table an octet stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    RowStart,
    FieldStart,
    Bare,
    Quoted,
    /// Behind a quote in a quoted field: it closes it, or is the first of two.
    Quote,
}

/// Gives on what it is given, as long as it is a whole table.
pub(super) struct Strict<R> {
    inner: R,
    separator: u8,
    state: State,
    line: usize,
    /// Where the quote was opened that is not closed yet.
    opened: usize,
    row_octets: usize,
    /// Where the rows begin that were given on and not asked for: no more than fit into the buffer of who reads.
    rows: VecDeque<usize>,
}

impl<R: Read> Strict<R> {
    /// `line` is that of its first octet.
    pub(super) fn new(inner: R, separator: u8, line: usize) -> Strict<R> {
        Strict {
            inner,
            separator,
            state: State::RowStart,
            line,
            opened: line,
            row_octets: 0,
            rows: VecDeque::new(),
        }
    }

    /// Where the next row begins, of those that were read.
    pub(super) fn next_row(&mut self) -> Option<usize> {
        self.rows.pop_front()
    }

    fn octet(&mut self, octet: u8) -> io::Result<()> {
        let bad = |why| Err(Malformed::at(self.line, why));
        let before = self.state;
        self.state = match (self.state, octet) {
            (_, 0) => {
                return bad("holds an octet 0: it is no text, or UTF-16 without its byte order mark");
            }
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, _) | (State::Quote, b'"') => State::Quoted,
            (_, b'\n' | b'\r') => State::RowStart,
            (_, octet) if octet == self.separator => State::FieldStart,
            (State::RowStart | State::FieldStart, b'"') => {
                self.opened = self.line;
                State::Quoted
            }
            (State::Quote, _) => return bad("holds text behind the quote that closes a field"),
            (_, b'"') => return bad("holds a quote in a field that does not begin with one"),
            (State::RowStart | State::FieldStart | State::Bare, _) => State::Bare,
        };
        if before == State::RowStart && self.state != State::RowStart {
            self.rows.push_back(self.line);
        }
        self.line += usize::from(octet == b'\n');
        self.grown(if self.state == State::RowStart { None } else { Some(1) })
    }

    /// What is inside quotes means nothing, and is most of a list.
    fn quoted<'b>(&mut self, octets: &'b [u8]) -> io::Result<&'b [u8]> {
        let end = memchr::memchr2(b'"', 0, octets).unwrap_or(octets.len());
        let (inside, rest) = octets.split_at(end);
        self.line += memchr::memchr_iter(b'\n', inside).count();
        self.grown(Some(inside.len()))?;
        Ok(rest)
    }

    /// Counts what belongs to the row; `None` begins another.
    fn grown(&mut self, octets: Option<usize>) -> io::Result<()> {
        self.row_octets = octets.map_or(0, |octets| self.row_octets + octets);
        if self.row_octets <= ROW_OCTETS_MAX {
            return Ok(());
        }
        let (line, why) = match self.state {
            State::Quoted => (self.opened, "opens a quote that is not closed for millions of octets"),
            _ => (self.line, "is a row of millions of octets"),
        };
        Err(Malformed::at(line, why))
    }

    fn end(&self) -> io::Result<()> {
        match self.state {
            // A quote at the end of everything closes its field: nothing of it is missing.
            State::RowStart | State::Quote => Ok(()),
            State::Quoted => {
                Err(Malformed::at(self.opened, "opens a quote that is never closed: the list is cut"))
            }
            State::FieldStart | State::Bare => {
                let why = "is the last line and has no line end: the list is cut, or who writes it must end its last line";
                Err(Malformed::at(self.line, why))
            }
        }
    }
}

impl<R: Read> Read for Strict<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = self.inner.read(buffer)?;
        let read = buffer.get(..octets).unwrap_or_default();
        if read.is_empty() && !buffer.is_empty() {
            self.end()?;
        }
        let mut left = read;
        while let Some((octet, rest)) = left.split_first() {
            if self.state == State::Quoted && !matches!(octet, b'"' | 0) {
                left = self.quoted(left)?;
            } else {
                self.octet(*octet)?;
                left = rest;
            }
        }
        Ok(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(octets: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        Decoded::new(OneByOne(octets))
            .read_to_string(&mut text)
            .map(|_| text)
            .map_err(|error| error.to_string())
    }

    /// Brings one octet at a time.
    struct OneByOne<'a>(&'a [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = buffer.len().min(1);
            self.0.read(&mut buffer[..some])
        }
    }

    #[test]
    fn text_is_the_same_however_it_is_written() {
        let text = "näme;😀\r\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for octets in [
            text.as_bytes().to_vec(),
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            [b"\xFF\xFE", little.as_slice()].concat(),
            [b"\xFE\xFF", big.as_slice()].concat(),
        ] {
            assert_eq!(decoded(&octets).as_deref(), Ok(text));
        }
        assert_eq!(decoded(b"").as_deref(), Ok(""));
        assert_eq!(decoded(b"\xFF\xFE").as_deref(), Ok(""));
        assert_eq!(decoded(b"ab").as_deref(), Ok("ab"));
    }

    #[test]
    fn half_a_character_is_told() {
        for cut in [&b"\xFF\xFEa"[..], b"\xFF\xFE\x3D\xD8", b"\xFE\xFF\x00a\x00"] {
            assert!(decoded(cut).unwrap_err().contains("middle of a character"), "{cut:?}");
        }
        assert!(decoded(b"\xFF\xFE\x00\xDCa\x00").unwrap_err().contains("not UTF-16"));
    }

    fn strict(text: &str) -> Result<String, (usize, &'static str)> {
        let mut read = String::new();
        let mut strict = Strict::new(OneByOne(text.as_bytes()), b',', 1);
        match strict.read_to_string(&mut read) {
            Ok(_) => Ok(read),
            Err(error) => {
                let malformed = Malformed::of(&error).unwrap();
                Err((malformed.line, malformed.why))
            }
        }
    }

    #[test]
    fn a_whole_table_comes_through_as_it_is() {
        for whole in ["", "\r\n", "a,b\n", "\"a\r\nb\",\"\"\"x\"\"\"\r\n", "a,\n,\n", "a,\"b\"", "a\rb\r"] {
            assert_eq!(strict(whole).as_deref(), Ok(whole), "{whole:?}");
        }
    }

    #[test]
    fn what_is_cut_or_was_not_written_by_the_rules_is_told_with_its_line() {
        for (text, line, why) in [
            ("a,b\nc,d", 2, "no line end"),
            ("a,b\nc,", 2, "no line end"),
            ("a,b\n\"c\nd", 2, "never closed"),
            ("a,b\n\"c\"\"", 2, "never closed"),
            ("a\n\"b\" ,c\n", 2, "behind the quote"),
            ("a\nb \"c\"\n", 2, "does not begin with one"),
            ("a\nb\0\n", 2, "octet 0"),
        ] {
            let (found, told) = strict(text).unwrap_err();
            assert_eq!(found, line, "{text:?}");
            assert!(told.contains(why), "{text:?}: {told}");
        }
        let open = format!("a\n\"{}", "b\n".repeat(ROW_OCTETS_MAX / 2 + 1));
        assert_eq!(strict(&open).unwrap_err().0, 2);
    }
}
