//! How a list of users stands in a file: lines of JSON, written and read one by one, so that a large directory needs no large
//! memory for it.
//!
//! ```text
//! {"v":1,"number":7,"taken_at":…,"source":…,"place":…,"users":2,"held":false}        the header
//! {"id":"e2f1","name":"Bob","addresses":["bob@x.example","sales@x.example"],"began":[[1,1795000000123]]}
//! {"id":"77a0","name":"Ann","addresses":["ann@x.example"],"held":["info@x.example"]}
//! {"gone":{"id":"31c4","name":"Eve","addresses":["eve@x.example"]},"had":[["eve@x.example",null,null,1795000000123]]}
//! {"sha256":"<64 hex digits>"}                                                     over all octets before this line
//! ```
//! `began`: since when the address of this place in the list is the user's. `held`: addresses that others claim, too, and this user
//! has. `had`: address, from, gone, until. Times in milliseconds since 1970. The header tells its version and stays readable for ever;
//! everything else is read only by programs that know the version.

use crate::directory::plan::Wanted;
use crate::directory::roll::{Roll, Tenure};
use crate::directory::snapshot::{ProxyAddress, User, listed_key};
use crate::mail::{Address, AddressKey, Timestamp};
use aws_lc_rs::digest::{Context, SHA256};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

/// Format version of what is written; of a newer one nothing but the header is read.
pub(super) const VERSION: u32 = 1;
/// Longest line, in octets: a user with as many addresses as are taken needs less.
const LINE_OCTETS_MAX: u64 = 8 * 1024 * 1024;

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum FormatError {
    /// It cannot be read now. The operator's to mend.
    Unreadable(io::Error),
    /// A newer version of Daybook wrote it.
    Newer(u32),
    /// It is not what was written: cut off, or changed.
    Damaged(String),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Unreadable(error) => write!(f, "cannot be read: {error}"),
            FormatError::Newer(version) => write!(f, "format version {version} is newer than this program"),
            FormatError::Damaged(why) => write!(f, "is damaged: {why}"),
        }
    }
}

/// What every header says of its file.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

#[derive(Serialize)]
struct HeaderLine<'a, H> {
    v: u32,
    #[serde(flatten)]
    header: &'a H,
}

