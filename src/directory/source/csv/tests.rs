use super::*;
use crate::config::{CsvColumns, CsvPreset, CsvSource as Configured};
use crate::directory::source::{Candidate, CandidateKind};
use std::fs;
use std::time::{Duration, Instant, SystemTime};

const FOLDER: &str = "corpus/directory";

fn exchange() -> Configured {
    Configured { preset: CsvPreset::ExchangeGetMailbox, ..Configured::of("list.csv") }
}

fn generic() -> Configured {
    Configured::of("list.csv")
}

fn corpus(name: &str) -> Vec<u8> {
    fs::read(Path::new(FOLDER).join(name)).unwrap()
}

fn told(octets: &[u8], configured: &Configured) -> String {
    match parse(octets, configured, Path::new("list.csv")) {
        Ok(listing) => format!("{} candidates", listing.candidates.len()),
        Err(error) => error.to_string(),
    }
}

/// One line for each candidate.
fn shown(listing: &Listing) -> Vec<String> {
    let show = |candidate: &Candidate| {
        let aliases: Vec<&str> = candidate.aliases.iter().map(|alias| alias.as_str()).collect();
        let primary = candidate.primary.as_ref().map_or("-", |primary| primary.as_str());
        let (kind, enabled) = (candidate.kind.as_str(), candidate.enabled);
        format!("{} {} {primary} {kind} {enabled:?} {}", candidate.id, candidate.name, aliases.join(" "))
    };
    listing.candidates.iter().map(show).collect()
}

#[test]
fn what_exchange_writes_is_read_whatever_wrote_it_down() {
    let lists = [
        "exchange-online-powershell-7.csv",
        "exchange-2019-powershell-5.csv",
        "exchange-unicode-semicolon.csv",
    ];
    let mut listings = lists.map(|name| parse(&corpus(name), &exchange(), Path::new(name)).unwrap());
    let legacy = |n: u8, alias: &str| {
        format!(
            "x500:/o=ExchangeLabs/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn={n:032x}-{alias}"
        )
    };
    let expect = [
        format!(
            "0f0e0d0c-0001-4b4a-9998-000000000001 Alice Archer alice@contoso.example user Some(true) \
             a.archer@contoso.example alice@contoso.onmicrosoft.example {}",
            legacy(1, "alice")
        ),
        format!(
            "0f0e0d0c-0002-4b4a-9998-000000000002 Bäcker, Bob \"der Große\" bob@contoso.example user Some(true) \
             sales@contoso.example X500:/o=Contoso Ltd/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn=bob \
             {}",
            legacy(2, "bob")
        ),
        format!(
            "0f0e0d0c-0003-4b4a-9998-000000000003 Info info@contoso.example shared Some(false) {}",
            legacy(3, "info")
        ),
        format!(
            "0f0e0d0c-0004-4b4a-9998-000000000004 Room 4 room4@contoso.example shared Some(false) {}",
            legacy(4, "room4")
        ),
        format!(
            "00000006-1111-2222-3333-000000000006 Carol Carter (still here) carol@contoso.example user Some(false) \
             carol.carter@contoso.example {}",
            legacy(6, "carol")
        ),
        format!(
            "0f0e0d0c-0007-4b4a-9998-000000000007 Guest Gwen gwen@fabrikam.example guest Some(true) {}",
            legacy(7, "gwen_fabrikam.example#EXT#")
        ),
    ];
    for (name, listing) in lists.iter().zip(&mut listings) {
        assert_eq!(shown(listing), expect, "{name}");
        let skipped: Vec<&str> = listing.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
        assert_eq!(skipped, ["is a mailbox that Exchange keeps for itself"], "{name}");
    }
}

