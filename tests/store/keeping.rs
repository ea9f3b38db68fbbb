//! What was deleted and comes back, what retention takes out, what a legal hold keeps, and the clock all of that goes by.

use super::*;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const DAY: i64 = 24 * 60 * 60 * 1000;

/// A store whose clock is set by hand.
struct Kept {
    dir: tempfile::TempDir,
    ahead: Arc<AtomicI64>,
    store: Option<Embedded>,
    mailbox: Arc<GatewayMailbox>,
    password: String,
}

fn open_by(dir: &Path, ahead: &Arc<AtomicI64>) -> Embedded {
    let options = Options { data_dir: dir.to_owned(), reserve_octets: 0 };
    Embedded::open_by_clock(&options, ahead.clone()).unwrap().0
}

impl Kept {
    fn new() -> Kept {
        let dir = tempfile::tempdir().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let store = open_by(dir.path(), &ahead);
        let (mailbox, password) = create(&store);
        Kept { dir, ahead, store: Some(store), mailbox, password }
    }

    fn store(&self) -> &Embedded {
        self.store.as_ref().unwrap()
    }

    /// Moves the system's clock.
    fn jump(&self, ms: i64) {
        self.ahead.fetch_add(ms, Ordering::Relaxed);
    }

    /// Lets time pass, a day at a time as a server that runs sees it.
    fn wait_days(&self, days: i64) {
        for _ in 0..days {
            self.jump(DAY);
            assert_eq!(self.store().keeping().paused, None);
        }
    }

    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let ms = i64::try_from(since.as_millis()).unwrap();
        Timestamp::from_unix_ms(ms + self.ahead.load(Ordering::Relaxed))
    }

    fn change(&self, change: GatewayMailboxChange) -> Result<Arc<GatewayMailbox>, StoreError> {
        runtime().block_on(self.store().change_gateway_mailbox(self.mailbox.id, vec![change], "anna"))
    }

    fn keep_for(&self, inbox_days: Option<u32>, user_days: Option<u32>) {
        let was = self.store().gateway_mailbox_now(self.mailbox.id).unwrap().keeping;
        let becomes = Keeping { grace_days: 7, inbox_days, user_days };
        self.change(GatewayMailboxChange::Keeping { was, becomes }).unwrap();
    }

    fn hold(&self, user: Option<&str>) {
        let (user, reason) = (user.map(str::to_owned), "case 7".to_owned());
        self.change(GatewayMailboxChange::Hold { user, reason }).unwrap();
    }

    fn unhold(&self, user: Option<&str>) {
        self.change(GatewayMailboxChange::Unhold { user: user.map(str::to_owned) }).unwrap();
    }

    /// A message received at that time, in INBOX and in the incoming folders of these users.
    fn receive_at(&self, n: u8, at: Timestamp, users: &[&str]) {
        let text = format!("mail {n}");
        let sent = delivery(self.store(), &self.mailbox, n, text.as_bytes(), &text, &text, users);
        deliver(self.store(), Delivery { received_at: at, ..sent });
    }

    fn receive(&self, n: u8) {
        self.receive_at(n, self.now(), &["bob"]);
    }

    /// As many messages received just now, in INBOX alone.
    fn receive_many(&self, count: u64) {
        let at = self.now();
        let one = |n: u64| {
            let text = format!("one of many: {n}");
            let sent = delivery(self.store(), &self.mailbox, 0, text.as_bytes(), &text, &text, &[]);
            let receipt_id = ReceiptId::new(1_700_000_000_000 + n, [0; 10]);
            Delivery { received_at: at, receipt_id, ..sent }
        };
        runtime().block_on(self.store().deliver((0..count).map(one).collect())).unwrap();
    }

    /// Begins a pass, and waits until it has begun to take something out of INBOX.
    fn begin_pass(&self) {
        let all = self.inbox().len();
        self.store().keep_now().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.inbox().len() == all {
            assert!(Instant::now() < deadline, "nothing leaves");
        }
    }

    /// Waits for the end of what was begun.
    fn wait_for_pass(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.store().keeping().running {
            assert!(Instant::now() < deadline, "the pass does not end");
            std::thread::yield_now();
        }
    }

    /// What came of the pass that was begun.
    fn passed(&self) -> KeptPass {
        self.wait_for_pass();
        self.store().keeping().last.unwrap()
    }

    /// One pass, to its end.
    fn pass(&self) -> KeptPass {
        self.store().keep_now().unwrap();
        let pass = self.passed();
        assert_eq!(pass.error, None);
        pass
    }

    fn uids(&self, folder: &FolderName) -> Vec<u32> {
        let listing = self.store().list(self.mailbox.id, folder).unwrap();
        listing.entries.iter().map(|entry| entry.uid.value()).collect()
    }

    fn inbox(&self) -> Vec<u32> {
        self.uids(&FolderName::Inbox)
    }

    fn delete(&self, uids: &[u32]) {
        let uids: Vec<Uid> = uids.iter().map(|uid| Uid::new(*uid).unwrap()).collect();
        let by = Client {
            protocol: "pop3".to_owned(),
            peer: "127.0.0.1".parse().unwrap(),
            session_id: SessionId::new(1, [1; 10]),
        };
        let gone = self.store().expunge(self.mailbox.id, &FolderName::Inbox, &uids, &by);
        assert_eq!(runtime().block_on(gone).unwrap().len(), uids.len());
    }

    fn undelete_in(&self, folder: FolderName, since: Timestamp, most: usize) -> Undeleted {
        let asked = UndeleteAsked { gateway_mailbox: self.mailbox.id, folder, since, until: None, most };
        runtime().block_on(self.store().undelete(asked, "anna")).unwrap()
    }

    /// Old and new UIDs of what came back to INBOX, and how much retention would have taken at once.
    fn undelete(&self) -> (Vec<(u32, u32)>, u64) {
        let back = self.undelete_in(FolderName::Inbox, Timestamp::from_unix_ms(0), 1_000);
        assert!(!back.more);
        (pairs(&back), back.skipped_due)
    }

    fn recoverable(&self) -> Vec<Recoverable> {
        self.store().recoverable(self.mailbox.id, Timestamp::from_unix_ms(0)).unwrap()
    }

    fn restart(&mut self) {
        close(self.store.take().unwrap());
        self.store = Some(open_by(self.dir.path(), &self.ahead));
    }

    fn view(&self, n: u8) -> ReceiptView {
        let query = ReceiptQuery::Id(receipt(n));
        self.store().receipts(&query, Timestamp::from_unix_ms(0), 9).unwrap().remove(0)
    }
}

