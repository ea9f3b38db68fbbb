//! The one writer: takes what all sessions want stored, in groups, and makes each group durable with one sync.
//!
//! A group forms by arrival: whatever is waiting when the last group's sync ends, up to [`GROUP_DELIVERIES_MAX`] and
//! [`GROUP_OCTETS_MAX`]; nothing waits when nobody else is there. For each command the committer decides, over the index and
//! what this group has added to it, builds the frames, and applies them to the index inside one transaction. Then: append
//! and sync the log; commit the index; answer. If the log fails, the transaction is rolled back and every command of the
//! group is answered with the error: UIDs and numbers go back, the segment is given up.
//!
//! If the index fails after the log succeeded, the answer is still yes: the log is what counts, and the index is
//! repaired from it before anything else is taken.

mod changing;
mod flagging;
mod freeing;
mod keeping;
mod keyrings;
mod kinship;
mod placing;
mod revising;
mod room;
mod storing;
mod turning;

pub(super) use flagging::FLAGS_CHANGED_AT_ONCE_MAX;
pub(super) use freeing::{Freed, Freeing};
pub(super) use keeping::{Expire, Undelete};
pub(super) use keyrings::KeyringChange;
pub(super) use revising::plan;
pub(super) use room::{FILES_KEPT_FROM_MAIL, GROUP_ROOM_OCTETS, room_kept_from_mail};

use super::changes::changed_by;
use super::embedded::Shared;
use super::fact::{
    Entry, Fact, FolderEventFact, GatewayMailboxFact, KeyFileFact, MessageFact, ReceivedFact, runs,
};
use super::format::GroupBuilder;
use super::index::{Index, Numbers, Place};
use super::keep::Undeleted;
use super::log::Log;
use super::plant::{Plant, is_planted};
use super::{
    Client, Delivered, Delivery, Digest, FlagsSet, FolderName, GatewayMailboxChange, Relation, Revised,
    Revision, StoreError,
};
use crate::mail::{
    FetchRules, FlagChange, Flags, GatewayMailbox, GatewayMailboxId, GatewayMailboxState, Maildrop,
    Timestamp, Uid, UidValidity,
};
use crate::observe::metrics::{self, Written};
use placing::{Placed, Placer, Subject};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use storing::Content;
use tokio::sync::{mpsc, oneshot};

/// Most commands that share one sync.
pub(super) const GROUP_DELIVERIES_MAX: usize = 256;
/// A group is closed when it has grown to this.
const GROUP_OCTETS_MAX: usize = 32 * 1024 * 1024;
/// Commands that may wait; further senders wait to send.
pub(super) const QUEUE_COMMANDS_MAX: usize = 1024;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the committer is asked to do.
pub(super) enum Command {
    Deliver {
        deliveries: Vec<Delivery>,
        answer: Answer<Vec<Delivered>>,
    },
    Expunge {
        event: FolderEvent,
        /// Those alone that are marked `\Deleted`, where clients may delete.
        marked_only: bool,
        answer: Answer<Vec<Uid>>,
    },
    Fetched {
        event: FolderEvent,
        answer: Answer<()>,
    },
    /// Changes flags of what is there.
    SetFlags {
        event: FolderEvent,
        change: FlagChange,
        changeable: Flags,
        answer: Answer<FlagsSet>,
    },
    /// Makes a folder that nothing came to yet.
    MakeFolder {
        gateway_mailbox: GatewayMailboxId,
        folder: FolderName,
        at: Timestamp,
        answer: Answer<()>,
    },
    Revise {
        revisions: Vec<Revision>,
        actor: String,
        at: Timestamp,
        answer: Answer<Vec<Revised>>,
    },
    Create {
        fact: Box<GatewayMailboxFact>,
        key_files: Vec<KeyFileFact>,
        answer: Answer<GatewayMailbox>,
    },
    /// Puts files of wrapped keyrings on record.
    KeyFiles {
        facts: Vec<KeyFileFact>,
        answer: Answer<()>,
    },
    /// Puts other keys in force, with the files they are wrapped in.
    Keyring {
        change: Box<KeyringChange>,
        answer: Answer<GatewayMailbox>,
    },
    Change {
        id: GatewayMailboxId,
        changes: Vec<GatewayMailboxChange>,
        actor: String,
        at: Timestamp,
        answer: Answer<GatewayMailbox>,
    },
    /// Takes out what retention keeps no longer.
    Expire {
        expire: Expire,
        answer: Answer<usize>,
    },
    /// Brings back what was deleted.
    Undelete {
        undelete: Undelete,
        answer: Answer<Undeleted>,
    },
    /// Puts on record that the system's clock is right.
    TrustClock {
        actor: String,
        answer: Answer<Timestamp>,
    },
    /// Frees what nothing needs any more.
    Free {
        freeing: Box<Freeing>,
        answer: Answer<Freed>,
    },
    /// Notes that the octets of these objects are given back.
    Strike {
        objects: Vec<u64>,
        answer: Answer<usize>,
    },
    /// Has the index that was made beside take the place of the one in use.
    TakeIndex {
        answer: Answer<Vec<String>>,
    },
    /// Asks for nothing but that what failed is tried again.
    Probe,
    /// Finishes what is queued, leaves the clean mark, ends the thread.
    Stop {
        answer: oneshot::Sender<()>,
    },
}

