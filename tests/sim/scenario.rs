//! What a seed means.

use std::collections::BTreeMap;

use repl::engine::budget::Limits;
use repl::engine::{Ack, Mode};
use repl::model::object::{Tags, Versioning};
use repl::plan::route::{History, Rule};

use super::site::{FAR, TARGET};
use super::world::dice::Dice;
use super::world::weather::Forecast;

/// One run's plan.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    /// The rule that there always is.
    pub(super) rule: Rule,
    /// More rules of the same target or of the other one.
    pub(super) more: Vec<Rule>,
    pub(super) source: Versioning,
    pub(super) target: Versioning,
    /// The other target, where there is one.
    pub(super) far: Option<Versioning>,
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
    /// Whether the queue keeps the order of what is sent.
    pub(super) ordered: bool,
    /// So many of a thousand writes have the bytes of the one before.
    pub(super) repeats: u64,
    /// So many different bodies are written; `None` for any number.
    pub(super) bodies: Option<u64>,
    /// Whether versions are deleted for good.
    pub(super) purges: bool,
    /// Whether some objects are written in parts of 5 MiB.
    pub(super) large: bool,
    /// Whether a machine's power is all that fails, or its disk too.
    pub(super) disk: bool,
    /// Deletes that the brake lets pass in an hour.
    pub(super) brake: u64,
    /// Bytes of objects in memory, bytes a second, requests a second.
    pub(super) limits: Limits,
    /// Seconds by which a machine's clock is set wrong now and then, at most.
    pub(super) clock: u64,
    /// Whether receipts are kept.
    pub(super) receipts: bool,
    /// So many of a thousand objects are written into a class that has to be restored.
    pub(super) archived: u64,
    /// Whether archived objects are restored only when everything else has ended.
    pub(super) frozen: bool,
    /// Whether an operator pauses, resumes and drains workers meanwhile.
    pub(super) operator: bool,
    /// Whether a worker comes back with another config.
    pub(super) reconfigured: bool,
    /// Whether the other target denies everything until this one is equal.
    pub(super) shut: bool,
}

/// The key that a rule may ask for.
pub(super) const KEY: &str = "arn:aws:kms:eu-west-2:111122223333:key/1234";

/// Keys as people and programs make them.
const KEYS: [&str; 8] =
    ["in/a", "in/b+c d%2F", "in/", "in/日本/é", "in/x\u{1}y", "in/'q\"<&>", "in//double", "out/of scope"];

/// A class whose objects must be restored before they can be read.
pub(super) const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

impl Scenario {
    /// Everything.
    pub(super) fn of(seed: u64) -> Self {
        Self::plain(seed).widened()
    }

