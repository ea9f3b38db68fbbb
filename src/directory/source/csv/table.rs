//! The first lines of a list, and which of its columns mean what.

use super::text::{Malformed, Strict};
use crate::config::{CsvPreset, CsvSource, Problems};
use crate::mail::Untrusted;
use std::io::{self, BufRead, Read};

/// Longest line before the rows, in octets: a mailbox has some 250 properties.
const HEAD_LINE_OCTETS_MAX: u64 = 64 * 1024;
/// Most lines before the header: a type, a separator, blank ones.
const LINES_BEFORE_HEADER_MAX: usize = 8;
/// Columns told of when one is missing.
const COLUMNS_TOLD_MAX: usize = 20;
/// What stands between columns, the usual one first.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// What comes before the rows.
#[derive(Debug)]
pub(super) struct Head {
    /// What stands between columns.
    pub(super) separator: u8,
    /// As they are written there, without blanks around them.
    pub(super) columns: Vec<String>,
    /// Of the header, counted from 1.
    pub(super) line: usize,
    /// Of the first row.
    pub(super) next_line: usize,
}

/// Reads up to the first row. `None` when there is nothing but blank lines. Columns are told apart by what finds the most
/// of those that `wanted` knows.
///
/// # Errors
/// [`Malformed`], in the way of [`Malformed::of`], or what reading came to.
pub(super) fn read_head(input: &mut impl BufRead, wanted: &[Wanted]) -> io::Result<Option<Head>> {
    let mut given = None;
    for line in 1..=LINES_BEFORE_HEADER_MAX {
        let mut octets = Vec::new();
        input.take(HEAD_LINE_OCTETS_MAX).read_until(b'\n', &mut octets)?;
        if octets.is_empty() {
            return Ok(None);
        }
        if octets.len() as u64 >= HEAD_LINE_OCTETS_MAX {
            return Err(Malformed::at(line, "is too long for the names of columns"));
        }
        let text = String::from_utf8_lossy(octets.trim_ascii());
        // "#TYPE Microsoft.Exchange.Data.Directory.Management.Mailbox", as Export-Csv begins, and "sep=;" for Excel.
        if text.is_empty() || text.starts_with("#TYPE") || text.starts_with("\"#TYPE") {
            continue;
        }
        if let Some([separator]) = text.strip_prefix("sep=").map(str::as_bytes) {
            given = Some(*separator);
            continue;
        }
        return header(&octets, line, given, wanted).map(Some);
    }
    Err(Malformed::at(
        LINES_BEFORE_HEADER_MAX,
        "holds no names of columns, and neither does a line before it",
    ))
}

fn header(octets: &[u8], line: usize, given: Option<u8>, wanted: &[Wanted]) -> io::Result<Head> {
    let separators = given.map_or(SEPARATORS.to_vec(), |given| vec![given]);
    let heads = separators.into_iter().filter_map(|separator| {
        let columns = columns(octets, separator)?;
        let known = wanted.iter().filter(|wanted| wanted.find(&columns).is_ok_and(|at| at.is_some())).count();
        Some((known, columns.len(), Head { separator, columns, line, next_line: line + 1 }))
    });
    // The first of those that are as good.
    let best = heads.reduce(|best, head| if (head.0, head.1) > (best.0, best.1) { head } else { best });
    let (_, _, head) = best.ok_or_else(|| Malformed::at(line, "names no columns"))?;
    // A header that nothing follows may lack its line end: there is nothing to lose.
    let whole = octets.strip_suffix(b"\n").unwrap_or(octets).chain(&b"\n"[..]);
    io::copy(&mut Strict::new(whole, head.separator, line), &mut io::sink())?;
    Ok(head)
}

fn columns(octets: &[u8], separator: u8) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(separator).from_reader(octets);
    let mut record = csv::ByteRecord::new();
    reader.read_byte_record(&mut record).ok().filter(|found| *found)?;
    Some(record.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect())
}

/// A column that is looked for, under any of some names.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The preferred one first.
    names: Vec<String>,
    /// Without it the list is of no use.
    required: bool,
}

impl Wanted {
    fn of(configured: &Option<String>, preset: &[&str], required: bool) -> Wanted {
        match configured {
            // What somebody has named must be there.
            Some(name) => Wanted { names: vec![name.trim().to_owned()], required: true },
            None => Wanted { names: preset.iter().map(|name| (*name).to_owned()).collect(), required },
        }
    }

