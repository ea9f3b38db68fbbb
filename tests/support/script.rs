//! A directory that says what a test wants.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part; a test that cannot go on has failed"
)]

use daybook::config::DirectorySource;
use daybook::directory::{
    Candidate, CandidateKind, Directory, Listing, Outcome, ProxyAddress, Source, SourceError, SyncMode,
    SyncReport, Trigger,
};
use daybook::mail::Address;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What the directory says when it is asked.
type Answer = Box<dyn Fn() -> Result<Listing, SourceError> + Send>;

/// A directory that says what it was told to.
#[derive(Clone)]
pub(crate) struct Script(Arc<Mutex<Answer>>);

impl Script {
    pub(crate) fn new() -> Script {
        Script(Arc::new(Mutex::new(Box::new(|| Err(SourceError::Unreachable("not yet".to_owned()))))))
    }

    pub(crate) fn answers(&self, answer: impl Fn() -> Result<Listing, SourceError> + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn says(&self, candidates: &[Candidate]) {
        let listing = listing(candidates);
        self.answers(move || Ok(listing.clone()));
    }
}

impl Source for Script {
    fn read(&self, go_on: &dyn Fn() -> bool) -> Result<Listing, SourceError> {
        if go_on() { (self.0.lock().unwrap())() } else { Err(SourceError::Stopped) }
    }
}

pub(crate) fn person(id: &str, addresses: &[&str]) -> Candidate {
    let (primary, aliases) = addresses.split_first().unwrap();
    Candidate {
        id: id.to_owned(),
        name: id.to_uppercase(),
        primary: Some(Address::parse(primary).unwrap()),
        aliases: aliases.iter().map(|text| ProxyAddress::parse(text).unwrap()).collect(),
        kind: CandidateKind::User,
        enabled: Some(true),
        licensed: Some(true),
        groups: Vec::new(),
    }
}

/// So many people, from this number on.
pub(crate) fn people(from: usize, to: usize) -> Vec<Candidate> {
    (from..to).map(|n| person(&format!("u{n:03}"), &[&format!("u{n}@x.example")])).collect()
}

pub(crate) fn configured(name: &str) -> DirectorySource {
    // Asked over the network, as far as the directory knows.
    let text = format!(
        "hostname = 'gw.example'\ndomains = ['gw.example']\ndata_dir = 'none'\n[[directory]]\nkind = 'ldap'\nname = '{name}'\n\
         host = 'dc.example'\nbind_dn = 'reader'\npassword_env = 'NONE'\nbase = 'DC=x'\n"
    );
    daybook::config::parse(&text, Path::new("daybook.toml")).unwrap().directories.remove(0)
}

/// A directory with one source, called `corp`.
pub(crate) fn open(script: &Script, data_dir: Option<&Path>) -> Directory {
    open_all(&[configured("corp")], data_dir, std::slice::from_ref(script))
}

pub(crate) fn open_all(
    sources: &[DirectorySource],
    data_dir: Option<&Path>,
    scripts: &[Script],
) -> Directory {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let scripts = scripts.to_vec();
    let make = move |source: &DirectorySource| {
        let place = names.iter().position(|name| *name == source.name).unwrap();
        Box::new(scripts[place].clone()) as Box<dyn Source>
    };
    let (directory, report) = Directory::open_with(sources, data_dir, make);
    assert!(report.taken && report.is_good());
    directory
}

pub(crate) fn sync(directory: &Directory) -> SyncReport {
    directory.sync("corp", SyncMode::Apply, Trigger::Schedule, &|| true).unwrap()
}

/// Ids of the users in force.
pub(crate) fn in_force(directory: &Directory) -> Vec<String> {
    let roll = directory.roll("corp");
    roll.map(|roll| roll.users.iter().map(|user| user.id.clone()).collect()).unwrap_or_default()
}

pub(crate) fn pending(report: &SyncReport) -> String {
    match &report.outcome {
        Outcome::Pending { plan, .. } => plan.clone(),
        other => panic!("nothing waits: {other:?}"),
    }
}

/// A directory that has begun to answer, and what makes it go on.
pub(crate) fn blocked(
    script: &Script,
    says: impl Fn() -> Result<Listing, SourceError> + Send + 'static,
) -> (Receiver<()>, Sender<()>) {
    let (begun, has_begun) = channel();
    let (go_on, told) = channel::<()>();
    script.answers(move || {
        begun.send(()).ok();
        told.recv().ok();
        says()
    });
    (has_begun, go_on)
}

/// What a directory says that is good.
pub(crate) fn listing(candidates: &[Candidate]) -> Listing {
    Listing { candidates: candidates.to_vec(), requests: 1, ..Listing::default() }
}
