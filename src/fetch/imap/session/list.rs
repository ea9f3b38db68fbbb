//! LIST and LSUB (RFC 3501 §6.3.8): which folders a pattern names, with the attributes of RFC 3348.
//!
//! Every folder is subscribed. Parents that are no folders themselves, `Users` and `Users/<slug>`, are listed as `\Noselect`.

use super::super::step::Output;
use super::text;
use crate::fetch::folders::FolderInfo;
use std::collections::BTreeSet;

/// Most wildcards in a pattern: each may have to be tried at every character of a path.
pub(super) const WILDCARDS_MAX: usize = 32;

/// Which paths are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    wildcards: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Octet(u8),
    /// `*`
    Any,
    /// `%`: no `/`.
    AnyOfLevel,
}

impl Pattern {
    /// The pattern behind its reference, which is put before it as it is. `None` when it has more than [`WILDCARDS_MAX`].
    pub(super) fn new(reference: &str, pattern: &str) -> Option<Pattern> {
        let mut tokens: Vec<Token> = Vec::with_capacity(reference.len() + pattern.len());
        let mut wildcards = 0;
        for octet in reference.bytes().chain(pattern.bytes()) {
            let token = match octet {
                b'*' => Token::Any,
                b'%' => Token::AnyOfLevel,
                octet => Token::Octet(octet),
            };
            // A wildcard beside its like says nothing more.
            if matches!(token, Token::Any | Token::AnyOfLevel) {
                if tokens.last() == Some(&token) {
                    continue;
                }
                wildcards += 1;
            }
            tokens.push(token);
        }
        (wildcards <= WILDCARDS_MAX).then_some(Pattern { tokens, wildcards })
    }

    /// Steps along the path with every place of the pattern that can be reached so far, so that no path takes longer than its
    /// length times that of what is left of the pattern.
    pub(super) fn matches(&self, path: &str) -> bool {
        if self.tokens.len() - self.wildcards > path.len() {
            return false;
        }
        let end = self.tokens.len();
        let mut at = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        self.reach(&mut at, 0);
        // INBOX is the same in any case: `inb%` names it too.
        let folded = path == "INBOX";
        for octet in path.bytes() {
            next.fill(false);
            for place in (0..end).filter(|place| at.get(*place) == Some(&true)) {
                match self.tokens.get(place) {
                    Some(Token::Any) => self.reach(&mut next, place),
                    Some(Token::AnyOfLevel) if octet != b'/' => self.reach(&mut next, place),
                    Some(Token::Octet(wanted))
                        if *wanted == octet || folded && wanted.eq_ignore_ascii_case(&octet) =>
                    {
                        self.reach(&mut next, place + 1);
                    }
                    _ => {}
                }
            }
            std::mem::swap(&mut at, &mut next);
        }
        at.get(end) == Some(&true)
    }

    /// The place can be reached, and those behind it that need nothing.
    fn reach(&self, places: &mut [bool], place: usize) {
        for place in place..=self.tokens.len() {
            if let Some(reached) = places.get_mut(place) {
                *reached = true;
            }
            if !matches!(self.tokens.get(place), Some(Token::Any | Token::AnyOfLevel)) {
                return;
            }
        }
    }
}

/// What `LIST "" ""` asks for: the delimiter.
pub(super) fn delimiter(verb: &str) -> Output {
    format!("* {verb} (\\Noselect) \"/\" \"\"\r\n").into_bytes()
}

