use super::*;
use crate::watch::alarms::tests::settings;
use crate::watch::catalogue::{MetricSide, of_side, of_source};

/// The words of AWS's tables: `O` is OK, `A` ALARM, `?` INSUFFICIENT_DATA, `=` retains the current state.
fn word(judged: Judged) -> char {
    match judged {
        Judged::State(State::Ok) => 'O',
        Judged::State(State::Alarm) => 'A',
        Judged::State(State::InsufficientData) => '?',
        Judged::Retain => '=',
    }
}

fn points(drawn: &str) -> Vec<Option<bool>> {
    drawn
        .chars()
        .map(|c| match c {
            '-' => None,
            'X' => Some(true),
            _ => Some(false),
        })
        .collect()
}

/// Points as AWS draws them, M, and the states for missing, ignore, breaching and notBreaching. N is 3, five are
/// looked at. From "How alarm state is evaluated when data is missing" and "Avoiding premature transitions to alarm
/// state" of the CloudWatch user guide; the rows with `- - - - X` for M = 3 from the guide's 2018 table.
const AWS: [(&str, u32, &str); 16] = [
    ("0-X-X", 3, "OOOO"),
    ("0----", 3, "OOOO"),
    ("-----", 3, "?=AO"),
    ("0XX-X", 3, "AAAA"),
    ("--X--", 3, "A=AO"),
    ("----X", 3, "?=AO"),
    ("---X-", 3, "?=AO"),
    ("X----", 3, "A=AO"),
    ("---X0", 3, "OOOO"),
    ("--X-0", 3, "OOOO"),
    ("0-X-X", 2, "AAAA"),
    ("00X0X", 2, "AAAA"),
    ("0-X--", 2, "OOAO"),
    ("----0", 2, "OOAO"),
    ("---X-", 2, "A=AO"),
    ("XX000", 3, "OOOO"),
];

#[test]
fn missing_data_are_treated_as_aws_documents() {
    let treatments = [MissingData::Missing, MissingData::Ignore, MissingData::Breaching, MissingData::NotBreaching];
    for (drawn, m, expected) in AWS {
        let found: String = treatments.map(|missing| word(judge(&points(drawn), m, 3, missing))).iter().collect();
        assert_eq!(found, expected, "{m} of 3 of {drawn}");
    }
}

/// M of N without gaps, where no treatment has a say.
#[test]
fn m_of_the_newest_n_must_breach() {
    for (drawn, m, n, expected) in [
        ("000X", 1, 1, 'A'),
        ("XXX0", 1, 1, 'O'),
        ("X0X0X", 3, 5, 'A'),
        ("X0X00", 3, 5, 'O'),
        ("XX0XX", 2, 2, 'A'),
        ("XXXX0", 2, 2, 'O'),
        ("XX000X", 2, 3, 'O'),
    ] {
        for missing in [MissingData::Missing, MissingData::Ignore, MissingData::Breaching, MissingData::NotBreaching] {
            assert_eq!(word(judge(&points(drawn), m, n, missing)), expected, "{m} of {n} of {drawn}");
        }
    }
}

const MINUTE: u64 = 60_000;
/// A whole number of minutes.
const START: u64 = 29_000_000 * MINUTE;

fn at(minute: u64) -> Timestamp {
    Timestamp(START + minute * MINUTE)
}

fn datum(name: &'static str, side: Option<MetricSide>, value: f64) -> Datum {
    let dimensions = side.map_or_else(|| of_source("acme-primary"), |side| of_side("acme-primary", side));
    Datum { name, unit: "Count", dimensions, values: vec![(value, 1)] }
}

fn failed(value: f64) -> Datum {
    datum("OperationsFailedReplication", None, value)
}

fn alive() -> Datum {
    datum("Heartbeat", None, 1.0)
}

fn refused(value: f64) -> Datum {
    datum("S3Errors4xx", Some(MetricSide::Target), value)
}

fn evaluator(reminder: Option<Duration>) -> Evaluator {
    Evaluator::new(&settings(), reminder, BTreeMap::new(), at(0))
}

/// The notices of one minute in short: `ReplicationFailure OK>ALARM`, and `!` behind a reminder.
fn minute(evaluator: &mut Evaluator, number: u64, data: &[Datum]) -> Vec<String> {
    evaluator.take(Timestamp(at(number + 1).0 - 1), data);
    let again: Vec<Notice> = evaluator.evaluate(at(number + 1));
    assert_eq!(evaluator.evaluate(at(number + 1)), [], "the same minute has nothing new");
    let short = |notice: &Notice| {
        let mark = if notice.occasion == Occasion::Reminder { "!" } else { "" };
        format!("{} {}>{}{mark}", notice.id.name(), notice.before.name(), notice.standing.state.name())
    };
    again.iter().map(short).collect()
}

const QUIET: [String; 0] = [];

