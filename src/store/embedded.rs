//! [`Store`] in one directory: opens log and index, runs the committer, answers readers.

use super::ballast::Ballast;
use super::changes::Changed;
use super::checkpoint::{CheckpointStatus, LOSS_PLACE, Witness};
use super::committer::{
    Command, Committer, FILES_KEPT_FROM_MAIL, FolderEvent, GROUP_ROOM_OCTETS, KeyringChange,
    QUEUE_COMMANDS_MAX, Queued, ask_blocking, room_kept_from_mail,
};
use super::content::make_shards;
use super::data_lock::{DataLock, lock};
use super::escrow;
use super::fact::GatewayMailboxFact;
use super::files::{create_dir_durably, random_name, sync_dir};
use super::index::Index;
use super::keep::{self, Clock, Keeper};
use super::key_files;
use super::keyring::{self, KeyFiles, KeyringSecret, Opened, Replacement};
use super::log::Position;
use super::read::MessageReader;
use super::reading::listing;
use super::reindex::{IndexJob, IndexJobs, IndexState, KNOWS_MORE, Progress, make_beside};
use super::replay::{forget_unfinished, open_log_and_index, open_unfinished, put_in_place};
use super::rotation::gateway_address;
use super::scrub::{Scrub, ScrubStatus};
use super::seal::{
    DecoyKeyring, KEYRING_FILE, KeyringError, SealingKey, create_keyring, generate_password, is_generated,
    unwrap_by_password,
};
use super::spool::SPOOL_MEMORY_OCTETS_MAX;
use super::stage::{DigestKey, EmbeddedStage};
use super::state_file;
use super::turned_away::Waiting;
use super::{
    Activity, Arrivals, Backlog, BoxFuture, Came, Client, Delivered, Delivery, Digest, Entry, Escrow,
    EscrowIdentity, FlagsSet, FolderMarks, FolderName, FolderRow, FolderStatus, GatewayMailboxChange,
    KeepingStatus, Keyring, Listing, MessageKey, NewGatewayMailbox, REVISIONS_MAX, ReceiptQuery, ReceiptView,
    Recoverable, Revised, Revision, Space, Spool, Stage, Standing, Store, StoreError, Tally,
    TransactionQuery, TransactionView, Transactions, TurnedAway, UndeleteAsked, Undeleted, UnlockError,
    Unlocked, Walk, Walked,
};
use crate::mail::{
    AddressKey, EnvelopeHeaders, FetchRules, FlagChange, Flags, GatewayAddress, GatewayMailbox,
    GatewayMailboxId, GatewayMailboxState, Keeping, MessageSummary, Timestamp, Trust, Uid,
};
use crate::observe::now;
use age::x25519::Recipient;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How often the index's WAL is looked at, in milliseconds.
const CHECKPOINT_INTERVAL_MS: u64 = 1_000;
/// Reading connections kept open.
const READERS_MAX: usize = 16;
/// Reading in the background steps back for [`SLOW_SYNC_REST`] behind a sync that took so long, in seconds.
const SLOW_SYNC_SECONDS: f64 = 0.1;
/// See [`SLOW_SYNC_SECONDS`].
const SLOW_SYNC_REST: Duration = Duration::from_secs(2);
/// How often whoever rests looks whether they are still slow.
const SLOW_SYNC_LOOK: Duration = Duration::from_millis(20);
pub(super) const INDEX_FILE: &str = "index.sqlite";

/// How to open an [`Embedded`] store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made when it is not there.
    pub data_dir: PathBuf,
    /// New mail is refused for now when less than this would be left free, in octets.
    pub reserve_octets: u64,
}

/// What was found while opening, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Groups the index lacked.
    pub replayed_groups: u64,
    /// Unacknowledged ends of the log that were put aside.
    pub torn: Vec<String>,
    /// What should be whole and is not.
    pub damage: Vec<String>,
    /// Content files no entry names: they are being put aside.
    pub orphaned: Vec<String>,
    /// Why the index was made anew, if it was.
    pub index_rebuilt: Option<String>,
}

/// What is needed to take mail for a gateway mailbox.
pub(super) struct Route {
    pub(super) gateway_mailbox: Arc<GatewayMailbox>,
    pub(super) sealing_key: SealingKey,
    pub(super) digest_key: DigestKey,
}

#[derive(Default)]
struct Routes {
    by_address: HashMap<AddressKey, Arc<Route>>,
    by_local_part: HashMap<String, Arc<Route>>,
    by_id: HashMap<GatewayMailboxId, Arc<Route>>,
    in_order: Vec<Arc<GatewayMailbox>>,
}

/// What sessions and the committer share.
pub(super) struct Shared {
    data_dir: PathBuf,
    reserve_octets: AtomicU64,
    pub(super) ballast: Ballast,
    /// When a sync last took long.
    slow_sync: Mutex<Option<Instant>>,
    /// Stands in for a disk that is full.
    #[cfg(test)]
    pub(super) pretended_free: Mutex<Option<u64>>,
    readers: Mutex<Vec<Index>>,
    pub(super) last_emptied: super::emptied::LastRead,
    routes: ArcSwap<Routes>,
    /// Whom new keyrings are wrapped to besides the password.
    escrow: ArcSwap<Vec<Recipient>>,
    /// Held while files of keyrings change.
    pub(super) key_changes: Mutex<()>,
    /// The last group could not be made durable.
    failing: AtomicBool,
    index_behind: AtomicBool,
    /// The index must be made anew.
    index_spoilt: AtomicBool,
    /// The committer waits for it: until then no mail is taken.
    index_awaited: AtomicBool,
    /// Raised when another index took its place.
    index_generation: AtomicU64,
    witness: Witness,
    waiting: Waiting,
    /// Held while another index takes its place, and shared by whoever opens one: what SQLite keeps beside a file it finds by
    /// name.
    index_place: RwLock<()>,
    /// How far the log is in the index.
    log_end: Mutex<Position>,
    progress: Arc<Progress>,
    /// By which mail leaves.
    pub(super) clock: Clock,
    /// Who wants to hear of changes.
    pub(super) changes: Changed,
}

