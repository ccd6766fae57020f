//! The watch over a worker, made from the config: what is measured, where it is sent, who is told.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::mail::{self, Mail};
use crate::alert::webhook::Webhook;
use crate::aws::cloudwatch::{CloudWatch, Resolution};
use crate::aws::sns::Topics;
use crate::aws::{Clients, HotPath};
use crate::config::{self, Config, Secret};
use crate::engine::observe::{Alarms, Observer};
use crate::ledger::Ledger;
use crate::model::fault::{Fault, Side};
use crate::ports::{Alert, AlertSink, Tier};
use crate::watch::alarms;
use crate::watch::figures::{Intake, Settings};
use crate::watch::pulse::Pulse;

use super::Failure;
use super::world::{SystemClock, endpoint};

/// The watch of this program.
pub(super) type Watch = Observer<SystemClock, CloudWatch, Way>;

/// The ways on which alerts leave.
#[derive(Debug)]
pub(super) enum Way {
    /// SNS.
    Topics(Topics),
    /// A webhook.
    Webhook(Webhook),
    /// Mail.
    Mail(Box<Mail>),
}

impl AlertSink for Way {
    fn name(&self) -> &'static str {
        match self {
            Self::Topics(topics) => topics.name(),
            Self::Webhook(webhook) => webhook.name(),
            Self::Mail(mail) => mail.name(),
        }
    }

    fn reaches(&self, tier: Tier) -> bool {
        match self {
            Self::Topics(topics) => topics.reaches(tier),
            Self::Webhook(webhook) => webhook.reaches(tier),
            Self::Mail(mail) => mail.reaches(tier),
        }
    }

    async fn deliver(&self, alert: &Alert) -> Result<(), Fault> {
        match self {
            Self::Topics(topics) => topics.deliver(alert).await,
            Self::Webhook(webhook) => webhook.deliver(alert).await,
            Self::Mail(mail) => mail.deliver(alert).await,
        }
    }
}

/// Puts the watch together; nothing is sent yet. Fails where a secret cannot be read, an address is none, or what the
/// ledger remembers of the alarms is not understood.
pub(super) async fn watch(config: &Config, ledger: &Ledger, pulse: &Arc<Pulse>) -> Result<Watch, Failure> {
    let monitoring = &config.monitoring;
    let watch = Watch::new(ledger.clone(), Arc::clone(pulse), SystemClock, figures(config));
    let clients = Clients::new();
    let place = endpoint(&monitoring.connection, Side::Monitoring, HotPath::Sdk);
    let watch = if monitoring.cloudwatch {
        let sdk = clients.sdk_config(&place).await?;
        watch.sending(CloudWatch::new(&sdk, &place, &*monitoring.namespace, resolution(config.escalation.period)))
    } else {
        let ways = ways(config, &clients).await?;
        let deaf: Vec<&str> =
            Tier::ALL.into_iter().filter(|tier| !ways.iter().any(|way| way.reaches(*tier))).map(Tier::name).collect();
        if !deaf.is_empty() {
            tracing::info!(
                tiers = deaf.join(", "),
                "alarms of these tiers reach nobody: without CloudWatch a topic_arn, a webhook, or emails with smtp are needed"
            );
        }
        let alarms = Alarms {
            settings: definitions(config),
            reminder: config.escalation.reminder,
            region: monitoring.connection.region.clone(),
        };
        watch.evaluating(alarms, ways)
    };
    watch.check()?;
    Ok(watch)
}

/// What the figures are about.
fn figures(config: &Config) -> Settings {
    let bucket = |rule: &crate::plan::route::Rule| config.target(&rule.target).map(|target| target.bucket.clone());
    let enabled = config.rules.iter().filter(|rule| rule.enabled);
    Settings {
        source_bucket: config.source.bucket.clone(),
        rules: enabled.filter_map(|rule| Some((rule.id.clone(), bucket(rule)?))).collect(),
        queue: if config.queue.is_some() { Intake::Queue } else { Intake::Scans },
        interval: config.monitoring.interval,
    }
}

/// What the alarms depend on.
pub(super) fn definitions(config: &Config) -> alarms::Settings {
    alarms::Settings {
        prefix: config.escalation.prefix.clone(),
        namespace: config.monitoring.namespace.clone(),
        source_bucket: config.source.bucket.clone(),
        period: config.escalation.period,
        thresholds: config.escalation.thresholds,
        canary: config.canary.map(|canary| canary.every),
    }
}

/// Alarms with periods below a minute need metrics that are kept by the second (aws-semantics 7.3).
fn resolution(period: Duration) -> Resolution {
    if period < Duration::from_secs(60) { Resolution::High } else { Resolution::Standard }
}

async fn ways(config: &Config, clients: &Clients) -> Result<Vec<Way>, Failure> {
    let escalation = &config.escalation;
    let (mut topics, mut emails) = (BTreeMap::new(), BTreeMap::new());
    for (tier, heard) in escalation.tiers() {
        match heard {
            Some(config::Tier::Topic(arn)) => drop(topics.insert(tier, arn.clone())),
            Some(config::Tier::Emails(addresses)) => drop(emails.insert(tier, addresses.clone())),
            None => {}
        }
    }
    let mut ways = Vec::new();
    if !topics.is_empty() {
        let place = endpoint(&config.monitoring.connection, Side::Monitoring, HotPath::Sdk);
        ways.push(Way::Topics(Topics::new(&clients.sdk_config(&place).await?, &place, topics)));
    }
    if let Some(webhook) = &escalation.webhook {
        ways.push(Way::Webhook(Webhook::new(&webhook.url, &read(&webhook.secret)?)?));
    }
    if let Some(smtp) = escalation.smtp.as_ref().filter(|_| !emails.is_empty()) {
        let login = match &smtp.login {
            Some((user, password)) => Some((user.clone(), read(password)?)),
            None => None,
        };
        let (host, from) = (smtp.host.clone(), smtp.from.clone());
        ways.push(Way::Mail(Box::new(Mail::new(&mail::Settings { host, port: smtp.port, from, login, to: emails })?)));
    }
    Ok(ways)
}

pub(super) fn read(secret: &Secret) -> Result<String, Failure> {
    match secret {
        Secret::Inline(secret) => Ok(secret.clone()),
        Secret::File(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("could not read the secret in {}: {error}", path.display())))?;
            tell_if_open(path);
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

/// Tells of a secret that other users can read. It is used all the same: an alert that does not go out is worse.
fn tell_if_open(path: &Path) {
    let others = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
    if others {
        let file = path.display();
        tracing::warn!(%file, "every user of this machine may read or change this secret: chmod 600 it");
    }
}
