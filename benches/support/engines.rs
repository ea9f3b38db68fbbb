//! What else one could keep messages in: the baselines of `commit.rs`.

use rusqlite::Connection;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Largest group, as the store's committer has it.
const GROUP_MESSAGES_MAX: usize = 256;
/// Largest group in octets, as the store's committer has it.
const GROUP_OCTETS_MAX: usize = 32 * 1024 * 1024;

/// Makes a group of messages durable, in one go.
pub(crate) trait Group: Send {
    fn commit(&mut self, group: &[Vec<u8>]);
}

/// Frames of a length and a message, appended; one fdatasync for a group. Nothing can be faster that syncs.
pub(crate) struct BareLog {
    file: File,
    buffer: Vec<u8>,
}

impl BareLog {
    pub(crate) fn new(dir: &Path) -> BareLog {
        BareLog { file: File::create(dir.join("log")).expect("a file"), buffer: Vec::new() }
    }
}

impl Group for BareLog {
    fn commit(&mut self, group: &[Vec<u8>]) {
        self.buffer.clear();
        for message in group {
            self.buffer.extend_from_slice(&(message.len() as u64).to_le_bytes());
            self.buffer.extend_from_slice(message);
        }
        self.file.write_all(&self.buffer).expect("write");
        self.file.sync_data().expect("fdatasync");
    }
}

/// Bodies as rows; one transaction for a group, durable when it is committed.
pub(crate) struct Sqlite(Connection);

impl Sqlite {
    pub(crate) fn new(dir: &Path) -> Sqlite {
        let connection = Connection::open(dir.join("bodies.sqlite")).expect("a database");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE body (id INTEGER PRIMARY KEY, octets BLOB NOT NULL);",
            )
            .expect("a table");
        Sqlite(connection)
    }
}

impl Group for Sqlite {
    fn commit(&mut self, group: &[Vec<u8>]) {
        let transaction = self.0.transaction().expect("begin");
        {
            let insert = transaction.prepare_cached("INSERT INTO body (octets) VALUES (?1)");
            let mut insert = insert.expect("a statement");
            for message in group {
                insert.execute([message]).expect("insert");
            }
        }
        transaction.commit().expect("commit");
    }
}

/// A message to commit and whom to tell.
type Submitted = (Vec<u8>, mpsc::SyncSender<()>);

/// `writers` threads that each submit a message and wait until it is durable, together `iterations` messages; one thread
/// commits whatever waits. How long that took.
pub(crate) fn grouped(
    group: &mut dyn Group,
    writers: u64,
    iterations: u64,
    message: impl Fn() -> Vec<u8> + Sync,
) -> Duration {
    let (submit, submitted) = mpsc::sync_channel::<Submitted>(1024);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (submit, message) = (submit.clone(), &message);
            scope.spawn(move || {
                for _ in 0..share(writer, writers, iterations) {
                    let (tell, told) = mpsc::sync_channel(1);
                    submit.send((message(), tell)).expect("a committer");
                    told.recv().expect("an answer");
                }
            });
        }
        drop(submit);
        commit_all(group, &submitted);
    });
    started.elapsed()
}

fn commit_all(group: &mut dyn Group, submitted: &mpsc::Receiver<Submitted>) {
    while let Ok((first, tell)) = submitted.recv() {
        let mut octets = first.len();
        let (mut messages, mut waiting) = (vec![first], vec![tell]);
        while messages.len() < GROUP_MESSAGES_MAX && octets < GROUP_OCTETS_MAX {
            let Ok((message, tell)) = submitted.try_recv() else { break };
            octets += message.len();
            messages.push(message);
            waiting.push(tell);
        }
        group.commit(&messages);
        for tell in waiting {
            tell.send(()).expect("a writer");
        }
    }
}

/// The same with `sled`, where each writer inserts and flushes for itself: its own way to group.
pub(crate) fn sled(
    db: &sled::Db,
    writers: u64,
    iterations: u64,
    message: impl Fn() -> Vec<u8> + Sync,
) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let message = &message;
            scope.spawn(move || {
                for _ in 0..share(writer, writers, iterations) {
                    let id = db.generate_id().expect("an id");
                    db.insert(id.to_be_bytes(), message()).expect("insert");
                    db.flush().expect("flush");
                }
            });
        }
    });
    started.elapsed()
}

/// How many of `iterations` are this writer's.
pub(crate) fn share(writer: u64, writers: u64, iterations: u64) -> u64 {
    iterations / writers + u64::from(writer < iterations % writers)
}