fn pairs(back: &Undeleted) -> Vec<(u32, u32)> {
    back.entries.iter().map(|entry| (entry.of.value(), entry.uid.value())).collect()
}

fn incoming(user: &str) -> FolderName {
    FolderName::User { user: user.to_owned(), folder: UserFolder::Incoming }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>, why: &str) {
    match outcome {
        Err(StoreError::Refused(said)) if said.contains(why) => {}
        other => panic!("{other:?} is not refused because {why}"),
    }
}

#[test]
fn an_entry_leaves_when_it_is_as_old_as_the_rule_says_and_not_a_minute_before() {
    let kept = Kept::new();
    kept.keep_for(Some(30), Some(60));
    let minute = 60_000;
    let at = |days: i64, ms: i64| Timestamp::from_unix_ms(kept.now().unix_ms() - days * DAY + ms);
    // Of a clock that is right: what is received long ago was delivered long ago, as far as the clock could tell.
    let aged = [(1, at(30, 0)), (2, at(30, minute)), (3, at(29, 0)), (4, at(60, 0)), (5, at(60, minute))];
    kept.jump(-61 * DAY);
    let young = open_by_then(&kept);
    for (n, at) in aged {
        young.receive_at(n, at, &["bob"]);
    }
    young.wait_days(61);
    assert_eq!(young.pass().expired, 3 + 1, "of INBOX all but two, of the user's folder one");
    assert_eq!(young.inbox(), [2, 3]);
    assert_eq!(young.uids(&incoming("bob")), [1, 2, 3, 5]);
    assert_eq!(young.pass().expired, 0);
    young.jump(minute);
    assert_eq!(young.pass().expired, 2);
    assert_eq!((young.inbox(), young.uids(&incoming("bob"))), (vec![3], vec![1, 2, 3]));

    let gone = &young.view(1).placements[0];
    assert!(!gone.is_there());
    let event = &gone.events[0];
    let said = (event.kind.as_str(), event.actor.as_deref(), event.why.as_deref());
    assert_eq!(said, ("expired", Some("retention"), Some("received more than 30 days ago")));
    assert_eq!(gone.events[0].client, None);
}

