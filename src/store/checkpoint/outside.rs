//! Checkpoints in a folder elsewhere, best on another machine's disk.
//!
//! Such a folder may be slow, full, or on a share whose server is gone, where a write takes for ever. So each write has a thread
//! of its own, one at a time, and nobody waits for it: what it lacks is offered again at the next look, and at a close and an
//! opening the wait is short. What goes wrong is an event, a metric and an alarm, and stops no mail.
//!
//! There: `daybook-<first 16 hex digits of the public key>.jsonl` with the checkpoints, the same with `.1.jsonl` for those
//! before, and with `.pub` the public key for `openssl`. Several stores may share a folder.

use super::{Checkpoints, PublicKey, TAIL_OCTETS, Trouble, append, read_files};
use crate::mail::Timestamp;
use crate::observe::metrics::CheckpointPlace;
use crate::observe::now;
use crate::store::StoreError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// A file outside that has reached this size is put aside as the one before, in octets: about 150,000 checkpoints.
const OUTSIDE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// How long opening the store waits for what the folder holds.
const OPEN_WAIT: Duration = Duration::from_secs(5);
/// How long a write may take before it counts as failed.
const WRITE_WAIT: Duration = Duration::from_secs(30);
/// Files there are for everybody to read: they say nothing but how far the log had come.
const OUTSIDE_MODE: u32 = 0o644;

/// The folder, and what was written there.
#[derive(Default)]
struct Folder {
    dir: Option<PathBuf>,
    /// Raised when another folder is set: what is under way for the one before counts for nothing.
    generation: u64,
    /// Since when a write has been under way.
    busy: Option<Instant>,
    /// Newest group whose checkpoint is there; 0 for none.
    sequence: u64,
    written_at: Option<Timestamp>,
    trouble: Trouble,
    /// What was there was held against the log: only then is it written to.
    is_compared: bool,
    /// What was there, until it is.
    found: Option<Checkpoints>,
}

#[derive(Default)]
struct Inner {
    folder: Mutex<Folder>,
    ended: Condvar,
}

/// What is known of the folder, to be shown.
pub(super) struct OutsideView {
    pub(super) dir: PathBuf,
    pub(super) written_at: Option<Timestamp>,
    pub(super) trouble: Trouble,
}

#[derive(Default)]
pub(super) struct Outside(Arc<Inner>);

impl Outside {
    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.0.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to `dir` from now on, or nowhere.
    pub(super) fn set_dir(&self, dir: Option<PathBuf>) {
        let mut folder = self.folder();
        if folder.dir != dir {
            let generation = folder.generation + 1;
            *folder = Folder { dir, generation, ..Folder::default() };
        }
    }

    pub(super) fn view(&self) -> Option<OutsideView> {
        let folder = self.folder();
        let dir = folder.dir.clone()?;
        Some(OutsideView { dir, written_at: folder.written_at, trouble: folder.trouble.clone() })
    }

