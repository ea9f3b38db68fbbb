//! Whether the server's user may read a file, by the bits of the file and of the folders that lead to it: doctor run as root may
//! read everything, and must see what the server may not.

use super::certificate::CERTBOT_DIR;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) const READ: u32 = 0o4;
const ENTER: u32 = 0o1;
/// Where an access list lies, which the bits do not tell (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// Who has a file, and what its bits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// It has an access list too, so that the bits do not say all.
    pub(super) acl: bool,
}

impl Rights {
    /// `None` when there is no such file.
    pub(super) fn of(path: &Path) -> io::Result<Option<Rights>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Rights {
                mode: metadata.mode() & 0o7777,
                uid: metadata.uid(),
                gid: metadata.gid(),
                // Without room for it, only its size is told.
                acl: rustix::fs::getxattr(path, ACL, &mut [0_u8; 0][..]).is_ok_and(|octets| octets > 0),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A user, and the groups it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) uid: u32,
    /// The primary one first; `None` when they cannot be known.
    pub(super) groups: Option<Vec<u32>>,
}

impl Reader {
    /// The user of a running process, as it runs.
    pub(super) fn of_process(pid: u32, uid: u32) -> Reader {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        match groups_in(&status, uid) {
            Some(groups) => Reader { uid, groups: Some(groups) },
            // It may be in a container, with other process ids than ours.
            None => Reader::of_user(uid),
        }
    }

    /// A user as this machine knows it.
    pub(super) fn of_user(uid: u32) -> Reader {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Reader { uid, groups: groups_of(uid, &read("/etc/passwd"), &read("/etc/group")) }
    }

    /// Whether it may do what `bit` stands for; `None` when that cannot be told.
    pub(super) fn may(&self, bit: u32, rights: &Rights) -> Option<bool> {
        let has = |shift: u32| rights.mode & (bit << shift) != 0;
        match &self.groups {
            _ if self.uid == 0 => Some(true),
            _ if rights.uid == self.uid => Some(has(6)),
            _ if rights.acl => None,
            Some(groups) => Some(if groups.contains(&rights.gid) { has(3) } else { has(0) }),
            None => (has(3) == has(0)).then(|| has(0)),
        }
    }

    /// Whether it is known to be in this group.
    pub(super) fn is_in(&self, group: u32) -> bool {
        self.groups.as_ref().is_some_and(|groups| groups.contains(&group))
    }

    /// The first folder on the way to `path`, and to what it is a link to, that it surely may not enter.
    pub(super) fn barrier(&self, path: &Path) -> Option<PathBuf> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let way = |path: &Path| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
        let folders = way(path).into_iter().rev().chain(way(&real).into_iter().rev());
        let mut shut = folders.filter(|folder| {
            let rights = Rights::of(folder).ok().flatten();
            rights.is_some_and(|rights| self.may(ENTER, &rights) == Some(false))
        });
        shut.next()
    }
}

/// Whether it is certbot's, or a link to what is.
pub(super) fn is_certbots(path: &Path) -> bool {
    path.starts_with(CERTBOT_DIR) || fs::canonicalize(path).is_ok_and(|real| real.starts_with(CERTBOT_DIR))
}

/// Groups in a `/proc/PID/status`, if that process is of this user (proc_pid_status(5)).
fn groups_in(status: &str, uid: u32) -> Option<Vec<u32>> {
    let numbers = |key: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    // Real, effective, saved, of files.
    if *numbers("Uid:")?.get(1)? != uid {
        return None;
    }
    let primary = *numbers("Gid:")?.get(1)?;
    Some(std::iter::once(primary).chain(numbers("Groups:")?).collect())
}

/// Groups by `/etc/passwd` and `/etc/group`; `None` when the user is not in the former, since then others know it.
fn groups_of(uid: u32, passwd: &str, group: &str) -> Option<Vec<u32>> {
    let user = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).is_some_and(|field| field.parse() == Ok(uid)))?;
    let (name, primary) = (*user.first()?, user.get(3)?.parse().ok()?);
    let further = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_in = fields.get(3)?.split(',').any(|member| member.trim() == name);
        fields.get(2)?.parse::<u32>().ok().filter(|_| is_in)
    });
    Some(std::iter::once(primary).chain(further).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_bits_of_the_right_class_decide() {
        let known = Reader { uid: 100, groups: Some(vec![200, 201]) };
        let unknown = Reader { uid: 100, groups: None };
        let rights = |mode, uid, gid| Rights { mode, uid, gid, acl: false };
        for (reader, rights, expect) in [
            (&known, rights(0o400, 100, 0), Some(true)),
            (&known, rights(0o044, 100, 200), Some(false)),
            (&known, rights(0o640, 0, 200), Some(true)),
            (&known, rights(0o640, 0, 201), Some(true)),
            (&known, rights(0o640, 0, 0), Some(false)),
            (&known, rights(0o604, 0, 200), Some(false)),
            (&known, rights(0o644, 0, 0), Some(true)),
            (&unknown, rights(0o600, 0, 0), Some(false)),
            (&unknown, rights(0o644, 0, 0), Some(true)),
            (&unknown, rights(0o640, 0, 0), None),
            (&known, Rights { acl: true, ..rights(0o640, 0, 0) }, None),
            (&Reader { uid: 0, groups: None }, rights(0, 5, 5), Some(true)),
        ] {
            assert_eq!(reader.may(READ, &rights), expect, "{reader:?} {rights:?}");
        }
    }

    #[test]
    fn groups_are_those_of_the_process_or_of_the_files_of_users() {
        let status = "Name:\tdaybook\nUid:\t998\t998\t998\t998\nGid:\t997\t997\t997\t997\nGroups:\t4 24 \n";
        assert_eq!(groups_in(status, 998), Some(vec![997, 4, 24]));
        assert_eq!(groups_in(status, 0), None);
        assert_eq!(groups_in("", 998), None);
        let passwd = "root:x:0:0:root:/root:/bin/sh\ndaybook:x:998:997::/nonexistent:/usr/sbin/nologin\n";
        let group = "root:x:0:\nssl-cert:x:110:postgres,daybook\nadm:x:4:syslog\n";
        assert_eq!(groups_of(998, passwd, group), Some(vec![997, 110]));
        assert_eq!(groups_of(5, passwd, group), None);
        let we = rustix::process::geteuid().as_raw();
        assert!(Reader::of_process(std::process::id(), we).groups.is_some());
    }

    #[test]
    fn a_folder_on_the_way_may_be_shut_also_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let shut = dir.path().join("shut");
        fs::create_dir_all(&shut).unwrap();
        fs::write(shut.join("file"), "").unwrap();
        let stranger = Reader { uid: 54_321, groups: Some(vec![54_321]) };
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(dir.path(), 0o755);
        set(&shut, 0o755);
        assert_eq!(stranger.barrier(&shut.join("file")), None);
        set(&shut, 0o700);
        assert_eq!(stranger.barrier(&shut.join("file")), Some(shut.clone()));
        std::os::unix::fs::symlink(shut.join("file"), dir.path().join("link")).unwrap();
        assert_eq!(stranger.barrier(&dir.path().join("link")), Some(fs::canonicalize(&shut).unwrap()));
    }
}
