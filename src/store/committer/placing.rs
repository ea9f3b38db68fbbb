//! Where messages go: over the index and over what was decided since, for what is being made and for what is only planned.

use crate::mail::{GatewayMailboxId, Maildrop, ReceiptId, Uid};
use crate::store::fact::{PlacementFact, SparedFact};
use crate::store::index::Index;
use crate::store::{Digest, FolderName, StoreError, WantedPlacement};
use std::collections::{HashMap, HashSet};

/// Makes a folder of a gateway mailbox that is wanted first, with the user's part of its path; gives its number.
pub(super) type MakeFolder<'a> = dyn FnMut(&FolderName, Option<String>) -> Result<u64, StoreError> + 'a;

/// Whose messages are placed.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) gateway_mailbox: GatewayMailboxId,
    /// What its INBOX holds.
    pub(super) view: Maildrop,
    /// Message and join of each, the received one first.
    pub(super) messages: &'a [(u64, Digest)],
    /// A copy held of it is damaged: it is placed whatever is there already.
    pub(super) heals: bool,
    /// The receipt that is looked at again: what it has in a folder by itself is not made twice.
    pub(super) again: Option<ReceiptId>,
    /// What a client took of it stays taken, as if it were there.
    pub(super) taken_counts: bool,
    /// The entry in INBOX of another receipt of the same report: there is no second one.
    pub(super) in_inbox: Option<Uid>,
}

impl Subject<'_> {
    /// Whether a placement is for what INBOX holds.
    fn shows(&self, wanted: &WantedPlacement) -> bool {
        wanted.in_view.is_none_or(|view| view == self.view)
    }
}

/// What became of the placements wanted, in their order, each with the path of its folder.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) placements: Vec<PlacementFact>,
    /// Join of each placement's message.
    pub(super) joins: Vec<Digest>,
    pub(super) placement_paths: Vec<(String, Uid)>,
    /// Of each placement, its number among those wanted.
    pub(super) wanted: Vec<u32>,
    pub(super) spared: Vec<SparedFact>,
    pub(super) spared_paths: Vec<(String, Uid)>,
    /// Some were not made because the content is freed.
    pub(super) is_short: bool,
}

struct Folder {
    number: u64,
    next: Uid,
    path: String,
}

/// Decides, and remembers what the index does not know of yet.
#[derive(Default)]
pub(super) struct Placer {
    folders: HashMap<(GatewayMailboxId, FolderName), Folder>,
    slugs: HashMap<(GatewayMailboxId, String), String>,
    slugs_taken: HashSet<(GatewayMailboxId, String)>,
    joins: HashMap<(u64, Digest), Uid>,
    /// Entries of receipts that are looked at again, by folder, receipt and message.
    own: HashMap<(u64, ReceiptId, u64), Uid>,
    left: HashSet<(u64, Uid)>,
    /// Entries in INBOX of reports that were let out, by what makes another "the same again".
    let_out: HashMap<(GatewayMailboxId, Digest), Uid>,
}

impl Placer {
    /// Decides for all that is wanted.
    pub(super) fn place_all(
        &mut self,
        index: &Index,
        subject: Subject<'_>,
        wanted: &[WantedPlacement],
        make: &mut MakeFolder<'_>,
    ) -> Result<Placed, StoreError> {
        let mut placed = Placed::default();
        for (number, wanted) in (0..).zip(wanted).filter(|(_, wanted)| subject.shows(wanted)) {
            let before = placed.placements.len();
            self.place(index, subject, wanted, make, &mut placed)?;
            placed.wanted.extend((placed.placements.len() > before).then_some(number));
        }
        Ok(placed)
    }

