//! A message, or an object, written to its place.

use super::super::batch::PART_SUFFIX;
use super::super::copying::{CHUNK_OCTETS, Copying, Failed, copy, unread, unread_because};
use super::super::manifest::{Line, ObjectLine};
use super::super::mbox::{Lines, Marks, from_line};
use super::super::place::Place;
use super::super::{OpError, cannot_write};
use super::{OBJECTS_DIR, Work, object_name};
use crate::store::{CameBy, Digest, Entry, StoredMessage};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

impl Work<'_> {
    /// The octets of a message, opened, and their hash.
    fn copy(&self, stored: &StoredMessage, output: &mut dyn Write) -> Result<Digest, Failed> {
        let Some(key) = &self.key else {
            return Err(Failed::Work(OpError::Usage("say what opens the gateway mailbox".to_owned())));
        };
        let mut reader = self.reader.open_message(key, stored).map_err(unread)?;
        let (octets, sha256) = copy(&mut *reader, output).map_err(|error| self.failed(error))?;
        if octets != stored.octets {
            return Err(Failed::Stored(format!("it has {octets} octets, not {}", stored.octets)));
        }
        Ok(sha256)
    }

    pub(super) fn write_eml(
        &mut self,
        place: &Arc<Place>,
        name: String,
        entry: &Entry,
        stored: &StoredMessage,
    ) -> Result<Digest, Failed> {
        let part = format!("{name}{PART_SUFFIX}");
        let mut file = place.create(&part).map_err(|error| self.cannot(&error))?;
        let sha256 = match self.copy(stored, &mut file) {
            Ok(sha256) => sha256,
            Err(failed) => {
                place.remove(&part).map_err(|error| self.cannot(&error))?;
                return Err(failed);
            }
        };
        let received = Duration::from_millis(entry.received_at.unix_ms().unsigned_abs());
        file.set_modified(UNIX_EPOCH + received).map_err(|error| self.cannot(&error))?;
        self.batch.add_file(place, file, name, stored.octets);
        Ok(sha256)
    }

    pub(super) fn write_mbox(
        &mut self,
        file: &Arc<File>,
        end: &mut u64,
        entry: &Entry,
        stored: &StoredMessage,
        came_by: Option<&CameBy>,
    ) -> Result<Digest, Failed> {
        let write = || -> Result<Digest, Failed> {
            (&**file).seek(SeekFrom::Start(*end)).map_err(|error| self.cannot(&error))?;
            let mut output = BufWriter::with_capacity(CHUNK_OCTETS, &**file);
            let from = from_line(came_by.map(|came_by| &came_by.reverse_path), entry.received_at);
            output.write_all(from.as_bytes()).map_err(|error| self.cannot(&error))?;
            let mut lines = Lines::new(output, Marks::Added);
            let sha256 = self.copy(stored, &mut lines)?;
            let ended = lines.finish().and_then(|(mut output, has_end)| {
                output.write_all(if has_end { b"\n" } else { b"\n\n" })?;
                output.flush()
            });
            ended.map_err(|error| self.cannot(&error))?;
            Ok(sha256)
        };
        match write() {
            Ok(sha256) => {
                let begun = *end;
                *end = (&**file).stream_position().map_err(|error| self.cannot(&error))?;
                self.batch.add_to(file, *end - begun);
                Ok(sha256)
            }
            Err(failed) => {
                file.set_len(*end).map_err(|error| self.cannot(&error))?;
                Err(failed)
            }
        }
    }

    /// The numbers in an export are those of one store: another, or one that was restored, may have given them to something else.
    pub(super) fn compare(&self, object: u64, sha256: Digest) -> Result<(), Failed> {
        if self.reader.sealed_sha256(object).map_err(unread)? == sha256 {
            return Ok(());
        }
        Err(Failed::Work(OpError::Refused(format!(
            "object {object} is another in the store than in {}: was the store restored? Export to another directory",
            self.asked.to.display()
        ))))
    }

    pub(super) fn write_object(&mut self, place: &Arc<Place>, object: u64) -> Result<(), Failed> {
        let mut sealed = self.reader.sealed(object).map_err(|error| self.failed(Copying::Reading(error)))?;
        let name = object_name(object);
        let part = format!("{name}{PART_SUFFIX}");
        let mut file = place.create(&part).map_err(|error| self.cannot(&error))?;
        let copied = copy(&mut *sealed.reader, &mut file).map_err(|error| self.failed(error));
        let copied = copied.and_then(|copied| match copied == (sealed.octets, sealed.sha256) {
            true => Ok(()),
            false => Err(Failed::Stored(format!("object {object}: hash does not match"))),
        });
        if let Err(failed) = copied {
            place.remove(&part).map_err(|error| self.cannot(&error))?;
            return Err(failed);
        }
        let (octets, sha256) = (sealed.octets, sealed.sha256);
        let line = ObjectLine { object, path: format!("{OBJECTS_DIR}/{name}"), octets, sha256 };
        self.batch.add_file(place, file, name, octets);
        self.batch.tell(Line::Object(line));
        // Known from now on: what is not durable yet is so before the manifest tells of whatever needs it.
        self.manifest.known.objects.insert(object, sha256);
        Ok(())
    }

    fn cannot(&self, error: &io::Error) -> Failed {
        Failed::Work(cannot_write(self.asked.to.display(), error))
    }

    fn failed(&self, error: Copying) -> Failed {
        match error {
            Copying::Reading(error) => unread_because(&error),
            Copying::Writing(error) => self.cannot(&error),
        }
    }
}
