//! Where Daybook and Dovecot say different things of the same message, and why that stays so.

/// Differences of one kind.
#[derive(Debug)]
pub(crate) struct Explained {
    /// The messages: names, in which a `*` stands for anything.
    messages: &'static [&'static str],
    /// The items or searches, likewise.
    what: &'static [&'static str],
    /// Read by whoever asks why.
    #[allow(dead_code, reason = "for people, and shown when the difference is gone")]
    why: &'static str,
}

impl Explained {
    pub(crate) fn is_about(&self, message: &str, what: &str) -> bool {
        let fits = |patterns: &[&str], name: &str| patterns.iter().any(|pattern| fits(pattern, name));
        fits(self.messages, message) && fits(self.what, what)
    }
}

/// Whether a name is as a pattern says.
fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let begins = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(begins) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(ends) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(ends)
}

/// What is added to the name of an item of which we say nothing, and Dovecot the same as of the part one number up.
pub(crate) const THE_PART_ITSELF: &str = " (the part itself)";

/// In what FETCH says.
pub(crate) const FETCHES: &[Explained] = &[
    Explained {
        messages: &["*"],
        what: &["BODY[* (the part itself)"],
        why: "RFC 3501 §6.4.5: what is no multipart and no message has no part 1; Dovecot gives the part itself",
    },
    Explained {
        messages: &[
            "*/base64-in-base64.eml",
            "*/base64-five-deep.eml",
            "*/header-returned-as-message.eml",
            "*/original-empty.eml",
            "*/original-in-uuencode.eml",
            "*/s27_inner_base64.eml",
            "*/s50_e2003.eml",
            "hard: boundary that begins another",
            "hard: nested multiparts and messages",
        ],
        what: &["BODY", "BODYSTRUCTURE", "BODY[*"],
        why: "RFC 2046 §5.1.1: the line end before a delimiter belongs to it; Dovecot counts it to a message or multipart that \
              has ended before it",
    },
    Explained {
        messages: &["*/original-without-blank-line.eml"],
        what: &["BODY[2.MIME]", "BODY[2.HEADER.FIELDS *"],
        why: "the empty line ends the header of the part; Dovecot counts it to the delimiter that follows",
    },
    Explained {
        messages: &[
            "*/base64-with-odd-line-lengths.eml",
            "*/ndr-quoted-printable.eml",
            "*/n05_ndr_base64.eml",
            "*/original-in-uuencode.eml",
            "*/original-quoted-printable.eml",
            "*/s27_inner_base64.eml",
            "hard: encoded message",
        ],
        what: &["BODY", "BODYSTRUCTURE", "BODY[*"],
        why: "RFC 2046 §5.2.1: a message is not transfer-encoded; Dovecot takes the encoded text for its header and body",
    },
    Explained {
        messages: &["*/boundary-in-pieces.eml", "hard: multipart with all fields"],
        what: &["BODY", "BODYSTRUCTURE"],
        why: "parameters in pieces (RFC 2231) are given as they are written, as every client reads them; Dovecot joins some",
    },
    Explained {
        messages: &[
            "*/boundary-is-dashes.eml",
            "*/boundary-is-prefix-of-inner.eml",
            "*/boundary-longer-than-70.eml",
            "*/html-quotes-the-returned-header.eml",
            "*/look-alikes-of-the-boundary.eml",
            "*/text-quotes-fake-parts.eml",
        ],
        what: &["BODY", "BODYSTRUCTURE", "BODY[*"],
        why: "RFC 2046 §5.1.1: a delimiter is a whole line; Dovecot takes a line for one that only begins like it",
    },
    Explained {
        messages: &["*/continuation-lost-its-blank.eml", "*/continuation-lines-lost-their-blanks.eml"],
        what: &["BODY", "BODYSTRUCTURE", "BODY[*"],
        why: "the boundary is read although a relay took the blank before it away; Dovecot finds no parts",
    },
    Explained {
        messages: &["*/hundred-parameters-before-the-boundary.eml", "*/*-seventy-deep.eml"],
        what: &["BODY", "BODYSTRUCTURE", "BODY[*"],
        why: "beyond our limits on parameters and depth what follows is one text; those of Dovecot are wider",
    },
    Explained {
        messages: &["*/header-that-never-ends.eml", "hard: no body and no empty line"],
        what: &["BODY[HEADER.FIELDS *"],
        why: "RFC 3501 §6.4.5: no empty line where the message has no body and no empty line; Dovecot adds one",
    },
    Explained {
        messages: &["hard: comments in address fields", "hard: source routes and odd addresses"],
        what: &["ENVELOPE"],
        why: "words that are no address are shown with MISSING_DOMAIN as the local part, and Dovecot shows them as a name; blanks \
              around the dots and signs of an address are obsolete but lawful (RFC 5322 §4.4), and stop Dovecot",
    },
    Explained {
        messages: &["hard: folded subject"],
        what: &["ENVELOPE"],
        why: "a date that begins on a continuation line is given without the blank of the fold",
    },
    Explained {
        messages: &["hard: parameters with escapes"],
        what: &["BODY", "BODYSTRUCTURE"],
        why: "an unquoted value may hold a slash, as many programs write it, and a parameter without a name is none",
    },
    Explained {
        messages: &["hard: unknown transfer encoding"],
        what: &["BODY", "BODYSTRUCTURE"],
        why: "the encoding is told as the header names it; Dovecot says 7bit where it does not know it",
    },
];

