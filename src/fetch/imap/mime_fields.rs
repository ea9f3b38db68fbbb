//! The MIME fields of a part's header block, taken apart for BODYSTRUCTURE: RFC 2045 §5, 2183, 3282, 2557, 1864.
//!
//! The first of a repeated field counts, as it does where messages are read. Parameters are given as written, in their order;
//! those that RFC 2231 cuts or encodes are left so.

use super::fields::all_fields;
use super::lexer::Lexer;
use super::strings::is_blank;

/// Most parameters given of one field.
const PARAMETERS_MAX: usize = 1_000;
/// Most languages given of one part.
const LANGUAGES_MAX: usize = 100;

/// The parameters of a field, without quotes.
pub(super) type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// Content-Type
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentType {
    /// `text` of `text/plain`, as written.
    pub(super) kind: Vec<u8>,
    /// `plain` of `text/plain`, as written.
    pub(super) subtype: Vec<u8>,
    /// Such as charset and boundary.
    pub(super) parameters: Parameters,
}

/// What the header block of a part says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MimeFields {
    /// Content-Type
    pub(super) content_type: Option<ContentType>,
    /// Content-ID
    pub(super) id: Option<Vec<u8>>,
    /// Content-Description
    pub(super) description: Option<Vec<u8>>,
    /// Content-Transfer-Encoding, when it is one word.
    pub(super) encoding: Option<Vec<u8>>,
    /// Content-MD5
    pub(super) md5: Option<Vec<u8>>,
    /// Content-Disposition
    pub(super) disposition: Option<(Vec<u8>, Parameters)>,
    /// Content-Language
    pub(super) languages: Vec<Vec<u8>>,
    /// Content-Location
    pub(super) location: Option<Vec<u8>>,
}

impl MimeFields {
    /// Reads them from a header block in canonical form.
    pub(super) fn of(block: &[u8]) -> MimeFields {
        let mut found = MimeFields::default();
        for field in all_fields(block) {
            if !field.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-")) {
                continue;
            }
            let value = field.unfolded();
            match field.name.get(8..).unwrap_or_default().to_ascii_lowercase().as_slice() {
                b"type" if found.content_type.is_none() => found.content_type = Some(content_type(&value)),
                b"id" if found.id.is_none() => found.id = Some(value),
                b"description" if found.description.is_none() => found.description = Some(value),
                b"transfer-encoding" if found.encoding.is_none() => found.encoding = only_token(&value),
                b"md5" if found.md5.is_none() => found.md5 = Some(value),
                b"disposition" if found.disposition.is_none() => found.disposition = disposition(&value),
                b"language" if found.languages.is_empty() => found.languages = languages(&value),
                b"location" if found.location.is_none() => found.location = Some(value),
                _ => {}
            }
        }
        found
    }

    /// True when this is its type, in any case. What has no Content-Type has none.
    pub(super) fn is_type(&self, kind: &[u8], subtype: &[u8]) -> bool {
        self.content_type
            .as_ref()
            .is_some_and(|of| of.kind.eq_ignore_ascii_case(kind) && of.subtype.eq_ignore_ascii_case(subtype))
    }
}

fn content_type(value: &[u8]) -> ContentType {
    let mut lexer = Lexer::new(value);
    lexer.skip();
    let kind = token(&mut lexer);
    let mut subtype = Vec::new();
    if lexer.skip() == Some(b'/') {
        lexer.advance();
        lexer.skip();
        subtype = token(&mut lexer);
    }
    ContentType { kind, subtype, parameters: parameters(&mut lexer) }
}

fn disposition(value: &[u8]) -> Option<(Vec<u8>, Parameters)> {
    let mut lexer = Lexer::new(value);
    lexer.skip();
    let kind = token(&mut lexer);
    (!kind.is_empty()).then(|| (kind, parameters(&mut lexer)))
}

fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let mut lexer = Lexer::new(value);
    let mut found = Vec::new();
    while lexer.skip().is_some() && found.len() < LANGUAGES_MAX {
        let language = token(&mut lexer);
        if language.is_empty() {
            lexer.advance();
        } else {
            found.push(language);
        }
    }
    found
}

