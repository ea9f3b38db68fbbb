//! Sequence sets (RFC 3501 §9), matched against what is there: never expanded, since `1:4294967295` is a set like any other.

use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};

/// Runs of numbers, rising, apart from each other; first and last of each.
pub(in crate::fetch::imap) type Runs = Vec<(u32, u32)>;

/// What a set means where `largest` is the largest number in use: `*`. Nothing when there is none.
pub(in crate::fetch::imap) fn runs(set: &SequenceSet, largest: u32) -> Runs {
    if largest == 0 {
        return Vec::new();
    }
    let number = |end: &SeqOrUid| match end {
        SeqOrUid::Value(number) => number.get(),
        SeqOrUid::Asterisk => largest,
    };
    let mut runs: Runs = set
        .0
        .as_ref()
        .iter()
        .map(|sequence| match sequence {
            Sequence::Single(one) => (number(one), number(one)),
            // Either end may come first, and `*` may be less than the other.
            Sequence::Range(a, b) => (number(a).min(number(b)), number(a).max(number(b))),
        })
        .collect();
    runs.sort_unstable();
    let mut joined: Runs = Vec::with_capacity(runs.len());
    for (first, last) in runs {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// True when every number of a set names one of `messages`; of an empty folder none does, nor does `*` (RFC 9051 §9, `seq-number`).
pub(in crate::fetch::imap) fn are_there(set: &SequenceSet, messages: usize) -> bool {
    let largest = u32::try_from(messages).unwrap_or(u32::MAX);
    runs(set, largest).last().is_some_and(|(_, last)| *last <= largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &str, largest: u32, expect: &[(u32, u32)]) {
        let set = SequenceSet::try_from(set).unwrap();
        assert_eq!(runs(&set, largest), expect, "{set:?} of {largest}");
    }

    #[test]
    fn sets_are_runs_that_rise() {
        check("2,4:7,9,12:*", 15, &[(2, 2), (4, 7), (9, 9), (12, 15)]);
        check("*:4,5:7", 10, &[(4, 10)]);
        check("3:1,2,4", 10, &[(1, 4)]);
        check("1:4294967295", 3, &[(1, u32::MAX)]);
        check("4294967295,4294967294:4294967295", 3, &[(u32::MAX - 1, u32::MAX)]);
        check("3291:*", 7, &[(7, 3291)]);
        check("1:*", 0, &[]);
    }

    #[test]
    fn numbers_beyond_the_last_name_nothing() {
        let there = |set: &str, messages| are_there(&SequenceSet::try_from(set).unwrap(), messages);
        assert!(there("1:*", 3) && there("*", 1) && there("3,1", 3));
        assert!(!there("1:4", 3) && !there("4", 3) && !there("*", 0) && !there("1:*", 0) && !there("4:*", 3));
    }

    #[test]
    fn twenty_thousand_runs_are_cheap() {
        let set: Vec<String> = (1..=20_000).rev().map(|n| (3 * n).to_string()).collect();
        let set = SequenceSet::try_from(set.join(",").as_str()).unwrap();
        assert_eq!(runs(&set, 1).len(), 20_000);
    }
}
