//! The gate that an operator closes: while it is closed nothing is polled, listed or begun; what is under way ends.

use std::time::Duration;

use tokio::sync::watch;

use crate::ledger::Control;
use crate::model::fault::Fault;
use crate::ports::World;

use super::{Engine, Phase, Shared};

/// How often a pause with an end is held against the wall clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// What the operator asked for last, as every part of the engine sees it.
#[derive(Debug)]
pub(super) struct Gate {
    control: watch::Sender<Control>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { control: watch::channel(Control::default()).0 }
    }
}

impl Gate {
    /// Takes over what is in force from now on.
    pub(super) fn follow(&self, control: Control) {
        self.control.send_replace(control);
    }
}

impl<W: World> Engine<W> {
    /// Pauses or resumes; returns when that is on disk (it holds over restarts) and in force. If dropped, it may hold
    /// from the next start on only.
    pub async fn set_control(&self, control: Control) -> Result<(), Fault> {
        self.shared.ledger.set_control(&control).await?;
        self.shared.gate.follow(control);
        self.wake();
        Ok(())
    }
}

impl<W: World> Shared<W> {
    /// Whether the operator holds work back now.
    pub(super) fn is_paused(&self) -> bool {
        self.gate.control.borrow().is_paused(self.now())
    }

    /// Whether something new may be begun.
    pub(super) fn may_begin(&self) -> bool {
        self.phase() == Phase::Run && !self.is_paused()
    }

    /// Waits while the operator holds work back; returns too when the engine stops.
    pub(super) async fn open(&self) {
        if self.may_begin() {
            return;
        }
        let (mut control, mut phase) = (self.gate.control.subscribe(), self.phase.clone());
        while self.phase() == Phase::Run && control.borrow_and_update().is_paused(self.now()) {
            tokio::select! {
                _ = control.changed() => {}
                _ = phase.wait_for(|phase| *phase != Phase::Run) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Returns as soon as nothing new may be begun any more.
    pub(super) async fn closed(&self) {
        let (mut control, mut phase) = (self.gate.control.subscribe(), self.phase.clone());
        tokio::select! {
            _ = control.wait_for(|control| control.is_paused(self.now())) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Run) => {}
        }
    }
}
