//! Whole sessions against what a server sent, cut at every octet, and against servers that mean harm.

use super::account::{Given, Item, Key, Secret};
use super::fault::{Fault, FaultKind};
use super::imap::Imap;
use super::pop3::Pop3;
use super::talk::Intake;
use crate::smtp::{BoxFuture, Reception};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use zeroize::Zeroizing;

const GREETING: &str = "* OK ready\r\n* CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 LITERAL+\r\nd1 OK done\r\n";
const LOGGED_IN: &str = "d2 OK in\r\n* CAPABILITY IMAP4rev1 UIDPLUS\r\nd3 OK done\r\n";
const OPENED: &str =
    "* 2 EXISTS\r\n* OK [UIDVALIDITY 77] x\r\n* FLAGS (\\Seen)\r\nd4 OK [READ-WRITE] open\r\n";
const LISTED: &str = "* 1 FETCH (UID 5 RFC822.SIZE 9)\r\n* 2 FETCH (RFC822.SIZE 4 UID 9)\r\n* 2 FETCH (FLAGS (\\Recent))\r\nd5 OK done\r\n";
const FETCHED: &str =
    "* 1 FETCH (FLAGS (\\Seen))\r\n* 1 FETCH (UID 5 BODY[] {9}\r\nd6 OK\r\n)\n FLAGS (x))\r\nd6 OK done\r\n";
const SETTLED: &str = "d7 OK stored\r\n* 1 EXPUNGE\r\nd8 OK gone\r\n* BYE\r\nd9 OK bye\r\n";
const CONTENT: &[u8] = b"d6 OK\r\n)\n";

/// Keeps what it is given.
#[derive(Default)]
pub(super) struct Kept(Vec<u8>);

impl Reception for Kept {
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), crate::smtp::Fault>> {
        self.0.extend_from_slice(octets);
        Box::pin(async { Ok(()) })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), crate::smtp::Fault>> {
        Box::pin(async { Ok(()) })
    }
}

/// A server that sends these octets and then nothing, and the end from which it is heard.
pub(super) fn server(says: &[u8]) -> (DuplexStream, tokio::task::JoinHandle<Vec<u8>>) {
    let (ours, theirs) = tokio::io::duplex(7);
    let says = says.to_vec();
    let heard = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let speaking = async {
            writer.write_all(&says).await.ok();
            writer.shutdown().await.ok();
        };
        let mut heard = Vec::new();
        let hearing = async { reader.read_to_end(&mut heard).await };
        let ((), _) = tokio::join!(speaking, hearing);
        heard
    });
    (ours, heard)
}

fn password() -> Secret {
    Secret::Password(Zeroizing::new("pass\"word".to_owned()))
}

/// What a session brought, as far as it came.
#[derive(Debug, Default)]
struct Came {
    items: Vec<Item>,
    done: Vec<String>,
    content: Option<Vec<u8>>,
    fault: Option<Fault>,
}

async fn imap(stream: DuplexStream, came: &mut Came) -> Result<(), Fault> {
    let mut imap = Imap::greet(stream).await?;
    imap.log_in("ndr@example.net", &password()).await?;
    assert_eq!(imap.open("INBOX", false).await?, 77);
    (came.items, _) = imap.list(1, 10, |_| true).await?;
    let mut kept = Kept::default();
    let given = imap.fetch(5, &mut Intake::new(&mut kept, 100)).await?;
    came.content = (given == Given::Whole).then_some(kept.0);
    assert!(imap.delete(&[5]).await?);
    imap.log_out().await;
    Ok(())
}

fn whole() -> String {
    [GREETING, LOGGED_IN, OPENED, LISTED, FETCHED, SETTLED].concat()
}

#[tokio::test]
async fn an_imap_session_gives_the_octets_of_the_literal_and_asks_for_nothing_more() {
    let (stream, heard) = server(whole().as_bytes());
    let mut came = Came::default();
    imap(stream, &mut came).await.unwrap();
    assert_eq!(came.items.iter().map(Item::uid).collect::<Vec<_>>(), [5, 9]);
    assert_eq!(came.content.as_deref(), Some(CONTENT));
    let expect = "d1 CAPABILITY\r\nd2 LOGIN \"ndr@example.net\" \"pass\\\"word\"\r\nd3 CAPABILITY\r\n\
                  d4 SELECT \"INBOX\"\r\nd5 UID FETCH 1:* (UID RFC822.SIZE)\r\nd6 UID FETCH 5 BODY.PEEK[]\r\n\
                  d7 UID STORE 5 +FLAGS.SILENT (\\Deleted)\r\nd8 UID EXPUNGE 5\r\nd9 LOGOUT\r\n";
    assert_eq!(String::from_utf8(heard.await.unwrap()).unwrap(), expect);
}

