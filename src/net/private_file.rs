//! Who may read a file that must stay secret: one judgement, for the start, for a renewed key and for doctor.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Whose a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The server's own: keyrings, keys, passwords. Its owner's alone.
    Own,
    /// Lent by the operator: a private key, a password. A group may read it, since that is how the server does; others not.
    Lent,
}

impl Secret {
    /// The rights it must not give.
    const fn refused(self) -> u32 {
        match self {
            Secret::Own => 0o077,
            Secret::Lent => 0o027,
        }
    }

    /// True when these rights let somebody at it who has no business there.
    pub fn is_open(self, mode: u32) -> bool {
        mode & self.refused() != 0
    }
}

/// A secret that others can get at. The operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    path: PathBuf,
    mode: u32,
    /// What to give chmod.
    right: &'static str,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode);
        write!(f, "{path} has mode {mode:04o} and is a secret: run {}", self.command())
    }
}

impl Exposed {
    /// What closes it.
    pub fn command(&self) -> String {
        format!("chmod {} '{}'", self.right, self.path.display())
    }
}

impl std::error::Error for Exposed {}

/// Looks at a file or folder; one that is not there, or cannot be looked at, is no secret told. What the service manager hands over
/// is guarded by its folder: an access list shows as rights of a group.
///
/// # Errors
/// Others can get at it.
pub fn check(path: &Path, secret: Secret) -> Result<(), Exposed> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o7777;
    let handed_over =
        std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder));
    if handed_over || !secret.is_open(mode) {
        return Ok(());
    }
    let right = match secret {
        Secret::Own if metadata.is_dir() => "0700",
        Secret::Own => "0600",
        Secret::Lent => "o-rwx,g-w",
    };
    Err(Exposed { path: path.to_owned(), mode, right })
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
            (0o640, "chmod 0600", ""),
            (0o620, "chmod 0600", "chmod o-rwx,g-w"),
            (0o604, "chmod 0600", "chmod o-rwx,g-w"),
            (0o644, "chmod 0600", "chmod o-rwx,g-w"),
        ] {
            for (secret, expect) in [(Secret::Own, own), (Secret::Lent, lent)] {
                let told = look(&file, mode, secret);
                assert!(told.contains(expect) && told.is_empty() == expect.is_empty(), "{mode:o}: {told}");
            }
        }
        assert!(look(dir.path(), 0o750, Secret::Own).contains("chmod 0700"));
        assert!(check(&dir.path().join("none"), Secret::Own).is_ok());
    }
}