    /// Where it stands; the name that stands twice, if one does.
    fn find(&self, columns: &[String]) -> Result<Option<usize>, &str> {
        for name in &self.names {
            let mut found =
                columns.iter().enumerate().filter(|(_, column)| column.eq_ignore_ascii_case(name));
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => return Err(name),
                (Some((at, _)), None) => return Ok(Some(at)),
                (None, _) => {}
            }
        }
        Ok(None)
    }

    fn place(&self, head: &Head, problems: &mut Problems) -> Option<usize> {
        let named = || {
            self.names.iter().map(|name| format!("\"{}\"", Untrusted(name))).collect::<Vec<_>>().join(" or ")
        };
        match self.find(&head.columns) {
            Err(name) => {
                problems.add(head.line, format!("column \"{}\" stands twice", Untrusted(name)));
                None
            }
            Ok(None) if self.required => {
                let told = head.columns.iter().take(COLUMNS_TOLD_MAX);
                let mut told: Vec<String> = told.map(|name| Untrusted(name).to_string()).collect();
                if head.columns.len() > told.len() {
                    told.push("…".to_owned());
                }
                problems.add(
                    head.line,
                    format!("there is no column {}; there are: {}", named(), told.join(", ")),
                );
                None
            }
            Ok(at) => at,
        }
    }
}

/// How many are looked for.
const COLUMNS: usize = 9;

/// What is looked for, in the order of [`Places::of`].
pub(super) fn wanted(configured: &CsvSource, is_of_groups: bool) -> [Wanted; COLUMNS] {
    let columns = &configured.columns;
    let exchange = configured.preset == CsvPreset::ExchangeGetMailbox;
    let of = |configured: &Option<String>, generic: &str, exchanges: &str, required| {
        Wanted::of(configured, &[if exchange { exchanges } else { generic }], required)
    };
    // An id that was chosen has no second one beside it; nor has a column that says who is enabled.
    let id: &[&str] = if exchange { &["ExternalDirectoryObjectId"] } else { &["id"] };
    let second_id: &[&str] = if exchange && columns.id.is_none() { &["Guid"] } else { &[] };
    let disabled: &[&str] = if exchange && columns.enabled.is_none() { &["AccountDisabled"] } else { &[] };
    let legacy: &[&str] = if exchange { &["LegacyExchangeDN"] } else { &[] };
    let mut wanted = [
        Wanted::of(&columns.id, id, !exchange),
        Wanted::of(&None, second_id, false),
        of(&columns.name, "name", "DisplayName", true),
        of(&columns.primary, "primary", "PrimarySmtpAddress", true),
        of(&columns.aliases, "aliases", "EmailAddresses", true),
        Wanted::of(&None, legacy, false),
        Wanted::of(&columns.enabled, if exchange { &[] } else { &["enabled"] }, false),
        Wanted::of(&None, disabled, false),
        of(&columns.kind, "kind", "RecipientTypeDetails", false),
    ];
    if is_of_groups {
        // Groups have fewer properties than users, and one mapping serves both.
        for (at, wanted) in wanted.iter_mut().enumerate() {
            wanted.required &= matches!(at, 0 | 3);
        }
    }
    wanted
}

/// Where the columns of a list stand.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) id: Option<usize>,
    /// Where a row has no id in the first.
    pub(super) second_id: Option<usize>,
    pub(super) name: Option<usize>,
    pub(super) primary: Option<usize>,
    pub(super) aliases: Option<usize>,
    /// An X.500 name, without type.
    pub(super) legacy: Option<usize>,
    pub(super) enabled: Option<usize>,
    pub(super) disabled: Option<usize>,
    pub(super) kind: Option<usize>,
}

impl Places {
    /// Looks for every column; what is missing is told.
    pub(super) fn of(wanted: &[Wanted; COLUMNS], head: &Head, problems: &mut Problems) -> Places {
        let [id, second_id, name, primary, aliases, legacy, enabled, disabled, kind] =
            wanted.each_ref().map(|wanted| wanted.place(head, problems));
        if id.is_none() && second_id.is_none() && !wanted[0].required {
            let message =
                "there is no column \"ExternalDirectoryObjectId\" or \"Guid\", which name a mailbox for ever";
            problems.add(head.line, message.to_owned());
        }
        Places { id, second_id, name, primary, aliases, legacy, enabled, disabled, kind }
    }
}
