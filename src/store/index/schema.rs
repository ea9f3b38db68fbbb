//! The tables. One version is current: an index of an older one is made anew from the log, of a newer one is refused.
//!
//! SQLite does not check its pages, and what a flipped bit takes out of a tree is not missed by anybody. So what must not
//! go unseen is said twice (see `sums.rs`): rows carry a check over their columns, `folder` what its live entries come to,
//! `census` how many folders and gateway mailboxes there are, and a folder is found by two indexes.
//!
//! - `revision`: where the entries stand that look at a receipt again, in their order.
//! - `placed_later`: entries such a look made, and those of reports that an NDR brought back: their place in a folder says
//!   nothing about when the mail came, or whether the way it should come by works.
//! - `key_file`: the files of wrapped keyrings, as they were last written.
//! - `turned_away`: transactions that were, where their entries stand; `code` is 0 where the connection broke.
//! - `turned_away_name`: the addresses they named, folded.
//! - `keeping_event`: what retention took out, and what was brought back, by whom.
//! - `in_grace`: deleted entries that can be had back: as long as one is here its content stays. Not in the log: what is made of
//!   that again has each of them until a `freed` entry takes it out.
//! - `object_use`: which messages lie in an object, or have their summary there.
//! - `unplaced`: objects of a receipt that no entry made with it leads to: those of a report that came again, say. They stay
//!   as long as any entry of that receipt, or of the one it repeats.
//! - `freed`: objects whose content is gone, or goes; `unpunched`: those of them whose octets may still be there.
//! - `kept_from`: receipts whose time is that of a clock that had been put back, or that got entries later, and when retention
//!   counts from instead.
//! - `departure`: entries such a look took out. Their placement has no join any more, and spares no other.
//! - `flags`: the flags of live entries that have any. With the entry they go; `folder` knows what they come to.

/// Version of the index, counted together with that of the log's entries: a program too old for one refuses both.
pub(in crate::store) const INDEX_VERSION: i64 = 6;

