//! Who listens on a port, as far as this user may see it: from `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";
/// Processes looked at; a machine with more has `ss`.
const PROCESSES_MAX: usize = 10_000;

/// `nginx, process 812`
pub(super) fn of(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    let is_process = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    processes.map(|entry| entry.path()).filter(is_process).find(|process| holds(process, &links)).map(
        |process| {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            let pid = process.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{}, process {pid}", name.trim())
        },
    )
}

/// Inodes of the sockets that listen on `port`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let end = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let here = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTENING;
        here.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds(process: &Path, links: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        links.iter().any(|link| *link == target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table_of_sockets() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0\n\
             1: 0100007F:0019 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0\n\
             2: 0100007F:1019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4244 1 0\n";
        assert_eq!(listening(table, 25), ["4242"]);
        assert_eq!(listening(table, 26), Vec::<String>::new());
    }

    #[test]
    fn finds_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let who = of(listener.local_addr().unwrap().port()).unwrap();
        assert!(who.ends_with(&format!(", process {}", std::process::id())), "{who}");
    }
}