#[tokio::test]
async fn cut_at_any_octet_an_imap_session_gives_a_message_whole_or_not_at_all() {
    let whole = whole();
    let enough = [GREETING, LOGGED_IN, OPENED, LISTED, FETCHED].concat().len();
    for cut in 0..whole.len() {
        let (stream, heard) = server(&whole.as_bytes()[..cut]);
        let mut came = Came::default();
        came.fault = imap(stream, &mut came).await.err();
        let wanted = (cut >= enough).then_some(CONTENT);
        assert_eq!(came.content.as_deref(), wanted, "cut at {cut}");
        let fault = came.fault;
        assert!(fault.is_some() || cut >= whole.len() - "* BYE\r\nd9 OK bye\r\n".len(), "cut at {cut}");
        assert!(fault.is_none_or(|fault| fault.kind == FaultKind::Unreachable), "cut at {cut}");
        heard.await.unwrap();
    }
}

/// What comes of it when the server answers the listing and the fetching so.
async fn answered(listed: &str, fetched: &[u8]) -> Came {
    let before = [GREETING, LOGGED_IN, OPENED, listed].concat();
    let (stream, heard) = server(&[before.as_bytes(), fetched].concat());
    let mut came = Came::default();
    came.fault = imap(stream, &mut came).await.err();
    heard.await.unwrap();
    came
}

#[tokio::test]
async fn a_hostile_imap_server_has_nothing_stored_that_was_not_asked_for_and_no_memory() {
    let endless = "x".repeat(1024 * 1024);
    let odd = |kind: &str| format!("* 1 FETCH ({kind})\r\nd6 OK done\r\n").into_bytes();
    for (fetched, why) in [
        (odd("UID 6 BODY[] {2}\r\nhi"), "another message"),
        (odd("BODY[] {2}\r\nhi"), "another message"),
        (odd("UID 5 BODY[] {}"), "without its octets"),
        (odd("UID 0 BODY[] {2}\r\nhi"), "cannot be read"),
        (odd("UID 5 BODY[] {101}\r\nhi"), "larger than the server said"),
        (odd("UID 5 BODY[] {99999999999999}\r\nhi"), "larger than the server said"),
        (odd("UID 5 X {99999999999999}\r\nhi"), "nobody asked for"),
        (odd("UID 5 BODY[] {1}\r\nhi"), "cannot be read"),
        (odd("UID 5 BODY[] {90}\r\nhi"), "closed"),
        (odd(&format!("UID 5 {endless}")), ""),
        (endless.clone().into_bytes(), "does not end"),
        (b"* 1 FETCH (UID 5 BODY[] {2}\r\nhi)\r\n* 1 FETCH (UID 5 BODY[] {2}\r\nhi)\r\n".to_vec(), ""),
        (b"d6 BAD no\r\n".to_vec(), "\"no\""),
    ] {
        let came = answered(LISTED, &fetched).await;
        let fault = came.fault.unwrap();
        assert!(fault.text.contains(why), "{why}: {fault}");
        assert_eq!(came.content, None, "{why}");
    }
    let many: String = (1..=50).map(|n| format!("* {n} FETCH (UID {n} RFC822.SIZE 1)\r\n")).collect();
    let came = answered(&format!("{many}d5 OK\r\n"), b"").await;
    assert_eq!(came.items.len(), 10, "a listing is bounded");
    let came = answered("* 1 FETCH (UID 0 RFC822.SIZE 1)\r\nd5 OK\r\n", b"").await;
    assert!(came.fault.unwrap().text.contains("cannot be read"));
    // Refused or gone is no fault of the session.
    for (fetched, given) in [("d6 NO not now\r\n", None), ("d6 OK done\r\n", None)] {
        let came = answered(LISTED, [fetched, SETTLED].concat().as_bytes()).await;
        assert_eq!((came.content, came.fault), (given, None));
    }
}