/// The store in a directory of its own.
pub struct Embedded {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Sender<Queued>,
    decoy: DecoyKeyring,
    scrub: Arc<Scrub>,
    keeper: Arc<Keeper>,
    committer: Mutex<Option<std::thread::JoinHandle<()>>>,
    closing: Arc<AtomicBool>,
    jobs: Arc<IndexJobs>,
    checkpointer: Mutex<Option<std::thread::JoinHandle<()>>>,
    witness: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Puts content files of a crash aside.
    tidier: Mutex<Option<std::thread::JoinHandle<()>>>,
    _lock: DataLock,
}

impl Shared {
    pub(super) fn content_dir(&self) -> PathBuf {
        self.data_dir.join("content")
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    pub(super) fn escrow_recipients(&self) -> Arc<Vec<Recipient>> {
        self.escrow.load_full()
    }

    pub(super) fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }

    fn tmp_dir(&self) -> PathBuf {
        self.data_dir.join("tmp")
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.data_dir.join(INDEX_FILE)
    }

    /// The index that is being made.
    pub(super) fn new_index_path(&self) -> PathBuf {
        self.data_dir.join(format!("{INDEX_FILE}.new"))
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) fn log_end(&self) -> Position {
        *self.log_end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_log_end(&self, end: Position) {
        *self.log_end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Waits until nobody opens the index, and keeps it so.
    pub(super) fn placing_index(&self) -> RwLockWriteGuard<'_, ()> {
        self.index_place.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening_index(&self) -> RwLockReadGuard<'_, ()> {
        self.index_place.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reading connection of its own.
    pub(super) fn open_reader(&self) -> Result<Index, StoreError> {
        let _stays_in_place = self.opening_index();
        Index::open_reader(&self.index_path()).map_err(|error| self.unless_gone(error))
    }

    /// The index could not be opened: when it is not there at all, trying again does not help.
    pub(super) fn unless_gone(&self, error: StoreError) -> StoreError {
        match self.index_path().try_exists() {
            Ok(false) => StoreError::IndexDamaged("it is not there".to_owned()),
            _ => error,
        }
    }

    pub(super) fn wal_path(&self) -> PathBuf {
        self.data_dir.join(format!("{INDEX_FILE}-wal"))
    }

    pub(super) fn witness(&self) -> &Witness {
        &self.witness
    }

    pub(super) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// A sync of the log took so many seconds.
    pub(super) fn note_sync(&self, sync_seconds: f64) {
        if sync_seconds >= SLOW_SYNC_SECONDS {
            *self.slow_sync.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// True while the disk has enough to do with mail.
    pub(super) fn syncs_are_slow(&self) -> bool {
        let slow = *self.slow_sync.lock().unwrap_or_else(PoisonError::into_inner);
        slow.is_some_and(|at| at.elapsed() < SLOW_SYNC_REST)
    }

    /// Waits while they are, at most so long, and while `goes_on`. Who closes unparks the thread.
    pub(super) fn rest_while_syncs_are_slow(&self, most: Duration, goes_on: impl Fn() -> bool) {
        let until = Instant::now() + most;
        while self.syncs_are_slow() && Instant::now() < until && goes_on() {
            std::thread::park_timeout(SLOW_SYNC_LOOK.min(most));
        }
    }

    /// True while something waits for the committer to mend it.
    fn is_troubled(&self) -> bool {
        self.failing.load(Ordering::Relaxed) || self.index_is_behind() || self.index_is_spoilt()
    }

    pub(super) fn set_index_behind(&self, behind: bool) {
        self.index_behind.store(behind, Ordering::Relaxed);
    }

    pub(super) fn index_is_behind(&self) -> bool {
        self.index_behind.load(Ordering::Relaxed)
    }

    /// The index must be made anew.
    pub(super) fn set_index_spoilt(&self, why: &str) {
        if !self.index_spoilt.swap(true, Ordering::Relaxed) {
            tracing::error!(event = "store.index_damaged", why);
        }
    }

    pub(super) fn index_is_spoilt(&self) -> bool {
        self.index_spoilt.load(Ordering::Relaxed)
    }

    pub(super) fn forget_index_spoilt(&self) {
        self.index_spoilt.store(false, Ordering::Relaxed);
    }

    /// The committer cannot go on with the index there is.
    pub(super) fn set_index_awaited(&self, awaited: bool) {
        self.index_awaited.store(awaited, Ordering::Relaxed);
    }

    pub(super) fn index_is_awaited(&self) -> bool {
        self.index_awaited.load(Ordering::Relaxed)
    }

    /// Closes idle reading connections, and those in use when they are done: they are to an index that was put aside.
    pub(super) fn forget_readers(&self) {
        self.index_generation.fetch_add(1, Ordering::AcqRel);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Folds what the WAL holds into the index, and leaves no WAL: who may only read the files can then look at all of it.
    /// Reading connections are closed first; one that is in use keeps an empty WAL there.
    fn settle_index(&self) {
        self.forget_readers();
        if !std::fs::metadata(self.wal_path()).is_ok_and(|wal| wal.len() > 0) {
            return;
        }
        let settled = Index::open_checkpointer(&self.index_path()).and_then(|index| index.checkpoint());
        if let Err(e) = settled {
            tracing::warn!(event = "store.checkpoint_failed", error = %e);
        }
    }

    /// Asks the index on a reading connection.
    pub(super) fn read<T>(&self, ask: impl FnOnce(&Index) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let generation = self.index_generation.load(Ordering::Acquire);
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let asked = match idle {
            Some(index) => Ok(index),
            None => self.open_reader(),
        }
        .and_then(|index| ask(&index).map(|answer| (index, answer)));
        let (index, answer) = asked.inspect_err(|error| {
            if let StoreError::IndexDamaged(why) = error
                && generation == self.index_generation.load(Ordering::Acquire)
            {
                self.set_index_spoilt(why);
            }
        })?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_MAX && generation == self.index_generation.load(Ordering::Acquire) {
            readers.push(index);
        }
        Ok(answer)
    }

    /// Makes the routing table anew from the index.
    pub(super) fn load_routes(&self, index: &Index) -> Result<(), StoreError> {
        let mut routes = Routes::default();
        for (gateway_mailbox, digest_key) in index.gateway_mailboxes()? {
            if gateway_mailbox.state == GatewayMailboxState::Deleted {
                continue;
            }
            let gateway_mailbox = Arc::new(gateway_mailbox);
            let route = Arc::new(Route {
                sealing_key: SealingKey::parse(&gateway_mailbox.public_key)?,
                digest_key: DigestKey::new(&digest_key),
                gateway_mailbox: gateway_mailbox.clone(),
            });
            for served in &gateway_mailbox.addresses {
                routes.by_address.insert(served.address.key(), route.clone());
                routes.by_local_part.insert(served.address.local().to_ascii_lowercase(), route.clone());
            }
            routes.by_id.insert(gateway_mailbox.id, route);
            routes.in_order.push(gateway_mailbox);
        }
        self.routes.store(Arc::new(routes));
        Ok(())
    }

    /// Transactions turned away that the log is to tell of: none while room is short, since what is left is for deleting and
    /// fetching. At the end they may use the reserve: they are few.
    pub(super) fn turned_away_to_write(&self) -> Vec<TurnedAway> {
        let first = self.waiting.first();
        let has_room = || match self.waiting.is_closing() {
            true => self.free_octets().is_ok_and(|free| free >= GROUP_ROOM_OCTETS),
            false => self.check_free_space(0).is_ok(),
        };
        let may_write = !first.is_empty() && has_room();
        if may_write { first } else { Vec::new() }
    }

    /// The first of them are durable, or never will be.
    pub(super) fn turned_away_written(&self, count: usize) {
        self.waiting.written(count);
    }

    /// How many wait to be written.
    pub(super) fn turned_away_waiting(&self) -> usize {
        self.waiting.count()
    }

    /// True when there are any. With `all`, those too that were only counted so far.
    pub(super) fn turned_away_is_due(&self, all: bool) -> bool {
        self.waiting.is_due(now(), all)
    }

    pub(super) fn free_octets(&self) -> Result<u64, StoreError> {
        #[cfg(test)]
        if let Some(octets) = *self.pretended_free.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(octets);
        }
        let space = rustix::fs::statvfs(&self.data_dir)
            .map_err(|e| StoreError::io("asking for free space", e.into()))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// True when the ballast was given up and hardly another file can be made: that one is not for mail either.
    pub(super) fn files_are_kept_from_mail(&self) -> bool {
        self.ballast.owed() > 0 && self.is_short_of_files()
    }

    fn is_short_of_files(&self) -> bool {
        // Where files are not counted, there is no end to them.
        let is_short =
            |space: rustix::fs::StatVfs| space.f_files > 0 && space.f_favail < FILES_KEPT_FROM_MAIL;
        rustix::fs::statvfs(&self.data_dir).is_ok_and(is_short)
    }

    /// What must stay free.
    fn reserve_octets(&self) -> u64 {
        self.reserve_octets.load(Ordering::Relaxed).max(room_kept_from_mail(&self.ballast))
    }

    /// Whether `octets` more leave the reserve untouched.
    fn check_free_space(&self, octets: u64) -> Result<(), StoreError> {
        let wanted = self.reserve_octets().saturating_add(octets);
        let is_short = self.free_octets()? < wanted || self.files_are_kept_from_mail();
        if is_short { Err(StoreError::Full) } else { Ok(()) }
    }
}

fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets)
        .map_err(|_| StoreError::io("drawing randomness", io::ErrorKind::Other.into()))?;
    Ok(octets)
}

impl Embedded {
    /// Opens the store, making it when it is not there, and brings the index up to the log.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open; [`StoreError::Newer`] when a newer version wrote it;
    /// [`StoreError::Damaged`] or [`StoreError::Io`] when it cannot be used at all.
    pub fn open(options: &Options) -> Result<(Embedded, OpenReport), StoreError> {
        Embedded::open_witnessed(options, None)
    }

    /// The same, with checkpoints in a folder outside as well: what is known there of the log counts too.
    ///
    /// # Errors
    /// As [`Embedded::open`]. Whatever is wrong with that folder stops nothing.
    pub fn open_witnessed(
        options: &Options,
        checkpoint_dir: Option<PathBuf>,
    ) -> Result<(Embedded, OpenReport), StoreError> {
        super::backup::refuse_unrestored(&options.data_dir)?;
        Embedded::open_so(options, checkpoint_dir, Arc::default(), (false, Arc::default()))
    }

    /// Opens the store by a clock that is so many milliseconds ahead of the system's, or behind: for tests of what takes days.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    #[doc(hidden)]
    pub fn open_by_clock(
        options: &Options,
        ahead_ms: Arc<AtomicI64>,
    ) -> Result<(Embedded, OpenReport), StoreError> {
        Embedded::open_so(options, None, Arc::default(), (false, ahead_ms))
    }

    pub(super) fn open_so(
        options: &Options,
        checkpoint_dir: Option<PathBuf>,
        progress: Arc<Progress>,
        (with_new_index, ahead_ms): (bool, Arc<AtomicI64>),
    ) -> Result<(Embedded, OpenReport), StoreError> {
        super::plant::announce();
        let data_dir = &options.data_dir;
        let lock = prepare(data_dir)?;
        let (witness, newest) = Witness::open(data_dir, checkpoint_dir)?;
        let signed = newest.map(|newest| newest.position());
        let shared = Arc::new(Shared {
            data_dir: data_dir.clone(),
            witness,
            reserve_octets: AtomicU64::new(options.reserve_octets),
            ballast: Ballast::find(data_dir),
            slow_sync: Mutex::new(None),
            #[cfg(test)]
            pretended_free: Mutex::new(None),
            readers: Mutex::new(Vec::new()),
            last_emptied: super::emptied::LastRead::default(),
            routes: ArcSwap::default(),
            escrow: ArcSwap::default(),
            key_changes: Mutex::new(()),
            failing: AtomicBool::new(false),
            index_behind: AtomicBool::new(false),
            index_spoilt: AtomicBool::new(false),
            index_awaited: AtomicBool::new(false),
            index_generation: AtomicU64::new(0),
            waiting: Waiting::default(),
            index_place: RwLock::new(()),
            log_end: Mutex::default(),
            progress,
            clock: Clock::load(data_dir, ahead_ms),
            changes: Changed::default(),
        });
        make_shards(&shared.content_dir())
            .map_err(|e| StoreError::io("making the content directories", e))?;

        let mut report = OpenReport::default();
        let was_clean = shared.log_dir().join("clean").exists();
        // A start writes as well: the log's next segment, files that tell where the server listens.
        if shared.free_octets().is_ok_and(|free| free < GROUP_ROOM_OCTETS) {
            shared.ballast.give_up();
        }
        let opened = match open_log_and_index(&shared, signed.as_ref(), &mut report) {
            // Without any room nobody could even fetch.
            Err(StoreError::Full) if shared.ballast.give_up() => {
                report = OpenReport { torn: std::mem::take(&mut report.torn), ..OpenReport::default() };
                open_log_and_index(&shared, signed.as_ref(), &mut report)
            }
            opened => opened,
        };
        let (log, mut index) = opened?;
        if with_new_index && report.index_rebuilt.is_none() {
            let (made, damage) = drop_and_remake(&shared, index, log.position())?;
            index = made;
            report.damage.extend(damage);
        }
        super::replay::note_lossy(&shared, &index)?;
        shared.set_log_end(log.position());
        if !was_clean {
            report.orphaned = match super::content::orphans(&shared.content_dir(), &index) {
                Err(StoreError::IndexDamaged(why)) => {
                    shared.set_index_spoilt(&why);
                    Vec::new()
                }
                other => other?,
            };
        }
        if shared.clock.is_new() {
            shared.clock.begin(match index.newest_time() {
                Err(StoreError::IndexDamaged(why)) => {
                    shared.set_index_spoilt(&why);
                    // Nobody knows: nothing leaves until somebody says what time it is.
                    Some(Timestamp::from_unix_ms(0))
                }
                newest => newest?,
            });
        }
        shared.load_routes(&index)?;
        // The position must survive a power cut: behind it, a cut-off last group cannot have been acknowledged.
        index.checkpoint()?;
        sync_dir(data_dir).map_err(|e| StoreError::io("syncing the data directory", e))?;

        shared.witness.reached(log.position());
        let (commands, queue) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let settled = keyring::settle_all(&shared.keys_dir(), &index);
        let unrecorded = match settled.and_then(|()| key_files::unrecorded(&shared.keys_dir(), &index, now()))
        {
            Err(StoreError::IndexDamaged(why)) => {
                shared.set_index_spoilt(&why);
                Vec::new()
            }
            other => other?,
        };
        if !unrecorded.is_empty() {
            let (answer, _) = oneshot::channel();
            // The queue is empty. Should the disk be full, the next opening tries again.
            commands.try_send(Command::KeyFiles { facts: unrecorded, answer }.into()).ok();
        }
        let committer = Committer::new(shared.clone(), log, index)?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(|e| StoreError::io("starting a thread", e))
        };
        let committer = spawn("committer", Box::new(move || committer.run(queue)))?;
        let closing = Arc::new(AtomicBool::new(false));
        let jobs = Arc::new(IndexJobs::default());
        let checkpointer = {
            let (shared, closing, commands) = (shared.clone(), closing.clone(), commands.downgrade());
            let jobs = jobs.clone();
            spawn("checkpointer", Box::new(move || tend(&shared, &closing, &commands, &jobs)))?
        };
        let witness = {
            let (shared, closing) = (shared.clone(), closing.clone());
            spawn("witness", Box::new(move || shared.witness.watch(&closing)))?
        };
        let tidier = if report.orphaned.is_empty() {
            None
        } else {
            let (shared, closing, orphans) = (shared.clone(), closing.clone(), report.orphaned.clone());
            Some(spawn("tidier", Box::new(move || put_orphans_aside(&shared, &orphans, &closing)))?)
        };
        let keeper = Keeper::start(&shared, commands.downgrade())?;
        let store = Embedded {
            shared,
            commands,
            decoy: DecoyKeyring::new()?,
            scrub: Scrub::load(data_dir),
            keeper,
            committer: Mutex::new(Some(committer)),
            closing,
            jobs,
            checkpointer: Mutex::new(Some(checkpointer)),
            witness: Mutex::new(Some(witness)),
            tidier: Mutex::new(tidier),
            _lock: lock,
        };
        Ok((store, report))
    }

    /// Refuses new mail from now on when less than this is free, in octets.
    pub fn set_reserve(&self, octets: u64) {
        self.shared.reserve_octets.store(octets, Ordering::Relaxed);
    }

    /// Holds so much room from now on, as soon as there is that much beyond the reserve, to be given up when the disk is full;
    /// 0 is none. Before this is called, one that is there stays as it is.
    pub fn set_ballast(&self, octets: u64) {
        self.shared.ballast.want(octets);
        if let Some(thread) = &*self.checkpointer.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.thread().unpark();
        }
    }

    /// Reads what is stored again in the background, at so many octets a second from now on; 0 is not at all. Until this is
    /// called nothing is.
    pub fn set_scrub(&self, octets_per_second: u64) {
        self.scrub.set_rate(octets_per_second, &self.shared);
    }

    /// Wraps the keyring of every gateway mailbox that is made from now on to these too, and [`Store::add_escrow`] those of
    /// older ones.
    pub fn set_escrow(&self, recipients: Vec<Recipient>) {
        self.shared.escrow.store(Arc::new(recipients));
    }

    /// Writes signed checkpoints to this folder too from now on, or to none.
    pub fn set_checkpoint_dir(&self, dir: Option<PathBuf>) {
        self.shared.witness.set_outside(dir);
    }

    /// Ends what is queued, marks the log as cleanly closed and stops the threads. Later calls fail.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.commands.send(Command::Stop { answer }.into()).await.is_ok() {
            // The committer may be gone already; either way it is closed.
            drop(closed.await);
        }
        self.join();
        self.shared.settle_index();
    }

    /// The same where nothing else runs.
    pub(super) fn close_blocking(&self) {
        let (answer, closed) = oneshot::channel();
        if self.commands.blocking_send(Command::Stop { answer }.into()).is_ok() {
            drop(closed.blocking_recv());
        }
        self.join();
        self.shared.settle_index();
    }

    /// False once this process can store nothing any more, whatever the disk does: the committer has ended, by a panic or
    /// because the store is closed. Never blocks.
    pub fn commits(&self) -> bool {
        !self.commands.is_closed()
    }

    fn join(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.shared.ballast.abandon();
        self.scrub.stop();
        self.keeper.stop();
        self.shared.progress.stop();
        for slot in [&self.tidier, &self.checkpointer, &self.witness, &self.committer] {
            let thread = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                thread.thread().unpark();
                if thread.join().is_err() {
                    tracing::error!(event = "store.thread_failed");
                }
            }
        }
        self.jobs.join();
    }

    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.commands.send(command(answer).into()).await.map_err(|_| StoreError::closed())?;
        outcome.await.map_err(|_| StoreError::closed())?
    }

    /// The same from a thread that may block.
    pub(super) fn ask_blocking<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        ask_blocking(&self.commands.downgrade(), command)
    }

    fn route(&self, id: GatewayMailboxId) -> Result<Arc<Route>, StoreError> {
        self.shared.routes.load().by_id.get(&id).cloned().ok_or(StoreError::Gone)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Without an orderly close the queue ends here; the log needs no mark to be whole.
        let (unused, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.commands, unused));
        self.join();
    }
}

