//! Messages made to hurt: deep, wide, long, and everything whose cost could grow faster than its octets.
//!
//! Each is made in any size, so that tests can show that nothing breaks and the bench `linear` that twice the size takes twice the
//! time. All are journal reports or NDRs of them, or stand where one is looked for.

use super::wrap::{self, look_alikes, report_of};

/// What must become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Read whole: the original comes out as it was put in, and every recipient is found.
    Assigned,
    /// It met a limit: kept whole in quarantine, never assigned by half.
    Quarantined,
}

/// A message, and what is in it.
pub(crate) struct Made {
    pub(crate) octets: Vec<u8>,
    pub(crate) recipients: usize,
    /// The first original; empty when none can be found.
    pub(crate) original: Vec<u8>,
}

/// How messages of one kind are made.
pub(crate) struct Generator {
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
    /// Makes one with `n` of what it has many of.
    pub(crate) make: fn(usize) -> Made,
    /// `n` that is quickly read by an unoptimised build, and already beyond the limit it is meant to meet.
    pub(crate) small: usize,
    /// `n` as an attacker would choose it.
    pub(crate) full: usize,
}

use Fate::{Assigned, Quarantined};

pub(crate) const GENERATORS: &[Generator] = &[
    generator("nested-multiparts", Quarantined, nested_multiparts, 1_000, 10_000),
    generator(
        "nested-multiparts-in-an-original",
        Quarantined,
        nested_multiparts_in_an_original,
        1_000,
        10_000,
    ),
    generator("nested-messages", Quarantined, nested_messages, 1_000, 10_000),
    generator("ndr-of-ndr", Quarantined, ndr_of_ndr, 40, 1_000),
    generator("many-parts", Quarantined, many_parts, 12_000, 100_000),
    generator("many-originals", Quarantined, many_originals, 12_000, 100_000),
    generator("many-originals-within-the-limit", Assigned, many_originals, 500, 4_000),
    generator("base64-in-base64", Quarantined, base64_in_base64, 2_000, 2_000_000),
    generator("base64-within-the-limit", Assigned, base64_within_the_limit, 20_000, 10_000_000),
    generator("addresses-in-the-wrapper", Quarantined, addresses_in_the_wrapper, 60_000, 500_000),
    generator("addresses-in-the-original", Assigned, addresses_in_the_original, 60_000, 500_000),
    generator("long-header-line", Quarantined, long_header_line, 2_000_000, 100_000_000),
    generator("many-header-fields", Quarantined, many_header_fields, 400_000, 10_000_000),
    generator("many-continuation-lines", Quarantined, many_continuation_lines, 400_000, 10_000_000),
    generator("many-parameters", Assigned, many_parameters, 20_000, 150_000),
    generator("comments-in-a-type", Assigned, comments_in_a_type, 100_000, 1_000_000),
    generator("long-subject", Assigned, long_subject, 100_000, 1_000_000),
    generator("recipients", Assigned, recipients, 1_000, 12_000),
    generator("recipients-and-a-long-line", Assigned, recipients_and_a_long_line, 1_000, 12_000),
    generator("recipients-up-to-the-limit", Assigned, recipients, 10_000, 200_000),
    generator("short-recipient-lines", Assigned, short_recipient_lines, 20_000, 500_000),
    generator("recipients-beyond-the-limit", Quarantined, short_recipient_lines, 500_001, 1_000_000),
    generator(
        "recipients-without-end-on-a-block-line",
        Quarantined,
        commas_on_a_block_line,
        500_001,
        8_000_000,
    ),
    generator("recipients-block-on-one-line", Assigned, block_on_one_line, 2_000, 50_000),
    generator("unknown-report-lines", Assigned, unknown_report_lines, 20_000, 1_000_000),
    generator("folded-report-lines", Assigned, folded_report_lines, 20_000, 1_000_000),
    generator("redirections-on-a-line", Assigned, redirections_on_a_line, 5_000, 100_000),
    generator("quotes-on-a-line", Assigned, quotes_on_a_line, 50_000, 1_000_000),
    generator("x500-openings-on-a-line", Assigned, x500_openings_on_a_line, 20_000, 200_000),
    generator("report-text-beyond-the-limit", Quarantined, text_beyond_the_limit, 17_000_000, 40_000_000),
    generator("html-brackets", Assigned, html_brackets, 20_000, 1_000_000),
    generator("html-ampersands", Assigned, html_ampersands, 20_000, 1_000_000),
    generator("dashes-under-sixty-boundaries", Assigned, dashes_under_sixty_boundaries, 5_000, 1_000_000),
    generator("look-alikes-of-a-boundary", Assigned, look_alikes_of_a_boundary, 1_000, 100_000),
    generator("long-lines-of-dashes", Assigned, long_lines_of_dashes, 2_000_000, 50_000_000),
    generator("blanks-behind-escapes", Assigned, blanks_behind_escapes, 50_000, 1_000_000),
    generator("line-ends", Assigned, line_ends, 500_000, 20_000_000),
];

