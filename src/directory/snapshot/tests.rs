use super::*;

fn user(id: &str, addresses: &[&str]) -> User {
    let (primary, aliases) = addresses.split_first().unwrap();
    User {
        id: id.to_owned(),
        name: id.to_uppercase(),
        primary: Address::parse(primary).unwrap(),
        aliases: aliases.iter().map(|text| ProxyAddress::parse(text).unwrap()).collect(),
    }
}

fn list(users: Vec<User>) -> Roll {
    Roll { users: users.into_iter().map(Arc::new).collect(), ..Roll::default() }
}

fn check(users: &[(&str, &[&str])], address: &str, expect: Option<(&str, &str)>) {
    let snapshot = Snapshot::of(users.iter().map(|(id, addresses)| user(id, addresses)).collect());
    let found = snapshot.find_proxy(&AddressKey::of(address));
    let found = found.map(|found| (found.user.id.as_str(), found.proxy));
    assert_eq!(found, expect, "{address}");
}

#[test]
fn finds_a_user_by_any_address_in_any_ascii_case() {
    let users: &[(&str, &[&str])] =
        &[("a", &["al@x.example", "Al.Alias@x.example"]), ("b", &["bo@x.example"])];
    check(users, "AL@X.example", Some(("a", "al@x.example")));
    check(users, "al.alias@x.EXAMPLE", Some(("a", "Al.Alias@x.example")));
    check(users, "bo@x.example", Some(("b", "bo@x.example")));
    check(users, "bo+tag@x.example", None);
    check(users, "\u{212a}@x.example", None);
    check(users, "", None);
}

#[test]
fn finds_a_user_by_x500_name() {
    let users: &[(&str, &[&str])] = &[("a", &["al@x.example", "X500:/o=Org/cn=Recipients/cn=al"])];
    let proxy = "X500:/o=Org/cn=Recipients/cn=al";
    check(users, "[EX:/O=ORG/CN=Recipients/cn=AL]", Some(("a", proxy)));
    check(users, "x500:/o=org/cn=recipients/cn=al", Some(("a", proxy)));
    check(users, "[EX:/o=org/cn=recipients/cn=bo]", None);
    check(users, "[EX:/o=org/cn=recipients/cn=al", None);
    check(users, "[EX: /o=Org /cn=Recipients/ cn=al ]", Some(("a", proxy)));
    check(users, "IMCEAEX-_o=Org_cn=Recipients_cn=al@any.example", Some(("a", proxy)));
    check(users, "IMCEAEX-_o=Org_cn=Recipients_cn=bo@x.example", None);
}

#[test]
fn the_first_claim_of_an_address_or_id_wins_and_the_others_are_listed() {
    let first = list(vec![user("a", &["al@x.example", "info@x.example", "INFO@x.example"])]);
    let second = list(vec![user("b", &["bo@x.example", "Info@x.example"]), user("a", &["z@x.example"])]);
    let snapshot = Snapshot::of_rolls([&first, &second]);
    assert_eq!(snapshot.find(&AddressKey::of("info@x.example")).unwrap().id, "a");
    assert!(snapshot.find(&AddressKey::of("z@x.example")).is_none());
    assert_eq!(snapshot.users().len(), 2);
    let conflicts: Vec<String> = snapshot.conflicts().iter().map(ToString::to_string).collect();
    assert_eq!(
        conflicts,
        [
            "info@x.example is claimed by users a and b: a keeps it",
            "user id a stands in two sources: the later user is left out"
        ]
    );
    assert!(snapshot.conflicts().iter().all(|conflict| conflict.list == 1));
}

fn tenure(user: User, address: &str, from: Option<i64>, gone: Option<i64>, until: i64) -> Tenure {
    Tenure {
        address: address.to_owned(),
        user: Arc::new(user),
        from: from.map(Timestamp::from_unix_ms),
        gone: gone.map(Timestamp::from_unix_ms),
        until: Timestamp::from_unix_ms(until),
    }
}

/// A source that names these users, who had what is listed only since then, and those who had what before.
fn roll(users: Vec<User>, began: &[(&str, i64)], former: Vec<Tenure>) -> Roll {
    let began = began.iter().map(|(text, at)| (AddressKey::of(text), Timestamp::from_unix_ms(*at)));
    Roll { began: began.collect(), former, ..list(users) }
}

fn whose(snapshot: &Snapshot, address: &str, moments: &[(i64, Option<&str>)]) {
    for (moment, expect) in moments {
        let found = snapshot.find_at(&AddressKey::of(address), Timestamp::from_unix_ms(*moment));
        assert_eq!(found.map(|found| found.user.id.as_str()), *expect, "{address} at {moment}");
    }
}

