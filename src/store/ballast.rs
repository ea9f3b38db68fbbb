//! The ballast: room on the disk that is held by a file, to be given up when there is none left.
//!
//! On a full disk mail waits at its senders; what frees room, and what admins do, must go on, and that too is written down.
//! So `data_dir/ballast` holds some room: allocated, never read. It is given up when a group cannot be written, or would not
//! fit; what was in it is then for everything but mail. It comes back when there is room for it beyond the reserve. A disk that
//! never had that room has none, and only the reserve.
//!
//! A file system that cannot allocate is given random octets: one that compresses keeps no room for zeros.

use super::files::random_octets;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Name of the file in `data_dir`.
const BALLAST_FILE: &str = "ballast";
/// So much stays free, whatever the reserve is, when room is held again: it is not given up the next moment.
const SPARE_OCTETS: u64 = 16 * 1024 * 1024;
/// Octets written at a time where nothing can be allocated.
const FILL_OCTETS: usize = 1024 * 1024;

/// The ballast of one `data_dir`.
pub(super) struct Ballast {
    path: PathBuf,
    /// Octets it has on the disk now.
    held: AtomicU64,
    /// Octets that were given up, and are not held again yet.
    owed: AtomicU64,
    /// Octets it should have; [`Ballast::UNSAID`] before anybody says: then what is there stays.
    wanted: AtomicU64,
    /// It is to be given up, or the store closes: whoever makes it stops.
    abandoned: AtomicBool,
    /// Held by whoever changes the file.
    changing: Mutex<Changing>,
}

#[derive(Default)]
struct Changing {
    /// It could not be made, and that was said.
    failed: bool,
}

impl Ballast {
    const UNSAID: u64 = u64::MAX;

    /// What is there of it in `data_dir`.
    pub(super) fn find(data_dir: &Path) -> Ballast {
        let path = data_dir.join(BALLAST_FILE);
        Ballast {
            held: AtomicU64::new(on_disk(&path)),
            owed: AtomicU64::new(0),
            path,
            wanted: AtomicU64::new(Ballast::UNSAID),
            abandoned: AtomicBool::new(false),
            changing: Mutex::default(),
        }
    }

    /// Has it made so large, by the next [`Ballast::tend`].
    pub(super) fn want(&self, octets: u64) {
        self.wanted.store(octets.min(Ballast::UNSAID - 1), Ordering::Relaxed);
    }

    fn wanted(&self) -> Option<u64> {
        Some(self.wanted.load(Ordering::Relaxed)).filter(|wanted| *wanted != Ballast::UNSAID)
    }

    /// True where room is held, or was given up.
    pub(super) fn is_kept(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0 || self.owed() > 0
    }

    /// Octets that were given up: they are free, and not for mail.
    pub(super) fn owed(&self) -> u64 {
        self.owed.load(Ordering::Relaxed).min(self.wanted().unwrap_or(0))
    }

    /// Makes it as large as it should be, if that leaves `reserve` of what is `free`. May take a while where nothing can be
    /// allocated.
    pub(super) fn tend(&self, free: u64, reserve: u64) {
        let mut changing = self.changing();
        let (Some(wanted), held) = (self.wanted(), self.held.load(Ordering::Relaxed)) else { return };
        let fits = free >= reserve.max(SPARE_OCTETS).saturating_add(wanted.saturating_sub(held));
        if wanted == held || wanted > held && !fits {
            return;
        }
        let made = if wanted == 0 { fs::remove_file(&self.path) } else { self.make(wanted) };
        match made {
            Ok(()) => {
                // Not asked for: some file systems say what a file has on the disk a while later.
                self.held.store(wanted, Ordering::Relaxed);
                changing.failed = false;
                if self.owed.swap(0, Ordering::Relaxed) > 0 && wanted > 0 {
                    tracing::info!(event = "store.ballast_back", octets = wanted);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.held.store(0, Ordering::Relaxed),
            Err(error) => {
                self.held.store(0, Ordering::Relaxed);
                if !std::mem::replace(&mut changing.failed, true) {
                    tracing::warn!(event = "store.ballast_failed", %error);
                }
            }
        }
    }

    fn make(&self, octets: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file =
            options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&self.path)?;
        let allocate = || rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, octets);
        let made = match rustix::io::retry_on_intr(allocate) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.fill(&file, octets),
            other => other.map_err(io::Error::from),
        };
        // It may have been larger.
        let made = made.and_then(|()| file.set_len(octets));
        if made.is_err() {
            // Half of it is of no use to anybody.
            fs::remove_file(&self.path).ok();
        }
        made
    }

    fn fill(&self, file: &File, octets: u64) -> io::Result<()> {
        let mut at = 0;
        while at < octets {
            if self.abandoned.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let left = usize::try_from(octets - at).unwrap_or(FILL_OCTETS);
            let piece = random_octets(left.min(FILL_OCTETS))?;
            file.write_all_at(&piece, at)?;
            at += piece.len() as u64;
        }
        // Some file systems find out only now that there is no room.
        file.sync_all()
    }

    /// Gives the room free, if any is held; true when it was.
    pub(super) fn give_up(&self) -> bool {
        self.abandon();
        let _changing = self.changing();
        self.abandoned.store(false, Ordering::Relaxed);
        let octets = self.held.load(Ordering::Relaxed);
        if octets == 0 || fs::remove_file(&self.path).is_err() {
            return false;
        }
        self.held.store(0, Ordering::Relaxed);
        self.owed.store(octets, Ordering::Relaxed);
        tracing::warn!(event = "store.ballast_given_up", octets);
        true
    }

    /// Stops whoever is making it, and lets nobody begin who would have to write it.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Octets that the file really has on the disk, 0 when there is none. A copy that a backup brought back may have holes.
