//! Every reply there is, in one table: code, enhanced status code, text and whose fault it is.
//!
//! The rest of the room speaks of [`Outcome`]s; what is written on the wire for one is decided here and
//! nowhere else, so that the rule "trouble of ours or the operator's is 4xx" can be read off one page, and
//! is checked over the whole table by a test.
//!
//! Texts are fixed and neutral. Nothing the peer sent is ever repeated in a reply: an echo is a way to make
//! us say something else. Enhanced codes (RFC 3463, RFC 5248) stand in every 2xx, 4xx and 5xx reply except
//! the greeting and those to EHLO and HELO (RFC 2034 §4).
//!
//! Who is to blame: `peer` made a mistake or asks for too much; with `ours` Daybook is in trouble, with `operator` somebody must act or
//! chose so; `nobody`: all is well. The last five are the [`Fault`]s that a [`Receiver`](super::Receiver) can meet. Four replies
//! are made here and not from the table: the greeting, the one to EHLO and HELO, `250 2.0.0 Ok <receipt id>` for a message that is
//! durable, and `250 2.0.0 <n> octets received` for a chunk.
//!
//! | outcome | code | enhanced | blame | | text |
//! |---|---|---|---|---|---|
//! | Done | 250 | 2.0.0 | nobody |  | `Ok` |
//! | SenderAccepted | 250 | 2.1.0 | nobody |  | `Sender ok` |
//! | RecipientAccepted | 250 | 2.1.5 | nobody |  | `Recipient ok` |
//! | SendBody | 354 | – | nobody |  | `End data with <CR><LF>.<CR><LF>` |
//! | SendHandshake | 220 | 2.0.0 | nobody |  | `Ready to start TLS` |
//! | Goodbye | 221 | 2.0.0 | nobody | closes | `Bye` |
//! | Helped | 214 | 2.0.0 | nobody |  | `See RFC 5321` |
//! | NotVerified | 252 | 2.0.0 | nobody |  | `Not verified; send mail and see` |
//! | UnknownCommand | 500 | 5.5.1 | peer |  | `Command unknown` |
//! | BadSyntax | 501 | 5.5.4 | peer |  | `Syntax error` |
//! | LineTooLong | 500 | 5.5.2 | peer |  | `Line too long` |
//! | LineGarbled | 500 | 5.5.2 | peer | closes | `Bare CR, bare LF or NUL in command` |
//! | BadParameter | 555 | 5.5.4 | peer |  | `Parameter unknown or malformed` |
//! | BinaryMimeNotOffered | 555 | 5.6.1 | peer |  | `BINARYMIME not offered` |
//! | BadSender | 501 | 5.1.7 | peer |  | `Bad sender address` |
//! | BadRecipient | 501 | 5.1.3 | peer |  | `Bad recipient address` |
//! | NeedsSmtpUtf8 | 553 | 5.6.7 | peer |  | `Address needs SMTPUTF8` |
//! | HelloFirst | 503 | 5.5.1 | peer |  | `Say EHLO first` |
//! | MailAlready | 503 | 5.5.1 | peer |  | `Sender already given` |
//! | MailFirst | 503 | 5.5.1 | peer |  | `Say MAIL first` |
//! | BdatBegun | 503 | 5.5.1 | peer |  | `BDAT already begun` |
//! | RecipientFirst | 503 | 5.5.1 | peer |  | `Say RCPT first` |
//! | NoValidRecipient | 554 | 5.5.1 | peer |  | `No valid recipients` |
//! | TlsRequired | 530 | 5.7.0 | peer |  | `Say STARTTLS first` |
//! | TlsAlready | 503 | 5.5.1 | peer |  | `TLS already active` |
//! | TlsNotOffered | 502 | 5.5.1 | peer |  | `TLS not offered` |
//! | Pipelined | 554 | 5.5.0 | peer | closes | `Octets sent before the reply` |
//! | ExpnNotOffered | 502 | 5.5.1 | peer |  | `EXPN not offered` |
//! | AuthNotOffered | 502 | 5.5.1 | peer |  | `AUTH not offered` |
//! | TooManyErrors | 421 | 4.7.0 | peer | closes | `Too many errors` |
//! | TooManyRecipients | 452 | 4.5.3 | peer |  | `Too many recipients` |
//! | UnknownRecipient | 550 | 5.1.1 | peer |  | `No such recipient here` |
//! | RecipientForbidden | 550 | 5.7.1 | peer |  | `Delivery not authorised` |
//! | RecipientSuspended | 450 | 4.2.1 | operator |  | `Recipient takes no mail at present` |
//! | RecipientUnclear | 451 | 4.3.0 | ours |  | `Cannot check the recipient now` |
//! | MessageTooLarge | 552 | 5.3.4 | peer |  | `Message too large` |
//! | BareLineEnd | 554 | 5.6.0 | peer | closes | `Bare CR, bare LF or NUL in message` |
//! | BadChunkSize | 501 | 5.5.4 | peer | closes | `Chunk size unreadable` |
//! | TooSlow | 421 | 4.4.2 | peer | closes | `Waited too long` |
//! | TooManyConnections | 421 | 4.7.0 | peer | closes | `Too many connections` |
//! | EnoughMessages | 421 | 4.7.0 | nobody | closes | `Enough messages, go on over a new connection` |
//! | SessionTooOld | 421 | 4.4.2 | nobody | closes | `Connected long enough, come again` |
//! | StoreFull | 452 | 4.3.1 | operator |  | `Insufficient storage` |
//! | StoreTrouble | 451 | 4.3.0 | ours |  | `Cannot store mail now` |
//! | Busy | 451 | 4.3.2 | ours |  | `Too busy now` |
//! | ShuttingDown | 421 | 4.3.2 | operator | closes | `Shutting down` |
//! | Internal | 451 | 4.3.0 | ours |  | `Cannot take mail now` |

