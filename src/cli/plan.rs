//! `repl plan` and `repl sync --dry-run`: what a sync would do, before anything is done.

pub(super) mod forecast;

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::audit::foresee::{self, Breadth, Markers};
use crate::audit::sample::Sample;
use crate::audit::{Further, Settings};
use crate::config::{self, Config};
use crate::engine;
use crate::engine::budget::Budget;
use crate::engine::paced::Paced;
use crate::engine::scan::{self, DeleteMarkers, Scope};
use crate::meter::{self, Meter};
use crate::model::object::{Encryption, Found, Key, RuleId, Timestamp, Versioning};
use crate::plan::estimate;
use crate::ports::{Clock, ObjectStore, Pick, World};

use super::progress::{self, Words, say};
use super::worker::limits;
use super::world::{Aws, target_settings};
use super::{Exit, Failure, args, measured, tariff, verify};
use forecast::{Finding, Forecast, Rate, Sampled};

const WORDS: Words = Words { work: "plan", wrong: "not provable" };

/// `sync --dry-run` asks the same.
impl From<&args::Sync> for args::Plan {
    fn from(args: &args::Sync) -> Self {
        Self {
            full: args.full,
            rule: args.rule.clone(),
            prefix: args.prefix.clone(),
            delete_markers: args.delete_markers,
            rate: args.rate,
            prices: args.prices.clone(),
            json: args.json,
        }
    }
}

/// Foresees a sync; what it would do goes to stdout.
pub(super) async fn plan(config: &Config, asked: &args::Plan) -> Result<Exit, Failure> {
    super::known_rule(config, asked.rule.as_deref())?;
    let prices = match &asked.prices {
        Some(path) => Some(tariff::read(path)?),
        None => None,
    };
    let tariff = tariff::tariff(config, prices.as_deref())?;
    let budget = Arc::new(Budget::new(&limits(&config.transfer)));
    let targets = config.targets.iter().map(|target| &target.id);
    let world = Arc::new(Paced::new(Arc::new(Aws::new(config).await?), budget, targets));
    let settings = settings(config, asked, world.clock().now());
    let begun = Instant::now();
    let forecast = Mutex::new(Forecast::new(config.rules.clone(), server_side(config)));
    let breadth = if asked.full { Breadth::Full } else { Breadth::Differences };
    let markers = if asked.delete_markers { Markers::Brought } else { Markers::LeftOut };
    let looked = Arc::new(Meter::default());
    let mut take = |foreseen| forecast.lock().unwrap_or_else(PoisonError::into_inner).take(foreseen);
    let figures = || forecast.lock().unwrap_or_else(PoisonError::into_inner).figures();
    tokio::select! {
        () = meter::under(Some(&looked), foresee::foresee(&world, &settings, (breadth, markers), &mut take)) => {}
        never = progress::show(WORDS, figures) => match never {},
        exit = verify::interrupted("what was foreseen so far is not the whole") => return exit,
    }
    let mut forecast = forecast.into_inner().unwrap_or_else(PoisonError::into_inner);
    match breadth {
        Breadth::Differences => forecast.add_finding(Finding::Comparing(&looked.usage())),
        Breadth::Full => forecast.add_finding(Finding::Scanning(&scanned(&*world, &settings, markers).await)),
    }
    let sampled = sample(&*world, forecast.picked()).await;
    forecast.add_keys(sampled);
    let rate = rate(config, asked);
    let mut report = forecast.report(&tariff, rate.as_ref());
    if let Some(fields) = report.as_object_mut() {
        fields.insert("full".to_owned(), json!(asked.full));
        fields.insert("prices".to_owned(), json!(prices_name(asked)));
        fields.insert("seconds_to_plan".to_owned(), json!(begun.elapsed().as_secs_f64()));
    }
    if asked.json {
        say(&report);
    } else {
        say(forecast::table(&report));
    }
    Ok(if forecast.is_whole() { Exit::Done } else { Exit::Stopped })
}

fn prices_name(asked: &args::Plan) -> String {
    asked.prices.as_ref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string())
}

/// As plain `sync` compares.
fn settings(config: &Config, asked: &args::Plan, started: Timestamp) -> Settings {
    Settings {
        rules: config.rules.clone(),
        source_bucket: config.source.bucket.clone(),
        prefix: asked.prefix.clone(),
        only: asked.rule.as_ref().map(RuleId::new),
        sample: Sample::all(0),
        bytes: Further::Skip,
        metadata: Further::Skip,
        tags: Further::Skip,
        versions: Further::Skip,
        looks: verify::looks(config),
        started,
    }
}

/// What a backfill would list of the source.
async fn scanned<W: World>(world: &W, settings: &Settings, markers: Markers) -> Vec<(String, scan::Depth)> {
    let delete_markers = match markers {
        Markers::Brought => DeleteMarkers::Brought,
        Markers::LeftOut => DeleteMarkers::LeftOut,
    };
    let scope = Scope { rule: settings.only.clone(), prefix: settings.prefix.clone(), delete_markers };
    // What cannot be told now was told as trouble: the dearer of the two is taken.
    let versioning = world.source().versioning().await.unwrap_or(Versioning::Enabled);
    scan::listed(&settings.rules, &scope, versioning)
}

/// Who will move large objects to each target, as far as the config tells.
pub(super) fn server_side(config: &Config) -> forecast::Movers {
    let target = |(id, settings): (_, engine::TargetSettings)| {
        let mover = match (config.transfer.mode, settings.server_side) {
            (config::TransferMode::ServerSide, _) => estimate::ServerSide::Always,
            (config::TransferMode::Auto, engine::ServerSide::Possible) => estimate::ServerSide::Large,
            (config::TransferMode::Auto, engine::ServerSide::Impossible) | (config::TransferMode::Stream, _) => {
                estimate::ServerSide::Never
            }
        };
        (id, mover)
    };
    target_settings(config).into_iter().map(target).collect()
}

/// The rate given, else the one that the last sync on this ledger came to.
fn rate(config: &Config, asked: &args::Plan) -> Option<Rate> {
    let given = asked.rate.map(|bytes| Rate { bytes_per_second: bytes, objects_per_second: None, from: "given" });
    given.or_else(|| {
        let measured = measured::read(&config.ledger.path)?;
        let (bytes_per_second, objects) = measured.rates();
        Some(Rate { bytes_per_second, objects_per_second: Some(objects), from: "measured" })
    })
}

/// Looks at a few of the objects that would be brought: listings do not tell of encryption.
async fn sample<W: World>(world: &W, picked: &[Key]) -> Sampled {
    let mut sampled = Sampled::default();
    for key in picked {
        match world.source().head(key, &Pick::Current).await {
            Ok(Found::Object(head)) => {
                sampled.looked += 1;
                sampled.encrypted += match head.encryption {
                    Encryption::Kms(_) | Encryption::Dsse(_) => 1,
                    Encryption::Untold | Encryption::S3 | Encryption::Customer => 0,
                };
            }
            Ok(Found::DeleteMarker | Found::Missing) => {}
            Err(fault) => tracing::debug!(%key, %fault, "the object could not be looked at for the plan"),
        }
    }
    sampled
}

/// An amount as a person reads it.
fn dollars(value: &Value) -> String {
    value.as_f64().map_or_else(|| "not known".to_owned(), |dollars| format!("${dollars:.4}"))
}
