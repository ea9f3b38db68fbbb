//! The door to all maildrops under guesses: who is checked, who waits, and what is told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "support/log_lines.rs"]
mod log_lines;

use daybook::fetch::auth::{LoginRefusal, Logins, Password};
use daybook::fetch::backoff::LOGIN_FAILURES_MAX;
use daybook::fetch::folders::{Account, Folder, FolderInfo, Folders};
use daybook::fetch::lock::SESSIONS_MAX;
use daybook::fetch::maildrop::{Client, FetchError, LoginError, Maildrop, Maildrops, UnlockedMaildrop};
use daybook::fetch::turns::{PASSWORD_CHECKS_MAX, WAITING_PER_NETWORK_MAX};
use daybook::mail::{GatewayMailboxId, SessionId};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Knows the logins `right…`, all of one gateway mailbox, with the password `right`; takes its time for each.
#[derive(Clone, Default)]
struct Slow {
    takes: Duration,
    /// Whose password was checked, in order.
    checked: Arc<Mutex<Vec<String>>>,
}

impl Slow {
    fn count(&self) -> usize {
        self.checked.lock().unwrap().len()
    }
}

impl Maildrops for Slow {
    fn unlock(
        &self,
        login: &str,
        password: &str,
        _client: &Client,
    ) -> Result<Box<dyn UnlockedMaildrop>, LoginError> {
        self.checked.lock().unwrap().push(login.to_owned());
        std::thread::sleep(self.takes);
        match login.starts_with("right") && password == "right" {
            true => Ok(Box::new(NoMail)),
            false => Err(LoginError::Wrong),
        }
    }
}

struct NoMail;

impl UnlockedMaildrop for NoMail {
    fn mailbox(&self) -> GatewayMailboxId {
        GatewayMailboxId::new(1, [1; 10])
    }

    fn login(&self) -> String {
        "right".to_owned()
    }

    fn open(self: Box<Self>) -> Result<Arc<dyn Maildrop>, LoginError> {
        Err(LoginError::Unavailable)
    }

    fn folders(self: Box<Self>) -> Result<Arc<dyn Folders>, LoginError> {
        Ok(Arc::new(NoMail))
    }
}

impl Folders for NoMail {
    fn account(&self) -> Result<Account, FetchError> {
        Err(FetchError::Gone)
    }

    fn list(&self) -> Result<Vec<FolderInfo>, FetchError> {
        Ok(Vec::new())
    }

    fn status(&self, _path: &str) -> Result<Option<FolderInfo>, FetchError> {
        Ok(None)
    }

    fn open(&self, _path: &str) -> Result<Option<Arc<dyn Folder>>, FetchError> {
        Ok(None)
    }
}

fn client(peer: &str) -> Client {
    Client { protocol: "imap", peer: peer.parse().unwrap(), session_id: SessionId::new(1, [1; 10]) }
}

fn door(slow: &Slow) -> Arc<Logins> {
    Arc::new(Logins::with_first_wait(Arc::new(slow.clone()), Duration::ZERO))
}

async fn log_in(logins: &Logins, login: &str, password: &str, peer: &str) -> Result<(), LoginRefusal> {
    logins.folders(login, Password::new(password), &client(peer)).await.map(drop)
}

#[tokio::test]
async fn a_flood_of_guesses_does_not_keep_a_poller_waiting() {
    let slow = Slow { takes: Duration::from_millis(20), ..Slow::default() };
    let logins = door(&slow);
    let mut flood = Vec::new();
    for network in 0..3 {
        for number in 0..WAITING_PER_NETWORK_MAX + PASSWORD_CHECKS_MAX {
            let logins = Arc::clone(&logins);
            flood.push(tokio::spawn(async move {
                let login = format!("guess{network}-{number}");
                log_in(&logins, &login, "x", &format!("198.51.{network}.{number}")).await
            }));
        }
    }
    while slow.count() < PASSWORD_CHECKS_MAX {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert_eq!(log_in(&logins, "right", "right", "192.0.2.1").await, Ok(()));
    let at = slow.checked.lock().unwrap().iter().position(|login| login == "right").unwrap();
    // One of each network that was there before, and what began meanwhile.
    assert!(at <= 8, "{at} were checked before the poller");
    for guess in flood {
        assert!(guess.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn guesses_are_refused_unchecked_in_the_same_words_and_lock_nobody_else_out() {
    let log = log_lines::Log::default();
    let _guard = log.listen();
    let slow = Slow::default();
    let logins = door(&slow);
    for _ in 0..3 * LOGIN_FAILURES_MAX {
        assert_eq!(log_in(&logins, "right", "x", "198.51.100.1").await, Err(LoginRefusal::Wrong));
    }
    assert_eq!(slow.count(), LOGIN_FAILURES_MAX as usize);
    // By another name of the same, from another host of the same network, with the right password.
    for name in ["right", "RIGHT@gateway.example"] {
        let tried = log_in(&logins, name, "right", "198.51.100.200").await;
        assert_eq!(tried, Err(LoginRefusal::Wrong));
    }
    assert_eq!(slow.count(), LOGIN_FAILURES_MAX as usize);
    assert_eq!(log_in(&logins, "right", "right", "192.0.2.1").await, Ok(()));
    // The poller's own network: wrong for long, and right at once.
    for _ in 0..3 * LOGIN_FAILURES_MAX {
        assert_eq!(log_in(&logins, "right", "old", "192.0.2.1").await, Err(LoginRefusal::Wrong));
    }
    assert_eq!(log_in(&logins, "right", "right", "192.0.2.9").await, Ok(()));

    let lines = log.lines();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!(of("auth.failed"), 4 * LOGIN_FAILURES_MAX as usize);
    assert_eq!(of("auth.backed_off"), 1);
    let told = lines.iter().find(|line| line["event"] == "auth.backed_off").unwrap();
    assert_eq!((&told["network"], &told["protocol"]), (&"198.51.100.0/24".into(), &"imap".into()));
}

#[tokio::test]
async fn a_refusal_takes_its_time_and_a_login_that_is_right_does_not() {
    let first_wait = Duration::from_millis(100);
    let logins = Logins::with_first_wait(Arc::new(Slow::default()), first_wait);
    for doublings in 0..3 {
        let began = Instant::now();
        assert_eq!(log_in(&logins, "right", "x", "192.0.2.1").await, Err(LoginRefusal::Wrong));
        assert!(began.elapsed() >= first_wait * (1 << doublings));
    }
    let began = Instant::now();
    assert_eq!(log_in(&logins, "right", "right", "192.0.2.1").await, Ok(()));
    assert!(began.elapsed() < first_wait * 8, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_gateway_mailbox_has_so_many_sessions_and_no_more() {
    let logins = door(&Slow::default());
    let mut open = Vec::new();
    for number in 0..SESSIONS_MAX {
        let name = format!("right{number}");
        let entered = logins.folders(&name, Password::new("right"), &client("192.0.2.1")).await;
        assert!(entered.is_ok(), "there is room");
        open.push(entered);
    }
    assert_eq!(log_in(&logins, "right", "right", "192.0.2.1").await, Err(LoginRefusal::TooMany));
    open.pop();
    assert_eq!(log_in(&logins, "right", "right", "192.0.2.1").await, Ok(()));
}