#[test]
fn a_list_of_ones_own_is_read_by_its_column_names() {
    let listing = parse(&corpus("generic.csv"), &generic(), Path::new("generic.csv")).unwrap();
    let expect = [
        "1 Alice Archer alice@contoso.example user Some(true) a.archer@contoso.example x500:/o=Contoso/cn=alice",
        "2 Baker, Bob bob@contoso.example user Some(false) ",
        "3 Info info@contoso.example shared Some(true) office@contoso.example sales@contoso.example",
        "4 Nobody - user None ",
        "5 Everybody all@contoso.example group None ",
    ];
    assert_eq!(shown(&listing), expect);
    let text = String::from_utf8(corpus("generic.csv")).unwrap();
    let renamed = text.replacen("id,name,primary,aliases,enabled,kind", "Nr\tWer\tMail\tMehr\tAktiv\tArt", 1);
    let renamed = renamed.replace(',', "\t").replace("\"Baker\t Bob\"", "\"Baker, Bob\"");
    let name = |name: &str| Some(name.to_owned());
    let columns = CsvColumns {
        id: name("NR"),
        name: name("wer"),
        primary: name("mail"),
        aliases: name("Mehr"),
        enabled: name("aktiv"),
        kind: name("Art"),
    };
    let configured = Configured { columns, ..generic() };
    assert_eq!(shown(&parse(renamed.as_bytes(), &configured, Path::new("l")).unwrap()), expect);
}

#[test]
fn a_cut_list_is_never_a_shorter_one() {
    let octets = corpus("exchange-online-powershell-7.csv");
    // Three of them, the second over several lines.
    let end = memchr::memmem::find_iter(&octets, "\n\"EURPR05DG101").nth(3).unwrap();
    let octets = octets.get(..=end).unwrap();
    let whole = parse(octets, &exchange(), Path::new("l")).unwrap();
    let mut row_ends = 0;
    for cut in 0..octets.len() {
        let Some(part) = octets.get(..cut) else { continue };
        let Ok(listing) = parse(part, &exchange(), Path::new("l")) else { continue };
        // Only between rows can nothing be seen of it.
        let rest = octets.get(cut..).unwrap();
        assert!(
            rest.starts_with(b"\"EURPR05DG101") || rest.starts_with(b"\n") || rest.starts_with(b"\r\n"),
            "cut at {cut}"
        );
        assert!(whole.candidates.starts_with(&listing.candidates), "cut at {cut}");
        row_ends += 1;
    }
    assert_eq!(row_ends, 8, "behind the last quote, CR and LF of each but the last LF");
    let unquoted = "id,name,primary,aliases\n1,A,a@x.example,aa@x.example\n2,B,b@x.example,bb@x.example\n";
    for cut in 25..unquoted.len() {
        let found = told(unquoted.get(..cut).unwrap().as_bytes(), &generic());
        assert!(!found.contains("candidates") || cut == 53, "cut at {cut}: {found}");
    }
}

#[test]
fn what_a_failed_export_leaves_is_told_for_what_it_is() {
    for (name, expect) in [
        ("exchange-header-alone.csv", "names no user"),
        ("exchange-half-written.csv", "list.csv:3: opens a quote that is never closed: the list is cut"),
    ] {
        assert_eq!(told(&corpus(name), &exchange()), expect, "{name}");
    }
    let unjoined = told(&corpus("exchange-addresses-not-joined.csv"), &exchange());
    assert_eq!(unjoined.lines().count(), 2, "{unjoined}");
    assert!(
        unjoined.starts_with("list.csv:2: holds the name of a type instead of addresses: join them"),
        "{unjoined}"
    );
    for empty in
        [&b""[..], b"\r\n \n", b"\xEF\xBB\xBF", b"\xFF\xFE", b"#TYPE X\n", b"id,name,primary,aliases"]
    {
        assert_eq!(told(empty, &generic()), "names no user", "{empty:?}");
    }
    assert_eq!(
        told(b"\xFF\xFEi\0d", &generic()),
        "list.csv: ends in the middle of a character: the list is cut"
    );
}

#[test]
fn every_fault_is_told_with_its_line() {
    let list = "#TYPE x\r\n\r\nid,name,primary,aliases,enabled,kind\r\n\
                1,A,a@x.example,,,\r\n\
                1,\"B\r\nb\",b@x.example,,,\r\n\
                \r\n\
                ,C,c@x.example,,,\r\n\
                4,D,d@x.example\r\n\
                5,E,e@x.example,,maybe,employee\r\n\
                6,\u{e9}\u{0},f@x.example,,,\r\n";
    // What is no table leaves everything in doubt that was read at once with it.
    let first = "list.csv:11: holds an octet 0: it is no text, or UTF-16 without its byte order mark";
    assert_eq!(told(list.as_bytes(), &generic()), first);
    let list = list.replace('\0', "");
    assert_eq!(
        told(list.as_bytes(), &generic()),
        "list.csv:5: id \"1\" is already that of line 4\n\
         list.csv:8: has no id\n\
         list.csv:9: has 3 fields where there are 6 columns\n\
         list.csv:10: kind \"employee\" is neither user, shared, guest or group nor one of RecipientTypeDetails\n\
         list.csv:10: \"maybe\" is neither true nor false"
    );
    let latin = b"id;name;primary;aliases\n1;J\xFCrgen;j@x.example;\n";
    assert_eq!(told(latin, &generic()), "list.csv:2: is not UTF-8 text: with Export-Csv give -Encoding utf8");
    let many: String = (0..200).map(|n| format!("{n}\n")).collect();
    let many = told(format!("id,name,primary,aliases\n{many}").as_bytes(), &generic());
    assert_eq!(many.lines().count(), 51, "{many}");
}

