//! Folders of a gateway mailbox written out of the store: as `.eml` files, as mbox, or sealed as they are.
//!
//! The store is read past any server ([`Reader`]). What is in an export stands in its manifest (manifest.rs), so that the same
//! command goes on where another was broken off, and brings an export up to date: what is there is neither read again nor
//! written. What was deleted in the store since stays in the export.
//!
//! | format | where a message is |
//! |---|---|
//! | eml | `<folder>/<UID, ten digits>-<receipt id>.eml`, the stored octets; the time of the file is that of receipt |
//! | mbox | `<folder>.mbox`, see mbox.rs |
//! | sealed | extents of `objects/<number>.age`, each an object as it is stored, which `age` opens with the key |
//!
//! A message that is damaged, or sealed to a former key that was not given, is named and left out, and tried again the next time.
//! One that was deleted and brought back under another UID stands in an export once.

mod batch;
mod check;
mod copying;
mod found;
mod manifest;
mod mbox;
mod names;
mod place;
mod plan;
mod work;

pub use check::{Difference, ExportChecked, check_export};

use super::gateway_mailboxes::among;
use super::key::{self, KEYS_GIVEN_MAX, Key};
use super::request::OpError;
use crate::config::Settings;
use crate::mail::{Address, GatewayMailbox, GatewayMailboxId, ReceiptId, Timestamp};
use crate::observe::now;
use crate::store::{FolderStatus, KeyringSecret, Reader, StoreError, Unlocked};
use manifest::{Header, Line, MANIFEST_FILE, MANIFEST_VERSION, Manifest, ManifestError};
use place::Place;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use work::Work;

/// Messages that could not be exported and are named; beyond that they are counted.
const NAMED_MAX: usize = 1_000;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// A file for each message.
    Eml,
    /// A file for each folder.
    Mbox,
    /// As they are stored; needs no key.
    Sealed,
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExportFormat::Eml => "eml",
            ExportFormat::Mbox => "mbox",
            ExportFormat::Sealed => "sealed",
        })
    }
}

/// What is to be exported.
#[derive(Debug)]
pub struct FoldersExport {
    /// The gateway mailbox: address, login, id or name.
    pub gateway_mailbox: String,
    /// The directory: not there yet, empty, or an export of the same gateway mailbox in the same format.
    pub to: PathBuf,
    /// Paths of folders, each with those in it; all folders when none is named.
    pub folders: Vec<String>,
    /// Only what was received since.
    pub since: Option<Timestamp>,
    /// How.
    pub format: ExportFormat,
    /// What opens it, or did; not needed for [`ExportFormat::Sealed`].
    pub keys: Vec<Key>,
}

/// How far an export, or a look at one, is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportProgress {
    /// Octets done.
    pub octets: u64,
    /// Octets to do.
    pub octets_total: u64,
}

/// A message that was not exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotExported {
    /// Its folder.
    pub folder: String,
    /// Its UID there.
    pub uid: u32,
    /// The receipt it came by.
    pub receipt_id: ReceiptId,
    /// Why.
    pub why: String,
}

/// What became of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FolderExported {
    /// Its path in the store.
    pub folder: String,
    /// Its path in the export.
    pub path: String,
    /// Messages of it that are in the export now.
    pub messages: u64,
    /// Those added just now.
    pub added: u64,
    /// Their octets.
    pub octets: u64,
    /// Those that were deleted, are back under another UID, and stand in the export already.
    pub returned: u64,
    /// In the export, and not in the folder any more.
    pub deleted_since: u64,
}

/// What an export did.
#[derive(Clone, Debug, Serialize)]
pub struct FoldersExported {
    /// The directory.
    pub to: PathBuf,
    /// How messages were written.
    pub format: ExportFormat,
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// What concerned each folder.
    pub folders: Vec<FolderExported>,
    /// Messages in the export now, of all folders that ever were exported to it.
    pub messages: u64,
    /// Messages added just now.
    pub added: u64,
    /// Their octets.
    pub octets: u64,
    /// Those that were deleted, are back under another UID, and stand in the export already.
    pub returned: u64,
    /// In the export, and not in the folders any more.
    pub deleted_since: u64,
    /// How many were deleted, and their content freed, while this ran.
    pub gone: u64,
    /// How many cannot be read as they were stored.
    pub damaged: u64,
    /// How many are sealed to a former key that what was given does not open.
    pub former_key: u64,
    /// The first thousand of each of those.
    pub not_exported: Vec<NotExported>,
    /// How long it took.
    pub seconds: f64,
    /// For the record of the server.
    #[serde(skip)]
    pub note: ExportNote,
}

