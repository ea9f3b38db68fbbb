//! Log lines for people: time, a letter for the level, the event, and what matters most first.
//!
//! ```text
//! 2026-11-21T09:30:00Z I journal.committed 019aa5b0-7e21-7c43-a1b2-0123456789ab mbx-9f1c report 47.1K alice/out bob/in …
//! 2026-11-21T09:31:07Z W smtp.refused      550 5.1.1 198.51.100.7:40122 helo=mail.example …
//! ```
//! A line has a head, made to be read within 120 columns: for the events people look at most its parts are chosen below,
//! in a fixed order; all others show `key=value`. In the log every field that the head does not show whole follows as
//! `key=value`, so that nothing is lost and every id can be found with `grep`; `daybook tail` shows the head alone. A receipt
//! id is never cut. Classes of journal mail have a short word in the head: `report` for `journal-report`, `report-ndr` for
//! `journal-ndr`.
//!
//! A value holding anything but plain characters is quoted, its quotes and backslashes are escaped, and so is whatever
//! [`Untrusted`] escapes: text from a peer could otherwise end a line and begin one of its own.

use super::Level;
use super::line::{Line, as_text};
use crate::mail::{Class, Untrusted};
use serde_json::Value;
use std::fmt::Write;

/// Characters of one value that are shown whole. A list of what is wrong with a file may be long; nothing else is.
const VALUE_CHARACTERS_MAX: usize = 4_096;
/// Characters of one value in a head that stands alone.
const HEAD_VALUE_CHARACTERS_MAX: usize = 48;
/// Columns of an event's name, so that what follows lines up: those of the most frequent ones.
const EVENT_COLUMNS: usize = 17;
/// Characters of a login that tell the gateway mailboxes of one site apart.
const LOGIN_CHARACTERS_SHOWN: usize = 8;

/// How a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Date and time, else the time of day alone. UTC in both.
    pub date: bool,
    /// The level stands out; for terminals.
    pub colour: bool,
    /// Every field follows the head.
    pub wide: bool,
    /// Columns; what is longer is cut. `None` for as many as it takes.
    pub columns: Option<usize>,
}

impl Look {
    /// As the log has them.
    pub(super) fn log(colour: bool) -> Look {
        Look { date: true, colour, wide: true, columns: None }
    }
}

