//! Which octets of a message a section of FETCH is (RFC 3501 §6.4.5).
//!
//! A section that names nothing is empty, as Dovecot has it; clients that ask by BODYSTRUCTURE never meet one.

use super::fields::{fields, has_empty_line};
use super::tree::{Kind, Node, Tree};
use crate::mail::Part;
use imap_codec::imap_types::core::{AString, Vec1};
use imap_codec::imap_types::fetch::{Part as Numbers, Section};

/// The octets a section is.
pub(super) enum Extent<'a> {
    /// None: there is no such section.
    Nothing,
    /// The header block of a part.
    Header(&'a Part),
    /// Some fields of it.
    Fields(&'a Part, &'a Chosen),
    /// The body of a part.
    Body(&'a Part),
}

/// What is asked of a message or part.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// All of the message.
    Whole,
    /// The header block.
    Header(Option<Numbers>),
    /// Some fields of it.
    Fields(Option<Numbers>, Chosen),
    /// The text of a message.
    Text(Option<Numbers>),
    /// A part.
    Part(Numbers),
    /// The header block of a part.
    Mime(Numbers),
}

/// Fields chosen by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Their names, in lower case and in order; those of no field left out.
    names: Vec<Vec<u8>>,
    /// All but these.
    others: bool,
}

impl Wanted {
    /// What a section asks for.
    pub(super) fn of(section: Option<&Section<'static>>) -> Wanted {
        match section.cloned() {
            None => Wanted::Whole,
            Some(Section::Part(part)) => Wanted::Part(part),
            Some(Section::Header(part)) => Wanted::Header(part),
            Some(Section::HeaderFields(part, names)) => Wanted::Fields(part, Chosen::of(&names, false)),
            Some(Section::HeaderFieldsNot(part, names)) => Wanted::Fields(part, Chosen::of(&names, true)),
            Some(Section::Text(part)) => Wanted::Text(part),
            Some(Section::Mime(part)) => Wanted::Mime(part),
        }
    }

    /// True when it is of a part with a number.
    pub(super) fn names_a_part(&self) -> bool {
        match self {
            Wanted::Whole => false,
            Wanted::Header(numbers) | Wanted::Fields(numbers, _) | Wanted::Text(numbers) => numbers.is_some(),
            Wanted::Part(_) | Wanted::Mime(_) => true,
        }
    }

    /// Where it is in a message; the whole message is not asked for here.
    pub(super) fn find<'a>(&'a self, tree: &'a Tree) -> Extent<'a> {
        let message = |numbers: &Option<Numbers>| match numbers {
            None => Some(tree.root()),
            Some(numbers) => enclosed(tree, numbers),
        };
        let extent = match self {
            Wanted::Whole => None,
            Wanted::Header(numbers) => message(numbers).map(|node| Extent::Header(node.part)),
            Wanted::Fields(numbers, chosen) => message(numbers).map(|node| Extent::Fields(node.part, chosen)),
            Wanted::Text(numbers) => message(numbers).map(|node| Extent::Body(node.part)),
            Wanted::Part(numbers) => tree.find(numbers.0.as_ref()).map(|node| Extent::Body(node.part)),
            Wanted::Mime(numbers) => tree.find(numbers.0.as_ref()).map(|node| Extent::Header(node.part)),
        };
        extent.unwrap_or(Extent::Nothing)
    }
}

/// The message in the part with this number.
fn enclosed<'a>(tree: &'a Tree, numbers: &Numbers) -> Option<Node<'a>> {
    match tree.find(numbers.0.as_ref())?.kind() {
        Kind::Message(message) => message,
        _ => None,
    }
}

impl Chosen {
    fn of(names: &Vec1<AString<'static>>, others: bool) -> Chosen {
        Chosen::named(names.as_ref().iter().map(AsRef::as_ref), others)
    }

    fn named<'n>(names: impl Iterator<Item = &'n [u8]>, others: bool) -> Chosen {
        let mut names: Vec<_> =
            names.filter(|name| !name.is_empty()).map(<[u8]>::to_ascii_lowercase).collect();
        names.sort_unstable();
        Chosen { names, others }
    }

    /// The chosen fields of a header block in canonical form, with the empty line that ends it, where one does.
    pub(super) fn cut(&self, block: &[u8]) -> Vec<u8> {
        let mut cut = Vec::new();
        for field in fields(block) {
            if self.names.binary_search(&field.name.to_ascii_lowercase()).is_ok() != self.others {
                cut.extend_from_slice(field.whole);
            }
        }
        if has_empty_line(block) {
            cut.extend_from_slice(b"\r\n");
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], others: bool, expect: &str) {
        let block = b"A: 1\r\nb : 2\r\n 3\r\nrubbish\r\nA: 4\r\n\r\n";
        let chosen = Chosen::named(names.iter().map(|name| name.as_bytes()), others);
        assert_eq!(String::from_utf8(chosen.cut(block)).unwrap(), expect);
    }

    #[test]
    fn fields_are_chosen_by_name_in_their_order() {
        check(&["B", "a"], false, "A: 1\r\nb : 2\r\n 3\r\nA: 4\r\n\r\n");
        check(&["a"], true, "b : 2\r\n 3\r\nrubbish\r\n\r\n");
        check(&["x"], false, "\r\n");
        check(&[""], false, "\r\n");
        assert_eq!(Chosen::named([].into_iter(), true).cut(b"A: 1\r\n"), b"A: 1\r\n");
    }
}
