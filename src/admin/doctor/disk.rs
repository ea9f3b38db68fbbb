//! `disk`: room for mail, a file system that keeps its word, and a sync that is not slow.
//!
//! Only `data_dir` itself is written to. While it is not there its parent tells of the room, and no text names that parent in
//! a command that changes anything.

use super::{Finding, Subject, View, finding::or_ok, quoted, size};
use crate::admin::self_test::random;
use crate::mail::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

pub(super) const NAME: &str = "disk";
/// Begins the name of what is written to see whether and how fast it can be. The rest is random: no file of anybody's is hit.
const TEST_FILE: &str = "doctor-test-";
const TEST_OCTETS: usize = 64 * 1024;
/// A sync that takes longer holds up every message.
const SYNC_SLOW: Duration = Duration::from_millis(250);
/// Intake looked back upon.
const INTAKE_SPAN: Duration = Duration::from_secs(7 * 86_400);
/// Files of the store looked at for it.
const FILES_MAX: usize = 100_000;

/// File systems that do not keep, or may not sync, what they took: magic number, name and why not.
const UNFIT: [(u64, &str, &str); 7] = [
    (0x0102_1994, "tmpfs", "it lives in memory: mail is gone at the next boot"),
    (0x8584_58f6, "ramfs", "it lives in memory: mail is gone at the next boot"),
    (0x6969, "NFS", "its locks and syncs depend on the server and its mount options"),
    (0xff53_4d42, "CIFS", "its locks and syncs depend on the server and its mount options"),
    (0xfe53_4d42, "SMB", "its locks and syncs depend on the server and its mount options"),
    (0x794c_7630, "overlay", "it is the writable layer of a container, which goes with the container"),
    (0x6573_5546, "FUSE", "what a sync means depends on the program behind it"),
];

/// What was seen of the disk.
#[derive(Debug)]
struct Disk {
    free_octets: u64,
    reserve_octets: u64,
    intake_octets: u64,
    kind: u64,
    /// `None` while there is no `data_dir` to write to.
    sync: Option<io::Result<Duration>>,
}

pub(super) fn check(subject: &Subject, now: Timestamp) -> Vec<Finding> {
    let data_dir = &subject.settings.data_dir;
    let is_there = match fs::metadata(data_dir) {
        Ok(metadata) if metadata.is_dir() => true,
        Ok(_) => return vec![unseen(data_dir, &io::ErrorKind::NotADirectory.into())],
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return vec![unseen(data_dir, &error)],
    };
    // Before the first start there is only the folder it will be made in.
    let Some(place) = data_dir.ancestors().find(|place| place.is_dir()) else {
        return vec![Finding::problem(
            NAME,
            "no folder leads to data_dir",
            "give a data_dir that can be made",
        )];
    };
    let space =
        rustix::fs::statvfs(place).and_then(|space| rustix::fs::statfs(place).map(|kind| (space, kind)));
    let (space, kind) = match space {
        Ok(seen) => seen,
        Err(error) => {
            let seen = format!("{} cannot be looked at: {error}", place.display());
            return vec![Finding::problem(
                NAME,
                seen,
                "let the server's user enter every folder that leads to it",
            )];
        }
    };
    let disk = Disk {
        free_octets: space.f_bavail.saturating_mul(space.f_frsize),
        reserve_octets: subject.reserve_octets,
        intake_octets: intake(data_dir, now),
        // The kernel's type is signed or not, depending on the machine; the magic numbers have 32 bits.
        kind: (kind.f_type as u64) & 0xffff_ffff,
        sync: is_there.then(|| sync(data_dir)),
    };
    // Another user's folder is not for us to write to, and that is no fault of it.
    let is_foreign = is_there
        && fs::metadata(place).is_ok_and(|metadata| metadata.uid() != rustix::process::geteuid().as_raw());
    judge(place, &disk, matches!(subject.view, View::Server(_)), is_foreign)
}

/// What is said when `data_dir` cannot be looked at.
fn unseen(data_dir: &Path, error: &io::Error) -> Finding {
    let shown = data_dir.display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        let we = rustix::process::geteuid().as_raw();
        return Finding::skipped(
            NAME,
            format!("{shown} may not be looked at by user {we}: run doctor as root or as the server's user"),
        );
    }
    Finding::problem(
        NAME,
        format!("{shown} cannot be looked at: {error}"),
        format!("see what is wrong on the way to it: `namei -l {}`", quoted(data_dir)),
    )
}

