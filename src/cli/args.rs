//! The arguments, as `daybook --help` shows them.

mod backup;
mod credential;
mod keeping;
mod keys;
mod users;

pub(super) use backup::{BackupArguments, RestoreArguments};
pub(super) use credential::CredentialCommand;
pub(super) use keeping::{HoldArguments, RetentionCommand, UndeleteArguments, UnholdArguments};
pub(super) use keys::{KeyCommand, ResetArguments};
pub(super) use users::{FindArguments, RollbackArguments, SyncArguments};

use crate::admin::doctor::CHECKS;
use crate::admin::{OVERLAP_DAYS_DEFAULT, OVERLAP_DAYS_MAX, RECEIPTS_MAX};
use crate::mail::{Class, EnvelopeHeaders, Profile, ReceiptId, Timestamp};
use crate::observe::{Filter, Level};
use crate::store::{PublicKey, TransactionOutcome};
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where name servers answer (RFC 1035 §4.2).
const NAMESERVER_PORT: u16 = 53;

/// Receives Microsoft 365 journal reports over SMTP, keeps every one durably and sealed, serves them over POP3 and IMAP.
#[derive(Debug, Parser)]
#[command(name = "daybook", version, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 1 found a problem, 2 wrong usage or configuration, \
                        3 could not do it (server or store out of reach), 4 needs an approval.")]
