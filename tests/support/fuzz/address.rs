//! Fuzz target `address`: whatever text comes, an address is what RFC 5321 §4.1.2 and RFC 6531 §3.3 allow, comes back as
//! it was written, and no two writings share a key but those that differ in ASCII case. Run by `tests/fuzz` and, over
//! all that was ever found, by `tests/fuzz_replay.rs`.
//!
//! Input: the text, tried as an address, between the brackets of MAIL and RCPT, and as a whole command line.

use daybook::mail::{Address, AddressKey, ReversePath};
use daybook::smtp::command::{Command, ForwardPath};

/// Panics when something that is no address is taken for one, or one is changed.
pub(crate) fn run(input: &[u8]) {
    if let Ok(address) =
        str::from_utf8(input).map_err(drop).and_then(|text| Address::parse(text).map_err(drop))
    {
        assert_eq!(address.as_str().as_bytes(), input, "not kept as written");
        check(&address);
    }
    check_line(input);
    for start in [&b"RCPT TO:<"[..], b"MAIL FROM:<"] {
        check_line(&[start, input, b">"].concat());
        check_line(&[start, input, b"> SMTPUTF8"].concat());
    }
}

/// Reads a command line; any address in it must be one, and must have been written in it.
fn check_line(line: &[u8]) {
    let parsed = Command::parse(&[line, b"\r\n"].concat());
    let garbled = line.iter().any(|octet| b"\r\n\0".contains(octet));
    assert!(!garbled || parsed.is_err(), "a line with CR, LF or NUL was taken for {parsed:?}");
    let address = match parsed {
        Ok(Command::Rcpt(ForwardPath::Address(address))) => address,
        Ok(Command::Mail(mail)) => match mail.reverse_path {
            ReversePath::Address(address) => address,
            ReversePath::Null => return,
        },
        _ => return,
    };
    let written = [address.as_str().as_bytes(), b">"].concat();
    assert!(
        line.windows(written.len()).any(|octets| octets == written),
        "{address:?} does not stand in the line"
    );
    check(&address);
}

fn check(address: &Address) {
    let text = address.to_string();
    assert_eq!(Address::parse(&text).as_ref(), Ok(address), "does not come back");
    assert_eq!(format!("{}@{}", address.local(), address.domain()), text, "parts do not make the whole");
    assert!(!text.bytes().any(|octet| octet < b' ' || octet == 0x7f), "control character in {text:?}");
    assert!(
        (1..=64).contains(&address.local().len()) && (1..=255).contains(&address.domain().len()),
        "{text:?}"
    );
    assert!(!address.domain().contains('@'), "{text:?}");
    let command = Command::parse(format!("RCPT TO:<{text}>\r\n").as_bytes());
    assert_eq!(command, Ok(Command::Rcpt(ForwardPath::Address(address.clone()))), "RCPT reads another");
    check_key(address);
}

/// The key is the writing with ASCII letters lower-cased and nothing else.
fn check_key(address: &Address) {
    let key = address.key();
    assert_eq!(
        AddressKey::of(key.as_str()).as_str(),
        key.as_str().trim_ascii(),
        "the key of a key is another"
    );
    let folded: Vec<u8> = address.as_str().bytes().map(|octet| octet.to_ascii_lowercase()).collect();
    assert_eq!(key.as_str().as_bytes(), folded, "another address has this key");
    let upper = Address::parse(&address.as_str().to_ascii_uppercase()).expect("case does not matter");
    assert_eq!(upper.key(), key);
}
