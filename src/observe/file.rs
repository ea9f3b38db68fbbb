//! The log as a file: appended to, begun anew when it is large or old, and followed when somebody moves it.
//!
//! ```text
//! daybook.log                      being written
//! daybook.log.20261121T000000Z     set aside then; a second one of that moment ends in -001
//! ```
//! Names sort by time. Crates that rotate (`file-rotate`, `logroller`, `tracing-appender`) know size or age, not both, read
//! the clock themselves, and none opens its file again when told to; so this is ours.
//!
//! Invariants:
//! - A line is in one file, whole. Nothing is ever overwritten: the file is renamed only to a name that is free.
//! - The file at the path is the one written to. Before each line it is looked at: moved or removed by someone else, it is
//!   opened anew; and when that cannot be, the moved one is written on.
//! - What cannot be set aside is written on, and tried again after a minute.
//! - Only regular files named exactly as above are ever removed, oldest first, beyond `keep`; those of a time to come before
//!   them, since a clock was ahead. The file just set aside stays.
//! - A line begins after a line end, also where a full disk cut the one before and the process ended.
//! - Octets already there are the file's size as the system gives it, so that cutting it to nothing (`copytruncate`) does no harm.
//!
//! Age is counted in days of UTC: with one day, the first line after midnight begins a new file. A file of an earlier run
//! belongs to the day it was last written on.

use crate::mail::Timestamp;
use rustix::fs::{CWD, OFlags, RenameFlags};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Permissions of a new file, less what umask takes: the group may be one that ships logs.
const FILE_MODE: u32 = 0o640;
/// Files set aside within one second.
const SAME_SECOND_MAX: u32 = 999;
/// How long after a failure setting aside is tried again.
const RETRY_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// A log in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLog {
    /// Where.
    pub path: PathBuf,
    /// A line that would make it larger begins a new one; 0 for never. Octets.
    pub rotate_octets: u64,
    /// Days after which a new one is begun, at midnight UTC; 0 for never.
    pub rotate_days: u32,
    /// Files set aside that are kept.
    pub keep: usize,
}

/// What happened beside the writing, for the log itself.
#[derive(Debug)]
pub(super) enum News {
    /// The file was set aside under this name.
    Rotated(PathBuf),
    /// What was tried in vain. Writing goes on.
    Failed(&'static str, io::Error),
    /// The file was opened anew.
    Reopened,
}

/// The file at work.
pub(super) struct LogFile {
    setup: FileLog,
    file: File,
    /// The run of days its content is from.
    period: i64,
    /// A line was written in part.
    is_half_line: bool,
    /// Nothing is set aside before.
    retry_at: Option<Timestamp>,
    news: Vec<News>,
}

impl LogFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It cannot be opened for appending, or is no regular file. The operator's to mend.
    pub(super) fn open(setup: FileLog, now: Timestamp) -> io::Result<LogFile> {
        let file = open(&setup.path)?;
        let is_half_line = ends_in_half_line(&file);
        let mut log = LogFile { setup, file, period: 0, is_half_line, retry_at: None, news: Vec::new() };
        log.period = log.period_of_content(now)?;
        Ok(log)
    }

