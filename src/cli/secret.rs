//! Secrets given to a command: from a file, from standard input, or by a person at the terminal. Never in the arguments, where
//! every user of the system could read them.

use super::args::KeyArguments;
use super::output::{Failure, safe};
use crate::admin::Key;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest file with a secret, in octets.
const SECRET_OCTETS_MAX: usize = 64 * 1024;
/// Longest password typed, in octets.
const TYPED_OCTETS_MAX: usize = 1024;

/// What opens `mailbox`, as the arguments say or a person does.
///
/// # Errors
/// Exit code 2: nothing was given and nobody is there to be asked, or what was given is no text. 3: it cannot be read.
pub(super) fn key(arguments: &KeyArguments, mailbox: &str) -> Result<Key, Failure> {
    match (&arguments.password_file, &arguments.identity) {
        (_, Some(file)) => read(file).map(Key::Identity),
        (Some(file), None) => {
            let text = read(file)?;
            let first = text.lines().next().unwrap_or_default();
            given(first).map(Key::Password)
        }
        (None, None) => {
            let typed = ask(&format!("Password of gateway mailbox {}: ", safe(mailbox)))?;
            given(&typed).map(Key::Password)
        }
    }
}

/// What opens a gateway mailbox, or did: each of these files holds a password, or an escrow identity.
///
/// # Errors
/// As [`key`]; with none there is none.
pub(super) fn keys(passwords: &[PathBuf], identities: &[PathBuf]) -> Result<Vec<Key>, Failure> {
    let password = |file: &PathBuf| {
        let text = read(file)?;
        given(text.lines().next().unwrap_or_default()).map(Key::Password)
    };
    let identity = |file: &PathBuf| read(file).map(Key::Identity);
    passwords.iter().map(password).chain(identities.iter().map(identity)).collect()
}

fn given(password: &str) -> Result<Zeroizing<String>, Failure> {
    let password = password.trim();
    if password.is_empty() {
        return Err(Failure::usage("the password is empty".to_owned()));
    }
    Ok(Zeroizing::new(password.to_owned()))
}

fn read(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let cannot = |error: io::Error| Failure::from(format!("read {}: {error}", file.display()));
    if file == Path::new("-") {
        return text(io::stdin().lock(), file);
    }
    text(File::open(file).map_err(cannot)?, file)
}

fn text(from: impl Read, file: &Path) -> Result<Zeroizing<String>, Failure> {
    // Of its full size at once: growing would leave copies behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(SECRET_OCTETS_MAX + 1));
    from.take(SECRET_OCTETS_MAX as u64 + 1)
        .read_to_end(&mut octets)
        .map_err(|error| Failure::from(format!("read {}: {error}", file.display())))?;
    let wrong = |what: &str| Failure::usage(format!("{} {what}", file.display()));
    if octets.len() > SECRET_OCTETS_MAX {
        return Err(wrong("is too large for a secret"));
    }
    std::str::from_utf8(&octets).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| {
        wrong("is no text; decrypt an encrypted identity file first: age -d FILE | daybook … --identity -")
    })
}

/// Asks the person at the terminal, who sees nothing of what is typed.
fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(
            "say what opens the gateway mailbox: --password-file FILE or --identity FILE, or - for standard input"
                .to_owned(),
        ));
    }
    let cannot = |error: io::Error| Failure::from(format!("ask for a password: {error}"));
    write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush()).map_err(cannot)?;
    let silence = Silence::begin().map_err(cannot)?;
    let typed = typed(stdin.lock());
    drop(silence);
    writeln!(io::stderr()).map_err(cannot)?;
    typed.map_err(cannot)?.ok_or_else(|| Failure::from("nothing was done".to_owned()))
}

/// The terminal shows nothing of what is typed, and hands on every key, until this is dropped: an interrupt must find it
/// mended first.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Silence> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Nobody could be told that it failed.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.0).ok();
    }
}

/// Key by key to the end of the line; `None` when the person thinks better of it.
fn typed(mut keys: impl Read) -> io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(TYPED_OCTETS_MAX));
    let mut key = [0u8];
    loop {
        if keys.read(&mut key)? == 0 {
            return Ok(None);
        }
        match key[0] {
            b'\r' | b'\n' => break,
            // Ctrl-C, Ctrl-D, Ctrl-\
            3 | 4 | 28 => return Ok(None),
            8 | 127 => drop(line.pop()),
            // Ctrl-U
            21 => line.clear(),
            octet if line.len() < TYPED_OCTETS_MAX => line.push(octet),
            _ => {}
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_can_be_mended_and_given_up() {
        let check = |keys: &[u8], expect: Option<&str>| {
            let line = typed(keys).unwrap();
            assert_eq!(line.as_deref().map(String::as_str), expect, "{keys:?}");
        };
        check(b"secret\n", Some("secret"));
        check(b"secres\x7ft\rrest", Some("secret"));
        check(b"wrong\x15right\n", Some("right"));
        check(b"\x08\x08a\n", Some("a"));
        check(b"sec\x03ret\n", None);
        check(b"sec", None);
        assert!(typed(&b"\xff\n"[..]).is_err());
    }

    #[test]
    fn a_file_with_a_secret_is_a_short_text() {
        let read = |octets: &[u8]| text(octets, Path::new("x")).map(|text| text.to_string());
        assert_eq!(read(b"pass\nword").ok().as_deref(), Some("pass\nword"));
        for wrong in [&[0xff][..], &vec![b'a'; SECRET_OCTETS_MAX + 1]] {
            assert_eq!(read(wrong).unwrap_err().code(), 2);
        }
    }
}
