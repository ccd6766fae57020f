//! What the watch remembers over a restart, as bytes: JSON with a version. Any other version is refused, not guessed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::evaluate::Remembered;
use super::{AlarmId, Standing, State};
use crate::model::object::Timestamp;
use crate::ports::{Alert, Tier};

/// The version of the record that this program writes.
const VERSION: u64 = 1;

/// An alert that has not reached all who shall hear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The alert.
    pub alert: Alert,
    /// The names of the ways on which it still has to leave.
    pub ways: BTreeSet<String>,
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When the queue was last seen through.
    pub clear: Option<Timestamp>,
    /// While it never was: since when there is a watch over it.
    pub begun: Option<Timestamp>,
    /// Where each alarm is. One that the definitions have no more is forgotten.
    pub alarms: BTreeMap<AlarmId, Remembered>,
    /// What is still to be delivered, the oldest first.
    pub letters: Vec<Letter>,
}

impl Record {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let alarms: BTreeMap<&str, Value> =
            self.alarms.iter().map(|(id, alarm)| (id.name(), of_alarm(alarm))).collect();
        let letters: Vec<Value> = self.letters.iter().map(of_letter).collect();
        let clear = self.clear.map(|clear| clear.0);
        let mut record = json!({"version": VERSION, "clear": clear, "alarms": alarms, "letters": letters});
        // Came later than the rest: an earlier program passes over it, and does without.
        if let (Some(begun), Some(fields)) = (self.begun, record.as_object_mut()) {
            fields.insert("begun".to_owned(), json!(begun.0));
        }
        record.to_string().into_bytes()
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// Why they cannot be understood: one sentence.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let record: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("the remembered alarms are no JSON: {error}"))?;
        let version = record.get("version").and_then(Value::as_u64);
        if version != Some(VERSION) {
            let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            return Err(format!(
                "the remembered alarms have version {found}, this program knows {VERSION}: start the version of repl \
                 that wrote them, or a newer one"
            ));
        }
        let read = || {
            let mut alarms = BTreeMap::new();
            for (name, alarm) in record.get("alarms")?.as_object()? {
                if let Some(id) = AlarmId::ALL.into_iter().find(|id| id.name() == name) {
                    alarms.insert(id, to_alarm(alarm)?);
                }
            }
            let letters = record.get("letters")?.as_array()?.iter().map(to_letter).collect::<Option<Vec<Letter>>>()?;
            let clear = record.get("clear")?.as_u64().map(Timestamp);
            let begun = record.get("begun").and_then(Value::as_u64).map(Timestamp);
            Some(Self { clear, begun, alarms, letters })
        };
        read().ok_or_else(|| "the remembered alarms lack a field or have one of another kind".to_owned())
    }
}

fn of_alarm(alarm: &Remembered) -> Value {
    let Standing { state, since, reason } = &alarm.standing;
    json!({"state": state.name(), "since": since.0, "reason": reason, "told": alarm.told.map(|told| told.0)})
}

fn to_alarm(alarm: &Value) -> Option<Remembered> {
    Some(Remembered {
        standing: Standing {
            state: State::named(alarm.get("state")?.as_str()?)?,
            since: Timestamp(alarm.get("since")?.as_u64()?),
            reason: alarm.get("reason")?.as_str()?.to_owned(),
        },
        told: alarm.get("told")?.as_u64().map(Timestamp),
    })
}

fn of_letter(letter: &Letter) -> Value {
    let Alert { tier, subject, text, json } = &letter.alert;
    json!({"tier": tier.name(), "subject": subject, "text": text, "json": json, "ways": letter.ways})
}

fn to_letter(letter: &Value) -> Option<Letter> {
    let text = |name: &str| Some(letter.get(name)?.as_str()?.to_owned());
    let tier = text("tier")?;
    let ways = letter.get("ways")?.as_array()?.iter().map(|way| way.as_str().map(str::to_owned));
    Some(Letter {
        alert: Alert {
            tier: Tier::ALL.into_iter().find(|known| known.name() == tier)?,
            subject: text("subject")?,
            text: text("text")?,
            json: text("json")?,
        },
        ways: ways.collect::<Option<BTreeSet<String>>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let standing = Standing { state: State::Alarm, since: Timestamp(5), reason: "so \"it\" is".to_owned() };
        let alert = Alert {
            tier: Tier::Critical,
            subject: "s".to_owned(),
            text: "t\nü".to_owned(),
            json: "{\"a\":1}".to_owned(),
        };
        Record {
            clear: Some(Timestamp(7)),
            begun: None,
            alarms: [(AlarmId::SystemHealth, Remembered { standing, told: Some(Timestamp(6)) })].into(),
            letters: vec![Letter { alert, ways: ["webhook".to_owned()].into() }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Record::read(&record().bytes()), Ok(record()));
        for unseen in [Record::default(), Record { clear: None, begun: Some(Timestamp(3)), ..record() }] {
            assert_eq!(Record::read(&unseen.bytes()), Ok(unseen));
        }
    }

    /// The bytes of version 1, which every later version must read.
    #[test]
    fn version_1_stays_readable() {
        let golden = concat!(
            r#"{"version":1,"clear":7,"alarms":{"SystemHealth":{"state":"ALARM","since":5,"#,
            r#""reason":"so \"it\" is","told":6}},"letters":[{"tier":"critical","subject":"s","text":"t\nü","#,
            r#""json":"{\"a\":1}","ways":["webhook"]}]}"#
        );
        assert_eq!(String::from_utf8(record().bytes()).unwrap(), golden);
        assert_eq!(Record::read(golden.as_bytes()), Ok(record()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (bytes, why) in [
            ("{\"version\":2}", "have version 2"),
            ("{}", "have version none"),
            ("nonsense", "are no JSON"),
            (r#"{"version":1,"clear":null,"alarms":{"SystemHealth":{"state":"?"}},"letters":[]}"#, "lack a field"),
            (r#"{"version":1,"clear":null,"alarms":{}}"#, "lack a field"),
        ] {
            let refused = Record::read(bytes.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{bytes}: {refused}");
        }
    }
}
