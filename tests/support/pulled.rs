//! A gateway with an NDR mailbox that pullers fetch into, and NDRs as they come to an account elsewhere.
//!
//! Needs `support/daybook.rs` as `support` beside it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::support::{Site, corpus};
use serde_json::Value;
use std::fs;

/// The tenant that the reports in [`ndr`] are of.
pub(crate) const TENANT: &str = "contoso.onmicrosoft.example";

/// An NDR of its own, which returns a report of its own.
pub(crate) fn ndr(n: usize) -> Vec<u8> {
    let text = String::from_utf8(corpus("demo/ndr.eml")).unwrap();
    let text = text
        .replace("<0fff00ef-2022@", &format!("<ndr-{n}@"))
        .replace("<5d6f2c1e-0003-4a1e-9c39-0d5f7a1c0003@", &format!("<report-{n}@"))
        .replace("<offer-7@", &format!("<offer-{n}@"))
        .replace("12 crates", &format!("{n} crates"));
    text.into_bytes()
}

/// A gateway mailbox and its password.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub(crate) address: String,
    pub(crate) login: String,
    pub(crate) password: String,
}

/// What a command prints with `--json`.
pub(crate) fn json(site: &Site, arguments: &[&str], code: i32) -> Value {
    let outcome = site.run(&[arguments, &["--json"]].concat()).expect(code);
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// Makes a gateway mailbox by these arguments of `mailbox create --name`.
pub(crate) fn mailbox(site: &Site, arguments: &[&str]) -> Mailbox {
    let made = json(site, &[&["mailbox", "create", "--name"], arguments].concat(), 0);
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    Mailbox { address: text("address"), login: text("login"), password: text("password") }
}

/// A gateway whose NDR mailbox pullers fetch into.
pub(crate) struct Gateway {
    pub(crate) site: Site,
    pub(crate) journal: Mailbox,
    pub(crate) ndrs: Mailbox,
}

impl Gateway {
    pub(crate) fn new() -> Gateway {
        let site = Site::with("", &String::from_utf8(corpus("demo/users.toml")).unwrap());
        let journal = mailbox(&site, &["Contoso", "--tenant", TENANT]);
        let ndrs = mailbox(
            &site,
            &["Contoso NDRs", "--role", "ndr", "--serves", &journal.login, "--tenant", TENANT],
        );
        Gateway { site, journal, ndrs }
    }

    /// Has a puller `outside` fetch into the NDR mailbox by these further keys, with this password.
    pub(crate) fn pull_from(&self, keys: &str, password: &str) {
        self.site.write("outside.password", password);
        self.set_puller(&format!(
            "[[puller]]\nname = \"outside\"\nmailbox = \"{}\"\nhost = \"localhost\"\n\
             password_file = \"outside.password\"\n{keys}\n",
            self.ndrs.login
        ));
    }

    /// Puts these sections in place of those at the end.
    pub(crate) fn set_puller(&self, sections: &str) {
        let text = fs::read_to_string(self.site.path("daybook.toml")).unwrap();
        let before = text.split("[[puller]]").next().unwrap();
        self.site.write("daybook.toml", &format!("{before}{sections}"));
    }

    /// Has it look now; gives what `daybook pull` says of it.
    pub(crate) fn pull(&self, code: i32) -> Value {
        json(&self.site, &["pull", "outside"], code)[0].clone()
    }

    /// Messages in a folder of a gateway mailbox.
    pub(crate) fn entries(&self, mailbox: &Mailbox, folder: &str) -> u64 {
        let shown = json(&self.site, &["mailbox", "show", &mailbox.address], 0);
        let folders = shown["folders"].as_array().unwrap();
        folders.iter().find(|f| f["path"] == folder).map_or(0, |f| f["entries"].as_u64().unwrap())
    }

    /// So many NDRs in the NDR mailbox, and so many reports recovered from them, for bob too.
    #[track_caller]
    pub(crate) fn holds(&self, count: u64) {
        let held = [
            self.entries(&self.ndrs, "INBOX"),
            self.entries(&self.journal, "INBOX"),
            self.entries(&self.journal, "Users/bob@contoso.example/Journal Incoming"),
        ];
        assert_eq!(held, [count; 3]);
        assert_eq!(self.entries(&self.ndrs, "Quarantine"), 0);
    }
}
