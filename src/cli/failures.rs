//! `repl failures`: what is parked and why, what mends it, and the ways back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::aws::notification;
use crate::config::{Config, units};
use crate::engine::intake::{Redriven, redrive};
use crate::engine::orphans;
use crate::ledger::{Group, GroupId, Ledger, Quarantined, Release};
use crate::model::object::{Key, Timestamp};
use crate::ports::Clock;

use super::progress::{complain, say};
use super::reach::{Absent, Reached, reach, silence};
use super::remedy::remedy;
use super::worker::Worker;
use super::world::{Aws, SystemClock};
use super::{Exit, Failure, ask};

/// Quarantined messages that a list tells.
const LISTED: usize = 100;
/// Bytes of a body that a list shows; `failures show` gives all.
const SHOWN: usize = 4 << 10;
/// How long the worker lets a caller wait for a large release; it goes on by itself after that.
const AT_MOST: Duration = Duration::from_secs(60);
/// Messages that one command reads again or drops: the quarantine holds no more.
const ALL_MESSAGES: usize = 1_000_000;

#[derive(Debug, clap::Args)]
pub(super) struct Failures {
    #[command(subcommand)]
    what: Option<What>,
    /// One JSON object on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Groups by cause, and messages that could not be understood
    List,
    /// Prints one message of the quarantine, whole
    Show {
        /// Its number, as listed
        id: u64,
    },
    /// Tries parked objects again at once, and reads quarantined messages again
    Retry(Which),
    /// Gives parked objects or quarantined messages up for good
    Drop {
        #[command(flatten)]
        which: Which,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The objects of one group
    #[arg(long, value_name = "ID")]
    group: Option<u32>,
    /// One source key, as it is (not URL-encoded)
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// Source keys that begin so
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// One message of the quarantine
    #[arg(long, value_name = "ID")]
    message: Option<u64>,
    /// Every message of the quarantine
    #[arg(long)]
    messages: bool,
    /// Every parked object and every message
    #[arg(long)]
    all: bool,
}

/// What is meant, on either side of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chosen {
    parked: Option<Release>,
    messages: Messages,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Messages {
    None,
    One(u64),
    All,
}

impl Which {
    fn question(&self, ask: &str) -> Value {
        json!({"ask": ask, "group": self.group, "key": self.key, "prefix": self.prefix, "message": self.message,
            "messages": self.messages, "all": self.all})
    }

    /// For a question and for a sentence.
    fn words(&self) -> String {
        let Self { group, key, prefix, message, messages, all: _ } = self;
        match (group, key, prefix, message, messages) {
            (Some(id), ..) => format!("in group {id}"),
            (None, Some(key), ..) => format!("under key {key:?}"),
            (None, None, Some(prefix), ..) => format!("under prefix {prefix:?}"),
            (None, None, None, Some(id), _) => format!("as message {id}"),
            (None, None, None, None, true) => "in the quarantine".to_owned(),
            (None, None, None, None, false) => "or quarantined".to_owned(),
        }
    }
}

impl Chosen {
    fn read(question: &Value) -> Result<Self, Failure> {
        let text = |name: &str| question.get(name).and_then(Value::as_str);
        let number = |name: &str| question.get(name).and_then(Value::as_u64);
        let flag = |name: &str| question.get(name).and_then(Value::as_bool) == Some(true);
        let alone = |parked| Self { parked: Some(parked), messages: Messages::None };
        if flag("all") {
            return Ok(Self { parked: Some(Release::All), messages: Messages::All });
        }
        if flag("messages") {
            return Ok(Self { parked: None, messages: Messages::All });
        }
        if let Some(id) = number("message") {
            return Ok(Self { parked: None, messages: Messages::One(id) });
        }
        if let Some(id) = number("group") {
            let id = u32::try_from(id).map_err(|_| Failure::usage(format!("{id} is no group")))?;
            return Ok(alone(Release::Group(GroupId(id))));
        }
        match (text("key"), text("prefix")) {
            (Some(key), _) => Ok(alone(Release::Key(Key::new(key)))),
            (None, Some(prefix)) => Ok(alone(Release::Prefix(prefix.to_owned()))),
            (None, None) => Err(Failure::usage("the question does not say which failures are meant")),
        }
    }