/// A store of its own with the rules of `kept`, begun by a clock as it is set now.
fn open_by_then(kept: &Kept) -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let store = open_by(dir.path(), &kept.ahead);
    let (mailbox, password) = create(&store);
    let made = Kept { dir, ahead: kept.ahead.clone(), store: Some(store), mailbox, password };
    made.keep_for(Some(30), Some(60));
    made
}

#[test]
fn what_nobody_set_a_rule_for_stays_and_so_does_what_waits_for_an_admin() {
    let kept = Kept::new();
    kept.receive(1);
    let only = |folder| WantedPlacement {
        folder,
        slug: None,
        message: 0,
        once_per_join: false,
        in_view: None,
        reasons: vec!["waits".to_owned()],
    };
    for (n, folder) in [(2, FolderName::Unassigned), (3, FolderName::Quarantine)] {
        let text = n.to_string();
        let sent = delivery(kept.store(), &kept.mailbox, n, text.as_bytes(), &text, &text, &[]);
        let at = kept.now();
        deliver(kept.store(), Delivery { received_at: at, placements: vec![only(folder)], ..sent });
    }
    kept.wait_days(800);
    assert_eq!(kept.pass().expired, 0);
    assert_eq!(kept.inbox(), [1]);
    kept.keep_for(Some(1), Some(1));
    assert_eq!(kept.pass().expired, 2);
    assert!(kept.inbox().is_empty() && kept.uids(&incoming("bob")).is_empty());
    let waiting = [FolderName::Unassigned, FolderName::Quarantine].map(|folder| kept.uids(&folder));
    assert_eq!(waiting, [vec![1], vec![1]]);
    let was = kept.store().gateway_mailbox_now(kept.mailbox.id).unwrap().keeping;
    let becomes = Keeping { inbox_days: Some(0), ..was };
    refused(kept.change(GatewayMailboxChange::Keeping { was, becomes }), "0 days");
    let becomes = Keeping { user_days: Some(9), ..Keeping::default() };
    let stale = GatewayMailboxChange::Keeping { was: Keeping::default(), becomes };
    refused(kept.change(stale), "at the same time");
    assert_eq!(kept.store().gateway_mailbox_now(kept.mailbox.id).unwrap().keeping, was);
}

#[test]
fn where_users_have_no_folders_none_of_them_can_be_held() {
    let kept = Kept::new();
    let hold = || GatewayMailboxChange::Hold { user: Some("bob".to_owned()), reason: "case 7".to_owned() };
    kept.hold(Some("bob"));
    refused(kept.change(GatewayMailboxChange::Archive(false)), "the user bob");
    kept.unhold(Some("bob"));
    kept.change(GatewayMailboxChange::Archive(false)).unwrap();
    refused(kept.change(hold()), "without --user");
    kept.hold(None);
}

#[test]
fn a_hold_keeps_what_is_due_until_it_is_lifted_and_one_on_a_user_keeps_his_folders_alone() {
    let kept = Kept::new();
    kept.keep_for(Some(30), Some(30));
    kept.receive_at(1, kept.now(), &["bob", "eve"]);
    kept.wait_days(30);
    kept.hold(None);
    let pass = kept.pass();
    assert_eq!((pass.expired, pass.held), (0, 3));
    assert_eq!(kept.inbox(), [1]);

    kept.hold(Some("bob"));
    kept.unhold(None);
    let pass = kept.pass();
    assert_eq!((pass.expired, pass.held), (2, 1), "INBOX and the other user's folder are free");
    assert_eq!((kept.uids(&incoming("bob")), kept.uids(&incoming("eve"))), (vec![1], vec![]));
    kept.unhold(Some("bob"));
    assert_eq!(kept.pass().expired, 1);
    assert!(kept.uids(&incoming("bob")).is_empty());
}

#[test]
fn what_is_there_when_a_hold_is_acknowledged_stays_also_in_the_middle_of_a_pass() {
    let kept = Kept::new();
    kept.keep_for(Some(30), None);
    // They leave in a dozen batches; the hold comes behind the first of them.
    kept.receive_many(3_000);
    kept.wait_days(30);
    kept.begin_pass();
    kept.hold(None);
    let left = kept.inbox();
    let pass = kept.passed();
    assert_eq!(kept.inbox(), left, "nothing leaves once it is acknowledged");
    assert_eq!((pass.expired, pass.error), (3_000 - left.len() as u64, None));
    kept.unhold(None);
    assert_eq!(kept.pass().expired, left.len() as u64);
}

