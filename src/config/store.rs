//! `[store]`: how the store looks after itself.

use super::check::Reader;
use super::section::Section;
use super::settings::{Toml, path};
use std::path::PathBuf;

/// Slowest scrub, in octets a second: a terabyte in half a year.
const SCRUB_BYTES_MIN: u64 = 64 * 1024;
/// Smallest ballast, in octets: room for a few thousand deletions.
const BALLAST_BYTES_MIN: u64 = 1024 * 1024;
/// Fastest scrub, in octets a second: more than any disk reads.
const SCRUB_BYTES_MAX: u64 = 1 << 40;
/// Largest ballast, in octets: 1 GiB.
const BALLAST_BYTES_MAX: u64 = 1 << 30;

/// How the store looks after itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// `checkpoint_dir`: a folder, best on another machine's disk, that every signed checkpoint is written to as well: who
    /// holds it can tell whether the end of the log was lost. Must be there; one that cannot be written to is an alarm and
    /// stops nothing. Default: absent, checkpoints are kept in `data_dir` and told to the log only.
    pub checkpoint_dir: Option<PathBuf>,
    /// `scrub_bytes_per_second`: how fast what is stored is read again in the background, to find damage while there are
    /// backups still. `0` is never. Default 8 MiB.
    pub scrub_bytes_per_second: u64,
    /// `ballast_bytes`: a file of so many octets in `data_dir`, given up when the disk is full, so that fetching and deleting
    /// go on. `0` is none. Default 64 MiB.
    pub ballast_bytes: u64,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            checkpoint_dir: None,
            scrub_bytes_per_second: 8 * 1024 * 1024,
            ballast_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Store {
    pub(super) fn to_toml(&self, out: &mut Toml) {
        out.section("[store]");
        if let Some(dir) = &self.checkpoint_dir {
            out.key("checkpoint_dir", path(dir));
        }
        out.key("scrub_bytes_per_second", self.scrub_bytes_per_second);
        out.key("ballast_bytes", self.ballast_bytes);
    }
}

impl Reader<'_> {
    pub(super) fn store(&mut self, mut section: Section<'_, '_>) -> Store {
        let mut store = Store::default();
        let dir = section.string("checkpoint_dir", self.problems);
        store.checkpoint_dir = dir.and_then(|dir| self.path(&section, "checkpoint_dir", dir));
        let default = store.scrub_bytes_per_second;
        let given = section.number_or_zero(
            "scrub_bytes_per_second",
            SCRUB_BYTES_MIN..=SCRUB_BYTES_MAX,
            "octets a second",
            self.problems,
        );
        store.scrub_bytes_per_second = given.unwrap_or(default);
        let default = store.ballast_bytes;
        let given = section.number_or_zero(
            "ballast_bytes",
            BALLAST_BYTES_MIN..=BALLAST_BYTES_MAX,
            "octets",
            self.problems,
        );
        store.ballast_bytes = given.unwrap_or(default);
        section.finish(self.problems);
        store
    }
}