const fn generator(
    name: &'static str,
    fate: Fate,
    make: fn(usize) -> Made,
    small: usize,
    full: usize,
) -> Generator {
    Generator { name, fate, make, small, full }
}

const TEXT: &str = "Sender: alice@contoso.example\r\nSubject: s\r\nMessage-Id: <o@contoso.example>\r\n";
const RECIPIENT: &str = "Recipient: bob@contoso.example\r\n";
const ORIGINAL: &[u8] = b"Message-ID: <o@contoso.example>\r\nSubject: s\r\n\r\nhello\r\n";
/// Multiparts that can be open inside an original before the limit of depth.
const OPEN_BOUNDARIES: usize = 60;

fn plain_text() -> String {
    format!("{TEXT}{RECIPIENT}")
}

/// A report around an original, with one recipient.
fn around(original: Vec<u8>) -> Made {
    let octets = report_of("report", "", "text/plain", plain_text().as_bytes(), &[&original]);
    Made { octets, recipients: 1, original }
}

/// A report with this text.
fn with_text(text_type: &str, text: &str, recipients: usize) -> Made {
    let octets = report_of("report", "", text_type, text.as_bytes(), &[ORIGINAL]);
    Made { octets, recipients, original: ORIGINAL.to_vec() }
}

/// A report with these lines in its own header.
fn with_head(head: &str) -> Made {
    let octets = report_of("report", head, "text/plain", plain_text().as_bytes(), &[ORIGINAL]);
    Made { octets, recipients: 1, original: ORIGINAL.to_vec() }
}

fn original(head: &str, body: &str) -> Vec<u8> {
    format!("Message-ID: <o@contoso.example>\r\n{head}\r\n{body}").into_bytes()
}

/// What is no report to begin with, since its structure cannot be read to the end.
fn unreadable(octets: Vec<u8>) -> Made {
    Made { octets, recipients: 0, original: Vec::new() }
}

fn multiparts(n: usize) -> String {
    (0..n).map(|k| format!("Content-Type: multipart/mixed; boundary=b{k}\r\n\r\n--b{k}\r\n")).collect()
}

fn nested_multiparts(n: usize) -> Made {
    unreadable(multiparts(n).into_bytes())
}

fn nested_multiparts_in_an_original(n: usize) -> Made {
    around(original(&multiparts(n), ""))
}

fn nested_messages(n: usize) -> Made {
    unreadable("Content-Type: message/rfc822\r\n\r\n".repeat(n).into_bytes())
}

fn ndr_of_ndr(n: usize) -> Made {
    // Built from the outside: wrapping one by one would copy the whole each time.
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for k in 0..n {
        let layer = wrap::ndr(&format!("n{k}"), b"\0");
        let at = layer.iter().position(|octet| *octet == 0).expect("the mark is in it");
        head.extend_from_slice(&layer[..at]);
        tail.push(layer[at + 1..].to_vec());
    }
    head.extend_from_slice(&around(ORIGINAL.to_vec()).octets);
    tail.into_iter().rev().for_each(|layer| head.extend(layer));
    unreadable(head)
}

