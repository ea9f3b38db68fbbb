//! A disk whose power can be cut: a file, a loop device, ext4.
//!
//! The shutdown ioctl of ext4 makes everything that is not on the disk yet vanish, without writing its journal out, and every
//! call after it fail. Mounting again replays the journal, as after a power cut. XFS takes the same ioctl.

use super::gateway::until;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Opens the mount point and shuts its file system down, once told to: EXT4_IOC_SHUTDOWN with NOLOGFLUSH. By Python, since Rust
/// has no safe way to an ioctl of one's own.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
sys.stdout.write('r'); sys.stdout.flush(); sys.stdin.read(1)
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A mounted disk. Unmounted and removed when dropped; whoever works on it must have ended by then.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

/// Somebody with a hand at the switch.
pub(crate) struct Switch {
    child: Child,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

impl Disk {
    /// An empty one of so many MiB; only what is written takes space.
    pub(crate) fn new(mebibytes: u64) -> Disk {
        Disk::made_with(mebibytes, &[])
    }

    /// One with further options of `mkfs.ext4`.
    pub(crate) fn made_with(mebibytes: u64, options: &[&str]) -> Disk {
        let disk = Disk { dir: tempfile::tempdir().unwrap() };
        File::create(disk.image()).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(disk.root()).unwrap();
        let image = disk.image();
        let arguments: Vec<&str> = ["-q", "-F"]
            .into_iter()
            .chain(options.iter().copied())
            .chain([image.to_str().unwrap()])
            .collect();
        run("mkfs.ext4", &arguments).unwrap();
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn mount(&self) {
        let (image, root) = (self.image(), self.root());
        run("mount", &["-o", "loop", image.to_str().unwrap(), root.to_str().unwrap()]).unwrap();
    }

    /// Puts a hand at the switch, so that the cut itself takes no time.
    pub(crate) fn switch(&self) -> Switch {
        let mut python = Command::new("python3");
        python.args(["-c", SHUTDOWN]).arg(self.root()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 is needed");
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Switch { child }
    }

    /// Mounts it again, as the next start of the machine does. Everybody who worked on it has ended.
    pub(crate) fn power_on(&self) {
        let root = self.root();
        // A killed process may hold on for a moment.
        until("the disk to be let go", || run("umount", &[root.to_str().unwrap()]).ok());
        self.mount();
    }
}

impl Switch {
    /// Cuts the power.
    pub(crate) fn cut(mut self) {
        self.child.stdin.take().unwrap().write_all(b"x").unwrap();
        assert!(self.child.wait().unwrap().success(), "the file system could not be shut down");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let root = self.root();
        if let Err(error) = run("umount", &[root.to_str().unwrap()]) {
            // Lazily: nothing must stay mounted, whatever has gone wrong.
            eprintln!("{error}");
            run("umount", &["-l", root.to_str().unwrap()]).ok();
        }
    }
}

/// The numbers of the segments of the log, in order.
pub(crate) fn segments(data_dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(data_dir.join("log")).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> =
        names.filter_map(|name| name.file_name().to_str()?.strip_suffix(".seg")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}