/// One part of a head. Parts whose field is missing or empty are left out.
enum Part {
    /// The receipt id, whole.
    Receipt,
    /// The beginning of the gateway mailbox's login.
    Mailbox,
    /// What the message is.
    Class,
    /// Octets.
    Size(&'static str),
    /// Users and folders a message was placed in, without INBOX unless there are no others.
    Folders,
    /// Sender > recipients.
    Correspondents,
    /// The value alone.
    Bare(&'static str),
    /// `key=value`
    Key(&'static str),
}

/// The head of an event; `None` shows all its fields but [`DETAILS`].
fn head(event: &str) -> Option<&'static [Part]> {
    use Part::*;
    Some(match event {
        "journal.received" => &[Receipt, Size("bytes")],
        "journal.committed" => {
            &[Receipt, Mailbox, Class, Size("bytes"), Folders, Correspondents, Key("repeats")]
        }
        "journal.quarantined" => &[Receipt, Mailbox, Class, Bare("defects")],
        "journal.held_back" => &[Receipt, Mailbox, Class, Bare("verdict"), Bare("reason")],
        "journal.unassigned" => &[Receipt, Mailbox, Class, Key("unmatched")],
        "smtp.accepted" => &[Receipt, Bare("peer")],
        "smtp.refused" | "smtp.deferred" => {
            &[Receipt, Bare("code"), Bare("enhanced"), Bare("peer"), Key("helo"), Key("blame")]
        }
        "smtp.tls" => &[Bare("version"), Bare("cipher")],
        "fetch.fetched" | "fetch.deleted" => &[Receipt, Mailbox, Bare("folder"), Key("uid"), Bare("peer")],
        "fetch.session" => &[
            Mailbox,
            Bare("peer"),
            Bare("protocol"),
            Key("listed"),
            Key("fetched"),
            Size("octets"),
            Key("deleted"),
            Bare("end"),
            // What the client says of itself: as long as it likes.
            Key("client"),
        ],
        "mailbox.created" | "mailbox.changed" | "mailbox.suspended" | "mailbox.resumed"
        | "mailbox.deleted" => &[Mailbox, Bare("state"), Key("actor")],
        "auth.ok" => &[Mailbox, Bare("peer"), Bare("protocol")],
        "auth.failed" => &[Bare("peer"), Bare("protocol"), Key("reason"), Key("login")],
        _ => return None,
    })
}

/// Fields that a head shows only when it is theirs.
const DETAILS: &[&str] =
    &["event", "receipt_id", "session_id", "mailbox", "mailbox_id", "message_id", "sha256", "group"];

/// One line for people, without a line end.
pub fn write(line: &Line, look: &Look) -> String {
    let mut out = Words::default();
    out.prefix(line, look);
    let parts = head(line.event());
    match parts {
        Some(parts) => parts.iter().for_each(|part| out.part(part, line, look)),
        None => {
            out.part(&Part::Receipt, line, look);
            out.part(&Part::Mailbox, line, look);
            for (name, value) in line.fields.iter().filter(|(name, _)| !DETAILS.contains(&name.as_ref())) {
                out.key(name, value, look);
            }
        }
    }
    if look.wide {
        for (name, value) in &line.fields {
            let shown = match parts {
                _ if name == "event" || name == "receipt_id" => true,
                Some(parts) => parts.iter().any(|part| part.shows_whole(name)),
                None => !DETAILS.contains(&name.as_ref()),
            };
            if !shown {
                out.key(name, value, look);
            }
        }
    }
    out.finish(look)
}

impl Part {
    fn shows_whole(&self, field: &str) -> bool {
        matches!(self, Part::Bare(name) | Part::Key(name) if *name == field)
    }
}

/// A line being put together.
#[derive(Default)]
struct Words {
    text: String,
    /// What stands in colour: octets of `text` from, up to, and the code for it.
    colours: Vec<(usize, usize, &'static str)>,
}

impl Words {
    fn prefix(&mut self, line: &Line, look: &Look) {
        let (letter, colour) = match line.level {
            Level::Error => ('E', "1;31"),
            Level::Warn => ('W', "33"),
            Level::Info => ('I', "32"),
            Level::Debug => ('D', "34"),
            Level::Trace => ('T', "35"),
        };
        let at = line.at.to_string();
        let (date, time) = (at.get(..10).unwrap_or_default(), at.get(11..19).unwrap_or_default());
        self.text = if look.date { format!("{date}T{time}Z") } else { time.to_owned() };
        self.colours.push((0, self.text.len(), "2"));
        self.text.push(' ');
        let start = self.text.len();
        self.text.push(letter);
        self.text.push(' ');
        let event = escaped(if line.event().is_empty() { "-" } else { line.event() }, VALUE_CHARACTERS_MAX);
        let name = self.text.len();
        self.text.push_str(&event);
        self.colours.push((start, start + 1, colour));
        let is_plain = line.level >= Level::Info;
        self.colours.push((name, self.text.len(), if is_plain { "1" } else { colour }));
        for _ in event.chars().count()..EVENT_COLUMNS {
            self.text.push(' ');
        }
    }

    fn part(&mut self, part: &Part, line: &Line, look: &Look) {
        match part {
            Part::Receipt => self.bare(line.get("receipt_id"), look),
            Part::Mailbox => {
                let login = line.text("mailbox").unwrap_or_default();
                let short: String = login.chars().take(LOGIN_CHARACTERS_SHOWN).collect();
                self.word(&escaped_unless_empty(&short));
            }
            Part::Class => {
                self.word(&escaped_unless_empty(short_class(&line.text("class").unwrap_or_default())))
            }
            Part::Size(name) => {
                if let Some(octets) = line.get(name).and_then(Value::as_u64) {
                    self.word(&size(octets));
                }
            }
            Part::Folders => self.word(&folders(&line.text("placements").unwrap_or_default())),
            Part::Correspondents => self.word(&correspondents(line)),
            Part::Bare(name) => self.bare(line.get(name), look),
            Part::Key(name) => {
                if let Some(value) = line.get(name) {
                    self.key(name, value, look);
                }
            }
        }
    }

    fn bare(&mut self, value: Option<&Value>, look: &Look) {
        let text = value.map(as_text).unwrap_or_default();
        if !text.is_empty() {
            self.word(&escaped(&text, look.value_characters_max()));
        }
    }

    fn key(&mut self, name: &str, value: &Value, look: &Look) {
        let text = as_text(value);
        if look.wide || !text.is_empty() {
            let value = escaped(&text, look.value_characters_max());
            self.word(&format!("{}={value}", Untrusted(name)));
        }
    }

    fn word(&mut self, word: &str) {
        if !word.is_empty() {
            self.text.push(' ');
            self.text.push_str(word);
        }
    }

    fn finish(mut self, look: &Look) -> String {
        let end = self.text.trim_end().len();
        self.text.truncate(end);
        if let Some(columns) = look.columns
            && let Some((cut, _)) = self.text.char_indices().nth(columns.saturating_sub(1))
            && self.text.chars().nth(columns).is_some()
        {
            self.text.truncate(cut);
            self.text.push('…');
        }
        if !look.colour {
            return self.text;
        }
        let mut out = String::with_capacity(self.text.len() + 40);
        let mut done = 0;
        for (from, to, code) in self.colours {
            let (from, to) = (from.min(self.text.len()), to.min(self.text.len()));
            let (before, within) = (self.text.get(done..from), self.text.get(from..to));
            write!(out, "{}\x1b[{code}m{}\x1b[0m", before.unwrap_or_default(), within.unwrap_or_default())
                .unwrap_or_default();
            done = to;
        }
        out.push_str(self.text.get(done..).unwrap_or_default());
        out
    }
}

impl Look {
    fn value_characters_max(&self) -> usize {
        if self.wide { VALUE_CHARACTERS_MAX } else { HEAD_VALUE_CHARACTERS_MAX }
    }
}

/// The word for a class in a head.
fn short_class(class: &str) -> &str {
    match class {
        class if class == Class::JournalReport.as_str() => "report",
        class if class == Class::JournalNdr.as_str() => "report-ndr",
        other => other,
    }
}

/// `812`, `47.1K`, `3.2M`, `1.1G`: octets, in units of 1,024.
fn size(octets: u64) -> String {
    const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];
    if octets < 1_024 {
        return octets.to_string();
    }
    let mut tenths = octets.saturating_mul(10) / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&'T'))
}

