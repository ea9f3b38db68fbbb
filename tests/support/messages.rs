//! Messages of every shape a reader of reports can meet as an original, the same for the same seed.
//!
//! Lawful ones and broken ones: nested multiparts and messages, attachments, octets of any value, lines without end, delimiters
//! that are none, multiparts that never close, headers that never end. What an original is must not matter to those who
//! cut it out.

use super::dice::Dice;
use super::wrap::look_alikes;

/// Deepest nesting made here; with that of the wrappings it stays far below the limit of the scanner.
const DEPTH_MAX: u64 = 8;

/// One message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) octets: Vec<u8>,
    /// Its Message-ID as it must be read.
    pub(crate) message_id: Option<String>,
    /// Its header block ends with an empty line.
    pub(crate) header_ends: bool,
}

/// The message of this seed.
pub(crate) fn message(seed: u64) -> Message {
    let mut maker = Maker { dice: Dice::new(seed), look_alikes: look_alikes(), out: Vec::new() };
    let message_id = maker.fields(seed);
    // One in sixteen has a header and nothing else, not even an empty line.
    if maker.one_in(16) {
        maker.line("Subject: no end");
        maker.chop();
    } else {
        maker.entity(0);
    }
    if maker.one_in(4) {
        maker.chop();
    }
    let header_ends =
        [&b"\n\n"[..], b"\n\r\n"].iter().any(|end| maker.out.windows(end.len()).any(|w| w == *end));
    Message { octets: maker.out, message_id, header_ends }
}

struct Maker {
    dice: Dice,
    look_alikes: Vec<String>,
    out: Vec<u8>,
}

impl Maker {
    fn one_in(&mut self, sides: u64) -> bool {
        self.dice.below(sides) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.dice.below(from.len() as u64) as usize]
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn line(&mut self, text: &str) {
        self.put(text);
        self.put("\r\n");
    }

    /// Takes the last line end away.
    fn chop(&mut self) {
        while self.out.last().is_some_and(|octet| b"\r\n".contains(octet)) {
            self.out.pop();
        }
    }

    /// The header of a message but for its Content-Type; gives its Message-ID.
    fn fields(&mut self, seed: u64) -> Option<String> {
        let id = (!self.one_in(8)).then(|| format!("<{seed}.{:x}@contoso.example>", self.dice.next()));
        self.line(&format!("From: Alice <alice.{seed}@contoso.example>"));
        for _ in 0..self.dice.below(6) {
            let odd = self.pick(&[
                "Subject: =?utf-8?Q?=C3=BCber?=\r\n\t=?utf-8?Q?_lang?=",
                "Subject:",
                "Received: from a\r\n \r\n\tby b",
                "no field at all",
                ">From alice Mon Nov  2 09:00:01 2026",
                "X-MS-Journal-Report:",
                "X-MS-Exchange-Organization-Journal-Report: 1",
                "X-MS-Exchange-Message-Is-Ndr:",
                "Return-Path: <bounce@contoso.example>",
                "X-Bare: a\nX-Line: b",
                "X-Cr: a\rb",
                "X-Nul: a\0b",
                "X-8bit: grüße",
                "Sender: <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.example>",
                "To: bob@contoso.example,\r\n\tcarol@contoso.example",
                "Cc: dave@contoso.example\r\nCc: again@contoso.example",
            ]);
            self.line(odd);
        }
        if self.one_in(20) {
            let long = format!("References: {}", "<r@contoso.example> ".repeat(200));
            self.line(&long);
        }
        if let Some(id) = &id {
            let name = self.pick(&["Message-ID: ", "Message-Id:\t", "MESSAGE-ID:\r\n "]);
            self.line(&format!("{name}{id}"));
        }
        id
    }

