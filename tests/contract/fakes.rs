//! The stores of the simulation, in good weather.

use std::sync::{Arc, Mutex};

use repl::model::fault::Side;
use repl::model::object::Versioning;

use super::world::bucket::Bucket;
use super::world::store::FakeStore;
use super::{Gap, Subject};

/// Buckets in memory; each can copy from the one made before it.
#[derive(Default)]
pub(crate) struct Fakes {
    last: Mutex<Option<Arc<Mutex<Bucket>>>>,
}

impl Subject for Fakes {
    type Store = FakeStore;

    fn has(&self, _gap: Gap) -> bool {
        false
    }

    async fn bucket(&self, versioned: bool) -> FakeStore {
        let mut last = self.last.lock().unwrap();
        let name = if last.is_some() { "second" } else { "first" };
        let versioning = if versioned { Versioning::Enabled } else { Versioning::Off };
        let clear = FakeStore::clear(Bucket::new(name, Side::Target, versioning));
        let store = FakeStore { copies_from: last.clone(), ..clear };
        *last = Some(Arc::clone(&store.bucket));
        store
    }

    async fn lockable(&self) -> Option<FakeStore> {
        Some(self.bucket(true).await)
    }

    fn name(&self, store: &FakeStore) -> String {
        store.bucket.lock().unwrap().name.clone()
    }
}
