//! curl, one message at a time, all in one session.

use super::visit::Visit;
use super::{Client, Protocol, Tls};
use crate::gateway::Account;
use crate::{files_in, run};
use std::fmt::Write as _;

pub(super) struct Curl;

impl Curl {
    /// One run; each request with its lines of configuration.
    fn requests(visit: &Visit<'_>, requests: &[String]) -> String {
        let Account { login, password, .. } = &visit.account;
        let mut configuration = String::from("silent\nshow-error\nfail-early\n");
        for (number, request) in requests.iter().enumerate() {
            let next = if number > 0 { "next\nsilent\nshow-error\n" } else { "" };
            writeln!(
                configuration,
                "{next}user = \"{login}:{password}\"\nssl-reqd\ncacert = {:?}\n{request}",
                visit.certificate()
            )
            .unwrap();
        }
        let configuration = visit.file("curlrc", &configuration);
        run(visit.command("curl").arg("--config").arg(configuration))
    }

    /// POP3 message numbers, or UIDs.
    fn numbers(visit: &Visit<'_>) -> Vec<u32> {
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"));
        match visit.protocol {
            Protocol::Pop3 => {
                let listed = Curl::requests(visit, &[format!("url = {:?}", visit.url(""))]);
                listed.lines().map(|line| number(line.split(' ').next().unwrap_or_default())).collect()
            }
            Protocol::Imap => {
                let request = format!("url = {:?}\nrequest = \"UID SEARCH ALL\"", visit.url("INBOX"));
                let found = Curl::requests(visit, &[request]);
                let numbers = found.trim_end().strip_prefix("* SEARCH").unwrap_or_else(|| panic!("{found}"));
                numbers.split_whitespace().map(number).collect()
            }
        }
    }

    fn fetch(visit: &Visit<'_>, into: &str, numbers: &[u32]) -> Vec<Vec<u8>> {
        let dir = visit.folder(into);
        let fetch = |number: &u32| {
            let url = match visit.protocol {
                Protocol::Pop3 => visit.url(&number.to_string()),
                Protocol::Imap => visit.url(&format!("INBOX;UID={number}")),
            };
            format!("url = {url:?}\noutput = {:?}", dir.join(number.to_string()))
        };
        Curl::requests(visit, &numbers.iter().map(fetch).collect::<Vec<_>>());
        files_in(&dir)
    }
}

impl Client for Curl {
    fn name(&self) -> &'static str {
        "curl"
    }

    fn ways(&self) -> &'static str {
        "nothing"
    }

    fn can(&self, _: Protocol, _: Tls) -> bool {
        true
    }

    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Curl::fetch(visit, "kept", &Curl::numbers(visit))
    }

    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        let numbers = Curl::numbers(visit);
        let fetched = Curl::fetch(visit, "deleted", &numbers);
        let requests = match visit.protocol {
            // A command that answers with one line only.
            Protocol::Pop3 => numbers
                .iter()
                .map(|number| format!("url = {:?}\nhead\nrequest = \"DELE {number}\"", visit.url("")))
                .collect(),
            Protocol::Imap => ["UID STORE 1:* +FLAGS.SILENT (\\\\Deleted)", "EXPUNGE"]
                .map(|command| format!("url = {:?}\nrequest = \"{command}\"", visit.url("INBOX")))
                .to_vec(),
        };
        Curl::requests(visit, &requests);
        fetched
    }

    fn as_written(&self, _: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        wire
    }
}
