//! The key service of one region.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use repl::model::fault::{Fault, FaultKind, Side};
use repl::ports::{KeyService, KeyState};

use super::weather::{Fate, Fuse, Place, Verb, Weather};

/// One client's way to it.
#[derive(Clone, Debug)]
pub(crate) struct FakeKeys {
    /// Which keys there are, and whether each is enabled.
    pub(crate) keys: Arc<Mutex<BTreeMap<String, bool>>>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) fuse: Arc<Fuse>,
}

impl FakeKeys {
    async fn ask<T>(&self, arn: &str, act: impl FnOnce(bool) -> Result<T, Fault>) -> Result<T, Fault> {
        self.fuse.step().await;
        self.weather.way().await;
        if let Fate::Before(fault) | Fate::After(fault) = self.weather.fate(&Place::only(Side::Keys), Verb::Keys, None)
        {
            return Err(fault);
        }
        let enabled = self.keys.lock().unwrap().get(arn).copied();
        match enabled {
            Some(enabled) => act(enabled),
            None => Err(Fault::new(FaultKind::KeyUnusable, Side::Keys, "look at the key", "NotFoundException")),
        }
    }
}

impl KeyService for FakeKeys {
    async fn describe(&self, arn: &str) -> Result<KeyState, Fault> {
        self.ask(arn, |enabled| Ok(KeyState { arn: arn.to_owned(), enabled, rotation: Some(true) })).await
    }

    async fn prove(&self, arn: &str, _bucket: &str) -> Result<(), Fault> {
        self.ask(arn, |enabled| {
            let disabled = Fault::new(FaultKind::KeyUnusable, Side::Keys, "make a data key", "DisabledException");
            if enabled { Ok(()) } else { Err(disabled) }
        })
        .await
    }
}
