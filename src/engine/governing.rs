//! Limits that change while the engine runs: by time windows, and by an operator.

use std::time::Duration;

use std::sync::Arc;

use tokio::sync::watch;

use crate::ledger::Limiting;
use crate::model::fault::Fault;
use crate::model::limits::{Concurrency, InForce, Limits};
use crate::model::window::Window;
use crate::ports::World;

use super::{Engine, Phase, Shared, budget};

/// How often windows are held against the wall clock.
const LOOK: Duration = Duration::from_secs(1);

/// Who may set limits, and what is in force.
#[derive(Debug)]
pub(super) struct Governing {
    config: Limits,
    windows: Vec<Window>,
    operator: watch::Sender<Limiting>,
    concurrency: watch::Sender<Concurrency>,
}

impl Governing {
    /// What the config says holds until the ledger is asked.
    pub(super) fn new(limits: &budget::Limits, windows: Vec<Window>) -> Self {
        let bandwidth = limits.bandwidth.and_then(std::num::NonZeroU64::new);
        let requests = limits.requests_per_second.and_then(std::num::NonZeroU32::new);
        Self {
            config: Limits::whole(bandwidth, requests, limits.concurrency),
            windows,
            operator: watch::Sender::default(),
            concurrency: watch::Sender::new(limits.concurrency),
        }
    }

    pub(super) fn concurrency(&self) -> Concurrency {
        *self.concurrency.borrow()
    }
}

impl<W: World> Engine<W> {
    /// Sets limits; returns when that is on disk (it holds over restarts) and in force.
    pub async fn set_limiting(&self, limiting: Limiting) -> Result<(), Fault> {
        self.shared.ledger.set_limiting(&limiting).await?;
        self.shared.governing.operator.send_replace(limiting);
        self.shared.put_in_force();
        self.wake();
        Ok(())
    }

    /// The limits in force now.
    #[must_use]
    pub fn limits(&self) -> InForce {
        self.shared.in_force()
    }
}

impl<W: World> Shared<W> {
    fn in_force(&self) -> InForce {
        let now = self.now();
        let Governing { config, windows, operator, .. } = &self.governing;
        InForce::of(operator.borrow().at(now), windows, *config, now)
    }

    fn put_in_force(&self) {
        let InForce { bandwidth, requests_per_second, concurrency } = self.in_force();
        self.budget.set(bandwidth.0, requests_per_second.0);
        self.governing.concurrency.send_replace(concurrency.0);
    }

    /// Takes over what an operator has set before this start.
    pub(super) fn recall_limits(&self) -> Result<(), Fault> {
        self.governing.operator.send_replace(self.ledger.limiting()?);
        self.put_in_force();
        Ok(())
    }
}

/// Follows the windows until the phase ends.
pub(super) async fn follow_windows<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let mut before = shared.in_force();
    while shared.phase() == Phase::Run {
        shared.sleep(LOOK).await;
        let now = shared.in_force();
        if now != before {
            tracing::info!(bandwidth = ?now.bandwidth, requests = ?now.requests_per_second, concurrency = ?now.concurrency, "other limits are in force");
            before = now;
            shared.put_in_force();
            shared.work.notify_one();
        }
    }
    Ok(())
}
