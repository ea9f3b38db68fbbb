//! What an IMAP server says in its responses, taken apart: lists, strings and atoms (RFC 3501 §4).

use super::imap::Response;
use std::fmt;

/// A value. A quoted string, a literal and an atom that say the same are the same.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Nil,
    Text(Vec<u8>),
    List(Vec<Value>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("NIL"),
            Value::Text(octets) => write!(f, "{:?}", String::from_utf8_lossy(octets)),
            Value::List(values) => {
                f.write_str("(")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{value:?}", if at == 0 { "" } else { " " })?;
                }
                f.write_str(")")
            }
        }
    }
}

/// The number and the items of a FETCH response, each by its name in upper case; nothing for any other response.
pub(crate) fn fetched(response: &Response) -> Option<(u32, Vec<(String, Value)>)> {
    let rest = response.text.strip_prefix("* ")?;
    let (number, rest) = rest.split_once(' ')?;
    let rest = rest.strip_prefix("FETCH ")?;
    let mut reading = Reading { text: rest.as_bytes(), literals: response.literals.iter() };
    let Value::List(values) = reading.value()? else { return None };
    assert!(reading.text.is_empty(), "behind the items: {:?}", String::from_utf8_lossy(reading.text));
    let items = values.chunks_exact(2).map(|pair| match pair {
        [Value::Text(name), value] => (String::from_utf8_lossy(name).to_uppercase(), value.clone()),
        _ => panic!("no item: {pair:?}"),
    });
    Some((number.parse().ok()?, items.collect()))
}

struct Reading<'a> {
    text: &'a [u8],
    literals: std::slice::Iter<'a, Vec<u8>>,
}

impl Reading<'_> {
    fn value(&mut self) -> Option<Value> {
        match self.text.first()? {
            b'(' => self.list(),
            b'"' => self.quoted(),
            b'{' => {
                let end = self.text.iter().position(|octet| *octet == b'}')?;
                self.text = &self.text[end + 1..];
                Some(Value::Text(self.literals.next()?.clone()))
            }
            _ => Some(self.atom()),
        }
    }

    fn list(&mut self) -> Option<Value> {
        let mut values = Vec::new();
        self.text = &self.text[1..];
        loop {
            match self.text.first()? {
                b')' => {
                    self.text = &self.text[1..];
                    return Some(Value::List(values));
                }
                b' ' => self.text = &self.text[1..],
                _ => values.push(self.value()?),
            }
        }
    }

    fn quoted(&mut self) -> Option<Value> {
        let mut text = Vec::new();
        let mut at = 1;
        loop {
            match self.text.get(at)? {
                b'"' => break,
                b'\\' => {
                    at += 1;
                    text.push(*self.text.get(at)?);
                }
                other => text.push(*other),
            }
            at += 1;
        }
        self.text = &self.text[at + 1..];
        Some(Value::Text(text))
    }

    /// Also `BODY[HEADER.FIELDS (A B)]<0>`: what is in brackets belongs to it.
    fn atom(&mut self) -> Value {
        let mut depth = 0;
        let ends = |octet: &u8| {
            match octet {
                b'[' => depth += 1,
                b']' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(octet, b' ' | b'(' | b')')
        };
        let end = self.text.iter().position(ends).unwrap_or(self.text.len());
        let (atom, rest) = self.text.split_at(end);
        self.text = rest;
        if atom.eq_ignore_ascii_case(b"NIL") { Value::Nil } else { Value::Text(atom.to_vec()) }
    }
}
