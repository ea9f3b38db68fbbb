//! OpenLDAP: 1,500 entries of RFC 2798 in pages, groups in groups, changes, and a server that gives nobody more than 200 at once.

use super::*;
use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Duration;
use tempfile::TempDir;

const USERS: usize = 1_500;
const BASE: &str = "dc=corp,dc=example";
const READER: &str = "cn=reader,dc=corp,dc=example";
const ADMIN: &str = "cn=admin,dc=corp,dc=example";
/// May read all, but 200 entries at most, in pages or not.
const LIMITED: &str = "cn=limited,dc=corp,dc=example";
const PASSWORD: &str = "s3cret reader";

pub(super) struct Slapd {
    dir: TempDir,
    plain: u16,
    tls: u16,
    daemon: Option<Daemon>,
}

impl Slapd {
    pub(super) fn start() -> Slapd {
        let dir = tempfile::Builder::new().prefix("daybook-slapd-").tempdir().unwrap();
        write_certificates(dir.path(), &["ldap.corp.example", "127.0.0.1"]);
        fs::create_dir(dir.path().join("db")).unwrap();
        fs::write(dir.path().join("slapd.conf"), configuration(dir.path())).unwrap();
        fs::write(dir.path().join("all.ldif"), entries()).unwrap();
        let mut slapd = Slapd { dir, plain: free_port(), tls: free_port(), daemon: None };
        tool(
            Command::new("/usr/sbin/slapadd")
                .arg("-q")
                .arg("-f")
                .arg(slapd.path("slapd.conf"))
                .arg("-l")
                .arg(slapd.path("all.ldif")),
        );
        slapd.run();
        slapd
    }

