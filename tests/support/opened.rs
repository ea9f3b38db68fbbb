//! Gateway mailboxes that commands open: with their password, or with an escrow identity.
//!
//! Take it in with `#[path = "support/opened.rs"] mod opened;`, beside `support`.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support::{Outcome, Server, Site};
use age::secrecy::ExposeSecret;
use serde_json::Value;

/// A gateway mailbox as it was made.
pub(crate) struct Account {
    /// Where mail is sent to.
    pub(crate) address: String,
    /// The user name.
    pub(crate) login: String,
    /// The password.
    pub(crate) password: String,
    /// The id, after which its keys are named.
    pub(crate) id: String,
}

impl Account {
    /// Makes one, with these further arguments.
    pub(crate) fn create(site: &Site, arguments: &[&str]) -> Account {
        Account::create_named(site, "Contoso", arguments)
    }

    /// Makes one of this name.
    pub(crate) fn create_named(site: &Site, name: &str, arguments: &[&str]) -> Account {
        let made = json(site.run(&[&["mailbox", "create", "--name", name, "--json"], arguments].concat()));
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        Account { address: text("address"), login: text("login"), password: text("password"), id: text("id") }
    }

    /// Sends it a message; gives the receipt id.
    pub(crate) fn receives(&self, server: &Server<'_>, message: &[u8]) -> String {
        let reply = server.send(&self.address, message);
        reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    /// Runs a command that opens it with the password, given on standard input.
    pub(crate) fn opened(&self, site: &Site, arguments: &[&str]) -> Outcome {
        let arguments = [arguments, &["--password-file", "-"]].concat();
        site.run_with_input(&arguments, format!("{}\n", self.password).as_bytes())
    }

    /// Folder and number of entries, but for folders that have none, sorted.
    pub(crate) fn holds(&self, site: &Site) -> Vec<(String, u64)> {
        let shown = json(site.run(&["mailbox", "show", &self.login, "--json"]));
        let folder = |folder: &Value| {
            (folder["path"].as_str().unwrap().to_owned(), folder["entries"].as_u64().unwrap())
        };
        let mut all: Vec<_> = shown["folders"].as_array().unwrap().iter().map(folder).collect();
        all.retain(|(_, entries)| *entries > 0);
        all.sort();
        all
    }
}

/// What a command that did its work printed with `--json`.
pub(crate) fn json(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.expect(0).stdout).unwrap()
}

/// An escrow identity: its identity file, and its recipient.
pub(crate) fn identity() -> (String, String) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    (
        format!(
            "# created for a test\n# public key: {recipient}\n{}\n",
            identity.to_string().expose_secret()
        ),
        recipient,
    )
}

/// The section of the configuration that names these recipients.
pub(crate) fn section(recipients: &[&str]) -> String {
    format!("[keys]\nescrow = {recipients:?}\n")
}
