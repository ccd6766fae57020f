//! What an operator can do about a fault: one sentence with the statement or setting that is missing.

use super::fix::region_told;
use crate::config::Config;
use crate::ledger::Group;
use crate::model::fault::{FaultKind, Side};
use crate::plan::route::Rule;

/// The S3 actions that each step needs, and whether they are granted on the bucket or on its objects. The steps are
/// those that `aws` names in its faults; a role that lacks one is denied there.
const ACTIONS: [(&str, &[&str], On); 18] = [
    ("read object", &["s3:GetObject", "s3:GetObjectVersion"], On::Objects),
    ("look at object", &["s3:GetObject", "s3:GetObjectVersion"], On::Objects),
    ("look at part", &["s3:GetObject", "s3:GetObjectVersion"], On::Objects),
    ("read object attributes", &["s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"], On::Objects),
    ("read tags", &["s3:GetObjectTagging", "s3:GetObjectVersionTagging"], On::Objects),
    ("read ACL", &["s3:GetObjectAcl", "s3:GetObjectVersionAcl"], On::Objects),
    ("list versions", &["s3:ListBucketVersions"], On::Bucket),
    ("list objects", &["s3:ListBucket"], On::Bucket),
    ("read versioning", &["s3:GetBucketVersioning"], On::Bucket),
    ("write tags", &["s3:PutObjectTagging", "s3:PutObjectVersionTagging"], On::Objects),
    ("write ACL", &["s3:PutObjectAcl", "s3:PutObjectVersionAcl"], On::Objects),
    ("write retention", &["s3:PutObjectRetention"], On::Objects),
    ("write legal hold", &["s3:PutObjectLegalHold"], On::Objects),
    ("delete object", &["s3:DeleteObject"], On::Objects),
    ("abort upload", &["s3:AbortMultipartUpload"], On::Objects),
    ("list parts", &["s3:ListMultipartUploadParts"], On::Objects),
    ("receive messages", &["sqs:ReceiveMessage"], On::Queue),
    ("delete messages", &["sqs:DeleteMessage"], On::Queue),
];
/// What every write of an object may need, by what the object carries.
const WRITE: [&str; 4] = ["s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectRetention", "s3:PutObjectLegalHold"];

/// On what an action is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Bucket,
    Objects,
    Queue,
}

/// What mends the cause of a group.
pub(super) fn remedy(group: &Group, config: &Config) -> String {
    let code = group.fault.code.as_deref().unwrap_or_default();
    let bucket = bucket(group, config);
    match group.kind {
        FaultKind::Denied => denied(group, config, code),
        FaultKind::KeyUnusable => key_unusable(group, config),
        FaultKind::Refused => refused(group, code, &bucket),
        FaultKind::Archived => {
            let key = group.example.as_str();
            format!(
                "restore the object, as with `aws s3api restore-object --bucket {bucket} --key {} --restore-request \
                 Days=7`; it goes on by itself once it can be read",
                shell_quoted(key)
            )
        }
        FaultKind::Ineligible => {
            "it cannot be replicated as it is, for the reason given: write it again at the source without that (SSE-C, \
             too long a key, too much metadata), or drop it here"
                .to_owned()
        }
        FaultKind::Foreign => format!(
            "enable versioning on bucket {:?}, so that an overwrite keeps what is there, or remove what is there; then \
             retry",
            target_bucket(group, config)
        ),
        FaultKind::Corrupt => format!(
            "the bytes did not agree with their checksum twice: read the object in bucket {bucket:?} yourself; write it \
             again if it is damaged there, else retry"
        ),
        FaultKind::Throttled | FaultKind::Transient | FaultKind::Raced | FaultKind::Gone | FaultKind::Ledger => {
            "it may pass by itself: retry".to_owned()
        }
    }
}

