//! X.500 names in the forms they are met in, and what they are compared by.
//!
//! ```text
//! x500:/o=Org/ou=…/cn=Recipients/cn=bob                 a list of users (Exchange's proxyAddresses)
//! [EX:/o=Org/ou=…/cn=Recipients/cn=bob]                 a journal report (MS-XJRNL)
//! IMCEAEX-_o=Org_ou=…_cn=Recipients_cn=bob@x.example    encapsulated in an SMTP address: `_` for `/`, `+XX` for an octet
//! ```
//!
//! Compared as directories compare them (caseIgnoreMatch, RFC 4517 §4.2.11), as far as it is harmless: ASCII case-folded,
//! a run of blanks is one, and blanks around a name and around each of its levels do not count. Nothing else is folded.
//! A name may hold commas, colons, brackets and `@`. In which domains an encapsulated one is believed the room `assign` says.

use super::snapshot::Form;
use crate::mail::AddressKey;

/// How the list writes an X.500 name, in lower case.
pub(super) const X500_PREFIX: &str = "x500:";
/// How a journal report writes one, in lower case.
const EX_PREFIX: &str = "[ex:";
/// How an SMTP address that encapsulates one begins, in lower case.
const IMCEAEX_PREFIX: &str = "imceaex-";
/// How any encapsulated address begins: FAX, SMS and others have their own types.
const IMCEA_PREFIX: &str = "imcea";

/// An X.500 name.
pub(super) struct Name {
    /// What it is compared by, whatever form it came in.
    pub(super) key: AddressKey,
    /// The form it came in.
    pub(super) form: Form,
}

/// The X.500 name that an address is; `None` when it is none, or cannot be decoded.
pub(super) fn read(address: &AddressKey) -> Option<Name> {
    let text = address.as_str();
    if let Some(name) = text.strip_prefix(X500_PREFIX) {
        return Some(Name { key: key(name), form: Form::X500 });
    }
    if let Some(name) = text.strip_prefix(EX_PREFIX).and_then(|rest| rest.strip_suffix(']')) {
        return Some(Name { key: key(name), form: Form::X500 });
    }
    let (encoded, _) = text.strip_prefix(IMCEAEX_PREFIX)?.rsplit_once('@')?;
    Some(Name { key: key(&decapsulated(encoded)?), form: Form::Encapsulated })
}

/// True for an X.500 name in any form, decodable or not. It has no domain to tell its organisation by.
pub fn is_x500(address: &AddressKey) -> bool {
    let text = address.as_str();
    let whole_ex = text.starts_with(EX_PREFIX) && text.ends_with(']');
    whole_ex || text.starts_with(X500_PREFIX) || text.starts_with(IMCEAEX_PREFIX)
}

/// True for an address that encapsulates one of another kind: `IMCEA<TYPE>-…@domain`. What looks like a part of it means
/// something else.
pub fn is_encapsulated(address: &AddressKey) -> bool {
    let kind = address.as_str().strip_prefix(IMCEA_PREFIX).and_then(|rest| rest.split_once('-'));
    kind.is_some_and(|(kind, _)| !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// `None` when an escape is cut off or the octets are no text: a guess might be somebody else's name.
fn decapsulated(encoded: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'_' => b'/',
            b'+' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(octets).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The name without the blanks that do not count, behind the list's prefix.
fn key(name: &str) -> AddressKey {
    let mut text = String::with_capacity(X500_PREFIX.len() + name.len());
    text.push_str(X500_PREFIX);
    for (index, level) in name.split('/').enumerate() {
        if index > 0 {
            text.push('/');
        }
        let mut words = level.split(' ').filter(|word| !word.is_empty());
        text.extend(words.next());
        for word in words {
            text.push(' ');
            text.push_str(word);
        }
    }
    AddressKey::of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether both are the same name; `None` when one is none.
    fn same(one: &str, two: &str) -> Option<bool> {
        let key = |text: &str| read(&AddressKey::of(text)).map(|name| name.key);
        Some(key(one)? == key(two)?)
    }

    #[test]
    fn one_name_is_the_same_in_all_its_forms() {
        let listed = "X500:/o=Contoso, Ltd: [HQ]/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn=a_b@c+d";
        let report = "[EX:/O=CONTOSO, LTD: [HQ]/OU=Exchange Administrative Group (FYDIBOHF23SPDLT)/CN=RECIPIENTS/CN=A_B@C+D]";
        let smtp = "IMCEAEX-_O=CONTOSO+2C+20LTD+3A+20+5BHQ+5D_OU=Exchange+20Administrative+20Group+20+28FYDIBOHF23SPDLT+29_\
                    cn=Recipients_cn=a+5Fb+40c+2Bd@contoso.example";
        assert_eq!(same(listed, report), Some(true));
        assert_eq!(same(listed, smtp), Some(true));
        // An `@` that was not encoded, as some write it: the last one counts.
        assert_eq!(same("x500:/o=a/cn=b@c", "imceaex-_o=a_cn=b@c@d.example"), Some(true));
    }

    #[test]
    fn blanks_count_once_and_not_at_the_ends_of_a_level() {
        assert_eq!(same("x500:/o=First  Org/cn=a b", "[EX: /o=First Org /cn=a   b ]"), Some(true));
        assert_eq!(same("x500:/o=First Org/cn=ab", "[EX:/o=First Org/cn=a b]"), Some(false));
        assert_eq!(same("x500:/o=a/cn=b", "[EX:/o=a/cn=\u{a0}b]"), Some(false), "no blank of ours");
        assert_eq!(same("x500:/o=stra\u{df}e", "[EX:/o=STRASSE]"), Some(false), "folded beyond ASCII");
        assert_eq!(same("x500:/o=\u{c9}", "[EX:/o=\u{e9}]"), Some(false), "folded beyond ASCII");
    }

    #[test]
    fn names_of_256_characters_and_16_levels_are_read_whole() {
        let name: String = (0..16).map(|level| format!("/ou={}{level:02}", "x".repeat(10))).collect();
        assert_eq!(name.len(), 256);
        let encapsulated = format!("IMCEAEX-{}@x.example", name.replace('/', "_"));
        assert_eq!(same(&format!("x500:{name}"), &format!("[EX:{name}]")), Some(true));
        assert_eq!(same(&format!("x500:{name}"), &encapsulated), Some(true));
        assert_eq!(same(&format!("x500:{name}"), &format!("[EX:{name}0]")), Some(false));
    }

    #[test]
    fn what_cannot_be_decoded_is_a_name_nobody_has() {
        for bad in
            ["IMCEAEX-_O=A+2@d", "IMCEAEX-_O=A+@d", "IMCEAEX-_O=A+ZZ@d", "IMCEAEX-_O=A+FF@d", "IMCEAEX-_O=A"]
        {
            assert!(read(&AddressKey::of(bad)).is_none(), "{bad}");
            assert!(is_x500(&AddressKey::of(bad)), "{bad}");
        }
        for other in ["IMCEAFAX-Bob+40+2B1@d.example", "imcea-x@d", "bob@x.example", "[EX:/o=a", ""] {
            assert!(read(&AddressKey::of(other)).is_none() && !is_x500(&AddressKey::of(other)), "{other}");
        }
        assert!(is_encapsulated(&AddressKey::of("IMCEAFAX-Bob@d")));
        assert!(
            !is_encapsulated(&AddressKey::of("imceasar@d")) && !is_encapsulated(&AddressKey::of("imcea-x@d"))
        );
    }
}
