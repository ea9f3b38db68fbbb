//! Which known key a misspelt one was meant to be.

/// The candidate nearest to `word`, unless even that one differs too much to be a slip of the fingers.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let slips_max = (word.chars().count() / 3).max(2);
    candidates
        .iter()
        .map(|candidate| (distance(&fold(word), &fold(candidate)), *candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// `Max-Message-Bytes` is `max_message_bytes` to anyone but a computer.
fn fold(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Edits between two words: letters put in, left out, changed, or swapped with a neighbour.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut row = Vec::with_capacity(right.len() + 1);
        row.push(i + 1);
        for (j, r) in right.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
            let changed = at(&last, j) + usize::from(l != r);
            let mut best = changed.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && left.get(i - 1) == Some(r) && right.get(j - 1) == Some(l);
            if swapped {
                best = best.min(at(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expect: Option<&str>) {
        let known = ["listen", "listen_tls", "max_message_bytes", "require_tls", "id"];
        assert_eq!(nearest(word, &known), expect, "{word}");
    }

    #[test]
    fn names_the_key_a_slip_was_meant_to_be() {
        check("listn", Some("listen"));
        check("litsen", Some("listen"));
        check("listen-tls", Some("listen_tls"));
        check("Listen", Some("listen"));
        check("max_message_byte", Some("max_message_bytes"));
        check("requiretls", Some("require_tls"));
    }

    #[test]
    fn stays_silent_when_nothing_is_near() {
        check("colour", None);
        check("x", None);
        check("", None);
    }
}
