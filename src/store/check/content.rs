//! Content files: whole, or what is wrong with them.

use super::damage::Damage;
use super::segment::CHUNK_OCTETS;
use crate::store::Digest;
use aws_lc_rs::digest::{Context, SHA256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Component, Path};

/// How a content file was found.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Found {
    Whole,
    Damaged(Damage),
    /// The caller broke off.
    Stopped,
}

/// Looks at the file `name` under `content_dir`: it must have `sealed_octets`, and hash to `sealed_sha256` if that is given.
/// `pace` hears of octets read; to break ends it.
pub(in crate::store) fn content_file(
    content_dir: &Path,
    name: &str,
    sealed_octets: u64,
    sealed_sha256: Option<&Digest>,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Found {
    let damaged = |what: String| {
        let file = format!("content/{name}");
        Found::Damaged(Damage { file, octets: sealed_octets, what, ..Damage::default() })
    };
    // What an entry says must not lead anywhere else.
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return damaged("is no name of a content file".to_owned());
    }
    let path = content_dir.join(name);
    let cannot = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => match damaged("is not there".to_owned()) {
            Found::Damaged(damage) => Found::Damaged(Damage { is_blank: true, ..damage }),
            found => found,
        },
        _ => damaged(format!("cannot be read: {e}")),
    };
    let octets = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(e) => return cannot(e),
    };
    if octets != sealed_octets {
        return damaged(format!("has {octets} octets, not {sealed_octets}"));
    }
    let Some(wanted) = sealed_sha256 else { return Found::Whole };
    match hash_file(&path, pace) {
        Ok(Some(sha256)) if sha256 == *wanted => Found::Whole,
        Ok(Some(_)) => damaged("hash of stored content does not match".to_owned()),
        Ok(None) => Found::Stopped,
        Err(e) => cannot(e),
    }
}

/// SHA-256 of a file; none when `pace` broke off.
pub(super) fn hash_file(
    path: &Path,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Option<Digest>> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_OCTETS];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(Some(Digest::from_ring(&context.finish())));
        }
        context.update(chunk.get(..read).unwrap_or_default());
        if pace(read as u64).is_break() {
            return Ok(None);
        }
    }
}