/// Puts content files aside that no entry names; nobody waits for it.
fn put_orphans_aside(shared: &Shared, orphans: &[String], closing: &AtomicBool) {
    let put = shared
        .open_reader()
        .and_then(|index| super::content::put_aside(&shared.content_dir(), &index, orphans, closing));
    match put {
        Ok(()) => {}
        Err(StoreError::IndexDamaged(why)) => shared.set_index_spoilt(&why),
        Err(error) => tracing::warn!(event = "store.orphans_left", files = orphans.len(), %error),
    }
}

/// Makes the index anew although nothing is wrong with it. Gives what is damaged in the log as well.
fn drop_and_remake(shared: &Shared, index: Index, end: Position) -> Result<(Index, Vec<String>), StoreError> {
    let numbers = index.numbers()?;
    drop(index);
    let from = open_unfinished(shared)?.position()?;
    shared.progress.begin(super::log::Log::octets_behind(&shared.log_dir(), from)?);
    let (mut damage, loses) = make_beside(shared, end)?;
    if loses {
        forget_unfinished(shared)?;
        damage.push(KNOWS_MORE.to_owned());
        return Ok((Index::open(&shared.index_path())?, damage));
    }
    let index = put_in_place(shared, false)?;
    index.set_numbers(&index.numbers()?.at_least(&numbers))?;
    Ok((index, damage))
}