#[tokio::test]
async fn a_listing_that_is_refused_is_no_empty_folder_and_one_without_sizes_is_one_of_messages() {
    for (exists, empty) in [("* 0 EXISTS\r\n", true), ("* 2 EXISTS\r\n", false), ("", false)] {
        let opened = format!("{exists}* OK [UIDVALIDITY 77] x\r\nd2 OK open\r\nd3 NO not now\r\n");
        let (stream, _heard) = server(format!("{GREETING}{opened}").as_bytes());
        let mut imap = Imap::greet(stream).await.unwrap();
        imap.open("INBOX", false).await.unwrap();
        let listed = imap.list(1, 10, |_| true).await;
        assert_eq!(listed.ok(), empty.then(|| (Vec::new(), false)), "{exists}");
    }
    let listed =
        "* 1 FETCH (UID 5)\r\n* 2 FETCH (UID 9 FLAGS ())\r\n* 2 FETCH (UID 9 RFC822.SIZE 4)\r\nd5 OK\r\n";
    let came = answered(listed, b"").await;
    let item = |uid, octets| Item { key: Key::Uid(uid), octets };
    assert_eq!(came.items, [item(5, 0), item(9, 4)]);
    let came = answered("* 1 FETCH (RFC822.SIZE 4)\r\nd5 OK\r\n", b"").await;
    assert!(came.fault.unwrap().text.contains("without its UID"));
}

#[tokio::test]
async fn a_message_that_is_there_without_its_octets_is_not_gone() {
    let says = format!("{GREETING}* 1 FETCH (UID 5 BODY[] NIL)\r\nd2 OK done\r\n");
    let (stream, _heard) = server(says.as_bytes());
    let mut imap = Imap::greet(stream).await.unwrap();
    let given = imap.fetch(5, &mut Intake::new(&mut Kept::default(), 100)).await.unwrap();
    assert_eq!(given, Given::Refused("BODY[] NIL".to_owned()));
}

