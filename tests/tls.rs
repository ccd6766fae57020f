//! Both clients over TLS: a store behind a certificate of an authority that is trusted here, and one that is not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use repl::aws::s3::S3Bucket;
use repl::aws::{Clients, Endpoint, HotPath};
use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::{Attributes, Key, Tags};
use repl::ports::{Condition, Fetched, NewObject, ObjectStore, Payload, Pick, Read, Sealing};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::servers::Server;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// More than one TLS record, and more than one read.
const BYTES: usize = 3 << 20;

/// Puts TLS before a server; its certificate's authority is `tests/support/tls/ca.pem`.
async fn before(server: &str) -> (String, JoinSet<()>) {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("support/tls/server.pem")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("support/tls/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = server.trim_start_matches("http://").to_owned();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            open.spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut outside = TcpStream::connect(server).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut inside, &mut outside).await);
            });
        }
    });
    (endpoint, serving)
}

async fn there_and_back(client: HotPath) -> Result<(), Fault> {
    let access = Server::Seaweedfs.access();
    let name = format!("tls-{}-{client:?}", std::process::id()).to_lowercase();
    access.s3("us-east-1").create_bucket().bucket(&name).send().await.unwrap();
    let (url, _serving) = before(&access.endpoint).await;
    let endpoint =
        Endpoint { endpoint: Some(url), path_style: true, client, ..Endpoint::in_region("us-east-1", Side::Target) };
    let keys = Credentials::new(&access.access_key_id, &access.secret_access_key, None, None, "test");
    let config = Clients::new().sdk_config(&endpoint).await.unwrap();
    let config = config.to_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
    let bucket = S3Bucket::new(&config, &endpoint, name);
    for key in ["a b", "again over the same connection"] {
        let object = NewObject {
            key: Key::new(key),
            attributes: Attributes::default(),
            tags: Tags::new(),
            sealing: Sealing::BucketDefault,
            owner_full_control: false,
        };
        let sent = Bytes::from((0..BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>());
        bucket.put(&object, Payload::Whole(sent.clone()), None, &Condition::Absent).await?;
        let read = Read { pick: Pick::Current, range: None, if_match: None };
        let Fetched::Object(mut got) = bucket.get(&object.key, read).await? else { panic!("{key} is not there") };
        let mut bytes = Vec::new();
        while let Some(piece) = got.body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        assert!(bytes == sent, "{key}");
    }
    Ok(())
}

/// Roots are read once for each process, from where the environment says; a test cannot change its own, so it runs
/// itself again.
fn again(test: &str, roots: &str) {
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .env("SSL_CERT_FILE", format!("{}/tests/support/tls/{roots}", env!("CARGO_MANIFEST_DIR")))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_store_whose_authority_is_trusted_is_used() {
    again("trusted", "ca.pem");
}

#[test]
fn a_store_whose_authority_is_not_trusted_is_not_spoken_to() {
    again("untrusted", "server.pem");
}

#[tokio::test]
#[ignore = "run by the test above, with the authority trusted"]
async fn trusted() {
    for client in [HotPath::Lean, HotPath::Sdk] {
        there_and_back(client).await.unwrap_or_else(|fault| panic!("{client:?}: {fault}"));
    }
}

#[tokio::test]
#[ignore = "run by the test above, with another authority trusted"]
async fn untrusted() {
    for client in [HotPath::Lean, HotPath::Sdk] {
        let fault = there_and_back(client).await.unwrap_err();
        assert_eq!((fault.kind, fault.status), (FaultKind::Transient, None), "{fault}");
        assert!(fault.detail.contains("certificate"), "{fault}");
    }
}
