//! **Daybook** receives Microsoft 365 journal reports over SMTP, keeps every one durably and sealed, works out whose mail it is,
//! and hands it to an archive over POP3 or IMAP.
//!
//! # The life of a report
//!
//! 1. Exchange Online connects to [`smtp`]. The session is a state machine without sockets ([`smtp::session`]); a thin shell
//!    ([`smtp::server`]) reads and writes for it, on listeners, TLS and deadlines from [`net`].
//! 2. RCPT names a *gateway mailbox*, `mbx-<32 hex>@gateway.example.com`. The [`store`] knows which ones there are.
//! 3. The body streams into the [`pipeline`]: up to 1 MiB in memory, beyond that into an encrypted spool, scanned while it
//!    arrives.
//! 4. [`extract`] finds the journal report, also inside an NDR, and cuts out the original message by offsets: the octets are
//!    never rebuilt. It never fails; what it cannot read it names as defects.
//!    Beside it, [`authentic`] judges who really sent it, from the peer and the outermost header; what a gateway mailbox in enforce
//!    or strict mode cannot prove goes to `Quarantine` alone, read all the same.
//! 5. [`assign`] matches the recorded envelope with those whom the [`directory`] knows to have had the addresses when it was sent,
//!    and says, with reasons, whose `Journal Outgoing` and `Journal Incoming` the message belongs in. Nobody known: `Unassigned`.
//!    Unreadable: `Quarantine`. Plain copies go by the header fields that the admin trusts; the report in an NDR that comes to an NDR mailbox, to the gateway mailbox
//!    which that one serves (`pipeline/recover.rs`).
//! 6. The [`store`] seals the content to the gateway mailbox's key. One committer groups what all sessions deliver, decides what
//!    is a duplicate, hands out UIDs, appends to the log, and syncs once. Only then does the peer hear `250 2.0.0 Ok <receipt id>`.
//! 7. A poller logs in over [`fetch`] with the password that opens the keyring, fetches, deletes. What it did becomes part of
//!    the receipt. POP3 ([`fetch::pop3`]) works on INBOX as it was at login; IMAP ([`fetch::imap`]) on all folders as they are,
//!    lists and searches them by the sealed summaries, and opens a message only to send it.
//! 8. [`admin`] answers "where is it and why" from the same receipt; [`cli`] is its face; [`observe`] writes the log in which the
//!    receipt id greps the whole story.
//!
//! # Where users come from
//!
//! Assignment is as good as the list of addresses, and lists arrive broken. So [`directory`] asks every source ([`directory::source`]:
//! Microsoft Graph, LDAP, CSV, users.toml) for everything, whole or not at all; filters, compares with what is in force, and lets a
//! person decide where too much would go. What is in force lies on disk with its past, so that mail is assigned by who had an
//! address *then*, and never waits for a server far away. [`entra`] gets the tokens that Microsoft's services ask for.
//!
//! Journal reports that could not be delivered come back as NDRs. Where their mailbox is elsewhere, [`pull`] fetches it, message by
//! message: stored here first, then deleted there. It hands them to the pipeline as an SMTP session does.
//!
//! # Who looks after it
//!
//! Nobody watches a gateway that works, so it says itself when it does not:
//! - Every event is one line ([`observe::events`]), for the log and for `daybook tail`; what is worth adding up is counted
//!   beside it ([`observe::metrics`]) and shown over HTTP ([`admin::http`]), with health.
//! - [`admin::watch`] looks every half minute: pure judgements ([`observe::alarm`], [`observe::rhythm`]) over what store,
//!   directory, certificate and visits say raise an alarm once and clear it once; people get a mail.
//! - What waits in `Quarantine` and `Unassigned` can be looked at again ([`store::Revision`]): an admin releases it, the directory
//!   learns of a user, a later version reads more. What was said first stays; what is said anew stands beside it.
//! - Whether everything is still there is proven and not believed: the log is a chain of hashes, a thread beside the committer signs
//!   how far it has come ([`store::Checkpoint`]), [`store::verify`] walks it without any key, and a thread reads all of it again at
//!   leisure (`store/scrub/`). The index is only an opinion about the log: what it says twice must agree, or it is made anew beside
//!   the running server (`store/reindex.rs`).
//! - What was deleted can be had back for a while, what is older than a gateway mailbox keeps leaves, and a legal hold stops both
//!   (`store/keep/`, by a clock that never runs back). Content goes when no entry needs it that is there or can be had back, decided
//!   in the committer and looked at twice (`store/freeing/`); the entries stay, also of segments that are emptied
//!   (`store/emptied.rs`), and the chain with them.
//! - A keyring is replaced so that at every moment one password opens everything it should (`store/keyring.rs`). Backups are copied
//!   beside the server, and a restored store gives nothing out that the original gave (`store/backup/`).
//! - Who was told no, or to come again, is on record as well ([`store::TurnedAway`]), bounded, so that no flood fills the log.
//! - [`admin::doctor`] examines everything around the gateway and goes through its own doors.
//! - Whoever connects is counted by address and network ([`net::admission`]), and every message on its way in by its octets
//!   (`pipeline/in_flight.rs`): no flood of strangers keeps reports out.
//! - A reload (`cli/reload.rs`) puts changed settings ([`config::Live`]), users and certificates in force while it runs; what is
//!   bad changes nothing.
//! - The service manager hears that it is ready, reloads, stops, and lives (`cli/notify.rs`); not for a failing disk: mail
//!   waits at its senders then, and a new process would meet the same disk.
//!
//! # Who may know whom
//!
//! ```text
//! mail ◀─ config, extract, authentic, observe ◀─ net, store ◀─ entra ◀─ directory
//!      ◀─ assign, smtp, fetch ◀─ pull, pipeline ◀─ admin ◀─ cli
//! ```
//!
//! | room | holds | never knows |
//! |---|---|---|
//! | [`mail`] | the vocabulary: addresses, envelopes, ids, sizes | any other room, clocks, I/O |
//! | [`config`] | the checked settings | sockets, secrets |
//! | [`smtp`] | receiving | journals, users, folders |
//! | [`extract`] | reading reports | files, users, transport, clocks |
//! | [`authentic`] | the verdict on who sent a report | store, users |
//! | [`directory`] | who the users are, and were | messages |
//! | [`assign`] | whose a message is | octets, store, network, time |
//! | [`pipeline`] | the order of the steps, failure → answer | protocol syntax |
//! | [`store`] | durability, duplicates, UIDs, sealing | SMTP, MIME, why a folder was chosen |
//! | [`entra`] | tokens of Microsoft Entra ID | users, messages |
//! | [`fetch`] | serving | journals, directory sources |
//! | [`pull`] | fetching an NDR mailbox elsewhere | journals, users, folders |
//! | [`admin`] | every operation, as a function; HTTP, alarms to mail, self-examination | storage layout |
//! | [`cli`] | arguments, output, exit codes | what `admin` does not offer |
//! | [`observe`] | log, metrics, judgement of alarms | message content |
//! | [`net`] | listeners, TLS, deadlines, drain | protocols |
//!
//! `tests/tidy.rs` reads the imports and fails on an arrow that runs back. The pure rooms ([`mail`], [`extract`], [`authentic`],
//! [`assign`], the session cores) take values and return values: time and randomness are arguments.
//!
//! # Invariants
//!
//! - 250 is said only when content, log entry and every directory entry leading to them are durable. Any failure on the
//!   way is a 4xx: the sender keeps the message.
//! - Octets are kept as received. Extraction cuts, it does not rebuild; the canonical form that POP3 and IMAP need exists only on
//!   the wire.
//! - Nothing is dropped. What cannot be read is in `Quarantine`, what belongs to nobody in `Unassigned`, both in INBOX too;
//!   what is held back for its verdict is in `Quarantine` alone.
//! - The same report again adds nothing; another body is always kept, whatever its Message-ID.
//! - UIDs only rise, UIDLs are never reused.
//! - Nothing leaves before its time: not by a hold that was set a moment ago, a clock that jumped, or an index that is wrong. Each
//!   deletion is an entry that says who did it and why.
//! - A deleted or damaged index costs time, never mail; damaged content is named and never passes for mail.
//! - The server cannot read what it stores: only a password or an escrow identity opens a keyring.
//!
//! On-disk formats are written down where they are made: the log in `store/format.rs` and `store/fact.rs`, the index in
//! `store/index.rs`, keyrings in `store/seal.rs`, the digest input in [`extract::join`], the summary in `mail/summary.rs`.

/// So that what tests support themselves with is the same for those in here and those outside.
#[cfg(test)]
extern crate self as daybook;

pub mod admin;
pub mod assign;
pub mod authentic;
pub mod cli;
pub mod config;
pub mod directory;
pub mod entra;
pub mod extract;
pub mod fetch;
pub mod mail;
pub mod net;
pub mod observe;
pub mod pipeline;
pub mod pull;
pub mod smtp;
pub mod store;