#[test]
fn a_clock_that_jumps_in_the_middle_of_a_pass_takes_nothing_along_that_was_not_due() {
    let kept = Kept::new();
    kept.keep_for(Some(30), None);
    kept.receive_many(2_000);
    kept.wait_days(30);
    kept.receive_at(250, kept.now(), &[]);
    kept.begin_pass();
    kept.jump(400 * DAY);
    kept.wait_for_pass();
    assert_eq!(kept.inbox().last(), Some(&2_001), "the young one stays");
    kept.jump(-400 * DAY);
    kept.pass();
    assert_eq!(kept.inbox(), [2_001]);
}

#[test]
fn holds_say_why_and_by_whom_and_forbid_that_the_gateway_mailbox_is_deleted() {
    let kept = Kept::new();
    kept.hold(Some("bob"));
    refused(kept.change(GatewayMailboxChange::Unhold { user: None }), "no hold");
    let again = GatewayMailboxChange::Hold { user: Some("bob".to_owned()), reason: "again".to_owned() };
    refused(kept.change(again), "held already");
    let blank = GatewayMailboxChange::Hold { user: None, reason: " ".to_owned() };
    refused(kept.change(blank), "reason");
    let long = "x".repeat(HOLD_REASON_CHARACTERS_MAX + 1);
    refused(kept.change(GatewayMailboxChange::Hold { user: None, reason: long }), "reason");
    let held = kept.store().gateway_mailbox_now(kept.mailbox.id).unwrap();
    let [hold] = held.holds.as_slice() else { panic!("{:?}", held.holds) };
    assert_eq!((hold.actor.as_str(), hold.reason.as_str()), ("anna", "case 7"));

    kept.change(GatewayMailboxChange::Suspend).unwrap();
    refused(kept.change(GatewayMailboxChange::Delete { force: true }), "legal hold");
    kept.unhold(Some("bob"));
    kept.change(GatewayMailboxChange::Delete { force: true }).unwrap();
}

#[test]
fn where_too_many_users_are_held_all_can_be() {
    let kept = Kept::new();
    let of = |n: usize| GatewayMailboxChange::Hold { user: Some(format!("u{n}")), reason: "case".to_owned() };
    let users: Vec<_> = (0..HOLDS_MAX).map(of).collect();
    runtime().block_on(kept.store().change_gateway_mailbox(kept.mailbox.id, users, "anna")).unwrap();
    refused(kept.change(of(HOLDS_MAX)), "hold all of it");
    kept.hold(None);
}

#[test]
fn what_was_deleted_comes_back_once_under_new_uids_and_old_ones_never_do() {
    let kept = Kept::new();
    (1..=4).for_each(|n| kept.receive(n));
    let key = kept.store().unlock(kept.mailbox.login(), &kept.password).unwrap();
    kept.delete(&[3, 1]);
    let [folder] = kept.recoverable().try_into().unwrap();
    assert_eq!((folder.path.as_str(), folder.entries, folder.octets), ("INBOX", 2, 12));
    assert_eq!(folder.freed_from.unwrap().unix_ms(), folder.oldest.unix_ms() + 7 * DAY);

    assert_eq!(kept.undelete(), (vec![(1, 5), (3, 6)], 0));
    assert_eq!(kept.undelete(), (vec![], 0), "there is nothing more to have back");
    assert!(kept.recoverable().is_empty());
    assert_eq!(kept.inbox(), [2, 4, 5, 6]);
    let listed = inbox(kept.store(), &kept.mailbox);
    assert_eq!(body(kept.store(), &key, &listed.entries[2]).unwrap(), b"mail 1");
    assert_eq!(listed.entries[2].receipt_id, receipt(1));
    assert!(listed.entries[2].received_at < listed.entries[0].received_at);
    assert_eq!(listed.uid_next.value(), 7);

    let view = kept.view(1);
    let there: Vec<_> =
        view.placements.iter().map(|p| (p.folder.as_str(), p.uid.value(), p.is_there())).collect();
    let bobs = "Users/bob@contoso.example/Journal Incoming";
    assert_eq!(there, [("INBOX", 1, false), (bobs, 1, true), ("INBOX", 5, true)]);
    let events: Vec<_> = view.placements[0].events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(events, ["deleted", "undeleted"]);
    assert_eq!(view.placements[0].events[1].actor.as_deref(), Some("anna"));
    assert_eq!(view.placements[2].octets, Some(6));

    let day_before = Timestamp::from_unix_ms(kept.now().unix_ms() - DAY);
    let tally = kept.store().tally(kept.mailbox.id, day_before).unwrap();
    assert_eq!((tally.received, tally.octets, tally.waiting), (4, 24, 4), "it came once");

    kept.delete(&[5]);
    assert_eq!(kept.undelete(), (vec![(5, 7)], 0), "and can be deleted and come back again");
}

