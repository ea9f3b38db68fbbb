//! `file-rights`: who may read and write what the gateway keeps and goes by.

use super::{Finding, Subject, View, finding::or_ok, quoted};
use crate::admin::SOCKET_FILE;
use crate::config::DirectoryKind;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub(super) const NAME: &str = "file-rights";

const OTHERS: u32 = 0o007;
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITE: u32 = 0o020;
const GROUP_AND_OTHERS: u32 = 0o077;

/// What a file is to us, and so who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// `data_dir`: others have no business in it; a group may look on, for backups.
    DataDir,
    /// Keyrings, keys and passwords of our own: the owner's alone.
    Secret,
    /// A private key the operator keeps: a group may read it, others not.
    OperatorsKey,
    /// A list that says whose mail is whose: nobody else may write to it.
    List,
    /// Other files of the store: they must be the server's.
    Own,
}

/// One file or folder.
#[derive(Debug)]
struct Seen {
    path: PathBuf,
    role: Role,
    /// Mode and owner; `None` when there is none.
    what: io::Result<Option<(u32, u32)>>,
}

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let settings = &subject.settings;
    let data_dir = &settings.data_dir;
    let mut files = vec![(data_dir.clone(), Role::DataDir)];
    for own in ["log", "content", "index.sqlite", "lock", "tmp"] {
        files.push((data_dir.join(own), Role::Own));
    }
    for secret in ["keys", super::delivery::FILE, SOCKET_FILE] {
        files.push((data_dir.join(secret), Role::Secret));
    }
    match &settings.tls {
        Some(tls) => files.push((tls.private_key.clone(), Role::OperatorsKey)),
        None => files.push((data_dir.join("tls/key.pem"), Role::Secret)),
    }
    for source in &settings.directories {
        let DirectoryKind::File { path } = &source.kind;
        files.push((path.clone(), Role::List));
    }
    let seen: Vec<Seen> = files.into_iter().map(|(path, role)| look(path, role)).collect();
    let owner = match &subject.view {
        View::Server(examined) => Some(examined.uid),
        _ => fs::metadata(data_dir).ok().map(|metadata| metadata.uid()),
    };
    judge(&seen, owner, rustix::process::geteuid().as_raw())
}

