//! The settings in force while the server runs, and what may be changed of them without a new start.

use super::settings::Settings;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::Arc;

/// The settings in force. Clones share them. Whoever needs them asks each time; what was asked for stays as it was.
#[derive(Clone, Debug)]
pub struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: ArcSwap<Settings>,
    fault: ArcSwapOption<String>,
}

impl Live {
    /// These, until they are replaced.
    pub fn new(settings: Settings) -> Live {
        Live(Arc::new(Inner { settings: ArcSwap::from_pointee(settings), fault: ArcSwapOption::empty() }))
    }

    /// Those in force now.
    pub fn current(&self) -> Arc<Settings> {
        self.0.settings.load_full()
    }

    /// Puts others in force.
    pub fn replace(&self, settings: Settings) {
        self.0.settings.store(Arc::new(settings));
    }

    /// Why the file could not be put in force when it was read last; `None` when it could.
    pub fn note_fault(&self, fault: Option<String>) {
        self.0.fault.store(fault.map(Arc::new));
    }

    /// What was noted last.
    pub fn fault(&self) -> Option<Arc<String>> {
        self.0.fault.load_full()
    }
}

impl Settings {
    /// Every key, written `[section] key`, that the two do not agree on, in the order of the file.
    pub fn differences(&self, other: &Settings) -> Vec<String> {
        let (ours, theirs) = (keys_and_values(&self.to_toml()), keys_and_values(&other.to_toml()));
        let mut keys: Vec<String> = Vec::new();
        let mut note = |key: &String| {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        };
        let lines = |all: &[(String, String)], key: &str| -> Vec<String> {
            all.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
        };
        for (key, _) in ours.iter().chain(&theirs) {
            if lines(&ours, key) != lines(&theirs, key) {
                note(key);
            }
        }
        keys
    }

    /// These settings as far as a server that started with `started` can take them: what it is bound to by its start stays.
    pub fn for_running(mut self, started: &Settings) -> Settings {
        self.hostname.clone_from(&started.hostname);
        self.data_dir.clone_from(&started.data_dir);
        self.smtp.listen.clone_from(&started.smtp.listen);
        self.pop3.clone_from(&started.pop3);
        self.imap.clone_from(&started.imap);
        self.http.clone_from(&started.http);
        let level = self.log.level;
        self.log.clone_from(&started.log);
        self.log.level = level;
        // A pair of its own making and one from files are two things; which it is was decided at the start.
        if self.tls.is_none() || started.tls.is_none() {
            self.tls.clone_from(&started.tls);
        }
        self
    }
}

/// Every key of a printed file, written `[section] key` or `[[section]] 1: key`, with its value.
fn keys_and_values(printed: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    let mut repeated = std::collections::HashMap::new();
    for line in printed.lines() {
        if line.starts_with("[[") {
            // Which of them a value stands in is half of what it says.
            let nth = repeated.entry(line).and_modify(|nth| *nth += 1).or_insert(1_usize);
            section = format!("{line} {nth}:");
        } else if line.starts_with('[') {
            section = line.to_owned();
        } else if let Some((key, value)) = line.split_once(" = ") {
            let name = if section.is_empty() { key.to_owned() } else { format!("{section} {key}") };
            found.push((name, value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DirectorySource, Http, TlsFiles};
    use std::path::Path;

    fn settings() -> Settings {
        Settings::with_defaults("gw.example", &["gw.example"], Path::new("/d"))
    }

    fn directory(path: &str) -> DirectorySource {
        DirectorySource::file("users", path)
    }

    #[test]
    fn names_every_key_that_differs_once() {
        let mut new = settings();
        assert_eq!(settings().differences(&new), Vec::<String>::new());
        new.hostname = "other.example".to_owned();
        new.smtp.max_errors = 7;
        new.alerts.remind_hours = 1;
        new.http = Some(Http { listen: None });
        new.directories = vec![directory("/one"), directory("/two")];
        let expect = ["hostname", "[smtp] max_errors", "[alerts] remind_hours", "[http] listen"];
        let of_a_source =
            ["name", "kind", "path", "max_removed", "max_removed_percent", "grace_days", "every_minutes"];
        let of_sources = ["1", "2"].map(|nth| of_a_source.map(|key| format!("[[directory]] {nth}: {key}")));
        let expect = [expect.map(str::to_owned).to_vec(), of_sources.concat()].concat();
        assert_eq!(settings().differences(&new), expect);
        let mut other = new.clone();
        other.directories.reverse();
        let reversed = ["[[directory]] 1: path", "[[directory]] 2: path"];
        assert_eq!(new.differences(&other), reversed, "the order of sources counts");
        let mut served = new.clone();
        served.directories[0].mailboxes = Some(vec!["mbx-1".to_owned()]);
        let mut moved = new.clone();
        moved.directories[1].mailboxes = Some(vec!["mbx-1".to_owned()]);
        let both = ["[[directory]] 1: mailboxes", "[[directory]] 2: mailboxes"];
        assert_eq!(served.differences(&moved), both, "so does which of them a value stands in");
    }

    #[test]
    fn what_a_start_decides_stays_and_everything_else_is_taken() {
        let mut new = settings();
        new.hostname = "other.example".to_owned();
        new.data_dir = "/other".into();
        new.domains.push("more.example".to_owned());
        new.smtp.listen.clear();
        new.smtp.require_tls = true;
        new.log.file = Some("/var/log/x".into());
        new.log.level = crate::config::LogLevel::Debug;
        new.tls = Some(TlsFiles { certificate: "/c".into(), private_key: "/k".into() });
        let taken = new.for_running(&settings());
        assert_eq!(
            settings().differences(&taken),
            ["domains", "[smtp] require_tls", "[log] level"],
            "{}",
            taken.to_toml()
        );
    }
}
