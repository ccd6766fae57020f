//! AWS as the engine's world: one client per side, made from the config.

use std::collections::BTreeMap;

use crate::aws::{Clients, Endpoint, HotPath, kms::Kms, s3::S3Bucket, sqs::SqsQueue};
use crate::config::{Config, Connection, TransferClient, TransferMode};
use crate::engine::{Checksums, Conditions, ServerSide, TargetSettings};
use crate::model::fault::{Fault, Side};
use crate::model::object::{TargetId, Timestamp};
use crate::model::usage::Place;
use crate::ports::{Clock, World};

use super::known;

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the Clock that everybody else asks")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Everything that the engine asks of AWS.
#[derive(Debug)]
pub(super) struct Aws {
    source: S3Bucket,
    targets: BTreeMap<TargetId, (S3Bucket, Kms)>,
    queue: Option<SqsQueue>,
    receipts: Option<S3Bucket>,
    clock: SystemClock,
}

impl Aws {
    /// Connects nothing yet: credentials are looked up with the first request.
    pub(super) async fn new(config: &Config) -> Result<Self, Fault> {
        let clients = Clients::new();
        let client = match config.transfer.client {
            TransferClient::Lean => HotPath::Lean,
            TransferClient::Sdk => HotPath::Sdk,
        };
        let endpoint = |connection: &Connection, owner_side| endpoint(connection, owner_side, client);
        let source = endpoint(&config.source.connection, Side::Source);
        let sdk = clients.sdk_config(&source).await?;
        let source = S3Bucket::metered(&sdk, &source, &*config.source.bucket, Place::Source);
        let mut targets = BTreeMap::new();
        for target in &config.targets {
            let store = endpoint(&target.connection, Side::Target);
            let sdk = clients.sdk_config(&store).await?;
            let keys = Kms::new(&sdk, &endpoint(&target.connection, Side::Keys));
            let place = Place::Target(target.id.clone());
            targets.insert(target.id.clone(), (S3Bucket::metered(&sdk, &store, &*target.bucket, place), keys));
        }
        let queue = match &config.queue {
            None => None,
            Some(queue) => {
                let place = endpoint(&queue.connection, Side::Queue);
                let sdk = clients.sdk_config(&place).await?;
                Some(SqsQueue::new(&sdk, &place, &*queue.url, &*config.source.bucket))
            }
        };
        let receipts = match &config.receipts {
            None => None,
            Some(receipts) => {
                let place = endpoint(&receipts.connection, Side::Target);
                Some(S3Bucket::new(&clients.sdk_config(&place).await?, &place, &*receipts.bucket))
            }
        };
        Ok(Self { source, targets, queue, receipts, clock: SystemClock })
    }
}

impl World for Aws {
    type Store = S3Bucket;
    type Queue = SqsQueue;
    type Keys = Kms;
    type Clock = SystemClock;

    fn source(&self) -> &S3Bucket {
        &self.source
    }

    fn beside_source(&self, bucket: &str) -> S3Bucket {
        self.source.beside(bucket)
    }

    fn target(&self, id: &TargetId) -> Option<&S3Bucket> {
        self.targets.get(id).map(|(store, _)| store)
    }

    fn queue(&self) -> Option<&SqsQueue> {
        self.queue.as_ref()
    }

    fn keys(&self, id: &TargetId) -> Option<&Kms> {
        self.targets.get(id).map(|(_, keys)| keys)
    }

    fn receipts(&self) -> Option<&S3Bucket> {
        self.receipts.as_ref()
    }

    fn clock(&self) -> &SystemClock {
        &self.clock
    }
}