#[derive(Serialize, Deserialize)]
struct Person {
    id: String,
    name: String,
    addresses: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    began: Vec<(usize, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<AddressKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<Person>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    had: Vec<(String, Option<i64>, Option<i64>, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Writes lines and hashes them.
struct Lines<W> {
    out: W,
    hash: Context,
    octets: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.octets.clear();
        serde_json::to_writer(&mut self.octets, line)?;
        self.octets.push(b'\n');
        self.hash.update(&self.octets);
        self.out.write_all(&self.octets)
    }
}

/// Writes what is in force.
pub(super) fn write_roll<H: Serialize>(out: impl Write, header: &H, roll: &Roll) -> io::Result<()> {
    write(out, header, &roll.users, &roll.contested, &roll.began, &roll.former)
}

/// Writes what a source wants to be in force.
pub(super) fn write_wanted<H: Serialize>(out: impl Write, header: &H, wanted: &Wanted) -> io::Result<()> {
    write(out, header, &wanted.users, &wanted.contested, &HashMap::new(), &[])
}

fn write<H: Serialize>(
    out: impl Write,
    header: &H,
    users: &[Arc<User>],
    contested: &HashMap<AddressKey, String>,
    began: &HashMap<AddressKey, Timestamp>,
    former: &[Tenure],
) -> io::Result<()> {
    let mut lines = Lines { out, hash: Context::new(&SHA256), octets: Vec::new() };
    lines.write(&HeaderLine { v: VERSION, header })?;
    for user in users {
        lines.write(&user_line(user, contested, began))?;
    }
    for had in former.chunk_by(|one, next| Arc::ptr_eq(&one.user, &next.user)) {
        let Some(first) = had.first() else { continue };
        let had = had.iter().map(|tenure| {
            let ms = |at: Option<Timestamp>| at.map(Timestamp::unix_ms);
            (tenure.address.clone(), ms(tenure.from), ms(tenure.gone), tenure.until.unix_ms())
        });
        lines.write(&Line { gone: Some(person(&first.user)), had: had.collect(), ..Line::default() })?;
    }
    let sha256 = hex(lines.hash.clone());
    lines.write(&Line { sha256: Some(sha256), ..Line::default() })?;
    lines.out.flush()
}

fn hex(hash: Context) -> String {
    hash.finish().as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

fn person(user: &User) -> Person {
    Person {
        id: user.id.clone(),
        name: user.name.clone(),
        addresses: user.addresses().map(str::to_owned).collect(),
    }
}

fn user_line(
    user: &User,
    contested: &HashMap<AddressKey, String>,
    began: &HashMap<AddressKey, Timestamp>,
) -> Line {
    let Person { id, name, addresses } = person(user);
    let mut line = Line { id: Some(id), name: Some(name), addresses, ..Line::default() };
    if began.is_empty() && contested.is_empty() {
        return line;
    }
    for (index, key) in user.addresses().map(listed_key).enumerate() {
        let other = contested.get(&key);
        if other.is_some_and(|holder| *holder != user.id) {
            continue;
        }
        if let Some(since) = began.get(&key) {
            line.began.push((index, since.unix_ms()));
        }
        if other.is_some() {
            line.held.push(key);
        }
    }
    line
}

/// Reads the header alone.
pub(super) fn read_header<H: DeserializeOwned>(input: &mut impl BufRead) -> Result<H, FormatError> {
    let mut octets = Vec::new();
    next_line(input, &mut octets)?;
    header(&octets)
}

fn header<H: DeserializeOwned>(octets: &[u8]) -> Result<H, FormatError> {
    let damaged = |error: serde_json::Error| FormatError::Damaged(format!("its first line: {error}"));
    let Versioned { v } = serde_json::from_slice(octets).map_err(damaged)?;
    if v > VERSION {
        return Err(FormatError::Newer(v));
    }
    serde_json::from_slice(octets).map_err(damaged)
}

/// Reads everything, and gives nothing of it unless all of it is what was written.
pub(super) fn read<H: DeserializeOwned>(mut input: impl BufRead) -> Result<(H, Roll), FormatError> {
    let mut hash = Context::new(&SHA256);
    let mut octets = Vec::new();
    next_line(&mut input, &mut octets)?;
    let header = header(&octets)?;
    hash.update(&octets);
    let mut roll = Roll::default();
    for number in 2_u64.. {
        next_line(&mut input, &mut octets)?;
        let damaged = |why: &dyn fmt::Display| FormatError::Damaged(format!("line {number}: {why}"));
        let line: Line = serde_json::from_slice(&octets).map_err(|error| damaged(&error))?;
        if let Some(sha256) = line.sha256 {
            if sha256 != hex(hash) {
                return Err(damaged(&"the check does not fit"));
            }
            break;
        }
        hash.update(&octets);
        take(line, &mut roll).ok_or_else(|| damaged(&"no user"))?;
    }
    octets.clear();
    let rest = input.take(1).read_until(b'\n', &mut octets).map_err(FormatError::Unreadable)?;
    if rest > 0 {
        return Err(FormatError::Damaged("there is more behind its end".to_owned()));
    }
    Ok((header, roll))
}

fn next_line(input: &mut impl BufRead, octets: &mut Vec<u8>) -> Result<(), FormatError> {
    octets.clear();
    let mut limited = io::Read::take(input, LINE_OCTETS_MAX);
    limited.read_until(b'\n', octets).map_err(FormatError::Unreadable)?;
    if octets.last() == Some(&b'\n') {
        return Ok(());
    }
    Err(FormatError::Damaged("it is cut off".to_owned()))
}

/// `None` when the line is none of those that are written.
fn take(line: Line, roll: &mut Roll) -> Option<()> {
    let at = Timestamp::from_unix_ms;
    if let Some(gone) = line.gone {
        let user = Arc::new(user(gone)?);
        roll.former.extend(line.had.into_iter().map(|(address, from, gone, until)| Tenure {
            address,
            user: Arc::clone(&user),
            from: from.map(at),
            gone: gone.map(at),
            until: at(until),
        }));
        return Some(());
    }
    let user = user(Person { id: line.id?, name: line.name?, addresses: line.addresses })?;
    let addresses: Vec<&str> = if line.began.is_empty() { Vec::new() } else { user.addresses().collect() };
    for (index, since) in line.began {
        roll.began.insert(listed_key(addresses.get(index)?), at(since));
    }
    roll.contested.extend(line.held.into_iter().map(|key| (key, user.id.clone())));
    roll.users.push(Arc::new(user));
    Some(())
}

/// What was once accepted stays an address, also when a rule has become stricter since.
fn user(person: Person) -> Option<User> {
    let mut addresses = person.addresses.into_iter();
    let primary = Address::stored(addresses.next()?);
    let aliases = addresses
        .map(|text| ProxyAddress::parse(&text).unwrap_or_else(|_| ProxyAddress::Smtp(Address::stored(text))));
    Some(User { id: person.id, name: person.name, primary, aliases: aliases.collect() })
}
