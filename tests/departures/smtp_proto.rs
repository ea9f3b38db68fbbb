//! `smtp-proto`, whose request parser we use: its receiver of DATA, which we do not. (What its request parser gets wrong is
//! shown beside our own reading of MAIL, RCPT and BDAT, in `src/smtp/command.rs`.)

use super::still;
use smtp_proto::request::receiver::DataReceiver;

const OWN_SCANNER: &str = "D1, our own scanner for the end of DATA";

/// Whether a body ends within `octets`, given after DATA; and what it is, so far.
fn receive(octets: &[u8]) -> (bool, Vec<u8>) {
    let mut body = Vec::new();
    let ended = DataReceiver::new().ingest(&mut octets.iter(), &mut body);
    (ended, body)
}

#[test]
fn a_body_that_is_empty_never_ends() {
    assert_eq!(receive(b"Hello.\r\n.\r\nQUIT\r\n"), (true, b"Hello.\r\n".to_vec()));
    // RFC 5321 §4.1.1.4: the CRLF of the DATA line counts as the first of the five octets.
    let (ended, body) = receive(b".\r\nQUIT\r\n");
    still(!ended && body.ends_with(b"QUIT\r\n"), OWN_SCANNER, "a first line of one dot never ends a body");
}

#[test]
fn a_body_ends_at_crlf_dot_cr_cr_lf() {
    let (ended, _) = receive(b"Hello.\r\n.\r\r\nMAIL FROM:<forged@b.example>\r\n");
    still(ended, OWN_SCANNER, "CRLF . CR CR LF ends a body");
}
