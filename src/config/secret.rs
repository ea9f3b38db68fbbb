//! Where a secret is kept: never in the configuration itself, whose text is shown, copied and checked in.

use std::path::PathBuf;

/// Where a secret is kept. It is read each time it is needed, so it may change at any time. Holds no secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `…_file`: a file that holds it and nothing else; its group and others must not be able to read it.
    File(PathBuf),
    /// `…_env`: name of an environment variable.
    Environment(String),
    /// `…_credential`: name of a systemd credential (`LoadCredential=`), a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}
