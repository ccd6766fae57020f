//! The machines that workers run on: what is on one outlives the worker, which dies and comes back.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use repl::engine::{Checksums, Conditions, Engine, Phase, ServerSide, Settings, TargetSettings, receipts};
use repl::ledger::Ledger;
use repl::ledger::double::Disk;
use repl::model::fault::FaultKind;
use repl::model::object::TargetId;
use repl::plan::brake::Bounds;
use repl::plan::retry;
use repl::watch::pulse::Pulse;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::run::{Findings, Sim, chance};
use super::scenario::Scenario;
use super::site::Site;
use super::world::bucket::Bucket;
use super::world::clock::FakeClock;
use super::world::dice::Dice;
use super::world::keys::FakeKeys;
use super::world::store::FakeStore;
use super::world::weather::{Fuse, Weather};

/// A worker that lives.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) engine: Engine<Site>,
    pub(super) ledger: Ledger,
    /// Its own phase: an operator may drain one alone.
    pub(super) phase: Arc<watch::Sender<Phase>>,
}

/// Where the worker of a machine is found while there is one.
pub(super) type Slot = Arc<Mutex<Option<Live>>>;

/// One machine.
pub(super) struct Machine {
    pub(super) who: u64,
    pub(super) disk: Disk,
    pub(super) clock: Arc<FakeClock>,
    /// A new one for each life.
    pub(super) fuse: Arc<Fuse>,
    pub(super) live: Slot,
    /// Where its receipts lie until they are uploaded.
    pub(super) spool: Option<Arc<tempfile::TempDir>>,
    dice: Dice,
    configs: Dice,
    crashes: u64,
}

/// A directory in memory where there is such a thing: what is synced there is synced at once.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

impl Machine {
    /// What a worker that died while it wrote its receipts leaves behind their end.
    fn tear_receipts(&mut self) {
        let Some(spool) = &self.spool else { return };
        let files = std::fs::read_dir(spool.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut open: Vec<_> = files.filter(|path| path.extension().is_some_and(|name| name == "jsonl")).collect();
        open.sort();
        if let Some(last) = open.pop()
            && self.configs.per_mille(300)
        {
            let mut file = std::fs::OpenOptions::new().append(true).open(last).unwrap();
            file.write_all(b"{\"chain\":\"").unwrap();
        }
    }
}

impl Sim {
    pub(super) fn machine(&self, who: u64) -> Machine {
        let seed = self.scenario.seed;
        Machine {
            who,
            disk: Disk::default(),
            clock: Arc::new(FakeClock::new(self.start)),
            fuse: Arc::default(),
            live: Arc::default(),
            spool: (self.scenario.receipts && who < self.scenario.workers).then(|| Arc::new(directory())),
            dice: Dice::new(seed, &format!("machine {who}")),
            configs: Dice::new(seed, &format!("configs of machine {who}")),
            crashes: self.scenario.crashes,
        }
    }

    pub(super) fn site(&self, machine: &Machine, with_queue: bool) -> Site {
        let store =
            |bucket: &Arc<Mutex<Bucket>>, copies_from: Option<&Arc<Mutex<Bucket>>>, weather: &Arc<Weather>| FakeStore {
                bucket: Arc::clone(bucket),
                copies_from: copies_from.map(Arc::clone),
                weather: Arc::clone(weather),
                fuse: Arc::clone(&machine.fuse),
                start: self.start,
                writing: Arc::default(),
            };
        let target = |(id, bucket): (&TargetId, &Arc<Mutex<Bucket>>)| {
            (id.clone(), store(bucket, Some(&self.source), &self.weather))
        };
        // Files of receipts are written by other threads: that these are not always as fast must not show elsewhere.
        let receipts = FakeStore { fuse: Arc::default(), ..store(&self.receipts, None, &self.elsewhere) };
        Site {
            source: store(&self.source, None, &self.weather),
            targets: self.targets.iter().map(target).collect(),
            receipts: machine.spool.as_ref().map(|_| receipts),
            queue: with_queue.then(|| self.queue.for_client(&machine.fuse)),
            keys: FakeKeys {
                keys: Arc::clone(&self.sealing_keys),
                weather: Arc::clone(&self.weather),
                fuse: Arc::clone(&machine.fuse),
            },
            clock: Arc::clone(&machine.clock),
        }
    }

    pub(super) fn settings(&self, scenario: &Scenario, machine: &Machine) -> Settings {
        let target = |bucket: &str| TargetSettings {
            bucket: bucket.to_owned(),
            server_side: ServerSide::Possible,
            conditions: Conditions::Held,
            checksums: Checksums::Held,
        };
        let targets = scenario.targets().into_iter().map(|(id, bucket, _)| (TargetId::new(id), target(bucket)));
        let receipts = machine.spool.as_ref().map(|spool| receipts::Settings {
            directory: spool.path().to_owned(),
            bucket: "receipts".to_owned(),
            prefix: "repl/".to_owned(),
        });
        Settings {
            source_bucket: "src".to_owned(),
            source_owner: None,
            rules: scenario.rules(),
            targets: targets.collect::<BTreeMap<_, _>>(),
            mode: scenario.mode,
            limits: scenario.limits.clone(),
            windows: Vec::new(),
            retry: retry::Policy::default(),
            chance,
            brake: Bounds { per_hour: scenario.brake, share: 1_000_000 },
            ack: scenario.ack,
            receivers: 2,
            long_poll: Duration::from_secs(20),
            gauge_every: Duration::from_secs(15),
            receipts,
        }
    }

    /// Keeps a worker running on a machine until the end, whatever happens to it on the way.
    pub(super) async fn keep(self: Arc<Self>, mut machine: Machine) -> (Machine, Findings) {
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
            let (phase, phases) = watch::channel(*self.phase.borrow());
            let life = self.scenario.of_life(&mut machine.configs);
            let engine = Engine::new(site, ledger.clone(), self.settings(&life, &machine), Arc::clone(&pulse), phases);
            let live = Live { engine: engine.clone(), ledger: ledger.clone(), phase: Arc::new(phase) };
            *machine.live.lock().unwrap() = Some(live);
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
                let (bytes, claims) = (engine.bytes_in_flight(), ledger.totals().in_flight);
                if bytes > 0 || claims > 0 {
                    findings.push(format!("I6: {bytes} bytes and {claims} claims in flight at rest"));
                }
                if let Some(view) = pulse.snapshot().receipts.filter(|view| view.lost > 0) {
                    findings.push(format!("{} receipts are lost", view.lost));
                }
                *machine.live.lock().unwrap() = None;
                drop((engine, ledger));
                self.log.say(|| format!("worker {} has ended", machine.who));
                // The last handle is gone: the writer flushes and ends.
                while desks.join_next().await.is_some() {}
                if *self.phase.borrow() == Phase::Drain || !findings.is_empty() {
                    return (machine, findings);
                }
                // An operator drained it; it is started again.
                machine.disk.mend();
                tokio::time::sleep(Duration::from_millis(machine.configs.below(60_000))).await;
                continue;
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
            machine.tear_receipts();
        }
    }
}