fn on_disk(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |file| file.len().min(file.blocks().saturating_mul(512)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCTETS: u64 = 2 * 1024 * 1024;
    const PLENTY: u64 = 1 << 40;

    #[test]
    fn holds_real_room_and_gives_it_up_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(BALLAST_FILE);
        let ballast = Ballast::find(dir.path());
        ballast.tend(PLENTY, 0);
        assert!(!path.exists() && !ballast.is_kept(), "nobody asked for it");
        ballast.want(OCTETS);
        ballast.tend(PLENTY, 0);
        assert_eq!((on_disk(&path), ballast.owed()), (OCTETS, 0));

        let found = Ballast::find(dir.path());
        assert!(found.is_kept());
        found.tend(PLENTY, 0);
        assert!(path.exists(), "one that nobody knows the size of stays");
        assert!(found.give_up() && !path.exists());
        assert!(!found.give_up(), "there is no more to give");
    }

    #[test]
    fn comes_back_only_where_the_reserve_stays_free() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::find(dir.path());
        ballast.want(OCTETS);
        let reserve = 2 * SPARE_OCTETS;
        let held = || on_disk(&dir.path().join(BALLAST_FILE));
        ballast.tend(reserve + OCTETS - 1, reserve);
        assert_eq!((held(), ballast.owed()), (0, 0), "what never was there is not owed");
        for free in [reserve + OCTETS, 0] {
            ballast.tend(free, reserve);
            assert_eq!(held(), OCTETS, "once there it asks for no more room");
        }
        ballast.give_up();
        ballast.tend(SPARE_OCTETS, 0);
        assert_eq!((held(), ballast.owed()), (0, OCTETS), "it would be given up again at once");
        ballast.tend(SPARE_OCTETS + OCTETS, 0);
        assert_eq!((held(), ballast.owed()), (OCTETS, 0));
    }

    #[test]
    fn follows_what_is_wanted_in_both_directions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(BALLAST_FILE);
        let ballast = Ballast::find(dir.path());
        for wanted in [OCTETS, 2 * OCTETS, OCTETS / 2, 0, 0] {
            ballast.want(wanted);
            ballast.tend(PLENTY, 0);
            assert_eq!((on_disk(&path), path.exists()), (wanted, wanted > 0));
        }
    }

    #[test]
    fn where_nothing_can_be_allocated_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(BALLAST_FILE);
        let ballast = Ballast::find(dir.path());
        let file = File::create(&path).unwrap();
        ballast.fill(&file, OCTETS + 1).unwrap();
        assert!(on_disk(&path) > OCTETS);
        ballast.abandon();
        assert_eq!(ballast.fill(&file, OCTETS).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_copy_with_holes_counts_for_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(BALLAST_FILE);
        File::create(&path).unwrap().set_len(OCTETS).unwrap();
        let ballast = Ballast::find(dir.path());
        assert!(!ballast.is_kept());
        ballast.want(OCTETS);
        ballast.tend(PLENTY, 0);
        assert_eq!(on_disk(&path), OCTETS);
    }
}