fn denied(group: &Group, config: &Config, code: &str) -> String {
    let side = group.side.name();
    match code {
        "RequestTimeTooSkewed" => "set the clock of this machine: it is more than 15 minutes off".to_owned(),
        "AllAccessDisabled" | "AccountProblem" | "NotSignedUp" => {
            format!("the account of the {side} is closed or in arrears: settle it with the provider")
        }
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "InvalidSecurity"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken" => {
            format!("give the worker valid credentials for the {side}: environment, profile, role or instance profile")
        }
        _ if group.fault.detail.starts_with("no usable credentials") => {
            format!("give the worker credentials for the {side}: environment, profile, role_arn or instance profile")
        }
        _ if group.side == Side::Keys => key_statement(group, config),
        _ => statement(group, config),
    }
}

/// The statement that grants what was denied.
fn statement(group: &Group, config: &Config) -> String {
    let bucket = bucket(group, config);
    let known = ACTIONS.iter().find(|(step, _, _)| *step == group.during);
    let (actions, on) = known.map_or((&WRITE as &[&str], On::Objects), |(_, actions, on)| (*actions, *on));
    let partition = match group.side {
        Side::Target => config.target(&group.target).map_or("aws", |target| target.connection.partition()),
        Side::Source | Side::Queue | Side::Keys | Side::Monitoring | Side::Local => {
            config.source.connection.partition()
        }
    };
    let resource = match on {
        On::Bucket => format!("arn:{partition}:s3:::{bucket}"),
        On::Objects => format!("arn:{partition}:s3:::{bucket}/*"),
        On::Queue => "the queue".to_owned(),
    };
    format!(
        "allow the worker {} on {resource}, in its role's policy and, across accounts, in the bucket's policy too",
        actions.join(", ")
    )
}

fn key_unusable(group: &Group, config: &Config) -> String {
    match group.side {
        Side::Source => {
            "enable the KMS key of the source objects and allow the worker kms:Decrypt on it; with Bucket Keys the \
             encryption context is the bucket's ARN"
                .to_owned()
        }
        Side::Target | Side::Keys | Side::Queue | Side::Monitoring | Side::Local => key_statement(group, config),
    }
}

fn key_statement(group: &Group, config: &Config) -> String {
    let keys: Vec<&str> = config.rules.iter().filter(|rule| concerns(group, rule)).flat_map(keys_of).collect();
    let keys = if keys.is_empty() { "the target bucket's default key".to_owned() } else { keys.join(", ") };
    format!(
        "see that {keys} exists in the target's region, is enabled, and allows the worker kms:GenerateDataKey and \
         kms:Decrypt; with Bucket Keys the encryption context is the bucket's ARN"
    )
}

fn concerns(group: &Group, rule: &Rule) -> bool {
    rule.target == group.target && group.rule.as_ref().is_none_or(|id| *id == rule.id)
}

fn keys_of(rule: &Rule) -> impl Iterator<Item = &str> {
    rule.kms_map.values().chain(rule.kms_key.as_ref()).map(String::as_str)
}

fn refused(group: &Group, code: &str, bucket: &str) -> String {
    let section = match group.side {
        Side::Target => format!("[targets.{}]", group.target),
        Side::Source => "[source]".to_owned(),
        Side::Queue => "[queue]".to_owned(),
        Side::Keys | Side::Monitoring | Side::Local => "the config".to_owned(),
    };
    if let Some(region) = region_told(&group.fault) {
        return format!("bucket {bucket:?} is in another region: set region = {region:?} in {section} and restart");
    }
    match code {
        "NoSuchBucket" => format!("create bucket {bucket:?}, or correct bucket in {section} and restart"),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            format!("bucket {bucket:?} is in another region: correct region in {section} and restart")
        }
        "KMS.NotFoundException" => format!("correct the KMS key in the rule of {section}: it does not exist there"),
        _ => format!("the request itself was refused, for the reason given: correct that, or {section}, then retry"),
    }
}

fn bucket(group: &Group, config: &Config) -> String {
    match group.side {
        Side::Target => target_bucket(group, config),
        Side::Source | Side::Queue | Side::Keys | Side::Monitoring | Side::Local => config.source.bucket.clone(),
    }
}

fn target_bucket(group: &Group, config: &Config) -> String {
    config.target(&group.target).map_or_else(|| group.target.to_string(), |target| target.bucket.clone())
}

/// A key as one word of a shell command.
fn shell_quoted(key: &str) -> String {
    format!("'{}'", key.replace('\'', r"'\''"))
}