fn many_parts(n: usize) -> Made {
    let body = "--b\r\n\r\nx\r\n".repeat(n) + "--b--\r\n";
    around(original("Content-Type: multipart/mixed; boundary=b\r\n", &body))
}

fn many_originals(n: usize) -> Made {
    let originals = vec![ORIGINAL; n];
    let octets = report_of("report", "", "text/plain", plain_text().as_bytes(), &originals);
    Made { octets, recipients: 1, original: ORIGINAL.to_vec() }
}

fn encoded(layers: usize, octets: usize) -> Made {
    let made = around(original("", &"x\r\n".repeat(octets / 3)));
    let octets = (0..layers).fold(made.octets, |inner, k| wrap::ndr_in_base64(&format!("e{k}"), &inner));
    Made { octets, ..made }
}

fn base64_in_base64(n: usize) -> Made {
    Made { original: Vec::new(), recipients: 0, ..encoded(8, n) }
}

fn base64_within_the_limit(n: usize) -> Made {
    encoded(3, n)
}

fn addresses(n: usize) -> String {
    let lines: String = (1..n).map(|k| format!(",\r\n\tuser{k}@contoso.example")).collect();
    format!("To: user0@contoso.example{lines}\r\n")
}

fn addresses_in_the_wrapper(n: usize) -> Made {
    with_head(&addresses(n))
}

fn addresses_in_the_original(n: usize) -> Made {
    around(original(&addresses(n), "hello\r\n"))
}

fn long_header_line(n: usize) -> Made {
    with_head(&format!("X-Long: {}\r\n", "x".repeat(n)))
}

fn many_header_fields(n: usize) -> Made {
    with_head(&"A:\r\n".repeat(n))
}

fn many_continuation_lines(n: usize) -> Made {
    with_head(&format!("A:\r\n{}", "\t\r\n".repeat(n)))
}

fn many_parameters(n: usize) -> Made {
    around(original(&format!("Content-Type: text/plain{}\r\n", ";a*=b".repeat(n)), "hello\r\n"))
}

fn comments_in_a_type(n: usize) -> Made {
    around(original(&format!("Content-Type: text/plain {}\r\n", "(".repeat(n)), "hello\r\n"))
}

fn long_subject(n: usize) -> Made {
    let subject = format!("Subject: {}\r\n", "s".repeat(n));
    let original = original(&subject, "hello\r\n");
    let text =
        format!("Sender: a@contoso.example\r\n{subject}Message-Id: <o@contoso.example>\r\n{RECIPIENT}");
    let octets = report_of("report", &subject, "text/plain", text.as_bytes(), &[&original]);
    Made { octets, recipients: 1, original }
}

fn recipient_lines(n: usize) -> String {
    let field = |k: usize| ["To", "Cc", "Bcc", "Recipient"][k % 4];
    (0..n)
        .map(|k| format!("{}: user{k}@contoso.example, Expanded: all@contoso.example\r\n", field(k)))
        .collect()
}

fn recipients(n: usize) -> Made {
    with_text("text/plain", &format!("{TEXT}{}", recipient_lines(n)), n)
}

fn short_recipient_lines(n: usize) -> Made {
    with_text("text/plain", &format!("{TEXT}{}", "To:a@b\r\n".repeat(n)), n)
}

fn recipients_and_a_long_line(n: usize) -> Made {
    let text = format!(
        "Sender: a@contoso.example\r\nSubject: {}\r\nMessage-Id: <o@contoso.example>\r\n{}",
        "s".repeat(n * 84),
        recipient_lines(n)
    );
    with_text("text/plain", &text, n)
}

