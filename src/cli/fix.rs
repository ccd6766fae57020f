//! What mends a failed probe: the very IAM statement, or the very setting.

use serde_json::{Value, json};

use super::check::Finding;
use crate::config::Connection;
use crate::model::fault::{Fault, FaultKind};

/// A bucket and where the config speaks of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// `[source]` or `[targets.dr]`.
    pub(super) section: &'a str,
    pub(super) bucket: &'a str,
    pub(super) connection: &'a Connection,
}

impl Place<'_> {
    /// The bucket's ARN.
    pub(super) fn arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.connection.partition(), self.bucket)
    }

    /// The ARN of all its objects.
    pub(super) fn objects(&self) -> String {
        format!("{}/*", self.arn())
    }

    /// The ARN of what `repl` itself keeps there.
    pub(super) fn own(&self) -> String {
        format!("{}/.repl/*", self.arn())
    }

    /// Fails for this fault; `actions` on `resource` are what the request needed.
    pub(super) fn failed(&self, fault: &Fault, actions: &[&str], resource: &str) -> Finding {
        Finding::fail(fault.to_string(), self.mend(fault, actions, resource))
    }

    fn mend(&self, fault: &Fault, actions: &[&str], resource: &str) -> String {
        if let Some(fix) = self.setting(fault) {
            return fix;
        }
        match fault.kind {
            FaultKind::Denied => {
                grant(&statement(actions, resource), "the bucket's policy, with the role as Principal")
            }
            FaultKind::KeyUnusable => format!(
                "enable the KMS key, and {}",
                grant(
                    &self.key_statement(&["kms:GenerateDataKey", "kms:Decrypt"], "the key's ARN"),
                    "the key's policy"
                )
            ),
            FaultKind::Throttled | FaultKind::Raced => "check again when there is less going on".to_owned(),
            FaultKind::Transient => format!(
                "see that {} can be reached from this machine (name, port, firewall, proxy), then check again",
                self.connection.endpoint.as_deref().unwrap_or("the AWS endpoint of that region")
            ),
            FaultKind::Gone
            | FaultKind::Archived
            | FaultKind::Ineligible
            | FaultKind::Foreign
            | FaultKind::Corrupt
            | FaultKind::Refused
            | FaultKind::Ledger => format!("correct what the answer names, or {} in the config", self.section),
        }
    }

    /// What in the config or on this machine mends it, where something does.
    fn setting(&self, fault: &Fault) -> Option<String> {
        let code = fault.code.as_deref().unwrap_or_default();
        if let Some(region) = region_told(fault) {
            return Some(format!("set region = {region:?} under {} in the config", self.section));
        }
        let Self { section, bucket, .. } = self;
        match code {
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                Some(format!("bucket {bucket:?} is in another region: correct region under {section} in the config"))
            }
            "NoSuchBucket" => Some(no_bucket(bucket, section)),
            "NotFound" | "" if fault.during == "look at bucket" && fault.status == Some(404) => {
                Some(no_bucket(bucket, section))
            }
            _ => credentials(fault, section),
        }
    }

    /// The statement for a KMS key that S3 uses in our name, Bucket Key or not.
    pub(super) fn key_statement(&self, actions: &[&str], key: &str) -> Value {
        let mut statement = statement(actions, key);
        if self.connection.endpoint.is_none()
            && let Some(fields) = statement.as_object_mut()
        {
            let via = format!("s3.{}.amazonaws.com", self.connection.region);
            fields.insert(
                "Condition".to_owned(),
                json!({
                    "StringEquals": {"kms:ViaService": via},
                    "StringLike": {"kms:EncryptionContext:aws:s3:arn": [self.arn(), self.objects()]},
                }),
            );
        }
        statement
    }
}

fn no_bucket(bucket: &str, section: &str) -> String {
    format!("create bucket {bucket:?}, or correct bucket under {section} in the config")
}

