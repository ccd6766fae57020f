//! One run: the world, the author, the workers, their crashes, the calm afterwards, and what is looked at then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use repl::audit::Further;
use repl::engine::scan::{DeleteMarkers, Looks, ScanProgress, Scanned, Scope};
use repl::engine::{Checksums, Conditions, Engine, Phase, ServerSide, Settings, TargetSettings};
use repl::ledger::double::Disk;
use repl::ledger::{Ledger, Release};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::TargetId;
use repl::plan::brake::Bounds;
use repl::plan::retry;
use repl::watch::pulse::Pulse;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::author::Author;
use super::invariants::{self, Promise};
use super::log::Log;
use super::scenario::{KEY, Scenario};
use super::site::{Site, TARGET};
use super::world::bucket::Bucket;
use super::world::clock::{FakeClock, true_time};
use super::world::dice::Dice;
use super::world::keys::FakeKeys;
use super::world::queue::{FakeQueue, Order};
use super::world::store::FakeStore;
use super::world::weather::{Fuse, Verb, Weather};

/// How long a message is hidden.
const VISIBILITY: Duration = Duration::from_secs(60);
/// After this much calm everything must have ended.
const PATIENCE: Duration = Duration::from_secs(8 * 3600);

/// What was found wrong: one line each.
pub(super) type Findings = Vec<String>;

/// Everything of one run that outlives a worker.
pub(super) struct Sim {
    pub(super) scenario: Scenario,
    pub(super) source: Arc<Mutex<Bucket>>,
    pub(super) target: Arc<Mutex<Bucket>>,
    pub(super) author: Arc<Mutex<Author>>,
    weather: Arc<Weather>,
    sealing_keys: Arc<Mutex<BTreeMap<String, bool>>>,
    queue: FakeQueue,
    start: Instant,
    phase: watch::Sender<Phase>,
    /// Whether the weather is over: no worker loses its power any more.
    calm: watch::Sender<bool>,
    log: Log,
}

/// A worker that lives.
#[derive(Clone)]
struct Live {
    engine: Engine<Site>,
    ledger: Ledger,
}

/// One machine: what is on it outlives the worker.
struct Machine {
    who: u64,
    disk: Disk,
    clock: Arc<FakeClock>,
    /// A new one for each life.
    fuse: Arc<Fuse>,
    live: Arc<Mutex<Option<Live>>>,
    dice: Dice,
    crashes: u64,
}

thread_local! {
    static JITTER: std::cell::RefCell<Dice> = std::cell::RefCell::new(Dice::new(0, "jitter"));
}

fn chance() -> f64 {
    JITTER.with(|dice| dice.borrow_mut().below(1_000_000) as f64 / 1_000_000.0)
}

