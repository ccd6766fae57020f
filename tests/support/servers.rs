//! The servers that stand in for AWS: each is started once per test binary, by deploy/local/cloud.py, and ends with it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use aws_credential_types::Credentials;
use aws_smithy_types::retry::RetryConfig;
use serde::Deserialize;

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Server {
    /// Every AWS service that `repl` talks to, in every region.
    Ministack,
    /// A fast S3 that checks signatures.
    Seaweedfs,
    /// ministack that checks signatures and policies; the credentials given are its unchecked root.
    MinistackAuth,
}

impl Server {
    fn flag(self) -> &'static str {
        match self {
            Self::Ministack => "--ministack",
            Self::Seaweedfs => "--seaweedfs",
            Self::MinistackAuth => "--ministack-auth",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ministack => "ministack",
            Self::Seaweedfs => "seaweedfs",
            Self::MinistackAuth => "ministack_auth",
        }
    }

    /// Where this server is and with what to sign; the first call of a test binary starts it.
    pub(crate) fn access(self) -> &'static Access {
        static MINISTACK: OnceLock<Cloud> = OnceLock::new();
        static SEAWEEDFS: OnceLock<Cloud> = OnceLock::new();
        static MINISTACK_AUTH: OnceLock<Cloud> = OnceLock::new();
        let cloud = match self {
            Self::Ministack => &MINISTACK,
            Self::Seaweedfs => &SEAWEEDFS,
            Self::MinistackAuth => &MINISTACK_AUTH,
        };
        &cloud.get_or_init(|| Cloud::start(self)).access
    }
}

/// Where a server is and with what to sign.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Access {
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

impl Access {
    /// The same server and credentials by another way, such as a proxy.
    pub(crate) fn through(&self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self.clone() }
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(&self.access_key_id, &self.secret_access_key, None, None, "tests")
    }

    fn settings(&self, region: &str) -> aws_config::SdkConfig {
        aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_owned()))
            .endpoint_url(&self.endpoint)
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(self.credentials()))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .build()
    }

    /// S3, with bucket names in the path.
    pub(crate) fn s3(&self, region: &str) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.settings(region)).force_path_style(true).build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// SQS.
    pub(crate) fn sqs(&self, region: &str) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.settings(region))
    }

    /// KMS.
    pub(crate) fn kms(&self, region: &str) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.settings(region))
    }

    /// CloudWatch.
    pub(crate) fn cloudwatch(&self, region: &str) -> aws_sdk_cloudwatch::Client {
        aws_sdk_cloudwatch::Client::new(&self.settings(region))
    }

    /// EventBridge.
    pub(crate) fn events(&self, region: &str) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.settings(region))
    }

    /// IAM, which is of no region.
    pub(crate) fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.settings("us-east-1"))
    }

    /// SNS.
    pub(crate) fn sns(&self, region: &str) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::new(&self.settings(region))
    }
}

/// A running supervisor with one server. It ends when its standard input is closed: when this is dropped, or when the
/// test's process ends, however it ends.
struct Cloud {
    access: Access,
    supervisor: Child,
    input: Option<ChildStdin>,
}

impl Cloud {
    fn start(server: Server) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/cloud.py");
        let mut supervisor = Command::new("python3")
            .arg(script)
            .arg(server.flag())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for the local servers: install Python 3.10 or newer");
        let input = supervisor.stdin.take();
        let mut line = String::new();
        let output = supervisor.stdout.take().expect("a piped stdout");
        BufReader::new(output).read_line(&mut line).expect("the supervisor's line");
        assert!(!line.is_empty(), "{} did not start: deploy/local/cloud.py says why above", server.name());
        let mut told: std::collections::HashMap<String, Access> =
            serde_json::from_str(&line).expect("one JSON object with endpoints");
        let access = told.remove(server.name()).expect("the server asked for");
        Self { access, supervisor, input }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.supervisor.wait());
    }
}
