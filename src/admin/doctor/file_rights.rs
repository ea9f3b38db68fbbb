//! `file-rights`: who may read and write what the gateway keeps and goes by.

use super::reader::{READ, Reader, Rights, is_certbots};
use super::{Finding, Subject, View, certificate, finding::or_ok, quoted};
use crate::admin::SOCKET_FILE;
use crate::config::DirectoryKind;
use crate::net::private_file;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const NAME: &str = "file-rights";

const OTHERS: u32 = 0o007;
const OTHERS_WRITE: u32 = 0o002;
const GROUP_READ: u32 = 0o040;
const GROUP_WRITE: u32 = 0o020;
const NOT_OWNER: u32 = 0o077;

/// What a file is to us, and so who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// `data_dir`: others have no business in it; a group may look on, for backups.
    DataDir,
    /// Keyrings, keys and passwords of our own: the owner's alone.
    Secret,
    /// A private key the operator keeps: the server's alone, as its own, or handed over by the service manager.
    OperatorsKey,
    /// A password the operator keeps: as the key.
    OperatorsSecret,
    /// What everyone may read: the certificate, and the configuration, whose own rights `config` looks at.
    Readable,
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
    /// `None` when there is none.
    what: io::Result<Option<Rights>>,
    /// A folder on the way that the server may not enter.
    barrier: Option<PathBuf>,
    /// It is certbot's.
    certbots: bool,
}

impl Role {
    /// Not the server's, and yet it must read it.
    fn is_lent(self) -> bool {
        self.is_lent_secret() || matches!(self, Role::Readable | Role::List)
    }

    fn is_lent_secret(self) -> bool {
        matches!(self, Role::OperatorsKey | Role::OperatorsSecret)
    }
}

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let server = match &subject.view {
        View::Server(examined) => Some(Reader::of_process(examined.pid, examined.uid)),
        _ => Rights::of(&subject.settings.data_dir).ok().flatten().map(|rights| Reader::of_user(rights.uid)),
    };
    check_for(subject, server.as_ref())
}

fn check_for(subject: &Subject, server: Option<&Reader>) -> Vec<Finding> {
    let settings = &subject.settings;
    let data_dir = &settings.data_dir;
    let mut files = vec![(data_dir.clone(), Role::DataDir)];
    for own in ["log", "content", "index.sqlite", "lock", "tmp"] {
        files.push((data_dir.join(own), Role::Own));
    }
    for secret in ["keys", super::delivery::FILE, SOCKET_FILE] {
        files.push((data_dir.join(secret), Role::Secret));
    }
    files.push((subject.config_file.clone(), Role::Readable));
    match &settings.tls {
        Some(tls) => {
            files.push((tls.certificate.clone(), Role::Readable));
            files.push((tls.private_key.clone(), Role::OperatorsKey));
        }
        None => files.push((data_dir.join("tls/key.pem"), Role::Secret)),
    }
    for source in &settings.directories {
        files.extend(lists(&source.kind).into_iter().map(|path| (path, Role::List)));
    }
    let lent = settings.lent_files();
    for (paths, role) in [
        (lent.secrets, Role::OperatorsSecret),
        (lent.keys, Role::OperatorsKey),
        (lent.readable, Role::Readable),
    ] {
        for path in paths {
            // One authority may stand for several of them.
            if files.iter().all(|(known, _)| known != path) {
                files.push((path.to_owned(), role));
            }
        }
    }
    files.extend(settings.exchange.ca_file.clone().map(|file| (file, Role::Readable)));
    let login = settings.alerts.mail.as_ref().and_then(|mail| mail.login.as_ref());
    files.extend(login.map(|login| (login.password_file.clone(), Role::OperatorsSecret)));
    let seen: Vec<Seen> = files.into_iter().map(|(path, role)| look(path, role, server)).collect();
    judge(&seen, server, rustix::process::geteuid().as_raw(), &certificate::from_certbot(subject))
}

/// The files a source reads, and the folder they are in.
fn lists(kind: &DirectoryKind) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = kind.path().map(Path::to_owned).into_iter().collect();
    if let DirectoryKind::Csv(csv) = kind
        && csv.path.is_dir()
    {
        paths.push(csv.path.join(&csv.users_file));
        paths.push(csv.path.join(&csv.groups_file));
    }
    paths
}

