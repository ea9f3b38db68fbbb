//! `backup` and `restore`: past any server, which is not asked and need not run.

use super::OpError;
use crate::config::Settings;
use crate::directory;
use crate::store::{
    self, BackupOptions, BackupProgress, BackupReport, RestoreOptions, RestoreProgress, RestoreReport,
    StoreError,
};
use std::path::Path;

/// Makes a backup of the store of these settings in `dir`, or brings the one there up to now. `progress` hears how far it is.
///
/// # Errors
/// [`OpError::Usage`] when `dir` is no place for it; [`OpError::Unavailable`] when there is no store, it may not be read, or the
/// copy cannot be written.
pub fn backup(
    settings: &Settings,
    dir: &Path,
    progress: &mut dyn FnMut(&BackupProgress),
) -> Result<BackupReport, OpError> {
    let options = BackupOptions {
        data_dir: settings.data_dir.clone(),
        dir: dir.to_owned(),
        checkpoint_dir: settings.store.checkpoint_dir.clone(),
    };
    store::backup(&options, progress).map_err(|error| worded("back up", &settings.data_dir, error))
}

/// Makes a store of the backup in `dir`, where these settings have it. `progress` hears how far it is. Lists of users that cannot be
/// used are told, and restored as they are: the list before one is in force then, and no mail is in them.
///
/// # Errors
/// [`OpError::Usage`] when `data_dir` is not empty or `dir` is no backup: nothing was touched; [`OpError::Unavailable`] when it could
/// not be read or written: another call begins anew.
pub fn restore(
    settings: &Settings,
    dir: &Path,
    despite_damage: bool,
    actor: String,
    progress: &mut dyn FnMut(&RestoreProgress),
) -> Result<RestoreReport, OpError> {
    let options = RestoreOptions {
        dir: dir.to_owned(),
        data_dir: settings.data_dir.clone(),
        checkpoint_dir: settings.store.checkpoint_dir.clone(),
        despite_damage,
        actor,
    };
    let restored = store::restore(&options, progress);
    let mut report = restored.map_err(|error| worded("restore into", &settings.data_dir, error))?;
    if report.restored {
        let lists = directory::check_kept(&settings.data_dir);
        lists.damaged.into_iter().for_each(|(place, what)| report.add_damage(place, what));
    }
    Ok(report)
}

fn worded(doing: &str, data_dir: &Path, error: StoreError) -> OpError {
    match error {
        StoreError::Refused(why) => OpError::Usage(why),
        error => OpError::Unavailable(format!("{doing} {}: {error}", data_dir.display())),
    }
}
