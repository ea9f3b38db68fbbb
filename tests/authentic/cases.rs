//! Genuine mail and forgeries of it: what is sent, by whom, and what the verdict must be.
//!
//! Addresses kept for documentation stand in for Exchange Online's ranges. Every message made for another number is another
//! report of another mail, so that none repeats one before it.

use daybook::mail::*;
use std::path::Path;

/// The pinned tenant.
pub(crate) const TENANT: &str = "contoso.onmicrosoft.example";
/// In the networks of Exchange Online.
pub(crate) const EXCHANGE: &str = "198.51.100.7:25000";
/// In the trusted network of the gateway mailbox.
pub(crate) const RELAY: &str = "203.0.113.9:25000";
/// Somewhere else.
pub(crate) const STRANGER: &str = "192.0.2.1:25000";
/// SHA-256 of the pinned certificate.
pub(crate) const PIN: &str = "0000000000000000000000000000000000000000000000000000000000000abc";

const MARK: &str = "X-OriginatorOrg: contoso.onmicrosoft.example\r\n";
const THEIRS: &str = "X-OriginatorOrg: fabrikam.onmicrosoft.example\r\n";

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) message: fn(usize) -> String,
    pub(crate) verdict: Verdict,
}

fn corpus(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/demo").join(name);
    String::from_utf8(std::fs::read(path).unwrap()).unwrap()
}

/// A report as Exchange Online sends it.
pub(crate) fn report(n: usize) -> String {
    corpus("report.eml")
        .replace("-0001-4a1e", &format!("-{n:04}-4a1e"))
        .replace("<quarter-1@", &format!("<q-{n}@"))
}

/// An NDR that returns one.
pub(crate) fn ndr(n: usize) -> String {
    corpus("ndr.eml")
        .replace("-0003-4a1e", &format!("-{n:04}-4a1e"))
        .replace("<offer-7@", &format!("<o-{n}@"))
        .replace("<0fff00ef-2022@", &format!("<n-{n}@"))
}

/// The report with another mark, or none.
fn marked(n: usize, mark: &str) -> String {
    let report = report(n);
    assert!(report.contains(MARK));
    report.replace(MARK, mark)
}

/// The NDR with one mark in its own header and one in that of the report it returns.
fn ndr_marked(n: usize, outer: &str, returned: &str) -> String {
    outer.to_owned() + &ndr(n).replace(MARK, returned)
}

/// Mail that carries another as an attachment.
fn around(n: usize, head: &str, inside: &str) -> String {
    format!(
        "{head}From: eve@fabrikam.example\r\nTo: x@y.example\r\nMessage-ID: <around-{n}@fabrikam.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"around-{n}\"\r\n\r\n--around-{n}\r\nContent-Type: text/plain\r\n\r\nsee below\r\n\
         --around-{n}\r\nContent-Type: message/rfc822\r\n\r\n{inside}\r\n--around-{n}--\r\n"
    )
}

/// Mail that looks like a report, with its own original: anybody can write it to anybody.
pub(crate) fn feigned(n: usize) -> String {
    format!(
        "Received: from mx.fabrikam.example by hub1.contoso.example; Mon, 2 Nov 2026 09:00:00 +0000\r\nFrom: eve@fabrikam.example\r\n\
         To: bob@contoso.example\r\nX-MS-Journal-Report:\r\nMessage-ID: <feigned-{n}@journal.report.generator>\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"feigned-{n}\"\r\n\r\n--feigned-{n}\r\n\
         Content-Type: text/plain\r\n\r\nSender: carol@contoso.example\r\nSubject: urgent\r\nMessage-Id: <fake-{n}@contoso.example>\r\n\
         To: erin@contoso.example\r\n\r\n--feigned-{n}\r\nContent-Type: message/rfc822\r\n\r\n{}\r\n--feigned-{n}--\r\n",
        feigned_original(n)
    )
}

/// What it pretends was sent.
pub(crate) fn feigned_original(n: usize) -> String {
    format!(
        "From: carol@contoso.example\r\nTo: erin@contoso.example\r\nSubject: urgent\r\nMessage-ID: <fake-{n}@contoso.example>\r\n\r\n\
         Pay at once.\r\n"
    )
}

