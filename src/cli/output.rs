//! What is printed, and how a command ends.

use crate::admin::{NewPassword, OpError};
use crate::mail::{Timestamp, Untrusted};
use crate::observe::json_safe;
use std::io::{self, Write};

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    kind: &'static str,
    why: String,
    password: Option<NewPassword>,
}

impl Failure {
    /// The same, telling a password that may be in force all the same.
    pub(super) fn with_password(self, password: NewPassword) -> Failure {
        Failure { password: Some(password), ..self }
    }

    /// Wrong usage or configuration: code 2.
    pub(super) fn usage(why: String) -> Failure {
        OpError::Usage(why).into()
    }

    /// The reason, unescaped.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// The exit code.
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// What `--json` says of it.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let mut told = serde_json::json!({ "kind": self.kind, "why": self.why });
        if let (Some(told), Some(password)) = (told.as_object_mut(), &self.password) {
            told.insert("password".to_owned(), password.reveal().into());
        }
        told
    }
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Failure {
        let kind = match &error {
            OpError::NotFound(_) => "not-found",
            OpError::Refused(_) => "refused",
            OpError::NeedsApproval(_) => "needs-approval",
            OpError::Unavailable(_) => "unavailable",
            OpError::Usage(_) => "usage",
        };
        Failure { code: error.exit_code(), kind, why: error.why().to_owned(), password: None }
    }
}

/// Something of ours or of the system is out of reach: code 3.
impl From<String> for Failure {
    fn from(why: String) -> Failure {
        OpError::Unavailable(why).into()
    }
}

/// Prints a failure and gives its exit code.
pub(super) fn fail(failure: &Failure, json: bool) -> u8 {
    if json {
        let value = serde_json::json!({ "error": failure.to_json() });
        // There is nobody left to tell that telling failed.
        print_json(&value).unwrap_or_default();
    } else {
        let mut text = String::new();
        for line in failure.why.lines() {
            text.push_str(&format!("daybook: {}\n", safe(line)));
        }
        io::stderr().write_all(text.as_bytes()).unwrap_or_default();
    }
    failure.code()
}

/// Prints text as it is; its untrusted parts went through [`safe`].
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has read enough, as in `daybook trace … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::from(format!("write the output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints what somebody must have read before more is done: it is an error that nobody reads any more.
pub(super) fn show(text: &str, mut out: impl Write) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::from(format!("show what is needed later: {error}; nothing was done")))
}

/// Prints a line and its end. False when nobody reads any more.
pub(super) fn print_line(mut line: String) -> Result<bool, Failure> {
    line.push('\n');
    print_part(&line)
}

/// Prints a part of more to come. False when nobody reads any more.
pub(super) fn print_part(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::from(format!("write the output: {error}"))),
        Ok(()) => Ok(true),
    }
}

/// Says something beside the output.
pub(super) fn note(text: &str) {
    io::stderr().write_all(format!("daybook: {}\n", safe(text)).as_bytes()).unwrap_or_default();
}

/// Prints one JSON value on one line, safe on a terminal.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    let json = value.to_string();
    print(&format!("{}\n", json_safe(&json)))
}

/// Text from elsewhere, safe on a terminal.
pub(super) fn safe(text: &str) -> String {
    Untrusted(text).to_string()
}

/// `1,234,567`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 message`, `2 messages`
pub(super) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

/// A time without its milliseconds.
pub(super) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).map(|seconds| format!("{seconds}Z")).unwrap_or(text)
}

/// Rows under headings, each column as wide as its widest cell, the last one free.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let all = || std::iter::once(&headings).chain(rows);
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, expect) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expect);
        }
        assert_eq!(counted(1, "message"), "1 message");
        assert_eq!(counted(0, "message"), "0 messages");
    }

    #[test]
    fn tables_line_up_and_end_without_blanks() {
        let rows = [vec!["a".to_owned(), "x y".to_owned()], vec!["zoë".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "WHAT"], &rows), "ID   WHAT\na    x y\nzoë\n");
    }

    #[test]
    fn every_kind_of_failure_has_its_code() {
        let cases = [
            (OpError::NotFound(String::new()), 1),
            (OpError::Refused(String::new()), 1),
            (OpError::Usage(String::new()), 2),
            (OpError::Unavailable(String::new()), 3),
            (OpError::NeedsApproval(String::new()), 4),
        ];
        for (error, code) in cases {
            assert_eq!(Failure::from(error).code(), code);
        }
    }
}
