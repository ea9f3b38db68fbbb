//! What holds for any message, any wrapping and any cut into chunks.

mod bounces;
mod forms;

use super::*;
use crate::mail::{Profile, Redirection};
use base64::Engine;
use proptest::prelude::*;

fn scan(bytes: &[u8], chunk_octets: usize) -> Extraction {
    let mut scanner = Scanner::new();
    bytes.chunks(chunk_octets).for_each(|chunk| scanner.push(chunk));
    extract(&scanner.finish(), Profile::Microsoft365)
}

fn kinds(extraction: &Extraction) -> Vec<DefectKind> {
    extraction.defects.iter().map(|defect| defect.kind).collect()
}

/// The octets an extent stands for, decoded where it lies in a decoded object.
fn octets(whole: &[u8], extraction: &Extraction, extent: &Extent) -> Vec<u8> {
    let mut objects = vec![whole.to_vec()];
    for derived in &extraction.derived {
        let body = cut(&objects[derived.source.object as usize], &derived.source).to_vec();
        objects.push(crate::mail::transfer::decoded(derived.encoding, &body));
    }
    cut(&objects[extent.object as usize], extent).to_vec()
}

fn cut<'a>(object: &'a [u8], extent: &Extent) -> &'a [u8] {
    &object[extent.offset as usize..(extent.offset + extent.octets) as usize]
}

const TEXT: &str = "Sender: a@x.example\r\nSubject: s\r\nMessage-Id: <o@x>\r\nRecipient: b@x.example\r\n";
const REPORT_ID: &str = "<w@journal.report.generator>";

fn part(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("Content-Type: {head}\r\n\r\n").as_bytes(), body].concat()
}

fn multipart(header: &str, subtype: &str, boundary: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out =
        format!("{header}Content-Type: multipart/{subtype}; boundary=\"{boundary}\"\r\n\r\n").into_bytes();
    for part in parts {
        out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

fn journal(originals: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = vec![part("text/plain", TEXT.as_bytes())];
    parts.extend(originals.iter().map(|original| part("message/rfc822", original)));
    multipart(&format!("Message-ID: {REPORT_ID}\r\nX-MS-Journal-Report:\r\n"), "mixed", "_wrapper_", &parts)
}

fn ndr(boundary: &str, returned: Vec<u8>) -> Vec<u8> {
    let parts =
        [part("text/plain", b"sorry"), part("message/delivery-status", b"Action: failed\r\n"), returned];
    multipart("X-MS-Exchange-Message-Is-Ndr:\r\n", "report; report-type=delivery-status", boundary, &parts)
}

fn base64_message(message: &[u8]) -> Vec<u8> {
    let text = base64::engine::general_purpose::STANDARD.encode(message);
    let lines: String =
        text.as_bytes().chunks(76).map(|l| String::from_utf8_lossy(l).into_owned() + "\r\n").collect();
    part("message/rfc822\r\nContent-Transfer-Encoding: base64", lines.as_bytes())
}

/// Encodes every octet, so that line ends inside lines survive; soft breaks keep lines short.
fn quoted_message(message: &[u8]) -> Vec<u8> {
    let lines: Vec<String> =
        message.chunks(20).map(|chunk| chunk.iter().map(|b| format!("={b:02X}")).collect()).collect();
    part("message/rfc822\r\nContent-Transfer-Encoding: quoted-printable", lines.join("=\r\n").as_bytes())
}

fn original(id: &str, body: &str) -> Vec<u8> {
    format!("From: a@x.example\r\nMessage-ID: {id}\r\nSubject: s\r\n\r\n{body}").into_bytes()
}

/// Lines that could be taken for something else.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("--_wrapper".to_owned()),
        Just("--_wrapper_x".to_owned()),
        Just(" --_wrapper_".to_owned()),
        Just("X-MS-Journal-Report:".to_owned()),
        Just("Content-Type: message/rfc822".to_owned()),
        Just("Content-Type: multipart/mixed; boundary=i".to_owned()),
        Just("--i".to_owned()),
        Just("--i--".to_owned()),
        Just("--".to_owned()),
        Just(String::new()),
        Just("\r".to_owned()),
        "[ -~]{0,60}",
        "\\PC{0,20}",
    ];
    let end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    proptest::collection::vec((line, end), 0..30).prop_map(|lines| {
        let body: String = lines.into_iter().map(|(line, end)| line + end).collect();
        original("<o@x>", &body)
    })
}