pub(super) struct FolderEvent {
    pub(super) at: Timestamp,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) folder: FolderName,
    pub(super) uids: Vec<Uid>,
    pub(super) client: Client,
}

/// A command in the queue.
pub(super) struct Queued {
    command: Command,
    since: Instant,
}

impl From<Command> for Queued {
    fn from(command: Command) -> Queued {
        Queued { command, since: Instant::now() }
    }
}

/// Asks the committer from a thread that may block, and waits for its answer.
///
/// # Errors
/// Those of the command, and that of a store which is over.
pub(super) fn ask_blocking<T>(
    commands: &mpsc::WeakSender<Queued>,
    command: impl FnOnce(Answer<T>) -> Command,
) -> Result<T, StoreError> {
    let (answer, outcome) = oneshot::channel();
    {
        // Held only for the sending: the store is over when nobody else holds one.
        let commands = commands.upgrade().ok_or_else(StoreError::closed)?;
        commands.blocking_send(command(answer).into()).map_err(|_| StoreError::closed())?;
    }
    outcome.blocking_recv().map_err(|_| StoreError::closed())?
}

/// Octets of a group, for the metrics.
#[derive(Clone, Copy, Default)]
struct Octets {
    /// Of the messages in it.
    received: u64,
    /// Of their content files.
    content: u64,
}

/// What the members of a group learn when it is durable.
#[derive(Clone, Copy)]
struct Committed {
    group: usize,
    sync_seconds: f64,
}

/// Answers one command once the group's fate is known.
type Conclude = Box<dyn FnOnce(Result<Committed, StoreError>) + Send>;

pub(super) struct Committer {
    shared: Arc<Shared>,
    log: Log,
    index: Option<Index>,
    numbers: Numbers,
    /// Content files of this group; they stay once its frames may be on disk.
    files: Vec<super::content::ContentFile>,
    octets: Octets,
    /// The index's WAL as it was behind the last group.
    wal_octets: u64,
    routes_changed: bool,
    /// Something of this group stands in the index and not in the log.
    changes_index_alone: bool,
    /// Gateway mailboxes deleted by this group; the routes learn of it behind the group.
    deleted: HashSet<GatewayMailboxId>,
    /// Public keys that this group gave up; the same.
    given_up: HashSet<String>,
    /// The index lost this group's transaction: nothing of the group may count.
    spoilt: Option<StoreError>,
    /// Gateway mailboxes in whose folders this group changes something, each as often as it comes.
    touched: Vec<GatewayMailboxId>,
}

/// A group under construction: where its frames will stand, and the index they are applied to.
struct Group<'a> {
    builder: &'a mut GroupBuilder,
    index: &'a Index,
    shared: &'a Shared,
    segment: u64,
    offset: u64,
    touched: &'a mut Vec<GatewayMailboxId>,
}

