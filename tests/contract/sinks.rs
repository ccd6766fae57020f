//! What every sink promises: figures add up, each series for itself; an alert is heard by its tier and by nobody else.

use repl::model::fault::{FaultKind, Side};
use repl::model::object::Timestamp;
use repl::ports::{Alert, AlertSink, Datum, Dimension, MetricSink, Tier};

use super::world::sinks::Statistics;

/// Metrics that can be read back.
pub(crate) trait Figures {
    type Sink: MetricSink;

    /// Where they are sent.
    fn sink(&self) -> &Self::Sink;
    /// A sink that nobody answers.
    async fn deaf(&self) -> Self::Sink;
    /// The minute that is now, by the receiver's clock.
    fn minute(&self) -> Timestamp;
    /// What a series came to within the minute that begins there; `None` where nothing came.
    async fn read(&self, name: &str, dimensions: &[Dimension], minute: Timestamp) -> Option<Statistics>;
}

fn of(bucket: &str) -> Vec<Dimension> {
    vec![Dimension { name: "SourceBucket", value: bucket.to_owned() }]
}

fn datum(name: &'static str, dimensions: Vec<Dimension>, values: &[(f64, u64)]) -> Datum {
    Datum { name, unit: "Seconds", dimensions, values: values.to_vec() }
}

fn sums(sum: f64, count: f64, least: f64, most: f64) -> Option<Statistics> {
    Some(Statistics { sum, count, least, most, unit: "Seconds".to_owned() })
}

/// One millisecond before the end of a minute, as intervals are told.
fn within(minute: Timestamp) -> Timestamp {
    Timestamp(minute.0 + 59_999)
}

/// The same name with other dimensions is another series, and so is the same series in another minute.
pub(crate) async fn every_series_adds_up_for_itself<F: Figures>(figures: &F) {
    let minute = figures.minute();
    let before = Timestamp(minute.0 - 600_000);
    let both = [of("one"), vec![Dimension { name: "Side", value: "target".to_owned() }]].concat();
    let data = [
        datum("Apart", of("one"), &[(1.5, 2), (40.0, 1)]),
        datum("Apart", of("two"), &[(7.0, 1)]),
        datum("Apart", both.clone(), &[(0.0, 3)]),
        datum("Other", of("one"), &[(1e12, 1)]),
    ];
    figures.sink().send(within(minute), &data).await.unwrap();
    figures.sink().send(within(before), &[datum("Apart", of("one"), &[(9.0, 1)])]).await.unwrap();
    assert_eq!(figures.read("Apart", &of("one"), minute).await, sums(43.0, 3.0, 1.5, 40.0));
    assert_eq!(figures.read("Apart", &of("one"), before).await, sums(9.0, 1.0, 9.0, 9.0));
    assert_eq!(figures.read("Apart", &of("two"), minute).await, sums(7.0, 1.0, 7.0, 7.0));
    assert_eq!(figures.read("Apart", &both, minute).await, sums(0.0, 3.0, 0.0, 0.0), "a zero is a value");
    assert_eq!(figures.read("Other", &of("one"), minute).await, sums(1e12, 1.0, 1e12, 1e12));
    let next = Timestamp(minute.0 + 60_000);
    assert_eq!(figures.read("Apart", &of("one"), next).await, None, "what ends a minute lies in it");
    assert_eq!(figures.read("Apart", &of("nobody"), minute).await, None);
}

/// Why the watch must not send again what may have been taken.
pub(crate) async fn what_is_sent_twice_counts_twice<F: Figures>(figures: &F) {
    let minute = figures.minute();
    let data = [datum("Twice", of("one"), &[(2.0, 5)])];
    figures.sink().send(within(minute), &data).await.unwrap();
    figures.sink().send(within(minute), &data).await.unwrap();
    assert_eq!(figures.read("Twice", &of("one"), minute).await, sums(20.0, 10.0, 2.0, 2.0));
}

