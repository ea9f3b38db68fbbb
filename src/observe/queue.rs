//! The way of a line to standard error or the file: through a bounded queue and a thread of its own.
//!
//! Whoever reads the log may stop reading (a pager, a stuck container log driver, a full pipe), and a disk may hang. Written
//! from the tasks that serve mail, a line would then stop the gateway. Here it waits in the queue; when that is full it is
//! dropped and counted, and the first line that gets through again says how many were lost (`log.dropped`).
//!
//! With a file, standard error gets what the file did not take, so that a full disk loses no line while somebody listens
//! there: `log.file_failed` says when that began, and `log.dropped` how many lines the file lacks when it has ended.

use super::file::{LogFile, News};
use super::now;
use crate::mail::Timestamp;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait.
const LINES_MAX: usize = 8 * 1024;

enum Item {
    Line(Vec<u8>),
    /// Open the file anew.
    Reopen,
    /// Answered when every line before it is written.
    Flush(SyncSender<()>),
}

/// Where lines are put.
#[derive(Clone)]
pub(super) struct Queue {
    items: SyncSender<Item>,
    dropped: &'static AtomicU64,
}

/// Lines dropped and not yet told of.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// A file as the thread uses it.
pub(super) trait Target: Send {
    /// As [`LogFile::write`].
    fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()>;
    /// As [`LogFile::reopen`].
    fn reopen(&mut self, now: Timestamp) -> io::Result<()>;
    /// As [`LogFile::news`].
    fn news(&mut self) -> Vec<News>;
    /// Where it is.
    fn path(&self) -> PathBuf;
}

impl Target for LogFile {
    fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        LogFile::write(self, line, now)
    }

    fn reopen(&mut self, now: Timestamp) -> io::Result<()> {
        LogFile::reopen(self, now)
    }

    fn news(&mut self) -> Vec<News> {
        LogFile::news(self)
    }

    fn path(&self) -> PathBuf {
        LogFile::path(self).to_owned()
    }
}

/// A queue whose lines a thread writes to the file, or else to standard error. Without a thread every line is dropped: that
/// must not stop mail.
pub(super) fn start(file: Option<LogFile>) -> Queue {
    let file = file.map(|file| Box::new(file) as Box<dyn Target>);
    start_with(file, io::stderr(), &DROPPED)
}

fn start_with(
    file: Option<Box<dyn Target>>,
    standard_error: impl Write + Send + 'static,
    dropped: &'static AtomicU64,
) -> Queue {
    let (items, waiting) = sync_channel(LINES_MAX);
    let mut outlet = Outlet { file, standard_error, unfiled: 0 };
    let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        for item in waiting {
            outlet.take(item);
            let lost = dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!(event = "log.dropped", lines = lost);
            }
        }
    });
    // A failed spawn drops the receiver, and each line then counts as dropped.
    drop(spawned);
    Queue { items, dropped }
}

impl Queue {
    /// Takes a line with its line end. Never waits.
    pub(super) fn put(&self, line: Vec<u8>) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            super::metrics::log_line_dropped();
        }
    }

    /// Has the file opened anew once what was logged so far is written.
    pub(super) fn reopen(&self, wait: Duration) {
        self.send(Item::Reopen, Instant::now() + wait);
    }

    /// Waits until what was logged so far is written, at most `wait`.
    pub(super) fn flush(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let (answer, written) = sync_channel(1);
        if !self.send(Item::Flush(answer), deadline) {
            return;
        }
        match written.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    fn send(&self, mut item: Item, deadline: Instant) -> bool {
        loop {
            match self.items.try_send(item) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => item = back,
                Err(_) => return false,
            }
            std::thread::sleep(FULL_PAUSE);
        }
    }
}

/// Pause before a full queue is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// What the thread writes to.
struct Outlet<W> {
    file: Option<Box<dyn Target>>,
    standard_error: W,
    /// Lines the file did not take since it last took one.
    unfiled: u64,
}

impl<W: Write> Outlet<W> {
    fn take(&mut self, item: Item) {
        match item {
            Item::Line(line) => self.line(&line),
            Item::Reopen => self.reopen(),
            Item::Flush(answer) => drop(answer.send(())),
        }
        for news in self.file.as_mut().map(|file| file.news()).unwrap_or_default() {
            tell(news);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let Some(file) = &mut self.file else {
            // A line that cannot be written is lost, as is a reader that went away.
            return drop(self.standard_error.write_all(line));
        };
        match file.write(line, now()) {
            Ok(()) => {
                let lines = std::mem::take(&mut self.unfiled);
                if lines > 0 {
                    tracing::warn!(event = "log.dropped", lines, instead = "standard error");
                }
            }
            Err(error) => {
                self.unfiled += 1;
                drop(self.standard_error.write_all(line));
                // Once: this event, too, goes where the line went.
                if self.unfiled == 1 {
                    tracing::error!(event = "log.file_failed", path = %file.path().display(), %error);
                }
            }
        }
    }

    fn reopen(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.reopen(now())
        {
            tracing::error!(event = "log.file_failed", path = %file.path().display(), %error);
        }
    }
}

fn tell(news: News) {
    match news {
        News::Rotated(aside) => tracing::info!(event = "log.rotated", aside = %aside.display()),
        News::Failed(doing, error) => tracing::error!(event = "log.rotate_failed", doing, %error),
        News::Reopened => tracing::info!(event = "log.reopened"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    /// A reader that takes nothing until it is let go.
    struct Stuck(Receiver<()>, SyncSender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.recv().ok();
            self.1.send(octets.to_vec()).ok();
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stopped_holds_nobody_up_and_lost_lines_are_counted() {
        static LOST: AtomicU64 = AtomicU64::new(0);
        let (go, wait) = channel();
        let (written, lines) = sync_channel(LINES_MAX + 8);
        let queue = start_with(None, Stuck(wait, written), &LOST);
        for n in 0..LINES_MAX + 100 {
            queue.put(format!("{n}\n").into_bytes());
        }
        let lost = LOST.load(Ordering::Relaxed);
        // One line may be with the writer already.
        assert!((99..=100).contains(&lost), "{lost}");
        go.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"0\n");
    }

    /// A disk that is full while told so.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(bool, Vec<String>)>>);

    impl Target for Disk {
        fn write(&mut self, line: &[u8], _: Timestamp) -> io::Result<()> {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.1.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        }

        fn reopen(&mut self, _: Timestamp) -> io::Result<()> {
            Ok(())
        }

        fn news(&mut self) -> Vec<News> {
            Vec::new()
        }

        fn path(&self) -> PathBuf {
            PathBuf::from("/var/log/daybook.log")
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_goes_to_standard_error() {
        static LOST: AtomicU64 = AtomicU64::new(0);
        let disk = Disk::default();
        let (written, fallback) = sync_channel(8);
        let (go, wait) = channel();
        drop(go);
        let queue = start_with(Some(Box::new(disk.clone())), Stuck(wait, written), &LOST);
        let put = |line: &str, full| {
            disk.0.lock().unwrap().0 = full;
            queue.put(line.as_bytes().to_vec());
            queue.flush(Duration::from_secs(60));
        };
        put("a\n", false);
        put("b\n", true);
        put("c\n", true);
        put("d\n", false);
        assert_eq!(disk.0.lock().unwrap().1, ["a\n", "d\n"]);
        assert_eq!(fallback.try_iter().collect::<Vec<_>>(), [b"b\n", b"c\n"]);
    }
}