/// Makes what a store consists of and locks it; refuses one that a newer version wrote to.
fn prepare(data_dir: &Path) -> Result<DataLock, StoreError> {
    let fail = |e| StoreError::io("making the data directory", e);
    create_dir_durably(data_dir).and_then(|()| sync_dir(data_dir)).map_err(fail)?;
    let lock = lock(data_dir)?;
    for dir in ["content", "log", "keys", "tmp"] {
        create_dir_durably(&data_dir.join(dir)).map_err(fail)?;
    }
    // A crash between making one of these and syncing its parent must not matter later.
    sync_upwards(data_dir).map_err(|e| StoreError::io("syncing the data directory", e))?;
    match state_file::newer(data_dir) {
        Some((path, version)) => {
            let name = path.strip_prefix(data_dir).unwrap_or(&path).display();
            Err(StoreError::Newer(format!("{name}: version {version}")))
        }
        None => {
            super::freeing::make_freeing_lock(data_dir);
            Ok(lock)
        }
    }
}

/// Syncs `dir` and the directories above it, as far as they may be opened.
fn sync_upwards(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    for ancestor in dir.ancestors() {
        match sync_dir(ancestor) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => break,
            // Some file systems cannot sync a directory, and need not.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => break,
            other => other?,
        }
    }
    Ok(())
}