    /// Appends a line, in a new file when it is time.
    ///
    /// # Errors
    /// The line is not in the file, or only a part of it.
    pub(super) fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        let octets = self.follow_path(now)?.len();
        if self.is_due(octets, line.len(), now) {
            self.rotate(now);
        }
        if std::mem::take(&mut self.is_half_line) {
            self.append(b"\n")?;
        }
        self.append(line)
    }

    /// Opens the file anew, since somebody moved it.
    ///
    /// # Errors
    /// It cannot be; the old one is written on.
    pub(super) fn reopen(&mut self, now: Timestamp) -> io::Result<()> {
        self.file = open(&self.setup.path)?;
        self.is_half_line = ends_in_half_line(&self.file);
        self.period = self.period_of_content(now)?;
        self.news.push(News::Reopened);
        Ok(())
    }

    /// What happened since asked last.
    pub(super) fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn path(&self) -> &Path {
        &self.setup.path
    }

    /// Makes sure that the file written to is the one at the path, or at least somewhere; gives its size.
    fn follow_path(&mut self, now: Timestamp) -> io::Result<Metadata> {
        let ours = self.file.metadata()?;
        if fs::metadata(&self.setup.path).is_ok_and(|there| is_same(&there, &ours)) {
            return Ok(ours);
        }
        match self.reopen(now) {
            Ok(()) => self.file.metadata(),
            // Without a name it would be gone with the process.
            Err(error) if ours.nlink() == 0 => Err(error),
            Err(_) => Ok(ours),
        }
    }

    fn append(&mut self, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            match self.file.write(octets) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    octets = octets.get(written..).unwrap_or_default();
                    self.is_half_line = !octets.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_due(&mut self, octets: u64, more: usize, now: Timestamp) -> bool {
        let period = self.period_of(now);
        // A clock that was ahead and went back does not stop the days from being counted.
        self.period = self.period.min(period);
        let is_old = self.setup.rotate_days > 0 && period > self.period;
        let is_large =
            self.setup.rotate_octets > 0 && octets.saturating_add(more as u64) > self.setup.rotate_octets;
        if octets == 0 {
            self.period = period;
        }
        let may_try = self.retry_at.is_none_or(|at| now >= at || now.unix_ms() + RETRY_MS < at.unix_ms());
        octets > 0 && (is_old || is_large) && may_try
    }

    fn period_of(&self, at: Timestamp) -> i64 {
        at.unix_ms() / DAY_MS / i64::from(self.setup.rotate_days.max(1))
    }

    fn period_of_content(&self, now: Timestamp) -> io::Result<i64> {
        let metadata = self.file.metadata()?;
        let last = Timestamp::from_unix_ms(metadata.mtime().saturating_mul(1_000));
        Ok(self.period_of(if metadata.len() > 0 { last.min(now) } else { now }))
    }

    /// Sets the file aside and begins a new one.
    fn rotate(&mut self, now: Timestamp) {
        self.retry_at = None;
        let aside = match set_aside(&self.setup.path, now) {
            Ok(aside) => aside,
            Err(error) => {
                self.retry_at = Some(Timestamp::from_unix_ms(now.unix_ms().saturating_add(RETRY_MS)));
                return self.news.push(News::Failed("set the log aside", error));
            }
        };
        match self.begin_anew() {
            Ok(()) => self.period = self.period_of(now),
            // The next line tries again; until then the file set aside is written on.
            Err(error) => self.news.push(News::Failed("begin a new log", error)),
        }
        let removed = remove_beyond(&self.setup.path, self.setup.keep, &aside, now);
        self.news.push(News::Rotated(aside));
        if let Err(error) = removed {
            self.news.push(News::Failed("remove an old log", error));
        }
    }

    /// Opens a file with the permissions that somebody may have given to the one before.
    fn begin_anew(&mut self) -> io::Result<()> {
        let permissions = self.file.metadata()?.permissions();
        let file = open(&self.setup.path)?;
        file.set_permissions(permissions)?;
        self.file = file;
        self.is_half_line = false;
        Ok(())
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn open(path: &Path) -> io::Result<File> {
    // A pipe nobody reads must not keep the start waiting.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE).custom_flags(flags);
    let file = match options.clone().read(true).open(path) {
        // One that may be written and not read is a log, too.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path)?,
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// True when there is something in it whose last line has no end. A file that cannot be read is taken for whole.
fn ends_in_half_line(file: &File) -> bool {
    let last = file.metadata().ok().and_then(|metadata| metadata.len().checked_sub(1));
    let mut octet = [0];
    last.is_some_and(|last| matches!(file.read_at(&mut octet, last), Ok(1)) && octet != *b"\n")
}

/// Renames the file to a free name that tells the time.
fn set_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    for number in 0..=SAME_SECOND_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", stamp(now)));
        if number > 0 {
            name.push(format!("-{number:03}"));
        }
        let aside = PathBuf::from(name);
        match rename_to_free(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "every name for this second is taken"))
}

fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            match fs::symlink_metadata(to) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
                Err(error) => Err(error),
            }
        }
        other => Ok(other?),
    }
}

/// `20261121T093000Z`
fn stamp(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.get(..19).unwrap_or(&text);
    seconds.chars().filter(char::is_ascii_alphanumeric).chain(['Z']).collect()
}