use super::{Fault, RecipientVerdict};
use crate::mail::ReceiptId;
use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

/// Who must do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: all is well. With 421, that a connection has been of enough use.
    Nobody,
    /// The peer made a mistake.
    Peer,
    /// Daybook is at fault or overloaded.
    Ours,
    /// The operator must act: make room, resume a gateway mailbox, wait for a restart.
    Operator,
}

impl Blame {
    /// The name used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Blame::Nobody => "nobody",
            Blame::Peer => "peer",
            Blame::Ours => "ours",
            Blame::Operator => "operator",
        }
    }
}

/// What came of a command or a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// RSET, NOOP.
    Done,
    /// MAIL accepted.
    SenderAccepted,
    /// RCPT accepted.
    RecipientAccepted,
    /// DATA accepted: the body may come.
    SendBody,
    /// STARTTLS accepted: the handshake may come.
    SendHandshake,
    /// QUIT.
    Goodbye,
    /// HELP.
    Helped,
    /// VRFY: says neither yes nor no, so that addresses cannot be collected.
    NotVerified,
    /// A command we do not know.
    UnknownCommand,
    /// A known command, wrongly written.
    BadSyntax,
    /// A command line over the limit.
    LineTooLong,
    /// A command line with a bare CR, a bare LF or NUL. It may be the tail of a smuggled message: close.
    LineGarbled,
    /// A MAIL or RCPT parameter we do not offer or cannot read.
    BadParameter,
    /// BODY=BINARYMIME, which is not offered.
    BinaryMimeNotOffered,
    /// The reverse path is not one.
    BadSender,
    /// The forward path is not one.
    BadRecipient,
    /// A non-ASCII address without SMTPUTF8 (RFC 6531 §3.5).
    NeedsSmtpUtf8,
    /// A mail command before EHLO or HELO.
    HelloFirst,
    /// A second MAIL in a transaction.
    MailAlready,
    /// RCPT, DATA or BDAT without MAIL.
    MailFirst,
    /// RCPT or DATA behind BDAT (RFC 3030 §2).
    BdatBegun,
    /// DATA or BDAT with no recipient asked for.
    RecipientFirst,
    /// DATA or BDAT after all recipients were refused.
    NoValidRecipient,
    /// MAIL in clear although TLS is required (RFC 3207 §4).
    TlsRequired,
    /// STARTTLS over TLS.
    TlsAlready,
    /// STARTTLS, but we have no certificate.
    TlsNotOffered,
    /// Octets behind STARTTLS or DATA before our reply: injected, or a peer whose body we would read as
    /// commands. Close.
    Pipelined,
    /// EXPN.
    ExpnNotOffered,
    /// AUTH.
    AuthNotOffered,
    /// More mistakes, or more commands that do nothing, than a session may have.
    TooManyErrors,
    /// More recipients than a transaction may have.
    TooManyRecipients,
    /// An address that is not served.
    UnknownRecipient,
    /// An address that is not served to this peer.
    RecipientForbidden,
    /// A gateway mailbox that takes no mail at present.
    RecipientSuspended,
    /// It cannot be told whether an address is served.
    RecipientUnclear,
    /// Declared or real size over the limit.
    MessageTooLarge,
    /// A bare CR, bare LF or NUL inside DATA. Close.
    BareLineEnd,
    /// A BDAT whose size cannot be read: nobody knows where the chunk ends. Close.
    BadChunkSize,
    /// The peer was silent or slow for too long. Close.
    TooSlow,
    /// More connections than allowed. Close.
    TooManyConnections,
    /// MAIL behind as many messages as one connection may bring. Close: nothing is wrong, and the peer comes again.
    EnoughMessages,
    /// A connection that has lasted long enough, between two messages. Close: as before.
    SessionTooOld,
    /// Trouble on our side.
    Fault(Fault),
}

