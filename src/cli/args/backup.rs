//! Arguments of `backup` and `restore`.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "What is acknowledged when it begins is in it; a server may run. The next one into the same DIR copies what was \
                  added since. Broken off, run it again: until it is done the backup before stands. Meanwhile no content is freed. \
                  DIR holds what data_dir does but for the index: wrapped keyrings, and content sealed to them. Exit code 0: it is \
                  made; 1: it is made, and some of what was read is damaged; 2: DIR is no place for it; 3: it could not be made."
)]
pub(in crate::cli) struct BackupArguments {
    /// A folder that is missing, empty, or holds a backup of this store; not in data_dir
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Everything is hashed before anything is written. UIDs, UIDVALIDITY and UIDLs of what is there stay; what is \
                  received from then on gets none that the original has given out since the backup. What the original was given \
                  since is not there, and what was deleted since is there again. Exit code 0: it is restored; 1: something is \
                  damaged, and nothing was restored unless --despite-damage; 2: data_dir is not empty, or DIR is no backup; 3: it \
                  could not be done, and the next call begins anew."
)]
pub(in crate::cli) struct RestoreArguments {
    /// A backup, or a plain copy of a data_dir
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: PathBuf,
    /// Restore what is damaged as it is: the rest is served, what is damaged is named when it is asked for
    #[arg(long)]
    pub(in crate::cli) despite_damage: bool,
}