fn check_wrapped(message: &[u8], wrapped: &[u8], class: Class, chunk_octets: usize) {
    let extraction = scan(wrapped, chunk_octets);
    assert_eq!(
        (extraction.class, extraction.destination),
        (class, Destination::Assign),
        "{:?}",
        extraction.defects
    );
    let [report, ..] = extraction.reports.as_slice() else { panic!("no report") };
    let found: Vec<Vec<u8>> =
        report.originals.iter().map(|o| octets(wrapped, &extraction, &o.facts.extent)).collect();
    assert_eq!(found, [message], "{}", String::from_utf8_lossy(wrapped));
    assert_eq!(extraction, scan(wrapped, usize::MAX), "chunks of {chunk_octets}");
}

proptest! {
    #[test]
    fn every_wrapping_gives_back_exactly_its_octets(message in messages(), chunk_octets in 1_usize..200) {
        let report = journal(std::slice::from_ref(&message));
        check_wrapped(&message, &report, Class::JournalReport, chunk_octets);
        let returned = ndr("_ndr_", part("message/rfc822", &report));
        check_wrapped(&message, &returned, Class::JournalNdr, chunk_octets);
        let twice = ndr("_ndr2_", part("message/rfc822", &returned));
        check_wrapped(&message, &twice, Class::JournalNdr, chunk_octets);
        for encoded in [base64_message, quoted_message] {
            check_wrapped(&message, &ndr("_ndr_", encoded(&report)), Class::JournalNdr, chunk_octets);
            let parts = [part("text/plain", TEXT.as_bytes()), encoded(&message)];
            let report = multipart("X-MS-Journal-Report: x\r\n", "mixed", "_w_", &parts);
            check_wrapped(&message, &report, Class::JournalReport, chunk_octets);
            check_wrapped(&message, &ndr("_ndr_", encoded(&report)), Class::JournalNdr, chunk_octets);
        }
    }

    #[test]
    fn any_octets_in_any_chunks_give_the_same(
        lines in proptest::collection::vec(prop_oneof![
            Just("Content-Type: multipart/mixed; boundary=a"), Just("Content-Type: multipart/report; boundary=b"),
            Just("Content-Type: message/rfc822"), Just("Content-Transfer-Encoding: base64"), Just("X-MS-Journal-Report:"),
            Just("Content-Transfer-Encoding: quoted-printable"), Just("--a"), Just("--b"), Just("--a--"), Just("--b-- "), Just("-"), Just("--"),
            Just(""), Just(""), Just("Recipient: a@b"), Just("Sender: a@b"), Just("\r"), Just("WC1NUzogMQ0KDQo="), Just("Content-Type: text/rfc822-headers"),
        ], 0..60),
        lone_lf: bool, chunk_octets in 1_usize..40,
    ) {
        let whole = lines.join(if lone_lf { "\n" } else { "\r\n" });
        prop_assert_eq!(scan(whole.as_bytes(), chunk_octets), scan(whole.as_bytes(), usize::MAX));
    }
}

#[test]
fn canonical_sizes_and_trees_describe_the_original_alone() {
    let inner = multipart(
        "Message-ID: <o@x>\r\n",
        "mixed",
        "i",
        &[part("text/plain", b"one\ntwo"), part("message/rfc822", b"Subject: deep\r\n\r\nthree\r\n")],
    );
    let wrapped = journal(std::slice::from_ref(&inner));
    let extraction = scan(&wrapped, 5);
    let facts = &extraction.reports[0].originals[0].facts;
    assert_eq!(facts.structure, scan(&inner, usize::MAX).whole.structure, "the same tree wherever it lies");
    assert_eq!(facts.canonical, scan(&inner, usize::MAX).whole.canonical);
    assert_eq!((facts.canonical.octets, facts.extent.octets), (inner.len() as u64 + 1, inner.len() as u64));
    assert!(facts.canonical.bare_line_ends && facts.canonical.ends_with_line_end);
    let [text, message] = facts.structure.children.as_slice() else { panic!() };
    assert_eq!((text.octets, text.canonical_octets, text.lines), (7, 8, 1));
    let deep = message.message.as_ref().unwrap();
    assert_eq!(deep.header, b"Subject: deep\r\n\r\n");
    let body = deep.body_offset as usize;
    assert_eq!(&inner[body..body + deep.octets as usize], b"three\r\n");
}

#[test]
fn a_boundary_that_starts_like_another_is_another() {
    let inner = multipart(
        "Message-ID: <o@x>\r\n",
        "mixed",
        "_wrapper_2",
        &[part("text/plain", b"--_wrapper_-\r\n--_wrapper_--x")],
    );
    check_wrapped(&inner, &journal(std::slice::from_ref(&inner)), Class::JournalReport, 3);
}

