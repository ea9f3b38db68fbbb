//! Every file of `corpus/config`, and the files of `config/` that users start from.
//!
//! `corpus/config/ok/*.toml` read without a fault and survive being printed; `corpus/config/bad/*.toml` give
//! exactly the faults in the `.expect` beside them. `BLESS=1 cargo test --test config` writes those anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use daybook::config::{self, DirectorySource, Http, Imap, Settings};
use daybook::directory::source::file;
use proptest::prelude::*;
use std::collections::HashSet;
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

/// A section of the example that is not there unless somebody wants it.
fn is_commented_section(line: &str) -> bool {
    line.starts_with("# [[") && line.ends_with("]]")
}

/// What stands there, each once.
fn once(keys: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    keys.into_iter().filter(|key| seen.insert(key.clone())).collect()
}

/// The example with everything taken that it offers.
fn uncommented_example() -> String {
    let example = std::fs::read_to_string("config/daybook.toml").unwrap();
    let uncommented: Vec<&str> = example
        .lines()
        .map(|line| {
            let is_key = |rest: &&str| rest.contains(" = ") && !rest.contains(": ");
            let offered = |rest: &&str| is_commented_section(line) || is_key(rest);
            line.strip_prefix("# ").filter(offered).unwrap_or(line)
        })
        .collect();
    uncommented.join("\n")
}

/// The keys of a file that may be there, commented out or not: `[section] key`.
fn keys_written_in(text: &str) -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start_matches("# ");
        if line.starts_with('[') || is_commented_section(line) {
            section = bare.trim().to_owned();
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
    let shown = once(keys_written_in(&everything.to_toml()));
    let example = std::fs::read_to_string("config/daybook.toml").unwrap();
    assert_eq!(once(keys_written_in(&example)), shown);
    // Only one of them can be given, so that the others stand in the text.
    for other in ["password_env", "password_credential", "secret_env", "secret_credential"] {
        assert!(example.contains(other), "{other}");
    }
}

#[test]
fn every_commented_key_of_the_example_is_taken() {
    let settings = config::parse(&uncommented_example(), Path::new("/etc/daybook")).unwrap();
    assert!(settings.tls.is_some());
    assert!(settings.alerts.mail.is_some_and(|mail| mail.login.is_some() && mail.ca_file.is_some()));
    let kinds: Vec<&str> = settings.directories.iter().map(|source| source.kind.as_str()).collect();
    assert_eq!(kinds, ["file", "csv", "ldap", "graph"]);
    assert!(settings.directories[0].mailboxes.is_some());
    assert!(settings.directories[2].filters.groups.is_some());
    assert_eq!(settings.pullers.len(), 2);
}

#[test]
fn the_commented_sections_of_the_example_show_the_defaults() {
    // What has no default may stand there with any value.
    let defaulted = [
        "users_file",
        "groups_file",
        "preset",
        "enabled_only",
        "include_groups",
        "include_shared",
        "include_guests",
        "port",
        "security",
        "flavour",
        "page_entries",
        "cloud",
        "assertion",
        "licensed_only",
        "other_mails",
        "protocol",
        "folder",
        "after",
        "every_minutes",
        "scope",
        "max_removed",
        "max_removed_percent",
        "grace_days",
    ];
    let text = uncommented_example();
    let (before, sections) = text.split_at(text.find("[[directory]]").unwrap());
    let kept = sections.lines().filter(|line| {
        let key = line.split_once(" = ").map(|(key, _)| key).unwrap_or_default();
        !defaulted.contains(&key) && *line != "auth = \"password\""
    });
    let bare = format!("{before}{}", kept.collect::<Vec<_>>().join("\n"));
    let parse = |text: &str| config::parse(text, Path::new("/etc/daybook")).unwrap();
    assert!(bare.lines().count() + defaulted.len() <= text.lines().count());
    assert_eq!(parse(&bare), parse(&text));
}

#[test]
fn sources_are_named_by_their_kind_unless_they_are_given_a_name() {
    let settings = read(Path::new("corpus/config/ok/directories.toml"));
    let names: Vec<&str> = settings.directories.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["corp", "ldap-2", "graph", "graph-2", "graph-3", "csv", "file", "file-2"]);
    let times: Vec<(u16, u32)> =
        settings.directories.iter().map(|source| (source.grace_days, source.every_minutes)).collect();
    assert_eq!(times, [(30, 60), (30, 60), (30, 60), (30, 60), (30, 60), (30, 0), (0, 0), (0, 0)]);
    let ports: Vec<u16> = settings.pullers.iter().map(|puller| puller.port).collect();
    assert_eq!(ports, [993, 995]);
}

#[test]
fn what_will_cause_trouble_later_is_told_now() {
    let settings = read(Path::new("corpus/config/ok/directories.toml"));
    let notices = settings.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].starts_with("[[directory]] graph-2 has a secret without secret_expires"),
        "{notices:?}"
    );
    let everything = read(Path::new("corpus/config/ok/everything.toml")).notices();
    assert!(everything.contains(&"[[directory]] ldap asks 127.0.0.1 in clear".to_owned()), "{everything:?}");
    for (host, told) in [
        ("outlook.office365.com", 1),
        ("Outlook.com", 1),
        ("eur05.prod.outlook.com", 1),
        ("outlook.office365.us", 1),
        ("partner.outlook.cn", 1),
        ("mail.example.net", 0),
        ("notoutlook.com", 0),
        ("outlook.com.example", 0),
    ] {
        let mut settings = settings.clone();
        settings.pullers[0].host = host.to_owned();
        let notices = settings.notices();
        let about = notices.iter().filter(|notice| notice.starts_with("[[puller]] a fetches from")).count();
        assert_eq!(about, told, "{host}: {notices:?}");
    }
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
