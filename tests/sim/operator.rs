//! An operator who pauses, resumes and drains workers in the midst of everything.

use std::time::Duration;

use repl::engine::Phase;
use repl::ledger::Control;

use super::machine::{Live, Slot};
use super::run::Sim;
use super::world::clock::true_time;
use super::world::dice::Dice;

/// How long the queue's last answers may be waited for when nothing is claimed any more.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Interferes until the storm is over.
pub(super) async fn operate(sim: &Sim, slots: &[Slot]) {
    let mut dice = Dice::new(sim.scenario.seed, "operator");
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(50, 30_000))).await;
        let slot = dice.pick(slots);
        let Some(live) = slot.lock().unwrap().clone() else { continue };
        match dice.below(4) {
            0 => {
                sim.log.say(|| "an operator drains a worker".to_owned());
                live.phase.send_replace(Phase::Drain);
            }
            1 => {
                let until = true_time(sim.start).plus(Duration::from_secs(dice.below(120)));
                control(sim, live, Control { paused: true, paused_until: Some(until) }).await;
            }
            _ => hold(sim, &slot, live, &mut dice).await,
        }
    }
}

/// Asks for it. A worker that cannot write it down stops, as its own watch would have it within an interval.
async fn control(sim: &Sim, live: Live, control: Control) -> bool {
    sim.log.say(|| format!("an operator asks for {control:?}"));
    let done = live.engine.set_control(control).await.is_ok();
    if !done {
        live.phase.send_replace(Phase::Drain);
    }
    done
}

/// Pauses a worker, looks that it stands still for a while, through crashes and restarts too, and resumes it.
async fn hold(sim: &Sim, slot: &Slot, live: Live, dice: &mut Dice) {
    if !control(sim, live, Control { paused: true, paused_until: None }).await {
        return;
    }
    // One that ends meanwhile lets go of what it had.
    let busy = || slot.lock().unwrap().as_ref().is_some_and(|live| live.ledger.totals().in_flight > 0);
    while busy() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(LAST_ANSWERS).await;
    let before = standing(sim);
    tokio::time::sleep(Duration::from_secs(dice.below(120))).await;
    let after = standing(sim);
    if sim.scenario.workers == 1 && before != after {
        let found = format!("a paused worker went on: writes and deliveries {before:?}, then {after:?}");
        sim.found.lock().unwrap().push(found);
    }
    loop {
        let live = slot.lock().unwrap().clone();
        if let Some(live) = live
            && control(sim, live, Control::default()).await
        {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What every target was given, and how often a message was handed out.
fn standing(sim: &Sim) -> (Vec<u64>, u64) {
    (sim.targets.values().map(|target| target.lock().unwrap().writes).collect(), sim.queue.deliveries())
}