/// Keeps the WAL small, and after a failed write asks the committer to try again: no mail may come to do so while a
/// health check says that the store is not ready, nor to take along what was turned away.
fn tend(
    shared: &Arc<Shared>,
    closing: &AtomicBool,
    commands: &mpsc::WeakSender<Queued>,
    jobs: &Arc<IndexJobs>,
) {
    let wal = shared.wal_path();
    while !closing.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(CHECKPOINT_INTERVAL_MS));
        if Index::checkpoint_is_due(&wal) {
            let _stays_in_place = shared.opening_index();
            let index = Index::open_checkpointer(&shared.index_path());
            if let Err(e) = index.and_then(|index| index.checkpoint_beside_writer()) {
                tracing::warn!(event = "store.checkpoint_failed", error = %e);
            }
        }
        if shared.index_is_spoilt() {
            jobs.mend(shared, commands.clone());
        }
        // A file given up for deleting must not be taken back at once.
        if let Ok(free) = shared.free_octets()
            && !shared.is_short_of_files()
        {
            shared.ballast.tend(free, shared.reserve_octets.load(Ordering::Relaxed));
        }
        if (shared.is_troubled() || shared.turned_away_is_due(false))
            && let Some(commands) = commands.upgrade()
        {
            // A full queue holds commands that try as well.
            commands.try_send(Command::Probe.into()).ok();
        }
    }
}

pub(super) fn unlocked(
    gateway_mailbox: &Arc<GatewayMailbox>,
    opened: Result<Keyring, KeyringError>,
    password_file: Option<Digest>,
) -> Result<Unlocked, UnlockError> {
    match opened {
        Ok(keyring) => Ok(Unlocked { gateway_mailbox: gateway_mailbox.clone(), keyring, password_file }),
        Err(KeyringError::Wrong) => Err(UnlockError::Wrong),
        Err(KeyringError::Unreadable(why)) => Err(UnlockError::Unavailable(StoreError::Damaged(format!(
            "keyring of {}: {why}",
            gateway_mailbox.login()
        )))),
    }
}

fn folder_event(
    gateway_mailbox: GatewayMailboxId,
    folder: &FolderName,
    uids: &[Uid],
    by: &Client,
) -> FolderEvent {
    FolderEvent {
        at: now(),
        gateway_mailbox,
        folder: folder.clone(),
        uids: uids.to_vec(),
        client: by.clone(),
    }
}

impl Store for Embedded {
    fn gateway_mailbox(&self, address: &AddressKey) -> Option<Arc<GatewayMailbox>> {
        let routes = self.shared.routes.load();
        let route = routes.by_address.get(address)?;
        let served = route.gateway_mailbox.address_of(address)?.is_served(now());
        served.then(|| route.gateway_mailbox.clone())
    }

    fn retired(&self, address: &AddressKey) -> Option<Arc<GatewayMailbox>> {
        let routes = self.shared.routes.load();
        let route = routes.by_address.get(address)?;
        let served = route.gateway_mailbox.address_of(address)?.is_served(now());
        (!served).then(|| route.gateway_mailbox.clone())
    }

    fn gateway_mailbox_now(&self, id: GatewayMailboxId) -> Result<Arc<GatewayMailbox>, StoreError> {
        Ok(self.route(id)?.gateway_mailbox.clone())
    }

