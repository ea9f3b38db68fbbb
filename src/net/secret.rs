//! Reading the secrets an operator lends: a password, a client secret.

use super::private_file::{self, Exposed, Secret};
use crate::config::SecretSource;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest secret, in octets.
const SECRET_OCTETS_MAX: u64 = 64 * 1024;

/// Why a secret cannot be had. The operator's to mend. Never says what is in it.
#[derive(Debug)]
pub enum SecretError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// Others can read the file.
    Exposed(Exposed),
    /// There is no such environment variable, or none with text.
    NotSet(String),
    /// It is asked of the service manager, which handed nothing over.
    NoCredentials(String),
    /// It is empty, too long or no text: of this file or variable.
    NoText(String),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretError::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            SecretError::Exposed(exposed) => exposed.fmt(f),
            SecretError::NotSet(name) => write!(f, "environment variable {name} is not set"),
            SecretError::NoCredentials(name) => {
                write!(
                    f,
                    "systemd handed no credentials over: credential {name} needs LoadCredential={name}:… in the unit"
                )
            }
            SecretError::NoText(place) => {
                write!(f, "{place} holds no secret: it is empty, too long or no text")
            }
        }
    }
}

impl std::error::Error for SecretError {}

/// Reads a secret, without the line end behind it. Blocks on the disk.
///
/// # Errors
/// [`SecretError`]; a file that others can read is refused.
pub fn read(source: &SecretSource) -> Result<Zeroizing<String>, SecretError> {
    match source {
        SecretSource::File(path) => read_file(path),
        SecretSource::Environment(name) => {
            let value = std::env::var(name).map(Zeroizing::new);
            bare(value.map_err(|_| SecretError::NotSet(name.clone()))?, name)
        }
        SecretSource::Credential(name) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
            let folder = folder.ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
            read_file(&Path::new(&folder).join(name))
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    private_file::check(path, Secret::Lent).map_err(SecretError::Exposed)?;
    let unreadable = |error| SecretError::Unreadable(path.to_owned(), error);
    let mut octets = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(SECRET_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(unreadable)?;
    let place = path.display().to_string();
    let text = std::str::from_utf8(&octets).map(str::to_owned).map(Zeroizing::new);
    bare(text.map_err(|_| SecretError::NoText(place.clone()))?, &place)
}

fn bare(text: Zeroizing<String>, place: &str) -> Result<Zeroizing<String>, SecretError> {
    let bare = text.trim_end_matches(['\r', '\n']);
    if bare.is_empty() || bare.len() as u64 > SECRET_OCTETS_MAX || bare.contains(char::is_control) {
        return Err(SecretError::NoText(place.to_owned()));
    }
    Ok(Zeroizing::new(bare.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_read_without_its_line_end_and_only_from_a_file_of_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let source = SecretSource::File(path.clone());
        assert!(matches!(read(&source), Err(SecretError::Unreadable(..))));
        std::fs::write(&path, "s e c r e t\r\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&source).unwrap().as_str(), "s e c r e t");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&source), Err(SecretError::Exposed(_))));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for none in ["", "\n", "two\nlines\n"] {
            std::fs::write(&path, none).unwrap();
            let error = read(&source).unwrap_err();
            assert!(
                matches!(error, SecretError::NoText(_)) && !error.to_string().contains("lines"),
                "{none:?}"
            );
        }
    }

    #[test]
    fn a_variable_or_credential_that_is_not_there_is_named() {
        let error = read(&SecretSource::Environment("DAYBOOK_NO_SUCH_SECRET".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "environment variable DAYBOOK_NO_SUCH_SECRET is not set");
        let error = read(&SecretSource::Credential("graph-secret".to_owned())).unwrap_err().to_string();
        assert!(error.contains("LoadCredential=graph-secret:"), "{error}");
    }
}