/// That folders were exported, for the log of a running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportNote {
    /// User name of the gateway mailbox.
    pub mailbox: String,
    /// Which one.
    pub mailbox_id: GatewayMailboxId,
    /// How messages were written.
    pub format: ExportFormat,
    /// What opened it: `password`, `escrow identity`, both, or `nothing`.
    pub by: String,
    /// Messages in the export.
    pub messages: u64,
    /// Messages added.
    pub added: u64,
    /// Their octets.
    pub octets: u64,
    /// Messages that are damaged.
    pub damaged: u64,
    /// Messages that are sealed to a former key.
    #[serde(default)]
    pub former_key: u64,
}

/// Puts on record that folders were exported.
pub(super) fn note(actor: &str, note: &ExportNote) {
    let ExportNote { mailbox, mailbox_id, format, by, messages, added, octets, damaged, former_key } = note;
    tracing::info!(event = "export.finished", mailbox, %mailbox_id, %format, by, messages, added, octets, damaged, former_key, actor);
}

/// Exports folders, or brings an export up to date. `progress` hears how far it is.
///
/// # Errors
/// [`OpError::NotFound`] when there is no such gateway mailbox or folder; [`OpError::Refused`] when the key is the wrong one, or
/// the directory holds something else; [`OpError::Unavailable`] when the store cannot be read or the directory not be written: what
/// was exported by then stays, and the same command goes on from there.
pub fn export_folders(
    settings: &Settings,
    actor: &str,
    asked: &FoldersExport,
    progress: &mut dyn FnMut(&ExportProgress),
) -> Result<FoldersExported, OpError> {
    let (began, begun_at) = (Instant::now(), now());
    let reader = Reader::open(&settings.data_dir).map_err(|error| match error {
        StoreError::Refused(why) => OpError::Unavailable(why),
        error => OpError::Unavailable(format!("read {}: {error}", settings.data_dir.display())),
    })?;
    let mailbox = among(&reader.gateway_mailboxes()?, &asked.gateway_mailbox)?;
    // Before anything is made or asked for.
    chosen(&mailbox, reader.folders(mailbox.id)?, &asked.folders)?;
    let unlocked = match asked.format {
        ExportFormat::Sealed => None,
        _ => Some(unlock(&reader, actor, &mailbox, &asked.keys)?),
    };
    keep_out(&settings.data_dir, &asked.to)?;
    let header = Header {
        v: MANIFEST_VERSION,
        format: asked.format,
        gateway_mailbox: mailbox.id,
        name: mailbox.name.clone(),
        address: mailbox.address().map(Address::as_str).unwrap_or_default().to_owned(),
        begun_at,
    };
    let by = unlocked.as_ref().map_or("nothing".to_owned(), |_| kinds(&asked.keys));
    let (place, manifest) = begin(&asked.to, header).map_err(|error| at(&asked.to, error))?;
    let mut work = Work::new(&reader, unlocked, mailbox.id, asked, place, manifest);
    let folders = work.run(|folders| chosen(&mailbox, folders, &asked.folders), progress)?;
    let (found, messages) = work.finish(begun_at, actor, &folders)?;
    let sum = |of: fn(&FolderExported) -> u64| folders.iter().map(of).sum::<u64>();
    let (added, octets) = (sum(|folder| folder.added), sum(|folder| folder.octets));
    Ok(FoldersExported {
        to: asked.to.clone(),
        format: asked.format,
        gateway_mailbox: mailbox.address().map(Address::as_str).unwrap_or_default().to_owned(),
        messages,
        added,
        octets,
        returned: sum(|folder| folder.returned),
        deleted_since: sum(|folder| folder.deleted_since),
        gone: found.gone.count,
        damaged: found.damaged.count,
        former_key: found.former_key.count,
        seconds: began.elapsed().as_secs_f64(),
        note: ExportNote {
            mailbox: mailbox.login().to_owned(),
            mailbox_id: mailbox.id,
            format: asked.format,
            by,
            messages,
            added,
            octets,
            damaged: found.damaged.count,
            former_key: found.former_key.count,
        },
        not_exported: [found.gone, found.damaged, found.former_key]
            .into_iter()
            .flat_map(|kind| kind.messages)
            .collect(),
        folders,
    })
}

