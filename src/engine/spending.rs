//! What a sync may spend, and has spent. Work is paid for before it is admitted: the most that it may use is set aside,
//! and given back when it is done and what it really used is counted.
//!
//! *Secret kept:* how much money is spoken for. *May touch:* the meter, prices. *Must not know:* who shows it.
//!
//! Only jobs that a comparison admitted are counted here, and refused where the money does not suffice: live changes
//! go on whatever they cost. What the ledger still held of an earlier sync is paid for when it is claimed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::fail::{self, Point};
use crate::ledger::{Admission, Claim};
use crate::meter::Meter;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::job::{ChangeKind, Job, Origin};
use crate::model::object::TargetId;
use crate::model::usage::{Place, Request, STANDARD, Usage};
use crate::plan::estimate::{self, Bringing, Keys, ServerSide, Standing, Way};
use crate::plan::parts::MAX_PART;
use crate::plan::prices::{Due, Tariff};
use crate::plan::route::Rule;
use crate::ports::World;

use super::Shared;

/// How long a job waits that there was no money for, and at most, where its sync has ended and only the next one, or a
/// start without one, does it.
const REFUSED: Duration = Duration::from_secs(5);
const LEFT_OVER: Duration = Duration::from_secs(60);
/// How often one looks whether work under way gave money back.
const LOOK: Duration = Duration::from_millis(50);
/// Pages of listings that may be under way unasked, on each side (`audit::range`).
const PAGES: u64 = 16;

/// The money of one sync.
#[derive(Debug)]
pub struct Purse {
    meter: Arc<Meter>,
    tariff: Tariff,
    movers: std::collections::BTreeMap<TargetId, ServerSide>,
    limit: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Dollars set aside, by job.
    aside: HashMap<u64, f64>,
    /// Dollars for the listings themselves.
    listing: f64,
    /// Why nothing more is begun.
    dry: Option<Dry>,
}

/// Why a sync begins nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dry {
    /// More would pass the limit.
    Limit,
    /// What something costs is not known: each in one sentence.
    Unpriced(Vec<String>),
}

/// Under what a job is done.
pub(super) enum Entry {
    /// Nobody counts it.
    Uncounted,
    /// It is counted, and paid for.
    Paid(Paid),
    /// There is no money for it now.
    Refused,
}

/// A job that is paid for.
pub(super) struct Paid {
    purse: Arc<Purse>,
    /// Under which its money is set aside, where there is a limit.
    identity: Option<u64>,
}

impl Paid {
    /// Counts what the job uses.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        self.purse.meter()
    }

    /// Gives back what was set aside: what the job used is counted now.
    pub(super) fn done(self) {
        if let Some(identity) = self.identity {
            self.purse.take_back(identity);
        }
    }
}

impl Purse {
    /// A purse with a limit in dollars, or `None` for one that only counts.
    #[must_use]
    pub fn new(
        tariff: Tariff,
        movers: std::collections::BTreeMap<TargetId, ServerSide>,
        limit: Option<f64>,
    ) -> Arc<Self> {
        let mut pages = Usage::default();
        for place in movers.keys().cloned().map(Place::Target).chain([Place::Source]) {
            pages.request(&place, Request::List, STANDARD, PAGES);
        }
        let listing = tariff.bill(&pages).total(Due::Once);
        let state = Mutex::new(State { listing, ..State::default() });
        Arc::new(Self { meter: Arc::default(), tariff, movers, limit, state })
    }

    /// Counts all that the sync uses.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The limit in dollars.
    #[must_use]
    pub fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Dollars spent so far.
    ///
    /// # Errors
    /// What has no price.
    pub fn spent(&self) -> Result<f64, Vec<String>> {
        self.tariff.bill(&self.meter.usage()).known()
    }

    /// Why nothing more is begun; `None` while there is money.
    #[must_use]
    pub fn dry(&self) -> Option<Dry> {
        self.state().dry.clone()
    }

