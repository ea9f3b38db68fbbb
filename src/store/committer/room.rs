//! What goes on when the disk is full: mail waits, the rest is written into the room that the ballast gives up.

use super::{Command, Committer, inline_octets};
use crate::store::ballast::Ballast;
use crate::store::{RevisionKind, StoreError};

/// Room that a group needs besides its content: entries, the index, a new segment.
pub(in crate::store) const GROUP_ROOM_OCTETS: u64 = 4 * 1024 * 1024;

/// Files that can still be made, below which mail is turned away while the ballast is given up: deleting needs a new segment, and
/// what replaces files of state.
pub(in crate::store) const FILES_KEPT_FROM_MAIL: u64 = 16;

/// Mail that leaves less room than this is turned away: what a ballast gave up is not for it.
pub(in crate::store) fn room_kept_from_mail(ballast: &Ballast) -> u64 {
    match ballast.owed() {
        0 => 0,
        owed => owed.saturating_add(GROUP_ROOM_OCTETS),
    }
}

/// Content is written once. The index keeps none of it.
fn room_for(batch: &[Command]) -> u64 {
    let content: usize = batch.iter().map(inline_octets).sum();
    GROUP_ROOM_OCTETS.saturating_add(content as u64)
}

/// True for what frees room and for what admins do: little, and it must not wait for room.
fn may_use_ballast(command: &Command) -> bool {
    match command {
        Command::Expunge { .. } | Command::Fetched { .. } => true,
        // What is to be deleted is marked first, and its folder opened.
        Command::SetFlags { .. } | Command::MakeFolder { .. } => true,
        Command::Free { .. } | Command::Strike { .. } => true,
        Command::Expire { .. } | Command::Undelete { .. } | Command::TrustClock { .. } => true,
        Command::Create { .. }
        | Command::Change { .. }
        | Command::KeyFiles { .. }
        | Command::Keyring { .. } => true,
        // Showing INBOX in another way is neither, and may be all that waits there: it is tried again when there is room.
        Command::Revise { revisions, .. } => {
            inline_octets(command) == 0 && revisions.iter().all(|r| r.kind != RevisionKind::Viewed)
        }
        Command::Probe | Command::Stop { .. } => true,
        _ => false,
    }
}

/// True for what the ballast is given up for.
fn asks_for_room(command: &Command) -> bool {
    may_use_ballast(command) && !matches!(command, Command::Probe)
}

impl Committer {
    /// Turns away what there is no room for, and gives up the ballast for the rest when it needs it.
    pub(super) fn make_room(&self, batch: Vec<Command>) -> Vec<Command> {
        let ballast = &self.shared.ballast;
        if !ballast.is_kept() {
            return batch;
        }
        let Ok(free) = self.shared.free_octets() else { return batch };
        let has_room = free >= room_for(&batch).saturating_add(ballast.owed());
        if has_room && !self.shared.files_are_kept_from_mail() {
            return batch;
        }
        let (rest, mail): (Vec<_>, Vec<_>) = batch.into_iter().partition(may_use_ballast);
        mail.into_iter().for_each(|command| command.fail(&StoreError::Full));
        if free < room_for(&rest) && Committer::asks_for_room(&rest) {
            ballast.give_up();
        }
        rest
    }

    /// True when some of these may have what is in the ballast.
    pub(super) fn asks_for_room(batch: &[Command]) -> bool {
        batch.iter().any(asks_for_room)
    }

