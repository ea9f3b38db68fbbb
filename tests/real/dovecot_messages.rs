//! The messages that are compared: those of the corpus, and some made to be hard.

use super::corpus_messages;
use std::fs;
use std::path::Path;

/// A message in the form in which both servers get it: every line ends in CRLF.
#[derive(Clone)]
pub(crate) struct Message {
    /// Its file below `corpus/`, or what is hard in it.
    pub(crate) name: String,
    pub(crate) octets: Vec<u8>,
}

/// All of them, no two with the same octets.
pub(crate) fn messages() -> Vec<Message> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut all: Vec<Message> = corpus_messages::messages()
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&corpus).unwrap().to_str().unwrap().to_owned();
            Message { name, octets: canonical(&fs::read(path).unwrap()) }
        })
        .collect();
    all.extend(HARD.iter().enumerate().map(|(at, text)| hard(at, text)));
    // DATA carries no NUL (RFC 5321 §2.3.8), and Dovecot gives out another octet in its place.
    all.retain(|message| !message.octets.contains(&0));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|message| seen.insert(message.octets.clone()));
    all
}

/// Its name is what its first line says.
fn hard(at: usize, text: &str) -> Message {
    let (name, message) = text.split_once('\n').unwrap();
    let text = message.replace("\\x", "\u{1}");
    let mut octets = Vec::new();
    // `\xe9` is one octet that is no UTF-8.
    for (at, piece) in text.split('\u{1}').enumerate() {
        if at == 0 {
            octets.extend_from_slice(piece.as_bytes());
        } else {
            let (hex, rest) = piece.split_at(2);
            octets.push(u8::from_str_radix(hex, 16).unwrap());
            octets.extend_from_slice(rest.as_bytes());
        }
    }
    let id = format!("Message-ID: <hard-{at}@example.com>\n");
    Message { name: format!("hard: {name}"), octets: canonical(&[id.as_bytes(), &octets].concat()) }
}

fn canonical(octets: &[u8]) -> Vec<u8> {
    let mut form = daybook::fetch::canonical::Canonical::new();
    let mut canonical = form.push(octets).into_owned();
    canonical.extend_from_slice(form.finish());
    canonical
}

