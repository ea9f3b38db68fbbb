//! The way of a line to standard error or the file: through a bounded queue and a thread of its own.
//!
//! Whoever reads the log may stop reading (a pager, a stuck container log driver, a full pipe), and a disk may hang. Written
//! from the tasks that serve mail, a line would then stop the gateway. Here it waits in the queue; when that is full it is
//! dropped and counted, and `log.dropped` says how many were lost as soon as a line gets through again.
//!
//! With a file, standard error gets what the file did not take, so that a full disk loses no line while somebody listens
//! there: `log.file_failed` says when that began, and `log.dropped` how many lines the file lacks when it has ended.
//!
//! What the thread has to say itself ([`Voice`]) it writes at once: in the queue it would be the next line to be dropped.

use super::file::{LogFile, News};
use super::level::SharedLevel;
use super::line::Line;
use super::tap::Tap;
use super::{Format, Level, now, sink};
use crate::mail::Timestamp;
use serde_json::Value;
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait.
const LINES_MAX: usize = 8 * 1024;
/// Octets of them. Most lines have a few hundred; those of messages for very many users have some hundred thousand.
const OCTETS_MAX: usize = 32 * 1024 * 1024;
/// How long lost lines are gathered before they are told of while others wait: a slow reader has enough to read.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

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
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Lines dropped and not yet told of.
    dropped: AtomicU64,
    /// Octets of the lines that wait, and of the one being written.
    octets: AtomicUsize,
}

/// How the thread speaks for itself. Losses and failures are told whatever the level is: without them a log passes for whole.
pub(super) struct Voice {
    pub(super) format: Format,
    /// Levels stand out; for terminals.
    pub(super) colour: bool,
    /// The least severe events for the log.
    pub(super) level: Arc<SharedLevel>,
    /// Those who tail.
    pub(super) tap: Option<Arc<Tap>>,
}

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
pub(super) fn start(file: Option<LogFile>, voice: Voice) -> Queue {
    let file = file.map(|file| Box::new(file) as Box<dyn Target>);
    start_with(file, io::stderr(), voice)
}

fn start_with(
    file: Option<Box<dyn Target>>,
    standard_error: impl Write + Send + 'static,
    voice: Voice,
) -> Queue {
    let (items, waiting) = sync_channel(LINES_MAX);
    let counts = Arc::new(Counts::default());
    let mut outlet = Outlet {
        file,
        standard_error,
        voice,
        counts: Arc::clone(&counts),
        told_at: None,
        unfiled: 0,
        is_failure_told: false,
    };
    let spawned = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || waiting.into_iter().for_each(|item| outlet.take(item)));
    // A failed spawn drops the receiver, and each line then counts as dropped.
    drop(spawned);
    Queue { items, counts }
}

impl Counts {
    /// Takes room for a line; false when there is none.
    fn reserve(&self, octets: usize) -> bool {
        let more = |waiting: usize| waiting.checked_add(octets).filter(|sum| *sum <= OCTETS_MAX);
        self.octets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives room back; tells whether no line waits any more.
    fn release(&self, octets: usize) -> bool {
        self.octets.fetch_sub(octets, Ordering::Relaxed) == octets
    }
}

impl Queue {
    /// Takes a line with its line end. Never waits.
    pub(super) fn put(&self, line: Vec<u8>) {
        let octets = line.len();
        if self.counts.reserve(octets) {
            if self.items.try_send(Item::Line(line)).is_ok() {
                return;
            }
            self.counts.release(octets);
        }
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        super::metrics::log_line_dropped();
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
    voice: Voice,
    counts: Arc<Counts>,
    /// When lost lines were told of last.
    told_at: Option<Instant>,
    /// Lines the file lacks and has not been told of.
    unfiled: u64,
    /// That the file does not take lines was said, and it has not taken one since.
    is_failure_told: bool,
}

impl<W: Write> Outlet<W> {
    fn take(&mut self, item: Item) {
        let (mut octets, mut asked) = (0, None);
        match item {
            Item::Line(line) => {
                octets = line.len();
                self.line(&line);
            }
            Item::Reopen => self.reopen(),
            Item::Flush(answer) => asked = Some(answer),
        }
        let is_last = self.counts.release(octets);
        self.tell_dropped(is_last || asked.is_some());
        for news in self.file.as_mut().map(|file| file.news()).unwrap_or_default() {
            self.tell(news);
        }
        if let Some(answer) = asked {
            answer.send(()).ok();
        }
    }