    /// After a failure: what comes next finds more room, if that was it. True when there is more than before. With octets to spare
    /// it is files that there are no more of: the one that the ballast is goes to those alone that ask for room.
    pub(super) fn give_room_after(&self, error: &StoreError, asks_for_room: bool) -> bool {
        let is_short = || self.shared.free_octets().is_ok_and(|free| free < GROUP_ROOM_OCTETS);
        matches!(error, StoreError::Full) && (asks_for_room || is_short()) && self.shared.ballast.give_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{FlagChange, Flags, Profile, Role, SessionId, Timestamp};
    use crate::store::{
        Client, Embedded, FolderName, GatewayMailboxChange, NewGatewayMailbox, Options, Revision, Store,
        delivered,
    };
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const BALLAST_OCTETS: u64 = 1024 * 1024;

    fn client() -> Client {
        let session_id = SessionId::new(1, [1; 10]);
        Client { protocol: "imap".to_owned(), peer: "192.0.2.7".parse().unwrap(), session_id }
    }

    fn wait_until(holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "not in time");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[tokio::test]
    async fn on_a_full_disk_mail_waits_and_the_rest_goes_on_until_there_is_room_for_the_ballast_again() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store = Arc::new(Embedded::open(&options).unwrap().0);
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Generic,
            role: Role::Journal,
        };
        let (mailbox, _) = store.create_gateway_mailbox(new, "test").await.unwrap();
        let at = Timestamp::from_unix_ms(1_800_000_000_000);
        let sent = delivered::delivery(&*store, &mailbox, at, [1; 10], b"Subject: before\r\n\r\n");
        let receipt_id = sent.receipt_id;
        store.deliver(vec![sent]).await.unwrap();
        store.set_ballast(BALLAST_OCTETS);
        let ballast = dir.path().join("ballast");
        wait_until(|| ballast.exists());
        let pretend = |free: Option<u64>| *store.shared.pretended_free.lock().unwrap() = free;
        let rename = || {
            let changes = vec![GatewayMailboxChange::Name("Fabrikam".to_owned())];
            store.change_gateway_mailbox(mailbox.id, changes, "test")
        };

        pretend(Some(GROUP_ROOM_OCTETS - 1));
        assert!(matches!(store.deliver(Vec::new()).await, Err(StoreError::Full)));
        assert!(ballast.exists(), "mail may not have it");
        let revise = |kind| {
            let looked_again = Revision {
                gateway_mailbox: mailbox.id,
                receipt_id,
                kind,
                known: 0,
                reading: None,
                unmatched: Vec::new(),
                placements: Vec::new(),
                leaves: vec![FolderName::Quarantine],
                identity: None,
            };
            store.revise(vec![looked_again], "test")
        };
        assert!(matches!(revise(RevisionKind::Viewed).await, Err(StoreError::Full)));
        assert!(ballast.exists(), "nor may showing INBOX in another way");
        rename().await.unwrap();
        assert!(!ballast.exists());
        revise(RevisionKind::Released).await.unwrap();
        // Whoever is to make room opens a folder, marks what is to go, and takes it out.
        let (inbox, by) = (FolderName::Inbox, client());
        let uids = store.list(mailbox.id, &inbox).unwrap().entries.iter().map(|e| e.uid).collect::<Vec<_>>();
        let (opened, id) = (Arc::clone(&store), mailbox.id);
        let opens = tokio::task::spawn_blocking(move || opened.marks(id, &FolderName::Quarantine));
        opens.await.unwrap().unwrap();
        let marked = store.set_flags(id, &inbox, &uids, FlagChange::Add(Flags::DELETED), Flags::ALL, &by);
        assert_eq!(marked.await.unwrap().rows.len(), 1);
        assert_eq!(store.expunge_marked(id, &inbox, &uids, &by).await.unwrap(), uids);
        // What was in the ballast is free now, and still not for mail.
        pretend(Some(GROUP_ROOM_OCTETS + BALLAST_OCTETS - 1));
        assert!(matches!(store.deliver(Vec::new()).await, Err(StoreError::Full)));
        assert_eq!(store.space().unwrap().reserve_octets, GROUP_ROOM_OCTETS + BALLAST_OCTETS);
        rename().await.unwrap();

        pretend(None);
        wait_until(|| ballast.exists() && store.shared.ballast.owed() == 0);
        assert!(store.deliver(Vec::new()).await.is_ok());
        store.close().await;
    }
}
