//! `mail-parser`, which we use for header fields and single parts: its parse of a whole message, which we do not.

use super::{child, still};
use daybook::extract::{Scanner, extract};
use daybook::mail::Profile;
use mail_parser::{Message, MessageParser, PartType};
use std::os::unix::process::ExitStatusExt;

const OWN_SPLITTER: &str = "D2, our own splitter of whole messages";

/// Octets of nested messages. How many it takes depends on the build; unoptimised, 450 KB are enough, and 1.8 MB for the
/// 8 MiB of a main thread.
const NESTED_OCTETS: usize = 1_300_000;
/// The stack of a thread of `std` and of `tokio`, where a server would parse.
const STACK_OCTETS: usize = 2 * 1024 * 1024;

#[test]
fn aborts_the_process_on_nested_messages() {
    let ended = child::run("mail_parser::aborts_the_process_on_nested_messages", || {
        let parse = || {
            let level = b"Content-Type: message/rfc822\r\n\r\n";
            let mail = level.repeat(NESTED_OCTETS / level.len());
            drop(MessageParser::default().parse(&mail));
        };
        std::thread::Builder::new().stack_size(STACK_OCTETS).spawn(parse).unwrap().join().unwrap();
    });
    let aborted = ended.output.status.signal() == Some(rustix::process::Signal::ABORT.as_raw());
    assert!(aborted || ended.survived(), "the child failed: {}", ended.complaint());
    still(aborted, OWN_SPLITTER, "1.3 MB of nested message/rfc822 overflow a stack of 2 MiB");
}

/// A journal report around `original`.
fn report(original: &str) -> String {
    format!(
        "X-MS-Journal-Report:\r\nMessage-ID: <1@journal.report.generator>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"outer\"\r\n\r\n--outer\r\nContent-Type: text/plain\r\n\r\n\
         Sender: a@example.com\r\nSubject: s\r\nMessage-Id: <o@example.com>\r\nTo: b@example.com\r\n\r\n\
         --outer\r\nContent-Type: message/rfc822\r\n\r\n{original}\r\n--outer--\r\n"
    )
}

/// The message attached to `mail`, as `mail-parser` cuts it.
fn cut_by_mail_parser(mail: &str) -> Option<&str> {
    let message: Message<'_> = MessageParser::default().parse(mail)?;
    let attached = message.parts.iter().find(|part| matches!(part.body, PartType::Message(_)))?;
    mail.get(attached.offset_body as usize..attached.offset_end as usize)
}

/// The original in `report`, as our splitter cuts it.
fn cut_by_us(report: &str) -> Option<&str> {
    let mut scanner = Scanner::new();
    scanner.push(report.as_bytes());
    let extraction = extract(&scanner.finish(), Profile::Microsoft365);
    let extent = extraction.reports.first()?.originals.first()?.facts.extent;
    report.get(extent.offset as usize..(extent.offset + extent.octets) as usize)
}

/// Both cut `original` out of a report: we as it is, `mail-parser` as `wrong` says.
#[track_caller]
fn check(original: &str, fault: &str, wrong: impl Fn(&str) -> bool) {
    let mail = report(original);
    assert_eq!(cut_by_us(&mail), Some(original));
    let cut = cut_by_mail_parser(&mail);
    still(cut != Some(original) && cut.is_some_and(wrong), OWN_SPLITTER, fault);
}

#[test]
fn cuts_an_original_short_where_its_text_quotes_the_boundary() {
    let head = "Message-ID: <o@example.com>\r\nSubject: s\r\n\r\n";
    let plain = format!("{head}Hello.\r\n");
    assert_eq!(cut_by_mail_parser(&report(&plain)), Some(plain.as_str()));
    // RFC 2046 §5.1.1: a delimiter stands at the beginning of a line, and is the whole line.
    let quoted = format!("{head}You wrote:\r\n> --outer\r\nand I agree.\r\n");
    let fault = "a boundary counts in the middle of a line";
    check(&quoted, fault, |cut| !cut.contains("and I agree"));
    let longer = format!("{head}You wrote:\r\n--outermost\r\nand I agree.\r\n");
    let fault = "a boundary counts as the beginning of another word";
    check(&longer, fault, |cut| !cut.contains("and I agree"));
}

#[test]
fn gives_an_original_what_follows_it_when_its_own_last_delimiter_is_missing() {
    // RFC 2046 §5.1.2: the delimiter of an outer part ends every part inside.
    let original = "Message-ID: <o@example.com>\r\nSubject: s\r\n\
                    Content-Type: multipart/mixed; boundary=\"inner\"\r\n\r\n--inner\r\n\r\nHello.\r\n";
    check(original, "an outer delimiter is not seen inside", |cut| cut.contains("--outer"));
}
