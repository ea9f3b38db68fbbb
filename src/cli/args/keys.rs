//! Arguments of `daybook key …` and of `daybook mailbox reset-password`.

use super::{KeyArguments, Which};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeyCommand {
    /// Make a new key: what comes from now on is sealed to it, and the password goes on opening everything
    #[command(
        after_help = "The escrow recipients of the configuration can open the new key too; one that stands there no more \
                            goes on opening what came before. Who is logged in reads on; whoever logs in next reads all."
    )]
    Rotate {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        key: KeyArguments,
    },
    /// Write the keys as an identity file, with which age opens what was sealed for the gateway mailbox
    #[command(
        after_help = "Whoever has the file reads all mail of this gateway mailbox. age -d -i FILE SEALED.age opens an \
                            exported object; a file content/xx/….age of the store is one."
    )]
    Export {
        #[command(flatten)]
        which: Which,
        /// A new file that only its owner reads, or - for standard output
        #[arg(long, value_name = "FILE|-")]
        to: PathBuf,
        #[command(flatten)]
        key: KeyArguments,
    },
}

/// A gateway mailbox and what opens it, or did.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResetArguments {
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// A password, of today or a former one, in the first line of this file; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) password_file: Vec<PathBuf>,
    /// An escrow identity: an age identity file, as age-keygen writes it
    #[arg(long, value_name = "FILE|-")]
    pub(in crate::cli) identity: Vec<PathBuf>,
    /// Write the new password to this new file, which only its owner reads, and do not print it
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) password_to: Option<PathBuf>,
    /// Do not ask, although mail is given up
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}
