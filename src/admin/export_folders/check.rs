//! An export held against its manifest: needs no store and no key.

use super::batch::PART_SUFFIX;
use super::manifest::{self, Known, KnownMessage, Line, MANIFEST_FILE, MessageLine};
use super::mbox::{Lines, Marks};
use super::place::Place;
use super::work::{OBJECTS_DIR, in_eml_name, in_object_name};
use super::{ExportFormat, ExportProgress, OpError, at};
use crate::mail::ReceiptId;
use crate::store::Digest;
use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Differences that are named; beyond that they are counted.
const DIFFERENCES_MAX: usize = 1_000;
/// Octets read at a time.
const CHUNK_OCTETS: usize = 256 * 1024;
/// Longest line before a message of an mbox, in octets.
const FROM_LINE_OCTETS_MAX: u64 = 4_096;
/// How deep directories of an export lie in each other, at most.
const DEPTH_MAX: usize = 8;

/// Something that is not as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where, from the directory of the export.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// The receipt of the message it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<ReceiptId>,
}

/// What an export was found to be.
#[derive(Clone, Debug, Serialize)]
pub struct ExportChecked {
    /// The directory.
    pub to: PathBuf,
    /// How messages are written in it.
    pub format: ExportFormat,
    /// Address of the gateway mailbox, when the export was begun.
    pub gateway_mailbox: String,
    /// Messages in the manifest.
    pub messages: u64,
    /// Octets read.
    pub octets: u64,
    /// False when an export was broken off, or none came to its end yet: the same command goes on with it.
    pub is_finished: bool,
    /// Messages that the last export could not read in the store.
    pub damaged_in_store: u64,
    /// Messages that the last export left out, since they are sealed to a former key that was not given.
    pub former_key: u64,
    /// How much is not as the manifest says.
    pub differing: u64,
    /// The first thousand of that.
    pub differences: Vec<Difference>,
}

struct Looking<'a> {
    place: Place,
    known: Known,
    checked: ExportChecked,
    /// Sealed octets of each object.
    objects: HashMap<u64, u64>,
    /// The directory that was looked at last.
    last: Option<(String, Place)>,
    /// The mbox that was looked at last.
    mbox: Option<(String, File)>,
    so_far: ExportProgress,
    progress: &'a mut dyn FnMut(&ExportProgress),
}

/// Reads an export again and compares it with its manifest. `progress` hears how far it is.
///
/// # Errors
/// [`OpError::Refused`] when there is no export, its manifest is damaged, or an export is at work; [`OpError::Unavailable`] when it
/// cannot be read.
pub fn check_export(to: &Path, progress: &mut dyn FnMut(&ExportProgress)) -> Result<ExportChecked, OpError> {
    let unread = |error: io::Error| OpError::Unavailable(format!("read {}: {error}", to.display()));
    let place = Place::open(to).map_err(unread)?;
    let file = manifest::open_to_read(&place).map_err(|error| match error {
        manifest::ManifestError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            OpError::Refused(format!("{} holds no export", to.display()))
        }
        error => at(to, error),
    })?;
    let (mut known, mut so_far) = (Known::default(), ExportProgress::default());
    let (mut is_finished, mut damaged_in_store, mut former_key) = (false, 0, 0);
    let whole = manifest::read(&file, &mut |line| {
        known.take(&line);
        match &line {
            Line::Object(object) => so_far.octets_total += object.octets,
            Line::Message(message) => {
                let is_read = message.path.is_some() && message.same_as.is_none();
                so_far.octets_total += if is_read { message.octets } else { 0 };
            }
            Line::Run(run) => {
                damaged_in_store = run.damaged.len() as u64;
                former_key = run.former_key.len() as u64;
            }
            _ => {}
        }
        is_finished = matches!(line, Line::Run(_));
    })
    .map_err(|error| at(to, error))?;
    let Some(header) = known.header.clone() else {
        return Err(OpError::Refused(format!(
            "{} holds no export, or the very beginning of one",
            to.display()
        )));
    };
    is_finished &= file.metadata().map_err(unread)?.len() == whole;
    let checked = ExportChecked {
        to: to.to_owned(),
        format: header.format,
        gateway_mailbox: header.address,
        messages: known.messages,
        octets: 0,
        is_finished,
        damaged_in_store,
        former_key,
        differing: 0,
        differences: Vec::new(),
    };
    let (objects, last, mbox) = (HashMap::new(), None, None);
    let mut looking = Looking { place, known, checked, objects, last, mbox, so_far, progress };
    manifest::read(&file, &mut |line| looking.line(&line)).map_err(|error| at(to, error))?;
    looking.strangers().map_err(unread)?;
    looking.checked.octets = looking.so_far.octets;
    Ok(looking.checked)
}