/// Opens all that these keys open: what came before another key, or before a password was lost, too.
fn unlock(
    reader: &Reader,
    actor: &str,
    mailbox: &Arc<GatewayMailbox>,
    keys: &[Key],
) -> Result<Unlocked, OpError> {
    if keys.is_empty() {
        return Err(OpError::Usage("say what opens the gateway mailbox".to_owned()));
    }
    if keys.len() > KEYS_GIVEN_MAX {
        return Err(OpError::Usage(format!("at most {KEYS_GIVEN_MAX} keys at once")));
    }
    let open = |secrets: &[KeyringSecret<'_>]| reader.open_keyrings(mailbox, secrets);
    Ok(key::open_all_by(actor, mailbox, keys, "export folders", &open)?.unlocked())
}

/// What opened it, for the record.
fn kinds(keys: &[Key]) -> String {
    let mut kinds: Vec<&str> = keys.iter().map(Key::kind).collect();
    kinds.dedup();
    kinds.join(", ")
}

/// The folders that are named, or are in one that is.
fn chosen(
    mailbox: &GatewayMailbox,
    mut folders: Vec<FolderStatus>,
    named: &[String],
) -> Result<Vec<FolderStatus>, OpError> {
    let is_meant = |folder: &FolderStatus, named: &str| {
        let named = named.trim_end_matches('/');
        // INBOX is the same however it is written (RFC 9051 §5.1).
        let is_inbox = folder.path == "INBOX" && named.eq_ignore_ascii_case("INBOX");
        let is_inside = || folder.path.strip_prefix(named).is_some_and(|rest| rest.starts_with('/'));
        is_inbox || folder.path == named || is_inside()
    };
    for named in named {
        if !folders.iter().any(|folder| is_meant(folder, named)) {
            return Err(OpError::NotFound(format!(
                "gateway mailbox {} has no folder {named}: \"daybook mailbox show {}\" lists those there are",
                mailbox.login(),
                mailbox.login()
            )));
        }
    }
    folders.retain(|folder| named.is_empty() || named.iter().any(|named| is_meant(folder, named)));
    folders.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folders)
}

/// What is exported does not belong among what is stored.
fn keep_out(data_dir: &Path, to: &Path) -> Result<(), OpError> {
    let cannot = |error: std::io::Error| OpError::Unavailable(format!("find {}: {error}", to.display()));
    let data_dir = data_dir.canonicalize().map_err(cannot)?;
    let to = std::path::absolute(to).map_err(cannot)?;
    let is_inside =
        to.ancestors().find_map(|dir| dir.canonicalize().ok()).is_some_and(|dir| dir.starts_with(&data_dir));
    if is_inside {
        return Err(OpError::Usage(format!("{} is in data_dir: export to elsewhere", to.display())));
    }
    Ok(())
}

/// Opens the directory and its manifest, or makes them.
fn begin(to: &Path, header: Header) -> Result<(Place, Manifest), ManifestError> {
    let place = Place::make(to)?;
    let (mut is_empty, mut has_manifest) = (true, false);
    place.for_each(&mut |name, _| {
        has_manifest |= name == MANIFEST_FILE;
        is_empty &= name == MANIFEST_FILE;
        Ok(())
    })?;
    if !is_empty && !has_manifest {
        return Err(ManifestError::Foreign);
    }
    let mut manifest = Manifest::open(&place)?;
    match &manifest.known.header {
        None if !is_empty => return Err(ManifestError::Foreign),
        None => {
            manifest.append(&[Line::Export(header)])?;
            place.sync()?;
        }
        Some(known) if known.gateway_mailbox != header.gateway_mailbox => {
            return Err(ManifestError::Other(format!("of gateway mailbox {}", known.address)));
        }
        Some(known) if known.format != header.format => {
            return Err(ManifestError::Other(format!("in the format {}", known.format)));
        }
        Some(_) => {}
    }
    Ok((place, manifest))
}

/// A manifest that is not used, in words.
fn at(to: &Path, error: ManifestError) -> OpError {
    let to = to.display();
    match error {
        ManifestError::InUse => OpError::Refused(format!("another export or check is at work in {to}")),
        ManifestError::Damaged(line) => OpError::Refused(format!(
            "line {line} of {to}/{MANIFEST_FILE} is damaged, and others follow: restore it, or export to another directory"
        )),
        ManifestError::Foreign => {
            OpError::Refused(format!("{to} is not empty and holds no export: export to another directory"))
        }
        ManifestError::Other(what) => {
            OpError::Refused(format!("{to} holds an export {what}: export to another directory"))
        }
        ManifestError::Newer(version) => OpError::Unavailable(format!(
            "{to}/{MANIFEST_FILE} is of version {version}, newer than this program"
        )),
        ManifestError::Io(error) => cannot_write(to, &error),
    }
}

fn cannot_write(to: impl fmt::Display, error: &std::io::Error) -> OpError {
    OpError::Unavailable(format!(
        "use {to}: {error}; what was exported stays, and the same command goes on from there"
    ))
}
