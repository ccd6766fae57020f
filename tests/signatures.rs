//! Servers that check signatures check those of both clients: with a role's keys and session token, over odd keys and
//! every verb of the hot path; and a wrong secret is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use repl::aws::s3::S3Bucket;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::fault::{FaultKind, Side};
use repl::model::object::{Attributes, Found, Key, Tags};
use repl::ports::{Condition, Fetched, ListFrom, NewObject, ObjectStore, Payload, Pick, Read, Sealing, UploadRef};
use support::servers::{Access, Server};

const ODD: [&str; 7] = [
    "plain/key.txt",
    "sp ace & amp=ersand#hash+plus",
    "a+b c%2F?é%25",
    "日本語/ключ",
    "tilde~star*colon:comma,@$!'()[]{}|^`",
    "quote\"<xml>'",
    "x=1&y=2;z",
];

/// One call of IAM's or STS's query API as the server's root, whose signature it does not check.
fn ask(access: &Access, service: &str, query: &[(&str, &str)]) -> String {
    let form: Vec<String> = query
        .iter()
        .map(|(name, value)| {
            format!("{name}={}", percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC))
        })
        .collect();
    let (form, host) = (form.join("&"), access.endpoint.trim_start_matches("http://"));
    let id = &access.access_key_id;
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         X-Amz-Date: 20261121T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential={id}/20261121/us-east-1/{service}/\
         aws4_request, SignedHeaders=host;x-amz-date, Signature=00\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn told<'a>(xml: &'a str, element: &str) -> &'a str {
    xml.split(&format!("<{element}>")).nth(1).unwrap().split('<').next().unwrap()
}

/// Keys with a session token of a role that may do all with S3.
fn session(access: &Access) -> Credentials {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
    let may = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
    let role = format!("signer-{}", std::process::id());
    ask(access, "iam", &[("Action", "CreateRole"), ("RoleName", &role), ("AssumeRolePolicyDocument", trust)]);
    let policy = [("Action", "PutRolePolicy"), ("RoleName", &role), ("PolicyName", "s3"), ("PolicyDocument", may)];
    ask(access, "iam", &policy);
    let arn = format!("arn:aws:iam::000000000000:role/{role}");
    let keys = ask(access, "sts", &[("Action", "AssumeRole"), ("RoleArn", &arn), ("RoleSessionName", "s")]);
    let [id, secret, token] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|element| told(&keys, element));
    Credentials::new(id, secret, Some(token.to_owned()), None, "test")
}

async fn bucket(access: &Access, client: HotPath, keys: Credentials, name: &str) -> S3Bucket {
    let endpoint = Endpoint {
        endpoint: Some(access.endpoint.clone()),
        path_style: true,
        client,
        ..Endpoint::in_region("us-east-1", Side::Target)
    };
    let config = Clients::new().sdk_config(&endpoint).await.unwrap();
    let config = config.to_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
    S3Bucket::new(&config, &endpoint, name)
}

fn object(key: &str) -> NewObject {
    let mut attributes =
        Attributes { content_type: Some("text/plain;  charset=utf-8".to_owned()), ..Attributes::default() };
    attributes.metadata.insert("spaced".to_owned(), "two  in  between".to_owned());
    NewObject {
        key: Key::new(key),
        attributes,
        tags: Tags::from([("k ey+1".to_owned(), "v=al&ue/é".to_owned())]),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    }
}

/// All verbs of the hot path over one key.
async fn all_verbs(bucket: &S3Bucket, key: &str) {
    let whole = |text: &str| Payload::Whole(Bytes::copy_from_slice(text.as_bytes()));
    let new = object(key);
    let written = bucket.put(&new, whole(key), None, &Condition::Absent).await.unwrap_or_else(|f| panic!("{key}: {f}"));
    let Found::Object(head) = bucket.head(&new.key, &Pick::Current).await.unwrap() else { panic!("{key}") };
    assert_eq!((head.etag, head.size), (written.etag.clone(), key.len() as u64), "{key}");
    let read = Read { pick: Pick::Current, range: Some((1, 3)), if_match: Some(written.etag) };
    let Fetched::Object(mut got) = bucket.get(&new.key, read).await.unwrap() else { panic!("{key}") };
    assert_eq!(got.body.next().await.unwrap().unwrap(), key.as_bytes()[1..4], "{key}");
    let open = bucket.create_upload(&new, None).await.unwrap();
    let upload = UploadRef { key: &new.key, id: &open.id };
    bucket.upload_part(upload, 1, whole("part"), None).await.unwrap_or_else(|f| panic!("{key}: {f}"));
    bucket.abort_upload(upload).await.unwrap();
    let page = bucket.list_objects(key, &ListFrom::Start, Some(7)).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), [key]);
}

#[tokio::test]
async fn signatures_over_odd_keys_are_accepted_and_wrong_secrets_are_not() {
    for server in [Server::Seaweedfs, Server::MinistackAuth] {
        let access = server.access();
        let root = Credentials::new(&access.access_key_id, &access.secret_access_key, None, None, "test");
        // SeaweedFS knows no roles.
        let keys = if server == Server::MinistackAuth { session(access) } else { root };
        for client in [HotPath::Lean, HotPath::Sdk] {
            let name = format!("signed-{}-{client:?}", std::process::id()).to_lowercase();
            access.s3("us-east-1").create_bucket().bucket(&name).send().await.unwrap();
            let signed = bucket(access, client, keys.clone(), &name).await;
            for key in ODD {
                all_verbs(&signed, key).await;
            }
            let token = keys.session_token().map(str::to_owned);
            let wrong = Credentials::new(keys.access_key_id(), "another secret", token, None, "test");
            let refused = bucket(access, client, wrong, &name).await;
            let fault = refused.list_objects("", &ListFrom::Start, None).await.unwrap_err();
            assert_eq!(
                (fault.kind, fault.code.as_deref()),
                (FaultKind::Denied, Some("SignatureDoesNotMatch")),
                "{fault}"
            );
        }
    }
}
