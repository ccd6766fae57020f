//! One worker's view of the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use repl::model::object::TargetId;
use repl::ports::World;

use super::world::clock::FakeClock;
use super::world::keys::FakeKeys;
use super::world::queue::FakeQueue;
use super::world::store::FakeStore;

/// The name of the target that there always is.
pub(super) const TARGET: &str = "dr";
/// The name of the one that there may be beside it.
pub(super) const FAR: &str = "far";

/// Everything that one worker reaches.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) source: FakeStore,
    pub(super) targets: BTreeMap<TargetId, FakeStore>,
    pub(super) receipts: Option<FakeStore>,
    pub(super) queue: Option<FakeQueue>,
    pub(super) keys: FakeKeys,
    pub(super) clock: Arc<FakeClock>,
}

impl World for Site {
    type Store = FakeStore;
    type Queue = FakeQueue;
    type Keys = FakeKeys;
    type Clock = FakeClock;

    fn source(&self) -> &FakeStore {
        &self.source
    }

    fn beside_source(&self, bucket: &str) -> FakeStore {
        panic!("nobody lists {bucket} here")
    }

    fn target(&self, id: &TargetId) -> Option<&FakeStore> {
        self.targets.get(id)
    }

    fn queue(&self) -> Option<&FakeQueue> {
        self.queue.as_ref()
    }

    fn keys(&self, _id: &TargetId) -> Option<&FakeKeys> {
        Some(&self.keys)
    }

    fn receipts(&self) -> Option<&FakeStore> {
        self.receipts.as_ref()
    }

    fn clock(&self) -> &FakeClock {
        &self.clock
    }
}