/// A row of the table.
struct Row {
    code: u16,
    enhanced: &'static str,
    text: &'static str,
    blame: Blame,
    closes: bool,
}

const fn row(code: u16, enhanced: &'static str, blame: Blame, text: &'static str) -> Row {
    Row { code, enhanced, text, blame, closes: false }
}

const fn last(code: u16, enhanced: &'static str, blame: Blame, text: &'static str) -> Row {
    Row { code, enhanced, text, blame, closes: true }
}

/// The table.
fn look_up(outcome: Outcome) -> Row {
    use Blame::{Nobody, Operator, Ours, Peer};
    match outcome {
        Outcome::Done => row(250, "2.0.0", Nobody, "Ok"),
        Outcome::SenderAccepted => row(250, "2.1.0", Nobody, "Sender ok"),
        Outcome::RecipientAccepted => row(250, "2.1.5", Nobody, "Recipient ok"),
        Outcome::SendBody => row(354, "", Nobody, "End data with <CR><LF>.<CR><LF>"),
        Outcome::SendHandshake => row(220, "2.0.0", Nobody, "Ready to start TLS"),
        Outcome::Goodbye => last(221, "2.0.0", Nobody, "Bye"),
        Outcome::Helped => row(214, "2.0.0", Nobody, "See RFC 5321"),
        Outcome::NotVerified => row(252, "2.0.0", Nobody, "Not verified; send mail and see"),
        Outcome::UnknownCommand => row(500, "5.5.1", Peer, "Command unknown"),
        Outcome::BadSyntax => row(501, "5.5.4", Peer, "Syntax error"),
        Outcome::LineTooLong => row(500, "5.5.2", Peer, "Line too long"),
        Outcome::LineGarbled => last(500, "5.5.2", Peer, "Bare CR, bare LF or NUL in command"),
        Outcome::BadParameter => row(555, "5.5.4", Peer, "Parameter unknown or malformed"),
        Outcome::BinaryMimeNotOffered => row(555, "5.6.1", Peer, "BINARYMIME not offered"),
        Outcome::BadSender => row(501, "5.1.7", Peer, "Bad sender address"),
        Outcome::BadRecipient => row(501, "5.1.3", Peer, "Bad recipient address"),
        Outcome::NeedsSmtpUtf8 => row(553, "5.6.7", Peer, "Address needs SMTPUTF8"),
        Outcome::HelloFirst => row(503, "5.5.1", Peer, "Say EHLO first"),
        Outcome::MailAlready => row(503, "5.5.1", Peer, "Sender already given"),
        Outcome::MailFirst => row(503, "5.5.1", Peer, "Say MAIL first"),
        Outcome::BdatBegun => row(503, "5.5.1", Peer, "BDAT already begun"),
        Outcome::RecipientFirst => row(503, "5.5.1", Peer, "Say RCPT first"),
        Outcome::NoValidRecipient => row(554, "5.5.1", Peer, "No valid recipients"),
        Outcome::TlsRequired => row(530, "5.7.0", Peer, "Say STARTTLS first"),
        Outcome::TlsAlready => row(503, "5.5.1", Peer, "TLS already active"),
        Outcome::TlsNotOffered => row(502, "5.5.1", Peer, "TLS not offered"),
        Outcome::Pipelined => last(554, "5.5.0", Peer, "Octets sent before the reply"),
        Outcome::ExpnNotOffered => row(502, "5.5.1", Peer, "EXPN not offered"),
        Outcome::AuthNotOffered => row(502, "5.5.1", Peer, "AUTH not offered"),
        Outcome::TooManyErrors => last(421, "4.7.0", Peer, "Too many errors"),
        Outcome::TooManyRecipients => row(452, "4.5.3", Peer, "Too many recipients"),
        Outcome::UnknownRecipient => row(550, "5.1.1", Peer, "No such recipient here"),
        Outcome::RecipientForbidden => row(550, "5.7.1", Peer, "Delivery not authorised"),
        Outcome::RecipientSuspended => row(450, "4.2.1", Operator, "Recipient takes no mail at present"),
        Outcome::RecipientUnclear => row(451, "4.3.0", Ours, "Cannot check the recipient now"),
        Outcome::MessageTooLarge => row(552, "5.3.4", Peer, "Message too large"),
        Outcome::BareLineEnd => last(554, "5.6.0", Peer, "Bare CR, bare LF or NUL in message"),
        Outcome::BadChunkSize => last(501, "5.5.4", Peer, "Chunk size unreadable"),
        Outcome::TooSlow => last(421, "4.4.2", Peer, "Waited too long"),
        Outcome::TooManyConnections => last(421, "4.7.0", Peer, "Too many connections"),
        Outcome::EnoughMessages => last(421, "4.7.0", Nobody, "Enough messages, go on over a new connection"),
        Outcome::SessionTooOld => last(421, "4.4.2", Nobody, "Connected long enough, come again"),
        Outcome::Fault(Fault::StoreFull) => row(452, "4.3.1", Operator, "Insufficient storage"),
        Outcome::Fault(Fault::StoreTrouble) => row(451, "4.3.0", Ours, "Cannot store mail now"),
        Outcome::Fault(Fault::Busy) => row(451, "4.3.2", Ours, "Too busy now"),
        Outcome::Fault(Fault::ShuttingDown) => last(421, "4.3.2", Operator, "Shutting down"),
        Outcome::Fault(Fault::Internal) => row(451, "4.3.0", Ours, "Cannot take mail now"),
    }
}

