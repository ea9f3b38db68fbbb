//! Addresses in one field, as Exchange and others write them.
//!
//! ```text
//! SMTP:bob@x.example;smtp:b@x.example;X500:/o=Org Ltd/ou=…/cn=bob;SIP:bob@x.example     joined, the usual way
//! {SMTP:bob@x.example, smtp:b@x.example, X500:/o=Org Ltd/ou=…/cn=bob}                   as a shell shows lists
//! SMTP:bob@x.example smtp:b@x.example EUM:1234;phone-context=x.example                   with blanks
//! bob@x.example|b@x.example                                                             without types
//! ```
//! X.500 names may hold blanks and commas themselves: what has no type belongs to the name before it.

/// Longest type, in octets.
const TYPE_OCTETS_MAX: usize = 16;
/// Beginnings of what PowerShell writes for a list that nobody joined.
const TYPE_NAMES: [&str; 3] = ["Microsoft.Exchange.Data.", "System.", "Deserialized."];

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

/// The addresses of a field, in its order, each with its type where it has one.
///
/// # Errors
/// [`FieldFault`]: there are more, and they do not stand there.
pub(super) fn split(field: &str) -> Result<Vec<&str>, FieldFault> {
    let field = field.trim();
    if !field.contains('@') && TYPE_NAMES.iter().any(|name| field.starts_with(name)) {
        return Err(FieldFault::TypeName);
    }
    let inside = field.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(field);
    if inside.ends_with("...") || inside.ends_with('…') {
        return Err(FieldFault::Cut);
    }
    Ok(pieces(inside))
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

    #[test]
    fn addresses_are_found_whatever_stands_between_them() {
        let expect = ["SMTP:bob@x.example", "smtp:b@x.example"];
        for between in [";", "; ", "|", ",", ", ", " ", "\r\n", " ; "] {
            let typed = format!("SMTP:bob@x.example{between}smtp:b@x.example");
            assert_eq!(split(&typed).unwrap(), expect, "{between:?}");
            let bare = format!("bob@x.example{between}b@x.example{between}");
            assert_eq!(split(&bare).unwrap(), ["bob@x.example", "b@x.example"], "{between:?}");
        }
        assert_eq!(split("{SMTP:bob@x.example, smtp:b@x.example}").unwrap(), expect);
        assert_eq!(split("  ").unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn names_with_blanks_and_commas_stay_whole() {
        let name = "X500:/o=Contoso Ltd, Inc/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn=bob";
        for between in [";", ", ", " ", "|"] {
            let field =
                format!("smtp:b@x.example{between}{name}{between}SMTP:bob@x.example{between}c@x.example");
            let expect = ["smtp:b@x.example", name, "SMTP:bob@x.example", "c@x.example"];
            assert_eq!(split(&field).unwrap(), expect, "{between:?}");
        }
        let field = "x500:/o=A B/cn=bob@x smtp:b@x.example";
        assert_eq!(split(field).unwrap(), ["x500:/o=A B/cn=bob@x", "smtp:b@x.example"]);
        let field = "EUM:1234;phone-context=x.example;x400:C=us;A= ;P=Org;smtp:b@x.example;bob";
        let expect = ["EUM:1234;phone-context=x.example", "x400:C=us;A= ;P=Org", "smtp:b@x.example", "bob"];
        assert_eq!(split(field).unwrap(), expect);
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
            assert_eq!(split(field), Err(fault), "{field}");
        }
    }
}
