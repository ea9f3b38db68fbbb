//! Clients that mirror every folder have them all, and in users' folders what was cut out of reports, not changed.

use super::mbsync::{MAILDIRS, Mbsync, maildir};
use super::messages::{on_the_wire, ordinary, with_lf};
use super::offlineimap::OfflineImap;
use super::visit::{Visit, deliver};
use super::{Client, Protocol, Tls};
use crate::gateway::Gateway;
use memchr::memmem;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The messages of every Maildir below `dir`, by its place there.
fn maildirs(dir: &Path, name: &str, found: &mut BTreeMap<String, Vec<Vec<u8>>>) {
    if dir.join("cur").is_dir() {
        found.insert(name.to_owned(), maildir(dir));
    }
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let file = entry.file_name().into_string().unwrap();
        let is_folder = entry.path().is_dir() && !["cur", "new", "tmp"].contains(&file.as_str());
        if is_folder {
            let name = if name.is_empty() { file } else { format!("{name}/{file}") };
            maildirs(&entry.path(), &name, found);
        }
    }
}

/// Client and server agree on which folders there are and how many messages each holds.
fn mirrored(client: &dyn Client, visit: &Visit<'_>, messages: &[Vec<u8>]) -> BTreeMap<String, Vec<Vec<u8>>> {
    deliver(visit.gateway, &[&visit.account], messages);
    client.keep(visit);
    let mut found = BTreeMap::new();
    maildirs(&visit.home().join(MAILDIRS), "", &mut found);
    let counts: BTreeMap<String, usize> = found
        .iter()
        .map(|(folder, messages)| (folder.clone(), messages.len()))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(counts, visit.placed(messages), "{}", client.name());
    for folder in [
        "INBOX",
        "Users/alice@contoso.example/Journal Outgoing",
        "Users/bob@contoso.example/Journal Incoming",
    ] {
        assert!(counts.contains_key(folder), "{counts:?}");
    }
    found
}

#[test]
fn clients_that_mirror_have_every_folder_and_originals_as_they_were_cut() {
    let gateway = Gateway::start();
    let messages = ordinary();
    let visit = || Visit::new(&gateway, gateway.create_account(), Protocol::Imap, Tls::Implicit);
    mirrored(&OfflineImap, &visit(), &messages);
    let stored = with_lf(messages.iter().map(|message| on_the_wire(message, Protocol::Imap)).collect());
    for (folder, messages) in mirrored(&Mbsync, &visit(), &messages) {
        for message in messages.into_iter().map(|message| Mbsync.undo(message)) {
            let is_cut = stored.iter().any(|report| memmem::find(report, &message).is_some());
            assert!(is_cut, "{folder}: {}", String::from_utf8_lossy(&message[..message.len().min(2_000)]));
        }
    }
}