/// The region that S3 names where a bucket is not in the one that was asked.
pub(super) fn region_told(fault: &Fault) -> Option<&str> {
    fault.detail.split("lives in region ").nth(1).map(|region| region.trim_end_matches(')'))
}

/// What mends credentials or the clock, where the fault is one of theirs.
pub(super) fn credentials(fault: &Fault, section: &str) -> Option<String> {
    match fault.code.as_deref().unwrap_or_default() {
        "RequestTimeTooSkewed" => Some(
            "set the clock of this machine (timedatectl set-ntp true): S3 refuses what is signed more than 15 minutes off"
                .to_owned(),
        ),
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "InvalidSecurity"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "IncompleteSignature"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken" => Some(format!(
            "give valid credentials for {section}: in the environment, as its profile, its role_arn, or the instance's role"
        )),
        _ if fault.detail.starts_with("no usable credentials") => Some(format!(
            "give credentials for {section}: in the environment, as its profile, its role_arn, or the instance's role"
        )),
        _ => None,
    }
}

/// One IAM statement.
pub(super) fn statement(actions: &[&str], resource: &str) -> Value {
    let action = match actions {
        [only] => json!(only),
        several => json!(several),
    };
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

/// How to grant it; `across` is where else it must stand when the accounts differ.
pub(super) fn grant(statement: &Value, across: &str) -> String {
    format!("add to the policy of the worker's role, and across accounts to {across} too: {statement}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fault::Side;

    fn place(connection: &Connection) -> Place<'_> {
        Place { section: "[targets.dr]", bucket: "acme-dr", connection }
    }

    fn fault(kind: FaultKind, code: &'static str) -> Fault {
        let fault = Fault::new(kind, Side::Target, "write object", "as it says");
        Fault { code: Some(code.into()), ..fault }
    }

    #[test]
    fn a_denial_is_mended_by_the_very_statement() {
        let connection = Connection { region: "cn-north-1".to_owned(), ..Connection::default() };
        let place = place(&connection);
        let denied = fault(FaultKind::Denied, "AccessDenied");
        let finding = place.failed(&denied, &["s3:PutObject"], &place.objects());
        assert_eq!(finding.reason, "could not write object at the target: AccessDenied: as it says");
        let fix = finding.fix.unwrap();
        assert!(
            fix.ends_with(r#"{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws-cn:s3:::acme-dr/*"}"#),
            "{fix}"
        );
    }

    #[test]
    fn settings_and_credentials_are_told_apart_from_permissions() {
        let connection = Connection { region: "eu-west-2".to_owned(), ..Connection::default() };
        let place = place(&connection);
        let mend = |fault: &Fault| place.failed(fault, &["s3:PutObject"], "r").fix.unwrap();
        let elsewhere = Fault {
            detail: "moved (the bucket lives in region eu-west-1)".to_owned(),
            ..fault(FaultKind::Refused, "PermanentRedirect")
        };
        assert_eq!(mend(&elsewhere), "set region = \"eu-west-1\" under [targets.dr] in the config");
        assert!(mend(&fault(FaultKind::Denied, "RequestTimeTooSkewed")).starts_with("set the clock of this machine"));
        assert!(mend(&fault(FaultKind::Denied, "InvalidAccessKeyId")).starts_with("give valid credentials for"));
        assert!(mend(&fault(FaultKind::Refused, "NoSuchBucket")).starts_with("create bucket \"acme-dr\""));
        let key = place.key_statement(&["kms:Decrypt"], "arn:key");
        assert_eq!(key["Condition"]["StringEquals"]["kms:ViaService"], "s3.eu-west-2.amazonaws.com");
        assert_eq!(
            key["Condition"]["StringLike"]["kms:EncryptionContext:aws:s3:arn"],
            json!(["arn:aws:s3:::acme-dr", "arn:aws:s3:::acme-dr/*"])
        );
    }
}