pub(super) struct Arguments {
    /// The configuration [default: daybook.toml, else /etc/daybook/daybook.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print one JSON value instead of text
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway until it is told to stop
    Serve,
    /// Show the whole journey of four messages, on loopback, in a directory of its own
    Demo {
        /// Leave it running and say how to reach it
        #[arg(long)]
        keep: bool,
    },
    /// Make, show and change gateway mailboxes
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Make new keys for a gateway mailbox, and take them out
    #[command(subcommand)]
    Key(KeyCommand),
    /// Show users and their folders, and read them from where they come from
    #[command(subcommand)]
    User(UserCommand),
    /// Make, list and try the credentials of applications in Microsoft Entra ID
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// Say what a message file is and what would be cut out of it
    Inspect(InspectArguments),
    /// Show the whole life of messages: how received, where placed, who fetched them
    Trace {
        /// A receipt id, a Message-ID or an address
        #[arg(value_name = "ID|MESSAGE-ID|ADDRESS")]
        query: String,
        /// Received since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
        #[arg(long, value_parser = parse_since)]
        since: Option<Since>,
        /// At most so many transactions, newest first
        #[arg(long, default_value_t = 100, value_parser = parse_limit)]
        limit: usize,
    },
    /// List journal reports of which NDRs returned nothing but the header, until they turn up
    #[command(
        after_help = "Exit code 0: none is missing; 1: at least one is, or only part of it may be here; 3: none is among \
                            what could be looked at, but that was not all. original-held: another report is here that names \
                            the same Message-ID. held-back: the NDR is not authentic, so perhaps nothing was lost."
    )]
    Gaps {
        /// Those of one gateway mailbox: of NDRs to it, or to an NDR mailbox that serves it
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
        /// Of NDRs received since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
        #[arg(long, value_parser = parse_since)]
        since: Option<Since>,
        /// Those too that have turned up, or were closed
        #[arg(long)]
        all: bool,
        /// Have seen to the gaps of these NDRs: they are alarmed no more
        #[arg(long, value_name = "ID", num_args = 1.., conflicts_with_all = ["mailbox", "since", "all"])]
        close: Vec<ReceiptId>,
    },
    /// List every transaction, newest first: accepted, deferred and refused
    #[command(
        after_help = "Exit code 1: the entry of at least one is damaged. A flood of strangers is not listed one by one, nor are \
                            those beyond 600 a minute that name a gateway mailbox or come from a favoured peer: an entry says how \
                            many more were only counted since the one before it. What was turned away is written about a second \
                            later: a crash loses what waits. If a shutdown cuts a session while its message is being stored, and \
                            that fails, it is on no list."
    )]
    Receipts(ReceiptsArguments),
    /// Show why each message of a receipt is where it is
    Explain {
        /// The receipt id, as the 250 reply and the log give it
        #[arg(value_name = "ID")]
        receipt_id: ReceiptId,
    },
    /// Look at what is in Quarantine, and let it out
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Give stored messages to users who were not in the directory when they came; shows it only, unless told to do it
    #[command(
        after_help = "Nothing is taken out of a user's folder. A message that is given to somebody leaves Unassigned. \
                            No password is needed: the recorded envelopes are looked at, not the messages."
    )]
    Reassign {
        /// Only show what would be done: the default
        #[arg(long, conflicts_with = "apply")]
        dry_run: bool,
        /// Do it
        #[arg(long)]
        apply: bool,
        /// In one gateway mailbox
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
        /// Received since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
        #[arg(long, value_parser = parse_since)]
        since: Option<Since>,
    },
    /// Read messages of a gateway mailbox again: after an update, or a change of its profile
    Reprocess(ReprocessArguments),
    /// Bring back what was deleted, while that can be had back
    Undelete(UndeleteArguments),
    /// Show what retention and grace take, do it now, confirm the clock they go by
    Retention {
        #[command(subcommand)]
        command: Option<RetentionCommand>,
    },
    /// Say whether the index is whole; with --rebuild make it anew from the log
    #[command(
        after_help = "The index only answers questions: all that is stored is in the log and the content files. Making it anew \
                            takes time and changes nothing a client can see; a running server goes on taking and serving mail \
                            meanwhile. Exit code 0: it is whole, or was made anew; 1: it is damaged, or the log was found to be."
    )]
    Check {
        /// Make it anew, whatever state it is in
        #[arg(long)]
        rebuild: bool,
    },
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Follow what happens in the running server, or read a log
    Tail(TailArguments),
    /// Show or change how much the running server logs, until its next start
    LogLevel {
        /// error, warn, info, debug or trace
        level: Option<Level>,
        /// Set the configured level again after so long, such as 10m
        #[arg(long = "for", value_name = "SPAN", requires = "level", value_parser = parse_span)]
        span: Option<Duration>,
    },
    /// Fetch NDRs from accounts elsewhere now, as every [[puller]] does by itself
    #[command(
        after_help = "Exit code 0: all that was to be fetched is; 1: something failed, and it is said what."
    )]
    Pull {
        /// One of them; all without
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// Only say how they are
        #[arg(long)]
        status: bool,
    },
    /// Show the running server on one page: alarms, each gateway mailbox, disk, certificate
    #[command(after_help = "Exit code 0: no alarm is raised; 1: one is.")]
    Status,
    /// Show how reading again what is stored stands, and what it found damaged
    #[command(after_help = "Exit code 0: nothing is damaged; 1: something is.")]
    Scrub {
        /// Read everything again from the beginning, now
        #[arg(long)]
        now: bool,
        /// Know of the damage at these places: it is alarmed no more. log-end is what the log was found to lack at its end
        #[arg(long, value_name = "PLACE", num_args = 1..)]
        close: Vec<String>,
    },
    /// Show the status report that is mailed every day
    StatusMail {
        /// Mail it now, and say what the relay answers
        #[arg(long)]
        now: bool,
    },
    /// Prove that what is stored is all there and whole; needs no key, changes nothing, and a server may run
    #[command(
        after_help = "Exit code 0: everything is whole; 1: something is damaged or missing, each named with the mail it \
                            touches; 3: it could not be read. Needs no password, and takes no lock.\n\n\
                            Content that was freed is no damage, whatever is left of it; freed although an entry that is there, can \
                            be had back or is under a legal hold needs it is. A restored store says so in a note, with how much that \
                            was signed after its backup is not there."
    )]
    Verify {
        /// Hash all content and compare the index row by row; reads everything that is stored
        #[arg(long)]
        deep: bool,
        /// Checkpoints kept outside, in a file or a folder [default: checkpoint_dir of the configuration]
        #[arg(long, value_name = "PATH")]
        checkpoints: Option<PathBuf>,
        /// The public key of the store, 64 hex digits, as you wrote it down elsewhere: without it, whoever can write to data_dir
        /// can put another key, and another log, in its place
        #[arg(long, value_name = "HEX")]
        key: Option<PublicKey>,
        /// What lies here instead: a backup, or any other copy of a data_dir
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Copy all that is stored into a folder, or what was added since the last time; a server may run
    Backup(BackupArguments),
    /// Make a store of a backup, in an empty data_dir
    Restore(RestoreArguments),
    /// Write folders of a gateway mailbox to a directory, as .eml files, mbox or sealed; bring such an export up to date
    Export(super::export_folders::ExportArguments),
    /// Say by the exit code whether a server runs that would take mail now
    Readyz,
    /// Look for what is wrong around the gateway, and say how to mend it
    #[command(after_help = "Exit code 0: no problem, though perhaps warnings; 1: at least one problem, \
                            also when the configuration is the problem.")]
    Doctor(DoctorArguments),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Every condition must hold. Times are UTC. With --json each line is one JSON object, as in a log \
                        of that form. Without FILE the server is followed, also when it starts anew; Ctrl-C ends it."
)]
pub(super) struct TailArguments {
    /// A log in JSON to read instead of following the server, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(super) file: Option<PathBuf>,
    /// What concerns this gateway mailbox: its address, login or (from the server) name
    #[arg(long, value_name = "ADDRESS")]
    pub(super) mailbox: Option<String>,
    /// What names this address; a line names the first ten recipients of a message, and counts the others
    #[arg(long)]
    pub(super) address: Option<String>,
    /// What concerns messages of this class: journal-report, journal-ndr, ndr-without-report, ndr, plain, unreadable
    #[arg(long, value_parser = parse_class)]
    pub(super) class: Option<Class>,
    /// What is at least so severe: error, warn, info, debug, trace [default: info from the server, everything in a log]
    #[arg(long)]
    pub(super) level: Option<Level>,
    /// What concerns this receipt or a session it occurs in
    #[arg(long, value_name = "ID")]
    pub(super) receipt: Option<ReceiptId>,
    /// Events whose name begins so, such as journal. or smtp.refused
    #[arg(long, value_name = "PREFIX")]
    pub(super) event: Option<String>,
    /// At most so many of the last lines first [default: 10 from the server, all of a log]
    #[arg(short = 'n', long)]
    pub(super) lines: Option<usize>,
    /// End after the last lines there are
    #[arg(long)]
    pub(super) no_follow: bool,
    /// Show every field, however long the line becomes
    #[arg(long)]
    pub(super) wide: bool,
}