    fn run(&mut self) {
        let urls = format!("ldap://127.0.0.1:{} ldaps://127.0.0.1:{}", self.plain, self.tls);
        let mut command = Command::new("/usr/sbin/slapd");
        command.args(["-d", "0", "-h", &urls, "-f"]).arg(self.path("slapd.conf"));
        let address = SocketAddr::from(([127, 0, 0, 1], self.tls));
        self.daemon = Some(Daemon::start(&mut command, &self.path("log"), address));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn settings(&self, security: LdapSecurity) -> Settings {
        Settings {
            host: "127.0.0.1".to_owned(),
            port: if security == LdapSecurity::Ldaps { self.tls } else { self.plain },
            security,
            ca_file: Some(self.path("ca.pem")),
            bind_dn: READER.to_owned(),
            password: secret(self.dir.path(), "password", PASSWORD),
            base: BASE.to_owned(),
            flavour: LdapFlavour::Rfc2798,
            filter: None,
            page_entries: 200,
        }
    }

    fn change(&self, ldif: &str) {
        fs::write(self.path("change.ldif"), ldif).unwrap();
        let url = format!("ldap://127.0.0.1:{}", self.plain);
        tool(
            Command::new("ldapmodify")
                .args(["-x", "-H", &url, "-D", ADMIN, "-w", PASSWORD, "-f"])
                .arg(self.path("change.ldif")),
        );
    }
}

fn configuration(dir: &Path) -> String {
    let schemas = ["core", "cosine", "inetorgperson", "nis", "msuser"];
    let mut text = String::new();
    for schema in schemas {
        writeln!(text, "include /etc/ldap/schema/{schema}.schema").unwrap();
    }
    let dir = dir.display();
    write!(
        text,
        "modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {dir}/pid\n\
         TLSCACertificateFile {dir}/ca.pem\nTLSCertificateFile {dir}/cert.pem\nTLSCertificateKeyFile {dir}/key.pem\n\
         database mdb\nmaxsize 1073741824\nsuffix {BASE}\nrootdn {ADMIN}\nrootpw {PASSWORD:?}\ndirectory {dir}/db\n\
         dbnosync\nindex objectClass eq\n\
         limits dn.exact={LIMITED} size=200\nlimits * size=200 size.prtotal=unlimited\n\
         access to attrs=userPassword by anonymous auth\naccess to * by users read\n"
    )
    .unwrap();
    text
}

fn dn(number: usize) -> String {
    format!("uid=user{number:04},ou=people,{BASE}")
}

fn entries() -> String {
    let mut ldif = format!(
        "dn: {BASE}\nobjectClass: domain\ndc: corp\n\n\
         dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: ou=groups,{BASE}\nobjectClass: organizationalUnit\nou: groups\n\n"
    );
    for reader in [READER, LIMITED] {
        let name = reader.split(['=', ',']).nth(1).unwrap();
        write!(
            ldif,
            "dn: {reader}\nobjectClass: person\ncn: {name}\nsn: {name}\nuserPassword: {PASSWORD}\n\n"
        )
        .unwrap();
    }
    for n in 0..USERS {
        write!(
            ldif,
            "dn: {}\nobjectClass: inetOrgPerson\nobjectClass: extensibleObject\nuid: user{n:04}\ncn: User {n}\nsn: {n}\n\
             mail: user{n:04}@x.example\nmail: u{n}@y.example\nproxyAddresses: smtp:alias{n:04}@x.example\n\
             proxyAddresses: X500:/o=Corp/ou=First/cn=Recipients/cn=u{n}\nproxyAddresses: SIP:user{n:04}@x.example\n\n",
            dn(n)
        )
        .unwrap();
    }
    // All staff: 100 by themselves, 100 by way of Sales, 100 by way of Sales' East, which all staff is in again.
    let mut group = |name: &str, class: &str, attribute: &str, members: &[String]| {
        write!(ldif, "dn: cn={name},ou=groups,{BASE}\nobjectClass: {class}\ncn: {name}\n").unwrap();
        for member in members {
            writeln!(ldif, "{attribute}: {member}").unwrap();
        }
        ldif.push('\n');
    };
    let people = |from: usize| (from..from + 100).map(dn).collect::<Vec<_>>();
    let in_groups = |name: &str| format!("CN={name}, OU=groups, {BASE}");
    group("Staff", "groupOfNames", "member", &[people(0), vec![in_groups("Sales")]].concat());
    group("Sales", "groupOfUniqueNames", "uniqueMember", &[people(100), vec![in_groups("East")]].concat());
    group(
        "East",
        "groupOfNames",
        "member",
        &[people(200), vec![in_groups("Staff"), in_groups("Gone")]].concat(),
    );
    ldif
}

#[test]
fn users_of_openldap_are_read_in_pages_by_every_kind_of_connection() {
    let slapd = Slapd::start();
    let none = Filters::default();
    // What a search without pages would be given.
    let url = format!("ldap://127.0.0.1:{}", slapd.plain);
    let unpaged = Command::new("ldapsearch")
        .args(["-x", "-LLL", "-H", &url, "-D", READER, "-w", PASSWORD, "-b", BASE, "(mail=*)", "uid"])
        .output()
        .unwrap();
    assert_eq!(unpaged.status.code(), Some(4), "slapd gives more than 200 at once");
    let all = read_all("slapd, LDAPS", &slapd.settings(LdapSecurity::Ldaps), &none);
    assert_eq!(all.len(), USERS);
    assert_eq!(read_all("slapd, StartTLS", &slapd.settings(LdapSecurity::StartTls), &none), all);
    assert_eq!(read_all("slapd, in clear", &slapd.settings(LdapSecurity::None), &none), all);
    let bob = named(&all, "user0007@x.example");
    assert_eq!((bob.name.as_str(), bob.enabled, bob.groups.len()), ("User 7", None, 0));
    assert_eq!(
        aliases(bob),
        ["X500:/o=Corp/ou=First/cn=Recipients/cn=u7", "alias0007@x.example", "u7@y.example"]
    );

    let limited = Settings { bind_dn: LIMITED.to_owned(), ..slapd.settings(LdapSecurity::Ldaps) };
    let error = read(&limited, &none).unwrap_err();
    assert!(matches!(&error, SourceError::Incomplete(why) if why.contains("limit")), "{error}");
}

#[test]
fn members_of_openldaps_groups_are_found_through_groups_in_groups() {
    let slapd = Slapd::start();
    let group = |name: &str| format!("cn={name},ou=groups,{BASE}");
    let (staff, east) = (group("staff"), group("East"));
    let settings = slapd.settings(LdapSecurity::Ldaps);
    let all = read_all("slapd, two groups", &settings, &in_groups(&[&staff, &east]));
    assert_eq!(all.len(), USERS, "nobody is left out before the filters say why");
    let count = |group: &str| {
        all.values().filter(|candidate| candidate.groups.iter().any(|has| has == group)).count()
    };
    // East has Staff in it, and so everybody of it.
    assert_eq!((count(&staff), count(&east)), (300, 300));
    // Groups that lie outside the base are followed as well.
    let people = Settings { base: format!("ou=people,{BASE}"), ..settings.clone() };
    let found = read_all("slapd, groups outside the base", &people, &in_groups(&[&staff]));
    assert_eq!(found.values().filter(|candidate| candidate.groups == [staff.clone()]).count(), 300);

    assert_refused(&settings, &in_groups(&[&group("Stuff")]), "there is no group cn=Stuff", "groups");
    assert_refused(&settings, &in_groups(&[&dn(1)]), "is no group", "groups");
    assert_refused(&settings, &in_groups(&["Staff"]), "invalid DN syntax (34)", "groups");
}

#[test]
fn what_openldap_refuses_is_told_with_advice() {
    let slapd = Slapd::start();
    let (none, good) = (Filters::default(), slapd.settings(LdapSecurity::Ldaps));
    let check = |settings: Settings, said: &str, advice: &str| assert_refused(&settings, &none, said, advice);
    let wrong = secret(slapd.dir.path(), "wrong", "wrong");
    check(Settings { password: wrong, ..good.clone() }, "invalid credentials (49)", "Check bind_dn");
    check(
        Settings { base: "dc=other,dc=example".to_owned(), ..good.clone() },
        "no such object (32)",
        "check base",
    );
    check(Settings { bind_dn: "reader".to_owned(), ..good.clone() }, "invalid DN syntax (34)", "bind_dn");
    check(Settings { filter: Some("(mail=*".to_owned()), ..good.clone() }, "(mail=*", "RFC 4515");
    let missing = SecretSource::File(slapd.path("none"));
    check(Settings { password: missing, ..good.clone() }, "cannot be read", "password_file");

    check(Settings { ca_file: None, ..good.clone() }, "issued by CN=Corp Root", "name that in ca_file");
    write_certificates(&slapd.path("db"), &["other.example"]);
    let other = Settings { ca_file: Some(slapd.path("db/ca.pem")), ..good.clone() };
    check(other, "nobody trusted vouches for its certificate", "ca_file holds other authorities");
    check(
        Settings { host: "localhost".to_owned(), ..good.clone() },
        "for ldap.corp.example, not for localhost",
        "Set host",
    );
    check(Settings { ca_file: Some(slapd.path("none.pem")), ..good.clone() }, "cannot access", "PEM");

    let error = read(&Settings { port: slapd.plain, ..good.clone() }, &none).unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable(why) if why.contains("starttls")), "{error}");
    let looks = Cell::new(0);
    let began = Instant::now();
    let stopped = LdapSource::new(&good, &none).read(&|| looks.replace(looks.get() + 1) < 3);
    assert!(matches!(stopped, Err(SourceError::Stopped)) && began.elapsed() < Duration::from_secs(30));
}