/// What the corpus, which is about journal reports, has too little of.
const HARD: &[&str] = &[
    "groups in address fields\n\
     From: Group: \"Quoted, Name\" <a@example.com>, b@example.com;\n\
     To: undisclosed-recipients:;\nCc: Empty:; , last@example.com\nSubject: groups\nDate: Mon, 2 Nov 2026 10:00:00 +0100\n\nbody\n",
    "comments in address fields\n\
     From: alice@example.com (Alice (nested) Example)\nTo: (before) bob@example.com (after), <carol@example.com>\n\
     Sender: \"D. \\\"quote\\\" E\" <d@example.com>\nReply-To: no domain, @route.example:x@example.com\nSubject: comments\n\nbody\n",
    "source routes and odd addresses\n\
     From: <@a.example,@b.example:joe@c.example>\nTo: \"two words\"@example.com, a . b @ example . com, <>\n\
     Cc: just words here\nBcc: x@[192.0.2.1], y@\nSubject: odd\n\nbody\n",
    "several fields of one name\n\
     From: a@example.com\nFrom: b@example.com\nTo: c@example.com\nTo: d@example.com\nSubject: first\nSubject: second\n\
     Date: Mon, 2 Nov 2026 10:00:00 +0100\nDate: Tue, 3 Nov 2026 10:00:00 +0100\n\nbody\n",
    "no header fields but the id\n\nbody only\n",
    "eight-bit octets in fields\nFrom: M\\xfcller <m@example.com>\nTo: Gr\\xc3\\xbc\\xc3\\x9fe <g@example.com>\nSubject: gr\\xfc\\xdfe\n\nbody \\xfc\n",
    "encoded words\n\
     From: =?iso-8859-1?Q?J=FCrgen_M=FCller?= <j@example.com>\nTo: =?utf-8?B?R3LDvMOfZQ==?= <g@example.com>\n\
     Subject: =?utf-8?B?R3LDvA==?=\n =?utf-8?B?w59l?= =?koi8-r?Q?=D3=DE=A3=D4?=\nDate: Mon, 2 Nov 2026 10:00:00 +0100\n\nbody\n",
    "encoded words of other charsets\n\
     From: a@example.com\nSubject: =?iso-2022-jp?B?GyRCJU8lbSE8GyhC?= and =?x-unknown?Q?what=20is?= =?utf-8?q?broken\n\nbody\n",
    "folded everywhere\n\
     From:\n\tAlice\n  <a@example.com>\nTo: b@example.com,\n\n\nnot a header\n",
    "folded subject\n\
     From: a@example.com\nSubject: this is folded\n  over\n\tlines\nX-Long: a\n b\n c\nDate:\n Mon, 2 Nov 2026\n 10:00:00 +0100\n\nbody\n",
    "dates of all kinds: one digit and a name\nDate: 1 Nov 26 23:59 EST\nFrom: a@example.com\n\nbody\n",
    "dates of all kinds: day of week and zone\nDate: Sat, 21 Nov 2026 00:30:00 +1400\nFrom: a@example.com\n\nbody\n",
    "dates of all kinds: the day before in UTC\nDate: Sat, 21 Nov 2026 23:30:00 -1100 (comment)\nFrom: a@example.com\n\nbody\n",
    "dates of all kinds: unreadable\nDate: yesterday at noon\nFrom: a@example.com\n\nbody\n",
    "dates of all kinds: ISO\nDate: 2026-11-21T10:00:00Z\nFrom: a@example.com\n\nbody\n",
    "dates of all kinds: no zone\nDate: Sat, 21 Nov 2026 10:00:00\nFrom: a@example.com\n\nbody\n",
    "dates of all kinds: comments within\nDate: Sat (day), 21 (th) Nov 2026 10:00:00 +0000\nFrom: a@example.com\n\nbody\n",
    "dates of all kinds: no such day\nDate: Sat, 31 Feb 2026 10:00:00 +0000\nFrom: a@example.com\n\nbody\n",
    "empty fields\nFrom:\nTo:\nCc: \nSubject:\nDate:\nIn-Reply-To:\nReferences:\n\nbody\n",
    "reply\nFrom: a@example.com\nSubject: Re: x\nIn-Reply-To: <one@example.com>\n <two@example.com>\nReferences: <a@b>\n\nbody\n",
    "quoted-printable text\n\
     From: a@example.com\nSubject: qp\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n\
     ein sch=F6ner Tag, a wrapped=20=\nword and a wrapped =\nword\n",
    "base64 text\n\
     From: a@example.com\nSubject: b64\nContent-Type: text/html; charset=\"utf-8\"\nContent-Transfer-Encoding: base64\n\n\
     PGI+R3LDvMOf\nZTwvYj4gdGhl\nIGJ1ZGdldA==\n",
    "multipart with all fields\n\
     From: a@example.com\nSubject: parts\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b;1\"; x=\"y z\"\n\
     Content-Language: de, en\nContent-Location: http://example.com/a b\n\npreamble with sender in it\n--b;1\n\
     Content-Type: text/plain; charset=us-ascii; format=flowed; name*0=\"long\"; name*1=\"er\"\nContent-ID: <id@x>\nContent-Description: a\n  folded description\n\
     Content-Disposition: inline; filename*=utf-8''gr%C3%BC%C3%9Fe.txt\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\nContent-Language: fr\n\nthe first part, hello\n\
     --b;1\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment;\n filename=\"needle.bin\"; size=12\n\n\
     bmVlZGxl\n--b;1--\nepilogue needle\n",
    "nested multiparts and messages\n\
     From: a@example.com\nSubject: nested\nContent-Type: multipart/mixed; boundary=out\n\n--out\n\
     Content-Type: multipart/alternative; boundary=in\n\n--in\n\nplain needle\n--in\nContent-Type: text/html\n\n<p>needle</p>\n--in--\n--out\n\
     Content-Type: message/rfc822\n\nFrom: inner@example.com\nSubject: inner budget\nTo: x@example.com\n\
     Content-Type: multipart/mixed; boundary=deep\n\n--deep\n\ndeep text\n--deep\nContent-Type: image/png; name=x.png\nContent-Transfer-Encoding: base64\n\nAAAA\n--deep--\n--out--\n",
    "digest\n\
     From: a@example.com\nSubject: digest\nContent-Type: multipart/digest; boundary=d\n\n--d\n\nFrom: one@example.com\nSubject: first of two\n\nfirst hello\n\
     --d\nContent-Type: message/rfc822\n\nFrom: two@example.com\nSubject: second\n\nsecond\n--d\nContent-Type: text/plain\n\nnot a message\n--d--\n",
    "multipart without parts\nFrom: a@example.com\nSubject: none\nContent-Type: multipart/mixed; boundary=nowhere\n\nno delimiter here\n",
    "multipart without a boundary\nFrom: a@example.com\nSubject: none\nContent-Type: multipart/mixed\n\n--x\n\npart\n--x--\n",
    "multipart without an end\nFrom: a@example.com\nSubject: open\nContent-Type: multipart/mixed; boundary=o\n\n--o\n\nonly part\n",
    "message in a message in a message\n\
     From: a@example.com\nSubject: 1\nContent-Type: message/rfc822\n\nFrom: b@example.com\nSubject: 2\nContent-Type: message/rfc822\n\n\
     From: c@example.com\nSubject: 3\n\ninnermost hello\n",
    "encoded message\n\
     From: a@example.com\nSubject: enc\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n\
     RnJvbTogYkBleGFtcGxlLmNvbQpTdWJqZWN0OiBoaWRkZW4KCmhlbGxvCg==\n",
    "content type that is none\nFrom: a@example.com\nSubject: ct\nContent-Type: text\n\nhello text\n",
    "content type without a value\nFrom: a@example.com\nSubject: ct\nContent-Type:\nContent-Transfer-Encoding:\n\nhello text\n",
    "content type in another case\nFrom: a@example.com\nSubject: ct\nContent-Type: TEXT/Plain; CharSet=UTF-8\nContent-Transfer-Encoding: 8BIT\n\nGr\\xc3\\xbc\\xc3\\x9fe\n",
    "parameters with escapes\n\
     From: a@example.com\nSubject: p\nContent-Type: application/x-a; name=\"a\\\\b\\\"c\"; empty=\"\"; noquote=a/b; =novalue; alone\n\nx\n",
    "comments in the content type\nFrom: a@example.com\nSubject: c\nContent-Type: (c1) text (c2) / (c3) html (c4); (c5) charset (c6) = (c7) utf-8 (c8)\n\n<b>hello</b>\n",
    "unknown transfer encoding\nFrom: a@example.com\nSubject: u\nContent-Transfer-Encoding: x-uuencode\n\nbegin 644 a\nhello\nend\n",
    "no body and no empty line\nFrom: a@example.com\nSubject: nothing\n",
    "empty body\nFrom: a@example.com\nSubject: nothing\n\n",
    "quotes and backslashes in the subject\nFrom: \"a\\\\b\" <a@example.com>\nSubject: a \"quoted\" \\back\\slash\n\nbody\n",
    "a subject of two thousand letters\nFrom: a@example.com\nSubject: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n b\n\nbody\n",
    "header line that is no field\nFrom: a@example.com\nthis is no field\nSubject: after it\n\nbody\n",
    "space before the colon\nFrom : a@example.com\nSubject\t: spaced\n\nbody\n",
    "delivery status\n\
     From: <>\nSubject: Undeliverable: x\nContent-Type: multipart/report; report-type=delivery-status; boundary=r\n\n--r\n\nfailed\n--r\n\
     Content-Type: message/delivery-status\n\nReporting-MTA: dns; needle.example\n\nFinal-Recipient: rfc822; a@example.com\nAction: failed\n\n\
     --r\nContent-Type: text/rfc822-headers\n\nFrom: b@example.com\nSubject: returned\n\n--r--\n",
    "lines of many octets\nFrom: a@example.com\nSubject: long\n\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx needle\n.\n..\n.x\n",
    "boundary that begins another\n\
     From: a@example.com\nSubject: pre\nContent-Type: multipart/mixed; boundary=ab\n\n--ab\nContent-Type: multipart/mixed; boundary=abc\n\n--abc\n\nx\n--abc--\n--ab\n\ny\n--ab--\n",
    "attachment with a name\n\
     From: a@example.com\nSubject: att\nContent-Type: application/pdf; name=\"=?utf-8?q?gr=C3=BC=C3=9Fe=2Epdf?=\"\n\
     Content-Disposition: ATTACHMENT; FILENAME=\"a.pdf\"; creation-date=\"Sat, 21 Nov 2026 10:00:00 +0000\"\nContent-Transfer-Encoding: BASE64\n\nAAAA\n",
];