/// The same with what `repl check` has learnt of the endpoints.
pub(super) fn learnt_settings(config: &Config) -> BTreeMap<TargetId, TargetSettings> {
    let mut settings = target_settings(config);
    for target in &config.targets {
        let Some(known) = known::read(&config.ledger.path, target, SystemClock.now()) else { continue };
        let Some(settings) = settings.get_mut(&target.id) else { continue };
        if known.server_side == Some(false) {
            settings.server_side = ServerSide::Impossible;
        }
        let copies = match config.transfer.mode {
            TransferMode::Auto => settings.server_side == ServerSide::Possible,
            TransferMode::Stream => false,
            TransferMode::ServerSide => true,
        };
        let of_copies = known.conditional_copy.filter(|_| copies);
        if [known.conditional_put, known.conditional_complete, of_copies].contains(&Some(false)) {
            settings.conditions = Conditions::Ignored;
        }
        if known.checksums == Some(false) {
            settings.checksums = Checksums::Ignored;
        }
        tracing::debug!(target = %target.id, ?known, "known of the endpoint from repl check");
    }
    settings
}

/// What the engine needs to know of every target.
pub(super) fn target_settings(config: &Config) -> BTreeMap<TargetId, TargetSettings> {
    let source = &config.source.connection;
    let settings = |target: &crate::config::Target| {
        let possible = source.same_identity(&target.connection) && source.same_store(&target.connection);
        let server_side = if possible { ServerSide::Possible } else { ServerSide::Impossible };
        let (conditions, checksums) = (Conditions::default(), Checksums::default());
        TargetSettings { bucket: target.bucket.clone(), server_side, conditions, checksums }
    };
    config.targets.iter().map(|target| (target.id.clone(), settings(target))).collect()
}

/// A connection of the config as the adapters want it.
pub(super) fn endpoint(connection: &Connection, owner_side: Side, client: HotPath) -> Endpoint {
    Endpoint {
        region: connection.region.clone(),
        endpoint: connection.endpoint.clone(),
        path_style: connection.path_style,
        profile: connection.profile.clone(),
        role_arn: connection.role_arn.clone(),
        external_id: connection.external_id.clone(),
        expected_bucket_owner: connection.expected_bucket_owner.clone(),
        owner_side,
        client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::known::Known;

    /// Both sides are one store under one identity, so that `auto` copies.
    fn settings(mode: &str, learn: impl FnOnce(&mut Known)) -> TargetSettings {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "[source]\nbucket = \"b-one\"\nregion = \"us-east-1\"\n[targets.dr]\nbucket = \"b-two\"\n\
             region = \"us-east-1\"\n[[rules]]\nid = \"all\"\ntarget = \"dr\"\n[transfer]\nmode = {mode:?}\n\
             [ledger]\npath = {:?}\n",
            directory.path()
        );
        let config = crate::config::parse(&text, "f").unwrap();
        let mut known = Known::of(&config.targets[0], SystemClock.now());
        learn(&mut known);
        known::write(directory.path(), BTreeMap::from([("dr".to_owned(), known)])).unwrap();
        learnt_settings(&config).remove(&TargetId::new("dr")).unwrap()
    }

    #[test]
    fn what_a_store_ignores_is_not_relied_on() {
        let copy = |known: &mut Known| known.conditional_copy = Some(false);
        assert_eq!(settings("auto", copy).conditions, Conditions::Ignored);
        assert_eq!(settings("server-side", copy).conditions, Conditions::Ignored);
        assert_eq!(settings("stream", copy).conditions, Conditions::Held, "nothing is copied");
        let denied = |known: &mut Known| (known.conditional_copy, known.server_side) = (Some(false), Some(false));
        assert_eq!(settings("auto", denied).conditions, Conditions::Held, "nothing is copied");
        assert_eq!(settings("stream", |known| known.conditional_put = Some(false)).conditions, Conditions::Ignored);
        assert_eq!(settings("auto", |known| known.checksums = Some(false)).checksums, Checksums::Ignored);
        let kept = settings("auto", |known| (known.checksums, known.conditional_copy) = (Some(true), Some(true)));
        assert_eq!((kept.conditions, kept.checksums), (Conditions::Held, Checksums::Held));
    }

    #[tokio::test]
    async fn the_systems_clock_keeps_the_contract() {
        crate::sim::world::clock::goes_with_tokios_time(&SystemClock).await;
    }
}
