//! Who may read a file that must stay secret: one judgement, for the start, for a renewed key and for doctor.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Whose a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The server's own: keyrings, keys, passwords. Its owner's alone.
    Own,
    /// Lent by the operator: a private key, a password. It must be the server's then, or what the service manager hands over.
    Lent,
}

/// The rights a secret must not give: any to its group or to others.
const REFUSED: u32 = 0o077;
/// Where the service manager keeps what it hands over, for who is not the service itself.
const CREDENTIALS: &str = "/run/credentials";

/// True when these rights of a secret let somebody at it who has no business there.
pub fn is_open(mode: u32) -> bool {
    mode & REFUSED != 0
}

/// True for what the service manager hands over: its folder guards it, and an access list shows as rights of a group.
pub fn is_handed_over(path: &Path) -> bool {
    path.starts_with(CREDENTIALS)
        || std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder))
}

/// A secret that others can get at. The operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    path: PathBuf,
    mode: u32,
    /// What closes it.
    command: String,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode);
        let who = if self.command.starts_with("chown") { " as root" } else { "" };
        write!(f, "{path} has mode {mode:04o} and is a secret: run {}{who}", self.command)
    }
}

impl std::error::Error for Exposed {}

/// Looks at a file or folder; one that is not there, or cannot be looked at, is no secret told.
///
/// # Errors
/// Others can get at it.
pub fn check(path: &Path, secret: Secret) -> Result<(), Exposed> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o7777;
    if is_handed_over(path) || !is_open(mode) {
        return Ok(());
    }
    let (shown, we) = (path.display(), rustix::process::geteuid().as_raw());
    let command = match secret {
        Secret::Own if metadata.is_dir() => format!("chmod 0700 '{shown}'"),
        Secret::Own => format!("chmod 0600 '{shown}'"),
        Secret::Lent if metadata.uid() == we || we == 0 => format!("chmod go-rwx '{shown}'"),
        // Closed to its group alone, it would be closed to the server.
        Secret::Lent => format!("chown {we} '{shown}' && chmod 0400 '{shown}'"),
    };
    Err(Exposed { path: path.to_owned(), mode, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_get_at_is_told_with_the_command_that_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, "").unwrap();
        let look = |path: &Path, mode, secret| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            check(path, secret).err().map(|exposed| exposed.to_string()).unwrap_or_default()
        };
        for (mode, own, lent) in [
            (0o600, "", ""),
            (0o400, "", ""),
            (0o640, "chmod 0600", "chmod go-rwx"),
            (0o620, "chmod 0600", "chmod go-rwx"),
            (0o604, "chmod 0600", "chmod go-rwx"),
            (0o644, "chmod 0600", "chmod go-rwx"),
        ] {
            for (secret, expect) in [(Secret::Own, own), (Secret::Lent, lent)] {
                let told = look(&file, mode, secret);
                assert!(told.contains(expect) && told.is_empty() == expect.is_empty(), "{mode:o}: {told}");
            }
        }
        assert!(look(dir.path(), 0o750, Secret::Own).contains("chmod 0700"));
        assert!(check(&dir.path().join("none"), Secret::Own).is_ok());
        assert!(is_handed_over(Path::new("/run/credentials/daybook.service/key")));
        assert!(!is_handed_over(&file));
    }
}