/// Writes a file, syncs it, and takes it away.
fn sync(data_dir: &Path) -> io::Result<Duration> {
    let name: [u8; 8] = random().map_err(|error| io::Error::other(error.to_string()))?;
    sync_by(data_dir, &format!("{TEST_FILE}{:016x}", u64::from_be_bytes(name)))
}

fn sync_by(data_dir: &Path, name: &str) -> io::Result<Duration> {
    let path = data_dir.join(name);
    // From here on the file is ours: one that was there before is an error.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let mut write = || {
        let began = Instant::now();
        file.write_all(&[0; TEST_OCTETS])?;
        file.sync_all()?;
        File::open(data_dir)?.sync_all()?;
        Ok(began.elapsed())
    };
    let outcome = write();
    fs::remove_file(&path)?;
    outcome
}

/// Octets of the store's files written to within the span: what came in, and a little more.
fn intake(data_dir: &Path, now: Timestamp) -> u64 {
    let since = Duration::from_millis(u64::try_from(now.unix_ms()).unwrap_or(0)).saturating_sub(INTAKE_SPAN);
    let shards =
        fs::read_dir(data_dir.join("content")).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = std::iter::once(data_dir.join("log")).chain(shards);
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let metadata =
        files.take(FILES_MAX).filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file);
    let recent = metadata.filter(|file| {
        let modified = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        modified.is_some_and(|modified| modified >= since)
    });
    recent.map(|file| file.len()).sum()
}

fn judge(place: &Path, disk: &Disk, served: bool, is_foreign: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shown = place.display();
    let (free, reserve) = (size(disk.free_octets), size(disk.reserve_octets));
    if disk.free_octets < disk.reserve_octets {
        let now = if served { "no mail is taken" } else { "no mail would be taken" };
        findings.push(Finding::problem(
            NAME,
            format!("{shown}: {free} free, less than the reserve of {reserve}: {now}"),
            format!(
                "make room on that disk or enlarge it; fetching goes on meanwhile and frees some. A smaller \
                 [smtp] max_message_bytes needs less reserve: twice its size. `df -h {}` shows the disk",
                quoted(place)
            ),
        ));
    } else if disk.free_octets - disk.reserve_octets < disk.intake_octets {
        findings.push(Finding::warning(
            NAME,
            format!(
                "{shown}: {free} free, reserve {reserve}; the last 7 days took {}: the next might not fit",
                size(disk.intake_octets)
            ),
            "enlarge the disk, or see that the archive fetches and deletes what it has: check last-fetch",
        ));
    }
    if let Some((_, name, why)) = UNFIT.iter().find(|(magic, _, _)| *magic == disk.kind) {
        findings.push(Finding::warning(
            NAME,
            format!("{shown} is on {name}: {why}"),
            "put data_dir on a local ext4, XFS or Btrfs; in a container, on a volume",
        ));
    }
    match &disk.sync {
        Some(Ok(took)) if *took > SYNC_SLOW => findings.push(Finding::warning(
            NAME,
            format!("{shown}: writing and syncing {} took {} ms", size(TEST_OCTETS as u64), took.as_millis()),
            "every message waits so long for its 250: find out what else loads the disk (`iostat -x 5`), or use a faster one",
        )),
        Some(Ok(_)) | None => {}
        Some(Err(error)) if is_foreign && error.kind() == io::ErrorKind::PermissionDenied => {
            let why = format!("{shown}: {free} free; it is another user's, so that no sync could be tried");
            findings.push(Finding::skipped(NAME, why));
        }
        Some(Err(error)) => findings.push(Finding::problem(
            NAME,
            format!("{shown}: a test file cannot be written: {error}"),
            unwritable(place, error),
        )),
    }
    or_ok(findings, NAME, || match &disk.sync {
        Some(Ok(took)) => {
            format!("{shown}: {free} free, reserve {reserve}, synced in {} ms", took.as_millis())
        }
        _ => format!("{shown}: {free} free, reserve {reserve}; data_dir is not made yet"),
    })
}

