//! Every metric and label that the alert rules, the dashboard and the table in the source name is there.

use crate::http::Scrape;
use crate::support::{Site, USERS, corpus};
use crate::{create, port};
use std::collections::{BTreeMap, BTreeSet};

const TABLE: &str = include_str!("../../src/observe/metrics/mod.rs");
const RULES: &str = include_str!("../../config/prometheus-alerts.yml");
const DASHBOARD: &str = include_str!("../../config/grafana-dashboard.json");

/// A scrape of a server in which everything has happened that makes a metric appear.
fn scrape() -> Scrape {
    let absent = "[[directory]]\nkind = \"file\"\nname = \"absent\"\npath = \"absent.toml\"\n";
    let entra = "[[directory]]\nkind = \"graph\"\ntenant = \"contoso.example\"\nclient_id = \"00001111-aaaa-2222-bbbb-3333cccc4444\"\n\
                 secret_file = \"entra-password\"\nsecret_expires = \"2126-03-01\"\nloopback = \"127.0.0.1:1\"\nevery_minutes = 0\n";
    let puller = "[[puller]]\nname = \"outside\"\nmailbox = \"mbx-none\"\nhost = \"localhost\"\nlogin = \"ndr\"\n\
                  password_file = \"outside.password\"\n";
    let site = Site::with(&[absent, entra, puller].concat(), USERS);
    site.write("outside.password", "never sent");
    let account = create(&site, "Contoso");
    let server = site.serve();
    site.run(&["user", "sync", "absent"]).expect(3);
    assert!(server.send(&account.address, &corpus("demo/report.eml")).starts_with("250 "));
    server.pop3s(&account.login, &account.password).unwrap().quit();
    site.run(&["scrub", "--now"]).expect(0);
    server.wait_for("store.scrubbed");
    site.run(&["retention", "run"]).expect(0);
    // Looks at credentials, too.
    site.run(&["status"]);
    Scrape::of(port(&server))
}

/// Words that begin with `daybook_`.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|w| w.starts_with("daybook_")).map(str::to_owned).collect()
}

/// Labels in `{…}` behind a metric: its name and theirs.
fn selected_in(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (before, behind) in expression.match_indices('{').map(|(at, _)| expression.split_at(at)) {
        let metric = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        let inside = behind.trim_start_matches('{').split('}').next().unwrap();
        let labels = inside.split(',').map(|part| part.split(['=', '!']).next().unwrap().trim().to_owned());
        found.push((metric.to_owned(), labels.collect()));
    }
    found
}

/// Labels of `by (…)` and `on (…)`.
fn grouped_in(expression: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for keyword in ["by (", "on ("] {
        for (at, _) in expression.match_indices(keyword) {
            let inside = expression.split_at(at + keyword.len()).1.split(')').next().unwrap();
            labels.extend(
                inside.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()),
            );
        }
    }
    labels
}

/// What Prometheus adds to every series it scrapes.
fn is_added(label: &str) -> bool {
    ["instance", "job"].contains(&label)
}

/// Fails on a metric or label of `expression` that is not there; `shown` are labels that are shown of its result.
fn check(expression: &str, shown: &[String], labels: &BTreeMap<String, BTreeSet<String>>) {
    let mut known = BTreeSet::new();
    for metric in metrics_in(expression) {
        let of_it = labels.get(&metric).unwrap_or_else(|| panic!("there is no {metric}: {expression}"));
        known.extend(of_it.iter().cloned());
    }
    for (metric, selected) in selected_in(expression) {
        for label in selected.iter().filter(|label| !is_added(label)) {
            assert!(labels[&metric].contains(label), "{metric} has no label {label}: {expression}");
        }
    }
    for label in grouped_in(expression).iter().chain(shown).filter(|label| !is_added(label)) {
        assert!(known.contains(label), "no label {label}: {expression}");
    }
}

