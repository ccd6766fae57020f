//! `repl why s3://B/K`: one object's story, from the rule that claims it to what will happen next.

use serde_json::{Value, json};

use crate::audit::Verdict;
use crate::audit::explain::{AtTarget, Explained, Ruling, explain};
use crate::config::Config;
use crate::ledger::{Chapter, Control, Group, Happened, Ledger, Next, Outcome, Standing, Story};
use crate::model::job::{ChangeKind, Origin};
use crate::model::object::{Found, Key, TargetId, Timestamp, VersionId};
use crate::plan::route::History;
use crate::ports::Clock;

use super::progress::say;
use super::reach::{Absent, Reached, reach, silence};
use super::remedy::remedy;
use super::worker::Worker;
use super::world::{Aws, SystemClock};
use super::{Exit, Failure};

mod address;
mod sides;
mod told;

use address::Named;
pub(super) use address::Why;

/// Carries the command out. The worker tells, where one runs: it sees with its own permissions.
pub(super) async fn why(config: &Config, args: &Why) -> Result<Exit, Failure> {
    let named = args.named(config)?;
    let version = named.version.as_ref().map(VersionId::as_str);
    let question = json!({"ask": "why", "key": named.key.as_str(), "version": version});
    let local = match reach(config, &question, Absent::Left).await? {
        Reached::Worker(answer) => return Ok(print(&answer, args)),
        Reached::Ledger(ledger) => Local::of(&ledger, &named.key)?,
        Reached::Nothing => Local::default(),
        Reached::Silence => return Err(silence()),
    };
    // The ledger is let go of by now: both sides may take long to answer, and a worker may want to start.
    let explained = explain(&Aws::new(config).await?, named.question(config)).await;
    Ok(print(&tell(config, local, &named, &explained), args))
}

fn print(story: &Value, args: &Why) -> Exit {
    if args.json {
        say(story);
    } else {
        say(told::text(story));
    }
    Exit::Done
}

/// In the worker.
pub(super) async fn answer(worker: &Worker, question: &Value) -> Result<Value, Failure> {
    let text = |name: &str| question.get(name).and_then(Value::as_str);
    let key = text("key").ok_or_else(|| Failure::usage("the question names no key"))?;
    let named = Named { key: Key::new(key), version: text("version").map(VersionId::new) };
    let explained = explain(&*worker.world, named.question(&worker.config)).await;
    // Afterwards: what came while both sides were looked at is told as pending, not as missing.
    Ok(tell(&worker.config, Local::of(&worker.ledger, &named.key)?, &named, &explained))
}

/// What the ledger knows of a key.
#[derive(Default)]
struct Local {
    story: Story,
    groups: Vec<Group>,
    control: Control,
}

impl Local {
    fn of(ledger: &Ledger, key: &Key) -> Result<Self, Failure> {
        Ok(Self { story: ledger.story(key)?, groups: ledger.groups()?, control: ledger.control()? })
    }
}

/// What is known beside what both sides show.
struct Known<'a> {
    config: &'a Config,
    version: Option<&'a VersionId>,
    local: Local,
    now: Timestamp,
}

fn tell(config: &Config, local: Local, named: &Named, explained: &Explained) -> Value {
    let known = Known { config, version: named.version.as_ref(), local, now: SystemClock.now() };
    known.report(&named.key, explained)
}

/// Where an object stands with one target, and what comes next.
struct Verdicts {
    state: &'static str,
    reason: Option<String>,
    next: String,
}

fn stand(state: &'static str, reason: impl Into<String>, next: impl Into<String>) -> Verdicts {
    Verdicts { state, reason: Some(reason.into()), next: next.into() }
}

