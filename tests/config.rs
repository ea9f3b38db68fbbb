//! Every file of `corpus/config`, and the files of `config/` that users start from.
//!
//! `corpus/config/ok/*.toml` read without a fault and survive being printed; `corpus/config/bad/*.toml` give
//! exactly the faults in the `.expect` beside them. `BLESS=1 cargo test --test config` writes those anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use daybook::config::{self, DirectorySource, Http, Imap, Settings};
use daybook::directory::source::file;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

/// Tests are run in the crate's folder, so that relative names in messages are the same everywhere.
fn cases(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no case in {folder}");
    files
}

fn read(path: &Path) -> Settings {
    config::load(path).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The keys of a file that may be there, commented out or not: `[section] key`.
fn keys_written_in(text: &str) -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start_matches("# ");
        if line.starts_with('[') {
            section = line.trim().to_owned();
        } else if let Some((key, _)) = bare.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            keys.push(format!("{section} {key}"));
        }
    }
    keys
}

#[test]
fn good_files_read_and_survive_being_printed() {
    for path in cases("corpus/config/ok") {
        let settings = read(&path);
        let printed = settings.to_toml();
        let again = config::parse(&printed, Path::new("/elsewhere"));
        assert_eq!(again.as_ref(), Ok(&settings), "{}:\n{printed}", path.display());
    }
}

#[test]
fn bad_files_give_every_fault_with_its_line() {
    for path in cases("corpus/config/bad") {
        let Err(errors) = config::load(&path) else { panic!("{} is taken", path.display()) };
        let found = format!("{errors}\n");
        let expect = path.with_extension("expect");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expect, &found).unwrap();
        }
        let expect = std::fs::read_to_string(&expect).unwrap_or_default();
        assert_eq!(found, expect, "{}", path.display());
        assert!(found.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{found:?}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let errors = config::load(Path::new("corpus/config/none.toml")).unwrap_err().to_string();
    assert!(errors.starts_with("corpus/config/none.toml: cannot be read: "), "{errors}");
}

#[test]
fn the_example_holds_the_defaults() {
    let settings = read(Path::new("config/daybook.toml"));
    let folder = std::path::absolute("config").unwrap();
    let mut expect = Settings::with_defaults(
        "gateway.example.com",
        &["gateway.example.com"],
        Path::new("/var/lib/daybook"),
    );
    expect.imap = Some(Imap::default());
    expect.http = Some(Http::default());
    expect.directories = vec![DirectorySource::file("file", folder.join("users.toml"))];
    assert_eq!(settings, expect);
    assert_eq!(settings.notices(), Vec::<String>::new());
}

#[test]
fn the_example_shows_every_key_in_the_order_of_config_show() {
    let everything = read(Path::new("corpus/config/ok/everything.toml"));
    let mut shown = keys_written_in(&everything.to_toml());
    // Two sources stand in the case: the one with every key counts.
    shown.dedup();
    let first_source = shown.iter().position(|key| key == "[[directory]] kind").unwrap();
    shown.drain(first_source..first_source + 2);
    let example = std::fs::read_to_string("config/daybook.toml").unwrap();
    assert_eq!(keys_written_in(&example), shown);
}

#[test]
fn every_commented_key_of_the_example_is_taken() {
    let example = std::fs::read_to_string("config/daybook.toml").unwrap();
    let uncommented: Vec<&str> = example
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.contains(" = ") && !rest.contains(": "))
                .unwrap_or(line)
        })
        .collect();
    let settings = config::parse(&uncommented.join("\n"), Path::new("/etc/daybook")).unwrap();
    assert!(settings.tls.is_some());
    assert!(settings.alerts.mail.is_some_and(|mail| mail.login.is_some() && mail.ca_file.is_some()));
    assert!(settings.directories.iter().all(|source| source.mailboxes.is_some()));
}

#[test]
fn the_development_files_read() {
    let settings = read(Path::new("config/dev.toml"));
    let imap = settings.imap_listen();
    let fetching = [&settings.pop3.listen, &settings.pop3.listen_tls, &imap.listen, &imap.listen_tls];
    for address in settings.smtp.listen.iter().chain(fetching.into_iter().flatten()) {
        assert!(address.ip().is_loopback() && address.port() > 1023, "{address}");
    }
    assert_eq!(settings.notices(), Vec::<String>::new());
    for source in &settings.directories {
        let path = source.kind.path().unwrap();
        assert!(!file::read(path).unwrap().is_empty());
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z\\[\\]=\" \\n.0-9{},#']{0,80}") {
        drop(config::parse(&text, Path::new("/")));
    }

    #[test]
    fn paths_and_names_survive_being_printed(path in "[^\\x00]{1,20}", second in "[a-z]{1,8}") {
        let mut settings = Settings::with_defaults("gw.example", &["gw.example", &second], &Path::new("/").join(&path));
        settings.directories =
            vec![DirectorySource::file("file", Path::new("/d").join(&path))];
        let printed = settings.to_toml();
        prop_assert_eq!(config::parse(&printed, Path::new("/elsewhere")), Ok(settings), "{}", printed);
    }
}
