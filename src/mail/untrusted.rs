//! Text from peers, made safe to show.

use std::fmt;

/// Longest run of untrusted text shown, in characters: an address whole, and an X.500 name of 256, whose end tells it apart.
const SHOWN_CHARACTERS_MAX: usize = 320;

/// Shows text from a peer with every control, format and line-breaking character escaped, and cut to a length,
/// so that it cannot forge a log line, move a terminal's cursor or reorder what stands around it.
pub struct Untrusted<'a>(pub &'a str);

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{61c}')
}

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, c) in self.0.chars().enumerate() {
            if count == SHOWN_CHARACTERS_MAX {
                return f.write_str("…");
            }
            if is_unsafe(c) { write!(f, "{}", c.escape_unicode())? } else { fmt::Write::write_char(f, c)? }
        }
        Ok(())
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_could_forge_a_line_and_caps_the_length() {
        assert_eq!(Untrusted("a\r\nb\u{1b}[31m\u{202e}").to_string(), r"a\u{d}\u{a}b\u{1b}[31m\u{202e}");
        assert_eq!(Untrusted("zoë 数値").to_string(), "zoë 数値");
        assert_eq!(Untrusted(&"x".repeat(1_000)).to_string().chars().count(), SHOWN_CHARACTERS_MAX + 1);
    }
}
