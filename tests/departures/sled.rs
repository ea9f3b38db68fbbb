//! `sled`, the store that the design card names: its `flush` asks the kernel to write, never the disk to keep.
//!
//! Only a tracer sees which calls a process makes, so this needs strace and is run by `tests/real.sh`. What power cuts do
//! to its files, and its memory on millions of records, takes longer than a test may.

use super::{child, still};

const OWN_LOG: &str = "D3, an append-only log of our own";

/// Durable commits, as `sled`'s documentation has it: "flushes all dirty IO buffers and calls fsync".
const COMMITS: usize = 100;

/// Asked of the kernel before the first and behind the last commit, to be found in the trace: no such file exists.
const BEGIN: &str = "/daybook-departures-begin";
const END: &str = "/daybook-departures-end";

/// Opens a database, commits, and marks in the trace where the commits begin and end.
fn commit() {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::open(dir.path()).unwrap();
    assert!(!std::fs::exists(BEGIN).unwrap());
    for n in 0..COMMITS {
        // One in ten too large for a page, which sled keeps in a file of its own.
        let octets = if n % 10 == 9 { 200_000 } else { 2_000 };
        db.insert(n.to_be_bytes(), vec![b'x'; octets]).unwrap();
        db.flush().unwrap();
    }
    assert!(!std::fs::exists(END).unwrap());
}

#[test]
fn flush_never_syncs() {
    let calls = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync,statx,newfstatat,access,faccessat2";
    let strace = ["strace", "-f", "-qq", "-e", "signal=none", "-e", calls];
    let ended = child::run_under(&strace, "sled::flush_never_syncs", commit);
    assert!(ended.survived(), "the child failed: {}", ended.complaint());
    // Without a file to write to, strace says it all to stderr.
    let trace = String::from_utf8_lossy(&ended.output.stderr);
    let during =
        trace.lines().skip_while(|line| !line.contains(BEGIN)).take_while(|line| !line.contains(END));
    let during: Vec<&str> = during.collect();
    assert!(trace.contains(END) && !during.is_empty(), "the marks are missing:\n{trace}");
    let calls = |names: &[&str]| {
        let is_one = |line: &&&str| names.iter().any(|name| line.contains(&format!(" {name}(")));
        during.iter().filter(is_one).count()
    };
    // Opening leaves one or two to a thread of its own, which may fall between the marks.
    let synced = calls(&["fsync", "fdatasync", "syncfs", "sync", "msync"]);
    still(synced < COMMITS / 10, OWN_LOG, "flush is sync_file_range, never fsync");
    assert!(calls(&["sync_file_range"]) >= COMMITS, "flush does something else now:\n{}", during.join("\n"));
}
