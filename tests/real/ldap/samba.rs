//! Active Directory as Samba has it: a domain controller with 1,200 users, aliases, disabled accounts, shared mailboxes, groups in
//! groups and a group that is everybody's primary one.
//!
//! Its ports cannot be chosen: it listens at an address of its own in 127.0.0.0/8, which follows from the process.

use super::*;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use tempfile::TempDir;

pub(super) const USERS: usize = 1_200;
pub(super) const BASE: &str = "DC=corp,DC=example";
pub(super) const READER: &str = "daybook@corp.example";
pub(super) const PASSWORD: &str = "Read3r!pass";

pub(super) struct Samba {
    dir: TempDir,
    address: Ipv4Addr,
    daemon: Option<Daemon>,
}

impl Samba {
    fn start() -> Samba {
        let dir = tempfile::Builder::new().prefix("daybook-samba-").tempdir().unwrap();
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 77, high, low.clamp(1, 254));
        let mut samba = Samba { dir, address, daemon: None };
        samba.provision();
        samba.add_everybody();
        samba.run();
        samba
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn provision(&self) {
        tool(
            Command::new("samba-tool")
                .args(["domain", "provision", "--realm=CORP.EXAMPLE", "--domain=CORP", "--server-role=dc"])
                .args(["--dns-backend=NONE", "--host-name=dc1", "--adminpass=Adm1n!pass"])
                .arg(format!("--host-ip={}", self.address))
                .arg(format!("--targetdir={}", self.path("dc").display())),
        );
        write_certificates(self.dir.path(), &["dc1.corp.example", &self.address.to_string()]);
        let (dir, dc) = (self.dir.path().display(), self.path("dc").display().to_string());
        let text = format!(
            "[global]\nrealm = CORP.EXAMPLE\nworkgroup = CORP\nnetbios name = DC1\n\
             server role = active directory domain controller\nserver services = ldap\n\
             interfaces = {}/8\nbind interfaces only = yes\n\
             private dir = {dc}/private\nstate directory = {dc}/state\ncache directory = {dc}/cache\n\
             lock directory = {dc}\npid directory = {dc}\nncalrpc dir = {dc}/ncalrpc\nlog file = {dc}/log\n\
             tls cafile = {dir}/ca.pem\ntls certfile = {dir}/cert.pem\ntls keyfile = {dir}/key.pem\n\
             dsdb:schema update allowed = true\n",
            self.address
        );
        fs::create_dir(self.path("dc/cache")).unwrap();
        fs::write(self.path("lean.conf"), text).unwrap();
    }

    /// The attribute of Exchange's schema, users, groups, and who reads them.
    fn add_everybody(&self) {
        let exchange = format!("CN=ms-Exch-Recipient-Type-Details,CN=Schema,CN=Configuration,{BASE}");
        self.ldb(
            "ldbadd",
            &format!(
                "dn: {exchange}\nobjectClass: attributeSchema\nattributeID: 1.2.840.113556.1.4.7000.102.50855\n\
                 lDAPDisplayName: msExchRecipientTypeDetails\nattributeSyntax: 2.5.5.16\noMSyntax: 65\nisSingleValued: TRUE\n"
            ),
        );
        self.change(&format!(
            "dn: CN=User,CN=Schema,CN=Configuration,{BASE}\nchangetype: modify\nadd: mayContain\n\
             mayContain: msExchRecipientTypeDetails\n"
        ));
        self.ldb("ldbadd", &entries());
        tool(
            Command::new("samba-tool")
                .args(["user", "create", "daybook", PASSWORD, "-H"])
                .arg(self.path("dc/private/sam.ldb"))
                .arg("-s")
                .arg(self.path("lean.conf")),
        );
    }

    pub(super) fn run(&mut self) {
        let mut command = Command::new("samba");
        command.args(["-i", "-M", "single", "-s"]).arg(self.path("lean.conf"));
        let log = self.path("log");
        self.daemon = Some(Daemon::start(&mut command, &log, SocketAddr::from((self.address, 636))));
    }

    fn ldb(&self, program: &str, ldif: &str) {
        fs::write(self.path("change.ldif"), ldif).unwrap();
        tool(
            Command::new(program)
                .arg("-H")
                .arg(self.path("dc/private/sam.ldb"))
                .arg(format!("--configfile={}", self.path("lean.conf").display()))
                .arg(self.path("change.ldif")),
        );
    }

    fn change(&self, ldif: &str) {
        self.ldb("ldbmodify", ldif);
    }

    pub(super) fn stop(&mut self) {
        self.daemon = None;
    }

    /// Gives an alias of one user to another.
    pub(super) fn move_alias(&self, from: usize, to: usize) {
        self.change(&format!(
            "dn: {}\nchangetype: modify\ndelete: proxyAddresses\nproxyAddresses: smtp:alias{from:04}@x.example\n\n\
             dn: {}\nchangetype: modify\nadd: proxyAddresses\nproxyAddresses: smtp:alias{from:04}@x.example\n",
            dn(from),
            dn(to),
        ));
    }

