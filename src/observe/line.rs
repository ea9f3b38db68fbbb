//! One event as data: when, how severe, and its fields in the order of the call.
//!
//! ```text
//! {"timestamp":"2026-11-21T09:30:00.123Z","level":"INFO","event":"listening","service":"smtp","addr":"[::]:25"}
//! ```
//! [`Line::to_json`] and [`Line::parse`] undo each other. JSON escapes line ends and quotes; whatever else could move a
//! terminal's cursor or reorder text is escaped here, so a log is safe to look at with any tool.

use super::Level;
use crate::mail::{Timestamp, Untrusted};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When it happened.
    pub at: Timestamp,
    /// How severe it is.
    pub level: Level,
    /// Its fields in order, `event` among them.
    pub fields: Vec<(Cow<'static, str>, Value)>,
}

impl Line {
    /// Reads one line of a JSON log. `None` for anything else.
    pub fn parse(text: &str) -> Option<Line> {
        let Object(object) = serde_json::from_str(text).ok()?;
        let (mut at, mut level, mut fields) = (None, None, Vec::with_capacity(object.len()));
        for (name, value) in object {
            match name.as_str() {
                "timestamp" => at = value.as_str().and_then(Timestamp::parse),
                "level" => level = value.as_str().and_then(|level| level.parse().ok()),
                _ => fields.push((Cow::Owned(name), value)),
            }
        }
        Some(Line { at: at?, level: level?, fields })
    }

    /// The name of the event; empty when it has none.
    pub fn event(&self) -> &str {
        self.get("event").and_then(Value::as_str).unwrap_or_default()
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// The value of a field as text; `None` when it is not there.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(as_text)
    }

    /// One line of JSON, without a line end.
    pub fn to_json(&self) -> String {
        let mut out = format!("{{\"timestamp\":\"{}\",\"level\":\"{}\"", self.at, self.level.as_written());
        for (name, value) in &self.fields {
            // A name needs no escaping that Value would not give it; both writers cannot fail on text and numbers.
            out.push(',');
            out.push_str(&Value::from(name.as_ref()).to_string());
            out.push(':');
            out.push_str(&value.to_string());
        }
        out.push('}');
        match json_safe(&out) {
            Cow::Borrowed(_) => out,
            Cow::Owned(escaped) => escaped,
        }
    }

    /// The same event with no text longer than so many characters.
    pub(super) fn shortened(&self, characters_max: usize) -> Line {
        let cut = |value: &Value| match value {
            Value::String(text) if text.chars().nth(characters_max).is_some() => {
                Value::String(text.chars().take(characters_max).chain(['…']).collect())
            }
            other => other.clone(),
        };
        let fields = self.fields.iter().map(|(name, value)| (name.clone(), cut(value))).collect();
        Line { at: self.at, level: self.level, fields }
    }
}

/// A value as people read it: text without quotes.
pub(super) fn as_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// JSON with every character that [`Untrusted`] escapes written as JSON escapes it. In JSON such characters stand inside
/// strings only.
pub fn json_safe(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        let shown = Untrusted(c.encode_utf8(&mut [0; 4])).to_string();
        if shown.starts_with("\\u{") {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A JSON object whose members keep their order.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"timestamp":"2026-11-21T09:30:00.123Z","level":"WARN","event":"a.b","z":1,"a":"x\ny","f":0.5,"ok":true,"none":null}"#;

    #[test]
    fn a_line_survives_being_read_and_written_with_its_fields_in_order() {
        let line = Line::parse(JSON).unwrap();
        assert_eq!((line.event(), line.level), ("a.b", Level::Warn));
        assert_eq!(line.text("z").as_deref(), Some("1"));
        assert_eq!(line.text("a").as_deref(), Some("x\ny"));
        assert_eq!(line.to_json(), JSON);
    }

    #[test]
    fn what_is_no_line_of_a_log_is_not_read() {
        for text in
            ["", "{}", "[]", "hello", "{\"timestamp\":\"2026-11-21T09:30:00Z\"}", "{\"level\":\"INFO\"}"]
        {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_could_move_a_cursor_is_escaped_and_reads_back() {
        let hostile = "a\r\n\u{1b}[2J\u{202e}\u{2028}\u{9b}\"\\é";
        let fields = vec![(Cow::Borrowed("event"), Value::from(hostile))];
        let line = Line { at: Timestamp::from_unix_ms(0), level: Level::Info, fields };
        let json = line.to_json();
        assert!(!json.chars().any(|c| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}')), "{json}");
        assert_eq!(Line::parse(&json), Some(line));
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        let mut line = Line::parse(JSON).unwrap();
        line.fields.push((Cow::Borrowed("long"), Value::from("é".repeat(10))));
        assert_eq!(line.shortened(4).text("long").as_deref(), Some("éééé…"));
        assert_eq!(line.shortened(10), line);
    }
}
