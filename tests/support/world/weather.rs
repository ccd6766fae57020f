//! What goes wrong on the way to a store: how long a request takes, whether it arrives, whether its answer does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::Key;
use tokio::sync::Notify;

use super::dice::Dice;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Head,
    PartSizes,
    ReadTags,
    ReadAcl,
    List,
    Versioning,
    Put,
    CreateUpload,
    UploadPart,
    CopyPart,
    ListParts,
    Complete,
    Abort,
    Copy,
    PutTags,
    PutAcl,
    PutLock,
    Delete,
    Receive,
    Acknowledge,
    Extend,
    Depth,
    Keys,
}

impl Verb {
    fn writes(self) -> bool {
        matches!(
            self,
            Self::Put
                | Self::CreateUpload
                | Self::UploadPart
                | Self::CopyPart
                | Self::Complete
                | Self::Abort
                | Self::Copy
                | Self::PutTags
                | Self::PutAcl
                | Self::PutLock
                | Self::Delete
        )
    }

    /// Whether its answer may be a 200 with an error for a body (aws-semantics 3.6).
    fn answers_late(self) -> bool {
        matches!(self, Self::Complete | Self::Copy | Self::CopyPart)
    }
}

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is carried out and answered.
    Well,
    /// It is refused, or never arrives: nothing happens.
    Before(Fault),
    /// It is carried out and its answer is lost.
    After(Fault),
    /// The body breaks off.
    Truncated,
    /// One bit of the body is another.
    Corrupted,
    /// The body stops to come.
    Stalled,
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forecast {
    /// So many faults come at most.
    pub(crate) faults: u64,
    /// So many of a thousand requests meet one, while there are any left.
    pub(crate) per_mille: u64,
    /// A request's way takes up to this many milliseconds.
    pub(crate) slowness: u64,
    /// From time to time everything is denied by one bucket, for so many seconds.
    pub(crate) denied_for: u64,
}

impl Forecast {
    /// Nothing goes wrong and nothing takes time.
    pub(crate) const CLEAR: Self = Self { faults: 0, per_mille: 0, slowness: 0, denied_for: 0 };
}

/// Where a request goes: one bucket of a side, or the one thing that the side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) side: Side,
    pub(crate) bucket: String,
}

impl Place {
    /// A side that has no buckets.
    pub(crate) fn only(side: Side) -> Self {
        Self { side, bucket: String::new() }
    }
}

struct State {
    dice: Dice,
    forecast: Forecast,
    /// Until when one bucket denies everything.
    denied: Option<(Place, tokio::time::Instant)>,
    /// The bucket that denies everything until all is calm.
    shut: Option<String>,
}

type Witness = Box<dyn Fn(Side, Verb, Option<&Key>) + Send + Sync>;

/// The weather over all stores of one world.
pub(crate) struct Weather {
    state: Mutex<State>,
    /// Told of every request as it arrives, before it is carried out.
    witness: OnceLock<Witness>,
}

impl fmt::Debug for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Weather")
    }
}

impl Weather {
    pub(crate) fn new(dice: Dice, forecast: Forecast) -> Self {
        Self { state: Mutex::new(State { dice, forecast, denied: None, shut: None }), witness: OnceLock::new() }
    }

    /// From now on tells of every request.
    pub(crate) fn tell(&self, witness: impl Fn(Side, Verb, Option<&Key>) + Send + Sync + 'static) {
        assert!(self.witness.set(Box::new(witness)).is_ok(), "one witness is enough");
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        let mut state = self.state.lock().unwrap();
        state.forecast = Forecast { faults: 0, per_mille: 0, denied_for: 0, ..state.forecast };
        (state.denied, state.shut) = (None, None);
    }

    /// From now on that bucket denies everything, until all is calm.
    pub(crate) fn shut(&self, bucket: &str) {
        self.state.lock().unwrap().shut = Some(bucket.to_owned());
    }