impl From<RecipientVerdict> for Outcome {
    fn from(verdict: RecipientVerdict) -> Outcome {
        match verdict {
            RecipientVerdict::Accept => Outcome::RecipientAccepted,
            RecipientVerdict::Unknown => Outcome::UnknownRecipient,
            RecipientVerdict::Forbidden => Outcome::RecipientForbidden,
            RecipientVerdict::Suspended => Outcome::RecipientSuspended,
            RecipientVerdict::TooMany => Outcome::TooManyRecipients,
            RecipientVerdict::TryLater => Outcome::RecipientUnclear,
        }
    }
}

/// A reply as it goes to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The enhanced status code; empty when this reply has none.
    pub enhanced: &'static str,
    /// One text per line, at least one.
    pub lines: Vec<Cow<'static, str>>,
    /// Whose fault it is.
    pub blame: Blame,
    /// The connection ends behind this reply.
    pub closes: bool,
    /// How long to wait before it is sent, once everything before it was: for those who guess addresses.
    pub delay: Duration,
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Reply {
        let Row { code, enhanced, text, blame, closes } = look_up(outcome);
        Reply { code, enhanced, lines: vec![Cow::Borrowed(text)], blame, closes, delay: Duration::ZERO }
    }
}

impl Reply {
    /// The first line of a session.
    pub fn greeting(hostname: &str) -> Reply {
        Reply::good(220, "", vec![format!("{hostname} ESMTP").into()])
    }

    /// To HELO (no extensions) and EHLO (one per line).
    pub fn hello(hostname: &str, extensions: Vec<Cow<'static, str>>) -> Reply {
        let mut lines = vec![Cow::Owned(hostname.to_owned())];
        lines.extend(extensions);
        Reply::good(250, "", lines)
    }

    /// The message is durable. Carries the id it can be traced by.
    pub fn stored(receipt_id: ReceiptId) -> Reply {
        Reply::good(250, "2.0.0", vec![format!("Ok {receipt_id}").into()])
    }

    /// A chunk that is not the last was taken.
    pub fn chunk_taken(octets: u64) -> Reply {
        Reply::good(250, "2.0.0", vec![format!("{octets} octets received").into()])
    }

    fn good(code: u16, enhanced: &'static str, lines: Vec<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced, lines, blame: Blame::Nobody, closes: false, delay: Duration::ZERO }
    }

    /// True for 4xx and 5xx.
    pub fn is_refusal(&self) -> bool {
        self.code >= 400
    }