fn look(path: PathBuf, role: Role) -> Seen {
    let what = match fs::metadata(&path) {
        Ok(metadata) => Ok(Some((metadata.mode() & 0o7777, metadata.uid()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    Seen { path, role, what }
}

fn judge(files: &[Seen], owner: Option<u32>, we: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut hidden = 0_u32;
    for file in files {
        match &file.what {
            Ok(None) => {}
            Ok(Some((mode, uid))) => findings.extend(judge_one(file, *mode, *uid, owner)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hidden += 1,
            Err(error) => findings.push(Finding::warning(
                NAME,
                format!("{} cannot be looked at: {error}", file.path.display()),
                format!("see what is wrong with it: `ls -ld {}`", quoted(&file.path)),
            )),
        }
    }
    if hidden > 0 && findings.is_empty() {
        return vec![Finding::skipped(
            NAME,
            format!("{hidden} of the files cannot be seen by user {we}; run doctor as root"),
        )];
    }
    or_ok(findings, NAME, || {
        let looked = files.iter().filter(|file| matches!(file.what, Ok(Some(_)))).count();
        format!("{looked} looked at, all as private as they should be")
    })
}

fn judge_one(file: &Seen, mode: u32, uid: u32, owner: Option<u32>) -> Vec<Finding> {
    let path = quoted(&file.path);
    let shown = file.path.display();
    let mut findings = Vec::new();
    let too_open = |who: &str, right: &str| {
        let seen = format!("{shown} has mode {mode:04o}: {who}");
        Finding::problem(NAME, seen, format!("run `chmod {right} {path}`"))
    };
    let open = match file.role {
        Role::DataDir if mode & (OTHERS | GROUP_WRITE) != 0 => {
            Some(too_open("others than the server may look into the store or change it", "0700"))
        }
        Role::Secret if mode & GROUP_AND_OTHERS != 0 => {
            let right = if file.path.is_dir() { "0700" } else { "0600" };
            Some(too_open("others than the server may use it", right))
        }
        Role::OperatorsKey if mode & (OTHERS | GROUP_WRITE) != 0 => {
            Some(too_open("with this key everyone on this machine can pose as the server", "o-rwx,g-w"))
        }
        Role::List if mode & OTHERS_WRITE != 0 => {
            Some(too_open("everyone on this machine can change whose mail is whose", "o-w"))
        }
        _ => None,
    };
    findings.extend(open);
    let is_lent = matches!(file.role, Role::OperatorsKey | Role::List);
    if let Some(owner) = owner.filter(|owner| is_lent && !may_read(*owner, mode, uid)) {
        findings.push(Finding::problem(
            NAME,
            format!("{shown}, of user {uid} with mode {mode:04o}, cannot be read by the server, which is user {owner}"),
            format!("as root, run `chown {owner} {path} && chmod u+r {path}`"),
        ));
    }
    let is_ours = matches!(file.role, Role::DataDir | Role::Secret | Role::Own);
    if let Some(owner) = owner.filter(|owner| is_ours && *owner != uid) {
        findings.push(Finding::problem(
            NAME,
            format!("{shown} belongs to user {uid}, while the server is user {owner}"),
            format!("as root, run `chown -R {owner} {path}`; it comes from running commands as another user than the server"),
        ));
    }
    findings
}

/// Whether the bits let this user read; of its groups nothing is known, so a group that may read is taken for one of them.
fn may_read(user: u32, mode: u32, uid: u32) -> bool {
    let bits = if user == uid { 0o400 } else { 0o044 };
    user == 0 || mode & bits != 0
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn check(path: &str, role: Role, mode: u32, uid: u32, expect: &[&str]) {
        let seen = Seen { path: path.into(), role, what: Ok(Some((mode, uid))) };
        let found = judge(&[seen], Some(100), 100);
        let fixes: Vec<&str> = found.iter().filter_map(|finding| finding.fix.as_deref()).collect();
        assert_eq!(fixes.len(), expect.len(), "{found:?}");
        for (fix, word) in fixes.iter().zip(expect) {
            assert!(fix.contains(word), "{word} is not in {fix}");
        }
    }

    #[test]
    fn each_kind_of_file_has_its_own_privacy() {
        for mode in [0o700, 0o750, 0o2750] {
            check("/d", Role::DataDir, mode, 100, &[]);
        }
        for mode in [0o755, 0o770, 0o701] {
            check("/d", Role::DataDir, mode, 100, &["`chmod 0700 /d`"]);
        }
        check("/k", Role::Secret, 0o600, 100, &[]);
        check("/k", Role::Secret, 0o640, 100, &["`chmod 0600 /k`"]);
        check("/p", Role::OperatorsKey, 0o640, 0, &[]);
        check("/p", Role::OperatorsKey, 0o644, 0, &["`chmod o-rwx,g-w /p`"]);
        check("/p", Role::OperatorsKey, 0o600, 0, &["`chown 100 /p && chmod u+r /p`"]);
        check("/u", Role::List, 0o664, 0, &[]);
        check("/u", Role::List, 0o200, 100, &["chmod u+r /u"]);
        check("/u", Role::List, 0o666, 0, &["`chmod o-w /u`"]);
        check("/d/log", Role::Own, 0o755, 0, &["`chown -R 100 /d/log`"]);
        check("/d", Role::DataDir, 0o777, 0, &["`chmod 0700 /d`", "`chown -R 100 /d`"]);
    }

    #[test]
    fn what_is_not_there_is_no_fault_and_what_is_hidden_is_said() {
        let seen = |what| Seen { path: "/x".into(), role: Role::Own, what };
        assert_eq!(judge(&[seen(Ok(None))], None, 1)[0].status, Status::Ok);
        let hidden = judge(&[seen(Err(io::ErrorKind::PermissionDenied.into()))], None, 1);
        assert_eq!(hidden[0].status, Status::Skipped);
        assert_eq!(
            judge(&[seen(Err(io::ErrorKind::NotADirectory.into()))], None, 1)[0].status,
            Status::Warning
        );
    }
}
