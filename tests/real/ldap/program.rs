//! The same domain controller through the built program: `daybook user sync`, and a server whose directory comes and goes.

use super::super::support::{Outcome, Site, USERS as FILE_USERS, wait_until};
use super::samba::{Samba, USERS, group};
use super::*;
use serde_json::Value;

/// Those that one change takes away: more than may go at once.
const TOO_MANY: usize = 300;

fn site(samba: &Samba, keys: &str) -> Site {
    let section = format!(
        "[[directory]]\nkind = \"ldap\"\nname = \"ad\"\nhost = \"{}\"\nca_file = \"{}\"\nbind_dn = \"{}\"\n\
         password_file = \"ldap-password\"\nbase = \"{}\"\nevery_minutes = 0\n{keys}",
        samba.settings().host,
        samba.path("ca.pem").display(),
        samba::READER,
        samba::BASE,
    );
    let site = Site::with("", FILE_USERS);
    let text = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let file = "[[directory]]\nkind = \"file\"\npath = \"users.toml\"\n";
    assert!(text.contains(file));
    site.write("daybook.toml", &text.replace(file, &section));
    site.write("ldap-password", samba::PASSWORD);
    site.run(&["mailbox", "create", "--name", "Corp"]).expect(0);
    site
}

/// Runs it, again while the server itself is asking.
fn sync(site: &Site, arguments: &[&str], code: i32) -> Value {
    let arguments = [&["user", "sync"], arguments, &["--json"]].concat();
    let mut done = None;
    wait_until("nobody else reads the directory", || {
        let outcome = site.run(&arguments);
        let is_free = !format!("{outcome:?}").contains("is being read already");
        done = is_free.then_some(outcome);
        is_free
    });
    json(&done.unwrap().expect(code))
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

fn report(outcome: &Value) -> &Value {
    &outcome["sources"][0]
}

/// Whose an address is, by the names of users.
fn owner(site: &Site, address: &str) -> Option<String> {
    let found = json(&site.run(&["user", "find", address, "--json"]));
    let owner = found.as_array()?.iter().find(|found| found["claim"] == "owner")?;
    owner["name"].as_str().map(str::to_owned)
}

/// Filters say whom they leave out and why, before anything is in force.
pub(super) fn filters_are_told_with_reasons(samba: &Samba) {
    let keys = format!("enabled_only = true\ngroups = [\"{}\"]\n", group("Journaled"));
    let outcome = sync(&site(samba, &keys), &["--dry-run"], 0);
    let report = report(&outcome);
    assert_eq!(report["outcome"]["result"], "would-apply", "{report}");
    // Of 300 members six are disabled; three of those are shared mailboxes, which stay.
    assert_eq!(report["users"], 297, "{report}");
    let filtered = report["filtered"].as_array().unwrap();
    let told = filtered.len() as u64 + report["more_filtered"].as_u64().unwrap();
    assert_eq!(told, USERS as u64 - 297);
    let because = |reason: &str| filtered.iter().filter(|out| out["reason"] == reason).count();
    assert_eq!(because("account is disabled"), 3, "{report}");
    assert!(because("not in any of the groups") > 0);
    let shared: Vec<&Value> = filtered.iter().filter(|out| out["is_shared"] == true).collect();
    assert_eq!(shared.len(), USERS / 100 - 3, "shared mailboxes that are left out come first: {report}");
}

/// A server, with changes, removals, too many removals, a wrong password, and the directory gone while it starts.
pub(super) fn a_server_keeps_what_it_has(samba: &mut Samba) {
    let site = site(samba, "");
    let mut server = site.serve();
    let first = sync(&site, &["ad"], 0);
    assert_eq!(report(&first)["users"], USERS, "{first}");
    println!("daybook user sync: {} users, {} ms", report(&first)["users"], report(&first)["took_ms"]);

    samba.move_alias(5, 6);
    let moved = sync(&site, &["ad"], 0);
    let diff = &report(&moved)["diff"];
    assert_eq!(diff["addresses_moved"]["count"], 1, "{diff}");
    assert_eq!(owner(&site, "alias0005@x.example").as_deref(), Some("User Number 6"));

    samba.delete(8..9);
    let removed = sync(&site, &["ad"], 0);
    assert_eq!(
        (&report(&removed)["users"], &report(&removed)["diff"]["removed"]["count"]),
        (&(USERS - 1).into(), &1.into())
    );
    let gone = site.run(&["user", "find", "user0008@x.example"]).expect(0).stdout;
    assert!(gone.contains("User Number 8"), "{gone}");

    samba.delete(400..400 + TOO_MANY);
    let waiting = sync(&site, &["ad"], 4);
    assert_eq!(report(&waiting)["outcome"]["result"], "pending", "{waiting}");
    assert_eq!(owner(&site, "user0400@x.example").as_deref(), Some("User Number 400"));

    site.write("ldap-password", "wrong");
    let refused = sync(&site, &["ad"], 3);
    let fault = &report(&refused)["outcome"];
    assert_eq!(fault["kind"], "refused", "{refused}");
    assert!(fault["advice"].as_str().unwrap().contains("password is wrong"), "{refused}");
    site.write("ldap-password", samba::PASSWORD);

    samba.stop();
    assert_eq!(report(&sync(&site, &["ad"], 3))["outcome"]["kind"], "unreachable");
    assert_eq!(server.terminate(), 0);
    drop(server);
    fs::remove_file(site.path("data/ports.json")).ok();
    // It starts without its directory, with everybody it knew.
    let mut server = site.serve();
    assert_eq!(owner(&site, "alias0005@x.example").as_deref(), Some("User Number 6"));
    assert_eq!(owner(&site, "user0400@x.example").as_deref(), Some("User Number 400"));
    samba.run();
    let plans = json(&site.run(&["user", "plans", "--json"]).expect(0));
    let plan = plans[0]["plan"].as_str().unwrap_or_else(|| panic!("{plans}")).to_owned();
    sync(&site, &["--apply", &plan], 0);
    assert_eq!(owner(&site, "user0400@x.example"), None);
    assert_eq!(report(&sync(&site, &["ad"], 0))["users"], USERS - 1 - TOO_MANY);
    assert_eq!(server.terminate(), 0);
}
