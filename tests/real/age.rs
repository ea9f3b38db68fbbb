//! The Debian package `age` opens what is sealed in the store, with keys that `daybook key export` wrote: a payload cut out of a
//! segment of the log, and a content file; what came before a new key, and what came after.

use crate::support::{Site, USERS, corpus};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What stock `age` makes of a sealed file.
fn opened(sealed: &Path, keys: &Path) -> Vec<u8> {
    let output =
        Command::new("age").arg("-d").arg("-i").arg(keys).arg(sealed).output().expect("age is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn stock_age_opens_what_is_sealed_with_exported_keys() {
    let site = Site::with("", USERS);
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    site.write("the-password", &text("password"));
    let mut server = site.serve();
    let mut long = b"Subject: long\r\n\r\n".to_vec();
    long.extend(b"a line of a long message\r\n".repeat(60_000));
    let messages = [corpus("demo/report.eml"), long, b"Subject: late\r\n\r\nAfter the new key.\r\n".to_vec()];
    for (index, message) in messages.iter().enumerate() {
        if index == 2 {
            site.run(&["key", "rotate", &text("login"), "--password-file", "the-password"]).expect(0);
        }
        assert!(server.send(&text("address"), message).starts_with("250 "));
    }
    site.run(&["key", "export", &text("login"), "--to", "keys.txt", "--password-file", "the-password"])
        .expect(0);
    assert_eq!(server.terminate(), 0);

    let index = rusqlite::Connection::open(site.path("data/index.sqlite")).unwrap();
    let mut select =
        index.prepare("SELECT segment, place, sealed_octets, file FROM object ORDER BY id").unwrap();
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    // Segment, place, octets and file of an object.
    type Place = (Option<i64>, Option<i64>, i64, Option<String>);
    let objects: Vec<Place> = select.query_map([], columns).unwrap().map(Result::unwrap).collect();
    let mut plain = Vec::new();
    for (segment, place, octets, file) in objects {
        let sealed = match file {
            Some(file) => site.path("data/content").join(file),
            None => {
                let log =
                    fs::read(site.path("data/log").join(format!("{:08}.seg", segment.unwrap()))).unwrap();
                let [place, octets] = [place.unwrap(), octets].map(|number| usize::try_from(number).unwrap());
                fs::write(site.path("cut.age"), &log[place..place + octets]).unwrap();
                site.path("cut.age")
            }
        };
        plain.push(opened(&sealed, &site.path("keys.txt")));
    }
    for message in &messages {
        assert!(plain.iter().any(|plain| plain == message), "a message of {} octets", message.len());
    }
}
