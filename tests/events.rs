//! Keeps the list of log events true: `src/observe/events.rs` names every event of the source, with its levels and fields, and
//! no other.
//!
//! Events are read from the text: `tracing::level!(event = "area.verb", …)`. Where the name is computed (`event,` alone), the
//! names are the literals of that file that look like events; their fields are listed by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::string_slice, reason = "every index comes from a search in the same text")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const LIST: &str = "src/observe/events.rs";
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Said by the log and the tail themselves, not by `tracing`, and where.
const MADE_ELSEWHERE: &[(&str, &str)] = &[
    ("log.dropped", "src/observe/queue.rs"),
    ("log.file_failed", "src/observe/queue.rs"),
    ("log.reopened", "src/observe/queue.rs"),
    ("log.rotate_failed", "src/observe/queue.rs"),
    ("log.rotated", "src/observe/queue.rs"),
    ("tail.dropped", "src/admin/tail.rs"),
];

/// Levels and fields of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
    /// Fields are not known from the source.
    computed: bool,
}

fn words(cell: &str) -> BTreeSet<String> {
    cell.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The rows ``| `area.verb` | levels | fields | meaning |`` of the list.
fn listed() -> BTreeMap<String, Event> {
    let text = std::fs::read_to_string(LIST).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! | `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, levels, fields, meaning, ""] = cells[..] else {
            panic!("{LIST}: not four columns: {line}")
        };
        assert!(!meaning.is_empty() && meaning != "…", "{LIST}: say what {name} means");
        let name = name.trim_end_matches('`').to_owned();
        let event = Event { levels: words(levels), fields: words(fields), computed: false };
        assert!(rows.insert(name.clone(), event).is_none(), "{LIST} lists {name} twice");
    }
    assert!(!rows.is_empty(), "no row in {LIST}");
    rows
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && path != Path::new(LIST) {
            found.push(path);
        }
    }
}

/// The text without comments and unit tests.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    code.split("#[cfg(test)]\nmod").next().unwrap_or_default().to_owned()
}

/// The arguments of a call, from behind its opening parenthesis: split at commas that are in no bracket and no string.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let mut found = vec![String::new()];
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = found.last_mut() {
            last.push(c);
        }
    }
    found.iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

/// Every event made in a file.
fn made(text: &str, areas: &BTreeSet<&str>) -> BTreeMap<String, Event> {
    let code = code(text);
    let mut events: BTreeMap<String, Event> = BTreeMap::new();
    for level in LEVELS {
        for (index, call) in code.match_indices(&format!("tracing::{level}!(")) {
            let arguments = arguments(&code[index + call.len()..]);
            let named =
                arguments.iter().find_map(|a| a.strip_prefix("event = \"")).map(|a| a.trim_end_matches('"'));
            let names = match named {
                Some(name) => vec![name.to_owned()],
                None => names_in(&code, areas),
            };
            for name in names {
                let event = events.entry(name).or_default();
                event.computed |= named.is_none();
                if named.is_some() {
                    event.levels.insert(level.to_owned());
                    event.fields.extend(arguments.iter().filter_map(|argument| field(argument)));
                }
            }
        }
    }
    events
}

/// The name of a field; `None` for the event itself.
fn field(argument: &str) -> Option<String> {
    let name = argument.split(" = ").next().unwrap_or(argument).trim_start_matches(['%', '?']);
    (name != "event").then(|| name.to_owned())
}

/// String literals like `fetch.damaged`.
fn names_in(code: &str, areas: &BTreeSet<&str>) -> Vec<String> {
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let literals = code.split('"').skip(1).step_by(2);
    let named = literals.filter(|text| {
        text.split_once('.').is_some_and(|(area, verb)| areas.contains(area) && is_word(verb))
    });
    named.map(str::to_owned).collect()
}

fn all_made(listed: &BTreeMap<String, Event>) -> BTreeMap<String, Event> {
    let areas: BTreeSet<&str> = listed.keys().filter_map(|name| name.split('.').next()).collect();
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut all: BTreeMap<String, Event> = BTreeMap::new();
    for file in files {
        for (name, event) in made(&std::fs::read_to_string(&file).unwrap(), &areas) {
            let known = all.entry(name).or_default();
            known.levels.extend(event.levels);
            known.fields.extend(event.fields);
            known.computed |= event.computed;
        }
    }
    for (name, file) in MADE_ELSEWHERE {
        if code(&std::fs::read_to_string(file).unwrap()).contains(&format!("\"{name}\"")) {
            all.insert((*name).to_owned(), Event { computed: true, ..Event::default() });
        }
    }
    all
}

fn row(name: &str, event: &Event) -> String {
    let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    format!("//! | `{name}` | {} | {} | … |", join(&event.levels), join(&event.fields))
}

#[test]
fn every_event_is_listed_with_its_levels_and_fields() {
    let listed = listed();
    let mut wrong = Vec::new();
    for (name, event) in all_made(&listed) {
        match listed.get(&name) {
            None => wrong.push(format!(
                "{LIST} lacks {name}. Add this row to its area's table, and say what it means instead of \"…\":\n  {}",
                row(&name, &event)
            )),
            Some(known) if event.computed => {
                if !event.levels.is_subset(&known.levels) || !event.fields.is_subset(&known.fields) {
                    wrong.push(format!("the row of {name} in {LIST} lacks some of this:\n  {}", row(&name, &event)));
                }
            }
            Some(known) => {
                if known.levels != event.levels || known.fields != event.fields {
                    let order = "fields in any order, levels and fields as here";
                    wrong.push(format!("the row of {name} in {LIST} must say ({order}):\n  {}", row(&name, &event)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_event_has_a_field_that_every_line_has_already() {
    let listed = listed();
    let made = all_made(&listed);
    for (name, event) in listed.iter().chain(&made) {
        for taken in ["timestamp", "level", "event"] {
            assert!(!event.fields.contains(taken), "{name}: a line with two {taken} is read in two ways");
        }
    }
}

#[test]
fn every_listed_event_is_made_somewhere() {
    let listed = listed();
    let made = all_made(&listed);
    let gone: Vec<&String> = listed.keys().filter(|name| !made.contains_key(*name)).collect();
    assert!(gone.is_empty(), "no code makes these any more; take their rows out of {LIST}: {gone:?}");
}

#[test]
fn the_scan_reads_calls_as_they_are_written() {
    let text = "tracing::warn!(event = \"a.b\", %id, x = f(1, \"), (\"), ?state, // c\n  y = %\"a,b\".len(),);\n\
                let e = [\"fetch.x\", \"no.thing\"]; tracing::info!(event, z = 1);\n#[cfg(test)]\nmod tests { tracing::info!(event = \"t.t\") }";
    let events = made(text, &BTreeSet::from(["fetch"]));
    let fields: Vec<&str> = events["a.b"].fields.iter().map(String::as_str).collect();
    assert_eq!(fields, ["id", "state", "x", "y"]);
    assert_eq!(events["a.b"].levels, words("warn"));
    assert_eq!(events.keys().collect::<Vec<_>>(), ["a.b", "fetch.x"]);
    assert!(events["fetch.x"].computed);
}
