//! A server on a disk whose power can be cut, with senders and a poller at work, and the rounds they go through together.

use super::disk::{Disk, Switch};
use super::gateway::{Account, Gateway, until};
use super::ledger::{Door, Ledger, Verdict, Visit, damage_named};
use super::load::{Dice, Loader, Outcome};
use super::strace::{Injection, Strace};
use super::support::{SOON, Site, USERS};
use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Room for the mail of a few dozen rounds.
const DISK_MEBIBYTES: u64 = 1536;
/// Small, so that the reserve, twice this, is small too.
const SMTP_KEYS: &str = "max_message_bytes = 4194304";
/// A ballast that leaves room on a small disk.
const BALLAST: &str = "[store]\nballast_bytes = 1048576\n";
/// Connections that deliver at once.
const SENDERS: usize = 6;
/// Messages acknowledged between a start and a cut, at most.
const ACKNOWLEDGED_MAX: u64 = 40;
/// How long a cut may wait behind the last reply that was waited for.
const LINGER: Duration = Duration::from_millis(6);
/// How long a poller's session takes, at most, for the cut to fall into it.
const SESSION: Duration = Duration::from_millis(500);
/// How long after a start's beginning a second cut comes, at most.
const START: Duration = Duration::from_millis(120);

/// Mostly small; some become files of their own.
pub(crate) fn sizes(n: u64) -> usize {
    match n % 16 {
        7 => 1_200_000,
        11 => 90_000,
        n => 1_500 + 1_500 * n as usize,
    }
}

/// A site that keeps everything on `disk`, in a directory that is not there yet.
pub(crate) fn gateway_on(disk: &Disk, sections: &str) -> Gateway {
    let site = Site::with(&format!("{BALLAST}{sections}"), USERS);
    site.set_smtp(SMTP_KEYS);
    site.keep_data_in(&disk.root().join("data"));
    Gateway::at(site)
}

/// Waits without giving the processor away: not every moment is one at which a thread wakes up.
pub(crate) fn linger(dice: &mut Dice, most: Duration) {
    let time = Duration::from_nanos(dice.below(most.as_nanos() as u64));
    let clock = Instant::now();
    while clock.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Cuts the power under a server, and ends it.
///
/// It stands still first, as every processor does when the power goes: while ext4 shuts down, a sync that is under way can return
/// without an error and with nothing on the disk, and a server that still runs would acknowledge that. What it said before
/// it stood still counts.
pub(crate) fn cut_under(gateway: &mut Gateway, switch: Switch) {
    gateway.freeze();
    switch.cut();
    gateway.kill();
}

/// What `daybook verify --deep` finds wrong in a store, open or not.
fn verify(gateway: &Gateway) -> Option<String> {
    let output = gateway.command(&["verify", "--deep", "--json"]).output().unwrap();
    (output.status.code() != Some(0)).then(|| {
        let said = [output.stdout, output.stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned());
        format!("verify: {}: {}", output.status, said.concat())
    })
}

/// What happens in a round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// A poller deletes this many at about the moment of the cut.
    pub(crate) deletes: usize,
    /// The power is cut again while the server starts.
    pub(crate) twice: bool,
    /// The process is killed, without a cut, and started again first: what is acknowledged then may lie behind what was never synced.
    pub(crate) killed_first: bool,
    /// The disk fails like this before the power does.
    pub(crate) fault: Option<Injection>,
    /// Everything is fetched once more, not only what is new, and verified beside the server.
    pub(crate) again: bool,
}

/// Everything that takes part. The order matters: the server ends before its disk goes.
pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    pub(crate) disk: Disk,
    pub(crate) account: Account,
    loader: Loader,
    pub(crate) ledger: Ledger,
    /// System calls that were made to fail.
    pub(crate) hits: usize,
    /// The index was taken away, or is made anew: that the server says so is no damage.
    pub(crate) index_is_anew: bool,
}

impl Rig {
    /// A server on a fresh disk, with one account and with senders that wait. `plant` names a safeguard that is switched off.
    pub(crate) fn new(name: &str, plant: Option<&str>) -> Rig {
        let environment: Vec<_> = plant.map(|plant| ("DAYBOOK_PLANT", plant)).into_iter().collect();
        Rig::with_environment(name, &environment)
    }