/// True for `20261121T093000Z` and `20261121T093000Z-001`.
fn is_stamp(text: &str) -> bool {
    const PATTERN: &[u8] = b"00000000T000000Z";
    const NUMBERED: &[u8] = b"00000000T000000Z-000";
    let fits = |pattern: &[u8]| {
        let same = |(found, wanted): (u8, &u8)| {
            if *wanted == b'0' { found.is_ascii_digit() } else { found == *wanted }
        };
        text.len() == pattern.len() && text.bytes().zip(pattern).all(same)
    };
    fits(PATTERN) || fits(NUMBERED)
}

/// Removes files that were set aside, until `keep` are left: those of a time to come first, then the oldest, never `just`.
fn remove_beyond(path: &Path, keep: usize, just: &Path, now: Timestamp) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut prefix = path.file_name().unwrap_or(OsStr::new("")).to_owned();
    prefix.push(".");
    let latest = stamp(now);
    let mut aside: Vec<(bool, OsString)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let Some(its) = rest.and_then(|rest| std::str::from_utf8(rest).ok()).filter(|rest| is_stamp(rest))
        else {
            continue;
        };
        if Some(name.as_os_str()) != just.file_name() && entry.file_type()?.is_file() {
            // One with a number was set aside within the same second.
            let is_to_come = its.get(..latest.len()).is_some_and(|its| its > latest.as_str());
            aside.push((!is_to_come, name));
        }
    }
    aside.sort();
    let surplus = (aside.len() + 1).saturating_sub(keep);
    aside.iter().take(surplus).try_for_each(|(_, name)| fs::remove_file(folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Fixture {
        dir: tempfile::TempDir,
        log: LogFile,
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn setup(path: PathBuf) -> FileLog {
        FileLog { path, rotate_octets: 0, rotate_days: 0, keep: 3 }
    }

    fn fixture(change: impl FnOnce(&mut FileLog)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let mut setup = setup(dir.path().join("d.log"));
        change(&mut setup);
        let log = LogFile::open(setup, at("2026-11-21T09:30:00Z")).unwrap();
        Fixture { dir, log }
    }

    impl Fixture {
        fn write(&mut self, line: &str, when: &str) {
            self.log.write(format!("{line}\n").as_bytes(), at(when)).unwrap();
        }

        /// Every file and its content, by name.
        fn files(&self) -> Vec<(String, String)> {
            let mut files: Vec<_> = fs::read_dir(self.dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    (
                        path.file_name().unwrap().to_str().unwrap().to_owned(),
                        fs::read_to_string(path).unwrap(),
                    )
                })
                .collect();
            files.sort();
            files
        }

        fn check(&self, expect: &[(&str, &str)]) {
            let files = self.files();
            let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            assert_eq!(files, expect);
        }
    }

    #[test]
    fn a_line_that_would_make_it_too_large_begins_a_new_one() {
        let mut f = fixture(|s| s.rotate_octets = 10);
        f.write("1234", "2026-11-21T09:30:00Z");
        f.write("5678", "2026-11-21T09:30:01Z");
        f.write("9", "2026-11-21T09:30:02Z");
        f.check(&[("d.log", "9\n"), ("d.log.20261121T093002Z", "1234\n5678\n")]);
        // Longer than the limit by itself: one file, whole.
        f.write("longer than ten", "2026-11-21T09:30:03Z");
        f.write("x", "2026-11-21T09:30:03Z");
        f.check(&[
            ("d.log", "x\n"),
            ("d.log.20261121T093002Z", "1234\n5678\n"),
            ("d.log.20261121T093003Z", "9\n"),
            ("d.log.20261121T093003Z-001", "longer than ten\n"),
        ]);
    }

    #[test]
    fn midnight_in_utc_begins_a_new_one_every_so_many_days() {
        let mut f = fixture(|s| s.rotate_days = 1);
        f.write("a", "2026-11-21T23:59:59Z");
        f.write("b", "2026-11-22T00:00:00Z");
        f.write("c", "2026-11-24T12:00:00Z");
        f.check(&[("d.log", "c\n"), ("d.log.20261122T000000Z", "a\n"), ("d.log.20261124T120000Z", "b\n")]);

        let mut f = fixture(|s| s.rotate_days = 7);
        f.write("a", "2026-11-21T00:00:00Z");
        for day in 22..=27 {
            f.write("b", &format!("2026-11-{day}T00:00:00Z"));
        }
        let days: usize = f.files().len();
        assert_eq!(days, 2, "one border in seven days: {:?}", f.files());
    }

    #[test]
    fn size_and_age_hold_together_and_zero_is_never() {
        let mut f = fixture(|s| (s.rotate_octets, s.rotate_days) = (4, 1));
        f.write("aa", "2026-11-21T09:30:00Z");
        f.write("b", "2026-11-21T09:31:00Z");
        f.write("c", "2026-11-22T09:30:00Z");
        assert_eq!(f.files().len(), 3);
        let mut f = fixture(|_| {});
        for year in 2026..2036 {
            f.write("a", &format!("{year}-11-21T09:30:00Z"));
        }
        assert_eq!(f.files().len(), 1);
    }

    #[test]
    fn a_file_of_yesterday_is_set_aside_by_the_first_line_of_today() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.log");
        fs::write(&path, "old\n").unwrap();
        let modified = Timestamp::from_unix_ms(fs::metadata(&path).unwrap().mtime() * 1_000);
        let day = |days: i64| Timestamp::from_unix_ms(modified.unix_ms() + days * DAY_MS);
        let setup = FileLog { rotate_days: 1, ..setup(path.clone()) };
        let mut log = LogFile::open(setup.clone(), day(0)).unwrap();
        log.write(b"same day\n", day(0)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nsame day\n");
        let mut log = LogFile::open(setup, day(1)).unwrap();
        log.write(b"next day\n", day(1)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next day\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_clock_that_goes_back_begins_nothing_and_counts_on() {
        let mut f = fixture(|s| s.rotate_days = 1);
        f.write("a", "2036-01-01T00:00:00Z");
        assert_eq!(f.files().len(), 1, "an empty file is not set aside");
        f.write("b", "2026-11-21T09:30:00Z");
        assert_eq!(f.files().len(), 1);
        f.write("c", "2026-11-22T09:30:00Z");
        assert_eq!(f.files().len(), 2);
    }

    #[test]
    fn only_what_bears_its_exact_name_is_removed_oldest_first() {
        let mut f = fixture(|s| (s.rotate_octets, s.keep) = (1, 2));
        let others = [
            "d.log.20200101T000000Z.gz",
            "d.log.1",
            "d.log.20200101T000000",
            "d.log.20200101T000000Z-1",
            "e.log.20200101T000000Z",
            "xd.log.20200101T000000Z",
        ];
        for name in others {
            fs::write(f.dir.path().join(name), "").unwrap();
        }
        fs::create_dir(f.dir.path().join("d.log.20200101T000001Z")).unwrap();
        for second in 0..6 {
            f.write("a", &format!("2026-11-21T09:30:0{second}Z"));
        }
        fs::remove_dir(f.dir.path().join("d.log.20200101T000001Z")).unwrap();
        let names: Vec<String> = f.files().into_iter().map(|(name, _)| name).collect();
        let mut expect: Vec<&str> = others.to_vec();
        expect.extend(["d.log", "d.log.20261121T093004Z", "d.log.20261121T093005Z"]);
        expect.sort_unstable();
        assert_eq!(names, expect);
    }

    #[test]
    fn after_a_clock_that_was_ahead_the_newest_files_stay() {
        let mut f = fixture(|s| (s.rotate_octets, s.keep) = (1, 2));
        for name in ["d.log.20360101T000000Z", "d.log.20360102T000000Z", "d.log.20360102T000000Z-001"] {
            fs::write(f.dir.path().join(name), "ahead\n").unwrap();
        }
        f.write("a", "2026-11-21T09:30:00Z");
        f.write("b", "2026-11-21T09:30:01Z");
        f.check(&[
            ("d.log", "b\n"),
            ("d.log.20261121T093001Z", "a\n"),
            ("d.log.20360102T000000Z-001", "ahead\n"),
        ]);
        f.write("c", "2026-11-21T09:30:02Z");
        f.check(&[("d.log", "c\n"), ("d.log.20261121T093001Z", "a\n"), ("d.log.20261121T093002Z", "b\n")]);
        // A clock that is behind: what it calls to come is all there is, and of that the oldest goes.
        f.write("d", "2001-01-01T00:00:00Z");
        f.check(&[("d.log", "d\n"), ("d.log.20010101T000000Z", "c\n"), ("d.log.20261121T093002Z", "b\n")]);
    }

    #[test]
    fn half_a_line_of_an_earlier_run_or_of_somebody_else_is_ended_first() {
        let dir = tempfile::tempdir().unwrap();
        let (path, now) = (dir.path().join("d.log"), at("2026-11-21T09:30:00Z"));
        fs::write(&path, "{\"half").unwrap();
        let mut log = LogFile::open(setup(path.clone()), now).unwrap();
        log.write(b"a\n", now).unwrap();
        log.write(b"b\n", now).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\na\nb\n");
        let mut log = LogFile::open(setup(path.clone()), now).unwrap();
        log.write(b"c\n", now).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\na\nb\nc\n");
        fs::write(&path, "half").unwrap();
        log.reopen(now).unwrap();
        log.write(b"d\n", now).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "half\nd\n");
    }

    #[test]
    fn nothing_is_overwritten() {
        let mut f = fixture(|s| (s.rotate_octets, s.keep) = (1, 100));
        fs::write(f.dir.path().join("d.log.20261121T093000Z"), "precious").unwrap();
        f.write("a", "2026-11-21T09:30:00Z");
        f.write("b", "2026-11-21T09:30:00Z");
        f.check(&[
            ("d.log", "b\n"),
            ("d.log.20261121T093000Z", "precious"),
            ("d.log.20261121T093000Z-001", "a\n"),
        ]);
    }

    #[test]
    fn files_are_for_owner_and_group_and_keep_what_somebody_gave_them() {
        let mut f = fixture(|s| s.rotate_octets = 1);
        let path = f.dir.path().join("d.log");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path) & 0o137, 0, "{:o}", mode(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        f.write("a", "2026-11-21T09:30:00Z");
        f.write("b", "2026-11-21T09:30:00Z");
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn a_moved_or_removed_file_is_made_anew_and_an_emptied_one_goes_on() {
        let mut f = fixture(|_| {});
        let now = "2026-11-21T09:30:00Z";
        f.write("a", now);
        fs::rename(f.dir.path().join("d.log"), f.dir.path().join("moved")).unwrap();
        f.write("b", now);
        f.check(&[("d.log", "b\n"), ("moved", "a\n")]);
        assert!(matches!(f.log.news().as_slice(), [News::Reopened]));
        fs::remove_file(f.dir.path().join("d.log")).unwrap();
        f.write("c", now);
        f.check(&[("d.log", "c\n"), ("moved", "a\n")]);
        File::create(f.dir.path().join("d.log")).unwrap();
        f.write("d", now);
        f.check(&[("d.log", "d\n"), ("moved", "a\n")]);
    }

    #[test]
    fn a_file_moved_to_where_no_new_one_can_be_made_is_written_on_and_a_removed_one_is_an_error() {
        let mut f = fixture(|s| s.path = s.path.parent().unwrap().join("d.log"));
        let now = "2026-11-21T09:30:00Z";
        let (path, moved) = (f.dir.path().join("d.log"), f.dir.path().join("moved"));
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        f.write("a", now);
        assert_eq!(fs::read_to_string(&moved).unwrap(), "a\n");
        assert!(f.log.reopen(at(now)).is_err());
        fs::remove_file(&moved).unwrap();
        assert!(f.log.write(b"b\n", at(now)).is_err());
        fs::remove_dir(&path).unwrap();
        f.write("c", now);
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\n");
    }

    #[test]
    fn a_log_that_cannot_be_set_aside_is_written_on_and_tried_again_after_a_minute() {
        let mut f = fixture(|s| s.rotate_octets = 1);
        let path = f.dir.path().join("d.log");
        // Every name of this second is taken.
        let names: Vec<PathBuf> = (0..=SAME_SECOND_MAX)
            .map(|n| if n == 0 { String::new() } else { format!("-{n:03}") })
            .map(|suffix| f.dir.path().join(format!("d.log.20261121T093000Z{suffix}")))
            .collect();
        names.iter().for_each(|name| fs::write(name, "").unwrap());
        f.write("a", "2026-11-21T09:30:00Z");
        f.write("b", "2026-11-21T09:30:00Z");
        assert!(matches!(f.log.news().as_slice(), [News::Failed(..)]));
        f.write("c", "2026-11-21T09:30:59Z");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
        f.write("d", "2026-11-21T09:31:00Z");
        assert_eq!(fs::read_to_string(&path).unwrap(), "d\n");
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), PathBuf::from("/dev/full"), dir.path().join("none/d.log")] {
            assert!(LogFile::open(setup(path.clone()), at("2026-11-21T09:30:00Z")).is_err(), "{path:?}");
        }
    }
}
