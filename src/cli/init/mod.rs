//! `repl init`: a starter config, from what is told on the command line or asked on the terminal, or from a bucket's own
//! replication.

mod draft;
mod native;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use draft::{Draft, Place, Rule};

use super::fix::{credentials, region_told};
use super::progress::{complain, say};
use super::world::endpoint;
use super::{Exit, Failure, args, ask};
use crate::aws::s3::S3Bucket;
use crate::aws::{Clients, HotPath};
use crate::config::{self, Connection};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::Tags;

/// Where a bucket whose region nobody has told is looked for: that region's endpoint answers for all of the partition.
const ANYWHERE: &str = "us-east-1";

/// Carries the command out.
pub(super) async fn init(args: &args::Init) -> Result<Exit, Failure> {
    let onto_stdout = args.output.as_os_str() == "-";
    if !onto_stdout && !args.force && args.output.exists() {
        return Err(standing(&args.output));
    }
    let draft = match &args.from_bucket {
        Some(bucket) => from_bucket(bucket, args).await?,
        None => told(args)?,
    };
    let (text, left_out) = draft.text();
    for reason in &left_out {
        complain(format_args!("repl: left out, as a comment: {reason}"));
    }
    if onto_stdout {
        say(&text);
    } else {
        write(&args.output, &text, args.force)?;
        complain(format_args!("repl: wrote {}; next: repl check --config {0}", args.output.display()));
    }
    // What is to be filled in was told; anything else that is wrong came from what was typed.
    if let Err(errors) = config::parse(&text, &args.output.display().to_string()) {
        complain(format_args!("repl: before it can be used, fill in or correct\n{errors}"));
    }
    Ok(Exit::Done)
}

fn standing(path: &Path) -> Failure {
    Failure::usage(format!("{} is there already: name another with --output, or say --force", path.display()))
}

/// Never over a file that came meanwhile, and with `--force` never half of it.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => standing(path),
        _ => Failure::stopped(format!("could not write {}: {error}", path.display())),
    };
    if !force {
        let mut file = std::fs::File::create_new(path).map_err(failed)?;
        return file.write_all(text.as_bytes()).map_err(failed);
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)).map_err(failed)
}

// Told or asked --------------------------------------------------------------------------------------------------------

/// What the flags leave open is asked, where there is somebody to ask.
fn told(args: &args::Init) -> Result<Draft, Failure> {
    let needed = [
        ("--source", "The bucket to be replicated", &args.source),
        ("--source-region", "Its region, such as us-east-1", &args.source_region),
        ("--target", "The bucket to be kept equal to it", &args.target),
        ("--target-region", "Its region, such as eu-west-2", &args.target_region),
    ];
    let missing: Vec<&str> = needed.iter().filter(|one| one.2.is_none()).map(|one| one.0).collect();
    let asking = ask::is_somebody_there() && std::io::stderr().is_terminal();
    if !missing.is_empty() && !asking {
        return Err(Failure::usage(format!(
            "there is no terminal to ask on: give {}, or --from-bucket to translate a bucket's own replication",
            missing.join(", ")
        )));
    }
    let mut answers = Vec::new();
    for (_, question, given) in needed {
        answers.push(match given {
            Some(given) => given.clone(),
            None => asked(question, Answer::Needed)?,
        });
    }
    let queue = match &args.queue {
        None if !missing.is_empty() => {
            Some(asked("The URL of the queue that S3 sends its events to (empty for none yet)", Answer::Free)?)
        }
        given => given.clone(),
    };
    let mut answers = answers.into_iter();
    let mut place = |endpoint: &Option<String>| Place {
        bucket: answers.next().unwrap_or_default(),
        region: answers.next(),
        endpoint: endpoint.clone(),
        owner: None,
    };
    let (source, target) = (place(&args.source_endpoint), place(&args.target_endpoint));
    let rule = Rule {
        id: "everything".to_owned(),
        target: "dr".to_owned(),
        priority: None,
        prefix: String::new(),
        tags: Tags::new(),
        delete_markers: false,
        enabled: true,
        storage_class: None,
        kms_key: None,
        owner: false,
        notes: Vec::new(),
    };
    let queue = queue.filter(|url| !url.is_empty());
    Ok(Draft { source, queue, targets: vec![("dr".to_owned(), target)], rules: vec![rule], sla: None })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Needed,
    Free,
}

