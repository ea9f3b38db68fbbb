//! An entry as a server sent it (RFC 4511 §4.5.2): a name, and attributes with values that may be any octets.

use super::ber::Malformed;
use ldap3::asn1::StructureTag;

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its distinguished name.
    pub(super) dn: String,
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    /// In ASCII lower case, without options.
    name: String,
    values: Vec<Vec<u8>>,
    /// Number of the next value when there are more than the server gave at once.
    next: Option<usize>,
}

/// Reads a search result entry.
pub(super) fn read(tag: StructureTag) -> Result<Entry, Malformed> {
    const BAD: Malformed = Malformed("an entry that is none");
    let mut parts = tag.expect_constructed().ok_or(BAD)?.into_iter();
    let dn = parts.next().and_then(StructureTag::expect_primitive).ok_or(BAD)?;
    let dn = String::from_utf8(dn).map_err(|_| Malformed("an entry whose name is no text"))?;
    let mut attributes = Vec::new();
    for attribute in parts.next().and_then(StructureTag::expect_constructed).ok_or(BAD)? {
        let mut parts = attribute.expect_constructed().ok_or(BAD)?.into_iter();
        let name = parts.next().and_then(StructureTag::expect_primitive).ok_or(BAD)?;
        let name = String::from_utf8(name).map_err(|_| BAD)?;
        let values = parts.next().and_then(StructureTag::expect_constructed).ok_or(BAD)?;
        let values =
            values.into_iter().map(|value| value.expect_primitive().ok_or(BAD)).collect::<Result<_, _>>()?;
        attributes.push(named(&name, values));
    }
    // What came in parts stands beside an empty attribute of the same name.
    attributes.sort_by_key(|attribute| attribute.values.is_empty());
    Ok(Entry { dn, attributes })
}

/// `proxyAddresses;range=0-1499` is the first part of proxyAddresses; behind the last stands `*`.
fn named(described: &str, values: Vec<Vec<u8>>) -> Attribute {
    let mut parts = described.split(';');
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let range =
        parts.find_map(|option| option.to_ascii_lowercase().strip_prefix("range=").map(str::to_owned));
    let last =
        range.as_deref().and_then(|range| range.split_once('-')).and_then(|(_, last)| last.parse().ok());
    Attribute { name, values, next: last.map(|last: usize| last.saturating_add(1)) }
}

/// The places that a search continuation reference names.
pub(super) fn reference(tag: StructureTag) -> Vec<String> {
    let urls = tag.expect_constructed().unwrap_or_default().into_iter();
    urls.filter_map(|url| String::from_utf8(url.expect_primitive()?).ok()).collect()
}

impl Entry {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
    }

    /// Every value of an attribute.
    pub(super) fn values(&self, name: &str) -> &[Vec<u8>] {
        self.attribute(name).map(|attribute| attribute.values.as_slice()).unwrap_or_default()
    }

    /// Every value that is text.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values(name).iter().filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// The first value, where it is text and not blank.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next().map(str::trim).filter(|text| !text.is_empty())
    }

    /// The first value, where it is a whole number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// An attribute that has more values than were given, and the number of the next.
    pub(super) fn missing_range(&self) -> Option<(&str, usize)> {
        self.attributes.iter().find_map(|attribute| Some((attribute.name.as_str(), attribute.next?)))
    }

    /// Adds what a further answer says of the first such attribute; false when it says nothing of it.
    pub(super) fn extend(&mut self, rest: Entry) -> bool {
        let Some(short) = self.attributes.iter_mut().find(|attribute| attribute.next.is_some()) else {
            return false;
        };
        let Some(more) = rest.attributes.into_iter().find(|more| more.name == short.name) else {
            return false;
        };
        // An answer without values that promises more would go round for ever.
        let goes_on = !more.values.is_empty() || more.next.is_none();
        short.values.extend(more.values);
        short.next = more.next;
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ldap3::asn1::{PL, TagClass};

    fn text(octets: &[u8]) -> StructureTag {
        StructureTag { class: TagClass::Universal, id: 4, payload: PL::P(octets.to_vec()) }
    }

    fn sequence(parts: Vec<StructureTag>) -> StructureTag {
        StructureTag { class: TagClass::Universal, id: 16, payload: PL::C(parts) }
    }

    fn entry(attributes: &[(&str, &[&[u8]])]) -> Entry {
        let attributes = attributes.iter().map(|(name, values)| {
            sequence(vec![text(name.as_bytes()), sequence(values.iter().map(|value| text(value)).collect())])
        });
        read(sequence(vec![text(b"cn=a"), sequence(attributes.collect())])).unwrap()
    }

    #[test]
    fn reads_values_of_any_kind_by_name_in_any_case() {
        let entry =
            entry(&[("MAIL", &[b"a@x.example", b"\xff"]), ("objectGUID", &[b"\x00\xff"]), ("n", &[b"512"])]);
        assert_eq!(
            (entry.dn.as_str(), entry.text("mail"), entry.number("N")),
            ("cn=a", Some("a@x.example"), Some(512))
        );
        assert_eq!(entry.texts("mail").count(), 1);
        assert_eq!(entry.values("objectguid"), [b"\x00\xff".to_vec()]);
        assert_eq!((entry.text("objectGUID"), entry.values("other")), (None, &[][..]));
    }

    #[test]
    fn an_attribute_in_parts_is_put_together_and_is_not_taken_for_whole() {
        let mut first = entry(&[("proxyAddresses", &[]), ("proxyAddresses;range=0-1", &[b"a", b"b"])]);
        assert_eq!(first.missing_range(), Some(("proxyaddresses", 2)));
        assert!(!first.extend(entry(&[("mail", &[b"x"])])));
        assert!(first.extend(entry(&[("proxyAddresses;range=2-3", &[b"c", b"d"])])));
        assert_eq!(first.missing_range(), Some(("proxyaddresses", 4)));
        assert!(first.extend(entry(&[("proxyAddresses;range=4-*", &[b"e"])])));
        assert_eq!(first.missing_range(), None);
        assert_eq!(first.texts("proxyaddresses").collect::<String>(), "abcde");
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for none in
            [text(b"x"), sequence(vec![]), sequence(vec![text(b"cn=a")]), sequence(vec![text(b"\xff")])]
        {
            assert!(read(none).is_err());
        }
    }
}
