//! Nothing is relayed and nobody is betrayed: through the server, the pipeline and the store as they run, only exactly a
//! served address is taken, and no reply tells an address that was from one that never has been.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
#[expect(dead_code, reason = "the receiver here is the real one")]
mod smtp_fake;
#[path = "support/smtp_play.rs"]
#[expect(dead_code, reason = "only the way octets are written is needed")]
mod smtp_play;
#[path = "support/smtp_socket.rs"]
#[expect(dead_code, reason = "no TLS and no fake here")]
mod smtp_socket;

use daybook::config::Exchange;
use daybook::directory::Directory;
use daybook::mail::{GatewayMailbox, Profile, Role};
use daybook::pipeline::Pipeline;
use daybook::smtp::server::Settings;
use daybook::store::{Embedded, GatewayMailboxChange, NewGatewayMailbox, Options, Store};
use smtp_socket::{Hosted, SOON, identity, read_lines};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DOMAIN: &str = "gw.example";

struct Gateway {
    hosted: Hosted,
    store: Arc<Embedded>,
    _directory: tempfile::TempDir,
}

impl Gateway {
    async fn start() -> Gateway {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { data_dir: directory.path().to_owned(), reserve_octets: 0 };
        let store = Arc::new(Embedded::open(&options).unwrap().0);
        let pipeline = Pipeline::new(store.clone(), Arc::new(Directory::open(&[]).0), &Exchange::default());
        let mut settings = Settings::new("mx.example");
        // Who guesses waits; what is answered is the same.
        settings.tarpit_max = std::time::Duration::ZERO;
        let hosted = Hosted::start(settings, &identity(), pipeline).await;
        Gateway { hosted, store, _directory: directory }
    }

    async fn create(&self) -> Arc<GatewayMailbox> {
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: DOMAIN.to_owned(),
            tenant: None,
            profile: Profile::Microsoft365,
            role: Role::default(),
        };
        self.store.create_gateway_mailbox(new, "test").await.unwrap().0
    }

    async fn change(&self, of: &GatewayMailbox, changes: Vec<GatewayMailboxChange>) {
        self.store.change_gateway_mailbox(of.id, changes, "test").await.unwrap();
    }

    /// Says all lines in a session of their own, each when the one before was answered, then QUIT. The replies.
    async fn talk(&self, lines: &[&[u8]]) -> Vec<String> {
        let talk = async {
            let mut stream = self.hosted.connect().await.unwrap();
            let mut said = vec![read_lines(&mut stream, 1).await.unwrap()];
            for line in lines.iter().chain([&&b"QUIT"[..]]) {
                // A line that ends the session leaves nobody to read the rest.
                stream.write_all(&[line, &b"\r\n"[..]].concat()).await.unwrap_or_default();
                said.push(read_lines(&mut stream, 1).await.unwrap_or_default());
            }
            stream.read_to_end(&mut Vec::new()).await.unwrap_or_default();
            said.into_iter().map(|reply| String::from_utf8(reply).unwrap()).collect()
        };
        tokio::time::timeout(SOON, talk).await.expect("a talk ends")
    }

    /// The reply to one RCPT.
    async fn recipient(&self, mail: &str, form: &[u8]) -> String {
        let said = self.talk(&[b"HELO client.example", mail.as_bytes(), &[b"RCPT TO:", form].concat()]).await;
        assert!(said[2].starts_with("250 2.1.0"), "{mail}: {said:?}");
        said[3].clone()
    }
}

/// A line of `corpus/relay/forms.txt`.
struct Form {
    code: String,
    reverse_path: String,
    written: String,
}

fn forms() -> Vec<Form> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/relay/forms.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let forms: Vec<Form> = lines
        .map(|line| {
            let parts: Vec<&str> = line.splitn(3, '|').collect();
            let [code, reverse_path, written] = parts[..] else { panic!("cannot read {line:?}") };
            Form {
                code: code.trim().to_owned(),
                reverse_path: reverse_path.trim().to_owned(),
                written: written.strip_prefix(' ').unwrap().to_owned(),
            }
        })
        .collect();
    assert!(forms.len() >= 30, "only {} forms", forms.len());
    forms
}

