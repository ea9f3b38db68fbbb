//! `mailin`, the protocol under `mailin-embedded`: a session fed line by line, without sockets.

use super::{OWN_ENGINE, still};
use mailin::response::{INTERNAL_ERROR, OK};
use mailin::{Action, Handler, Response, Session, SessionBuilder};
use std::io;
use std::net::Ipv4Addr;

/// Keeps what it is given as body; answers 451 to the final dot.
#[derive(Default)]
struct Defers<'a> {
    body: Option<&'a std::cell::RefCell<Vec<u8>>>,
}

impl Handler for Defers<'_> {
    fn data(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some(body) = self.body {
            body.borrow_mut().extend_from_slice(octets);
        }
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        INTERNAL_ERROR
    }
}

fn session<H: Handler>(handler: H) -> Session<H> {
    let mut session = SessionBuilder::new("mx.example").build(Ipv4Addr::LOCALHOST.into(), handler);
    assert_eq!(session.process(b"EHLO client.example\r\n").code, 250);
    session
}

#[test]
fn refuses_the_null_reverse_path_of_every_ndr_and_the_size_exchange_sends() {
    for (line, what) in [
        ("MAIL FROM:<>\r\n", "the null reverse-path is refused"),
        ("MAIL FROM:<a@b.example> SIZE=75000\r\n", "SIZE= is refused"),
        ("MAIL FROM:<a@b.example> BODY=8BITMIME SIZE=75000\r\n", "SIZE= is refused behind BODY="),
    ] {
        still(session(Defers::default()).process(line.as_bytes()).code == 500, OWN_ENGINE, what);
    }
    assert_eq!(session(Defers::default()).process(b"MAIL FROM:<a@b.example>\r\n").code, OK.code);
}

#[test]
fn offers_neither_size_nor_chunking_and_does_not_know_bdat() {
    let mut session = session(Defers::default());
    let offer = String::from_utf8(session.process(b"EHLO client.example\r\n").buffer().unwrap()).unwrap();
    assert!(offer.contains("8BITMIME"), "{offer}");
    for extension in ["SIZE", "CHUNKING"] {
        still(!offer.contains(extension), OWN_ENGINE, &format!("{extension} is not offered"));
    }
    session.process(b"MAIL FROM:<a@b.example>\r\n");
    session.process(b"RCPT TO:<journal@gw.example>\r\n");
    still(session.process(b"BDAT 5 LAST\r\n").code == 500, OWN_ENGINE, "BDAT is not known");
}

#[test]
fn takes_commands_for_body_after_a_4xx_to_the_final_dot() {
    let body = std::cell::RefCell::default();
    let mut session = session(Defers { body: Some(&body) });
    for line in ["MAIL FROM:<a@b.example>\r\n", "RCPT TO:<journal@gw.example>\r\n", "DATA\r\n"] {
        assert!(!session.process(line.as_bytes()).is_error);
    }
    session.process(b"Subject: one\r\n");
    assert_eq!(session.process(b".\r\n").code, 451);
    for line in ["RSET\r\n", "QUIT\r\n"] {
        let unanswered = session.process(line.as_bytes()).action == Action::NoReply;
        still(unanswered, OWN_ENGINE, "after a 4xx, RSET and QUIT are body and get no answer");
    }
    still(body.borrow().ends_with(b"RSET\r\nQUIT\r\n"), OWN_ENGINE, "after a 4xx, RSET and QUIT are body");
}