impl Known<'_> {
    /// The object `why` of DESIGN 2.1. Where there are several targets, the fields beside `targets` tell of the first
    /// that a rule brings the key to.
    fn report(&self, key: &Key, explained: &Explained) -> Value {
        let targets: Vec<Value> = explained.targets.iter().map(|at| self.at_target(explained, at)).collect();
        let ruled = targets.iter().find(|target| target.get("rule").is_some_and(Value::is_string));
        let first = ruled.or(targets.first()).cloned().unwrap_or_default();
        let of_first = |name: &str| first.get(name).cloned().unwrap_or_default();
        json!({
            "key": key.as_str(),
            "version": self.version.map(VersionId::as_str),
            "rule": of_first("rule"),
            "state": of_first("state"),
            "source": sides::source(self.config, key, &explained.source),
            "target": of_first("target"),
            "events": self.events(),
            "attempts": self.attempts(None),
            "reason": of_first("reason"),
            "next": of_first("next"),
            "targets": targets,
            "paused": self.local.control.is_paused(self.now),
            "paused_until": self.local.control.pause_ends(self.now).map(Timestamp::rfc3339),
            "as_of": self.now.rfc3339(),
        })
    }

    fn at_target(&self, explained: &Explained, at: &AtTarget) -> Value {
        let (rule, no_rule) = match &at.ruling {
            Ruling::Rule(rule) => (Some(rule), None),
            Ruling::Leaves(rule, reason) => (Some(rule), Some(reason)),
            Ruling::None(reason) | Ruling::Unknown(reason) => (None, Some(reason)),
        };
        let Verdicts { state, reason, next } = self.standing(explained, at);
        let next = if self.local.control.is_paused(self.now) { format!("{next}; work is paused now") } else { next };
        let applied =
            self.local.story.applied.iter().find(|(target, key, _)| *target == at.target && *key == at.target_key);
        json!({
            "name": at.target.as_str(),
            "rule": rule.map(|rule| rule.as_str().to_owned()),
            "no_rule": no_rule,
            "state": state,
            "reason": reason,
            "next": next,
            "target": sides::target(self.config, at),
            "last_applied": applied.map(|(_, _, applied)| json!({
                "version": applied.version.as_str(),
                "delete_marker": applied.marker,
                "modified": applied.modified.rfc3339(),
                "sequencer": applied.sequencer.as_ref().map(|sequencer| sequencer.as_str().to_owned()),
                "target_version": applied.target_version.as_ref().map(|version| version.as_str().to_owned()),
            })),
            "attempts": self.attempts(Some(&at.target)),
            "failed_attempts": self.chapters(&at.target).map(|chapter| chapter.attempts).max().unwrap_or(0),
        })
    }

    /// Whether something is about what was asked for: all versions, or the named one.
    fn is_meant(&self, version: &VersionId) -> bool {
        self.version.is_none_or(|wanted| wanted == version || version.is_unnamed())
    }

    fn chapters(&self, target: &TargetId) -> impl Iterator<Item = &Chapter> {
        let jobs = self.local.story.jobs.iter();
        jobs.filter(move |chapter| chapter.job.target == *target && self.is_meant(&chapter.job.version))
    }

    fn standing(&self, explained: &Explained, at: &AtTarget) -> Verdicts {
        if let Some(chapter) = self.chapters(&at.target).max_by_key(|chapter| urgency(chapter.standing)) {
            return self.unfinished(chapter);
        }
        match (&at.ruling, &explained.source) {
            (Ruling::None(reason), _) => stand("not-replicated", reason, "nothing: no rule asks for it"),
            (Ruling::Leaves(_, reason), _) => stand("not-replicated", reason, "nothing: the rule leaves it there"),
            (_, Err(fault)) => stand("unknown", fault.to_string(), "not known: the source could not be seen"),
            (_, Ok(Found::Missing)) => self.gone(at),
            (Ruling::Unknown(reason), Ok(_)) => stand("unknown", reason, "not known: the rule is not"),
            (Ruling::Rule(_), Ok(_)) => self.at_rest(at),
        }
    }

    fn unfinished(&self, chapter: &Chapter) -> Verdicts {
        let fault = chapter.fault.as_ref().map(ToString::to_string);
        match chapter.standing {
            Standing::Ready if chapter.attempts == 0 => stand(
                "pending",
                "it is admitted and waits its turn",
                "it is brought as soon as its turn comes; changes of one key go in order",
            ),
            Standing::Ready => Verdicts { state: "pending", reason: fault, next: "it is tried again now".to_owned() },
            Standing::Deferred(at) => {
                let next = format!("it is tried again at {}", at.rfc3339());
                Verdicts { state: "waiting", reason: fault, next }
            }
            Standing::Parked(id) => {
                let group = self.local.groups.iter().find(|group| group.id == id);
                let next = group.map_or_else(
                    || "it goes on when its cause is gone".to_owned(),
                    |group| {
                        let (probe, fix) = (group.next_probe.rfc3339(), remedy(group, self.config));
                        format!(
                            "group {id} is tried again at {probe}, and goes on once its cause is gone; to mend it: \
                             {fix}; `repl failures retry --group {id}` tries at once"
                        )
                    },
                );
                Verdicts { state: "parked", reason: fault, next }
            }
            Standing::Held => Verdicts {
                state: "held",
                reason: fault.or_else(|| Some("the brake on mass deletes holds it".to_owned())),
                next: "nothing until `repl brake release`; before it goes then, the source is asked again".to_owned(),
            },
        }
    }

    /// The source has nothing there.
    fn gone(&self, at: &AtTarget) -> Verdicts {
        let what = if self.version.is_some() { "version" } else { "object" };
        match &at.found {
            Ok(Found::Object(_)) => stand(
                "gone",
                format!("the source has no such {what}, and a permanent delete is never replicated"),
                "nothing: what is at the target stays there",
            ),
            Ok(Found::DeleteMarker | Found::Missing) | Err(_) => {
                stand("gone", format!("the source has no such {what}"), "nothing, unless it is written at the source")
            }
        }
    }

    /// Nothing is pending: what both sides show decides.
    fn at_rest(&self, at: &AtTarget) -> Verdicts {
        let evidence = at.comparison.evidence.clone();
        let only_newest =
            self.config.rules.iter().any(|rule| {
                matches!(&at.ruling, Ruling::Rule(id) if *id == rule.id) && rule.history == History::Latest
            });
        let note = self.local.story.notes.iter().rev().find(|note| {
            note.target.as_ref().is_none_or(|target| *target == at.target) && self.is_meant(&note.version)
        });
        match at.comparison.verdict {
            None => stand("unknown", evidence, "not known: one side could not be seen"),
            Some(Verdict::Identical) => stand("replicated", evidence, "nothing: both sides agree"),
            Some(Verdict::Unprovable) => {
                stand("unprovable", evidence, "nothing by itself; `repl verify --deep` compares the bytes")
            }
            Some(Verdict::Missing) if only_newest && self.version.is_some() => {
                stand("not-replicated", "the rule brings only the newest version", "nothing")
            }
            Some(verdict) => {
                let state = if verdict == Verdict::Missing { "missing" } else { "different" };
                let noted = note.map(|note| format!("; noted {}: {}", note.noted.rfc3339(), note.reason));
                let reason = format!("{evidence}, and nothing is pending{}", noted.unwrap_or_default());
                let flag = if verdict == Verdict::Extra { " --delete-markers" } else { "" };
                let next = format!(
                    "nothing, unless another event comes: `repl sync{flag} --prefix KEY` brings what events missed"
                );
                stand(state, reason, next)
            }
        }
    }

    /// What told of a change: events, those that asked for nothing, and scans whose work is not done.
    fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        for happening in &self.local.story.happenings {
            if let Happened::Told { kind, sequencer, changed } = &happening.what
                && self.is_meant(&happening.version)
            {
                events.push(json!({
                    "at": happening.at.rfc3339(),
                    "kind": change(*kind),
                    "by": "event",
                    "version": happening.version.as_str(),
                    "target": happening.target.as_str(),
                    "sequencer": sequencer.as_ref().map(|sequencer| sequencer.as_str().to_owned()),
                    "changed": changed.rfc3339(),
                    "reason": null,
                }));
            }
        }
        for chapter in self.local.story.jobs.iter().filter(|chapter| self.is_meant(&chapter.job.version)) {
            let job = &chapter.job;
            let told = self.local.story.happenings.iter().any(|happening| {
                matches!(happening.what, Happened::Told { .. })
                    && happening.version == job.version
                    && happening.target == job.target
            });
            if !told {
                events.push(json!({
                    "at": null,
                    "kind": change(job.kind),
                    "by": match job.origin { Origin::Event => "event", Origin::Scan => "sync" },
                    "version": job.version.as_str(),
                    "target": job.target.as_str(),
                    "sequencer": job.sequencer.as_ref().map(|sequencer| sequencer.as_str().to_owned()),
                    "changed": job.changed.rfc3339(),
                    "reason": null,
                }));
            }
        }
        for note in self.local.story.notes.iter().filter(|note| self.is_meant(&note.version)) {
            events.push(json!({
                "at": note.noted.rfc3339(),
                "kind": "not-replicated",
                "by": null,
                "version": note.version.as_str(),
                "target": note.target.as_ref().map(|target| target.as_str().to_owned()),
                "sequencer": null,
                "changed": null,
                "reason": note.reason,
            }));
        }
        events.sort_by_key(|event| event.get("at").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339));
        events
    }

    /// Attempts of late with their times, and how each ended.
    fn attempts(&self, target: Option<&TargetId>) -> Vec<Value> {
        let mut attempts = Vec::new();
        for happening in &self.local.story.happenings {
            let here = target.is_none_or(|target| happening.target == *target) && self.is_meant(&happening.version);
            let (outcome, fault, next) = match &happening.what {
                Happened::Failed { fault, next } => ("failed", Some(fault), Some(*next)),
                Happened::Ended { outcome } => (ended(outcome), None, None),
                Happened::Told { .. } => continue,
            };
            if !here {
                continue;
            }
            attempts.push(json!({
                "at": happening.at.rfc3339(),
                "target": happening.target.as_str(),
                "version": happening.version.as_str(),
                "outcome": outcome,
                "fault": fault.map(ToString::to_string),
                "kind": fault.map(|fault| fault.kind.name()),
                "code": fault.and_then(|fault| fault.code.clone()),
                "next": next.map(|next| match next {
                    Next::Retry(at) => format!("tried again at {}", at.rfc3339()),
                    Next::Parked(group) => format!("parked in group {group}"),
                }),
            }));
        }
        attempts
    }
}

/// Of several unfinished jobs, the one that keeps the others waiting speaks.
fn urgency(standing: Standing) -> u8 {
    match standing {
        Standing::Ready => 0,
        Standing::Deferred(_) => 1,
        Standing::Parked(_) => 2,
        Standing::Held => 3,
    }
}

fn change(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Write => "write",
        ChangeKind::Mend => "mend",
        ChangeKind::DeleteMarker => "delete-marker",
        ChangeKind::Attributes => "attributes",
        ChangeKind::Restored => "restored",
    }
}

fn ended(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Replicated => "replicated",
        Outcome::AlreadyEqual => "already-equal",
        Outcome::Superseded => "superseded",
        Outcome::NotReplicated(_) => "not-replicated",
        Outcome::Gone => "gone",
    }
}