/// Puts the served address where the form has a place for it.
fn filled(text: &str, served: &str) -> String {
    let (local, domain) = served.split_once('@').unwrap();
    let hex = local.strip_prefix("mbx-").unwrap();
    text.replace("UPPER-LOCAL", &local.to_ascii_uppercase())
        .replace("UPPER-DOMAIN", &domain.to_ascii_uppercase())
        .replace("LOCAL", local)
        .replace("DOMAIN", domain)
        .replace("HEX", hex)
}

#[tokio::test]
async fn only_exactly_a_served_address_is_taken() {
    let gateway = Gateway::start().await;
    let mailbox = gateway.create().await;
    let served = mailbox.address().unwrap().to_string();
    for Form { code, reverse_path, written } in forms() {
        let octets = smtp_play::unescape(&filled(&written, &served));
        let mail = format!("MAIL FROM:<{}>", filled(&reverse_path, &served));
        let reply = gateway.recipient(&mail, &octets).await;
        assert!(reply.starts_with(&code), "{mail}, RCPT TO:{written}: {reply:?}");
        let reply = gateway.recipient(&format!("{mail} SMTPUTF8"), &octets).await;
        let class = code.chars().next().unwrap();
        assert!(reply.starts_with(class), "{mail} SMTPUTF8, RCPT TO:{written}: {reply:?}");
    }
    gateway.hosted.end().await;
}

#[tokio::test]
async fn no_reply_tells_an_address_that_was_from_one_that_never_has_been() {
    let gateway = Gateway::start().await;
    let served = gateway.create().await;
    let suspended = gateway.create().await;
    let deleted = gateway.create().await;
    gateway.change(&suspended, vec![GatewayMailboxChange::Suspend]).await;
    gateway.change(&deleted, vec![GatewayMailboxChange::Suspend]).await;
    gateway.change(&deleted, vec![GatewayMailboxChange::Delete { force: false }]).await;
    let of = |mailbox: &GatewayMailbox| mailbox.address().unwrap().to_string();

    let mut heard = Vec::new();
    for address in [
        of(&deleted),
        format!("mbx-{}@{DOMAIN}", "0".repeat(32)),
        format!("nobody@{DOMAIN}"),
        "x@y.example".into(),
    ] {
        let rcpt = format!("RCPT TO:<{address}>");
        let verify = format!("VRFY {address}");
        let expand = format!("EXPN {address}");
        let lines = [
            "EXPN staff",
            "HELO c.example",
            "MAIL FROM:<>",
            &rcpt,
            &verify,
            &expand,
            "DATA",
            "BDAT 0 LAST",
            &rcpt,
        ];
        heard.push(gateway.talk(&lines.map(str::as_bytes)).await);
    }
    assert!(heard.iter().all(|said| *said == heard[0]), "{heard:#?}");
    assert_eq!(heard[0][4], "550 5.1.1 No such recipient here\r\n");

    for address in [of(&served), of(&suspended), of(&deleted), "staff".to_owned()] {
        let (verify, expand) = (format!("VRFY {address}"), format!("EXPN {address}"));
        let said = gateway.talk(&[verify.as_bytes(), expand.as_bytes()]).await;
        assert_eq!(said[1], "252 2.0.0 Not verified; send mail and see\r\n", "{address}");
        assert_eq!(said[2], "502 5.5.1 EXPN not offered\r\n", "{address}");
    }
    // Its admin has stopped it for a while; the peer is to come again.
    let reply = gateway.recipient("MAIL FROM:<>", format!("<{}>", of(&suspended)).as_bytes()).await;
    assert_eq!(reply, "450 4.2.1 Recipient takes no mail at present\r\n");
    gateway.hosted.end().await;
}