    /// The rest of a header, and a body of any kind.
    fn entity(&mut self, depth: u64) {
        match self.dice.below(if depth < DEPTH_MAX { 12 } else { 7 }) {
            0 => {
                // No Content-Type, no body.
                self.line("");
            }
            1 => self.leaf("text/html; charset=utf-8", "8bit", Maker::prose),
            2 => self.leaf("application/octet-stream", "binary", Maker::binary),
            3 => self.leaf("application/pdf; name=\"a.pdf\"", "base64", Maker::base64),
            4 => self.leaf("text/plain", "7bit", Maker::long_lines),
            5 => self.leaf("text/plain; boundary=\"none\"", "quoted-printable", Maker::prose),
            6 => self.leaf("text/plain", "8bit", Maker::prose),
            7 | 8 => self.child(depth),
            _ => self.multipart(depth),
        }
    }

    fn leaf(&mut self, media_type: &str, encoding: &str, body: fn(&mut Maker)) {
        let end = if self.one_in(8) { "\n" } else { "\r\n" };
        self.put(&format!("Content-Type: {media_type}{end}Content-Transfer-Encoding: {encoding}{end}{end}"));
        body(self);
    }

    fn child(&mut self, depth: u64) {
        let media_type = self.pick(&["message/rfc822", "Message/RFC822; name=\"a.eml\"", "message/global"]);
        self.line(&format!("Content-Type: {media_type}"));
        if self.one_in(4) {
            // RFC 2046 §5.2.1 forbids it; inside an original it is left as it is.
            self.line("Content-Transfer-Encoding: base64");
            self.line("");
            return self.base64();
        }
        self.line("");
        let seed = self.dice.next();
        self.fields(seed);
        self.entity(depth + 1);
    }

    fn multipart(&mut self, depth: u64) {
        let boundary = match self.dice.below(6) {
            0 => format!("--=_{:x}--", self.dice.next()),
            1 => format!("{:x} with blanks", self.dice.next()),
            2 => "again and again".to_owned(),
            3 => format!("{:0200x}", self.dice.next()),
            4 => format!("{}{:x}", self.look_alikes[0].trim_start_matches('-'), self.dice.next()),
            _ => format!("{:x}", self.dice.next()),
        };
        let subtype =
            self.pick(&["mixed", "alternative", "digest", "report; report-type=delivery-status", "signed"]);
        self.line(&format!("Content-Type: multipart/{subtype};\r\n\tboundary=\"{boundary}\""));
        self.line("");
        if self.one_in(3) {
            self.prose();
        }
        for _ in 0..self.dice.below(5) {
            let blanks = self.pick(&["", "", "", " ", "\t "]);
            self.put(&format!("\r\n--{boundary}{blanks}\r\n"));
            self.entity(depth + 1);
        }
        if !self.one_in(6) {
            self.put(&format!("\r\n--{boundary}--"));
            if !self.one_in(4) {
                self.line("");
            }
        }
        if self.one_in(5) {
            self.prose();
        }
    }

    fn prose(&mut self) {
        for _ in 0..self.dice.below(20) {
            let line = match self.dice.below(8) {
                0 => {
                    let at = self.dice.below(self.look_alikes.len() as u64) as usize;
                    self.look_alikes[at].clone()
                }
                1 => self
                    .pick(&["--", "-- ", "---", "- --", "--again and again", "--none", "--again and again--"])
                    .into(),
                2 => self
                    .pick(&[
                        ".",
                        "..",
                        "From me",
                        "",
                        "Recipient: eve@contoso.example",
                        "X-MS-Journal-Report:",
                    ])
                    .into(),
                3 => "grüße, 日本".into(),
                _ => "a line of the usual length of prose, and no more".into(),
            };
            self.put(&line);
            let end = self.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"]);
            self.put(end);
        }
    }

    fn long_lines(&mut self) {
        for _ in 0..self.dice.below(4) {
            let octets = self.dice.below(6_000) as usize;
            self.line(&"long ".repeat(octets / 5));
        }
    }

    fn binary(&mut self) {
        for _ in 0..self.dice.below(3_000) {
            let octet = self.dice.next() as u8;
            self.out.push(octet);
        }
    }

    fn base64(&mut self) {
        for _ in 0..self.dice.below(200) {
            self.line("JVBERi0xLjcKJeLjz9MKMSAwIG9iago8PAovVHlwZSAvQ2F0YWxvZwovUGFnZXMgMiAwIFIKL1");
        }
    }
}
