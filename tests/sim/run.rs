//! One run: the world, the author, the workers, their crashes, the calm afterwards, and what is looked at then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use repl::audit::Further;
use repl::engine::scan::{DeleteMarkers, Looks, ScanProgress, Scanned, Scope};
use repl::engine::{Engine, Phase};
use repl::ledger::{Control, Ledger, Release};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::{TargetId, Versioning};
use repl::watch::pulse::Pulse;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::author::Author;
use super::evidence;
use super::invariants::{self, Promise};
use super::log::Log;
use super::machine::{Live, Machine, Slot};
use super::operator::operate;
use super::scenario::{KEY, Scenario};
use super::site::TARGET;
use super::world::bucket::Bucket;
use super::world::clock::{FakeClock, true_time};
use super::world::dice::Dice;
use super::world::queue::{FakeQueue, Order};
use super::world::weather::{Forecast, Verb, Weather};

/// How long a message is hidden.
const VISIBILITY: Duration = Duration::from_secs(60);
/// After this much calm everything must have ended.
const PATIENCE: Duration = Duration::from_secs(8 * 3600);

/// What may be left where everything else has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Objects that nobody has restored yet.
    Archived,
}

/// What was found wrong: one line each.
pub(super) type Findings = Vec<String>;

/// Everything of one run that outlives a worker.
pub(super) struct Sim {
    pub(super) scenario: Scenario,
    pub(super) source: Arc<Mutex<Bucket>>,
    pub(super) targets: BTreeMap<TargetId, Arc<Mutex<Bucket>>>,
    pub(super) receipts: Arc<Mutex<Bucket>>,
    pub(super) author: Arc<Mutex<Author>>,
    pub(super) weather: Arc<Weather>,
    /// The weather on the way to the receipts.
    pub(super) elsewhere: Arc<Weather>,
    pub(super) sealing_keys: Arc<Mutex<BTreeMap<String, bool>>>,
    pub(super) queue: FakeQueue,
    pub(super) start: Instant,
    pub(super) phase: watch::Sender<Phase>,
    /// Whether the weather is over: no worker loses its power any more.
    pub(super) calm: watch::Sender<bool>,
    pub(super) log: Log,
    /// What was found wrong meanwhile.
    pub(super) found: Mutex<Findings>,
}

thread_local! {
    static JITTER: std::cell::RefCell<Dice> = std::cell::RefCell::new(Dice::new(0, "jitter"));
}

pub(super) fn chance() -> f64 {
    JITTER.with(|dice| dice.borrow_mut().below(1_000_000) as f64 / 1_000_000.0)
}

impl Sim {
    fn new(scenario: &Scenario, log: Log) -> Arc<Self> {
        let start = Instant::now();
        let seed = scenario.seed;
        JITTER.with(|dice| *dice.borrow_mut() = Dice::new(seed, "jitter"));
        let bucket = |name, side, versioning| Arc::new(Mutex::new(Bucket::new(name, side, versioning)));
        let source = bucket("src", Side::Source, scenario.source);
        let sealing_keys = Arc::new(Mutex::new(BTreeMap::from([(KEY.to_owned(), true)])));
        let target = |(id, name, versioning)| {
            let mut target = Bucket::new(name, Side::Target, versioning);
            target.sealing_keys = Arc::clone(&sealing_keys);
            (TargetId::new(id), Arc::new(Mutex::new(target)))
        };
        let targets = scenario.targets().into_iter().map(target).collect();
        let weather = Arc::new(Weather::new(Dice::new(seed, "weather"), scenario.forecast));
        let order = if scenario.ordered { Order::Kept } else { Order::Any };
        let queue = FakeQueue::new(Arc::clone(&weather), VISIBILITY, scenario.twice / 4, order);
        let author = Arc::new(Mutex::new(Author::new(scenario, &source, &queue, start)));
        let rain = Forecast { faults: scenario.forecast.faults.min(10), denied_for: 0, ..scenario.forecast };
        let sim = Self {
            scenario: scenario.clone(),
            source,
            targets,
            receipts: bucket("receipts", Side::Target, Versioning::Enabled),
            author: Arc::clone(&author),
            weather,
            elsewhere: Arc::new(Weather::new(Dice::new(seed, "elsewhere"), rain)),
            sealing_keys,
            queue,
            start,
            phase: watch::channel(Phase::Run).0,
            calm: watch::channel(false).0,
            log,
            found: Mutex::default(),
        };
        let meddling = Mutex::new(Dice::new(seed, "meddling"));
        let share = scenario.meddling;
        sim.weather.tell(move |side, verb, key| {
            let meets = matches!(verb, Verb::Get | Verb::Head | Verb::ReadTags) && side == Side::Source;
            if meets && meddling.lock().unwrap().per_mille(share) {
                author.lock().unwrap().act(key);
            }
        });
        Arc::new(sim)
    }