#[test]
fn users_of_openldap_stay_who_they_are_when_they_are_renamed_or_change_addresses() {
    let mut slapd = Slapd::start();
    let (none, settings) = (Filters::default(), slapd.settings(LdapSecurity::Ldaps));
    let before = read_all("slapd, before", &settings, &none);
    let id = |primary: &str| named(&before, primary).id.clone();
    let (ann, bob, cid) = (id("user0001@x.example"), id("user0002@x.example"), id("user0003@x.example"));
    slapd.change(&format!(
        "dn: {}\nchangetype: modify\ndelete: proxyAddresses\n\n\
         dn: {}\nchangetype: modify\nreplace: proxyAddresses\nproxyAddresses: smtp:alias0001@x.example\n\n\
         dn: {}\nchangetype: modrdn\nnewrdn: uid=married\ndeleteoldrdn: 1\n\n\
         dn: {}\nchangetype: delete\n\n\
         dn: {}\nchangetype: modify\nreplace: mail\nmail: new.name@x.example\n\n",
        dn(1),
        dn(2),
        dn(2),
        dn(3),
        dn(4),
    ));
    let after = read_all("slapd, after", &settings, &none);
    assert_eq!(after.len(), USERS - 1);
    assert!(!aliases(&after[&ann]).contains(&"alias0001@x.example"));
    assert!(aliases(&after[&bob]).contains(&"alias0001@x.example") && !after.contains_key(&cid));
    assert_eq!(named(&after, "new.name@x.example").id, id("user0004@x.example"));

    slapd.daemon = None;
    let error = read(&settings, &none).unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable(why) if why.contains("refused")), "{error}");
    slapd.run();
    assert_eq!(read_all("slapd, run again", &settings, &none), after);
}
