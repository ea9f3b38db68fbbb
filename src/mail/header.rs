//! Header blocks: their fields, and what the fields say about how a part must be read.
//!
//! Works on the kept, bounded octets of one header block. Reads RFC 2045 fields tolerantly: comments, RFC 2231
//! continuations, missing quotes. The first of a repeated field is used, as mail readers do; the repetition is
//! reported so that a part that two programs would read differently does not pass unseen.

use super::transfer::{Encoding, hex};

/// Most parameters read of one field.
const PARAMETERS_MAX: usize = 64;
/// Longest `type/subtype` that is not nonsense.
const MEDIA_TYPE_OCTETS_MAX: usize = 128;

/// One field of a header block.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// What stands before the colon.
    pub name: &'a [u8],
    /// Everything behind the colon, line folds included.
    pub raw: &'a [u8],
}

impl Field<'_> {
    /// True when it has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value with folds removed (RFC 5322 §2.2.3) and surrounding blanks trimmed.
    pub fn unfolded(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.raw.len());
        for line in self.raw.split(|&b| b == b'\n') {
            value.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        }
        let start = value.iter().position(|b| !is_blank(*b)).unwrap_or(value.len());
        let end = value.iter().rposition(|b| !is_blank(*b)).map_or(start, |last| last + 1);
        value.truncate(end);
        value.drain(..start);
        value
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// The fields of a header block, up to its empty line. Lines that are no field are skipped.
pub fn fields(block: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = block;
    std::iter::from_fn(move || {
        loop {
            let logical = logical_line(rest);
            if matches!(logical, b"" | b"\n" | b"\r\n") {
                return None;
            }
            rest = rest.get(logical.len()..).unwrap_or_default();
            if let Some(field) = split_field(logical) {
                return Some(field);
            }
        }
    })
}

/// The first line and those that continue it.
fn logical_line(rest: &[u8]) -> &[u8] {
    let mut end = 0;
    loop {
        let tail = rest.get(end..).unwrap_or_default();
        end += memchr::memchr(b'\n', tail).map_or(tail.len(), |at| at + 1);
        match rest.get(end) {
            // An empty line ends the block even when a blank line follows it.
            Some(b' ' | b'\t') if !matches!(tail, [b'\n', ..] | [b'\r', b'\n', ..]) => {}
            _ => return rest.get(..end).unwrap_or_default(),
        }
    }
}

fn split_field(line: &[u8]) -> Option<Field<'_>> {
    let colon = memchr::memchr(b':', line)?;
    let name = line.get(..colon)?.trim_ascii_end();
    if name.is_empty() || !name.iter().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    Some(Field { name, raw: line.get(colon + 1..)? })
}

/// What a part's header says about its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `type/subtype`, lower case; empty when there is no Content-Type.
    pub media_type: String,
    /// What stands between the parts of a multipart.
    pub boundary: Option<Vec<u8>>,
    /// The boundary stood on a line of its own that had lost its leading blank.
    pub boundary_recovered: bool,
    /// Lower case.
    pub charset: Option<String>,
    /// What a `multipart/report` reports, lower case (RFC 3462).
    pub report_type: Option<String>,
    /// File name from Content-Disposition or Content-Type, lower case.
    pub file_name: Option<String>,
    /// How the body is encoded.
    pub transfer: Transfer,
    /// Content-Type or Content-Transfer-Encoding occurs twice.
    pub duplicate: bool,
}

/// Content-Transfer-Encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// 7bit, 8bit, binary or nothing.
    #[default]
    Identity,
    /// base64 or quoted-printable.
    Encoded(Encoding),
    /// Anything else.
    Unknown,
}

impl Head {
    /// Reads a header block.
    pub fn parse(block: &[u8]) -> Head {
        let mut head = Head::default();
        let (mut types, mut transfers) = (0, 0);
        let mut disposition_name = None;
        for field in fields(block) {
            if field.is("Content-Type") {
                types += 1;
                if types == 1 {
                    head.read_content_type(&field.unfolded());
                }
            } else if field.is("Content-Transfer-Encoding") {
                transfers += 1;
                if transfers == 1 {
                    head.transfer = transfer(&field.unfolded());
                }
            } else if field.is("Content-Disposition") && disposition_name.is_none() {
                disposition_name = parameter(&parameters(&field.unfolded()), b"filename");
            }
        }
        head.duplicate = types > 1 || transfers > 1;
        if let Some(name) = disposition_name {
            head.file_name = Some(String::from_utf8_lossy(&name).to_lowercase());
        }
        if head.media_type.starts_with("multipart/") && head.boundary.is_none() {
            head.boundary = lost_boundary(block);
            head.boundary_recovered = head.boundary.is_some();
        }
        head
    }

