//! What a seed means.

use std::collections::BTreeMap;

use repl::engine::{Ack, Mode};
use repl::model::object::{Tags, Versioning};
use repl::plan::route::{History, Rule};

use super::site::TARGET;
use super::world::dice::Dice;
use super::world::weather::Forecast;

/// One run's plan.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) rule: Rule,
    pub(super) source: Versioning,
    pub(super) target: Versioning,
    pub(super) mode: Mode,
    pub(super) ack: Ack,
    pub(super) workers: u64,
    pub(super) forecast: Forecast,
    /// How often a worker loses its power.
    pub(super) crashes: u64,
    /// Changes of the source's author.
    pub(super) changes: u64,
    pub(super) keys: Vec<String>,
    /// Milliseconds between two changes, at most.
    pub(super) pace: u64,
    /// So many of a thousand events are lost, come twice, come late.
    pub(super) lost: u64,
    pub(super) twice: u64,
    pub(super) late: u64,
    /// So many of a thousand requests to the source meet a change of their key right before.
    pub(super) meddling: u64,
    /// Whether versions are deleted for good.
    pub(super) purges: bool,
    /// Whether some objects are written in parts of 5 MiB.
    pub(super) large: bool,
    /// Seconds by which a machine's clock is set wrong now and then, at most.
    pub(super) clock: u64,
}

/// Keys as people and programs make them.
const KEYS: [&str; 8] =
    ["in/a", "in/b+c d%2F", "in/", "in/日本/é", "in/x\u{1}y", "in/'q\"<&>", "in//double", "out/of scope"];

impl Scenario {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "scenario");
        let both = dice.pick(&[
            (Versioning::Enabled, Versioning::Enabled),
            (Versioning::Enabled, Versioning::Enabled),
            (Versioning::Enabled, Versioning::Enabled),
            (Versioning::Enabled, Versioning::Off),
            (Versioning::Off, Versioning::Off),
            (Versioning::Off, Versioning::Enabled),
        ]);
        let number = dice.between(1, 5) as usize;
        let at = dice.below(3) as usize;
        let long = format!("in/{}", super::log::LONG.repeat(9));
        let mut keys: Vec<String> = KEYS.iter().skip(at).take(number).map(|key| (*key).to_owned()).collect();
        if dice.per_mille(200) {
            keys.push(long);
        }
        if dice.per_mille(300) {
            keys.push(KEYS[7].to_owned());
        }
        Self {
            seed,
            rule: rule(&mut dice),
            source: both.0,
            target: both.1,
            mode: dice.pick(&[Mode::Auto, Mode::Auto, Mode::Stream, Mode::ServerSide]),
            ack: dice.pick(&[Ack::Admitted, Ack::Admitted, Ack::Settled]),
            workers: dice.pick(&[1, 1, 1, 2]),
            forecast: Forecast {
                faults: dice.pick(&[0, 5, 40, 120]),
                per_mille: dice.pick(&[20, 100, 300]),
                slowness: dice.pick(&[0, 5, 50, 400]),
                denied_for: dice.pick(&[0, 0, 20, 200]),
            },
            crashes: dice.pick(&[0, 0, 1, 3, 8]),
            changes: dice.between(1, 30),
            keys,
            pace: dice.pick(&[1, 30, 500, 5_000]),
            lost: dice.pick(&[0, 0, 0, 150]),
            twice: dice.pick(&[0, 100, 400]),
            late: dice.pick(&[0, 100, 400]),
            meddling: dice.pick(&[0, 0, 50, 200]),
            purges: dice.per_mille(150),
            large: dice.per_mille(120),
            clock: dice.pick(&[0, 0, 0, 30, 4_000]),
        }
    }
}

/// Warnings that faults lead to, and nothing else.
const OF_FAULTS: [&str; 8] = [
    "the queue cannot be read; trying again",
    "messages could not be deleted; they will come again",
    "messages under work could not be kept hidden",
    "an upload that is not needed any more could not be aborted",
    "the upload could not be ended yet",
    "an upload that nobody needs stays open",
    "the target key could not be proved",
    "parked kind=corrupt",
];

impl Scenario {
    /// Whether a warning is what this scenario leads to.
    pub(super) fn declares(&self, line: &str) -> bool {
        let faults = self.forecast.faults > 0 && OF_FAULTS.iter().any(|known| line.contains(known));
        let denied = self.forecast.denied_for > 0 && line.contains("parked") && line.contains("kind=denied");
        // Nothing but the ledger tells that an unstamped replica is ours: one that it lost, or another worker's, is taken for
        // somebody else's where overwriting would destroy it.
        let unsure = self.crashes > 0 || self.workers > 1;
        let foreign = unsure && self.target != Versioning::Enabled && line.contains("kind=foreign");
        faults || denied || foreign
    }
}

fn rule(dice: &mut Dice) -> Rule {
    Rule {
        id: "all".into(),
        target: TARGET.into(),
        priority: 1,
        prefix: "in/".to_owned(),
        tags: Tags::new(),
        delete_markers: dice.per_mille(700),
        enabled: true,
        history: dice.pick(&[History::All, History::All, History::Latest]),
        storage_class: None,
        kms_key: None,
        kms_map: BTreeMap::new(),
        owner_full_control: false,
        acl: dice.per_mille(150),
        target_prefix: dice.pick(&[String::new(), String::new(), "from-us/".to_owned()]),
        stamp: dice.per_mille(800),
    }
}