#[test]
fn many_come_back_a_part_at_a_time_and_those_deleted_earlier_are_left_alone() {
    let kept = Kept::new();
    (1..=5).for_each(|n| kept.receive(n));
    kept.delete(&[1]);
    kept.jump(DAY);
    let since = kept.now();
    kept.delete(&[2, 3, 4, 5]);
    let mut parts = Vec::new();
    loop {
        let back = kept.undelete_in(FolderName::Inbox, since, 3);
        parts.push(pairs(&back));
        if !back.more {
            break;
        }
    }
    assert_eq!(parts, [vec![(2, 6), (3, 7), (4, 8)], vec![(5, 9)]]);
    assert_eq!(kept.recoverable()[0].entries, 1);
    let elsewhere = kept.undelete_in(incoming("nobody"), Timestamp::from_unix_ms(0), 3);
    assert_eq!(elsewhere, Undeleted::default());
}

#[test]
fn who_goes_on_does_not_bring_back_again_what_was_fetched_and_deleted_meanwhile() {
    let kept = Kept::new();
    (1..=3).for_each(|n| kept.receive(n));
    kept.delete(&[1, 2, 3]);
    let until = kept.recoverable()[0].newest;
    let part = |until| {
        let (gateway_mailbox, since) = (kept.mailbox.id, Timestamp::from_unix_ms(0));
        let asked = UndeleteAsked { gateway_mailbox, folder: FolderName::Inbox, since, until, most: 2 };
        pairs(&runtime().block_on(kept.store().undelete(asked, "anna")).unwrap())
    };
    assert_eq!(part(Some(until)), [(1, 4), (2, 5)]);
    kept.jump(1_000);
    kept.delete(&[4, 5]);
    assert_eq!(part(Some(until)), [(3, 6)]);
    assert_eq!(part(Some(until)), []);
    assert_eq!(part(None), [(4, 7), (5, 8)]);
}

#[test]
fn what_retention_would_take_at_once_does_not_come_back_unless_it_is_held() {
    let kept = Kept::new();
    kept.receive(1);
    kept.keep_for(Some(3), None);
    kept.wait_days(2);
    kept.receive(2);
    kept.wait_days(1);
    kept.delete(&[2]);
    assert_eq!(kept.pass().expired, 1);
    assert_eq!(kept.undelete(), (vec![(2, 3)], 1));
    kept.hold(None);
    assert_eq!(kept.recoverable()[0].freed_from, None);
    assert_eq!(kept.undelete(), (vec![(1, 4)], 0));
    assert_eq!(kept.pass().expired, 0);
    kept.unhold(None);
    assert_eq!(kept.pass().expired, 1);
    assert_eq!(kept.inbox(), [3]);
}

#[test]
fn what_left_for_another_folder_does_not_come_back() {
    let kept = Kept::new();
    let in_quarantine = |sent: Delivery| {
        let placements = sent.placements.into_iter();
        let placements =
            placements.map(|wanted| WantedPlacement { folder: FolderName::Quarantine, ..wanted }).collect();
        Delivery { placements, ..sent }
    };
    deliver(kept.store(), in_quarantine(delivery(kept.store(), &kept.mailbox, 1, b"held", "1", "1", &[])));
    let release = Revision {
        gateway_mailbox: kept.mailbox.id,
        receipt_id: receipt(1),
        kind: RevisionKind::Released,
        known: 0,
        reading: None,
        unmatched: Vec::new(),
        placements: vec![WantedPlacement {
            folder: FolderName::Inbox,
            slug: None,
            message: 0,
            once_per_join: false,
            in_view: None,
            reasons: vec!["released".to_owned()],
        }],
        leaves: vec![FolderName::Quarantine],
        identity: None,
    };
    runtime().block_on(kept.store().revise(vec![release], "anna")).unwrap();
    assert!(kept.recoverable().is_empty());
    let back = kept.undelete_in(FolderName::Quarantine, Timestamp::from_unix_ms(0), 9);
    assert_eq!(back, Undeleted::default());
}

