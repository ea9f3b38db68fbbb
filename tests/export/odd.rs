//! What goes wrong: damage, freed content, hostile names, links, wrong keys, an index that is behind.

use super::delivery::delivery;
use super::opened::{Account, json};
use super::support::Site;
use super::{Filled, lines, messages, past_smtp};
use daybook::mail::{Timestamp, UserFolder};
use daybook::store::{FolderName, Store};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// The one content file of a store.
fn content_file(site: &Site) -> PathBuf {
    let shards = fs::read_dir(site.path("data/content")).unwrap().map(|shard| shard.unwrap().path());
    let mut files: Vec<PathBuf> = shards
        .filter(|shard| shard.file_name().unwrap().len() == 2)
        .flat_map(|shard| fs::read_dir(shard).unwrap().map(|file| file.unwrap().path()))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn a_damaged_message_is_named_and_left_out_until_it_is_whole_again() {
    let filled = Filled::new();
    let file = content_file(&filled.site);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[700_000] ^= 1;
    fs::write(&file, &damaged).unwrap();
    for form in [&[][..], &["--format", "mbox"]] {
        let to = if form.is_empty() { "eml" } else { "mbox" };
        fs::write(&file, &damaged).unwrap();
        let outcome = filled.export(to, &[form, &["--json"]].concat()).expect(1);
        let told: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let named = told["not_exported"].as_array().unwrap();
        assert_eq!(told["damaged"], named.len());
        assert!(named.iter().any(|named| named["folder"] == "INBOX" && named["uid"] == 4), "{told}");
        assert!(named.iter().all(|named| named["why"].as_str().unwrap().contains("hash does not match")));
        assert!(told["added"].as_u64().unwrap() >= 5);
        let said = filled.export(to, form).expect(1).stdout;
        assert!(
            said.contains(named[0]["receipt_id"].as_str().unwrap()) && said.contains("INBOX UID 4"),
            "{said}"
        );
        let checked = json(filled.site.run(&["export", "--check", to, "--json"]));
        assert_eq!((&checked["differing"], &checked["is_finished"]), (&Value::from(0), &Value::from(true)));
        assert_eq!(checked["damaged_in_store"], named.len());
        fs::write(&file, &whole).unwrap();
        let again = json(filled.export(to, &[form, &["--json"]].concat()));
        assert_eq!(again["added"], named.len());
        filled.site.run(&["export", "--check", to]).expect(0);
    }
    fs::write(&file, &damaged).unwrap();
    filled.site.run(&["export", &filled.account.login, "--to", "sealed", "--sealed"]).expect(1);
}

#[test]
fn what_was_deleted_and_freed_is_told_and_is_no_error() {
    let filled = Filled::new();
    filled.site.run(&["export", &filled.account.login, "--to", "sealed", "--sealed"]).expect(0);
    let message = filled.messages("sealed").remove(&("INBOX".to_owned(), 4)).unwrap();
    let object = message["extents"][0]["object"].as_i64().unwrap();
    let index = rusqlite::Connection::open(filled.site.path("data/index.sqlite")).unwrap();
    index.execute("INSERT INTO freed VALUES (?, 0)", [object]).unwrap();
    drop(index);
    fs::remove_file(content_file(&filled.site)).unwrap();
    let told = json(filled.export("out", &["--json"]));
    assert_eq!(told["damaged"], 0, "{told}");
    assert!(told["gone"].as_u64().unwrap() >= 1);
    let why = told["not_exported"][0]["why"].as_str().unwrap();
    assert!(why.contains("deleted"), "{why}");
}

#[test]
fn check_names_what_is_not_as_the_manifest_says() {
    let filled = Filled::new();
    let site = &filled.site;
    filled.export("out", &[]).expect(0);
    filled.export("mbox", &["--format", "mbox"]).expect(0);
    let path = |uid: u64| {
        let line = filled.messages("out").remove(&("INBOX".to_owned(), uid)).unwrap();
        line["path"].as_str().unwrap().to_owned()
    };
    let mut octets = fs::read(site.path("out").join(path(1))).unwrap();
    octets[10] ^= 1;
    fs::write(site.path("out").join(path(1)), octets).unwrap();
    fs::remove_file(site.path("out").join(path(2))).unwrap();
    site.write("out/INBOX/stranger.eml", "forged");
    fs::create_dir(site.path("out/elsewhere")).unwrap();
    let outcome = site.run(&["export", "--check", "out", "--json"]).expect(1);
    let told: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let mut found: Vec<(String, String)> = told["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["path"].as_str().unwrap().to_owned(), found["what"].as_str().unwrap().to_owned()))
        .collect();
    found.sort();
    let mut expect = vec![
        (path(1), "its hash is not that in the manifest".to_owned()),
        (path(2), "is not there".to_owned()),
        ("INBOX/stranger.eml".to_owned(), "is not in the manifest".to_owned()),
        ("elsewhere".to_owned(), "is not in the manifest".to_owned()),
    ];
    expect.sort();
    assert_eq!(found, expect);
    let mbox = site.path("mbox/INBOX.mbox");
    let whole = fs::read(&mbox).unwrap();
    for (octets, what) in [
        ([&whole[..], b"x"].concat(), "goes on behind"),
        (whole[..whole.len() - 1].to_vec(), "are not one message"),
        ([&whole[..500], b"y", &whole[501..]].concat(), "their hash"),
    ] {
        fs::write(&mbox, octets).unwrap();
        let said = site.run(&["export", "--check", "mbox"]).expect(1).stdout;
        assert!(said.contains(what), "{what}: {said}");
    }
    site.run(&["export", "--check", "data"]).expect(1);
}

/// Gives users with these slugs a message each, past SMTP.
fn place(site: &Site, account: &Account, slugs: &[&str], first: usize) {
    past_smtp(site, account, |store, to, runtime| {
        for (number, slug) in slugs.iter().enumerate().map(|(number, slug)| (first + number, slug)) {
            let random = [u8::try_from(number).unwrap(); 10];
            let body = format!("Subject: {number}\r\n\r\nfor {slug:?}\r\n");
            let mut sent =
                delivery(store, to, Timestamp::from_unix_ms(1_790_000_000_000), random, body.as_bytes());
            sent.placements[0].folder =
                FolderName::User { user: format!("user {number}"), folder: UserFolder::Incoming };
            sent.placements[0].slug = Some((*slug).to_owned());
            runtime.block_on(store.deliver(vec![sent])).unwrap();
        }
    });
}

#[test]
fn no_name_climbs_out_meets_another_or_means_something_on_another_system() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    let long = "x".repeat(400);
    let slugs = [
        "..",
        "../../climbed",
        "CON",
        "nul.example",
        "Bob",
        "bob",
        "a.",
        "b ",
        "c:d\\e",
        "\u{202e}f\n",
        &long,
        "/etc",
    ];
    place(&site, &account, &slugs, 0);
    account.opened(&site, &["export", &account.login, "--to", "deep/out"]).expect(0);
    let found = messages(&site.path("deep/out"));
    assert_eq!(found.len(), slugs.len());
    let mut folded = std::collections::BTreeSet::new();
    for line in found.values() {
        let path = line["path"].as_str().unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!((parts.len(), parts[0], parts[2]), (4, "Users", "Journal Incoming"), "{path}");
        let user = parts[1];
        assert!(user.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._+-= ".contains(&b)), "{user:?}");
        assert!(!user.starts_with('.') && !user.ends_with(['.', ' ']) && user.len() <= 255, "{user:?}");
        assert!(!["con", "nul.example"].contains(&user.to_ascii_lowercase().as_str()), "{user:?}");
        assert!(folded.insert(user.to_ascii_lowercase()), "{user:?} is there twice");
        assert!(site.path("deep/out").join(path).exists());
    }
    assert_eq!(fs::read_dir(site.path("deep")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(site.path("deep/out")).unwrap().count(), 2, "manifest and Users");
    site.run(&["export", "--check", "deep/out"]).expect(0);
    // The names stay, whatever comes.
    place(&site, &account, &["BOB"], slugs.len());
    let again = json(account.opened(&site, &["export", &account.login, "--to", "deep/out", "--json"]));
    assert_eq!(again["damaged"], 0);
    let after = messages(&site.path("deep/out"));
    assert!(found.iter().all(|(key, line)| after.get(key) == Some(line)));
}

#[test]
fn no_link_in_the_directory_is_followed() {
    let filled = Filled::new();
    let site = &filled.site;
    let theirs = site.path("theirs");
    fs::create_dir(&theirs).unwrap();
    filled.export("out", &["--folder", "Unassigned"]).expect(0);
    symlink(&theirs, site.path("out/INBOX")).unwrap();
    let failed = filled.export("out", &[]).expect(3);
    assert!(failed.stderr.contains("out/INBOX"), "{}", failed.stderr);
    fs::remove_file(site.path("out/INBOX")).unwrap();
    fs::write(theirs.join("file"), b"theirs").unwrap();
    let manifest = fs::read(site.path("out/manifest.jsonl")).unwrap();
    fs::write(theirs.join("manifest"), &manifest).unwrap();
    fs::remove_file(site.path("out/manifest.jsonl")).unwrap();
    symlink(theirs.join("manifest"), site.path("out/manifest.jsonl")).unwrap();
    filled.export("out", &[]).expect(3);
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 2);
    assert_eq!(fs::read(theirs.join("manifest")).unwrap(), manifest);
}

#[test]
fn the_wrong_key_opens_nothing_and_leaves_nothing() {
    let filled = Filled::new();
    let site = &filled.site;
    let export = ["export", filled.account.login.as_str(), "--to", "out"];
    let with_key = [&export[..], &["--password-file", "-", "--json"]].concat();
    let refused = site.run_with_input(&with_key, b"wrong\n").expect(1);
    assert!(refused.stdout.contains("this is not the password"), "{}", refused.stdout);
    assert!(!site.path("out").exists());
    let nothing = site.run(&export).expect(2);
    assert!(nothing.stderr.contains("--password-file"), "{}", nothing.stderr);
    site.run(&["export", "nobody", "--to", "out", "--sealed"]).expect(1);
    site.run(&["export", "--to", "out"]).expect(2);
    site.run(&[&export[..], &["--sealed", "--format", "mbox"]].concat()).expect(2);
    assert!(!site.path("out").exists());
}

#[test]
fn an_index_that_does_not_know_all_mail_is_not_exported_from() {
    let filled = Filled::new();
    let site = &filled.site;
    let index = site.path("data/index.sqlite");
    let old = fs::read(&index).unwrap();
    let mut server = site.serve();
    filled.account.receives(&server, b"Subject: new\r\n\r\nnew\r\n");
    server.terminate();
    drop(server);
    fs::write(&index, old).unwrap();
    let refused = filled.export("out", &[]).expect(3);
    assert!(refused.stderr.contains("daybook mailbox list"), "{}", refused.stderr);
    assert!(!site.path("out").exists());
    site.run(&["mailbox", "list"]).expect(0);
    let told = json(filled.export("out", &["--folder", "INBOX", "--json"]));
    assert_eq!(told["added"], filled.sent.len() + 1);
    assert!(lines(&site.path("out")).len() > 5);
}