/// "A minor delay shouldn't wake a manager, a complete failure should escalate fast": each tier hears only its own, in
/// order, once, and hears when it is over.
#[test]
fn alarms_speak_on_transitions_only_and_composites_follow() {
    let mut alarms = evaluator(None);
    assert_eq!(minute(&mut alarms, 0, &[failed(0.0), alive(), refused(0.0)]), QUIET);
    assert_eq!(minute(&mut alarms, 1, &[failed(2.0), alive(), refused(0.0)]), QUIET, "one of two");
    let broken = ["ReplicationFailure OK>ALARM", "SystemHealth OK>ALARM"];
    assert_eq!(minute(&mut alarms, 2, &[failed(2.0), alive(), refused(0.0)]), broken);
    assert_eq!(minute(&mut alarms, 3, &[failed(2.0), alive(), refused(0.0)]), QUIET);
    let worse = ["TargetErrors4xx OK>ALARM", "InfrastructureHealth OK>ALARM", "Escalation OK>ALARM"];
    assert_eq!(minute(&mut alarms, 4, &[failed(2.0), alive(), refused(11.0)]), worse);
    let better = ["TargetErrors4xx ALARM>OK", "InfrastructureHealth ALARM>OK", "Escalation ALARM>OK"];
    assert_eq!(minute(&mut alarms, 5, &[failed(2.0), alive(), refused(10.0)]), better);
    let mended = ["ReplicationFailure ALARM>OK", "SystemHealth ALARM>OK"];
    assert_eq!(minute(&mut alarms, 6, &[failed(0.0), alive(), refused(0.0)]), mended);
}

/// Several readings in one period are one datapoint: the largest of a gauge, the sum of a counter.
#[test]
fn readings_of_a_period_make_one_datapoint() {
    let mut alarms = evaluator(None);
    for second in [10, 20, 30] {
        alarms.take(Timestamp(at(0).0 + second * 1000), &[refused(4.0), failed(0.0)]);
    }
    let said = minute(&mut alarms, 0, &[alive()]);
    assert_eq!(said, ["TargetErrors4xx INSUFFICIENT_DATA>ALARM", "InfrastructureHealth INSUFFICIENT_DATA>ALARM"]);
    alarms.take(Timestamp(at(1).0 + 1000), &[failed(1.0)]);
    minute(&mut alarms, 1, &[failed(0.0), alive()]);
    alarms.take(Timestamp(at(2).0 + 1000), &[failed(1.0)]);
    let said = minute(&mut alarms, 2, &[failed(0.0), alive()]);
    assert!(said.contains(&"ReplicationFailure OK>ALARM".to_owned()), "{said:?}");
}

/// A machine that slept: no heartbeat for three minutes and nothing else known is an alarm, gauges stay as they were.
#[test]
fn silence_is_an_alarm_and_mends_nothing() {
    let mut alarms = evaluator(None);
    for number in 0..3 {
        minute(&mut alarms, number, &[failed(1.0), alive()]);
    }
    for number in 3..7 {
        assert_eq!(minute(&mut alarms, number, &[]), QUIET, "the last heartbeats are still looked at");
    }
    assert_eq!(minute(&mut alarms, 7, &[]), ["WorkerSilent OK>ALARM"]);
    assert_eq!(minute(&mut alarms, 20, &[]), QUIET);
    let state = |name: &str| alarms.standings().into_iter().find(|(found, _)| found == name).unwrap().1.state;
    assert_eq!(state("repl-ReplicationFailure"), State::Alarm);
    assert_eq!(state("repl-TargetErrors4xx"), State::Ok);
    assert_eq!(state("repl-SourceObjectCount"), State::InsufficientData);
}

/// A start in the middle of a period: nobody was watching before, so no silence is told.
#[test]
fn nothing_is_said_before_the_first_period_has_ended() {
    let mut alarms = evaluator(None);
    for second in [10, 20, 30] {
        alarms.take(Timestamp(at(0).0 + second * 1000), &[alive()]);
        assert_eq!(alarms.evaluate(Timestamp(at(0).0 + second * 1000 + 1)), []);
    }
    assert_eq!(minute(&mut alarms, 0, &[alive()]), QUIET);
}

#[test]
fn people_are_reminded_until_it_is_over() {
    let mut alarms = evaluator(Some(Duration::from_secs(180)));
    for number in 0..2 {
        minute(&mut alarms, number, &[failed(1.0), alive()]);
    }
    let said: Vec<Vec<String>> = (2..9).map(|number| minute(&mut alarms, number, &[failed(1.0), alive()])).collect();
    let reminded = vec!["ReplicationFailure ALARM>ALARM!".to_owned(), "SystemHealth ALARM>ALARM!".to_owned()];
    let quiet = Vec::new;
    assert_eq!(said, [quiet(), quiet(), reminded.clone(), quiet(), quiet(), reminded, quiet()]);
    let over = ["ReplicationFailure ALARM>OK", "SystemHealth ALARM>OK"];
    assert_eq!(minute(&mut alarms, 9, &[failed(0.0), alive()]), over);
    assert_eq!(minute(&mut alarms, 20, &[failed(0.0), alive()]), QUIET);
}

/// A restart neither repeats what was told nor forgets that it must be told when it is over.
#[test]
fn states_are_remembered() {
    let mut alarms = evaluator(None);
    for number in 0..2 {
        minute(&mut alarms, number, &[failed(1.0), alive()]);
    }
    let mut later = Evaluator::new(&settings(), None, alarms.remembered().clone(), at(2));
    assert_eq!(minute(&mut later, 2, &[failed(1.0), alive()]), QUIET);
    let over = ["ReplicationFailure ALARM>OK", "SystemHealth ALARM>OK"];
    assert_eq!(minute(&mut later, 3, &[failed(0.0), alive()]), over);
}

/// What is remembered is bounded, however long it runs.
#[test]
fn old_periods_are_let_go() {
    let mut alarms = evaluator(None);
    for number in 0..500 {
        minute(&mut alarms, number, &[failed(0.0), alive()]);
    }
    assert!(alarms.series.values().all(|periods| periods.len() <= 6));
}