impl Group<'_> {
    fn push(&mut self, fact: Fact, payload: &[u8], payload_sha256: &Digest) -> Result<(), StoreError> {
        let last = self.touched.last().copied();
        self.touched.extend(changed_by(&fact).filter(|id| Some(*id) != last));
        let entry = Entry { v: fact.version(), fact };
        let octets = serde_json::to_vec(&entry).map_err(|e| StoreError::io("writing an entry", e.into()))?;
        let at = self
            .builder
            .push(&octets, payload, payload_sha256)
            .map_err(|_| StoreError::Refused("an entry is larger than the log can hold".to_owned()))?;
        let place = Place {
            segment: self.segment,
            entry_offset: self.offset + at.entry_offset,
            entry_octets: at.entry_octets,
            payload_offset: self.offset + at.payload_offset,
        };
        let applied = self.index.apply(&entry.fact, &place);
        if let Err(StoreError::Damaged(why)) = &applied {
            // What was made up from the index contradicts the index: it would do so again and again.
            self.shared.set_index_spoilt(why);
        }
        applied
    }

    fn push_fact(&mut self, fact: Fact) -> Result<(), StoreError> {
        self.push(fact, &[], &Digest::of(&[]))
    }
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, log: Log, index: Index) -> Result<Committer, StoreError> {
        let numbers = index.numbers()?;
        Ok(Committer {
            shared,
            log,
            index: Some(index),
            numbers,
            files: Vec::new(),
            octets: Octets::default(),
            wal_octets: 0,
            routes_changed: false,
            changes_index_alone: false,
            deleted: HashSet::new(),
            given_up: HashSet::new(),
            spoilt: None,
            touched: Vec::new(),
        })
    }

    /// Works until told to stop, or until nobody can send any more.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Queued>) {
        let mut stopping = None;
        while stopping.is_none() {
            let Some(first) = commands.blocking_recv() else { break };
            let mut batch = Vec::new();
            let mut octets = 0;
            let mut takes: Vec<Answer<Vec<String>>> = Vec::new();
            let mut next = Some(first);
            while let Some(Queued { command, since }) = next.take() {
                match command {
                    Command::Stop { answer } => {
                        stopping = Some(answer);
                        break;
                    }
                    Command::TakeIndex { answer } => {
                        takes.push(answer);
                        break;
                    }
                    _ => {}
                }
                octets += inline_octets(&command);
                metrics::store_waited(since.elapsed().as_secs_f64());
                batch.push(command);
                if batch.len() < GROUP_DELIVERIES_MAX && octets < GROUP_OCTETS_MAX {
                    next = commands.try_recv().ok();
                }
            }
            if !batch.is_empty() {
                self.commit(batch);
            }
            for answer in takes {
                // Whoever made it may have gone.
                answer.send(self.take_index()).ok();
            }
        }
        if stopping.is_some() {
            self.take_all_turned_away();
        }
        // Only an orderly close leaves the mark: a store that is merely dropped counts as crashed.
        if stopping.is_some() && self.index.is_some() {
            self.shared.witness().conclude();
            if let Err(e) = self.log.mark_clean() {
                tracing::warn!(event = "store.clean_mark_failed", error = %e);
            }
        }
        drop(self);
        if let Some(answer) = stopping {
            // Whoever asked may have gone: the store is closed all the same.
            answer.send(()).ok();
        }
    }

    fn commit(&mut self, batch: Vec<Command>) {
        // What was turned away comes in groups without a command.
        let had_commands = !batch.is_empty();
        let batch = self.make_room(batch);
        if had_commands && batch.is_empty() {
            return;
        }
        let asks_for_room = Committer::asks_for_room(&batch);
        let repaired = match self.repair_if_needed() {
            Err(e) if self.give_room_after(&e, asks_for_room) => self.repair_if_needed(),
            repaired => repaired,
        };
        if let Err(e) = repaired {
            batch.into_iter().for_each(|command| command.fail(&e));
            return;
        }
        let Some(index) = self.index.take() else { return };
        let mut started = index.begin().and_then(|()| self.log.start_group());
        if let Err(e) = &started
            && self.give_room_after(e, asks_for_room)
            && index.rollback().is_ok()
        {
            started = index.begin().and_then(|()| self.log.start_group());
        }
        let mut builder = match started {
            Ok(builder) => builder,
            Err(e) => {
                self.give_up(index, &e, asks_for_room);
                batch.into_iter().for_each(|command| command.fail(&e));
                return;
            }
        };
        let numbers_before = self.numbers;
        let building = Instant::now();
        self.octets = Octets::default();
        self.deleted.clear();
        if !self.routes_changed {
            self.given_up.clear();
        }
        let (segment, offset) = self.log.next_group_at();
        let shared = &*Arc::clone(&self.shared);
        let mut conclusions: Vec<Conclude> = Vec::with_capacity(batch.len());
        let mut touched = std::mem::take(&mut self.touched);
        touched.clear();
        for command in batch {
            let builder = &mut builder;
            let mut group = Group { builder, index: &index, shared, segment, offset, touched: &mut touched };
            conclusions.extend(self.take_one(command, &mut group));
        }
        let turned_away = self.take_turned_away(&mut Group {
            builder: &mut builder,
            index: &index,
            shared,
            segment,
            offset,
            touched: &mut touched,
        });
        self.touched = touched;
        let outcome = match self.spoilt.take() {
            Some(e) => Err(e),
            None if !index.in_transaction() => {
                Err(StoreError::IndexDamaged("it ended a transaction by itself".to_owned()))
            }
            None => self.seal_group(builder, &index, conclusions.len(), building),
        };
        turned_away.conclude(&self.shared, &outcome);
        match &outcome {
            Ok(_) => {
                self.index = Some(index);
                // An empty group too has made a new segment durable, if a failed write had given the last one up.
                self.shared.set_failing(false);
            }
            Err(e) => {
                self.files.clear();
                self.numbers = numbers_before;
                self.give_up(index, e, asks_for_room);
            }
        }
        self.load_routes();
        // What is about to be acknowledged must be seen by pollers, also if no mail follows for a while.
        if self.shared.index_is_behind()
            && let Err(e) = self.repair_if_needed()
        {
            tracing::error!(event = "store.index_failed", error = %e);
        }
        if outcome.is_ok() {
            self.shared.changes.tell(&self.touched);
        }
        conclusions.into_iter().for_each(|conclude| conclude(outcome.clone()));
    }

    /// Has sessions see what changed. Where that fails it is tried again behind the next group, and nothing sealed to a key that was
    /// given up is stored until then.
    fn load_routes(&mut self) {
        if !self.routes_changed {
            return;
        }
        let Some(index) = &self.index else { return };
        match self.shared.load_routes(index) {
            Ok(()) => self.routes_changed = false,
            Err(e) => tracing::error!(event = "store.routes_failed", error = %e),
        }
    }

    /// Ends a group that failed. An index that failed, or that cannot even go back, is opened anew before anything else.
    fn give_up(&mut self, index: Index, e: &StoreError, asks_for_room: bool) {
        self.shared.set_failing(true);
        metrics::store_commit_failed();
        tracing::error!(event = "store.commit_failed", error = %e);
        self.give_room_after(e, asks_for_room);
        if matches!(e, StoreError::IndexDamaged(_)) {
            self.shared.set_index_spoilt(&e.to_string());
            return;
        }
        self.index = index.rollback().is_ok().then_some(index);
    }

    /// Makes the group durable, then commits the index.
    fn seal_group(
        &mut self,
        builder: GroupBuilder,
        index: &Index,
        group: usize,
        building: Instant,
    ) -> Result<Committed, StoreError> {
        let files = std::mem::take(&mut self.files);
        let changes_index_alone = std::mem::take(&mut self.changes_index_alone);
        if builder.is_empty() {
            // What only the index was to know is found out again, should this fail: but whoever waits for it must hear so.
            match changes_index_alone {
                true => index.commit()?,
                false => index.rollback()?,
            }
            return Ok(Committed { group, sync_seconds: 0.0 });
        }
        // From here on the frames may reach the disk whatever is reported: the files they name must stay.
        for mut file in files {
            file.keep();
        }
        let build_seconds = building.elapsed().as_secs_f64();
        let log_octets = builder.octets();
        if is_planted(Plant::IndexBeforeLog) {
            index.set_numbers(&self.numbers).and_then(|()| index.commit()).and_then(|()| index.begin())?;
        }
        let clock = Instant::now();
        let position = self.log.append(builder)?;
        self.shared.witness().reached(position);
        let sync_seconds = clock.elapsed().as_secs_f64();
        self.shared.note_sync(sync_seconds);
        let clock = Instant::now();
        let recorded = index.set_numbers(&self.numbers).and_then(|()| index.set_position(&position));
        if let Err(e) = recorded.and_then(|()| index.commit()) {
            // Durable all the same. The index is behind now; repair_if_needed takes it further.
            tracing::error!(event = "store.index_failed", error = %e);
            drop(index.rollback());
            self.give_room_after(&e, true);
            self.shared.set_index_behind(true);
        }
        self.shared.set_log_end(position);
        metrics::store_synced(sync_seconds, group);
        metrics::store_built(build_seconds, clock.elapsed().as_secs_f64());
        metrics::store_received(self.octets.received);
        metrics::store_written(Written::Log, log_octets);
        metrics::store_written(Written::Content, self.octets.content);
        metrics::store_written(Written::Index, self.wal_growth());
        Ok(Committed { group, sync_seconds })
    }

    /// Octets the WAL has grown by since the last group; from nothing, if it was emptied since.
    fn wal_growth(&mut self) -> u64 {
        let now = std::fs::metadata(self.shared.wal_path()).map_or(0, |wal| wal.len());
        let before = std::mem::replace(&mut self.wal_octets, now);
        now.checked_sub(before).unwrap_or(now)
    }

    /// Opens the index anew, and replays what it lacks, after it failed. Where a reader found damage, it goes on as it is
    /// until the new one is made: what the writer goes by it checks too.
    fn repair_if_needed(&mut self) -> Result<(), StoreError> {
        if self.index.is_some() && !self.shared.index_is_behind() {
            return Ok(());
        }
        self.index = None;
        if self.shared.index_is_spoilt() {
            self.shared.set_index_awaited(true);
            return Err(StoreError::IndexDamaged("it is being made anew".to_owned()));
        }
        let opened = super::replay::open_index_and_replay(&self.shared, self.log.position())
            .map_err(|error| self.shared.unless_gone(error));
        let index = opened.inspect_err(|error| match error {
            StoreError::IndexDamaged(why) => {
                self.shared.set_index_spoilt(why);
                self.shared.set_index_awaited(true);
            }
            // It is tried again also if no command comes this far: sessions that meet no usable index have nothing to commit.
            _ => self.shared.set_index_behind(true),
        })?;
        self.use_index(index)?;
        tracing::warn!(event = "store.index_repaired");
        Ok(())
    }

    fn use_index(&mut self, index: Index) -> Result<(), StoreError> {
        self.numbers = index.numbers()?;
        self.shared.load_routes(&index)?;
        super::replay::note_lossy(&self.shared, &index)?;
        self.index = Some(index);
        self.shared.set_index_behind(false);
        self.shared.set_index_awaited(false);
        // Who looked meanwhile saw less than there is, or nothing.
        self.shared.changes.tell_all();
        Ok(())
    }

    /// Takes the rest of the log into the index made beside, and goes on with that one. Gives what is damaged in that rest.
    fn take_index(&mut self) -> Result<Vec<String>, StoreError> {
        let (damage, loses) = super::reindex::finish_beside(&self.shared, self.log.position())?;
        // Should this fail, what there is is opened again.
        self.index = None;
        self.shared.set_index_behind(true);
        // What the log lost the one before may know.
        let keep = loses || self.shared.index_is_spoilt();
        let index = super::replay::put_in_place(&self.shared, keep)?;
        index.set_numbers(&index.numbers()?.at_least(&self.numbers))?;
        self.use_index(index)?;
        self.shared.forget_index_spoilt();
        Ok(damage)
    }

    /// Adds one command to the group. What cannot be added is answered at once and leaves no trace in the group.
    fn take_one(&mut self, command: Command, group: &mut Group<'_>) -> Option<Conclude> {
        match command {
            Command::Deliver { deliveries, answer } => self.attempt(group, answer, |this, group| {
                deliveries
                    .into_iter()
                    .map(|delivery| this.deliver(delivery, group))
                    .collect::<Result<Vec<_>, _>>()
            }),
            Command::Expunge { event, marked_only, answer } => {
                self.attempt(group, answer, |this, group| this.expunge(event, marked_only, group))
            }
            Command::Fetched { event, answer } => {
                self.attempt(group, answer, |this, group| this.fetched(event, group))
            }
            Command::SetFlags { event, change, changeable, answer } => {
                self.attempt(group, answer, |this, group| this.set_flags(event, change, changeable, group))
            }
            Command::MakeFolder { gateway_mailbox, folder, at, answer } => {
                self.attempt(group, answer, |this, group| {
                    this.make_empty_folder(gateway_mailbox, &folder, at, group)
                })
            }
            Command::Revise { revisions, actor, at, answer } => {
                let at = group.shared.clock.stamp().max(at);
                self.attempt(group, answer, |this, group| this.revise(revisions, &actor, at, group))
            }
            Command::Create { fact, key_files, answer } => self.attempt(group, answer, |this, group| {
                changing::check_role(group.index, &fact.gateway_mailbox)?;
                let made = this.gateway_mailbox(*fact, group)?;
                key_files.into_iter().try_for_each(|file| group.push_fact(Fact::KeyFile(file)))?;
                Ok(made)
            }),
            Command::KeyFiles { facts, answer } => self.attempt(group, answer, |_, group| {
                facts.into_iter().try_for_each(|file| group.push_fact(Fact::KeyFile(file)))
            }),
            Command::Keyring { change, answer } => {
                self.attempt(group, answer, |this, group| this.change_keyring(*change, group))
            }
            Command::Change { id, changes, actor, at, answer } => {
                self.attempt(group, answer, |this, group| {
                    let deleted_at = group.shared.clock.stamp();
                    let fact = changing::change(group.index, id, &changes, actor, (at, deleted_at))?;
                    let renewed = changing::renewed_inbox(group.index, &fact, at)?;
                    let made = this.gateway_mailbox(fact, group)?;
                    renewed.map_or(Ok(()), |inbox| group.push_fact(Fact::Folder(inbox)))?;
                    Ok(made)
                })
            }
            Command::Expire { expire, answer } => {
                self.attempt(group, answer, |this, group| this.expire(expire, group))
            }
            Command::Undelete { undelete, answer } => {
                self.attempt(group, answer, |this, group| this.undelete(undelete, group))
            }
            Command::TrustClock { actor, answer } => {
                self.attempt(group, answer, |this, group| this.trust_clock(actor, group))
            }
            Command::Free { freeing, answer } => {
                self.attempt(group, answer, |this, group| this.free(&freeing, group))
            }
            Command::Strike { objects, answer } => {
                self.attempt(group, answer, |this, group| this.strike(&objects, group))
            }
            Command::Probe | Command::TakeIndex { .. } | Command::Stop { .. } => None,
        }
    }

    fn attempt<T: Conclusion + Send + 'static>(
        &mut self,
        group: &mut Group<'_>,
        answer: Answer<T>,
        work: impl FnOnce(&mut Committer, &mut Group<'_>) -> Result<T, StoreError>,
    ) -> Option<Conclude> {
        let mark = group.builder.mark();
        let numbers = self.numbers;
        let (files, octets) = (self.files.len(), self.octets);
        if let Some(e) = &self.spoilt {
            drop(answer.send(Err(e.clone())));
            return None;
        }
        let done = group
            .index
            .savepoint()
            .and_then(|()| work(self, group))
            .and_then(|value| group.index.release().map(|()| value));
        match done {
            Ok(mut value) => Some(Box::new(move |outcome| {
                // A session that has gone does not change what is stored.
                drop(answer.send(outcome.map(|committed| {
                    value.conclude(&committed);
                    value
                })));
            })),
            Err(e) => {
                group.builder.go_back(mark);
                self.numbers = numbers;
                self.files.truncate(files);
                self.octets = octets;
                // Out of memory or disk, SQLite ends the whole transaction: what the others of this group put in is gone.
                let kept = group.index.in_transaction() && group.index.rollback_to_savepoint().is_ok();
                if !kept || matches!(e, StoreError::IndexDamaged(_)) {
                    self.spoilt = Some(e.clone());
                }
                drop(answer.send(Err(e)));
                None
            }
        }
    }

    fn gateway_mailbox(
        &mut self,
        fact: GatewayMailboxFact,
        group: &mut Group<'_>,
    ) -> Result<GatewayMailbox, StoreError> {
        let state = fact.gateway_mailbox.clone();
        if state.state == GatewayMailboxState::Deleted {
            self.deleted.insert(state.id);
        }
        group.push_fact(Fact::GatewayMailbox(Box::new(fact)))?;
        self.routes_changed = true;
        Ok(state)
    }

    fn deliver(&mut self, delivery: Delivery, group: &mut Group<'_>) -> Result<Delivered, StoreError> {
        let id = delivery.gateway_mailbox;
        if self.shared.known(id).is_none() || self.deleted.contains(&id) {
            // Deleted since RCPT: nobody could open it any more.
            return Err(StoreError::Gone);
        }
        // A report whose stored copy is damaged is no repetition: it heals.
        let repeats = match delivery.heals {
            true => None,
            false => group.index.receipt_with_identity(id, &delivery.identity)?,
        };
        // The same octets again need no second copy; other octets are kept whatever the Message-IDs say.
        let held_whole =
            repeats.is_some() && delivery.messages.first().is_some_and(|whole| whole.held.is_some());
        let messages = if held_whole { Vec::new() } else { self.store_delivery(&delivery, group)? };
        let mut placed = Placed::default();
        if repeats.is_none() {
            let numbered: Vec<_> = messages.iter().map(|m| (m.message, m.join)).collect();
            let subject = Subject {
                gateway_mailbox: id,
                view: self.view_of(id, group.index)?,
                messages: &numbered,
                heals: delivery.heals,
                again: None,
                taken_counts: true,
                in_inbox: None,
            };
            let (index, at) = (group.index, delivery.received_at);
            let mut make =
                |name: &FolderName, slug: Option<String>| self.make_folder(id, at, name, slug, &mut *group);
            placed = Placer::default().place_all(index, subject, &delivery.placements, &mut make)?;
        }
        let relation = match repeats {
            Some(_) => Some(Relation::Repetition),
            None => kinship::kinship(group.index, &delivery, &messages, &placed)?,
        };
        let delivered = Delivered {
            gateway_mailbox: id,
            repeats,
            relation,
            exact_copies: delivery.messages.iter().filter(|message| message.held.is_some()).count(),
            placements: placed.placement_paths,
            spared: placed.spared_paths,
            group: 0,
            sync_seconds: 0.0,
        };
        self.octets.received += delivery.octets;
        if !held_whole {
            self.take_files(delivery.objects.into_iter().chain([delivery.summary]));
        }
        group.push_fact(Fact::Received(Box::new(ReceivedFact {
            receipt_id: delivery.receipt_id,
            gateway_mailbox: id,
            at: delivery.received_at,
            transport: delivery.transport,
            class: delivery.class,
            octets: delivery.octets,
            sha256: delivery.sha256,
            message_id: delivery.message_id,
            parent_message_id: delivery.parent_message_id,
            recovered_from: delivery.recovered_from,
            returned_message_id: delivery.returned_message_id,
            reports: delivery.reports,
            defects: delivery.defects,
            unmatched: delivery.unmatched,
            judgement: delivery.judgement,
            kept_from: group.shared.clock.ahead_of(delivery.received_at),
            identity: delivery.identity,
            repeats,
            messages,
            epoch: self.numbers.epoch,
            placements: placed.placements,
            spared: placed.spared,
        })))?;
        Ok(delivered)
    }

    /// What its INBOX holds: as this group says, before the sessions learn of it.
    fn view_of(&self, id: GatewayMailboxId, index: &Index) -> Result<Maildrop, StoreError> {
        Ok(self.fetch_rules(id, index)?.maildrop)
    }

    fn fetch_rules(&self, id: GatewayMailboxId, index: &Index) -> Result<FetchRules, StoreError> {
        let known = if self.routes_changed { None } else { self.shared.known(id) };
        match known {
            Some(known) => Ok(known.fetch),
            None => Ok(index.gateway_mailbox(id)?.ok_or(StoreError::Gone)?.fetch),
        }
    }

    fn store_delivery(
        &mut self,
        delivery: &Delivery,
        group: &mut Group<'_>,
    ) -> Result<Vec<MessageFact>, StoreError> {
        let content = Content {
            receipt_id: delivery.receipt_id,
            gateway_mailbox: delivery.gateway_mailbox,
            objects: &delivery.objects,
            summary: &delivery.summary,
            messages: &delivery.messages,
        };
        self.store_messages(&content, group)
    }

    fn expunge(
        &mut self,
        mut event: FolderEvent,
        marked_only: bool,
        group: &mut Group<'_>,
    ) -> Result<Vec<Uid>, StoreError> {
        // From then on its grace counts: a clock that was put back must not shorten it.
        event.at = group.shared.clock.stamp().max(event.at);
        event.uids.sort_unstable();
        event.uids.dedup();
        let id = event.gateway_mailbox;
        let Some(folder) = group.index.folder(id, &event.folder)? else { return Ok(Vec::new()) };
        let taken = if marked_only {
            self.marked(&event, folder.id, group.index)?
        } else {
            group.index.live_uids(folder.id, &event.uids)?
        };
        if !taken.is_empty() {
            group.push_fact(Fact::Deleted(event.into_fact(folder.id, taken.clone())))?;
        }
        Ok(taken)
    }

    fn fetched(&mut self, event: FolderEvent, group: &mut Group<'_>) -> Result<(), StoreError> {
        let Some(folder) = group.index.folder(event.gateway_mailbox, &event.folder)? else { return Ok(()) };
        if event.uids.is_empty() {
            return Ok(());
        }
        let uids = event.uids.clone();
        group.push_fact(Fact::Fetched(event.into_fact(folder.id, uids)))
    }
}