impl TailArguments {
    /// The conditions.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            mailbox: self.mailbox.clone(),
            address: self.address.clone(),
            class: self.class,
            level: self.level,
            receipt_id: self.receipt,
            event: self.event.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum MailboxCommand {
    /// Make a gateway mailbox and show its password, once
    #[command(
        after_help = "An NDR mailbox on this host is down when the one it serves is, and NDRs that find it down are \
                            lost: it helps when reports are refused, not when the host is. For that, run a second Daybook \
                            elsewhere and have the archive fetch from both."
    )]
    Create {
        /// What it is called
        #[arg(long)]
        name: String,
        /// Right-hand side of its address [default: the first of the configuration]
        #[arg(long)]
        domain: Option<String>,
        /// The tenant it is for, such as contoso.onmicrosoft.com
        #[arg(long)]
        tenant: Option<String>,
        /// How its messages are read
        #[arg(long, value_enum, default_value_t = ProfileArgument::Microsoft365)]
        profile: ProfileArgument,
        /// What comes to it
        #[arg(long, value_enum, default_value_t = RoleArgument::Journal)]
        role: RoleArgument,
        /// The gateway mailbox whose reports come back in those NDRs: its address, login or name
        #[arg(long, value_name = "ADDRESS", required_if_eq("role", "ndr"))]
        serves: Option<String>,
    },
    /// Show every gateway mailbox
    List,
    /// Show one gateway mailbox and its folders
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Change what is per gateway mailbox: name, tenant, profile, archive, mode, trusted_networks, pinned_certificates,
    /// recipient_headers, sender_headers, grace_days, inbox_retention_days, user_retention_days, maildrop, user_delete
    #[command(after_help = "mode=observe|enforce|strict; trusted_networks=192.0.2.0/24,2001:db8::/32; \
                            pinned_certificates=SHA256,SHA256; recipient_headers=X-Gm-Original-To,X-Envelope-To and \
                            sender_headers=X-Envelope-From name header fields in which the sender of plain mail, trusted \
                            to write them on every one, says whose it is. So many grace_days what was deleted can be had \
                            back, 0 to 3650, 7 by default; so many inbox_retention_days or user_retention_days after its \
                            receipt a message leaves INBOX or the users' folders, 1 to 36500, never by default. With \
                            maildrop=originals clients find each original in INBOX and not the report around it, with \
                            maildrop=reports, the default, each message as received; what waits follows under new UIDs. \
                            user_delete=true lets clients delete outside INBOX too. Nothing \
                            behind the = takes a value away. Exit code 4: it would take mail away, and wants --yes.")]
    Set {
        #[command(flatten)]
        which: Which,
        /// What to change
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = parse_setting)]
        settings: Vec<(String, String)>,
        /// Do not ask when it takes mail away
        #[arg(long)]
        yes: bool,
    },
    /// Keep everything in it, or in one user's folders, whatever retention says: a legal hold
    Hold(HoldArguments),
    /// End a legal hold
    Unhold(UnholdArguments),
    /// Give it a new address; the one before is served for a while
    Rotate {
        #[command(flatten)]
        which: Which,
        /// For so many days, 0 to 365
        #[arg(long, value_name = "DAYS", default_value_t = OVERLAP_DAYS_DEFAULT,
              value_parser = clap::value_parser!(u32).range(0..=i64::from(OVERLAP_DAYS_MAX)))]
        overlap: u32,
    },
    /// Confirm who sends to it: the tenant that was learned, or another; a client certificate
    Pin {
        #[command(flatten)]
        which: Which,
        /// This tenant, such as contoso.onmicrosoft.com [default: the one learned]
        #[arg(long, value_name = "ORG")]
        tenant: Option<String>,
        /// Trust who shows this certificate: its SHA-256 in hex. Without --tenant the tenant stays as it is
        #[arg(long, value_name = "SHA256")]
        certificate: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let the escrow recipients of the configuration open it, if it was made before they stood there
    Escrow {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        key: KeyArguments,
    },
    /// Give it another password; with the present one, or an escrow identity, all mail stays readable
    #[command(
        after_help = "The new password is shown before it is in force; it is, when that is said. With a former password or \
                            an escrow identity beside the present password, what was given up once is opened by the new one too. \
                            Without anything that opens it the mail there is can be read with the old password or an escrow \
                            identity alone: exit code 4 without --yes."
    )]
    ResetPassword(ResetArguments),
    /// Take no mail for it: senders are asked to try again later, fetching goes on
    Suspend {
        #[command(flatten)]
        which: Which,
    },
    /// Take mail for it again
    Resume {
        #[command(flatten)]
        which: Which,
    },
    /// Serve a suspended gateway mailbox no more
    Delete {
        #[command(flatten)]
        which: Which,
        /// Although messages are left in it
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Names a gateway mailbox.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Its address, login or name
    #[arg(value_name = "ADDRESS")]
    pub(super) mailbox: String,
}