#[test]
fn a_column_that_is_not_there_is_named_with_those_that_are() {
    assert_eq!(
        told(b"id;mail;name\n1;a@x.example;A\n", &generic()),
        "list.csv:1: there is no column \"primary\"; there are: id, mail, name\n\
         list.csv:1: there is no column \"aliases\"; there are: id, mail, name"
    );
    let columns = CsvColumns { kind: Some("Art".to_owned()), ..CsvColumns::default() };
    assert_eq!(
        told(b"id,name,primary,aliases,ID\n1,A,a@x.example,,\n", &Configured { columns, ..generic() }),
        "list.csv:1: column \"id\" stands twice\n\
         list.csv:1: there is no column \"Art\"; there are: id, name, primary, aliases, ID"
    );
    let no_id = told(b"DisplayName,PrimarySmtpAddress,EmailAddresses\nA,a@x.example,\n", &exchange());
    assert!(no_id.contains("\"ExternalDirectoryObjectId\" or \"Guid\""), "{no_id}");
}

#[test]
fn an_address_that_is_none_costs_itself_and_is_told() {
    let list = "id,name,primary,aliases\n\
                1,A,SMTP:a@x.example,a@x.example;A@X.example;smtp:@;aa@x.example\n\
                2,B,b at x.example,bb@x.example\n\
                3,,,SMTP:c@x.example;cc@x.example\n";
    let listing = parse(list.as_bytes(), &generic(), Path::new("l")).unwrap();
    let expect = [
        "1 A a@x.example user None aa@x.example",
        "2 B bb@x.example user None ",
        "3 c@x.example c@x.example user None cc@x.example",
    ];
    assert_eq!(shown(&listing), expect);
    let skipped: Vec<String> =
        listing.skipped.iter().map(|skipped| format!("{} {}", skipped.entry, skipped.why)).collect();
    assert_eq!(
        skipped,
        [
            "1 address \"@\" is left out: local part is malformed",
            "2 address \"b at x.example\" is left out: address has no domain"
        ]
    );
}

fn source(folder: &Path, with_groups: bool) -> CsvSource {
    let name = |name: &str| Some(name.to_owned());
    let columns = CsvColumns {
        id: name("ObjectId"),
        name: name("Anzeigename"),
        primary: name("E-Mail"),
        aliases: name("Weitere"),
        ..CsvColumns::default()
    };
    let filters = Filters { include_groups: with_groups, ..Filters::default() };
    CsvSource::new(&Configured { columns, ..Configured::of(folder) }, &filters)
}

fn outcome(source: &CsvSource) -> String {
    match source.read(&|| true) {
        Ok(listing) => format!("{} of {}", listing.candidates.len(), listing.requests),
        Err(error) => error.kind().to_owned(),
    }
}

#[test]
fn a_folder_holds_users_and_perhaps_groups() {
    let corpus = Path::new(FOLDER).join("folder");
    let listing = source(&corpus, true).read(&|| true).unwrap();
    let kinds: Vec<CandidateKind> = listing.candidates.iter().map(|candidate| candidate.kind).collect();
    assert_eq!(kinds, [CandidateKind::User, CandidateKind::User, CandidateKind::Group]);
    assert_eq!(listing.candidates[2].name, "team@contoso.example");

    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("exchangeuser.csv");
    let groups = dir.path().join("exchangegroups.csv");
    assert_eq!(outcome(&source(dir.path(), true)), "unreadable", "a folder without users is none");
    fs::copy(corpus.join("exchangeuser.csv"), &users).unwrap();
    assert_eq!(outcome(&source(dir.path(), false)), "2 of 1");
    let absent = source(dir.path(), true).read(&|| true).unwrap_err().to_string();
    assert!(absent.contains("exchangegroups.csv, which include_groups needs"), "{absent}");
    fs::write(&groups, "ObjectId,E-Mail\ng,\"g@x.example\n").unwrap();
    assert_eq!(outcome(&source(dir.path(), true)), "invalid");
    assert_eq!(outcome(&source(dir.path(), false)), "2 of 1", "groups that nobody wants may be bad");
    fs::write(&groups, "ObjectId,E-Mail\n11111111-0000-4000-8000-000000000001,g@x.example\n").unwrap();
    assert_eq!(outcome(&source(dir.path(), true)), "invalid", "an id of both lists names two");
    fs::write(&users, "").unwrap();
    assert_eq!(outcome(&source(dir.path(), false)), "empty");
}

