//! Bounces of journal reports that are no MIME.

use super::*;

const EXIM: &str = "X-Failed-Recipients: mbx@gw.example\r\nSubject: Mail delivery failed\r\n\r\nThis message was created \
                    automatically by mail delivery software.\r\n\r\n  mbx@gw.example\r\n    retry timeout exceeded\r\n\r\n";
const EXIM_CUT: &str = "------ This is a copy of the message, including all the headers. ------\r\n\r\n";
const QMAIL: &str = "Subject: failure notice\r\n\r\nHi. This is the qmail-send program at mx.example.\r\nSorry.\r\n\r\n\
                     --- Below this line is a copy of the message.\r\n\r\n";

fn report() -> Vec<u8> {
    [b"Return-path: <ndr@x.example>\r\n".as_slice(), &journal(&[original("<o@x>", "hello")])].concat()
}

fn bounce(text: &str) -> Vec<u8> {
    [text.as_bytes(), &report()].concat()
}

#[test]
fn the_report_behind_the_line_is_cut_out_exactly() {
    for (text, outer) in
        [(format!("{EXIM}{EXIM_CUT}"), false), (QMAIL.to_owned(), false), (QMAIL.to_owned(), true)]
    {
        let mut whole = bounce(&text);
        if outer {
            whole = ndr("_outer_", part("message/rfc822", &whole));
        }
        for whole in [whole.clone(), String::from_utf8(whole).unwrap().replace("\r\n", "\n").into_bytes()] {
            for chunk_octets in [1, 7, usize::MAX] {
                let found = scan(&whole, chunk_octets);
                assert_eq!((found.class, found.destination), (Class::JournalNdr, Destination::Assign));
                assert_eq!(kinds(&found), [DefectKind::NonMimeBounce]);
                let cut =
                    String::from_utf8(octets(&whole, &found, &found.reports[0].originals[0].facts.extent))
                        .unwrap();
                assert_eq!(
                    cut.replace(['\r', '\n'], ""),
                    "From: a@x.exampleMessage-ID: <o@x>Subject: shello"
                );
                let extent = found.reports[0].extent;
                assert!(octets(&whole, &found, &extent).starts_with(b"Return-path: <ndr@x.example>"));
                assert_eq!(found.returned.len(), if outer { 2 } else { 1 });
            }
        }
    }
}

#[test]
fn a_copy_that_may_be_cut_is_never_complete() {
    let note = "------ This is a copy of the message, including all the headers.\r\n------ The body of the message is 9000 \
                characters long; only the first\r\n------ 1000 or so are included here.\r\n\r\n";
    let said = scan(&bounce(&format!("{EXIM}{note}")), usize::MAX);
    assert_eq!((said.class, said.destination), (Class::JournalNdr, Destination::Quarantine));
    assert_eq!(kinds(&said), [DefectKind::NonMimeBounce, DefectKind::ReturnedMessageCut]);
    let whole = bounce(&format!("{EXIM}{EXIM_CUT}"));
    let close = whole.len() - "--\r\n".len();
    for cut_at in (0..close).step_by(3) {
        let found = scan(&whole[..cut_at], usize::MAX);
        assert_ne!(found.destination, Destination::Assign, "cut at {cut_at}");
    }
}

#[test]
fn a_bounce_of_ordinary_mail_is_a_bounce_and_a_mail_that_quotes_one_is_plain() {
    let ordinary = original("<o@x>", "hello");
    let found = scan(&[EXIM.as_bytes(), EXIM_CUT.as_bytes(), &ordinary].concat(), usize::MAX);
    assert_eq!((found.class, found.destination), (Class::Ndr, Destination::Unassigned));
    assert!(found.reports.is_empty());
    let nothing = scan(EXIM.as_bytes(), usize::MAX);
    assert_eq!((nothing.class, nothing.destination), (Class::Ndr, Destination::Unassigned));
    for quoted in [
        [b"Subject: look\r\n\r\n".as_slice(), EXIM_CUT.as_bytes(), &report()].concat(),
        [b"Subject: look\r\n\r\nlook at this:\r\n".as_slice(), QMAIL.as_bytes(), &report()].concat(),
    ] {
        let found = scan(&quoted, usize::MAX);
        assert_eq!((found.class, found.destination), (Class::Plain, Destination::Unassigned));
        assert!(found.reports.is_empty() && found.defects.is_empty());
    }
}

#[test]
fn a_bounce_inside_an_original_stays_inside() {
    let message = [b"Message-ID: <o@x>\r\n".as_slice(), &bounce(&format!("{EXIM}{EXIM_CUT}"))].concat();
    // Its report's delimiters must not end the report around it.
    let message = String::from_utf8(message).unwrap().replace("_wrapper_", "_inner_").into_bytes();
    check_wrapped(&message, &journal(std::slice::from_ref(&message)), Class::JournalReport, 7);
}

#[test]
fn a_header_alone_behind_the_line_is_a_report_lost() {
    let text = format!("{EXIM}------ This is a copy of the message's headers. ------\r\n\r\n");
    let header = format!(
        "Message-ID: {REPORT_ID}\r\nX-MS-Journal-Report:\r\nX-MS-Exchange-Parent-Message-Id: <o@x>\r\n\r\n"
    );
    let found = scan((text + &header).as_bytes(), usize::MAX);
    assert_eq!((found.class, found.destination), (Class::NdrWithoutReport, Destination::Quarantine));
    assert_eq!(found.parent_message_id.as_deref(), Some("<o@x>"));
    assert_eq!(found.returned_message_id.as_deref(), Some(REPORT_ID));
}