    fn gateway_mailboxes(&self) -> Vec<Arc<GatewayMailbox>> {
        self.shared.routes.load().in_order.clone()
    }

    fn create_gateway_mailbox<'a>(
        &'a self,
        new: NewGatewayMailbox,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<super::Created, StoreError>> {
        Box::pin(async move {
            let at = now();
            let id = GatewayMailboxId::new(u64::try_from(at.unix_ms()).unwrap_or(0), random()?);
            let local = random_name().map_err(|e| StoreError::io("drawing randomness", e))?;
            let address = gateway_address(&local, &new.domain)?;
            let password = generate_password()?;
            let (keys_dir, owner, secret) = (self.shared.keys_dir(), id.to_string(), password.clone());
            let escrow = self.shared.escrow.load_full();
            let make = move || {
                let public_key = create_keyring(&keys_dir, &owner, &secret, &escrow)?;
                Ok::<_, StoreError>((public_key, key_files::entries(&keys_dir, id, at, None)?))
            };
            let (public_key, key_files) = tokio::task::spawn_blocking(make)
                .await
                .map_err(|e| StoreError::io("making a keyring", io::Error::other(e)))??;
            let gateway_mailbox = GatewayMailbox {
                id,
                name: new.name,
                addresses: vec![GatewayAddress { address, until: None }],
                tenant: new.tenant,
                profile: new.profile,
                state: GatewayMailboxState::Active,
                archive: true,
                created_at: at,
                public_key,
                trust: Trust::default(),
                role: new.role,
                envelope_headers: EnvelopeHeaders::default(),
                keeping: Keeping::default(),
                holds: Vec::new(),
                former_keys: Vec::new(),
                deleted_at: None,
                fetch: FetchRules::default(),
                view_from: None,
            };
            let fact = Box::new(GatewayMailboxFact {
                at,
                actor: actor.to_owned(),
                action: "create".to_owned(),
                gateway_mailbox,
                digest_key: Digest(random()?),
            });
            let made = self.ask(|answer| Command::Create { fact, key_files, answer }).await?;
            Ok((Arc::new(made), password))
        })
    }

    fn change_gateway_mailbox<'a>(
        &'a self,
        id: GatewayMailboxId,
        changes: Vec<GatewayMailboxChange>,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Arc<GatewayMailbox>, StoreError>> {
        Box::pin(async move {
            let actor = actor.to_owned();
            self.ask(|answer| Command::Change { id, changes, actor, at: now(), answer }).await.map(Arc::new)
        })
    }

    fn spool(&self) -> Spool {
        Spool::in_dir(&self.shared.tmp_dir())
    }

    fn stage(&self, gateway_mailbox: GatewayMailboxId) -> Result<Box<dyn Stage>, StoreError> {
        self.shared.check_free_space(0)?;
        Ok(Box::new(EmbeddedStage::new(self.shared.clone(), self.route(gateway_mailbox)?)))
    }