fn look(path: PathBuf, role: Role, server: Option<&Reader>) -> Seen {
    Seen {
        what: Rights::of(&path),
        barrier: server.filter(|_| role.is_lent()).and_then(|server| server.barrier(&path)),
        certbots: is_certbots(&path),
        path,
        role,
    }
}

/// `we` are who looks; `certbot` is what to do with a file of certbot's.
fn judge(files: &[Seen], server: Option<&Reader>, we: u32, certbot: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut hidden = 0_u32;
    for file in files {
        match &file.what {
            Ok(None) => {}
            Ok(Some(rights)) => {
                findings.extend(judge_privacy(file, rights, server));
                let unread = server.and_then(|server| judge_reading(file, rights, server, certbot));
                findings.extend(unread);
            }
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
        format!("{looked} looked at, all as private as they should be, and none out of the server's reach")
    })
}

/// Who else may read or write it, and whose it is.
fn judge_privacy(file: &Seen, rights: &Rights, server: Option<&Reader>) -> Vec<Finding> {
    let path = quoted(&file.path);
    let shown = file.path.display();
    let Rights { mode, uid, .. } = *rights;
    let mut findings = Vec::new();
    let too_open = |who: &str, right: &str| {
        let seen = format!("{shown} has mode {mode:04o}: {who}");
        Finding::problem(NAME, seen, format!("run `chmod {right} {path}`"))
    };
    let lent = |who: &str| {
        let mut finding = too_open(who, "go-rwx");
        let closed = Rights { mode: mode & !NOT_OWNER, acl: false, ..*rights };
        // What others may no longer read, the server must still.
        if let Some(server) = server.filter(|server| server.may(READ, &closed) == Some(false)) {
            finding.fix = Some(format!("{} and run `chmod go-rwx {path}`", readable(file, &closed, server)));
        }
        finding
    };
    let is_open = private_file::is_open(mode) && !private_file::is_handed_over(&file.path);
    let open = match file.role {
        Role::DataDir if mode & (OTHERS | GROUP_WRITE) != 0 => {
            Some(too_open("others than the server may look into the store or change it", "0700"))
        }
        Role::Secret if is_open => {
            let right = if file.path.is_dir() { "0700" } else { "0600" };
            Some(too_open("others than the server may use it", right))
        }
        Role::OperatorsKey if is_open => {
            Some(lent("with this key others on this machine can pose as the server"))
        }
        Role::OperatorsSecret if is_open => {
            Some(lent("with this password others on this machine can log in as the server does"))
        }
        Role::List if mode & OTHERS_WRITE != 0 => {
            Some(too_open("everyone on this machine can change whose mail is whose", "o-w"))
        }
        _ => None,
    };
    findings.extend(open);
    let is_ours = matches!(file.role, Role::DataDir | Role::Secret | Role::Own);
    if let Some(server) = server.filter(|server| is_ours && server.uid != uid) {
        let owner = server.uid;
        findings.push(Finding::problem(
            NAME,
            format!("{shown} belongs to user {uid}, while the server is user {owner}"),
            format!("as root, run `chown -R {owner} {path}`; it comes from running commands as another user than the server"),
        ));
    }
    findings
}

/// Whether the server can read what is lent to it. What cannot be told is taken for right.
fn judge_reading(file: &Seen, rights: &Rights, server: &Reader, certbot: &str) -> Option<Finding> {
    let is_shut = file.role.is_lent() && (file.barrier.is_some() || server.may(READ, rights) == Some(false));
    if !is_shut {
        return None;
    }
    let path = quoted(&file.path);
    let (shown, Rights { mode, uid, gid, .. }) = (file.path.display(), *rights);
    let whom = format!("by the server, which is user {}", server.uid);
    let (seen, fix) = match &file.barrier {
        Some(barrier) => (
            format!("{shown} cannot be reached {whom}: it may not enter {}", barrier.display()),
            format!(
                "put the file where user {} may go, such as /etc/daybook, and name that place in the configuration: \
                 `namei -l {path}` shows the rights on the way",
                server.uid
            ),
        ),
        None => (
            format!("{shown}, of user {uid} and group {gid} with mode {mode:04o}, cannot be read {whom}"),
            readable(file, rights, server),
        ),
    };
    Some(Finding::problem(NAME, seen, if file.certbots { certbot.to_owned() } else { fix }))
}