/// The rules, each with its name, expression and annotations.
fn rules() -> Vec<(String, String, Vec<String>)> {
    let blocks = RULES.split("      - alert: ").skip(1);
    let rule = |block: &str| {
        let name = block.lines().next().unwrap().to_owned();
        let (_, rest) = block.split_once("        expr: ").unwrap_or_else(|| panic!("{name} has no expr"));
        // What is further in belongs to the expression.
        let end = rest.match_indices("\n        ").find(|(at, _)| !rest.split_at(at + 9).1.starts_with(' '));
        let (expression, rest) = rest.split_at(end.unwrap_or_else(|| panic!("{name} has only an expr")).0);
        let annotation = |key: &str| {
            let found = rest.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: \"")));
            let text = found.and_then(|text| text.strip_suffix('"')).unwrap_or_default();
            assert!(text.len() > 20, "{name} needs a {key}");
            text.to_owned()
        };
        let annotations = vec![annotation("summary"), annotation("description")];
        assert!(rest.contains("severity: critical") || rest.contains("severity: warning"), "{name}");
        (name, expression.to_owned(), annotations)
    };
    blocks.map(rule).collect()
}

/// Labels that a text of a rule shows: `{{ $labels.name }}`.
fn shown_in(text: &str) -> Vec<String> {
    let behind = text.split("$labels.").skip(1);
    behind
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_alert_rules_name_what_is_there_and_say_what_to_do() {
    let labels = scrape().labels();
    let rules = rules();
    assert!(rules.len() > 15, "{rules:?}");
    let mut names = BTreeSet::new();
    for (name, expression, annotations) in rules {
        if expression != "up{job=\"daybook\"} == 0" {
            assert!(!metrics_in(&expression).is_empty(), "{name}: {expression}");
            let shown: Vec<String> = annotations.iter().flat_map(|text| shown_in(text)).collect();
            check(&expression, &shown, &labels);
        }
        assert!(names.insert(name.clone()), "{name} stands twice");
    }
    assert_eq!(metrics_in(RULES).difference(&labels.into_keys().collect()).next(), None);
}

#[test]
fn the_dashboard_names_what_is_there() {
    let labels = scrape().labels();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut expressions = 0;
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "id {} stands twice", panel["id"]);
        let Some(targets) = panel["targets"].as_array() else { continue };
        assert!(
            !panel["title"].as_str().unwrap().is_empty()
                && !panel["description"].as_str().unwrap().is_empty()
        );
        for target in targets {
            let legend = target["legendFormat"].as_str().unwrap();
            let shown = legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().to_owned());
            check(target["expr"].as_str().unwrap(), &shown.collect::<Vec<_>>(), &labels);
            expressions += 1;
        }
    }
    assert!(expressions > 30, "{expressions}");
    let names: BTreeSet<String> = labels.into_keys().collect();
    assert_eq!(metrics_in(DASHBOARD).difference(&names).next(), None);
    // What is measured is worth a look: the dashboard leaves nothing out.
    let shown = metrics_in(DASHBOARD);
    let bare =
        |name: &str| ["_bucket", "_sum", "_count"].iter().fold(name.to_owned(), |n, s| n.replace(s, ""));
    let shown: BTreeSet<String> = shown.iter().map(|name| bare(name)).collect();
    let measured: BTreeSet<String> = names.iter().map(|name| bare(name)).collect();
    assert_eq!(measured.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_table_lists_every_metric_with_its_labels() {
    let scrape = scrape();
    let labels = scrape.labels();
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("//! | `daybook_"));
    let mut listed = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, of_it, meaning] = cells.as_slice() else { panic!("{row}") };
        let name = format!("daybook_{}", name.trim_end_matches('`'));
        assert!(meaning.len() > 10, "{row}");
        let of_it: BTreeSet<String> =
            of_it.split(", ").map(|label| label.trim().trim_matches('`').to_owned()).collect();
        let sample = match scrape.families.get(&name).map(String::as_str) {
            Some("histogram") => format!("{name}_count"),
            _ => name.clone(),
        };
        let shown = labels.get(&sample).unwrap_or_else(|| panic!("there is no {name}"));
        assert_eq!(of_it.into_iter().filter(|label| label != "–").collect::<BTreeSet<_>>(), *shown, "{name}");
        assert!(listed.insert(name), "{row} stands twice");
    }
    assert_eq!(listed, scrape.families.into_keys().collect());
}
