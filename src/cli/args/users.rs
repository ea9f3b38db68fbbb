//! What `daybook user sync`, `rollback` and `find` take.

use super::{Since, parse_since};
use clap::Args;

#[derive(Debug, Args)]
pub(in crate::cli) struct SyncArguments {
    /// The name of one source, as [[directory]] gives it; without it all, one after the other
    #[arg(value_name = "SOURCE", conflicts_with = "apply")]
    pub(in crate::cli) source: Option<String>,
    /// Only show what would change, who is left out, and why
    #[arg(long, conflicts_with = "apply")]
    pub(in crate::cli) dry_run: bool,
    /// Apply a change that waits for an approval, as it was found then: the source is not asked again
    #[arg(long, value_name = "PLAN")]
    pub(in crate::cli) apply: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArguments {
    /// The name of the source, as [[directory]] gives it
    pub(in crate::cli) source: String,
    /// To the list with this number; without it, to the one before the present one, or before the one last gone back to
    #[arg(long, value_name = "N", conflicts_with = "list")]
    pub(in crate::cli) to: Option<u64>,
    /// Only show the lists that are kept
    #[arg(long)]
    pub(in crate::cli) list: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FindArguments {
    /// An address: SMTP or X.500
    pub(in crate::cli) address: String,
    /// Whose it was then: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub(in crate::cli) at: Option<Since>,
}
