//! Dashboards.

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;

use super::{Endpoint, Site, client, unless_absent};
use crate::model::fault::{Fault, Side};
use crate::ports::setup::{Dashboard, Document, Held};

/// What CloudWatch answers where there is no such dashboard.
const NO_DASHBOARD: [&str; 3] = ["ResourceNotFound", "DashboardNotFoundError", "ResourceNotFoundException"];

/// The dashboards of an account.
pub(super) struct Dashboards {
    client: Client,
    side: Side,
}

impl Dashboards {
    pub(super) fn new(config: &SdkConfig, endpoint: &Endpoint) -> Self {
        Self { client: client!(aws_sdk_cloudwatch, config), side: endpoint.owner_side }
    }

    pub(super) async fn read(&self, name: &str) -> Result<Held, Fault> {
        let site = Site::new(self.side, "read the dashboard");
        let answer = self.client.get_dashboard().dashboard_name(name).send().await;
        let Some(answer) = unless_absent(answer.map_err(|error| site.explain(&error)), &NO_DASHBOARD)? else {
            return Ok(Held::Absent);
        };
        let body = super::json(answer.dashboard_body().unwrap_or_default(), site)?;
        Ok(Held::Present(Document::Dashboard(Dashboard { body })))
    }

    /// Puts the body; CloudWatch's remarks on it come back, since it takes bodies that it will not show in full.
    pub(super) async fn put(&self, name: &str, wanted: &Dashboard) -> Result<Vec<String>, Fault> {
        let site = Site::new(self.side, "write the dashboard");
        let request = self.client.put_dashboard().dashboard_name(name).dashboard_body(wanted.body.to_string());
        let answer = request.send().await.map_err(|error| site.explain(&error))?;
        let remarks = answer.dashboard_validation_messages().iter().map(|remark| {
            let place = remark.data_path().unwrap_or_default();
            format!("CloudWatch remarks at {place}: {}", remark.message().unwrap_or_default())
        });
        Ok(remarks.collect())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), Fault> {
        let site = Site::new(self.side, "delete the dashboard");
        let answer = self.client.delete_dashboards().dashboard_names(name).send().await;
        unless_absent(answer.map_err(|error| site.explain(&error)), &NO_DASHBOARD).map(drop)
    }
}