    /// The same, with these variables in the server's environment.
    pub(crate) fn with_environment(name: &str, environment: &[(&'static str, &str)]) -> Rig {
        let disk = Disk::new(DISK_MEBIBYTES);
        let mut gateway = gateway_on(&disk, "");
        for (variable, value) in environment {
            gateway.set_environment(variable, value);
        }
        gateway.start_again();
        let account = gateway.create_account();
        let loader = Loader::start(name, &account.address, SENDERS, sizes);
        Rig { gateway, disk, account, loader, ledger: Ledger::default(), hits: 0, index_is_anew: false }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.loader.acknowledged_count()
    }

    /// Message-IDs of what is acknowledged.
    pub(crate) fn acknowledged_ids(&self) -> BTreeSet<String> {
        self.loader.acknowledged()
    }

    /// Mail comes in, the power is cut, the server starts again; what is wrong then.
    pub(crate) fn round(&mut self, round: Round, dice: &mut Dice) -> Verdict {
        self.go_through(round, dice).unwrap_or_else(|why| {
            let damaged = damage_named(&self.gateway);
            Verdict { unusable: vec![why], damaged, ..Verdict::default() }
        })
    }

    /// The verdict, or why the server was not to be used in the end.
    fn go_through(&mut self, round: Round, dice: &mut Dice) -> Result<Verdict, String> {
        self.loader.target(Some(self.gateway.smtp()));
        if let Some(injection) = round.fault {
            self.fail_and_go_on(injection)?;
        } else {
            self.take_more(1 + dice.below(ACKNOWLEDGED_MAX))?;
        }
        if round.killed_first {
            self.loader.target(None);
            self.gateway.kill();
            self.start()?;
            self.loader.target(Some(self.gateway.smtp()));
            self.take_more(1 + dice.below(8))?;
        }
        let mut switch = self.disk.switch();
        let wanted = self.ledger.some(round.deletes);
        let door = Door::of(&self.gateway, &self.account);
        let poller = (round.deletes > 0).then(|| std::thread::spawn(move || Visit::pay(&door, &wanted)));
        if let Some(poller) = &poller {
            match dice.below(2) {
                // Somewhere in its session,
                0 => linger(dice, SESSION),
                // or right behind its end.
                _ => until("the poller to be done", || poller.is_finished().then_some(())),
            }
        }
        linger(dice, LINGER);
        self.cut(switch);
        if let Some(poller) = poller {
            self.ledger.note(poller.join().unwrap());
        }
        if round.twice {
            self.disk.power_on();
            switch = self.disk.switch();
            self.gateway.begin_start();
            linger(dice, START);
            self.cut(switch);
        }
        self.disk.power_on();
        self.start()?;
        Ok(self.look(round.again))
    }

    /// Some mail comes in and `deletes` messages are deleted for good; then these commands run, one after the other, while more
    /// comes in, and the power is cut amid them, at most `span` behind the beginning. What they said, as far as they were begun; the
    /// power is back then, and the server not started.
    pub(crate) fn cut_amid(
        &mut self,
        deletes: usize,
        commands: &[Vec<String>],
        span: Duration,
        dice: &mut Dice,
    ) -> Result<Vec<Output>, String> {
        self.loader.target(Some(self.gateway.smtp()));
        self.take_more(deletes as u64 + 1 + dice.below(ACKNOWLEDGED_MAX))?;
        let wanted = self.ledger.some(deletes);
        self.ledger.note(Visit::pay(&Door::of(&self.gateway, &self.account), &wanted));
        let switch = self.disk.switch();
        let run = |words: &Vec<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = self.gateway.command(&words);
            command.stdin(Stdio::null());
            command
        };
        let mut commands: Vec<Command> = commands.iter().map(run).collect();
        let is_cut = Arc::new(AtomicBool::new(false));
        let stops = is_cut.clone();
        let running = std::thread::spawn(move || {
            // What the cut breaks off fails; how far it came is looked at afterwards.
            let begun = commands.iter_mut().take_while(|_| !stops.load(Ordering::Relaxed));
            begun.map(|command| command.output().unwrap()).collect()
        });
        linger(dice, span);
        self.cut(switch);
        is_cut.store(true, Ordering::Relaxed);
        let said = running.join().unwrap();
        self.disk.power_on();
        Ok(said)
    }

    /// What is wrong now; all of it is fetched and verified when `again` says so.
    pub(crate) fn look(&mut self, again: bool) -> Verdict {
        let mut verdict = self.judge(again);
        if std::mem::take(&mut self.index_is_anew) {
            verdict.damaged.retain(|line| !line.contains("store.index_rebuilt"));
        }
        if again && verdict.is_good() {
            verdict.damaged.extend(verify(&self.gateway));
        }
        verdict
    }

    /// Waits until so many more messages are acknowledged.
    fn take_more(&self, count: u64) -> Result<(), String> {
        let wanted = self.loader.acknowledged_count() + count as usize;
        self.loader.try_to_wait_for(wanted, SOON)
    }

    /// Lets calls fail under load, and then mail come in as before.
    fn fail_and_go_on(&mut self, injection: Injection) -> Result<(), String> {
        let out = self.gateway.path("strace.out");
        let strace = Strace::attach(self.gateway.pid(), injection, &self.gateway.data_dir(), &out);
        let deadline = Instant::now() + SOON;
        let mut taken = self.take_more(12);
        while taken.is_ok() && !strace.has_hit() {
            taken = match Instant::now() < deadline {
                true => self.take_more(1),
                false => Err(format!("no call was made to fail: {injection:?}")),
            };
        }
        self.hits += strace.detach().len();
        taken.and_then(|()| self.take_more(4))
    }

    fn cut(&mut self, switch: Switch) {
        cut_under(&mut self.gateway, switch);
        self.loader.target(None);
    }

    /// Starts the server on what there is.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.gateway.begin_start();
        self.gateway.finish_start()
    }

    fn judge(&mut self, again: bool) -> Verdict {
        let (begun, acknowledged) = (self.loader.begun(), self.loader.acknowledged());
        self.ledger.judge(&self.gateway, &self.account, &begun, &acknowledged, again)
    }

    /// Takes more mail, ends in good order, makes the index anew from the log: the log alone must say the same. Gives how
    /// it went with the senders, and what is wrong in the end.
    pub(crate) fn end(mut self) -> (Outcome, Verdict) {
        self.loader.target(Some(self.gateway.smtp()));
        self.loader.wait_for(self.loader.acknowledged_count() + SENDERS);
        let outcome = self.loader.stop();
        let mut judge = |gateway: &Gateway| {
            self.ledger.judge(gateway, &self.account, &outcome.begun, &outcome.acknowledged, true)
        };
        let verdict = judge(&self.gateway);
        if !verdict.is_good() {
            return (outcome, verdict);
        }
        self.gateway.terminate();
        let found = verify(&self.gateway);
        self.gateway.start_again();
        self.gateway.start_again_without_index();
        let mut verdict = judge(&self.gateway);
        verdict.damaged.extend(found);
        // That the index was made anew is what was asked for.
        verdict.damaged.retain(|line| !line.contains("store.index_rebuilt"));
        (outcome, verdict)
    }
}