    /// A DSN's copy of the header of the message it does not return (RFC 3462, RFC 6533).
    pub fn is_returned_header(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "text/rfc822-headers"
                | "text/rfc822-header"
                | "message/rfc822-headers"
                | "message/global-headers"
        )
    }

    /// RFC 3464, RFC 6533
    pub fn is_delivery_status(&self) -> bool {
        matches!(self.media_type.as_str(), "message/delivery-status" | "message/global-delivery-status")
    }

    fn read_content_type(&mut self, value: &[u8]) {
        let essence = value.split(|&b| b == b';').next().unwrap_or_default();
        let essence = without_comments(essence);
        if essence.len() <= MEDIA_TYPE_OCTETS_MAX {
            self.media_type = String::from_utf8_lossy(&essence)
                .chars()
                .filter(|c| !c.is_whitespace())
                .collect::<String>()
                .to_ascii_lowercase();
        }
        let parameters = parameters(value);
        let text = |name: &[u8]| {
            parameter(&parameters, name).map(|v| String::from_utf8_lossy(&v).trim().to_lowercase())
        };
        // Trailing blanks are not part of a boundary (RFC 2046 §5.1.1): transports add and drop them.
        self.boundary = parameter(&parameters, b"boundary").map(|b| b.trim_ascii_end().to_vec());
        self.boundary = self.boundary.take().filter(|b| !b.is_empty());
        self.charset = text(b"charset");
        self.report_type = text(b"report-type");
        self.file_name = text(b"name");
    }
}

fn transfer(value: &[u8]) -> Transfer {
    let value = without_comments(value);
    let value = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match value.as_slice() {
        b"base64" => Transfer::Encoded(Encoding::Base64),
        b"quoted-printable" => Transfer::Encoded(Encoding::QuotedPrintable),
        b"" | b"7bit" | b"8bit" | b"binary" | b"7-bit" | b"8-bit" => Transfer::Identity,
        _ => Transfer::Unknown,
    }
}

/// Finds a boundary parameter at the start of a line: some relays drop the blank of a continuation line.
fn lost_boundary(block: &[u8]) -> Option<Vec<u8>> {
    block.split(|&b| b == b'\n').find_map(|line| {
        // `type=…; boundary=…` is a lost continuation too, but a field has its colon first.
        let equals = memchr::memchr(b'=', line)?;
        if memchr::memchr(b':', line.get(..equals)?).is_some()
            || line.starts_with(b" ")
            || line.starts_with(b"\t")
        {
            return None;
        }
        let line = [b";", line.trim_ascii_end()].concat();
        parameter(&parameters(&line), b"boundary").filter(|b| !b.is_empty())
    })
}

/// Drops RFC 5322 comments; an unclosed one runs to the end.
pub fn without_comments(value: &[u8]) -> Vec<u8> {
    let mut depth = 0_u32;
    value
        .iter()
        .copied()
        .filter(|b| match b {
            b'(' => {
                depth = depth.saturating_add(1);
                false
            }
            b')' if depth > 0 => {
                depth -= 1;
                false
            }
            _ => depth == 0,
        })
        .collect()
}

type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// The first parameter of that name, RFC 2231 pieces joined.
fn parameter(parameters: &Parameters, name: &[u8]) -> Option<Vec<u8>> {
    let mut joined: Option<Vec<u8>> = None;
    for (full, value) in parameters {
        let mut pieces = full.splitn(2, |&b| b == b'*');
        if !pieces.next().is_some_and(|base| base.eq_ignore_ascii_case(name)) {
            continue;
        }
        let Some(section) = pieces.next() else {
            if joined.is_none() {
                return Some(value.clone());
            }
            continue;
        };
        let plain = if section.is_empty() || section.ends_with(b"*") {
            let encoded =
                if joined.is_none() { value.splitn(3, |&b| b == b'\'').last() } else { Some(&**value) };
            percent_decoded(encoded.unwrap_or_default())
        } else {
            value.clone()
        };
        joined.get_or_insert_default().extend(plain);
    }
    joined
}

fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%'
            && let [high, low, tail @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            out.push(high << 4 | low);
            rest = tail;
        } else {
            out.push(*first);
        }
    }
    out
}

