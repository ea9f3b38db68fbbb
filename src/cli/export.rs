//! `daybook quarantine export`: a message as it was received, into a new file or to standard output.

use super::args::KeyArguments;
use super::output::{self, Failure, counted, safe};
use super::{reach, secret};
use crate::admin::{ExportView, OpError, Request};
use crate::config::Settings;
use crate::mail::ReceiptId;
use crate::store::Digest;
use aws_lc_rs::digest::{Context, SHA256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Octets copied at a time.
const CHUNK_OCTETS: usize = 256 * 1024;

/// Writes the message that came by this receipt and checks it on the way. What is not whole is not left behind.
pub(super) fn run(
    settings: &Settings,
    receipt_id: ReceiptId,
    mailbox: Option<String>,
    to: &Path,
    key: &KeyArguments,
    json: bool,
) -> Result<u8, Failure> {
    let out = to == Path::new("-");
    if out && json {
        return Err(Failure::usage("--json and --to - would both write to standard output".to_owned()));
    }
    if !out && to.symlink_metadata().is_ok() {
        return Err(exists(to));
    }
    let named = mailbox.clone().unwrap_or_else(|| format!("of {receipt_id}"));
    let key = secret::key(key, &named)?;
    let request = Request::ExportMessage { receipt_id, gateway_mailbox: mailbox, key };
    let view = reach::export(settings, &request, |view, octets| {
        if out {
            copy(view, octets, &mut io::stdout().lock())?;
        } else {
            write_file(view, octets, to)?;
        }
        Ok(view.clone())
    })?;
    let said = format!("{}, SHA-256 {}", counted(view.octets, "octet"), view.sha256);
    if json {
        let value = serde_json::to_value(&view).map_err(|error| Failure::from(error.to_string()))?;
        output::print_json(&value)?;
    } else if out {
        output::note(&said);
    } else {
        output::print(&format!("{}: {said}\n", safe(&to.display().to_string())))?;
    }
    Ok(0)
}

pub(super) fn exists(to: &Path) -> Failure {
    OpError::Refused(format!("{} is there already; nothing is overwritten", to.display())).into()
}

/// A new file that only its owner reads.
fn write_file(view: &ExportView, octets: &mut dyn Read, to: &Path) -> Result<(), Failure> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(to),
        _ => Failure::from(format!("write {}: {error}", to.display())),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(cannot)?;
    let written = copy(view, octets, &mut file).and_then(|()| File::sync_all(&file).map_err(cannot));
    if written.is_err() {
        // What came is no message. That it could not be removed says less than why it is not whole.
        fs::remove_file(to).ok();
    }
    written
}

fn copy(view: &ExportView, octets: &mut dyn Read, to: &mut dyn Write) -> Result<(), Failure> {
    let damaged = |why: String| {
        Failure::from(OpError::Refused(format!(
            "the stored message of {} is damaged, or the server ended: {why}",
            view.receipt_id
        )))
    };
    let mut hash = Context::new(&SHA256);
    let mut copied = 0;
    let mut chunk = vec![0; CHUNK_OCTETS];
    loop {
        let read = match octets.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => chunk.get(..read).unwrap_or_default(),
            Err(error) => return Err(damaged(error.to_string())),
        };
        hash.update(read);
        copied += read.len() as u64;
        to.write_all(read).map_err(|error| Failure::from(format!("write the message: {error}")))?;
    }
    to.flush().map_err(|error| Failure::from(format!("write the message: {error}")))?;
    if copied != view.octets {
        return Err(damaged(format!("it ends after {copied} of {} octets", view.octets)));
    }
    if Digest::from_ring(&hash.finish()) != view.sha256 {
        return Err(damaged("its SHA-256 is another than when it was received".to_owned()));
    }
    Ok(())
}
