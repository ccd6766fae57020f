//! Target keys are proved before anything is sealed under them (P7): a key that is disabled, missing or in another
//! region parks its jobs before a byte moves, and the group's probe proves it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Head, TargetId};
use crate::ports::{KeyService, Sealing, World};

use super::Shared;
use super::replicate::At;
use super::transfer::sealing;

/// How long a proof is believed. A key that is disabled meanwhile is noticed by S3 itself, which refuses the write.
const BELIEVED: Duration = Duration::from_secs(300);

/// Which keys have been proved, and when.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    proved: Mutex<BTreeMap<(TargetId, String), Instant>>,
}

/// What looking at a key showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It can be used.
    Usable,
    /// It cannot be told: no key service there, or it may not be asked. S3 will decide.
    Untold,
}

impl<W: World> Shared<W> {
    /// Faults as `KeyUnusable` when the key that a replica is to be sealed under is known not to work.
    pub(super) async fn key_usable(&self, at: &At<'_, W>, head: &Head) -> Result<(), Fault> {
        let arn = match sealing(at, head) {
            Sealing::BucketDefault => return Ok(()),
            Sealing::Kms(arn) | Sealing::Dsse(arn) => arn,
        };
        let name = (at.job().target.clone(), arn);
        let proved = self.keys.proved.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        if proved.is_some_and(|proved| proved.elapsed() < BELIEVED) {
            return Ok(());
        }
        Box::pin(prove(self, &name.0, &name.1, &at.target.bucket)).await?;
        self.keys.proved.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
        Ok(())
    }
}

async fn prove<W: World>(shared: &Shared<W>, target: &TargetId, arn: &str, bucket: &str) -> Result<Proof, Fault> {
    let Some(keys) = shared.world.keys(target) else { return Ok(Proof::Untold) };
    let untold = |fault: &Fault| {
        tracing::warn!(%target, key = arn, %fault, "the target key could not be proved; S3 will tell with the first write");
        Ok(Proof::Untold)
    };
    match keys.describe(arn).await {
        Ok(state) if !state.enabled => {
            let detail = format!("{arn} is not enabled: enable it, or name another key in the rule");
            return Err(Fault::new(FaultKind::KeyUnusable, Side::Target, "use the target key", detail));
        }
        Ok(state) => {
            if state.rotation == Some(false) {
                tracing::warn!(%target, key = arn, "automatic rotation of the target key is off");
            }
        }
        Err(fault) if fault.kind == FaultKind::KeyUnusable => return Err(at_target(fault)),
        Err(fault) => return untold(&fault),
    }
    match keys.prove(arn, bucket).await {
        Ok(()) => {
            tracing::info!(%target, key = arn, "the target key is usable");
            Ok(Proof::Usable)
        }
        Err(fault) if fault.kind == FaultKind::KeyUnusable => Err(at_target(fault)),
        Err(fault) => untold(&fault),
    }
}

/// The key belongs to the target's bucket: one group of failures, whoever noticed it.
fn at_target(fault: Fault) -> Fault {
    Fault { side: Side::Target, ..fault }
}

/// Proves every key that the rules name, at the start, until the engine stops. What does not hold is said loudly; its
/// jobs will be parked.
pub(super) async fn prove_all<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    tokio::select! {
        biased;
        () = shared.stopped() => {}
        () = prove_named(&shared) => {}
    }
    Ok(())
}

async fn prove_named<W: World>(shared: &Shared<W>) {
    let mut named = BTreeSet::new();
    for rule in shared.settings.rules.iter().filter(|rule| rule.enabled) {
        named.extend(rule.kms_key.iter().chain(rule.kms_map.values()).map(|arn| (rule.target.clone(), arn.clone())));
    }
    for (target, arn) in named {
        let Some(settings) = shared.settings.targets.get(&target) else { continue };
        match prove(shared, &target, &arn, &settings.bucket).await {
            Ok(Proof::Usable) => {
                let mut proved = shared.keys.proved.lock().unwrap_or_else(PoisonError::into_inner);
                proved.insert((target, arn), Instant::now());
            }
            Ok(Proof::Untold) => {}
            Err(fault) => {
                shared.pulse.fault(&fault);
                tracing::error!(%target, key = arn, %fault, "the target key cannot be used: what needs it will be parked");
            }
        }
    }
}
