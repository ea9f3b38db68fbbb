//! The way of a line to standard error: through a bounded queue and a thread of its own.
//!
//! Whoever reads the log may stop reading (a pager, a stuck container log driver, a full pipe). Written from the tasks that
//! serve mail, a line would then stop the gateway. Here it waits in the queue; when that is full it is dropped and
//! counted, and the first line that gets through again says how many were lost.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES_MAX: usize = 8 * 1024;

/// The queue of this process, for [`flush`].
static QUEUE: OnceLock<Queue> = OnceLock::new();

enum Item {
    Line(Vec<u8>),
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

/// A queue whose lines a thread writes to standard error. Without a thread every line is dropped: that must not stop mail.
pub(super) fn to_standard_error() -> Queue {
    QUEUE.get_or_init(|| start(io::stderr(), &DROPPED)).clone()
}

fn start(output: impl Write + Send + 'static, dropped: &'static AtomicU64) -> Queue {
    let (items, waiting) = sync_channel(LINES_MAX);
    let spawned = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(output, &waiting, dropped));
    // A failed spawn drops the receiver, and each line then counts as dropped.
    drop(spawned);
    Queue { items, dropped }
}

/// Waits until what was logged so far is written, at most `wait`.
pub fn flush(wait: Duration) {
    let Some(queue) = QUEUE.get() else { return };
    let deadline = Instant::now() + wait;
    let (answer, written) = sync_channel(1);
    let mut item = Item::Flush(answer);
    loop {
        match queue.items.try_send(item) {
            Ok(()) => break,
            Err(std::sync::mpsc::TrySendError::Full(back)) if Instant::now() < deadline => item = back,
            Err(_) => return,
        }
        std::thread::yield_now();
    }
    let left = deadline.saturating_duration_since(Instant::now());
    match written.recv_timeout(left) {
        Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
    }
}

fn write_all(mut output: impl Write, items: &Receiver<Item>, dropped: &AtomicU64) {
    for item in items {
        match item {
            // A line that cannot be written is lost, as is a reader that went away.
            Item::Line(line) => drop(output.write_all(&line)),
            Item::Flush(answer) => drop(answer.send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(event = "log.dropped", lines = lost);
        }
    }
}

/// Gathers one line and puts it into the queue when it is whole.
pub(super) struct LineWriter {
    queue: Queue,
    line: Vec<u8>,
}

impl Write for LineWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if self.queue.items.try_send(Item::Line(std::mem::take(&mut self.line))).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
            super::metrics::log_line_dropped();
        }
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = LineWriter;

    fn make_writer(&self) -> LineWriter {
        LineWriter { queue: self.clone(), line: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

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
        let queue = start(Stuck(wait, written), &LOST);
        for n in 0..LINES_MAX + 100 {
            queue.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        let lost = LOST.load(Ordering::Relaxed);
        // One line may be with the writer already.
        assert!((99..=100).contains(&lost), "{lost}");
        go.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"0\n");
    }
}