impl FolderEvent {
    fn into_fact(self, folder: u64, mut uids: Vec<Uid>) -> FolderEventFact {
        uids.sort_unstable();
        uids.dedup();
        FolderEventFact {
            at: self.at,
            gateway_mailbox: self.gateway_mailbox,
            folder,
            uids: runs(&uids),
            client: self.client,
        }
    }
}

/// Takes over what is known only when the group is durable.
trait Conclusion {
    fn conclude(&mut self, _: &Committed) {}
}

impl Conclusion for () {}
impl Conclusion for usize {}
impl Conclusion for GatewayMailbox {}
impl Conclusion for Vec<Revised> {}
impl Conclusion for Vec<Uid> {}
impl Conclusion for FlagsSet {}
impl Conclusion for Vec<Delivered> {
    fn conclude(&mut self, committed: &Committed) {
        for delivered in self {
            delivered.group = committed.group;
            delivered.sync_seconds = committed.sync_seconds;
        }
    }
}

impl Command {
    fn fail(self, e: &StoreError) {
        // A session that has gone needs no answer.
        match self {
            Command::Deliver { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::Revise { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::Expunge { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::SetFlags { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::Fetched { answer, .. }
            | Command::KeyFiles { answer, .. }
            | Command::MakeFolder { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::Create { answer, .. }
            | Command::Change { answer, .. }
            | Command::Keyring { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::Expire { answer, .. } | Command::Strike { answer, .. } => {
                drop(answer.send(Err(e.clone())));
            }
            Command::Free { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::Undelete { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::TrustClock { answer, .. } => drop(answer.send(Err(e.clone()))),
            Command::TakeIndex { answer } => drop(answer.send(Err(e.clone()))),
            Command::Probe => {}
            Command::Stop { answer } => answer.send(()).unwrap_or(()),
        }
    }
}

fn inline_octets(command: &Command) -> usize {
    match command {
        Command::Deliver { deliveries, .. } => {
            storing::inline_octets(deliveries.iter().flat_map(|d| d.objects.iter().chain([&d.summary])))
        }
        Command::Revise { revisions, .. } => {
            let readings = revisions.iter().filter_map(|revision| revision.reading.as_ref());
            storing::inline_octets(readings.flat_map(|r| r.objects.iter().chain([&r.summary])))
        }
        _ => 0,
    }
}

/// Of a folder made then. Seconds since 1970 fit 32 bits until 2106, and a folder is made once.
fn uid_validity(at: Timestamp) -> UidValidity {
    let validity = u32::try_from(at.unix_seconds()).ok().and_then(UidValidity::new);
    validity.unwrap_or(UidValidity(std::num::NonZeroU32::MIN))
}