    /// Faults that are still to come.
    pub(crate) fn faults_left(&self) -> u64 {
        self.state.lock().unwrap().forecast.faults
    }

    pub(crate) fn roll<T>(&self, throw: impl FnOnce(&mut Dice) -> T) -> T {
        throw(&mut self.state.lock().unwrap().dice)
    }

    /// The way of a request, there or back.
    pub(crate) async fn way(&self) {
        let wait = {
            let mut state = self.state.lock().unwrap();
            let slowness = state.forecast.slowness;
            state.dice.below(slowness + 1)
        };
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// What becomes of a request that has arrived.
    pub(crate) fn fate(&self, place: &Place, verb: Verb, key: Option<&Key>) -> Fate {
        let side = place.side;
        if let Some(witness) = self.witness.get() {
            witness(side, verb, key);
        }
        let mut state = self.state.lock().unwrap();
        let now = tokio::time::Instant::now();
        let shut = state.shut.as_ref() == Some(&place.bucket);
        if shut || state.denied.as_ref().is_some_and(|(denying, until)| denying == place && now < *until) {
            return Fate::Before(fault(FaultKind::Denied, side, 403, "AccessDenied"));
        }
        let per_mille = state.forecast.per_mille;
        if state.forecast.faults == 0 || !state.dice.per_mille(per_mille) {
            return Fate::Well;
        }
        state.forecast.faults -= 1;
        if state.forecast.denied_for > 0 && matches!(side, Side::Source | Side::Target) && state.dice.per_mille(60) {
            let seconds = state.forecast.denied_for;
            state.denied = Some((place.clone(), now + Duration::from_secs(seconds)));
            return Fate::Before(fault(FaultKind::Denied, side, 403, "AccessDenied"));
        }
        any(&mut state.dice, side, verb)
    }
}

fn any(dice: &mut Dice, side: Side, verb: Verb) -> Fate {
    let lost = || fault(FaultKind::Transient, side, 500, "InternalError");
    let unanswered = || Fault { status: None, ..fault(FaultKind::Transient, side, 0, "the connection timed out") };
    match dice.below(8) {
        0 | 1 => Fate::Before(fault(FaultKind::Throttled, side, 503, "SlowDown")),
        2 => Fate::Before(lost()),
        3 => Fate::Before(unanswered()),
        4 if verb.answers_late() => Fate::Before(fault(FaultKind::Transient, side, 200, "InternalError in a body")),
        4 | 5 if verb.writes() => Fate::After(unanswered()),
        4 | 5 if verb == Verb::Get => dice.pick(&[Fate::Truncated, Fate::Corrupted, Fate::Stalled]),
        6 if matches!(verb, Verb::Put | Verb::UploadPart) => Fate::Corrupted,
        6 if verb.writes() => Fate::After(lost()),
        _ => Fate::Before(unanswered()),
    }
}

fn fault(kind: FaultKind, side: Side, status: u16, detail: &str) -> Fault {
    Fault { status: Some(status), ..Fault::new(kind, side, "ask a store in bad weather", detail) }
}

/// How long a client waits for an answer that does not come.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The end of one worker, at a step that was chosen beforehand: every request counts as several.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    steps: AtomicU64,
    /// At which step; 0 for never.
    at: AtomicU64,
    /// Rung when it blows.
    pub(crate) blown: Notify,
}

impl Fuse {
    /// Burns so many steps; 0 for ever.
    pub(crate) fn new(steps: u64) -> Self {
        Self { at: AtomicU64::new(steps), ..Self::default() }
    }

    /// Does not burn any more.
    pub(crate) fn cut(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// One step of the worker. Where it is the last one, this never returns: the worker's futures are dropped here.
    pub(crate) async fn step(&self) {
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let at = self.at.load(Ordering::Relaxed);
        if at != 0 && step >= at {
            self.blown.notify_one();
            std::future::pending::<()>().await;
        }
    }
}
