//! What is asked of both sides alike: who we are, whether the bucket is there, and how it is set up.

use super::Probes;
use super::finding::{Check, Finding};
use crate::aws::probe;
use crate::aws::s3::S3Bucket;
use crate::aws::s3::settings::{Locking, Sighting};
use crate::cli::fix::{Place, credentials};
use crate::cli::world::{SystemClock, endpoint};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Encryption, Versioning};
use crate::ports::{Clock, ObjectStore};

/// Beyond this the clock is told to be wrong. S3 refuses at 15 minutes (aws-semantics 11), and latencies that are told
/// to the second are wrong long before.
const SKEW: u64 = 60_000;

/// One bucket of the config.
#[derive(Clone, Copy)]
pub(super) struct Bucket<'a> {
    /// `source` or `target dr`.
    pub(super) side: &'a str,
    pub(super) at: Side,
    pub(super) place: Place<'a>,
    pub(super) store: &'a S3Bucket,
}

/// How a bucket is set up, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub(super) struct SetUp {
    pub(super) versioning: Option<Versioning>,
    pub(super) locking: Option<Locking>,
    pub(super) encryption: Option<Encryption>,
    pub(super) ownership: Option<String>,
}

/// Nothing more can be learnt of a side whose bucket cannot be reached at all.
pub(super) enum Standing {
    Reached(SetUp),
    Lost,
}

impl Probes<'_> {
    /// The rows of one side that every bucket has.
    pub(super) async fn ground(&self, bucket: &Bucket<'_>) -> (Vec<Check>, Standing) {
        let side = bucket.side;
        let (who, (sight, seen)) =
            tokio::join!(Check::of("credentials", side, self.caller(bucket)), self.sight(bucket));
        let mut rows = vec![who, sight];
        let Some(seen) = seen else { return (rows, Standing::Lost) };
        if let Some(seen) = seen {
            rows.push(Check::at_once("region", side, region(bucket, seen.region.as_deref())));
            rows.push(Check::at_once("clock", side, clock(&seen)));
        }
        let mut set_up = SetUp::default();
        let (versioning, locking, encryption, ownership) = tokio::join!(
            Check::of("versioning", side, versioning(bucket, &mut set_up.versioning)),
            Check::of("object-lock", side, locking(bucket, &mut set_up.locking)),
            Check::of("encryption", side, encryption(bucket, &mut set_up.encryption)),
            Check::of("ownership", side, ownership(bucket, &mut set_up.ownership)),
        );
        rows.extend([versioning, locking, encryption, ownership]);
        (rows, Standing::Reached(set_up))
    }

    async fn caller(&self, bucket: &Bucket<'_>) -> Finding {
        let place = endpoint(bucket.place.connection, bucket.at, crate::aws::HotPath::Sdk);
        let told = async { probe::caller(&self.clients.sdk_config(&place).await?, &place).await };
        match told.await {
            Ok(caller) => {
                let who = caller.arn.unwrap_or_else(|| "an identity without a name".to_owned());
                Finding::pass(format!("we are {who} of account {}", caller.account.as_deref().unwrap_or("unknown")))
            }
            Err(fault) => no_caller(bucket, &fault),
        }
    }

    /// Whether the bucket is there. The second is `None` where it cannot be reached, and holds nothing where it may
    /// only not be looked at.
    async fn sight(&self, bucket: &Bucket<'_>) -> (Check, Option<Option<Sighting>>) {
        let mut seen = None;
        let check = Check::of("bucket", bucket.side, async {
            match bucket.store.sight().await {
                Ok(sighting) => {
                    seen = Some(Some(sighting));
                    Finding::pass(format!("{:?} is there", bucket.place.bucket))
                }
                Err(fault) => {
                    if fault.kind == FaultKind::Denied && fault.code.is_none() {
                        seen = Some(None);
                    }
                    let place = bucket.place;
                    place.failed(&fault, &["s3:ListBucket"], &place.arn())
                }
            }
        });
        let check = check.await;
        (check, seen)
    }
}

fn no_caller(bucket: &Bucket<'_>, fault: &Fault) -> Finding {
    if let Some(fix) = credentials(fault, bucket.place.section) {
        return Finding::fail(fault.to_string(), fix);
    }
    match &bucket.place.connection.endpoint {
        Some(url) => Finding::skipped(format!("{url} has no STS that would tell who we are")),
        None if fault.kind == FaultKind::Transient => Finding::skipped(format!(
            "who we are is not known, as STS could not be asked from here (a VPC without its endpoint?): {}",
            fault.detail
        )),
        None => bucket.place.failed(fault, &["sts:GetCallerIdentity"], "*"),
    }
}