#[test]
fn a_clock_that_jumps_ahead_stops_everything_until_it_is_confirmed_or_back() {
    let kept = Kept::new();
    kept.keep_for(Some(30), None);
    kept.receive(1);
    let before = kept.store().keeping();
    assert_eq!((before.paused, before.running, before.last), (None, false, None));

    kept.jump(400 * DAY);
    let paused = kept.store().keeping().paused.unwrap();
    assert_eq!(paused.days_ahead(), 400);
    refused(kept.store().keep_now(), "400 days ahead");
    // What a client deletes meanwhile is stamped so that its grace is never shorter.
    kept.receive(2);
    kept.delete(&[2]);
    assert!(kept.recoverable()[0].oldest >= paused.clock);
    assert_eq!(kept.inbox(), [1]);

    kept.jump(-400 * DAY);
    assert_eq!(kept.store().keeping().paused, None, "it is back");
    assert_eq!(kept.pass().expired, 0);

    kept.jump(400 * DAY);
    let status = runtime().block_on(kept.store().trust_clock("anna")).unwrap();
    assert_eq!(status.paused, None);
    assert!(status.trusted >= paused.clock);
    assert_eq!(kept.pass().expired, 1);
    assert_eq!(kept.undelete().0.len(), 1, "what was deleted by that clock has its grace before it");

    let trusted = kept.store().keeping().trusted;
    kept.jump(-400 * DAY);
    assert!(kept.store().keeping().trusted >= trusted, "time never runs back");
}

#[test]
fn six_days_are_no_jump_and_eight_are_also_where_the_host_was_off() {
    let mut kept = Kept::new();
    kept.keep_for(Some(8), None);
    kept.receive(1);
    kept.jump(6 * DAY);
    assert_eq!(kept.store().keeping().paused, None);
    assert_eq!(kept.pass().expired, 0);
    kept.jump(7 * DAY - 60_000);
    assert_eq!(kept.pass().expired, 1);

    close(kept.store.take().unwrap());
    kept.jump(8 * DAY);
    kept.store = Some(open_by(kept.dir.path(), &kept.ahead));
    let paused = kept.store().keeping().paused.unwrap();
    assert_eq!(paused.days_ahead(), 8);
    kept.jump(DAY);
    kept.restart();
    let still = kept.store().keeping().paused.unwrap();
    assert_eq!((still.since, still.trusted, still.days_ahead()), (paused.since, paused.trusted, 9));
    runtime().block_on(kept.store().trust_clock("anna")).unwrap();
    kept.restart();
    assert_eq!(kept.store().keeping().paused, None);
}

#[test]
fn a_clock_put_back_a_day_lets_nothing_leave_a_day_early() {
    let mut kept = Kept::new();
    kept.keep_for(Some(30), None);
    kept.receive(1);
    let trusted = kept.store().keeping().trusted;
    kept.jump(-DAY);
    kept.restart();
    assert!(kept.store().keeping().trusted >= trusted);
    kept.receive(2);
    kept.delete(&[1]);
    assert!(kept.recoverable()[0].oldest >= trusted, "its grace counts from what time had reached");
    // Thirty days by the clock that was put back, twenty-nine by the other.
    kept.wait_days(30);
    assert_eq!(kept.pass().expired, 0);
    assert_eq!(kept.inbox(), [2]);
    assert_eq!(kept.undelete(), (vec![], 0), "its grace was over weeks ago");
    kept.wait_days(1);
    assert_eq!(kept.pass().expired, 1);
}

#[test]
fn an_index_made_anew_knows_what_can_be_had_back_and_what_is_not_due_yet() {
    let mut kept = Kept::new();
    kept.keep_for(Some(30), None);
    kept.receive(1);
    kept.receive(2);
    kept.store().keeping();
    kept.jump(-DAY);
    kept.receive(3);
    kept.delete(&[1, 2]);
    kept.undelete_in(FolderName::Inbox, Timestamp::from_unix_ms(0), 1);
    let before = (kept.recoverable(), kept.view(1), kept.inbox());
    close(kept.store.take().unwrap());
    for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        drop(fs::remove_file(kept.dir.path().join(name)));
    }
    kept.store = Some(open_by(kept.dir.path(), &kept.ahead));
    assert_eq!((kept.recoverable(), kept.view(1), kept.inbox()), before);
    assert_eq!(kept.undelete(), (vec![(2, 5)], 0));
    kept.wait_days(30);
    assert_eq!(kept.pass().expired, 0);
    kept.wait_days(1);
    assert_eq!(kept.pass().expired, 3);
    close(kept.store.take().unwrap());
    let options = VerifyOptions {
        data_dir: kept.dir.path().to_owned(),
        deep: true,
        checkpoints: None,
        checkpoint_dir: None,
        key: None,
    };
    let report = verify(&options, &mut |_| {}).unwrap();
    assert!(report.whole && report.findings.is_empty(), "{:#?}", report.findings);
}