impl Looking<'_> {
    fn tell(&mut self, path: &str, what: String, receipt_id: Option<ReceiptId>) {
        self.checked.differing += 1;
        if self.checked.differences.len() < DIFFERENCES_MAX {
            self.checked.differences.push(Difference { path: path.to_owned(), what, receipt_id });
        }
    }

    fn line(&mut self, line: &Line) {
        match line {
            Line::Object(object) => {
                self.objects.insert(object.object, object.octets);
                if let Err(what) = self.file(&object.path, object.octets, Some(object.sha256)) {
                    self.tell(&object.path, what, None);
                }
            }
            Line::Message(message) => {
                let looked = match (&message.path, message.start.zip(message.end), message.same_as) {
                    (Some(_), _, Some(uid)) => self.same(message, uid),
                    (Some(path), None, None) => self.file(path, message.octets, message.sha256),
                    (Some(path), Some(run), None) => self.run(path, run, message),
                    (None, _, _) => self.extents(message),
                };
                if let Err(what) = looked {
                    let path = message.path.as_deref().unwrap_or(&message.folder).to_owned();
                    self.tell(&path, what, Some(message.receipt_id));
                }
            }
            Line::Export(_) | Line::Folder(_) | Line::Run(_) => {}
        }
    }

    fn advance(&mut self, octets: u64) {
        self.so_far.octets += octets;
        (self.progress)(&self.so_far);
    }

    fn open(&mut self, path: &str) -> Result<File, String> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => "is not there".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        if self.last.as_ref().is_none_or(|(last, _)| last != dir) {
            self.last = Some((dir.to_owned(), self.place.at(dir, false).map_err(unread)?));
        }
        let (_, place) = self.last.as_ref().ok_or_else(|| "is not there".to_owned())?;
        place.read(name).map_err(unread)
    }

    /// A file of its own.
    fn file(&mut self, path: &str, octets: u64, sha256: Option<Digest>) -> Result<(), String> {
        let mut hashing = Hashing::new(u64::MAX);
        let copied = io::copy(&mut BufReader::with_capacity(CHUNK_OCTETS, self.open(path)?), &mut hashing);
        copied.map_err(|error| format!("cannot be read: {error}"))?;
        self.advance(hashing.octets);
        if hashing.octets != octets {
            return Err(format!("has {} octets, not {octets}", hashing.octets));
        }
        if sha256.is_some_and(|sha256| hashing.finish() != sha256) {
            return Err("its hash is not that in the manifest".to_owned());
        }
        Ok(())
    }

    /// A run of an mbox.
    fn run(&mut self, path: &str, (start, end): (u64, u64), message: &MessageLine) -> Result<(), String> {
        let unread = |error: io::Error| format!("octets {start} to {end} cannot be read: {error}");
        let file = match self.mbox.take() {
            Some((last, file)) if last == path => file,
            _ => self.open(path)?,
        };
        let mut reader = BufReader::with_capacity(CHUNK_OCTETS, &file);
        reader.seek(SeekFrom::Start(start)).map_err(unread)?;
        let mut from = Vec::new();
        (&mut reader).take(FROM_LINE_OCTETS_MAX).read_until(b'\n', &mut from).map_err(unread)?;
        // Behind the message stands an empty line.
        let inside = (end - start.min(end)).checked_sub(from.len() as u64 + 1);
        let mut lines = Lines::new(Hashing::new(message.octets), Marks::Removed);
        let copied =
            io::copy(&mut (&mut reader).take(inside.unwrap_or_default()), &mut lines).map_err(unread)?;
        let mut behind = Vec::new();
        (&mut reader).take(1).read_to_end(&mut behind).map_err(unread)?;
        let (hashing, _) = lines.finish().map_err(unread)?;
        self.mbox = Some((path.to_owned(), file));
        self.advance(message.octets);
        let is_one = from.starts_with(b"From ") && inside == Some(copied) && behind == b"\n";
        if !is_one
            || hashing.octets != message.octets
            || !(hashing.behind.is_empty() || hashing.behind == b"\n")
        {
            return Err(format!("octets {start} to {end} are not one message of {} octets", message.octets));
        }
        if message.sha256.is_some_and(|sha256| hashing.finish() != sha256) {
            return Err(format!("octets {start} to {end}: their hash is not that in the manifest"));
        }
        Ok(())
    }

    /// A message that stands in the export under another UID, whose line is looked at by itself.
    fn same(&self, message: &MessageLine, uid: u32) -> Result<(), String> {
        let known = self.known.folders.get(&message.folder).and_then(|folder| folder.uids.get(&uid));
        let is_it = |known: &KnownMessage| {
            (known.receipt_id, known.message) == (message.receipt_id, message.message) && !known.is_again
        };
        if known.is_some_and(is_it) {
            return Ok(());
        }
        Err(format!("UID {}: it is not the message of UID {uid}", message.uid))
    }

    /// What a message of a sealed export is made of.
    fn extents(&self, message: &MessageLine) -> Result<(), String> {
        let octets = message.extents.iter().map(|extent| extent.octets).fold(0, u64::saturating_add);
        let fits = |octets: u64, extent: &crate::store::StoredExtent| {
            extent.offset.checked_add(extent.octets).is_some_and(|end| end <= octets)
        };
        for extent in &message.extents {
            match self.objects.get(&extent.object) {
                None => return Err(format!("UID {}: object {} is not exported", message.uid, extent.object)),
                Some(octets) if !fits(*octets, extent) => {
                    return Err(format!(
                        "UID {}: it is beyond the end of object {}",
                        message.uid, extent.object
                    ));
                }
                Some(_) => {}
            }
        }
        if octets == message.octets {
            return Ok(());
        }
        Err(format!("UID {}: its extents have {octets} octets, not {}", message.uid, message.octets))
    }

    /// What is there and not in the manifest.
    fn strangers(&mut self) -> io::Result<()> {
        let mut dirs = BTreeSet::new();
        let mut files: HashMap<String, Option<u64>> = HashMap::from([(MANIFEST_FILE.to_owned(), None)]);
        let mut folders = HashMap::new();
        let format = self.checked.format;
        for folder in self.known.folders.values() {
            let dir = match format {
                ExportFormat::Eml => folder.path.as_str(),
                ExportFormat::Mbox => folder.path.rsplit_once('/').map_or("", |(dir, _)| dir),
                ExportFormat::Sealed => OBJECTS_DIR,
            };
            dirs.extend(dir.match_indices('/').filter_map(|(at, _)| dir.get(..at)).map(str::to_owned));
            dirs.insert(dir.to_owned());
            match format {
                ExportFormat::Eml => drop(folders.insert(folder.path.clone(), &folder.uids)),
                ExportFormat::Mbox => drop(files.insert(folder.path.clone(), Some(folder.end))),
                ExportFormat::Sealed => {}
            }
        }
        let is_known = |dir: &str, name: &str, path: &str| {
            let of_folder = || {
                let (uid, receipt_id) = in_eml_name(name)?;
                folders.get(dir)?.get(&uid).filter(|known| known.receipt_id == receipt_id && !known.is_again)
            };
            let is_object = || {
                dir == OBJECTS_DIR
                    && format == ExportFormat::Sealed
                    && in_object_name(name).is_some_and(|object| self.known.objects.contains_key(&object))
            };
            files.contains_key(path) || of_folder().is_some() || is_object()
        };
        let mut found = Vec::new();
        let mut count = 0_u64;
        walk(&self.place, "", DEPTH_MAX, &dirs, &mut |dir, name, path, is_dir| {
            if is_dir || !is_known(dir, name, path) {
                count += 1;
                if found.len() < DIFFERENCES_MAX {
                    found.push(path.to_owned());
                }
            }
        })?;
        let mut longer = Vec::new();
        for (path, end) in &files {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            let octets = || Some(self.place.at(dir, false).ok()?.read(name).ok()?.metadata().ok()?.len());
            if let Some(end) = end
                && octets().is_some_and(|octets| octets > *end)
            {
                longer.push(path.clone());
            }
        }
        let named = found.len() as u64;
        for path in found {
            let what = if path.ends_with(PART_SUFFIX) {
                "is left of an export that was broken off: the next one takes it away"
            } else {
                "is not in the manifest"
            };
            self.tell(&path, what.to_owned(), None);
        }
        self.checked.differing += count - named;
        for path in longer {
            self.tell(&path, "goes on behind what the manifest says".to_owned(), None);
        }
        Ok(())
    }
}