    /// One rule, one target, nobody who interferes: where the causes of the first finds lay.
    pub(super) fn plain(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "scenario");
        let both = dice.pick(&[
            (Versioning::Enabled, Versioning::Enabled),
            (Versioning::Enabled, Versioning::Enabled),
            (Versioning::Enabled, Versioning::Enabled),
            (Versioning::Enabled, Versioning::Off),
            (Versioning::Off, Versioning::Off),
            (Versioning::Off, Versioning::Enabled),
            (Versioning::Suspended, Versioning::Enabled),
            (Versioning::Enabled, Versioning::Suspended),
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
        let workers = dice.pick(&[1, 1, 1, 2]);
        let mut rule = rule(&mut dice);
        // Nothing but the stamp tells one worker what another one wrote.
        rule.stamp |= workers > 1;
        Self {
            seed,
            rule,
            more: Vec::new(),
            source: both.0,
            target: both.1,
            far: None,
            mode: dice.pick(&[Mode::Auto, Mode::Auto, Mode::Stream, Mode::ServerSide]),
            ack: dice.pick(&[Ack::Admitted, Ack::Admitted, Ack::Settled]),
            workers,
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
            ordered: false,
            repeats: 100,
            bodies: None,
            purges: dice.per_mille(150),
            large: dice.per_mille(120),
            disk: dice.per_mille(300),
            brake: dice.pick(&[1_000_000, 1_000_000, 1_000_000, 2]),
            limits: Limits {
                memory: dice.pick(&[1, 12, 48]) << 20,
                bandwidth: dice.pick(&[None, None, Some(200_000)]),
                requests_per_second: dice.pick(&[None, None, Some(20)]),
                ..Limits::default()
            },
            clock: dice.pick(&[0, 0, 0, 30, 4_000]),
            receipts: false,
            archived: 0,
            frozen: false,
            operator: false,
            reconfigured: false,
            shut: false,
        }
    }

    /// Adds, each by chance, more rules, another target, archives, receipts, an operator and other configs.
    fn widened(mut self) -> Self {
        let mut dice = Dice::new(self.seed, "wider");
        self.receipts = dice.per_mille(400);
        self.operator = dice.per_mille(300);
        self.reconfigured = dice.per_mille(300);
        self.archived = dice.pick(&[0, 0, 0, 100, 400]);
        // With `Ack::Settled` the messages of what is parked stay in the queue: then there is no rest before they thaw.
        self.frozen = dice.per_mille(500) && self.archived > 0 && self.ack == Ack::Admitted;
        if dice.per_mille(300) {
            self.far =
                Some(dice.pick(&[Versioning::Enabled, Versioning::Enabled, Versioning::Off, Versioning::Suspended]));
            self.more.push(Rule { id: FAR.into(), target: FAR.into(), stamp: self.rule.stamp, ..rule(&mut dice) });
        }
        if dice.per_mille(300) {
            self.more.push(self.narrow(&mut dice));
        } else if dice.per_mille(300) {
            self.more.push(self.tagged(&mut dice));
        }
        if let Some(tagged) = self.more.iter_mut().find(|rule| !rule.tags.is_empty())
            && dice.per_mille(300)
        {
            tagged.target_prefix = "gold/".to_owned();
        }
        // Where nothing else keeps this one from becoming equal: a lost event is found only by a comparison.
        let others = self.lost + self.archived > 0 || self.brake < 1_000;
        self.shut = self.far.is_some() && !others && dice.per_mille(500);
        self
    }

    /// A rule for some of the keys of a target, above or below the one for all of them.
    fn narrow(&self, dice: &mut Dice) -> Rule {
        let prefix = dice.pick(&self.keys).chars().take(4).collect();
        let target = if self.far.is_some() { dice.pick(&[TARGET, FAR]) } else { TARGET };
        Rule {
            id: "narrow".into(),
            target: target.into(),
            priority: dice.pick(&[0, 2, 2]),
            prefix,
            enabled: dice.per_mille(850),
            stamp: self.rule.stamp,
            target_prefix: dice.pick(&[String::new(), "narrow/".to_owned()]),
            ..rule(dice)
        }
    }

    /// A rule for objects with a certain tag.
    fn tagged(&self, dice: &mut Dice) -> Rule {
        let Rule { prefix, history, target_prefix, stamp, acl, .. } = self.rule.clone();
        let tags = Tags::from([("class".to_owned(), "gold".to_owned())]);
        let (id, priority) = ("tagged".into(), dice.pick(&[0, 2, 2]));
        Rule { id, priority, tags, prefix, history, target_prefix, stamp, acl, ..rule(dice) }
    }

    /// All rules.
    pub(super) fn rules(&self) -> Vec<Rule> {
        [vec![self.rule.clone()], self.more.clone()].concat()
    }

    /// All targets: name, bucket, versioning.
    pub(super) fn targets(&self) -> Vec<(&'static str, &'static str, Versioning)> {
        let far = self.far.map(|versioning| (FAR, "far", versioning));
        [(TARGET, "dst", self.target)].into_iter().chain(far).collect()
    }

    /// Whether every target keeps versions.
    pub(super) fn targets_keep_versions(&self) -> bool {
        self.targets().iter().all(|(.., versioning)| *versioning == Versioning::Enabled)
    }

    /// Whether a rule asks for tags, which then stay as they are.
    pub(super) fn asks_for_tags(&self) -> bool {
        self.rules().iter().any(|rule| !rule.tags.is_empty())
    }

    /// Whether replicas are sealed with a key.
    pub(super) fn seals(&self) -> bool {
        self.rules().iter().any(|rule| rule.kms_key.is_some())
    }

    /// The settings of one life of a worker, as its config may have been changed for it.
    pub(super) fn of_life(&self, dice: &mut Dice) -> Self {
        let mut life = self.clone();
        if self.reconfigured {
            life.mode = dice.pick(&[Mode::Auto, Mode::Stream, Mode::ServerSide]);
            life.limits.bandwidth = dice.pick(&[None, Some(200_000)]);
            life.limits.requests_per_second = dice.pick(&[None, Some(20)]);
            life.more.reverse();
            if self.workers == 1 && !self.frozen {
                life.ack = dice.pick(&[Ack::Admitted, Ack::Settled]);
            }
        }
        life
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
    "the target key cannot be used",
];

impl Scenario {
    /// Whether copies may have nothing in common with their sources: no checksum, and an ETag of another key.
    pub(super) fn cannot_prove(&self) -> bool {
        (self.mode == Mode::ServerSide || self.reconfigured) && self.seals()
    }

    /// Whether versions of equal bytes can be told apart: S3's conditions know nothing but ETags, so several workers have
    /// to look after what they wrote, which needs versions; and in a bucket that keeps one version nothing but the stamp
    /// tells.
    pub(super) fn tells_repeats(&self) -> bool {
        let looks = self.workers == 1 || (self.ack == Ack::Settled && self.source == Versioning::Enabled);
        looks && (self.rule.stamp || self.targets_keep_versions())
    }

    /// Whether old versions find their places at once. A marker on top is like nothing there to S3's conditions: two workers
    /// that insert what was restored late do not see what the other has put between.
    pub(super) fn keeps_places(&self) -> bool {
        self.workers == 1 || self.archived == 0
    }

    /// Whether events come in the order of their changes. The queue itself mixes them where it may, so only with one
    /// change at a time in it.
    pub(super) fn in_order(&self) -> bool {
        self.ordered && self.workers == 1
    }

    /// Whether a ledger knows of every unstamped replica, or of what was sent and may be one.
    pub(super) fn remembers(&self) -> bool {
        self.workers == 1 && self.crashes == 0
    }

    /// Whether a warning is what this scenario leads to.
    pub(super) fn declares(&self, line: &str) -> bool {
        let corrupt = line.contains("parked") && line.contains("kind=corrupt");
        let faults = self.forecast.faults > 0 && (corrupt || OF_FAULTS.iter().any(|known| line.contains(known)));
        let denied =
            (self.forecast.denied_for > 0 || self.shut) && line.contains("parked") && line.contains("kind=denied");
        // Nothing but the ledger tells that an unstamped replica is ours: one that it lost, or another worker's, is taken for
        // somebody else's where overwriting would destroy it.
        let foreign = !self.remembers() && !self.targets_keep_versions() && line.contains("kind=foreign");
        let key = ["kind=key-unusable", "the target key cannot be used"].iter().any(|known| line.contains(known));
        let key = key && self.seals();
        let archived = self.archived > 0 && line.contains("parked") && line.contains("kind=archived");
        let receipts = self.receipts && self.declares_of_receipts(line);
        let disk = self.disk && self.crashes > 0 && line.contains("nothing may be acknowledged any more");
        let brake = self.brake < 1_000 && line.contains("the brake holds");
        let unproved = self.cannot_prove() && line.contains("equality cannot be proved");
        let garbage = line.contains("quarantined: the message cannot be understood");
        faults || denied || foreign || key || disk || brake || garbage || unproved || archived || receipts
    }

    fn declares_of_receipts(&self, line: &str) -> bool {
        let late = ["receipts: could not be uploaded", "receipts: not all files could be uploaded in time"];
        let torn = "receipts: the last lines were not whole on disk";
        let late = self.forecast.faults > 0 && late.iter().any(|known| line.contains(known));
        late || (self.crashes > 0 && line.contains(torn))
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
        storage_class: dice.pick(&[None, None, Some("STANDARD_IA".to_owned())]),
        kms_key: dice.pick(&[None, None, None, Some(KEY.to_owned())]),
        kms_map: BTreeMap::new(),
        owner_full_control: false,
        acl: dice.per_mille(150),
        target_prefix: dice.pick(&[String::new(), String::new(), "from-us/".to_owned()]),
        stamp: dice.per_mille(800),
    }
}
