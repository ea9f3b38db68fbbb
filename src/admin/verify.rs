//! `verify`: what is stored, and the lists of users beside it, gone through without the store being opened: beside a server as
//! without one.

use super::OpError;
use crate::config::Settings;
use crate::directory;
use crate::store::{self, FindingKind, PublicKey, VerifyOptions, VerifyProgress, VerifyReport};
use std::path::PathBuf;

/// Goes through the store of these settings; `deep` also through all content. `checkpoints` are compared with the log instead of
/// those in the configured folder, and `key` is known to be the store's. `progress` hears how far it is.
///
/// # Errors
/// [`OpError::Unavailable`] when there is no store, it may not be read, or a newer version wrote it.
pub fn verify(
    settings: &Settings,
    deep: bool,
    (checkpoints, key): (Option<PathBuf>, Option<PublicKey>),
    progress: &mut dyn FnMut(&VerifyProgress),
) -> Result<VerifyReport, OpError> {
    let options = VerifyOptions {
        data_dir: settings.data_dir.clone(),
        deep,
        checkpoints,
        checkpoint_dir: settings.store.checkpoint_dir.clone(),
        key,
    };
    let mut report = store::verify(&options, progress)
        .map_err(|error| OpError::Unavailable(format!("verify {}: {error}", settings.data_dir.display())))?;
    let lists = directory::check_kept(&settings.data_dir);
    for (place, what) in lists.damaged {
        report.add_damage(FindingKind::Directory, place, what);
    }
    for (place, what) in lists.newer {
        report.add_note(FindingKind::Directory, place, what);
    }
    Ok(report)
}
