//! The real adapters on the servers that stand in for AWS, each by both of its clients.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use repl::aws::s3::S3Bucket;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::fault::Side;

use super::{Gap, Subject, support};

/// A server, and what it lacks of S3 (test-clouds): the adapters must do without.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Server {
    Ministack,
    Weed,
}

impl Server {
    fn gaps(self) -> &'static [Gap] {
        match self {
            Self::Ministack => &[Gap::RefusesFullObjectOfParts, Gap::TellsPartsByChecksum, Gap::CopiesArchives],
            Self::Weed => &[
                Gap::ListsByPaths,
                Gap::NoWebsiteRedirect,
                Gap::MarkersLookMissing,
                Gap::NoLocks,
                Gap::ReadsArchives,
                Gap::CopiesArchives,
            ],
        }
    }
}

pub(crate) struct Way {
    pub(crate) server: Server,
    pub(crate) config: SdkConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) raw: aws_sdk_s3::Client,
}

impl Way {
    pub(crate) async fn new(server: Server, client: HotPath) -> Self {
        let access = match server {
            Server::Ministack => support::servers::Server::Ministack.access(),
            Server::Weed => support::servers::Server::Seaweedfs.access(),
        };
        let url = Some(access.endpoint.clone());
        let endpoint =
            Endpoint { endpoint: url, path_style: true, client, ..Endpoint::in_region("us-east-1", Side::Source) };
        let keys = Credentials::new(&access.access_key_id, &access.secret_access_key, None, None, "test");
        let config = Clients::new().sdk_config(&endpoint).await.unwrap().into_builder();
        let config = config.credentials_provider(SharedCredentialsProvider::new(keys)).build();
        let raw =
            aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        Self { server, config, endpoint, raw }
    }

    pub(crate) async fn make(&self, versioned: bool) -> S3Bucket {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("contract-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.raw.create_bucket().bucket(&name).send().await.unwrap();
        if versioned {
            let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            self.raw.put_bucket_versioning().bucket(&name).versioning_configuration(on).send().await.unwrap();
        }
        S3Bucket::new(&self.config, &self.endpoint, name)
    }
}

/// Both servers by both clients.
pub(crate) async fn all_ways() -> Vec<Way> {
    let mut worlds = Vec::new();
    for client in [HotPath::Lean, HotPath::Sdk] {
        for server in [Server::Ministack, Server::Weed] {
            worlds.push(Way::new(server, client).await);
        }
    }
    worlds
}

impl Subject for Way {
    type Store = S3Bucket;

    fn has(&self, gap: Gap) -> bool {
        self.server.gaps().contains(&gap)
    }

    async fn bucket(&self, versioned: bool) -> S3Bucket {
        self.make(versioned).await
    }

    async fn lockable(&self) -> Option<S3Bucket> {
        if self.has(Gap::NoLocks) {
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("locked-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.raw.create_bucket().bucket(&name).object_lock_enabled_for_bucket(true).send().await.unwrap();
        Some(S3Bucket::new(&self.config, &self.endpoint, name))
    }

    fn name(&self, store: &S3Bucket) -> String {
        store.name().to_owned()
    }
}
