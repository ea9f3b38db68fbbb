//! Which lines somebody who tails wants to see. Pure: lines in, yes or no out.
//!
//! All conditions must hold. The one by receipt learns as it goes: a line of the receipt names a session, and then the lines of
//! that session which belong to no other receipt are wanted too. What came before the receipt's first line is known only to
//! whoever can look at it twice ([`Matcher::learn`]).

use super::Level;
use super::line::{Line, as_text};
use crate::mail::{Class, ReceiptId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sessions of one receipt that are remembered: it was received in one, and fetched in a few.
const SESSIONS_MAX: usize = 64;

/// Conditions, all of which a line must meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// About this gateway mailbox: its login, any case.
    pub mailbox: Option<String>,
    /// Naming this address anywhere, any case.
    pub address: Option<String>,
    /// About a message of this class.
    pub class: Option<Class>,
    /// At least so severe.
    pub level: Option<Level>,
    /// About this receipt or a session it occurs in.
    pub receipt_id: Option<ReceiptId>,
    /// Whose event begins so.
    pub event: Option<String>,
}

impl Filter {
    /// True when every line is wanted.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }
}

/// A filter at work.
#[derive(Clone, Debug)]
pub struct Matcher {
    filter: Filter,
    receipt_id: Option<String>,
    sessions: Vec<String>,
}

impl Matcher {
    /// Begins; no session is known.
    pub fn new(filter: Filter) -> Matcher {
        let receipt_id = filter.receipt_id.map(|id| id.to_string());
        Matcher { filter, receipt_id, sessions: Vec::new() }
    }

    /// Takes from a line what it tells about lines before it.
    pub fn learn(&mut self, line: &Line) {
        if self.receipt_id.is_some()
            && self.names_receipt(line) == Some(true)
            && let Some(session) = line.text("session_id")
            && self.sessions.len() < SESSIONS_MAX
            && !self.sessions.iter().any(|known| *known == session)
        {
            self.sessions.push(session.into_owned());
        }
    }

    /// True when the line is wanted.
    pub fn matches(&mut self, line: &Line) -> bool {
        self.learn(line);
        let Filter { mailbox, address, class, level, receipt_id: _, event } = &self.filter;
        level.is_none_or(|level| line.level <= level)
            && event.as_ref().is_none_or(|event| line.event().starts_with(event.as_str()))
            && class.is_none_or(|class| line.text("class").is_some_and(|text| text == class.as_str()))
            && mailbox.as_ref().is_none_or(|login| is_about(line, login))
            && address.as_ref().is_none_or(|address| names(line, address))
            && self.is_of_receipt(line)
    }

    fn is_of_receipt(&self, line: &Line) -> bool {
        if self.receipt_id.is_none() {
            return true;
        }
        match self.names_receipt(line) {
            Some(same) => same,
            None => line
                .text("session_id")
                .is_some_and(|session| self.sessions.iter().any(|known| *known == session)),
        }
    }

    /// `None`: it names no receipt.
    fn names_receipt(&self, line: &Line) -> Option<bool> {
        let named = line.text("receipt_id")?;
        Some(self.receipt_id.as_ref().is_some_and(|id| named == *id))
    }
}

/// A failed login names a gateway mailbox by what the client said, which may be the whole address.
fn is_about(line: &Line, login: &str) -> bool {
    ["mailbox", "login"].iter().filter_map(|field| line.text(field)).any(|text| {
        let local = text.split('@').next().unwrap_or_default();
        local.eq_ignore_ascii_case(login)
    })
}