    fn line(&mut self, line: &[u8]) {
        match self.put(line) {
            Ok(()) if self.unfiled > 0 => {
                let fields = [("lines", self.unfiled.into()), ("instead", "standard error".into())];
                if self.say(Level::Warn, "log.dropped", fields).is_ok() {
                    (self.unfiled, self.is_failure_told) = (0, false);
                }
            }
            Err(error) if !self.is_failure_told => {
                self.is_failure_told = true;
                self.tell_failed(&error);
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Writes to the file, or to standard error what the file does not take.
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.file.as_mut().map(|file| file.write(line, now()));
        if !matches!(written, Some(Ok(()))) {
            // A line that cannot be written there either is lost, as is a reader that went away.
            self.standard_error.write_all(line).ok();
        }
        let written = written.unwrap_or(Ok(()));
        self.unfiled += u64::from(written.is_err());
        written
    }

    fn reopen(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.reopen(now())
        {
            self.tell_failed(&error);
        }
    }

    /// Says how many lines were lost, unless it said so a moment ago and can say so later.
    fn tell_dropped(&mut self, must: bool) {
        if must || self.told_at.is_none_or(|at| at.elapsed() >= TELL_INTERVAL) {
            let lines = self.counts.dropped.swap(0, Ordering::Relaxed);
            if lines > 0 {
                self.told_at = Some(Instant::now());
                self.say(Level::Warn, "log.dropped", [("lines", lines.into())]).ok();
            }
        }
    }

    fn tell_failed(&mut self, error: &io::Error) {
        let path = self.file.as_ref().map(|file| file.path().display().to_string());
        let fields = [("path", path.into()), ("error", error.to_string().into())];
        // Goes where the line went.
        self.say(Level::Error, "log.file_failed", fields).ok();
    }

    fn tell(&mut self, news: News) {
        let said = match news {
            News::Rotated(aside) => {
                self.say(Level::Info, "log.rotated", [("aside", aside.display().to_string().into())])
            }
            News::Failed(doing, error) => {
                let fields = [("doing", doing.into()), ("error", error.to_string().into())];
                self.say(Level::Error, "log.rotate_failed", fields)
            }
            News::Reopened => self.say(Level::Info, "log.reopened", []),
        };
        // What the file did not take is counted.
        said.ok();
    }

    /// Writes an event of the log itself.
    fn say<const N: usize>(
        &mut self,
        level: Level,
        event: &str,
        fields: [(&'static str, Value); N],
    ) -> io::Result<()> {
        let fields = [("event", event.into())].into_iter().chain(fields);
        let fields = fields.map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        let line = Line { at: now(), level, fields };
        let json = line.to_json();
        let Voice { format, colour, level: wanted, tap } = &self.voice;
        let written = sink::written(&line, Some(&json), *format, *colour);
        let is_wanted = level <= wanted.get().max(Level::Warn);
        if let Some(tap) = tap
            && level <= tap.level()
        {
            tap.put(line, json);
        }
        if is_wanted { self.put(&written) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

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

    fn voice(level: Level) -> Voice {
        let level = Arc::new(SharedLevel::new(level));
        Voice { format: Format::Json, colour: false, level, tap: None }
    }

    /// A queue whose reader is stuck until the sender is dropped, and what is read then.
    fn stuck(level: Level) -> (Queue, Sender<()>, Receiver<Vec<u8>>) {
        let (go, wait) = channel();
        let (written, lines) = sync_channel(2 * LINES_MAX);
        (start_with(None, Stuck(wait, written), voice(level)), go, lines)
    }

    /// Lines of the log itself, and how many others there are.
    fn own_and_others(lines: &Receiver<Vec<u8>>) -> (Vec<Line>, u64) {
        let all: Vec<String> = lines.try_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        let own: Vec<Line> = all.iter().filter_map(|line| Line::parse(line)).collect();
        let others = (all.len() - own.len()) as u64;
        (own, others)
    }

    fn lines_of(event: &Line) -> u64 {
        assert_eq!((event.event(), event.level), ("log.dropped", Level::Warn));
        event.get("lines").and_then(Value::as_u64).unwrap()
    }

    #[test]
    fn a_reader_that_stopped_holds_nobody_up_and_is_told_how_many_lines_were_lost() {
        // Also a log of errors says that it is not whole.
        for level in [Level::Info, Level::Error] {
            let (queue, go, lines) = stuck(level);
            let all = LINES_MAX as u64 + 100;
            for n in 0..all {
                queue.put(format!("line {n}\n").into_bytes());
            }
            drop(go);
            assert_eq!(lines.recv().unwrap(), b"line 0\n");
            queue.flush(Duration::from_secs(60));
            let (own, others) = own_and_others(&lines);
            let [dropped] = &own[..] else { panic!("once: {own:?}") };
            // One line may have been with the writer already.
            assert!((99..=100).contains(&lines_of(dropped)), "{dropped:?}");
            assert_eq!(lines_of(dropped) + others + 1, all);
        }
    }

    #[test]
    fn long_lines_that_wait_are_bounded_in_octets_and_make_room_when_they_are_written() {
        let (queue, go, lines) = stuck(Level::Info);
        let mebibyte = || vec![b'x'; 1024 * 1024];
        for _ in 0..40 {
            queue.put(mebibyte());
        }
        assert_eq!(queue.counts.octets.load(Ordering::Relaxed), OCTETS_MAX);
        drop(go);
        queue.flush(Duration::from_secs(60));
        let (own, others) = own_and_others(&lines);
        assert_eq!((own.iter().map(lines_of).sum::<u64>(), others), (8, 32));
        assert_eq!(queue.counts.octets.load(Ordering::Relaxed), 0);
        queue.put(mebibyte());
        queue.flush(Duration::from_secs(60));
        assert_eq!(own_and_others(&lines).1, 1);
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
    fn what_a_full_disk_does_not_take_goes_to_standard_error_and_both_say_so() {
        let disk = Disk::default();
        let (written, fallback) = sync_channel(8);
        let (go, wait) = channel();
        drop(go);
        let queue = start_with(Some(Box::new(disk.clone())), Stuck(wait, written), voice(Level::Error));
        let put = |line: &str, full| {
            disk.0.lock().unwrap().0 = full;
            queue.put(line.as_bytes().to_vec());
            queue.flush(Duration::from_secs(60));
        };
        put("a\n", false);
        put("b\n", true);
        put("c\n", true);
        put("d\n", false);
        put("e\n", false);
        let filed = disk.0.lock().unwrap().1.clone();
        let [a, d, dropped, e] = &filed[..] else { panic!("{filed:?}") };
        assert_eq!([a, d, e], ["a\n", "d\n", "e\n"]);
        let dropped = Line::parse(dropped).unwrap();
        assert_eq!((lines_of(&dropped), dropped.text("instead").unwrap().as_ref()), (3, "standard error"));
        let fallback: Vec<Vec<u8>> = fallback.try_iter().collect();
        let [b, failed, c] = &fallback[..] else { panic!("{fallback:?}") };
        assert_eq!([b, c], [b"b\n", b"c\n"]);
        let failed = Line::parse(std::str::from_utf8(failed).unwrap()).unwrap();
        assert_eq!((failed.event(), failed.level), ("log.file_failed", Level::Error));
    }
}