impl Sim {
    fn new(scenario: &Scenario, log: Log) -> Arc<Self> {
        let start = Instant::now();
        let seed = scenario.seed;
        JITTER.with(|dice| *dice.borrow_mut() = Dice::new(seed, "jitter"));
        let bucket = |name, side, versioning| Arc::new(Mutex::new(Bucket::new(name, side, versioning)));
        let source = bucket("src", Side::Source, scenario.source);
        let target = bucket("dst", Side::Target, scenario.target);
        let weather = Arc::new(Weather::new(Dice::new(seed, "weather"), scenario.forecast));
        let order = if scenario.ordered { Order::Kept } else { Order::Any };
        let queue = FakeQueue::new(Arc::clone(&weather), VISIBILITY, scenario.twice / 4, order);
        let author = Arc::new(Mutex::new(Author::new(scenario, &source, &queue, start)));
        let sealing_keys = Arc::clone(&target.lock().unwrap().sealing_keys);
        sealing_keys.lock().unwrap().insert(KEY.to_owned(), true);
        let sim = Self {
            scenario: scenario.clone(),
            source,
            target,
            author: Arc::clone(&author),
            weather,
            sealing_keys,
            queue,
            start,
            phase: watch::channel(Phase::Run).0,
            calm: watch::channel(false).0,
            log,
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

    fn machine(&self, who: u64) -> Machine {
        Machine {
            who,
            disk: Disk::default(),
            clock: Arc::new(FakeClock::new(self.start)),
            fuse: Arc::default(),
            live: Arc::default(),
            dice: Dice::new(self.scenario.seed, &format!("machine {who}")),
            crashes: self.scenario.crashes,
        }
    }

    fn site(&self, machine: &Machine, with_queue: bool) -> Site {
        let store = |bucket: &Arc<Mutex<Bucket>>, copies_from: Option<&Arc<Mutex<Bucket>>>| FakeStore {
            bucket: Arc::clone(bucket),
            copies_from: copies_from.map(Arc::clone),
            weather: Arc::clone(&self.weather),
            fuse: Arc::clone(&machine.fuse),
            start: self.start,
            writing: Arc::default(),
        };
        Site {
            source: store(&self.source, None),
            target: store(&self.target, Some(&self.source)),
            queue: with_queue.then(|| self.queue.for_client(&machine.fuse)),
            keys: FakeKeys {
                keys: Arc::clone(&self.sealing_keys),
                weather: Arc::clone(&self.weather),
                fuse: Arc::clone(&machine.fuse),
            },
            clock: Arc::clone(&machine.clock),
        }
    }

    fn settings(&self) -> Settings {
        let target = TargetSettings {
            bucket: "dst".to_owned(),
            server_side: ServerSide::Possible,
            conditions: Conditions::Held,
            checksums: Checksums::Held,
        };
        Settings {
            source_bucket: "src".to_owned(),
            source_owner: None,
            rules: vec![self.scenario.rule.clone()],
            targets: BTreeMap::from([(TargetId::new(TARGET), target)]),
            mode: self.scenario.mode,
            limits: self.scenario.limits.clone(),
            windows: Vec::new(),
            retry: retry::Policy::default(),
            chance,
            brake: Bounds { per_hour: self.scenario.brake, share: 1_000_000 },
            ack: self.scenario.ack,
            receivers: 2,
            long_poll: Duration::from_secs(20),
            gauge_every: Duration::from_secs(15),
            receipts: None,
        }
    }

    /// Keeps a worker running on a machine until it has drained, whatever happens to it on the way.
    async fn keep(self: Arc<Self>, mut machine: Machine) -> (Machine, Findings) {
        let mut findings = Findings::new();
        loop {
            let calm = *self.calm.borrow();
            let crashing = machine.crashes > 0 && !calm;
            let by_disk = crashing && self.scenario.disk && machine.dice.per_mille(500);
            if by_disk {
                machine.disk.fail_after(machine.dice.below(30) as usize);
            }
            let steps = if crashing && !by_disk { machine.dice.between(1, 400) } else { 0 };
            machine.fuse = Arc::new(Fuse::new(steps));
            let (ledger, desk) = machine.disk.open();
            let mut desks = JoinSet::new();
            desks.spawn(desk);
            let site = Arc::new(self.site(&machine, true));
            let pulse = Arc::new(Pulse::default());
            let engine = Engine::new(site, ledger.clone(), self.settings(), pulse, self.phase.subscribe());
            *machine.live.lock().unwrap() = Some(Live { engine: engine.clone(), ledger: ledger.clone() });
            let mut calm = self.calm.subscribe();
            let crash = async {
                let seen = async { calm.wait_for(|calm| *calm).await.is_ok() };
                tokio::select! {
                    () = machine.fuse.blown.notified() => {}
                    _ = seen => {
                        machine.fuse.cut();
                        machine.disk.mend();
                        std::future::pending::<()>().await;
                    }
                }
            };
            let ended = tokio::select! {
                biased;
                () = crash => None,
                ended = engine.run() => Some(ended),
            };
            let failed = by_disk && matches!(&ended, Some(Err(fault)) if fault.kind == FaultKind::Ledger);
            if let Some(ended) = ended.filter(|_| !failed) {
                if let Err(fault) = ended {
                    findings.push(format!("the engine ended: {fault}"));
                }
                if engine.bytes_in_flight() > 0 {
                    findings.push(format!("I6: {} bytes in flight at rest", engine.bytes_in_flight()));
                }
                *machine.live.lock().unwrap() = None;
                drop((engine, ledger));
                self.log.say(|| format!("worker {} has ended", machine.who));
                // The last handle is gone: the writer flushes and ends.
                while desks.join_next().await.is_some() {}
                return (machine, findings);
            }
            machine.crashes -= 1;
            let kept = machine.dice.below(machine.disk.unflushed() as u64 + 1) as usize;
            *machine.live.lock().unwrap() = None;
            machine.disk = machine.disk.after_crash(kept);
            drop((engine, ledger));
            desks.shutdown().await;
            let pause = machine.dice.pick(&[1, 2_000, 90_000]);
            self.log.say(|| format!("CRASH of worker {}, {kept} batches kept, back in {pause} ms", machine.who));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
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

    /// Waits until nothing is left to do anywhere.
    async fn idle(&self, live: &[Arc<Mutex<Option<Live>>>]) -> Result<(), Findings> {
        let until = Instant::now() + PATIENCE;
        let (mut calm, mut rounds) = (0, 0);
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            rounds += 1;
            let lives: Vec<Live> = live.iter().filter_map(|live| live.lock().unwrap().clone()).collect();
            let mut busy = lives.len() < live.len() || self.queue.left() > 0;
            for live in &lives {
                let totals = live.ledger.totals();
                busy |= totals.pending.operations + totals.parked.operations + totals.held.operations > 0;
                busy |= totals.in_flight > 0;
                if rounds % 60 == 0 && totals.held.operations > 0 {
                    live.ledger.release_held(None).await.map_err(|fault| vec![format!("no release: {fault}")])?;
                    live.engine.wake();
                }
                if rounds % 600 == 0 && totals.parked.operations > 0 {
                    // What no probe finds mended an operator sees to.
                    self.make_way(&live.ledger);
                    let released = live.ledger.release(&Release::All).await;
                    live.engine.wake();
                    released.map_err(|fault| vec![format!("could not release: {fault}")])?;
                }
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

    /// Does what the fault of a foreign object asks for: takes it away.
    fn make_way(&self, ledger: &Ledger) {
        for key in &self.scenario.keys {
            let story = ledger.story(&key.as_str().into()).unwrap();
            for chapter in story.jobs {
                if chapter.fault.is_some_and(|fault| fault.kind == FaultKind::Foreign) {
                    self.target.lock().unwrap().keys.remove(&chapter.job.target_key);
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

    fn promise(&self) -> Promise {
        let author = self.author.lock().unwrap();
        Promise {
            rule: self.scenario.rule.clone(),
            purged: author.purged.clone(),
            // Tags that no event told of follow only where a comparison looks, and that looks at current versions.
            tags_of_old: !author.lost,
            now: true_time(self.start),
            workers: self.scenario.workers,
            in_order: self.scenario.in_order(),
            told_apart: !author.unstamped || self.scenario.remembers(),
        }
    }

    /// One more worker on a disk, without a queue, that compares everything and must find nothing to do (I9).
    async fn run_again(self: &Arc<Self>, machine: &Machine, what: &str) -> Findings {
        self.log.say(|| what.to_owned());
        let (phase, phases) = watch::channel(Phase::Run);
        let (ledger, desk) = machine.disk.open();
        let mut desks = JoinSet::new();
        desks.spawn(desk);
        let site = Arc::new(self.site(machine, false));
        let engine = Engine::new(site, ledger.clone(), self.settings(), Arc::new(Pulse::default()), phases);
        let live = Live { engine: engine.clone(), ledger: ledger.clone() };
        let before = self.target.lock().unwrap().clone();
        let work = async {
            let slot = Arc::new(Mutex::new(Some(live.clone())));
            let mut findings = Findings::new();
            if let Err(fault) = self.sync(&live).await {
                findings.push(format!("{what}: {fault}"));
            }
            findings.extend(self.idle(&[slot]).await.err().unwrap_or_default());
            phase.send_replace(Phase::Drain);
            findings
        };
        let (ended, mut findings) = tokio::join!(engine.run(), work);
        findings.extend(ended.err().map(|fault| format!("{what}: the engine ended: {fault}")));
        let after = self.target.lock().unwrap();
        let new = after.ever.iter().skip(before.ever.len());
        // A delete marker that was left out because it came late (P4) may be made now, where it hides nothing.
        let new: Vec<String> = new.filter(|(_, stored)| stored.object.is_some()).map(invariants::line).collect();
        if !new.is_empty() {
            findings.push(format!("I9: {what} wrote {new:?}"));
        }
        findings
    }
}

/// The author writes while clocks are set wrong and keys are disabled, and then some time more; then all is calm.
async fn storm(sim: &Sim, clocks: &[Arc<FakeClock>]) {
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
        sim.write().await;
        tokio::time::sleep(Duration::from_secs(sim.weather.roll(|dice| dice.below(200)))).await;
    };
    tokio::select! {
        () = writing => {}
        () = jumps => {}
        () = disabling, if scenario.forecast.denied_for > 0 => {}
    }
    sim.sealing_keys.lock().unwrap().insert(KEY.to_owned(), true);
    sim.weather.calm();
    sim.calm.send_replace(true);
    sim.queue.never_twice();
    sim.author.lock().unwrap().left = 0;
    sim.log.say(|| "CALM".to_owned());
}

/// Waits until everything has ended; what no event told of is found by comparisons.
async fn come_to_rest(sim: &Sim, lives: &[Arc<Mutex<Option<Live>>>]) -> Findings {
    if let Err(found) = sim.idle(lives).await {
        return found;
    }
    let mut findings = Findings::new();
    if sim.author.lock().unwrap().lost {
        let live = lives[0].lock().unwrap().clone().unwrap();
        for synced in [sim.sync(&live).await, sim.mend(&live).await] {
            findings.extend(synced.err().map(|fault| format!("sync: {fault}")));
            findings.extend(sim.idle(lives).await.err().unwrap_or_default());
        }
    }
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
    let (mut lives, mut clocks) = (Vec::new(), Vec::new());
    for who in 0..scenario.workers {
        let machine = sim.machine(who);
        lives.push(Arc::clone(&machine.live));
        clocks.push(Arc::clone(&machine.clock));
        workers.spawn(Arc::clone(&sim).keep(machine));
    }
    storm(&sim, &clocks).await;
    let mut findings = come_to_rest(&sim, &lives).await;
    log.say(|| "DRAIN".to_owned());
    sim.phase.send_replace(Phase::Drain);
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
    findings.extend(invariants::broken(&sim.source.lock().unwrap(), &sim.target.lock().unwrap(), &sim.promise()));
    if findings.is_empty() {
        findings.extend(look_again(&sim, &machines).await);
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
    let target = sim.target.lock().unwrap();
    for (id, opened) in &target.uploads {
        let noted = known.iter().any(|(_, _, upload)| upload.id == *id);
        // Without parts it costs nothing: the id was lost between its opening and its note, as DESIGN 4.4 says.
        if !noted && !opened.parts.is_empty() && sim.scenario.workers == 1 {
            findings.push(format!("I7: nobody knows of upload {id} of {:?}", opened.object.key));
        }
    }
    (findings, totals.quarantined)
}
