//! What a FETCH asks for: each item with the name it is answered by, and what must be opened for all of them.

use super::section::Wanted;
use super::strings::upper_case_name;
use imap_codec::imap_types::fetch::{MessageDataItemName as Name, Part, Section};

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// FLAGS
    Flags,
    /// UID
    Uid,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// ENVELOPE
    Envelope,
    /// BODYSTRUCTURE when extended, else BODY.
    Structure {
        /// With what RFC 3501 calls extension data.
        extended: bool,
    },
    /// Octets of the message.
    Octets(Octets),
}

/// Octets asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Octets {
    /// What the answer is called, with the origin of a part of it.
    pub(super) label: Vec<u8>,
    /// Which.
    pub(super) wanted: Wanted,
    /// From which octet of them, and how many at most.
    pub(super) partial: Option<(u64, u64)>,
    /// The message becomes `\Seen` by it.
    pub(super) sets_seen: bool,
}

/// What must be opened for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Nothing but what the session knows.
    Row,
    /// The entry in the folder.
    Entry,
    /// The summary, and what is not in there.
    Message,
}

/// All that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Each once, in the order asked.
    pub(super) items: Vec<Item>,
    /// What must be opened for the most demanding of them.
    pub(super) need: Need,
    /// How many of them may be as large as the message.
    pub(super) large: usize,
    /// Some of it is asked for in pieces.
    pub(super) partial: bool,
}

