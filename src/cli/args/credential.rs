//! Arguments of `daybook credential …`.

use crate::entra::credential::{DAYS, DAYS_MAX};
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CredentialCommand {
    /// Make a key with a certificate for an application in Entra ID, and say what to upload where
    #[command(
        after_help = "The certificate is better than a secret: it lasts, and what leaves this host proves who it is without \
                            being worth anything later. NAME.key stays here; NAME.crt is uploaded."
    )]
    Create {
        /// The folder to write NAME.key and NAME.crt to; nothing in it is overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// What the files and the certificate are called
        #[arg(long, default_value = "daybook-entra")]
        name: String,
        /// Days the certificate is good for
        #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// List the credentials of the configuration with their ends, without asking anybody
    #[command(after_help = "Exit code 1: at least one cannot be read, or has ended.")]
    List,
    /// Get a token, read one page, and check each permission; changes nothing
    #[command(
        after_help = "Exit code 0: all is well; 1: something is refused or missing; 3: nobody answered. It reads the \
                            configuration and the secrets here: run it as the server's user."
    )]
    Test {
        /// Only that of this source of users, or puller
        #[arg(value_name = "SOURCE|PULLER")]
        name: Option<String>,
    },
}
