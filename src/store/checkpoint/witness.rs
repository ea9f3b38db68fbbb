//! Who makes checkpoints: looks every few seconds how far the log has come, signs, and tells everybody.
//!
//! Nothing here is on the path of an acknowledgement, and nothing here stops mail: a checkpoint that cannot be written is tried
//! again at the next look. None is made while nothing new is stored.

use super::key::StoreKey;
use super::outside::Outside;
use super::{
    CHECKPOINT_VERSION, CHECKPOINTS_BEFORE_FILE, CHECKPOINTS_FILE, Checkpoint, CheckpointError, Checkpoints,
    PublicKey, TAIL_OCTETS, Trouble, append, read_files,
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
const INSIDE_OCTETS_MAX: u64 = 8 * 1024 * 1024;
/// How long a close waits for the folder outside.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Bad lines that are named one by one.
const REFUSED_LOGGED_MAX: usize = 10;
const INSIDE_MODE: u32 = 0o600;

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
    /// What was missing or different at the end of the log when it was opened.
    pub lost: Option<String>,
}

#[derive(Default)]
struct Kept {
    newest: Option<Checkpoint>,
    line: String,
    /// It is in `data_dir`.
    is_inside: bool,
    inside: Trouble,
    lost: Option<String>,
}

pub(in crate::store) struct Witness {
    data_dir: PathBuf,
    key: Option<StoreKey>,
    /// The end of what is durable.
    end: Mutex<Option<Position>>,
    kept: Mutex<Kept>,
    outside: Outside,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let witness = Witness {
            data_dir: data_dir.to_owned(),
            key,
            end: Mutex::new(None),
            kept: Mutex::new(kept),
            outside,
        };
        Ok((witness, newest))
    }

    /// The log is durable up to here.
    pub(in crate::store) fn reached(&self, end: Position) {
        *locked(&self.end) = Some(end);
    }

    /// The log that was opened does not hold what was signed.
    pub(in crate::store) fn note_lost(&self, what: String) {
        locked(&self.kept).lost = Some(what);
    }

    /// Writes to this folder too from now on.
    pub(in crate::store) fn set_outside(&self, dir: Option<PathBuf>) {
        self.outside.set_dir(dir);
    }

    /// Makes a checkpoint if something was stored since the last, and tries again what failed.
    pub(in crate::store) fn look(&self) {
        let Some(end) = *locked(&self.end) else { return };
        let Some(key) = &self.key else { return };
        let mut kept = locked(&self.kept);
        let signed = kept.newest.as_ref().map_or(0, |newest| newest.sequence);
        // A folder that was set just now is told what was signed before, too; never anything else under the same number.
        let is_wanted = kept.line.is_empty()
            && kept.newest.as_ref().is_some_and(|newest| newest.position().is_same_group_as(&end))
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
                Err(error) => return kept.inside.begins(CheckpointPlace::DataDir, &error.to_string()),
            }
            log_checkpoint(&checkpoint, &kept.line);
            (kept.newest, kept.is_inside) = (Some(checkpoint), false);
        }
        self.keep(&mut kept);
        if let Some(newest) = kept.newest.as_ref().filter(|_| !kept.line.is_empty()) {
            self.outside.offer(newest.key, &kept.line, newest.sequence);
        }
    }

    fn keep(&self, kept: &mut Kept) {
        if kept.is_inside {
            return;
        }
        let (file, before) =
            (self.data_dir.join(CHECKPOINTS_FILE), self.data_dir.join(CHECKPOINTS_BEFORE_FILE));
        match append(&file, &before, &kept.line, INSIDE_OCTETS_MAX, INSIDE_MODE) {
            Ok(()) => {
                kept.is_inside = true;
                kept.inside.ends(CheckpointPlace::DataDir);
            }
            Err(error) => kept.inside.begins(CheckpointPlace::DataDir, &error.to_string()),
        }
    }

    /// The last one, at an orderly close. Takes no longer than a sync and [`CLOSE_WAIT`].
    pub(in crate::store) fn conclude(&self) {
        self.look();
        self.outside.wait(CLOSE_WAIT);
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
            lost: kept.lost.clone(),
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
}
