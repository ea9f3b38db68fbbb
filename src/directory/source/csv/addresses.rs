//! Addresses in one field, as Exchange and others write them.
//!
//! ```text
//! SMTP:bob@x.example;smtp:b@x.example;X500:/o=Org Ltd/ou=…/cn=bob;SIP:bob@x.example     joined, the usual way
//! {SMTP:bob@x.example, smtp:b@x.example, X500:/o=Org Ltd/ou=…/cn=bob}                   as a shell shows lists
//! SMTP:bob@x.example smtp:b@x.example EUM:1234;phone-context=x.example                   with blanks
//! bob@x.example|b@x.example                                                             without types
//! ```
//! X.500 names may hold blanks and commas themselves: what has no type belongs to the name before it.

use crate::directory::snapshot::ProxyAddress;
use crate::mail::{Address, AddressError};

/// Longest type, in octets.
const TYPE_OCTETS_MAX: usize = 16;
/// Beginnings of what PowerShell writes for a list that nobody joined.
const TYPE_NAMES: [&str; 3] = ["Microsoft.Exchange.Data.", "System.", "Deserialized."];

/// What one address of a field is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listed<'a> {
    /// One that mail may be addressed to. The first is marked where its type is in capitals.
    Ours { address: ProxyAddress, is_primary: bool },
    /// Of a kind that no mail has: SIP, SPO, EUM.
    Foreign,
    /// None at all.
    Bad(&'a str, AddressError),
}

/// Why a field cannot be read as addresses. The fault of whoever wrote the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldFault {
    /// The name of a type stands for them.
    TypeName,
    /// The rest was left out for people.
    Cut,
}

impl FieldFault {
    pub(super) fn advice(self) -> &'static str {
        match self {
            FieldFault::TypeName => {
                "holds the name of a type instead of addresses: join them before Export-Csv, as in Select-Object *, \
                 @{n='EmailAddresses';e={$_.EmailAddresses -join ';'}} -ExcludeProperty EmailAddresses"
            }
            FieldFault::Cut => {
                "ends with \"...\": addresses were left out; join them before Export-Csv with -join ';'"
            }
        }
    }
}

/// The addresses of a field, in its order.
///
/// # Errors
/// [`FieldFault`]: there are more, and they do not stand there.
pub(super) fn read(field: &str) -> Result<Vec<Listed<'_>>, FieldFault> {
    let field = field.trim();
    if !field.contains('@') && TYPE_NAMES.iter().any(|name| field.starts_with(name)) {
        return Err(FieldFault::TypeName);
    }
    let inside = field.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(field);
    if inside.ends_with("...") || inside.ends_with('…') {
        return Err(FieldFault::Cut);
    }
    Ok(pieces(inside).into_iter().map(listed).collect())
}

fn listed(piece: &str) -> Listed<'_> {
    let (kind, rest) = typed(piece).map_or(("smtp", piece), |(kind, rest)| (kind, rest));
    let read = if kind.eq_ignore_ascii_case("smtp") {
        Address::parse(rest).map(ProxyAddress::Smtp)
    } else if kind.eq_ignore_ascii_case("x500") {
        ProxyAddress::parse(piece)
    } else {
        return Listed::Foreign;
    };
    match read {
        Ok(address) => Listed::Ours { address, is_primary: kind == "SMTP" },
        Err(error) => Listed::Bad(piece, error),
    }
}

/// `SMTP` and what is behind its colon.
fn typed(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.split_once(':')?;
    let is_type = (2..=TYPE_OCTETS_MAX).contains(&kind.len())
        && kind.bytes().all(|octet| octet.is_ascii_alphanumeric());
    is_type.then_some((kind, rest))
}

fn pieces(text: &str) -> Vec<&str> {
    // From where to where; a name goes on over what separates others.
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    for word in text.split([';', '|', ',', ' ', '\t', '\r', '\n']) {
        let (start, end) = (at, at + word.len());
        at = end + 1;
        if word.is_empty() {
            continue;
        }
        match pieces.last_mut() {
            Some(last) if text.get(last.0..last.1).is_some_and(|piece| goes_on(piece, word)) => last.1 = end,
            _ => pieces.push((start, end)),
        }
    }
    pieces.into_iter().filter_map(|(start, end)| text.get(start..end)).collect()
}

/// True when `word` is still of the name that `piece` begins.
fn goes_on(piece: &str, word: &str) -> bool {
    let is_name = typed(piece).is_some_and(|(kind, _)| !kind.eq_ignore_ascii_case("smtp"));
    // An address without type has neither before its @ where a level of a name has one.
    let is_level = word.split('@').next().is_some_and(|start| start.contains(['/', '=']));
    is_name && typed(word).is_none() && (!word.contains('@') || is_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(field: &str) -> Vec<String> {
        let show = |listed: Listed<'_>| match listed {
            Listed::Ours { address, is_primary: true } => format!("!{address}"),
            Listed::Ours { address, .. } => address.to_string(),
            Listed::Foreign => "-".to_owned(),
            Listed::Bad(text, _) => format!("?{text}"),
        };
        read(field).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn addresses_are_found_whatever_stands_between_them() {
        let expect = ["!bob@x.example", "b@x.example"];
        for between in [";", "; ", "|", ",", ", ", " ", "\r\n", " ; "] {
            assert_eq!(shown(&format!("SMTP:bob@x.example{between}smtp:b@x.example")), expect, "{between:?}");
            let bare = format!("bob@x.example{between}b@x.example{between}");
            assert_eq!(shown(&bare), ["bob@x.example", "b@x.example"], "{between:?}");
        }
        assert_eq!(shown("{SMTP:bob@x.example, smtp:b@x.example}"), expect);
        assert_eq!(shown("  "), Vec::<String>::new());
    }

    #[test]
    fn names_with_blanks_and_commas_stay_whole() {
        let name = "X500:/o=Contoso Ltd, Inc/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn=bob";
        for between in [";", ", ", " ", "|"] {
            let field =
                format!("smtp:b@x.example{between}{name}{between}SMTP:bob@x.example{between}c@x.example");
            let expect = ["b@x.example", name, "!bob@x.example", "c@x.example"];
            assert_eq!(shown(&field), expect, "{between:?}");
        }
        assert_eq!(shown("x500:/o=A B/cn=bob@x smtp:b@x.example"), ["x500:/o=A B/cn=bob@x", "b@x.example"]);
    }

    #[test]
    fn what_is_no_address_of_mail_is_left_out_and_what_is_none_at_all_is_told() {
        let field = "SIP:bob@x.example;SPO:SPO_1@SPO_2;EUM:1234;phone-context=x.example;x400:C=us;A= ;P=Org;smtp:b@x.example";
        assert_eq!(shown(field), ["-", "-", "-", "-", "b@x.example"]);
        assert_eq!(shown("smtp:bob;b@x.example;bob"), ["?smtp:bob", "b@x.example", "?bob"]);
    }

    #[test]
    fn a_list_that_the_shell_did_not_write_out_is_a_fault() {
        for (field, fault) in [
            ("Microsoft.Exchange.Data.ProxyAddressCollection", FieldFault::TypeName),
            ("System.Collections.ArrayList", FieldFault::TypeName),
            ("Deserialized.Microsoft.Exchange.Data.ProxyAddressCollection", FieldFault::TypeName),
            ("{SMTP:bob@x.example, smtp:b@x.example...}", FieldFault::Cut),
            ("{SMTP:bob@x.example, smtp:b@x.example…}", FieldFault::Cut),
        ] {
            assert_eq!(read(field), Err(fault), "{field}");
        }
    }
}