impl Plan {
    /// What these items ask for. What no RFC 3501 client can ask has been refused by the session.
    pub(super) fn of(names: &[Name<'static>]) -> Plan {
        let mut items: Vec<Item> = Vec::new();
        for item in names.iter().filter_map(Item::of) {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        let need = items.iter().map(Item::need).max().unwrap_or(Need::Row);
        let large = items.iter().filter(|item| item.is_large()).count();
        let in_pieces = |item: &Item| matches!(item, Item::Octets(Octets { partial: Some(_), .. }));
        let partial = items.iter().any(in_pieces);
        Plan { items, need, large, partial }
    }
}

impl Item {
    fn of(name: &Name<'static>) -> Option<Item> {
        Some(match name {
            Name::Flags => Item::Flags,
            Name::Uid => Item::Uid,
            Name::InternalDate => Item::InternalDate,
            Name::Rfc822Size => Item::Size,
            Name::Envelope => Item::Envelope,
            Name::Body => Item::Structure { extended: false },
            Name::BodyStructure => Item::Structure { extended: true },
            Name::Rfc822 => Item::named("RFC822", Wanted::Whole, true),
            Name::Rfc822Header => Item::named("RFC822.HEADER", Wanted::Header(None), false),
            Name::Rfc822Text => Item::named("RFC822.TEXT", Wanted::Text(None), true),
            Name::BodyExt { section, partial, peek } => Item::Octets(Octets {
                label: label(section.as_ref(), partial.map(|(origin, _)| origin)),
                wanted: Wanted::of(section.as_ref()),
                partial: partial.map(|(origin, octets)| (u64::from(origin), u64::from(octets.get()))),
                sets_seen: !peek,
            }),
            _ => return None,
        })
    }

    fn named(label: &str, wanted: Wanted, sets_seen: bool) -> Item {
        Item::Octets(Octets { label: label.into(), wanted, partial: None, sets_seen })
    }

    fn need(&self) -> Need {
        match self {
            Item::Flags | Item::Uid => Need::Row,
            Item::InternalDate | Item::Size => Need::Entry,
            _ => Need::Message,
        }
    }

    /// True for what must not be given while nobody can tell the parts of the message.
    pub(super) fn asks_for_parts(&self) -> bool {
        match self {
            Item::Structure { .. } => true,
            Item::Octets(octets) => octets.wanted.names_a_part(),
            _ => false,
        }
    }

    fn is_large(&self) -> bool {
        // A header block may be all that a message is.
        matches!(self, Item::Octets(_))
    }
}

/// `BODY[…]<…>` as it is answered: never `BODY.PEEK`, names of fields in upper case.
fn label(section: Option<&Section<'static>>, origin: Option<u32>) -> Vec<u8> {
    let mut label = b"BODY[".to_vec();
    let (numbers, what, names): (Option<&Part>, _, _) = match section {
        None => (None, "", None),
        Some(Section::Part(numbers)) => (Some(numbers), "", None),
        Some(Section::Header(numbers)) => (numbers.as_ref(), "HEADER", None),
        Some(Section::HeaderFields(numbers, names)) => (numbers.as_ref(), "HEADER.FIELDS", Some(names)),
        Some(Section::HeaderFieldsNot(numbers, names)) => {
            (numbers.as_ref(), "HEADER.FIELDS.NOT", Some(names))
        }
        Some(Section::Text(numbers)) => (numbers.as_ref(), "TEXT", None),
        Some(Section::Mime(numbers)) => (Some(numbers), "MIME", None),
    };
    let numbers = numbers.map(|numbers| numbers.0.as_ref().iter().map(|n| n.to_string()).collect::<Vec<_>>());
    let what = Some(what.to_owned()).filter(|what| !what.is_empty());
    label.extend_from_slice(
        numbers.into_iter().flatten().chain(what).collect::<Vec<_>>().join(".").as_bytes(),
    );
    if let Some(names) = names {
        for (number, name) in names.as_ref().iter().enumerate() {
            label.extend_from_slice(if number == 0 { b" (" } else { b" " });
            upper_case_name(&mut label, name.as_ref());
        }
        label.push(b')');
    }
    label.push(b']');
    if let Some(origin) = origin {
        label.extend_from_slice(format!("<{origin}>").as_bytes());
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use imap_codec::CommandCodec;
    use imap_codec::decode::Decoder;
    use imap_codec::imap_types::command::CommandBody;
    use imap_codec::imap_types::fetch::MacroOrMessageDataItemNames::MessageDataItemNames;

    fn plan(asked: &str) -> Plan {
        let line = format!("a FETCH 1 {asked}\r\n");
        let (_, command) = CommandCodec::default().decode(line.as_bytes()).unwrap();
        let CommandBody::Fetch { macro_or_item_names: MessageDataItemNames(names), .. } = command.body else {
            panic!("{line}")
        };
        use imap_codec::imap_types::IntoStatic;
        Plan::of(&names.into_static())
    }

    fn check_label(asked: &str, expect: &str) {
        let Some(Item::Octets(octets)) = plan(asked).items.pop() else { panic!("{asked}") };
        assert_eq!(String::from_utf8(octets.label).unwrap(), expect);
    }

    #[test]
    fn answers_are_called_as_asked_without_peek() {
        check_label("rfc822.header", "RFC822.HEADER");
        check_label("body.peek[]<7.9>", "BODY[]<7>");
        check_label("body[1.2.mime]", "BODY[1.2.MIME]");
        check_label("body[3]", "BODY[3]");
        check_label("body.peek[text]", "BODY[TEXT]");
        check_label(
            "body.peek[header.fields (subject \"x y\" \"from\")]<0.5>",
            "BODY[HEADER.FIELDS (SUBJECT \"X Y\" FROM)]<0>",
        );
        check_label("body[2.header.fields.not (a)]", "BODY[2.HEADER.FIELDS.NOT (A)]");
    }

    #[test]
    fn no_more_is_opened_than_must_be() {
        assert_eq!(plan("(flags uid)").need, Need::Row);
        assert_eq!(plan("(uid rfc822.size internaldate)").need, Need::Entry);
        assert_eq!(plan("(uid envelope body[header])").need, Need::Message);
        assert_eq!(plan("(body[] body[1] body[1] body[header] body[]<0.5>)").large, 4);
    }
}
