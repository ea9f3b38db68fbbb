//! What the program is installed and run by — `config/daybook.service`, sysusers, tmpfiles, the `Dockerfile` — says nothing that
//! the program, the configuration files or the repository do not know. Nothing here needs root, systemd or a container engine;
//! what does is in `tests/real/packaging.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use support::{SOON, Server, Site, wait_until};

/// Where the unit and the image expect the configuration.
const CONFIGURATION: &str = "/etc/daybook/daybook.toml";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Lines that are neither empty nor comments; those that end in `\` joined with the next.
fn lines(path: &str) -> Vec<String> {
    let text = read(path).replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

// --- The unit and what goes with it.

/// Every value of a key, in order.
fn unit(key: &str) -> Vec<String> {
    let prefix = format!("{key}=");
    lines("config/daybook.service")
        .iter()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

/// The value of a key that stands once.
fn unit_one(key: &str) -> String {
    let values = unit(key);
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values.into_iter().next().unwrap()
}

/// A command on the site with these arguments, as an installed one would have them.
fn as_installed(site: &Site, arguments: &[String]) -> Command {
    assert!(arguments.iter().any(|argument| argument == CONFIGURATION), "{arguments:?}");
    let own = site.path("daybook.toml").into_os_string().into_string().unwrap();
    let arguments = arguments.iter().map(|argument| if argument == CONFIGURATION { &own } else { argument });
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
    command.args(arguments).env_remove("NOTIFY_SOCKET");
    command
}

fn await_ready(site: &Site, server: &Server<'_>) {
    wait_until("ports.json", || {
        assert!(Path::new(&format!("/proc/{}/exe", server.pid())).exists(), "{}", server.log());
        site.path("data/ports.json").exists()
    });
}

#[test]
fn the_unit_starts_reloads_and_ends_the_program() {
    let site = Site::new();
    let exec = unit_one("ExecStart");
    let mut words = exec.split(' ').map(str::to_owned);
    assert_eq!(words.next().as_deref(), Some("/usr/local/bin/daybook"));
    let mut server = site.serve_by(as_installed(&site, &words.collect::<Vec<_>>()));
    await_ready(&site, &server);
    let reload = unit_one("ExecReload").replace("$MAINPID", &server.pid().to_string());
    assert!(Command::new("sh").args(["-c", &reload]).status().unwrap().success(), "{reload}");
    server.wait_for("directory.reloaded");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn the_unit_does_not_start_again_what_the_configuration_forbids() {
    let site = Site::new();
    site.write("daybook.toml", "nonsense = 1\n");
    let code = site.run(&["serve"]).code.to_string();
    assert!(unit_one("RestartPreventExitStatus").split(' ').any(|status| status == code), "{code}");
    assert_eq!(unit_one("Restart"), "on-failure");
}

/// Seconds of a span such as `30` or `90`.
fn seconds(key: &str) -> u64 {
    unit_one(key).parse().unwrap()
}

#[test]
fn the_unit_waits_for_what_the_program_tells() {
    assert_eq!(unit_one("Type"), "notify");
    assert_eq!(unit_one("NotifyAccess"), "main");
    assert_eq!(seconds("WatchdogSec"), 30);
    // Connections may go on for 30 s once the end has begun; then the store closes.
    assert!(seconds("TimeoutStopSec") >= 60);
}

#[test]
fn the_unit_gives_one_privilege_and_takes_all_others() {
    assert_eq!(unit_one("AmbientCapabilities"), "CAP_NET_BIND_SERVICE");
    assert_eq!(unit_one("CapabilityBoundingSet"), "CAP_NET_BIND_SERVICE");
    for key in [
        "NoNewPrivileges",
        "PrivateDevices",
        "PrivateTmp",
        "ProtectClock",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "RemoveIPC",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "MemoryDenyWriteExecute",
    ] {
        assert_eq!(unit_one(key), "yes", "{key}");
    }
    assert_eq!(unit_one("ProtectSystem"), "strict");
    assert_eq!(unit_one("ProtectProc"), "invisible");
    assert_eq!(unit_one("DevicePolicy"), "closed");
    assert_eq!(unit_one("SystemCallArchitectures"), "native");
    assert_eq!(unit("SystemCallFilter"), ["@system-service", "~@privileged @resources"]);
    assert_eq!(unit_one("RestrictAddressFamilies"), "AF_INET AF_INET6 AF_UNIX");
    assert_eq!(unit_one("UMask"), "0077");
    assert_eq!(unit_one("LimitCORE"), "0");
}

#[test]
fn unit_sysusers_and_tmpfiles_mean_the_same_user_and_folders() {
    let user = unit_one("User");
    assert_eq!(unit_one("Group"), user);
    let users: Vec<Vec<String>> = lines("config/sysusers.conf")
        .iter()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(users.len(), 1);
    assert_eq!(users[0][..2], ["u".to_owned(), user.clone()]);
    assert_eq!(users[0].last(), Some(&format!("/var/lib/{}", unit_one("StateDirectory"))));

    // The configuration is root's: the program has no business changing it.
    let folder = |base: &str, key: &str, owner: &str| {
        let mode = unit_one(&format!("{key}Mode"));
        ["d", &format!("{base}/{}", unit_one(key)), &mode, owner, &user, "-"].map(str::to_owned).to_vec()
    };
    let wanted: BTreeSet<Vec<String>> = BTreeSet::from([
        folder("/etc", "ConfigurationDirectory", "root"),
        folder("/var/lib", "StateDirectory", &user),
        folder("/var/log", "LogsDirectory", &user),
    ]);
    let made: BTreeSet<Vec<String>> = lines("config/tmpfiles.conf")
        .iter()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(made, wanted);
    // Nobody else may read what is kept.
    assert_eq!(unit_one("StateDirectoryMode"), "0700");
}

#[test]
fn the_unit_lets_the_example_write_where_it_must() {
    let example: toml::Table = toml::from_str(&read("config/daybook.toml")).unwrap();
    let state = format!("/var/lib/{}", unit_one("StateDirectory"));
    assert_eq!(example["data_dir"].as_str(), Some(state.as_str()));
    assert!(CONFIGURATION.starts_with(&format!("/etc/{}/", unit_one("ConfigurationDirectory"))));
}

#[test]
fn what_the_unit_advises_to_configure_is_handed_over() {
    let offered = unit("LoadCredential");
    // With a path, one that is not there would keep the service from starting.
    assert!(offered.iter().all(|credential| !credential.contains(':')), "{offered:?}");
    let text = read("config/daybook.service");
    let mut advised = 0;
    for rest in text.split("\"/run/credentials/").skip(1) {
        let (path, _) = rest.split_once('"').unwrap();
        let credential = path.strip_prefix("daybook.service/").unwrap();
        assert!(offered.iter().any(|offered| offered == credential), "{credential}");
        advised += 1;
    }
    assert_eq!(advised, 2);
}

#[test]
fn what_is_installed_says_where_to() {
    for (file, place) in [
        ("config/daybook.service", "/etc/systemd/system/daybook.service"),
        ("config/sysusers.conf", "/usr/lib/sysusers.d/daybook.conf"),
        ("config/tmpfiles.conf", "/usr/lib/tmpfiles.d/daybook.conf"),
    ] {
        let text = read(file);
        assert!(text.lines().next().unwrap().contains(&format!("Install as {place}")), "{file}");
    }
}

// --- The image.

/// Arguments of an instruction, wherever it stands.
fn image(instruction: &str) -> Vec<String> {
    let prefix = format!("{instruction} ");
    lines("Dockerfile").iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// The words of an instruction in its JSON form, which starts no shell.
fn words(instruction: &str) -> Vec<String> {
    let all = image(instruction);
    assert_eq!(all.len(), 1, "{instruction}: {all:?}");
    let (_, list) = all[0].split_once('[').unwrap_or_else(|| panic!("{instruction} is not in JSON form"));
    serde_json::from_str(&format!("[{list}")).unwrap()
}

/// The sources of the COPY instructions that take from the repository.
fn copied() -> BTreeSet<String> {
    let mut sources = BTreeSet::new();
    for arguments in image("COPY").iter().filter(|arguments| !arguments.starts_with("--from=")) {
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        assert!(words.pop().is_some() && !words.is_empty(), "{arguments}");
        sources.extend(words.into_iter().map(str::to_owned));
    }
    assert!(!sources.is_empty());
    sources
}

/// Everything git tracks, or without git every file that is there.
fn tracked() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = git.map(|output| String::from_utf8(output.stdout).unwrap()).unwrap_or_default();
    let found: Vec<PathBuf> = listed.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if !found.is_empty() {
        return found;
    }
    let mut found = Vec::new();
    for source in copied() {
        walk(&root.join(source), root, &mut found);
    }
    found
}

fn walk(path: &Path, root: &Path, found: &mut Vec<PathBuf>) {
    match fs::read_dir(path) {
        Ok(entries) => entries.for_each(|entry| walk(&entry.unwrap().path(), root, found)),
        Err(_) if path.exists() => found.push(path.strip_prefix(root).unwrap().to_owned()),
        Err(_) => {}
    }
}

#[test]
fn everything_the_image_copies_is_in_the_repository_and_in_the_context() {
    let ignore = lines(".dockerignore");
    assert_eq!(ignore[0], "*", "what is not named is not sent");
    let admitted: BTreeSet<String> =
        ignore[1..].iter().map(|line| line.strip_prefix('!').unwrap().to_owned()).collect();
    assert_eq!(admitted, copied(), "the context is what is copied, no more and no less");
    let tracked = tracked();
    for source in copied() {
        assert!(tracked.iter().any(|path| path.starts_with(&source)), "{source} is not in the repository");
    }
}

/// Names of files that sources take in when they are compiled, from the crate's folder.
fn compiled_in(source: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for marker in ["include_bytes!(\"", "include_str!(\"", "#[path = \""] {
        for rest in text.split(marker).skip(1) {
            let (name, _) = rest.split_once('"').unwrap();
            let mut path = PathBuf::new();
            for part in source.parent().unwrap().join(name).components() {
                match part {
                    Component::ParentDir => assert!(path.pop(), "{}", source.display()),
                    part => path.push(part),
                }
            }
            found.push(path);
        }
    }
    found
}

/// Where modules are that tests alone compile, without the `.rs`: the image needs nothing that those take in.
fn of_tests_alone(source: &Path, text: &str) -> Vec<PathBuf> {
    let is_folder = ["mod", "lib", "main"].into_iter().any(|name| source.file_stem().unwrap() == name);
    let folder = if is_folder { source.parent().unwrap().to_owned() } else { source.with_extension("") };
    let named = text.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split_once(';'));
    // A module that is written out on the spot has a space behind its name.
    named.filter(|(name, _)| !name.contains(char::is_whitespace)).map(|(name, _)| folder.join(name)).collect()
}

#[test]
fn the_build_context_is_all_that_cargo_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = tempfile::tempdir().unwrap();
    let sources = copied();
    let mut taken_in = 0;
    for path in tracked().iter().filter(|path| sources.iter().any(|source| path.starts_with(source))) {
        let to = context.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root.join(path), to).unwrap();
    }
    let compiled: Vec<PathBuf> = tracked()
        .into_iter()
        .filter(|path| path.starts_with("src") && context.path().join(path).exists())
        .collect();
    let text = |path: &PathBuf| fs::read_to_string(root.join(path)).unwrap_or_default();
    let of_tests: BTreeSet<PathBuf> =
        compiled.iter().flat_map(|path| of_tests_alone(path, &text(path))).collect();
    let is_of_tests =
        |path: &PathBuf| path.with_extension("").ancestors().any(|part| of_tests.contains(part));
    for path in compiled.iter().filter(|path| !is_of_tests(path)) {
        for needed in compiled_in(path, &text(path)) {
            assert!(
                context.path().join(&needed).exists(),
                "{} takes in {}",
                path.display(),
                needed.display()
            );
            taken_in += 1;
        }
    }
    assert!(taken_in > 0, "the demonstration takes in its messages");
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version=1"])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The profile and the program that the RUN line names.
    let run = image("RUN").into_iter().find(|run| run.contains("cargo build")).unwrap();
    assert!(run.contains("--locked --profile dist --bin daybook"), "{run}");
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    assert!(manifest["profile"].as_table().unwrap().contains_key("dist"));
}

/// A site whose only configuration is the image's, on loopback and with any ports. The image has no users.toml.
fn site_of_the_image() -> Site {
    let site = Site::new();
    let mut configuration = read("config/container.toml").replace("/var/lib/daybook", "data");
    for port in image("EXPOSE")[0].split(' ') {
        configuration = configuration.replace(&format!("[::]:{port}"), "127.0.0.1:0");
    }
    assert!(!configuration.contains("[::]"), "{configuration}");
    site.write("daybook.toml", &configuration);
    fs::remove_file(site.path("users.toml")).unwrap();
    site
}

#[test]
fn the_image_serves_says_that_it_is_healthy_and_ends_when_told() {
    let site = site_of_the_image();
    let entry = words("ENTRYPOINT");
    let installed = image("COPY").iter().any(|copy| copy.ends_with(&format!(" {}", entry[0])));
    assert!(installed, "{} is not in the image", entry[0]);
    assert!(image("COPY").contains(&format!("config/container.toml {CONFIGURATION}")));
    let serve: Vec<String> = entry[1..].iter().cloned().chain(words("CMD")).collect();
    let health = words("HEALTHCHECK");
    assert_eq!(health[0], entry[0]);
    let healthy = || as_installed(&site, &health[1..]).output().unwrap().status.code();

    assert_ne!(healthy(), Some(0));
    let mut server = site.serve_by(as_installed(&site, &serve));
    await_ready(&site, &server);
    assert_eq!(healthy(), Some(0), "{}", server.log());
    server.signal(image("STOPSIGNAL")[0].strip_prefix("SIG").unwrap());
    assert_eq!(server.wait(), 0);
    assert_ne!(healthy(), Some(0));
}

#[test]
fn a_health_check_ends_within_the_time_it_has() {
    let options = image("HEALTHCHECK");
    let timeout = options[0].split(' ').find_map(|word| word.strip_prefix("--timeout=")).unwrap();
    let timeout: u64 = timeout.strip_suffix('s').unwrap().parse().unwrap();
    assert!(timeout > 0 && timeout < SOON.as_secs());
}

/// Ports of every `listen` key of a configuration.
fn ports(value: &toml::Value, found: &mut BTreeSet<u16>) {
    let Some(table) = value.as_table() else { return };
    for (key, value) in table {
        match value {
            toml::Value::Array(addresses) if key.starts_with("listen") => {
                addresses.iter().for_each(|address| found.extend(port(address)));
            }
            address if key.starts_with("listen") => found.extend(port(address)),
            section => ports(section, found),
        }
    }
}

fn port(address: &toml::Value) -> Option<u16> {
    address.as_str().unwrap().rsplit(':').next()?.parse().ok()
}

#[test]
fn the_image_exposes_what_its_configuration_listens_on() {
    let mut listened = BTreeSet::new();
    ports(&toml::from_str(&read("config/container.toml")).unwrap(), &mut listened);
    let exposed: BTreeSet<u16> = image("EXPOSE")[0].split(' ').map(|port| port.parse().unwrap()).collect();
    assert_eq!(exposed, listened);
    // It has no capability: low ports are the engine's affair.
    assert!(exposed.iter().all(|port| *port >= 1024), "{exposed:?}");
}

#[test]
fn the_image_runs_as_an_ordinary_user_that_owns_its_volume() {
    let users = image("USER");
    assert_eq!(users, ["65532:65532"]);
    let volume = image("VOLUME");
    let configuration: toml::Table = toml::from_str(&read("config/container.toml")).unwrap();
    assert_eq!(volume, [configuration["data_dir"].as_str().unwrap()]);
    let made = format!("--mode=0700 --owner=65532 --group=65532 {}", volume[0]);
    assert!(image("RUN").iter().any(|run| run.contains(&made)), "{made}");
}

#[test]
fn the_image_names_the_version_it_holds_and_builds_with_the_one_it_needs() {
    let labels = image("LABEL").join(" ");
    let version = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(labels.contains(&version), "{labels}");
    assert!(labels.contains(&format!("image.licenses=\"{}\"", env!("CARGO_PKG_LICENSE"))), "{labels}");
    let builder = format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(image("FROM")[0].starts_with(&builder), "{builder}");
}

/// Its name stands only in the code that the feature brings.
#[cfg(not(feature = "planted-faults"))]
#[test]
fn what_is_installed_knows_of_no_planted_fault() {
    let program = fs::read(env!("CARGO_BIN_EXE_daybook")).unwrap();
    assert_eq!(memchr::memmem::find(&program, b"DAYBOOK_PLANT"), None);
}
