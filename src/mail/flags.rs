//! The flags a client may set on an entry of a folder (RFC 9051 §2.3.2).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{BitAnd, BitOr, BitXor, Sub};

/// A set of the five flags that are kept; there are no keywords, and `\Recent` is of the past (RFC 9051 appendix E).
///
/// The numbers stand in the log: a bit never changes its meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// `\Seen`: it was read.
    pub const SEEN: Flags = Flags(1);
    /// `\Answered`
    pub const ANSWERED: Flags = Flags(2);
    /// `\Flagged`
    pub const FLAGGED: Flags = Flags(4);
    /// `\Draft`
    pub const DRAFT: Flags = Flags(8);
    /// `\Deleted`: to be taken out by the next EXPUNGE or CLOSE.
    pub const DELETED: Flags = Flags(16);
    /// All of them.
    pub const ALL: Flags = Flags(31);
    /// Each with its name in IMAP.
    pub const NAMES: [(Flags, &'static str); 5] = [
        (Flags::ANSWERED, "\\Answered"),
        (Flags::FLAGGED, "\\Flagged"),
        (Flags::DELETED, "\\Deleted"),
        (Flags::SEEN, "\\Seen"),
        (Flags::DRAFT, "\\Draft"),
    ];

    /// The set with this number; bits that mean nothing are left out.
    pub fn from_bits(bits: u8) -> Flags {
        Flags(bits) & Flags::ALL
    }

    /// Its number.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// True when all of `others` are in it.
    pub fn contains(self, others: Flags) -> bool {
        self & others == others
    }

    /// True when no flag is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, others: Flags) -> Flags {
        Flags(self.0 | others.0)
    }
}

impl BitAnd for Flags {
    type Output = Flags;
    fn bitand(self, others: Flags) -> Flags {
        Flags(self.0 & others.0)
    }
}

impl BitXor for Flags {
    type Output = Flags;
    fn bitxor(self, others: Flags) -> Flags {
        Flags(self.0 ^ others.0)
    }
}

impl Sub for Flags {
    type Output = Flags;
    fn sub(self, others: Flags) -> Flags {
        Flags(self.0 & !others.0)
    }
}

/// As IMAP writes them, with a blank between, without parentheses.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Flags::NAMES.iter().filter(|(flag, _)| self.contains(*flag));
        for (number, (_, name)) in set.enumerate() {
            f.write_str(if number == 0 { "" } else { " " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// What is done to the flags of entries (RFC 9051 §6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlagChange {
    /// `FLAGS`: these and no others.
    Replace(Flags),
    /// `+FLAGS`
    Add(Flags),
    /// `-FLAGS`
    Remove(Flags),
}

impl FlagChange {
    /// What becomes of `before`. What is not in `changeable` stays as it was.
    pub fn applied(self, before: Flags, changeable: Flags) -> Flags {
        let after = match self {
            FlagChange::Replace(flags) => flags,
            FlagChange::Add(flags) => before | flags,
            FlagChange::Remove(flags) => before - flags,
        };
        (after & changeable) | (before - changeable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_changed_stays() {
        let before = Flags::SEEN | Flags::DELETED;
        let changeable = Flags::ALL - Flags::DELETED;
        assert_eq!(
            FlagChange::Replace(Flags::FLAGGED).applied(before, changeable),
            Flags::FLAGGED | Flags::DELETED
        );
        assert_eq!(FlagChange::Remove(Flags::ALL).applied(before, Flags::ALL), Flags::NONE);
        assert_eq!(FlagChange::Add(Flags::DELETED).applied(Flags::NONE, changeable), Flags::NONE);
        assert_eq!((Flags::SEEN | Flags::ANSWERED).to_string(), "\\Answered \\Seen");
    }
}
