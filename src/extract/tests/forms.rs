//! Unusual forms of reports, and what must not be read as one.

use super::*;

fn capture(received: &str, action: &str, captured: &[u8]) -> Vec<u8> {
    let status = format!(
        "Reporting-MTA: dns;ms.x.example\r\n\r\nOriginal-recipient: rfc822;list@x.example\r\nFinal-recipient: \
         rfc822;b@x.example\r\nAction: {action}\r\n \t\r\nFinal-Recipient: RFC822; c@x.example\r\nAction: {action}\r\n"
    );
    let parts = [
        part("text/plain", b"captured"),
        part("message/delivery-status", status.as_bytes()),
        part("message/rfc822", captured),
    ];
    multipart(received, "report; report-type=delivery-status", "Boundary_(ID_1)", &parts)
}

#[test]
fn a_capture_is_a_report_whose_envelope_is_its_delivery_status() {
    let message = original("<o@x>", "hello");
    let received =
        "Received: from process-daemon.ms.x by ms.x\r\n id <1@x> (original mail from a@x.example); x\r\n";
    let nameless = "Received: from process-daemon.ms.x by ms.x; x\r\n";
    for (received, action, sender) in [
        (received, "delivered", Some("a@x.example")),
        (nameless, "captured", None),
        (nameless, "(all (of) it) Delivered (at once)", None),
    ] {
        let whole = capture(received, action, &message);
        check_wrapped(&message, &whole, Class::JournalReport, 7);
        let found = scan(&whole, usize::MAX);
        assert_eq!(kinds(&found), [DefectKind::CaptureNotification]);
        let envelope = &found.reports[0].envelope;
        assert_eq!(envelope.sender.as_ref().map(|s| s.as_str()), sender);
        let [b, c] = envelope.recipients.as_slice() else { panic!("{:?}", envelope.recipients) };
        assert_eq!((b.address.as_str(), c.address.as_str()), ("b@x.example", "c@x.example"));
        assert!(
            matches!(&b.redirection, Some(Redirection::Forwarded(list)) if list.as_str() == "list@x.example")
        );
        assert_eq!(c.redirection, None);
    }
}

#[test]
fn a_bounce_of_ordinary_mail_is_no_capture() {
    let message = original("<o@x>", "hello");
    let received = "Received: from process-daemon.ms.x by ms.x; x\r\n";
    for (header, action) in [
        (received, "failed"),
        (received, "delayed"),
        (received, "relayed"),
        (received, "failed (mailbox full)"),
        (received, "(mailbox full) Failed"),
        (received, "expired"),
        (received, "(delivered) undeliverable"),
        (received, ""),
        ("", "delivered"),
        ("", "captured"),
        ("", "expired"),
        ("X-MS-Exchange-Message-Is-Ndr:\r\n", "captured"),
    ] {
        let found = scan(&capture(header, action, &message), usize::MAX);
        assert_eq!(
            (found.class, found.destination),
            (Class::Ndr, Destination::Unassigned),
            "{header}{action}"
        );
        assert!(found.reports.is_empty() && found.defects.is_empty(), "{:?}", found.defects);
    }
    for (header, action) in [("", "delivered"), (received, "failed"), (received, "relayed")] {
        let report = capture(header, action, &journal(std::slice::from_ref(&message)));
        assert_eq!(
            scan(&report, usize::MAX).class,
            Class::JournalNdr,
            "a notification about a journal report"
        );
    }
}

#[test]
fn a_capture_of_what_is_marked_or_a_bounce_gives_nobody_anything() {
    let received = "Received: from process-daemon.ms.x by ms.x; x\r\n";
    let report = journal(&[original("<o@x>", "hello")]);
    let bounce = ndr("n", part("message/rfc822", &report));
    for inside in [report, bounce] {
        let found = scan(&capture(received, "delivered", &inside), usize::MAX);
        assert_eq!((found.class, found.destination), (Class::Ndr, Destination::Quarantine));
        assert_eq!(kinds(&found), [DefectKind::CaptureAmbiguous]);
        assert!(found.reports.is_empty() && found.returned.is_empty());
    }
}

#[test]
fn a_message_ends_before_the_delimiter_whatever_in_it_did_not() {
    let header = "Message-ID: <o@x>\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n";
    for tail in
        ["--i", "--i\r\n", "--i\r\nA: b", "--i\r\nA: b\r\n", "--i\r\nContent-Type: message/rfc822\r\n\r\n"]
    {
        let message = format!("{header}{tail}").into_bytes();
        let wrapped = journal(std::slice::from_ref(&message));
        let found = scan(&wrapped, usize::MAX);
        let facts = &found.reports[0].originals[0].facts;
        assert_eq!(octets(&wrapped, &found, &facts.extent), message, "{tail:?}");
        assert_eq!(facts.structure, scan(&message, usize::MAX).whole.structure, "{tail:?}");
    }
}

