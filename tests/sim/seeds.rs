//! Many seeds, and the ones that once found something.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::log::Log;
use super::run::{Findings, run};
use super::scenario::Scenario;

/// Seeds of an ordinary test run.
const USUAL: u64 = 200;

/// Runs one scenario on a runtime of its own, on the calling thread.
fn simulate(scenario: &Scenario, aloud: bool) -> Findings {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let log = Log::new(aloud);
        let _guard = tracing::subscriber::set_default(log.clone());
        let (sim, findings) = run(scenario, log.clone()).await;
        if !findings.is_empty() {
            let diary = sim.author.lock().unwrap().diary.join("\n  ");
            let target: Vec<String> = sim.target.lock().unwrap().ever.iter().map(super::invariants::line).collect();
            let kept = format!("  {diary}\ntarget:\n  {}", target.join("\n  "));
            log.say(|| kept);
        }
        findings
    })
}

/// What a run comes to, to the last byte and the last moment.
fn fingerprint(seed: u64) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let start = tokio::time::Instant::now();
        let log = Log::new(false);
        let _guard = tracing::subscriber::set_default(log.clone());
        let (sim, findings) = run(&Scenario::of(seed), log).await;
        let target: Vec<String> = sim.target.lock().unwrap().ever.iter().map(super::invariants::line).collect();
        format!("{:?} {findings:?} {target:#?}", start.elapsed())
    })
}

/// A seed that failed can be replayed: a run depends on nothing but its seed.
#[test]
fn a_seed_is_always_the_same_run() {
    for seed in 1..=12 {
        assert_eq!(fingerprint(seed), fingerprint(seed), "seed {seed}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    if let Some(seed) = number("REPL_SIM_SEED") {
        let scenario = Scenario::of(seed);
        println!("{scenario:#?}");
        let findings = simulate(&scenario, true);
        assert!(findings.is_empty(), "seed {seed}:\n{}", findings.join("\n"));
        return;
    }
    let first = number("REPL_SIM_FROM").unwrap_or(1);
    let count = number("REPL_SIM_SEEDS").unwrap_or(USUAL);
    let waiting: Mutex<VecDeque<u64>> = Mutex::new((first..first + count).collect());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(seed) = waiting.lock().unwrap().pop_front() else { return };
                    let found = std::panic::catch_unwind(|| simulate(&Scenario::of(seed), false));
                    let findings = found.unwrap_or_else(|panic| vec![told(&panic)]);
                    if !findings.is_empty() {
                        println!("seed {seed}: {}", findings.join("\n    "));
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count} seeds failed; replay with REPL_SIM_SEED: {failed:?}", failed.len());
}

fn told(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "panic".to_owned())
}