/// How to mend a `data_dir` of our own that takes no file.
fn unwritable(data_dir: &Path, error: &io::Error) -> String {
    let place = quoted(data_dir);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("let its owner write to it: `chmod u+rwx {place}`; see file-rights too")
        }
        // Written to again before it is checked, a damaged file system loses more.
        io::ErrorKind::ReadOnlyFilesystem => {
            "it is mounted read-only, as after a disk error: find that error in `dmesg`, stop the server, have the file \
             system checked, and only then mount it for writing again"
                .to_owned()
        }
        _ => format!(
            "make room on that disk, and see `dmesg` for errors of it; `df -h {place}` and `df -i {place}` show what is full"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const GIB: u64 = 1 << 30;

    fn check(free: u64, intake: u64, kind: u64, sync: io::Result<Duration>, expect: &[(Status, &str)]) {
        let disk =
            Disk { free_octets: free, reserve_octets: GIB, intake_octets: intake, kind, sync: Some(sync) };
        let found = judge(Path::new("/data"), &disk, true, false);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, (status, word)) in found.iter().zip(expect) {
            assert_eq!(found.status, *status, "{found:?}");
            assert!(found.seen.contains(word), "{word} is not in {found:?}");
        }
    }

    #[test]
    fn judges_room_kind_and_speed() {
        let fast = || Ok(Duration::from_millis(3));
        check(9 * GIB, GIB, 0xef53, fast(), &[(Status::Ok, "synced in 3 ms")]);
        check(GIB - 1, 0, 0xef53, fast(), &[(Status::Problem, "no mail is taken")]);
        check(3 * GIB, 2 * GIB + 1, 0xef53, fast(), &[(Status::Warning, "the last 7 days took 2.0 GiB")]);
        check(9 * GIB, 0, 0x0102_1994, fast(), &[(Status::Warning, "tmpfs")]);
        check(9 * GIB, 0, 0x6969, fast(), &[(Status::Warning, "NFS")]);
        check(9 * GIB, 0, 0xef53, Ok(Duration::from_secs(1)), &[(Status::Warning, "took 1000 ms")]);
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        check(
            GIB - 1,
            0,
            0xef53,
            denied,
            &[(Status::Problem, "free"), (Status::Problem, "cannot be written")],
        );
    }

    #[test]
    fn intake_is_what_the_store_wrote_to_lately() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["log", "content/ab"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("log/00000001.seg"), [0; 100]).unwrap();
        fs::write(dir.path().join("content/ab/x.age"), [0; 50]).unwrap();
        let old = File::create(dir.path().join("log/00000000.seg")).unwrap();
        old.set_len(1_000).unwrap();
        old.set_modified(UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
        assert_eq!(intake(dir.path(), crate::observe::now()), 150);
    }

    #[test]
    fn the_test_file_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        sync(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_was_there_before_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["doctor.test", "doctor-test-1"] {
            fs::write(dir.path().join(name), "somebody's").unwrap();
        }
        sync(dir.path()).unwrap();
        assert_eq!(sync_by(dir.path(), "doctor-test-1").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        for name in ["doctor.test", "doctor-test-1"] {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "somebody's");
        }
    }

    #[test]
    fn a_folder_above_data_dir_is_neither_written_to_nor_named_in_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let mut subject = crate::admin::doctor::tests::subject(&dir.path().join("lib/data"));
        let before = fs::metadata(dir.path()).unwrap().modified().unwrap();
        let found = super::check(&subject, crate::observe::now());
        assert!(found.iter().all(|finding| finding.status < Status::Problem), "{found:?}");
        assert_eq!(fs::metadata(dir.path()).unwrap().modified().unwrap(), before, "it was written to");

        // Not to be seen, which for root only something else than a lack of rights can do.
        std::os::unix::fs::symlink("round", dir.path().join("round")).unwrap();
        subject.settings.data_dir = dir.path().join("round/data");
        let found = super::check(&subject, crate::observe::now());
        assert_eq!((found.len(), found[0].status), (1, Status::Problem), "{found:?}");
        let denied = unseen(Path::new("/var/lib/daybook"), &io::ErrorKind::PermissionDenied.into());
        assert_eq!((denied.status, denied.fix), (Status::Skipped, None));
    }

    #[test]
    fn no_text_has_a_disk_remounted_or_a_folder_given_away() {
        for kind in
            [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::StorageFull]
        {
            let fix = unwritable(Path::new("/var/lib/daybook"), &kind.into());
            assert!(!fix.contains("remount") && !fix.contains("chown"), "{fix}");
        }
        let fix = unwritable(Path::new("/data"), &io::ErrorKind::ReadOnlyFilesystem.into());
        assert!(fix.contains("`dmesg`") && fix.contains("checked"), "{fix}");
    }
}