    /// Whether money is set aside for work that is not done yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.state().aside.is_empty()
    }

    /// The most that bringing an object of no bytes in the usual class may cost under a rule: whether there are prices
    /// at all.
    ///
    /// # Errors
    /// What has no price.
    pub fn least(&self, rule: &Rule) -> Result<f64, Vec<String>> {
        self.priced(&self.most(rule, &Sized { size: 0, etag: None, class: None }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn most(&self, rule: &Rule, sized: &Sized<'_>) -> Usage {
        let mut usage = estimate::ceiling(&Bringing {
            size: sized.size,
            etag: sized.etag,
            class: sized.class,
            rule,
            standing: Standing::Occupied,
            way: Way::Newest,
            server_side: self.movers.get(&rule.target).copied().unwrap_or(ServerSide::Never),
            source_key: Keys::EachRequest,
            target_key: Keys::EachRequest,
        });
        // A job of a comparison looks at both heads where one of a history lists both: whichever is dearer.
        usage.request(&Place::Source, Request::Head, STANDARD, 3);
        usage.request(&Place::Target(rule.target.clone()), Request::Head, STANDARD, 3);
        usage
    }

    /// What usage may cost. Uses of keys count where they have a price: whether there will be any is not known yet.
    fn priced(&self, usage: &Usage) -> Result<f64, Vec<String>> {
        let mut bill = self.tariff.bill(usage);
        bill.items.retain(|item| item.item != "keys" || item.price.is_some());
        bill.known()
    }

    pub(super) fn cost(&self, rules: &[Rule], job: &Job, class: Option<&str>) -> Result<f64, Vec<String>> {
        let Some(rule) = rules.iter().find(|rule| rule.id == job.rule) else { return Ok(0.0) };
        match job.kind {
            ChangeKind::DeleteMarker => {
                let mut usage = Usage::default();
                estimate::count_marker(&mut usage, rule, Way::Newest);
                self.priced(&usage)
            }
            ChangeKind::Write | ChangeKind::Mend | ChangeKind::Restored | ChangeKind::Attributes => {
                // An untold size is taken for the most that one request carries.
                let size = job.size.unwrap_or(MAX_PART);
                self.priced(&self.most(rule, &Sized { size, etag: job.etag.as_ref(), class }))
            }
        }
    }

    /// Sets money aside for all of these jobs, or for none. `Ok(false)` means that there is not enough now.
    fn set_aside(&self, jobs: &[(u64, f64)]) -> Result<bool, Vec<String>> {
        let Some(limit) = self.limit else { return Ok(true) };
        // First the lock: what ends meanwhile moves from what is set aside to what is spent, and must be seen in one.
        let mut state = self.state();
        let spent = self.spent()?;
        let spoken_for: f64 = state.aside.values().sum::<f64>() + state.listing;
        let wanted: f64 = jobs.iter().filter(|(job, _)| !state.aside.contains_key(job)).map(|(_, cost)| cost).sum();
        if spent + spoken_for + wanted > limit {
            return Ok(false);
        }
        state.aside.extend(jobs.iter().copied());
        Ok(true)
    }

    fn run_dry(&self, why: Dry) {
        self.state().dry.get_or_insert(why);
    }

    fn take_back(&self, identity: u64) {
        self.state().aside.remove(&identity);
    }
}

/// What is known of an object's size and shape.
struct Sized<'a> {
    size: u64,
    etag: Option<&'a crate::model::object::ETag>,
    class: Option<&'a str>,
}

/// A job by what it is about, as that is known before it has a number.
fn identity(job: &Job) -> u64 {
    let mut hasher = DefaultHasher::new();
    (job.target.as_str(), job.target_key.as_str(), job.version.as_str(), job.kind).hash(&mut hasher);
    hasher.finish()
}

/// A job with its object's storage class, as a listing tells it.
pub(super) type Priced = (Job, Option<String>);

/// Whether there is money for work that is about to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affordable {
    /// It is set aside.
    Yes,
    /// Not for all of it at once.
    NotAtOnce,
}

/// Sets money aside for jobs before they are admitted.
pub(super) fn afford<W: World>(shared: &Shared<W>, jobs: &[Priced]) -> Affordable {
    let Some(purse) = shared.purse().filter(|purse| purse.limit.is_some()) else { return Affordable::Yes };
    let costs: Result<Vec<(u64, f64)>, Vec<String>> = jobs
        .iter()
        .map(|(job, class)| Ok((identity(job), purse.cost(&shared.settings.rules, job, class.as_deref())?)))
        .collect();
    match costs.and_then(|costs| purse.set_aside(&costs)) {
        Ok(true) => Affordable::Yes,
        Ok(false) => Affordable::NotAtOnce,
        Err(unknown) => {
            purse.run_dry(Dry::Unpriced(unknown));
            Affordable::NotAtOnce
        }
    }
}