    /// The author at work.
    async fn write(&self) {
        loop {
            let wait = {
                let mut author = self.author.lock().unwrap();
                if author.left == 0 {
                    return;
                }
                author.act(None);
                let pace = self.scenario.pace;
                author.dice.below(pace + 1)
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// Waits until one target is equal, whatever the others are.
    async fn come_equal(&self, id: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let broken = self.broken_at(&id.into());
            if broken.is_empty() {
                return;
            }
            if Instant::now() > until {
                let found = broken.into_iter().map(|found| format!("P9: another target holds this one up: {found}"));
                return self.found.lock().unwrap().extend(found);
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }

    /// Waits until nothing is left to do anywhere, or nothing but that.
    async fn idle(&self, slots: &[Slot], left: Left) -> Result<(), Findings> {
        let until = Instant::now() + PATIENCE;
        let (mut calm, mut rounds) = (0, 0);
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            rounds += 1;
            let lives: Vec<Live> = slots.iter().filter_map(|slot| slot.lock().unwrap().clone()).collect();
            let mut busy = lives.len() < slots.len() || self.queue.left() > 0;
            for live in &lives {
                busy |= match self.attend(live, rounds, left).await {
                    // Its disk failed while it stood still: the watch of a real worker flushes each interval, and has it stop.
                    Err(fault) if fault.kind == FaultKind::Ledger => {
                        live.phase.send_replace(Phase::Drain);
                        true
                    }
                    attended => attended.map_err(|fault| vec![format!("an operator could not: {fault}")])?,
                };
            }
            calm = if busy { 0 } else { calm + 1 };
            if calm >= 3 {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(vec![self.told_of(&lives)]);
            }
        }
    }

    /// Does what only an operator can do; whether a worker still has anything to do.
    async fn attend(&self, live: &Live, rounds: u64, left: Left) -> Result<bool, Fault> {
        if rounds % 60 == 1 {
            live.ledger.flush().await?;
        }
        if live.ledger.control()?.paused {
            live.engine.set_control(Control::default()).await?;
        }
        let totals = live.ledger.totals();
        let mut parked = totals.parked.operations;
        if left == Left::Archived {
            let groups = live.ledger.groups()?;
            let archived = groups.iter().filter(|group| group.fault.kind == FaultKind::Archived);
            parked -= archived.map(|group| group.count).sum::<u64>().min(parked);
        }
        if rounds.is_multiple_of(60) && totals.held.operations > 0 {
            live.ledger.release_held(None).await?;
            live.engine.wake();
        }
        if rounds.is_multiple_of(600) && parked > 0 {
            // What no probe finds mended an operator sees to.
            self.make_way(&live.ledger);
            live.ledger.release(&Release::All).await?;
            live.engine.wake();
        }
        Ok(totals.pending.operations + parked + totals.held.operations + totals.in_flight > 0)
    }

    /// Does what the fault of a foreign object asks for: takes it away.
    fn make_way(&self, ledger: &Ledger) {
        for key in &self.scenario.keys {
            let story = ledger.story(&key.as_str().into()).unwrap();
            for chapter in story.jobs {
                if chapter.fault.is_some_and(|fault| fault.kind == FaultKind::Foreign) {
                    self.targets[&chapter.job.target].lock().unwrap().keys.remove(&chapter.job.target_key);
                }
            }
        }
    }

    fn told_of(&self, lives: &[Live]) -> String {
        let mut text = format!("I8: not everything ended: {} messages left", self.queue.left());
        for live in lives {
            text += &format!("; {:?}; {:?}", live.ledger.totals(), live.ledger.groups());
            for key in &self.scenario.keys {
                text += &format!("; {:?}", live.ledger.story(&key.as_str().into()).map(|story| story.jobs));
            }
        }
        text
    }

    /// Comparisons find what no event told.
    async fn sync(&self, live: &Live) -> Result<(), Fault> {
        let scope = Scope { delete_markers: DeleteMarkers::Brought, ..Scope::default() };
        let progress = ScanProgress::default();
        let scanned = live.engine.scan(&scope, &progress).await?;
        assert_eq!(scanned, Scanned::Complete);
        live.engine.conclude(&scope, &progress).await
    }

    async fn mend(&self, live: &Live) -> Result<(), Fault> {
        let scope = Scope { delete_markers: DeleteMarkers::Brought, ..Scope::default() };
        let looks = Looks { metadata: Further::Look, tags: Further::Look };
        let scanned = live.engine.reconcile(&scope, looks, &ScanProgress::default()).await?;
        assert_eq!(scanned, Scanned::Complete);
        Ok(())
    }

    fn promise(&self, target: &TargetId) -> Promise {
        let author = self.author.lock().unwrap();
        let frozen = author.archived().into_iter().map(|(key, _)| key);
        Promise {
            rules: self.scenario.rules().into_iter().filter(|rule| rule.target == *target).collect(),
            purged: author.purged.clone(),
            frozen: frozen.collect(),
            // Tags that no event told of follow only where a comparison looks, and that looks at current versions.
            tags_of_old: !author.lost,
            now: true_time(self.start),
            workers: self.scenario.workers,
            in_order: self.scenario.in_order(),
            told_apart: !author.unstamped || self.scenario.remembers(),
            in_place: self.scenario.keeps_places(),
        }
    }

    /// Everything that is broken at any target.
    pub(super) fn broken(&self) -> Findings {
        self.targets.keys().flat_map(|id| self.broken_at(id)).collect()
    }

    fn broken_at(&self, id: &TargetId) -> Findings {
        let promise = self.promise(id);
        let (source, target) = (self.source.lock().unwrap(), self.targets[id].lock().unwrap());
        let broken = invariants::broken(&source, &target, &promise);
        broken.into_iter().map(|found| format!("{id}: {found}")).collect()
    }

    /// What every target has been given so far, in order of coming.
    fn written(&self) -> BTreeMap<TargetId, usize> {
        self.targets.iter().map(|(id, target)| (id.clone(), target.lock().unwrap().ever.len())).collect()
    }

    /// One more worker on a disk, without a queue, that compares everything and must find nothing to do (I9).
    async fn run_again(self: &Arc<Self>, machine: &Machine, what: &str) -> Findings {
        self.log.say(|| what.to_owned());
        let (phase, phases) = watch::channel(Phase::Run);
        let (ledger, desk) = machine.disk.open();
        let mut desks = JoinSet::new();
        desks.spawn(desk);
        let site = Arc::new(self.site(machine, false));
        let settings = self.settings(&self.scenario, machine);
        let engine = Engine::new(site, ledger.clone(), settings, Arc::new(Pulse::default()), phases);
        let phase = Arc::new(phase);
        let live = Live { engine: engine.clone(), ledger: ledger.clone(), phase: Arc::clone(&phase) };
        let before = self.written();
        let work = async {
            let slot = Arc::new(Mutex::new(Some(live.clone())));
            let mut findings = Findings::new();
            // A machine may have died before its disk had the operator's last word.
            let resumed = live.engine.set_control(Control::default()).await;
            findings.extend(resumed.err().map(|fault| format!("{what}: no resume: {fault}")));
            match tokio::time::timeout(PATIENCE, self.sync(&live)).await {
                Ok(synced) => findings.extend(synced.err().map(|fault| format!("{what}: {fault}"))),
                Err(_elapsed) => findings.push(format!("I8: {what} does not end")),
            }
            findings.extend(self.idle(&[slot], Left::Nothing).await.err().unwrap_or_default());
            phase.send_replace(Phase::Drain);
            findings
        };
        let (ended, mut findings) = tokio::join!(engine.run(), work);
        findings.extend(ended.err().map(|fault| format!("{what}: the engine ended: {fault}")));
        for (id, target) in &self.targets {
            let after = target.lock().unwrap();
            let new = after.ever.iter().skip(before[id]);
            // A delete marker that was left out because it came late (P4) may be made now, where it hides nothing.
            let new: Vec<String> = new.filter(|(_, stored)| stored.object.is_some()).map(invariants::line).collect();
            if !new.is_empty() {
                findings.push(format!("I9: {what} wrote {new:?} to {id}"));
            }
        }
        findings
    }
}

/// The author writes while clocks are set wrong and keys are disabled, and then some time more; then all is calm.
async fn storm(sim: &Sim, clocks: &[Arc<FakeClock>], slots: &[Slot]) {
    let scenario = &sim.scenario;
    let jumps = async {
        let mut dice = Dice::new(scenario.seed, "clocks");
        loop {
            tokio::time::sleep(Duration::from_millis(dice.between(50, 20_000))).await;
            let wrong = dice.below(scenario.clock * 2_000 + 1) as i64 - scenario.clock as i64 * 1_000;
            dice.pick(clocks).set_wrong(wrong);
        }
    };
    let disabling = async {
        let mut dice = Dice::new(scenario.seed, "keys");
        loop {
            tokio::time::sleep(Duration::from_millis(dice.between(10, 60_000))).await;
            sim.sealing_keys.lock().unwrap().insert(KEY.to_owned(), false);
            tokio::time::sleep(Duration::from_secs(dice.below(scenario.forecast.denied_for + 1))).await;
            sim.sealing_keys.lock().unwrap().insert(KEY.to_owned(), true);
        }
    };
    let writing = async {
        if scenario.shut {
            sim.weather.shut("far");
        }
        sim.write().await;
        if scenario.shut {
            sim.come_equal(TARGET).await;
        }
        tokio::time::sleep(Duration::from_secs(sim.weather.roll(|dice| dice.below(200)))).await;
    };
    tokio::select! {
        () = writing => {}
        () = jumps => {}
        () = disabling, if scenario.forecast.denied_for > 0 => {}
        () = operate(sim, slots), if scenario.operator => {}
    }
    sim.sealing_keys.lock().unwrap().insert(KEY.to_owned(), true);
    sim.weather.calm();
    sim.elsewhere.calm();
    sim.calm.send_replace(true);
    sim.queue.never_twice();
    let mut author = sim.author.lock().unwrap();
    author.left = 0;
    if !scenario.frozen {
        author.thaw_all();
    }
    drop(author);
    sim.log.say(|| "CALM".to_owned());
}

/// Waits until everything has ended; what no event told of is found by comparisons.
async fn come_to_rest(sim: &Sim, slots: &[Slot], left: Left) -> Findings {
    if let Err(found) = sim.idle(slots, left).await {
        return found;
    }
    let mut findings = Findings::new();
    if sim.author.lock().unwrap().lost {
        let live = slots[0].lock().unwrap().clone().unwrap();
        for synced in [sim.sync(&live).await, sim.mend(&live).await] {
            findings.extend(synced.err().map(|fault| format!("sync: {fault}")));
            findings.extend(sim.idle(slots, left).await.err().unwrap_or_default());
        }
    }
    findings
}

/// What is archived keeps nothing else from its place (P9), and follows when it has been restored.
async fn thaw(sim: &Sim, slots: &[Slot]) -> Findings {
    let mut findings = come_to_rest(sim, slots, Left::Archived).await;
    findings.extend(sim.broken().into_iter().map(|found| format!("while archived: {found}")));
    sim.log.say(|| "THAW".to_owned());
    sim.author.lock().unwrap().thaw_all();
    findings
}

/// Looks at the ledgers and lets other workers compare everything once more.
async fn look_again(sim: &Arc<Sim>, machines: &[Machine]) -> Findings {
    let mut findings = Findings::new();
    let mut quarantined = 0;
    for machine in machines {
        let (found, messages) = settled(machine, sim).await;
        findings.extend(found);
        quarantined += messages;
    }
    let garbage = sim.author.lock().unwrap().garbage;
    if quarantined < garbage {
        findings.push(format!("P12: {quarantined} messages in quarantine, {garbage} were sent"));
    }
    let stamped = !sim.author.lock().unwrap().unstamped;
    if !sim.scenario.keeps_places() {
        // A comparison would mend that.
        return findings;
    }
    if let Some(machine) = machines.first()
        && (stamped || sim.scenario.remembers())
    {
        findings.extend(sim.run_again(machine, "a sync with the ledger").await);
    }
    if stamped {
        findings.extend(sim.run_again(&sim.machine(99), "a sync with a new ledger").await);
    }
    findings
}

/// Runs a scenario to its end; what is found wrong comes back.
pub(super) async fn run(scenario: &Scenario, log: Log) -> (Arc<Sim>, Findings) {
    let sim = Sim::new(scenario, log.clone());
    let mut workers = JoinSet::new();
    let (mut slots, mut clocks) = (Vec::new(), Vec::new());
    for who in 0..scenario.workers {
        let machine = sim.machine(who);
        slots.push(Arc::clone(&machine.live));
        clocks.push(Arc::clone(&machine.clock));
        workers.spawn(Arc::clone(&sim).keep(machine));
    }
    storm(&sim, &clocks, &slots).await;
    let mut findings = if scenario.frozen { thaw(&sim, &slots).await } else { Findings::new() };
    findings.extend(come_to_rest(&sim, &slots, Left::Nothing).await);
    log.say(|| "DRAIN".to_owned());
    sim.phase.send_replace(Phase::Drain);
    for slot in &slots {
        if let Some(live) = &*slot.lock().unwrap() {
            live.phase.send_replace(Phase::Drain);
        }
    }
    let mut machines = Vec::new();
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok((machine, found)) => {
                findings.extend(found);
                machines.push(machine);
            }
            Err(error) => findings.push(format!("a worker panicked: {error}")),
        }
    }
    findings.append(&mut sim.found.lock().unwrap());
    findings.extend(sim.broken());
    if findings.is_empty() {
        findings.extend(look_again(&sim, &machines).await);
    }
    if findings.is_empty() && scenario.receipts {
        findings.extend(evidence::broken(&sim, &machines));
    }
    let mut warnings = log.warnings();
    warnings.retain(|line| !scenario.declares(line));
    warnings.dedup();
    findings.extend(warnings.into_iter().take(3).map(|line| format!("undeclared warning: {line}")));
    (sim, findings)
}

/// I7 and I11: what a ledger says at rest, and how many messages it has in quarantine.
async fn settled(machine: &Machine, sim: &Sim) -> (Findings, u64) {
    let (ledger, desk) = machine.disk.open();
    let mut desks = JoinSet::new();
    desks.spawn(desk);
    let mut findings = Findings::new();
    let totals = ledger.totals();
    let sum = [
        totals.pending.operations,
        totals.parked.operations,
        totals.held.operations,
        totals.replicated.operations,
        totals.already_equal,
        totals.superseded,
        totals.not_replicated,
        totals.gone,
        totals.dropped,
    ];
    if totals.admitted != sum.iter().sum::<u64>() {
        findings.push(format!("I11: the sums do not agree: {totals:?}"));
    }
    if totals.unprovable > 0 && !sim.scenario.cannot_prove() {
        findings.push(format!("I4: {} replicas could not be proved equal", totals.unprovable));
    }
    let known = ledger.uploads().unwrap_or_default();
    let open = sim.targets.iter().flat_map(|(target, bucket)| {
        let open = bucket.lock().unwrap().uploads.clone();
        open.into_iter().map(move |(id, opened)| (target, id, opened))
    });
    for (target, id, opened) in open {
        let noted = known.iter().any(|(of, _, upload)| of == target && upload.id == id);
        // Without parts it costs nothing: the id was lost between its opening and its note, as DESIGN 4.4 says.
        if !noted && !opened.parts.is_empty() && sim.scenario.workers == 1 {
            findings.push(format!("I7: nobody knows of upload {id} of {:?}", opened.object.key));
        }
    }
    (findings, totals.quarantined)
}