/// True when a text of the line holds the address, as a word of its own. Domain literals and X.500 names are words too.
fn names(line: &Line, address: &str) -> bool {
    let is_end = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '/' | ',' | ';' | '"' | '(' | ')')
    };
    line.fields.iter().filter(|(_, value)| matches!(value, Value::String(_))).any(|(_, value)| {
        let text = as_text(value);
        text.eq_ignore_ascii_case(address)
            || text.split(is_end).any(|word| word.eq_ignore_ascii_case(address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPT: &str = "019aa5b0-7e21-7c43-a1b2-0123456789ab";

    fn line(level: &str, fields: &str) -> Line {
        Line::parse(&format!("{{\"timestamp\":\"2026-11-21T09:30:00Z\",\"level\":\"{level}\",{fields}}}"))
            .unwrap()
    }

    fn lines() -> Vec<Line> {
        vec![
            line("DEBUG", r#""event":"smtp.connected","session_id":"s1""#),
            line(
                "INFO",
                &format!(r#""event":"journal.received","receipt_id":"{RECEIPT}","session_id":"s1""#),
            ),
            line(
                "INFO",
                &format!(
                    r#""event":"journal.committed","receipt_id":"{RECEIPT}","session_id":"s1","mailbox":"mbx-1","class":"journal-report",
                    "sender":"Alice@contoso.example","recipients":"bob@contoso.example carol@x.example",
                    "placements":"INBOX:1 Users/dora@contoso.example/Journal Incoming:1""#
                ),
            ),
            line("WARN", r#""event":"smtp.refused","receipt_id":"other","session_id":"s1","code":550"#),
            line("WARN", r#""event":"auth.failed","session_id":"s2","login":"MBX-1@gw.example""#),
            line("ERROR", r#""event":"store.commit_failed","error":"write to <bob@contoso.example>""#),
        ]
    }

    fn check(filter: Filter, expect: &[usize]) {
        let mut matcher = Matcher::new(filter.clone());
        let found: Vec<usize> =
            lines().iter().enumerate().filter(|(_, line)| matcher.matches(line)).map(|(n, _)| n).collect();
        assert_eq!(found, expect, "{filter:?}");
    }

    #[test]
    fn each_condition_keeps_what_it_names() {
        let none = Filter::default;
        check(none(), &[0, 1, 2, 3, 4, 5]);
        check(Filter { mailbox: Some("mbx-1".to_owned()), ..none() }, &[2, 4]);
        check(Filter { class: Some(Class::JournalReport), ..none() }, &[2]);
        check(Filter { class: Some(Class::Plain), ..none() }, &[]);
        check(Filter { level: Some(Level::Warn), ..none() }, &[3, 4, 5]);
        check(Filter { level: Some(Level::Debug), ..none() }, &[0, 1, 2, 3, 4, 5]);
        check(Filter { event: Some("journal.".to_owned()), ..none() }, &[1, 2]);
        check(Filter { event: Some("smtp.refused".to_owned()), ..none() }, &[3]);
        check(Filter { event: Some("smtp".to_owned()), level: Some(Level::Info), ..none() }, &[3]);
    }

    #[test]
    fn an_address_is_found_as_a_word_and_not_as_a_part_of_one() {
        let named = |address: &str| Filter { address: Some(address.to_owned()), ..Filter::default() };
        check(named("alice@CONTOSO.example"), &[2]);
        check(named("bob@contoso.example"), &[2, 5]);
        check(named("dora@contoso.example"), &[2]);
        check(named("ob@contoso.example"), &[]);
        check(named("bob@contoso"), &[]);
    }

    #[test]
    fn a_receipt_brings_the_lines_of_its_session_but_not_those_of_others() {
        let filter = Filter { receipt_id: RECEIPT.parse().ok(), ..Filter::default() };
        check(filter.clone(), &[1, 2]);
        let mut matcher = Matcher::new(filter);
        lines().iter().for_each(|line| matcher.learn(line));
        let found: Vec<bool> = lines().iter().map(|line| matcher.matches(line)).collect();
        assert_eq!(found, [true, true, true, false, false, false]);
    }

    #[test]
    fn a_filter_survives_the_way_to_the_server() {
        let filter = Filter {
            mailbox: Some("m".to_owned()),
            address: Some("a@b".to_owned()),
            class: Some(Class::JournalNdr),
            level: Some(Level::Debug),
            receipt_id: RECEIPT.parse().ok(),
            event: Some("x".to_owned()),
        };
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
        assert_eq!(serde_json::from_str::<Filter>("{}").unwrap(), Filter::default());
        assert!(!filter.is_empty() && Filter::default().is_empty());
    }
}