/// Waits until work under way has given enough back for these jobs; false when it never will, or the engine stops.
pub(super) async fn afford_later<W: World>(shared: &Shared<W>, jobs: &[Priced]) -> bool {
    let Some(purse) = shared.purse() else { return true };
    loop {
        // Whether anything can still come back is looked at first: what comes back meanwhile then counts.
        let may_come = purse.is_waiting();
        if purse.dry().is_some() || shared.phase() != super::Phase::Run {
            return false;
        }
        if afford(shared, jobs) == Affordable::Yes {
            return true;
        }
        if !may_come {
            purse.run_dry(Dry::Limit);
            return false;
        }
        shared.sleep(LOOK).await;
    }
}

/// Admits what there is money for; a fault where there is none for the rest, which ends the walk.
pub(super) async fn admit<W: World>(shared: &Shared<W>, jobs: &[Priced]) -> Result<(), Fault> {
    if afford(shared, jobs) == Affordable::NotAtOnce {
        if jobs.len() > 1 {
            let (first, rest) = jobs.split_at(jobs.len() / 2);
            Box::pin(admit(shared, first)).await?;
            return Box::pin(admit(shared, rest)).await;
        }
        if !afford_later(shared, jobs).await {
            let detail = "the money is spent, or the engine is stopping";
            return Err(Fault::new(FaultKind::Transient, Side::Local, "pay for the job", detail));
        }
    }
    let jobs = jobs.iter().map(|(job, _)| job.clone()).collect();
    admit_paid(shared, Admission { jobs, now: shared.now(), ..Default::default() }).await
}

/// Admits jobs for which money is set aside. What was set aside for those that the brake holds comes back at once, as
/// nothing is done about them.
pub(super) async fn admit_paid<W: World>(shared: &Shared<W>, admission: Admission) -> Result<(), Fault> {
    let purse = shared.purse().filter(|purse| purse.limit.is_some());
    let is_marker = |(_, job): &(usize, &Job)| purse.is_some() && job.kind == ChangeKind::DeleteMarker;
    let markers = admission.jobs.iter().enumerate().filter(is_marker);
    let markers: Vec<(usize, Job)> = markers.map(|(place, job)| (place, job.clone())).collect();
    let admitted = shared.ledger.admit(admission).await?;
    fail::pass(Point::AfterPage);
    for (place, job) in &markers {
        if let (Some(purse), Some(id)) = (&purse, admitted.ids.get(*place))
            && admitted.held.contains(id)
        {
            purse.take_back(identity(job));
        }
    }
    shared.work.notify_one();
    Ok(())
}

/// Whether the sync must not go on listing.
pub(super) fn is_dry<W: World>(shared: &Shared<W>) -> bool {
    shared.purse().is_some_and(|purse| purse.dry().is_some())
}

/// Under what a claimed job is done.
pub(super) fn enter<W: World>(shared: &Shared<W>, claim: &Claim) -> Entry {
    let job = claim.job();
    let Some(purse) = shared.purse() else { return Entry::Uncounted };
    if purse.limit.is_none() {
        let counted = job.origin == Origin::Scan;
        return if counted { Entry::Paid(Paid { purse, identity: None }) } else { Entry::Uncounted };
    }
    let identity = identity(job);
    if job.origin != Origin::Scan {
        // An event tells of it too: it is a live change now, which nobody pays.
        purse.take_back(identity);
        return Entry::Uncounted;
    }
    let paid = purse.state().aside.contains_key(&identity);
    // Looked at first: what comes back meanwhile then counts.
    let may_come = purse.is_waiting();
    let cost = || purse.cost(&shared.settings.rules, job, None);
    match if paid { Ok(true) } else { cost().and_then(|cost| purse.set_aside(&[(identity, cost)])) } {
        Ok(true) => Entry::Paid(Paid { purse, identity: Some(identity) }),
        // While others may give money back the limit is not reached.
        Ok(false) if may_come => Entry::Refused,
        Ok(false) => {
            purse.run_dry(Dry::Limit);
            Entry::Refused
        }
        Err(unknown) => {
            purse.run_dry(Dry::Unpriced(unknown));
            Entry::Refused
        }
    }
}