/// What opens a gateway mailbox. Without either a person at a terminal is asked for the password.
#[derive(Debug, Args)]
pub(super) struct KeyArguments {
    /// The password stands in the first line of this file, or of standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "identity")]
    pub(super) password_file: Option<PathBuf>,
    /// An escrow identity: an age identity file, as age-keygen writes it
    #[arg(long, value_name = "FILE|-")]
    pub(super) identity: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Show the users mail is assigned to
    List {
        /// Those of one gateway mailbox
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
    },
    /// Show one user
    Show {
        /// The directory's id of the user, or an address
        user: String,
        /// In one gateway mailbox
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
    },
    /// Read users from where they come from, and put what changed in force
    #[command(
        after_help = "What could not be read whole is never applied. A list that is empty, much smaller than before, \
                            without a domain that was there, or in which many addresses are another user's \
                            becomes a plan: it waits for --apply PLAN, and until then those \
                            before stay. Nothing that is stored is touched. What the running server has begun goes on when \
                            this is interrupted. Exit codes: 0 done; 3 a source could not be read, its users stay; 4 a plan \
                            waits, or would."
    )]
    Sync(SyncArguments),
    /// Show the changes that wait for an approval
    Plans,
    /// Put users of a source in force as they were; what the source says then becomes a plan until one is applied
    Rollback(RollbackArguments),
    /// Show whose an address is, was, and who wanted it
    Find(FindArguments),
}

