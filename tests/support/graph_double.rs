//! Microsoft Graph on loopback, with the token endpoint of its cloud: answers in the shape of Microsoft's documentation (users,
//! groups, transitive members, paging, errors), and faults at wish.
//!
//! Take it in beside `support/http_double.rs` and `support/entra_double.rs`, which it answers for:
//! `#[path = "support/graph_double.rs"] mod graph_double;`.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::entra_double::{self, CLIENT, Login, SECRET, TENANT, graph_refusal};
use super::http_double::{self, Asked, Reply};
use daybook::config::{Cloud, EntraApp, EntraCredential, SecretSource};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Plans as a user with Microsoft 365 E3 has them, one of them ended.
const PLANS: &str = r#"[
    {"assignedDateTime":"2024-03-01T09:00:00Z","capabilityStatus":"Enabled","service":"exchange","servicePlanId":"efb87545-963c-4e0d-99df-69c6916d9eb0"},
    {"assignedDateTime":"2024-03-01T09:00:00Z","capabilityStatus":"Enabled","service":"SharePoint","servicePlanId":"5dbe027f-2339-4123-9542-606e4d348a72"},
    {"assignedDateTime":"2023-03-01T09:00:00Z","capabilityStatus":"Deleted","service":"MicrosoftCommunicationsOnline","servicePlanId":"0feaeb32-d00e-4d66-bd5a-43b5b83db82c"}]"#;

/// Who there is.
pub(crate) enum People {
    /// These.
    Listed(Vec<Value>),
    /// So many as [`person`] makes them, not before they are asked for.
    Made(usize),
}

impl People {
    fn count(&self) -> usize {
        match self {
            People::Listed(users) => users.len(),
            People::Made(count) => *count,
        }
    }

    fn user(&self, n: usize) -> Value {
        match self {
            People::Listed(users) => users[n].clone(),
            People::Made(_) => person(n),
        }
    }
}

/// The nth person: enabled, with an Exchange plan, a primary address and two more.
pub(crate) fn person(n: usize) -> Value {
    json!({
        "id": person_id(n),
        "userPrincipalName": format!("user{n}@contoso.example"),
        "displayName": format!("User {n}"),
        "mail": format!("user{n}@contoso.example"),
        "proxyAddresses": [
            format!("x500:/o=ExchangeLabs/ou=Exchange Administrative Group/cn=Recipients/cn={n:08x}-user{n}"),
            format!("smtp:user{n}@contoso.onmicrosoft.example"),
            format!("SMTP:user{n}@contoso.example"),
            format!("SIP:user{n}@contoso.example"),
        ],
        "otherMails": [],
        "accountEnabled": true,
        "userType": "Member",
        "assignedPlans": serde_json::from_str::<Value>(PLANS).unwrap(),
    })
}

pub(crate) fn person_id(n: usize) -> String {
    format!("{n:08x}-d98f-4d05-8e0e-3a1c1bb4a5e9")
}

/// A group.
#[derive(Clone, Default)]
pub(crate) struct Group {
    pub(crate) id: String,
    /// Ids of users in it, and of groups.
    pub(crate) members: Vec<String>,
    /// A Microsoft 365 group, with this address.
    pub(crate) mail: Option<String>,
    /// `Public`, `Private` or `HiddenMembership`.
    pub(crate) visibility: Option<String>,
}

impl Group {
    fn shown(&self) -> Value {
        let proxies = self.mail.iter().map(|mail| format!("SMTP:{mail}"));
        json!({
            "id": self.id,
            "displayName": format!("Group {}", self.id),
            "groupTypes": if self.mail.is_some() { json!(["Unified"]) } else { json!([]) },
            "mail": self.mail,
            "mailEnabled": self.mail.is_some(),
            "proxyAddresses": proxies.collect::<Vec<String>>(),
            "securityEnabled": self.mail.is_none(),
            "visibility": self.visibility,
        })
    }
}

type Twist = Box<dyn Fn(&mut Value) + Send + Sync>;

/// A tenant, seen by one application.
pub(crate) struct Graph {
    pub(crate) login: Login,
    host: String,
    pub(crate) people: Mutex<People>,
    pub(crate) groups: Mutex<Vec<Group>>,
    /// Answers in place of a page of users, counted from 1, so many times.
    faults: Mutex<BTreeMap<usize, (usize, Reply)>>,
    /// What is done to a page of users before it is sent.
    twists: Mutex<BTreeMap<usize, Twist>>,
    /// Everything asked of Graph.
    asked: Mutex<Vec<Asked>>,
}

impl Default for Graph {
    fn default() -> Graph {
        Graph::of(Cloud::Global)
    }
}

