//! Administration: every operation as one function, and the socket by which they are asked of a running server.
//!
//! ```text
//! cli ─▶ Request ─▶ admin.sock ─▶ server ─▶ perform ─▶ Response        (a server runs)
//! cli ─▶ Request ───────────────────────────▶ perform ─▶ Response        (none does: cli opens the store itself)
//! ```
//! [`perform`] is the same code in both, so a command means the same with and without a server. A [`Request`] and a
//! [`Response`] are plain data, one JSON object each; [`OpError`] says by its variant what the asker can do, and has the
//! exit code that goes with it.
//!
//! [`doctor`] examines everything around the gateway; `probe` holds the clients with which it, and the demonstration, go through
//! the gateway's own doors.
//!
//! Invariants:
//! - An operation either did what it says or changed nothing.
//! - A password leaves here once, in the answer to the request that made the gateway mailbox; it is in no log and in
//!   no `Debug`.
//! - Whoever changes something stands in the store's log as actor: `cli`, and which user of the system.
//! - Only the user the server runs as, and root, are heard on the socket, whatever the file system's permissions say.
//!
//! Gateway mailboxes are named by address, login, id or, when only one has it, name.
//!
//! [`http`] shows health and metrics to monitoring, from the same checks that `daybook readyz` asks for.
//!
//! This room knows no storage layout, and words nothing for people but mail about the gateway's own state ([`watch`]).

mod advice;
mod backup;
mod check;
mod client;
mod closed_gaps;
pub mod credential;
pub mod doctor;
mod examine;
mod export;
mod export_folders;
mod gap;
mod gaps;
mod gateway_mailboxes;
mod gauges;
mod health;
pub mod http;
mod keeping;
mod key;
mod key_changes;
mod learned;
mod log_level;
mod ops;
mod ports;
pub(crate) mod probe;
mod pulling;
mod quarantine;
mod reassign;
mod receipts;
mod reprocess;
mod request;
mod retention;
mod revised;
mod scrub;
mod self_test;
mod socket;
mod sync_log;
mod syncs;
mod tail;
mod transactions;
mod trust;
mod undelete;
mod users;
mod verify;
mod views;
pub mod watch;
mod wiped;

pub use advice::Advice;
pub use backup::{backup, restore};
pub use check::do_to_index;
pub use client::{AskError, TailLines, ask, export, tail};
pub use export::{Export, ExportView, begin as begin_export};
pub use export_folders::{
    Difference, ExportChecked, ExportFormat, ExportNote, ExportProgress, FolderExported, FoldersExport,
    FoldersExported, NotExported, check_export, export_folders,
};
pub use gap::{Gap, GapState};
pub use gaps::{GAPS_MAX, GapsView, NotReached};
pub use gateway_mailboxes::{OVERLAP_DAYS_DEFAULT, OVERLAP_DAYS_MAX};
pub use health::Serving;
pub use key::{Key, NewPassword};
pub use key_changes::{FormerKeyView, KeyExportView, KeysView, PasswordResetView};
pub use learned::{Counted, CountedCertificate, LEARNED_REPORTS_MAX, LearnedView, RecentView, Verdicts};
pub use log_level::{LOG_LEVEL_SECONDS_MAX, configured_level};
pub use ops::{Context, perform};
pub use ports::{PORTS_FILE, Ports};
pub use pulling::PullerView;
pub use quarantine::{QuarantineView, QuarantinedDetail, QuarantinedView};
pub use reassign::{REASSIGNED_MAX, ReassignPage, ReassignPlace, Reassigned, UnreadReceipt};
pub use receipts::{RECEIPTS_MAX, TracedView};
pub use reprocess::{
    Damaged, EntryView, REPROCESS_RECEIPTS_MAX, Reached, RecoveredView, ReprocessedView, Reprocessing,
    RereadView,
};
pub use request::{
    AddressView, Check, CreatedView, Examined, FetchingView, FolderView, GatewayMailboxView, InboxView,
    LogLevelView, MailboxExamined, OpError, Readiness, Request, Response, RoleView, ServedView, UserView,
};
pub use retention::{MailboxRetentionView, PassAsked, RecoverableView, RetentionView, RuleView};
pub use revised::{LeftView, PlacedView, RevisedView};
pub use scrub::scrub_page;
pub use socket::{AdminSocket, SOCKET_FILE};
pub(crate) use sync_log::{log_reload, log_sync};
pub use syncs::{SyncRefused, SyncsView};
pub use transactions::{TRANSACTIONS_MAX, TransactionsAsked};
pub use undelete::UndeletedView;
pub use verify::verify;
pub use views::go_on as show_waiting;