fn block_on_one_line(n: usize) -> Made {
    let people: Vec<String> = (0..n).map(|k| format!("User <user{k}@contoso.example>")).collect();
    with_text("text/plain", &format!("{TEXT}Recipients:\r\n\t{}\r\n", people.join(", ")), n)
}

fn commas_on_a_block_line(n: usize) -> Made {
    with_text("text/plain", &format!("{TEXT}Recipients:{}\r\n", "a,".repeat(n)), n)
}

fn unknown_report_lines(n: usize) -> Made {
    with_text("text/plain", &format!("{TEXT}{}{RECIPIENT}", "x: y\r\n".repeat(n)), 1)
}

fn folded_report_lines(n: usize) -> Made {
    with_text("text/plain", &format!("{TEXT}Label: a{}\r\n{RECIPIENT}", "\r\n\tx".repeat(n)), 1)
}

fn redirections_on_a_line(n: usize) -> Made {
    let line = format!("To: bob@contoso.example{}\r\n", ", Expanded: a@b".repeat(n));
    with_text("text/plain", &format!("{TEXT}{line}"), 1)
}

fn quotes_on_a_line(n: usize) -> Made {
    let line = format!("To: bob@contoso.example{}, Expanded: a@b\r\n", "\"".repeat(n | 1));
    with_text("text/plain", &format!("{TEXT}{line}"), 1)
}

fn x500_openings_on_a_line(n: usize) -> Made {
    let line = format!("To: bob@contoso.example{}, Expanded: a@b\r\n", "[EX:".repeat(n));
    with_text("text/plain", &format!("{TEXT}{line}"), 1)
}

fn text_beyond_the_limit(n: usize) -> Made {
    with_text("text/plain", &format!("{TEXT}Label: {}\r\n{RECIPIENT}", "l".repeat(n)), 0)
}

fn html(filler: &str) -> Made {
    let lines =
        plain_text().replace("<o@", "&lt;o@").replace("example>", "example&gt;").replace("\r\n", "<br>\r\n");
    with_text("text/html", &format!("<html><body>{lines}{filler}"), 1)
}

fn html_brackets(n: usize) -> Made {
    html(&"<".repeat(n))
}

fn html_ampersands(n: usize) -> Made {
    html(&"&".repeat(n))
}

fn dashes_under_sixty_boundaries(n: usize) -> Made {
    let boundary = |k: usize| format!("a-boundary-of-the-usual-length-{k:08}");
    let open =
        |k: usize| format!("Content-Type: multipart/mixed; boundary={0}\r\n\r\n--{0}\r\n", boundary(k));
    let body: String = (1..OPEN_BOUNDARIES).map(open).collect();
    let lines = format!("--{}\r\n--\r\n", boundary(99_999_999)).repeat(n / 2);
    let close: String = (0..OPEN_BOUNDARIES).rev().map(|k| format!("\r\n--{}--\r\n", boundary(k))).collect();
    let head = format!("Content-Type: multipart/mixed; boundary={}\r\n", boundary(0));
    around(original(&head, &format!("--{}\r\n{body}\r\n{lines}{close}", boundary(0))))
}

fn look_alikes_of_a_boundary(n: usize) -> Made {
    let lines = look_alikes().join("\r\n") + "\r\n";
    around(original("", &lines.repeat(n)))
}

fn long_lines_of_dashes(n: usize) -> Made {
    around(original("", &format!("{}\r\n", "-".repeat(n))))
}

fn blanks_behind_escapes(n: usize) -> Made {
    // Seven blanks behind an escape that breaks the line or does not.
    let text = format!("{TEXT}{RECIPIENT}Label: {}\r\n", "=       x".repeat(n));
    with_text("text/plain\r\nContent-Transfer-Encoding: quoted-printable", &text.replace("<o@", "=3Co@"), 1)
}

fn line_ends(n: usize) -> Made {
    around(original("", &"\n\r\r\n\n--\n".repeat(n / 8)))
}
