//! Octets copied out of the store, and whose fault it is when that fails.

use super::OpError;
use crate::store::{Digest, StoreError};
use aws_lc_rs::digest::{Context, SHA256};
use std::io::{self, Read, Write};

/// Octets copied at a time.
pub(super) const CHUNK_OCTETS: usize = 256 * 1024;

/// Why a message was not exported.
pub(super) enum Failed {
    /// It is not as it was stored, or not there.
    Stored(String),
    /// It is sealed to a key that was not given.
    LacksKey,
    /// The work cannot go on.
    Work(OpError),
}

/// Which side of a copy failed.
pub(super) enum Copying {
    Reading(io::Error),
    Writing(io::Error),
}

pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(u64, Digest), Copying> {
    let (mut hash, mut octets, mut chunk) = (Context::new(&SHA256), 0, vec![0; CHUNK_OCTETS]);
    loop {
        let read = from.read(&mut chunk).map_err(Copying::Reading)?;
        if read == 0 {
            return Ok((octets, Digest::from_ring(&hash.finish())));
        }
        let read = chunk.get(..read).unwrap_or_default();
        hash.update(read);
        octets += read.len() as u64;
        to.write_all(read).map_err(Copying::Writing)?;
    }
}

pub(super) fn unread(error: StoreError) -> Failed {
    match error {
        StoreError::Damaged(why) | StoreError::IndexDamaged(why) => Failed::Stored(why),
        StoreError::Gone => Failed::Stored("what the log says of it is lost".to_owned()),
        StoreError::LacksKey => Failed::LacksKey,
        StoreError::Io(error, _) => unread_because(&error),
        error => Failed::Work(error.into()),
    }
}

/// What this process may not or cannot read now ends the work; whatever else is wrong, is with the message.
pub(super) fn unread_because(error: &io::Error) -> Failed {
    use rustix::io::Errno;
    let is_short = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let is_ours = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory);
    if is_ours || [Errno::MFILE, Errno::NFILE].into_iter().any(is_short) {
        return Failed::Work(OpError::Unavailable(format!("read the store: {error}")));
    }
    Failed::Stored(error.to_string())
}