/// More series than one request takes, and a series with as many different values as one takes.
pub(crate) async fn much_arrives_whole<F: Figures>(figures: &F) {
    let minute = figures.minute();
    let mut data: Vec<Datum> =
        (0..2001_u32).map(|n| datum("Many", of(&format!("b{n}")), &[(f64::from(n), 1)])).collect();
    let values: Vec<(f64, u64)> = (1..=150).map(|n| (f64::from(n), 2)).collect();
    data.push(datum("Wide", of("one"), &values));
    figures.sink().send(within(minute), &data).await.unwrap();
    for n in [0, 999, 1000, 1999, 2000] {
        let value = f64::from(n);
        assert_eq!(figures.read("Many", &of(&format!("b{n}")), minute).await, sums(value, 1.0, value, value), "{n}");
    }
    assert_eq!(figures.read("Wide", &of("one"), minute).await, sums(22_650.0, 300.0, 1.0, 150.0));
    figures.sink().send(within(minute), &[]).await.unwrap();
}

/// Nobody there is told as what may pass, on the side of the monitoring; and then nothing was taken.
pub(crate) async fn figures_that_nobody_takes_are_told<F: Figures>(figures: &F) {
    let minute = figures.minute();
    let fault = figures.deaf().await.send(within(minute), &[datum("Lost", of("one"), &[(1.0, 1)])]).await.unwrap_err();
    assert_eq!((fault.kind, fault.side), (FaultKind::Transient, Side::Monitoring), "{fault}");
    assert_eq!(figures.read("Lost", &of("one"), minute).await, None);
}

/// One alert as it was heard; `None` where the way does not tell that.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) tier: Option<Tier>,
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) json: String,
}

/// Who hears alerts.
pub(crate) trait Audience {
    type Way: AlertSink;

    /// The way to them.
    fn way(&self) -> &Self::Way;
    /// A way at whose end is nobody.
    async fn deaf(&self) -> Self::Way;
    /// What was heard since the last time that this was asked.
    async fn heard(&self) -> Vec<Heard>;
}

fn alert(tier: Tier, nth: usize) -> Alert {
    Alert {
        tier,
        subject: format!("ALARM: repl-SystemHealth ({nth})"),
        // A dot alone ends a mail; quotes, angles and lines of their own end other things.
        text: format!("{nth}: \"the\" replication <fails> – now & here.\n.\n\n..second\n"),
        json: format!(
            "{{\"AlarmName\":\"repl-{nth}\",\"NewStateReason\":\"é \\\" \\\\ \\n.\\n 日本 {}\"}}",
            "x".repeat(3000)
        ),
    }
}

/// What of an alert a way tells, given one that it told.
fn as_told(alert: &Alert, like: &Heard) -> Heard {
    Heard {
        tier: like.tier.map(|_| alert.tier),
        subject: like.subject.as_ref().map(|_| alert.subject.clone()),
        text: like.text.as_ref().map(|_| alert.text.clone()),
        json: alert.json.clone(),
    }
}

/// Every character of it arrives, and whoever is not reached hears nothing, which is no fault.
pub(crate) async fn an_alert_is_heard_by_its_tier_alone<A: Audience>(audience: &A) {
    assert!(!audience.way().name().is_empty());
    assert!(Tier::ALL.iter().any(|tier| audience.way().reaches(*tier)));
    for (nth, tier) in Tier::ALL.into_iter().enumerate() {
        let alert = alert(tier, nth);
        audience.way().deliver(&alert).await.unwrap();
        let heard = audience.heard().await;
        if audience.way().reaches(tier) {
            assert_eq!(heard.len(), 1, "{tier:?}: {heard:?}");
            assert_eq!(heard[0], as_told(&alert, &heard[0]), "{tier:?}");
        } else {
            assert_eq!(heard, [], "{tier:?} is not reached");
        }
    }
}

/// Why the watch must keep in mind what was delivered.
pub(crate) async fn an_alert_given_twice_is_heard_twice<A: Audience>(audience: &A) {
    let alert = alert(Tier::Critical, 7);
    audience.way().deliver(&alert).await.unwrap();
    audience.way().deliver(&alert).await.unwrap();
    let heard = audience.heard().await;
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard.iter().all(|one| *one == as_told(&alert, one)), "{heard:?}");
}

/// Nobody there is told as what may pass, on the side of the monitoring.
pub(crate) async fn an_alert_that_nobody_takes_is_told<A: Audience>(audience: &A) {
    let fault = audience.deaf().await.deliver(&alert(Tier::Critical, 8)).await.unwrap_err();
    assert_eq!((fault.kind, fault.side), (FaultKind::Transient, Side::Monitoring), "{fault}");
    assert_eq!(audience.heard().await, []);
}