#[test]
fn a_deleted_gateway_mailbox_is_emptied_when_its_grace_is_over() {
    let kept = Kept::new();
    kept.receive(1);
    kept.change(GatewayMailboxChange::Suspend).unwrap();
    kept.change(GatewayMailboxChange::Delete { force: true }).unwrap();
    let asked = UndeleteAsked {
        gateway_mailbox: kept.mailbox.id,
        folder: FolderName::Inbox,
        since: Timestamp::from_unix_ms(0),
        until: None,
        most: 9,
    };
    let outcome = runtime().block_on(kept.store().undelete(asked, "anna"));
    assert!(matches!(outcome, Err(StoreError::Gone)), "{outcome:?}");
    kept.wait_days(6);
    assert_eq!(kept.pass().expired, 0);
    kept.wait_days(1);
    assert_eq!(kept.pass().expired, 2);
    let why = kept.view(1).placements[0].events[0].why.clone();
    assert_eq!(why.as_deref(), Some("gateway mailbox deleted"));
}

/// Has the next process find what `spoil` leaves of the file of the clock, and the system's clock so many days ahead.
fn reopen_spoilt(kept: &mut Kept, days: i64, spoil: impl Fn(&Path)) {
    close(kept.store.take().unwrap());
    let path = kept.dir.path().join("retention-clock.json");
    assert!(path.exists());
    spoil(&path);
    kept.jump(days * DAY);
    kept.store = Some(open_by(kept.dir.path(), &kept.ahead));
}

