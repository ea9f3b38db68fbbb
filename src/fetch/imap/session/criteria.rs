//! SEARCH with keys nested deeper than `imap-codec` reads: it ends at nine within each other, but any of ten addresses is nine ORs
//! and a key in the last.
//!
//! Only OR, NOT and parentheses are taken apart here. Each key that holds no other is read by `imap-codec`, and must be all of what
//! was taken for it: both never read the same differently.

use super::parse::{WRONG, Words};
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::core::{Charset, Vec1};
use imap_codec::imap_types::search::SearchKey;

/// Keys within each other. Reading is by recursion; a search of more is refused later too.
pub(super) const KEYS_NESTED_MAX: usize = 90;

/// Reads a SEARCH or UID SEARCH with CRLF at its end; `rest` is what is behind its tag.
///
/// # Errors
/// What is wrong with it, also that it is another command. The client's fault.
pub(super) fn search(rest: &[u8]) -> Result<CommandBody<'static>, &'static str> {
    let mut words = Words { rest };
    let (charset, uid) = begin(&mut words).ok_or(WRONG)?;
    let criteria = keys(&mut words, 0)?;
    words.end().ok_or(WRONG)?;
    Ok(CommandBody::Search { charset, criteria, uid })
}

/// Reads up to the first key: the charset, and whether UIDs are asked for.
fn begin(words: &mut Words<'_>) -> Option<(Option<Charset<'static>>, bool)> {
    let mut verb = words.atom()?;
    let uid = verb.eq_ignore_ascii_case(b"UID");
    if uid {
        verb = words.space()?.atom()?;
    }
    if !verb.eq_ignore_ascii_case(b"SEARCH") {
        return None;
    }
    words.space()?;
    let start = words.rest;
    let has_charset = words.atom().is_some_and(|word| word.eq_ignore_ascii_case(b"CHARSET"));
    if !has_charset {
        words.rest = start;
        return Some((None, uid));
    }
    words.space()?.string()?;
    let (charset, _) = by_codec(&[taken(start, words), b" ALL"].concat())?;
    words.space()?;
    Some((Some(charset?), uid))
}

/// Reads keys up to the end of the line or of the parentheses.
fn keys(words: &mut Words<'_>, depth: usize) -> Result<Vec1<SearchKey<'static>>, &'static str> {
    let mut keys = vec![key(words, depth)?];
    while words.space().is_some() {
        keys.push(key(words, depth)?);
    }
    Vec1::try_from(keys).map_err(|_| WRONG)
}

fn key(words: &mut Words<'_>, depth: usize) -> Result<SearchKey<'static>, &'static str> {
    if depth >= KEYS_NESTED_MAX {
        return Err("search keys are nested too deeply");
    }
    if let Some(inside) = words.rest.strip_prefix(b"(") {
        words.rest = inside;
        let keys = keys(words, depth + 1)?;
        words.rest = words.rest.strip_prefix(b")").ok_or(WRONG)?;
        return Ok(SearchKey::And(keys));
    }
    let start = words.rest;
    let name = words.atom().ok_or(WRONG)?.to_ascii_uppercase();
    let inner = |words: &mut Words<'_>| key(words.space().ok_or(WRONG)?, depth + 1).map(Box::new);
    match name.as_slice() {
        b"NOT" => Ok(SearchKey::Not(inner(words)?)),
        b"OR" => Ok(SearchKey::Or(inner(words)?, inner(words)?)),
        name => {
            for _ in 0..arguments(name) {
                words.space().and_then(Words::string).ok_or(WRONG)?;
            }
            let (_, key) = by_codec(taken(start, words)).ok_or(WRONG)?;
            Ok(key)
        }
    }
}

/// How many words follow the name of a key.
fn arguments(name: &[u8]) -> usize {
    match name {
        b"HEADER" => 2,
        b"BCC" | b"BODY" | b"CC" | b"FROM" | b"SUBJECT" | b"TEXT" | b"TO" => 1,
        b"BEFORE" | b"ON" | b"SINCE" | b"SENTBEFORE" | b"SENTON" | b"SENTSINCE" => 1,
        b"KEYWORD" | b"UNKEYWORD" | b"LARGER" | b"SMALLER" | b"UID" => 1,
        _ => 0,
    }
}

/// What was read since `start`.
fn taken<'a>(start: &'a [u8], words: &Words<'_>) -> &'a [u8] {
    start.get(..start.len().saturating_sub(words.rest.len())).unwrap_or_default()
}

/// The charset and the one key that these arguments of SEARCH are.
fn by_codec(arguments: &[u8]) -> Option<(Option<Charset<'static>>, SearchKey<'static>)> {
    let line = [b"a SEARCH ", arguments, b"\r\n"].concat();
    let Ok(([], command)) = CommandCodec::default().decode(&line) else { return None };
    let CommandBody::Search { charset, criteria, .. } = command.body else { return None };
    let mut criteria = criteria.into_iter();
    let key = criteria.next()?.into_static();
    criteria.next().is_none().then(|| (charset.map(IntoStatic::into_static), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_read_they_read_alike() {
        for line in [
            "SEARCH ALL",
            "uid search 1:*,7 UID 3:*",
            "SEARCH CHARSET UTF-8 SUBJECT {4}\r\n) OR FROM \"a \\\"(\" TO x]",
            "SEARCH charset \"us-ascii\" BCC a CC b BODY c TEXT d",
            "UID SEARCH OR (SINCE 1-Jan-2026 BEFORE \"2-Jan-2026\") NOT (NOT SEEN OR DELETED (DRAFT))",
            "SEARCH HEADER x-a {0+}\r\n LARGER 7 SMALLER 9 KEYWORD $x UNKEYWORD y",
            "SEARCH ON 1-Jan-2026 SENTON 1-Jan-2026 SENTBEFORE 1-Jan-2026 SENTSINCE 1-Jan-2026",
        ] {
            let whole = format!("a {line}\r\n");
            let (rest, command) = CommandCodec::default().decode(whole.as_bytes()).unwrap();
            assert!(rest.is_empty());
            assert_eq!(search(&whole.as_bytes()[2..]), Ok(command.body.into_static()), "{line}");
        }
    }

    #[test]
    fn what_is_no_search_is_refused() {
        for line in [
            "NOOP",
            "SEARCH",
            "SEARCH ",
            "SEARCH FOO",
            "SEARCH ()",
            "SEARCH (SEEN",
            "SEARCH SEEN)",
            "SEARCH  SEEN",
            "SEARCH SEEN ",
            "SEARCH NOT",
            "SEARCH OR SEEN",
            "SEARCH FROM",
            "SEARCH FROM (x)",
            "SEARCH FROM {9}\r\nx",
            "SEARCH ALLSEEN",
            "SEARCH CHARSET UTF-8",
            "SEARCH BEFORE 40-Jan-2026",
        ] {
            assert_eq!(search(format!("{line}\r\n").as_bytes()), Err(WRONG), "{line}");
        }
    }

    #[test]
    fn keys_may_be_nested_deep_but_not_without_end() {
        let nots = |count| search(format!("SEARCH {}SEEN\r\n", "NOT ".repeat(count)).as_bytes());
        assert!(nots(KEYS_NESTED_MAX - 1).is_ok());
        assert_eq!(nots(KEYS_NESTED_MAX), Err("search keys are nested too deeply"));
        assert!(nots(100_000).is_err());
    }
}