    /// The messages that are meant and there.
    fn messages(&self, ledger: &Ledger) -> Result<Vec<Quarantined>, Failure> {
        Ok(match self.messages {
            Messages::None => Vec::new(),
            Messages::One(id) => ledger.quarantined_message(id)?.into_iter().collect(),
            Messages::All => ledger.quarantined(ALL_MESSAGES)?,
        })
    }
}

/// Carries the command out.
pub(super) async fn failures(config: &Config, args: &Failures) -> Result<Exit, Failure> {
    match &args.what {
        None | Some(What::List) => list(config, args.json).await,
        Some(What::Show { id }) => show(config, *id, args.json).await,
        Some(What::Retry(which)) => {
            let answer = ask(config, &which.question("failures-retry")).await?;
            Ok(tell_retried(&answer, which, args.json))
        }
        Some(What::Drop { which, yes }) => {
            if !*yes && !is_meant(which)? {
                return Ok(Exit::Differs);
            }
            let answer = ask(config, &which.question("failures-drop")).await?;
            Ok(tell_dropped(&answer, which, args.json))
        }
    }
}

/// Asks the worker, or does what it would do with the ledger that it left.
async fn ask(config: &Config, question: &Value) -> Result<Value, Failure> {
    match reach(config, question, Absent::Left).await? {
        Reached::Worker(mut answer) => {
            if let Some(fields) = answer.as_object_mut() {
                fields.insert("worker".to_owned(), Value::Bool(true));
            }
            Ok(answer)
        }
        Reached::Ledger(ledger) => {
            let mut answer = answer_from(config, &ledger, None, question).await?;
            if let Some(fields) = answer.as_object_mut() {
                fields.insert("worker".to_owned(), Value::Bool(false));
            }
            Ok(answer)
        }
        Reached::Nothing => {
            let place = config.ledger.path.display();
            Err(Failure::usage(format!("there is no ledger in {place} yet: no worker ever ran with this config")))
        }
        Reached::Silence => Err(silence()),
    }
}

/// In the worker.
pub(super) async fn answer(worker: &Worker, question: &Value) -> Result<Value, Failure> {
    let answered = answer_from(&worker.config, &worker.ledger, Some(&worker.world), question).await;
    worker.engine.wake();
    answered
}

async fn answer_from(
    config: &Config,
    ledger: &Ledger,
    world: Option<&Aws>,
    question: &Value,
) -> Result<Value, Failure> {
    let now = SystemClock.now();
    match question.get("ask").and_then(Value::as_str) {
        Some("failures-retry") => retry(config, ledger, &Chosen::read(question)?, now).await,
        Some("failures-drop") => {
            let chosen = Chosen::read(question)?;
            let dropped = drop_chosen(ledger, &chosen, now).await?;
            let ended = match world {
                Some(world) => orphans::end_all(world, ledger).await?,
                None => orphans::end_all(&Aws::new(config).await?, ledger).await?,
            };
            let faults: Vec<String> = ended.faults.iter().map(ToString::to_string).collect();
            let (objects, messages) = dropped;
            Ok(json!({"dropped": objects, "messages_dropped": messages, "uploads_aborted": ended.aborted,
                "faults": faults}))
        }
        Some("failures-show") => {
            let id = question.get("id").and_then(Value::as_u64).unwrap_or(0);
            let message = ledger.quarantined_message(id)?;
            let message =
                message.ok_or_else(|| Failure::usage(format!("there is no message {id} in the quarantine")))?;
            Ok(message_json(&message, usize::MAX))
        }
        Some(_) | None => report(config, ledger, now),
    }
}

// Listing --------------------------------------------------------------------------------------------------------------

/// The object `failures` of DESIGN 2.1.
fn report(config: &Config, ledger: &Ledger, now: Timestamp) -> Result<Value, Failure> {
    let totals = ledger.totals();
    let groups: Vec<Value> = ledger.groups()?.iter().map(|group| group_json(group, config, now)).collect();
    let kept = ledger.quarantined(LISTED)?;
    let quarantined: Vec<Value> = kept.iter().map(|message| message_json(message, SHOWN)).collect();
    Ok(json!({
        "groups": groups,
        "quarantined": quarantined,
        "quarantined_total": totals.quarantined,
        "quarantined_bytes": totals.quarantined_bytes,
        "turned_away": totals.turned_away,
    }))
}

/// One group, for lists and for the status.
pub(super) fn group_json(group: &Group, config: &Config, now: Timestamp) -> Value {
    json!({
        "id": group.id.0,
        "cause": group.cause,
        "fault": fault_sentence(group),
        "kind": group.kind.name(),
        "count": group.count,
        "bytes": group.bytes,
        "oldest_age_seconds": now.since(group.oldest).as_secs_f64(),
        "example": group.example.as_str(),
        "fix": remedy(group, config),
        "next_probe_seconds": group.next_probe.since(now).as_secs_f64(),
        "failed_probes": group.probes,
        "target": group.target.as_str(),
        "rule": group.rule.as_ref().map(|rule| rule.as_str().to_owned()),
    })
}

fn fault_sentence(group: &Group) -> String {
    let fault = &group.fault;
    let code = fault.code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
    format!("could not {} {}: {code}{}", group.during, group.side.place(), fault.detail)
}

fn message_json(message: &Quarantined, most: usize) -> Value {
    let body = &message.body;
    let end = (0..=most.min(body.len())).rev().find(|end| body.is_char_boundary(*end)).unwrap_or(0);
    json!({
        "id": message.id,
        "reason": message.reason,
        "received": message.received.rfc3339(),
        "body": body.get(..end).unwrap_or_default(),
        "body_bytes": body.len(),
        "message_id": message.message_id,
    })
}

async fn list(config: &Config, json: bool) -> Result<Exit, Failure> {
    let question = json!({"ask": "failures"});
    let report = match reach(config, &question, Absent::Left).await? {
        Reached::Worker(answer) => answer,
        Reached::Ledger(ledger) => report(config, &ledger, SystemClock.now())?,
        // No worker ever ran: nothing has failed yet.
        Reached::Nothing => json!({"groups": [], "quarantined": [], "quarantined_total": 0, "quarantined_bytes": 0,
            "turned_away": 0}),
        Reached::Silence => return Err(silence()),
    };
    if json {
        say(&report);
    } else {
        say(table(&report));
    }
    Ok(Exit::Done)
}

async fn show(config: &Config, id: u64, json: bool) -> Result<Exit, Failure> {
    let message = ask(config, &json!({"ask": "failures-show", "id": id})).await?;
    if json {
        say(&message);
        return Ok(Exit::Done);
    }
    say(format_args!("message {id} ({}), received {}", text(&message, "message_id"), text(&message, "received")));
    say(format_args!("not understood: {}", printable(text(&message, "reason"))));
    say(printable(text(&message, "body")));
    Ok(Exit::Done)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn seconds(value: &Value, name: &str) -> String {
    let seconds = value.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    units::show_duration(Duration::from_secs(whole))
}

/// What came from outside, without anything that could steer a terminal.
pub(super) fn printable(text: &str) -> String {
    let safe = |letter: char| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter };
    text.chars().map(safe).collect()
}

fn table(report: &Value) -> String {
    let list = |name: &str| report.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (groups, messages) = (list("groups"), list("quarantined"));
    let mut out = String::new();
    for group in &groups {
        let id = number(group, "id");
        out.push_str(&format!(
            "group {id}: {}\n  {} objects, {} bytes, the oldest {} old, such as {:?}\n  {}\n  to mend it: {}\n  \
             tried again in {}, and with it all others of the group; `repl failures retry --group {id}` tries at once\n",
            printable(text(group, "cause")),
            number(group, "count"),
            number(group, "bytes"),
            seconds(group, "oldest_age_seconds"),
            text(group, "example"),
            printable(text(group, "fault")),
            printable(text(group, "fix")),
            seconds(group, "next_probe_seconds"),
        ));
    }
    for message in &messages {
        let id = number(message, "id");
        out.push_str(&format!(
            "message {id}, received {}: {}\n  `repl failures show {id}` prints it, `repl failures retry --message {id}` reads it again\n",
            text(message, "received"),
            printable(text(message, "reason")),
        ));
    }
    let total = number(report, "quarantined_total");
    if total > messages.len() as u64 {
        out.push_str(&format!("and {} more messages in the quarantine\n", total - messages.len() as u64));
    }
    let turned_away = number(report, "turned_away");
    if turned_away > 0 {
        out.push_str(&format!(
            "the quarantine is full: {turned_away} times a message was left in the queue, which gives it to its \
             dead-letter queue; retry or drop what is here\n"
        ));
    }
    if out.is_empty() {
        out.push_str("nothing is parked and nothing is quarantined\n");
    }
    out
}

// The ways back --------------------------------------------------------------------------------------------------------

/// How many were moved; `None` while that goes on by itself.
async fn within(moving: impl Future<Output = Result<u64, crate::model::fault::Fault>>) -> Result<Option<u64>, Failure> {
    match tokio::time::timeout(AT_MOST, moving).await {
        Ok(moved) => Ok(Some(moved?)),
        Err(_) => Ok(None),
    }
}

async fn retry(config: &Config, ledger: &Ledger, chosen: &Chosen, now: Timestamp) -> Result<Value, Failure> {
    let retried = match &chosen.parked {
        Some(which) => within(ledger.release(which)).await?,
        None => Some(0),
    };
    let (mut redriven, mut still) = (0, Vec::new());
    for message in chosen.messages(ledger)? {
        let content = notification::read(&message.body, &config.source.bucket, message.received);
        match redrive(ledger, &config.rules, message.id, content, now).await? {
            Redriven::Understood(_) => redriven += 1,
            Redriven::Still(reason) => still.push(json!({"id": message.id, "reason": reason})),
        }
    }
    Ok(json!({"retried": retried, "redriven": redriven, "still_quarantined": still}))
}

async fn drop_chosen(ledger: &Ledger, chosen: &Chosen, now: Timestamp) -> Result<(Option<u64>, u64), Failure> {
    let dropped = match &chosen.parked {
        Some(which) => within(ledger.drop_parked(which, now)).await?,
        None => Some(0),
    };
    let ids = chosen.messages(ledger)?.into_iter().map(|message| message.id).collect();
    Ok((dropped, ledger.drop_quarantined(ids).await?))
}

/// How many, in a sentence.
fn moved(answer: &Value, name: &str) -> String {
    answer.get(name).and_then(Value::as_u64).map_or_else(|| "many".to_owned(), |moved| moved.to_string())
}

fn tell_retried(answer: &Value, which: &Which, json: bool) -> Exit {
    let still = answer.get("still_quarantined").and_then(Value::as_array).cloned().unwrap_or_default();
    let nothing = answer.get("retried").and_then(Value::as_u64) == Some(0) && number(answer, "redriven") == 0;
    if json {
        say(answer);
    } else if nothing && still.is_empty() {
        say(format_args!("nothing is parked {}", which.words()));
    } else {
        let when = match answer.get("worker").and_then(Value::as_bool) {
            Some(false) => "when a worker runs",
            Some(true) | None => "now",
        };
        say(format_args!(
            "{} objects are tried again {when}; {} messages were understood",
            moved(answer, "retried"),
            number(answer, "redriven")
        ));
        for message in &still {
            say(format_args!("message {} stays: {}", number(message, "id"), printable(text(message, "reason"))));
        }
    }
    if nothing || !still.is_empty() { Exit::Differs } else { Exit::Done }
}

fn tell_dropped(answer: &Value, which: &Which, json: bool) -> Exit {
    let nothing = answer.get("dropped").and_then(Value::as_u64) == Some(0) && number(answer, "messages_dropped") == 0;
    let faults = answer.get("faults").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        say(answer);
    } else if nothing {
        say(format_args!("nothing is parked {}", which.words()));
    } else {
        say(format_args!(
            "dropped {} objects and {} messages; {} open uploads were aborted",
            moved(answer, "dropped"),
            number(answer, "messages_dropped"),
            number(answer, "uploads_aborted")
        ));
        for fault in faults.iter().filter_map(Value::as_str) {
            say(format_args!("an upload stays open, and the next start of a worker tries again: {}", printable(fault)));
        }
    }
    if nothing || !faults.is_empty() { Exit::Differs } else { Exit::Done }
}

/// Asks a person on a terminal; elsewhere the answer must be given beforehand.
fn is_meant(which: &Which) -> Result<bool, Failure> {
    let sentence = format!("everything that is parked {} is given up for good", which.words());
    if !ask::is_somebody_there() {
        return Err(Failure::usage(format!("nothing was dropped: {sentence}; add --yes if that is meant")));
    }
    let answer = ask::person(&format!("{sentence}, and not replicated. Go on? [y/N] "))?.unwrap_or_default();
    let meant = ["y", "yes"].contains(&answer.to_ascii_lowercase().as_str());
    if !meant {
        complain("nothing was dropped");
    }
    Ok(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_group_steers_the_terminal() {
        let group = json!({"id": 1, "count": 1, "bytes": 1, "example": "k\u{1b}[2J", "cause": "c\u{1b}[2J",
            "fault": "f\u{1b}[2J", "fix": "x\u{1b}[2J"});
        let message = json!({"id": 1, "received": "T", "reason": "r\u{1b}[2J"});
        let text = table(&json!({"groups": [group], "quarantined": [message], "quarantined_total": 1}));
        assert!(text.contains("c\u{fffd}[2J") && text.contains("x\u{fffd}[2J"), "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
