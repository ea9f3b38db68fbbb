//! Makes a pair for a first run, when no certificate is configured.
//!
//! Invariant: the key is readable by its owner only, from its first octet on.

use super::renewal::Files;
use super::tls::TlsError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes key, then certificate. The certificate comes last so that a crash between the two leaves a
/// missing half, which the next start makes anew, and never two halves that do not fit.
pub(super) fn write(directory: &Path, files: &Files, hostname: &str) -> Result<(), TlsError> {
    let (certificate, key) = self_sign(hostname).map_err(TlsError::SelfSign)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| TlsError::File { path: directory.to_owned(), source })?;
    match fs::remove_file(&files.certificate) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(TlsError::File { path: files.certificate.clone(), source });
        }
        _ => {}
    }
    write_file(&files.key, key.as_bytes(), 0o600)?;
    write_file(&files.certificate, certificate.as_bytes(), 0o644)
}

/// A certificate naming `hostname` and its key, both PEM.
fn self_sign(hostname: &str) -> Result<(String, String), rcgen::Error> {
    let mut parameters = rcgen::CertificateParams::new(vec![hostname.to_owned()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes the file whole or not at all: beside it, synced, then renamed, then the directory synced.
fn write_file(path: &Path, octets: &[u8], mode: u32) -> Result<(), TlsError> {
    let write = || -> io::Result<()> {
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| TlsError::File { path: path.to_owned(), source })
}