pub(super) const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE census (scope BLOB PRIMARY KEY, rows INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE gateway_mailbox (
    id BLOB PRIMARY KEY, state TEXT NOT NULL, digest_key BLOB NOT NULL, row_check INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE folder (
    id INTEGER PRIMARY KEY, gateway_mailbox BLOB NOT NULL, name TEXT NOT NULL, slug TEXT,
    uid_validity INTEGER NOT NULL, uid_next INTEGER NOT NULL, live INTEGER NOT NULL, live_octets INTEGER NOT NULL,
    live_sum INTEGER NOT NULL, uid_sum INTEGER NOT NULL, flag_changes INTEGER NOT NULL, flagged INTEGER NOT NULL,
    flag_sum INTEGER NOT NULL, seen INTEGER NOT NULL, marked_deleted INTEGER NOT NULL, name_sum INTEGER NOT NULL,
    row_check INTEGER NOT NULL, UNIQUE (gateway_mailbox, name));
CREATE INDEX folder_name_sum ON folder (name_sum);
CREATE INDEX folder_slug ON folder (slug, gateway_mailbox) WHERE slug IS NOT NULL;
CREATE TABLE object (
    id INTEGER PRIMARY KEY, octets INTEGER NOT NULL, sealed_octets INTEGER NOT NULL, sealed_sha256 BLOB NOT NULL,
    segment INTEGER, place INTEGER, file TEXT, row_check INTEGER NOT NULL);
CREATE INDEX object_file ON object (file) WHERE file IS NOT NULL;
CREATE TABLE receipt (
    id BLOB NOT NULL, gateway_mailbox BLOB NOT NULL, at INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL,
    octets INTEGER NOT NULL, identity BLOB, row_check INTEGER NOT NULL, PRIMARY KEY (id, gateway_mailbox)) WITHOUT ROWID;
CREATE INDEX receipt_identity ON receipt (gateway_mailbox, identity) WHERE identity IS NOT NULL;
CREATE TABLE message (
    id INTEGER PRIMARY KEY, gateway_mailbox BLOB NOT NULL, extents TEXT NOT NULL, octets INTEGER NOT NULL,
    canonical_octets INTEGER NOT NULL, lines INTEGER NOT NULL, flags INTEGER NOT NULL, exact BLOB NOT NULL,
    join_digest BLOB NOT NULL, sha256 BLOB, summary INTEGER NOT NULL, summary_at INTEGER NOT NULL,
    row_check INTEGER NOT NULL);
CREATE INDEX message_exact ON message (gateway_mailbox, exact);
CREATE TABLE placement (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, message INTEGER NOT NULL, receipt BLOB NOT NULL, at INTEGER NOT NULL,
    epoch INTEGER NOT NULL, join_digest BLOB, deleted_at INTEGER, row_check INTEGER NOT NULL,
    PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE INDEX placement_join ON placement (folder, join_digest) WHERE join_digest IS NOT NULL;
CREATE INDEX placement_receipt ON placement (receipt);
CREATE INDEX placement_message ON placement (message);
CREATE INDEX placement_live ON placement (folder, at) WHERE deleted_at IS NULL;
CREATE TABLE flags (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, bits INTEGER NOT NULL, row_check INTEGER NOT NULL,
    PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE TABLE folder_event (
    folder INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL,
    client TEXT NOT NULL);
CREATE INDEX folder_event_uids ON folder_event (folder, first);
CREATE INDEX folder_event_at ON folder_event (folder, at);
CREATE TABLE name (value TEXT NOT NULL, receipt BLOB NOT NULL, PRIMARY KEY (value, receipt)) WITHOUT ROWID;
CREATE TABLE revision (
    receipt BLOB NOT NULL, gateway_mailbox BLOB NOT NULL, number INTEGER NOT NULL, segment INTEGER NOT NULL,
    place INTEGER NOT NULL, octets INTEGER NOT NULL, identity BLOB, row_check INTEGER NOT NULL,
    PRIMARY KEY (receipt, gateway_mailbox, number)) WITHOUT ROWID;
CREATE INDEX revision_identity ON revision (gateway_mailbox, identity) WHERE identity IS NOT NULL;
CREATE TABLE placed_later (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE TABLE key_file (
    gateway_mailbox BLOB NOT NULL, name TEXT NOT NULL, octets INTEGER NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (gateway_mailbox, name)) WITHOUT ROWID;
CREATE TABLE turned_away (
    id BLOB PRIMARY KEY, at INTEGER NOT NULL, session BLOB NOT NULL, network TEXT NOT NULL, code INTEGER NOT NULL,
    segment INTEGER NOT NULL, place INTEGER NOT NULL, octets INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE turned_away_name (
    value TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (value, id)) WITHOUT ROWID;
CREATE TABLE keeping_event (
    folder INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL,
    actor TEXT NOT NULL, why TEXT);
CREATE INDEX keeping_event_uids ON keeping_event (folder, first);
CREATE TABLE in_grace (
    folder INTEGER NOT NULL, deleted_at INTEGER NOT NULL, uid INTEGER NOT NULL,
    PRIMARY KEY (folder, deleted_at, uid)) WITHOUT ROWID;
CREATE INDEX in_grace_uid ON in_grace (folder, uid);
CREATE TABLE object_use (
    object INTEGER NOT NULL, message INTEGER NOT NULL, PRIMARY KEY (object, message)) WITHOUT ROWID;
CREATE INDEX object_use_message ON object_use (message);
CREATE TABLE unplaced (
    object INTEGER NOT NULL, receipt BLOB NOT NULL, gateway_mailbox BLOB NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (object, receipt)) WITHOUT ROWID;
CREATE INDEX unplaced_receipt ON unplaced (receipt);
CREATE TABLE freed (object INTEGER PRIMARY KEY, at INTEGER NOT NULL);
CREATE TABLE unpunched (object INTEGER PRIMARY KEY);
CREATE TABLE kept_from (receipt BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE departure (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL,
    PRIMARY KEY (folder, uid)) WITHOUT ROWID;
";
