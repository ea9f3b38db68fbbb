//! Arguments of what keeps mail, brings it back and confirms the clock.

use super::{Since, Which, parse_since};
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(
    after_help = "While it lasts no retention takes anything out, nothing that was deleted is freed, and the gateway mailbox \
                        cannot be deleted. Clients go on deleting: what they delete can be had back (daybook undelete) for as \
                        long as the hold lasts."
)]
pub(in crate::cli) struct HoldArguments {
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// Of this user's folders alone: the directory's id of the user, or an address
    #[arg(long)]
    pub(in crate::cli) user: Option<String>,
    /// The case it is for; it stands in the store's log, with who set it
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 4: nothing was done, it wants --yes.")]
pub(in crate::cli) struct UnholdArguments {
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// The hold on this user's folders: the directory's id of the user, or an address
    #[arg(long)]
    pub(in crate::cli) user: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What was deleted can be had back for grace_days (daybook mailbox set), under a legal hold for as long as that \
                        lasts. It comes back under new UIDs, so that whoever polls fetches it again: also what the archive has \
                        already. What retention would take out at once is left where it is. What was deleted from INBOX before its \
                        maildrop was last set comes back as it was shown then."
)]
pub(in crate::cli) struct UndeleteArguments {
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// In this folder, as daybook mailbox show writes it [default: INBOX]
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) folder: Option<String>,
    /// Deleted since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d [default: whatever can be had back]
    #[arg(long, value_parser = parse_since)]
    pub(in crate::cli) since: Option<Since>,
    /// Only show what can be had back
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(in crate::cli) enum RetentionCommand {
    /// Show the clock, the last pass, and of each gateway mailbox what is due and what can be had back [default]
    #[command(after_help = "Exit code 0: all is well; 1: retention is paused, or its last pass failed.")]
    Status,
    /// Take out what is due and free what can be had back no more, now, and say what that was
    #[command(after_help = "Exit code 1: retention is paused, or the pass failed.")]
    Run,
    /// Say that the clock is right, after it has jumped more than 7 days ahead, or that all is set again after a restore
    #[command(after_help = "Exit code 1: the clock is not in doubt; 4: nothing was done, it wants --yes.")]
    Confirm {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}