#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// Show what is in Quarantine and why, newest first
    List {
        /// Of one gateway mailbox
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
        /// Received since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
        #[arg(long, value_parser = parse_since)]
        since: Option<Since>,
        /// At most so many, newest first
        #[arg(long, default_value_t = 100, value_parser = parse_limit)]
        limit: usize,
    },
    /// Write a message to a file, as it was received, octet for octet; one that is not in Quarantine too
    Export {
        /// The receipt id
        #[arg(value_name = "ID")]
        receipt_id: ReceiptId,
        /// From this gateway mailbox; needed only when it came to several
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
        /// A new file, or - for standard output
        #[arg(long, value_name = "FILE|-")]
        to: PathBuf,
        #[command(flatten)]
        key: KeyArguments,
    },
    /// Show everything of one message in Quarantine, and what can be done about it
    Show {
        /// The receipt id
        #[arg(value_name = "ID")]
        receipt_id: ReceiptId,
        /// In this gateway mailbox; needed only when it is in Quarantine in several
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
    },
    /// Deliver messages from Quarantine as they were read: to INBOX, and to whom their reports name
    #[command(
        after_help = "What is released leaves Quarantine for good. All of the messages are released or none. \
                            Exit code 4: nothing was released, it wants --yes."
    )]
    Release {
        /// The receipt ids
        #[arg(required = true, value_name = "ID")]
        receipt_ids: Vec<ReceiptId>,
        /// In this gateway mailbox; needed only when they are in Quarantine in several
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
        /// Only show what would become of them
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say what is wrong with it
    Check,
    /// Show everything in force, defaults included
    Show,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Only this check; may be given several times
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(CHECKS))]
    pub(super) check: Vec<String>,
    /// Ask nobody outside this machine
    #[arg(long)]
    pub(super) offline: bool,
    /// Make no gateway mailbox for self-tests and send no report to it
    #[arg(long)]
    pub(super) no_delivery: bool,
    /// Ask this name server instead of the system's
    #[arg(long, value_name = "IP[:PORT]", value_parser = parse_nameserver)]
    pub(super) nameserver: Option<SocketAddr>,
    /// Compare the clock with this host's, by SNTP
    #[arg(long, value_name = "HOST")]
    pub(super) time_server: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Reads what is in Quarantine or Unassigned, unless told otherwise, and shows what would become of it; \
                        --apply does it. What is held back for its verdict stays so: see daybook quarantine release. \
                        A report found in an NDR to an NDR mailbox is given to the gateway mailbox served. \
                        Exit code 1: a message is damaged; the others were read."
)]
pub(super) struct ReprocessArguments {
    #[command(flatten)]
    pub(super) which: Which,
    /// Change nothing, only show what would change [default]
    #[arg(long, conflicts_with = "apply")]
    pub(super) dry_run: bool,
    /// Do it
    #[arg(long)]
    pub(super) apply: bool,
    /// Received since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
    #[arg(long, value_parser = parse_since)]
    pub(super) since: Option<Since>,
    /// This message, wherever it is; may be given several times
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "all"])]
    pub(super) receipt: Vec<ReceiptId>,
    /// Every message, wherever it is
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) key: KeyArguments,
}

