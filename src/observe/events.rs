//! Every event there is: its levels, its fields, and what it says. `tests/events.rs` keeps this list and the code the same.
//!
//! ERROR needs a person. WARN: something odd, and it went on. INFO marks a step of a message's life or an admin's act. DEBUG is
//! protocol detail. In every line, besides the fields below:
//!
//! - `timestamp` (RFC 3339 in UTC, milliseconds), `level`, `event`.
//! - `receipt_id` names a transaction, from MAIL on: what the 250 reply, `daybook trace` and every later line about that message
//!   say too. `session_id` names one connection.
//! - `mailbox` is the login of a gateway mailbox, `mailbox_id` its id, which stays when its address changes. `login` is what a
//!   client said it was.
//! - `bytes` and `octets` are octets, fields ending in `_seconds` and `seconds` seconds, `error` is the cause in words.
//! - `sender`, `recipients` are addresses as the report wrote them, at most ten recipients; `recipient_count` counts all.
//!   `placements` and `already` are `folder:uid` each, separated by blanks.
//!
//! Never in any field: bodies, subjects, passwords, keys.
//!
//! # Mail that comes in
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `smtp.connected` | debug | session_id, peer | A peer connected. |
//! | `smtp.tls` | info | session_id, version, cipher, client_certificate, client_chain, client_proven, client_names | The session is encrypted from here on. Where the peer showed a certificate: its SHA-256, what its chain is worth, whether the peer holds its key, whom it names. |
//! | `smtp.tls_failed` | warn | session_id, peer, error, cause | The handshake failed; the session is over. |
//! | `smtp.accepted` | info | receipt_id, session_id, peer | The 250 is on its way: the message is ours. |
//! | `smtp.refused` | warn | receipt_id, session_id, peer, helo, code, enhanced | The peer was told that it is at fault. |
//! | `smtp.deferred` | error, warn | receipt_id, session_id, peer, code, enhanced, blame | The peer was told to come again: our fault (error) or the operator's wish (warn). |
//! | `smtp.broken_off` | info | receipt_id, session_id, peer, octets | The connection ended in the middle of a transaction with a recipient that was accepted; so many octets of a body had come. The peer keeps the message. |
//! | `smtp.body_refused` | error | receipt_id, session_id, peer, reason, octets | A message for a served address, or from a favoured peer, was refused for good: `bare-cr`, `bare-lf`, `nul`, `too-large`, `declared-size`, `pipelined`, `chunk-size` or `parameter`. It may have been a report that nobody brings again. |
//! | `smtp.enough` | info | session_id, peer, code, enhanced, messages | The connection brought as many messages, or lasted as long, as one may; the peer was asked to come anew. |
//! | `smtp.disconnected` | debug | session_id, peer, reason, messages | The session is over. |
//! | `smtp.over_cap` | warn | peer, limit, favoured, refused | Too many connections in all (`total`), from its `address` or its `network`; logged at 1, 2, 4, 8, … refusals by that limit. |
//! | `smtp.accept_failed` | error | error, failed | The system gives no more connections; logged at most once a minute for a listener, with how often. |
//! | `mailbox.former_address_used` | info | receipt_id, session_id, mailbox, mailbox_id, peer, until | Mail is on its way to a former address, which is served until then. |
//! | `mailbox.retired_address_asked` | warn | receipt_id, session_id, mailbox_id, peer, until | Mail to a former address was refused, which was served until then: a report may be lost. `smtp.refused` follows. |
//! | `journal.received` | info | receipt_id, session_id, bytes | A message is here, whole; nothing is promised yet. |
//! | `journal.committed` | info | receipt_id, session_id, mailbox, peer, tls, verdict, class, bytes, sender, recipients, recipient_count, sha256, message_id, placements, already, repeats, relation, exact_copies, unmatched, defects, receive_seconds, extract_seconds, seal_seconds, commit_seconds, sync_seconds, group | It is durable and placed, once for each gateway mailbox. Without a report, `sender` is that of MAIL FROM. `verdict` says whether it is what it says it is: `authentic`, `unverified`, `suspect`. `repeats` names the receipt whose report this is again. `relation` says what it is to mail received before: a `repetition`, a `fork` (another report of the same message), or `same-message-id` (another message). `exact_copies` are messages whose octets were held already. |
//! | `journal.recovered` | info | receipt_id, session_id, mailbox, ndr_mailbox, result, repeats, report | An NDR returned a journal report: `result` is `recovered` when it was not here, `already_held`, `held_back` for its verdict, or `doubtful` when it may be cut short. `mailbox` has it now; `ndr_mailbox` is where the NDR came, when that is another one. `report` is its Message-ID. |
//! | `journal.report_missing` | warn | receipt_id, session_id, mailbox, report | An NDR returned nothing but the header of a journal report: unless it is here or comes another way, it is lost. `daybook gaps` says which, and lists it until it has. Also told of an NDR that is held back. |
//! | `gaps.closed` | info | receipt_id, mailbox_id, actor | An admin has seen to a report that did not come back with that NDR: it is alarmed no more. |
//! | `gaps.closed_unread` | warn | file, error | What was closed cannot be read: it is listed and alarmed again. |
//! | `journal.quarantined` | warn | receipt_id, session_id, mailbox, class, defects | It could not be read; it is kept under Quarantine. |
//! | `journal.held_back` | warn | receipt_id, session_id, mailbox, verdict, class, reason | The gateway mailbox is in enforce or strict mode and it is not authentic; it is kept under Quarantine alone. `reason` is the first of those that `daybook explain` shows. |
//! | `journal.forbidden` | warn | receipt_id, session_id, mailbox_id, peer | A recipient was refused: the gateway mailbox is in strict mode and nothing from that peer could be authentic. |
//! | `journal.unassigned` | warn | receipt_id, session_id, mailbox, class, unmatched | It belongs to nobody known; it is kept under Unassigned. |
//! | `journal.released` | info | receipt_id, mailbox, placements, actor | An admin let it out of Quarantine; `placements` were made. |
//! | `journal.reassigned` | info | receipt_id, mailbox, placements, actor | The directory knows users now that it did not know when it came; `placements` were made. |
//! | `journal.reprocessed` | info | receipt_id, mailbox, class_was, class, differences, placements, left, actor | It was read again and says something else than before; `differences` names what. `placements` were made, `left` taken out. |
//! | `journal.deferred` | error | receipt_id, session_id, error | It could not be stored; the peer keeps it. |
//! | `journal.extraction_failed` | error | receipt_id, session_id, error | A bug: extraction failed, or what was read cannot be stored; the message goes to Quarantine. |
//! | `journal.assignment_failed` | error | receipt_id, mailbox | A bug: assignment failed; the message goes to Unassigned. |
//!
//! # Mail that pullers fetch from accounts elsewhere
//!
//! What becomes of it is told by the events above, under the same `receipt_id`. `puller` is its name, `uid` what the account calls
//! the message.
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `pull.connected` | debug | session_id, puller, peer | The server is there, and is the one named. |
//! | `pull.fetched` | info | receipt_id, session_id, puller, uid, octets | A message was fetched, and is stored. |
//! | `pull.left` | warn | session_id, puller, uid, octets, octets_max | A message is larger than `[smtp] max_message_bytes`: it stays where it is. Told once of each. |
//! | `pull.session` | info | session_id, puller, messages, octets, left, unsettled, more, seconds | What a visit brought: `left` are too large, `unsettled` stored here and still at the account, `more` says that the next visit follows at once. |
//! | `pull.failed` | warn | session_id, puller, kind, error, advice | A visit ended before its work was done; nothing is lost, and it is tried again ever more seldom. |
//! | `pull.state_forgotten` | warn | session_id, puller, why | What was fetched before is not known: it is of another account, or damaged. Everything is looked at again, and adds nothing twice. |
//!
//! # Mail that is fetched
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `auth.ok` | info | session_id, protocol, peer, login, mailbox, mailbox_id | A client logged in. |
//! | `mailbox.former_login_used` | info | session_id, protocol, peer, mailbox, mailbox_id, until | A client logged in by a former address, which is served until then. |
//! | `auth.failed` | warn | session_id, protocol, peer, login, reason | A client did not get in: `wrong`, `unavailable`, `in-use`, `too-many` (sessions of that gateway mailbox), or `clear` when it spoke of credentials without TLS. |
//! | `auth.backed_off` | warn | session_id, protocol, peer, network | Passwords from that network are not checked any more for now, after too many wrong ones: for one login, or for all. Told once until nothing was refused for ten minutes; each refusal is counted in `daybook_auth_failures_total`. |
//! | `auth.busy` | warn | session_id, protocol, peer, refused | So many logins wait for their check that this one was told to come again. `refused` have been so far; told of each power of two. |
//! | `auth.unavailable` | error | session_id, error | The password could not be checked; it was answered as a wrong one. |
//! | `auth.keys_changed` | info | session_id | Its keys were changed while a client logged in; it is told to come again. |
//! | `auth.broken` | error | session_id, error | A bug: checking a password failed. |
//! | `fetch.fetched` | info | receipt_id, session_id, mailbox, folder, uid, uidl, peer | A message was fetched whole, and that is on record. |
//! | `fetch.deleted` | info | receipt_id, session_id, mailbox, folder, uid, uidl, peer | A client deleted a message, and that is on record. |
//! | `fetch.session` | info | session_id, login, protocol, peer, mailbox, mailbox_id, listed, fetched, octets, deleted, folders, searches, client, seconds, end | A session after its login, at its end. Of IMAP also: how often it opened a folder (`listed` counts what was in them) and searched, and what the client's program calls itself. |
//! | `fetch.damaged` | error | receipt_id, session_id, mailbox, uid, uidl, error | A stored message is not what was stored. |
//! | `fetch.former_key` | warn | receipt_id, session_id, mailbox, uid | A message was asked for that is sealed to a key which the password given does not open; it is kept. |
//! | `fetch.gone` | error | receipt_id, session_id, mailbox, uid, error | A message was listed and is no longer there. |
//! | `fetch.unreadable` | error | session_id, mailbox, uid, uidl, error | A message could not be read just now. |
//! | `fetch.failed` | error | receipt_id, session_id, mailbox, uid, error | The store could not do what a client asked. |
//! | `fetch.commit_failed` | error | session_id, mailbox, error | What a client fetched and deleted could not be recorded; nothing was deleted. |
//! | `fetch.unrecorded` | warn | session_id, mailbox, peer, messages | So many messages were fetched, which could not be recorded: the disk is full to the last octet, or a client left more folders in that state than are kept. |
//! | `fetch.tls_failed` | info, error | session_id, protocol, peer, error, cause | The handshake failed, by the client's fault (info) or ours (error). |
//! | `fetch.tls_injection` | warn | session_id, protocol, peer, error | A client, or somebody between, sent commands before TLS to be taken for later ones. |
//! | `fetch.over_cap` | warn | protocol, peer, limit, refused | Too many connections, as `smtp.over_cap`; logged at 1, 2, 4, 8, … refusals. |
//! | `fetch.broken` | error | session_id, error | A bug: serving folders failed. |
//! | `fetch.unavailable` | warn | service, error | IMAP is not served there: nobody asked for the default port, and it cannot be had. |
//! | `fetch.accept_failed` | error | protocol, error, failed | As `smtp.accept_failed`. |
//!
//! # What admins do
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `mailbox.created` | info | mailbox, mailbox_id, address, state, actor | A gateway mailbox was made. |
//! | `mailbox.changed` | info | mailbox, mailbox_id, address, state, actor | Keys of it were changed. |
//! | `mailbox.rotated` | info | mailbox, mailbox_id, address, state, actor | It has a new address; `mailbox` and `address` are the new ones. |
//! | `mailbox.suspended` | info | mailbox, mailbox_id, address, state, actor | It takes no mail any more. |
//! | `mailbox.resumed` | info | mailbox, mailbox_id, address, state, actor | It takes mail again. |
//! | `mailbox.deleted` | info | mailbox, mailbox_id, address, state, actor | It is served no more. |
//! | `mailbox.held` | info | mailbox, mailbox_id, address, state, user, actor | A legal hold is on it, or on a user's folders alone: nothing leaves. Why says `daybook mailbox show`. |
//! | `mailbox.unheld` | info | mailbox, mailbox_id, address, state, user, actor | That hold is over. |
//! | `mailbox.view_shown` | info | mailbox, mailbox_id, maildrop, shown, kept, seconds, actor | INBOX holds something else since it was set: of what waited, so many messages (as they were shown before) came again in the new way, under new UIDs, since somebody last went on with it; those `kept` stay as they were. |
//! | `mailbox.view_waits` | warn | mailbox_id, error | What waits in INBOX could not be shown in the new way just now; the server tries again. |
//! | `mailbox.view_unread` | warn | receipt_id, mailbox, why | What is on record of a message that waits cannot be read: it stays as it is shown. |
//! | `mailbox.undeleted` | info | mailbox, mailbox_id, folder, entries, due, actor | So many messages that had been deleted from a folder are there again, under new UIDs; those `due` stayed, since retention would take them out at once. |
//! | `keys.opened` | info | mailbox, mailbox_id, by, purpose, actor | An admin opened a gateway mailbox, with its `password` or an `escrow identity`. |
//! | `keys.refused` | warn | mailbox, mailbox_id, by, purpose, actor | An admin tried to, with the wrong one. |
//! | `keys.rotated` | info | mailbox, mailbox_id, former, lost, actor | It has a new key; so many before, of which so many are lost to its password. |
//! | `keys.password_reset` | info | mailbox, mailbox_id, former, lost, actor | It has another password. |
//! | `keys.exported` | info | mailbox, mailbox_id, former, lost, actor | Its keys were handed out. |
//! | `keys.settled` | info | mailbox_id, files | A crash had left so many files of a keyring half-way; they were put in place or removed. |
//! | `keys.unsettled` | warn | mailbox_id, error | That failed. Whichever file is on record is read all the same. |
//! | `keys.unreadable` | error | mailbox, mailbox_id, error | A login met a wrapped keyring that is not there or cannot be read; it was answered as a wrong password. |
//! | `keys.escrowed` | info | mailbox, mailbox_id, recipients, actor | Its keyring was wrapped to so many more escrow recipients. |
//! | `export.finished` | info | mailbox, mailbox_id, format, by, messages, added, octets, damaged, former_key, actor | Folders were exported by `daybook export`, which told the server so at its end: `messages` are in the export now, `added` of them with so many octets are new, `damaged` cannot be read, `former_key` not be opened. `by` is what opened the gateway mailbox, `nothing` for what stays sealed. |
//! | `admin.export_failed` | error | receipt_id, error | A message cannot be handed out to its end: it is damaged, or the disk fails. |
//! | `admin.refused` | warn | uid | Somebody else than the server's user asked for something on `admin.sock`. |
//! | `admin.broken_off` | debug | | Somebody hung up on `admin.sock`, or took too long. |
//! | `admin.accept_failed` | error | error | `admin.sock` gives no more connections. |
//! | `admin.socket_left` | warn | error | `admin.sock` could not be removed at the end. |
//!
//! # Configuration, users, certificate
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `config.kept` | error | error | The configuration was read again and has a fault; what it said before stays in force. |
//! | `config.needs_restart` | warn | keys | These keys changed and keep their values until the next start. |
//! | `config.reloaded` | info | changed | It was read again; what these keys say now is in force. |
//! | `config.unchanged` | info |  | It was read again and says nothing new that can be put in force. |
//! | `config.notice` | warn | notice | The configuration is right, and yet an operator should know this. |
//! | `directory.loaded` | info | source, path, users | The users of a source that are in force at start: as read now, or as kept from before. |
//! | `directory.reloaded` | info | source, path, users, changed | A users.toml was read again. |
//! | `directory.kept` | error | source, path, users, reason | It is bad; the one before stays in force. |
//! | `directory.synced` | info | source, by, outcome, users, added, removed, changed, moved, filtered, skipped, conflicts, snapshot, requests, ms | Any other source was read whole: by `schedule`, for a `change` of its file or settings, or by an `admin`; what it says is in force, as list `snapshot` when it is another than before. `changed` counts new names, and addresses got and lost; `filtered` those who are no users; `skipped` entries that cannot be used. |
//! | `directory.sync_failed` | error, warn | source, users, kind, error, advice | It was not read whole, and `users` stay in force. `kind` is what is wrong: `unreachable`, `incomplete` and `changing` may mend themselves (warn); `refused`, `invalid`, `unreadable`, `empty`, `too-large` and `storage` need a person. `error` has the ids by which the other side traces it. |
//! | `directory.plan_waiting` | warn | source, plan, why, users, would_be, added, removed, advice | It says so much less than before, or differs after a rollback, that nothing of it is applied without an approval: `users` stay, `would_be` would be there. |
//! | `directory.applied` | info | source, plan, snapshot, users, added, removed, actor | An admin approved that. |
//! | `directory.rolled_back` | warn | source, snapshot, users, users_before, actor | An admin put a former list in force; the next that differs waits for an approval. |
//! | `directory.address_moved` | info | source, address, from, to, unlogged | An address leads to another user from now on, or so many more do. Both are ids. |
//! | `directory.conflict` | warn | source, path, conflict, unlogged | Two users claim an address, or two sources name different users by one id, or there are so many more claims. |
//! | `directory.snapshot_damaged` | error | source, what | A list or plan kept on disk is damaged or of a newer version; the newest good list is in force, if there is one, and the next reading that differs waits for an approval. |
//! | `directory.plan_not_kept` | error | source, what | A plan cannot be kept on disk: it waits, and is gone with the program. Logged once until it can. |
//! | `directory.clock_was_ahead` | warn | source, what | The list in force was made while the clock was ahead; its times are cut down to now. |
//! | `directory.credential_expiring` | warn | name, ends, days_left, stage | The credential of the application that a source of users or a puller uses ends soon, or has ended: told once at each `stage` of 60, 28, 14, 7, 1 and 0 days. |
//! | `tls.self_signed` | warn | hostname, advice | No certificate is configured. |
//! | `tls.reloaded` | info | not_after | The certificate was read again, being told to or having changed, and is shown from now on. |
//! | `tls.kept` | error | error | Certificate or key is bad; the pair before stays in force. Logged once for each state of the files. |
//! | `tls.authorities_kept` | error | error | The `ca_file` of `[exchange]` is bad; whom we believed before stays in force. |
//!
//! # The store
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `store.torn` | warn | what | What a crash cut off, never acknowledged, was put aside. |
//! | `store.damaged` | error | receipt_id, receipts, place, what, octets, object, mailbox, mailbox_id, placements, error | Something stored is not what was stored. What the background reading finds is told of once: where, what is wrong, the first transaction it touches and how many, and the entries in folders that lead to it. |
//! | `store.damage_over` | info | place, what | It is whole again, or nobody can ask for it any more. |
//! | `store.damage_closed` | info | place, actor | An admin knows of it: it is alarmed no more. |
//! | `store.scrubbed` | info | octets, objects, seconds, damaged | All that is stored was read again, which took so long; so many things are damaged. |
//! | `store.scrub_failed` | warn | error | It could not go on, for no fault of what is stored; it is tried again. |
//! | `store.loss_not_kept` | error | file, error | That the end of the log is missing cannot be kept over a restart, or could not be read; it is tried again. |
//! | `store.scrub_forgotten` | warn | file, error | Where it stood, and what it had found, cannot be read: it begins anew, and damage is named once more. |
//! | `store.scrub_not_kept` | warn | file, error | That cannot be written; logged once until it can. |
//! | `store.orphaned` | warn | what | Content that nothing leads to was found. |
//! | `store.orphans_left` | warn | files, error | It could not be put aside; the next start after a crash tries again. |
//! | `store.replayed` | info | groups | The index was brought up to the log. |
//! | `store.replaying` | info | octets, octets_total, messages | So much of the log is in the index so far. |
//! | `store.replay_again` | warn | why | What was left of an index being made cannot be used; it is begun again. |
//! | `store.index_rebuilt` | warn | reason | The index was made anew. |
//! | `store.index_failed` | error | error | The index failed; the log has everything, and it is tried again. |
//! | `store.index_damaged` | error | why | The index is made anew, beside the one in use. |
//! | `store.index_repaired` | warn | messages, ms | The index works again; when it was made anew, from how much and how long. |
//! | `store.commit_failed` | error | error | Writing failed: nothing of the group was acknowledged. |
//! | `receipts.dropped` | warn | dropped | Transactions were turned away while the store could not write, and too many wait to be put on record: so many have only been counted; logged at 1, 2, 4, 8, …. Their lines above tell of each. |
//! | `receipts.unwritable` | error | dropped, error | A bug: so many of them cannot be put on record. |
//! | `store.routes_failed` | error | error | The list of gateway mailboxes could not be read again. |
//! | `store.checkpoint_failed` | warn | error | The index could not be folded into its file; it is tried again. |
//! | `store.checkpoint` | info | sequence, segment, offset, chain, signed | Something was stored, and how far the log has come is signed. |
//! | `store.checkpoint_not_kept` | error | place, error | Signed checkpoints cannot be written to `data_dir` or `checkpoint_dir`; it is tried again. |
//! | `store.checkpoint_kept` | info | place | They can again. |
//! | `store.checkpoint_refused` | error, warn | place, what, why | A line that is no checkpoint of this store stands among them. |
//! | `store.checkpoint_key_made` | info | key | The key that signs checkpoints was made. |
//! | `store.checkpoint_key_lost` | error | why, previous_key, key | It was gone or damaged, and another was made. Also where a log with entries never had one. |
//! | `store.clean_mark_failed` | warn | error | The next start will look for crash damage in vain. |
//! | `store.backed_up` | info | sequence, octets, content_files, freed, damaged, seconds | A backup was made up to this group: so many octets were written, and so many objects that were freed left it. |
//! | `store.restored` | info | sequence, epoch, receipts, damaged, missing, actor | The store was made of a backup that ends with this group; so many groups of the original are known to be missing. |
//! | `store.ballast_given_up` | warn | octets | The disk is full: the room of the ballast is given up, so that what frees room can be written. New mail waits. |
//! | `store.ballast_back` | info | octets | There is room again, and it is held again. |
//! | `store.ballast_failed` | warn | error | The ballast could not be made; logged once until it can. |
//! | `store.freed` | info | entries, objects, octets, returned, segments | Deleted entries are past their grace: so many objects that nothing needs any more are freed, with so many octets; the file system has `returned` of these and of earlier ones back. In so many segments nothing is left but entries. |
//! | `retention.waits` | debug | why | Nothing is freed, and nothing given back, until the next pass: a backup is being made, or entries of the log are missing. |
//! | `store.punch_failed` | warn | place, error | The room of what is freed there was not given back; it is tried again. |
//! | `store.planted` | error | what | A test switched a safeguard of the store off. What is installed cannot. |
//! | `store.thread_failed` | error | | The store's thread died: nothing is stored until the next start. |
//!
//! # Keeping
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `retention.passed` | info, debug | expired, freed_entries, freed_objects, freed_octets, held | What gateway mailboxes keep no longer was taken out of their folders, and what was deleted for long enough can be had back no more; `held` entries stay for a legal hold alone. |
//! | `retention.expired` | info | mailbox, mailbox_id, folder, entries | Retention took so many messages out of a folder; the trail of each says by which rule. |
//! | `retention.failed` | warn | error | A pass did not come to its end; the next one tries again. |
//! | `retention.paused` | error | clock, trusted | The system's clock is more than seven days ahead of what time had reached, or the store was restored from a backup: nothing leaves until `daybook retention confirm` says that it is right, or until it is back. |
//! | `retention.resumed` | info | clock, trusted | It is back. |
//! | `retention.clock_trusted` | info | clock, actor | An admin said that the clock is right. |
//! | `retention.clock_begun` | info | at | Nothing is kept yet of what time has reached: it begins at the newest time the store knows, or at what the system's clock says where that knows none. |
//! | `retention.clock_forgotten` | warn | file, at, error | What time had reached cannot be read: it begins anew at the newest time the store knows; a clock far ahead of that is asked about. |
//! | `retention.clock_not_kept` | warn | file, error | What time has reached cannot be written; logged once until it can. |
//!
//! # Alarms and mail about them
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `alarm.raised` | error, warn | alarm, mailbox, mailbox_id, name, severity, since, what | Something must not stay unseen, or became critical; `name` is what the gateway mailbox is called. |
//! | `alarm.lasts` | warn | alarm, mailbox, mailbox_id, name, severity, since, what | It is still so. |
//! | `alarm.cleared` | info | alarm, mailbox, mailbox_id, name, since | It is over. |
//! | `alarm.blind` | debug | mailbox, mailbox_id, error | The numbers of a gateway mailbox cannot be read now: its alarms stay as they are. |
//! | `alarm.unread` | warn | mailbox, mailbox_id, receipts | So many receipts cannot be read that may tell of missing reports; what was known of them stands. `daybook check` says which. |
//! | `alarm.uncounted` | warn | since, consequence | No count of all gateway mailboxes ended for a quarter of an hour; logged once until one does. |
//! | `alarm.forgotten` | warn | file, error | What was raised before the start cannot be read: alarms may be told again. |
//! | `alarm.not_kept` | warn | file, error | It cannot be written. |
//! | `alert.mail_sent` | info | about, title, to, answer | The relay took an alert or a report. |
//! | `alert.mail_failed` | error | kind, why, waiting | It did not; logged once for each kind of failure, while mail is tried again. |
//! | `alert.mail_dropped` | error, warn | about, title, why | A mail was given up after a day, or too many wait. |
//! | `alerts.password_file` | warn | why | The password for the relay cannot be read, or others can read it. |
//! | `alerts.recipient_is_journaled` | warn | to, consequence | An alert's recipient is a user here: reports about alerts will arrive. No alarm counts them. |
//!
//! # The service and its log
//!
//! | event | level | fields | meaning |
//! |---|---|---|---|
//! | `service.started` | info | version, hostname, data_dir, pid | The process begins. |
//! | `listening` | info | service, addr | A service takes connections. |
//! | `http.unavailable` | warn | error | Health and metrics are not served: nobody asked for the default port, and it is taken. |
//! | `http.accept_failed` | error | error, failed | As `smtp.accept_failed`. |
//! | `metrics.incomplete` | warn | error | Something could not be found out for a scrape, and was left out of it. |
//! | `service.stopping` | info | signal | It was told to end, and ends in good order. |
//! | `service.stopped` | info | signal, seconds | It has ended. |
//! | `service.aborted` | warn | signal | It was told a second time, and ends at once. |
//! | `service.failed` | error | error | It could not start. |
//! | `service.stuck` | error | why, advice | No task gets a turn, or a vital part has ended: the watchdog gets no sign of life. |
//! | `service.unstuck` | warn | | It gets them again. |
//! | `service.manager_deaf` | warn | error | The service manager could not be told something. |
//! | `service.file_left` | warn | file, error | A file could not be removed at the end. |
//! | `service.core_dumps` | warn | error | Neither could core dumps be forbidden nor memory be kept out of them: they may hold keys. |
//! | `service.descriptor_limit` | warn | current, error, max_connections, in_force | The limit of open files could not be raised, or is too low for `max_connections`: so many are `in_force`. |
//! | `service.panicked` | error | place, message, thread | A bug. |
//! | `service.randomness_failed` | error | | The system gives no random numbers. |
//! | `log.level_changed` | info | now, was, until, actor | The log's level was changed while running. |
//! | `log.rotated` | info | aside | The log's file was set aside under this name. |
//! | `log.rotate_failed` | error | doing, error | It could not be; writing goes on. |
//! | `log.reopened` | info | | The log's file was opened anew, having been moved or removed. |
//! | `log.file_failed` | error | path, error | The log's file does not take lines; they go to standard error. |
//! | `log.dropped` | warn | lines, instead | So many lines were lost, or are found `instead` where this says. |
//! | `tail.dropped` | warn | lines | Whoever tails was too slow for so many lines of the level it asked for, whatever else it asked for. In no log. |