fn damage_file(path: &Path) {
    fs::write(path, b"{\"content\":{},\"sha256\":\"\",\"v\":1}").unwrap();
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[test]
fn a_clock_that_jumps_while_its_file_is_spoilt_or_lost_is_asked_about_all_the_same() {
    for spoil in [damage_file, remove] {
        let mut kept = Kept::new();
        kept.receive(1);
        reopen_spoilt(&mut kept, 400, spoil);
        assert_eq!(kept.store().keeping().paused.unwrap().days_ahead(), 400);
        kept.restart();
        assert_eq!(kept.store().keeping().paused.unwrap().days_ahead(), 400);
        kept.jump(-400 * DAY);
        assert_eq!(kept.store().keeping().paused, None);
        kept.wait_days(5);
        kept.delete(&[1]);
        reopen_spoilt(&mut kept, 6, spoil);
        assert_eq!(kept.store().keeping().paused, None, "a deletion tells the time too");
    }
}

#[test]
fn a_spoilt_clock_file_is_begun_anew_where_nothing_tells_the_time_or_that_is_of_a_clock_ahead() {
    let mut kept = Kept::new();
    reopen_spoilt(&mut kept, 400, damage_file);
    assert_eq!(kept.store().keeping().paused, None);
    kept.restart();
    assert_eq!(kept.store().keeping().paused, None);
    kept.receive(1);
    reopen_spoilt(&mut kept, -300, damage_file);
    let keeping = kept.store().keeping();
    assert!(
        keeping.paused.is_none() && keeping.trusted <= kept.now(),
        "time does not run ahead: {keeping:?}"
    );
}

/// What a release does: out of Quarantine, into INBOX.
fn release(kept: &Kept, n: u8, identity: Option<Digest>) -> Revision {
    Revision {
        gateway_mailbox: kept.mailbox.id,
        receipt_id: receipt(n),
        kind: RevisionKind::Released,
        known: 0,
        reading: None,
        unmatched: Vec::new(),
        placements: vec![wanted(FolderName::Inbox, "released")],
        leaves: vec![FolderName::Quarantine],
        identity,
    }
}

/// The received message, in one folder.
fn wanted(folder: FolderName, why: &str) -> WantedPlacement {
    WantedPlacement {
        folder,
        slug: None,
        message: 0,
        once_per_join: false,
        in_view: None,
        reasons: vec![why.to_owned()],
    }
}

/// A message received just now in one folder alone.
fn receive_in(kept: &Kept, n: u8, folder: FolderName, (text, join): (&str, &str)) {
    let sent = delivery(kept.store(), &kept.mailbox, n, text.as_bytes(), text, join, &[]);
    let placements = vec![WantedPlacement { once_per_join: true, ..wanted(folder, "waits") }];
    deliver(kept.store(), Delivery { received_at: kept.now(), placements, ..sent });
}

fn revise(kept: &Kept, revision: Revision) -> Revised {
    runtime().block_on(kept.store().revise(vec![revision], "anna")).unwrap().remove(0)
}

#[test]
fn what_waited_longer_than_retention_keeps_it_is_not_due_when_it_is_released() {
    let kept = Kept::new();
    kept.keep_for(Some(30), Some(30));
    receive_in(&kept, 1, FolderName::Quarantine, ("held", "held"));
    kept.wait_days(31);
    revise(&kept, release(&kept, 1, None));
    assert_eq!(kept.store().received_until(kept.mailbox.id, &FolderName::Inbox, kept.now()).unwrap(), 1);
    let month_ago = Timestamp::from_unix_ms(kept.now().unix_ms() - 30 * DAY);
    assert_eq!(kept.store().received_until(kept.mailbox.id, &FolderName::Inbox, month_ago).unwrap(), 0);
    assert_eq!((kept.pass().expired, kept.inbox()), (0, vec![1]));
    kept.delete(&[1]);
    assert_eq!(kept.undelete(), (vec![(1, 2)], 0), "nor when it is brought back");
    kept.wait_days(29);
    assert_eq!(kept.pass().expired, 0);
    kept.wait_days(1);
    assert_eq!(kept.pass().expired, 1, "it is kept as long as what came when it was released");
}

#[test]
fn a_release_gives_nothing_up_for_a_copy_that_is_freed() {
    let kept = Kept::new();
    let identity = Digest([7; 32]);
    receive_in(&kept, 1, FolderName::Quarantine, ("one", "one"));
    receive_in(&kept, 2, FolderName::Quarantine, ("two", "two"));
    assert_eq!(revise(&kept, release(&kept, 1, Some(identity))).placements.len(), 1);
    kept.delete(&[1]);
    kept.wait_days(8);
    assert_eq!(kept.pass().freed_entries, 2);
    let let_out = revise(&kept, release(&kept, 2, Some(identity)));
    assert_eq!((let_out.placements.len(), let_out.spared.len(), let_out.left.len()), (1, 0, 1));
    assert_eq!(kept.inbox(), [2]);
}

#[test]
fn what_is_given_to_somebody_is_not_spared_for_a_copy_of_his_that_is_freed() {
    let kept = Kept::new();
    let to_bob = |n: u8, known: usize| Revision {
        kind: RevisionKind::Reassigned,
        known,
        placements: vec![WantedPlacement { once_per_join: true, ..wanted(incoming("bob"), "named") }],
        leaves: vec![FolderName::Unassigned],
        ..release(&kept, n, None)
    };
    kept.keep_for(None, Some(1));
    receive_in(&kept, 1, incoming("bob"), ("one", "same"));
    kept.wait_days(2);
    assert_eq!(kept.pass().expired, 1);
    kept.wait_days(8);
    assert_eq!(kept.pass().freed_entries, 1);
    receive_in(&kept, 2, FolderName::Unassigned, ("another copy", "same"));
    let given = revise(&kept, to_bob(2, 0));
    assert_eq!((given.placements.len(), given.spared.len(), given.left.len()), (1, 0, 1));
    assert_eq!(kept.uids(&incoming("bob")), [2]);
}

#[test]
fn an_entry_that_was_brought_back_and_left_since_spares_no_other() {
    let kept = Kept::new();
    receive_in(&kept, 1, FolderName::Inbox, ("one", "same"));
    kept.delete(&[1]);
    assert_eq!(kept.undelete(), (vec![(1, 2)], 0));
    let moved = |known, to: FolderName, from: FolderName| Revision {
        kind: RevisionKind::Reassigned,
        known,
        placements: vec![WantedPlacement { once_per_join: true, ..wanted(to, "named") }],
        leaves: vec![from],
        ..release(&kept, 1, None)
    };
    assert_eq!(revise(&kept, moved(0, FolderName::Unassigned, FolderName::Inbox)).left.len(), 1);
    assert!(kept.inbox().is_empty());
    let back = revise(&kept, moved(1, FolderName::Inbox, FolderName::Unassigned));
    assert_eq!((back.placements.len(), back.left.len()), (1, 1));
    assert_eq!(kept.inbox(), [3]);
}
