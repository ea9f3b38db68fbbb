//! SMTP addresses (RFC 5321 §4.1.2, RFC 6531 §3.3) and how two of them compare.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest address accepted, in octets: 64 for the local part, 255 for the domain, one `@` (RFC 5321 §4.5.3.1).
pub(crate) const ADDRESS_OCTETS_MAX: usize = 64 + 1 + 255;

/// A syntactically valid SMTP address, kept exactly as it was written.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Stored", into = "String")]
pub struct Address {
    text: String,
    at: usize,
}

/// What two addresses are compared by: the whole address with ASCII letters lower-cased.
///
/// No Unicode folding: homoglyphs and special casing rules must not make one person another's recipient.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressKey(String);

/// Why a text is not an address. Always the writer's fault; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Empty, or longer than 320 octets in all, 64 before and 255 behind the `@`.
    Length,
    /// No `@` outside quotes.
    NoDomain,
    /// The local part is neither a dot-string nor a quoted string.
    LocalPart,
    /// The domain is neither a host name nor an address literal.
    Domain,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Length => "address is empty or too long",
            AddressError::NoDomain => "address has no domain",
            AddressError::LocalPart => "local part is malformed",
            AddressError::Domain => "domain is malformed",
        })
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Parses `local@domain`, without angle brackets or display name. Non-ASCII (RFC 6531) is allowed.
    ///
    /// # Errors
    /// [`AddressError`] says which part is malformed.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        if text.is_empty() || text.len() > ADDRESS_OCTETS_MAX {
            return Err(AddressError::Length);
        }
        let at = if text.starts_with('"') {
            quoted_local_end(text)?
        } else {
            text.find('@').ok_or(AddressError::NoDomain)?
        };
        let (local, rest) = text.split_at(at);
        let domain = rest.strip_prefix('@').ok_or(AddressError::NoDomain)?;
        if local.len() > 64 || domain.len() > 255 {
            return Err(AddressError::Length);
        }
        if !local.starts_with('"')
            && !local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
        {
            return Err(AddressError::LocalPart);
        }
        if !is_domain(domain) {
            return Err(AddressError::Domain);
        }
        Ok(Address { text: text.to_owned(), at })
    }

    /// An address read back from where it was stored. What was once accepted is an address for ever, also one that
    /// [`Address::parse`] would not take any more: an entry must not become unreadable because a rule became stricter.
    pub(crate) fn stored(text: String) -> Address {
        let quoted_end = || stored_quoted_end(&text).or_else(|| text.rfind('@'));
        let at = if text.starts_with('"') { quoted_end() } else { text.find('@') };
        Address { at: at.unwrap_or(text.len()), text }
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`, quotes included.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The part behind the `@`.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// What this address is compared by.
    pub fn key(&self) -> AddressKey {
        AddressKey(self.text.to_ascii_lowercase())
    }
}

/// Index of the `@` behind a quoted local part (RFC 5321 `Quoted-string`).
fn quoted_local_end(text: &str) -> Result<usize, AddressError> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            // A backslash excuses no control character (`quoted-pairSMTP`).
            0..=31 | 127 => return Err(AddressError::LocalPart),
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' if text.as_bytes().get(index + 1) == Some(&b'@') => return Ok(index + 1),
            b'"' => return Err(AddressError::LocalPart),
            _ => {}
        }
    }
    Err(AddressError::LocalPart)
}

/// The same, whatever stands between the quotes.
fn stored_quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return (text.as_bytes().get(index + 1) == Some(&b'@')).then_some(index + 1),
            _ => {}
        }
    }
    None
}

fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(|inner| {
            !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b))
        });
    }
    domain.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b >= 0x80)
    })
}

impl AddressKey {
    /// The key of any text that stands for an address, valid or not (reports hold both).
    pub fn of(text: &str) -> AddressKey {
        // Blanks beyond ASCII are characters of an address (RFC 6531), and belong to somebody else.
        AddressKey(text.trim_ascii().to_ascii_lowercase())
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

/// The text of an address that was accepted when it was written down.
#[derive(Deserialize)]
struct Stored(String);

impl From<Stored> for Address {
    fn from(stored: Stored) -> Address {
        Address::stored(stored.0)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(&str, &str), AddressError>) {
        let parsed = Address::parse(text);
        let parts = parsed.as_ref().map(|a| (a.local(), a.domain())).map_err(Clone::clone);
        assert_eq!(parts, expect, "{text}");
    }

    #[test]
    fn takes_plain_quoted_literal_and_international_addresses() {
        check("a@b.example", Ok(("a", "b.example")));
        check("a.b+tag@b.example", Ok(("a.b+tag", "b.example")));
        check(r#""a b"@c.example"#, Ok((r#""a b""#, "c.example")));
        check(r#""a@b\"c"@d.example"#, Ok((r#""a@b\"c""#, "d.example")));
        check("a@[127.0.0.1]", Ok(("a", "[127.0.0.1]")));
        check("a@[IPv6:::1]", Ok(("a", "[IPv6:::1]")));
        check("zoë@bücher.example", Ok(("zoë", "bücher.example")));
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        check("", Err(AddressError::Length));
        check("postmaster", Err(AddressError::NoDomain));
        check("a@", Err(AddressError::Domain));
        check("a@b..c", Err(AddressError::Domain));
        check("a@b.", Err(AddressError::Domain));
        check("a@@b", Err(AddressError::Domain));
        check(".a@b", Err(AddressError::LocalPart));
        check("a..b@c", Err(AddressError::LocalPart));
        check("a b@c", Err(AddressError::LocalPart));
        check("\"a@c", Err(AddressError::LocalPart));
        check("\"a\rb\"@c", Err(AddressError::LocalPart));
        check("\"a\\\rb\"@c", Err(AddressError::LocalPart));
        check("\"a\\\0b\"@c", Err(AddressError::LocalPart));
        check(&format!("{}@c", "a".repeat(65)), Err(AddressError::Length));
    }

    #[test]
    fn what_was_stored_is_read_whatever_the_rules_are_now() {
        for (stored, local, domain) in [
            ("a@b.example", "a", "b.example"),
            ("\"a\\\u{1}@b\"@c.example", "\"a\\\u{1}@b\"", "c.example"),
            ("\"a\\\"@b\"@c.example", "\"a\\\"@b\"", "c.example"),
            ("\"a@c.example", "\"a", "c.example"),
            ("no domain", "no domain", ""),
            ("", "", ""),
        ] {
            let json = serde_json::to_string(stored).unwrap();
            let address: Address = serde_json::from_str(&json).unwrap();
            assert_eq!((address.as_str(), address.local(), address.domain()), (stored, local, domain));
            assert_eq!(serde_json::to_string(&address).unwrap(), json);
        }
    }

    #[test]
    fn keys_of_addresses_keep_blanks_beyond_ascii() {
        let key = |text: &str| Address::parse(text).unwrap().key();
        assert_ne!(key("\u{a0}k@x.example"), key("k@x.example"));
        assert_ne!(key("k@x.example\u{3000}"), key("k@x.example"));
        assert_ne!(AddressKey::of("\u{2003}k@x.example"), AddressKey::of("k@x.example"));
        assert_eq!(AddressKey::of(" k@x.example\t"), AddressKey::of("k@x.example"));
    }

    #[test]
    fn keys_fold_ascii_only() {
        assert_eq!(AddressKey::of("Bob@X.Example"), AddressKey::of("bob@x.example"));
        assert_ne!(AddressKey::of("BÜRO@x.example"), AddressKey::of("büro@x.example"));
        // KELVIN SIGN lower-cases to "k" in Unicode: it must not reach k@x.
        assert_ne!(AddressKey::of("\u{212a}@x.example"), AddressKey::of("k@x.example"));
    }
}