/// The one word a value is; `None` when it is anything else.
fn only_token(value: &[u8]) -> Option<Vec<u8>> {
    let mut lexer = Lexer::new(value);
    lexer.skip();
    let found = token(&mut lexer);
    (lexer.skip().is_none() && !found.is_empty()).then_some(found)
}

fn token(lexer: &mut Lexer<'_>) -> Vec<u8> {
    lexer.until(|b| is_blank(b) || b"()<>@,;:\\\"/[]?=".contains(&b)).to_vec()
}

fn parameters(lexer: &mut Lexer<'_>) -> Parameters {
    let mut found = Vec::new();
    while found.len() < PARAMETERS_MAX {
        // What is no parameter is passed over up to the next one.
        match lexer.skip() {
            None => break,
            Some(b'"') => drop(lexer.quoted(b'"')),
            Some(b';') => {
                lexer.advance();
                lexer.skip();
                found.extend(parameter(lexer));
            }
            Some(_) => lexer.advance(),
        }
    }
    found
}

fn parameter(lexer: &mut Lexer<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let name = token(lexer);
    if name.is_empty() || lexer.skip() != Some(b'=') {
        return None;
    }
    lexer.advance();
    let value = match lexer.skip() {
        Some(b'"') => lexer.quoted(b'"'),
        _ => lexer.until(|b| is_blank(b) || matches!(b, b';' | b'(' | b'"')).to_vec(),
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_type(value: &str, kind: &str, subtype: &str, parameters: &[(&str, &str)]) {
        let found = MimeFields::of(format!("content-TYPE: {value}\r\n").as_bytes()).content_type.unwrap();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        assert_eq!((text(&found.kind), text(&found.subtype)), (kind.into(), subtype.into()), "{value}");
        let shown: Vec<_> = found.parameters.iter().map(|(name, value)| (text(name), text(value))).collect();
        let expect: Vec<_> =
            parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(shown, expect, "{value}");
    }

    #[test]
    fn types_are_taken_apart() {
        check_type(
            "Text/Plain (c); Charset = \"utf-8\" (d);\r\n format=flowed",
            "Text",
            "Plain",
            &[("Charset", "utf-8"), ("format", "flowed")],
        );
        check_type(
            "image/png; name*0*=utf-8''a%20; name*1=\"b \\\" c\"",
            "image",
            "png",
            &[("name*0*", "utf-8''a%20"), ("name*1", "b \" c")],
        );
        check_type(
            "multipart/mixed; boundary=----=_P.1/2; x; =y; z=",
            "multipart",
            "mixed",
            &[("boundary", "----=_P.1/2"), ("z", "")],
        );
        check_type("foo", "foo", "", &[]);
        check_type("a/b rubbish \"; c=d\" ; e=f g", "a", "b", &[("e", "f")]);
        check_type(
            "a/b; name==?utf-8?q?x?=; n=\"open",
            "a",
            "b",
            &[("name", "=?utf-8?q?x?="), ("n", "open")],
        );
        check_type("", "", "", &[]);
    }

    #[test]
    fn the_other_fields_are_read() {
        let found = MimeFields::of(
            b"Content-ID: <a>\r\nContent-Transfer-Encoding: BASE64 (c)\r\nContent-Language: en, de-CH\r\nContent-ID: <b>\r\n\
              Content-Disposition: attachment; filename=\"x y\"\r\nContent-Location: a\r\n b\r\nContent-MD5: q\r\n",
        );
        assert_eq!(found.id.as_deref(), Some(b"<a>".as_slice()));
        assert_eq!(found.encoding.as_deref(), Some(b"BASE64".as_slice()));
        assert_eq!(found.languages, [b"en".to_vec(), b"de-CH".to_vec()]);
        assert_eq!(
            found.disposition,
            Some((b"attachment".to_vec(), vec![(b"filename".to_vec(), b"x y".to_vec())]))
        );
        assert_eq!(found.location.as_deref(), Some(b"a b".as_slice()));
        assert_eq!(MimeFields::of(b"Content-Transfer-Encoding: base64 x\r\n").encoding, None);
    }
}
