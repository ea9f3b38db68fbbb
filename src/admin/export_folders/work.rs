//! The work of an export: folder by folder, entry by entry, what is not in the manifest yet.

use super::batch::{Batch, PART_SUFFIX};
use super::copying::{Failed, unread};
use super::found::Found;
use super::manifest::{FolderLine, KnownFolder, Line, MANIFEST_FILE, Manifest, MessageLine, RunLine};
use super::names::{Names, parts};
use super::place::Place;
use super::plan::{Plan, Wanted};
use super::{ExportFormat, ExportProgress, FolderExported, FoldersExport, OpError, cannot_write};
use crate::fetch::stored::uidl;
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::observe::now;
use crate::store::{FolderStatus, Reader, Unlocked};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Where objects are.
pub(super) const OBJECTS_DIR: &str = "objects";
const EML_SUFFIX: &str = ".eml";
const MBOX_SUFFIX: &str = ".mbox";
const AGE_SUFFIX: &str = ".age";

/// Where the messages of a folder are written.
enum Target {
    Eml(Arc<Place>),
    Mbox { file: Arc<File>, end: u64 },
    Sealed(Arc<Place>),
}

mod writing;

pub(super) struct Work<'a> {
    reader: &'a Reader,
    key: Option<Unlocked>,
    gateway_mailbox: GatewayMailboxId,
    asked: &'a FoldersExport,
    place: Place,
    manifest: Manifest,
    names: Names,
    batch: Batch,
    found: Found,
    so_far: ExportProgress,
}

/// `0000000001-<receipt id>.eml`
fn eml_name(uid: u32, receipt_id: ReceiptId) -> String {
    format!("{uid:010}-{receipt_id}{EML_SUFFIX}")
}

/// The UID and receipt in such a name.
pub(super) fn in_eml_name(name: &str) -> Option<(u32, ReceiptId)> {
    let (uid, receipt_id) = name.strip_suffix(EML_SUFFIX)?.split_once('-')?;
    let found = (uid.parse().ok()?, receipt_id.parse().ok()?);
    (eml_name(found.0, found.1) == name).then_some(found)
}

fn object_name(object: u64) -> String {
    format!("{object}{AGE_SUFFIX}")
}

/// The object in such a name.
pub(super) fn in_object_name(name: &str) -> Option<u64> {
    let object = name.strip_suffix(AGE_SUFFIX)?.parse().ok()?;
    (object_name(object) == name).then_some(object)
}

