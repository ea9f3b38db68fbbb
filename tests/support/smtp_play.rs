//! Reads the dialogues of `corpus/smtp`: see `corpus/smtp/README.md` for how they are written.

use super::smtp_fake::Faults;
use daybook::smtp::Fault;
use std::path::Path;

/// One dialogue.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) name: String,
    pub(crate) faults: Faults,
    pub(crate) require_tls: bool,
    pub(crate) message_octets_max: u64,
    pub(crate) recipients_max: usize,
    pub(crate) errors_max: u32,
    pub(crate) messages_max: u64,
    /// The outcome depends on what arrives together, which is the point of the play.
    pub(crate) unsplit: bool,
    pub(crate) scenes: Vec<Scene>,
    /// The messages kept at the end, each as `<from> to <to>,<to>: "body"`.
    pub(crate) messages: Vec<String>,
}

/// What the client sends at once and what the server says to it.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub(crate) handshake: bool,
    pub(crate) sent: Vec<u8>,
    /// Lines without line end; a last `*` stands for anything.
    pub(crate) said: Vec<String>,
    pub(crate) closed: bool,
}

impl Play {
    pub(crate) fn read(path: &Path) -> Play {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let mut play = Play {
            name: name.clone(),
            faults: Faults::default(),
            require_tls: false,
            message_octets_max: 1_000_000,
            recipients_max: 100,
            errors_max: 20,
            messages_max: 1000,
            unsplit: false,
            // The first scene is the greeting: nothing is sent.
            scenes: vec![Scene::default()],
            messages: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            assert!(play.read_line(line), "{name}:{}: cannot read {line:?}", index + 1);
        }
        play
    }

    fn read_line(&mut self, line: &str) -> bool {
        let (mark, rest) = match line.split_once(' ') {
            Some((mark, rest)) => (mark, rest),
            None => (line, ""),
        };
        match mark {
            "" | "#" => {}
            "@" => return self.read_setting(rest),
            "C:" => {
                let sent = &mut self.client_turn().sent;
                sent.extend_from_slice(rest.as_bytes());
                sent.extend_from_slice(b"\r\n");
            }
            "C-raw:" => {
                let octets = unescape(rest);
                self.client_turn().sent.extend_from_slice(&octets);
            }
            "C-tls" => self.scenes.push(Scene { handshake: true, ..Scene::default() }),
            "S:" => self.last_scene().said.push(rest.to_owned()),
            "S-close" => self.last_scene().closed = true,
            "M:" => self.messages.push(rest.to_owned()),
            _ => return false,
        }
        true
    }

    fn read_setting(&mut self, setting: &str) -> bool {
        let (key, value) = setting.split_once(' ').unwrap_or((setting, ""));
        match key {
            "require_tls" => self.require_tls = true,
            "unsplit" => self.unsplit = true,
            "message_octets_max" => self.message_octets_max = value.parse().unwrap(),
            "recipients_max" => self.recipients_max = value.parse().unwrap(),
            "errors_max" => self.errors_max = value.parse().unwrap(),
            "messages_max" => self.messages_max = value.parse().unwrap(),
            "open" => self.faults.open = Some(fault(value)),
            "begin" => self.faults.begin = Some(fault(value)),
            "write" => self.faults.write = Some(fault(value)),
            "commit" => self.faults.commit = Some(fault(value)),
            _ => return false,
        }
        true
    }

    fn last_scene(&mut self) -> &mut Scene {
        self.scenes.last_mut().unwrap()
    }

    /// The scene to add what the client sends to: a new one once the server has spoken.
    fn client_turn(&mut self) -> &mut Scene {
        let first = self.scenes.len() == 1;
        let scene = self.scenes.last().unwrap();
        if first || !scene.said.is_empty() || scene.closed {
            self.scenes.push(Scene::default());
        }
        self.last_scene()
    }
}

impl Scene {
    /// Compares what was said with what the play wants.
    pub(crate) fn check(&self, said: &[u8], whence: &str) {
        let said = String::from_utf8(said.to_vec()).unwrap();
        let lines: Vec<&str> = said.split_terminator("\r\n").collect();
        let agree = lines.len() == self.said.len()
            && lines.iter().zip(&self.said).all(|(line, want)| match want.strip_suffix('*') {
                Some(start) => line.starts_with(start),
                None => line == want,
            });
        assert!(
            agree,
            "{whence}\nclient: {:?}\nwanted: {:#?}\nsaid: {lines:#?}",
            String::from_utf8_lossy(&self.sent),
            self.said
        );
    }
}

fn fault(name: &str) -> Fault {
    match name {
        "StoreFull" => Fault::StoreFull,
        "StoreTrouble" => Fault::StoreTrouble,
        "Busy" => Fault::Busy,
        "ShuttingDown" => Fault::ShuttingDown,
        "Internal" => Fault::Internal,
        _ => panic!("no such fault: {name}"),
    }
}

/// `\r \n \t \0 \\`, `\xNN`, and `{N*c}` for N times the character c.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next().unwrap() {
                'r' => octets.push(b'\r'),
                'n' => octets.push(b'\n'),
                't' => octets.push(b'\t'),
                '0' => octets.push(0),
                '\\' => octets.push(b'\\'),
                'x' => {
                    let digits: String = characters.by_ref().take(2).collect();
                    octets.push(u8::from_str_radix(&digits, 16).unwrap());
                }
                other => panic!("no such escape: {other}"),
            },
            '{' => {
                let inner: String = characters.by_ref().take_while(|c| *c != '}').collect();
                let (count, what) = inner.split_once('*').unwrap();
                octets.extend_from_slice(what.repeat(count.parse().unwrap()).as_bytes());
            }
            _ => octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    octets
}

/// The way a kept message is written behind `M:`.
pub(crate) fn written(kept: &super::smtp_fake::Kept) -> String {
    let to: Vec<String> = kept.envelope.recipients.iter().map(|address| format!("<{address}>")).collect();
    let tls = if kept.envelope.tls.is_some() { " over TLS" } else { "" };
    format!("<{}> to {}{tls}: \"{}\"", kept.envelope.reverse_path, to.join(","), escape(&kept.body))
}

fn escape(octets: &[u8]) -> String {
    let mut text = String::new();
    for &octet in octets {
        match octet {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            0 => text.push_str("\\0"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(octet.into()),
            _ => text.push_str(&format!("\\x{octet:02x}")),
        }
    }
    text
}