/// The folders a pattern names, parents before their children.
pub(super) fn listing(verb: &str, pattern: &Pattern, folders: &[FolderInfo]) -> Output {
    let mut output = Output::new();
    let paths: BTreeSet<&str> = folders.iter().map(|folder| folder.path.as_str()).collect();
    let parents: BTreeSet<&str> = paths.iter().flat_map(|path| ancestors(path)).collect();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut tell = |path: &str, attributes: &str| {
        if pattern.matches(path) {
            text::say(&mut output, &format!("* {verb} ({attributes}) \"/\" {}", text::mailbox(path)));
        }
    };
    for folder in folders {
        for parent in ancestors(&folder.path) {
            if !paths.contains(parent) && told.insert(parent) {
                tell(parent, "\\Noselect \\HasChildren");
            }
        }
        let has_children = parents.contains(folder.path.as_str());
        tell(&folder.path, if has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    }
    output
}

/// The paths above this one, the first level first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Uid;
    use proptest::prelude::*;

    fn folder(path: &str) -> FolderInfo {
        FolderInfo { path: path.to_owned(), uid_validity: None, uid_next: Uid::FIRST, messages: 0, unseen: 0 }
    }

    const PATHS: [&str; 5] = [
        "INBOX",
        "Unassigned",
        "Users/a.b/Journal Incoming",
        "Users/a/Journal Incoming",
        "Users/a/Journal Outgoing",
    ];

    /// Compares the paths that are listed.
    fn check(reference: &str, pattern: &str, expect: &[&str]) {
        let pattern = Pattern::new(reference, pattern).unwrap();
        let output = String::from_utf8(listing("LIST", &pattern, &PATHS.map(folder))).unwrap();
        let listed: Vec<&str> =
            output.lines().map(|line| line.split(" \"/\" ").nth(1).unwrap().trim_matches('"')).collect();
        assert_eq!(listed, expect, "{pattern:?}");
    }

    #[test]
    fn patterns_name_folders_and_their_parents() {
        let all = [&["INBOX", "Unassigned", "Users", "Users/a.b"], &PATHS[2..3], &["Users/a"], &PATHS[3..]];
        check("", "*", &all.concat());
        check("", "%", &["INBOX", "Unassigned", "Users"]);
        check("", "%/%", &["Users/a.b", "Users/a"]);
        check("Users/", "%", &["Users/a.b", "Users/a"]);
        check("Users/a/", "*", &PATHS[3..]);
        check("", "Users/a/Journal Incoming", &PATHS[3..4]);
        check("", "*Outgoing", &PATHS[4..]);
        check("", "users*", &[]);
        check("", "Users/%/%Out%", &PATHS[4..]);
        check("", "**%%**", &all.concat());
    }

    #[test]
    fn inbox_is_the_same_in_any_case() {
        for pattern in ["inbox", "InBox", "inb%", "*box", "INBOX*"] {
            check("", pattern, &["INBOX"]);
        }
        check("", "inboxes", &[]);
    }

    #[test]
    fn children_are_told() {
        let pattern = Pattern::new("", "Users*").unwrap();
        let output = listing("LSUB", &pattern, &[folder("Users/a/Journal Incoming")]);
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "* LSUB (\\Noselect \\HasChildren) \"/\" \"Users\"\r\n\
             * LSUB (\\Noselect \\HasChildren) \"/\" \"Users/a\"\r\n\
             * LSUB (\\HasNoChildren) \"/\" \"Users/a/Journal Incoming\"\r\n"
        );
    }

    #[test]
    fn wildcards_are_counted() {
        assert!(Pattern::new("", &"*a".repeat(WILDCARDS_MAX)).is_some());
        assert!(Pattern::new("", &"*a".repeat(WILDCARDS_MAX + 1)).is_none());
    }

    /// What a pattern means, by its definition.
    fn means(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((b'*', rest)) => (0..=path.len()).any(|skipped| means(rest, &path[skipped..])),
            Some((b'%', rest)) => (0..=path.len())
                .any(|skipped| !path[..skipped].contains(&b'/') && means(rest, &path[skipped..])),
            Some((octet, rest)) => path.first() == Some(octet) && means(rest, &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_they_say(pattern in "[ab/*%]{0,8}", path in "[ab/]{0,10}") {
            let expect = means(pattern.as_bytes(), path.as_bytes());
            prop_assert_eq!(Pattern::new("", &pattern).unwrap().matches(&path), expect);
        }
    }
}
