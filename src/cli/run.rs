//! `repl run`: continuous replication.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Config;
use crate::ports::{ChangeQueue, Clock, World};

use super::progress::say;
use super::status::Report;
use super::worker::{LONGEST_POLL, Stopped, Worker};
use super::{Exit, Failure, args, canary};

/// With `--until-idle`: the run ends only after the last poll has, so that no message is left in its hands.
const SHORT_POLL: Duration = Duration::from_secs(1);
/// How often `--until-idle` looks.
const IDLE_LOOK: Duration = Duration::from_millis(200);

/// Runs until it is told to stop, or until there has been nothing to do for as long as was asked.
pub(super) async fn run(config: &Config, args: &args::Run) -> Result<Exit, Failure> {
    if config.queue.is_none() {
        return Err(Failure::usage(
            "`repl run` needs a [queue] with its url in the config: there is nothing to listen to",
        ));
    }
    let long_poll = args.until_idle.map_or(LONGEST_POLL, |_| SHORT_POLL);
    let worker = Worker::new(config, long_poll).await?;
    let mut singing = JoinSet::new();
    // A run that ends by itself has nobody who would hear of it later, and would never be idle.
    if let (Some(settings), None) = (config.canary, args.until_idle) {
        singing.spawn(canary::sing(Arc::clone(&worker), settings.every));
    }
    let stopped = worker.work(idle(&worker, args.until_idle)).await;
    singing.shutdown().await;
    let report = Report::at_the_end(&worker)?;
    if args.json {
        say(report.json());
    }
    Ok(match stopped? {
        Stopped::Interrupted => Exit::Interrupted,
        Stopped::Terminated | Stopped::Drained => Exit::Done,
        Stopped::Done if report.differs() => Exit::Differs,
        Stopped::Done => Exit::Done,
    })
}

/// Returns once queue and ledger have been empty for as long as asked; never, where nothing was asked.
async fn idle(worker: &Worker, asked: Option<Duration>) {
    let Some(asked) = asked else { return std::future::pending().await };
    let mut empty_since: Option<Instant> = None;
    loop {
        if is_empty(worker).await {
            let since = *empty_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= asked {
                return;
            }
        } else {
            empty_since = None;
        }
        tokio::time::sleep(IDLE_LOOK.min(asked / 2 + Duration::from_millis(1))).await;
    }
}

/// Nothing to do in the ledger, and nothing in the queue: also nothing in flight there, as a message that a killed
/// worker was handed comes again.
async fn is_empty(worker: &Worker) -> bool {
    let totals = worker.ledger.totals();
    if totals.pending.operations > 0 || totals.in_flight > 0 {
        return false;
    }
    let Some(queue) = worker.world.queue() else { return true };
    match queue.depth().await {
        Ok(depth) => {
            worker.pulse.queue_depth(worker.world.clock().now(), depth);
            depth.visible == 0 && depth.in_flight == 0
        }
        Err(fault) => {
            worker.pulse.queue_failed(&fault);
            false
        }
    }
}
