//! Fuzz target `report_body`: any text is read as the text of a report, however it is encoded; no recipient is invented or comes
//! twice, and a recipient line behind it adds exactly its recipient and changes nothing before it. Run by `tests/fuzz`
//! and, over all that was ever found and the texts of the corpus, by `tests/fuzz_replay.rs`.
//!
//! Input: an octet that chooses charset and transfer encoding, then the octets of the text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daybook::extract::{Extraction, Scanner, extract};
use daybook::mail::{JournaledRecipient, Profile, Redirection};

const BOUNDARY: &str = "_c2f0a8d15b7e_";
/// Those in which ASCII text is what it is come first.
const CHARSETS: [&str; 8] =
    ["us-ascii", "utf-8", "iso-8859-1", "x-unknown", "", "iso-2022-jp", "utf-16le", "utf-7"];
const ASCII_CHARSETS: u8 = 5;
/// A line that every reader of reports must take.
const LINE: &str = "Recipient: added@fuzz.example";

/// Panics when a promise is broken.
pub(crate) fn run(input: &[u8]) {
    let Some((&settings, text)) = input.split_first() else { return };
    let (charset, encoding) = (settings % 8, settings / 8 % 3);
    let whole = read(text, charset, encoding);
    assert_eq!(whole.reports.len(), 1, "a marked message is a report whatever its text");
    let recipients = &whole.reports[0].envelope.recipients;
    let Ok(written) = str::from_utf8(text) else { return };
    // A relay's choice of encoding does not matter.
    for other in 0..3 {
        let is_safe = other != 0 || is_plain(written);
        if is_safe && encoding != other && (encoding != 0 || is_plain(written)) {
            assert_eq!(read(text, charset, other).reports[0].envelope, whole.reports[0].envelope);
        }
    }
    if charset >= ASCII_CHARSETS || !written.is_ascii() || (encoding == 0 && !is_plain(written)) {
        return;
    }
    // Several stand on one line in the blocks of Exchange 2003 only, with a sign between them, be it a bracket.
    let pieces = written.split(['\r', '\n', ',', ';', '<']).count();
    assert!(recipients.len() <= pieces, "{} recipients in {pieces} pieces", recipients.len());
    let squeezed = squeezed(written);
    for recipient in recipients {
        for address in addresses(recipient) {
            assert!(squeezed.contains(&self::squeezed(address)), "{address:?} was never written");
        }
    }
    check_one_more(written, charset, encoding);
}

/// Boundaries and line ends of the text survive as they are without an encoding.
fn is_plain(text: &str) -> bool {
    text.is_ascii() && !text.contains(BOUNDARY)
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect()
}

fn addresses(recipient: &JournaledRecipient) -> impl Iterator<Item = &str> {
    let via = recipient.redirection.as_ref().map(|redirection| match redirection {
        Redirection::Expanded(address) | Redirection::Forwarded(address) => address,
    });
    std::iter::once(&recipient.address).chain(via).map(|address| address.as_str())
}

fn check_one_more(text: &str, charset: u8, encoding: u8) {
    // Only LF ends lines then; without one, bare CR might.
    let before = format!("{text}\r\n\r\n");
    let after = format!("{before}{LINE}\r\n");
    let [before, after] = [before, after].map(|text| read(text.as_bytes(), charset, encoding));
    let [before, after] = [&before, &after].map(|found| &found.reports[0].envelope);
    let (last, rest) = after.recipients.split_last().expect("the added line is read");
    assert_eq!(last.address.as_str(), "added@fuzz.example");
    assert_eq!(rest, before.recipients, "a line behind changed those before it");
    assert_eq!((&after.sender, &after.on_behalf_of), (&before.sender, &before.on_behalf_of));
}

/// A report with this text, read.
fn read(text: &[u8], charset: u8, encoding: u8) -> Extraction {
    let charset = match CHARSETS[usize::from(charset)] {
        "" => String::new(),
        name => format!("; charset={name}"),
    };
    let (encoding, body) = match encoding {
        0 => ("8bit", text.to_vec()),
        1 => ("base64", STANDARD.encode(text).into_bytes()),
        _ => {
            ("quoted-printable", text.iter().flat_map(|octet| format!("={octet:02X}").into_bytes()).collect())
        }
    };
    let head = format!(
        "X-MS-Journal-Report:\r\nContent-Type: multipart/mixed; boundary={BOUNDARY}\r\n\r\n--{BOUNDARY}\r\n\
         Content-Type: text/plain{charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    );
    let tail = format!(
        "\r\n--{BOUNDARY}\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <o@fuzz.example>\r\n\r\nx\r\n--{BOUNDARY}--\r\n"
    );
    let mut scanner = Scanner::new();
    [head.as_bytes(), &body, tail.as_bytes()].iter().for_each(|octets| scanner.push(octets));
    extract(&scanner.finish(), Profile::Microsoft365)
}
