//! What is made durable together: files first, then their names, then the manifest's lines that tell of them.
//!
//! A file system syncs many files at once in little more than the time of one, if they are asked for at the same time.

use super::manifest::{Line, Manifest};
use super::place::Place;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Files in one batch.
const FILES_MAX: usize = 128;
/// Messages in one batch, files or not.
const LINES_MAX: usize = 1_024;
/// Octets in one batch.
const OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Files synced at the same time.
const SYNCS_AT_ONCE: usize = 16;
/// What a name has behind it until its file is whole.
pub(super) const PART_SUFFIX: &str = ".part";

/// A file under its first name.
struct Part {
    place: Arc<Place>,
    file: File,
    name: String,
}

/// What waits to be made durable.
#[derive(Default)]
pub(super) struct Batch {
    parts: Vec<Part>,
    /// A file that messages were added to.
    grown: Option<Arc<File>>,
    lines: Vec<Line>,
    octets: u64,
}

impl Batch {
    /// A file that was written as `name` and [`PART_SUFFIX`].
    pub(super) fn add_file(&mut self, place: &Arc<Place>, file: File, name: String, octets: u64) {
        self.parts.push(Part { place: Arc::clone(place), file, name });
        self.octets += octets;
    }

    /// Octets that were added to a file.
    pub(super) fn add_to(&mut self, file: &Arc<File>, octets: u64) {
        self.grown = Some(Arc::clone(file));
        self.octets += octets;
    }

    /// What the manifest is to say once all that was added before is durable.
    pub(super) fn tell(&mut self, line: Line) {
        self.lines.push(line);
    }

    pub(super) fn is_full(&self) -> bool {
        self.parts.len() >= FILES_MAX || self.lines.len() >= LINES_MAX || self.octets >= OCTETS_MAX
    }

    /// Makes everything durable and has the manifest tell of it.
    pub(super) fn settle(&mut self, manifest: &mut Manifest) -> io::Result<()> {
        if let Some(file) = self.grown.take() {
            file.sync_data()?;
        }
        sync_all(&self.parts)?;
        let mut places: Vec<&Arc<Place>> = Vec::new();
        for Part { place, name, .. } in &self.parts {
            place.rename(&format!("{name}{PART_SUFFIX}"), name)?;
            if !places.iter().any(|known| Arc::ptr_eq(known, place)) {
                places.push(place);
            }
        }
        places.into_iter().try_for_each(|place| place.sync())?;
        if !self.lines.is_empty() {
            manifest.append(&self.lines)?;
        }
        *self = Batch::default();
        Ok(())
    }
}

fn sync_all(parts: &[Part]) -> io::Result<()> {
    let share = parts.len().div_ceil(SYNCS_AT_ONCE).max(1);
    std::thread::scope(|scope| {
        let sync = |parts: &[Part]| parts.iter().try_for_each(|part| part.file.sync_all());
        let threads: Vec<_> = parts
            .chunks(share)
            .map(|parts| std::thread::Builder::new().spawn_scoped(scope, move || sync(parts)))
            .collect::<io::Result<_>>()?;
        let failed = || Err(io::Error::other("a thread that syncs failed"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| failed()))
    })
}
