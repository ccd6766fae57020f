//! Floor 2: what a piece of work uses, counted while it happens.
//!
//! *Secret kept:* how a request deep inside a store's client is told to belong to the work that asked for it: a meter
//! goes along with the task. *May touch:* `model`, tokio's task-local values. *Must not know:* prices, stores, the
//! engine. Work under no meter is not counted: live changes beside a sync, for one.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::usage::Usage;

tokio::task_local! {
    /// `None` where nobody asked.
    static CURRENT: Option<Arc<Meter>>;
}

/// Counts what work under it uses.
#[derive(Debug, Default)]
pub struct Meter {
    used: Mutex<Usage>,
}

impl Meter {
    /// What was used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, what: impl FnOnce(&mut Usage)) {
        what(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Does work under a meter, or under none. Tasks that it spawns are under it only where they are [`carried`] along.
pub fn under<W: Future>(meter: Option<&Arc<Meter>>, work: W) -> impl Future<Output = W::Output> {
    CURRENT.scope(meter.cloned(), work)
}

/// Work for a task of its own, under the meter of the task that spawns it.
pub fn carried<W: Future>(work: W) -> impl Future<Output = W::Output> {
    CURRENT.scope(CURRENT.try_with(Clone::clone).ok().flatten(), work)
}

/// Counts something for the work that this task does.
pub fn note(what: impl FnOnce(&mut Usage)) {
    // No meter: nobody asked.
    CURRENT.try_with(|meter| meter.as_ref().map(|meter| meter.note(what))).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::usage::{Place, Request};
    use tokio::task::JoinSet;

    fn list() {
        note(|usage| usage.request(&Place::Source, Request::List, "STANDARD", 1));
    }

    #[tokio::test]
    async fn only_work_under_the_meter_is_counted() {
        let meter = Arc::new(Meter::default());
        list();
        under(Some(&meter), async {
            list();
            let mut tasks = JoinSet::new();
            tasks.spawn(carried(async { list() }));
            tasks.spawn(async { list() });
            while tasks.join_next().await.is_some() {}
        })
        .await;
        carried(async { list() }).await;
        assert_eq!(meter.usage().of(Request::List), 2);
    }
}