/// In what SEARCH finds; messages begin with the side on which alone they are found, `ours: ` or `theirs: `.
pub(crate) const SEARCHES: &[Explained] = &[
    Explained {
        messages: &["theirs: *"],
        what: &["SENTBEFORE 1-Jan-1980"],
        why: "without a readable Date a message was sent on no day at all; Dovecot takes it for one of 1970",
    },
    Explained {
        messages: &["theirs: hard: dates of all kinds: *"],
        what: &["HEADER Date \"\" SENTBEFORE *"],
        why: "the same of dates that cannot be read",
    },
    Explained {
        messages: &["theirs: *"],
        what: &["NOT HEADER Date \"\" SENTBEFORE *"],
        why: "the same of messages without any",
    },
    Explained {
        messages: &["theirs: hard: empty fields"],
        what: &["HEADER Date \"\" SENTBEFORE *"],
        why: "the same of a Date without a value",
    },
    Explained {
        messages: &[
            "ours: */header-returned-as-message.eml",
            "ours: hard: nested multiparts and messages",
            "ours: hard: multipart with all fields",
        ],
        what: &["BODY budget", "BODY needle", "BODY sender"],
        why: "the headers of parts are part of the body (RFC 3501 §6.4.4): an attached message is found by its subject, an \
              attachment by its name; Dovecot looks into no header for BODY",
    },
    Explained {
        messages: &[
            "ours: */n05_ndr_base64.eml",
            "ours: */ndr-quoted-printable.eml",
            "ours: */original-as-plain-eml-file.eml",
            "ours: */s27_inner_base64.eml",
            "ours: hard: encoded message",
        ],
        what: &["*BODY *"],
        why: "attached messages are looked into also when they came encoded, or as a file; those of Dovecot not",
    },
    Explained {
        messages: &[
            "ours: */continuation-lost-its-blank.eml",
            "ours: */continuation-lines-lost-their-blanks.eml",
        ],
        what: &["*BODY *"],
        why: "the boundary is read although a relay took the blank before it away; Dovecot finds no parts",
    },
    Explained {
        messages: &[
            "ours: */text-of-an-unknown-transfer-encoding.eml",
            "ours: hard: content type that is none",
            "ours: hard: content type without a value",
            "ours: hard: unknown transfer encoding",
        ],
        what: &["*BODY *"],
        why: "what cannot be understood is looked into as it stands: rather a message too many than one too few",
    },
    Explained {
        messages: &["theirs: */hundred-parameters-before-the-boundary.eml"],
        what: &["*BODY *"],
        why: "beyond our limit on parameters there is no boundary, and so no parts",
    },
];
