//! Nothing is unaccounted for: thousands of messages of every kind are received, and the sums over classes and destinations
//! are what was sent; then users are added, and `reassign` does exactly what its dry run listed.
//!
//! 300 users, 600 messages and 15 users who come later; with `DAYBOOK_LONG=1` 10,000, 20,000 and 50.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/mixed.rs"]
mod mixed;

use daybook::admin::{Context, Reassigned, Request, Response, Serving, perform};
use daybook::config::{DirectorySource, Exchange, Live, Settings};
use daybook::directory::Directory;
use daybook::mail::*;
use daybook::observe::{RefusedMail, Visits};
use daybook::pipeline::Pipeline;
use daybook::smtp::Receiver;
use daybook::store::*;
use mixed::{Fate, Mixed, Users, group};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Runtime;

/// Senders at once: each brings whole groups, one message after the other.
const SENDERS: usize = 16;

struct Gateway {
    context: Context,
    pipeline: Arc<Pipeline>,
    users: PathBuf,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Gateway {
    fn new(users: usize) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let file = dir.path().join("users.toml");
        std::fs::write(&file, Users::toml(users)).unwrap();
        let (store, _) = Embedded::open(&Options { data_dir: data_dir.clone(), reserve_octets: 0 }).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let source = DirectorySource::file("users", file.clone());
        let (directory, report) = Directory::open(&[source]);
        assert!(report.is_good());
        let directory = Arc::new(directory);
        let context = Context {
            store: Arc::clone(&store),
            directory: Arc::clone(&directory),
            settings: Live::new(Settings::with_defaults("gw.example", &["gw.example"], &data_dir)),
            ports: None,
            serving: Serving::default(),
            visits: Visits::default(),
            refused_mail: RefusedMail::default(),
            watch: None,
            pullers: None,
        };
        let pipeline = Pipeline::new(store, directory, &Exchange::default());
        Gateway { context, pipeline, users: file, runtime: Runtime::new().unwrap(), _dir: dir }
    }

    fn create(&self, mode: Mode) -> Arc<GatewayMailbox> {
        let new = NewGatewayMailbox {
            name: mode.as_str().to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Microsoft365,
            role: Role::default(),
        };
        let store = &self.context.store;
        let (made, _) = self.runtime.block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        let becomes = Trust { mode, ..Trust::default() };
        let change = GatewayMailboxChange::Trust { was: Trust::default(), becomes };
        self.runtime.block_on(store.change_gateway_mailbox(made.id, vec![change], "test")).unwrap()
    }

    /// Sends so many groups.
    fn receive(&self, groups: usize, users: Users, observing: &GatewayMailbox, enforcing: &GatewayMailbox) {
        let addresses = [observing, enforcing].map(|mailbox| mailbox.address().unwrap().clone());
        let sender = |number: usize| {
            let (pipeline, addresses) = (Arc::clone(&self.pipeline), addresses.clone());
            self.runtime.spawn(async move {
                for number in (number..groups).step_by(SENDERS) {
                    for message in group(number, users) {
                        let [observing, enforcing] = &addresses;
                        let to = if message.fate == Fate::HeldBack { enforcing } else { observing };
                        receive(&pipeline, to, &message).await;
                    }
                }
            })
        };
        let senders: Vec<_> = (0..SENDERS).map(sender).collect();
        senders.into_iter().for_each(|sender| self.runtime.block_on(sender).unwrap());
    }

    fn entries(&self, of: &GatewayMailbox) -> BTreeMap<String, usize> {
        let mut entries = BTreeMap::new();
        for folder in self.context.store.folders(of.id).unwrap() {
            let kind = folder.path.split('/').next().unwrap().to_owned();
            *entries.entry(kind).or_default() += usize::try_from(folder.entries).unwrap();
        }
        entries.retain(|_, count| *count > 0);
        entries
    }

    /// What every receipt came to.
    fn tally(&self, of: &[&GatewayMailbox]) -> BTreeMap<(&'static str, Fate), usize> {
        let mut tally = BTreeMap::new();
        for mailbox in of {
            let mut after = None;
            loop {
                let since = Timestamp::from_unix_ms(0);
                let walk = Walk { gateway_mailbox: mailbox.id, since, after, folder: None, most: 100 };
                let walked = self.context.store.walk(&walk).unwrap();
                assert!(walked.unread.is_empty(), "{:?}", walked.unread);
                for receipt in &walked.receipts {
                    *tally.entry((receipt.class.as_str(), fate(receipt))).or_default() += 1;
                }
                after = walked.last;
                if after.is_none() {
                    break;
                }
            }
        }
        tally
    }

    fn reassign(&self, apply: bool) -> Reassigned {
        let mut run = Reassigned::new(apply);
        let mut from = None;
        loop {
            let request = Request::Reassign { gateway_mailbox: None, since: None, apply, from };
            let response = self.runtime.block_on(perform(&self.context, "test", request)).unwrap();
            let Response::Reassigned(page) = response else { panic!("{response:?}") };
            from = run.add(*page);
            if from.is_none() {
                return run;
            }
        }
    }
}