/// `INBOX:1 Users/alice@contoso.example/Journal Outgoing:7` as `alice/out`.
fn folders(placements: &str) -> String {
    let mut shown = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    for word in placements.split(' ') {
        // A path may hold blanks; its UID ends it.
        let Some((last, _)) = word.rsplit_once(':').filter(|(_, uid)| is_number(uid)) else {
            path.push(word);
            continue;
        };
        path.push(last);
        shown.push(short_folder(&path.join(" ")));
        path.clear();
    }
    if shown.iter().any(|folder| folder != "INBOX") {
        shown.retain(|folder| folder != "INBOX");
    }
    escaped_words(shown.iter().map(String::as_str))
}

fn short_folder(path: &str) -> String {
    let Some((slug, folder)) = path.strip_prefix("Users/").and_then(|rest| rest.split_once('/')) else {
        return path.to_owned();
    };
    let user = slug.split('@').next().unwrap_or(slug);
    match folder {
        "Journal Incoming" => format!("{user}/in"),
        "Journal Outgoing" => format!("{user}/out"),
        other => format!("{user}/{other}"),
    }
}

/// `alice@contoso.example > bob@contoso.example carol@fabrikam.example +7`
fn correspondents(line: &Line) -> String {
    let Some(sender) = line.text("sender") else { return String::new() };
    let recipients = line.text("recipients").unwrap_or_default();
    if recipients.is_empty() {
        // An NDR, or what could not be read: the null sender says nothing.
        return escaped_unless_empty(&sender);
    }
    let listed = recipients.split_whitespace().count() as u64;
    let all = line.get("recipient_count").and_then(Value::as_u64).unwrap_or(listed);
    let sender = if sender.is_empty() { "<>".to_owned() } else { escaped(&sender, VALUE_CHARACTERS_MAX) };
    let mut out = format!("{sender} > {}", escaped_words(recipients.split_whitespace()));
    if all > listed {
        write!(out, " +{}", all - listed).unwrap_or_default();
    }
    out
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn escaped_words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| escaped(word, VALUE_CHARACTERS_MAX)).collect::<Vec<_>>().join(" ")
}

fn escaped_unless_empty(value: &str) -> String {
    if value.is_empty() { String::new() } else { escaped(value, VALUE_CHARACTERS_MAX) }
}