#[test]
fn an_address_is_of_who_had_it_at_the_moment() {
    let ann = || user("ann", &["ann@x.example"]);
    let info = tenure(ann(), "Info@x.example", None, None, 10);
    let gone = tenure(user("gone", &["gone@y.example"]), "gone@y.example", Some(3), Some(10), 40);
    let bob = user("bob", &["bob@x.example", "info@x.example"]);
    let began = [("info@x.example", 10), ("bob@x.example", 5)];
    let snapshot = Snapshot::of_rolls([&roll(vec![ann(), bob], &began, vec![info, gone])]);
    whose(&snapshot, "info@x.example", &[(0, Some("ann")), (9, Some("ann")), (10, Some("bob"))]);
    whose(&snapshot, "ann@x.example", &[(0, Some("ann")), (99, Some("ann"))]);
    whose(&snapshot, "bob@x.example", &[(0, Some("bob")), (5, Some("bob"))]);
    whose(&snapshot, "gone@y.example", &[(0, Some("gone")), (39, Some("gone")), (40, None)]);
    whose(&snapshot, "nobody@x.example", &[(0, None)]);
    let held = |address: &str, at: i64| {
        snapshot.find_at(&AddressKey::of(address), Timestamp::from_unix_ms(at)).unwrap().held
    };
    let ms = Timestamp::from_unix_ms;
    assert_eq!(held("INFO@x.example", 9), Held::Until(ms(10)));
    assert_eq!(held("bob@x.example", 4), Held::Since(ms(5)));
    assert_eq!(held("gone@y.example", 10), Held::Grace { gone: ms(10), until: ms(40) });
    assert_eq!(held("info@x.example", 10), Held::Plainly);
    assert!(snapshot.find(&AddressKey::of("gone@y.example")).is_none(), "nobody's now");
    let [left] = snapshot.gone() else { panic!("{:?}", snapshot.gone()) };
    assert_eq!((left.user.id.as_str(), left.since, left.until), ("gone", ms(10), ms(40)));
    assert!(snapshot.conflicts().is_empty());
    let owned = |at: i64| snapshot.owned_domain("Y.example", ms(at));
    assert!(owned(39) && !owned(40) && !snapshot.owns_domain("y.example"));
}

#[test]
fn sources_have_precedence_in_every_moment_and_those_gone_in_none() {
    // The first source knew Ann once, and Eve since 20; the second always knew Bob.
    let ann = tenure(user("ann", &["a@x.example"]), "info@x.example", None, Some(10), 15);
    let eve = user("eve", &["info@x.example"]);
    let first = roll(vec![eve], &[("info@x.example", 20)], vec![ann]);
    let second = roll(vec![user("bob", &["info@x.example"])], &[], Vec::new());
    let moments = [(9, Some("ann")), (10, Some("bob")), (19, Some("bob")), (20, Some("eve"))];
    whose(&Snapshot::of_rolls([&first, &second]), "info@x.example", &moments);
    let turned = Snapshot::of_rolls([&second, &first]);
    whose(&turned, "info@x.example", &[(9, Some("bob")), (99, Some("bob"))]);
    assert_eq!(turned.conflicts().len(), 1);
}

#[test]
fn a_claim_refused_within_a_source_never_counted() {
    let users = vec![user("a", &["info@x.example"]), user("b", &["b@x.example", "info@x.example"])];
    let snapshot = Snapshot::of_rolls([&roll(users, &[("info@x.example", 10)], Vec::new())]);
    whose(&snapshot, "info@x.example", &[(0, Some("a")), (10, Some("a"))]);
}

#[test]
fn who_was_somebody_is_shown_by_the_name_of_today_and_never_taken_for_another_sources_user() {
    let renamed = User { name: "Ann Today".to_owned(), ..user("ann", &["ann.today@x.example"]) };
    let before = |id: &str| tenure(user(id, &["ann@x.example"]), "ann@x.example", None, None, 10);
    let first = roll(vec![renamed], &[], Vec::new());
    let same = roll(Vec::new(), &[], vec![before("ann")]);
    whose(&Snapshot::of_rolls([&first, &same]), "ann@x.example", &[(9, None)]);
    let merged = Roll { former: same.former, ..first };
    let snapshot = Snapshot::of_rolls([&merged]);
    let key = AddressKey::of("ann@x.example");
    assert_eq!(snapshot.find_at(&key, Timestamp::from_unix_ms(9)).unwrap().user.name, "Ann Today");
    let both = [&roll(Vec::new(), &[], vec![before("x")]), &roll(Vec::new(), &[], vec![before("x")])];
    whose(&Snapshot::of_rolls(both), "ann@x.example", &[(9, Some("x"))]);
}