#[tokio::test]
async fn without_uidplus_nobody_elses_messages_are_expunged() {
    for (listed, expunged) in [
        ("* 1 FETCH (UID 5 FLAGS (\\Deleted))\r\n* 2 FETCH (UID 9 FLAGS ())\r\n", true),
        ("* 1 FETCH (UID 5 FLAGS (\\Deleted))\r\n* 2 FETCH (UID 9 FLAGS (\\Seen \\deleted))\r\n", false),
    ] {
        let says = format!("{GREETING}d2 OK stored\r\n{listed}d3 OK done\r\nd4 OK gone\r\n");
        let (stream, heard) = server(says.as_bytes());
        let mut imap = Imap::greet(stream).await.unwrap();
        assert_eq!(imap.delete(&[5]).await.unwrap(), expunged);
        drop(imap);
        let heard = String::from_utf8(heard.await.unwrap()).unwrap();
        assert_eq!(heard.ends_with("d4 EXPUNGE\r\n"), expunged, "{heard}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_with_what_the_server_says_of_it() {
    // {"status":"401"}
    let says = format!("{GREETING}+ eyJzdGF0dXMiOiI0MDEifQ==\r\nd2 NO [AUTHENTICATIONFAILED] no\r\n");
    let (stream, heard) = server(says.as_bytes());
    let mut imap = Imap::greet(stream).await.unwrap();
    let token = Secret::Token(Zeroizing::new("t0ken".to_owned()));
    let fault = imap.log_in("a@b.example", &token).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Login);
    assert!(fault.text.contains("\"status\":\"401\"") || fault.text.contains("status"), "{fault}");
    assert!(!fault.text.contains("t0ken"));
    drop(imap);
    let heard = String::from_utf8(heard.await.unwrap()).unwrap();
    // user=a@b.example ^A auth=Bearer t0ken ^A ^A
    let expect = "d2 AUTHENTICATE XOAUTH2 dXNlcj1hQGIuZXhhbXBsZQFhdXRoPUJlYXJlciB0MGtlbgEB\r\n\r\n";
    assert!(heard.ends_with(expect), "{heard}");

    let says =
        "+OK\r\n+OK\r\nSASL PLAIN XOAUTH2\r\nUIDL\r\n.\r\n+ \r\n+ eyJzdGF0dXMiOiI0MDEifQ==\r\n-ERR no\r\n";
    let (stream, heard) = server(says.as_bytes());
    let mut pop3 = Pop3::greet(stream).await.unwrap();
    let fault = pop3.log_in("a@b.example", &token).await.unwrap_err();
    assert!(fault.kind == FaultKind::Login && fault.text.contains("401"), "{fault}");
    drop(pop3);
    let heard = String::from_utf8(heard.await.unwrap()).unwrap();
    assert_eq!(heard, "CAPA\r\nAUTH XOAUTH2\r\ndXNlcj1hQGIuZXhhbXBsZQFhdXRoPUJlYXJlciB0MGtlbgEB\r\n\r\n");
}

#[tokio::test]
async fn a_password_that_fits_no_quotes_goes_as_a_literal_when_the_server_asks_for_it() {
    let says = format!("{GREETING}+ go\r\n+ go\r\n{LOGGED_IN}");
    let (stream, heard) = server(says.as_bytes());
    let mut imap = Imap::greet(stream).await.unwrap();
    let secret = Secret::Password(Zeroizing::new("pässwort".to_owned()));
    imap.log_in("ndr", &secret).await.unwrap();
    drop(imap);
    let heard = String::from_utf8(heard.await.unwrap()).unwrap();
    assert!(heard.contains("d2 LOGIN {3}\r\nndr {9}\r\npässwort\r\nd3 "), "{heard}");
}

const POP3: &str = "+OK hi <1@x>\r\n+OK\r\nUIDL\r\n.\r\n+OK\r\n+OK in\r\n+OK\r\n1 a\r\n2 b\r\n3 c\r\n.\r\n\
                    +OK\r\n1 5\r\n2 11\r\n3 7\r\n.\r\n+OK 11\r\n..a\r\n.\r\r\n\r\n.\r\n+OK deleted\r\n+OK bye\r\n";
const POP3_CONTENT: &[u8] = b".a\r\n\r\r\n\r\n";

async fn pop3(stream: DuplexStream, came: &mut Came) -> Result<(), Fault> {
    let mut pop3 = Pop3::greet(stream).await?;
    pop3.log_in("ndr@example.net", &password()).await?;
    let listed = pop3.list(10, |uidl| uidl == "b").await?;
    came.done = listed.done.iter().map(Item::id).collect();
    came.items = listed.items;
    let mut kept = Kept::default();
    let item = came.items.first().unwrap();
    let given = pop3.fetch(item, &mut Intake::new(&mut kept, 100)).await?;
    came.content = (given == Given::Whole).then_some(kept.0);
    pop3.delete(item).await?;
    pop3.quit().await
}

#[tokio::test]
async fn cut_at_any_octet_a_pop3_session_gives_a_message_whole_or_not_at_all() {
    let enough = POP3.len() - "+OK deleted\r\n+OK bye\r\n".len();
    for cut in 0..=POP3.len() {
        let (stream, heard) = server(&POP3.as_bytes()[..cut]);
        let mut came = Came::default();
        came.fault = pop3(stream, &mut came).await.err();
        assert_eq!(came.content.as_deref(), (cut >= enough).then_some(POP3_CONTENT), "cut at {cut}");
        assert_eq!(came.fault.is_none(), cut == POP3.len(), "cut at {cut}");
        let heard = String::from_utf8(heard.await.unwrap()).unwrap();
        if cut == POP3.len() {
            let item = Item { key: Key::Uidl { number: 2, uidl: "b".to_owned() }, octets: 11 };
            assert_eq!((came.items, came.done), (vec![item], vec!["a".to_owned(), "c".to_owned()]));
            let expect = "CAPA\r\nUSER ndr@example.net\r\nPASS pass\"word\r\nUIDL\r\nLIST\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n";
            assert_eq!(heard, expect);
        }
    }
}

#[tokio::test]
async fn a_hostile_pop3_server_is_left() {
    let before = "+OK\r\n-ERR what\r\n+OK\r\n+OK\r\n+OK\r\n";
    let long = "x".repeat(71);
    for (says, why) in [
        (format!("{before}0 a\r\n"), "cannot be read"),
        (format!("{before}1 {long}\r\n"), "cannot be read"),
        (format!("{before}1\r\n"), "cannot be read"),
        (format!("{before}1 a b\r\n"), "cannot be read"),
        (format!("{before}1 b\r\n.\r\n+OK\r\n1 -5\r\n"), "size"),
        (format!("{before}1 b\r\n.\r\n+OK\r\n1 5\r\n.\r\n+OK\r\n{}", "x".repeat(101)), "larger"),
        ("+OK\r\n-ERR\r\n+OK\r\n-ERR [AUTH] no\r\n".to_owned(), "[AUTH] no"),
        ("+OK\r\nhello\r\n".to_owned(), "hello"),
        ("x".repeat(1024 * 1024), "does not end"),
    ] {
        let (stream, heard) = server(says.as_bytes());
        let mut came = Came::default();
        let fault = pop3(stream, &mut came).await.unwrap_err();
        assert!(fault.text.contains(why), "{why}: {fault}");
        assert_eq!(came.content, None);
        heard.await.unwrap();
    }
    let in_use = "+OK\r\n-ERR\r\n+OK\r\n-ERR [IN-USE] locked\r\n";
    let (stream, _heard) = server(in_use.as_bytes());
    let fault = pop3(stream, &mut Came::default()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unreachable, "it passes by itself");
}