    /// Appends the reply in its wire form (RFC 5321 §4.2).
    pub fn write_to(&self, output: &mut Vec<u8>) {
        let count = self.lines.len();
        for (index, line) in self.lines.iter().enumerate() {
            let mark = if index + 1 == count { ' ' } else { '-' };
            let gap = if self.enhanced.is_empty() { "" } else { " " };
            // Writing to memory cannot fail.
            write!(output, "{}{mark}{}{gap}{line}\r\n", self.code, self.enhanced).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists outcomes and faults; one that is missing does not compile.
    macro_rules! list {
        ($($outcome:ident),*; faults: $($fault:ident),*) => {
            fn all() -> Vec<Outcome> {
                let is_listed = |outcome| match outcome {
                    $(Outcome::$outcome)|* | Outcome::Fault($(Fault::$fault)|*) => true,
                };
                let all = vec![$(Outcome::$outcome,)* $(Outcome::Fault(Fault::$fault),)*];
                assert!(all.iter().copied().all(is_listed));
                all
            }
        };
    }

    list! {
        Done,
        SenderAccepted,
        RecipientAccepted,
        SendBody,
        SendHandshake,
        Goodbye,
        Helped,
        NotVerified,
        UnknownCommand,
        BadSyntax,
        LineTooLong,
        LineGarbled,
        BadParameter,
        BinaryMimeNotOffered,
        BadSender,
        BadRecipient,
        NeedsSmtpUtf8,
        HelloFirst,
        MailAlready,
        MailFirst,
        BdatBegun,
        RecipientFirst,
        NoValidRecipient,
        TlsRequired,
        TlsAlready,
        TlsNotOffered,
        Pipelined,
        ExpnNotOffered,
        AuthNotOffered,
        TooManyErrors,
        TooManyRecipients,
        UnknownRecipient,
        RecipientForbidden,
        RecipientSuspended,
        RecipientUnclear,
        MessageTooLarge,
        BareLineEnd,
        BadChunkSize,
        TooSlow,
        TooManyConnections,
        EnoughMessages,
        SessionTooOld;
        faults: StoreFull, StoreTrouble, Busy, ShuttingDown, Internal
    }

    fn check(reply: Reply, expect: &str) {
        let mut written = Vec::new();
        reply.write_to(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), expect);
    }

    #[test]
    fn trouble_that_is_not_the_peers_is_never_a_5xx() {
        for outcome in all() {
            let reply = Reply::from(outcome);
            match reply.blame {
                Blame::Nobody => assert!(reply.code < 400 || reply.code == 421, "{outcome:?}"),
                Blame::Ours | Blame::Operator => assert!((400..500).contains(&reply.code), "{outcome:?}"),
                Blame::Peer => assert!(reply.code >= 400, "{outcome:?}"),
            }
        }
    }

    #[test]
    fn the_table_in_the_documentation_is_the_one_in_force() {
        let rows = |outcome: Outcome| {
            let Reply { code, enhanced, lines, blame, closes, .. } = outcome.into();
            let name = format!("{outcome:?}").replace("Fault(", "").replace(')', "");
            let enhanced = if enhanced.is_empty() { "–" } else { enhanced };
            let (text, closes) = (&lines[0], if closes { "closes" } else { "" });
            format!("//! | {name} | {code} | {enhanced} | {} | {closes} | `{text}` |", blame.as_str())
        };
        let table: Vec<String> = all().into_iter().map(rows).collect();
        let source = include_str!("reply.rs");
        let documented: Vec<&str> =
            source.lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
        assert_eq!(documented, table, "it should read:\n{}", table.join("\n"));
    }

    #[test]
    fn codes_agree_with_enhanced_codes_and_421_always_closes() {
        for outcome in all() {
            let reply = Reply::from(outcome);
            if reply.code != 354 {
                let class = format!("{}.", reply.code / 100);
                assert!(reply.enhanced.starts_with(&class), "{outcome:?}");
            }
            assert!(reply.code != 421 || reply.closes, "{outcome:?}");
        }
    }

    #[test]
    fn writes_single_and_multiple_lines() {
        check(Outcome::UnknownRecipient.into(), "550 5.1.1 No such recipient here\r\n");
        check(Outcome::SendBody.into(), "354 End data with <CR><LF>.<CR><LF>\r\n");
        check(
            Reply::hello("mx.example", vec!["PIPELINING".into(), "SIZE 9".into()]),
            "250-mx.example\r\n250-PIPELINING\r\n250 SIZE 9\r\n",
        );
        check(Reply::greeting("mx.example"), "220 mx.example ESMTP\r\n");
    }
}