fn asked(question: &str, answer: Answer) -> Result<String, Failure> {
    loop {
        let Some(line) = ask::person(&format!("{question}: "))? else {
            return Err(Failure::usage("the answers ended before all was asked"));
        };
        if !line.is_empty() || answer == Answer::Free {
            return Ok(line);
        }
    }
}

// From a bucket --------------------------------------------------------------------------------------------------------

async fn from_bucket(bucket: &str, args: &args::Init) -> Result<Draft, Failure> {
    let clients = Clients::new();
    let region = match &args.source_region {
        Some(region) => region.clone(),
        None => {
            located(&clients, bucket, args.source_endpoint.as_ref()).await.map_err(|fault| unread(bucket, &fault))?
        }
    };
    let store = store(&clients, bucket, &region, args.source_endpoint.as_ref()).await?;
    let native = store.replication().await.map_err(|fault| unread(bucket, &fault))?;
    if native.is_empty() {
        return Err(Failure::usage(format!(
            "bucket {bucket:?} has no replication of its own: give --source and --target instead of --from-bucket"
        )));
    }
    let mut targets: Vec<(String, Place)> = Vec::new();
    for rule in &native {
        if targets.iter().any(|(_, known)| known.bucket == rule.bucket) {
            continue;
        }
        let endpoint = args.target_endpoint.as_ref().or(args.source_endpoint.as_ref());
        let region = match located(&clients, &rule.bucket, endpoint).await {
            Ok(region) => Some(region),
            Err(fault) => {
                let bucket = &rule.bucket;
                complain(format_args!("repl: the region of destination {bucket:?} is to be filled in: {fault}"));
                None
            }
        };
        let place =
            Place { bucket: rule.bucket.clone(), region, endpoint: endpoint.cloned(), owner: rule.account.clone() };
        targets.push((name(&targets), place));
    }
    let named = |bucket: &str| {
        let known = targets.iter().find(|(_, place)| place.bucket == bucket);
        known.map(|(name, _)| name.clone()).unwrap_or_default()
    };
    let rules = native::translate(&native, named);
    for rule in &rules {
        for note in &rule.notes {
            complain(format_args!("repl: rule {:?}: {note}", rule.id));
        }
    }
    let source =
        Place { bucket: bucket.to_owned(), region: Some(region), endpoint: args.source_endpoint.clone(), owner: None };
    let sla = native.iter().filter(|rule| rule.enabled).filter_map(|rule| rule.time_control).min();
    Ok(Draft { source, queue: args.queue.clone(), targets, rules, sla })
}

fn name(targets: &[(String, Place)]) -> String {
    if targets.is_empty() { "dr".to_owned() } else { format!("dr{}", targets.len() + 1) }
}

fn unread(bucket: &str, fault: &Fault) -> Failure {
    let region = region_told(fault).map(|region| format!("say --source-region {region}"));
    let remedy = region.or_else(|| credentials(fault, "the source")).unwrap_or_else(|| match fault.code.as_deref() {
        Some("NoSuchBucket") => "name a bucket that exists with --from-bucket".to_owned(),
        _ if fault.kind == FaultKind::Transient => {
            "see that the store can be reached from this machine, then try again".to_owned()
        }
        _ => format!(
            "it needs s3:GetReplicationConfiguration and s3:GetBucketLocation on arn:aws:s3:::{bucket}, in the policy of \
             whoever runs this"
        ),
    });
    Failure::stopped(format!("the replication of bucket {bucket:?} could not be read: {fault}; {remedy}"))
}

async fn located(clients: &Clients, bucket: &str, endpoint: Option<&String>) -> Result<String, Fault> {
    let store = store(clients, bucket, ANYWHERE, endpoint).await?;
    match store.location().await {
        Ok(region) => Ok(region),
        // The destination's account may let us look at the bucket and not ask for its place.
        Err(fault) => match store.sight().await {
            Ok(seen) => seen.region.ok_or(fault),
            Err(moved) => region_told(&moved).map(ToOwned::to_owned).ok_or(fault),
        },
    }
}

async fn store(clients: &Clients, bucket: &str, region: &str, at: Option<&String>) -> Result<S3Bucket, Fault> {
    let connection = Connection {
        region: region.to_owned(),
        endpoint: at.cloned(),
        path_style: at.is_some(),
        ..Connection::default()
    };
    let place = endpoint(&connection, Side::Source, HotPath::Sdk);
    Ok(S3Bucket::new(&clients.sdk_config(&place).await?, &place, bucket))
}
