//! What `apply` sets up, as [`Estate`]: one file per service.
//!
//! Each reads what a service tells into the form that documents are compared in, and writes only what differs.

mod alarms;
mod buckets;
mod dashboards;
mod forwarding;
mod queues;
mod topics;

use std::collections::BTreeMap;
use std::fmt;

use aws_config::SdkConfig;
use tokio::sync::OnceCell;

use self::alarms::Alarms;
use self::buckets::BucketSettings;
use self::dashboards::Dashboards;
use self::forwarding::Forwarding;
use self::queues::Queues;
use self::topics::Topics;
use super::fault::Site;
use super::{Endpoint, client, probe};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::setup::{Document, Estate, Held, Kind, Place, Resource};

/// The tag that says which set-up made a thing: its prefix.
const MADE_BY: &str = "repl-prefix";

/// The accounts of one pair of buckets. Places that were not added are answered as `Refused`.
#[derive(Default)]
pub struct Accounts {
    prefix: String,
    identities: BTreeMap<Place, Identity>,
    buckets: BTreeMap<Place, BucketSettings>,
    queues: Option<Queues>,
    services: BTreeMap<Place, Services>,
}

/// What alarms need, in one region.
struct Services {
    alarms: Alarms,
    topics: Topics,
    dashboards: Dashboards,
    forwarding: Forwarding,
}

