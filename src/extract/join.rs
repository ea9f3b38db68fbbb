//! The header part of the `join` digest input. **An on-disk contract**: stored digests depend on every octet.
//!
//! Forks and re-sent copies of one message differ in Received and X-MS lines only. So the store joins them by a keyed
//! digest over
//!
//! ```text
//! for each of Message-ID, From, To, Cc, Subject, Date, in this order:
//!     u64 BE   number of fields with that name (ASCII case ignored)
//!     for each of them, in the order of the header:
//!         u64 BE   octets of the value
//!         octets   the value
//! ```
//!
//! followed by everything behind the header block, as received; of a message whose header block has no end, by all of it,
//! behind six empty groups. A value is what stands behind the colon, with every
//! LF and a CR directly before it removed (RFC 5322 §2.2.3: the blank that follows a fold stays) and blanks (space,
//! tab, CR) trimmed at both ends. The counts and lengths make the encoding injective: no value can pose as two.
//!
//! A header block that is longer than what is kept of one gets a seventh group: count 1, then the octets of the whole
//! block as `u64 BE` in a value of 8 octets. What was not kept cannot be compared, so such copies join only when
//! their headers are equally long.

use super::header::fields;

const JOINED_FIELDS: [&str; 6] = ["Message-ID", "From", "To", "Cc", "Subject", "Date"];

/// Builds the header part of the `join` digest input from a header block, with or without its empty line.
/// See the [module page](self) for the format.
pub fn join_prefix(header_block: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    for name in JOINED_FIELDS {
        let values: Vec<Vec<u8>> =
            fields(header_block).filter(|f| f.is(name)).map(|f| f.unfolded()).collect();
        put_group(&mut prefix, &values);
    }
    prefix
}

/// [`join_prefix`] of a header block of which only the start was kept.
pub(super) fn join_prefix_of_cut(header_block: &[u8], octets: u64) -> Vec<u8> {
    let mut prefix = join_prefix(header_block);
    put_group(&mut prefix, &[octets.to_be_bytes().to_vec()]);
    prefix
}

fn put_group(prefix: &mut Vec<u8>, values: &[Vec<u8>]) {
    prefix.extend_from_slice(&(values.len() as u64).to_be_bytes());
    for value in values {
        prefix.extend_from_slice(&(value.len() as u64).to_be_bytes());
        prefix.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_never_changes() {
        let prefix = join_prefix(b"Received: x\r\nsubject:  a\r\n\tb \r\nTo: c\nTO: d\n\nTo: body\n");
        let mut expect = Vec::new();
        for group in [&[] as &[&[u8]], &[], &[b"c", b"d"], &[], &[b"a\tb"], &[]] {
            expect.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, group.len() as u8]);
            for value in group {
                expect.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, value.len() as u8]);
                expect.extend_from_slice(value);
            }
        }
        assert_eq!(prefix, expect);
    }

    #[test]
    fn forks_give_the_same_and_other_mail_does_not() {
        let one = join_prefix(b"Received: a\r\nX-MS-A: 1\r\nMessage-ID: <m>\r\nSubject: s\r\n\r\n");
        assert_eq!(one, join_prefix(b"Received: b\nMessage-Id:<m>\nSUBJECT: s\n"));
        assert_ne!(one, join_prefix(b"Message-ID: <m>\r\nSubject: s\r\nSubject: t\r\n"));
        assert_ne!(join_prefix(b"To: a\r\nTo: b\r\n"), join_prefix(b"To: a\r\nCc: b\r\n"));
    }
}
