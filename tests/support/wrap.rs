//! Wraps messages as they come to a gateway: in journal reports, and those in NDRs.
//!
//! Every layer has a boundary of its own that begins like those of the others. A message may hold lines that begin like them
//! too ([`look_alikes`]), but never one of them as a whole line: no sender of a report may choose such a boundary.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How all boundaries of the wrappings begin, and where the longest part that is none ends.
const BOUNDARY: &str = "_5a3f1c7e-0d2b-4c11-9f6e-b7";

/// Octets of a line in base64 (RFC 2045 §6.8).
const BASE64_LINE_OCTETS: usize = 76;

/// Lines that begin or end like a delimiter of a wrapping, and are none.
pub(crate) fn look_alikes() -> Vec<String> {
    let report = boundary("report");
    [
        format!("--{BOUNDARY}"),
        format!("--{report}x"),
        format!("--{report}---"),
        format!("--{report}--x"),
        format!("-- {report}"),
        format!(" --{report}"),
        format!("> --{report}"),
        format!("-{report}"),
        format!("---{report}"),
        format!("x --{report}--"),
        format!("--{}", report.to_uppercase()),
    ]
    .into()
}

/// The boundary of the layer with this name.
pub(crate) fn boundary(layer: &str) -> String {
    format!("{BOUNDARY}{layer}_")
}

/// A part whose body is `body` as it is.
fn part(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"\r\n\r\n", body].concat()
}

fn multipart(head: &str, media_type: &str, layer: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    let boundary = boundary(layer);
    let mut whole = format!("{head}Content-Type: {media_type}; boundary=\"{boundary}\"\r\n\r\n").into_bytes();
    for part in parts {
        whole.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        whole.extend_from_slice(part);
        whole.extend_from_slice(b"\r\n");
    }
    whole.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    whole
}

/// A message as `message/rfc822`.
fn attached(message: &[u8]) -> Vec<u8> {
    part("Content-Type: message/rfc822", message)
}

/// A message as `message/rfc822` in base64, as some relays make it.
fn attached_in_base64(message: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(message);
    let lines: Vec<&[u8]> = text.as_bytes().chunks(BASE64_LINE_OCTETS).collect();
    part("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", &lines.join(&b"\r\n"[..]))
}

/// A journal report as Exchange makes it. `layer` makes its Message-ID and its boundary.
pub(crate) fn report(layer: &str, originals: &[&[u8]], recipient: &str) -> Vec<u8> {
    let text = format!(
        "Sender: alice@contoso.example\r\nSubject: s\r\nMessage-Id: <o@contoso.example>\r\nRecipient: {recipient}\r\n"
    );
    let head = format!("Message-ID: <{layer}-{recipient}@journal.report.generator>\r\nMIME-Version: 1.0\r\n");
    report_of(layer, &head, "text/plain; charset=\"us-ascii\"", text.as_bytes(), originals)
}

/// A journal report with these lines in its header besides the marker, and this text.
pub(crate) fn report_of(
    layer: &str,
    head: &str,
    text_type: &str,
    text: &[u8],
    originals: &[&[u8]],
) -> Vec<u8> {
    let mut parts = vec![part(&format!("Content-Type: {text_type}"), text)];
    parts.extend(originals.iter().map(|original| attached(original)));
    multipart(&format!("X-MS-Journal-Report:\r\n{head}"), "multipart/mixed", layer, &parts)
}

/// An NDR that returns `returned`, a part.
fn ndr_around(layer: &str, returned: Vec<u8>) -> Vec<u8> {
    let text = format!("It came back:\r\nContent-Type: multipart/mixed; boundary={}\r\n", boundary("report"));
    let status = "Reporting-MTA: dns; mx.contoso.example\r\n\r\nFinal-Recipient: rfc822;mbx@gw.example\r\nAction: failed\r\n";
    let parts = [
        part("Content-Type: text/plain", text.as_bytes()),
        part("Content-Type: message/delivery-status", status.as_bytes()),
        returned,
    ];
    multipart(
        "X-MS-Exchange-Message-Is-Ndr:\r\nMIME-Version: 1.0\r\n",
        "multipart/report; report-type=delivery-status",
        layer,
        &parts,
    )
}

/// An NDR that returns a message as it is.
pub(crate) fn ndr(layer: &str, returned: &[u8]) -> Vec<u8> {
    ndr_around(layer, attached(returned))
}

/// An NDR that returns a message in base64.
pub(crate) fn ndr_in_base64(layer: &str, returned: &[u8]) -> Vec<u8> {
    ndr_around(layer, attached_in_base64(returned))
}

/// What rights protection makes of a message with this Message-ID.
pub(crate) fn protected(message_id: Option<&str>) -> Vec<u8> {
    let id = message_id.map_or_else(String::new, |id| format!("Message-ID: {id}\r\n"));
    let parts = [
        part("Content-Type: text/plain", b"This message is protected.\r\n"),
        part(
            "Content-Type: application/x-microsoft-rpmsg-message; name=\"message.rpmsg\"\r\n\
             Content-Transfer-Encoding: base64",
            STANDARD.encode(b"sealed").as_bytes(),
        ),
    ];
    multipart(
        &format!("From: alice@contoso.example\r\n{id}Subject: s\r\n"),
        "multipart/mixed",
        "rpmsg",
        &parts,
    )
}

/// A message on another way: a fork has other trace lines above the same rest.
pub(crate) fn traced(message: &[u8], way: &str) -> Vec<u8> {
    let lines = format!(
        "Received: from {way}.contoso.example by mail.contoso.example\r\n\twith ESMTP; Mon, 2 Nov 2026 09:00:01 +0000\r\n\
         X-MS-Exchange-Organization-Way: {way}\r\n"
    );
    [lines.as_bytes(), message].concat()
}

/// The same with bare LF for every CRLF, as a Unix mail file has it; CRs in front of one go too.
pub(crate) fn with_lf(octets: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(octets.len());
    for octet in octets {
        while *octet == b'\n' && out.last() == Some(&b'\r') {
            out.pop();
        }
        out.push(*octet);
    }
    out
}