/// How to let the server read it, and nobody lose the right to.
fn readable(file: &Seen, rights: &Rights, server: &Reader) -> String {
    let path = quoted(&file.path);
    let (user, group) = (server.uid, rights.gid);
    match server.groups.as_ref().and_then(|groups| groups.first()) {
        _ if rights.uid == user => format!("run `chmod u+r {path}`"),
        _ if file.role.is_lent_secret() => format!("as root, run `chown {user} {path} && chmod u+r {path}`"),
        Some(_) if server.is_in(group) => format!("as root, run `chmod g+r {path}`"),
        _ if group != 0 && rights.mode & GROUP_READ != 0 => format!(
            "it is for group {group}: make user {user} one of them and restart the server, or give it a copy of its own"
        ),
        Some(own) => format!("as root, run `chgrp {own} {path} && chmod g+r {path}`"),
        None => format!("as root, run `chown {user} {path} && chmod u+r {path}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const UNKNOWN: Reader = Reader { uid: 100, groups: None };

    fn seen(path: &str, role: Role, what: io::Result<Option<Rights>>) -> Seen {
        Seen { path: path.into(), role, what, barrier: None, certbots: false }
    }

    fn judged(seen: Seen, server: &Reader, expect: &[&str]) {
        let found = judge(&[seen], Some(server), 100, "ask certbot");
        let fixes: Vec<&str> = found.iter().filter_map(|finding| finding.fix.as_deref()).collect();
        assert_eq!(fixes.len(), expect.len(), "{found:?}");
        for (fix, word) in fixes.iter().zip(expect) {
            assert!(fix.contains(word), "{word} is not in {fix}");
        }
    }

    /// A file of a user and of group 0.
    fn check(path: &str, role: Role, mode: u32, uid: u32, expect: &[&str]) {
        let rights = Rights { mode, uid, gid: 0, acl: false };
        judged(seen(path, role, Ok(Some(rights))), &UNKNOWN, expect);
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
        check("/p", Role::OperatorsKey, 0o400, 100, &[]);
        check("/p", Role::OperatorsKey, 0o640, 100, &["`chmod go-rwx /p`"]);
        check("/p", Role::OperatorsKey, 0o644, 100, &["`chmod go-rwx /p`"]);
        check(
            "/p",
            Role::OperatorsKey,
            0o644,
            0,
            &["`chown 100 /p && chmod u+r /p` and run `chmod go-rwx /p`"],
        );
        check("/run/credentials/daybook.service/p", Role::OperatorsKey, 0o440, 100, &[]);
        check("/p", Role::OperatorsKey, 0o600, 0, &["`chown 100 /p && chmod u+r /p`"]);
        check("/w", Role::OperatorsSecret, 0o604, 100, &["`chmod go-rwx /w`"]);
        check("/u", Role::List, 0o664, 0, &[]);
        check("/u", Role::List, 0o200, 100, &["chmod u+r /u"]);
        check("/u", Role::List, 0o666, 0, &["`chmod o-w /u`"]);
        check("/d/log", Role::Own, 0o755, 0, &["`chown -R 100 /d/log`"]);
        check("/d", Role::DataDir, 0o777, 0, &["`chmod 0700 /d`", "`chown -R 100 /d`"]);
    }

    #[test]
    fn what_is_lent_to_the_server_it_must_be_able_to_read() {
        let server = Reader { uid: 998, groups: Some(vec![997, 110]) };
        let with = |role, mode, gid| seen("/f", role, Ok(Some(Rights { mode, uid: 0, gid, acl: false })));
        for role in [Role::Readable, Role::List] {
            judged(with(role, 0o600, 0), &server, &["`chgrp 997 /f && chmod g+r /f`"]);
            // Readable for a group is not readable for the server's.
            judged(with(role, 0o640, 0), &server, &["`chgrp 997 /f && chmod g+r /f`"]);
            judged(with(role, 0o640, 50), &server, &["it is for group 50"]);
            judged(with(role, 0o600, 997), &server, &["`chmod g+r /f`"]);
            judged(with(role, 0o640, 997), &server, &[]);
            judged(with(role, 0o640, 110), &server, &[]);
            let behind = Seen { barrier: Some("/shut".into()), ..with(role, 0o644, 0) };
            judged(behind, &server, &["such as /etc/daybook"]);
        }
        for role in [Role::OperatorsKey, Role::OperatorsSecret] {
            judged(with(role, 0o600, 0), &server, &["`chown 998 /f && chmod u+r /f`"]);
            // What is closed to its group and others is opened to the server with the same text.
            judged(
                with(role, 0o640, 997),
                &server,
                &["`chown 998 /f && chmod u+r /f` and run `chmod go-rwx /f`"],
            );
        }
        let key = Seen {
            certbots: true,
            barrier: Some("/etc/letsencrypt/live".into()),
            ..with(Role::OperatorsKey, 0o600, 0)
        };
        judged(key, &server, &["ask certbot"]);
    }

    #[test]
    fn a_configuration_users_and_files_behind_a_shut_folder_are_seen_by_whoever_looks() {
        let dir = tempfile::tempdir().unwrap();
        let mut subject = super::super::tests::subject(&dir.path().join("data"));
        let files = [
            "daybook.toml",
            "chain.pem",
            "key.pem",
            "users.toml",
            "password",
            "ldap-password",
            "entra.pem",
            "entra-key.pem",
            "corp-ca.pem",
            "ndr-password",
        ];
        subject.config_file = dir.path().join("daybook.toml");
        subject.settings.tls = Some(crate::config::TlsFiles {
            certificate: dir.path().join("chain.pem"),
            private_key: dir.path().join("key.pem"),
        });
        let text = "hostname = 'gw.example'\ndomains = ['gw.example']\ndata_dir = 'data'\n[[directory]]\nkind = 'file'\n\
             path = 'users.toml'\n[alerts]\nto = ['a@b.example']\nfrom = 'c@b.example'\nrelay = 'r.example'\n\
             username = 'u'\npassword_file = 'password'\n[[directory]]\nkind = 'ldap'\nhost = 'dc.example'\nbind_dn = 'a@b'\n\
             password_file = 'ldap-password'\nca_file = 'corp-ca.pem'\nbase = 'dc=a'\n[[directory]]\nkind = 'graph'\n\
             tenant = 'a.example'\nclient_id = '66666666-7777-8888-9999-000000000000'\ncertificate = 'entra.pem'\n\
             private_key = 'entra-key.pem'\n[[puller]]\nname = 'a'\nmailbox = 'ndr'\nhost = 'c.example'\nlogin = 'd'\n\
             password_file = 'ndr-password'\n";
        let read = crate::config::parse(text, dir.path()).unwrap();
        (subject.settings.directories, subject.settings.alerts) = (read.directories, read.alerts);
        subject.settings.pullers = read.pullers;
        let set = |path: PathBuf, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).unwrap();
        };
        for file in files {
            std::fs::write(dir.path().join(file), "").unwrap();
            // As a strict umask leaves it.
            set(dir.path().join(file), 0o600);
        }
        let server = Reader { uid: 54_321, groups: Some(vec![54_321]) };
        for (mode, word) in [(0o755, "cannot be read"), (0o700, "cannot be reached")] {
            set(dir.path().to_owned(), mode);
            let found = check_for(&subject, Some(&server));
            for file in files {
                let told = |finding: &&Finding| {
                    finding.seen.contains(&format!("/{file}")) && finding.seen.contains(word)
                };
                assert_eq!(found.iter().filter(told).count(), 1, "{file} {word}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_no_fault_and_what_is_hidden_is_said() {
        let status = |what| judge(&[seen("/x", Role::Own, what)], None, 1, "")[0].status;
        assert_eq!(status(Ok(None)), Status::Ok);
        assert_eq!(status(Err(io::ErrorKind::PermissionDenied.into())), Status::Skipped);
        assert_eq!(status(Err(io::ErrorKind::NotADirectory.into())), Status::Warning);
    }
}
