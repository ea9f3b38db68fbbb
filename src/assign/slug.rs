//! The folder name of a user: a primary address in characters that no mail client, file system or shell trips over.

/// `[a-z0-9@._+-]` as they are, ASCII letters lower-cased first, every other octet as `=XX`.
///
/// Two addresses that differ in more than ASCII case have different slugs: `=` itself is written `=3D`. `/`, the
/// folder delimiter, is written `=2F`, so no address can climb out of its user's folder.
pub fn slug(primary_address: &str) -> String {
    let mut slug = String::with_capacity(primary_address.len());
    for byte in primary_address.bytes() {
        match byte.to_ascii_lowercase() {
            plain @ (b'a'..=b'z' | b'0'..=b'9' | b'@' | b'.' | b'_' | b'+' | b'-') => {
                slug.push(char::from(plain))
            }
            other => slug.push_str(&format!("={other:02X}")),
        }
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(address: &str, expect: &str) {
        assert_eq!(slug(address), expect, "{address}");
    }

    #[test]
    fn keeps_plain_characters_and_writes_the_others_as_octets() {
        check("Bob.B+x_y-z@X.Example", "bob.b+x_y-z@x.example");
        check("o'hara/x@y.example", "o=27hara=2Fx@y.example");
        check("a=2f@y.example", "a=3D2f@y.example");
        check("zoë@bücher.example", "zo=C3=AB@b=C3=BCcher.example");
        check("\"a b\"@c", "=22a=20b=22@c");
        check("", "");
    }

    proptest! {
        #[test]
        fn is_safe_and_tells_addresses_apart(one in "\\PC{0,20}", two in "\\PC{0,20}") {
            let safe = |c: char| matches!(c, 'a'..='z' | 'A'..='F' | '0'..='9' | '@' | '.' | '_' | '+' | '-' | '=');
            prop_assert!(slug(&one).chars().all(safe));
            prop_assert_eq!(slug(&one) == slug(&two), one.eq_ignore_ascii_case(&two));
        }
    }
}