impl<'a> Work<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        key: Option<Unlocked>,
        gateway_mailbox: GatewayMailboxId,
        asked: &'a FoldersExport,
        place: Place,
        manifest: Manifest,
    ) -> Work<'a> {
        let mut names = Names::new(&[MANIFEST_FILE, OBJECTS_DIR]);
        for KnownFolder { parts, path, .. } in manifest.known.folders.values() {
            names.know(parts, path.strip_suffix(MBOX_SUFFIX).unwrap_or(path));
        }
        let (batch, found, so_far) = (Batch::default(), Found::default(), ExportProgress::default());
        Work { reader, key, gateway_mailbox, asked, place, manifest, names, batch, found, so_far }
    }

    /// Exports the folders that `choose` takes.
    ///
    /// What is in all of them is asked at one moment and kept until its turn comes, about a hundred octets for each message that is
    /// to be exported: asked folder by folder, a message that is let out of quarantine meanwhile would be in none.
    pub(super) fn run(
        &mut self,
        choose: impl FnOnce(Vec<FolderStatus>) -> Result<Vec<FolderStatus>, OpError>,
        progress: &mut dyn FnMut(&ExportProgress),
    ) -> Result<Vec<FolderExported>, OpError> {
        let (mut plans, known, asked) = (Vec::new(), &self.manifest.known.folders, self.asked);
        // All are looked at before anything is written: what does not fit is refused as a whole.
        self.reader.listings(self.gateway_mailbox, choose, |folder, listing| {
            plans.push(Plan::new(known.get(&folder.path), folder, listing, asked)?);
            Ok(())
        })?;
        self.so_far.octets_total = plans.iter().map(Plan::octets).sum();
        plans.into_iter().map(|plan| self.folder(&plan, progress)).collect()
    }

    /// Says in the manifest that the export came to its end. Gives what was not exported, and how many messages there are.
    pub(super) fn finish(
        mut self,
        begun_at: Timestamp,
        actor: &str,
        folders: &[FolderExported],
    ) -> Result<(Found, u64), OpError> {
        let messages = self.manifest.known.messages;
        let FoldersExport { folders: named, since, .. } = self.asked;
        self.batch.tell(Line::Run(Box::new(RunLine {
            begun_at,
            ended_at: now(),
            actor: actor.to_owned(),
            folders: (!named.is_empty()).then(|| named.clone()),
            since: *since,
            added: folders.iter().map(|folder| folder.added).sum(),
            messages,
            deleted_since: folders.iter().map(|folder| folder.deleted_since).sum(),
            returned: folders.iter().map(|folder| folder.returned).sum(),
            gone: self.found.gone.messages.clone(),
            damaged: self.found.damaged.messages.clone(),
            former_key: self.found.former_key.messages.clone(),
        })));
        self.settle()?;
        Ok((self.found, messages))
    }

    fn known(&self, folder: &FolderStatus) -> Option<&KnownFolder> {
        self.manifest.known.folders.get(&folder.path)
    }

    fn folder(
        &mut self,
        plan: &Plan,
        progress: &mut dyn FnMut(&ExportProgress),
    ) -> Result<FolderExported, OpError> {
        let folder = &plan.folder;
        let mut target = self.target(folder)?;
        let mut exported = FolderExported { folder: folder.path.clone(), ..FolderExported::default() };
        for wanted in &plan.wanted {
            match (self.entry(folder, &mut target, wanted)?, wanted.same_as) {
                (true, Some(_)) => exported.returned += 1,
                (true, None) => {
                    exported.added += 1;
                    exported.octets += wanted.entry.octets;
                }
                (false, _) => {}
            }
            if self.batch.is_full() {
                self.settle()?;
            }
            self.so_far.octets += wanted.entry.octets;
            progress(&self.so_far);
        }
        self.settle()?;
        if let Some(known) = self.known(folder) {
            exported.path.clone_from(&known.path);
            exported.messages = known.messages;
            let there = plan.there + exported.added + exported.returned;
            exported.deleted_since = known.messages.saturating_sub(there);
        }
        Ok(exported)
    }

    fn settle(&mut self) -> Result<(), OpError> {
        self.batch.settle(&mut self.manifest).map_err(|error| cannot_write(self.asked.to.display(), &error))
    }

    /// Opens what a folder is written to, and takes away what a broken off export left there.
    fn target(&mut self, folder: &FolderStatus) -> Result<Target, OpError> {
        let path = match self.known(folder) {
            Some(known) => known.path.clone(),
            None => self.begin_folder(folder)?,
        };
        let end = self.known(folder).map_or(0, |known| known.end);
        let opened = match self.asked.format {
            ExportFormat::Eml => self.place.at(&path, true).and_then(|place| {
                let known = self.known(folder);
                clean(&place, &|name| {
                    in_eml_name(name).map(|(uid, _)| known.is_some_and(|known| known.uids.contains_key(&uid)))
                })?;
                Ok(Target::Eml(Arc::new(place)))
            }),
            ExportFormat::Sealed => self.place.at(OBJECTS_DIR, true).and_then(|place| {
                let known = &self.manifest.known.objects;
                clean(&place, &|name| in_object_name(name).map(|object| known.contains_key(&object)))?;
                Ok(Target::Sealed(Arc::new(place)))
            }),
            ExportFormat::Mbox => self.open_mbox(&path, end),
        };
        opened.map_err(|error| cannot_write(self.asked.to.join(&path).display(), &error))
    }

    fn open_mbox(&self, path: &str, end: u64) -> io::Result<Target> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let place = self.place.at(dir, true)?;
        let file = place.edit(name)?;
        let octets = file.metadata()?.len();
        if octets < end {
            let why = format!("it has {octets} octets, and {end} were exported: look with --check");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if octets > end {
            file.set_len(end)?;
        }
        place.sync()?;
        Ok(Target::Mbox { file: Arc::new(file), end })
    }

    /// Gives a folder its place and says so in the manifest, before anything is there.
    fn begin_folder(&mut self, folder: &FolderStatus) -> Result<String, OpError> {
        let parts = parts(&folder.name, &folder.path);
        let mut path = self.names.path(&parts);
        if self.asked.format == ExportFormat::Mbox {
            path.push_str(MBOX_SUFFIX);
        }
        self.batch.tell(Line::Folder(FolderLine {
            folder: folder.path.clone(),
            path: path.clone(),
            uid_validity: folder.uid_validity,
            parts,
        }));
        self.settle()?;
        Ok(path)
    }

    /// Exports an entry. False when it cannot be had: then that is noted.
    fn entry(
        &mut self,
        folder: &FolderStatus,
        target: &mut Target,
        wanted: &Wanted,
    ) -> Result<bool, OpError> {
        let written = match self.write(folder, target, wanted) {
            // The index may be another by now, and what it said first not be true any more.
            Err(Failed::Stored(_)) => {
                self.reader.reopen().map_err(|error| OpError::Unavailable(error.to_string()))?;
                self.write(folder, target, wanted)
            }
            written => written,
        };
        let entry = &wanted.entry;
        let (kind, why) = match written {
            Ok(()) => return Ok(true),
            Err(Failed::Work(error)) => return Err(error),
            Err(Failed::LacksKey) => {
                let why = "it is sealed to a former key, which what was given does not open";
                (&mut self.found.former_key, why.to_owned())
            }
            Err(Failed::Stored(why)) => {
                match self.reader.is_freed(self.gateway_mailbox, entry.message).unwrap_or(false) {
                    true => {
                        let why = "it was deleted, and its content freed, meanwhile";
                        (&mut self.found.gone, why.to_owned())
                    }
                    false => (&mut self.found.damaged, why),
                }
            }
        };
        kind.add(&folder.path, entry, why);
        Ok(false)
    }

    fn write(&mut self, folder: &FolderStatus, target: &mut Target, wanted: &Wanted) -> Result<(), Failed> {
        let Wanted { entry, same_as } = wanted;
        let stored = self.reader.message(self.gateway_mailbox, entry.message).map_err(unread)?;
        let came_by = self.reader.came_by(self.gateway_mailbox, entry.receipt_id, entry.message);
        let mut line = MessageLine {
            folder: folder.path.clone(),
            uid: entry.uid.value(),
            uid_validity: folder.uid_validity,
            uidl: uidl(entry, folder.uid_validity),
            receipt_id: entry.receipt_id,
            message: Some(entry.message),
            same_as: *same_as,
            received_at: entry.received_at,
            octets: stored.octets,
            sha256: stored.sha256,
            path: None,
            start: None,
            end: None,
            extents: Vec::new(),
            message_id: came_by.as_ref().and_then(|came_by| came_by.message_id.clone()),
        };
        let path = self.known(folder).map(|known| known.path.clone()).unwrap_or_default();
        match (target, *same_as) {
            (Target::Eml(_), Some(uid)) => {
                line.path = Some(format!("{path}/{}", eml_name(uid, line.receipt_id)));
            }
            (Target::Mbox { .. }, Some(_)) => line.path = Some(path),
            (Target::Eml(place), None) => {
                let name = eml_name(line.uid, line.receipt_id);
                line.path = Some(format!("{path}/{name}"));
                line.sha256 = Some(self.write_eml(place, name, entry, &stored)?);
            }
            (Target::Mbox { file, end }, None) => {
                (line.path, line.start) = (Some(path), Some(*end));
                line.sha256 = Some(self.write_mbox(file, end, entry, &stored, came_by.as_ref())?);
                line.end = Some(*end);
            }
            (Target::Sealed(place), _) => {
                for extent in &stored.extents {
                    match self.manifest.known.objects.get(&extent.object) {
                        Some(sha256) => self.compare(extent.object, *sha256)?,
                        None => self.write_object(place, extent.object)?,
                    }
                }
                line.extents = stored.extents;
            }
        }
        self.batch.tell(Line::Message(Box::new(line)));
        Ok(())
    }
}

/// Removes what a broken off export left: files that it names so, and that no manifest knows. `is_known` is `None` for names of
/// another form.
fn clean(place: &Place, is_known: &dyn Fn(&str) -> Option<bool>) -> io::Result<()> {
    place.for_each(&mut |name, is_dir| {
        let part = name.strip_suffix(PART_SUFFIX).and_then(is_known);
        let is_left = part.is_some() || is_known(name) == Some(false);
        if is_left && !is_dir { place.remove(name) } else { Ok(()) }
    })
}