    pub(super) fn delete(&self, users: std::ops::Range<usize>) {
        self.change(&users.map(|n| format!("dn: {}\nchangetype: delete\n\n", dn(n))).collect::<String>());
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            host: self.address.to_string(),
            port: 636,
            security: LdapSecurity::Ldaps,
            ca_file: Some(self.path("ca.pem")),
            bind_dn: READER.to_owned(),
            password: secret(self.dir.path(), "password", PASSWORD),
            base: BASE.to_owned(),
            flavour: LdapFlavour::ActiveDirectory,
            filter: None,
            page_entries: 500,
        }
    }
}

pub(super) fn dn(number: usize) -> String {
    format!("CN=User {number:04},OU=Staff,{BASE}")
}

pub(super) fn group(name: &str) -> String {
    format!("CN={name},OU=Groups,{BASE}")
}

/// Every 50th is disabled, and every second of those is a shared mailbox.
fn user(n: usize) -> String {
    let control = if n.is_multiple_of(50) { 546 } else { 544 };
    let shared = if n.is_multiple_of(100) { "msExchRecipientTypeDetails: 4\n" } else { "" };
    format!(
        "dn: {}\nobjectClass: user\nsAMAccountName: u{n}\nuserPrincipalName: login{n:04}@x.example\n\
         displayName: User Number {n}\nmail: user{n:04}@x.example\nproxyAddresses: SMTP:user{n:04}@x.example\n\
         proxyAddresses: smtp:alias{n:04}@x.example\nproxyAddresses: SIP:user{n:04}@x.example\n\
         legacyExchangeDN: /o=Corp/ou=First/cn=Recipients/cn=u{n}\nuserAccountControl: {control}\n{shared}\n",
        dn(n)
    )
}

fn entries() -> String {
    let mut ldif = String::new();
    for unit in ["Staff", "Groups"] {
        write!(ldif, "dn: OU={unit},{BASE}\nobjectClass: organizationalUnit\n\n").unwrap();
    }
    ldif.extend((0..USERS).map(user));
    // Without any address: a service account, which is nobody's.
    write!(ldif, "dn: CN=Service,OU=Staff,{BASE}\nobjectClass: user\nsAMAccountName: service\n\n").unwrap();
    let mut add = |name: &str, further: &str, members: &[String]| {
        write!(ldif, "dn: {}\nobjectClass: group\nsAMAccountName: {name}\n{further}", group(name)).unwrap();
        for member in members {
            writeln!(ldif, "member: {member}").unwrap();
        }
        ldif.push('\n');
    };
    let people = |from: usize| (from..from + 100).map(dn).collect::<Vec<_>>();
    add("East", "", &people(200));
    add("Sales (all)", "mail: sales@x.example\n", &[people(100), vec![group("East")]].concat());
    add("Journaled", "", &[people(0), vec![group("Sales (all)")]].concat());
    add("Empty", "", &[]);
    add("Everybody", "", &[format!("CN=Domain Users,CN=Users,{BASE}")]);
    ldif
}

#[test]
fn users_of_active_directory_are_read_filtered_changed_and_removed() {
    let mut samba = Samba::start();
    reads_everybody(&samba);
    knows_groups(&samba);
    tells_what_is_refused(&samba);
    program::filters_are_told_with_reasons(&samba);
    follows_changes(&samba);
    samba.stop();
    let error = read(&samba.settings(), &Filters::default()).unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable(why) if why.contains("refused")), "{error}");
    samba.run();
    program::a_server_keeps_what_it_has(&mut samba);
}

fn reads_everybody(samba: &Samba) {
    let (settings, none) = (samba.settings(), Filters::default());
    let listing = read(&settings, &none).unwrap();
    assert_eq!(listing.skipped, [], "the partitions of the forest are no other servers");
    let all = read_all("Samba, LDAPS", &settings, &none);
    assert_eq!((listing.candidates.len(), listing.requests), (USERS, 3));
    assert_eq!(by_id(listing), all);
    let starttls = Settings { security: LdapSecurity::StartTls, port: 389, ..settings };
    assert_eq!(read_all("Samba, StartTLS", &starttls, &none), all);

    let ann = named(&all, "user0007@x.example");
    assert_eq!(
        (ann.name.as_str(), ann.enabled, ann.kind),
        ("User Number 7", Some(true), CandidateKind::User)
    );
    let expected =
        ["alias0007@x.example", "login0007@x.example", "x500:/o=Corp/ou=First/cn=Recipients/cn=u7"];
    assert_eq!(aliases(ann), expected);
    assert!(ann.id.len() == 36 && ann.id.split('-').count() == 5, "{}", ann.id);
    let shared: Vec<_> = all.values().filter(|candidate| candidate.kind == CandidateKind::Shared).collect();
    assert_eq!(shared.len(), USERS / 100);
    assert!(shared.iter().all(|candidate| candidate.enabled == Some(false)));
    assert_eq!(all.values().filter(|candidate| candidate.enabled == Some(false)).count(), USERS / 50);
    // As the domain controller's own tool writes it.
    let found = Command::new("ldbsearch")
        .arg("-H")
        .arg(samba.path("dc/private/sam.ldb"))
        .args(["(sAMAccountName=u7)", "objectGUID"])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains(&format!("objectGUID: {}", ann.id)), "{}: {found}", ann.id);
}