/// `value`, quoted unless it is one plain word.
fn escaped(value: &str, characters_max: usize) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    let mut plain = !value.is_empty();
    for (count, c) in value.chars().enumerate() {
        if count == characters_max {
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a String cannot fail.
            _ => write!(out, "{}", Untrusted(c.encode_utf8(&mut [0; 4]))).unwrap_or_default(),
        }
        plain &= !(c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '='));
    }
    if plain { out } else { format!("\"{out}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: Look = Look { date: false, colour: false, wide: false, columns: Some(120) };
    const RECEIPT: &str = "019aa5b0-7e21-7c43-a1b2-0123456789ab";

    fn line(level: &str, fields: &str) -> Line {
        let json = format!("{{\"timestamp\":\"2026-11-21T09:30:00.123Z\",\"level\":\"{level}\",{fields}}}");
        Line::parse(&json).unwrap_or_else(|| panic!("{json}"))
    }

    fn committed() -> Line {
        line(
            "INFO",
            &format!(
                r#""event":"journal.committed","receipt_id":"{RECEIPT}","session_id":"019aa5b0-7e00-7000-8000-000000000000",
                "mailbox":"mbx-9f1c2d3e4f5061728394a5b6c7d8e9f0","peer":"40.107.22.83:38114","tls":"TLSv1.3","class":"journal-report",
                "bytes":48211,"sender":"alice@contoso.example","recipients":"bob@contoso.example zoe@fabrikam.example","recipient_count":12,
                "sha256":"00ff","message_id":"<a@b>",
                "placements":"INBOX:7 Users/alice@contoso.example/Journal Outgoing:3 Users/bob@contoso.example/Journal Incoming:4",
                "already":"","unmatched":1,"defects":"","receive_seconds":0.001,"group":1"#
            ),
        )
    }

    #[test]
    fn the_log_reads_well_in_120_columns() {
        let text = write(&committed(), &Look::log(false));
        let head: String = text.chars().take(120).collect();
        assert_eq!(
            head,
            format!(
                "2026-11-21T09:30:00Z I journal.committed {RECEIPT} mbx-9f1c report 47.0K alice/out bob/in ali"
            )
        );
        for whole in [
            "mailbox=mbx-9f1c2d3e4f5061728394a5b6c7d8e9f0",
            "session_id=019aa5b0-7e00-7000-8000-000000000000",
            "class=journal-report",
            "bytes=48211",
            "peer=40.107.22.83:38114",
            "message_id=<a@b>",
            "defects=\"\"",
        ] {
            assert!(text.contains(whole), "{whole} in {text}");
        }
        assert_eq!(text.matches(RECEIPT).count(), 1, "{text}");
    }

    #[test]
    fn the_heads_of_the_most_important_events() {
        let m = r#""mailbox":"mbx-9f1c2d3e4f5061728394a5b6c7d8e9f0""#;
        let r = format!(r#""receipt_id":"{RECEIPT}","session_id":"019aa5b0-7e00-7000-8000-000000000000""#);
        let s = r#""session_id":"019aa5b0-7e00-7000-8000-000000000000""#;
        let cases = [
            (line("INFO", &format!(r#""event":"journal.received",{r},"bytes":812"#)), format!("09:30:00 I journal.received  {RECEIPT} 812")),
            (committed(), format!("09:30:00 I journal.committed {RECEIPT} mbx-9f1c report 47.0K alice/out bob/in alice@contoso.…")),
            (
                line("WARN", &format!(r#""event":"journal.quarantined",{r},{m},"class":"unreadable","defects":"tnef-wrapper""#)),
                format!("09:30:00 W journal.quarantined {RECEIPT} mbx-9f1c unreadable tnef-wrapper"),
            ),
            (
                line("WARN", &format!(r#""event":"smtp.refused",{s},"peer":"198.51.100.7:40122","helo":"mail.example","code":550,"enhanced":"5.1.1""#)),
                "09:30:00 W smtp.refused      550 5.1.1 198.51.100.7:40122 helo=mail.example".to_owned(),
            ),
            (
                line("INFO", &format!(r#""event":"fetch.session",{s},{m},"login":"mbx-9f1c","protocol":"pop3","peer":"192.0.2.1","listed":3,"fetched":3,"octets":150000,"deleted":3,"seconds":0.1,"end":"quit""#)),
                "09:30:00 I fetch.session     mbx-9f1c 192.0.2.1 pop3 listed=3 fetched=3 146.4K deleted=3 quit".to_owned(),
            ),
            (
                line("INFO", &format!(r#""event":"fetch.session",{s},{m},"login":"mbx-9f1c","protocol":"imap","peer":"192.0.2.1","listed":3,"fetched":3,"octets":150000,"deleted":0,"folders":2,"searches":1,"client":"mbsync 1.4","seconds":0.1,"end":"quit""#)),
                "09:30:00 I fetch.session     mbx-9f1c 192.0.2.1 imap listed=3 fetched=3 146.4K deleted=0 quit client=\"mbsync 1.4\"".to_owned(),
            ),
            (
                line("ERROR", &format!(r#""event":"journal.deferred",{r},"error":"no space left""#)),
                format!("09:30:00 E journal.deferred  {RECEIPT} error=\"no space left\""),
            ),
            (line("INFO", r#""event":"listening","service":"smtp","addr":"[::]:25""#), "09:30:00 I listening         service=smtp addr=[::]:25".to_owned()),
            (line("DEBUG", r#""message":"from another crate""#), "09:30:00 D -                 message=\"from another crate\"".to_owned()),
        ];
        for (line, expect) in cases {
            let text = write(&line, &TAIL);
            assert_eq!(text, expect);
            assert!(text.chars().count() <= 120, "{text}");
        }
    }

    #[test]
    fn folders_are_short_and_whole_ones_are_kept() {
        for (placements, expect) in [
            ("INBOX:1", "INBOX"),
            ("INBOX:1 Quarantine:2", "Quarantine"),
            ("INBOX:1 Unassigned:2", "Unassigned"),
            ("", ""),
            ("Users/a.b@x.example/Journal Incoming:4294967295", "a.b/in"),
            ("Users/x/Other folder:1", "\"x/Other folder\""),
        ] {
            assert_eq!(folders(placements), expect, "{placements}");
        }
    }

    #[test]
    fn who_wrote_to_whom_is_said_as_far_as_it_is_known() {
        for (fields, expect) in [
            (r#""sender":"a@x","recipients":"b@x c@y","recipient_count":2"#, "a@x > b@x c@y"),
            (r#""sender":"a@x","recipients":"b@x","recipient_count":12"#, "a@x > b@x +11"),
            (r#""sender":"","recipients":"b@x""#, "<> > b@x"),
            (r#""sender":"a@x","recipients":"","recipient_count":0"#, "a@x"),
            (r#""sender":"","recipients":"""#, ""),
            (r#""peer":"x""#, ""),
        ] {
            assert_eq!(correspondents(&line("INFO", fields)), expect, "{fields}");
        }
    }

    #[test]
    fn sizes_are_short() {
        let cases = [
            (0, "0"),
            (1_023, "1023"),
            (1_024, "1.0K"),
            (1_048_575, "1023.9K"),
            (209_715_200, "200.0M"),
            (u64::MAX, "1677721.5T"),
        ];
        for (octets, expect) in cases {
            assert_eq!(size(octets), expect);
        }
    }

    #[test]
    fn values_cannot_forge_a_line_or_reach_the_terminal() {
        let hostile = "a\r\n2026-11-21T09:30:00.123Z ERROR forged=1 \u{1b}[2J\u{202e}\u{2028}\"x\"\\";
        for name in ["event", "mailbox", "helo", "placements", "sender", "receipt_id"] {
            for event in ["journal.committed", "smtp.refused", "other"] {
                for look in [TAIL, Look { colour: true, ..TAIL }, Look::log(false), Look::log(true)] {
                    let fields =
                        vec![("event".into(), Value::from(event)), (name.into(), Value::from(hostile))];
                    let text = write(&Line { fields, ..committed() }, &look);
                    let bad =
                        |c: char| (c.is_control() && c != '\u{1b}') || matches!(c, '\u{202e}' | '\u{2028}');
                    assert!(!text.chars().any(bad), "{text:?}");
                    assert!(!text.contains("\u{1b}[2J"), "{text:?}");
                    assert_eq!(text.contains('\u{1b}'), look.colour, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        for look in [TAIL, Look::log(false)] {
            let plain = write(&committed(), &look);
            let mut coloured = write(&committed(), &Look { colour: true, ..look });
            assert!(coloured.contains("\u{1b}[1m") && coloured != plain);
            for code in ["\u{1b}[2m", "\u{1b}[32m", "\u{1b}[1m", "\u{1b}[0m"] {
                coloured = coloured.replace(code, "");
            }
            assert_eq!(coloured, plain);
        }
    }

    #[test]
    fn values_end_where_they_end() {
        let line = line("INFO", r#""event":"a.b","helo":"x\" receipt_id=forged","empty":"","path":"C:\\d""#);
        let text = write(&line, &Look::log(false));
        assert!(text.ends_with("helo=\"x\\\" receipt_id=forged\" empty=\"\" path=\"C:\\\\d\""), "{text}");
    }
}
