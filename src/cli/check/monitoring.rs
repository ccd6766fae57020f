//! Metrics and topics.

use super::Probes;
use super::finding::{Check, Finding};
use crate::aws::{HotPath, probe};
use crate::cli::fix::{credentials, statement};
use crate::cli::world::endpoint;
use crate::config::Tier;
use crate::model::fault::{Fault, FaultKind, Side};

const SIDE: &str = "monitoring";
/// Nothing else sends it: a heartbeat from here would keep WorkerSilent quiet while no worker runs.
const METRIC: &str = "CheckProbe";

impl Probes<'_> {
    /// All rows of monitoring.
    pub(super) async fn monitoring(&self) -> Vec<Check> {
        let mut rows = vec![Check::of("metrics", SIDE, self.metrics()).await];
        for (tier, hears) in self.config.escalation.tiers() {
            if let Some(Tier::Topic(arn)) = hears {
                rows.push(Check::of(&format!("topic-{}", tier.name()), SIDE, self.topic(arn)).await);
            }
        }
        rows
    }

    async fn metrics(&self) -> Finding {
        let monitoring = &self.config.monitoring;
        if !monitoring.cloudwatch {
            return Finding::skipped("[monitoring] cloudwatch is off");
        }
        if self.read_only {
            return Finding::skipped("it sends a metric, and --read-only was given");
        }
        let place = endpoint(&monitoring.connection, Side::Monitoring, HotPath::Sdk);
        let sent = async {
            let config = self.clients.sdk_config(&place).await?;
            probe::prove_metrics(&config, &place, &monitoring.namespace, METRIC).await
        };
        match sent.await {
            Ok(()) => Finding::pass(format!("sent {METRIC} to {} in {}", monitoring.namespace, place.region)),
            Err(fault) => {
                let mut needed = statement(&["cloudwatch:PutMetricData"], "*");
                if let Some(fields) = needed.as_object_mut() {
                    let bound = serde_json::json!({"StringEquals": {"cloudwatch:namespace": monitoring.namespace}});
                    fields.insert("Condition".to_owned(), bound);
                }
                self.mend(&fault, &format!("add to the policy of the worker's role: {needed}"))
            }
        }
    }

    async fn topic(&self, arn: &str) -> Finding {
        let mut connection = self.config.monitoring.connection.clone();
        if let Some(region) = arn.split(':').nth(3).filter(|region| !region.is_empty()) {
            region.clone_into(&mut connection.region);
        }
        let place = endpoint(&connection, Side::Monitoring, HotPath::Sdk);
        let looked = async { probe::topic(&self.clients.sdk_config(&place).await?, &place, arn).await };
        match looked.await {
            Ok(()) => Finding::pass(format!("{arn} is there")),
            Err(fault) if fault.kind == FaultKind::Denied && credentials(&fault, "").is_none() => Finding::skipped(
                format!("{arn} may not be looked at, and only CloudWatch needs to publish to it: {}", fault.detail),
            ),
            Err(fault) if fault.status == Some(404) => Finding::fail(
                format!("there is no topic {arn}"),
                "create it, correct topic_arn under [escalation], or give emails instead: apply then makes a topic",
            ),
            Err(fault) => self.mend(&fault, &format!("correct the topic {arn} under [escalation]")),
        }
    }

    fn mend(&self, fault: &Fault, otherwise: &str) -> Finding {
        let unreached =
            "see that CloudWatch and SNS of that region can be reached from this machine, or set cloudwatch = false";
        let fix = credentials(fault, "[monitoring]").unwrap_or_else(|| {
            let mended_by = if fault.kind == FaultKind::Transient { unreached } else { otherwise };
            mended_by.to_owned()
        });
        Finding::fail(fault.to_string(), fix)
    }
}