fn region(bucket: &Bucket<'_>, told: Option<&str>) -> Finding {
    let Place { section, bucket: name, connection } = bucket.place;
    match told {
        None => Finding::skipped("the store does not tell the region of a bucket"),
        Some(region) if region == connection.region => Finding::pass(region),
        Some(region) if connection.endpoint.is_some() => {
            Finding::pass(format!("the store says {region}, and takes {} too", connection.region))
        }
        Some(region) => Finding::fail(
            format!("bucket {name:?} lives in {region}, but the config says {}", connection.region),
            format!("set region = {region:?} under {section} in the config"),
        ),
    }
}

fn clock(seen: &Sighting) -> Finding {
    let Some(date) = seen.date else { return Finding::skipped("the store's answers carry no time") };
    let ours = SystemClock.now();
    let apart = ours.0.abs_diff(date.0);
    if apart <= SKEW {
        return Finding::pass("this machine's clock agrees with the store's");
    }
    let way = if ours.0 > date.0 { "ahead of" } else { "behind" };
    Finding::fail(
        format!("this machine's clock is {} s {way} the store's: S3 refuses requests from 900 s on", apart / 1000),
        "set the clock of this machine (timedatectl set-ntp true)",
    )
}

/// What the worker itself never reads may stay unread.
const NOT_NEEDED: &str = "the worker itself does not need to read it";

async fn versioning(bucket: &Bucket<'_>, known: &mut Option<Versioning>) -> Finding {
    match bucket.store.versioning().await {
        Ok(state) => {
            *known = Some(state);
            Finding::pass(match (state, bucket.at) {
                (Versioning::Enabled, _) => "enabled",
                (Versioning::Suspended, _) => "suspended: new objects replace the null version",
                (Versioning::Off, Side::Source) => "off: only the newest state is replicated, and no deletes",
                (Versioning::Off, _) => "off: only the newest state is kept, and foreign objects are not overwritten",
            })
        }
        Err(fault) => bucket.place.failed(&fault, &["s3:GetBucketVersioning"], &bucket.place.arn()),
    }
}

async fn locking(bucket: &Bucket<'_>, known: &mut Option<Locking>) -> Finding {
    match bucket.store.locking().await {
        Ok(state) => {
            *known = Some(state);
            Finding::pass(match state {
                Locking::Off => "off",
                Locking::Enabled => "enabled",
                Locking::ByDefault => "enabled, with a default retention: probes of this check stay until it ends",
            })
        }
        Err(fault) => unread(bucket, &fault, "s3:GetBucketObjectLockConfiguration"),
    }
}

async fn encryption(bucket: &Bucket<'_>, known: &mut Option<Encryption>) -> Finding {
    let with = |word: &str, key: &Option<String>| {
        format!("{word} under {}", key.as_deref().unwrap_or("the key that AWS manages, which no other account can use"))
    };
    match bucket.store.default_encryption().await {
        Ok(state) => {
            let finding = Finding::pass(match &state {
                Encryption::Kms(key) => with("SSE-KMS", key),
                Encryption::Dsse(key) => with("DSSE-KMS", key),
                Encryption::S3 => "SSE-S3".to_owned(),
                Encryption::Untold | Encryption::Customer => "the store names none".to_owned(),
            });
            *known = Some(state);
            finding
        }
        Err(fault) => unread(bucket, &fault, "s3:GetEncryptionConfiguration"),
    }
}

async fn ownership(bucket: &Bucket<'_>, known: &mut Option<String>) -> Finding {
    match bucket.store.ownership().await {
        Ok(state) => {
            let told = state.clone().unwrap_or_else(|| "not set: who writes an object owns it".to_owned());
            *known = state;
            Finding::pass(told)
        }
        Err(fault) => unread(bucket, &fault, "s3:GetBucketOwnershipControls"),
    }
}

fn unread(bucket: &Bucket<'_>, fault: &Fault, action: &str) -> Finding {
    let place = bucket.place;
    let finding = place.failed(fault, &[action], &place.arn()).dispensable(NOT_NEEDED);
    if fault.kind == FaultKind::Denied { finding } else { Finding { fix: None, ..finding } }
}