/// The genuine report of such mail.
pub(crate) fn report_of(n: usize, original: &str) -> String {
    let report = report(n);
    let (head, rest) = report.split_once("Received: from a.contoso").unwrap();
    let (_, end) = rest.split_once("\r\n--_5d6f2c1e").unwrap();
    format!("{head}{original}\r\n--_5d6f2c1e{end}")
}

/// An NDR that returns the header block of a report, with this mark.
pub(crate) fn ndr_of_header(n: usize, mark: &str) -> String {
    let report = marked(n, mark);
    let (block, _) = report.split_once("\r\n\r\n").unwrap();
    ndr_of(n, "").replace(
        "Content-Type: message/rfc822\r\n\r\n",
        &format!("Content-Type: text/rfc822-headers\r\n\r\n{block}\r\n"),
    )
}

/// The same with that of the pinned tenant.
pub(crate) fn ndr_of_our_header(n: usize) -> String {
    ndr_of_header(n, MARK)
}

/// An NDR that returns a report with more parts than are read: its original is not found.
pub(crate) fn ndr_of_many_parts(n: usize) -> String {
    let ndr = ndr(n);
    let (head, rest) = ndr.split_once("\r\n--_5d6f2c1e").unwrap();
    let (boundary, _) = rest.split_once("\r\n").unwrap();
    let part = format!("\r\n--_5d6f2c1e{boundary}\r\nContent-Type: image/png\r\n\r\nx");
    format!("{head}{}\r\n--_5d6f2c1e{rest}", part.repeat(20_000))
}

fn ndr_of(n: usize, inside: &str) -> String {
    around(n, "X-MS-Exchange-Message-Is-Ndr:\r\n", inside)
}

fn tls(certificate: Option<ClientCertificate>) -> Option<TlsFacts> {
    let (version, cipher) = ("TLSv1.3".to_owned(), "TLS13_AES_256_GCM_SHA384".to_owned());
    Some(TlsFacts { version, cipher, client_certificate: certificate })
}

/// A session in which the peer showed the certificate of Exchange Online.
pub(crate) fn exchange_tls() -> Option<TlsFacts> {
    shown("mail.protection.outlook.com", ChainVerdict::Good, true)
}

fn shown(name: &str, chain: ChainVerdict, proven: bool) -> Option<TlsFacts> {
    let sha256 = format!("{:064x}", 0xdef);
    tls(Some(ClientCertificate { sha256, dns_names: vec![name.to_owned()], chain, proven }))
}

/// A certificate made by its holder, for nobody's name.
pub(crate) fn self_made(sha256: &str, proven: bool) -> Option<TlsFacts> {
    let chain = ChainVerdict::UnknownIssuer;
    tls(Some(ClientCertificate { sha256: sha256.to_owned(), dns_names: Vec::new(), chain, proven }))
}

/// From Exchange Online, as far as network and certificate tell.
fn from_exchange(name: &'static str, verdict: Verdict, message: fn(usize) -> String) -> Case {
    Case { name, peer: EXCHANGE, tls: exchange_tls(), message, verdict }
}

fn suspect(name: &'static str, message: fn(usize) -> String) -> Case {
    from_exchange(name, Verdict::Suspect, message)
}

fn unverified(name: &'static str, message: fn(usize) -> String) -> Case {
    from_exchange(name, Verdict::Unverified, message)
}

/// A genuine report, byte for byte, from somebody who is not who sends it.
fn copied(name: &'static str, peer: &'static str, tls: Option<TlsFacts>, verdict: Verdict) -> Case {
    Case { name, peer, tls, message: report, verdict }
}

pub(crate) fn forged() -> Vec<Case> {
    [by_the_peer(), by_the_mark(), by_the_place(), by_an_ndr()].into_iter().flatten().collect()
}

