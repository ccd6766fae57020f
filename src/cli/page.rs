//! The page, made from the config: who answers for the worker, who may change something.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::Config;
use crate::plan::route::History;
use crate::web::{self, Listener, Refusal, RefusalFault, Settings, Site, Token};

use super::worker::Worker;
use super::world::SystemClock;
use super::{Exit, Failure, monitor, socket};

/// The page of this program.
pub(super) type Page = Site<Answering, SystemClock>;

/// A worker that is asked through the page, with the questions of its socket.
#[derive(Debug)]
pub(super) struct Answering(Arc<Worker>);

impl web::Worker for Answering {
    async fn answer(&self, question: Value) -> Result<Value, Refusal> {
        socket::answer_to(&question, &self.0).await.map_err(|failure| Refusal {
            fault: if failure.exit == Exit::Usage { RefusalFault::Question } else { RefusalFault::Worker },
            sentence: failure.to_string(),
        })
    }
}

/// Binds the port and puts the page together; nothing is served yet. `None` where it is off, and for a sync whose port is
/// taken, as by the worker of another pair: a sync is watched on its terminal.
pub(super) async fn open(worker: &Arc<Worker>) -> Result<Option<(Listener, Arc<Page>)>, Failure> {
    let config = &worker.config;
    let Some(address) = config.web.listen else { return Ok(None) };
    let settings = Settings {
        hosts: config.web.hosts.clone(),
        token: token(config)?,
        figures: worker.observer.settings().clone(),
        setup: setup(config),
    };
    let listener = match web::bind(address).await {
        Ok(listener) => listener,
        Err(error) if config.queue.is_none() => {
            tracing::warn!(%address, %error, "there is no page for this sync: its port could not be had");
            return Ok(None);
        }
        Err(error) => {
            let remedy = "end what listens there, or name another address, or \"off\", as `[web] listen`";
            return Err(Failure::stopped(format!("could not serve the page on {address}: {error}; {remedy}")));
        }
    };
    if let Ok(address) = listener.address() {
        tracing::info!(page = format!("http://{address}/"), "the page is served");
    }
    let answering = Arc::new(Answering(Arc::clone(worker)));
    let truth = (worker.ledger.clone(), Arc::clone(&worker.pulse));
    Ok(Some((listener, Arc::new(Site::new(answering, truth, SystemClock, settings)))))
}

fn token(config: &Config) -> Result<Option<Token>, Failure> {
    let Some(secret) = &config.web.token else { return Ok(None) };
    let refused = || Failure::usage("the token of [web] is empty, or has spaces or other letters than ASCII");
    Token::new(&monitor::read(secret)?).ok_or_else(refused).map(Some)
}

/// What does not change while the worker runs.
fn setup(config: &Config) -> Value {
    let targets = config
        .targets
        .iter()
        .map(|target| json!({"id": target.id.as_str(), "bucket": target.bucket, "region": target.connection.region}));
    let rules = config.rules.iter().map(|rule| {
        json!({
            "id": rule.id.as_str(),
            "target": rule.target.as_str(),
            "prefix": rule.prefix,
            "tags": rule.tags,
            "target_prefix": rule.target_prefix,
            "delete_markers": rule.delete_markers,
            "history": match rule.history {
                History::All => "all",
                History::Latest => "latest",
            },
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "source": {"bucket": config.source.bucket, "region": config.source.connection.region},
        "targets": targets.collect::<Vec<Value>>(),
        "rules": rules.collect::<Vec<Value>>(),
        "queue": config.queue.is_some(),
        "sla_seconds": config.sla.threshold.as_secs_f64(),
        "alarms": if config.monitoring.cloudwatch { "cloudwatch" } else { "worker" },
    })
}