/// Puts a job off that there is no money for; it stays to be done.
pub(super) async fn put_off<W: World>(shared: &Shared<W>, claim: Claim) -> Result<(), Fault> {
    let detail = "the sync's --max-spend is reached: the next sync goes on with it";
    let fault = Fault::new(FaultKind::Throttled, Side::Local, "pay for the job", detail);
    let doubled = REFUSED.saturating_mul(1_u32.checked_shl(claim.attempts()).unwrap_or(u32::MAX)).min(LEFT_OVER);
    let wait = if is_dry(shared) { doubled } else { REFUSED };
    let now = shared.now();
    shared.ledger.defer(claim, now.plus(wait), &fault, now).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::tests::world::{Small, Store};
    use crate::engine::tests::{Bench, job as told, rule, soon};
    use crate::meter;
    use crate::model::object::Timestamp;
    use crate::plan::prices::{Home, PlacePrices, PriceTable, Prices};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A dollar for a thousand PUTs, and for a thousand pages; nothing else costs anything.
    fn purse(limit: Option<f64>) -> Arc<Purse> {
        let prices = |price: f64| Prices { price: BTreeMap::from([(STANDARD.to_owned(), price)]), ..Prices::default() };
        let here = PlacePrices { write: prices(1.0), read: prices(0.0), ..PlacePrices::default() };
        let table = PriceTable { stores: BTreeMap::from([("here".to_owned(), here)]), regions: BTreeMap::default() };
        let here = Home::Store("here".to_owned());
        let tariff = Tariff::new(table, here.clone(), BTreeMap::from([("t".into(), here)]));
        Purse::new(tariff, BTreeMap::from([("t".into(), ServerSide::Never)]), limit)
    }

    async fn puts(purse: &Purse, count: u64) {
        let put = |usage: &mut Usage| usage.request(&Place::Target("t".into()), Request::Put, STANDARD, count);
        meter::under(Some(purse.meter()), async { meter::note(put) }).await;
    }

    fn job(key: &str) -> Job {
        told(key, Origin::Scan)
    }

    /// An engine, and a purse with enough for so many objects at once.
    fn paying(bench: &Bench, objects: f64) -> (Engine<Small>, Arc<Purse>) {
        let engine = bench.engine(&Small::new(Store::default()));
        let most = purse(None).cost(&bench.settings.rules, &job("k"), None).unwrap();
        let purse = purse(Some(0.032 + objects * most + 1e-9));
        engine.pay_with(Some(Arc::clone(&purse)));
        (engine, purse)
    }

    async fn admitted(bench: &Bench, jobs: Vec<Job>) -> crate::ledger::Admitted {
        bench.ledger.admit(Admission { jobs, ..Admission::default() }).await.unwrap()
    }

    async fn claimed(bench: &Bench) -> Claim {
        bench.ledger.claim(Timestamp(u64::MAX / 2), 1).await.unwrap().pop().unwrap().next().unwrap()
    }

    /// What an event tells too is done as a live change, which nobody pays: the sync must not wait for its money.
    #[tokio::test]
    async fn money_for_what_became_a_live_change_comes_back() {
        let bench = Bench::new(vec![rule("r", "t")]);
        let (engine, purse) = paying(&bench, 1.0);
        soon(admit(&engine.shared, &[(job("one"), None)])).await.unwrap();
        admitted(&bench, vec![told("one", Origin::Event)]).await;
        let claim = claimed(&bench).await;
        assert!(matches!(enter(&engine.shared, &claim), Entry::Uncounted));
        assert!(soon(afford_later(&engine.shared, &[(job("two"), None)])).await, "{:?}", purse.dry());
    }

    /// A marker that the brake holds already stays held: nothing is done that would give its money back.
    #[tokio::test]
    async fn money_for_what_the_brake_holds_comes_back() {
        let bench = Bench::new(vec![rule("r", "t")]);
        let marker = Job { kind: ChangeKind::DeleteMarker, ..job("one") };
        admitted(&bench, vec![marker.clone()]).await;
        let claim = claimed(&bench).await;
        bench.ledger.pass_delete(&claim, Timestamp(0), |_| Some("too many".to_owned())).await.unwrap();
        drop(claim);
        assert_eq!(bench.ledger.totals().held.operations, 1);
        let (engine, purse) = paying(&bench, 1.0);
        soon(admit(&engine.shared, &[(marker, None), (job("two"), None)])).await.unwrap();
        assert!(purse.is_waiting(), "for the other one");
        assert!(matches!(enter(&engine.shared, &claimed(&bench).await), Entry::Paid(_)));
        purse.take_back(identity(&job("two")));
        assert!(!purse.is_waiting());
    }

    #[tokio::test]
    async fn what_is_set_aside_comes_back_and_what_was_spent_does_not() {
        // Two sides' pages are held back: 0.032.
        let purse = purse(Some(0.032 + 0.010));
        let (one, other) = (job("one"), job("other"));
        assert_eq!(purse.set_aside(&[(identity(&one), 0.006)]), Ok(true));
        assert_eq!(purse.set_aside(&[(identity(&one), 0.006)]), Ok(true), "once for one job");
        assert_eq!(purse.set_aside(&[(identity(&other), 0.006)]), Ok(false));
        puts(&purse, 2).await;
        purse.take_back(identity(&one));
        assert!(!purse.is_waiting());
        assert_eq!(purse.set_aside(&[(identity(&other), 0.006)]), Ok(true), "0.002 were spent of the 0.006");
        purse.take_back(identity(&other));
        puts(&purse, 6).await;
        assert_eq!(purse.set_aside(&[(identity(&one), 0.006)]), Ok(false));
        assert_eq!(purse.spent(), Ok(0.008));
        assert_eq!(self::purse(None).set_aside(&[(1, 1e9)]), Ok(true), "one that only counts");
    }

    /// Cost moves from what is set aside to what is spent: whoever looks meanwhile sees it in one of the two.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_ends_while_another_asks_is_not_forgotten() {
        for _ in 0..3_000 {
            let purse = purse(Some(0.032 + 0.010));
            assert_eq!(purse.set_aside(&[(identity(&job("one")), 0.010)]), Ok(true));
            let ending = Arc::clone(&purse);
            let ended = tokio::task::spawn_blocking(move || {
                tokio::runtime::Handle::current().block_on(puts(&ending, 10));
                ending.take_back(identity(&job("one")));
            });
            assert_eq!(purse.set_aside(&[(identity(&job("other")), 0.010)]), Ok(false));
            ended.await.unwrap();
        }
    }

    /// Once the money is spent, what is left of a sync in a worker comes less and less often, but soon enough for the
    /// next sync.
    #[tokio::test]
    async fn what_there_is_no_money_for_comes_less_often() {
        let bench = Bench::new(vec![rule("r", "t")]);
        let (engine, purse) = paying(&bench, 0.5);
        admitted(&bench, vec![job("one")]).await;
        let mut waits = Vec::new();
        for _ in 0..6 {
            let claim = claimed(&bench).await;
            assert!(matches!(enter(&engine.shared, &claim), Entry::Refused));
            assert_eq!(purse.dry(), Some(Dry::Limit));
            let now = engine.shared.now();
            put_off(&engine.shared, claim).await.unwrap();
            waits.push(bench.ledger.next_due().unwrap().unwrap().since(now).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    }

    proptest! {
        /// Whatever comes, in whatever order it ends, no more is spent than was permitted, if no job uses more than was
        /// set aside for it.
        #[test]
        fn the_limit_holds(limit in 0u64..200, jobs in proptest::collection::vec((1u64..30, 0u64..30, any::<bool>()), 1..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            #[allow(clippy::cast_precision_loss, reason = "small")]
            let dollars = |puts: u64| puts as f64 / 1000.0;
            let purse = purse(Some(dollars(limit)));
            let mut under_way = Vec::new();
            for (place, (most, used, ends)) in jobs.into_iter().enumerate() {
                let job = job(&place.to_string());
                if purse.set_aside(&[(identity(&job), dollars(most))]).unwrap() {
                    under_way.push((job, used.min(most)));
                }
                if ends && !under_way.is_empty() {
                    let (job, used) = under_way.remove(0);
                    runtime.block_on(puts(&purse, used));
                    purse.take_back(identity(&job));
                }
            }
            for (job, used) in under_way {
                runtime.block_on(puts(&purse, used));
                purse.take_back(identity(&job));
            }
            prop_assert!(purse.spent().unwrap() <= dollars(limit) + 1e-12);
            prop_assert!(!purse.is_waiting());
        }
    }
}