    /// What this folder knows of the store with these keys; nothing, when it does not answer in time.
    pub(super) fn read(&self, keys: &[PublicKey]) -> Checkpoints {
        let Some(dir) = self.folder().dir.clone() else { return Checkpoints::default() };
        let (answer, read) = mpsc::channel();
        let (place, keys) = (dir.clone(), keys.to_vec());
        let work = move || {
            // Whoever waited for it may have gone on.
            answer.send(read_dir(&place, &keys)).ok();
        };
        let started = std::thread::Builder::new().name("checkpoint-reader".to_owned()).spawn(work);
        let read = started.and_then(|_| {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "the folder does not answer");
            read.recv_timeout(OPEN_WAIT).map_err(|_| late())?
        });
        let mut folder = self.folder();
        match read {
            Ok(read) => {
                folder.is_compared = true;
                folder.sequence = read.newest().map_or(0, |newest| newest.sequence);
                read
            }
            Err(error) => {
                folder.trouble.begins(CheckpointPlace::CheckpointDir, &error.to_string());
                Checkpoints::default()
            }
        }
    }

    /// Whether there is a folder, and it does not have the checkpoint of this group.
    pub(super) fn lacks(&self, sequence: u64) -> bool {
        let folder = self.folder();
        folder.dir.is_some() && folder.sequence < sequence
    }

    /// What a folder holds that did not answer when the log was opened, or was set since: to be held against the log.
    pub(super) fn take_found(&self) -> Option<Checkpoints> {
        let mut folder = self.folder();
        let found = folder.found.take()?;
        folder.is_compared = true;
        Some(found)
    }

    pub(super) fn has_found(&self) -> bool {
        self.folder().found.is_some()
    }

    /// Has the checkpoint of this group written, if it is not there and nothing is under way. A folder that was not compared with
    /// the log yet is read instead.
    pub(super) fn offer(&self, (key, keys): (PublicKey, &[PublicKey]), line: &str, sequence: u64) {
        let mut folder = self.folder();
        let Some(dir) = folder.dir.clone().filter(|_| folder.sequence < sequence) else { return };
        if let Some(since) = folder.busy {
            if since.elapsed() > WRITE_WAIT {
                folder.trouble.begins(CheckpointPlace::CheckpointDir, "the folder does not answer");
            }
            return;
        }
        folder.busy = Some(Instant::now());
        let (inner, generation, line) = (self.0.clone(), folder.generation, line.to_owned());
        let (is_compared, keys) = (folder.is_compared, keys.to_vec());
        let work = move || {
            let done = match is_compared {
                true => write(&dir, key, &line).map(|()| None),
                false => read_dir(&dir, &keys).map(Some),
            };
            let mut folder = inner.folder.lock().unwrap_or_else(PoisonError::into_inner);
            if folder.generation == generation {
                match done {
                    Ok(Some(found)) => (folder.busy, folder.found) = (None, Some(found)),
                    done => folder.ended(done.map(drop), sequence),
                }
            }
            inner.ended.notify_all();
        };
        if let Err(error) = std::thread::Builder::new().name("checkpoint-writer".to_owned()).spawn(work) {
            folder.ended(Err(error), sequence);
        }
    }

    /// Waits until nothing is under way, but no longer than `limit`.
    pub(super) fn wait(&self, limit: Duration) {
        let still = |folder: &mut Folder| folder.busy.is_some();
        drop(self.0.ended.wait_timeout_while(self.folder(), limit, still));
    }
}

impl Folder {
    fn ended(&mut self, written: io::Result<()>, sequence: u64) {
        self.busy = None;
        match written {
            Ok(()) => {
                (self.sequence, self.written_at) = (sequence, Some(now()));
                self.trouble.ends(CheckpointPlace::CheckpointDir);
            }
            Err(error) => self.trouble.begins(CheckpointPlace::CheckpointDir, &error.to_string()),
        }
    }
}

/// The newest of what a folder holds of these keys, the newest key first.
fn read_dir(dir: &Path, keys: &[PublicKey]) -> io::Result<Checkpoints> {
    let files: Vec<_> = keys
        .iter()
        .rev()
        .map(PublicKey::file_stem)
        .flat_map(|stem| [dir.join(format!("{stem}.1.jsonl")), dir.join(format!("{stem}.jsonl"))])
        .collect();
    read_files(&files, keys, TAIL_OCTETS)
}

fn write(dir: &Path, key: PublicKey, line: &str) -> io::Result<()> {
    let at = |ending: &str| dir.join(format!("{}{ending}", key.file_stem()));
    let public = at(".pub");
    if !public.exists() {
        fs::write(&public, key.pem())?;
    }
    append(&at(".jsonl"), &at(".1.jsonl"), line, OUTSIDE_OCTETS_MAX, OUTSIDE_MODE)
}

/// Whether `dir` can be written to, and lies on another file system than `data_dir`. May take as long as the folder does.
///
/// # Errors
/// [`StoreError::Io`] when a file can be neither made there nor removed again.
pub fn try_checkpoint_dir(dir: &Path, data_dir: &Path) -> Result<bool, StoreError> {
    use std::os::unix::fs::MetadataExt;
    let tried = || {
        let name = dir.join(format!("daybook-{}.tmp", crate::store::files::random_name()?));
        crate::store::files::create_file(&name)?;
        fs::remove_file(&name)?;
        Ok(fs::metadata(dir)?.dev() != fs::metadata(data_dir)?.dev())
    };
    tried().map_err(|e| StoreError::io("trying checkpoint_dir", e))
}