    fn deliver(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Result<Vec<Delivered>, StoreError>> {
        Box::pin(self.ask(|answer| Command::Deliver { deliveries, answer }))
    }

    fn unlock(&self, login: &str, password: &str) -> Result<Unlocked, UnlockError> {
        let routes = self.shared.routes.load_full();
        let folded = login.trim().to_ascii_lowercase();
        let route =
            routes.by_local_part.get(&folded).or_else(|| routes.by_address.get(&AddressKey::of(&folded)));
        // By an address whose time is over nobody gets in, and it costs as much as any unknown one.
        let is_served = |route: &&Arc<Route>| {
            route.gateway_mailbox.address_of_login(&folded).is_some_and(|served| served.is_served(now()))
        };
        let Some(route) = route.filter(is_served) else {
            self.decoy.try_open(password);
            return Err(UnlockError::Wrong);
        };
        let mailbox_id = route.gateway_mailbox.id;
        let password_file = self.shared.recorded(mailbox_id, KEYRING_FILE);
        let (opened, is_there) = match self.shared.wrapped(mailbox_id, KEYRING_FILE) {
            Ok(wrapped) => (unwrap_by_password(&wrapped, password), true),
            Err(error) => {
                let is_there = error.kind() != io::ErrorKind::NotFound;
                (Err(KeyringError::Unreadable(error.to_string())), is_there)
            }
        };
        if let Err(KeyringError::Unreadable(error)) = &opened {
            // It takes as long as a password that is wrong: a login must not tell it from that.
            self.decoy.try_open(password);
            let mailbox = route.gateway_mailbox.login();
            tracing::error!(event = "keys.unreadable", mailbox, %mailbox_id, error);
        }
        match is_there {
            true => unlocked(&route.gateway_mailbox, opened, password_file),
            false => Err(UnlockError::Wrong),
        }
    }

    fn is_current(&self, key: &Unlocked) -> Result<bool, StoreError> {
        let id = key.gateway_mailbox.id;
        let present = &self.route(id)?.gateway_mailbox.public_key;
        let password_file = self.shared.read(|index| index.key_file(id, KEYRING_FILE))?;
        Ok(key.keyring.knows(present) && key.password_file == password_file)
    }

    fn unlock_with_identity(
        &self,
        id: GatewayMailboxId,
        identity: &EscrowIdentity,
    ) -> Result<Unlocked, UnlockError> {
        let route = self.route(id).map_err(UnlockError::Unavailable)?;
        let password_file = self.shared.recorded(id, KEYRING_FILE);
        let opened = escrow::open(identity, |name| self.shared.wrapped(id, name));
        unlocked(&route.gateway_mailbox, opened, password_file)
    }

    fn open_keyrings(
        &self,
        id: GatewayMailboxId,
        secrets: &[KeyringSecret<'_>],
    ) -> Result<Opened, UnlockError> {
        let route = self.route(id).map_err(UnlockError::Unavailable)?;
        self.shared.open_keyrings(route.gateway_mailbox.clone(), secrets)
    }

    fn rotate_key(
        &self,
        key: &Unlocked,
        password: &str,
        actor: &str,
    ) -> Result<Arc<GatewayMailbox>, StoreError> {
        self.replace_keyring(&Replacement {
            gateway_mailbox: &key.gateway_mailbox,
            keyring: &key.keyring.rotated(),
            password,
            password_file: key.password_file,
            keeps_former: false,
            action: "key-rotate",
            actor,
        })
    }

    fn set_password(
        &self,
        id: GatewayMailboxId,
        opened: Option<&Opened>,
        password: &str,
        actor: &str,
    ) -> Result<Arc<GatewayMailbox>, StoreError> {
        if !is_generated(password) {
            return Err(StoreError::Refused("a password is drawn, never chosen".to_owned()));
        }
        let gateway_mailbox = match opened {
            Some(opened) => opened.gateway_mailbox.clone(),
            None => self.route(id)?.gateway_mailbox.clone(),
        };
        let keyring = match opened {
            Some(opened) if opened.has_present() => opened.keyring.clone(),
            Some(opened) => opened.keyring.rotated(),
            None => Keyring::of(vec![age::x25519::Identity::generate()]),
        };
        self.replace_keyring(&Replacement {
            gateway_mailbox: &gateway_mailbox,
            keyring: &keyring,
            password,
            password_file: opened.and_then(|opened| opened.password_file),
            keeps_former: !opened.is_some_and(Opened::has_present),
            action: "password-reset",
            actor,
        })
    }

    fn record_key_export(&self, id: GatewayMailboxId, actor: &str) -> Result<(), StoreError> {
        let was = self.route(id)?.gateway_mailbox.public_key.clone();
        let (action, actor) = ("key-export", actor.to_owned());
        let change = KeyringChange {
            id,
            was,
            password_file: None,
            opens: Vec::new(),
            gives_up: false,
            key_files: Vec::new(),
            action,
            actor,
            at: now(),
        };
        self.ask_blocking(|answer| Command::Keyring { change: Box::new(change), answer }).map(drop)
    }

    fn unopened(&self, id: GatewayMailboxId) -> Result<u64, StoreError> {
        let lost = self.route(id)?.gateway_mailbox.lost_objects();
        self.shared.read(|index| index.messages_in(id, &lost))
    }

    fn escrow(&self, id: GatewayMailboxId) -> Result<Escrow, StoreError> {
        escrow::escrow(&self.shared.keys_dir(), &id.to_string(), &self.shared.escrow.load())
    }

    fn add_escrow(&self, key: &Unlocked) -> Result<usize, StoreError> {
        let id = key.gateway_mailbox.id;
        let owner = id.to_string();
        let _alone = self.shared.key_changes.lock().unwrap_or_else(PoisonError::into_inner);
        if !key.keyring.opens_present_of(&self.route(id)?.gateway_mailbox) {
            let why = "what was given does not open all that its password does: its keys were changed since";
            return Err(StoreError::Refused(why.to_owned()));
        }
        let recipients = self.shared.escrow.load();
        let keys_dir = self.shared.keys_dir();
        self.settle_keyring(id)?;
        let spoilt = self.shared.read(|index| key_files::differing(&keys_dir, index, id))?;
        let made = escrow::wrap_missing(&keys_dir, &owner, &key.keyring, &recipients, &spoilt)?;
        let facts = key_files::entries(&keys_dir, id, now(), Some(&made))?;
        if !facts.is_empty() {
            // This may wait for the disk, as making the files did.
            self.ask_blocking(|answer| Command::KeyFiles { facts, answer })?;
        }
        Ok(made.len())
    }

    fn list(&self, gateway_mailbox: GatewayMailboxId, folder: &FolderName) -> Result<Listing, StoreError> {
        self.shared.read(|index| listing(index, gateway_mailbox, folder))
    }

    fn folders(&self, gateway_mailbox: GatewayMailboxId) -> Result<Vec<FolderStatus>, StoreError> {
        self.shared.read(|index| index.folders(gateway_mailbox))
    }

    fn folders_undated(&self, gateway_mailbox: GatewayMailboxId) -> Result<Vec<FolderStatus>, StoreError> {
        self.shared.read(|index| index.folders_undated(gateway_mailbox))
    }

    fn folder_at(
        &self,
        gateway_mailbox: GatewayMailboxId,
        path: &str,
    ) -> Result<Option<FolderStatus>, StoreError> {
        self.shared.read(|index| index.folder_at(gateway_mailbox, path))
    }

    fn activity(&self, gateway_mailbox: GatewayMailboxId, since: Timestamp) -> Result<Activity, StoreError> {
        self.shared.read(|index| index.activity(gateway_mailbox, since))
    }

    fn backlog(&self, gateway_mailbox: GatewayMailboxId) -> Result<Backlog, StoreError> {
        self.shared.read(|index| index.backlog(gateway_mailbox))
    }

    fn tally(&self, gateway_mailbox: GatewayMailboxId, since: Timestamp) -> Result<Tally, StoreError> {
        self.shared.read(|index| index.tally(gateway_mailbox, since))
    }

    fn checkpoints(&self) -> CheckpointStatus {
        self.shared.witness.status()
    }

    fn space(&self) -> Result<Space, StoreError> {
        let free_octets = self.shared.free_octets()?;
        Ok(Space { free_octets, reserve_octets: self.shared.reserve_octets() })
    }

    fn open(&self, key: &Unlocked, message: MessageKey) -> Result<Box<dyn io::Read + Send>, StoreError> {
        let (row, freed) = self.shared.read(|index| {
            let row = index.message(message.0)?;
            let freed = index.freed_at(&row)?;
            Ok((row, freed))
        })?;
        if freed.is_some() {
            return Err(StoreError::Gone);
        }
        if row.gateway_mailbox != key.gateway_mailbox.id {
            return Err(StoreError::Gone);
        }
        let reader = MessageReader::open(
            self.shared.clone(),
            key.keyring.clone(),
            self.route(row.gateway_mailbox)
                .is_ok_and(|route| key.keyring.opens_all_of(&route.gateway_mailbox)),
            row.extents,
            row.octets,
            row.sha256,
        )?;
        Ok(Box::new(reader))
    }

    fn expunge<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        by: &'a Client,
    ) -> BoxFuture<'a, Result<Vec<Uid>, StoreError>> {
        let event = folder_event(gateway_mailbox, folder, uids, by);
        Box::pin(self.ask(|answer| Command::Expunge { event, marked_only: false, answer }))
    }

