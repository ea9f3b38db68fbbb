//! Where Daybook and Dovecot say different things of the same message, and why that stays so.

/// Differences of one kind.
#[derive(Debug)]
pub(crate) struct Explained {
    /// The messages: names, of which a `*` at an end stands for anything.
    messages: &'static [&'static str],
    /// The items or searches, likewise.
    what: &'static [&'static str],
    /// Read by whoever asks why.
    #[allow(dead_code, reason = "for people, and shown when the difference is gone")]
    why: &'static str,
}

impl Explained {
    pub(crate) fn is_about(&self, message: &str, what: &str) -> bool {
        let fits = |patterns: &[&str], name: &str| patterns.iter().any(|pattern| fits(pattern, name));
        fits(self.messages, message) && fits(self.what, what)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    let inner = pattern.trim_matches('*');
    match (pattern.starts_with('*'), pattern.ends_with('*')) {
        (true, true) => name.contains(inner),
        (true, false) => name.ends_with(inner),
        (false, true) => name.starts_with(inner),
        (false, false) => name == inner,
    }
}

/// In what FETCH says.
pub(crate) const FETCHES: &[Explained] = &[];

/// In what SEARCH finds; messages begin with the side on which alone they are found, `ours: ` or `theirs: `.
pub(crate) const SEARCHES: &[Explained] = &[];