fn knows_groups(samba: &Samba) {
    let settings = samba.settings();
    let (journaled, sales, empty) = (group("Journaled"), group("Sales (all)"), group("Empty"));
    let filters = Filters { include_groups: true, ..in_groups(&[&journaled, &sales, &empty]) };
    let all = read_all("Samba, groups in groups", &settings, &filters);
    assert_eq!(all.len(), USERS + 1);
    let count = |group: &str| {
        all.values().filter(|candidate| candidate.groups.iter().any(|has| has == group)).count()
    };
    // Sales, which has an address, is in Journaled itself.
    assert_eq!((count(&journaled), count(&sales), count(&empty)), (301, 200, 0));
    let mailed = named(&all, "sales@x.example");
    assert_eq!((mailed.kind, mailed.enabled), (CandidateKind::Group, None));
    // Whose primary group it is stands in no list of members.
    for name in [format!("CN=Domain Users,CN=Users,{BASE}"), group("Everybody")] {
        let found = read_all("Samba, primary group", &settings, &in_groups(&[&name]));
        assert_eq!(found.values().filter(|candidate| candidate.groups == [name.clone()]).count(), USERS);
    }
}

fn tells_what_is_refused(samba: &Samba) {
    let (none, good) = (Filters::default(), samba.settings());
    let check = |settings: Settings, said: &str, advice: &str| assert_refused(&settings, &none, said, advice);
    let wrong = secret(samba.dir.path(), "wrong", "wrong");
    check(Settings { password: wrong, ..good.clone() }, "data 52e", "The password is wrong");
    check(
        Settings { bind_dn: "nobody@corp.example".to_owned(), ..good.clone() },
        "invalid credentials",
        "bind_dn",
    );
    check(Settings { base: format!("OU=None,{BASE}"), ..good.clone() }, "no such object (32)", "check base");
    check(Settings { ca_file: None, ..good.clone() }, "issued by CN=Corp Root", "ca_file");
    let disabled = Settings { bind_dn: dn(50), ..good.clone() };
    assert!(matches!(read(&disabled, &none), Err(SourceError::Refused { .. })));
    // In clear, which only a loopback address is spoken to.
    let clear = Settings { security: LdapSecurity::None, port: 389, ..good.clone() };
    check(clear, "(8)", "\"ldaps\" or \"starttls\"");
    assert_refused(
        &good,
        &in_groups(&[&group("Journalled")]),
        "there is no group",
        "distinguished name in groups",
    );
    assert_refused(&good, &in_groups(&[&dn(1)]), "is no group", "groups");
}

fn follows_changes(samba: &Samba) {
    let (settings, none) = (samba.settings(), Filters::default());
    let before = read_all("Samba, before", &settings, &none);
    let id = |primary: &str| named(&before, primary).id.clone();
    let (ann, bob, cid) = (id("user0001@x.example"), id("user0002@x.example"), id("user0003@x.example"));
    samba.change(&format!(
        "dn: {}\nchangetype: modify\ndelete: proxyAddresses\nproxyAddresses: smtp:alias0001@x.example\n\n\
         dn: {}\nchangetype: modify\nadd: proxyAddresses\nproxyAddresses: smtp:alias0001@x.example\n-\n\
         replace: userPrincipalName\nuserPrincipalName: login0001@x.example.local\n-\n\
         replace: displayName\ndisplayName: Married\n\n\
         dn: {}\nchangetype: modrdn\nnewrdn: CN=Married\ndeleteoldrdn: 1\nnewsuperior: {BASE}\n\n\
         dn: {}\nchangetype: delete\n",
        dn(1),
        dn(2),
        dn(2),
        dn(3),
    ));
    let after = read_all("Samba, after", &settings, &none);
    assert_eq!(after.len(), USERS - 1);
    assert!(!aliases(&after[&ann]).contains(&"alias0001@x.example") && !after.contains_key(&cid));
    let bob = &after[&bob];
    assert_eq!(bob.name, "Married");
    samba.ldb("ldbadd", &user(3));
    let own = "x500:/o=Corp/ou=First/cn=Recipients/cn=u2";
    assert_eq!(
        aliases(bob),
        ["alias0001@x.example", "alias0002@x.example", own],
        "a login name inside is no address"
    );
}