    fn expunge_marked<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        by: &'a Client,
    ) -> BoxFuture<'a, Result<Vec<Uid>, StoreError>> {
        let event = folder_event(gateway_mailbox, folder, uids, by);
        Box::pin(self.ask(|answer| Command::Expunge { event, marked_only: true, answer }))
    }

    fn record_fetched<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        by: &'a Client,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let event = folder_event(gateway_mailbox, folder, uids, by);
        Box::pin(self.ask(|answer| Command::Fetched { event, answer }))
    }

    fn rows(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
        from: Uid,
    ) -> Result<(FolderMarks, Vec<FolderRow>), StoreError> {
        super::folders::rows(self, gateway_mailbox, folder, from)
    }

    fn marks(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
    ) -> Result<FolderMarks, StoreError> {
        super::folders::marks(self, gateway_mailbox, folder)
    }

    fn entries(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
        uids: &[Uid],
    ) -> Result<Vec<Entry>, StoreError> {
        super::folders::entries(&self.shared, gateway_mailbox, folder, uids)
    }

    fn summary(&self, key: &Unlocked, message: MessageKey) -> Result<MessageSummary<'static>, StoreError> {
        let opens_all = self
            .route(key.gateway_mailbox.id)
            .is_ok_and(|route| key.keyring.opens_all_of(&route.gateway_mailbox));
        super::folders::summary(&self.shared, key, opens_all, message)
    }

    fn set_flags<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        change: FlagChange,
        changeable: Flags,
        by: &'a Client,
    ) -> BoxFuture<'a, Result<FlagsSet, StoreError>> {
        let event = folder_event(gateway_mailbox, folder, uids, by);
        Box::pin(super::folders::set_flags(self, event, change, changeable))
    }

    fn changes(&self, gateway_mailbox: GatewayMailboxId) -> tokio::sync::watch::Receiver<u64> {
        self.shared.changes.of(gateway_mailbox)
    }

    fn receipts(
        &self,
        query: &ReceiptQuery,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<ReceiptView>, StoreError> {
        super::view::receipts(&self.shared, query, since, most)
    }

    fn record_turned_away(&self, told: TurnedAway, standing: Standing) {
        self.shared.waiting.add(told, standing, now());
    }

    fn turned_away(
        &self,
        query: &ReceiptQuery,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<TransactionView>, StoreError> {
        super::transactions::turned_away(&self.shared, query, since, most)
    }

    fn transactions(&self, query: &TransactionQuery) -> Result<Transactions, StoreError> {
        super::transactions::transactions(&self.shared, query)
    }

    fn walk(&self, walk: &Walk) -> Result<Walked, StoreError> {
        self.route(walk.gateway_mailbox)?;
        super::view::walk(&self.shared, walk)
    }

    fn plan(&self, revisions: &[Revision]) -> Result<Vec<Revised>, StoreError> {
        super::committer::plan(&self.shared, revisions)
    }

    fn revise<'a>(
        &'a self,
        revisions: Vec<Revision>,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Revised>, StoreError>> {
        Box::pin(async move {
            if revisions.len() > REVISIONS_MAX {
                return Err(StoreError::Refused(format!("at most {REVISIONS_MAX} receipts at once")));
            }
            let actor = actor.to_owned();
            self.ask(|answer| Command::Revise { revisions, actor, at: now(), answer }).await
        })
    }

    fn arrivals(
        &self,
        gateway_mailbox: GatewayMailboxId,
        which: Arrivals,
        most: usize,
    ) -> Result<Came, StoreError> {
        super::view::arrivals(&self.shared, gateway_mailbox, which, most)
    }

    fn index_state(&self, begin: Option<IndexJob>) -> Result<IndexState, StoreError> {
        if let Some(job) = begin {
            self.jobs.begin(job, &self.shared, self.commands.downgrade())?;
        }
        Ok(self.jobs.now(&self.shared))
    }

    fn admits(&self, octets: u64) -> Result<(), StoreError> {
        // A message that does not stay in memory lies in the spool while its sealed copy is written.
        let spooled = if octets > SPOOL_MEMORY_OCTETS_MAX as u64 { octets } else { 0 };
        self.shared.check_free_space(octets.saturating_add(spooled))?;
        if self.commands.is_closed() { Err(StoreError::closed()) } else { Ok(()) }
    }

    fn scrub(&self) -> ScrubStatus {
        self.scrub.status()
    }

    fn scrub_now(&self) -> Result<(), StoreError> {
        self.scrub.begin_now()
    }

    fn close_damage(&self, places: &[String], actor: &str) -> Result<usize, StoreError> {
        let (lost, other): (Vec<_>, Vec<_>) = places.iter().cloned().partition(|place| place == LOSS_PLACE);
        let is_lost = !lost.is_empty();
        if is_lost && !self.shared.witness.knows_lost() {
            return Err(StoreError::Gone);
        }
        let closed = if other.is_empty() { 0 } else { self.scrub.close_damage(&other, actor)? };
        Ok(closed + if is_lost { self.shared.witness.close_lost(actor)? } else { 0 })
    }

    fn keeping(&self) -> KeepingStatus {
        self.keeper.status(&self.shared.clock)
    }

    fn keep_now(&self) -> Result<(), StoreError> {
        self.keeper.begin_now(&self.shared.clock)
    }

    fn trust_clock<'a>(&'a self, actor: &'a str) -> BoxFuture<'a, Result<KeepingStatus, StoreError>> {
        Box::pin(keep::trust_clock(self, actor))
    }

    fn received_until(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
        until: Timestamp,
    ) -> Result<u64, StoreError> {
        let never_deleted = Timestamp::from_unix_ms(0);
        self.shared.read(|index| index.count_kept(gateway_mailbox, folder, Some(until), never_deleted))
    }

    fn recoverable(
        &self,
        gateway_mailbox: GatewayMailboxId,
        since: Timestamp,
    ) -> Result<Vec<Recoverable>, StoreError> {
        keep::recoverable(&self.shared, gateway_mailbox, since)
    }

    fn undelete<'a>(
        &'a self,
        asked: UndeleteAsked,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Undeleted, StoreError>> {
        Box::pin(keep::undelete(self, asked, actor))
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.admits(0)?;
        if self.shared.failing.load(Ordering::Relaxed) {
            return Err(StoreError::io(
                "writing the log",
                io::Error::other("the last write failed; the next message tries again"),
            ));
        }
        Ok(())
    }
}

impl Shared {
    /// The gateway mailbox of a receipt, for views; deleted ones have none.
    pub(super) fn known(&self, id: GatewayMailboxId) -> Option<Arc<GatewayMailbox>> {
        self.routes.load().by_id.get(&id).map(|route| route.gateway_mailbox.clone())
    }
}