impl Graph {
    /// A tenant of this cloud, with nobody in it.
    pub(crate) fn of(cloud: Cloud) -> Graph {
        Graph {
            login: Login { host: cloud.login_host().to_owned(), ..Login::default() },
            host: cloud.graph_host().to_owned(),
            people: Mutex::new(People::Listed(Vec::new())),
            groups: Mutex::default(),
            faults: Mutex::default(),
            twists: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// With so many people.
    pub(crate) fn with_people(count: usize) -> Graph {
        Graph { people: Mutex::new(People::Made(count)), ..Graph::default() }
    }

    /// With these users, each as the fields in which it differs from the nth person.
    pub(crate) fn with_users(users: &[Value]) -> Graph {
        let graph = Graph::default();
        graph.set_users(users);
        graph
    }

    /// From now on these are all there are, each as the fields in which it differs from the nth person.
    pub(crate) fn set_users(&self, users: &[Value]) {
        let users = users.iter().enumerate().map(|(n, fields)| {
            let mut user = person(n);
            user.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            user
        });
        *self.people.lock().unwrap() = People::Listed(users.collect());
    }

    /// Answers until the test ends.
    pub(crate) fn start(self) -> (Arc<Graph>, SocketAddr) {
        let graph = Arc::new(self);
        let answering = Arc::clone(&graph);
        let address = http_double::start(move |asked| {
            answering.login.answer(asked).unwrap_or_else(|| answering.answer(asked))
        });
        (graph, address)
    }

    /// Answers so in place of a page of users, counted from 1, so many times.
    pub(crate) fn fault(&self, page: usize, times: usize, reply: Reply) {
        self.faults.lock().unwrap().insert(page, (times, reply));
    }

    /// A page of users, counted from 1, fails from now on, in a way that is not waited for.
    pub(crate) fn break_page(&self, page: usize) {
        let down = graph_refusal(503, "serviceNotAvailable", "The service is temporarily unavailable.");
        self.fault(page, usize::MAX, down.with("Retry-After", "3600"));
    }

    /// Changes a page of users, counted from 1, before it is sent.
    pub(crate) fn twist(&self, page: usize, twist: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.twists.lock().unwrap().insert(page, Box::new(twist));
    }

    /// Takes every fault back.
    pub(crate) fn mend(&self) {
        self.faults.lock().unwrap().clear();
        self.twists.lock().unwrap().clear();
        self.login.script.lock().unwrap().clear();
    }

    /// Refuses every token from now on: the secret has ended.
    pub(crate) fn expire_secret(&self) {
        let text = "The provided client secret keys for app '00001111-aaaa-2222-bbbb-3333cccc4444' are expired. Visit the Azure \
                    portal to create new keys for your app, or consider using certificate credentials for added security.";
        let refusal = || entra_double::refusal(401, "invalid_client", 7_000_222, text);
        self.login.script.lock().unwrap().extend(std::iter::repeat_with(refusal).take(100));
    }

    /// What was asked of Graph since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn answer(&self, asked: &Asked) -> Reply {
        // Whether the application may read itself, to know when its secret ends, is asked beside everything else: it may not.
        if asked.path().starts_with("/v1.0/applications") {
            return denied();
        }
        self.asked.lock().unwrap().push(asked.clone());
        assert_eq!((asked.method.as_str(), asked.header("host")), ("GET", self.host.as_str()));
        assert_eq!(asked.header("x-ms-throttle-priority"), "low");
        if !self.login.is_good(asked.bearer()) {
            return graph_refusal(
                401,
                "InvalidAuthenticationToken",
                "Access token has expired or is not yet valid.",
            );
        }
        let path: Vec<&str> = asked.path().split('/').skip(1).collect();
        match path.as_slice() {
            ["v1.0", "users"] => self.users(asked),
            ["v1.0", "groups"] => self.unified(asked),
            ["v1.0", "groups", id] => self.group(asked, id),
            ["v1.0", "groups", id, "transitiveMembers", "microsoft.graph.user"] => self.members(asked, id),
            _ => graph_refusal(400, "BadRequest", &format!("Resource not found for the segment '{path:?}'.")),
        }
    }

    fn may(&self, permission: &str) -> Result<(), Reply> {
        if self.login.roles.iter().any(|role| role == permission) { Ok(()) } else { Err(denied()) }
    }

    fn users(&self, asked: &Asked) -> Reply {
        let page = first_of(asked) / top(asked) + 1;
        if let Some((times, reply)) = self.faults.lock().unwrap().get_mut(&page)
            && *times > 0
        {
            *times -= 1;
            return reply.clone();
        }
        if let Err(denied) = self.may("User.Read.All") {
            return denied;
        }
        let people = self.people.lock().unwrap();
        let mut answer = self.page(asked, "users", people.count(), |n| people.user(n));
        if let Some(twist) = self.twists.lock().unwrap().get(&page) {
            twist(&mut answer);
        }
        Reply::json(200, answer.to_string())
    }

    fn unified(&self, asked: &Asked) -> Reply {
        if let Err(denied) = self.may("GroupMember.Read.All") {
            return denied;
        }
        assert_eq!(asked.query("$filter").as_deref(), Some("groupTypes/any(c:c eq 'Unified')"));
        let groups = self.groups.lock().unwrap();
        let unified: Vec<&Group> = groups.iter().filter(|group| group.mail.is_some()).collect();
        Reply::json(200, self.page(asked, "groups", unified.len(), |n| unified[n].shown()).to_string())
    }

    fn group(&self, asked: &Asked, id: &str) -> Reply {
        if let Err(denied) = self.may("GroupMember.Read.All") {
            return denied;
        }
        let groups = self.groups.lock().unwrap();
        match groups.iter().find(|group| group.id == id) {
            Some(group) => Reply::json(200, Value::Object(selected(asked, &group.shown())).to_string()),
            None => absent(id),
        }
    }

    fn members(&self, asked: &Asked, id: &str) -> Reply {
        if asked.header("consistencylevel") != "eventual" || asked.query("$count").as_deref() != Some("true")
        {
            return graph_refusal(
                400,
                "Request_UnsupportedQuery",
                "The specified query requires the ConsistencyLevel header and $count.",
            );
        }
        let groups = self.groups.lock().unwrap();
        let Some(group) = groups.iter().find(|group| group.id == id) else { return absent(id) };
        let mut users = Vec::new();
        if group.visibility.as_deref() != Some("HiddenMembership") {
            gather(&groups, group, &mut Vec::new(), &mut users);
        }
        let member = |n: usize| json!({ "@odata.type": "#microsoft.graph.user", "id": users[n] });
        let mut answer = self.page(asked, "users", users.len(), member);
        if first_of(asked) == 0 {
            answer["@odata.count"] = json!(users.len());
        }
        Reply::json(200, answer.to_string())
    }

    /// The page that is asked for, with a link to the next one where there is one.
    fn page(&self, asked: &Asked, what: &str, count: usize, entry: impl Fn(usize) -> Value) -> Value {
        let select = asked.query("$select").unwrap();
        let (first, top) = (first_of(asked), top(asked));
        let next = (first + top).min(count);
        let entries: Vec<Value> = (first..next).map(|n| Value::Object(selected(asked, &entry(n)))).collect();
        let mut page = json!({
            "@odata.context": format!("https://{}/v1.0/$metadata#{what}({select})", self.host),
            "value": entries,
        });
        if next < count {
            let query = asked.target.split_once('?').unwrap().1;
            let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("$skiptoken=")).collect();
            let link =
                format!("https://{}{}?{}&$skiptoken=RFNwdA{next}", self.host, asked.path(), kept.join("&"));
            page["@odata.nextLink"] = json!(link);
        }
        page
    }
}