fn by_the_peer() -> Vec<Case> {
    use ChainVerdict::*;
    use Verdict::*;
    let name = "mail.protection.outlook.com";
    vec![
        copied("from this host, in clear", "127.0.0.1:25000", None, Suspect),
        copied("from a stranger with TLS", STRANGER, tls(None), Suspect),
        copied("from a stranger as mapped IPv4", "[::ffff:192.0.2.1]:25000", exchange_tls(), Suspect),
        copied(
            "from an IPv6 address ending like Exchange's",
            "[::198.51.100.7]:25000",
            exchange_tls(),
            Suspect,
        ),
        copied("with Exchange's own certificate from outside", STRANGER, exchange_tls(), Suspect),
        copied("right name, wrong CA", EXCHANGE, shown(name, UnknownIssuer, true), Suspect),
        copied("right name, wrong CA, from outside", STRANGER, shown(name, UnknownIssuer, true), Suspect),
        copied("right name, expired", EXCHANGE, shown(name, Expired, true), Suspect),
        copied("right name, not valid yet", EXCHANGE, shown(name, NotYetValid, true), Suspect),
        copied("right name, wrong purpose", EXCHANGE, shown(name, WrongPurpose, true), Suspect),
        copied("right name, key not proven", EXCHANGE, shown(name, Good, false), Suspect),
        copied("right CA, wrong name", EXCHANGE, shown("mail.fabrikam.example", Good, true), Unverified),
        copied(
            "right CA, longer name",
            EXCHANGE,
            shown(&format!("{name}.evil.example"), Good, true),
            Unverified,
        ),
        copied("right network, no certificate", EXCHANGE, tls(None), Unverified),
        copied("right network, in clear", EXCHANGE, None, Unverified),
        copied(
            "another certificate than the pinned",
            STRANGER,
            self_made(&format!("{:064x}", 0xabd), true),
            Suspect,
        ),
        copied("the pinned certificate, key not proven", STRANGER, self_made(PIN, false), Suspect),
    ]
}

fn by_the_mark() -> Vec<Case> {
    vec![
        suspect("right host, other tenant", |n| marked(n, THEIRS)),
        unverified("right host, no mark", |n| marked(n, "")),
        suspect("two marks, ours first", |n| marked(n, &format!("{MARK}{THEIRS}"))),
        suspect("two marks, ours last", |n| marked(n, &format!("{THEIRS}{MARK}"))),
        suspect("two marks far apart", |n| THEIRS.to_owned() + &report(n)),
        suspect("ours twice", |n| marked(n, &format!("{MARK}{MARK}"))),
        suspect("the second in another case", |n| {
            marked(n, &format!("{MARK}{}", THEIRS.replace("X-OriginatorOrg", "x-ORIGINATORorg")))
        }),
        suspect("the second with a blank before the colon", |n| {
            marked(n, &format!("{MARK}{}", THEIRS.replace(": ", " \t: ")))
        }),
        suspect("the second folded", |n| marked(n, &format!("{MARK}{}", THEIRS.replace(": ", ":\r\n\t")))),
        suspect("a value folded in the middle", |n| marked(n, &MARK.replace("contoso.", "contoso.\r\n "))),
        suspect("a no-break space behind the value", |n| marked(n, &MARK.replace("\r\n", "\u{a0}\r\n"))),
        suspect("a no-break space before the value", |n| marked(n, &MARK.replace(": ", ":\u{a0}"))),
        suspect("a trailing dot", |n| marked(n, &MARK.replace("example", "example."))),
        suspect("a comment", |n| marked(n, &MARK.replace("example", "example (x)"))),
        suspect("a list", |n| marked(n, &MARK.replace("example", "example, fabrikam.onmicrosoft.example"))),
        suspect("an empty value", |n| marked(n, "X-OriginatorOrg:\r\n")),
        suspect("a letter of another alphabet", |n| marked(n, &MARK.replace("contoso", "cont\u{43e}so"))),
        suspect("a value longer than is kept", |n| {
            marked(n, &MARK.replace("example", &format!("example{}", ".".repeat(70_000))))
        }),
    ]
}

fn by_the_place() -> Vec<Case> {
    vec![
        unverified("only in the attached original", |n| {
            marked(n, "").replace("Received: from a.contoso", &format!("{MARK}Received: from a.contoso"))
        }),
        unverified("behind the empty line", |n| marked(n, &format!("\r\n{MARK}"))),
        unverified("before an empty line that only some see", |n| {
            marked(n, &format!("{MARK}X: y\n\n{THEIRS}"))
        }),
        unverified("before more header than is kept", |n| {
            marked(n, &format!("{MARK}{}{THEIRS}", format!("X: {}\r\n", "y".repeat(900)).repeat(1300)))
        }),
        unverified("a report attached to plain mail", |n| around(n, "", &report(n))),
        suspect("a report attached to another tenant's mail", |n| around(n, THEIRS, &report(n))),
        suspect("another tenant's plain mail", |n| {
            format!("{THEIRS}From: a@b.example\r\nMessage-ID: <plain-{n}@b.example>\r\n\r\n{MARK}hello\r\n")
        }),
        suspect("not readable, and from another tenant", |n| {
            THEIRS.to_owned() + &corpus("hopeless.eml").replace("-0004-4a1e", &format!("-{n:04}-4a1e"))
        }),
        unverified("not readable, and without a mark", |n| {
            corpus("hopeless.eml").replace("-0004-4a1e", &format!("-{n:04}-4a1e"))
        }),
    ]
}

