//! The README tells no lies: its files are configurations, and every `daybook` command in it is run, in order.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Block {
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in readme.lines() {
        let line = line.strip_prefix("   ").unwrap_or(line);
        if let Some(language) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push(Block { language: language.to_owned(), text: String::new() });
            }
        } else if open {
            let text = &mut blocks.last_mut().unwrap().text;
            text.push_str(line);
            text.push('\n');
        }
    }
    blocks
}

/// A file block, named by its first line.
fn file(name: &str) -> String {
    let head = format!("# {name}\n");
    let found = blocks().into_iter().find(|b| b.language == "toml" && b.text.starts_with(&head));
    found.unwrap_or_else(|| panic!("README has no {name}")).text
}

fn commands() -> Vec<String> {
    let shell = blocks().into_iter().filter(|b| b.language == "sh");
    shell
        .flat_map(|b| b.text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|l| !l.trim().is_empty())
        .collect()
}

fn daybook(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
    command.current_dir(dir).args(line.split_whitespace().skip(1)).stdin(Stdio::null());
    command
}

fn run(dir: &Path, line: &str) -> Output {
    daybook(dir, line).output().unwrap()
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::yield_now();
    }
}

#[test]
fn every_daybook_command_does_what_the_readme_says() {
    let dir = tempfile::tempdir().unwrap();
    // Everything as printed but what a test machine cannot have: low ports, /var/lib, a certificate.
    let config = file("daybook.toml");
    let config = ["[::]:25", "[::]:110", "[::]:995"].iter().fold(config, |text, port| {
        assert!(text.contains(port), "{port}");
        text.replace(port, "127.0.0.1:0")
    });
    let config = config
        .replace("/var/lib/daybook", "data")
        .replace("[tls]", "")
        .replace("certificate =", "# ")
        .replace("private_key =", "# ");
    fs::write(dir.path().join("daybook.toml"), config).unwrap();
    fs::write(dir.path().join("users.toml"), file("users.toml")).unwrap();

    let lines: Vec<String> = commands().into_iter().filter(|l| l.starts_with("daybook ")).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    let mut server = None;
    for line in &lines {
        if line.ends_with(" serve") {
            let log = fs::File::create(dir.path().join("log")).unwrap();
            server = Some(Server(daybook(dir.path(), line).stderr(log).spawn().unwrap()));
            wait_for("ports.json", || dir.path().join("data/ports.json").exists());
            continue;
        }
        let output = run(dir.path(), line);
        // Nothing has been received yet: a trace that finds nothing says so with 1.
        let wanted = if line.contains(" trace ") { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(wanted), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        if line.contains("mailbox create") {
            assert!(text.contains("mbx-") && text.to_lowercase().contains("password"), "{text}");
        }
        if line.contains("mailbox list") || line.contains("mailbox show") {
            assert!(text.contains("Contoso"), "{text}");
        }
        if line.contains("user list") {
            assert!(text.contains("alice@contoso.com"), "{text}");
        }
    }
    let Some(mut server) = server else { panic!("README starts no server") };
    let pid = i32::try_from(server.0.id()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let mut status = None;
    wait_for("the end of serve", || {
        status = server.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0), "SIGTERM ends it in good order");
}

#[test]
fn the_demonstration_holds_and_cleans_up() {
    assert!(commands().iter().any(|l| l == "cargo run --release -- demo"), "the README shows it");
    let scratch = tempfile::tempdir().unwrap();
    let output = daybook(scratch.path(), "daybook demo").env("TMPDIR", scratch.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in [
        "report.eml",
        "fork.eml",
        "ndr.eml",
        "hopeless.eml",
        "Quarantine",
        "the same as sent",
        "Everything held",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn the_test_command_is_the_one_that_runs_in_ci() {
    assert!(commands().iter().any(|l| l == "cargo test"));
    let ci = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")).unwrap();
    assert!(ci.contains("\ncargo test --locked\n"));
}