async fn receive(pipeline: &Pipeline, to: &Address, message: &Mixed) {
    let envelope = TransportEnvelope {
        session_id: pipeline.session_id(),
        peer: "192.0.2.1:25".parse().unwrap(),
        helo: "mail.example".to_owned(),
        tls: None,
        reverse_path: ReversePath::Null,
        recipients: vec![to.clone()],
        smtputf8: false,
        pulled: None,
    };
    let mut reception = pipeline.begin(pipeline.receipt_id(), envelope).unwrap();
    reception.write(&message.octets).await.unwrap();
    reception.commit().await.unwrap();
}

fn fate(receipt: &ReceiptView) -> Fate {
    let is_in =
        |folder: &str| receipt.placements.iter().any(|placement| placement.folder.starts_with(folder));
    match receipt {
        _ if receipt.repeats.is_some() => Fate::Repeats,
        _ if receipt.judgement.as_ref().is_some_and(|judgement| judgement.held_back) => Fate::HeldBack,
        _ if is_in("Quarantine") => Fate::Quarantine,
        _ if is_in("Users/") => Fate::Users,
        _ if is_in("Unassigned") => Fate::Unassigned,
        _ => panic!("{} is nowhere", receipt.receipt_id),
    }
}

/// Receipt and folder of all that a run lists.
fn changes(run: &Reassigned) -> BTreeSet<(ReceiptId, bool, String)> {
    let mut all = BTreeSet::new();
    for receipt in &run.receipts {
        all.extend(receipt.placements.iter().map(|placed| (receipt.receipt_id, true, placed.folder.clone())));
        all.extend(receipt.left.iter().map(|left| (receipt.receipt_id, false, left.folder.clone())));
    }
    all
}

fn are(entries: &BTreeMap<String, usize>, expect: &[(&str, usize)]) {
    let expect = expect.iter().map(|(folder, count)| ((*folder).to_owned(), *count)).collect();
    assert_eq!(*entries, expect);
}

#[test]
fn every_message_is_accounted_for_and_reassign_does_what_its_dry_run_listed() {
    let is_long = std::env::var_os("DAYBOOK_LONG").is_some();
    let (known, later, groups) = if is_long { (10_000, 50, 1_000) } else { (300, 15, 30) };
    let users = Users { known, later };
    let gateway = Gateway::new(known);
    let (observing, enforcing) = (gateway.create(Mode::Observe), gateway.create(Mode::Enforce));

    let clock = Instant::now();
    gateway.receive(groups, users, &observing, &enforcing);
    println!("{} messages received in {:.1?}", groups * mixed::MESSAGES, clock.elapsed());
    let mut expect = BTreeMap::new();
    for message in (0..groups).flat_map(|number| group(number, users)) {
        *expect.entry((message.class.as_str(), message.fate)).or_default() += 1;
    }
    assert_eq!(expect.values().sum::<usize>(), groups * mixed::MESSAGES);
    assert_eq!(gateway.tally(&[&observing, &enforcing]), expect, "by class and destination");
    // All but the repetition and the two that are held back.
    let inbox = groups * (mixed::MESSAGES - 3);
    let quarantine = groups * mixed::IN_QUARANTINE;
    let (unassigned, in_users) = (groups * mixed::IN_UNASSIGNED, groups * mixed::IN_USERS);
    let before =
        [("INBOX", inbox), ("Quarantine", quarantine), ("Unassigned", unassigned), ("Users", in_users)];
    are(&gateway.entries(&observing), &before);
    are(&gateway.entries(&enforcing), &[("Quarantine", groups * 2)]);

    assert!(changes(&gateway.reassign(false)).is_empty(), "nobody is new");
    std::fs::write(&gateway.users, Users::toml(users.known + users.later)).unwrap();
    assert!(gateway.context.directory.reload().is_good());
    let clock = Instant::now();
    let planned = gateway.reassign(false);
    println!("dry run over {} receipts in {:.1?}", planned.looked_at, clock.elapsed());
    assert_eq!(
        (planned.placed, planned.left, planned.looked_at),
        (groups * mixed::FOR_LATER, groups * mixed::LEAVE_UNASSIGNED, (groups * mixed::MESSAGES) as u64)
    );
    are(&gateway.entries(&observing), &before);

    let clock = Instant::now();
    let done = gateway.reassign(true);
    println!("{} placed, {} left Unassigned in {:.1?}", done.placed, done.left, clock.elapsed());
    assert_eq!(changes(&done), changes(&planned), "exactly what the dry run listed");
    assert!(done.differed.is_empty() && done.unread.is_empty() && !done.more);
    let after = [
        ("INBOX", inbox),
        ("Quarantine", quarantine),
        ("Unassigned", unassigned - done.left),
        ("Users", in_users + done.placed),
    ];
    are(&gateway.entries(&observing), &after);
    are(&gateway.entries(&enforcing), &[("Quarantine", groups * 2)]);
    assert!(changes(&gateway.reassign(false)).is_empty(), "afterwards there is nothing left to do");
}