/// The `;name=value` pairs of an unfolded field value.
fn parameters(value: &[u8]) -> Parameters {
    let mut found = Vec::new();
    let mut at = skip_to_semicolon(value, 0);
    while at < value.len() && found.len() < PARAMETERS_MAX {
        at += 1;
        let start = at;
        while value.get(at).is_some_and(|b| !matches!(b, b'=' | b';')) {
            at += 1;
        }
        let name = without_comments(value.get(start..at).unwrap_or_default()).trim_ascii().to_vec();
        if value.get(at) == Some(&b'=') {
            let (text, next) = parameter_value(value, at + 1);
            found.push((name, text));
            at = next;
        }
        at = skip_to_semicolon(value, at);
    }
    found
}

fn skip_to_semicolon(value: &[u8], from: usize) -> usize {
    let tail = value.get(from..).unwrap_or_default();
    memchr::memchr(b';', tail).map_or(value.len(), |offset| from + offset)
}

/// Reads a token or quoted string; gives it and the index behind it.
fn parameter_value(value: &[u8], from: usize) -> (Vec<u8>, usize) {
    let mut at = from;
    while value.get(at).is_some_and(|b| is_blank(*b)) {
        at += 1;
    }
    let mut text = Vec::new();
    if value.get(at) != Some(&b'"') {
        while let Some(b) = value.get(at).filter(|b| !matches!(b, b';' | b' ' | b'\t' | b'(')) {
            text.push(*b);
            at += 1;
        }
        return (text, at);
    }
    at += 1;
    let mut escaped = false;
    while let Some(b) = value.get(at) {
        at += 1;
        match b {
            _ if escaped => {
                text.push(*b);
                escaped = false;
            }
            b'\\' => escaped = true,
            b'"' => break,
            _ => text.push(*b),
        }
    }
    (text, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_boundary(header: &str, expect: Option<&str>) {
        let head = Head::parse(header.as_bytes());
        assert_eq!(head.boundary.as_deref(), expect.map(str::as_bytes), "{header}");
    }

    #[test]
    fn reads_boundaries_however_they_are_written() {
        check_boundary("Content-Type: multipart/mixed; boundary=abc\r\n\r\n", Some("abc"));
        check_boundary("content-type : MULTIPART/Mixed;\r\n\tBOUNDARY = \"a b; c\"\r\n", Some("a b; c"));
        check_boundary("Content-Type: multipart/mixed (x); boundary=----=_P.1 (y)\n", Some("----=_P.1"));
        check_boundary("Content-Type: multipart/mixed; boundary=\"q\\\"r\"\r\n", Some("q\"r"));
        check_boundary("Content-Type: multipart/mixed; boundary=\"a \"\r\n", Some("a"));
        check_boundary("Content-Type: multipart/mixed; boundary*0=ab; boundary*1=\"cd\"\r\n", Some("abcd"));
        check_boundary("Content-Type: multipart/mixed; boundary=\"open\r\n", Some("open"));
        check_boundary("Content-Type: multipart/mixed; charset=x\r\n", None);
        check_boundary("Content-Type: multipart/mixed; boundary=\"\"\r\n", None);
        check_boundary("Content-Type: multipart/mixed;\r\nboundary=\"lost\"\r\n", Some("lost"));
        check_boundary(
            "Content-Type: multipart/a; boundary=1\r\nContent-Type: multipart/b; boundary=2\r\n",
            Some("1"),
        );
    }

    #[test]
    fn reads_file_names_charsets_and_encodings() {
        let head = Head::parse(
            b"Content-Type: application/octet-stream; name=a.bin\r\n\
              Content-Disposition: attachment; filename*=utf-8''M%2Eeml\r\n\
              Content-Transfer-Encoding: BASE64 (x)\r\n\r\n",
        );
        assert_eq!(head.file_name.as_deref(), Some("m.eml"));
        assert_eq!(head.transfer, Transfer::Encoded(Encoding::Base64));
        assert_eq!(Head::parse(b"Content-Transfer-Encoding: x-uuencode\n").transfer, Transfer::Unknown);
    }

    #[test]
    fn fields_end_at_the_empty_line_and_skip_what_is_none() {
        let block = b">From x\r\nA: 1\r\n 2\r\nno field\r\nB:\r\n\tx \r\n\r\n C: 3\r\n";
        let found: Vec<_> = fields(block).map(|f| (f.name.to_vec(), f.unfolded())).collect();
        assert_eq!(found, [(b"A".to_vec(), b"1 2".to_vec()), (b"B".to_vec(), b"x".to_vec())]);
    }
}
