//! Who makes checkpoints: looks every few seconds how far the log has come, signs, and tells everybody.
//!
//! Nothing here is on the path of an acknowledgement, and nothing here stops mail: a checkpoint that cannot be written is tried
//! again at the next look. None is made while nothing new is stored.

use super::key::StoreKey;
use super::loss::{Gap, LOSS_FILE, LOSS_PLACE, Loss, Losses};
use super::outside::Outside;
use super::{
    CHECKPOINT_VERSION, CHECKPOINTS_BEFORE_FILE, CHECKPOINTS_FILE, Checkpoint, CheckpointError, Checkpoints,
    PublicKey, READ_OCTETS_MAX, TAIL_OCTETS, Trouble, append, read_files,
};
use crate::mail::Timestamp;
use crate::observe::metrics::CheckpointPlace;
use crate::observe::now;
use crate::store::StoreError;
use crate::store::log::Position;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it looks whether something was stored.
pub(in crate::store) const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A file of checkpoints that has reached this size is put aside as the one before, in octets: about 18,000 checkpoints.
pub(super) const INSIDE_OCTETS_MAX: u64 = 8 * 1024 * 1024;
/// How long a close waits for the folder outside.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Bad lines that are named one by one.
const REFUSED_LOGGED_MAX: usize = 10;
pub(super) const INSIDE_MODE: u32 = 0o600;

/// How checkpoints are doing, to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointStatus {
    /// The key they are signed by; none when none could be had.
    pub key: Option<PublicKey>,
    /// The newest.
    pub newest: Option<Checkpoint>,
    /// Since when they cannot be kept in `data_dir`, and why.
    pub failing_inside: Option<(Timestamp, String)>,
    /// The folder outside, if one is configured.
    pub outside: Option<PathBuf>,
    /// When one was last written there by this process.
    pub outside_at: Option<Timestamp>,
    /// Since when they cannot be written there, and why.
    pub failing_outside: Option<(Timestamp, String)>,
    /// What was once found missing or different at the end of the log, and no admin has closed.
    pub lost: Option<String>,
}

#[derive(Default)]
struct Kept {
    newest: Option<Checkpoint>,
    line: String,
    /// It is in `data_dir`.
    is_inside: bool,
    inside: Trouble,
}

/// What was found missing, and whether that is kept.
#[derive(Default)]
struct Lost {
    losses: Losses,
    is_unkept: bool,
}

pub(in crate::store) struct Witness {
    data_dir: PathBuf,
    key: Option<StoreKey>,
    /// The end of what is durable.
    end: Mutex<Option<Position>>,
    kept: Mutex<Kept>,
    lost: Mutex<Lost>,
    /// Where the log ended when it was opened.
    opened: Mutex<Option<Position>>,
    outside: Outside,
    /// Held by the one who looks.
    looking: Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lost {
    /// Writes what is not kept yet; tried again at the next look.
    fn keep(&mut self, data_dir: &Path) {
        if !self.is_unkept {
            return;
        }
        match self.losses.write(data_dir) {
            Ok(()) => self.is_unkept = false,
            Err(error) => tracing::error!(event = "store.loss_not_kept", file = LOSS_FILE, %error),
        }
    }
}

impl Witness {
    /// Reads what is known of the store's end, before its log is opened; gives the checkpoint that reaches furthest.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when a newer program wrote the key or a checkpoint in `data_dir`. Whatever else goes wrong is
    /// told, and stops nothing.
    pub(in crate::store) fn open(
        data_dir: &Path,
        outside_dir: Option<PathBuf>,
    ) -> Result<(Witness, Option<Checkpoint>), StoreError> {
        let mut kept = Kept::default();
        let key = match StoreKey::open(data_dir, now()) {
            Ok(key) => Some(key),
            Err(error @ StoreError::Newer(_)) => return Err(error),
            Err(error) => {
                kept.inside.begins(CheckpointPlace::DataDir, &error.to_string());
                None
            }
        };
        let keys = key.as_ref().map(StoreKey::public_keys).unwrap_or_default();
        let files = [data_dir.join(CHECKPOINTS_BEFORE_FILE), data_dir.join(CHECKPOINTS_FILE)];
        let inside = read_files(&files, &keys, TAIL_OCTETS).unwrap_or_else(|error| {
            kept.inside.begins(CheckpointPlace::DataDir, &error.to_string());
            Checkpoints::default()
        });
        if let Some(version) = inside.newer() {
            return Err(StoreError::Newer(format!("{CHECKPOINTS_FILE}: version {version}")));
        }
        log_refused(&inside, CheckpointPlace::DataDir);
        let outside = Outside::default();
        outside.set_dir(outside_dir);
        // Without a key of ours nobody can say whose those are.
        let there = if keys.is_empty() { Checkpoints::default() } else { outside.read(&keys) };
        log_refused(&there, CheckpointPlace::CheckpointDir);
        let newest =
            [inside.newest(), there.newest()].into_iter().flatten().max_by_key(|c| c.sequence).cloned();
        kept.newest.clone_from(&newest);
        kept.is_inside = true;
        let losses = Losses::read(data_dir).unwrap_or_else(|error| {
            tracing::error!(event = "store.loss_not_kept", file = LOSS_FILE, %error);
            Losses::default()
        });
        let witness = Witness {
            data_dir: data_dir.to_owned(),
            key,
            end: Mutex::new(None),
            kept: Mutex::new(kept),
            lost: Mutex::new(Lost { losses, is_unkept: false }),
            opened: Mutex::new(None),
            outside,
            looking: Mutex::new(()),
        };
        Ok((witness, newest))
    }