#[test]
fn more_copies_than_two_are_told_apart_by_their_message_ids() {
    let protected = |id: &str| {
        multipart(
            &format!("Message-ID: {id}\r\n"),
            "mixed",
            "p",
            &[part("application/x-microsoft-rpmsg-message", b"x")],
        )
    };
    let found =
        scan(&journal(&[protected("<o@x>"), original("<p@x>", "other"), original("<o@x>", "clear")]), 9);
    let renditions: Vec<_> = found.reports[0].originals.iter().map(|o| o.rendition).collect();
    assert_eq!(renditions, [Rendition::Protected, Rendition::Original, Rendition::Decrypted]);
    assert_eq!(found.reports[0].primary, Some(1));
    assert!(kinds(&found).contains(&DefectKind::SeveralOriginals));
    let alone = scan(&journal(&[protected("<o@x>")]), usize::MAX);
    assert_eq!((alone.reports[0].primary, alone.destination), (Some(0), Destination::Assign));
    assert_eq!(alone.reports[0].originals[0].rendition, Rendition::Original);
}

#[test]
fn lines_that_end_in_bare_cr_are_not_guessed_at() {
    let report = String::from_utf8(journal(&[original("<o@x>", "hello")])).unwrap();
    let ndr = String::from_utf8(ndr("n", part("message/rfc822", report.as_bytes()))).unwrap();
    for (message, class) in [(report, Class::Plain), (ndr, Class::Ndr)] {
        let found = scan(message.replace("\r\n", "\r").as_bytes(), usize::MAX);
        assert_eq!((found.class, found.destination), (class, Destination::Quarantine));
        assert!(kinds(&found).contains(&DefectKind::BareCrHeader), "{:?}", found.defects);
    }
    let inside =
        original("<o@x>", "a\rb").iter().map(|b| if *b == b'\n' { b'\r' } else { *b }).collect::<Vec<_>>();
    check_wrapped(&inside, &journal(std::slice::from_ref(&inside)), Class::JournalReport, 7);
}

#[test]
fn a_boundary_whose_delimiter_is_anothers_close_delimiter_is_ambiguous() {
    let inner = multipart("Message-ID: <o@x>\r\n", "mixed", "_wrapper_--", &[part("text/plain", b"x")]);
    let found = scan(&journal(&[inner]), usize::MAX);
    assert_eq!(found.destination, Destination::Quarantine);
    assert!(kinds(&found).contains(&DefectKind::BoundaryReused));
}

#[test]
fn an_ndr_whose_parts_cannot_be_found_goes_to_quarantine() {
    let whole =
        String::from_utf8(ndr("n", part("message/rfc822", &journal(&[original("<o@x>", "x")])))).unwrap();
    let found = scan(whole.replacen("; boundary=\"n\"", "", 1).as_bytes(), usize::MAX);
    assert_eq!((found.class, found.destination), (Class::Ndr, Destination::Quarantine));
    let status = whole.find("Action:").unwrap();
    let cut = scan(&whole.as_bytes()[..status], usize::MAX);
    assert_eq!(
        (cut.class, cut.destination),
        (Class::Ndr, Destination::Quarantine),
        "cut before what it returns"
    );
    let nothing = ndr("n", part("text/plain", b"more"));
    assert_eq!(scan(&nothing, usize::MAX).destination, Destination::Unassigned);
    for lost in ["\r\nboundary=", "\r\nreport-type=delivery-status; boundary="] {
        let found = scan(whole.replacen(" boundary=", lost, 1).as_bytes(), usize::MAX);
        assert_eq!((found.class, found.destination), (Class::JournalNdr, Destination::Assign), "{lost:?}");
        assert!(kinds(&found).contains(&DefectKind::BoundaryRecovered));
    }
}

#[test]
fn a_cut_header_of_an_original_is_named_and_one_of_the_wrapper_goes_to_quarantine() {
    let long = |name: &str| [name.as_bytes(), b": ", &vec![b'x'; mime::HEADER_OCTETS_MAX], b"\r\n"].concat();
    let message = [b"Message-ID: <o@x>\r\n".as_slice(), &long("To"), b"\r\nhello"].concat();
    let whole = journal(std::slice::from_ref(&message));
    check_wrapped(&message, &whole, Class::JournalReport, 100_000);
    assert_eq!(kinds(&scan(&whole, usize::MAX)), [DefectKind::InnerHeaderCut]);
    let wrapper = [long("To"), journal(&[original("<o@x>", "x")])].concat();
    assert_eq!(scan(&wrapper, usize::MAX).destination, Destination::Quarantine);
    let late = [b"X-MS-Journal-Report:\r\n".as_slice(), &wrapper].concat();
    let found = scan(&late, usize::MAX);
    assert_eq!((found.class, found.destination), (Class::JournalReport, Destination::Quarantine));
}