#[derive(Debug, Args)]
pub(super) struct InspectArguments {
    /// The message, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(super) file: PathBuf,
    /// How to read it
    #[arg(long, value_enum, default_value_t = ProfileArgument::Microsoft365)]
    pub(super) profile: ProfileArgument,
    /// A header field that names the recipients of plain mail, such as X-Gm-Original-To; may be given several times
    #[arg(long, value_name = "NAME", value_parser = parse_envelope_header)]
    pub(super) recipient_header: Vec<String>,
    /// One that names the sender, such as X-Envelope-From; may be given several times
    #[arg(long, value_name = "NAME", value_parser = parse_envelope_header)]
    pub(super) sender_header: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct ReceiptsArguments {
    /// Begun since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
    #[arg(long, value_parser = parse_since)]
    pub(super) since: Option<Since>,
    /// Begun before that time
    #[arg(long, value_parser = parse_since)]
    pub(super) until: Option<Since>,
    /// Only those that ended so
    #[arg(long)]
    pub(super) outcome: Option<OutcomeArgument>,
    /// Only those that concerned this gateway mailbox
    #[arg(long, value_name = "ADDRESS")]
    pub(super) mailbox: Option<String>,
    /// At most so many [default: all]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutcomeArgument {
    /// 250: the message is here
    Accepted,
    /// 4xx, or the connection broke: the peer keeps the message
    Deferred,
    /// 5xx
    Refused,
}

impl From<OutcomeArgument> for TransactionOutcome {
    fn from(argument: OutcomeArgument) -> TransactionOutcome {
        match argument {
            OutcomeArgument::Accepted => TransactionOutcome::Accepted,
            OutcomeArgument::Deferred => TransactionOutcome::Deferred,
            OutcomeArgument::Refused => TransactionOutcome::Refused,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProfileArgument {
    /// Journal reports and NDRs holding them are unwrapped
    #[value(name = "microsoft365")]
    Microsoft365,
    /// Nothing is ever unwrapped
    Generic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleArgument {
    /// Journal reports
    Journal,
    /// NDRs of journal reports that could not be delivered; what they return goes to the gateway mailbox served
    Ndr,
}

impl From<ProfileArgument> for Profile {
    fn from(argument: ProfileArgument) -> Profile {
        match argument {
            ProfileArgument::Microsoft365 => Profile::Microsoft365,
            ProfileArgument::Generic => Profile::Generic,
        }
    }
}

/// A beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

pub(super) fn parse_since(text: &str) -> Result<Since, String> {
    if let Some(at) = Timestamp::parse(text) {
        return Ok(Since::At(at));
    }
    let wrong =
        |_| format!("{text} is neither a time such as 2026-11-21T09:30:00Z nor a span such as 90m, 24h, 7d");
    parse_span(text).map(Since::Ago).map_err(wrong)
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no span such as 90m, 24h, 7d");
    let mut digits = text.chars();
    let unit_seconds = match digits.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        Some('w') => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.as_str().parse().map_err(|_| wrong())?;
    count.checked_mul(unit_seconds).map(Duration::from_secs).ok_or_else(wrong)
}

fn parse_class(text: &str) -> Result<Class, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|_| {
        "one of journal-report, journal-ndr, ndr-without-report, ndr, plain, unreadable".to_owned()
    })
}

fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit @ 1..=RECEIPTS_MAX) => Ok(limit),
        _ => Err(format!("a number from 1 to {RECEIPTS_MAX}")),
    }
}

fn parse_nameserver(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, NAMESERVER_PORT));
    text.parse()
        .or(alone)
        .map_err(|_| "not an IP address, such as 192.0.2.53 or [2001:db8::53]:5353".to_owned())
}

fn parse_envelope_header(text: &str) -> Result<String, String> {
    match EnvelopeHeaders::refusal(text) {
        None => Ok(text.to_owned()),
        Some(why) => Err(why.to_owned()),
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("not of the form KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_beginning_is_a_time_or_a_span() {
        let at = Timestamp::parse("2026-11-21T09:30:00Z").unwrap();
        let cases = [
            ("2026-11-21T09:30:00Z", Some(Since::At(at))),
            ("90m", Some(Since::Ago(Duration::from_secs(5_400)))),
            ("24h", Some(Since::Ago(Duration::from_secs(86_400)))),
            ("7d", Some(Since::Ago(Duration::from_secs(604_800)))),
            ("7", None),
            ("d", None),
            ("", None),
            ("-1d", None),
            ("99999999999999999999d", None),
            ("999999999999999999w", None),
            ("7é", None),
        ];
        for (text, expect) in cases {
            assert_eq!(parse_since(text).ok(), expect, "{text}");
        }
    }

    #[test]
    fn a_name_server_has_a_port_or_the_usual_one() {
        for (text, expect) in [
            ("192.0.2.53", Some("192.0.2.53:53")),
            ("192.0.2.53:5353", Some("192.0.2.53:5353")),
            ("2001:db8::53", Some("[2001:db8::53]:53")),
            ("[::1]:99", Some("[::1]:99")),
            ("ns.example", None),
        ] {
            assert_eq!(parse_nameserver(text).ok(), expect.and_then(|expect| expect.parse().ok()), "{text}");
        }
    }

    #[test]
    fn a_span_longer_than_time_begins_at_its_beginning() {
        let now = Timestamp::from_unix_ms(5_000);
        assert_eq!(Since::Ago(Duration::from_secs(3)).before(now), Timestamp::from_unix_ms(2_000));
        assert_eq!(Since::Ago(Duration::MAX).before(now), Timestamp::from_unix_ms(0));
    }
}
