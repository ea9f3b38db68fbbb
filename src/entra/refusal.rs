//! What Microsoft says when it refuses: the JSON of the token endpoint (RFC 6749 section 5.2, with Microsoft's additions) and of
//! Microsoft Graph, read without trusting it.

use crate::mail::Untrusted;
use serde_json::Value;
use std::fmt;

/// Words of a text that are kept; the longest known, AADSTS700027, has some 80.
const WORDS_MAX: usize = 250;
/// Numbers of one refusal that are kept; there is one, as a rule.
const CODES_MAX: usize = 8;

/// A refusal, ready to be shown: nothing in it can forge a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The name of the error, `invalid_client` or `Authorization_RequestDenied`, which programs may go by; empty when there is
    /// none.
    pub error: String,
    /// What it says to people, as it stands.
    pub text: String,
    /// The numbers behind `AADSTS`, for people alone.
    pub codes: Vec<u32>,
    /// What Microsoft's support asks for: `trace_id`, or `request-id` of Graph.
    pub trace_id: Option<String>,
    /// `correlation_id`, or `client-request-id` of Graph.
    pub correlation_id: Option<String>,
    /// When it was said, by their clock, as they write it.
    pub timestamp: Option<String>,
}

impl Refusal {
    /// Reads the body of an answer with a status of 400 and above. What is not JSON is told by its length alone.
    pub fn read(status: u16, body: &[u8]) -> Refusal {
        let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let refusal = if said.get("error").is_some_and(Value::is_object) {
            graph(status, &said)
        } else {
            login(status, &said)
        };
        if refusal.error.is_empty() && refusal.text.is_empty() {
            let text = format!("an answer of {} octets that says nothing", body.len());
            return Refusal { status, text, ..Refusal::default() };
        }
        refusal
    }

    /// The first number, by which it is looked up.
    pub fn code(&self) -> Option<u32> {
        self.codes.first().copied()
    }

    /// The same without a text that must not be shown, wherever it stands in it.
    pub fn without(mut self, secret: &str) -> Refusal {
        if !secret.is_empty() {
            let texts = [&mut self.error, &mut self.text].into_iter();
            let ids =
                [&mut self.trace_id, &mut self.correlation_id, &mut self.timestamp].into_iter().flatten();
            for text in texts.chain(ids) {
                *text = text.replace(secret, "…");
            }
        }
        self
    }
}

/// `400 invalid_client: AADSTS7000215: … (trace id …, correlation id …, time …)`
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.error.is_empty() {
            write!(f, " {}", self.error)?;
        }
        write!(f, ": {}", self.text)?;
        let known = [
            ("trace id", &self.trace_id),
            ("correlation id", &self.correlation_id),
            ("time", &self.timestamp),
        ];
        let known = known.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        let known: Vec<String> = known.collect();
        if known.is_empty() { Ok(()) } else { write!(f, " ({})", known.join(", ")) }
    }
}

fn login(status: u16, said: &Value) -> Refusal {
    let description = text(said, "error_description").unwrap_or_default();
    // The ids stand in lines of their own behind it, and once more as members.
    let first = description.split(" Trace ID: ").next().unwrap_or_default();
    let mut codes: Vec<u32> = said
        .get("error_codes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|code| u32::try_from(code.as_u64()?).ok())
        .take(CODES_MAX)
        .collect();
    if codes.is_empty() {
        codes.extend(number(first));
    }
    Refusal {
        status,
        error: text(said, "error").unwrap_or_default(),
        text: first.to_owned(),
        codes,
        trace_id: text(said, "trace_id"),
        correlation_id: text(said, "correlation_id"),
        timestamp: text(said, "timestamp"),
    }
}

fn graph(status: u16, said: &Value) -> Refusal {
    let error = said.get("error").unwrap_or(&Value::Null);
    let inner = error.get("innerError").or_else(|| error.get("innererror")).unwrap_or(&Value::Null);
    let text_of_error = text(error, "message").unwrap_or_default();
    Refusal {
        status,
        error: text(error, "code").unwrap_or_default(),
        codes: number(&text_of_error).into_iter().collect(),
        text: text_of_error,
        trace_id: text(inner, "request-id"),
        correlation_id: text(inner, "client-request-id"),
        timestamp: text(inner, "date"),
    }
}

/// A member as one line; `None` when it is not there, or is no text.
fn text(object: &Value, name: &str) -> Option<String> {
    let words = object.get(name)?.as_str()?.split_whitespace().take(WORDS_MAX);
    let words: Vec<String> = words.map(|word| Untrusted(word).to_string()).collect();
    Some(words.join(" "))
}

/// The number behind the first `AADSTS`.
fn number(text: &str) -> Option<u32> {
    let (_, behind) = text.split_once("AADSTS")?;
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_text_number_and_ids() {
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys for app 'a' are expired.\r\nTrace ID: t-1\r\nCorrelation ID: c-1\r\nTimestamp: 2026-01-09 02:02:12Z","error_codes":[7000222],"timestamp":"2026-01-09 02:02:12Z","trace_id":"t-1","correlation_id":"c-1","error_uri":"https://login.microsoftonline.com/error?code=7000222"}"#;
        let refusal = Refusal::read(401, body);
        assert_eq!((refusal.code(), refusal.error.as_str()), (Some(7_000_222), "invalid_client"));
        assert_eq!(
            refusal.to_string(),
            "401 invalid_client: AADSTS7000222: The provided client secret keys for app 'a' are expired. \
             (trace id t-1, correlation id c-1, time 2026-01-09 02:02:12Z)"
        );
    }

    #[test]
    fn graph_says_it_in_its_own_way() {
        let body = br#"{"error":{"code":"Authorization_RequestDenied","message":"Insufficient privileges to complete the operation.","innerError":{"date":"2026-01-09T02:02:12","request-id":"r-1","client-request-id":"r-2"}}}"#;
        let refusal = Refusal::read(403, body);
        assert_eq!(refusal.error, "Authorization_RequestDenied");
        assert_eq!(
            (refusal.trace_id.as_deref(), refusal.correlation_id.as_deref()),
            (Some("r-1"), Some("r-2"))
        );
        assert_eq!(refusal.code(), None);
    }

    #[test]
    fn what_is_no_refusal_is_told_by_its_length_and_nothing_forges_a_line() {
        assert_eq!(Refusal::read(502, b"<html>").to_string(), "502: an answer of 6 octets that says nothing");
        assert_eq!(Refusal::read(500, b"[1]").text, "an answer of 3 octets that says nothing");
        assert_eq!(Refusal::read(400, b"{}").text, "an answer of 2 octets that says nothing");
        let refusal =
            Refusal::read(400, br#"{"error":"a\u001b[2J","error_description":"AADSTS90002: b\r\nERROR c"}"#);
        assert_eq!(refusal.to_string(), r"400 a\u{1b}[2J: AADSTS90002: b ERROR c");
        assert_eq!(refusal.code(), Some(90_002));
        assert_eq!(refusal.without("ERROR").text, "AADSTS90002: b … c");
        let long = format!(r#"{{"error":"e","error_description":"{}"}}"#, "word ".repeat(10_000));
        assert_eq!(Refusal::read(400, long.as_bytes()).text.split(' ').count(), WORDS_MAX);
    }
}