#[test]
fn boundaries_with_dashes_at_both_ends_are_read() {
    let message = original("<o@x>", "--Citadel--\r\nhello");
    let parts =
        [part("text/plain", b"Sender: a@x\r\nRecipients:\r\n b@x\r\n"), part("message/rfc822", &message)];
    let report = multipart("Content-Identifer: ExJournalReport\r\n", "mixed", "--Citadel--", &parts);
    check_wrapped(&message, &report, Class::JournalReport, 7);
}

#[test]
fn a_reused_boundary_or_a_late_delimiter_is_ambiguous() {
    let inner = multipart("Message-ID: <o@x>\r\n", "mixed", "_wrapper_", &[part("text/plain", b"x")]);
    let extraction = scan(&journal(&[inner]), usize::MAX);
    assert_eq!(extraction.destination, Destination::Quarantine);
    assert!(kinds(&extraction).contains(&DefectKind::BoundaryReused));
    let late = [journal(&[original("<o@x>", "x")]), b"--_wrapper_\r\n\r\nmore".to_vec()].concat();
    let extraction = scan(&late, usize::MAX);
    assert_eq!(extraction.destination, Destination::Quarantine);
    assert_eq!(kinds(&extraction), [DefectKind::DelimiterAfterClose]);
}

#[test]
fn a_report_without_its_close_delimiter_may_be_cut() {
    let mut report = journal(&[original("<o@x>", "x")]);
    report.truncate(report.len() - "--_wrapper_--\r\n".len());
    let extraction = scan(&report, usize::MAX);
    assert_eq!((extraction.class, extraction.destination), (Class::JournalReport, Destination::Quarantine));
    assert_eq!(kinds(&extraction), [DefectKind::MissingCloseDelimiter]);
}

#[test]
fn only_the_agents_own_reports_are_unwrapped_inside_an_original() {
    let inner = journal(&[original("<deep@x>", "x")]);
    let inner = String::from_utf8(inner).unwrap().replace("_wrapper_", "_inner_");
    let inner = format!("X-MS-Exchange-Parent-Message-Id: <forged@x>\r\n{inner}");
    let extraction = scan(&journal(&[inner.clone().into_bytes()]), usize::MAX);
    assert_eq!((extraction.reports.len(), &extraction.parent_message_id), (2, &None));
    assert_eq!(extraction.reports[1].originals[0].facts.message_id.as_deref(), Some("<deep@x>"));
    for forged in [
        inner.replace(REPORT_ID, "<w@elsewhere>"),
        inner.replace("message/rfc822", "text/x-none"),
        inner.replace("Recipient: ", "Rec: "),
    ] {
        let extraction = scan(&journal(&[forged.into_bytes()]), usize::MAX);
        assert_eq!((extraction.reports.len(), extraction.destination), (1, Destination::Assign));
        assert_eq!(extraction.parent_message_id, None, "nothing is left of what was not unwrapped");
        assert!(kinds(&extraction).contains(&DefectKind::MarkerInsideOriginal), "{:?}", extraction.defects);
    }
}

#[test]
fn nested_ndrs_and_reports_end_at_the_limit() {
    let report = journal(&[original("<o@x>", "x")]);
    let nest = |layers: usize| {
        (0..layers).fold(report.clone(), |inner, n| ndr(&format!("n{n}n"), part("message/rfc822", &inner)))
    };
    assert_eq!(scan(&nest(LAYERS_MAX), usize::MAX).class, Class::JournalNdr);
    let beyond = scan(&nest(LAYERS_MAX + 1), usize::MAX);
    assert_eq!((beyond.class, beyond.destination), (Class::Unreadable, Destination::Quarantine));
}

#[test]
fn bombs_stop_at_the_limits() {
    let deep: String = (0..1_000)
        .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"))
        .collect();
    let extraction = scan(deep.as_bytes(), 1_000);
    assert_eq!((extraction.class, extraction.destination), (Class::Unreadable, Destination::Quarantine));
    assert!(kinds(&extraction).contains(&DefectKind::TooDeep));

    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
    assert_eq!(scan(messages.as_bytes(), 1_000).class, Class::Unreadable);

    let wide = [b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec(), b"--b\r\n\r\n".repeat(20_000)]
        .concat();
    let extraction = scan(&wide, 1_000);
    assert!(kinds(&extraction).contains(&DefectKind::TooManyParts));
    assert_eq!(extraction.whole.structure.children.len(), mime::PARTS_MAX - 1);

    let mut encoded = journal(&[original("<o@x>", "x")]);
    for n in 0..mime::ENCODINGS_MAX + 1 {
        encoded = ndr(&format!("e{n}e"), base64_message(&encoded));
    }
    let extraction = scan(&encoded, usize::MAX);
    assert_eq!((extraction.class, extraction.destination), (Class::Unreadable, Destination::Quarantine));
}

