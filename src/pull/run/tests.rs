//! What is done at an account when the server refuses single messages, or breaks at them.

use super::*;
use crate::config::{Live, PullCredential, SecretSource, Settings};
use crate::pull::pop3::Pop3;
use crate::pull::tests::{Kept, server};
use crate::smtp::{Peer, Receiver, Reception, RecipientVerdict};
use crate::store::{Embedded, Options};

struct Takes;

impl Receiver for Takes {
    fn room(&self, _octets: Option<u64>) -> Result<(), smtp::Fault> {
        Ok(())
    }

    fn recipient(&self, _address: &Address, _already: &[Address], _peer: &Peer<'_>) -> RecipientVerdict {
        unreachable!("a puller asks for nobody")
    }

    fn session_id(&self) -> SessionId {
        SessionId::new(1, [0; 10])
    }

    fn receipt_id(&self) -> ReceiptId {
        ReceiptId::new(1, [0; 10])
    }

    fn begin(&self, _id: ReceiptId, _envelope: TransportEnvelope) -> Result<Box<dyn Reception>, smtp::Fault> {
        Ok(Box::new(Kept::default()))
    }
}

const GREETING: &str = "+OK\r\n-ERR\r\n";
const TWO: &str = "+OK\r\n1 a\r\n2 b\r\n.\r\n+OK\r\n1 2\r\n2 2\r\n.\r\n";
const HI: &str = "+OK\r\nhi\r\n.\r\n";

/// What came of a visit.
struct Came {
    fault: Option<Fault>,
    visit: Visit,
    state: State,
    heard: String,
}

/// Visits a POP3 server that says this, with what is known of it before.
async fn visited(says: &str, prepare: impl FnOnce(&mut State)) -> Came {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&Options { data_dir: dir.path().to_owned(), reserve_octets: 0 }).unwrap().0;
    let settings = Live::new(Settings::with_defaults("gw.example", &["gw.example"], dir.path()));
    let gateway = Gateway { store: Arc::new(store), receiver: Arc::new(Takes), settings };
    let puller = Puller {
        name: "outside".to_owned(),
        mailbox: "ndrs".to_owned(),
        protocol: PullProtocol::Pop3s,
        host: "pop.example".to_owned(),
        port: 995,
        ca_file: None,
        login: "ndr".to_owned(),
        credential: PullCredential::Password(SecretSource::Environment("NONE".to_owned())),
        folder: "INBOX".to_owned(),
        after: PullAfter::Delete,
        every_minutes: 5,
    };
    let drain = Drain::new();
    let mut state = State::new("pop3s://ndr@pop.example:995");
    prepare(&mut state);
    let visit = Visit { messages: 0, octets: 0, left: 0, unsettled: 0, more: false, fault: None };
    let mut run = Run {
        gateway: &gateway,
        puller: &puller,
        drain: &drain,
        session_id: SessionId::new(1, [0; 10]),
        octets_max: 100,
        state,
        visit,
        deleted: Vec::new(),
        aside: None,
    };
    let (stream, heard) = server(format!("{GREETING}{says}").as_bytes());
    let account = Account::Pop3(Box::new(Pop3::greet(stream).await.unwrap()));
    let route = Route {
        to: Address::parse("ndrs@gw.example").unwrap(),
        peer: SocketAddr::from(([127, 0, 0, 1], 995)),
        tls: TlsFacts { version: String::new(), cipher: String::new(), client_certificate: None },
    };
    let fault = run.work(account, &route).await.err();
    let Run { visit, state, .. } = run;
    Came { fault, visit, state, heard: String::from_utf8(heard.await.unwrap()).unwrap() }
}

fn kind(came: &Came) -> Option<FaultKind> {
    came.fault.as_ref().map(|fault| fault.kind)
}

#[tokio::test]
async fn one_message_that_is_not_given_does_not_keep_the_others_from_being_deleted() {
    let came = visited(&format!("{TWO}-ERR held\r\n{HI}+OK\r\n+OK bye\r\n"), |_| {}).await;
    assert_eq!((kind(&came), came.visit.messages), (Some(FaultKind::Message), 1));
    assert!(came.heard.ends_with("RETR 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n"), "{}", came.heard);
    assert!(came.state.has_uidl("b") && !came.state.has_uidl("a") && came.state.unsettled() == 0);
}

#[tokio::test]
async fn one_message_that_may_not_be_deleted_does_not_keep_others_from_being_fetched() {
    let says = format!("{TWO}-ERR read-only\r\n{HI}+OK\r\n+OK bye\r\n");
    let came = visited(&says, |state| state.note_done("a", 0, true)).await;
    assert_eq!((kind(&came), came.visit.messages), (Some(FaultKind::Message), 1));
    assert!(came.fault.unwrap().advice.contains("may this login delete"));
    assert!(came.heard.ends_with("DELE 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n"), "{}", came.heard);
    assert!(came.state.is_unsettled("a") && !came.state.is_unsettled("b"));
}

#[tokio::test]
async fn a_message_at_which_visits_break_waits_for_all_others() {
    let broken = |times: usize| move |state: &mut State| (0..times).for_each(|_| state.note_broken("a"));
    for times in 0..2 {
        let came = visited(TWO, broken(times)).await;
        assert_eq!(kind(&came), Some(FaultKind::Unreachable));
        assert_eq!(came.state.breaks("a") as usize, times + 1);
    }
    let came = visited(&format!("{TWO}{HI}+OK\r\n+OK bye\r\n"), broken(2)).await;
    assert_eq!((came.fault, came.visit.messages, came.visit.more), (None, 1, true));
    assert!(came.heard.ends_with("RETR 2\r\nDELE 2\r\nQUIT\r\n"), "{}", came.heard);
    // Then it is tried again: that it breaks the visit is of no consequence for the others.
    let came = visited("+OK\r\n1 a\r\n.\r\n+OK\r\n1 2\r\n.\r\n+OK\r\nh", broken(2)).await;
    assert_eq!((kind(&came), came.state.breaks("a")), (Some(FaultKind::Message), 3));
}
