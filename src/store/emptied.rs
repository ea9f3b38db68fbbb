//! Segments in which no content is left: a file of their entries alone takes their place, `log/NNNNNNNN.entries`.
//!
//! Its octets are told in `emptied/format.rs`, read in `emptied/file.rs`, written in `emptied/exchange.rs`. Whoever reads a segment
//! does so through [`super::log::SegmentFile`] and sees the octets of the segment as they were, at the offsets they were at, with
//! zeros where payloads stood: the chain verifies, and the index's places hold.
//!
//! ```text
//! exchange   .seg ─ walk, whole? ─▶ .entries.new ─ sync, read back, the same walk? ─▶ rename ─▶ .entries ─ sync log/ ─▶ remove .seg ─ sync log/
//! ```
//! A crash leaves one of the two, or both: `.entries` is synced before it has its name, and then counts. What is left over is
//! removed by the next exchange of that segment, or the next start ([`tidy`]).
//!
//! **Older programs** know of no such files and would take what is in them for missing. The index (version 5) and the `freed`
//! entries refuse them, but an index may be removed, and those entries may themselves stand in such a file. So the first exchange
//! leaves `log/00000000.seg` behind: the header of a segment of version 2, a number that no segment has. Every version before this
//! one reads it, and refuses the log by name.

mod exchange;
mod file;
mod format;
#[cfg(test)]
mod in_store;
mod last;
#[cfg(test)]
mod tests;

pub(super) use exchange::{exchange, tidy};
pub(super) use file::{DamagedBlock, EntriesFile, OpenError};
pub(super) use last::LastRead;

use std::path::{Path, PathBuf};

/// The number that no segment has, and the file of which keeps older programs away.
pub(super) const BARRED_NUMBER: u64 = 0;

pub(super) fn entries_path(log_dir: &Path, number: u64) -> PathBuf {
    log_dir.join(entries_name(number))
}

fn entries_name(number: u64) -> String {
    format!("{number:08}.entries")
}