/// Every user in a group, also by way of groups in it, each once.
fn gather(groups: &[Group], group: &Group, within: &mut Vec<String>, users: &mut Vec<String>) {
    within.push(group.id.clone());
    for member in &group.members {
        match groups.iter().find(|group| group.id == *member) {
            Some(inner) if !within.contains(&inner.id) => gather(groups, inner, within, users),
            Some(_) => {}
            None if !users.contains(member) => users.push(member.clone()),
            None => {}
        }
    }
}

fn selected(asked: &Asked, entry: &Value) -> Map<String, Value> {
    let fields = asked.query("$select").unwrap();
    let shown = |name: &&str| entry.get(*name).is_some();
    let fields = fields.split(',').chain(["@odata.type"]).filter(shown);
    fields.map(|name| (name.to_owned(), entry[name].clone())).collect()
}

/// Where a page begins.
fn first_of(asked: &Asked) -> usize {
    let token = asked.query("$skiptoken");
    token.map_or(0, |token| token.strip_prefix("RFNwdA").and_then(|place| place.parse().ok()).unwrap())
}

fn top(asked: &Asked) -> usize {
    let top = asked.query("$top").unwrap().parse().unwrap();
    assert!((1..=999).contains(&top), "$top={top}");
    top
}

fn denied() -> Reply {
    graph_refusal(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
}

fn absent(id: &str) -> Reply {
    let text = format!(
        "Resource '{id}' does not exist or one of its queried reference-property objects are not present."
    );
    graph_refusal(404, "Request_ResourceNotFound", &text)
}

/// Writes the secret to a file in `folder` that nobody else can read.
pub(crate) fn secret_file(folder: &Path) -> PathBuf {
    let path = folder.join("graph-secret");
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    std::io::Write::write_all(&mut file, SECRET.as_bytes()).unwrap();
    path
}

/// The application, as configured, with its secret in `folder`.
pub(crate) fn app(cloud: Cloud, address: SocketAddr, folder: &Path) -> EntraApp {
    let secret = SecretSource::File(secret_file(folder));
    EntraApp {
        cloud,
        tenant: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        credential: EntraCredential::Secret { secret, expires_day: None },
        proxy: None,
        ca_file: None,
        loopback: Some(address),
    }
}

/// The same as a section of a configuration, whose further lines are `further`.
pub(crate) fn section(address: SocketAddr, folder: &Path, further: &str) -> String {
    format!(
        "[[directory]]\nkind = \"graph\"\ntenant = \"{TENANT}\"\nclient_id = \"{CLIENT}\"\nsecret_file = \"{}\"\n\
         loopback = \"{address}\"\n{further}\n",
        secret_file(folder).display()
    )
}
