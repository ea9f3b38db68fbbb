//! The file of entries that one was read from last, kept open: entries are asked for one by one, mostly in their order, and the
//! next stands in the same block as a rule, which need not be found and inflated again.

use crate::store::log::{Octets, SegmentFile};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// See the page.
#[derive(Debug, Default)]
pub(in crate::store) struct LastRead(Mutex<Option<(u64, Arc<SegmentFile>)>>);

impl LastRead {
    /// Fills `into` with octets of segment `number` from `at` on.
    ///
    /// # Errors
    /// As those of [`SegmentFile::open`] and of reading it.
    pub(in crate::store) fn fill(
        &self,
        log_dir: &Path,
        number: u64,
        into: &mut [u8],
        at: u64,
    ) -> io::Result<()> {
        let last = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last().as_ref().filter(|(known, _)| *known == number).map(|(_, file)| Arc::clone(file));
        // What cannot be read may have been put right by another file of that name.
        if known.is_some_and(|file| file.fill(into, at).is_ok()) {
            return Ok(());
        }
        let file = SegmentFile::open(log_dir, number)?;
        file.fill(into, at)?;
        if file.is_emptied() {
            *last() = Some((number, Arc::new(file)));
        }
        Ok(())
    }
}