    /// The log is durable up to here.
    pub(in crate::store) fn reached(&self, end: Position) {
        *locked(&self.end) = Some(end);
        locked(&self.opened).get_or_insert(end);
    }

    /// Up to where the log is durable; none before it is open.
    pub(in crate::store) fn end(&self) -> Option<Position> {
        *locked(&self.end)
    }

    /// The log that was opened does not hold what was signed, or what the index knows. It is remembered until it is closed.
    pub(in crate::store) fn note_lost(&self, what: String, gap: Option<Gap>) {
        let mut lost = locked(&self.lost);
        if lost.losses.add(Loss { found_at: now(), what, gap, closed_by: None }) {
            lost.is_unkept = true;
            lost.keep(&self.data_dir);
        }
    }

    /// Alarms no more of what was found missing; tells how much of it was not closed yet.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when nothing ever was; [`StoreError::Io`] when that cannot be kept.
    pub(in crate::store) fn close_lost(&self, actor: &str) -> Result<usize, StoreError> {
        let mut lost = locked(&self.lost);
        if lost.losses.losses.is_empty() {
            return Err(StoreError::Gone);
        }
        let mut losses = lost.losses.clone();
        let closed = losses.close(actor);
        losses.write(&self.data_dir).map_err(|e| StoreError::io("keeping what the log lacks", e))?;
        *lost = Lost { losses, is_unkept: false };
        if closed > 0 {
            tracing::info!(event = "store.damage_closed", place = LOSS_PLACE, actor);
        }
        Ok(closed)
    }

    /// True when something was found missing, closed or not.
    pub(in crate::store) fn knows_lost(&self) -> bool {
        !locked(&self.lost).losses.losses.is_empty()
    }

    /// True while something is missing that no admin has closed: what the lost entries said nobody knows.
    pub(in crate::store) fn misses_entries(&self) -> bool {
        locked(&self.lost).losses.open().is_some()
    }

    /// What a folder that could not be asked when the log was opened knows of it, held against the log. Nothing was written there
    /// since by this process, unless it is in `data_dir` too.
    fn judge(&self, there: &Checkpoints) {
        log_refused(there, CheckpointPlace::CheckpointDir);
        let (Some(newest), Some(opened)) = (there.newest(), *locked(&self.opened)) else { return };
        let keys = self.key.as_ref().map(StoreKey::public_keys).unwrap_or_default();
        let files = [self.data_dir.join(CHECKPOINTS_BEFORE_FILE), self.data_dir.join(CHECKPOINTS_FILE)];
        let inside = read_files(&files, &keys, READ_OCTETS_MAX).unwrap_or_default();
        let same = inside.trusted.iter().rev().find(|kept| kept.sequence == newest.sequence);
        let chain = match same {
            Some(kept) => Some(kept.chain),
            None if newest.sequence == opened.sequence => Some(opened.chain),
            None => None,
        };
        let what = match chain {
            Some(chain) if chain == newest.chain => return,
            Some(_) => format!("group {} of the log is not the one that was signed", newest.sequence),
            // What this process has signed is in data_dir.
            None if newest.sequence > opened.sequence => format!(
                "the log ended with group {} when it was opened, and a signed checkpoint reaches to group {}: mail that was \
                 acknowledged is missing",
                opened.sequence, newest.sequence
            ),
            None => return,
        };
        let what = format!("{what} (in checkpoint_dir, of {})", newest.at);
        tracing::error!(event = "store.damaged", what);
        self.note_lost(what, None);
    }

    /// Writes to this folder too from now on.
    pub(in crate::store) fn set_outside(&self, dir: Option<PathBuf>) {
        self.outside.set_dir(dir);
    }