#[test]
fn one_list_of_a_folder_never_passes_for_both() {
    let corpus = Path::new(FOLDER).join("folder");
    let names = ["exchangeuser.csv", "exchangegroups.csv"];
    for (broken, whole) in [(0, 1), (1, 0)] {
        let head = fs::read_to_string(corpus.join(names[broken])).unwrap();
        let head = head.lines().next().unwrap();
        for left in [String::new(), format!("{head}\n")] {
            let dir = tempfile::tempdir().unwrap();
            fs::copy(corpus.join(names[whole]), dir.path().join(names[whole])).unwrap();
            fs::write(dir.path().join(names[broken]), &left).unwrap();
            assert_eq!(outcome(&source(dir.path(), true)), "empty", "{} is {left:?}", names[broken]);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::copy(corpus.join(names[whole]), dir.path().join(names[whole])).unwrap();
        assert_eq!(outcome(&source(dir.path(), true)), "unreadable", "without {}", names[broken]);
    }
}

#[test]
fn nothing_is_read_before_the_writer_says_that_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.csv");
    let done = dir.path().join("list.done");
    fs::write(&list, "id,name,primary,aliases\n1,A,a@x.example,\n").unwrap();
    let configured = Configured { done_file: Some("list.done".to_owned()), ..Configured::of(&list) };
    let source = CsvSource::new(&configured, &Filters::default());
    assert_eq!(outcome(&source), "changing");
    fs::write(&done, "").unwrap();
    assert_eq!(outcome(&source), "1 of 1");
    let later = fs::File::options().append(true).open(&list).unwrap();
    later.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    assert_eq!(outcome(&source), "changing", "that is the word of an earlier time");
}

#[test]
fn a_list_that_is_replaced_while_it_is_read_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.csv");
    let rows = |users: usize| -> String { (0..users).map(|n| format!("{n},N,n{n}@x.example,\n")).collect() };
    fs::write(&list, format!("id,name,primary,aliases\n{}", rows(2_000))).unwrap();
    let source = CsvSource::new(&Configured::of(&list), &Filters::default());
    let replaced = || {
        let other = dir.path().join("other");
        fs::write(&other, "id,name,primary,aliases\n1,A,a@x.example,\n").unwrap();
        fs::rename(&other, &list).unwrap();
        true
    };
    assert_eq!(source.read(&replaced).unwrap_err().kind(), "changing");
    assert_eq!(outcome(&source), "1 of 1");
    fs::write(&list, format!("id,name,primary,aliases\n{}", rows(2_000))).unwrap();
    assert_eq!(source.read(&|| false).unwrap_err().kind(), "stopped");
}

/// `cargo test --lib csv::tests::a_hundred -- --nocapture` shows the time.
#[test]
fn a_hundred_thousand_mailboxes_are_read_at_once() {
    let corpus = String::from_utf8(corpus("exchange-online-powershell-7.csv")).unwrap();
    let (head, rest) = corpus.split_once("\r\n").unwrap();
    let alice = rest.split_once("\r\n").unwrap().0;
    // Debug builds read a tenth of them.
    let rows = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let mut list = format!("{head}\r\n");
    for n in 0..rows {
        list.push_str(
            &alice.replace("-000000000001", &format!("-{n:012}")).replace("alice", &format!("u{n}")),
        );
        list.push_str("\r\n");
    }
    let begun = Instant::now();
    let listing = parse(list.as_bytes(), &exchange(), Path::new("l")).unwrap();
    println!("{rows} rows, {} octets: {:?}", list.len(), begun.elapsed());
    assert_eq!(listing.candidates.len(), rows);
    assert!(begun.elapsed() < Duration::from_secs(60));
}