    /// True when there is nothing left of a message that would have to be placed in INBOX.
    pub(super) fn lacks_any(
        &self,
        index: &Index,
        subject: Subject<'_>,
        wanted: &[WantedPlacement],
    ) -> Result<bool, StoreError> {
        let Some(inbox) = index.folder(subject.gateway_mailbox, &FolderName::Inbox)? else { return Ok(true) };
        for wanted in wanted.iter().filter(|wanted| subject.shows(wanted)) {
            let message = subject.messages.get(wanted.message as usize).map(|(message, _)| *message);
            if let Some(message) = message
                && is_freed(index, subject, message)?
                && self.own_entry(index, inbox.id, subject, message)?.is_none()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn place(
        &mut self,
        index: &Index,
        subject: Subject<'_>,
        wanted: &WantedPlacement,
        make: &mut MakeFolder<'_>,
        placed: &mut Placed,
    ) -> Result<(), StoreError> {
        let (message, join) =
            subject.messages.get(wanted.message as usize).copied().ok_or_else(|| {
                StoreError::Refused("a placement names a message that is not there".to_owned())
            })?;
        let is_freed = is_freed(index, subject, message)?;
        if is_freed && self.is_new(index, subject.gateway_mailbox, wanted)? {
            placed.is_short = true;
            return Ok(());
        }
        let (folder, uid, path) = self.folder(index, subject.gateway_mailbox, wanted, make)?;
        let there = match self.own_entry(index, folder, subject, message)? {
            None if wanted.folder == FolderName::Inbox && subject.in_inbox.is_some() => subject.in_inbox,
            None if wanted.once_per_join && !subject.heals => {
                self.entry_with_join(index, folder, &join, subject.again.is_some())?
            }
            own => own,
        };
        if let Some(uid) = there {
            placed.spared.push(SparedFact { folder, uid, reasons: wanted.reasons.clone() });
            placed.spared_paths.push((path, uid));
            return Ok(());
        }
        if is_freed {
            placed.is_short = true;
            return Ok(());
        }
        let next = uid
            .value()
            .checked_add(1)
            .and_then(Uid::new)
            .ok_or_else(|| StoreError::Refused("the folder has no UIDs left".to_owned()))?;
        if let Some(known) = self.folders.get_mut(&(subject.gateway_mailbox, wanted.folder.clone())) {
            known.next = next;
        }
        self.joins.insert((folder, join), uid);
        if let Some(receipt) = subject.again {
            self.own.insert((folder, receipt, message), uid);
        }
        placed.placements.push(PlacementFact {
            folder,
            name: wanted.folder.clone(),
            uid,
            message,
            reasons: wanted.reasons.clone(),
        });
        placed.joins.push(join);
        placed.placement_paths.push((path, uid));
        Ok(())
    }

    /// True when there is no such folder yet.
    fn is_new(
        &self,
        index: &Index,
        id: GatewayMailboxId,
        wanted: &WantedPlacement,
    ) -> Result<bool, StoreError> {
        let is_known = self.folders.contains_key(&(id, wanted.folder.clone()));
        Ok(!is_known && index.folder(id, &wanted.folder)?.is_none())
    }

    /// What the receipt has of this message in the folder, taken by a client or not; not what it left.
    fn own_entry(
        &self,
        index: &Index,
        folder: u64,
        subject: Subject<'_>,
        message: u64,
    ) -> Result<Option<Uid>, StoreError> {
        let Some(receipt) = subject.again else { return Ok(None) };
        match self.own.get(&(folder, receipt, message)) {
            Some(uid) => Ok(Some(*uid)),
            None => index.entry_of_receipt(folder, receipt, message, |uid| {
                if self.left.contains(&(folder, uid)) {
                    return Ok(false);
                }
                Ok(subject.taken_counts || !index.live_uids(folder, &[uid])?.is_empty())
            }),
        }
    }

    /// The entry another is spared for. What is looked `again` at leaves where it was: it may be the last there is, and is
    /// spared for nothing that nobody can read any more.
    fn entry_with_join(
        &self,
        index: &Index,
        folder: u64,
        join: &Digest,
        again: bool,
    ) -> Result<Option<Uid>, StoreError> {
        match self.joins.get(&(folder, *join)) {
            Some(uid) => Ok(Some(*uid)),
            None => index.entry_with_join(folder, join, |uid, message| {
                let counts = !self.left.contains(&(folder, uid));
                Ok(counts && !(again && index.message_freed_at(message)?.is_some()))
            }),
        }
    }

    /// The entry in INBOX of another receipt of the report that has this identity: it was delivered, or let out before. Most
    /// have none: a copy that was let out behind another was spared it.
    pub(super) fn same_in_inbox(
        &self,
        index: &Index,
        gateway_mailbox: GatewayMailboxId,
        receipt: ReceiptId,
        identity: &Digest,
    ) -> Result<Option<Uid>, StoreError> {
        if let Some(uid) = self.let_out.get(&(gateway_mailbox, *identity)) {
            return Ok(Some(*uid));
        }
        let Some(inbox) = index.folder(gateway_mailbox, &FolderName::Inbox)? else { return Ok(None) };
        index.first_entry_of_same(inbox.id, gateway_mailbox, receipt, identity)
    }

    /// Remembers that the report with this identity has an entry in INBOX, made or spared just now.
    pub(super) fn is_let_out(
        &mut self,
        gateway_mailbox: GatewayMailboxId,
        identity: Digest,
        placed: &Placed,
    ) {
        let inbox = FolderName::Inbox.path(None);
        let mut entries = placed.placement_paths.iter().chain(&placed.spared_paths);
        if let Some((_, uid)) = entries.find(|(path, _)| *path == inbox) {
            self.let_out.insert((gateway_mailbox, identity), *uid);
        }
    }

    /// Entries of a receipt in INBOX that are there and came below this UID: they leave.
    pub(super) fn leave_below(
        &mut self,
        index: &Index,
        gateway_mailbox: GatewayMailboxId,
        receipt: ReceiptId,
        below: Uid,
    ) -> Result<Vec<(u64, Uid)>, StoreError> {
        let Some(inbox) = index.folder(gateway_mailbox, &FolderName::Inbox)? else { return Ok(Vec::new()) };
        let live = index.live_entries_of_receipt(inbox.id, receipt)?;
        let leaving: Vec<(u64, Uid)> =
            live.into_iter().filter(|uid| *uid < below).map(|uid| (inbox.id, uid)).collect();
        self.left.extend(&leaving);
        Ok(leaving)
    }

    /// They stay after all.
    pub(super) fn stay(&mut self, leaving: &[(u64, Uid)]) {
        self.left.retain(|entry| !leaving.contains(entry));
    }

    /// Entries of a receipt that leave a folder: those there now, but for what was just decided to stay.
    pub(super) fn leave(
        &mut self,
        index: &Index,
        gateway_mailbox: GatewayMailboxId,
        receipt: ReceiptId,
        name: &FolderName,
        staying: &[SparedFact],
    ) -> Result<Vec<(u64, Uid)>, StoreError> {
        let Some(folder) = index.folder(gateway_mailbox, name)? else { return Ok(Vec::new()) };
        let stays = |uid: &Uid| staying.iter().any(|spared| spared.folder == folder.id && spared.uid == *uid);
        let mut leaving = index.live_entries_of_receipt(folder.id, receipt)?;
        leaving.retain(|uid| !stays(uid));
        let leaving: Vec<(u64, Uid)> = leaving.into_iter().map(|uid| (folder.id, uid)).collect();
        self.left.extend(&leaving);
        Ok(leaving)
    }

    /// The folder a placement is for: its number, next UID and path; made when it is wanted first.
    fn folder(
        &mut self,
        index: &Index,
        id: GatewayMailboxId,
        wanted: &WantedPlacement,
        make: &mut MakeFolder<'_>,
    ) -> Result<(u64, Uid, String), StoreError> {
        let key = (id, wanted.folder.clone());
        if let Some(known) = self.folders.get(&key) {
            return Ok((known.number, known.next, known.path.clone()));
        }
        let slug = match &wanted.folder {
            FolderName::User { user, .. } => {
                Some(self.slug(index, id, user, wanted.slug.as_deref().unwrap_or(user))?)
            }
            _ => None,
        };
        let path = wanted.folder.path(slug.as_deref());
        let (number, next) = match index.folder(id, &wanted.folder)? {
            Some(row) => (row.id, row.uid_next),
            None => (make(&wanted.folder, slug)?, Uid::FIRST),
        };
        self.folders.insert(key, Folder { number, next, path: path.clone() });
        Ok((number, next, path))
    }

    /// The path segment of a user's folders: the one they have, else `wanted`, made unique.
    fn slug(
        &mut self,
        index: &Index,
        id: GatewayMailboxId,
        user: &str,
        wanted: &str,
    ) -> Result<String, StoreError> {
        let key = (id, user.to_owned());
        if let Some(slug) = self.slugs.get(&key) {
            return Ok(slug.clone());
        }
        let slug = match index.slug_of(id, user)? {
            Some(slug) => slug,
            None => {
                let mut slug = wanted.to_owned();
                let mut count = 1;
                while self.slugs_taken.contains(&(id, slug.clone())) || index.slug_is_taken(id, &slug)? {
                    count += 1;
                    slug = format!("{wanted}-{count}");
                }
                slug
            }
        };
        self.slugs_taken.insert((id, slug.clone()));
        self.slugs.insert(key, slug.clone());
        Ok(slug)
    }
}

/// True when there is nothing left of a message that could be placed. What is delivered was looked at as it was stored.
fn is_freed(index: &Index, subject: Subject<'_>, message: u64) -> Result<bool, StoreError> {
    Ok(subject.again.is_some() && index.message_freed_at(message)?.is_some())
}