    /// Makes a checkpoint if something was stored since the last, and tries again what failed.
    pub(in crate::store) fn look(&self) {
        let _looking = locked(&self.looking);
        locked(&self.lost).keep(&self.data_dir);
        if let Some(there) = self.outside.take_found() {
            self.judge(&there);
        }
        let (Some(end), Some(key)) = (*locked(&self.end), &self.key) else { return };
        // Nobody who asks how it is going waits for the disk.
        let Some((newest, line, is_inside)) = self.sign_if_due(&end, key) else { return };
        if !is_inside {
            let (file, before) = (CHECKPOINTS_FILE, CHECKPOINTS_BEFORE_FILE);
            let (file, before) = (self.data_dir.join(file), self.data_dir.join(before));
            let kept = append(&file, &before, &line, INSIDE_OCTETS_MAX, INSIDE_MODE);
            let mut state = locked(&self.kept);
            match kept {
                Ok(()) => {
                    state.is_inside = true;
                    state.inside.ends(CheckpointPlace::DataDir);
                }
                Err(error) => state.inside.begins(CheckpointPlace::DataDir, &error.to_string()),
            }
        }
        let keys = key.public_keys();
        self.outside.offer((newest.key, &keys), &line, newest.sequence);
    }

    /// The newest checkpoint that this process signed, its line, and whether that is in `data_dir`.
    fn sign_if_due(&self, end: &Position, key: &StoreKey) -> Option<(Checkpoint, String, bool)> {
        let mut kept = locked(&self.kept);
        let signed = kept.newest.as_ref().map_or(0, |newest| newest.sequence);
        // A folder that was set just now is told what was signed before, too; never anything else under the same number.
        let is_wanted = kept.line.is_empty()
            && kept.newest.as_ref().is_some_and(|newest| newest.position().is_same_group_as(end))
            && self.outside.lacks(signed);
        if end.sequence > signed || is_wanted {
            let checkpoint = Checkpoint {
                v: CHECKPOINT_VERSION,
                at: now(),
                key: key.signing.public(),
                previous_key: key.previous,
                segment: end.segment,
                offset: end.offset,
                sequence: end.sequence,
                chain: end.chain,
            };
            match key.signing.sign(&checkpoint) {
                Ok(line) => kept.line = line,
                Err(error) => {
                    kept.inside.begins(CheckpointPlace::DataDir, &error.to_string());
                    return None;
                }
            }
            log_checkpoint(&checkpoint, &kept.line);
            (kept.newest, kept.is_inside) = (Some(checkpoint), false);
        }
        let newest = kept.newest.clone().filter(|_| !kept.line.is_empty())?;
        Some((newest, kept.line.clone(), kept.is_inside))
    }

    /// The last one, at an orderly close. Takes no longer than a sync and [`CLOSE_WAIT`].
    pub(in crate::store) fn conclude(&self) {
        self.look();
        self.outside.wait(CLOSE_WAIT);
        if self.outside.has_found() {
            // What was written first was read only: now it can be.
            self.look();
            self.outside.wait(CLOSE_WAIT);
        }
    }

    /// Looks again and again until `closing`.
    pub(in crate::store) fn watch(&self, closing: &AtomicBool) {
        while !closing.load(Ordering::Relaxed) {
            self.look();
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    pub(in crate::store) fn status(&self) -> CheckpointStatus {
        let outside = self.outside.view();
        let kept = locked(&self.kept);
        let (outside, outside_at, failing_outside) = match outside {
            Some(view) => (Some(view.dir), view.written_at, view.trouble.0),
            None => (None, None, None),
        };
        CheckpointStatus {
            key: self.key.as_ref().map(|key| key.signing.public()),
            newest: kept.newest.clone(),
            failing_inside: kept.inside.0.clone(),
            outside,
            outside_at,
            failing_outside,
            lost: locked(&self.lost).losses.open().map(|loss| loss.what.clone()),
        }
    }
}

/// The log file is a witness too, and so is whoever collects it: the line is there whole.
fn log_checkpoint(checkpoint: &Checkpoint, line: &str) {
    tracing::info!(
        event = "store.checkpoint",
        sequence = checkpoint.sequence,
        segment = checkpoint.segment,
        offset = checkpoint.offset,
        chain = %checkpoint.chain,
        signed = line,
    );
}

fn log_refused(read: &Checkpoints, place: CheckpointPlace) {
    let strange = |error: &CheckpointError| matches!(error, CheckpointError::Stranger(_));
    for (what, why) in read.refused.iter().take(REFUSED_LOGGED_MAX) {
        let place = place.as_str();
        // A key that was lost twice leaves lines of nobody.
        match strange(why) {
            true => tracing::warn!(event = "store.checkpoint_refused", place, what, %why),
            false => tracing::error!(event = "store.checkpoint_refused", place, what, %why),
        }
    }
    for (what, why) in read.cut_off.iter().take(REFUSED_LOGGED_MAX) {
        tracing::warn!(event = "store.checkpoint_refused", place = place.as_str(), what, %why);
    }
}