/// Who we are somewhere; asked once.
struct Identity {
    config: SdkConfig,
    endpoint: Endpoint,
    account: OnceCell<String>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Accounts {
    /// No place yet. Things are marked as made under this prefix.
    #[must_use]
    pub fn of(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Adds who is asked for the account of a place.
    pub fn add_identity(&mut self, place: Place, config: &SdkConfig, endpoint: &Endpoint) {
        let identity = Identity { config: config.clone(), endpoint: endpoint.clone(), account: OnceCell::new() };
        self.identities.insert(place, identity);
    }

    /// Adds the settings of a side's bucket.
    pub fn add_bucket(&mut self, place: Place, config: &SdkConfig, endpoint: &Endpoint) {
        self.buckets.insert(place, BucketSettings::new(config, endpoint));
    }

    /// Adds the region of the queue.
    pub fn add_queues(&mut self, config: &SdkConfig, endpoint: &Endpoint) {
        self.queues = Some(Queues::new(config, endpoint, &self.prefix));
    }

    /// Adds a region with alarms.
    pub fn add_services(&mut self, place: Place, config: &SdkConfig, endpoint: &Endpoint) {
        let services = Services {
            alarms: Alarms::new(config, endpoint, &self.prefix),
            topics: Topics::new(config, endpoint, &self.prefix),
            dashboards: Dashboards::new(config, endpoint),
            forwarding: Forwarding::new(config, endpoint, &self.prefix),
        };
        self.services.insert(place, services);
    }

    fn bucket(&self, place: &Place) -> Result<&BucketSettings, Fault> {
        self.buckets.get(place).ok_or_else(|| nowhere(place))
    }

    fn queues(&self) -> Result<&Queues, Fault> {
        self.queues.as_ref().ok_or_else(|| nowhere(&Place::Queue))
    }

    fn services(&self, place: &Place) -> Result<&Services, Fault> {
        self.services.get(place).ok_or_else(|| nowhere(place))
    }
}

fn nowhere(place: &Place) -> Fault {
    Site::new(Side::Local, "find the place").fault(FaultKind::Refused, format!("no connection leads to {place:?}"))
}

impl Identity {
    async fn account(&self) -> Result<String, Fault> {
        let site = Site::new(self.endpoint.owner_side, "learn the account");
        let asked = self.account.get_or_try_init(async || {
            let caller = probe::caller(&self.config, &self.endpoint).await?;
            caller.account.ok_or_else(|| site.fault(FaultKind::Transient, "the service named no account"))
        });
        asked.await.cloned()
    }
}

impl Estate for Accounts {
    async fn account(&self, place: &Place) -> Result<String, Fault> {
        self.identities.get(place).ok_or_else(|| nowhere(place))?.account().await
    }

    async fn read(&self, resource: &Resource) -> Result<Held, Fault> {
        let (place, name) = (&resource.place, resource.name.as_str());
        match resource.kind {
            Kind::Queue => self.queues()?.read(name).await,
            Kind::Versioning => self.bucket(place)?.versioning(name).await,
            Kind::Notification => self.bucket(place)?.notifications(bucket_of(resource)).await,
            Kind::Lifecycle => self.bucket(place)?.lifecycle(name).await,
            Kind::IntelligentTiering => self.bucket(place)?.tiering(bucket_of(resource), resource.id()).await,
            Kind::RequestMetrics => self.bucket(place)?.request_metrics(bucket_of(resource), resource.id()).await,
            Kind::Topic => self.services(place)?.topics.read(name, &self.account(place).await?).await,
            Kind::Alarm => self.services(place)?.alarms.read(name).await,
            Kind::CompositeAlarm => self.services(place)?.alarms.read_composite(name).await,
            Kind::Role => self.services(place)?.forwarding.read_role(name).await,
            Kind::EventRule => self.services(place)?.forwarding.read_rule(name).await,
            Kind::Dashboard => self.services(place)?.dashboards.read(name).await,
        }
    }

    async fn write(
        &self,
        resource: &Resource,
        before: Option<&Document>,
        after: &Document,
    ) -> Result<Vec<String>, Fault> {
        let (place, name) = (&resource.place, resource.name.as_str());
        let (bucket, id) = (bucket_of(resource), resource.id());
        match (after, before) {
            (Document::Queue(after), Some(Document::Queue(before))) => self.queues()?.change(name, before, after).await,
            (Document::Queue(after), _) => self.queues()?.create(name, after, &self.account(place).await?).await,
            (Document::Notification(after), before) => {
                let before = match before {
                    Some(Document::Notification(before)) => Some(before),
                    _ => None,
                };
                return self.bucket(place)?.put_notifications(bucket, before, after).await;
            }
            (Document::Lifecycle(after), before) => {
                let before = match before {
                    Some(Document::Lifecycle(before)) => Some(before),
                    _ => None,
                };
                self.bucket(place)?.put_lifecycle(name, before, after).await
            }
            (Document::IntelligentTiering(after), _) => self.bucket(place)?.put_tiering(bucket, id, after).await,
            (Document::RequestMetrics(_), _) => self.bucket(place)?.put_request_metrics(bucket, id).await,
            (Document::Topic(after), before) => {
                let before = match before {
                    Some(Document::Topic(before)) => Some(before),
                    _ => None,
                };
                self.services(place)?.topics.write(name, &self.account(place).await?, before, after).await
            }
            (Document::Alarm(after), before) => self.services(place)?.alarms.put(name, after, before.is_none()).await,
            (Document::CompositeAlarm(after), before) => {
                self.services(place)?.alarms.put_composite(name, after, before.is_none()).await
            }
            (Document::Role(after), before) => {
                self.services(place)?.forwarding.write_role(name, after, before.is_none()).await
            }
            (Document::EventRule(after), before) => {
                self.services(place)?.forwarding.write_rule(name, after, before.is_none()).await
            }
            (Document::Dashboard(after), _) => return self.services(place)?.dashboards.put(name, after).await,
            // Told, never changed.
            (Document::Versioning(_), _) => Ok(()),
        }
        .map(|()| Vec::new())
    }

    async fn remove(&self, resource: &Resource, before: &Document) -> Result<(), Fault> {
        let (place, name) = (&resource.place, resource.name.as_str());
        let (bucket, id) = (bucket_of(resource), resource.id());
        match before {
            Document::Queue(_) => self.queues()?.delete(name).await,
            Document::Notification(before) => {
                let none = crate::ports::setup::Notifications::default();
                self.bucket(place)?.put_notifications(bucket, Some(before), &none).await.map(drop)
            }
            Document::Lifecycle(before) => {
                let none = crate::ports::setup::Lifecycle::default();
                self.bucket(place)?.put_lifecycle(name, Some(before), &none).await
            }
            Document::IntelligentTiering(_) => self.bucket(place)?.delete_tiering(bucket, id).await,
            Document::RequestMetrics(_) => self.bucket(place)?.delete_request_metrics(bucket, id).await,
            Document::Topic(_) => self.services(place)?.topics.delete(name, &self.account(place).await?).await,
            Document::Alarm(_) | Document::CompositeAlarm(_) => self.services(place)?.alarms.delete(name).await,
            Document::Role(_) => self.services(place)?.forwarding.delete_role(name).await,
            Document::EventRule(_) => self.services(place)?.forwarding.delete_rule(name).await,
            Document::Dashboard(_) => self.services(place)?.dashboards.delete(name).await,
            Document::Versioning(_) => Ok(()),
        }
    }
}

/// The bucket in the name of a thing of a bucket.
fn bucket_of(resource: &Resource) -> &str {
    resource.name.split_once('/').map_or(&resource.name, |(bucket, _)| bucket)
}

/// `Absent` where the service says that there is no such thing, under one of these codes.
fn unless_absent<T>(answer: Result<T, Fault>, codes: &[&str]) -> Result<Option<T>, Fault> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.code.as_deref().is_some_and(|code| codes.iter().any(|known| code.ends_with(known))) => {
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// A JSON document that a service returns as text; `null` for an empty text.
fn json(text: &str, site: Site) -> Result<serde_json::Value, Fault> {
    if text.trim().is_empty() {
        return Ok(serde_json::Value::Null);
    }
    serde_json::from_str(text)
        .map_err(|error| site.fault(FaultKind::Refused, format!("what is there is not JSON: {error}")))
}
