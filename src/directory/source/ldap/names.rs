//! Distinguished names (RFC 4514) and what of them goes into filters (RFC 4515); which domains mail can be for.

use crate::mail::Address;

/// Last labels of domains that no mail comes from: what organisations call their directory inside.
const UNROUTABLE: &[&str] = &[
    "local",
    "localdomain",
    "localhost",
    "lan",
    "internal",
    "intranet",
    "corp",
    "home",
    "private",
    "invalid",
    "test",
    "arpa",
];

/// What two names of the same entry share: letters in lower case, no blanks around names, values and separators, escapes as octets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DnKey(Vec<u8>);

impl DnKey {
    pub(super) fn of(dn: &str) -> DnKey {
        // Separators become octets that no text has, so that an escaped comma cannot pass for one.
        const COMMA: u8 = 0xff;
        const EQUALS: u8 = 0xfe;
        const PLUS: u8 = 0xfd;
        let mut key = Vec::with_capacity(dn.len());
        let mut kept = 0;
        let mut rest = dn.trim().bytes().peekable();
        let mut in_value = false;
        while let Some(octet) = rest.next() {
            let separator = match octet {
                b',' | b';' => Some(COMMA),
                b'+' => Some(PLUS),
                b'=' if !in_value => Some(EQUALS),
                _ => None,
            };
            if let Some(separator) = separator {
                trim_end(&mut key, kept);
                key.push(separator);
                kept = key.len();
                in_value = separator == EQUALS;
                while rest.next_if_eq(&b' ').is_some() {}
            } else if octet == b'\\' {
                let escaped = rest.next().unwrap_or(b'\\');
                let low = rest.peek().copied().and_then(hex);
                match (hex(escaped), low) {
                    (Some(high), Some(low)) => {
                        rest.next();
                        key.push((high << 4 | low).to_ascii_lowercase());
                    }
                    _ => key.push(escaped.to_ascii_lowercase()),
                }
                kept = key.len();
            } else {
                key.push(octet.to_ascii_lowercase());
            }
        }
        DnKey(key)
    }

    /// Whether the entry lies in the tree under `base`, or is its top.
    pub(super) fn is_under(&self, base: &DnKey) -> bool {
        let Some(above) = self.0.strip_suffix(base.0.as_slice()) else { return false };
        base.0.is_empty() || above.is_empty() || above.ends_with(&[0xff])
    }
}

fn trim_end(key: &mut Vec<u8>, kept: usize) {
    while key.len() > kept && key.last() == Some(&b' ') {
        key.pop();
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The top of the domain that a name of Active Directory lies in: from its first `DC=` on; `None` when it has none.
pub(super) fn domain_of(dn: &str) -> Option<&str> {
    let lower = dn.to_ascii_lowercase();
    let start = if lower.starts_with("dc=") { 0 } else { lower.find(",dc=")? + 1 };
    dn.get(start..)
}

/// A filter with the parentheses around it that it needs in a larger one.
pub(super) fn enclosed(filter: &str) -> String {
    let filter = filter.trim();
    if filter.starts_with('(') { filter.to_owned() } else { format!("({filter})") }
}

/// Whether mail can come from this address' domain, by its looks.
pub(super) fn is_routable(address: &Address) -> bool {
    let domain = address.domain().to_ascii_lowercase();
    domain.rsplit_once('.').is_some_and(|(above, last)| !above.is_empty() && !UNROUTABLE.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_entry_are_equal_however_they_are_written() {
        let same = |one: &str, two: &str| DnKey::of(one) == DnKey::of(two);
        assert!(same("CN=Bob Baker,OU=Staff,DC=x", "cn=bob baker, ou = staff ,dc=X"));
        assert!(same("cn=Baker\\, Bob,dc=x", "CN=Baker\\2c Bob,DC=x"));
        assert!(same("cn=J\\c3\\bcrgen,dc=x", "cn=Jürgen,dc=x"));
        assert!(same("cn=a=b,dc=x", "cn=a\\3Db,dc=x"));
        assert!(!same("cn=Baker\\, Bob,dc=x", "cn=Baker,Bob,dc=x"));
        assert!(!same("cn=a,dc=x", "cn=a,dc=x,dc=y"));
        assert!(!same("cn=a+b=c,dc=x", "cn=a,b=c,dc=x"));
        assert!(same("cn=end\\ ,dc=x", "cn=end\\20,dc=x") && !same("cn=end\\ ,dc=x", "cn=end,dc=x"));
    }

    #[test]
    fn knows_what_lies_under_a_base() {
        let under = |dn: &str, base: &str| DnKey::of(dn).is_under(&DnKey::of(base));
        assert!(
            under("cn=a,ou=Groups,dc=x", "OU=groups, DC=x") && under("dc=x", "dc=x") && under("cn=a", "")
        );
        assert!(!under("cn=a,ou=mygroups,dc=x", "groups,dc=x"));
        assert!(!under("cn=a,dc=x", "ou=groups,dc=x"));
    }

    #[test]
    fn finds_the_domain_of_a_name() {
        assert_eq!(domain_of("CN=All,OU=Groups,DC=corp,DC=example"), Some("DC=corp,DC=example"));
        assert_eq!(domain_of("dc=example"), Some("dc=example"));
        assert_eq!(domain_of("cn=All,o=example"), None);
    }

    #[test]
    fn encloses_a_filter_once() {
        assert_eq!(enclosed(" mail=* "), "(mail=*)");
        assert_eq!(enclosed("(&(a=b)(c=d))"), "(&(a=b)(c=d))");
    }

    #[test]
    fn takes_no_directory_name_for_a_mail_domain() {
        let routable = |text: &str| is_routable(&Address::parse(text).unwrap());
        assert!(routable("a@x.example") && routable("a@contoso.onmicrosoft.com"));
        assert!(!routable("a@corp.local") && !routable("a@ad.Internal") && !routable("a@localhost"));
    }
}