fn by_an_ndr() -> Vec<Case> {
    use Verdict::*;
    vec![
        suspect("an NDR returning another tenant's report", |n| ndr_marked(n, "", THEIRS)),
        suspect("our NDR returning another tenant's report", |n| ndr_marked(n, MARK, THEIRS)),
        suspect("another tenant's NDR returning ours", |n| ndr_marked(n, THEIRS, MARK)),
        suspect("an NDR returning two marks", |n| ndr_marked(n, "", &format!("{MARK}{THEIRS}"))),
        suspect("an NDR returning the header of another tenant's report", |n| ndr_of_header(n, THEIRS)),
        suspect("an NDR returning a header with two marks", |n| ndr_of_header(n, &format!("{MARK}{THEIRS}"))),
        unverified("an NDR returning a header without a mark", |n| ndr_of_header(n, "")),
        unverified("an NDR returning a header with two readings", |n| {
            ndr_of_header(n, &MARK.replace("\r\n", "\n"))
        }),
        unverified("an NDR of an NDR returning a header", |n| {
            ndr_of(n, &ndr_of_our_header(n).replace("around-", "inner-"))
        }),
        Case {
            name: "a stranger's NDR returning a header",
            peer: STRANGER,
            tls: exchange_tls(),
            message: ndr_of_our_header,
            verdict: Unverified,
        },
        Case {
            name: "an NDR returning a header, in clear",
            peer: EXCHANGE,
            tls: None,
            message: ndr_of_our_header,
            verdict: Unverified,
        },
        unverified("an NDR with no mark at all", |n| ndr_marked(n, "", "")),
        unverified("an NDR of an NDR", |n| ndr_of(n, &ndr(n))),
        unverified("an NDR of mail with a report attached", |n| ndr_of(n, &around(n, "", &report(n)))),
        Case {
            name: "an NDR marked outside only, from outside",
            peer: STRANGER,
            tls: exchange_tls(),
            message: |n| ndr_marked(n, MARK, ""),
            verdict: Suspect,
        },
        Case { name: "a stranger's NDR", peer: STRANGER, tls: tls(None), message: ndr, verdict: Unverified },
        Case { name: "an NDR in clear", peer: EXCHANGE, tls: None, message: ndr, verdict: Unverified },
    ]
}

pub(crate) fn genuine() -> Vec<Case> {
    let ours = |name, message| from_exchange(name, Verdict::Authentic, message);
    let by = |name, peer, tls, message| Case { name, peer, tls, message, verdict: Verdict::Authentic };
    vec![
        ours("a report", report),
        ours("a report with the tenant in another case", |n| marked(n, &MARK.replace("contoso", "CONTOSO"))),
        ours("a report with the value on its own line", |n| marked(n, &MARK.replace(": ", ":\r\n\t"))),
        ours("a report whose original bears another mark", |n| {
            report(n).replace("Received: from a.contoso", &format!("{THEIRS}Received: from a.contoso"))
        }),
        ours("an NDR that returns a report", ndr),
        ours("our own NDR that returns a report", |n| ndr_marked(n, MARK, MARK)),
        by("a report over mapped IPv4", "[::ffff:198.51.100.7]:25000", exchange_tls(), report),
        by("a report over IPv6", "[2001:db8:ec::7]:25000", exchange_tls(), report),
        by("a report by a trusted relay, in clear", RELAY, None, report),
        by("a report by a trusted relay, without a mark", RELAY, None, |n| marked(n, "")),
        by("an NDR by a trusted relay", RELAY, tls(None), ndr),
        by("a report with the pinned certificate", STRANGER, self_made(PIN, true), report),
    ]
}