#[test]
fn a_bomb_in_an_original_does_not_hide_the_report() {
    let bomb: String =
        (0..100).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")).collect();
    let extraction = scan(&journal(&[bomb.clone().into_bytes()]), usize::MAX);
    assert_eq!((extraction.class, extraction.destination), (Class::JournalReport, Destination::Quarantine));
    let extent = extraction.reports[0].originals[0].facts.extent;
    assert_eq!(extent.octets, bomb.len() as u64 - if bomb.ends_with("\r\n") { 0 } else { 2 });
}

#[test]
fn a_huge_header_is_counted_and_cut() {
    let header =
        [b"X-Long: ".to_vec(), vec![b'x'; 2 * mime::HEADER_OCTETS_MAX], b"\r\nTo: a@b\r\n\r\nbody".to_vec()]
            .concat();
    let extraction = scan(&header, 10_000);
    assert_eq!(extraction.whole.header_octets, header.len() as u64 - 4);
    assert_eq!(extraction.whole.structure.header.len(), mime::HEADER_OCTETS_MAX);
    assert_eq!(kinds(&extraction), [DefectKind::HeaderCut]);
}

#[test]
fn two_copies_of_a_protected_message_are_linked_in_any_order() {
    let protected = multipart(
        "Message-ID: <o@x>\r\n",
        "mixed",
        "p",
        &[part("application/x-microsoft-rpmsg-message", b"x")],
    );
    let clear = original("<o@x>", "clear");
    for (pair, primary) in [([protected.clone(), clear.clone()], 1), ([clear, protected], 0)] {
        let extraction = scan(&journal(&pair), usize::MAX);
        let report = &extraction.reports[0];
        assert_eq!(report.primary, Some(primary));
        assert_eq!(report.originals[primary].rendition, Rendition::Decrypted);
        assert_eq!(report.originals[1 - primary].rendition, Rendition::Protected);
    }
    let extraction = scan(&journal(&[original("<a@x>", "a"), original("<b@x>", "b")]), usize::MAX);
    assert_eq!(extraction.reports[0].originals.len(), 2);
    assert!(kinds(&extraction).contains(&DefectKind::SeveralOriginals));
    assert_eq!(extraction.destination, Destination::Assign);
}

#[test]
fn redirections_reach_the_envelope() {
    let text = format!("{TEXT}Bcc: c@x.example, Expanded: g@x.example\r\n");
    let parts = [part("text/plain", text.as_bytes()), part("message/rfc822", &original("<o@x>", "x"))];
    let extraction = scan(&multipart("X-MS-Journal-Report:\r\n", "mixed", "w", &parts), usize::MAX);
    let envelope = &extraction.reports[0].envelope;
    assert!(
        matches!(&envelope.recipients[1].redirection, Some(Redirection::Expanded(g)) if g.as_str() == "g@x.example")
    );
}

#[test]
fn marks_are_those_of_the_outermost_header_and_of_what_an_ndr_returns() {
    let mark = |org: &str, message: Vec<u8>| {
        [format!("X-OriginatorOrg: {org}\r\n").as_bytes(), message.as_slice()].concat()
    };
    let original = || mark("original", b"Message-ID: <o@x>\r\n\r\nhello\r\n".to_vec());
    let report = || mark("report", journal(&[original()]));
    let inner = || mark("inner", ndr("inner", part("message/rfc822", &report())));
    let outer = || mark("outer", ndr("outer", part("message/rfc822", &inner())));
    let attached = |message: Vec<u8>| {
        mark("plain", multipart("", "mixed", "plain", &[part("message/rfc822", &message)]))
    };
    let orgs = |message: &[u8], profile: Profile| {
        let mut scanner = Scanner::new();
        message.chunks(7).for_each(|chunk| scanner.push(chunk));
        let found = extract(&scanner.finish(), profile);
        std::iter::once(&found.outer)
            .chain(&found.returned)
            .flat_map(|m| m.originator_orgs.clone())
            .collect::<Vec<_>>()
    };
    let exchange = Profile::Microsoft365;
    assert_eq!(orgs(&original(), exchange), ["original"]);
    assert_eq!(orgs(&report(), exchange), ["report"], "never the original's");
    assert_eq!(orgs(&inner(), exchange), ["inner", "report"]);
    assert_eq!(orgs(&outer(), exchange), ["outer", "inner", "report"]);
    assert_eq!(orgs(&attached(report()), exchange), ["plain"]);
    assert_eq!(orgs(&attached(inner()), exchange), ["plain"]);
    assert_eq!(
        orgs(&ndr("b", part("message/rfc822", &original())), exchange),
        Vec::<String>::new(),
        "no report"
    );
    assert_eq!(orgs(&outer(), Profile::Generic), ["outer"], "nothing is unwrapped");
}
