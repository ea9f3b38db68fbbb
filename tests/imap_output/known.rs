//! Known answers for messages that are hard to show. What differs from Dovecot's says so.

use crate::imap_fake::Fake;
use crate::imap_fetch::fetch;

/// Checks what stands behind the name of the one item asked for.
fn check(stored: &str, asked: &str, expect: &str) {
    let fake = Fake::with(&[stored.as_bytes().to_vec()]);
    let answer = fetch(fake.folder("INBOX"), &format!("({asked})")).text();
    let name = asked.replace(".PEEK", "");
    assert_eq!(answer, format!("* 1 FETCH ({name} {expect})\r\n"), "{stored}");
}

fn check_literal(stored: &str, asked: &str, expect: &str) {
    check(stored, asked, &format!("{{{}}}\r\n{expect}", expect.len()));
}

#[test]
fn a_message_without_anything() {
    check("", "ENVELOPE", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
    check("", "BODY", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0)");
    check_literal("", "BODY.PEEK[]", "");
    check_literal("", "BODY.PEEK[1]", "");
    check_literal("\r\nonly a body", "BODY.PEEK[1]", "only a body");
    check_literal("Only: a header\r\n", "BODY.PEEK[HEADER]", "Only: a header\r\n");
    check_literal("Only: a header\r\n", "BODY.PEEK[HEADER.FIELDS (X)]", "");
}

#[test]
fn names_groups_routes_and_comments() {
    check(
        "From: \"A \\\"q\\\" B\" <a@x>, b@y (Bob (x) C), =?utf-8?q?f?= <@r1,@r2:c@z>\r\nTo: undisclosed-recipients:;, G1: d@x, <e@y>;\r\n\
         Sender: <>\r\nReply-To: =?iso-8859-1?q?=E4,?= <l@m>\r\nBcc: \r\n\r\n",
        "ENVELOPE",
        "(NIL NIL ((\"A \\\"q\\\" B\" NIL \"a\" \"x\")(\"Bob (x) C\" NIL \"b\" \"y\")(\"=?utf-8?q?f?=\" \"@r1,@r2\" \"c\" \"z\")) \
         ((NIL NIL \"MISSING_MAILBOX\" \"MISSING_DOMAIN\")) \
         ((NIL NIL \"=?iso-8859-1?q?=E4\" \"MISSING_DOMAIN\")(\"?=\" NIL \"l\" \"m\")) \
         ((NIL NIL \"undisclosed-recipients\" NIL)(NIL NIL NIL NIL)(NIL NIL \"G1\" NIL)(NIL NIL \"d\" \"x\")(NIL NIL \"e\" \"y\")(NIL NIL NIL NIL)) \
         NIL NIL NIL NIL)",
    );
}

/// Dovecot shows nothing behind what it cannot take apart.
#[test]
fn broken_addresses_stay() {
    check(
        "To: broken <foo bar>, no-at, \"only name\", a@b c@d, <x@y\r\nCc: a@b <a@b>\r\n\r\n",
        "ENVELOPE",
        "(NIL NIL NIL NIL NIL ((\"broken\" NIL \"foo bar\" \"MISSING_DOMAIN\")(NIL NIL \"no-at\" \"MISSING_DOMAIN\")\
         (NIL NIL \"only name\" \"MISSING_DOMAIN\")(NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")(NIL NIL \"x\" \"y\")) \
         ((\"a@b\" NIL \"a\" \"b\")) NIL NIL NIL)",
    );
}

#[test]
fn folds_blanks_nul_and_eight_bits() {
    check(
        "Date:  a \t b  \nSubject: x\0y \t \"z\"\n  w\nMessage-ID:\t <a>\n\t <b>\nIn-Reply-To: \nFrom: zoë <d@e>\n\n",
        "ENVELOPE",
        "(\"a \t b  \" {11}\r\nx\u{fffd}y \"z\" w (({4}\r\nzoë NIL \"d\" \"e\")) (({4}\r\nzoë NIL \"d\" \"e\")) (({4}\r\nzoë NIL \"d\" \"e\")) \
         NIL NIL NIL \"\" \"<a>\t <b>\")",
    );
}

#[test]
fn fields_that_occur_again() {
    check(
        "Subject: one\r\nFrom: a@x\r\nSubject: two\r\nFrom: b@y\r\nDate: d\r\nContent-Type: text/a; charset=b\r\nContent-Type: text/c\r\n\r\n",
        "ENVELOPE",
        "(\"d\" \"two\" ((NIL NIL \"a\" \"x\")(NIL NIL \"b\" \"y\")) ((NIL NIL \"a\" \"x\")(NIL NIL \"b\" \"y\")) \
         ((NIL NIL \"a\" \"x\")(NIL NIL \"b\" \"y\")) NIL NIL NIL NIL NIL)",
    );
    check(
        "Content-Type: text/a; charset=b\r\nContent-Type: text/c\r\n\r\nx",
        "BODY",
        "(\"text\" \"a\" (\"charset\" \"b\") NIL NIL \"7bit\" 1 0)",
    );
}

/// A lone CR ends a line on the wire, so a client sees a header end that others do not.
#[test]
fn a_header_that_ends_at_lone_line_ends() {
    let stored = "Subject: a\r\rFrom: hidden@x\r\n\r\nbody\rtext";
    check(stored, "ENVELOPE", "(NIL \"a\" NIL NIL NIL NIL NIL NIL NIL NIL)");
    check_literal(stored, "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", "Subject: a\r\n\r\n");
    check_literal(stored, "BODY.PEEK[TEXT]", "body\r\ntext");
    check(stored, "BODY", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 10 1)");
}

const MIXED: &str = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=abc; x=\"y z\"\r\nContent-Language: en, de\r\n\
    Content-Disposition: inline; filename*=utf-8''a%20b\r\n\r\n--abc\r\nContent-Type: text/html; charset=utf-8; format = flowed\r\n\
    Content-ID: <x@y>\r\nContent-Description: a  \"b\"\r\nContent-MD5: abc\r\nContent-Location: l\r\n\r\ntext\r\n--abc\r\n\
    Content-Type: message/rfc822\r\n\r\nSubject: in\r\nFrom: x\r\n\r\nbody\r\n--abc\r\nContent-Type: multipart/mixed\r\n\r\nno boundary\r\n\
    --abc\r\nContent-Type: multipart/digest; boundary=r\r\n\r\n--r\r\n\r\nSubject: dig\r\n\r\nx\r\n--r--\r\n\
    --abc\r\nContent-Type: IMAGE/png; name*0=a; name*1=\"b\"\r\nContent-Transfer-Encoding: Base64\r\n\r\nfoo\r\n--abc--\r\n";

#[test]
fn a_message_of_many_kinds_of_parts() {
    check(
        MIXED,
        "BODYSTRUCTURE",
        "((\"text\" \"html\" (\"charset\" \"utf-8\" \"format\" \"flowed\") \"<x@y>\" \"a  \\\"b\\\"\" \"7bit\" 4 0 \"abc\" NIL NIL \"l\")\
         (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 28 (NIL \"in\" ((NIL NIL \"x\" \"MISSING_DOMAIN\")) ((NIL NIL \"x\" \"MISSING_DOMAIN\")) \
         ((NIL NIL \"x\" \"MISSING_DOMAIN\")) NIL NIL NIL NIL NIL) (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 4 0 NIL NIL NIL NIL) \
         3 NIL NIL NIL NIL)\
         ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL) \"mixed\" NIL NIL NIL NIL)\
         ((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 17 (NIL \"dig\" NIL NIL NIL NIL NIL NIL NIL NIL) \
         (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 1 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) \"digest\" (\"boundary\" \"r\") NIL NIL NIL)\
         (\"IMAGE\" \"png\" (\"name*0\" \"a\" \"name*1\" \"b\") NIL NIL \"Base64\" 3 NIL NIL NIL NIL) \
         \"mixed\" (\"boundary\" \"abc\" \"x\" \"y z\") (\"inline\" (\"filename*\" \"utf-8''a%20b\")) (\"en\" \"de\") NIL)",
    );
}

#[test]
fn sections_by_number() {
    for (asked, expect) in [
        ("BODY.PEEK[1]", "text"),
        ("BODY.PEEK[1.MIME]<0.20>", "Content-Type: text/h"),
        ("BODY.PEEK[1.1]", ""),
        ("BODY.PEEK[1.HEADER]", ""),
        ("BODY.PEEK[2]", "Subject: in\r\nFrom: x\r\n\r\nbody"),
        ("BODY.PEEK[2.MIME]", "Content-Type: message/rfc822\r\n\r\n"),
        ("BODY.PEEK[2.HEADER]", "Subject: in\r\nFrom: x\r\n\r\n"),
        ("BODY.PEEK[2.HEADER.FIELDS.NOT (FROM)]", "Subject: in\r\n\r\n"),
        ("BODY.PEEK[2.TEXT]", "body"),
        ("BODY.PEEK[2.1]", "body"),
        ("BODY.PEEK[2.1.MIME]", "Subject: in\r\nFrom: x\r\n\r\n"),
        ("BODY.PEEK[2.2]", ""),
        ("BODY.PEEK[3]", "no boundary"),
        ("BODY.PEEK[3.1]", ""),
        ("BODY.PEEK[4.1]", "Subject: dig\r\n\r\nx"),
        ("BODY.PEEK[4.1.1]", "x"),
        ("BODY.PEEK[4.1.1]<1.5>", ""),
        ("BODY.PEEK[4.1.HEADER]", "Subject: dig\r\n\r\n"),
        ("BODY.PEEK[5]<1.1>", "o"),
        ("BODY.PEEK[6]", ""),
        ("BODY.PEEK[4294967295.1]", ""),
    ] {
        let fake = Fake::with(&[MIXED.as_bytes().to_vec()]);
        let answer = fetch(fake.folder("INBOX"), &format!("({asked})")).text();
        assert!(answer.ends_with(&format!("{{{}}}\r\n{expect})\r\n", expect.len())), "{asked}: {answer}");
    }
}

#[test]
fn messages_that_cannot_be_opened_hold_an_empty_text() {
    check(
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeAoKeQo=\r\n",
        "BODY",
        "(\"message\" \"rfc822\" NIL NIL NIL \"base64\" 22 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) \
         (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0) 1)",
    );
}

/// Dovecot takes the first word of the type for nothing, and a value up to the first bracket.
#[test]
fn types_that_are_broken() {
    check(
        "Content-Type: image/; name=foo[1].png; x=; =r\r\nContent-Transfer-Encoding: 8bit (c)\r\n\r\nz",
        "BODY",
        "(\"image\" \"\" (\"name\" \"foo[1].png\" \"x\" \"\") NIL NIL \"8bit\" 1)",
    );
    check(
        "Content-Type: Text\r\nContent-Transfer-Encoding: base64 x\r\nContent-Language: en, \"x\"\r\n\r\nfoo",
        "BODY",
        "(\"Text\" \"\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 0)",
    );
    check(
        "Content-Type: message/global\r\n\r\nSubject: x\r\n\r\ny",
        "BODY",
        "(\"message\" \"global\" NIL NIL NIL \"7bit\" 15)",
    );
}
