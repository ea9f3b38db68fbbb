//! Header blocks in canonical form: their fields, as they are written and unfolded.
//!
//! A line that is no field belongs to none and hides none. The first empty line ends them, as it does for whoever reads what was
//! sent: in canonical form that may be earlier than where the body begins, when lone line ends stand in the block.

use super::strings::is_blank;
use memchr::{memchr, memchr_iter};

/// One field of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its name, without what stands around it; empty for lines that are no field.
    pub(super) name: &'a [u8],
    /// All of it, with its line ends.
    pub(super) whole: &'a [u8],
    /// What follows the colon, with its line ends.
    pub(super) value: &'a [u8],
}

impl Field<'_> {
    /// The value without line ends (RFC 5322 §2.2.3) and without blanks before it.
    pub(super) fn unfolded(&self) -> Vec<u8> {
        let value: Vec<u8> = self.value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        let start = value.iter().position(|b| !is_blank(*b)).unwrap_or(value.len());
        value.get(start..).unwrap_or_default().to_vec()
    }
}

/// The fields of a header block, in order, with the lines between them that are no fields.
pub(super) fn fields(block: &[u8]) -> impl Iterator<Item = Field<'_>> {
    all_fields(block).take_while(|field| field.whole != b"\r\n")
}

/// The same, and those behind an empty line as well: where lone line ends make one, a part was read by what stands behind it too.
pub(super) fn all_fields(block: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let (line, later) = rest.split_at(logical_line(rest));
        rest = later;
        (!line.is_empty()).then(|| field(line))
    })
}

/// How long the first line is with those that continue it.
fn logical_line(block: &[u8]) -> usize {
    let ends_here = |end: &usize| !matches!(block.get(end + 1), Some(b' ' | b'\t'));
    // An empty line is continued by nothing.
    if block.starts_with(b"\r\n") {
        return 2;
    }
    memchr_iter(b'\n', block).find(ends_here).map_or(block.len(), |end| end + 1)
}

fn field(whole: &[u8]) -> Field<'_> {
    let none = Field { name: b"", whole, value: b"" };
    let Some((name, value)) = memchr(b':', whole).and_then(|at| whole.split_at_checked(at)) else {
        return none;
    };
    let end = name.iter().rposition(|b| !is_blank(*b)).map_or(0, |last| last + 1);
    let name = name.get(..end).unwrap_or_default();
    if name.is_empty() || name.iter().any(|b| is_blank(*b)) {
        return none;
    }
    Field { name, whole, value: value.get(1..).unwrap_or_default() }
}

/// True when an empty line ends the fields.
pub(super) fn has_empty_line(block: &[u8]) -> bool {
    block.starts_with(b"\r\n") || memchr::memmem::find(block, b"\r\n\r\n").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_folded_and_between_rubbish() {
        let block = b"A: 1\r\n 2\r\nno field\r\nB :\r\n\tx \r\nC:3\r\n d:e\r\n\r\nD: 4\r\n\r\n";
        let found: Vec<_> = fields(block).map(|f| (f.name, f.unfolded())).collect();
        let expect: [(&[u8], &[u8]); 4] = [(b"A", b"1 2"), (b"", b""), (b"B", b"x "), (b"C", b"3 d:e")];
        assert_eq!(found, expect.map(|(name, value)| (name, value.to_vec())));
        let whole: Vec<u8> = fields(block).flat_map(|f| f.whole.to_vec()).collect();
        assert_eq!(whole.len(), block.len() - 10);
    }

    #[test]
    fn a_block_without_line_ends_is_one_field() {
        assert_eq!(fields(b"A: b").map(|f| f.unfolded()).collect::<Vec<_>>(), [b"b"]);
        assert_eq!(fields(b"").count(), 0);
        assert!(has_empty_line(b"\r\n") && !has_empty_line(b"A: b\r\n"));
    }
}
