//! Notices that the files of the pair were replaced, and tells a pair that is bad from one that is half there.
//!
//! A renewal replaces two files, one after the other, and may write them in place. What is read between the two does not fit
//! together and is no fault: it is read again at the next look, and only what has failed `LOOKS_MIN` times in a row is told.
//! What is bad is read again at every look, since what mends it (a right given to a folder, say) need not change the files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Looks that must have failed in a row before that is told: a renewal may take as long as these between its two files.
const LOOKS_MIN: u32 = 3;

/// Where the pair is kept.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What tells a state of the two files from another; `None` for a file that is not there.
pub(super) type Stamp = [Option<FileStamp>; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    device: u64,
    inode: u64,
    octets: u64,
    /// Seconds and nanoseconds since 1970.
    written: (i64, i64),
    /// So that a changed right counts too.
    changed: (i64, i64),
}

impl Files {
    /// How the files are now; behind a link, such as certbot's, the file it leads to. Blocks.
    pub(super) fn stamp(&self) -> Stamp {
        let stamp = |path: &Path| {
            let seen = fs::metadata(path).ok()?;
            Some(FileStamp {
                device: seen.dev(),
                inode: seen.ino(),
                octets: seen.len(),
                written: (seen.mtime(), seen.mtime_nsec()),
                changed: (seen.ctime(), seen.ctime_nsec()),
            })
        };
        [stamp(&self.certificate), stamp(&self.key)]
    }
}

/// What is known of the files from the looks before.
#[derive(Debug)]
pub(super) struct Renewal {
    /// How they were when they were last read.
    read: Stamp,
    /// How they were when they were last said to be bad.
    told: Option<Stamp>,
    /// Failures in a row.
    failures: u32,
    /// Why the last reading failed.
    fault: Option<String>,
}

impl Renewal {
    /// The files were read well in this state.
    pub(super) fn new(read: Stamp) -> Renewal {
        Renewal { read, told: None, failures: 0, fault: None }
    }

    /// Whether they must be read.
    pub(super) fn is_due(&self, now: &Stamp) -> bool {
        self.failures > 0 || *now != self.read
    }

    /// They were read in this state, and whoever asked for it is told what came of it.
    pub(super) fn told(&mut self, stamp: Stamp, fault: Option<String>) {
        self.read = stamp;
        self.told = fault.is_some().then_some(stamp);
        self.failures = if fault.is_some() { self.failures.saturating_add(1) } else { 0 };
        self.fault = fault;
    }

    /// They could not be used in this state. True when that must be told.
    pub(super) fn failed(&mut self, stamp: Stamp, fault: String) -> bool {
        self.read = stamp;
        self.fault = Some(fault);
        self.failures = self.failures.saturating_add(1);
        let is_news = self.failures >= LOOKS_MIN && self.told != Some(stamp);
        if is_news {
            self.told = Some(stamp);
        }
        is_news
    }

    /// What is wrong with them, once it has lasted.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref().filter(|_| self.failures >= LOOKS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(octets: u64) -> Stamp {
        let file = FileStamp { device: 1, inode: 1, octets, written: (1, 0), changed: (1, 0) };
        [Some(file), None]
    }

    #[test]
    fn a_pair_that_is_half_there_is_no_fault_and_one_that_stays_bad_is_told_once() {
        let mut renewal = Renewal::new(state(1));
        assert!(!renewal.is_due(&state(1)));
        assert!(renewal.is_due(&state(2)));
        assert!(!renewal.failed(state(2), "half".to_owned()));
        assert_eq!(renewal.fault(), None);
        // The other half came.
        renewal.told(state(3), None);
        assert!(!renewal.is_due(&state(3)) && renewal.fault().is_none());
        // It never comes.
        let told: Vec<bool> = (0..5).map(|_| renewal.failed(state(4), "bad".to_owned())).collect();
        assert_eq!(told, [false, false, true, false, false]);
        assert_eq!(renewal.fault(), Some("bad"));
        assert!(renewal.is_due(&state(4)), "what mends it need not change the files");
        // Bad in another way: said once again.
        assert!(renewal.failed(state(5), "worse".to_owned()));
        assert!(!renewal.failed(state(5), "worse".to_owned()));
        renewal.told(state(5), None);
        assert!(!renewal.is_due(&state(5)) && renewal.fault().is_none());
    }

    #[test]
    fn what_a_reload_has_told_a_look_does_not_tell_again() {
        let mut renewal = Renewal::new(state(1));
        renewal.told(state(2), Some("bad".to_owned()));
        assert_eq!(renewal.fault(), None);
        assert!((0..4).all(|_| !renewal.failed(state(2), "bad".to_owned())));
        assert_eq!(renewal.fault(), Some("bad"));
    }

    #[test]
    fn a_link_led_elsewhere_a_file_rewritten_and_a_file_gone_are_changes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["one", "two"] {
            fs::write(at(name), "PEM").unwrap();
        }
        std::os::unix::fs::symlink(at("one"), at("live")).unwrap();
        let files = Files { certificate: at("live"), key: at("one") };
        let mut before = files.stamp();
        let mut changed = |what: &str| {
            let now = files.stamp();
            assert_ne!(now, before, "{what}");
            before = now;
            assert_eq!(files.stamp(), before);
        };
        fs::remove_file(at("live")).unwrap();
        std::os::unix::fs::symlink(at("two"), at("live")).unwrap();
        changed("another file behind the link");
        fs::write(at("two"), "PEM and more").unwrap();
        changed("written in place");
        fs::remove_file(at("two")).unwrap();
        changed("gone");
    }
}