#[test]
fn an_address_that_several_of_one_source_claim_is_whoevers_its_roll_says() {
    let info = AddressKey::of("info@x.example");
    let users = || ["a", "b", "c"].map(|id| user(id, &[&format!("{id}@x.example"), "info@x.example"]));
    let contested = [(info.clone(), "b".to_owned())].into();
    let snapshot = Snapshot::of_rolls([&Roll { contested, ..list(users().into()) }]);
    assert_eq!(snapshot.find(&info).unwrap().id, "b");
    let refused: Vec<(&str, &str)> =
        snapshot.conflicts().iter().map(|c| (c.kept_by.as_str(), c.refused_to.as_str())).collect();
    assert_eq!(refused, [("b", "a"), ("b", "c")]);
}

#[test]
fn an_id_that_was_somebodys_in_an_earlier_source_is_not_anothers_in_a_later_one() {
    let ann = || user("7", &["ann@x.example"]);
    let in_grace = roll(Vec::new(), &[], vec![tenure(ann(), "ann@x.example", None, Some(10), 40)]);
    let bob = list(vec![user("7", &["bob@y.example"])]);
    let snapshot = Snapshot::of_rolls([&in_grace, &bob]);
    let key = AddressKey::of("ann@x.example");
    let found = snapshot.find_at(&key, Timestamp::from_unix_ms(20)).unwrap();
    assert_eq!(found.user.primary.as_str(), "ann@x.example", "not the later source's");
    assert!(snapshot.find(&AddressKey::of("bob@y.example")).is_none());
    let told: Vec<String> = snapshot.conflicts().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["user id 7 stands in two sources: the later user is left out"]);
    assert_eq!(snapshot.conflicts()[0].list, 1);

    // Who takes an address along is the same person, and takes the past along too.
    let moved = list(vec![user("7", &["ann@z.example", "Ann@x.example"])]);
    let snapshot = Snapshot::of_rolls([&in_grace, &moved]);
    assert_eq!(snapshot.find(&AddressKey::of("ann@z.example")).unwrap().id, "7");
    assert!(snapshot.conflicts().is_empty() && snapshot.gone().is_empty());
    let back = Snapshot::of_rolls([
        &list(vec![ann()]),
        &roll(
            Vec::new(),
            &[],
            vec![
                tenure(ann(), "ann@x.example", None, Some(10), 10),
                tenure(ann(), "ann@old.example", None, Some(10), 40),
            ],
        ),
    ]);
    whose(&back, "ann@old.example", &[(9, Some("7")), (39, Some("7")), (40, None)]);
}

#[test]
fn an_address_whose_holder_is_left_out_is_of_the_next_who_claims_it() {
    let first = list(vec![user("7", &["ann@x.example"])]);
    let claim = |id: &str| user(id, &[&format!("{id}@y.example"), "info@y.example"]);
    let contested = [(AddressKey::of("info@y.example"), "7".to_owned())].into();
    let second = Roll { contested, ..list(vec![claim("7"), claim("8"), claim("9")]) };
    let snapshot = Snapshot::of_rolls([&first, &second]);
    whose(&snapshot, "info@y.example", &[(0, Some("8"))]);
    let refused: Vec<(&str, &str)> =
        snapshot.conflicts().iter().map(|c| (c.kept_by.as_str(), c.refused_to.as_str())).collect();
    assert_eq!(refused, [("7", "7"), ("8", "9")]);
    let alone = Snapshot::of_rolls([&second]);
    whose(&alone, "info@y.example", &[(0, Some("7"))]);
}

#[test]
fn knows_its_own_domains() {
    let snapshot = Snapshot::of(vec![user("a", &["al@X.example", "al@y.example", "x500:/o=z.example"])]);
    assert!(snapshot.owns_domain("x.EXAMPLE") && snapshot.owns_domain("y.example"));
    assert!(!snapshot.owns_domain("z.example") && !snapshot.owns_domain("sub.x.example"));
}

#[test]
fn refuses_what_is_no_proxy_address() {
    for bad in ["", "bob", "x500:", "x500: ", "x500:/o=a\nb", "smtp:bob@x.example"] {
        assert!(ProxyAddress::parse(bad).is_err(), "{bad:?}");
    }
}
