//! Files beside the log: wrapped keyrings, small files of state, content that nobody names.

use super::content::hash_file;
use super::ledger::Ledger;
use super::report::FindingKind;
use super::taking::Findings;
use crate::mail::GatewayMailboxState;
use crate::store::StoreError;
use crate::store::fact::KeyFileFact;
use crate::store::state_file::{self, StateError};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Where a server listens, or did: written anew at each start, and never read back.
const PORTS_FILE: &str = "ports.json";
/// What alarms were told: worth little, and known to be lost in a power cut.
const UNSYNCED_FILE: &str = "watch.json";
/// States of pullers: one that is gone is made anew, and nothing is doubled.
const PULL_DIR: &str = "pull";
/// How the name of a key file ends that is to replace the one of the name before it.
const NEXT: &str = ".next";
/// Names of content files without an entry that are listed in one note.
const ORPHANS_LISTED: usize = 5;

/// Compares files of keyrings with what was written down of them.
pub(super) fn keys(data_dir: &Path, ledger: &Ledger, findings: &mut Findings) {
    for ((owner, name), fact) in &ledger.key_files {
        let place = format!("keys/{owner}/{name}");
        let Some(what) = difference(&data_dir.join(&place), fact) else { continue };
        let next = format!("{place}{NEXT}");
        if difference(&data_dir.join(&next), fact).is_none() {
            let what =
                "is on record, and does not have its name yet: the next start gives it that".to_owned();
            findings.note(FindingKind::Key, next, what);
            continue;
        }
        findings.damage(FindingKind::Key, place, format!("the wrapped keyring {what}"));
    }
    for (id, (gateway_mailbox, _)) in &ledger.gateway_mailboxes {
        let on_record = |name: &str| ledger.key_files.contains_key(&(*id, name.to_owned()));
        let dir = format!("keys/{id}");
        let there: Vec<String> = fs::read_dir(data_dir.join(&dir))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let is_live = gateway_mailbox.state != GatewayMailboxState::Deleted;
        if is_live && !there.iter().any(|name| name.ends_with(".age")) && !on_record("password.age") {
            findings.damage(FindingKind::Key, dir, "no wrapped keyring is there".to_owned());
            continue;
        }
        for (name, of) in there.iter().filter_map(|name| Some((name, name.strip_suffix(NEXT)?))) {
            let fact = ledger.key_files.get(&(*id, of.to_owned()));
            if fact.is_none_or(|fact| difference(&data_dir.join(&dir).join(name), fact).is_some()) {
                let what =
                    "was to replace a wrapped keyring, and is not on record: the next start removes it";
                findings.note(FindingKind::Key, format!("{dir}/{name}"), what.to_owned());
            }
        }
        for name in there.iter().filter(|name| name.ends_with(".age") && !on_record(name)) {
            let what = "not on record: whether it is whole cannot be told".to_owned();
            findings.note(FindingKind::Key, format!("{dir}/{name}"), what);
        }
    }
}

/// How a file is not what is on record, if it is not.
fn difference(path: &Path, fact: &KeyFileFact) -> Option<String> {
    let metadata = fs::metadata(path);
    match metadata.and_then(|m| Ok((m.len(), hash_file(path, &mut |_| ControlFlow::Continue(()))?))) {
        Ok((octets, Some(sha256))) if octets == fact.octets && sha256 == fact.sha256 => None,
        Ok((octets, _)) if octets != fact.octets => Some(format!("has {octets} octets, not {}", fact.octets)),
        Ok(_) => Some("its hash is not that on record".to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some("is not there".to_owned()),
        Err(e) => Some(format!("cannot be read: {e}")),
    }
}

/// Looks at every file that says its version and carries its own check.
///
/// # Errors
/// [`StoreError::Newer`].
pub(super) fn states(data_dir: &Path, findings: &mut Findings) -> Result<(), StoreError> {
    let in_data_dir = fs::read_dir(data_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let states = in_data_dir
        // What a server told others of itself is none.
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "json") && !path.ends_with(PORTS_FILE)
        })
        .chain(pulled(data_dir))
        .chain(["log/clean", "log/secured", "keys/checkpoint.key"].map(|name| data_dir.join(name)));
    for path in states {
        let place = path.strip_prefix(data_dir).unwrap_or(&path).display().to_string();
        match state_file::read::<serde_json::Value>(&path) {
            Ok(_) | Err(StateError::Absent) => {}
            Err(StateError::Newer(version)) => {
                return Err(StoreError::Newer(format!("{place}: version {version}")));
            }
            // It is written without a sync: after a power cut it may be empty.
            Err(error) if place == UNSYNCED_FILE && fs::metadata(&path).is_ok_and(|file| file.len() == 0) => {
                let what = format!("{error}: alarms are told once more, and the daily report begins anew");
                findings.note(FindingKind::State, place, what);
            }
            Err(error) => findings.damage(FindingKind::State, place, error.to_string()),
        }
    }
    Ok(())
}

/// What was fetched of accounts elsewhere.
fn pulled(data_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let files = fs::read_dir(data_dir.join(PULL_DIR)).into_iter().flatten().flatten();
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ending| ending == "json"))
}

/// Content files that no entry names: a crash left them, or they are of entries that are lost.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn orphans(data_dir: &Path, ledger: &Ledger, findings: &mut Findings) -> io::Result<()> {
    let mut names = Vec::new();
    let mut octets = 0;
    for_each_content_file(data_dir, &mut |name, size| {
        if !ledger.names_file(name) {
            octets += size;
            names.push(name.to_owned());
        }
    })?;
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable();
    let count = names.len();
    names.truncate(ORPHANS_LISTED);
    let what = format!("{count} files of {octets} octets that no entry names: {}", names.join(", "));
    findings.note(FindingKind::Content, "content".to_owned(), what);
    Ok(())
}

/// Hands each content file's name and size on.
pub(super) fn for_each_content_file(data_dir: &Path, take: &mut dyn FnMut(&str, u64)) -> io::Result<()> {
    let shards = match fs::read_dir(data_dir.join("content")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        shards => shards?,
    };
    for shard in shards {
        let shard = shard?;
        let Some(shard_name) = shard.file_name().to_str().filter(|name| name.len() == 2).map(str::to_owned)
        else {
            continue;
        };
        for file in fs::read_dir(shard.path())? {
            let file = file?;
            let Some(name) = file.file_name().to_str().map(str::to_owned) else { continue };
            let size = match file.metadata() {
                Ok(metadata) => metadata.len(),
                // Of a delivery that just failed.
                Err(_) => continue,
            };
            take(&format!("{shard_name}/{name}"), size);
        }
    }
    Ok(())
}