type Take<'t> = dyn FnMut(&str, &str, &str, bool) + 't;

/// Hands on every file, and every directory that is not one of `dirs`: with its directory, its name, and its path.
fn walk(
    place: &Place,
    dir: &str,
    depth: usize,
    dirs: &BTreeSet<String>,
    take: &mut Take<'_>,
) -> io::Result<()> {
    let mut inner = Vec::new();
    place.for_each(&mut |name, is_dir| {
        let path = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
        if is_dir && dirs.contains(&path) && depth > 0 {
            inner.push((name.to_owned(), path));
        } else {
            take(dir, name, &path, is_dir);
        }
        Ok(())
    })?;
    inner.into_iter().try_for_each(|(name, path)| walk(&place.inner(&name)?, &path, depth - 1, dirs, take))
}

/// Hashes the first octets written to it, and keeps a few behind those.
struct Hashing {
    context: Context,
    octets: u64,
    octets_max: u64,
    behind: Vec<u8>,
}

impl Hashing {
    fn new(octets_max: u64) -> Hashing {
        Hashing { context: Context::new(&SHA256), octets: 0, octets_max, behind: Vec::new() }
    }

    fn finish(self) -> Digest {
        Digest::from_ring(&self.context.finish())
    }
}

impl Write for Hashing {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.octets_max - self.octets).unwrap_or(usize::MAX);
        let (inside, behind) = octets.split_at_checked(left).unwrap_or((octets, &[]));
        self.context.update(inside);
        self.octets += inside.len() as u64;
        // One is what a message without a line end got; two are wrong, however many follow.
        let room = 2_usize.saturating_sub(self.behind.len());
        self.behind.extend(behind.iter().take(room));
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
